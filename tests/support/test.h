/*
 * test.h - tests named by the behaviour they hold us to, over Check.
 *
 *   TEST(a_header_of_zeroes_is_not_a_record)
 *   {
 *           ck_assert_int_eq(...);
 *   }
 *
 * Every test registers itself before main(), which comes from test.c. A test program takes an
 * optional pattern (part of a name) and prints Check's summary; CK_FORK=no keeps tests in one
 * process. TEST_SEED=N replaces the seed that test_seed() would draw; it is printed either way.
 */
#ifndef ELOQ_TESTS_SUPPORT_TEST_H
#define ELOQ_TESTS_SUPPORT_TEST_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>

struct test_entry {
	const TTest *test;
	const char *name;
	struct test_entry *next;
};

void test_register(struct test_entry *entry);

/* Ends the running test as skipped, with the reason, which the summary counts and shows. */
#define TEST_SKIP(...) test_skip(__VA_ARGS__)
void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A seed for a random test: from TEST_SEED, else fresh; printed so that a failure can be replayed.
 */
uint64_t test_seed(void);

/* A new empty directory, removed with all it holds when the test program ends. Never NULL. */
const char *test_tmpdir(void);

#define TEST(name)                                                              \
	static void name(int _i);                                               \
	static const TTest name##_ttest = { #name, name, __FILE__, __LINE__ };  \
	static struct test_entry name##_entry = { &name##_ttest, #name, NULL }; \
	__attribute__((constructor)) static void name##_register(void)          \
	{                                                                       \
		test_register(&name##_entry);                                   \
	}                                                                       \
	static void name(int _i __attribute__((unused)))

#endif
