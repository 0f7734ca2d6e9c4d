/*
 * lane.h - the two ends of a lane: how a request gets across and an answer comes back.
 *
 *   client end                                     worker end
 *   put .. put, publish --- request ring --->      peek, accept (copies), release
 *   take, done          <-- answer ring  ----      answer .. answer, publish
 *
 * Each end keeps its own positions privately and a cached copy of the other's; only publishing
 * stores to shared words. The worker's end copies each header and payload once, then judges the
 * copy, and closes the lane on a lie. Taking a request reserves room for its answer, so that a
 * worker never waits for a client.
 *
 * RESYNC (a worker died and another has the lane, or the lane is new):
 *   worker  generation = G, wakes the client, leaves the lane alone
 *   client  takes what the old worker had published, sets its positions to 0, generation = G,
 *           rings the doorbell, waits
 *   worker  sees G, sets its positions to 0, serving = G, state = OPEN, wakes the client
 *   client  sees serving == G: publishes what is unanswered in id order, then goes on
 *
 * Threads: one for each end. All atomic edges: docs/concurrency.md.
 */
#ifndef ELOQ_SHM_LANE_H
#define ELOQ_SHM_LANE_H

#include "shm/layout.h"
#include "shm/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- The client's end --------------------------------------------------------------------------
 */

struct eloq_lane_client {
	struct eloq_request_segment *req;
	const struct eloq_answer_segment *ans;
	const struct eloq_worker_page *worker;
	uint8_t *req_ring;
	const uint8_t *ans_ring;
	uint32_t req_ring_bytes, ans_ring_bytes;
	int doorbell;	     /* eventfd, borrowed; negative: nobody to ring */
	uint32_t generation; /* that our positions belong to; 0: none yet */
	bool synced;	     /* serving == generation was seen */
	bool wants_space;    /* the last put found the ring full */
	uint64_t req_tail;   /* where the next record goes (private) */
	uint64_t req_published;
	uint64_t req_head_seen; /* cached copy of the worker's */
	uint64_t ans_head;	/* next answer to take (private) */
	uint64_t ans_taken;	/* stored to the segment */
	uint64_t ans_tail_seen;
};

/* Map-less set-up: bases come from eloq_ring_segment_map(), the page from eloq_segment_map(). */
void eloq_lane_client_init(struct eloq_lane_client *lane, void *req_base, uint32_t req_ring_bytes,
			   const void *ans_base, uint32_t ans_ring_bytes, const void *worker_page,
			   int doorbell);

enum eloq_lane_event {
	ELOQ_LANE_EVENT_NONE,	/* nothing new, or serving normally */
	ELOQ_LANE_EVENT_RESYNC, /* positions are 0 and the worker serves: republish the unanswered
				 */
	ELOQ_LANE_EVENT_WAIT,	/* a resync is under way: answers of the old worker are still to be
				 * taken, or the new one has not confirmed; nothing may be put */
	ELOQ_LANE_EVENT_CLOSED, /* the worker closed the lane; reason in *ret_reason */
};

/*
 * Look at the worker's generation and state, and take the next step of a resync. Call it before
 * putting and when waiting. During WAIT go on calling eloq_lane_client_take() until it is empty,
 * then this again. What take() showed is not valid after this.
 */
enum eloq_lane_event eloq_lane_client_step(struct eloq_lane_client *lane, uint32_t *ret_reason);

/*
 * Put a request into the ring: header, key, value (the value only if it is inline). Invisible
 * until published. -EAGAIN: no room now; -ELOQ_ETOOLONG: more than a quarter of the ring, use bulk.
 */
int eloq_lane_client_put(struct eloq_lane_client *lane, const struct eloq_request *request,
			 const void *key, const void *value);

/* Make what was put visible; ring the doorbell if the worker sleeps. */
void eloq_lane_client_publish(struct eloq_lane_client *lane);

/*
 * The next answer: *ret_key and *ret_value point into the ring (read-only, but it is the daemon's
 * memory: trusted) and are valid until eloq_lane_client_done(). Returns 1, 0 if there is none, or
 * -ELOQ_EPROTOCOL.
 */
int eloq_lane_client_take(struct eloq_lane_client *lane, struct eloq_answer *ret_answer,
			  const uint8_t **ret_key, const uint8_t **ret_value);
/* Give the space of all answers taken so far back; wakes the worker if it waits for space. */
void eloq_lane_client_done(struct eloq_lane_client *lane);

