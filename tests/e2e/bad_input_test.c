/*
 * bad_input_test.c - what is wrong is refused with a clear error, and nothing is lost by it.
 */
#include "tests/support/raw_client.h"
#include "tests/support/service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

/* The daemon does not start and says @words. */
static void assert_refused(struct daemon *daemon, int code, const char *words)
{
	int ended = daemon_run_to_end(daemon);
	char *log = daemon_log_text(daemon);

	ck_assert_msg(code < 0 ? ended != 0 : ended == code, "exit code %d: %s", ended, log);
	ck_assert_msg(strstr(log, words) != NULL, "no '%s' in: %s", words, log);
	free(log);
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void flip_byte(const char *path, off_t offset)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x40;
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	(void)close(fd);
}

/* --- The data directory --------------------------------------------------------------------------
 */

TEST(a_data_directory_that_is_a_file_is_refused_by_name)
{
	struct daemon daemon;

	daemon_init(&daemon, "pool", 1);
	write_text(daemon.dir, "not a directory");
	assert_refused(&daemon, -1, daemon.dir);
}

static void run_unprivileged(void *arg)
{
	char command[2048];
	struct daemon *daemon = arg;

	ck_assert_int_eq(setgid(65534), 0);
	ck_assert_int_eq(setuid(65534), 0);
	(void)snprintf(command, sizeof(command),
		       "'%s/eloqstored' --data '%s' --io_backend pool 2>&1 | grep -q 'ermission'",
		       ELOQ_BIN_DIR, daemon->dir);
	ck_assert_int_eq(system(command), 0);
}

TEST(a_data_directory_of_somebody_else_is_refused)
{
	struct daemon daemon;
	char program[600];

	if (geteuid() != 0)
		TEST_SKIP("becoming another user needs root");
	(void)snprintf(program, sizeof(program),
		       "setpriv --reuid 65534 --clear-groups test -x '%s/eloqstored'",
		       ELOQ_BIN_DIR);
	if (system(program) != 0)
		TEST_SKIP("another user cannot run programs from the build directory");
	daemon_init(&daemon, "pool", 1);
	ck_assert_int_eq(mkdir(daemon.dir, 0700), 0);
	daemon_join(daemon_fork(run_unprivileged, &daemon));
}

TEST(a_second_daemon_on_the_directory_is_refused_and_names_the_first)
{
	struct daemon first, second;
	char pid[32];

	daemon_init(&first, "pool", 1);
	daemon_start(&first);
	second = first;
	(void)snprintf(second.log, sizeof(second.log), "%s.2", first.dir);
	(void)snprintf(pid, sizeof(pid), "%d", (int)first.pid);
	assert_refused(&second, -1, pid);
	ck_assert_int_eq(daemon_ctl(&first, NULL, "put k v"), 0);
	ck_assert_int_eq(daemon_stop(&first), 0);
}

static void stopped_store(struct service *s, const char *io, const char *extra)
{
	char key[16];

	daemon_init(&s->daemon, io, 2);
	s->daemon.extra = extra;
	daemon_start(&s->daemon);
	service_connect(s);
	for (unsigned i = 0; i < 400; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		service_put_text(s, key, "some value that takes a little space");
	}
	service_stop(s);
}

static void assert_serves(struct service *s, const char *extra)
{
	s->daemon.extra = extra;
	daemon_start(&s->daemon);
	service_connect(s);
	service_expect_text(s, "k000", "some value that takes a little space");
	service_stop(s);
}

TEST(a_damaged_store_file_is_refused_by_name)
{
	struct service s;
	char path[300];

	stopped_store(&s, "pool", "");
	(void)snprintf(path, sizeof(path), "%s/STORE", s.daemon.dir);
	flip_byte(path, 30);
	assert_refused(&s.daemon, -1, "STORE");
	flip_byte(path, 30);
	assert_serves(&s, "");
}

