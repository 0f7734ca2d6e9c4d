/*
 * fake_daemon.c - supervisor and workers in one thread of a test, with faults on demand.
 *
 * The thread's loop, and what tests call. See fake_daemon.h.
 */
#include "tests/support/fake_internal.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { FAKE_POLL_MS = 5 };

/* --- The thread --------------------------------------------------------------------------------
 */

static void fake_accept(struct fake_daemon *daemon)
{
	for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
		struct fake_connection *connection = &daemon->connections[i];

		if (connection->socket >= 0)
			continue;
		connection->socket = accept4(daemon->listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection->socket >= 0)
			daemon->figures.connections++;
		return;
	}
}

static void fake_read(struct fake_daemon *daemon, struct fake_connection *connection)
{
	int r = eloq_control_receive(connection->socket, daemon->message, sizeof(daemon->message),
				     NULL, 0, NULL);

	if (r <= 0)
		fake_hang_up_connection(daemon, connection);
	else
		fake_handle(daemon, connection);
}

static void fake_set_asleep(struct fake_daemon *daemon, bool asleep)
{
	for (uint32_t i = 0; i < daemon->opts.shard_count; i++) {
		if (asleep)
			eloq_worker_page_set_asleep(daemon->workers[i].page);
		else
			eloq_worker_page_set_awake(daemon->workers[i].page);
	}
}

/* Listener, wake, sockets, doorbells. Called without the lock; the lists belong to this thread. */
static void fake_sleep(struct fake_daemon *daemon, bool busy)
{
	struct pollfd fds[2 + FAKE_CONNECTIONS_MAX + 512];
	nfds_t count = 0;
	uint64_t rings;
	unsigned i = 0;

	fds[count++] = (struct pollfd){ .fd = daemon->listener, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = daemon->wake, .events = POLLIN };
	for (i = 0; i < FAKE_CONNECTIONS_MAX; i++)
		fds[count++] =
			(struct pollfd){ .fd = daemon->connections[i].socket, .events = POLLIN };
	eloq_list_for_each (node, &daemon->lanes)
		fds[count++] = (struct pollfd){
			.fd = eloq_list_entry(node, struct fake_lane, link)->doorbell,
			.events = POLLIN
		};
	pthread_mutex_unlock(&daemon->lock);
	(void)poll(fds, count, busy ? 0 : FAKE_POLL_MS);
	pthread_mutex_lock(&daemon->lock);
	if (fds[0].revents && !daemon->hung_up)
		fake_accept(daemon);
	(void)!read(daemon->wake, &rings, sizeof(rings));
	eloq_list_for_each (node, &daemon->lanes)
		(void)!read(eloq_list_entry(node, struct fake_lane, link)->doorbell, &rings,
			    sizeof(rings));
	for (i = 0; i < FAKE_CONNECTIONS_MAX; i++)
		if (fds[2 + i].revents && daemon->connections[i].socket >= 0 &&
		    daemon->connections[i].socket == fds[2 + i].fd)
			fake_read(daemon, &daemon->connections[i]);
}

static void *fake_thread(void *arg)
{
	struct fake_daemon *daemon = arg;
	bool did;

	pthread_mutex_lock(&daemon->lock);
	while (!daemon->stopping) {
		did = !daemon->hung_up && fake_work(daemon);
		if (!did && !daemon->hung_up) {
			fake_set_asleep(daemon, true);
			did = fake_work(daemon);
		}
		fake_sleep(daemon, did);
		fake_set_asleep(daemon, false);
	}
	pthread_mutex_unlock(&daemon->lock);
	return NULL;
}

/* --- What tests call ---------------------------------------------------------------------------
 */

static void fake_set_defaults(struct fake_daemon_opts *opts)
{
	if (!opts->shard_count)
		opts->shard_count = 2;
	if (!opts->req_ring_bytes)
		opts->req_ring_bytes = ELOQ_REQ_RING_BYTES_DEFAULT;
	if (!opts->ans_ring_bytes)
		opts->ans_ring_bytes = ELOQ_ANS_RING_BYTES_DEFAULT;
	if (!opts->key_bytes_max)
		opts->key_bytes_max = 2048;
	if (!opts->value_bytes_max)
		opts->value_bytes_max = ELOQ_VALUE_BYTES_MAX;
	if (!opts->channels_max)
		opts->channels_max = 64;
}

static void fake_worker_open(struct fake_daemon *daemon, uint32_t shard)
{
	struct fake_worker *worker = &daemon->workers[shard];
	void *page;

	ck_assert_int_eq(eloq_segment_create("fake-page", ELOQ_WORKER_PAGE_MAGIC,
					     ELOQ_WORKER_PAGE_BYTES, &worker->page_fd),
			 0);
	ck_assert_int_eq(eloq_segment_map(worker->page_fd, ELOQ_WORKER_PAGE_BYTES, true, &page), 0);
	worker->page = page;
	atomic_store(&worker->page->cpu, ELOQ_CPU_NONE);
	if (daemon->opts.hello == FAKE_HELLO_OTHER_LAYOUT)
		worker->page->header.version = ELOQ_LAYOUT_VERSION + 1;
	fake_worker_begin(daemon, shard);
}

struct fake_daemon *fake_daemon_start(const struct fake_daemon_opts *opts)
{
	struct fake_daemon *daemon = calloc(1, sizeof(*daemon));

