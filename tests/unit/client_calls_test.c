/* The blocking calls: one key, batches, long values, limits, refusals, time limits. */
#include "client/eloqclient.h"
#include "tests/support/fake_daemon.h"
#include "tests/unit/client_world.h"

#include <sys/mman.h>
#include <unistd.h>

static void put_bytes(struct client_world *world, const char *key, uint64_t seed, size_t bytes)
{
	uint8_t *value = client_world_bytes(seed, bytes);

	ck_assert_int_eq(
		eloq_put(world->channel, world->table, key, strlen(key), value, bytes, NULL), 0);
	free(value);
}

static void expect_bytes(struct client_world *world, const char *key, uint64_t seed, size_t bytes)
{
	uint8_t *expected = client_world_bytes(seed, bytes);
	struct eloq_value value = { 0 };

	ck_assert_int_eq(eloq_get(world->channel, world->table, key, strlen(key), &value, NULL), 0);
	ck_assert_uint_eq(value.bytes, bytes);
	ck_assert(memcmp(value.data, expected, bytes) == 0);
	eloq_value_free(&value);
	free(expected);
}

TEST(what_was_put_is_got_until_it_is_deleted)
{
	struct client_world world;

	client_world_open(&world, NULL);
	client_world_expect(&world, "key", NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	client_world_expect(&world, "key", "value");
	ck_assert_int_eq(client_world_put(&world, "key", "another"), 0);
	client_world_expect(&world, "key", "another");
	ck_assert_int_eq(client_world_put(&world, "key", ""), 0);
	client_world_expect(&world, "key", "");
	ck_assert_int_eq(eloq_delete(world.channel, world.table, "key", 3, NULL), 0);
	client_world_expect(&world, "key", NULL);
	ck_assert_int_eq(eloq_delete(world.channel, world.table, "key", 3, NULL),
			 -ELOQ_CLIENT_ENOTFOUND);
	client_world_close(&world);
}

TEST(a_value_comes_with_its_timestamp_and_a_zero_behind_it)
{
	struct client_world world;
	struct eloq_value first = { 0 }, second = { 0 };

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "a", "1"), 0);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "a", 1, &first, NULL), 0);
	ck_assert_int_eq(client_world_put(&world, "a", "2"), 0);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "a", 1, &second, NULL), 0);
	ck_assert_uint_gt(second.timestamp, first.timestamp);
	ck_assert_uint_eq(second.expire_ms, 0);
	ck_assert_str_eq(second.data, "2");
	eloq_value_free(&first);
	eloq_value_free(&first);
	eloq_value_free(&second);
	client_world_close(&world);
}

TEST(keys_and_values_of_any_bytes_and_all_lengths_come_back)
{
	struct client_world world;
	uint8_t key[2048];

	client_world_open(&world, NULL);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 3);
	for (size_t bytes = 1; bytes <= sizeof(key); bytes += 89) {
		struct eloq_value value = { 0 };

		ck_assert_int_eq(eloq_put(world.channel, world.table, key, bytes, key, bytes, NULL),
				 0);
		ck_assert_int_eq(eloq_get(world.channel, world.table, key, bytes, &value, NULL), 0);
		ck_assert_uint_eq(value.bytes, bytes);
		ck_assert(memcmp(value.data, key, bytes) == 0);
		eloq_value_free(&value);
	}
	client_world_close(&world);
}

/* Across every boundary: default room, a quarter of either ring, the sizes of bulk memory. */
TEST(values_around_every_boundary_come_back)
{
	static const size_t sizes[] = { 0,     1,      1000,	1023,	 1024,		1025,
					4096,  8100,   8151,	8152,	 8153,		8192,
					16343, 16344,  16345,	16384,	 65535,		65536,
					65537, 131072, 1000000, 1 << 20, (1 << 20) + 1, 5000000 };
	struct client_world world;

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		put_bytes(&world, "key", i, sizes[i]);
		expect_bytes(&world, "key", i, sizes[i]);
	}
	client_world_close(&world);
}

