/*
 * data_page.c - reading leaves: check, point lookup, iterator. See data_page.h.
 *
 * data_decode() is the one place that knows an entry's bytes, and it never reads past the end
 * given, whatever they are. What it cannot see alone - that shared prefixes exist, that restarts
 * are entries, that ids and timestamps are in range - is what the check establishes.
 */
#include "daemon/format/data_page.h"

#include "daemon/format/restart.h"

/* One entry as it lies in the page. */
struct data_raw {
	const uint8_t *suffix; /* of the key */
	const uint8_t *value;
	uint32_t shared;
	uint32_t suffix_bytes;
	uint32_t value_bytes;
	uint32_t flags; /* as stored */
	uint64_t expire_ms;
	int64_t timestamp_delta;
};

/* The front of an entry, up to and with its key suffix: the byte behind that, or NULL. */
static inline const uint8_t *data_decode_key(const uint8_t *p, const uint8_t *end,
					     struct data_raw *raw)
{
	uint32_t length;

	if (eloq_likely(end - p >= 3 && ((p[0] | p[1] | p[2]) & 0x80) == 0)) {
		raw->shared = p[0];
		raw->suffix_bytes = p[1];
		length = p[2];
		p += 3;
	} else {
		p = eloq_get_varint32(p, end, &raw->shared);
		p = p ? eloq_get_varint32(p, end, &raw->suffix_bytes) : NULL;
		p = p ? eloq_get_varint32(p, end, &length) : NULL;
		if (!p)
			return NULL;
	}
	if (raw->suffix_bytes > (size_t)(end - p))
		return NULL;
	raw->flags = length & ((1u << ELOQ_ENTRY_FLAG_BITS) - 1);
	raw->value_bytes = length >> ELOQ_ENTRY_FLAG_BITS;
	raw->suffix = p;
	return p + raw->suffix_bytes;
}

/* Returns the byte behind the entry at @p, or NULL if no entry lies wholly before @end. */
static inline const uint8_t *data_decode(const uint8_t *p, const uint8_t *end, struct data_raw *raw)
{
	uint64_t delta;

	p = data_decode_key(p, end, raw);
	if (!p || raw->value_bytes > (size_t)(end - p))
		return NULL;
	raw->value = p;
	p += raw->value_bytes;
	raw->expire_ms = 0;
	if (raw->flags & ELOQ_ENTRY_EXPIRY) {
		p = eloq_get_varint64(p, end, &raw->expire_ms);
		if (!p)
			return NULL;
	}
	p = eloq_get_varint64(p, end, &delta);
	if (p)
		raw->timestamp_delta = eloq_sm_decode(delta);
	return p;
}

static inline void data_entry_fill(struct eloq_entry *entry, const struct data_raw *raw,
				   const uint8_t *key, uint32_t key_bytes, uint64_t timestamp)
{
	*entry = (struct eloq_entry){
		.key = key,
		.key_bytes = key_bytes,
		.value = raw->value,
		.value_bytes = raw->value_bytes,
		.timestamp = timestamp,
		.expire_ms = raw->expire_ms,
		.flags = (uint8_t)(raw->flags & ~(uint32_t)ELOQ_ENTRY_EXPIRY),
	};
}

/* What an entry must satisfy whatever stands around it. */
static bool data_raw_ok(const struct data_raw *raw, uint64_t timestamp)
{
	uint32_t key_bytes = raw->shared + raw->suffix_bytes;

	if (key_bytes == 0 || key_bytes > ELOQ_KEY_BUFFER_BYTES)
		return false;
	if (timestamp > ELOQ_TIMESTAMP_MAX)
		return false;
	if ((raw->flags & ELOQ_ENTRY_COMPRESSION) == ELOQ_ENTRY_COMPRESSION)
		return false;
	if (!(raw->flags & ELOQ_ENTRY_OVERFLOW))
		return true;
	if (raw->value_bytes == 0 || raw->value_bytes % 4 != 0 ||
	    raw->value_bytes / 4 > ELOQ_OVERFLOW_POINTERS_MAX)
		return false;
	for (uint32_t i = 0; i < raw->value_bytes; i += 4) {
		if (eloq_get_u32(raw->value + i) > ELOQ_PAGE_ID_MAX)
			return false;
	}
	return true;
}

