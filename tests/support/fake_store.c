/*
 * fake_store.c - an ordered map in memory that answers requests as the engine would.
 *
 * Simple on purpose: sorted arrays. It is what the client's tests believe.
 */
#include "tests/support/fake_store.h"

#include "common/coding.h"

#include <stdlib.h>

enum { FAKE_PARTITIONS_BYTES = 3 * 4 }; /* few of them, so that asking again is tested */

static void *fake_copy(const void *bytes, size_t count)
{
	uint8_t *copy = malloc(count + 1);

	eloq_assert(copy);
	if (count)
		memcpy(copy, bytes, count);
	copy[count] = 0;
	return copy;
}

static int fake_compare(const struct fake_entry *entry, const uint8_t *key, size_t key_bytes)
{
	size_t both = eloq_min_u64(entry->key_bytes, key_bytes);
	int order = memcmp(entry->key, key, both);

	return order ? order : (entry->key_bytes > key_bytes) - (entry->key_bytes < key_bytes);
}

/* The first entry that is not below the key. */
static size_t fake_lower_bound(const struct fake_map *map, const uint8_t *key, size_t key_bytes)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (fake_compare(&map->entries[middle], key, key_bytes) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct fake_entry *fake_find(const struct fake_map *map, const uint8_t *key,
				    size_t key_bytes)
{
	size_t i = map ? fake_lower_bound(map, key, key_bytes) : 0;

	if (!map || i == map->count || fake_compare(&map->entries[i], key, key_bytes) != 0)
		return NULL;
	return &map->entries[i];
}

static struct fake_map *fake_map_of(struct fake_store *store, const struct eloq_request *request,
				    bool create)
{
	for (size_t i = 0; i < store->map_count; i++)
		if (store->maps[i].table == request->table &&
		    store->maps[i].partition == request->partition)
			return &store->maps[i];
	if (!create)
		return NULL;
	store->maps = reallocarray(store->maps, store->map_count + 1, sizeof(*store->maps));
	eloq_assert(store->maps);
	store->maps[store->map_count] =
		(struct fake_map){ .table = request->table, .partition = request->partition };
	return &store->maps[store->map_count++];
}

/* --- Writing -----------------------------------------------------------------------------------
 */

static void fake_remove(struct fake_map *map, struct fake_entry *entry)
{
	size_t i = (size_t)(entry - map->entries);

	free(entry->key);
	free(entry->value);
	memmove(entry, entry + 1, (map->count - i - 1) * sizeof(*entry));
	map->count--;
}

static void fake_insert(struct fake_map *map, const struct eloq_batch_entry *write,
			uint64_t timestamp)
{
	size_t i = fake_lower_bound(map, write->key, write->key_bytes);

	if (map->count == map->count_max) {
		map->count_max = map->count_max ? 2 * map->count_max : 64;
		map->entries = reallocarray(map->entries, map->count_max, sizeof(*map->entries));
		eloq_assert(map->entries);
	}
	memmove(&map->entries[i + 1], &map->entries[i], (map->count - i) * sizeof(*map->entries));
	map->count++;
	map->entries[i] = (struct fake_entry){
		.key = fake_copy(write->key, write->key_bytes),
		.key_bytes = write->key_bytes,
		.value = fake_copy(write->value, write->value_bytes),
		.value_bytes = write->value_bytes,
		.timestamp = timestamp,
	};
}

static enum eloq_status fake_write(struct fake_store *store, struct fake_map *map,
				   const struct eloq_batch_entry *write, bool caller_timestamps)
{
	struct fake_entry *entry = fake_find(map, write->key, write->key_bytes);
	uint64_t timestamp = ++store->clock;

	if (caller_timestamps && write->flags & ELOQ_BATCH_TIMESTAMP)
		timestamp = write->timestamp;
	else if (caller_timestamps)
		timestamp = entry ? entry->timestamp + 1 : 1;
	if (entry && timestamp < entry->timestamp)
		return ELOQ_STATUS_OLDER;
	if (!entry && write->op == ELOQ_OP_DELETE)
		return ELOQ_STATUS_NOT_FOUND;
	if (entry)
		fake_remove(map, entry);
	if (write->op == ELOQ_OP_PUT)
		fake_insert(map, write, timestamp);
	return ELOQ_STATUS_OK;
}

static void fake_execute_write(struct fake_store *store, const struct fake_call *call,
			       struct fake_outcome *outcome)
{
	const struct eloq_request *request = call->request;
	struct eloq_batch_entry write = {
		.op = request->op,
		.key_bytes = request->key_bytes,
		.value_bytes = request->value_bytes,
		.timestamp = request->words[ELOQ_WORD_TIMESTAMP],
		.key = call->key,
		.value = call->value,
	};

	if (request->flags & ELOQ_REQ_TIMESTAMP)
		write.flags = ELOQ_BATCH_TIMESTAMP;
	outcome->status = fake_write(store, fake_map_of(store, request, true), &write,
				     call->caller_timestamps);
}

/* Strict where the engine is: keys ascend, lengths add up to the last byte. */
static bool fake_check_batch(const uint8_t *p, const uint8_t *end, enum eloq_status *ret_status)
{
	struct eloq_batch_entry entry, before = { 0 };
	uint32_t count;

	*ret_status = ELOQ_STATUS_INVALID;
	p = eloq_batch_get_header(p, end, &count);
	for (uint32_t i = 0; p && i < count; i++) {
		p = eloq_batch_get_entry(p, end, &entry);
		if (!p)
			return false;
		if (before.key) {
			size_t both = eloq_min_u64(before.key_bytes, entry.key_bytes);
			int order = memcmp(before.key, entry.key, both);

			*ret_status = ELOQ_STATUS_ORDER;
			if (order > 0 || (order == 0 && before.key_bytes >= entry.key_bytes))
				return false;
			*ret_status = ELOQ_STATUS_INVALID;
		}
		before = entry;
	}
	return p == end;
}

static void fake_execute_batch(struct fake_store *store, const struct fake_call *call,
			       struct fake_outcome *outcome)
{
	const uint8_t *p = call->value, *end = call->value + call->request->value_bytes;
	struct eloq_batch_outcome result = { 0 };
	struct eloq_batch_entry entry;
	uint32_t count;

	if (!fake_check_batch(p, end, &outcome->status))
		return;
	p = eloq_batch_get_header(p, end, &count);
	for (uint32_t i = 0; i < count; i++) {
		enum eloq_status status;

		p = eloq_batch_get_entry(p, end, &entry);
		status = fake_write(store, fake_map_of(store, call->request, true), &entry,
				    call->caller_timestamps);
		result.applied += status == ELOQ_STATUS_OK;
		result.absent += status == ELOQ_STATUS_NOT_FOUND;
		result.older += status == ELOQ_STATUS_OLDER;
	}
	outcome->status = ELOQ_STATUS_OK;
	outcome->value = malloc(ELOQ_BATCH_ANSWER_BYTES);
	outcome->value_bytes = ELOQ_BATCH_ANSWER_BYTES;
	eloq_batch_put_outcome(outcome->value, &result);
}

/* --- Reading -----------------------------------------------------------------------------------
 */

static void fake_execute_get(struct fake_store *store, const struct fake_call *call,
			     struct fake_outcome *outcome)
{
	const struct fake_entry *entry = fake_find(fake_map_of(store, call->request, false),
						   call->key, call->request->key_bytes);

	outcome->status = entry ? ELOQ_STATUS_OK : ELOQ_STATUS_NOT_FOUND;
	if (!entry)
		return;
	outcome->value = fake_copy(entry->value, entry->value_bytes);
	outcome->value_bytes = entry->value_bytes;
	outcome->timestamp = entry->timestamp;
	outcome->flags = ELOQ_ANS_TIMESTAMP;
}

static bool fake_scan_item(const struct fake_entry *entry, const struct eloq_scan_params *params,
			   uint32_t capacity, struct fake_outcome *outcome)
{
	struct eloq_scan_item item = {
		.key = entry->key,
		.key_bytes = entry->key_bytes,
		.value = entry->value,
		.value_bytes = params->flags & ELOQ_SCAN_KEYS_ONLY ? 0 : entry->value_bytes,
		.timestamp = entry->timestamp,
	};
	size_t bytes = eloq_scan_item_bytes(item.key_bytes, item.value_bytes);

	if (bytes > capacity - outcome->value_bytes) {
		outcome->flags |= ELOQ_ANS_MORE;
		if (outcome->value_bytes == 0) {
			outcome->status = ELOQ_STATUS_NEED_BULK;
			outcome->value_bytes = (uint32_t)bytes;
		}
		return false;
	}
	(void)eloq_scan_put_item(outcome->value + outcome->value_bytes, &item);
	outcome->value_bytes += (uint32_t)bytes;
	return true;
}

static void fake_execute_scan(struct fake_store *store, const struct fake_call *call,
			      struct fake_outcome *outcome)
{
	const struct eloq_request *request = call->request;
	const struct fake_map *map = fake_map_of(store, request, false);
	struct eloq_scan_params params;
	uint32_t capacity = call->capacity;
	uint64_t count = 0;
	size_t i;

	outcome->status = ELOQ_STATUS_INVALID;
	if (eloq_scan_get_params(call->value, request->value_bytes, &params) < 0)
		return;
	outcome->status = ELOQ_STATUS_OK;
	if (!map)
		return;
	if (params.bytes_max && params.bytes_max < capacity)
		capacity = params.bytes_max;
	outcome->value = malloc(capacity + 1);
	i = request->key_bytes ? fake_lower_bound(map, call->key, request->key_bytes) : 0;
	for (; i < map->count; i++) {
		const struct fake_entry *entry = &map->entries[i];

		if (params.flags & ELOQ_SCAN_BEGIN_EXCLUSIVE && request->key_bytes &&
		    fake_compare(entry, call->key, request->key_bytes) == 0)
			continue;
		if (params.end_bytes && fake_compare(entry, params.end, params.end_bytes) >= 0)
			return;
		if (params.entries_max && count == params.entries_max) {
			outcome->flags |= ELOQ_ANS_MORE;
			return;
		}
		if (!fake_scan_item(entry, &params, capacity, outcome))
			return;
		count++;
	}
}

static void fake_execute_partitions(struct fake_store *store, const struct fake_call *call,
				    struct fake_outcome *outcome)
{
	uint64_t from = call->request->partition;

	outcome->status = ELOQ_STATUS_OK;
	outcome->value = malloc(FAKE_PARTITIONS_BYTES);
	for (;;) {
		uint64_t lowest = UINT64_MAX;

		for (size_t i = 0; i < store->map_count; i++) {
			const struct fake_map *map = &store->maps[i];

			if (map->table == call->request->table && map->partition >= from &&
			    map->partition < lowest &&
			    map->partition % call->shard_count == call->shard)
				lowest = map->partition;
		}
		if (lowest == UINT64_MAX)
			return;
		if (outcome->value_bytes == FAKE_PARTITIONS_BYTES) {
			outcome->flags |= ELOQ_ANS_MORE;
			return;
		}
		eloq_put_u32(outcome->value + outcome->value_bytes, (uint32_t)lowest);
		outcome->value_bytes += sizeof(uint32_t);
		from = lowest + 1;
	}
}

static void fake_execute_stat(struct fake_store *store, const struct fake_call *call,
			      struct fake_outcome *outcome)
{
	const struct fake_map *map = fake_map_of(store, call->request, false);
	const struct eloq_partition_figures figures = {
		.pages = map ? map->count : 0,
		.file_pages_end = map ? map->count * 2 : 0,
		.manifest_bytes = 4096,
		.page_bytes = 4096,
		.has_ttl_tree = call->request->partition == 0,
	};

	outcome->status = ELOQ_STATUS_OK;
	outcome->value = malloc(ELOQ_PARTITION_STAT_BYTES);
	outcome->value_bytes = ELOQ_PARTITION_STAT_BYTES;
	eloq_partition_figures_put(outcome->value, &figures);
}

/* --- All ---------------------------------------------------------------------------------------
 */

static void fake_map_clear(struct fake_map *map)
{
	for (size_t i = 0; i < map->count; i++) {
		free(map->entries[i].key);
		free(map->entries[i].value);
	}
	free(map->entries);
	map->entries = NULL;
	map->count = 0;
	map->count_max = 0;
}

void fake_store_execute(struct fake_store *store, const struct fake_call *call,
			struct fake_outcome *ret_outcome)
{
	*ret_outcome = (struct fake_outcome){ .status = ELOQ_STATUS_UNSUPPORTED };
	switch ((enum eloq_op)call->request->op) {
	case ELOQ_OP_PING:
		ret_outcome->status = ELOQ_STATUS_OK;
		return;
	case ELOQ_OP_GET:
		fake_execute_get(store, call, ret_outcome);
		return;
	case ELOQ_OP_PUT:
	case ELOQ_OP_DELETE:
		fake_execute_write(store, call, ret_outcome);
		return;
	case ELOQ_OP_BATCH:
		fake_execute_batch(store, call, ret_outcome);
		return;
	case ELOQ_OP_SCAN:
		fake_execute_scan(store, call, ret_outcome);
		return;
	case ELOQ_OP_TRUNCATE:
		fake_map_clear(fake_map_of(store, call->request, true));
		ret_outcome->status = ELOQ_STATUS_OK;
		return;
	case ELOQ_OP_PARTITIONS:
		fake_execute_partitions(store, call, ret_outcome);
		return;
	case ELOQ_OP_PARTITION_STAT:
		fake_execute_stat(store, call, ret_outcome);
		return;
	case ELOQ_OP_PAD:
		return;
	}
}

void fake_store_drop_table(struct fake_store *store, uint32_t table)
{
	for (size_t i = 0; i < store->map_count; i++) {
		if (store->maps[i].table != table)
			continue;
		fake_map_clear(&store->maps[i]);
		store->maps[i--] = store->maps[--store->map_count];
	}
}

void fake_store_clear(struct fake_store *store)
{
	for (size_t i = 0; i < store->map_count; i++)
		fake_map_clear(&store->maps[i]);
	free(store->maps);
	*store = (struct fake_store){ 0 };
}
