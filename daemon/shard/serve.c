/*
 * serve.c - what each request means: from a checked header to the engine and back.
 *
 * Idea: a read whose pages are cached is answered on the spot, without task or allocation. All
 * else becomes a request in work: reads run in a task of their own, writes are handed to the
 * engine's queue of their partition, which calls back when they are on disk.
 *
 * Always:   writes of one lane reach the engine in the order of their ids. A request is judged by
 *           the worker's private copy only. What a request names (table, bulk) was announced on
 *           the supervisor's socket before the client learned of it: an unknown name makes the
 *           worker look there before it refuses.
 * Runs on:  the worker's thread.
 */
#include "daemon/shard/internal.h"

#include <stdlib.h>
#include <string.h>

/* More of the clock's future is asked for when this much is left of what STORE has reserved. */
#define SERVE_TIMESTAMPS_AHEAD_US UINT64_C(20000000)

/* What comes as the value of anything but a put and a batch: parameters of a scan at most. */
enum { SERVE_PARAMS_BYTES_MAX = ELOQ_SCAN_PARAMS_BYTES + ELOQ_KEY_BYTES_MAX };

/* A request between peek and accept. */
struct serve {
	struct shard *shard;
	struct shard_lane *lane;
	struct eloq_request req;
	size_t payload_offset;
	struct shard_table *table;
	struct shard_bulk *up, *down;
	enum eloq_status refusal; /* OK: go on */
	const char *words;
};

static void serve_refuse(struct serve *serve, enum eloq_status status, const char *words)
{
	if (serve->refusal != ELOQ_STATUS_OK)
		return;
	serve->refusal = status;
	serve->words = words;
}

/* The table and the bulk memory that the request names. False: something is not known. */
static bool serve_find_names(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;
	bool up = req->flags & ELOQ_REQ_UP_BULK, down = req->flags & ELOQ_REQ_DOWN_BULK;

	if (req->op != ELOQ_OP_PING)
		serve->table = shard_table_find(serve->shard, req->table);
	serve->up = serve->down = NULL;
	if (up)
		serve->up =
			shard_bulk_find(serve->lane, req->words[ELOQ_WORD_UP_BULK], ELOQ_BULK_UP);
	if (down)
		serve->down = shard_bulk_find(serve->lane, req->words[ELOQ_WORD_DOWN_BULK],
					      ELOQ_BULK_DOWN);
	return (serve->table || req->op == ELOQ_OP_PING) && (serve->up || !up) &&
	       (serve->down || !down);
}

static void serve_check_table(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;

	if (!serve->table || serve->table->dropping) {
		serve_refuse(serve, ELOQ_STATUS_NO_TABLE, NULL);
		return;
	}
	if (req->op == ELOQ_OP_PARTITIONS)
		return;
	if (req->partition % (uint32_t)serve->shard->count != (uint32_t)serve->shard->index)
		serve_refuse(serve, ELOQ_STATUS_WRONG_SHARD, NULL);
	if (serve->table->partitions && req->partition >= serve->table->partitions)
		serve_refuse(serve, ELOQ_STATUS_INVALID, "the table has fewer partitions");
}

static void serve_check_names(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;
	bool known = serve_find_names(serve);

	if (!known) {
		/* All again: what was known may be gone by what is heard now. */
		shard_link_drain_now(serve->shard);
		known = serve_find_names(serve);
	}
	if (req->op != ELOQ_OP_PING)
		serve_check_table(serve);
	if (!known)
		serve_refuse(serve, ELOQ_STATUS_INVALID, "no such bulk memory");
	if (serve->up && req->value_bytes > serve->up->bytes)
		serve_refuse(serve, ELOQ_STATUS_INVALID,
			     "the value is longer than its bulk memory");
}

static void serve_check_write(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;

	if (serve->lane->rights < 2)
		serve_refuse(serve, ELOQ_STATUS_DENIED, "this user may only read");
	if (serve->shard->state != SHARD_SERVING)
		serve_refuse(serve, ELOQ_STATUS_STOPPED, NULL);
	if (req->flags & ELOQ_REQ_TIMESTAMP && serve->table &&
	    serve->table->timestamps == ELOQ_TIMESTAMPS_SERVER)
		serve_refuse(serve, ELOQ_STATUS_INVALID, "the table's timestamps are the server's");
}

