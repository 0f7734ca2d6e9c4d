/*
 * link.c - what is said to workers, and what they say.
 *
 * Idea: a new process is told everything in one go (START, ROOT, TABLE, LANE, BULK, GO); after that
 * it hears of changes. A worker that is down hears nothing: its successor is told the whole again.
 * Because messages are handled in order, what a client learns after its workers were sent a change
 * is known to them before the client can use it (super_session_gate).
 *
 * Runs on:  the supervisor's thread; never waits for a worker.
 * Fails by: killing a worker that breaks the protocol; it is our own program.
 */
#include "common/log.h"
#include "daemon/supervisor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum { LINK_MESSAGES_PER_TURN_MAX = 64 };

/* Reserved ahead at once, and when clocks are behind what was reserved already. */
#define LINK_TIMESTAMPS_AHEAD_US (UINT64_C(60) * 1000000)
#define LINK_TIMESTAMPS_STEP_US	 UINT64_C(1000000)

void super_link_flush(struct worker *worker)
{
	uint64_t sent_before = worker->out.sent;
	int r;

	if (worker->socket.fd < 0)
		return;
	r = eloq_outbox_flush(&worker->out, worker->socket.fd);
	if (worker->out.sent != sent_before)
		worker->super->gates_moved = true;
	/* A broken socket belongs to a process that is about to be found dead. -ENOBUFS is tried
	 * again by the clock, as the socket itself would report room without end. */
	supervisor_watch_for(worker->super, &worker->socket,
			     r == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void super_link_send(struct worker *worker, const void *message, const void *text,
		     size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count)
{
	if (!super_worker_is_alive(worker))
		return;
	if (eloq_outbox_put(&worker->out, message, text, text_bytes, fds, fd_count) < 0) {
		super_worker_kill(worker, "no memory for its messages");
		return;
	}
	super_link_flush(worker);
}

/* --- To a worker -------------------------------------------------------------------------------
 */

/* Each shard's share; a back-end has places for so many. */
static uint32_t link_files_max(const struct eloq_options *options)
{
	return (uint32_t)eloq_min_u64(eloq_max_u64(options->fd_limit / options->num_threads, 32),
				      ELOQ_IO_FILES_MAX);
}

static void link_send_settings(struct worker *worker, uint64_t timestamp_floor_us)
{
	const struct supervisor *super = worker->super;
	const struct eloq_options *options = super->options;
	const struct eloq_store_file *store = &super->store;
	struct eloq_shared_fd *fds[] = { worker->page, worker->wal };
	struct eloq_msg_w_start msg = {
		.shard = worker->shard,
		.shard_count = super->worker_count,
		.incarnation = worker->incarnation,
		.cpu = super->cpus[worker->shard],
		.page_bytes = store->page_bytes,
		.pages_per_file_shift = store->pages_per_file_shift,
		.overflow_pointers = store->overflow_pointers,
		.append_mode = store->append_mode,
		.data_restart_interval = (uint32_t)options->data_page_restart_interval,
		.index_restart_interval = (uint32_t)options->index_page_restart_interval,
		.verify_checksums = !options->skip_verify_checksum,
		.root_count = super->dir.root_count,
		.manifest_bytes_max = options->manifest_limit,
		.cache_bytes = options->buffer_pool_size,
		.files_max = link_files_max(options),
		.io_depth = (uint32_t)eloq_min_u64(options->io_queue_size, ELOQ_IO_DEPTH_MAX),
		.pool_threads = (uint32_t)options->pool_threads,
		.tasks_max = ELOQ_TASKS_MAX,
		.request_bytes_max = options->request_memory,
		.timestamp_floor_us = timestamp_floor_us,
		.timestamp_ceiling_us = store->timestamp_end_us,
	};

	(void)snprintf(msg.io_backend, sizeof(msg.io_backend), "%s", options->io_backend);
	(void)snprintf(msg.log_level, sizeof(msg.log_level), "%s", options->log_level);
	eloq_control_init(&msg, ELOQ_CONTROL_W_START, sizeof(msg), 0);
	super_link_send(worker, &msg, NULL, 0, fds, ELOQ_ARRAY_SIZE(fds));
}

static void link_send_root(struct worker *worker, unsigned index)
{
	struct supervisor *super = worker->super;
	const char *path = super->dir.root_paths[index];
	struct eloq_msg_w_root msg = { .index = index, .text_bytes = (uint32_t)strlen(path) };

	eloq_control_init(&msg, ELOQ_CONTROL_W_ROOT, sizeof(msg), 0);
	super_link_send(worker, &msg, path, msg.text_bytes, &super->roots[index], 1);
}

void super_link_send_table(struct worker *worker, enum eloq_control_type type, uint32_t seq,
			   const struct eloq_store_file_table *table)
{
	struct eloq_msg_table msg = {
		.table = table->id,
		.partitions = table->partitions,
		.timestamps = table->timestamps,
		.flags = table->flags & ELOQ_STORE_FILE_ADOPTED ? ELOQ_TABLE_ADOPTED : 0,
	};

	static_assert(sizeof(msg.name) == sizeof(table->name), "both end in zero bytes");
	memcpy(msg.name, table->name, sizeof(msg.name));
	eloq_control_init(&msg, type, sizeof(msg), seq);
	super_link_send(worker, &msg, NULL, 0, NULL, 0);
}

void super_link_send_start(struct worker *worker, uint64_t timestamp_floor_us)
{
	const struct eloq_store_file *store = &worker->super->store;
	struct eloq_msg_w_plain go = { 0 };

	link_send_settings(worker, timestamp_floor_us);
	for (unsigned i = 0; i < worker->super->dir.root_count; i++)
		link_send_root(worker, i);
	/* Those on their way out too: a worker finds partitions to drop by the table's name. */
	for (uint32_t i = 0; i < store->table_count; i++)
		super_link_send_table(worker, ELOQ_CONTROL_W_TABLE, 0, &store->tables[i]);
	super_lane_hand_over(worker);
	eloq_control_init(&go, ELOQ_CONTROL_W_GO, sizeof(go), 0);
	super_link_send(worker, &go, NULL, 0, NULL, 0);
}

/*
 * A minute ahead of the clock. Where workers die quickly one after the other, each starts above
 * what was reserved for the one before it; the small step keeps that from running away.
 */
void super_link_reserve_timestamps(struct supervisor *super)
{
	uint64_t ahead = eloq_clock_realtime_us(super->clock) + LINK_TIMESTAMPS_AHEAD_US;
	uint64_t step = super->store.timestamp_end_us + LINK_TIMESTAMPS_STEP_US;

	super->store.timestamp_end_us = eloq_max_u64(ahead, step);
}

void super_link_send_timestamps(struct worker *worker)
{
	struct eloq_msg_w_timestamps msg = { 0 };

	worker->wants_timestamps = true;
	super_link_reserve_timestamps(worker->super);
	if (supervisor_save(worker->super, NULL) < 0)
		return; /* asked for again by the clock */
	worker->wants_timestamps = false;
	msg.ceiling_us = worker->super->store.timestamp_end_us;
	eloq_control_init(&msg, ELOQ_CONTROL_W_TIMESTAMPS, sizeof(msg), 0);
	super_link_send(worker, &msg, NULL, 0, NULL, 0);
}

/* --- From a worker -----------------------------------------------------------------------------
 */

static void link_stopped(struct worker *worker, const struct eloq_msg_w_reply *msg,
			 const char *text)
{
	worker->stopped_cleanly = msg->code == ELOQ_CONTROL_CODE_OK;
	if (!worker->stopped_cleanly)
		eloq_log_err("worker could not stop cleanly shard=%u reason=\"%.*s\"",
			     worker->shard, (int)msg->text_bytes, text);
}

static int link_handle(struct worker *worker, const uint8_t *message)
{
	const struct eloq_control_header *header = (const void *)message;
	const struct eloq_msg_w_reply *reply = (const void *)message;
	const struct eloq_msg_w_lane_end *end = (const void *)message;
	const char *text = (const char *)message + sizeof(*reply);

	switch (header->type) {
	case ELOQ_CONTROL_W_READY:
		super_worker_became_ready(worker, text, reply->text_bytes);
		return 0;
	case ELOQ_CONTROL_W_REPLY:
		super_tables_reply(worker, header->seq, eloq_control_code_to_error(reply->code),
				   text, reply->text_bytes);
		return 0;
	case ELOQ_CONTROL_W_LANE_CLOSED:
		super_lane_closed_by_worker(worker, end->lane, end->reason);
		return 0;
	case ELOQ_CONTROL_W_TIMESTAMPS_LOW:
		super_link_send_timestamps(worker);
		return 0;
	case ELOQ_CONTROL_W_FIGURES:
		super_lane_fence_passed(worker, header->seq);
		super_looks_figures(worker, (const void *)message);
		return 0;
	case ELOQ_CONTROL_W_STOPPED:
		link_stopped(worker, reply, text);
		return 0;
	default:
		return -ELOQ_EPROTOCOL;
	}
}

int super_link_drain(struct worker *worker)
{
	static _Alignas(8) uint8_t message[ELOQ_CONTROL_BYTES_MAX]; /* one thread, no recursion */

	for (unsigned i = 0; i < LINK_MESSAGES_PER_TURN_MAX; i++) {
		int r = eloq_control_receive(worker->socket.fd, message, sizeof(message), NULL, 0,
					     NULL);

		if (r == -EAGAIN)
			return r;
		if (r > 0)
			r = link_handle(worker, message);
		else if (r == 0)
			return 0;
		if (r < 0) {
			super_worker_kill(worker, "it broke the protocol");
			return 0;
		}
	}
	return 1;
}

void super_link_socket_ready(struct watch *watch, uint32_t events)
{
	struct worker *worker = eloq_container_of(watch, struct worker, socket);

	if (events & EPOLLOUT)
		super_link_flush(worker);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || super_link_drain(worker) != 0)
		return;
	/* It has nothing more to say; its death is told by the pidfd. */
	supervisor_unwatch(worker->super, &worker->socket);
	if (!worker->kill_at_ns)
		super_worker_kill_later(worker, "it closed its socket and did not leave");
}
