/*
 * service_test.c - what an application sees of the service through the library: real supervisor,
 * real workers, both back-ends. One key at a time, tables, batches.
 */
#include "tests/support/service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- One key -------------------------------------------------------------------------------------
 */

static void put_get_delete(const char *io, unsigned shards)
{
	struct service s;

	service_start(&s, io, shards);
	ck_assert_uint_eq(eloq_shard_count(s.client), shards);
	service_expect_absent(&s, "apple");
	service_put_text(&s, "apple", "red");
	service_expect_text(&s, "apple", "red");
	service_put_text(&s, "apple", "green");
	service_put_text(&s, "pear", "yellow");
	service_expect_text(&s, "apple", "green");
	ck_assert_int_eq(eloq_delete(s.channel, s.table, "apple", 5, NULL), 0);
	ck_assert_int_eq(eloq_delete(s.channel, s.table, "apple", 5, NULL), -ELOQ_CLIENT_ENOTFOUND);
	service_expect_absent(&s, "apple");
	service_expect_text(&s, "pear", "yellow");
	service_stop(&s);
}

TEST_ON_BOTH(one_shard_puts_gets_and_deletes)
{
	put_get_delete(io, 1);
}

TEST_ON_BOTH(two_shards_put_get_and_delete)
{
	put_get_delete(io, 2);
}

TEST_ON_BOTH(values_of_any_size_come_back_also_after_a_restart)
{
	static const size_t sizes[] = { 0, 1, 100, 8 << 10, 100 << 10, 1 << 20, 64u << 20 };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	uint8_t *value = malloc(64u << 20);
	struct service s;
	char key[32];

	ck_assert_ptr_nonnull(value);
	service_start(&s, io, 2);
	ck_assert_uint_ge(eloq_value_bytes_max(s.client), 64u << 20);
	for (unsigned i = 0; i < SIZES; i++) {
		(void)snprintf(key, sizeof(key), "value-of-%zu", sizes[i]);
		service_fill(value, sizes[i], sizes[i]);
		service_put(&s, key, value, sizes[i]);
		service_expect(&s, key, value, sizes[i]);
	}
	service_restart(&s);
	for (unsigned i = 0; i < SIZES; i++) {
		(void)snprintf(key, sizeof(key), "value-of-%zu", sizes[i]);
		service_fill(value, sizes[i], sizes[i]);
		service_expect(&s, key, value, sizes[i]);
	}
	free(value);
	service_stop(&s);
}

TEST_ON_BOTH(reading_into_memory_that_is_too_small_tells_the_length)
{
	char value[5000], small[100];
	size_t bytes = 0;
	struct service s;

	service_start(&s, io, 1);
	memset(value, 'v', sizeof(value));
	service_put(&s, "k", value, sizeof(value));
	ck_assert_int_eq(
		eloq_get_into(s.channel, s.table, "k", 1, small, sizeof(small), &bytes, NULL),
		-ELOQ_CLIENT_ETOOLONG);
	ck_assert_uint_eq(bytes, sizeof(value));
	memset(value, 0, sizeof(value));
	ck_assert_int_eq(
		eloq_get_into(s.channel, s.table, "k", 1, value, sizeof(value), &bytes, NULL), 0);
	ck_assert_uint_eq(bytes, sizeof(value));
	ck_assert_int_eq(value[4999], 'v');
	service_stop(&s);
}

TEST_ON_BOTH(keys_have_one_byte_to_half_a_page_of_any_content)
{
	struct service s;
	struct eloq_value value;
	uint8_t *key;
	size_t max;

	service_start(&s, io, 2);
	max = eloq_key_bytes_max(s.client);
	ck_assert_uint_ge(max, 1024);
	key = malloc(max + 1);
	ck_assert_ptr_nonnull(key);
	memset(key, 0, max + 1);
	for (size_t bytes = 1; bytes <= max;
	     bytes = bytes < max / 2 ? bytes * 2 : bytes + max / 4) {
		ck_assert_int_eq(
			eloq_put(s.channel, s.table, key, bytes, &bytes, sizeof(bytes), NULL), 0);
	}
	ck_assert_int_eq(eloq_put(s.channel, s.table, key, max, "longest", 7, NULL), 0);
	for (size_t bytes = 1; bytes <= max / 2; bytes *= 2) {
		ck_assert_int_eq(eloq_get(s.channel, s.table, key, bytes, &value, NULL), 0);
		ck_assert_uint_eq(value.bytes, sizeof(bytes));
		ck_assert_int_eq(memcmp(value.data, &bytes, sizeof(bytes)), 0);
		eloq_value_free(&value);
	}
	ck_assert_int_eq(eloq_get(s.channel, s.table, key, max, &value, NULL), 0);
	ck_assert_uint_eq(value.bytes, 7);
	eloq_value_free(&value);
	free(key);
	service_stop(&s);
}

