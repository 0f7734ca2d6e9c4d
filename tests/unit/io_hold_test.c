/*
 * io_hold_test.c - one owner: a lock given to eloq_io_hold() outlives its process until the last
 * write has ended. Here writers are really killed.
 */
#include "daemon/io/io.h"

#include "tests/unit/io_world.h"

#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILL_PAGES = 64, KILL_BYTES = KILL_PAGES * PAGE };

/* Writes rounds of ever new bytes until it is killed, with a lock held by eloq_io_hold(). */
static void write_until_killed(const struct kind *kind, const char *path, int report_fd)
{
	struct eloq_io_req reqs[KILL_PAGES];
	struct world w = { .kind = kind, .io = open_io(kind, KILL_PAGES) };
	char *buf = aligned(PAGE);
	struct eloq_io_file *file;
	int lock_fd;

	ck_assert_int_eq(chdir(path), 0);
	ck_assert_int_eq(eloq_io_adopt_fd(w.io, open(".", O_RDONLY | O_DIRECTORY), &w.dir), 0);
	lock_fd = open("lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(flock(lock_fd, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(eloq_io_hold(w.io, lock_fd), 0);
	file = open_file(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	for (unsigned round = 0;; round++) {
		unsigned done = 0;

		memset(buf, (int)round, PAGE);
		for (unsigned i = 0; i < KILL_PAGES; i++) {
			reqs[i] = (struct eloq_io_req){
				.op = ELOQ_IO_WRITE,
				.file = file,
				.buf = buf,
				.bytes = PAGE,
				.offset = i * PAGE,
				.done = count_done,
				.arg = &done,
			};
			eloq_io_submit(w.io, &reqs[i]);
		}
		while (done < KILL_PAGES)
			ck_assert_int_ge(eloq_io_turn(w.io, FOR_EVER, TURN_MAX), 0);
		if (round == 3)
			ck_assert_int_eq(write(report_fd, "r", 1), 1);
	}
}

static void read_all(const char *path, char *buf)
{
	char name[512];
	int fd;

	(void)snprintf(name, sizeof(name), "%s/f", path);
	fd = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, buf, KILL_BYTES, 0), KILL_BYTES);
	(void)close(fd);
}

/* Once the lock of a killed writer can be had, nothing of it reaches the file any more. */
static void check_kill(const struct kind *kind)
{
	const char *path = test_tmpdir();
	char *first = aligned(KILL_BYTES), *second = aligned(KILL_BYTES);
	char name[512], byte;
	int report[2], status, lock_fd;
	pid_t pid;

	eloq_io_close(open_io(kind, 1)); /* skips where it has to */
	(void)snprintf(name, sizeof(name), "%s/lock", path);
	ck_assert_int_eq(pipe(report), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_until_killed(kind, path, report[1]);
	}
	(void)close(report[1]);
	ck_assert_int_eq(read(report[0], &byte, 1), 1);
	lock_fd = open(name, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(lock_fd, 0);
	ck_assert_int_lt(flock(lock_fd, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(flock(lock_fd, LOCK_EX), 0); /* bounded by the test's time limit */
	read_all(path, first);
	(void)usleep(150000);
	read_all(path, second);
	ck_assert(!memcmp(first, second, KILL_BYTES));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)close(lock_fd);
	(void)close(report[0]);
	free(first);
	free(second);
}

TEST(uring_killed_with_io_in_flight_gives_its_lock_back_after_the_last_write)
{
	check_kill(&uring);
}

TEST(pool_of_4_killed_with_io_in_flight_gives_its_lock_back_after_the_last_write)
{
	check_kill(&pool4);
}

TEST(pool_of_0_killed_with_io_in_flight_gives_its_lock_back_after_the_last_write)
{
	check_kill(&pool0);
}

/* The ring's own reference is what lets a lock outlive its process. */
TEST(uring_holds_a_lock_after_its_descriptor_was_closed_and_until_the_ring_is)
{
	struct world w = world_begin(&uring, DEPTH);
	int fd = open(w.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int other = open(w.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(eloq_io_hold(w.io, fd), 0);
	(void)close(fd);
	settle(&w);
	ck_assert_int_lt(flock(other, LOCK_EX | LOCK_NB), 0);
	world_end(&w);
	ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), 0);
	(void)close(other);
}
