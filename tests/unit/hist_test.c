/*
 * hist_test.c - the histogram against the numbers themselves, sorted.
 */
#include "common/hist.h"

#include "common/prng.h"
#include "tests/support/test.h"

#include <stdbool.h>
#include <stdlib.h>

enum { VALUE_COUNT = 20000 };

static struct eloq_hist hist, other;

/* Within the promised 2 %, and exact where that is less than one. */
static bool near(uint64_t got, uint64_t exact)
{
	uint64_t distance = got > exact ? got - exact : exact - got;

	return distance <= exact / 50;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

TEST(hist_without_numbers_answers_zero)
{
	eloq_hist_clear(&hist);
	ck_assert_uint_eq(eloq_hist_count(&hist), 0);
	ck_assert_uint_eq(eloq_hist_max(&hist), 0);
	ck_assert_uint_eq(eloq_hist_percentile(&hist, 50), 0);
	ck_assert_uint_eq(eloq_hist_percentile(&hist, 100), 0);
}

TEST(hist_of_one_number_gives_it_back_at_any_size)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		for (int step = -1; step <= 1; step++) {
			uint64_t value = (UINT64_C(1) << bit) + (uint64_t)step;

			eloq_hist_clear(&hist);
			eloq_hist_record(&hist, value);
			ck_assert_msg(near(eloq_hist_percentile(&hist, 50), value),
				      "%#lx came back as %#lx", value,
				      eloq_hist_percentile(&hist, 50));
			ck_assert_uint_eq(eloq_hist_max(&hist), value);
			ck_assert_uint_eq(eloq_hist_sum(&hist), value);
			ck_assert_uint_eq(eloq_hist_count(&hist), 1);
		}
	}
}

TEST(hist_percentiles_are_those_of_the_sorted_numbers)
{
	static const double percents[] = { 0, 1, 10, 25, 50, 75, 90, 99, 99.9, 99.99, 100 };
	static uint64_t values[VALUE_COUNT];
	struct eloq_prng prng;
	uint64_t sum = 0;

	eloq_prng_seed(&prng, test_seed());
	eloq_hist_clear(&hist);
	eloq_hist_clear(&other);
	for (unsigned i = 0; i < VALUE_COUNT; i++) {
		values[i] = eloq_prng_next(&prng) >> (20 + eloq_prng_below(&prng, 44));
		sum += values[i];
		eloq_hist_record(i % 3 ? &hist : &other, values[i]);
	}
	eloq_hist_merge(&hist, &other);
	qsort(values, VALUE_COUNT, sizeof(values[0]), compare_u64);
	ck_assert_uint_eq(eloq_hist_count(&hist), VALUE_COUNT);
	ck_assert_uint_eq(eloq_hist_sum(&hist), sum);
	ck_assert_uint_eq(eloq_hist_max(&hist), values[VALUE_COUNT - 1]);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		size_t rank = (size_t)(percents[i] * VALUE_COUNT / 100 + 0.999999);
		uint64_t exact = values[rank > 0 ? rank - 1 : 0];
		uint64_t got = eloq_hist_percentile(&hist, percents[i]);

		ck_assert_msg(near(got, exact), "p%g is %lu, not %lu", percents[i], got, exact);
	}
	ck_assert_uint_eq(eloq_hist_percentile(&hist, 100), values[VALUE_COUNT - 1]);
}

TEST(hist_merge_of_an_empty_one_changes_nothing)
{
	eloq_hist_clear(&hist);
	eloq_hist_clear(&other);
	eloq_hist_record(&hist, 7);
	eloq_hist_merge(&hist, &other);
	ck_assert_uint_eq(eloq_hist_count(&hist), 1);
	ck_assert_uint_eq(eloq_hist_max(&hist), 7);
	eloq_hist_merge(&other, &hist);
	ck_assert_uint_eq(eloq_hist_max(&other), 7);
	ck_assert_uint_eq(eloq_hist_percentile(&other, 1), 7);
}
