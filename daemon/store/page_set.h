/*
 * page_set.h - a set of small numbers: which page ids and which file pages are free.
 *
 * Idea: one bit a number, and above it one bit for each word that is not empty, so that the next
 * member is found in a few steps even in a sparse set of millions. Taking goes round from where it
 * last was: numbers come out ascending, in runs, and a run of file pages is one write.
 *
 * Always:   a number is added once and removed once; adding and removing never fail, because room
 *           for it was reserved before.
 * Private to the mapper.
 */
#ifndef ELOQ_DAEMON_STORE_PAGE_SET_H
#define ELOQ_DAEMON_STORE_PAGE_SET_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: an empty set without room. */
struct eloq_page_set {
	uint64_t *words;
	uint64_t *summary; /* bit n: words[n] is not 0 */
	uint64_t capacity; /* numbers below it fit */
	uint64_t count;
	uint64_t cursor; /* where taking goes on */
};

void eloq_page_set_clear(struct eloq_page_set *set); /* frees; empty afterwards */

/* Make room for all numbers below @end. 0 or -ENOMEM. */
int eloq_page_set_reserve(struct eloq_page_set *set, uint64_t end);

bool eloq_page_set_has(const struct eloq_page_set *set, uint64_t number);
void eloq_page_set_add(struct eloq_page_set *set, uint64_t number);
void eloq_page_set_remove(struct eloq_page_set *set, uint64_t number);

/* Add all numbers below @end to an empty set with room for them. */
void eloq_page_set_fill(struct eloq_page_set *set, uint64_t end);

/* Remove and return the next member, round from the last one taken; false if there is none. */
bool eloq_page_set_take(struct eloq_page_set *set, uint64_t *ret_number);

#endif
