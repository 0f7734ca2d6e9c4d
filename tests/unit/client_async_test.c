/* Several requests in flight: windows, order, full rings, resync, time limits, dead daemons. */
#include "client/eloqclient.h"
#include "common/prng.h"
#include "tests/support/fake_daemon.h"
#include "tests/unit/client_world.h"

#include <unistd.h>

enum { COMPLETIONS_MAX = 32 };

/* Poll until nothing is in flight; each result goes to its int by arg. */
static unsigned collect_all(struct client_world *world)
{
	struct eloq_completion completions[COMPLETIONS_MAX];
	unsigned count = 0;

	while (eloq_in_flight(world->channel) > 0) {
		int n = eloq_poll(world->channel, completions, COMPLETIONS_MAX, UINT64_MAX);

		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++)
			*(int *)completions[i].arg = completions[i].result;
		count += (unsigned)n;
	}
	return count;
}

static int submit_put(struct client_world *world, const char *key, const void *value, size_t bytes,
		      int *result)
{
	*result = 4711;
	return eloq_submit_put(world->channel, world->table, key, strlen(key), value, bytes, result,
			       NULL);
}

TEST(what_was_submitted_is_polled_once_each)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	int results[200];

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < 200; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(submit_put(&world, key, key, strlen(key), &results[i]), 0);
		memset(key, '!', sizeof(key)); /* it was copied */
	}
	ck_assert_uint_eq(eloq_in_flight(world.channel), 200);
	ck_assert_uint_eq(collect_all(&world), 200);
	for (unsigned i = 0; i < 200; i++)
		ck_assert_int_eq(results[i], 0);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX), 0);
	client_world_expect(&world, "key0", "key0");
	client_world_expect(&world, "key199", "key199");
	client_world_close(&world);
}

TEST(nothing_is_seen_before_a_flush)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	int result;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	ck_assert_int_eq(submit_put(&world, "key", "value", 5, &result), 0);
	usleep(20000);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PUT], 0);
	ck_assert_int_eq(eloq_flush(world.channel), 0);
	while (client_world_figures(&world).requests[ELOQ_OP_PUT] == 0)
		usleep(100);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX), 1);
	ck_assert_ptr_eq(completions[0].arg, &result);
	client_world_close(&world);
}

TEST(a_get_completes_with_its_value_or_its_error)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	unsigned seen = 0;

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	ck_assert_int_eq(client_world_put(&world, "empty", ""), 0);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "key", 3, "k", NULL), 0);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "empty", 5, "e", NULL), 0);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "none", 4, "n", NULL), 0);
	ck_assert_int_eq(eloq_submit_delete(world.channel, world.table, "none", 4, "d", NULL), 0);
	while (eloq_in_flight(world.channel) > 0) {
		int n = eloq_poll(world.channel, completions, 1, UINT64_MAX);

		ck_assert_int_eq(n, 1);
		seen++;
		switch (*(const char *)completions[0].arg) {
		case 'k':
			ck_assert_int_eq(completions[0].result, 0);
			ck_assert_uint_eq(completions[0].value_bytes, 5);
			ck_assert_str_eq(completions[0].value, "value");
			ck_assert_uint_gt(completions[0].timestamp, 0);
			break;
		case 'e':
			ck_assert_int_eq(completions[0].result, 0);
			ck_assert_uint_eq(completions[0].value_bytes, 0);
			ck_assert_ptr_nonnull(completions[0].value);
			break;
		default:
			ck_assert_int_eq(completions[0].result, -ELOQ_CLIENT_ENOTFOUND);
			ck_assert_ptr_null(completions[0].value);
			break;
		}
	}
	ck_assert_uint_eq(seen, 4);
	client_world_close(&world);
}

TEST(a_batch_is_submitted_and_may_be_freed_at_once)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_batch *batch;
	int results[2] = { 1, 1 };

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	ck_assert_int_eq(eloq_submit_batch(world.channel, world.table, batch, &results[0], &opts),
			 0); /* empty, yet a submission */
	for (unsigned i = 0; i < 300; i++)
		ck_assert_int_eq(eloq_batch_put(batch, &i, sizeof(i), "value", 5, 0), 0);
	ck_assert_int_eq(eloq_submit_batch(world.channel, world.table, batch, &results[1], &opts),
			 0);
	eloq_batch_free(batch);
	ck_assert_uint_eq(collect_all(&world), 2);
	ck_assert_int_eq(results[0], 0);
	ck_assert_int_eq(results[1], 0);
	ck_assert_uint_eq(fake_daemon_entry_count(world.daemon, world.table_id), 300);
	client_world_close(&world);
}

