/*
 * timer.c - a binary heap of pointers, smallest deadline first. See timer.h.
 *
 * Idea: each timer knows its place in the heap, so moving or removing one needs no search.
 *
 * Always:   parent's deadline <= child's; heap[timer->heap_index - 1] == timer.
 * Runs on:  one thread.
 * Fails by: -ENOSPC when as many are armed as the heap was made for.
 */
#include "daemon/runtime/timer.h"

#include "common/compiler.h"

#include <errno.h>
#include <stdlib.h>

struct eloq_timers {
	size_t count;
	size_t timers_max;
	struct eloq_timer *heap[];
};

int eloq_timers_open(struct eloq_timers **ret_timers, size_t timers_max)
{
	struct eloq_timers *timers;
	size_t bytes;

	if (__builtin_mul_overflow(timers_max, sizeof(timers->heap[0]), &bytes) ||
	    __builtin_add_overflow(bytes, sizeof(*timers), &bytes))
		return -EINVAL;
	timers = malloc(bytes);
	if (!timers)
		return -ENOMEM;
	timers->count = 0;
	timers->timers_max = timers_max;
	*ret_timers = timers;
	return 0;
}

void eloq_timers_close(struct eloq_timers *timers)
{
	if (!timers)
		return;
	for (size_t i = 0; i < timers->count; i++)
		timers->heap[i]->heap_index = 0;
	free(timers);
}

static void timers_put(struct eloq_timers *timers, size_t at, struct eloq_timer *timer)
{
	timers->heap[at] = timer;
	timer->heap_index = at + 1;
}

/* Both find the place of @timer, starting from the hole at @at. */
static void timers_sift_up(struct eloq_timers *timers, size_t at, struct eloq_timer *timer)
{
	while (at > 0) {
		size_t parent = (at - 1) / 2;

		if (timers->heap[parent]->deadline_ns <= timer->deadline_ns)
			break;
		timers_put(timers, at, timers->heap[parent]);
		at = parent;
	}
	timers_put(timers, at, timer);
}

static void timers_sift_down(struct eloq_timers *timers, size_t at, struct eloq_timer *timer)
{
	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= timers->count)
			break;
		if (child + 1 < timers->count &&
		    timers->heap[child + 1]->deadline_ns < timers->heap[child]->deadline_ns)
			child++;
		if (timer->deadline_ns <= timers->heap[child]->deadline_ns)
			break;
		timers_put(timers, at, timers->heap[child]);
		at = child;
	}
	timers_put(timers, at, timer);
}

/* Fill the hole at @at with @timer, wherever in its branch that one belongs. */
static void timers_settle(struct eloq_timers *timers, size_t at, struct eloq_timer *timer)
{
	if (at > 0 && timer->deadline_ns < timers->heap[(at - 1) / 2]->deadline_ns)
		timers_sift_up(timers, at, timer);
	else
		timers_sift_down(timers, at, timer);
}

bool eloq_timer_is_armed(const struct eloq_timer *timer)
{
	return timer->heap_index != 0;
}

int eloq_timer_arm(struct eloq_timers *timers, struct eloq_timer *timer, uint64_t deadline_ns)
{
	if (eloq_timer_is_armed(timer)) {
		eloq_assert(timers->heap[timer->heap_index - 1] == timer);
		timer->deadline_ns = deadline_ns;
		timers_settle(timers, timer->heap_index - 1, timer);
		return 0;
	}
	if (timers->count == timers->timers_max)
		return -ENOSPC;
	timer->deadline_ns = deadline_ns;
	timers_sift_up(timers, timers->count++, timer);
	return 0;
}

void eloq_timer_disarm(struct eloq_timers *timers, struct eloq_timer *timer)
{
	struct eloq_timer *last;
	size_t at = timer->heap_index - 1;

	if (!eloq_timer_is_armed(timer))
		return;
	eloq_assert(timers->heap[at] == timer);
	timer->heap_index = 0;
	last = timers->heap[--timers->count];
	if (last != timer)
		timers_settle(timers, at, last);
}

unsigned eloq_timers_expire(struct eloq_timers *timers, uint64_t now_ns, unsigned timers_max)
{
	unsigned called = 0;

	while (called < timers_max && timers->count > 0) {
		struct eloq_timer *timer = timers->heap[0];

		if (timer->deadline_ns > now_ns)
			break;
		eloq_timer_disarm(timers, timer);
		timer->fn(timer);
		called++;
	}
	return called;
}

uint64_t eloq_timers_next_ns(const struct eloq_timers *timers)
{
	return timers->count > 0 ? timers->heap[0]->deadline_ns : UINT64_MAX;
}
