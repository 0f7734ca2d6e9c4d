/*
 * tree_test.c - what changes do to one key, and to the shape of a tree. The files that result are
 * read back by store_check.h, without the engine.
 */
#include "daemon/store/merge.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- One key ---------------------------------------------------------------------------------- */

enum { NOW_MS = 1000 };

static struct eloq_write_entry change(enum eloq_write_op op, uint64_t timestamp, uint64_t expire_ms)
{
	return (struct eloq_write_entry){
		.key = (const uint8_t *)"k",
		.key_bytes = 1,
		.op = op,
		.timestamp = timestamp,
		.timestamp_auto = timestamp == 0,
		.expire_ms = expire_ms,
	};
}

/* Plays @entries, each a write of its own, against an entry stored at @stored (0: none). */
static struct eloq_merge_result play(struct eloq_write_entry *entries, uint32_t count,
				     uint64_t stored)
{
	struct eloq_entry entry = { .key = (const uint8_t *)"k",
				    .key_bytes = 1,
				    .timestamp = stored };
	struct eloq_merge_result result;
	struct eloq_merge merge;

	ck_assert_int_eq(eloq_merge_open(&merge, count, NOW_MS), 0);
	for (uint32_t i = 0; i < count; i++) {
		struct eloq_write write = { .entries = &entries[i], .entry_count = 1 };

		eloq_merge_add(&merge, &write);
	}
	eloq_merge_sort(&merge);
	ck_assert_uint_eq(eloq_merge_key_end(&merge, 0, count), count);
	eloq_merge_resolve(&merge, 0, count, stored > 0 ? &entry : NULL, &result);
	eloq_merge_close(&merge);
	return result;
}

TEST(one_change_does_what_timestamps_and_expiry_say)
{
	static const struct {
		uint64_t stored;
		enum eloq_write_op op;
		uint64_t timestamp, expire_ms;
		enum eloq_merge_effect effect;
		enum eloq_write_outcome outcome;
	} cases[] = {
		{ 0, ELOQ_WRITE_PUT, 5, 0, ELOQ_MERGE_PUT, ELOQ_WRITE_APPLIED },
		{ 0, ELOQ_WRITE_PUT, 5, NOW_MS + 1, ELOQ_MERGE_PUT, ELOQ_WRITE_APPLIED },
		{ 0, ELOQ_WRITE_PUT, 5, NOW_MS, ELOQ_MERGE_KEEP, ELOQ_WRITE_ABSENT },
		{ 0, ELOQ_WRITE_DELETE, 5, 0, ELOQ_MERGE_KEEP, ELOQ_WRITE_ABSENT },
		{ 5, ELOQ_WRITE_PUT, 6, 0, ELOQ_MERGE_PUT, ELOQ_WRITE_APPLIED },
		{ 5, ELOQ_WRITE_PUT, 5, 0, ELOQ_MERGE_PUT, ELOQ_WRITE_APPLIED },
		{ 5, ELOQ_WRITE_PUT, 5, NOW_MS, ELOQ_MERGE_REMOVE, ELOQ_WRITE_APPLIED },
		{ 5, ELOQ_WRITE_DELETE, 5, 0, ELOQ_MERGE_REMOVE, ELOQ_WRITE_APPLIED },
		{ 5, ELOQ_WRITE_PUT, 4, 0, ELOQ_MERGE_KEEP, ELOQ_WRITE_OLDER },
		{ 5, ELOQ_WRITE_DELETE, 4, 0, ELOQ_MERGE_KEEP, ELOQ_WRITE_OLDER },
		{ 5, ELOQ_WRITE_DELETE, UINT64_MAX, 0, ELOQ_MERGE_REMOVE, ELOQ_WRITE_APPLIED },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(cases); i++) {
		struct eloq_write_entry entry =
			change(cases[i].op, cases[i].timestamp, cases[i].expire_ms);
		struct eloq_merge_result result = play(&entry, 1, cases[i].stored);

		ck_assert_msg(result.effect == cases[i].effect, "case %zu", i);
		ck_assert_msg(entry.outcome == cases[i].outcome, "case %zu", i);
		if (result.effect == ELOQ_MERGE_PUT)
			ck_assert_uint_eq(result.timestamp, cases[i].timestamp);
	}
}

