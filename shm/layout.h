/*
 * layout.h - every byte that client and daemon share, and who writes it.
 *
 * Idea: no memory has two writers. A lane (one channel to one shard) is two segments: the client
 * writes the request segment, the worker writes the answer segment, which the client maps
 * read-only. One page for each worker is written by that worker and read by everybody.
 *
 *   request segment                         answer segment
 *   [0, 4096)   header, client's words      [0, 4096)   header, worker's words
 *   [4096, ..)  request ring                [4096, ..)  answer ring
 *
 * The sizes of segments come from the supervisor's message (control.h), never from a segment: the
 * header's numbers are for people and for the version check. Words of one side lie on cache line
 * pairs of their own, as CPUs fetch in pairs.
 *
 * Trust: a worker treats every word of a request segment as hostile, reads it once, and keeps its
 * own positions privately. It never reads back what lies in an answer segment.
 *
 * This is layout version ELOQ_LAYOUT_VERSION; any change bumps it. docs/protocol.md, "Memory".
 */
#ifndef ELOQ_SHM_LAYOUT_H
#define ELOQ_SHM_LAYOUT_H

#include "common/compiler.h"

#include <stdatomic.h>
#include <stdint.h>

enum { ELOQ_LAYOUT_VERSION = 1 };

enum { ELOQ_SEGMENT_HEADER_BYTES = 4096, ELOQ_WORKER_PAGE_BYTES = 4096 };

/* First words of every segment, set by the daemon before anybody else sees it. */
struct eloq_segment_header {
	uint32_t magic;	  /* [0]  ELOQ_*_MAGIC */
	uint16_t version; /* [4]  ELOQ_LAYOUT_VERSION */
	uint16_t zero;	  /* [6] */
	uint64_t bytes;	  /* [8]  of the whole segment */
};

#define ELOQ_REQUEST_SEGMENT_MAGIC UINT32_C(0x51524c45) /* "ELRQ" */
#define ELOQ_ANSWER_SEGMENT_MAGIC  UINT32_C(0x4e414c45) /* "ELAN" */
#define ELOQ_WORKER_PAGE_MAGIC	   UINT32_C(0x4b574c45) /* "ELWK" */
#define ELOQ_BULK_BYTES_ALIGN	   4096

/* Written by the client. Positions are byte counts that only grow within one generation. */
struct eloq_request_segment {
	struct eloq_segment_header header; /* [0] */
	uint8_t zero0[112];
	_Atomic uint64_t req_tail; /* [128] end of the published requests */
	uint8_t zero1[120];
	_Atomic uint64_t ans_head; /* [256] end of the answers taken */
	uint8_t zero2[120];
	_Atomic uint32_t asleep; /* [384] enum eloq_lane_asleep: what to wake me for */
	uint8_t zero3[124];
	_Atomic uint32_t generation; /* [512] incarnation that my positions belong to */
	uint8_t zero4[3580];
};

/* Written by the worker; the client's mapping is read-only. */
struct eloq_answer_segment {
	struct eloq_segment_header header; /* [0] */
	uint8_t zero0[112];
	_Atomic uint64_t ans_tail; /* [128] end of the published answers */
	uint8_t zero1[120];
	_Atomic uint64_t req_head; /* [256] end of the requests taken: space released */
	uint8_t zero2[120];
	_Atomic uint32_t wake;	      /* [384] futex word, raised before each wake */
	_Atomic uint32_t wants_space; /* [388] 1: ring the doorbell when answers are taken */
	uint8_t zero3[120];
	_Atomic uint32_t generation; /* [512] incarnation of the worker that has the lane */
	_Atomic uint32_t serving;    /* [516] incarnation whose positions are in this segment */
	_Atomic uint32_t state;	     /* [520] enum eloq_lane_state */
	_Atomic uint32_t reason;     /* [524] enum eloq_lane_reason, once closed */
	uint8_t zero4[3568];
};

