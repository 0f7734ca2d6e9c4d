/*
 * mapper.c - versions of the mapping, and the open change (mapper.h).
 *
 *	versions (oldest first)      chunks of 512 file page ids
 *	 v7 --- v8 --- v9 = current
 *	  |      |      +-- [ a' ][ b ][ c' ]     a' and c' were copied by the commit of v9
 *	  |      +--------- [ a  ][ b ][ c  ]     a and c wait with v8, which v9 made old
 *	  +-- ...
 *
 * Idea: versions are released in order of age, so nothing is counted but the versions: what v9
 * does not share with v8 belongs to v8 and goes when v8 is the oldest and nobody holds it.
 *
 * Always:   live + waiting + taken + free == end of the file pages (not in append mode).
 *           A change's copy of a chunk differs from the base's pointer; that is how it is known.
 * Fails by: -ENOMEM before anything was changed: commit, abort and release never need memory.
 */
#include "daemon/store/mapper.h"

#include "common/compiler.h"
#include "common/err.h"
#include "common/list.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/page_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ENTRIES = 512 };

/* The reference keeps free file pages of this mode in 32 bits. */
#define IN_PLACE_FILE_PAGES_MAX (UINT64_C(1) << 32)

/* From the first live file page to the end; bounds the memory for checking, a bit for each. */
#define APPEND_FILE_PAGES_SPAN_MAX (UINT64_C(1) << 36)

struct mapping_chunk {
	uint64_t file_pages[CHUNK_ENTRIES];
};

/* Stands for a chunk of free page ids; never written, never freed. */
static struct mapping_chunk chunk_empty = {
	.file_pages = { [0 ... CHUNK_ENTRIES - 1] = ELOQ_FILE_PAGE_NONE },
};

/* A growing array; room is made before it is needed. */
struct number_list {
	uint64_t *items;
	size_t count;
	size_t capacity;
};

struct chunk_list {
	struct mapping_chunk **items;
	size_t count;
	size_t capacity;
};

struct eloq_mapping {
	struct mapping_chunk **chunks;
	uint32_t page_ids;
	uint32_t chunk_count;
	uint32_t chunk_capacity;
	uint32_t refs; /* holders, and 1 for being the current version */
	struct eloq_roots roots;
	struct eloq_mapper *mapper;
	struct eloq_list link; /* in mapper->versions */
	/* What the next version has no use for. */
	struct number_list old_file_pages;
	struct chunk_list old_chunks;
};

struct eloq_mapper {
	struct eloq_mapping *current;
	struct eloq_change *change;
	struct eloq_list versions; /* oldest first; the current one is the last */
	struct eloq_page_set free_page_ids;
	struct eloq_page_set free_file_pages; /* not in append mode */
	uint64_t file_pages_end;
	uint64_t live_pages;
	uint64_t waiting_pages;
	bool append_mode;
};

struct eloq_change {
	struct eloq_mapper *mapper;
	struct eloq_mapping *base; /* the current version */
	struct eloq_mapping *next; /* being made; not in the list of versions yet */
	uint64_t file_pages_end;
	uint64_t live_pages;
	size_t update_count;
	struct number_list new_page_ids;
	struct number_list taken;	   /* file pages that this change was given */
	struct number_list given_back;	   /* those of them that it has no use for any more */
	struct number_list old_file_pages; /* of the base, unmapped by this change */
	struct chunk_list old_chunks;	   /* of the base, copied by this change */
};

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

/* --- Versions --------------------------------------------------------------------------------- */

static struct eloq_mapping *mapping_new(struct eloq_mapper *mapper)
{
	struct eloq_mapping *mapping = calloc(1, sizeof(*mapping));

	if (!mapping)
		return NULL;
	mapping->mapper = mapper;
	mapping->refs = 1;
	mapping->roots = (struct eloq_roots){ .main = ELOQ_PAGE_NONE, .ttl = ELOQ_PAGE_NONE };
	eloq_list_init(&mapping->link);
	return mapping;
}

