/*
 * kill_test.c - kill -9 of everybody in turn, under load, and what clients see of it.
 *
 * Client processes write keys of their own with several requests in flight and note in memory
 * shared with the test what was submitted and what was acknowledged: for each key the highest
 * version of either. A put's value is decided by its key and version, so afterwards each key must
 * hold a version between those two. Killing a worker may cost time only: every call succeeds.
 */
#include "common/prng.h"
#include "tests/support/service.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	LOADERS = 4,
	LOADER_KEYS = 24,
	LOADER_FLIGHT = 8,
	LOADER_LONG_KEYS = 3, /* of LOADER_KEYS: 1 MiB values, the rest 100 bytes */
	LONG_BYTES = 1 << 20,
	SHORT_BYTES = 100,
	WORKER_KILLS = 20,
};

struct key_state {
	_Atomic uint32_t submitted, acknowledged; /* versions from 1 */
};

/* Shared by the test and its client processes. */
struct load {
	struct daemon daemon;
	uint64_t seed;
	_Atomic bool stop;
	_Atomic uint64_t connected;	  /* loaders, ever */
	_Atomic uint64_t acknowledged;	  /* by all loaders */
	_Atomic uint64_t by_one_sided[2]; /* acknowledged by the client that uses only shard N */
	struct key_state keys[LOADERS][LOADER_KEYS];
	bool may_lose_daemon; /* then calls may fail */
};

struct loader {
	struct load *load;
	unsigned number;
};

static struct load *load_new(const char *io, unsigned shards)
{
	struct load *load = mmap(NULL, sizeof(*load), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(load, MAP_FAILED);
	load->seed = test_seed();
	daemon_init(&load->daemon, io, shards);
	return load;
}

static void load_key(char *key, unsigned loader, unsigned number)
{
	(void)sprintf(key, "load-%u-%02u", loader, number);
}

static size_t load_value_bytes(unsigned number)
{
	return number < LOADER_LONG_KEYS ? LONG_BYTES : SHORT_BYTES;
}

/* The first word is the version, the rest follows from it. */
static void load_fill(uint8_t *value, unsigned loader, unsigned number, uint32_t version)
{
	uint64_t word = version;

	memcpy(value, &word, sizeof(word));
	service_fill(value + sizeof(word), load_value_bytes(number) - sizeof(word),
		     (uint64_t)loader << 48 | (uint64_t)number << 32 | version);
}

/* --- The client processes ------------------------------------------------------------------------
 */

struct slot {
	unsigned key;
	uint32_t version;
	bool busy;
};

static void loader_note(struct loader *loader, struct slot *slot)
{
	atomic_store(&loader->load->keys[loader->number][slot->key].acknowledged, slot->version);
	atomic_fetch_add(&loader->load->acknowledged, 1);
	slot->busy = false;
}

/* Workers that lose their supervisor refuse what they have not taken. */
static bool loader_was_left(const struct loader *loader, int result)
{
	return loader->load->may_lose_daemon &&
	       (result == -ELOQ_CLIENT_ECLOSED || result == -ELOQ_CLIENT_ESTOPPED);
}

/* False: the daemon is gone, which was to be expected. */
static bool loader_collect(struct loader *loader, struct service *s, uint64_t timeout_ns)
{
	struct eloq_completion done[LOADER_FLIGHT];
	int count = eloq_poll(s->channel, done, LOADER_FLIGHT, timeout_ns);

	if (loader_was_left(loader, count))
		return false;
	ck_assert_msg(count >= 0, "poll: %s", eloq_strerror(count));
	for (int i = 0; i < count; i++) {
		if (loader_was_left(loader, done[i].result))
			return false;
		ck_assert_msg(done[i].result == 0, "put: %s", eloq_strerror(done[i].result));
		loader_note(loader, done[i].arg);
	}
	return true;
}

/* One key has at most one put in flight, so that its acknowledged version only grows. */
static bool loader_submit(struct loader *loader, struct service *s, struct slot *slots,
			  struct eloq_prng *prng, uint8_t *value)
{
	unsigned key = (unsigned)eloq_prng_below(prng, LOADER_KEYS);
	struct slot *free_slot = NULL;
	struct key_state *state = &loader->load->keys[loader->number][key];
	char name[32];
	int r;

