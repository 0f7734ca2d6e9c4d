/*
 * io.h - all I/O of a shard: a table of operations with back-ends.
 *
 * Idea: the engine fills in a request, hands it over, and is called back from eloq_io_turn() when
 * it has ended. What stands behind is chosen once: `uring` (io_uring), `pool` (threads), or in
 * tests a simulated disk. The engine, its directories included, reaches the disk only this way.
 *
 * Runs on:  one thread, the shard's; no call here may come from another.
 * Memory:   a request, its buffer and its paths belong to the back-end from eloq_io_submit()
 *           until its done() is called. Requests are the caller's: nothing here allocates per I/O.
 * Order:    none between requests in flight. Who needs order waits.
 * Fails by: a result of -errno in the request. Whether to retry is the caller's business; a failed
 *           SYNC must never be retried (docs/durability.md, "After a failed sync").
 */
#ifndef ELOQ_DAEMON_IO_IO_H
#define ELOQ_DAEMON_IO_IO_H

#include "common/compiler.h"
#include "common/err.h"
#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct eloq_io;
struct eloq_io_file; /* an open file or directory of one back-end */

enum eloq_io_op {
	ELOQ_IO_OPEN,  /* path relative to directory `file`; ret_file is set on success */
	ELOQ_IO_CLOSE, /* file; frees it whatever the result */
	ELOQ_IO_READ,  /* file, buf, bytes, offset; result: bytes, fewer only at the end of file */
	ELOQ_IO_WRITE, /* file, buf, bytes, offset; result: bytes (never short) */
	ELOQ_IO_SYNC,  /* file: fdatasync of a file, fsync of a directory */
	ELOQ_IO_ALLOCATE, /* file, offset, length: reserve space and extend the size, reads as zeros
			   */
	ELOQ_IO_TRUNCATE, /* file, offset: cut or extend to this size */
	ELOQ_IO_SIZE,	  /* file; result: size in bytes */
	ELOQ_IO_RENAME,	  /* path -> new_path, both relative to directory `file` */
	ELOQ_IO_UNLINK,	  /* path relative to directory `file` */
	ELOQ_IO_MKDIR,	  /* path relative to directory `file`, mode 0775 before umask */
	ELOQ_IO_RMDIR,	  /* path relative to directory `file` */
};

/* Flags of OPEN. Without CREATE a missing file is -ENOENT. */
enum eloq_io_open_flags {
	ELOQ_IO_CREATE = 1u << 0,    /* mode 0644 before umask */
	ELOQ_IO_TRUNC = 1u << 1,     /* empty it */
	ELOQ_IO_EXCLUSIVE = 1u << 2, /* -EEXIST if it exists; with CREATE */
	ELOQ_IO_DIRECT = 1u << 3,    /* O_DIRECT where the file system has it; see below */
	ELOQ_IO_DIRECTORY = 1u << 4, /* a directory; read-only handle */
	ELOQ_IO_READ_ONLY = 1u << 5,
};

/* Buffers, offsets and lengths of I/O on a file opened with ELOQ_IO_DIRECT are multiples of this.
 */
enum { ELOQ_IO_ALIGN = 4096 };

struct eloq_io_req {
	/* Filled in by the caller. */
	enum eloq_io_op op;
	unsigned flags; /* eloq_io_open_flags */
	struct eloq_io_file *file;
	const char *path;
	const char *new_path;
	void *buf;
	uint32_t bytes;
	uint64_t offset;
	uint64_t length;		       /* of ALLOCATE */
	void (*done)(struct eloq_io_req *req); /* called once, from eloq_io_turn() */
	void *arg;			       /* the caller's */

	/* Set before done(). */
	int64_t result;		       /* as eloq_io_op says, or -errno */
	struct eloq_io_file *ret_file; /* of OPEN */

	/* The back-end's while the request is in flight. */
	struct eloq_list link;
	uint32_t done_bytes;
	uint32_t tries;
	uint64_t backend[2];
};

/*
 * A descriptor watched for readability (EPOLLIN, EPOLLHUP, EPOLLERR), edge-triggered: ready() is
 * called from eloq_io_turn() once or more after the descriptor became ready, not again until it
 * became ready anew. Nothing is read from it. The back-end arms it again by itself where the
 * kernel ends a poll, and then calls ready() once more, so that no edge is lost.
 */
struct eloq_io_poll {
	int fd;
	void (*ready)(struct eloq_io_poll *poll);
	void *arg;
	uint64_t backend[2];
};

struct eloq_io_opts {
	const char *backend; /* "auto" (uring, else pool with a reason), "uring", "pool" */
	unsigned depth;	     /* requests in flight at most; more are queued. 1..ELOQ_IO_DEPTH_MAX */
	unsigned pool_threads; /* of "pool"; 0: plain blocking calls inside eloq_io_submit() */
};

