/*
 * io_simfs.h - a file system in memory that knows what a power cut would leave of it.
 *
 * Idea: each file has two images, `now` (what a reader sees) and `durable` (what the medium is
 * known to hold), and a log of the changes that lead from one to the other, in the order in which
 * they were made. A sync carries the changes made before it into `durable`. A cut carries over
 * some of them, some in part, and then shows `durable` to everybody. Directories are the same with
 * names in place of bytes, so a new name is durable only by a sync of its directory.
 *
 * What a cut may do to a change that was not synced:
 *   write           kept, lost, or torn: each sector of 512 bytes by itself. That the file grew
 *                   may survive without the bytes (zeros then), or the bytes without that.
 *   truncate, allocate, create, unlink, mkdir, rmdir   kept or lost
 *   rename          kept or lost: both names at once
 *
 * Always:   durable + changes in order = now, unless a sync has failed since: what that lost stays
 *           visible until it is evicted (is_stale), as pages in Linux' cache do.
 *           A file has one name; there are no links. Renames stay in one directory (-EXDEV).
 * Runs on:  one thread; no time, no I/O in flight: that is io_sim.c's. Private to daemon/io.
 * Fails by: -errno as Linux has it.
 */
#ifndef ELOQ_DAEMON_IO_IO_SIMFS_H
#define ELOQ_DAEMON_IO_IO_SIMFS_H

#include "common/list.h"
#include "common/prng.h"
#include "daemon/io/io_sim_image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ELOQ_SIM_SECTOR_BYTES = 512 };

struct eloq_simfs_node; /* a file or directory, named or only open */

/* What cuts and failed syncs made of changes that were not durable. */
struct eloq_simfs_stats {
	uint64_t writes_kept, writes_lost, writes_torn;
	uint64_t sizes_kept, sizes_lost; /* truncates, and growth by a write or allocate */
	uint64_t names_kept, names_lost;
};

struct eloq_simfs {
	struct eloq_prng *prng; /* decides what is lost; the disk's */
	uint64_t chunks_max;	/* -ENOSPC beyond */
	uint64_t chunk_count;	/* of all `now` images */
	uint64_t pending_bytes; /* of all logs */
	uint64_t next_node_id;
	uint64_t next_change;
	struct eloq_list nodes; /* all of them, oldest first */
	struct eloq_simfs_node *root;
	struct eloq_simfs_stats stats;
};

void eloq_simfs_init(struct eloq_simfs *fs, struct eloq_prng *prng, uint64_t bytes_max);
void eloq_simfs_fini(struct eloq_simfs *fs); /* no node may be held any more */

/* A node is kept as long as it is named or held. */
struct eloq_simfs_node *eloq_simfs_hold(struct eloq_simfs_node *node);
void eloq_simfs_release(struct eloq_simfs *fs, struct eloq_simfs_node *node);
uint64_t eloq_simfs_node_id(const struct eloq_simfs_node *node);
bool eloq_simfs_is_directory(const struct eloq_simfs_node *node);

/* As openat(): @flags are eloq_io_open_flags; *ret_node is held. Paths have no "..". */
int eloq_simfs_open(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		    unsigned flags, struct eloq_simfs_node **ret_node);
int eloq_simfs_rename(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		      const char *new_path);
int eloq_simfs_mkdir(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path);
int eloq_simfs_remove(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		      bool directory);

/* The names of directory @path in an order drawn from the seed; see eloq_io_list(). */
int eloq_simfs_list(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		    int (*each)(void *arg, const char *name, bool is_directory), void *arg);

int64_t eloq_simfs_read(const struct eloq_simfs_node *file, void *buf, uint32_t bytes,
			uint64_t offset);
int64_t eloq_simfs_write(struct eloq_simfs *fs, struct eloq_simfs_node *file, const void *buf,
			 uint32_t bytes, uint64_t offset);
int64_t eloq_simfs_size(const struct eloq_simfs_node *file);
int eloq_simfs_truncate(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t bytes);
int eloq_simfs_allocate(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t end);

/* A sync in two steps: what is there when it starts, and that becoming durable when it ends. */
uint64_t eloq_simfs_sync_mark(const struct eloq_simfs *fs);
void eloq_simfs_sync(struct eloq_simfs *fs, struct eloq_simfs_node *node, uint64_t mark);
/* As Linux has it: what was not written of a file is forgotten, a later sync knows nothing of it.
 * Names are not forgotten: a file system whose journal fails stops rather than show what it lost.
 */
void eloq_simfs_sync_fails(struct eloq_simfs *fs, struct eloq_simfs_node *node, uint64_t mark);

/* The power goes. Nodes that are still held stay, with what is left of them. */
void eloq_simfs_cut(struct eloq_simfs *fs);

/* Pages that a failed sync left behind are dropped from the cache: readers see the medium. */
void eloq_simfs_evict(struct eloq_simfs *fs);

/* Flip one bit of the sector at @offset, wherever it is kept, until it is written again. */
void eloq_simfs_rot(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t offset);

#endif
