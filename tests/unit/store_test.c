/*
 * store_test.c - the engine as its callers see it, on plain files, with both I/O back-ends.
 */
#include "common/limits.h"
#include "daemon/format/data_page.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/store.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct store_world world;

static void world_path(char *path, size_t path_bytes, uint32_t root, const char *name)
{
	(void)snprintf(path, path_bytes, "%s/%s", world.root_paths[root], name);
}

/* --- The format's worked example -------------------------------------------------------------- */

enum { LONG_VALUE_BYTES = 10000 };

static uint8_t long_value[LONG_VALUE_BYTES];

/* docs/format.md has this store byte for byte, but for an expiry and the TTL tree it brings. */
static void write_example(void *arg)
{
	struct eloq_write_entry entries[] = {
		{ .key = (const uint8_t *)"apple",
		  .key_bytes = 5,
		  .value = (const uint8_t *)"red",
		  .value_bytes = 3,
		  .timestamp = 1000 },
		{ .key = (const uint8_t *)"apply",
		  .key_bytes = 5,
		  .value = (const uint8_t *)"do",
		  .value_bytes = 2,
		  .timestamp = 990 },
		{ .key = (const uint8_t *)"banana",
		  .key_bytes = 6,
		  .value = long_value,
		  .value_bytes = LONG_VALUE_BYTES,
		  .timestamp = 1005 },
	};
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
				    .table_id = 1,
				    .partition = 3,
				    .entries = entries,
				    .entry_count = 3 };

	(void)arg;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), 0);
}

static void read_file(uint32_t root, const char *name, uint8_t *bytes, size_t offset, size_t count,
		      off_t size)
{
	char path[512];
	struct stat st;
	int fd;

	world_path(path, sizeof(path), root, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, size);
	ck_assert_int_eq(pread(fd, bytes, count, (off_t)offset), (ssize_t)count);
	(void)close(fd);
}

static void update_example(void *arg)
{
	(void)arg;
	store_world_put(&world, 1, 3, "apple", "RED", 3, 1001);
}

static void read_example(void *arg)
{
	(void)arg;
	store_world_expect(&world, 1, 3, "apple", "RED", 3);
	store_world_expect(&world, 1, 3, "apply", "do", 2);
	store_world_expect(&world, 1, 3, "banana", long_value, LONG_VALUE_BYTES);
	store_world_expect(&world, 1, 3, "appl", NULL, 0);
	store_world_expect(&world, 1, 3, "cherry", NULL, 0);
}

static void truncate_example(void *arg)
{
	(void)arg;
	store_world_clear(&world, 1, 3, ELOQ_WRITE_TRUNCATE);
	store_world_expect(&world, 1, 3, "apple", NULL, 0);
}

static void example_open_two_disks(void)
{
	memset(long_value, 'B', sizeof(long_value));
	store_world_init(&world);
	world.opts.pages_per_file_shift = 4;
	world.root_paths[1] = test_tmpdir();
	world.root_count = 2;
}

