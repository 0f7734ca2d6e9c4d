/*
 * eloqclient.h - libeloqclient: the way into an eloqstored.
 *
 * A store is a set of tables; a table is a set of partitions; a partition is an ordered map from
 * keys to values. Keys are routed to partitions by the hash of the key, or the caller names the
 * partition. Clients talk to the shard workers through shared memory; while both sides are busy no
 * request makes a system call.
 *
 *	struct eloq_client *client;
 *	struct eloq_table *table;
 *
 *	eloq_connect(&client, NULL, NULL);
 *	eloq_table_open(client, "default", &table, NULL);
 *	eloq_put(eloq_channel(client), table, "key", 3, "value", 5, NULL);
 *
 * Errors: 0 or a count on success; a negative number otherwise: -errno, or -ELOQ_CLIENT_E... from
 * the list below; eloq_strerror() has its text. Functions that open things also fill in an
 * eloq_error with words, if one is given.
 *
 * Threads: a client, and its tables, may be shared by threads. A channel is used by one thread at a
 * time; eloq_channel() gives each thread its own. Blocking calls block their thread only.
 *
 * When a worker dies, calls wait until its successor serves (RESYNC); requests that had not been
 * answered are sent again. In this version a put or delete that was executed but not answered is
 * then executed twice; between clients that can matter: see docs/protocol.md, "Sent again".
 * When the daemon itself dies, waiting calls return -ELOQ_CLIENT_ECLOSED within a quarter of a
 * second, or -ELOQ_CLIENT_ESTOPPED where a worker noticed first and closed its lanes.
 *
 * After fork() the child cannot use what its parent opened (-ELOQ_CLIENT_ECLOSED); it may
 * eloq_disconnect() that, which does not disturb the parent, and connect for itself.
 */
#ifndef ELOQCLIENT_H
#define ELOQCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Error numbers of our own, as positive values; functions return them negated. */
#define ELOQ_CLIENT_ECORRUPT	 5001 /* a checksum or structure check failed: that partition only */
#define ELOQ_CLIENT_EVERSION	 5002 /* daemon and library speak different versions */
#define ELOQ_CLIENT_EUNSUPPORTED 5005 /* this version of the daemon cannot do that */
#define ELOQ_CLIENT_ENOTFOUND	 5006 /* no such key, or no such table */
#define ELOQ_CLIENT_EEXISTS	 5007 /* a table of this name exists */
#define ELOQ_CLIENT_ETOOMANY	 5008 /* a bound of the daemon is reached: channels, lanes, memory */
#define ELOQ_CLIENT_ETOOLONG	 5009 /* key or value over the limit */
#define ELOQ_CLIENT_EDENIED	 5010 /* this user may not do that */
#define ELOQ_CLIENT_ENODAEMON	 5011 /* nobody serves this directory or socket */
#define ELOQ_CLIENT_ECLOSED	 5012 /* the daemon is gone, or closed this connection */
#define ELOQ_CLIENT_EPROTOCOL	 5014 /* the daemon broke the protocol */
#define ELOQ_CLIENT_ESTOPPED	 5017 /* the daemon is stopping */
#define ELOQ_CLIENT_EREADONLY	 5019 /* the shard serves reads only */
#define ELOQ_CLIENT_EORDER	 5020 /* keys of a raw batch are not strictly ascending */

struct eloq_client;
struct eloq_channel;
struct eloq_table;
struct eloq_batch;
struct eloq_scan_cursor;

/* Words for a failure; text is one line. */
struct eloq_error {
	int code;
	char text[512];
};

/* Text of a code (either sign); never NULL, valid for the process. Any thread. */
const char *eloq_strerror(int code);

/* "0.1.0". Any thread. */
const char *eloq_version(void);

/* --- Connecting --------------------------------------------------------------------------------
 */

struct eloq_connect_opts {
	size_t opts_bytes;    /* sizeof(struct eloq_connect_opts) */
	const char *data_dir; /* of the daemon: its socket is eloqstored.sock there */
	const char *socket;   /* path of the socket; overrides data_dir */
	uint32_t spin_us;     /* longest busy wait for an answer before sleeping; default 50 */
};

/**
 * Connect to a daemon. @opts NULL: the socket named by the environment variable ELOQ_SOCKET, else
 * ./eloq-data/eloqstored.sock. -ELOQ_CLIENT_ENODAEMON, -ELOQ_CLIENT_EVERSION,
 * -ELOQ_CLIENT_EDENIED, -ELOQ_CLIENT_ETOOMANY, -ENOMEM, -errno. Blocks until the daemon answers.
 */
int eloq_connect(struct eloq_client **ret_client, const struct eloq_connect_opts *opts,
		 struct eloq_error *reterr);

