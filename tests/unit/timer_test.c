/*
 * timer_test.c - timers against a plain array that is searched.
 */
#include "daemon/runtime/timer.h"

#include "common/prng.h"
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>

enum { TIMER_COUNT = 200, STEPS = 20000 };

static unsigned fired_count;
static struct eloq_timer *fired_last;

static void fired(struct eloq_timer *timer)
{
	ck_assert(!eloq_timer_is_armed(timer));
	fired_count++;
	fired_last = timer;
}

TEST(timer_disarmed_or_never_armed_is_not_called)
{
	struct eloq_timers *timers;
	struct eloq_timer a = { .fn = fired }, b = { .fn = fired };

	ck_assert_int_eq(eloq_timers_open(&timers, 2), 0);
	ck_assert_uint_eq(eloq_timers_next_ns(timers), UINT64_MAX);
	ck_assert_int_eq(eloq_timer_arm(timers, &a, 10), 0);
	ck_assert_int_eq(eloq_timer_arm(timers, &b, 20), 0);
	ck_assert_uint_eq(eloq_timers_next_ns(timers), 10);
	eloq_timer_disarm(timers, &a);
	eloq_timer_disarm(timers, &a);
	ck_assert_uint_eq(eloq_timers_next_ns(timers), 20);
	ck_assert_uint_eq(eloq_timers_expire(timers, 19, 10), 0);
	ck_assert_uint_eq(eloq_timers_expire(timers, 20, 10), 1);
	ck_assert_ptr_eq(fired_last, &b);
	ck_assert_uint_eq(eloq_timers_expire(timers, UINT64_MAX, 10), 0);
	eloq_timers_close(timers);
}

TEST(timer_beyond_the_bound_is_refused_but_an_armed_one_may_move)
{
	struct eloq_timers *timers;
	struct eloq_timer a = { .fn = fired }, b = { .fn = fired };

	ck_assert_int_eq(eloq_timers_open(&timers, 1), 0);
	ck_assert_int_eq(eloq_timer_arm(timers, &a, 10), 0);
	ck_assert_int_eq(eloq_timer_arm(timers, &b, 5), -ENOSPC);
	ck_assert(!eloq_timer_is_armed(&b));
	ck_assert_int_eq(eloq_timer_arm(timers, &a, 7), 0);
	ck_assert_uint_eq(eloq_timers_next_ns(timers), 7);
	eloq_timers_close(timers);
	ck_assert(!eloq_timer_is_armed(&a));
	eloq_timers_close(NULL);
}

static struct eloq_timers *rearm_timers;

static void arm_again_at_once(struct eloq_timer *timer)
{
	fired(timer);
	ck_assert_int_eq(eloq_timer_arm(rearm_timers, timer, timer->deadline_ns), 0);
}

TEST(timer_that_arms_itself_again_does_not_hold_the_turn)
{
	struct eloq_timer timer = { .fn = arm_again_at_once };

	fired_count = 0;
	ck_assert_int_eq(eloq_timers_open(&rearm_timers, 1), 0);
	ck_assert_int_eq(eloq_timer_arm(rearm_timers, &timer, 1), 0);
	ck_assert_uint_eq(eloq_timers_expire(rearm_timers, 5, 16), 16);
	ck_assert_uint_eq(fired_count, 16);
	ck_assert(eloq_timer_is_armed(&timer));
	eloq_timers_close(rearm_timers);
}

/* The model: a deadline for each timer, UINT64_MAX if it is not armed. */
static uint64_t model[TIMER_COUNT];
static struct eloq_timer model_timers[TIMER_COUNT];
static uint64_t model_now_ns;

static uint64_t model_earliest(void)
{
	uint64_t earliest = UINT64_MAX;

	for (unsigned i = 0; i < TIMER_COUNT; i++)
		if (model[i] < earliest)
			earliest = model[i];
	return earliest;
}

static void model_fired(struct eloq_timer *timer)
{
	size_t index = (size_t)(timer - model_timers);

	ck_assert_uint_eq(model[index], timer->deadline_ns);
	ck_assert_uint_eq(model[index], model_earliest());
	ck_assert_uint_le(model[index], model_now_ns);
	model[index] = UINT64_MAX;
	fired_count++;
}

TEST(timers_fire_as_a_searched_array_says)
{
	struct eloq_timers *timers;
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	fired_count = 0;
	ck_assert_int_eq(eloq_timers_open(&timers, TIMER_COUNT), 0);
	for (unsigned i = 0; i < TIMER_COUNT; i++) {
		model[i] = UINT64_MAX;
		model_timers[i].fn = model_fired;
	}
	for (unsigned step = 0; step < STEPS; step++) {
		size_t index = eloq_prng_below(&prng, TIMER_COUNT);
		unsigned max = (unsigned)eloq_prng_below(&prng, 4), called;

		switch (eloq_prng_below(&prng, 8)) {
		case 0:
			eloq_timer_disarm(timers, &model_timers[index]);
			model[index] = UINT64_MAX;
			break;
		case 1:
			model_now_ns += eloq_prng_below(&prng, 50);
			called = eloq_timers_expire(timers, model_now_ns, max);
			ck_assert(called == max || model_earliest() > model_now_ns);
			break;
		default:
			model[index] = model_now_ns + eloq_prng_below(&prng, 1000);
			ck_assert_int_eq(eloq_timer_arm(timers, &model_timers[index], model[index]),
					 0);
			break;
		}
		ck_assert_int_eq(eloq_timer_is_armed(&model_timers[index]),
				 model[index] != UINT64_MAX);
		ck_assert_uint_eq(eloq_timers_next_ns(timers), model_earliest());
	}
	ck_assert_uint_gt(fired_count, STEPS / 100);
	eloq_timers_close(timers);
}
