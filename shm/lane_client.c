/*
 * lane_client.c - the client's end of a lane: puts requests, takes answers, resynchronises.
 *
 * Idea: everything that moves often is private (positions, cached copies of the worker's); the
 * shared words are stored once for a burst and loaded only when the cached copy says full or empty.
 * Answers are read where they lie: the answer segment is read-only here and its writer is trusted.
 *
 * Always:   req_head_seen <= req_published <= req_tail <= req_head_seen + ring bytes;
 *	     ans_taken <= ans_head <= ans_tail_seen. Nothing is put unless synced.
 * Runs on:  the one thread that uses the channel.
 * Fails by: -EAGAIN, -ELOQ_ETOOLONG, -ELOQ_EPROTOCOL.     docs/concurrency.md, "Lanes".
 */
#include "shm/lane.h"

#include "shm/doorbell.h"
#include "shm/ring.h"

void eloq_lane_client_init(struct eloq_lane_client *lane, void *req_base, uint32_t req_ring_bytes,
			   const void *ans_base, uint32_t ans_ring_bytes, const void *worker_page,
			   int doorbell)
{
	eloq_assert(eloq_is_power_of_two(req_ring_bytes) && eloq_is_power_of_two(ans_ring_bytes));
	*lane = (struct eloq_lane_client){
		.req = req_base,
		.ans = ans_base,
		.worker = worker_page,
		.req_ring = (uint8_t *)req_base + ELOQ_SEGMENT_HEADER_BYTES,
		.ans_ring = (const uint8_t *)ans_base + ELOQ_SEGMENT_HEADER_BYTES,
		.req_ring_bytes = req_ring_bytes,
		.ans_ring_bytes = ans_ring_bytes,
		.doorbell = doorbell,
	};
}

/* --- RESYNC ------------------------------------------------------------------------------------
 */

/* All positions at 0, then the worker's number: from here on the old generation is forgotten. */
static void lane_client_reset(struct eloq_lane_client *lane, uint32_t generation)
{
	lane->generation = generation;
	lane->synced = false;
	lane->wants_space = false;
	lane->req_tail = 0;
	lane->req_published = 0;
	lane->req_head_seen = 0;
	lane->ans_head = 0;
	lane->ans_taken = 0;
	lane->ans_tail_seen = 0;
	/* Relaxed: the store of generation publishes them. */
	atomic_store_explicit(&lane->req->req_tail, 0, memory_order_relaxed);
	atomic_store_explicit(&lane->req->ans_head, 0, memory_order_relaxed);
	/* G3 pairs with G4 in lane_worker_try_to_serve(): who sees the number sees positions of 0,
	 * and our reads of the old answers are over before the ring is written again. */
	atomic_store_explicit(&lane->req->generation, generation, memory_order_release);
	/* The worker may be asleep already, and this happens once in its life: ring in any case. */
	eloq_doorbell_ring(lane->doorbell);
}

static bool lane_client_has_answers(const struct eloq_lane_client *lane)
{
	/* Relaxed: says only that there is something; take() loads it again to read. */
	return lane->synced &&
	       lane->ans_head != atomic_load_explicit(&lane->ans->ans_tail, memory_order_relaxed);
}

enum eloq_lane_event eloq_lane_client_step(struct eloq_lane_client *lane, uint32_t *ret_reason)
{
	const struct eloq_answer_segment *ans = lane->ans;
	uint32_t generation;

	/* X2 pairs with X1 in eloq_lane_worker_close(): the reason was stored before. */
	if (eloq_unlikely(atomic_load_explicit(&ans->state, memory_order_acquire) ==
			  ELOQ_LANE_CLOSED)) {
		*ret_reason = atomic_load_explicit(&ans->reason, memory_order_relaxed);
		return ELOQ_LANE_EVENT_CLOSED;
	}
	/* G2 pairs with G1 in eloq_lane_worker_announce(): what the predecessor had published
	 * is visible, so that an empty ring is really empty. */
	generation = atomic_load_explicit(&ans->generation, memory_order_acquire);
	if (eloq_likely(generation == lane->generation && lane->synced))
		return ELOQ_LANE_EVENT_NONE;
	if (generation != lane->generation) {
		if (!lane_client_has_answers(lane))
			lane_client_reset(lane, generation);
		return ELOQ_LANE_EVENT_WAIT;
	}
	/* G6 pairs with G5 in lane_worker_try_to_serve(): the worker's words are of this
	 * generation from here on. A lane that no worker has had yet has generation 0. */
	if (generation == 0 ||
	    atomic_load_explicit(&ans->serving, memory_order_acquire) != generation)
		return ELOQ_LANE_EVENT_WAIT;
	lane->synced = true;
	return ELOQ_LANE_EVENT_RESYNC;
}

bool eloq_lane_client_has_news(const struct eloq_lane_client *lane)
{
	const struct eloq_answer_segment *ans = lane->ans;

	/* Relaxed throughout: take() and step() look again, with the orders that they need. */
	if (lane_client_has_answers(lane))
		return true;
	if (atomic_load_explicit(&ans->generation, memory_order_relaxed) != lane->generation ||
	    atomic_load_explicit(&ans->state, memory_order_relaxed) == ELOQ_LANE_CLOSED)
		return true;
	return !lane->synced && lane->generation != 0 &&
	       atomic_load_explicit(&ans->serving, memory_order_relaxed) == lane->generation;
}

