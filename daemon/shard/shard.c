/*
 * shard.c - the life of a worker process: locks first, then the engine, then lanes.
 *
 * Idea: start-up is a list of steps with their undo. The shard's lock is taken before anything in
 * a store path is opened, through a descriptor that the I/O back-end keeps alive until the last
 * I/O of this process has ended: a successor that gets the lock meets no late write of ours.
 *
 * Runs on: the only thread. Fails by: a line in the log and an exit code; the supervisor restarts.
 */
#include "daemon/shard/shard.h"

#include "common/fd.h"
#include "common/log.h"
#include "daemon/options.h"
#include "daemon/shard/internal.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sysexits.h>

enum { SHARD_TIMERS_MAX = ELOQ_LANES_PER_WORKER_MAX + 64 };

static int shard_open_link(struct shard *shard, struct eloq_errinfo *reterr)
{
	int r;

	shard->message = malloc(ELOQ_CONTROL_BYTES_MAX);
	shard->tables = calloc(ELOQ_TABLES_MAX, sizeof(*shard->tables));
	if (!shard->message || !shard->tables)
		return eloq_fail_errno(reterr, -ENOMEM, "message buffers");
	r = shard_link_receive_start(shard, reterr);
	if (r < 0)
		return r;
	eloq_log_setup(shard->name, eloq_options_log_level(shard->start.log_level));
	shard->count = (int)shard->start.shard_count;
	shard->incarnation = shard->start.incarnation;
	shard->timestamp_last_us = shard->start.timestamp_floor_us;
	shard->timestamp_ceiling_us = shard->start.timestamp_ceiling_us;
	return 0;
}

static int shard_pin(struct shard *shard, struct eloq_errinfo *reterr ELOQ_UNUSED)
{
	cpu_set_t cpus;

	if (shard->start.cpu == ELOQ_CPU_NONE)
		return 0;
	CPU_ZERO(&cpus);
	CPU_SET(shard->start.cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
		eloq_log_warn("not pinned cpu=%u error=\"%s\"", shard->start.cpu, strerror(errno));
		shard->start.cpu = ELOQ_CPU_NONE;
	}
	return 0;
}

