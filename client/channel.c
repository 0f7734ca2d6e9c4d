/*
 * channel.c - channels, the lanes they open, and the channel that each thread has.
 *
 * Idea: a channel costs a number; its lanes, which are memory, are made when a shard is first
 * talked to. The thread's own channel hangs on a pthread key, so that it ends with the thread.
 *
 * Always:   a lane that is in channel->lanes is mapped and usable, or `broken` says why not.
 * Runs on:  the channel's thread; the client's list of channels is under its lock.
 * Fails by: the daemon's errors, -ENOMEM, -ELOQ_EPROTOCOL for sizes that cannot be.
 */
#include "client/internal.h"

#include "common/fd.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <sys/mman.h>

/* --- Lanes -------------------------------------------------------------------------------------
 */

static bool lane_ring_bytes_are_sane(uint32_t bytes)
{
	return eloq_is_power_of_two(bytes) && bytes >= ELOQ_RING_BYTES_MIN &&
	       bytes <= ELOQ_RING_BYTES_MAX;
}

static int lane_map_segment(int fd, uint32_t ring_bytes, bool writable, uint32_t magic,
			    void **ret_base)
{
	void *base;
	int r;

	r = eloq_ring_segment_map(fd, ring_bytes, writable, &base);
	if (r < 0)
		return r;
	*ret_base = base;
	/* A forked child has no business in its parent's rings. */
	(void)madvise(base, ELOQ_SEGMENT_HEADER_BYTES + 2 * (size_t)ring_bytes, MADV_DONTFORK);
	return eloq_segment_check(base, magic, ELOQ_SEGMENT_HEADER_BYTES + (size_t)ring_bytes);
}

static void lane_close(struct client_lane *lane)
{
	bool forked;

	if (!lane)
		return;
	forked = eloq_client_is_forked(lane->channel->client);
	eloq_list_for_each_safe (node, &lane->unanswered) {
		struct client_request *request = eloq_list_entry(node, struct client_request, link);

		eloq_list_remove(node);
		eloq_request_free(request);
	}
	eloq_bulk_forget_all(lane);
	if (!forked && lane->req_base)
		eloq_ring_segment_unmap(lane->req_base, lane->end.req_ring_bytes);
	if (!forked && lane->ans_base)
		eloq_ring_segment_unmap(lane->ans_base, lane->end.ans_ring_bytes);
	eloq_fd_close(lane->end.doorbell);
	free(lane);
}

/* The longest value that one answer can have in the ring. */
static uint32_t lane_inline_bytes_max(uint32_t ans_ring_bytes)
{
	const struct eloq_request most = { .flags = ELOQ_REQ_INLINE_LIMIT,
					   .words[ELOQ_WORD_INLINE_LIMIT] = UINT32_MAX };

	return eloq_lane_inline_limit(&most, ans_ring_bytes);
}

/* Fills in @lane from the daemon's answer: request segment, answer segment, doorbell. */
static int lane_take_reply(struct client_lane *lane, struct eloq_client *client)
{
	const struct eloq_msg_lane *reply = &client->reply.lane;
	const uint32_t req_bytes = reply->req_ring_bytes, ans_bytes = reply->ans_ring_bytes;
	int *fds = client->reply_fds;
	int r;

	if (!lane_ring_bytes_are_sane(req_bytes) || !lane_ring_bytes_are_sane(ans_bytes))
		return -ELOQ_EPROTOCOL;
	lane->end.req_ring_bytes = req_bytes;
	lane->end.ans_ring_bytes = ans_bytes;
	r = lane_map_segment(fds[0], req_bytes, true, ELOQ_REQUEST_SEGMENT_MAGIC, &lane->req_base);
	if (r == 0)
		r = lane_map_segment(fds[1], ans_bytes, false, ELOQ_ANSWER_SEGMENT_MAGIC,
				     &lane->ans_base);
	if (r < 0)
		return r;
	eloq_lane_client_init(&lane->end, lane->req_base, req_bytes, lane->ans_base, ans_bytes,
			      client->worker_pages[lane->shard], eloq_fd_take(&fds[2]));
	lane->inline_bytes_max = lane_inline_bytes_max(ans_bytes);
	return 0;
}

static struct client_lane *lane_new(struct eloq_channel *channel, uint32_t shard)
{
	struct client_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return NULL;
	lane->channel = channel;
	lane->shard = shard;
	lane->end.doorbell = -1;
	lane->next_id = 1;
	eloq_list_init(&lane->unanswered);
	lane->waiting = &lane->unanswered;
	eloq_list_init(&lane->active);
	eloq_list_init(&lane->bulks[ELOQ_BULK_UP]);
	eloq_list_init(&lane->bulks[ELOQ_BULK_DOWN]);
	return lane;
}

