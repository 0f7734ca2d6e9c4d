/*
 * fixtures_test.c - stores that the reference implementation wrote, read entry by entry, written
 * to, and read again. tests/golden/reference/README.md says what they hold.
 *
 * A fixture is copied or unpacked into a temporary directory; what should be in it comes from its
 * expected.jsonl, in which values of more than 64 bytes are named by their SHA-256.
 */
#include "common/clock.h"
#include "daemon/store/store.h"
#include "tests/support/sha256.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 512, NAME_BYTES = 64, TABLES_MAX = 8, PARTITIONS_MAX = 16, KEY_MAX = 8192 };

struct expected {
	char table[NAME_BYTES];
	uint32_t partition;
	uint8_t *key;
	uint32_t key_bytes;
	char sha256[SHA256_HEX_BYTES];
	uint64_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms;
};

struct place {
	char table[NAME_BYTES];
	uint32_t table_id;
	uint32_t partition;
	uint64_t entries;
};

struct fixture {
	struct store_world world;
	char dir[PATH_BYTES];
	struct expected *entries; /* in the order of table, partition, key */
	size_t count, capacity;
	struct place places[PARTITIONS_MAX];
	size_t place_count;
};

static struct fixture fixture;

/* --- What should be there --------------------------------------------------------------------- */

TEST(sha256_agrees_with_the_standard)
{
	char hex[SHA256_HEX_BYTES];
	char *million = malloc(1000000);

	sha256_hex("", 0, hex);
	ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_hex("abc", 3, hex);
	ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
	ck_assert_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', 1000000);
	sha256_hex(million, 1000000, hex);
	ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

static uint32_t hex_decode(const char *hex, uint8_t *bytes, size_t bytes_max)
{
	size_t count = strlen(hex) / 2;

	ck_assert_uint_le(count, bytes_max);
	for (size_t i = 0; i < count; i++) {
		const char digits[] = { hex[2 * i], hex[2 * i + 1], 0 };
		char *end;

		bytes[i] = (uint8_t)strtoul(digits, &end, 16);
		ck_assert_ptr_eq(end, digits + 2);
	}
	return (uint32_t)count;
}

static const char *json_text(struct json_object *object, const char *name)
{
	struct json_object *field = NULL;

	return json_object_object_get_ex(object, name, &field) ? json_object_get_string(field)
							       : NULL;
}

static uint64_t json_number(struct json_object *object, const char *name)
{
	struct json_object *field = NULL;

	ck_assert_msg(json_object_object_get_ex(object, name, &field), "%s", name);
	return json_object_get_uint64(field);
}

static void expect_entry(struct json_object *line)
{
	static uint8_t bytes[KEY_MAX];
	const char *value = json_text(line, "value");
	struct expected *entry;

	if (fixture.count == fixture.capacity) {
		fixture.capacity = fixture.capacity * 2 + 64;
		fixture.entries =
			realloc(fixture.entries, fixture.capacity * sizeof(*fixture.entries));
	}
	entry = &fixture.entries[fixture.count++];
	(void)snprintf(entry->table, sizeof(entry->table), "%s", json_text(line, "table"));
	entry->partition = (uint32_t)json_number(line, "partition");
	entry->key_bytes = hex_decode(json_text(line, "key"), bytes, sizeof(bytes));
	entry->key = malloc(entry->key_bytes + 1);
	memcpy(entry->key, bytes, entry->key_bytes);
	entry->value_bytes = json_number(line, "value_len");
	entry->timestamp = json_number(line, "timestamp");
	entry->expire_ms = json_number(line, "expire_ts");
	if (value) {
		ck_assert_uint_eq(hex_decode(value, bytes, sizeof(bytes)), entry->value_bytes);
		sha256_hex(bytes, entry->value_bytes, entry->sha256);
	} else {
		(void)snprintf(entry->sha256, sizeof(entry->sha256), "%s",
			       json_text(line, "value_sha256"));
	}
}

static void expect_place(struct json_object *line)
{
	struct place *place = &fixture.places[fixture.place_count];

	ck_assert_uint_lt(fixture.place_count, PARTITIONS_MAX);
	(void)snprintf(place->table, sizeof(place->table), "%s", json_text(line, "table"));
	place->partition = (uint32_t)json_number(line, "partition");
	place->entries = json_number(line, "entries");
	place->table_id = (uint32_t)fixture.place_count + 1;
	for (size_t i = 0; i < fixture.place_count; i++)
		if (strcmp(fixture.places[i].table, place->table) == 0)
			place->table_id = fixture.places[i].table_id;
	fixture.place_count++;
}

static void read_lines(const char *name, void (*each)(struct json_object *line))
{
	char path[PATH_BYTES + NAME_BYTES];
	char *line = NULL;
	size_t line_bytes = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", fixture.dir, name);
	file = fopen(path, "re");
	ck_assert_msg(file != NULL, "%s", path);
	while (getline(&line, &line_bytes, file) > 0) {
		struct json_object *object = json_tokener_parse(line);

		ck_assert_ptr_nonnull(object);
		each(object);
		json_object_put(object);
	}
	(void)fclose(file);
	free(line);
}

/* --- The store -------------------------------------------------------------------------------- */

static void run_program(const char *const *argv)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s failed", argv[0]);
}

