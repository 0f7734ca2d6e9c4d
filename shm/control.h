/*
 * control.h - messages on sockets: client and supervisor, supervisor and worker.
 *
 * Both are SOCK_SEQPACKET: one message, one packet, descriptors beside it. A message is a fixed
 * structure of one version, little-endian, zero where nothing is said, followed by text where its
 * comment says so. The header carries magic, version, type and the size of the whole message; a
 * message of another version is answered with ERROR (or REPLY) naming both versions, then the
 * socket is closed. Requests carry a number that the answer repeats.
 *
 * Descriptors travel only from the daemon to clients and from supervisor to workers; descriptors
 * that a client sends are refused by the kernel (no control buffer is given for them).
 * docs/protocol.md, "Control messages".
 */
#ifndef ELOQ_SHM_CONTROL_H
#define ELOQ_SHM_CONTROL_H

#include "common/compiler.h"
#include "common/err.h"
#include "common/limits.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#define ELOQ_CONTROL_MAGIC UINT32_C(0x54434c45) /* "ELCT" */
enum {
	ELOQ_CONTROL_VERSION = 1,
	ELOQ_CONTROL_BYTES_MAX = 32 << 10,
	ELOQ_CONTROL_FDS_MAX = ELOQ_SHARDS_MAX,
	ELOQ_CONTROL_TEXT_MAX = 16 << 10, /* of TEXT; longer texts come in several */
};

/* X(name, number): what a client sends has numbers below 64, the answers 64.., workers 128.. */
#define ELOQ_CONTROL_MAP(X)      \
	X(HELLO, 1)              \
	X(CHANNEL_OPEN, 2)       \
	X(LANE_OPEN, 3)          \
	X(BULK_OPEN, 4)          \
	X(BULK_CLOSE, 5)         \
	X(CHANNEL_CLOSE, 6)      \
	X(TABLE_OPEN, 7)         \
	X(TABLE_CREATE, 8)       \
	X(TABLE_DROP, 9)         \
	X(TABLE_LIST, 10)        \
	X(LOOK, 11)              \
	X(ERROR, 64)             \
	X(WELCOME, 65)           \
	X(CHANNEL, 66)           \
	X(LANE, 67)              \
	X(BULK, 68)              \
	X(DONE, 69)              \
	X(TABLE, 70)             \
	X(TEXT, 71)              \
	X(W_START, 128)          \
	X(W_ROOT, 129)           \
	X(W_TABLE, 130)          \
	X(W_LANE, 131)           \
	X(W_BULK, 132)           \
	X(W_GO, 133)             \
	X(W_LANE_GONE, 134)      \
	X(W_BULK_GONE, 135)      \
	X(W_TABLE_DROP, 136)     \
	X(W_TIMESTAMPS, 137)     \
	X(W_LOOK, 138)           \
	X(W_STOP, 139)           \
	X(W_READY, 160)          \
	X(W_REPLY, 161)          \
	X(W_LANE_CLOSED, 162)    \
	X(W_TIMESTAMPS_LOW, 163) \
	X(W_FIGURES, 164)        \
	X(W_STOPPED, 165)

enum eloq_control_type {
#define ELOQ_CONTROL_ENUM(name, number) ELOQ_CONTROL_##name = (number),
	ELOQ_CONTROL_MAP(ELOQ_CONTROL_ENUM)
#undef ELOQ_CONTROL_ENUM
};

struct eloq_control_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t bytes; /* of the whole message */
	uint32_t seq;	/* of the request, repeated by its answers */
};

/* --- Client to supervisor ----------------------------------------------------------------------
 */

struct eloq_msg_hello {
	struct eloq_control_header header;
	uint32_t layout_version; /* ELOQ_LAYOUT_VERSION */
	uint32_t pid;		 /* for display only */
	char name[32];		 /* program, for display only */
};

struct eloq_msg_channel_open {
	struct eloq_control_header header;
};

struct eloq_msg_lane_open {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t shard;
};

enum eloq_bulk_direction { ELOQ_BULK_UP = 0, ELOQ_BULK_DOWN = 1 };

struct eloq_msg_bulk_open {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t shard;
	uint32_t direction; /* UP: the client writes it; DOWN: the worker does */
	uint32_t zero;
	uint64_t bytes; /* rounded up to 4096 */
};

struct eloq_msg_bulk_close {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t shard;
	uint32_t bulk;
	uint32_t zero;
};

struct eloq_msg_channel_close {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t zero;
};

enum eloq_table_timestamps { ELOQ_TIMESTAMPS_SERVER = 0, ELOQ_TIMESTAMPS_CALLER = 1 };

/* TABLE_OPEN, TABLE_CREATE (partitions 1.., timestamps), TABLE_DROP; TABLE_LIST has no name. */
struct eloq_msg_table_name {
	struct eloq_control_header header;
	uint32_t partitions;
	uint32_t timestamps;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 8]; /* zero-terminated */
};

enum eloq_look { ELOQ_LOOK_STAT = 0, ELOQ_LOOK_CONFIG = 1, ELOQ_LOOK_PING = 2 };