static bool data_link_ok(uint32_t page_id)
{
	return page_id <= ELOQ_PAGE_ID_MAX || page_id == ELOQ_PAGE_NONE;
}

bool eloq_data_page_check(const uint8_t *page, uint32_t page_bytes)
{
	struct restarts restarts;
	struct data_raw raw, head = { 0 };
	uint32_t offset = ELOQ_DATA_ENTRIES, region = 0, last_key_bytes = 0;
	uint64_t timestamp = 0;

	if (eloq_page_type(page) != ELOQ_PAGE_DATA || !data_link_ok(eloq_data_page_prev(page)) ||
	    !data_link_ok(eloq_data_page_next(page)) ||
	    !eloq_restarts_check(page, page_bytes, ELOQ_DATA_ENTRIES, &restarts) ||
	    restarts.count == 0)
		return false;
	while (offset < restarts.end) {
		const uint8_t *next = data_decode(page + offset, page + restarts.end, &raw);

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
			timestamp = 0;
		} else if (raw.shared > last_key_bytes) {
			return false;
		}
		/* Unsigned: a sum that leaves the range either way is above the greatest one. */
		timestamp += (uint64_t)raw.timestamp_delta;
		if (!data_raw_ok(&raw, timestamp))
			return false;
		last_key_bytes = raw.shared + raw.suffix_bytes;
		offset = (uint32_t)(next - page);
	}
	return region == restarts.count;
}

bool eloq_data_page_check_order(const uint8_t *page, uint32_t page_bytes, uint8_t *key_buffer)
{
	struct restarts restarts = restarts_of(page, page_bytes);
	struct eloq_data_iter iter;
	struct data_raw raw;

	eloq_data_iter_init(&iter, page, page_bytes, key_buffer);
	eloq_data_iter_first(&iter);
	while (iter.offset_next < restarts.end) {
		/* The buffer still has the key before; it must be less than the one to come. */
		if (!data_decode_key(page + iter.offset_next, page + restarts.end, &raw))
			return false;
		if (eloq_key_compare(key_buffer + raw.shared, iter.entry.key_bytes - raw.shared,
				     raw.suffix, raw.suffix_bytes) >= 0)
			return false;
		eloq_data_iter_next(&iter);
	}
	return true;
}

