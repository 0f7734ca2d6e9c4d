/*
 * list.h - an intrusive doubly linked list with a sentinel.
 *
 * The node lies inside the structure it links, so insertion never allocates and removal needs no
 * search. A node that is in no list points to itself: eloq_list_remove() leaves it so, and
 * removing it again is harmless. One thread at a time.
 */
#ifndef ELOQ_COMMON_LIST_H
#define ELOQ_COMMON_LIST_H

#include "common/compiler.h"

#include <stdbool.h>

struct eloq_list {
	struct eloq_list *next;
	struct eloq_list *prev;
};

static inline void eloq_list_init(struct eloq_list *node)
{
	node->next = node;
	node->prev = node;
}

/* For a head: no entries. For a node: in no list. */
static inline bool eloq_list_empty(const struct eloq_list *node)
{
	return node->next == node;
}

static inline void eloq_list_insert_before(struct eloq_list *at, struct eloq_list *node)
{
	node->prev = at->prev;
	node->next = at;
	at->prev->next = node;
	at->prev = node;
}

static inline void eloq_list_push_back(struct eloq_list *head, struct eloq_list *node)
{
	eloq_list_insert_before(head, node);
}

static inline void eloq_list_push_front(struct eloq_list *head, struct eloq_list *node)
{
	eloq_list_insert_before(head->next, node);
}

static inline void eloq_list_remove(struct eloq_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	eloq_list_init(node);
}

/* The first node, taken out, or NULL. */
static inline struct eloq_list *eloq_list_pop_front(struct eloq_list *head)
{
	struct eloq_list *node = head->next;

	if (node == head)
		return NULL;
	head->next = node->next;
	head->next->prev = head;
	eloq_list_init(node);
	return node;
}

/* Moves all of @from to the end of @to; @from is empty afterwards. */
static inline void eloq_list_splice_back(struct eloq_list *to, struct eloq_list *from)
{
	if (eloq_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	eloq_list_init(from);
}

#define eloq_list_entry(node, type, member) eloq_container_of(node, type, member)

/* NOLINTBEGIN(bugprone-macro-parentheses): @node is a name that is declared, not a value */
#define eloq_list_for_each(node, head) \
	for (struct eloq_list *node = (head)->next; (node) != (head); (node) = (node)->next)

/* The loop body may remove @node. */
#define eloq_list_for_each_safe(node, head)                                                        \
	for (struct eloq_list *node = (head)->next, *node##_next = (node)->next; (node) != (head); \
	     (node) = node##_next, node##_next = (node)->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
