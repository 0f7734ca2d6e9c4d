/*
 * fake_daemon.h - supervisor and workers in one thread of a test, with faults on demand.
 *
 * It speaks the control protocol on a socket and runs the worker's end of every lane over a map in
 * memory. What it does wrong, or late, or not at all, is set by the test. The thread holds one
 * lock for each turn; the functions below take it, so that they act between two turns.
 */
#ifndef ELOQ_TESTS_SUPPORT_FAKE_DAEMON_H
#define ELOQ_TESTS_SUPPORT_FAKE_DAEMON_H

#include "common/limits.h"
#include "shm/layout.h"
#include "shm/message.h"

#include <stdbool.h>
#include <stdint.h>

struct fake_daemon;

enum fake_hello {
	FAKE_HELLO_WELCOME = 0,
	FAKE_HELLO_REFUSE_VERSION, /* ERROR with the code for it */
	FAKE_HELLO_OTHER_VERSION,  /* an answer whose header has another version */
	FAKE_HELLO_OTHER_LAYOUT,   /* a worker page of another layout version */
	FAKE_HELLO_HANG_UP,
	FAKE_HELLO_DENY,
	FAKE_HELLO_NONSENSE, /* an answer to something else */
};

/* 0 is the default of each. Probabilities are per 1000 requests. */
struct fake_daemon_opts {
	uint32_t shard_count;
	uint32_t req_ring_bytes, ans_ring_bytes;
	uint32_t key_bytes_max, value_bytes_max;
	enum fake_hello hello;
	uint64_t seed;
	unsigned late;		 /* answered after others */
	unsigned die_before;	 /* the worker dies with the request not executed */
	unsigned die_after;	 /* ... executed, the answer not given */
	unsigned dead_turns;	 /* how long a dead worker is away, at most */
	uint64_t bulk_bytes_max; /* of all bulk memory; beyond it TOO_MANY. 0: no bound */
	unsigned channels_max;
};

struct fake_daemon_figures {
	uint64_t requests[16]; /* taken, by op */
	uint64_t resent;
	uint64_t need_bulk;
	uint64_t in_bulk; /* values that went to or came from bulk memory */
	uint64_t deaths;
	uint64_t lies;		     /* lanes closed for a broken rule */
	uint64_t bulk_changed_early; /* before the answer to its request */
	uint64_t same_bulk_twice;    /* one piece of memory in two unanswered requests */
	unsigned connections, channels, lanes, bulks;
	uint64_t bulks_opened;
	uint64_t bulk_bytes; /* open now */
	unsigned unanswered;
};

struct fake_daemon *fake_daemon_start(const struct fake_daemon_opts *opts);
void fake_daemon_stop(struct fake_daemon *daemon); /* hangs up; NULL is fine */
const char *fake_daemon_socket(const struct fake_daemon *daemon);

void fake_daemon_get_figures(struct fake_daemon *daemon, struct fake_daemon_figures *ret_figures);
/* A table that is there already; partitions 0: adopted. Returns its id. */
uint32_t fake_daemon_add_table(struct fake_daemon *daemon, const char *name, uint32_t partitions,
			       bool caller_timestamps);

/* The worker dies now; it comes back after @dead_turns, or when revived. */
void fake_daemon_kill_worker(struct fake_daemon *daemon, uint32_t shard);
void fake_daemon_revive_worker(struct fake_daemon *daemon, uint32_t shard);
/* A worker that does nothing, or goes on. */
void fake_daemon_pause_worker(struct fake_daemon *daemon, uint32_t shard, bool paused);
/* Answers are kept back (requests are still taken), or let go. */
void fake_daemon_hold_answers(struct fake_daemon *daemon, bool held);
/* The next @count requests of this op get @status and @words instead. */
void fake_daemon_refuse(struct fake_daemon *daemon, enum eloq_op op, enum eloq_status status,
			const char *words, unsigned count);
/* Close every lane. */
void fake_daemon_close_lanes(struct fake_daemon *daemon, enum eloq_lane_reason reason);
/* The supervisor dies: sockets are closed, workers stop. */
void fake_daemon_hang_up(struct fake_daemon *daemon);
/* New fault probabilities. */
void fake_daemon_set_faults(struct fake_daemon *daemon, unsigned late, unsigned die_before,
			    unsigned die_after);
/* The status of what is in the store, for comparing: entries of a table over all partitions. */
uint64_t fake_daemon_entry_count(struct fake_daemon *daemon, uint32_t table);

#endif
