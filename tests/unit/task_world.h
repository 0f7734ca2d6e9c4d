/*
 * task_world.h - what the tests of the store's lower half share: tasks over an empty directory,
 * a record of every request that reached the back-end, and requests that fail on demand.
 */
#ifndef ELOQ_TESTS_UNIT_TASK_WORLD_H
#define ELOQ_TESTS_UNIT_TASK_WORLD_H

#include "daemon/io/backend.h"
#include "daemon/runtime/task.h"
#include "daemon/store/files.h"
#include "tests/unit/io_world.h"

#include <stdio.h>
#include <sys/stat.h>

enum { TRACE_MAX = 8192, TASKS = 64, STACK_BYTES = 64 << 10 };

struct traced {
	enum eloq_io_op op;
	const struct eloq_io_file *file; /* of OPEN: the directory */
	uint64_t offset;
	uint32_t bytes;
	int result; /* 0, or the error that was put in */
	char path[64];
};

/* One back-end for each test program is enough: Check runs every test in its own process. */
static struct {
	const struct eloq_io_ops *real;
	struct eloq_io_ops ops;
	struct traced trace[TRACE_MAX];
	unsigned trace_count;
	bool fail;	   /* requests of fail_ops, after fail_skip of them */
	unsigned fail_ops; /* 1 << op */
	unsigned fail_skip;
	unsigned fail_count; /* how many; then all goes well again */
	int fail_result;
} faults;

static inline bool faulty_start(struct eloq_io *io, struct eloq_io_req *req)
{
	struct traced *traced = &faults.trace[faults.trace_count];

	ck_assert_uint_lt(faults.trace_count, TRACE_MAX);
	*traced = (struct traced){
		.op = req->op, .file = req->file, .offset = req->offset, .bytes = req->bytes
	};
	if (req->path)
		(void)snprintf(traced->path, sizeof(traced->path), "%s", req->path);
	faults.trace_count++;
	if (!faults.fail || !(faults.fail_ops & 1u << req->op) || faults.fail_skip-- > 0)
		return faults.real->start(io, req);
	faults.fail_skip = 0;
	if (--faults.fail_count == 0)
		faults.fail = false;
	traced->result = faults.fail_result;
	req->result = faults.fail_result;
	eloq_io_ended(io, req);
	return true;
}

static inline void fail_request(enum eloq_io_op op, unsigned skip, int result)
{
	faults.fail = true;
	faults.fail_ops = 1u << op;
	faults.fail_skip = skip;
	faults.fail_count = 1;
	faults.fail_result = result;
}

static inline void trace_clear(void)
{
	faults.trace_count = 0;
}

static inline unsigned trace_count(enum eloq_io_op op)
{
	unsigned count = 0;

	for (unsigned i = 0; i < faults.trace_count; i++)
		count += faults.trace[i].op == op;
	return count;
}

/* Place of the first request of this kind at or behind @from, or -1. */
static inline int trace_find(enum eloq_io_op op, int from)
{
	for (int i = from; i < (int)faults.trace_count; i++) {
		if (faults.trace[i].op == op)
			return i;
	}
	return -1;
}

struct task_world {
	struct world io;
	struct eloq_sched *sched;
};

static inline struct task_world task_world_begin(const struct kind *kind)
{
	const struct eloq_sched_opts opts = { .tasks_max = TASKS, .stack_bytes = STACK_BYTES };
	struct task_world w = { .io = world_begin(kind, DEPTH) };

	ck_assert_int_eq(eloq_sched_open(&w.sched, &opts), 0);
	faults.real = w.io.io->ops;
	faults.ops = *faults.real;
	faults.ops.start = faulty_start;
	w.io.io->ops = &faults.ops;
	return w;
}

static inline void task_world_end(struct task_world *w)
{
	eloq_sched_close(w->sched);
	world_end(&w->io);
}

/* Runs until no task is left. */
static inline void run_tasks(struct task_world *w)
{
	while (eloq_sched_live_count(w->sched) > 0) {
		bool ready =
			eloq_sched_run(w->sched, TASKS) > 0 || eloq_sched_ready_count(w->sched) > 0;
		int r;

		ck_assert_msg(ready || eloq_io_stats(w->io.io)->in_flight > 0,
			      "every task waits, and nothing is under way");
		r = eloq_io_turn(w->io.io, ready ? 0 : FOR_EVER, TURN_MAX);
		ck_assert_int_ge(r, 0);
	}
}

static inline void start_task(struct task_world *w, void (*fn)(void *arg), void *arg)
{
	ck_assert_int_eq(eloq_task_start(w->sched, fn, arg), 0);
}

static inline void run_task(struct task_world *w, void (*fn)(void *arg), void *arg)
{
	start_task(w, fn, arg);
	run_tasks(w);
}

/* Runs fn(world) in a task on each back-end. */
#define TASK_TEST(name)                                       \
	static void name##_task(void *arg);                   \
	static void name##_on(const struct kind *kind)        \
	{                                                     \
		struct task_world w = task_world_begin(kind); \
                                                              \
		run_task(&w, name##_task, &w);                \
		task_world_end(&w);                           \
	}                                                     \
	TEST(uring_##name)                                    \
	{                                                     \
		name##_on(&uring);                            \
	}                                                     \
	TEST(pool_of_4_##name)                                \
	{                                                     \
		name##_on(&pool4);                            \
	}                                                     \
	TEST(pool_of_0_##name)                                \
	{                                                     \
		name##_on(&pool0);                            \
	}                                                     \
	static void name(struct task_world *w);               \
	static void name##_task(void *arg)                    \
	{                                                     \
		name(arg);                                    \
	}                                                     \
	static void name(struct task_world *w)

static inline struct eloq_partition_dir make_partition(const struct task_world *w, const char *name,
						       uint32_t no)
{
	struct eloq_partition_dir dir = { .root = w->io.dir, .no = no };

	(void)snprintf(dir.name, sizeof(dir.name), "%s", name);
	return dir;
}

/* Size of a file below the world's directory, or -1. */
static inline int64_t file_size(const struct task_world *w, const char *name)
{
	char path[512];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", w->io.path, name);
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

static inline void file_put(const struct task_world *w, const char *name, const void *bytes,
			    size_t count)
{
	char path[512];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", w->io.path, name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
	ck_assert_int_eq(fclose(file), 0);
}

/* The whole file in malloc'ed memory. */
static inline uint8_t *file_get(const struct task_world *w, const char *name, size_t *ret_count)
{
	int64_t size = file_size(w, name);
	uint8_t *bytes;
	char path[512];
	FILE *file;

	ck_assert_int_ge(size, 0);
	(void)snprintf(path, sizeof(path), "%s/%s", w->io.path, name);
	file = fopen(path, "r");
	bytes = malloc((size_t)size + 1);
	ck_assert(file && bytes);
	ck_assert_uint_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
	(void)fclose(file);
	*ret_count = (size_t)size;
	return bytes;
}

static inline void file_remove(const struct task_world *w, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", w->io.path, name);
	ck_assert_int_eq(remove(path), 0);
}

static inline void make_dir(const struct task_world *w, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", w->io.path, name);
	ck_assert_int_eq(mkdir(path, 0755), 0);
}

#endif