/* Written by the worker, read-only for clients and supervisor. */
struct eloq_worker_page {
	struct eloq_segment_header header; /* [0] */
	uint8_t zero0[112];
	_Atomic uint32_t asleep; /* [128] 1: ring a doorbell after publishing */
	uint8_t zero1[124];
	_Atomic uint32_t incarnation; /* [256] */
	_Atomic uint32_t cpu;	      /* [260] the CPU it is pinned to, or ELOQ_CPU_NONE */
	_Atomic uint32_t tracing;     /* [264] 1: submit times are wanted */
	uint8_t zero2[116];
	_Atomic uint64_t heartbeat_ns; /* [384] CLOCK_MONOTONIC of a recent turn */
	uint8_t zero3[3704];
};

#define ELOQ_CPU_NONE UINT32_MAX

/*
 * What a sleeping client wants to be woken for; 0 while it is awake. Space is asked for only by one
 * whose ring was full: a client that waits for a write's answer is not woken when it is taken.
 */
enum eloq_lane_asleep { ELOQ_ASLEEP_FOR_ANSWERS = 1, ELOQ_ASLEEP_FOR_SPACE = 2 };

enum eloq_lane_state { ELOQ_LANE_NEW = 0, ELOQ_LANE_OPEN = 1, ELOQ_LANE_CLOSED = 2 };

/* Why a worker closed a lane. X(name, number, text) */
#define ELOQ_LANE_REASON_MAP(X)                                             \
	X(NONE, 0, "not closed")                                            \
	X(LEFT, 1, "the client left")                                       \
	X(BAD_POSITION, 2, "a position lies outside of the ring")           \
	X(BAD_RECORD, 3, "a record's length does not fit its contents")     \
	X(BAD_ID, 4, "request ids do not grow, or too many are unanswered") \
	X(BAD_LIMIT, 5, "a length is over the limit")                       \
	X(BAD_BULK, 6, "no such bulk memory, or too small")                 \
	X(STOPPED, 7, "the service stopped")

enum eloq_lane_reason {
#define ELOQ_LANE_REASON_ENUM(name, number, text) ELOQ_LANE_REASON_##name = (number),
	ELOQ_LANE_REASON_MAP(ELOQ_LANE_REASON_ENUM)
#undef ELOQ_LANE_REASON_ENUM
};

#define ELOQ_OFFSET_IS(type, member, offset) \
	static_assert(offsetof(struct type, member) == (offset), "layout version 1")

ELOQ_OFFSET_IS(eloq_request_segment, req_tail, 128);
ELOQ_OFFSET_IS(eloq_request_segment, ans_head, 256);
ELOQ_OFFSET_IS(eloq_request_segment, asleep, 384);
ELOQ_OFFSET_IS(eloq_request_segment, generation, 512);
static_assert(sizeof(struct eloq_request_segment) == ELOQ_SEGMENT_HEADER_BYTES, "layout version 1");
ELOQ_OFFSET_IS(eloq_answer_segment, ans_tail, 128);
ELOQ_OFFSET_IS(eloq_answer_segment, req_head, 256);
ELOQ_OFFSET_IS(eloq_answer_segment, wake, 384);
ELOQ_OFFSET_IS(eloq_answer_segment, wants_space, 388);
ELOQ_OFFSET_IS(eloq_answer_segment, generation, 512);
ELOQ_OFFSET_IS(eloq_answer_segment, serving, 516);
ELOQ_OFFSET_IS(eloq_answer_segment, state, 520);
ELOQ_OFFSET_IS(eloq_answer_segment, reason, 524);
static_assert(sizeof(struct eloq_answer_segment) == ELOQ_SEGMENT_HEADER_BYTES, "layout version 1");
ELOQ_OFFSET_IS(eloq_worker_page, asleep, 128);
ELOQ_OFFSET_IS(eloq_worker_page, incarnation, 256);
ELOQ_OFFSET_IS(eloq_worker_page, heartbeat_ns, 384);
static_assert(sizeof(struct eloq_worker_page) == ELOQ_WORKER_PAGE_BYTES, "layout version 1");
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2,
	      "a hidden lock would not reach across processes");

#endif
