/*
 * store_model_test.c - random work on the engine against a plain ordered map, from one seed.
 *
 * Rounds of operations on a few partitions: batches, deletes, truncates, drops, reads, scans; then
 * everything is compared, the store is closed, its files are proven sound by store_check.h, and it
 * is opened again. Shapes of the store (page size, write mode, back-end, cache) come from the seed
 * too. TEST_SEED=n runs one of them again.
 */
#include "common/prng.h"
#include "daemon/format/key.h"
#include "daemon/store/cache.h"
#include "daemon/store/store.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PARTITIONS = 3,
	ROUNDS = 5,
	OPERATIONS = 60,
	BATCH_MAX = 400,
	KEYS = 3000, /* how many different ones there can be */
	VALUE_BYTES_MAX = 300 << 10,
};

/* An entry of the map: a value is known by its seed and length. */
struct model_entry {
	uint32_t key; /* its number: key_make() */
	uint32_t value_bytes;
	uint64_t value_seed;
	uint64_t timestamp;
	bool present;
};

struct model {
	struct store_world world;
	struct eloq_prng prng;
	struct model_entry entries[PARTITIONS][KEYS]; /* by number, which is key order */
	uint32_t key_bytes_max;
	unsigned long_keys; /* per cent */
};

static struct model model;

static uint64_t random_below(uint64_t bound)
{
	return eloq_prng_below(&model.prng, bound);
}

/* --- Keys and values -------------------------------------------------------------------------- */

/*
 * Key number @index, in ascending order; returns its length. Some are long, with long common
 * prefixes, others short: which ones depends on the number alone.
 */
static uint32_t key_make(uint32_t index, uint8_t *key)
{
	uint32_t bytes = 8;

	(void)snprintf((char *)key, 16, "%04u/key", index);
	if ((index * 2654435761u) % 100 < model.long_keys) {
		uint32_t wanted = 9 + (index * 40503u) % (model.key_bytes_max - 8);

		memset(key + bytes, 'x', wanted - bytes);
		bytes = wanted;
	}
	return bytes;
}

static void value_make(uint64_t seed, uint8_t *value, uint32_t bytes)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, seed);
	for (uint32_t i = 0; i < bytes; i += 8) {
		uint64_t word = eloq_prng_next(&prng);

		memcpy(value + i, &word, eloq_min_u64(8, bytes - i));
	}
}

static uint32_t value_pick_bytes(void)
{
	uint32_t page_bytes = model.world.opts.page_bytes;

	switch (random_below(60)) {
	case 0:
		return (uint32_t)random_below(VALUE_BYTES_MAX);
	case 1:
	case 2:
		return (uint32_t)random_below((uint64_t)page_bytes * 4);
	case 3:
	case 4:
		/* Around what fits on a page. */
		return page_bytes - 80 + (uint32_t)random_below(100);
	case 5:
		return 0;
	default:
		return (uint32_t)random_below(200);
	}
}

/* --- Writes ----------------------------------------------------------------------------------- */

struct batch {
	struct eloq_write write;
	struct eloq_write_entry entries[BATCH_MAX];
	uint32_t numbers[BATCH_MAX];
	uint64_t seeds[BATCH_MAX];
	bool is_done;
};

static void batch_add(struct batch *batch, uint32_t number, bool put)
{
	struct eloq_write_entry *entry = &batch->entries[batch->write.entry_count];
	uint8_t *key = malloc(ELOQ_KEY_BUFFER_BYTES);
	uint8_t *value = NULL;

	*entry = (struct eloq_write_entry){
		.key = key,
		.key_bytes = key_make(number, key),
		.op = put ? ELOQ_WRITE_PUT : ELOQ_WRITE_DELETE,
		.timestamp = random_below(1000),
		.timestamp_auto = random_below(2) == 0,
	};
	if (put) {
		entry->value_bytes = value_pick_bytes();
		value = malloc(entry->value_bytes + 1);
		batch->seeds[batch->write.entry_count] = eloq_prng_next(&model.prng);
		value_make(batch->seeds[batch->write.entry_count], value, entry->value_bytes);
		entry->value = value;
	}
	batch->numbers[batch->write.entry_count++] = number;
}

static void batch_done(struct eloq_write *write)
{
	struct batch *batch = write->arg;

	if (write->result < 0)
		ck_abort_msg("%s", write->error ? write->error->text : "no words");
	batch->is_done = true;
}

/* Keys close together, or all over; mostly puts, or mostly deletes. */
static struct batch *batch_make(uint32_t partition)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	uint32_t count = 1 + (uint32_t)random_below(random_below(3) == 0 ? BATCH_MAX : 8);
	uint32_t step = 1 + (uint32_t)random_below(random_below(2) == 0 ? 2 : 2 * KEYS / count);
	uint64_t puts = random_below(3) * 50;
	uint32_t number = (uint32_t)random_below(KEYS);

	batch->write = (struct eloq_write){
		.kind = ELOQ_WRITE_BATCH,
		.table_id = 1,
		.partition = partition,
		.entries = batch->entries,
		.done = batch_done,
		.arg = batch,
	};
	for (uint32_t i = 0; i < count && number < KEYS; i++) {
		batch_add(batch, number, random_below(100) < puts + 10);
		number += 1 + (uint32_t)random_below(step);
	}
	return batch;
}

