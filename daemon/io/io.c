/*
 * io.c - what all back-ends share: checks, the queue beyond the depth, files, counting, callbacks.
 *
 * Idea: a request is a few attempts, each one system call; here it is decided what an attempt's
 * result means, so short writes, interruptions and file systems without O_DIRECT are treated alike
 * on every back-end. backend.h has the picture of a request's way.
 *
 * Always:   done() is called from eloq_io_turn() only, and a request submitted by a done() ends in
 *           a later turn. A file handle counts the requests that use it; a CLOSE comes alone.
 * Runs on:  the shard's thread; eloq_io_judge() on any that has the request in hand.
 * Fails by: asserting on requests that break the contract of io.h; else the request's result.
 */
#include "daemon/io/io.h"

#include "daemon/io/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Memory that the kernel filled is defined, though no instruction of ours wrote it: MSan has to be
 * told, and valgrind too for what went through io_uring. Nothing in normal builds.
 */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define IO_MARK_DEFINED(buf, bytes) __msan_unpoison((buf), (bytes))
#endif
#endif
#if !defined(IO_MARK_DEFINED) && defined(ELOQ_VALGRIND)
#include <valgrind/memcheck.h>
#define IO_MARK_DEFINED(buf, bytes) (void)VALGRIND_MAKE_MEM_DEFINED((buf), (bytes))
#endif
#ifndef IO_MARK_DEFINED
#define IO_MARK_DEFINED(buf, bytes) ((void)0)
#endif

/* What an off_t holds. */
#define IO_OFFSET_MAX ((uint64_t)INT64_MAX)

/* ---- opening and closing ---------------------------------------------------------------- */

int eloq_io_init(struct eloq_io *io, const struct eloq_io_ops *ops, unsigned depth)
{
	io->files = calloc(ELOQ_IO_FILES_MAX, sizeof(*io->files));
	if (!io->files)
		return -ENOMEM;
	io->ops = ops;
	io->depth = depth;
	eloq_list_init(&io->waiting);
	eloq_list_init(&io->ended);
	eloq_list_init(&io->files_free);
	for (unsigned i = 0; i < ELOQ_IO_FILES_MAX; i++)
		eloq_list_push_back(&io->files_free, &io->files[i].link);
	return 0;
}

void eloq_io_fini(struct eloq_io *io)
{
	free(io->files);
	io->files = NULL;
}

static const char *io_why_not_uring(int code)
{
	switch (-code) {
	case EPERM:
	case EACCES:
		return "io_uring is forbidden here (a container's seccomp profile, or sysctl "
		       "kernel.io_uring_disabled), threads serve instead: permit io_uring_setup, "
		       "io_uring_enter and io_uring_register, or set io_backend = pool";
	case ENOSYS:
	case EINVAL:
		return "the kernel's io_uring is missing or too old, threads serve instead: run "
		       "Linux 6.1 or newer, or set io_backend = pool";
	case ENOMEM:
		return "io_uring got no memory, threads serve instead: raise the memlock limit "
		       "(LimitMEMLOCK=), or set io_backend = pool";
	case EMFILE:
	case ENFILE:
		return "io_uring got no descriptors, threads serve instead: raise the limit of "
		       "open files (LimitNOFILE=), or set io_backend = pool";
	default:
		return "io_uring could not be set up, threads serve instead: see io_backend = "
		       "uring for the error, or set io_backend = pool";
	}
}

int eloq_io_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts, const char **ret_note,
		 struct eloq_errinfo *reterr)
{
	const char *note = NULL;
	bool automatic = !strcmp(opts->backend, "auto");
	int r;

	if (opts->depth < 1 || opts->depth > ELOQ_IO_DEPTH_MAX)
		return eloq_fail(reterr, -EINVAL, "I/O depth %u is not in 1..%d", opts->depth,
				 ELOQ_IO_DEPTH_MAX);
	if (automatic || !strcmp(opts->backend, "uring")) {
		r = eloq_io_uring_open(ret_io, opts, reterr);
		if (r < 0 && automatic) {
			note = io_why_not_uring(r);
			r = eloq_io_pool_open(ret_io, opts, reterr);
		}
	} else if (!strcmp(opts->backend, "pool")) {
		r = eloq_io_pool_open(ret_io, opts, reterr);
	} else {
		r = eloq_fail(reterr, -EINVAL,
			      "I/O back-end \"%s\" is not one of auto, uring, pool", opts->backend);
	}
	if (r >= 0 && ret_note)
		*ret_note = note;
	return r;
}

void eloq_io_close(struct eloq_io *io)
{
	if (!io)
		return;
	eloq_assert(io->stats.in_flight == 0);
	eloq_assert(io->files_open == 0);
	io->ops->close(io);
}

const char *eloq_io_backend_name(const struct eloq_io *io)
{
	return io->ops->name;
}

