/*
 * checksum.c - XXH3 from libxxhash, inlined for speed on short keys. See checksum.h.
 */
#include "common/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CHECKSUM_BLOCK_BYTES = 1 << 20 };

uint64_t eloq_checksum_xxh3(const void *bytes, size_t count)
{
	return XXH3_64bits(bytes, count);
}

uint64_t eloq_checksum_manifest(const void *bytes, size_t count)
{
	const uint8_t *p = bytes;
	uint64_t sum = 0;

	while (count > 0) {
		size_t block = count < CHECKSUM_BLOCK_BYTES ? count : CHECKSUM_BLOCK_BYTES;

		sum = ((sum << 1) | (sum >> 63)) ^ XXH3_64bits(p, block);
		sum *= UINT64_C(0x9E3779B97F4A7C15);
		p += block;
		count -= block;
	}
	return sum;
}
