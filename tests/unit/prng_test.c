/*
 * prng_test.c - the generator: the published sequence, and numbers that fill their range.
 */
#include "common/prng.h"

#include "tests/support/test.h"

TEST(prng_gives_the_published_sequence_of_splitmix64)
{
	static const uint64_t expected[] = { UINT64_C(6457827717110365317),
					     UINT64_C(3203168211198807973),
					     UINT64_C(9817491932198370423),
					     UINT64_C(4593380528125082431),
					     UINT64_C(16408922859458223821) };
	struct eloq_prng prng;

	eloq_prng_seed(&prng, 1234567);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		ck_assert_uint_eq(eloq_prng_next(&prng), expected[i]);
}

TEST(prng_below_a_bound_reaches_every_number_and_no_other)
{
	struct eloq_prng prng;
	unsigned seen[7] = { 0 };

	eloq_prng_seed(&prng, 1); /* fixed: the bounds below must hold for the one sequence */
	for (unsigned i = 0; i < 70000; i++) {
		uint64_t value = eloq_prng_below(&prng, 7);

		ck_assert_uint_lt(value, 7);
		seen[value]++;
	}
	for (unsigned i = 0; i < 7; i++) {
		ck_assert_uint_gt(seen[i], 9500);
		ck_assert_uint_lt(seen[i], 10500);
	}
	ck_assert_uint_eq(eloq_prng_below(&prng, 0), 0);
	ck_assert_uint_eq(eloq_prng_below(&prng, 1), 0);
	ck_assert_uint_gt(eloq_prng_below(&prng, UINT64_MAX), 0);
}
