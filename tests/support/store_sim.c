/*
 * store_sim.c - see store_sim.h.
 */
#include "tests/support/store_sim.h"

#include "common/limits.h"
#include "daemon/format/key.h"
#include "tests/support/store_check.h"
#include "tests/support/test.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIM_TASKS = 48, SIM_DEPTH = 64, SIM_LOG_MAX = 4096, SIM_VALUE_BYTES_MAX = 50 << 10 };

struct store_sim_write {
	struct eloq_write write;
	struct eloq_write_entry entries[STORE_SIM_BATCH_MAX];
	uint32_t numbers[STORE_SIM_BATCH_MAX];
	uint64_t timestamp;
	struct store_sim *sim;
	struct eloq_task *waiter;
	bool is_answered;
	bool is_void; /* failed for good: not even a restart may show it */
};

/* ---- seeds, and how a failure names its own --------------------------------------------- */

static char sim_seed_line[64];

/* A seed is of use only if it is known after an abort, too. */
static void sim_tell_seed(int signal_number)
{
	if (write(STDERR_FILENO, sim_seed_line, strlen(sim_seed_line)) < 0)
		_exit(EXIT_FAILURE);
	(void)signal(signal_number, SIG_DFL);
	(void)raise(signal_number);
}

void store_sim_fail(const struct store_sim *sim, const char *condition, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ck_abort_msg("%s: %s (TEST_SEED=%" PRIu64 ")", condition, text, sim->seed);
}

bool store_sim_seed(unsigned index, unsigned count, uint64_t *ret_seed)
{
	static uint64_t first;
	const char *seeds = getenv("ELOQ_SIM_SEEDS");

	if (index == 0)
		first = test_seed();
	if (seeds)
		count = (unsigned)strtoul(seeds, NULL, 0);
	else if (getenv("TEST_SEED"))
		count = 1;
	*ret_seed = first + index;
	return index < count;
}

/* ---- keys and values -------------------------------------------------------------------- */

static uint64_t sim_mix(uint64_t a, uint64_t b)
{
	struct eloq_prng prng = { a * UINT64_C(0x9E3779B97F4A7C15) ^ b };

	return eloq_prng_next(&prng);
}

/* Ascending with @number; one in 16 is long, so that inner pages hold few of them. */
static uint32_t sim_key(uint32_t number, uint8_t *ret_key)
{
	uint64_t mix = sim_mix(number, 1);
	uint32_t bytes = 5 + (uint32_t)(mix % 16 == 0 ? mix / 16 % 1500 : mix / 16 % 40);

	(void)snprintf((char *)ret_key, 8, "%05u", number);
	memset(ret_key + 5, 'k', bytes - 5);
	return bytes;
}

static uint32_t sim_value_bytes(uint32_t number, uint64_t timestamp)
{
	uint64_t mix = sim_mix(number, timestamp);

	switch (mix % 32) {
	case 0:
		return (uint32_t)(mix / 32 % (SIM_VALUE_BYTES_MAX + 1));
	case 1:
	case 2:
		return 3900 + (uint32_t)(mix / 32 % 300); /* around a page */
	case 3:
		return 0;
	default:
		return (uint32_t)(mix / 32 % 250);
	}
}

static uint8_t *sim_value(uint32_t number, uint64_t timestamp)
{
	uint32_t bytes = sim_value_bytes(number, timestamp);
	struct eloq_prng prng = { sim_mix(timestamp, number) };
	uint8_t *value = malloc(bytes + 8);

	ck_assert_ptr_nonnull(value);
	for (uint32_t i = 0; i < bytes; i += 8) {
		uint64_t word = eloq_prng_next(&prng);

		memcpy(value + i, &word, 8);
	}
	return value;
}

/* What was found is what a write with this timestamp wrote. */
static void sim_check_value(const struct store_sim *sim, uint32_t number, uint64_t timestamp,
			    const uint8_t *value, uint32_t bytes)
{
	uint8_t *expected = sim_value(number, timestamp);

	store_sim_check(sim, timestamp > 0 && timestamp <= sim->last_timestamp,
			"key %u: timestamp %" PRIu64 " was never asked for", number, timestamp);
	store_sim_check(sim, bytes == sim_value_bytes(number, timestamp),
			"key %u: %u bytes, timestamp %" PRIu64, number, bytes, timestamp);
	store_sim_check(sim, bytes == 0 || memcmp(value, expected, bytes) == 0,
			"key %u: other bytes, timestamp %" PRIu64, number, timestamp);
	free(expected);
}

