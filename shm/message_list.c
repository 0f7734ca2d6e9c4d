/*
 * message_list.c - values that hold more than one thing: batches, scans, figures.
 *
 * Idea: a list is walked, not indexed. Each put returns where the next entry goes, each get
 * returns where the next one starts, or NULL when the bytes before @end do not hold a whole entry.
 * Entries start at multiples of 8 from the start of the value.
 *
 * Always:   a get reads nothing at or behind @end and judges lengths only; op and flags are the
 *	     caller's to judge.
 * Runs on:  any thread; pure functions of private memory (a list in bulk memory that the other
 *	     side can still write is copied first).
 * Fails by: NULL, or -ELOQ_EPROTOCOL.                docs/protocol.md, "Lists in values".
 */
#include "shm/message.h"

#include "common/coding.h"
#include "shm/ring.h"

/* Offsets in an entry of a batch. */
enum {
	BATCH_AT_OP = 0,
	BATCH_AT_FLAGS = 1,
	BATCH_AT_KEY_BYTES = 2,
	BATCH_AT_VALUE_BYTES = 4,
	BATCH_AT_TIMESTAMP = 8,
	BATCH_AT_EXPIRE_MS = 16,
};

/* Offsets in the parameters and in an item of a scan. */
enum {
	SCAN_AT_FLAGS = 0,
	SCAN_AT_BYTES_MAX = 4,
	SCAN_AT_ENTRIES_MAX = 8,
	SCAN_AT_END_BYTES = 16,
	ITEM_AT_KEY_BYTES = 0,
	ITEM_AT_ZERO = 2,
	ITEM_AT_VALUE_BYTES = 4,
	ITEM_AT_TIMESTAMP = 8,
	ITEM_AT_EXPIRE_MS = 16,
};

/* Bytes of an entry of the list with a header of @header_bytes; 64 bits wide, so never too long. */
static size_t list_entry_bytes(size_t header_bytes, uint32_t key_bytes, uint32_t value_bytes)
{
	return eloq_round_up(header_bytes + (uint64_t)key_bytes + value_bytes, ELOQ_RECORD_ALIGN);
}

/* --- BATCH -------------------------------------------------------------------------------------
 */

size_t eloq_batch_entry_bytes(uint32_t key_bytes, uint32_t value_bytes)
{
	return list_entry_bytes(ELOQ_BATCH_ENTRY_HEADER_BYTES, key_bytes, value_bytes);
}

uint8_t *eloq_batch_put_header(uint8_t *p, uint32_t count)
{
	eloq_put_u32(p, count);
	eloq_put_u32(p + 4, 0);
	return p + ELOQ_BATCH_HEADER_BYTES;
}

uint8_t *eloq_batch_put_entry(uint8_t *p, const struct eloq_batch_entry *entry)
{
	p[BATCH_AT_OP] = entry->op;
	p[BATCH_AT_FLAGS] = entry->flags;
	eloq_put_u16(p + BATCH_AT_KEY_BYTES, entry->key_bytes);
	eloq_put_u32(p + BATCH_AT_VALUE_BYTES, entry->value_bytes);
	eloq_put_u64(p + BATCH_AT_TIMESTAMP, entry->timestamp);
	eloq_put_u64(p + BATCH_AT_EXPIRE_MS, entry->expire_ms);
	eloq_ring_put_payload(p + ELOQ_BATCH_ENTRY_HEADER_BYTES, entry->key, entry->key_bytes,
			      entry->value, entry->value_bytes);
	return p + eloq_batch_entry_bytes(entry->key_bytes, entry->value_bytes);
}

const uint8_t *eloq_batch_get_header(const uint8_t *p, const uint8_t *end, uint32_t *ret_count)
{
	size_t room = (size_t)(end - p);
	uint32_t count;

	if (room < ELOQ_BATCH_HEADER_BYTES || eloq_get_u32(p + 4) != 0)
		return NULL;
	count = eloq_get_u32(p);
	if (count > (room - ELOQ_BATCH_HEADER_BYTES) / ELOQ_BATCH_ENTRY_HEADER_BYTES)
		return NULL;
	*ret_count = count;
	return p + ELOQ_BATCH_HEADER_BYTES;
}