	for (unsigned i = 0; i < LOADER_FLIGHT; i++) {
		if (slots[i].busy && slots[i].key == key)
			return true;
		if (!slots[i].busy)
			free_slot = &slots[i];
	}
	if (!free_slot)
		return loader_collect(loader, s, UINT64_MAX);
	*free_slot = (struct slot){ key, atomic_load(&state->submitted) + 1, true };
	load_key(name, loader->number, key);
	load_fill(value, loader->number, key, free_slot->version);
	atomic_store(&state->submitted, free_slot->version);
	while ((r = eloq_submit_put(s->channel, s->table, name, strlen(name), value,
				    load_value_bytes(key), free_slot, NULL)) == -EAGAIN)
		if (!loader_collect(loader, s, UINT64_MAX))
			return false;
	if (loader_was_left(loader, r))
		return false;
	ck_assert_msg(r == 0, "submit: %s", eloq_strerror(r));
	return true;
}

static void loader_run(void *arg)
{
	struct loader *loader = arg;
	struct service s = { .daemon = loader->load->daemon };
	struct slot slots[LOADER_FLIGHT] = { 0 };
	uint8_t *value = malloc(LONG_BYTES);
	struct eloq_prng prng;
	bool served = true;

	ck_assert_ptr_nonnull(value);
	eloq_prng_seed(&prng, loader->load->seed + loader->number);
	service_connect(&s);
	atomic_fetch_add(&loader->load->connected, 1);
	while (served && !atomic_load(&loader->load->stop))
		served = loader_submit(loader, &s, slots, &prng, value);
	while (served && eloq_in_flight(s.channel) > 0)
		served = loader_collect(loader, &s, UINT64_MAX);
	free(value);
	service_disconnect(&s);
}

/* A client with keys of one shard only: counts its puts, which must all succeed. */
static void one_sided_run(void *arg)
{
	struct loader *one = arg;
	struct service s = { .daemon = one->load->daemon };
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts),
				     .partition_set = 1,
				     .partition = one->number };

	service_connect(&s);
	while (!atomic_load(&one->load->stop)) {
		int r = eloq_put(s.channel, s.table, "one-sided", 9, "v", 1, &opts);

		ck_assert_msg(r == 0, "put: %s", eloq_strerror(r));
		atomic_fetch_add(&one->load->by_one_sided[one->number], 1);
	}
	service_disconnect(&s);
}

/* --- The test's side -----------------------------------------------------------------------------
 */

struct crew {
	struct loader loaders[LOADERS], one_sided[2];
	pid_t loader_pids[LOADERS], one_sided_pids[2];
};

static void crew_join(struct crew *crew, struct load *load)
{
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < LOADERS; i++)
		daemon_join(crew->loader_pids[i]);
}

struct awaited {
	_Atomic uint64_t *counter;
	uint64_t value;
};

static bool has_reached(void *arg)
{
	const struct awaited *awaited = arg;

	return atomic_load(awaited->counter) >= awaited->value;
}

/* Wait until @count more of what @counter counts. */
static void await_progress(_Atomic uint64_t *counter, uint64_t count, const char *what)
{
	struct awaited awaited = { counter, atomic_load(counter) + count };

	daemon_wait_until(has_reached, &awaited, what);
}

static void crew_start(struct crew *crew, struct load *load)
{
	struct awaited all = { &load->connected, atomic_load(&load->connected) + LOADERS };

	atomic_store(&load->stop, false);
	for (unsigned i = 0; i < LOADERS; i++) {
		crew->loaders[i] = (struct loader){ load, i };
		crew->loader_pids[i] = daemon_fork(loader_run, &crew->loaders[i]);
	}
	/* Who is still on the way in when the daemon is killed has nothing to tell. */
	daemon_wait_until(has_reached, &all, "all loaders");
}

/* Every key holds a version that was submitted and is not older than the last acknowledged one. */
static void assert_nothing_lost(struct load *load)
{
	struct service s = { .daemon = load->daemon };
	uint8_t *expected = malloc(LONG_BYTES);
	char name[32];

	ck_assert_ptr_nonnull(expected);
	service_connect(&s);
	for (unsigned l = 0; l < LOADERS; l++) {
		for (unsigned k = 0; k < LOADER_KEYS; k++) {
			uint32_t acknowledged = atomic_load(&load->keys[l][k].acknowledged);
			uint32_t submitted = atomic_load(&load->keys[l][k].submitted);
			struct eloq_value got = { 0 };
			uint64_t version;
			int r;

			load_key(name, l, k);
			r = eloq_get(s.channel, s.table, name, strlen(name), &got, NULL);
			if (acknowledged == 0 && r == -ELOQ_CLIENT_ENOTFOUND)
				continue;
			ck_assert_msg(r == 0, "%s, acknowledged version %u: %s", name, acknowledged,
				      eloq_strerror(r));
			ck_assert_uint_eq(got.bytes, load_value_bytes(k));
			memcpy(&version, got.data, sizeof(version));
			ck_assert_msg(version >= acknowledged && version <= submitted,
				      "%s holds version %u, not %u to %u", name, (unsigned)version,
				      acknowledged, submitted);
			load_fill(expected, l, k, (uint32_t)version);
			ck_assert_msg(memcmp(got.data, expected, got.bytes) == 0,
				      "%s has a torn value", name);
			/* The next round's versions go on from here. */
			atomic_store(&load->keys[l][k].acknowledged, (uint32_t)version);
			eloq_value_free(&got);
		}
	}
	free(expected);
	service_disconnect(&s);
}

