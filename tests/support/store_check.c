/*
 * store_check.c - see store_check.h.
 */
#include "tests/support/store_check.h"

#include "common/checksum.h"
#include "daemon/format/data_page.h"
#include "daemon/format/file_name.h"
#include "daemon/format/index_page.h"
#include "daemon/format/manifest_record.h"
#include "daemon/format/overflow_page.h"
#include "tests/support/test.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHECK_FILES_MAX = 4096, CHECK_PATH_BYTES = 512 };

struct checker {
	struct store_check *found;
	const char *dir;
	uint64_t *map; /* file page by page id; ELOQ_FILE_PAGE_NONE: free */
	bool *reached;
	uint32_t page_ids;
	uint32_t root, ttl_root;
	uint64_t file_page_next;
	bool named[CHECK_FILES_MAX]; /* data files in the term map */
	int fds[CHECK_FILES_MAX];
	/* The tree being walked. */
	bool is_ttl;
	unsigned leaf_depth;
	uint32_t last_leaf;
	uint32_t last_next;
	uint64_t expiries; /* sum of hashes of (expiry, key): main tree minus TTL tree */
};

/* A bound of keys; bytes NULL: none. */
struct check_bound {
	const uint8_t *bytes;
	uint32_t count;
};

#define check_that(checker, condition, ...)                                 \
	do {                                                                \
		if (!(condition)) {                                         \
			fprintf(stderr, "%s: ", (checker)->dir);            \
			fprintf(stderr, __VA_ARGS__);                       \
			ck_abort_msg("%s: %s", (checker)->dir, #condition); \
		}                                                           \
	} while (0)

/* --- Manifest --------------------------------------------------------------------------------- */

static uint8_t *check_read_manifest(const char *dir, size_t *ret_bytes)
{
	char path[CHECK_PATH_BYTES];
	struct stat st;
	uint8_t *bytes;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/manifest_0", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	ck_assert_int_eq(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	ck_assert_int_eq(read(fd, bytes, (size_t)st.st_size), st.st_size);
	(void)close(fd);
	*ret_bytes = (size_t)st.st_size;
	return bytes;
}

static void check_set(struct checker *checker, uint32_t page_id, uint64_t value)
{
	if (page_id >= checker->page_ids) {
		checker->map = realloc(checker->map, (page_id + 1) * sizeof(*checker->map));
		for (uint32_t i = checker->page_ids; i <= page_id; i++)
			checker->map[i] = ELOQ_FILE_PAGE_NONE;
		checker->page_ids = page_id + 1;
	}
	checker->map[page_id] =
		eloq_mapping_is_live(value) ? eloq_mapping_file_page(value) : ELOQ_FILE_PAGE_NONE;
}

static void check_terms(struct checker *checker, struct eloq_manifest_piece terms)
{
	uint64_t file_id, term;
	int r;

	while ((r = eloq_manifest_next_term(&terms, &file_id, &term)) > 0) {
		check_that(checker, term == 0, "term %" PRIu64 "\n", term);
		if (file_id == ELOQ_TERM_MAP_MANIFEST)
			continue;
		check_that(checker, file_id < CHECK_FILES_MAX, "file %" PRIu64 "\n", file_id);
		checker->named[file_id] = true;
	}
	ck_assert_int_eq(r, 0);
}

static void check_snapshot(struct checker *checker, const uint8_t *payload, uint32_t bytes)
{
	struct eloq_manifest_snapshot snapshot;
	uint32_t page_id = 0;
	uint64_t value;
	int r;

	ck_assert_int_eq(eloq_manifest_snapshot_decode(payload, bytes, &snapshot), 0);
	checker->file_page_next = snapshot.file_page_next;
	while ((r = eloq_manifest_next_mapping(&snapshot.mapping, &value)) > 0)
		check_set(checker, page_id++, value);
	ck_assert_int_eq(r, 0);
	check_terms(checker, snapshot.terms);
}

static void check_log(struct checker *checker, const uint8_t *payload, uint32_t bytes)
{
	struct eloq_manifest_log log;
	uint32_t page_id;
	uint64_t value;
	int r;

	ck_assert_int_eq(eloq_manifest_log_decode(payload, bytes, &log), 0);
	while ((r = eloq_manifest_next_update(&log.updates, &page_id, &value)) > 0) {
		check_set(checker, page_id, value);
		if (eloq_mapping_is_live(value))
			checker->file_page_next = eloq_max_u64(checker->file_page_next,
							       eloq_mapping_file_page(value) + 1);
	}
	ck_assert_int_eq(r, 0);
	check_terms(checker, log.terms);
}

/* After a clean stop every record is whole and the file ends with the last one. */
static void check_manifest(struct checker *checker, const uint8_t *bytes, size_t count)
{
	struct eloq_manifest_header header;
	size_t at = 0;

	while (at < count) {
		check_that(checker, count - at >= ELOQ_MANIFEST_HEADER_BYTES, "offset %zu\n", at);
		check_that(checker, eloq_manifest_record_verify(bytes + at, count - at),
			   "record at %zu\n", at);
		eloq_manifest_header_decode(bytes + at, &header);
		checker->root = header.root;
		checker->ttl_root = header.ttl_root;
		if (at == 0)
			check_snapshot(checker, bytes + ELOQ_MANIFEST_HEADER_BYTES,
				       header.payload_bytes);
		else
			check_log(checker, bytes + at + ELOQ_MANIFEST_HEADER_BYTES,
				  header.payload_bytes);
		at += eloq_manifest_record_padded(header.payload_bytes);
	}
	ck_assert_uint_eq(at, count);
}

/* --- Pages ------------------------------------------------------------------------------------ */

/* A malloc'ed copy of a page that was not reached before. */
static uint8_t *check_page(struct checker *checker, uint32_t page_id)
{
	uint32_t page_bytes = checker->found->page_bytes;
	uint32_t shift = checker->found->pages_per_file_shift;
	char path[CHECK_PATH_BYTES], name[ELOQ_FILE_NAME_BYTES];
	uint8_t *page = malloc(page_bytes);
	uint64_t file_page_id, file_id;

	check_that(checker, page_id < checker->page_ids, "page %u\n", page_id);
	check_that(checker, !checker->reached[page_id], "page %u\n", page_id);
	checker->reached[page_id] = true;
	file_page_id = checker->map[page_id];
	check_that(checker, file_page_id < checker->file_page_next, "page %u\n", page_id);
	file_id = file_page_id >> shift;
	check_that(checker, file_id < CHECK_FILES_MAX && checker->named[file_id],
		   "file %" PRIu64 "\n", file_id);
	if (checker->fds[file_id] < 0) {
		eloq_file_name_data(name, file_id, 0);
		(void)snprintf(path, sizeof(path), "%s/%s", checker->dir, name);
		checker->fds[file_id] = open(path, O_RDONLY | O_CLOEXEC);
		check_that(checker, checker->fds[file_id] >= 0, "%s\n", path);
	}
	check_that(checker,
		   pread(checker->fds[file_id], page, page_bytes,
			 (off_t)((file_page_id - (file_id << shift)) * page_bytes)) ==
			   (ssize_t)page_bytes,
		   "page %u\n", page_id);
	check_that(checker, eloq_page_verify(page, page_bytes), "page %u\n", page_id);
	check_that(checker, eloq_page_check(page, page_bytes), "page %u\n", page_id);
	return page;
}

static void check_overflow(struct checker *checker, const struct eloq_entry *entry)
{
	uint32_t ids[ELOQ_OVERFLOW_POINTERS_MAX];
	uint32_t count = eloq_entry_pointer_count(entry);
	struct eloq_overflow_view view;

	check_that(checker, count > 0, "an overflow entry without pages\n");
	for (uint32_t i = 0; i < count; i++)
		ids[i] = eloq_entry_pointer(entry, i);
	while (count > 0) {
		uint32_t next = 0;

		for (uint32_t i = 0; i < count; i++) {
			uint8_t *page = check_page(checker, ids[i]);

			check_that(checker, eloq_page_type(page) == ELOQ_PAGE_OVERFLOW, "page %u\n",
				   ids[i]);
			eloq_overflow_page_decode(page, checker->found->page_bytes, &view);
			check_that(checker, view.value_bytes > 0, "page %u\n", ids[i]);
			check_that(checker, view.pointer_count == 0 || i + 1 == count, "page %u\n",
				   ids[i]);
			checker->found->overflow_pages++;
			if (view.pointer_count > 0) {
				next = view.pointer_count;
				for (uint32_t k = 0; k < next; k++)
					ids[k] = eloq_overflow_pointer(&view, k);
			}
			free(page);
			if (next > 0)
				break;
		}
		count = next;
	}
}

/* --- Trees ------------------------------------------------------------------------------------ */

static uint64_t check_expiry_hash(uint64_t expire_ms, const uint8_t *key, uint32_t key_bytes)
{
	uint8_t bytes[ELOQ_KEY_BUFFER_BYTES + ELOQ_TTL_PREFIX_BYTES];

	eloq_put_ttl_prefix(bytes, expire_ms);
	memcpy(bytes + ELOQ_TTL_PREFIX_BYTES, key, key_bytes);
	return eloq_checksum_xxh3(bytes, ELOQ_TTL_PREFIX_BYTES + (size_t)key_bytes);
}

static void check_entry(struct checker *checker, const struct eloq_entry *entry)
{
	if (checker->is_ttl) {
		checker->found->ttl_entries++;
		check_that(checker, entry->value_bytes == 0 && entry->timestamp == 0,
			   "a TTL entry with a value\n");
		checker->expiries -= eloq_checksum_xxh3(entry->key, entry->key_bytes);
		return;
	}
	checker->found->entries++;
	if (entry->expire_ms != 0)
		checker->expiries +=
			check_expiry_hash(entry->expire_ms, entry->key, entry->key_bytes);
	if (entry->flags & ELOQ_ENTRY_OVERFLOW)
		check_overflow(checker, entry);
}

static void check_leaf(struct checker *checker, uint32_t page_id, const uint8_t *page,
		       struct check_bound low, struct check_bound high, unsigned depth)
{
	uint32_t page_bytes = checker->found->page_bytes;
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct eloq_data_iter iter;

	if (checker->leaf_depth == 0)
		checker->leaf_depth = depth;
	check_that(checker, depth == checker->leaf_depth, "leaf %u at depth %u\n", page_id, depth);
	check_that(checker, eloq_data_page_prev(page) == checker->last_leaf, "leaf %u\n", page_id);
	check_that(checker, checker->last_leaf == ELOQ_PAGE_NONE || checker->last_next == page_id,
		   "leaf %u\n", page_id);
	checker->last_leaf = page_id;
	checker->last_next = eloq_data_page_next(page);
	check_that(checker, eloq_data_page_check_order(page, page_bytes, key_buffer), "leaf %u\n",
		   page_id);
	eloq_data_iter_init(&iter, page, page_bytes, key_buffer);
	for (bool ok = eloq_data_iter_first(&iter); ok; ok = eloq_data_iter_next(&iter)) {
		const struct eloq_entry *e = &iter.entry;

		check_that(checker,
			   !low.bytes || eloq_key_compare(e->key, e->key_bytes, low.bytes,
							  low.count) >= 0,
			   "leaf %u: a key below its separator\n", page_id);
		check_that(checker,
			   !high.bytes || eloq_key_compare(e->key, e->key_bytes, high.bytes,
							   high.count) < 0,
			   "leaf %u: a key beyond the next separator\n", page_id);
		check_entry(checker, e);
	}
	checker->found->leaves++;
	checker->found->leaf_bytes += eloq_get_u16(page + ELOQ_PAGE_LENGTH);
	free(key_buffer);
}

static void check_walk(struct checker *checker, uint32_t page_id, struct check_bound low,
		       struct check_bound high, unsigned depth);

static void check_index(struct checker *checker, uint32_t page_id, const uint8_t *page,
			struct check_bound low, struct check_bound high, unsigned depth)
{
	uint32_t page_bytes = checker->found->page_bytes;
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	uint8_t *from = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct check_bound left = low;
	struct eloq_index_iter iter;
	bool more = true;

	check_that(checker, eloq_index_page_check_order(page, page_bytes, key_buffer),
		   "index page %u\n", page_id);
	eloq_index_iter_init(&iter, page, page_bytes, key_buffer);
	(void)eloq_index_iter_first(&iter);
	while (more) {
		uint32_t child = iter.child;
		struct check_bound right = high;

		if (iter.key_bytes > 0) {
			memcpy(from, iter.key, iter.key_bytes);
			left = (struct check_bound){ from, iter.key_bytes };
		}
		more = eloq_index_iter_next(&iter);
		if (more) {
			right = (struct check_bound){ iter.key, iter.key_bytes };
			check_that(checker,
				   !low.bytes || eloq_key_compare(iter.key, iter.key_bytes,
								  low.bytes, low.count) > 0,
				   "index page %u: separator below its own\n", page_id);
			check_that(checker,
				   !high.bytes || eloq_key_compare(iter.key, iter.key_bytes,
								   high.bytes, high.count) < 0,
				   "index page %u: separator beyond the next\n", page_id);
		}
		check_walk(checker, child, left, right, depth + 1);
	}
	checker->found->index_pages++;
	free(from);
	free(key_buffer);
}

static void check_walk(struct checker *checker, uint32_t page_id, struct check_bound low,
		       struct check_bound high, unsigned depth)
{
	uint8_t *page = check_page(checker, page_id);
	uint8_t type = eloq_page_type(page);

	check_that(checker, depth < ELOQ_TREE_DEPTH_MAX, "page %u\n", page_id);
	check_that(checker, depth > 0 || type != ELOQ_PAGE_DATA, "the root is a leaf\n");
	check_that(checker, type != ELOQ_PAGE_OVERFLOW, "page %u\n", page_id);
	if (type == ELOQ_PAGE_DATA)
		check_leaf(checker, page_id, page, low, high, depth);
	else
		check_index(checker, page_id, page, low, high, depth);
	/* Only pages right above the leaves may say that they are. */
	check_that(checker,
		   type == ELOQ_PAGE_DATA ||
			   (type == ELOQ_PAGE_INDEX_LEAF) == (depth + 1 == checker->leaf_depth),
		   "index page %u at depth %u\n", page_id, depth);
	free(page);
}

static void check_tree(struct checker *checker, uint32_t root)
{
	static const struct check_bound none;

	checker->leaf_depth = 0;
	checker->last_leaf = ELOQ_PAGE_NONE;
	checker->last_next = ELOQ_PAGE_NONE;
	if (root == ELOQ_PAGE_NONE)
		return;
	check_walk(checker, root, none, none, 0);
	check_that(checker, checker->last_next == ELOQ_PAGE_NONE, "the last leaf has a next\n");
}

/* Every file page has one owner, and every owner is part of a tree. */
static void check_mapping(struct checker *checker)
{
	bool *used = calloc(checker->file_page_next + 1, sizeof(*used));

	for (uint32_t i = 0; i < checker->page_ids; i++) {
		uint64_t file_page_id = checker->map[i];

		check_that(checker, checker->reached[i] == (file_page_id != ELOQ_FILE_PAGE_NONE),
			   "page %u is mapped and in no tree\n", i);
		if (file_page_id == ELOQ_FILE_PAGE_NONE)
			continue;
		check_that(checker, file_page_id < checker->file_page_next && !used[file_page_id],
			   "page %u shares a file page\n", i);
		used[file_page_id] = true;
	}
	free(used);
}

bool store_check_partition(struct store_check *check, const char *dir)
{
	struct checker *checker = calloc(1, sizeof(*checker));
	size_t bytes = 0;
	uint8_t *manifest = check_read_manifest(dir, &bytes);

	check->entries = check->ttl_entries = check->leaves = check->index_pages = 0;
	check->overflow_pages = check->leaf_bytes = 0;
	checker->found = check;
	checker->dir = dir;
	for (unsigned i = 0; i < CHECK_FILES_MAX; i++)
		checker->fds[i] = -1;
	if (manifest) {
		check_manifest(checker, manifest, bytes);
		checker->reached = calloc(checker->page_ids + 1, sizeof(bool));
		check_tree(checker, checker->root);
		check->depth = checker->leaf_depth;
		check->root = checker->root;
		check->file_page_next = checker->file_page_next;
		checker->is_ttl = true;
		check_tree(checker, checker->ttl_root);
		check_that(checker, checker->expiries == 0, "the TTL tree is another\n");
		check_mapping(checker);
	}
	for (unsigned i = 0; i < CHECK_FILES_MAX; i++)
		if (checker->fds[i] >= 0)
			(void)close(checker->fds[i]);
	free(checker->reached);
	free(checker->map);
	free(checker);
	free(manifest);
	return manifest != NULL;
}
