/*
 * leaf_write.c - one leaf merged with its changes, and the links between leaves. See leaf_write.h.
 *
 * Page buffers change hands by swapping pointers: the page under construction becomes the chain's,
 * the one that the chain gave away is built upon next.
 */
#include "daemon/store/leaf_write.h"

#include <errno.h>
#include <stdlib.h>

enum { LEAF_YIELD_PAGES = 8 /* built in a row before others may run */ };

/* The rightmost leaf changed so far. With left_id ELOQ_PAGE_NONE there is no leaf: all leaves so
 * far went away, and the one at next_id becomes the first. */
struct leaf_chain {
	bool is_open;
	bool next_is_stale; /* the leaf at next_id still names old_id as its left neighbour */
	uint32_t left_id;
	uint32_t next_id;
	uint32_t old_id;
	uint8_t *page; /* of left_id; its next is set when it is given away */
};

/* The leaf being rebuilt. */
struct leaf_rebuild {
	uint32_t page_id; /* ELOQ_PAGE_NONE: the tree was empty */
	uint32_t prev, next;
	uint32_t pages; /* completed */
	bool is_building;
	struct eloq_child_list *children;
	const uint8_t *key; /* separator of the page under construction */
	uint32_t key_bytes;
};

struct leaf_action {
	struct eloq_merge_result result;
	const struct eloq_write_entry *first; /* its key is the action's */
};

struct eloq_leaf_writer {
	const struct eloq_tree_write *write;
	const struct eloq_tree_view *view;
	uint32_t page_bytes;
	unsigned pages_since_yield;
	struct leaf_chain chain;
	struct leaf_rebuild leaf;
	struct leaf_action *actions;
	size_t action_count, action_capacity;
	struct eloq_data_builder builder;
	uint8_t *old_page; /* the leaf as it was */
	uint8_t *page;	   /* under construction */
	uint8_t *spare[2];
	uint8_t *value_page;
	uint8_t *iter_key;
	uint8_t *builder_key;
	uint8_t *spare_key;
	uint8_t *separator; /* where leaf.key points, but for a leaf's first page */
	uint8_t *spare_separator;
	uint8_t pointers[4 * ELOQ_OVERFLOW_POINTERS_MAX];
};

/* --- Opening ---------------------------------------------------------------------------------- */

int eloq_leaf_writer_open(struct eloq_leaf_writer **ret_writer, const struct eloq_tree_write *write)
{
	struct eloq_leaf_writer *writer = calloc(1, sizeof(*writer));
	uint32_t page_bytes = write->view->page_bytes;

	if (!writer)
		return -ENOMEM;
	writer->write = write;
	writer->view = write->view;
	writer->page_bytes = page_bytes;
	writer->chain.page = malloc(page_bytes);
	writer->old_page = malloc(page_bytes);
	writer->page = malloc(page_bytes);
	writer->spare[0] = malloc(page_bytes);
	writer->spare[1] = malloc(page_bytes);
	writer->value_page = malloc(page_bytes);
	writer->iter_key = malloc(ELOQ_KEY_BUFFER_BYTES);
	writer->builder_key = malloc(ELOQ_KEY_BUFFER_BYTES);
	writer->spare_key = malloc(ELOQ_KEY_BUFFER_BYTES);
	writer->separator = malloc(ELOQ_KEY_BUFFER_BYTES);
	writer->spare_separator = malloc(ELOQ_KEY_BUFFER_BYTES);
	if (!writer->chain.page || !writer->old_page || !writer->page || !writer->spare[0] ||
	    !writer->spare[1] || !writer->value_page || !writer->iter_key || !writer->builder_key ||
	    !writer->spare_key || !writer->separator || !writer->spare_separator) {
		eloq_leaf_writer_close(writer);
		return -ENOMEM;
	}
	*ret_writer = writer;
	return 0;
}

