/*
 * io_poll_test.c - the promises of daemon/io/io.h about waiting and watched descriptors.
 *
 * A bell is an eventfd that nobody reads, as the doorbell of a lane is.
 */
#include "daemon/io/io.h"

#include "tests/unit/io_world.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

struct bell {
	struct eloq_io_poll poll;
	unsigned rung;
	struct eloq_io *io;
	struct bell *stops;  /* its ready() stops this one, once */
	struct bell *starts; /* ... and starts this one, on the descriptor that is in it */
};

static void bell_start(struct bell *bell, struct eloq_io *io, int fd);

static void bell_ready(struct eloq_io_poll *poll)
{
	struct bell *bell = poll->arg;

	bell->rung++;
	if (bell->stops) {
		eloq_io_poll_stop(bell->io, &bell->stops->poll);
		bell->stops = NULL;
	}
	if (bell->starts) {
		bell_start(bell->starts, bell->io, bell->starts->poll.fd);
		bell->starts = NULL;
	}
}

static void bell_start(struct bell *bell, struct eloq_io *io, int fd)
{
	ck_assert_int_ge(fd, 0);
	*bell = (struct bell){ .io = io };
	bell->poll = (struct eloq_io_poll){ .fd = fd, .ready = bell_ready, .arg = bell };
	ck_assert_int_eq(eloq_io_poll_start(io, &bell->poll), 0);
}

static int new_bell_fd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void ring(int fd)
{
	const uint64_t one = 1;

	ck_assert_int_eq(write(fd, &one, sizeof(one)), sizeof(one));
}

TEST_EACH(rings_once_for_each_edge_though_nobody_reads)
{
	struct bell bell;

	bell_start(&bell, w->io, new_bell_fd());
	settle(w);
	ck_assert_uint_eq(bell.rung, 0);
	for (unsigned edge = 1; edge <= 5; edge++) {
		ring(bell.poll.fd);
		settle(w);
		ck_assert_uint_eq(bell.rung, edge);
	}
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
}

/* A turn that does not wait has to notice as well, if not at once. */
TEST_EACH(rings_in_turns_that_do_not_wait)
{
	struct bell bell;

	bell_start(&bell, w->io, new_bell_fd());
	settle(w);
	ring(bell.poll.fd);
	while (bell.rung == 0)
		ck_assert_int_ge(eloq_io_turn(w->io, 0, TURN_MAX), 0);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
}

/* A client may fill the eventfd and never read: no further edge, no further wake-up. */
TEST_EACH(sleeps_beside_a_filled_doorbell)
{
	const uint64_t full = UINT64_MAX - 1;
	struct bell bell;
	uint64_t begin_ns;

	bell_start(&bell, w->io, new_bell_fd());
	ck_assert_int_eq(write(bell.poll.fd, &full, sizeof(full)), sizeof(full));
	settle(w);
	ck_assert_uint_eq(bell.rung, 1);
	begin_ns = now_ns();
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(eloq_io_turn(w->io, 5 * MS, TURN_MAX), 0);
	ck_assert_uint_ge(now_ns() - begin_ns, 50 * MS);
	ck_assert_uint_eq(bell.rung, 1);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
}

TEST_EACH(never_calls_a_stopped_poll)
{
	struct bell bells[4];
	int fds[4];

	for (unsigned i = 0; i < 4; i++)
		bell_start(&bells[i], w->io, fds[i] = new_bell_fd());
	eloq_io_poll_stop(w->io, &bells[0].poll); /* before any turn */
	settle(w);
	for (unsigned i = 0; i < 4; i++)
		ring(fds[i]);
	eloq_io_poll_stop(w->io, &bells[1].poll); /* with the edge already there */
	bells[2].stops = &bells[3];		  /* from the ready() of another one */
	bells[3].stops = &bells[2];
	settle(w);
	ck_assert_uint_eq(bells[0].rung, 0);
	ck_assert_uint_eq(bells[1].rung, 0);
	ck_assert_uint_eq(bells[2].rung + bells[3].rung, 1);
	for (unsigned i = 0; i < 4; i++)
		ring(fds[i]);
	settle(w);
	ck_assert_uint_eq(bells[0].rung + bells[1].rung, 0);
	ck_assert_uint_eq(bells[2].rung + bells[3].rung, 2);
	eloq_io_poll_stop(w->io, bells[2].stops ? &bells[3].poll : &bells[2].poll);
	for (unsigned i = 0; i < 4; i++)
		(void)close(fds[i]);
}

/*
 * While the event of a stopped poll is still under way, another poll is started, which may get what
 * the stopped one had of the back-end. It must not be taken for it.
 */
TEST_EACH(keeps_a_stopped_poll_and_its_successor_apart)
{
	struct bell first, old, next;

	for (unsigned i = 0; i < 40; i++) {
		bell_start(&first, w->io, new_bell_fd());
		bell_start(&old, w->io, new_bell_fd());
		settle(w);
		next.poll.fd = new_bell_fd();
		next.rung = 0;
		first.starts = &next;
		ring(first.poll.fd);
		ring(old.poll.fd);
		if (i % 2)
			eloq_io_poll_stop(w->io, &old.poll);
		else
			first.stops = &old;
		while (first.rung == 0)
			ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
		settle(w);
		ck_assert_uint_eq(old.rung, 0);
		ck_assert_uint_eq(next.rung, 0);
		ring(next.poll.fd);
		settle(w);
		ck_assert_uint_eq(next.rung, 1);
		eloq_io_poll_stop(w->io, &first.poll);
		eloq_io_poll_stop(w->io, &next.poll);
		(void)close(first.poll.fd);
		(void)close(old.poll.fd);
		(void)close(next.poll.fd);
	}
}