TEST(the_worked_example_has_the_bytes_of_the_format)
{
	/* Pages 0, 1, 2: overflow; 3: leaf; 4: root; as many file pages, and the term map. */
	static const uint8_t payload[] = {
		0x05, 0x00, 0x05, 0x00, 0x00, 0x00, 0x01, 0x09, 0x11, 0x19, 0x21, 0x0d, 0x00, 0x00,
		0x00, 0x00, 0x00, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00,
	};
	static const uint8_t update[] = { 0x02, 0x00, 0x00, 0x00, 0x03, 0x29, 0x0d };
	/* From the entries on; the format's dump has an expiry behind "do". */
	static const uint8_t leaf[] = {
		0x02, 0x42, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
		0x05, 0x30, 'a',  'p',	'p',  'l',  'e',  'r',	'e',  'd',  0xd0, 0x0f,
		0x04, 0x01, 0x20, 'y',	'd',  'o',  0x15, 0x00, 0x06, 0xc1, 0x01, 'b',
		'a',  'n',  'a',  'n',	'a',  0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
		0x00, 0x02, 0x00, 0x00, 0x00, 0x1e, 0x13, 0x00, 0x01, 0x00,
	};
	static const uint8_t overflow[] = { 0x17, 0x48, 0x6d, 0x7a, 0x12, 0x1f,
					    0xde, 0x96, 0x03, 0x28, 0x07, 'B' };
	struct eloq_manifest_header header;
	uint8_t bytes[4096];

	example_open_two_disks();
	store_world_session(&world, write_example, NULL);
	read_file(1, "t.3/manifest_0", bytes, 0, 4096, 4096);
	eloq_manifest_header_decode(bytes, &header);
	ck_assert_uint_eq(header.root, 4);
	ck_assert_uint_eq(header.ttl_root, UINT32_MAX);
	ck_assert_uint_eq(header.payload_bytes, sizeof(payload));
	ck_assert_mem_eq(bytes + ELOQ_MANIFEST_HEADER_BYTES, payload, sizeof(payload));
	read_file(1, "t.3/data_0_0", bytes, (size_t)3 * 4096, 4096, 5 * 4096);
	ck_assert_mem_eq(bytes + ELOQ_PAGE_TYPE, leaf, 3);
	ck_assert_uint_eq(eloq_get_u16(bytes + ELOQ_PAGE_LENGTH), sizeof(leaf) + 8);
	ck_assert_mem_eq(bytes + ELOQ_PAGE_TYPE, leaf, sizeof(leaf));
	read_file(1, "t.3/data_0_0", bytes, (size_t)2 * 4096, 4096, 5 * 4096);
	ck_assert_mem_eq(bytes, overflow, sizeof(overflow));

	store_world_session(&world, update_example, NULL);
	read_file(1, "t.3/manifest_0", bytes, 4096, 4096, 8192);
	eloq_manifest_header_decode(bytes, &header);
	ck_assert_uint_eq(header.payload_bytes, 4 + 2 + 17);
	ck_assert_mem_eq(bytes + ELOQ_MANIFEST_HEADER_BYTES, update, sizeof(update));
	store_world_session(&world, read_example, NULL);
	(void)store_world_check(&world, 1, "t.3", true);
	(void)store_world_check(&world, 0, "t.3", false);

	store_world_session(&world, truncate_example, NULL);
	read_file(1, "t.3/manifest_0", bytes, 0, 4096, 4096);
	eloq_manifest_header_decode(bytes, &header);
	ck_assert_uint_eq(header.root, UINT32_MAX);
	(void)store_world_check(&world, 1, "t.3", true);
}

/* --- Reads ------------------------------------------------------------------------------------ */

struct scan_case {
	const char *begin, *end;
	int exclusive;
	unsigned max;
	unsigned stop_after; /* entries taken before each() refuses one; 0: never */
	unsigned first, count;
	int more;
};

struct scan_seen {
	const struct scan_case *expected;
	unsigned taken;
};

static int scan_each(void *arg, const struct eloq_scan_entry *entry)
{
	struct scan_seen *seen = arg;
	const struct scan_case *expected = seen->expected;
	char key[16];

	if (expected->stop_after > 0 && seen->taken == expected->stop_after)
		return 1;
	(void)snprintf(key, sizeof(key), "k%04u", expected->first + seen->taken);
	ck_assert_uint_eq(entry->key_bytes, strlen(key));
	ck_assert_mem_eq(entry->key, key, entry->key_bytes);
	ck_assert_uint_eq(entry->value_bytes, 300);
	ck_assert_uint_eq(entry->value[299], (seen->taken + expected->first) % 251);
	seen->taken++;
	return 0;
}