void eloq_leaf_writer_close(struct eloq_leaf_writer *writer)
{
	if (!writer)
		return;
	free(writer->spare_separator);
	free(writer->separator);
	free(writer->spare_key);
	free(writer->builder_key);
	free(writer->iter_key);
	free(writer->value_page);
	free(writer->spare[1]);
	free(writer->spare[0]);
	free(writer->page);
	free(writer->old_page);
	free(writer->chain.page);
	free(writer->actions);
	free(writer);
}

/* --- The chain -------------------------------------------------------------------------------- */

/* Give the held page away; its right neighbour is chain.next_id for good. */
static int chain_put_await(struct eloq_leaf_writer *writer)
{
	struct leaf_chain *chain = &writer->chain;

	if (chain->left_id == ELOQ_PAGE_NONE)
		return 0;
	eloq_data_page_set_next(chain->page, chain->next_id);
	return eloq_page_writer_put_await(writer->write->writer, chain->left_id, chain->page);
}

/* Make the page in *@page, complete but for its next, the chain's, and give the old one away. */
static int chain_move_await(struct eloq_leaf_writer *writer, uint8_t **page, uint32_t page_id,
			    uint32_t next_id)
{
	struct leaf_chain *chain = &writer->chain;
	uint8_t *given;
	int r = 0;

	if (chain->is_open) {
		chain->next_id = page_id;
		r = chain_put_await(writer);
	}
	given = chain->page;
	chain->page = *page;
	*page = given;
	chain->is_open = true;
	chain->left_id = page_id;
	chain->next_id = next_id;
	chain->next_is_stale = false;
	return r;
}

static int leaf_copy_await(struct eloq_leaf_writer *writer, uint32_t page_id, uint8_t *page)
{
	const struct eloq_tree_view *view = writer->view;
	struct eloq_errinfo *reterr = writer->write->reterr;
	int r;

	r = eloq_tree_copy_await(view, page_id, ELOQ_PAGE_POINT, page, reterr);
	if (r < 0)
		return r;
	return eloq_tree_check_place(view, page_id, page, ELOQ_TREE_BELOW_INDEX_LEAF, 0, reterr);
}

/* The right neighbour of the chain, otherwise unchanged, gets its link and becomes the chain. */
static int chain_step_right_await(struct eloq_leaf_writer *writer)
{
	struct leaf_chain *chain = &writer->chain;
	uint32_t page_id = chain->next_id;
	int r;

	r = leaf_copy_await(writer, page_id, writer->page);
	if (r < 0)
		return r;
	if (eloq_data_page_prev(writer->page) != chain->old_id)
		return eloq_tree_corrupt(writer->view, page_id, "has a wrong link to its left",
					 writer->write->reterr);
	eloq_data_page_set_prev(writer->page, chain->left_id);
	return chain_move_await(writer, &writer->page, page_id, eloq_data_page_next(writer->page));
}

static bool chain_must_step_right(const struct leaf_chain *chain)
{
	return chain->next_is_stale && chain->next_id != ELOQ_PAGE_NONE;
}

/* Afterwards the chain is closed, or its right neighbour is @page_id. */
static int chain_reach_await(struct eloq_leaf_writer *writer, uint32_t page_id)
{
	struct leaf_chain *chain = &writer->chain;
	int r = 0;

	while (r == 0 && chain->is_open && chain->next_id != page_id) {
		if (chain_must_step_right(chain)) {
			r = chain_step_right_await(writer);
		} else {
			r = chain_put_await(writer);
			chain->is_open = false;
		}
	}
	return r;
}

int eloq_leaf_writer_finish_await(struct eloq_leaf_writer *writer)
{
	struct leaf_chain *chain = &writer->chain;
	int r = 0;

	if (chain->is_open && chain_must_step_right(chain))
		r = chain_step_right_await(writer);
	if (chain->is_open && r == 0)
		r = chain_put_await(writer);
	chain->is_open = false;
	return r;
}

