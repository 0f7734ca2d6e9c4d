/*
 * io_test.c - the promises of daemon/io/io.h about files, names, many requests and opening.
 */
#include "daemon/io/io.h"

#include "common/limits.h"
#include "tests/unit/io_world.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files ------------------------------------------------------------------------------ */

TEST_EACH(opens_makes_and_refuses_files_as_the_flags_say)
{
	struct eloq_io_file *file = NULL;
	char *buf = aligned(PAGE);

	ck_assert_int_eq(try_open(w, "f", 0, &file), -ENOENT);
	ck_assert_int_eq(try_open(w, "f", ELOQ_IO_DIRECT, &file), -ENOENT);
	file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE | ELOQ_IO_DIRECT);
	ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, buf, PAGE, 0), PAGE);
	close_file(w, file);

	ck_assert_int_eq(try_open(w, "f", ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE, &file), -EEXIST);
	ck_assert_int_eq(try_open(w, "f", ELOQ_IO_DIRECTORY, &file), -ENOTDIR);
	file = open_file(w, "f", ELOQ_IO_CREATE);
	ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), PAGE);
	close_file(w, file);

	file = open_file(w, "f", ELOQ_IO_READ_ONLY);
	ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, buf, PAGE, 0), -EBADF);
	close_file(w, file);
	file = open_file(w, "f", ELOQ_IO_TRUNC);
	ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), 0);
	close_file(w, file);
	free(buf);
}

TEST_EACH(reads_back_what_was_written_and_synced)
{
	const unsigned flags[] = { ELOQ_IO_CREATE, ELOQ_IO_CREATE | ELOQ_IO_DIRECT };
	enum { BYTES = 64 * PAGE };
	char *out = aligned(BYTES);
	char *in = aligned(BYTES);

	for (unsigned i = 0; i < 2; i++) {
		struct eloq_io_file *file = open_file(w, i ? "direct" : "buffered", flags[i]);

		fill(out, BYTES, i);
		ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, out, BYTES, 3 * PAGE), BYTES);
		ck_assert_int_eq(call_on(w, ELOQ_IO_SYNC, file), 0);
		ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), BYTES + 3 * PAGE);
		ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, in, BYTES, 3 * PAGE), BYTES);
		ck_assert(!memcmp(in, out, BYTES));
		close_file(w, file);
	}
	ck_assert_int_eq(call_on(w, ELOQ_IO_SYNC, w->dir), 0);
	free(out);
	free(in);
}

TEST_EACH(reads_less_only_where_the_file_ends)
{
	enum { BYTES = PAGE + 904 };
	char *buf = aligned(4 * PAGE);
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE);

	fill(buf, BYTES, 1);
	ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, buf, BYTES, 0), BYTES);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf + PAGE, 100, BYTES - 60), 60);
	close_file(w, file);

	file = open_file(w, "f", ELOQ_IO_DIRECT);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, 4 * PAGE, 0), BYTES);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, PAGE, PAGE), 904);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, PAGE, 8 * PAGE), 0);
	ck_assert_int_eq(carry_out(w, &(struct eloq_io_req){ .op = ELOQ_IO_TRUNCATE,
							     .file = file,
							     .offset = PAGE }),
			 0);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, 4 * PAGE, 0), PAGE);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, 0, 0), 0);
	close_file(w, file);
	free(buf);
}

TEST_EACH(allocates_zeros_and_truncates_both_ways)
{
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	struct eloq_io_req allocate = {
		.op = ELOQ_IO_ALLOCATE, .file = file, .offset = PAGE, .length = 15 * PAGE
	};
	struct eloq_io_req truncate = { .op = ELOQ_IO_TRUNCATE, .file = file };
	char *buf = aligned(16 * PAGE);

	ck_assert_int_eq(carry_out(w, &allocate), 0);
	ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), 16 * PAGE);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, 16 * PAGE, 0), 16 * PAGE);
	for (int i = 0; i < 16 * PAGE; i++)
		ck_assert_int_eq(buf[i], 0);
	truncate.offset = 100;
	ck_assert_int_eq(carry_out(w, &truncate), 0);
	ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), 100);
	truncate.offset = UINT64_C(5) << 30;
	ck_assert_int_eq(carry_out(w, &truncate), 0);
	ck_assert_int_eq(call_on(w, ELOQ_IO_SIZE, file), INT64_C(5) << 30);
	close_file(w, file);
	free(buf);
}

