/*
 * manifest.c - the manifest of one partition: loading, commits, snapshots (manifest.h).
 *
 * Idea: one logical size says where the next record goes. What is in the file behind it does not
 * count and is cut off, synced, before anything is appended; so after a crash at any moment the
 * file holds the records up to some commit and at most the remains of one more.
 *
 * Always:   a record is written only when the data it names is synced. The file's logical size
 *           moves only after the record is synced.
 *           Every record names the data files in use and the manifest itself. In append mode files
 *           without a live page are left out; in place none is ever out of use.
 * Fails by: an append that failed is taken back, synced, before anybody may use the file pages of
 *           the commit again: a record on disk that was reported as failed would refer to them. If
 *           that cannot be done, and whenever a sync fails: -ELOQ_EFAILED_SYNC.
 */
#include "daemon/store/manifest.h"

#include "common/compiler.h"
#include "daemon/format/file_name.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/manifest_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	NAME_BYTES = 256 + ELOQ_FILE_NAME_BYTES + 1,
	WRITE_BYTES_MAX = 4 << 20, /* of a large snapshot at a time */
	ITEMS_BETWEEN_YIELDS = 16384,
};

struct eloq_manifest {
	struct eloq_files *files;
	struct eloq_io *io;
	struct eloq_partition_dir *dir;
	struct eloq_manifest_opts opts;
	struct eloq_mapper *mapper;
	struct eloq_manifest_state state; /* roots and the counts of pages are the mapper's now */
	bool tail_is_clean;		  /* the file ends at its logical size */
	struct eloq_manifest_stats stats;
};

/* A whole record with its padding, aligned for O_DIRECT. */
struct record {
	uint8_t *bytes;
	uint64_t count;
};

static void manifest_name(char *ret_name, const struct eloq_partition_dir *dir, bool temporary)
{
	char name[ELOQ_FILE_NAME_BYTES];

	eloq_file_name_manifest(name, 0, temporary);
	(void)snprintf(ret_name, NAME_BYTES, "%s/%s", dir->name, name);
}

static int manifest_fail(const struct eloq_manifest *manifest, int r, const char *what,
			 struct eloq_errinfo *reterr)
{
	char name[NAME_BYTES];

	manifest_name(name, manifest->dir, false);
	return eloq_fail_errno(reterr, r, "%s: %s", name, what);
}

/* --- Loading ---------------------------------------------------------------------------------- */

/* Counts the live pages of each file; every one must be named. */
static int manifest_count_pages_await(struct eloq_manifest *manifest,
				      const struct eloq_mapping *mapping,
				      struct eloq_errinfo *reterr)
{
	struct eloq_term *term = NULL;

	for (uint32_t page_id = 0; page_id < eloq_mapping_page_ids(mapping); page_id++) {
		uint64_t file_page = eloq_mapping_get(mapping, page_id);
		uint64_t file_id = file_page >> manifest->opts.pages_per_file_shift;

		if (page_id % ITEMS_BETWEEN_YIELDS == ITEMS_BETWEEN_YIELDS - 1)
			eloq_task_yield_await();
		if (file_page == ELOQ_FILE_PAGE_NONE)
			continue;
		if (!term || term->file_id != file_id)
			term = eloq_term_map_find(&manifest->state.terms, file_id);
		if (!term)
			return eloq_fail(reterr, -ELOQ_ECORRUPT,
					 "%s/manifest_0: page %" PRIu32
					 " lies in data file %" PRIu64 ", which no record names",
					 manifest->dir->name, page_id, file_id);
		term->live_pages++;
	}
	return 0;
}

static int manifest_check_root(const struct eloq_manifest *manifest,
			       const struct eloq_mapping *mapping, uint32_t root,
			       struct eloq_errinfo *reterr)
{
	if (root == ELOQ_PAGE_NONE || eloq_mapping_get(mapping, root) != ELOQ_FILE_PAGE_NONE)
		return 0;
	return eloq_fail(reterr, -ELOQ_ECORRUPT,
			 "%s/manifest_0: the root, page %" PRIu32 ", is not a live page",
			 manifest->dir->name, root);
}

static int manifest_check_await(struct eloq_manifest *manifest, struct eloq_errinfo *reterr)
{
	struct eloq_mapping *mapping = eloq_mapper_acquire(manifest->mapper);
	int r;

	r = manifest_check_root(manifest, mapping, manifest->state.roots.main, reterr);
	if (r == 0)
		r = manifest_check_root(manifest, mapping, manifest->state.roots.ttl, reterr);
	if (r == 0)
		r = manifest_count_pages_await(manifest, mapping, reterr);
	eloq_mapping_release(mapping);
	return r;
}

