/*
 * mapper.h - page id -> file page id, in versions; and who gets which number next.
 *
 * Idea: the mapping is a persistent array: chunks of entries behind an array of chunk pointers. A
 * commit copies the pointers and the chunks it touches. A reader holds a version; what a commit
 * superseded, file pages and chunks alike, waits with the version that referenced it and becomes
 * free when that one and all older ones are released, and only after the manifest that
 * unreferences it is durable.
 *
 * Always:   a file page is exactly one of: mapped by the current version, waiting for readers of
 *           older versions, taken by the open change, or free. In append mode nothing becomes free.
 * Runs on:  the shard's thread. One change at a time for each mapper.
 */
#ifndef ELOQ_DAEMON_STORE_MAPPER_H
#define ELOQ_DAEMON_STORE_MAPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELOQ_PAGE_NONE	    UINT32_MAX /* no page id */
#define ELOQ_FILE_PAGE_NONE UINT64_MAX /* no file page */

struct eloq_mapper;

/* One version of a partition: immutable, counted. */
struct eloq_mapping;

/* The roots of the trees that go with a version; ELOQ_PAGE_NONE: empty tree. */
struct eloq_roots {
	uint32_t main;
	uint32_t ttl;
};

int eloq_mapper_open(struct eloq_mapper **ret_mapper, bool append_mode);
void eloq_mapper_close(struct eloq_mapper *mapper); /* NULL is fine; no version may be held */

/* --- Loading from a manifest, before the first use; a mapper not loaded is an empty partition ---
 */
int eloq_mapper_load_set(struct eloq_mapper *mapper, uint32_t page_id, uint64_t file_page_id);
/* ELOQ_FILE_PAGE_NONE frees a page id. Extends the table as needed. -ENOMEM, -EOVERFLOW. */
int eloq_mapper_load_end(struct eloq_mapper *mapper, struct eloq_roots roots,
			 uint64_t file_pages_end, uint32_t page_ids);
/* Finds out what is free. @file_pages_end: the format's max_fp_id, the smallest file page never
 * used; @page_ids: length of the table if longer than what was set. -ELOQ_ECORRUPT if two page ids
 * share a file page, or one lies at or behind the end; -EOVERFLOW: too many file pages for a store
 * that is not in append mode (2^32), or too far apart for one that is. After an error the mapper
 * is good for closing only. */

/* --- Reading --- */
struct eloq_mapping *eloq_mapper_acquire(struct eloq_mapper *mapper); /* the current version */
struct eloq_mapping *eloq_mapping_ref(struct eloq_mapping *mapping);
void eloq_mapping_release(struct eloq_mapping *mapping);
uint64_t eloq_mapping_get(const struct eloq_mapping *mapping, uint32_t page_id);
struct eloq_roots eloq_mapping_roots(const struct eloq_mapping *mapping);
uint32_t eloq_mapping_page_ids(const struct eloq_mapping *mapping); /* table length */

uint64_t eloq_mapper_live_pages(const struct eloq_mapper *mapper);
/* Smallest file page id never handed out (the committed value). */
uint64_t eloq_mapper_file_pages_end(const struct eloq_mapper *mapper);
bool eloq_mapper_append_mode(const struct eloq_mapper *mapper);

/* Where all file pages below the end of the open change, or else of the mapper, are. */
struct eloq_file_page_counts {
	uint64_t live;	  /* mapped by the current version */
	uint64_t waiting; /* mapped by older versions only, which readers hold */
	uint64_t taken;	  /* by the open change */
	uint64_t free;	  /* 0 in append mode, where the rest are holes */
};
struct eloq_file_page_counts eloq_mapper_file_page_counts(const struct eloq_mapper *mapper);

/* --- Changing: begin, alloc / place / free, then commit or abort --- */
struct eloq_change; /* the open change of a mapper */

int eloq_change_begin(struct eloq_change **ret_change, struct eloq_mapper *mapper);
/* A page id that nothing uses. -ENOSPC beyond 2^31 - 1, -ENOMEM. */
int eloq_change_alloc(struct eloq_change *change, uint32_t *ret_page_id);
/* A fresh file page for the page's new version; what it had before will be freed by the commit.
 * A page placed twice in one change gives its first place back, which nothing uses before the
 * change has ended: the write to it may be under way. -ENOSPC, -ENOMEM. */
int eloq_change_place(struct eloq_change *change, uint32_t page_id, uint64_t *ret_file_page_id);
/* The page goes away, its file page is freed by the commit. */
int eloq_change_free(struct eloq_change *change, uint32_t page_id);
/* All pages go away. */
int eloq_change_free_all(struct eloq_change *change);
void eloq_change_set_roots(struct eloq_change *change, struct eloq_roots roots);
struct eloq_roots eloq_change_roots(const struct eloq_change *change);
/* File page of @page_id as this change sees it. */
uint64_t eloq_change_get(const struct eloq_change *change, uint32_t page_id);

/* Number of page ids whose mapping changed; and each of them, in ascending page id, once.
 * file_page_id is ELOQ_FILE_PAGE_NONE for a freed page. */
size_t eloq_change_updates(const struct eloq_change *change);
int eloq_change_each_update(const struct eloq_change *change,
			    int (*each)(void *arg, uint32_t page_id, uint64_t file_page_id),
			    void *arg);
uint32_t eloq_change_page_ids(const struct eloq_change *change);
uint64_t eloq_change_file_pages_end(const struct eloq_change *change);

/* The manifest is durable: make it the current version. Never fails; frees the change. */
void eloq_change_commit(struct eloq_change *change);
/* Give everything back; the current version stays. Frees the change. NULL is fine. */
void eloq_change_abort(struct eloq_change *change);

#endif
