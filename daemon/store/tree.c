/*
 * tree.c - the descent from a root to a leaf. See tree.h.
 */
#include "daemon/store/tree.h"

#include "daemon/format/file_name.h"
#include "daemon/format/index_page.h"

#include <errno.h>
#include <inttypes.h>

int eloq_tree_corrupt(const struct eloq_tree_view *view, uint32_t page_id, const char *what,
		      struct eloq_errinfo *reterr)
{
	uint64_t file_page_id = eloq_mapping_get(view->mapping, page_id);
	uint64_t file_id = file_page_id >> view->pages_per_file_shift;
	uint64_t index = file_page_id - (file_id << view->pages_per_file_shift);
	char name[ELOQ_FILE_NAME_BYTES];
	bool known;

	if (file_page_id == ELOQ_FILE_PAGE_NONE)
		return eloq_fail(reterr, -ELOQ_ECORRUPT, "%s: page %" PRIu32 " %s", view->dir->name,
				 page_id, what);
	eloq_file_name_data(name, file_id, eloq_manifest_term(view->manifest, file_id, &known));
	return eloq_fail(reterr, -ELOQ_ECORRUPT, "%s/%s, offset %" PRIu64 ": page %" PRIu32 " %s",
			 view->dir->name, name, index * view->page_bytes, page_id, what);
}

/* The file page of @page_id; a tree that names a page which is not mapped is damaged. */
static int tree_file_page(const struct eloq_tree_view *view, uint32_t page_id,
			  uint64_t *ret_file_page_id, struct eloq_errinfo *reterr)
{
	uint64_t file_page_id = ELOQ_FILE_PAGE_NONE;

	if (page_id < eloq_mapping_page_ids(view->mapping))
		file_page_id = eloq_mapping_get(view->mapping, page_id);
	if (file_page_id == ELOQ_FILE_PAGE_NONE)
		return eloq_fail(reterr, -ELOQ_ECORRUPT,
				 "%s: page %" PRIu32 " is referred to, but not mapped",
				 view->dir->name, page_id);
	*ret_file_page_id = file_page_id;
	return 0;
}

int eloq_tree_page(const struct eloq_tree_view *view, uint32_t page_id, enum eloq_page_use use,
		   struct eloq_page **ret_page)
{
	uint64_t file_page_id = ELOQ_FILE_PAGE_NONE;
	int r;

	r = tree_file_page(view, page_id, &file_page_id, NULL);
	if (r < 0)
		return r;
	*ret_page = eloq_cache_find(view->cache, view->dir->no, file_page_id, use);
	return *ret_page ? 0 : -EAGAIN;
}

int eloq_tree_page_await(const struct eloq_tree_view *view, uint32_t page_id,
			 enum eloq_page_use use, struct eloq_page **ret_page,
			 struct eloq_errinfo *reterr)
{
	uint64_t file_page_id = ELOQ_FILE_PAGE_NONE, term;
	bool known;
	int r;

	r = tree_file_page(view, page_id, &file_page_id, reterr);
	if (r < 0)
		return r;
	*ret_page = eloq_cache_find(view->cache, view->dir->no, file_page_id, use);
	if (*ret_page)
		return 0;
	term = eloq_manifest_term(view->manifest, file_page_id >> view->pages_per_file_shift,
				  &known);
	if (!known)
		return eloq_tree_corrupt(view, page_id,
					 "lies in a file that the manifest does not name", reterr);
	return eloq_cache_read_await(view->cache, view->dir, file_page_id, term, use, ret_page,
				     reterr);
}

int eloq_tree_copy_await(const struct eloq_tree_view *view, uint32_t page_id,
			 enum eloq_page_use use, uint8_t *copy, struct eloq_errinfo *reterr)
{
	struct eloq_page *page;
	int r;

	r = eloq_tree_page_await(view, page_id, use, &page, reterr);
	if (r < 0)
		return r;
	memcpy(copy, eloq_page_bytes(page), view->page_bytes);
	eloq_cache_unpin(view->cache, page);
	return 0;
}

int eloq_tree_check_place(const struct eloq_tree_view *view, uint32_t page_id, const uint8_t *page,
			  enum eloq_tree_place place, unsigned depth, struct eloq_errinfo *reterr)
{
	uint8_t type = eloq_page_type(page);
	bool is_index = type == ELOQ_PAGE_INDEX_INNER || type == ELOQ_PAGE_INDEX_LEAF;

	if (depth >= ELOQ_TREE_DEPTH_MAX)
		return eloq_tree_corrupt(view, page_id, "lies too deep in its tree", reterr);
	if (place == ELOQ_TREE_BELOW_INDEX_LEAF && type != ELOQ_PAGE_DATA)
		return eloq_tree_corrupt(view, page_id, "should be a data page and is none",
					 reterr);
	if (place != ELOQ_TREE_BELOW_INDEX_LEAF && !is_index)
		return eloq_tree_corrupt(view, page_id, "should be an index page and is none",
					 reterr);
	return 0;
}

/* Both flavours: with @wait false it takes pages from memory only and does not suspend. */
static int tree_find_await(const struct eloq_tree_view *view, uint32_t root, const uint8_t *key,
			   uint32_t key_bytes, bool wait, struct eloq_page **ret_leaf,
			   struct eloq_entry *ret_entry, struct eloq_errinfo *reterr)
{
	enum eloq_tree_place place = ELOQ_TREE_ROOT;
	uint32_t page_id = root;
	struct eloq_page *page;
	const uint8_t *bytes;
	int r;

	if (root == ELOQ_PAGE_NONE)
		return -ELOQ_ENOTFOUND;
	for (unsigned depth = 0;; depth++) {
		r = wait ? eloq_tree_page_await(view, page_id, ELOQ_PAGE_POINT, &page, reterr)
			 : eloq_tree_page(view, page_id, ELOQ_PAGE_POINT, &page);
		if (r < 0)
			return r;
		bytes = eloq_page_bytes(page);
		r = eloq_tree_check_place(view, page_id, bytes, place, depth, reterr);
		if (r < 0)
			break;
		if (place == ELOQ_TREE_BELOW_INDEX_LEAF) {
			r = -ELOQ_ENOTFOUND;
			if (!eloq_data_page_find(bytes, view->page_bytes, key, key_bytes,
						 ret_entry))
				break;
			*ret_leaf = page;
			return 0;
		}
		place = eloq_tree_place_below(bytes);
		page_id = eloq_index_page_find(bytes, view->page_bytes, key, key_bytes);
		eloq_cache_unpin(view->cache, page);
	}
	eloq_cache_unpin(view->cache, page);
	return r;
}

int eloq_tree_find(const struct eloq_tree_view *view, uint32_t root, const uint8_t *key,
		   uint32_t key_bytes, struct eloq_page **ret_leaf, struct eloq_entry *ret_entry)
{
	return tree_find_await(view, root, key, key_bytes, false, ret_leaf, ret_entry, NULL);
}

int eloq_tree_find_await(const struct eloq_tree_view *view, uint32_t root, const uint8_t *key,
			 uint32_t key_bytes, struct eloq_page **ret_leaf,
			 struct eloq_entry *ret_entry, struct eloq_errinfo *reterr)
{
	return tree_find_await(view, root, key, key_bytes, true, ret_leaf, ret_entry, reterr);
}