struct seen {
	unsigned files, directories;
	int stop_with;
};

static int see_entry(void *arg, const char *name, bool is_directory)
{
	struct seen *seen = arg;

	ck_assert(strcmp(name, ".") && strcmp(name, ".."));
	if (is_directory)
		seen->directories++;
	else
		seen->files++;
	return seen->stop_with;
}

TEST_EACH(moves_removes_and_lists_names)
{
	struct eloq_io_req rename = {
		.op = ELOQ_IO_RENAME, .file = w->dir, .path = "d/a", .new_path = "d/b"
	};
	struct seen seen = { 0 };
	struct eloq_io_file *file = NULL;

	ck_assert_int_eq(call_named(w, ELOQ_IO_MKDIR, "d"), 0);
	ck_assert_int_eq(call_named(w, ELOQ_IO_MKDIR, "d"), -EEXIST);
	close_file(w, open_file(w, "d/a", ELOQ_IO_CREATE));
	close_file(w, open_file(w, "top", ELOQ_IO_CREATE));
	ck_assert_int_eq(eloq_io_list(w->io, w->dir, ".", see_entry, &seen), 0);
	ck_assert_uint_eq(seen.files, 1);
	ck_assert_uint_eq(seen.directories, 1);
	seen.stop_with = -77;
	ck_assert_int_eq(eloq_io_list(w->io, w->dir, "d", see_entry, &seen), -77);
	ck_assert_uint_eq(seen.files, 2);
	ck_assert_int_eq(eloq_io_list(w->io, w->dir, "none", see_entry, &seen), -ENOENT);

	ck_assert_int_eq(carry_out(w, &rename), 0);
	ck_assert_int_eq(carry_out(w, &rename), -ENOENT);
	ck_assert_int_eq(try_open(w, "d/a", 0, &file), -ENOENT);
	close_file(w, open_file(w, "d/b", 0));
	ck_assert_int_eq(call_named(w, ELOQ_IO_RMDIR, "d"), -ENOTEMPTY);
	ck_assert_int_eq(call_named(w, ELOQ_IO_UNLINK, "d/b"), 0);
	ck_assert_int_eq(call_named(w, ELOQ_IO_UNLINK, "d/b"), -ENOENT);
	ck_assert_int_eq(call_named(w, ELOQ_IO_RMDIR, "d"), 0);
	ck_assert_int_eq(try_open(w, "d", ELOQ_IO_DIRECTORY, &file), -ENOENT);
}

TEST_EACH(opens_below_a_directory_handle)
{
	struct world sub = *w;

	ck_assert_int_eq(call_named(w, ELOQ_IO_MKDIR, "d"), 0);
	sub.dir = open_file(w, "d", ELOQ_IO_DIRECTORY);
	close_file(&sub, open_file(&sub, "f", ELOQ_IO_CREATE));
	ck_assert_int_eq(call_on(w, ELOQ_IO_SYNC, sub.dir), 0);
	close_file(w, sub.dir);
	close_file(w, open_file(w, "d/f", 0));
}

/* procfs knows no O_DIRECT. */
TEST_EACH(reads_buffered_where_the_file_system_has_no_direct_io)
{
	struct world proc = *w;
	struct eloq_io_file *file;
	char *buf = aligned(PAGE);

	ck_assert_int_eq(prctl(PR_SET_NAME, "io-test-name"), 0);
	ck_assert_int_eq(
		eloq_io_adopt_fd(w->io, open("/proc/self/task", O_RDONLY | O_DIRECTORY), &proc.dir),
		0);
	(void)snprintf(buf, PAGE, "%d/comm", (int)gettid());
	file = open_file(&proc, buf, ELOQ_IO_READ_ONLY | ELOQ_IO_DIRECT);
	ck_assert(eloq_io_file_is_buffered(file));
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, buf, PAGE, 0), 13);
	ck_assert(!memcmp(buf, "io-test-name\n", 13));
	close_file(w, file);
	close_file(w, proc.dir);

	file = open_file(w, "f", ELOQ_IO_CREATE);
	ck_assert(!eloq_io_file_is_buffered(file));
	close_file(w, file);
	free(buf);
}

