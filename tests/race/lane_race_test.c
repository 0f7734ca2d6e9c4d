/*
 * lane_race_test.c - both ends of a lane in two threads: order, content and RESYNC under load.
 *
 * Neither side sleeps here; doorbell_race_test.c is about sleeping.
 */
#include "shm/lane.h"
#include "tests/race/lane_race.h"

TEST(with_one_request_in_flight_every_id_is_answered_once)
{
	const struct race_options options = { .ids = 20000, .window = 1, .value_bytes_max = 200 };

	race_close(race_run(&options));
}

TEST(with_many_requests_in_flight_every_id_is_answered_once)
{
	const struct race_options options = { .ids = 50000, .window = 32, .value_bytes_max = 300 };

	race_close(race_run(&options));
}

TEST(records_longer_than_lines_and_as_long_as_a_ring_allows_stay_whole)
{
	const struct race_options options = {
		.ids = 5000,
		.window = 8,
		.value_bytes_max = RACE_RING_BYTES / 4 - 100,
		.inline_limit = RACE_RING_BYTES / 4,
	};

	race_close(race_run(&options));
}

TEST(a_client_that_gives_answers_back_late_slows_only_itself)
{
	const struct race_options options = {
		.ids = 30000,
		.window = 64,
		.value_bytes_max = 1000,
		.takes_late = true,
	};
	struct race *race = race_run(&options);

	ck_assert_uint_gt(race->blocked, 0);
	race_close(race);
}

/* Three hundred deaths, each at a random step of a worker at work. */
TEST(when_workers_die_under_load_every_id_is_answered_once)
{
	const struct race_options options = {
		.ids = 50000,
		.window = 32,
		.value_bytes_max = 300,
		.deaths = 300,
	};
	struct race *race = race_run(&options);

	ck_assert_uint_eq(race->deaths, options.deaths);
	ck_assert_uint_gt(race->resyncs, 1);
	ck_assert_uint_le(race->resyncs, options.deaths + 1);
	race_close(race);
}
