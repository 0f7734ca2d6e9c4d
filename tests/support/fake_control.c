/*
 * fake_control.c - the fake daemon's supervisor: real segments, handed out over the socket.
 */
#include "tests/support/fake_internal.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { FAKE_LONG_TEXT = 40000 };

/* --- Control -----------------------------------------------------------------------------------
 */

static void fake_send(struct fake_connection *connection, void *message,
		      enum eloq_control_type type, size_t bytes, uint32_t seq, const int *fds,
		      unsigned fd_count)
{
	eloq_control_init(message, type, bytes, seq);
	(void)eloq_control_send(connection->socket, message, NULL, 0, fds, fd_count);
}

static void fake_refuse_message(struct fake_connection *connection, enum eloq_control_code code,
				const char *text, uint32_t seq)
{
	struct eloq_msg_error message = { .code = code, .text_bytes = (uint32_t)strlen(text) };

	eloq_control_init(&message, ELOQ_CONTROL_ERROR, sizeof(message) + strlen(text), seq);
	(void)eloq_control_send(connection->socket, &message, text, strlen(text), NULL, 0);
}

static void fake_done(struct fake_connection *connection, uint32_t seq)
{
	struct eloq_msg_done message = { 0 };

	fake_send(connection, &message, ELOQ_CONTROL_DONE, sizeof(message), seq, NULL, 0);
}

static void fake_lane_free(struct fake_daemon *daemon, struct fake_lane *lane)
{
	struct eloq_list *pending;

	while ((pending = eloq_list_pop_front(&lane->pending)) != NULL)
		fake_forget(eloq_list_entry(pending, struct fake_pending, link));
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++) {
		struct fake_bulk *bulk = &lane->bulks[i];

		if (!bulk->base)
			continue;
		daemon->figures.bulks--;
		daemon->figures.bulk_bytes -= bulk->bytes;
		eloq_segment_unmap(bulk->base, bulk->bytes);
	}
	eloq_ring_segment_unmap(lane->req_base, lane->end.req_ring_bytes);
	eloq_ring_segment_unmap(lane->ans_base, lane->end.ans_ring_bytes);
	eloq_fd_close(lane->doorbell);
	eloq_list_remove(&lane->link);
	daemon->figures.lanes--;
	free(lane);
}

static void fake_drop_lanes(struct fake_daemon *daemon, const struct fake_connection *connection,
			    uint32_t channel, bool all)
{
	eloq_list_for_each_safe (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		if (lane->connection == connection && (all || lane->channel == channel))
			fake_lane_free(daemon, lane);
	}
}

void fake_hang_up_connection(struct fake_daemon *daemon, struct fake_connection *connection)
{
	fake_drop_lanes(daemon, connection, 0, true);
	eloq_fd_clear(&connection->socket);
	daemon->figures.channels -= connection->channel_count;
	daemon->figures.connections--;
	connection->channel_count = 0;
}

static void fake_welcome(struct fake_daemon *daemon, struct fake_connection *connection,
			 uint32_t seq)
{
	struct eloq_msg_welcome message = {
		.session = 1,
		.shard_count = daemon->opts.shard_count,
		.page_bytes = 4096,
		.key_bytes_max = daemon->opts.key_bytes_max,
		.value_bytes_max = daemon->opts.value_bytes_max,
		.release = "fake",
	};
	int fds[ELOQ_SHARDS_MAX];

	for (uint32_t i = 0; i < daemon->opts.shard_count; i++)
		ck_assert_int_eq(eloq_segment_reopen_read_only(daemon->workers[i].page_fd, &fds[i]),
				 0);
	fake_send(connection, &message, ELOQ_CONTROL_WELCOME, sizeof(message), seq, fds,
		  daemon->opts.shard_count);
	for (uint32_t i = 0; i < daemon->opts.shard_count; i++)
		eloq_fd_close(fds[i]);
}