TEST_EACH(refuses_more_open_files_than_the_limit_and_serves_again_after)
{
	static struct eloq_io_file *files[ELOQ_IO_FILES_MAX];
	struct rlimit limit;
	unsigned count = 0;
	int64_t r;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((r = try_open(w, ".", ELOQ_IO_DIRECTORY, &files[count])) == 0)
		count++;
	ck_assert_int_eq(r, -EMFILE);
	if (limit.rlim_cur > ELOQ_IO_FILES_MAX + 100)
		ck_assert_uint_eq(count, ELOQ_IO_FILES_MAX - 1); /* w->dir is one */
	while (count > 0)
		close_file(w, files[--count]);
	close_file(w, open_file(w, ".", ELOQ_IO_DIRECTORY));
}

TEST_EACH(tells_of_a_bad_descriptor)
{
	struct eloq_io_file *file = NULL;
	struct eloq_io_poll poll = { .fd = -1 };

	ck_assert_int_eq(eloq_io_adopt_fd(w->io, -1, &file), -EBADF);
	ck_assert_ptr_null(file);
	ck_assert_int_eq(eloq_io_poll_start(w->io, &poll), -EBADF);
}

/* ---- registered memory ------------------------------------------------------------------ */

/* True if it is registered now: with uring, where the limits allow it. */
static bool register_memory(struct world *w, void *base, size_t bytes)
{
	uint64_t before = eloq_io_stats(w->io)->registered_bytes;
	int r = eloq_io_register_memory(w->io, base, bytes);
	bool is_registered = w->kind == &uring && r == 0;

	ck_assert(r == 0 || r == -ENOMEM);
	ck_assert_uint_eq(eloq_io_stats(w->io)->registered_bytes - before,
			  is_registered ? bytes : 0);
	return is_registered;
}

/* Two pages go to the file from @at and come back there. */
static void check_transfers_at(struct world *w, struct eloq_io_file *file, char *at, uint64_t seed)
{
	char *out = aligned(2 * PAGE);

	fill(out, 2 * PAGE, seed);
	memcpy(at, out, 2 * PAGE);
	ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, at, 2 * PAGE, 0), 2 * PAGE);
	memset(at, 0, 2 * PAGE);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, at, 2 * PAGE, 0), 2 * PAGE);
	ck_assert(!memcmp(at, out, 2 * PAGE));
	free(out);
}

/* Regions 0 and 1 touch each other, 3 is registered first, and 2 only after I/O. */
TEST_EACH(transfers_in_between_and_across_registered_regions)
{
	enum { REGION = 4 * PAGE, BYTES = 6 * REGION };
	static const int order[] = { 3, 1, 0 };
	char *base = aligned(BYTES);
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	bool all = true;

	for (unsigned i = 0; i < ELOQ_ARRAY_SIZE(order); i++)
		all &= register_memory(w, base + order[i] * REGION, REGION);
	for (int round = 0; round < 2; round++) {
		for (int at = 0; at <= BYTES - 2 * PAGE; at += PAGE)
			check_transfers_at(w, file, base + at, (uint64_t)at + (uint64_t)round);
		if (round == 0)
			all &= register_memory(w, base + 2 * REGION, REGION);
	}
	eloq_io_forget_memory(w->io, base + REGION, 2 * REGION);
	ck_assert_uint_eq(eloq_io_stats(w->io)->registered_bytes, all ? 2 * REGION : 0);
	for (int at = 0; at <= BYTES - 2 * PAGE; at += PAGE)
		check_transfers_at(w, file, base + at, (uint64_t)at + 2);
	eloq_io_forget_memory(w->io, base, BYTES);
	ck_assert_uint_eq(eloq_io_stats(w->io)->registered_bytes, 0);
	close_file(w, file);
	free(base);
}

static bool has_pinned_memory(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	unsigned long kilobytes = 0;

	ck_assert_ptr_nonnull(status);
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmPin: %lu", &kilobytes) == 1)
			break;
	(void)fclose(status);
	return kilobytes > 0;
}

/*
 * The kernel holds the pages that a region had; at its addresses there are others then. When they
 * are forgotten it may let go of them a little later.
 */
TEST_EACH(forgotten_memory_may_be_mapped_anew)
{
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	char *base = NULL;

	for (uint64_t i = 0; i < 3; i++) {
		base = mmap(base, 4 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | (base ? MAP_FIXED : 0), -1, 0);
		ck_assert(base != MAP_FAILED);
		if (i != 1)
			ck_assert(register_memory(w, base, 4 * PAGE) == has_pinned_memory());
		check_transfers_at(w, file, base + PAGE, i);
		if (i != 1)
			eloq_io_forget_memory(w->io, base, 4 * PAGE);
		while (has_pinned_memory())
			ck_assert_int_ge(eloq_io_turn(w->io, MS, TURN_MAX), 0);
	}
	(void)munmap(base, 4 * PAGE);
	close_file(w, file);
}

