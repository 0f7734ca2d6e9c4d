/*
 * manifest.h - the manifest of one partition: what makes a commit true.
 *
 * Idea: a snapshot record, then log records; a commit is the sync of one more. When the log would
 * outgrow its limit, a fresh snapshot replaces the file by rename. docs/format.md, "Manifest".
 *
 * Always:   nothing is appended behind bytes that were not replayed: a torn tail is cut off first.
 * Fails by: -ELOQ_ECORRUPT with file and offset when anything but the tail is bad. A failed sync
 *           leaves the outcome unknown: -ELOQ_EFAILED_SYNC, the store is poisoned.
 */
#ifndef ELOQ_DAEMON_STORE_MANIFEST_H
#define ELOQ_DAEMON_STORE_MANIFEST_H

#include "common/err.h"
#include "daemon/store/files.h"
#include "daemon/store/mapper.h"

#include <stdbool.h>
#include <stdint.h>

struct eloq_manifest; /* open file, logical size, term map, dictionary */

struct eloq_manifest_opts {
	/* Of the file: a log record that would take it beyond becomes a snapshot. At least twice
	 * the last snapshot, or a large partition would write one with every commit. */
	uint64_t bytes_max;
	uint32_t pages_per_file_shift;
};

/*
 * Read and replay `manifest_0` of @dir into @mapper (fresh; it must stay until the manifest is
 * closed, and is good for closing only after an error). *ret_found is false if there is no
 * manifest: an empty partition that does not exist yet. What was found is synced before this
 * returns: it may have been left by a process that died before it could, and what is written next
 * relies on it.
 */
int eloq_manifest_load_await(struct eloq_manifest **ret_manifest, struct eloq_files *files,
			     struct eloq_io *io, struct eloq_partition_dir *dir,
			     const struct eloq_manifest_opts *opts, struct eloq_mapper *mapper,
			     bool *ret_found, struct eloq_errinfo *reterr);

/* Term of a data file for its name; 0 for a file that the map does not know yet. *ret_known tells
 * which; a mapped page in an unknown file is corruption. */
uint64_t eloq_manifest_term(const struct eloq_manifest *manifest, uint64_t file_id,
			    bool *ret_known);

/* Data file @file_id (term 0) was made: from now on it is known. 0 or -ENOMEM. */
int eloq_manifest_add_file(struct eloq_manifest *manifest, uint64_t file_id);

/*
 * Make @change durable: data was synced before, and its files are known. Appends a log record or
 * writes a snapshot (both roots empty, size limit, first write), syncs, and returns. The caller
 * commits the change in memory afterwards. A change without any update writes nothing.
 * After -ELOQ_EFAILED_SYNC the outcome is unknown; after any other error the manifest is, also on
 * disk, what it was before.
 */
int eloq_manifest_commit_await(struct eloq_manifest *manifest, const struct eloq_change *change,
			       struct eloq_errinfo *reterr);

uint64_t eloq_manifest_bytes(const struct eloq_manifest *manifest);
uint32_t eloq_manifest_pages_per_file_shift(const struct eloq_manifest *manifest);

struct eloq_manifest_stats {
	uint64_t records, snapshots;
};
struct eloq_manifest_stats eloq_manifest_get_stats(const struct eloq_manifest *manifest);

/* Close the file; frees. NULL is fine. */
void eloq_manifest_close_await(struct eloq_manifest *manifest);

#endif