/* What the batch should have done; its outcomes must say the same. */
static void batch_apply(const struct batch *batch)
{
	for (uint32_t i = 0; i < batch->write.entry_count; i++) {
		const struct eloq_write_entry *change = &batch->entries[i];
		struct model_entry *entry =
			&model.entries[batch->write.partition][batch->numbers[i]];
		uint64_t timestamp = change->timestamp;
		enum eloq_write_outcome outcome = ELOQ_WRITE_APPLIED;

		if (change->timestamp_auto)
			timestamp = entry->present ? entry->timestamp + 1 : 1;
		if (entry->present && timestamp < entry->timestamp) {
			outcome = ELOQ_WRITE_OLDER;
		} else if (change->op == ELOQ_WRITE_PUT) {
			*entry = (struct model_entry){ batch->numbers[i], change->value_bytes,
						       batch->seeds[i], timestamp, true };
		} else {
			outcome = entry->present ? ELOQ_WRITE_APPLIED : ELOQ_WRITE_ABSENT;
			entry->present = false;
		}
		ck_assert_int_eq(change->outcome, outcome);
	}
}

static void batch_free(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->write.entry_count; i++) {
		free((void *)(uintptr_t)batch->entries[i].key);
		free((void *)(uintptr_t)batch->entries[i].value);
	}
	free(batch);
}

/* Several batches at once, to several partitions: those of one partition may share a commit. */
static void write_batches(void)
{
	unsigned count = 1 + (unsigned)random_below(4);
	struct batch *batches[4];

	for (unsigned i = 0; i < count; i++) {
		batches[i] = batch_make((uint32_t)random_below(PARTITIONS));
		ck_assert_int_eq(eloq_store_write_submit(model.world.store, &batches[i]->write), 0);
	}
	for (unsigned i = 0; i < count; i++) {
		while (!batches[i]->is_done)
			eloq_task_yield_await();
		batch_apply(batches[i]);
	}
	for (unsigned i = 0; i < count; i++)
		batch_free(batches[i]);
}

static void clear_partition(void)
{
	uint32_t partition = (uint32_t)random_below(PARTITIONS);

	store_world_clear(&model.world, 1, partition,
			  random_below(3) == 0 ? ELOQ_WRITE_DROP : ELOQ_WRITE_TRUNCATE);
	memset(model.entries[partition], 0, sizeof(model.entries[partition]));
}

/* --- Reads ------------------------------------------------------------------------------------ */

static void compare(const struct model_entry *entry, const uint8_t *value, uint32_t bytes,
		    uint64_t timestamp)
{
	uint8_t *expected = malloc(entry->value_bytes + 1);

	ck_assert(entry->present);
	ck_assert_uint_eq(timestamp, entry->timestamp);
	ck_assert_uint_eq(bytes, entry->value_bytes);
	value_make(entry->value_seed, expected, bytes);
	ck_assert(bytes == 0 || memcmp(value, expected, bytes) == 0);
	free(expected);
}

static void get_one(void)
{
	uint32_t partition = (uint32_t)random_below(PARTITIONS);
	uint32_t number = (uint32_t)random_below(KEYS);
	const struct model_entry *entry = &model.entries[partition][number];
	uint8_t *key = malloc(ELOQ_KEY_BUFFER_BYTES);
	uint32_t key_bytes = key_make(number, key);
	struct eloq_store_value value;
	struct eloq_errinfo error = { 0 };
	int r = eloq_store_get_await(model.world.store, 1, partition, key, key_bytes, 0, &value,
				     &error);

	if (r < 0) {
		ck_assert_msg(r == -ELOQ_ENOTFOUND && !entry->present, "%s %s", eloq_err_name(r),
			      error.text);
	} else {
		compare(entry, value.data, value.bytes, value.timestamp);
		eloq_store_value_release(model.world.store, &value);
	}
	free(key);
}

struct model_scan {
	const struct model_entry *entries;
	uint32_t next; /* number of the first key that may come */
	uint32_t end;
	uint8_t *key;
	bool keys_only;
};

/* Leaves scan->next at the next key that should come, or at the end. */
static void scan_skip_absent(struct model_scan *scan)
{
	while (scan->next < scan->end && !scan->entries[scan->next].present)
		scan->next++;
}

static int scan_each(void *arg, const struct eloq_scan_entry *found)
{
	struct model_scan *scan = arg;
	const struct model_entry *entry = &scan->entries[scan->next];

	ck_assert_uint_lt(scan->next, scan->end);
	ck_assert_uint_eq(found->key_bytes, key_make(scan->next, scan->key));
	ck_assert_mem_eq(found->key, scan->key, found->key_bytes);
	if (!scan->keys_only)
		compare(entry, found->value, found->value_bytes, found->timestamp);
	scan->next++;
	scan_skip_absent(scan);
	return 0;
}