static void fill_and_scan(void *arg)
{
	static const struct scan_case cases[] = {
		{ NULL, NULL, false, 0, 0, 0, 1000, false },
		{ NULL, NULL, false, 1000, 0, 0, 1000, false },
		{ NULL, NULL, false, 999, 0, 0, 999, true },
		{ NULL, NULL, true, 1, 0, 0, 1, true },
		{ "k0500", NULL, false, 0, 0, 500, 500, false },
		{ "k0500", NULL, true, 0, 0, 501, 499, false },
		{ "k0500", "k0500", false, 0, 0, 0, 0, false },
		{ "k0500", "k0501", false, 1, 0, 500, 1, false },
		{ "k0500", "k0501", true, 0, 0, 0, 0, false },
		{ "k0500", "k0502", false, 1, 0, 500, 1, true },
		{ "k04999", "k05", false, 0, 0, 0, 0, false },
		{ "a", "k0010", false, 0, 0, 0, 10, false },
		{ "k0990", "z", false, 10, 0, 990, 10, false },
		{ "z", NULL, false, 0, 0, 0, 0, false },
		{ "k0100", "k0200", false, 0, 100, 100, 100, false },
		{ "k0100", "k0200", false, 0, 99, 100, 99, true },
		{ "k0100", NULL, false, 7, 3, 100, 3, true },
	};
	uint8_t value[300] = { 0 };
	char key[16];

	(void)arg;
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof(key), "k%04u", i);
		value[299] = (uint8_t)(i % 251);
		store_world_put(&world, 1, 0, key, value, sizeof(value), 0);
	}
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(cases); i++) {
		const struct scan_case *c = &cases[i];
		struct scan_seen seen = { .expected = c };
		struct eloq_scan scan = {
			.begin = (const uint8_t *)c->begin,
			.begin_bytes = c->begin ? (uint32_t)strlen(c->begin) : 0,
			.begin_exclusive = c->exclusive,
			.end = (const uint8_t *)c->end,
			.end_bytes = c->end ? (uint32_t)strlen(c->end) : 0,
			.entries_max = c->max,
			.each = scan_each,
			.arg = &seen,
		};
		bool more;

		ck_assert_int_eq(eloq_store_scan_await(world.store, 1, 0, &scan, &more, NULL), 0);
		ck_assert_msg(seen.taken == c->count, "case %zu: %u", i, seen.taken);
		ck_assert_msg(more == c->more, "case %zu", i);
		ck_assert_int_eq(eloq_store_scan_await(world.store, 1, 9, &scan, &more, NULL), 0);
		ck_assert(!more);
	}
}

TEST(scans_respect_bounds_and_limits_and_know_whether_more_follows)
{
	store_world_init(&world);
	store_world_session(&world, fill_and_scan, NULL);
}

static void read_fast_path(void *arg)
{
	struct eloq_store_value value = { 0 };
	const uint8_t *key = (const uint8_t *)"apple";

	(void)arg;
	/* Not loaded yet: only a task may wait for that. */
	ck_assert_int_eq(eloq_store_get(world.store, 1, 3, key, 5, 0, &value), -EAGAIN);
	ck_assert_int_eq(eloq_store_get_await(world.store, 1, 3, key, 5, 0, &value, NULL), 0);
	eloq_store_value_release(world.store, &value);
	ck_assert_int_eq(eloq_store_get(world.store, 1, 3, key, 5, 0, &value), 0);
	ck_assert_uint_eq(value.bytes, 3);
	ck_assert_mem_eq(value.data, "red", 3);
	ck_assert_uint_eq(value.timestamp, 1000);
	eloq_store_value_release(world.store, &value);
	ck_assert_int_eq(eloq_store_get(world.store, 1, 3, key, 4, 0, &value), -ELOQ_ENOTFOUND);
	/* Large values are a task's work. */
	ck_assert_int_eq(eloq_store_get(world.store, 1, 3, (const uint8_t *)"banana", 6, 0, &value),
			 -EAGAIN);
	ck_assert_int_eq(eloq_store_get(world.store, 1, 4, key, 5, 0, &value), -ELOQ_ENOTFOUND);
	ck_assert_int_eq(eloq_store_get(world.store, 2, 3, key, 5, 0, &value), -ELOQ_ENOTFOUND);
}

TEST(what_is_in_memory_is_read_without_a_task)
{
	example_open_two_disks();
	store_world_session(&world, write_example, NULL);
	store_world_session(&world, read_fast_path, NULL);
}

/* --- Writes ----------------------------------------------------------------------------------- */

