/*
 * conf_test.c - configuration: what is right arrives, what is wrong is named with its place.
 */
#include "common/conf.h"

#include "common/clock.h"
#include "common/limits.h"
#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct settings {
	bool append_mode;
	uint64_t num_threads;
	uint64_t cache_bytes;
	uint64_t interval_ns;
	char *name;
	char *socket;
	struct eloq_conf_paths store_path;
};

#define FIELD(type, name) (type), offsetof(struct settings, name)

static const struct eloq_conf_key keys[] = {
	{ "run", "num_threads", FIELD(ELOQ_CONF_U64, num_threads), 1, 64, "1", "Shards", NULL },
	{ "run", "buffer_pool_size", FIELD(ELOQ_CONF_SIZE, cache_bytes), 4096, UINT64_C(1) << 40,
	  "32MB", "Page cache of each shard", NULL },
	{ "run", "max_cloud_concurrency", ELOQ_CONF_U64, 0, 1, 0, "20", "Cloud requests",
	  "the cloud tier" },
	{ "permanent", "data_append_mode", FIELD(ELOQ_CONF_BOOL, append_mode), 0, 0, "false",
	  "Never write in place", NULL },
	{ "permanent", "store_path", FIELD(ELOQ_CONF_PATHS, store_path), 0, 4, NULL,
	  "Directories of the data", NULL },
	{ "permanent", "cloud_store_path", ELOQ_CONF_STRING, 0, 0, 0, NULL, "Bucket",
	  "the cloud tier" },
	{ "server", "interval", FIELD(ELOQ_CONF_DURATION, interval_ns), ELOQ_NS_PER_MS, 0, "250ms",
	  "How often", NULL },
	{ "server", "name", FIELD(ELOQ_CONF_STRING, name), 1, 8, NULL, "A name", NULL },
	{ "server", "socket", FIELD(ELOQ_CONF_PATH, socket), 0, 0, NULL, "Control socket", NULL },
};

static struct settings settings;
static struct eloq_conf conf;
static struct eloq_errinfo err;

static void begin(void)
{
	memset(&settings, 0xff, sizeof(settings)); /* the defaults must not read the fields */
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(eloq_conf_defaults(&conf, keys, ELOQ_ARRAY_SIZE(keys), &settings), 0);
}

static int parse_as(const char *path, const char *text)
{
	return eloq_conf_parse_text(&conf, text, strlen(text), path, &err);
}

static int parse(const char *text)
{
	return parse_as("e.ini", text);
}

TEST(conf_without_a_file_is_the_defaults)
{
	begin();
	ck_assert_int_eq(parse(""), 0);
	ck_assert_uint_eq(settings.num_threads, 1);
	ck_assert_uint_eq(settings.cache_bytes, 32 << 20);
	ck_assert_uint_eq(settings.interval_ns, 250 * ELOQ_NS_PER_MS);
	ck_assert(!settings.append_mode);
	ck_assert_ptr_null(settings.name);
	ck_assert_ptr_null(settings.socket);
	ck_assert_uint_eq(settings.store_path.count, 0);
	ck_assert_int_eq(eloq_conf_source(&conf, "num_threads"), ELOQ_CONF_FROM_DEFAULT);
	eloq_conf_clear(&conf);
}

TEST(conf_file_sets_every_type)
{
	begin();
	ck_assert_msg(parse_as("etc/e.ini", "\xef\xbb\xbf; comment\r\n"
					    "[Permanent]\r\n"
					    "data_append_mode = ON\r\n"
					    "store_path = d0:/d1   d2:\r\n"
					    "\r\n"
					    "# comment\r\n"
					    "[run]\n"
					    "num_threads=64 ; all of them\n"
					    "   buffer_pool_size: 8 mb\n"
					    "[server]\n"
					    "interval = 2m\n"
					    "name = a = b\n"
					    "socket = run/sock") == 0,
		      "%s", err.text);
	ck_assert(settings.append_mode);
	ck_assert_uint_eq(settings.num_threads, 64);
	ck_assert_uint_eq(settings.cache_bytes, 8 << 20);
	ck_assert_uint_eq(settings.interval_ns, 120 * ELOQ_NS_PER_S);
	ck_assert_str_eq(settings.name, "a = b");
	ck_assert_str_eq(settings.socket, "etc/run/sock");
	ck_assert_uint_eq(settings.store_path.count, 3);
	ck_assert_str_eq(settings.store_path.paths[0], "etc/d0");
	ck_assert_str_eq(settings.store_path.paths[1], "/d1");
	ck_assert_str_eq(settings.store_path.paths[2], "etc/d2");
	ck_assert_int_eq(eloq_conf_source(&conf, "name"), ELOQ_CONF_FROM_FILE);
	eloq_conf_clear(&conf);
	ck_assert_ptr_null(settings.name);
	ck_assert_ptr_null(settings.store_path.paths);
}

