/* Ranges: partitions merged in key order, bounds, limits, long entries, faults on the way. */
#include "client/eloqclient.h"
#include "tests/support/fake_daemon.h"
#include "tests/unit/client_world.h"

/* Keys "00000".."<count - 1>" with the same text, so often, as values. */
static void fill(struct client_world *world, unsigned count, unsigned repeat)
{
	struct eloq_completion completions[16];

	for (unsigned i = 0; i < count || eloq_in_flight(world->channel) > 0;) {
		char key[16], value[4096];
		size_t bytes = (size_t)snprintf(key, sizeof(key), "%05u", i);
		int n, r = -EAGAIN;

		for (unsigned k = 0; k < repeat; k++)
			memcpy(value + k * bytes, key, bytes);
		if (i < count)
			r = eloq_submit_put(world->channel, world->table, key, bytes, value,
					    bytes * repeat, NULL, NULL);
		i += r == 0;
		n = eloq_poll(world->channel, completions, 16, r == 0 ? 0 : UINT64_MAX);
		ck_assert_int_ge(n, 0);
	}
}

static struct eloq_scan_cursor *open_scan(struct client_world *world,
					  const struct eloq_scan_opts *opts)
{
	struct eloq_scan_cursor *cursor = NULL;

	ck_assert_int_eq(eloq_scan_open(world->channel, world->table, opts, &cursor), 0);
	return cursor;
}

static unsigned number_of(const struct eloq_entry_view *entry)
{
	char text[6] = { 0 };

	ck_assert_uint_eq(entry->key_bytes, 5);
	memcpy(text, entry->key, 5);
	return (unsigned)strtoul(text, NULL, 10);
}

/* The scan gives the keys from @first to before @end, each with its value. */
static void expect_range(struct client_world *world, const struct eloq_scan_opts *opts,
			 unsigned first, unsigned end, unsigned repeat)
{
	struct eloq_scan_cursor *cursor = open_scan(world, opts);
	struct eloq_entry_view entry;
	int r;

	for (unsigned i = first; i < end; i++) {
		r = eloq_scan_next(cursor, &entry);
		ck_assert_msg(r == 1, "entry %u: %d", i, r);
		ck_assert_uint_eq(number_of(&entry), i);
		ck_assert_uint_eq(entry.partition,
				  eloq_table_partition(world->table, entry.key, entry.key_bytes));
		ck_assert_uint_gt(entry.timestamp, 0);
		ck_assert_uint_eq(entry.value_bytes, (size_t)repeat * 5);
		if (repeat)
			ck_assert(memcmp((const char *)entry.value + (repeat - 1) * 5UL, entry.key,
					 5) == 0);
	}
	for (unsigned i = 0; i < 3; i++) /* the end stays the end */
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	eloq_scan_close(cursor);
}

TEST(all_partitions_come_merged_in_key_order)
{
	struct client_world world;

	client_world_open(&world, NULL);
	expect_range(&world, NULL, 0, 0, 0); /* nothing there yet */
	fill(&world, 3000, 20);
	expect_range(&world, NULL, 0, 3000, 20);
	client_world_close(&world);
}

TEST(pages_of_any_size_give_the_same_entries)
{
	static const uint32_t sizes[] = { 1, 1024, 2000, 16344, 16345, 65536, 1 << 20 };
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts) };

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 3 });
	fill(&world, 500, 100);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		opts.page_bytes = sizes[i];
		expect_range(&world, &opts, 0, 500, 100);
	}
	client_world_close(&world);
}

TEST(both_bounds_hold_and_an_empty_range_is_empty)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
				       .from = "00010",
				       .from_bytes = 5,
				       .to = "00020",
				       .to_bytes = 5 };

	client_world_open(&world, NULL);
	fill(&world, 100, 1);
	expect_range(&world, &opts, 10, 20, 1);
	opts.from_exclusive = 1;
	expect_range(&world, &opts, 11, 20, 1);
	opts.to = "00010";
	expect_range(&world, &opts, 0, 0, 1);
	opts.from_exclusive = 0;
	expect_range(&world, &opts, 0, 0, 1);
	opts.to = "0001";
	opts.to_bytes = 4;
	expect_range(&world, &opts, 0, 0, 1);
	opts.from_bytes = 0;
	expect_range(&world, &opts, 0, 10, 1);
	opts.to_bytes = 0; /* nothing is below the empty key */
	expect_range(&world, &opts, 0, 0, 1);
	opts.to = NULL;
	opts.from = "00095";
	opts.from_bytes = 5;
	expect_range(&world, &opts, 95, 100, 1);
	opts.from = "x";
	opts.from_bytes = 1;
	expect_range(&world, &opts, 0, 0, 1);
	client_world_close(&world);
}