TEST(the_longest_value_goes_both_ways)
{
	struct client_world world;
	const size_t bytes = 64 << 20;
	struct eloq_value value = { 0 };
	uint8_t *sent = client_world_bytes(3, bytes);

	client_world_open(&world, &(struct fake_daemon_opts){ .value_bytes_max = 64 << 20 });
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, sent, bytes + 1, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, sent, bytes, NULL), 0);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "k", 1, &value, NULL), 0);
	ck_assert_uint_eq(value.bytes, bytes);
	ck_assert(memcmp(value.data, sent, bytes) == 0);
	eloq_value_free(&value);
	free(sent);
	client_world_close(&world);
}

TEST(bulk_memory_is_used_again_and_not_hoarded)
{
	struct client_world world;
	struct eloq_op_opts first = { .opts_bytes = sizeof(first), .partition_set = 1 };
	uint8_t *value = client_world_bytes(1, 4 << 20);

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(
			eloq_put(world.channel, world.table, "k", 1, value, 60000 + i, &first), 0);
	ck_assert_uint_eq(client_world_figures(&world).bulks_opened, 1);
	/* The first get needs to be told how much room it takes; the others bring it along. */
	for (unsigned i = 0; i < 20; i++) {
		struct eloq_value got = { 0 };

		ck_assert_int_eq(eloq_get(world.channel, world.table, "k", 1, &got, &first), 0);
		eloq_value_free(&got);
	}
	ck_assert_uint_eq(client_world_figures(&world).bulks_opened, 2);
	ck_assert_uint_eq(client_world_figures(&world).need_bulk, 1);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(
			eloq_put(world.channel, world.table, "k", 1, value, 4 << 20, &first), 0);
	/* The first large one is closed at once; then they are in demand, and one serves all. */
	ck_assert_uint_eq(client_world_figures(&world).bulks_opened, 4);
	ck_assert_uint_ge(client_world_figures(&world).bulk_bytes, 4 << 20);
	/* A large one that lies idle for a second goes with the next request. */
	usleep(1100000);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, value, 10, &first), 0);
	ck_assert_uint_lt(client_world_figures(&world).bulk_bytes, 1 << 20);
	ck_assert_uint_eq(client_world_figures(&world).bulks, 2);
	free(value);
	client_world_close(&world);
}

TEST(without_memory_for_bulk_the_call_fails_and_the_lane_goes_on)
{
	struct client_world world;
	uint8_t *value = client_world_bytes(1, 1 << 20);

	client_world_open(&world, &(struct fake_daemon_opts){ .bulk_bytes_max = 200 << 10 });
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, value, 1 << 20, NULL),
			 -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(client_world_put(&world, "k", "short"), 0);
	client_world_expect(&world, "k", "short");
	free(value);
	client_world_close(&world);
}

/* 128 KiB of 200 are kept from the way up when as much is needed for the way down. */
TEST(bulk_memory_that_is_kept_gives_way_to_what_is_needed)
{
	struct client_world world;

	client_world_open(&world, &(struct fake_daemon_opts){ .bulk_bytes_max = 200 << 10 });
	for (unsigned i = 0; i < 3; i++) {
		put_bytes(&world, "k", i, 100000);
		ck_assert_uint_eq(client_world_figures(&world).bulks, 1);
		expect_bytes(&world, "k", i, 100000);
		ck_assert_uint_eq(client_world_figures(&world).bulks, 1);
	}
	client_world_close(&world);
}

/* The memory ends where it says, and what lies behind would kill us. */
TEST(get_into_fills_the_callers_memory_and_not_a_byte_more)
{
	struct client_world world;
	uint8_t *pages =
		mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *end = pages + (1 << 20);
	size_t got = 0;

	ck_assert_int_eq(mprotect(end, 1 << 20, PROT_NONE), 0);
	client_world_open(&world, NULL);
	for (size_t bytes = 0; bytes < 1 << 20; bytes = bytes * 5 + 1) {
		uint8_t *expected = client_world_bytes(bytes, bytes);

		put_bytes(&world, "key", bytes, bytes);
		ck_assert_int_eq(eloq_get_into(world.channel, world.table, "key", 3, end - bytes,
					       bytes, &got, NULL),
				 0);
		ck_assert_uint_eq(got, bytes);
		ck_assert(memcmp(end - bytes, expected, bytes) == 0);
		free(expected);
		if (bytes == 0)
			continue;
		got = 0;
		ck_assert_int_eq(eloq_get_into(world.channel, world.table, "key", 3,
					       end - (bytes - 1), bytes - 1, &got, NULL),
				 -ELOQ_CLIENT_ETOOLONG);
		ck_assert_uint_eq(got, bytes);
	}
	got = 77;
	ck_assert_int_eq(
		eloq_get_into(world.channel, world.table, "none", 4, pages, 10, &got, NULL),
		-ELOQ_CLIENT_ENOTFOUND);
	ck_assert_uint_eq(got, 77);
	ck_assert_int_eq(eloq_get_into(world.channel, world.table, "key", 3, NULL, 10, &got, NULL),
			 -EINVAL);
	client_world_close(&world);
	munmap(pages, 2 << 20);
}

