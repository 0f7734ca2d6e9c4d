/*
 * lane_test.c - both ends of a lane in one thread: what holds step by step, which lies are told
 * apart, and a long random run against a model. Two threads: tests/race/lane_race_test.c.
 */
#include "shm/lane.h"

#include "common/limits.h"
#include "common/prng.h"
#include "tests/support/test.h"
#include "tests/unit/lane_world.h"

#include <stdlib.h>
#include <string.h>

enum { RING = ELOQ_RING_BYTES_MIN, QUARTER = RING / 4, INCARNATION = 5 };

static void open_synced(struct lane_world *w)
{
	lane_world_open(w, RING, RING, false);
	lane_world_sync(w, INCARNATION);
}

static struct eloq_request get_request(uint64_t id)
{
	return (struct eloq_request){ .id = id, .answered_below = id, .op = ELOQ_OP_GET };
}

static void put_get(struct lane_world *w, uint64_t id)
{
	struct eloq_request request = get_request(id);

	ck_assert_int_eq(eloq_lane_client_put(&w->client, &request, NULL, NULL), 0);
}

static int peek(struct lane_world *w, struct eloq_request *ret_request)
{
	uint32_t reason = 0;
	size_t offset;

	return eloq_lane_worker_peek(&w->worker, ret_request, &offset, &reason);
}

/* Takes the next request, which must be there; its payload goes to @payload, if that is given. */
static uint32_t accept_next(struct lane_world *w, struct eloq_request *ret_request,
			    uint8_t *payload)
{
	uint8_t scratch[RING];
	uint32_t reason;
	size_t offset;

	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, ret_request, &offset, &reason), 1);
	return eloq_lane_worker_accept(&w->worker, ret_request, offset,
				       payload ? payload : scratch);
}

static void answer_ok(struct lane_world *w, uint32_t reserved, uint64_t id, uint32_t value_bytes)
{
	static const uint8_t value[RING];
	const struct eloq_answer answer = {
		.id = id,
		.value_bytes = value_bytes,
		.incarnation = w->worker.generation,
	};

	eloq_lane_worker_answer(&w->worker, reserved, &answer, NULL, value);
}

static int take(struct lane_world *w, struct eloq_answer *ret_answer)
{
	const uint8_t *key, *value;

	return eloq_lane_client_take(&w->client, ret_answer, &key, &value);
}