TEST(timestamps_are_clamped_and_chosen_above_the_stored_one)
{
	struct eloq_write_entry huge = change(ELOQ_WRITE_PUT, UINT64_MAX, 0);
	struct eloq_write_entry own = change(ELOQ_WRITE_PUT, 0, 0);

	ck_assert_uint_eq(play(&huge, 1, 0).timestamp, ELOQ_TIMESTAMP_MAX);
	ck_assert_uint_eq(play(&own, 1, 0).timestamp, 1);
	ck_assert_uint_eq(play(&own, 1, 41).timestamp, 42);
	/* At the very end of time the new one still wins. */
	ck_assert_uint_eq(play(&own, 1, ELOQ_TIMESTAMP_MAX).timestamp, ELOQ_TIMESTAMP_MAX);
	ck_assert_int_eq(own.outcome, ELOQ_WRITE_APPLIED);
}

TEST(changes_of_one_commit_to_one_key_apply_in_order)
{
	struct eloq_write_entry entries[] = {
		change(ELOQ_WRITE_PUT, 10, 0),	  /* applied */
		change(ELOQ_WRITE_PUT, 9, 0),	  /* older than the one before */
		change(ELOQ_WRITE_DELETE, 10, 0), /* applied */
		change(ELOQ_WRITE_DELETE, 0, 0),  /* nothing left */
		change(ELOQ_WRITE_PUT, 3, 0),	  /* a delete leaves no trace */
		change(ELOQ_WRITE_PUT, 0, 0),	  /* 4 */
	};
	static const enum eloq_write_outcome outcomes[] = {
		ELOQ_WRITE_APPLIED, ELOQ_WRITE_OLDER,	ELOQ_WRITE_APPLIED,
		ELOQ_WRITE_ABSENT,  ELOQ_WRITE_APPLIED, ELOQ_WRITE_APPLIED,
	};
	struct eloq_merge_result result = play(entries, ELOQ_ARRAY_SIZE(entries), 7);

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(entries); i++)
		ck_assert_msg(entries[i].outcome == outcomes[i], "change %zu", i);
	ck_assert_int_eq(result.effect, ELOQ_MERGE_PUT);
	ck_assert_ptr_eq(result.put, &entries[5]);
	ck_assert_uint_eq(result.timestamp, 4);
}

TEST(a_key_that_came_and_went_in_one_commit_leaves_nothing_to_do)
{
	struct eloq_write_entry entries[] = { change(ELOQ_WRITE_PUT, 1, 0),
					      change(ELOQ_WRITE_DELETE, 2, 0) };

	ck_assert_int_eq(play(entries, 2, 0).effect, ELOQ_MERGE_KEEP);
	ck_assert_int_eq(play(entries, 2, 1).effect, ELOQ_MERGE_REMOVE);
}

TEST(changes_are_sorted_by_key_and_then_by_write)
{
	struct eloq_write_entry first[] = { change(ELOQ_WRITE_PUT, 1, 0),
					    change(ELOQ_WRITE_PUT, 2, 0) };
	struct eloq_write_entry second[] = { change(ELOQ_WRITE_PUT, 3, 0),
					     change(ELOQ_WRITE_PUT, 4, 0) };
	struct eloq_write writes[] = { { .entries = first, .entry_count = 2 },
				       { .entries = second, .entry_count = 2 } };
	struct eloq_merge merge;

	first[1].key = second[0].key = (const uint8_t *)"m";
	second[1].key = (const uint8_t *)"z";
	ck_assert_int_eq(eloq_merge_open(&merge, 4, NOW_MS), 0);
	eloq_merge_add(&merge, &writes[0]);
	eloq_merge_add(&merge, &writes[1]);
	eloq_merge_sort(&merge);
	for (uint32_t i = 0; i < 4; i++)
		ck_assert_uint_eq(merge.ops[i].entry->timestamp, i + 1);
	ck_assert_uint_eq(eloq_merge_lower_bound(&merge, 0, 4, (const uint8_t *)"m", 1), 1);
	ck_assert_uint_eq(eloq_merge_key_end(&merge, 1, 4), 3);
	ck_assert_uint_eq(eloq_merge_lower_bound(&merge, 0, 4, (const uint8_t *)"zz", 2), 4);
	eloq_merge_close(&merge);
}

