/*
 * daemon.c - see daemon.h.
 *
 * Workers are found as the children of the supervisor whose command line says --worker, so that
 * tests need no cooperation of the daemon.
 */
#include "tests/support/daemon.h"

#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

enum { DAEMON_ARGS_MAX = 64, DAEMON_READY_TRIES = 6000, DAEMONS_MAX = 16 };

static pid_t daemon_started[DAEMONS_MAX];

static void daemon_sleep_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };

	(void)nanosleep(&ts, NULL);
}

static void daemon_kill_all(void)
{
	for (unsigned i = 0; i < DAEMONS_MAX; i++)
		if (daemon_started[i] > 0)
			(void)kill(-daemon_started[i], SIGKILL);
}

static void daemon_remember(pid_t pid)
{
	static bool registered;

	if (!registered)
		(void)atexit(daemon_kill_all);
	registered = true;
	for (unsigned i = 0; i < DAEMONS_MAX; i++) {
		if (daemon_started[i] == 0) {
			daemon_started[i] = pid;
			return;
		}
	}
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

static char *daemon_read_log(const struct daemon *daemon)
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
	char *log = daemon_read_log(daemon);
	bool has = strstr(log, text) != NULL;

	free(log);
	return has;
}

static unsigned daemon_log_count(const struct daemon *daemon, const char *text)
{
	char *log = daemon_read_log(daemon);
	unsigned count = 0;

	for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
		count++;
	free(log);
	return count;
}

static void daemon_fail_with_log(const struct daemon *daemon, const char *what)
{
	char *log = daemon_read_log(daemon);

	printf("%s; its log:\n%s\n", what, log);
	free(log);
	ck_abort_msg("%s", what);
}

void daemon_start(struct daemon *daemon)
{
	unsigned before = daemon_log_count(daemon, "ready\n");

	daemon->pid = daemon_spawn(daemon);
	daemon_remember(daemon->pid);
	for (unsigned i = 0; i < DAEMON_READY_TRIES; i++) {
		int status;

		if (daemon_log_count(daemon, "ready\n") > before)
			return;
		if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid)
			daemon_fail_with_log(daemon, "the daemon ended before it was ready");
		daemon_sleep_ms(10);
	}
	daemon_fail_with_log(daemon, "the daemon did not get ready");
}

static int daemon_wait(struct daemon *daemon)
{
	int status;

	while (waitpid(daemon->pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
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

struct eloq_client *daemon_connect(const struct daemon *daemon)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts), .data_dir = daemon->dir };
	struct eloq_error error = { 0 };
	struct eloq_client *client;
	int r = eloq_connect(&client, &opts, &error);

	ck_assert_msg(r == 0, "connect: %s", error.text);
	return client;
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
