/*
 * clock.c - the real clocks. See clock.h.
 */
#include "common/clock.h"

#include "common/compiler.h"

#include <time.h>

static uint64_t clock_system_monotonic_ns(void *arg ELOQ_UNUSED)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * ELOQ_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t clock_system_realtime_us(void *arg ELOQ_UNUSED)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

const struct eloq_clock *eloq_clock_system(void)
{
	static const struct eloq_clock clock = {
		.monotonic_ns = clock_system_monotonic_ns,
		.realtime_us = clock_system_realtime_us,
	};

	return &clock;
}
