/*
 * cli_test.c - eloqctl: exit codes, text and hex, import and export, and what it refuses by name.
 */
#include "tests/support/service.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DONE = 0, NEGATIVE = 1, USAGE = 2, NO_DAEMON = 3, SERVICE_ERROR = 4, TIMED_OUT = 5 };

/* Runs eloqctl and compares code and whole output. */
#define expect(daemon, code, text, ...)                                                        \
	do {                                                                                   \
		char *output_;                                                                 \
		int code_ = daemon_ctl((daemon), &output_, __VA_ARGS__);                       \
		ck_assert_msg(code_ == (code), "exit code %d, not %d: %s", code_, (int)(code), \
			      output_);                                                        \
		ck_assert_str_eq(output_, (text));                                             \
		free(output_);                                                                 \
	} while (0)

/* The same, but the output only has to contain @text. */
#define expect_words(daemon, code, text, ...)                                                      \
	do {                                                                                       \
		char *output_;                                                                     \
		int code_ = daemon_ctl((daemon), &output_, __VA_ARGS__);                           \
		ck_assert_msg(code_ == (code), "exit code %d, not %d: %s", code_, (int)(code),     \
			      output_);                                                            \
		ck_assert_msg(strstr(output_, (text)) != NULL, "no '%s' in: %s", (text), output_); \
		free(output_);                                                                     \
	} while (0)

static void start(struct daemon *daemon, const char *io)
{
	daemon_init(daemon, io, 2);
	daemon_start(daemon);
}

static void write_file(const char *path, const void *bytes, size_t count)
{
	FILE *file = fopen(path, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
	ck_assert_int_eq(fclose(file), 0);
}

static char *read_file(const char *path, size_t *ret_count)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, 1 << 20);

	ck_assert_ptr_nonnull(file);
	ck_assert_ptr_nonnull(text);
	*ret_count = fread(text, 1, (1 << 20) - 1, file);
	(void)fclose(file);
	return text;
}

/* --- Single keys ---------------------------------------------------------------------------------
 */

