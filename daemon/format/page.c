/*
 * page.c - seal, verify, and the check that fits the type. See page.h.
 */
#include "daemon/format/page.h"

#include "common/checksum.h"
#include "daemon/format/data_page.h"
#include "daemon/format/index_page.h"
#include "daemon/format/overflow_page.h"

static uint64_t page_checksum(const uint8_t *page, uint32_t page_bytes)
{
	return eloq_checksum_xxh3(page + ELOQ_PAGE_TYPE, page_bytes - ELOQ_PAGE_TYPE);
}

void eloq_page_seal(uint8_t *page, uint32_t page_bytes)
{
	eloq_put_u64(page + ELOQ_PAGE_CHECKSUM, page_checksum(page, page_bytes));
}

bool eloq_page_verify(const uint8_t *page, uint32_t page_bytes)
{
	return eloq_get_u64(page + ELOQ_PAGE_CHECKSUM) == page_checksum(page, page_bytes);
}

bool eloq_page_check(const uint8_t *page, uint32_t page_bytes)
{
	switch (eloq_page_type(page)) {
	case ELOQ_PAGE_INDEX_INNER:
	case ELOQ_PAGE_INDEX_LEAF:
		return eloq_index_page_check(page, page_bytes);
	case ELOQ_PAGE_DATA:
		return eloq_data_page_check(page, page_bytes);
	case ELOQ_PAGE_OVERFLOW:
		return eloq_overflow_page_check(page, page_bytes);
	default:
		return false;
	}
}
