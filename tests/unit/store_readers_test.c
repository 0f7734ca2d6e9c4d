/*
 * store_readers_test.c - readers beside writers: whoever reads sees whole commits and nothing else.
 *
 * All tasks share one thread; what is interleaved is what they do between waits for the disk. With
 * a cache of a few pages they wait nearly always.
 */
#include "common/limits.h"
#include "daemon/store/cache.h"
#include "daemon/store/store.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct store_world world;

/* More pages than the cache has: reading it waits for the disk. */
enum { LONG_VALUE_BYTES = 400000 };

static uint8_t long_value[LONG_VALUE_BYTES];

/* --- Readers beside a writer ------------------------------------------------------------------ */

/* Each commit gives all these keys, far apart, the same value. */
enum { SNAPSHOT_KEYS = 10, SNAPSHOT_ROUNDS = 60, SNAPSHOT_READERS = 6, SNAPSHOT_FILL = 600 };

struct snapshot {
	bool is_over;
	unsigned scans, gets;
	uint32_t last_seen[SNAPSHOT_READERS];
};

static struct snapshot snapshot;

static void snapshot_key(char key[16], unsigned index)
{
	(void)snprintf(key, 16, "k%04u", index * SNAPSHOT_FILL / SNAPSHOT_KEYS);
}

struct snapshot_scan {
	uint32_t version;
	unsigned count, filled;
};

static int snapshot_each(void *arg, const struct eloq_scan_entry *entry)
{
	struct snapshot_scan *scan = arg;
	uint32_t version;

	if (entry->key[0] == 'f') {
		scan->filled++;
		return 0;
	}
	/* The first bytes are the version, all others its low byte. */
	ck_assert_uint_ge(entry->value_bytes, 4);
	memcpy(&version, entry->value, 4);
	if (entry->value_bytes > 4)
		ck_assert_uint_eq(entry->value[4], version & 0xff);
	if (entry->value_bytes > 5)
		ck_assert_mem_eq(entry->value + 4, entry->value + 5, entry->value_bytes - 5);
	if (scan->count++ == 0)
		scan->version = version;
	ck_assert_uint_eq(version, scan->version);
	return 0;
}

static void snapshot_reader(void *arg)
{
	uint32_t *last = arg;

	while (!snapshot.is_over) {
		struct snapshot_scan seen = { 0 };
		struct eloq_scan scan = { .each = snapshot_each, .arg = &seen };
		bool more;

		ck_assert_int_eq(eloq_store_scan_await(world.store, 1, 0, &scan, &more, NULL), 0);
		ck_assert(!more);
		ck_assert(seen.count == 0 || seen.count == SNAPSHOT_KEYS);
		ck_assert_uint_ge(seen.version, *last);
		*last = seen.version;
		snapshot.scans++;
		eloq_task_yield_await();
	}
}

static void snapshot_getter(void *arg)
{
	uint32_t last = 0, version;
	char key[16];

	(void)arg;
	snapshot_key(key, 3);
	while (!snapshot.is_over) {
		struct eloq_store_value value;
		int r = eloq_store_get_await(world.store, 1, 0, (const uint8_t *)key, 5, 0, &value,
					     NULL);

		if (r == 0) {
			memcpy(&version, value.data, 4);
			ck_assert_uint_ge(version, last);
			last = version;
			eloq_store_value_release(world.store, &value);
		} else {
			ck_assert_int_eq(r, -ELOQ_ENOTFOUND);
		}
		snapshot.gets++;
		eloq_task_yield_await();
	}
}

/* Other entries come and go between the ten keys, so that leaves split and vanish. */
static void snapshot_fill(unsigned round)
{
	struct eloq_write_entry *entries = calloc(SNAPSHOT_FILL, sizeof(*entries));
	char(*keys)[16] = calloc(SNAPSHOT_FILL, sizeof(*keys));
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = entries };
	static uint8_t value[500];

	for (unsigned i = round % 3; i < SNAPSHOT_FILL; i += 3)
		entries[write.entry_count++] = (struct eloq_write_entry){
			.key = (uint8_t *)keys[i],
			.key_bytes = (uint32_t)snprintf(keys[i], 16, "f%04u", i),
			.value = value,
			.value_bytes = (round * 37 + i) % sizeof(value),
			.timestamp_auto = true,
			.op = round / 3 % 2 == 0 ? ELOQ_WRITE_PUT : ELOQ_WRITE_DELETE,
		};
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), 0);
	free(keys);
	free(entries);
}

