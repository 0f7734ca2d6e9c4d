/*
 * data_dir.c - the directories a daemon owns, and how it makes sure that nobody else does.
 *
 * Idea: flock belongs to an open file description, so it goes with the descriptors that workers
 * inherit and ends when the last of them is closed: after a kill -9 of the supervisor the store
 * paths stay locked for as long as one of its workers can still write.
 *
 * Runs on:  the supervisor's thread, at start.            Fails by: see data_dir.h.
 */
#include "daemon/supervisor/data_dir.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	DIR_WAIT_STEP_MS = 20,
	/* Workers are gone when their shard locks are free; only one that had just been started
	 * can hold a store path a little longer. */
	DIR_ROOT_PATIENCE_MS = 3000,
};

/* --- The data directory ------------------------------------------------------------------------
 */

static int dir_write_pid(int lock_fd)
{
	char text[32];
	int bytes = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(lock_fd, 0) < 0 || pwrite(lock_fd, text, (size_t)bytes, 0) != bytes)
		return -errno;
	return 0;
}

static int dir_held_by(const struct eloq_data_dir *dir, int lock_fd, struct eloq_errinfo *reterr)
{
	char text[32];
	ssize_t bytes = pread(lock_fd, text, sizeof(text) - 1, 0);

	text[bytes > 0 ? bytes : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return eloq_fail(reterr, -ELOQ_EBUSYOWNER,
			 "data directory %s is in use by another eloqstored, pid %s", dir->path,
			 text[0] ? text : "not yet written");
}

static int dir_take_lock(struct eloq_data_dir *dir, struct eloq_errinfo *reterr)
{
	int fd, r;

	fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open %s/lock", dir->path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK
			    ? dir_held_by(dir, fd, reterr)
			    : eloq_fail_errno(reterr, -errno, "cannot lock %s/lock", dir->path);
		goto out;
	}
	r = dir_write_pid(fd);
	if (r < 0) {
		(void)eloq_fail_errno(reterr, r, "cannot write %s/lock", dir->path);
		goto out;
	}
	dir->lock_fd = eloq_fd_take(&fd);
out:
	eloq_fd_close(fd);
	return r;
}

static int dir_open(const char *path, struct eloq_errinfo *reterr)
{
	int fd;

	if (mkdir(path, S_IRWXU) < 0 && errno != EEXIST)
		return eloq_fail_errno(reterr, -errno, "cannot create data directory %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open data directory %s", path);
	return fd;
}

int eloq_data_dir_open(struct eloq_data_dir *dir, const char *path, struct eloq_errinfo *reterr)
{
	struct stat st;
	int r;

	memset(dir, 0, sizeof(*dir));
	dir->lock_fd = -1;
	dir->fd = dir_open(path, reterr);
	if (dir->fd < 0)
		return dir->fd;
	dir->path = realpath(path, NULL);
	if (!dir->path || fstat(dir->fd, &st) < 0) {
		r = eloq_fail_errno(reterr, -errno, "cannot look at data directory %s", path);
		goto fail;
	}
	dir->owner = st.st_uid;
	r = dir_take_lock(dir, reterr);
	if (r < 0)
		goto fail;
	return 0;
fail:
	eloq_data_dir_close(dir);
	return r;
}

static void dir_close_roots(struct eloq_data_dir *dir)
{
	for (unsigned i = 0; i < dir->root_count; i++) {
		eloq_fd_clear(&dir->root_fds[i]);
		free(dir->root_paths[i]);
	}
	dir->root_count = 0;
}

void eloq_data_dir_close(struct eloq_data_dir *dir)
{
	if (!dir->path && dir->fd <= 0)
		return;
	dir_close_roots(dir);
	eloq_fd_clear(&dir->lock_fd);
	eloq_fd_clear(&dir->fd);
	free(dir->path);
	dir->path = NULL;
}

/* --- Waiting for others ------------------------------------------------------------------------
 */

static int dir_pause(int stop_fd, struct eloq_errinfo *reterr)
{
	struct pollfd stop = { .fd = stop_fd, .events = POLLIN };

	if (poll(&stop, 1, DIR_WAIT_STEP_MS) > 0)
		return eloq_fail(reterr, -ECANCELED, "stopped by a signal while waiting");
	return 0;
}