/* How often the doorbell was rung since the last look. */
static uint64_t rings(struct lane_world *w)
{
	uint64_t count = 0;

	return read(w->doorbell, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static uint32_t wakes(const struct lane_world *w)
{
	return atomic_load(&w->client.ans->wake);
}

/* --- One record --------------------------------------------------------------------------------
 */

TEST(a_request_arrives_as_it_was_put_and_its_answer_as_it_was_given)
{
	const struct eloq_request request = {
		.id = 7,
		.answered_below = 3,
		.op = ELOQ_OP_PUT,
		.flags = ELOQ_REQ_TIMESTAMP,
		.table = 8,
		.partition = 9,
		.key_bytes = 3,
		.value_bytes = 5,
		.words = { [ELOQ_WORD_TIMESTAMP] = 123 },
	};
	struct eloq_answer answer = {
		.id = 7,
		.flags = ELOQ_ANS_TIMESTAMP,
		.key_bytes = 1,
		.value_bytes = 4,
		.incarnation = INCARNATION,
		.timestamp = 123,
	};
	struct eloq_request got;
	struct eloq_answer back;
	const uint8_t *key, *value;
	uint8_t payload[8];
	struct lane_world w;
	uint32_t reserved;

	open_synced(&w);
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, "key", "value"), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	eloq_lane_client_publish(&w.client);
	reserved = accept_next(&w, &got, payload);
	ck_assert_mem_eq(payload, "keyvalue", 8);
	ck_assert_uint_eq(got.id, 7);
	ck_assert_uint_eq(got.answered_below, 3);
	ck_assert_uint_eq(got.op, ELOQ_OP_PUT);
	ck_assert_uint_eq(got.table, 8);
	ck_assert_uint_eq(got.partition, 9);
	ck_assert_uint_eq(got.words[ELOQ_WORD_TIMESTAMP], 123);
	eloq_lane_worker_answer(&w.worker, reserved, &answer, "k", "done");
	ck_assert_int_eq(take(&w, &back), 0);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_int_eq(eloq_lane_client_take(&w.client, &back, &key, &value), 1);
	ck_assert_uint_eq(back.id, 7);
	ck_assert_uint_eq(back.timestamp, 123);
	ck_assert_mem_eq(key, "k", 1);
	ck_assert_mem_eq(value, "done", 4);
	ck_assert_int_eq(take(&w, &back), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	lane_world_close(&w);
}

/* Every short record at every place of a line: in both rings, with the padding counted. */
TEST(a_record_that_fits_a_line_never_straddles_two)
{
	struct eloq_request request = get_request(0), got;
	uint64_t start, end, id = 0;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reserved;

	open_synced(&w);
	for (unsigned round = 0; round < 4000; round++) {
		const uint32_t value_bytes = round % 5 * 8 + round % 3 * 16;

		request.id = request.answered_below = ++id;
		request.value_bytes = value_bytes;
		ck_assert_int_eq(
			eloq_lane_client_put(&w.client, &request, NULL, (uint8_t[128]){ 0 }), 0);
		end = w.client.req_tail;
		start = end - eloq_request_bytes(&request);
		if (end - start <= 64)
			ck_assert_uint_eq(start / 64, (end - 1) / 64);
		eloq_lane_client_publish(&w.client);
		reserved = accept_next(&w, &got, NULL);
		answer_ok(&w, reserved, id, value_bytes);
		end = w.worker.ans_tail;
		start = end - (24 + value_bytes);
		if (end - start <= 64)
			ck_assert_uint_eq(start / 64, (end - 1) / 64);
		eloq_lane_worker_publish(&w.worker);
		ck_assert_int_eq(take(&w, &answer), 1);
		ck_assert_uint_eq(answer.id, id);
		eloq_lane_client_done(&w.client);
	}
	lane_world_close(&w);
}

TEST(a_request_of_a_quarter_of_the_ring_goes_and_one_more_byte_is_refused)
{
	static const uint8_t value[RING];
	struct eloq_request request = get_request(1), got;
	struct lane_world w;

	open_synced(&w);
	request.op = ELOQ_OP_PUT;
	request.value_bytes = QUARTER - 32 + 1;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, value), -ELOQ_ETOOLONG);
	request.value_bytes = QUARTER - 32;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, value), 0);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.value_bytes, QUARTER - 32);
	/* In bulk it may be as long as values may be. */
	request.id = 2;
	request.flags = ELOQ_REQ_UP_BULK;
	request.value_bytes = ELOQ_VALUE_BYTES_MAX;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.value_bytes, ELOQ_VALUE_BYTES_MAX);
	lane_world_close(&w);
}

/* --- Room --------------------------------------------------------------------------------------
 */

TEST(a_full_request_ring_says_so_and_loses_nothing)
{
	struct eloq_request request = get_request(1), got;
	struct lane_world w;
	uint64_t count = 0;

	open_synced(&w);
	request.flags = ELOQ_REQ_INLINE_LIMIT;
	while (request.id = request.answered_below = count + 1,
	       eloq_lane_client_put(&w.client, &request, NULL, NULL) == 0)
		count++;
	ck_assert_uint_eq(w.client.req_tail, count * 64 - 24);
	ck_assert(w.client.wants_space);
	eloq_lane_client_publish(&w.client);
	/* Taken, but not yet released: no room. */
	answer_ok(&w, accept_next(&w, &got, NULL), got.id, 0);
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), -EAGAIN);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
	ck_assert(!w.client.wants_space);
	eloq_lane_client_publish(&w.client);
	for (uint64_t id = 2; id <= count + 1; id++) {
		struct eloq_answer answer;

		answer_ok(&w, accept_next(&w, &got, NULL), id, 0);
		ck_assert_uint_eq(got.id, id);
		eloq_lane_worker_publish(&w.worker);
		while (take(&w, &answer) == 1)
			eloq_lane_client_done(&w.client);
	}
	ck_assert_int_eq(peek(&w, &got), 0);
	lane_world_close(&w);
}

