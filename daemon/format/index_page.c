/*
 * index_page.c - reading inner pages: check, child lookup, iterator. See index_page.h.
 *
 * As in data_page.c: index_decode() never reads past the end given; the check establishes the
 * rest.
 */
#include "daemon/format/index_page.h"

#include "daemon/format/restart.h"

/* One entry as it lies in the page. */
struct index_raw {
	const uint8_t *suffix; /* of the separator */
	uint32_t shared;
	uint32_t suffix_bytes;
	int64_t child_delta;
};

/* Returns the byte behind the entry at @p, or NULL if no entry lies wholly before @end. */
static inline const uint8_t *index_decode(const uint8_t *p, const uint8_t *end,
					  struct index_raw *raw)
{
	uint32_t delta;

	p = eloq_get_varint32(p, end, &raw->shared);
	p = p ? eloq_get_varint32(p, end, &raw->suffix_bytes) : NULL;
	if (!p || raw->suffix_bytes > (size_t)(end - p))
		return NULL;
	raw->suffix = p;
	p = eloq_get_varint32(p + raw->suffix_bytes, end, &delta);
	if (p)
		raw->child_delta = eloq_sm_decode(delta);
	return p;
}

/* Base plus difference; on a checked page always an id in range. */
static inline uint32_t index_child(uint32_t base, const struct index_raw *raw)
{
	return (uint32_t)((int64_t)base + raw->child_delta);
}

bool eloq_index_page_check(const uint8_t *page, uint32_t page_bytes)
{
	struct restarts restarts;
	struct index_raw raw, head = { 0 };
	uint32_t offset = ELOQ_INDEX_ENTRIES, region = 0, last_key_bytes = 0;
	int64_t child = 0;

	if (eloq_page_type(page) != ELOQ_PAGE_INDEX_INNER &&
	    eloq_page_type(page) != ELOQ_PAGE_INDEX_LEAF)
		return false;
	if (eloq_index_page_leftmost(page) > ELOQ_PAGE_ID_MAX ||
	    !eloq_restarts_check(page, page_bytes, ELOQ_INDEX_ENTRIES, &restarts))
		return false;
	while (offset < restarts.end) {
		const uint8_t *next = index_decode(page + offset, page + restarts.end, &raw);

		if (!next)
			return false;
		if (region < restarts.count && restart_offset(page, restarts, region) == offset) {
			if (raw.shared != 0)
				return false;
			if (region > 0 && eloq_key_compare(head.suffix, head.suffix_bytes,
							   raw.suffix, raw.suffix_bytes) >= 0)
				return false;
			head = raw;
			region++;
			child = 0;
		} else if (raw.shared > last_key_bytes) {
			return false;
		}
		child += raw.child_delta;
		if (child < 0 || child > ELOQ_PAGE_ID_MAX)
			return false;
		last_key_bytes = raw.shared + raw.suffix_bytes;
		if (last_key_bytes == 0 || last_key_bytes > ELOQ_KEY_BUFFER_BYTES)
			return false;
		offset = (uint32_t)(next - page);
	}
	return region == restarts.count;
}

bool eloq_index_page_check_order(const uint8_t *page, uint32_t page_bytes, uint8_t *key_buffer)
{
	struct restarts restarts = restarts_of(page, page_bytes);
	struct eloq_index_iter iter;
	struct index_raw raw;

	eloq_index_iter_init(&iter, page, page_bytes, key_buffer);
	eloq_index_iter_first(&iter);
	while (iter.offset_next < restarts.end) {
		/* The buffer still has the key before; it must be less than the one to come. */
		if (!index_decode(page + iter.offset_next, page + restarts.end, &raw))
			return false;
		if (eloq_key_compare(key_buffer + raw.shared, iter.key_bytes - raw.shared,
				     raw.suffix, raw.suffix_bytes) >= 0)
			return false;
		eloq_index_iter_next(&iter);
	}
	return true;
}

