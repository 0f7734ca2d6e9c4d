/*
 * lane_race.h - a client and a worker in two threads on one mapping, for TSan and for lost wakes.
 *
 * The client sends ids 1, 2, 3 .. with at most a window of them unanswered and checks that each is
 * answered exactly once with the right bytes; what it republishes after a resync is what had no
 * answer. The worker keeps some requests for a while and answers in any order. With deaths it is
 * replaced by a new one at random moments, between any two steps, and all that it kept privately
 * is gone. With sleep both sides sleep whenever they find nothing, after a pause of random length,
 * so that each of the two Dekker windows is hit from both sides.
 *
 * A lost wake shows as a sleep that outlives RACE_WATCHDOG_NS, which aborts.
 */
#ifndef ELOQ_TESTS_RACE_LANE_RACE_H
#define ELOQ_TESTS_RACE_LANE_RACE_H

#include "common/clock.h"
#include "common/limits.h"
#include "common/prng.h"
#include "tests/support/test.h"
#include "tests/unit/lane_world.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { RACE_RING_BYTES = ELOQ_RING_BYTES_MIN, RACE_OWED_MAX = 8, RACE_IDS_MAX = 200000 };

#define RACE_WATCHDOG_NS (120 * ELOQ_NS_PER_S)

struct race_options {
	unsigned ids;
	unsigned window;
	unsigned value_bytes_max; /* of requests and of answers */
	unsigned inline_limit;	  /* 0: the default */
	bool sleep;
	unsigned deaths;
	bool takes_late; /* the client gives answers back only when it finds no more */
};

struct race_owed {
	struct eloq_request request;
	uint32_t reserved;
};

struct race {
	struct race_options options;
	struct lane_world w;
	_Atomic bool stop;

	/* The worker's. */
	pthread_t thread;
	int epoll;
	struct eloq_prng worker_prng;
	uint32_t incarnation;
	unsigned deaths;
	struct race_owed owed[RACE_OWED_MAX];
	unsigned owed_count;
	unsigned worker_sleeps, blocked;

	/* The client's. */
	struct eloq_prng client_prng;
	uint8_t *answered; /* by id */
	uint64_t lowest;   /* unanswered */
	uint64_t next;	   /* to put */
	unsigned taken, resyncs, client_sleeps;
};

/* Nothing, a few cycles, or a turn of somebody else. */
static inline void race_pause(struct eloq_prng *prng)
{
	uint64_t kind = eloq_prng_below(prng, 16);

	if (kind == 0)
		(void)sched_yield();
	else if (kind < 8)
		for (uint64_t n = eloq_prng_below(prng, 200); n > 0; n--)
			eloq_cpu_relax();
}

static inline uint32_t race_value_bytes(const struct race *race, uint64_t id, bool answer)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, id * 2 + answer);
	return (uint32_t)eloq_prng_below(&prng, race->options.value_bytes_max + 1);
}

static inline uint8_t race_byte(uint64_t id, size_t i)
{
	return (uint8_t)(id * 131 + i);
}

static inline void race_fill(uint8_t *value, uint64_t id, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		value[i] = race_byte(id, i);
}

static inline void race_check_value(const uint8_t *value, uint64_t id, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		eloq_assert(value[i] == race_byte(id, i));
}

/* --- The worker's thread -----------------------------------------------------------------------
 */

/* kill -9, in effect: only what was published is left. */
static inline bool race_worker_dies(struct race *race)
{
	if (race->deaths == race->options.deaths || eloq_prng_below(&race->worker_prng, 64) != 0)
		return false;
	race->deaths++;
	race->owed_count = 0;
	lane_world_new_worker(&race->w, ++race->incarnation);
	return true;
}