/* Waits for a predecessor whose last writes are still on their way. */
static int shard_lock(struct shard *shard, struct eloq_errinfo *reterr)
{
	shard->lock_fd = openat(shard->wal_dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (shard->lock_fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open the shard's lock");
	while (flock(shard->lock_fd, LOCK_EX) < 0) {
		if (errno != EINTR)
			return eloq_fail_errno(reterr, -errno, "cannot take the shard's lock");
	}
	return 0;
}

static int shard_open_page(struct shard *shard, struct eloq_errinfo *reterr)
{
	void *base;
	int r;

	r = eloq_segment_map(shard->page_fd, ELOQ_WORKER_PAGE_BYTES, true, &base);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot map the worker's page");
	shard->page = base;
	/* Relaxed, all three: clients learn of us by the lanes' generation, which is released. */
	atomic_store_explicit(&shard->page->cpu, shard->start.cpu, memory_order_relaxed);
	atomic_store_explicit(&shard->page->incarnation, shard->incarnation, memory_order_relaxed);
	eloq_worker_page_set_awake(shard->page);
	return 0;
}

static int shard_open_io(struct shard *shard, struct eloq_errinfo *reterr)
{
	struct eloq_io_opts opts = { .backend = shard->start.io_backend,
				     .depth = shard->start.io_depth,
				     .pool_threads = shard->start.pool_threads };
	const char *note = NULL;
	int r;

	r = eloq_io_open(&shard->io, &opts, &note, reterr);
	if (r < 0)
		return r;
	if (note)
		eloq_log_warn("%s", note);
	r = eloq_io_hold(shard->io, shard->lock_fd);
	for (unsigned i = 0; r >= 0 && i < shard->root_count; i++) {
		r = eloq_io_hold(shard->io, shard->root_fds[i]);
		if (r >= 0)
			r = eloq_io_adopt_fd(shard->io, eloq_fd_take(&shard->root_fds[i]),
					     &shard->roots[i]);
	}
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot hold the locks");
	return 0;
}

static int shard_open_runtime(struct shard *shard, struct eloq_errinfo *reterr)
{
	struct eloq_sched_opts opts = { .tasks_max = shard->start.tasks_max,
					.stack_bytes = ELOQ_TASK_STACK_BYTES };
	int r;

	r = eloq_sched_open(&shard->sched, &opts);
	if (r >= 0)
		r = eloq_timers_open(&shard->timers, SHARD_TIMERS_MAX);
	if (r >= 0)
		r = shard_requests_open(shard);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot set up tasks");
	return 0;
}

static int shard_open_store(struct shard *shard, struct eloq_errinfo *reterr)
{
	const struct eloq_msg_w_start *start = &shard->start;
	const char *note = NULL;
	struct eloq_store_opts opts = {
		.page_bytes = start->page_bytes,
		.pages_per_file_shift = start->pages_per_file_shift,
		.overflow_pointers = start->overflow_pointers,
		.append_mode = start->append_mode,
		.data_restart_interval = start->data_restart_interval,
		.index_restart_interval = start->index_restart_interval,
		.manifest_bytes_max = start->manifest_bytes_max,
		.cache_bytes = start->cache_bytes,
		.files_max = start->files_max,
		.verify_checksums = start->verify_checksums,
		.shard_index = start->shard,
		.shard_count = start->shard_count,
		.roots = shard->roots,
		.root_names = (const char *const *)shard->root_names,
		.root_count = shard->root_count,
		.clock = shard->clock,
	};
	int r;

	r = eloq_store_open(&shard->store, &opts, shard->io, shard->sched, &note, reterr);
	if (r < 0)
		return r;
	if (note)
		eloq_log_warn("%s", note);
	return 0;
}

static int shard_open_lanes(struct shard *shard, struct eloq_errinfo *reterr)
{
	int r;

	eloq_list_init(&shard->lanes);
	eloq_list_init(&shard->hot_lanes);
	eloq_list_init(&shard->dirty_lanes);
	eloq_list_init(&shard->dead_lanes);
	shard->cold_cursor = &shard->lanes;
	r = shard_link_open(shard);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "the supervisor did not say go");
	shard_link_reply(shard, ELOQ_CONTROL_W_READY, 0, 0, "");
	return 0;
}

/* A signal asks for a clean stop: SIGTERM, also sent by the kernel when the supervisor died. */
static void shard_signalled(struct eloq_io_poll *poll)
{
	struct shard *shard = poll->arg;
	struct signalfd_siginfo info;

	while (read(poll->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (shard->state == SHARD_SERVING)
			shard->state = SHARD_DRAINING;
}

static int shard_watch_signals(struct shard *shard, struct eloq_errinfo *reterr)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	shard->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (shard->signal_fd < 0)
		return eloq_fail_errno(reterr, -errno, "signalfd");
	shard->signal_poll = (struct eloq_io_poll){ .fd = shard->signal_fd,
						    .ready = shard_signalled,
						    .arg = shard };
	r = eloq_io_poll_start(shard->io, &shard->signal_poll);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot watch signals");
	return 0;
}

typedef int (*shard_step)(struct shard *shard, struct eloq_errinfo *reterr);

static int shard_start(struct shard *shard, struct eloq_errinfo *reterr)
{
	static const shard_step steps[] = {
		shard_open_link,     shard_pin,	       shard_lock,
		shard_open_page,     shard_open_io,    shard_open_runtime,
		shard_watch_signals, shard_open_store, shard_open_lanes,
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(steps); i++) {
		int r = steps[i](shard, reterr);

		if (r < 0)
			return r;
	}
	return 0;
}

static int shard_exit_code(int error)
{
	switch (error) {
	case -ELOQ_ECORRUPT:
		return EX_DATAERR;
	case -ENOMEM:
		return EX_OSERR;
	case -ELOQ_EPROTOCOL:
	case -ELOQ_EVERSION:
		return EX_PROTOCOL;
	default:
		return EX_IOERR;
	}
}

/* What the process holds goes with it; only what others must see is done here. */
static int shard_end(struct shard *shard)
{
	bool poisoned = eloq_store_is_poisoned(shard->store);
	bool clean = !shard->failed && !poisoned;

	if (poisoned)
		eloq_log_err("a sync failed, leaving to recover from what the disk holds");
	if (!clean)
		return poisoned ? EX_IOERR : EX_UNAVAILABLE;
	/* Whom only a signal ended has a successor, which goes on with the lanes. */
	if (shard->told_to_stop || shard->link_lost)
		shard_lanes_close_all(shard, ELOQ_LANE_REASON_STOPPED);
	shard_lanes_bury(shard);
	eloq_store_close(shard->store);
	if (!shard->link_lost)
		shard_link_reply(shard, ELOQ_CONTROL_W_STOPPED, 0, 0, "");
	return shard->link_lost ? EX_UNAVAILABLE : 0;
}

int eloq_shard_main(int control_socket, int shard_index)
{
	static struct shard shard = {
		.page_fd = -1, .wal_dir_fd = -1, .lock_fd = -1, .signal_fd = -1
	};
	struct eloq_errinfo error = { 0 };
	int r;

	(void)snprintf(shard.name, sizeof(shard.name), "worker[%d]", shard_index);
	eloq_log_setup(shard.name, ELOQ_LOG_INFO);
	/* The terminal's Ctrl-C goes to the whole group; the supervisor decides what it means. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	shard.socket = control_socket;
	shard.index = shard_index;
	shard.clock = eloq_clock_system();
	shard.drain_until_ns = UINT64_MAX;
	r = shard_start(&shard, &error);
	if (r < 0) {
		eloq_log_err("cannot start error=\"%s\"",
			     error.text[0] ? error.text : eloq_err_text(r));
		return shard_exit_code(r);
	}
	shard_loop(&shard);
	return shard_end(&shard);
}