TEST(conf_units_are_powers_of_1024_and_of_time)
{
	static const struct {
		const char *key, *text;
		uint64_t value;
	} cases[] = {
		{ "buffer_pool_size", "4096", 4096 },
		{ "buffer_pool_size", "4kb", 4096 },
		{ "buffer_pool_size", "3Mb", 3 << 20 },
		{ "buffer_pool_size", "2GB", UINT64_C(2) << 30 },
		{ "buffer_pool_size", "1TB", UINT64_C(1) << 40 },
		{ "interval", "1000000ns", 1000000 },
		{ "interval", "1000us", 1000000 },
		{ "interval", "7ms", 7000000 },
		{ "interval", "3 S", UINT64_C(3000000000) },
		{ "interval", "5m", UINT64_C(300000000000) },
	};

	begin();
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(cases); i++) {
		ck_assert_msg(eloq_conf_set(&conf, cases[i].key, cases[i].text, &err) == 0, "%s",
			      err.text);
		ck_assert_uint_eq(*cases[i].key == 'i' ? settings.interval_ns
						       : settings.cache_bytes,
				  cases[i].value);
	}
	eloq_conf_clear(&conf);
}

/* Each mistake stands alone in a file whose first lines are right. */
TEST(conf_mistake_in_a_file_is_named_with_line_key_and_range)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "[runn]\nnum_threads = 1\n", "e.ini:2: unknown section [runn]" },
		{ "[runn]\nfoo = 1\n", "e.ini:2: unknown section [runn]" },
		{ "\n[run]\nfoo = 1\n", "e.ini:3: unknown key \"foo\" in section [run]" },
		{ "[server]\nnum_threads = 1\n",
		  "e.ini:2: key \"num_threads\" belongs to section [run], not to [server]" },
		{ "num_threads = 1\n", "e.ini:1: key \"num_threads\" stands before any [section]" },
		{ "[run]\nnum_threads = 0\n",
		  "e.ini:2: [run] num_threads: \"0\" is out of range 1..64" },
		{ "[run]\n;\n;\nnum_threads = 65\n",
		  "e.ini:4: [run] num_threads: \"65\" is out of range 1..64" },
		{ "[run]\nnum_threads = 18446744073709551617\n",
		  "e.ini:2: [run] num_threads: \"18446744073709551617\" is out of range 1..64" },
		{ "[run]\nnum_threads = -1\n",
		  "e.ini:2: [run] num_threads: \"-1\" is not a number: give a plain number" },
		{ "[run]\nnum_threads =\n",
		  "e.ini:2: [run] num_threads: \"\" is not a number: give a plain number" },
		{ "[run]\nnum_threads = 1KB\n",
		  "e.ini:2: [run] num_threads: \"1KB\" has a wrong unit: give a plain number" },
		{ "[run]\nnum_threads = 1\n\nnum_threads = 2\n",
		  "e.ini:4: [run] num_threads: it was set in line 2 already" },
		{ "[run]\nbuffer_pool_size = 1KB\n",
		  "e.ini:2: [run] buffer_pool_size: \"1KB\" is out of range 4KB..1TB" },
		{ "[run]\nbuffer_pool_size = 99999999TB\n",
		  "e.ini:2: [run] buffer_pool_size: \"99999999TB\" is out of range 4KB..1TB" },
		{ "[run]\nbuffer_pool_size = 8ms\n",
		  "e.ini:2: [run] buffer_pool_size: \"8ms\" has a wrong unit: give bytes, or a "
		  "number with KB, MB, GB or TB" },
		{ "[server]\ninterval = 10\n",
		  "e.ini:2: [server] interval: \"10\" has no unit: give a number with ns, us, ms, "
		  "s or m" },
		{ "[server]\ninterval = 10MB\n",
		  "e.ini:2: [server] interval: \"10MB\" has a wrong unit: give a number with ns, "
		  "us, ms, s or m" },
		{ "[server]\ninterval = 5us\n",
		  "e.ini:2: [server] interval: \"5us\" is out of range at least 1ms" },
		{ "[server]\ninterval = 99999999999999999m\n",
		  "e.ini:2: [server] interval: \"99999999999999999m\" is out of range 0..2^64-1" },
		{ "[server]\nname = 123456789\n",
		  "e.ini:2: [server] name: \"123456789\" is out of range 1..8 bytes" },
		{ "[permanent]\ndata_append_mode = maybe\n",
		  "e.ini:2: [permanent] data_append_mode: \"maybe\" is neither true nor false" },
		{ "[permanent]\nstore_path = a:b:c:d:e\n",
		  "e.ini:2: [permanent] store_path: \"a:b:c:d:e\" is out of range 0..4 paths" },
		{ "[run]\nnum_threads = 1\nnonsense\n[run]\nfoo = 1\n",
		  "e.ini:3: neither [section], nor key = value, nor a comment" },
		{ "[run\n", "e.ini:1: neither [section], nor key = value, nor a comment" },
		{ "[server]\nname = a\x01"
		  "b\n",
		  "e.ini:2: [server] name: the value is too long, or has a control character, "
		  "blanks around it, or a ';' where a comment would start" },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(cases); i++) {
		begin();
		ck_assert_int_eq(parse(cases[i].text), -ELOQ_ECONFIG);
		ck_assert_str_eq(err.text, cases[i].words);
		ck_assert_int_eq(err.code, -ELOQ_ECONFIG);
		eloq_conf_clear(&conf);
	}
}