static inline unsigned race_worker_accept(struct race *race)
{
	struct race_owed *owed = &race->owed[race->owed_count];
	uint8_t payload[RACE_RING_BYTES];
	uint32_t reason;
	size_t offset;
	int r;

	if (race->owed_count == RACE_OWED_MAX)
		return 0;
	r = eloq_lane_worker_peek(&race->w.worker, &owed->request, &offset, &reason);
	eloq_assert(r == 1 || r == 0 || r == -EAGAIN);
	race->blocked += r == -EAGAIN;
	if (r != 1)
		return 0;
	owed->reserved = eloq_lane_worker_accept(&race->w.worker, &owed->request, offset, payload);
	eloq_assert(owed->request.value_bytes == race_value_bytes(race, owed->request.id, false));
	race_check_value(payload, owed->request.id, owed->request.value_bytes);
	race->owed_count++;
	return 1;
}

static inline void race_worker_answer(struct race *race)
{
	unsigned i = (unsigned)eloq_prng_below(&race->worker_prng, race->owed_count);
	const struct race_owed *owed = &race->owed[i];
	const struct eloq_answer answer = {
		.id = owed->request.id,
		.value_bytes = race_value_bytes(race, owed->request.id, true),
		.incarnation = race->incarnation,
	};
	uint8_t value[RACE_RING_BYTES];

	race_fill(value, answer.id, answer.value_bytes);
	eloq_lane_worker_answer(&race->w.worker, owed->reserved, &answer, NULL, value);
	race->owed[i] = race->owed[--race->owed_count];
}

/* Takes some, answers some, publishes. Nothing found, then nothing stays owed. */
static inline unsigned race_worker_turn(struct race *race)
{
	unsigned work = 0, found;

	do {
		found = race_worker_accept(race);
		work += found;
		if (race_worker_dies(race))
			return 1;
	} while (found && eloq_prng_below(&race->worker_prng, 4) != 0);
	while (race->owed_count > 0 && (!found || eloq_prng_below(&race->worker_prng, 2))) {
		race_worker_answer(race);
		work++;
		if (race_worker_dies(race))
			return 1;
	}
	eloq_lane_worker_publish(&race->w.worker);
	return work;
}

static inline void race_worker_sleep(struct race *race)
{
	struct epoll_event event;
	int n = 1;

	race_pause(&race->worker_prng);
	eloq_worker_page_set_asleep(race->w.page_base);
	if (race_worker_turn(race) == 0 && !atomic_load(&race->stop)) {
		race->worker_sleeps++;
		n = epoll_wait(race->epoll, &event, 1, (int)(RACE_WATCHDOG_NS / ELOQ_NS_PER_MS));
	}
	eloq_assert(n == 1 || (n < 0 && errno == EINTR));
	eloq_worker_page_set_awake(race->w.page_base);
}

static inline void *race_worker_main(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		if (race_worker_turn(race) > 0)
			continue;
		if (race->options.sleep)
			race_worker_sleep(race);
		else
			(void)sched_yield();
	}
	return NULL;
}

/* --- The client's thread -----------------------------------------------------------------------
 */

/* Puts what the window allows, in id order, without what is answered. Returns how many. */
static inline unsigned race_client_put(struct race *race)
{
	uint8_t value[RACE_RING_BYTES];
	unsigned count = 0;

	for (; race->next <= race->options.ids && race->next - race->lowest < race->options.window;
	     race->next++) {
		struct eloq_request request = {
			.id = race->next,
			.answered_below = race->lowest,
			.op = ELOQ_OP_PUT,
			.value_bytes = race_value_bytes(race, race->next, false),
		};
		int r;

		if (race->answered[race->next])
			continue;
		if (race->options.inline_limit) {
			request.flags |= ELOQ_REQ_INLINE_LIMIT;
			request.words[ELOQ_WORD_INLINE_LIMIT] = race->options.inline_limit;
		}
		race_fill(value, request.id, request.value_bytes);
		r = eloq_lane_client_put(&race->w.client, &request, NULL, value);
		if (r == -EAGAIN)
			break;
		eloq_assert(r == 0);
		count++;
	}
	if (count)
		eloq_lane_client_publish(&race->w.client);
	return count;
}

