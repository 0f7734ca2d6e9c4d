/*
 * internal.h - the worker's own structures, shared by its files.
 *
 *   shard.c    start and end          loop.c    turns: what runs when, and when to sleep
 *   link.c     the supervisor         lanes.c   lanes and their bulk memory, who is swept when
 *   request.c  a request in work      serve.c   what each request means
 *                                     scan.c    ranges, and lists of partitions
 *
 * Everything runs on one thread. A request in work holds its lane; a lane whose client left stays
 * until the last of them has ended.
 */
#ifndef ELOQ_DAEMON_SHARD_INTERNAL_H
#define ELOQ_DAEMON_SHARD_INTERNAL_H

#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "daemon/io/io.h"
#include "daemon/runtime/task.h"
#include "daemon/runtime/timer.h"
#include "daemon/store/store.h"
#include "shm/control.h"
#include "shm/lane.h"

#include <stdbool.h>

struct shard_lane;
struct shard_request;

struct shard_bulk {
	uint32_t id;
	uint32_t direction; /* enum eloq_bulk_direction */
	void *base;
	size_t bytes;
	unsigned users; /* requests in work that name it */
	bool gone;	/* closed by the client: unmapped with its last user */
};

struct shard_lane {
	struct eloq_lane_worker end;
	struct shard *shard;
	struct eloq_list all;	/* in shard->lanes */
	struct eloq_list hot;	/* in shard->hot_lanes while busy */
	struct eloq_list dirty; /* in shard->dirty_lanes until published */
	struct eloq_io_poll doorbell;
	struct eloq_timer rest_timer; /* doorbell disarmed, swept by timer */
	void *req_base, *ans_base;
	uint32_t number;
	uint32_t rights;
	uint64_t session;
	unsigned in_work;     /* requests accepted and not answered */
	unsigned idle_sweeps; /* since something was found */
	unsigned empty_rings; /* doorbell without a request, in a row */
	bool waits;	      /* the last look found no room to take anything */
	bool gone;	      /* client left, or closed for a lie */
	bool doorbell_on;
	struct shard_bulk bulks[ELOQ_BULKS_PER_LANE_MAX];
};

struct shard_table {
	uint32_t id;
	uint32_t partitions;	      /* 0: adopted */
	uint32_t timestamps;	      /* enum eloq_table_timestamps */
	bool dropping;		      /* requests are refused */
	bool drop_runs;		      /* a task is at it */
	unsigned users;		      /* requests in work */
	struct eloq_waitq users_left; /* where the drop waits for them */
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 8];
};

/* Keys and short values of a request lie in it; longer payloads are allocated and counted. */
enum { SHARD_REQUEST_INLINE_BYTES = 512, SHARD_REQUESTS_MAX = 4096 };

struct shard_request {
	struct eloq_list link; /* free, or waiting for room to start */
	struct shard *shard;
	struct shard_lane *lane;
	struct shard_table *table;
	struct eloq_request req;
	uint32_t reserved;    /* room for the answer */
	uint64_t deadline_ns; /* 0: none */
	struct shard_bulk *up, *down;
	uint8_t *payload;	/* key, then the value's private copy */
	uint64_t charged_bytes; /* of shard->request_bytes */
	struct eloq_write write;
	struct eloq_write_entry entry;
	struct eloq_write_entry *entries; /* &entry, or allocated for a batch */
	uint8_t inline_payload[SHARD_REQUEST_INLINE_BYTES];
};

struct shard {
	int index, count;
	char name[32]; /* in the log */
	uint32_t incarnation;
	int socket;
	const struct eloq_clock *clock;
	struct eloq_msg_w_start start;
	struct eloq_io *io;
	struct eloq_sched *sched;
	struct eloq_timers *timers;
	struct eloq_store *store;
	struct eloq_worker_page *page;
	int page_fd, wal_dir_fd, lock_fd, signal_fd;
	struct eloq_io_file *roots[ELOQ_SHARDS_MAX];
	char *root_names[ELOQ_SHARDS_MAX];
	int root_fds[ELOQ_SHARDS_MAX];
	unsigned root_count;

	struct eloq_io_poll socket_poll, signal_poll;
	uint8_t *message; /* ELOQ_CONTROL_BYTES_MAX */
	bool link_ready, link_lost;

	struct shard_table *tables;
	unsigned table_count;

	struct eloq_list lanes, hot_lanes, dirty_lanes, dead_lanes;
	struct eloq_list *cold_cursor; /* next lane of `lanes` to look at */
	unsigned lane_count;

	struct shard_request *requests; /* the pool */
	struct eloq_list free_requests;
	struct eloq_list backlog; /* accepted writes that found no free task */
	unsigned in_work;
	uint64_t request_bytes;
	uint8_t *scratch; /* payload of a request answered at once */