TEST(a_request_waits_until_its_longest_answer_has_room)
{
	struct eloq_request request = get_request(1), got;
	struct eloq_answer answer;
	uint32_t reserved[20];
	struct lane_world w;
	uint64_t count;

	open_synced(&w);
	for (uint64_t id = 1; id <= ELOQ_ARRAY_SIZE(reserved); id++)
		put_get(&w, id);
	eloq_lane_client_publish(&w.client);
	for (count = 0; peek(&w, &got) == 1; count++)
		reserved[count] = accept_next(&w, &got, NULL);
	ck_assert_uint_eq(count, RING / (40 + 1024));
	ck_assert_int_eq(peek(&w, &got), -EAGAIN);
	ck_assert(w.worker.blocked);
	ck_assert_uint_eq(atomic_load(&w.client.ans->wants_space), 1);
	/* Answers that are shorter than what was promised give the rest back. */
	answer_ok(&w, reserved[0], 1, 0);
	ck_assert_int_eq(peek(&w, &got), 1);
	ck_assert_uint_eq(got.id, count + 1);
	ck_assert(!w.worker.blocked);
	ck_assert_uint_eq(atomic_load(&w.client.ans->wants_space), 0);
	/* Long ones have to be taken. */
	reserved[0] = accept_next(&w, &request, NULL);
	for (uint64_t i = 1; i < count; i++)
		answer_ok(&w, reserved[i], i + 1, 1024);
	answer_ok(&w, reserved[0], count + 1, 1024);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_int_eq(peek(&w, &got), -EAGAIN);
	ck_assert_int_eq(take(&w, &answer), 1);
	ck_assert_int_eq(take(&w, &answer), 1);
	ck_assert_int_eq(peek(&w, &got), -EAGAIN);
	eloq_lane_client_done(&w.client);
	ck_assert_int_eq(peek(&w, &got), 1);
	lane_world_close(&w);
}

TEST(the_inline_limit_is_the_requests_own_within_a_quarter_of_the_ring)
{
	struct eloq_request request = get_request(1);

	ck_assert_uint_eq(eloq_lane_inline_limit(&request, RING), ELOQ_INLINE_ANSWER_BYTES_DEFAULT);
	request.flags = ELOQ_REQ_INLINE_LIMIT;
	ck_assert_uint_eq(eloq_lane_inline_limit(&request, RING), 0);
	request.words[ELOQ_WORD_INLINE_LIMIT] = 2000;
	ck_assert_uint_eq(eloq_lane_inline_limit(&request, RING), 2000);
	request.words[ELOQ_WORD_INLINE_LIMIT] = UINT64_MAX;
	ck_assert_uint_eq(eloq_lane_inline_limit(&request, RING), QUARTER - 40);
}

/* --- A model -----------------------------------------------------------------------------------
 */

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
	int r = eloq_lane_client_take(&m->w.client, &answer, &key, &value);

	ck_assert_int_ge(r, 0);
	if (r == 0)
		return;
	ck_assert_uint_eq(answer.id, m->order[m->taken++ % ELOQ_ARRAY_SIZE(m->order)]);
	for (uint32_t i = 0; i < answer.value_bytes; i++)
		ck_assert_uint_eq(value[i], (uint8_t)answer.id);
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

/* --- Lies --------------------------------------------------------------------------------------
 */

static struct eloq_request_segment *client_words(struct lane_world *w)
{
	return w->client.req;
}