const struct eloq_io_stats *eloq_io_stats(const struct eloq_io *io)
{
	return &io->stats;
}

int eloq_io_can_register_memory(struct eloq_io *io, void *base, size_t bytes)
{
	if (!io->ops->can_register_memory)
		return 0;
	return io->ops->can_register_memory(io, base, bytes);
}

int eloq_io_register_memory(struct eloq_io *io, void *base, size_t bytes)
{
	int r;

	if (!io->ops->register_memory)
		return 0;
	if (bytes == 0 || bytes > ELOQ_IO_REGION_BYTES_MAX)
		return -EINVAL;
	r = io->ops->register_memory(io, base, bytes);
	if (r == 0)
		io->stats.registered_bytes += bytes;
	return r;
}

void eloq_io_forget_memory(struct eloq_io *io, void *base, size_t bytes)
{
	if (io->ops->forget_memory)
		io->stats.registered_bytes -= io->ops->forget_memory(io, base, bytes);
}

int eloq_io_hold(struct eloq_io *io, int fd)
{
	return io->ops->hold(io, fd);
}

int eloq_io_poll_start(struct eloq_io *io, struct eloq_io_poll *poll)
{
	return io->ops->poll_start(io, poll);
}

void eloq_io_poll_stop(struct eloq_io *io, struct eloq_io_poll *poll)
{
	io->ops->poll_stop(io, poll);
}

int eloq_io_list(struct eloq_io *io, struct eloq_io_file *dir, const char *path,
		 int (*each)(void *arg, const char *name, bool is_directory), void *arg)
{
	return io->ops->list(io, dir, path, each, arg);
}

/* ---- files ------------------------------------------------------------------------------ */

struct eloq_io_file *eloq_io_take_file(struct eloq_io *io)
{
	struct eloq_list *node = eloq_list_pop_front(&io->files_free);
	struct eloq_io_file *file;

	if (!node)
		return NULL;
	file = eloq_list_entry(node, struct eloq_io_file, link);
	*file = (struct eloq_io_file){ .fd = -1, .slot = -1 };
	eloq_list_init(&file->link);
	io->files_open++;
	return file;
}

static void io_release_file(struct eloq_io *io, struct eloq_io_file *file)
{
	eloq_assert(file->requests == 0);
	/* Last: a handle used after its CLOSE then meets fd -1 for as long as possible. */
	file->fd = -1;
	eloq_list_push_back(&io->files_free, &file->link);
	io->files_open--;
}

int eloq_io_adopt_fd(struct eloq_io *io, int fd, struct eloq_io_file **ret_file)
{
	struct eloq_io_file *file;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	file = eloq_io_take_file(io);
	if (!file)
		return -EMFILE;
	file->fd = fd;
	file->is_directory = S_ISDIR(st.st_mode);
	io->ops->file_opened(io, file);
	*ret_file = file;
	return 0;
}

bool eloq_io_file_is_buffered(const struct eloq_io_file *file)
{
	return file->is_buffered;
}

int eloq_io_open_oflags(const struct eloq_io_req *req)
{
	const struct eloq_io_file *file = eloq_io_open_file(req);
	unsigned flags = req->flags;
	int oflags = O_CLOEXEC;

	if (flags & ELOQ_IO_DIRECTORY)
		return oflags | O_RDONLY | O_DIRECTORY;
	oflags |= flags & ELOQ_IO_READ_ONLY ? O_RDONLY : O_RDWR;
	if (flags & ELOQ_IO_CREATE)
		oflags |= O_CREAT;
	if (flags & ELOQ_IO_TRUNC)
		oflags |= O_TRUNC;
	/* Linux creates a file before it refuses O_DIRECT, so the first attempt has made it. */
	if ((flags & ELOQ_IO_EXCLUSIVE) && !file->is_buffered)
		oflags |= O_EXCL;
	if (file->is_direct && !file->is_buffered)
		oflags |= O_DIRECT;
	return oflags;
}

/* ---- what an attempt's result means ----------------------------------------------------- */

/* Another attempt does no harm even if the interrupted one had an effect. */
static bool io_may_retry(enum eloq_io_op op)
{
	switch (op) {
	case ELOQ_IO_OPEN:
	case ELOQ_IO_READ:
	case ELOQ_IO_WRITE:
	case ELOQ_IO_ALLOCATE:
	case ELOQ_IO_TRUNCATE:
	case ELOQ_IO_SIZE:
		return true;
	case ELOQ_IO_CLOSE:  /* the descriptor is gone, and may be another's by now */
	case ELOQ_IO_SYNC:   /* an error is told once; the next sync would say all is well */
	case ELOQ_IO_RENAME: /* a second one would not find what the first one moved */
	case ELOQ_IO_UNLINK:
	case ELOQ_IO_MKDIR:
	case ELOQ_IO_RMDIR:
		return false;
	}
	return false;
}