/**
 * Close all channels and the connection. Unanswered requests are dropped; what the daemon had
 * taken is finished there. No other thread may use the client, its tables or channels any more.
 * NULL is fine.
 */
void eloq_disconnect(struct eloq_client *client);

/* Largest key in bytes (it depends on the store's page size), largest value in bytes, shards. */
size_t eloq_key_bytes_max(const struct eloq_client *client);
size_t eloq_value_bytes_max(const struct eloq_client *client);
unsigned eloq_shard_count(const struct eloq_client *client);

/**
 * Open a channel: a connection for one thread at a time. Its lanes to the shards are made when
 * they are first needed. -ELOQ_CLIENT_ETOOMANY, -ELOQ_CLIENT_ECLOSED, -ENOMEM.
 */
int eloq_channel_open(struct eloq_client *client, struct eloq_channel **ret_channel);
void eloq_channel_close(struct eloq_channel *channel); /* NULL is fine */

/**
 * This thread's own channel, opened on first use and closed when the thread ends or the client
 * disconnects. NULL if it cannot be opened; every call on a NULL channel answers
 * -ELOQ_CLIENT_ETOOMANY.
 */
struct eloq_channel *eloq_channel(struct eloq_client *client);

/**
 * What the worker said about the last call on this channel that it refused, as the file and offset
 * of a damaged page: one line, "" if it said nothing. Valid until the next call on the channel.
 */
const char *eloq_channel_words(const struct eloq_channel *channel);

/* --- Tables ------------------------------------------------------------------------------------
 */

#define ELOQ_PARTITION_BY_KEY UINT32_MAX /* route by hash of the key */

enum eloq_timestamps {
	ELOQ_SERVER_TIMESTAMPS = 0, /* microseconds given by the daemon, always growing */
	ELOQ_CALLER_TIMESTAMPS = 1, /* the caller's; an older one than the stored is ignored */
};

struct eloq_table_info {
	char name[208];
	uint32_t id;
	uint32_t partitions; /* 0: adopted; its keys are not routed, name a partition */
	enum eloq_timestamps timestamps;
};

/* -ELOQ_CLIENT_ENOTFOUND. The table is freed with eloq_table_close() or with its client. */
int eloq_table_open(struct eloq_client *client, const char *name, struct eloq_table **ret_table,
		    struct eloq_error *reterr);
void eloq_table_close(struct eloq_table *table); /* NULL is fine */

/* @partitions 1..65536. -ELOQ_CLIENT_EEXISTS, -EINVAL (name or number), -ELOQ_CLIENT_ETOOMANY. */
int eloq_table_create(struct eloq_client *client, const char *name, uint32_t partitions,
		      enum eloq_timestamps timestamps, struct eloq_error *reterr);

/* Remove a table with everything in it. -ELOQ_CLIENT_ENOTFOUND. */
int eloq_table_drop(struct eloq_client *client, const char *name, struct eloq_error *reterr);

/* Call @each for every table, by name; it returns non-zero to end the walk with that number. */
int eloq_table_list(struct eloq_client *client,
		    int (*each)(void *arg, const struct eloq_table_info *info), void *arg,
		    struct eloq_error *reterr);

const struct eloq_table_info *eloq_table_info(const struct eloq_table *table);

/* The partition that a key is routed to; 0 for adopted tables. Any thread. */
uint32_t eloq_table_partition(const struct eloq_table *table, const void *key, size_t key_bytes);

/* --- One key ------------------------------------------------------------------------------------
 */

/* All may be left out by passing NULL: zeros are the defaults. Calls on keys of an adopted table
 * (partitions 0) have to name a partition: -EINVAL without one. */
struct eloq_op_opts {
	size_t opts_bytes;	/* sizeof(struct eloq_op_opts) */
	uint32_t partition_set; /* 1: `partition` is meant; 0: by key */
	uint32_t partition;
	uint64_t timestamp;  /* of a write to a table with caller timestamps; 0: stored + 1 */
	uint64_t timeout_ns; /* of the whole call; 0: none. -ETIMEDOUT when it passes */
};

/* A value that was read. The memory belongs to the caller: eloq_value_free(). */
struct eloq_value {
	void *data; /* never NULL on success; one zero byte follows the value */
	size_t bytes;
	uint64_t timestamp;
	uint64_t expire_ms; /* 0: never */
};

/* Frees the data and empties the structure. A value of zeros is fine. */
void eloq_value_free(struct eloq_value *value);

/**
 * Read one key (1..eloq_key_bytes_max() bytes of any content).
 * 0; -ELOQ_CLIENT_ENOTFOUND (no such key; or the table was dropped); -EINVAL (no key, a partition
 * that is not there, options); -ELOQ_CLIENT_ETOOLONG (key); -ELOQ_CLIENT_ECORRUPT; -EIO;
 * -ETIMEDOUT; -ELOQ_CLIENT_ETOOMANY (no memory for a long answer); -ELOQ_CLIENT_ESTOPPED;
 * -ELOQ_CLIENT_ECLOSED; -ENOMEM. Waits until the worker answers. A write that timed out may have
 * been, or still be, executed.
 */
