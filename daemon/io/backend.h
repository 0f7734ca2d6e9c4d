/*
 * backend.h - what io.c and the back-ends know of each other; private to daemon/io/.
 *
 * Idea: io.c keeps what all back-ends share (checks, the queue beyond the depth, files, counting,
 * the order of callbacks), a back-end only makes attempts. An attempt is one system call's worth of
 * a request; eloq_io_judge() says whether the request needs another one.
 *
 *     submit --> waiting --start()--> with the back-end --eloq_io_ended()--> ended --> done()
 *                   ^                       |
 *                   +---eloq_io_again()-----+   another attempt is due
 *
 * Always:   a request is in one of these places; started <= depth counts those with the back-end.
 * Runs on:  the shard's thread, but for what says "any thread".
 */
#ifndef ELOQ_DAEMON_IO_BACKEND_H
#define ELOQ_DAEMON_IO_BACKEND_H

#include "common/limits.h"
#include "daemon/io/io.h"

enum {
	ELOQ_IO_TRIES_MAX = 16,		      /* attempts in a row that got nowhere */
	ELOQ_IO_ATTEMPT_BYTES_MAX = 1u << 30, /* of one attempt: below every kernel limit */
	ELOQ_IO_HOLDS_MAX = 64,		      /* a shard's lock and its store paths */
	/* A doorbell for each lane, and a few sockets. */
	ELOQ_IO_POLLS_MAX = ELOQ_LANES_PER_WORKER_MAX + 64,
};

struct eloq_io_file {
	struct eloq_list link; /* among the free ones */
	int fd;
	int slot;	   /* in uring's table of registered files, or -1 */
	uint32_t requests; /* submitted and not done */
	bool is_directory;
	bool is_direct;	  /* ELOQ_IO_DIRECT was asked for */
	bool is_buffered; /* ... and the file system refused it */
};

struct eloq_io_ops {
	const char *name;
	void (*close)(struct eloq_io *io);

	/* Make the next attempt, now or in the next turn. False: no room, offer it again later. */
	bool (*start)(struct eloq_io *io, struct eloq_io_req *req);
	/* Give what was started to the kernel, wait, report ends and poll events. Returns how many
	 * times ready() was called, or a negative error. */
	int (*turn)(struct eloq_io *io, uint64_t wait_ns);
	bool (*has_work)(const struct eloq_io *io);

	/* A file's descriptor is open from the first to the second; a CLOSE comes after it. */
	void (*file_opened)(struct eloq_io *io, struct eloq_io_file *file);
	void (*file_closing)(struct eloq_io *io, struct eloq_io_file *file);
	int (*list)(struct eloq_io *io, struct eloq_io_file *dir, const char *path,
		    int (*each)(void *arg, const char *name, bool is_directory), void *arg);

	/* All three NULL: to this back-end all memory is alike. */
	int (*can_register_memory)(struct eloq_io *io, void *base, size_t bytes);
	int (*register_memory)(struct eloq_io *io, void *base, size_t bytes);
	size_t (*forget_memory)(struct eloq_io *io, void *base, size_t bytes); /* bytes forgotten */
	int (*hold)(struct eloq_io *io, int fd);
	int (*poll_start)(struct eloq_io *io, struct eloq_io_poll *poll);
	void (*poll_stop)(struct eloq_io *io, struct eloq_io_poll *poll);
};

/* The part of a back-end that io.c works with; the first member of the back-end's own structure. */
struct eloq_io {
	const struct eloq_io_ops *ops;
	unsigned depth;
	unsigned started;
	struct eloq_list waiting;
	struct eloq_list ended;
	struct eloq_io_stats stats;
	struct eloq_io_file *files; /* ELOQ_IO_FILES_MAX of them */
	struct eloq_list files_free;
	unsigned files_open;
};

/* Fill in the shared part. Until it has succeeded there is nothing to fini. */
int eloq_io_init(struct eloq_io *io, const struct eloq_io_ops *ops, unsigned depth);
void eloq_io_fini(struct eloq_io *io);

/* A fresh handle without a descriptor, or NULL: too many files are open. */
struct eloq_io_file *eloq_io_take_file(struct eloq_io *io);

int eloq_io_uring_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts,
		       struct eloq_errinfo *reterr);
int eloq_io_pool_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts,
		      struct eloq_errinfo *reterr);

/* A started request has ended, its result is set; done() will be called in this or a later turn. */
void eloq_io_ended(struct eloq_io *io, struct eloq_io_req *req);