/* A size as "4KB" or "1MB". */
static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t size = strtoull(text, &end, 10);

	if (strncmp(end, "KB", 2) == 0)
		return size << 10;
	ck_assert_msg(strncmp(end, "MB", 2) == 0, "%s", text);
	return size << 20;
}

/* The permanent options are those the fixture was written with. */
static void read_options(void)
{
	struct eloq_store_opts *opts = &fixture.world.opts;
	char path[PATH_BYTES + NAME_BYTES], line[256], name[128], value[128];
	uint64_t file_bytes = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/options.ini", fixture.dir);
	file = fopen(path, "re");
	ck_assert_msg(file != NULL, "%s", path);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%127s = %127s", name, value) != 2)
			continue;
		if (strcmp(name, "data_page_size") == 0)
			opts->page_bytes = (uint32_t)parse_size(value);
		else if (strcmp(name, "data_file_size") == 0)
			file_bytes = parse_size(value);
		else if (strcmp(name, "overflow_pointers") == 0)
			opts->overflow_pointers = (uint32_t)strtoul(value, NULL, 10);
		else if (strcmp(name, "data_append_mode") == 0)
			opts->append_mode = strcmp(value, "true") == 0;
	}
	(void)fclose(file);
	opts->pages_per_file_shift = 0;
	while ((uint64_t)opts->page_bytes << (opts->pages_per_file_shift + 1) <= file_bytes)
		opts->pages_per_file_shift++;
	opts->cache_bytes = (uint64_t)64 * opts->page_bytes;
}

static void fixture_unpack(const char *name)
{
	const char *tmp = test_tmpdir();
	char source[PATH_BYTES];
	char *root = malloc(PATH_BYTES + NAME_BYTES);

	memset(&fixture, 0, sizeof(fixture));
	(void)snprintf(source, sizeof(source), "%s/reference/%s.tar.xz", ELOQ_GOLDEN_DIR, name);
	if (access(source, R_OK) == 0) {
		run_program((const char *const[]){ "tar", "-xJf", source, "-C", tmp, NULL });
	} else {
		(void)snprintf(source, sizeof(source), "%s/reference/%s", ELOQ_GOLDEN_DIR, name);
		run_program((const char *const[]){ "cp", "-r", source, tmp, NULL });
	}
	(void)snprintf(fixture.dir, sizeof(fixture.dir), "%s/%s", tmp, name);
	run_program((const char *const[]){ "chmod", "-R", "u+w", fixture.dir, NULL });
	store_world_init(&fixture.world);
	(void)snprintf(root, PATH_BYTES + NAME_BYTES, "%s/store", fixture.dir);
	fixture.world.root_paths[0] = root;
	read_options();
	read_lines("expected.jsonl", expect_entry);
	read_lines("partitions.jsonl", expect_place);
}

static void fixture_open(void)
{
	store_world_open(&fixture.world);
	for (size_t i = 0; i < fixture.place_count; i++) {
		const struct place *place = &fixture.places[i];
		int r = eloq_store_table_add(fixture.world.store, place->table_id, place->table);

		ck_assert(r == 0 || r == -ELOQ_EEXISTS);
	}
}

/* --- Comparing -------------------------------------------------------------------------------- */

static void compare_value(const struct expected *entry, const uint8_t *value, uint64_t value_bytes,
			  uint64_t timestamp, uint64_t expire_ms)
{
	char hex[SHA256_HEX_BYTES];

	ck_assert_uint_eq(value_bytes, entry->value_bytes);
	sha256_hex(value, value_bytes, hex);
	ck_assert_str_eq(hex, entry->sha256);
	ck_assert_uint_eq(timestamp, entry->timestamp);
	ck_assert_uint_eq(expire_ms, entry->expire_ms);
}

