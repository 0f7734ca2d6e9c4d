/*
 * store.h - the engine of one shard: partitions, each an ordered map on disk.
 *
 * Idea: a partition is a copy-on-write B+-tree behind an indirection table (the mapping, page id
 * -> file page id). A commit writes new pages to fresh places, syncs them, appends the mapping
 * changes to the manifest, syncs that, and switches the mapping in memory. Readers work on the
 * mapping they started with. Bytes on disk: docs/format.md.
 *
 * Always:   a write that ended with success is on disk; after a crash each partition holds a
 *           prefix of its successful writes, plus possibly the one that was in flight.
 * Runs on:  one thread. Functions ending in _await must run in a task; the others never suspend.
 * Knows no: processes, rings, clients. Clock and disk are handed in.
 * Fails by: -ELOQ_ECORRUPT with file and offset, for the one partition that is damaged; a failed
 *           sync poisons the whole store (eloq_store_is_poisoned): its process must leave.
 */
#ifndef ELOQ_DAEMON_STORE_STORE_H
#define ELOQ_DAEMON_STORE_STORE_H

#include "common/clock.h"
#include "common/err.h"
#include "common/list.h"
#include "daemon/io/io.h"
#include "daemon/runtime/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct eloq_store;

struct eloq_store_opts {
	/* Permanent: the files only make sense with these. */
	uint32_t page_bytes;	       /* P: 4096..61440, a multiple of 4096 */
	uint32_t pages_per_file_shift; /* P << shift <= 4 GiB */
	uint32_t overflow_pointers;    /* 1..128, 12 + 4 * n < P */
	bool append_mode;

	uint32_t data_restart_interval;	 /* >= 1 */
	uint32_t index_restart_interval; /* >= 1 */
	uint64_t manifest_bytes_max; /* a log that would grow beyond is replaced by a snapshot */
	uint64_t cache_bytes;	     /* one budget for data and index pages */
	uint32_t files_max;	     /* open at a time */
	bool verify_checksums;

	/* The shard's own: partitions with id % shard_count == shard_index. */
	uint32_t shard_index;
	uint32_t shard_count;

	/* One open directory for each disk; partition p lives in roots[p % root_count]. They stay
	 * the caller's. */
	struct eloq_io_file *const *roots;
	const char *const *root_names; /* for messages */
	uint32_t root_count;

	const struct eloq_clock *clock;
};

/**
 * Open the engine and list the partitions that exist (their manifests load on first use). May
 * block on directory listings. *ret_note: NULL or a line to log (for example memory that could not
 * be registered).
 */
int eloq_store_open(struct eloq_store **ret_store, const struct eloq_store_opts *opts,
		    struct eloq_io *io, struct eloq_sched *sched, const char **ret_note,
		    struct eloq_errinfo *reterr);

/* Waits for writes that were submitted, closes all files. No read may be running. */
void eloq_store_stop_await(struct eloq_store *store);

/* After eloq_store_stop_await(). NULL is fine. */
void eloq_store_close(struct eloq_store *store);

/* True after a failed sync: nothing more can be promised, the process must leave. */
bool eloq_store_is_poisoned(const struct eloq_store *store);

/* Largest key this store can hold (page_bytes / 2). */
uint32_t eloq_store_key_bytes_max(const struct eloq_store *store);

/* --- Tables: a name for the directories, a number for everything else ------------------------- */

/* -ELOQ_EEXISTS if the number or the name is in use. */
int eloq_store_table_add(struct eloq_store *store, uint32_t table_id, const char *name);

/* Forget a table after all of its partitions were dropped (ELOQ_WRITE_DROP). */
void eloq_store_table_remove(struct eloq_store *store, uint32_t table_id);

/* Call @each for every partition of the table that this shard knows to exist, ascending. */
int eloq_store_table_partitions(struct eloq_store *store, uint32_t table_id,
				int (*each)(void *arg, uint32_t partition), void *arg);

/* --- Reads ------------------------------------------------------------------------------------ */

/*
 * A value that was found: in a pinned cache page, or in memory of its own. Few long ones may be in
 * memory at a time: a task gives back what it found before it reads again.
 */
struct eloq_store_value {
	const uint8_t *data;
	uint32_t bytes;
	uint64_t timestamp;
	uint64_t expire_ms;	/* 0: never */
	struct eloq_page *page; /* pinned, or NULL */
	uint8_t *owned;		/* malloc'ed, or NULL */
	bool has_place;		/* among the long ones */
};

/* Give back what a found value holds; the structure is empty afterwards. */
void eloq_store_value_release(struct eloq_store *store, struct eloq_store_value *value);

/**
 * Read one key without suspending: -EAGAIN if something needed is not in memory, then call the
 * _await variant in a task. Entries whose expiry is <= @now_ms count as absent (0: none does).
 * 0, -ELOQ_ENOTFOUND, -EAGAIN, -ELOQ_ECORRUPT, -errno.
 */