TEST_EACH(lets_go_of_the_descriptor_of_a_stopped_poll)
{
	struct bell bell;
	char byte;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	bell_start(&bell, w->io, fds[0]);
	settle(w);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(fds[0]);
	settle(w);
	ck_assert_int_eq(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0); /* the end, as it was the last */
	(void)close(fds[1]);
}

/*
 * The kernel ends a multishot poll when the wake comes from another io_uring (it fears loops), and
 * a client can do that to its doorbell. The poll has to be armed again, and must not spin.
 */
TEST_EACH(goes_on_watching_when_the_kernel_has_ended_the_poll)
{
	struct bell bell;
	struct io_uring other;

	if (io_uring_queue_init(8, &other, 0) < 0)
		TEST_SKIP("io_uring is refused here, so there is no other ring to ring from");
	bell_start(&bell, w->io, new_bell_fd());
	settle(w);
	ck_assert_int_eq(io_uring_register_eventfd(&other, bell.poll.fd), 0);
	for (unsigned i = 0; i < 5; i++) {
		struct io_uring_cqe *cqe;
		unsigned before = bell.rung;

		io_uring_prep_nop(io_uring_get_sqe(&other));
		ck_assert_int_eq(io_uring_submit(&other), 1);
		ck_assert_int_eq(io_uring_wait_cqe(&other, &cqe), 0);
		io_uring_cqe_seen(&other, cqe);
		while (bell.rung == before)
			ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
		settle(w);
		before = bell.rung;
		settle(w);
		ck_assert_uint_eq(bell.rung, before);
		ring(bell.poll.fd);
		settle(w);
		ck_assert_uint_eq(bell.rung, before + 1);
	}
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
	io_uring_queue_exit(&other);
}

/*
 * More doorbells ring at once than a small ring has completion entries, or epoll is asked for; not
 * one edge may be lost.
 */
TEST_EACH_DEPTH(loses_no_edge_in_a_storm_of_doorbells, 1)
{
	enum { BELLS = 500, STORMS = 5 };
	static struct bell bells[BELLS];

	for (unsigned i = 0; i < BELLS; i++)
		bell_start(&bells[i], w->io, new_bell_fd());
	settle(w);
	for (unsigned storm = 0; storm < STORMS; storm++) {
		unsigned before[BELLS];

		for (unsigned i = 0; i < BELLS; i++) {
			before[i] = bells[i].rung;
			ring(bells[i].poll.fd);
		}
		for (unsigned i = 0; i < BELLS; i++)
			while (bells[i].rung == before[i])
				ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
		settle(w);
	}
	ck_assert_int_eq(eloq_io_turn(w->io, MS, TURN_MAX), 0);
	for (unsigned i = 0; i < BELLS; i++) {
		eloq_io_poll_stop(w->io, &bells[i].poll);
		(void)close(bells[i].poll.fd);
	}
}

/* A peer that is gone is told, but not over and over. */
TEST_EACH(tells_of_a_hang_up_without_spinning)
{
	struct bell bell;
	unsigned rung;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	bell_start(&bell, w->io, fds[0]);
	settle(w);
	ck_assert_uint_eq(bell.rung, 0);
	ck_assert_int_eq(send(fds[1], "x", 1, 0), 1);
	settle(w);
	ck_assert_uint_eq(bell.rung, 1);
	(void)close(fds[1]);
	settle(w);
	ck_assert_uint_ge(bell.rung, 2);
	rung = bell.rung;
	settle(w);
	ck_assert_uint_eq(bell.rung, rung);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(fds[0]);
}

TEST_EACH(waits_as_long_as_told_when_nothing_happens)
{
	uint64_t begin_ns = now_ns();

	ck_assert_int_eq(eloq_io_turn(w->io, 20 * MS, TURN_MAX), 0);
	ck_assert_uint_ge(now_ns() - begin_ns, 20 * MS);
	ck_assert_int_eq(eloq_io_turn(w->io, 0, TURN_MAX), 0);
	ck_assert(!eloq_io_has_work(w->io));
}

static void *ring_soon(void *arg)
{
	(void)usleep(20000);
	ring(*(int *)arg);
	return NULL;
}

TEST_EACH(ends_an_endless_wait_when_a_doorbell_rings)
{
	struct bell bell;
	pthread_t thread;

	bell_start(&bell, w->io, new_bell_fd());
	ck_assert_int_eq(pthread_create(&thread, NULL, ring_soon, &bell.poll.fd), 0);
	while (bell.rung == 0)
		ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int sig)
{
	(void)sig;
	alarms = alarms + 1;
}

/* Also in the turn that submits something: here the poll. */
TEST_EACH(ends_an_endless_wait_at_a_signal)
{
	const struct sigaction action = { .sa_handler = count_alarm, .sa_flags = SA_RESTART };
	const struct itimerval every_20ms = { { 0, 20000 }, { 0, 20000 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	struct bell bell;

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	bell_start(&bell, w->io, new_bell_fd());
	ck_assert_int_eq(setitimer(ITIMER_REAL, &every_20ms, NULL), 0);
	ck_assert_int_eq(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	ck_assert_int_eq(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	ck_assert_int_ge(alarms, 1);
	eloq_io_poll_stop(w->io, &bell.poll);
	(void)close(bell.poll.fd);
}
