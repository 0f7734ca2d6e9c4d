/*
 * daemon.c - see daemon.h.
 *
 * Workers are found as the children of the supervisor whose command line says --worker, so that
 * tests need no cooperation of the daemon.
 */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <liburing.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef ELOQ_BIN_DIR
#define ELOQ_BIN_DIR "build/debug/bin"
#endif

enum { DAEMON_ARGS_MAX = 64, DAEMON_TRIES = 6000, DAEMONS_MAX = 256 };

/* Process groups that may still have somebody in them, and whose they are. */
static pid_t daemon_started[DAEMONS_MAX];
static pid_t daemon_owner;

void daemon_sleep_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };

	(void)nanosleep(&ts, NULL);
}

/* A forked client that fails leaves through exit() too: the daemons are not its own. */
static void daemon_kill_all(void)
{
	if (getpid() != daemon_owner)
		return;
	for (unsigned i = 0; i < DAEMONS_MAX; i++)
		if (daemon_started[i] > 0)
			(void)kill(-daemon_started[i], SIGKILL);
}

static void daemon_remember(pid_t pid)
{
	if (daemon_owner != getpid())
		(void)atexit(daemon_kill_all);
	daemon_owner = getpid();
	for (unsigned i = 0; i < DAEMONS_MAX; i++) {
		if (daemon_started[i] == 0) {
			daemon_started[i] = pid;
			return;
		}
	}
}

static void daemon_forget(pid_t pid)
{
	for (unsigned i = 0; i < DAEMONS_MAX; i++)
		if (daemon_started[i] == pid)
			daemon_started[i] = 0;
}

void daemon_need_uring(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(8, &ring, 0);

	if (r < 0)
		TEST_SKIP("io_uring is refused here: %s", strerror(-r));
	io_uring_queue_exit(&ring);
}

void daemon_init(struct daemon *daemon, const char *io, unsigned shards)
{
	const char *chosen = io ? io : getenv("TEST_IO");

	*daemon = (struct daemon){ .io = chosen ? chosen : "uring", .shards = shards, .extra = "" };
	(void)snprintf(daemon->dir, sizeof(daemon->dir), "%s/data", test_tmpdir());
	(void)snprintf(daemon->log, sizeof(daemon->log), "%s.log", daemon->dir);
}

static pid_t daemon_spawn(const struct daemon *daemon)
{
	char shards[16], extra[1024], *args[DAEMON_ARGS_MAX];
	unsigned n = 0;
	pid_t pid;

	(void)snprintf(shards, sizeof(shards), "%u", daemon->shards);
	(void)snprintf(extra, sizeof(extra), "%s", daemon->extra);
	args[n++] = (char *)(uintptr_t)ELOQ_BIN_DIR "/eloqstored";
	args[n++] = (char *)(uintptr_t) "--data";
	args[n++] = (char *)(uintptr_t)daemon->dir;
	args[n++] = (char *)(uintptr_t) "--io_backend";
	args[n++] = (char *)(uintptr_t)daemon->io;
	if (daemon->shards > 0) {
		args[n++] = (char *)(uintptr_t) "--num_threads";
		args[n++] = shards;
	}
	for (char *word = strtok(extra, " "); word && n < DAEMON_ARGS_MAX - 1;
	     word = strtok(NULL, " "))
		args[n++] = word;
	args[n] = NULL;
	(void)fflush(stdout);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int fd = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

		(void)setpgid(0, 0);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(fd, STDERR_FILENO);
		(void)dup2(fd, STDOUT_FILENO);
		(void)execv(args[0], args);
		_exit(127);
	}
	(void)setpgid(pid, pid);
	return pid;
}

char *daemon_log_text(const struct daemon *daemon)
{
	FILE *file = fopen(daemon->log, "re");
	char *text = calloc(1, 1 << 20);

	ck_assert_ptr_nonnull(text);
	if (file) {
		size_t got = fread(text, 1, (1 << 20) - 1, file);

		text[got] = '\0';
		(void)fclose(file);
	}
	return text;
}

