/*
 * daemon.h - a real eloqstored for end-to-end tests: started, killed, looked into.
 *
 * Each daemon runs in a process group of its own on a data directory below test_tmpdir(); whatever
 * a test leaves running is killed when the test's process ends.
 */
#ifndef ELOQ_TESTS_SUPPORT_DAEMON_H
#define ELOQ_TESTS_SUPPORT_DAEMON_H

#include "client/eloqclient.h"
#include "tests/support/test.h"

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

/*
 * One body, two tests: X_on_uring and X_on_pool; the first is skipped where io_uring is refused.
 *
 *   TEST_ON_BOTH(values_come_back)       - `io` is the back-end's name
 *   {
 *           daemon_init(&daemon, io, 2);
 */
#define TEST_ON_BOTH(name)                       \
	static void name##_body(const char *io); \
	TEST(name##_on_uring)                    \
	{                                        \
		daemon_need_uring();             \
		name##_body("uring");            \
	}                                        \
	TEST(name##_on_pool)                     \
	{                                        \
		name##_body("pool");             \
	}                                        \
	static void name##_body(const char *io)

/* Skips the running test where io_uring is refused. */
void daemon_need_uring(void);

/* Describe one on a fresh directory: not started yet. @io NULL: from TEST_IO, else "uring". */
void daemon_init(struct daemon *daemon, const char *io, unsigned shards);

/* Start and wait for `ready`; the test fails with the log if it does not come. */
void daemon_start(struct daemon *daemon);

/* Start and expect it to end by itself; its exit code. The log is in daemon->log. */
int daemon_run_to_end(struct daemon *daemon);

/* Wait for its end; the exit code (128 + signal if it was killed). */
int daemon_wait(struct daemon *daemon);

/* SIGTERM and wait; the exit code (128 + signal if it was killed). */
int daemon_stop(struct daemon *daemon);

/* kill -9 of the supervisor alone, and reaped. Its workers leave by themselves. */
void daemon_kill(struct daemon *daemon);

/* kill -9 of supervisor and workers at once, and the supervisor reaped. */
void daemon_kill_everything(struct daemon *daemon);

/* Pids of the workers now, by shard; 0 where there is none at the moment. */
void daemon_workers(const struct daemon *daemon, pid_t *ret_pids);

/* Wait until @shard has a worker other than @before (0: any); its pid. */
pid_t daemon_wait_worker(const struct daemon *daemon, unsigned shard, pid_t before);

/* True if the log holds @text. The whole log: free() it. */
bool daemon_log_has(const struct daemon *daemon, const char *text);
char *daemon_log_text(const struct daemon *daemon);

/* Connect a client, or fail the test with its words. */
struct eloq_client *daemon_connect(const struct daemon *daemon);

/* Open a table, made with @partitions if it is not there. */
struct eloq_table *daemon_table(struct eloq_client *client, const char *name, uint32_t partitions);

/* One number of the daemon's statistics: of the whole, or of @section ("total": all workers'). */
uint64_t daemon_stat(const struct daemon *daemon, const char *section, const char *name);

/* Poll @holds every 10 ms until it does; the test fails with @what after a minute. */
void daemon_wait_until(bool (*holds)(void *arg), void *arg, const char *what);
void daemon_sleep_ms(long ms);

/* --- Client processes --------------------------------------------------------------------------
 */

/* Run @body in a process of its own, which ends with it. */
pid_t daemon_fork(void (*body)(void *arg), void *arg);
/* Wait for it and fail the test unless all went well there. */
void daemon_join(pid_t pid);

/* Run eloqctl on this daemon with a shell-like command line; output (stdout and stderr together) in
 * *ret_output, to be freed, if not NULL. Returns its exit code. */
int daemon_ctl(const struct daemon *daemon, char **ret_output, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
