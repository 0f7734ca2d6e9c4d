/*
 * cursor.c - scans. See cursor.h.
 */
#include "daemon/store/cursor.h"

#include "daemon/format/index_page.h"
#include "daemon/store/value.h"

#include <errno.h>
#include <stdlib.h>

enum {
	CURSOR_AHEAD_MAX = 8, /* leaves being read for one cursor at a time */
	CURSORS_AHEAD_MAX =
		32, /* and for all together: each takes a task, which others need more */
	CURSOR_YIELD_LEAVES = 8 /* in a row before others may run */
};

/* An index page on the path: those of its children that are still to be visited. */
struct cursor_level {
	uint32_t *children;
	uint32_t count, capacity;
	uint32_t next;
	uint32_t ahead; /* the first child that was not read ahead */
	bool of_leaves;
};

struct cursor {
	struct eloq_partition *partition;
	const struct eloq_scan *scan;
	struct eloq_errinfo *reterr;
	struct eloq_tree_view view;
	struct cursor_level levels[ELOQ_TREE_DEPTH_MAX];
	unsigned depth;	      /* levels in use */
	bool is_seeking;      /* on the way down to scan->begin */
	uint32_t ahead_max;   /* leaves to read ahead now */
	uint64_t leaves_read; /* so far */
	uint64_t taken;	      /* entries passed on */
	uint8_t *leaf;
	uint8_t *key_buffer;
};

/* --- Reading ahead ---------------------------------------------------------------------------- */

struct cursor_ahead {
	struct eloq_partition *partition;
	struct eloq_tree_view view;
	uint32_t page_id;
};

static void cursor_ahead_task(void *arg)
{
	struct cursor_ahead *ahead = arg;
	struct eloq_page *page;

	/* An error is found again, and told, by the cursor itself. */
	if (eloq_tree_page_await(&ahead->view, ahead->page_id, ELOQ_PAGE_SCAN, &page, NULL) == 0)
		eloq_cache_unpin(ahead->view.cache, page);
	eloq_partition_view_release(&ahead->view);
	ahead->partition->engine->pages_ahead--;
	eloq_partition_leave(ahead->partition);
	free(ahead);
}

/* Have a page read by a task of its own, unless it is there; only a help, so failing is fine. */
static void cursor_read_ahead(struct cursor *cursor, uint32_t page_id)
{
	struct eloq_engine *engine = cursor->partition->engine;
	struct cursor_ahead *ahead;
	struct eloq_page *page;

	if (engine->pages_ahead >= CURSORS_AHEAD_MAX)
		return;
	if (eloq_tree_page(&cursor->view, page_id, ELOQ_PAGE_SCAN, &page) == 0) {
		eloq_cache_unpin(cursor->view.cache, page);
		return;
	}
	ahead = malloc(sizeof(*ahead));
	if (!ahead)
		return;
	ahead->partition = cursor->partition;
	ahead->page_id = page_id;
	ahead->view = cursor->view;
	if (eloq_task_start(engine->sched, cursor_ahead_task, ahead) < 0) {
		free(ahead);
		return;
	}
	engine->pages_ahead++;
	(void)eloq_mapping_ref(ahead->view.mapping);
	cursor->partition->users++;
}

static void cursor_look_ahead(struct cursor *cursor, struct cursor_level *level)
{
	uint64_t end = eloq_min_u64((uint64_t)level->next + cursor->ahead_max, level->count);

	if (level->ahead < level->next)
		level->ahead = level->next;
	for (; level->ahead < end; level->ahead++)
		cursor_read_ahead(cursor, level->children[level->ahead]);
	cursor->ahead_max =
		(uint32_t)eloq_min_u64((uint64_t)cursor->ahead_max * 2 + 1, CURSOR_AHEAD_MAX);
}

/* --- Walking down ----------------------------------------------------------------------------- */

static int cursor_level_add(struct cursor_level *level, uint32_t child)
{
	if (level->count == level->capacity) {
		uint32_t capacity = level->capacity > 0 ? level->capacity * 2 : 256;
		uint32_t *children = realloc(level->children, capacity * sizeof(*children));

		if (!children)
			return -ENOMEM;
		level->children = children;
		level->capacity = capacity;
	}
	level->children[level->count++] = child;
	return 0;
}

