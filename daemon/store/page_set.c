/*
 * page_set.c - two levels of bits (page_set.h).
 *
 * Always: bit w of the summary is set exactly if words[w] is not 0; bits at and above the capacity
 *         are 0; capacity is a multiple of the numbers that one summary word covers.
 */
#include "daemon/store/page_set.h"

#include "common/compiler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 64, SUMMARY_BITS = WORD_BITS * WORD_BITS };

static uint64_t bit_of(uint64_t index)
{
	return UINT64_C(1) << (index % WORD_BITS);
}

void eloq_page_set_clear(struct eloq_page_set *set)
{
	free(set->words);
	free(set->summary);
	*set = (struct eloq_page_set){ 0 };
}

int eloq_page_set_reserve(struct eloq_page_set *set, uint64_t end)
{
	uint64_t capacity, *words, *summary;
	size_t words_old, words_new;

	if (end <= set->capacity)
		return 0;
	if (end > UINT64_MAX / 4)
		return -ENOMEM;
	capacity = eloq_round_up(eloq_max_u64(end, set->capacity * 2), SUMMARY_BITS);
	words_old = set->capacity / WORD_BITS;
	words_new = capacity / WORD_BITS;
	words = calloc(words_new, sizeof(*words));
	summary = calloc(words_new / WORD_BITS, sizeof(*summary));
	if (!words || !summary) {
		free(words);
		free(summary);
		return -ENOMEM;
	}
	if (words_old > 0) {
		memcpy(words, set->words, words_old * sizeof(*words));
		memcpy(summary, set->summary, words_old / WORD_BITS * sizeof(*summary));
	}
	free(set->words);
	free(set->summary);
	set->words = words;
	set->summary = summary;
	set->capacity = capacity;
	return 0;
}

bool eloq_page_set_has(const struct eloq_page_set *set, uint64_t number)
{
	return number < set->capacity && (set->words[number / WORD_BITS] & bit_of(number)) != 0;
}

void eloq_page_set_add(struct eloq_page_set *set, uint64_t number)
{
	uint64_t word = number / WORD_BITS;

	eloq_assert(number < set->capacity && !eloq_page_set_has(set, number));
	set->words[word] |= bit_of(number);
	set->summary[word / WORD_BITS] |= bit_of(word);
	set->count++;
}

void eloq_page_set_remove(struct eloq_page_set *set, uint64_t number)
{
	uint64_t word = number / WORD_BITS;

	eloq_assert(eloq_page_set_has(set, number));
	set->words[word] &= ~bit_of(number);
	if (set->words[word] == 0)
		set->summary[word / WORD_BITS] &= ~bit_of(word);
	set->count--;
}

void eloq_page_set_fill(struct eloq_page_set *set, uint64_t end)
{
	uint64_t whole = end / WORD_BITS;

	eloq_assert(set->count == 0 && end <= set->capacity);
	if (whole > 0)
		memset(set->words, 0xff, whole * sizeof(*set->words));
	for (uint64_t word = 0; word < whole; word++)
		set->summary[word / WORD_BITS] |= bit_of(word);
	set->count = whole * WORD_BITS;
	for (uint64_t number = set->count; number < end; number++)
		eloq_page_set_add(set, number);
}

/* The first set bit of @words at or behind @from, below @end; @end if there is none. */
static uint64_t bits_next(const uint64_t *words, uint64_t from, uint64_t end)
{
	uint64_t word;

	if (from >= end)
		return end;
	word = words[from / WORD_BITS] & ~(bit_of(from) - 1);
	while (word == 0) {
		from = (from / WORD_BITS + 1) * WORD_BITS;
		if (from >= end)
			return end;
		word = words[from / WORD_BITS];
	}
	return from / WORD_BITS * WORD_BITS + (uint64_t)__builtin_ctzll(word);
}

/* The first member at or behind @from; the capacity if there is none. */
static uint64_t set_next(const struct eloq_page_set *set, uint64_t from)
{
	uint64_t word_count = set->capacity / WORD_BITS;
	uint64_t word = from / WORD_BITS, rest;

	if (from >= set->capacity)
		return set->capacity;
	rest = set->words[word] & ~(bit_of(from) - 1);
	if (rest != 0)
		return word * WORD_BITS + (uint64_t)__builtin_ctzll(rest);
	word = bits_next(set->summary, word + 1, word_count);
	if (word == word_count)
		return set->capacity;
	return word * WORD_BITS + (uint64_t)__builtin_ctzll(set->words[word]);
}

bool eloq_page_set_take(struct eloq_page_set *set, uint64_t *ret_number)
{
	uint64_t number;

	if (set->count == 0)
		return false;
	number = set_next(set, set->cursor);
	if (number == set->capacity)
		number = set_next(set, 0);
	eloq_page_set_remove(set, number);
	set->cursor = number + 1;
	*ret_number = number;
	return true;
}
