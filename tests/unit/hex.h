/*
 * hex.h - golden bytes as the format document prints them.
 */
#ifndef ELOQ_TESTS_UNIT_HEX_H
#define ELOQ_TESTS_UNIT_HEX_H

#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

static inline int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/*
 * @bytes bytes from malloc(), so that a sanitizer sees what is read behind them: the hex digits of
 * @hex, blanks ignored, then zeroes.
 */
static inline uint8_t *hex_bytes(const char *hex, size_t bytes)
{
	uint8_t *p = calloc(1, bytes);
	size_t digits = 0;

	ck_assert_ptr_nonnull(p);
	for (; *hex; hex++) {
		int digit = hex_digit(*hex);

		if (digit < 0)
			continue;
		if (digits / 2 >= bytes)
			ck_abort_msg("more hex than %zu bytes", bytes);
		p[digits / 2] = (uint8_t)(p[digits / 2] << 4 | digit);
		digits++;
	}
	ck_assert_uint_eq(digits % 2, 0);
	return p;
}

#endif
