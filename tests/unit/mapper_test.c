/*
 * mapper_test.c - versions, changes and who owns which file page.
 *
 * The random tests run a mapper beside a model of plain arrays: what every version that is still
 * held maps, and what the open change has done. After each step every file page below the end
 * must be in exactly one place, and no place that a reader can see may be handed out.
 */
#include "tests/support/test.h"

#include "common/err.h"
#include "common/prng.h"
#include "daemon/store/mapper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { IDS = 1600, READERS = 6 }; /* more than three chunks */

struct version_model {
	uint64_t *file_pages; /* of IDS page ids */
	struct eloq_roots roots;
};

struct reader {
	struct eloq_mapping *mapping;
	struct version_model model;
};

struct world {
	struct eloq_mapper *mapper;
	struct eloq_change *change;
	struct eloq_prng prng;
	bool append_mode;
	struct version_model now;  /* current version */
	struct version_model next; /* as the open change should see it */
	bool *allocated;	   /* by the open change, not freed again */
	uint64_t *taken;	   /* file pages of the open change */
	size_t taken_count;
	struct reader readers[READERS];
};

static struct eloq_roots no_roots(void)
{
	return (struct eloq_roots){ ELOQ_PAGE_NONE, ELOQ_PAGE_NONE };
}

static void model_init(struct version_model *model)
{
	model->file_pages = malloc(IDS * sizeof(uint64_t));
	ck_assert_ptr_nonnull(model->file_pages);
	for (size_t i = 0; i < IDS; i++)
		model->file_pages[i] = ELOQ_FILE_PAGE_NONE;
	model->roots = no_roots();
}

static void model_copy(struct version_model *to, const struct version_model *from)
{
	memcpy(to->file_pages, from->file_pages, IDS * sizeof(uint64_t));
	to->roots = from->roots;
}

static void expect_mapping(const struct eloq_mapping *mapping, const struct version_model *model)
{
	ck_assert_uint_eq(eloq_mapping_roots(mapping).main, model->roots.main);
	ck_assert_uint_eq(eloq_mapping_roots(mapping).ttl, model->roots.ttl);
	for (uint32_t id = 0; id < IDS; id++) {
		if (eloq_mapping_get(mapping, id) != model->file_pages[id])
			ck_abort_msg("page id %u is not where the model has it", id);
	}
}

static void world_open(struct world *world, bool append_mode, uint64_t seed)
{
	*world = (struct world){ .append_mode = append_mode };
	eloq_prng_seed(&world->prng, seed);
	ck_assert_int_eq(eloq_mapper_open(&world->mapper, append_mode), 0);
	model_init(&world->now);
	model_init(&world->next);
	world->allocated = calloc(IDS, sizeof(bool));
	world->taken = malloc(100000 * sizeof(uint64_t));
	for (int i = 0; i < READERS; i++)
		model_init(&world->readers[i].model);
}

static void reader_release(struct reader *reader)
{
	if (reader->mapping)
		eloq_mapping_release(reader->mapping);
	reader->mapping = NULL;
}

static void world_close(struct world *world)
{
	struct eloq_file_page_counts counts;

	eloq_change_abort(world->change);
	for (int i = 0; i < READERS; i++) {
		reader_release(&world->readers[i]);
		free(world->readers[i].model.file_pages);
	}
	counts = eloq_mapper_file_page_counts(world->mapper);
	ck_assert_uint_eq(counts.waiting, 0);
	ck_assert_uint_eq(counts.taken, 0);
	if (!world->append_mode)
		ck_assert_uint_eq(counts.live + counts.free,
				  eloq_mapper_file_pages_end(world->mapper));
	eloq_mapper_close(world->mapper);
	free(world->now.file_pages);
	free(world->next.file_pages);
	free(world->allocated);
	free(world->taken);
}

/* No version that anybody can see maps @file_page, and the change was not given it before. */
static void expect_unused(const struct world *world, uint64_t file_page)
{
	bool used = false;

	for (size_t i = 0; i < world->taken_count; i++)
		used |= world->taken[i] == file_page;
	for (size_t id = 0; id < IDS; id++)
		used |= world->now.file_pages[id] == file_page;
	for (int i = 0; i < READERS; i++) {
		for (size_t id = 0; world->readers[i].mapping && id < IDS; id++)
			used |= world->readers[i].model.file_pages[id] == file_page;
	}
	ck_assert_msg(!used, "file page %" PRIu64 " was handed out though it is in use", file_page);
}