TEST(the_limit_counts_entries_over_all_partitions)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts) };

	client_world_open(&world, NULL);
	fill(&world, 200, 3);
	for (unsigned limit = 1; limit <= 256; limit += 17) {
		opts.limit = limit;
		expect_range(&world, &opts, 0, limit < 200 ? limit : 200, 3);
	}
	opts.limit = 200;
	expect_range(&world, &opts, 0, 200, 3);
	client_world_close(&world);
}

TEST(keys_alone_come_without_values)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .keys_only = 1 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;

	client_world_open(&world, NULL);
	fill(&world, 100, 10);
	cursor = open_scan(&world, &opts);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		ck_assert_uint_eq(number_of(&entry), i);
		ck_assert_ptr_null(entry.value);
		ck_assert_uint_eq(entry.value_bytes, 0);
	}
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(one_partition_alone_can_be_scanned)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
				       .partition_set = 1,
				       .page_bytes = 1024 };
	struct eloq_entry_view entry;
	unsigned seen = 0;

	client_world_open(&world, NULL);
	fill(&world, 400, 10);
	for (opts.partition = 0; opts.partition < 8; opts.partition++) {
		struct eloq_scan_cursor *cursor = open_scan(&world, &opts);
		unsigned before = 0;

		while (eloq_scan_next(cursor, &entry) == 1) {
			ck_assert_uint_eq(entry.partition, opts.partition);
			ck_assert(before == 0 || number_of(&entry) > before);
			before = number_of(&entry);
			seen++;
		}
		eloq_scan_close(cursor);
	}
	ck_assert_uint_eq(seen, 400);
	ck_assert_int_eq(eloq_scan_open(world.channel, world.table, &opts,
					&(struct eloq_scan_cursor *){ NULL }),
			 -EINVAL); /* there is no partition 8 */
	client_world_close(&world);
}

TEST(entries_longer_than_a_page_come_whole)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 2000 };
	static const size_t sizes[] = { 3, 1500, 16300, 16400, 70000, 0, 1 << 20, 10, 3 << 20 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;

	client_world_open(&world, NULL);
	for (unsigned round = 0; round < 2; round++) {
		for (char i = 0; i < 9; i++) {
			uint8_t *value = client_world_bytes((uint64_t)i, sizes[(unsigned)i]);

			ck_assert_int_eq(eloq_put(world.channel, world.table, &i, 1, value,
						  sizes[(unsigned)i], NULL),
					 0);
			free(value);
		}
		cursor = open_scan(&world, round ? NULL : &opts);
		for (char i = 0; i < 9; i++) {
			uint8_t *value = client_world_bytes((uint64_t)i, sizes[(unsigned)i]);

			ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
			ck_assert_int_eq(*(const char *)entry.key, i);
			ck_assert_uint_eq(entry.value_bytes, sizes[(unsigned)i]);
			ck_assert(memcmp(entry.value, value, entry.value_bytes) == 0);
			free(value);
		}
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
		eloq_scan_close(cursor);
	}
	client_world_close(&world);
}

TEST(a_scan_without_memory_for_bulk_takes_shorter_pages)
{
	struct client_world world;

	client_world_open(&world, &(struct fake_daemon_opts){ .bulk_bytes_max = 1 });
	fill(&world, 2000, 50);
	expect_range(&world, NULL, 0, 2000, 50);
	ck_assert_uint_eq(client_world_figures(&world).bulks_opened, 0);
	client_world_close(&world);
}

/* --- Faults ------------------------------------------------------------------------------------
 */

