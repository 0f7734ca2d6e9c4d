/*
 * hist.h - a histogram of latencies: any 64-bit number, a fixed size, an error below 2 %.
 *
 * Idea: log-linear. A number is kept by its highest bit and the five bits below it, so a bucket is
 * at most 1/32 as wide as the numbers in it, and its middle at most 1/64 away from any of them.
 * Numbers below 64 are exact.
 *
 * Always:   counts only grow, until eloq_hist_clear().
 * Runs on:  one writer; any number of readers, in other processes too, beside it: each number a
 *           reader sees was true at some time, though not all at the same time.
 */
#ifndef ELOQ_COMMON_HIST_H
#define ELOQ_COMMON_HIST_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	ELOQ_HIST_STEPS = 32, /* buckets for each power of two */
	ELOQ_HIST_BUCKETS = (64 - 5 + 1) * ELOQ_HIST_STEPS,
};

/* All zeros is an empty histogram. */
struct eloq_hist {
	_Atomic uint64_t count;
	_Atomic uint64_t sum;
	_Atomic uint64_t max;
	_Atomic uint64_t buckets[ELOQ_HIST_BUCKETS];
};

void eloq_hist_clear(struct eloq_hist *hist);

/* Writer: one more @value. */
void eloq_hist_record(struct eloq_hist *hist, uint64_t value);

/* Writer of @into: add all that @from holds. */
void eloq_hist_merge(struct eloq_hist *into, const struct eloq_hist *from);

uint64_t eloq_hist_count(const struct eloq_hist *hist);
uint64_t eloq_hist_sum(const struct eloq_hist *hist); /* exact, modulo 2^64 */
uint64_t eloq_hist_max(const struct eloq_hist *hist); /* exact; 0 if empty */

/* The smallest number (within the error) that @percent (0..100) of all are not above; 0 if empty,
 * and never above the maximum. */
uint64_t eloq_hist_percentile(const struct eloq_hist *hist, double percent);

#endif