static int submit_one(const char *key, uint32_t key_bytes, uint32_t value_bytes, uint64_t expire_ms,
		      struct eloq_errinfo *reterr)
{
	struct eloq_write_entry entry = {
		.key = (const uint8_t *)key,
		.key_bytes = key_bytes,
		.value = (const uint8_t *)key,
		.value_bytes = value_bytes,
		.expire_ms = expire_ms,
	};
	struct eloq_write write = {
		.kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = &entry, .entry_count = 1
	};

	return eloq_store_write_await(world.store, &write, reterr);
}

static void try_refused(void *arg)
{
	struct eloq_write_entry pair[2] = {
		{ .key = (const uint8_t *)"b", .key_bytes = 1 },
		{ .key = (const uint8_t *)"b", .key_bytes = 1 },
	};
	struct eloq_write write = {
		.kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = pair, .entry_count = 2
	};
	struct eloq_errinfo error = { 0 };
	char *key = calloc(1, 3000);

	(void)arg;
	ck_assert_uint_eq(eloq_store_key_bytes_max(world.store), 2048);
	ck_assert_int_eq(submit_one(key, 0, 1, 0, NULL), -EINVAL);
	ck_assert_int_eq(submit_one(key, 2049, 1, 0, NULL), -ELOQ_ETOOLONG);
	ck_assert_int_eq(submit_one(key, 2048, 1, 0, NULL), 0);
	ck_assert_int_eq(submit_one(key, 1, ELOQ_VALUE_BYTES_MAX + 1, 0, NULL), -ELOQ_ETOOLONG);
	ck_assert_int_eq(submit_one("key", 3, 1, UINT64_MAX, &error), -ELOQ_EUNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(error.text, "expire"));
	store_world_expect(&world, 1, 0, "key", NULL, 0);
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_EORDER);
	pair[1].key = (const uint8_t *)"a";
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_EORDER);
	write.table_id = 2;
	write.entry_count = 1;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_ENOTFOUND);
	write.table_id = 1;
	write.entry_count = 0;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), 0);
	free(key);
}

TEST(writes_that_cannot_be_stored_are_refused_by_their_reason)
{
	store_world_init(&world);
	store_world_session(&world, try_refused, NULL);
}

/* Many writes to one partition, submitted at once; each has an entry and knows its turn. */
enum { MERGED_WRITES = 200 };

static struct eloq_write merged[MERGED_WRITES];
static struct eloq_write_entry merged_entries[MERGED_WRITES];
static char merged_keys[MERGED_WRITES][16];
static unsigned merged_done;

static void merged_count(struct eloq_write *write)
{
	ck_assert_ptr_eq(write, &merged[merged_done]);
	ck_assert_int_eq(write->result, 0);
	ck_assert_ptr_null(write->error);
	merged_done++;
}

static void submit_merged(void *arg)
{
	struct eloq_store_stats before, *after = arg;

	eloq_store_get_stats(world.store, &before);
	for (unsigned i = 0; i < MERGED_WRITES; i++) {
		/* Ten keys, each written by every tenth write. */
		(void)snprintf(merged_keys[i], sizeof(merged_keys[i]), "key%u", i % 10);
		merged_entries[i] = (struct eloq_write_entry){
			.key = (const uint8_t *)merged_keys[i],
			.key_bytes = 4,
			.value = (const uint8_t *)&merged[i],
			.value_bytes = 1 + i / 10,
			.timestamp_auto = true,
		};
		merged[i] = (struct eloq_write){
			.kind = ELOQ_WRITE_BATCH,
			.table_id = 1,
			.entries = &merged_entries[i],
			.entry_count = 1,
			.done = merged_count,
		};
		ck_assert_int_eq(eloq_store_write_submit(world.store, &merged[i]), 0);
	}
	while (merged_done < MERGED_WRITES)
		eloq_task_yield_await();
	eloq_store_get_stats(world.store, after);
	after->commits -= before.commits;
	for (unsigned i = 0; i < 10; i++) {
		struct eloq_store_value value;

		ck_assert_int_eq(eloq_store_get_await(world.store, 1, 0,
						      (const uint8_t *)merged_keys[i], 4, 0, &value,
						      NULL),
				 0);
		ck_assert_uint_eq(value.bytes, MERGED_WRITES / 10);
		ck_assert_uint_eq(value.timestamp, MERGED_WRITES / 10);
		eloq_store_value_release(world.store, &value);
	}
}

