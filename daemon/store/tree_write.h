/*
 * tree_write.h - apply a set of changes to one tree, in one pass from left to right.
 *
 * Idea: the changes are sorted, so the tree is walked once; only leaves that really change are
 * rebuilt, and index pages only if a child was added or removed. Separators are the shortest that
 * tell two leaves apart. Neighbouring leaves name each other; leaf_write.h keeps these links right
 * without writing any page twice.
 *
 * Always:   a page is handed to the page writer at most once in a commit, and only when final.
 *           The memory needed does not grow with the number of pages that change, but for the
 *           list of a single index page's children.
 * Fails by: any error leaves the change half done: it must be aborted.
 */
#ifndef ELOQ_DAEMON_STORE_TREE_WRITE_H
#define ELOQ_DAEMON_STORE_TREE_WRITE_H

#include "daemon/store/merge.h"
#include "daemon/store/page_writer.h"
#include "daemon/store/tree.h"

struct eloq_tree_write {
	const struct eloq_tree_view *view; /* the version that the change starts from */
	struct eloq_change *change;
	struct eloq_page_writer *writer;
	struct eloq_merge *merge; /* sorted */
	uint32_t data_restart_interval;
	uint32_t index_restart_interval;
	uint32_t overflow_pointers;
	struct eloq_errinfo *reterr;
};

/*
 * Apply all of write->merge to the tree below @root (ELOQ_PAGE_NONE: an empty one). *ret_root is
 * its new root; *ret_changed is false if no page was written or freed. Outcomes are set either way.
 */
int eloq_tree_write_await(const struct eloq_tree_write *write, uint32_t root, uint32_t *ret_root,
			  bool *ret_changed);

#endif
