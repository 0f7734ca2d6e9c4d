/*
 * task_test.c - the scheduler: who runs, in which order, and that a wait ends when it should.
 */
#include "daemon/runtime/task.h"

#include "common/prng.h"
#include "daemon/io/io.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { STACK_BYTES = 64 << 10, TASK_COUNT = 50 };

/* What the tasks of a test did, one letter a step. */
static char journal[4096];
static size_t journal_bytes;

static struct eloq_sched *sched_open(unsigned tasks_max)
{
	struct eloq_sched *sched = NULL;
	struct eloq_sched_opts opts = { .tasks_max = tasks_max, .stack_bytes = STACK_BYTES };

	ck_assert_int_eq(eloq_sched_open(&sched, &opts), 0);
	journal_bytes = 0;
	journal[0] = '\0';
	return sched;
}

static void note(char letter)
{
	ck_assert_uint_lt(journal_bytes, sizeof(journal) - 1);
	journal[journal_bytes++] = letter;
	journal[journal_bytes] = '\0';
}

static void note_once(void *arg)
{
	note(*(char *)arg);
}

TEST(task_runs_in_a_later_turn_and_not_at_its_start)
{
	struct eloq_sched *sched = sched_open(2);

	ck_assert_ptr_null(eloq_task_self());
	ck_assert_int_eq(eloq_task_start(sched, note_once, "a"), 0);
	ck_assert_str_eq(journal, "");
	ck_assert_uint_eq(eloq_sched_ready_count(sched), 1);
	ck_assert_uint_eq(eloq_sched_live_count(sched), 1);
	ck_assert_uint_eq(eloq_sched_run(sched, 10), 1);
	ck_assert_str_eq(journal, "a");
	ck_assert_uint_eq(eloq_sched_ready_count(sched), 0);
	ck_assert_uint_eq(eloq_sched_live_count(sched), 0);
	ck_assert_uint_eq(eloq_sched_run(sched, 10), 0);
	ck_assert_ptr_null(eloq_task_self());
	eloq_sched_close(sched);
	eloq_sched_close(NULL);
}

TEST(task_start_on_an_empty_pool_says_try_again)
{
	struct eloq_sched *sched = sched_open(3);
	struct eloq_sched_opts none = { .tasks_max = 0, .stack_bytes = STACK_BYTES };
	struct eloq_sched_opts odd = { .tasks_max = 1, .stack_bytes = 100 };
	struct eloq_sched *refused = NULL;

	for (unsigned life = 0; life < 100; life++) {
		ck_assert_int_eq(eloq_task_start(sched, note_once, "a"), 0);
		ck_assert_int_eq(eloq_task_start(sched, note_once, "b"), 0);
		ck_assert_int_eq(eloq_task_start(sched, note_once, "c"), 0);
		ck_assert_int_eq(eloq_task_start(sched, note_once, "d"), -EAGAIN);
		ck_assert_uint_eq(eloq_sched_run(sched, 3), 3);
	}
	ck_assert_uint_eq(journal_bytes, 300);
	ck_assert_ptr_null(strchr(journal, 'd'));
	eloq_sched_close(sched);
	ck_assert_int_eq(eloq_sched_open(&refused, &none), -EINVAL);
	ck_assert_int_eq(eloq_sched_open(&refused, &odd), -EINVAL);
	ck_assert_ptr_null(refused);
}

static void note_and_yield(void *arg)
{
	for (unsigned i = 0; i < 4; i++) {
		note(*(char *)arg);
		eloq_task_yield_await();
	}
}

TEST(task_that_yields_lets_every_other_run_first)
{
	struct eloq_sched *sched = sched_open(3);

	ck_assert_int_eq(eloq_task_start(sched, note_and_yield, "a"), 0);
	ck_assert_int_eq(eloq_task_start(sched, note_and_yield, "b"), 0);
	ck_assert_int_eq(eloq_task_start(sched, note_and_yield, "c"), 0);
	ck_assert_uint_eq(eloq_sched_run(sched, 100), 3); /* each once, although all are ready */
	ck_assert_str_eq(journal, "abc");
	ck_assert_uint_eq(eloq_sched_run(sched, 2), 2);
	ck_assert_uint_eq(eloq_sched_run(sched, 2), 2);
	ck_assert_str_eq(journal, "abcabca");
	while (eloq_sched_live_count(sched) > 0)
		ck_assert_uint_gt(eloq_sched_run(sched, 2), 0);
	ck_assert_str_eq(journal, "abcabcabcabc");
	eloq_sched_close(sched);
}

