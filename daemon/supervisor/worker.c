/*
 * worker.c - worker processes: started, watched, ended, started again.
 *
 * Idea: everything that must outlive a worker (lanes, bulk memory, its page, the numbers it was
 * given) belongs to its place, the process in it comes and goes. A process is known by its pidfd,
 * so no pid is ever mistaken for another's. Its number, the incarnation, is in STORE and synced
 * before the process exists.
 *
 * A worker hangs if its heartbeat stands still for heartbeat_timeout of time that we ourselves were
 * running: a stop of the whole machine or of us does not count. One that says it is asleep may have
 * nothing to do; it is asked something first, as it may as well have been stopped in its sleep.
 *
 * States: see enum worker_state in internal.h; worker_go_to() is the only place that changes them.
 * Runs on:  the supervisor's thread.
 * Fails by: trying again, with a delay that doubles while deaths follow quickly upon starts.
 */
#include "common/fd.h"
#include "common/log.h"
#include "daemon/supervisor/internal.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	WORKER_SOCKET_FD = 3,	/* in the child */
	WORKER_LEAVE_MS = 7000, /* it drains for at most 5 s */
	WORKER_SHORT_LIFE_MS = 10000,
};

#define WORKER_RESTART_DELAY_MIN_NS (25 * ELOQ_NS_PER_MS)

static const uint8_t worker_may_go_to[] = {
	[WORKER_DOWN] = 1u << WORKER_STARTING | 1u << WORKER_GONE,
	[WORKER_STARTING] =
		1u << WORKER_READY | 1u << WORKER_STOPPING | 1u << WORKER_DOWN | 1u << WORKER_GONE,
	[WORKER_READY] = 1u << WORKER_STOPPING | 1u << WORKER_DOWN | 1u << WORKER_GONE,
	[WORKER_STOPPING] = 1u << WORKER_GONE,
	[WORKER_GONE] = 0,
};

static void worker_go_to(struct worker *worker, enum worker_state next)
{
	eloq_assert(worker_may_go_to[worker->state] & 1u << next);
	worker->state = next;
}

bool super_worker_is_alive(const struct worker *worker)
{
	return worker->socket.fd >= 0 && worker->pidfd.fd >= 0;
}

static uint64_t worker_after_ms(const struct worker *worker, uint64_t ms)
{
	return worker->super->now_ns + ms * ELOQ_NS_PER_MS;
}

/* --- Death -------------------------------------------------------------------------------------
 */

static void worker_signal(const struct worker *worker, int signal)
{
	if (worker->pidfd.fd >= 0)
		(void)pidfd_send_signal(worker->pidfd.fd, signal, NULL, 0);
}

void super_worker_kill(struct worker *worker, const char *reason)
{
	if (worker->pidfd.fd < 0)
		return;
	eloq_log_err("killing a worker shard=%u pid=%d reason=\"%s\"", worker->shard, worker->pid,
		     reason);
	worker_signal(worker, SIGKILL);
	worker->kill_at_ns = UINT64_MAX; /* once is enough */
}

void super_worker_kill_later(struct worker *worker, const char *reason)
{
	worker->kill_at_ns = worker_after_ms(worker, WORKER_LEAVE_MS);
	worker->kill_reason = reason;
}

/* 0 the first time; then doubling while it dies soon after its start. */
static uint64_t worker_restart_delay_ns(struct worker *worker)
{
	const struct supervisor *super = worker->super;
	uint64_t lived_ns = super->now_ns - worker->spawned_ns;
	uint64_t delay_ns;

	if (lived_ns >= WORKER_SHORT_LIFE_MS * ELOQ_NS_PER_MS)
		worker->deaths_in_a_row = 0;
	if (worker->deaths_in_a_row++ == 0)
		return 0;
	delay_ns = WORKER_RESTART_DELAY_MIN_NS << eloq_min_u64(worker->deaths_in_a_row - 2, 20);
	return eloq_min_u64(delay_ns, super->options->restart_delay_max_ns);
}

static void worker_log_death(const struct worker *worker, const siginfo_t *info, bool wanted)
{
	enum eloq_log_level level = wanted ? ELOQ_LOG_INFO : ELOQ_LOG_ERR;

	if (info->si_code == CLD_EXITED)
		eloq_log(level, "worker left shard=%u pid=%d incarnation=%u exit=%d", worker->shard,
			 worker->pid, worker->incarnation, info->si_status);
	else
		eloq_log(level, "worker died shard=%u pid=%d incarnation=%u signal=%s",
			 worker->shard, worker->pid, worker->incarnation,
			 sigabbrev_np(info->si_status));
}

