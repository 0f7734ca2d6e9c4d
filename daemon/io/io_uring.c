/*
 * io_uring.c - the back-end over io_uring.
 *
 * Idea: requests become submission entries at once, the kernel sees them once a turn, in one
 * io_uring_enter that also waits and collects. With DEFER_TASKRUN completions are worked off inside
 * that call only, so a turn with nothing to submit and nothing announced makes no system call.
 * Files are registered (slot ELOQ_IO_HOLDS_MAX + number of the handle) and so is the memory of
 * eloq_io_register_memory() (slot: io_regions.c): both save work for each I/O. Both tables start
 * empty and are filled as things come into use. What the ring cannot do on every kernel we run on
 * (truncate, size) is a plain call.
 *
 * A doorbell is a multishot, edge-triggered poll. Where a poll stands:
 *
 *     FREE -poll_start-> TO_ARM -turn-> ARMED -poll_stop-> TO_CANCEL -turn-> FREE
 *                          ^ |            |
 *                          | +-poll_stop--|--> FREE
 *                          +--the kernel ended it (no MORE flag: its queue was full, or the
 *                             wake came from an io_uring, which a client can bring about)
 *
 * Always:   requests in flight <= depth <= submission entries <= completion entries / 4. The
 *           queue of completions can still fill with poll events: the kernel then ends those polls,
 *           and they are armed again.
 *           A held descriptor stays registered until the ring is gone, and the kernel keeps the
 *           ring until its last I/O has ended, also after kill -9.
 * Runs on:  the thread that opened it: the kernel refuses all others (SINGLE_ISSUER).
 * Fails by: the request's result; a negative eloq_io_turn() if the ring itself is broken.
 */
#include "daemon/io/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum {
	URING_ENTRIES_MIN = 32,
	URING_CQ_FACTOR = 4,
	URING_TABLE_SLOTS = ELOQ_IO_HOLDS_MAX + ELOQ_IO_FILES_MAX,
};

/* Far enough for "for ever", near enough for every kernel's arithmetic. */
#define URING_WAIT_S_MAX INT64_C(1000000000)

/* user_data: a request's address (8-byte aligned), or a poll's token above one of these marks. */
enum uring_mark { URING_MARK_BITS = 2, URING_MARK_POLL = 1, URING_MARK_CANCEL = 2 };

enum uring_poll_state {
	URING_POLL_FREE,
	URING_POLL_TO_ARM,
	URING_POLL_ARMED,
	URING_POLL_TO_CANCEL,
};

struct uring {
	struct eloq_io io;
	struct io_uring ring;
	struct eloq_io_polls polls;
	struct eloq_list polls_to_arm;
	struct eloq_list polls_to_cancel; /* forgotten already */
	unsigned table_slots;		  /* of registered files */
	unsigned holds;
	struct eloq_io_regions regions; /* of registered memory; max is 0 where that is refused */
};

static struct uring *uring_of(struct eloq_io *io)
{
	return eloq_container_of(io, struct uring, io);
}

/* ---- submission ------------------------------------------------------------------------- */