/* live + waiting + taken + free == end, and live and waiting are what the model says. */
static void expect_counts(const struct world *world)
{
	struct eloq_file_page_counts counts = eloq_mapper_file_page_counts(world->mapper);
	uint64_t end = world->change ? eloq_change_file_pages_end(world->change)
				     : eloq_mapper_file_pages_end(world->mapper);
	uint8_t *held = calloc(end, 1);
	uint64_t live = 0, waiting_min = 0;

	ck_assert_uint_eq(counts.taken, world->taken_count);
	for (size_t id = 0; id < IDS; id++) {
		uint64_t file_page = world->now.file_pages[id];

		if (file_page == ELOQ_FILE_PAGE_NONE)
			continue;
		if (file_page >= end || held[file_page])
			ck_abort_msg("file page %" PRIu64 " is used twice or behind the end",
				     file_page);
		held[file_page] = 1;
		live++;
	}
	ck_assert_uint_eq(counts.live, live);
	ck_assert_uint_eq(eloq_mapper_live_pages(world->mapper), live);
	for (int i = 0; i < READERS; i++) {
		for (size_t id = 0; world->readers[i].mapping && id < IDS; id++) {
			uint64_t file_page = world->readers[i].model.file_pages[id];

			if (file_page != ELOQ_FILE_PAGE_NONE && !held[file_page]) {
				held[file_page] = 2;
				waiting_min++;
			}
		}
	}
	free(held);
	if (world->append_mode) {
		ck_assert_uint_eq(counts.free, 0);
		return;
	}
	ck_assert_uint_ge(counts.waiting, waiting_min);
	ck_assert_uint_eq(counts.live + counts.waiting + counts.taken + counts.free, end);
}

static void step_alloc_and_place(struct world *world)
{
	uint64_t file_page;
	uint32_t id;

	ck_assert_int_eq(eloq_change_alloc(world->change, &id), 0);
	if (id >= IDS) {
		ck_assert_int_eq(eloq_change_free(world->change, id), 0);
		return;
	}
	ck_assert(!world->allocated[id]);
	ck_assert_uint_eq(world->now.file_pages[id], ELOQ_FILE_PAGE_NONE);
	world->allocated[id] = true;
	if (eloq_prng_below(&world->prng, 10) == 0)
		return; /* never placed: must come back */
	ck_assert_int_eq(eloq_change_place(world->change, id, &file_page), 0);
	expect_unused(world, file_page);
	world->taken[world->taken_count++] = file_page;
	world->next.file_pages[id] = file_page;
}

static void step_place_or_free(struct world *world)
{
	uint32_t id = (uint32_t)eloq_prng_below(&world->prng, IDS);
	uint64_t file_page;

	if (world->next.file_pages[id] == ELOQ_FILE_PAGE_NONE)
		return;
	ck_assert_uint_eq(eloq_change_get(world->change, id), world->next.file_pages[id]);
	if (eloq_prng_below(&world->prng, 3) == 0) {
		ck_assert_int_eq(eloq_change_free(world->change, id), 0);
		world->next.file_pages[id] = ELOQ_FILE_PAGE_NONE;
		return;
	}
	ck_assert_int_eq(eloq_change_place(world->change, id, &file_page), 0);
	expect_unused(world, file_page);
	world->taken[world->taken_count++] = file_page;
	world->next.file_pages[id] = file_page;
}

struct update_walk {
	const struct world *world;
	size_t count;
	int64_t last;
};

static int expect_update(void *arg, uint32_t id, uint64_t file_page)
{
	struct update_walk *walk = arg;

	if ((int64_t)id <= walk->last || id >= IDS)
		ck_abort_msg("page id %u comes out of order", id);
	if (file_page != walk->world->next.file_pages[id])
		ck_abort_msg("page id %u is not where the model has it", id);
	walk->last = id;
	walk->count++;
	return 0;
}

static void expect_updates(struct world *world)
{
	struct update_walk walk = { .world = world, .last = -1 };
	size_t differ = 0;

	for (size_t id = 0; id < IDS; id++)
		differ += world->now.file_pages[id] != world->next.file_pages[id];
	ck_assert_int_eq(eloq_change_each_update(world->change, expect_update, &walk), 0);
	ck_assert_uint_eq(walk.count, differ);
	ck_assert_uint_eq(eloq_change_updates(world->change), differ);
}

static void step_end(struct world *world)
{
	expect_updates(world);
	if (eloq_prng_below(&world->prng, 3) == 0) {
		eloq_change_abort(world->change);
		model_copy(&world->next, &world->now);
	} else {
		eloq_change_commit(world->change);
		model_copy(&world->now, &world->next);
	}
	world->change = NULL;
	world->taken_count = 0;
	memset(world->allocated, 0, IDS * sizeof(bool));
}

