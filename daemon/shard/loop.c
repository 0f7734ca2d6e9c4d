/*
 * loop.c - the worker's turns: a bounded amount of each work, one submit, and when to sleep.
 *
 * Idea: a worker does not react, it takes turns. After a turn that found nothing it spins a
 * moment, as the next request is often already on its way; then it says "asleep", looks at every
 * lane once more, and sleeps in its I/O back-end, where clients, disk, supervisor and timers can
 * wake it. docs/concurrency.md has the handshake.
 *
 * Always:   while the page says "awake" every lane is looked at within a bounded number of turns.
 */
#include "daemon/shard/internal.h"

#include "common/log.h"

/* A spin is worth about what a wake-up costs its two sides. */
#define LOOP_SPIN_NS	  (50 * ELOQ_NS_PER_US)
#define LOOP_SLEEP_NS_MAX ELOQ_NS_PER_S

static unsigned loop_turn(struct shard *shard)
{
	unsigned work = 0;
	int r;

	shard->now_ns = eloq_clock_monotonic_ns(shard->clock);
	/* Relaxed: the supervisor compares it with a limit of seconds. */
	atomic_store_explicit(&shard->page->heartbeat_ns, shard->now_ns, memory_order_relaxed);
	shard->figures.turns++;
	work += shard_link_drain(shard);
	work += shard_lanes_sweep(shard);
	r = eloq_io_turn(shard->io, 0, ELOQ_TURN_COMPLETIONS_MAX);
	if (r < 0) {
		eloq_log_err("the I/O back-end failed error=\"%s\"", eloq_err_text(r));
		shard->failed = true;
		return 1;
	}
	work += (unsigned)r;
	work += eloq_sched_run(shard->sched, ELOQ_TURN_TASKS_MAX);
	work += shard_serve_backlog(shard);
	work += eloq_timers_expire(shard->timers, shard->now_ns, ELOQ_TURN_COMPLETIONS_MAX);
	shard_lanes_publish(shard);
	shard_lanes_bury(shard);
	return work;
}

/* Nothing was found for a while: sleep until somebody or something wants us. */
static void loop_sleep(struct shard *shard)
{
	uint64_t next_ns = eloq_timers_next_ns(shard->timers);
	uint64_t wait_ns = LOOP_SLEEP_NS_MAX;

	if (next_ns <= shard->now_ns)
		return;
	wait_ns = eloq_min_u64(wait_ns, next_ns - shard->now_ns);
	if (shard->drain_until_ns > shard->now_ns)
		wait_ns = eloq_min_u64(wait_ns, shard->drain_until_ns - shard->now_ns);
	eloq_worker_page_set_asleep(shard->page);
	/* A client that published before it could see the flag did not ring: look once more. */
	if (shard_lanes_sweep_all(shard) == 0 && eloq_sched_ready_count(shard->sched) == 0 &&
	    eloq_list_empty(&shard->dirty_lanes) && !shard->link_ready) {
		shard->figures.sleeps++;
		if (eloq_io_turn(shard->io, wait_ns, ELOQ_TURN_COMPLETIONS_MAX) < 0)
			shard->failed = true;
	}
	eloq_worker_page_set_awake(shard->page);
}

static void loop_stop_task(void *arg)
{
	struct shard *shard = arg;

	eloq_store_stop_await(shard->store);
	shard->state = SHARD_ENDED;
}

/* The steps of leaving, one a turn: no new requests; those in work end; files close. */
static void loop_leave(struct shard *shard)
{
	bool late = shard->now_ns >= shard->drain_until_ns;

	if (shard->link_lost && shard->drain_until_ns == UINT64_MAX) {
		shard->drain_until_ns = shard->now_ns + 5 * ELOQ_NS_PER_S;
		if (shard->state == SHARD_SERVING)
			shard->state = SHARD_DRAINING;
	}
	if (shard->state == SHARD_DRAINING && shard->in_work == 0) {
		shard_lanes_publish(shard);
		if (eloq_task_start(shard->sched, loop_stop_task, shard) == 0)
			shard->state = SHARD_CLOSING;
	}
	if (late && shard->state != SHARD_ENDED) {
		eloq_log_warn("leaving with work undone requests=%u", shard->in_work);
		shard->failed = true;
	}
}

void shard_loop(struct shard *shard)
{
	uint64_t idle_since_ns = 0;

	while (shard->state != SHARD_ENDED && !shard->failed &&
	       !eloq_store_is_poisoned(shard->store)) {
		unsigned work = loop_turn(shard);

		if (shard->state != SHARD_SERVING || shard->link_lost)
			loop_leave(shard);
		if (work > 0 || idle_since_ns == 0) {
			idle_since_ns = shard->now_ns;
			continue;
		}
		if (shard->now_ns - idle_since_ns < LOOP_SPIN_NS) {
			eloq_cpu_relax();
			continue;
		}
		if (shard->state != SHARD_ENDED)
			loop_sleep(shard);
		idle_since_ns = 0;
	}
}
