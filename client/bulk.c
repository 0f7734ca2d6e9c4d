/*
 * bulk.c - memory for payloads too long for a ring, opened when first needed and used again.
 *
 * Idea: bulk memory belongs to one request from the moment it is filled until the answer is taken,
 * so it doubles as the request's own copy, also over a resync. Sizes are powers of two, so that
 * values of similar length share it.
 *
 * Kept for reuse: two of each direction. More of them, and large ones, are kept only while they are
 * in demand: a large one is closed after use unless another was used within the last second, and
 * what has been idle for a second is closed by the lane's next request.
 *
 * Always:   in_use from acquire to release; only idle memory is given away or closed.
 * Runs on:  the channel's thread; opening and closing ask the daemon.
 * Fails by: -EAGAIN (all in use: collect answers first), the daemon's errors.
 */
#include "client/internal.h"

#include "shm/segment.h"

#include <stdlib.h>
#include <sys/mman.h>

static bool bulk_is_large(const struct client_bulk *bulk)
{
	return bulk->bytes > CLIENT_BULK_BYTES_LARGE;
}

/* Idle memory beyond what is kept for good. */
static bool bulk_is_surplus(const struct client_bulk *bulk)
{
	return bulk_is_large(bulk) ||
	       bulk->lane->bulk_idle_count[bulk->direction] > CLIENT_BULKS_IDLE_MAX;
}

static bool bulk_was_used_lately(uint64_t used_ns, uint64_t now_ns)
{
	return used_ns && now_ns - used_ns <= CLIENT_BULK_SURPLUS_IDLE_NS;
}

static void bulk_free(struct client_bulk *bulk)
{
	struct client_lane *lane = bulk->lane;

	eloq_list_remove(&bulk->link);
	lane->bulk_count[bulk->direction]--;
	if (!bulk->in_use)
		lane->bulk_idle_count[bulk->direction]--;
	/* In a forked child this range may be something else by now. */
	if (!eloq_client_is_forked(lane->channel->client))
		eloq_segment_unmap(bulk->base, bulk->bytes);
	free(bulk);
}

/* Failing to tell the daemon costs its memory until the channel ends; nobody else is hurt. */
static void bulk_close(struct client_bulk *bulk)
{
	struct client_lane *lane = bulk->lane;
	struct eloq_msg_bulk_close message = { .channel = lane->channel->number,
					       .shard = lane->shard,
					       .bulk = bulk->number };

	(void)eloq_client_ask(lane->channel->client, &message, ELOQ_CONTROL_BULK_CLOSE,
			      sizeof(message), NULL);
	eloq_client_end(lane->channel->client);
	bulk_free(bulk);
}

static int bulk_take_reply(struct client_bulk *bulk, struct eloq_client *client, uint64_t bytes)
{
	const struct eloq_msg_bulk *reply = &client->reply.bulk;
	void *base;
	int r;

	if (reply->bytes < bytes || reply->bytes % ELOQ_BULK_BYTES_ALIGN)
		return -ELOQ_EPROTOCOL;
	r = eloq_segment_map(client->reply_fds[0], reply->bytes, bulk->direction == ELOQ_BULK_UP,
			     &base);
	if (r < 0)
		return r;
	(void)madvise(base, reply->bytes, MADV_DONTFORK);
	bulk->number = reply->bulk;
	bulk->bytes = reply->bytes;
	bulk->base = base;
	return 0;
}

static int bulk_open(struct client_lane *lane, enum eloq_bulk_direction direction, uint64_t bytes,
		     struct client_bulk **ret_bulk)
{
	struct eloq_client *client = lane->channel->client;
	struct eloq_msg_bulk_open message = { .channel = lane->channel->number,
					      .shard = lane->shard,
					      .direction = direction,
					      .bytes = bytes };
	struct client_bulk *bulk = calloc(1, sizeof(*bulk));
	int r;

	if (!bulk)
		return -ENOMEM;
	bulk->lane = lane;
	bulk->direction = direction;
	bulk->in_use = true;
	bulk->needed = true;
	r = eloq_client_ask(client, &message, ELOQ_CONTROL_BULK_OPEN, sizeof(message), NULL);
	if (r == 0)
		r = eloq_client_expect(client, ELOQ_CONTROL_BULK, 1, NULL);
	if (r == 0)
		r = bulk_take_reply(bulk, client, bytes);
	eloq_client_end(client);
	if (r < 0) {
		free(bulk);
		return r;
	}
	eloq_list_push_back(&lane->bulks[direction], &bulk->link);
	lane->bulk_count[direction]++;
	*ret_bulk = bulk;
	return 0;
}

/* --- Choosing ----------------------------------------------------------------------------------
 */

/* Of the idle ones with at least @bytes the smallest, or (@largest) the largest. */
static struct client_bulk *bulk_find_idle(struct client_lane *lane,
					  enum eloq_bulk_direction direction, uint64_t bytes,
					  bool largest)
{
	struct client_bulk *best = NULL;

	eloq_list_for_each (node, &lane->bulks[direction]) {
		struct client_bulk *bulk = eloq_list_entry(node, struct client_bulk, link);

		if (bulk->in_use || bulk->bytes < bytes)
			continue;
		if (!best || (bulk->bytes > best->bytes) == largest)
			best = bulk;
	}
	return best;
}

