/*
 * client.c - the connection: HELLO and WELCOME, the workers' pages, and talking on the socket.
 *
 * Idea: the control socket is for what happens rarely (opening things), so one lock around a whole
 * question and its answers is enough, and any thread may ask. That the daemon is gone is seen on
 * the same socket without the lock: it hangs up.
 *
 * Always:   once `closed` is set it stays; a forked child finds `parent` wiped and touches neither
 *           the socket nor memory that its parent shares with the daemon.
 * Runs on:  any thread.
 * Fails by: an error and words that say what to do.       docs/protocol.md, "Control messages".
 */
#include "client/internal.h"

#include "common/fd.h"
#include "shm/segment.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLIENT_SOCKET_NAME     "eloqstored.sock"
#define CLIENT_DATA_DIR	       "./eloq-data"
#define CLIENT_SOCKET_VARIABLE "ELOQ_SOCKET"

enum { CLIENT_PATH_BYTES = 4096, CLIENT_PARENT_BYTES = 4096 };

/* The public numbers are the internal table's. */
#define CLIENT_SAME(name) static_assert(ELOQ_CLIENT_##name == (int)ELOQ_##name, "eloqclient.h")
CLIENT_SAME(ECORRUPT);
CLIENT_SAME(EVERSION);
CLIENT_SAME(EUNSUPPORTED);
CLIENT_SAME(ENOTFOUND);
CLIENT_SAME(EEXISTS);
CLIENT_SAME(ETOOMANY);
CLIENT_SAME(ETOOLONG);
CLIENT_SAME(EDENIED);
CLIENT_SAME(ENODAEMON);
CLIENT_SAME(ECLOSED);
CLIENT_SAME(EPROTOCOL);
CLIENT_SAME(ESTOPPED);
CLIENT_SAME(EREADONLY);
CLIENT_SAME(EORDER);

const char *eloq_strerror(int code)
{
	return eloq_err_text(code);
}

const char *eloq_version(void)
{
	return ELOQ_VERSION;
}

uint64_t eloq_client_now_ns(void)
{
	return eloq_clock_monotonic_ns(eloq_clock_system());
}

int eloq_client_report(struct eloq_error *reterr, const struct eloq_errinfo *info, int r)
{
	if (r >= 0 || !reterr)
		return r;
	reterr->code = r;
	(void)snprintf(reterr->text, sizeof(reterr->text), "%s",
		       info->text[0] ? info->text : eloq_err_text(r));
	return r;
}

int eloq_client_read_opts(void *to, size_t to_bytes, const void *opts)
{
	const uint8_t *from = opts;
	size_t from_bytes;

	memset(to, 0, to_bytes);
	if (!opts)
		return 0;
	memcpy(&from_bytes, from, sizeof(from_bytes));
	if (from_bytes < sizeof(from_bytes))
		return -EINVAL;
	for (size_t i = to_bytes; i < from_bytes; i++)
		if (from[i])
			return -EINVAL;
	memcpy(to, from, eloq_min_u64(from_bytes, to_bytes));
	return 0;
}

/* --- Life and death ----------------------------------------------------------------------------
 */

bool eloq_client_is_forked(const struct eloq_client *client)
{
	return *client->parent == 0;
}

int eloq_client_check(const struct eloq_client *client)
{
	/* Relaxed: whoever reads it late meets the dead socket itself. */
	if (eloq_unlikely(atomic_load_explicit(&client->closed, memory_order_relaxed)))
		return -ELOQ_ECLOSED;
	return eloq_unlikely(eloq_client_is_forked(client)) ? -ELOQ_ECLOSED : 0;
}

static void client_set_closed(struct eloq_client *client)
{
	/* Relaxed: it carries nothing but itself. */
	atomic_store_explicit(&client->closed, true, memory_order_relaxed);
}

bool eloq_client_daemon_lives(struct eloq_client *client)
{
	struct pollfd look = { .fd = client->socket, .events = POLLRDHUP };

	if (poll(&look, 1, 0) > 0 && look.revents & (POLLHUP | POLLRDHUP | POLLERR))
		client_set_closed(client);
	return eloq_client_check(client) == 0;
}

/* --- Asking ------------------------------------------------------------------------------------
 */

static void client_close_reply_fds(struct eloq_client *client)
{
	for (unsigned i = 0; i < client->reply_fd_count; i++)
		eloq_fd_close(client->reply_fds[i]);
	client->reply_fd_count = 0;
}

/* After this the socket's state is unknown: a later answer could be taken for another's. */
static int client_lost(struct eloq_client *client, int r, struct eloq_errinfo *reterr)
{
	client_set_closed(client);
	if (r == -ELOQ_EVERSION)
		return eloq_fail(reterr, r,
				 "the daemon speaks version %u of the protocol, this library %d",
				 client->reply.header.version, ELOQ_CONTROL_VERSION);
	if (r == 0 || r == -ECONNRESET || r == -EPIPE)
		r = -ELOQ_ECLOSED;
	return eloq_fail(reterr, r, "control socket: %s", eloq_err_text(r));
}

