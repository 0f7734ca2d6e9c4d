/*
 * err_test.c - every code has a name and words, and no two are one.
 */
#include "common/err.h"

#include "tests/support/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(err_codes_have_distinct_numbers_names_and_texts)
{
#define CODE(name, number, text) -ELOQ_##name,
	static const int codes[] = { ELOQ_ERR_MAP(CODE) };
#undef CODE

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(codes); i++) {
		ck_assert_int_lt(codes[i], -5000);
		ck_assert_str_ne(eloq_err_text(codes[i]), eloq_err_text(-999999));
		ck_assert_ptr_eq(eloq_err_text(codes[i]), eloq_err_text(-codes[i]));
		for (size_t j = 0; j < i; j++) {
			ck_assert_int_ne(codes[i], codes[j]);
			ck_assert_str_ne(eloq_err_name(codes[i]), eloq_err_name(codes[j]));
			ck_assert_str_ne(eloq_err_text(codes[i]), eloq_err_text(codes[j]));
		}
	}
}

TEST(err_texts_cover_errno_and_the_unknown)
{
	ck_assert_str_eq(eloq_err_name(-ENOENT), "ENOENT");
	ck_assert_str_eq(eloq_err_text(-ENOENT), "No such file or directory");
	ck_assert_str_eq(eloq_err_name(-ELOQ_ECORRUPT), "ECORRUPT");
	ck_assert_str_eq(eloq_err_name(-999999), "EUNKNOWN");
	ck_assert_str_eq(eloq_err_text(-999999), "unknown error");
}

TEST(err_fail_returns_its_code_and_fills_the_words)
{
	struct eloq_errinfo err = { 0 };

	ck_assert_int_eq(eloq_fail(&err, -ELOQ_ECORRUPT, "page %u", 7u), -ELOQ_ECORRUPT);
	ck_assert_int_eq(err.code, -ELOQ_ECORRUPT);
	ck_assert_str_eq(err.text, "page 7");
	ck_assert_int_eq(eloq_fail_errno(&err, -ENOENT, "open %s", "x"), -ENOENT);
	ck_assert_int_eq(err.code, -ENOENT);
	ck_assert_str_eq(err.text, "open x: No such file or directory");
	ck_assert_int_eq(eloq_fail(NULL, -EIO, "nobody asks"), -EIO);
	ck_assert_int_eq(eloq_fail_errno(NULL, -EIO, "nobody asks"), -EIO);
}

TEST(err_words_that_are_too_long_are_cut_not_overrun)
{
	struct {
		struct eloq_errinfo err;
		char after[16];
	} box = { .after = "untouched" };
	char text[2 * ELOQ_ERRINFO_BYTES];

	for (size_t bytes = ELOQ_ERRINFO_BYTES - 30; bytes < ELOQ_ERRINFO_BYTES + 5; bytes++) {
		memset(text, 'x', bytes);
		text[bytes] = '\0';
		(void)eloq_fail(&box.err, -EIO, "%s", text);
		ck_assert_uint_eq(strlen(box.err.text),
				  bytes < ELOQ_ERRINFO_BYTES ? bytes : ELOQ_ERRINFO_BYTES - 1);
		(void)eloq_fail_errno(&box.err, -EIO, "%s", text);
		ck_assert_uint_lt(strlen(box.err.text), ELOQ_ERRINFO_BYTES);
		ck_assert_str_eq(box.after, "untouched");
	}
}

TEST(assertion_that_fails_aborts_in_every_build)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		(void)close(STDERR_FILENO);
		eloq_assert(getpid() == 0);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