/* ---- opening and closing ---------------------------------------------------------------- */

void store_sim_init(struct store_sim *sim, uint64_t seed, bool append_mode)
{
	static const uint32_t page_sizes[] = { 4096, 4096, 8192, 20480 };

	memset(sim, 0, sizeof(*sim));
	(void)snprintf(sim_seed_line, sizeof(sim_seed_line), "TEST_SEED=%" PRIu64 "\n", seed);
	(void)signal(SIGABRT, sim_tell_seed);
	sim->seed = seed;
	sim->disk = eloq_sim_disk_new(&(struct eloq_sim_opts){ .seed = seed });
	if (getenv("ELOQ_SIM_TRACE"))
		eloq_sim_disk_trace_to(sim->disk, stderr);
	eloq_prng_seed(&sim->prng, sim_mix(seed, 7));
	sim->opts = (struct eloq_store_opts){
		.page_bytes = page_sizes[eloq_prng_below(&sim->prng, 4)],
		.pages_per_file_shift = 3 + (uint32_t)eloq_prng_below(&sim->prng, 5),
		.overflow_pointers = 2 + (uint32_t)eloq_prng_below(&sim->prng, 16),
		.append_mode = append_mode,
		.data_restart_interval = 1 + (uint32_t)eloq_prng_below(&sim->prng, 16),
		.index_restart_interval = 1 + (uint32_t)eloq_prng_below(&sim->prng, 16),
		.manifest_bytes_max = UINT64_C(8192) << eloq_prng_below(&sim->prng, 5),
		.files_max = 4 + (uint32_t)eloq_prng_below(&sim->prng, 12),
		.verify_checksums = true,
		.shard_count = 1,
		.clock = eloq_sim_disk_clock(sim->disk),
	};
	sim->opts.cache_bytes = (64 + eloq_prng_below(&sim->prng, 64)) * sim->opts.page_bytes;
	for (unsigned i = 0; i < STORE_SIM_PARTITIONS; i++)
		sim->partitions[i].log = calloc(SIM_LOG_MAX, sizeof(struct store_sim_write *));
}

static void sim_forget_log(struct store_sim_partition *partition)
{
	for (uint32_t i = 0; i < partition->log_count; i++)
		free(partition->log[i]);
	partition->log_count = 0;
	partition->answered = 0;
	partition->tail = 0;
}

void store_sim_fini(struct store_sim *sim)
{
	for (unsigned i = 0; i < STORE_SIM_PARTITIONS; i++) {
		sim_forget_log(&sim->partitions[i]);
		free(sim->partitions[i].log);
	}
	eloq_sim_disk_free(sim->disk);
	(void)signal(SIGABRT, SIG_DFL);
}

void store_sim_spawn(struct store_sim *sim, void (*fn)(void *sim))
{
	ck_assert_int_eq(eloq_task_start(sim->sched, fn, sim), 0);
}

void store_sim_run(struct store_sim *sim, void (*fn)(void *sim))
{
	store_sim_spawn(sim, fn);
	while (eloq_sched_live_count(sim->sched) > 0) {
		bool busy = eloq_sched_run(sim->sched, SIM_TASKS) > 0 ||
			    eloq_sched_ready_count(sim->sched) > 0;
		int r = 0;

		if (eloq_sched_live_count(sim->sched) > 0)
			r = eloq_io_turn(sim->io, busy ? 0 : UINT64_MAX, SIM_TASKS);
		store_sim_check(sim, r != -EDEADLK, "every task waits, and nothing is under way");
		ck_assert_int_ge(r, 0);
	}
}

static void sim_close_root(void *arg)
{
	struct store_sim *sim = arg;
	struct eloq_io_req req = { .op = ELOQ_IO_CLOSE, .file = sim->root };

	(void)eloq_task_io_await(sim->io, &req);
}

static void sim_close_io(struct store_sim *sim)
{
	store_sim_run(sim, sim_close_root);
	eloq_sched_close(sim->sched);
	eloq_io_close(sim->io);
	sim->io = NULL;
	sim->store = NULL;
}