TEST(arguments_are_refused_as_by_the_blocking_calls)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timestamp = 1 };

	client_world_open(&world, &(struct fake_daemon_opts){ .value_bytes_max = 10 });
	ck_assert_int_eq(eloq_submit_get(NULL, world.table, "k", 1, NULL, NULL),
			 -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "", 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(
		eloq_submit_put(world.channel, world.table, "k", 1, "0123456789A", 11, NULL, NULL),
		-ELOQ_CLIENT_ETOOLONG);
	ck_assert_int_eq(eloq_submit_delete(world.channel, world.table, "k", 1, NULL, &opts),
			 -EINVAL);
	ck_assert_uint_eq(eloq_in_flight(world.channel), 0);
	client_world_close(&world);
}

/* --- Full --------------------------------------------------------------------------------------
 */

/* The worker takes nothing: the ring is what fits in flight, and not one more is accepted. */
TEST(a_full_ring_says_so_and_polling_makes_room)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_completion completions[COMPLETIONS_MAX];
	uint8_t value[1000] = { 0 };
	unsigned accepted = 0;
	int result;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "v", 1, &opts), 0);
	fake_daemon_pause_worker(world.daemon, 0, true);
	while ((result = eloq_submit_put(world.channel, world.table, &accepted, sizeof(accepted),
					 value, sizeof(value), NULL, &opts)) == 0)
		accepted++;
	ck_assert_int_eq(result, -EAGAIN);
	ck_assert_uint_gt(accepted, 20);
	ck_assert_uint_lt(accepted, 40);
	ck_assert_uint_eq(eloq_in_flight(world.channel), accepted);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 1000000), 0);
	fake_daemon_pause_worker(world.daemon, 0, false);
	ck_assert_int_gt(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX), 0);
	while (eloq_in_flight(world.channel) > 0)
		ck_assert_int_gt(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX),
				 0);
	ck_assert_uint_eq(fake_daemon_entry_count(world.daemon, world.table_id), accepted + 1);
	client_world_close(&world);
}

TEST(no_more_than_the_bound_are_unanswered_and_the_bound_is_reached)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_completion completions[COMPLETIONS_MAX];
	unsigned accepted = 0, idle = 0;

	client_world_open(&world, &(struct fake_daemon_opts){ .ans_ring_bytes = 1 << 20,
							      .req_ring_bytes = 1 << 20 });
	ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "v", 1, &opts), 0);
	fake_daemon_hold_answers(world.daemon, true);
	while (accepted < 2000 && idle < 100) {
		int r = eloq_submit_delete(world.channel, world.table, "k", 1, NULL, &opts);

		ck_assert_int_eq(eloq_flush(world.channel), 0);
		if (r == 0)
			accepted++;
		else
			idle++;
	}
	ck_assert_uint_eq(accepted, ELOQ_UNANSWERED_PER_LANE_MAX);
	fake_daemon_hold_answers(world.daemon, false);
	while (eloq_in_flight(world.channel) > 0)
		ck_assert_int_gt(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX),
				 0);
	client_world_close(&world);
}

/* One unanswered request is no bound for the others: ids go round its slot. */
TEST(one_slow_request_does_not_hold_up_thousands)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 1000000 };
	char slow = 0;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	fake_daemon_hold_answers(world.daemon, true);
	ck_assert_int_eq(eloq_get_into(world.channel, world.table, "key", 3, &slow, 1,
				       &(size_t){ 0 }, &opts),
			 -ETIMEDOUT);
	fake_daemon_hold_answers(world.daemon, false);
	for (unsigned i = 0; i < 5000; i++) {
		ck_assert_int_eq(client_world_put(&world, "key", "other"), 0);
		ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "key", 3, NULL, NULL),
				 0);
		ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX),
				 1);
		ck_assert_str_eq(completions[0].value, "other");
	}
	ck_assert_int_eq(slow, 0);
	client_world_close(&world);
}