/* Room in the table for page ids below @page_ids. */
static int mapping_extend(struct eloq_mapping *mapping, uint32_t page_ids)
{
	uint32_t chunk_count = (page_ids + CHUNK_ENTRIES - 1) / CHUNK_ENTRIES;

	if (chunk_count > mapping->chunk_capacity) {
		uint32_t capacity = chunk_count + chunk_count / 4 + 4;
		struct mapping_chunk **chunks;

		chunks = reallocarray(mapping->chunks, capacity, sizeof(*chunks));
		if (!chunks)
			return -ENOMEM;
		mapping->chunks = chunks;
		mapping->chunk_capacity = capacity;
	}
	while (mapping->chunk_count < chunk_count)
		mapping->chunks[mapping->chunk_count++] = &chunk_empty;
	if (page_ids > mapping->page_ids)
		mapping->page_ids = page_ids;
	return 0;
}

static struct mapping_chunk *mapping_chunk_at(const struct eloq_mapping *mapping, uint32_t index)
{
	return index < mapping->chunk_count ? mapping->chunks[index] : &chunk_empty;
}

/* Frees the structure; the chunks are shared with the next version, or @old_chunks of this one. */
static void mapping_free(struct eloq_mapping *mapping)
{
	for (size_t i = 0; i < mapping->old_chunks.count; i++)
		free(mapping->old_chunks.items[i]);
	free(mapping->old_chunks.items);
	free(mapping->old_file_pages.items);
	free(mapping->chunks);
	free(mapping);
}

/* Frees what waits with versions that are the oldest and held by nobody. */
static void mapper_free_old_versions(struct eloq_mapper *mapper)
{
	for (;;) {
		struct eloq_mapping *oldest =
			eloq_list_entry(mapper->versions.next, struct eloq_mapping, link);

		if (oldest->refs > 0)
			return;
		for (size_t i = 0; i < oldest->old_file_pages.count; i++)
			eloq_page_set_add(&mapper->free_file_pages,
					  oldest->old_file_pages.items[i]);
		mapper->waiting_pages -= oldest->old_file_pages.count;
		eloq_list_remove(&oldest->link);
		mapping_free(oldest);
	}
}

struct eloq_mapping *eloq_mapper_acquire(struct eloq_mapper *mapper)
{
	return eloq_mapping_ref(mapper->current);
}

struct eloq_mapping *eloq_mapping_ref(struct eloq_mapping *mapping)
{
	mapping->refs++;
	return mapping;
}

void eloq_mapping_release(struct eloq_mapping *mapping)
{
	eloq_assert(mapping->refs > 0);
	if (--mapping->refs == 0)
		mapper_free_old_versions(mapping->mapper);
}

uint64_t eloq_mapping_get(const struct eloq_mapping *mapping, uint32_t page_id)
{
	if (eloq_unlikely(page_id >= mapping->page_ids))
		return ELOQ_FILE_PAGE_NONE;
	return mapping->chunks[page_id / CHUNK_ENTRIES]->file_pages[page_id % CHUNK_ENTRIES];
}

struct eloq_roots eloq_mapping_roots(const struct eloq_mapping *mapping)
{
	return mapping->roots;
}

uint32_t eloq_mapping_page_ids(const struct eloq_mapping *mapping)
{
	return mapping->page_ids;
}

/* --- The mapper ------------------------------------------------------------------------------- */

int eloq_mapper_open(struct eloq_mapper **ret_mapper, bool append_mode)
{
	struct eloq_mapper *mapper = calloc(1, sizeof(*mapper));

	if (!mapper)
		return -ENOMEM;
	mapper->append_mode = append_mode;
	eloq_list_init(&mapper->versions);
	mapper->current = mapping_new(mapper);
	if (!mapper->current) {
		free(mapper);
		return -ENOMEM;
	}
	eloq_list_push_back(&mapper->versions, &mapper->current->link);
	*ret_mapper = mapper;
	return 0;
}

