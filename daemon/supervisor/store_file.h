/*
 * store_file.h - STORE: what a data directory is, and the numbers that must never come back.
 *
 * One small file, read whole at start and replaced whole at each change (written beside, synced,
 * renamed, directory synced): a crash leaves the old one or the new one. It carries a version and
 * a checksum; a newer version and a damaged file are refused by name.
 *
 * Always:   numbers in it only grow; a number is used only after STORE says that it may be.
 * Runs on:  the supervisor's thread; blocks for a few milliseconds of disk.
 * Fails by: -ELOQ_EVERSION, -ELOQ_ECORRUPT, -errno, with words. docs/format.md, "STORE".
 */
#ifndef ELOQ_DAEMON_SUPERVISOR_STORE_FILE_H
#define ELOQ_DAEMON_SUPERVISOR_STORE_FILE_H

#include "common/err.h"
#include "common/limits.h"

#include <stddef.h>
#include <stdint.h>

enum {
	ELOQ_STORE_FILE_VERSION = 1,
	ELOQ_STORE_FILE_PATHS_MAX = ELOQ_SHARDS_MAX,
	ELOQ_STORE_FILE_PATH_BYTES_MAX = 4095,
	ELOQ_STORE_FILE_BYTES_MAX = 4 << 20,
};

enum eloq_store_file_flags {
	ELOQ_STORE_FILE_ADOPTED = 1u << 0,  /* found as directories: keys are not routed */
	ELOQ_STORE_FILE_DROPPING = 1u << 1, /* gone for clients; files may still be there */
};

struct eloq_store_file_table {
	uint32_t id;	     /* 1.., never reused */
	uint32_t partitions; /* 0: adopted */
	uint32_t timestamps; /* 0 server, 1 caller */
	uint32_t flags;	     /* enum eloq_store_file_flags */
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 8];
};

struct eloq_store_file {
	uint8_t uuid[16];
	uint32_t page_bytes;
	uint32_t pages_per_file_shift;
	uint32_t overflow_pointers;
	uint32_t append_mode;	   /* 0, 1 */
	uint32_t shard_count;	   /* of the last start */
	uint32_t next_table;	   /* lowest id that was never used, 1.. */
	uint32_t incarnation;	   /* the last one that a worker was given */
	uint64_t session_end;	   /* sessions below may have been used */
	uint64_t timestamp_end_us; /* timestamps below may have been used */
	char **paths;		   /* relative ones are relative to the data directory */
	uint32_t path_count;
	struct eloq_store_file_table *tables; /* ascending ids */
	uint32_t table_count;
};

/* Frees what the structure holds and empties it. */
void eloq_store_file_free(struct eloq_store_file *store);

/* -ENOENT: there is none. */
int eloq_store_file_load(int dir_fd, struct eloq_store_file *ret_store,
			 struct eloq_errinfo *reterr);
/* On success the file and its name are on disk. */
int eloq_store_file_save(int dir_fd, const struct eloq_store_file *store,
			 struct eloq_errinfo *reterr);

/* The bytes of STORE (malloc'ed), and back. */
int eloq_store_file_encode(const struct eloq_store_file *store, uint8_t **ret_bytes,
			   size_t *ret_count);
int eloq_store_file_decode(const uint8_t *bytes, size_t count, struct eloq_store_file *ret_store,
			   struct eloq_errinfo *reterr);

/* Append a copy of @path. -ELOQ_ETOOMANY, -ELOQ_ETOOLONG, -ENOMEM. */
int eloq_store_file_add_path(struct eloq_store_file *store, const char *path);

/* Add a table under the next id, in memory only. -ELOQ_EEXISTS, -ELOQ_ETOOMANY, -ENOMEM. */
int eloq_store_file_add_table(struct eloq_store_file *store, const char *name, uint32_t partitions,
			      uint32_t timestamps, uint32_t flags);
void eloq_store_file_remove_table(struct eloq_store_file *store, uint32_t id);
/* Put back what was just removed. */
void eloq_store_file_restore_table(struct eloq_store_file *store,
				   const struct eloq_store_file_table *table);
/* NULL if there is none. Valid until the next change of the tables. */
struct eloq_store_file_table *eloq_store_file_find_name(const struct eloq_store_file *store,
							const char *name);
struct eloq_store_file_table *eloq_store_file_find_id(const struct eloq_store_file *store,
						      uint32_t id);

#endif
