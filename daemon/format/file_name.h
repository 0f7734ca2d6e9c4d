/*
 * file_name.h - names of files and directories in a store path.
 *
 * Numbers are decimal, without sign or leading zeroes. Names that do not parse exactly are not
 * ours: they are left alone. Pure functions, any thread. docs/format.md, "Names".
 */
#ifndef ELOQ_FORMAT_FILE_NAME_H
#define ELOQ_FORMAT_FILE_NAME_H

#include "common/compiler.h"
#include "common/limits.h"

#include <stdbool.h>

enum {
	ELOQ_FILE_NAME_BYTES = 64,	/* any name below with its final zero */
	ELOQ_PARTITION_DIR_BYTES = 256, /* "<table>.<partition>" likewise */
};

enum eloq_file_kind {
	ELOQ_FILE_UNKNOWN,
	ELOQ_FILE_DATA,	     /* data_<file id>_<term> */
	ELOQ_FILE_MANIFEST,  /* manifest_<term> */
	ELOQ_FILE_ARCHIVE,   /* manifest_<term>_<timestamp> */
	ELOQ_FILE_TEMPORARY, /* anything that ends in .tmp */
};

struct eloq_file_name {
	enum eloq_file_kind kind;
	uint64_t file_id;   /* data files */
	uint64_t term;	    /* data files, manifests, archives */
	uint64_t timestamp; /* archives: microseconds since the epoch, or the caller's number */
};

/* What @name is; fields that the kind does not have are 0. */
enum eloq_file_kind eloq_file_name_parse(const char *name, struct eloq_file_name *ret_name);

/* @ret_name: ELOQ_FILE_NAME_BYTES. @temporary appends ".tmp". */
void eloq_file_name_data(char *ret_name, uint64_t file_id, uint64_t term);
void eloq_file_name_manifest(char *ret_name, uint64_t term, bool temporary);
void eloq_file_name_archive(char *ret_name, uint64_t term, uint64_t timestamp, bool temporary);

/*
 * Whether a table may have this name: 1..ELOQ_TABLE_NAME_BYTES_MAX bytes, no '/', no control
 * bytes, not "." or "..".
 */
bool eloq_table_name_ok(const char *name, size_t name_bytes);

/* @ret_name: ELOQ_PARTITION_DIR_BYTES; @table passed eloq_table_name_ok(). */
void eloq_partition_dir_format(char *ret_name, const char *table, uint32_t partition);

/*
 * Splits a directory name at its last dot. @ret_table: ELOQ_TABLE_NAME_BYTES_MAX + 1 bytes.
 * False: not a partition's directory; nothing is set.
 */
bool eloq_partition_dir_parse(const char *name, char *ret_table, uint32_t *ret_partition);

#endif