/* Answered by TEXT: JSON for STAT and PING, ini for CONFIG. */
struct eloq_msg_look {
	struct eloq_control_header header;
	uint32_t what; /* enum eloq_look */
	uint32_t zero;
};

/* --- Supervisor to client ----------------------------------------------------------------------
 */

/* Any request may be answered by it. Text without terminator behind it. */
struct eloq_msg_error {
	struct eloq_control_header header;
	uint32_t code; /* enum eloq_control_code */
	uint32_t text_bytes;
};

/* Our own numbers, part of the protocol. X(name, number, the library's error) */
#define ELOQ_CONTROL_CODE_MAP(X)             \
	X(OK, 0, 0)                          \
	X(VERSION, 1, ELOQ_EVERSION)         \
	X(PROTOCOL, 2, ELOQ_EPROTOCOL)       \
	X(DENIED, 3, ELOQ_EDENIED)           \
	X(TOO_MANY, 4, ELOQ_ETOOMANY)        \
	X(NOT_FOUND, 5, ELOQ_ENOTFOUND)      \
	X(EXISTS, 6, ELOQ_EEXISTS)           \
	X(INVALID, 7, EINVAL)                \
	X(UNSUPPORTED, 8, ELOQ_EUNSUPPORTED) \
	X(STOPPED, 9, ELOQ_ESTOPPED)         \
	X(FAILED, 10, EIO)                   \
	X(CORRUPT, 11, ELOQ_ECORRUPT)        \
	X(TOO_LONG, 12, ELOQ_ETOOLONG)       \
	X(NO_SPACE, 13, ENOSPC)

enum eloq_control_code {
#define ELOQ_CONTROL_CODE_ENUM(name, number, error) ELOQ_CONTROL_CODE_##name = (number),
	ELOQ_CONTROL_CODE_MAP(ELOQ_CONTROL_CODE_ENUM)
#undef ELOQ_CONTROL_CODE_ENUM
};

/* Descriptors: the page of each worker, in order of shards, read-only. */
struct eloq_msg_welcome {
	struct eloq_control_header header;
	uint64_t session; /* never reused */
	uint8_t uuid[16];
	uint32_t shard_count;
	uint32_t page_bytes; /* of the store */
	uint32_t key_bytes_max;
	uint32_t value_bytes_max;
	uint32_t daemon_pid; /* for display only */
	uint32_t zero;
	char release[32]; /* the daemon's version, for display only */
};

struct eloq_msg_channel {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t zero;
};

/* Descriptors: request segment (writable), answer segment (read-only), doorbell (eventfd). */
struct eloq_msg_lane {
	struct eloq_control_header header;
	uint32_t channel;
	uint32_t shard;
	uint32_t req_ring_bytes;
	uint32_t ans_ring_bytes;
};

/* Descriptor: the memory, read-only for DOWN. */
struct eloq_msg_bulk {
	struct eloq_control_header header;
	uint32_t bulk; /* its number in this lane */
	uint32_t zero;
	uint64_t bytes;
};

/* A request was done; nothing more to say. Also the end of a TABLE_LIST. */
struct eloq_msg_done {
	struct eloq_control_header header;
};

enum eloq_table_flags { ELOQ_TABLE_ADOPTED = 1u << 0 /* partitions 0: no key routing */ };

struct eloq_msg_table {
	struct eloq_control_header header;
	uint32_t table; /* its number, never reused */
	uint32_t partitions;
	uint32_t timestamps;
	uint32_t flags;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 8];
};

/* text_bytes of text behind it; `more`: another TEXT of the same seq follows. */
struct eloq_msg_text {
	struct eloq_control_header header;
	uint32_t text_bytes;
	uint32_t more;
};

/* --- Supervisor to worker: START, ROOT..., TABLE..., (LANE, BULK...)..., GO; then as it comes ----
 */

/* Descriptors: the worker's page (writable), the open directory wal/shard-NNN. */
struct eloq_msg_w_start {
	struct eloq_control_header header;
	uint32_t shard, shard_count;
	uint32_t incarnation;
	uint32_t cpu; /* to pin to, or ELOQ_CPU_NONE */
	uint32_t page_bytes, pages_per_file_shift, overflow_pointers, append_mode;
	uint32_t data_restart_interval, index_restart_interval;
	uint32_t verify_checksums;
	uint32_t root_count;
	uint64_t manifest_bytes_max;
	uint64_t cache_bytes;
	uint32_t files_max;
	uint32_t io_depth;
	uint32_t pool_threads;
	uint32_t tasks_max;
	uint64_t request_bytes_max;    /* of requests in work: copies of keys and values */
	uint64_t timestamp_floor_us;   /* all stored ones are below */
	uint64_t timestamp_ceiling_us; /* may be handed out below this */
	char io_backend[16];
	char log_level[16];
};

/* Descriptor: the open directory, with the supervisor's flock. Text: its path. */
struct eloq_msg_w_root {
	struct eloq_control_header header;
	uint32_t index;
	uint32_t text_bytes;
};

