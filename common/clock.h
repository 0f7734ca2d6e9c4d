/*
 * clock.h - the two clocks, behind one pointer so that tests can bring their own.
 *
 * Code that needs the time is handed a clock; only main functions name the real one.
 */
#ifndef ELOQ_COMMON_CLOCK_H
#define ELOQ_COMMON_CLOCK_H

#include <stdint.h>

struct eloq_clock {
	uint64_t (*monotonic_ns)(void *arg); /* never runs back; differences only */
	uint64_t (*realtime_us)(void *arg);  /* since the Unix epoch; may jump either way */
	void *arg;
};

/* CLOCK_MONOTONIC and CLOCK_REALTIME. Valid for the process; any thread. */
const struct eloq_clock *eloq_clock_system(void);

static inline uint64_t eloq_clock_monotonic_ns(const struct eloq_clock *clock)
{
	return clock->monotonic_ns(clock->arg);
}

static inline uint64_t eloq_clock_realtime_us(const struct eloq_clock *clock)
{
	return clock->realtime_us(clock->arg);
}

#define ELOQ_NS_PER_US UINT64_C(1000)
#define ELOQ_NS_PER_MS UINT64_C(1000000)
#define ELOQ_NS_PER_S  UINT64_C(1000000000)

#endif