TEST(writes_that_wait_together_share_a_commit_and_end_in_order)
{
	struct eloq_store_stats stats;

	store_world_init(&world);
	store_world_session(&world, submit_merged, &stats);
	ck_assert_uint_eq(stats.commits, 1);
	ck_assert_uint_eq(stats.merged_writes, MERGED_WRITES);
}

/* One write with an expiry among others: it alone is refused. */
static int mixed_results[3];
static unsigned mixed_done;

static void mixed_count(struct eloq_write *write)
{
	ck_assert((write->result < 0) == (write->error != NULL));
	mixed_results[mixed_done++] = write->result;
}

static void submit_mixed(void *arg)
{
	static const char *const keys[] = { "a", "b", "c" };
	struct eloq_write_entry entries[3];
	struct eloq_write writes[3];

	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		entries[i] = (struct eloq_write_entry){
			.key = (const uint8_t *)keys[i],
			.key_bytes = 1,
			.value = (const uint8_t *)keys[i],
			.value_bytes = 1,
			.expire_ms = i == 1 ? UINT64_MAX : 0,
		};
		writes[i] = (struct eloq_write){
			.kind = ELOQ_WRITE_BATCH,
			.table_id = 1,
			.entries = &entries[i],
			.entry_count = 1,
			.done = mixed_count,
		};
		ck_assert_int_eq(eloq_store_write_submit(world.store, &writes[i]), 0);
	}
	while (mixed_done < 3)
		eloq_task_yield_await();
	store_world_expect(&world, 1, 0, "a", "a", 1);
	store_world_expect(&world, 1, 0, "b", NULL, 0);
	store_world_expect(&world, 1, 0, "c", "c", 1);
}

TEST(a_refused_write_does_not_harm_those_in_its_commit)
{
	store_world_init(&world);
	store_world_session(&world, submit_mixed, NULL);
	ck_assert_int_eq(mixed_results[0], 0);
	ck_assert_int_eq(mixed_results[1], -ELOQ_EUNSUPPORTED);
	ck_assert_int_eq(mixed_results[2], 0);
}

/* --- Truncate, drop, tables ------------------------------------------------------------------- */

static int note_partition(void *arg, uint32_t partition)
{
	uint32_t *seen = arg;

	ck_assert(partition < 32);
	ck_assert_msg(*seen >> partition == 0, "ascending");
	*seen |= 1u << partition;
	return 0;
}

static uint32_t partitions_of(uint32_t table_id)
{
	uint32_t seen = 0;

	ck_assert_int_eq(eloq_store_table_partitions(world.store, table_id, note_partition, &seen),
			 0);
	return seen;
}

static void write_three_partitions(void *arg)
{
	(void)arg;
	for (uint32_t p = 0; p < 9; p += 4) {
		store_world_put(&world, 1, p, "key", "value", 5, 0);
		store_world_put(&world, 1, p, "long", long_value, LONG_VALUE_BYTES, 0);
	}
	ck_assert_uint_eq(partitions_of(1), 0x111);
}

static void truncate_and_drop(void *arg)
{
	struct eloq_partition_stat stat;

	(void)arg;
	ck_assert_uint_eq(partitions_of(1), 0x111);
	store_world_clear(&world, 1, 0, ELOQ_WRITE_TRUNCATE);
	store_world_clear(&world, 1, 0, ELOQ_WRITE_TRUNCATE);
	store_world_clear(&world, 1, 12, ELOQ_WRITE_TRUNCATE);
	store_world_clear(&world, 1, 4, ELOQ_WRITE_DROP);
	store_world_clear(&world, 1, 4, ELOQ_WRITE_DROP);
	store_world_expect(&world, 1, 0, "key", NULL, 0);
	store_world_expect(&world, 1, 4, "key", NULL, 0);
	store_world_expect(&world, 1, 8, "key", "value", 5);
	ck_assert_uint_eq(partitions_of(1), 0x101);
	ck_assert_int_eq(eloq_store_partition_stat_await(world.store, 1, 0, &stat, NULL), 0);
	ck_assert_uint_eq(stat.pages, 0);
	ck_assert_int_eq(eloq_store_partition_stat_await(world.store, 1, 8, &stat, NULL), 0);
	ck_assert_uint_eq(stat.pages, 5);
	ck_assert_uint_eq(stat.page_bytes, 4096);
	ck_assert(!stat.has_ttl_tree);
	ck_assert_int_eq(eloq_store_partition_stat_await(world.store, 1, 4, &stat, NULL),
			 -ELOQ_ENOTFOUND);
}