bool store_sim_open(struct store_sim *sim)
{
	const struct eloq_sched_opts sched_opts = { .tasks_max = SIM_TASKS,
						    .stack_bytes = ELOQ_TASK_STACK_BYTES };
	static const char *const names[] = { "disk" };
	struct eloq_errinfo error = { 0 };
	const char *note;
	int r;

	ck_assert_int_eq(eloq_io_sim_open(&sim->io, sim->disk, SIM_DEPTH), 0);
	ck_assert_int_eq(eloq_sched_open(&sim->sched, &sched_opts), 0);
	ck_assert_int_eq(eloq_io_sim_root(sim->io, &sim->root), 0);
	sim->opts.roots = &sim->root;
	sim->opts.root_names = names;
	sim->opts.root_count = 1;
	r = eloq_store_open(&sim->store, &sim->opts, sim->io, sim->sched, &note, &error);
	if (r < 0) {
		store_sim_check(sim, sim->may_fail || eloq_io_sim_is_dead(sim->io),
				"the store does not open: %s", error.text);
		sim_close_io(sim);
		return false;
	}
	ck_assert_int_eq(eloq_store_table_add(sim->store, 1, "t"), 0);
	return true;
}

static void sim_stop(void *arg)
{
	struct store_sim *sim = arg;

	eloq_store_stop_await(sim->store);
}

void store_sim_close(struct store_sim *sim)
{
	store_sim_run(sim, sim_stop);
	eloq_store_close(sim->store);
	sim_close_io(sim);
}

bool store_sim_is_over(const struct store_sim *sim)
{
	return eloq_io_sim_is_dead(sim->io) || eloq_store_is_poisoned(sim->store);
}

/* An operation failed: it had a reason. */
static void sim_excuse(const struct store_sim *sim, int r, const char *what, const char *words)
{
	store_sim_check(sim, sim->may_fail || eloq_io_sim_is_dead(sim->io), "%s: %s %s", what,
			eloq_err_name(r), words);
}

/* ---- writes ----------------------------------------------------------------------------- */

static void sim_apply(struct store_sim_state *state, const struct store_sim_write *write)
{
	if (write->write.kind != ELOQ_WRITE_BATCH) {
		memset(state, 0, sizeof(*state));
		return;
	}
	for (uint32_t i = 0; i < write->write.entry_count; i++)
		state->timestamps[write->numbers[i]] =
			write->entries[i].op == ELOQ_WRITE_PUT ? write->timestamp : 0;
}

static void sim_free_bytes(struct store_sim_write *write)
{
	for (uint32_t i = 0; i < write->write.entry_count; i++) {
		free((void *)(uintptr_t)write->entries[i].key);
		free((void *)(uintptr_t)write->entries[i].value);
		write->entries[i].key = NULL;
		write->entries[i].value = NULL;
	}
}

static void sim_write_done(struct eloq_write *eloq_write)
{
	struct store_sim_write *write = eloq_write->arg;
	struct store_sim *sim = write->sim;
	struct store_sim_partition *partition = &sim->partitions[eloq_write->partition];

	store_sim_check(sim, partition->log[partition->answered] == write,
			"partition %u answers out of order", eloq_write->partition);
	partition->answered++;
	write->is_answered = true;
	if (eloq_write->result == 0) {
		sim_apply(&partition->acked, write);
		sim_apply(&partition->other, write);
		if (eloq_write->kind != ELOQ_WRITE_BATCH)
			partition->drop_failed = false;
		partition->tail = partition->answered;
		sim->writes_acked++;
	} else {
		sim_excuse(sim, eloq_write->result, "write",
			   eloq_write->error ? eloq_write->error->text : "");
		if (eloq_write->kind == ELOQ_WRITE_DROP) {
			partition->drop_failed = true;
			memset(&partition->other, 0, sizeof(partition->other));
		}
		write->is_void = eloq_write->kind != ELOQ_WRITE_DROP &&
				 eloq_write->result != -ELOQ_EFAILED_SYNC &&
				 !eloq_io_sim_is_dead(sim->io);
		sim->writes_failed++;
	}
	sim_free_bytes(write);
	if (write->waiter)
		eloq_task_wake(write->waiter);
}

