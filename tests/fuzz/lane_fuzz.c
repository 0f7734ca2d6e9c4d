/*
 * lane_fuzz.c - any bytes as a client's segment: the worker's end takes, answers, or closes.
 *
 * The input is a script. Each step rewrites some of what a client can write (the tail, the head,
 * the sleep flag, the generation, bytes of the ring) and then lets the worker's end do one thing,
 * so memory also changes between peek and accept. Payloads go to buffers of just their size,
 * answers are as long as was promised, and what the worker keeps privately must stay within its
 * ring.
 */
#include "common/limits.h"
#include "tests/unit/lane_world.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes);

enum { FUZZ_RING_BYTES = ELOQ_RING_BYTES_MIN, FUZZ_OWED_MAX = 16, FUZZ_INCARNATION = 1 };

struct fuzz {
	const uint8_t *next, *end;
	struct lane_world w;
	struct {
		struct eloq_request request;
		uint32_t reserved;
	} owed[FUZZ_OWED_MAX];
	unsigned owed_count;
};

static uint64_t fuzz_number(struct fuzz *fuzz, size_t bytes)
{
	uint64_t number = 0;

	for (; bytes > 0 && fuzz->next < fuzz->end; bytes--)
		number = number << 8 | *fuzz->next++;
	return number;
}

/* --- What a client can write -------------------------------------------------------------------
 */

/* Small steps are told in units, so that good positions are found as easily as bad ones. */
static void fuzz_move(struct fuzz *fuzz, _Atomic uint64_t *position)
{
	uint64_t old = atomic_load(position), kind = fuzz_number(fuzz, 1);

	if (kind == 0)
		atomic_store(position, fuzz_number(fuzz, 8));
	else if (kind < 16)
		atomic_store(position, old + fuzz_number(fuzz, 2));
	else
		atomic_store(position, old + kind / 16 * ELOQ_RECORD_ALIGN);
}

static void fuzz_write_ring(struct fuzz *fuzz)
{
	uint8_t *ring = (uint8_t *)fuzz->w.req_base + ELOQ_SEGMENT_HEADER_BYTES;
	size_t at = fuzz_number(fuzz, 2) % FUZZ_RING_BYTES, bytes = fuzz_number(fuzz, 1);

	bytes = eloq_min_u64(bytes, (uint64_t)(fuzz->end - fuzz->next));
	memcpy(ring + at, fuzz->next, bytes);
	fuzz->next += bytes;
}

/* A request without a lie, by the client's own end, which starts where the tail is now. */
static void fuzz_put_honestly(struct fuzz *fuzz)
{
	static const uint8_t payload[512];
	struct eloq_request request = {
		.id = fuzz->w.worker.last_id + fuzz_number(fuzz, 1),
		.op = (uint8_t)fuzz_number(fuzz, 1),
		.flags = (uint16_t)fuzz_number(fuzz, 2),
		.key_bytes = (uint16_t)fuzz_number(fuzz, 1),
		.value_bytes = (uint32_t)fuzz_number(fuzz, 1),
		.words = { [ELOQ_WORD_INLINE_LIMIT] = fuzz_number(fuzz, 2) },
	};

	request.answered_below = request.id;
	fuzz->w.client.req_tail = atomic_load(&fuzz->w.client.req->req_tail) & ~UINT64_C(7);
	if (eloq_lane_client_put(&fuzz->w.client, &request, payload, payload) == 0)
		eloq_lane_client_publish(&fuzz->w.client);
}

static void fuzz_act_as_client(struct fuzz *fuzz)
{
	struct eloq_request_segment *req = fuzz->w.client.req;

	switch (fuzz_number(fuzz, 1) % 8) {
	case 0:
		fuzz_move(fuzz, &req->req_tail);
		break;
	case 1:
		fuzz_move(fuzz, &req->ans_head);
		break;
	case 2:
		atomic_store(&req->asleep, (uint32_t)fuzz_number(fuzz, 1));
		break;
	case 3:
		atomic_store(&req->generation, (uint32_t)fuzz_number(fuzz, 1));
		break;
	case 4:
	case 5:
		fuzz_put_honestly(fuzz);
		break;
	default:
		fuzz_write_ring(fuzz);
		break;
	}
}