/* Everything that can be judged from the header. */
static void serve_check(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;
	const unsigned known =
		(ELOQ_REQ_ALL_WORDS & ~(ELOQ_REQ_IF_TIMESTAMP | ELOQ_REQ_EXPIRY)) | ELOQ_REQ_RESENT;
	bool keyed = req->op == ELOQ_OP_GET || req->op == ELOQ_OP_PUT || req->op == ELOQ_OP_DELETE;

	if (req->op < ELOQ_OP_PING || req->op > ELOQ_OP_PARTITION_STAT) {
		serve_refuse(serve, ELOQ_STATUS_UNSUPPORTED, "unknown operation");
		return;
	}
	if (req->flags & ~known)
		serve_refuse(serve, ELOQ_STATUS_UNSUPPORTED, "a flag is not supported");
	if (serve->lane->rights < 1)
		serve_refuse(serve, ELOQ_STATUS_DENIED, NULL);
	serve_check_names(serve);
	if (keyed && req->key_bytes == 0)
		serve_refuse(serve, ELOQ_STATUS_INVALID, "a key has at least one byte");
	if (req->op == ELOQ_OP_TRUNCATE && req->key_bytes > 0)
		serve_refuse(serve, ELOQ_STATUS_UNSUPPORTED,
			     "only a whole partition can be truncated");
	if (req->op != ELOQ_OP_PUT && req->op != ELOQ_OP_BATCH &&
	    req->value_bytes > SERVE_PARAMS_BYTES_MAX)
		serve_refuse(serve, ELOQ_STATUS_INVALID, "more bytes than the operation takes");
	if (req->key_bytes > eloq_store_key_bytes_max(serve->shard->store))
		serve_refuse(serve, ELOQ_STATUS_TOO_LONG, "the key is longer than half a page");
	if (eloq_op_changes(req->op))
		serve_check_write(serve);
}

static uint32_t serve_accept(struct serve *serve, uint8_t *payload)
{
	serve->shard->figures.requests_taken++;
	shard_lane_touch(serve->lane);
	return eloq_lane_worker_accept(&serve->lane->end, &serve->req, serve->payload_offset,
				       payload);
}

static uint64_t serve_now_ms(const struct shard *shard)
{
	return eloq_clock_realtime_us(shard->clock) / 1000;
}

/* Take the request and answer it without a request in work. */
static void serve_at_once(struct serve *serve)
{
	struct shard_reply reply = { .lane = serve->lane, .req = &serve->req, .down = serve->down };

	reply.reserved = serve_accept(serve, serve->shard->scratch);
	if (serve->refusal != ELOQ_STATUS_OK) {
		serve->shard->figures.refused++;
		shard_answer_status(&reply, serve->refusal, serve->words);
	} else if (serve->req.op == ELOQ_OP_PARTITIONS) {
		shard_answer_partitions(&reply);
	} else {
		shard_answer_status(&reply, ELOQ_STATUS_OK, NULL);
	}
}

/* Take it as a request in work with a private copy of all it says. False: no room now. */
static struct shard_request *serve_in_work(struct serve *serve)
{
	const struct eloq_request *req = &serve->req;
	struct shard_request *request;

	request = shard_request_new(serve->lane, serve->table, req,
				    (size_t)req->key_bytes + req->value_bytes);
	if (!request)
		return NULL;
	request->up = serve->up;
	request->down = serve->down;
	if (request->up) {
		request->up->users++;
		memcpy(request->payload + req->key_bytes, request->up->base, req->value_bytes);
	}
	if (request->down)
		request->down->users++;
	request->reserved = serve_accept(serve, request->payload);
	return request;
}

/* --- get -----------------------------------------------------------------------------------------
 */

static void serve_answer_value(const struct shard_reply *reply, struct eloq_store_value *value)
{
	struct eloq_answer answer = {
		.status = ELOQ_STATUS_OK,
		.flags = ELOQ_ANS_TIMESTAMP,
		.value_bytes = value->bytes,
		.timestamp = value->timestamp,
		.expire_ms = value->expire_ms,
	};

	if (value->expire_ms)
		answer.flags |= ELOQ_ANS_EXPIRY;
	shard_answer(reply, &answer, value->data);
	eloq_store_value_release(reply->lane->shard->store, value);
}

static bool serve_too_late(const struct shard_request *request)
{
	return request->deadline_ns &&
	       eloq_clock_monotonic_ns(request->shard->clock) >= request->deadline_ns;
}