static bool io_judge_failure(struct eloq_io_req *req, int64_t attempt)
{
	if ((attempt == -EINTR || attempt == -EAGAIN) && io_may_retry(req->op) &&
	    ++req->tries < ELOQ_IO_TRIES_MAX)
		return false;
	if (req->op == ELOQ_IO_OPEN && attempt == -EINVAL) {
		struct eloq_io_file *file = eloq_io_open_file(req);

		if (file->is_direct && !file->is_buffered) {
			file->is_buffered = true;
			return false;
		}
	}
	req->result = attempt;
	return true;
}

/* True if it has ended: a write goes on until all is written or nothing moves any more. */
static bool io_judge_write(struct eloq_io_req *req, uint32_t moved)
{
	uint32_t before = req->done_bytes;

	req->done_bytes += moved;
	if (req->done_bytes == req->bytes) {
		req->result = req->bytes;
		return true;
	}
	if (req->file->is_direct && !req->file->is_buffered) /* has to go on aligned */
		req->done_bytes &= ~((uint32_t)ELOQ_IO_ALIGN - 1);
	if (req->done_bytes > before) {
		req->tries = 0;
		return false;
	}
	req->result = -EIO;
	return ++req->tries >= ELOQ_IO_TRIES_MAX;
}

/* True if it has ended: a read goes on until the buffer is full or the file ends. */
static bool io_judge_read(struct eloq_io_req *req, uint32_t moved)
{
	bool direct = req->file->is_direct && !req->file->is_buffered;

	req->tries = 0;
	req->done_bytes += moved;
	req->result = req->done_bytes;
	if (moved == 0 || req->done_bytes == req->bytes)
		return true;
	/* A direct read ends unaligned only where the file does, and could not go on from there. */
	return direct && req->done_bytes % ELOQ_IO_ALIGN != 0;
}

bool eloq_io_judge(struct eloq_io_req *req, int64_t attempt)
{
	if (attempt < 0)
		return io_judge_failure(req, attempt);
	if (req->op == ELOQ_IO_READ)
		return io_judge_read(req, (uint32_t)attempt);
	if (req->op == ELOQ_IO_WRITE)
		return io_judge_write(req, (uint32_t)attempt);
	if (req->op == ELOQ_IO_OPEN) {
		eloq_io_open_file(req)->fd = (int)attempt;
		attempt = 0;
	}
	req->result = attempt;
	return true;
}

/* ---- a request's way -------------------------------------------------------------------- */

static void io_check_transfer(const struct eloq_io_req *req)
{
	eloq_assert(req->buf || req->bytes == 0);
	eloq_assert(req->offset <= IO_OFFSET_MAX - req->bytes);
	if (req->file->is_direct) {
		eloq_assert((uintptr_t)req->buf % ELOQ_IO_ALIGN == 0);
		eloq_assert(req->bytes % ELOQ_IO_ALIGN == 0);
		eloq_assert(req->offset % ELOQ_IO_ALIGN == 0);
	}
}

static void io_check(const struct eloq_io_req *req)
{
	eloq_assert(req->done);
	eloq_assert(req->file && req->file->fd >= 0);
	switch (req->op) {
	case ELOQ_IO_READ:
	case ELOQ_IO_WRITE:
		io_check_transfer(req);
		return;
	case ELOQ_IO_RENAME:
		eloq_assert(req->path && req->new_path);
		return;
	case ELOQ_IO_OPEN:
	case ELOQ_IO_UNLINK:
	case ELOQ_IO_MKDIR:
	case ELOQ_IO_RMDIR:
		eloq_assert(req->path);
		return;
	case ELOQ_IO_ALLOCATE:
		eloq_assert(req->length <= IO_OFFSET_MAX);
		eloq_assert(req->offset <= IO_OFFSET_MAX - req->length);
		return;
	case ELOQ_IO_TRUNCATE:
		eloq_assert(req->offset <= IO_OFFSET_MAX);
		return;
	case ELOQ_IO_CLOSE:
		eloq_assert(req->file->requests == 0);
		return;
	case ELOQ_IO_SYNC:
	case ELOQ_IO_SIZE:
		return;
	}
	eloq_assert(req->op <= ELOQ_IO_RMDIR);
}

static bool io_prepare_open(struct eloq_io *io, struct eloq_io_req *req)
{
	struct eloq_io_file *file = eloq_io_take_file(io);

	if (!file)
		return false;
	file->is_directory = req->flags & ELOQ_IO_DIRECTORY;
	file->is_direct = (req->flags & ELOQ_IO_DIRECT) && !file->is_directory;
	req->backend[0] = (uintptr_t)file;
	return true;
}