/* Peeks and finds the lie; the lane is closed, and the client reads why. */
static void check_lie(struct lane_world *w, enum eloq_lane_reason expected)
{
	struct eloq_request request;
	uint32_t reason = 99, told = 99;
	size_t offset;

	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, &request, &offset, &reason),
			 -ELOQ_EPROTOCOL);
	ck_assert_str_eq(eloq_lane_reason_text(reason), eloq_lane_reason_text(expected));
	eloq_lane_worker_close(&w->worker, (enum eloq_lane_reason)reason);
	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, &request, &offset, &reason), 0);
	ck_assert(eloq_lane_client_has_news(&w->client));
	ck_assert_int_eq(eloq_lane_client_step(&w->client, &told), ELOQ_LANE_EVENT_CLOSED);
	ck_assert_uint_eq(told, expected);
}

TEST(a_tail_beyond_the_ring_behind_us_or_between_records_closes_the_lane)
{
	static const uint64_t tails[] = { RING + 8, 4, UINT64_MAX - 7, UINT64_C(1) << 63, 33 };
	struct eloq_request got;

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(tails); i++) {
		struct lane_world w;

		open_synced(&w);
		atomic_store(&client_words(&w)->req_tail, tails[i]);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
	/* Back to where it had been. */
	for (unsigned back = 0; back < 2; back++) {
		struct lane_world w;

		open_synced(&w);
		put_get(&w, 1);
		eloq_lane_client_publish(&w.client);
		accept_next(&w, &got, NULL);
		atomic_store(&client_words(&w)->req_tail, back * 8);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
}

/* The head is only looked at when there is no room; so fill the ring first. Returns the id of the
 * request that waits for it. */
static uint64_t fill_answer_ring(struct lane_world *w, uint64_t first_id)
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

TEST(a_head_that_takes_what_is_not_there_closes_the_lane)
{
	for (unsigned i = 0; i < 3; i++) {
		struct lane_world w;
		uint64_t head;

		open_synced(&w);
		fill_answer_ring(&w, 1);
		head = i == 0 ? w.worker.ans_published + 8 : i == 1 ? 4 : UINT64_MAX - 7;
		atomic_store(&client_words(&w)->ans_head, head);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
}

TEST(a_head_that_goes_back_closes_the_lane)
{
	struct eloq_answer answer;
	struct eloq_request got;
	struct lane_world w;
	uint64_t waiting, head;

	open_synced(&w);
	waiting = fill_answer_ring(&w, 1);
	while (take(&w, &answer) == 1)
		;
	eloq_lane_client_done(&w.client);
	head = atomic_load(&client_words(&w)->ans_head);
	answer_ok(&w, accept_next(&w, &got, NULL), waiting, 1024);
	fill_answer_ring(&w, waiting + 1);
	atomic_store(&client_words(&w)->ans_head, head - 8);
	check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
	lane_world_close(&w);
}

/* A record of 48 bytes whose first word says otherwise: @units in place of its 6, @op for GET. */
static void publish_misframed(struct lane_world *w, uint16_t units, uint8_t op)
{
	struct eloq_request request = get_request(1);
	uint8_t *record = (uint8_t *)w->req_base + ELOQ_SEGMENT_HEADER_BYTES;

	request.key_bytes = 16;
	ck_assert_int_eq(eloq_lane_client_put(&w->client, &request, (uint8_t[16]){ 0 }, NULL), 0);
	memcpy(record, &units, sizeof(units));
	record[2] = op;
	eloq_lane_client_publish(&w->client);
}

TEST(a_record_whose_length_is_not_that_of_its_parts_closes_the_lane)
{
	static const struct {
		uint16_t units;
		uint8_t op;
		enum eloq_lane_reason reason;
	} lies[] = {
		{ 0, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 1, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 5, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 7, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ UINT16_MAX, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		/* A PAD at the end, one that is too long, one of nothing, one before garbage. */
		{ 6, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 7, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 8, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 0, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 4, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(lies); i++) {
		struct lane_world w;

		open_synced(&w);
		publish_misframed(&w, lies[i].units, lies[i].op);
		check_lie(&w, lies[i].reason);
		lane_world_close(&w);
	}
}

TEST(two_pads_in_a_row_close_the_lane)
{
	uint8_t *ring;
	struct lane_world w;

	open_synced(&w);
	put_get(&w, 1);
	ring = (uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES;
	eloq_record_pad(ring, 8);
	eloq_record_pad(ring + 8, 8);
	eloq_lane_client_publish(&w.client);
	check_lie(&w, ELOQ_LANE_REASON_BAD_RECORD);
	lane_world_close(&w);
}

/* Puts what the client's end would put, without its own checks, at the start of the ring. */
static void publish_raw(struct lane_world *w, const struct eloq_request *request)
{
	eloq_request_encode((uint8_t *)w->req_base + ELOQ_SEGMENT_HEADER_BYTES, request);
	atomic_store(&client_words(w)->req_tail, eloq_request_bytes(request));
}

TEST(lengths_over_their_limits_close_the_lane)
{
	struct eloq_request request = get_request(1);
	struct lane_world w;

	open_synced(&w);
	request.value_bytes = QUARTER - 32 + 8;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);

	open_synced(&w);
	request.flags = ELOQ_REQ_UP_BULK;
	request.value_bytes = ELOQ_VALUE_BYTES_MAX + 1;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);

	lane_world_open(&w, ELOQ_RING_BYTES_MAX, RING, false);
	lane_world_sync(&w, INCARNATION);
	request = get_request(1);
	request.key_bytes = ELOQ_KEY_BYTES_MAX + 1;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);
}

TEST(ids_that_do_not_grow_or_reach_back_too_far_close_the_lane)
{
	static const struct {
		uint64_t first, id, answered_below;
	} lies[] = {
		{ 5, 5, 5 }, { 5, 4, 4 },	   { 5, 0, 0 },
		{ 0, 0, 0 }, { 5, 6, UINT64_MAX }, { 1, ELOQ_ID_DISTANCE_MAX + 100, 99 },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(lies); i++) {
		struct eloq_request request = get_request(lies[i].id), got;
		struct lane_world w;

		open_synced(&w);
		if (lies[i].first) {
			put_get(&w, lies[i].first);
			eloq_lane_client_publish(&w.client);
			accept_next(&w, &got, NULL);
		}
		request.answered_below = lies[i].answered_below;
		ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
		eloq_lane_client_publish(&w.client);
		check_lie(&w, ELOQ_LANE_REASON_BAD_ID);
		lane_world_close(&w);
	}
}

TEST(gaps_between_ids_and_the_greatest_distance_are_fine)
{
	struct eloq_request request = get_request(ELOQ_ID_DISTANCE_MAX + 100), got;
	struct lane_world w;

	open_synced(&w);
	put_get(&w, 1);
	request.answered_below = 100;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
	put_get(&w, UINT64_MAX);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, NULL);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.answered_below, 100);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.id, UINT64_MAX);
	lane_world_close(&w);
}

