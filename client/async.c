/*
 * async.c - the core: the unanswered requests of a lane, from submission to answer.
 *
 * Idea: every request is in its lane's table until the worker has answered it, whatever happens to
 * the worker meanwhile. The table is a list in order of ids, so what has to be published again
 * after a resync, and in which order, is the list itself; `waiting` marks how far it is in the
 * ring. An array by the low bits of the id finds a request for its answer; ids whose slot is taken
 * are skipped, so the table is bounded by its size and not by its oldest entry.
 *
 *      OUT -submit-> WAITING -put-> IN_RING -answer-> OUT
 *                    WAITING <-resync- IN_RING          IN_RING -needs more room-> WAITING, new id
 *                    WAITING -given up-> OUT            IN_RING -given up-> stays, as a header
 *
 * Always:   ids are put in ascending order, also over a resync; a header that was given up is
 *           never sent again.
 * Runs on:  the channel's thread. Never blocks, except to open bulk memory for a long answer.
 * Fails by: a lane that closes or breaks the protocol ends all its requests with one error.
 */
#include "client/internal.h"

#include <string.h>

static struct client_request *async_entry(struct eloq_list *node)
{
	return eloq_list_entry(node, struct client_request, link);
}

/* --- Ends --------------------------------------------------------------------------------------
 */

/* The caller's part is over: the result stands. */
static void async_finish(struct client_request *request, int result)
{
	struct eloq_channel *channel = request->lane->channel;

	eloq_assert(!request->finished);
	request->finished = true;
	request->result = result;
	request->into = NULL;
	request->key = NULL;
	request->value = NULL;
	if (request->async && request->deadline_ns)
		channel->deadlines--;
}

/* Out of the table and finished: to eloq_poll(), to its holder, or back to the heap. */
static void async_hand_over(struct client_request *request)
{
	eloq_assert(request->place == CLIENT_REQUEST_OUT && request->finished);
	eloq_request_release_bulks(request);
	if (request->async && request->held)
		eloq_list_push_back(&request->lane->channel->completed, &request->link);
	else if (!request->held)
		eloq_request_recycle(request);
}

static void async_start_waiting(struct client_request *request)
{
	request->place = CLIENT_REQUEST_WAITING;
	request->waiting_bytes = eloq_request_bytes(&request->wire);
	request->lane->waiting_bytes += request->waiting_bytes;
}

static void async_stop_waiting(struct client_request *request)
{
	request->lane->waiting_bytes -= request->waiting_bytes;
	request->waiting_bytes = 0;
}

static void async_leave_table(struct client_request *request)
{
	struct client_lane *lane = request->lane;

	async_stop_waiting(request);
	if (lane->waiting == &request->link)
		lane->waiting = request->link.next;
	eloq_list_remove(&request->link);
	lane->slots[request->wire.id & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)] = NULL;
	request->place = CLIENT_REQUEST_OUT;
	lane->unanswered_count--;
	lane->answered_count++;
	if (lane->unanswered_count == 0)
		eloq_list_remove(&lane->active);
}

static void async_end(struct client_request *request, int result)
{
	async_leave_table(request);
	if (!request->finished)
		async_finish(request, result);
	async_hand_over(request);
}

static void async_break_lane(struct client_lane *lane, int error)
{
	lane->broken = error;
	while (!eloq_list_empty(&lane->unanswered))
		async_end(async_entry(lane->unanswered.next), error);
}

void eloq_async_fail_all(struct eloq_channel *channel, int error)
{
	while (!eloq_list_empty(&channel->active))
		async_break_lane(eloq_list_entry(channel->active.next, struct client_lane, active),
				 error);
}

/* --- Into table and ring -----------------------------------------------------------------------
 */

static uint64_t async_lowest_id(const struct client_lane *lane)
{
	if (eloq_list_empty(&lane->unanswered))
		return lane->next_id;
	return async_entry(lane->unanswered.next)->wire.id;
}

