/*
 * batch.c - several writes to one partition that happen together or not at all.
 *
 * Idea: entries are collected as they come and sorted only when the batch is sent, as the worker
 * takes keys in ascending order, each once. Of several entries for one key the last one stays.
 *
 * Runs on:  one thread at a time for each batch; any channel may send it.
 * Fails by: -EINVAL, -ELOQ_ETOOLONG, -ENOMEM, -EXDEV.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <string.h>

struct batch_item {
	size_t at; /* of the key in bytes; the value follows it */
	size_t order;
	uint64_t timestamp;
	uint32_t value_bytes;
	uint16_t key_bytes;
	uint8_t op;
};

struct eloq_batch {
	struct batch_item *items;
	size_t count, count_max;
	uint8_t *bytes;
	size_t bytes_used, bytes_max;
	size_t wire_bytes;	   /* as sent, if no key came twice */
	struct client_buffer wire; /* encoded, valid until the next change */
};

int eloq_batch_new(struct eloq_batch **ret_batch)
{
	struct eloq_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return -ENOMEM;
	batch->wire_bytes = ELOQ_BATCH_HEADER_BYTES;
	*ret_batch = batch;
	return 0;
}

void eloq_batch_free(struct eloq_batch *batch)
{
	if (!batch)
		return;
	free(batch->items);
	free(batch->bytes);
	eloq_buffer_clear(&batch->wire);
	free(batch);
}

void eloq_batch_clear(struct eloq_batch *batch)
{
	batch->count = 0;
	batch->bytes_used = 0;
	batch->wire_bytes = ELOQ_BATCH_HEADER_BYTES;
}

size_t eloq_batch_count(const struct eloq_batch *batch)
{
	return batch->count;
}

size_t eloq_batch_bytes(const struct eloq_batch *batch)
{
	return batch->wire_bytes;
}

/* --- Collecting --------------------------------------------------------------------------------
 */

static int batch_make_room(struct eloq_batch *batch, size_t bytes)
{
	size_t max;
	void *grown;

	if (batch->count == batch->count_max) {
		max = batch->count_max ? 2 * batch->count_max : 16;
		grown = reallocarray(batch->items, max, sizeof(*batch->items));
		if (!grown)
			return -ENOMEM;
		batch->items = grown;
		batch->count_max = max;
	}
	if (bytes > batch->bytes_max - batch->bytes_used) {
		max = eloq_max_u64(2 * batch->bytes_max, batch->bytes_used + bytes);
		grown = realloc(batch->bytes, max);
		if (!grown)
			return -ENOMEM;
		batch->bytes = grown;
		batch->bytes_max = max;
	}
	return 0;
}

static int batch_add(struct eloq_batch *batch, uint8_t op, const void *key, size_t key_bytes,
		     const void *value, size_t value_bytes, uint64_t timestamp)
{
	uint8_t *at;
	int r;

	if (!key || key_bytes == 0 || (!value && value_bytes))
		return -EINVAL;
	if (key_bytes > ELOQ_KEY_BYTES_MAX || value_bytes > ELOQ_VALUE_BYTES_MAX)
		return -ELOQ_ETOOLONG;
	r = batch_make_room(batch, key_bytes + value_bytes);
	if (r < 0)
		return r;
	batch->items[batch->count] = (struct batch_item){
		.at = batch->bytes_used,
		.order = batch->count,
		.timestamp = timestamp,
		.value_bytes = (uint32_t)value_bytes,
		.key_bytes = (uint16_t)key_bytes,
		.op = op,
	};
	batch->count++;
	at = batch->bytes + batch->bytes_used;
	memcpy(at, key, key_bytes);
	if (value_bytes)
		memcpy(at + key_bytes, value, value_bytes);
	batch->bytes_used += key_bytes + value_bytes;
	batch->wire_bytes += eloq_batch_entry_bytes((uint32_t)key_bytes, (uint32_t)value_bytes);
	return 0;
}

int eloq_batch_put(struct eloq_batch *batch, const void *key, size_t key_bytes, const void *value,
		   size_t value_bytes, uint64_t timestamp)
{
	return batch_add(batch, ELOQ_OP_PUT, key, key_bytes, value, value_bytes, timestamp);
}

int eloq_batch_delete(struct eloq_batch *batch, const void *key, size_t key_bytes,
		      uint64_t timestamp)
{
	return batch_add(batch, ELOQ_OP_DELETE, key, key_bytes, NULL, 0, timestamp);
}

/* --- Sending -----------------------------------------------------------------------------------
 */

