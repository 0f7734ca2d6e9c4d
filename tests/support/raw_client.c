/*
 * raw_client.c - see raw_client.h.
 */
#include "tests/support/raw_client.h"

#include "shm/segment.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void raw_connect(struct raw_client *raw, const struct daemon *daemon)
{
	char path[300];

	memset(raw, 0, sizeof(*raw));
	(void)snprintf(path, sizeof(path), "%s/eloqstored.sock", daemon->dir);
	raw->socket = eloq_control_connect(path);
	ck_assert_int_ge(raw->socket, 0);
}

unsigned raw_receive(struct raw_client *raw)
{
	int r;

	memset(&raw->reply, 0, sizeof(raw->reply));
	r = eloq_control_receive(raw->socket, &raw->reply, sizeof(raw->reply) - 1, raw->fds,
				 ELOQ_CONTROL_FDS_MAX, &raw->fd_count);
	return r > 0 ? raw->reply.header.type : 0;
}

unsigned raw_ask(struct raw_client *raw, void *message, enum eloq_control_type type, size_t bytes)
{
	eloq_control_init(message, type, bytes, ++raw->seq);
	ck_assert_int_eq(eloq_control_send(raw->socket, message, NULL, 0, NULL, 0), 0);
	return raw_receive(raw);
}

const char *raw_error_text(struct raw_client *raw)
{
	ck_assert_uint_eq(raw->reply.header.type, ELOQ_CONTROL_ERROR);
	return (const char *)&raw->reply + sizeof(raw->reply.error);
}

unsigned raw_hello(struct raw_client *raw, uint32_t layout_version)
{
	struct eloq_msg_hello hello = { .layout_version = layout_version,
					.pid = (uint32_t)getpid(),
					.name = "raw" };

	return raw_ask(raw, &hello, ELOQ_CONTROL_HELLO, sizeof(hello));
}

/* --- The lane ------------------------------------------------------------------------------------
 */

static void raw_open_lane(struct raw_client *raw)
{
	struct eloq_msg_lane_open open = { .channel = raw->channel, .shard = 0 };

	ck_assert_uint_eq(raw_ask(raw, &open, ELOQ_CONTROL_LANE_OPEN, sizeof(open)),
			  ELOQ_CONTROL_LANE);
	ck_assert_uint_eq(raw->fd_count, 3);
	raw->req_fd = raw->fds[0];
	raw->ans_fd = raw->fds[1];
	raw->doorbell = raw->fds[2];
	raw->req_ring_bytes = raw->reply.lane.req_ring_bytes;
	raw->ans_ring_bytes = raw->reply.lane.ans_ring_bytes;
	ck_assert_int_eq(
		eloq_ring_segment_map(raw->req_fd, raw->req_ring_bytes, true, &raw->req_base), 0);
	ck_assert_int_eq(
		eloq_ring_segment_map(raw->ans_fd, raw->ans_ring_bytes, false, &raw->ans_base), 0);
	ck_assert_int_eq(
		eloq_segment_map(raw->page_fds[0], ELOQ_WORKER_PAGE_BYTES, false, &raw->page_base),
		0);
	eloq_lane_client_init(&raw->lane, raw->req_base, raw->req_ring_bytes, raw->ans_base,
			      raw->ans_ring_bytes, raw->page_base, raw->doorbell);
}

static bool raw_lane_serves(void *arg)
{
	struct raw_client *raw = arg;
	uint32_t reason;

	return eloq_lane_client_step(&raw->lane, &reason) == ELOQ_LANE_EVENT_RESYNC;
}

