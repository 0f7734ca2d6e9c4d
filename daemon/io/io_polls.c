/*
 * io_polls.c - the table of watched descriptors that uring and pool share.
 *
 * Idea: events name a slot and the generation it had when the descriptor was armed. Stopping a poll
 * empties the slot, freeing the slot changes its generation: an event that is still under way (in a
 * completion queue, in an array of epoll events) reaches neither freed memory nor the next owner.
 *
 * Always:   slots[i].poll is set exactly while slot i is taken and not forgotten.
 * Runs on:  the shard's thread.
 * Fails by: answering NULL when ELOQ_IO_POLLS_MAX are taken. The table has its full size from the
 *           start; the kernel provides its pages when they are first used.
 */
#include "daemon/io/backend.h"

#include <errno.h>
#include <stdlib.h>

/* A token has 46 bits, so that uring can put its own mark beside it. */
enum { POLLS_INDEX_BITS = 16, POLLS_GENERATION_BITS = 30 };

static_assert(ELOQ_IO_POLLS_MAX <= 1 << POLLS_INDEX_BITS, "a token holds any slot number");

int eloq_io_polls_init(struct eloq_io_polls *polls)
{
	polls->slots = calloc(ELOQ_IO_POLLS_MAX, sizeof(*polls->slots));
	if (!polls->slots)
		return -ENOMEM;
	polls->unused = 0;
	eloq_list_init(&polls->free);
	return 0;
}

void eloq_io_polls_fini(struct eloq_io_polls *polls)
{
	free(polls->slots);
	polls->slots = NULL;
}

struct eloq_io_poll_slot *eloq_io_polls_take(struct eloq_io_polls *polls, struct eloq_io_poll *poll)
{
	struct eloq_list *node = eloq_list_pop_front(&polls->free);
	struct eloq_io_poll_slot *slot;

	if (node) {
		slot = eloq_list_entry(node, struct eloq_io_poll_slot, link);
	} else {
		if (polls->unused == ELOQ_IO_POLLS_MAX)
			return NULL;
		slot = &polls->slots[polls->unused++];
		eloq_list_init(&slot->link);
	}
	slot->poll = poll;
	slot->fd = poll->fd;
	poll->backend[0] = (uintptr_t)slot;
	return slot;
}

void eloq_io_polls_forget(struct eloq_io_poll_slot *slot)
{
	eloq_assert(slot->poll);
	slot->poll->backend[0] = 0;
	slot->poll = NULL;
}

void eloq_io_polls_free(struct eloq_io_polls *polls, struct eloq_io_poll_slot *slot)
{
	eloq_assert(!slot->poll);
	slot->generation = (slot->generation + 1) & ((1u << POLLS_GENERATION_BITS) - 1);
	/* At the end: a slot's generations then last as long as they can. */
	eloq_list_remove(&slot->link);
	eloq_list_push_back(&polls->free, &slot->link);
}

uint64_t eloq_io_polls_token(const struct eloq_io_polls *polls,
			     const struct eloq_io_poll_slot *slot)
{
	return (uint64_t)slot->generation << POLLS_INDEX_BITS | (uint64_t)(slot - polls->slots);
}

struct eloq_io_poll_slot *eloq_io_polls_find(const struct eloq_io_polls *polls, uint64_t token)
{
	uint64_t index = token & ((1u << POLLS_INDEX_BITS) - 1);
	struct eloq_io_poll_slot *slot;

	if (index >= polls->unused)
		return NULL;
	slot = &polls->slots[index];
	if (!slot->poll || slot->generation != token >> POLLS_INDEX_BITS)
		return NULL;
	return slot;
}
