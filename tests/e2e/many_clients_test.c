/*
 * many_clients_test.c - many requests in flight, many processes, many threads.
 */
#include "tests/support/service.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { FLIGHT = 600 };

struct flight {
	bool back[FLIGHT];
	unsigned count;
};

/* Collect until nothing is in flight; each request's arg is its place in @flight. */
static void collect(struct service *s, struct flight *flight, int expected, bool has_values)
{
	struct eloq_completion done[32];

	while (eloq_in_flight(s->channel) > 0) {
		int count = eloq_poll(s->channel, done, 32, UINT64_MAX);

		ck_assert_int_gt(count, 0);
		for (int i = 0; i < count; i++) {
			size_t at = (size_t)((bool *)done[i].arg - flight->back);

			ck_assert_uint_lt(at, FLIGHT);
			ck_assert(!flight->back[at]);
			ck_assert_int_eq(done[i].result, expected);
			if (has_values) {
				ck_assert_uint_eq(done[i].value_bytes, sizeof(at));
				ck_assert_int_eq(memcmp(done[i].value, &at, sizeof(at)), 0);
			}
			flight->back[at] = true;
			flight->count++;
		}
	}
}

static void submit_all(struct service *s, struct flight *flight, enum eloq_async_op op)
{
	char key[16];

	*flight = (struct flight){ .count = 0 };
	for (size_t i = 0; i < FLIGHT; i++) {
		int r = -EAGAIN;

		(void)snprintf(key, sizeof(key), "f%04zu", i);
		while (r == -EAGAIN) {
			struct eloq_completion done;

			if (op == ELOQ_ASYNC_PUT)
				r = eloq_submit_put(s->channel, s->table, key, 5, &i, sizeof(i),
						    &flight->back[i], NULL);
			else if (op == ELOQ_ASYNC_GET)
				r = eloq_submit_get(s->channel, s->table, key, 5, &flight->back[i],
						    NULL);
			else
				r = eloq_submit_delete(s->channel, s->table, key, 5,
						       &flight->back[i], NULL);
			if (r == -EAGAIN && eloq_poll(s->channel, &done, 1, UINT64_MAX) == 1) {
				ck_assert_int_eq(done.result, 0);
				*(bool *)done.arg = true;
				flight->count++;
			}
		}
		ck_assert_int_eq(r, 0);
	}
}

TEST_ON_BOTH(hundreds_of_requests_in_flight_are_each_answered_once)
{
	static struct flight flight;
	struct service s;

	service_start(&s, io, 2);
	submit_all(&s, &flight, ELOQ_ASYNC_PUT);
	collect(&s, &flight, 0, false);
	ck_assert_uint_eq(flight.count, FLIGHT);
	submit_all(&s, &flight, ELOQ_ASYNC_GET);
	collect(&s, &flight, 0, true);
	ck_assert_uint_eq(flight.count, FLIGHT);
	submit_all(&s, &flight, ELOQ_ASYNC_DELETE);
	collect(&s, &flight, 0, false);
	ck_assert_uint_eq(flight.count, FLIGHT);
	service_expect_absent(&s, "f0000");
	ck_assert_int_eq(eloq_poll(s.channel, NULL, 0, 0), 0);
	service_stop(&s);
}

TEST_ON_BOTH(writes_of_one_channel_to_one_key_take_effect_in_order)
{
	struct service s;
	struct eloq_completion done[16];
	char value[16];

	service_start(&s, io, 2);
	for (unsigned i = 0; i < 500; i++) {
		int r;

		(void)snprintf(value, sizeof(value), "%06u", i);
		while ((r = eloq_submit_put(s.channel, s.table, "k", 1, value, 6, NULL, NULL)) ==
		       -EAGAIN)
			ck_assert_int_ge(eloq_poll(s.channel, done, 16, UINT64_MAX), 0);
		ck_assert_int_eq(r, 0);
	}
	while (eloq_in_flight(s.channel) > 0)
		ck_assert_int_gt(eloq_poll(s.channel, done, 16, UINT64_MAX), 0);
	service_expect_text(&s, "k", "000499");
	service_stop(&s);
}

