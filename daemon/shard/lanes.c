/*
 * lanes.c - the lanes of a worker: who is looked at when, and their bulk memory.
 *
 * Idea: a lane where something happened lately is hot and looked at every turn. Of the others a
 * few are looked at each turn, and all of them once between saying "asleep" and sleeping; a client
 * that finds the worker asleep rings its lane's doorbell. So a turn costs what is busy, not what
 * is connected.
 *
 * Always:   a lane lives until its client left (or lied) and its last request was answered.
 * Trust:    whatever a client rings or writes costs itself: a doorbell that keeps ringing on an
 *           empty lane is left alone for a while and the lane is looked at by a timer instead.
 */
#include "daemon/shard/internal.h"

#include "common/fd.h"
#include "common/log.h"
#include "shm/segment.h"

#include <stdlib.h>

enum {
	LANES_COLD_PER_TURN = 4,
	LANE_IDLE_SWEEPS_MAX = 256, /* then it is cold */
	LANE_EMPTY_RINGS_MAX = 64,
};
#define LANE_REST_NS (20 * ELOQ_NS_PER_MS)

void shard_lane_touch(struct shard_lane *lane)
{
	struct shard *shard = lane->shard;

	lane->idle_sweeps = 0;
	if (lane->gone)
		return;
	if (eloq_list_empty(&lane->hot))
		eloq_list_push_back(&shard->hot_lanes, &lane->hot);
	if (eloq_list_empty(&lane->dirty))
		eloq_list_push_back(&shard->dirty_lanes, &lane->dirty);
}

static void lane_doorbell_rang(struct eloq_io_poll *poll)
{
	struct shard_lane *lane = poll->arg;

	if (eloq_list_empty(&lane->hot))
		eloq_list_push_back(&lane->shard->hot_lanes, &lane->hot);
	lane->idle_sweeps = 0;
	lane->empty_rings++;
	if (lane->empty_rings < LANE_EMPTY_RINGS_MAX)
		return;
	if (eloq_timer_arm(lane->shard->timers, &lane->rest_timer,
			   lane->shard->now_ns + LANE_REST_NS) < 0)
		return;
	eloq_io_poll_stop(lane->shard->io, &lane->doorbell);
	lane->doorbell_on = false;
}

/* The doorbell had rung too often for nothing: listen again, and look at the lane now. */
static void lane_rested(struct eloq_timer *timer)
{
	struct shard_lane *lane = timer->arg;

	lane->empty_rings = 0;
	if (eloq_io_poll_start(lane->shard->io, &lane->doorbell) == 0)
		lane->doorbell_on = true;
	else
		(void)eloq_timer_arm(lane->shard->timers, timer,
				     lane->shard->now_ns + LANE_REST_NS);
	if (eloq_list_empty(&lane->hot))
		eloq_list_push_back(&lane->shard->hot_lanes, &lane->hot);
}

static void lane_destroy(struct shard_lane *lane)
{
	struct shard *shard = lane->shard;

	eloq_assert(lane->in_work == 0);
	if (shard->cold_cursor == &lane->all)
		shard->cold_cursor = lane->all.next;
	eloq_list_remove(&lane->all);
	eloq_list_remove(&lane->hot);
	eloq_list_remove(&lane->dirty);
	if (lane->doorbell_on)
		eloq_io_poll_stop(shard->io, &lane->doorbell);
	eloq_timer_disarm(shard->timers, &lane->rest_timer);
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++)
		eloq_segment_unmap(lane->bulks[i].base, lane->bulks[i].bytes);
	eloq_ring_segment_unmap(lane->req_base, lane->end.req_ring_bytes);
	eloq_ring_segment_unmap(lane->ans_base, lane->end.ans_ring_bytes);
	eloq_fd_close(lane->doorbell.fd);
	free(lane);
	shard->lane_count--;
}

static int lane_map(struct shard_lane *lane, const struct eloq_msg_w_lane *msg, int req_fd,
		    int ans_fd)
{
	int r;

	r = eloq_ring_segment_map(req_fd, msg->req_ring_bytes, false, &lane->req_base);
	if (r < 0)
		return r;
	r = eloq_ring_segment_map(ans_fd, msg->ans_ring_bytes, true, &lane->ans_base);
	if (r < 0) {
		eloq_ring_segment_unmap(lane->req_base, msg->req_ring_bytes);
		return r;
	}
	eloq_lane_worker_init(&lane->end, lane->req_base, msg->req_ring_bytes, lane->ans_base,
			      msg->ans_ring_bytes, lane->shard->incarnation);
	return 0;
}