/* NULL: the kernel takes nothing at the moment; all that is prepared stays so. */
static struct io_uring_sqe *uring_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (eloq_unlikely(!sqe)) {
		(void)io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

/* The file as the registered one where it has a slot, else by its descriptor. */
static int uring_fd(const struct eloq_io_file *file)
{
	return file->slot >= 0 ? file->slot : file->fd;
}

static void uring_set_file(struct io_uring_sqe *sqe, const struct eloq_io_file *file)
{
	if (file->slot >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
}

static void uring_prep_transfer(const struct uring *u, struct io_uring_sqe *sqe,
				const struct eloq_io_req *req)
{
	char *buf = (char *)req->buf + req->done_bytes;
	uint32_t bytes = eloq_io_attempt_bytes(req);
	uint64_t offset = req->offset + req->done_bytes;
	int fd = uring_fd(req->file);
	int region = eloq_io_regions_find(&u->regions, buf, bytes);

	if (req->op == ELOQ_IO_READ) {
		if (region >= 0)
			io_uring_prep_read_fixed(sqe, fd, buf, bytes, offset, region);
		else
			io_uring_prep_read(sqe, fd, buf, bytes, offset);
	} else {
		if (region >= 0)
			io_uring_prep_write_fixed(sqe, fd, buf, bytes, offset, region);
		else
			io_uring_prep_write(sqe, fd, buf, bytes, offset);
	}
	uring_set_file(sqe, req->file);
}

/* What the ring of every kernel that we run on can do; the rest are plain calls, and rare. */
static bool uring_is_in_ring(enum eloq_io_op op)
{
	return op != ELOQ_IO_TRUNCATE && op != ELOQ_IO_SIZE;
}

/* Operations on names take real descriptors; the ring has no registered ones for directories. */
static void uring_prep(const struct uring *u, struct io_uring_sqe *sqe,
		       const struct eloq_io_req *req)
{
	struct eloq_io_file *file = req->file;

	switch (req->op) {
	case ELOQ_IO_OPEN:
		io_uring_prep_openat(sqe, file->fd, req->path, eloq_io_open_oflags(req),
				     ELOQ_IO_FILE_MODE);
		break;
	case ELOQ_IO_CLOSE:
		io_uring_prep_close(sqe, file->fd);
		break;
	case ELOQ_IO_READ:
	case ELOQ_IO_WRITE:
		uring_prep_transfer(u, sqe, req);
		break;
	case ELOQ_IO_SYNC:
		io_uring_prep_fsync(sqe, uring_fd(file),
				    file->is_directory ? 0 : IORING_FSYNC_DATASYNC);
		uring_set_file(sqe, file);
		break;
	case ELOQ_IO_ALLOCATE:
		io_uring_prep_fallocate(sqe, uring_fd(file), 0, (off_t)req->offset,
					(off_t)req->length);
		uring_set_file(sqe, file);
		break;
	case ELOQ_IO_RENAME:
		io_uring_prep_renameat(sqe, file->fd, req->path, file->fd, req->new_path, 0);
		break;
	case ELOQ_IO_UNLINK:
		io_uring_prep_unlinkat(sqe, file->fd, req->path, 0);
		break;
	case ELOQ_IO_RMDIR:
		io_uring_prep_unlinkat(sqe, file->fd, req->path, AT_REMOVEDIR);
		break;
	case ELOQ_IO_MKDIR:
		io_uring_prep_mkdirat(sqe, file->fd, req->path, ELOQ_IO_DIRECTORY_MODE);
		break;
	case ELOQ_IO_TRUNCATE:
	case ELOQ_IO_SIZE:
		eloq_assert(uring_is_in_ring(req->op));
	}
	io_uring_sqe_set_data64(sqe, (uintptr_t)req);
}

static void uring_attempted(struct uring *u, struct eloq_io_req *req, int64_t attempt)
{
	/* The fallback of a file system without fallocate() is the same for all back-ends. */
	if (req->op == ELOQ_IO_ALLOCATE && attempt == -EOPNOTSUPP)
		attempt = eloq_io_plain_attempt(req);
	if (eloq_io_judge(req, attempt))
		eloq_io_ended(&u->io, req);
	else
		eloq_io_again(&u->io, req);
}

static bool uring_start(struct eloq_io *io, struct eloq_io_req *req)
{
	struct uring *u = uring_of(io);
	struct io_uring_sqe *sqe;

	if (!uring_is_in_ring(req->op)) {
		uring_attempted(u, req, eloq_io_plain_attempt(req));
		return true;
	}
	sqe = uring_sqe(u);
	if (!sqe)
		return false;
	uring_prep(u, sqe, req);
	return true;
}

/* ---- polls ------------------------------------------------------------------------------ */

static uint64_t uring_poll_data(const struct uring *u, const struct eloq_io_poll_slot *slot,
				enum uring_mark mark)
{
	return eloq_io_polls_token(&u->polls, slot) << URING_MARK_BITS | mark;
}

static void uring_poll_go_to(struct uring *u, struct eloq_io_poll_slot *slot,
			     enum uring_poll_state next)
{
	static const uint8_t may_go_to[] = {
		[URING_POLL_FREE] = 1u << URING_POLL_TO_ARM,
		[URING_POLL_TO_ARM] = 1u << URING_POLL_ARMED | 1u << URING_POLL_FREE,
		[URING_POLL_ARMED] = 1u << URING_POLL_TO_ARM | 1u << URING_POLL_TO_CANCEL,
		[URING_POLL_TO_CANCEL] = 1u << URING_POLL_FREE,
	};

	eloq_assert(may_go_to[slot->state] & 1u << next);
	slot->state = next;
	eloq_list_remove(&slot->link);
	switch (next) {
	case URING_POLL_FREE:
		eloq_io_polls_free(&u->polls, slot);
		break;
	case URING_POLL_TO_ARM:
		eloq_list_push_back(&u->polls_to_arm, &slot->link);
		break;
	case URING_POLL_ARMED:
		break;
	case URING_POLL_TO_CANCEL:
		eloq_list_push_back(&u->polls_to_cancel, &slot->link);
		break;
	}
}

static int uring_poll_start(struct eloq_io *io, struct eloq_io_poll *poll)
{
	struct uring *u = uring_of(io);
	struct eloq_io_poll_slot *slot;

	/* The ring would tell of a bad descriptor only when it is too late to return it. */
	if (fcntl(poll->fd, F_GETFD) < 0)
		return -errno;
	slot = eloq_io_polls_take(&u->polls, poll);
	if (!slot)
		return -ELOQ_ETOOMANY;
	uring_poll_go_to(u, slot, URING_POLL_TO_ARM);
	return 0;
}

static void uring_poll_stop(struct eloq_io *io, struct eloq_io_poll *poll)
{
	struct uring *u = uring_of(io);
	struct eloq_io_poll_slot *slot = eloq_io_polls_of(poll);

	eloq_io_polls_forget(slot);
	uring_poll_go_to(u, slot,
			 slot->state == URING_POLL_ARMED ? URING_POLL_TO_CANCEL : URING_POLL_FREE);
}

/* False: the kernel takes no more at the moment, the rest stays in its list. */
static bool uring_update_polls(struct uring *u)
{
	eloq_list_for_each_safe (node, &u->polls_to_cancel) {
		struct eloq_io_poll_slot *slot =
			eloq_list_entry(node, struct eloq_io_poll_slot, link);
		struct io_uring_sqe *sqe = uring_sqe(u);

		if (!sqe)
			return false;
		/* Not POLL_REMOVE: that gives up on a poll which is just firing. */
		io_uring_prep_cancel64(sqe, uring_poll_data(u, slot, URING_MARK_POLL), 0);
		io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
		io_uring_sqe_set_data64(sqe, URING_MARK_CANCEL);
		uring_poll_go_to(u, slot, URING_POLL_FREE);
	}
	eloq_list_for_each_safe (node, &u->polls_to_arm) {
		struct eloq_io_poll_slot *slot =
			eloq_list_entry(node, struct eloq_io_poll_slot, link);
		struct io_uring_sqe *sqe = uring_sqe(u);

		if (!sqe)
			return false;
		io_uring_prep_poll_multishot(sqe, slot->fd, POLLIN | EPOLLET);
		io_uring_sqe_set_data64(sqe, uring_poll_data(u, slot, URING_MARK_POLL));
		uring_poll_go_to(u, slot, URING_POLL_ARMED);
	}
	return true;
}

/* 1 if ready() was called, 0, or the error that keeps a descriptor from being watched. */
static int uring_poll_event(struct uring *u, uint64_t token, int res, unsigned flags)
{
	struct eloq_io_poll_slot *slot = eloq_io_polls_find(&u->polls, token);

	if (!slot)
		return 0; /* stopped meanwhile */
	if (res < 0 && res != -ENOMEM && res != -EAGAIN && res != -ECANCELED)
		return res;
	if (!(flags & IORING_CQE_F_MORE))
		uring_poll_go_to(u, slot, URING_POLL_TO_ARM);
	if (res <= 0)
		return 0;
	slot->poll->ready(slot->poll);
	return 1;
}

/* ---- the turn --------------------------------------------------------------------------- */

/* The kernel holds back completions until it is called: deferred work, or a queue that was full. */
static bool uring_kernel_has_work(const struct uring *u)
{
	unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);

	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static bool uring_has_work(const struct eloq_io *io)
{
	const struct uring *u = eloq_container_of(io, struct uring, io);

	return io_uring_cq_ready(&u->ring) || io_uring_sq_ready(&u->ring) ||
	       uring_kernel_has_work(u) || !eloq_list_empty(&u->polls_to_arm) ||
	       !eloq_list_empty(&u->polls_to_cancel);
}

static int uring_submit_and_wait(struct uring *u, uint64_t wait_ns)
{
	int64_t wait_s = (int64_t)(wait_ns / 1000000000);
	struct __kernel_timespec timeout = {
		.tv_sec = wait_s < URING_WAIT_S_MAX ? wait_s : URING_WAIT_S_MAX,
		.tv_nsec = (int64_t)(wait_ns % 1000000000),
	};
	struct io_uring_cqe *cqe;

	/* Always with a timeout: without one liburing waits on after a signal. */
	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
}

/* The one system call of a turn, if any. */
static int uring_enter(struct uring *u, uint64_t wait_ns)
{
	int r;

	if (wait_ns > 0 && io_uring_cq_ready(&u->ring) == 0)
		r = uring_submit_and_wait(u, wait_ns);
	else if (io_uring_sq_ready(&u->ring) || uring_kernel_has_work(u))
		r = io_uring_submit_and_get_events(&u->ring);
	else
		return 0;
	switch (r) {
	case -ETIME:
	case -EINTR:
	case -EAGAIN: /* no memory for requests just now: they stay prepared */
	case -EBUSY:  /* completions have to be taken first */
		return 0;
	default:
		return r < 0 ? r : 0;
	}
}

/* Returns how many ready() were called, or a negative error. */
static int uring_reap(struct uring *u)
{
	int ready = 0;
	int r;

	/* Only what is there now, so that a turn ends. */
	for (unsigned left = io_uring_cq_ready(&u->ring); left > 0; left--) {
		struct io_uring_cqe *cqe;
		uint64_t data;
		unsigned flags;
		int res;

		if (io_uring_peek_cqe(&u->ring, &cqe) < 0)
			break;
		data = io_uring_cqe_get_data64(cqe);
		res = cqe->res;
		flags = cqe->flags;
		/* Before any callback: those may submit, and the entry is the kernel's again. */
		io_uring_cqe_seen(&u->ring, cqe);
		if (data == URING_MARK_CANCEL)
			continue;
		if (data & URING_MARK_POLL) {
			r = uring_poll_event(u, data >> URING_MARK_BITS, res, flags);
			if (r < 0)
				return r;
			ready += r;
		} else {
			uring_attempted(u, (struct eloq_io_req *)(uintptr_t)data, res);
		}
	}
	return ready;
}

static int uring_turn(struct eloq_io *io, uint64_t wait_ns)
{
	struct uring *u = uring_of(io);
	int r;

	if (!uring_update_polls(u))
		wait_ns = 0;
	r = uring_enter(u, wait_ns);
	if (r < 0)
		return r;
	return uring_reap(u);
}

/* ---- registration ----------------------------------------------------------------------- */

static int uring_table_set(struct uring *u, unsigned slot, int fd)
{
	int r = io_uring_register_files_update(&u->ring, slot, &fd, 1);

	if (r == 1)
		return 0;
	return r < 0 ? r : -EIO;
}

static void uring_file_opened(struct eloq_io *io, struct eloq_io_file *file)
{
	struct uring *u = uring_of(io);
	unsigned slot = ELOQ_IO_HOLDS_MAX + (unsigned)(file - io->files);

	/* Without a slot the file serves by its descriptor, a little slower. */
	if (slot < u->table_slots && uring_table_set(u, slot, file->fd) == 0)
		file->slot = (int)slot;
}

static void uring_file_closing(struct eloq_io *io, struct eloq_io_file *file)
{
	/* Should this fail, the file stays open until the slot is next used; nothing else. */
	if (file->slot >= 0)
		(void)uring_table_set(uring_of(io), (unsigned)file->slot, -1);
	file->slot = -1;
}

static int uring_hold(struct eloq_io *io, int fd)
{
	struct uring *u = uring_of(io);
	int r;

	if (u->holds == ELOQ_IO_HOLDS_MAX || u->holds == u->table_slots)
		return -ELOQ_ETOOMANY;
	r = uring_table_set(u, u->holds, fd);
	if (r < 0)
		return r;
	u->holds++;
	return 0;
}

/* @bytes 0: the slot becomes empty. */
static int uring_buffer_set(struct uring *u, int slot, void *base, size_t bytes)
{
	const struct iovec iov = { .iov_base = bytes ? base : NULL, .iov_len = bytes };
	int r = io_uring_register_buffers_update_tag(&u->ring, (unsigned)slot, &iov, NULL, 1);

	if (r == 1)
		return 0;
	return r < 0 ? r : -EIO;
}

/* Locked memory has the same limit as registered memory, and ONFAULT touches none of it. */
static int uring_can_register_memory(struct eloq_io *io, void *base, size_t bytes)
{
	if (uring_of(io)->regions.max == 0)
		return -EOPNOTSUPP;
	if (mlock2(base, bytes, MLOCK_ONFAULT) < 0)
		return -ENOMEM;
	(void)munlock(base, bytes);
	return 0;
}

static int uring_register_memory(struct eloq_io *io, void *base, size_t bytes)
{
	struct uring *u = uring_of(io);
	int slot, r;

	if (u->regions.max == 0)
		return -EOPNOTSUPP;
	slot = eloq_io_regions_add(&u->regions, base, bytes);
	if (slot < 0)
		return slot;
	r = uring_buffer_set(u, slot, base, bytes);
	if (r < 0)
		(void)eloq_io_regions_remove(&u->regions, base, bytes, &bytes);
	return r;
}

static size_t uring_forget_memory(struct eloq_io *io, void *base, size_t bytes)
{
	struct uring *u = uring_of(io);
	size_t region_bytes, forgotten_bytes = 0;
	int slot;

	while ((slot = eloq_io_regions_remove(&u->regions, base, bytes, &region_bytes)) >= 0) {
		/* Should this fail, the old pages stay pinned until the slot is next used. */
		(void)uring_buffer_set(u, slot, NULL, 0);
		forgotten_bytes += region_bytes;
	}
	return forgotten_bytes;
}

/* ---- opening and closing ---------------------------------------------------------------- */

static int uring_setup(struct io_uring *ring, unsigned depth)
{
	/* Best first. Sparse tables need Linux 5.19, and that has all of the second set. */
	static const unsigned flag_sets[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
	};
	unsigned entries = URING_ENTRIES_MIN;
	int r = -EINVAL;

	while (entries < depth)
		entries *= 2;
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(flag_sets) && r == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flag_sets[i] | IORING_SETUP_TASKRUN_FLAG |
				 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
			.cq_entries = entries * URING_CQ_FACTOR,
		};

		r = io_uring_queue_init_params(entries, ring, &params);
	}
	return r;
}