/* Takes the lock for a moment: nobody who could want it is started before we are done. */
static int dir_wait_for_worker(struct eloq_data_dir *dir, int wal_fd, const char *shard,
			       int stop_fd, struct eloq_errinfo *reterr)
{
	char name[300];
	bool said = false;
	int fd, r = 0;

	(void)snprintf(name, sizeof(name), "%s/lock", shard);
	fd = openat(wal_fd, name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0
				       : eloq_fail_errno(reterr, -errno, "cannot open %s/wal/%s",
							 dir->path, name);
	while (r == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK) {
			r = eloq_fail_errno(reterr, -errno, "cannot lock %s/wal/%s", dir->path,
					    name);
			break;
		}
		if (!said)
			eloq_log_info("waiting for a worker of the daemon before us lock=%s/wal/%s",
				      dir->path, name);
		said = true;
		r = dir_pause(stop_fd, reterr);
	}
	eloq_fd_close(fd);
	return r;
}

int eloq_data_dir_wait_for_workers(struct eloq_data_dir *dir, int stop_fd,
				   struct eloq_errinfo *reterr)
{
	struct dirent *entry;
	DIR *wal;
	int fd, r = 0;

	fd = openat(dir->fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : eloq_fail_errno(reterr, -errno, "cannot open %s/wal", dir->path);
	wal = fdopendir(fd);
	if (!wal) {
		eloq_fd_close(fd);
		return eloq_fail_errno(reterr, -ENOMEM, "cannot list %s/wal", dir->path);
	}
	while (r == 0 && (entry = readdir(wal)))
		if (strncmp(entry->d_name, "shard-", strlen("shard-")) == 0)
			r = dir_wait_for_worker(dir, fd, entry->d_name, stop_fd, reterr);
	(void)closedir(wal);
	return r;
}

/* --- Store paths -------------------------------------------------------------------------------
 */

static bool dir_entry_is_directory(int fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type == DT_DIR)
		return true;
	return fstatat(fd, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* A second descriptor to list with: the position of a listing belongs to its description. */
static DIR *dir_list(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);

	if (!list)
		eloq_fd_close(copy);
	return list;
}

static int root_check_contents(int fd, const char *path, struct eloq_errinfo *reterr)
{
	DIR *list = dir_list(fd);
	struct dirent *entry;
	int r = 0;

	if (!list)
		return eloq_fail_errno(reterr, -errno, "cannot list store path %s", path);
	while (r == 0 && (entry = readdir(list)))
		if (!dir_entry_is_directory(dirfd(list), entry))
			r = eloq_fail(reterr, -ELOQ_ECONFIG,
				      "store path %s holds %s, which is not a directory: a store "
				      "path holds only the directories of partitions",
				      path, entry->d_name);
	(void)closedir(list);
	return r;
}

static int root_check_single(const struct eloq_data_dir *dir, int fd, const char *path,
			     struct eloq_errinfo *reterr)
{
	struct stat mine, other;

