/*
 * index_page.h - inner pages: a leftmost child, then (separator, child) in ascending order.
 *
 * The child for a key is that of the last separator <= key, else the leftmost. Coded as data
 * pages are, with children as signed differences. A page with only the leftmost child has no
 * restarts; the leftmost child is never the base of a difference.
 *
 * Reading functions expect a page that passed eloq_index_page_check(). Pure bytes, any thread.
 * docs/format.md, "Index pages".
 */
#ifndef ELOQ_FORMAT_INDEX_PAGE_H
#define ELOQ_FORMAT_INDEX_PAGE_H

#include "daemon/format/key.h"
#include "daemon/format/page.h"

enum { ELOQ_INDEX_LEFTMOST = 11, ELOQ_INDEX_ENTRIES = 15 };

/* Whether reading this page is safe: type, lengths, restarts, every entry, ids in range. */
bool eloq_index_page_check(const uint8_t *page, uint32_t page_bytes);

/* On a checked page: whether all separators ascend strictly. */
bool eloq_index_page_check_order(const uint8_t *page, uint32_t page_bytes, uint8_t *key_buffer);

static inline uint32_t eloq_index_page_leftmost(const uint8_t *page)
{
	return eloq_get_u32(page + ELOQ_INDEX_LEFTMOST);
}

/* Whether the children are data pages. */
static inline bool eloq_index_page_is_leaf(const uint8_t *page)
{
	return eloq_page_type(page) == ELOQ_PAGE_INDEX_LEAF;
}

/* The child whose subtree holds @key, if any does. Rebuilds no key. */
uint32_t eloq_index_page_find(const uint8_t *page, uint32_t page_bytes, const void *key,
			      uint32_t key_bytes);

/*
 * A position in a checked page, the leftmost child being the first: key_bytes is 0 for it, and
 * only for it, as separators are never empty. Moves return whether there is a child at the new
 * position; after false only first, last and seek are allowed.
 */
struct eloq_index_iter {
	const uint8_t *key; /* the separator, in the caller's buffer until the next move */
	uint32_t key_bytes;
	uint32_t child;
	const uint8_t *page;
	uint8_t *key_buffer; /* the caller's, ELOQ_KEY_BUFFER_BYTES */
	uint32_t offset;     /* of the current entry; 0 at the leftmost child */
	uint32_t offset_next;
	uint32_t offset_end;
	uint32_t restart_count;
	uint32_t restart_next;
};

void eloq_index_iter_init(struct eloq_index_iter *iter, const uint8_t *page, uint32_t page_bytes,
			  uint8_t *key_buffer);
bool eloq_index_iter_first(struct eloq_index_iter *iter); /* the leftmost child; always true */
bool eloq_index_iter_last(struct eloq_index_iter *iter);  /* always true */
bool eloq_index_iter_next(struct eloq_index_iter *iter);
/* Walks again from the region's start: O(region), not O(1). */
bool eloq_index_iter_prev(struct eloq_index_iter *iter);
/* To the child that eloq_index_page_find() would return; always true. */
bool eloq_index_iter_seek(struct eloq_index_iter *iter, const void *key, uint32_t key_bytes);

struct eloq_index_builder {
	uint8_t *page;
	uint8_t *key_buffer; /* the caller's, ELOQ_KEY_BUFFER_BYTES: the last separator added */
	uint32_t key_bytes;
	uint32_t page_bytes;
	uint32_t used;
	uint32_t restart_interval;
	uint32_t restart_count;
	uint32_t region_entries;
	uint32_t entry_count; /* without the leftmost child */
	uint32_t child;	      /* of the last entry */
};

/* @type: ELOQ_PAGE_INDEX_INNER or _LEAF. @restart_interval >= 1. */
void eloq_index_builder_init(struct eloq_index_builder *builder, uint8_t *page, uint32_t page_bytes,
			     uint32_t restart_interval, enum eloq_page_type type, uint32_t leftmost,
			     uint8_t *key_buffer);

/*
 * Appends a child behind its separator, which is not empty and greater than the last one. False:
 * it does not fit, and the builder is as before.
 */
bool eloq_index_builder_add(struct eloq_index_builder *builder, const void *key, uint32_t key_bytes,
			    uint32_t child);

/* Completes the page but does not seal it; once. */
void eloq_index_builder_finish(struct eloq_index_builder *builder);

/* Children so far, the leftmost included. */
static inline uint32_t eloq_index_builder_count(const struct eloq_index_builder *builder)
{
	return builder->entry_count + 1;
}

/* The page's length were it finished now. */
static inline uint32_t eloq_index_builder_bytes(const struct eloq_index_builder *builder)
{
	return builder->used + 2 * builder->restart_count + 2;
}

#endif