/* --- A worker ------------------------------------------------------------------------------------
 */

TEST_ON_BOTH(twenty_killed_workers_cost_clients_time_and_nothing_else)
{
	struct load *load = load_new(io, 2);
	struct crew crew;
	struct eloq_prng prng;

	load->daemon.extra = "--restart_delay_max 50ms";
	eloq_prng_seed(&prng, load->seed);
	daemon_start(&load->daemon);
	crew_start(&crew, load);
	for (unsigned i = 0; i < 2; i++) {
		crew.one_sided[i] = (struct loader){ load, i };
		crew.one_sided_pids[i] = daemon_fork(one_sided_run, &crew.one_sided[i]);
	}
	for (unsigned kills = 0; kills < WORKER_KILLS; kills++) {
		unsigned shard = (unsigned)eloq_prng_below(&prng, 2);
		pid_t victim;

		await_progress(&load->acknowledged, 1 + eloq_prng_below(&prng, 40), "progress");
		victim = daemon_wait_worker(&load->daemon, shard, 0);
		ck_assert_int_eq(kill(victim, SIGKILL), 0);
		await_progress(&load->by_one_sided[1 - shard], 3, "progress of the other shard");
		(void)daemon_wait_worker(&load->daemon, shard, victim);
		await_progress(&load->by_one_sided[shard], 1, "progress of the killed shard");
	}
	await_progress(&load->acknowledged, 20, "progress after the last kill");
	crew_join(&crew, load);
	for (unsigned i = 0; i < 2; i++)
		daemon_join(crew.one_sided_pids[i]);
	ck_assert_uint_eq(daemon_stat(&load->daemon, NULL, "restarts"), WORKER_KILLS);
	assert_nothing_lost(load);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
	daemon_start(&load->daemon);
	assert_nothing_lost(load);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
}

/* The one worker is held where it is: the other goes on although nobody replaces the first. */
TEST_ON_BOTH(while_one_worker_stands_still_the_other_serves)
{
	struct load *load = load_new(io, 2);
	struct loader one = { load, 1 };
	pid_t held, pid;

	daemon_start(&load->daemon);
	pid = daemon_fork(one_sided_run, &one);
	await_progress(&load->by_one_sided[1], 5, "progress");
	held = daemon_wait_worker(&load->daemon, 0, 0);
	ck_assert_int_eq(kill(held, SIGSTOP), 0);
	await_progress(&load->by_one_sided[1], 100, "progress beside a worker that stands still");
	ck_assert_int_eq(kill(held, SIGCONT), 0);
	atomic_store(&load->stop, true);
	daemon_join(pid);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
}

TEST_ON_BOTH(a_worker_that_hangs_is_replaced_and_its_clients_go_on)
{
	struct load *load = load_new(io, 2);
	struct crew crew;
	pid_t hung;

	load->daemon.extra = "--heartbeat_timeout 1s";
	daemon_start(&load->daemon);
	crew_start(&crew, load);
	for (unsigned shard = 0; shard < 2; shard++) {
		await_progress(&load->acknowledged, 20, "progress");
		hung = daemon_wait_worker(&load->daemon, shard, 0);
		ck_assert_int_eq(kill(hung, SIGSTOP), 0);
		(void)daemon_wait_worker(&load->daemon, shard, hung);
		await_progress(&load->acknowledged, 50, "progress after the hung worker");
	}
	crew_join(&crew, load);
	assert_nothing_lost(load);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
}

/* --- A client ------------------------------------------------------------------------------------
 */

struct lanes_are {
	const struct daemon *daemon;
	uint64_t lanes;
};

static bool lanes_are(void *arg)
{
	const struct lanes_are *awaited = arg;

	return daemon_stat(awaited->daemon, NULL, "lanes") == awaited->lanes &&
	       daemon_stat(awaited->daemon, "total", "lanes") == awaited->lanes;
}

