/*
 * fake_worker.c - the fake daemon's workers: requests taken, executed, answered, or died of.
 *
 * The worker's end of a lane is the real one (shm/lane.h). A worker that dies forgets what it had
 * taken and not answered, as a process would, and comes back with a new incarnation on the same
 * memory.
 */
#include "tests/support/fake_internal.h"

static bool fake_happens(struct fake_daemon *daemon, unsigned per_mille)
{
	return per_mille && eloq_prng_below(&daemon->prng, 1000) < per_mille;
}

/* --- Answers -----------------------------------------------------------------------------------
 */

void fake_forget(struct fake_pending *pending)
{
	eloq_list_remove(&pending->link);
	if (pending->up)
		pending->up->users--;
	if (pending->down)
		pending->down->users--;
	free(pending->up_copy);
	free(pending->outcome.value);
	free(pending);
}

static void fake_answer(struct fake_daemon *daemon, struct fake_pending *pending)
{
	struct fake_lane *lane = pending->lane;
	const struct fake_outcome *outcome = &pending->outcome;
	uint32_t limit = eloq_lane_inline_limit(&pending->request, lane->end.ans_ring_bytes);
	const uint8_t *value = outcome->value;
	struct eloq_answer answer = {
		.id = pending->request.id,
		.status = (uint8_t)outcome->status,
		.flags = outcome->flags,
		.value_bytes = outcome->value_bytes,
		.incarnation = lane->end.generation,
		.timestamp = outcome->timestamp,
	};

	if (pending->up &&
	    memcmp(pending->up_copy, pending->up->base, pending->request.value_bytes) != 0)
		daemon->figures.bulk_changed_early++;
	if (answer.status == ELOQ_STATUS_OK && answer.value_bytes > limit) {
		value = NULL;
		if (pending->down && pending->down->bytes >= answer.value_bytes) {
			memcpy(pending->down->base, outcome->value, answer.value_bytes);
			answer.flags |= ELOQ_ANS_BULK;
			daemon->figures.in_bulk++;
		} else {
			answer.status = ELOQ_STATUS_NEED_BULK;
		}
	}
	if (answer.status == ELOQ_STATUS_NEED_BULK)
		daemon->figures.need_bulk++;
	eloq_lane_worker_answer(&lane->end, pending->reserved, &answer, NULL, value);
	fake_forget(pending);
}

/* A random one of those that are due, so that answers overtake each other. */
static bool fake_give_answers(struct fake_daemon *daemon, struct fake_lane *lane)
{
	bool did = false;

	eloq_list_for_each_safe (node, &lane->pending) {
		struct fake_pending *pending = eloq_list_entry(node, struct fake_pending, link);

		if (daemon->holding)
			break;
		if (pending->turns_left) {
			pending->turns_left--;
			did = true;
			continue;
		}
		fake_answer(daemon, pending);
		did = true;
	}
	return did;
}

/* --- Workers -----------------------------------------------------------------------------------
 */

void fake_worker_die(struct fake_daemon *daemon, uint32_t shard)
{
	struct fake_worker *worker = &daemon->workers[shard];

	if (worker->dead)
		return;
	daemon->figures.deaths++;
	worker->dead = true;
	worker->turns_dead = (unsigned)eloq_prng_below(&daemon->prng, daemon->opts.dead_turns + 1);
	eloq_list_for_each (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		if (lane->shard != shard)
			continue;
		eloq_list_for_each_safe (pending, &lane->pending)
			fake_forget(eloq_list_entry(pending, struct fake_pending, link));
	}
}

void fake_lane_begin(struct fake_daemon *daemon, struct fake_lane *lane)
{
	eloq_lane_worker_init(&lane->end, lane->req_base, lane->end.req_ring_bytes, lane->ans_base,
			      lane->end.ans_ring_bytes, daemon->workers[lane->shard].incarnation);
	eloq_lane_worker_announce(&lane->end);
}

void fake_worker_begin(struct fake_daemon *daemon, uint32_t shard)
{
	struct fake_worker *worker = &daemon->workers[shard];

	worker->dead = false;
	worker->incarnation = ++daemon->incarnation;
	atomic_store(&worker->page->incarnation, worker->incarnation);
	eloq_list_for_each (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		if (lane->shard == shard && !lane->closed)
			fake_lane_begin(daemon, lane);
	}
}

static struct fake_bulk *fake_find_bulk(struct fake_lane *lane, const struct eloq_request *request,
					enum eloq_request_word word,
					enum eloq_bulk_direction direction)
{
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++) {
		struct fake_bulk *bulk = &lane->bulks[i];

		if (request->flags & 1u << word && bulk->base && bulk->direction == direction &&
		    bulk->number == request->words[word])
			return bulk;
	}
	return NULL;
}

static const struct fake_table *fake_find_table(const struct fake_daemon *daemon, uint32_t id)
{
	for (unsigned i = 0; i < daemon->table_count; i++)
		if (daemon->tables[i].id == id)
			return &daemon->tables[i];
	return NULL;
}

static enum eloq_status fake_judge(struct fake_daemon *daemon, const struct fake_pending *pending)
{
	const struct eloq_request *request = &pending->request;
	const struct fake_table *table = fake_find_table(daemon, request->table);