/* The doorbell is ours from here; the segments' descriptors stay the caller's. */
int shard_lane_add(struct shard *shard, const struct eloq_msg_w_lane *msg, int req_fd, int ans_fd,
		   int doorbell_fd)
{
	struct shard_lane *lane = calloc(1, sizeof(*lane));
	int r;

	if (!lane) {
		eloq_fd_close(doorbell_fd);
		return -ENOMEM;
	}
	lane->shard = shard;
	lane->number = msg->lane;
	lane->rights = msg->rights;
	lane->session = msg->session;
	r = lane_map(lane, msg, req_fd, ans_fd);
	if (r < 0) {
		eloq_fd_close(doorbell_fd);
		free(lane);
		return r;
	}
	eloq_list_init(&lane->hot);
	eloq_list_init(&lane->dirty);
	eloq_list_push_back(&shard->lanes, &lane->all);
	shard->lane_count++;
	lane->rest_timer.fn = lane_rested;
	lane->rest_timer.arg = lane;
	lane->doorbell = (struct eloq_io_poll){ .fd = doorbell_fd,
						.ready = lane_doorbell_rang,
						.arg = lane };
	r = eloq_io_poll_start(shard->io, &lane->doorbell);
	if (r < 0) {
		eloq_lane_worker_close(&lane->end, ELOQ_LANE_REASON_STOPPED);
		lane_destroy(lane);
		return r;
	}
	lane->doorbell_on = true;
	eloq_lane_worker_announce(&lane->end);
	shard_lane_touch(lane);
	return 0;
}

struct shard_lane *shard_lane_find(struct shard *shard, uint32_t number)
{
	eloq_list_for_each (node, &shard->lanes) {
		struct shard_lane *lane = eloq_list_entry(node, struct shard_lane, all);

		if (lane->number == number)
			return lane;
	}
	return NULL;
}

static struct shard_bulk *bulk_empty_slot(struct shard_lane *lane)
{
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++)
		if (!lane->bulks[i].base)
			return &lane->bulks[i];
	return NULL;
}

int shard_lane_add_bulk(struct shard *shard, const struct eloq_msg_w_bulk *msg, int fd)
{
	struct shard_lane *lane = shard_lane_find(shard, msg->lane);
	struct shard_bulk *bulk;
	void *base;
	int r;

	if (!lane || lane->gone)
		return 0; /* its client left meanwhile */
	bulk = bulk_empty_slot(lane);
	if (!bulk)
		return -ELOQ_ETOOMANY;
	r = eloq_segment_map(fd, msg->bytes, msg->direction == ELOQ_BULK_DOWN, &base);
	if (r < 0)
		return r;
	*bulk = (struct shard_bulk){
		.id = msg->bulk, .direction = msg->direction, .base = base, .bytes = msg->bytes
	};
	return 0;
}

struct shard_bulk *shard_bulk_find(struct shard_lane *lane, uint64_t id, uint32_t direction)
{
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++) {
		struct shard_bulk *bulk = &lane->bulks[i];

		if (bulk->base && !bulk->gone && bulk->id == id && bulk->direction == direction)
			return bulk;
	}
	return NULL;
}

/* Requests in work point at bulks: a slot is emptied, never moved. */
static void bulk_unmap(struct shard_bulk *bulk)
{
	eloq_segment_unmap(bulk->base, bulk->bytes);
	bulk->base = NULL;
	bulk->bytes = 0;
}

void shard_bulk_release(struct shard_bulk *bulk)
{
	if (!bulk)
		return;
	eloq_assert(bulk->users > 0);
	bulk->users--;
	if (bulk->users == 0 && bulk->gone)
		bulk_unmap(bulk);
}

void shard_lane_remove_bulk(struct shard *shard, uint32_t number, uint32_t id)
{
	struct shard_lane *lane = shard_lane_find(shard, number);

	for (unsigned i = 0; lane && i < ELOQ_BULKS_PER_LANE_MAX; i++) {
		struct shard_bulk *bulk = &lane->bulks[i];

		if (!bulk->base || bulk->gone || bulk->id != id)
			continue;
		bulk->gone = true;
		if (bulk->users == 0)
			bulk_unmap(bulk);
		return;
	}
}

/* Not at once: somebody up the stack may be walking the lanes. */
void shard_lane_maybe_free(struct shard_lane *lane)
{
	if (lane->gone && lane->in_work == 0 && eloq_list_empty(&lane->dirty))
		eloq_list_push_back(&lane->shard->dead_lanes, &lane->dirty);
}

void shard_lanes_bury(struct shard *shard)
{
	struct eloq_list *node;

	while ((node = eloq_list_pop_front(&shard->dead_lanes)) != NULL)
		lane_destroy(eloq_list_entry(node, struct shard_lane, dirty));
}

