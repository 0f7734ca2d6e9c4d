/*
 * value.c - reading, writing and freeing overflow values. See value.h.
 */
#include "daemon/store/value.h"

#include "daemon/format/overflow_page.h"

#include <errno.h>
#include <stdlib.h>

enum {
	VALUE_WINDOW_PAGES = 32, /* read at a time */
	VALUE_CACHED_PAGES = 8,	 /* values of one group up to this are kept in the cache */
};

void eloq_value_ref_set(struct eloq_value_ref *ref, const struct eloq_entry *entry)
{
	uint32_t count = eloq_entry_pointer_count(entry);

	ref->count = count <= ELOQ_OVERFLOW_POINTERS_MAX ? count : 0;
	for (uint32_t i = 0; i < ref->count; i++)
		ref->ids[i] = eloq_entry_pointer(entry, i);
}

static void value_ref_follow(struct eloq_value_ref *ref, const struct eloq_overflow_view *page)
{
	ref->count = page->pointer_count;
	for (uint32_t i = 0; i < ref->count; i++)
		ref->ids[i] = eloq_overflow_pointer(page, i);
}

/* --- Places for long reads ---------------------------------------------------------------------
 */

void eloq_value_places_init(struct eloq_value_places *places)
{
	places->taken = 0;
	eloq_waitq_init(&places->waiting);
}

static void value_place_await(struct eloq_value_places *places)
{
	if (places->taken < ELOQ_LONG_READS_MAX)
		places->taken++;
	else
		eloq_waitq_await(&places->waiting); /* and then it is handed over */
}

static void value_place_leave(struct eloq_value_places *places)
{
	eloq_assert(places->taken > 0);
	if (eloq_waitq_empty(&places->waiting))
		places->taken--;
	else
		eloq_waitq_wake_one(&places->waiting);
}