int eloq_store_get(struct eloq_store *store, uint32_t table_id, uint32_t partition,
		   const uint8_t *key, uint32_t key_bytes, uint64_t now_ms,
		   struct eloq_store_value *ret_value);

int eloq_store_get_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
			 const uint8_t *key, uint32_t key_bytes, uint64_t now_ms,
			 struct eloq_store_value *ret_value, struct eloq_errinfo *reterr);

struct eloq_scan_entry {
	const uint8_t *key;
	uint32_t key_bytes;
	uint32_t value_bytes;
	const uint8_t *value; /* NULL with keys_only */
	uint64_t timestamp;
	uint64_t expire_ms;
};

struct eloq_scan {
	const uint8_t *begin; /* begin_bytes 0: from the first key */
	uint32_t begin_bytes;
	bool begin_exclusive;
	const uint8_t *end; /* exclusive; end_bytes 0: to the last key */
	uint32_t end_bytes;
	bool keys_only;	      /* values are neither read nor passed on */
	uint64_t entries_max; /* 0: no bound */
	uint64_t now_ms;      /* as in eloq_store_get() */
	/* Called in key order with memory that is valid during the call; must not suspend. Returns
	 * 0: taken; 1: not taken, stop before this entry; negative: end with this error. */
	int (*each)(void *arg, const struct eloq_scan_entry *entry);
	void *arg;
};

/**
 * Walk a range on one snapshot of the partition. *ret_more: at least one more live entry exists
 * below the end (exact). A partition that does not exist is an empty range.
 */
int eloq_store_scan_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
			  const struct eloq_scan *scan, bool *ret_more,
			  struct eloq_errinfo *reterr);

/* --- Writes ----------------------------------------------------------------------------------- */

enum eloq_write_op { ELOQ_WRITE_PUT, ELOQ_WRITE_DELETE };

enum eloq_write_outcome {
	ELOQ_WRITE_APPLIED, /* put or deleted */
	ELOQ_WRITE_ABSENT,  /* a delete of a key that is not there, or a put that had expired */
	ELOQ_WRITE_OLDER,   /* the stored entry is newer: ignored */
};

struct eloq_write_entry {
	const uint8_t *key;
	const uint8_t *value;
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms; /* 0: never */
	enum eloq_write_op op;
	bool timestamp_auto;		 /* use the stored entry's + 1, or 1 */
	enum eloq_write_outcome outcome; /* set before done() */
};

enum eloq_write_kind {
	ELOQ_WRITE_BATCH,    /* entries, atomically */
	ELOQ_WRITE_TRUNCATE, /* remove everything */
	ELOQ_WRITE_DROP,     /* remove everything and the partition's files and directory */
};

struct eloq_write {
	enum eloq_write_kind kind;
	uint32_t table_id;
	uint32_t partition;
	uint32_t entry_count;
	struct eloq_write_entry *entries; /* strictly ascending keys; memory stays until done() */
	void (*done)(struct eloq_write *write);
	void *arg;

	int result;			  /* set before done(): 0 or a negative error */
	const struct eloq_errinfo *error; /* words for the result or NULL; valid during done() */

	struct eloq_list link; /* the store's until done() */
};

/**
 * Queue a write. Writes that wait for one partition are merged into one commit, in the order they
 * came. done() is called from a task when the write is durable or has failed; it must not suspend.
 * A write that only removes, from a partition that was never there, is done before this returns.
 * 0; -EAGAIN: no task free to commit with, try again after others ended; or a refusal, then done()
 * is not called: -ELOQ_ETOOLONG (key or value), -EINVAL (empty key), -ELOQ_EORDER, -ELOQ_ENOTFOUND
 * (table), -ELOQ_ETOOMANY (a new partition beyond the most of a table), -ELOQ_EFAILED_SYNC
 * (poisoned), -ELOQ_ESTOPPED.
 */
int eloq_store_write_submit(struct eloq_store *store, struct eloq_write *write);

/* Convenience for tasks: submit and wait. reterr may be NULL. */
int eloq_store_write_await(struct eloq_store *store, struct eloq_write *write,
			   struct eloq_errinfo *reterr);

/* --- Looking ---------------------------------------------------------------------------------- */

struct eloq_partition_stat {
	uint64_t pages;		 /* live pages of all kinds */
	uint64_t file_pages_end; /* smallest file page never used */
	uint64_t manifest_bytes;
	uint32_t page_bytes;
	bool has_ttl_tree;
};

/* -ELOQ_ENOTFOUND: no such partition. */
int eloq_store_partition_stat_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
				    struct eloq_partition_stat *ret_stat,
				    struct eloq_errinfo *reterr);

struct eloq_store_stats {
	uint64_t cache_hits, cache_misses, cache_evictions;
	uint64_t cache_pages, cache_pages_max;
	uint64_t commits, merged_writes; /* writes that shared another's commit */
	uint64_t pages_written, manifest_records, manifest_snapshots;
	uint64_t partitions_loaded;
	uint64_t files_open;
};

void eloq_store_get_stats(const struct eloq_store *store, struct eloq_store_stats *ret_stats);

#endif
