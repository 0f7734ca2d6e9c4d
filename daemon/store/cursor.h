/*
 * cursor.h - walking a range of one partition in key order, on one version of it.
 *
 * Idea: a cursor walks down through index pages, not along the links of leaves: so it knows early
 * which leaves come next and has them read while it still works on this one. The further it gets,
 * the further it reads ahead.
 *
 * Always:   it copies what it looks at, so it pins no page while it waits or its caller works.
 */
#ifndef ELOQ_DAEMON_STORE_CURSOR_H
#define ELOQ_DAEMON_STORE_CURSOR_H

#include "daemon/store/partition.h"

/* eloq_store_scan_await() of a partition that the caller entered. */
int eloq_cursor_scan_await(struct eloq_partition *partition, const struct eloq_scan *scan,
			   bool *ret_more, struct eloq_errinfo *reterr);

#endif
