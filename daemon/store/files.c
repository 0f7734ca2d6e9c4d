/*
 * files.c - the table of open files (files.h).
 *
 *              acquire              opened              room needed, close_*
 *      FREE ------------> OPENING ----------> OPEN --------------------------> CLOSING --> FREE
 *                            |   failed        (a dirty file is synced first)
 *                            +--------> FREE
 *
 * Idea: a fixed array of slots; an open file is found by hash, is in the list of its partition,
 * and in the LRU while nobody has it pinned. OPENING and CLOSING files are found too, so that
 * nobody opens a file a second time beside them: who finds one waits, and looks again.
 *
 * Always:   pinned files and files in motion are not in the LRU; a dirty file is synced before
 *           its CLOSE. After any wait the table is looked at anew.
 */
#include "daemon/store/files.h"

#include "common/compiler.h"
#include "daemon/format/file_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Append-mode files grow by this much: few extents in the file system, little wasted on small
 * partitions. */
#define ALLOCATE_STEP_BYTES (UINT64_C(64) << 20)

enum {
	PATH_BYTES = 256 + ELOQ_FILE_NAME_BYTES + 1,
	REMOVE_NAMES = 16, /* removed between two listings */
};

enum file_state { FILE_FREE, FILE_OPENING, FILE_OPEN, FILE_CLOSING };

static const uint8_t file_may_go_to[] = {
	[FILE_FREE] = 1u << FILE_OPENING,
	[FILE_OPENING] = 1u << FILE_OPEN | 1u << FILE_FREE,
	[FILE_OPEN] = 1u << FILE_CLOSING,
	[FILE_CLOSING] = 1u << FILE_FREE,
};

struct eloq_file {
	struct eloq_io_file *io_file;
	struct eloq_partition_dir *dir;
	uint64_t file_id;
	uint64_t allocated; /* bytes that the file has; kept in append mode only */
	unsigned pins;
	enum file_state state;
	bool dirty;
	bool syncing;
	struct eloq_list lru_link; /* in files->lru or files->free, or in none */
	struct eloq_list dir_link;
	struct eloq_list hash_link;
	struct eloq_io_group_req sync;
};

struct eloq_files {
	struct eloq_files_opts opts;
	struct eloq_io *io;
	struct eloq_file *slots;
	struct eloq_list *buckets;
	uint32_t bucket_count; /* a power of two */
	uint32_t open_count;   /* slots that are not FREE */
	bool sync_failed;
	struct eloq_list lru; /* least recently used first */
	struct eloq_list free;
	struct eloq_waitq changed; /* a file was opened, closed or unpinned */
};

static void file_go_to(struct eloq_file *file, enum file_state next)
{
	eloq_assert(file_may_go_to[file->state] & 1u << next);
	file->state = next;
}

/* --- The table -------------------------------------------------------------------------------- */

int eloq_files_open(struct eloq_files **ret_files, const struct eloq_files_opts *opts,
		    struct eloq_io *io)
{
	struct eloq_files *files;

