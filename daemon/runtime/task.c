/*
 * task.c - the scheduler: which task runs next, and who waits for what. See task.h.
 *
 * Idea: a task is linked into exactly one list by its one link: the free tasks (last ended, first
 * started again, as its stack is still in the cache), the ready queue, or the queue it waits in. A
 * task that waits for something else, an I/O say, is linked nowhere: who will wake it knows it.
 *
 * Always:   states change in task_go_to() alone; between two of them nothing of a task runs.
 * Runs on:  the thread that opened the scheduler; no locks, no atomics.
 */
#include "daemon/runtime/task.h"

#include "daemon/runtime/coro.h"

#include <errno.h>
#include <stdlib.h>

/*
 *            start            run              ends
 *      FREE -------> READY --------> RUNNING --------> FREE
 *                    ^   ^              |  |
 *                    |   +---- yield ---+  | suspend, waitq_await
 *                    |                     v
 *                    +------ wake ------ WAITING
 */
enum task_state { TASK_FREE, TASK_READY, TASK_RUNNING, TASK_WAITING };

struct eloq_task {
	struct eloq_coro coro;
	struct eloq_list link;
	struct eloq_sched *sched;
	enum task_state state;
};

struct eloq_sched {
	struct eloq_coro_stacks *stacks;
	struct eloq_list free;
	struct eloq_list ready;
	unsigned ready_count;
	unsigned live_count;
	unsigned tasks_max;
	struct eloq_task tasks[];
};

/* NULL while the thread runs no task. */
static _Thread_local struct eloq_task *task_running;

static const uint8_t task_may_go_to[] = {
	[TASK_FREE] = 1u << TASK_READY,
	[TASK_READY] = 1u << TASK_RUNNING,
	[TASK_RUNNING] = 1u << TASK_READY | 1u << TASK_WAITING | 1u << TASK_FREE,
	[TASK_WAITING] = 1u << TASK_READY,
};

static void task_go_to(struct eloq_task *task, enum task_state next)
{
	eloq_assert(task_may_go_to[task->state] & 1u << next);
	task->state = next;
}

static void task_make_ready(struct eloq_task *task)
{
	struct eloq_sched *sched = task->sched;

	task_go_to(task, TASK_READY);
	eloq_list_push_back(&sched->ready, &task->link);
	sched->ready_count++;
}

int eloq_sched_open(struct eloq_sched **ret_sched, const struct eloq_sched_opts *opts)
{
	struct eloq_sched *sched;
	int r;

	if (opts->tasks_max == 0)
		return -EINVAL;
	sched = calloc(1, sizeof(*sched) + opts->tasks_max * sizeof(sched->tasks[0]));
	if (!sched)
		return -ENOMEM;
	r = eloq_coro_stacks_open(&sched->stacks, opts->tasks_max, opts->stack_bytes);
	if (r < 0) {
		free(sched);
		return r;
	}
	eloq_list_init(&sched->free);
	eloq_list_init(&sched->ready);
	sched->tasks_max = opts->tasks_max;
	for (unsigned i = 0; i < opts->tasks_max; i++) {
		struct eloq_task *task = &sched->tasks[i];

		eloq_coro_init(&task->coro, sched->stacks, i);
		task->sched = sched;
		task->state = TASK_FREE;
		eloq_list_push_back(&sched->free, &task->link);
	}
	*ret_sched = sched;
	return 0;
}

void eloq_sched_close(struct eloq_sched *sched)
{
	if (!sched)
		return;
	eloq_assert(sched->live_count == 0);
	eloq_coro_stacks_close(sched->stacks);
	free(sched);
}

int eloq_task_start(struct eloq_sched *sched, void (*fn)(void *arg), void *arg)
{
	struct eloq_list *node = eloq_list_pop_front(&sched->free);
	struct eloq_task *task;

	if (!node)
		return -EAGAIN;
	task = eloq_list_entry(node, struct eloq_task, link);
	eloq_coro_start(&task->coro, fn, arg);
	task_make_ready(task);
	sched->live_count++;
	return 0;
}

/* Runs @task until it suspends or ends. */
static void sched_run_one(struct eloq_sched *sched, struct eloq_task *task)
{
	bool ended;

	task_go_to(task, TASK_RUNNING);
	task_running = task;
	ended = eloq_coro_resume(&task->coro);
	task_running = NULL;
	if (ended) {
		task_go_to(task, TASK_FREE);
		eloq_list_push_front(&sched->free, &task->link);
		sched->live_count--;
	}
}

