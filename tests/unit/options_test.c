/*
 * options_test.c - what can be said to eloqstored, and what is refused by name.
 */
#include "daemon/options.h"

#include "common/limits.h"
#include "tests/support/test.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 16 };

static struct eloq_options options;
static struct eloq_errinfo error;

/* Parses a NULL-terminated list of arguments. */
static int parse(const char *const *args)
{
	char *argv[ARGS_MAX] = { (char *)"eloqstored" };
	int argc = 1;

	while (args[argc - 1]) {
		ck_assert_int_lt(argc, ARGS_MAX);
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
		argc++;
	}
	memset(&error, 0, sizeof(error));
	return eloq_options_parse(&options, argc, argv, &error);
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void check_refused(int r, int code, const char *words)
{
	ck_assert_int_eq(r, code);
	ck_assert_msg(strstr(error.text, words), "\"%s\" does not say \"%s\"", error.text, words);
}

static const char *write_ini(const char *text)
{
	static char path[512];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/its.ini", test_tmpdir());
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	return path;
}

TEST(without_arguments_everything_has_its_default)
{
	cpu_set_t cpus;
	uint64_t half;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	half = eloq_max_u64((uint64_t)CPU_COUNT(&cpus) / 2, 1);
	ck_assert_int_eq(parse((const char *const[]){ NULL }), 0);
	ck_assert_str_eq(options.data, "./eloq-data");
	ck_assert_uint_eq(options.num_threads, eloq_min_u64(half, ELOQ_SHARDS_MAX));
	ck_assert_uint_eq(options.data_page_size, 4096);
	ck_assert_uint_eq(options.overflow_pointers, 16);
	ck_assert_uint_eq(options.lane_memory, UINT64_C(256) << 20);
	ck_assert_uint_eq(options.request_ring_size, ELOQ_REQ_RING_BYTES_DEFAULT);
	ck_assert_uint_eq(options.answer_ring_size, ELOQ_ANS_RING_BYTES_DEFAULT);
	ck_assert_uint_eq(options.heartbeat_timeout_ns, UINT64_C(10000000000));
	ck_assert_uint_eq(options.buffer_pool_size, options.cache_size / options.num_threads);
	ck_assert_str_eq(options.io_backend, "auto");
	ck_assert_ptr_null(options.socket);
	ck_assert_uint_eq(options.store_path.count, 0);
	ck_assert(!eloq_options_said(&options, "data_page_size"));
	eloq_options_clear(&options);
}

/* The ini that lies beside a data directory which the reference wrote. */
TEST(an_ini_of_the_reference_is_read_with_its_units_and_relative_paths)
{
	const char *path = write_ini("[run]\n"
				     "archive_interval_secs = 0\n"
				     "buffer_pool_size = 8MB\n"
				     "data_page_restart_interval = 16\n"
				     "file_amplify_factor = 2\n"
				     "manifest_limit = 8388608\n"
				     "num_retained_archives = 0\n"
				     "num_threads = 2\n"
				     "[permanent]\n"
				     "data_append_mode = true\n"
				     "data_file_size = 64KB\n"
				     "data_page_size = 4KB\n"
				     "enable_compression = false\n"
				     "overflow_pointers = 16\n"
				     "store_path = store\n");
	char expected[600], *note;

	ck_assert_int_eq(PARSE("--config", path), 0);
	ck_assert_uint_eq(options.num_threads, 2);
	ck_assert_uint_eq(options.buffer_pool_size, 8 << 20);
	ck_assert_uint_eq(options.cache_size, 16 << 20);
	ck_assert_uint_eq(options.data_file_size, 65536);
	ck_assert(options.data_append_mode);
	ck_assert(eloq_options_said(&options, "data_page_size"));
	(void)snprintf(expected, sizeof(expected), "%.*sstore",
		       (int)(strrchr(path, '/') + 1 - path), path);
	ck_assert_uint_eq(options.store_path.count, 1);
	ck_assert_str_eq(options.store_path.paths[0], expected);
	note = eloq_options_note(&options);
	ck_assert_ptr_nonnull(strstr(note, "archive_interval_secs"));
	ck_assert_ptr_nonnull(strstr(note, "file_amplify_factor"));
	ck_assert_ptr_null(strstr(note, "enable_compression"));
	ck_assert_ptr_null(strstr(note, "num_threads"));
	free(note);
	eloq_options_clear(&options);
}

TEST(the_command_line_wins_over_the_file)
{
	const char *path = write_ini("[run]\nnum_threads = 2\n[server]\nio_backend = uring\n");

	ck_assert_int_eq(PARSE("--num_threads", "3", "--config", path, "--io_backend=pool"), 0);
	ck_assert_uint_eq(options.num_threads, 3);
	ck_assert_str_eq(options.io_backend, "pool");
	eloq_options_clear(&options);
}

TEST(what_is_wrong_in_a_file_is_refused_with_its_line)
{
	check_refused(PARSE("--config", write_ini("[run]\nnum_threads = 2\nnum_treads = 2\n")),
		      -ELOQ_ECONFIG, "its.ini:3: unknown key \"num_treads\"");
	check_refused(PARSE("--config", write_ini("[run]\nmanifest_limit = 8MB\n")), -ELOQ_ECONFIG,
		      "its.ini:2: [run] manifest_limit");
	check_refused(PARSE("--config", write_ini("[run]\n\nnum_threads = 65\n")), -ELOQ_ECONFIG,
		      "its.ini:3: [run] num_threads: \"65\" is out of range 1..64");
	check_refused(PARSE("--config", write_ini("[permanent]\ndata_page_size = 5000\n")),
		      -ELOQ_ECONFIG, "its.ini:2: [permanent] data_page_size");
	check_refused(PARSE("--config", write_ini("[permanent]\ndata_page_size = 64KB\n")),
		      -ELOQ_ECONFIG, "out of range 4KB..60KB");
	check_refused(PARSE("--config", write_ini("[permanent]\noverflow_pointers = 129\n")),
		      -ELOQ_ECONFIG, "out of range 1..128");
	check_refused(PARSE("--config", write_ini("[server]\nanswer_ring_size = 48KB\n")),
		      -ELOQ_ECONFIG, "not a power of two");
	check_refused(PARSE("--config", write_ini("[server]\nio_backend = aio\n")), -ELOQ_ECONFIG,
		      "none of auto, uring, pool");
	check_refused(PARSE("--config", "/nonexistent/x.ini"), -ENOENT, "/nonexistent/x.ini");
}

TEST(cloud_keys_are_refused_by_name_unless_they_ask_for_nothing)
{
	check_refused(PARSE("--config",
			    write_ini("[permanent]\nstore_path = s\ncloud_store_path = b/p\n")),
		      -ELOQ_EUNSUPPORTED, "its.ini:3: [permanent] cloud_store_path: not built");
	check_refused(PARSE("--max_cloud_concurrency", "7"), -ELOQ_EUNSUPPORTED,
		      "--max_cloud_concurrency: not built");
	ck_assert_int_eq(PARSE("--config", write_ini("[run]\nmax_cloud_concurrency = 20\n")), 0);
	eloq_options_clear(&options);
}

TEST(arguments_that_nobody_knows_are_not_configuration)
{
	check_refused(PARSE("--num_treads", "2"), -EINVAL, "--num_treads");
	check_refused(PARSE("stray"), -EINVAL, "stray");
	check_refused(PARSE("--data"), -EINVAL, "--data");
	check_refused(PARSE("--data", ""), -EINVAL, "--data");
	check_refused(PARSE("--num_threads", "two"), -ELOQ_ECONFIG, "--num_threads");
}

TEST(help_and_version_need_nothing_else_to_be_right)
{
	ck_assert_int_eq(PARSE("--help", "stray"), 0);
	ck_assert_int_eq(options.action, ELOQ_OPTIONS_HELP);
	eloq_options_clear(&options);
	ck_assert_int_eq(PARSE("--version"), 0);
	ck_assert_int_eq(options.action, ELOQ_OPTIONS_VERSION);
	eloq_options_clear(&options);
	ck_assert_int_eq(PARSE("--check-config"), 0);
	ck_assert_int_eq(options.action, ELOQ_OPTIONS_CHECK);
	eloq_options_clear(&options);
}

TEST(several_store_paths_from_the_command_line_are_made_absolute)
{
	char *here = getcwd(NULL, 0), expected[600];

	ck_assert_int_eq(PARSE("--store_path", "/a:b/c", "--data=/d"), 0);
	ck_assert_uint_eq(options.store_path.count, 2);
	ck_assert_str_eq(options.store_path.paths[0], "/a");
	(void)snprintf(expected, sizeof(expected), "%s/b/c", here);
	ck_assert_str_eq(options.store_path.paths[1], expected);
	ck_assert_str_eq(options.data, "/d");
	free(here);
	eloq_options_clear(&options);
}

TEST(cache_sizes_for_the_store_and_for_a_shard_must_agree)
{
	ck_assert_int_eq(PARSE("--num_threads", "4", "--cache_size", "64MB"), 0);
	ck_assert_uint_eq(options.buffer_pool_size, 16 << 20);
	eloq_options_clear(&options);
	check_refused(
		PARSE("--num_threads", "4", "--cache_size", "64MB", "--buffer_pool_size", "32MB"),
		-ELOQ_ECONFIG, "--cache_size");
	ck_assert_int_eq(
		PARSE("--num_threads", "4", "--cache_size", "64MB", "--buffer_pool_size", "16MB"),
		0);
	eloq_options_clear(&options);
}

TEST(the_printed_configuration_reads_back_as_the_same)
{
	char *text, *again;

	ck_assert_int_eq(PARSE("--num_threads", "3", "--data_page_size", "16KB", "--log_level",
			       "warn", "--store_path", "/a:/b", "--heartbeat_timeout", "250ms",
			       "--data_append_mode", "true"),
			 0);
	text = eloq_options_text(&options);
	ck_assert_ptr_nonnull(text);
	eloq_options_clear(&options);
	ck_assert_int_eq(PARSE("--config", write_ini(text)), 0);
	ck_assert_uint_eq(options.data_page_size, 16384);
	ck_assert_uint_eq(options.heartbeat_timeout_ns, 250000000);
	again = eloq_options_text(&options);
	ck_assert(strcmp(text, again) == 0); /* too long for a message */
	free(text);
	free(again);
	eloq_options_clear(&options);
}

TEST(help_names_every_key_that_has_an_effect)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	ck_assert_ptr_nonnull(out);
	eloq_options_help(out);
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_ptr_nonnull(strstr(text, "--num_threads VALUE"));
	ck_assert_ptr_nonnull(strstr(text, "--store_path VALUE"));
	ck_assert_ptr_nonnull(strstr(text, "--io_backend VALUE"));
	ck_assert_ptr_null(strstr(text, "cloud_"));
	ck_assert_ptr_null(strstr(text, "init_page_count"));
	free(text);
}

TEST(a_data_files_size_counts_in_powers_of_two_of_pages)
{
	ck_assert_uint_eq(eloq_options_file_shift(UINT64_C(1) << 30, 4096), 18);
	ck_assert_uint_eq(eloq_options_file_shift(65536, 4096), 4);
	ck_assert_uint_eq(eloq_options_file_shift(65535, 4096), 3);
	ck_assert_uint_eq(eloq_options_file_shift(4096, 16384), 0);
	ck_assert_uint_eq(eloq_options_file_shift(UINT64_C(4) << 30, 4096), 20);
}
