/*
 * value.h - values too large for a leaf: chains of overflow pages, read, written and freed.
 *
 * Idea: the leaf's entry names the first group of pages; the last page of a group names the next
 * one. A group's pages are read together, neighbours on disk with one I/O. Large values go past
 * the cache, which they would only empty; small ones are remembered.
 *
 * How long a value is shows only while it is read. So a read that turns out to be longer than
 * ELOQ_SHORT_VALUE_BYTES_MAX takes one of ELOQ_LONG_READS_MAX places before it asks for more
 * memory, and waits for it, first come, first served. The place goes with the value's memory.
 *
 * Always:   who waits for a place has neither file nor page pinned, and who has one never waits for
 *           another: so a caller gives back a value that has a place before it reads the next.
 *           The last page of each group is followed, whatever the store's overflow_pointers are.
 * Fails by: -ELOQ_ECORRUPT on pages of another type and on chains that come back to themselves;
 *           -ELOQ_ETOOLONG on a stored value beyond ELOQ_VALUE_BYTES_MAX.
 */
#ifndef ELOQ_DAEMON_STORE_VALUE_H
#define ELOQ_DAEMON_STORE_VALUE_H

#include "daemon/store/page_writer.h"
#include "daemon/store/tree.h"

/* The first group of a value: copied from its entry, so that the leaf need not stay pinned. */
struct eloq_value_ref {
	uint32_t count;
	uint32_t ids[ELOQ_OVERFLOW_POINTERS_MAX];
};

/* @entry has ELOQ_ENTRY_OVERFLOW. */
void eloq_value_ref_set(struct eloq_value_ref *ref, const struct eloq_entry *entry);

struct eloq_value_places {
	unsigned taken;
	struct eloq_waitq waiting;
};

void eloq_value_places_init(struct eloq_value_places *places);

/* A value in memory of its own. */
struct eloq_value_copy {
	uint8_t *data; /* malloc'ed */
	uint32_t bytes;
	bool has_place;
};

/* The whole value; eloq_value_copy_free() must follow. On failure nothing is held. */
int eloq_value_read_await(const struct eloq_tree_view *view, const struct eloq_value_ref *ref,
			  struct eloq_value_copy *ret_copy, struct eloq_errinfo *reterr);

/* An empty one is fine. */
void eloq_value_copy_free(struct eloq_value_places *places, struct eloq_value_copy *copy);

struct eloq_value_writer {
	struct eloq_change *change;
	struct eloq_page_writer *pages;
	uint32_t page_bytes;
	uint32_t overflow_pointers;
	uint8_t *page; /* scratch of page_bytes */
};

/* Write @bytes > 0 of @value, and return what the leaf is to hold: page ids, *ret_bytes of them. */
int eloq_value_write_await(const struct eloq_value_writer *writer, const uint8_t *value,
			   uint32_t bytes, uint8_t ret_pointers[4 * ELOQ_OVERFLOW_POINTERS_MAX],
			   uint32_t *ret_bytes);

/* Free all pages of a value in @change, whose base version is @view. */
int eloq_value_free_await(const struct eloq_tree_view *view, struct eloq_change *change,
			  const struct eloq_value_ref *ref, struct eloq_errinfo *reterr);

#endif
