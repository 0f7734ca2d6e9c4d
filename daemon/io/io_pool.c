/*
 * io_pool.c - the back-end over threads, for where io_uring is refused.
 *
 * Idea: two lists under one mutex. Each turn the shard's thread moves what it has started to `todo`
 * and takes what has ended from `done`; threads do the reverse, one request at a time, by plain
 * calls. A thread that finishes rings an eventfd only if the shard's thread said, under the mutex,
 * that it is going to sleep: at most one ring a sleep. That eventfd and all watched descriptors are
 * in one edge-triggered epoll, so nobody has to read anything. With 0 threads requests are carried
 * out in eloq_io_submit(); everything else is the same.
 *
 * Always:   a request is touched by the thread that took it, or by the shard's, never by both: it
 *           changes hands only under the mutex.
 *           A descriptor stays open while a thread is inside a write, also after kill -9, as
 *           threads share their table of files: flocks need no more than that.
 * Runs on:  the shard's thread; pool_thread() on threads of its own, which take no signals.
 * Fails by: the request's result.
 */
#include "common/fd.h"
#include "daemon/io/backend.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	POOL_THREADS_MAX = 64,
	POOL_EVENTS_MAX = 64, /* epoll events taken at once; the others stay for the next turn */
	/* Turns without waiting between two looks at epoll, which costs a system call. */
	POOL_LOOK_EVERY = 16,
};

/* epoll data of the eventfd: no token of a poll is that large. */
#define POOL_BELL_TOKEN UINT64_MAX

struct pool {
	struct eloq_io io;
	struct eloq_io_polls polls;
	int epoll_fd;
	int bell_fd;
	unsigned turns_since_look;
	struct eloq_list fresh; /* started since the last turn */
	unsigned fresh_count;
	unsigned thread_count;
	pthread_t threads[POOL_THREADS_MAX];

	pthread_mutex_t mutex; /* of all below */
	pthread_cond_t todo_cond;
	struct eloq_list todo;
	struct eloq_list done;
	unsigned threads_idle;
	bool owner_sleeps;
	bool stopping;
	/* Written under the mutex. Read without it as a hint, hence relaxed: the list is what
	 * counts, and it is looked at under the mutex before every sleep. */
	_Atomic bool has_done;
};

static struct pool *pool_of(struct eloq_io *io)
{
	return eloq_container_of(io, struct pool, io);
}

static void pool_carry_out(struct eloq_io_req *req)
{
	while (!eloq_io_judge(req, eloq_io_plain_attempt(req)))
		;
}

/* ---- the threads' side ------------------------------------------------------------------ */

static void pool_ring(const struct pool *pool)
{
	const uint64_t one = 1;

	/* Cannot block: nobody else has the descriptor, and 2^64 sleeps do not happen. */
	while (write(pool->bell_fd, &one, sizeof(one)) < 0)
		eloq_assert(errno == EINTR);
}