/* What client processes are told, and what they tell. */
struct crowd_member {
	const struct daemon *daemon;
	unsigned number;
};

enum { CROWD = 5, CROWD_ROUNDS = 60 };

/* Keys of its own must hold what it wrote; the shared ones what any of the crowd wrote. */
static void crowd_member_run(void *arg)
{
	const struct crowd_member *member = arg;
	struct service s = { .daemon = *member->daemon };
	char key[32], value[64];

	service_connect(&s);
	for (unsigned i = 0; i < CROWD_ROUNDS; i++) {
		struct eloq_value got = { 0 };
		unsigned writer, round;

		(void)snprintf(key, sizeof(key), "own-%u-%u", member->number, i);
		(void)snprintf(value, sizeof(value), "written by %u in %u", member->number, i);
		service_put_text(&s, key, value);
		service_expect_text(&s, key, value);
		(void)snprintf(key, sizeof(key), "shared-%u", i % 8);
		service_put_text(&s, key, value);
		ck_assert_int_eq(eloq_get(s.channel, s.table, key, strlen(key), &got, NULL), 0);
		ck_assert_int_eq(sscanf(got.data, "written by %u in %u", &writer, &round), 2);
		ck_assert_uint_lt(writer, CROWD);
		ck_assert_uint_eq(round % 8, i % 8);
		eloq_value_free(&got);
	}
	service_disconnect(&s);
}

TEST_ON_BOTH(several_client_processes_work_on_own_and_on_shared_keys)
{
	struct crowd_member members[CROWD];
	pid_t pids[CROWD];
	struct service s;
	char key[32], value[64];

	service_start(&s, io, 2);
	for (unsigned i = 0; i < CROWD; i++) {
		members[i] = (struct crowd_member){ &s.daemon, i };
		pids[i] = daemon_fork(crowd_member_run, &members[i]);
	}
	for (unsigned i = 0; i < CROWD; i++)
		daemon_join(pids[i]);
	for (unsigned i = 0; i < CROWD; i++) {
		for (unsigned k = 0; k < CROWD_ROUNDS; k++) {
			(void)snprintf(key, sizeof(key), "own-%u-%u", i, k);
			(void)snprintf(value, sizeof(value), "written by %u in %u", i, k);
			service_expect_text(&s, key, value);
		}
	}
	service_stop(&s);
}

struct threaded {
	struct service *service;
	struct eloq_channel *channel;
	unsigned number;
};

static void *threaded_run(void *arg)
{
	struct threaded *thread = arg;
	struct service own = *thread->service;
	char key[32];

	own.channel = eloq_channel(own.client);
	thread->channel = own.channel;
	ck_assert_ptr_eq(eloq_channel(own.client), own.channel);
	for (unsigned i = 0; i < 50; i++) {
		(void)snprintf(key, sizeof(key), "thread-%u-%u", thread->number, i);
		service_put_text(&own, key, key);
		service_expect_text(&own, key, key);
	}
	return NULL;
}

TEST_ON_BOTH(each_thread_has_a_channel_of_its_own)
{
	enum { THREADS = 4 };
	struct threaded threads[THREADS];
	pthread_t ids[THREADS];
	struct service s;

	service_start(&s, io, 2);
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i] = (struct threaded){ .service = &s, .number = i };
		ck_assert_int_eq(pthread_create(&ids[i], NULL, threaded_run, &threads[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(ids[i], NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_ptr_ne(threads[i].channel, s.channel);
	service_expect_text(&s, "thread-0-49", "thread-0-49");
	service_expect_text(&s, "thread-3-0", "thread-3-0");
	service_stop(&s);
}
