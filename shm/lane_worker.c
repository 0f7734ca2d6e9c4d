/*
 * lane_worker.c - the worker's end of a lane: takes requests from a client that it does not trust,
 * and gives answers without ever waiting for it.
 *
 * Idea: the client's segment is a stream of foreign bytes. A shared word is loaded once, judged
 * against our private positions and only then kept; a header is copied once and judged as a copy;
 * a payload is copied once, by lengths that come from the judged header. What the client does to
 * the memory meanwhile changes what it asked for, never what we do.
 *
 * Answers have room before they exist: a request is taken only if the longest answer to it fits
 * beside all other answers owed, so writing one cannot fail.
 *
 * Always:   req_released <= req_taken <= req_tail_seen <= req_taken + ring bytes;
 *	     ans_head_seen <= ans_published <= ans_tail;
 *	     ans_tail + reserved <= ans_head_seen + ring bytes.
 * Runs on:  the worker's thread.
 * Fails by: -EAGAIN (no room for an answer), -ELOQ_EPROTOCOL and a reason (the client lied; the
 *	     caller closes the lane, and nothing else is hurt).  docs/concurrency.md, "Lanes".
 */
#include "shm/lane.h"

#include "common/limits.h"
#include "shm/doorbell.h"
#include "shm/ring.h"

static_assert(ELOQ_RING_BYTES_MAX / 4 / ELOQ_RECORD_ALIGN <= UINT16_MAX,
	      "a record's length in units fits its 16 bits");
static_assert(ELOQ_RING_BYTES_MIN / 4 >= ELOQ_PADDED_RECORD_BYTES_MAX,
	      "an empty answer ring has room for the smallest reservation");

void eloq_lane_worker_init(struct eloq_lane_worker *lane, const void *req_base,
			   uint32_t req_ring_bytes, void *ans_base, uint32_t ans_ring_bytes,
			   uint32_t incarnation)
{
	eloq_assert(incarnation != 0);
	eloq_assert(eloq_is_power_of_two(req_ring_bytes) && req_ring_bytes >= ELOQ_RING_BYTES_MIN &&
		    req_ring_bytes <= ELOQ_RING_BYTES_MAX);
	eloq_assert(eloq_is_power_of_two(ans_ring_bytes) && ans_ring_bytes >= ELOQ_RING_BYTES_MIN &&
		    ans_ring_bytes <= ELOQ_RING_BYTES_MAX);
	*lane = (struct eloq_lane_worker){
		.req = req_base,
		.ans = ans_base,
		.req_ring = (const uint8_t *)req_base + ELOQ_SEGMENT_HEADER_BYTES,
		.ans_ring = (uint8_t *)ans_base + ELOQ_SEGMENT_HEADER_BYTES,
		.req_ring_bytes = req_ring_bytes,
		.ans_ring_bytes = ans_ring_bytes,
		.generation = incarnation,
	};
}

static int lane_worker_refuse(uint32_t *ret_reason, enum eloq_lane_reason reason)
{
	*ret_reason = reason;
	return -ELOQ_EPROTOCOL;
}

/* --- RESYNC ------------------------------------------------------------------------------------
 */

void eloq_lane_worker_announce(struct eloq_lane_worker *lane)
{
	/* G1 pairs with G2 in eloq_lane_client_step(). What the predecessor stored happened before,
	 * as the supervisor started us after its death. */
	atomic_store_explicit(&lane->ans->generation, lane->generation, memory_order_release);
	eloq_doorbell_wake_client(lane->ans);
}

/* Second half of RESYNC: once the client has our number, both start at 0. */
static bool lane_worker_try_to_serve(struct eloq_lane_worker *lane)
{
	struct eloq_answer_segment *ans = lane->ans;

	/* G4 pairs with G3 in lane_client_reset(). */
	if (atomic_load_explicit(&lane->req->generation, memory_order_acquire) != lane->generation)
		return false;
	lane->serving = true;
	/* Relaxed: the store of serving publishes them. Private positions are 0 since init. */
	atomic_store_explicit(&ans->ans_tail, 0, memory_order_relaxed);
	atomic_store_explicit(&ans->req_head, 0, memory_order_relaxed);
	atomic_store_explicit(&ans->wants_space, 0, memory_order_relaxed);
	atomic_store_explicit(&ans->state, ELOQ_LANE_OPEN, memory_order_relaxed);
	/* G5 pairs with G6 in eloq_lane_client_step(). */
	atomic_store_explicit(&ans->serving, lane->generation, memory_order_release);
	eloq_doorbell_wake_client(ans);
	return true;
}

