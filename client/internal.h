/*
 * internal.h - what the files of libeloqclient share.
 *
 *   client.c    connection, control socket     request.c  one request: made, copied, recycled
 *   channel.c   channels and their lanes       async.c    the core: unanswered requests of a lane
 *   bulk.c      memory for long payloads       sync.c     waiting, and the blocking calls
 *   table.c look.c batch.c scan.c submit.c     what applications call, made of the above
 *
 * A request belongs to a lane's table until it is answered, and to its caller until the caller
 * lets go; it is recycled when both are over. One that was given up stays in the table as a mere
 * header, so that its late answer is recognised and its bulk memory is not reused too early.
 *
 * Always:   a lane's list of unanswered requests is in order of ids: first those in the ring, then
 *           (from `waiting` on) those that are still to be put.
 * Threads:  a client is shared (its socket under control_lock); a channel and all below it belong
 *           to one thread at a time and take no lock.
 */
#ifndef ELOQ_CLIENT_INTERNAL_H
#define ELOQ_CLIENT_INTERNAL_H

#include "client/eloqclient.h"
#include "common/clock.h"
#include "common/compiler.h"
#include "common/err.h"
#include "common/limits.h"
#include "common/list.h"
#include "shm/control.h"
#include "shm/lane.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
	CLIENT_SPIN_US_DEFAULT = 50,
	CLIENT_REQUESTS_KEPT_MAX = 256, /* idle request structures of a channel */
	CLIENT_BYTES_KEPT_MAX = 4096,	/* of an idle request's copies */
	CLIENT_WORDS_BYTES = 512,
	CLIENT_BULK_BYTES_MIN = 64 << 10,
	CLIENT_BULK_BYTES_LARGE = 1 << 20,		/* longer ones are not kept for long */
	CLIENT_BULKS_MAX = ELOQ_BULKS_PER_LANE_MAX / 2, /* of a lane and direction */
	CLIENT_BULKS_IDLE_MAX = 2,			/* of a lane and direction, for good */
};
#define CLIENT_BULK_SURPLUS_IDLE_NS ELOQ_NS_PER_S
#define CLIENT_SLEEP_SLICE_NS	    (250 * ELOQ_NS_PER_MS)

static_assert((ELOQ_UNANSWERED_PER_LANE_MAX & (ELOQ_UNANSWERED_PER_LANE_MAX - 1)) == 0,
	      "slot = id & (n - 1)");

/* --- client.c ----------------------------------------------------------------------------------
 */

struct eloq_client {
	int socket;
	_Atomic bool closed;   /* the daemon is gone; nothing is tried any more */
	const uint8_t *parent; /* reads 1 where we connected, 0 in a forked child */
	uint64_t spin_ns;
	uint32_t shard_count;
	uint32_t key_bytes_max, value_bytes_max;
	const void *worker_pages[ELOQ_SHARDS_MAX];
	pthread_key_t thread_channel;
	bool has_thread_channel;

	pthread_mutex_t control_lock; /* guards what follows */
	uint32_t seq;
	struct eloq_list channels;
	struct eloq_list tables;
	int reply_fds[ELOQ_CONTROL_FDS_MAX]; /* those that nobody took are closed */
	unsigned reply_fd_count;
	union {
		struct eloq_control_header header;
		struct eloq_msg_error error;
		struct eloq_msg_welcome welcome;
		struct eloq_msg_channel channel;
		struct eloq_msg_lane lane;
		struct eloq_msg_bulk bulk;
		struct eloq_msg_table table;
		struct eloq_msg_text text;
		uint8_t bytes[ELOQ_CONTROL_BYTES_MAX];
	} reply;
};

/* 0; -ELOQ_ECLOSED: the daemon is gone, or this is a forked child of who connected. */
int eloq_client_check(const struct eloq_client *client);
bool eloq_client_is_forked(const struct eloq_client *client);
/* Look at the socket: false (and closed from here on) if the daemon hung up. Any thread. */
bool eloq_client_daemon_lives(struct eloq_client *client);