TEST(unknown_ops_and_flags_are_shown_and_are_for_the_server_to_refuse)
{
	struct eloq_request request = get_request(1), got;
	uint8_t payload[8];
	struct lane_world w;

	open_synced(&w);
	request.op = 251;
	request.flags = 0xfe00;
	request.key_bytes = 2;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, "kk", NULL), 0);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, payload);
	ck_assert_uint_eq(got.op, 251);
	ck_assert_uint_eq(got.flags, 0xfe00);
	ck_assert_mem_eq(payload, "kk", 2);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.id, 2);
	lane_world_close(&w);
}

/* Between peek and accept everything in the ring becomes something else. */
TEST(memory_rewritten_after_publishing_changes_payload_bytes_only)
{
	struct eloq_request request = get_request(1), got;
	uint8_t payload[24 + 8];
	struct lane_world w;
	uint32_t reason;
	size_t offset;

	open_synced(&w);
	request.key_bytes = 8;
	request.value_bytes = 16;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, "12345678", "1234567812345678"),
			 0);
	eloq_lane_client_publish(&w.client);
	ck_assert_int_eq(eloq_lane_worker_peek(&w.worker, &got, &offset, &reason), 1);
	memset((uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES, 0xee, RING);
	memset(payload, 0x11, sizeof(payload));
	eloq_lane_worker_accept(&w.worker, &got, offset, payload);
	for (size_t i = 0; i < sizeof(payload); i++)
		ck_assert_uint_eq(payload[i], i < 24 ? 0xee : 0x11);
	ck_assert_uint_eq(w.worker.req_taken, 56);
	/* The next record is judged as the garbage that it is. */
	put_get(&w, 2);
	memset((uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES, 0xee, RING);
	eloq_lane_client_publish(&w.client);
	check_lie(&w, ELOQ_LANE_REASON_BAD_RECORD);
	lane_world_close(&w);
}

TEST(a_closed_lane_takes_answers_of_requests_in_flight_and_shows_none)
{
	struct eloq_request got;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reserved;

	open_synced(&w);
	put_get(&w, 1);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	reserved = accept_next(&w, &got, NULL);
	eloq_lane_worker_close(&w.worker, ELOQ_LANE_REASON_STOPPED);
	eloq_lane_worker_close(&w.worker, ELOQ_LANE_REASON_LEFT);
	answer_ok(&w, reserved, 1, 10);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_int_eq(take(&w, &answer), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_uint_eq(atomic_load(&w.client.ans->reason), ELOQ_LANE_REASON_STOPPED);
	lane_world_close(&w);
}

/* --- RESYNC ------------------------------------------------------------------------------------
 */

TEST(nothing_is_put_or_taken_before_the_first_worker_serves)
{
	struct eloq_request request = get_request(1), got;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reason;

	lane_world_open(&w, RING, RING, false);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert(!eloq_lane_client_has_news(&w.client));
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), -EAGAIN);
	lane_world_new_worker(&w, 3);
	ck_assert(eloq_lane_client_has_news(&w.client));
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_uint_eq(rings(&w), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_uint_eq(rings(&w), 1);
	ck_assert(!eloq_lane_client_has_news(&w.client));
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_int_eq(take(&w, &answer), 0);
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), -EAGAIN);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert(eloq_lane_client_has_news(&w.client));
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_RESYNC);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_NONE);
	ck_assert(!eloq_lane_client_has_news(&w.client));
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
	ck_assert_uint_eq(atomic_load(&w.client.ans->state), ELOQ_LANE_OPEN);
	lane_world_close(&w);
}

