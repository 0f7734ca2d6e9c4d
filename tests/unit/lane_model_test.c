/*
 * lane_model_test.c - a long random run of a lane against what it should do.
 */
#include "shm/lane.h"

#include "common/prng.h"
#include "tests/unit/lane_steps.h"

#include <stdlib.h>
#include <string.h>

enum { MODEL_RECORDS = 100000, MODEL_OWED_MAX = 64, MODEL_BYTES_MAX = 2000 };

struct model {
	struct lane_world w;
	struct eloq_prng prng;
	uint64_t put, published, accepted, answered, taken;
	struct {
		uint64_t id;
		uint32_t reserved, limit;
	} owed[MODEL_OWED_MAX];
	unsigned owed_count;
	uint64_t order[2 * MODEL_OWED_MAX]; /* ids in the order of their answers, a ring */
};

/* What is said about an id follows from the id, so neither end has to remember it. */
static void model_describe(uint64_t id, struct eloq_request *ret_request, uint8_t *payload)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, id);
	*ret_request = (struct eloq_request){
		.id = id,
		.answered_below = id - eloq_prng_below(&prng, eloq_min_u64(id, 1000)),
		.op = (uint8_t)(1 + eloq_prng_below(&prng, 200)),
		.flags = (uint16_t)(eloq_prng_next(&prng) & ~(uint64_t)ELOQ_REQ_UP_BULK),
		.table = (uint32_t)eloq_prng_next(&prng),
		.partition = (uint32_t)eloq_prng_next(&prng),
		.key_bytes = (uint16_t)eloq_prng_below(&prng, 40),
	};
	if (eloq_prng_below(&prng, 4) == 0)
		ret_request->value_bytes = (uint32_t)eloq_prng_below(&prng, MODEL_BYTES_MAX);
	for (unsigned bit = 0; bit < 8; bit++)
		if (ret_request->flags >> bit & 1)
			ret_request->words[bit] = eloq_prng_below(&prng, 3000);
	for (size_t i = 0; i < ret_request->key_bytes + ret_request->value_bytes; i++)
		payload[i] = (uint8_t)(id + i * 31);
}

static void model_put(struct model *m)
{
	uint8_t payload[MODEL_BYTES_MAX + 64];
	struct eloq_request request;
	int r;

	if (m->put == MODEL_RECORDS)
		return;
	model_describe(m->put + 1, &request, payload);
	r = eloq_lane_client_put(&m->w.client, &request, payload, payload + request.key_bytes);
	if (r == 0)
		m->put++;
	else
		ck_assert_int_eq(r, -EAGAIN);
}

static void model_accept(struct model *m)
{
	uint8_t expected[MODEL_BYTES_MAX + 64], payload[MODEL_BYTES_MAX + 64];
	struct eloq_request request, got;
	uint32_t reason;
	size_t offset;
	int r;

	if (m->owed_count == MODEL_OWED_MAX || m->answered - m->taken > MODEL_OWED_MAX)
		return;
	r = eloq_lane_worker_peek(&m->w.worker, &got, &offset, &reason);
	ck_assert(r == 1 || r == 0 || r == -EAGAIN);
	ck_assert(r != 0 || m->accepted == m->published);
	if (r != 1)
		return;
	model_describe(m->accepted + 1, &request, expected);
	ck_assert_uint_eq(got.id, request.id);
	ck_assert_uint_eq(got.answered_below, request.answered_below);
	ck_assert_uint_eq(got.op, request.op);
	ck_assert_uint_eq(got.flags, request.flags);
	ck_assert_mem_eq(got.words, request.words, sizeof(got.words));
	m->owed[m->owed_count].reserved =
		eloq_lane_worker_accept(&m->w.worker, &got, offset, payload);
	ck_assert_int_eq(memcmp(payload, expected, request.key_bytes + request.value_bytes), 0);
	m->owed[m->owed_count].id = got.id;
	m->owed[m->owed_count].limit = eloq_lane_inline_limit(&got, RING);
	m->owed_count++;
	m->accepted++;
}

static struct eloq_answer model_answer_of(uint64_t id, uint32_t limit)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, ~id);
	return (struct eloq_answer){
		.id = id,
		.flags = (uint16_t)(eloq_prng_next(&prng) & ~(uint64_t)ELOQ_ANS_BULK),
		.value_bytes = (uint32_t)eloq_prng_below(&prng, limit + 1),
		.incarnation = INCARNATION,
	};
}

/* Any of those that are owed, with the longest answer now and then. */
static void model_answer(struct model *m)
{
	static uint8_t value[RING];
	struct eloq_answer answer;
	unsigned i;

	if (m->owed_count == 0)
		return;
	i = (unsigned)eloq_prng_below(&m->prng, m->owed_count);
	answer = model_answer_of(m->owed[i].id, m->owed[i].limit);
	memset(value, (uint8_t)answer.id, answer.value_bytes);
	if (eloq_prng_below(&m->prng, 8) == 0)
		answer.flags |= ELOQ_ANS_ALL_WORDS;
	eloq_lane_worker_answer(&m->w.worker, m->owed[i].reserved, &answer, NULL, value);
	m->order[m->answered++ % ELOQ_ARRAY_SIZE(m->order)] = answer.id;
	m->owed[i] = m->owed[--m->owed_count];
}

static void model_take(struct model *m)
{
	const uint8_t *key, *value;
	struct eloq_answer answer;
	unsigned wrong = 0;
	int r = eloq_lane_client_take(&m->w.client, &answer, &key, &value);

	ck_assert_int_ge(r, 0);
	if (r == 0)
		return;
	ck_assert_uint_eq(answer.id, m->order[m->taken++ % ELOQ_ARRAY_SIZE(m->order)]);
	/* One assertion, as Check writes to a file for each. */
	for (uint32_t i = 0; i < answer.value_bytes; i++)
		wrong += value[i] != (uint8_t)answer.id;
	ck_assert_uint_eq(wrong, 0);
}

static void model_turn(struct model *m)
{
	switch (eloq_prng_below(&m->prng, 10)) {
	case 0:
		eloq_lane_client_publish(&m->w.client);
		m->published = m->put;
		break;
	case 1:
		eloq_lane_worker_publish(&m->w.worker);
		break;
	case 2:
		eloq_lane_client_done(&m->w.client);
		break;
	case 3:
	case 4:
	case 5:
		model_put(m);
		break;
	case 6:
	case 7:
		model_accept(m);
		break;
	case 8:
		model_answer(m);
		break;
	default:
		model_take(m);
		break;
	}
}

/* In bursts, so that the rings are found full, empty and at every place in between. */
TEST(a_hundred_thousand_random_records_arrive_in_order_both_ways)
{
	struct model *m = calloc(1, sizeof(*m));

	eloq_prng_seed(&m->prng, test_seed());
	open_synced(&m->w);
	while (m->taken < MODEL_RECORDS) {
		void (*burst)(struct model *) = model_turn;

		if (eloq_prng_below(&m->prng, 50) == 0)
			burst = (void (*[])(struct model *)){
				model_put, model_accept, model_answer, model_take
			}[eloq_prng_below(&m->prng, 4)];
		for (uint64_t n = eloq_prng_below(&m->prng, 100); n > 0; n--)
			burst(m);
	}
	ck_assert_uint_eq(m->accepted, MODEL_RECORDS);
	ck_assert_uint_eq(m->w.worker.reserved, 0);
	lane_world_close(&m->w);
	free(m);
}
