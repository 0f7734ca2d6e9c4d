/*
 * idle_test.c - a daemon that has nothing to do, with a client that is connected, does next to
 * nothing: under 1 % of a CPU and under 20 wake-ups a second, supervisor and workers together.
 */
#include "tests/support/service.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256 };

struct usage {
	uint64_t cpu_ticks; /* user and system */
	unsigned thread_count;
	struct {
		long tid;
		uint64_t wakeups; /* voluntary context switches */
	} threads[THREADS_MAX];
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

static uint64_t wakeups_of(pid_t pid, const char *tid)
{
	static const char name[] = "voluntary_ctxt_switches:";
	char path[320], line[256];
	uint64_t wakeups = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, tid);
	file = fopen(path, "re");
	if (!file)
		return 0; /* the thread has just ended */
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, sizeof(name) - 1) == 0)
			wakeups = strtoull(line + sizeof(name) - 1, NULL, 10);
	(void)fclose(file);
	return wakeups;
}

static void add_threads(struct usage *usage, pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		ck_assert_uint_lt(usage->thread_count, THREADS_MAX);
		usage->threads[usage->thread_count].tid = strtol(entry->d_name, NULL, 10);
		usage->threads[usage->thread_count++].wakeups = wakeups_of(pid, entry->d_name);
	}
	(void)closedir(dir);
}

/* Threads come and go (the kernel's own for io_uring too): each one's growth counts. */
static uint64_t wakeups_between(const struct usage *before, const struct usage *after)
{
	uint64_t wakeups = 0;

	for (unsigned i = 0; i < after->thread_count; i++) {
		wakeups += after->threads[i].wakeups;
		for (unsigned k = 0; k < before->thread_count; k++)
			if (before->threads[k].tid == after->threads[i].tid)
				wakeups -= before->threads[k].wakeups;
	}
	return wakeups;
}

static struct usage usage_of(const struct daemon *daemon)
{
	struct usage usage = { 0 };
	pid_t workers[DAEMON_SHARDS_MAX];

	daemon_workers(daemon, workers);
	add_cpu(&usage, daemon->pid);
	add_threads(&usage, daemon->pid);
	for (unsigned i = 0; i < daemon->shards; i++) {
		add_cpu(&usage, workers[i]);
		add_threads(&usage, workers[i]);
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
	wakeups = (double)wakeups_between(&before, &after) / seconds;
	printf("%s: %.2f %% CPU, %.1f wake-ups a second\n", io, cpu_percent, wakeups);
	ck_assert_msg(cpu_percent < 1.0, "%.2f %% CPU", cpu_percent);
	ck_assert_msg(wakeups < 20.0, "%.1f wake-ups a second", wakeups);
	service_stop(&s);
}
