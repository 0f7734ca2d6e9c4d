/*
 * lane.c - channels, lanes and bulk memory: made here, kept here, handed over to every worker.
 *
 * Idea: shared memory outlives the worker that serves it, so the supervisor makes it, keeps a
 * descriptor, and tells each new process of a shard about all lanes of that shard.
 *
 * All of it counts against one budget, from the moment it is made until it is really free. A client
 * may keep a descriptor of what it gave up, so closing ours frees nothing: once the worker has let
 * go (it answers a W_LOOK that was sent behind W_LANE_GONE), the pages are punched out. Whatever a
 * client touches in them after that is charged to the client.
 *
 * Always:   lane_memory is the sum over lanes, bulks and graves; lane and channel numbers are not
 *           reused.
 * Runs on:  the supervisor's thread.
 * Fails by: -ELOQ_ETOOMANY naming the bound, -ELOQ_ENOTFOUND, -ELOQ_EEXISTS, -EINVAL, -errno.
 */
#include "common/fd.h"
#include "common/log.h"
#include "daemon/supervisor/internal.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* Messages that wait for one worker; a client that opens and closes without end meets it. */
enum { LANE_BACKLOG_MAX = 4 * ELOQ_LANES_PER_WORKER_MAX };

/* --- Budget ------------------------------------------------------------------------------------
 */

static int lane_charge(struct supervisor *super, uint64_t bytes, struct eloq_errinfo *reterr)
{
	uint64_t budget = super->options->lane_memory;

	if (bytes > budget || super->lane_memory > budget - bytes)
		return eloq_fail(reterr, -ELOQ_ETOOMANY,
				 "lane memory is used up: %llu of %llu bytes, %llu more wanted "
				 "([server] lane_memory)",
				 (unsigned long long)super->lane_memory, (unsigned long long)budget,
				 (unsigned long long)bytes);
	super->lane_memory += bytes;
	return 0;
}

static void lane_uncharge(struct supervisor *super, uint64_t bytes)
{
	eloq_assert(super->lane_memory >= bytes);
	super->lane_memory -= bytes;
}

/* --- Graves ------------------------------------------------------------------------------------
 */

/* Empty memory that nobody of ours uses any more, and give up the reference to it. */
static void lane_free_memory(struct supervisor *super, struct eloq_shared_fd *memory,
			     uint64_t bytes)
{
	/* Sealed against shrinking and growing, but not against holes. */
	(void)fallocate(eloq_shared_fd_get(memory), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			(off_t)bytes);
	lane_uncharge(super, bytes);
	eloq_shared_fd_unref(memory);
}

static void grave_free(struct worker *worker, struct grave *grave)
{
	lane_free_memory(worker->super, grave->memory, grave->bytes);
	eloq_list_remove(&grave->link);
	free(grave);
}

/* Ask the worker for an answer that comes after everything it was told so far. */
static void graves_fence(struct worker *worker)
{
	struct eloq_msg_w_plain msg = { 0 };

	if (worker->grave_seq || eloq_list_empty(&worker->graves))
		return;
	worker->grave_seq = supervisor_next_seq(worker->super);
	eloq_list_for_each (node, &worker->graves)
		eloq_list_entry(node, struct grave, link)->seq = worker->grave_seq;
	eloq_control_init(&msg, ELOQ_CONTROL_W_LOOK, sizeof(msg), worker->grave_seq);
	super_link_send(worker, &msg, NULL, 0, NULL, 0);
}

/* Takes over the reference to @memory. Without memory for the grave its bytes stay charged. */
static void grave_dig(struct worker *worker, struct eloq_shared_fd *memory, uint64_t bytes)
{
	struct grave *grave;

	if (!super_worker_is_alive(worker)) {
		lane_free_memory(worker->super, memory, bytes);
		return;
	}
	grave = calloc(1, sizeof(*grave));
	if (!grave) {
		eloq_shared_fd_unref(memory);
		return;
	}
	grave->memory = memory;
	grave->bytes = bytes;
	eloq_list_push_back(&worker->graves, &grave->link);
}

