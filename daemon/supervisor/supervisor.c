/*
 * supervisor.c - the supervisor's life: locks, STORE, workers, the socket, and the way back.
 *
 *   STARTING -every worker is ready or had its chance, the socket listens-> SERVING
 *   STARTING, SERVING -SIGTERM or SIGINT-> STOPPING -no worker is left-> the end
 *
 * Idea: one loop over epoll. Its handlers take a bounded amount of work and never wait; what is due
 * by the clock is done between them. A shard that cannot start is tried again and again, and all
 * others serve meanwhile.
 *
 * Always:   nothing in a store path is opened before `lock` and every shard's lock were free;
 *           the socket listens only while we are SERVING.
 * Runs on:  the only thread.
 * Fails by: a line in the log and an exit code of sysexits.h.   docs/architecture.md, "Processes".
 */
#include "daemon/supervisor/supervisor.h"

#include "common/fd.h"
#include "common/log.h"
#include "common/steps.h"
#include "daemon/supervisor/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

enum { SUPER_EVENTS_MAX = 64, SUPER_TICK_MS = 500 };

uint32_t supervisor_next_seq(struct supervisor *super)
{
	if (++super->seq == 0)
		super->seq = 1;
	return super->seq;
}

bool supervisor_is_stopping(const struct supervisor *super)
{
	return super->phase == SUPERVISOR_STOPPING;
}

int supervisor_save(struct supervisor *super, struct eloq_errinfo *reterr)
{
	struct eloq_errinfo error = { 0 };
	int r = eloq_store_file_save(super->dir.fd, &super->store, &error);

	if (r < 0) {
		eloq_log_err("%s dir=%s", error.text, super->dir.path);
		return eloq_fail(reterr, r, "%s", error.text);
	}
	return 0;
}

/* --- Descriptors in the loop -------------------------------------------------------------------
 */

