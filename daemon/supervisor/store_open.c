/*
 * store_open.c - from a locked data directory to a known store: STORE, store paths, adoption.
 *
 * Idea: STORE says what the files are, the configuration may repeat it. What was not configured
 * comes from STORE (or, for a new store, from the defaults); what was and differs is refused by
 * name, because files read with another page size or another order of disks are garbage. Tables
 * that lie in the store paths without STORE knowing them were written by the reference: adopted.
 *
 * Runs on:  the supervisor's thread, at start.
 * Fails by: -ELOQ_ECONFIG, -ELOQ_ECORRUPT, -ELOQ_EVERSION, -ELOQ_EBUSYOWNER, -errno, with words.
 */
#include "common/fd.h"
#include "common/log.h"
#include "daemon/supervisor/internal.h"
#include "shm/message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the format, whatever the page size: 1 GiB with pages of 4 KiB. */
enum { STORE_PAGES_PER_FILE_SHIFT_DEFAULT = 18 };

/* --- Permanent options -------------------------------------------------------------------------
 */

static int store_differs(struct eloq_errinfo *reterr, const char *key, uint64_t said, uint64_t is)
{
	return eloq_fail(reterr, -ELOQ_ECONFIG,
			 "%s is %llu, but this store was made with %llu, which cannot change", key,
			 (unsigned long long)said, (unsigned long long)is);
}

static int store_compare(const struct eloq_options *options, const struct eloq_store_file *store,
			 struct eloq_errinfo *reterr)
{
	uint64_t file_bytes = (uint64_t)store->page_bytes << store->pages_per_file_shift;

	if (eloq_options_said(options, "data_page_size") &&
	    options->data_page_size != store->page_bytes)
		return store_differs(reterr, "data_page_size", options->data_page_size,
				     store->page_bytes);
	if (eloq_options_said(options, "data_file_size") &&
	    eloq_options_file_shift(options->data_file_size, store->page_bytes) !=
		    store->pages_per_file_shift)
		return store_differs(reterr, "data_file_size", options->data_file_size, file_bytes);
	if (eloq_options_said(options, "overflow_pointers") &&
	    options->overflow_pointers != store->overflow_pointers)
		return store_differs(reterr, "overflow_pointers", options->overflow_pointers,
				     store->overflow_pointers);
	if (eloq_options_said(options, "data_append_mode") &&
	    options->data_append_mode != (store->append_mode != 0))
		return eloq_fail(reterr, -ELOQ_ECONFIG,
				 "data_append_mode is %s, but this store was made with %s, which "
				 "cannot change",
				 options->data_append_mode ? "true" : "false",
				 store->append_mode ? "true" : "false");
	return 0;
}

