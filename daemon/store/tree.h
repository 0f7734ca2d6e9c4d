/*
 * tree.h - finding a key: from a root through index pages to a leaf.
 *
 * Idea: a view is one version of a partition (mapper.h) and what is needed to read its pages. Each
 * page is looked up by its logical id, so what a view sees never changes. The same descent serves
 * the fast path, which takes only what is in memory, and tasks, which wait for the disk.
 *
 * Always:   no page is pinned while a task waits for another one, so that readers cannot block each
 *           other however small the cache is.
 * Runs on:  the shard's thread.
 * Fails by: -ELOQ_ECORRUPT naming file and offset when a page is not of the type that its place in
 *           the tree demands, or the tree is deeper than ELOQ_TREE_DEPTH_MAX.
 */
#ifndef ELOQ_DAEMON_STORE_TREE_H
#define ELOQ_DAEMON_STORE_TREE_H

#include "daemon/format/data_page.h"
#include "daemon/store/cache.h"
#include "daemon/store/manifest.h"
#include "daemon/store/mapper.h"

struct eloq_value_places;

struct eloq_tree_view {
	struct eloq_io *io;
	struct eloq_files *files;
	struct eloq_cache *cache;
	struct eloq_partition_dir *dir;
	const struct eloq_manifest *manifest;
	struct eloq_mapping *mapping;
	struct eloq_value_places *places; /* for reading long values (value.h) */
	uint32_t page_bytes;
	uint32_t pages_per_file_shift;
	bool verify_checksums;
};

/* The page with this id, pinned. The first takes it from memory only and answers -EAGAIN. */
int eloq_tree_page(const struct eloq_tree_view *view, uint32_t page_id, enum eloq_page_use use,
		   struct eloq_page **ret_page);
int eloq_tree_page_await(const struct eloq_tree_view *view, uint32_t page_id,
			 enum eloq_page_use use, struct eloq_page **ret_page,
			 struct eloq_errinfo *reterr);

/* As eloq_tree_page_await(), but copies the page to @copy (page_bytes) and pins nothing. */
int eloq_tree_copy_await(const struct eloq_tree_view *view, uint32_t page_id,
			 enum eloq_page_use use, uint8_t *copy, struct eloq_errinfo *reterr);

/*
 * Find @key in the tree below @root (ELOQ_PAGE_NONE: an empty one). On success *ret_leaf is pinned
 * and the entry's value lies in it. -ELOQ_ENOTFOUND; the first one also -EAGAIN, and never waits.
 */
int eloq_tree_find(const struct eloq_tree_view *view, uint32_t root, const uint8_t *key,
		   uint32_t key_bytes, struct eloq_page **ret_leaf, struct eloq_entry *ret_entry);
int eloq_tree_find_await(const struct eloq_tree_view *view, uint32_t root, const uint8_t *key,
			 uint32_t key_bytes, struct eloq_page **ret_leaf,
			 struct eloq_entry *ret_entry, struct eloq_errinfo *reterr);

/* Where in the tree a page was found: below nothing (a root), or below an index page's type. */
enum eloq_tree_place {
	ELOQ_TREE_ROOT,
	ELOQ_TREE_BELOW_INNER,
	ELOQ_TREE_BELOW_INDEX_LEAF,
};

/* The place of the children of a checked index page. */
static inline enum eloq_tree_place eloq_tree_place_below(const uint8_t *page)
{
	return eloq_page_type(page) == ELOQ_PAGE_INDEX_LEAF ? ELOQ_TREE_BELOW_INDEX_LEAF
							    : ELOQ_TREE_BELOW_INNER;
}

/* Whether @page may stand at @place, @depth pages below the root. 0 or -ELOQ_ECORRUPT. */
int eloq_tree_check_place(const struct eloq_tree_view *view, uint32_t page_id, const uint8_t *page,
			  enum eloq_tree_place place, unsigned depth, struct eloq_errinfo *reterr);

/* -ELOQ_ECORRUPT with @what, and partition, file and offset of the page in @reterr. */
int eloq_tree_corrupt(const struct eloq_tree_view *view, uint32_t page_id, const char *what,
		      struct eloq_errinfo *reterr);

#endif