/* With the mutex held. */
static void pool_post(struct pool *pool, struct eloq_io_req *req)
{
	eloq_list_push_back(&pool->done, &req->link);
	atomic_store_explicit(&pool->has_done, true, memory_order_relaxed);
	if (pool->owner_sleeps) {
		pool->owner_sleeps = false;
		pool_ring(pool);
	}
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;

	pthread_mutex_lock(&pool->mutex);
	while (!pool->stopping) {
		struct eloq_list *node = eloq_list_pop_front(&pool->todo);
		struct eloq_io_req *req;

		if (!node) {
			pool->threads_idle++;
			pthread_cond_wait(&pool->todo_cond, &pool->mutex);
			pool->threads_idle--;
			continue;
		}
		pthread_mutex_unlock(&pool->mutex);
		req = eloq_list_entry(node, struct eloq_io_req, link);
		pool_carry_out(req);
		pthread_mutex_lock(&pool->mutex);
		pool_post(pool, req);
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

/* ---- the shard's side ------------------------------------------------------------------- */

static bool pool_start(struct eloq_io *io, struct eloq_io_req *req)
{
	struct pool *pool = pool_of(io);

	if (pool->thread_count == 0) {
		pool_carry_out(req);
		eloq_io_ended(io, req);
	} else {
		eloq_list_push_back(&pool->fresh, &req->link);
		pool->fresh_count++;
	}
	return true;
}

/* One lock for all that was started since the last turn. */
static void pool_hand_over(struct pool *pool)
{
	unsigned wakes;

	if (pool->fresh_count == 0)
		return;
	pthread_mutex_lock(&pool->mutex);
	eloq_list_splice_back(&pool->todo, &pool->fresh);
	wakes = (unsigned)eloq_min_u64(pool->fresh_count, pool->threads_idle);
	pthread_mutex_unlock(&pool->mutex);
	pool->fresh_count = 0;
	while (wakes-- > 0)
		pthread_cond_signal(&pool->todo_cond);
}

/*
 * Take what has ended. With @sleep and nothing there, whoever ends next rings the bell: true. The
 * look and the announcement are one step under the mutex, so no end slips through between them.
 */
static bool pool_collect(struct pool *pool, bool sleep)
{
	struct eloq_list done;

	if (!sleep && !atomic_load_explicit(&pool->has_done, memory_order_relaxed))
		return false;
	eloq_list_init(&done);
	pthread_mutex_lock(&pool->mutex);
	eloq_list_splice_back(&done, &pool->done);
	atomic_store_explicit(&pool->has_done, false, memory_order_relaxed);
	pool->owner_sleeps = sleep && eloq_list_empty(&done);
	sleep = pool->owner_sleeps;
	pthread_mutex_unlock(&pool->mutex);
	while (!eloq_list_empty(&done)) {
		struct eloq_list *node = eloq_list_pop_front(&done);

		eloq_io_ended(&pool->io, eloq_list_entry(node, struct eloq_io_req, link));
	}
	return sleep;
}

/* Sleeps on epoll by ppoll(): nanoseconds, also where a seccomp profile lacks epoll_pwait2(). */
static int pool_sleep(struct pool *pool, uint64_t wait_ns)
{
	struct pollfd epoll = { .fd = pool->epoll_fd, .events = POLLIN };
	struct timespec timeout = {
		.tv_sec = (time_t)(wait_ns / 1000000000),
		.tv_nsec = (long)(wait_ns % 1000000000),
	};

	if (ppoll(&epoll, 1, wait_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* Returns how many ready() were called, or a negative error. */
static int pool_look(struct pool *pool)
{
	struct epoll_event events[POOL_EVENTS_MAX];
	int count = epoll_wait(pool->epoll_fd, events, POOL_EVENTS_MAX, 0);
	int ready = 0;

	pool->turns_since_look = 0;
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		struct eloq_io_poll_slot *slot;

		if (events[i].data.u64 == POOL_BELL_TOKEN)
			continue; /* it was for waking up only */
		slot = eloq_io_polls_find(&pool->polls, events[i].data.u64);
		if (!slot)
			continue; /* stopped by a ready() before this one */
		slot->poll->ready(slot->poll);
		ready++;
	}
	return ready;
}

static int pool_turn(struct eloq_io *io, uint64_t wait_ns)
{
	struct pool *pool = pool_of(io);
	int r;

	pool_hand_over(pool);
	if (pool_collect(pool, wait_ns > 0)) {
		r = pool_sleep(pool, wait_ns);
		if (r < 0)
			return r;
		(void)pool_collect(pool, false);
	} else if (++pool->turns_since_look < POOL_LOOK_EVERY) {
		return 0;
	}
	return pool_look(pool);
}

static bool pool_has_work(const struct eloq_io *io)
{
	const struct pool *pool = eloq_container_of(io, struct pool, io);

	return pool->fresh_count > 0 || atomic_load_explicit(&pool->has_done, memory_order_relaxed);
}

/* ---- polls, and what needs nothing here ------------------------------------------------- */

static int pool_watch(struct pool *pool, int fd, uint64_t token)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = token };

	return epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int pool_poll_start(struct eloq_io *io, struct eloq_io_poll *poll)
{
	struct pool *pool = pool_of(io);
	struct eloq_io_poll_slot *slot = eloq_io_polls_take(&pool->polls, poll);
	int r;

	if (!slot)
		return -ELOQ_ETOOMANY;
	r = pool_watch(pool, poll->fd, eloq_io_polls_token(&pool->polls, slot));
	if (r < 0) {
		eloq_io_polls_forget(slot);
		eloq_io_polls_free(&pool->polls, slot);
	}
	return r;
}

static void pool_poll_stop(struct eloq_io *io, struct eloq_io_poll *poll)
{
	struct pool *pool = pool_of(io);
	struct eloq_io_poll_slot *slot = eloq_io_polls_of(poll);

	/* Closing the descriptor would not do: a client may hold the same description. */
	(void)epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, slot->fd, NULL);
	eloq_io_polls_forget(slot);
	eloq_io_polls_free(&pool->polls, slot);
}

static void pool_file_event(struct eloq_io *io ELOQ_UNUSED, struct eloq_io_file *file ELOQ_UNUSED)
{
}

static int pool_hold(struct eloq_io *io ELOQ_UNUSED, int fd ELOQ_UNUSED)
{
	return 0;
}

/* ---- opening and closing ---------------------------------------------------------------- */

static int pool_start_threads(struct pool *pool, unsigned count)
{
	sigset_t all, before;
	int r = 0;

	/* Signals are for the shard's thread: they end its waits. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	while (pool->thread_count < count) {
		pthread_t *thread = &pool->threads[pool->thread_count];
		char name[16];

		r = -pthread_create(thread, NULL, pool_thread, pool);
		if (r < 0)
			break;
		(void)snprintf(name, sizeof(name), "eloq-io-%u", pool->thread_count);
		(void)pthread_setname_np(*thread, name);
		pool->thread_count++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void pool_close(struct eloq_io *io)
{
	struct pool *pool = pool_of(io);

	pthread_mutex_lock(&pool->mutex);
	pool->stopping = true;
	pthread_mutex_unlock(&pool->mutex);
	pthread_cond_broadcast(&pool->todo_cond);
	for (unsigned i = 0; i < pool->thread_count; i++)
		(void)pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->todo_cond);
	pthread_mutex_destroy(&pool->mutex);
	eloq_fd_close(pool->bell_fd);
	eloq_fd_close(pool->epoll_fd);
	eloq_io_polls_fini(&pool->polls);
	eloq_io_fini(&pool->io);
	free(pool);
}

static const struct eloq_io_ops pool_ops = {
	.name = "pool",
	.close = pool_close,
	.start = pool_start,
	.turn = pool_turn,
	.has_work = pool_has_work,
	.file_opened = pool_file_event,
	.file_closing = pool_file_event,
	.list = eloq_io_plain_list,
	.hold = pool_hold,
	.poll_start = pool_poll_start,
	.poll_stop = pool_poll_stop,
};

static int pool_make_epoll(struct pool *pool)
{
	pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pool->epoll_fd < 0)
		return -errno;
	pool->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->bell_fd < 0)
		return -errno;
	return pool_watch(pool, pool->bell_fd, POOL_BELL_TOKEN);
}

int eloq_io_pool_open(struct eloq_io **ret_io, const struct eloq_io_opts *opts,
		      struct eloq_errinfo *reterr)
{
	struct pool *pool;
	int r;

	if (opts->pool_threads > POOL_THREADS_MAX)
		return eloq_fail(reterr, -EINVAL, "%u I/O threads are more than %d",
				 opts->pool_threads, POOL_THREADS_MAX);
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return eloq_fail_errno(reterr, -ENOMEM, "I/O threads");
	pool->epoll_fd = -1;
	pool->bell_fd = -1;
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->todo_cond, NULL);
	eloq_list_init(&pool->fresh);
	eloq_list_init(&pool->todo);
	eloq_list_init(&pool->done);
	r = eloq_io_init(&pool->io, &pool_ops, opts->depth);
	if (r == 0)
		r = eloq_io_polls_init(&pool->polls);
	if (r == 0)
		r = pool_make_epoll(pool);
	if (r == 0)
		r = pool_start_threads(pool, opts->pool_threads);
	if (r < 0) {
		pool_close(&pool->io);
		return eloq_fail_errno(reterr, r, "I/O threads");
	}
	*ret_io = &pool->io;
	return 0;
}
