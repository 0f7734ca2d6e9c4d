/*
 * service_bench.c - what a client of a running daemon sees: gets of cached keys and durable puts.
 *
 *   service_bench DATA_DIR [SECONDS]
 *
 * Fills the table `bench` with 10,000 keys of 16 bytes and values of 100, then times, one after the
 * other: gets one at a time and with 64 in flight, puts one at a time and with 32 in flight. Every
 * line says operations a second, percentiles and the CPU time this process spent for each.
 */
#include "client/eloqclient.h"
#include "common/clock.h"
#include "common/hist.h"
#include "common/prng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BENCH_KEYS = 10000, BENCH_KEY_BYTES = 16, BENCH_VALUE_BYTES = 100, BENCH_WINDOW_MAX = 64 };

struct bench {
	struct eloq_client *client;
	struct eloq_channel *channel;
	struct eloq_table *table;
	struct eloq_prng prng;
	double seconds;
	struct eloq_hist hist;
	char value[BENCH_VALUE_BYTES];
};

static uint64_t bench_now_ns(void)
{
	return eloq_clock_monotonic_ns(eloq_clock_system());
}

static double bench_cpu_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void bench_die(const char *what, int error)
{
	fprintf(stderr, "service_bench: %s: %s\n", what, eloq_strerror(error));
	exit(EXIT_FAILURE);
}

static void bench_key(char *key, uint64_t number)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "key%013" PRIu64, number);
	memcpy(key, text, BENCH_KEY_BYTES);
}

static void bench_fill(struct bench *bench)
{
	char key[BENCH_KEY_BYTES];
	struct eloq_completion done[BENCH_WINDOW_MAX];

	for (uint64_t i = 0; i < BENCH_KEYS; i++) {
		int r;

		bench_key(key, i);
		while ((r = eloq_submit_put(bench->channel, bench->table, key, sizeof(key),
					    bench->value, sizeof(bench->value), NULL, NULL)) ==
		       -EAGAIN)
			if (eloq_poll(bench->channel, done, BENCH_WINDOW_MAX, UINT64_MAX) < 0)
				bench_die("fill", -EIO);
		if (r < 0)
			bench_die("fill", r);
	}
	while (eloq_in_flight(bench->channel) > 0)
		if (eloq_poll(bench->channel, done, BENCH_WINDOW_MAX, UINT64_MAX) < 0)
			bench_die("fill", -EIO);
}

static void bench_report(struct bench *bench, const char *name, uint64_t ops, uint64_t ns,
			 double cpu_s)
{
	printf("%-24s %10.0f /s   p50 %7.2f us   p99 %7.2f us   max %8.1f us   client CPU %5.2f us\n",
	       name, (double)ops * 1e9 / (double)ns,
	       (double)eloq_hist_percentile(&bench->hist, 50) / 1e3,
	       (double)eloq_hist_percentile(&bench->hist, 99) / 1e3,
	       (double)eloq_hist_max(&bench->hist) / 1e3, cpu_s * 1e6 / (double)ops);
}

static void bench_single(struct bench *bench, const char *name, bool put)
{
	uint64_t start_ns = bench_now_ns(), now_ns = start_ns, ops = 0;
	double cpu_s = bench_cpu_s();
	char key[BENCH_KEY_BYTES], value[BENCH_VALUE_BYTES];
	size_t bytes;

	eloq_hist_clear(&bench->hist);
	while ((double)(now_ns - start_ns) < bench->seconds * 1e9) {
		uint64_t before_ns = now_ns;
		int r;

		bench_key(key, eloq_prng_below(&bench->prng, BENCH_KEYS));
		if (put)
			r = eloq_put(bench->channel, bench->table, key, sizeof(key), bench->value,
				     sizeof(bench->value), NULL);
		else
			r = eloq_get_into(bench->channel, bench->table, key, sizeof(key), value,
					  sizeof(value), &bytes, NULL);
		if (r < 0)
			bench_die(name, r);
		now_ns = bench_now_ns();
		eloq_hist_record(&bench->hist, now_ns - before_ns);
		ops++;
	}
	bench_report(bench, name, ops, now_ns - start_ns, bench_cpu_s() - cpu_s);
}

