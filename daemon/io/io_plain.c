/*
 * io_plain.c - requests as plain, blocking system calls.
 *
 * Idea: the pool's threads run these, and uring does for what the ring has no operation. One call
 * makes one attempt; what its result means (short, interrupted, refused) is eloq_io_judge()'s.
 *
 * Runs on:  any thread that has the request in hand; nothing here keeps state.
 * Fails by: -errno.
 */
#include "common/fd.h"
#include "daemon/io/backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Without fallocate() in the file system only the size can be had: a hole, which reads as zeros. */
static int plain_extend(int fd, off_t bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	return st.st_size >= bytes ? 0 : ftruncate(fd, bytes);
}

static int plain_allocate(const struct eloq_io_req *req)
{
	int fd = req->file->fd;
	int r = fallocate(fd, 0, (off_t)req->offset, (off_t)req->length);

	if (r < 0 && errno == EOPNOTSUPP)
		r = plain_extend(fd, (off_t)(req->offset + req->length));
	return r;
}

static int64_t plain_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -1 : st.st_size;
}

static int64_t plain_call(const struct eloq_io_req *req)
{
	int fd = req->file->fd;

	switch (req->op) {
	case ELOQ_IO_OPEN:
		return openat(fd, req->path, eloq_io_open_oflags(req), ELOQ_IO_FILE_MODE);
	case ELOQ_IO_CLOSE:
		return close(fd);
	case ELOQ_IO_READ:
		return pread(fd, (char *)req->buf + req->done_bytes, eloq_io_attempt_bytes(req),
			     (off_t)(req->offset + req->done_bytes));
	case ELOQ_IO_WRITE:
		return pwrite(fd, (const char *)req->buf + req->done_bytes,
			      eloq_io_attempt_bytes(req), (off_t)(req->offset + req->done_bytes));
	case ELOQ_IO_SYNC:
		return req->file->is_directory ? fsync(fd) : fdatasync(fd);
	case ELOQ_IO_ALLOCATE:
		return plain_allocate(req);
	case ELOQ_IO_TRUNCATE:
		return ftruncate(fd, (off_t)req->offset);
	case ELOQ_IO_SIZE:
		return plain_size(fd);
	case ELOQ_IO_RENAME:
		return renameat(fd, req->path, fd, req->new_path);
	case ELOQ_IO_UNLINK:
		return unlinkat(fd, req->path, 0);
	case ELOQ_IO_MKDIR:
		return mkdirat(fd, req->path, ELOQ_IO_DIRECTORY_MODE);
	case ELOQ_IO_RMDIR:
		return unlinkat(fd, req->path, AT_REMOVEDIR);
	}
	errno = EINVAL;
	return -1;
}

int64_t eloq_io_plain_attempt(const struct eloq_io_req *req)
{
	int64_t r = plain_call(req);

	return r < 0 ? -errno : r;
}

/* Some file systems leave the type out; a link counts as what it leads to. */
static bool plain_is_directory(int dir_fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
		return entry->d_type == DT_DIR;
	return fstatat(dir_fd, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static int plain_walk(DIR *dir, int (*each)(void *arg, const char *name, bool is_directory),
		      void *arg)
{
	struct dirent *entry;
	int r;

	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return -errno;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		r = each(arg, entry->d_name, plain_is_directory(dirfd(dir), entry));
		if (r)
			return r;
	}
}

int eloq_io_plain_list(struct eloq_io *io ELOQ_UNUSED, struct eloq_io_file *dir, const char *path,
		       int (*each)(void *arg, const char *name, bool is_directory), void *arg)
{
	int fd = openat(dir->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *walked;
	int r;

	if (fd < 0)
		return -errno;
	walked = fdopendir(fd);
	if (!walked) {
		r = -errno;
		eloq_fd_close(fd);
		return r;
	}
	r = plain_walk(walked, each, arg);
	(void)closedir(walked);
	return r;
}
