/*
 * io_regions_test.c - the table of registered memory, against a plain map of pages.
 *
 * Addresses are made up: the table does not look behind them.
 */
#include "daemon/io/backend.h"

#include "common/err.h"
#include "common/prng.h"
#include "tests/support/test.h"

enum { PAGE = 4096, SPACE_PAGES = 64, SLOTS = 12, REGION_PAGES_MAX = 6, ROUNDS = 20000 };

#define BASE ((char *)0x10000000)

struct model {
	struct eloq_io_regions regions;
	int slot_of[SPACE_PAGES]; /* the region that a page is in, or -1 */
	bool is_first[SPACE_PAGES];
	unsigned count;
};

static char *address(size_t page)
{
	return BASE + page * PAGE;
}

/* The slot of all these pages if they are of one region, else -1. */
static int model_find(const struct model *model, size_t page, size_t count)
{
	int slot = model->slot_of[page];

	for (size_t i = page; i < page + count; i++)
		if (i >= SPACE_PAGES || model->slot_of[i] != slot)
			return -1;
	return slot;
}

static void model_add(struct model *model, size_t page, size_t count)
{
	int slot;

	for (size_t i = page; i < page + count; i++)
		if (model->slot_of[i] >= 0)
			return; /* regions are disjoint */
	slot = eloq_io_regions_add(&model->regions, address(page), count * PAGE);
	if (model->count == SLOTS) {
		ck_assert_int_eq(slot, -ELOQ_ETOOMANY);
		return;
	}
	ck_assert_int_ge(slot, 0);
	ck_assert_int_lt(slot, SLOTS);
	for (size_t i = 0; i < SPACE_PAGES; i++)
		ck_assert_int_ne(model->slot_of[i], slot);
	for (size_t i = page; i < page + count; i++)
		model->slot_of[i] = slot;
	model->is_first[page] = true;
	model->count++;
}

/* Removes all in a range, which is widened so that it cuts no region. */
static void model_remove(struct model *model, size_t page, size_t count)
{
	size_t end = page + count, bytes, removed = 0, expected = 0;
	int slot;

	while (model->slot_of[page] >= 0 && !model->is_first[page])
		page--;
	while (end < SPACE_PAGES && model->slot_of[end] >= 0 && !model->is_first[end])
		end++;
	while ((slot = eloq_io_regions_remove(&model->regions, address(page), (end - page) * PAGE,
					      &bytes)) >= 0) {
		size_t pages = 0;

		for (size_t i = page; i < end; i++)
			pages += model->slot_of[i] == slot;
		ck_assert_uint_eq(bytes, pages * PAGE);
		removed++;
	}
	for (size_t i = page; i < end; i++) {
		expected += model->is_first[i];
		model->is_first[i] = false;
		model->slot_of[i] = -1;
	}
	ck_assert_uint_eq(removed, expected);
	model->count -= (unsigned)removed;
}

TEST(regions_agree_with_a_map_of_pages_under_random_changes)
{
	struct model model = { .count = 0 };
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (size_t i = 0; i < SPACE_PAGES; i++)
		model.slot_of[i] = -1;
	ck_assert_int_eq(eloq_io_regions_init(&model.regions, SLOTS), 0);
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = 1 + eloq_prng_below(&prng, REGION_PAGES_MAX);
		size_t page = eloq_prng_below(&prng, SPACE_PAGES - count + 1);

		if (eloq_prng_below(&prng, 4) == 0)
			model_remove(&model, page, count);
		else
			model_add(&model, page, count);
		page = eloq_prng_below(&prng, SPACE_PAGES);
		count = 1 + eloq_prng_below(&prng, REGION_PAGES_MAX);
		ck_assert_int_eq(eloq_io_regions_find(&model.regions, address(page), count * PAGE),
				 model_find(&model, page, count));
	}
	eloq_io_regions_fini(&model.regions);
}

TEST(region_has_its_bytes_from_the_first_to_the_last_and_no_other)
{
	struct eloq_io_regions regions;
	size_t bytes;
	int slot;

	ck_assert_int_eq(eloq_io_regions_init(&regions, 2), 0);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE, 1), -1);
	slot = eloq_io_regions_add(&regions, BASE, 100);
	ck_assert_int_ge(slot, 0);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE, 100), slot);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE + 99, 1), slot);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE + 99, 2), -1);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE + 100, 1), -1);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE - 1, 1), -1);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE + 5, 0), -1);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE + 5, SIZE_MAX), -1);
	ck_assert_int_eq(eloq_io_regions_remove(&regions, BASE + 100, 100, &bytes), -1);
	ck_assert_int_eq(eloq_io_regions_remove(&regions, BASE, 100, &bytes), slot);
	ck_assert_uint_eq(bytes, 100);
	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE, 100), -1);
	eloq_io_regions_fini(&regions);
}

/* Where the kernel refuses a table, nothing is ever found. */
TEST(table_that_was_never_made_finds_nothing)
{
	struct eloq_io_regions regions = { 0 };
	size_t bytes;

	ck_assert_int_eq(eloq_io_regions_find(&regions, BASE, 1), -1);
	ck_assert_int_eq(eloq_io_regions_remove(&regions, BASE, 100, &bytes), -1);
	eloq_io_regions_fini(&regions);
}
