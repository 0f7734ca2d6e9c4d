/*
 * files.h - the open files of a shard: opened on first use, closed when there are too many.
 *
 * Idea: the engine names a file by (directory of the partition, file id); this table opens it,
 * keeps it in an LRU of at most files_max, and knows which files have writes that were not synced.
 * A dirty file is never closed before it was synced; a file in use is never closed. A partition's
 * manifest is one of these files, under an id of its own.
 *
 * Always:   a file is open at most once; tasks that want it meanwhile wait.
 *           After one failed sync every later sync fails too: nothing is retried as if it had not
 *           happened.
 * Runs on:  the shard's thread. Fails by: -errno of the failing call; a failed sync is
 *           -ELOQ_EFAILED_SYNC, final for the store (store.h). A missing data file that the
 *           mapping needs is -ELOQ_ECORRUPT.
 *
 * Data files of a partition that has no manifest are left over from a first commit that did not
 * end, or from a removal that was cut short: no bytes of them belong to anybody. They are neither
 * refused nor moved aside; with empty_new set a file is emptied when it is made anew, so that a
 * partition never grows over old bytes.
 */
#ifndef ELOQ_DAEMON_STORE_FILES_H
#define ELOQ_DAEMON_STORE_FILES_H

#include "common/err.h"
#include "daemon/io/io.h"
#include "daemon/runtime/task.h"

#include <stdbool.h>
#include <stdint.h>

struct eloq_files;
struct eloq_file; /* an open data file, pinned while held */

/* Where the files of one partition are, and what has to be synced before its next manifest. */
struct eloq_partition_dir {
	struct eloq_io_file *root; /* the disk's directory */
	char name[256];		   /* "<table>.<partition>" */
	uint32_t no;	/* number of the partition in this process: key of cache and files */
	bool exists;	/* directory made or seen */
	bool rooted;	/* ... and its entry in the root is known to be synced */
	bool dirty;	/* has entries that were not synced */
	bool empty_new; /* no manifest was found: see above; set by eloq_manifest_load_await() */
	struct eloq_list files; /* all open files of the partition; eloq_list_init() it */
};

/* The file id of the partition's manifest; its term is in its name as in those of data files. */
#define ELOQ_FILES_MANIFEST (UINT64_MAX - 1)

struct eloq_files_opts {
	uint32_t files_max;
	uint32_t page_bytes;
	uint32_t pages_per_file_shift;
	bool append_mode;
};

int eloq_files_open(struct eloq_files **ret_files, const struct eloq_files_opts *opts,
		    struct eloq_io *io);
void eloq_files_close(struct eloq_files *files); /* all partitions were closed before */

/*
 * The data file @file_id (named with @term), opened if need be and pinned. With @create a missing
 * one is made (the directory too, root synced) and marked dirty with its directory. Waits while
 * all files_max files are pinned. A missing manifest is -ENOENT.
 */
int eloq_files_acquire_await(struct eloq_files *files, struct eloq_partition_dir *dir,
			     uint64_t file_id, uint64_t term, bool create,
			     struct eloq_file **ret_file);
void eloq_files_release(struct eloq_files *files, struct eloq_file *file);

struct eloq_io_file *eloq_file_io(struct eloq_file *file);
void eloq_file_mark_dirty(struct eloq_file *file);

/*
 * Before a write that ends at @end: in append mode files are allocated in steps, and this takes
 * the next one. Does nothing where the file system cannot allocate.
 */
int eloq_files_reserve_await(struct eloq_files *files, struct eloq_file *file, uint64_t end);

/* Sync every dirty data file of the partition and its directory if dirty, in parallel. */
int eloq_files_sync_await(struct eloq_files *files, struct eloq_partition_dir *dir);

/* Sync @file (pinned), or the directory of the partition, now. */
int eloq_files_sync_file_await(struct eloq_files *files, struct eloq_file *file);
int eloq_files_sync_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir);

/* A sync has failed: -ELOQ_EFAILED_SYNC from here on. For those who sync a file of their own, or
 * who cannot know whether a change reached the disk. Returns -ELOQ_EFAILED_SYNC. */
int eloq_files_fail_sync(struct eloq_files *files);
bool eloq_files_sync_has_failed(const struct eloq_files *files);

/* Forget dirty marks after an aborted commit: what was written is unreferenced. The directory
 * stays dirty: the files that were made are there and will be used. */
void eloq_files_forget_dirty(struct eloq_files *files, struct eloq_partition_dir *dir);

/* Make the partition's directory if missing, and sync the root's entry for it. */
int eloq_files_make_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir);

/* Close one file, or all open files of a partition. None may be pinned. */
int eloq_files_close_file_await(struct eloq_files *files, struct eloq_partition_dir *dir,
				uint64_t file_id);
int eloq_files_close_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir);

/* Remove everything in the partition's directory, the manifest first, then the directory. */
int eloq_files_remove_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir);

uint64_t eloq_files_open_count(const struct eloq_files *files);

#endif