/* --- Shapes ----------------------------------------------------------------------------------- */

/* Keys @from, @from + @step, ... below @to, and the @run - 1 behind each of them, put or deleted in
 * one batch. */
struct range {
	unsigned from, to, step;
	enum eloq_write_op op;
	uint32_t value_bytes;
	int key_digits; /* numbers with leading zeroes */
	unsigned run;	/* 0 is 1 */
};

enum { KEY_BYTES = 2100, ENTRIES_MAX = 8192 };

static struct store_world world;

static void write_range(const struct range *range)
{
	struct eloq_write_entry *entries = calloc(ENTRIES_MAX, sizeof(*entries));
	uint8_t *value = calloc(1, range->value_bytes + 1);
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = entries };
	struct eloq_errinfo error = { 0 };

	for (unsigned i = range->from; i < range->to; i++) {
		char *key;

		if ((i - range->from) % range->step > 0 &&
		    (i - range->from) % range->step >= range->run)
			continue;
		key = malloc(KEY_BYTES);
		ck_assert_uint_lt(write.entry_count, ENTRIES_MAX);
		entries[write.entry_count++] = (struct eloq_write_entry){
			.key = (uint8_t *)key,
			.key_bytes =
				(uint32_t)snprintf(key, KEY_BYTES, "%0*u", range->key_digits, i),
			.value = value,
			.value_bytes = range->value_bytes,
			.timestamp_auto = true,
			.op = range->op,
		};
	}
	if (eloq_store_write_await(world.store, &write, &error) < 0)
		ck_abort_msg("%s", error.text);
	for (uint32_t i = 0; i < write.entry_count; i++)
		free((void *)(uintptr_t)entries[i].key);
	free(value);
	free(entries);
}

static void write_range_task(void *arg)
{
	write_range(arg);
}

/* One batch in a store that is opened and closed around it, and what the files look like then. */
static struct store_check shape_after(const struct range *range)
{
	struct range copy = *range;

	store_world_session(&world, write_range_task, &copy);
	return store_world_check(&world, 0, "t.0", true);
}

TEST(loading_in_key_order_leaves_full_leaves)
{
	struct store_check check = { 0 };

	store_world_init(&world);
	for (unsigned i = 0; i < 40; i++) {
		struct range range = { i * 100, i * 100 + 100, 1, ELOQ_WRITE_PUT, 100, 11, 0 };

		check = shape_after(&range);
	}
	ck_assert_uint_eq(check.entries, 4000);
	ck_assert_uint_ge(check.leaf_bytes * 100 / (check.leaves * 4096), 95);
	ck_assert_uint_eq(check.depth, 1);
}

TEST(one_large_batch_makes_a_tree_of_several_levels)
{
	struct range range = { 0, 8000, 1, ELOQ_WRITE_PUT, 1000, 11, 0 };
	struct store_check check;

	store_world_init(&world);
	check = shape_after(&range);
	ck_assert_uint_eq(check.entries, 8000);
	ck_assert_uint_ge(check.depth, 2);
}

