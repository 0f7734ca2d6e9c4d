/*
 * mapping.h - what versions and changes of a mapping consist of; private to mapper.c and change.c.
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
#ifndef ELOQ_DAEMON_STORE_MAPPING_H
#define ELOQ_DAEMON_STORE_MAPPING_H

#include "common/list.h"
#include "daemon/store/mapper.h"
#include "daemon/store/page_set.h"

enum { MAPPING_CHUNK_ENTRIES = 512 };

/* The reference keeps free file pages of a store that is not in append mode in 32 bits. */
#define IN_PLACE_FILE_PAGES_MAX (UINT64_C(1) << 32)

struct mapping_chunk {
	uint64_t file_pages[MAPPING_CHUNK_ENTRIES];
};

/* Stands for a chunk of free page ids; never written, never freed. */
extern struct mapping_chunk eloq_mapping_chunk_empty;

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

/* A version that shares nothing yet, empty; NULL: no memory. */
struct eloq_mapping *eloq_mapping_new(struct eloq_mapper *mapper);

/* Frees the structure and what waits with it; the other chunks are shared with the next version. */
void eloq_mapping_free(struct eloq_mapping *mapping);

/* Room in the table for page ids below @page_ids. 0 or -ENOMEM. */
int eloq_mapping_extend(struct eloq_mapping *mapping, uint32_t page_ids);

static inline struct mapping_chunk *eloq_mapping_chunk_at(const struct eloq_mapping *mapping,
							  uint32_t index)
{
	return index < mapping->chunk_count ? mapping->chunks[index] : &eloq_mapping_chunk_empty;
}

#endif
