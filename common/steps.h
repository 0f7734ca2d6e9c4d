/*
 * steps.h - a long start-up as data: steps with their undo, run forward, on failure backward.
 *
 *   static const struct eloq_step shard_start_steps[] = {
 *           { "open files",     shard_open_files,    shard_close_files },
 *           { "recover store",  shard_recover_store, shard_close_store },
 *   };
 *
 * Always:   a step's undo is called exactly once for each time its run() returned 0, last first.
 *           A step that failed has cleaned up after itself.
 * Runs on:  one thread; steps may block.
 */
#ifndef ELOQ_COMMON_STEPS_H
#define ELOQ_COMMON_STEPS_H

#include "common/clock.h"
#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

struct eloq_step {
	const char *name; /* as "recover store" */
	int (*run)(void *arg, struct eloq_errinfo *reterr);
	void (*undo)(void *arg); /* NULL: nothing to undo */
};

enum eloq_step_event { ELOQ_STEP_DONE, ELOQ_STEP_FAILED, ELOQ_STEP_UNDONE };

struct eloq_step_report {
	const struct eloq_step *step;
	enum eloq_step_event event;
	int result;	      /* of a step that failed, else 0 */
	uint64_t duration_ns; /* of run() or undo() */
};

struct eloq_steps {
	/* Filled in by the caller; all but on_report must stay valid until eloq_steps_undo(). */
	const struct eloq_step *steps;
	size_t count;
	void *arg; /* given to each step */
	const struct eloq_clock *clock;
	/* Called after each run() and undo(), so that whoever decides can log. NULL is fine. */
	void (*on_report)(void *arg, const struct eloq_step_report *report);
	void *report_arg;

	size_t done; /* steps that are to be undone; 0 at first */
};

/*
 * Run all steps. If one fails, those before it are undone, its result is returned, and the words in
 * @reterr (NULL is fine) begin with its name. 0: all are done.
 */
int eloq_steps_run(struct eloq_steps *steps, struct eloq_errinfo *reterr);

/* Undo what is done, last first. Nothing done: nothing. */
void eloq_steps_undo(struct eloq_steps *steps);

#endif
