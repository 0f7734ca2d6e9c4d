/*
 * reference_store_test.c - a store that the reference implementation wrote, read with nothing but
 * the format.
 *
 * Replays its manifest, goes down to the first leaf and along the links, prints every entry as a
 * line of the store's expected.jsonl and compares, and looks every key up again from the root.
 * tests/golden/reference/README.md says where these files come from.
 */
#include "daemon/format/data_page.h"
#include "daemon/format/file_name.h"
#include "daemon/format/index_page.h"
#include "daemon/format/manifest_record.h"
#include "tests/support/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 4096, PAGES_MAX = 1024, LINE_BYTES = 1024 };

struct reference_store {
	const char *name;
	uint32_t pages_per_file_shift;
	uint64_t mapping[PAGES_MAX];
	uint32_t root, ttl_root;
	uint8_t *key_buffer;
	FILE *expected;
};

static FILE *open_file(const struct reference_store *store, const char *file)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/reference/%s/%s", ELOQ_GOLDEN_DIR, store->name, file);
	f = fopen(path, "rb");
	ck_assert_msg(f, "%s", path);
	return f;
}

static uint8_t *read_at(const struct reference_store *store, const char *file, uint64_t offset,
			size_t bytes_max, size_t *ret_bytes)
{
	uint8_t *bytes = malloc(bytes_max);
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "store/t1.0/%s", file);
	f = open_file(store, path);
	ck_assert_int_eq(fseek(f, (long)offset, SEEK_SET), 0);
	*ret_bytes = fread(bytes, 1, bytes_max, f);
	(void)fclose(f);
	return bytes;
}

static void replay(struct reference_store *store)
{
	struct eloq_manifest_header header = { 0 };
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_log log;
	size_t bytes, at = 0;
	uint8_t *manifest = read_at(store, "manifest_0", 0, 1 << 20, &bytes);
	uint32_t page_id;

	while (at < bytes) {
		const uint8_t *payload = manifest + at + ELOQ_MANIFEST_HEADER_BYTES;

		ck_assert(eloq_manifest_record_verify(manifest + at, bytes - at));
		eloq_manifest_header_decode(manifest + at, &header);
		if (at == 0) {
			ck_assert_int_eq(eloq_manifest_snapshot_decode(
						 payload, header.payload_bytes, &snapshot),
					 0);
			ck_assert_uint_le(eloq_manifest_mapping_count(&snapshot), PAGES_MAX);
			page_id = 0;
			while (eloq_manifest_next_mapping(&snapshot.mapping,
							  &store->mapping[page_id]) > 0)
				page_id++;
		} else {
			uint64_t value;

			ck_assert_int_eq(
				eloq_manifest_log_decode(payload, header.payload_bytes, &log), 0);
			while (eloq_manifest_next_update(&log.updates, &page_id, &value) > 0) {
				ck_assert_uint_lt(page_id, PAGES_MAX);
				store->mapping[page_id] = value;
			}
		}
		at += eloq_manifest_record_padded(header.payload_bytes);
	}
	store->root = header.root;
	store->ttl_root = header.ttl_root;
	free(manifest);
}

static uint8_t *read_page(const struct reference_store *store, uint32_t page_id)
{
	uint64_t file_page, in_file;
	char file[ELOQ_FILE_NAME_BYTES];
	uint8_t *page;
	size_t bytes;

	ck_assert_uint_lt(page_id, PAGES_MAX);
	ck_assert(eloq_mapping_is_live(store->mapping[page_id]));
	file_page = eloq_mapping_file_page(store->mapping[page_id]);
	in_file = file_page & ((UINT64_C(1) << store->pages_per_file_shift) - 1);
	eloq_file_name_data(file, file_page >> store->pages_per_file_shift, 0);
	page = read_at(store, file, in_file * PAGE_BYTES, PAGE_BYTES, &bytes);
	ck_assert_uint_eq(bytes, PAGE_BYTES);
	ck_assert(eloq_page_verify(page, PAGE_BYTES));
	ck_assert(eloq_page_check(page, PAGE_BYTES));
	return page;
}

