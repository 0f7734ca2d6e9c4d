/*
 * coding_test.c - numbers as bytes, against the table of the format document.
 */
#include "common/coding.h"

#include "common/prng.h"
#include "tests/support/test.h"

TEST(little_endian_words_round_trip_at_any_alignment)
{
	uint8_t bytes[16] = { 0 };

	eloq_put_u16(bytes + 1, 0x1234);
	ck_assert_int_eq(bytes[1], 0x34);
	ck_assert_int_eq(bytes[2], 0x12);
	ck_assert_uint_eq(eloq_get_u16(bytes + 1), 0x1234);
	eloq_put_u32(bytes + 3, 0x12345678);
	ck_assert_int_eq(bytes[3], 0x78);
	ck_assert_uint_eq(eloq_get_u32(bytes + 3), 0x12345678);
	eloq_put_u64(bytes + 5, UINT64_C(0x0123456789abcdef));
	ck_assert_int_eq(bytes[5], 0xef);
	ck_assert_uint_eq(eloq_get_u64(bytes + 5), UINT64_C(0x0123456789abcdef));
}

TEST(sign_magnitude_codes_are_those_of_the_format)
{
	static const struct {
		int64_t value;
		uint8_t bytes[2];
		unsigned count;
	} table[] = {
		{ 0, { 0x00 }, 1 },	     { 1, { 0x02 }, 1 },
		{ -1, { 0x03 }, 1 },	     { -10, { 0x15 }, 1 },
		{ 296, { 0xd0, 0x04 }, 2 },  { 1000, { 0xd0, 0x0f }, 2 },
		{ 1005, { 0xda, 0x0f }, 2 },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(table); i++) {
		uint8_t bytes[ELOQ_VARINT64_BYTES_MAX];
		uint8_t *end = eloq_put_varint(bytes, eloq_sm_encode(table[i].value));
		uint64_t code;

		ck_assert_uint_eq((size_t)(end - bytes), table[i].count);
		ck_assert_mem_eq(bytes, table[i].bytes, table[i].count);
		ck_assert_ptr_eq(eloq_get_varint64(bytes, end, &code), end);
		ck_assert_int_eq(eloq_sm_decode(code), table[i].value);
	}
	ck_assert_int_eq(eloq_sm_decode(1), 0);
	ck_assert_int_eq(eloq_sm_decode(eloq_sm_encode(INT64_MAX)), INT64_MAX);
	ck_assert_int_eq(eloq_sm_decode(eloq_sm_encode(-INT64_MAX)), -INT64_MAX);
}

TEST(varints_of_any_size_round_trip_in_their_shortest_form)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (int i = 0; i < 20000; i++) {
		uint64_t v = eloq_prng_next(&prng) >> eloq_prng_below(&prng, 64);
		uint8_t bytes[ELOQ_VARINT64_BYTES_MAX];
		uint8_t *end = eloq_put_varint(bytes, v);
		uint64_t back = ~v;
		uint32_t back32;

		ck_assert_uint_eq((size_t)(end - bytes), eloq_varint_bytes(v));
		ck_assert(end == bytes + 1 || end[-1] != 0);
		ck_assert_ptr_eq(eloq_get_varint64(bytes, end, &back), end);
		ck_assert_uint_eq(back, v);
		ck_assert_ptr_null(eloq_get_varint64(bytes, end - 1, &back));
		if (v <= UINT32_MAX) {
			ck_assert_ptr_eq(eloq_get_varint32(bytes, end, &back32), end);
			ck_assert_uint_eq(back32, v);
			ck_assert_ptr_null(eloq_get_varint32(bytes, end - 1, &back32));
		}
	}
}

TEST(varints_that_do_not_end_in_time_are_refused)
{
	const uint8_t ff[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const uint8_t five[] = { 0xff, 0xff, 0xff, 0xff, 0x7f };
	const uint8_t six[] = { 0x80, 0x80, 0x80, 0x80, 0x80, 0x01 };
	uint64_t v64;
	uint32_t v32;

	ck_assert_ptr_null(eloq_get_varint64(ff, ff + sizeof(ff), &v64));
	ck_assert_ptr_null(eloq_get_varint32(ff, ff + sizeof(ff), &v32));
	ck_assert_ptr_null(eloq_get_varint32(six, six + sizeof(six), &v32));
	ck_assert_ptr_eq(eloq_get_varint64(six, six + sizeof(six), &v64), six + sizeof(six));
	ck_assert_uint_eq(v64, UINT64_C(1) << 35);
	/* The surplus bits of a fifth byte are dropped. */
	ck_assert_ptr_eq(eloq_get_varint32(five, five + sizeof(five), &v32), five + sizeof(five));
	ck_assert_uint_eq(v32, UINT32_MAX);
}