/* --- The worker's end --------------------------------------------------------------------------
 */

static void fuzz_check(const struct eloq_lane_worker *lane)
{
	eloq_assert(lane->req_tail_seen - lane->req_taken <= FUZZ_RING_BYTES);
	eloq_assert(lane->ans_published - lane->ans_head_seen <= FUZZ_RING_BYTES);
	eloq_assert(lane->ans_tail + lane->reserved - lane->ans_head_seen <= FUZZ_RING_BYTES);
}

static void fuzz_take(struct fuzz *fuzz)
{
	struct eloq_lane_worker *lane = &fuzz->w.worker;
	struct eloq_request *request;
	uint64_t last_id = lane->last_id;
	uint32_t reason = 0;
	size_t offset, bytes;
	uint8_t *payload;
	int r;

	if (fuzz->owed_count == FUZZ_OWED_MAX)
		return;
	request = &fuzz->owed[fuzz->owed_count].request;
	r = eloq_lane_worker_peek(lane, request, &offset, &reason);
	eloq_assert(r == 1 || r == 0 || r == -EAGAIN || r == -ELOQ_EPROTOCOL);
	eloq_assert((r == -ELOQ_EPROTOCOL) == (reason != 0));
	if (r == -ELOQ_EPROTOCOL)
		eloq_lane_worker_close(lane, (enum eloq_lane_reason)reason);
	if (r != 1)
		return;
	eloq_assert(request->id > last_id);
	eloq_assert(request->key_bytes <= ELOQ_KEY_BYTES_MAX);
	eloq_assert(request->value_bytes <= ELOQ_VALUE_BYTES_MAX);
	fuzz_act_as_client(fuzz);
	bytes = request->key_bytes + eloq_request_inline_bytes(request);
	payload = malloc(eloq_max_u64(bytes, 1));
	eloq_assert(payload);
	fuzz->owed[fuzz->owed_count].reserved =
		eloq_lane_worker_accept(lane, request, offset, payload);
	fuzz->owed_count++;
	free(payload);
}

static void fuzz_answer(struct fuzz *fuzz)
{
	static const uint8_t value[FUZZ_RING_BYTES];
	const struct eloq_request *request = &fuzz->owed[0].request;
	struct eloq_answer answer = { .flags = ELOQ_ANS_ALL_WORDS };

	if (fuzz->owed_count == 0)
		return;
	answer.id = request->id;
	answer.value_bytes = eloq_lane_inline_limit(request, FUZZ_RING_BYTES);
	if (fuzz_number(fuzz, 1) & 1)
		answer.value_bytes /= 2;
	eloq_lane_worker_answer(&fuzz->w.worker, fuzz->owed[0].reserved, &answer, NULL, value);
	fuzz->owed[0] = fuzz->owed[--fuzz->owed_count];
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes)
{
	static struct fuzz fuzz;

	fuzz = (struct fuzz){ .next = input, .end = input + input_bytes };
	lane_world_open(&fuzz.w, FUZZ_RING_BYTES, FUZZ_RING_BYTES, false);
	lane_world_sync(&fuzz.w, FUZZ_INCARNATION);
	while (fuzz.next < fuzz.end) {
		uint64_t action = fuzz_number(&fuzz, 1) % 8;

		if (action < 4)
			fuzz_act_as_client(&fuzz);
		else if (action < 6)
			fuzz_take(&fuzz);
		else if (action < 7)
			fuzz_answer(&fuzz);
		else
			eloq_lane_worker_publish(&fuzz.w.worker);
		fuzz_check(&fuzz.w.worker);
	}
	lane_world_close(&fuzz.w);
	return 0;
}
