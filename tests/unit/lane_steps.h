/*
 * lane_steps.h - single steps of a lane whose ends are both played by the test.
 */
#ifndef ELOQ_TESTS_UNIT_LANE_STEPS_H
#define ELOQ_TESTS_UNIT_LANE_STEPS_H

#include "common/limits.h"
#include "tests/support/test.h"
#include "tests/unit/lane_world.h"

#include <errno.h>

enum { RING = ELOQ_RING_BYTES_MIN, QUARTER = RING / 4, INCARNATION = 5 };

static inline void open_synced(struct lane_world *w)
{
	lane_world_open(w, RING, RING, false);
	lane_world_sync(w, INCARNATION);
}

static inline struct eloq_request get_request(uint64_t id)
{
	return (struct eloq_request){ .id = id, .answered_below = id, .op = ELOQ_OP_GET };
}

static inline void put_get(struct lane_world *w, uint64_t id)
{
	struct eloq_request request = get_request(id);

	ck_assert_int_eq(eloq_lane_client_put(&w->client, &request, NULL, NULL), 0);
}

static inline int peek(struct lane_world *w, struct eloq_request *ret_request)
{
	uint32_t reason = 0;
	size_t offset;

	return eloq_lane_worker_peek(&w->worker, ret_request, &offset, &reason);
}

/* Takes the next request, which must be there; its payload goes to @payload, if that is given. */
static inline uint32_t accept_next(struct lane_world *w, struct eloq_request *ret_request,
				   uint8_t *payload)
{
	uint8_t scratch[RING];
	uint32_t reason;
	size_t offset;

	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, ret_request, &offset, &reason), 1);
	return eloq_lane_worker_accept(&w->worker, ret_request, offset,
				       payload ? payload : scratch);
}

static inline void answer_ok(struct lane_world *w, uint32_t reserved, uint64_t id,
			     uint32_t value_bytes)
{
	static const uint8_t value[RING];
	const struct eloq_answer answer = {
		.id = id,
		.value_bytes = value_bytes,
		.incarnation = w->worker.generation,
	};

	eloq_lane_worker_answer(&w->worker, reserved, &answer, NULL, value);
}

static inline int take(struct lane_world *w, struct eloq_answer *ret_answer)
{
	const uint8_t *key, *value;

	return eloq_lane_client_take(&w->client, ret_answer, &key, &value);
}

/* How often the doorbell was rung since the last look. */
static inline uint64_t rings(struct lane_world *w)
{
	uint64_t count = 0;

	return read(w->doorbell, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static inline uint32_t wakes(const struct lane_world *w)
{
	return atomic_load(&w->client.ans->wake);
}

/* Until there is no room for another answer. Returns the id of the request that waits for it. */
static inline uint64_t fill_answer_ring(struct lane_world *w, uint64_t first_id)
{
	struct eloq_request got;
	uint64_t id = first_id;

	for (;; id++) {
		put_get(w, id);
		eloq_lane_client_publish(&w->client);
		if (peek(w, &got) != 1)
			break;
		answer_ok(w, accept_next(w, &got, NULL), id, 1024);
		eloq_lane_worker_publish(&w->worker);
	}
	ck_assert(w->worker.blocked);
	return id;
}

#endif
