/*
 * coro_test.c - stacks that take turns: nothing of one is lost to another, and the end is an end.
 */
#include "daemon/runtime/coro.h"

#include "common/compiler.h"
#include "common/prng.h"
#include "tests/support/test.h"

#include <errno.h>
#include <execinfo.h>
#include <fenv.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_BYTES = 64 << 10, CORO_COUNT = 40 };

void eloq_coro_trampoline(void);

struct fixture {
	struct eloq_coro_stacks *stacks;
	struct eloq_coro coros[CORO_COUNT];
};

static void fixture_open(struct fixture *fixture)
{
	ck_assert_int_eq(eloq_coro_stacks_open(&fixture->stacks, CORO_COUNT, STACK_BYTES), 0);
	for (unsigned i = 0; i < CORO_COUNT; i++)
		eloq_coro_init(&fixture->coros[i], fixture->stacks, i);
}

TEST(coro_stacks_of_no_page_or_of_half_a_page_are_refused)
{
	struct eloq_coro_stacks *stacks = NULL;

	ck_assert_int_eq(eloq_coro_stacks_open(&stacks, 1, 0), -EINVAL);
	ck_assert_int_eq(eloq_coro_stacks_open(&stacks, 1, 6144), -EINVAL);
	ck_assert_int_eq(eloq_coro_stacks_open(&stacks, 0, 4096), -EINVAL);
	ck_assert_int_eq(eloq_coro_stacks_open(&stacks, 1u << 31, SIZE_MAX & ~(size_t)4095),
			 -EINVAL);
	ck_assert_ptr_null(stacks);
	eloq_coro_stacks_close(NULL);
}

struct counter {
	struct eloq_coro *coro;
	unsigned value;
};

static void count_to_three(void *arg)
{
	struct counter *counter = arg;

	for (unsigned i = 1; i <= 3; i++) {
		counter->value = i;
		eloq_coro_suspend_await(counter->coro);
	}
	counter->value = 100;
}

TEST(coro_goes_on_where_it_suspended_and_ends_once)
{
	struct fixture fixture;
	struct counter counter = { .coro = &fixture.coros[0] };

	fixture_open(&fixture);
	for (unsigned life = 0; life < 1000; life++) {
		counter.value = 0;
		eloq_coro_start(counter.coro, count_to_three, &counter);
		ck_assert_uint_eq(counter.value, 0);
		for (unsigned i = 1; i <= 3; i++) {
			ck_assert(!eloq_coro_resume(counter.coro));
			ck_assert_uint_eq(counter.value, i);
		}
		ck_assert(eloq_coro_resume(counter.coro));
		ck_assert_uint_eq(counter.value, 100);
	}
	eloq_coro_stacks_close(fixture.stacks);
}

/* A tree walk with a suspension in each node; the sum is right only if every frame survived. */
struct walk {
	struct eloq_coro *coro;
	uint64_t seed;
	unsigned depth;
	uint64_t sum;
};

static uint64_t walk_down(struct walk *walk, uint64_t seed, unsigned depth, bool suspends)
{
	struct eloq_prng prng;
	uint64_t words[16];
	uint64_t sum = 0;
	double product = 1;

	eloq_prng_seed(&prng, seed);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(words); i++)
		words[i] = eloq_prng_next(&prng);
	for (size_t i = 0; i < 4; i++)
		product *= (double)(words[i] & 0xff) + 0.5;
	if (suspends)
		eloq_coro_suspend_await(walk->coro);
	if (depth > 0)
		sum = walk_down(walk, words[0], depth - 1, suspends);
	if (suspends)
		eloq_coro_suspend_await(walk->coro);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(words); i++)
		sum = sum * 31 + words[i];
	return sum + (uint64_t)product;
}

static void walk_main(void *arg)
{
	struct walk *walk = arg;

	walk->sum = walk_down(walk, walk->seed, walk->depth, true);
}

TEST(coro_frames_survive_switches_in_any_order)
{
	struct fixture fixture;
	struct walk walks[CORO_COUNT];
	struct eloq_prng prng;
	unsigned running = CORO_COUNT, switches = 0;

	eloq_prng_seed(&prng, test_seed());
	fixture_open(&fixture);
	for (unsigned i = 0; i < CORO_COUNT; i++) {
		walks[i] = (struct walk){
			.coro = &fixture.coros[i],
			.seed = eloq_prng_next(&prng),
			.depth = 20 + (unsigned)eloq_prng_below(&prng, 60),
		};
		eloq_coro_start(walks[i].coro, walk_main, &walks[i]);
	}
	while (running > 0) {
		struct walk *walk = &walks[eloq_prng_below(&prng, CORO_COUNT)];

		if (walk->coro->ended)
			continue;
		running -= eloq_coro_resume(walk->coro);
		switches++;
	}
	ck_assert_uint_gt(switches, 2000);
	for (unsigned i = 0; i < CORO_COUNT; i++)
		ck_assert_uint_eq(walks[i].sum,
				  walk_down(&walks[i], walks[i].seed, walks[i].depth, false));
	eloq_coro_stacks_close(fixture.stacks);
}

struct outer {
	struct eloq_coro *coro;
	struct counter *inner;
};

static void run_another(void *arg)
{
	struct outer *outer = arg;

	while (!eloq_coro_resume(outer->inner->coro))
		eloq_coro_suspend_await(outer->coro);
}