static int client_refused(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	const struct eloq_msg_error *error = &client->reply.error;
	int r = eloq_control_code_to_error(error->code);

	if (r == 0)
		r = -ELOQ_EPROTOCOL;
	if (error->text_bytes == 0)
		return eloq_fail(reterr, r, "%s", eloq_err_text(r));
	return eloq_fail(reterr, r, "%.*s", (int)error->text_bytes, (const char *)(error + 1));
}

int eloq_client_next(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	const struct eloq_control_header *header = &client->reply.header;
	int r;

	client_close_reply_fds(client);
	r = eloq_control_receive(client->socket, client->reply.bytes, sizeof(client->reply.bytes),
				 client->reply_fds, ELOQ_CONTROL_FDS_MAX, &client->reply_fd_count);
	if (r <= 0) {
		client->reply_fd_count = 0;
		return client_lost(client, r, reterr);
	}
	/* A refusal without a number is about the whole connection. */
	if (header->seq != client->seq && !(header->type == ELOQ_CONTROL_ERROR && !header->seq))
		return client_lost(client, -ELOQ_EPROTOCOL, reterr);
	return header->type == ELOQ_CONTROL_ERROR ? client_refused(client, reterr) : 0;
}

int eloq_client_ask(struct eloq_client *client, void *message, enum eloq_control_type type,
		    size_t bytes, struct eloq_errinfo *reterr)
{
	int r;

	if (eloq_client_is_forked(client)) /* the lock may be held by a thread that is not here */
		return eloq_fail(reterr, -ELOQ_ECLOSED,
				 "connected before fork(): connect again in the child");
	pthread_mutex_lock(&client->control_lock);
	r = eloq_client_check(client);
	if (r < 0)
		return eloq_fail(reterr, r, "%s", eloq_err_text(r));
	eloq_control_init(message, type, bytes, ++client->seq);
	r = eloq_control_send(client->socket, message, NULL, 0, NULL, 0);
	if (r < 0)
		return client_lost(client, r, reterr);
	return eloq_client_next(client, reterr);
}

void eloq_client_end(struct eloq_client *client)
{
	if (eloq_client_is_forked(client))
		return;
	client_close_reply_fds(client);
	pthread_mutex_unlock(&client->control_lock);
}

int eloq_client_expect(struct eloq_client *client, enum eloq_control_type type, unsigned fd_count,
		       struct eloq_errinfo *reterr)
{
	if (client->reply.header.type == type && client->reply_fd_count == fd_count)
		return 0;
	return eloq_fail(reterr, -ELOQ_EPROTOCOL, "the daemon answered %s where %s was due",
			 eloq_control_type_text(client->reply.header.type),
			 eloq_control_type_text(type));
}

/* --- Connecting --------------------------------------------------------------------------------
 */

static int client_socket_path(char *path, size_t path_bytes, const struct eloq_connect_opts *opts,
			      struct eloq_errinfo *reterr)
{
	const char *variable = getenv(CLIENT_SOCKET_VARIABLE);
	int n;

	if (opts->socket)
		n = snprintf(path, path_bytes, "%s", opts->socket);
	else if (!opts->data_dir && variable && variable[0])
		n = snprintf(path, path_bytes, "%s", variable);
	else
		n = snprintf(path, path_bytes, "%s/" CLIENT_SOCKET_NAME,
			     opts->data_dir ? opts->data_dir : CLIENT_DATA_DIR);
	if (n < 0 || (size_t)n >= path_bytes)
		return eloq_fail(reterr, -ENAMETOOLONG, "the socket's path is too long");
	return 0;
}

static int client_connect_socket(struct eloq_client *client, const char *path,
				 struct eloq_errinfo *reterr)
{
	int r = eloq_control_connect(path);

	if (r >= 0) {
		client->socket = r;
		return 0;
	}
	switch (r) {
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		return eloq_fail(reterr, -ELOQ_ENODAEMON, "no daemon serves %s", path);
	case -EACCES:
	case -EPERM:
		return eloq_fail(reterr, -ELOQ_EDENIED, "%s: this user may not connect", path);
	default:
		return eloq_fail_errno(reterr, r, "%s", path);
	}
}

static int client_map_worker_pages(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	for (unsigned i = 0; i < client->shard_count; i++) {
		void *page;
		int r = eloq_segment_map(client->reply_fds[i], ELOQ_WORKER_PAGE_BYTES, false,
					 &page);

		if (r < 0)
			return eloq_fail_errno(reterr, r, "mapping the page of worker %u", i);
		client->worker_pages[i] = page;
		(void)madvise(page, ELOQ_WORKER_PAGE_BYTES, MADV_DONTFORK);
		r = eloq_segment_check(page, ELOQ_WORKER_PAGE_MAGIC, ELOQ_WORKER_PAGE_BYTES);
		if (r < 0)
			return eloq_fail_errno(reterr, r, "the page of worker %u", i);
	}
	return 0;
}