/* Waits many times, in frames of its own, and finds all as it was. */
struct sleeper {
	struct eloq_task *task;
	unsigned id;
	unsigned waits;
	bool waiting;
	unsigned errors;
};

static unsigned sleep_down(struct sleeper *sleeper, unsigned depth)
{
	uint8_t bytes[200];
	unsigned bad = 0;

	memset(bytes, (int)(sleeper->id + depth), sizeof(bytes));
	sleeper->waiting = true;
	sleeper->waits++;
	eloq_task_suspend_await();
	bad += sleeper->waiting;
	bad += eloq_task_self() != sleeper->task;
	if (depth > 0)
		bad += sleep_down(sleeper, depth - 1);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bad += bytes[i] != (uint8_t)(sleeper->id + depth);
	return bad;
}

static void sleep_often(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->task = eloq_task_self();
	for (unsigned i = 0; i < 5; i++)
		sleeper->errors += sleep_down(sleeper, 40);
}

TEST(tasks_woken_in_any_order_find_their_stacks_as_they_were)
{
	struct eloq_sched *sched = sched_open(TASK_COUNT);
	struct sleeper sleepers[TASK_COUNT] = { 0 };
	struct eloq_prng prng;
	unsigned woken = 0;

	eloq_prng_seed(&prng, test_seed());
	for (unsigned i = 0; i < TASK_COUNT; i++) {
		sleepers[i].id = i;
		ck_assert_int_eq(eloq_task_start(sched, sleep_often, &sleepers[i]), 0);
	}
	while (eloq_sched_live_count(sched) > 0) {
		struct sleeper *sleeper = &sleepers[eloq_prng_below(&prng, TASK_COUNT)];
		unsigned ready = eloq_sched_ready_count(sched);

		if (sleeper->waiting) {
			sleeper->waiting = false;
			eloq_task_wake(sleeper->task);
			ck_assert_uint_eq(eloq_sched_ready_count(sched), ++ready);
			woken++;
		}
		if (eloq_prng_below(&prng, 4) == 0) {
			unsigned max = (unsigned)eloq_prng_below(&prng, 8);

			ck_assert_uint_eq(eloq_sched_run(sched, max), ready < max ? ready : max);
		}
	}
	ck_assert_uint_eq(woken, TASK_COUNT * 5 * 41);
	for (unsigned i = 0; i < TASK_COUNT; i++) {
		ck_assert_uint_eq(sleepers[i].waits, 5 * 41);
		ck_assert_uint_eq(sleepers[i].errors, 0);
	}
	eloq_sched_close(sched);
}

static struct eloq_waitq waitq;

static void note_after_waitq(void *arg)
{
	eloq_waitq_await(&waitq);
	note(*(char *)arg);
}

TEST(waitq_wakes_in_the_order_of_arrival)
{
	struct eloq_sched *sched = sched_open(5);

	eloq_waitq_init(&waitq);
	ck_assert(eloq_waitq_empty(&waitq));
	eloq_waitq_wake_one(&waitq);
	eloq_waitq_wake_all(&waitq);
	for (const char *name = "abcde"; *name; name++)
		ck_assert_int_eq(eloq_task_start(sched, note_after_waitq, (void *)name), 0);
	ck_assert_uint_eq(eloq_sched_run(sched, 5), 5);
	ck_assert(!eloq_waitq_empty(&waitq));
	ck_assert_uint_eq(eloq_sched_run(sched, 5), 0);
	ck_assert_str_eq(journal, "");

	eloq_waitq_wake_one(&waitq);
	eloq_waitq_wake_one(&waitq);
	ck_assert_uint_eq(eloq_sched_run(sched, 5), 2);
	ck_assert_str_eq(journal, "ab");
	eloq_waitq_wake_all(&waitq);
	ck_assert(eloq_waitq_empty(&waitq));
	ck_assert_uint_eq(eloq_sched_run(sched, 5), 3);
	ck_assert_str_eq(journal, "abcde");
	eloq_sched_close(sched);
}

static struct eloq_task *impatient;

static void note_when_woken_directly(void *arg)
{
	impatient = eloq_task_self();
	note_after_waitq(arg);
}

