/*
 * message.h - what travels in the rings: requests, answers, and the lists inside them.
 *
 * A record starts at a multiple of 8 and its first word tells its length. A record of at most 64
 * bytes does not straddle cache lines: a PAD record (kind 0) fills the rest of the line before it.
 * Rings are mapped twice in a row, so every record is contiguous in memory.
 *
 *   request: header (32 bytes) | optional words (8 each, in the order of their flags) | key | value
 *   answer:  header (24 bytes) | optional words                                       | key | value
 *
 * Encoders are told how much room there is; decoders take private copies only (shm/lane.h makes
 * them) and check everything. Codes here are part of the protocol: numbers are never reused.
 * docs/protocol.md, "Records".
 */
#ifndef ELOQ_SHM_MESSAGE_H
#define ELOQ_SHM_MESSAGE_H

#include "common/compiler.h"
#include "common/err.h"

#include <errno.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ELOQ_RECORD_ALIGN = 8, ELOQ_REQUEST_HEADER_BYTES = 32, ELOQ_ANSWER_HEADER_BYTES = 24 };

/* X(name, number, changes something, text) */
#define ELOQ_OP_MAP(X)                        \
	X(PAD, 0, false, "padding")           \
	X(PING, 1, false, "ping")             \
	X(GET, 2, false, "get")               \
	X(PUT, 3, true, "put")                \
	X(DELETE, 4, true, "delete")          \
	X(BATCH, 5, true, "batch")            \
	X(SCAN, 6, false, "scan")             \
	X(TRUNCATE, 7, true, "truncate")      \
	X(PARTITIONS, 8, false, "partitions") \
	X(PARTITION_STAT, 9, false, "partition stat")

enum eloq_op {
#define ELOQ_OP_ENUM(name, number, changes, text) ELOQ_OP_##name = (number),
	ELOQ_OP_MAP(ELOQ_OP_ENUM)
#undef ELOQ_OP_ENUM
};

/* Flags of a request: the low eight each say that an optional 8-byte word is there. */
enum eloq_request_flags {
	ELOQ_REQ_INLINE_LIMIT = 1u << 0, /* longest value in the answer ring; default 1 KiB */
	ELOQ_REQ_TIMESTAMP = 1u << 1,	 /* of the entry written */
	ELOQ_REQ_IF_TIMESTAMP = 1u << 2, /* reserved for conditions: answered `unsupported` */
	ELOQ_REQ_EXPIRY = 1u << 3,	 /* ms since the epoch; answered `unsupported` for now */
	ELOQ_REQ_DEADLINE = 1u << 4,	 /* remaining time in ns when it was published */
	ELOQ_REQ_SUBMIT_TIME = 1u << 5,	 /* CLOCK_MONOTONIC ns, only while tracing */
	ELOQ_REQ_UP_BULK = 1u << 6,	 /* the value lies in this bulk memory, from offset 0 */
	ELOQ_REQ_DOWN_BULK = 1u << 7, /* a value too long for the ring goes to this bulk memory */
	ELOQ_REQ_ALL_WORDS = 0xff,
	ELOQ_REQ_RESENT = 1u << 8, /* published before to an earlier incarnation */
};

struct eloq_request {
	uint64_t id;		 /* grows strictly within the lane's life; gaps are normal */
	uint64_t answered_below; /* all ids below are answered and taken */
	uint8_t op;
	uint16_t flags;
	uint32_t table;
	uint32_t partition;
	uint16_t key_bytes;
	uint32_t value_bytes;
	uint64_t words[8]; /* the optional words, by flag bit; 0 where the flag is clear */
};

/* Optional words by name: index of the flag's bit. */
enum eloq_request_word {
	ELOQ_WORD_INLINE_LIMIT,
	ELOQ_WORD_TIMESTAMP,
	ELOQ_WORD_IF_TIMESTAMP,
	ELOQ_WORD_EXPIRY,
	ELOQ_WORD_DEADLINE,
	ELOQ_WORD_SUBMIT_TIME,
	ELOQ_WORD_UP_BULK,
	ELOQ_WORD_DOWN_BULK,
};