TEST(answers_of_a_dead_worker_are_taken_before_the_lane_starts_over)
{
	struct eloq_request got;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reason;

	open_synced(&w);
	for (uint64_t id = 1; id <= 4; id++)
		put_get(&w, id);
	eloq_lane_client_publish(&w.client);
	answer_ok(&w, accept_next(&w, &got, NULL), 1, 8);
	answer_ok(&w, accept_next(&w, &got, NULL), 2, 8);
	eloq_lane_worker_publish(&w.worker);
	/* Written but not published: lost with its worker. */
	answer_ok(&w, accept_next(&w, &got, NULL), 3, 8);
	lane_world_new_worker(&w, INCARNATION + 1);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_int_eq(take(&w, &answer), 1);
	ck_assert_uint_eq(answer.id, 1);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(take(&w, &answer), 1);
	ck_assert_uint_eq(answer.id, 2);
	ck_assert_uint_eq(answer.incarnation, INCARNATION);
	ck_assert_int_eq(take(&w, &answer), 0);
	eloq_lane_client_done(&w.client);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	/* From here the old words mean nothing: the tail still there is not one of ours. */
	ck_assert_uint_ne(atomic_load(&w.client.ans->ans_tail), 0);
	ck_assert_int_eq(take(&w, &answer), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_uint_eq(atomic_load(&w.client.ans->ans_tail), 0);
	ck_assert_int_eq(take(&w, &answer), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_RESYNC);
	ck_assert_uint_eq(w.client.req_tail, 0);
	put_get(&w, 3);
	put_get(&w, 4);
	put_get(&w, 5);
	eloq_lane_client_publish(&w.client);
	for (uint64_t id = 3; id <= 5; id++) {
		answer_ok(&w, accept_next(&w, &got, NULL), id, 8);
		ck_assert_uint_eq(got.id, id);
	}
	eloq_lane_worker_publish(&w.worker);
	for (uint64_t id = 3; id <= 5; id++) {
		ck_assert_int_eq(take(&w, &answer), 1);
		ck_assert_uint_eq(answer.id, id);
		ck_assert_uint_eq(answer.incarnation, INCARNATION + 1);
	}
	lane_world_close(&w);
}

TEST(requests_published_to_a_dead_worker_are_not_read_by_the_next)
{
	struct eloq_request got;
	struct lane_world w;
	uint32_t reason;

	open_synced(&w);
	put_get(&w, 1);
	eloq_lane_client_publish(&w.client);
	lane_world_new_worker(&w, INCARNATION + 1);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_RESYNC);
	ck_assert_int_eq(peek(&w, &got), 0);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.id, 2);
	lane_world_close(&w);
}

