/*
 * index_builder.c - filling an inner page in key order. See index_page.h.
 */
#include "daemon/format/index_page.h"
#include "daemon/format/restart.h"

enum { RESTART_BYTES = 2 };

void eloq_index_builder_init(struct eloq_index_builder *builder, uint8_t *page, uint32_t page_bytes,
			     uint32_t restart_interval, enum eloq_page_type type, uint32_t leftmost,
			     uint8_t *key_buffer)
{
	eloq_assert(eloq_page_bytes_ok(page_bytes) && restart_interval > 0);
	eloq_assert(type == ELOQ_PAGE_INDEX_INNER || type == ELOQ_PAGE_INDEX_LEAF);
	eloq_assert(leftmost <= ELOQ_PAGE_ID_MAX);
	*builder = (struct eloq_index_builder){
		.page = page,
		.key_buffer = key_buffer,
		.page_bytes = page_bytes,
		.used = ELOQ_INDEX_ENTRIES,
		.restart_interval = restart_interval,
	};
	memset(page, 0, ELOQ_INDEX_ENTRIES);
	page[ELOQ_PAGE_TYPE] = (uint8_t)type;
	eloq_put_u32(page + ELOQ_INDEX_LEFTMOST, leftmost);
}

bool eloq_index_builder_add(struct eloq_index_builder *builder, const void *key, uint32_t key_bytes,
			    uint32_t child)
{
	bool opens_region =
		builder->entry_count == 0 || builder->region_entries == builder->restart_interval;
	uint32_t shared = 0, suffix_bytes, cost;
	const uint8_t *bytes = key;
	int64_t delta = child;
	uint8_t *p;

	eloq_assert(key_bytes > 0 && key_bytes <= ELOQ_KEY_BUFFER_BYTES);
	eloq_assert(child <= ELOQ_PAGE_ID_MAX);
	if (!opens_region) {
		shared = eloq_key_common(builder->key_buffer, builder->key_bytes, bytes, key_bytes);
		delta -= builder->child;
	}
	suffix_bytes = key_bytes - shared;
	cost = eloq_varint_bytes(shared) + eloq_varint_bytes(suffix_bytes) + suffix_bytes +
	       eloq_varint_bytes(eloq_sm_encode(delta)) + (opens_region ? RESTART_BYTES : 0);
	if (eloq_index_builder_bytes(builder) + cost > builder->page_bytes)
		return false;

	if (opens_region) {
		eloq_restart_push(builder->page, builder->page_bytes, builder->restart_count++,
				  builder->used);
		builder->region_entries = 0;
	}
	p = eloq_put_varint(builder->page + builder->used, shared);
	p = eloq_put_varint(p, suffix_bytes);
	memcpy(p, bytes + shared, suffix_bytes);
	p = eloq_put_varint(p + suffix_bytes, eloq_sm_encode(delta));
	builder->used = (uint32_t)(p - builder->page);

	memmove(builder->key_buffer + shared, bytes + shared, suffix_bytes);
	builder->key_bytes = key_bytes;
	builder->child = child;
	builder->region_entries++;
	builder->entry_count++;
	return true;
}

void eloq_index_builder_finish(struct eloq_index_builder *builder)
{
	eloq_restarts_finish(builder->page, builder->page_bytes, builder->used,
			     builder->restart_count);
}
