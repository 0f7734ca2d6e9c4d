/*
 * overflow_page.h - large values: chains of groups of pages.
 *
 * A leaf entry names the pages of the first group. Only the last page of a full group names the
 * next group. All pages but the value's last one are full. Readers follow the last page of a
 * group whatever its position, so they need not know the store's overflow_pointers.
 *
 * Pure bytes, any thread. docs/format.md, "Overflow pages".
 */
#ifndef ELOQ_FORMAT_OVERFLOW_PAGE_H
#define ELOQ_FORMAT_OVERFLOW_PAGE_H

#include "daemon/format/page.h"

enum { ELOQ_OVERFLOW_VALUE = 11, ELOQ_OVERFLOW_HEAD_AND_COUNT = 12 };

/* Value bytes in a page without pointers. */
static inline uint32_t eloq_overflow_capacity(uint32_t page_bytes)
{
	return page_bytes - ELOQ_OVERFLOW_HEAD_AND_COUNT;
}

/* Value bytes in a page that names the next group: room for @pointers_max ids is kept. */
static inline uint32_t eloq_overflow_capacity_linked(uint32_t page_bytes, uint32_t pointers_max)
{
	return page_bytes - ELOQ_OVERFLOW_HEAD_AND_COUNT - 4 * pointers_max;
}

/*
 * Whether the page's lengths and ids are in range; see page.h. A page holds at least one byte of
 * value, so whoever follows a chain and bounds the value's length comes to an end.
 */
bool eloq_overflow_page_check(const uint8_t *page, uint32_t page_bytes);

/* What a checked page holds; pointers into the page. */
struct eloq_overflow_view {
	const uint8_t *value;
	const uint8_t *pointers; /* little-endian u32s, not aligned: eloq_overflow_pointer() */
	uint32_t value_bytes;
	uint32_t pointer_count; /* 0: no further group */
};

void eloq_overflow_page_decode(const uint8_t *page, uint32_t page_bytes,
			       struct eloq_overflow_view *ret_view);

static inline uint32_t eloq_overflow_pointer(const struct eloq_overflow_view *view, uint32_t index)
{
	return eloq_get_u32(view->pointers + (size_t)4 * index);
}

/* Writes a whole page but its seal; unused bytes are zeroed. Value and pointers must fit. */
void eloq_overflow_page_encode(uint8_t *page, uint32_t page_bytes, const void *value,
			       uint32_t value_bytes, const uint32_t *pointers,
			       uint32_t pointer_count);

/*
 * How a value is cut, step by step:
 *
 *	eloq_overflow_plan_init(&plan, value_bytes, page_bytes, pointers_max);
 *	while ((pages = eloq_overflow_plan_group(&plan)) > 0) {
 *		allocate `pages` page ids; they go to the leaf entry, or to the page held back
 *		for (i = 0; i < pages; i++) {
 *			bytes = eloq_overflow_plan_page(&plan, &linked);
 *			if linked, hold this page back: it names the next group's pages
 *		}
 *	}
 */
struct eloq_overflow_plan {
	uint64_t rest;
	uint32_t page_bytes;
	uint32_t pointers_max;
	uint32_t group_pages;
	uint32_t group_index; /* pages of this group given out */
};

void eloq_overflow_plan_init(struct eloq_overflow_plan *plan, uint64_t value_bytes,
			     uint32_t page_bytes, uint32_t pointers_max);

/* Pages of the next group, 1..pointers_max; 0: the value is complete. Only between groups. */
uint32_t eloq_overflow_plan_group(struct eloq_overflow_plan *plan);

/* Value bytes of the group's next page; *ret_linked: it must name the next group. */
uint32_t eloq_overflow_plan_page(struct eloq_overflow_plan *plan, bool *ret_linked);

/* Pages that a value needs in all groups; 0 for an empty one. */
uint64_t eloq_overflow_pages(uint64_t value_bytes, uint32_t page_bytes, uint32_t pointers_max);

#endif