static int uring_make_file_table(struct uring *u)
{
	struct rlimit files;
	unsigned slots = URING_TABLE_SLOTS;
	int r;

	/* The kernel takes no table larger than the limit of open files. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < slots)
		slots = (unsigned)files.rlim_cur;
	r = io_uring_register_files_sparse(&u->ring, slots);
	if (r < 0)
		return r;
	u->table_slots = slots;
	return 0;
}

/* All works without one, if slower. */
static int uring_make_region_table(struct uring *u)
{
	if (io_uring_register_buffers_sparse(&u->ring, ELOQ_IO_REGIONS_MAX) < 0)
		return 0;
	return eloq_io_regions_init(&u->regions, ELOQ_IO_REGIONS_MAX);
}

static void uring_close(struct eloq_io *io)
{
	struct uring *u = uring_of(io);

	/* The ring itself is taken down in the background; what it holds shall be free now. */
	(void)io_uring_unregister_files(&u->ring);
	(void)io_uring_unregister_buffers(&u->ring);
	io_uring_queue_exit(&u->ring);
	eloq_io_regions_fini(&u->regions);
	eloq_io_polls_fini(&u->polls);
	eloq_io_fini(&u->io);
	free(u);
}

static const struct eloq_io_ops uring_ops = {
	.name = "uring",
	.close = uring_close,
	.start = uring_start,
	.turn = uring_turn,
	.has_work = uring_has_work,
	.file_opened = uring_file_opened,
	.file_closing = uring_file_closing,
	.list = eloq_io_plain_list,
	.can_register_memory = uring_can_register_memory,
	.register_memory = uring_register_memory,
	.forget_memory = uring_forget_memory,
	.hold = uring_hold,
	.poll_start = uring_poll_start,
	.poll_stop = uring_poll_stop,
};

int eloq_io_uring_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts,
		       struct eloq_errinfo *reterr)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return eloq_fail_errno(reterr, -ENOMEM, "io_uring");
	eloq_list_init(&u->polls_to_arm);
	eloq_list_init(&u->polls_to_cancel);
	u->ring.ring_fd = -1;
	r = eloq_io_init(&u->io, &uring_ops, opts->depth);
	if (r == 0)
		r = eloq_io_polls_init(&u->polls);
	if (r == 0)
		r = uring_setup(&u->ring, opts->depth);
	if (r < 0) {
		r = eloq_fail_errno(reterr, r, "io_uring");
		goto fail;
	}
	r = uring_make_file_table(u);
	if (r == 0)
		r = uring_make_region_table(u);
	if (r < 0) {
		r = eloq_fail_errno(reterr, r, "io_uring: tables of registered files and memory");
		goto fail_ring;
	}
	*ret_io = &u->io;
	return 0;
fail_ring:
	io_uring_queue_exit(&u->ring);
fail:
	eloq_io_polls_fini(&u->polls);
	eloq_io_fini(&u->io);
	free(u);
	return r;
}