static bool cursor_key_is_at_end(const struct eloq_scan *scan, const uint8_t *key,
				 uint32_t key_bytes)
{
	return scan->end_bytes > 0 &&
	       eloq_key_compare(key, key_bytes, scan->end, scan->end_bytes) >= 0;
}

/* List the children of an index page that the scan will visit. */
static int cursor_level_fill(struct cursor *cursor, struct cursor_level *level, const uint8_t *page)
{
	const struct eloq_scan *scan = cursor->scan;
	struct eloq_index_iter iter;
	bool ok;
	int r = 0;

	level->count = 0;
	level->next = 0;
	level->ahead = 0;
	level->of_leaves = eloq_index_page_is_leaf(page);
	eloq_index_iter_init(&iter, page, cursor->view.page_bytes, cursor->key_buffer);
	if (cursor->is_seeking && scan->begin_bytes > 0)
		ok = eloq_index_iter_seek(&iter, scan->begin, scan->begin_bytes);
	else
		ok = eloq_index_iter_first(&iter);
	for (; ok && r == 0; ok = eloq_index_iter_next(&iter)) {
		/* The first child may hold smaller keys, all others start at their separator. */
		if (level->count > 0 && cursor_key_is_at_end(scan, iter.key, iter.key_bytes))
			break;
		r = cursor_level_add(level, iter.child);
	}
	return r;
}

static int cursor_push_await(struct cursor *cursor, uint32_t page_id)
{
	enum eloq_tree_place place = cursor->depth == 0 ? ELOQ_TREE_ROOT : ELOQ_TREE_BELOW_INNER;
	const struct eloq_tree_view *view = &cursor->view;
	struct eloq_page *page;
	int r;

	r = eloq_tree_page_await(view, page_id, ELOQ_PAGE_POINT, &page, cursor->reterr);
	if (r < 0)
		return r;
	r = eloq_tree_check_place(view, page_id, eloq_page_bytes(page), place, cursor->depth,
				  cursor->reterr);
	if (r == 0)
		r = cursor_level_fill(cursor, &cursor->levels[cursor->depth],
				      eloq_page_bytes(page));
	eloq_cache_unpin(view->cache, page);
	if (r == 0)
		cursor->depth++;
	return r;
}

/* Copy the next leaf to cursor->leaf. 1: there is one; 0: the range is at its end. */
static int cursor_next_leaf_await(struct cursor *cursor)
{
	int r;

	while (cursor->depth > 0) {
		struct cursor_level *level = &cursor->levels[cursor->depth - 1];
		uint32_t child;

		if (level->next == level->count) {
			cursor->depth--;
			continue;
		}
		child = level->children[level->next++];
		if (!level->of_leaves) {
			r = cursor_push_await(cursor, child);
			if (r < 0)
				return r;
			continue;
		}
		if (cursor->leaves_read > 0)
			cursor_look_ahead(cursor, level);
		if (++cursor->leaves_read % CURSOR_YIELD_LEAVES == 0)
			eloq_task_yield_await();
		r = eloq_tree_copy_await(&cursor->view, child, ELOQ_PAGE_SCAN, cursor->leaf,
					 cursor->reterr);
		if (r == 0)
			r = eloq_tree_check_place(&cursor->view, child, cursor->leaf,
						  ELOQ_TREE_BELOW_INDEX_LEAF, cursor->depth,
						  cursor->reterr);
		return r < 0 ? r : 1;
	}
	return 0;
}

/* --- Entries ---------------------------------------------------------------------------------- */

