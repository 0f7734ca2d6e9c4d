/*
 * key.h - how keys compare, and what is cut from them for separators.
 *
 * Keys are unsigned bytes in memcmp order; on a common prefix the shorter one is smaller.
 * Pure functions, any thread. docs/format.md, "Keys".
 */
#ifndef ELOQ_FORMAT_KEY_H
#define ELOQ_FORMAT_KEY_H

#include "common/coding.h"
#include "common/limits.h"

/*
 * A buffer that holds any key of a page that passed its check: a key of the TTL tree is a user's
 * key behind 8 bytes of expiry.
 */
enum { ELOQ_TTL_PREFIX_BYTES = 8, ELOQ_KEY_BUFFER_BYTES = ELOQ_KEY_BYTES_MAX + 8 };

/* The longest key that is accepted for a store of this page size; TTL keys count their prefix. */
static inline uint32_t eloq_key_bytes_max(uint32_t page_bytes)
{
	return page_bytes / 2;
}

/* How many of the first @count bytes are equal. */
static inline uint32_t eloq_key_match(const uint8_t *a, const uint8_t *b, uint32_t count)
{
	uint32_t i = 0;

	for (; count - i >= 8; i += 8) {
		uint64_t difference = eloq_get_u64(a + i) ^ eloq_get_u64(b + i);

		if (difference != 0)
			return i + (uint32_t)__builtin_ctzll(difference) / 8;
	}
	while (i < count && a[i] == b[i])
		i++;
	return i;
}

/* Length of the common prefix of two keys. */
static inline uint32_t eloq_key_common(const uint8_t *a, uint32_t a_bytes, const uint8_t *b,
				       uint32_t b_bytes)
{
	return eloq_key_match(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
}

/* <0, 0, >0 as memcmp. */
static inline int eloq_key_compare(const uint8_t *a, uint32_t a_bytes, const uint8_t *b,
				   uint32_t b_bytes)
{
	uint32_t common = eloq_key_common(a, a_bytes, b, b_bytes);

	if (common < a_bytes && common < b_bytes)
		return (int)a[common] - (int)b[common];
	return (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/*
 * Separator for a new right neighbour: the shortest prefix of @first, its first key, that is
 * greater than @last, the last key on its left. Returns its length; @last < @first must hold.
 */
static inline uint32_t eloq_key_separator_bytes(const uint8_t *last, uint32_t last_bytes,
						const uint8_t *first, uint32_t first_bytes)
{
	return eloq_key_common(last, last_bytes, first, first_bytes) + 1;
}

/* The only big-endian number of the format: expiry times sort as bytes in front of TTL keys. */
static inline void eloq_put_ttl_prefix(uint8_t *p, uint64_t expire_ms)
{
	expire_ms = htobe64(expire_ms);
	memcpy(p, &expire_ms, sizeof(expire_ms));
}

static inline uint64_t eloq_get_ttl_prefix(const uint8_t *p)
{
	uint64_t expire_ms;

	memcpy(&expire_ms, p, sizeof(expire_ms));
	return be64toh(expire_ms);
}

#endif
