/*
 * shard_world.h - one worker process with the test in the place of its supervisor and client.
 *
 * The worker is eloq_shard_main() in a forked child, on a store in a temporary directory; the test
 * speaks the control protocol at the other end of its socket, and owns the memory of one lane,
 * which outlives the worker as it does in the service.
 */
#ifndef ELOQ_TESTS_UNIT_SHARD_WORLD_H
#define ELOQ_TESTS_UNIT_SHARD_WORLD_H

#include "common/fd.h"
#include "daemon/shard/shard.h"
#include "shm/control.h"
#include "shm/lane.h"
#include "shm/segment.h"
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORLD_RING_BYTES = 64 << 10, WORLD_TABLE = 3, WORLD_PARTITIONS = 16 };

struct shard_world {
	char root[300], wal[300];
	pid_t pid;
	int socket;
	uint32_t incarnation;
	int page_fd, req_fd, ans_fd, doorbell;
	void *req_base, *ans_base, *page_base;
	struct eloq_lane_client lane;
	uint32_t lane_number;
	uint64_t next_id;
	_Alignas(8) uint8_t message[ELOQ_CONTROL_BYTES_MAX];
};

/* --- The supervisor's side -----------------------------------------------------------------------
 */

static inline void world_send(struct shard_world *w, void *message, enum eloq_control_type type,
			      size_t bytes, const char *text, const int *fds, unsigned fd_count)
{
	eloq_control_init(message, type, bytes, 1);
	ck_assert_int_eq(
		eloq_control_send(w->socket, message, text, text ? strlen(text) : 0, fds, fd_count),
		0);
}

/* The type of the next message from the worker, which lies in w->message; 0: it hung up. */
static inline unsigned world_hear(struct shard_world *w)
{
	const struct eloq_control_header *header = (const void *)w->message;
	int r;

	memset(w->message, 0, sizeof(w->message));
	r = eloq_control_receive(w->socket, w->message, sizeof(w->message), NULL, 0, NULL);
	return r > 0 ? header->type : 0;
}

static inline unsigned world_code(const struct shard_world *w)
{
	return ((const struct eloq_msg_w_reply *)(const void *)w->message)->code;
}

static inline void world_say(struct shard_world *w, enum eloq_control_type type)
{
	struct eloq_msg_w_plain msg = { 0 };

	world_send(w, &msg, type, sizeof(msg), NULL, NULL, 0);
}

static inline void world_send_table(struct shard_world *w, enum eloq_control_type type, uint32_t id,
				    const char *name)
{
	struct eloq_msg_table msg = { .table = id,
				      .partitions = WORLD_PARTITIONS,
				      .timestamps = ELOQ_TIMESTAMPS_SERVER };

	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	world_send(w, &msg, type, sizeof(msg), NULL, NULL, 0);
}