/* Workers that die at each point of the exchange: before they were seen, after the client had
 * reset, after they had said that they serve. */
TEST(workers_may_die_at_any_point_of_a_resync)
{
	struct eloq_request got;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reason;

	open_synced(&w);
	for (uint32_t g = 10; g < 40; g += 4) {
		uint64_t id = g;

		lane_world_new_worker(&w, g);
		lane_world_new_worker(&w, g + 1);
		ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
		ck_assert_uint_eq(w.client.generation, g + 1);
		lane_world_new_worker(&w, g + 2);
		ck_assert_int_eq(peek(&w, &got), 0);
		ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
		ck_assert_uint_eq(w.client.generation, g + 2);
		ck_assert_int_eq(peek(&w, &got), 0);
		lane_world_new_worker(&w, g + 3);
		ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
		ck_assert_int_eq(peek(&w, &got), 0);
		ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_RESYNC);
		put_get(&w, id);
		eloq_lane_client_publish(&w.client);
		answer_ok(&w, accept_next(&w, &got, NULL), id, 100);
		eloq_lane_worker_publish(&w.worker);
		ck_assert_int_eq(take(&w, &answer), 1);
		ck_assert_uint_eq(answer.incarnation, g + 3);
	}
	lane_world_close(&w);
}

TEST(a_blocked_worker_leaves_no_wish_to_its_successor)
{
	struct eloq_answer answer;
	struct eloq_request got;
	struct lane_world w;
	uint32_t reason;

	open_synced(&w);
	fill_answer_ring(&w, 1);
	ck_assert_uint_eq(atomic_load(&w.client.ans->wants_space), 1);
	lane_world_new_worker(&w, INCARNATION + 1);
	while (take(&w, &answer) == 1)
		;
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_WAIT);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_int_eq(eloq_lane_client_step(&w.client, &reason), ELOQ_LANE_EVENT_RESYNC);
	ck_assert_uint_eq(atomic_load(&w.client.ans->wants_space), 0);
	ck_assert(!w.worker.blocked);
	lane_world_close(&w);
}

/* --- Wake-ups, counted -------------------------------------------------------------------------
 */

TEST(a_burst_rings_once_and_only_for_a_worker_that_sleeps)
{
	struct lane_world w;

	open_synced(&w);
	ck_assert_uint_eq(rings(&w), 1); /* of the resync */
	put_get(&w, 1);
	eloq_lane_client_publish(&w.client);
	ck_assert_uint_eq(rings(&w), 0);
	eloq_worker_page_set_asleep(w.page_base);
	for (uint64_t id = 2; id < 10; id++)
		put_get(&w, id);
	eloq_lane_client_publish(&w.client);
	eloq_lane_client_publish(&w.client);
	ck_assert_uint_eq(rings(&w), 1);
	eloq_worker_page_set_awake(w.page_base);
	put_get(&w, 10);
	eloq_lane_client_publish(&w.client);
	ck_assert_uint_eq(rings(&w), 0);
	lane_world_close(&w);
}

