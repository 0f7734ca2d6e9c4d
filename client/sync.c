/*
 * sync.c - waiting for the workers, and the blocking calls made of it.
 *
 * Idea: a blocking call is an async one that is waited for. Waiting is taking turns: first spin for
 * a while, as a busy worker answers within microseconds; then sleep on the wake counters of all
 * lanes with something unanswered, a slice at a time. Between slices the socket is looked at, so
 * that nobody sleeps for a daemon that is dead.
 *
 * Always:   before a sleep every lane was looked at after its sleep flag was set.
 * Runs on:  the channel's thread; async requests in flight go on meanwhile, their completions are
 *           kept for eloq_poll().
 * Fails by: -ETIMEDOUT, -ELOQ_ECLOSED.                     docs/concurrency.md, "Sleep".
 */
#include "client/internal.h"

#include <sched.h>
#include <stdlib.h>

enum { SYNC_SPINS_PER_CLOCK = 32 };

/* --- Waiting -----------------------------------------------------------------------------------
 */

static bool sync_has_news(const struct eloq_channel *channel)
{
	eloq_list_for_each (node, &channel->active) {
		if (eloq_lane_client_has_news(
			    &eloq_list_entry(node, struct client_lane, active)->end))
			return true;
	}
	return false;
}

/* A worker that is pinned to our CPU cannot run while we spin on it. */
static bool sync_may_spin(const struct eloq_channel *channel)
{
	const struct client_lane *lane =
		eloq_list_entry(channel->active.next, struct client_lane, active);
	/* Relaxed: advice. */
	uint32_t cpu = atomic_load_explicit(&lane->end.worker->cpu, memory_order_relaxed);

	return channel->client->spin_ns != 0 &&
	       (cpu == ELOQ_CPU_NONE || (int)cpu != sched_getcpu());
}

static bool sync_spin(const struct eloq_channel *channel)
{
	uint64_t end_ns;

	if (sync_has_news(channel))
		return true;
	if (!sync_may_spin(channel))
		return false;
	end_ns = eloq_client_now_ns() + channel->client->spin_ns;
	do {
		for (unsigned i = 0; i < SYNC_SPINS_PER_CLOCK; i++) {
			if (sync_has_news(channel))
				return true;
			eloq_cpu_relax();
		}
	} while (eloq_client_now_ns() < end_ns);
	return false;
}

/* Full rings: what had no room may have it now, and nobody would wake us for it any more. */
static bool sync_got_space(struct client_lane *lane)
{
	uint64_t answered_count = lane->answered_count;

	if (!lane->end.wants_space)
		return false;
	eloq_async_turn(lane);
	return !lane->end.wants_space || lane->answered_count != answered_count;
}

static int sync_sleep(struct eloq_channel *channel, uint64_t timeout_ns)
{
	struct eloq_lane_waiter waiters[ELOQ_SHARDS_MAX];
	struct client_lane *lanes[ELOQ_SHARDS_MAX];
	unsigned count = 0;
	bool awake = false;
	int r = 0;

	eloq_list_for_each (node, &channel->active) {
		struct client_lane *lane = eloq_list_entry(node, struct client_lane, active);

		lanes[count] = lane;
		waiters[count].lane = &lane->end;
		waiters[count++].wake_seen = eloq_lane_client_prepare_sleep(&lane->end);
	}
	for (unsigned i = 0; i < count; i++)
		awake |= eloq_lane_client_has_news(&lanes[i]->end) || sync_got_space(lanes[i]);
	if (!awake && count > 0)
		r = eloq_lane_wait(waiters, count, timeout_ns);
	for (unsigned i = 0; i < count; i++)
		eloq_lane_client_awake(&lanes[i]->end);
	return r;
}

/* How long to sleep at most: a slice, or until a deadline. 0: one is over. */
static uint64_t sync_slice_ns(const struct eloq_channel *channel, uint64_t deadline_ns,
			      uint64_t now_ns)
{
	uint64_t end_ns = now_ns + CLIENT_SLEEP_SLICE_NS;

	if (deadline_ns)
		end_ns = eloq_min_u64(end_ns, deadline_ns);
	if (channel->deadlines)
		end_ns = eloq_min_u64(end_ns, channel->next_deadline_ns);
	return end_ns > now_ns ? end_ns - now_ns : 0;
}

bool eloq_sync_daemon_lives(struct eloq_channel *channel, uint64_t now_ns)
{
	if (now_ns - channel->looked_ns < CLIENT_SLEEP_SLICE_NS)
		return true;
	channel->looked_ns = now_ns;
	if (eloq_client_daemon_lives(channel->client))
		return true;
	eloq_async_turn_all(channel); /* what was answered before counts */
	eloq_async_fail_all(channel, -ELOQ_ECLOSED);
	return false;
}