void eloq_value_copy_free(struct eloq_value_places *places, struct eloq_value_copy *copy)
{
	free(copy->data);
	if (copy->has_place)
		value_place_leave(places);
	*copy = (struct eloq_value_copy){ 0 };
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* Pages of the window that lie behind each other on disk are one request. */
struct value_slot {
	uint32_t page_id;
	uint64_t file_page_id;
	bool from_disk;
};

struct value_read {
	const struct eloq_tree_view *view;
	struct eloq_errinfo *reterr;
	struct eloq_value_ref group; /* being read */
	struct eloq_value_copy value;
	size_t value_capacity;
	uint32_t pages; /* read so far */
	bool cached;	/* put what comes from disk into the cache */
	uint8_t *window;
	uint32_t window_pages;
	struct value_slot slots[VALUE_WINDOW_PAGES];
	struct eloq_io_group_req requests[VALUE_WINDOW_PAGES];
	struct eloq_io_group io;
	struct eloq_file *file; /* pinned while requests on it are in flight */
	uint64_t file_id;
};

/* Makes room for @bytes more. The first group says how much that is, unless others follow. */
static int value_reserve_await(struct value_read *read, size_t bytes)
{
	size_t wanted = read->value.bytes + bytes;
	uint8_t *data;

	if (wanted > ELOQ_VALUE_BYTES_MAX)
		return eloq_fail(read->reterr, -ELOQ_ETOOLONG,
				 "%s: a stored value is longer than %u bytes",
				 read->view->dir->name, ELOQ_VALUE_BYTES_MAX);
	if (wanted <= read->value_capacity)
		return 0;
	if (wanted > ELOQ_SHORT_VALUE_BYTES_MAX && !read->value.has_place) {
		value_place_await(read->view->places);
		read->value.has_place = true;
	}
	if (read->value.has_place && read->value_capacity > 0)
		wanted = eloq_max_u64(wanted,
				      eloq_min_u64(read->value_capacity * 2, ELOQ_VALUE_BYTES_MAX));
	data = realloc(read->value.data, wanted);
	if (!data)
		return -ENOMEM;
	read->value.data = data;
	read->value_capacity = wanted;
	return 0;
}

static int value_file_await(struct value_read *read, uint64_t file_id, uint32_t page_id)
{
	const struct eloq_tree_view *view = read->view;
	uint64_t term;
	bool known;
	int r;

	if (read->file && read->file_id == file_id)
		return 0;
	/* One file is pinned at a time: readers must not block each other at the file limit. */
	r = eloq_io_group_await(&read->io, 0);
	if (read->file)
		eloq_files_release(view->files, read->file);
	read->file = NULL;
	if (r < 0)
		return r;
	term = eloq_manifest_term(view->manifest, file_id, &known);
	if (!known)
		return eloq_tree_corrupt(view, page_id,
					 "lies in a file that the manifest does not name",
					 read->reterr);
	r = eloq_files_acquire_await(view->files, view->dir, file_id, term, false, &read->file);
	if (r < 0) {
		read->file = NULL;
		if (r == -ELOQ_ECORRUPT)
			return eloq_tree_corrupt(view, page_id, "lies in a file that is missing",
						 read->reterr);
		return r;
	}
	read->file_id = file_id;
	return 0;
}

/* Start reading slots [from, to), neighbours on disk in one file. */
static int value_submit_await(struct value_read *read, uint32_t from, uint32_t to)
{
	const struct eloq_tree_view *view = read->view;
	uint64_t file_page_id = read->slots[from].file_page_id;
	uint64_t file_id = file_page_id >> view->pages_per_file_shift;
	struct eloq_io_group_req *request = &read->requests[from];
	int r;

	r = value_file_await(read, file_id, read->slots[from].page_id);
	if (r < 0)
		return r;
	memset(request, 0, sizeof(*request));
	request->req.op = ELOQ_IO_READ;
	request->req.file = eloq_file_io(read->file);
	request->req.buf = read->window + (size_t)from * view->page_bytes;
	request->req.bytes = (to - from) * view->page_bytes;
	request->req.offset =
		(file_page_id - (file_id << view->pages_per_file_shift)) * view->page_bytes;
	eloq_io_group_submit(&read->io, request);
	return 0;
}

static bool value_slots_adjoin(const struct value_read *read, uint32_t left)
{
	const struct value_slot *a = &read->slots[left];
	const struct value_slot *b = a + 1;
	unsigned shift = read->view->pages_per_file_shift;

	return b->from_disk && b->file_page_id == a->file_page_id + 1 &&
	       b->file_page_id >> shift == a->file_page_id >> shift;
}

/* Take from the cache what is there, and the file page of what is not. */
static int value_fill_slots(struct value_read *read, const uint32_t *ids, uint32_t count)
{
	const struct eloq_tree_view *view = read->view;
	struct eloq_page *page;

	for (uint32_t i = 0; i < count; i++) {
		struct value_slot *slot = &read->slots[i];
		uint32_t page_ids = eloq_mapping_page_ids(view->mapping);

		slot->page_id = ids[i];
		slot->file_page_id = ids[i] < page_ids ? eloq_mapping_get(view->mapping, ids[i])
						       : ELOQ_FILE_PAGE_NONE;
		if (slot->file_page_id == ELOQ_FILE_PAGE_NONE)
			return eloq_fail(read->reterr, -ELOQ_ECORRUPT,
					 "%s: a value refers to page %u, which is not mapped",
					 view->dir->name, ids[i]);
		page = eloq_cache_find(view->cache, view->dir->no, slot->file_page_id,
				       ELOQ_PAGE_SCAN);
		slot->from_disk = !page;
		if (page) {
			memcpy(read->window + (size_t)i * view->page_bytes, eloq_page_bytes(page),
			       view->page_bytes);
			eloq_cache_unpin(view->cache, page);
		}
	}
	return 0;
}

/* Checks what came from disk and appends the pages' bytes to the value. */
static int value_take_slots_await(struct value_read *read, uint32_t count,
				  struct eloq_overflow_view *ret_last)
{
	const struct eloq_tree_view *view = read->view;
	int r;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *page = read->window + (size_t)i * view->page_bytes;
		const struct value_slot *slot = &read->slots[i];

		if (slot->from_disk && view->verify_checksums &&
		    !eloq_page_verify(page, view->page_bytes))
			return eloq_tree_corrupt(view, slot->page_id, "has a wrong checksum",
						 read->reterr);
		if (eloq_page_type(page) != ELOQ_PAGE_OVERFLOW ||
		    !eloq_overflow_page_check(page, view->page_bytes))
			return eloq_tree_corrupt(view, slot->page_id,
						 "should be an overflow page and is none",
						 read->reterr);
		if (slot->from_disk && read->cached)
			eloq_cache_insert(view->cache, view->dir->no, slot->file_page_id, page);
		eloq_overflow_page_decode(page, view->page_bytes, ret_last);
		r = value_reserve_await(read, ret_last->value_bytes);
		if (r < 0)
			return r;
		memcpy(read->value.data + read->value.bytes, ret_last->value,
		       ret_last->value_bytes);
		read->value.bytes += ret_last->value_bytes;
	}
	return 0;
}