/* Far more than there is bulk memory for: they queue for it, and none is lost. */
TEST(many_long_values_in_flight_share_little_bulk_memory)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	uint8_t *value = client_world_bytes(9, 200000);
	unsigned submitted = 0, puts = 0, gets = 0;
	struct fake_daemon_figures figures;

	client_world_open(&world, &(struct fake_daemon_opts){ .late = 300, .seed = 5 });
	while (puts < 40) {
		char key[16];
		int n, r = -EAGAIN;

		(void)snprintf(key, sizeof(key), "key%u", submitted % 40);
		if (submitted < 40)
			r = eloq_submit_put(world.channel, world.table, key, strlen(key), value,
					    200000 - submitted, NULL, NULL);
		submitted += r == 0;
		ck_assert(r == 0 || r == -EAGAIN);
		n = eloq_poll(world.channel, completions, COMPLETIONS_MAX, r == 0 ? 0 : UINT64_MAX);
		for (int i = 0; i < n; i++)
			ck_assert_int_eq(completions[i].result, 0);
		puts += (unsigned)n;
	}
	for (uintptr_t i = 0; i < 40; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", (unsigned)i);
		ck_assert_int_eq(eloq_submit_get(world.channel, world.table, key, strlen(key),
						 (void *)i, NULL),
				 0);
	}
	while (eloq_in_flight(world.channel) > 0) {
		int n = eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX);

		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			ck_assert_int_eq(completions[i].result, 0);
			ck_assert_uint_eq(completions[i].value_bytes,
					  200000 - (uintptr_t)completions[i].arg);
			ck_assert(memcmp(completions[i].value, value, completions[i].value_bytes) ==
				  0);
		}
		gets += (unsigned)n;
	}
	ck_assert_uint_eq(gets, 40);
	/* Both lanes at their bound, and nothing closed to be opened again; then few are left. */
	figures = client_world_figures(&world);
	ck_assert_uint_le(figures.bulks_opened, 2 * ELOQ_BULKS_PER_LANE_MAX);
	usleep(1100000);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	ck_assert_uint_le(client_world_figures(&world).bulks, 2 * 2 * 2);
	free(value);
	client_world_close(&world);
}

/* --- Together with blocking calls --------------------------------------------------------------
 */

TEST(a_blocking_call_leaves_completions_for_poll)
{
	struct client_world world;
	int results[50];

	client_world_open(&world, &(struct fake_daemon_opts){ .late = 500, .seed = 3 });
	for (unsigned i = 0; i < 50; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(submit_put(&world, key, "async", 5, &results[i]), 0);
		if (i % 10 == 9)
			client_world_expect(&world, "absent", NULL);
	}
	ck_assert_int_eq(client_world_put(&world, "sync", "done"), 0);
	ck_assert_uint_eq(eloq_in_flight(world.channel), 50);
	ck_assert_uint_eq(collect_all(&world), 50);
	for (unsigned i = 0; i < 50; i++)
		ck_assert_int_eq(results[i], 0);
	client_world_close(&world);
}

TEST(writes_to_one_key_take_effect_in_the_order_of_submission)
{
	struct client_world world;
	int results[100];

	client_world_open(&world, &(struct fake_daemon_opts){
					  .late = 500, .die_before = 10, .die_after = 10 });
	for (unsigned round = 0; round < 20; round++) {
		char value[16];

		for (unsigned i = 0; i < 100; i++) {
			(void)snprintf(value, sizeof(value), "%u.%u", round, i);
			while (submit_put(&world, "key", value, strlen(value), &results[i]) ==
			       -EAGAIN)
				(void)collect_all(&world);
		}
		client_world_expect(&world, "key", value); /* behind all of them on this lane */
		(void)collect_all(&world);
	}
	ck_assert_uint_gt(client_world_figures(&world).deaths, 0);
	client_world_close(&world);
}

/* --- Workers that die --------------------------------------------------------------------------
 */

