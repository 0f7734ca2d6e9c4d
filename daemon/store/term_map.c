/*
 * term_map.c - a sorted array of files (term_map.h).
 */
#include "daemon/store/term_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void eloq_term_map_clear(struct eloq_term_map *map)
{
	free(map->terms);
	*map = (struct eloq_term_map){ 0 };
}

/* Index of the first file whose id is not below @file_id. */
static size_t term_map_search(const struct eloq_term_map *map, uint64_t file_id)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->terms[middle].file_id < file_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct eloq_term *eloq_term_map_find(const struct eloq_term_map *map, uint64_t file_id)
{
	size_t index = term_map_search(map, file_id);

	if (index == map->count || map->terms[index].file_id != file_id)
		return NULL;
	return &map->terms[index];
}

int eloq_term_map_set(struct eloq_term_map *map, uint64_t file_id, uint64_t term)
{
	size_t index = term_map_search(map, file_id);

	if (index < map->count && map->terms[index].file_id == file_id) {
		map->terms[index].term = term;
		return 0;
	}
	if (map->count == map->capacity) {
		size_t capacity = map->capacity ? map->capacity * 2 : 4;
		struct eloq_term *terms = reallocarray(map->terms, capacity, sizeof(*terms));

		if (!terms)
			return -ENOMEM;
		map->terms = terms;
		map->capacity = capacity;
	}
	memmove(&map->terms[index + 1], &map->terms[index],
		(map->count - index) * sizeof(map->terms[0]));
	map->terms[index] = (struct eloq_term){ .file_id = file_id, .term = term };
	map->count++;
	return 0;
}
