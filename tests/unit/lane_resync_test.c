/*
 * lane_resync_test.c - how a lane begins, and how it goes on after its worker died.
 */
#include "shm/lane.h"

#include "tests/unit/lane_steps.h"

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