void raw_open(struct raw_client *raw, const struct daemon *daemon)
{
	struct eloq_msg_channel_open channel = { 0 };
	struct eloq_msg_table_name table = { .name = "t" };

	raw_connect(raw, daemon);
	ck_assert_uint_eq(raw_hello(raw, ELOQ_LAYOUT_VERSION), ELOQ_CONTROL_WELCOME);
	raw->shard_count = raw->reply.welcome.shard_count;
	ck_assert_uint_eq(raw->fd_count, raw->shard_count);
	memcpy(raw->page_fds, raw->fds, sizeof(raw->page_fds));
	ck_assert_uint_eq(raw_ask(raw, &table, ELOQ_CONTROL_TABLE_OPEN, sizeof(table)),
			  ELOQ_CONTROL_TABLE);
	raw->table = raw->reply.table.table;
	ck_assert_uint_eq(raw_ask(raw, &channel, ELOQ_CONTROL_CHANNEL_OPEN, sizeof(channel)),
			  ELOQ_CONTROL_CHANNEL);
	raw->channel = raw->reply.channel.channel;
	raw_open_lane(raw);
	daemon_wait_until(raw_lane_serves, raw, "a lane that serves");
	raw->next_id = 1;
}

uint32_t raw_bulk(struct raw_client *raw, enum eloq_bulk_direction direction, size_t bytes,
		  void **ret_base)
{
	struct eloq_msg_bulk_open open = {
		.channel = raw->channel, .shard = 0, .direction = direction, .bytes = bytes
	};

	ck_assert_uint_eq(raw_ask(raw, &open, ELOQ_CONTROL_BULK_OPEN, sizeof(open)),
			  ELOQ_CONTROL_BULK);
	ck_assert_uint_eq(raw->fd_count, 1);
	ck_assert_int_eq(eloq_segment_map(raw->fds[0], raw->reply.bulk.bytes,
					  direction == ELOQ_BULK_UP, ret_base),
			 0);
	(void)close(raw->fds[0]);
	return raw->reply.bulk.bulk;
}

void raw_close(struct raw_client *raw)
{
	eloq_ring_segment_unmap(raw->req_base, raw->req_ring_bytes);
	eloq_ring_segment_unmap(raw->ans_base, raw->ans_ring_bytes);
	eloq_segment_unmap(raw->page_base, ELOQ_WORKER_PAGE_BYTES);
	for (unsigned i = 0; i < raw->shard_count; i++)
		(void)close(raw->page_fds[i]);
	if (raw->req_base) {
		(void)close(raw->req_fd);
		(void)close(raw->ans_fd);
		(void)close(raw->doorbell);
	}
	(void)close(raw->socket);
}

/* --- Requests ------------------------------------------------------------------------------------
 */

struct eloq_request raw_request(struct raw_client *raw, enum eloq_op op)
{
	uint64_t id = raw->next_id++;

	return (struct eloq_request){ .id = id,
				      .answered_below = id,
				      .op = (uint8_t)op,
				      .table = raw->table,
				      .partition = 0 };
}

void raw_publish(struct raw_client *raw, const struct eloq_request *request, const void *key,
		 const void *value)
{
	ck_assert_int_eq(eloq_lane_client_put(&raw->lane, request, key, value), 0);
	eloq_lane_client_publish(&raw->lane);
}

static bool raw_has_news(void *arg)
{
	return eloq_lane_client_has_news(&((struct raw_client *)arg)->lane);
}

unsigned raw_call(struct raw_client *raw, const struct eloq_request *request, const void *key,
		  const void *value)
{
	struct eloq_answer answer;
	const uint8_t *answer_key, *answer_value;

	raw_publish(raw, request, key, value);
	daemon_wait_until(raw_has_news, raw, "an answer");
	ck_assert_int_eq(eloq_lane_client_take(&raw->lane, &answer, &answer_key, &answer_value), 1);
	ck_assert_uint_eq(answer.id, request->id);
	eloq_lane_client_done(&raw->lane);
	return answer.status;
}

void raw_ring(struct raw_client *raw)
{
	ck_assert_int_eq(eventfd_write(raw->doorbell, 1), 0);
}

static bool raw_is_closed(void *arg)
{
	const struct eloq_answer_segment *ans = ((struct raw_client *)arg)->ans_base;

	return atomic_load(&ans->state) == ELOQ_LANE_CLOSED;
}

enum eloq_lane_reason raw_wait_closed(struct raw_client *raw)
{
	const struct eloq_answer_segment *ans = raw->ans_base;

	daemon_wait_until(raw_is_closed, raw, "a closed lane");
	return (enum eloq_lane_reason)atomic_load(&ans->reason);
}