static int manifest_end_load(struct eloq_manifest *manifest, struct eloq_errinfo *reterr)
{
	const struct eloq_manifest_state *state = &manifest->state;
	int r;

	r = eloq_mapper_load_end(manifest->mapper, state->roots, state->file_pages_end,
				 state->page_ids);
	if (r == -ELOQ_ECORRUPT)
		return manifest_fail(manifest, r, "two pages have one place in the data files",
				     reterr);
	if (r == -EOVERFLOW)
		return manifest_fail(manifest, r, "file page ids are out of range", reterr);
	return r < 0 ? manifest_fail(manifest, r, "building the mapping", reterr) : 0;
}

/* What was read may be the page cache's only, if who wrote it died before it could sync. */
static int manifest_sync_found_await(struct eloq_manifest *manifest, struct eloq_file *file,
				     struct eloq_errinfo *reterr)
{
	int r;

	r = eloq_files_sync_file_await(manifest->files, file);
	if (r == 0)
		r = eloq_files_sync_dir_await(manifest->files, manifest->dir);
	return r < 0 ? manifest_fail(manifest, r, "syncing what was found", reterr) : 0;
}

/* So may the absence of a manifest, if who removed it died: what no reader finds must not return.
 */
static int manifest_sync_absence_await(struct eloq_manifest *manifest, struct eloq_errinfo *reterr)
{
	int r;

	if (!manifest->dir->exists)
		return 0;
	r = eloq_files_sync_dir_await(manifest->files, manifest->dir);
	return r < 0 && r != -ENOENT ? manifest_fail(manifest, r, "syncing its directory", reterr)
				     : 0;
}

static int manifest_read_await(struct eloq_manifest *manifest, struct eloq_file *file,
			       struct eloq_errinfo *reterr)
{
	char name[NAME_BYTES];
	int r;

	manifest_name(name, manifest->dir, false);
	r = eloq_manifest_replay_await(&manifest->state, manifest->mapper, manifest->io,
				       eloq_file_io(file), name, reterr);
	if (r == 0)
		r = manifest_end_load(manifest, reterr);
	if (r == 0)
		r = manifest_check_await(manifest, reterr);
	if (r == 0)
		r = manifest_sync_found_await(manifest, file, reterr);
	if (r < 0)
		return r;
	manifest->tail_is_clean = manifest->state.bytes == manifest->state.file_bytes;
	manifest->dir->exists = true;
	manifest->dir->rooted = true; /* the root is synced before a first manifest is written */
	return 0;
}

int eloq_manifest_load_await(struct eloq_manifest **ret_manifest, struct eloq_files *files,
			     struct eloq_io *io, struct eloq_partition_dir *dir,
			     const struct eloq_manifest_opts *opts, struct eloq_mapper *mapper,
			     bool *ret_found, struct eloq_errinfo *reterr)
{
	struct eloq_manifest *manifest = calloc(1, sizeof(*manifest));
	struct eloq_file *file;
	int r;

	if (!manifest)
		return eloq_fail_errno(reterr, -ENOMEM, "%s: loading", dir->name);
	manifest->files = files;
	manifest->io = io;
	manifest->dir = dir;
	manifest->opts = *opts;
	manifest->mapper = mapper;
	r = eloq_files_acquire_await(files, dir, ELOQ_FILES_MANIFEST, 0, false, &file);
	if (r == -ENOENT) {
		r = manifest_sync_absence_await(manifest, reterr);
		if (r < 0) {
			eloq_manifest_close_await(manifest);
			return r;
		}
		dir->empty_new = true;
		*ret_found = false;
		*ret_manifest = manifest;
		return 0;
	}
	if (r == 0) {
		r = manifest_read_await(manifest, file, reterr);
		eloq_files_release(files, file);
	} else {
		r = manifest_fail(manifest, r, "opening it", reterr);
	}
	if (r < 0) {
		eloq_manifest_close_await(manifest);
		return r;
	}
	dir->empty_new = false;
	*ret_found = true;
	*ret_manifest = manifest;
	return 0;
}

void eloq_manifest_close_await(struct eloq_manifest *manifest)
{
	if (!manifest)
		return;
	(void)eloq_files_close_file_await(manifest->files, manifest->dir, ELOQ_FILES_MANIFEST);
	eloq_manifest_state_clear(&manifest->state);
	free(manifest);
}