/* --- Arguments ---------------------------------------------------------------------------------
 */

TEST(limits_are_checked_at_the_call)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts) };
	uint8_t key[300] = { 1 };
	struct eloq_value value;

	client_world_open(
		&world, &(struct fake_daemon_opts){ .key_bytes_max = 256, .value_bytes_max = 100 });
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 0, "v", 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, NULL, 1, "v", 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 1, NULL, 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(world.channel, NULL, key, 1, "v", 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 256, "v", 1, NULL), 0);
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 257, "v", 1, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_get(world.channel, world.table, key, 257, &value, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 1, key, 101, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	opts.partition_set = 1;
	opts.partition = 8;
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 1, "v", 1, &opts), -EINVAL);
	ck_assert_int_eq(eloq_truncate(world.channel, world.table, 8, NULL), -EINVAL);
	opts = (struct eloq_op_opts){ .opts_bytes = sizeof(opts), .timestamp = 5 };
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 1, "v", 1, &opts), -EINVAL);
	opts = (struct eloq_op_opts){ 0 };
	ck_assert_int_eq(eloq_put(world.channel, world.table, key, 1, "v", 1, &opts), -EINVAL);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PUT], 1);
	client_world_close(&world);
}

TEST(a_table_of_another_client_is_refused)
{
	struct client_world world;
	struct eloq_client *other;
	struct eloq_table *table;

	client_world_open(&world, NULL);
	other = client_world_connect(world.daemon);
	ck_assert_int_eq(eloq_table_open(other, "t", &table, NULL), 0);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "v", 1, NULL), -EINVAL);
	eloq_disconnect(other);
	client_world_close(&world);
}

TEST(keys_are_routed_by_their_hash_and_callers_may_choose)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	unsigned seen = 0;

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];
		size_t bytes = (size_t)snprintf(key, sizeof(key), "key%u", i);

		opts.partition = eloq_table_partition(world.table, key, bytes);
		ck_assert_uint_lt(opts.partition, 8);
		seen |= 1u << opts.partition;
		ck_assert_int_eq(client_world_put(&world, key, "routed"), 0);
		ck_assert_int_eq(eloq_delete(world.channel, world.table, key, bytes, &opts), 0);
	}
	ck_assert_uint_eq(seen, 255);
	/* XXH3 with seed 0 of "abc", modulo 8: routing is part of what a store is. */
	ck_assert_uint_eq(eloq_table_partition(world.table, "abc", 3),
			  UINT64_C(0x78AF5F94892F3950) % 8);
	opts.partition = ELOQ_PARTITION_BY_KEY;
	ck_assert_int_eq(eloq_put(world.channel, world.table, "abc", 3, "v", 1, &opts), 0);
	client_world_expect(&world, "abc", "v");
	client_world_close(&world);
}

TEST(an_adopted_table_wants_a_partition_and_takes_any)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts),
				     .partition_set = 1,
				     .partition = 4000000000 };
	struct eloq_table *table;
	struct eloq_value value = { 0 };

	client_world_open(&world, NULL);
	fake_daemon_add_table(world.daemon, "adopted", 0, true);
	ck_assert_int_eq(eloq_table_open(world.client, "adopted", &table, NULL), 0);
	ck_assert_uint_eq(eloq_table_info(table)->partitions, 0);
	ck_assert_uint_eq(eloq_table_partition(table, "k", 1), 0);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "v", 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "v", 1, &opts), 0);
	ck_assert_int_eq(eloq_get(world.channel, table, "k", 1, &value, &opts), 0);
	ck_assert_str_eq(value.data, "v");
	eloq_value_free(&value);
	client_world_close(&world);
}