/* True if take() would find something, or step() would get further. Cheap; for spinning. */
bool eloq_lane_client_has_news(const struct eloq_lane_client *lane);

/*
 * Sleeping, for one or several lanes: done() each, prepare() each (sets the flag, fences, returns
 * the wake counter's value), look at each once more (has_news(), and put() if the ring was full),
 * then eloq_lane_wait() on those values, then awake() each. A wake that came in between changes the
 * counter, so that the wait returns at once.
 */
uint32_t eloq_lane_client_prepare_sleep(struct eloq_lane_client *lane);
void eloq_lane_client_awake(struct eloq_lane_client *lane);
struct eloq_lane_waiter {
	const struct eloq_lane_client *lane;
	uint32_t wake_seen;
};
/* futex (futex_waitv for several) for at most @timeout_ns. 0: woken or changed; -ETIMEDOUT; -EINTR.
 */
int eloq_lane_wait(const struct eloq_lane_waiter *waiters, unsigned count, uint64_t timeout_ns);

/* --- The worker's end --------------------------------------------------------------------------
 */

struct eloq_lane_worker {
	const struct eloq_request_segment *req;
	struct eloq_answer_segment *ans;
	const uint8_t *req_ring;
	uint8_t *ans_ring;
	uint32_t req_ring_bytes, ans_ring_bytes;
	uint32_t generation; /* our incarnation */
	bool serving;
	bool closed;
	bool blocked;		/* for want of answer room; wants_space is set */
	bool wake_due;		/* something changed since the last publish */
	uint64_t req_taken;	/* end of the requests accepted (private) */
	uint64_t req_released;	/* req_taken as last stored to the segment */
	uint64_t req_tail_seen; /* cached, checked copy of the client's */
	uint64_t ans_tail;	/* end of the answers written (private) */
	uint64_t ans_published;
	uint64_t ans_head_seen;
	uint64_t reserved;     /* bytes promised to answers not yet written */
	uint64_t last_id;      /* of the last request accepted */
	uint32_t record_bytes; /* of the request that peek() showed */
};

void eloq_lane_worker_init(struct eloq_lane_worker *lane, const void *req_base,
			   uint32_t req_ring_bytes, void *ans_base, uint32_t ans_ring_bytes,
			   uint32_t incarnation);

/* Announce our incarnation to the client (first step of RESYNC) and wake it. */
void eloq_lane_worker_announce(struct eloq_lane_worker *lane);

/*
 * The next request's header, copied and checked against the framing rules. Returns 1; 0: nothing
 * (or RESYNC not done); -EAGAIN: no room for its answer, lane->blocked is set; -ELOQ_EPROTOCOL: a
 * lie, *ret_reason says which: the caller closes the lane. *ret_request means something only
 * with 1. A blocked lane is looked at again after answers were given or the doorbell rang.
 */
int eloq_lane_worker_peek(struct eloq_lane_worker *lane, struct eloq_request *ret_request,
			  size_t *ret_payload_offset, uint32_t *ret_reason);

/*
 * Take the request that peek() showed: its key and inline value are copied to @payload (key_bytes +
 * eloq_request_inline_bytes() long), its answer's room is reserved. Returns the bytes reserved,
 * which the answer must not exceed.
 */
uint32_t eloq_lane_worker_accept(struct eloq_lane_worker *lane, const struct eloq_request *request,
				 size_t payload_offset, uint8_t *payload);

/* Most bytes of key and value together that an answer to this request may carry in the ring. */
uint32_t eloq_lane_inline_limit(const struct eloq_request *request, uint32_t ans_ring_bytes);

/*
 * Write an answer into the room that was reserved for it. value points to inline bytes, or is NULL
 * when they lie in bulk. Invisible until published.
 */
void eloq_lane_worker_answer(struct eloq_lane_worker *lane, uint32_t reserved,
			     const struct eloq_answer *answer, const void *key, const void *value);

/* Publish answers and released request space; wake the client if it sleeps. Once a turn. */
void eloq_lane_worker_publish(struct eloq_lane_worker *lane);

/* Mark the lane closed with a reason and wake the client; nothing is read from it again. */
void eloq_lane_worker_close(struct eloq_lane_worker *lane, enum eloq_lane_reason reason);

/* --- The worker's sleep (Dekker with publish, one flag for all lanes) ---------------------------
 */

/* Set the flag and fence; then sweep every lane once; only then sleep. */
void eloq_worker_page_set_asleep(struct eloq_worker_page *page);
void eloq_worker_page_set_awake(struct eloq_worker_page *page);

#endif
