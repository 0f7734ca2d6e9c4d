/*
 * limits.h - every bound of the system, in one place, so that they can know each other.
 *
 * A bound that users can set has its default here; its name in the ini stands beside it.
 * "Full" is an answer, never an allocation.
 */
#ifndef ELOQ_COMMON_LIMITS_H
#define ELOQ_COMMON_LIMITS_H

#include "common/compiler.h"

/* Format (docs/format.md, "Limits"). */
enum {
	ELOQ_PAGE_BYTES_MIN = 4096,
	ELOQ_PAGE_BYTES_MAX = 61440,	/* content lengths are 16 bit */
	ELOQ_PAGE_BYTES_DEFAULT = 4096, /* data_page_size */
	ELOQ_MANIFEST_ALIGN = 4096,	/* records start at multiples of this */
	ELOQ_OVERFLOW_POINTERS_MAX = 128,
	ELOQ_KEY_BYTES_MAX = ELOQ_PAGE_BYTES_MAX / 2, /* for any page size; a store's own: P / 2 */
	ELOQ_TREE_DEPTH_MAX = 24,
	ELOQ_TABLE_NAME_BYTES_MAX = 200, /* with ".<partition>" it is a file name */
};

/* Values. The format allows 2^32 - 1 bytes; we promise 64 MiB and allow twice that. */
#define ELOQ_VALUE_BYTES_MAX (UINT32_C(128) << 20)

/* Lanes and channels (docs/protocol.md). */
enum {
	ELOQ_REQ_RING_BYTES_DEFAULT = 32 << 10, /* [server] request_ring_size */
	ELOQ_ANS_RING_BYTES_DEFAULT = 64 << 10, /* [server] answer_ring_size */
	ELOQ_RING_BYTES_MIN = 16 << 10,
	ELOQ_RING_BYTES_MAX = 1 << 20,
	ELOQ_INLINE_ANSWER_BYTES_DEFAULT = 1024,
	ELOQ_SHARDS_MAX = 64,
	ELOQ_CHANNELS_PER_CLIENT_MAX = 256,
	ELOQ_CLIENTS_MAX = 4096,
	ELOQ_LANES_PER_WORKER_MAX = 16384,
	ELOQ_BULKS_PER_LANE_MAX = 16,
	ELOQ_UNANSWERED_PER_LANE_MAX = 1024, /* requests taken or published and not answered */
	ELOQ_ID_DISTANCE_MAX = 1 << 20,	     /* request id - lowest unanswered id */
};

/* A worker. */
enum {
	ELOQ_TASKS_MAX = 1024,
	ELOQ_TASK_STACK_BYTES = 64 << 10,
	ELOQ_IO_DEPTH_MAX = 1024,   /* requests in flight to the back-end */
	ELOQ_IO_FILES_MAX = 4096,   /* open files of a back-end */
	ELOQ_IO_REGIONS_MAX = 4096, /* registered regions of memory of a back-end */
	ELOQ_POOL_THREADS_DEFAULT = 4,
	ELOQ_TURN_REQUESTS_MAX = 128,
	ELOQ_TURN_LANE_REQUESTS_MAX = 32,
	ELOQ_TURN_COMPLETIONS_MAX = 256,
	ELOQ_TURN_TASKS_MAX = 256,
};

/*
 * Stored values that a worker has in memory of their own while it reads and answers them: any
 * number of short ones (a task each), and a few long ones, which may be ELOQ_VALUE_BYTES_MAX each.
 */
enum {
	ELOQ_SHORT_VALUE_BYTES_MAX = 64 << 10,
	ELOQ_LONG_READS_MAX = 4,
};

static_assert(ELOQ_IO_DEPTH_MAX <= ELOQ_TASKS_MAX * 4, "writers keep a few I/Os each in flight");

/* A table. */
enum { ELOQ_PARTITIONS_PER_TABLE_MAX = 65536, ELOQ_TABLES_MAX = 4096 };

#endif
