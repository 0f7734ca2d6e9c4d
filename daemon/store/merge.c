/*
 * merge.c - sorted changes, and their effect on one stored entry. See merge.h.
 */
#include "daemon/store/merge.h"

#include <errno.h>
#include <stdlib.h>

int eloq_merge_open(struct eloq_merge *merge, uint32_t capacity, uint64_t now_ms)
{
	merge->ops = malloc(((size_t)capacity + 1) * sizeof(*merge->ops));
	if (!merge->ops)
		return -ENOMEM;
	merge->count = 0;
	merge->capacity = capacity;
	merge->now_ms = now_ms;
	return 0;
}

void eloq_merge_close(struct eloq_merge *merge)
{
	free(merge->ops);
	merge->ops = NULL;
}

void eloq_merge_add(struct eloq_merge *merge, struct eloq_write *write)
{
	uint32_t order = merge->count > 0 ? merge->ops[merge->count - 1].order + 1 : 0;

	eloq_assert(write->entry_count <= merge->capacity - merge->count);
	for (uint32_t i = 0; i < write->entry_count; i++)
		merge->ops[merge->count++] = (struct eloq_merge_op){ &write->entries[i], order };
}

static int merge_compare(const void *a, const void *b)
{
	const struct eloq_merge_op *left = a, *right = b;
	int order = eloq_key_compare(left->entry->key, left->entry->key_bytes, right->entry->key,
				     right->entry->key_bytes);

	if (order != 0)
		return order;
	return (left->order > right->order) - (left->order < right->order);
}

void eloq_merge_sort(struct eloq_merge *merge)
{
	if (merge->count > 0 && merge->ops[merge->count - 1].order > 0)
		qsort(merge->ops, merge->count, sizeof(*merge->ops), merge_compare);
}

uint32_t eloq_merge_lower_bound(const struct eloq_merge *merge, uint32_t from, uint32_t to,
				const uint8_t *key, uint32_t key_bytes)
{
	while (from < to) {
		uint32_t middle = from + (to - from) / 2;
		const struct eloq_write_entry *entry = merge->ops[middle].entry;

		if (eloq_key_compare(entry->key, entry->key_bytes, key, key_bytes) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

uint32_t eloq_merge_key_end(const struct eloq_merge *merge, uint32_t from, uint32_t to)
{
	const struct eloq_write_entry *first = merge->ops[from].entry;
	uint32_t end = from + 1;

	while (end < to &&
	       eloq_key_compare(merge->ops[end].entry->key, merge->ops[end].entry->key_bytes,
				first->key, first->key_bytes) == 0)
		end++;
	return end;
}

static bool merge_is_live_put(const struct eloq_write_entry *entry, uint64_t now_ms)
{
	return entry->op == ELOQ_WRITE_PUT && (entry->expire_ms == 0 || entry->expire_ms > now_ms);
}

void eloq_merge_resolve(struct eloq_merge *merge, uint32_t from, uint32_t to,
			const struct eloq_entry *stored, struct eloq_merge_result *ret_result)
{
	uint64_t timestamp = stored ? stored->timestamp : 0;
	const struct eloq_write_entry *put = NULL;
	bool present = stored != NULL;
	bool changed = false;

	for (uint32_t i = from; i < to; i++) {
		struct eloq_write_entry *entry = merge->ops[i].entry;
		uint64_t wanted = entry->timestamp;

		if (entry->timestamp_auto)
			wanted = present ? eloq_min_u64(timestamp + 1, ELOQ_TIMESTAMP_MAX) : 1;
		if (present && wanted < timestamp) {
			entry->outcome = ELOQ_WRITE_OLDER;
			continue;
		}
		if (merge_is_live_put(entry, merge->now_ms)) {
			present = true;
			put = entry;
			timestamp = eloq_min_u64(wanted, ELOQ_TIMESTAMP_MAX);
		} else if (present) {
			present = false;
			put = NULL;
		} else {
			entry->outcome = ELOQ_WRITE_ABSENT;
			continue;
		}
		entry->outcome = ELOQ_WRITE_APPLIED;
		changed = true;
	}
	ret_result->effect = ELOQ_MERGE_KEEP;
	ret_result->put = put;
	ret_result->timestamp = timestamp;
	if (changed && present)
		ret_result->effect = ELOQ_MERGE_PUT;
	else if (changed && stored)
		ret_result->effect = ELOQ_MERGE_REMOVE;
}
