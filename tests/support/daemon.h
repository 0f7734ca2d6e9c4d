/*
 * daemon.h - a real eloqstored for end-to-end tests: started, killed, looked into.
 *
 * Each daemon runs in a process group of its own on a data directory below test_tmpdir(); whatever
 * a test leaves running is killed when the test's process ends.
 */
#ifndef ELOQ_TESTS_SUPPORT_DAEMON_H
#define ELOQ_TESTS_SUPPORT_DAEMON_H

#include "client/eloqclient.h"

#include <stdbool.h>
#include <sys/types.h>

enum { DAEMON_SHARDS_MAX = 8 };

struct daemon {
	char dir[256];	   /* data directory */
	char log[280];	   /* its stderr */
	const char *io;	   /* io_backend: "uring" or "pool" */
	unsigned shards;   /* num_threads */
	const char *extra; /* more command line, split at spaces; may be "" */
	pid_t pid;	   /* 0: not running */
};

/* Describe one on a fresh directory: not started yet. @io NULL: from TEST_IO, else "uring". */
void daemon_init(struct daemon *daemon, const char *io, unsigned shards);

/* Start and wait for `ready`; the test fails with the log if it does not come. */
void daemon_start(struct daemon *daemon);

/* Start and expect it to end by itself; its exit code. The log is in daemon->log. */
int daemon_run_to_end(struct daemon *daemon);

/* SIGTERM and wait; the exit code (128 + signal if it was killed). */
int daemon_stop(struct daemon *daemon);

/* kill -9 of the supervisor alone, and reaped. Its workers leave by themselves. */
void daemon_kill(struct daemon *daemon);

/* Pids of the workers now, by shard; 0 where there is none at the moment. */
void daemon_workers(const struct daemon *daemon, pid_t *ret_pids);

/* True if the log holds @text. */
bool daemon_log_has(const struct daemon *daemon, const char *text);

/* Connect a client, or fail the test with its words. */
struct eloq_client *daemon_connect(const struct daemon *daemon);

/* Run eloqctl on this daemon with a shell-like command line; output (stdout and stderr together) in
 * *ret_output, to be freed, if not NULL. Returns its exit code. */
int daemon_ctl(const struct daemon *daemon, char **ret_output, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