static int client_read_welcome(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	const struct eloq_msg_welcome *welcome = &client->reply.welcome;
	int r;

	r = eloq_client_expect(client, ELOQ_CONTROL_WELCOME, welcome->shard_count, reterr);
	if (r < 0)
		return r;
	if (welcome->shard_count == 0 || welcome->shard_count > ELOQ_SHARDS_MAX ||
	    welcome->key_bytes_max == 0 || welcome->key_bytes_max > ELOQ_KEY_BYTES_MAX ||
	    welcome->value_bytes_max > ELOQ_VALUE_BYTES_MAX)
		return eloq_fail(reterr, -ELOQ_EPROTOCOL,
				 "the daemon's limits are none that this library knows");
	client->shard_count = welcome->shard_count;
	client->key_bytes_max = welcome->key_bytes_max;
	client->value_bytes_max = welcome->value_bytes_max;
	return client_map_worker_pages(client, reterr);
}

static int client_hello(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	struct eloq_msg_hello hello = { .layout_version = ELOQ_LAYOUT_VERSION,
					.pid = (uint32_t)getpid() };
	int r;

	(void)snprintf(hello.name, sizeof(hello.name), "%s", program_invocation_short_name);
	r = eloq_client_ask(client, &hello, ELOQ_CONTROL_HELLO, sizeof(hello), reterr);
	if (r == 0)
		r = client_read_welcome(client, reterr);
	eloq_client_end(client);
	return r;
}

/* A page that the kernel empties in a child of fork(). */
static int client_mark_parent(struct eloq_client *client, struct eloq_errinfo *reterr)
{
	uint8_t *page = mmap(NULL, CLIENT_PARENT_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return eloq_fail_errno(reterr, -errno, "mapping a page");
	(void)madvise(page, CLIENT_PARENT_BYTES, MADV_WIPEONFORK);
	*page = 1;
	client->parent = page;
	return 0;
}

/* With one CPU the worker cannot answer while we spin. */
static uint64_t client_spin_ns(uint32_t spin_us)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == 1)
		return 0;
	return spin_us * ELOQ_NS_PER_US;
}

static void client_free(struct eloq_client *client)
{
	bool forked = client->parent && eloq_client_is_forked(client);

	for (unsigned i = 0; i < client->shard_count && !forked; i++)
		eloq_segment_unmap((void *)(uintptr_t)client->worker_pages[i],
				   ELOQ_WORKER_PAGE_BYTES);
	if (client->parent)
		(void)munmap((void *)(uintptr_t)client->parent, CLIENT_PARENT_BYTES);
	if (client->has_thread_channel)
		(void)pthread_key_delete(client->thread_channel);
	eloq_fd_close(client->socket);
	if (!forked)
		pthread_mutex_destroy(&client->control_lock);
	free(client);
}

static void client_thread_ended(void *channel)
{
	eloq_channel_close(channel);
}

static int client_open(struct eloq_client **ret_client, const struct eloq_connect_opts *opts,
		       struct eloq_errinfo *reterr)
{
	struct eloq_client *client = calloc(1, sizeof(*client));
	char path[CLIENT_PATH_BYTES];
	int r;

	if (!client)
		return eloq_fail_errno(reterr, -ENOMEM, "connecting");
	client->socket = -1;
	client->spin_ns = client_spin_ns(opts->spin_us ? opts->spin_us : CLIENT_SPIN_US_DEFAULT);
	eloq_list_init(&client->channels);
	eloq_list_init(&client->tables);
	pthread_mutex_init(&client->control_lock, NULL);
	r = client_mark_parent(client, reterr);
	if (r == 0)
		r = client_socket_path(path, sizeof(path), opts, reterr);
	if (r == 0)
		r = client_connect_socket(client, path, reterr);
	if (r == 0)
		r = client_hello(client, reterr);
	if (r < 0) {
		client_free(client);
		return r;
	}
	client->has_thread_channel =
		pthread_key_create(&client->thread_channel, client_thread_ended) == 0;
	*ret_client = client;
	return 0;
}

int eloq_connect(struct eloq_client **ret_client, const struct eloq_connect_opts *opts,
		 struct eloq_error *reterr)
{
	struct eloq_connect_opts known;
	struct eloq_errinfo info = { 0 };
	int r;

	r = eloq_client_read_opts(&known, sizeof(known), opts);
	if (r == 0)
		r = client_open(ret_client, &known, &info);
	return eloq_client_report(reterr, &info, r);
}

/* Nothing is said to the daemon: the socket's end is the end of all. */
void eloq_disconnect(struct eloq_client *client)
{
	if (!client)
		return;
	client_set_closed(client);
	while (!eloq_list_empty(&client->channels))
		eloq_channel_close(
			eloq_list_entry(client->channels.next, struct eloq_channel, link));
	while (!eloq_list_empty(&client->tables))
		eloq_table_close(eloq_list_entry(client->tables.next, struct eloq_table, link));
	client_free(client);
}

size_t eloq_key_bytes_max(const struct eloq_client *client)
{
	return client->key_bytes_max;
}

size_t eloq_value_bytes_max(const struct eloq_client *client)
{
	return client->value_bytes_max;
}

unsigned eloq_shard_count(const struct eloq_client *client)
{
	return client->shard_count;
}
