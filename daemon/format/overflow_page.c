/*
 * overflow_page.c - large values in groups of pages. See overflow_page.h.
 */
#include "daemon/format/overflow_page.h"

/* The last byte of a page counts its pointers, which stand right before it. */
static uint32_t overflow_pointer_count(const uint8_t *page, uint32_t page_bytes)
{
	return page[page_bytes - 1];
}

static uint32_t overflow_pointers_offset(uint32_t page_bytes, uint32_t pointer_count)
{
	return page_bytes - 1 - 4 * pointer_count;
}

bool eloq_overflow_page_check(const uint8_t *page, uint32_t page_bytes)
{
	uint32_t value_bytes = eloq_get_u16(page + ELOQ_PAGE_LENGTH);
	uint32_t count = overflow_pointer_count(page, page_bytes);
	struct eloq_overflow_view view;

	if (eloq_page_type(page) != ELOQ_PAGE_OVERFLOW || value_bytes == 0 ||
	    count > ELOQ_OVERFLOW_POINTERS_MAX)
		return false;
	if (value_bytes > eloq_overflow_capacity_linked(page_bytes, count))
		return false;
	eloq_overflow_page_decode(page, page_bytes, &view);
	for (uint32_t i = 0; i < count; i++) {
		if (eloq_overflow_pointer(&view, i) > ELOQ_PAGE_ID_MAX)
			return false;
	}
	return true;
}

void eloq_overflow_page_decode(const uint8_t *page, uint32_t page_bytes,
			       struct eloq_overflow_view *ret_view)
{
	uint32_t count = overflow_pointer_count(page, page_bytes);

	*ret_view = (struct eloq_overflow_view){
		.value = page + ELOQ_OVERFLOW_VALUE,
		.value_bytes = eloq_get_u16(page + ELOQ_PAGE_LENGTH),
		.pointers = page + overflow_pointers_offset(page_bytes, count),
		.pointer_count = count,
	};
}

void eloq_overflow_page_encode(uint8_t *page, uint32_t page_bytes, const void *value,
			       uint32_t value_bytes, const uint32_t *pointers,
			       uint32_t pointer_count)
{
	uint32_t unused = ELOQ_OVERFLOW_VALUE + value_bytes;
	uint32_t at = overflow_pointers_offset(page_bytes, pointer_count);

	eloq_assert(pointer_count <= ELOQ_OVERFLOW_POINTERS_MAX && value_bytes > 0);
	eloq_assert(value_bytes <= eloq_overflow_capacity_linked(page_bytes, pointer_count));
	memset(page, 0, ELOQ_OVERFLOW_VALUE);
	page[ELOQ_PAGE_TYPE] = ELOQ_PAGE_OVERFLOW;
	eloq_put_u16(page + ELOQ_PAGE_LENGTH, (uint16_t)value_bytes);
	memcpy(page + ELOQ_OVERFLOW_VALUE, value, value_bytes);
	memset(page + unused, 0, at - unused);
	for (uint32_t i = 0; i < pointer_count; i++)
		eloq_put_u32(page + at + 4 * i, pointers[i]);
	page[page_bytes - 1] = (uint8_t)pointer_count;
}

void eloq_overflow_plan_init(struct eloq_overflow_plan *plan, uint64_t value_bytes,
			     uint32_t page_bytes, uint32_t pointers_max)
{
	eloq_assert(pointers_max >= 1 && pointers_max <= ELOQ_OVERFLOW_POINTERS_MAX);
	*plan = (struct eloq_overflow_plan){
		.rest = value_bytes,
		.page_bytes = page_bytes,
		.pointers_max = pointers_max,
	};
}

static uint64_t pages_for(uint64_t bytes, uint64_t bytes_per_page)
{
	return bytes / bytes_per_page + (bytes % bytes_per_page != 0);
}

uint32_t eloq_overflow_plan_group(struct eloq_overflow_plan *plan)
{
	uint64_t pages = pages_for(plan->rest, eloq_overflow_capacity(plan->page_bytes));

	eloq_assert(plan->group_index == plan->group_pages);
	plan->group_pages = (uint32_t)eloq_min_u64(pages, plan->pointers_max);
	plan->group_index = 0;
	return plan->group_pages;
}

uint32_t eloq_overflow_plan_page(struct eloq_overflow_plan *plan, bool *ret_linked)
{
	uint32_t bytes = eloq_overflow_capacity(plan->page_bytes);
	bool linked;

	eloq_assert(plan->group_index < plan->group_pages);
	plan->group_index++;
	linked = plan->group_index == plan->pointers_max && plan->rest > bytes;
	if (linked)
		bytes = eloq_overflow_capacity_linked(plan->page_bytes, plan->pointers_max);
	bytes = (uint32_t)eloq_min_u64(bytes, plan->rest);
	plan->rest -= bytes;
	*ret_linked = linked;
	return bytes;
}

uint64_t eloq_overflow_pages(uint64_t value_bytes, uint32_t page_bytes, uint32_t pointers_max)
{
	uint64_t page = eloq_overflow_capacity(page_bytes);
	uint64_t group =
		page * (pointers_max - 1) + eloq_overflow_capacity_linked(page_bytes, pointers_max);
	uint64_t linked_groups = 0;

	/* A group is linked to another one as long as it could not end the value. */
	if (value_bytes > page * pointers_max)
		linked_groups = pages_for(value_bytes - page * pointers_max, group);
	return linked_groups * pointers_max + pages_for(value_bytes - linked_groups * group, page);
}