	ck_assert_ptr_nonnull(daemon);
	if (opts)
		daemon->opts = *opts;
	fake_set_defaults(&daemon->opts);
	eloq_prng_seed(&daemon->prng, daemon->opts.seed);
	eloq_list_init(&daemon->lanes);
	for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++)
		daemon->connections[i].socket = -1;
	for (uint32_t i = 0; i < daemon->opts.shard_count; i++)
		fake_worker_open(daemon, i);
	(void)snprintf(daemon->path, sizeof(daemon->path), "%s/eloqstored.sock", test_tmpdir());
	daemon->listener = eloq_control_listen(daemon->path, 16);
	ck_assert_int_ge(daemon->listener, 0);
	daemon->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&daemon->lock, NULL);
	ck_assert_int_eq(pthread_create(&daemon->thread, NULL, fake_thread, daemon), 0);
	return daemon;
}

static void fake_daemon_lock(struct fake_daemon *daemon)
{
	const uint64_t one = 1;

	(void)!write(daemon->wake, &one, sizeof(one));
	pthread_mutex_lock(&daemon->lock);
}

static void fake_daemon_unlock(struct fake_daemon *daemon)
{
	const uint64_t one = 1;

	(void)!write(daemon->wake, &one, sizeof(one));
	pthread_mutex_unlock(&daemon->lock);
}

static void fake_hang_up_all(struct fake_daemon *daemon)
{
	for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++)
		if (daemon->connections[i].socket >= 0)
			fake_hang_up_connection(daemon, &daemon->connections[i]);
}

void fake_daemon_stop(struct fake_daemon *daemon)
{
	if (!daemon)
		return;
	fake_daemon_lock(daemon);
	daemon->stopping = true;
	fake_daemon_unlock(daemon);
	pthread_join(daemon->thread, NULL);
	fake_hang_up_all(daemon);
	fake_store_clear(&daemon->store);
	for (uint32_t i = 0; i < daemon->opts.shard_count; i++) {
		eloq_segment_unmap(daemon->workers[i].page, ELOQ_WORKER_PAGE_BYTES);
		eloq_fd_close(daemon->workers[i].page_fd);
	}
	eloq_fd_close(daemon->listener);
	eloq_fd_close(daemon->wake);
	pthread_mutex_destroy(&daemon->lock);
	free(daemon);
}

const char *fake_daemon_socket(const struct fake_daemon *daemon)
{
	return daemon->path;
}

void fake_daemon_get_figures(struct fake_daemon *daemon, struct fake_daemon_figures *ret_figures)
{
	fake_daemon_lock(daemon);
	*ret_figures = daemon->figures;
	eloq_list_for_each (node, &daemon->lanes) {
		const struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		eloq_list_for_each (pending, &lane->pending)
			ret_figures->unanswered++;
	}
	fake_daemon_unlock(daemon);
}

uint32_t fake_daemon_add_table(struct fake_daemon *daemon, const char *name, uint32_t partitions,
			       bool caller_timestamps)
{
	uint32_t id;

	fake_daemon_lock(daemon);
	id = fake_table_add(daemon, name, partitions, caller_timestamps)->id;
	fake_daemon_unlock(daemon);
	return id;
}

void fake_daemon_kill_worker(struct fake_daemon *daemon, uint32_t shard)
{
	fake_daemon_lock(daemon);
	fake_worker_die(daemon, shard);
	daemon->workers[shard].turns_dead = UINT32_MAX;
	fake_daemon_unlock(daemon);
}

void fake_daemon_revive_worker(struct fake_daemon *daemon, uint32_t shard)
{
	fake_daemon_lock(daemon);
	daemon->workers[shard].turns_dead = 0;
	fake_daemon_unlock(daemon);
}

void fake_daemon_pause_worker(struct fake_daemon *daemon, uint32_t shard, bool paused)
{
	fake_daemon_lock(daemon);
	daemon->workers[shard].paused = paused;
	fake_daemon_unlock(daemon);
}

void fake_daemon_hold_answers(struct fake_daemon *daemon, bool held)
{
	fake_daemon_lock(daemon);
	daemon->holding = held;
	fake_daemon_unlock(daemon);
}

void fake_daemon_refuse(struct fake_daemon *daemon, enum eloq_op op, enum eloq_status status,
			const char *words, unsigned count)
{
	fake_daemon_lock(daemon);
	daemon->refuse_op = op;
	daemon->refuse_status = status;
	daemon->refuse_count = count;
	(void)snprintf(daemon->refuse_words, sizeof(daemon->refuse_words), "%s", words);
	fake_daemon_unlock(daemon);
}

void fake_daemon_close_lanes(struct fake_daemon *daemon, enum eloq_lane_reason reason)
{
	fake_daemon_lock(daemon);
	eloq_list_for_each (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		lane->closed = true;
		eloq_lane_worker_publish(&lane->end);
		eloq_lane_worker_close(&lane->end, reason);
	}
	fake_daemon_unlock(daemon);
}

void fake_daemon_hang_up(struct fake_daemon *daemon)
{
	fake_daemon_lock(daemon);
	daemon->hung_up = true;
	fake_hang_up_all(daemon);
	fake_daemon_unlock(daemon);
}

void fake_daemon_set_faults(struct fake_daemon *daemon, unsigned late, unsigned die_before,
			    unsigned die_after)
{
	fake_daemon_lock(daemon);
	daemon->opts.late = late;
	daemon->opts.die_before = die_before;
	daemon->opts.die_after = die_after;
	fake_daemon_unlock(daemon);
}

uint64_t fake_daemon_entry_count(struct fake_daemon *daemon, uint32_t table)
{
	uint64_t count = 0;

	fake_daemon_lock(daemon);
	for (size_t i = 0; i < daemon->store.map_count; i++)
		if (daemon->store.maps[i].table == table)
			count += daemon->store.maps[i].count;
	fake_daemon_unlock(daemon);
	return count;
}
