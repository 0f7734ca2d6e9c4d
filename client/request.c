/*
 * request.c - one request: made from what a caller wants, given memory, copied, recycled.
 *
 * Idea: a request is a header as it will be sent, plus where its bytes are. What is too long for
 * the request ring goes to bulk memory here, at once; how much room the answer gets is guessed here
 * (much if the lane is idle, what values needed lately if not) and corrected when the worker says
 * that it needs more.
 *
 * Always:   a request that is out of the table holds no bulk memory, except while it is being made.
 * Runs on:  the channel's thread.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <string.h>

/* --- Buffers -----------------------------------------------------------------------------------
 */

int eloq_buffer_reserve(struct client_buffer *buffer, size_t bytes)
{
	uint8_t *data;

	if (bytes <= buffer->capacity && buffer->data)
		return 0;
	eloq_assert(!buffer->fixed);
	data = malloc(bytes ? bytes : 1);
	if (!data)
		return -ENOMEM;
	free(buffer->data);
	buffer->data = data;
	buffer->capacity = bytes ? bytes : 1;
	return 0;
}

void eloq_buffer_clear(struct client_buffer *buffer)
{
	if (!buffer->fixed)
		free(buffer->data);
	*buffer = (struct client_buffer){ 0 };
}

/* --- Structures --------------------------------------------------------------------------------
 */

static struct client_request *request_take(struct eloq_channel *channel)
{
	struct eloq_list *node = eloq_list_pop_front(&channel->idle);
	struct client_request *request;

	if (node) {
		channel->idle_count--;
		return eloq_list_entry(node, struct client_request, link);
	}
	request = calloc(1, sizeof(*request));
	if (request)
		eloq_list_init(&request->link);
	return request;
}

void eloq_request_free(struct client_request *request)
{
	eloq_buffer_clear(&request->own);
	eloq_buffer_clear(&request->answer);
	free(request);
}

static void request_trim(struct client_buffer *buffer)
{
	if (buffer->capacity > CLIENT_BYTES_KEPT_MAX)
		eloq_buffer_clear(buffer);
	buffer->bytes = 0;
}

void eloq_request_recycle(struct client_request *request)
{
	struct eloq_channel *channel = request->lane->channel;

	eloq_assert(request->place == CLIENT_REQUEST_OUT && !request->held);
	eloq_request_release_bulks(request);
	if (channel->idle_count == CLIENT_REQUESTS_KEPT_MAX) {
		eloq_request_free(request);
		return;
	}
	request_trim(&request->own);
	request_trim(&request->answer);
	eloq_list_push_front(&channel->idle, &request->link);
	channel->idle_count++;
}

void eloq_request_release_bulks(struct client_request *request)
{
	eloq_bulk_release(request->up);
	eloq_bulk_release(request->down);
	request->up = NULL;
	request->down = NULL;
}

/* --- The header --------------------------------------------------------------------------------
 */

static void request_set_word(struct client_request *request, enum eloq_request_word word,
			     uint64_t value)
{
	request->wire.flags |= (uint16_t)(1u << word);
	request->wire.words[word] = value;
}

static void request_clear_word(struct client_request *request, enum eloq_request_word word)
{
	request->wire.flags &= (uint16_t) ~(1u << word);
	request->wire.words[word] = 0;
}

static void request_set_down(struct client_request *request, struct client_bulk *bulk)
{
	request->down = bulk;
	request_set_word(request, ELOQ_WORD_DOWN_BULK, bulk->number);
}

/* A value of any length: short ones stay, long ones go to bulk memory, which is their copy. */
static int request_place_value(struct client_request *request)
{
	struct client_lane *lane = request->lane;
	const uint32_t record_bytes_max = lane->end.req_ring_bytes / 4;
	int r;

	if (eloq_likely(eloq_request_bytes(&request->wire) <= record_bytes_max))
		return 0;
	r = eloq_bulk_acquire(lane, ELOQ_BULK_UP, request->wire.value_bytes, &request->up);
	if (r < 0)
		return r;
	memcpy(request->up->base, request->value, request->wire.value_bytes);
	request->value = NULL;
	request_set_word(request, ELOQ_WORD_UP_BULK, request->up->number);
	/* What is left is the key: too long for this ring. */
	return eloq_request_bytes(&request->wire) <= record_bytes_max ? 0 : -ELOQ_ETOOLONG;
}

/*
 * Whoever stands in the queue for the ring may be there for want of down bulk memory, and those
 * behind him must not hold what he waits for.
 */
static bool request_may_take_down(const struct client_lane *lane)
{
	return lane->waiting == &lane->unanswered;
}

/* Room in the ring is reserved for each answer, so much of it only if nobody else wants it. */
static void request_guess_room(struct client_request *request)
{
	struct client_lane *lane = request->lane;
	uint32_t bytes =
		lane->unanswered_count == 0 ? lane->inline_bytes_max : lane->inline_bytes_hint;
	struct client_bulk *bulk;

	if (bytes > ELOQ_INLINE_ANSWER_BYTES_DEFAULT)
		request_set_word(request, ELOQ_WORD_INLINE_LIMIT, bytes);
	if (!request_may_take_down(lane))
		return;
	bulk = eloq_bulk_acquire_open(lane, ELOQ_BULK_DOWN);
	if (bulk)
		request_set_down(request, bulk);
}

