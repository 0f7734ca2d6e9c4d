/*
 * submit.c - several requests in flight: submit, flush, poll.
 *
 * Idea: the core already works this way; here are only copies of the caller's bytes and the queue
 * of completions. A completion's value stays where the core put it, in its request, which is lent
 * to the caller until the next eloq_poll().
 *
 * Always:   each successful submission is returned by eloq_poll() exactly once.
 * Runs on:  the channel's thread.
 * Fails by: -EAGAIN from submission: collect first; arguments as in the blocking calls.
 */
#include "client/internal.h"

/* -EAGAIN while something is in flight here or the daemon is away; so polling always helps. */
static int submit_op(struct eloq_channel *channel, const struct client_op *op, void *arg)
{
	struct client_request *request;
	int r;

	r = eloq_request_new(channel, op, &request);
	if (r < 0)
		return r;
	request->async = true;
	request->arg = arg;
	if (op->op == ELOQ_OP_GET)
		request->into = &request->answer;
	r = eloq_request_own(request);
	if (r == 0)
		r = eloq_async_submit(request, true);
	if (r < 0) {
		eloq_async_release(request);
		return r;
	}
	channel->in_flight++;
	return 0;
}

int eloq_submit_get(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		    size_t key_bytes, void *arg, const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_GET };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : submit_op(channel, &op, arg);
}

int eloq_submit_put(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		    size_t key_bytes, const void *value, size_t value_bytes, void *arg,
		    const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_PUT, .value = value, .value_bytes = value_bytes };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : submit_op(channel, &op, arg);
}

int eloq_submit_delete(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		       size_t key_bytes, void *arg, const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_DELETE };
	int r;

	r = eloq_op_prepare(&op, channel, table, key, key_bytes, opts);
	return r < 0 ? r : submit_op(channel, &op, arg);
}

/* An empty batch has nothing to send, but it is a submission: its completion is there at once. */
static int submit_nothing(struct eloq_channel *channel, struct eloq_table *table, void *arg)
{
	struct client_op op = { .op = ELOQ_OP_BATCH };
	struct client_request *request;
	int r;

	r = eloq_op_prepare_partition(&op, channel, table, 0, NULL);
	if (r < 0)
		return r;
	r = eloq_request_new(channel, &op, &request);
	if (r < 0)
		return r;
	request->async = true;
	request->finished = true;
	request->arg = arg;
	eloq_list_push_back(&channel->completed, &request->link);
	channel->in_flight++;
	return 0;
}

int eloq_submit_batch(struct eloq_channel *channel, struct eloq_table *table,
		      struct eloq_batch *batch, void *arg, const struct eloq_op_opts *opts)
{
	struct client_op op = { .op = ELOQ_OP_BATCH };
	int r;

	r = eloq_batch_prepare(&op, channel, table, batch, opts);
	if (r == 1)
		return submit_nothing(channel, table, arg);
	return r < 0 ? r : submit_op(channel, &op, arg);
}

int eloq_flush(struct eloq_channel *channel)
{
	int r;

	if (!channel)
		return -ELOQ_ETOOMANY;
	r = eloq_client_check(channel->client);
	if (r < 0)
		return r;
	eloq_async_turn_all(channel);
	return 0;
}

/* --- Polling -----------------------------------------------------------------------------------
 */

static void poll_take_back(struct eloq_channel *channel)
{
	struct eloq_list *node;

	while ((node = eloq_list_pop_front(&channel->lent)) != NULL)
		eloq_async_release(eloq_list_entry(node, struct client_request, link));
}

static int poll_lend(struct eloq_channel *channel, struct eloq_completion *completions,
		     unsigned completions_max)
{
	unsigned count = 0;

	while (count < completions_max && !eloq_list_empty(&channel->completed)) {
		struct client_request *request = eloq_list_entry(
			eloq_list_pop_front(&channel->completed), struct client_request, link);
		bool has_value = request->wire.op == ELOQ_OP_GET && request->result >= 0;

		completions[count++] = (struct eloq_completion){
			.arg = request->arg,
			.result = request->result,
			.value = has_value ? request->answer.data : NULL,
			.value_bytes = has_value ? request->answer.bytes : 0,
			.timestamp = request->timestamp,
			.expire_ms = request->expire_ms,
		};
		eloq_list_push_back(&channel->lent, &request->link);
		channel->in_flight--;
	}
	return (int)count;
}

static bool poll_has_completions(const void *arg)
{
	const struct eloq_channel *channel = arg;

	return !eloq_list_empty(&channel->completed);
}

/* A caller that never waits learns of a dead daemon all the same. */
static void poll_look(struct eloq_channel *channel)
{
	eloq_async_turn_all(channel);
	if (!poll_has_completions(channel))
		(void)eloq_sync_daemon_lives(channel, eloq_client_now_ns());
}

int eloq_poll(struct eloq_channel *channel, struct eloq_completion *ret_completions,
	      unsigned completions_max, uint64_t timeout_ns)
{
	int r;

	if (!channel)
		return -ELOQ_ETOOMANY;
	if (eloq_client_is_forked(channel->client))
		return -ELOQ_ECLOSED;
	poll_take_back(channel);
	if (channel->in_flight == 0)
		return eloq_client_check(channel->client);
	if (eloq_client_check(channel->client) < 0)
		eloq_async_fail_all(channel, -ELOQ_ECLOSED);
	else if (timeout_ns == 0 || poll_has_completions(channel))
		poll_look(channel);
	else
		(void)eloq_sync_wait(channel, poll_has_completions, channel,
				     timeout_ns == UINT64_MAX ? 0
							      : eloq_op_deadline_ns(timeout_ns));
	r = poll_lend(channel, ret_completions, completions_max);
	return r;
}

size_t eloq_in_flight(const struct eloq_channel *channel)
{
	return channel ? channel->in_flight : 0;
}