TEST(conf_key_that_is_not_built_is_refused_unless_it_asks_for_nothing)
{
	begin();
	ck_assert_int_eq(parse("[run]\nmax_cloud_concurrency = 20\n"
			       "[permanent]\ncloud_store_path =\n"),
			 0);
	eloq_conf_clear(&conf);

	begin();
	ck_assert_int_eq(parse("[run]\nmax_cloud_concurrency = 21\n"), -ELOQ_EUNSUPPORTED);
	ck_assert_str_eq(err.text,
			 "e.ini:2: [run] max_cloud_concurrency: not built: the cloud tier");
	eloq_conf_clear(&conf);

	begin();
	ck_assert_int_eq(eloq_conf_set(&conf, "cloud_store_path", "s3://b", &err),
			 -ELOQ_EUNSUPPORTED);
	ck_assert_str_eq(err.text, "--cloud_store_path: not built: the cloud tier");
	eloq_conf_clear(&conf);
}

/* libinih would take the rest of a long line for the next one, and end the text at a NUL. */
TEST(conf_line_that_is_too_long_or_holds_a_nul_is_refused)
{
	char text[2 * ELOQ_CONF_LINE_BYTES_MAX];
	char words[128];
	int start = snprintf(text, sizeof(text), "[server]\n; ");

	begin();
	memset(text + start, 'x', ELOQ_CONF_LINE_BYTES_MAX);
	ck_assert_int_eq(eloq_conf_parse_text(&conf, text,
					      (size_t)start + ELOQ_CONF_LINE_BYTES_MAX - 3, "e.ini",
					      &err),
			 0);
	eloq_conf_clear(&conf);

	begin();
	ck_assert_int_eq(eloq_conf_parse_text(&conf, text,
					      (size_t)start + ELOQ_CONF_LINE_BYTES_MAX - 2, "e.ini",
					      &err),
			 -ELOQ_ECONFIG);
	(void)snprintf(words, sizeof(words),
		       "e.ini:2: the line has a NUL byte or more than %d bytes",
		       ELOQ_CONF_LINE_BYTES_MAX - 1);
	ck_assert_str_eq(err.text, words);
	eloq_conf_clear(&conf);

	begin();
	ck_assert_int_eq(eloq_conf_parse_text(&conf, "\n[run]\nnum\0threads=1", 20, "e.ini", &err),
			 -ELOQ_ECONFIG);
	ck_assert_int_eq(strncmp(err.text, "e.ini:3: the line has a NUL", 27), 0);
	eloq_conf_clear(&conf);
}