TEST(with_the_callers_timestamps_older_writes_are_ignored_and_say_so)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timestamp = 10 };
	struct eloq_table *table;
	struct eloq_value value = { 0 };

	client_world_open(&world, NULL);
	fake_daemon_add_table(world.daemon, "c", 4, true);
	ck_assert_int_eq(eloq_table_open(world.client, "c", &table, NULL), 0);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "ten", 3, &opts), 0);
	opts.timestamp = 9;
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "nine", 4, &opts), 1);
	ck_assert_int_eq(eloq_delete(world.channel, table, "k", 1, &opts), 1);
	ck_assert_int_eq(eloq_get(world.channel, table, "k", 1, &value, NULL), 0);
	ck_assert_str_eq(value.data, "ten");
	ck_assert_uint_eq(value.timestamp, 10);
	eloq_value_free(&value);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "next", 4, NULL), 0);
	ck_assert_int_eq(eloq_get(world.channel, table, "k", 1, &value, NULL), 0);
	ck_assert_uint_eq(value.timestamp, 11);
	eloq_value_free(&value);
	client_world_close(&world);
}

TEST(truncating_empties_one_partition)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };

	client_world_open(&world, NULL);
	for (opts.partition = 0; opts.partition < 2; opts.partition++)
		for (const char *c = "abcdefghij"; *c; c++)
			ck_assert_int_eq(eloq_put(world.channel, world.table, c, 1, "v", 1, &opts),
					 0);
	ck_assert_uint_eq(fake_daemon_entry_count(world.daemon, world.table_id), 20);
	ck_assert_int_eq(eloq_truncate(world.channel, world.table, 1, NULL), 0);
	ck_assert_uint_eq(fake_daemon_entry_count(world.daemon, world.table_id), 10);
	client_world_close(&world);
}

/* --- Refusals ----------------------------------------------------------------------------------
 */

TEST(each_status_of_a_worker_is_the_callers_error_with_its_words)
{
	static const struct {
		enum eloq_status status;
		int error;
	} cases[] = {
		{ ELOQ_STATUS_UNSUPPORTED, -ELOQ_CLIENT_EUNSUPPORTED },
		{ ELOQ_STATUS_INVALID, -EINVAL },
		{ ELOQ_STATUS_NO_TABLE, -ELOQ_CLIENT_ENOTFOUND },
		{ ELOQ_STATUS_WRONG_SHARD, -EINVAL },
		{ ELOQ_STATUS_CORRUPT, -ELOQ_CLIENT_ECORRUPT },
		{ ELOQ_STATUS_IO_ERROR, -EIO },
		{ ELOQ_STATUS_NO_SPACE, -ENOSPC },
		{ ELOQ_STATUS_NO_MEMORY, -ENOMEM },
		{ ELOQ_STATUS_TOO_LONG, -ELOQ_CLIENT_ETOOLONG },
		{ ELOQ_STATUS_ORDER, -ELOQ_CLIENT_EORDER },
		{ ELOQ_STATUS_DENIED, -ELOQ_CLIENT_EDENIED },
		{ ELOQ_STATUS_TOO_MANY, -ELOQ_CLIENT_ETOOMANY },
		{ ELOQ_STATUS_STOPPED, -ELOQ_CLIENT_ESTOPPED },
		{ ELOQ_STATUS_READ_ONLY, -ELOQ_CLIENT_EREADONLY },
		{ ELOQ_STATUS_TIMED_OUT, -ETIMEDOUT },
		{ (enum eloq_status)99, -ELOQ_CLIENT_EPROTOCOL },
	};
	struct client_world world;

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_daemon_refuse(world.daemon, ELOQ_OP_PUT, cases[i].status, "why it is so", 1);
		ck_assert_int_eq(client_world_put(&world, "key", "refused"), cases[i].error);
		ck_assert_str_eq(eloq_channel_words(world.channel), "why it is so");
		ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
		ck_assert_str_eq(eloq_channel_words(world.channel), "");
		client_world_expect(&world, "key", "value");
	}
	ck_assert_str_eq(eloq_channel_words(NULL), "");
	client_world_close(&world);
}