int supervisor_watch(struct supervisor *super, struct watch *watch, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (epoll_ctl(super->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	watch->fd = fd;
	watch->events = events;
	return 0;
}

void supervisor_watch_for(struct supervisor *super, struct watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch->fd < 0 || watch->events == events)
		return;
	/* Changing what is already watched allocates nothing and cannot fail. */
	eloq_assert(epoll_ctl(super->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) == 0);
	watch->events = events;
}

void supervisor_unwatch(struct supervisor *super, struct watch *watch)
{
	if (watch->fd < 0)
		return;
	(void)epoll_ctl(super->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	eloq_fd_clear(&watch->fd);
}

/* --- Signals -----------------------------------------------------------------------------------
 */

static void super_stop(struct supervisor *super)
{
	if (supervisor_is_stopping(super)) {
		if (!super->quick)
			eloq_log_warn("a second signal: stopping quickly");
		super->quick = true;
		super_workers_hurry(super);
		return;
	}
	eloq_log_info("stopping");
	super_notify("STOPPING=1\nSTATUS=Stopping");
	super->phase = SUPERVISOR_STOPPING;
	super_sessions_stop_listening(super);
	super_workers_stop(super);
}

static void super_signalled(struct watch *watch, uint32_t events ELOQ_UNUSED)
{
	struct supervisor *super = eloq_container_of(watch, struct supervisor, signals);
	struct signalfd_siginfo info;

	while (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			eloq_log_info("SIGHUP ignored: the configuration is read at start");
		else
			super_stop(super);
	}
}

static int super_open_loop(void *arg, struct eloq_errinfo *reterr)
{
	struct supervisor *super = arg;
	sigset_t set;
	int fd, r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return eloq_fail_errno(reterr, -errno, "cannot set up signals");
	super->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (super->epoll_fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open epoll");
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	super->signals.ready = super_signalled;
	r = fd < 0 ? -errno : supervisor_watch(super, &super->signals, fd, EPOLLIN);
	if (r < 0) {
		eloq_fd_close(fd);
		eloq_fd_clear(&super->epoll_fd);
		return eloq_fail_errno(reterr, r, "cannot watch signals");
	}
	return 0;
}

static void super_close_loop(void *arg)
{
	struct supervisor *super = arg;

	supervisor_unwatch(super, &super->signals);
	eloq_fd_clear(&super->epoll_fd);
}

/* --- Start -------------------------------------------------------------------------------------
 */

/* Lanes cost descriptors and registered buffers cost locked memory: take what we may have. */
static void super_raise_limit(__rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(resource, &limit);
}

static int super_open_dir(void *arg, struct eloq_errinfo *reterr)
{
	struct supervisor *super = arg;
	int r;

	super_raise_limit(RLIMIT_NOFILE);
	super_raise_limit(RLIMIT_MEMLOCK);
	r = eloq_data_dir_open(&super->dir, super->options->data, reterr);
	if (r < 0)
		return r;
	super->socket_path = super->options->socket ? strdup(super->options->socket) : NULL;
	if (!super->options->socket &&
	    asprintf(&super->socket_path, "%s/eloqstored.sock", super->dir.path) < 0)
		super->socket_path = NULL;
	if (super->socket_path)
		return 0;
	eloq_data_dir_close(&super->dir);
	return eloq_fail_errno(reterr, -ENOMEM, "the socket's path");
}

static void super_close_dir(void *arg)
{
	struct supervisor *super = arg;

	free(super->socket_path);
	eloq_data_dir_close(&super->dir);
}

static int super_wait_for_workers(void *arg, struct eloq_errinfo *reterr)
{
	struct supervisor *super = arg;

	return eloq_data_dir_wait_for_workers(&super->dir, super->signals.fd, reterr);
}

static int super_open_store(void *arg, struct eloq_errinfo *reterr)
{
	struct supervisor *super = arg;

	return super_store_open(super, super->signals.fd, reterr);
}

static void super_close_store(void *arg)
{
	super_store_close(arg);
}

static int super_open_workers(void *arg, struct eloq_errinfo *reterr)
{
	return super_workers_open(arg, reterr);
}

static void super_close_workers(void *arg)
{
	super_workers_close(arg);
}

static const struct eloq_step super_steps[] = {
	{ "open the loop", super_open_loop, super_close_loop },
	{ "lock the data directory", super_open_dir, super_close_dir },
	{ "wait for earlier workers", super_wait_for_workers, NULL },
	{ "open the store", super_open_store, super_close_store },
	{ "prepare workers", super_open_workers, super_close_workers },
};

static void super_report(void *arg ELOQ_UNUSED, const struct eloq_step_report *report)
{
	if (report->event == ELOQ_STEP_DONE)
		eloq_log_debug("%s: done us=%llu", report->step->name,
			       (unsigned long long)(report->duration_ns / ELOQ_NS_PER_US));
}

/* --- The loop ----------------------------------------------------------------------------------
 */

static int super_timeout_ms(const struct supervisor *super)
{
	uint64_t due = super->ticked_ns + SUPER_TICK_MS * ELOQ_NS_PER_MS;
	uint64_t now = eloq_clock_monotonic_ns(super->clock);

	due = eloq_min_u64(due, super_workers_next_due_ns(super));
	due = eloq_min_u64(due, super_tables_next_due_ns(super));
	due = eloq_min_u64(due, super_looks_next_due_ns(super));
	if (due <= now)
		return 0;
	return (int)((due - now + ELOQ_NS_PER_MS - 1) / ELOQ_NS_PER_MS);
}

static void super_serve(struct supervisor *super)
{
	struct eloq_errinfo error = { 0 };

	if (super_sessions_listen(super, &error) < 0) {
		eloq_log_err("%s", error.text);
		super->exit_code = EX_CANTCREAT;
		super_stop(super);
		return;
	}
	super->phase = SUPERVISOR_SERVING;
}

/* What follows from what the workers are. */
static void super_advance(struct supervisor *super)
{
	if (super->phase == SUPERVISOR_STARTING && super_workers_settled(super))
		super_serve(super);
	if (super->phase == SUPERVISOR_SERVING && !super->ready_said &&
	    super_workers_all_ready(super)) {
		super->ready_said = true;
		eloq_log_info("serving dir=%s socket=%s shards=%u", super->dir.path,
			      super->socket_path, super->worker_count);
		eloq_log_info("ready");
		super_notify("READY=1\nSTATUS=Serving");
	}
}

/* What is due by the clock, and what the events before it left to do. */
static void super_tick(struct supervisor *super)
{
	const uint64_t tick_ns = SUPER_TICK_MS * ELOQ_NS_PER_MS;
	uint64_t elapsed_ns = super->now_ns - super->ticked_ns;

	super_workers_tick(super);
	super_tables_tick(super);
	super_looks_tick(super);
	if (elapsed_ns >= tick_ns) {
		super->ticked_ns = super->now_ns;
		/* Time in which we did not run ourselves says nothing about others. */
		super_workers_check(super, eloq_min_u64(elapsed_ns, 2 * tick_ns));
		super_sessions_check(super);
	}
	super_advance(super);
	if (super->gates_moved) {
		super->gates_moved = false;
		super_sessions_gates_moved(super);
	}
	super_sessions_bury(super);
}

static void super_loop(struct supervisor *super)
{
	struct epoll_event events[SUPER_EVENTS_MAX];

	while (!supervisor_is_stopping(super) || !super_workers_gone(super)) {
		int count = epoll_wait(super->epoll_fd, events, SUPER_EVENTS_MAX,
				       super_timeout_ms(super));

		super->now_ns = eloq_clock_monotonic_ns(super->clock);
		for (int i = 0; i < count; i++) {
			struct watch *watch = events[i].data.ptr;

			if (watch->fd >= 0)
				watch->ready(watch, events[i].events);
		}
		super_tick(super);
	}
}

static int super_exit_code(int error)
{
	switch (-error) {
	case 0:
	case ECANCELED:
		return EX_OK;
	case ELOQ_ECONFIG:
		return EX_CONFIG;
	case ELOQ_EBUSYOWNER:
		return EX_TEMPFAIL;
	case ELOQ_ECORRUPT:
	case ELOQ_EVERSION:
		return EX_DATAERR;
	case EACCES:
	case EPERM:
	case EROFS:
		return EX_NOPERM;
	case ENOENT:
	case ENOTDIR:
	case EEXIST:
	case ENAMETOOLONG:
		return EX_CANTCREAT;
	case EIO:
	case ENOSPC:
		return EX_IOERR;
	default:
		return EX_OSERR;
	}
}

int eloq_supervisor_run(struct eloq_options *options, const char *program)
{
	struct eloq_errinfo error = { 0 };
	struct supervisor super = {
		.options = options,
		.clock = eloq_clock_system(),
		.program = program,
		.epoll_fd = -1,
		.signals.fd = -1,
		.listener.fd = -1,
		.dir.fd = -1,
		.dir.lock_fd = -1,
	};
	struct eloq_steps steps = {
		.steps = super_steps,
		.count = ELOQ_ARRAY_SIZE(super_steps),
		.arg = &super,
		.clock = super.clock,
		.on_report = super_report,
	};
	int r;

	eloq_list_init(&super.sessions);
	eloq_list_init(&super.dead_sessions);
	eloq_list_init(&super.drops);
	eloq_list_init(&super.looks);
	super.started_ns = super.now_ns = super.ticked_ns = eloq_clock_monotonic_ns(super.clock);
	r = eloq_steps_run(&steps, &error);
	if (r < 0) {
		eloq_log(r == -ECANCELED ? ELOQ_LOG_INFO : ELOQ_LOG_ERR, "%s", error.text);
		return super_exit_code(r);
	}
	super_tables_resume_drops(&super);
	super_loop(&super);
	super_sessions_stop_listening(&super);
	super_sessions_close_all(&super);
	super_tables_close(&super);
	super_looks_close(&super);
	eloq_steps_undo(&steps);
	eloq_log_info(super.exit_code ? "stopped, not cleanly" : "stopped");
	return super.exit_code;
}