void super_lane_fence_passed(struct worker *worker, uint32_t seq)
{
	if (!worker->grave_seq || seq != worker->grave_seq)
		return;
	eloq_list_for_each_safe (node, &worker->graves) {
		struct grave *grave = eloq_list_entry(node, struct grave, link);

		if (grave->seq == seq)
			grave_free(worker, grave);
	}
	worker->grave_seq = 0;
	graves_fence(worker);
}

void super_lane_worker_died(struct worker *worker)
{
	eloq_list_for_each_safe (node, &worker->graves)
		grave_free(worker, eloq_list_entry(node, struct grave, link));
	worker->grave_seq = 0;
}

/* --- Telling the worker ------------------------------------------------------------------------
 */

static void lane_tell(const struct lane *lane)
{
	const struct supervisor *super = lane->worker->super;
	struct eloq_msg_w_lane msg = {
		.session = lane->session->number,
		.lane = lane->number,
		.channel = lane->channel,
		.req_ring_bytes = (uint32_t)super->options->request_ring_size,
		.ans_ring_bytes = (uint32_t)super->options->answer_ring_size,
		.rights = 2,
		.uid = lane->session->uid,
	};
	struct eloq_shared_fd *fds[] = { lane->req, lane->ans, lane->doorbell };

	eloq_control_init(&msg, ELOQ_CONTROL_W_LANE, sizeof(msg), 0);
	super_link_send(lane->worker, &msg, NULL, 0, fds, ELOQ_ARRAY_SIZE(fds));
}

static void lane_tell_bulk(const struct lane *lane, const struct bulk *bulk)
{
	struct eloq_msg_w_bulk msg = {
		.lane = lane->number,
		.bulk = bulk->number,
		.direction = bulk->direction,
		.bytes = bulk->bytes,
	};

	eloq_control_init(&msg, ELOQ_CONTROL_W_BULK, sizeof(msg), 0);
	super_link_send(lane->worker, &msg, NULL, 0, &bulk->memory, 1);
}

void super_lane_hand_over(struct worker *worker)
{
	eloq_list_for_each (node, &worker->lanes) {
		const struct lane *lane = eloq_list_entry(node, struct lane, link);

		if (lane->closed)
			continue;
		lane_tell(lane);
		eloq_list_for_each (bulk_node, &lane->bulks)
			lane_tell_bulk(lane, eloq_list_entry(bulk_node, struct bulk, link));
	}
}

void super_lane_closed_by_worker(struct worker *worker, uint32_t number, uint32_t reason)
{
	eloq_list_for_each (node, &worker->lanes) {
		struct lane *lane = eloq_list_entry(node, struct lane, link);

		if (lane->number != number)
			continue;
		eloq_log_warn("lane closed by its worker shard=%u session=%llu client=\"%s\" "
			      "pid=%u reason=%u",
			      worker->shard, (unsigned long long)lane->session->number,
			      lane->session->name, lane->session->pid, reason);
		lane->closed = true;
		return;
	}
}

/* --- Channels ----------------------------------------------------------------------------------
 */

static struct channel *channel_find(const struct session *session, uint32_t number)
{
	eloq_list_for_each (node, &session->channels) {
		struct channel *channel = eloq_list_entry(node, struct channel, link);

		if (channel->number == number)
			return channel;
	}
	return NULL;
}

static struct lane *lane_find(const struct session *session, uint32_t number, uint32_t shard)
{
	const struct channel *channel = channel_find(session, number);

	if (!channel || shard >= session->super->worker_count)
		return NULL;
	return channel->lanes[shard];
}

int super_lane_channel_open(struct session *session, uint32_t *ret_channel)
{
	const unsigned shards = session->super->worker_count;
	struct channel *channel;

	if (session->channel_count == ELOQ_CHANNELS_PER_CLIENT_MAX ||
	    session->channel_next == UINT32_MAX)
		return -ELOQ_ETOOMANY;
	channel = calloc(1, sizeof(*channel) + shards * sizeof(channel->lanes[0]));
	if (!channel)
		return -ENOMEM;
	channel->number = session->channel_next++;
	eloq_list_push_back(&session->channels, &channel->link);
	session->channel_count++;
	*ret_channel = channel->number;
	return 0;
}