static void step_change(struct world *world)
{
	if (!world->change) {
		struct eloq_roots roots = { (uint32_t)eloq_prng_next(&world->prng),
					    (uint32_t)eloq_prng_next(&world->prng) };

		ck_assert_int_eq(eloq_change_begin(&world->change, world->mapper), 0);
		eloq_change_set_roots(world->change, roots);
		world->next.roots = roots;
	}
	switch (eloq_prng_below(&world->prng, 40)) {
	case 0:
		step_end(world);
		break;
	case 1:
		if (eloq_prng_below(&world->prng, 20) == 0) {
			ck_assert_int_eq(eloq_change_free_all(world->change), 0);
			for (size_t id = 0; id < IDS; id++)
				world->next.file_pages[id] = ELOQ_FILE_PAGE_NONE;
		}
		break;
	default:
		if (eloq_prng_below(&world->prng, 2) == 0)
			step_alloc_and_place(world);
		else
			step_place_or_free(world);
	}
}

static void step_reader(struct world *world)
{
	struct reader *reader = &world->readers[eloq_prng_below(&world->prng, READERS)];

	if (reader->mapping) {
		expect_mapping(reader->mapping, &reader->model);
		reader_release(reader);
		return;
	}
	reader->mapping = eloq_mapper_acquire(world->mapper);
	model_copy(&reader->model, &world->now);
	expect_mapping(reader->mapping, &reader->model);
}

static void run_model(bool append_mode)
{
	struct world world;

	world_open(&world, append_mode, test_seed());
	for (int step = 0; step < 12000; step++) {
		if (eloq_prng_below(&world.prng, 30) == 0)
			step_reader(&world);
		else
			step_change(&world);
		if (step % 16 == 0)
			expect_counts(&world);
	}
	world_close(&world);
}

TEST(random_changes_and_readers_keep_every_file_page_in_one_place)
{
	run_model(false);
}

TEST(random_changes_and_readers_in_append_mode_never_reuse_a_file_page)
{
	run_model(true);
}

/* One committed change that maps @count new pages; their ids are 0.. in an empty mapper. */
static void commit_new_pages(struct eloq_mapper *mapper, uint32_t count)
{
	struct eloq_change *change;

	ck_assert_int_eq(eloq_change_begin(&change, mapper), 0);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t file_page;
		uint32_t id;

		ck_assert_int_eq(eloq_change_alloc(change, &id), 0);
		ck_assert_uint_eq(id, i);
		ck_assert_int_eq(eloq_change_place(change, id, &file_page), 0);
		ck_assert_uint_eq(file_page, i);
	}
	eloq_change_commit(change);
}

static void commit_one_rewrite(struct eloq_mapper *mapper, uint32_t id, uint64_t expected)
{
	struct eloq_change *change;
	uint64_t file_page;

	ck_assert_int_eq(eloq_change_begin(&change, mapper), 0);
	ck_assert_int_eq(eloq_change_place(change, id, &file_page), 0);
	ck_assert_uint_eq(file_page, expected);
	eloq_change_commit(change);
}

TEST(file_page_waits_until_the_oldest_reader_that_could_see_it_is_gone)
{
	struct eloq_mapping *old, *newer;
	struct eloq_mapper *mapper;

	ck_assert_int_eq(eloq_mapper_open(&mapper, false), 0);
	commit_new_pages(mapper, 3);
	old = eloq_mapper_acquire(mapper);
	commit_one_rewrite(mapper, 1, 3); /* file page 1 is what `old` sees */
	newer = eloq_mapper_acquire(mapper);
	commit_one_rewrite(mapper, 1, 4); /* 3 is what `newer` sees */
	eloq_mapping_release(newer);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).waiting, 2);
	commit_one_rewrite(mapper, 1, 5); /* neither 1 nor 3: `old` is older than both */
	ck_assert_uint_eq(eloq_mapping_get(old, 1), 1);
	eloq_mapping_release(old);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).waiting, 0);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).free, 3);
	commit_one_rewrite(mapper, 1, 1);
	commit_one_rewrite(mapper, 1, 3);
	eloq_mapper_close(mapper);
}

TEST(aborted_change_takes_the_end_of_file_pages_back)
{
	struct eloq_change *change;
	struct eloq_mapper *mapper;
	uint64_t file_page;
	uint32_t id;

	for (int append_mode = 0; append_mode < 2; append_mode++) {
		ck_assert_int_eq(eloq_mapper_open(&mapper, append_mode), 0);
		commit_new_pages(mapper, 2);
		ck_assert_int_eq(eloq_change_begin(&change, mapper), 0);
		for (uint32_t i = 2; i < 1000; i++) {
			ck_assert_int_eq(eloq_change_alloc(change, &id), 0);
			ck_assert_int_eq(eloq_change_place(change, id, &file_page), 0);
			ck_assert_uint_eq(file_page, i);
		}
		ck_assert_uint_eq(eloq_mapper_file_pages_end(mapper), 2);
		eloq_change_abort(change);
		ck_assert_uint_eq(eloq_mapper_file_pages_end(mapper), 2);
		commit_one_rewrite(mapper, 0, 2);
		eloq_mapper_close(mapper);
	}
}