/* The leaf went away: whatever stands left of it must point past it. */
static int chain_skip_await(struct eloq_leaf_writer *writer, const struct leaf_rebuild *leaf)
{
	struct leaf_chain *chain = &writer->chain;
	int r;

	if (!chain->is_open) {
		if (leaf->prev != ELOQ_PAGE_NONE) {
			r = leaf_copy_await(writer, leaf->prev, chain->page);
			if (r < 0)
				return r;
			if (eloq_data_page_next(chain->page) != leaf->page_id)
				return eloq_tree_corrupt(writer->view, leaf->prev,
							 "has a wrong link to its right",
							 writer->write->reterr);
		}
		chain->is_open = true;
		chain->left_id = leaf->prev;
	}
	chain->next_id = leaf->next;
	chain->old_id = leaf->page_id;
	chain->next_is_stale = true;
	return 0;
}

/* --- Which changes there are ------------------------------------------------------------------ */

static int leaf_add_action(struct eloq_leaf_writer *writer, const struct leaf_action *action)
{
	if (writer->action_count == writer->action_capacity) {
		size_t capacity = writer->action_capacity > 0 ? writer->action_capacity * 2 : 64;
		struct leaf_action *actions = realloc(writer->actions, capacity * sizeof(*actions));

		if (!actions)
			return -ENOMEM;
		writer->actions = actions;
		writer->action_capacity = capacity;
	}
	writer->actions[writer->action_count++] = *action;
	return 0;
}

/* Decide each key's fate; keys that stay as they are leave no action. */
static int leaf_resolve(struct eloq_leaf_writer *writer, uint32_t page_id, uint32_t from,
			uint32_t to)
{
	struct eloq_merge *merge = writer->write->merge;
	struct leaf_action action;
	struct eloq_entry stored;
	uint32_t end;
	bool found;
	int r = 0;

	writer->action_count = 0;
	for (; from < to && r == 0; from = end) {
		end = eloq_merge_key_end(merge, from, to);
		action.first = merge->ops[from].entry;
		found = page_id != ELOQ_PAGE_NONE &&
			eloq_data_page_find(writer->old_page, writer->page_bytes, action.first->key,
					    action.first->key_bytes, &stored);
		eloq_merge_resolve(merge, from, end, found ? &stored : NULL, &action.result);
		if (action.result.effect != ELOQ_MERGE_KEEP)
			r = leaf_add_action(writer, &action);
	}
	return r;
}

/* --- Building pages --------------------------------------------------------------------------- */

static uint32_t leaf_page_length(const uint8_t *page)
{
	return eloq_get_u16(page + ELOQ_PAGE_LENGTH);
}

/* Two pages poured together and parted anew. */
struct leaf_even {
	struct eloq_data_builder left, right;
	uint32_t left_bytes; /* at which the right page begins */
	uint32_t separator_bytes;
	bool is_right;
};

/* Add all entries of @page. False: they do not fit, as prefixes are cut differently now. */
static bool leaf_pour(struct eloq_leaf_writer *writer, struct leaf_even *even, const uint8_t *page)
{
	struct eloq_data_builder *left = &even->left;
	struct eloq_data_iter iter;

	eloq_data_iter_init(&iter, page, writer->page_bytes, writer->iter_key);
	for (bool ok = eloq_data_iter_first(&iter); ok; ok = eloq_data_iter_next(&iter)) {
		if (!even->is_right && eloq_data_builder_bytes(left) < even->left_bytes &&
		    eloq_data_builder_add(left, &iter.entry))
			continue;
		if (!even->is_right) {
			even->is_right = true;
			even->separator_bytes =
				eloq_key_separator_bytes(left->key_buffer, left->key_bytes,
							 iter.entry.key, iter.entry.key_bytes);
			memcpy(writer->spare_separator, iter.entry.key, even->separator_bytes);
		}
		if (!eloq_data_builder_add(&even->right, &iter.entry))
			return false;
	}
	return even->is_right;
}

/*
 * The last page of a split came out nearly empty and the one before it, which the chain holds,
 * nearly full: share their entries. At the right end of the tree they stay as they are, so that
 * loading in key order leaves full pages behind.
 */