/* How many restarts have keys <= the wanted one. */
static uint32_t data_bisect(const uint8_t *page, struct restarts restarts, const uint8_t *key,
			    uint32_t key_bytes)
{
	uint32_t low = 0, high = restarts.count;
	struct data_raw raw;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (!data_decode_key(page + restart_offset(page, restarts, middle),
				     page + restarts.end, &raw))
			return 0;
		if (eloq_key_compare(raw.suffix, raw.suffix_bytes, key, key_bytes) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool eloq_data_page_find(const uint8_t *page, uint32_t page_bytes, const void *key,
			 uint32_t key_bytes, struct eloq_entry *ret_entry)
{
	struct restarts restarts = restarts_of(page, page_bytes);
	struct wanted wanted = { .key = key, .key_bytes = key_bytes };
	uint32_t region = data_bisect(page, restarts, key, key_bytes);
	const uint8_t *p, *end = page + restarts.end;
	uint64_t timestamp = 0;
	struct data_raw raw;
	int order;

	if (region == 0)
		return false;
	if (region < restarts.count)
		end = page + restart_offset(page, restarts, region);
	p = page + restart_offset(page, restarts, region - 1);
	while (p < end) {
		p = data_decode(p, end, &raw);
		if (!p)
			return false;
		timestamp += (uint64_t)raw.timestamp_delta;
		order = wanted_compare(&wanted, raw.shared, raw.suffix, raw.suffix_bytes);
		if (order < 0)
			continue;
		if (order == 0)
			data_entry_fill(ret_entry, &raw, key, key_bytes, timestamp);
		return order == 0;
	}
	return false;
}

void eloq_data_iter_init(struct eloq_data_iter *iter, const uint8_t *page, uint32_t page_bytes,
			 uint8_t *key_buffer)
{
	struct restarts restarts = restarts_of(page, page_bytes);

	*iter = (struct eloq_data_iter){
		.page = page,
		.key_buffer = key_buffer,
		.offset_end = restarts.end,
		.restart_count = restarts.count,
	};
}

static struct restarts data_iter_restarts(const struct eloq_data_iter *iter)
{
	return (struct restarts){ .end = iter->offset_end, .count = iter->restart_count };
}

/* So that the next step takes the first entry of this region. */
static void data_iter_jump(struct eloq_data_iter *iter, uint32_t restart)
{
	iter->offset_next = restart_offset(iter->page, data_iter_restarts(iter), restart);
	iter->restart_next = restart;
}

bool eloq_data_iter_next(struct eloq_data_iter *iter)
{
	struct restarts restarts = data_iter_restarts(iter);
	uint64_t timestamp = iter->entry.timestamp;
	const uint8_t *next;
	struct data_raw raw;

	if (iter->offset_next >= iter->offset_end)
		return false;
	next = data_decode(iter->page + iter->offset_next, iter->page + iter->offset_end, &raw);
	if (!next)
		return false;
	if (iter->restart_next < iter->restart_count &&
	    restart_offset(iter->page, restarts, iter->restart_next) == iter->offset_next) {
		iter->restart_next++;
		timestamp = 0;
	}
	memcpy(iter->key_buffer + raw.shared, raw.suffix, raw.suffix_bytes);
	data_entry_fill(&iter->entry, &raw, iter->key_buffer, raw.shared + raw.suffix_bytes,
			timestamp + (uint64_t)raw.timestamp_delta);
	iter->offset = iter->offset_next;
	iter->offset_next = (uint32_t)(next - iter->page);
	return true;
}

bool eloq_data_iter_first(struct eloq_data_iter *iter)
{
	data_iter_jump(iter, 0);
	return eloq_data_iter_next(iter);
}

/* To the last entry of region @restart that begins before @offset_limit. */
static bool data_iter_walk_to(struct eloq_data_iter *iter, uint32_t restart, uint32_t offset_limit)
{
	data_iter_jump(iter, restart);
	do {
		if (!eloq_data_iter_next(iter))
			return false;
	} while (iter->offset_next < offset_limit);
	return true;
}

bool eloq_data_iter_last(struct eloq_data_iter *iter)
{
	return data_iter_walk_to(iter, iter->restart_count - 1, iter->offset_end);
}

bool eloq_data_iter_prev(struct eloq_data_iter *iter)
{
	/* The current entry's region is the last one that the iterator entered. */
	uint32_t region = iter->restart_next - 1;

	if (restart_offset(iter->page, data_iter_restarts(iter), region) == iter->offset) {
		if (region == 0)
			return false;
		region--;
	}
	return data_iter_walk_to(iter, region, iter->offset);
}

bool eloq_data_iter_seek(struct eloq_data_iter *iter, const void *key, uint32_t key_bytes)
{
	uint32_t region = data_bisect(iter->page, data_iter_restarts(iter), key, key_bytes);

	data_iter_jump(iter, region > 0 ? region - 1 : 0);
	while (eloq_data_iter_next(iter)) {
		if (eloq_key_compare(iter->entry.key, iter->entry.key_bytes, key, key_bytes) >= 0)
			return true;
	}
	return false;
}

bool eloq_data_iter_seek_floor(struct eloq_data_iter *iter, const void *key, uint32_t key_bytes)
{
	struct restarts restarts = data_iter_restarts(iter);
	struct wanted wanted = { .key = key, .key_bytes = key_bytes };
	uint32_t region = data_bisect(iter->page, restarts, key, key_bytes);
	const uint8_t *p, *next, *end = iter->page + restarts.end;
	struct data_raw raw;
	int order;

	if (region == 0)
		return false;
	if (region < restarts.count)
		end = iter->page + restart_offset(iter->page, restarts, region);
	/* Find where entries become greater, then take the last one before that. */
	p = iter->page + restart_offset(iter->page, restarts, region - 1);
	while (p < end) {
		next = data_decode(p, end, &raw);
		if (!next)
			return false;
		order = wanted_compare(&wanted, raw.shared, raw.suffix, raw.suffix_bytes);
		if (order > 0)
			break;
		p = next;
		if (order == 0)
			break;
	}
	return data_iter_walk_to(iter, region - 1, (uint32_t)(p - iter->page));
}
