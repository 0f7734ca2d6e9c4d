/*
 * link.c - the worker's line to its supervisor.
 *
 * Idea: the supervisor announces tables, lanes and bulk memory here before any client learns of
 * them, so a name that a request uses is either known or waiting in this socket. What the worker
 * says is little and short; should the socket stay full, the supervisor is stuck. A message that
 * cannot be sent is as bad as no supervisor: the worker leaves, and a successor is told all anew.
 *
 * Always:   messages are handled in the order they came.
 * Trust:    the supervisor is trusted; a malformed message from it is our own bug and ends us.
 * Runs on:  the worker's thread.
 */
#include "daemon/shard/internal.h"

#include "common/fd.h"
#include "common/log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/*
 * Of what has arrived a turn handles a little. Who looks for a name reads on: it lies in what the
 * socket holds at that moment, which is some hundred packets.
 */
enum { LINK_SEND_WAIT_MS = 1000, LINK_TURN_MESSAGES_MAX = 64, LINK_NOW_MESSAGES_MAX = 4096 };

/* A packet with its descriptors; those that are still >= 0 at the end are closed. */
struct link_packet {
	int fds[ELOQ_CONTROL_FDS_MAX];
	unsigned fd_count;
};

static void link_packet_clear(struct link_packet *packet)
{
	for (unsigned i = 0; i < packet->fd_count; i++)
		eloq_fd_close(packet->fds[i]);
	packet->fd_count = 0;
}

static int link_receive(struct shard *shard, struct link_packet *packet)
{
	packet->fd_count = 0;
	return eloq_control_receive(shard->socket, shard->message, ELOQ_CONTROL_BYTES_MAX,
				    packet->fds, ELOQ_CONTROL_FDS_MAX, &packet->fd_count);
}

/* What we say is rare and short, and the supervisor always listens: full only if it hangs. */
static int link_send(struct shard *shard, const void *message, const void *text, size_t text_bytes)
{
	struct pollfd poll_fd = { .fd = shard->socket, .events = POLLOUT };
	int r;

	r = eloq_control_send(shard->socket, message, text, text_bytes, NULL, 0);
	if (r == -EAGAIN && poll(&poll_fd, 1, LINK_SEND_WAIT_MS) > 0)
		r = eloq_control_send(shard->socket, message, text, text_bytes, NULL, 0);
	if (r < 0 && !shard->link_lost) {
		eloq_log_warn("the supervisor does not listen error=\"%s\"", eloq_err_text(r));
		shard->link_lost = true;
	}
	return r;
}

struct shard_table *shard_table_find(struct shard *shard, uint32_t id)
{
	for (unsigned i = 0; i < shard->table_count; i++)
		if (shard->tables[i].id == id)
			return &shard->tables[i];
	return NULL;
}

/* Tables are few and never move: requests in work point at them. */
static int link_add_table(struct shard *shard, const struct eloq_msg_table *msg)
{
	struct shard_table *table;

	if (shard_table_find(shard, msg->table))
		return 0;
	table = shard_table_find(shard, 0);
	if (!table) {
		if (shard->table_count == ELOQ_TABLES_MAX)
			return -ELOQ_ETOOMANY;
		table = &shard->tables[shard->table_count++];
	}
	*table = (struct shard_table){ .id = msg->table,
				       .partitions = msg->partitions,
				       .timestamps = msg->timestamps };
	memcpy(table->name, msg->name, sizeof(table->name));
	table->name[sizeof(table->name) - 1] = '\0';
	eloq_waitq_init(&table->users_left);
	return shard->store ? eloq_store_table_add(shard->store, table->id, table->name) : 0;
}

/* --- dropping a table: all its partitions, in a task
 * ------------------------------------------------ */

struct link_drop {
	struct shard *shard;
	struct shard_table *table;
	uint32_t seq;
	uint32_t count, count_max;
	uint32_t *partitions;
};