/* A part of the group: all of it in flight together. *ret_last: its last page, in the window. */
static int value_read_window_await(struct value_read *read, const uint32_t *ids, uint32_t count,
				   struct eloq_overflow_view *ret_last)
{
	uint32_t from, to;
	int r, waited;

	r = value_fill_slots(read, ids, count);
	for (from = 0; from < count && r == 0; from = to) {
		to = from + 1;
		if (!read->slots[from].from_disk)
			continue;
		while (to < count && value_slots_adjoin(read, to - 1))
			to++;
		r = value_submit_await(read, from, to);
		for (uint32_t i = from + 1; i < to; i++)
			read->requests[i].req.bytes = 0;
		if (r < 0)
			break;
	}
	waited = eloq_io_group_await(&read->io, 0);
	if (read->file)
		eloq_files_release(read->view->files, read->file);
	read->file = NULL;
	if (r == 0 && waited < 0)
		r = eloq_fail_errno(read->reterr, waited, "%s: reading a value",
				    read->view->dir->name);
	for (uint32_t i = 0; i < count && r == 0; i++)
		if (read->slots[i].from_disk && read->requests[i].req.bytes > 0 &&
		    read->requests[i].req.result != (int64_t)read->requests[i].req.bytes)
			r = eloq_tree_corrupt(read->view, ids[i], "lies behind the end of its file",
					      read->reterr);
	return r < 0 ? r : value_take_slots_await(read, count, ret_last);
}

static int value_read_groups_await(struct value_read *read)
{
	uint32_t pages_max = eloq_mapping_page_ids(read->view->mapping);
	struct eloq_overflow_view last;
	int r;

	while (read->group.count > 0) {
		for (uint32_t from = 0; from < read->group.count; from += read->window_pages) {
			uint32_t count = (uint32_t)eloq_min_u64(read->group.count - from,
								read->window_pages);

			read->pages += count;
			if (read->pages > pages_max)
				return eloq_tree_corrupt(read->view, read->group.ids[from],
							 "is part of a value that has no end",
							 read->reterr);
			r = value_read_window_await(read, &read->group.ids[from], count, &last);
			if (r < 0)
				return r;
		}
		value_ref_follow(&read->group, &last);
	}
	return 0;
}

int eloq_value_read_await(const struct eloq_tree_view *view, const struct eloq_value_ref *ref,
			  struct eloq_value_copy *ret_copy, struct eloq_errinfo *reterr)
{
	struct value_read *read;
	int r;