void eloq_io_submit(struct eloq_io *io, struct eloq_io_req *req)
{
	io_check(req);
	eloq_list_init(&req->link);
	req->result = 0;
	req->ret_file = NULL;
	req->done_bytes = 0;
	req->tries = 0;
	req->backend[0] = 0;
	req->backend[1] = 0;
	req->file->requests++;
	io->stats.in_flight++;
	if (req->op == ELOQ_IO_WRITE)
		io->stats.in_flight_bytes_write += req->bytes;
	if (req->op == ELOQ_IO_OPEN && !io_prepare_open(io, req)) {
		req->result = -EMFILE;
		eloq_list_push_back(&io->ended, &req->link);
		return;
	}
	if (req->op == ELOQ_IO_CLOSE)
		io->ops->file_closing(io, req->file);
	eloq_list_push_back(&io->waiting, &req->link);
	(void)eloq_io_start_waiting(io); /* what finds no room is offered again by the next turn */
}

bool eloq_io_start_waiting(struct eloq_io *io)
{
	while (io->started < io->depth) {
		struct eloq_list *node = eloq_list_pop_front(&io->waiting);
		struct eloq_io_req *req;

		if (!node)
			break;
		req = eloq_list_entry(node, struct eloq_io_req, link);
		io->started++;
		if (!io->ops->start(io, req)) {
			eloq_io_again(io, req);
			return false;
		}
	}
	return true;
}

void eloq_io_again(struct eloq_io *io, struct eloq_io_req *req)
{
	eloq_assert(io->started > 0);
	io->started--;
	eloq_list_push_front(&io->waiting, &req->link);
}

void eloq_io_ended(struct eloq_io *io, struct eloq_io_req *req)
{
	eloq_assert(io->started > 0);
	io->started--;
	eloq_list_push_back(&io->ended, &req->link);
}

static void io_finish_open(struct eloq_io *io, struct eloq_io_req *req)
{
	struct eloq_io_file *file = eloq_io_open_file(req);

	if (req->result >= 0) {
		io->ops->file_opened(io, file);
		req->ret_file = file;
	} else if (file) {
		io_release_file(io, file);
	}
}

static void io_count(struct eloq_io_stats *stats, const struct eloq_io_req *req)
{
	stats->in_flight--;
	if (req->op == ELOQ_IO_WRITE)
		stats->in_flight_bytes_write -= req->bytes;
	if (req->op == ELOQ_IO_READ)
		stats->reads++;
	else if (req->op == ELOQ_IO_WRITE)
		stats->writes++;
	else if (req->op == ELOQ_IO_SYNC)
		stats->syncs++;
	else
		stats->others++;
	if (req->result < 0) {
		/* Whether a name exists is a question, not a failure. */
		if (req->result != -ENOENT && req->result != -EEXIST)
			stats->errors++;
	} else if (req->op == ELOQ_IO_READ) {
		stats->read_bytes += (uint64_t)req->result;
	} else if (req->op == ELOQ_IO_WRITE) {
		stats->write_bytes += (uint64_t)req->result;
	}
}

static void io_finish(struct eloq_io *io, struct eloq_io_req *req)
{
	req->file->requests--;
	if (req->op == ELOQ_IO_OPEN)
		io_finish_open(io, req);
	else if (req->op == ELOQ_IO_CLOSE)
		io_release_file(io, req->file);
	else if (req->op == ELOQ_IO_READ && req->result > 0)
		IO_MARK_DEFINED(req->buf, (size_t)req->result);
	io_count(&io->stats, req);
	req->done(req);
}

static unsigned io_deliver(struct eloq_io *io, unsigned completions_max)
{
	struct eloq_list batch;
	unsigned n = 0;

	/* Only what has ended by now: a done() that submits must not keep the turn going. */
	eloq_list_init(&batch);
	eloq_list_splice_back(&batch, &io->ended);
	while (n < completions_max && !eloq_list_empty(&batch)) {
		struct eloq_list *node = eloq_list_pop_front(&batch);

		io_finish(io, eloq_list_entry(node, struct eloq_io_req, link));
		n++;
	}
	eloq_list_splice_back(&batch, &io->ended);
	eloq_list_splice_back(&io->ended, &batch);
	return n;
}

int eloq_io_turn(struct eloq_io *io, uint64_t wait_ns, unsigned completions_max)
{
	int ready;

	if (!eloq_io_start_waiting(io) || !eloq_list_empty(&io->ended))
		wait_ns = 0;
	ready = io->ops->turn(io, wait_ns);
	if (ready < 0)
		return ready;
	return ready + (int)io_deliver(io, completions_max);
}

bool eloq_io_has_work(const struct eloq_io *io)
{
	if (!eloq_list_empty(&io->ended))
		return true;
	if (!eloq_list_empty(&io->waiting) && io->started < io->depth)
		return true;
	return io->ops->has_work(io);
}