/* The version keeps its place in every version of the file, so that this one can name it. */
TEST(a_store_of_a_newer_version_is_refused_by_name)
{
	struct service s;
	uint8_t version = 99;
	char path[300];
	int fd;

	stopped_store(&s, "pool", "");
	(void)snprintf(path, sizeof(path), "%s/STORE", s.daemon.dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &version, 1, 8), 1);
	assert_refused(&s.daemon, -1, "version 99");
	version = 1;
	ck_assert_int_eq(pwrite(fd, &version, 1, 8), 1);
	(void)close(fd);
	assert_serves(&s, "");
}

TEST(what_differs_from_an_existing_store_is_refused_by_name)
{
	struct service s;

	stopped_store(&s, "pool", "--data_page_size 8KB --data_file_size 1MB");
	s.daemon.extra = "--data_page_size 4KB";
	assert_refused(&s.daemon, -1, "data_page_size");
	s.daemon.extra = "--data_file_size 2MB";
	assert_refused(&s.daemon, -1, "data_file_size");
	s.daemon.extra = "--data_append_mode true";
	assert_refused(&s.daemon, -1, "append");
	s.daemon.extra = "--store_path /nowhere-else";
	assert_refused(&s.daemon, -1, "store_path");
	assert_serves(&s, "");
}

TEST(the_order_of_store_paths_must_stay)
{
	struct service s;
	char a_b[1200], b_a[1200];
	const char *base = test_tmpdir();

	(void)snprintf(a_b, sizeof(a_b), "--store_path %s/a:%s/b", base, base);
	(void)snprintf(b_a, sizeof(b_a), "--store_path %s/b:%s/a", base, base);
	stopped_store(&s, "pool", a_b);
	s.daemon.extra = b_a;
	assert_refused(&s.daemon, -1, "store_path");
	assert_serves(&s, a_b);
}

TEST(a_stray_file_in_the_store_path_is_refused_by_name)
{
	struct service s;
	char path[300];

	stopped_store(&s, "pool", "");
	(void)snprintf(path, sizeof(path), "%s/data/stray-file", s.daemon.dir);
	write_text(path, "what is this?");
	assert_refused(&s.daemon, -1, "stray-file");
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(unlink(path), 0);
	assert_serves(&s, "");
}

/* --- The ini -------------------------------------------------------------------------------------
 */

static void assert_ini_refused(const char *text, const char *line, const char *words)
{
	struct daemon daemon;
	char path[300], extra[400], place[350];

	daemon_init(&daemon, "pool", 1);
	(void)snprintf(path, sizeof(path), "%s.ini", daemon.dir);
	(void)snprintf(extra, sizeof(extra), "--config %s", path);
	(void)snprintf(place, sizeof(place), "%s:%s", path, line);
	write_text(path, text);
	daemon.extra = extra;
	assert_refused(&daemon, EX_CONFIG, place);
	ck_assert(daemon_log_has(&daemon, words));
	ck_assert_int_lt(access(daemon.dir, F_OK), 0);
}

TEST(an_ini_with_an_unknown_key_a_wrong_unit_or_a_number_out_of_range_is_refused_by_line)
{
	assert_ini_refused("[run]\nnum_threads = 1\nno_such_key = 1\n", "3", "no_such_key");
	assert_ini_refused("[server]\ncache_size = 5 bananas\n", "2", "cache_size");
	assert_ini_refused("[server]\n\npool_threads = 65\n", "3", "64");
	assert_ini_refused("[permanent]\ndata_page_size = 1KB\n", "2", "data_page_size");
	assert_ini_refused("[nowhere]\nkey = 1\n", "2", "nowhere");
	assert_ini_refused("[permanent]\ncloud_store_path = bucket\n", "2", "cloud");
}

/* --- Damaged files -------------------------------------------------------------------------------
 */