/* --- Requests ----------------------------------------------------------------------------------
 */

static bool lane_client_has_room(struct eloq_lane_client *lane, size_t bytes)
{
	const uint64_t end = lane->req_tail + bytes;

	if (eloq_likely(end - lane->req_head_seen <= lane->req_ring_bytes))
		return true;
	/* P4 pairs with P3 in eloq_lane_worker_publish(): the worker has copied what lay there
	 * before we write over it. */
	lane->req_head_seen = atomic_load_explicit(&lane->ans->req_head, memory_order_acquire);
	return end - lane->req_head_seen <= lane->req_ring_bytes;
}

int eloq_lane_client_put(struct eloq_lane_client *lane, const struct eloq_request *request,
			 const void *key, const void *value)
{
	const size_t bytes = eloq_request_bytes(request);
	const size_t pad = eloq_ring_pad_bytes(lane->req_tail, bytes);
	uint8_t *p;

	if (bytes > eloq_ring_record_bytes_max(lane->req_ring_bytes))
		return -ELOQ_ETOOLONG;
	if (eloq_unlikely(!lane->synced))
		return -EAGAIN;
	lane->wants_space = !lane_client_has_room(lane, pad + bytes);
	if (lane->wants_space)
		return -EAGAIN;
	p = lane->req_ring + (lane->req_tail & (lane->req_ring_bytes - 1));
	if (pad)
		eloq_record_pad(p, pad);
	p = eloq_request_encode(p + pad, request);
	eloq_ring_put_payload(p, key, request->key_bytes, value,
			      eloq_request_inline_bytes(request));
	lane->req_tail += pad + bytes;
	return 0;
}

static bool lane_client_worker_sleeps(const struct eloq_lane_client *lane)
{
	/* Relaxed: ordered by the fence before it. */
	return atomic_load_explicit(&lane->worker->asleep, memory_order_relaxed) != 0;
}

void eloq_lane_client_publish(struct eloq_lane_client *lane)
{
	if (lane->req_tail == lane->req_published)
		return;
	lane->req_published = lane->req_tail;
	/* P1 pairs with P2 in lane_worker_load_tail(): the records' bytes come before it. */
	atomic_store_explicit(&lane->req->req_tail, lane->req_tail, memory_order_release);
	/* D1 pairs with D2 in eloq_worker_page_set_asleep(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (lane_client_worker_sleeps(lane))
		eloq_doorbell_ring(lane->doorbell);
}

/* --- Answers -----------------------------------------------------------------------------------
 */

/* 1: an answer lies at ans_head; 0: none; the daemon is trusted, but a damaged word is told. */
static int lane_client_look_for_answers(struct eloq_lane_client *lane)
{
	uint64_t tail;

	if (lane->ans_head != lane->ans_tail_seen)
		return 1;
	if (eloq_unlikely(!lane->synced))
		return 0;
	/* A2 pairs with A1 in eloq_lane_worker_publish(): the answers' bytes come before it. */
	tail = atomic_load_explicit(&lane->ans->ans_tail, memory_order_acquire);
	if (tail == lane->ans_head)
		return 0;
	if (tail - lane->ans_head > lane->ans_ring_bytes || tail % ELOQ_RECORD_ALIGN)
		return -ELOQ_EPROTOCOL;
	lane->ans_tail_seen = tail;
	return 1;
}

int eloq_lane_client_take(struct eloq_lane_client *lane, struct eloq_answer *ret_answer,
			  const uint8_t **ret_key, const uint8_t **ret_value)
{
	const uint8_t *p;
	size_t bytes, offset, pad_bytes = 0;
	uint64_t left;
	bool pad;
	int r;

	r = lane_client_look_for_answers(lane);
	if (r <= 0)
		return r;
	left = lane->ans_tail_seen - lane->ans_head;
	p = lane->ans_ring + (lane->ans_head & (lane->ans_ring_bytes - 1));
	bytes = eloq_record_peek(p, &pad);
	if (bytes != 0 && pad && bytes < left) {
		pad_bytes = bytes;
		bytes = eloq_record_peek(p + pad_bytes, &pad);
	}
	if (bytes == 0 || pad || bytes > left - pad_bytes)
		return -ELOQ_EPROTOCOL;
	p += pad_bytes;
	r = eloq_answer_decode(p, bytes, bytes, ret_answer, &offset);
	if (r < 0)
		return r;
	*ret_key = p + offset;
	*ret_value = p + offset + ret_answer->key_bytes;
	lane->ans_head += pad_bytes + bytes;
	return 1;
}

void eloq_lane_client_done(struct eloq_lane_client *lane)
{
	if (lane->ans_head == lane->ans_taken)
		return;
	lane->ans_taken = lane->ans_head;
	/* A3 pairs with A4 in lane_worker_load_head(): we have read the answers before the worker
	 * writes over them. */
	atomic_store_explicit(&lane->req->ans_head, lane->ans_head, memory_order_release);
	/* D5 pairs with D6 in lane_worker_find_room(), and as D1 with D2: a worker that we see
	 * awake, or content, looks at the position after this. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&lane->ans->wants_space, memory_order_relaxed) &&
	    lane_client_worker_sleeps(lane))
		eloq_doorbell_ring(lane->doorbell);
}
