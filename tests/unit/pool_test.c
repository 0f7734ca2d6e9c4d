/*
 * pool_test.c - a bounded number of objects, none of them handed out twice.
 */
#include "common/pool.h"

#include "common/prng.h"
#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { OBJECT_COUNT = 64, STEPS = 20000 };

TEST(pool_of_nothing_is_refused)
{
	struct eloq_pool *pool = NULL;

	ck_assert_int_eq(eloq_pool_open(&pool, 0, 8, 1), -EINVAL);
	ck_assert_int_eq(eloq_pool_open(&pool, 8, 8, 0), -EINVAL);
	ck_assert_int_eq(eloq_pool_open(&pool, 8, 24, 1), -EINVAL);
	ck_assert_int_eq(eloq_pool_open(&pool, SIZE_MAX / 4, 8, 8), -EINVAL);
	ck_assert_int_eq(eloq_pool_open(&pool, SIZE_MAX, 8, 1), -EINVAL);
	ck_assert_ptr_null(pool);
	eloq_pool_close(NULL);
}

TEST(pool_answers_null_when_all_are_in_use_and_goes_on_after_a_give)
{
	struct eloq_pool *pool;
	void *a, *b;

	ck_assert_int_eq(eloq_pool_open(&pool, 1, 1, 2), 0);
	ck_assert_uint_eq(eloq_pool_count(pool), 2);
	a = eloq_pool_take(pool);
	b = eloq_pool_take(pool);
	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_nonnull(b);
	ck_assert_ptr_null(eloq_pool_take(pool));
	ck_assert_uint_eq(eloq_pool_in_use(pool), 2);
	eloq_pool_give(pool, NULL);
	ck_assert_uint_eq(eloq_pool_in_use(pool), 2);
	eloq_pool_give(pool, a);
	ck_assert_uint_eq(eloq_pool_in_use(pool), 1);
	ck_assert_ptr_eq(eloq_pool_take(pool), a);
	eloq_pool_give(pool, a);
	eloq_pool_give(pool, b);
	eloq_pool_close(pool);
}

TEST(pool_objects_are_aligned_as_asked_and_apart)
{
	struct eloq_pool *pool;
	char *objects[16];

	ck_assert_int_eq(eloq_pool_open(&pool, 4097, 4096, 16), 0);
	for (unsigned i = 0; i < 16; i++) {
		objects[i] = eloq_pool_take(pool);
		ck_assert_uint_eq((uintptr_t)objects[i] % 4096, 0);
		memset(objects[i], (int)i, 4097);
	}
	for (unsigned i = 0; i < 16; i++) {
		ck_assert_int_eq(objects[i][0], (int)i);
		ck_assert_int_eq(objects[i][4096], (int)i);
		eloq_pool_give(pool, objects[i]);
	}
	eloq_pool_close(pool);
}

TEST(pool_taken_and_given_in_any_order_keeps_each_object_to_its_owner)
{
	struct eloq_pool *pool;
	struct eloq_prng prng;
	uint64_t *objects[OBJECT_COUNT] = { 0 };
	uint64_t expected[OBJECT_COUNT];
	size_t in_use = 0;

	eloq_prng_seed(&prng, test_seed());
	ck_assert_int_eq(eloq_pool_open(&pool, 40, 8, OBJECT_COUNT / 2), 0);
	for (unsigned step = 0; step < STEPS; step++) {
		size_t i = eloq_prng_below(&prng, OBJECT_COUNT);

		if (objects[i]) {
			for (unsigned word = 0; word < 5; word++)
				ck_assert_uint_eq(objects[i][word], expected[i] + word);
			eloq_pool_give(pool, objects[i]);
			objects[i] = NULL;
			in_use--;
		} else {
			objects[i] = eloq_pool_take(pool);
			ck_assert_int_eq(objects[i] == NULL, in_use == OBJECT_COUNT / 2);
			in_use += objects[i] != NULL;
			expected[i] = eloq_prng_next(&prng);
			for (unsigned word = 0; objects[i] && word < 5; word++)
				objects[i][word] = expected[i] + word;
		}
		ck_assert_uint_eq(eloq_pool_in_use(pool), in_use);
	}
	for (unsigned i = 0; i < OBJECT_COUNT; i++)
		eloq_pool_give(pool, objects[i]);
	eloq_pool_close(pool);
}