TEST(task_woken_directly_leaves_its_waitq)
{
	struct eloq_sched *sched = sched_open(3);

	eloq_waitq_init(&waitq);
	ck_assert_int_eq(eloq_task_start(sched, note_after_waitq, "a"), 0);
	ck_assert_int_eq(eloq_task_start(sched, note_when_woken_directly, "b"), 0);
	ck_assert_int_eq(eloq_task_start(sched, note_after_waitq, "c"), 0);
	ck_assert_uint_eq(eloq_sched_run(sched, 3), 3);
	eloq_task_wake(impatient);
	eloq_waitq_wake_all(&waitq);
	ck_assert_uint_eq(eloq_sched_run(sched, 3), 3);
	ck_assert_str_eq(journal, "bac");
	eloq_sched_close(sched);
}

/* I/O: the pool back-end without threads, which needs nothing of the machine. */
enum { BLOCK_BYTES = 4096, BLOCK_COUNT = 16 };

struct disk {
	struct eloq_sched *sched;
	struct eloq_io *io;
	struct eloq_io_file *dir;
	struct eloq_io_file *file;
	uint8_t blocks[BLOCK_COUNT][BLOCK_BYTES];
	struct eloq_io_group_req greqs[BLOCK_COUNT];
	unsigned done_count;
	bool passed;
};

/* Run @fn(@disk) as a task with an open, empty file until it ends. */
static void disk_run(void (*fn)(void *arg), struct disk *disk)
{
	struct eloq_io_opts opts = { .backend = "pool", .depth = 8 };
	struct eloq_errinfo err = { 0 };
	const char *io_note;
	int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_ge(dir, 0);
	disk->sched = sched_open(4);
	ck_assert_msg(eloq_io_open(&disk->io, &opts, &io_note, &err) == 0, "%s", err.text);
	ck_assert_int_eq(eloq_io_adopt_fd(disk->io, dir, &disk->dir), 0);
	ck_assert_int_eq(eloq_task_start(disk->sched, fn, disk), 0);
	while (eloq_sched_live_count(disk->sched) > 0) {
		(void)eloq_sched_run(disk->sched, 4);
		ck_assert_int_ge(eloq_io_turn(disk->io, 0, 3), 0);
	}
	ck_assert(disk->passed);
	eloq_io_close(disk->io);
	eloq_sched_close(disk->sched);
}

static void disk_open_file_await(struct disk *disk)
{
	struct eloq_io_req req = { .op = ELOQ_IO_OPEN,
				   .flags = ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE,
				   .file = disk->dir,
				   .path = "file" };

	ck_assert_int_eq(eloq_task_io_await(disk->io, &req), 0);
	disk->file = req.ret_file;
}

static void disk_close_files_await(struct disk *disk)
{
	struct eloq_io_req close_file = { .op = ELOQ_IO_CLOSE, .file = disk->file };
	struct eloq_io_req close_dir = { .op = ELOQ_IO_CLOSE, .file = disk->dir };

	ck_assert_int_eq(eloq_task_io_await(disk->io, &close_file), 0);
	ck_assert_int_eq(eloq_task_io_await(disk->io, &close_dir), 0);
	disk->passed = true;
}

static void write_read_and_miss(void *arg)
{
	struct disk *disk = arg;
	char got[16] = "";
	struct eloq_io_req write_req = { .op = ELOQ_IO_WRITE, .buf = "written", .bytes = 7 };
	struct eloq_io_req read_req = { .op = ELOQ_IO_READ, .buf = got, .bytes = sizeof(got) };
	struct eloq_io_req unlink_req = { .op = ELOQ_IO_UNLINK, .path = "missing" };

	disk_open_file_await(disk);
	write_req.file = read_req.file = disk->file;
	unlink_req.file = disk->dir;
	ck_assert_int_eq(eloq_task_io_await(disk->io, &write_req), 7);
	ck_assert_int_eq(eloq_task_io_await(disk->io, &read_req), 7);
	ck_assert_str_eq(got, "written");
	ck_assert_int_eq(eloq_task_io_await(disk->io, &unlink_req), -ENOENT);
	disk_close_files_await(disk);
}

TEST(task_that_awaits_io_gets_its_result)
{
	static struct disk disk;

	disk_run(write_read_and_miss, &disk);
}

static void block_done(struct eloq_io_group_req *greq)
{
	struct disk *disk = greq->arg;

	ck_assert_int_eq(greq->req.result, BLOCK_BYTES);
	disk->done_count++;
}

