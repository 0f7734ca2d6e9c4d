/*
 * store_fault_test.c - every single I/O of a scenario fails in turn, and then some at random.
 *
 * The scenario is fixed by a seed: a store that has been worked on is opened, read, worked on and
 * closed, all on a disk on which one I/O fails, the first in the first run, the second in the
 * second, until a run has no such I/O any more. Whatever the engine answers then, it must not
 * crash, hang, or lose what it acknowledged: the next process, on a disk without faults (and in
 * every other run after a power cut), finds all of it, works, and leaves sound files.
 */
#include "tests/support/store_sim.h"
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>

enum {
	OPERATIONS = 40, /* of each client */
	CLIENTS = 2,
	VERIFY_TRIES = 5,
	SWEEP_MAX = 5000,
	STORM_SEEDS = 20,
	STORM_LIVES = 6,
	STORM_PER_MILLION = 8000,
};

static void client(void *arg)
{
	struct store_sim *sim = arg;

	for (unsigned i = 0; i < OPERATIONS && !store_sim_is_over(sim); i++)
		store_sim_any(sim);
}

static void work(void *arg)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		store_sim_spawn(arg, client);
}

/* A process on a disk without faults: everything works. */
static void live_well(struct store_sim *sim)
{
	sim->may_fail = false;
	store_sim_check(sim, store_sim_open(sim), "the store does not open");
	store_sim_check(sim, store_sim_verify(sim), "the store cannot be read");
	store_sim_run(sim, work);
	store_sim_close(sim);
}

/* A process on a disk with faults. What the store says of itself decides how it ends. */
static void live_badly(struct store_sim *sim)
{
	bool verified = false;

	sim->may_fail = true;
	if (!store_sim_open(sim))
		return;
	/* Work goes on from what is known to be there. A failed read may be tried again. */
	for (unsigned i = 0; i < VERIFY_TRIES && !verified && !store_sim_is_over(sim); i++)
		verified = store_sim_verify(sim);
	if (verified)
		store_sim_run(sim, work);
	if (eloq_store_is_poisoned(sim->store))
		eloq_io_sim_kill(sim->io);
	store_sim_close(sim);
}

static uint64_t faults_so_far(const struct store_sim *sim)
{
	struct eloq_sim_stats stats;

	eloq_sim_disk_get_stats(sim->disk, &stats);
	return stats.faults;
}

/* False if the scenario has less than @nth I/Os. */
static bool run_with_fault(uint64_t seed, bool append_mode, uint64_t nth, int error)
{
	const struct eloq_sim_fault fault = { .kinds = ELOQ_SIM_ANY_KIND,
					      .nth = nth,
					      .error = error };
	static struct store_sim sim;
	bool hit;

	store_sim_init(&sim, seed, append_mode);
	live_well(&sim);
	eloq_sim_disk_add_fault(sim.disk, &fault);
	live_badly(&sim);
	hit = faults_so_far(&sim) > 0;
	eloq_sim_disk_clear_faults(sim.disk);
	if (nth % 2)
		eloq_sim_disk_cut(sim.disk);
	live_well(&sim);
	store_sim_check_files(&sim);
	store_sim_fini(&sim);
	return hit;
}

static void sweep(bool append_mode, int error)
{
	uint64_t seed = test_seed();
	uint64_t nth = 1;

	while (run_with_fault(seed, append_mode, nth, error)) {
		nth++;
		ck_assert_uint_lt(nth, SWEEP_MAX);
	}
	printf("%llu I/Os failed in turn\n", (unsigned long long)nth - 1);
	ck_assert_uint_gt(nth, CLIENTS * OPERATIONS);
}

TEST(in_place_any_io_may_fail_with_eio)
{
	sweep(false, -EIO);
}

TEST(in_place_any_io_may_fail_with_enospc)
{
	sweep(false, -ENOSPC);
}

TEST(append_mode_any_io_may_fail_with_eio)
{
	sweep(true, -EIO);
}

TEST(append_mode_any_io_may_fail_with_enospc)
{
	sweep(true, -ENOSPC);
}

static void read_everything(void *arg)
{
	struct store_sim *sim = arg;

	for (uint32_t p = 0; p < STORE_SIM_PARTITIONS; p++)
		store_sim_scan(sim, p, 0, STORE_SIM_KEYS);
}

/* Reads go on while the disk is full, and writes when it is not any more, without a restart. */
static void run_full_disk(uint64_t seed, bool append_mode)
{
	const struct eloq_sim_fault full = {
		.kinds = ELOQ_SIM_KIND(ELOQ_IO_WRITE) | ELOQ_SIM_KIND(ELOQ_IO_ALLOCATE) |
			 ELOQ_SIM_KIND(ELOQ_IO_MKDIR),
		.nth = 20,
		.count = UINT64_MAX,
		.error = -ENOSPC,
	};
	static struct store_sim sim;

	store_sim_init(&sim, seed, append_mode);
	live_well(&sim);
	store_sim_check(&sim, store_sim_open(&sim), "the store does not open");
	sim.may_fail = true;
	eloq_sim_disk_add_fault(sim.disk, &full);
	store_sim_run(&sim, work);
	store_sim_check(&sim, sim.writes_failed > 0, "the disk never filled up");
	store_sim_check(&sim, !store_sim_is_over(&sim), "the store gave up");
	sim.may_fail = false;
	store_sim_run(&sim, read_everything);
	eloq_sim_disk_clear_faults(sim.disk);
	store_sim_run(&sim, work);
	store_sim_close(&sim);
	eloq_sim_disk_cut(sim.disk);
	live_well(&sim);
	store_sim_check_files(&sim);
	store_sim_fini(&sim);
}

TEST(a_full_disk_refuses_writes_keeps_reads_and_heals)
{
	uint64_t seed;

	for (unsigned i = 0; store_sim_seed(i, STORM_SEEDS, &seed); i++)
		run_full_disk(seed, seed % 2);
}

/* Faults of all kinds, short and interrupted transfers, cuts and kills, life after life. */
static void run_storm(uint64_t seed, bool append_mode)
{
	static struct store_sim sim;

	store_sim_init(&sim, seed, append_mode);
	live_well(&sim);
	for (unsigned i = 0; i < STORM_LIVES; i++) {
		eloq_sim_disk_set_short_transfers(sim.disk, 200000);
		eloq_sim_disk_add_fault(sim.disk,
					&(struct eloq_sim_fault){ .kinds = ELOQ_SIM_ANY_KIND,
								  .per_million = STORM_PER_MILLION,
								  .error = -EIO });
		eloq_sim_disk_add_fault(
			sim.disk, &(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_WRITE) |
								     ELOQ_SIM_KIND(ELOQ_IO_READ),
							    .per_million = 50000,
							    .error = -EINTR });
		if (eloq_prng_below(&sim.prng, 2))
			eloq_sim_disk_cut_at_io(sim.disk, 1 + eloq_prng_below(&sim.prng, 300));
		live_badly(&sim);
		eloq_sim_disk_cut_at_io(sim.disk, 0);
		eloq_sim_disk_clear_faults(sim.disk);
		if (i % 2)
			live_well(&sim);
	}
	store_sim_check_files(&sim);
	store_sim_fini(&sim);
}

TEST(a_storm_of_faults_loses_nothing_acknowledged)
{
	uint64_t seed;

	for (unsigned i = 0; store_sim_seed(i, STORM_SEEDS, &seed); i++)
		run_storm(seed, seed % 2);
}
