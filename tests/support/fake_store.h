/*
 * fake_store.h - an ordered map in memory that answers requests as the engine would.
 *
 * For tests of the client: what a request means, without processes, files or tasks. All in one
 * thread. See fake_daemon.h.
 */
#ifndef ELOQ_TESTS_SUPPORT_FAKE_STORE_H
#define ELOQ_TESTS_SUPPORT_FAKE_STORE_H

#include "shm/message.h"

struct fake_entry {
	uint8_t *key, *value;
	uint16_t key_bytes;
	uint32_t value_bytes;
	uint64_t timestamp;
};

/* One partition, by key. */
struct fake_map {
	uint32_t table, partition;
	struct fake_entry *entries;
	size_t count, count_max;
};

struct fake_store {
	struct fake_map *maps;
	size_t map_count;
	uint64_t clock; /* the last timestamp given */
};

/* What a request is to be executed with, beside itself. */
struct fake_call {
	const struct eloq_request *request;
	const uint8_t *key, *value;
	uint32_t shard, shard_count;
	bool caller_timestamps;
	uint32_t capacity; /* bytes that the answer's value may have */
};

/* What came out; `value` is to be freed. */
struct fake_outcome {
	enum eloq_status status;
	uint16_t flags;
	uint64_t timestamp;
	uint8_t *value;
	uint32_t value_bytes;
};

void fake_store_execute(struct fake_store *store, const struct fake_call *call,
			struct fake_outcome *ret_outcome);
void fake_store_drop_table(struct fake_store *store, uint32_t table);
void fake_store_clear(struct fake_store *store);

#endif