/* A started request needs another attempt; it goes before all that wait. */
void eloq_io_again(struct eloq_io *io, struct eloq_io_req *req);

/* Start what waits, as far as the depth allows. False: the back-end had no room for one. */
bool eloq_io_start_waiting(struct eloq_io *io);

/*
 * Look at what an attempt returned: true if the request has ended (result is set), false if it
 * needs another attempt. Any thread that has the request in hand.
 */
bool eloq_io_judge(struct eloq_io_req *req, int64_t attempt);

/* The bytes that the next attempt of a READ or WRITE is for: they start at done_bytes. */
static inline uint32_t eloq_io_attempt_bytes(const struct eloq_io_req *req)
{
	return (uint32_t)eloq_min_u64(req->bytes - req->done_bytes, ELOQ_IO_ATTEMPT_BYTES_MAX);
}

/* OPEN: the handle that will be in ret_file; taken when the request was submitted. */
static inline struct eloq_io_file *eloq_io_open_file(const struct eloq_io_req *req)
{
	return (struct eloq_io_file *)(uintptr_t)req->backend[0];
}

/* OPEN: flags of the next attempt for openat(). */
int eloq_io_open_oflags(const struct eloq_io_req *req);

/* Modes of new files and directories, before umask. */
enum { ELOQ_IO_FILE_MODE = 0644, ELOQ_IO_DIRECTORY_MODE = 0775 };

/* io_plain.c: one attempt by a plain, blocking system call; a count or 0, or -errno. Any thread. */
int64_t eloq_io_plain_attempt(const struct eloq_io_req *req);
int eloq_io_plain_list(struct eloq_io *io, struct eloq_io_file *dir, const char *path,
		       int (*each)(void *arg, const char *name, bool is_directory), void *arg);

/*
 * io_polls.c: a table of watched descriptors. The kernel is given a token (slot number and
 * generation, 46 bits); a token that comes back after its poll was stopped finds nothing.
 */
struct eloq_io_poll_slot {
	struct eloq_list link; /* the back-end's */
	struct eloq_io_poll *poll;
	uint32_t generation;
	int fd;
	unsigned state; /* the back-end's */
};

struct eloq_io_polls {
	struct eloq_io_poll_slot *slots;
	unsigned unused; /* slots from here on were never taken */
	struct eloq_list free;
};

int eloq_io_polls_init(struct eloq_io_polls *polls);
void eloq_io_polls_fini(struct eloq_io_polls *polls);

/* NULL if all are taken. The poll finds its slot by eloq_io_polls_of(). */
struct eloq_io_poll_slot *eloq_io_polls_take(struct eloq_io_polls *polls,
					     struct eloq_io_poll *poll);
/* From here on the slot's token finds nothing; the slot is not yet free, its token still its own.
 */
void eloq_io_polls_forget(struct eloq_io_poll_slot *slot);
/* A forgotten slot may be taken again. */
void eloq_io_polls_free(struct eloq_io_polls *polls, struct eloq_io_poll_slot *slot);

static inline struct eloq_io_poll_slot *eloq_io_polls_of(const struct eloq_io_poll *poll)
{
	return (struct eloq_io_poll_slot *)(uintptr_t)poll->backend[0];
}

uint64_t eloq_io_polls_token(const struct eloq_io_polls *polls,
			     const struct eloq_io_poll_slot *slot);
struct eloq_io_poll_slot *eloq_io_polls_find(const struct eloq_io_polls *polls, uint64_t token);

/*
 * io_regions.c: which registered region a buffer lies in. A region has a slot, 0..max-1, from when
 * it is added until it is removed.
 */
struct eloq_io_region {
	uintptr_t begin, end;
	uint32_t slot;
};

struct eloq_io_regions {
	struct eloq_io_region *sorted;
	unsigned count, max;
};

int eloq_io_regions_init(struct eloq_io_regions *regions, unsigned max);
void eloq_io_regions_fini(struct eloq_io_regions *regions);

/* The slot of the new region, or -ELOQ_ETOOMANY. */
int eloq_io_regions_add(struct eloq_io_regions *regions, const void *base, size_t bytes);
/* Remove one of the regions in [base, base + bytes): its slot and size, or -1 if there is none. */
int eloq_io_regions_remove(struct eloq_io_regions *regions, const void *base, size_t bytes,
			   size_t *ret_bytes);
/* The slot of the region that has all of [buf, buf + bytes), or -1. */
int eloq_io_regions_find(const struct eloq_io_regions *regions, const void *buf, size_t bytes);

#endif