static void worker_forget_process(struct worker *worker)
{
	supervisor_unwatch(worker->super, &worker->socket);
	supervisor_unwatch(worker->super, &worker->pidfd);
	eloq_outbox_clear(&worker->out);
	worker->super->gates_moved = true;
	worker->pid = 0;
	worker->kill_at_ns = 0;
	worker->wants_timestamps = false;
}

static void worker_died(struct worker *worker, const siginfo_t *info)
{
	struct supervisor *super = worker->super;
	bool wanted = supervisor_is_stopping(super) && worker->stopped_cleanly &&
		      info->si_code == CLD_EXITED && info->si_status == 0;

	worker_log_death(worker, info, wanted);
	worker_forget_process(worker);
	super_lane_worker_died(worker);
	super_looks_worker_died(worker);
	if (supervisor_is_stopping(super)) {
		if (!wanted)
			super->exit_code = EX_SOFTWARE;
		worker_go_to(worker, WORKER_GONE);
		return;
	}
	worker->restarts++;
	worker->restart_at_ns = super->now_ns + worker_restart_delay_ns(worker);
	worker_go_to(worker, WORKER_DOWN);
}

static void worker_pidfd_ready(struct watch *watch, uint32_t events ELOQ_UNUSED)
{
	struct worker *worker = eloq_container_of(watch, struct worker, pidfd);
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)watch->fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	/* Its last words first; the socket is closed on its side, so they have an end. */
	while (worker->socket.fd >= 0 && super_link_drain(worker) > 0)
		;
	worker_died(worker, &info);
}

/* --- Start -------------------------------------------------------------------------------------
 */

/* The child has no signal blocked, and a process group of its own: a Ctrl-C at a terminal is for
 * the supervisor alone, which then stops its workers in order. */
static int worker_exec(struct worker *worker, int socket, pid_t *ret_pid)
{
	char fd_text[16], shard_text[16];
	char *argv[] = { (char *)"eloqstored", (char *)"--worker", fd_text, shard_text, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	(void)snprintf(fd_text, sizeof(fd_text), "%d", WORKER_SOCKET_FD);
	(void)snprintf(shard_text, sizeof(shard_text), "%u", worker->shard);
	sigemptyset(&none);
	r = posix_spawn_file_actions_init(&actions);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r)
		goto out;
	r = posix_spawn_file_actions_adddup2(&actions, socket, WORKER_SOCKET_FD);
	if (!r)
		r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	if (!r)
		r = posix_spawnattr_setsigmask(&attr, &none);
	if (!r)
		r = posix_spawn(ret_pid, worker->super->program, &actions, &attr, argv, environ);
	(void)posix_spawnattr_destroy(&attr);
out:
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* Our end never blocks; the worker's does until it was told to go. */
static int worker_open_socket(int ret_ends[2])
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
		int r = -errno;

		eloq_fd_close(ends[0]);
		eloq_fd_close(ends[1]);
		return r;
	}
	ret_ends[0] = ends[0];
	ret_ends[1] = ends[1];
	return 0;
}

/* A process that cannot be watched is ended at once. */
static int worker_watch(struct worker *worker, pid_t pid, int *socket)
{
	struct supervisor *super = worker->super;
	int pidfd = pidfd_open(pid, 0);
	int r;

	r = pidfd < 0 ? -errno : supervisor_watch(super, &worker->pidfd, pidfd, EPOLLIN);
	if (r == 0) {
		r = supervisor_watch(super, &worker->socket, *socket, EPOLLIN);
		if (r == 0) {
			*socket = -1;
			return 0;
		}
		supervisor_unwatch(super, &worker->pidfd);
		pidfd = -1;
	}
	eloq_fd_close(pidfd);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return r;
}

static int worker_spawn(struct worker *worker)
{
	struct supervisor *super = worker->super;
	uint64_t timestamp_floor_us = super->store.timestamp_end_us;
	int ends[2] = { -1, -1 };
	pid_t pid = 0;
	int r;

	if (super->store.incarnation == UINT32_MAX)
		return -ELOQ_ETOOMANY;
	super->store.incarnation++;
	super_link_reserve_timestamps(super);
	r = supervisor_save(super, NULL);
	if (r < 0)
		return r;
	r = worker_open_socket(ends);
	if (r == 0)
		r = worker_exec(worker, ends[1], &pid);
	if (r == 0)
		r = worker_watch(worker, pid, &ends[0]);
	eloq_fd_close(ends[0]);
	eloq_fd_close(ends[1]);
	if (r < 0)
		return r;
	worker->pid = pid;
	worker->incarnation = super->store.incarnation;
	worker->spawned_ns = super->now_ns;
	worker->kill_at_ns = 0;
	worker->stopped_cleanly = false;
	worker->silent_ns = 0;
	worker->nudged = false;
	worker_go_to(worker, WORKER_STARTING);
	super_link_send_start(worker, timestamp_floor_us);
	return 0;
}