/* --- The client's positions --------------------------------------------------------------------
 */

/* 1: something is published behind req_taken; 0: nothing; -ELOQ_EPROTOCOL: not a position. */
static int lane_worker_load_tail(struct eloq_lane_worker *lane, uint32_t *ret_reason)
{
	/* P2 pairs with P1 in eloq_lane_client_publish(). */
	uint64_t tail = atomic_load_explicit(&lane->req->req_tail, memory_order_acquire);

	if (tail == lane->req_taken)
		return 0;
	if (tail - lane->req_taken > lane->req_ring_bytes || tail % ELOQ_RECORD_ALIGN)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_POSITION);
	lane->req_tail_seen = tail;
	return 1;
}

/* The client may take what was published, and does not give answers back that it has taken. */
static int lane_worker_load_head(struct eloq_lane_worker *lane, uint32_t *ret_reason)
{
	/* A4 pairs with A3 in eloq_lane_client_done(). */
	uint64_t head = atomic_load_explicit(&lane->req->ans_head, memory_order_acquire);

	if (head - lane->ans_head_seen > lane->ans_published - lane->ans_head_seen ||
	    head % ELOQ_RECORD_ALIGN)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_POSITION);
	lane->ans_head_seen = head;
	return 0;
}

/* --- Room for answers --------------------------------------------------------------------------
 */

uint32_t eloq_lane_inline_limit(const struct eloq_request *request, uint32_t ans_ring_bytes)
{
	const uint32_t bound =
		eloq_ring_record_bytes_max(ans_ring_bytes) - ELOQ_ANSWER_FIXED_BYTES_MAX;
	uint64_t wanted = ELOQ_INLINE_ANSWER_BYTES_DEFAULT;

	if (request->flags & ELOQ_REQ_INLINE_LIMIT)
		wanted = request->words[ELOQ_WORD_INLINE_LIMIT];
	return (uint32_t)eloq_min_u64(wanted, bound);
}

/*
 * The longest answer with everything that an answer can have. Only a record that fits a line gets
 * a PAD, so a longer one needs no room for it, and a shorter one never more than this least.
 */
static uint32_t lane_worker_reservation(const struct eloq_lane_worker *lane,
					const struct eloq_request *request)
{
	uint64_t bytes = eloq_round_up(
		ELOQ_ANSWER_FIXED_BYTES_MAX + eloq_lane_inline_limit(request, lane->ans_ring_bytes),
		ELOQ_RECORD_ALIGN);

	return (uint32_t)eloq_max_u64(bytes, ELOQ_PADDED_RECORD_BYTES_MAX);
}

static bool lane_worker_fits(const struct eloq_lane_worker *lane, uint32_t bytes)
{
	return lane->ans_tail + lane->reserved + bytes - lane->ans_head_seen <=
	       lane->ans_ring_bytes;
}

static int lane_worker_look_for_room(struct eloq_lane_worker *lane, uint32_t bytes,
				     uint32_t *ret_reason)
{
	int r = lane_worker_load_head(lane, ret_reason);

	return r < 0 ? r : lane_worker_fits(lane, bytes);
}

/* 1: there is room; 0: the client has been asked for it; -ELOQ_EPROTOCOL: not a position. */
static int lane_worker_find_room(struct eloq_lane_worker *lane, uint32_t bytes,
				 uint32_t *ret_reason)
{
	int r;

	if (eloq_likely(lane_worker_fits(lane, bytes)))
		return 1;
	r = lane_worker_look_for_room(lane, bytes, ret_reason);
	if (r != 0 || lane->blocked)
		return r;
	lane->blocked = true;
	/* Relaxed: the fence orders it. */
	atomic_store_explicit(&lane->ans->wants_space, 1, memory_order_relaxed);
	/* D6 pairs with D5 in eloq_lane_client_done(): either we see the space that it gives back
	 * or it sees our wish. */
	atomic_thread_fence(memory_order_seq_cst);
	return lane_worker_look_for_room(lane, bytes, ret_reason);
}