	if (opts->files_max == 0 || opts->files_max > ELOQ_IO_FILES_MAX)
		return -EINVAL;
	files = calloc(1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	files->opts = *opts;
	files->io = io;
	files->bucket_count = 1;
	while (files->bucket_count < opts->files_max)
		files->bucket_count *= 2;
	files->slots = calloc(opts->files_max, sizeof(*files->slots));
	files->buckets = calloc(files->bucket_count, sizeof(*files->buckets));
	if (!files->slots || !files->buckets) {
		eloq_files_close(files);
		return -ENOMEM;
	}
	eloq_list_init(&files->lru);
	eloq_list_init(&files->free);
	eloq_waitq_init(&files->changed);
	for (uint32_t i = 0; i < files->bucket_count; i++)
		eloq_list_init(&files->buckets[i]);
	for (uint32_t i = 0; i < opts->files_max; i++)
		eloq_list_push_back(&files->free, &files->slots[i].lru_link);
	*ret_files = files;
	return 0;
}

void eloq_files_close(struct eloq_files *files)
{
	if (!files)
		return;
	eloq_assert(files->open_count == 0);
	free(files->slots);
	free(files->buckets);
	free(files);
}

uint64_t eloq_files_open_count(const struct eloq_files *files)
{
	return files->open_count;
}

static struct eloq_list *files_bucket(struct eloq_files *files,
				      const struct eloq_partition_dir *dir, uint64_t file_id)
{
	uint64_t mixed = (file_id ^ (uint64_t)dir->no << 32) * UINT64_C(0x9E3779B97F4A7C15);

	return &files->buckets[(mixed >> 32) & (files->bucket_count - 1)];
}

static struct eloq_file *files_find(struct eloq_files *files, const struct eloq_partition_dir *dir,
				    uint64_t file_id)
{
	eloq_list_for_each (node, files_bucket(files, dir, file_id)) {
		struct eloq_file *file = eloq_list_entry(node, struct eloq_file, hash_link);

		if (file->dir == dir && file->file_id == file_id)
			return file;
	}
	return NULL;
}

/* A free slot becomes a file that is being opened. */
static struct eloq_file *files_insert(struct eloq_files *files, struct eloq_partition_dir *dir,
				      uint64_t file_id)
{
	struct eloq_list *node = eloq_list_pop_front(&files->free);
	struct eloq_file *file = eloq_list_entry(node, struct eloq_file, lru_link);

	file_go_to(file, FILE_OPENING);
	file->io_file = NULL;
	file->dir = dir;
	file->file_id = file_id;
	file->allocated = 0;
	file->pins = 0;
	file->dirty = false;
	file->syncing = false;
	eloq_list_push_back(&dir->files, &file->dir_link);
	eloq_list_push_back(files_bucket(files, dir, file_id), &file->hash_link);
	files->open_count++;
	return file;
}

static void files_remove(struct eloq_files *files, struct eloq_file *file)
{
	file_go_to(file, FILE_FREE);
	eloq_list_remove(&file->dir_link);
	eloq_list_remove(&file->hash_link);
	eloq_list_push_front(&files->free, &file->lru_link);
	files->open_count--;
	eloq_waitq_wake_all(&files->changed);
}

static void file_pin(struct eloq_file *file)
{
	eloq_assert(file->state == FILE_OPEN);
	if (file->pins++ == 0)
		eloq_list_remove(&file->lru_link);
}

void eloq_files_release(struct eloq_files *files, struct eloq_file *file)
{
	eloq_assert(file->state == FILE_OPEN && file->pins > 0);
	if (--file->pins > 0)
		return;
	eloq_list_push_back(&files->lru, &file->lru_link);
	eloq_waitq_wake_all(&files->changed);
}

struct eloq_io_file *eloq_file_io(struct eloq_file *file)
{
	return file->io_file;
}

void eloq_file_mark_dirty(struct eloq_file *file)
{
	file->dirty = true;
}

/* --- One request ------------------------------------------------------------------------------ */

static int files_request_await(struct eloq_files *files, struct eloq_io_req *req)
{
	return (int)eloq_task_io_await(files->io, req);
}

/* @op of a name in the partition's root directory. */
static int files_name_await(struct eloq_files *files, const struct eloq_partition_dir *dir,
			    enum eloq_io_op op, const char *path)
{
	struct eloq_io_req req = { .op = op, .file = dir->root, .path = path };

