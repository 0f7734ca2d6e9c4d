/*
 * cache.c - frames, how they are found, and which one goes (cache.h).
 *
 *                 read_await            checked
 *      FREE -----------------> FILLING ---------> READY      findable by (partition, file page)
 *       ^                         | failed          |
 *       +--- last unpin ------- FAILED              | evicted, forgotten, replaced
 *       +--- last unpin or at once -----------------+
 *
 * Idea: a frame is one line of 64 bytes beside its page, so finding a cached page touches a bucket,
 * that line, and the page itself. A frame that is forgotten while pinned can no longer be found,
 * but keeps its bytes until the last unpin.
 *
 * Always:   a page that can be found and is not in the probation queue is the clock's. A frame
 *           that is being filled is pinned by who fills it.
 * Runs on:  the shard's thread; only eloq_cache_read_await() suspends.
 */
#include "daemon/store/cache.h"

#include "common/compiler.h"
#include "daemon/format/file_name.h"
#include "daemon/format/page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Rounds of the clock that a page survives without being wanted: when it has come, and after each
 * time that it was wanted again. */
enum { USE_INDEX = 8, USE_DATA_FIRST = 1, USE_DATA_MAX = 3 };

/* Pages of scans and commits may crowd out others up to one frame in so many. */
enum { PROBATION_SHARE = 8 };

/*
 * Frames come into use in ascending order and are registered in chunks of this size: half a
 * millisecond's work for the kernel, which the shard waits for. Of a large cache the chunks are
 * larger, so that they need no more than half of the regions there are.
 */
enum { CHUNK_BYTES_MIN = 1 << 20, CHUNKS_MAX = ELOQ_IO_REGIONS_MAX / 2 };

enum page_state { PAGE_FREE, PAGE_FILLING, PAGE_READY, PAGE_FAILED };

/* Why a page could not be had, in the order of finding out. */
enum page_fault { FAULT_FILE, FAULT_MISSING, FAULT_IO, FAULT_END, FAULT_CHECKSUM, FAULT_STRUCTURE };

struct eloq_page {
	uint8_t *bytes;
	uint64_t file_page_id;
	struct eloq_waitq readers; /* waiting for FILLING to end */
	uint32_t partition_no;
	uint32_t hash_next; /* frame numbers start at 1; 0 is none */
	uint32_t queue_next;
	uint32_t queue_prev;
	uint32_t pins;
	int32_t error; /* of FAILED */
	uint8_t state;
	uint8_t use;
	uint8_t use_max;
	uint8_t fault : 4;
	uint8_t is_findable : 1;
	uint8_t is_queued : 1;
} ELOQ_ALIGNED(ELOQ_CACHE_LINE);

static_assert(sizeof(struct eloq_page) == ELOQ_CACHE_LINE, "one line a frame");

struct eloq_cache {
	struct eloq_cache_opts opts;
	struct eloq_io *io;
	struct eloq_files *files;
	uint8_t *region;	  /* of the pages */
	struct eloq_page *frames; /* number n is frames[n - 1] */
	uint32_t *buckets;
	uint32_t bucket_count; /* a power of two */
	uint32_t frame_count;
	uint32_t frames_touched; /* frames behind were never used, and have no memory yet */
	uint32_t free;		 /* first of the free ones, linked by queue_next */
	uint32_t queue_first;	 /* probation: the oldest */
	uint32_t queue_last;
	uint32_t queue_count;
	uint32_t hand; /* of the clock */
	uint64_t pages;
	uint64_t hits, misses, evictions;
	struct eloq_waitq unpinned; /* waiting for any frame */
	uint32_t chunk_frames;
	bool is_registering;
};

/* --- Opening and closing ---------------------------------------------------------------------- */