/* --- Looking ---------------------------------------------------------------------------------- */

uint64_t eloq_manifest_term(const struct eloq_manifest *manifest, uint64_t file_id, bool *ret_known)
{
	const struct eloq_term *term = eloq_term_map_find(&manifest->state.terms, file_id);

	*ret_known = term != NULL;
	return term ? term->term : 0;
}

int eloq_manifest_add_file(struct eloq_manifest *manifest, uint64_t file_id)
{
	return eloq_term_map_set(&manifest->state.terms, file_id, 0);
}

uint64_t eloq_manifest_bytes(const struct eloq_manifest *manifest)
{
	return manifest->state.bytes;
}

uint32_t eloq_manifest_pages_per_file_shift(const struct eloq_manifest *manifest)
{
	return manifest->opts.pages_per_file_shift;
}

struct eloq_manifest_stats eloq_manifest_get_stats(const struct eloq_manifest *manifest)
{
	return manifest->stats;
}

/* --- Records ---------------------------------------------------------------------------------- */

static void encode_terms(const struct eloq_manifest *manifest, struct eloq_manifest_writer *writer)
{
	const struct eloq_term_map *map = &manifest->state.terms;
	bool append_mode = eloq_mapper_append_mode(manifest->mapper);

	eloq_manifest_writer_terms(writer);
	for (size_t i = 0; i < map->count; i++) {
		if (!append_mode || map->terms[i].live_pages > 0)
			eloq_manifest_writer_term(writer, map->terms[i].file_id,
						  map->terms[i].term);
	}
}

static uint64_t mapping_value(uint64_t file_page)
{
	return file_page == ELOQ_FILE_PAGE_NONE ? ELOQ_MAPPING_FREE : eloq_mapping_live(file_page);
}

static int encode_update(void *arg, uint32_t page_id, uint64_t file_page)
{
	eloq_manifest_writer_update(arg, page_id, mapping_value(file_page));
	return 0;
}

static int encode_log_await(const struct eloq_manifest *manifest, const struct eloq_change *change,
			    struct record *record)
{
	struct eloq_roots roots = eloq_change_roots(change);
	struct eloq_manifest_writer writer;

	eloq_manifest_writer_log(&writer, record->bytes, record->count);
	eloq_change_each_update(change, encode_update, &writer);
	encode_terms(manifest, &writer);
	return eloq_manifest_writer_finish(&writer, roots.main, roots.ttl, &record->count);
}

static int encode_snapshot_await(const struct eloq_manifest *manifest,
				 const struct eloq_change *change, struct record *record)
{
	struct eloq_roots roots = eloq_change_roots(change);
	uint32_t page_ids = eloq_change_page_ids(change);
	struct eloq_manifest_writer writer;

	eloq_manifest_writer_snapshot(&writer, record->bytes, record->count,
				      eloq_change_file_pages_end(change),
				      manifest->state.dictionary, manifest->state.dictionary_bytes);
	for (uint32_t page_id = 0; page_id < page_ids; page_id++) {
		eloq_manifest_writer_mapping(&writer,
					     mapping_value(eloq_change_get(change, page_id)));
		if (page_id % ITEMS_BETWEEN_YIELDS == ITEMS_BETWEEN_YIELDS - 1)
			eloq_task_yield_await();
	}
	encode_terms(manifest, &writer);
	return eloq_manifest_writer_finish(&writer, roots.main, roots.ttl, &record->count);
}

/* Encodes twice: once to learn the size. The bytes are the caller's to free. */
static int record_make_await(const struct eloq_manifest *manifest, const struct eloq_change *change,
			     int (*encode_await)(const struct eloq_manifest *manifest,
						 const struct eloq_change *change,
						 struct record *record),
			     struct record *ret_record)
{
	struct record record = { .bytes = NULL };
	int r;

	r = encode_await(manifest, change, &record);
	eloq_assert(r < 0); /* no record is empty */
	if (r != -ENOBUFS)
		return r;
	record.bytes = aligned_alloc(ELOQ_IO_ALIGN, record.count);
	if (!record.bytes)
		return -ENOMEM;
	r = encode_await(manifest, change, &record);
	if (r < 0) {
		free(record.bytes);
		return r;
	}
	*ret_record = record;
	return 0;
}