/* X(name, number, the library's error code, text) */
#define ELOQ_STATUS_MAP(X)                                                            \
	X(OK, 0, 0, "done")                                                           \
	X(NOT_FOUND, 1, ELOQ_ENOTFOUND, "no such key")                                \
	X(OLDER, 2, 0, "ignored: the stored entry is newer")                          \
	X(NEED_BULK, 3, ELOQ_ETOOLONG, "the answer needs bulk memory of value_bytes") \
	X(UNSUPPORTED, 4, ELOQ_EUNSUPPORTED, "not supported by this version")         \
	X(INVALID, 5, EINVAL, "malformed request")                                    \
	X(NO_TABLE, 6, ELOQ_ENOTFOUND, "no such table")                               \
	X(WRONG_SHARD, 7, EINVAL, "the partition belongs to another shard")           \
	X(CORRUPT, 8, ELOQ_ECORRUPT, "the partition is damaged")                      \
	X(IO_ERROR, 9, EIO, "input or output failed")                                 \
	X(NO_SPACE, 10, ENOSPC, "no space left on the disk")                          \
	X(NO_MEMORY, 11, ENOMEM, "no memory left in the daemon")                      \
	X(TOO_LONG, 12, ELOQ_ETOOLONG, "key or value over the limit")                 \
	X(ORDER, 13, ELOQ_EORDER, "keys not strictly ascending")                      \
	X(DENIED, 14, ELOQ_EDENIED, "not permitted")                                  \
	X(TOO_MANY, 15, ELOQ_ETOOMANY, "a bound is reached")                          \
	X(STOPPED, 16, ELOQ_ESTOPPED, "the service is stopping")                      \
	X(READ_ONLY, 17, ELOQ_EREADONLY, "the shard serves reads only")               \
	X(CRASHED, 18, ELOQ_ECRASHED, "the request crashed the worker")               \
	X(TIMED_OUT, 19, ETIMEDOUT, "the deadline passed before it was executed")

enum eloq_status {
#define ELOQ_STATUS_ENUM(name, number, code, text) ELOQ_STATUS_##name = (number),
	ELOQ_STATUS_MAP(ELOQ_STATUS_ENUM)
#undef ELOQ_STATUS_ENUM
};

/* Text of a status and the negative error (or 0) that the client library returns for it. */
const char *eloq_status_text(unsigned status);
int eloq_status_to_error(unsigned status);
/* The status for a negative error of the engine. */
enum eloq_status eloq_status_from_error(int error);
const char *eloq_op_text(unsigned op);
bool eloq_op_changes(unsigned op);
const char *eloq_lane_reason_text(unsigned reason);

enum eloq_answer_flags {
	ELOQ_ANS_TIMESTAMP = 1u << 0, /* optional word 0 */
	ELOQ_ANS_EXPIRY = 1u << 1,    /* optional word 1 */
	ELOQ_ANS_ALL_WORDS = 0x3,
	ELOQ_ANS_BULK = 1u << 2, /* the value lies in the request's down bulk */
	ELOQ_ANS_MORE = 1u << 3, /* of a scan: the range goes on */
};

struct eloq_answer {
	uint64_t id;
	uint8_t status;
	uint16_t flags;
	uint16_t key_bytes;
	uint32_t value_bytes; /* in the ring, in bulk, or needed (NEED_BULK) */
	uint32_t incarnation; /* of the worker that answered */
	uint64_t timestamp;   /* with ELOQ_ANS_TIMESTAMP, else 0 */
	uint64_t expire_ms;   /* with ELOQ_ANS_EXPIRY, else 0 */
};

/*
 * Bytes of the whole record, a multiple of 8. A value in bulk, or one that is only needed, takes
 * no room. An answer with an error status carries words (UTF-8, not terminated) as its value.
 */
size_t eloq_request_bytes(const struct eloq_request *request);
size_t eloq_answer_bytes(const struct eloq_answer *answer);
/* Bytes of value that lie in the ring behind the key. */
size_t eloq_request_inline_bytes(const struct eloq_request *request);
size_t eloq_answer_inline_bytes(const struct eloq_answer *answer);

/* Write header and optional words at @p (which has room) and return where the key goes. */
uint8_t *eloq_request_encode(uint8_t *p, const struct eloq_request *request);
uint8_t *eloq_answer_encode(uint8_t *p, const struct eloq_answer *answer);

/*
 * The first word of a record: kind 0 is PAD. Returns the record's bytes (8.. in steps of 8), 0 if
 * the word is malformed: length 0, or a PAD longer than the rest of a line can be.
 */
size_t eloq_record_peek(const uint8_t first_word[8], bool *ret_pad);
/* Write a PAD record of @bytes (8..56, a multiple of 8). */
void eloq_record_pad(uint8_t *p, size_t bytes);

/* Bytes of a request's header and optional words, by the flags in its header. */
size_t eloq_request_fixed_bytes(const uint8_t header[ELOQ_REQUEST_HEADER_BYTES]);

/*
 * Decode a private copy of @bytes bytes (a whole record's header and optional words at least).
 * *ret_offset is where the key starts. Returns 0, or -ELOQ_EPROTOCOL if lengths do not add up to
 * @record_bytes. Does not judge op, status, table or limits.
 */
int eloq_request_decode(const uint8_t *copy, size_t bytes, size_t record_bytes,
			struct eloq_request *ret_request, size_t *ret_offset);
