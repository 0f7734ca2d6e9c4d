/*
 * page_writer.h - the pages of one commit on their way to disk.
 *
 * Idea: a finished page is sealed, placed (mapper.h), copied into an extent of consecutive file
 * pages, and a full or broken extent is one write. Several extents are in flight; a writer that is
 * ahead of the disk waits. Pages are also put into the cache, so a commit does not make reads cold.
 *
 * Runs on: the committing task. Memory: extents come from a pool shared by the shard.
 * Always:  a page that was put is not read from disk again before finish: its write may be under
 *          way. The change's own tree code keeps what it still needs.
 */
#ifndef ELOQ_DAEMON_STORE_PAGE_WRITER_H
#define ELOQ_DAEMON_STORE_PAGE_WRITER_H

#include "daemon/store/cache.h"
#include "daemon/store/files.h"
#include "daemon/store/manifest.h"
#include "daemon/store/mapper.h"

struct eloq_page_writer;

struct eloq_extents; /* the pool: page-aligned buffers of extent_pages pages each */

/* An extent's memory is registered with @io when the extent is first used. */
int eloq_extents_open(struct eloq_extents **ret_extents, struct eloq_io *io, uint32_t page_bytes,
		      uint32_t extent_pages, uint32_t extent_count);
void eloq_extents_close(struct eloq_extents *extents); /* all writers are closed; NULL is fine */

/* One writer for one change. */
int eloq_page_writer_open(struct eloq_page_writer **ret_writer, struct eloq_extents *extents,
			  struct eloq_files *files, struct eloq_cache *cache, struct eloq_io *io,
			  struct eloq_partition_dir *dir, struct eloq_manifest *manifest,
			  struct eloq_change *change);

/*
 * Write the new version of @page_id: @page (page_bytes, content complete) is sealed in place and
 * copied. Waits only if too much is in flight. -errno of any earlier write of this change too.
 */
int eloq_page_writer_put_await(struct eloq_page_writer *writer, uint32_t page_id, uint8_t *page);

/* Wait for all writes, then sync data files and directory. The manifest may follow. */
int eloq_page_writer_finish_await(struct eloq_page_writer *writer);

/* Waits for what is in flight; frees. NULL is fine. */
void eloq_page_writer_close_await(struct eloq_page_writer *writer);

uint64_t eloq_page_writer_pages(const struct eloq_page_writer *writer);

#endif
