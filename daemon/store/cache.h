/*
 * cache.h - the pages in memory: one budget for data, index and overflow pages of a shard.
 *
 * Idea: frames in one region that the I/O back-end knows, found by (partition number, file page
 * id). A file page never changes while anything refers to it, so a cached page is never stale; when
 * the allocator hands a freed file page out again, the writer's insertion replaces the old frame.
 * Eviction is a clock with small use counts: index pages start high, data pages low. Pages that
 * scans read or commits wrote wait in a queue of their own until a point read wants them; once
 * that queue has its share of the frames, it feeds only on itself, so that a scan pushes out only
 * what another scan left.
 *
 * Always:   a frame whose pin count is above zero is neither evicted nor changed.
 *           Frames hold pages whose checksum and structure were checked.
 * Fails by: -ENOBUFS when every frame is pinned (the await variant waits instead).
 */
#ifndef ELOQ_DAEMON_STORE_CACHE_H
#define ELOQ_DAEMON_STORE_CACHE_H

#include "common/err.h"
#include "daemon/io/io.h"
#include "daemon/runtime/task.h"
#include "daemon/store/files.h"

#include <stdbool.h>
#include <stdint.h>

struct eloq_cache;
struct eloq_page; /* a pinned frame */

/* How eagerly a page is kept. */
enum eloq_page_use { ELOQ_PAGE_SCAN, ELOQ_PAGE_POINT };

struct eloq_cache_opts {
	uint64_t bytes;
	uint32_t page_bytes;
	uint32_t pages_per_file_shift;
	bool verify_checksums;
};

enum { ELOQ_CACHE_FRAMES_MIN = 64 }; /* @opts->bytes is at least so many pages, else -EINVAL */

/*
 * Memory is touched, and registered with @io, when it comes into use. *ret_note: NULL or a line to
 * log when @io does not take all of it; should it refuse later nevertheless, the cache goes on
 * unregistered from there (eloq_io_stats: registered_bytes) and says nothing.
 */
int eloq_cache_open(struct eloq_cache **ret_cache, const struct eloq_cache_opts *opts,
		    struct eloq_io *io, struct eloq_files *files, const char **ret_note);
void eloq_cache_close(struct eloq_cache *cache); /* nothing may be pinned */

/* The page if it is in memory, pinned; NULL otherwise. Counts a hit or nothing. Never suspends. */
struct eloq_page *eloq_cache_find(struct eloq_cache *cache, uint32_t partition_no,
				  uint64_t file_page_id, enum eloq_page_use use);

/*
 * The page, pinned, read from disk if need be; a read already on its way is shared. The file is
 * `data_<file id>_<term>`. Verifies the checksum and the structure of the page's type.
 * -ELOQ_ECORRUPT names file and offset in @reterr.
 */
int eloq_cache_read_await(struct eloq_cache *cache, struct eloq_partition_dir *dir,
			  uint64_t file_page_id, uint64_t term, enum eloq_page_use use,
			  struct eloq_page **ret_page, struct eloq_errinfo *reterr);

/* Bytes of a pinned page, page_bytes long, read-only. */
const uint8_t *eloq_page_bytes(const struct eloq_page *page);

void eloq_cache_ref(struct eloq_page *page); /* one more pin */
void eloq_cache_unpin(struct eloq_cache *cache, struct eloq_page *page);

/*
 * Remember a page that was just written (copied in), replacing what the cache holds for this file
 * page; quietly does nothing if no frame is free.
 */
void eloq_cache_insert(struct eloq_cache *cache, uint32_t partition_no, uint64_t file_page_id,
		       const uint8_t *bytes);

/* Forget a file page (its place is about to be written anew) or all pages of a partition. */
void eloq_cache_forget(struct eloq_cache *cache, uint32_t partition_no, uint64_t file_page_id);
void eloq_cache_forget_partition(struct eloq_cache *cache, uint32_t partition_no);

struct eloq_cache_stats {
	uint64_t hits, misses, evictions, pages, pages_max;
};
void eloq_cache_get_stats(const struct eloq_cache *cache, struct eloq_cache_stats *ret_stats);

#endif
