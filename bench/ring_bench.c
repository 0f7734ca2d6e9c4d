/*
 * ring_bench.c - what a lane costs without an engine behind it: the ceiling of everything above.
 *
 * Two processes, client on CPU 0 and worker on CPU 1, both spinning; requests of 64 bytes, answers
 * of 128. Printed for each figure: minimum and median over the repeats. The same program on the
 * same machine differs by 4x when the two CPUs do not share a cache, so each repeat is bracketed
 * by a ping-pong of one word, and is named near (both under 200 ns) or far.
 *
 *	ring_bench [REPEATS] [REQUESTS A REPEAT]
 */
#include "common/clock.h"
#include "tests/unit/lane_world.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
	BENCH_RING_BYTES = 128 << 10,
	BENCH_KEY_BYTES = 16,
	BENCH_REQUEST_VALUE_BYTES = 64 - ELOQ_REQUEST_HEADER_BYTES - BENCH_KEY_BYTES,
	BENCH_ANSWER_VALUE_BYTES = 128 - ELOQ_ANSWER_HEADER_BYTES,
	BENCH_TURN_REQUESTS_MAX = 32,
	BENCH_PINGS = 2000,
	BENCH_REPEATS_MAX = 1000,
	BENCH_NEAR_NS = 200,
};

/* Anonymous shared memory of both processes, beside the lane. */
struct bench_shared {
	ELOQ_ALIGNED(ELOQ_CACHE_PAIR)
	_Atomic uint64_t ping; /* odd: the worker's turn to raise it */
};

struct bench_sample {
	double ns;
	bool near;
};

static uint64_t bench_next_id = 1;

static void bench_pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fprintf(stderr, "not pinned to CPU %u: figures will wander\n", cpu);
}

/* --- The worker's process ----------------------------------------------------------------------
 */

static void bench_serve_lane(struct eloq_lane_worker *lane)
{
	static const uint8_t value[BENCH_ANSWER_VALUE_BYTES];
	uint8_t payload[BENCH_RING_BYTES];
	struct eloq_answer answer = { .value_bytes = sizeof(value) };
	struct eloq_request request;
	uint32_t reason;
	size_t offset;

	for (unsigned i = 0; i < BENCH_TURN_REQUESTS_MAX; i++) {
		uint32_t reserved;

		if (eloq_lane_worker_peek(lane, &request, &offset, &reason) <= 0)
			break;
		reserved = eloq_lane_worker_accept(lane, &request, offset, payload);
		answer.id = request.id;
		answer.incarnation = lane->generation;
		eloq_lane_worker_answer(lane, reserved, &answer, NULL, value);
	}
	eloq_lane_worker_publish(lane);
}

ELOQ_NORETURN static void bench_serve(struct lane_world *w, struct bench_shared *shared)
{
	bench_pin(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t ping = atomic_load_explicit(&shared->ping, memory_order_acquire);

		if (ping & 1)
			atomic_store_explicit(&shared->ping, ping + 1, memory_order_release);
		bench_serve_lane(&w->worker);
		eloq_cpu_relax();
	}
}

/* --- The client's process ----------------------------------------------------------------------
 */

static uint64_t bench_now_ns(void)
{
	return eloq_clock_monotonic_ns(eloq_clock_system());
}

static double bench_ping_ns(struct bench_shared *shared)
{
	uint64_t start_ns = bench_now_ns();

	for (unsigned i = 0; i < BENCH_PINGS; i++) {
		uint64_t ping = atomic_load_explicit(&shared->ping, memory_order_relaxed);

		atomic_store_explicit(&shared->ping, ping + 1, memory_order_release);
		while (atomic_load_explicit(&shared->ping, memory_order_acquire) == ping + 1)
			eloq_cpu_relax();
	}
	return (double)(bench_now_ns() - start_ns) / BENCH_PINGS;
}

static void bench_put(struct eloq_lane_client *lane)
{
	static const uint8_t key[BENCH_KEY_BYTES], value[BENCH_REQUEST_VALUE_BYTES];
	const struct eloq_request request = {
		.id = bench_next_id,
		.answered_below = bench_next_id,
		.op = ELOQ_OP_PUT,
		.key_bytes = sizeof(key),
		.value_bytes = sizeof(value),
	};
	int r = eloq_lane_client_put(lane, &request, key, value);

	eloq_assert(r == 0);
	bench_next_id++;
}