	return files_request_await(files, &req);
}

static int files_open_await(struct eloq_files *files, const struct eloq_partition_dir *dir,
			    const char *path, unsigned flags, struct eloq_io_file **ret_file)
{
	struct eloq_io_req req = {
		.op = ELOQ_IO_OPEN, .file = dir->root, .path = path, .flags = flags
	};
	int r = files_request_await(files, &req);

	if (r < 0)
		return r;
	*ret_file = req.ret_file;
	return 0;
}

/* What a failed close could lose was synced before, so its result does not matter. */
static void files_close_await(struct eloq_files *files, struct eloq_io_file *file)
{
	struct eloq_io_req req = { .op = ELOQ_IO_CLOSE, .file = file };

	(void)files_request_await(files, &req);
}

int eloq_files_fail_sync(struct eloq_files *files)
{
	files->sync_failed = true;
	return -ELOQ_EFAILED_SYNC;
}

bool eloq_files_sync_has_failed(const struct eloq_files *files)
{
	return files->sync_failed;
}

static int files_sync_io_await(struct eloq_files *files, struct eloq_io_file *file)
{
	struct eloq_io_req req = { .op = ELOQ_IO_SYNC, .file = file };

	if (files->sync_failed || files_request_await(files, &req) < 0)
		return eloq_files_fail_sync(files);
	return 0;
}

/* --- Opening and closing ---------------------------------------------------------------------- */

/* Syncs if dirty, closes, and makes the slot free, also after a failed sync. */
static int file_close_await(struct eloq_files *files, struct eloq_file *file)
{
	int r = 0;

	eloq_assert(file->pins == 0);
	file_go_to(file, FILE_CLOSING);
	eloq_list_remove(&file->lru_link);
	if (file->dirty)
		r = files_sync_io_await(files, file->io_file);
	files_close_await(files, file->io_file);
	files_remove(files, file);
	return r;
}

/* Closes the least recently used file; if there is none, waits for anything to change. */
static int files_make_room_await(struct eloq_files *files)
{
	if (eloq_list_empty(&files->lru)) {
		eloq_waitq_await(&files->changed);
		return 0;
	}
	return file_close_await(files,
				eloq_list_entry(files->lru.next, struct eloq_file, lru_link));
}

static void file_path(char *ret_path, const struct eloq_partition_dir *dir, uint64_t file_id,
		      uint64_t term)
{
	char name[ELOQ_FILE_NAME_BYTES];

	if (file_id == ELOQ_FILES_MANIFEST)
		eloq_file_name_manifest(name, term, false);
	else
		eloq_file_name_data(name, file_id, term);
	(void)snprintf(ret_path, PATH_BYTES, "%s/%s", dir->name, name);
}

/* The I/O that makes an OPENING file open. */
static int file_open_io_await(struct eloq_files *files, struct eloq_file *file, uint64_t term,
			      bool create)
{
	struct eloq_partition_dir *dir = file->dir;
	unsigned flags = ELOQ_IO_DIRECT;
	char path[PATH_BYTES];
	int r = 0;

	if (create) {
		r = eloq_files_make_dir_await(files, dir);
		if (r < 0)
			return r;
		flags |= ELOQ_IO_CREATE;
		if (dir->empty_new)
			flags |= ELOQ_IO_TRUNC;
	}
	file_path(path, dir, file->file_id, term);
	r = files_open_await(files, dir, path, flags, &file->io_file);
	if (r == -ENOENT && file->file_id != ELOQ_FILES_MANIFEST)
		return -ELOQ_ECORRUPT;
	if (r < 0)
		return r;
	if (create) {
		file->dirty = true;
		dir->dirty = true;
	}
	if (files->opts.append_mode) {
		struct eloq_io_req req = { .op = ELOQ_IO_SIZE, .file = file->io_file };
		int64_t size = eloq_task_io_await(files->io, &req);

		if (size < 0) {
			files_close_await(files, file->io_file);
			return (int)size;
		}
		file->allocated = (uint64_t)size;
	}
	return 0;
}

int eloq_files_acquire_await(struct eloq_files *files, struct eloq_partition_dir *dir,
			     uint64_t file_id, uint64_t term, bool create,
			     struct eloq_file **ret_file)
{
	struct eloq_file *file;
	int r;

