/*
 * timer.h - things to do later: a heap of deadlines, owned by one thread.
 *
 * A timer lies inside its owner's structure; adding one never allocates once the heap has grown.
 */
#ifndef ELOQ_DAEMON_RUNTIME_TIMER_H
#define ELOQ_DAEMON_RUNTIME_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct eloq_timers;

struct eloq_timer {
	uint64_t deadline_ns; /* on the owner's monotonic clock */
	void (*fn)(struct eloq_timer *timer);
	void *arg;
	size_t heap_index; /* 0: not armed; else its place in the heap + 1 */
};

int eloq_timers_open(struct eloq_timers **ret_timers, size_t timers_max);
void eloq_timers_close(struct eloq_timers *timers); /* NULL is fine; armed timers are forgotten */

/* Arm, or move to another deadline. -ENOSPC: timers_max are armed. */
int eloq_timer_arm(struct eloq_timers *timers, struct eloq_timer *timer, uint64_t deadline_ns);
void eloq_timer_disarm(struct eloq_timers *timers, struct eloq_timer *timer);
bool eloq_timer_is_armed(const struct eloq_timer *timer);

/* Call fn of up to @timers_max timers whose deadline is <= @now_ns, earliest first. fn may arm it
 * again. Returns how many were called. */
unsigned eloq_timers_expire(struct eloq_timers *timers, uint64_t now_ns, unsigned timers_max);

/* The earliest deadline, UINT64_MAX if there is none. */
uint64_t eloq_timers_next_ns(const struct eloq_timers *timers);

#endif