static void lane_bury_bulk(struct lane *lane, struct bulk *bulk)
{
	grave_dig(lane->worker, bulk->memory, bulk->bytes);
	eloq_list_remove(&bulk->link);
	lane->bulk_count--;
	free(bulk);
}

static uint64_t lane_segment_bytes(uint64_t ring_bytes)
{
	return ELOQ_SEGMENT_HEADER_BYTES + ring_bytes;
}

static void lane_close(struct lane *lane)
{
	struct worker *worker = lane->worker;
	const struct eloq_options *options = worker->super->options;
	struct eloq_msg_w_lane_end msg = { .lane = lane->number, .reason = ELOQ_LANE_REASON_LEFT };

	eloq_control_init(&msg, ELOQ_CONTROL_W_LANE_GONE, sizeof(msg), 0);
	super_link_send(worker, &msg, NULL, 0, NULL, 0);
	eloq_list_for_each_safe (node, &lane->bulks)
		lane_bury_bulk(lane, eloq_list_entry(node, struct bulk, link));
	grave_dig(worker, lane->req, lane_segment_bytes(options->request_ring_size));
	grave_dig(worker, lane->ans, lane_segment_bytes(options->answer_ring_size));
	graves_fence(worker);
	eloq_shared_fd_unref(lane->doorbell);
	eloq_list_remove(&lane->link);
	worker->lane_count--;
	free(lane);
}

static void channel_close(struct session *session, struct channel *channel)
{
	for (unsigned i = 0; i < session->super->worker_count; i++)
		if (channel->lanes[i])
			lane_close(channel->lanes[i]);
	eloq_list_remove(&channel->link);
	session->channel_count--;
	free(channel);
}

int super_lane_channel_close(struct session *session, uint32_t number)
{
	struct channel *channel = channel_find(session, number);

	if (!channel)
		return -ELOQ_ENOTFOUND;
	channel_close(session, channel);
	return 0;
}

void super_lane_close_session(struct session *session)
{
	eloq_list_for_each_safe (node, &session->channels)
		channel_close(session, eloq_list_entry(node, struct channel, link));
}

/* --- Lanes -------------------------------------------------------------------------------------
 */

static int lane_make_segment(const char *name, uint32_t magic, uint64_t ring_bytes,
			     struct eloq_shared_fd **ret_memory)
{
	int fd, r;

	r = eloq_segment_create(name, magic, lane_segment_bytes(ring_bytes), &fd);
	if (r < 0)
		return r;
	*ret_memory = eloq_shared_fd_new(fd);
	return *ret_memory ? 0 : -ENOMEM;
}

static int lane_make_memory(struct lane *lane, const struct eloq_options *options)
{
	int fd, r;

	r = lane_make_segment("eloq-requests", ELOQ_REQUEST_SEGMENT_MAGIC,
			      options->request_ring_size, &lane->req);
	if (r < 0)
		return r;
	r = lane_make_segment("eloq-answers", ELOQ_ANSWER_SEGMENT_MAGIC, options->answer_ring_size,
			      &lane->ans);
	if (r < 0)
		return r;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	lane->doorbell = eloq_shared_fd_new(fd);
	return lane->doorbell ? 0 : -ENOMEM;
}

/* A descriptor of the same memory that only reads. */
static int lane_reader(const struct eloq_shared_fd *memory, struct eloq_shared_fd **ret_reader)
{
	int fd, r;

	r = eloq_segment_reopen_read_only(eloq_shared_fd_get(memory), &fd);
	if (r < 0)
		return r;
	*ret_reader = eloq_shared_fd_new(fd);
	return *ret_reader ? 0 : -ENOMEM;
}

static int lane_check_new(const struct session *session, uint32_t number, uint32_t shard,
			  struct eloq_errinfo *reterr)
{
	const struct supervisor *super = session->super;
	const struct channel *channel = channel_find(session, number);
	const struct worker *worker;