/* Down from the root; the page id of the leaf that has the key, if any has. */
static uint32_t leaf_for(const struct reference_store *store, const uint8_t *key,
			 uint32_t key_bytes)
{
	uint32_t page_id = store->root;
	bool above_leaves = false;

	while (!above_leaves) {
		uint8_t *page = read_page(store, page_id);

		above_leaves = eloq_index_page_is_leaf(page);
		page_id = eloq_index_page_find(page, PAGE_BYTES, key, key_bytes);
		free(page);
	}
	return page_id;
}

static char *put_hex(char *p, const uint8_t *bytes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		p += sprintf(p, "%02x", bytes[i]);
	return p;
}

static void assert_next_expected(const struct reference_store *store,
				 const struct eloq_entry *entry)
{
	char line[LINE_BYTES], expected[LINE_BYTES];
	char *p = line;

	ck_assert_uint_lt(2 * (entry->key_bytes + entry->value_bytes), LINE_BYTES / 2);
	ck_assert_uint_eq(entry->flags, 0);
	p += sprintf(p, "{\"table\":\"t1\",\"partition\":0,\"key\":\"");
	p = put_hex(p, entry->key, entry->key_bytes);
	p += sprintf(p, "\",\"value\":\"");
	p = put_hex(p, entry->value, entry->value_bytes);
	sprintf(p,
		"\",\"value_len\":%" PRIu32 ",\"timestamp\":%" PRIu64 ",\"expire_ts\":%" PRIu64
		"}\n",
		entry->value_bytes, entry->timestamp, entry->expire_ms);
	ck_assert_ptr_nonnull(fgets(expected, sizeof(expected), store->expected));
	ck_assert_str_eq(line, expected);
}

static void use_leaf(const struct reference_store *store, uint32_t page_id, const uint8_t *page)
{
	struct eloq_data_iter iter;
	struct eloq_entry found;
	bool more;

	ck_assert(eloq_data_page_check_order(page, PAGE_BYTES, store->key_buffer));
	eloq_data_iter_init(&iter, page, PAGE_BYTES, store->key_buffer);
	for (more = eloq_data_iter_first(&iter); more; more = eloq_data_iter_next(&iter)) {
		assert_next_expected(store, &iter.entry);
		ck_assert_uint_eq(leaf_for(store, iter.entry.key, iter.entry.key_bytes), page_id);
		ck_assert(eloq_data_page_find(page, PAGE_BYTES, iter.entry.key,
					      iter.entry.key_bytes, &found));
		ck_assert_ptr_eq(found.value, iter.entry.value);
		ck_assert_uint_eq(found.timestamp, iter.entry.timestamp);
		ck_assert_uint_eq(found.expire_ms, iter.entry.expire_ms);
	}
}

static void assert_store_reads(const char *name, uint32_t pages_per_file_shift)
{
	struct reference_store store = {
		.name = name,
		.pages_per_file_shift = pages_per_file_shift,
	};
	uint32_t page_id, prev = ELOQ_PAGE_NONE;

	store.key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	store.expected = open_file(&store, "expected.jsonl");
	replay(&store);
	ck_assert_uint_eq(store.ttl_root, ELOQ_PAGE_NONE);
	page_id = leaf_for(&store, (const uint8_t *)"", 0);
	while (page_id != ELOQ_PAGE_NONE) {
		uint8_t *page = read_page(&store, page_id);

		ck_assert_uint_eq(eloq_data_page_prev(page), prev);
		use_leaf(&store, page_id, page);
		prev = page_id;
		page_id = eloq_data_page_next(page);
		free(page);
	}
	ck_assert_int_eq(fgetc(store.expected), EOF);
	(void)fclose(store.expected);
	free(store.key_buffer);
}

TEST(an_in_place_store_of_the_reference_has_the_entries_it_should)
{
	assert_store_reads("f01_basic-inplace", 8);
}

TEST(an_append_store_of_the_reference_has_the_entries_it_should)
{
	assert_store_reads("f01_basic-append", 4);
}