/* How many restarts have separators <= the wanted key. */
static uint32_t index_bisect(const uint8_t *page, struct restarts restarts, const uint8_t *key,
			     uint32_t key_bytes)
{
	uint32_t low = 0, high = restarts.count;
	struct index_raw raw;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (!index_decode(page + restart_offset(page, restarts, middle),
				  page + restarts.end, &raw))
			return 0;
		if (eloq_key_compare(raw.suffix, raw.suffix_bytes, key, key_bytes) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Finds the last entry whose separator is <= the key. Returns the offset behind it and its child,
 * or 0 and the leftmost child if there is none. *ret_region: the restart it belongs to.
 */
static uint32_t index_search(const uint8_t *page, struct restarts restarts, const uint8_t *key,
			     uint32_t key_bytes, uint32_t *ret_region, uint32_t *ret_child)
{
	struct wanted wanted = { .key = key, .key_bytes = key_bytes };
	uint32_t region = index_bisect(page, restarts, key, key_bytes);
	const uint8_t *p, *next, *end = page + restarts.end;
	uint32_t child = 0;
	struct index_raw raw;
	int order;

	*ret_region = region > 0 ? region - 1 : 0;
	if (region == 0) {
		*ret_child = eloq_index_page_leftmost(page);
		return 0;
	}
	if (region < restarts.count)
		end = page + restart_offset(page, restarts, region);
	p = page + restart_offset(page, restarts, region - 1);
	while (p < end) {
		next = index_decode(p, end, &raw);
		if (!next)
			break;
		order = wanted_compare(&wanted, raw.shared, raw.suffix, raw.suffix_bytes);
		if (order > 0)
			break;
		child = index_child(child, &raw);
		p = next;
		if (order == 0)
			break;
	}
	*ret_child = child;
	return (uint32_t)(p - page);
}

uint32_t eloq_index_page_find(const uint8_t *page, uint32_t page_bytes, const void *key,
			      uint32_t key_bytes)
{
	uint32_t region, child;

	index_search(page, restarts_of(page, page_bytes), key, key_bytes, &region, &child);
	return child;
}

void eloq_index_iter_init(struct eloq_index_iter *iter, const uint8_t *page, uint32_t page_bytes,
			  uint8_t *key_buffer)
{
	struct restarts restarts = restarts_of(page, page_bytes);

	*iter = (struct eloq_index_iter){
		.page = page,
		.key = key_buffer,
		.key_buffer = key_buffer,
		.offset_end = restarts.end,
		.restart_count = restarts.count,
	};
}

static struct restarts index_iter_restarts(const struct eloq_index_iter *iter)
{
	return (struct restarts){ .end = iter->offset_end, .count = iter->restart_count };
}

bool eloq_index_iter_first(struct eloq_index_iter *iter)
{
	iter->key_bytes = 0;
	iter->child = eloq_index_page_leftmost(iter->page);
	iter->offset = 0;
	iter->offset_next = ELOQ_INDEX_ENTRIES;
	iter->restart_next = 0;
	return true;
}

bool eloq_index_iter_next(struct eloq_index_iter *iter)
{
	struct restarts restarts = index_iter_restarts(iter);
	uint32_t base = iter->child;
	const uint8_t *next;
	struct index_raw raw;

	if (iter->offset_next >= iter->offset_end)
		return false;
	next = index_decode(iter->page + iter->offset_next, iter->page + iter->offset_end, &raw);
	if (!next)
		return false;
	if (iter->restart_next < iter->restart_count &&
	    restart_offset(iter->page, restarts, iter->restart_next) == iter->offset_next) {
		iter->restart_next++;
		base = 0;
	}
	memcpy(iter->key_buffer + raw.shared, raw.suffix, raw.suffix_bytes);
	iter->key_bytes = raw.shared + raw.suffix_bytes;
	iter->child = index_child(base, &raw);
	iter->offset = iter->offset_next;
	iter->offset_next = (uint32_t)(next - iter->page);
	return true;
}

/* To the last entry of region @restart that begins before @offset_limit. */
static bool index_iter_walk_to(struct eloq_index_iter *iter, uint32_t restart,
			       uint32_t offset_limit)
{
	iter->offset_next = restart_offset(iter->page, index_iter_restarts(iter), restart);
	iter->restart_next = restart;
	do {
		if (!eloq_index_iter_next(iter))
			return false;
	} while (iter->offset_next < offset_limit);
	return true;
}

bool eloq_index_iter_last(struct eloq_index_iter *iter)
{
	if (iter->restart_count == 0)
		return eloq_index_iter_first(iter);
	return index_iter_walk_to(iter, iter->restart_count - 1, iter->offset_end);
}

bool eloq_index_iter_prev(struct eloq_index_iter *iter)
{
	uint32_t region;

	if (iter->offset == 0)
		return false;
	/* The current entry's region is the last one that the iterator entered. */
	region = iter->restart_next - 1;
	if (restart_offset(iter->page, index_iter_restarts(iter), region) == iter->offset) {
		if (region == 0)
			return eloq_index_iter_first(iter);
		region--;
	}
	return index_iter_walk_to(iter, region, iter->offset);
}

bool eloq_index_iter_seek(struct eloq_index_iter *iter, const void *key, uint32_t key_bytes)
{
	uint32_t region, child, behind;

	behind = index_search(iter->page, index_iter_restarts(iter), key, key_bytes, &region,
			      &child);
	if (behind == 0)
		return eloq_index_iter_first(iter);
	return index_iter_walk_to(iter, region, behind);
}