/* Keep @window requests in flight; each one's own time is measured from its submission. */
static void bench_window(struct bench *bench, const char *name, bool put, unsigned window)
{
	uint64_t submitted_ns[BENCH_WINDOW_MAX];
	struct eloq_completion done[BENCH_WINDOW_MAX];
	unsigned idle[BENCH_WINDOW_MAX], idle_count = window;
	uint64_t start_ns = bench_now_ns(), now_ns = start_ns, ops = 0;
	double cpu_s = bench_cpu_s();
	char key[BENCH_KEY_BYTES];

	eloq_hist_clear(&bench->hist);
	for (unsigned i = 0; i < window; i++)
		idle[i] = i;
	while ((double)(now_ns - start_ns) < bench->seconds * 1e9) {
		int count;

		while (idle_count > 0) {
			unsigned slot = idle[--idle_count];
			void *arg = &submitted_ns[slot];
			int r;

			bench_key(key, eloq_prng_below(&bench->prng, BENCH_KEYS));
			submitted_ns[slot] = now_ns;
			if (put)
				r = eloq_submit_put(bench->channel, bench->table, key, sizeof(key),
						    bench->value, sizeof(bench->value), arg, NULL);
			else
				r = eloq_submit_get(bench->channel, bench->table, key, sizeof(key),
						    arg, NULL);
			if (r < 0)
				bench_die(name, r);
		}
		count = eloq_poll(bench->channel, done, BENCH_WINDOW_MAX, UINT64_MAX);
		if (count < 0)
			bench_die(name, count);
		now_ns = bench_now_ns();
		for (int i = 0; i < count; i++) {
			const uint64_t *at = done[i].arg;

			if (done[i].result < 0)
				bench_die(name, done[i].result);
			eloq_hist_record(&bench->hist, now_ns - *at);
			idle[idle_count++] = (unsigned)(at - submitted_ns);
			ops++;
		}
	}
	while (eloq_in_flight(bench->channel) > 0)
		if (eloq_poll(bench->channel, done, BENCH_WINDOW_MAX, UINT64_MAX) < 0)
			break;
	bench_report(bench, name, ops, now_ns - start_ns, bench_cpu_s() - cpu_s);
}

int main(int argc, char **argv)
{
	static struct bench bench = { .seconds = 3 };
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts) };
	struct eloq_error error = { 0 };
	int r;

	if (argc < 2) {
		fprintf(stderr, "usage: service_bench DATA_DIR [SECONDS]\n");
		return EXIT_FAILURE;
	}
	opts.data_dir = argv[1];
	if (argc > 2)
		bench.seconds = strtod(argv[2], NULL);
	eloq_prng_seed(&bench.prng, 1);
	memset(bench.value, 'v', sizeof(bench.value));
	r = eloq_connect(&bench.client, &opts, &error);
	if (r < 0)
		bench_die(error.text, r);
	bench.channel = eloq_channel(bench.client);
	r = eloq_table_create(bench.client, "bench", 16, ELOQ_SERVER_TIMESTAMPS, NULL);
	if (r < 0 && r != -ELOQ_CLIENT_EEXISTS)
		bench_die("table", r);
	r = eloq_table_open(bench.client, "bench", &bench.table, NULL);
	if (r < 0)
		bench_die("table", r);
	bench_fill(&bench);
	bench_single(&bench, "get, 1 in flight", false);
	bench_window(&bench, "get, 64 in flight", false, 64);
	bench_single(&bench, "put, 1 in flight", true);
	bench_window(&bench, "put, 32 in flight", true, 32);
	eloq_disconnect(bench.client);
	return EXIT_SUCCESS;
}