TEST(uring_refuses_regions_of_bad_size_and_more_than_it_has_room_for)
{
	enum { BYTES = (ELOQ_IO_REGIONS_MAX + 1) * PAGE };
	struct world w = world_begin(&uring, 8);
	struct eloq_io_file *file = open_file(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	char *base = aligned(BYTES);
	char *last = base + BYTES - PAGE;

	ck_assert_int_eq(eloq_io_register_memory(w.io, base, 0), -EINVAL);
	ck_assert_int_eq(eloq_io_register_memory(w.io, base, (size_t)ELOQ_IO_REGION_BYTES_MAX + 1),
			 -EINVAL);
	for (size_t i = 0; i < ELOQ_IO_REGIONS_MAX; i++)
		if (!register_memory(&w, base + i * PAGE, PAGE))
			TEST_SKIP("the memlock limit is below %d bytes", BYTES);
	ck_assert_int_eq(eloq_io_register_memory(w.io, last, PAGE), -ELOQ_ETOOMANY);
	check_transfers_at(&w, file, last - PAGE, 1);
	eloq_io_forget_memory(w.io, base + 7 * PAGE, PAGE);
	ck_assert(register_memory(&w, last, PAGE));
	check_transfers_at(&w, file, base + 6 * PAGE, 2);
	check_transfers_at(&w, file, last - PAGE, 3);
	eloq_io_forget_memory(w.io, base, BYTES);
	ck_assert_uint_eq(eloq_io_stats(w.io)->registered_bytes, 0);
	close_file(&w, file);
	world_end(&w);
	free(base);
}

/* ---- many requests ---------------------------------------------------------------------- */

TEST_EACH_DEPTH(serves_more_requests_than_its_depth, 4)
{
	enum { COUNT = 200 };
	static struct eloq_io_req reqs[COUNT];
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	const struct eloq_io_stats *stats = eloq_io_stats(w->io);
	char *buf = aligned(COUNT * PAGE);
	char *in = aligned(COUNT * PAGE);
	unsigned done = 0;

	fill(buf, COUNT * PAGE, 7);
	for (unsigned i = 0; i < COUNT; i++) {
		reqs[i] = (struct eloq_io_req){
			.op = ELOQ_IO_WRITE,
			.file = file,
			.buf = buf + i * PAGE,
			.bytes = PAGE,
			.offset = i * PAGE,
			.done = count_done,
			.arg = &done,
		};
		eloq_io_submit(w->io, &reqs[i]);
	}
	ck_assert_uint_eq(done, 0);
	ck_assert_uint_eq(stats->in_flight, COUNT);
	ck_assert_uint_eq(stats->in_flight_bytes_write, COUNT * PAGE);
	ck_assert(eloq_io_has_work(w->io));
	while (done < COUNT)
		ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_int_eq(reqs[i].result, PAGE);
	ck_assert_uint_eq(stats->writes, COUNT);
	ck_assert_uint_eq(stats->write_bytes, COUNT * PAGE);
	ck_assert_uint_eq(stats->in_flight_bytes_write, 0);
	ck_assert_int_eq(transfer(w, ELOQ_IO_READ, file, in, COUNT * PAGE, 0), COUNT * PAGE);
	ck_assert(!memcmp(in, buf, COUNT * PAGE));
	ck_assert_uint_eq(stats->reads, 1);
	ck_assert_uint_eq(stats->read_bytes, COUNT * PAGE);
	ck_assert(!eloq_io_has_work(w->io));
	close_file(w, file);
	free(buf);
	free(in);
}

/* With depth 2 and two requests that last, a third one has to wait until one of those ends. */
static void check_depth(struct world *w, struct eloq_io_req lasting[2],
			void (*let_end)(struct world *w, unsigned i))
{
	struct eloq_io_req size = { .op = ELOQ_IO_SIZE, .file = w->dir };
	unsigned ended = 0, sized = 0;

	for (unsigned i = 0; i < 2; i++) {
		lasting[i].done = count_done;
		lasting[i].arg = &ended;
		eloq_io_submit(w->io, &lasting[i]);
	}
	size.done = count_done;
	size.arg = &sized;
	eloq_io_submit(w->io, &size);
	settle(w);
	ck_assert_uint_eq(ended, 0);
	ck_assert_uint_eq(sized, 0);
	for (unsigned i = 0; i < 2; i++) {
		let_end(w, i);
		while (ended <= i || sized == 0)
			ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	}
}

static int depth_pipes[2][2];

static void write_to_pipe(struct world *w, unsigned i)
{
	(void)w;
	ck_assert_int_eq(write(depth_pipes[i][1], "x", 1), 1);
	(void)close(depth_pipes[i][1]);
}

TEST(uring_keeps_what_exceeds_its_depth_until_something_ends)
{
	struct world w = world_begin(&uring, 2);
	struct eloq_io_req reads[2];
	char bytes[2];

	for (unsigned i = 0; i < 2; i++) {
		reads[i] = (struct eloq_io_req){ .op = ELOQ_IO_READ, .buf = &bytes[i], .bytes = 1 };
		ck_assert_int_eq(pipe(depth_pipes[i]), 0);
		ck_assert_int_eq(eloq_io_adopt_fd(w.io, depth_pipes[i][0], &reads[i].file), 0);
	}
	check_depth(&w, reads, write_to_pipe);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(reads[i].result, 1);
		ck_assert_int_eq(bytes[i], 'x');
		close_file(&w, reads[i].file);
	}
	world_end(&w);
}

