/*
 * commit.h - the writes of a partition on their way to disk.
 *
 * Idea: writes queue up; one task for each partition that has any takes what waits, in order, as
 * one commit: one walk over the tree, one data sync, one manifest record. While it is on its way
 * the next ones gather, so the slower the disk, the more writes share a sync.
 *
 * Always:   done() is called in the order of submission, and only when the commit is durable or
 *           has failed; a failed commit leaves no trace that a reader could see.
 * Fails by: telling every write of the failed commit. A failed sync poisons the engine.
 */
#ifndef ELOQ_DAEMON_STORE_COMMIT_H
#define ELOQ_DAEMON_STORE_COMMIT_H

#include "daemon/store/partition.h"

/* Queue a checked write; -EAGAIN if there is no task to commit it, then it is not queued. */
int eloq_commit_submit(struct eloq_partition *partition, struct eloq_write *write);

#endif