static void lane_worker_unblock(struct eloq_lane_worker *lane)
{
	lane->blocked = false;
	/* Relaxed: a client that still sees the wish rings once for nothing. */
	atomic_store_explicit(&lane->ans->wants_space, 0, memory_order_relaxed);
}

/* --- Requests ----------------------------------------------------------------------------------
 */

/* The ring is mapped twice, so what starts less than a ring behind req_taken is contiguous. */
static const uint8_t *lane_worker_at(const struct eloq_lane_worker *lane, size_t offset)
{
	return lane->req_ring + (lane->req_taken & (lane->req_ring_bytes - 1)) + offset;
}

/*
 * Reads the record at req_taken, behind its PAD if it has one. A PAD is published together with
 * the record that it makes room for, so two in a row, or one at the end, are a lie.
 */
static int lane_worker_read_record(struct eloq_lane_worker *lane, struct eloq_request *ret_request,
				   size_t *ret_payload_offset, uint32_t *ret_reason)
{
	const uint64_t published = lane->req_tail_seen - lane->req_taken;
	uint8_t copy[ELOQ_REQUEST_FIXED_BYTES_MAX];
	size_t bytes, start = 0, fixed_bytes, offset;
	bool pad;

	eloq_ring_copy_in(copy, lane_worker_at(lane, 0), ELOQ_REQUEST_HEADER_BYTES);
	bytes = eloq_record_peek(copy, &pad);
	if (bytes != 0 && pad) {
		start = bytes;
		eloq_ring_copy_in(copy, lane_worker_at(lane, start), ELOQ_REQUEST_HEADER_BYTES);
		bytes = eloq_record_peek(copy, &pad);
	}
	if (bytes == 0 || pad || published < start || bytes > published - start)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_RECORD);
	if (bytes > eloq_ring_record_bytes_max(lane->req_ring_bytes))
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_LIMIT);
	fixed_bytes = eloq_request_fixed_bytes(copy);
	if (fixed_bytes > ELOQ_REQUEST_HEADER_BYTES)
		eloq_ring_copy_in(copy + ELOQ_REQUEST_HEADER_BYTES,
				  lane_worker_at(lane, start + ELOQ_REQUEST_HEADER_BYTES),
				  fixed_bytes - ELOQ_REQUEST_HEADER_BYTES);
	if (eloq_request_decode(copy, fixed_bytes, bytes, ret_request, &offset) < 0)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_RECORD);
	lane->record_bytes = (uint32_t)(start + bytes);
	*ret_payload_offset = start + offset;
	return 0;
}

/* What holds for every request, whatever it asks for. */
static int lane_worker_judge(const struct eloq_lane_worker *lane,
			     const struct eloq_request *request, uint32_t *ret_reason)
{
	const uint64_t distance = request->id - request->answered_below;

	if (request->id <= lane->last_id || request->answered_below > request->id ||
	    distance > ELOQ_ID_DISTANCE_MAX)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_ID);
	if (request->key_bytes > ELOQ_KEY_BYTES_MAX || request->value_bytes > ELOQ_VALUE_BYTES_MAX)
		return lane_worker_refuse(ret_reason, ELOQ_LANE_REASON_BAD_LIMIT);
	return 0;
}

int eloq_lane_worker_peek(struct eloq_lane_worker *lane, struct eloq_request *ret_request,
			  size_t *ret_payload_offset, uint32_t *ret_reason)
{
	int r;

	if (eloq_unlikely(lane->closed))
		return 0;
	if (eloq_unlikely(!lane->serving) && !lane_worker_try_to_serve(lane))
		return 0;
	if (lane->req_taken == lane->req_tail_seen) {
		r = lane_worker_load_tail(lane, ret_reason);
		if (r <= 0)
			return r;
	}
	r = lane_worker_read_record(lane, ret_request, ret_payload_offset, ret_reason);
	if (r < 0)
		return r;
	r = lane_worker_judge(lane, ret_request, ret_reason);
	if (r < 0)
		return r;
	r = lane_worker_find_room(lane, lane_worker_reservation(lane, ret_request), ret_reason);
	if (r <= 0)
		return r < 0 ? r : -EAGAIN;
	if (eloq_unlikely(lane->blocked))
		lane_worker_unblock(lane);
	return 1;
}