/*
 * One exchange on the control socket: ask() takes the lock, fills in @message's header, sends it
 * and receives the first answer into client->reply; next() receives another one; end() closes
 * unclaimed descriptors and gives the lock back, whatever ask() returned. A refusal is an error.
 */
int eloq_client_ask(struct eloq_client *client, void *message, enum eloq_control_type type,
		    size_t bytes, struct eloq_errinfo *reterr);
int eloq_client_next(struct eloq_client *client, struct eloq_errinfo *reterr);
void eloq_client_end(struct eloq_client *client);
/* 0 if client->reply is of @type and came with @fd_count descriptors, else -ELOQ_EPROTOCOL. */
int eloq_client_expect(struct eloq_client *client, enum eloq_control_type type, unsigned fd_count,
		       struct eloq_errinfo *reterr);

/* Copies @info to the caller's @reterr (NULL is fine) if @r is an error; returns @r. */
int eloq_client_report(struct eloq_error *reterr, const struct eloq_errinfo *info, int r);

/*
 * Reads an options structure, whose first member is its size, into @to: what an older caller does
 * not know is 0. -EINVAL: no size, or something set that we do not know.
 */
int eloq_client_read_opts(void *to, size_t to_bytes, const void *opts);

uint64_t eloq_client_now_ns(void);

/* --- channel.c ---------------------------------------------------------------------------------
 */

struct client_lane {
	struct eloq_channel *channel;
	uint32_t shard;
	int broken; /* the error of every request from now on; 0: it works */
	struct eloq_lane_client end;
	void *req_base, *ans_base;
	uint32_t inline_bytes_max;  /* longest value that an answer can have in the ring */
	uint32_t inline_bytes_hint; /* what values have needed lately, 0: the default will do */

	uint64_t next_id;
	unsigned unanswered_count;
	uint64_t answered_count;     /* ever; says that something happened */
	size_t waiting_bytes;	     /* records from `waiting` on */
	struct eloq_list unanswered; /* client_request.link, in order of ids */
	struct eloq_list *waiting;   /* the first one not in the ring, or &unanswered */
	struct eloq_list active;     /* in the channel's list while anything is unanswered */
	struct client_request *slots[ELOQ_UNANSWERED_PER_LANE_MAX]; /* by id */

	struct eloq_list bulks[2]; /* by eloq_bulk_direction */
	unsigned bulk_count[2];
	unsigned bulk_idle_count[2];
	uint64_t bulk_large_used_ns; /* when one was given back; 0: not lately */
};

struct eloq_channel {
	struct eloq_client *client;
	struct eloq_list link; /* client->channels */
	uint32_t number;
	struct client_lane *lanes[ELOQ_SHARDS_MAX]; /* NULL until first used */
	struct eloq_list active;		    /* lanes with something unanswered */
	struct eloq_list completed;		    /* async requests for eloq_poll() */
	struct eloq_list lent; /* returned by the last eloq_poll(): their values are in use */
	struct eloq_list idle; /* request structures for reuse */
	unsigned idle_count;
	size_t in_flight;		/* async, not yet returned by eloq_poll() */
	unsigned deadlines;		/* async requests that have one */
	uint64_t next_deadline_ns;	/* none of them is earlier */
	uint64_t looked_ns;		/* when the socket was last looked at */
	char words[CLIENT_WORDS_BYTES]; /* of the last answer that refused */
};

/* The lane to @shard, opened on first use. Errors of the daemon, or of a lane that broke. */
int eloq_channel_lane(struct eloq_channel *channel, uint32_t shard, struct client_lane **ret_lane);

/* --- bulk.c ------------------------------------------------------------------------------------
 */

struct client_bulk {
	struct eloq_list link;
	struct client_lane *lane;
	uint32_t number;
	enum eloq_bulk_direction direction;
	uint8_t *base; /* read-only for DOWN */
	uint64_t bytes;
	uint64_t used_ns; /* when it was given back by one who needed it */
	bool in_use;
	bool needed; /* by who has it; else it went along in case */
};