	if (shard >= super->worker_count)
		return eloq_fail(reterr, -EINVAL, "there is no shard %u, only %u of them", shard,
				 super->worker_count);
	if (!channel)
		return eloq_fail(reterr, -ELOQ_ENOTFOUND, "there is no channel %u", number);
	if (channel->lanes[shard])
		return eloq_fail(reterr, -ELOQ_EEXISTS, "channel %u has a lane to shard %u", number,
				 shard);
	worker = &super->workers[shard];
	if (worker->lane_count == ELOQ_LANES_PER_WORKER_MAX || super->lane_next == UINT32_MAX)
		return eloq_fail(reterr, -ELOQ_ETOOMANY, "shard %u has %u lanes, the most it can",
				 shard, worker->lane_count);
	if (worker->out.count >= LANE_BACKLOG_MAX)
		return eloq_fail(reterr, -ELOQ_ETOOMANY,
				 "%u messages wait for the worker of shard %u", worker->out.count,
				 shard);
	return 0;
}

static void lane_free_unused(struct lane *lane)
{
	eloq_shared_fd_unref(lane->req);
	eloq_shared_fd_unref(lane->ans);
	eloq_shared_fd_unref(lane->doorbell);
	free(lane);
}

static void lane_answer(struct session *session, uint32_t seq, const struct lane *lane,
			struct eloq_shared_fd *ans_reader)
{
	const struct eloq_options *options = session->super->options;
	struct eloq_shared_fd *fds[] = { lane->req, ans_reader, lane->doorbell };
	struct eloq_msg_lane msg = {
		.channel = lane->channel,
		.shard = lane->worker->shard,
		.req_ring_bytes = (uint32_t)options->request_ring_size,
		.ans_ring_bytes = (uint32_t)options->answer_ring_size,
	};

	eloq_control_init(&msg, ELOQ_CONTROL_LANE, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, fds, ELOQ_ARRAY_SIZE(fds));
}

int super_lane_open(struct session *session, uint32_t seq, uint32_t number, uint32_t shard,
		    struct eloq_errinfo *reterr)
{
	struct supervisor *super = session->super;
	const struct eloq_options *options = super->options;
	const uint64_t bytes = lane_segment_bytes(options->request_ring_size) +
			       lane_segment_bytes(options->answer_ring_size);
	struct eloq_shared_fd *reader = NULL;
	struct lane *lane;
	int r;

	r = lane_check_new(session, number, shard, reterr);
	if (r == 0)
		r = lane_charge(super, bytes, reterr);
	if (r < 0)
		return r;
	lane = calloc(1, sizeof(*lane));
	r = lane ? lane_make_memory(lane, options) : -ENOMEM;
	if (r == 0)
		r = lane_reader(lane->ans, &reader);
	if (r < 0) {
		if (lane)
			lane_free_unused(lane);
		lane_uncharge(super, bytes);
		return eloq_fail_errno(reterr, r, "cannot make a lane to shard %u", shard);
	}
	lane->worker = &super->workers[shard];
	lane->session = session;
	lane->number = ++super->lane_next;
	lane->channel = number;
	eloq_list_init(&lane->bulks);
	eloq_list_push_back(&lane->worker->lanes, &lane->link);
	lane->worker->lane_count++;
	channel_find(session, number)->lanes[shard] = lane;
	lane_tell(lane);
	lane_answer(session, seq, lane, reader);
	eloq_shared_fd_unref(reader);
	return 0;
}

/* --- Bulk memory -------------------------------------------------------------------------------
 */

static int bulk_check_new(const struct session *session, const struct eloq_msg_bulk_open *msg,
			  struct lane **ret_lane, struct eloq_errinfo *reterr)
{
	struct lane *lane = lane_find(session, msg->channel, msg->shard);

