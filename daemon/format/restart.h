/*
 * restart.h - what data and index pages have in common: restart array, bisection, region walk.
 *
 * Private to the format directory. A page ends, at the offset that its length field names, with
 * u16 offsets of the entries at which a region starts, and their u16 count. While a page is being
 * built the array grows down from the end of the buffer, because its place is not known yet.
 */
#ifndef ELOQ_FORMAT_RESTART_H
#define ELOQ_FORMAT_RESTART_H

#include "daemon/format/key.h"
#include "daemon/format/page.h"

struct restarts {
	uint32_t end; /* offset of the array, which is the end of the entries */
	uint32_t count;
};

/* Of a checked page. */
static inline struct restarts restarts_of(const uint8_t *page, uint32_t page_bytes)
{
	uint32_t length = eloq_get_u16(page + ELOQ_PAGE_LENGTH);
	uint32_t count = eloq_get_u16(page + length - 2);

	eloq_assert_slow(length <= page_bytes);
	return (struct restarts){ .end = length - 2 * (count + 1), .count = count };
}

static inline uint32_t restart_offset(const uint8_t *page, struct restarts restarts, uint32_t index)
{
	return eloq_get_u16(page + restarts.end + 2 * index);
}

/*
 * Whether length, count and array hold together for entries that begin at @entries. A page with
 * restarts has entries from its first restart on; one without has none.
 */
bool eloq_restarts_check(const uint8_t *page, uint32_t page_bytes, uint32_t entries,
			 struct restarts *ret_restarts);

/* Notes a restart at @offset in a page that is being built and has @count restarts so far. */
void eloq_restart_push(uint8_t *page, uint32_t page_bytes, uint32_t count, uint32_t offset);

/* Moves the array behind the entries, writes count and length, zeroes what is unused. */
void eloq_restarts_finish(uint8_t *page, uint32_t page_bytes, uint32_t used, uint32_t count);

/* A key that is being looked for, and how much of it the last entry passed had in common. */
struct wanted {
	const uint8_t *key;
	uint32_t key_bytes;
	uint32_t match;
};

/*
 * How the next entry of a walk compares with the wanted key: <0, 0, >0. The walk starts at a
 * restart with match 0 and goes on while entries are smaller, which is what makes this work: the
 * entry before is smaller than the key and differs from it at byte `match`, if it is that long.
 * An entry that shares more with it than that differs at the same place and is smaller too.
 */
static inline int wanted_compare(struct wanted *wanted, uint32_t shared, const uint8_t *suffix,
				 uint32_t suffix_bytes)
{
	uint32_t key_rest, common;

	if (shared > wanted->match)
		return -1;
	key_rest = wanted->key_bytes - shared;
	common = eloq_key_common(suffix, suffix_bytes, wanted->key + shared, key_rest);
	wanted->match = shared + common;
	if (common < suffix_bytes && common < key_rest)
		return (int)suffix[common] - (int)wanted->key[shared + common];
	return (suffix_bytes > key_rest) - (suffix_bytes < key_rest);
}

#endif
