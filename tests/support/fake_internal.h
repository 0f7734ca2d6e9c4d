/*
 * fake_internal.h - what the files of the fake daemon share. See fake_daemon.h.
 */
#ifndef ELOQ_TESTS_SUPPORT_FAKE_INTERNAL_H
#define ELOQ_TESTS_SUPPORT_FAKE_INTERNAL_H

#include "common/fd.h"
#include "common/list.h"
#include "common/prng.h"
#include "shm/control.h"
#include "shm/lane.h"
#include "shm/segment.h"
#include "tests/support/fake_daemon.h"
#include "tests/support/fake_store.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_CONNECTIONS_MAX = 32, FAKE_TABLES_MAX = 16 };

struct fake_bulk {
	uint32_t number;
	enum eloq_bulk_direction direction;
	uint8_t *base;
	uint64_t bytes;
	unsigned users;
};

struct fake_lane {
	struct eloq_list link; /* daemon->lanes */
	struct fake_connection *connection;
	uint32_t channel, shard;
	void *req_base, *ans_base;
	int doorbell;
	bool closed;
	struct eloq_lane_worker end;
	struct fake_bulk bulks[ELOQ_BULKS_PER_LANE_MAX];
	struct eloq_list pending; /* fake_pending.link: taken, not answered */
};

/* A request that was executed and is answered later. */
struct fake_pending {
	struct eloq_list link;
	struct fake_lane *lane;
	struct eloq_request request;
	struct fake_outcome outcome;
	uint32_t reserved;
	unsigned turns_left;
	struct fake_bulk *up, *down;
	uint8_t *up_copy;
};

struct fake_worker {
	struct eloq_worker_page *page;
	int page_fd;
	uint32_t incarnation;
	bool paused;
	bool dead;
	unsigned turns_dead;
};

struct fake_connection {
	int socket;
	uint32_t channels[64];
	unsigned channel_count;
};

struct fake_table {
	uint32_t id;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 8];
	uint32_t partitions;
	bool caller_timestamps;
};

struct fake_daemon {
	struct fake_daemon_opts opts;
	pthread_t thread;
	pthread_mutex_t lock;
	int wake; /* eventfd: a test wants something */
	bool stopping, hung_up, holding;
	char path[512];
	int listener;
	struct eloq_prng prng;
	struct fake_store store;
	struct fake_worker workers[ELOQ_SHARDS_MAX];
	uint32_t incarnation;
	struct fake_connection connections[FAKE_CONNECTIONS_MAX];
	struct eloq_list lanes;
	struct fake_table tables[FAKE_TABLES_MAX];
	unsigned table_count;
	uint32_t next_table, next_channel, next_bulk;
	struct fake_daemon_figures figures;
	enum eloq_op refuse_op;
	enum eloq_status refuse_status;
	char refuse_words[64];
	unsigned refuse_count;
	uint8_t payload[ELOQ_KEY_BYTES_MAX + ELOQ_RING_BYTES_MAX];
	ELOQ_ALIGNED(8) uint8_t message[ELOQ_CONTROL_BYTES_MAX]; /* cast to structures */
};

/* fake_worker.c: what workers do. */
void fake_forget(struct fake_pending *pending);
void fake_worker_die(struct fake_daemon *daemon, uint32_t shard);
void fake_worker_begin(struct fake_daemon *daemon, uint32_t shard);
void fake_lane_begin(struct fake_daemon *daemon, struct fake_lane *lane);
/* One turn of all workers; false: there was nothing to do. */
bool fake_work(struct fake_daemon *daemon);

/* fake_control.c: what the supervisor says. */
void fake_handle(struct fake_daemon *daemon, struct fake_connection *connection);
void fake_hang_up_connection(struct fake_daemon *daemon, struct fake_connection *connection);
struct fake_table *fake_table_add(struct fake_daemon *daemon, const char *name, uint32_t partitions,
				  bool caller_timestamps);

#endif