static int batch_compare_keys(const struct batch_item *a, const struct batch_item *b,
			      const uint8_t *bytes)
{
	size_t both = eloq_min_u64(a->key_bytes, b->key_bytes);
	int order = memcmp(bytes + a->at, bytes + b->at, both);

	return order ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

/* By key; entries of one key in the order in which they were added. */
static int batch_compare(const void *a, const void *b, void *bytes)
{
	const struct batch_item *left = a, *right = b;
	int order = batch_compare_keys(left, right, bytes);

	return order ? order : (left->order > right->order) - (left->order < right->order);
}

static bool batch_is_last_of_key(const struct eloq_batch *batch, size_t i)
{
	return i + 1 == batch->count ||
	       batch_compare_keys(&batch->items[i], &batch->items[i + 1], batch->bytes) != 0;
}

static uint8_t *batch_encode_item(uint8_t *p, const struct eloq_batch *batch, size_t i,
				  uint64_t timestamp)
{
	const struct batch_item *item = &batch->items[i];
	struct eloq_batch_entry entry = {
		.op = item->op,
		.key_bytes = item->key_bytes,
		.value_bytes = item->value_bytes,
		.timestamp = item->timestamp ? item->timestamp : timestamp,
		.key = batch->bytes + item->at,
		.value = batch->bytes + item->at + item->key_bytes,
	};

	if (entry.timestamp)
		entry.flags |= ELOQ_BATCH_TIMESTAMP;
	return eloq_batch_put_entry(p, &entry);
}

static int batch_encode(struct eloq_batch *batch, uint64_t timestamp)
{
	uint32_t count = 0;
	uint8_t *p;
	int r;

	r = eloq_buffer_reserve(&batch->wire, batch->wire_bytes);
	if (r < 0)
		return r;
	qsort_r(batch->items, batch->count, sizeof(*batch->items), batch_compare, batch->bytes);
	p = batch->wire.data + ELOQ_BATCH_HEADER_BYTES;
	for (size_t i = 0; i < batch->count; i++) {
		if (!batch_is_last_of_key(batch, i))
			continue;
		p = batch_encode_item(p, batch, i, timestamp);
		count++;
	}
	(void)eloq_batch_put_header(batch->wire.data, count);
	batch->wire.bytes = (size_t)(p - batch->wire.data);
	return 0;
}

static int batch_check_item(const struct eloq_batch *batch, const struct batch_item *item,
			    const struct client_op *op, bool routed)
{
	const struct eloq_table_info *info = &op->table->info;

	if (item->key_bytes > op->table->client->key_bytes_max)
		return -ELOQ_ETOOLONG;
	if (item->timestamp && info->timestamps != ELOQ_CALLER_TIMESTAMPS)
		return -EINVAL;
	if (routed && eloq_table_partition(op->table, batch->bytes + item->at, item->key_bytes) !=
			      op->partition)
		return -EXDEV;
	return 0;
}

int eloq_batch_prepare(struct client_op *op, struct eloq_channel *channel, struct eloq_table *table,
		       struct eloq_batch *batch, const struct eloq_op_opts *opts)
{
	bool routed = !opts || !opts->partition_set || opts->partition == ELOQ_PARTITION_BY_KEY;
	int r;

	if (batch->count == 0)
		return channel ? 1 : -ELOQ_ETOOMANY;
	r = eloq_op_prepare(op, channel, table, batch->bytes + batch->items[0].at,
			    batch->items[0].key_bytes, opts);
	for (size_t i = 0; r == 0 && i < batch->count; i++)
		r = batch_check_item(batch, &batch->items[i], op, routed);
	if (r == 0)
		r = batch_encode(batch, op->timestamp);
	if (r == 0 && batch->wire.bytes > channel->client->value_bytes_max)
		r = -ELOQ_ETOOLONG;
	op->op = ELOQ_OP_BATCH;
	op->key = NULL;
	op->key_bytes = 0;
	op->timestamp = 0; /* each entry has its own */
	op->value = batch->wire.data;
	op->value_bytes = batch->wire.bytes;
	return r;
}

int eloq_batch_write(struct eloq_channel *channel, struct eloq_table *table,
		     struct eloq_batch *batch, struct eloq_batch_result *ret_result,
		     const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_BATCH };
	struct eloq_batch_outcome outcome = { 0 };
	uint8_t bytes[ELOQ_BATCH_ANSWER_BYTES];
	struct client_buffer into = { .data = bytes, .capacity = sizeof(bytes), .fixed = true };
	int r;

	r = eloq_batch_prepare(&op, channel, table, batch, opts);
	if (r < 0)
		return r;
	op.into = &into;
	if (r == 0) {
		r = eloq_sync_call(channel, &op, NULL);
		if (r == 0)
			r = eloq_batch_get_outcome(bytes, into.bytes, &outcome);
		if (r < 0)
			return r;
	}
	if (ret_result)
		*ret_result = (struct eloq_batch_result){ .applied = outcome.applied,
							  .absent = outcome.absent,
							  .older = outcome.older };
	return 0;
}
