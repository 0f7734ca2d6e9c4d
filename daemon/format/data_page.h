/*
 * data_page.h - leaves: prefix-compressed entries with restart points, linked to their neighbours.
 *
 * Idea:    entries are delta-coded within regions of a few; an array at the end names where
 *          regions start. A point lookup bisects that array by complete keys and then walks one
 *          region, carrying only how many bytes of the wanted key match so far: no key is rebuilt.
 * Always:  a data page has at least one entry; the first restart is the first entry.
 * Fails by: reading functions expect a page that passed eloq_data_page_check().
 *
 * Pure bytes, any thread. docs/format.md, "Data pages".
 */
#ifndef ELOQ_FORMAT_DATA_PAGE_H
#define ELOQ_FORMAT_DATA_PAGE_H

#include "daemon/format/key.h"
#include "daemon/format/page.h"

enum { ELOQ_DATA_PREV = 11, ELOQ_DATA_NEXT = 15, ELOQ_DATA_ENTRIES = 19 };

/* Timestamps are stored as signed 64-bit numbers; greater ones are clamped when written. */
#define ELOQ_TIMESTAMP_MAX (UINT64_MAX >> 1)

/* eloq_entry.flags, as on disk but for the expiry bit, which there follows from expire_ms. */
enum {
	ELOQ_ENTRY_OVERFLOW = 1,	 /* the value is a list of page ids, u32 each */
	ELOQ_ENTRY_EXPIRY = 2,		 /* on disk only */
	ELOQ_ENTRY_COMPRESSED_DICT = 4,	 /* zstd with the partition's dictionary */
	ELOQ_ENTRY_COMPRESSED_ALONE = 8, /* zstd without a dictionary */
	ELOQ_ENTRY_COMPRESSION = 12,	 /* mask */
	ELOQ_ENTRY_FLAG_BITS = 4,	 /* on disk they lie below the value's length */
};

struct eloq_entry {
	const uint8_t *key;
	const uint8_t *value; /* as stored */
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint64_t timestamp; /* at most ELOQ_TIMESTAMP_MAX when read */
	uint64_t expire_ms; /* since the epoch; 0: never */
	uint8_t flags;
};

/* Page ids of an entry with ELOQ_ENTRY_OVERFLOW: 1..ELOQ_OVERFLOW_POINTERS_MAX of them. */
static inline uint32_t eloq_entry_pointer_count(const struct eloq_entry *entry)
{
	return entry->value_bytes / 4;
}

static inline uint32_t eloq_entry_pointer(const struct eloq_entry *entry, uint32_t index)
{
	return eloq_get_u32(entry->value + (size_t)4 * index);
}

/* Whether reading this page is safe: type, lengths, restarts, every entry. Needs no checksum. */
bool eloq_data_page_check(const uint8_t *page, uint32_t page_bytes);

/* On a checked page: whether all keys ascend strictly. @key_buffer: ELOQ_KEY_BUFFER_BYTES. */
bool eloq_data_page_check_order(const uint8_t *page, uint32_t page_bytes, uint8_t *key_buffer);

/* Page ids of the neighbours in key order, ELOQ_PAGE_NONE at the ends. Setting needs a new seal. */
static inline uint32_t eloq_data_page_prev(const uint8_t *page)
{
	return eloq_get_u32(page + ELOQ_DATA_PREV);
}

static inline uint32_t eloq_data_page_next(const uint8_t *page)
{
	return eloq_get_u32(page + ELOQ_DATA_NEXT);
}

static inline void eloq_data_page_set_prev(uint8_t *page, uint32_t page_id)
{
	eloq_put_u32(page + ELOQ_DATA_PREV, page_id);
}

static inline void eloq_data_page_set_next(uint8_t *page, uint32_t page_id)
{
	eloq_put_u32(page + ELOQ_DATA_NEXT, page_id);
}

/*
 * Point lookup. True: *ret_entry is filled; its key is the caller's @key, its value lies in the
 * page. False: the key is not here and *ret_entry is untouched.
 */
bool eloq_data_page_find(const uint8_t *page, uint32_t page_bytes, const void *key,
			 uint32_t key_bytes, struct eloq_entry *ret_entry);

/*
 * A position in a checked page. All moves return whether there is an entry at the new position;
 * then .entry is it, its key in the caller's buffer (until the next move), its value in the page.
 * After a move that returned false only absolute moves (first, last, seek, seek_floor) are allowed.
 */
struct eloq_data_iter {
	struct eloq_entry entry;
	const uint8_t *page;
	uint8_t *key_buffer;  /* the caller's, ELOQ_KEY_BUFFER_BYTES */
	uint32_t offset;      /* of the current entry */
	uint32_t offset_next; /* of the entry behind it */
	uint32_t offset_end;  /* of the restart array */
	uint32_t restart_count;
	uint32_t restart_next; /* first restart index whose offset is >= offset_next */
};

void eloq_data_iter_init(struct eloq_data_iter *iter, const uint8_t *page, uint32_t page_bytes,
			 uint8_t *key_buffer);
bool eloq_data_iter_first(struct eloq_data_iter *iter);
bool eloq_data_iter_last(struct eloq_data_iter *iter);
bool eloq_data_iter_next(struct eloq_data_iter *iter);
/* Walks again from the region's start: O(region), not O(1). */
bool eloq_data_iter_prev(struct eloq_data_iter *iter);
/* First entry >= key. */
bool eloq_data_iter_seek(struct eloq_data_iter *iter, const void *key, uint32_t key_bytes);
/* Last entry <= key. */
bool eloq_data_iter_seek_floor(struct eloq_data_iter *iter, const void *key, uint32_t key_bytes);

/* Fills one page in key order. Restart offsets wait at the far end of the page for finish. */
struct eloq_data_builder {
	uint8_t *page;
	uint8_t *key_buffer; /* the caller's, ELOQ_KEY_BUFFER_BYTES: the last key added */
	uint32_t key_bytes;
	uint32_t page_bytes;
	uint32_t used; /* offset behind the last entry */
	uint32_t restart_interval;
	uint32_t restart_count;
	uint32_t region_entries; /* in the open region */
	uint32_t entry_count;
	uint64_t timestamp; /* of the last entry */
};

/* @prev, @next: links, may be set later by eloq_data_page_set_*(). @restart_interval >= 1. */
void eloq_data_builder_init(struct eloq_data_builder *builder, uint8_t *page, uint32_t page_bytes,
			    uint32_t restart_interval, uint32_t prev, uint32_t next,
			    uint8_t *key_buffer);

/*
 * Appends an entry, whose key must be greater than the last one's. False: it does not fit, and
 * the builder is as before. Key and value are copied.
 */
bool eloq_data_builder_add(struct eloq_data_builder *builder, const struct eloq_entry *entry);

/* Completes the page (restart array, length, zeroes behind) but does not seal it; once, after
 * at least one entry. */
void eloq_data_builder_finish(struct eloq_data_builder *builder);

static inline uint32_t eloq_data_builder_count(const struct eloq_data_builder *builder)
{
	return builder->entry_count;
}

/* The page's length were it finished now. */
static inline uint32_t eloq_data_builder_bytes(const struct eloq_data_builder *builder)
{
	return builder->used + 2 * builder->restart_count + 2;
}

/*
 * Whether an entry fits on an empty page: if not, its value goes to overflow pages, and the
 * entry is stored with their ids instead; if that does not fit either, the key is too long.
 */
bool eloq_data_entry_fits_alone(uint32_t page_bytes, uint32_t key_bytes, uint32_t value_bytes,
				uint64_t timestamp, uint64_t expire_ms);

#endif