static int lane_open(struct eloq_channel *channel, uint32_t shard, struct client_lane **ret_lane)
{
	struct eloq_client *client = channel->client;
	struct eloq_msg_lane_open message = { .channel = channel->number, .shard = shard };
	struct client_lane *lane = lane_new(channel, shard);
	int r;

	if (!lane)
		return -ENOMEM;
	r = eloq_client_ask(client, &message, ELOQ_CONTROL_LANE_OPEN, sizeof(message), NULL);
	if (r == 0)
		r = eloq_client_expect(client, ELOQ_CONTROL_LANE, 3, NULL);
	if (r == 0)
		r = lane_take_reply(lane, client);
	eloq_client_end(client);
	if (r < 0) {
		lane_close(lane);
		return r;
	}
	*ret_lane = lane;
	return 0;
}

int eloq_channel_lane(struct eloq_channel *channel, uint32_t shard, struct client_lane **ret_lane)
{
	struct client_lane *lane = channel->lanes[shard];
	int r;

	if (eloq_unlikely(!lane)) {
		r = lane_open(channel, shard, &lane);
		if (r < 0)
			return r;
		channel->lanes[shard] = lane;
	}
	if (eloq_unlikely(lane->broken))
		return lane->broken;
	*ret_lane = lane;
	return 0;
}

/* --- Channels ----------------------------------------------------------------------------------
 */

int eloq_channel_open(struct eloq_client *client, struct eloq_channel **ret_channel)
{
	struct eloq_msg_channel_open message = { 0 };
	struct eloq_channel *channel = calloc(1, sizeof(*channel));
	int r;

	if (!channel)
		return -ENOMEM;
	channel->client = client;
	eloq_list_init(&channel->link);
	eloq_list_init(&channel->active);
	eloq_list_init(&channel->completed);
	eloq_list_init(&channel->lent);
	eloq_list_init(&channel->idle);
	channel->next_deadline_ns = UINT64_MAX;
	r = eloq_client_ask(client, &message, ELOQ_CONTROL_CHANNEL_OPEN, sizeof(message), NULL);
	if (r == 0)
		r = eloq_client_expect(client, ELOQ_CONTROL_CHANNEL, 0, NULL);
	if (r == 0) {
		channel->number = client->reply.channel.channel;
		eloq_list_push_back(&client->channels, &channel->link);
	}
	eloq_client_end(client);
	if (r < 0) {
		free(channel);
		return r;
	}
	*ret_channel = channel;
	return 0;
}

static void channel_free_requests(struct eloq_list *list)
{
	struct eloq_list *node;

	while ((node = eloq_list_pop_front(list)) != NULL)
		eloq_request_free(eloq_list_entry(node, struct client_request, link));
}

/* The daemon takes its side back; if it is gone already there is nobody to tell. */
static void channel_say_goodbye(struct eloq_channel *channel)
{
	struct eloq_msg_channel_close message = { .channel = channel->number };
	struct eloq_client *client = channel->client;

	if (eloq_client_check(client) < 0) {
		eloq_list_remove(&channel->link);
		return;
	}
	(void)eloq_client_ask(client, &message, ELOQ_CONTROL_CHANNEL_CLOSE, sizeof(message), NULL);
	eloq_list_remove(&channel->link);
	eloq_client_end(client);
}

void eloq_channel_close(struct eloq_channel *channel)
{
	struct eloq_client *client;

	if (!channel)
		return;
	client = channel->client;
	if (client->has_thread_channel &&
	    pthread_getspecific(client->thread_channel) == (void *)channel)
		(void)pthread_setspecific(client->thread_channel, NULL);
	channel_say_goodbye(channel);
	for (unsigned i = 0; i < ELOQ_SHARDS_MAX; i++)
		lane_close(channel->lanes[i]);
	channel_free_requests(&channel->completed);
	channel_free_requests(&channel->lent);
	channel_free_requests(&channel->idle);
	free(channel);
}

struct eloq_channel *eloq_channel(struct eloq_client *client)
{
	struct eloq_channel *channel;

	if (!client->has_thread_channel)
		return NULL;
	channel = pthread_getspecific(client->thread_channel);
	if (eloq_likely(channel != NULL))
		return channel;
	if (eloq_channel_open(client, &channel) < 0)
		return NULL;
	if (pthread_setspecific(client->thread_channel, channel) != 0) {
		eloq_channel_close(channel);
		return NULL;
	}
	return channel;
}

const char *eloq_channel_words(const struct eloq_channel *channel)
{
	return channel ? channel->words : "";
}