/* Submit, unless it is refused; wait for the answer if asked to. */
static void sim_submit(struct store_sim *sim, struct store_sim_write *write, bool wait)
{
	struct store_sim_partition *partition = &sim->partitions[write->write.partition];
	int r;

	/* It is in the log first: what only removes may be answered at once. */
	for (;;) {
		ck_assert_uint_lt(partition->log_count, SIM_LOG_MAX);
		partition->log[partition->log_count++] = write;
		r = eloq_store_write_submit(sim->store, &write->write);
		if (r < 0)
			partition->log_count--;
		if (r != -EAGAIN)
			break;
		eloq_task_yield_await();
	}
	if (r < 0) {
		store_sim_check(sim, r == -ELOQ_EFAILED_SYNC || r == -ELOQ_ESTOPPED, "submit: %s",
				eloq_err_name(r));
		sim_excuse(sim, r, "submit", "");
		sim_free_bytes(write);
		free(write);
		return;
	}
	if (wait && !write->is_answered) {
		write->waiter = eloq_task_self();
		eloq_task_suspend_await();
	}
}

static struct store_sim_write *sim_write_new(struct store_sim *sim, uint32_t partition,
					     enum eloq_write_kind kind)
{
	struct store_sim_write *write = calloc(1, sizeof(*write));

	ck_assert_ptr_nonnull(write);
	write->sim = sim;
	write->timestamp = ++sim->last_timestamp;
	write->write = (struct eloq_write){ .kind = kind,
					    .table_id = 1,
					    .partition = partition,
					    .entries = write->entries,
					    .done = sim_write_done,
					    .arg = write };
	return write;
}

void store_sim_batch(struct store_sim *sim, uint32_t partition, const uint32_t *numbers,
		     const bool *is_delete, uint32_t count, bool wait)
{
	struct store_sim_write *write = sim_write_new(sim, partition, ELOQ_WRITE_BATCH);

	for (uint32_t i = 0; i < count; i++) {
		struct eloq_write_entry *entry = &write->entries[i];
		uint8_t *key = malloc(ELOQ_KEY_BUFFER_BYTES);

		ck_assert_ptr_nonnull(key);
		write->numbers[i] = numbers[i];
		entry->key = key;
		entry->key_bytes = sim_key(numbers[i], key);
		entry->timestamp = write->timestamp;
		entry->op = is_delete[i] ? ELOQ_WRITE_DELETE : ELOQ_WRITE_PUT;
		if (!is_delete[i]) {
			entry->value = sim_value(numbers[i], write->timestamp);
			entry->value_bytes = sim_value_bytes(numbers[i], write->timestamp);
		}
	}
	write->write.entry_count = count;
	sim_submit(sim, write, wait);
}

void store_sim_clear(struct store_sim *sim, uint32_t partition, enum eloq_write_kind kind)
{
	sim_submit(sim, sim_write_new(sim, partition, kind), true);
}

/* ---- reads ------------------------------------------------------------------------------ */

static bool sim_has_failed(const struct store_sim_write *write)
{
	return write->is_answered && write->write.result < 0;
}

/* True if @timestamp is what write @write leaves of key @number, or leaves it as it was. */
static bool sim_touches(const struct store_sim_write *write, uint32_t number,
			uint64_t *ret_timestamp)
{
	if (write->write.kind != ELOQ_WRITE_BATCH) {
		*ret_timestamp = 0;
		return true;
	}
	for (uint32_t i = 0; i < write->write.entry_count; i++) {
		if (write->numbers[i] != number)
			continue;
		*ret_timestamp = write->entries[i].op == ELOQ_WRITE_PUT ? write->timestamp : 0;
		return true;
	}
	return false;
}

/* A read that began when @before was acknowledged, and @answered writes of the log. */
static void sim_check_get(const struct store_sim *sim, uint32_t partition, uint32_t number,
			  uint64_t before, uint32_t answered, uint64_t found)
{
	const struct store_sim_partition *p = &sim->partitions[partition];
	bool is_right = found == before || (p->drop_failed && found == p->other.timestamps[number]);

	for (uint32_t i = answered; i < p->log_count && !is_right; i++) {
		uint64_t timestamp;

		if (!sim_has_failed(p->log[i]) && sim_touches(p->log[i], number, &timestamp))
			is_right = found == timestamp;
	}
	store_sim_check(sim, is_right, "t.%u key %u: found %" PRIu64 ", acknowledged was %" PRIu64,
			partition, number, found, before);
}

