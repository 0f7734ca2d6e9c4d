/*
 * transfer.h - records of import and export files: one line each.
 *
 *   tsv     key<TAB>value, with \t \n \\ \xHH
 *   jsonl   {"table":"t","partition":0,"key":"<hex>","value":"<hex>","timestamp":1,"expire_ts":0}
 */
#ifndef ELOQ_CLIENT_CLI_TRANSFER_H
#define ELOQ_CLIENT_CLI_TRANSFER_H

#include "client/cli/cli.h"

enum transfer_format { TRANSFER_JSONL, TRANSFER_TSV };

struct transfer_record {
	char table[208]; /* "": not said */
	bool partition_set;
	uint32_t partition;
	uint64_t timestamp; /* 0: not said */
	struct cli_bytes key, value;
};

/* From --format, else from the file's name, else jsonl. False: an unknown format, told. */
bool transfer_format_of(const struct cli *cli, const char *file, enum transfer_format *ret_format);

/*
 * Parse one line (without its end). The record's memory is reused from line to line. NULL, or what
 * is wrong with the line.
 */
const char *transfer_parse(enum transfer_format format, const char *line, size_t bytes,
			   struct transfer_record *record);

void transfer_print(enum transfer_format format, FILE *file, const char *table,
		    const struct eloq_entry_view *entry);

#endif
