/*
 * scan_service_test.c - ranges through the library: bounds, limits, pages, all partitions in key
 * order.
 */
#include "tests/support/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCAN_KEYS = 1000 };

static void put_numbered(struct service *s)
{
	char key[16], value[32];

	for (unsigned i = 0; i < SCAN_KEYS; i++) {
		(void)snprintf(key, sizeof(key), "n%04u", i);
		(void)snprintf(value, sizeof(value), "value of %u", i);
		service_put_text(s, key, value);
	}
}

/* The keys n<first>.. in steps of one, @count of them, then the end. */
static void assert_scan(struct service *s, const struct eloq_scan_opts *opts, unsigned first,
			unsigned count)
{
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry = { 0 };
	char key[16], value[32];

	ck_assert_int_eq(eloq_scan_open(s->channel, s->table, opts, &cursor), 0);
	for (unsigned i = first; i < first + count; i++) {
		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		(void)snprintf(key, sizeof(key), "n%04u", i);
		(void)snprintf(value, sizeof(value), "value of %u", i);
		ck_assert_uint_eq(entry.key_bytes, strlen(key));
		ck_assert_int_eq(memcmp(entry.key, key, entry.key_bytes), 0);
		ck_assert_uint_eq(entry.partition,
				  eloq_table_partition(s->table, key, strlen(key)));
		ck_assert_uint_gt(entry.timestamp, 0);
		if (opts && opts->keys_only) {
			ck_assert_ptr_null(entry.value);
			continue;
		}
		ck_assert_uint_eq(entry.value_bytes, strlen(value));
		ck_assert_int_eq(memcmp(entry.value, value, entry.value_bytes), 0);
	}
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	eloq_scan_close(cursor);
}

TEST_ON_BOTH(a_scan_merges_sixteen_partitions_in_key_order_within_its_bounds)
{
	struct service s;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts) };

	service_start(&s, io, 2);
	put_numbered(&s);
	assert_scan(&s, NULL, 0, SCAN_KEYS);
	opts.page_bytes = 256;
	assert_scan(&s, &opts, 0, SCAN_KEYS);
	opts.from = "n0100";
	opts.from_bytes = 5;
	assert_scan(&s, &opts, 100, SCAN_KEYS - 100);
	opts.from_exclusive = 1;
	opts.to = "n0900";
	opts.to_bytes = 5;
	assert_scan(&s, &opts, 101, 799);
	opts.limit = 7;
	assert_scan(&s, &opts, 101, 7);
	opts.keys_only = 1;
	opts.limit = 0;
	assert_scan(&s, &opts, 101, 799);
	opts.from = "o";
	opts.from_bytes = 1;
	opts.to = NULL;
	opts.to_bytes = 0;
	assert_scan(&s, &opts, 0, 0);
	service_stop(&s);
}

TEST_ON_BOTH(scans_resumed_behind_the_last_key_see_every_key_once)
{
	struct service s;
	char last[16] = "";
	unsigned seen = 0;

	service_start(&s, io, 2);
	put_numbered(&s);
	for (;;) {
		struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
					       .from = last[0] ? last : NULL,
					       .from_bytes = strlen(last),
					       .from_exclusive = 1,
					       .limit = 33 };
		struct eloq_scan_cursor *cursor;
		struct eloq_entry_view entry;
		unsigned before = seen;
		char expected[16];

		ck_assert_int_eq(eloq_scan_open(s.channel, s.table, &opts, &cursor), 0);
		while (eloq_scan_next(cursor, &entry) == 1) {
			(void)snprintf(expected, sizeof(expected), "n%04u", seen++);
			ck_assert_uint_eq(entry.key_bytes, 5);
			ck_assert_int_eq(memcmp(entry.key, expected, 5), 0);
			memcpy(last, expected, sizeof(last));
		}
		eloq_scan_close(cursor);
		if (seen == before)
			break;
	}
	ck_assert_uint_eq(seen, SCAN_KEYS);
	service_stop(&s);
}

TEST_ON_BOTH(a_scan_of_one_partition_shows_that_partition_only)
{
	struct service s;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	unsigned seen = 0;

	service_start(&s, io, 2);
	put_numbered(&s);
	for (opts.partition = 0; opts.partition < SERVICE_PARTITIONS; opts.partition++) {
		struct eloq_scan_cursor *cursor;
		struct eloq_entry_view entry;
		int r;

		ck_assert_int_eq(eloq_scan_open(s.channel, s.table, &opts, &cursor), 0);
		while ((r = eloq_scan_next(cursor, &entry)) == 1) {
			ck_assert_uint_eq(entry.partition, opts.partition);
			ck_assert_uint_eq(eloq_table_partition(s.table, entry.key, entry.key_bytes),
					  opts.partition);
			seen++;
		}
		ck_assert_int_eq(r, 0);
		eloq_scan_close(cursor);
	}
	ck_assert_uint_eq(seen, SCAN_KEYS);
	service_stop(&s);
}

/* One entry longer than a page of results, and than any ring. */
TEST_ON_BOTH(a_scan_shows_values_that_are_longer_than_its_pages)
{
	struct service s;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts), .page_bytes = 4096 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	uint8_t *value = malloc(3 << 20);

	ck_assert_ptr_nonnull(value);
	service_fill(value, 3 << 20, 1);
	service_start(&s, io, 2);
	service_put_text(&s, "a", "short");
	service_put(&s, "b", value, 3 << 20);
	service_put_text(&s, "c", "short");
	ck_assert_int_eq(eloq_scan_open(s.channel, s.table, &opts, &cursor), 0);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
	ck_assert_uint_eq(entry.value_bytes, 5);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
	ck_assert_uint_eq(entry.value_bytes, 3 << 20);
	ck_assert_int_eq(memcmp(entry.value, value, 3 << 20), 0);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
	ck_assert_int_eq(memcmp(entry.key, "c", 1), 0);
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	eloq_scan_close(cursor);
	free(value);
	service_stop(&s);
}

TEST_ON_BOTH(a_restart_with_another_number_of_shards_holds_everything)
{
	struct service s;

	service_start(&s, io, 1);
	put_numbered(&s);
	for (unsigned shards = 2; shards <= 3; shards++) {
		service_stop(&s);
		s.daemon.shards = shards;
		daemon_start(&s.daemon);
		service_connect(&s);
		ck_assert_uint_eq(eloq_shard_count(s.client), shards);
		assert_scan(&s, NULL, 0, SCAN_KEYS);
	}
	service_stop(&s);
}
