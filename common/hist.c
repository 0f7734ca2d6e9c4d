/*
 * hist.c - buckets by highest bits. See hist.h.
 *
 * Atomics: all relaxed. There is one writer, so load and store need not be one step, and a reader
 * takes each number for itself: nothing else is published through them.
 */
#include "common/hist.h"

#include "common/compiler.h"

enum { HIST_STEP_BITS = 5 };
static_assert(ELOQ_HIST_STEPS == 1 << HIST_STEP_BITS, "one is the other");

static inline uint64_t hist_load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void hist_add(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, hist_load(word) + value, memory_order_relaxed);
}

/*
 * Bucket i < 2 * STEPS holds the number i. Above, each power of two has STEPS buckets: shifting a
 * number right until it is below 2 * STEPS leaves its upper bits, and the shift says which power.
 */
static unsigned hist_bucket_of(uint64_t value)
{
	unsigned bits = 64u - (unsigned)__builtin_clzll(value | 1);
	unsigned shift = bits > HIST_STEP_BITS + 1 ? bits - (HIST_STEP_BITS + 1) : 0;

	return shift * ELOQ_HIST_STEPS + (unsigned)(value >> shift);
}

/* The middle of the numbers that fall into a bucket. */
static uint64_t hist_value_of(unsigned bucket)
{
	unsigned shift = bucket < 2 * ELOQ_HIST_STEPS ? 0 : bucket / ELOQ_HIST_STEPS - 1;
	uint64_t lowest = (uint64_t)(bucket - shift * ELOQ_HIST_STEPS) << shift;

	return lowest + ((UINT64_C(1) << shift) >> 1);
}

void eloq_hist_clear(struct eloq_hist *hist)
{
	atomic_store_explicit(&hist->count, 0, memory_order_relaxed);
	atomic_store_explicit(&hist->sum, 0, memory_order_relaxed);
	atomic_store_explicit(&hist->max, 0, memory_order_relaxed);
	for (unsigned i = 0; i < ELOQ_HIST_BUCKETS; i++)
		atomic_store_explicit(&hist->buckets[i], 0, memory_order_relaxed);
}

void eloq_hist_record(struct eloq_hist *hist, uint64_t value)
{
	hist_add(&hist->buckets[hist_bucket_of(value)], 1);
	hist_add(&hist->count, 1);
	hist_add(&hist->sum, value);
	if (value > hist_load(&hist->max))
		atomic_store_explicit(&hist->max, value, memory_order_relaxed);
}

void eloq_hist_merge(struct eloq_hist *into, const struct eloq_hist *from)
{
	uint64_t max = hist_load(&from->max);

	for (unsigned i = 0; i < ELOQ_HIST_BUCKETS; i++)
		hist_add(&into->buckets[i], hist_load(&from->buckets[i]));
	hist_add(&into->count, hist_load(&from->count));
	hist_add(&into->sum, hist_load(&from->sum));
	if (max > hist_load(&into->max))
		atomic_store_explicit(&into->max, max, memory_order_relaxed);
}

uint64_t eloq_hist_count(const struct eloq_hist *hist)
{
	return hist_load(&hist->count);
}

uint64_t eloq_hist_sum(const struct eloq_hist *hist)
{
	return hist_load(&hist->sum);
}

uint64_t eloq_hist_max(const struct eloq_hist *hist)
{
	return hist_load(&hist->max);
}

uint64_t eloq_hist_percentile(const struct eloq_hist *hist, double percent)
{
	uint64_t count = 0, seen = 0, rank, max = hist_load(&hist->max);
	double exact_rank;

	/* Not hist->count: a writer may be between that and the bucket. */
	for (unsigned i = 0; i < ELOQ_HIST_BUCKETS; i++)
		count += hist_load(&hist->buckets[i]);
	if (count == 0)
		return 0;
	if (percent >= 100)
		return max;
	exact_rank = percent > 0 ? (double)count * (percent / 100) : 0;
	rank = (uint64_t)exact_rank;
	if ((double)rank < exact_rank || rank == 0)
		rank++;
	for (unsigned i = 0; i < ELOQ_HIST_BUCKETS; i++) {
		seen += hist_load(&hist->buckets[i]);
		if (seen >= rank)
			return eloq_min_u64(hist_value_of(i), max);
	}
	return max; /* buckets only grow, so this is reached only if one was cleared meanwhile */
}