static int manifest_write_await(struct eloq_manifest *manifest, struct eloq_io_file *file,
				uint64_t offset, const struct record *record)
{
	for (uint64_t done = 0; done < record->count;) {
		struct eloq_io_req req = {
			.op = ELOQ_IO_WRITE,
			.file = file,
			.buf = record->bytes + done,
			.bytes = (uint32_t)eloq_min_u64(record->count - done, WRITE_BYTES_MAX),
			.offset = offset + done,
		};
		int64_t r = eloq_task_io_await(manifest->io, &req);

		if (r < 0)
			return (int)r;
		done += req.bytes;
	}
	return 0;
}

/* --- Appending -------------------------------------------------------------------------------- */

/* Makes the file end at its logical size, on disk too: cuts off a tail, or completes padding. */
static int manifest_cut_await(struct eloq_manifest *manifest, struct eloq_file *file)
{
	struct eloq_io_req cut = { .op = ELOQ_IO_TRUNCATE,
				   .file = eloq_file_io(file),
				   .offset = manifest->state.bytes };
	int64_t r;

	r = eloq_task_io_await(manifest->io, &cut);
	if (r < 0)
		return (int)r;
	r = eloq_files_sync_file_await(manifest->files, file);
	if (r < 0)
		return (int)r;
	manifest->tail_is_clean = true;
	return 0;
}

static int manifest_append_await(struct eloq_manifest *manifest, const struct record *record)
{
	struct eloq_files *files = manifest->files;
	struct eloq_file *file;
	int r;

	r = eloq_files_acquire_await(files, manifest->dir, ELOQ_FILES_MANIFEST, 0, false, &file);
	if (r < 0)
		return r;
	if (!manifest->tail_is_clean)
		r = manifest_cut_await(manifest, file);
	if (r < 0)
		goto out;
	r = manifest_write_await(manifest, eloq_file_io(file), manifest->state.bytes, record);
	if (r < 0) {
		manifest->tail_is_clean = false;
		if (manifest_cut_await(manifest, file) < 0)
			r = eloq_files_fail_sync(files);
		goto out;
	}
	r = eloq_files_sync_file_await(files, file);
	if (r < 0)
		goto out;
	manifest->state.bytes += record->count;
	manifest->stats.records++;
out:
	eloq_files_release(files, file);
	return r;
}

/* --- Snapshots -------------------------------------------------------------------------------- */

static int manifest_write_new_await(struct eloq_manifest *manifest, const char *name,
				    const struct record *record)
{
	struct eloq_io_req open = { .op = ELOQ_IO_OPEN,
				    .file = manifest->dir->root,
				    .path = name,
				    .flags = ELOQ_IO_CREATE | ELOQ_IO_TRUNC | ELOQ_IO_DIRECT };
	struct eloq_io_req sync = { .op = ELOQ_IO_SYNC }, close = { .op = ELOQ_IO_CLOSE };
	int r;

	r = (int)eloq_task_io_await(manifest->io, &open);
	if (r < 0)
		return r;
	sync.file = close.file = open.ret_file;
	r = manifest_write_await(manifest, open.ret_file, 0, record);
	if (r == 0 && eloq_task_io_await(manifest->io, &sync) < 0)
		r = eloq_files_fail_sync(manifest->files);
	(void)eloq_task_io_await(manifest->io, &close);
	return r;
}

static void manifest_remove_await(struct eloq_manifest *manifest, const char *name)
{
	struct eloq_io_req req = { .op = ELOQ_IO_UNLINK,
				   .file = manifest->dir->root,
				   .path = name };

	(void)eloq_task_io_await(manifest->io, &req); /* the next snapshot overwrites it */
}

/* From the rename on nobody knows which manifest a crash would leave, until the sync. */
static int manifest_rename_await(struct eloq_manifest *manifest, const char *from, const char *to)
{
	struct eloq_io_req req = {
		.op = ELOQ_IO_RENAME, .file = manifest->dir->root, .path = from, .new_path = to
	};
	int r;

	r = (int)eloq_task_io_await(manifest->io, &req);
	if (r == -EIO || (r == 0 && eloq_files_sync_dir_await(manifest->files, manifest->dir) < 0))
		return eloq_files_fail_sync(manifest->files);
	return r;
}

static int manifest_replace_await(struct eloq_manifest *manifest, const struct record *record)
{
	char temporary[NAME_BYTES], name[NAME_BYTES];
	int r;

	manifest_name(temporary, manifest->dir, true);
	manifest_name(name, manifest->dir, false);
	r = eloq_files_make_dir_await(manifest->files, manifest->dir);
	if (r < 0)
		return r;
	r = manifest_write_new_await(manifest, temporary, record);
	if (r == 0)
		r = eloq_files_close_file_await(manifest->files, manifest->dir,
						ELOQ_FILES_MANIFEST);
	if (r == 0)
		r = manifest_rename_await(manifest, temporary, name);
	if (r < 0) {
		if (r != -ELOQ_EFAILED_SYNC)
			manifest_remove_await(manifest, temporary);
		return r;
	}
	manifest->state.bytes = record->count;
	manifest->state.snapshot_bytes = record->count;
	manifest->tail_is_clean = true;
	manifest->stats.snapshots++;
	return 0;
}

