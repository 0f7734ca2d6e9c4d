/*
 * test.c - main() of every test program: runs what registered itself. See test.h.
 *
 * Check runs each test in a process of its own, so one that crashes fails alone. Skips are told
 * to the parent through a file, as Check knows only passed and failed.
 */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEST_PATH_BYTES = 256, TEST_TIMEOUT_S = 300 };

static struct test_entry *test_entries;
static char test_root[TEST_PATH_BYTES];
static unsigned test_tmpdirs;

void test_register(struct test_entry *entry)
{
	struct test_entry **at = &test_entries;

	while (*at && strcmp((*at)->name, entry->name) < 0)
		at = &(*at)->next;
	entry->next = *at;
	*at = entry;
}

static FILE *test_skip_file(const char *mode)
{
	char path[TEST_PATH_BYTES + 16];

	(void)snprintf(path, sizeof(path), "%s/skips", test_root);
	return fopen(path, mode);
}

void test_skip(const char *format, ...)
{
	FILE *file = test_skip_file("a");
	va_list args;

	if (file) {
		va_start(args, format);
		(void)vfprintf(file, format, args);
		va_end(args);
		(void)fputc('\n', file);
		(void)fclose(file);
	}
	exit(0);
}

uint64_t test_seed(void)
{
	const char *text = getenv("TEST_SEED");
	uint64_t seed = 0;

	if (text)
		seed = strtoull(text, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) < 0)
		seed = (uint64_t)getpid();
	printf("TEST_SEED=%llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	return seed;
}

/* A name that was handed out stays valid and reachable until the program ends. */
struct test_tmpdir {
	struct test_tmpdir *next;
	char path[TEST_PATH_BYTES + 32];
};

static struct test_tmpdir *test_tmpdirs_made;

const char *test_tmpdir(void)
{
	struct test_tmpdir *made = malloc(sizeof(*made));

	ck_assert_ptr_nonnull(made);
	(void)snprintf(made->path, sizeof(made->path), "%s/%d-%u", test_root, (int)getpid(),
		       test_tmpdirs++);
	ck_assert_int_eq(mkdir(made->path, 0700), 0);
	made->next = test_tmpdirs_made;
	test_tmpdirs_made = made;
	return made->path;
}

static int test_remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static unsigned test_print_skips(void)
{
	FILE *file = test_skip_file("r");
	char line[512];
	unsigned skips = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		printf("skipped: %s", line);
		skips++;
	}
	(void)fclose(file);
	return skips;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : "";
	const char *base = getenv("TMPDIR");
	const char *name = strrchr(argv[0], '/');
	Suite *suite = suite_create(name ? name + 1 : argv[0]);
	TCase *tcase = tcase_create("");
	SRunner *runner;
	unsigned skips;
	int run, failed;

	(void)snprintf(test_root, sizeof(test_root), "%s/eloq-test-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(test_root)) {
		fprintf(stderr, "mkdtemp %s: %s\n", test_root, strerror(errno));
		return EXIT_FAILURE;
	}
	tcase_set_timeout(tcase, TEST_TIMEOUT_S);
	for (struct test_entry *e = test_entries; e; e = e->next)
		if (strstr(e->name, pattern))
			tcase_add_test(tcase, e->test);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	run = srunner_ntests_run(runner);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	skips = test_print_skips();
	(void)nftw(test_root, test_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	printf("%d passed, %d failed, %u skipped\n", run - failed - (int)skips, failed, skips);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