static void lane_log_lie(const struct shard_lane *lane, enum eloq_lane_reason reason)
{
	struct shard *shard = lane->shard;
	unsigned left_out;

	if (eloq_log_allowed(&shard->lie_log, shard->now_ns, &left_out))
		eloq_log_warn("lane closed lane=%u session=%llu reason=\"%s\" left_out=%u",
			      lane->number, (unsigned long long)lane->session,
			      eloq_lane_reason_text(reason), left_out);
}

void shard_lane_close(struct shard_lane *lane, enum eloq_lane_reason reason)
{
	struct shard *shard = lane->shard;

	if (lane->gone)
		return;
	eloq_lane_worker_publish(&lane->end);
	eloq_lane_worker_close(&lane->end, reason);
	lane->gone = true;
	eloq_list_remove(&lane->hot);
	eloq_list_remove(&lane->dirty);
	if (reason != ELOQ_LANE_REASON_LEFT && reason != ELOQ_LANE_REASON_STOPPED) {
		shard->figures.lanes_closed_for_lies++;
		lane_log_lie(lane, reason);
		shard_link_lane_closed(shard, lane->number, reason);
	}
	shard_lane_maybe_free(lane);
}

void shard_lanes_close_all(struct shard *shard, enum eloq_lane_reason reason)
{
	eloq_list_for_each (node, &shard->lanes) {
		shard_lane_close(eloq_list_entry(node, struct shard_lane, all), reason);
	}
}

void shard_lanes_publish(struct shard *shard)
{
	struct eloq_list *node;

	while ((node = eloq_list_pop_front(&shard->dirty_lanes)) != NULL)
		eloq_lane_worker_publish(&eloq_list_entry(node, struct shard_lane, dirty)->end);
}

static unsigned lane_sweep(struct shard_lane *lane, unsigned max)
{
	unsigned taken = shard_serve_lane(lane, max);

	if (taken > 0)
		lane->empty_rings = 0;
	return taken;
}

/*
 * Each hot lane once. First the next time are those that found no room for anything, then those
 * that were not reached for want of time: what becomes free goes to who waits longest.
 */
static unsigned lanes_sweep_hot(struct shard *shard)
{
	struct eloq_list now, waiting, *node;
	unsigned taken = 0;

	eloq_list_init(&now);
	eloq_list_init(&waiting);
	eloq_list_splice_back(&now, &shard->hot_lanes);
	while (taken < ELOQ_TURN_REQUESTS_MAX && (node = eloq_list_pop_front(&now)) != NULL) {
		struct shard_lane *lane = eloq_list_entry(node, struct shard_lane, hot);

		taken += lane_sweep(lane, ELOQ_TURN_LANE_REQUESTS_MAX);
		if (lane->waits && !lane->gone) {
			lane->idle_sweeps = 0;
			eloq_list_remove(&lane->hot);
			eloq_list_push_back(&waiting, &lane->hot);
			continue;
		}
		if (!lane->gone && lane->idle_sweeps++ < LANE_IDLE_SWEEPS_MAX &&
		    eloq_list_empty(&lane->hot))
			eloq_list_push_back(&shard->hot_lanes, &lane->hot);
	}
	eloq_list_splice_back(&waiting, &now);
	eloq_list_splice_back(&waiting, &shard->hot_lanes);
	eloq_list_splice_back(&shard->hot_lanes, &waiting);
	return taken;
}

unsigned shard_lanes_sweep(struct shard *shard)
{
	unsigned taken = lanes_sweep_hot(shard);

	for (unsigned i = 0; i < LANES_COLD_PER_TURN && !eloq_list_empty(&shard->lanes); i++) {
		struct eloq_list *node = shard->cold_cursor;

		if (node == &shard->lanes)
			node = node->next;
		shard->cold_cursor = node->next;
		struct shard_lane *lane = eloq_list_entry(node, struct shard_lane, all);

		if (!lane->gone && eloq_list_empty(&lane->hot))
			taken += lane_sweep(lane, ELOQ_TURN_LANE_REQUESTS_MAX);
	}
	return taken;
}

/* Ends early once there is enough for a turn: nobody sleeps then. */
unsigned shard_lanes_sweep_all(struct shard *shard)
{
	unsigned taken = 0;

	eloq_list_for_each (node, &shard->lanes) {
		struct shard_lane *lane = eloq_list_entry(node, struct shard_lane, all);

		if (taken >= ELOQ_TURN_REQUESTS_MAX)
			break;
		if (!lane->gone)
			taken += lane_sweep(lane, ELOQ_TURN_LANE_REQUESTS_MAX);
	}
	return taken;
}
