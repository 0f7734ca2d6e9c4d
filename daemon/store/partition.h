/*
 * partition.h - one partition: loaded on first use, read by many, committed to by one.
 *
 *      UNKNOWN --load--> BUSY --manifest found--> OPEN <--first commit-- ABSENT
 *         ^                |---no manifest----------------------------------^
 *         |----failed------'      OPEN, ABSENT, UNKNOWN --drop, close--> BUSY
 *
 * UNKNOWN  nothing is in memory; the next use loads it. A failed load leads back here, so that an
 *          error is told to whoever asked and tried again by the next one; it never looks empty.
 * BUSY     one task loads, drops or closes it; everybody else waits.
 * ABSENT   there is no manifest: it does not exist. A committer may be making it.
 * OPEN     mapper and manifest are in memory.
 *
 * Always:  a task that entered an OPEN partition finds it OPEN until it leaves.
 */
#ifndef ELOQ_DAEMON_STORE_PARTITION_H
#define ELOQ_DAEMON_STORE_PARTITION_H

#include "daemon/format/file_name.h"
#include "daemon/store/page_writer.h"
#include "daemon/store/store.h"
#include "daemon/store/value.h"

/* What the partitions of a store share. */
struct eloq_engine {
	struct eloq_store_opts opts;
	struct eloq_io *io;
	struct eloq_sched *sched;
	struct eloq_files *files;
	struct eloq_cache *cache;
	struct eloq_extents *extents;
	uint32_t last_no; /* of eloq_partition_dir.no, which are never used again */
	bool poisoned;
	struct eloq_value_places places; /* of values being read, until they are given back */
	unsigned pages_ahead;		 /* tasks that read for scans (cursor.h) */
	unsigned committers;		 /* tasks */
	struct eloq_waitq committers_ended;
	struct eloq_store_stats counts; /* those of commits and loads */
};

enum eloq_partition_state {
	ELOQ_PARTITION_UNKNOWN,
	ELOQ_PARTITION_BUSY,
	ELOQ_PARTITION_ABSENT,
	ELOQ_PARTITION_OPEN,
};

struct eloq_partition {
	struct eloq_engine *engine;
	uint32_t table_id;
	uint32_t partition;
	struct eloq_partition_dir dir;
	enum eloq_partition_state state;
	struct eloq_waitq settled; /* waiting for BUSY to end */
	struct eloq_mapper *mapper;
	struct eloq_manifest *manifest;
	unsigned users; /* tasks inside */
	struct eloq_waitq users_left;
	struct eloq_list writes; /* eloq_write.link */
	bool has_committer;
	struct eloq_partition *hash_next; /* the store's */
	struct eloq_list table_link;	  /* the store's */
};

/* @exists: its directory was seen. */
int eloq_partition_open(struct eloq_partition **ret_partition, struct eloq_engine *engine,
			uint32_t table_id, uint32_t partition, const char *table, bool exists);

/* Forget everything in memory; nobody may use it. It is UNKNOWN afterwards. */
void eloq_partition_unload_await(struct eloq_partition *partition);

/* Only of a partition that is UNKNOWN or ABSENT, and unused. NULL is fine. */
void eloq_partition_close(struct eloq_partition *partition);

/* As far as is known without looking at the disk. */
bool eloq_partition_may_exist(const struct eloq_partition *partition);

/*
 * Load if need be, and go in, if it exists: then *ret_exists is true and eloq_partition_leave()
 * must follow.
 */
int eloq_partition_enter_await(struct eloq_partition *partition, bool *ret_exists,
			       struct eloq_errinfo *reterr);
void eloq_partition_leave(struct eloq_partition *partition);

/* A view of the current version, of a partition that is OPEN and stays so until the release. */
void eloq_partition_view(struct eloq_partition *partition, struct eloq_tree_view *ret_view);
void eloq_partition_view_release(struct eloq_tree_view *view);

/*
 * For the one committer: load, and if there is no manifest get ready to write a first one. The
 * partition is OPEN or ABSENT, with mapper and manifest set.
 */
int eloq_partition_prepare_await(struct eloq_partition *partition, struct eloq_errinfo *reterr);
/* After a commit: what was ABSENT is OPEN if @written, else as before. */
void eloq_partition_settle_await(struct eloq_partition *partition, bool written);

/* Remove the partition's files and directory; waits for readers. For the committer. */
int eloq_partition_drop_await(struct eloq_partition *partition, struct eloq_errinfo *reterr);

/* Point reads; store.h has the contract. */
int eloq_partition_get(struct eloq_partition *partition, const uint8_t *key, uint32_t key_bytes,
		       uint64_t now_ms, struct eloq_store_value *ret_value);
int eloq_partition_get_await(struct eloq_partition *partition, const uint8_t *key,
			     uint32_t key_bytes, uint64_t now_ms,
			     struct eloq_store_value *ret_value, struct eloq_errinfo *reterr);

/* Of a partition that the caller entered. */
void eloq_partition_get_stat(struct eloq_partition *partition,
			     struct eloq_partition_stat *ret_stat);

#endif
