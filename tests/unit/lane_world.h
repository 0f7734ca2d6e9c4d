/*
 * lane_world.h - one lane with both its ends, for tests and benchmarks of shm/.
 *
 * Real segments, mapped for the worker and a second time, read-only, for the client: a client that
 * wrote where it must not would die. With one_mapping both ends use the same addresses, which is
 * what TSan needs to see that they meet.
 */
#ifndef ELOQ_TESTS_UNIT_LANE_WORLD_H
#define ELOQ_TESTS_UNIT_LANE_WORLD_H

#include "common/compiler.h"
#include "common/fd.h"
#include "shm/lane.h"
#include "shm/segment.h"

#include <sys/eventfd.h>

struct lane_world {
	uint32_t req_ring_bytes, ans_ring_bytes;
	bool one_mapping;
	int doorbell;
	void *req_base, *ans_base, *page_base;
	void *ans_view, *page_view; /* the client's */
	struct eloq_lane_client client;
	struct eloq_lane_worker worker;
};

static inline void *lane_world_map(int fd, size_t ring_bytes, size_t bytes, bool writable)
{
	void *base;
	int r = ring_bytes ? eloq_ring_segment_map(fd, ring_bytes, writable, &base)
			   : eloq_segment_map(fd, bytes, writable, &base);

	eloq_assert(r == 0);
	return base;
}

/* Makes a segment; *ret_view, if asked for, is a mapping of a read-only descriptor. */
static inline void *lane_world_segment(uint32_t magic, size_t ring_bytes, size_t bytes,
				       void **ret_view)
{
	void *base;
	int fd, reader;

	eloq_assert(eloq_segment_create("lane-world", magic, bytes, &fd) == 0);
	base = lane_world_map(fd, ring_bytes, bytes, true);
	if (ret_view) {
		eloq_assert(eloq_segment_reopen_read_only(fd, &reader) == 0);
		*ret_view = lane_world_map(reader, ring_bytes, bytes, false);
		eloq_fd_close(reader);
	}
	eloq_fd_close(fd);
	return base;
}

static inline void lane_world_open(struct lane_world *w, uint32_t req_ring_bytes,
				   uint32_t ans_ring_bytes, bool one_mapping)
{
	*w = (struct lane_world){
		.req_ring_bytes = req_ring_bytes,
		.ans_ring_bytes = ans_ring_bytes,
		.one_mapping = one_mapping,
	};
	w->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eloq_assert(w->doorbell >= 0);
	w->req_base = lane_world_segment(ELOQ_REQUEST_SEGMENT_MAGIC, req_ring_bytes,
					 ELOQ_SEGMENT_HEADER_BYTES + req_ring_bytes, NULL);
	w->ans_base = lane_world_segment(ELOQ_ANSWER_SEGMENT_MAGIC, ans_ring_bytes,
					 ELOQ_SEGMENT_HEADER_BYTES + ans_ring_bytes,
					 one_mapping ? NULL : &w->ans_view);
	w->page_base = lane_world_segment(ELOQ_WORKER_PAGE_MAGIC, 0, ELOQ_WORKER_PAGE_BYTES,
					  one_mapping ? NULL : &w->page_view);
	if (one_mapping) {
		w->ans_view = w->ans_base;
		w->page_view = w->page_base;
	}
	eloq_lane_client_init(&w->client, w->req_base, req_ring_bytes, w->ans_view, ans_ring_bytes,
			      w->page_view, w->doorbell);
}

/* A new worker takes the lane over; what the one before kept privately is gone. */
static inline void lane_world_new_worker(struct lane_world *w, uint32_t incarnation)
{
	eloq_lane_worker_init(&w->worker, w->req_base, w->req_ring_bytes, w->ans_base,
			      w->ans_ring_bytes, incarnation);
	eloq_lane_worker_announce(&w->worker);
}

/* Both ends in one thread: from announce to serving. */
static inline void lane_world_sync(struct lane_world *w, uint32_t incarnation)
{
	struct eloq_request request;
	uint32_t reason;
	size_t offset;

	lane_world_new_worker(w, incarnation);
	eloq_assert(eloq_lane_client_step(&w->client, &reason) == ELOQ_LANE_EVENT_WAIT);
	eloq_assert(eloq_lane_worker_peek(&w->worker, &request, &offset, &reason) == 0);
	eloq_assert(eloq_lane_client_step(&w->client, &reason) == ELOQ_LANE_EVENT_RESYNC);
}

static inline void lane_world_close(struct lane_world *w)
{
	if (!w->one_mapping) {
		eloq_ring_segment_unmap(w->ans_view, w->ans_ring_bytes);
		eloq_segment_unmap(w->page_view, ELOQ_WORKER_PAGE_BYTES);
	}
	eloq_ring_segment_unmap(w->req_base, w->req_ring_bytes);
	eloq_ring_segment_unmap(w->ans_base, w->ans_ring_bytes);
	eloq_segment_unmap(w->page_base, ELOQ_WORKER_PAGE_BYTES);
	eloq_fd_close(w->doorbell);
}

#endif