static bool belongs(const struct expected *entry, const struct place *place)
{
	return entry->partition == place->partition && strcmp(entry->table, place->table) == 0;
}

struct comparison {
	const struct place *place;
	size_t next; /* index of the next entry that should come */
	uint64_t count;
};

static int compare_each(void *arg, const struct eloq_scan_entry *found)
{
	struct comparison *comparison = arg;
	const struct expected *entry = &fixture.entries[comparison->next++];

	ck_assert_uint_le(comparison->next, fixture.count);
	ck_assert(belongs(entry, comparison->place));
	ck_assert_uint_eq(found->key_bytes, entry->key_bytes);
	ck_assert_mem_eq(found->key, entry->key, entry->key_bytes);
	compare_value(entry, found->value, found->value_bytes, found->timestamp, found->expire_ms);
	comparison->count++;
	return 0;
}

static void compare_points(const struct place *place)
{
	struct eloq_errinfo error = { 0 };
	struct eloq_store_value value;
	uint64_t now_ms = eloq_clock_realtime_us(eloq_clock_system()) / 1000;

	for (size_t i = 0; i < fixture.count; i++) {
		const struct expected *entry = &fixture.entries[i];

		if (!belongs(entry, place))
			continue;
		if (eloq_store_get_await(fixture.world.store, place->table_id, place->partition,
					 entry->key, entry->key_bytes, now_ms, &value, &error) < 0)
			ck_abort_msg("%s", error.text);
		compare_value(entry, value.data, value.bytes, value.timestamp, value.expire_ms);
		eloq_store_value_release(fixture.world.store, &value);
	}
}

static int mark_partition(void *arg, uint32_t partition)
{
	uint32_t *seen = arg;

	ck_assert_uint_lt(partition, 32);
	*seen |= 1u << partition;
	return 0;
}

/* Every entry by scan and by key, and nothing else. */
static void compare_all(void *arg)
{
	size_t next = 0;

	(void)arg;
	for (size_t i = 0; i < fixture.place_count; i++) {
		const struct place *place = &fixture.places[i];
		struct comparison comparison = { .place = place };
		struct eloq_scan scan = { .each = compare_each, .arg = &comparison };
		struct eloq_errinfo error = { 0 };
		uint32_t seen = 0;
		bool more;

		while (comparison.next < fixture.count &&
		       !belongs(&fixture.entries[comparison.next], place))
			comparison.next++;
		if (eloq_store_scan_await(fixture.world.store, place->table_id, place->partition,
					  &scan, &more, &error) < 0)
			ck_abort_msg("%s", error.text);
		ck_assert(!more);
		ck_assert_uint_eq(comparison.count, place->entries);
		next += comparison.count;
		compare_points(place);
		ck_assert_int_eq(eloq_store_table_partitions(fixture.world.store, place->table_id,
							     mark_partition, &seen),
				 0);
		ck_assert(seen >> place->partition & 1);
	}
	ck_assert_uint_eq(next, fixture.count);
}

static void fixture_check_files(void)
{
	for (size_t i = 0; i < fixture.place_count; i++) {
		const struct place *place = &fixture.places[i];
		char name[2 * NAME_BYTES];

		(void)snprintf(name, sizeof(name), "%s.%u", place->table, place->partition);
		ck_assert_uint_eq(store_world_check(&fixture.world, 0, name, true).entries,
				  place->entries);
	}
}

static void read_fixture(const char *name)
{
	fixture_unpack(name);
	fixture_check_files();
	fixture_open();
	store_world_run(&fixture.world, compare_all, NULL);
	store_world_close(&fixture.world);
	fixture_check_files();
}

/* --- Writing ---------------------------------------------------------------------------------- */

static void expect_remove(size_t index)
{
	for (size_t i = 0; i < fixture.place_count; i++)
		if (belongs(&fixture.entries[index], &fixture.places[i]))
			fixture.places[i].entries--;
	free(fixture.entries[index].key);
	fixture.count--;
	memmove(&fixture.entries[index], &fixture.entries[index + 1],
		(fixture.count - index) * sizeof(*fixture.entries));
}

