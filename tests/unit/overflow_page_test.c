/*
 * overflow_page_test.c - large values: the format document's bytes, and how values are cut.
 */
#include "daemon/format/overflow_page.h"

#include "common/prng.h"
#include "tests/unit/hex.h"

TEST(the_last_overflow_page_of_the_example_store_reads_and_builds)
{
	uint8_t *page = hex_bytes("17 48 6d 7a 12 1f de 96 03 28 07", 4096), *built = malloc(4096);
	struct eloq_overflow_view view;

	memset(page + 11, 'B', 1832);
	ck_assert(eloq_page_verify(page, 4096));
	ck_assert(eloq_page_check(page, 4096));
	eloq_overflow_page_decode(page, 4096, &view);
	ck_assert_uint_eq(view.value_bytes, 1832);
	ck_assert_uint_eq(view.pointer_count, 0);
	ck_assert_ptr_eq(view.value, page + 11);

	memset(built, 0xa5, 4096);
	eloq_overflow_page_encode(built, 4096, page + 11, 1832, NULL, 0);
	eloq_page_seal(built, 4096);
	ck_assert_mem_eq(built, page, 4096);
	free(built);
	free(page);
}

TEST(a_linked_page_ends_with_its_pointers_and_their_count)
{
	static const uint8_t end[] = { 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 2,
				       0,    0,	   0,	 3,    0,    0,	   0,	 2 };
	const uint32_t pointers[] = { 2, 3 };
	uint8_t *page = malloc(4096), value[4076];
	struct eloq_overflow_view view;

	memset(value, 'v', sizeof(value));
	eloq_overflow_page_encode(page, 4096, value, sizeof(value), pointers, 2);
	ck_assert_uint_eq(page[9], 0xec);
	ck_assert_uint_eq(page[10], 0x0f);
	ck_assert_mem_eq(page + 4096 - sizeof(end), end, sizeof(end));
	ck_assert(eloq_page_check(page, 4096));
	eloq_overflow_page_decode(page, 4096, &view);
	ck_assert_uint_eq(view.value_bytes, sizeof(value));
	ck_assert_mem_eq(view.value, value, sizeof(value));
	ck_assert_uint_eq(view.pointer_count, 2);
	ck_assert_uint_eq(eloq_overflow_pointer(&view, 0), 2);
	ck_assert_uint_eq(eloq_overflow_pointer(&view, 1), 3);
	free(page);
}

TEST(pages_whose_lengths_or_ids_cannot_be_are_refused)
{
	const uint32_t pointers[] = { 2, 3 };
	uint8_t page[4096], value[4076] = { 0 };

	eloq_overflow_page_encode(page, sizeof(page), value, sizeof(value), pointers, 2);
	ck_assert(eloq_overflow_page_check(page, sizeof(page)));
	page[9] += 1; /* one byte into the pointers */
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	page[9] -= 1;
	page[4095] = 3;
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	page[4095] = 2;
	page[4094] = 0x80; /* id above the greatest one */
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	page[4094] = 0;
	page[8] = ELOQ_PAGE_DATA;
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	page[8] = ELOQ_PAGE_OVERFLOW;
	eloq_put_u16(page + 9, 0); /* a chain of empty pages would never end */
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	eloq_put_u16(page + 9, 1);
	memset(page + 12, 0, sizeof(page) - 12);
	page[4095] = ELOQ_OVERFLOW_POINTERS_MAX;
	ck_assert(eloq_overflow_page_check(page, sizeof(page)));
	page[4095] = ELOQ_OVERFLOW_POINTERS_MAX + 1;
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
	eloq_put_u16(page + 9, UINT16_MAX);
	ck_assert(!eloq_overflow_page_check(page, sizeof(page)));
}

TEST(the_example_value_of_two_groups_is_cut_as_the_format_says)
{
	static const struct {
		uint32_t bytes;
		bool linked;
	} expected[] = { { 4084, false }, { 4076, true }, { 4084, false }, { 92, false } };
	struct eloq_overflow_plan plan;
	bool linked;

	eloq_overflow_plan_init(&plan, 12336, 4096, 2);
	for (uint32_t group = 0; group < 2; group++) {
		ck_assert_uint_eq(eloq_overflow_plan_group(&plan), 2);
		for (uint32_t i = 2 * group; i < 2 * group + 2; i++) {
			ck_assert_uint_eq(eloq_overflow_plan_page(&plan, &linked),
					  expected[i].bytes);
			ck_assert_int_eq(linked, expected[i].linked);
		}
	}
	ck_assert_uint_eq(eloq_overflow_plan_group(&plan), 0);
	ck_assert_uint_eq(eloq_overflow_pages(12336, 4096, 2), 4);
}