/* -EAGAIN: the table is full, or one request has been unanswered for too many others. */
static int async_enter_table(struct client_request *request)
{
	struct client_lane *lane = request->lane;
	uint64_t id = lane->next_id;

	if (lane->unanswered_count == ELOQ_UNANSWERED_PER_LANE_MAX)
		return -EAGAIN;
	while (lane->slots[id & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)])
		id++;
	if (id - async_lowest_id(lane) >= ELOQ_ID_DISTANCE_MAX)
		return -EAGAIN;
	lane->next_id = id + 1;
	lane->slots[id & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)] = request;
	request->wire.id = id;
	async_start_waiting(request);
	eloq_list_push_back(&lane->unanswered, &request->link);
	if (lane->waiting == &lane->unanswered)
		lane->waiting = &request->link;
	if (lane->unanswered_count++ == 0)
		eloq_list_push_back(&lane->channel->active, &lane->active);
	return 0;
}

/* The worker is told how much time is left, not when it ends: clocks are its own affair. */
static void async_set_remaining(struct client_request *request)
{
	uint64_t now_ns = eloq_client_now_ns();

	request->wire.words[ELOQ_WORD_DEADLINE] =
		request->deadline_ns > now_ns ? request->deadline_ns - now_ns : 1;
}

/* -EAGAIN: no room in the ring, or no bulk memory free; any other error is the request's end. */
static int async_put(struct client_request *request)
{
	struct client_lane *lane = request->lane;
	int r;

	if (request->room_needed) {
		r = eloq_request_make_room(request, request->room_needed);
		if (r < 0)
			return r;
		request->room_needed = 0;
	}
	request->wire.answered_below = async_lowest_id(lane);
	if (request->deadline_ns)
		async_set_remaining(request);
	if (request->sent)
		request->wire.flags |= ELOQ_REQ_RESENT;
	return eloq_lane_client_put(&lane->end, &request->wire, request->key, request->value);
}

/* As far as there is room: what comes first goes first. */
static void async_put_waiting(struct client_lane *lane)
{
	while (lane->waiting != &lane->unanswered) {
		struct client_request *request = async_entry(lane->waiting);
		int r = async_put(request);

		if (r == -EAGAIN)
			return;
		if (r < 0) {
			async_end(request, r);
			continue;
		}
		async_stop_waiting(request);
		request->place = CLIENT_REQUEST_IN_RING;
		request->sent = true;
		lane->waiting = request->link.next;
	}
}

/*
 * A worker that is away must not make us refuse what its ring could hold: until it serves, that
 * much may wait here.
 */
static bool async_must_wait(const struct client_request *request)
{
	const struct client_lane *lane = request->lane;

	if (request->place != CLIENT_REQUEST_WAITING)
		return false;
	return lane->end.synced || lane->waiting_bytes > lane->end.req_ring_bytes;
}

int eloq_async_submit(struct client_request *request, bool now)
{
	struct client_lane *lane = request->lane;
	struct eloq_channel *channel = lane->channel;
	int r;

	r = async_enter_table(request);
	if (r < 0)
		return r;
	if (request->async && request->deadline_ns) {
		channel->deadlines++;
		channel->next_deadline_ns =
			eloq_min_u64(channel->next_deadline_ns, request->deadline_ns);
	}
	async_put_waiting(lane);
	if (!now || !async_must_wait(request))
		return 0;
	eloq_async_turn(lane); /* answers may have made room */
	if (!async_must_wait(request))
		return 0;
	async_leave_table(request);
	if (request->async && request->deadline_ns)
		channel->deadlines--;
	return -EAGAIN;
}

/* --- Answers -----------------------------------------------------------------------------------
 */

static void async_keep_words(struct eloq_channel *channel, const uint8_t *words, size_t bytes)
{
	bytes = eloq_min_u64(bytes, sizeof(channel->words) - 1);
	memcpy(channel->words, words, bytes);
	channel->words[bytes] = '\0';
}

static int async_store_value(struct client_buffer *into, const uint8_t *value, uint32_t bytes)
{
	int r;

	into->bytes = bytes;
	if (into->fixed && bytes > into->capacity)
		return -ELOQ_ETOOLONG;
	if (!into->fixed) {
		r = eloq_buffer_reserve(into, (size_t)bytes + 1); /* a zero follows it */
		if (r < 0)
			return r;
		into->data[bytes] = 0;
	}
	if (bytes)
		memcpy(into->data, value, bytes);
	return 0;
}