static void fifo_name(const struct world *w, unsigned i, char name[512])
{
	(void)snprintf(name, 512, "%s/%u", w->path, i);
}

static void open_other_end(struct world *w, unsigned i)
{
	char name[512];
	int fd;

	fifo_name(w, i, name);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	(void)close(fd);
}

/* A plain read refuses a pipe, but opening a FIFO lasts until its other end is opened too. */
TEST(pool_of_4_keeps_what_exceeds_its_depth_until_something_ends)
{
	static const char *const names[] = { "0", "1" };
	struct world w = world_begin(&pool4, 2);
	struct eloq_io_req opens[2];
	char name[512];

	for (unsigned i = 0; i < 2; i++) {
		fifo_name(&w, i, name);
		ck_assert_int_eq(mkfifo(name, 0600), 0);
		opens[i] = (struct eloq_io_req){
			.op = ELOQ_IO_OPEN,
			.file = w.dir,
			.path = names[i],
			.flags = ELOQ_IO_READ_ONLY,
		};
	}
	check_depth(&w, opens, open_other_end);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(opens[i].result, 0);
		close_file(&w, opens[i].ret_file);
	}
	world_end(&w);
}

TEST_EACH(delivers_no_more_completions_in_a_turn_than_asked)
{
	enum { COUNT = 20 };
	struct eloq_io_req reqs[COUNT];
	unsigned done = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		reqs[i] = (struct eloq_io_req){
			.op = ELOQ_IO_SIZE, .file = w->dir, .done = count_done, .arg = &done
		};
		eloq_io_submit(w->io, &reqs[i]);
	}
	while (done < COUNT) {
		unsigned before = done;
		int r = eloq_io_turn(w->io, FOR_EVER, 3);

		ck_assert_int_ge(r, 0);
		ck_assert_int_le(r, 3);
		ck_assert_uint_eq(done - before, (unsigned)r);
		/* Without threads all have ended, and those not delivered are work. */
		ck_assert(w->kind != &pool0 || done == COUNT || eloq_io_has_work(w->io));
	}
}

struct chain {
	struct eloq_io *io;
	struct eloq_io_req req;
	unsigned left;
	unsigned in_this_turn;
};

static void chain_on(struct eloq_io_req *req)
{
	struct chain *chain = req->arg;

	ck_assert_int_eq(req->result, PAGE);
	ck_assert_uint_eq(chain->in_this_turn++, 0);
	if (--chain->left > 0)
		eloq_io_submit(chain->io, req);
}

TEST_EACH(lets_done_submit_the_next_request_for_a_later_turn)
{
	struct eloq_io_file *file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	struct chain chain = { .io = w->io, .left = 200 };

	chain.req = (struct eloq_io_req){
		.op = ELOQ_IO_WRITE,
		.file = file,
		.buf = aligned(PAGE),
		.bytes = PAGE,
		.done = chain_on,
		.arg = &chain,
	};
	eloq_io_submit(w->io, &chain.req);
	while (chain.left > 0) {
		chain.in_this_turn = 0;
		ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	}
	free(chain.req.buf);
	close_file(w, file);
}

