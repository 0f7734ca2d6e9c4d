/*
 * dekker_race_test.c - the fences of every sleep, one narrow window at a time.
 *
 * Nobody sleeps here: one side does the last steps before it would, the other brings what it waits
 * for, at the same moment give or take a few nanoseconds, many thousand times. If neither has
 * noticed the other then, a real sleep would have been for ever. Who comes first is measured and
 * corrected from round to round, so that the window is hit on any machine; the two threads need a
 * CPU each for that. Under TSan, whose atomics are all fences, only the logic is tested.
 */
#include "common/limits.h"
#include "common/prng.h"
#include "shm/lane.h"
#include "tests/support/test.h"
#include "tests/unit/lane_world.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum {
	RING = ELOQ_RING_BYTES_MIN,
	ROUNDS = ELOQ_TSAN ? 5000 : 50000,
	JITTER_LOOPS = 40,
	AIM_LOOPS = 4,
	LEAD_LOOPS_MAX = 4000,
	SPINS_BEFORE_YIELD = 2000,
	/* The longest answer: four fill the ring. */
	LONG_ANSWER_BYTES = RING / 4 - ELOQ_ANSWER_FIXED_BYTES_MAX,
};

struct duel {
	struct lane_world w;
	uint64_t id;
	struct eloq_prng client_prng, worker_prng;
	bool (*worker_part)(struct duel *duel); /* both return whether they noticed the other */
	bool (*client_part)(struct duel *duel);
	bool worker_noticed;
	int client_lead; /* loops that the client would be too early; negative: the worker */
	struct eloq_request request; /* that the worker found */
	size_t payload_offset;
	uint32_t wake;
	_Atomic unsigned started, ended;
	_Atomic bool stop;
};

static void wait_for(const _Atomic unsigned *word, unsigned value, const _Atomic bool *stop)
{
	unsigned spins = 0;

	while (atomic_load_explicit(word, memory_order_acquire) != value && !atomic_load(stop)) {
		eloq_cpu_relax();
		if (++spins % SPINS_BEFORE_YIELD == 0)
			(void)sched_yield();
	}
}

/* A side that starts @lead loops too early waits for them, and then a few at random. */
static void delay(struct eloq_prng *prng, int lead)
{
	int loops = (lead > 0 ? lead : 0) + (int)eloq_prng_below(prng, JITTER_LOOPS);

	for (; loops > 0; loops--)
		__asm__ volatile("" ::: "memory");
}

/* Who noticed alone came second: the other starts later next time, so that they meet. */
static void aim(struct duel *duel, bool client_noticed)
{
	if (client_noticed == duel->worker_noticed)
		return;
	duel->client_lead += duel->worker_noticed ? AIM_LOOPS : -AIM_LOOPS;
	if (abs(duel->client_lead) > LEAD_LOOPS_MAX)
		duel->client_lead = 0;
}

static void *worker_main(void *arg)
{
	struct duel *duel = arg;

	for (unsigned round = 1; round <= ROUNDS; round++) {
		wait_for(&duel->started, round, &duel->stop);
		delay(&duel->worker_prng, -duel->client_lead);
		duel->worker_noticed = duel->worker_part(duel);
		atomic_store_explicit(&duel->ended, round, memory_order_release);
	}
	return NULL;
}

/* Between rounds the worker's thread waits, so the client's plays both ends. */
static void run(struct duel *duel, void (*before)(struct duel *duel),
		void (*after)(struct duel *duel))
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, worker_main, duel), 0);
	for (unsigned round = 1; round <= ROUNDS; round++) {
		bool client_noticed;

		before(duel);
		atomic_store_explicit(&duel->started, round, memory_order_release);
		delay(&duel->client_prng, duel->client_lead);
		client_noticed = duel->client_part(duel);
		wait_for(&duel->ended, round, &duel->stop);
		ck_assert_msg(client_noticed || duel->worker_noticed, "lost in round %u", round);
		aim(duel, client_noticed);
		after(duel);
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	lane_world_close(&duel->w);
	free(duel);
}

static struct duel *duel_open(bool (*worker_part)(struct duel *),
			      bool (*client_part)(struct duel *))
{
	struct duel *duel = calloc(1, sizeof(*duel));
	struct eloq_prng prng;

	ck_assert_ptr_nonnull(duel);
	duel->worker_part = worker_part;
	duel->client_part = client_part;
	eloq_prng_seed(&prng, test_seed());
	eloq_prng_seed(&duel->worker_prng, eloq_prng_next(&prng));
	eloq_prng_seed(&duel->client_prng, eloq_prng_next(&prng));
	lane_world_open(&duel->w, RING, RING, true);
	lane_world_sync(&duel->w, 1);
	return duel;
}

static bool rung(struct duel *duel)
{
	eventfd_t count;

	return eventfd_read(duel->w.doorbell, &count) == 0;
}

