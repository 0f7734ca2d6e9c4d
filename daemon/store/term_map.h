/*
 * term_map.h - the data files of a partition: under which term each was made, and how many of its
 * pages are live.
 *
 * A sorted array: there are few files, and they come in ascending order. Private to the manifest.
 */
#ifndef ELOQ_DAEMON_STORE_TERM_MAP_H
#define ELOQ_DAEMON_STORE_TERM_MAP_H

#include <stddef.h>
#include <stdint.h>

struct eloq_term {
	uint64_t file_id;
	uint64_t term;
	uint64_t live_pages;
};

/* All zero: empty. */
struct eloq_term_map {
	struct eloq_term *terms; /* ascending file ids */
	size_t count;
	size_t capacity;
};

void eloq_term_map_clear(struct eloq_term_map *map); /* frees; empty afterwards */

/* Adds the file, or gives it another term. 0 or -ENOMEM. */
int eloq_term_map_set(struct eloq_term_map *map, uint64_t file_id, uint64_t term);

/* NULL if the file is not known. Valid until the next set. */
struct eloq_term *eloq_term_map_find(const struct eloq_term_map *map, uint64_t file_id);

#endif