static void leaf_even_out(struct eloq_leaf_writer *writer)
{
	uint32_t left_bytes = leaf_page_length(writer->chain.page);
	uint32_t right_bytes = leaf_page_length(writer->page);
	uint32_t quarter = writer->page_bytes / 4;
	uint32_t interval = writer->write->data_restart_interval;
	struct leaf_even even = { .left_bytes = (left_bytes + right_bytes) / 2 };
	uint8_t *spare;

	if (writer->leaf.next == ELOQ_PAGE_NONE || right_bytes >= quarter ||
	    left_bytes <= writer->page_bytes - quarter)
		return;
	eloq_data_builder_init(&even.left, writer->spare[0], writer->page_bytes, interval,
			       eloq_data_page_prev(writer->chain.page), ELOQ_PAGE_NONE,
			       writer->spare_key);
	eloq_data_builder_init(&even.right, writer->spare[1], writer->page_bytes, interval,
			       ELOQ_PAGE_NONE, ELOQ_PAGE_NONE, writer->builder_key);
	if (!leaf_pour(writer, &even, writer->chain.page) ||
	    !leaf_pour(writer, &even, writer->page))
		return;
	eloq_data_builder_finish(&even.left);
	eloq_data_builder_finish(&even.right);
	spare = writer->chain.page;
	writer->chain.page = writer->spare[0];
	writer->spare[0] = spare;
	spare = writer->page;
	writer->page = writer->spare[1];
	writer->spare[1] = spare;
	spare = writer->separator;
	writer->separator = writer->spare_separator;
	writer->spare_separator = spare;
	writer->leaf.key = writer->separator;
	writer->leaf.key_bytes = even.separator_bytes;
}

/* Complete the page under construction: it gets its id and left link, and becomes the chain's. */
static int leaf_end_page_await(struct eloq_leaf_writer *writer, bool is_last)
{
	struct leaf_rebuild *leaf = &writer->leaf;
	struct leaf_chain *chain = &writer->chain;
	uint32_t page_id = leaf->page_id;
	int r;

	eloq_data_builder_finish(&writer->builder);
	leaf->is_building = false;
	if (is_last && leaf->pages > 0)
		leaf_even_out(writer);
	if (leaf->pages > 0 || page_id == ELOQ_PAGE_NONE) {
		r = eloq_change_alloc(writer->write->change, &page_id);
		if (r < 0)
			return r;
	}
	eloq_data_page_set_prev(writer->page, chain->is_open ? chain->left_id : leaf->prev);
	r = eloq_child_list_push(leaf->children, leaf->key, leaf->key_bytes, page_id);
	if (r < 0)
		return r;
	leaf->pages++;
	r = chain_move_await(writer, &writer->page, page_id, leaf->next);
	if (r < 0)
		return r;
	chain->old_id = leaf->page_id;
	chain->next_is_stale = page_id != leaf->page_id;
	if (++writer->pages_since_yield >= LEAF_YIELD_PAGES) {
		writer->pages_since_yield = 0;
		eloq_task_yield_await();
	}
	return 0;
}

static void leaf_begin_page(struct eloq_leaf_writer *writer)
{
	eloq_data_builder_init(&writer->builder, writer->page, writer->page_bytes,
			       writer->write->data_restart_interval, ELOQ_PAGE_NONE, ELOQ_PAGE_NONE,
			       writer->builder_key);
	writer->leaf.is_building = true;
}

/* Move the value of @entry to overflow pages; it stays in place as their ids. */
static int leaf_spill_await(struct eloq_leaf_writer *writer, struct eloq_entry *entry)
{
	const struct eloq_tree_write *write = writer->write;
	const struct eloq_value_writer value_writer = {
		.change = write->change,
		.pages = write->writer,
		.page_bytes = writer->page_bytes,
		.overflow_pointers = write->overflow_pointers,
		.page = writer->value_page,
	};
	uint32_t pointers_bytes = 0;
	int r;

	r = eloq_value_write_await(&value_writer, entry->value, entry->value_bytes,
				   writer->pointers, &pointers_bytes);
	if (r < 0)
		return r;
	entry->value = writer->pointers;
	entry->value_bytes = pointers_bytes;
	entry->flags |= ELOQ_ENTRY_OVERFLOW;
	return 0;
}