TEST(keys_of_half_a_page_make_a_deep_tree_that_is_sound)
{
	/* Separators are as long as the keys, and no prefix is shared: two children a page. */
	struct range range = { 0, 300, 1, ELOQ_WRITE_PUT, 3000, 2000, 0 };
	struct store_check check;

	store_world_init(&world);
	world.opts.data_restart_interval = 1;
	world.opts.index_restart_interval = 1;
	check = shape_after(&range);
	ck_assert_uint_eq(check.entries, 300);
	ck_assert_uint_ge(check.depth, 5);
	range = (struct range){ 0, 300, 3, ELOQ_WRITE_DELETE, 0, 2000, 0 };
	check = shape_after(&range);
	ck_assert_uint_eq(check.entries, 200);
	range = (struct range){ 0, 300, 1, ELOQ_WRITE_DELETE, 0, 2000, 0 };
	check = shape_after(&range);
	ck_assert_uint_eq(check.root, UINT32_MAX);
}

TEST(a_split_in_the_middle_leaves_no_nearly_empty_page)
{
	struct range full = { 0, 400, 2, ELOQ_WRITE_PUT, 400, 11, 0 };
	/* Fills up one leaf, and one entry too many. */
	struct range more = { 101, 104, 2, ELOQ_WRITE_PUT, 400, 11, 0 };
	struct store_check before, after;

	store_world_init(&world);
	before = shape_after(&full);
	after = shape_after(&more);
	ck_assert_uint_eq(after.entries, before.entries + 2);
	ck_assert_uint_eq(after.leaves, before.leaves + 1);
	/* Were the new page to hold just what did not fit, it would take up the next few. */
	more = (struct range){ 105, 110, 2, ELOQ_WRITE_PUT, 400, 11, 0 };
	after = shape_after(&more);
	ck_assert_uint_eq(after.leaves, before.leaves + 1);
}

TEST(leaves_that_become_empty_leave_the_tree_and_their_neighbours_meet)
{
	static const struct range holes[] = {
		{ 0, 100, 1, ELOQ_WRITE_DELETE, 0, 11, 0 },	/* the first leaves */
		{ 300, 400, 1, ELOQ_WRITE_DELETE, 0, 11, 0 },	/* some in the middle */
		{ 1900, 2000, 1, ELOQ_WRITE_DELETE, 0, 11, 0 }, /* the last ones */
		{ 500, 1500, 40, ELOQ_WRITE_DELETE, 0, 11, 0 }, /* leaves that stay */
		{ 450, 1550, 1, ELOQ_WRITE_DELETE, 0, 11, 0 },	/* nearly all */
		{ 0, 2000, 1, ELOQ_WRITE_DELETE, 0, 11, 0 },	/* the rest */
	};
	static const uint64_t left[] = { 1900, 1800, 1700, 1675, 600, 0 };
	struct range range = { 0, 2000, 1, ELOQ_WRITE_PUT, 400, 11, 0 };
	struct store_check check;

	store_world_init(&world);
	(void)shape_after(&range);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(holes); i++) {
		check = shape_after(&holes[i]);
		ck_assert_uint_eq(check.entries, left[i]);
	}
	ck_assert_uint_eq(check.root, UINT32_MAX);
}

TEST(every_other_leaf_emptied_in_one_commit_keeps_the_links_right)
{
	/* Four entries a leaf. */
	struct range range = { 0, 1000, 1, ELOQ_WRITE_PUT, 900, 11, 0 };
	struct store_check check;

	store_world_init(&world);
	check = shape_after(&range);
	ck_assert_uint_eq(check.leaves, 250);
	range = (struct range){ 0, 1000, 8, ELOQ_WRITE_DELETE, 0, 11, 4 };
	check = shape_after(&range);
	ck_assert_uint_eq(check.leaves, 125);
	/* Of three that are left, the second goes and the third splits. */
	range = (struct range){ 12, 1000, 24, ELOQ_WRITE_DELETE, 0, 11, 4 };
	check = shape_after(&range);
	ck_assert_uint_eq(check.leaves, 83);
	range = (struct range){ 20, 1000, 24, ELOQ_WRITE_PUT, 1500, 11, 4 };
	check = shape_after(&range);
	ck_assert_uint_eq(check.entries, 332);
	ck_assert_uint_eq(check.leaves, 83 + 41);
}

