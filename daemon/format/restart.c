/*
 * restart.c - checking and building of restart arrays. See restart.h.
 */
#include "daemon/format/restart.h"

bool eloq_restarts_check(const uint8_t *page, uint32_t page_bytes, uint32_t entries,
			 struct restarts *ret_restarts)
{
	uint32_t length = eloq_get_u16(page + ELOQ_PAGE_LENGTH);
	uint32_t last = 0;
	struct restarts restarts;

	if (length > page_bytes || length < entries + 2)
		return false;
	restarts.count = eloq_get_u16(page + length - 2);
	if (restarts.count > (length - entries - 2) / 2)
		return false;
	restarts.end = length - 2 * (restarts.count + 1);
	if ((restarts.count == 0) != (restarts.end == entries))
		return false;
	for (uint32_t i = 0; i < restarts.count; i++) {
		uint32_t offset = restart_offset(page, restarts, i);

		if (i == 0 ? offset != entries : offset <= last)
			return false;
		last = offset;
	}
	if (last >= restarts.end)
		return false;
	*ret_restarts = restarts;
	return true;
}

/* While building, number @index lies this far from the start of the page. */
static uint32_t restart_parked(uint32_t page_bytes, uint32_t index)
{
	return page_bytes - 2 * (index + 1);
}

void eloq_restart_push(uint8_t *page, uint32_t page_bytes, uint32_t count, uint32_t offset)
{
	eloq_put_u16(page + restart_parked(page_bytes, count), (uint16_t)offset);
}

void eloq_restarts_finish(uint8_t *page, uint32_t page_bytes, uint32_t used, uint32_t count)
{
	uint32_t length = used + 2 * (count + 1);

	eloq_assert(length <= page_bytes);
	/* Turned round in place first: the old and the new place may overlap. */
	for (uint32_t low = 0; low < count / 2; low++) {
		uint8_t *a = page + restart_parked(page_bytes, low);
		uint8_t *b = page + restart_parked(page_bytes, count - 1 - low);
		uint16_t offset = eloq_get_u16(a);

		eloq_put_u16(a, eloq_get_u16(b));
		eloq_put_u16(b, offset);
	}
	memmove(page + used, page + page_bytes - 2 * count, (size_t)2 * count);
	eloq_put_u16(page + length - 2, (uint16_t)count);
	eloq_put_u16(page + ELOQ_PAGE_LENGTH, (uint16_t)length);
	memset(page + length, 0, page_bytes - length);
}
