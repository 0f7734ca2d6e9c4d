/*
 * child_list.h - children of an index page while it is being rewritten: (separator, page id).
 *
 * Grows as needed and keeps its memory when cleared. The separator of a leftmost child is what its
 * parent has for the whole page, and may be empty.
 */
#ifndef ELOQ_DAEMON_STORE_CHILD_LIST_H
#define ELOQ_DAEMON_STORE_CHILD_LIST_H

#include <stddef.h>
#include <stdint.h>

struct eloq_child {
	uint32_t page_id;
	uint32_t key_bytes;
	size_t key_offset;
};

struct eloq_child_list {
	struct eloq_child *children;
	size_t count, capacity;
	uint8_t *keys;
	size_t keys_bytes, keys_capacity;
};

void eloq_child_list_free(struct eloq_child_list *list);
void eloq_child_list_clear(struct eloq_child_list *list);
/* The separator is copied. -ENOMEM. */
int eloq_child_list_push(struct eloq_child_list *list, const uint8_t *key, uint32_t key_bytes,
			 uint32_t page_id);

static inline const uint8_t *eloq_child_key(const struct eloq_child_list *list, size_t index)
{
	return list->keys + list->children[index].key_offset;
}

#endif
