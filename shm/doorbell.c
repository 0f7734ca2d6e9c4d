/*
 * doorbell.c - how the side that sleeps is woken.
 *
 * Idea: two Dekker pairs. Who goes to sleep stores its flag, fences and looks at the work once
 * more; who brings work stores it, fences and looks at the flag. With a full fence on both sides
 * one of the two sees the other, so that no wake is lost and none is sent to who is awake.
 *
 *   worker  sleeps in its I/O back-end, which polls an eventfd of each lane and never reads it;
 *           one flag for all lanes
 *   client  sleeps on the wake counter of each lane, which the worker raises before it wakes: a
 *           client that had read the old value does not fall asleep on the new one
 *
 * Always:   a worker makes no call here that can block. The client can only block itself.
 * Runs on:  the thread of either end.
 * Fails by: nothing to report: a write to an eventfd fails only when it is full, and then it has
 *           rung.                                            docs/concurrency.md, "Sleep".
 */
#include "shm/doorbell.h"

#include "common/clock.h"
#include "shm/lane.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the kernel compares a futex word");

/* --- Waking ------------------------------------------------------------------------------------
 */

void eloq_doorbell_ring(int fd)
{
	const uint64_t one = 1;

	if (fd < 0)
		return;
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void eloq_doorbell_wake_client(struct eloq_answer_segment *ans)
{
	/* Relaxed: only this worker raises it; a dead predecessor's value came with the lane. */
	uint32_t wake = atomic_load_explicit(&ans->wake, memory_order_relaxed);

	/* W1 pairs with W2 in eloq_lane_client_prepare_sleep(): who reads the raised counter sees
	 * what was published before it, and so does not sleep on it. */
	atomic_store_explicit(&ans->wake, wake + 1, memory_order_release);
	(void)syscall(SYS_futex, &ans->wake, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* --- The client's sleep ------------------------------------------------------------------------
 */

static struct timespec doorbell_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / ELOQ_NS_PER_S),
		.tv_nsec = (long)(ns % ELOQ_NS_PER_S),
	};
}

static long doorbell_wait_one(const struct eloq_lane_waiter *waiter, uint64_t timeout_ns)
{
	const struct timespec timeout = doorbell_timespec(timeout_ns);

	return syscall(SYS_futex, &waiter->lane->ans->wake, FUTEX_WAIT, waiter->wake_seen, &timeout,
		       NULL, 0);
}

/* Its timeout is a point in time, not a span. */
static long doorbell_wait_several(const struct eloq_lane_waiter *waiters, unsigned count,
				  uint64_t timeout_ns)
{
	struct futex_waitv words[FUTEX_WAITV_MAX];
	struct timespec deadline;
	uint64_t now_ns;

	eloq_assert(count <= FUTEX_WAITV_MAX);
	for (unsigned i = 0; i < count; i++)
		words[i] = (struct futex_waitv){
			.val = waiters[i].wake_seen,
			.uaddr = (uintptr_t)&waiters[i].lane->ans->wake,
			.flags = FUTEX_32,
		};
	now_ns = eloq_clock_monotonic_ns(eloq_clock_system());
	deadline = doorbell_timespec(now_ns + timeout_ns);
	return syscall(SYS_futex_waitv, words, count, 0, &deadline, CLOCK_MONOTONIC);
}

int eloq_lane_wait(const struct eloq_lane_waiter *waiters, unsigned count, uint64_t timeout_ns)
{
	long r = count == 1 ? doorbell_wait_one(waiters, timeout_ns)
			    : doorbell_wait_several(waiters, count, timeout_ns);

	/* EAGAIN: a counter had been raised before we slept. */
	return r >= 0 || errno == EAGAIN ? 0 : -errno;
}

uint32_t eloq_lane_client_prepare_sleep(struct eloq_lane_client *lane)
{
	uint32_t wanted = ELOQ_ASLEEP_FOR_ANSWERS;

	if (lane->wants_space)
		wanted |= ELOQ_ASLEEP_FOR_SPACE;
	/* Relaxed: the fence orders it. */
	atomic_store_explicit(&lane->req->asleep, wanted, memory_order_relaxed);
	/* D4 pairs with D3 in eloq_lane_worker_publish(): each side stores, then looks at the
	 * other; without both fences the client could sleep on an answer. */
	atomic_thread_fence(memory_order_seq_cst);
	/* W2 pairs with W1 in eloq_doorbell_wake_client(). */
	return atomic_load_explicit(&lane->ans->wake, memory_order_acquire);
}

void eloq_lane_client_awake(struct eloq_lane_client *lane)
{
	/* Relaxed: a worker that still sees the flag makes one useless wake. */
	atomic_store_explicit(&lane->req->asleep, 0, memory_order_relaxed);
}

/* --- The worker's sleep ------------------------------------------------------------------------
 */

void eloq_worker_page_set_asleep(struct eloq_worker_page *page)
{
	/* Relaxed: the fence orders it. */
	atomic_store_explicit(&page->asleep, 1, memory_order_relaxed);
	/* D2 pairs with D1 in eloq_lane_client_publish(), eloq_lane_client_done() and
	 * eloq_lane_client_step(): either the sweep that follows finds what they stored, or they
	 * see the flag and ring. */
	atomic_thread_fence(memory_order_seq_cst);
}

void eloq_worker_page_set_awake(struct eloq_worker_page *page)
{
	/* Relaxed: a client that still sees the flag rings once for nothing. */
	atomic_store_explicit(&page->asleep, 0, memory_order_relaxed);
}
