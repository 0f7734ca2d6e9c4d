/*
 * io_pool_test.c - the pool of I/O threads under ThreadSanitizer: requests, buffers and files
 * change hands all the time, doorbells ring from other threads, the owner sleeps and wakes.
 *
 * TSan finds the races; the checks here find what they, or a lost wake-up, would do to the data.
 */
#include "common/prng.h"
#include "daemon/io/io.h"
#include "tests/unit/io_world.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SLOTS = 16, OPS = 4000, RINGS = 2000 };

/* Each slot goes round: open its own file, write, read back, close, unlink. */
struct slot {
	struct eloq_io_req req;
	struct race *race;
	struct eloq_io_file *file;
	char name[16];
	uint8_t *buf;
	uint8_t fill;
};

struct race {
	struct world w;
	struct eloq_prng prng;
	struct slot slots[SLOTS];
	unsigned left, in_flight;
	unsigned rung;
};

static void next_step(struct slot *slot, enum eloq_io_op op);

static void step_done(struct eloq_io_req *req)
{
	struct slot *slot = req->arg;
	struct race *race = slot->race;

	race->in_flight--;
	ck_assert_int_ge(req->result, 0);
	switch (req->op) {
	case ELOQ_IO_OPEN:
		slot->file = req->ret_file;
		slot->fill = (uint8_t)eloq_prng_next(&race->prng);
		memset(slot->buf, slot->fill, PAGE);
		next_step(slot, ELOQ_IO_WRITE);
		return;
	case ELOQ_IO_WRITE:
		memset(slot->buf, ~slot->fill, PAGE);
		next_step(slot, ELOQ_IO_READ);
		return;
	case ELOQ_IO_READ:
		for (unsigned i = 0; i < PAGE; i++)
			ck_assert_uint_eq(slot->buf[i], slot->fill);
		next_step(slot, ELOQ_IO_CLOSE);
		return;
	case ELOQ_IO_CLOSE:
		next_step(slot, ELOQ_IO_UNLINK);
		return;
	default:
		if (race->left > 0)
			next_step(slot, ELOQ_IO_OPEN);
	}
}

static void next_step(struct slot *slot, enum eloq_io_op op)
{
	struct race *race = slot->race;
	bool named = op == ELOQ_IO_OPEN || op == ELOQ_IO_UNLINK;

	slot->req = (struct eloq_io_req){
		.op = op,
		.flags = ELOQ_IO_CREATE,
		.file = named ? race->w.dir : slot->file,
		.path = slot->name,
		.buf = slot->buf,
		.bytes = PAGE,
		.done = step_done,
		.arg = slot,
	};
	if (race->left > 0)
		race->left--;
	race->in_flight++;
	eloq_io_submit(race->w.io, &slot->req);
}

static void race_ready(struct eloq_io_poll *poll)
{
	struct race *race = poll->arg;

	race->rung++;
}

static void *ring_often(void *arg)
{
	const uint64_t one = 1;

	for (unsigned i = 0; i < RINGS; i++)
		ck_assert_int_eq(write(*(int *)arg, &one, sizeof(one)), sizeof(one));
	return NULL;
}

TEST(pool_threads_and_their_owner_share_nothing_but_what_changes_hands)
{
	static const struct kind kind = { "pool", 8 };
	static struct race race;
	struct eloq_io_poll poll = { .fd = eventfd(0, EFD_CLOEXEC) };
	pthread_t ringer;

	race.w = world_begin(&kind, SLOTS / 2);
	race.left = OPS;
	eloq_prng_seed(&race.prng, test_seed());
	poll.ready = race_ready;
	poll.arg = &race;
	ck_assert_int_eq(eloq_io_poll_start(race.w.io, &poll), 0);
	ck_assert_int_eq(pthread_create(&ringer, NULL, ring_often, &poll.fd), 0);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *slot = &race.slots[i];

		slot->race = &race;
		slot->buf = aligned(PAGE);
		(void)snprintf(slot->name, sizeof(slot->name), "f%u", i);
		next_step(slot, ELOQ_IO_OPEN);
	}
	while (race.in_flight > 0) {
		bool wait = eloq_prng_below(&race.prng, 4) > 0;

		ck_assert_int_ge(eloq_io_turn(race.w.io, wait ? FOR_EVER : 0, TURN_MAX), 0);
	}
	ck_assert_int_eq(pthread_join(ringer, NULL), 0);
	while (race.rung == 0)
		ck_assert_int_ge(eloq_io_turn(race.w.io, FOR_EVER, TURN_MAX), 0);
	eloq_io_poll_stop(race.w.io, &poll);
	(void)close(poll.fd);
	for (unsigned i = 0; i < SLOTS; i++)
		free(race.slots[i].buf);
	world_end(&race.w);
}

/* One request at a time with a wait for ever: each of them ends a sleep, none may be slept through.
 */
TEST(pool_owner_is_woken_for_every_request_it_sleeps_on)
{
	static const struct kind kind = { "pool", 2 };
	struct world w = world_begin(&kind, 2);

	for (unsigned i = 0; i < 5000; i++)
		ck_assert_int_gt(call_on(&w, ELOQ_IO_SIZE, w.dir), 0);
	world_end(&w);
}

/* Threads that never got work, and threads that are just going to sleep, are joined alike. */
TEST(pool_opens_and_closes_again_and_again)
{
	static const struct kind kind = { "pool", 4 };

	for (unsigned i = 0; i < 100; i++) {
		struct world w = world_begin(&kind, 4);

		if (i % 2)
			ck_assert_int_gt(call_on(&w, ELOQ_IO_SIZE, w.dir), 0);
		world_end(&w);
	}
}
