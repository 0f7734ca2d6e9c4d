/*
 * outbox.h - packets on their way out, and the descriptors that travel with them.
 *
 * Idea: the supervisor never waits for a reader. What a socket does not take at once waits here,
 * in order; descriptors are counted, so a lane that is closed while its message still waits does
 * not pull them away.
 *
 * Always:   packets leave in the order they were put; sent <= queued.
 * Runs on:  the supervisor's thread.
 */
#ifndef ELOQ_DAEMON_SUPERVISOR_OUTBOX_H
#define ELOQ_DAEMON_SUPERVISOR_OUTBOX_H

#include "common/list.h"

#include <stddef.h>
#include <stdint.h>

/* A descriptor with several owners; the last one closes it. */
struct eloq_shared_fd;

/* Takes over @fd, also on failure: NULL without memory. The caller holds the first reference. */
struct eloq_shared_fd *eloq_shared_fd_new(int fd);
struct eloq_shared_fd *eloq_shared_fd_ref(struct eloq_shared_fd *shared);
void eloq_shared_fd_unref(struct eloq_shared_fd *shared); /* NULL is fine */
int eloq_shared_fd_get(const struct eloq_shared_fd *shared);

struct eloq_outbox {
	struct eloq_list packets;
	size_t bytes;	 /* that wait */
	unsigned count;	 /* packets that wait */
	uint64_t queued; /* packets ever put */
	uint64_t sent;	 /* packets that left, or were dropped by clear() */
};

void eloq_outbox_init(struct eloq_outbox *outbox);
void eloq_outbox_clear(struct eloq_outbox *outbox);

/*
 * Put a packet behind the others. @message was set up by eloq_control_init() with the size of its
 * structure. The references in @fds stay the caller's. 0 or -ENOMEM.
 */
int eloq_outbox_put(struct eloq_outbox *outbox, const void *message, const void *text,
		    size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count);

/*
 * Send what the socket takes. 0: nothing waits any more; -EAGAIN: the socket is full; -ENOBUFS: the
 * kernel has too many descriptors on their way, try again later (the socket is not full, so waiting
 * for room would spin); another -errno: the socket is broken.
 */
int eloq_outbox_flush(struct eloq_outbox *outbox, int socket);

#endif