static struct client_bulk *bulk_use(struct client_bulk *bulk, bool needed)
{
	bulk->lane->bulk_idle_count[bulk->direction]--;
	bulk->in_use = true;
	bulk->needed = needed;
	return bulk;
}

static uint64_t bulk_rounded_bytes(uint64_t bytes)
{
	uint64_t rounded = CLIENT_BULK_BYTES_MIN;

	while (rounded < bytes)
		rounded *= 2;
	return rounded;
}

struct client_bulk *eloq_bulk_acquire_open(struct client_lane *lane,
					   enum eloq_bulk_direction direction)
{
	struct client_bulk *bulk = bulk_find_idle(lane, direction, 0, true);

	return bulk ? bulk_use(bulk, false) : NULL;
}

/* False: there was nothing to close. */
static bool bulk_close_idle(struct client_lane *lane)
{
	unsigned before = lane->bulk_count[ELOQ_BULK_UP] + lane->bulk_count[ELOQ_BULK_DOWN];

	for (unsigned direction = 0; direction < ELOQ_ARRAY_SIZE(lane->bulks); direction++) {
		eloq_list_for_each_safe (node, &lane->bulks[direction]) {
			struct client_bulk *bulk = eloq_list_entry(node, struct client_bulk, link);

			if (!bulk->in_use)
				bulk_close(bulk);
		}
	}
	return lane->bulk_count[ELOQ_BULK_UP] + lane->bulk_count[ELOQ_BULK_DOWN] < before;
}

int eloq_bulk_acquire(struct client_lane *lane, enum eloq_bulk_direction direction, uint64_t bytes,
		      struct client_bulk **ret_bulk)
{
	struct client_bulk *bulk = bulk_find_idle(lane, direction, bytes, false);
	int r;

	if (bulk) {
		*ret_bulk = bulk_use(bulk, true);
		return 0;
	}
	if (lane->bulk_count[direction] == CLIENT_BULKS_MAX) {
		bulk = bulk_find_idle(lane, direction, 0, false);
		if (!bulk)
			return -EAGAIN;
		bulk_close(bulk); /* too short for us: make room for one that is not */
	}
	bytes = bulk_rounded_bytes(bytes);
	r = bulk_open(lane, direction, bytes, ret_bulk);
	/* The daemon has no more to give: what we keep for later is better used now. */
	if (r == -ELOQ_ETOOMANY && bulk_close_idle(lane))
		r = bulk_open(lane, direction, bytes, ret_bulk);
	return r;
}

/* --- Giving back -------------------------------------------------------------------------------
 */

void eloq_bulk_release(struct client_bulk *bulk)
{
	struct client_lane *lane;
	uint64_t now_ns, large_used_ns;

	if (!bulk)
		return;
	lane = bulk->lane;
	bulk->in_use = false;
	lane->bulk_idle_count[bulk->direction]++;
	if (!bulk->needed) /* it was only lent to a guess */
		return;
	now_ns = eloq_client_now_ns();
	bulk->used_ns = now_ns;
	if (!bulk_is_large(bulk))
		return;
	large_used_ns = lane->bulk_large_used_ns;
	lane->bulk_large_used_ns = now_ns;
	if (!bulk_was_used_lately(large_used_ns, now_ns))
		bulk_close(bulk);
}

static void bulk_trim_direction(struct client_lane *lane, enum eloq_bulk_direction direction,
				uint64_t now_ns)
{
	eloq_list_for_each_safe (node, &lane->bulks[direction]) {
		struct client_bulk *bulk = eloq_list_entry(node, struct client_bulk, link);

		if (!bulk->in_use && bulk_is_surplus(bulk) &&
		    !bulk_was_used_lately(bulk->used_ns, now_ns))
			bulk_close(bulk);
	}
}

static bool bulk_may_have_surplus(const struct client_lane *lane)
{
	return lane->bulk_large_used_ns ||
	       lane->bulk_idle_count[ELOQ_BULK_UP] > CLIENT_BULKS_IDLE_MAX ||
	       lane->bulk_idle_count[ELOQ_BULK_DOWN] > CLIENT_BULKS_IDLE_MAX;
}

void eloq_bulk_trim(struct client_lane *lane)
{
	uint64_t now_ns;

	if (eloq_likely(!bulk_may_have_surplus(lane)))
		return;
	now_ns = eloq_client_now_ns();
	bulk_trim_direction(lane, ELOQ_BULK_UP, now_ns);
	bulk_trim_direction(lane, ELOQ_BULK_DOWN, now_ns);
	/* All large ones that are idle went by now. */
	if (!bulk_was_used_lately(lane->bulk_large_used_ns, now_ns))
		lane->bulk_large_used_ns = 0;
}

void eloq_bulk_forget_all(struct client_lane *lane)
{
	for (unsigned direction = 0; direction < ELOQ_ARRAY_SIZE(lane->bulks); direction++) {
		eloq_list_for_each_safe (node, &lane->bulks[direction])
			bulk_free(eloq_list_entry(node, struct client_bulk, link));
	}
}