/* Bulk memory of at least @bytes for one request. -EAGAIN: all are in use; errors of the daemon. */
int eloq_bulk_acquire(struct client_lane *lane, enum eloq_bulk_direction direction, uint64_t bytes,
		      struct client_bulk **ret_bulk);
/* One that is open and free, the largest, or NULL. Asks nobody. */
struct client_bulk *eloq_bulk_acquire_open(struct client_lane *lane,
					   enum eloq_bulk_direction direction);
void eloq_bulk_release(struct client_bulk *bulk); /* NULL is fine */
/* Close what is more than is kept for good, if it has been idle for a while. */
void eloq_bulk_trim(struct client_lane *lane);
/* Forget all; the daemon drops its side with the lane. */
void eloq_bulk_forget_all(struct client_lane *lane);

/* --- request.c ---------------------------------------------------------------------------------
 */

/* Memory that grows, or (fixed) the caller's. */
struct client_buffer {
	uint8_t *data;
	size_t bytes; /* of content; of a fixed one maybe more than the capacity */
	size_t capacity;
	bool fixed;
};

/* -ENOMEM. Content is not kept. */
int eloq_buffer_reserve(struct client_buffer *buffer, size_t bytes);
void eloq_buffer_clear(struct client_buffer *buffer);

/* What a caller wants done. */
struct client_op {
	enum eloq_op op;
	struct eloq_table *table; /* NULL: `table_id` 0 */
	uint32_t shard;
	uint32_t partition;
	const void *key;
	size_t key_bytes;
	const void *value;
	size_t value_bytes;
	uint64_t timestamp;	    /* 0: none given */
	uint64_t deadline_ns;	    /* 0: none */
	uint32_t page_bytes;	    /* of a scan: what the answer may hold */
	bool page_needed;	    /* less will not do */
	struct client_buffer *into; /* where the answer's value goes; NULL: not wanted */
};

enum client_request_place {
	CLIENT_REQUEST_OUT,	/* not in the lane's table: being made, or answered */
	CLIENT_REQUEST_WAITING, /* in the table, not in the ring */
	CLIENT_REQUEST_IN_RING,
};

struct client_request {
	struct eloq_list link; /* lane->unanswered; channel->completed, lent or idle */
	struct client_lane *lane;
	enum client_request_place place;
	bool held;	      /* the caller has not let go */
	bool finished;	      /* result is set; what still arrives is dropped */
	bool async;	      /* eloq_poll() returns it */
	bool sent;	      /* was in a ring */
	bool more;	      /* of an answer: there is more to ask for */
	uint32_t room_needed; /* by the answer of the next try; 0: what was guessed */
	size_t waiting_bytes; /* counted in lane->waiting_bytes */
	int result;
	struct eloq_request wire;
	const uint8_t *key, *value; /* the caller's, or in `own` */
	struct client_bulk *up, *down;
	struct client_buffer *into;
	struct client_buffer own;    /* copies of key and value */
	struct client_buffer answer; /* of async gets */
	uint64_t deadline_ns;
	uint64_t timestamp, expire_ms; /* of the answer */
	void *arg;
};

/*
 * Make a request in the lane that @op names, with bulk memory if it needs any. Key and value stay
 * the caller's. -EAGAIN: all bulk memory is in use; errors of opening lane or bulk.
 */
int eloq_request_new(struct eloq_channel *channel, const struct client_op *op,
		     struct client_request **ret_request);
/* Copy key and value, so that the caller's may go. -ENOMEM. */
int eloq_request_own(struct client_request *request);
/* Another structure that stands for @request in the table when it is given up. NULL: no memory. */
struct client_request *eloq_request_take_header(struct client_request *request);
/* Give a get's next try room for @value_bytes, in the ring or in bulk memory. */
int eloq_request_make_room(struct client_request *request, uint32_t value_bytes);
void eloq_request_release_bulks(struct client_request *request);
/* Give the structure back. It must be out of the table and nobody's. */
void eloq_request_recycle(struct client_request *request);
void eloq_request_free(struct client_request *request);

