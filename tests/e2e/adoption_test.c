/*
 * adoption_test.c - stores that the reference implementation wrote are served as they are.
 *
 * A fixture is copied, adopted by its own ini, exported by eloqctl and compared line by line with
 * what the reference found in it; then it is written to, stopped, and adopted by another data
 * directory. tests/golden/reference/README.md says where the fixtures come from.
 */
#include "tests/support/service.h"
#include "tests/support/sha256.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES_MAX = 2000 };

struct fixture {
	char dir[512];
	char extra[600];
	char table[64];
	unsigned line_count;
	char *lines[LINES_MAX]; /* as print_line() makes them, sorted */
};

static void run(const char *command)
{
	ck_assert_msg(system(command) == 0, "%s", command);
}

static const char *string_of(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_string(value)
							       : NULL;
}

static uint64_t number_of(struct json_object *object, const char *name)
{
	struct json_object *value;

	ck_assert_msg(json_object_object_get_ex(object, name, &value), "no %s", name);
	return json_object_get_uint64(value);
}

static unsigned digit(char c)
{
	return (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static void hash_hex(const char *hex, char ret_hash[SHA256_HEX_BYTES])
{
	size_t bytes = strlen(hex) / 2;
	uint8_t *value = malloc(bytes + 1);

	ck_assert_ptr_nonnull(value);
	for (size_t i = 0; i < bytes; i++)
		value[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	sha256_hex(value, bytes, ret_hash);
	free(value);
}

/* One entry in a form of its own: both kinds of files come down to it. */
static char *print_line(const char *json)
{
	struct json_object *object = json_tokener_parse(json);
	const char *value, *given_hash;
	char hash[SHA256_HEX_BYTES], *line = NULL;
	struct json_object *length;
	uint64_t bytes;

	ck_assert_msg(object != NULL, "not JSON: %.200s", json);
	value = string_of(object, "value");
	given_hash = string_of(object, "value_sha256");
	ck_assert(value || given_hash);
	if (value)
		hash_hex(value, hash);
	if (json_object_object_get_ex(object, "value_len", &length))
		bytes = json_object_get_uint64(length);
	else
		bytes = strlen(value) / 2;
	ck_assert_int_gt(asprintf(&line, "%s %" PRIu64 " %s %s %" PRIu64 " %" PRIu64 " %" PRIu64,
				  string_of(object, "table"), number_of(object, "partition"),
				  string_of(object, "key"), value ? hash : given_hash, bytes,
				  number_of(object, "timestamp"), number_of(object, "expire_ts")),
			 0);
	json_object_put(object);
	return line;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static unsigned read_lines(const char *path, char **lines)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	unsigned count = 0;

	ck_assert_msg(file != NULL, "%s", path);
	while (getline(&line, &room, file) > 0) {
		ck_assert_uint_lt(count, LINES_MAX);
		lines[count++] = print_line(line);
	}
	free(line);
	(void)fclose(file);
	qsort(lines, count, sizeof(*lines), compare_lines);
	return count;
}

static void fixture_open(struct fixture *fixture, const char *name, const char *table)
{
	char command[2048], path[600];

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "%s/copy", test_tmpdir());
	(void)snprintf(
		command, sizeof(command),
		"mkdir '%s' && cd '%s' && if [ -d '%s/reference/%s' ]; then "
		"cp -r '%s/reference/%s/.' .; else "
		"tar xJf '%s/reference/%s.tar.xz' --strip-components=1; fi && chmod -R u+w .",
		fixture->dir, fixture->dir, ELOQ_GOLDEN_DIR, name, ELOQ_GOLDEN_DIR, name,
		ELOQ_GOLDEN_DIR, name);
	run(command);
	(void)snprintf(fixture->extra, sizeof(fixture->extra), "--config %s/options.ini",
		       fixture->dir);
	(void)snprintf(fixture->table, sizeof(fixture->table), "%s", table);
	(void)snprintf(path, sizeof(path), "%s/expected.jsonl", fixture->dir);
	fixture->line_count = read_lines(path, fixture->lines);
	ck_assert_uint_gt(fixture->line_count, 0);
}

static void fixture_close(struct fixture *fixture)
{
	for (unsigned i = 0; i < fixture->line_count; i++)
		free(fixture->lines[i]);
}

/* The export holds exactly the fixture's entries, but for keys that start with "new-". */
static unsigned assert_exported(struct fixture *fixture, const struct daemon *daemon)
{
	char *lines[LINES_MAX], path[600], *output;
	unsigned count, at = 0, fresh = 0;
	int code;

	(void)snprintf(path, sizeof(path), "%s/export.jsonl", fixture->dir);
	code = daemon_ctl(daemon, &output, "export '%s'", path);
	ck_assert_msg(code == 0, "export: %d: %s", code, output);
	free(output);
	count = read_lines(path, lines);
	for (unsigned i = 0; i < count; i++) {
		if (strstr(lines[i], " 6e65772d")) {
			fresh++;
		} else {
			ck_assert_uint_lt(at, fixture->line_count);
			ck_assert_str_eq(lines[i], fixture->lines[at++]);
		}
		free(lines[i]);
	}
	ck_assert_uint_eq(at, fixture->line_count);
	return fresh;
}

static void adopt(struct daemon *daemon, const char *io, const struct fixture *fixture)
{
	daemon_init(daemon, io, 0);
	daemon->extra = fixture->extra;
	daemon_start(daemon);
}

static void write_to_it(const struct daemon *daemon, const char *table)
{
	struct eloq_client *client = daemon_connect(daemon);
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct eloq_table *adopted;
	uint8_t *value = malloc(200000);
	char key[16];

	ck_assert_ptr_nonnull(value);
	ck_assert_int_eq(eloq_table_open(client, table, &adopted, NULL), 0);
	ck_assert_uint_eq(eloq_table_info(adopted)->partitions, 0);
	ck_assert_int_eq(eloq_table_info(adopted)->timestamps, ELOQ_CALLER_TIMESTAMPS);
	for (unsigned i = 0; i < 50; i++) {
		size_t bytes = i % 10 == 0 ? 200000 : i;

		(void)snprintf(key, sizeof(key), "new-%02u", i);
		service_fill(value, bytes, i);
		ck_assert_int_eq(
			eloq_put(eloq_channel(client), adopted, key, 6, value, bytes, &opts), 0);
	}
	for (unsigned i = 0; i < 50; i += 2) {
		(void)snprintf(key, sizeof(key), "new-%02u", i);
		ck_assert_int_eq(eloq_delete(eloq_channel(client), adopted, key, 6, &opts), 0);
	}
	free(value);
	eloq_disconnect(client);
}

static void adopt_write_adopt_again(const char *io, const char *name, const char *table)
{
	static struct fixture fixture;
	struct daemon first, second;

	fixture_open(&fixture, name, table);
	adopt(&first, io, &fixture);
	ck_assert_uint_eq(assert_exported(&fixture, &first), 0);
	write_to_it(&first, table);
	ck_assert_uint_eq(assert_exported(&fixture, &first), 25);
	ck_assert_int_eq(daemon_stop(&first), 0);

	daemon_start(&first);
	ck_assert_uint_eq(assert_exported(&fixture, &first), 25);
	ck_assert_int_eq(daemon_stop(&first), 0);

	adopt(&second, io, &fixture);
	ck_assert_uint_eq(assert_exported(&fixture, &second), 25);
	ck_assert_int_eq(daemon_stop(&second), 0);
	fixture_close(&fixture);
}

TEST_ON_BOTH(an_in_place_store_of_the_reference_is_adopted_written_and_adopted_again)
{
	adopt_write_adopt_again(io, "f01_basic-inplace", "t1");
}

TEST_ON_BOTH(an_append_store_of_the_reference_is_adopted_written_and_adopted_again)
{
	adopt_write_adopt_again(io, "f01_basic-append", "t1");
}

TEST_ON_BOTH(an_in_place_store_with_long_values_is_adopted_written_and_adopted_again)
{
	adopt_write_adopt_again(io, "f03_overflow-inplace", "blob");
}

TEST_ON_BOTH(an_append_store_with_long_values_is_adopted_written_and_adopted_again)
{
	adopt_write_adopt_again(io, "f03_overflow-append", "blob");
}