TEST(conf_command_line_wins_over_the_file_whichever_came_first)
{
	begin();
	ck_assert_int_eq(eloq_conf_set(&conf, "num_threads", "7", &err), 0);
	ck_assert_int_eq(parse("[run]\nnum_threads = 3\nbuffer_pool_size = 1MB\n"), 0);
	ck_assert_int_eq(eloq_conf_set(&conf, "buffer_pool_size", "2MB", &err), 0);
	ck_assert_int_eq(eloq_conf_set(&conf, "buffer_pool_size", "3MB", &err), 0);
	ck_assert_uint_eq(settings.num_threads, 7);
	ck_assert_uint_eq(settings.cache_bytes, 3 << 20);
	ck_assert_int_eq(eloq_conf_source(&conf, "num_threads"), ELOQ_CONF_FROM_COMMAND_LINE);
	ck_assert_int_eq(eloq_conf_source(&conf, "interval"), ELOQ_CONF_FROM_DEFAULT);
	eloq_conf_clear(&conf);

	/* What the file says is judged all the same. */
	begin();
	ck_assert_int_eq(eloq_conf_set(&conf, "num_threads", "7", &err), 0);
	ck_assert_int_eq(parse("[run]\nnum_threads = 99\n"), -ELOQ_ECONFIG);
	ck_assert_str_eq(err.text, "e.ini:2: [run] num_threads: \"99\" is out of range 1..64");
	eloq_conf_clear(&conf);
}

TEST(conf_arguments_are_taken_in_both_forms_and_others_are_left)
{
	char *argv[] = {
		"x", "--num_threads", "3", "--store_path=a:b", "--other", "1", "--interval"
	};
	int index = 0;

	begin();
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), 0);
	index = 1;
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), 1);
	ck_assert_int_eq(index, 3);
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), 1);
	ck_assert_int_eq(index, 4);
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), 0);
	ck_assert_int_eq(index, 4);
	index = 6;
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), -ELOQ_ECONFIG);
	ck_assert_str_eq(err.text, "--interval: a value must follow");
	index = 7;
	ck_assert_int_eq(eloq_conf_set_argument(&conf, 7, argv, &index, &err), 0);
	ck_assert_uint_eq(settings.num_threads, 3);
	ck_assert_uint_eq(settings.store_path.count, 2);
	ck_assert_str_eq(settings.store_path.paths[1], "b"); /* relative to where we are */
	eloq_conf_clear(&conf);
}

TEST(conf_argument_that_is_wrong_is_named_with_its_range)
{
	static const char *const values[] = { " a", "a ", "a ;b", ";a", "a\nb" };

	begin();
	ck_assert_int_eq(eloq_conf_set(&conf, "num_threads", "99", &err), -ELOQ_ECONFIG);
	ck_assert_str_eq(err.text, "--num_threads: \"99\" is out of range 1..64");
	ck_assert_int_eq(eloq_conf_set(&conf, "threads", "1", &err), -ELOQ_ECONFIG);
	ck_assert_str_eq(err.text, "--threads: there is no such key");
	ck_assert_uint_eq(settings.num_threads, 1);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(values); i++) /* no ini could hold these */
		ck_assert_int_eq(eloq_conf_set(&conf, "name", values[i], &err), -ELOQ_ECONFIG);
	ck_assert_ptr_null(settings.name);
	eloq_conf_clear(&conf);
}

