/*
 * leaf_write.h - rebuild leaves from left to right and keep their links.
 *
 * Idea: a leaf and its changes are merged into one, several or no pages. The first page keeps the
 * leaf's id and separator; others get new ids, and the shortest separator that tells them from
 * their left neighbour. As a page must name its right neighbour, whose id may not be known yet, the
 * rightmost page changed so far is held back: the *chain*. It is let go when its right neighbour is
 * known not to change any more, or when that one has become the chain in its place.
 *
 *      closed --rebuilt, or the left neighbour of a leaf that went away--> open
 *      open   --the next changed leaf is not its neighbour, and that one's link is right--> closed
 *
 * Runs on: the committing task. Leaves must be given in key order.
 */
#ifndef ELOQ_DAEMON_STORE_LEAF_WRITE_H
#define ELOQ_DAEMON_STORE_LEAF_WRITE_H

#include "daemon/store/child_list.h"
#include "daemon/store/tree_write.h"
#include "daemon/store/value.h"

struct eloq_leaf_writer;

int eloq_leaf_writer_open(struct eloq_leaf_writer **ret_writer,
			  const struct eloq_tree_write *write);
void eloq_leaf_writer_close(struct eloq_leaf_writer *writer); /* NULL is fine */

/*
 * Apply ops [from, to) to the leaf @page_id (ELOQ_PAGE_NONE: the tree is empty). What stands in its
 * place is pushed to @children, the first page with the separator @key; *children_changed is set if
 * that is not just the leaf itself, *pages_changed if anything was written or freed.
 */
int eloq_leaf_writer_apply_await(struct eloq_leaf_writer *writer, uint32_t page_id, uint32_t from,
				 uint32_t to, const uint8_t *key, uint32_t key_bytes,
				 struct eloq_child_list *children, bool *children_changed,
				 bool *pages_changed);

/* After the last leaf: hand over what was held back. */
int eloq_leaf_writer_finish_await(struct eloq_leaf_writer *writer);

#endif