unsigned eloq_sched_run(struct eloq_sched *sched, unsigned tasks_max)
{
	/* What becomes ready from here on stands behind these, so none of them runs twice. */
	unsigned run_count = (unsigned)eloq_min_u64(sched->ready_count, tasks_max);

	eloq_assert(!task_running);
	for (unsigned i = 0; i < run_count; i++) {
		struct eloq_list *node = eloq_list_pop_front(&sched->ready);

		sched->ready_count--;
		sched_run_one(sched, eloq_list_entry(node, struct eloq_task, link));
	}
	return run_count;
}

unsigned eloq_sched_ready_count(const struct eloq_sched *sched)
{
	return sched->ready_count;
}

unsigned eloq_sched_live_count(const struct eloq_sched *sched)
{
	return sched->live_count;
}

struct eloq_task *eloq_task_self(void)
{
	return task_running;
}

void eloq_task_suspend_await(void)
{
	struct eloq_task *self = task_running;

	eloq_assert(self);
	task_go_to(self, TASK_WAITING);
	eloq_coro_suspend_await(&self->coro);
}

void eloq_task_wake(struct eloq_task *task)
{
	eloq_assert(task->state == TASK_WAITING);
	eloq_list_remove(&task->link); /* from its waitq, if it is in one */
	task_make_ready(task);
}

void eloq_task_yield_await(void)
{
	struct eloq_task *self = task_running;

	eloq_assert(self);
	task_make_ready(self);
	eloq_coro_suspend_await(&self->coro);
}

void eloq_waitq_init(struct eloq_waitq *waitq)
{
	eloq_list_init(&waitq->waiters);
}

void eloq_waitq_await(struct eloq_waitq *waitq)
{
	eloq_assert(task_running);
	eloq_list_push_back(&waitq->waiters, &task_running->link);
	eloq_task_suspend_await();
}

void eloq_waitq_wake_one(struct eloq_waitq *waitq)
{
	if (!eloq_list_empty(&waitq->waiters))
		eloq_task_wake(eloq_list_entry(waitq->waiters.next, struct eloq_task, link));
}

void eloq_waitq_wake_all(struct eloq_waitq *waitq)
{
	/* Nobody joins meanwhile: the woken run later. */
	while (!eloq_list_empty(&waitq->waiters))
		eloq_waitq_wake_one(waitq);
}

bool eloq_waitq_empty(const struct eloq_waitq *waitq)
{
	return eloq_list_empty(&waitq->waiters);
}

static void task_io_done(struct eloq_io_req *req)
{
	eloq_task_wake(req->arg);
}

int64_t eloq_task_io_await(struct eloq_io *io, struct eloq_io_req *req)
{
	req->done = task_io_done;
	req->arg = task_running;
	eloq_io_submit(io, req);
	eloq_task_suspend_await(); /* in time: submit never calls done() */
	return req->result;
}

void eloq_io_group_init(struct eloq_io_group *group, struct eloq_io *io)
{
	*group = (struct eloq_io_group){ .io = io };
}

static void io_group_done(struct eloq_io_req *req)
{
	struct eloq_io_group_req *greq = eloq_container_of(req, struct eloq_io_group_req, req);
	struct eloq_io_group *group = greq->group;
	struct eloq_task *waiter;

	group->in_flight--;
	if (req->result < 0 && group->error == 0)
		group->error = (int)req->result;
	if (greq->on_done)
		greq->on_done(greq); /* may free greq, and may submit more */
	waiter = group->waiter;
	if (waiter && group->in_flight <= group->wake_below) {
		group->waiter = NULL;
		eloq_task_wake(waiter);
	}
}

void eloq_io_group_submit(struct eloq_io_group *group, struct eloq_io_group_req *greq)
{
	greq->group = group;
	greq->req.done = io_group_done;
	greq->req.arg = greq;
	group->in_flight++;
	eloq_io_submit(group->io, &greq->req);
}

int eloq_io_group_await(struct eloq_io_group *group, unsigned in_flight_max)
{
	while (group->in_flight > in_flight_max) {
		eloq_assert(!group->waiter);
		group->waiter = task_running;
		group->wake_below = in_flight_max;
		eloq_task_suspend_await();
	}
	return group->error;
}
