/*
 * request.c - a request in work, and how it is answered.
 *
 * Idea: what cannot be answered at once gets a structure from a fixed pool, with the private copy
 * of its key and value. Short payloads lie inside; long ones are allocated and counted against one
 * budget. When pool or budget is used up, requests stay in their rings: clients wait, nothing
 * fails.
 *
 * Always:   a request that was accepted is answered exactly once, in the room reserved for it.
 * Runs on:  the worker's thread.
 */
#include "daemon/shard/internal.h"

#include <stdlib.h>
#include <string.h>

/* Tasks that must stay free for commits while requests wait for them. */
enum { REQUEST_TASKS_SPARE = 64 };

int shard_requests_open(struct shard *shard)
{
	eloq_list_init(&shard->free_requests);
	eloq_list_init(&shard->backlog);
	shard->requests = calloc(SHARD_REQUESTS_MAX, sizeof(*shard->requests));
	shard->scratch = malloc(ELOQ_KEY_BYTES_MAX + ELOQ_RING_BYTES_MAX);
	if (!shard->requests || !shard->scratch)
		return -ENOMEM;
	for (unsigned i = 0; i < SHARD_REQUESTS_MAX; i++)
		eloq_list_push_back(&shard->free_requests, &shard->requests[i].link);
	return 0;
}

bool shard_may_read(const struct shard *shard)
{
	return !eloq_list_empty(&shard->free_requests) &&
	       eloq_sched_live_count(shard->sched) + REQUEST_TASKS_SPARE < shard->start.tasks_max;
}

bool shard_may_write(const struct shard *shard)
{
	return shard_may_read(shard) && eloq_list_empty(&shard->backlog) &&
	       shard->request_bytes < shard->start.request_bytes_max;
}

void shard_request_charge(struct shard_request *request, uint64_t bytes)
{
	request->charged_bytes += bytes;
	request->shard->request_bytes += bytes;
}

struct shard_request *shard_request_new(struct shard_lane *lane, struct shard_table *table,
					const struct eloq_request *req, size_t payload_bytes)
{
	struct shard *shard = lane->shard;
	struct eloq_list *node;
	struct shard_request *request;
	uint8_t *payload = NULL;

	if (payload_bytes > SHARD_REQUEST_INLINE_BYTES) {
		payload = malloc(payload_bytes);
		if (!payload)
			return NULL;
	}
	node = eloq_list_pop_front(&shard->free_requests);
	if (!node) {
		free(payload);
		return NULL;
	}
	request = eloq_list_entry(node, struct shard_request, link);
	request->shard = shard;
	request->lane = lane;
	request->table = table;
	request->req = *req;
	request->reserved = 0;
	request->up = NULL;
	request->down = NULL;
	request->entries = &request->entry;
	request->payload = payload ? payload : request->inline_payload;
	request->charged_bytes = 0;
	request->deadline_ns = 0;
	if (req->flags & ELOQ_REQ_DEADLINE)
		request->deadline_ns =
			shard->now_ns + eloq_min_u64(req->words[ELOQ_WORD_DEADLINE], INT64_MAX);
	shard_request_charge(request, payload_bytes);
	shard->in_work++;
	lane->in_work++;
	table->users++;
	return request;
}

void shard_request_free(struct shard_request *request)
{
	struct shard *shard = request->shard;
	struct shard_lane *lane = request->lane;
	struct shard_table *table = request->table;

	if (request->payload != request->inline_payload)
		free(request->payload);
	if (request->entries != &request->entry)
		free(request->entries);
	shard_bulk_release(request->up);
	shard_bulk_release(request->down);
	shard->request_bytes -= request->charged_bytes;
	eloq_assert(shard->in_work > 0 && lane->in_work > 0 && table->users > 0);
	shard->in_work--;
	lane->in_work--;
	if (--table->users == 0)
		eloq_waitq_wake_all(&table->users_left);
	eloq_list_push_front(&shard->free_requests, &request->link);
	shard_lane_maybe_free(lane);
}

