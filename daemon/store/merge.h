/*
 * merge.h - what a set of changes does to the entries of a tree.
 *
 * Idea: the entries of all writes that share a commit form one sorted list; changes to the same
 * key stand in the order of their writes. For one key at a time the changes are played against the
 * stored entry, each getting its own outcome, and what remains is one of: keep, put, remove.
 *
 * docs/format.md says how entries are stored, docs/protocol.md what writes promise.
 */
#ifndef ELOQ_DAEMON_STORE_MERGE_H
#define ELOQ_DAEMON_STORE_MERGE_H

#include "daemon/format/data_page.h"
#include "daemon/store/store.h"

struct eloq_merge_op {
	struct eloq_write_entry *entry;
	uint32_t order; /* of its write */
};

struct eloq_merge {
	struct eloq_merge_op *ops; /* by key, then by order, once sorted */
	uint32_t count;
	uint32_t capacity;
	uint64_t now_ms; /* one clock read for the whole commit */
};

/* Room for @capacity entries. */
int eloq_merge_open(struct eloq_merge *merge, uint32_t capacity, uint64_t now_ms);
void eloq_merge_close(struct eloq_merge *merge);

/* Add the entries of the next write, which has them in strictly ascending order. */
void eloq_merge_add(struct eloq_merge *merge, struct eloq_write *write);
/* After the last write. */
void eloq_merge_sort(struct eloq_merge *merge);

/* The first op in [from, to) whose key is >= @key, or @to. */
uint32_t eloq_merge_lower_bound(const struct eloq_merge *merge, uint32_t from, uint32_t to,
				const uint8_t *key, uint32_t key_bytes);

/* The first op behind @from, below @to, that has another key than it, or @to. */
uint32_t eloq_merge_key_end(const struct eloq_merge *merge, uint32_t from, uint32_t to);

enum eloq_merge_effect {
	ELOQ_MERGE_KEEP, /* the stored entry, or its absence, stays */
	ELOQ_MERGE_PUT,
	ELOQ_MERGE_REMOVE, /* only of a stored entry */
};

struct eloq_merge_result {
	enum eloq_merge_effect effect;
	const struct eloq_write_entry *put; /* whose value and expiry are put */
	uint64_t timestamp;		    /* as it is to be stored */
};

/*
 * Play ops [from, to), all of one key, against @stored (NULL: none) and set their outcomes. A
 * timestamp below the stored one loses, an equal one wins; what has expired is as good as deleted.
 */
void eloq_merge_resolve(struct eloq_merge *merge, uint32_t from, uint32_t to,
			const struct eloq_entry *stored, struct eloq_merge_result *ret_result);

#endif