static void write_dropped_again(void *arg)
{
	(void)arg;
	ck_assert_uint_eq(partitions_of(1), 0x101);
	store_world_expect(&world, 1, 4, "key", NULL, 0);
	store_world_put(&world, 1, 4, "key", "again", 5, 0);
	store_world_put(&world, 1, 0, "key", "again", 5, 0);
	store_world_expect(&world, 1, 4, "key", "again", 5);
	store_world_expect(&world, 1, 0, "key", "again", 5);
	ck_assert_uint_eq(partitions_of(1), 0x111);
}

TEST(truncated_partitions_are_empty_and_dropped_ones_are_gone)
{
	char path[512];

	store_world_init(&world);
	store_world_session(&world, write_three_partitions, NULL);
	store_world_session(&world, truncate_and_drop, NULL);
	(void)store_world_check(&world, 0, "t.0", true);
	(void)store_world_check(&world, 0, "t.8", true);
	world_path(path, sizeof(path), 0, "t.4");
	ck_assert_int_eq(access(path, F_OK), -1);
	store_world_session(&world, write_dropped_again, NULL);
	(void)store_world_check(&world, 0, "t.4", true);
	ck_assert_uint_eq(store_world_check(&world, 0, "t.0", true).entries, 1);
}

static void drop_in_one_go(void *arg)
{
	(void)arg;
	store_world_put(&world, 1, 0, "key", "value", 5, 0);
	store_world_clear(&world, 1, 0, ELOQ_WRITE_DROP);
	eloq_store_table_remove(world.store, 1);
	ck_assert_int_eq(eloq_store_table_add(world.store, 2, "t"), 0);
	store_world_expect(&world, 2, 0, "key", NULL, 0);
	store_world_put(&world, 2, 0, "key", "other", 5, 0);
	store_world_expect(&world, 2, 0, "key", "other", 5);
	ck_assert_int_eq(eloq_store_table_add(world.store, 2, "u"), -ELOQ_EEXISTS);
	ck_assert_int_eq(eloq_store_table_add(world.store, 3, "t"), -ELOQ_EEXISTS);
	ck_assert_int_eq(eloq_store_table_add(world.store, 3, "a/b"), -EINVAL);
}

TEST(a_table_that_was_dropped_can_be_made_again_under_its_name)
{
	store_world_init(&world);
	store_world_session(&world, drop_in_one_go, NULL);
	(void)store_world_check(&world, 0, "t.0", true);
}

static void write_all_partitions(void *arg)
{
	(void)arg;
	for (uint32_t p = 0; p < 8; p++)
		store_world_put(&world, 1, p, "key", &p, sizeof(p), 0);
}

static void see_own_partitions(void *arg)
{
	(void)arg;
	ck_assert_uint_eq(partitions_of(1), 0x92);
	ck_assert_int_eq(submit_one("key", 3, 1, 0, NULL), -EINVAL);
}

TEST(a_shard_sees_only_its_own_partitions)
{
	store_world_init(&world);
	store_world_session(&world, write_all_partitions, NULL);
	world.opts.shard_index = 1;
	world.opts.shard_count = 3;
	store_world_session(&world, see_own_partitions, NULL);
}

enum { MANY_PARTITIONS = 600 }; /* more than the hash table starts with */