	for (;;) {
		file = files_find(files, dir, file_id);
		if (file && file->state == FILE_OPEN) {
			file_pin(file);
			*ret_file = file;
			return 0;
		}
		if (!file && !eloq_list_empty(&files->free))
			break;
		if (file) {
			eloq_waitq_await(&files->changed);
			continue;
		}
		r = files_make_room_await(files);
		if (r < 0)
			return r;
	}
	file = files_insert(files, dir, file_id);
	r = file_open_io_await(files, file, term, create);
	if (r < 0) {
		files_remove(files, file);
		return r;
	}
	file_go_to(file, FILE_OPEN);
	file->pins = 1;
	eloq_waitq_wake_all(&files->changed);
	*ret_file = file;
	return 0;
}

/* A file that is closed to make room; the sync which comes before that is still to end. */
static bool file_is_syncing_to_close(const struct eloq_file *file)
{
	return file->state == FILE_CLOSING && file->dirty;
}

static bool file_is_in_motion(const struct eloq_file *file)
{
	return file->state != FILE_OPEN;
}

/* Until no file of @dir is so. */
static void files_settle_await(struct eloq_files *files, struct eloq_partition_dir *dir,
			       bool (*is_so)(const struct eloq_file *file))
{
	for (;;) {
		bool found = false;

		eloq_list_for_each (node, &dir->files)
			found |= is_so(eloq_list_entry(node, struct eloq_file, dir_link));
		if (!found)
			return;
		eloq_waitq_await(&files->changed);
	}
}

int eloq_files_close_file_await(struct eloq_files *files, struct eloq_partition_dir *dir,
				uint64_t file_id)
{
	struct eloq_file *file = files_find(files, dir, file_id);

	while (file && file->state != FILE_OPEN) {
		eloq_waitq_await(&files->changed);
		file = files_find(files, dir, file_id);
	}
	return file ? file_close_await(files, file) : 0;
}

int eloq_files_close_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	int result = 0;

	for (;;) {
		int r;

		files_settle_await(files, dir, file_is_in_motion);
		if (eloq_list_empty(&dir->files))
			return result;
		r = file_close_await(files,
				     eloq_list_entry(dir->files.next, struct eloq_file, dir_link));
		if (r < 0)
			result = r;
	}
}

/* --- Growing ---------------------------------------------------------------------------------- */

int eloq_files_reserve_await(struct eloq_files *files, struct eloq_file *file, uint64_t end)
{
	uint64_t file_bytes = (uint64_t)files->opts.page_bytes << files->opts.pages_per_file_shift;
	struct eloq_io_req req = { .op = ELOQ_IO_ALLOCATE, .file = file->io_file };
	uint64_t target;
	int r;

	eloq_assert(file->pins > 0 && end <= file_bytes);
	if (!files->opts.append_mode || end <= file->allocated)
		return 0;
	target = eloq_min_u64(eloq_round_up(end, ALLOCATE_STEP_BYTES), file_bytes);
	req.offset = file->allocated;
	req.length = target - file->allocated;
	file->dirty = true;
	r = files_request_await(files, &req);
	if (r < 0)
		return r;
	file->allocated = target;
	return 0;
}

/* --- Syncing ---------------------------------------------------------------------------------- */

int eloq_files_sync_file_await(struct eloq_files *files, struct eloq_file *file)
{
	int r = files_sync_io_await(files, file->io_file);

	if (r == 0)
		file->dirty = false;
	return r;
}

int eloq_files_sync_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	struct eloq_io_file *handle;
	int r;

	r = files_open_await(files, dir, dir->name, ELOQ_IO_DIRECTORY, &handle);
	if (r < 0)
		return r;
	r = files_sync_io_await(files, handle);
	if (r == 0)
		dir->dirty = false;
	files_close_await(files, handle);
	return r;
}

/* Pins every dirty file of @dir and starts its sync. */
static void files_sync_start(struct eloq_partition_dir *dir, struct eloq_io_group *group)
{
	eloq_list_for_each (node, &dir->files) {
		struct eloq_file *file = eloq_list_entry(node, struct eloq_file, dir_link);

		if (file->state != FILE_OPEN || !file->dirty)
			continue;
		file_pin(file);
		file->dirty = false;
		file->syncing = true;
		file->sync = (struct eloq_io_group_req){
			.req = { .op = ELOQ_IO_SYNC, .file = file->io_file },
		};
		eloq_io_group_submit(group, &file->sync);
	}
}