/* Reads all 400 keys: those of @partition answer corrupt, all others are there. */
static unsigned assert_only_partition_is_corrupt(struct service *s, uint32_t partition)
{
	unsigned corrupt = 0;
	char key[16];

	for (unsigned i = 0; i < 400; i++) {
		struct eloq_value value = { 0 };
		int r;

		(void)snprintf(key, sizeof(key), "k%03u", i);
		r = eloq_get(s->channel, s->table, key, 4, &value, NULL);
		if (r == -ELOQ_CLIENT_ECORRUPT) {
			ck_assert_uint_eq(eloq_table_partition(s->table, key, 4), partition);
			corrupt++;
			continue;
		}
		ck_assert_msg(r == 0, "%s: %s", key, eloq_strerror(r));
		eloq_value_free(&value);
	}
	return corrupt;
}

/* All pages of a partition's data files, in turn, lose a bit. */
static void damage_data(const char *dir)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;

	ck_assert_msg(stream != NULL, "%s", dir);
	while ((entry = readdir(stream))) {
		char path[900];
		struct stat st;

		if (strncmp(entry->d_name, "data_", 5) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		ck_assert_int_eq(stat(path, &st), 0);
		for (off_t at = 100; at < st.st_size && at < (4 << 20); at += 4096)
			flip_byte(path, at);
	}
	(void)closedir(stream);
}

TEST_ON_BOTH(a_corrupt_page_makes_its_partition_answer_corrupt_and_no_other)
{
	struct service s;
	char dir[300], *output;
	unsigned corrupt;

	stopped_store(&s, io, "--data_file_size 1MB");
	(void)snprintf(dir, sizeof(dir), "%s/data/t.5", s.daemon.dir);
	damage_data(dir);
	s.daemon.extra = "";
	daemon_start(&s.daemon);
	service_connect(&s);
	corrupt = assert_only_partition_is_corrupt(&s, 5);
	ck_assert_uint_gt(corrupt, 0);
	ck_assert_int_eq(daemon_ctl(&s.daemon, &output, "-t t -p 5 scan"), 4);
	ck_assert_msg(strstr(output, "t.5/data_") && strstr(output, "offset"), "%s", output);
	free(output);
	service_put_text(&s, "k000", "written after the damage was met");
	service_stop(&s);
}

TEST_ON_BOTH(a_corrupt_manifest_makes_its_partition_answer_corrupt_and_no_other)
{
	struct service s;
	char path[300], *output;

	stopped_store(&s, io, "");
	(void)snprintf(path, sizeof(path), "%s/data/t.5/manifest_0", s.daemon.dir);
	flip_byte(path, 20);
	daemon_start(&s.daemon);
	service_connect(&s);
	ck_assert_uint_gt(assert_only_partition_is_corrupt(&s, 5), 0);
	ck_assert_int_eq(daemon_ctl(&s.daemon, &output, "-t t -p 5 get k"), 4);
	ck_assert_msg(strstr(output, "t.5/manifest_0") && strstr(output, "offset"), "%s", output);
	free(output);
	service_stop(&s);
	/* Nothing was made of it: with the bit put right all is there. */
	flip_byte(path, 20);
	daemon_start(&s.daemon);
	service_connect(&s);
	ck_assert_uint_eq(assert_only_partition_is_corrupt(&s, 5), 0);
	service_stop(&s);
}

/* --- Clients -------------------------------------------------------------------------------------
 */

TEST(no_daemon_is_an_error_of_its_own)
{
	struct daemon daemon;
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts) };
	struct eloq_client *client;
	struct eloq_error error = { 0 };

	daemon_init(&daemon, "pool", 1);
	opts.data_dir = daemon.dir;
	ck_assert_int_eq(eloq_connect(&client, &opts, &error), -ELOQ_CLIENT_ENODAEMON);
	ck_assert_msg(strstr(error.text, daemon.dir) != NULL, "%s", error.text);
}

