/*
 * child_list.c - a growing array of children, their separators in one block. See child_list.h.
 */
#include "daemon/store/child_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHILD_LIST_MIN = 64 };

void eloq_child_list_free(struct eloq_child_list *list)
{
	free(list->children);
	free(list->keys);
	memset(list, 0, sizeof(*list));
}

void eloq_child_list_clear(struct eloq_child_list *list)
{
	list->count = 0;
	list->keys_bytes = 0;
}

static int child_list_grow(struct eloq_child_list *list)
{
	size_t capacity = list->capacity > 0 ? list->capacity * 2 : CHILD_LIST_MIN;
	struct eloq_child *children = realloc(list->children, capacity * sizeof(*children));

	if (!children)
		return -ENOMEM;
	list->children = children;
	list->capacity = capacity;
	return 0;
}

static int child_list_grow_keys(struct eloq_child_list *list, uint32_t key_bytes)
{
	size_t capacity = (list->keys_capacity + key_bytes + CHILD_LIST_MIN) * 2;
	uint8_t *keys = realloc(list->keys, capacity);

	if (!keys)
		return -ENOMEM;
	list->keys = keys;
	list->keys_capacity = capacity;
	return 0;
}

int eloq_child_list_push(struct eloq_child_list *list, const uint8_t *key, uint32_t key_bytes,
			 uint32_t page_id)
{
	if (list->count == list->capacity && child_list_grow(list) < 0)
		return -ENOMEM;
	if ((!list->keys || key_bytes > list->keys_capacity - list->keys_bytes) &&
	    child_list_grow_keys(list, key_bytes) < 0)
		return -ENOMEM;
	list->children[list->count++] = (struct eloq_child){
		.page_id = page_id,
		.key_bytes = key_bytes,
		.key_offset = list->keys_bytes,
	};
	if (key_bytes > 0)
		memcpy(list->keys + list->keys_bytes, key, key_bytes);
	list->keys_bytes += key_bytes;
	return 0;
}
