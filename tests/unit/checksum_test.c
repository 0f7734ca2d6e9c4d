/*
 * checksum_test.c - the format document's vectors of both checksums.
 */
#include "common/checksum.h"

#include "tests/unit/hex.h"

TEST(the_page_hash_is_xxh3_with_seed_0)
{
	static const uint8_t zeroes[4088];

	ck_assert_uint_eq(eloq_checksum_xxh3("", 0), UINT64_C(0x2d06800538d394c2));
	ck_assert_uint_eq(eloq_checksum_xxh3("a", 1), UINT64_C(0xe6c632b61e964e1f));
	ck_assert_uint_eq(eloq_checksum_xxh3(zeroes, sizeof(zeroes)), UINT64_C(0xe9b88c5d16960ee3));
}

TEST(the_manifest_checksum_mixes_even_a_single_block)
{
	static const uint8_t zeroes[12];
	uint8_t *record = hex_bytes("01000000ffffffff1b00000003000400000001110712"
				    "0d0000000000feffffffffffffffff0100",
				    39);

	ck_assert_uint_eq(eloq_checksum_manifest(zeroes, sizeof(zeroes)),
			  UINT64_C(0x22d1f9aeb23bc7b0));
	ck_assert_uint_eq(eloq_checksum_xxh3(record, 39), UINT64_C(0xd31b89fd4dd23588));
	ck_assert_uint_eq(eloq_checksum_manifest(record, 39), UINT64_C(0x3d5ac213257c4428));
	free(record);
}

TEST(the_manifest_checksum_runs_on_over_blocks_of_1_mib)
{
	size_t count = 1048581;
	uint8_t *bytes = malloc(count);

	ck_assert_ptr_nonnull(bytes);
	memset(bytes, 'x', count);
	ck_assert_uint_eq(eloq_checksum_manifest(bytes, count), UINT64_C(0xde4f16aa0b7adf73));
	free(bytes);
}
