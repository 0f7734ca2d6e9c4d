/*
 * io_world.h - what the tests of daemon/io share: an opened back-end over an empty directory, and
 * requests carried out one by one.
 *
 * TEST_EACH(name) runs one test on io_uring, on a pool of four threads and on the pool without
 * threads. Where the kernel refuses io_uring the first of them is skipped, with its reason.
 */
#ifndef ELOQ_TESTS_UNIT_IO_WORLD_H
#define ELOQ_TESTS_UNIT_IO_WORLD_H

#include "common/prng.h"
#include "daemon/io/io.h"
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = ELOQ_IO_ALIGN, DEPTH = 64, TURN_MAX = 64 };

#define FOR_EVER UINT64_MAX
#define MS	 UINT64_C(1000000)

struct kind {
	const char *backend;
	unsigned threads;
};

struct world {
	const struct kind *kind;
	const char *path;
	struct eloq_io *io;
	struct eloq_io_file *dir;
};

static const struct kind uring = { "uring", 0 };
static const struct kind pool4 = { "pool", 4 };
static const struct kind pool0 = { "pool", 0 };

static inline struct eloq_io *open_io(const struct kind *kind, unsigned depth)
{
	const struct eloq_io_opts opts = { .backend = kind->backend,
					   .depth = depth,
					   .pool_threads = kind->threads };
	struct eloq_errinfo err = { 0 };
	struct eloq_io *io = NULL;
	int r = eloq_io_open(&io, &opts, NULL, &err);

	if (r < 0 && kind == &uring)
		TEST_SKIP("io_uring is refused here: %s", err.text);
	ck_assert_msg(r == 0, "%s", err.text);
	return io;
}

static inline struct world world_begin(const struct kind *kind, unsigned depth)
{
	struct world w = { .kind = kind, .path = test_tmpdir() };
	int fd = open(w.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	w.io = open_io(kind, depth);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(eloq_io_adopt_fd(w.io, fd, &w.dir), 0);
	return w;
}

static inline void mark_done(struct eloq_io_req *req)
{
	bool *done = req->arg;

	ck_assert(!*done);
	*done = true;
}

/* For requests that only have to be counted: arg is the counter. */
static inline void count_done(struct eloq_io_req *req)
{
	unsigned *count = req->arg;

	++*count;
}

/* Carries one request out and returns its result. */
static inline int64_t carry_out(struct world *w, struct eloq_io_req *req)
{
	bool done = false;

	req->done = mark_done;
	req->arg = &done;
	eloq_io_submit(w->io, req);
	ck_assert_msg(!done, "done() was called from eloq_io_submit()");
	while (!done)
		ck_assert_int_ge(eloq_io_turn(w->io, FOR_EVER, TURN_MAX), 0);
	return req->result;
}

static inline int64_t try_open(struct world *w, const char *name, unsigned flags,
			       struct eloq_io_file **ret_file)
{
	struct eloq_io_req req = {
		.op = ELOQ_IO_OPEN, .file = w->dir, .path = name, .flags = flags
	};
	int64_t r = carry_out(w, &req);

	if (r == 0)
		*ret_file = req.ret_file;
	else
		ck_assert_ptr_null(req.ret_file);
	return r;
}

static inline struct eloq_io_file *open_file(struct world *w, const char *name, unsigned flags)
{
	struct eloq_io_file *file = NULL;

	ck_assert_int_eq(try_open(w, name, flags, &file), 0);
	return file;
}

static inline int64_t call_on(struct world *w, enum eloq_io_op op, struct eloq_io_file *file)
{
	return carry_out(w, &(struct eloq_io_req){ .op = op, .file = file });
}

static inline int64_t call_named(struct world *w, enum eloq_io_op op, const char *path)
{
	return carry_out(w, &(struct eloq_io_req){ .op = op, .file = w->dir, .path = path });
}

static inline int64_t transfer(struct world *w, enum eloq_io_op op, struct eloq_io_file *file,
			       void *buf, uint32_t bytes, uint64_t offset)
{
	return carry_out(w, &(struct eloq_io_req){
				    .op = op,
				    .file = file,
				    .buf = buf,
				    .bytes = bytes,
				    .offset = offset,
			    });
}

static inline void close_file(struct world *w, struct eloq_io_file *file)
{
	ck_assert_int_eq(call_on(w, ELOQ_IO_CLOSE, file), 0);
}

static inline void world_end(struct world *w)
{
	close_file(w, w->dir);
	ck_assert_uint_eq(eloq_io_stats(w->io)->in_flight, 0);
	eloq_io_close(w->io);
}

/* Enough turns for all that is under way to arrive. */
static inline void settle(struct world *w)
{
	for (int i = 0; i < 20; i++)
		ck_assert_int_ge(eloq_io_turn(w->io, MS, TURN_MAX), 0);
}

static inline void *aligned(size_t bytes)
{
	void *buf = aligned_alloc(PAGE, bytes);

	ck_assert_ptr_nonnull(buf);
	memset(buf, 0xee, bytes);
	return buf;
}

static inline void fill(void *buf, size_t bytes, uint64_t seed)
{
	struct eloq_prng prng = { seed };
	uint8_t *at = buf;

	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)eloq_prng_next(&prng);
}

static inline void run_on(const struct kind *kind, unsigned depth, void (*test)(struct world *w))
{
	struct world w = world_begin(kind, depth);

	test(&w);
	world_end(&w);
}

#define TEST_EACH_DEPTH(name, depth)         \
	static void name(struct world *w);   \
	TEST(uring_##name)                   \
	{                                    \
		run_on(&uring, depth, name); \
	}                                    \
	TEST(pool_of_4_##name)               \
	{                                    \
		run_on(&pool4, depth, name); \
	}                                    \
	TEST(pool_of_0_##name)               \
	{                                    \
		run_on(&pool0, depth, name); \
	}                                    \
	static void name(struct world *w)

#define TEST_EACH(name) TEST_EACH_DEPTH(name, DEPTH)

#endif