enum { MODEL_PAGES = 256, MODEL_SLOTS = 24, MODEL_PAGES_MAX = 8, MODEL_OPS = 3000 };

struct model {
	struct world *w;
	struct eloq_prng prng;
	struct eloq_io_file *file;
	uint8_t *shadow;
	bool busy[MODEL_PAGES];
	unsigned in_flight, left;
	struct model_slot {
		struct eloq_io_req req;
		struct model *model;
		uint8_t *buf;
		bool busy;
	} slots[MODEL_SLOTS];
};

static void model_done(struct eloq_io_req *req)
{
	struct model_slot *slot = req->arg;
	struct model *model = slot->model;
	size_t first = req->offset / PAGE;

	ck_assert_int_eq(req->result, req->bytes);
	if (req->op == ELOQ_IO_READ)
		ck_assert(!memcmp(slot->buf, model->shadow + req->offset, req->bytes));
	memset(model->busy + first, 0, req->bytes / PAGE);
	slot->busy = false;
	model->in_flight--;
}

/* Pages of requests in flight do not overlap, as there is no order between those. */
static void model_submit(struct model *model, struct model_slot *slot)
{
	size_t count = 1 + eloq_prng_below(&model->prng, MODEL_PAGES_MAX);
	size_t first = eloq_prng_below(&model->prng, MODEL_PAGES - count + 1);

	if (memchr(model->busy + first, true, count))
		return;
	memset(model->busy + first, true, count);
	slot->req = (struct eloq_io_req){
		.op = eloq_prng_below(&model->prng, 2) ? ELOQ_IO_READ : ELOQ_IO_WRITE,
		.file = model->file,
		.buf = slot->buf,
		.bytes = (uint32_t)(count * PAGE),
		.offset = first * PAGE,
		.done = model_done,
		.arg = slot,
	};
	if (slot->req.op == ELOQ_IO_WRITE) {
		fill(slot->buf, slot->req.bytes, eloq_prng_next(&model->prng));
		memcpy(model->shadow + slot->req.offset, slot->buf, slot->req.bytes);
	}
	slot->busy = true;
	model->in_flight++;
	model->left--;
	eloq_io_submit(model->w->io, &slot->req);
}

/* Every other buffer is a registered region. */
TEST_EACH_DEPTH(agrees_with_a_shadow_under_random_concurrent_io, 16)
{
	enum { BUF_BYTES = MODEL_PAGES_MAX * PAGE, BUFS_BYTES = MODEL_SLOTS * BUF_BYTES };
	static struct model model;
	uint8_t *bufs = aligned(BUFS_BYTES);
	model = (struct model){ .w = w, .left = MODEL_OPS, .shadow = calloc(MODEL_PAGES, PAGE) };
	eloq_prng_seed(&model.prng, test_seed());
	model.file = open_file(w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	ck_assert_int_eq(carry_out(w, &(struct eloq_io_req){ .op = ELOQ_IO_ALLOCATE,
							     .file = model.file,
							     .length = MODEL_PAGES * PAGE }),
			 0);
	for (unsigned i = 0; i < MODEL_SLOTS; i++) {
		model.slots[i].model = &model;
		model.slots[i].buf = bufs + (size_t)i * BUF_BYTES;
		if (i % 2)
			(void)register_memory(w, model.slots[i].buf, BUF_BYTES);
	}
	while (model.left > 0 || model.in_flight > 0) {
		for (unsigned i = 0; i < MODEL_SLOTS && model.left > 0; i++)
			if (!model.slots[i].busy && eloq_prng_below(&model.prng, 2))
				model_submit(&model, &model.slots[i]);
		ck_assert_int_ge(eloq_io_turn(w->io, model.in_flight ? FOR_EVER : 0, TURN_MAX), 0);
	}
	close_file(w, model.file);
	free(model.shadow);
	free(bufs);
}

/* ---- opening ---------------------------------------------------------------------------- */

TEST(io_open_refuses_bad_options_by_name)
{
	const struct eloq_io_opts bad[] = {
		{ .backend = "floppy", .depth = 1 },
		{ .backend = "pool", .depth = 0 },
		{ .backend = "pool", .depth = ELOQ_IO_DEPTH_MAX + 1 },
		{ .backend = "pool", .depth = 1, .pool_threads = 100000 },
	};
	const char *const names[] = { "floppy", "0", "1025", "100000" };

	for (unsigned i = 0; i < ELOQ_ARRAY_SIZE(bad); i++) {
		struct eloq_errinfo err = { 0 };
		struct eloq_io *io = NULL;

		ck_assert_int_eq(eloq_io_open(&io, &bad[i], NULL, &err), -EINVAL);
		ck_assert_ptr_null(io);
		ck_assert_ptr_nonnull(strstr(err.text, names[i]));
	}
	eloq_io_close(NULL);
}

/* Runs @check in a process of its own, which may restrict itself. */
static void in_a_child(void (*check)(void))
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		check();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

static void forbid_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ELOQ_ARRAY_SIZE(filter), filter };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* As in a container's default profile. A failed check exits with Check's own status here. */
static void check_auto_without_io_uring(void)
{
	struct eloq_io_opts opts = { .backend = "auto", .depth = 8, .pool_threads = 2 };
	struct eloq_errinfo err = { 0 };
	const char *note = NULL;
	struct eloq_io *io = NULL;

	forbid_io_uring();
	if (eloq_io_open(&io, &opts, &note, &err) != 0 || strcmp(eloq_io_backend_name(io), "pool"))
		_exit(1);
	if (!note || !strstr(note, "seccomp") || !strstr(note, "io_backend") || strchr(note, '\n'))
		_exit(2);
	eloq_io_close(io);
	opts.backend = "uring";
	if (eloq_io_open(&io, &opts, &note, &err) != -EPERM || !strstr(err.text, "io_uring"))
		_exit(3);
}

