/*
 * page.h - what all pages share: header, checksum, type.
 *
 * A page's life here: a builder or encoder fills it, eloq_page_seal() closes it; after a read,
 * eloq_page_verify() checks the sum and eloq_page_check() the structure, once; then the search
 * functions of data_page.h, index_page.h and overflow_page.h may be used on it, and only then:
 * they trust what the check established and never look outside the page.
 *
 * The check makes reading safe; it proves the order of the keys at restart points only. A page
 * with a right checksum and unsorted keys gives wrong answers, never wrong memory. Offline tools
 * prove the rest with eloq_data_page_check_order() and eloq_index_page_check_order().
 *
 * Pure bytes: no I/O, no allocation, no state. Any thread. docs/format.md, "Pages".
 */
#ifndef ELOQ_FORMAT_PAGE_H
#define ELOQ_FORMAT_PAGE_H

#include "common/coding.h"
#include "common/limits.h"

#include <stdbool.h>

/* "No page", for page ids and for file page ids. */
#define ELOQ_PAGE_NONE	    UINT32_MAX
#define ELOQ_FILE_PAGE_NONE UINT64_MAX

/* Index pages hold page ids as signed 32-bit differences. */
#define ELOQ_PAGE_ID_MAX UINT32_C(0x7fffffff)

enum eloq_page_type {
	ELOQ_PAGE_INDEX_INNER = 0, /* children are index pages */
	ELOQ_PAGE_INDEX_LEAF = 1,  /* children are data pages */
	ELOQ_PAGE_DATA = 2,
	ELOQ_PAGE_OVERFLOW = 3,
};

/* Offsets that all pages share. */
enum {
	ELOQ_PAGE_CHECKSUM = 0, /* u64 over all bytes behind it, unused ones included */
	ELOQ_PAGE_TYPE = 8,	/* u8 */
	ELOQ_PAGE_LENGTH = 9,	/* u16: offset of the first unused byte; overflow: value bytes */
};

/* Whether @page_bytes can be the page size of a store: a multiple of 4096, 4096 to 61440. */
static inline bool eloq_page_bytes_ok(uint64_t page_bytes)
{
	return page_bytes >= ELOQ_PAGE_BYTES_MIN && page_bytes <= ELOQ_PAGE_BYTES_MAX &&
	       page_bytes % ELOQ_PAGE_BYTES_MIN == 0;
}

/* The type byte as it is; only a checked page is sure to have one of enum eloq_page_type. */
static inline uint8_t eloq_page_type(const uint8_t *page)
{
	return page[ELOQ_PAGE_TYPE];
}

/* Writes the checksum. Every change of the page needs a new seal. */
void eloq_page_seal(uint8_t *page, uint32_t page_bytes);

/* Whether the checksum is right. */
bool eloq_page_verify(const uint8_t *page, uint32_t page_bytes);

/* The structural check of whatever type the page says it is; false for an unknown type. */
bool eloq_page_check(const uint8_t *page, uint32_t page_bytes);

#endif
