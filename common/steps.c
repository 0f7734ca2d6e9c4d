/*
 * steps.c - run a table of steps forward, or undo it backward. See steps.h.
 */
#include "common/steps.h"

#include "common/compiler.h"

static void steps_report(const struct eloq_steps *steps, const struct eloq_step *step,
			 enum eloq_step_event event, int result, uint64_t start_ns)
{
	struct eloq_step_report report = {
		.step = step,
		.event = event,
		.result = result,
		.duration_ns = eloq_clock_monotonic_ns(steps->clock) - start_ns,
	};

	if (steps->on_report)
		steps->on_report(steps->report_arg, &report);
}

int eloq_steps_run(struct eloq_steps *steps, struct eloq_errinfo *reterr)
{
	eloq_assert(steps->done == 0);
	while (steps->done < steps->count) {
		const struct eloq_step *step = &steps->steps[steps->done];
		struct eloq_errinfo err = { 0 };
		uint64_t start_ns = eloq_clock_monotonic_ns(steps->clock);
		int r = step->run(steps->arg, &err);

		if (r < 0) {
			steps_report(steps, step, ELOQ_STEP_FAILED, r, start_ns);
			eloq_steps_undo(steps);
			return eloq_fail(reterr, r, "%s: %s", step->name,
					 err.text[0] ? err.text : eloq_err_text(r));
		}
		steps->done++;
		steps_report(steps, step, ELOQ_STEP_DONE, 0, start_ns);
	}
	return 0;
}

void eloq_steps_undo(struct eloq_steps *steps)
{
	while (steps->done > 0) {
		const struct eloq_step *step = &steps->steps[--steps->done];
		uint64_t start_ns = eloq_clock_monotonic_ns(steps->clock);

		if (!step->undo)
			continue;
		step->undo(steps->arg);
		steps_report(steps, step, ELOQ_STEP_UNDONE, 0, start_ns);
	}
}
