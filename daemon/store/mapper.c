/*
 * mapper.c - versions of the mapping, and loading them (mapper.h, mapping.h).
 *
 * Always:   the current version is the last of the list and counts one holder for being it.
 */
#include "daemon/store/mapper.h"

#include "common/compiler.h"
#include "common/err.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/mapping.h"

#include <errno.h>
#include <stdlib.h>

/* From the first live file page to the end; bounds the memory for checking, a bit for each. */
#define APPEND_FILE_PAGES_SPAN_MAX (UINT64_C(1) << 36)

struct mapping_chunk eloq_mapping_chunk_empty = {
	.file_pages = { [0 ... MAPPING_CHUNK_ENTRIES - 1] = ELOQ_FILE_PAGE_NONE },
};

/* --- Versions --------------------------------------------------------------------------------- */

struct eloq_mapping *eloq_mapping_new(struct eloq_mapper *mapper)
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

int eloq_mapping_extend(struct eloq_mapping *mapping, uint32_t page_ids)
{
	uint32_t chunk_count = (page_ids + MAPPING_CHUNK_ENTRIES - 1) / MAPPING_CHUNK_ENTRIES;

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
		mapping->chunks[mapping->chunk_count++] = &eloq_mapping_chunk_empty;
	if (page_ids > mapping->page_ids)
		mapping->page_ids = page_ids;
	return 0;
}

void eloq_mapping_free(struct eloq_mapping *mapping)
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
		eloq_mapping_free(oldest);
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
	return mapping->chunks[page_id / MAPPING_CHUNK_ENTRIES]
		->file_pages[page_id % MAPPING_CHUNK_ENTRIES];
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
	mapper->current = eloq_mapping_new(mapper);
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
		if (current->chunks[i] != &eloq_mapping_chunk_empty)
			free(current->chunks[i]);
	}
	eloq_mapping_free(current);
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
	uint32_t index = page_id / MAPPING_CHUNK_ENTRIES;
	uint64_t *entry;
	int r;

	if (page_id > ELOQ_PAGE_ID_MAX)
		return -EOVERFLOW;
	r = eloq_mapping_extend(mapping, page_id + 1);
	if (r < 0)
		return r;
	if (mapping->chunks[index] == &eloq_mapping_chunk_empty) {
		if (file_page_id == ELOQ_FILE_PAGE_NONE)
			return 0;
		mapping->chunks[index] = malloc(sizeof(eloq_mapping_chunk_empty));
		if (!mapping->chunks[index]) {
			mapping->chunks[index] = &eloq_mapping_chunk_empty;
			return -ENOMEM;
		}
		*mapping->chunks[index] = eloq_mapping_chunk_empty;
	}
	entry = &mapping->chunks[index]->file_pages[page_id % MAPPING_CHUNK_ENTRIES];
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
	r = eloq_mapping_extend(mapping, page_ids);
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