TEST_ON_BOTH(clients_killed_amid_their_requests_leave_no_lanes_and_disturb_nobody)
{
	struct load *load = load_new(io, 2);
	struct service s = { .daemon = { .dir = "" } };
	struct lanes_are own, memory;
	uint64_t lane_memory;

	daemon_start(&load->daemon);
	s.daemon = load->daemon;
	service_connect(&s);
	for (char key = 'a'; key <= 'z'; key++)
		ck_assert_int_eq(eloq_put(s.channel, s.table, &key, 1, "v", 1, NULL), 0);
	own = (struct lanes_are){ &s.daemon, 2 };
	daemon_wait_until(lanes_are, &own, "only the lanes of this client");
	lane_memory = daemon_stat(&s.daemon, NULL, "lane_memory");
	for (unsigned round = 0; round < 3; round++) {
		struct crew crew;

		crew_start(&crew, load);
		await_progress(&load->acknowledged, 30, "progress");
		for (unsigned i = 0; i < LOADERS; i++)
			ck_assert_int_eq(kill(crew.loader_pids[i], SIGKILL), 0);
		for (unsigned i = 0; i < LOADERS; i++)
			ck_assert_int_eq(waitpid(crew.loader_pids[i], NULL, 0),
					 crew.loader_pids[i]);
		service_put_text(&s, "still", "served");
		service_expect_text(&s, "still", "served");
		daemon_wait_until(lanes_are, &own, "the lanes of the dead are free");
		assert_nothing_lost(load);
	}
	memory = own;
	daemon_wait_until(lanes_are, &memory, "the checker's lanes are free");
	ck_assert_uint_eq(daemon_stat(&s.daemon, NULL, "lane_memory"), lane_memory);
	ck_assert_uint_eq(daemon_stat(&s.daemon, NULL, "restarts"), 0);
	service_disconnect(&s);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
}

/* --- The supervisor, and everybody ---------------------------------------------------------------
 */

static void kill_and_look(const char *io, unsigned rounds, void (*end)(struct daemon *daemon))
{
	struct load *load = load_new(io, 2);
	struct eloq_prng prng;

	load->may_lose_daemon = true;
	eloq_prng_seed(&prng, load->seed);
	for (unsigned round = 0; round < rounds; round++) {
		struct crew crew;

		daemon_start(&load->daemon);
		if (round > 0)
			assert_nothing_lost(load);
		crew_start(&crew, load);
		await_progress(&load->acknowledged, 20 + eloq_prng_below(&prng, 100), "progress");
		end(&load->daemon);
		crew_join(&crew, load);
	}
	daemon_start(&load->daemon);
	assert_nothing_lost(load);
	ck_assert_int_eq(daemon_stop(&load->daemon), 0);
}

/* Its workers are still there when the next daemon starts: it has to wait for their locks. */
TEST_ON_BOTH(a_killed_supervisor_loses_no_acknowledged_put)
{
	kill_and_look(io, 4, daemon_kill);
}

TEST_ON_BOTH(everybody_killed_at_once_loses_no_acknowledged_put)
{
	kill_and_look(io, 6, daemon_kill_everything);
}

struct holder {
	const struct daemon *daemon;
	pid_t supervisor, held;
};

static bool somebody_waits(void *arg)
{
	const struct holder *holder = arg;

	return daemon_log_has(holder->daemon, "wal/shard-000/lock");
}

/*
 * Holds a worker, kills its supervisor, and lets the worker go when a new daemon says that it
 * waits. As a member of the worker's process group it keeps that group from becoming orphaned, for
 * the kernel wakes stopped members of such groups.
 */
static void holder_run(void *arg)
{
	const struct holder *holder = arg;

	ck_assert_int_eq(setpgid(0, holder->held), 0);
	ck_assert_int_eq(kill(holder->held, SIGSTOP), 0);
	ck_assert_int_eq(kill(holder->supervisor, SIGKILL), 0);
	daemon_wait_until(somebody_waits, arg, "a daemon that waits");
	ck_assert_int_eq(kill(holder->held, SIGCONT), 0);
}

TEST_ON_BOTH(a_new_daemon_waits_for_the_workers_of_a_killed_one)
{
	struct service s;
	struct holder holder;
	pid_t pid;

	service_start(&s, io, 2);
	service_put_text(&s, "k", "v");
	service_disconnect(&s);
	holder = (struct holder){ &s.daemon, s.daemon.pid, daemon_wait_worker(&s.daemon, 0, 0) };
	pid = daemon_fork(holder_run, &holder);
	ck_assert_int_eq(daemon_wait(&s.daemon), 128 + SIGKILL);
	daemon_start(&s.daemon);
	daemon_join(pid);
	service_connect(&s);
	service_expect_text(&s, "k", "v");
	service_stop(&s);
}
