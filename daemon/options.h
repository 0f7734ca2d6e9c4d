/*
 * options.h - everything that can be said to eloqstored: command line and ini, by one table.
 *
 * [run] and [permanent] are the reference's, with its keys and units; [server] is ours. Keys of the
 * reference that mean nothing here are accepted and named in a note; those of its cloud mode are
 * refused by name. Every key is also `--key value`, which wins over the file.
 *
 * Runs on:  the main thread, at start.
 * Fails by: -ELOQ_ECONFIG, -ELOQ_EUNSUPPORTED (a key that is known but not built), -EINVAL (an
 *           argument that we do not know), -errno (the file), with words.
 */
#ifndef ELOQ_DAEMON_OPTIONS_H
#define ELOQ_DAEMON_OPTIONS_H

#include "common/conf.h"
#include "common/err.h"
#include "common/log.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum eloq_options_action {
	ELOQ_OPTIONS_SERVE,
	ELOQ_OPTIONS_CHECK, /* print the effective configuration */
	ELOQ_OPTIONS_HELP,
	ELOQ_OPTIONS_VERSION,
};

/* Keys of the reference that are read and have no effect. */
enum { ELOQ_OPTIONS_WITHOUT_EFFECT_MAX = 16 };

struct eloq_options {
	struct eloq_conf conf; /* over this structure */
	enum eloq_options_action action;
	const char *data;	 /* --data */
	const char *config_file; /* --config, NULL: none */

	/* [server] */
	char *socket; /* NULL: eloqstored.sock in the data directory */
	char *io_backend;
	uint64_t pool_threads;
	uint64_t request_ring_size, answer_ring_size;
	uint64_t lane_memory;
	uint64_t request_memory;
	uint64_t cache_size; /* of all shards together */
	uint64_t heartbeat_timeout_ns;
	uint64_t restart_delay_max_ns;
	char *cpu_pinning;
	char *log_level;

	/* [run] */
	uint64_t num_threads; /* shards; settled to at least 1 */
	uint64_t data_page_restart_interval, index_page_restart_interval;
	bool skip_verify_checksum;
	uint64_t buffer_pool_size; /* of one shard; settled with cache_size */
	uint64_t manifest_limit;
	uint64_t fd_limit;
	uint64_t io_queue_size;
	uint64_t without_effect[ELOQ_OPTIONS_WITHOUT_EFFECT_MAX];
	bool enable_compression;

	/* [permanent]: defaults unless eloq_options_said(), in which case a store must match. */
	struct eloq_conf_paths store_path; /* absolute */
	uint64_t data_page_size;
	uint64_t data_file_size;
	uint64_t overflow_pointers;
	bool data_append_mode;
};

/* Defaults, then the file that --config names, then the arguments; checked and settled. */
int eloq_options_parse(struct eloq_options *options, int argc, char *const *argv,
		       struct eloq_errinfo *reterr);
void eloq_options_clear(struct eloq_options *options);

/* True if file or command line said what @key is. */
bool eloq_options_said(const struct eloq_options *options, const char *key);

/* A line that names the keys which were said and have no effect, or "" (malloc'ed; NULL without
 * memory). */
char *eloq_options_note(const struct eloq_options *options);

/* The configuration in force as an ini (malloc'ed; NULL without memory). */
char *eloq_options_text(const struct eloq_options *options);
void eloq_options_help(FILE *out);

enum eloq_log_level eloq_options_log_level(const char *name);

/* floor(log2(file / page)): the file size counts in powers of two of pages. 0: less than a page. */
uint32_t eloq_options_file_shift(uint64_t file_bytes, uint64_t page_bytes);

#endif