static void snapshot_writer(void *arg)
{
	static uint8_t value[9000];
	struct eloq_write_entry entries[SNAPSHOT_KEYS];
	char keys[SNAPSHOT_KEYS][16];

	(void)arg;
	for (uint32_t version = 1; version <= SNAPSHOT_ROUNDS; version++) {
		struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
					    .table_id = 1,
					    .entries = entries,
					    .entry_count = SNAPSHOT_KEYS };

		memset(value, (int)(version & 0xff), sizeof(value));
		memcpy(value, &version, 4);
		for (unsigned i = 0; i < SNAPSHOT_KEYS; i++) {
			snapshot_key(keys[i], i);
			entries[i] = (struct eloq_write_entry){
				.key = (const uint8_t *)keys[i],
				.key_bytes = 5,
				.value = value,
				.value_bytes = 4 + (version * (i + 1) * 211) % 8000,
				.timestamp_auto = true,
			};
		}
		ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), 0);
		snapshot_fill(version);
	}
	snapshot.is_over = true;
}

static void snapshot_run(void *arg)
{
	(void)arg;
	memset(&snapshot, 0, sizeof(snapshot));
	for (unsigned i = 0; i < SNAPSHOT_READERS; i++)
		store_world_spawn(&world, snapshot_reader, &snapshot.last_seen[i]);
	store_world_spawn(&world, snapshot_getter, NULL);
	store_world_spawn(&world, snapshot_writer, NULL);
}

static void snapshot_test(const char *backend, unsigned threads, bool append_mode)
{
	store_world_init(&world);
	world.backend = backend;
	world.pool_threads = threads;
	world.opts.append_mode = append_mode;
	/* Hardly any page stays in memory: readers must wait while the writer goes on. */
	world.opts.cache_bytes = ELOQ_CACHE_FRAMES_MIN * 4096;
	store_world_session(&world, snapshot_run, NULL);
	ck_assert_uint_ge(snapshot.scans, SNAPSHOT_READERS);
	ck_assert_uint_ge(snapshot.gets, 1);
	(void)store_world_check(&world, 0, "t.0", true);
}

TEST(readers_see_whole_commits_on_plain_calls)
{
	snapshot_test("pool", 0, false);
}

TEST(readers_see_whole_commits_on_threads)
{
	snapshot_test("pool", 3, false);
	snapshot_test("pool", 3, true);
}

TEST(readers_see_whole_commits_on_io_uring)
{
	const struct eloq_io_opts opts = { .backend = "uring", .depth = 8 };
	struct eloq_errinfo error = { 0 };
	struct eloq_io *io;
	const char *note;

	if (eloq_io_open(&io, &opts, &note, &error) < 0)
		TEST_SKIP("%s", error.text);
	eloq_io_close(io);
	snapshot_test("uring", 0, false);
	snapshot_test("uring", 0, true);
}

/* --- A drop beside readers -------------------------------------------------------------------- */

static void drop_reader(void *arg)
{
	unsigned *counts = arg;

	while (!snapshot.is_over) {
		struct eloq_store_value value;
		int r = eloq_store_get_await(world.store, 1, 0, (const uint8_t *)"long", 4, 0,
					     &value, NULL);

		ck_assert(r == 0 || r == -ELOQ_ENOTFOUND);
		counts[r == 0]++;
		if (r == 0) {
			ck_assert_uint_eq(value.bytes, LONG_VALUE_BYTES);
			ck_assert_mem_eq(value.data, long_value, LONG_VALUE_BYTES);
			eloq_store_value_release(world.store, &value);
		}
		eloq_task_yield_await();
	}
}

static void drop_writer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 30; i++) {
		store_world_put(&world, 1, 0, "long", long_value, LONG_VALUE_BYTES, 0);
		store_world_expect(&world, 1, 0, "long", long_value, LONG_VALUE_BYTES);
		store_world_clear(&world, 1, 0, i % 2 ? ELOQ_WRITE_DROP : ELOQ_WRITE_TRUNCATE);
		store_world_expect(&world, 1, 0, "long", NULL, 0);
	}
	snapshot.is_over = true;
}

