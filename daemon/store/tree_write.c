/*
 * tree_write.c - the walk over index pages that are touched, and their rewriting. See tree_write.h.
 */
#include "daemon/store/tree_write.h"

#include "daemon/format/index_page.h"
#include "daemon/store/child_list.h"
#include "daemon/store/leaf_write.h"

#include <errno.h>
#include <stdlib.h>

/* An index page on the path from the root, as it was, and what becomes of its children. */
struct index_level {
	uint8_t *page;
	uint8_t *iter_key;
	uint8_t *separator; /* of the child that is being changed */
	struct eloq_child_list children;
};

struct tree_writer {
	const struct eloq_tree_write *write;
	struct eloq_leaf_writer *leaves;
	struct index_level levels[ELOQ_TREE_DEPTH_MAX];
	unsigned height; /* index pages from root to leaf */
	bool pages_changed;
	struct eloq_child_list tops[2]; /* what stands in the root's place */
	uint8_t *pages[2];		/* under construction */
	uint8_t *builder_key;
};

/* Where an index page stands: what its first part keeps. */
struct index_place {
	uint32_t page_id; /* ELOQ_PAGE_NONE: a new page */
	const uint8_t *key;
	uint32_t key_bytes;
	bool is_rightmost; /* of its level */
};

static int tree_writer_open(struct tree_writer **ret_writer, const struct eloq_tree_write *write)
{
	struct tree_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return -ENOMEM;
	*ret_writer = writer;
	writer->write = write;
	writer->pages[0] = malloc(write->view->page_bytes);
	writer->pages[1] = malloc(write->view->page_bytes);
	writer->builder_key = malloc(ELOQ_KEY_BUFFER_BYTES);
	if (!writer->pages[0] || !writer->pages[1] || !writer->builder_key)
		return -ENOMEM;
	return eloq_leaf_writer_open(&writer->leaves, write);
}

static void tree_writer_close(struct tree_writer *writer)
{
	if (!writer)
		return;
	for (unsigned i = 0; i < ELOQ_TREE_DEPTH_MAX; i++) {
		free(writer->levels[i].page);
		free(writer->levels[i].iter_key);
		free(writer->levels[i].separator);
		eloq_child_list_free(&writer->levels[i].children);
	}
	eloq_child_list_free(&writer->tops[0]);
	eloq_child_list_free(&writer->tops[1]);
	free(writer->pages[0]);
	free(writer->pages[1]);
	free(writer->builder_key);
	eloq_leaf_writer_close(writer->leaves);
	free(writer);
}

/* --- Writing index pages ---------------------------------------------------------------------- */

static uint32_t index_page_length(const uint8_t *page)
{
	return eloq_get_u16(page + ELOQ_PAGE_LENGTH);
}

/* Fill writer->pages[@which] with children from @from on until it holds @bytes or the next does not
 * fit. Returns the first child that is not on it. */
static size_t index_fill(struct tree_writer *writer, unsigned which,
			 const struct eloq_child_list *list, size_t from, enum eloq_page_type type,
			 uint32_t bytes)
{
	struct eloq_index_builder builder;
	size_t at = from + 1;

	eloq_index_builder_init(&builder, writer->pages[which], writer->write->view->page_bytes,
				writer->write->index_restart_interval, type,
				list->children[from].page_id, writer->builder_key);
	while (at < list->count && eloq_index_builder_bytes(&builder) < bytes &&
	       eloq_index_builder_add(&builder, eloq_child_key(list, at),
				      list->children[at].key_bytes, list->children[at].page_id))
		at++;
	eloq_index_builder_finish(&builder);
	return at;
}

/* Share the children [from, end of list) of the last two pages evenly if the last came out nearly
 * empty and the other nearly full. @middle: where the last one begins; returns where it does now.
 */
static size_t index_even_out(struct tree_writer *writer, unsigned left,
			     const struct eloq_child_list *list, size_t from, size_t middle,
			     enum eloq_page_type type)
{
	uint32_t page_bytes = writer->write->view->page_bytes;
	uint32_t left_bytes = index_page_length(writer->pages[left]);
	uint32_t right_bytes = index_page_length(writer->pages[!left]);
	size_t parted;

	if (right_bytes >= page_bytes / 4 || left_bytes <= page_bytes - page_bytes / 4)
		return middle;
	parted = index_fill(writer, left, list, from, type, (left_bytes + right_bytes) / 2);
	if (index_fill(writer, !left, list, parted, type, page_bytes) == list->count)
		return parted;
	(void)index_fill(writer, left, list, from, type, page_bytes);
	(void)index_fill(writer, !left, list, middle, type, page_bytes);
	return middle;
}