/* Append to the leaf, on a further page if need be. */
static int leaf_add_await(struct eloq_leaf_writer *writer, struct eloq_entry *entry)
{
	struct leaf_rebuild *leaf = &writer->leaf;
	uint32_t separator_bytes;
	int r;

	if (leaf->is_building) {
		if (eloq_data_builder_add(&writer->builder, entry))
			return 0;
		separator_bytes = eloq_key_separator_bytes(writer->builder.key_buffer,
							   writer->builder.key_bytes, entry->key,
							   entry->key_bytes);
		r = leaf_end_page_await(writer, false);
		if (r < 0)
			return r;
		memcpy(writer->separator, entry->key, separator_bytes);
		leaf->key = writer->separator;
		leaf->key_bytes = separator_bytes;
	}
	leaf_begin_page(writer);
	if (eloq_data_builder_add(&writer->builder, entry))
		return 0;
	/* An entry that another writer stored inline may have fitted only because its key shared
	 * a prefix with the one before it. */
	if (!(entry->flags & ELOQ_ENTRY_OVERFLOW) && entry->value_bytes > 0) {
		r = leaf_spill_await(writer, entry);
		if (r < 0)
			return r;
		if (eloq_data_builder_add(&writer->builder, entry))
			return 0;
	}
	return eloq_fail(writer->write->reterr, -ELOQ_ETOOLONG,
			 "%s: a key of %u bytes does not fit on a page", writer->view->dir->name,
			 entry->key_bytes);
}

static int leaf_put_await(struct eloq_leaf_writer *writer, const struct eloq_merge_result *result)
{
	const struct eloq_write_entry *put = result->put;
	struct eloq_entry entry = {
		.key = put->key,
		.key_bytes = put->key_bytes,
		.value = put->value,
		.value_bytes = put->value_bytes,
		.timestamp = result->timestamp,
		.expire_ms = put->expire_ms,
	};
	int r;

	if (!eloq_data_entry_fits_alone(writer->page_bytes, entry.key_bytes, entry.value_bytes,
					entry.timestamp, entry.expire_ms)) {
		r = leaf_spill_await(writer, &entry);
		if (r < 0)
			return r;
	}
	return leaf_add_await(writer, &entry);
}

/* The stored entry is replaced or removed: its overflow pages go away. */
static int leaf_drop_await(struct eloq_leaf_writer *writer, const struct eloq_entry *stored)
{
	struct eloq_value_ref ref;

	if (!(stored->flags & ELOQ_ENTRY_OVERFLOW))
		return 0;
	eloq_value_ref_set(&ref, stored);
	return eloq_value_free_await(writer->view, writer->write->change, &ref,
				     writer->write->reterr);
}

/* --- A leaf ----------------------------------------------------------------------------------- */

/* One action, @iter standing on the first stored entry whose key is not below the action's. */
static int leaf_act_await(struct eloq_leaf_writer *writer, const struct leaf_action *action,
			  struct eloq_data_iter *iter, bool *stored_left)
{
	const struct eloq_write_entry *first = action->first;
	int r = 0;

	if (*stored_left && eloq_key_compare(iter->entry.key, iter->entry.key_bytes, first->key,
					     first->key_bytes) == 0) {
		r = leaf_drop_await(writer, &iter->entry);
		if (r < 0)
			return r;
		*stored_left = eloq_data_iter_next(iter);
	}
	if (action->result.effect == ELOQ_MERGE_PUT)
		r = leaf_put_await(writer, &action->result);
	return r;
}