void store_sim_get(struct store_sim *sim, uint32_t partition, uint32_t number)
{
	struct store_sim_partition *p = &sim->partitions[partition];
	uint64_t before = p->acked.timestamps[number];
	uint32_t answered = p->answered;
	uint8_t *key = malloc(ELOQ_KEY_BUFFER_BYTES);
	uint32_t key_bytes = sim_key(number, key);
	struct eloq_store_value value = { 0 };
	struct eloq_errinfo error = { 0 };
	uint64_t found = 0;
	int r;

	r = eloq_store_get(sim->store, 1, partition, key, key_bytes, 0, &value);
	if (r == -EAGAIN)
		r = eloq_store_get_await(sim->store, 1, partition, key, key_bytes, 0, &value,
					 &error);
	if (r == 0) {
		found = value.timestamp;
		sim_check_value(sim, number, found, value.data, value.bytes);
		eloq_store_value_release(sim->store, &value);
	}
	if (r < 0 && r != -ELOQ_ENOTFOUND)
		sim_excuse(sim, r, "get", error.text);
	else
		sim_check_get(sim, partition, number, before, answered, found);
	sim->reads++;
	free(key);
}

struct sim_found {
	const struct store_sim *sim;
	struct store_sim_state state;
	uint32_t next; /* number that may come next */
	uint8_t key[ELOQ_KEY_BUFFER_BYTES];
};

static int sim_found_each(void *arg, const struct eloq_scan_entry *entry)
{
	struct sim_found *found = arg;
	uint32_t number = found->next;
	uint32_t key_bytes;

	for (; number < STORE_SIM_KEYS; number++) {
		key_bytes = sim_key(number, found->key);
		if (key_bytes == entry->key_bytes && memcmp(found->key, entry->key, key_bytes) == 0)
			break;
	}
	store_sim_check(found->sim, number < STORE_SIM_KEYS,
			"key %.5s comes twice, in the wrong place, or is nobody's",
			(const char *)entry->key);
	sim_check_value(found->sim, number, entry->timestamp, entry->value, entry->value_bytes);
	found->state.timestamps[number] = entry->timestamp;
	found->next = number + 1;
	return 0;
}

/* Everything in the range, in @found. */
static int sim_scan(struct store_sim *sim, uint32_t partition, uint32_t from, uint32_t to,
		    struct sim_found *found, struct eloq_errinfo *reterr)
{
	uint8_t *begin = malloc(ELOQ_KEY_BUFFER_BYTES), *end = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct eloq_scan scan = { .begin = begin,
				  .begin_bytes = from > 0 ? sim_key(from, begin) : 0,
				  .end = end,
				  .end_bytes = to < STORE_SIM_KEYS ? sim_key(to, end) : 0,
				  .each = sim_found_each,
				  .arg = found };
	bool more = false;
	int r;

	*found = (struct sim_found){ .sim = sim, .next = from };
	r = eloq_store_scan_await(sim->store, 1, partition, &scan, &more, reterr);
	store_sim_check(sim, r < 0 || !more, "a scan without bound ended early");
	sim->reads++;
	free(begin);
	free(end);
	return r;
}

static bool sim_equal(const struct store_sim_state *a, const struct store_sim_state *b,
		      uint32_t from, uint32_t to)
{
	return memcmp(&a->timestamps[from], &b->timestamps[from],
		      (to - from) * sizeof(a->timestamps[0])) == 0;
}

/* True if @found is @state, or that after some of the writes of the log from @at on, in order. */
static bool sim_was_state(const struct store_sim_partition *p, struct store_sim_state state,
			  uint32_t at, const struct store_sim_state *found, uint32_t from,
			  uint32_t to)
{
	bool matches = sim_equal(found, &state, from, to);

	for (; at < p->log_count && !matches; at++) {
		if (sim_has_failed(p->log[at]))
			continue;
		sim_apply(&state, p->log[at]);
		matches = sim_equal(found, &state, from, to);
	}
	return matches;
}