const uint8_t *eloq_batch_get_entry(const uint8_t *p, const uint8_t *end,
				    struct eloq_batch_entry *ret_entry)
{
	size_t room = (size_t)(end - p), bytes;
	uint32_t value_bytes;
	uint16_t key_bytes;

	if (room < ELOQ_BATCH_ENTRY_HEADER_BYTES)
		return NULL;
	key_bytes = eloq_get_u16(p + BATCH_AT_KEY_BYTES);
	value_bytes = eloq_get_u32(p + BATCH_AT_VALUE_BYTES);
	bytes = eloq_batch_entry_bytes(key_bytes, value_bytes);
	if (bytes > room)
		return NULL;
	*ret_entry = (struct eloq_batch_entry){
		.op = p[BATCH_AT_OP],
		.flags = p[BATCH_AT_FLAGS],
		.key_bytes = key_bytes,
		.value_bytes = value_bytes,
		.timestamp = eloq_get_u64(p + BATCH_AT_TIMESTAMP),
		.expire_ms = eloq_get_u64(p + BATCH_AT_EXPIRE_MS),
		.key = p + ELOQ_BATCH_ENTRY_HEADER_BYTES,
		.value = p + ELOQ_BATCH_ENTRY_HEADER_BYTES + key_bytes,
	};
	return p + bytes;
}

void eloq_batch_put_outcome(uint8_t *p, const struct eloq_batch_outcome *outcome)
{
	eloq_put_u32(p, outcome->applied);
	eloq_put_u32(p + 4, outcome->absent);
	eloq_put_u32(p + 8, outcome->older);
	eloq_put_u32(p + 12, 0);
}

int eloq_batch_get_outcome(const uint8_t *p, size_t bytes, struct eloq_batch_outcome *ret_outcome)
{
	if (bytes != ELOQ_BATCH_ANSWER_BYTES)
		return -ELOQ_EPROTOCOL;
	ret_outcome->applied = eloq_get_u32(p);
	ret_outcome->absent = eloq_get_u32(p + 4);
	ret_outcome->older = eloq_get_u32(p + 8);
	return 0;
}

/* --- SCAN --------------------------------------------------------------------------------------
 */

size_t eloq_scan_params_bytes(const struct eloq_scan_params *params)
{
	return ELOQ_SCAN_PARAMS_BYTES + (size_t)params->end_bytes;
}

void eloq_scan_put_params(uint8_t *p, const struct eloq_scan_params *params)
{
	eloq_put_u32(p + SCAN_AT_FLAGS, params->flags);
	eloq_put_u32(p + SCAN_AT_BYTES_MAX, params->bytes_max);
	eloq_put_u64(p + SCAN_AT_ENTRIES_MAX, params->entries_max);
	/* The upper 48 bits are zero. */
	eloq_put_u64(p + SCAN_AT_END_BYTES, params->end_bytes);
	if (params->end_bytes)
		memcpy(p + ELOQ_SCAN_PARAMS_BYTES, params->end, params->end_bytes);
}

int eloq_scan_get_params(const uint8_t *p, size_t bytes, struct eloq_scan_params *ret_params)
{
	uint64_t end_bytes;

	if (bytes < ELOQ_SCAN_PARAMS_BYTES)
		return -ELOQ_EPROTOCOL;
	end_bytes = eloq_get_u64(p + SCAN_AT_END_BYTES);
	if (end_bytes > UINT16_MAX || end_bytes != bytes - ELOQ_SCAN_PARAMS_BYTES)
		return -ELOQ_EPROTOCOL;
	*ret_params = (struct eloq_scan_params){
		.flags = eloq_get_u32(p + SCAN_AT_FLAGS),
		.bytes_max = eloq_get_u32(p + SCAN_AT_BYTES_MAX),
		.entries_max = eloq_get_u64(p + SCAN_AT_ENTRIES_MAX),
		.end_bytes = (uint16_t)end_bytes,
		.end = end_bytes ? p + ELOQ_SCAN_PARAMS_BYTES : NULL,
	};
	return 0;
}