static int count_partition(void *arg, uint32_t partition)
{
	uint32_t *next = arg;

	ck_assert_uint_eq(partition, *next);
	++*next;
	return 0;
}

static void use_many_partitions(void *arg)
{
	uint32_t next = 0;

	(void)arg;
	ck_assert_int_eq(eloq_store_table_partitions(world.store, 1, count_partition, &next), 0);
	ck_assert_uint_eq(next, MANY_PARTITIONS);
	for (uint32_t p = 0; p < MANY_PARTITIONS; p += 7)
		store_world_put(&world, 1, p, "key", &p, sizeof(p), 0);
	for (uint32_t p = 0; p < MANY_PARTITIONS; p++)
		store_world_expect(&world, 1, p, "key", p % 7 == 0 ? &p : NULL, sizeof(p));
	eloq_store_table_remove(world.store, 1);
	store_world_expect(&world, 1, 7, "key", NULL, 0);
}

TEST(hundreds_of_partitions_are_found_by_their_directories)
{
	char path[512];

	store_world_init(&world);
	for (unsigned p = 0; p < MANY_PARTITIONS; p++) {
		(void)snprintf(path, sizeof(path), "%s/t.%u", world.root_paths[0], p);
		ck_assert_int_eq(mkdir(path, 0700), 0);
	}
	/* Not a partition, and one of another table. */
	(void)snprintf(path, sizeof(path), "%s/lost+found", world.root_paths[0]);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/tt.5", world.root_paths[0]);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	store_world_session(&world, use_many_partitions, NULL);
}

static void fill_the_table(void *arg)
{
	struct eloq_write_entry entry = { .key = (const uint8_t *)"key", .key_bytes = 3 };
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
				    .table_id = 1,
				    .partition = UINT32_MAX,
				    .entries = &entry,
				    .entry_count = 1 };

	(void)arg;
	/* What only removes or reads takes none of the places. */
	for (uint32_t p = 0; p < 100; p++) {
		ck_assert_int_eq(store_world_delete(&world, 1, UINT32_MAX - p, "key", 0),
				 ELOQ_WRITE_ABSENT);
		store_world_clear(&world, 1, UINT32_MAX - p, ELOQ_WRITE_TRUNCATE);
		store_world_clear(&world, 1, UINT32_MAX - p, ELOQ_WRITE_DROP);
		store_world_expect(&world, 1, UINT32_MAX - p, "key", NULL, 0);
	}
	store_world_put(&world, 1, UINT32_MAX - 1, "key", "value", 5, 0);
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_ETOOMANY);
	store_world_put(&world, 1, UINT32_MAX - 1, "key", "again", 5, 0);
	store_world_put(&world, 1, 7, "key", "value", 5, 0);
}

TEST(a_table_has_a_bounded_number_of_partitions)
{
	char path[512];

	store_world_init(&world);
	for (unsigned p = 0; p < ELOQ_PARTITIONS_PER_TABLE_MAX - 1; p++) {
		(void)snprintf(path, sizeof(path), "%s/t.%u", world.root_paths[0], p);
		ck_assert_int_eq(mkdir(path, 0700), 0);
	}
	store_world_session(&world, fill_the_table, NULL);
}

TEST(options_that_cannot_be_are_refused_with_words)
{
	struct eloq_errinfo error = { 0 };

	store_world_init(&world);
	world.opts.page_bytes = 5000;
	ck_assert_int_eq(store_world_try_open(&world, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.text, "page size"));
	world.opts.page_bytes = 4096;
	world.opts.pages_per_file_shift = 21;
	ck_assert_int_eq(store_world_try_open(&world, &error), -EINVAL);
	world.opts.pages_per_file_shift = 20;
	world.opts.overflow_pointers = 129;
	ck_assert_int_eq(store_world_try_open(&world, &error), -EINVAL);
	world.opts.overflow_pointers = 128;
	world.opts.data_restart_interval = 0;
	ck_assert_int_eq(store_world_try_open(&world, &error), -EINVAL);
	world.opts.data_restart_interval = 1;
	world.opts.shard_index = 1;
	ck_assert_int_eq(store_world_try_open(&world, &error), -EINVAL);
}
