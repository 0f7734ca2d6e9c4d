/*
 * Everything mixed, from one seed, against a model: blocking and async calls, batches, scans, short
 * and long values, while workers die, answer late, and answer out of order.
 *
 * What may differ when a request was executed twice (a delete that finds nothing the second time)
 * is allowed for only while workers die.
 */
#include "client/eloqclient.h"
#include "common/prng.h"
#include "tests/support/fake_daemon.h"
#include "tests/unit/client_world.h"

enum { KEYS = 60, STEPS = 4000, WINDOW = 48 };

/* One submission and what must come of it. */
struct async_op {
	bool used;
	bool is_get;
	unsigned key;
	uint64_t expected; /* version of the value, 0: absent */
};

struct random_world {
	struct client_world client;
	struct eloq_prng prng;
	bool deaths;
	uint64_t versions[KEYS]; /* 0: absent; else what the value is made of */
	bool busy[KEYS];	 /* an async request is under way: others leave it alone */
	uint64_t next_version;
	struct async_op ops[WINDOW];
};

static uint64_t below(struct random_world *world, uint64_t bound)
{
	return eloq_prng_below(&world->prng, bound);
}

static size_t value_bytes(uint64_t version)
{
	static const size_t sizes[] = { 0,    1,    100,  100,	 100,	1020,
					1030, 5000, 8200, 17000, 70000, 300000 };

	return sizes[version % 12] + version % 7;
}

static size_t key_text(unsigned key, char *text, size_t text_bytes)
{
	return (size_t)snprintf(text, text_bytes, "key-%03u%.*s", key, (int)(key % 20),
				"....................");
}

static void expect_value(uint64_t version, const void *value, size_t bytes)
{
	uint8_t *expected = client_world_bytes(version, value_bytes(version));

	ck_assert_uint_eq(bytes, value_bytes(version));
	ck_assert(memcmp(value, expected, bytes) == 0);
	free(expected);
}

static unsigned pick_key(struct random_world *world)
{
	unsigned key = (unsigned)below(world, KEYS);

	while (world->busy[key])
		key = (key + 1) % KEYS;
	return key;
}

/* --- Blocking ----------------------------------------------------------------------------------
 */

static void do_get(struct random_world *world)
{
	unsigned key = pick_key(world);
	char text[32];
	size_t bytes = key_text(key, text, sizeof(text));
	struct eloq_value value = { 0 };
	int r = eloq_get(world->client.channel, world->client.table, text, bytes, &value, NULL);

	ck_assert_int_eq(r, world->versions[key] ? 0 : -ELOQ_CLIENT_ENOTFOUND);
	if (r == 0)
		expect_value(world->versions[key], value.data, value.bytes);
	eloq_value_free(&value);
}

static void do_put(struct random_world *world)
{
	unsigned key = pick_key(world);
	char text[32];
	size_t bytes = key_text(key, text, sizeof(text));
	uint64_t version = ++world->next_version;
	uint8_t *value = client_world_bytes(version, value_bytes(version));

	ck_assert_int_eq(eloq_put(world->client.channel, world->client.table, text, bytes, value,
				  value_bytes(version), NULL),
			 0);
	world->versions[key] = version;
	free(value);
}

static void expect_delete(const struct random_world *world, uint64_t version, int r)
{
	if (r == -ELOQ_CLIENT_ENOTFOUND && world->deaths)
		return;
	ck_assert_int_eq(r, version ? 0 : -ELOQ_CLIENT_ENOTFOUND);
}

static void do_delete(struct random_world *world)
{
	unsigned key = pick_key(world);
	char text[32];
	size_t bytes = key_text(key, text, sizeof(text));

	expect_delete(world, world->versions[key],
		      eloq_delete(world->client.channel, world->client.table, text, bytes, NULL));
	world->versions[key] = 0;
}

/* Some keys of one partition, in no order, some twice. */
static void do_batch(struct random_world *world)
{
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts) };
	uint32_t partition = (uint32_t)below(world, 8);
	struct eloq_batch *batch;

	ck_assert_int_eq(eloq_batch_new(&batch), 0);
	for (unsigned i = 0; i < 30; i++) {
		unsigned key = pick_key(world);
		char text[32];
		size_t bytes = key_text(key, text, sizeof(text));
		uint64_t version = below(world, 3) ? ++world->next_version : 0;
		uint8_t *value = client_world_bytes(version, value_bytes(version));

		if (eloq_table_partition(world->client.table, text, bytes) == partition) {
			if (version)
				ck_assert_int_eq(eloq_batch_put(batch, text, bytes, value,
								value_bytes(version), 0),
						 0);
			else
				ck_assert_int_eq(eloq_batch_delete(batch, text, bytes, 0), 0);
			world->versions[key] = version;
		}
		free(value);
	}
	ck_assert_int_eq(
		eloq_batch_write(world->client.channel, world->client.table, batch, NULL, &opts),
		0);
	eloq_batch_free(batch);
}

/* --- Async -------------------------------------------------------------------------------------
 */