void store_sim_scan(struct store_sim *sim, uint32_t partition, uint32_t from, uint32_t to)
{
	struct store_sim_partition *p = &sim->partitions[partition];
	struct store_sim_state *before = malloc(2 * sizeof(*before));
	struct sim_found *found = malloc(sizeof(*found));
	uint32_t answered = p->answered;
	bool drop_failed = p->drop_failed;
	struct eloq_errinfo error = { 0 };
	int r;

	before[0] = p->acked;
	before[1] = p->other;
	r = sim_scan(sim, partition, from, to, found, &error);
	if (r < 0)
		sim_excuse(sim, r, "scan", error.text);
	else
		store_sim_check(
			sim,
			sim_was_state(p, before[0], answered, &found->state, from, to) ||
				(drop_failed &&
				 sim_was_state(p, before[1], answered, &found->state, from, to)) ||
				(p->drop_failed && sim_equal(&p->other, &found->state, from, to)),
			"t.%u: a scan of %u..%u shows no state there ever was", partition, from,
			to);
	free(before);
	free(found);
}

static uint64_t sim_below(struct store_sim *sim, uint64_t bound)
{
	return eloq_prng_below(&sim->prng, bound);
}

static void sim_any_batch(struct store_sim *sim, uint32_t partition)
{
	uint32_t count = 1;
	uint32_t number = (uint32_t)sim_below(sim, STORE_SIM_KEYS);
	uint32_t step = 1 + (uint32_t)sim_below(sim, sim_below(sim, 2) ? 2 : 40);
	uint64_t deletes = sim_below(sim, 4) == 0 ? 80 : 15;
	uint32_t numbers[STORE_SIM_BATCH_MAX];
	bool is_delete[STORE_SIM_BATCH_MAX];
	uint32_t n = 0;

	if (sim_below(sim, 3) == 0)
		count = 2 + (uint32_t)sim_below(sim, STORE_SIM_BATCH_MAX - 2);
	for (; n < count && number < STORE_SIM_KEYS; n++) {
		numbers[n] = number;
		is_delete[n] = sim_below(sim, 100) < deletes;
		number += 1 + (uint32_t)sim_below(sim, step);
	}
	store_sim_batch(sim, partition, numbers, is_delete, n, sim_below(sim, 3) > 0);
}

void store_sim_any(struct store_sim *sim)
{
	uint32_t partition = (uint32_t)sim_below(sim, STORE_SIM_PARTITIONS);
	uint64_t what = sim_below(sim, 200);
	uint32_t from;

	if (what < 130) {
		sim_any_batch(sim, partition);
	} else if (what < 133) {
		store_sim_clear(sim, partition,
				sim_below(sim, 3) == 0 ? ELOQ_WRITE_DROP : ELOQ_WRITE_TRUNCATE);
	} else if (what < 185) {
		store_sim_get(sim, partition, (uint32_t)sim_below(sim, STORE_SIM_KEYS));
	} else {
		from = (uint32_t)sim_below(sim, STORE_SIM_KEYS);
		store_sim_scan(sim, partition, from,
			       from + (uint32_t)sim_below(sim, STORE_SIM_KEYS + 1 - from));
	}
}

/* ---- after a restart -------------------------------------------------------------------- */

/* For whoever looks into a failure: the writes of this life, with what was said of them. */
static void sim_print_log(const struct store_sim *sim, uint32_t number)
{
	const struct store_sim_partition *p = &sim->partitions[number];

	if (!getenv("ELOQ_SIM_TRACE"))
		return;
	for (uint32_t i = 0; i < p->log_count; i++)
		fprintf(stderr, "t.%u log %u: timestamp %" PRIu64 " kind %d, %u entries, %s %d\n",
			number, i, p->log[i]->timestamp, (int)p->log[i]->write.kind,
			p->log[i]->write.entry_count, p->log[i]->is_void ? "void" : "ended",
			p->log[i]->write.result);
}

/* Make @state what @found is, by a prefix of the tail; else the whole tail is in it. */
static bool sim_add_tail(const struct store_sim_partition *p, struct store_sim_state *state,
			 const struct store_sim_state *found)
{
	for (uint32_t at = p->tail; at < p->log_count; at++) {
		if (sim_equal(found, state, 0, STORE_SIM_KEYS))
			break;
		if (!p->log[at]->is_void)
			sim_apply(state, p->log[at]);
	}
	return sim_equal(found, state, 0, STORE_SIM_KEYS);
}