int eloq_get(struct eloq_channel *channel, struct eloq_table *table, const void *key,
	     size_t key_bytes, struct eloq_value *ret_value, const struct eloq_op_opts *opts);

/**
 * Read into the caller's memory: up to @value_bytes_max bytes; *ret_value_bytes gets the value's
 * whole length, even if it is longer (then the memory's content is undefined and the result is
 * -ELOQ_CLIENT_ETOOLONG). No allocation for values of up to a quarter of the answer ring.
 */
int eloq_get_into(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		  size_t key_bytes, void *value, size_t value_bytes_max, size_t *ret_value_bytes,
		  const struct eloq_op_opts *opts);

/**
 * Write one key; when it returns 0 the value is on disk. The value has 0..eloq_value_bytes_max()
 * bytes. 1: ignored, as the stored entry has a newer timestamp (caller timestamps only).
 * Errors as eloq_get(), and -ENOSPC, -ELOQ_CLIENT_ETOOLONG, -ELOQ_CLIENT_EREADONLY.
 */
int eloq_put(struct eloq_channel *channel, struct eloq_table *table, const void *key,
	     size_t key_bytes, const void *value, size_t value_bytes,
	     const struct eloq_op_opts *opts);

/* Remove one key. 0: removed; 1: ignored as older; -ELOQ_CLIENT_ENOTFOUND: it was not there. */
int eloq_delete(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		size_t key_bytes, const struct eloq_op_opts *opts);

/* Remove everything in one partition. */
int eloq_truncate(struct eloq_channel *channel, struct eloq_table *table, uint32_t partition,
		  const struct eloq_op_opts *opts);

/* --- Several keys of one partition, atomically --------------------------------------------------
 */

/* Collect puts and deletes; all keys must be of one partition. One thread at a time. */
int eloq_batch_new(struct eloq_batch **ret_batch);
void eloq_batch_free(struct eloq_batch *batch); /* NULL is fine */
void eloq_batch_clear(struct eloq_batch *batch);

/* Copies key and value. Order does not matter; of two entries for one key the later counts.
 * -EINVAL, -ELOQ_CLIENT_ETOOLONG, -ENOMEM. @timestamp 0: as eloq_op_opts says. */
int eloq_batch_put(struct eloq_batch *batch, const void *key, size_t key_bytes, const void *value,
		   size_t value_bytes, uint64_t timestamp);
int eloq_batch_delete(struct eloq_batch *batch, const void *key, size_t key_bytes,
		      uint64_t timestamp);
size_t eloq_batch_count(const struct eloq_batch *batch);
/* As sent (if no key came twice, else less); what is sent is at most eloq_value_bytes_max(). */
size_t eloq_batch_bytes(const struct eloq_batch *batch);

struct eloq_batch_result {
	uint32_t applied; /* puts and deletes that took effect */
	uint32_t absent;  /* deletes of keys that were not there */
	uint32_t older;	  /* ignored for a newer stored entry */
};

/**
 * Apply the batch to one partition: opts->partition, or where its first key is routed to (then a
 * key that is routed elsewhere is refused: -EXDEV). All or nothing, on disk when it returns 0.
 * An empty batch returns 0. @ret_result may be NULL. After a worker's death a batch may have been
 * executed twice: then deletes that took effect the first time are counted as absent.
 * opts->timestamp is meant for entries that have none of their own.
 */
int eloq_batch_write(struct eloq_channel *channel, struct eloq_table *table,
		     struct eloq_batch *batch, struct eloq_batch_result *ret_result,
		     const struct eloq_op_opts *opts);

/* --- Ranges ------------------------------------------------------------------------------------
 */

struct eloq_scan_opts {
	size_t opts_bytes; /* sizeof(struct eloq_scan_opts) */
	const void *from;  /* first key wanted; NULL: from the start */
	size_t from_bytes;
	const void *to; /* first key not wanted; NULL: to the end */
	size_t to_bytes;
	uint64_t limit; /* entries at most; 0: no limit */
	uint32_t from_exclusive;
	uint32_t keys_only;
	uint32_t partition_set; /* 1: one partition; 0: all, merged in key order */
	uint32_t partition;
	uint32_t page_bytes; /* answer bytes asked for at a time and partition; 0: 64 KiB */
	uint64_t timeout_ns; /* of each call of eloq_scan_next() */
};

struct eloq_entry_view {
	const void *key;
	size_t key_bytes;
	const void *value; /* NULL with keys_only */
	size_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms;
	uint32_t partition;
};