int eloq_sync_wait(struct eloq_channel *channel, bool (*ready)(const void *arg), const void *arg,
		   uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now_ns, slice_ns;

		eloq_async_turn_all(channel);
		if (ready(arg))
			return 0;
		eloq_assert(!eloq_list_empty(&channel->active));
		if (sync_spin(channel))
			continue;
		now_ns = eloq_client_now_ns();
		if (deadline_ns && now_ns >= deadline_ns)
			return -ETIMEDOUT;
		if (!eloq_sync_daemon_lives(channel, now_ns))
			return ready(arg) ? 0 : -ELOQ_ECLOSED;
		slice_ns = sync_slice_ns(channel, deadline_ns, now_ns);
		if (slice_ns)
			(void)sync_sleep(channel, slice_ns);
	}
}

/* --- One request -------------------------------------------------------------------------------
 */

struct sync_progress {
	const struct client_lane *lane;
	uint64_t answered_count;
};

static bool sync_got_further(const void *arg)
{
	const struct sync_progress *progress = arg;

	return progress->lane->answered_count != progress->answered_count;
}

bool eloq_sync_is_finished(const void *arg)
{
	return ((const struct client_request *)arg)->finished;
}

static int sync_try_start(struct eloq_channel *channel, const struct client_op *op, bool own,
			  struct client_request **ret_request)
{
	struct client_request *request;
	int r;

	r = eloq_request_new(channel, op, &request);
	if (r < 0)
		return r;
	if (own)
		r = eloq_request_own(request);
	if (r == 0)
		r = eloq_async_submit(request, false);
	if (r < 0) {
		eloq_async_release(request);
		return r;
	}
	*ret_request = request;
	return 0;
}

int eloq_sync_start(struct eloq_channel *channel, const struct client_op *op, bool own,
		    uint64_t deadline_ns, struct client_request **ret_request)
{
	int r;

	while ((r = sync_try_start(channel, op, own, ret_request)) == -EAGAIN) {
		const struct client_lane *lane = channel->lanes[op->shard];
		struct sync_progress progress = { .lane = lane };

		if (!lane || lane->unanswered_count == 0)
			return -ELOQ_ETOOMANY; /* nothing that could be waited for */
		progress.answered_count = lane->answered_count;
		r = eloq_sync_wait(channel, sync_got_further, &progress, deadline_ns);
		if (r < 0)
			return r;
	}
	return r;
}

int eloq_sync_call(struct eloq_channel *channel, const struct client_op *op,
		   struct client_request **ret_request)
{
	struct client_request *request;
	int r;

	channel->words[0] = '\0';
	r = eloq_sync_start(channel, op, false, op->deadline_ns, &request);
	if (r < 0)
		return r;
	r = eloq_sync_wait(channel, eloq_sync_is_finished, request, op->deadline_ns);
	if (r == 0)
		r = request->result;
	if (r >= 0 && ret_request)
		*ret_request = request;
	else
		eloq_async_release(request);
	return r;
}

/* --- What applications call --------------------------------------------------------------------
 */

static int sync_get(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		    size_t key_bytes, struct client_buffer *into, const struct eloq_op_opts *opts,
		    struct client_request **ret_request)
{
	struct client_op op = { .op = ELOQ_OP_GET, .into = into };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : eloq_sync_call(channel, &op, ret_request);
}

int eloq_get(struct eloq_channel *channel, struct eloq_table *table, const void *key,
	     size_t key_bytes, struct eloq_value *ret_value, const struct eloq_op_opts *opts)
{
	struct client_buffer value = { 0 };
	struct client_request *request;
	int r;

	r = sync_get(channel, table, key, key_bytes, &value, opts, &request);
	if (r < 0) {
		eloq_buffer_clear(&value);
		return r;
	}
	*ret_value = (struct eloq_value){
		.data = value.data,
		.bytes = value.bytes,
		.timestamp = request->timestamp,
		.expire_ms = request->expire_ms,
	};
	eloq_async_release(request);
	return 0;
}

int eloq_get_into(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		  size_t key_bytes, void *value, size_t value_bytes_max, size_t *ret_value_bytes,
		  const struct eloq_op_opts *opts)
{
	struct client_buffer into = { .data = value, .capacity = value_bytes_max, .fixed = true };
	int r;

	if (!value && value_bytes_max)
		return -EINVAL;
	r = sync_get(channel, table, key, key_bytes, &into, opts, NULL);
	if (r == 0 || (r == -ELOQ_ETOOLONG && into.bytes > value_bytes_max))
		*ret_value_bytes = into.bytes;
	return r;
}

int eloq_put(struct eloq_channel *channel, struct eloq_table *table, const void *key,
	     size_t key_bytes, const void *value, size_t value_bytes,
	     const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_PUT, .value = value, .value_bytes = value_bytes };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : eloq_sync_call(channel, &op, NULL);
}

int eloq_delete(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		size_t key_bytes, const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_DELETE };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : eloq_sync_call(channel, &op, NULL);
}

int eloq_truncate(struct eloq_channel *channel, struct eloq_table *table, uint32_t partition,
		  const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_TRUNCATE };
	int r;

	r = eloq_op_prepare_partition(&op, channel, table, partition, opts);
	return r < 0 ? r : eloq_sync_call(channel, &op, NULL);
}

void eloq_value_free(struct eloq_value *value)
{
	free(value->data);
	*value = (struct eloq_value){ 0 };
}