static void serve_get_task(void *arg)
{
	struct shard_request *request = arg;
	struct shard *shard = request->shard;
	struct shard_reply reply = shard_request_reply(request);
	struct eloq_store_value value;
	struct eloq_errinfo error = { 0 };
	int r;

	if (serve_too_late(request)) {
		shard_request_end(request, ELOQ_STATUS_TIMED_OUT, NULL);
		return;
	}
	r = eloq_store_get_await(shard->store, request->table->id, request->req.partition,
				 request->payload, request->req.key_bytes, serve_now_ms(shard),
				 &value, &error);
	if (r < 0) {
		shard_request_end_error(request, r, &error);
		return;
	}
	serve_answer_value(&reply, &value);
	shard_request_free(request);
}

/*
 * The key is read from the ring into scratch memory before the request is accepted: should the
 * page not be cached, the same copy goes into a request in work, so that it is judged once.
 */
static bool serve_get(struct serve *serve)
{
	struct shard *shard = serve->shard;
	struct shard_reply reply = { .lane = serve->lane, .req = &serve->req, .down = serve->down };
	struct eloq_store_value value;
	struct shard_request *request = NULL;
	int r;

	if (!shard_may_read(shard))
		return false;
	reply.reserved = serve_accept(serve, shard->scratch);
	shard->figures.gets++;
	r = eloq_store_get(shard->store, serve->table->id, serve->req.partition, shard->scratch,
			   serve->req.key_bytes, serve_now_ms(shard), &value);
	if (r == 0) {
		shard->figures.gets_fast++;
		serve_answer_value(&reply, &value);
		return true;
	}
	if (r == -EAGAIN)
		request = shard_request_new(serve->lane, serve->table, &serve->req,
					    serve->req.key_bytes);
	if (!request) {
		shard_answer_error(&reply, r == -EAGAIN ? -ENOMEM : r, NULL);
		return true;
	}
	memcpy(request->payload, shard->scratch, serve->req.key_bytes);
	request->reserved = reply.reserved;
	request->down = serve->down;
	if (request->down)
		request->down->users++;
	if (eloq_task_start(shard->sched, serve_get_task, request) < 0)
		shard_request_end(request, ELOQ_STATUS_TOO_MANY, "no task is free");
	return true;
}

/* --- writes --------------------------------------------------------------------------------------
 */

static void serve_answer_batch(struct shard_request *request)
{
	struct shard_reply reply = shard_request_reply(request);
	struct eloq_batch_outcome outcome = { 0 };
	struct eloq_answer answer = { .status = ELOQ_STATUS_OK,
				      .value_bytes = ELOQ_BATCH_ANSWER_BYTES };
	uint8_t value[ELOQ_BATCH_ANSWER_BYTES];

	for (uint32_t i = 0; i < request->write.entry_count; i++) {
		switch (request->entries[i].outcome) {
		case ELOQ_WRITE_APPLIED:
			outcome.applied++;
			break;
		case ELOQ_WRITE_ABSENT:
			outcome.absent++;
			break;
		case ELOQ_WRITE_OLDER:
			outcome.older++;
			break;
		}
	}
	eloq_batch_put_outcome(value, &outcome);
	shard_answer(&reply, &answer, value);
	shard_request_free(request);
}

static void serve_write_done(struct eloq_write *write)
{
	struct shard_request *request = write->arg;

	if (write->result < 0) {
		shard_request_end_error(request, write->result, write->error);
		return;
	}
	if (request->req.op == ELOQ_OP_BATCH) {
		serve_answer_batch(request);
		return;
	}
	if (request->req.op != ELOQ_OP_TRUNCATE) {
		if (request->entry.outcome == ELOQ_WRITE_OLDER) {
			shard_request_end(request, ELOQ_STATUS_OLDER, NULL);
			return;
		}
		if (request->entry.outcome == ELOQ_WRITE_ABSENT &&
		    request->req.op == ELOQ_OP_DELETE) {
			shard_request_end(request, ELOQ_STATUS_NOT_FOUND, NULL);
			return;
		}
	}
	shard_request_end(request, ELOQ_STATUS_OK, NULL);
}

/* Hand a write to the engine; it waits in the backlog while no task is free to commit it. */
static void serve_submit(struct shard_request *request)
{
	struct shard *shard = request->shard;
	int r;

	r = eloq_store_write_submit(shard->store, &request->write);
	if (r == -EAGAIN)
		eloq_list_push_back(&shard->backlog, &request->link);
	else if (r < 0)
		shard_request_end_error(request, r, NULL);
}