TEST_ON_BOTH(single_keys_by_text_and_by_hex)
{
	struct daemon daemon;

	start(&daemon, io);
	/* No table yet: the first put makes `default`. */
	expect_words(&daemon, SERVICE_ERROR, "default", "get apple");
	expect(&daemon, DONE, "", "put apple red");
	expect(&daemon, DONE, "red\n", "get apple");
	expect(&daemon, DONE, "726564\n", "--hex get 6170706c65");
	expect_words(&daemon, DONE, "default", "table list");
	expect_words(&daemon, NEGATIVE, "get", "get pear");
	expect(&daemon, DONE, "", "put pear ''");
	expect(&daemon, DONE, "\n", "get pear");
	expect(&daemon, DONE, "", "put --hex 00ff0a 00");
	expect(&daemon, DONE, "00\n", "get --hex 00FF0A");
	expect(&daemon, DONE, "", "del apple");
	expect_words(&daemon, NEGATIVE, "del", "del apple");
	expect_words(&daemon, USAGE, "hex", "--hex put 0 00");
	expect_words(&daemon, USAGE, "hex", "--hex get xy");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

TEST_ON_BOTH(a_value_of_minus_is_read_from_standard_input)
{
	struct daemon daemon;
	char path[300], *read_back, value[50000];
	size_t count;

	start(&daemon, io);
	(void)snprintf(path, sizeof(path), "%s.value", daemon.dir);
	service_fill(value, sizeof(value), 1);
	write_file(path, value, sizeof(value));
	expect(&daemon, DONE, "", "put k - < '%s'", path);
	expect(&daemon, DONE, "", "get k > '%s.back'", path);
	(void)snprintf(path, sizeof(path), "%s.value.back", daemon.dir);
	read_back = read_file(path, &count);
	ck_assert_uint_eq(count, sizeof(value) + 1);
	ck_assert_int_eq(memcmp(read_back, value, sizeof(value)), 0);
	free(read_back);
	expect(&daemon, DONE, "", "put --hex 6b - < /dev/null");
	expect(&daemon, DONE, "\n", "get k");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

TEST_ON_BOTH(scan_prints_keys_in_order_within_its_bounds)
{
	struct daemon daemon;

	start(&daemon, io);
	expect(&daemon, DONE, "", "put b 2");
	expect(&daemon, DONE, "", "put d 4");
	expect(&daemon, DONE, "", "put a 1");
	expect(&daemon, DONE, "", "put c 3");
	expect(&daemon, DONE, "a\t1\nb\t2\nc\t3\nd\t4\n", "scan");
	expect(&daemon, DONE, "b\t2\nc\t3\n", "scan --from b --to d");
	expect(&daemon, DONE, "b\nc\n", "scan --from b --limit 2 --keys-only");
	expect(&daemon, DONE, "62\t32\n", "--hex scan --from 62 --to 63");
	expect(&daemon, DONE, "", "scan --limit 0");
	expect(&daemon, DONE, "", "scan --from e");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

TEST_ON_BOTH(tables_are_made_looked_at_and_dropped)
{
	struct daemon daemon;

	start(&daemon, io);
	expect(&daemon, DONE, "", "table create u --partitions 4 --timestamps caller");
	expect_words(&daemon, SERVICE_ERROR, "exists", "table create u");
	expect_words(&daemon, DONE, "caller", "table list");
	expect(&daemon, DONE, "", "-t u put k v");
	expect(&daemon, DONE, "v\n", "-t u get k");
	expect_words(&daemon, DONE, "entries     1", "table stat u --count");
	expect(&daemon, DONE, "", "table truncate u");
	expect_words(&daemon, NEGATIVE, "", "-t u get k");
	expect(&daemon, DONE, "", "table drop u");
	expect_words(&daemon, SERVICE_ERROR, "u", "table drop u");
	expect_words(&daemon, SERVICE_ERROR, "u", "-t u get k");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

/* --- Exit codes ----------------------------------------------------------------------------------
 */

TEST(without_a_daemon_the_command_that_starts_one_is_named)
{
	struct daemon daemon;

	daemon_init(&daemon, "pool", 1);
	expect_words(&daemon, NO_DAEMON, "eloqstored --data ", "get k");
	expect_words(&daemon, NO_DAEMON, daemon.dir, "ping");
}

TEST(what_takes_too_long_ends_with_its_own_code)
{
	struct daemon daemon;
	pid_t worker;

	daemon_init(&daemon, "pool", 1);
	daemon_start(&daemon);
	expect(&daemon, DONE, "", "put k v");
	worker = daemon_wait_worker(&daemon, 0, 0);
	ck_assert_int_eq(kill(worker, SIGSTOP), 0);
	expect_words(&daemon, TIMED_OUT, "get", "--timeout 0.3 get k");
	ck_assert_int_eq(kill(worker, SIGCONT), 0);
	expect(&daemon, DONE, "v\n", "--timeout 60 get k");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

TEST(wrong_words_are_refused_with_usage)
{
	struct daemon daemon;

	daemon_init(&daemon, "pool", 1);
	expect_words(&daemon, USAGE, "no command", "%s", "");
	expect_words(&daemon, USAGE, "frobnicate", "frobnicate");
	expect_words(&daemon, USAGE, "put KEY VALUE", "put k");
	expect_words(&daemon, USAGE, "--limit", "get k --limit 3");
	expect_words(&daemon, USAGE, "--limit", "scan --limit many");
	expect_words(&daemon, USAGE, "--partition", "-p x get k");
	expect_words(&daemon, USAGE, "65536", "table create t --partitions 65537");
	expect_words(&daemon, DONE, "exit codes", "--help");
}

TEST(what_is_not_built_is_refused_by_name)
{
	static const char *const words[][2] = {
		{ "put k v --ttl 5", "--ttl" },
		{ "put k v --ts 5", "--ts" },
		{ "put k v --if-absent", "--if-absent" },
		{ "put k v --if-ts 5", "--if-ts" },
		{ "scan --reverse", "--reverse" },
		{ "table truncate t --from k", "truncate --from" },
		{ "floor k", "floor" },
		{ "checkpoint", "checkpoint" },
		{ "archive list", "archive" },
		{ "compact", "compact" },
		{ "expire", "expire" },
		{ "top", "top" },
		{ "slow", "slow" },
		{ "clients", "clients" },
		{ "check /tmp", "check" },
		{ "repair /tmp /tmp", "repair" },
		{ "dump /tmp", "dump" },
	};
	struct daemon daemon;

	daemon_init(&daemon, "pool", 1);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		expect_words(&daemon, USAGE, words[i][1], "%s", words[i][0]);
		expect_words(&daemon, USAGE, "not built", "%s", words[i][0]);
	}
}

/* --- Import and export ---------------------------------------------------------------------------
 */

/* Keys and values with everything that a line-based format has to escape. */
static void put_awkward(const struct daemon *daemon)
{
	static const char *const hex[][2] = {
		{ "00", "00" },		  { "0a", "" },	      { "09", "0a0d09005c" },
		{ "5c", "5c6e" },	  { "6b6579", "76" }, { "ff00fe", "c3a4ff" },
		{ "7f1b5b", "7f22277b" },
	};

	for (size_t i = 0; i < sizeof(hex) / sizeof(hex[0]); i++)
		expect(daemon, DONE, "", "--hex put %s '%s'", hex[i][0], hex[i][1]);
}

static void round_trip(const char *io, const char *format)
{
	struct daemon daemon;
	char path[300], *first, *second, *scan;
	size_t first_count, second_count;

	start(&daemon, io);
	(void)snprintf(path, sizeof(path), "%s.%s", daemon.dir, format);
	put_awkward(&daemon);
	ck_assert_int_eq(daemon_ctl(&daemon, &scan, "--hex scan"), DONE);
	expect(&daemon, DONE, "", "export --format %s -t default > '%s'", format, path);
	first = read_file(path, &first_count);
	expect(&daemon, DONE, "", "table drop default");
	expect_words(&daemon, DONE, "imported 7 records", "import '%s' --format %s", path, format);
	expect(&daemon, DONE, scan, "--hex scan");
	expect(&daemon, DONE, "", "export --format %s -t default '%s.again'", format, path);
	(void)snprintf(path, sizeof(path), "%s.%s.again", daemon.dir, format);
	second = read_file(path, &second_count);
	if (strcmp(format, "tsv") == 0) {
		ck_assert_uint_eq(first_count, second_count);
		ck_assert_int_eq(memcmp(first, second, first_count), 0);
	}
	free(first);
	free(second);
	free(scan);
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

TEST_ON_BOTH(awkward_bytes_survive_export_and_import_by_jsonl)
{
	round_trip(io, "jsonl");
}

TEST_ON_BOTH(awkward_bytes_survive_export_and_import_by_tsv)
{
	round_trip(io, "tsv");
}

TEST_ON_BOTH(a_malformed_line_is_refused_with_its_number_and_what_came_before_stays)
{
	static const char tsv[] = "a\t1\nb\t2\nno tab here\nc\t3\n";
	static const char escape[] = "d\t4\ne\t\\q\n";
	static const char json[] =
		"{\"key\":\"66\",\"value\":\"36\"}\n{\"key\":\"67\",\"value\":}\n";
	static const char expiring[] = "{\"key\":\"68\",\"value\":\"38\",\"expire_ts\":5}\n";
	struct daemon daemon;
	char path[300];

	start(&daemon, io);
	(void)snprintf(path, sizeof(path), "%s.lines", daemon.dir);
	write_file(path, tsv, strlen(tsv));
	expect_words(&daemon, USAGE, "line 3", "import --format tsv '%s'", path);
	write_file(path, escape, strlen(escape));
	expect_words(&daemon, USAGE, "line 2", "import --format tsv - < '%s'", path);
	write_file(path, json, strlen(json));
	expect_words(&daemon, USAGE, "line 2", "import '%s'", path);
	write_file(path, expiring, strlen(expiring));
	expect_words(&daemon, USAGE, "line 1", "import '%s'", path);
	expect(&daemon, DONE, "a\t1\nb\t2\nd\t4\nf\t6\n", "scan");
	expect_words(&daemon, USAGE, "nowhere", "import /nowhere");
	expect_words(&daemon, USAGE, "--format", "import --format xml '%s'", path);
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

/* --- For programs --------------------------------------------------------------------------------
 */

static void assert_json(const struct daemon *daemon, const char *command, const char *member)
{
	struct json_object *object, *value;
	char *output;

	ck_assert_int_eq(daemon_ctl(daemon, &output, "--json %s", command), DONE);
	object = json_tokener_parse(output);
	ck_assert_msg(json_object_is_type(object, json_type_object), "%s: %s", command, output);
	ck_assert_msg(json_object_object_get_ex(object, member, &value), "%s: %s", command, output);
	json_object_put(object);
	free(output);
}

TEST_ON_BOTH(looks_are_for_people_and_as_json_for_programs)
{
	struct daemon daemon;

	start(&daemon, io);
	expect(&daemon, DONE, "", "put k v");
	assert_json(&daemon, "stat", "workers");
	assert_json(&daemon, "ping", "slowest_ns");
	assert_json(&daemon, "table list", "partitions");
	assert_json(&daemon, "table stat --count", "entries");
	expect_words(&daemon, DONE, "2 shards", "ping");
	expect_words(&daemon, DONE, "[server]", "config");
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}