/* Hand over a complete page that begins with child @from, and name it to the level above. */
static int index_put_await(struct tree_writer *writer, unsigned which,
			   const struct eloq_child_list *list, size_t from,
			   const struct index_place *place, struct eloq_child_list *parents)
{
	const uint8_t *key = from == 0 ? place->key : eloq_child_key(list, from);
	uint32_t key_bytes = from == 0 ? place->key_bytes : list->children[from].key_bytes;
	uint32_t page_id = place->page_id;
	int r = 0;

	if (from > 0 || page_id == ELOQ_PAGE_NONE)
		r = eloq_change_alloc(writer->write->change, &page_id);
	if (r == 0)
		r = eloq_child_list_push(parents, key, key_bytes, page_id);
	if (r < 0)
		return r;
	return eloq_page_writer_put_await(writer->write->writer, page_id, writer->pages[which]);
}

/* Write @list, not empty, as index pages in the place of one, and push these to @parents. */
static int index_write_await(struct tree_writer *writer, const struct eloq_child_list *list,
			     enum eloq_page_type type, const struct index_place *place,
			     struct eloq_child_list *parents)
{
	uint32_t page_bytes = writer->write->view->page_bytes;
	size_t held = 0; /* first child of the page that is complete, but not handed over */
	unsigned which = 0;
	size_t from;
	int r;

	from = index_fill(writer, which, list, 0, type, page_bytes);
	while (from < list->count) {
		size_t end = index_fill(writer, !which, list, from, type, page_bytes);

		if (end == list->count && !place->is_rightmost)
			from = index_even_out(writer, which, list, held, from, type);
		r = index_put_await(writer, which, list, held, place, parents);
		if (r < 0)
			return r;
		which = !which;
		held = from;
		from = end;
	}
	return index_put_await(writer, which, list, held, place, parents);
}

/* --- Walking down ----------------------------------------------------------------------------- */

static int index_level_open(struct tree_writer *writer, unsigned depth)
{
	struct index_level *level = &writer->levels[depth];

	if (!level->page)
		level->page = malloc(writer->write->view->page_bytes);
	if (!level->iter_key)
		level->iter_key = malloc(ELOQ_KEY_BUFFER_BYTES);
	if (!level->separator)
		level->separator = malloc(ELOQ_KEY_BUFFER_BYTES);
	if (!level->page || !level->iter_key || !level->separator)
		return -ENOMEM;
	eloq_child_list_clear(&level->children);
	return 0;
}

static int index_apply_await(struct tree_writer *writer, unsigned depth,
			     const struct index_place *place, uint32_t from, uint32_t to,
			     struct eloq_child_list *parents, bool *parents_changed);

/* Apply ops [from, to), at least one, to the child that begins at @child->key. */
static int index_apply_child_await(struct tree_writer *writer, unsigned depth,
				   const struct index_place *child, uint32_t from, uint32_t to,
				   bool *children_changed)
{
	struct index_level *level = &writer->levels[depth];

	if (eloq_index_page_is_leaf(level->page))
		return eloq_leaf_writer_apply_await(writer->leaves, child->page_id, from, to,
						    child->key, child->key_bytes, &level->children,
						    children_changed, &writer->pages_changed);
	return index_apply_await(writer, depth + 1, child, from, to, &level->children,
				 children_changed);
}

/* Give every child its part of the ops [from, to). */
static int index_apply_children_await(struct tree_writer *writer, unsigned depth, bool is_rightmost,
				      uint32_t from, uint32_t to, bool *changed)
{
	const struct eloq_merge *merge = writer->write->merge;
	struct index_level *level = &writer->levels[depth];
	struct eloq_index_iter iter;
	bool more = true;
	uint32_t end;
	int r;

	eloq_index_iter_init(&iter, level->page, writer->write->view->page_bytes, level->iter_key);
	(void)eloq_index_iter_first(&iter);
	while (more) {
		struct index_place child = {
			.page_id = iter.child,
			.key = level->separator,
			.key_bytes = iter.key_bytes,
		};

		if (iter.key_bytes > 0)
			memcpy(level->separator, iter.key, iter.key_bytes);
		more = eloq_index_iter_next(&iter);
		child.is_rightmost = is_rightmost && !more;
		end = more ? eloq_merge_lower_bound(merge, from, to, iter.key, iter.key_bytes) : to;
		if (from == end)
			r = eloq_child_list_push(&level->children, child.key, child.key_bytes,
						 child.page_id);
		else
			r = index_apply_child_await(writer, depth, &child, from, end, changed);
		if (r < 0)
			return r;
		from = end;
	}
	return 0;
}

/* Apply ops [from, to), at least one, below the index page place->page_id, and push what stands in
 * its place: itself, if no child came or went. */