/**
 * Open a cursor over a range, ascending. It is a position kept by this library: each page of
 * results is a new snapshot of its partition, and the daemon keeps nothing. The bounds are copied.
 * The cursor belongs to its channel and must be closed before it.
 */
int eloq_scan_open(struct eloq_channel *channel, struct eloq_table *table,
		   const struct eloq_scan_opts *opts, struct eloq_scan_cursor **ret_cursor);

/**
 * The next entry: 1 and *ret_entry, valid until the next call on the cursor; 0 at the end; or a
 * negative error as eloq_get(). After an error the cursor may be asked again: it goes on where it
 * was.
 */
int eloq_scan_next(struct eloq_scan_cursor *cursor, struct eloq_entry_view *ret_entry);
void eloq_scan_close(struct eloq_scan_cursor *cursor); /* NULL is fine */

/* Partitions of a table that exist, ascending (of a routed table: those that hold something). */
int eloq_table_partitions(struct eloq_channel *channel, struct eloq_table *table,
			  int (*each)(void *arg, uint32_t partition), void *arg);

struct eloq_table_stat {
	uint64_t partitions; /* that exist */
	uint64_t pages;	     /* live pages of all kinds */
	uint64_t page_bytes; /* size of one */
	uint64_t file_pages; /* file pages ever used */
	uint64_t manifest_bytes;
	uint64_t ttl_partitions; /* with entries that expire */
};
int eloq_table_stat(struct eloq_channel *channel, struct eloq_table *table,
		    struct eloq_table_stat *ret_stat);

/* --- Several requests in flight: submit, poll --------------------------------------------------
 */

/* Names for what can be submitted, for applications that keep a record of it. */
enum eloq_async_op { ELOQ_ASYNC_GET = 1, ELOQ_ASYNC_PUT = 2, ELOQ_ASYNC_DELETE = 3 };

/* What came back for one submitted request. */
struct eloq_completion {
	void *arg;	   /* as given at submission */
	int result;	   /* as the blocking call would return */
	const void *value; /* of a get; valid until the next eloq_poll(); a zero byte follows it */
	size_t value_bytes;
	uint64_t timestamp;
	uint64_t expire_ms;
};

/**
 * Start a request; key and value are copied. Invisible to the worker until eloq_flush(),
 * eloq_poll() or a blocking call. -EAGAIN: too many in flight on this lane, poll first. Errors of
 * arguments as the blocking calls. Results come in any order over keys; writes of one channel to
 * one key take effect in the order of submission. Each submission that returned 0 is returned by
 * eloq_poll() once, with -ETIMEDOUT if its time was over. Never waits for a worker; the first
 * request to a shard, and those with values too long for the ring, may wait for the supervisor.
 */
int eloq_submit_get(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		    size_t key_bytes, void *arg, const struct eloq_op_opts *opts);
int eloq_submit_put(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		    size_t key_bytes, const void *value, size_t value_bytes, void *arg,
		    const struct eloq_op_opts *opts);
int eloq_submit_delete(struct eloq_channel *channel, struct eloq_table *table, const void *key,
		       size_t key_bytes, void *arg, const struct eloq_op_opts *opts);
/* As eloq_batch_write(); the batch may be cleared or freed at once. */
int eloq_submit_batch(struct eloq_channel *channel, struct eloq_table *table,
		      struct eloq_batch *batch, void *arg, const struct eloq_op_opts *opts);

/* Make everything submitted visible to the workers. */
int eloq_flush(struct eloq_channel *channel);

/**
 * Flush, then collect up to @completions_max results, waiting up to @timeout_ns for the first one
 * (0: do not wait; UINT64_MAX: as long as it takes). Returns how many (0: none yet, or none in
 * flight). When the daemon is gone everything in flight completes with -ELOQ_CLIENT_ECLOSED; once
 * nothing is left that is the result.
 */
int eloq_poll(struct eloq_channel *channel, struct eloq_completion *ret_completions,
	      unsigned completions_max, uint64_t timeout_ns);

/* Requests submitted and not yet returned by eloq_poll(). */
size_t eloq_in_flight(const struct eloq_channel *channel);

/* --- Looking at the daemon ---------------------------------------------------------------------
 */

/* Round trip through every shard's worker; the slowest in ns. */
int eloq_ping(struct eloq_channel *channel, uint64_t *ret_ns);

/* Counters as JSON, or the effective configuration as ini. free() the text. */
int eloq_daemon_stat(struct eloq_client *client, char **ret_json, struct eloq_error *reterr);
int eloq_daemon_config(struct eloq_client *client, char **ret_ini, struct eloq_error *reterr);

#ifdef __cplusplus
}
#endif

#endif