unsigned shard_serve_backlog(struct shard *shard)
{
	struct eloq_list *node;
	unsigned started = 0;

	while ((node = eloq_list_pop_front(&shard->backlog)) != NULL) {
		struct shard_request *request = eloq_list_entry(node, struct shard_request, link);
		int r;

		r = eloq_store_write_submit(shard->store, &request->write);
		if (r == -EAGAIN) {
			eloq_list_push_front(&shard->backlog, node);
			return started;
		}
		if (r < 0)
			shard_request_end_error(request, r, NULL);
		started++;
	}
	return started;
}

/*
 * A timestamp of the server: microseconds, above all that were ever given. 0: the clock has run
 * past what STORE has reserved; the write waits in its ring until the supervisor reserved more.
 */
static uint64_t serve_timestamp(struct shard *shard)
{
	uint64_t ts =
		eloq_max_u64(eloq_clock_realtime_us(shard->clock), shard->timestamp_last_us + 1);

	if (ts + SERVE_TIMESTAMPS_AHEAD_US >= shard->timestamp_ceiling_us)
		shard_link_ask_timestamps(shard);
	if (ts >= shard->timestamp_ceiling_us)
		return 0;
	shard->timestamp_last_us = ts;
	return ts;
}

static void serve_set_timestamp(struct eloq_write_entry *entry, uint64_t server_ts, bool given,
				uint64_t caller_ts)
{
	entry->timestamp = server_ts ? server_ts : caller_ts;
	entry->timestamp_auto = !server_ts && !given;
}

/* The entries of a batch, pointing into the private copy. */
static enum eloq_status serve_decode_batch(struct shard_request *request, uint64_t server_ts,
					   const char **ret_words)
{
	const uint8_t *p = request->payload + request->req.key_bytes;
	const uint8_t *end = p + request->req.value_bytes;
	uint32_t count = 0;

	p = eloq_batch_get_header(p, end, &count);
	*ret_words = "a batch's entries do not fit its length";
	if (!p || count > (size_t)(end - p) / ELOQ_BATCH_ENTRY_HEADER_BYTES)
		return ELOQ_STATUS_INVALID;
	request->entries = calloc(count ? count : 1, sizeof(*request->entries));
	if (!request->entries) {
		request->entries = &request->entry;
		*ret_words = NULL;
		return ELOQ_STATUS_NO_MEMORY;
	}
	shard_request_charge(request, (uint64_t)count * sizeof(*request->entries));
	for (uint32_t i = 0; i < count; i++) {
		struct eloq_batch_entry item;
		struct eloq_write_entry *entry = &request->entries[i];

		p = eloq_batch_get_entry(p, end, &item);
		if (!p || (item.op != ELOQ_OP_PUT && item.op != ELOQ_OP_DELETE))
			return ELOQ_STATUS_INVALID;
		*ret_words = "a flag of a batch entry is not supported";
		if (item.flags & ~(unsigned)ELOQ_BATCH_TIMESTAMP)
			return ELOQ_STATUS_UNSUPPORTED;
		*ret_words = "the table's timestamps are the server's";
		if (item.flags & ELOQ_BATCH_TIMESTAMP && server_ts)
			return ELOQ_STATUS_INVALID;
		*ret_words = "a batch's entries do not fit its length";
		entry->key = item.key;
		entry->key_bytes = item.key_bytes;
		entry->value = item.value;
		entry->value_bytes = item.value_bytes;
		entry->op = item.op == ELOQ_OP_PUT ? ELOQ_WRITE_PUT : ELOQ_WRITE_DELETE;
		serve_set_timestamp(entry, server_ts, item.flags & ELOQ_BATCH_TIMESTAMP,
				    item.timestamp);
	}
	request->write.entries = request->entries;
	request->write.entry_count = count;
	return ELOQ_STATUS_OK;
}

static void serve_fill_entry(struct shard_request *request, uint64_t server_ts)
{
	const struct eloq_request *req = &request->req;

	request->entry = (struct eloq_write_entry){
		.key = request->payload,
		.key_bytes = req->key_bytes,
		.value = request->payload + req->key_bytes,
		.value_bytes = req->value_bytes,
		.op = req->op == ELOQ_OP_PUT ? ELOQ_WRITE_PUT : ELOQ_WRITE_DELETE,
	};
	serve_set_timestamp(&request->entry, server_ts, req->flags & ELOQ_REQ_TIMESTAMP,
			    req->words[ELOQ_WORD_TIMESTAMP]);
	request->write.entries = &request->entry;
	request->write.entry_count = 1;
}