/* --- Commits ---------------------------------------------------------------------------------- */

struct count_walk {
	struct eloq_manifest *manifest;
	struct eloq_mapping *base;
	bool back;
};

static void count_page(struct eloq_manifest *manifest, uint64_t file_page, bool up)
{
	uint64_t file_id = file_page >> manifest->opts.pages_per_file_shift;
	struct eloq_term *term = eloq_term_map_find(&manifest->state.terms, file_id);

	eloq_assert(term); /* the page writer adds a file before it writes to it */
	eloq_assert(up || term->live_pages > 0);
	term->live_pages += up ? 1 : UINT64_MAX;
}

static int count_update(void *arg, uint32_t page_id, uint64_t file_page)
{
	const struct count_walk *walk = arg;
	uint64_t before = eloq_mapping_get(walk->base, page_id);

	if (file_page != ELOQ_FILE_PAGE_NONE)
		count_page(walk->manifest, file_page, !walk->back);
	if (before != ELOQ_FILE_PAGE_NONE)
		count_page(walk->manifest, before, walk->back);
	return 0;
}

/* Live pages of files as they are with the change, or @back as they were before it. */
static void manifest_count_change(struct eloq_manifest *manifest, const struct eloq_change *change,
				  bool back)
{
	struct count_walk walk = { .manifest = manifest,
				   .base = eloq_mapper_acquire(manifest->mapper),
				   .back = back };

	eloq_change_each_update(change, count_update, &walk);
	eloq_mapping_release(walk.base);
}

static int manifest_snapshot_await(struct eloq_manifest *manifest, const struct eloq_change *change)
{
	struct record record = { .bytes = NULL };
	int r;

	r = record_make_await(manifest, change, encode_snapshot_await, &record);
	if (r < 0)
		return r;
	r = manifest_replace_await(manifest, &record);
	free(record.bytes);
	return r;
}

/* Appends a log record if the file has room for it; else a snapshot replaces the file. */
static int manifest_log_await(struct eloq_manifest *manifest, const struct eloq_change *change)
{
	uint64_t bytes_max =
		eloq_max_u64(manifest->opts.bytes_max, 2 * manifest->state.snapshot_bytes);
	struct record record = { .bytes = NULL };
	int r;

	r = record_make_await(manifest, change, encode_log_await, &record);
	if (r == -ELOQ_ETOOLONG)
		return manifest_snapshot_await(manifest, change);
	if (r < 0)
		return r;
	if (manifest->state.bytes + record.count > bytes_max) {
		free(record.bytes);
		return manifest_snapshot_await(manifest, change);
	}
	r = manifest_append_await(manifest, &record);
	free(record.bytes);
	return r;
}

static bool roots_are_equal(struct eloq_roots a, struct eloq_roots b)
{
	return a.main == b.main && a.ttl == b.ttl;
}

int eloq_manifest_commit_await(struct eloq_manifest *manifest, const struct eloq_change *change,
			       struct eloq_errinfo *reterr)
{
	const struct eloq_roots none = { .main = ELOQ_PAGE_NONE, .ttl = ELOQ_PAGE_NONE };
	struct eloq_mapping *base = eloq_mapper_acquire(manifest->mapper);
	bool same_roots = roots_are_equal(eloq_mapping_roots(base), eloq_change_roots(change));
	size_t updates = eloq_change_updates(change);
	int r;

	eloq_mapping_release(base);
	if (updates == 0 && same_roots)
		return 0;
	if (eloq_files_sync_has_failed(manifest->files))
		return manifest_fail(manifest, -ELOQ_EFAILED_SYNC, "writing a commit", reterr);
	manifest_count_change(manifest, change, false);
	/* The format has no log records without updates. */
	if (manifest->state.bytes == 0 || updates == 0 ||
	    roots_are_equal(eloq_change_roots(change), none))
		r = manifest_snapshot_await(manifest, change);
	else
		r = manifest_log_await(manifest, change);
	if (r == 0)
		return 0;
	manifest_count_change(manifest, change, true);
	return manifest_fail(manifest, r, "writing a commit", reterr);
}
