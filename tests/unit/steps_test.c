/*
 * steps_test.c - a start-up that fails at each step in turn leaves nothing behind.
 */
#include "common/steps.h"

#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Capital: done; small: undone; the callback adds what was reported. */
struct world {
	char journal[64];
	char reports[256];
	char fails_at;
	bool has_words;
	uint64_t now_ns;
};

static void append(char *text, size_t bytes, const char *more)
{
	size_t used = strlen(text);

	ck_assert_uint_lt(used + strlen(more), bytes);
	memcpy(text + used, more, strlen(more) + 1);
}

static int world_step(struct world *world, char name, struct eloq_errinfo *reterr)
{
	char letter[] = { name, '\0' };

	world->now_ns += 5;
	if (world->fails_at == name)
		return world->has_words ? eloq_fail(reterr, -EIO, "lost %c", name) : -EIO;
	append(world->journal, sizeof(world->journal), letter);
	return 0;
}

static void world_unstep(struct world *world, char name)
{
	char letter[] = { name, '\0' };

	world->now_ns += 2;
	append(world->journal, sizeof(world->journal), letter);
}

static int run_a(void *arg, struct eloq_errinfo *reterr)
{
	return world_step(arg, 'A', reterr);
}

static int run_b(void *arg, struct eloq_errinfo *reterr)
{
	return world_step(arg, 'B', reterr);
}

static int run_c(void *arg, struct eloq_errinfo *reterr)
{
	return world_step(arg, 'C', reterr);
}

static void undo_a(void *arg)
{
	world_unstep(arg, 'a');
}

static void undo_c(void *arg)
{
	world_unstep(arg, 'c');
}

static const struct eloq_step steps_abc[] = {
	{ "first", run_a, undo_a },
	{ "second", run_b, NULL },
	{ "third", run_c, undo_c },
};

static void reported(void *arg, const struct eloq_step_report *report)
{
	static const char *const events[] = {
		[ELOQ_STEP_DONE] = "done",
		[ELOQ_STEP_FAILED] = "failed",
		[ELOQ_STEP_UNDONE] = "undone",
	};
	struct world *world = arg;
	char line[64];

	(void)snprintf(line, sizeof(line), "%s %s %d %u;", report->step->name,
		       events[report->event], report->result, (unsigned)report->duration_ns);
	append(world->reports, sizeof(world->reports), line);
}

static uint64_t world_now_ns(void *arg)
{
	return ((struct world *)arg)->now_ns;
}

/* Runs the three steps, and all undos if they succeed. */
static int world_run(struct world *world, struct eloq_errinfo *reterr)
{
	struct eloq_clock clock = { .monotonic_ns = world_now_ns, .arg = world };
	struct eloq_steps steps = {
		.steps = steps_abc,
		.count = 3,
		.arg = world,
		.clock = &clock,
		.on_report = reported,
		.report_arg = world,
	};
	int r = eloq_steps_run(&steps, reterr);

	ck_assert_uint_eq(steps.done, r == 0 ? 3 : 0);
	eloq_steps_undo(&steps);
	eloq_steps_undo(&steps);
	return r;
}

TEST(steps_run_forward_and_are_undone_backward)
{
	struct world world = { 0 };

	ck_assert_int_eq(world_run(&world, NULL), 0);
	ck_assert_str_eq(world.journal, "ABCca");
	ck_assert_str_eq(world.reports, "first done 0 5;second done 0 5;third done 0 5;"
					"third undone 0 2;first undone 0 2;");
}

TEST(steps_before_the_one_that_failed_are_undone)
{
	static const char *const journals[] = { "", "Aa", "ABa" };
	static const char *const words[] = { "first: lost A", "second: lost B", "third: lost C" };

	for (unsigned i = 0; i < 3; i++) {
		struct world world = { .fails_at = (char)('A' + i), .has_words = true };
		struct eloq_errinfo err = { 0 };

		ck_assert_int_eq(world_run(&world, &err), -EIO);
		ck_assert_str_eq(world.journal, journals[i]);
		ck_assert_str_eq(err.text, words[i]);
		ck_assert_int_eq(err.code, -EIO);
	}
}

TEST(steps_report_the_failure_before_what_it_undoes)
{
	struct world world = { .fails_at = 'B' };
	struct eloq_errinfo err = { 0 };

	ck_assert_int_eq(world_run(&world, &err), -EIO);
	ck_assert_str_eq(world.reports, "first done 0 5;second failed -5 5;first undone 0 2;");
	ck_assert_str_eq(err.text, "second: Input/output error");
}