/* Hand one entry, with its value, to the caller. What the caller says, or an error. */
static int cursor_pass_await(struct cursor *cursor, const struct eloq_entry *entry)
{
	const struct eloq_scan *scan = cursor->scan;
	struct eloq_scan_entry out = {
		.key = entry->key,
		.key_bytes = entry->key_bytes,
		.timestamp = entry->timestamp,
		.expire_ms = entry->expire_ms,
	};
	struct eloq_value_ref ref;
	struct eloq_value_copy copy = { 0 };
	int r;

	if (!scan->keys_only) {
		if (entry->flags & ELOQ_ENTRY_COMPRESSION)
			return eloq_fail(
				cursor->reterr, -ELOQ_EUNSUPPORTED,
				"%s: a value is compressed, which this version does not read",
				cursor->partition->dir.name);
		out.value = entry->value;
		out.value_bytes = entry->value_bytes;
	}
	if (!scan->keys_only && entry->flags & ELOQ_ENTRY_OVERFLOW) {
		eloq_value_ref_set(&ref, entry);
		r = eloq_value_read_await(&cursor->view, &ref, &copy, cursor->reterr);
		if (r < 0)
			return r;
		out.value = copy.data;
		out.value_bytes = copy.bytes;
	}
	r = scan->each(scan->arg, &out);
	eloq_value_copy_free(cursor->view.places, &copy);
	return r;
}

static bool cursor_skips(const struct cursor *cursor, const struct eloq_entry *entry)
{
	const struct eloq_scan *scan = cursor->scan;

	if (entry->expire_ms != 0 && entry->expire_ms <= scan->now_ms)
		return true;
	return scan->begin_exclusive && scan->begin_bytes > 0 &&
	       eloq_key_compare(entry->key, entry->key_bytes, scan->begin, scan->begin_bytes) == 0;
}

/* The entries of cursor->leaf. 0: all passed, go on; 1: the scan has ended. */
static int cursor_scan_leaf_await(struct cursor *cursor, bool *ret_more)
{
	const struct eloq_scan *scan = cursor->scan;
	struct eloq_data_iter iter;
	bool ok;
	int r;

	eloq_data_iter_init(&iter, cursor->leaf, cursor->view.page_bytes, cursor->key_buffer);
	if (cursor->is_seeking && scan->begin_bytes > 0)
		ok = eloq_data_iter_seek(&iter, scan->begin, scan->begin_bytes);
	else
		ok = eloq_data_iter_first(&iter);
	cursor->is_seeking = false;
	for (; ok; ok = eloq_data_iter_next(&iter)) {
		if (cursor_key_is_at_end(scan, iter.entry.key, iter.entry.key_bytes))
			return 1;
		if (cursor_skips(cursor, &iter.entry))
			continue;
		*ret_more = scan->entries_max > 0 && cursor->taken == scan->entries_max;
		if (*ret_more)
			return 1;
		r = cursor_pass_await(cursor, &iter.entry);
		*ret_more = r == 1;
		if (r != 0)
			return r;
		cursor->taken++;
	}
	return 0;
}

static int cursor_scan_await(struct cursor *cursor, bool *ret_more)
{
	uint32_t root = eloq_mapping_roots(cursor->view.mapping).main;
	int r;

	*ret_more = false;
	if (root == ELOQ_PAGE_NONE)
		return 0;
	r = cursor_push_await(cursor, root);
	if (r < 0)
		return r;
	while ((r = cursor_next_leaf_await(cursor)) > 0) {
		r = cursor_scan_leaf_await(cursor, ret_more);
		if (r != 0)
			break;
	}
	return r < 0 ? r : 0;
}

int eloq_cursor_scan_await(struct eloq_partition *partition, const struct eloq_scan *scan,
			   bool *ret_more, struct eloq_errinfo *reterr)
{
	struct cursor *cursor = calloc(1, sizeof(*cursor));
	int r = -ENOMEM;

	if (!cursor)
		return -ENOMEM;
	cursor->partition = partition;
	cursor->scan = scan;
	cursor->reterr = reterr;
	cursor->is_seeking = true;
	cursor->leaf = malloc(partition->engine->opts.page_bytes);
	cursor->key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	if (cursor->leaf && cursor->key_buffer) {
		eloq_partition_view(partition, &cursor->view);
		r = cursor_scan_await(cursor, ret_more);
		eloq_partition_view_release(&cursor->view);
	}
	for (unsigned i = 0; i < ELOQ_TREE_DEPTH_MAX; i++)
		free(cursor->levels[i].children);
	free(cursor->key_buffer);
	free(cursor->leaf);
	free(cursor);
	return r;
}