/* Waits for at least one answer, takes all that are there. */
static unsigned bench_take(struct eloq_lane_client *lane)
{
	const uint8_t *key, *value;
	struct eloq_answer answer;
	unsigned taken = 0;

	while (taken == 0) {
		while (eloq_lane_client_take(lane, &answer, &key, &value) == 1)
			taken++;
		if (taken == 0)
			eloq_cpu_relax();
	}
	eloq_lane_client_done(lane);
	return taken;
}

static double bench_window_ns(struct eloq_lane_client *lane, unsigned window, unsigned count)
{
	uint64_t start_ns = bench_now_ns();
	unsigned put = 0, taken = 0;

	while (taken < count) {
		for (; put < count && put - taken < window; put++)
			bench_put(lane);
		eloq_lane_client_publish(lane);
		taken += bench_take(lane);
	}
	return (double)(bench_now_ns() - start_ns) / count;
}

/* --- Figures -----------------------------------------------------------------------------------
 */

static int bench_compare(const void *a, const void *b)
{
	double x = ((const struct bench_sample *)a)->ns, y = ((const struct bench_sample *)b)->ns;

	return (x > y) - (x < y);
}

static void bench_print(const char *what, bool near, const struct bench_sample *samples,
			unsigned count)
{
	struct bench_sample kept[BENCH_REPEATS_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		if (samples[i].near == near)
			kept[n++] = samples[i];
	if (n == 0)
		return;
	qsort(kept, n, sizeof(kept[0]), bench_compare);
	printf("%-28s %-4s  min %7.1f ns  median %7.1f ns  %6.2f M/s  (%u repeats)\n", what,
	       near ? "near" : "far", kept[0].ns, kept[n / 2].ns, 1e3 / kept[n / 2].ns, n);
}

static void bench_measure(struct lane_world *w, struct bench_shared *shared, unsigned window,
			  unsigned repeats, unsigned count)
{
	struct bench_sample samples[BENCH_REPEATS_MAX];
	char what[64];

	for (unsigned i = 0; i < repeats; i++) {
		double before_ns = bench_ping_ns(shared), after_ns;

		samples[i].ns = bench_window_ns(&w->client, window, count);
		after_ns = bench_ping_ns(shared);
		samples[i].near = before_ns < BENCH_NEAR_NS && after_ns < BENCH_NEAR_NS;
	}
	(void)snprintf(what, sizeof(what), "64 B -> 128 B, %u in flight", window);
	bench_print(what, true, samples, repeats);
	bench_print(what, false, samples, repeats);
}

/* The floor: one line there and back. */
static void bench_measure_ping(struct bench_shared *shared, unsigned repeats)
{
	struct bench_sample samples[BENCH_REPEATS_MAX];

	for (unsigned i = 0; i < repeats; i++) {
		samples[i].ns = bench_ping_ns(shared);
		samples[i].near = samples[i].ns < BENCH_NEAR_NS;
	}
	bench_print("one word, ping-pong", true, samples, repeats);
	bench_print("one word, ping-pong", false, samples, repeats);
}

static unsigned bench_argument(int argc, char **argv, int index, unsigned otherwise, unsigned max)
{
	unsigned long value = argc > index ? strtoul(argv[index], NULL, 10) : otherwise;

	return value >= 1 && value <= max ? (unsigned)value : otherwise;
}

int main(int argc, char **argv)
{
	static const unsigned windows[] = { 1, 8, 64 };
	unsigned repeats = bench_argument(argc, argv, 1, 15, BENCH_REPEATS_MAX);
	unsigned count = bench_argument(argc, argv, 2, 200000, 1u << 30);
	struct bench_shared *shared;
	struct lane_world w;
	pid_t worker;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return EXIT_FAILURE;
	}
	lane_world_open(&w, BENCH_RING_BYTES, BENCH_RING_BYTES, false);
	lane_world_sync(&w, 1);
	worker = fork();
	if (worker < 0) {
		perror("fork");
		return EXIT_FAILURE;
	}
	if (worker == 0)
		bench_serve(&w, shared);
	bench_pin(0);
	bench_measure_ping(shared, repeats);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(windows); i++)
		bench_measure(&w, shared, windows[i], repeats, count);
	(void)kill(worker, SIGKILL);
	(void)waitpid(worker, NULL, 0);
	lane_world_close(&w);
	(void)munmap(shared, sizeof(*shared));
	return EXIT_SUCCESS;
}
