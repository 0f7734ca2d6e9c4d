/*
 * store_world.h - an engine with its own I/O back-end and scheduler, in a directory of its own.
 *
 * A test describes the world, opens it, runs functions in it as tasks, and closes it; opening it
 * again finds what was written. Everything that should not happen fails the test at once.
 */
#ifndef ELOQ_TESTS_SUPPORT_STORE_WORLD_H
#define ELOQ_TESTS_SUPPORT_STORE_WORLD_H

#include "daemon/store/store.h"
#include "tests/support/store_check.h"

enum { STORE_WORLD_ROOTS_MAX = 4 };

struct store_world {
	/* Filled in by store_world_init(), may be changed before store_world_open(). */
	struct eloq_store_opts opts;
	const char *backend;
	unsigned pool_threads;
	const char *root_paths[STORE_WORLD_ROOTS_MAX]; /* root_count of them */
	uint32_t root_count;

	/* While it is open. */
	struct eloq_io *io;
	struct eloq_sched *sched;
	struct eloq_store *store;
	struct eloq_io_file *roots[STORE_WORLD_ROOTS_MAX];
};

/* Small pages, small files, plain blocking I/O, one fresh root directory. */
void store_world_init(struct store_world *world);

/* Fails the test if the store does not open. */
void store_world_open(struct store_world *world);
/* What eloq_store_open() says; on failure nothing is open. */
int store_world_try_open(struct store_world *world, struct eloq_errinfo *reterr);
/* Stops and closes the store. */
void store_world_close(struct store_world *world);

/* Open it and add table 1, "t". */
void store_world_open_table(struct store_world *world);
/* Open it with table 1, run fn(arg) as a task, close it. */
void store_world_session(struct store_world *world, void (*fn)(void *arg), void *arg);

/* While it is closed: prove that the files of partition @name are sound; fails the test unless it
 * is there just if it @exists. */
struct store_check store_world_check(const struct store_world *world, uint32_t root,
				     const char *name, bool exists);

/* Run fn(arg) as a task, and then everything until no task is left. */
void store_world_run(struct store_world *world, void (*fn)(void *arg), void *arg);

/* Start one more task from within a task. */
void store_world_spawn(struct store_world *world, void (*fn)(void *arg), void *arg);

/* For tasks: single operations with timestamps given (0: the store chooses). */
void store_world_put(struct store_world *world, uint32_t table_id, uint32_t partition,
		     const char *key, const void *value, uint32_t value_bytes, uint64_t timestamp);
enum eloq_write_outcome store_world_delete(struct store_world *world, uint32_t table_id,
					   uint32_t partition, const char *key, uint64_t timestamp);
/* Fails the test unless the key has just this value; NULL: unless it is absent. */
void store_world_expect(struct store_world *world, uint32_t table_id, uint32_t partition,
			const char *key, const void *value, uint32_t value_bytes);
/* A truncate or drop. */
void store_world_clear(struct store_world *world, uint32_t table_id, uint32_t partition,
		       enum eloq_write_kind kind);

#endif
