/*
 * change.c - the open change of a mapper, from its begin to commit or abort (mapper.h, mapping.h).
 *
 * Idea: the change works on a version of its own, which shares all chunks with the base until it
 * writes to one. So what it changed is what differs from the base, chunk by chunk, and the lists
 * beside it only say who gets which file page back in the end.
 *
 * Always:   a file page of the base that the change unmaps stays untouched until the commit; one
 *           that the change was given and gave up is not given out again before the change ends.
 * Fails by: -ENOMEM, -ENOSPC from the step that needs something, which then has changed nothing.
 */
#include "common/compiler.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/mapping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Lists ------------------------------------------------------------------------------------ */

static int number_list_reserve(struct number_list *list)
{
	size_t capacity;
	uint64_t *items;

	if (list->count < list->capacity)
		return 0;
	capacity = list->capacity ? list->capacity * 2 : 16;
	items = reallocarray(list->items, capacity, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	list->capacity = capacity;
	return 0;
}

static void number_list_push(struct number_list *list, uint64_t number)
{
	eloq_assert(list->count < list->capacity);
	list->items[list->count++] = number;
}

static int chunk_list_reserve(struct chunk_list *list)
{
	size_t capacity;
	struct mapping_chunk **items;

	if (list->count < list->capacity)
		return 0;
	capacity = list->capacity ? list->capacity * 2 : 16;
	items = reallocarray(list->items, capacity, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	list->capacity = capacity;
	return 0;
}

/* --- Changing --------------------------------------------------------------------------------- */

int eloq_change_begin(struct eloq_change **ret_change, struct eloq_mapper *mapper)
{
	struct eloq_change *change;
	int r;

	eloq_assert(!mapper->change);
	change = calloc(1, sizeof(*change));
	if (!change)
		return -ENOMEM;
	change->mapper = mapper;
	change->base = mapper->current;
	change->file_pages_end = mapper->file_pages_end;
	change->live_pages = mapper->live_pages;
	change->next = eloq_mapping_new(mapper);
	r = change->next ? eloq_mapping_extend(change->next, change->base->page_ids) : -ENOMEM;
	if (r < 0) {
		if (change->next)
			eloq_mapping_free(change->next);
		free(change);
		return r;
	}
	if (change->base->chunk_count > 0)
		memcpy(change->next->chunks, change->base->chunks,
		       change->base->chunk_count * sizeof(*change->base->chunks));
	change->next->roots = change->base->roots;
	mapper->change = change;
	*ret_change = change;
	return 0;
}

/* Makes the chunk at @index the change's own. */
static int change_own_chunk(struct eloq_change *change, uint32_t index)
{
	struct mapping_chunk *shared = eloq_mapping_chunk_at(change->base, index), *copy;
	int r;

	if (change->next->chunks[index] != shared)
		return 0;
	r = chunk_list_reserve(&change->old_chunks);
	if (r < 0)
		return r;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *shared;
	if (shared != &eloq_mapping_chunk_empty)
		change->old_chunks.items[change->old_chunks.count++] = shared;
	change->next->chunks[index] = copy;
	return 0;
}

int eloq_change_alloc(struct eloq_change *change, uint32_t *ret_page_id)
{
	struct eloq_mapper *mapper = change->mapper;
	uint64_t page_id = change->next->page_ids;
	int r;

	r = number_list_reserve(&change->new_page_ids);
	if (r < 0)
		return r;
	if (!eloq_page_set_take(&mapper->free_page_ids, &page_id)) {
		if (page_id > ELOQ_PAGE_ID_MAX)
			return -ENOSPC;
		r = eloq_page_set_reserve(&mapper->free_page_ids, page_id + 1);
		if (r < 0)
			return r;
		r = eloq_mapping_extend(change->next, (uint32_t)page_id + 1);
		if (r < 0)
			return r;
	}
	number_list_push(&change->new_page_ids, page_id);
	*ret_page_id = (uint32_t)page_id;
	return 0;
}

/* A file page that no version and no earlier step of the change uses. */
static int change_take_file_page(struct eloq_change *change, uint64_t *ret_file_page)
{
	struct eloq_mapper *mapper = change->mapper;
	uint64_t file_page = change->file_pages_end;
	int r;

	r = number_list_reserve(&change->taken);
	if (r < 0)
		return r;
	if (!eloq_page_set_take(&mapper->free_file_pages, &file_page)) {
		if (mapper->append_mode) {
			if (file_page > ELOQ_FILE_PAGE_ID_MAX)
				return -ENOSPC;
		} else {
			if (file_page >= IN_PLACE_FILE_PAGES_MAX)
				return -ENOSPC;
			r = eloq_page_set_reserve(&mapper->free_file_pages, file_page + 1);
			if (r < 0)
				return r;
		}
		change->file_pages_end = file_page + 1;
	}
	number_list_push(&change->taken, file_page);
	*ret_file_page = file_page;
	return 0;
}

/* Everything that change_set() for this page may need. */
static int change_prepare_set(struct eloq_change *change, uint32_t page_id)
{
	int r;

	r = change_own_chunk(change, page_id / MAPPING_CHUNK_ENTRIES);
	if (r == 0)
		r = number_list_reserve(&change->given_back);
	if (r == 0)
		r = number_list_reserve(&change->old_file_pages);
	return r;
}

static void change_set(struct eloq_change *change, uint32_t page_id, uint64_t file_page)
{
	struct mapping_chunk *chunk = change->next->chunks[page_id / MAPPING_CHUNK_ENTRIES];
	uint64_t *entry = &chunk->file_pages[page_id % MAPPING_CHUNK_ENTRIES];
	uint64_t base = eloq_mapping_get(change->base, page_id);

	if (*entry != ELOQ_FILE_PAGE_NONE) {
		struct number_list *list =
			*entry == base ? &change->old_file_pages : &change->given_back;

		number_list_push(list, *entry);
		change->live_pages--;
	}
	if (file_page != ELOQ_FILE_PAGE_NONE)
		change->live_pages++;
	change->update_count -= (size_t)(*entry != base);
	change->update_count += (size_t)(file_page != base);
	*entry = file_page;
}

int eloq_change_place(struct eloq_change *change, uint32_t page_id, uint64_t *ret_file_page_id)
{
	uint64_t file_page;
	int r;

	eloq_assert(page_id < change->next->page_ids);
	r = change_prepare_set(change, page_id);
	if (r < 0)
		return r;
	r = change_take_file_page(change, &file_page);
	if (r < 0)
		return r;
	change_set(change, page_id, file_page);
	*ret_file_page_id = file_page;
	return 0;
}

int eloq_change_free(struct eloq_change *change, uint32_t page_id)
{
	int r;

	eloq_assert(page_id < change->next->page_ids);
	if (eloq_mapping_get(change->next, page_id) == ELOQ_FILE_PAGE_NONE)
		return 0;
	r = change_prepare_set(change, page_id);
	if (r < 0)
		return r;
	change_set(change, page_id, ELOQ_FILE_PAGE_NONE);
	return 0;
}

int eloq_change_free_all(struct eloq_change *change)
{
	for (uint32_t page_id = 0; page_id < change->next->page_ids; page_id++) {
		int r = eloq_change_free(change, page_id);

		if (r < 0)
			return r;
	}
	return 0;
}

void eloq_change_set_roots(struct eloq_change *change, struct eloq_roots roots)
{
	change->next->roots = roots;
}

struct eloq_roots eloq_change_roots(const struct eloq_change *change)
{
	return change->next->roots;
}

uint64_t eloq_change_get(const struct eloq_change *change, uint32_t page_id)
{
	return eloq_mapping_get(change->next, page_id);
}

size_t eloq_change_updates(const struct eloq_change *change)
{
	return change->update_count;
}

int eloq_change_each_update(const struct eloq_change *change,
			    int (*each)(void *arg, uint32_t page_id, uint64_t file_page_id),
			    void *arg)
{
	for (uint32_t index = 0; index < change->next->chunk_count; index++) {
		const struct mapping_chunk *now = change->next->chunks[index];
		const struct mapping_chunk *base = eloq_mapping_chunk_at(change->base, index);

		for (uint32_t i = 0; now != base && i < MAPPING_CHUNK_ENTRIES; i++) {
			int r;

			if (now->file_pages[i] == base->file_pages[i])
				continue;
			r = each(arg, index * MAPPING_CHUNK_ENTRIES + i, now->file_pages[i]);
			if (r != 0)
				return r;
		}
	}
	return 0;
}

uint32_t eloq_change_page_ids(const struct eloq_change *change)
{
	return change->next->page_ids;
}

uint64_t eloq_change_file_pages_end(const struct eloq_change *change)
{
	return change->file_pages_end;
}

/* --- The end of a change ---------------------------------------------------------------------- */

static int change_free_page_id(void *arg, uint32_t page_id, uint64_t file_page)
{
	struct eloq_mapper *mapper = arg;

	if (file_page == ELOQ_FILE_PAGE_NONE)
		eloq_page_set_add(&mapper->free_page_ids, page_id);
	return 0;
}

/* Hands the old version what the new one has no use for. */
static void change_retire(struct eloq_change *change)
{
	struct eloq_mapping *base = change->base;

	base->old_chunks = change->old_chunks;
	change->old_chunks = (struct chunk_list){ 0 };
	if (change->mapper->append_mode)
		return;
	base->old_file_pages = change->old_file_pages;
	change->old_file_pages = (struct number_list){ 0 };
	change->mapper->waiting_pages += base->old_file_pages.count;
}

static void change_end(struct eloq_change *change)
{
	change->mapper->change = NULL;
	free(change->new_page_ids.items);
	free(change->taken.items);
	free(change->given_back.items);
	free(change->old_file_pages.items);
	free(change->old_chunks.items);
	free(change);
}

void eloq_change_commit(struct eloq_change *change)
{
	struct eloq_mapper *mapper = change->mapper;

	/* Page ids carry no pages between versions: free at once. */
	eloq_change_each_update(change, change_free_page_id, mapper);
	for (size_t i = 0; i < change->new_page_ids.count; i++) {
		uint32_t page_id = (uint32_t)change->new_page_ids.items[i];

		if (eloq_change_get(change, page_id) == ELOQ_FILE_PAGE_NONE)
			eloq_page_set_add(&mapper->free_page_ids, page_id);
	}
	for (size_t i = 0; !mapper->append_mode && i < change->given_back.count; i++)
		eloq_page_set_add(&mapper->free_file_pages, change->given_back.items[i]);
	mapper->file_pages_end = change->file_pages_end;
	mapper->live_pages = change->live_pages;
	change_retire(change);

	eloq_list_push_back(&mapper->versions, &change->next->link);
	mapper->current = change->next;
	eloq_mapping_release(change->base);
	change_end(change);
}

void eloq_change_abort(struct eloq_change *change)
{
	struct eloq_mapper *mapper;

	if (!change)
		return;
	mapper = change->mapper;
	for (uint32_t i = 0; i < change->next->chunk_count; i++) {
		if (change->next->chunks[i] != eloq_mapping_chunk_at(change->base, i))
			free(change->next->chunks[i]);
	}
	eloq_mapping_free(change->next);
	/* Ids and file pages from beyond the ends are not free ones: the ends fall back. */
	for (size_t i = 0; i < change->new_page_ids.count; i++) {
		if (change->new_page_ids.items[i] < change->base->page_ids)
			eloq_page_set_add(&mapper->free_page_ids, change->new_page_ids.items[i]);
	}
	for (size_t i = 0; !mapper->append_mode && i < change->taken.count; i++) {
		if (change->taken.items[i] < mapper->file_pages_end)
			eloq_page_set_add(&mapper->free_file_pages, change->taken.items[i]);
	}
	change_end(change);
}