/* As eloq_msg_table, for W_TABLE (a table exists) and W_TABLE_DROP (drop its partitions: REPLY). */

/* Descriptors: request segment, answer segment (writable), doorbell. */
struct eloq_msg_w_lane {
	struct eloq_control_header header;
	uint64_t session;
	uint32_t lane; /* the supervisor's number, unique in its life */
	uint32_t channel;
	uint32_t req_ring_bytes;
	uint32_t ans_ring_bytes;
	uint32_t rights; /* 0 none, 1 read, 2 read and write */
	uint32_t uid;
};

/* Descriptor: the memory, writable for DOWN. */
struct eloq_msg_w_bulk {
	struct eloq_control_header header;
	uint32_t lane;
	uint32_t bulk;
	uint32_t direction;
	uint32_t zero;
	uint64_t bytes;
};

/* W_GO: recover and serve. W_STOP: finish what was taken, sync, leave (a clean stop). */
struct eloq_msg_w_plain {
	struct eloq_control_header header;
};

/* W_LANE_GONE (its client left: requests not taken are dropped), W_LANE_CLOSED (by the worker). */
struct eloq_msg_w_lane_end {
	struct eloq_control_header header;
	uint32_t lane;
	uint32_t reason; /* enum eloq_lane_reason */
};

struct eloq_msg_w_bulk_gone {
	struct eloq_control_header header;
	uint32_t lane;
	uint32_t bulk;
};

struct eloq_msg_w_timestamps {
	struct eloq_control_header header;
	uint64_t ceiling_us;
};

/* --- Worker to supervisor -----------------------------------------------------------------------
 */

/* W_READY: serving; text: notes to log, maybe empty. W_REPLY: to TABLE_DROP. W_STOPPED: all is on
 * disk, leaving. Text behind it. */
struct eloq_msg_w_reply {
	struct eloq_control_header header;
	uint32_t code; /* enum eloq_control_code */
	uint32_t text_bytes;
};

/* X(name): counters of a worker since its start, in this order, u64 each. */
#define ELOQ_FIGURE_MAP(X)       \
	X(requests_taken)        \
	X(answers)               \
	X(gets)                  \
	X(gets_fast)             \
	X(puts)                  \
	X(deletes)               \
	X(batches)               \
	X(scans)                 \
	X(refused)               \
	X(lanes)                 \
	X(lanes_closed_for_lies) \
	X(turns)                 \
	X(sleeps)                \
	X(tasks_live)            \
	X(request_bytes)         \
	X(commits)               \
	X(merged_writes)         \
	X(pages_written)         \
	X(cache_hits)            \
	X(cache_misses)          \
	X(cache_pages)           \
	X(cache_pages_max)       \
	X(io_reads)              \
	X(io_read_bytes)         \
	X(io_writes)             \
	X(io_write_bytes)        \
	X(io_syncs)              \
	X(io_errors)             \
	X(files_open)            \
	X(partitions_loaded)

struct eloq_figures {
#define ELOQ_FIGURE_MEMBER(name) uint64_t name;
	ELOQ_FIGURE_MAP(ELOQ_FIGURE_MEMBER)
#undef ELOQ_FIGURE_MEMBER
};

struct eloq_msg_w_figures {
	struct eloq_control_header header;
	char io_backend[16];
	struct eloq_figures figures;
};

/* --- Sending and receiving ----------------------------------------------------------------------
 */

/* Fill in the header of a message of @bytes. */
void eloq_control_init(void *message, enum eloq_control_type type, size_t bytes, uint32_t seq);

/*
 * Send one packet: @message (its header says how long) followed by @text. Never raises SIGPIPE.
 * 0; -EAGAIN: the socket is non-blocking and full; -errno.
 */
int eloq_control_send(int socket, const void *message, const void *text, size_t text_bytes,
		      const int *fds, unsigned fd_count);

/*
 * Receive one packet into @buffer (ELOQ_CONTROL_BYTES_MAX bytes are enough). @fds NULL: none are
 * wanted, the kernel drops any. Received ones are CLOEXEC and the caller's. Returns the bytes; 0:
 * closed by the other side; -EAGAIN; -ELOQ_EPROTOCOL: malformed or too short for its type;
 * -ELOQ_EVERSION: another version (the header is in @buffer); -errno. On error no fds are open.
 */
int eloq_control_receive(int socket, void *buffer, size_t buffer_bytes, int *fds, unsigned fds_max,
			 unsigned *ret_fd_count);

/* The library's negative error for a code, and the code for a negative error. */
int eloq_control_code_to_error(uint32_t code);
enum eloq_control_code eloq_control_code_from_error(int error);
const char *eloq_control_type_text(unsigned type);

/* Connect to, or listen at, the socket @path; paths too long for a socket address go through a
 * descriptor of their directory. Returns the socket (CLOEXEC) or -errno. */
int eloq_control_connect(const char *path);
int eloq_control_listen(const char *path, unsigned backlog);

#endif
