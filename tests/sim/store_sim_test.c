/*
 * store_sim_test.c - random work on the engine, cut or killed anywhere, over and over, from a seed.
 *
 * Each seed is a store of its own shape on a disk of its own. It lives several times: some lives
 * end by a power cut at a random I/O, some by kill -9 with a successor that begins while late
 * writes may still land (after it has waited for the lock), some cleanly; some are cut again while
 * they recover. After each, all is verified against the model (store_sim.h), and the next one goes
 * on with the work. In the end the files are proven sound without the engine.
 *
 * ELOQ_SIM_SEEDS=n runs n seeds; TEST_SEED=n runs that one; both: n seeds from that one on.
 */
#include "tests/support/store_sim.h"
#include "tests/support/test.h"

#include <stdio.h>

enum {
	SEEDS = 50, /* in each write mode */
	LIVES = 4,
	OPERATIONS = 75, /* in each life, over all clients */
	CLIENTS = 5,
	LOCK = 0,
};

static uint64_t below(struct store_sim *sim, uint64_t bound)
{
	return eloq_prng_below(&sim->prng, bound);
}

static void client(void *arg)
{
	struct store_sim *sim = arg;

	for (unsigned i = 0; i < OPERATIONS / CLIENTS && !store_sim_is_over(sim); i++)
		store_sim_any(sim);
}

static void start_clients(void *arg)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		store_sim_spawn(arg, client);
}

/* How this life will end. The work of one takes some hundreds of I/Os. */
static void plan_death(struct store_sim *sim)
{
	uint64_t at = 1 + below(sim, below(sim, 2) ? 60 : 600);

	switch (below(sim, 4)) {
	case 0:
		break; /* of old age */
	case 1:
		eloq_io_sim_kill_at_io(sim->io, at);
		break;
	default:
		eloq_sim_disk_cut_at_io(sim->disk, at);
		break;
	}
}

/* One process. Recovery is cut short now and then. */
static void live(struct store_sim *sim)
{
	if (below(sim, 3) == 0)
		eloq_sim_disk_cut_at_io(sim->disk, 1 + below(sim, 40));
	eloq_sim_disk_wait_until_free(sim->disk, LOCK);
	if (!store_sim_open(sim))
		return;
	ck_assert_int_eq(eloq_io_hold(sim->io, LOCK), 0);
	if (store_sim_verify(sim)) {
		eloq_sim_disk_cut_at_io(sim->disk, 0);
		plan_death(sim);
		store_sim_run(sim, start_clients);
	}
	store_sim_close(sim);
	eloq_sim_disk_cut_at_io(sim->disk, 0);
}

static void last_life(struct store_sim *sim)
{
	eloq_sim_disk_wait_until_free(sim->disk, LOCK);
	store_sim_check(sim, store_sim_open(sim), "the store does not open");
	store_sim_check(sim, store_sim_verify(sim), "the store cannot be read");
	store_sim_run(sim, start_clients);
	store_sim_close(sim);
	store_sim_check_files(sim);
}

/* What happened over all seeds: if some of it never does, the test has lost its teeth. */
struct totals {
	uint64_t acked, failed, cuts, kills, late, lost, torn;
};

static void run_seed(uint64_t seed, bool append_mode, struct totals *totals)
{
	struct eloq_sim_stats stats;
	static struct store_sim sim;

	store_sim_init(&sim, seed, append_mode);
	for (unsigned i = 0; i < LIVES - 1; i++)
		live(&sim);
	last_life(&sim);
	eloq_sim_disk_get_stats(sim.disk, &stats);
	totals->acked += sim.writes_acked;
	totals->failed += sim.writes_failed;
	totals->cuts += stats.cuts;
	totals->kills += stats.kills;
	totals->late += stats.late_landed;
	totals->lost += stats.writes_lost;
	totals->torn += stats.writes_torn;
	store_sim_fini(&sim);
}

static void run_seeds(bool append_mode)
{
	struct totals totals = { 0 };
	uint64_t seed;
	unsigned i;

	for (i = 0; store_sim_seed(i, SEEDS, &seed); i++)
		run_seed(seed, append_mode, &totals);
	printf("%u seeds: %llu writes acknowledged, %llu failed, %llu cuts, %llu kills, "
	       "%llu late, %llu lost, %llu torn\n",
	       i, (unsigned long long)totals.acked, (unsigned long long)totals.failed,
	       (unsigned long long)totals.cuts, (unsigned long long)totals.kills,
	       (unsigned long long)totals.late, (unsigned long long)totals.lost,
	       (unsigned long long)totals.torn);
	if (i < SEEDS)
		return;
	ck_assert(totals.acked > i * 50 && totals.failed > 0);
	ck_assert(totals.cuts > i / 2 && totals.kills > i / 5);
	ck_assert(totals.late > 0 && totals.lost > 0 && totals.torn > 0);
}

TEST(in_place_every_acknowledged_write_survives_cuts_and_kills)
{
	run_seeds(false);
}

TEST(append_mode_every_acknowledged_write_survives_cuts_and_kills)
{
	run_seeds(true);
}

static void put_one(void *sim)
{
	store_sim_batch(sim, 0, (const uint32_t[]){ 7 }, (const bool[]){ false }, 1, true);
}

static void drop(void *sim)
{
	store_sim_clear(sim, 0, ELOQ_WRITE_DROP);
}

static void open_and_verify(struct store_sim *sim)
{
	store_sim_check(sim, store_sim_open(sim), "the store does not open");
	store_sim_check(sim, store_sim_verify(sim), "the store cannot be read");
}

/* The dropping process dies at its k-th I/O, the next one tells what is there, then power fails. */
static void run_killed_drop(uint64_t seed, uint64_t k)
{
	static struct store_sim sim;

	store_sim_init(&sim, seed, false);
	open_and_verify(&sim);
	store_sim_run(&sim, put_one);
	eloq_io_sim_kill_at_io(sim.io, k);
	store_sim_run(&sim, drop);
	store_sim_close(&sim);
	eloq_sim_disk_advance(sim.disk, ELOQ_NS_PER_S);
	open_and_verify(&sim);
	store_sim_close(&sim);
	eloq_sim_disk_cut(sim.disk);
	open_and_verify(&sim);
	store_sim_close(&sim);
	store_sim_fini(&sim);
}

TEST(a_dropped_partition_that_was_seen_gone_does_not_come_back)
{
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < 10; i++)
		for (uint64_t k = 1; k <= 12; k++)
			run_killed_drop(seed + i, k);
}

static uint64_t hash_of(uint64_t seed)
{
	static struct store_sim sim;
	uint64_t hash;

	store_sim_init(&sim, seed, false);
	live(&sim);
	live(&sim);
	hash = eloq_sim_disk_trace_hash(sim.disk);
	store_sim_fini(&sim);
	return hash;
}

TEST(a_seed_replays_to_the_last_byte)
{
	uint64_t seed = test_seed();

	ck_assert_uint_eq(hash_of(seed), hash_of(seed));
	ck_assert_uint_ne(hash_of(seed), hash_of(seed + 1));
}