TEST(page_placed_twice_gives_its_first_place_back_only_at_the_end)
{
	struct eloq_change *change;
	struct eloq_mapper *mapper;
	uint64_t first, second, third;
	uint32_t id;

	ck_assert_int_eq(eloq_mapper_open(&mapper, false), 0);
	ck_assert_int_eq(eloq_change_begin(&change, mapper), 0);
	ck_assert_int_eq(eloq_change_alloc(change, &id), 0);
	ck_assert_int_eq(eloq_change_place(change, id, &first), 0);
	ck_assert_int_eq(eloq_change_place(change, id, &second), 0);
	ck_assert_int_eq(eloq_change_place(change, id, &third), 0);
	ck_assert(first != second && second != third && first != third);
	ck_assert_uint_eq(eloq_change_updates(change), 1);
	eloq_change_commit(change);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).free, 2);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).waiting, 0);
	eloq_mapper_close(mapper);
}

TEST(loaded_mapper_knows_what_is_free)
{
	struct eloq_roots roots = { 1, ELOQ_PAGE_NONE };
	struct eloq_change *change;
	struct eloq_mapper *mapper;
	struct eloq_mapping *mapping;
	uint64_t file_page;
	uint32_t id;

	ck_assert_int_eq(eloq_mapper_open(&mapper, false), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 0, 4), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 1, 2), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 3, 0), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 0, 3), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 3, ELOQ_FILE_PAGE_NONE), 0);
	ck_assert_int_eq(eloq_mapper_load_end(mapper, roots, 5, 6), 0);
	mapping = eloq_mapper_acquire(mapper);
	ck_assert_uint_eq(eloq_mapping_page_ids(mapping), 6);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 0), 3);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 1), 2);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 3), ELOQ_FILE_PAGE_NONE);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 1000000), ELOQ_FILE_PAGE_NONE);
	ck_assert_uint_eq(eloq_mapping_roots(mapping).main, 1);
	eloq_mapping_release(mapping);
	ck_assert_uint_eq(eloq_mapper_live_pages(mapper), 2);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(mapper).free, 3);

	/* Ids 2..5 then 6; file pages 0, 1, 4 then 5. */
	ck_assert_int_eq(eloq_change_begin(&change, mapper), 0);
	for (uint32_t i = 2; i < 7; i++) {
		static const uint64_t expected[] = { 0, 1, 4, 5, 6 };

		ck_assert_int_eq(eloq_change_alloc(change, &id), 0);
		ck_assert_uint_eq(id, i);
		ck_assert_int_eq(eloq_change_place(change, id, &file_page), 0);
		ck_assert_uint_eq(file_page, expected[i - 2]);
	}
	eloq_change_abort(change);
	eloq_mapper_close(mapper);
}

static int load_two(bool append_mode, uint64_t a, uint64_t b, uint64_t end)
{
	struct eloq_mapper *mapper;
	int r;

	ck_assert_int_eq(eloq_mapper_open(&mapper, append_mode), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 0, a), 0);
	ck_assert_int_eq(eloq_mapper_load_set(mapper, 700, b), 0);
	r = eloq_mapper_load_end(mapper, no_roots(), end, 0);
	eloq_mapper_close(mapper);
	return r;
}

TEST(load_refuses_shared_file_pages_and_pages_behind_the_end)
{
	for (int append_mode = 0; append_mode < 2; append_mode++) {
		ck_assert_int_eq(load_two(append_mode, 5, 6, 7), 0);
		ck_assert_int_eq(load_two(append_mode, 5, 5, 7), -ELOQ_ECORRUPT);
		ck_assert_int_eq(load_two(append_mode, 5, 7, 7), -ELOQ_ECORRUPT);
	}
	ck_assert_int_eq(load_two(true, UINT64_C(1) << 50, (UINT64_C(1) << 50) + 9,
				  (UINT64_C(1) << 50) + 10),
			 0);
	ck_assert_int_eq(load_two(true, 5, UINT64_C(1) << 50, (UINT64_C(1) << 50) + 10),
			 -EOVERFLOW);
	ck_assert_int_eq(load_two(false, 5, 6, UINT64_C(1) << 50), -EOVERFLOW);
	ck_assert_int_eq(load_two(true, 5, 6, UINT64_MAX), -EOVERFLOW);
}