TEST(auto_takes_threads_and_says_why_where_io_uring_is_forbidden)
{
	in_a_child(check_auto_without_io_uring);
}

TEST(auto_takes_io_uring_where_it_is_to_be_had_and_is_silent_about_it)
{
	const struct eloq_io_opts opts = { .backend = "auto", .depth = 8, .pool_threads = 2 };
	const char *note = "unset";
	struct eloq_io *io = NULL;

	eloq_io_close(open_io(&uring, 8)); /* skips where it is not */
	ck_assert_int_eq(eloq_io_open(&io, &opts, &note, NULL), 0);
	ck_assert_str_eq(eloq_io_backend_name(io), "uring");
	ck_assert_ptr_null(note);
	eloq_io_close(io);
}

static int unprivileged_fd;

static void check_low_memlock(void)
{
	const struct rlimit low = { 64 << 10, 64 << 10 };
	struct world w = { .kind = &uring };
	char *buf = aligned(256 * PAGE);

	if (setrlimit(RLIMIT_MEMLOCK, &low) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		_exit(1);
	w.io = open_io(&uring, 8);
	if (eloq_io_can_register_memory(w.io, buf, 256 * PAGE) != -ENOMEM ||
	    eloq_io_register_memory(w.io, buf, 256 * PAGE) != -ENOMEM ||
	    eloq_io_stats(w.io)->registered_bytes != 0)
		_exit(2);
	if (eloq_io_can_register_memory(w.io, buf, PAGE) != 0 ||
	    eloq_io_register_memory(w.io, buf, PAGE) != 0)
		_exit(6);
	if (eloq_io_adopt_fd(w.io, unprivileged_fd, &w.dir) < 0)
		_exit(3);
	fill(buf, PAGE, 9);
	if (transfer(&w, ELOQ_IO_WRITE, w.dir, buf, PAGE, 0) != PAGE)
		_exit(4);
	if (transfer(&w, ELOQ_IO_READ, w.dir, buf + 2 * PAGE, PAGE, 0) != PAGE ||
	    memcmp(buf + 2 * PAGE, buf, PAGE))
		_exit(5);
	world_end(&w);
	free(buf);
}

TEST(uring_foretells_and_says_enomem_over_the_memlock_limit_and_works_unregistered)
{
	char name[512];

	eloq_io_close(open_io(&uring, 8)); /* skips where it has to */
	(void)snprintf(name, sizeof(name), "%s/f", test_tmpdir());
	unprivileged_fd = open(name, O_RDWR | O_CREAT | O_DIRECT, 0600);
	ck_assert_int_ge(unprivileged_fd, 0);
	in_a_child(check_low_memlock);
	(void)close(unprivileged_fd);
}