static void do_submit(struct random_world *world)
{
	struct client_world *client = &world->client;
	unsigned key = pick_key(world), kind = (unsigned)below(world, 5);
	struct async_op *op = world->ops;
	char text[32];
	size_t bytes = key_text(key, text, sizeof(text));
	uint64_t version = kind == 0 ? 0 : world->next_version + 1;
	uint8_t *value;
	int r;

	while (op < world->ops + WINDOW && op->used)
		op++;
	if (op == world->ops + WINDOW)
		return;
	*op = (struct async_op){ .key = key,
				 .is_get = kind >= 3,
				 .expected = world->versions[key] };
	value = client_world_bytes(version, value_bytes(version));
	if (op->is_get)
		r = eloq_submit_get(client->channel, client->table, text, bytes, op, NULL);
	else if (version)
		r = eloq_submit_put(client->channel, client->table, text, bytes, value,
				    value_bytes(version), op, NULL);
	else
		r = eloq_submit_delete(client->channel, client->table, text, bytes, op, NULL);
	free(value);
	ck_assert(r == 0 || r == -EAGAIN);
	if (r < 0)
		return;
	op->used = true;
	world->busy[key] = true;
	if (op->is_get)
		return;
	world->next_version++;
	world->versions[key] = version;
}

static void take_completion(struct random_world *world, const struct eloq_completion *completion)
{
	struct async_op *op = completion->arg;
	bool is_delete = !op->is_get && world->versions[op->key] == 0;

	ck_assert(op->used);
	op->used = false;
	world->busy[op->key] = false;
	if (is_delete) {
		expect_delete(world, op->expected, completion->result);
	} else if (op->is_get && op->expected == 0) {
		ck_assert_int_eq(completion->result, -ELOQ_CLIENT_ENOTFOUND);
	} else {
		ck_assert_int_eq(completion->result, 0);
		if (op->is_get)
			expect_value(op->expected, completion->value, completion->value_bytes);
	}
}

static void do_poll(struct random_world *world, uint64_t timeout_ns)
{
	struct eloq_completion completions[16];
	unsigned max = 1 + (unsigned)below(world, 16);
	int n = eloq_poll(world->client.channel, completions, max, timeout_ns);

	ck_assert_int_ge(n, 0);
	for (int i = 0; i < n; i++)
		take_completion(world, &completions[i]);
}

/* --- Scans -------------------------------------------------------------------------------------
 */

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* With nothing under way, so that the model is the store. Keys sort as their texts. */
static void do_scan(struct random_world *world)
{
	static char texts[KEYS][32];
	const char *sorted[KEYS];
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
				       .page_bytes = (uint32_t)below(world, 100000) };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	unsigned count = 0;

	while (eloq_in_flight(world->client.channel) > 0)
		do_poll(world, UINT64_MAX);
	for (unsigned key = 0; key < KEYS; key++) {
		(void)key_text(key, texts[key], sizeof(texts[key]));
		if (world->versions[key])
			sorted[count++] = texts[key];
	}
	qsort(sorted, count, sizeof(sorted[0]), compare_texts);
	ck_assert_int_eq(eloq_scan_open(world->client.channel, world->client.table, &opts, &cursor),
			 0);
	for (unsigned i = 0; i < count; i++) {
		unsigned key = (unsigned)strtoul(sorted[i] + 4, NULL, 10);

		ck_assert_int_eq(eloq_scan_next(cursor, &entry), 1);
		ck_assert_uint_eq(entry.key_bytes, strlen(sorted[i]));
		ck_assert(memcmp(entry.key, sorted[i], entry.key_bytes) == 0);
		expect_value(world->versions[key], entry.value, entry.value_bytes);
	}
	ck_assert_int_eq(eloq_scan_next(cursor, &entry), 0);
	eloq_scan_close(cursor);
}

/* --- All ---------------------------------------------------------------------------------------
 */

static void step(struct random_world *world)
{
	uint64_t dice = below(world, 100);

	if (dice < 45)
		do_submit(world);
	else if (dice < 65)
		do_poll(world, below(world, 2) ? 0 : 1000000);
	else if (dice < 77)
		do_get(world);
	else if (dice < 89)
		do_put(world);
	else if (dice < 96)
		do_delete(world);
	else if (dice < 99)
		do_batch(world);
	else
		do_scan(world);
}

static void run(uint64_t seed, struct fake_daemon_opts opts)
{
	struct random_world world = { .deaths = opts.die_before || opts.die_after };

	eloq_prng_seed(&world.prng, seed);
	opts.seed = seed;
	client_world_open(&world.client, &opts);
	for (unsigned i = 0; i < STEPS; i++)
		step(&world);
	do_scan(&world);
	if (world.deaths)
		ck_assert_uint_gt(client_world_figures(&world.client).deaths, 10);
	client_world_close(&world.client);
}

TEST(any_mix_of_calls_agrees_with_a_model)
{
	run(test_seed(), (struct fake_daemon_opts){ .late = 200 });
}

TEST(any_mix_of_calls_agrees_with_a_model_while_workers_die)
{
	run(test_seed(), (struct fake_daemon_opts){
				 .late = 200, .die_before = 10, .die_after = 10, .dead_turns = 3 });
}

TEST(any_mix_of_calls_agrees_with_a_model_on_the_smallest_rings)
{
	run(test_seed(), (struct fake_daemon_opts){ .shard_count = 1,
						    .req_ring_bytes = ELOQ_RING_BYTES_MIN,
						    .ans_ring_bytes = ELOQ_RING_BYTES_MIN,
						    .late = 400,
						    .die_before = 5,
						    .die_after = 5 });
}