static void fake_hello(struct fake_daemon *daemon, struct fake_connection *connection, uint32_t seq)
{
	struct eloq_control_header other = { .magic = ELOQ_CONTROL_MAGIC,
					     .version = 7,
					     .type = ELOQ_CONTROL_ERROR,
					     .bytes = sizeof(other),
					     .seq = seq };

	switch (daemon->opts.hello) {
	case FAKE_HELLO_WELCOME:
	case FAKE_HELLO_OTHER_LAYOUT:
		fake_welcome(daemon, connection, seq);
		return;
	case FAKE_HELLO_REFUSE_VERSION:
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_VERSION,
				    "layout version 1 asked for, 9 is spoken here", seq);
		return;
	case FAKE_HELLO_OTHER_VERSION:
		(void)send(connection->socket, &other, sizeof(other), MSG_NOSIGNAL);
		return;
	case FAKE_HELLO_HANG_UP:
		fake_hang_up_connection(daemon, connection);
		return;
	case FAKE_HELLO_DENY:
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_DENIED, "not you", seq);
		return;
	case FAKE_HELLO_NONSENSE:
		fake_done(connection, seq);
		return;
	}
}

static void fake_channel_open(struct fake_daemon *daemon, struct fake_connection *connection,
			      uint32_t seq)
{
	struct eloq_msg_channel message = { .channel = ++daemon->next_channel };

	if (connection->channel_count == daemon->opts.channels_max) {
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_TOO_MANY, "too many channels",
				    seq);
		return;
	}
	connection->channels[connection->channel_count++] = message.channel;
	daemon->figures.channels++;
	fake_send(connection, &message, ELOQ_CONTROL_CHANNEL, sizeof(message), seq, NULL, 0);
}

static void fake_channel_close(struct fake_daemon *daemon, struct fake_connection *connection,
			       uint32_t channel, uint32_t seq)
{
	for (unsigned i = 0; i < connection->channel_count; i++) {
		if (connection->channels[i] != channel)
			continue;
		connection->channels[i] = connection->channels[--connection->channel_count];
		daemon->figures.channels--;
		fake_drop_lanes(daemon, connection, channel, false);
		fake_done(connection, seq);
		return;
	}
	fake_refuse_message(connection, ELOQ_CONTROL_CODE_NOT_FOUND, "no such channel", seq);
}

static void *fake_map_ring(int fd, uint32_t ring_bytes, bool writable)
{
	void *base = NULL;

	ck_assert_int_eq(eloq_ring_segment_map(fd, ring_bytes, writable, &base), 0);
	return base;
}

static void fake_lane_open(struct fake_daemon *daemon, struct fake_connection *connection,
			   const struct eloq_msg_lane_open *ask)
{
	const uint32_t req_bytes = daemon->opts.req_ring_bytes;
	const uint32_t ans_bytes = daemon->opts.ans_ring_bytes;
	struct fake_lane *lane = calloc(1, sizeof(*lane));
	struct eloq_msg_lane message = { .channel = ask->channel,
					 .shard = ask->shard,
					 .req_ring_bytes = req_bytes,
					 .ans_ring_bytes = ans_bytes };
	int req_fd, ans_fd, fds[3];

	ck_assert_int_eq(eloq_segment_create("fake-req", ELOQ_REQUEST_SEGMENT_MAGIC,
					     ELOQ_SEGMENT_HEADER_BYTES + req_bytes, &req_fd),
			 0);
	ck_assert_int_eq(eloq_segment_create("fake-ans", ELOQ_ANSWER_SEGMENT_MAGIC,
					     ELOQ_SEGMENT_HEADER_BYTES + ans_bytes, &ans_fd),
			 0);
	lane->connection = connection;
	lane->channel = ask->channel;
	lane->shard = ask->shard;
	lane->end.req_ring_bytes = req_bytes;
	lane->end.ans_ring_bytes = ans_bytes;
	lane->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->req_base = fake_map_ring(req_fd, req_bytes, false);
	lane->ans_base = fake_map_ring(ans_fd, ans_bytes, true);
	eloq_list_init(&lane->pending);
	eloq_list_push_back(&daemon->lanes, &lane->link);
	daemon->figures.lanes++;
	if (!daemon->workers[lane->shard].dead)
		fake_lane_begin(daemon, lane);
	fds[0] = req_fd;
	ck_assert_int_eq(eloq_segment_reopen_read_only(ans_fd, &fds[1]), 0);
	fds[2] = lane->doorbell;
	fake_send(connection, &message, ELOQ_CONTROL_LANE, sizeof(message), ask->header.seq, fds,
		  3);
	eloq_fd_close(fds[1]);
	eloq_fd_close(req_fd);
	eloq_fd_close(ans_fd);
}

