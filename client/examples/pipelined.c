/*
 * pipelined.c - many requests in flight from one thread.
 *
 *	cc pipelined.c $(pkg-config --cflags --libs eloqclient) -o pipelined
 *	./pipelined [SOCKET]
 *
 * Idea: submit until the library says -EAGAIN (enough is in flight), then collect what is done and
 * go on. Completions come in any order; the argument of each says which request it was.
 */
#include <eloqclient.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { REQUESTS = 100000, COMPLETIONS_MAX = 64 };

struct run {
	struct eloq_channel *channel;
	struct eloq_table *table;
	unsigned done, failed;
	int error; /* of the last one that failed */
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int submit(const struct run *run, unsigned i, int is_get)
{
	void *arg = (void *)(uintptr_t)i;
	char key[32];
	size_t key_bytes = (size_t)snprintf(key, sizeof(key), "key-%08u", i);

	if (is_get)
		return eloq_submit_get(run->channel, run->table, key, key_bytes, arg, NULL);
	return eloq_submit_put(run->channel, run->table, key, key_bytes, key, key_bytes, arg, NULL);
}

/* A get's value is its key: see submit(). */
static int is_right(const struct eloq_completion *completion, int is_get)
{
	char key[32];
	size_t key_bytes = (size_t)snprintf(key, sizeof(key), "key-%08u",
					    (unsigned)(uintptr_t)completion->arg);

	if (completion->result < 0 || !is_get)
		return completion->result >= 0;
	return completion->value_bytes == key_bytes &&
	       memcmp(completion->value, key, key_bytes) == 0;
}

static int collect(struct run *run, int is_get, uint64_t timeout_ns)
{
	struct eloq_completion completions[COMPLETIONS_MAX];
	int n = eloq_poll(run->channel, completions, COMPLETIONS_MAX, timeout_ns);

	for (int i = 0; i < n; i++) {
		run->done++;
		if (is_right(&completions[i], is_get))
			continue;
		run->failed++;
		run->error = completions[i].result;
	}
	return n;
}

static int run_all(struct run *run, int is_get)
{
	double start_s = now_s(), seconds;
	unsigned submitted = 0;
	int r;

	run->done = 0;
	while (run->done < REQUESTS) {
		r = submitted < REQUESTS ? submit(run, submitted, is_get) : -EAGAIN;
		if (r == 0) {
			submitted++;
			continue;
		}
		if (r != -EAGAIN)
			return r;
		r = collect(run, is_get, UINT64_MAX); /* waits for one, takes what is there */
		if (r < 0)
			return r;
	}
	seconds = now_s() - start_s;
	printf("%d %s in %.3f s: %.0f a second, %u failed\n", REQUESTS, is_get ? "gets" : "puts",
	       seconds, REQUESTS / seconds, run->failed);
	return run->failed ? run->error : 0;
}

int main(int argc, char **argv)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts) };
	struct eloq_error error = { 0 };
	struct eloq_client *client;
	struct run run = { 0 };
	int r;

	opts.socket = argc > 1 ? argv[1] : NULL;
	r = eloq_connect(&client, &opts, &error);
	if (r < 0) {
		fprintf(stderr, "pipelined: %s\n", error.text);
		return 1;
	}
	r = eloq_table_create(client, "pipelined", 16, ELOQ_SERVER_TIMESTAMPS, &error);
	if (r == 0 || r == -ELOQ_CLIENT_EEXISTS)
		r = eloq_table_open(client, "pipelined", &run.table, &error);
	if (r < 0) {
		fprintf(stderr, "pipelined: %s\n", error.text);
		eloq_disconnect(client);
		return 1;
	}
	run.channel = eloq_channel(client);
	r = run_all(&run, 0);
	if (r == 0)
		r = run_all(&run, 1);
	if (r < 0)
		fprintf(stderr, "pipelined: %s\n", eloq_strerror(r));
	eloq_disconnect(client);
	return r < 0;
}