TEST(other_versions_of_protocol_and_layout_are_refused_by_name)
{
	struct daemon daemon;
	struct raw_client raw;
	struct eloq_msg_hello hello = { .layout_version = ELOQ_LAYOUT_VERSION };

	daemon_init(&daemon, "pool", 1);
	daemon_start(&daemon);
	raw_connect(&raw, &daemon);
	ck_assert_uint_eq(raw_hello(&raw, ELOQ_LAYOUT_VERSION + 1), ELOQ_CONTROL_ERROR);
	ck_assert_uint_eq(raw.reply.error.code, ELOQ_CONTROL_CODE_VERSION);
	ck_assert_msg(strstr(raw_error_text(&raw), "version 2") != NULL, "%s",
		      raw_error_text(&raw));
	ck_assert_uint_eq(raw_receive(&raw), 0);
	raw_close(&raw);
	raw_connect(&raw, &daemon);
	eloq_control_init(&hello, ELOQ_CONTROL_HELLO, sizeof(hello), 1);
	hello.header.version = ELOQ_CONTROL_VERSION + 1;
	ck_assert_int_eq(send(raw.socket, &hello, sizeof(hello), MSG_NOSIGNAL),
			 (ssize_t)sizeof(hello));
	ck_assert_uint_eq(raw_receive(&raw), ELOQ_CONTROL_ERROR);
	ck_assert_uint_eq(raw.reply.error.code, ELOQ_CONTROL_CODE_VERSION);
	ck_assert_msg(strstr(raw_error_text(&raw), "version 2") != NULL, "%s",
		      raw_error_text(&raw));
	ck_assert_uint_eq(raw_receive(&raw), 0);
	raw_close(&raw);
	ck_assert_int_eq(daemon_stop(&daemon), 0);
}

/* The worker stands still, so that nothing makes room but polling. */
TEST_ON_BOTH(a_full_lane_says_so_and_everything_submitted_succeeds)
{
	struct service s;
	struct eloq_completion done[64];
	char value[1000] = "v", key[16];
	unsigned submitted = 0, answered = 0;
	pid_t worker;
	int r;

	service_start(&s, io, 1);
	service_put_text(&s, "k", "v");
	worker = daemon_wait_worker(&s.daemon, 0, 0);
	ck_assert_int_eq(kill(worker, SIGSTOP), 0);
	do {
		(void)snprintf(key, sizeof(key), "f%05u", submitted);
		r = eloq_submit_put(s.channel, s.table, key, 6, value, sizeof(value), NULL, NULL);
		submitted += r == 0;
		ck_assert_uint_lt(submitted, 100000);
	} while (r == 0);
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_uint_gt(submitted, 10);
	ck_assert_int_eq(kill(worker, SIGCONT), 0);
	while (eloq_in_flight(s.channel) > 0) {
		int count = eloq_poll(s.channel, done, 64, UINT64_MAX);

		ck_assert_int_gt(count, 0);
		for (int i = 0; i < count; i++)
			ck_assert_int_eq(done[i].result, 0);
		answered += (unsigned)count;
	}
	ck_assert_uint_eq(answered, submitted);
	service_put_text(&s, "k", "room again");
	service_stop(&s);
}

TEST(lanes_beyond_the_budget_are_too_many)
{
	struct service s;
	struct eloq_channel *channels[64];
	unsigned served = 0, count = 0;
	int r = 0;

	daemon_init(&s.daemon, "pool", 1);
	s.daemon.extra = "--lane_memory 1MB";
	daemon_start(&s.daemon);
	service_connect(&s);
	service_put_text(&s, "k", "v");
	while (r == 0 && count < 64) {
		r = eloq_channel_open(s.client, &channels[count]);
		if (r < 0)
			break;
		count++;
		r = eloq_put(channels[count - 1], s.table, "k", 1, "v", 1, NULL);
		served += r == 0;
	}
	ck_assert_int_eq(r, -ELOQ_CLIENT_ETOOMANY);
	ck_assert_uint_gt(served, 2);
	service_expect_text(&s, "k", "v");
	for (unsigned i = 0; i < count; i++)
		eloq_channel_close(channels[i]);
	service_stop(&s);
}
