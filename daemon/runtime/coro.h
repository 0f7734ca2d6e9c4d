/*
 * coro.h - stackful coroutines: two stacks of one thread take turns.
 *
 * Idea: all stacks lie in one mapping that is made at start, each above a guard page. Whoever
 * resumes a coroutine runs on when it suspends or ends; nothing else moves it. task.h makes a
 * scheduler of this; only that uses it.
 *
 * Always:   a coroutine is resumed by the thread that opened its stacks, and never by itself.
 * Fails by: -ENOMEM when the stacks are made, and never later. An overflow of a stack hits its
 *           guard page: SIGSEGV, not a corruption.
 */
#ifndef ELOQ_DAEMON_RUNTIME_CORO_H
#define ELOQ_DAEMON_RUNTIME_CORO_H

#include "common/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if ELOQ_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if ELOQ_TSAN
#include <sanitizer/tsan_interface.h>
#endif

struct eloq_coro_stacks;

/* @stack_bytes is a multiple of 4096; under sanitizers, whose frames are larger, each stack gets
 * a multiple of it. */
int eloq_coro_stacks_open(struct eloq_coro_stacks **ret_stacks, unsigned count, size_t stack_bytes);

/* NULL is fine. Every coroutine on them has ended. */
void eloq_coro_stacks_close(struct eloq_coro_stacks *stacks);

/* Open so that it can lie inside its owner and be resumed inline; nobody else reads it. */
struct eloq_coro {
	void *sp;	 /* where its registers are saved while it does not run */
	void *caller_sp; /* those of whoever resumed it, while it runs */
	void (*fn)(void *arg);
	void *arg;
	char *stack; /* lowest usable byte */
	size_t stack_bytes;
	bool ended;
	struct {
		void *fake_stack;
		void *caller_fake_stack;
		const void *caller_stack;
		size_t caller_stack_bytes;
		void *fiber;
		void *caller_fiber;
	} sanitizer; /* what ASan and TSan want to be handed back; unused without them */
};

/* Give @coro stack number @index, which must be no one else's. */
void eloq_coro_init(struct eloq_coro *coro, struct eloq_coro_stacks *stacks, unsigned index);

/* Let the first eloq_coro_resume() call fn(arg), with the default floating-point control state.
 * @coro is new or has ended. */
void eloq_coro_start(struct eloq_coro *coro, void (*fn)(void *arg), void *arg);

/*
 * The rest is inline for the CPU's sake: it predicts returns from the calls it saw, so that the
 * first returns after a switch, onto a stack with other callers, all miss. Each function less
 * between scheduler and task saves about 5 ns.
 */

/* Save the caller's registers, leave their place in *save_sp, and go on where @to_sp was left. */
void eloq_coro_switch(void **save_sp, void *to_sp);

/*
 * The four places of a switch, in the order in which a resume and the next suspend pass them.
 * ASan wants to know the stack it is on, and keeps a "fake stack" for each; TSan takes each
 * coroutine for a fiber with a history of its own. TSan counts calls and returns: these must not
 * become functions even where nothing else is inlined.
 */
#define ELOQ_CORO_INLINE static inline __attribute__((always_inline))

ELOQ_CORO_INLINE void eloq_coro_caller_leaves(struct eloq_coro *coro ELOQ_UNUSED)
{
#if ELOQ_ASAN
	__sanitizer_start_switch_fiber(&coro->sanitizer.caller_fake_stack, coro->stack,
				       coro->stack_bytes);
#endif
#if ELOQ_TSAN
	coro->sanitizer.caller_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(coro->sanitizer.fiber, 0);
#endif
}

ELOQ_CORO_INLINE void eloq_coro_entered(struct eloq_coro *coro ELOQ_UNUSED)
{
#if ELOQ_ASAN
	__sanitizer_finish_switch_fiber(coro->sanitizer.fake_stack, &coro->sanitizer.caller_stack,
					&coro->sanitizer.caller_stack_bytes);
#endif
}

ELOQ_CORO_INLINE void eloq_coro_leaves(struct eloq_coro *coro ELOQ_UNUSED)
{
#if ELOQ_ASAN
	/* NULL frees the fake stack: this one is left for good. */
	__sanitizer_start_switch_fiber(coro->ended ? NULL : &coro->sanitizer.fake_stack,
				       coro->sanitizer.caller_stack,
				       coro->sanitizer.caller_stack_bytes);
#endif
#if ELOQ_TSAN
	__tsan_switch_to_fiber(coro->sanitizer.caller_fiber, 0);
#endif
}

ELOQ_CORO_INLINE void eloq_coro_caller_is_back(struct eloq_coro *coro ELOQ_UNUSED)
{
#if ELOQ_ASAN
	__sanitizer_finish_switch_fiber(coro->sanitizer.caller_fake_stack, NULL, NULL);
#endif
#if ELOQ_TSAN
	if (coro->ended)
		__tsan_destroy_fiber(coro->sanitizer.fiber);
#endif
}

/* Run @coro until it suspends or its function returns; true if it has ended. */
ELOQ_CORO_INLINE bool eloq_coro_resume(struct eloq_coro *coro)
{
	eloq_assert(!coro->ended);
	eloq_coro_caller_leaves(coro);
	eloq_coro_switch(&coro->caller_sp, coro->sp);
	eloq_coro_caller_is_back(coro);
	return coro->ended;
}

/* Return to whoever resumed @coro, which is running, until it is resumed again. */
ELOQ_CORO_INLINE void eloq_coro_suspend_await(struct eloq_coro *coro)
{
	eloq_coro_leaves(coro);
	eloq_coro_switch(&coro->sp, coro->caller_sp);
	eloq_coro_entered(coro);
}

#endif
