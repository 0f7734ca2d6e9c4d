/*
 * data_dir.h - the directories a daemon owns, and how it makes sure that nobody else does.
 *
 *   DIR/lock                  flock, held for the supervisor's life; its text is our pid
 *   DIR/wal/shard-NNN/lock    flock, held by a worker until its last I/O has ended
 *   store paths               flock on the directory; nothing of ours lies in them
 *
 * The order is the safety: `lock` first, then every shard's lock once (a predecessor that was
 * killed may have left workers that still write), and only then a store path is opened.
 *
 * Runs on:  the supervisor's thread, at start; may wait.
 * Fails by: -ELOQ_EBUSYOWNER, -ELOQ_ECONFIG, -ECANCELED (a signal came), -errno, with words.
 */
#ifndef ELOQ_DAEMON_SUPERVISOR_DATA_DIR_H
#define ELOQ_DAEMON_SUPERVISOR_DATA_DIR_H

#include "common/err.h"
#include "daemon/supervisor/store_file.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct eloq_data_dir {
	int fd;
	int lock_fd;
	uid_t owner;
	char *path; /* absolute */
	unsigned root_count;
	int root_fds[ELOQ_STORE_FILE_PATHS_MAX];
	char *root_paths[ELOQ_STORE_FILE_PATHS_MAX]; /* absolute */
};

/* Open @path, made with mode 0700 if it is missing, and take its lock. */
int eloq_data_dir_open(struct eloq_data_dir *dir, const char *path, struct eloq_errinfo *reterr);
/* Gives all locks back. Harmless on a structure that was never opened but zeroed. */
void eloq_data_dir_close(struct eloq_data_dir *dir);

/*
 * Wait until no worker of a predecessor is left. Says so once if it has to wait. Ends early with
 * -ECANCELED when @stop_fd (-1: none) becomes readable.
 */
int eloq_data_dir_wait_for_workers(struct eloq_data_dir *dir, int stop_fd,
				   struct eloq_errinfo *reterr);

/*
 * Open and lock the store paths; relative ones are relative to the data directory. @create: make
 * those that are missing. Each must be a directory that holds only directories.
 */
int eloq_data_dir_open_roots(struct eloq_data_dir *dir, char *const *paths, unsigned count,
			     bool create, int stop_fd, struct eloq_errinfo *reterr);

/* Call @each for every `<table>.<partition>` directory. Names too long for a table are skipped. */
int eloq_data_dir_list(const struct eloq_data_dir *dir,
		       int (*each)(void *arg, const char *table, uint32_t partition), void *arg,
		       struct eloq_errinfo *reterr);

/* The open directory wal/shard-NNN, made if missing. */
int eloq_data_dir_open_wal(const struct eloq_data_dir *dir, unsigned shard, int *ret_fd,
			   struct eloq_errinfo *reterr);

/* Split the name of a partition's directory at its last dot. The partition is plain decimal. */
bool eloq_data_dir_parse_name(const char *name, char table[static ELOQ_TABLE_NAME_BYTES_MAX + 8],
			      uint32_t *ret_partition);

#endif
