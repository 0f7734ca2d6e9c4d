/*
 * store_world.c - see store_world.h.
 */
#include "tests/support/store_world.h"

#include "common/limits.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

void store_world_init(struct store_world *world)
{
	memset(world, 0, sizeof(*world));
	world->opts = (struct eloq_store_opts){
		.page_bytes = 4096,
		.pages_per_file_shift = 6,
		.overflow_pointers = 16,
		.data_restart_interval = 16,
		.index_restart_interval = 16,
		.manifest_bytes_max = 64 << 10,
		.cache_bytes = 64 * 4096,
		.files_max = 16,
		.verify_checksums = true,
		.shard_count = 1,
		.clock = eloq_clock_system(),
	};
	world->backend = "pool";
	world->root_paths[0] = test_tmpdir();
	world->root_count = 1;
}

static void store_world_open_io(struct store_world *world)
{
	const struct eloq_io_opts io_opts = {
		.backend = world->backend,
		.depth = 64,
		.pool_threads = world->pool_threads,
	};
	const struct eloq_sched_opts sched_opts = {
		.tasks_max = 64,
		.stack_bytes = ELOQ_TASK_STACK_BYTES,
	};
	struct eloq_errinfo error = { 0 };
	const char *note;

	if (eloq_io_open(&world->io, &io_opts, &note, &error) < 0)
		ck_abort_msg("%s", error.text);
	ck_assert_int_eq(eloq_sched_open(&world->sched, &sched_opts), 0);
	for (uint32_t i = 0; i < world->root_count; i++) {
		int fd = open(world->root_paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(eloq_io_adopt_fd(world->io, fd, &world->roots[i]), 0);
	}
}

/* Turns of a shard without clients, until all tasks have ended. */
static void store_world_turn(struct store_world *world)
{
	while (eloq_sched_live_count(world->sched) > 0) {
		bool busy = eloq_sched_run(world->sched, 64) > 0;

		ck_assert_int_ge(eloq_io_turn(world->io, busy ? 0 : 10 * ELOQ_NS_PER_MS, 64), 0);
	}
}

static void store_world_close_roots(void *arg)
{
	struct store_world *world = arg;

	for (uint32_t i = 0; i < world->root_count; i++) {
		struct eloq_io_req req = { .op = ELOQ_IO_CLOSE, .file = world->roots[i] };

		ck_assert_int_eq(eloq_task_io_await(world->io, &req), 0);
	}
}

static void store_world_close_io(struct store_world *world)
{
	store_world_run(world, store_world_close_roots, world);
	eloq_sched_close(world->sched);
	eloq_io_close(world->io);
}

int store_world_try_open(struct store_world *world, struct eloq_errinfo *reterr)
{
	const char *note;
	int r;

	store_world_open_io(world);
	world->opts.roots = world->roots;
	world->opts.root_names = world->root_paths;
	world->opts.root_count = world->root_count;
	r = eloq_store_open(&world->store, &world->opts, world->io, world->sched, &note, reterr);
	if (r < 0)
		store_world_close_io(world);
	return r;
}

void store_world_open(struct store_world *world)
{
	struct eloq_errinfo error = { 0 };

	if (store_world_try_open(world, &error) < 0)
		ck_abort_msg("%s", error.text);
}

static void store_world_stop(void *arg)
{
	struct store_world *world = arg;

	eloq_store_stop_await(world->store);
}

void store_world_close(struct store_world *world)
{
	store_world_run(world, store_world_stop, world);
	eloq_store_close(world->store);
	store_world_close_io(world);
	world->store = NULL;
}

void store_world_spawn(struct store_world *world, void (*fn)(void *arg), void *arg)
{
	ck_assert_int_eq(eloq_task_start(world->sched, fn, arg), 0);
}

void store_world_run(struct store_world *world, void (*fn)(void *arg), void *arg)
{
	store_world_spawn(world, fn, arg);
	store_world_turn(world);
}

static void store_world_write(struct store_world *world, struct eloq_write *write)
{
	struct eloq_errinfo error = { 0 };
	int r = eloq_store_write_await(world->store, write, &error);

	if (r < 0)
		ck_abort_msg("write: %s %s", eloq_err_name(r), error.text);
}

void store_world_open_table(struct store_world *world)
{
	store_world_open(world);
	ck_assert_int_eq(eloq_store_table_add(world->store, 1, "t"), 0);
}

void store_world_session(struct store_world *world, void (*fn)(void *arg), void *arg)
{
	store_world_open_table(world);
	store_world_run(world, fn, arg);
	store_world_close(world);
}

struct store_check store_world_check(const struct store_world *world, uint32_t root,
				     const char *name, bool exists)
{
	struct store_check check = {
		.page_bytes = world->opts.page_bytes,
		.pages_per_file_shift = world->opts.pages_per_file_shift,
	};
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", world->root_paths[root], name);
	ck_assert_int_eq(store_check_partition(&check, path), exists);
	return check;
}

static struct eloq_write_entry store_world_entry(const char *key, uint64_t timestamp)
{
	return (struct eloq_write_entry){
		.key = (const uint8_t *)key,
		.key_bytes = (uint32_t)strlen(key),
		.timestamp = timestamp,
		.timestamp_auto = timestamp == 0,
	};
}

static enum eloq_write_outcome store_world_write_one(struct store_world *world, uint32_t table_id,
						     uint32_t partition,
						     struct eloq_write_entry *entry)
{
	struct eloq_write write = {
		.kind = ELOQ_WRITE_BATCH,
		.table_id = table_id,
		.partition = partition,
		.entries = entry,
		.entry_count = 1,
	};

	store_world_write(world, &write);
	return entry->outcome;
}

void store_world_put(struct store_world *world, uint32_t table_id, uint32_t partition,
		     const char *key, const void *value, uint32_t value_bytes, uint64_t timestamp)
{
	struct eloq_write_entry entry = store_world_entry(key, timestamp);

	entry.op = ELOQ_WRITE_PUT;
	entry.value = value;
	entry.value_bytes = value_bytes;
	ck_assert_int_eq(store_world_write_one(world, table_id, partition, &entry),
			 ELOQ_WRITE_APPLIED);
}

enum eloq_write_outcome store_world_delete(struct store_world *world, uint32_t table_id,
					   uint32_t partition, const char *key, uint64_t timestamp)
{
	struct eloq_write_entry entry = store_world_entry(key, timestamp);

	entry.op = ELOQ_WRITE_DELETE;
	return store_world_write_one(world, table_id, partition, &entry);
}

void store_world_expect(struct store_world *world, uint32_t table_id, uint32_t partition,
			const char *key, const void *value, uint32_t value_bytes)
{
	struct eloq_store_value found = { 0 };
	struct eloq_errinfo error = { 0 };
	int r = eloq_store_get_await(world->store, table_id, partition, (const uint8_t *)key,
				     (uint32_t)strlen(key), 0, &found, &error);

	if (!value) {
		ck_assert_int_eq(r, -ELOQ_ENOTFOUND);
		return;
	}
	if (r < 0)
		ck_abort_msg("get %s: %s %s", key, eloq_err_name(r), error.text);
	ck_assert_uint_eq(found.bytes, value_bytes);
	ck_assert(value_bytes == 0 || memcmp(found.data, value, value_bytes) == 0);
	eloq_store_value_release(world->store, &found);
}

void store_world_clear(struct store_world *world, uint32_t table_id, uint32_t partition,
		       enum eloq_write_kind kind)
{
	struct eloq_write write = { .kind = kind, .table_id = table_id, .partition = partition };

	store_world_write(world, &write);
}