static void *cache_map(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void cache_unmap(void *memory, size_t bytes)
{
	if (memory)
		(void)munmap(memory, bytes);
}

static size_t cache_region_bytes(const struct eloq_cache *cache)
{
	return (size_t)cache->frame_count * cache->opts.page_bytes;
}

static uint32_t cache_chunk_frames(const struct eloq_cache *cache)
{
	return (uint32_t)eloq_max_u64(CHUNK_BYTES_MIN / cache->opts.page_bytes,
				      cache->frame_count / CHUNKS_MAX + 1);
}

/* A worker's log is written at its start, so this is said before the first chunk is due. */
static const char *cache_registration_note(const struct eloq_cache *cache)
{
	switch (eloq_io_can_register_memory(cache->io, cache->region, cache_region_bytes(cache))) {
	case 0:
		return NULL;
	case -ENOMEM:
		return "the page cache cannot be registered with the kernel as a whole, the rest "
		       "is used unregistered: raise the memlock limit (LimitMEMLOCK=)";
	default:
		return "the page cache is used unregistered: the kernel refused a table for it";
	}
}

int eloq_cache_open(struct eloq_cache **ret_cache, const struct eloq_cache_opts *opts,
		    struct eloq_io *io, struct eloq_files *files, const char **ret_note)
{
	uint64_t frame_count = opts->bytes / opts->page_bytes;
	struct eloq_cache *cache;

	if (frame_count < ELOQ_CACHE_FRAMES_MIN || frame_count > UINT32_MAX / 2)
		return -EINVAL;
	cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	cache->opts = *opts;
	cache->io = io;
	cache->files = files;
	cache->frame_count = (uint32_t)frame_count;
	cache->chunk_frames = cache_chunk_frames(cache);
	cache->is_registering = true;
	cache->bucket_count = 1;
	while (cache->bucket_count < cache->frame_count)
		cache->bucket_count *= 2;
	eloq_waitq_init(&cache->unpinned);
	cache->region = cache_map(cache_region_bytes(cache));
	cache->frames = cache_map(cache->frame_count * sizeof(*cache->frames));
	cache->buckets = cache_map(cache->bucket_count * sizeof(*cache->buckets));
	if (!cache->region || !cache->frames || !cache->buckets) {
		eloq_cache_close(cache);
		return -ENOMEM;
	}
	if (ret_note)
		*ret_note = cache_registration_note(cache);
	*ret_cache = cache;
	return 0;
}

void eloq_cache_close(struct eloq_cache *cache)
{
	if (!cache)
		return;
	for (uint32_t i = 0; i < cache->frames_touched; i++)
		eloq_assert(cache->frames[i].pins == 0);
	eloq_io_forget_memory(cache->io, cache->region, cache_region_bytes(cache));
	cache_unmap(cache->region, cache_region_bytes(cache));
	cache_unmap(cache->frames, cache->frame_count * sizeof(*cache->frames));
	cache_unmap(cache->buckets, cache->bucket_count * sizeof(*cache->buckets));
	free(cache);
}

/* --- Finding ---------------------------------------------------------------------------------- */

static struct eloq_page *cache_frame(const struct eloq_cache *cache, uint32_t number)
{
	return &cache->frames[number - 1];
}

static uint32_t cache_number(const struct eloq_cache *cache, const struct eloq_page *page)
{
	return (uint32_t)(page - cache->frames) + 1;
}

static uint32_t *cache_bucket(const struct eloq_cache *cache, uint32_t partition_no,
			      uint64_t file_page_id)
{
	uint64_t mixed = file_page_id ^ (uint64_t)partition_no * UINT64_C(0xD1B54A32D192ED03);

	mixed = (mixed ^ mixed >> 32) * UINT64_C(0x9E3779B97F4A7C15);
	return &cache->buckets[(mixed >> 32) & (cache->bucket_count - 1)];
}

static inline struct eloq_page *cache_lookup(const struct eloq_cache *cache, uint32_t partition_no,
					     uint64_t file_page_id)
{
	uint32_t number = *cache_bucket(cache, partition_no, file_page_id);

	while (number != 0) {
		struct eloq_page *page = cache_frame(cache, number);

		if (page->file_page_id == file_page_id && page->partition_no == partition_no)
			return page;
		number = page->hash_next;
	}
	return NULL;
}

static void cache_make_findable(struct eloq_cache *cache, struct eloq_page *page,
				uint32_t partition_no, uint64_t file_page_id)
{
	uint32_t *bucket = cache_bucket(cache, partition_no, file_page_id);

	page->partition_no = partition_no;
	page->file_page_id = file_page_id;
	page->hash_next = *bucket;
	*bucket = cache_number(cache, page);
	page->is_findable = true;
	cache->pages++;
}

static void cache_make_unfindable(struct eloq_cache *cache, struct eloq_page *page)
{
	uint32_t *link = cache_bucket(cache, page->partition_no, page->file_page_id);
	uint32_t number = cache_number(cache, page);

	while (*link != number)
		link = &cache_frame(cache, *link)->hash_next;
	*link = page->hash_next;
	page->is_findable = false;
	cache->pages--;
}

/* --- The probation queue ---------------------------------------------------------------------- */

static void queue_push(struct eloq_cache *cache, struct eloq_page *page)
{
	uint32_t number = cache_number(cache, page);

	page->queue_next = 0;
	page->queue_prev = cache->queue_last;
	if (cache->queue_last)
		cache_frame(cache, cache->queue_last)->queue_next = number;
	else
		cache->queue_first = number;
	cache->queue_last = number;
	cache->queue_count++;
	page->is_queued = true;
}

static void queue_remove(struct eloq_cache *cache, struct eloq_page *page)
{
	if (page->queue_prev)
		cache_frame(cache, page->queue_prev)->queue_next = page->queue_next;
	else
		cache->queue_first = page->queue_next;
	if (page->queue_next)
		cache_frame(cache, page->queue_next)->queue_prev = page->queue_prev;
	else
		cache->queue_last = page->queue_prev;
	cache->queue_count--;
	page->is_queued = false;
}

/* --- Which frame goes ------------------------------------------------------------------------- */

static void cache_free_frame(struct eloq_cache *cache, struct eloq_page *page)
{
	page->state = PAGE_FREE;
	page->queue_next = cache->free;
	cache->free = cache_number(cache, page);
	eloq_waitq_wake_all(&cache->unpinned);
}

/* Nobody finds the page any more; its frame is free when nobody has it pinned. */
static void cache_detach(struct eloq_cache *cache, struct eloq_page *page)
{
	if (page->is_queued)
		queue_remove(cache, page);
	cache_make_unfindable(cache, page);
	if (page->pins == 0)
		cache_free_frame(cache, page);
}

/* The oldest page on probation that nobody has pinned. */
static struct eloq_page *cache_queue_victim(const struct eloq_cache *cache)
{
	for (uint32_t number = cache->queue_first; number != 0;) {
		struct eloq_page *page = cache_frame(cache, number);

		if (page->pins == 0)
			return page;
		number = page->queue_next;
	}
	return NULL;
}

/* Turns the clock until a page without use comes by; NULL if all of its pages are pinned. */
static struct eloq_page *cache_clock_victim(struct eloq_cache *cache)
{
	uint32_t fruitless = 0; /* frames in a row that this round did nothing to */

	while (fruitless < cache->frames_touched) {
		struct eloq_page *page = &cache->frames[cache->hand];

		if (++cache->hand >= cache->frames_touched)
			cache->hand = 0;
		fruitless++;
		if (page->pins > 0 || page->is_queued || !page->is_findable)
			continue;
		if (page->use == 0)
			return page;
		page->use--;
		fruitless = 0;
	}
	return NULL;
}

static struct eloq_page *cache_victim(struct eloq_cache *cache)
{
	struct eloq_page *page = NULL;

	if (cache->queue_count > cache->frame_count / PROBATION_SHARE)
		page = cache_queue_victim(cache);
	if (!page)
		page = cache_clock_victim(cache);
	if (!page)
		page = cache_queue_victim(cache);
	return page;
}

/* Registers the chunk that the next frame never used begins. Refused once, it would be again. */
static void cache_register_chunk(struct eloq_cache *cache)
{
	uint32_t page_bytes = cache->opts.page_bytes;
	uint32_t frames_left = cache->frame_count - cache->frames_touched;
	size_t bytes = eloq_min_u64(cache->chunk_frames, frames_left) * page_bytes;
	uint8_t *chunk = cache->region + (size_t)cache->frames_touched * page_bytes;

	cache->is_registering = eloq_io_register_memory(cache->io, chunk, bytes) == 0;
}

/* A frame to fill: one that was freed, one never used, or one whose page goes. */
static struct eloq_page *cache_take_frame(struct eloq_cache *cache)
{
	struct eloq_page *page;

	if (cache->free == 0 && cache->frames_touched < cache->frame_count) {
		if (cache->is_registering && cache->frames_touched % cache->chunk_frames == 0)
			cache_register_chunk(cache);
		page = &cache->frames[cache->frames_touched];
		page->bytes =
			cache->region + (size_t)cache->frames_touched * cache->opts.page_bytes;
		eloq_waitq_init(&page->readers);
		cache->frames_touched++;
		return page;
	}
	if (cache->free == 0) {
		page = cache_victim(cache);
		if (!page)
			return NULL;
		cache->evictions++;
		cache_detach(cache, page);
	}
	page = cache_frame(cache, cache->free);
	cache->free = page->queue_next;
	return page;
}

/* A page has come: how eagerly it is kept until somebody wants it. */
static void cache_welcome(struct eloq_cache *cache, struct eloq_page *page, enum eloq_page_use use)
{
	bool is_index = eloq_page_type(page->bytes) == ELOQ_PAGE_INDEX_INNER ||
			eloq_page_type(page->bytes) == ELOQ_PAGE_INDEX_LEAF;

	page->state = PAGE_READY;
	page->use_max = is_index ? USE_INDEX : USE_DATA_MAX;
	page->use = is_index ? USE_INDEX : USE_DATA_FIRST;
	if (!is_index && use == ELOQ_PAGE_SCAN && page->is_findable) {
		page->use = 0;
		queue_push(cache, page);
	}
}

/* --- Pins ------------------------------------------------------------------------------------- */

static inline void cache_pin_wanted(struct eloq_cache *cache, struct eloq_page *page,
				    enum eloq_page_use use)
{
	page->pins++;
	if (use != ELOQ_PAGE_POINT)
		return;
	if (eloq_unlikely(page->is_queued))
		queue_remove(cache, page);
	page->use = page->use_max;
}

struct eloq_page *eloq_cache_find(struct eloq_cache *cache, uint32_t partition_no,
				  uint64_t file_page_id, enum eloq_page_use use)
{
	struct eloq_page *page = cache_lookup(cache, partition_no, file_page_id);

	if (eloq_unlikely(!page || page->state != PAGE_READY))
		return NULL;
	cache_pin_wanted(cache, page, use);
	cache->hits++;
	return page;
}

const uint8_t *eloq_page_bytes(const struct eloq_page *page)
{
	return page->bytes;
}

void eloq_cache_ref(struct eloq_page *page)
{
	eloq_assert(page->pins > 0);
	page->pins++;
}

void eloq_cache_unpin(struct eloq_cache *cache, struct eloq_page *page)
{
	eloq_assert(page->pins > 0);
	if (--page->pins > 0)
		return;
	if (eloq_unlikely(!page->is_findable))
		cache_free_frame(cache, page);
	else if (eloq_unlikely(!eloq_waitq_empty(&cache->unpinned)))
		eloq_waitq_wake_all(&cache->unpinned);
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* What a reader is told; the same for who read and for who waited along. */
static int page_tell(const struct eloq_page *page, const struct eloq_cache *cache,
		     const struct eloq_partition_dir *dir, uint64_t term,
		     struct eloq_errinfo *reterr)
{
	static const char *const what[] = {
		[FAULT_FILE] = "opening the file",
		[FAULT_MISSING] = "the file is missing",
		[FAULT_IO] = "reading the page",
		[FAULT_END] = "the file ends before the page does",
		[FAULT_CHECKSUM] = "the page's checksum is wrong",
		[FAULT_STRUCTURE] = "the page's structure is bad",
	};
	uint64_t file_id = page->file_page_id >> cache->opts.pages_per_file_shift;
	uint64_t index = page->file_page_id - (file_id << cache->opts.pages_per_file_shift);
	char name[ELOQ_FILE_NAME_BYTES];

	eloq_file_name_data(name, file_id, term);
	if (page->error == -ELOQ_ECORRUPT)
		return eloq_fail(reterr, page->error, "%s/%s, offset %" PRIu64 ": %s", dir->name,
				 name, index * cache->opts.page_bytes, what[page->fault]);
	return eloq_fail_errno(reterr, page->error, "%s/%s, offset %" PRIu64 ": %s", dir->name,
			       name, index * cache->opts.page_bytes, what[page->fault]);
}

static int page_judge(struct eloq_page *page, const struct eloq_cache *cache, int64_t read_bytes)
{
	uint32_t page_bytes = cache->opts.page_bytes;

	page->fault = FAULT_IO;
	if (read_bytes < 0)
		return (int)read_bytes;
	page->fault = FAULT_END;
	if (read_bytes < page_bytes)
		return -ELOQ_ECORRUPT;
	page->fault = FAULT_CHECKSUM;
	if (cache->opts.verify_checksums && !eloq_page_verify(page->bytes, page_bytes))
		return -ELOQ_ECORRUPT;
	page->fault = FAULT_STRUCTURE;
	return eloq_page_check(page->bytes, page_bytes) ? 0 : -ELOQ_ECORRUPT;
}

static int page_read_await(struct eloq_page *page, struct eloq_cache *cache,
			   struct eloq_partition_dir *dir, uint64_t term)
{
	uint64_t file_id = page->file_page_id >> cache->opts.pages_per_file_shift;
	uint64_t index = page->file_page_id - (file_id << cache->opts.pages_per_file_shift);
	struct eloq_io_req req = {
		.op = ELOQ_IO_READ,
		.buf = page->bytes,
		.bytes = cache->opts.page_bytes,
		.offset = index * cache->opts.page_bytes,
	};
	struct eloq_file *file;
	int64_t read_bytes;
	int r;

	r = eloq_files_acquire_await(cache->files, dir, file_id, term, false, &file);
	if (r < 0) {
		page->fault = r == -ELOQ_ECORRUPT ? FAULT_MISSING : FAULT_FILE;
		return r;
	}
	req.file = eloq_file_io(file);
	read_bytes = eloq_task_io_await(cache->io, &req);
	eloq_files_release(cache->files, file);
	return page_judge(page, cache, read_bytes);
}

/* Reads into a frame just taken, and wakes who waits for the same page. Pinned, ready or failed. */
static void cache_fill_await(struct eloq_cache *cache, struct eloq_page *page,
			     struct eloq_partition_dir *dir, uint64_t file_page_id, uint64_t term,
			     enum eloq_page_use use)
{
	page->state = PAGE_FILLING;
	page->pins = 1;
	cache_make_findable(cache, page, dir->no, file_page_id);
	cache->misses++;
	page->error = page_read_await(page, cache, dir, term);
	if (page->error == 0) {
		cache_welcome(cache, page, use);
	} else {
		page->state = PAGE_FAILED;
		if (page->is_findable)
			cache_make_unfindable(cache, page);
	}
	eloq_waitq_wake_all(&page->readers);
}

int eloq_cache_read_await(struct eloq_cache *cache, struct eloq_partition_dir *dir,
			  uint64_t file_page_id, uint64_t term, enum eloq_page_use use,
			  struct eloq_page **ret_page, struct eloq_errinfo *reterr)
{
	struct eloq_page *page;
	int r;

	for (;;) {
		page = cache_lookup(cache, dir->no, file_page_id);
		if (page) {
			cache_pin_wanted(cache, page, use);
			cache->hits++;
			while (page->state == PAGE_FILLING)
				eloq_waitq_await(&page->readers);
			break;
		}
		page = cache_take_frame(cache);
		if (page) {
			cache_fill_await(cache, page, dir, file_page_id, term, use);
			break;
		}
		eloq_waitq_await(&cache->unpinned);
	}
	if (page->state == PAGE_READY) {
		*ret_page = page;
		return 0;
	}
	r = page_tell(page, cache, dir, term, reterr);
	eloq_cache_unpin(cache, page);
	return r;
}

/* --- Writing ---------------------------------------------------------------------------------- */

void eloq_cache_insert(struct eloq_cache *cache, uint32_t partition_no, uint64_t file_page_id,
		       const uint8_t *bytes)
{
	struct eloq_page *page;

	eloq_cache_forget(cache, partition_no, file_page_id);
	page = cache_take_frame(cache);
	if (!page)
		return;
	memcpy(page->bytes, bytes, cache->opts.page_bytes);
	page->pins = 0;
	cache_make_findable(cache, page, partition_no, file_page_id);
	cache_welcome(cache, page, ELOQ_PAGE_SCAN);
}

void eloq_cache_forget(struct eloq_cache *cache, uint32_t partition_no, uint64_t file_page_id)
{
	struct eloq_page *page = cache_lookup(cache, partition_no, file_page_id);

	if (page)
		cache_detach(cache, page);
}

void eloq_cache_forget_partition(struct eloq_cache *cache, uint32_t partition_no)
{
	for (uint32_t i = 0; i < cache->frames_touched; i++) {
		struct eloq_page *page = &cache->frames[i];

		if (page->is_findable && page->partition_no == partition_no)
			cache_detach(cache, page);
	}
}

void eloq_cache_get_stats(const struct eloq_cache *cache, struct eloq_cache_stats *ret_stats)
{
	*ret_stats = (struct eloq_cache_stats){
		.hits = cache->hits,
		.misses = cache->misses,
		.evictions = cache->evictions,
		.pages = cache->pages,
		.pages_max = cache->frame_count,
	};
}