TEST(after_an_error_the_cursor_goes_on_where_it_was)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 1024 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	unsigned errors = 0, refused_at = 1;

	client_world_open(&world, NULL);
	fill(&world, 1000, 10);
	cursor = open_scan(&world, &opts);
	for (unsigned i = 0; i < 1000;) {
		int r;

		if (i % 50 == 0 && i != refused_at)
			fake_daemon_refuse(world.daemon, ELOQ_OP_SCAN, ELOQ_STATUS_IO_ERROR, "", 1);
		refused_at = i % 50 == 0 ? i : 1;
		r = eloq_scan_next(cursor, &entry);
		if (r == -EIO) {
			errors++;
			continue;
		}
		ck_assert_int_eq(r, 1);
		ck_assert_uint_eq(number_of(&entry), i);
		i++;
	}
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	ck_assert_uint_gt(errors, 5);
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(an_error_while_partitions_are_looked_up_can_be_tried_again)
{
	struct client_world world;
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;

	client_world_open(&world, NULL);
	fill(&world, 10, 1);
	cursor = open_scan(&world, NULL);
	fake_daemon_refuse(world.daemon, ELOQ_OP_PARTITIONS, ELOQ_STATUS_TOO_MANY, "busy", 2);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_str_eq(eloq_channel_words(world.channel), "busy");
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
	ck_assert_uint_eq(number_of(&entry), 0);
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(a_scan_outlives_its_workers)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 1500 };

	client_world_open(&world,
			  &(struct fake_daemon_opts){ .seed = 11, .late = 300, .dead_turns = 2 });
	fill(&world, 1500, 10);
	fake_daemon_set_faults(world.daemon, 300, 30, 30);
	for (unsigned i = 0; i < 3; i++)
		expect_range(&world, &opts, 0, 1500, 10);
	ck_assert_uint_gt(client_world_figures(&world).deaths, 5);
	client_world_close(&world);
}

TEST(a_scan_whose_time_is_over_can_be_asked_again)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 2000000 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;

	client_world_open(&world, NULL);
	fill(&world, 100, 1);
	cursor = open_scan(&world, &opts);
	fake_daemon_hold_answers(world.daemon, true);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), -ETIMEDOUT);
	fake_daemon_hold_answers(world.daemon, false);
	for (unsigned i = 0; i < 100;) {
		int r = eloq_scan_next(cursor, &entry);

		if (r == -ETIMEDOUT) /* on a busy machine */
			continue;
		ck_assert_int_eq(r, 1);
		ck_assert_uint_eq(number_of(&entry), i);
		i++;
	}
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(a_cursor_may_be_closed_with_pages_under_way)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 2048 };
	struct eloq_entry_view entry;

	client_world_open(&world, &(struct fake_daemon_opts){ .late = 800, .seed = 2 });
	fill(&world, 1000, 20);
	for (unsigned i = 0; i < 60; i += 3) {
		struct eloq_scan_cursor *cursor = open_scan(&world, &opts);

		for (unsigned k = 0; k < i * 10; k++)
			ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		eloq_scan_close(cursor);
		client_world_expect(&world, "none", NULL);
	}
	eloq_scan_close(NULL);
	client_world_close(&world);
}

TEST(a_cursor_of_a_dead_daemon_says_so)
{
	struct client_world world;
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;

	client_world_open(&world, NULL);
	fill(&world, 10, 1);
	cursor = open_scan(&world, NULL);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
	fake_daemon_hang_up(world.daemon);
	while (eloq_scan_next(cursor, &entry) == 1)
		;
	ck_assert_int_eq(client_world_put(&world, "a", "b"), -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), -ELOQ_CLIENT_ECLOSED);
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(a_cursor_and_async_requests_share_a_channel)
{
	struct client_world world;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 1024 };
	struct eloq_scan_cursor *cursor;
	struct eloq_completion completions[16];
	struct eloq_entry_view entry;
	unsigned completed = 0;

	client_world_open(&world, &(struct fake_daemon_opts){ .late = 500, .seed = 4 });
	fill(&world, 500, 10);
	cursor = open_scan(&world, &opts);
	for (unsigned i = 0; i < 500; i++) {
		int r;

		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		ck_assert_uint_eq(number_of(&entry), i);
		r = eloq_submit_get(world.channel, world.table, entry.key, entry.key_bytes, NULL,
				    NULL);
		ck_assert(r == 0 || r == -EAGAIN);
		if (i % 7 == 0 || r == -EAGAIN)
			completed += (unsigned)eloq_poll(world.channel, completions, 16, 0);
		completed += r == -EAGAIN;
	}
	while (eloq_in_flight(world.channel) > 0)
		completed += (unsigned)eloq_poll(world.channel, completions, 16, UINT64_MAX);
	ck_assert_uint_eq(completed, 500);
	eloq_scan_close(cursor);
	client_world_close(&world);
}

