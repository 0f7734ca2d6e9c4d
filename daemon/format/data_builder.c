/*
 * data_builder.c - filling a leaf in key order. See data_page.h.
 */
#include "daemon/format/data_page.h"
#include "daemon/format/restart.h"

/* A restart and their count: what an entry costs besides its own bytes. */
enum { RESTART_BYTES = 2, RESTART_COUNT_BYTES = 2 };

/* The length field of a value: its bytes and the flags as they are stored. */
static uint64_t stored_length(const struct eloq_entry *entry)
{
	uint32_t flags = entry->flags | (entry->expire_ms != 0 ? ELOQ_ENTRY_EXPIRY : 0u);

	return (uint64_t)entry->value_bytes << ELOQ_ENTRY_FLAG_BITS | flags;
}

static uint64_t entry_cost(const struct eloq_entry *entry, uint32_t shared, int64_t delta)
{
	uint32_t suffix_bytes = entry->key_bytes - shared;

	return (uint64_t)eloq_varint_bytes(shared) + eloq_varint_bytes(suffix_bytes) +
	       eloq_varint_bytes(stored_length(entry)) + suffix_bytes + entry->value_bytes +
	       (entry->expire_ms != 0 ? eloq_varint_bytes(entry->expire_ms) : 0) +
	       eloq_varint_bytes(eloq_sm_encode(delta));
}

static uint64_t clamp_timestamp(uint64_t timestamp)
{
	return eloq_min_u64(timestamp, ELOQ_TIMESTAMP_MAX);
}

bool eloq_data_entry_fits_alone(uint32_t page_bytes, uint32_t key_bytes, uint32_t value_bytes,
				uint64_t timestamp, uint64_t expire_ms)
{
	const struct eloq_entry entry = {
		.key_bytes = key_bytes,
		.value_bytes = value_bytes,
		.expire_ms = expire_ms,
	};
	uint64_t cost = entry_cost(&entry, 0, (int64_t)clamp_timestamp(timestamp));

	return ELOQ_DATA_ENTRIES + RESTART_BYTES + RESTART_COUNT_BYTES + cost <= page_bytes;
}

void eloq_data_builder_init(struct eloq_data_builder *builder, uint8_t *page, uint32_t page_bytes,
			    uint32_t restart_interval, uint32_t prev, uint32_t next,
			    uint8_t *key_buffer)
{
	eloq_assert(eloq_page_bytes_ok(page_bytes) && restart_interval > 0);
	*builder = (struct eloq_data_builder){
		.page = page,
		.key_buffer = key_buffer,
		.page_bytes = page_bytes,
		.used = ELOQ_DATA_ENTRIES,
		.restart_interval = restart_interval,
	};
	memset(page, 0, ELOQ_DATA_ENTRIES);
	page[ELOQ_PAGE_TYPE] = ELOQ_PAGE_DATA;
	eloq_data_page_set_prev(page, prev);
	eloq_data_page_set_next(page, next);
}

static void builder_write(struct eloq_data_builder *builder, const struct eloq_entry *entry,
			  uint32_t shared, int64_t delta)
{
	uint32_t suffix_bytes = entry->key_bytes - shared;
	uint8_t *p = builder->page + builder->used;

	p = eloq_put_varint(p, shared);
	p = eloq_put_varint(p, suffix_bytes);
	p = eloq_put_varint(p, stored_length(entry));
	memcpy(p, entry->key + shared, suffix_bytes);
	p += suffix_bytes;
	if (entry->value_bytes > 0)
		memcpy(p, entry->value, entry->value_bytes);
	p += entry->value_bytes;
	if (entry->expire_ms != 0)
		p = eloq_put_varint(p, entry->expire_ms);
	p = eloq_put_varint(p, eloq_sm_encode(delta));
	builder->used = (uint32_t)(p - builder->page);
}

bool eloq_data_builder_add(struct eloq_data_builder *builder, const struct eloq_entry *entry)
{
	bool opens_region =
		builder->entry_count == 0 || builder->region_entries == builder->restart_interval;
	uint64_t timestamp = clamp_timestamp(entry->timestamp);
	uint32_t shared = 0;
	int64_t delta = (int64_t)timestamp;
	uint64_t cost;

	eloq_assert(entry->key_bytes > 0 && entry->key_bytes <= ELOQ_KEY_BUFFER_BYTES);
	if (!opens_region) {
		shared = eloq_key_common(builder->key_buffer, builder->key_bytes, entry->key,
					 entry->key_bytes);
		delta = (int64_t)(timestamp - builder->timestamp);
	}
	cost = entry_cost(entry, shared, delta) + (opens_region ? RESTART_BYTES : 0);
	if (eloq_data_builder_bytes(builder) + cost > builder->page_bytes)
		return false;

	if (opens_region) {
		eloq_restart_push(builder->page, builder->page_bytes, builder->restart_count++,
				  builder->used);
		builder->region_entries = 0;
	}
	builder_write(builder, entry, shared, delta);
	memmove(builder->key_buffer + shared, entry->key + shared, entry->key_bytes - shared);
	builder->key_bytes = entry->key_bytes;
	builder->timestamp = timestamp;
	builder->region_entries++;
	builder->entry_count++;
	return true;
}

void eloq_data_builder_finish(struct eloq_data_builder *builder)
{
	eloq_assert(builder->entry_count > 0);
	eloq_restarts_finish(builder->page, builder->page_bytes, builder->used,
			     builder->restart_count);
}