static void serve_count_write(struct shard *shard, unsigned op)
{
	if (op == ELOQ_OP_PUT)
		shard->figures.puts++;
	else if (op == ELOQ_OP_DELETE)
		shard->figures.deletes++;
	else if (op == ELOQ_OP_BATCH)
		shard->figures.batches++;
}

static bool serve_write(struct serve *serve)
{
	struct shard *shard = serve->shard;
	struct shard_request *request;
	uint64_t server_ts = 0;
	enum eloq_status status = ELOQ_STATUS_OK;
	const char *words = NULL;

	if (!shard_may_write(shard))
		return false;
	if (serve->table->timestamps == ELOQ_TIMESTAMPS_SERVER) {
		server_ts = serve_timestamp(shard);
		if (server_ts == 0)
			return false;
	}
	request = serve_in_work(serve);
	if (!request)
		return false;
	serve_count_write(shard, serve->req.op);
	request->write = (struct eloq_write){
		.kind = serve->req.op == ELOQ_OP_TRUNCATE ? ELOQ_WRITE_TRUNCATE : ELOQ_WRITE_BATCH,
		.table_id = serve->table->id,
		.partition = serve->req.partition,
		.done = serve_write_done,
		.arg = request,
	};
	if (serve->req.op == ELOQ_OP_BATCH)
		status = serve_decode_batch(request, server_ts, &words);
	else if (serve->req.op != ELOQ_OP_TRUNCATE)
		serve_fill_entry(request, server_ts);
	if (status != ELOQ_STATUS_OK)
		shard_request_end(request, status, words);
	else
		serve_submit(request);
	return true;
}

/* --- everything
 * ------------------------------------------------------------------------------------ */

static bool serve_task(struct serve *serve, void (*body)(void *arg))
{
	struct shard_request *request;

	if (!shard_may_read(serve->shard))
		return false;
	request = serve_in_work(serve);
	if (!request)
		return false;
	if (eloq_task_start(serve->shard->sched, body, request) < 0)
		shard_request_end(request, ELOQ_STATUS_TOO_MANY, "no task is free");
	return true;
}

/* False: not taken, for want of room (the lane is looked at again) or as its client left. */
static bool serve_one(struct serve *serve)
{
	serve_check(serve);
	if (serve->lane->gone)
		return false; /* so said the supervisor, when it was asked for a name */
	if (serve->refusal != ELOQ_STATUS_OK) {
		serve_at_once(serve);
		return true;
	}
	switch ((enum eloq_op)serve->req.op) {
	case ELOQ_OP_GET:
		return serve_get(serve);
	case ELOQ_OP_PUT:
	case ELOQ_OP_DELETE:
	case ELOQ_OP_BATCH:
	case ELOQ_OP_TRUNCATE:
		return serve_write(serve);
	case ELOQ_OP_SCAN:
		serve->shard->figures.scans++;
		return serve_task(serve, shard_scan_task);
	case ELOQ_OP_PARTITION_STAT:
		return serve_task(serve, shard_stat_task);
	case ELOQ_OP_PAD:
	case ELOQ_OP_PING:
	case ELOQ_OP_PARTITIONS:
		break;
	}
	serve_at_once(serve);
	return true;
}

unsigned shard_serve_lane(struct shard_lane *lane, unsigned max)
{
	struct shard *shard = lane->shard;
	unsigned taken = 0;

	lane->waits = false;
	while (taken < max && !lane->gone && shard->state == SHARD_SERVING) {
		struct serve serve = { .shard = shard, .lane = lane };
		uint32_t reason = ELOQ_LANE_REASON_NONE;
		int r;

		r = eloq_lane_worker_peek(&lane->end, &serve.req, &serve.payload_offset, &reason);
		if (r == -ELOQ_EPROTOCOL)
			shard_lane_close(lane, (enum eloq_lane_reason)reason);
		if (r <= 0)
			break;
		if (!serve_one(&serve)) {
			lane->waits = taken == 0;
			break;
		}
		taken++;
	}
	/* A resync that was just confirmed has to be published too. */
	if (lane->end.wake_due && !lane->gone)
		shard_lane_touch(lane);
	return taken;
}