TEST(a_get_of_a_damaged_partition_says_where)
{
	struct client_world world;
	struct eloq_value value = { 0 };

	client_world_open(&world, NULL);
	fake_daemon_refuse(world.daemon, ELOQ_OP_GET, ELOQ_STATUS_CORRUPT,
			   "data_3 offset 8192: checksum", 1);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "k", 1, &value, NULL),
			 -ELOQ_CLIENT_ECORRUPT);
	ck_assert_ptr_null(value.data);
	ck_assert_str_eq(eloq_channel_words(world.channel), "data_3 offset 8192: checksum");
	client_world_close(&world);
}

TEST(a_lane_that_the_worker_closes_ends_its_calls_with_the_reason)
{
	struct client_world world;
	struct eloq_channel *channel;

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	fake_daemon_close_lanes(world.daemon, ELOQ_LANE_REASON_STOPPED);
	ck_assert_int_eq(client_world_put(&world, "key", "other"), -ELOQ_CLIENT_ESTOPPED);
	ck_assert_int_eq(client_world_put(&world, "key", "other"), -ELOQ_CLIENT_ESTOPPED);
	/* Another channel has lanes of its own. */
	ck_assert_int_eq(eloq_channel_open(world.client, &channel), 0);
	ck_assert_int_eq(eloq_put(channel, world.table, "key", 3, "third", 5, NULL), 0);
	fake_daemon_close_lanes(world.daemon, ELOQ_LANE_REASON_BAD_ID);
	ck_assert_int_eq(eloq_put(channel, world.table, "key", 3, "third", 5, NULL),
			 -ELOQ_CLIENT_EPROTOCOL);
	ck_assert_ptr_nonnull(strstr(eloq_channel_words(channel), "ids"));
	client_world_close(&world);
}

/* --- Time --------------------------------------------------------------------------------------
 */

TEST(a_call_ends_when_its_time_is_over_and_its_late_answer_is_dropped)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts),
				     .partition_set = 1,
				     .timeout_ns = 2000000 };
	struct eloq_op_opts patient = { .opts_bytes = sizeof(patient), .partition_set = 1 };
	struct eloq_value value = { 0 };
	uint8_t *bytes = client_world_bytes(1, 100000);

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "first", 5, &patient), 0);
	fake_daemon_hold_answers(world.daemon, true);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, bytes, 100000, &opts),
				 -ETIMEDOUT);
		ck_assert_int_eq(eloq_get(world.channel, world.table, "k", 1, &value, &opts),
				 -ETIMEDOUT);
	}
	/* Memory of a request that was given up is not used again before its answer. */
	ck_assert_uint_ge(client_world_figures(&world).bulks, 3);
	fake_daemon_hold_answers(world.daemon, false);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, bytes, i, &patient),
				 0);
		ck_assert_int_eq(eloq_get(world.channel, world.table, "k", 1, &value, &patient), 0);
		ck_assert_uint_eq(value.bytes, i);
		eloq_value_free(&value);
	}
	ck_assert_uint_le(client_world_figures(&world).bulks, 4);
	free(bytes);
	client_world_close(&world);
}

TEST(a_time_limit_also_holds_while_the_worker_is_away)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 2000000 };

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	fake_daemon_kill_worker(world.daemon, 0);
	for (unsigned i = 0; i < 50; i++)
		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "late", 4, &opts),
				 -ETIMEDOUT);
	fake_daemon_revive_worker(world.daemon, 0);
	client_world_expect(&world, "k", NULL); /* nobody had seen those puts */
	ck_assert_int_eq(client_world_put(&world, "k", "now"), 0);
	client_world_expect(&world, "k", "now");
	client_world_close(&world);
}

TEST(a_plentiful_time_limit_changes_nothing)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = UINT64_MAX };

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "v", 1, &opts), 0);
	opts.timeout_ns = UINT64_C(60000000000);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "w", 1, &opts), 0);
	client_world_expect(&world, "k", "w");
	client_world_close(&world);
}

/* --- Batches -----------------------------------------------------------------------------------
 */

