/*
 * log_test.c - what clients provoke does not fill the log.
 */
#include "common/clock.h"
#include "common/log.h"
#include "tests/support/test.h"

TEST(a_second_has_a_few_lines_and_the_next_one_tells_what_was_left_out)
{
	struct eloq_log_limit limit = { 0 };
	unsigned written = 0, left_out = 99;

	for (unsigned i = 0; i < 100; i++)
		written += eloq_log_allowed(&limit, ELOQ_NS_PER_S + i, &left_out);
	ck_assert_uint_eq(written, ELOQ_LOG_LINES_PER_S);
	ck_assert_uint_eq(left_out, 0);
	ck_assert(eloq_log_allowed(&limit, 2 * ELOQ_NS_PER_S, &left_out));
	ck_assert_uint_eq(left_out, 100 - ELOQ_LOG_LINES_PER_S);
	ck_assert(eloq_log_allowed(&limit, 2 * ELOQ_NS_PER_S, &left_out));
	ck_assert_uint_eq(left_out, 0);
}