/* --- Partitions and figures --------------------------------------------------------------------
 */

struct seen {
	uint32_t ids[16];
	unsigned count, end_at;
};

static int see_partition(void *arg, uint32_t partition)
{
	struct seen *seen = arg;

	seen->ids[seen->count++] = partition;
	return seen->count == seen->end_at ? 5 : 0;
}

TEST(partitions_that_exist_are_told_in_order)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_table *table;
	struct seen seen = { 0 };

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 3 });
	fake_daemon_add_table(world.daemon, "adopted", 0, true);
	ck_assert_int_eq(eloq_table_open(world.client, "adopted", &table, NULL), 0);
	ck_assert_int_eq(eloq_table_partitions(world.channel, table, see_partition, &seen), 0);
	ck_assert_uint_eq(seen.count, 0);
	for (uint32_t i = 0; i < 14; i++) {
		opts.partition = i * i * 1000;
		ck_assert_int_eq(eloq_put(world.channel, table, &i, 4, "v", 1, &opts), 0);
	}
	ck_assert_int_eq(eloq_table_partitions(world.channel, table, see_partition, &seen), 0);
	ck_assert_uint_eq(seen.count, 14);
	for (uint32_t i = 0; i < 14; i++)
		ck_assert_uint_eq(seen.ids[i], i * i * 1000);
	seen = (struct seen){ .end_at = 3 };
	ck_assert_int_eq(eloq_table_partitions(world.channel, table, see_partition, &seen), 5);
	ck_assert_uint_eq(seen.count, 3);
	client_world_close(&world);
}

TEST(a_scan_of_an_adopted_table_goes_over_all_its_partitions)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	struct eloq_table *table;

	client_world_open(&world, NULL);
	fake_daemon_add_table(world.daemon, "adopted", 0, true);
	ck_assert_int_eq(eloq_table_open(world.client, "adopted", &table, NULL), 0);
	for (opts.partition = 9; opts.partition < 14; opts.partition++)
		for (const char *c = "abc"; *c; c++)
			ck_assert_int_eq(eloq_put(world.channel, table, c, 1, "v", 1, &opts), 0);
	ck_assert_int_eq(eloq_scan_open(world.channel, table, NULL, &cursor), 0);
	/* One key in several partitions comes once for each, in their order. */
	for (unsigned i = 0; i < 15; i++) {
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		ck_assert_int_eq(*(const char *)entry.key, 'a' + (int)(i / 5));
		ck_assert_uint_eq(entry.partition, 9 + i % 5);
	}
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	eloq_scan_close(cursor);
	client_world_close(&world);
}

TEST(a_tables_figures_are_the_sum_of_its_partitions)
{
	struct client_world world;
	struct eloq_table_stat stat = { 0 };

	client_world_open(&world, NULL);
	fill(&world, 100, 1);
	ck_assert_int_eq(eloq_table_stat(world.channel, world.table, &stat), 0);
	ck_assert_uint_eq(stat.partitions, 8);
	ck_assert_uint_eq(stat.pages, 100);
	ck_assert_uint_eq(stat.file_pages, 200);
	ck_assert_uint_eq(stat.page_bytes, 4096);
	ck_assert_uint_eq(stat.manifest_bytes, 8 * 4096);
	ck_assert_uint_eq(stat.ttl_partitions, 1);
	fake_daemon_refuse(world.daemon, ELOQ_OP_PARTITION_STAT, ELOQ_STATUS_CORRUPT, "bad", 1);
	ck_assert_int_eq(eloq_table_stat(world.channel, world.table, &stat), -ELOQ_CLIENT_ECORRUPT);
	client_world_close(&world);
}