/* Merge the stored entries and the actions, both in key order. */
static int leaf_rebuild_await(struct eloq_leaf_writer *writer)
{
	struct eloq_data_iter iter;
	bool stored_left = false;
	size_t next = 0;
	int r = 0;

	if (writer->leaf.page_id != ELOQ_PAGE_NONE) {
		eloq_data_iter_init(&iter, writer->old_page, writer->page_bytes, writer->iter_key);
		stored_left = eloq_data_iter_first(&iter);
	}
	while (r == 0 && (stored_left || next < writer->action_count)) {
		const struct leaf_action *action = &writer->actions[next];

		if (next < writer->action_count &&
		    (!stored_left ||
		     eloq_key_compare(iter.entry.key, iter.entry.key_bytes, action->first->key,
				      action->first->key_bytes) >= 0)) {
			r = leaf_act_await(writer, action, &iter, &stored_left);
			next++;
		} else {
			struct eloq_entry entry = iter.entry;

			r = leaf_add_await(writer, &entry);
			stored_left = eloq_data_iter_next(&iter);
		}
	}
	if (r == 0 && writer->leaf.is_building)
		return leaf_end_page_await(writer, true);
	return r;
}

/* A chain that reached the leaf must be what the leaf names as its left neighbour. */
static int chain_check_link(struct eloq_leaf_writer *writer, const struct leaf_rebuild *leaf)
{
	const struct leaf_chain *chain = &writer->chain;
	uint32_t left_id = chain->next_is_stale ? chain->old_id : chain->left_id;

	if (!chain->is_open || leaf->prev == left_id)
		return 0;
	return eloq_tree_corrupt(writer->view, leaf->page_id, "has a wrong link to its left",
				 writer->write->reterr);
}

/* Nothing to do in this leaf, except perhaps for its left link. */
static int leaf_keep_await(struct eloq_leaf_writer *writer, uint32_t page_id)
{
	struct leaf_chain *chain = &writer->chain;

	if (!chain->is_open || !chain->next_is_stale)
		return 0;
	eloq_data_page_set_prev(writer->old_page, chain->left_id);
	return chain_move_await(writer, &writer->old_page, page_id,
				eloq_data_page_next(writer->old_page));
}

int eloq_leaf_writer_apply_await(struct eloq_leaf_writer *writer, uint32_t page_id, uint32_t from,
				 uint32_t to, const uint8_t *key, uint32_t key_bytes,
				 struct eloq_child_list *children, bool *children_changed,
				 bool *pages_changed)
{
	struct leaf_rebuild *leaf = &writer->leaf;
	int r;

	*leaf = (struct leaf_rebuild){
		.page_id = page_id,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.children = children,
		.key = key,
		.key_bytes = key_bytes,
	};
	if (page_id != ELOQ_PAGE_NONE) {
		r = chain_reach_await(writer, page_id);
		if (r == 0)
			r = leaf_copy_await(writer, page_id, writer->old_page);
		if (r < 0)
			return r;
		leaf->prev = eloq_data_page_prev(writer->old_page);
		leaf->next = eloq_data_page_next(writer->old_page);
		r = chain_check_link(writer, leaf);
		if (r < 0)
			return r;
	}
	r = leaf_resolve(writer, page_id, from, to);
	if (r < 0)
		return r;
	if (writer->action_count == 0 && page_id != ELOQ_PAGE_NONE) {
		r = eloq_child_list_push(children, key, key_bytes, page_id);
		return r < 0 ? r : leaf_keep_await(writer, page_id);
	}
	if (writer->action_count == 0)
		return 0;
	*pages_changed = true;
	r = leaf_rebuild_await(writer);
	if (r < 0)
		return r;
	*children_changed |= leaf->pages != 1 || page_id == ELOQ_PAGE_NONE;
	if (leaf->pages > 0)
		return 0;
	r = chain_skip_await(writer, leaf);
	return r < 0 ? r : eloq_change_free(writer->write->change, page_id);
}