static int index_apply_await(struct tree_writer *writer, unsigned depth,
			     const struct index_place *place, uint32_t from, uint32_t to,
			     struct eloq_child_list *parents, bool *parents_changed)
{
	const struct eloq_tree_write *write = writer->write;
	enum eloq_tree_place where = depth == 0 ? ELOQ_TREE_ROOT : ELOQ_TREE_BELOW_INNER;
	struct index_level *level;
	bool changed = false;
	size_t pages_before;
	int r;

	if (depth >= ELOQ_TREE_DEPTH_MAX)
		return eloq_tree_corrupt(write->view, place->page_id, "lies too deep in its tree",
					 write->reterr);
	level = &writer->levels[depth];
	r = index_level_open(writer, depth);
	if (r == 0)
		r = eloq_tree_copy_await(write->view, place->page_id, ELOQ_PAGE_POINT, level->page,
					 write->reterr);
	if (r == 0)
		r = eloq_tree_check_place(write->view, place->page_id, level->page, where, depth,
					  write->reterr);
	if (r < 0)
		return r;
	if (depth + 1 > writer->height)
		writer->height = depth + 1;
	r = index_apply_children_await(writer, depth, place->is_rightmost, from, to, &changed);
	if (r < 0)
		return r;
	if (!changed)
		return eloq_child_list_push(parents, place->key, place->key_bytes, place->page_id);
	if (level->children.count == 0) {
		*parents_changed = true;
		return eloq_change_free(write->change, place->page_id);
	}
	pages_before = parents->count;
	r = index_write_await(writer, &level->children, eloq_page_type(level->page), place,
			      parents);
	*parents_changed |= parents->count != pages_before + 1;
	return r;
}

/* --- The root --------------------------------------------------------------------------------- */

/* Put levels on top of writer->tops[0] until there is one page. @type: of the lowest new level. */
static int tree_grow_await(struct tree_writer *writer, enum eloq_page_type type, uint32_t *ret_root)
{
	static const struct index_place top = { .page_id = ELOQ_PAGE_NONE, .is_rightmost = true };
	struct eloq_child_list swap;
	int r;

	while (writer->tops[0].count > 1 || type == ELOQ_PAGE_INDEX_LEAF) {
		if (++writer->height >= ELOQ_TREE_DEPTH_MAX)
			return eloq_fail(writer->write->reterr, -ELOQ_ETOOMANY,
					 "%s: the tree would be deeper than %d pages",
					 writer->write->view->dir->name, ELOQ_TREE_DEPTH_MAX);
		eloq_child_list_clear(&writer->tops[1]);
		r = index_write_await(writer, &writer->tops[0], type, &top, &writer->tops[1]);
		if (r < 0)
			return r;
		swap = writer->tops[0];
		writer->tops[0] = writer->tops[1];
		writer->tops[1] = swap;
		type = ELOQ_PAGE_INDEX_INNER;
	}
	*ret_root = writer->tops[0].children[0].page_id;
	return 0;
}

static int tree_apply_await(struct tree_writer *writer, uint32_t root, uint32_t *ret_root)
{
	uint32_t count = writer->write->merge->count;
	enum eloq_page_type type = ELOQ_PAGE_INDEX_INNER;
	struct eloq_child_list *top = &writer->tops[0];
	const struct index_place place = { .page_id = root, .is_rightmost = true };
	bool changed = false;
	int r;

	if (root == ELOQ_PAGE_NONE) {
		type = ELOQ_PAGE_INDEX_LEAF;
		r = eloq_leaf_writer_apply_await(writer->leaves, ELOQ_PAGE_NONE, 0, count, NULL, 0,
						 top, &changed, &writer->pages_changed);
	} else {
		r = index_apply_await(writer, 0, &place, 0, count, top, &changed);
	}
	if (r == 0)
		r = eloq_leaf_writer_finish_await(writer->leaves);
	if (r < 0)
		return r;
	if (top->count > 0)
		return tree_grow_await(writer, type, ret_root);
	*ret_root = ELOQ_PAGE_NONE;
	return 0;
}

int eloq_tree_write_await(const struct eloq_tree_write *write, uint32_t root, uint32_t *ret_root,
			  bool *ret_changed)
{
	struct tree_writer *writer = NULL;
	int r;

	*ret_root = root;
	*ret_changed = false;
	if (write->merge->count == 0)
		return 0;
	r = tree_writer_open(&writer, write);
	if (r == 0)
		r = tree_apply_await(writer, root, ret_root);
	if (r == 0)
		*ret_changed = writer->pages_changed;
	tree_writer_close(writer);
	return r;
}