/* What later gets will ask room for: what was needed, forgotten slowly once less will do. */
static void async_learn_room(struct client_lane *lane, uint32_t value_bytes)
{
	if (value_bytes > lane->inline_bytes_hint && value_bytes <= lane->inline_bytes_max)
		lane->inline_bytes_hint = (uint32_t)eloq_min_u64(
			eloq_round_up(value_bytes, ELOQ_INLINE_ANSWER_BYTES_DEFAULT),
			lane->inline_bytes_max);
	else if (value_bytes < lane->inline_bytes_hint / 2)
		lane->inline_bytes_hint -= lane->inline_bytes_hint / 64 + 1;
}

/* A read can simply be asked again, under a new id; the old one is answered. */
static int async_ask_again(struct client_request *request, uint32_t value_bytes)
{
	struct client_buffer *into = request->into;

	if (into)
		into->bytes = value_bytes;
	if (request->wire.op != ELOQ_OP_GET)
		return -ELOQ_ETOOLONG;
	if (into && into->fixed && value_bytes > into->capacity)
		return -ELOQ_ETOOLONG;
	eloq_request_release_bulks(request);
	request->room_needed = value_bytes;
	/* The slot that it left is free, and it is no longer the oldest. */
	return async_enter_table(request) < 0 ? -ELOQ_ETOOMANY : 0;
}

/* The result of an answer that is the request's last. */
static int async_result(struct client_request *request, const struct eloq_answer *answer,
			const uint8_t *value)
{
	if (answer->status == ELOQ_STATUS_OLDER)
		return 1;
	if (answer->status != ELOQ_STATUS_OK) {
		if (answer->status != ELOQ_STATUS_NEED_BULK)
			async_keep_words(request->lane->channel, value, answer->value_bytes);
		return eloq_status_to_error(answer->status);
	}
	if (answer->flags & ELOQ_ANS_BULK) {
		if (!request->down || answer->value_bytes > request->down->bytes)
			return -ELOQ_EPROTOCOL;
		value = request->down->base;
		request->down->needed = true;
	}
	request->timestamp = answer->timestamp;
	request->expire_ms = answer->expire_ms;
	request->more = answer->flags & ELOQ_ANS_MORE;
	return request->into ? async_store_value(request->into, value, answer->value_bytes) : 0;
}

static int async_take_answer(struct client_lane *lane, const struct eloq_answer *answer,
			     const uint8_t *value)
{
	struct client_request *request =
		lane->slots[answer->id & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)];
	int r;

	if (!request || request->wire.id != answer->id || request->place != CLIENT_REQUEST_IN_RING)
		return -ELOQ_EPROTOCOL;
	if (request->wire.op == ELOQ_OP_GET &&
	    (answer->status == ELOQ_STATUS_OK || answer->status == ELOQ_STATUS_NEED_BULK))
		async_learn_room(lane, answer->value_bytes);
	async_leave_table(request);
	if (!request->finished) {
		if (answer->status == ELOQ_STATUS_NEED_BULK) {
			r = async_ask_again(request, answer->value_bytes);
			if (r == 0)
				return 0;
		} else {
			r = async_result(request, answer, value);
		}
		async_finish(request, r);
	}
	async_hand_over(request);
	return 0;
}

static void async_take_all(struct client_lane *lane)
{
	struct eloq_answer answer;
	const uint8_t *key, *value;
	int r;

	while ((r = eloq_lane_client_take(&lane->end, &answer, &key, &value)) > 0) {
		r = async_take_answer(lane, &answer, value);
		if (r < 0)
			break;
	}
	eloq_lane_client_done(&lane->end);
	if (r < 0)
		async_break_lane(lane, r);
}

/* --- Following the worker ----------------------------------------------------------------------
 */

/* The rings are empty and a new worker serves: everything unanswered goes out again. */
static void async_start_over(struct client_lane *lane)
{
	eloq_list_for_each_safe (node, &lane->unanswered) {
		struct client_request *request = async_entry(node);

		if (request->finished) { /* given up; what the old worker did with it, it did */
			async_leave_table(request);
			async_hand_over(request);
			continue;
		}
		if (request->place == CLIENT_REQUEST_IN_RING)
			async_start_waiting(request);
	}
	lane->waiting = lane->unanswered.next;
}