/* Each third entry is deleted, each third one gets a value of another size, in one batch. */
static void change_entries(void *arg)
{
	const struct place *place = &fixture.places[0];
	struct eloq_write_entry *changes = calloc(fixture.count, sizeof(*changes));
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
				    .table_id = place->table_id,
				    .partition = place->partition,
				    .entries = changes };
	const unsigned *round = arg;
	uint8_t *value = malloc(200 << 10);
	struct eloq_errinfo error = { 0 };

	memset(value, 'a' + (int)*round, 200 << 10);
	ck_assert_uint_eq(fixture.place_count, 1);
	for (size_t i = 0; i < fixture.count; i++) {
		struct expected *entry = &fixture.entries[i];

		if (i % 3 == *round % 3)
			continue;
		changes[write.entry_count++] = (struct eloq_write_entry){
			.key = entry->key,
			.key_bytes = entry->key_bytes,
			.value = value,
			.value_bytes = (uint32_t)(i * 7919 % (i % 10 ? 300 : 200 << 10)),
			.op = i % 3 == (*round + 1) % 3 ? ELOQ_WRITE_PUT : ELOQ_WRITE_DELETE,
			.timestamp_auto = true,
		};
	}
	if (eloq_store_write_await(fixture.world.store, &write, &error) < 0)
		ck_abort_msg("%s", error.text);
	for (size_t i = fixture.count, k = write.entry_count; i-- > 0;) {
		struct expected *entry = &fixture.entries[i];

		if (i % 3 == *round % 3)
			continue;
		ck_assert_int_eq(changes[--k].outcome, ELOQ_WRITE_APPLIED);
		entry->value_bytes = changes[k].value_bytes;
		entry->timestamp++;
		sha256_hex(value, entry->value_bytes, entry->sha256);
		if (changes[k].op == ELOQ_WRITE_DELETE)
			expect_remove(i);
	}
	compare_all(NULL);
	free(value);
	free(changes);
}

static void write_fixture(const char *name)
{
	read_fixture(name);
	for (unsigned round = 0; round < 3; round++) {
		fixture_open();
		store_world_run(&fixture.world, change_entries, &round);
		store_world_close(&fixture.world);
		fixture_check_files();
	}
	fixture_open();
	store_world_run(&fixture.world, compare_all, NULL);
	store_world_close(&fixture.world);
}

/* A partition whose entries expire is read, not written to, and can be emptied. */
static void refuse_writes(void *arg)
{
	const struct place *place = arg;
	struct eloq_write_entry entry = { .key = (const uint8_t *)"key", .key_bytes = 3 };
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
				    .table_id = place->table_id,
				    .partition = place->partition,
				    .entries = &entry,
				    .entry_count = 1 };
	struct eloq_partition_stat stat;
	struct eloq_errinfo error = { 0 };

	ck_assert_int_eq(eloq_store_partition_stat_await(fixture.world.store, place->table_id,
							 place->partition, &stat, NULL),
			 0);
	ck_assert(stat.has_ttl_tree);
	ck_assert_int_eq(eloq_store_write_await(fixture.world.store, &write, &error),
			 -ELOQ_EUNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(error.text, place->table));
	store_world_clear(&fixture.world, place->table_id, place->partition, ELOQ_WRITE_TRUNCATE);
	ck_assert_int_eq(eloq_store_partition_stat_await(fixture.world.store, place->table_id,
							 place->partition, &stat, NULL),
			 0);
	ck_assert(!stat.has_ttl_tree);
	ck_assert_uint_eq(stat.pages, 0);
	ck_assert_int_eq(eloq_store_write_await(fixture.world.store, &write, NULL), 0);
}

static void read_and_refuse(const char *name, size_t place)
{
	read_fixture(name);
	fixture_open();
	store_world_run(&fixture.world, refuse_writes, &fixture.places[place]);
	store_world_close(&fixture.world);
}

TEST(basic_in_place_is_read_and_written)
{
	write_fixture("f01_basic-inplace");
}

TEST(basic_append_is_read_and_written)
{
	write_fixture("f01_basic-append");
}

TEST(overflow_in_place_is_read_and_written)
{
	write_fixture("f03_overflow-inplace");
}

TEST(overflow_append_is_read_and_written)
{
	write_fixture("f03_overflow-append");
}

TEST(truncated_and_dropped_in_place_is_read)
{
	read_fixture("f09_truncate_drop-inplace");
}

TEST(truncated_and_dropped_append_is_read)
{
	read_fixture("f09_truncate_drop-append");
}

TEST(large_pages_in_place_are_read_and_writes_refused_while_entries_expire)
{
	read_and_refuse("f11_pagesize-inplace", 0);
}

TEST(large_pages_append_are_read_and_writes_refused_while_entries_expire)
{
	read_and_refuse("f11_pagesize-append", 0);
}