int eloq_answer_decode(const uint8_t *copy, size_t bytes, size_t record_bytes,
		       struct eloq_answer *ret_answer, size_t *ret_offset);
enum {
	ELOQ_REQUEST_FIXED_BYTES_MAX = ELOQ_REQUEST_HEADER_BYTES + 64,
	ELOQ_ANSWER_FIXED_BYTES_MAX = ELOQ_ANSWER_HEADER_BYTES + 16,
};

/* --- The value of BATCH: u32 count, u32 zero, then entries, each padded to 8 -------------------
 */

enum {
	ELOQ_BATCH_HEADER_BYTES = 8,
	ELOQ_BATCH_ENTRY_HEADER_BYTES = 24,
	ELOQ_BATCH_ANSWER_BYTES = 16
};
enum eloq_batch_flags { ELOQ_BATCH_TIMESTAMP = 1u << 0, ELOQ_BATCH_EXPIRY = 1u << 1 };

struct eloq_batch_entry {
	uint8_t op;    /* ELOQ_OP_PUT or ELOQ_OP_DELETE */
	uint8_t flags; /* eloq_batch_flags: which numbers were given */
	uint16_t key_bytes;
	uint32_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms;
	const uint8_t *key;
	const uint8_t *value;
};

size_t eloq_batch_entry_bytes(uint32_t key_bytes, uint32_t value_bytes);
uint8_t *eloq_batch_put_header(uint8_t *p, uint32_t count);
uint8_t *eloq_batch_put_entry(uint8_t *p, const struct eloq_batch_entry *entry);
/* Read the count; then each entry. NULL if the bytes do not hold it. */
const uint8_t *eloq_batch_get_header(const uint8_t *p, const uint8_t *end, uint32_t *ret_count);
const uint8_t *eloq_batch_get_entry(const uint8_t *p, const uint8_t *end,
				    struct eloq_batch_entry *ret_entry);
/* Answer value: u32 applied, u32 absent, u32 older, u32 zero. */
struct eloq_batch_outcome {
	uint32_t applied, absent, older;
};
void eloq_batch_put_outcome(uint8_t *p, const struct eloq_batch_outcome *outcome);
int eloq_batch_get_outcome(const uint8_t *p, size_t bytes, struct eloq_batch_outcome *ret_outcome);

/* --- SCAN: key = begin; value = this, then the end key ---------------------------------------- */

enum { ELOQ_SCAN_PARAMS_BYTES = 24, ELOQ_SCAN_ENTRY_HEADER_BYTES = 24 };
enum eloq_scan_flags {
	ELOQ_SCAN_BEGIN_EXCLUSIVE = 1u << 0,
	ELOQ_SCAN_KEYS_ONLY = 1u << 1,
	ELOQ_SCAN_EXPIRED_TOO = 1u << 2,
	ELOQ_SCAN_FLAGS_ALL = 0x7,
};

struct eloq_scan_params {
	uint32_t flags;
	uint32_t bytes_max;   /* of the answer's value; 0: what the ring or bulk holds */
	uint64_t entries_max; /* 0: no bound */
	uint16_t end_bytes;   /* 0: to the last key */
	const uint8_t *end;
};

/* Entry of the answer's value, padded to 8. */
struct eloq_scan_item {
	uint16_t key_bytes;
	uint32_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms;
	const uint8_t *key;
	const uint8_t *value; /* may be NULL if there are no bytes */
};

size_t eloq_scan_params_bytes(const struct eloq_scan_params *params);
void eloq_scan_put_params(uint8_t *p, const struct eloq_scan_params *params);
int eloq_scan_get_params(const uint8_t *p, size_t bytes, struct eloq_scan_params *ret_params);
size_t eloq_scan_item_bytes(uint32_t key_bytes, uint32_t value_bytes);
uint8_t *eloq_scan_put_item(uint8_t *p, const struct eloq_scan_item *item);
/* Keys only: value_bytes 0 in the item. NULL if malformed. */
const uint8_t *eloq_scan_get_item(const uint8_t *p, const uint8_t *end,
				  struct eloq_scan_item *ret_item);

/* --- PARTITIONS: the answer's value is an ascending array of u32 -------------------------------
 */
/*     partition = lowest id wanted; ELOQ_ANS_MORE: ask again from the last one + 1               */

/* --- PARTITION_STAT: answer value, u64 each --------------------------------------------------- */
enum { ELOQ_PARTITION_STAT_BYTES = 40 };
struct eloq_partition_figures {
	uint64_t pages, file_pages_end, manifest_bytes, page_bytes, has_ttl_tree;
};
void eloq_partition_figures_put(uint8_t *p, const struct eloq_partition_figures *figures);
int eloq_partition_figures_get(const uint8_t *p, size_t bytes,
			       struct eloq_partition_figures *ret_figures);

#endif