static void worker_start(struct worker *worker)
{
	int r = worker_spawn(worker);

	if (r == 0)
		return;
	eloq_log_err("a worker cannot be started shard=%u error=\"%s\"", worker->shard,
		     eloq_err_text(r));
	worker->spawned_ns = worker->super->now_ns;
	worker->restart_at_ns =
		worker->super->now_ns +
		eloq_max_u64(worker_restart_delay_ns(worker), WORKER_RESTART_DELAY_MIN_NS);
}

void super_worker_became_ready(struct worker *worker, const char *notes, size_t notes_bytes)
{
	if (notes_bytes)
		eloq_log_warn("worker says shard=%u note=\"%.*s\"", worker->shard, (int)notes_bytes,
			      notes);
	if (worker->state != WORKER_STARTING)
		return; /* told to stop meanwhile */
	worker_go_to(worker, WORKER_READY);
	worker->was_ready = true;
	worker->silent_ns = 0;
	eloq_log_info("worker ready shard=%u pid=%d incarnation=%u lanes=%u ms=%llu", worker->shard,
		      worker->pid, worker->incarnation, worker->lane_count,
		      (unsigned long long)((worker->super->now_ns - worker->spawned_ns) /
					   ELOQ_NS_PER_MS));
	super_tables_worker_ready(worker);
}

/* --- The clock ---------------------------------------------------------------------------------
 */

/* Give a sleeping worker a reason for a turn: figures, which nobody waits for. */
static void worker_nudge(struct worker *worker)
{
	struct eloq_msg_w_plain msg = { 0 };

	eloq_control_init(&msg, ELOQ_CONTROL_W_LOOK, sizeof(msg),
			  supervisor_next_seq(worker->super));
	super_link_send(worker, &msg, NULL, 0, NULL, 0);
	worker->nudged = true;
}

/* Recovery takes what it takes, and waits for a predecessor's last writes: it is only told of. */
static void worker_check_start(struct worker *worker, uint64_t elapsed_ns)
{
	worker->silent_ns += elapsed_ns;
	if (worker->silent_ns < worker->super->options->heartbeat_timeout_ns)
		return;
	worker->silent_ns = 0;
	eloq_log_warn("worker is still starting shard=%u pid=%d", worker->shard, worker->pid);
}

static void worker_check_heartbeat(struct worker *worker, uint64_t elapsed_ns)
{
	const uint64_t timeout_ns = worker->super->options->heartbeat_timeout_ns;
	const struct eloq_worker_page *page = worker->page_seen;
	/* Relaxed, both: a stale look is corrected by the next one. */
	uint64_t heartbeat = atomic_load_explicit(&page->heartbeat_ns, memory_order_relaxed);
	bool asleep = atomic_load_explicit(&page->asleep, memory_order_relaxed);

	if (heartbeat != worker->heartbeat_ns) {
		worker->heartbeat_ns = heartbeat;
		worker->silent_ns = 0;
		worker->nudged = false;
		return;
	}
	worker->silent_ns += elapsed_ns;
	if (asleep && !worker->nudged) {
		/* Idle, as far as we know: it has the whole time from when it is asked. */
		if (worker->silent_ns < timeout_ns)
			return;
		worker->silent_ns = 0;
		worker_nudge(worker);
	}
	if (worker->silent_ns >= timeout_ns && worker->kill_at_ns != UINT64_MAX)
		super_worker_kill(worker, "its heartbeat stopped");
}

void super_workers_check(struct supervisor *super, uint64_t elapsed_ns)
{
	for (unsigned i = 0; i < super->worker_count; i++) {
		struct worker *worker = &super->workers[i];

		if (!super_worker_is_alive(worker))
			continue;
		if (worker->out.count)
			super_link_flush(worker);
		if (worker->wants_timestamps)
			super_link_send_timestamps(worker);
		if (worker->state == WORKER_STARTING)
			worker_check_start(worker, elapsed_ns);
		else
			worker_check_heartbeat(worker, elapsed_ns);
	}
}

void super_workers_tick(struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++) {
		struct worker *worker = &super->workers[i];

		if (worker->kill_at_ns && worker->kill_at_ns <= super->now_ns)
			super_worker_kill(worker, worker->kill_reason);
		if (worker->state != WORKER_DOWN)
			continue;
		if (supervisor_is_stopping(super))
			worker_go_to(worker, WORKER_GONE);
		else if (worker->restart_at_ns <= super->now_ns)
			worker_start(worker);
	}
}