bool daemon_log_has(const struct daemon *daemon, const char *text)
{
	char *log = daemon_log_text(daemon);
	bool has = strstr(log, text) != NULL;

	free(log);
	return has;
}

static unsigned daemon_log_count(const struct daemon *daemon, const char *text)
{
	char *log = daemon_log_text(daemon);
	unsigned count = 0;

	for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
		count++;
	free(log);
	return count;
}

static void daemon_fail_with_log(const struct daemon *daemon, const char *what)
{
	char *log = daemon_log_text(daemon);

	printf("%s; its log:\n%s\n", what, log);
	free(log);
	ck_abort_msg("%s", what);
}

void daemon_start(struct daemon *daemon)
{
	unsigned before = daemon_log_count(daemon, "ready\n");

	daemon->pid = daemon_spawn(daemon);
	daemon_remember(daemon->pid);
	for (unsigned i = 0; i < DAEMON_TRIES; i++) {
		int status;

		if (daemon_log_count(daemon, "ready\n") > before)
			return;
		if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid)
			daemon_fail_with_log(daemon, "the daemon ended before it was ready");
		daemon_sleep_ms(10);
	}
	daemon_fail_with_log(daemon, "the daemon did not get ready");
}

int daemon_wait(struct daemon *daemon)
{
	int status;

	while (waitpid(daemon->pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	/* Killed: its workers may take a while to leave. */
	if (WIFEXITED(status))
		daemon_forget(daemon->pid);
	daemon->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int daemon_run_to_end(struct daemon *daemon)
{
	daemon->pid = daemon_spawn(daemon);
	daemon_remember(daemon->pid);
	return daemon_wait(daemon);
}

int daemon_stop(struct daemon *daemon)
{
	ck_assert_int_gt(daemon->pid, 0);
	ck_assert_int_eq(kill(daemon->pid, SIGTERM), 0);
	return daemon_wait(daemon);
}

void daemon_kill(struct daemon *daemon)
{
	ck_assert_int_gt(daemon->pid, 0);
	ck_assert_int_eq(kill(daemon->pid, SIGKILL), 0);
	(void)daemon_wait(daemon);
}

/* The shard of a worker by its command line "eloqstored\0--worker\0FD\0INDEX"; -1: no worker. */
static int daemon_worker_index(pid_t pid)
{
	char path[64], text[512] = { 0 };
	const char *p = text;
	ssize_t bytes;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	bytes = read(fd, text, sizeof(text) - 2);
	(void)close(fd);
	for (int word = 0; bytes > 0 && p < text + bytes; word++, p += strlen(p) + 1) {
		if (word == 1 && strcmp(p, "--worker") != 0)
			return -1;
		if (word == 3)
			return atoi(p);
	}
	return -1;
}

void daemon_workers(const struct daemon *daemon, pid_t *ret_pids)
{
	char path[96];
	FILE *file;
	long child;

	memset(ret_pids, 0, DAEMON_SHARDS_MAX * sizeof(*ret_pids));
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)daemon->pid,
		       (int)daemon->pid);
	file = fopen(path, "re");
	if (!file)
		return;
	while (fscanf(file, "%ld", &child) == 1) {
		int index = daemon_worker_index((pid_t)child);

		if (index >= 0 && index < DAEMON_SHARDS_MAX)
			ret_pids[index] = (pid_t)child;
	}
	(void)fclose(file);
}

/* The supervisor is held meanwhile, or it would replace the workers that go first. */
void daemon_kill_everything(struct daemon *daemon)
{
	pid_t workers[DAEMON_SHARDS_MAX];

	ck_assert_int_gt(daemon->pid, 0);
	ck_assert_int_eq(kill(daemon->pid, SIGSTOP), 0);
	daemon_workers(daemon, workers);
	for (unsigned i = 0; i < DAEMON_SHARDS_MAX; i++)
		if (workers[i] > 0)
			(void)kill(workers[i], SIGKILL);
	daemon_kill(daemon);
}

void daemon_wait_until(bool (*holds)(void *arg), void *arg, const char *what)
{
	for (unsigned i = 0; i < DAEMON_TRIES; i++) {
		if (holds(arg))
			return;
		daemon_sleep_ms(10);
	}
	ck_abort_msg("did not come to be: %s", what);
}

pid_t daemon_wait_worker(const struct daemon *daemon, unsigned shard, pid_t before)
{
	pid_t pids[DAEMON_SHARDS_MAX];

	for (unsigned i = 0; i < DAEMON_TRIES; i++) {
		daemon_workers(daemon, pids);
		if (pids[shard] != 0 && pids[shard] != before)
			return pids[shard];
		daemon_sleep_ms(10);
	}
	daemon_fail_with_log(daemon, "no new worker came");
	return 0;
}

struct eloq_client *daemon_connect(const struct daemon *daemon)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts), .data_dir = daemon->dir };
	struct eloq_error error = { 0 };
	struct eloq_client *client;
	int r = eloq_connect(&client, &opts, &error);

	ck_assert_msg(r == 0, "connect: %s", error.text);
	return client;
}