/* What was found must be what was acknowledged, plus a prefix of the tail. */
static void sim_verify_partition(struct store_sim *sim, uint32_t number,
				 const struct store_sim_state *found)
{
	struct store_sim_partition *p = &sim->partitions[number];
	struct store_sim_state *state = malloc(sizeof(*state));

	*state = p->other;
	if (!p->drop_failed || !sim_add_tail(p, state, found)) {
		*state = p->acked;
		(void)sim_add_tail(p, state, found);
	}
	sim_print_log(sim, number);
	for (uint32_t i = 0; i < STORE_SIM_KEYS; i++)
		store_sim_check(sim, found->timestamps[i] == state->timestamps[i],
				"t.%u key %u: found %" PRIu64 ", acknowledged %" PRIu64
				", at most %" PRIu64 "; %u writes in the tail",
				number, i, found->timestamps[i], p->acked.timestamps[i],
				state->timestamps[i], p->log_count - p->tail);
	p->acked = *found;
	p->drop_failed = false;
	free(state);
}

static void sim_verify(void *arg)
{
	struct store_sim *sim = arg;
	struct sim_found *found = calloc(STORE_SIM_PARTITIONS, sizeof(*found));
	int r = 0;

	for (uint32_t p = 0; p < STORE_SIM_PARTITIONS && r == 0; p++) {
		struct eloq_errinfo error = { 0 };

		r = sim_scan(sim, p, 0, STORE_SIM_KEYS, &found[p], &error);
		if (r < 0)
			sim_excuse(sim, r, "verify", error.text);
	}
	for (uint32_t p = 0; p < STORE_SIM_PARTITIONS && r == 0; p++) {
		sim_verify_partition(sim, p, &found[p].state);
		sim_forget_log(&sim->partitions[p]);
	}
	sim->is_verified = r == 0;
	free(found);
}

bool store_sim_verify(struct store_sim *sim)
{
	sim->is_verified = false;
	store_sim_run(sim, sim_verify);
	return sim->is_verified;
}

/* ---- files ------------------------------------------------------------------------------ */

struct sim_export {
	struct store_sim *sim;
	const char *from; /* on the disk */
	const char *to;
};

static int sim_export_file(void *arg, const char *name, bool is_directory)
{
	struct sim_export *export = arg;
	struct eloq_sim_disk *disk = export->sim->disk;
	char from[300], to[600];
	uint8_t *bytes;
	int64_t size;
	FILE *file;

	ck_assert(!is_directory);
	(void)snprintf(from, sizeof(from), "%s/%s", export->from, name);
	(void)snprintf(to, sizeof(to), "%s/%s", export->to, name);
	size = eloq_sim_disk_size(disk, from);
	ck_assert_int_ge(size, 0);
	bytes = malloc((size_t)size + 1);
	ck_assert_int_eq(eloq_sim_disk_read(disk, from, bytes, (uint32_t)size, 0), size);
	file = fopen(to, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, (size_t)size, file), (size_t)size);
	ck_assert_int_eq(fclose(file), 0);
	free(bytes);
	return 0;
}

void store_sim_check_files(struct store_sim *sim)
{
	const char *root = test_tmpdir();

	for (uint32_t p = 0; p < STORE_SIM_PARTITIONS; p++) {
		struct store_check check = {
			.page_bytes = sim->opts.page_bytes,
			.pages_per_file_shift = sim->opts.pages_per_file_shift,
		};
		char name[16], to[300];
		uint64_t entries = 0;
		int r;

		for (uint32_t i = 0; i < STORE_SIM_KEYS; i++)
			entries += sim->partitions[p].acked.timestamps[i] != 0;
		(void)snprintf(name, sizeof(name), "t.%u", p);
		(void)snprintf(to, sizeof(to), "%s/%s", root, name);
		ck_assert_int_eq(mkdir(to, 0700), 0);
		r = eloq_sim_disk_list(sim->disk, name, sim_export_file,
				       &(struct sim_export){ sim, name, to });
		store_sim_check(sim, r == 0 || (r == -ENOENT && entries == 0),
				"directory %s is gone: %d", name, r);
		if (store_check_partition(&check, to) || entries > 0)
			store_sim_check(sim, check.entries == entries,
					"%s holds %" PRIu64 " entries, not %" PRIu64, name,
					check.entries, entries);
	}
}