void eloq_mapper_close(struct eloq_mapper *mapper)
{
	struct eloq_mapping *current;

	if (!mapper)
		return;
	current = mapper->current;
	eloq_assert(!mapper->change);
	eloq_assert(mapper->versions.next == &current->link && current->refs == 1);
	for (uint32_t i = 0; i < current->chunk_count; i++) {
		if (current->chunks[i] != &chunk_empty)
			free(current->chunks[i]);
	}
	mapping_free(current);
	eloq_page_set_clear(&mapper->free_page_ids);
	eloq_page_set_clear(&mapper->free_file_pages);
	free(mapper);
}

uint64_t eloq_mapper_live_pages(const struct eloq_mapper *mapper)
{
	return mapper->live_pages;
}

uint64_t eloq_mapper_file_pages_end(const struct eloq_mapper *mapper)
{
	return mapper->file_pages_end;
}

bool eloq_mapper_append_mode(const struct eloq_mapper *mapper)
{
	return mapper->append_mode;
}

struct eloq_file_page_counts eloq_mapper_file_page_counts(const struct eloq_mapper *mapper)
{
	return (struct eloq_file_page_counts){
		.live = mapper->live_pages,
		.waiting = mapper->waiting_pages,
		.taken = mapper->change ? mapper->change->taken.count : 0,
		.free = mapper->free_file_pages.count,
	};
}

/* --- Loading ---------------------------------------------------------------------------------- */

int eloq_mapper_load_set(struct eloq_mapper *mapper, uint32_t page_id, uint64_t file_page_id)
{
	struct eloq_mapping *mapping = mapper->current;
	uint32_t index = page_id / CHUNK_ENTRIES;
	uint64_t *entry;
	int r;

	if (page_id > ELOQ_PAGE_ID_MAX)
		return -EOVERFLOW;
	r = mapping_extend(mapping, page_id + 1);
	if (r < 0)
		return r;
	if (mapping->chunks[index] == &chunk_empty) {
		if (file_page_id == ELOQ_FILE_PAGE_NONE)
			return 0;
		mapping->chunks[index] = malloc(sizeof(chunk_empty));
		if (!mapping->chunks[index]) {
			mapping->chunks[index] = &chunk_empty;
			return -ENOMEM;
		}
		*mapping->chunks[index] = chunk_empty;
	}
	entry = &mapping->chunks[index]->file_pages[page_id % CHUNK_ENTRIES];
	mapper->live_pages += (uint64_t)(file_page_id != ELOQ_FILE_PAGE_NONE);
	mapper->live_pages -= (uint64_t)(*entry != ELOQ_FILE_PAGE_NONE);
	*entry = file_page_id;
	return 0;
}

/* Which page ids are free, and that file pages lie below the end. */
static int mapper_sort_page_ids(struct eloq_mapper *mapper)
{
	for (uint32_t page_id = 0; page_id < mapper->current->page_ids; page_id++) {
		uint64_t file_page = eloq_mapping_get(mapper->current, page_id);

		if (file_page == ELOQ_FILE_PAGE_NONE)
			eloq_page_set_add(&mapper->free_page_ids, page_id);
		else if (file_page >= mapper->file_pages_end)
			return -ELOQ_ECORRUPT;
	}
	return 0;
}

/* What no page id uses is free. */
static int mapper_sort_file_pages(struct eloq_mapper *mapper)
{
	struct eloq_page_set *unused = &mapper->free_file_pages;
	int r;

	r = eloq_page_set_reserve(unused, mapper->file_pages_end);
	if (r < 0)
		return r;
	eloq_page_set_fill(unused, mapper->file_pages_end);
	for (uint32_t page_id = 0; page_id < mapper->current->page_ids; page_id++) {
		uint64_t file_page = eloq_mapping_get(mapper->current, page_id);

		if (file_page == ELOQ_FILE_PAGE_NONE)
			continue;
		if (!eloq_page_set_has(unused, file_page))
			return -ELOQ_ECORRUPT;
		eloq_page_set_remove(unused, file_page);
	}
	return 0;
}

