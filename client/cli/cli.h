/*
 * cli.h - eloqctl's parts: one function a command, and what they share.
 *
 *   main.c   options, the table of commands, exit codes    keys.c      put, get, del, scan
 *   text.c   hex, tsv and json forms of keys and values     transfer.c  import, export
 *   admin.c  tables, stat, ping, config
 */
#ifndef ELOQ_CLIENT_CLI_CLI_H
#define ELOQ_CLIENT_CLI_CLI_H

#include "client/eloqclient.h"

#include <stdbool.h>
#include <stdio.h>

/* Exit codes: part of the interface (man page, tests). */
enum cli_exit {
	CLI_DONE = 0,
	CLI_NEGATIVE = 1,  /* key absent, write ignored */
	CLI_USAGE = 2,	   /* bad arguments, or bad input data */
	CLI_NO_DAEMON = 3, /* and the command that starts it */
	CLI_ERROR = 4,	   /* the service said no */
	CLI_TIMEOUT = 5,
};

enum { CLI_DEFAULT_PARTITIONS = 16 };

/* What the command line said; filled in by main.c. */
struct cli {
	const char *data_dir, *socket;
	const char *table_name; /* NULL: not given */
	bool partition_set;
	uint32_t partition;
	double timeout_s; /* 0: none */
	bool hex, json;
	/* Of single commands. */
	const char *from, *to, *format, *timestamps;
	uint64_t limit, partitions;
	bool limit_set, partitions_set, count, keys_only;
	int argc; /* words after the command */
	char **argv;

	struct eloq_client *client;
	struct eloq_channel *channel;
};

/* Connect once; prints what to do if nobody serves. CLI_DONE or the exit code. */
int cli_connect(struct cli *cli);

/* Open the table meant (default: "default"); with @create the default table is made if missing. */
int cli_open_table(struct cli *cli, const char *name, bool create, struct eloq_table **ret_table);

/* Print "eloqctl: WHAT: words" for a negative error and return its exit code. */
int cli_fail(const char *what, int error, const struct eloq_error *words);
/* The same for a call on the channel, with what the worker said of it. */
int cli_fail_op(const struct cli *cli, const char *what, int error);
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct eloq_op_opts cli_op_opts(const struct cli *cli);

/* --- text.c --- */

/* Bytes that grow; data is never NULL after cli_bytes_reserve(). */
struct cli_bytes {
	unsigned char *data;
	size_t bytes, room;
};
void cli_bytes_reserve(struct cli_bytes *out, size_t room);
void cli_bytes_append(struct cli_bytes *out, const void *data, size_t bytes);
void cli_bytes_free(struct cli_bytes *out);

/* Append what a word of the command line means: the bytes themselves, or hex digits. False: not
 * hex. */
bool cli_parse_word(struct cli_bytes *out, const char *text, size_t bytes, bool hex);
/* Append a tsv field, with \t \n \\ \xHH taken back. False: a bad escape. */
bool cli_parse_tsv(struct cli_bytes *out, const char *text, size_t bytes);
void cli_print_hex(FILE *file, const void *data, size_t bytes);
void cli_print_tsv(FILE *file, const void *data, size_t bytes);
/* As text or hex, as --hex says. */
void cli_print_bytes(const struct cli *cli, FILE *file, const void *data, size_t bytes);
/* As one field of a line: hex, or text with what would break the line escaped as in tsv. */
void cli_print_field(const struct cli *cli, FILE *file, const void *data, size_t bytes);
void cli_print_json_string(FILE *file, const char *text);

/* Memory or death: a command line tool has nothing to save. */
void *cli_alloc(size_t bytes);

/* --- commands: return an exit code --- */
int cli_put(struct cli *cli);
int cli_get(struct cli *cli);
int cli_del(struct cli *cli);
int cli_scan(struct cli *cli);
int cli_import(struct cli *cli);
int cli_export(struct cli *cli);
int cli_table(struct cli *cli);
int cli_stat(struct cli *cli);
int cli_ping(struct cli *cli);
int cli_config(struct cli *cli);

#endif