static inline unsigned race_client_take(struct race *race)
{
	const uint8_t *key, *value;
	struct eloq_answer answer;
	unsigned count = 0;
	int r;

	while ((r = eloq_lane_client_take(&race->w.client, &answer, &key, &value)) == 1) {
		eloq_assert(answer.id >= race->lowest && answer.id < race->next);
		eloq_assert(!race->answered[answer.id]);
		eloq_assert(answer.value_bytes == race_value_bytes(race, answer.id, true));
		race_check_value(value, answer.id, answer.value_bytes);
		race->answered[answer.id] = 1;
		race->taken++;
		count++;
		while (race->lowest < race->next && race->answered[race->lowest])
			race->lowest++;
		if (!race->options.takes_late)
			eloq_lane_client_done(&race->w.client);
		race_pause(&race->client_prng);
	}
	eloq_assert(r == 0);
	if (eloq_prng_below(&race->client_prng, 4) == 0)
		eloq_lane_client_done(&race->w.client);
	return count;
}

static inline bool race_client_step(struct race *race)
{
	uint32_t reason;

	switch (eloq_lane_client_step(&race->w.client, &reason)) {
	case ELOQ_LANE_EVENT_NONE:
		return true;
	case ELOQ_LANE_EVENT_RESYNC:
		race->resyncs++;
		race->next = race->lowest;
		return true;
	case ELOQ_LANE_EVENT_WAIT:
		return false;
	case ELOQ_LANE_EVENT_CLOSED:
		break;
	}
	eloq_assert(false);
}

static inline void race_client_sleep(struct race *race)
{
	struct eloq_lane_waiter waiter = { .lane = &race->w.client };
	int r;

	eloq_lane_client_done(&race->w.client);
	race_pause(&race->client_prng);
	waiter.wake_seen = eloq_lane_client_prepare_sleep(&race->w.client);
	if (!eloq_lane_client_has_news(&race->w.client) && race_client_put(race) == 0) {
		race->client_sleeps++;
		r = eloq_lane_wait(&waiter, 1, RACE_WATCHDOG_NS);
		eloq_assert(r == 0 || r == -EINTR);
	}
	eloq_lane_client_awake(&race->w.client);
}

static inline void race_client_run(struct race *race)
{
	while (race->taken < race->options.ids) {
		unsigned work = 0;

		if (race_client_step(race))
			work += race_client_put(race);
		work += race_client_take(race);
		if (work > 0)
			continue;
		if (race->options.sleep) {
			race_client_sleep(race);
		} else {
			eloq_lane_client_done(&race->w.client);
			(void)sched_yield();
		}
	}
}

/* --- Both --------------------------------------------------------------------------------------
 */

static inline struct race *race_open(const struct race_options *options)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct race *race = calloc(1, sizeof(*race));
	struct eloq_prng prng;

	ck_assert_ptr_nonnull(race);
	race->options = *options;
	race->answered = calloc(options->ids + 1, 1);
	ck_assert_ptr_nonnull(race->answered);
	race->lowest = race->next = 1;
	race->incarnation = 1;
	eloq_prng_seed(&prng, test_seed());
	eloq_prng_seed(&race->worker_prng, eloq_prng_next(&prng));
	eloq_prng_seed(&race->client_prng, eloq_prng_next(&prng));
	lane_world_open(&race->w, RACE_RING_BYTES, RACE_RING_BYTES, true);
	race->epoll = epoll_create1(EPOLL_CLOEXEC);
	ck_assert_int_ge(race->epoll, 0);
	ck_assert_int_eq(epoll_ctl(race->epoll, EPOLL_CTL_ADD, race->w.doorbell, &event), 0);
	return race;
}

/* Runs to the end; what is counted stays readable until race_close(). */
static inline struct race *race_run(const struct race_options *options)
{
	struct race *race = race_open(options);

	lane_world_new_worker(&race->w, race->incarnation);
	ck_assert_int_eq(pthread_create(&race->thread, NULL, race_worker_main, race), 0);
	race_client_run(race);
	atomic_store(&race->stop, true);
	ck_assert_int_eq(eventfd_write(race->w.doorbell, 1), 0);
	ck_assert_int_eq(pthread_join(race->thread, NULL), 0);
	ck_assert_uint_eq(race->lowest, options->ids + 1);
	return race;
}

static inline void race_close(struct race *race)
{
	lane_world_close(&race->w);
	eloq_fd_close(race->epoll);
	free(race->answered);
	free(race);
}

#endif