static bool store_same_directory(const struct eloq_data_dir *dir, const char *a, const char *b)
{
	struct stat one, other;

	return fstatat(dir->fd, a, &one, 0) == 0 && fstatat(dir->fd, b, &other, 0) == 0 &&
	       one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

static int store_compare_paths(const struct supervisor *super, struct eloq_errinfo *reterr)
{
	const struct eloq_options *options = super->options;
	const struct eloq_store_file *store = &super->store;

	if (options->store_path.count == 0)
		return 0;
	if (options->store_path.count != store->path_count)
		return store_differs(reterr, "the number of directories in store_path",
				     options->store_path.count, store->path_count);
	for (uint32_t i = 0; i < store->path_count; i++)
		if (!store_same_directory(&super->dir, options->store_path.paths[i],
					  store->paths[i]))
			return eloq_fail(reterr, -ELOQ_ECONFIG,
					 "store_path number %u is %s, but this store was made with "
					 "%s there; number and order of its directories cannot "
					 "change",
					 i, options->store_path.paths[i], store->paths[i]);
	return 0;
}

/* --- A new store -------------------------------------------------------------------------------
 */

static int store_make_uuid(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return -errno;
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* version 4, random */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

static int store_make(struct supervisor *super, struct eloq_errinfo *reterr)
{
	const struct eloq_options *options = super->options;
	struct eloq_store_file *store = &super->store;
	int r;

	store->page_bytes = (uint32_t)options->data_page_size;
	store->pages_per_file_shift =
		eloq_options_said(options, "data_file_size")
			? eloq_options_file_shift(options->data_file_size, store->page_bytes)
			: STORE_PAGES_PER_FILE_SHIFT_DEFAULT;
	if ((uint64_t)store->page_bytes << store->pages_per_file_shift > UINT64_C(1) << 32)
		return eloq_fail(reterr, -ELOQ_ECONFIG,
				 "data_page_size %u makes data files of more than 4 GiB unless "
				 "data_file_size says less",
				 store->page_bytes);
	store->overflow_pointers = (uint32_t)options->overflow_pointers;
	store->append_mode = options->data_append_mode;
	store->next_table = 1;
	store->session_end = 1; /* there is no session 0 */
	r = store_make_uuid(store->uuid);
	for (size_t i = 0; r == 0 && i < options->store_path.count; i++)
		r = eloq_store_file_add_path(store, options->store_path.paths[i]);
	if (r == 0 && options->store_path.count == 0)
		r = eloq_store_file_add_path(store, "data");
	return r < 0 ? eloq_fail_errno(reterr, r, "cannot describe the new store") : 0;
}

/* What lies inside of the data directory is named relative to it, so that it may be moved. */
static int store_settle_paths(struct supervisor *super, struct eloq_errinfo *reterr)
{
	size_t dir_bytes = strlen(super->dir.path);

	for (uint32_t i = 0; i < super->store.path_count; i++) {
		char *path = realpath(super->dir.root_paths[i], NULL);

		if (path && strncmp(path, super->dir.path, dir_bytes) == 0 &&
		    path[dir_bytes] == '/')
			memmove(path, path + dir_bytes + 1, strlen(path + dir_bytes + 1) + 1);
		if (!path || strlen(path) > ELOQ_STORE_FILE_PATH_BYTES_MAX) {
			free(path);
			return eloq_fail(reterr, -ELOQ_ECONFIG, "store path %s cannot be recorded",
					 super->store.paths[i]);
		}
		free(super->store.paths[i]);
		super->store.paths[i] = path;
	}
	return 0;
}

/* --- Adoption ----------------------------------------------------------------------------------
 */

struct store_adoption {
	struct supervisor *super;
	unsigned count;
};

static int store_adopt(void *arg, const char *table, uint32_t partition ELOQ_UNUSED)
{
	struct store_adoption *adoption = arg;
	struct eloq_store_file *store = &adoption->super->store;
	int r;

	if (eloq_store_file_find_name(store, table))
		return 0;
	r = eloq_store_file_add_table(store, table, 0, ELOQ_TIMESTAMPS_CALLER,
				      ELOQ_STORE_FILE_ADOPTED);
	if (r == 0)
		adoption->count++;
	return r;
}

static int store_adopt_all(struct supervisor *super, struct eloq_errinfo *reterr)
{
	struct store_adoption adoption = { .super = super };
	struct eloq_errinfo error = { 0 };
	int r = eloq_data_dir_list(&super->dir, store_adopt, &adoption, &error);

	if (r < 0)
		return error.text[0] ? eloq_fail(reterr, r, "%s", error.text)
				     : eloq_fail_errno(reterr, r, "cannot adopt what lies in %s",
						       super->dir.root_paths[0]);
	if (adoption.count)
		eloq_log_info("tables adopted count=%u", adoption.count);
	return 0;
}

/* --- Open --------------------------------------------------------------------------------------
 */

/* A record takes a quarter of its ring at most, and every key that the pages hold must fit one. */
static uint64_t store_request_ring_bytes(const struct supervisor *super)
{
	uint64_t record = eloq_round_up(ELOQ_REQUEST_FIXED_BYTES_MAX + super->store.page_bytes / 2,
					ELOQ_RECORD_ALIGN);
	uint64_t bytes = super->options->request_ring_size;

	while (bytes / 4 < record)
		bytes *= 2;
	return bytes;
}

/* From here on the options say what is in effect. */
static void store_tell_options(struct supervisor *super)
{
	struct eloq_options *options = super->options;
	const struct eloq_store_file *store = &super->store;

	options->data_page_size = store->page_bytes;
	options->data_file_size = (uint64_t)store->page_bytes << store->pages_per_file_shift;
	options->overflow_pointers = store->overflow_pointers;
	options->data_append_mode = store->append_mode != 0;
	options->request_ring_size = store_request_ring_bytes(super);
}

static_assert(ELOQ_RING_BYTES_MAX / 4 >= ELOQ_REQUEST_FIXED_BYTES_MAX + ELOQ_KEY_BYTES_MAX,
	      "a ring can be large enough for every key");

static int store_share_roots(struct supervisor *super, struct eloq_errinfo *reterr)
{
	for (unsigned i = 0; i < super->dir.root_count; i++) {
		int fd = fcntl(super->dir.root_fds[i], F_DUPFD_CLOEXEC, 0);

		/* A duplicate shares the description, and so the flock. */
		super->roots[i] = fd < 0 ? NULL : eloq_shared_fd_new(fd);
		if (!super->roots[i])
			return eloq_fail_errno(reterr, fd < 0 ? -errno : -ENOMEM, "store path %s",
					       super->dir.root_paths[i]);
	}
	return 0;
}

static int store_open_known(struct supervisor *super, bool fresh, int stop_fd,
			    struct eloq_errinfo *reterr)
{
	struct eloq_store_file *store = &super->store;
	uint32_t shards = (uint32_t)super->options->num_threads;
	int r;

	if (!fresh) {
		r = store_compare(super->options, store, reterr);
		if (r == 0)
			r = store_compare_paths(super, reterr);
		if (r < 0)
			return r;
	}
	/* A directory that STORE names and that is gone is a disk that was not mounted. */
	r = eloq_data_dir_open_roots(&super->dir, store->paths, store->path_count, fresh, stop_fd,
				     reterr);
	if (r == 0 && fresh)
		r = store_settle_paths(super, reterr);
	if (r == 0)
		r = store_adopt_all(super, reterr);
	if (r == 0)
		r = store_share_roots(super, reterr);
	if (r < 0)
		return r;
	if (!fresh && store->shard_count != shards)
		eloq_log_info("the number of shards changes from=%u to=%u", store->shard_count,
			      shards);
	store->shard_count = shards;
	store_tell_options(super);
	super->session_next = store->session_end;
	return supervisor_save(super, reterr);
}

int super_store_open(struct supervisor *super, int stop_fd, struct eloq_errinfo *reterr)
{
	bool fresh;
	int r;

	r = eloq_store_file_load(super->dir.fd, &super->store, reterr);
	fresh = r == -ENOENT;
	if (fresh)
		r = store_make(super, reterr);
	if (r == 0)
		r = store_open_known(super, fresh, stop_fd, reterr);
	if (r < 0)
		super_store_close(super);
	return r;
}

void super_store_close(struct supervisor *super)
{
	for (unsigned i = 0; i < ELOQ_STORE_FILE_PATHS_MAX; i++) {
		eloq_shared_fd_unref(super->roots[i]);
		super->roots[i] = NULL;
	}
	eloq_store_file_free(&super->store);
}
