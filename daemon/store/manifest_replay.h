/*
 * manifest_replay.h - from the bytes of a manifest to the state they describe.
 *
 * Private to the manifest; a separate file because this half only reads.
 */
#ifndef ELOQ_DAEMON_STORE_MANIFEST_REPLAY_H
#define ELOQ_DAEMON_STORE_MANIFEST_REPLAY_H

#include "common/err.h"
#include "daemon/io/io.h"
#include "daemon/store/mapper.h"
#include "daemon/store/term_map.h"

/* What the records say, besides the mapping. */
struct eloq_manifest_state {
	struct eloq_roots roots;
	uint64_t file_pages_end;
	uint32_t page_ids;
	uint64_t bytes;		 /* logical: the next record goes here */
	uint64_t snapshot_bytes; /* the first record with its padding */
	uint64_t file_bytes;	 /* as found; differs from bytes if a tail has to be cut off, or
				  * padding completed */
	uint64_t log_records;
	struct eloq_term_map terms;
	uint8_t *dictionary; /* malloc'ed, or NULL */
	uint32_t dictionary_bytes;
};

/*
 * Read the open manifest @file into @mapper (fresh; load_end is left to the caller) and @state (all
 * zero). @name is for words. On failure the caller clears @state all the same.
 */
int eloq_manifest_replay_await(struct eloq_manifest_state *state, struct eloq_mapper *mapper,
			       struct eloq_io *io, struct eloq_io_file *file, const char *name,
			       struct eloq_errinfo *reterr);

void eloq_manifest_state_clear(struct eloq_manifest_state *state);

#endif