TEST(taken_answers_ring_only_for_a_worker_that_waits_for_space_and_sleeps)
{
	struct eloq_answer answer;
	struct lane_world w;

	open_synced(&w);
	fill_answer_ring(&w, 1);
	(void)rings(&w);
	ck_assert_int_eq(take(&w, &answer), 1);
	eloq_lane_client_done(&w.client);
	ck_assert_uint_eq(rings(&w), 0);
	eloq_worker_page_set_asleep(w.page_base);
	ck_assert_int_eq(take(&w, &answer), 1);
	eloq_lane_client_done(&w.client);
	eloq_lane_client_done(&w.client);
	ck_assert_uint_eq(rings(&w), 1);
	ck_assert_int_eq(peek(&w, &(struct eloq_request){ 0 }), 1);
	ck_assert_int_eq(take(&w, &answer), 1);
	eloq_lane_client_done(&w.client);
	ck_assert_uint_eq(rings(&w), 0);
	lane_world_close(&w);
}

TEST(a_sleeping_client_is_woken_for_what_it_waits_for_and_nothing_else)
{
	struct eloq_request request = get_request(1), got;
	struct lane_world w;
	uint32_t seen, reserved;

	open_synced(&w);
	put_get(&w, 1);
	eloq_lane_client_publish(&w.client);
	seen = eloq_lane_client_prepare_sleep(&w.client);
	ck_assert_uint_eq(seen, wakes(&w));
	reserved = accept_next(&w, &got, NULL);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_uint_eq(wakes(&w), seen); /* taken, not answered */
	answer_ok(&w, reserved, 1, 0);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_uint_eq(wakes(&w), seen + 1);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_uint_eq(wakes(&w), seen + 1);
	ck_assert(eloq_lane_client_has_news(&w.client));
	eloq_lane_client_awake(&w.client);
	for (uint64_t id = 2; request.id = request.answered_below = id,
		      eloq_lane_client_put(&w.client, &request, NULL, NULL) == 0;
	     id++)
		;
	eloq_lane_client_publish(&w.client);
	reserved = accept_next(&w, &got, NULL);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_uint_eq(wakes(&w), seen + 1); /* awake */
	seen = eloq_lane_client_prepare_sleep(&w.client);
	accept_next(&w, &got, NULL);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_uint_eq(wakes(&w), seen + 1); /* its ring was full */
	lane_world_close(&w);
}

TEST(a_wait_ends_at_once_if_a_counter_moved_and_by_itself_if_none_does)
{
	struct eloq_lane_waiter waiters[2];
	struct lane_world a, b;

	open_synced(&a);
	open_synced(&b);
	waiters[0] =
		(struct eloq_lane_waiter){ &a.client, eloq_lane_client_prepare_sleep(&a.client) };
	waiters[1] =
		(struct eloq_lane_waiter){ &b.client, eloq_lane_client_prepare_sleep(&b.client) };
	ck_assert_int_eq(eloq_lane_wait(waiters, 1, 1000), -ETIMEDOUT);
	ck_assert_int_eq(eloq_lane_wait(waiters, 2, 1000), -ETIMEDOUT);
	eloq_lane_worker_close(&b.worker, ELOQ_LANE_REASON_STOPPED);
	ck_assert_int_eq(eloq_lane_wait(&waiters[0], 1, 1000), -ETIMEDOUT);
	ck_assert_int_eq(eloq_lane_wait(&waiters[1], 1, UINT64_MAX / 4), 0);
	ck_assert_int_eq(eloq_lane_wait(waiters, 2, UINT64_MAX / 4), 0);
	lane_world_close(&a);
	lane_world_close(&b);
}