static void scan_range(uint32_t partition, uint32_t from, uint32_t to, uint64_t max, bool keys_only)
{
	struct model_scan seen = { .entries = model.entries[partition],
				   .next = from,
				   .end = to,
				   .key = malloc(ELOQ_KEY_BUFFER_BYTES),
				   .keys_only = keys_only };
	uint8_t *begin = malloc(ELOQ_KEY_BUFFER_BYTES), *end = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct eloq_scan scan = {
		.begin = begin,
		.begin_bytes = from > 0 ? key_make(from, begin) : 0,
		.end = end,
		.end_bytes = to < KEYS ? key_make(to, end) : 0,
		.keys_only = keys_only,
		.entries_max = max,
		.each = scan_each,
		.arg = &seen,
	};
	struct eloq_errinfo error = { 0 };
	bool more;
	int r;

	scan_skip_absent(&seen);
	r = eloq_store_scan_await(model.world.store, 1, partition, &scan, &more, &error);
	ck_assert_msg(r == 0, "%s", error.text);
	ck_assert_int_eq(more, seen.next < seen.end);
	free(begin);
	free(end);
	free(seen.key);
}

static void scan_some(void)
{
	uint32_t from = (uint32_t)random_below(KEYS);
	uint32_t to = from + (uint32_t)random_below(KEYS + 1 - from);

	scan_range((uint32_t)random_below(PARTITIONS), random_below(4) == 0 ? 0 : from, to,
		   1 + random_below(300), random_below(3) == 0);
}

/* --- Rounds ----------------------------------------------------------------------------------- */

static void compare_all(void *arg)
{
	(void)arg;
	for (uint32_t p = 0; p < PARTITIONS; p++)
		scan_range(p, 0, KEYS, 0, false);
}

static void run_round(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint64_t what = random_below(100);

		if (what < 45)
			write_batches();
		else if (what < 85)
			get_one();
		else if (what < 98)
			scan_some();
		else
			clear_partition();
	}
	compare_all(NULL);
}

static void check_files(void)
{
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		uint64_t present = 0;
		char path[512], name[16];

		for (uint32_t i = 0; i < KEYS; i++)
			present += model.entries[p][i].present;
		(void)snprintf(name, sizeof(name), "t.%u", p);
		/* A partition that holds nothing may be there or not. */
		(void)snprintf(path, sizeof(path), "%s/%s/manifest_0", model.world.root_paths[0],
			       name);
		if (present > 0 || access(path, F_OK) == 0)
			ck_assert_uint_eq(store_world_check(&model.world, 0, name, true).entries,
					  present);
	}
}

/* A store of a random shape, all rounds of it. */
static void run_model(bool append_mode, const char *backend, unsigned threads)
{
	static const uint32_t page_sizes[] = { 4096, 4096, 8192, 20480, 61440 };
	static const uint32_t intervals[] = { 1, 2, 7, 16, 64 };
	struct eloq_store_opts *opts = &model.world.opts;

	memset(&model, 0, sizeof(model));
	eloq_prng_seed(&model.prng, test_seed());
	store_world_init(&model.world);
	model.world.backend = backend;
	model.world.pool_threads = threads;
	opts->append_mode = append_mode;
	opts->page_bytes = page_sizes[random_below(ELOQ_ARRAY_SIZE(page_sizes))];
	opts->pages_per_file_shift = 3 + (uint32_t)random_below(5);
	opts->overflow_pointers = 1 + (uint32_t)random_below(random_below(2) == 0 ? 4 : 128);
	opts->data_restart_interval = intervals[random_below(ELOQ_ARRAY_SIZE(intervals))];
	opts->index_restart_interval = intervals[random_below(ELOQ_ARRAY_SIZE(intervals))];
	opts->cache_bytes = (ELOQ_CACHE_FRAMES_MIN + random_below(80)) * opts->page_bytes;
	opts->manifest_bytes_max = 4096 * (2 + random_below(10));
	model.long_keys = (unsigned)random_below(3) * 15;
	for (unsigned i = 0; i < ROUNDS; i++) {
		store_world_open_table(&model.world);
		model.key_bytes_max = eloq_store_key_bytes_max(model.world.store);
		store_world_run(&model.world, compare_all, NULL);
		store_world_run(&model.world, run_round, NULL);
		store_world_close(&model.world);
		check_files();
	}
}

TEST(in_place_the_store_is_an_ordered_map)
{
	run_model(false, "pool", 0);
}

TEST(appending_the_store_is_an_ordered_map)
{
	run_model(true, "pool", 0);
}

TEST(with_threads_the_store_is_an_ordered_map)
{
	run_model(false, "pool", 3);
}

TEST(with_io_uring_the_store_is_an_ordered_map)
{
	run_model(false, "auto", 2);
	run_model(true, "auto", 2);
}