TEST(capacities_are_those_of_the_format)
{
	ck_assert_uint_eq(eloq_overflow_capacity(4096), 4084);
	ck_assert_uint_eq(eloq_overflow_capacity_linked(4096, 16), 4020);
	ck_assert_uint_eq(eloq_overflow_pages(0, 4096, 16), 0);
	ck_assert_uint_eq(eloq_overflow_pages(1, 4096, 16), 1);
	ck_assert_uint_eq(eloq_overflow_pages(10000, 4096, 16), 3);
	/* A full group may end the value; one byte more starts another one. */
	ck_assert_uint_eq(eloq_overflow_pages(16 * 4084, 4096, 16), 16);
	ck_assert_uint_eq(eloq_overflow_pages(16 * 4084 + 1, 4096, 16), 17);
}

/* Writes the plan's pages into memory and follows them back as a reader does. */
static void assert_value_survives(struct eloq_prng *prng, uint32_t value_bytes, uint32_t page_bytes,
				  uint32_t pointers_max)
{
	uint64_t pages_max = eloq_overflow_pages(value_bytes, page_bytes, pointers_max);
	uint32_t group, written = 0, offset = 0, held = UINT32_MAX, held_bytes = 0, list_count = 0;
	uint32_t list[ELOQ_OVERFLOW_POINTERS_MAX];
	uint8_t *pages = malloc(pages_max * page_bytes), *value = malloc(value_bytes);
	struct eloq_overflow_plan plan;
	bool linked = false;

	for (uint32_t i = 0; i < value_bytes; i++)
		value[i] = (uint8_t)eloq_prng_next(prng);
	eloq_overflow_plan_init(&plan, value_bytes, page_bytes, pointers_max);
	while ((group = eloq_overflow_plan_group(&plan)) > 0) {
		uint32_t ids[ELOQ_OVERFLOW_POINTERS_MAX];

		ck_assert_uint_le(group, pointers_max);
		for (uint32_t i = 0; i < group; i++)
			ids[i] = written + i;
		if (held == UINT32_MAX) {
			memcpy(list, ids, sizeof(list));
			list_count = group;
		} else {
			eloq_overflow_page_encode(pages + (size_t)held * page_bytes, page_bytes,
						  value + offset - held_bytes, held_bytes, ids,
						  group);
		}
		for (uint32_t i = 0; i < group; i++, written++) {
			uint32_t bytes = eloq_overflow_plan_page(&plan, &linked);

			ck_assert_int_eq(linked && i != group - 1, false);
			ck_assert_uint_lt(written, pages_max);
			if (linked) {
				held = written;
				held_bytes = bytes;
			} else {
				eloq_overflow_page_encode(pages + (size_t)written * page_bytes,
							  page_bytes, value + offset, bytes, NULL,
							  0);
			}
			offset += bytes;
		}
	}
	ck_assert_uint_eq(written, pages_max);
	ck_assert_uint_eq(offset, value_bytes);

	for (offset = 0; list_count > 0;) {
		struct eloq_overflow_view view = { 0 };

		for (uint32_t i = 0; i < list_count; i++) {
			const uint8_t *page = pages + (size_t)list[i] * page_bytes;

			ck_assert(eloq_overflow_page_check(page, page_bytes));
			eloq_overflow_page_decode(page, page_bytes, &view);
			ck_assert_uint_le(view.value_bytes, value_bytes - offset);
			ck_assert_mem_eq(view.value, value + offset, view.value_bytes);
			offset += view.value_bytes;
		}
		list_count = view.pointer_count;
		for (uint32_t i = 0; i < list_count; i++)
			list[i] = eloq_overflow_pointer(&view, i);
	}
	ck_assert_uint_eq(offset, value_bytes);
	free(value);
	free(pages);
}

TEST(values_of_any_length_come_back_from_their_pages)
{
	static const uint32_t sizes[] = { 4096, 8192, 16384, 61440 };
	static const uint32_t pointers[] = { 1, 2, 16, 128 };
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (uint32_t round = 0; round < 16; round++) {
		uint32_t page_bytes = sizes[round % 4], pointers_max = pointers[round / 4];
		uint32_t page = eloq_overflow_capacity(page_bytes);
		uint32_t group = page * pointers_max;

		assert_value_survives(&prng, 1, page_bytes, pointers_max);
		for (uint32_t d = 0; d < 3; d++) {
			assert_value_survives(&prng, page - 1 + d, page_bytes, pointers_max);
			if (group < 1 << 20)
				assert_value_survives(&prng, group - 1 + d, page_bytes,
						      pointers_max);
		}
		for (uint32_t i = 0; i < 4; i++)
			assert_value_survives(
				&prng, 1 + (uint32_t)eloq_prng_below(&prng, 5 * page * (2 + i)),
				page_bytes, pointers_max);
	}
}