TEST_ON_BOTH(what_is_over_a_limit_is_refused_at_the_call_and_named)
{
	struct service s;
	struct eloq_value value = { 0 };
	struct eloq_op_opts far = { .opts_bytes = sizeof(far),
				    .partition_set = 1,
				    .partition = SERVICE_PARTITIONS };
	struct eloq_op_opts stamped = { .opts_bytes = sizeof(stamped), .timestamp = 5 };
	uint8_t *key;
	size_t max;

	service_start(&s, io, 1);
	max = eloq_key_bytes_max(s.client);
	key = calloc(1, max + 1);
	ck_assert_ptr_nonnull(key);
	ck_assert_int_eq(eloq_put(s.channel, s.table, key, 0, "v", 1, NULL), -EINVAL);
	ck_assert_int_eq(eloq_get(s.channel, s.table, key, 0, &value, NULL), -EINVAL);
	ck_assert_int_eq(eloq_put(s.channel, s.table, key, max + 1, "v", 1, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_get(s.channel, s.table, key, max + 1, &value, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_delete(s.channel, s.table, key, max + 1, NULL),
			 -ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(
		eloq_put(s.channel, s.table, "k", 1, key, eloq_value_bytes_max(s.client) + 1, NULL),
		-ELOQ_CLIENT_ETOOLONG);
	ck_assert_ptr_nonnull(strstr(eloq_strerror(-ELOQ_CLIENT_ETOOLONG), "limit"));
	ck_assert_int_eq(eloq_put(s.channel, s.table, "k", 1, "v", 1, &far), -EINVAL);
	ck_assert_int_eq(eloq_put(s.channel, s.table, "k", 1, "v", 1, &stamped), -EINVAL);
	ck_assert_int_eq(eloq_put(NULL, s.table, "k", 1, "v", 1, NULL), -ELOQ_CLIENT_ETOOMANY);
	service_expect_absent(&s, "k");
	free(key);
	service_stop(&s);
}

TEST_ON_BOTH(a_call_whose_time_has_passed_says_so)
{
	struct service s;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 300000000 };
	pid_t workers[DAEMON_SHARDS_MAX];
	struct eloq_value value = { 0 };

	service_start(&s, io, 1);
	service_put_text(&s, "k", "v");
	daemon_workers(&s.daemon, workers);
	ck_assert_int_eq(kill(workers[0], SIGSTOP), 0);
	ck_assert_int_eq(eloq_get(s.channel, s.table, "k", 1, &value, &opts), -ETIMEDOUT);
	ck_assert_int_eq(kill(workers[0], SIGCONT), 0);
	service_expect_text(&s, "k", "v");
	service_stop(&s);
}

/* --- Tables --------------------------------------------------------------------------------------
 */

struct names {
	char text[1024];
};

static int add_name(void *arg, const struct eloq_table_info *info)
{
	struct names *names = arg;
	size_t used = strlen(names->text);

	(void)snprintf(names->text + used, sizeof(names->text) - used, "%s:%u:%d ", info->name,
		       info->partitions, (int)info->timestamps);
	return 0;
}

static void assert_tables(struct eloq_client *client, const char *expected)
{
	struct names names = { "" };

	ck_assert_int_eq(eloq_table_list(client, add_name, &names, NULL), 0);
	ck_assert_str_eq(names.text, expected);
}

TEST_ON_BOTH(tables_are_created_listed_and_dropped)
{
	struct service s;
	struct eloq_table *table = NULL;
	struct eloq_error error = { 0 };
	char long_name[256];

	service_start(&s, io, 2);
	ck_assert_int_eq(eloq_table_create(s.client, "b", 3, ELOQ_CALLER_TIMESTAMPS, &error), 0);
	ck_assert_int_eq(eloq_table_create(s.client, "a", 1, ELOQ_SERVER_TIMESTAMPS, &error), 0);
	assert_tables(s.client, "a:1:0 b:3:1 t:16:0 ");
	ck_assert_int_eq(eloq_table_create(s.client, "a", 1, ELOQ_SERVER_TIMESTAMPS, &error),
			 -ELOQ_CLIENT_EEXISTS);
	ck_assert_int_eq(eloq_table_open(s.client, "none", &table, &error), -ELOQ_CLIENT_ENOTFOUND);
	ck_assert_msg(strstr(error.text, "none") != NULL, "%s", error.text);
	ck_assert_int_eq(eloq_table_drop(s.client, "none", &error), -ELOQ_CLIENT_ENOTFOUND);
	ck_assert_int_eq(eloq_table_create(s.client, "x", 0, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(s.client, "x", 65537, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(s.client, "", 1, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(s.client, "a/b", 1, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	memset(long_name, 'n', sizeof(long_name));
	long_name[255] = '\0';
	ck_assert_int_eq(eloq_table_create(s.client, long_name, 1, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_drop(s.client, "b", &error), 0);
	assert_tables(s.client, "a:1:0 t:16:0 ");
	service_restart(&s);
	assert_tables(s.client, "a:1:0 t:16:0 ");
	service_stop(&s);
}

TEST_ON_BOTH(a_dropped_table_is_gone_and_a_new_one_of_its_name_is_empty)
{
	struct service s;
	struct eloq_table *old, *fresh;
	struct eloq_value value = { 0 };
	uint32_t old_id;

	service_start(&s, io, 2);
	old = daemon_table(s.client, "u", 4);
	old_id = eloq_table_info(old)->id;
	for (char key = 'a'; key <= 'z'; key++)
		ck_assert_int_eq(eloq_put(s.channel, old, &key, 1, "v", 1, NULL), 0);
	ck_assert_int_eq(eloq_table_drop(s.client, "u", NULL), 0);
	ck_assert_int_eq(eloq_put(s.channel, old, "a", 1, "v", 1, NULL), -ELOQ_CLIENT_ENOTFOUND);
	fresh = daemon_table(s.client, "u", 4);
	ck_assert_uint_ne(eloq_table_info(fresh)->id, old_id);
	for (char key = 'a'; key <= 'z'; key++)
		ck_assert_int_eq(eloq_get(s.channel, fresh, &key, 1, &value, NULL),
				 -ELOQ_CLIENT_ENOTFOUND);
	ck_assert_int_eq(eloq_put(s.channel, fresh, "a", 1, "new", 3, NULL), 0);
	ck_assert_int_eq(eloq_get(s.channel, fresh, "a", 1, &value, NULL), 0);
	ck_assert_uint_eq(value.bytes, 3);
	eloq_value_free(&value);
	service_stop(&s);
}

static int count_partition(void *arg, uint32_t partition)
{
	unsigned *count = arg;

	ck_assert_uint_lt(partition, SERVICE_PARTITIONS);
	(*count)++;
	return 0;
}

TEST_ON_BOTH(truncate_empties_one_partition_and_stat_counts_what_is_there)
{
	struct service s;
	struct eloq_table_stat stat = { 0 };
	struct eloq_value value = { 0 };
	unsigned partitions = 0, absent = 0;
	char key[16];

	service_start(&s, io, 2);
	for (unsigned i = 0; i < 200; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		service_put_text(&s, key, "some value");
	}
	ck_assert_int_eq(eloq_table_partitions(s.channel, s.table, count_partition, &partitions),
			 0);
	ck_assert_uint_eq(partitions, SERVICE_PARTITIONS);
	ck_assert_int_eq(eloq_table_stat(s.channel, s.table, &stat), 0);
	ck_assert_uint_eq(stat.partitions, SERVICE_PARTITIONS);
	ck_assert_uint_ge(stat.pages, SERVICE_PARTITIONS);
	ck_assert_uint_eq(stat.page_bytes, 4096);
	ck_assert_uint_gt(stat.manifest_bytes, 0);
	ck_assert_uint_eq(stat.ttl_partitions, 0);
	ck_assert_int_eq(eloq_truncate(s.channel, s.table, 3, NULL), 0);
	ck_assert_int_eq(eloq_truncate(s.channel, s.table, SERVICE_PARTITIONS, NULL), -EINVAL);
	for (unsigned i = 0; i < 200; i++) {
		int r;

		(void)snprintf(key, sizeof(key), "k%03u", i);
		r = eloq_get(s.channel, s.table, key, 4, &value, NULL);
		if (eloq_table_partition(s.table, key, 4) == 3) {
			ck_assert_int_eq(r, -ELOQ_CLIENT_ENOTFOUND);
			absent++;
			continue;
		}
		ck_assert_int_eq(r, 0);
		eloq_value_free(&value);
	}
	ck_assert_uint_gt(absent, 0);
	service_stop(&s);
}

TEST_ON_BOTH(a_table_with_caller_timestamps_ignores_older_writes)
{
	struct service s;
	struct eloq_table *table;
	struct eloq_value value = { 0 };
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timestamp = 100 };

	service_start(&s, io, 1);
	ck_assert_int_eq(eloq_table_create(s.client, "c", 4, ELOQ_CALLER_TIMESTAMPS, NULL), 0);
	ck_assert_int_eq(eloq_table_open(s.client, "c", &table, NULL), 0);
	ck_assert_int_eq(eloq_put(s.channel, table, "k", 1, "at 100", 6, &opts), 0);
	opts.timestamp = 99;
	ck_assert_int_eq(eloq_put(s.channel, table, "k", 1, "at 99", 5, &opts), 1);
	ck_assert_int_eq(eloq_delete(s.channel, table, "k", 1, &opts), 1);
	ck_assert_int_eq(eloq_get(s.channel, table, "k", 1, &value, NULL), 0);
	ck_assert_uint_eq(value.timestamp, 100);
	ck_assert_int_eq(memcmp(value.data, "at 100", 6), 0);
	eloq_value_free(&value);
	/* Without a timestamp: the stored one + 1; 1 if there is none. */
	ck_assert_int_eq(eloq_put(s.channel, table, "k", 1, "next", 4, NULL), 0);
	ck_assert_int_eq(eloq_get(s.channel, table, "k", 1, &value, NULL), 0);
	ck_assert_uint_eq(value.timestamp, 101);
	eloq_value_free(&value);
	ck_assert_int_eq(eloq_put(s.channel, table, "fresh", 5, "v", 1, NULL), 0);
	ck_assert_int_eq(eloq_get(s.channel, table, "fresh", 5, &value, NULL), 0);
	ck_assert_uint_eq(value.timestamp, 1);
	eloq_value_free(&value);
	opts.timestamp = 200;
	ck_assert_int_eq(eloq_delete(s.channel, table, "k", 1, &opts), 0);
	ck_assert_int_eq(eloq_get(s.channel, table, "k", 1, &value, NULL), -ELOQ_CLIENT_ENOTFOUND);
	service_stop(&s);
}

TEST_ON_BOTH(server_timestamps_grow_also_over_restarts)
{
	struct service s;
	uint64_t last = 0;

	service_start(&s, io, 2);
	for (unsigned i = 0; i < 30; i++) {
		struct eloq_value value = { 0 };

		if (i % 10 == 9)
			service_restart(&s);
		service_put_text(&s, "the same key", "v");
		ck_assert_int_eq(eloq_get(s.channel, s.table, "the same key", 12, &value, NULL), 0);
		ck_assert_uint_gt(value.timestamp, last);
		last = value.timestamp;
		eloq_value_free(&value);
	}
	service_stop(&s);
}

/* --- Batches -------------------------------------------------------------------------------------
 */

TEST_ON_BOTH(a_batch_is_applied_to_its_partition_whole)
{
	struct service s;
	struct eloq_batch *batch;
	struct eloq_batch_result result = { 0 };
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts),
				     .partition_set = 1,
				     .partition = 5 };
	struct eloq_value value = { 0 };
	char key[32];

	service_start(&s, io, 2);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	ck_assert_int_eq(eloq_batch_write(s.channel, s.table, batch, &result, NULL), 0);
	for (unsigned i = 1000; i-- > 0;) {
		(void)snprintf(key, sizeof(key), "batch-%04u", i);
		ck_assert_int_eq(eloq_batch_put(batch, key, strlen(key), key, strlen(key), 0), 0);
	}
	ck_assert_int_eq(eloq_batch_delete(batch, "not there", 9, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "twice", 5, "first", 5, 0), 0);
	ck_assert_int_eq(eloq_batch_put(batch, "twice", 5, "second", 6, 0), 0);
	ck_assert_int_eq(eloq_batch_write(s.channel, s.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 1001);
	ck_assert_uint_eq(result.absent, 1);
	ck_assert_uint_eq(result.older, 0);
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof(key), "batch-%04u", i);
		ck_assert_int_eq(eloq_get(s.channel, s.table, key, strlen(key), &value, &opts), 0);
		ck_assert_uint_eq(value.bytes, strlen(key));
		ck_assert_int_eq(memcmp(value.data, key, value.bytes), 0);
		eloq_value_free(&value);
	}
	ck_assert_int_eq(eloq_get(s.channel, s.table, "twice", 5, &value, &opts), 0);
	ck_assert_int_eq(memcmp(value.data, "second", 6), 0);
	eloq_value_free(&value);
	/* Without a partition: all keys must be routed to the same one. */
	ck_assert_int_eq(eloq_batch_write(s.channel, s.table, batch, &result, NULL), -EXDEV);
	eloq_batch_free(batch);
	service_stop(&s);
}

/* A batch longer than any ring goes through bulk memory. */
TEST_ON_BOTH(a_batch_of_many_megabytes_is_one_write)
{
	struct service s;
	struct eloq_batch *batch;
	struct eloq_batch_result result = { 0 };
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	uint8_t *value = malloc(100000);
	char key[32];

	ck_assert_ptr_nonnull(value);
	service_start(&s, io, 1);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(key, sizeof(key), "long-%04u", i);
		service_fill(value, 100000, i);
		ck_assert_int_eq(eloq_batch_put(batch, key, strlen(key), value, 100000, 0), 0);
	}
	ck_assert_int_eq(eloq_batch_write(s.channel, s.table, batch, &result, &opts), 0);
	ck_assert_uint_eq(result.applied, 100);
	for (unsigned i = 0; i < 100; i++) {
		struct eloq_value got = { 0 };

		(void)snprintf(key, sizeof(key), "long-%04u", i);
		service_fill(value, 100000, i);
		ck_assert_int_eq(eloq_get(s.channel, s.table, key, strlen(key), &got, &opts), 0);
		ck_assert_uint_eq(got.bytes, 100000);
		ck_assert_int_eq(memcmp(got.data, value, 100000), 0);
		eloq_value_free(&got);
	}
	eloq_batch_free(batch);
	free(value);
	service_stop(&s);
}

/* --- Looks
 * -----------------------------------------------------------------------------------------
 */

TEST_ON_BOTH(the_daemon_shows_its_figures_and_its_configuration)
{
	struct service s;
	char *ini;
	uint64_t ns = 0;

	service_start(&s, io, 2);
	service_put_text(&s, "k", "v");
	service_expect_text(&s, "k", "v");
	ck_assert_int_eq(eloq_ping(s.channel, &ns), 0);
	ck_assert_uint_gt(ns, 0);
	ck_assert_uint_eq(daemon_stat(&s.daemon, "total", "puts"), 1);
	ck_assert_uint_eq(daemon_stat(&s.daemon, "total", "gets"), 1);
	ck_assert_int_eq(eloq_daemon_config(s.client, &ini, NULL), 0);
	ck_assert_ptr_nonnull(strstr(ini, "[server]"));
	ck_assert_ptr_nonnull(strstr(ini, "num_threads = 2"));
	free(ini);
	service_stop(&s);
}