	if (ref->count == 0)
		return eloq_fail(reterr, -ELOQ_ECORRUPT, "%s: an overflow value without pages",
				 view->dir->name);
	read = calloc(1, sizeof(*read));
	if (!read)
		return -ENOMEM;
	read->view = view;
	read->reterr = reterr;
	read->group = *ref;
	read->cached = ref->count <= VALUE_CACHED_PAGES;
	read->window_pages = (uint32_t)eloq_min_u64(ref->count, VALUE_WINDOW_PAGES);
	eloq_io_group_init(&read->io, view->io);
	/* The window comes second: it is long where the value is, and must wait like it. */
	r = value_reserve_await(read,
				(size_t)ref->count * eloq_overflow_capacity(view->page_bytes));
	if (r < 0)
		goto out;
	read->window = aligned_alloc(ELOQ_IO_ALIGN, (size_t)read->window_pages * view->page_bytes);
	r = read->window ? value_read_groups_await(read) : -ENOMEM;
	if (r < 0)
		goto out;
	*ret_copy = read->value;
	read->value = (struct eloq_value_copy){ 0 };
out:
	eloq_value_copy_free(view->places, &read->value);
	free(read->window);
	free(read);
	return r;
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* Encodes one page and hands it over. */
static int value_put_await(const struct eloq_value_writer *writer, uint32_t page_id,
			   const uint8_t *value, uint32_t bytes, const uint32_t *pointers,
			   uint32_t pointer_count)
{
	eloq_overflow_page_encode(writer->page, writer->page_bytes, value, bytes, pointers,
				  pointer_count);
	return eloq_page_writer_put_await(writer->pages, page_id, writer->page);
}

/* The page that names the next group waits for that group's ids; its bytes stay with the caller. */
struct value_held {
	bool is_set;
	uint32_t page_id;
	uint32_t bytes;
	size_t offset;
};

int eloq_value_write_await(const struct eloq_value_writer *writer, const uint8_t *value,
			   uint32_t bytes, uint8_t ret_pointers[4 * ELOQ_OVERFLOW_POINTERS_MAX],
			   uint32_t *ret_bytes)
{
	uint32_t ids[ELOQ_OVERFLOW_POINTERS_MAX];
	struct eloq_overflow_plan plan;
	struct value_held held = { 0 };
	size_t offset = 0;
	uint32_t pages;
	int r = 0;

	eloq_assert(bytes > 0);
	eloq_overflow_plan_init(&plan, bytes, writer->page_bytes, writer->overflow_pointers);
	while ((pages = eloq_overflow_plan_group(&plan)) > 0) {
		for (uint32_t i = 0; i < pages && r == 0; i++)
			r = eloq_change_alloc(writer->change, &ids[i]);
		if (r == 0 && held.is_set)
			r = value_put_await(writer, held.page_id, value + held.offset, held.bytes,
					    ids, pages);
		if (r < 0)
			return r;
		if (!held.is_set) {
			for (uint32_t i = 0; i < pages; i++)
				eloq_put_u32(ret_pointers + (size_t)4 * i, ids[i]);
			*ret_bytes = 4 * pages;
		}
		for (uint32_t i = 0; i < pages; i++) {
			bool linked;
			uint32_t part = eloq_overflow_plan_page(&plan, &linked);

			if (linked)
				held = (struct value_held){ true, ids[i], part, offset };
			else
				r = value_put_await(writer, ids[i], value + offset, part, NULL, 0);
			if (r < 0)
				return r;
			offset += part;
		}
	}
	eloq_assert(offset == bytes);
	return 0;
}

/* --- Freeing ---------------------------------------------------------------------------------- */

static int value_free_page(const struct eloq_tree_view *view, struct eloq_change *change,
			   uint32_t page_id, struct eloq_errinfo *reterr)
{
	if (page_id >= eloq_mapping_page_ids(view->mapping) ||
	    eloq_change_get(change, page_id) == ELOQ_FILE_PAGE_NONE)
		return eloq_fail(reterr, -ELOQ_ECORRUPT,
				 "%s: overflow page %u belongs to more than one value",
				 view->dir->name, page_id);
	return eloq_change_free(change, page_id);
}

int eloq_value_free_await(const struct eloq_tree_view *view, struct eloq_change *change,
			  const struct eloq_value_ref *ref, struct eloq_errinfo *reterr)
{
	struct eloq_value_ref group = *ref;
	struct eloq_overflow_view last;
	struct eloq_page *page;
	uint32_t last_id;
	int r;

	while (group.count > 0) {
		for (uint32_t i = 0; i < group.count; i++) {
			r = value_free_page(view, change, group.ids[i], reterr);
			if (r < 0)
				return r;
		}
		last_id = group.ids[group.count - 1];
		r = eloq_tree_page_await(view, last_id, ELOQ_PAGE_SCAN, &page, reterr);
		if (r < 0)
			return r;
		if (eloq_page_type(eloq_page_bytes(page)) != ELOQ_PAGE_OVERFLOW) {
			eloq_cache_unpin(view->cache, page);
			return eloq_tree_corrupt(view, last_id,
						 "should be an overflow page and is none", reterr);
		}
		eloq_overflow_page_decode(eloq_page_bytes(page), view->page_bytes, &last);
		value_ref_follow(&group, &last);
		eloq_cache_unpin(view->cache, page);
	}
	return 0;
}
