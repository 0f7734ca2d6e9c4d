/*
 * page_writer.c - from pages to extents to writes (page_writer.h).
 *
 *      free -> open (being filled) -> under way -> free      extents, in the shard's pool
 *
 * Idea: the mapper hands out file pages in ascending runs, so the page that follows the last one
 * goes to the same extent; any other place submits it and starts the next. A writer waits only
 * when the pool is empty, and then has no extent open, so writers never wait for each other in a
 * ring.
 *
 * Always:   an extent under way has its file pinned and dirty. All writes have ended before the
 *           writer is freed: the allocator may hand their places out again right after.
 * Fails by: the first error of any write, from whichever call comes next.
 *
 * A page is put into the cache at once, not when its write has ended: nobody can ask for its place
 * before the commit. If the change is aborted nobody ever will, until the place is handed out
 * again and the page written there replaces it.
 */
#include "daemon/store/page_writer.h"

#include "common/compiler.h"
#include "daemon/format/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extent {
	struct eloq_io_group_req write;
	struct eloq_list link; /* in the pool's list of free ones */
	struct eloq_extents *pool;
	struct eloq_files *files;
	struct eloq_file *file; /* pinned while under way */
	uint8_t *bytes;
	uint64_t first; /* file page */
	uint32_t pages;
	bool is_touched;
};

struct eloq_extents {
	struct eloq_io *io;
	uint8_t *memory;
	uint32_t page_bytes;
	uint32_t extent_pages;
	uint32_t extent_count;
	uint32_t free_count;
	struct eloq_list free;
	struct eloq_waitq freed;
	struct extent extents[];
};

struct eloq_page_writer {
	struct eloq_extents *pool;
	struct eloq_files *files;
	struct eloq_cache *cache;
	struct eloq_partition_dir *dir;
	struct eloq_manifest *manifest;
	struct eloq_change *change;
	uint32_t pages_per_file_shift;
	struct extent *open; /* being filled, or NULL */
	struct eloq_io_group group;
	int error; /* the first that is not a write's: those are in the group */
	uint64_t pages;
};

/* --- The pool --------------------------------------------------------------------------------- */

static size_t extents_bytes(const struct eloq_extents *pool)
{
	return (size_t)pool->page_bytes * pool->extent_pages * pool->extent_count;
}

int eloq_extents_open(struct eloq_extents **ret_extents, struct eloq_io *io, uint32_t page_bytes,
		      uint32_t extent_pages, uint32_t extent_count)
{
	size_t extent_bytes = (size_t)page_bytes * extent_pages;
	struct eloq_extents *pool;

	if (!eloq_page_bytes_ok(page_bytes) || extent_pages == 0 || extent_count == 0 ||
	    extent_bytes > UINT32_MAX)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool) + extent_count * sizeof(pool->extents[0]));
	if (!pool)
		return -ENOMEM;
	pool->io = io;
	pool->page_bytes = page_bytes;
	pool->extent_pages = extent_pages;
	pool->extent_count = extent_count;
	pool->free_count = extent_count;
	pool->memory = aligned_alloc(ELOQ_IO_ALIGN, extents_bytes(pool));
	if (!pool->memory) {
		free(pool);
		return -ENOMEM;
	}
	eloq_list_init(&pool->free);
	eloq_waitq_init(&pool->freed);
	for (uint32_t i = 0; i < extent_count; i++) {
		pool->extents[i].pool = pool;
		pool->extents[i].bytes = pool->memory + i * extent_bytes;
		eloq_list_push_back(&pool->free, &pool->extents[i].link);
	}
	*ret_extents = pool;
	return 0;
}

void eloq_extents_close(struct eloq_extents *extents)
{
	if (!extents)
		return;
	eloq_assert(extents->free_count == extents->extent_count);
	eloq_io_forget_memory(extents->io, extents->memory, extents_bytes(extents));
	free(extents->memory);
	free(extents);
}

static struct extent *extents_take_await(struct eloq_extents *pool)
{
	struct eloq_list *node;
	struct extent *extent;

	while ((node = eloq_list_pop_front(&pool->free)) == NULL)
		eloq_waitq_await(&pool->freed);
	pool->free_count--;
	extent = eloq_list_entry(node, struct extent, link);
	if (!extent->is_touched) {
		/* Refused, it is only slower. */
		(void)eloq_io_register_memory(pool->io, extent->bytes,
					      (size_t)pool->page_bytes * pool->extent_pages);
		extent->is_touched = true;
	}
	return extent;
}

static void extents_give_back(struct eloq_extents *pool, struct extent *extent)
{
	eloq_list_push_front(&pool->free, &extent->link);
	pool->free_count++;
	eloq_waitq_wake_one(&pool->freed);
}

/* --- The writer ------------------------------------------------------------------------------- */

