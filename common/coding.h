/*
 * coding.h - numbers as bytes: little-endian words, varints, sign-magnitude varints.
 *
 * Everything on disk and in shared memory that is not a C structure goes through here.
 * docs/format.md, "Encodings". Readers take [p, end) and return NULL when the bytes do not hold
 * a whole number; they never read past end.
 */
#ifndef ELOQ_COMMON_CODING_H
#define ELOQ_COMMON_CODING_H

#include "common/compiler.h"

#include <endian.h>
#include <string.h>

enum { ELOQ_VARINT32_BYTES_MAX = 5, ELOQ_VARINT64_BYTES_MAX = 10 };

static inline uint16_t eloq_get_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t eloq_get_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t eloq_get_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void eloq_put_u16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void eloq_put_u32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void eloq_put_u64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* Bytes that eloq_put_varint() will write, 1..10. */
static inline unsigned eloq_varint_bytes(uint64_t v)
{
	unsigned bits = 64u - (unsigned)__builtin_clzll(v | 1);

	return (bits + 6) / 7;
}

/* Writes the shortest LEB128 form and returns the byte behind it. */
static inline uint8_t *eloq_put_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

/* Reads at most @bytes_max bytes; NULL if the number does not end within them or before @end. */
static inline const uint8_t *eloq_get_varint(const uint8_t *p, const uint8_t *end,
					     unsigned bytes_max, uint64_t *ret_v)
{
	uint64_t v = 0;
	unsigned shift = 0;

	for (unsigned i = 0; i < bytes_max && p < end; i++) {
		uint8_t byte = *p++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_v = v;
			return p;
		}
		shift += 7;
	}
	return NULL;
}

static inline const uint8_t *eloq_get_varint64(const uint8_t *p, const uint8_t *end,
					       uint64_t *ret_v)
{
	return eloq_get_varint(p, end, ELOQ_VARINT64_BYTES_MAX, ret_v);
}

/* Bits above 31 of a fifth byte are dropped, as the reference does. */
static inline const uint8_t *eloq_get_varint32(const uint8_t *p, const uint8_t *end,
					       uint32_t *ret_v)
{
	uint64_t v;

	if (eloq_likely(p < end && *p < 0x80)) {
		*ret_v = *p;
		return p + 1;
	}
	p = eloq_get_varint(p, end, ELOQ_VARINT32_BYTES_MAX, &v);
	if (p)
		*ret_v = (uint32_t)v;
	return p;
}

/* Sign-magnitude code of a difference: (|d| << 1) | sign. Not zig-zag: -1 is 3. |d| < 2^63. */
static inline uint64_t eloq_sm_encode(int64_t d)
{
	return d < 0 ? ((uint64_t)-d << 1) | 1 : (uint64_t)d << 1;
}

static inline int64_t eloq_sm_decode(uint64_t u)
{
	int64_t m = (int64_t)(u >> 1);

	return u & 1 ? -m : m;
}

#endif