int eloq_files_sync_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	struct eloq_io_group_req dir_sync = { .req = { .op = ELOQ_IO_SYNC } };
	struct eloq_io_file *handle = NULL;
	struct eloq_io_group group;
	int r;

	if (dir->dirty) {
		r = files_open_await(files, dir, dir->name, ELOQ_IO_DIRECTORY, &handle);
		if (r < 0)
			return r;
	}
	files_settle_await(files, dir, file_is_syncing_to_close);
	eloq_io_group_init(&group, files->io);
	if (!files->sync_failed) {
		files_sync_start(dir, &group);
		if (handle) {
			dir_sync.req.file = handle;
			eloq_io_group_submit(&group, &dir_sync);
		}
	}
	r = eloq_io_group_await(&group, 0);
	if (r < 0 || files->sync_failed)
		r = eloq_files_fail_sync(files);
	else
		dir->dirty = false;
	if (handle)
		files_close_await(files, handle);
	eloq_list_for_each_safe (node, &dir->files) {
		struct eloq_file *file = eloq_list_entry(node, struct eloq_file, dir_link);

		if (!file->syncing)
			continue;
		file->syncing = false;
		eloq_files_release(files, file);
	}
	return r;
}

void eloq_files_forget_dirty(struct eloq_files *files ELOQ_UNUSED, struct eloq_partition_dir *dir)
{
	eloq_list_for_each (node, &dir->files)
		eloq_list_entry(node, struct eloq_file, dir_link)->dirty = false;
}

/* --- Directories ------------------------------------------------------------------------------ */

int eloq_files_make_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	int r;

	if (dir->rooted)
		return 0;
	/* One that was seen may have been left by a process that died before it synced the root. */
	r = files_name_await(files, dir, ELOQ_IO_MKDIR, dir->name);
	if (r < 0 && r != -EEXIST)
		return r;
	dir->exists = true;
	r = files_sync_io_await(files, dir->root);
	if (r < 0)
		return r;
	dir->rooted = true;
	return 0;
}

struct name_list {
	unsigned count;
	char names[REMOVE_NAMES][256];
};

static int collect_name(void *arg, const char *name, bool is_directory)
{
	struct name_list *list = arg;

	if (is_directory)
		return 0;
	(void)snprintf(list->names[list->count++], sizeof(list->names[0]), "%s", name);
	return list->count == REMOVE_NAMES;
}

/* Removes some of the directory's files, if there are any. Returns how many, or an error. */
static int files_remove_some_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	struct name_list list = { .count = 0 };
	int r;

	r = eloq_io_list(files->io, dir->root, dir->name, collect_name, &list);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < list.count; i++) {
		char path[256 + 256 + 1];

		(void)snprintf(path, sizeof(path), "%s/%s", dir->name, list.names[i]);
		r = files_name_await(files, dir, ELOQ_IO_UNLINK, path);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return (int)list.count;
}

/* Without its manifest the partition does not exist; that must be on disk before data goes. */
static int files_remove_manifest_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	char path[PATH_BYTES];
	int r;

	file_path(path, dir, ELOQ_FILES_MANIFEST, 0);
	r = files_name_await(files, dir, ELOQ_IO_UNLINK, path);
	if (r < 0)
		return r;
	return eloq_files_sync_dir_await(files, dir);
}

int eloq_files_remove_dir_await(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	int r;

	r = eloq_files_close_dir_await(files, dir);
	if (r < 0)
		return r;
	r = files_remove_manifest_await(files, dir);
	if (r < 0 && r != -ENOENT)
		return r;
	do {
		r = files_remove_some_await(files, dir);
	} while (r > 0);
	if (r == 0)
		r = files_name_await(files, dir, ELOQ_IO_RMDIR, dir->name);
	if (r < 0 && r != -ENOENT)
		return r;
	r = files_sync_io_await(files, dir->root);
	if (r < 0)
		return r;
	dir->exists = false;
	dir->rooted = false;
	dir->dirty = false;
	return 0;
}