static void write_blocks_at_most_four_at_once(void *arg)
{
	struct disk *disk = arg;
	struct eloq_io_group group;

	disk_open_file_await(disk);
	eloq_io_group_init(&group, disk->io);
	for (unsigned i = 0; i < BLOCK_COUNT; i++) {
		memset(disk->blocks[i], (int)i + 1, BLOCK_BYTES);
		disk->greqs[i] = (struct eloq_io_group_req){
			.req = { .op = ELOQ_IO_WRITE,
				 .file = disk->file,
				 .buf = disk->blocks[i],
				 .bytes = BLOCK_BYTES,
				 .offset = (uint64_t)i * BLOCK_BYTES },
			.on_done = block_done,
			.arg = disk,
		};
		ck_assert_int_eq(eloq_io_group_await(&group, 3), 0);
		ck_assert_uint_le(group.in_flight, 3);
		eloq_io_group_submit(&group, &disk->greqs[i]);
		ck_assert_uint_eq(disk->done_count + group.in_flight, i + 1);
	}
	ck_assert_uint_gt(group.in_flight, 0);
	ck_assert_int_eq(eloq_io_group_await(&group, 0), 0);
	ck_assert_uint_eq(disk->done_count, BLOCK_COUNT);
	for (unsigned i = 0; i < BLOCK_COUNT; i++) {
		uint8_t got[BLOCK_BYTES];
		struct eloq_io_req read_req = { .op = ELOQ_IO_READ,
						.file = disk->file,
						.buf = got,
						.bytes = BLOCK_BYTES,
						.offset = (uint64_t)i * BLOCK_BYTES };

		ck_assert_int_eq(eloq_task_io_await(disk->io, &read_req), BLOCK_BYTES);
		ck_assert_mem_eq(got, disk->blocks[i], BLOCK_BYTES);
	}
	disk_close_files_await(disk);
}

TEST(io_group_keeps_no_more_in_flight_than_asked)
{
	static struct disk disk;

	disk_run(write_blocks_at_most_four_at_once, &disk);
}

static void fail_twice_between_successes(void *arg)
{
	struct disk *disk = arg;
	struct eloq_io_group group;
	/* Each awaited before the next, so that "first" has a meaning. */
	static const struct {
		enum eloq_io_op op;
		const char *path;
		int error_after;
	} steps[] = {
		{ ELOQ_IO_MKDIR, "d", 0 },
		{ ELOQ_IO_UNLINK, "missing", -ENOENT },
		{ ELOQ_IO_RMDIR, "d", -ENOENT },
		{ ELOQ_IO_RMDIR, "file", -ENOENT }, /* -ENOTDIR, too late */
	};

	disk_open_file_await(disk);
	eloq_io_group_init(&group, disk->io);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(steps); i++) {
		struct eloq_io_group_req greq = {
			.req = { .op = steps[i].op, .file = disk->dir, .path = steps[i].path }
		};

		eloq_io_group_submit(&group, &greq);
		ck_assert_int_eq(eloq_io_group_await(&group, 0), steps[i].error_after);
		ck_assert_uint_eq(group.in_flight, 0);
	}
	group.error = 0;
	ck_assert_int_eq(eloq_io_group_await(&group, 0), 0);
	disk_close_files_await(disk);
}

TEST(io_group_keeps_its_first_error)
{
	static struct disk disk;

	disk_run(fail_twice_between_successes, &disk);
}

static void write_next_block(struct eloq_io_group_req *greq)
{
	struct disk *disk = greq->arg;

	block_done(greq);
	if (disk->done_count < BLOCK_COUNT) {
		greq->req.offset += BLOCK_BYTES;
		eloq_io_group_submit(greq->group, greq);
	}
}

static void write_blocks_one_from_the_other(void *arg)
{
	struct disk *disk = arg;
	struct eloq_io_group group;
	struct eloq_io_group_req greq = {
		.req = { .op = ELOQ_IO_WRITE, .buf = disk->blocks[0], .bytes = BLOCK_BYTES },
		.on_done = write_next_block,
		.arg = disk
	};

	disk_open_file_await(disk);
	greq.req.file = disk->file;
	eloq_io_group_init(&group, disk->io);
	eloq_io_group_submit(&group, &greq);
	ck_assert_int_eq(eloq_io_group_await(&group, 0), 0);
	ck_assert_uint_eq(disk->done_count, BLOCK_COUNT);
	disk_close_files_await(disk);
}

TEST(io_group_waits_for_what_its_callbacks_submit)
{
	static struct disk disk;

	disk_run(write_blocks_one_from_the_other, &disk);
}