/* What has happened since the start; one writer, the shard's thread. */
struct eloq_io_stats {
	uint64_t reads, read_bytes;
	uint64_t writes, write_bytes;
	uint64_t syncs;
	uint64_t others;
	uint64_t errors; /* failed requests, but for -ENOENT and -EEXIST */
	uint64_t in_flight, in_flight_bytes_write;
	uint64_t registered_bytes; /* of memory, now */
};

/**
 * Open a back-end. With "auto", *ret_note (a line, valid for the process; NULL if there is nothing
 * to say) tells why the pool serves instead of io_uring. 0 or a negative error with its words.
 */
int eloq_io_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts, const char **ret_note,
		 struct eloq_errinfo *reterr);

/* NULL is fine. No request may be in flight and no file open. Threads of a pool are joined. */
void eloq_io_close(struct eloq_io *io);

/* "uring", "pool", ... */
const char *eloq_io_backend_name(const struct eloq_io *io);

const struct eloq_io_stats *eloq_io_stats(const struct eloq_io *io);

/*
 * Registered memory: buffers that lie in one region as a whole are faster with uring, all others
 * (also one across two regions) work as well. Registering pins a region, which touches every page
 * of it; so register a large one piece by piece as it comes into use. Back-ends but uring ignore
 * all this and answer 0.
 */
enum { ELOQ_IO_REGION_BYTES_MAX = 1 << 30 }; /* the kernel takes no larger one */

/*
 * Whether memory of this size could be registered: 0; -ENOMEM: the memlock limit of this process is
 * too low for all of it; -EOPNOTSUPP: the kernel has no means. Touches and changes nothing. A limit
 * that several processes of a user exhaust together shows only when registering.
 */
int eloq_io_can_register_memory(struct eloq_io *io, void *base, size_t bytes);

/*
 * Register a region, disjoint from the others. It must stay mapped until it is forgotten.
 * -ENOMEM: memlock limit; -EINVAL: size; -EOPNOTSUPP; -ELOQ_ETOOMANY beyond ELOQ_IO_REGIONS_MAX.
 * Whatever the answer, I/O from and to the region works.
 */
int eloq_io_register_memory(struct eloq_io *io, void *base, size_t bytes);

/*
 * Forget the regions within [base, base + bytes), before the memory is unmapped or freed: the
 * kernel would go on using the old pages at these addresses. No I/O of theirs may be in flight.
 */
void eloq_io_forget_memory(struct eloq_io *io, void *base, size_t bytes);

/*
 * Keep an open file description alive until the last I/O of this process has ended, even if the
 * process is killed: flocks that are held through @fd are then dropped only after that. With uring
 * the descriptor is registered in the ring. @fd stays the caller's. -ELOQ_ETOOMANY beyond 64.
 */
int eloq_io_hold(struct eloq_io *io, int fd);

/* Make a file handle of a directory or file descriptor, which is owned by the handle from here. On
 * failure (-EBADF, -EMFILE) it stays the caller's. */
int eloq_io_adopt_fd(struct eloq_io *io, int fd, struct eloq_io_file **ret_file);

/* True if the file was opened without O_DIRECT although that was asked for. */
bool eloq_io_file_is_buffered(const struct eloq_io_file *file);

/* Start a request: it may run at once or with the next eloq_io_turn(). done() is never called from
 * here. */
void eloq_io_submit(struct eloq_io *io, struct eloq_io_req *req);

/*
 * One turn: give queued requests to the kernel, wait up to @wait_ns for anything to happen (0: do
 * not wait; UINT64_MAX: for ever), call done() of up to @completions_max ended requests and ready()
 * of polls. A signal ends the wait. Returns how many callbacks were called, or a negative error
 * that makes the back-end useless.
 */
int eloq_io_turn(struct eloq_io *io, uint64_t wait_ns, unsigned completions_max);

/* True if a turn without waiting would find something to do (cheap: no system call). */
bool eloq_io_has_work(const struct eloq_io *io);

/* Watch a descriptor; the structure is the caller's and must stay until eloq_io_poll_stop().
 * -EBADF; -ELOQ_ETOOMANY: one for each lane and a few more are watched already. */
int eloq_io_poll_start(struct eloq_io *io, struct eloq_io_poll *poll);
/* After this ready() is not called any more and the structure may go; the fd may be closed. */
void eloq_io_poll_stop(struct eloq_io *io, struct eloq_io_poll *poll);

/*
 * Call @each for every entry of directory @path below @dir ("." for itself), not for "." and "..".
 * Blocks: for start-up and rare work. each() returning non-zero ends the walk with that number.
 */
int eloq_io_list(struct eloq_io *io, struct eloq_io_file *dir, const char *path,
		 int (*each)(void *arg, const char *name, bool is_directory), void *arg);

#endif