static void drop_run(void *arg)
{
	snapshot.is_over = false;
	for (unsigned i = 0; i < 4; i++)
		store_world_spawn(&world, drop_reader, arg);
	store_world_spawn(&world, drop_writer, NULL);
}

TEST(a_drop_waits_for_readers_and_they_see_all_or_nothing)
{
	unsigned counts[2] = { 0 };

	memset(long_value, 'B', sizeof(long_value));
	store_world_init(&world);
	world.pool_threads = 2;
	store_world_session(&world, drop_run, counts);
	ck_assert_uint_ge(counts[0], 1);
	ck_assert_uint_ge(counts[1], 1);
}

/* --- Long values ------------------------------------------------------------------------------ */

enum { LONG_READERS = ELOQ_LONG_READS_MAX + 2 };

/* Readers in the order they started: each keeps what it found until the main task lets it go. */
static struct long_reader {
	bool found, may_leave, left;
} long_readers[LONG_READERS];

static void long_reader(void *arg)
{
	struct long_reader *reader = arg;
	struct eloq_store_value value;

	ck_assert_int_eq(eloq_store_get_await(world.store, 1, 0, (const uint8_t *)"long", 4, 0,
					      &value, NULL),
			 0);
	reader->found = true;
	while (!reader->may_leave)
		eloq_task_yield_await();
	ck_assert_uint_eq(value.bytes, LONG_VALUE_BYTES);
	ck_assert_mem_eq(value.data, long_value, LONG_VALUE_BYTES);
	eloq_store_value_release(world.store, &value);
	reader->left = true;
}

static unsigned long_readers_found(void)
{
	unsigned found = 0;

	for (unsigned i = 0; i < LONG_READERS; i++)
		found += long_readers[i].found;
	return found;
}

static int long_each(void *arg, const struct eloq_scan_entry *entry)
{
	const int *result = arg;

	ck_assert_uint_eq(entry->value_bytes, LONG_VALUE_BYTES);
	return *result;
}

/* However a scan ends at a long value, it keeps nothing of it. */
static void long_scans(void)
{
	for (int result = -1; result <= 1; result++)
		for (unsigned i = 0; i <= ELOQ_LONG_READS_MAX; i++) {
			struct eloq_scan scan = { .end = (const uint8_t *)"m",
						  .end_bytes = 1,
						  .each = long_each,
						  .arg = &result };
			bool more;
			int r = eloq_store_scan_await(world.store, 1, 0, &scan, &more, NULL);

			ck_assert_int_eq(r, result < 0 ? result : 0);
		}
}

static void long_run(void *arg)
{
	(void)arg;
	store_world_put(&world, 1, 0, "long", long_value, LONG_VALUE_BYTES, 0);
	store_world_put(&world, 1, 0, "short", long_value, ELOQ_SHORT_VALUE_BYTES_MAX / 2, 0);
	long_scans();
	for (unsigned i = 0; i < LONG_READERS; i++)
		store_world_spawn(&world, long_reader, &long_readers[i]);
	while (long_readers_found() < ELOQ_LONG_READS_MAX)
		eloq_task_yield_await();
	/* Short values and writes go on beside those that wait. */
	for (unsigned i = 0; i < 20; i++) {
		store_world_expect(&world, 1, 0, "short", long_value,
				   ELOQ_SHORT_VALUE_BYTES_MAX / 2);
		store_world_put(&world, 1, 0, "other", "value", 5, 0);
	}
	ck_assert_uint_eq(long_readers_found(), ELOQ_LONG_READS_MAX);
	for (unsigned i = 0; i < LONG_READERS; i++) {
		while (!long_readers[i].found)
			eloq_task_yield_await();
		ck_assert_uint_le(long_readers_found(), ELOQ_LONG_READS_MAX + i);
		long_readers[i].may_leave = true;
		while (!long_readers[i].left)
			eloq_task_yield_await();
	}
}

TEST(only_a_few_long_values_are_in_memory_at_a_time)
{
	memset(long_readers, 0, sizeof(long_readers));
	memset(long_value, 'C', sizeof(long_value));
	store_world_init(&world);
	store_world_session(&world, long_run, NULL);
}