uint64_t super_workers_next_due_ns(const struct supervisor *super)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < super->worker_count; i++) {
		const struct worker *worker = &super->workers[i];

		if (worker->state == WORKER_DOWN)
			due = eloq_min_u64(due, worker->restart_at_ns);
		if (worker->kill_at_ns)
			due = eloq_min_u64(due, worker->kill_at_ns);
	}
	return due;
}

/* --- All of them -------------------------------------------------------------------------------
 */

static int worker_open(struct worker *worker, struct supervisor *super, unsigned shard,
		       struct eloq_errinfo *reterr)
{
	void *base = NULL;
	int fd, r;

	worker->super = super;
	worker->shard = shard;
	worker->socket = (struct watch){ .fd = -1, .ready = super_link_socket_ready };
	worker->pidfd = (struct watch){ .fd = -1, .ready = worker_pidfd_ready };
	eloq_outbox_init(&worker->out);
	eloq_list_init(&worker->lanes);
	eloq_list_init(&worker->graves);
	r = eloq_data_dir_open_wal(&super->dir, shard, &fd, reterr);
	if (r < 0)
		return r;
	worker->wal = eloq_shared_fd_new(fd);
	r = eloq_segment_create("eloq-worker", ELOQ_WORKER_PAGE_MAGIC, ELOQ_WORKER_PAGE_BYTES, &fd);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot make the page of worker %u", shard);
	worker->page = eloq_shared_fd_new(fd);
	r = eloq_segment_reopen_read_only(fd, &fd);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "cannot open the page of worker %u", shard);
	worker->page_read_only = eloq_shared_fd_new(fd);
	r = eloq_segment_map(fd, ELOQ_WORKER_PAGE_BYTES, false, &base);
	if (r == 0 && (!worker->wal || !worker->page || !worker->page_read_only))
		r = -ENOMEM;
	worker->page_seen = base;
	return r < 0 ? eloq_fail_errno(reterr, r, "cannot map the page of worker %u", shard) : 0;
}

static void worker_close(struct worker *worker)
{
	if (!worker->super)
		return;
	worker_signal(worker, SIGKILL);
	supervisor_unwatch(worker->super, &worker->socket);
	supervisor_unwatch(worker->super, &worker->pidfd);
	eloq_outbox_clear(&worker->out);
	super_lane_worker_died(worker);
	eloq_segment_unmap((void *)(uintptr_t)worker->page_seen, ELOQ_WORKER_PAGE_BYTES);
	eloq_shared_fd_unref(worker->page_read_only);
	eloq_shared_fd_unref(worker->page);
	eloq_shared_fd_unref(worker->wal);
}

int super_workers_open(struct supervisor *super, struct eloq_errinfo *reterr)
{
	unsigned count = (unsigned)super->options->num_threads;

	super->workers = calloc(count, sizeof(*super->workers));
	if (!super->workers)
		return eloq_fail_errno(reterr, -ENOMEM, "workers");
	super->worker_count = count;
	super_cpus_choose(super->cpus, count, strcmp(super->options->cpu_pinning, "auto") == 0);
	for (unsigned i = 0; i < count; i++) {
		int r = worker_open(&super->workers[i], super, i, reterr);

		if (r < 0) {
			super_workers_close(super);
			return r;
		}
	}
	return 0;
}

void super_workers_close(struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++)
		worker_close(&super->workers[i]);
	free(super->workers);
	super->workers = NULL;
	super->worker_count = 0;
}

void super_workers_stop(struct supervisor *super)
{
	struct eloq_msg_w_plain msg = { 0 };

	eloq_control_init(&msg, ELOQ_CONTROL_W_STOP, sizeof(msg), 0);
	for (unsigned i = 0; i < super->worker_count; i++) {
		struct worker *worker = &super->workers[i];

		if (worker->state == WORKER_DOWN) {
			worker_go_to(worker, WORKER_GONE);
			continue;
		}
		super_link_send(worker, &msg, NULL, 0, NULL, 0);
		worker_go_to(worker, WORKER_STOPPING);
	}
}

void super_workers_hurry(struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++) {
		struct worker *worker = &super->workers[i];

		if (worker->pidfd.fd < 0)
			continue;
		worker_signal(worker, SIGTERM);
		if (!worker->kill_at_ns)
			super_worker_kill_later(worker, "it did not stop quickly");
	}
}

bool super_workers_gone(const struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++)
		if (super->workers[i].state != WORKER_GONE)
			return false;
	return true;
}

bool super_workers_all_ready(const struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++)
		if (super->workers[i].state != WORKER_READY)
			return false;
	return true;
}

bool super_workers_settled(const struct supervisor *super)
{
	for (unsigned i = 0; i < super->worker_count; i++)
		if (!super->workers[i].was_ready && super->workers[i].deaths_in_a_row == 0)
			return false;
	return true;
}