/*
 * A scan fills whatever its answer may hold. Bulk memory makes pages as long as asked for; without
 * it they are as long as the ring allows, and the scan takes more round trips, unless one entry
 * needs the room.
 */
static int request_plan_page(struct client_request *request, const struct client_op *op)
{
	struct client_lane *lane = request->lane;
	struct client_bulk *bulk;
	int r = 0;

	if (op->page_bytes > lane->inline_bytes_max) {
		r = -EAGAIN;
		if (request_may_take_down(lane))
			r = eloq_bulk_acquire(lane, ELOQ_BULK_DOWN, op->page_bytes, &bulk);
		if (r == 0) {
			request_set_down(request, bulk);
			return 0;
		}
	}
	request_set_word(request, ELOQ_WORD_INLINE_LIMIT,
			 eloq_min_u64(op->page_bytes, lane->inline_bytes_max));
	return op->page_needed ? r : 0;
}

int eloq_request_make_room(struct client_request *request, uint32_t value_bytes)
{
	struct client_lane *lane = request->lane;
	struct client_bulk *bulk;
	int r;

	eloq_bulk_release(request->down);
	request->down = NULL;
	request_clear_word(request, ELOQ_WORD_DOWN_BULK);
	if (value_bytes <= lane->inline_bytes_max) {
		request_set_word(request, ELOQ_WORD_INLINE_LIMIT, value_bytes);
		return 0;
	}
	request_clear_word(request, ELOQ_WORD_INLINE_LIMIT);
	r = eloq_bulk_acquire(lane, ELOQ_BULK_DOWN, value_bytes, &bulk);
	if (r == 0)
		request_set_down(request, bulk);
	return r;
}

static int request_fill(struct client_request *request, const struct client_op *op)
{
	int r;

	request->wire = (struct eloq_request){
		.op = (uint8_t)op->op,
		.table = op->table ? op->table->info.id : 0,
		.partition = op->partition,
		.key_bytes = (uint16_t)op->key_bytes,
		.value_bytes = (uint32_t)op->value_bytes,
	};
	request->key = op->key;
	request->value = op->value;
	request->into = op->into;
	request->deadline_ns = op->deadline_ns;
	if (op->timestamp)
		request_set_word(request, ELOQ_WORD_TIMESTAMP, op->timestamp);
	if (op->deadline_ns) /* counted now, filled in when it is put */
		request_set_word(request, ELOQ_WORD_DEADLINE, 0);
	r = request_place_value(request);
	if (r < 0)
		return r;
	if (op->op == ELOQ_OP_GET)
		request_guess_room(request);
	if (op->op == ELOQ_OP_SCAN)
		return request_plan_page(request, op);
	return 0;
}

static void request_reset(struct client_request *request, struct client_lane *lane)
{
	request->lane = lane;
	request->place = CLIENT_REQUEST_OUT;
	request->held = true;
	request->finished = false;
	request->async = false;
	request->sent = false;
	request->more = false;
	request->room_needed = 0;
	request->waiting_bytes = 0;
	request->result = 0;
	request->deadline_ns = 0;
	request->timestamp = 0;
	request->expire_ms = 0;
	request->into = NULL;
	request->key = NULL;
	request->value = NULL;
	request->arg = NULL;
}

struct client_request *eloq_request_take_header(struct client_request *request)
{
	struct client_request *header = request_take(request->lane->channel);

	if (!header)
		return NULL;
	request_reset(header, request->lane);
	header->wire = request->wire;
	header->place = request->place;
	header->held = false;
	header->finished = true;
	header->up = request->up;
	header->down = request->down;
	request->up = NULL;
	request->down = NULL;
	return header;
}

int eloq_request_new(struct eloq_channel *channel, const struct client_op *op,
		     struct client_request **ret_request)
{
	struct client_lane *lane;
	struct client_request *request;
	int r;

	r = eloq_channel_lane(channel, op->shard, &lane);
	if (r < 0)
		return r;
	eloq_bulk_trim(lane);
	request = request_take(channel);
	if (!request)
		return -ENOMEM;
	request_reset(request, lane);
	r = request_fill(request, op);
	if (r < 0) {
		request->held = false;
		eloq_request_recycle(request);
		return r;
	}
	*ret_request = request;
	return 0;
}

int eloq_request_own(struct client_request *request)
{
	const size_t key_bytes = request->wire.key_bytes;
	const size_t value_bytes = eloq_request_inline_bytes(&request->wire);
	int r;

	r = eloq_buffer_reserve(&request->own, key_bytes + value_bytes);
	if (r < 0)
		return r;
	if (key_bytes)
		memcpy(request->own.data, request->key, key_bytes);
	if (value_bytes)
		memcpy(request->own.data + key_bytes, request->value, value_bytes);
	request->key = request->own.data;
	request->value = request->own.data + key_bytes;
	return 0;
}