/* In append mode nothing is free; a set that lives as long as this call finds double ones. */
static int mapper_check_file_pages(const struct eloq_mapper *mapper)
{
	struct eloq_page_set seen = { 0 };
	uint64_t first = mapper->file_pages_end;
	int r;

	for (uint32_t page_id = 0; page_id < mapper->current->page_ids; page_id++)
		first = eloq_min_u64(first, eloq_mapping_get(mapper->current, page_id));
	if (mapper->file_pages_end - first > APPEND_FILE_PAGES_SPAN_MAX)
		return -EOVERFLOW;
	r = eloq_page_set_reserve(&seen, mapper->file_pages_end - first);
	for (uint32_t page_id = 0; r == 0 && page_id < mapper->current->page_ids; page_id++) {
		uint64_t file_page = eloq_mapping_get(mapper->current, page_id);

		if (file_page == ELOQ_FILE_PAGE_NONE)
			continue;
		if (eloq_page_set_has(&seen, file_page - first))
			r = -ELOQ_ECORRUPT;
		else
			eloq_page_set_add(&seen, file_page - first);
	}
	eloq_page_set_clear(&seen);
	return r;
}

int eloq_mapper_load_end(struct eloq_mapper *mapper, struct eloq_roots roots,
			 uint64_t file_pages_end, uint32_t page_ids)
{
	struct eloq_mapping *mapping = mapper->current;
	int r;

	eloq_assert(mapping->refs == 1 && !mapper->change);
	if (page_ids > ELOQ_PAGE_ID_MAX + 1 || file_pages_end > ELOQ_FILE_PAGE_ID_MAX + 1)
		return -EOVERFLOW;
	if (!mapper->append_mode && file_pages_end > IN_PLACE_FILE_PAGES_MAX)
		return -EOVERFLOW;
	r = mapping_extend(mapping, page_ids);
	if (r < 0)
		return r;
	r = eloq_page_set_reserve(&mapper->free_page_ids, mapping->page_ids);
	if (r < 0)
		return r;
	mapping->roots = roots;
	mapper->file_pages_end = file_pages_end;
	r = mapper_sort_page_ids(mapper);
	if (r < 0)
		return r;
	if (mapper->append_mode)
		return mapper_check_file_pages(mapper);
	return mapper_sort_file_pages(mapper);
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
	change->next = mapping_new(mapper);
	r = change->next ? mapping_extend(change->next, change->base->page_ids) : -ENOMEM;
	if (r < 0) {
		if (change->next)
			mapping_free(change->next);
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
	struct mapping_chunk *shared = mapping_chunk_at(change->base, index), *copy;
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
	if (shared != &chunk_empty)
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
		r = mapping_extend(change->next, (uint32_t)page_id + 1);
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

	r = change_own_chunk(change, page_id / CHUNK_ENTRIES);
	if (r == 0)
		r = number_list_reserve(&change->given_back);
	if (r == 0)
		r = number_list_reserve(&change->old_file_pages);
	return r;
}

static void change_set(struct eloq_change *change, uint32_t page_id, uint64_t file_page)
{
	struct mapping_chunk *chunk = change->next->chunks[page_id / CHUNK_ENTRIES];
	uint64_t *entry = &chunk->file_pages[page_id % CHUNK_ENTRIES];
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
		const struct mapping_chunk *base = mapping_chunk_at(change->base, index);

		for (uint32_t i = 0; now != base && i < CHUNK_ENTRIES; i++) {
			int r;

			if (now->file_pages[i] == base->file_pages[i])
				continue;
			r = each(arg, index * CHUNK_ENTRIES + i, now->file_pages[i]);
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
		if (change->next->chunks[i] != mapping_chunk_at(change->base, i))
			free(change->next->chunks[i]);
	}
	mapping_free(change->next);
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