TEST(of_two_entries_for_one_key_the_later_counts_whatever_the_order)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_batch *batch;
	struct eloq_batch_result result;
	struct eloq_value value = { 0 };

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "b", 1, "1", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, "2", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "b", 1, "3", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_delete(batch, "a", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "ab", 2, "", 0, 0), 0);
	ck_assert_uint_eq(eloq_batch_count(batch), 5);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 2);
	ck_assert_uint_eq(result.absent, 1);
	ck_assert_uint_eq(result.older, 0);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "b", 1, &value, &opts), 0);
	ck_assert_str_eq(value.data, "3");
	eloq_value_free(&value);
	ck_assert_int_eq(eloq_get(world.channel, world.table, "a", 1, &value, &opts),
			 -ELOQ_CLIENT_ENOTFOUND);
	/* It can be sent again, and grow. */
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, "4", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 3);
	eloq_batch_clear(batch);
	ck_assert_uint_eq(eloq_batch_count(batch), 0);
	ck_assert_uint_eq(eloq_batch_bytes(batch), 8);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, NULL, NULL), 0);
	eloq_batch_free(batch);
	eloq_batch_free(NULL);
	client_world_close(&world);
}

TEST(a_batch_over_two_partitions_is_refused_unless_one_is_named)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_batch *batch;
	char elsewhere = 'b';

	client_world_open(&world, NULL);
	while (eloq_table_partition(world.table, &elsewhere, 1) ==
	       eloq_table_partition(world.table, "a", 1))
		elsewhere++;
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, "1", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, NULL, NULL), 0);
	client_world_expect(&world, "a", "1");
	ck_assert_int_eq(eloq_batch_put(batch, &elsewhere, 1, "2", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, NULL, NULL), -EXDEV);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, NULL, &opts), 0);
	eloq_batch_free(batch);
	client_world_close(&world);
}

TEST(a_batch_longer_than_the_ring_goes_through_bulk_memory)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_batch *batch;
	struct eloq_batch_result result;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	for (unsigned i = 5000; i-- > 0;) {
		char key[16];
		size_t bytes = (size_t)snprintf(key, sizeof(key), "k%05u", i);

		ck_assert_int_eq(eloq_batch_put(batch, key, bytes, key, bytes, 0), 0);
	}
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 5000);
	ck_assert_uint_eq(fake_daemon_entry_count(world.daemon, world.table_id), 5000);
	ck_assert_uint_eq(client_world_figures(&world).in_bulk, 1);
	eloq_batch_free(batch);
	client_world_close(&world);
}

TEST(a_batch_keeps_limits_and_timestamps)
{
	struct client_world world;
	struct eloq_batch *batch;
	struct eloq_batch_result result;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_table *table;
	uint8_t key[300] = { 1 };
	uint8_t value[600] = { 0 };

	client_world_open(&world, &(struct fake_daemon_opts){ .key_bytes_max = 256,
							      .value_bytes_max = 1000 });
	fake_daemon_add_table(world.daemon, "c", 4, true);
	ck_assert_int_eq(eloq_table_open(world.client, "c", &table, NULL), 0);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	ck_assert_int_eq(eloq_batch_put(batch, key, 0, "", 0, 0), -EINVAL);
	ck_assert_int_eq(eloq_batch_put(batch, key, 1, NULL, 1, 0), -EINVAL);
	ck_assert_int_eq(eloq_batch_put(batch, key, 40000, "", 0, 0), -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_batch_put(batch, key, 257, "", 0, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, table, batch, NULL, &opts),
			 -ELOQ_CLIENT_ETOOLONG);
	eloq_batch_clear(batch);
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, value, 600, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "b", 1, value, 600, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, table, batch, NULL, &opts),
			 -ELOQ_CLIENT_ETOOLONG);
	eloq_batch_clear(batch);
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, "x", 1, 7), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "b", 1, "y", 1, 0), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, world.table, batch, NULL, &opts), -EINVAL);
	opts.timestamp = 5; /* of those that have none */
	ck_assert_int_eq(eloq_batch_write(world.channel, table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 2);
	eloq_batch_clear(batch);
	ck_assert_int_eq(eloq_batch_put(batch, "a", 1, "old", 3, 6), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "b", 1, "new", 3, 6), 0);
	ck_assert_int_eq(eloq_batch_write(world.channel, table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 1);
	ck_assert_uint_eq(result.older, 1);
	eloq_batch_free(batch);
	client_world_close(&world);
}