static int link_drop_collect(void *arg, uint32_t partition)
{
	struct link_drop *drop = arg;

	if (drop->count == drop->count_max) {
		uint32_t count_max = drop->count_max ? drop->count_max * 2 : 64;
		uint32_t *grown = reallocarray(drop->partitions, count_max, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		drop->partitions = grown;
		drop->count_max = count_max;
	}
	drop->partitions[drop->count++] = partition;
	return 0;
}

/* Writes that were taken may yet make partitions: they end first, and no more are taken. */
static void link_drop_task(void *arg)
{
	struct link_drop *drop = arg;
	struct shard *shard = drop->shard;
	struct shard_table *table = drop->table;
	struct eloq_errinfo error = { 0 };
	int r;

	while (table->users > 0)
		eloq_waitq_await(&table->users_left);
	r = eloq_store_table_partitions(shard->store, table->id, link_drop_collect, drop);
	for (uint32_t i = 0; r >= 0 && i < drop->count; i++) {
		struct eloq_write write = { .kind = ELOQ_WRITE_DROP,
					    .table_id = table->id,
					    .partition = drop->partitions[i] };

		r = eloq_store_write_await(shard->store, &write, &error);
	}
	if (r >= 0) {
		eloq_store_table_remove(shard->store, table->id);
		table->id = 0;
	}
	table->drop_runs = false;
	shard_link_reply(shard, ELOQ_CONTROL_W_REPLY, drop->seq, r, error.text);
	free(drop->partitions);
	free(drop);
	shard->in_work--;
}

static void link_drop_table(struct shard *shard, const struct eloq_msg_table *msg)
{
	struct shard_table *table = shard_table_find(shard, msg->table);
	struct link_drop *drop;

	if (!table) {
		shard_link_reply(shard, ELOQ_CONTROL_W_REPLY, msg->header.seq, 0, "");
		return;
	}
	if (table->drop_runs)
		return; /* asked again: the reply is the same */
	table->dropping = true;
	drop = calloc(1, sizeof(*drop));
	if (drop)
		*drop = (struct link_drop){ .shard = shard,
					    .table = table,
					    .seq = msg->header.seq };
	/* Like reads, drops leave tasks to the commits that they wait for. */
	if (!drop || !shard_may_read(shard) ||
	    eloq_task_start(shard->sched, link_drop_task, drop) < 0) {
		free(drop);
		shard_link_reply(shard, ELOQ_CONTROL_W_REPLY, msg->header.seq, -ENOMEM,
				 "no task is free");
		return;
	}
	table->drop_runs = true;
	shard->in_work++;
}

/* --- messages
 * ---------------------------------------------------------------------------------------- */

static int link_add_root(struct shard *shard, struct link_packet *packet)
{
	const struct eloq_msg_w_root *msg = (const void *)shard->message;

	if (msg->index != shard->root_count || shard->root_count == ELOQ_SHARDS_MAX ||
	    packet->fd_count != 1)
		return -ELOQ_EPROTOCOL;
	shard->root_names[shard->root_count] =
		strndup((const char *)shard->message + sizeof(*msg), msg->text_bytes);
	if (!shard->root_names[shard->root_count])
		return -ENOMEM;
	shard->root_fds[shard->root_count++] = eloq_fd_take(&packet->fds[0]);
	return 0;
}

static void link_send_figures(struct shard *shard, uint32_t seq)
{
	struct eloq_msg_w_figures msg = { 0 };
	struct eloq_store_stats store;
	const struct eloq_io_stats *io = eloq_io_stats(shard->io);

	eloq_store_get_stats(shard->store, &store);
	msg.figures = shard->figures;
	msg.figures.lanes = shard->lane_count;
	msg.figures.tasks_live = eloq_sched_live_count(shard->sched);
	msg.figures.request_bytes = shard->request_bytes;
	msg.figures.commits = store.commits;
	msg.figures.merged_writes = store.merged_writes;
	msg.figures.pages_written = store.pages_written;
	msg.figures.cache_hits = store.cache_hits;
	msg.figures.cache_misses = store.cache_misses;
	msg.figures.cache_pages = store.cache_pages;
	msg.figures.cache_pages_max = store.cache_pages_max;
	msg.figures.files_open = store.files_open;
	msg.figures.partitions_loaded = store.partitions_loaded;
	msg.figures.io_reads = io->reads;
	msg.figures.io_read_bytes = io->read_bytes;
	msg.figures.io_writes = io->writes;
	msg.figures.io_write_bytes = io->write_bytes;
	msg.figures.io_syncs = io->syncs;
	msg.figures.io_errors = io->errors;
	eloq_control_init(&msg, ELOQ_CONTROL_W_FIGURES, sizeof(msg), seq);
	strncpy(msg.io_backend, eloq_io_backend_name(shard->io), sizeof(msg.io_backend) - 1);
	(void)link_send(shard, &msg, NULL, 0);
}

static void link_lane_gone(struct shard *shard, const struct eloq_msg_w_lane_end *msg)
{
	struct shard_lane *lane = shard_lane_find(shard, msg->lane);

	if (lane)
		shard_lane_close(lane, ELOQ_LANE_REASON_LEFT);
}

static int link_add_lane(struct shard *shard, struct link_packet *packet)
{
	const struct eloq_msg_w_lane *msg = (const void *)shard->message;
	int r;

	if (packet->fd_count != 3)
		return -ELOQ_EPROTOCOL;
	r = shard_lane_add(shard, msg, packet->fds[0], packet->fds[1],
			   eloq_fd_take(&packet->fds[2]));
	if (r < 0) {
		eloq_log_err("lane cannot be served lane=%u error=\"%s\"", msg->lane,
			     eloq_err_text(r));
		shard_link_lane_closed(shard, msg->lane, ELOQ_LANE_REASON_STOPPED);
	}
	return 0;
}

static int link_handle_lane_message(struct shard *shard, struct link_packet *packet, unsigned type)
{
	const struct eloq_msg_w_bulk *bulk = (const void *)shard->message;
	const struct eloq_msg_w_bulk_gone *gone = (const void *)shard->message;
	int r = 0;

	switch (type) {
	case ELOQ_CONTROL_W_LANE:
		return link_add_lane(shard, packet);
	case ELOQ_CONTROL_W_LANE_GONE:
		link_lane_gone(shard, (const void *)shard->message);
		return 0;
	case ELOQ_CONTROL_W_BULK:
		if (packet->fd_count != 1)
			return -ELOQ_EPROTOCOL;
		r = shard_lane_add_bulk(shard, bulk, packet->fds[0]);
		if (r < 0)
			eloq_log_warn("bulk memory cannot be mapped lane=%u error=\"%s\"",
				      bulk->lane, eloq_err_text(r));
		return 0;
	case ELOQ_CONTROL_W_BULK_GONE:
		shard_lane_remove_bulk(shard, gone->lane, gone->bulk);
		return 0;
	default:
		return -ELOQ_EPROTOCOL;
	}
}

/* What may come at any time while serving. */
static int link_handle(struct shard *shard, struct link_packet *packet)
{
	const struct eloq_control_header *header = (const void *)shard->message;
	const struct eloq_msg_w_timestamps *ts = (const void *)shard->message;

	switch (header->type) {
	case ELOQ_CONTROL_W_TABLE:
		return link_add_table(shard, (const void *)shard->message);
	case ELOQ_CONTROL_W_TABLE_DROP:
		link_drop_table(shard, (const void *)shard->message);
		return 0;
	case ELOQ_CONTROL_W_TIMESTAMPS:
		shard->timestamp_ceiling_us =
			eloq_max_u64(shard->timestamp_ceiling_us, ts->ceiling_us);
		shard->timestamps_asked = false;
		return 0;
	case ELOQ_CONTROL_W_LOOK:
		link_send_figures(shard, header->seq);
		return 0;
	case ELOQ_CONTROL_W_STOP:
		shard->told_to_stop = true;
		if (shard->state == SHARD_SERVING)
			shard->state = SHARD_DRAINING;
		return 0;
	default:
		return link_handle_lane_message(shard, packet, header->type);
	}
}

/* True: there may be more. */
static bool link_drain(struct shard *shard, unsigned messages_max)
{
	struct link_packet packet;

	for (unsigned i = 0; i < messages_max && !shard->link_lost; i++) {
		int r = link_receive(shard, &packet);

		if (r == -EAGAIN)
			return false;
		if (r > 0)
			r = link_handle(shard, &packet);
		else if (r == 0)
			r = -ELOQ_ECLOSED;
		link_packet_clear(&packet);
		if (r < 0 && !shard->link_lost) {
			eloq_log_warn("the supervisor is gone reason=\"%s\"", eloq_err_text(r));
			shard->link_lost = true;
		}
	}
	return !shard->link_lost;
}

void shard_link_drain_now(struct shard *shard)
{
	if (link_drain(shard, LINK_NOW_MESSAGES_MAX))
		shard->link_ready = true;
}

unsigned shard_link_drain(struct shard *shard)
{
	if (shard->link_ready)
		shard->link_ready = link_drain(shard, LINK_TURN_MESSAGES_MAX);
	return shard->link_ready;
}

static void link_socket_ready(struct eloq_io_poll *poll)
{
	struct shard *shard = poll->arg;

	shard->link_ready = true;
}

/* The first message, blocking: what we are. Its descriptors: our page, and wal/shard-NNN. */
int shard_link_receive_start(struct shard *shard, struct eloq_errinfo *reterr)
{
	const struct eloq_control_header *header = (const void *)shard->message;
	struct link_packet packet;
	int r;

	r = link_receive(shard, &packet);
	if (r > 0 && (header->type != ELOQ_CONTROL_W_START || packet.fd_count != 2))
		r = -ELOQ_EPROTOCOL;
	if (r <= 0) {
		link_packet_clear(&packet);
		return eloq_fail_errno(reterr, r ? r : -ELOQ_ECLOSED, "no start message");
	}
	memcpy(&shard->start, shard->message, sizeof(shard->start));
	shard->page_fd = eloq_fd_take(&packet.fds[0]);
	shard->wal_dir_fd = eloq_fd_take(&packet.fds[1]);
	link_packet_clear(&packet);
	while (shard->root_count < shard->start.root_count) {
		r = link_receive(shard, &packet);
		if (r > 0)
			r = header->type == ELOQ_CONTROL_W_ROOT ? link_add_root(shard, &packet)
								: -ELOQ_EPROTOCOL;
		else if (r == 0)
			r = -ELOQ_ECLOSED;
		link_packet_clear(&packet);
		if (r < 0)
			return eloq_fail_errno(reterr, r, "no store directory was handed over");
	}
	return 0;
}

/* Everything up to GO, blocking; then the socket is watched. */
int shard_link_open(struct shard *shard)
{
	const struct eloq_control_header *header = (const void *)shard->message;
	struct link_packet packet;
	int r;

	for (;;) {
		bool go;

		r = link_receive(shard, &packet);
		go = r > 0 && header->type == ELOQ_CONTROL_W_GO;
		if (r > 0 && !go)
			r = link_handle(shard, &packet);
		else if (r == 0)
			r = -ELOQ_ECLOSED;
		link_packet_clear(&packet);
		if (r < 0)
			return r;
		if (go)
			break;
	}
	if (fcntl(shard->socket, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	shard->socket_poll = (struct eloq_io_poll){ .fd = shard->socket,
						    .ready = link_socket_ready,
						    .arg = shard };
	return eloq_io_poll_start(shard->io, &shard->socket_poll);
}

void shard_link_reply(struct shard *shard, enum eloq_control_type type, uint32_t seq, int error,
		      const char *text)
{
	struct eloq_msg_w_reply msg = { 0 };
	size_t text_bytes = text ? strlen(text) : 0;

	eloq_control_init(&msg, type, sizeof(msg) + text_bytes, seq);
	msg.code = eloq_control_code_from_error(error);
	msg.text_bytes = (uint32_t)text_bytes;
	(void)link_send(shard, &msg, text, text_bytes);
}

void shard_link_lane_closed(struct shard *shard, uint32_t lane, uint32_t reason)
{
	struct eloq_msg_w_lane_end msg = { .lane = lane, .reason = reason };

	eloq_control_init(&msg, ELOQ_CONTROL_W_LANE_CLOSED, sizeof(msg), 0);
	(void)link_send(shard, &msg, NULL, 0);
}

void shard_link_ask_timestamps(struct shard *shard)
{
	struct eloq_msg_w_plain msg = { 0 };

	if (shard->timestamps_asked)
		return;
	eloq_control_init(&msg, ELOQ_CONTROL_W_TIMESTAMPS_LOW, sizeof(msg), 0);
	if (link_send(shard, &msg, NULL, 0) == 0)
		shard->timestamps_asked = true;
}
