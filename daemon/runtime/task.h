/*
 * task.h - tasks: code that waits without blocking its thread.
 *
 * Idea: a task is a stackful coroutine from a fixed pool. Tree code that must read a page calls a
 * function whose name ends in _await; the task's stack is set aside, the shard's loop goes on, and
 * the task continues when its I/O has ended. So it reads like blocking code. After any _await
 * whatever was known of shared state is stale.
 *
 * Always:   a task is exactly one of free, ready, running, waiting; only the running one executes.
 * Runs on:  the thread that opened the scheduler. Wakes come from that thread too.
 * Fails by: eloq_task_start() answering -EAGAIN when the pool is empty. Stacks end in a guard
 *           page: an overflow is a SIGSEGV, not a corruption.
 */
#ifndef ELOQ_DAEMON_RUNTIME_TASK_H
#define ELOQ_DAEMON_RUNTIME_TASK_H

#include "common/list.h"
#include "daemon/io/io.h"

#include <stddef.h>
#include <stdint.h>

struct eloq_sched;
struct eloq_task;

struct eloq_sched_opts {
	unsigned tasks_max; /* size of the pool, > 0 */
	size_t stack_bytes; /* of each task, a multiple of 4096, without the guard page */
};

int eloq_sched_open(struct eloq_sched **ret_sched, const struct eloq_sched_opts *opts);

/* NULL is fine. All tasks must have ended. */
void eloq_sched_close(struct eloq_sched *sched);

/* Make a task that will run fn(arg) in a later eloq_sched_run(). -EAGAIN: pool empty. */
int eloq_task_start(struct eloq_sched *sched, void (*fn)(void *arg), void *arg);

/* Run ready tasks, up to @tasks_max, each once; tasks that become ready meanwhile may wait for the
 * next call. Returns how many ran. */
unsigned eloq_sched_run(struct eloq_sched *sched, unsigned tasks_max);

/* Tasks that are ready now; tasks that exist (ready, running or waiting). */
unsigned eloq_sched_ready_count(const struct eloq_sched *sched);
unsigned eloq_sched_live_count(const struct eloq_sched *sched);

/* The running task of this thread, or NULL outside of tasks. */
struct eloq_task *eloq_task_self(void);

/* Set the running task aside until eloq_task_wake(). A wake that came before is not remembered:
 * the caller makes sure that nothing runs between its check and this call (it need only not
 * suspend). */
void eloq_task_suspend_await(void);

/* Make a waiting task ready. It must be waiting. */
void eloq_task_wake(struct eloq_task *task);

/* Let the others run: the task goes to the end of the ready queue. */
void eloq_task_yield_await(void);

/* A queue of waiting tasks. */
struct eloq_waitq {
	struct eloq_list waiters;
};

void eloq_waitq_init(struct eloq_waitq *waitq);
void eloq_waitq_await(struct eloq_waitq *waitq);    /* until woken; first come, first woken */
void eloq_waitq_wake_one(struct eloq_waitq *waitq); /* nobody waiting: nothing */
void eloq_waitq_wake_all(struct eloq_waitq *waitq);
bool eloq_waitq_empty(const struct eloq_waitq *waitq);

/* Submit @req and wait for its end; done and arg of @req are overwritten. Returns req->result. */
int64_t eloq_task_io_await(struct eloq_io *io, struct eloq_io_req *req);

/*
 * Several requests in flight for one task. The first error is kept; later results do not replace
 * it. The group lies on the task's stack or in its structures and must outlive its requests.
 */
struct eloq_io_group {
	struct eloq_io *io;
	struct eloq_task *waiter;
	unsigned in_flight;
	unsigned wake_below;
	int error; /* 0 or the first -errno; a caller may reset it when in_flight == 0 */
};

void eloq_io_group_init(struct eloq_io_group *group, struct eloq_io *io);
/* done and arg of @req are overwritten; @on_done (NULL is fine) is called when it has ended. */
struct eloq_io_group_req {
	struct eloq_io_req req;
	struct eloq_io_group *group;
	void (*on_done)(struct eloq_io_group_req *greq);
	void *arg;
};
void eloq_io_group_submit(struct eloq_io_group *group, struct eloq_io_group_req *greq);
/* Wait until at most @in_flight_max of the group's requests are in flight; returns group->error. */
int eloq_io_group_await(struct eloq_io_group *group, unsigned in_flight_max);

#endif