TEST(coro_may_resume_another)
{
	struct fixture fixture;
	struct counter inner = { .coro = &fixture.coros[1] };
	struct outer outer = { .coro = &fixture.coros[0], .inner = &inner };
	unsigned resumes = 0;

	fixture_open(&fixture);
	eloq_coro_start(inner.coro, count_to_three, &inner);
	eloq_coro_start(outer.coro, run_another, &outer);
	while (!eloq_coro_resume(outer.coro))
		ck_assert_uint_eq(inner.value, ++resumes);
	ck_assert_uint_eq(resumes, 3);
	ck_assert_uint_eq(inner.value, 100);
	eloq_coro_stacks_close(fixture.stacks);
}

struct rounding {
	struct eloq_coro *coro;
	int mode;
	int first_mode;
	unsigned mismatches;
};

/* Which way 1/3 goes, by SSE and by x87 where there is one. */
static unsigned rounding_is(int mode)
{
	volatile double one = 1, three = 3;
	volatile long double long_one = 1, long_three = 3;
	bool up = one / three * three > 1 || one / three > 1.0 / 3;
	bool long_up = long_one / long_three > 1.0L / 3;

	if (fegetround() != mode)
		return 0;
	return mode == FE_UPWARD ? up : mode == FE_DOWNWARD ? !up && !long_up : 1;
}

static void round_this_way(void *arg)
{
	struct rounding *rounding = arg;

	rounding->first_mode = fegetround();
	(void)fesetround(rounding->mode);
	for (unsigned i = 0; i < 10; i++) {
		eloq_coro_suspend_await(rounding->coro);
		rounding->mismatches += !rounding_is(rounding->mode);
	}
}

TEST(coro_keeps_its_floating_point_mode_to_itself)
{
	static const int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST };
	struct fixture fixture;
	struct rounding rounding[ELOQ_ARRAY_SIZE(modes)];

	fixture_open(&fixture);
	(void)fesetround(FE_DOWNWARD);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(modes); i++) {
		rounding[i] = (struct rounding){ .coro = &fixture.coros[i], .mode = modes[i] };
		eloq_coro_start(rounding[i].coro, round_this_way, &rounding[i]);
	}
	for (unsigned turn = 0; turn <= 10; turn++) {
		for (size_t i = 0; i < ELOQ_ARRAY_SIZE(modes); i++) {
			ck_assert_int_eq(eloq_coro_resume(rounding[i].coro), turn == 10);
			ck_assert_int_eq(fegetround(), FE_DOWNWARD);
		}
	}
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(modes); i++) {
		ck_assert_int_eq(rounding[i].first_mode, FE_TONEAREST);
		ck_assert_uint_eq(rounding[i].mismatches, 0);
	}
	eloq_coro_stacks_close(fixture.stacks);
}

struct trace {
	void *frames[64];
	int count;
};

static ELOQ_NOINLINE void take_trace(void *arg)
{
	struct trace *trace = arg;

	trace->count = backtrace(trace->frames, (int)ELOQ_ARRAY_SIZE(trace->frames));
}

/* By call frame information, as gdb does it; the caller's stack must not show. */
TEST(coro_unwinding_ends_at_the_entry)
{
	struct fixture fixture;
	struct trace trace;
	uintptr_t entry = (uintptr_t)eloq_coro_trampoline;
	uintptr_t last;

	fixture_open(&fixture);
	eloq_coro_start(&fixture.coros[0], take_trace, &trace);
	ck_assert(eloq_coro_resume(&fixture.coros[0]));
	ck_assert_int_ge(trace.count, 3);
	ck_assert_int_le(trace.count, 6);
	last = (uintptr_t)trace.frames[trace.count - 1];
	ck_assert_uint_ge(last, entry);
	ck_assert_uint_lt(last, entry + 32);
	eloq_coro_stacks_close(fixture.stacks);
}

#if !ELOQ_ASAN && !ELOQ_TSAN

static const char *overflow_stack;

static void overflow_seen(int number ELOQ_UNUSED, siginfo_t *info, void *context ELOQ_UNUSED)
{
	const char *at = info->si_addr;

	_exit(at < overflow_stack && at >= overflow_stack - 4096 ? 0 : 1);
}

static ELOQ_NOINLINE unsigned overflow_deeper(volatile unsigned *above)
{
	volatile unsigned frame[64];

	frame[0] = *above + 1;
	if (frame[0] == 0)
		return 0;
	return overflow_deeper(frame) + frame[0];
}

static void overflow_main(void *arg ELOQ_UNUSED)
{
	volatile unsigned start = 1;

	(void)overflow_deeper(&start);
}

/* In a child, whose handler, on a stack of its own, looks where the fault was. */
static void overflow_in_child(struct eloq_coro *coro)
{
	static char handler_stack[64 << 10];
	stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof(handler_stack) };
	struct sigaction action = { .sa_sigaction = overflow_seen,
				    .sa_flags = SA_SIGINFO | SA_ONSTACK };

	overflow_stack = coro->stack;
	if (sigaltstack(&stack, NULL) < 0 || sigaction(SIGSEGV, &action, NULL) < 0)
		_exit(2);
	eloq_coro_start(coro, overflow_main, NULL);
	(void)eloq_coro_resume(coro);
	_exit(3);
}

#endif

TEST(coro_overflow_hits_the_guard_page_below_its_stack)
{
#if ELOQ_ASAN || ELOQ_TSAN
	TEST_SKIP(
		"coro overflow: the sanitizer takes the SIGSEGV and ends the process its own way");
#else
	struct fixture fixture;
	int status;
	pid_t child;

	fixture_open(&fixture);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		overflow_in_child(&fixture.coros[7]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child status %#x",
		      (unsigned)status);
	eloq_coro_stacks_close(fixture.stacks);
#endif
}
