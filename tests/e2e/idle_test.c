/*
 * idle_test.c - a daemon that has nothing to do, with a client that is connected, does next to
 * nothing: under 1 % of a CPU and under 20 wake-ups a second, supervisor and workers together.
 */
#include "tests/support/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct usage {
	uint64_t cpu_ticks; /* user and system */
	uint64_t wakeups;   /* voluntary context switches of all threads */
};

static void add_cpu(struct usage *usage, pid_t pid)
{
	char path[64], line[1024];
	uint64_t user, system;
	const char *p;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
	(void)fclose(file);
	p = strrchr(line, ')');
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(sscanf(p + 1,
				" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
				&user, &system),
			 2);
	usage->cpu_ticks += user + system;
}

static void add_wakeups(struct usage *usage, pid_t pid)
{
	char command[128], line[128];
	uint64_t switches;
	FILE *pipe;

	(void)snprintf(command, sizeof(command),
		       "grep -h ^voluntary_ctxt_switches /proc/%d/task/*/status", (int)pid);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		ck_assert_int_eq(sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &switches), 1);
		usage->wakeups += switches;
	}
	ck_assert_int_eq(pclose(pipe), 0);
}

static struct usage usage_of(const struct daemon *daemon)
{
	struct usage usage = { 0 };
	pid_t workers[DAEMON_SHARDS_MAX];

	daemon_workers(daemon, workers);
	add_cpu(&usage, daemon->pid);
	add_wakeups(&usage, daemon->pid);
	for (unsigned i = 0; i < daemon->shards; i++) {
		add_cpu(&usage, workers[i]);
		add_wakeups(&usage, workers[i]);
	}
	return usage;
}

static double now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

TEST_ON_BOTH(an_idle_daemon_with_a_connected_client_sleeps)
{
	struct service s;
	struct usage before, after;
	double start_s, seconds, cpu_percent, wakeups;

	service_start(&s, io, 2);
	for (char key = 'a'; key <= 'z'; key++)
		ck_assert_int_eq(eloq_put(s.channel, s.table, &key, 1, "v", 1, NULL), 0);
	daemon_sleep_ms(1000); /* what follows upon work is not idleness */
	start_s = now_s();
	before = usage_of(&s.daemon);
	daemon_sleep_ms(4000);
	after = usage_of(&s.daemon);
	seconds = now_s() - start_s;
	cpu_percent = 100.0 * (double)(after.cpu_ticks - before.cpu_ticks) /
		      (double)sysconf(_SC_CLK_TCK) / seconds;
	wakeups = (double)(after.wakeups - before.wakeups) / seconds;
	printf("%s: %.2f %% CPU, %.1f wake-ups a second\n", io, cpu_percent, wakeups);
	ck_assert_msg(cpu_percent < 1.0, "%.2f %% CPU", cpu_percent);
	ck_assert_msg(wakeups < 20.0, "%.1f wake-ups a second", wakeups);
	service_stop(&s);
}