	if (!lane)
		return eloq_fail(reterr, -ELOQ_ENOTFOUND, "channel %u has no lane to shard %u",
				 msg->channel, msg->shard);
	if (msg->direction > ELOQ_BULK_DOWN || msg->bytes == 0)
		return eloq_fail(reterr, -EINVAL, "bulk memory needs a direction and a size");
	if (lane->bulk_count == ELOQ_BULKS_PER_LANE_MAX || lane->bulk_next == UINT32_MAX)
		return eloq_fail(reterr, -ELOQ_ETOOMANY,
				 "the lane has %u pieces of bulk memory, the most it can",
				 lane->bulk_count);
	if (lane->worker->out.count >= LANE_BACKLOG_MAX)
		return eloq_fail(reterr, -ELOQ_ETOOMANY,
				 "%u messages wait for the worker of shard %u",
				 lane->worker->out.count, msg->shard);
	*ret_lane = lane;
	return 0;
}

/* What the client gets: memory that it may write (UP), or only read (DOWN). */
static int bulk_make(struct bulk *bulk, struct eloq_shared_fd **ret_for_client)
{
	int fd, r;

	r = eloq_segment_create("eloq-bulk", 0, bulk->bytes, &fd);
	if (r < 0)
		return r;
	bulk->memory = eloq_shared_fd_new(fd);
	if (!bulk->memory)
		return -ENOMEM;
	if (bulk->direction == ELOQ_BULK_DOWN)
		return lane_reader(bulk->memory, ret_for_client);
	*ret_for_client = eloq_shared_fd_ref(bulk->memory);
	return 0;
}

static void bulk_answer(struct session *session, uint32_t seq, const struct bulk *bulk,
			struct eloq_shared_fd *for_client)
{
	struct eloq_msg_bulk msg = { .bulk = bulk->number, .bytes = bulk->bytes };

	eloq_control_init(&msg, ELOQ_CONTROL_BULK, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, &for_client, 1);
}

int super_lane_bulk_open(struct session *session, const struct eloq_msg_bulk_open *msg,
			 struct eloq_errinfo *reterr)
{
	struct supervisor *super = session->super;
	struct eloq_shared_fd *for_client = NULL;
	struct lane *lane = NULL;
	struct bulk *bulk;
	uint64_t bytes = msg->bytes;
	int r;

	r = bulk_check_new(session, msg, &lane, reterr);
	if (r < 0)
		return r;
	if (bytes <= super->options->lane_memory)
		bytes = eloq_round_up(bytes, ELOQ_BULK_BYTES_ALIGN);
	r = lane_charge(super, bytes, reterr);
	if (r < 0)
		return r;
	bulk = calloc(1, sizeof(*bulk));
	if (bulk) {
		bulk->bytes = bytes;
		bulk->direction = msg->direction;
	}
	r = bulk ? bulk_make(bulk, &for_client) : -ENOMEM;
	if (r < 0) {
		if (bulk)
			eloq_shared_fd_unref(bulk->memory);
		free(bulk);
		lane_uncharge(super, bytes);
		return eloq_fail_errno(reterr, r, "cannot make bulk memory");
	}
	bulk->number = ++lane->bulk_next;
	eloq_list_push_back(&lane->bulks, &bulk->link);
	lane->bulk_count++;
	if (!lane->closed)
		lane_tell_bulk(lane, bulk);
	super_session_gate(session, lane->worker);
	bulk_answer(session, msg->header.seq, bulk, for_client);
	eloq_shared_fd_unref(for_client);
	return 0;
}

int super_lane_bulk_close(struct session *session, const struct eloq_msg_bulk_close *msg)
{
	struct lane *lane = lane_find(session, msg->channel, msg->shard);
	struct eloq_msg_w_bulk_gone gone = { .bulk = msg->bulk };

	if (!lane)
		return -ELOQ_ENOTFOUND;
	eloq_list_for_each_safe (node, &lane->bulks) {
		struct bulk *bulk = eloq_list_entry(node, struct bulk, link);

		if (bulk->number != msg->bulk)
			continue;
		gone.lane = lane->number;
		eloq_control_init(&gone, ELOQ_CONTROL_W_BULK_GONE, sizeof(gone), 0);
		super_link_send(lane->worker, &gone, NULL, 0, NULL, 0);
		lane_bury_bulk(lane, bulk);
		graves_fence(lane->worker);
		return 0;
	}
	return -ELOQ_ENOTFOUND;
}
