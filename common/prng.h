/*
 * prng.h - a small seeded generator for tests, back-off and sampling; not for secrets.
 *
 * splitmix64: one 64-bit state, any seed is fine, equal seeds give equal sequences everywhere.
 */
#ifndef ELOQ_COMMON_PRNG_H
#define ELOQ_COMMON_PRNG_H

#include <stdint.h>

struct eloq_prng {
	uint64_t state;
};

static inline void eloq_prng_seed(struct eloq_prng *prng, uint64_t seed)
{
	prng->state = seed;
}

static inline uint64_t eloq_prng_next(struct eloq_prng *prng)
{
	uint64_t z = (prng->state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Uniform in [0, bound); 0 for a bound of 0. */
static inline uint64_t eloq_prng_below(struct eloq_prng *prng, uint64_t bound)
{
	return (uint64_t)(((unsigned __int128)eloq_prng_next(prng) * bound) >> 64);
}

#endif