	if (fstat(fd, &mine) < 0)
		return eloq_fail_errno(reterr, -errno, "cannot look at store path %s", path);
	for (unsigned i = 0; i < dir->root_count; i++)
		if (fstat(dir->root_fds[i], &other) == 0 && other.st_dev == mine.st_dev &&
		    other.st_ino == mine.st_ino)
			return eloq_fail(reterr, -ELOQ_ECONFIG,
					 "store_path names the same directory twice: %s and %s",
					 dir->root_paths[i], path);
	return 0;
}

static int root_lock(int fd, const char *path, int stop_fd, struct eloq_errinfo *reterr)
{
	for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += DIR_WAIT_STEP_MS) {
		int r;

		if (errno != EWOULDBLOCK)
			return eloq_fail_errno(reterr, -errno, "cannot lock store path %s", path);
		if (waited_ms >= DIR_ROOT_PATIENCE_MS)
			return eloq_fail(reterr, -ELOQ_EBUSYOWNER,
					 "store path %s is in use by another daemon", path);
		r = dir_pause(stop_fd, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

static int root_open(struct eloq_data_dir *dir, const char *path, bool create, int stop_fd,
		     struct eloq_errinfo *reterr)
{
	char *absolute = NULL;
	int fd, r;

	if (create && mkdirat(dir->fd, path, S_IRWXU) < 0 && errno != EEXIST)
		return eloq_fail_errno(reterr, -errno, "cannot create store path %s", path);
	fd = openat(dir->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open store path %s", path);
	r = root_check_single(dir, fd, path, reterr);
	if (r == 0)
		r = root_lock(fd, path, stop_fd, reterr);
	if (r == 0)
		r = root_check_contents(fd, path, reterr);
	if (r < 0)
		goto out;
	if (asprintf(&absolute, "%s%s%s", path[0] == '/' ? "" : dir->path,
		     path[0] == '/' ? "" : "/", path) < 0) {
		r = eloq_fail_errno(reterr, -ENOMEM, "store path %s", path);
		goto out;
	}
	dir->root_paths[dir->root_count] = absolute;
	dir->root_fds[dir->root_count++] = eloq_fd_take(&fd);
out:
	eloq_fd_close(fd);
	return r;
}

int eloq_data_dir_open_roots(struct eloq_data_dir *dir, char *const *paths, unsigned count,
			     bool create, int stop_fd, struct eloq_errinfo *reterr)
{
	for (unsigned i = 0; i < count; i++) {
		int r = root_open(dir, paths[i], create, stop_fd, reterr);

		if (r < 0) {
			dir_close_roots(dir);
			return r;
		}
	}
	return 0;
}

/* --- What lies in them -------------------------------------------------------------------------
 */

bool eloq_data_dir_parse_name(const char *name, char table[static ELOQ_TABLE_NAME_BYTES_MAX + 8],
			      uint32_t *ret_partition)
{
	const char *dot = strrchr(name, '.');
	uint64_t partition = 0;

	if (!dot || dot == name || dot - name > ELOQ_TABLE_NAME_BYTES_MAX)
		return false;
	if (dot[1] == '\0' || (dot[1] == '0' && dot[2] != '\0'))
		return false;
	for (const char *p = dot + 1; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		partition = partition * 10 + (uint64_t)(*p - '0');
		if (partition > UINT32_MAX)
			return false;
	}
	memset(table, 0, ELOQ_TABLE_NAME_BYTES_MAX + 8);
	memcpy(table, name, (size_t)(dot - name));
	*ret_partition = (uint32_t)partition;
	return true;
}

static int root_list(const struct eloq_data_dir *dir, unsigned index,
		     int (*each)(void *arg, const char *table, uint32_t partition), void *arg,
		     struct eloq_errinfo *reterr)
{
	DIR *list = dir_list(dir->root_fds[index]);
	struct dirent *entry;
	int r = 0;

	if (!list)
		return eloq_fail_errno(reterr, -errno, "cannot list store path %s",
				       dir->root_paths[index]);
	while (r == 0 && (entry = readdir(list))) {
		char table[ELOQ_TABLE_NAME_BYTES_MAX + 8];
		uint32_t partition;

		if (!eloq_data_dir_parse_name(entry->d_name, table, &partition))
			continue;
		if (partition % dir->root_count != index)
			r = eloq_fail(
				reterr, -ELOQ_ECONFIG,
				"%s/%s belongs into store path number %u of %u: are all paths "
				"named, and in their order?",
				dir->root_paths[index], entry->d_name, partition % dir->root_count,
				dir->root_count);
		else
			r = each(arg, table, partition);
	}
	(void)closedir(list);
	return r;
}

int eloq_data_dir_list(const struct eloq_data_dir *dir,
		       int (*each)(void *arg, const char *table, uint32_t partition), void *arg,
		       struct eloq_errinfo *reterr)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < dir->root_count; i++)
		r = root_list(dir, i, each, arg, reterr);
	return r;
}

int eloq_data_dir_open_wal(const struct eloq_data_dir *dir, unsigned shard, int *ret_fd,
			   struct eloq_errinfo *reterr)
{
	char name[32];
	int fd;

	(void)snprintf(name, sizeof(name), "wal/shard-%03u", shard);
	if ((mkdirat(dir->fd, "wal", S_IRWXU) < 0 && errno != EEXIST) ||
	    (mkdirat(dir->fd, name, S_IRWXU) < 0 && errno != EEXIST))
		return eloq_fail_errno(reterr, -errno, "cannot create %s/%s", dir->path, name);
	fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open %s/%s", dir->path, name);
	*ret_fd = fd;
	return 0;
}