struct eloq_table *daemon_table(struct eloq_client *client, const char *name, uint32_t partitions)
{
	struct eloq_error error = { 0 };
	struct eloq_table *table;
	int r = eloq_table_create(client, name, partitions, ELOQ_SERVER_TIMESTAMPS, &error);

	ck_assert_msg(r == 0 || r == -ELOQ_CLIENT_EEXISTS, "create %s: %s", name, error.text);
	r = eloq_table_open(client, name, &table, &error);
	ck_assert_msg(r == 0, "open %s: %s", name, error.text);
	return table;
}

uint64_t daemon_stat(const struct daemon *daemon, const char *section, const char *name)
{
	struct eloq_client *client = daemon_connect(daemon);
	struct eloq_error error = { 0 };
	struct json_object *stat, *part, *number;
	uint64_t value;
	char *text;
	int r = eloq_daemon_stat(client, &text, &error);

	ck_assert_msg(r == 0, "stat: %s", error.text);
	stat = json_tokener_parse(text);
	ck_assert_msg(stat != NULL, "not JSON: %s", text);
	part = stat;
	if (section)
		ck_assert_msg(json_object_object_get_ex(stat, section, &part), "no %s", section);
	ck_assert_msg(json_object_object_get_ex(part, name, &number), "no %s in %s", name, text);
	value = json_object_get_uint64(number);
	json_object_put(stat);
	free(text);
	eloq_disconnect(client);
	return value;
}

pid_t daemon_fork(void (*body)(void *arg), void *arg)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		body(arg);
		_exit(EXIT_SUCCESS);
	}
	return pid;
}

void daemon_join(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	ck_assert_msg(WIFEXITED(status), "a client process was ended by signal %d",
		      WTERMSIG(status));
	ck_assert_int_eq(WEXITSTATUS(status), EXIT_SUCCESS);
}

int daemon_ctl(const struct daemon *daemon, char **ret_output, const char *format, ...)
{
	char words[2048], command[4096];
	char *output = calloc(1, 1 << 20);
	size_t used = 0, got;
	va_list args;
	FILE *pipe;
	int status;

	ck_assert_ptr_nonnull(output);
	va_start(args, format);
	(void)vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	(void)snprintf(command, sizeof(command), "'%s/eloqctl' --data '%s' %s 2>&1", ELOQ_BIN_DIR,
		       daemon->dir, words);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	while ((got = fread(output + used, 1, (1 << 20) - 1 - used, pipe)) > 0)
		used += got;
	status = pclose(pipe);
	if (ret_output)
		*ret_output = output;
	else
		free(output);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
