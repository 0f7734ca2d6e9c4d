/*
 * ring.h - what both ends of a byte ring agree on: where a record may start, how it is filled,
 * and how bytes that the other side may still change are read.
 *
 * A ring lies behind the header page of its segment and is mapped twice in a row, so a position
 * has the same place in its cache line as in memory, and what starts in the ring never wraps.
 *
 * Private to shm/: the ends of a lane and the messages are made of it.
 */
#ifndef ELOQ_SHM_RING_H
#define ELOQ_SHM_RING_H

#include "common/compiler.h"
#include "shm/layout.h"
#include "shm/message.h"

#include <string.h>

enum {
	ELOQ_PAD_BYTES_MAX = ELOQ_CACHE_LINE - ELOQ_RECORD_ALIGN,
	/* A record that may get a PAD is at most one line long. */
	ELOQ_PADDED_RECORD_BYTES_MAX = ELOQ_PAD_BYTES_MAX + ELOQ_CACHE_LINE,
};

static_assert(ELOQ_SEGMENT_HEADER_BYTES % ELOQ_CACHE_LINE == 0, "rings start at a line");

/* Anything longer travels in bulk memory. */
static inline uint32_t eloq_ring_record_bytes_max(uint32_t ring_bytes)
{
	return ring_bytes / 4;
}

/* Bytes of PAD that a record needs before it at @position: what fits a line stays in one. */
static inline size_t eloq_ring_pad_bytes(uint64_t position, size_t record_bytes)
{
	size_t left = ELOQ_CACHE_LINE - position % ELOQ_CACHE_LINE;

	return record_bytes <= ELOQ_CACHE_LINE && record_bytes > left ? left : 0;
}

/* Writes key and value at @p, with zeros to the next multiple of 8. */
static inline void eloq_ring_put_payload(uint8_t *p, const void *key, size_t key_bytes,
					 const void *value, size_t value_bytes)
{
	size_t bytes = key_bytes + value_bytes;

	memset(p + bytes, 0, eloq_round_up(bytes, ELOQ_RECORD_ALIGN) - bytes);
	if (key_bytes)
		memcpy(p, key, key_bytes);
	if (value_bytes)
		memcpy(p + key_bytes, value, value_bytes);
}

/*
 * Copies foreign memory to private memory, reading it once: the barrier keeps the compiler from
 * fetching a value from @from again where the copy is used, when it may have been rewritten. @to
 * may be NULL if there are no bytes.
 */
static inline void eloq_ring_copy_in(void *to, const uint8_t *from, size_t bytes)
{
	if (bytes)
		memcpy(to, from, bytes);
	__asm__ volatile("" ::: "memory");
}

#endif