static int async_close_error(uint32_t reason)
{
	switch (reason) {
	case ELOQ_LANE_REASON_STOPPED:
		return -ELOQ_ESTOPPED;
	case ELOQ_LANE_REASON_LEFT:
		return -ELOQ_ECLOSED;
	default:
		return -ELOQ_EPROTOCOL;
	}
}

static void async_closed(struct client_lane *lane, uint32_t reason)
{
	async_take_all(lane); /* what was answered before counts */
	if (lane->broken)
		return;
	async_keep_words(lane->channel, (const uint8_t *)eloq_lane_reason_text(reason),
			 strlen(eloq_lane_reason_text(reason)));
	async_break_lane(lane, async_close_error(reason));
}

void eloq_async_turn(struct client_lane *lane)
{
	uint32_t reason = ELOQ_LANE_REASON_NONE;

	async_take_all(lane);
	if (eloq_unlikely(lane->broken))
		return;
	switch (eloq_lane_client_step(&lane->end, &reason)) {
	case ELOQ_LANE_EVENT_NONE:
		break;
	case ELOQ_LANE_EVENT_WAIT:
		return;
	case ELOQ_LANE_EVENT_CLOSED:
		async_closed(lane, reason);
		return;
	case ELOQ_LANE_EVENT_RESYNC:
		async_start_over(lane);
		break;
	}
	async_put_waiting(lane);
	eloq_lane_client_publish(&lane->end);
}

/* --- Giving up ---------------------------------------------------------------------------------
 */

/*
 * Nobody waits for the answer any more. What the worker cannot have seen leaves without a trace;
 * the rest stays as a header, with its bulk memory, until the answer comes.
 */
static void async_give_up(struct client_request *request, int result)
{
	bool waiting = request->place == CLIENT_REQUEST_WAITING;

	if (waiting)
		async_leave_table(request);
	async_finish(request, result);
	if (waiting)
		async_hand_over(request);
}

void eloq_async_release(struct client_request *request)
{
	if (!request)
		return;
	request->held = false;
	if (request->place == CLIENT_REQUEST_OUT)
		eloq_request_recycle(request);
	else if (!request->finished)
		async_give_up(request, -ECANCELED);
}

/*
 * An async request in time trouble is completed now. If the worker still has it, the header that
 * stays behind is another structure, as this one goes to eloq_poll(); without memory for one the
 * request waits for its answer after all.
 */
static void async_time_out(struct client_request *request)
{
	struct client_lane *lane = request->lane;
	struct client_request *header;

	if (request->place == CLIENT_REQUEST_IN_RING) {
		header = eloq_request_take_header(request);
		if (!header)
			return;
		eloq_list_insert_before(&request->link, &header->link);
		lane->slots[header->wire.id & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)] = header;
		eloq_list_remove(&request->link);
		request->place = CLIENT_REQUEST_OUT;
	} else {
		async_leave_table(request);
	}
	async_finish(request, -ETIMEDOUT);
	async_hand_over(request);
}

/* None is missed by less than one turn; the earliest that is left ends the next sleep. */
static void async_check_deadlines(struct eloq_channel *channel)
{
	uint64_t now_ns = eloq_client_now_ns();

	if (now_ns < channel->next_deadline_ns)
		return;
	channel->next_deadline_ns = UINT64_MAX;
	eloq_list_for_each_safe (lane_node, &channel->active) {
		struct client_lane *lane = eloq_list_entry(lane_node, struct client_lane, active);

		eloq_list_for_each_safe (node, &lane->unanswered) {
			struct client_request *request = async_entry(node);

			if (!request->async || !request->deadline_ns || request->finished)
				continue;
			if (request->deadline_ns <= now_ns)
				async_time_out(request);
			else
				channel->next_deadline_ns = eloq_min_u64(channel->next_deadline_ns,
									 request->deadline_ns);
		}
	}
}

void eloq_async_turn_all(struct eloq_channel *channel)
{
	eloq_list_for_each_safe (node, &channel->active)
		eloq_async_turn(eloq_list_entry(node, struct client_lane, active));
	if (eloq_unlikely(channel->deadlines))
		async_check_deadlines(channel);
}
