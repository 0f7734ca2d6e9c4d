/*
 * lane_test.c - what holds step by step, with both ends of a lane in one thread: records, room,
 * wake-ups.
 *
 * Two threads: tests/race/lane_race_test.c.
 */
#include "shm/lane.h"

#include "tests/unit/lane_steps.h"

#include <string.h>

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
	(void)accept_next(&w, &got, NULL);
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
