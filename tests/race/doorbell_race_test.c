/*
 * doorbell_race_test.c - no wake is lost: both sides sleep whenever they find nothing, and whatever
 * can end a sleep does. The worker polls its eventfd edge-triggered and never reads it.
 */
#include "shm/lane.h"
#include "tests/race/lane_race.h"

TEST(both_sides_sleep_between_single_requests_and_each_wake_arrives)
{
	const struct race_options options = {
		.ids = 20000,
		.window = 1,
		.value_bytes_max = 64,
		.sleep = true,
	};
	struct race *race = race_run(&options);

	ck_assert_uint_gt(race->worker_sleeps, 0);
	ck_assert_uint_gt(race->client_sleeps, 0);
	race_close(race);
}

TEST(both_sides_sleep_under_a_window_and_each_wake_arrives)
{
	const struct race_options options = {
		.ids = 40000,
		.window = 32,
		.value_bytes_max = 300,
		.sleep = true,
	};

	race_close(race_run(&options));
}

/* Requests of a quarter ring: the client sleeps for want of request space as well. */
TEST(a_client_whose_ring_was_full_is_woken_when_space_is_released)
{
	const struct race_options options = {
		.ids = 10000,
		.window = 16,
		.value_bytes_max = RACE_RING_BYTES / 4 - 100,
		.inline_limit = RACE_RING_BYTES / 4,
		.sleep = true,
	};

	race_close(race_run(&options));
}

TEST(a_worker_without_answer_space_is_woken_when_answers_are_given_back)
{
	const struct race_options options = {
		.ids = 20000,
		.window = 64,
		.value_bytes_max = 1000,
		.sleep = true,
		.takes_late = true,
	};
	struct race *race = race_run(&options);

	ck_assert_uint_gt(race->blocked, 0);
	race_close(race);
}

TEST(a_sleeping_client_is_woken_by_the_worker_that_takes_its_lane_over)
{
	const struct race_options options = {
		.ids = 30000,
		.window = 16,
		.value_bytes_max = 200,
		.sleep = true,
		.deaths = 300,
	};
	struct race *race = race_run(&options);

	ck_assert_uint_eq(race->deaths, options.deaths);
	race_close(race);
}

/* --- Several lanes -----------------------------------------------------------------------------
 */

enum { LANES = 3, ROUNDS = 5000 };

struct choir {
	struct lane_world lanes[LANES];
	struct eloq_prng prng;
	_Atomic uint32_t turn; /* lane to answer on, + 1 */
	_Atomic bool stop;
};

/* Answers on one lane at a time, which the client cannot guess. */
static void *choir_worker_main(void *arg)
{
	struct choir *choir = arg;

	while (!atomic_load(&choir->stop)) {
		uint32_t turn = atomic_exchange(&choir->turn, 0);
		struct eloq_lane_worker *lane;
		struct eloq_request request;
		uint32_t reason, reserved;
		size_t offset;

		if (turn == 0) {
			(void)sched_yield();
			continue;
		}
		lane = &choir->lanes[turn - 1].worker;
		eloq_assert(eloq_lane_worker_peek(lane, &request, &offset, &reason) == 1);
		reserved = eloq_lane_worker_accept(lane, &request, offset, NULL);
		race_pause(&choir->prng);
		eloq_lane_worker_answer(lane, reserved, &(struct eloq_answer){ .id = request.id },
					NULL, NULL);
		eloq_lane_worker_publish(lane);
	}
	return NULL;
}

static bool choir_any_has_news(const struct choir *choir)
{
	for (unsigned i = 0; i < LANES; i++)
		if (eloq_lane_client_has_news(&choir->lanes[i].client))
			return true;
	return false;
}

static void choir_sleep(struct choir *choir)
{
	struct eloq_lane_waiter waiters[LANES];

	for (unsigned i = 0; i < LANES; i++) {
		struct eloq_lane_client *lane = &choir->lanes[i].client;

		waiters[i].lane = lane;
		waiters[i].wake_seen = eloq_lane_client_prepare_sleep(lane);
	}
	if (!choir_any_has_news(choir)) {
		int r = eloq_lane_wait(waiters, LANES, RACE_WATCHDOG_NS);

		eloq_assert(r == 0 || r == -EINTR);
	}
	for (unsigned i = 0; i < LANES; i++)
		eloq_lane_client_awake(&choir->lanes[i].client);
}

TEST(one_sleep_on_several_lanes_ends_when_any_of_them_is_answered)
{
	struct choir *choir = calloc(1, sizeof(*choir));
	struct eloq_prng prng;
	pthread_t thread;

	eloq_prng_seed(&prng, test_seed());
	eloq_prng_seed(&choir->prng, eloq_prng_next(&prng));
	for (unsigned i = 0; i < LANES; i++) {
		lane_world_open(&choir->lanes[i], RACE_RING_BYTES, RACE_RING_BYTES, true);
		lane_world_sync(&choir->lanes[i], 1);
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, choir_worker_main, choir), 0);
	for (uint64_t id = 1; id <= ROUNDS; id++) {
		uint32_t chosen = (uint32_t)eloq_prng_below(&prng, LANES);
		struct eloq_lane_client *lane = &choir->lanes[chosen].client;
		const struct eloq_request request = {
			.id = id,
			.answered_below = id,
			.op = ELOQ_OP_PING,
		};
		const uint8_t *key, *value;
		struct eloq_answer answer;

		ck_assert_int_eq(eloq_lane_client_put(lane, &request, NULL, NULL), 0);
		eloq_lane_client_publish(lane);
		atomic_store(&choir->turn, chosen + 1);
		while (eloq_lane_client_take(lane, &answer, &key, &value) != 1)
			choir_sleep(choir);
		ck_assert_uint_eq(answer.id, id);
		eloq_lane_client_done(lane);
	}
	atomic_store(&choir->stop, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; i < LANES; i++)
		lane_world_close(&choir->lanes[i]);
	free(choir);
}

/* --- What else ends a sleep --------------------------------------------------------------------
 */

static void *close_lane(void *arg)
{
	struct lane_world *w = arg;

	/* Until the client has set its flag, which it does just before it sleeps. */
	while (!atomic_load(&w->worker.req->asleep))
		(void)sched_yield();
	eloq_lane_worker_close(&w->worker, ELOQ_LANE_REASON_STOPPED);
	return NULL;
}

TEST(closing_a_lane_wakes_its_client)
{
	for (unsigned round = 0; round < 200; round++) {
		struct eloq_lane_waiter waiter;
		struct lane_world w;
		pthread_t thread;
		uint32_t reason = 0;

		lane_world_open(&w, RACE_RING_BYTES, RACE_RING_BYTES, true);
		lane_world_sync(&w, 1);
		ck_assert_int_eq(pthread_create(&thread, NULL, close_lane, &w), 0);
		while (eloq_lane_client_step(&w.client, &reason) != ELOQ_LANE_EVENT_CLOSED) {
			waiter.lane = &w.client;
			waiter.wake_seen = eloq_lane_client_prepare_sleep(&w.client);
			if (!eloq_lane_client_has_news(&w.client))
				ck_assert_int_ne(eloq_lane_wait(&waiter, 1, RACE_WATCHDOG_NS),
						 -ETIMEDOUT);
		}
		ck_assert_uint_eq(reason, ELOQ_LANE_REASON_STOPPED);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		lane_world_close(&w);
	}
}