int eloq_page_writer_open(struct eloq_page_writer **ret_writer, struct eloq_extents *extents,
			  struct eloq_files *files, struct eloq_cache *cache, struct eloq_io *io,
			  struct eloq_partition_dir *dir, struct eloq_manifest *manifest,
			  struct eloq_change *change)
{
	struct eloq_page_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return -ENOMEM;
	writer->pool = extents;
	writer->files = files;
	writer->cache = cache;
	writer->dir = dir;
	writer->manifest = manifest;
	writer->change = change;
	writer->pages_per_file_shift = eloq_manifest_pages_per_file_shift(manifest);
	eloq_io_group_init(&writer->group, io);
	*ret_writer = writer;
	return 0;
}

/* The file of a page, made if the change is the first to use it. Pinned. */
static int writer_acquire_file_await(struct eloq_page_writer *writer, uint64_t file_id,
				     struct eloq_file **ret_file)
{
	struct eloq_file *file;
	bool known;
	uint64_t term = eloq_manifest_term(writer->manifest, file_id, &known);
	int r;

	r = eloq_files_acquire_await(writer->files, writer->dir, file_id, term, !known, &file);
	if (r < 0)
		return r;
	if (!known)
		r = eloq_manifest_add_file(writer->manifest, file_id);
	if (r < 0) {
		eloq_files_release(writer->files, file);
		return r;
	}
	*ret_file = file;
	return 0;
}

static void extent_written(struct eloq_io_group_req *greq)
{
	struct extent *extent = eloq_container_of(greq, struct extent, write);

	eloq_files_release(extent->files, extent->file);
	extents_give_back(extent->pool, extent);
}

static int writer_error(const struct eloq_page_writer *writer)
{
	return writer->error < 0 ? writer->error : writer->group.error;
}

/* Starts the write of the open extent. */
static int writer_submit_await(struct eloq_page_writer *writer)
{
	struct extent *extent = writer->open;
	uint32_t page_bytes = writer->pool->page_bytes;
	uint64_t file_id, offset;
	int r;

	if (!extent)
		return 0;
	writer->open = NULL;
	file_id = extent->first >> writer->pages_per_file_shift;
	offset = (extent->first - (file_id << writer->pages_per_file_shift)) * page_bytes;
	r = writer_acquire_file_await(writer, file_id, &extent->file);
	if (r < 0)
		goto out;
	r = eloq_files_reserve_await(writer->files, extent->file,
				     offset + (uint64_t)extent->pages * page_bytes);
	if (r < 0) {
		eloq_files_release(writer->files, extent->file);
		goto out;
	}
	eloq_file_mark_dirty(extent->file);
	extent->files = writer->files;
	extent->write = (struct eloq_io_group_req){
		.req = {
			.op = ELOQ_IO_WRITE,
			.file = eloq_file_io(extent->file),
			.buf = extent->bytes,
			.bytes = extent->pages * page_bytes,
			.offset = offset,
		},
		.on_done = extent_written,
	};
	eloq_io_group_submit(&writer->group, &extent->write);
	extent = NULL; /* extent_written() gives it back */
out:
	if (extent)
		extents_give_back(writer->pool, extent);
	writer->error = r;
	return r;
}

/* Whether @file_page follows the open extent's last page, in the same file. */
static bool writer_page_follows(const struct eloq_page_writer *writer, uint64_t file_page)
{
	const struct extent *extent = writer->open;
	uint64_t in_file_mask = (UINT64_C(1) << writer->pages_per_file_shift) - 1;

	return extent && extent->pages < writer->pool->extent_pages &&
	       file_page == extent->first + extent->pages && (file_page & in_file_mask) != 0;
}

int eloq_page_writer_put_await(struct eloq_page_writer *writer, uint32_t page_id, uint8_t *page)
{
	uint32_t page_bytes = writer->pool->page_bytes;
	uint64_t file_page;
	int r;

	r = writer_error(writer);
	if (r < 0)
		return r;
	eloq_page_seal(page, page_bytes);
	eloq_assert_slow(eloq_page_check(page, page_bytes));
	r = eloq_change_place(writer->change, page_id, &file_page);
	if (r < 0)
		return r;
	if (!writer_page_follows(writer, file_page)) {
		r = writer_submit_await(writer);
		if (r < 0)
			return r;
		writer->open = extents_take_await(writer->pool);
		writer->open->first = file_page;
		writer->open->pages = 0;
	}
	memcpy(writer->open->bytes + (size_t)writer->open->pages * page_bytes, page, page_bytes);
	writer->open->pages++;
	writer->pages++;
	eloq_cache_insert(writer->cache, writer->dir->no, file_page, page);
	return 0;
}

int eloq_page_writer_finish_await(struct eloq_page_writer *writer)
{
	int r = writer_error(writer);

	if (r == 0)
		r = writer_submit_await(writer);
	if (r == 0)
		r = eloq_io_group_await(&writer->group, 0);
	if (r == 0)
		r = eloq_files_sync_await(writer->files, writer->dir);
	return r;
}

void eloq_page_writer_close_await(struct eloq_page_writer *writer)
{
	if (!writer)
		return;
	if (writer->open)
		extents_give_back(writer->pool, writer->open);
	(void)eloq_io_group_await(&writer->group, 0);
	free(writer);
}

uint64_t eloq_page_writer_pages(const struct eloq_page_writer *writer)
{
	return writer->pages;
}