/* --- async.c -----------------------------------------------------------------------------------
 */

/*
 * Enter a request into its lane's table, and its ring if there is room. -EAGAIN: the table is full.
 * With @now: also if it did not go into the ring of a lane that serves.
 */
int eloq_async_submit(struct client_request *request, bool now);
/* Collect answers, follow the worker through a resync, put what waits, publish. Never blocks. */
void eloq_async_turn(struct client_lane *lane);
/* The same for every lane with something unanswered, and deadlines of async requests. */
void eloq_async_turn_all(struct eloq_channel *channel);
/* All unanswered requests of the channel end with @error: the daemon is gone. */
void eloq_async_fail_all(struct eloq_channel *channel, int error);
/* The caller lets go of a request, answered or not. NULL is fine. */
void eloq_async_release(struct client_request *request);

/* --- sync.c ------------------------------------------------------------------------------------
 */

/*
 * Take turns until @ready says so: spin for a while, then sleep. 0; -ETIMEDOUT: @deadline_ns (0:
 * none) passed; -ELOQ_ECLOSED: the daemon is gone, all requests of the channel have ended.
 */
int eloq_sync_wait(struct eloq_channel *channel, bool (*ready)(const void *arg), const void *arg,
		   uint64_t deadline_ns);
/* Look at the socket if that was not done lately; false: as -ELOQ_ECLOSED above. */
bool eloq_sync_daemon_lives(struct eloq_channel *channel, uint64_t now_ns);
/* Make and submit a request, waiting for room until @deadline_ns. The caller releases it. */
int eloq_sync_start(struct eloq_channel *channel, const struct client_op *op, bool own,
		    uint64_t deadline_ns, struct client_request **ret_request);
/* Has an answer arrived? The predicate for eloq_sync_wait(), of a request. */
bool eloq_sync_is_finished(const void *request);
/* Start it and wait for its answer. @ret_request may be NULL; else it is set on success (result
 * >= 0) and the caller releases it. Returns the result. */
int eloq_sync_call(struct eloq_channel *channel, const struct client_op *op,
		   struct client_request **ret_request);

/* --- table.c -----------------------------------------------------------------------------------
 */

struct eloq_table {
	struct eloq_client *client;
	struct eloq_list link; /* client->tables */
	struct eloq_table_info info;
};

/*
 * Check a call on one key and fill in @op: limits, partition, shard, timestamp, deadline. NULL
 * channel: -ELOQ_ETOOMANY. -EINVAL, -ELOQ_ETOOLONG, -ELOQ_ECLOSED.
 */
int eloq_op_prepare(struct client_op *op, struct eloq_channel *channel, struct eloq_table *table,
		    const void *key, size_t key_bytes, const struct eloq_op_opts *opts);
/* The same for a call on a whole partition. */
int eloq_op_prepare_partition(struct client_op *op, struct eloq_channel *channel,
			      struct eloq_table *table, uint32_t partition,
			      const struct eloq_op_opts *opts);
/* @timeout_ns from now as a point in time; 0 stays 0. */
uint64_t eloq_op_deadline_ns(uint64_t timeout_ns);

/* --- look.c ------------------------------------------------------------------------------------
 */

/* Ids of the partitions of a table that exist, ascending; free(ids). */
struct client_partitions {
	uint32_t *ids;
	size_t count, count_max;
};

int eloq_look_partitions(struct eloq_channel *channel, struct eloq_table *table,
			 uint64_t deadline_ns, struct client_partitions *ret_partitions);

/* --- batch.c and submit.c ----------------------------------------------------------------------
 */

/* Check and encode the batch; op->value points into it. -EXDEV; 1: empty, nothing to do. */
int eloq_batch_prepare(struct client_op *op, struct eloq_channel *channel, struct eloq_table *table,
		       struct eloq_batch *batch, const struct eloq_op_opts *opts);

#endif