static struct fake_lane *fake_find_lane(struct fake_daemon *daemon,
					const struct fake_connection *connection, uint32_t channel,
					uint32_t shard)
{
	eloq_list_for_each (node, &daemon->lanes) {
		struct fake_lane *lane = eloq_list_entry(node, struct fake_lane, link);

		if (lane->connection == connection && lane->channel == channel &&
		    lane->shard == shard)
			return lane;
	}
	ck_abort_msg("a client asked for a lane that it does not have");
	return NULL;
}

static struct fake_bulk *fake_bulk_slot(struct fake_lane *lane)
{
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++)
		if (!lane->bulks[i].base)
			return &lane->bulks[i];
	return NULL;
}

static void fake_bulk_open(struct fake_daemon *daemon, struct fake_connection *connection,
			   const struct eloq_msg_bulk_open *ask)
{
	struct fake_lane *lane = fake_find_lane(daemon, connection, ask->channel, ask->shard);
	struct fake_bulk *bulk = fake_bulk_slot(lane);
	uint64_t bytes = eloq_round_up(ask->bytes, ELOQ_BULK_BYTES_ALIGN);
	struct eloq_msg_bulk message = { .bytes = bytes };
	void *base;
	int fd, reader;

	if (!bulk || (daemon->opts.bulk_bytes_max &&
		      daemon->figures.bulk_bytes + bytes > daemon->opts.bulk_bytes_max)) {
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_TOO_MANY, "too much memory",
				    ask->header.seq);
		return;
	}
	ck_assert_int_eq(eloq_segment_create("fake-bulk", 0, bytes, &fd), 0);
	ck_assert_int_eq(eloq_segment_map(fd, bytes, ask->direction == ELOQ_BULK_DOWN, &base), 0);
	ck_assert_int_eq(eloq_segment_reopen_read_only(fd, &reader), 0);
	*bulk = (struct fake_bulk){ .number = ++daemon->next_bulk,
				    .direction = (enum eloq_bulk_direction)ask->direction,
				    .base = base,
				    .bytes = bytes };
	daemon->figures.bulks++;
	daemon->figures.bulks_opened++;
	daemon->figures.bulk_bytes += bytes;
	message.bulk = bulk->number;
	fake_send(connection, &message, ELOQ_CONTROL_BULK, sizeof(message), ask->header.seq,
		  ask->direction == ELOQ_BULK_UP ? &fd : &reader, 1);
	eloq_fd_close(fd);
	eloq_fd_close(reader);
}

static void fake_bulk_close(struct fake_daemon *daemon, struct fake_connection *connection,
			    const struct eloq_msg_bulk_close *ask)
{
	struct fake_lane *lane = fake_find_lane(daemon, connection, ask->channel, ask->shard);

	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++) {
		struct fake_bulk *bulk = &lane->bulks[i];

		if (!bulk->base || bulk->number != ask->bulk)
			continue;
		ck_assert_uint_eq(bulk->users, 0);
		eloq_segment_unmap(bulk->base, bulk->bytes);
		daemon->figures.bulks--;
		daemon->figures.bulk_bytes -= bulk->bytes;
		*bulk = (struct fake_bulk){ 0 };
		fake_done(connection, ask->header.seq);
		return;
	}
	fake_refuse_message(connection, ELOQ_CONTROL_CODE_NOT_FOUND, "no such bulk memory",
			    ask->header.seq);
}

/* --- Tables ------------------------------------------------------------------------------------
 */

static struct fake_table *fake_table_by_name(struct fake_daemon *daemon, const char *name)
{
	for (unsigned i = 0; i < daemon->table_count; i++)
		if (strcmp(daemon->tables[i].name, name) == 0)
			return &daemon->tables[i];
	return NULL;
}

struct fake_table *fake_table_add(struct fake_daemon *daemon, const char *name, uint32_t partitions,
				  bool caller_timestamps)
{
	struct fake_table *table = &daemon->tables[daemon->table_count++];

	eloq_assert(daemon->table_count <= FAKE_TABLES_MAX);
	*table = (struct fake_table){ .id = ++daemon->next_table,
				      .partitions = partitions,
				      .caller_timestamps = caller_timestamps };
	(void)snprintf(table->name, sizeof(table->name), "%s", name);
	return table;
}