	if (daemon->refuse_count && daemon->refuse_op == (enum eloq_op)request->op) {
		daemon->refuse_count--;
		return daemon->refuse_status;
	}
	if (request->op == ELOQ_OP_PING)
		return ELOQ_STATUS_OK;
	if (!table)
		return ELOQ_STATUS_NO_TABLE;
	if (request->op != ELOQ_OP_PARTITIONS &&
	    request->partition % daemon->opts.shard_count != pending->lane->shard)
		return ELOQ_STATUS_WRONG_SHARD;
	if (request->flags & ELOQ_REQ_UP_BULK &&
	    (!pending->up || request->value_bytes > pending->up->bytes))
		return ELOQ_STATUS_INVALID;
	if (request->flags & ELOQ_REQ_DOWN_BULK && !pending->down)
		return ELOQ_STATUS_INVALID;
	return ELOQ_STATUS_OK;
}

static void fake_execute(struct fake_daemon *daemon, struct fake_pending *pending)
{
	const struct fake_table *table = fake_find_table(daemon, pending->request.table);
	uint32_t limit =
		eloq_lane_inline_limit(&pending->request, pending->lane->end.ans_ring_bytes);
	struct fake_call call = {
		.request = &pending->request,
		.key = daemon->payload,
		.value = pending->up ? pending->up->base
				     : daemon->payload + pending->request.key_bytes,
		.shard = pending->lane->shard,
		.shard_count = daemon->opts.shard_count,
		.caller_timestamps = table && table->caller_timestamps,
		.capacity =
			pending->down ? (uint32_t)eloq_max_u64(limit, pending->down->bytes) : limit,
	};
	enum eloq_status status = fake_judge(daemon, pending);

	if (status == ELOQ_STATUS_OK) {
		fake_store_execute(&daemon->store, &call, &pending->outcome);
		return;
	}
	pending->outcome = (struct fake_outcome){
		.status = status,
		.value = (uint8_t *)strdup(daemon->refuse_words),
		.value_bytes = (uint32_t)strlen(daemon->refuse_words),
	};
}

static void fake_note_bulks(struct fake_daemon *daemon, struct fake_pending *pending)
{
	const struct eloq_request *request = &pending->request;

	pending->up = fake_find_bulk(pending->lane, request, ELOQ_WORD_UP_BULK, ELOQ_BULK_UP);
	pending->down = fake_find_bulk(pending->lane, request, ELOQ_WORD_DOWN_BULK, ELOQ_BULK_DOWN);
	if (pending->up) {
		daemon->figures.same_bulk_twice += pending->up->users++ > 0;
		daemon->figures.in_bulk++;
		pending->up_copy = malloc(request->value_bytes + 1);
		memcpy(pending->up_copy, pending->up->base, request->value_bytes);
	}
	if (pending->down)
		daemon->figures.same_bulk_twice += pending->down->users++ > 0;
}

/* Take one request. False: the worker died of it. */
static bool fake_take(struct fake_daemon *daemon, struct fake_lane *lane,
		      const struct eloq_request *request, size_t payload_offset)
{
	struct fake_pending *pending = calloc(1, sizeof(*pending));

	pending->lane = lane;
	pending->request = *request;
	pending->reserved =
		eloq_lane_worker_accept(&lane->end, request, payload_offset, daemon->payload);
	eloq_list_push_back(&lane->pending, &pending->link);
	daemon->figures.requests[request->op & 15]++;
	daemon->figures.resent += (request->flags & ELOQ_REQ_RESENT) != 0;
	fake_note_bulks(daemon, pending);
	if (fake_happens(daemon, daemon->opts.die_before)) {
		fake_worker_die(daemon, lane->shard);
		return false;
	}
	fake_execute(daemon, pending);
	if (fake_happens(daemon, daemon->opts.die_after)) {
		fake_worker_die(daemon, lane->shard);
		return false;
	}
	if (fake_happens(daemon, daemon->opts.late))
		pending->turns_left = 1 + (unsigned)eloq_prng_below(&daemon->prng, 8);
	return true;
}

static bool fake_serve_lane(struct fake_daemon *daemon, struct fake_lane *lane)
{
	struct eloq_request request;
	uint32_t reason = 0;
	size_t offset;
	bool did = false;
	int r;

	while ((r = eloq_lane_worker_peek(&lane->end, &request, &offset, &reason)) == 1) {
		did = true;
		if (!fake_take(daemon, lane, &request, offset))
			return true;
	}
	if (r == -ELOQ_EPROTOCOL) {
		daemon->figures.lies++;
		lane->closed = true;
		eloq_lane_worker_close(&lane->end, (enum eloq_lane_reason)reason);
		return true;
	}
	did |= fake_give_answers(daemon, lane);
	eloq_lane_worker_publish(&lane->end);
	return did;
}

bool fake_work(struct fake_daemon *daemon)
{
	bool did = false;

	for (uint32_t shard = 0; shard < daemon->opts.shard_count; shard++) {
		struct fake_worker *worker = &daemon->workers[shard];

		if (!worker->dead || worker->paused || worker->turns_dead == UINT32_MAX)
			continue;
		if (worker->turns_dead > 0)
			worker->turns_dead--;
		else
			fake_worker_begin(daemon, shard);
		did = true;
	}
	eloq_list_for_each (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);
		const struct fake_worker *worker = &daemon->workers[lane->shard];

		if (!lane->closed && !worker->dead && !worker->paused)
			did |= fake_serve_lane(daemon, lane);
	}
	return did;
}