TEST(requests_of_a_dead_worker_are_sent_again_in_order)
{
	struct client_world world;
	int results[100];
	struct fake_daemon_figures figures;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	fake_daemon_hold_answers(world.daemon, true);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(submit_put(&world, key, key, strlen(key), &results[i]), 0);
	}
	ck_assert_int_eq(eloq_flush(world.channel), 0);
	while (client_world_figures(&world).requests[ELOQ_OP_PUT] < 100)
		usleep(100);
	fake_daemon_kill_worker(world.daemon, 0);
	fake_daemon_hold_answers(world.daemon, false);
	fake_daemon_revive_worker(world.daemon, 0);
	ck_assert_uint_eq(collect_all(&world), 100);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(results[i], 0);
	figures = client_world_figures(&world);
	ck_assert_uint_gt(figures.resent, 10);
	ck_assert_uint_lt(figures.resent, 90); /* the other worker's lane was not disturbed */
	ck_assert_uint_eq(figures.requests[ELOQ_OP_PUT], 100 + figures.resent);
	client_world_close(&world);
}

TEST(while_a_worker_is_away_requests_wait_here_up_to_a_ring_of_them)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	unsigned accepted = 0;
	int r;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	fake_daemon_kill_worker(world.daemon, 0);
	while ((r = eloq_submit_put(world.channel, world.table, "k", 1, "value", 5, NULL, NULL)) ==
	       0)
		accepted++;
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_uint_gt(accepted, 100);
	ck_assert_uint_le(accepted, ELOQ_UNANSWERED_PER_LANE_MAX);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 0), 0);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 1000000), 0);
	fake_daemon_revive_worker(world.daemon, 0);
	while (eloq_in_flight(world.channel) > 0)
		ck_assert_int_gt(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX),
				 0);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PUT], accepted);
	client_world_expect(&world, "k", "value");
	client_world_close(&world);
}

TEST(what_was_given_up_is_not_sent_again)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 2000000 };
	uint8_t *value = client_world_bytes(1, 70000);

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	fake_daemon_pause_worker(world.daemon, 0, true); /* it sees nothing of what follows */
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, value, 70000, &opts),
				 -ETIMEDOUT);
	fake_daemon_kill_worker(world.daemon, 0);
	fake_daemon_pause_worker(world.daemon, 0, false);
	fake_daemon_revive_worker(world.daemon, 0);
	client_world_expect(&world, "k", NULL);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PUT], 0);
	/* Their memory is free again. */
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, value, 70000, NULL),
				 0);
	ck_assert_uint_eq(client_world_figures(&world).bulks_opened, 5);
	free(value);
	client_world_close(&world);
}

TEST(an_idle_lane_follows_its_worker_too)
{
	struct client_world world;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	for (unsigned i = 0; i < 20; i++) {
		char value[16];

		(void)snprintf(value, sizeof(value), "%u", i);
		ck_assert_int_eq(client_world_put(&world, "key", value), 0);
		fake_daemon_kill_worker(world.daemon, 0);
		fake_daemon_revive_worker(world.daemon, 0);
		client_world_expect(&world, "key", value);
	}
	client_world_close(&world);
}

/* --- Time limits -------------------------------------------------------------------------------
 */

TEST(a_submission_whose_time_is_over_completes_with_that)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 3000000 };
	int results[3] = { 1, 1, 1 };
	uint8_t *value = client_world_bytes(1, 50000);

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	fake_daemon_hold_answers(world.daemon, true);
	ck_assert_int_eq(eloq_submit_put(world.channel, world.table, "a", 1, value, 50000,
					 &results[0], &opts),
			 0);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "key", 3, &results[1], &opts),
			 0);
	ck_assert_int_eq(eloq_submit_get(world.channel, world.table, "key", 3, &results[2], NULL),
			 0);
	while (eloq_in_flight(world.channel) > 1) {
		struct eloq_completion completion;

		ck_assert_int_eq(eloq_poll(world.channel, &completion, 1, UINT64_MAX), 1);
		*(int *)completion.arg = completion.result;
	}
	ck_assert_int_eq(results[0], -ETIMEDOUT);
	ck_assert_int_eq(results[1], -ETIMEDOUT);
	fake_daemon_hold_answers(world.daemon, false);
	ck_assert_uint_eq(collect_all(&world), 1);
	ck_assert_int_eq(results[2], 0);
	for (unsigned i = 0; i < 50; i++)
		ck_assert_int_eq(eloq_put(world.channel, world.table, "b", 1, value, 50000, NULL),
				 0);
	free(value);
	client_world_close(&world);
}

