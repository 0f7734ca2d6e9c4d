/*
 * page_fuzz.c - any bytes as a page: refused by the check, or read within their bounds.
 *
 * The first input byte chooses the page size, the second how many bytes of the rest are the key
 * that is looked for; what remains is the page, with zeroes behind. Checksums are left out: they
 * would only hide the code behind them. What a page that passed yields must fit what the check
 * promises, and walking back must visit as many entries as walking forth.
 */
#include "daemon/format/data_page.h"
#include "daemon/format/index_page.h"
#include "daemon/format/overflow_page.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes);

static uint8_t key_buffer[ELOQ_KEY_BUFFER_BYTES];

static void use_data_page(const uint8_t *page, uint32_t page_bytes, const uint8_t *key,
			  uint32_t key_bytes)
{
	struct eloq_data_iter iter;
	struct eloq_entry found;
	uint32_t entries = 0;
	bool more;

	eloq_data_iter_init(&iter, page, page_bytes, key_buffer);
	for (more = eloq_data_iter_first(&iter); more; more = eloq_data_iter_next(&iter)) {
		eloq_assert(iter.entry.timestamp <= ELOQ_TIMESTAMP_MAX);
		eloq_assert(iter.entry.key_bytes <= ELOQ_KEY_BUFFER_BYTES);
		eloq_assert(iter.entry.value >= page);
		eloq_assert(iter.entry.value + iter.entry.value_bytes <= page + page_bytes);
		entries++;
	}
	eloq_assert(entries > 0);
	for (more = eloq_data_iter_last(&iter); more; more = eloq_data_iter_prev(&iter))
		entries--;
	eloq_assert(entries == 0);
	eloq_data_iter_seek(&iter, key, key_bytes);
	eloq_data_iter_seek_floor(&iter, key, key_bytes);
	if (eloq_data_page_find(page, page_bytes, key, key_bytes, &found))
		eloq_assert(found.key_bytes == key_bytes);
	if (!eloq_data_page_check_order(page, page_bytes, key_buffer))
		return;
	/* In a sorted page everything that the iterator shows is found by its key. */
	for (more = eloq_data_iter_first(&iter); more; more = eloq_data_iter_next(&iter)) {
		more = eloq_data_page_find(page, page_bytes, iter.entry.key, iter.entry.key_bytes,
					   &found);
		eloq_assert(more && found.value == iter.entry.value);
		eloq_assert(found.timestamp == iter.entry.timestamp);
	}
}

static void use_index_page(const uint8_t *page, uint32_t page_bytes, const uint8_t *key,
			   uint32_t key_bytes)
{
	struct eloq_index_iter iter;
	uint32_t entries = 0;
	bool more;

	eloq_index_iter_init(&iter, page, page_bytes, key_buffer);
	for (more = eloq_index_iter_first(&iter); more; more = eloq_index_iter_next(&iter)) {
		eloq_assert(iter.child <= ELOQ_PAGE_ID_MAX);
		entries++;
	}
	for (more = eloq_index_iter_last(&iter); more; more = eloq_index_iter_prev(&iter))
		entries--;
	eloq_assert(entries == 0);
	eloq_index_iter_seek(&iter, key, key_bytes);
	eloq_assert(iter.child == eloq_index_page_find(page, page_bytes, key, key_bytes));
	if (!eloq_index_page_check_order(page, page_bytes, key_buffer))
		return;
	for (more = eloq_index_iter_first(&iter); more; more = eloq_index_iter_next(&iter))
		eloq_assert(iter.child ==
			    eloq_index_page_find(page, page_bytes, iter.key, iter.key_bytes));
}

static void use_overflow_page(const uint8_t *page, uint32_t page_bytes)
{
	struct eloq_overflow_view view;

	eloq_overflow_page_decode(page, page_bytes, &view);
	eloq_assert(view.value_bytes > 0);
	eloq_assert(view.value + view.value_bytes <= view.pointers);
	for (uint32_t i = 0; i < view.pointer_count; i++)
		eloq_assert(eloq_overflow_pointer(&view, i) <= ELOQ_PAGE_ID_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes)
{
	static const uint32_t sizes[] = { 4096, 8192, 16384, 61440 };
	uint32_t page_bytes, key_bytes;
	const uint8_t *key;
	uint8_t *page;

	if (input_bytes < 2)
		return 0;
	page_bytes = sizes[input[0] % ELOQ_ARRAY_SIZE(sizes)];
	key_bytes = (uint32_t)eloq_min_u64(input[1], input_bytes - 2);
	key = input + 2;
	input += 2 + key_bytes;
	input_bytes -= 2 + key_bytes;
	page = calloc(1, page_bytes);
	if (!page)
		return 0;
	memcpy(page, input, eloq_min_u64(input_bytes, page_bytes));
	if (eloq_page_check(page, page_bytes)) {
		switch ((enum eloq_page_type)eloq_page_type(page)) {
		case ELOQ_PAGE_DATA:
			use_data_page(page, page_bytes, key, key_bytes);
			break;
		case ELOQ_PAGE_INDEX_INNER:
		case ELOQ_PAGE_INDEX_LEAF:
			use_index_page(page, page_bytes, key, key_bytes);
			break;
		case ELOQ_PAGE_OVERFLOW:
			use_overflow_page(page, page_bytes);
			break;
		}
	}
	free(page);
	return 0;
}