uint32_t shard_reply_capacity(const struct shard_reply *reply)
{
	uint32_t limit = eloq_lane_inline_limit(reply->req, reply->lane->end.ans_ring_bytes);

	if (reply->down && reply->down->bytes > limit)
		return (uint32_t)eloq_min_u64(reply->down->bytes, UINT32_MAX);
	return limit;
}

/*
 * Send an answer whose value_bytes are at @value. A value too long for the ring goes to the
 * request's down bulk; without one that is large enough the answer is NEED_BULK. @value may
 * already lie at the start of the down bulk.
 */
void shard_answer(const struct shard_reply *reply, struct eloq_answer *answer, const void *value)
{
	struct shard_lane *lane = reply->lane;
	uint32_t limit = eloq_lane_inline_limit(reply->req, lane->end.ans_ring_bytes);

	if (lane->gone)
		return; /* nobody is left to take it */
	answer->id = reply->req->id;
	answer->incarnation = lane->shard->incarnation;
	if (answer->status == ELOQ_STATUS_NEED_BULK) {
		value = NULL; /* value_bytes says how much is needed */
	} else if (answer->value_bytes > limit) {
		/* One that the client closed may be emptied already: it is not filled again. */
		if (reply->down && !reply->down->gone &&
		    reply->down->bytes >= answer->value_bytes) {
			if (value != reply->down->base)
				memcpy(reply->down->base, value, answer->value_bytes);
			answer->flags |= ELOQ_ANS_BULK;
		} else {
			answer->status = ELOQ_STATUS_NEED_BULK;
		}
		value = NULL;
	}
	eloq_lane_worker_answer(&lane->end, reply->reserved, answer, NULL, value);
	lane->shard->figures.answers++;
	shard_lane_touch(lane);
}

void shard_answer_status(const struct shard_reply *reply, enum eloq_status status,
			 const char *words)
{
	struct eloq_answer answer = { .status = (uint8_t)status };
	uint32_t limit = eloq_lane_inline_limit(reply->req, reply->lane->end.ans_ring_bytes);

	if (words)
		answer.value_bytes = (uint32_t)eloq_min_u64(strlen(words), limit);
	shard_answer(reply, &answer, words);
}

/* The client is told too; but who runs the service must learn of a damaged disk from the log. */
static void request_log_damage(struct shard *shard, int error, const char *words)
{
	unsigned left_out;

	if (error != -ELOQ_ECORRUPT && error != -EIO && error != -ELOQ_EFAILED_SYNC)
		return;
	if (eloq_log_allowed(&shard->damage_log, shard->now_ns, &left_out))
		eloq_log_err("request failed error=\"%s\" left_out=%u",
			     words ? words : eloq_err_text(error), left_out);
}

void shard_answer_error(const struct shard_reply *reply, int error,
			const struct eloq_errinfo *errinfo)
{
	const char *words = errinfo && errinfo->text[0] ? errinfo->text : NULL;

	request_log_damage(reply->lane->shard, error, words);

	shard_answer_status(reply, eloq_status_from_error(error), words);
}

struct shard_reply shard_request_reply(const struct shard_request *request)
{
	return (struct shard_reply){
		.lane = request->lane,
		.req = &request->req,
		.reserved = request->reserved,
		.down = request->down,
	};
}

void shard_request_end(struct shard_request *request, enum eloq_status status, const char *words)
{
	struct shard_reply reply = shard_request_reply(request);

	shard_answer_status(&reply, status, words);
	shard_request_free(request);
}

void shard_request_end_error(struct shard_request *request, int error,
			     const struct eloq_errinfo *errinfo)
{
	struct shard_reply reply = shard_request_reply(request);

	shard_answer_error(&reply, error, errinfo);
	shard_request_free(request);
}