TEST(conf_checks_of_the_caller_name_the_place_too)
{
	begin();
	ck_assert_int_eq(parse("\n\n[run]\nnum_threads = 3\n"), 0);
	ck_assert_int_eq(eloq_conf_set(&conf, "name", "x", &err), 0);
	ck_assert_int_eq(eloq_conf_fail(&conf, &err, "num_threads", "must be %d", 4),
			 -ELOQ_ECONFIG);
	ck_assert_str_eq(err.text, "e.ini:4: [run] num_threads: must be 4");
	(void)eloq_conf_fail(&conf, &err, "name", "is taken");
	ck_assert_str_eq(err.text, "--name: is taken");
	(void)eloq_conf_fail(&conf, &err, "interval", "is too long");
	ck_assert_str_eq(err.text, "[server] interval: is too long");
	eloq_conf_clear(&conf);
}

/* The caller frees. */
static char *print(void)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(eloq_conf_print(&conf, out), 0);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

TEST(conf_printed_and_read_again_is_the_same)
{
	char *first, *second;

	begin();
	ck_assert_int_eq(parse("[run]\nbuffer_pool_size = 3072KB\n[server]\nname=x\n"
			       "[permanent]\nstore_path=a b\n"),
			 0);
	first = print();
	ck_assert_ptr_nonnull(strstr(first, "[run]\n# Shards; 1..64 (default 1)\nnum_threads = "
					    "1\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nbuffer_pool_size = 3MB\n"));
	ck_assert_ptr_nonnull(strstr(first, "\ninterval = 250ms\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nstore_path = a:b\n"));
	ck_assert_ptr_nonnull(strstr(first, "\n# socket =\n"));
	ck_assert_ptr_null(strstr(first, "cloud"));
	eloq_conf_clear(&conf);

	begin();
	ck_assert_msg(parse(first) == 0, "%s", err.text);
	second = print();
	ck_assert_str_eq(first, second);
	eloq_conf_clear(&conf);
	free(first);
	free(second);
}

/* A file in a directory of its own; the caller frees the path. */
static char *write_file(const char *text, size_t bytes)
{
	char *path = NULL;
	FILE *file;

	ck_assert_int_gt(asprintf(&path, "%s/e.ini", test_tmpdir()), 0);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(text, 1, bytes, file), bytes);
	ck_assert_int_eq(fclose(file), 0);
	return path;
}

TEST(conf_file_on_disk_is_read_and_gives_paths_their_directory)
{
	static const char text[] = "[server]\nsocket = s\n";
	char *path = write_file(text, strlen(text));

	begin();
	ck_assert_msg(eloq_conf_parse_file(&conf, path, &err) == 0, "%s", err.text);
	ck_assert_int_eq(strncmp(settings.socket, path, strlen(path) - strlen("e.ini")), 0);
	ck_assert_str_eq(settings.socket + strlen(path) - strlen("e.ini"), "s");
	eloq_conf_clear(&conf);
	free(path);
}

TEST(conf_file_that_cannot_be_read_is_named)
{
	const char *dir = test_tmpdir();
	char words[512];

	begin();
	ck_assert_int_eq(eloq_conf_parse_file(&conf, "/nonexistent/e.ini", &err), -ENOENT);
	ck_assert_str_eq(err.text, "/nonexistent/e.ini: No such file or directory");
	ck_assert_int_eq(eloq_conf_parse_file(&conf, dir, &err), -EISDIR);
	(void)snprintf(words, sizeof(words), "%s: Is a directory", dir);
	ck_assert_str_eq(err.text, words);
	eloq_conf_clear(&conf);
}

TEST(conf_file_beyond_the_bound_is_refused)
{
	static char text[ELOQ_CONF_FILE_BYTES_MAX + 1];
	char *path;

	memset(text, '\n', sizeof(text));
	path = write_file(text, sizeof(text));
	begin();
	ck_assert_int_eq(eloq_conf_parse_file(&conf, path, &err), -ELOQ_ECONFIG);
	ck_assert_ptr_nonnull(strstr(err.text, "at most 1048576 bytes"));
	eloq_conf_clear(&conf);
	free(path);
}
