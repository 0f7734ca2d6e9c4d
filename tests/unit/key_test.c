/*
 * key_test.c - keys compare as memcmp does, separators are as short as can be.
 */
#include "daemon/format/key.h"

#include "common/prng.h"
#include "tests/support/test.h"

static int memcmp_order(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

	return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

TEST(random_keys_compare_as_memcmp_does_and_separators_part_them)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (int i = 0; i < 20000; i++) {
		uint8_t keys[2][40];
		uint32_t bytes[2];
		uint32_t separator_bytes;
		int order, small;

		/* Equal beginnings of any length, bytes above 127 among them. */
		for (int k = 0; k < 2; k++) {
			bytes[k] = 1 + (uint32_t)eloq_prng_below(&prng, sizeof(keys[k]));
			memset(keys[k], 0x80, sizeof(keys[k]));
			if (eloq_prng_below(&prng, 4) > 0)
				keys[k][eloq_prng_below(&prng, bytes[k])] =
					(uint8_t)eloq_prng_next(&prng);
		}
		order = memcmp_order(keys[0], bytes[0], keys[1], bytes[1]);
		ck_assert_int_eq(sign(eloq_key_compare(keys[0], bytes[0], keys[1], bytes[1])),
				 sign(order));
		if (order == 0)
			continue;
		small = order > 0;
		separator_bytes = eloq_key_separator_bytes(keys[small], bytes[small], keys[!small],
							   bytes[!small]);
		/* Above the small key, not above the great one; a byte less would not be above. */
		ck_assert_uint_le(separator_bytes, bytes[!small]);
		ck_assert_int_gt(
			memcmp_order(keys[!small], separator_bytes, keys[small], bytes[small]), 0);
		ck_assert_int_le(
			memcmp_order(keys[!small], separator_bytes - 1, keys[small], bytes[small]),
			0);
	}
}

TEST(a_separator_is_the_shortest_prefix_above_the_left_key)
{
	static const struct {
		const char *last, *first, *separator;
	} table[] = {
		{ "apple", "banana", "b" },	     { "apple", "apply", "apply" },
		{ "app", "apple", "appl" },	     { "a", "aa", "aa" },
		{ "user:1", "user:2xyz", "user:2" },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(table); i++) {
		const uint8_t *last = (const uint8_t *)table[i].last;
		const uint8_t *first = (const uint8_t *)table[i].first;
		uint32_t bytes = eloq_key_separator_bytes(last, (uint32_t)strlen(table[i].last),
							  first, (uint32_t)strlen(table[i].first));

		ck_assert_uint_eq(bytes, strlen(table[i].separator));
		ck_assert_mem_eq(first, table[i].separator, bytes);
	}
}

TEST(ttl_prefixes_sort_by_time)
{
	const uint8_t expected[] = { 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0 };
	uint8_t early[8], late[8];

	eloq_put_ttl_prefix(early, 1700000000000);
	ck_assert_mem_eq(early, expected, 8);
	ck_assert_uint_eq(eloq_get_ttl_prefix(early), 1700000000000);
	eloq_put_ttl_prefix(late, 1700000000256);
	ck_assert_int_lt(memcmp(early, late, 8), 0);
}