static bool worker_finds_a_request(struct duel *duel)
{
	uint32_t reason;

	return eloq_lane_worker_peek(&duel->w.worker, &duel->request, &duel->payload_offset,
				     &reason) == 1;
}

static void worker_answers(struct duel *duel, uint32_t value_bytes)
{
	static const uint8_t value[LONG_ANSWER_BYTES];
	struct eloq_lane_worker *lane = &duel->w.worker;
	const struct eloq_answer answer = { .id = duel->request.id, .value_bytes = value_bytes };
	uint32_t reserved =
		eloq_lane_worker_accept(lane, &duel->request, duel->payload_offset, NULL);

	eloq_lane_worker_answer(lane, reserved, &answer, NULL, value);
}

static void client_puts(struct duel *duel)
{
	const struct eloq_request request = {
		.id = ++duel->id,
		.answered_below = duel->id,
		.op = ELOQ_OP_GET,
		.flags = ELOQ_REQ_INLINE_LIMIT,
		.words = { [ELOQ_WORD_INLINE_LIMIT] = LONG_ANSWER_BYTES },
	};

	ck_assert_int_eq(eloq_lane_client_put(&duel->w.client, &request, NULL, NULL), 0);
}

static void client_takes(struct duel *duel)
{
	const uint8_t *key, *value;
	struct eloq_answer answer;

	ck_assert_int_eq(eloq_lane_client_take(&duel->w.client, &answer, &key, &value), 1);
}

/* --- D1 and D2: a request against the worker's sleep --------------------------------------------
 */

static bool publish_request(struct duel *duel)
{
	eloq_lane_client_publish(&duel->w.client);
	return rung(duel);
}

static bool fall_asleep(struct duel *duel)
{
	eloq_worker_page_set_asleep(duel->w.page_base);
	return worker_finds_a_request(duel);
}

static void serve_request(struct duel *duel)
{
	eloq_worker_page_set_awake(duel->w.page_base);
	ck_assert(worker_finds_a_request(duel));
	worker_answers(duel, 0);
	eloq_lane_worker_publish(&duel->w.worker);
	client_takes(duel);
	eloq_lane_client_done(&duel->w.client);
}

TEST(a_request_is_seen_before_the_worker_sleeps_or_rings)
{
	run(duel_open(fall_asleep, publish_request), client_puts, serve_request);
}

/* --- D3 and D4: an answer against the client's sleep --------------------------------------------
 */

static void prepare_answer(struct duel *duel)
{
	client_puts(duel);
	eloq_lane_client_publish(&duel->w.client);
	ck_assert(worker_finds_a_request(duel));
	worker_answers(duel, 0);
	duel->wake = atomic_load(&duel->w.client.ans->wake);
}

/* The client's sleep would end at once if the counter is not what it read. */
static bool publish_answer(struct duel *duel)
{
	eloq_lane_worker_publish(&duel->w.worker);
	return atomic_load(&duel->w.client.ans->wake) != duel->wake;
}

static bool client_falls_asleep(struct duel *duel)
{
	(void)eloq_lane_client_prepare_sleep(&duel->w.client);
	return eloq_lane_client_has_news(&duel->w.client);
}

static void take_answer(struct duel *duel)
{
	eloq_lane_client_awake(&duel->w.client);
	client_takes(duel);
	eloq_lane_client_done(&duel->w.client);
}

TEST(an_answer_is_seen_before_the_client_sleeps_or_wakes_it)
{
	run(duel_open(publish_answer, client_falls_asleep), prepare_answer, take_answer);
}

/* --- D5 and D6: space given back against the worker's wish for it -------------------------------
 */

static void fill_answer_ring(struct duel *duel)
{
	/* The worker sleeps as far as the client can see, so that only the wish decides. */
	eloq_worker_page_set_asleep(duel->w.page_base);
	for (unsigned i = 0; i < 4; i++) {
		client_puts(duel);
		eloq_lane_client_publish(&duel->w.client);
		ck_assert(worker_finds_a_request(duel));
		worker_answers(duel, LONG_ANSWER_BYTES);
		eloq_lane_worker_publish(&duel->w.worker);
	}
}

static void take_without_giving_back(struct duel *duel)
{
	client_takes(duel);
	client_puts(duel);
	eloq_lane_client_publish(&duel->w.client);
	(void)rung(duel);
}

static bool give_space_back(struct duel *duel)
{
	eloq_lane_client_done(&duel->w.client);
	return rung(duel);
}

static void serve_with_the_space(struct duel *duel)
{
	ck_assert(worker_finds_a_request(duel));
	ck_assert(!duel->w.worker.blocked);
	worker_answers(duel, LONG_ANSWER_BYTES);
	eloq_lane_worker_publish(&duel->w.worker);
}

TEST(space_is_seen_before_the_worker_gives_up_or_rings)
{
	struct duel *duel = duel_open(worker_finds_a_request, give_space_back);

	fill_answer_ring(duel);
	run(duel, take_without_giving_back, serve_with_the_space);
}