uint32_t eloq_lane_worker_accept(struct eloq_lane_worker *lane, const struct eloq_request *request,
				 size_t payload_offset, uint8_t *payload)
{
	const size_t payload_bytes = request->key_bytes + eloq_request_inline_bytes(request);
	const uint32_t reserved = lane_worker_reservation(lane, request);

	eloq_assert(payload_offset + payload_bytes <= lane->record_bytes);
	eloq_assert_slow(lane_worker_fits(lane, reserved));
	eloq_ring_copy_in(payload, lane_worker_at(lane, payload_offset), payload_bytes);
	lane->req_taken += lane->record_bytes;
	lane->record_bytes = 0;
	lane->last_id = request->id;
	lane->reserved += reserved;
	lane->wake_due = true;
	return reserved;
}

/* --- Answers -----------------------------------------------------------------------------------
 */

void eloq_lane_worker_answer(struct eloq_lane_worker *lane, uint32_t reserved,
			     const struct eloq_answer *answer, const void *key, const void *value)
{
	const size_t bytes = eloq_answer_bytes(answer);
	const size_t pad = eloq_ring_pad_bytes(lane->ans_tail, bytes);
	uint8_t *p = lane->ans_ring + (lane->ans_tail & (lane->ans_ring_bytes - 1));

	eloq_assert(reserved <= lane->reserved && pad + bytes <= reserved);
	lane->reserved -= reserved;
	if (eloq_unlikely(lane->closed))
		return;
	if (pad)
		eloq_record_pad(p, pad);
	p = eloq_answer_encode(p + pad, answer);
	eloq_ring_put_payload(p, key, answer->key_bytes, value, eloq_answer_inline_bytes(answer));
	lane->ans_tail += pad + bytes;
	lane->wake_due = true;
}

void eloq_lane_worker_publish(struct eloq_lane_worker *lane)
{
	uint32_t brought = 0;

	if (!lane->wake_due || lane->closed)
		return;
	lane->wake_due = false;
	if (lane->ans_tail != lane->ans_published) {
		lane->ans_published = lane->ans_tail;
		/* A1 pairs with A2 in lane_client_look_for_answers(). First, as somebody may
		 * spin on it. */
		atomic_store_explicit(&lane->ans->ans_tail, lane->ans_tail, memory_order_release);
		brought |= ELOQ_ASLEEP_FOR_ANSWERS;
	}
	if (lane->req_taken != lane->req_released) {
		lane->req_released = lane->req_taken;
		/* P3 pairs with P4 in lane_client_has_room(): our copies are made. */
		atomic_store_explicit(&lane->ans->req_head, lane->req_taken, memory_order_release);
		brought |= ELOQ_ASLEEP_FOR_SPACE;
	}
	/* D3 pairs with D4 in eloq_lane_client_prepare_sleep(). */
	atomic_thread_fence(memory_order_seq_cst);
	/* Relaxed: ordered by the fence. The client's word: a lie costs a useless wake. */
	if (atomic_load_explicit(&lane->req->asleep, memory_order_relaxed) & brought)
		eloq_doorbell_wake_client(lane->ans);
}

void eloq_lane_worker_close(struct eloq_lane_worker *lane, enum eloq_lane_reason reason)
{
	if (lane->closed)
		return;
	lane->closed = true;
	lane->blocked = false;
	atomic_store_explicit(&lane->ans->reason, reason, memory_order_relaxed);
	/* X1 pairs with X2 in eloq_lane_client_step(). */
	atomic_store_explicit(&lane->ans->state, ELOQ_LANE_CLOSED, memory_order_release);
	eloq_doorbell_wake_client(lane->ans);
}