static void fake_send_table(struct fake_connection *connection, const struct fake_table *table,
			    uint32_t seq)
{
	struct eloq_msg_table message = {
		.table = table->id,
		.partitions = table->partitions,
		.timestamps =
			table->caller_timestamps ? ELOQ_TIMESTAMPS_CALLER : ELOQ_TIMESTAMPS_SERVER,
		.flags = table->partitions ? 0 : ELOQ_TABLE_ADOPTED,
	};

	memcpy(message.name, table->name, sizeof(message.name));
	fake_send(connection, &message, ELOQ_CONTROL_TABLE, sizeof(message), seq, NULL, 0);
}

static void fake_table_message(struct fake_daemon *daemon, struct fake_connection *connection,
			       const struct eloq_msg_table_name *ask)
{
	struct fake_table *table = fake_table_by_name(daemon, ask->name);
	uint32_t seq = ask->header.seq;

	if (ask->header.type == ELOQ_CONTROL_TABLE_CREATE && table) {
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_EXISTS, "it exists", seq);
	} else if (ask->header.type == ELOQ_CONTROL_TABLE_CREATE) {
		table = fake_table_add(daemon, ask->name, ask->partitions,
				       ask->timestamps == ELOQ_TIMESTAMPS_CALLER);
		fake_send_table(connection, table, seq);
	} else if (!table) {
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_NOT_FOUND, "no such table", seq);
	} else if (ask->header.type == ELOQ_CONTROL_TABLE_DROP) {
		fake_store_drop_table(&daemon->store, table->id);
		*table = daemon->tables[--daemon->table_count];
		fake_done(connection, seq);
	} else {
		fake_send_table(connection, table, seq);
	}
}

static void fake_look(struct fake_connection *connection, const struct eloq_msg_look *ask)
{
	static char text[FAKE_LONG_TEXT];
	size_t at = 0, bytes = ask->what == ELOQ_LOOK_CONFIG ? sizeof(text) : 2;

	memset(text, '#', sizeof(text));
	if (ask->what != ELOQ_LOOK_CONFIG) {
		text[0] = '{';
		text[1] = '}';
	}
	while (at < bytes) {
		size_t part = eloq_min_u64(bytes - at, ELOQ_CONTROL_TEXT_MAX);
		struct eloq_msg_text message = { .text_bytes = (uint32_t)part,
						 .more = at + part < bytes };

		eloq_control_init(&message, ELOQ_CONTROL_TEXT, sizeof(message) + part,
				  ask->header.seq);
		(void)eloq_control_send(connection->socket, &message, text + at, part, NULL, 0);
		at += part;
	}
}

void fake_handle(struct fake_daemon *daemon, struct fake_connection *connection)
{
	const struct eloq_control_header *header = (const void *)daemon->message;

	switch (header->type) {
	case ELOQ_CONTROL_HELLO:
		fake_hello(daemon, connection, header->seq);
		return;
	case ELOQ_CONTROL_CHANNEL_OPEN:
		fake_channel_open(daemon, connection, header->seq);
		return;
	case ELOQ_CONTROL_CHANNEL_CLOSE:
		fake_channel_close(
			daemon, connection,
			((const struct eloq_msg_channel_close *)(const void *)daemon->message)
				->channel,
			header->seq);
		return;
	case ELOQ_CONTROL_LANE_OPEN:
		fake_lane_open(daemon, connection, (const void *)daemon->message);
		return;
	case ELOQ_CONTROL_BULK_OPEN:
		fake_bulk_open(daemon, connection, (const void *)daemon->message);
		return;
	case ELOQ_CONTROL_BULK_CLOSE:
		fake_bulk_close(daemon, connection, (const void *)daemon->message);
		return;
	case ELOQ_CONTROL_TABLE_OPEN:
	case ELOQ_CONTROL_TABLE_CREATE:
	case ELOQ_CONTROL_TABLE_DROP:
		fake_table_message(daemon, connection, (const void *)daemon->message);
		return;
	case ELOQ_CONTROL_TABLE_LIST:
		for (unsigned i = daemon->table_count; i-- > 0;)
			fake_send_table(connection, &daemon->tables[i], header->seq);
		fake_done(connection, header->seq);
		return;
	case ELOQ_CONTROL_LOOK:
		fake_look(connection, (const void *)daemon->message);
		return;
	default:
		fake_refuse_message(connection, ELOQ_CONTROL_CODE_PROTOCOL, "what?", header->seq);
		return;
	}
}