static inline void world_send_start(struct shard_world *w)
{
	struct eloq_msg_w_start msg = {
		.shard_count = 1,
		.incarnation = w->incarnation,
		.cpu = ELOQ_CPU_NONE,
		.page_bytes = 4096,
		.pages_per_file_shift = 8,
		.overflow_pointers = 16,
		.data_restart_interval = 16,
		.index_restart_interval = 16,
		.verify_checksums = 1,
		.root_count = 1,
		.manifest_bytes_max = 1 << 20,
		.cache_bytes = 4 << 20,
		.files_max = 64,
		.io_depth = 64,
		.pool_threads = 2,
		.tasks_max = 256,
		.request_bytes_max = 1 << 20,
		.timestamp_floor_us = UINT64_C(1) << 40,
		.timestamp_ceiling_us = UINT64_C(1) << 62,
		.io_backend = "pool",
		.log_level = "error",
	};
	struct eloq_msg_w_root root = { .text_bytes = (uint32_t)strlen(w->root) };
	int fds[] = { w->page_fd, open(w->wal, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	int root_fd = open(w->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	world_send(w, &msg, ELOQ_CONTROL_W_START, sizeof(msg), NULL, fds, 2);
	world_send(w, &root, ELOQ_CONTROL_W_ROOT, sizeof(root) + strlen(w->root), w->root, &root_fd,
		   1);
	eloq_fd_close(fds[1]);
	eloq_fd_close(root_fd);
}

static inline void world_send_lane(struct shard_world *w)
{
	struct eloq_msg_w_lane msg = { .session = 1,
				       .lane = w->lane_number,
				       .req_ring_bytes = WORLD_RING_BYTES,
				       .ans_ring_bytes = WORLD_RING_BYTES,
				       .rights = 2 };
	int fds[] = { w->req_fd, w->ans_fd, w->doorbell };

	world_send(w, &msg, ELOQ_CONTROL_W_LANE, sizeof(msg), NULL, fds, 3);
}

/* A new worker, from fork to ready. */
static inline void world_start(struct shard_world *w)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	w->pid = fork();
	ck_assert_int_ge(w->pid, 0);
	if (w->pid == 0) {
		eloq_fd_close(ends[0]);
		_exit(eloq_shard_main(ends[1], 0));
	}
	eloq_fd_close(ends[1]);
	w->socket = ends[0];
	w->incarnation++;
	world_send_start(w);
	world_send_table(w, ELOQ_CONTROL_W_TABLE, WORLD_TABLE, "t");
	world_send_lane(w);
	world_say(w, ELOQ_CONTROL_W_GO);
	ck_assert_uint_eq(world_hear(w), ELOQ_CONTROL_W_READY);
}

/* The worker's exit code; -1: a signal killed it. */
static inline int world_wait_exit(struct shard_world *w)
{
	int status;

	ck_assert_int_eq(waitpid(w->pid, &status, 0), w->pid);
	w->pid = 0;
	eloq_fd_close(w->socket);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A clean stop, from the message to the exit. */
static inline void world_stop(struct shard_world *w)
{
	world_say(w, ELOQ_CONTROL_W_STOP);
	ck_assert_uint_eq(world_hear(w), ELOQ_CONTROL_W_STOPPED);
	ck_assert_uint_eq(world_code(w), ELOQ_CONTROL_CODE_OK);
	ck_assert_int_eq(world_wait_exit(w), 0);
}

/* --- The client's side ---------------------------------------------------------------------------
 */

/* One step of the lane, or a moment's sleep if there is none; what it was. */
static inline enum eloq_lane_event world_step(struct shard_world *w)
{
	struct eloq_lane_waiter waiter = { .lane = &w->lane };
	enum eloq_lane_event event;
	uint32_t reason;

	event = eloq_lane_client_step(&w->lane, &reason);
	if (event != ELOQ_LANE_EVENT_NONE && event != ELOQ_LANE_EVENT_WAIT)
		return event;
	eloq_lane_client_done(&w->lane);
	waiter.wake_seen = eloq_lane_client_prepare_sleep(&w->lane);
	if (!eloq_lane_client_has_news(&w->lane))
		(void)eloq_lane_wait(&waiter, 1, 50 * 1000 * 1000);
	eloq_lane_client_awake(&w->lane);
	return event;
}

static inline void world_resync(struct shard_world *w)
{
	while (world_step(w) != ELOQ_LANE_EVENT_RESYNC)
		;
}

static inline struct eloq_request world_request(struct shard_world *w, enum eloq_op op)
{
	struct eloq_request request = { .op = (uint8_t)op, .table = WORLD_TABLE };

	request.id = request.answered_below = ++w->next_id;
	return request;
}

static inline void world_put(struct shard_world *w, const struct eloq_request *request,
			     const void *key, const void *value)
{
	ck_assert_int_eq(eloq_lane_client_put(&w->lane, request, key, value), 0);
	eloq_lane_client_publish(&w->lane);
}

/* The next answer; a value in the ring is copied to @value (if wanted), terminated. */
static inline struct eloq_answer world_take(struct shard_world *w, char *value)
{
	const uint8_t *key_seen, *value_seen;
	struct eloq_answer answer;

	while (eloq_lane_client_take(&w->lane, &answer, &key_seen, &value_seen) == 0)
		ck_assert_int_ne(world_step(w), ELOQ_LANE_EVENT_CLOSED);
	if (value) {
		memcpy(value, value_seen, answer.value_bytes);
		value[answer.value_bytes] = '\0';
	}
	eloq_lane_client_done(&w->lane);
	return answer;
}

static inline unsigned world_call(struct shard_world *w, const struct eloq_request *request,
				  const void *key, const void *value, char *ret_value)
{
	struct eloq_answer answer;

	world_put(w, request, key, value);
	answer = world_take(w, ret_value);
	ck_assert_uint_eq(answer.id, request->id);
	return answer.status;
}

static inline unsigned world_set(struct shard_world *w, const char *key, const char *value)
{
	struct eloq_request request = world_request(w, ELOQ_OP_PUT);

	request.key_bytes = (uint16_t)strlen(key);
	request.value_bytes = (uint32_t)strlen(value);
	return world_call(w, &request, key, value, NULL);
}

static inline unsigned world_get(struct shard_world *w, const char *key, char *ret_value)
{
	struct eloq_request request = world_request(w, ELOQ_OP_GET);

	request.key_bytes = (uint16_t)strlen(key);
	return world_call(w, &request, key, NULL, ret_value);
}

/* --- Both ----------------------------------------------------------------------------------------
 */

static inline int world_segment(uint32_t magic, size_t bytes, void **ret_base)
{
	int fd, r;

	ck_assert_int_eq(eloq_segment_create("shard-world", magic, bytes, &fd), 0);
	r = magic == ELOQ_WORKER_PAGE_MAGIC
		    ? eloq_segment_map(fd, bytes, false, ret_base)
		    : eloq_ring_segment_map(fd, WORLD_RING_BYTES,
					    magic == ELOQ_REQUEST_SEGMENT_MAGIC, ret_base);
	ck_assert_int_eq(r, 0);
	return fd;
}

/* The memory of the lane, of which no worker knows yet. */
static inline void world_open_lane(struct shard_world *w)
{
	const size_t bytes = ELOQ_SEGMENT_HEADER_BYTES + WORLD_RING_BYTES;

	w->req_fd = world_segment(ELOQ_REQUEST_SEGMENT_MAGIC, bytes, &w->req_base);
	w->ans_fd = world_segment(ELOQ_ANSWER_SEGMENT_MAGIC, bytes, &w->ans_base);
	w->lane_number++;
	w->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eloq_lane_client_init(&w->lane, w->req_base, WORLD_RING_BYTES, w->ans_base,
			      WORLD_RING_BYTES, w->page_base, w->doorbell);
}

static inline void world_close_lane(struct shard_world *w)
{
	eloq_ring_segment_unmap(w->req_base, WORLD_RING_BYTES);
	eloq_ring_segment_unmap(w->ans_base, WORLD_RING_BYTES);
	eloq_fd_close(w->req_fd);
	eloq_fd_close(w->ans_fd);
	eloq_fd_close(w->doorbell);
}

/* A store, a lane that serves, table "t". */
static inline void world_open(struct shard_world *w)
{
	memset(w, 0, sizeof(*w));
	(void)snprintf(w->root, sizeof(w->root), "%s/store", test_tmpdir());
	(void)snprintf(w->wal, sizeof(w->wal), "%s/wal", test_tmpdir());
	ck_assert_int_eq(mkdir(w->root, 0700), 0);
	ck_assert_int_eq(mkdir(w->wal, 0700), 0);
	w->page_fd = world_segment(ELOQ_WORKER_PAGE_MAGIC, ELOQ_WORKER_PAGE_BYTES, &w->page_base);
	world_open_lane(w);
	world_start(w);
	world_resync(w);
}

static inline void world_close(struct shard_world *w)
{
	world_close_lane(w);
	eloq_segment_unmap(w->page_base, ELOQ_WORKER_PAGE_BYTES);
	eloq_fd_close(w->page_fd);
}

#endif