	uint64_t now_ns;
	uint64_t timestamp_last_us, timestamp_ceiling_us;
	bool timestamps_asked;

	enum { SHARD_SERVING, SHARD_DRAINING, SHARD_CLOSING, SHARD_ENDED } state;
	bool told_to_stop;	 /* by the supervisor: nobody will have the lanes after us */
	bool failed;		 /* leaving, and not cleanly */
	uint64_t drain_until_ns; /* UINT64_MAX: as long as it takes */
	struct eloq_figures figures;
	struct eloq_log_limit lie_log, damage_log;
};

/* --- link.c --- */
int shard_link_receive_start(struct shard *shard, struct eloq_errinfo *reterr);
int shard_link_open(struct shard *shard);
/* Handle what the supervisor has said. Cheap if nothing. Returns 1 if there may be more. */
unsigned shard_link_drain(struct shard *shard);
/* Look at the socket even if no event was seen: what a lane names was announced there first. */
void shard_link_drain_now(struct shard *shard);
void shard_link_reply(struct shard *shard, enum eloq_control_type type, uint32_t seq, int error,
		      const char *text);
void shard_link_lane_closed(struct shard *shard, uint32_t lane, uint32_t reason);
void shard_link_ask_timestamps(struct shard *shard);
struct shard_table *shard_table_find(struct shard *shard, uint32_t id);

/* --- lanes.c --- */
int shard_lane_add(struct shard *shard, const struct eloq_msg_w_lane *msg, int req_fd, int ans_fd,
		   int doorbell_fd);
int shard_lane_add_bulk(struct shard *shard, const struct eloq_msg_w_bulk *msg, int fd);
void shard_lane_remove_bulk(struct shard *shard, uint32_t lane, uint32_t bulk);
struct shard_lane *shard_lane_find(struct shard *shard, uint32_t number);
struct shard_bulk *shard_bulk_find(struct shard_lane *lane, uint64_t id, uint32_t direction);
void shard_bulk_release(struct shard_bulk *bulk); /* NULL is fine */
/* Close for a reason, tell the client and the supervisor; freed with its last request. */
void shard_lane_close(struct shard_lane *lane, enum eloq_lane_reason reason);
void shard_lane_touch(struct shard_lane *lane); /* it is hot, and has to be published */
void shard_lane_maybe_free(struct shard_lane *lane);
void shard_lanes_bury(struct shard *shard); /* free those that ended; between turns */
void shard_lanes_publish(struct shard *shard);
unsigned shard_lanes_sweep(struct shard *shard);     /* hot ones and a few of the cold */
unsigned shard_lanes_sweep_all(struct shard *shard); /* before sleeping */
void shard_lanes_close_all(struct shard *shard, enum eloq_lane_reason reason);

/* --- request.c --- */
int shard_requests_open(struct shard *shard);
/* Room for a read to go to work; for a write, which waits for memory and earlier writes too. */
bool shard_may_read(const struct shard *shard);
bool shard_may_write(const struct shard *shard);
/* A request in work with room for its payload; NULL: none free or over the memory budget. */
struct shard_request *shard_request_new(struct shard_lane *lane, struct shard_table *table,
					const struct eloq_request *req, size_t payload_bytes);
/* Count memory against the budget until the request ends. */
void shard_request_charge(struct shard_request *request, uint64_t bytes);
void shard_request_free(struct shard_request *request);

/* Where an answer goes: enough to answer with or without a request in work. */
struct shard_reply {
	struct shard_lane *lane;
	const struct eloq_request *req;
	uint32_t reserved;
	struct shard_bulk *down; /* NULL: none */
};
void shard_answer(const struct shard_reply *reply, struct eloq_answer *answer, const void *value);
void shard_answer_status(const struct shard_reply *reply, enum eloq_status status,
			 const char *words);
void shard_answer_error(const struct shard_reply *reply, int error,
			const struct eloq_errinfo *errinfo);
struct shard_reply shard_request_reply(const struct shard_request *request);
/* Answer a request in work, and free it. */
void shard_request_end(struct shard_request *request, enum eloq_status status, const char *words);
void shard_request_end_error(struct shard_request *request, int error,
			     const struct eloq_errinfo *errinfo);
/* Bytes of value that an answer can carry: in the ring, or in down bulk if that is larger. */
uint32_t shard_reply_capacity(const struct shard_reply *reply);

/* --- serve.c --- */
/* Take requests of a lane, up to @max. Returns how many. */
unsigned shard_serve_lane(struct shard_lane *lane, unsigned max);
/* Start what waits for a free task. */
unsigned shard_serve_backlog(struct shard *shard);

/* --- scan.c: bodies of tasks, and one that needs none --- */
void shard_scan_task(void *arg);
void shard_stat_task(void *arg);
void shard_answer_partitions(const struct shard_reply *reply);

/* --- loop.c --- */
void shard_loop(struct shard *shard);

#endif