/* Entries of 1300 bytes, three a leaf: keys 0, 10, 20 | 30, 40, 50 | ... */
static void count_pages(void *arg)
{
	struct eloq_store_stats before, after;
	struct range range = { 0, 300, 10, ELOQ_WRITE_PUT, 1300, 11, 0 };
	uint64_t *pages = arg;

	write_range(&range);
	/* An update: one page. */
	eloq_store_get_stats(world.store, &before);
	store_world_put(&world, 1, 0, "00000000100", "x", 1, 0);
	eloq_store_get_stats(world.store, &after);
	pages[0] = after.pages_written - before.pages_written;
	/* A split: two leaves, the right neighbour's link, the index page above. */
	before = after;
	range = (struct range){ 151, 154, 1, ELOQ_WRITE_PUT, 1300, 11, 0 };
	write_range(&range);
	eloq_store_get_stats(world.store, &after);
	pages[1] = after.pages_written - before.pages_written;
	/* An empty leaf: both neighbours and the index page. */
	before = after;
	range = (struct range){ 210, 231, 10, ELOQ_WRITE_DELETE, 0, 11, 0 };
	write_range(&range);
	eloq_store_get_stats(world.store, &after);
	pages[2] = after.pages_written - before.pages_written;
}

TEST(a_commit_writes_each_page_once_and_no_page_in_vain)
{
	uint64_t pages[3];

	store_world_init(&world);
	store_world_session(&world, count_pages, pages);
	ck_assert_uint_eq(pages[0], 1);
	ck_assert_uint_eq(pages[1], 4);
	ck_assert_uint_eq(pages[2], 3);
}

static void change_nothing(void *arg)
{
	struct eloq_store_stats *stats = arg;

	store_world_put(&world, 1, 0, "key", "new", 3, 10);
	eloq_store_get_stats(world.store, &stats[0]);
	ck_assert_int_eq(store_world_delete(&world, 1, 0, "key", 9), ELOQ_WRITE_OLDER);
	ck_assert_int_eq(store_world_delete(&world, 1, 0, "kez", 9), ELOQ_WRITE_ABSENT);
	ck_assert_int_eq(store_world_delete(&world, 1, 7, "kez", 9), ELOQ_WRITE_ABSENT);
	eloq_store_get_stats(world.store, &stats[1]);
	store_world_expect(&world, 1, 0, "key", "new", 3);
}

TEST(a_batch_that_changes_nothing_commits_nothing)
{
	struct eloq_store_stats stats[2];

	store_world_init(&world);
	store_world_session(&world, change_nothing, stats);
	ck_assert_uint_eq(stats[0].commits, stats[1].commits);
	ck_assert_uint_eq(stats[0].pages_written, stats[1].pages_written);
	ck_assert_uint_eq(stats[0].manifest_records, stats[1].manifest_records);
}

/* Pages of every size: value sizes around what fits on a page, a group, and several groups. */
TEST(values_of_any_size_come_and_go_with_all_their_pages)
{
	static const uint32_t page_sizes[] = { 4096, 8192, 16384, 61440 };

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(page_sizes); i++) {
		uint32_t page = page_sizes[i];
		const uint32_t sizes[] = { page - 60,	      page,	      page * 3,
					   page * 4 - 4 * 12, page * 4 - 47,  page * 4 - 48 - 16,
					   page * 11,	      page * 16 - 91, 1 };

		store_world_init(&world);
		world.opts.page_bytes = page;
		world.opts.cache_bytes = 64 * page;
		world.opts.overflow_pointers = 4;
		for (size_t k = 0; k < ELOQ_ARRAY_SIZE(sizes); k++) {
			struct range range = { 0, 6, 1, ELOQ_WRITE_PUT, sizes[k], 1, 0 };
			struct store_check check = shape_after(&range);

			ck_assert_uint_eq(check.entries, 6);
		}
	}
}
