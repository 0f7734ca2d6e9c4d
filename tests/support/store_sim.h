/*
 * store_sim.h - the engine on a simulated disk, and a model that knows what it may hold.
 *
 * Idea: every write has a timestamp of its own, and key number and timestamp give the value's
 * length and bytes. So the state of a partition is one timestamp for each key, and what is read
 * proves which write it came from. The model keeps what was answered with success, and the tail of
 * writes that were asked for since and were not: still on their way, or failed.
 *
 * Checked at every read: it shows what had been answered when it began, or that plus some of what
 * was on its way, in order. Checked after a restart: each partition holds what was answered plus a
 * prefix of its tail, each key once, bytes and all. While nothing was cut, killed or made to
 * fail, nothing fails. A write that failed while its process lived, and not by a sync, is void: no
 * restart may show it either. Whether a drop that failed took effect is open until it is seen.
 *
 * Everything depends on the seed alone. A test that fails names it: see store_sim_seed(). With
 * ELOQ_SIM_TRACE set every I/O and every write that a restart finds undecided is printed.
 */
#ifndef ELOQ_TESTS_SUPPORT_STORE_SIM_H
#define ELOQ_TESTS_SUPPORT_STORE_SIM_H

#include "common/prng.h"
#include "daemon/io/io_sim.h"
#include "daemon/store/store.h"

enum { STORE_SIM_PARTITIONS = 3, STORE_SIM_KEYS = 400, STORE_SIM_BATCH_MAX = 32 };

struct store_sim_write;

/* Of each key the timestamp of what is stored, 0: absent. */
struct store_sim_state {
	uint64_t timestamps[STORE_SIM_KEYS];
};

struct store_sim_partition {
	struct store_sim_state acked; /* after everything that succeeded */
	struct store_sim_state other; /* the same, if the drop that failed took effect */
	bool drop_failed;
	struct store_sim_write **log; /* of this life, in the order of submission */
	uint32_t log_count;
	uint32_t answered; /* of the log */
	uint32_t tail;	   /* behind the last one that succeeded */
};

struct store_sim {
	uint64_t seed;
	struct eloq_prng prng; /* of the work; the disk has its own */
	struct eloq_sim_disk *disk;
	struct eloq_store_opts opts; /* may be changed while the store is closed */
	bool may_fail;		     /* the test put in faults: any I/O may fail */

	/* While it is open. */
	struct eloq_io *io;
	struct eloq_sched *sched;
	struct eloq_store *store;
	struct eloq_io_file *root;

	struct store_sim_partition partitions[STORE_SIM_PARTITIONS];
	bool is_verified; /* by the last store_sim_verify() */
	uint64_t last_timestamp;
	uint64_t writes_acked, writes_failed, reads;
};

/* A disk and a shape of the store, both drawn from @seed. */
void store_sim_init(struct store_sim *sim, uint64_t seed, bool append_mode);
void store_sim_fini(struct store_sim *sim);

/* Seed number @index of a test, or false: that was the last one. TEST_SEED names the first one and
 * then is the only one, unless ELOQ_SIM_SEEDS says how many; without that there are @count. */
bool store_sim_seed(unsigned index, unsigned count, uint64_t *ret_seed);

/* A process begins: opens the store and adds the table. Fails only if it dies meanwhile or
 * may_fail; then everything is closed again. */
bool store_sim_open(struct store_sim *sim);
/* The process ends, as cleanly as it can. */
void store_sim_close(struct store_sim *sim);
/* It is dead, or the store wants it to leave. */
bool store_sim_is_over(const struct store_sim *sim);

/* Run fn(sim) as a task, and then everything until no task is left; a hang fails the test. */
void store_sim_run(struct store_sim *sim, void (*fn)(void *sim));
/* One more task, from within a task or before store_sim_run(). */
void store_sim_spawn(struct store_sim *sim, void (*fn)(void *sim));

/* --- For tasks -------------------------------------------------------------------------------- */

/* A batch with a value for each of @count numbers, ascending; those with @is_delete are removed.
 * With @wait until it is answered. */
void store_sim_batch(struct store_sim *sim, uint32_t partition, const uint32_t *numbers,
		     const bool *is_delete, uint32_t count, bool wait);
void store_sim_clear(struct store_sim *sim, uint32_t partition, enum eloq_write_kind kind);
void store_sim_get(struct store_sim *sim, uint32_t partition, uint32_t number);
/* Keys number @from and above but below @to. */
void store_sim_scan(struct store_sim *sim, uint32_t partition, uint32_t from, uint32_t to);

/* One operation of any of these kinds, drawn from the seed. */
void store_sim_any(struct store_sim *sim);

/* --- After a restart -------------------------------------------------------------------------- */

/* Compare all with the model, which from here on believes what was found. Runs tasks. False if
 * something could not be read; the model is as before then. */
bool store_sim_verify(struct store_sim *sim);

/* While it is closed: the files on the disk are sound (store_check.h) and hold what they should. */
void store_sim_check_files(struct store_sim *sim);

#define store_sim_check(sim, condition, ...)                          \
	do {                                                          \
		if (!(condition))                                     \
			store_sim_fail(sim, #condition, __VA_ARGS__); \
	} while (0)
void store_sim_fail(const struct store_sim *sim, const char *condition, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));

#endif