size_t eloq_scan_item_bytes(uint32_t key_bytes, uint32_t value_bytes)
{
	return list_entry_bytes(ELOQ_SCAN_ENTRY_HEADER_BYTES, key_bytes, value_bytes);
}

uint8_t *eloq_scan_put_item(uint8_t *p, const struct eloq_scan_item *item)
{
	eloq_put_u16(p + ITEM_AT_KEY_BYTES, item->key_bytes);
	eloq_put_u16(p + ITEM_AT_ZERO, 0);
	eloq_put_u32(p + ITEM_AT_VALUE_BYTES, item->value_bytes);
	eloq_put_u64(p + ITEM_AT_TIMESTAMP, item->timestamp);
	eloq_put_u64(p + ITEM_AT_EXPIRE_MS, item->expire_ms);
	eloq_ring_put_payload(p + ELOQ_SCAN_ENTRY_HEADER_BYTES, item->key, item->key_bytes,
			      item->value, item->value_bytes);
	return p + eloq_scan_item_bytes(item->key_bytes, item->value_bytes);
}

const uint8_t *eloq_scan_get_item(const uint8_t *p, const uint8_t *end,
				  struct eloq_scan_item *ret_item)
{
	size_t room = (size_t)(end - p), bytes;
	uint32_t value_bytes;
	uint16_t key_bytes;

	if (room < ELOQ_SCAN_ENTRY_HEADER_BYTES || eloq_get_u16(p + ITEM_AT_ZERO) != 0)
		return NULL;
	key_bytes = eloq_get_u16(p + ITEM_AT_KEY_BYTES);
	value_bytes = eloq_get_u32(p + ITEM_AT_VALUE_BYTES);
	bytes = eloq_scan_item_bytes(key_bytes, value_bytes);
	if (bytes > room)
		return NULL;
	*ret_item = (struct eloq_scan_item){
		.key_bytes = key_bytes,
		.value_bytes = value_bytes,
		.timestamp = eloq_get_u64(p + ITEM_AT_TIMESTAMP),
		.expire_ms = eloq_get_u64(p + ITEM_AT_EXPIRE_MS),
		.key = p + ELOQ_SCAN_ENTRY_HEADER_BYTES,
		.value = p + ELOQ_SCAN_ENTRY_HEADER_BYTES + key_bytes,
	};
	return p + bytes;
}

/* --- PARTITION_STAT ----------------------------------------------------------------------------
 */

void eloq_partition_figures_put(uint8_t *p, const struct eloq_partition_figures *figures)
{
	eloq_put_u64(p, figures->pages);
	eloq_put_u64(p + 8, figures->file_pages_end);
	eloq_put_u64(p + 16, figures->manifest_bytes);
	eloq_put_u64(p + 24, figures->page_bytes);
	eloq_put_u64(p + 32, figures->has_ttl_tree);
}

int eloq_partition_figures_get(const uint8_t *p, size_t bytes,
			       struct eloq_partition_figures *ret_figures)
{
	if (bytes != ELOQ_PARTITION_STAT_BYTES)
		return -ELOQ_EPROTOCOL;
	ret_figures->pages = eloq_get_u64(p);
	ret_figures->file_pages_end = eloq_get_u64(p + 8);
	ret_figures->manifest_bytes = eloq_get_u64(p + 16);
	ret_figures->page_bytes = eloq_get_u64(p + 24);
	ret_figures->has_ttl_tree = eloq_get_u64(p + 32);
	return 0;
}