/* Nobody has seen it: it leaves without a trace, and the worker never executes it. */
TEST(a_submission_that_ran_out_of_time_while_waiting_is_never_executed)
{
	struct client_world world;
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .timeout_ns = 1000000 };
	int result = 1;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 1 });
	fake_daemon_kill_worker(world.daemon, 0);
	ck_assert_int_eq(
		eloq_submit_put(world.channel, world.table, "a", 1, "v", 1, &result, &opts), 0);
	ck_assert_uint_eq(collect_all(&world), 1);
	ck_assert_int_eq(result, -ETIMEDOUT);
	fake_daemon_revive_worker(world.daemon, 0);
	client_world_expect(&world, "a", NULL);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PUT], 0);
	client_world_close(&world);
}

TEST(polling_with_a_time_limit_comes_back_empty_handed)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	int result;

	client_world_open(&world, NULL);
	fake_daemon_hold_answers(world.daemon, true);
	ck_assert_int_eq(submit_put(&world, "key", "value", 5, &result), 0);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 0), 0);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 3000000), 0);
	fake_daemon_hold_answers(world.daemon, false);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, UINT64_MAX), 1);
	client_world_close(&world);
}

/* --- Ends --------------------------------------------------------------------------------------
 */

TEST(when_the_daemon_dies_each_request_in_flight_completes_with_that)
{
	struct client_world world;
	struct eloq_completion completions[COMPLETIONS_MAX];
	int results[100];

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	fake_daemon_hold_answers(world.daemon, true);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(submit_put(&world, key, key, strlen(key), &results[i]), 0);
	}
	ck_assert_int_eq(eloq_flush(world.channel), 0);
	fake_daemon_hang_up(world.daemon);
	ck_assert_uint_eq(collect_all(&world), 100);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(results[i], -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(eloq_poll(world.channel, completions, COMPLETIONS_MAX, 0),
			 -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(submit_put(&world, "key", "value", 5, &results[0]), -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(eloq_flush(world.channel), -ELOQ_CLIENT_ECLOSED);
	client_world_close(&world);
}

TEST(one_who_polls_without_waiting_learns_of_a_dead_daemon_too)
{
	struct client_world world;
	struct eloq_completion completion;
	int result, r;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	fake_daemon_hold_answers(world.daemon, true);
	ck_assert_int_eq(submit_put(&world, "key", "value", 5, &result), 0);
	fake_daemon_hang_up(world.daemon);
	while ((r = eloq_poll(world.channel, &completion, 1, 0)) == 0)
		usleep(1000);
	ck_assert_int_eq(r, 1);
	ck_assert_int_eq(completion.result, -ELOQ_CLIENT_ECLOSED);
	client_world_close(&world);
}

TEST(a_closed_lane_completes_what_was_in_flight_on_it)
{
	struct client_world world;
	int results[100];
	unsigned stopped = 0;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	fake_daemon_pause_worker(world.daemon, 0, true);
	fake_daemon_pause_worker(world.daemon, 1, true);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(submit_put(&world, key, key, strlen(key), &results[i]), 0);
	}
	fake_daemon_close_lanes(world.daemon, ELOQ_LANE_REASON_STOPPED);
	ck_assert_uint_eq(collect_all(&world), 100);
	for (unsigned i = 0; i < 100; i++)
		stopped += results[i] == -ELOQ_CLIENT_ESTOPPED;
	ck_assert_uint_eq(stopped, 100);
	client_world_close(&world);
}

TEST(a_channel_may_be_closed_with_requests_in_flight)
{
	struct client_world world;
	int result;
	uint8_t *value = client_world_bytes(1, 100000);

	client_world_open(&world, &(struct fake_daemon_opts){ .late = 1000 });
	for (unsigned i = 0; i < 10; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "key%u", i);
		(void)submit_put(&world, key, value, i * 10000, &result);
		ck_assert_int_eq(
			eloq_submit_get(world.channel, world.table, key, strlen(key), NULL, NULL),
			0);
	}
	ck_assert_int_eq(eloq_flush(world.channel), 0);
	eloq_channel_close(world.channel);
	ck_assert_int_eq(eloq_channel_open(world.client, &world.channel), 0);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	client_world_expect(&world, "key", "value");
	free(value);
	client_world_close(&world);
}
