/*
 * raw_client.h - a client that speaks the protocol by hand, so that it can break it.
 *
 * It has a socket, one channel and one lane to shard 0, whose memory is mapped as the library would
 * map it. Functions fail the running test unless their comment says otherwise.
 */
#ifndef ELOQ_TESTS_SUPPORT_RAW_CLIENT_H
#define ELOQ_TESTS_SUPPORT_RAW_CLIENT_H

#include "shm/control.h"
#include "shm/lane.h"
#include "tests/support/daemon.h"

struct raw_client {
	int socket;
	uint32_t seq;
	uint32_t channel;
	uint32_t table; /* "t" */
	uint32_t shard_count;
	int page_fds[ELOQ_SHARDS_MAX];
	int req_fd, ans_fd, doorbell;
	uint32_t req_ring_bytes, ans_ring_bytes;
	void *req_base, *ans_base, *page_base;
	struct eloq_lane_client lane;
	uint64_t next_id;
	/* The last answer on the socket. */
	int fds[ELOQ_CONTROL_FDS_MAX];
	unsigned fd_count;
	union {
		struct eloq_control_header header;
		struct eloq_msg_error error;
		struct eloq_msg_welcome welcome;
		struct eloq_msg_channel channel;
		struct eloq_msg_lane lane;
		struct eloq_msg_bulk bulk;
		struct eloq_msg_table table;
		uint8_t bytes[ELOQ_CONTROL_BYTES_MAX];
	} reply;
};

/* The socket only: nothing was said yet. */
void raw_connect(struct raw_client *raw, const struct daemon *daemon);
/* Fill in the header, send @message, receive one answer. Returns its type; 0: hung up. */
unsigned raw_ask(struct raw_client *raw, void *message, enum eloq_control_type type, size_t bytes);
/* Receive one more; its type; 0: hung up. */
unsigned raw_receive(struct raw_client *raw);
/* The words of the ERROR that came last, terminated. */
const char *raw_error_text(struct raw_client *raw);
unsigned raw_hello(struct raw_client *raw, uint32_t layout_version);

/* Everything up to a lane to shard 0 that serves, and table "t" (which must be there). */
void raw_open(struct raw_client *raw, const struct daemon *daemon);
/* A bulk memory of the lane; its number, and a mapping. */
uint32_t raw_bulk(struct raw_client *raw, enum eloq_bulk_direction direction, size_t bytes,
		  void **ret_base);
void raw_close(struct raw_client *raw);

/* A well-formed request for table "t", partition 0, with the next id. */
struct eloq_request raw_request(struct raw_client *raw, enum eloq_op op);
/* Publish it and wait for its answer; the answer's status. */
unsigned raw_call(struct raw_client *raw, const struct eloq_request *request, const void *key,
		  const void *value);
/* Put it into the ring and publish; do not wait. */
void raw_publish(struct raw_client *raw, const struct eloq_request *request, const void *key,
		 const void *value);
/* Ring the doorbell whether the worker sleeps or not. */
void raw_ring(struct raw_client *raw);
/* Wait until the worker has closed the lane; the reason. */
enum eloq_lane_reason raw_wait_closed(struct raw_client *raw);

#endif
