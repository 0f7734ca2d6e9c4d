/*
 * manifest_replay.c - reading a manifest record by record (manifest_replay.h).
 *
 *	[snapshot][log][log]...[log] [tail]
 *	                            ^ logical size: behind the last good record
 *
 * Idea: good records in a row from the start are the truth. Behind the first that is not good only
 * the remains of one unfinished append can lie, so there is no good record: if there is one after
 * all, the manifest is damaged in its middle, and going on without what stood there would lose
 * commits in silence. The remains may have any length field, so good records are looked for at
 * every place where one can start, not only where that length points.
 *
 * Always:   memory is bounded by the largest record, which lies within the file; a length that
 *           reaches beyond the file is a torn record, not an allocation.
 * Fails by: -ELOQ_ECORRUPT with file and offset. Reading suspends.
 *
 * Where the reference loses something we do not: a record whose checksum is good counts even if
 * the file ends within its padding, and a file cut within its snapshot is corrupt, never empty.
 */
#include "daemon/store/manifest_replay.h"

#include "common/compiler.h"
#include "daemon/format/manifest_record.h"
#include "daemon/runtime/task.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOW_BYTES = 256 << 10,
	READ_BYTES_MAX = 64 << 20,
	ITEMS_BETWEEN_YIELDS = 16384,
	/* Page ids that one record may leave out: who allocated and freed them in one commit. */
	PAGE_ID_GAP_MAX = 1 << 20,
};

enum record_kind { RECORD_GOOD, RECORD_BAD, RECORD_CUT };

struct replay {
	struct eloq_manifest_state *state;
	struct eloq_mapper *mapper;
	struct eloq_io *io;
	struct eloq_io_file *file;
	const char *name;
	struct eloq_errinfo *reterr;
	uint64_t file_bytes;
	uint8_t *window; /* bytes of the file from window_at */
	uint64_t window_at;
	uint64_t window_bytes;
	uint64_t window_capacity;
	uint32_t items; /* since the last yield */
};

void eloq_manifest_state_clear(struct eloq_manifest_state *state)
{
	eloq_term_map_clear(&state->terms);
	free(state->dictionary);
	*state = (struct eloq_manifest_state){ 0 };
}

static int replay_corrupt(const struct replay *replay, uint64_t at, const char *what)
{
	return eloq_fail(replay->reterr, -ELOQ_ECORRUPT, "%s, offset %" PRIu64 ": %s", replay->name,
			 at, what);
}

/* Long manifests must not hold up everybody else. */
static void replay_breathe_await(struct replay *replay)
{
	if (++replay->items < ITEMS_BETWEEN_YIELDS)
		return;
	replay->items = 0;
	eloq_task_yield_await();
}

/* --- The window ------------------------------------------------------------------------------- */

static int window_grow(struct replay *replay, uint64_t bytes)
{
	if (bytes <= replay->window_capacity)
		return 0;
	free(replay->window);
	replay->window_bytes = 0;
	replay->window_capacity = 0;
	replay->window = aligned_alloc(ELOQ_IO_ALIGN, bytes);
	if (!replay->window)
		return -ENOMEM;
	replay->window_capacity = bytes;
	return 0;
}

/* Reads from @at on until the window is full or the file ends. */
static int window_read_await(struct replay *replay, uint64_t at, uint64_t bytes)
{
	replay->window_at = at;
	replay->window_bytes = 0;
	while (replay->window_bytes < bytes) {
		struct eloq_io_req req = {
			.op = ELOQ_IO_READ,
			.file = replay->file,
			.buf = replay->window + replay->window_bytes,
			.bytes = (uint32_t)eloq_min_u64(bytes - replay->window_bytes,
							READ_BYTES_MAX),
			.offset = at + replay->window_bytes,
		};
		int64_t r = eloq_task_io_await(replay->io, &req);

		if (r < 0)
			return (int)r;
		replay->window_bytes += (uint64_t)r;
		if (r < req.bytes)
			return 0;
	}
	return 0;
}

/* @bytes of the file from @at, a multiple of 4096; the file is that long. Valid until the next. */
static int window_get_await(struct replay *replay, uint64_t at, uint64_t bytes,
			    const uint8_t **ret_bytes)
{
	uint64_t wanted, rest = replay->file_bytes - at;
	int r;

	if (at >= replay->window_at && bytes <= replay->window_bytes &&
	    at - replay->window_at <= replay->window_bytes - bytes) {
		*ret_bytes = replay->window + (at - replay->window_at);
		return 0;
	}
	wanted =
		eloq_round_up(eloq_min_u64(eloq_max_u64(bytes, WINDOW_BYTES), rest), ELOQ_IO_ALIGN);
	r = window_grow(replay, wanted);
	if (r == 0)
		r = window_read_await(replay, at, wanted);
	if (r < 0)
		return eloq_fail_errno(replay->reterr, r, "%s, offset %" PRIu64 ": reading",
				       replay->name, at);
	if (replay->window_bytes < bytes)
		return replay_corrupt(replay, at, "the file became shorter while it was read");
	*ret_bytes = replay->window;
	return 0;
}

/* --- Records ---------------------------------------------------------------------------------- */

struct record {
	enum record_kind kind;
	struct eloq_manifest_header header; /* unless CUT */
	const uint8_t *payload;		    /* of GOOD */
};

static int record_look_await(struct replay *replay, uint64_t at, struct record *ret_record)
{
	uint64_t rest = replay->file_bytes - at, bytes;
	const uint8_t *record;
	int r;

	*ret_record = (struct record){ .kind = RECORD_CUT };
	if (rest < ELOQ_MANIFEST_HEADER_BYTES)
		return 0;
	r = window_get_await(replay, at, ELOQ_MANIFEST_HEADER_BYTES, &record);
	if (r < 0)
		return r;
	eloq_manifest_header_decode(record, &ret_record->header);
	bytes = eloq_manifest_record_bytes(ret_record->header.payload_bytes);
	if (bytes > rest)
		return 0;
	r = window_get_await(replay, at, bytes, &record);
	if (r < 0)
		return r;
	if (!eloq_manifest_record_verify(record, bytes)) {
		ret_record->kind = RECORD_BAD;
		return 0;
	}
	ret_record->kind = RECORD_GOOD;
	ret_record->payload = record + ELOQ_MANIFEST_HEADER_BYTES;
	return 0;
}

/* The lengths within the payload are a cheap proof that this was never a log record. */
static int record_is_plausible_await(struct replay *replay, uint64_t at, bool *ret_is)
{
	enum { LENGTHS = 8, HEAD = ELOQ_MANIFEST_HEADER_BYTES + LENGTHS };
	struct eloq_manifest_header header;
	const uint8_t *record;
	int r;

	*ret_is = false;
	if (replay->file_bytes - at < HEAD)
		return 0;
	r = window_get_await(replay, at, HEAD, &record);
	if (r < 0)
		return r;
	eloq_manifest_header_decode(record, &header);
	*ret_is =
		header.payload_bytes >= LENGTHS &&
		eloq_get_u32(record + ELOQ_MANIFEST_HEADER_BYTES) <= header.payload_bytes - LENGTHS;
	return 0;
}

static int apply_mapping(struct replay *replay, uint32_t page_id, uint64_t value)
{
	struct eloq_manifest_state *state = replay->state;
	uint64_t file_page = ELOQ_FILE_PAGE_NONE;

	if (eloq_mapping_is_live(value)) {
		file_page = eloq_mapping_file_page(value);
		state->file_pages_end = eloq_max_u64(state->file_pages_end, file_page + 1);
	}
	if (page_id >= state->page_ids)
		state->page_ids = page_id + 1;
	return eloq_mapper_load_set(replay->mapper, page_id, file_page);
}

static int apply_terms(struct replay *replay, struct eloq_manifest_piece *terms)
{
	uint64_t file_id, term;
	int r;

	while ((r = eloq_manifest_next_term(terms, &file_id, &term)) > 0) {
		if (file_id == ELOQ_TERM_MAP_MANIFEST)
			continue;
		r = eloq_term_map_set(&replay->state->terms, file_id, term);
		if (r < 0)
			return r;
	}
	return r;
}

static int apply_snapshot_await(struct replay *replay, const struct record *record)
{
	struct eloq_manifest_state *state = replay->state;
	struct eloq_manifest_snapshot snapshot;
	size_t dictionary_bytes;
	uint32_t page_id = 0;
	uint64_t value;
	int r;

	r = eloq_manifest_snapshot_decode(record->payload, record->header.payload_bytes, &snapshot);
	if (r < 0)
		return r;
	state->file_pages_end = snapshot.file_page_next;
	dictionary_bytes = (size_t)(snapshot.dictionary.end - snapshot.dictionary.at);
	if (dictionary_bytes > 0) {
		state->dictionary = malloc(dictionary_bytes);
		if (!state->dictionary)
			return -ENOMEM;
		memcpy(state->dictionary, snapshot.dictionary.at, dictionary_bytes);
		state->dictionary_bytes = (uint32_t)dictionary_bytes;
	}
	while ((r = eloq_manifest_next_mapping(&snapshot.mapping, &value)) > 0) {
		if (page_id > ELOQ_PAGE_ID_MAX)
			return -ELOQ_ECORRUPT;
		r = apply_mapping(replay, page_id++, value);
		if (r < 0)
			return r;
		replay_breathe_await(replay);
	}
	return r < 0 ? r : apply_terms(replay, &snapshot.terms);
}

static int apply_log_await(struct replay *replay, const struct record *record)
{
	uint64_t page_ids_max = (uint64_t)replay->state->page_ids + PAGE_ID_GAP_MAX;
	struct eloq_manifest_log log;
	uint32_t page_id;
	uint64_t value;
	int r;

	r = eloq_manifest_log_decode(record->payload, record->header.payload_bytes, &log);
	if (r < 0)
		return r;
	page_ids_max += (uint64_t)(log.updates.end - log.updates.at);
	while ((r = eloq_manifest_next_update(&log.updates, &page_id, &value)) > 0) {
		if (page_id >= page_ids_max)
			return -ELOQ_ECORRUPT;
		r = apply_mapping(replay, page_id, value);
		if (r < 0)
			return r;
		replay_breathe_await(replay);
	}
	return r < 0 ? r : apply_terms(replay, &log.terms);
}

static int replay_apply_await(struct replay *replay, uint64_t at, const struct record *record)
{
	int r;

	r = at == 0 ? apply_snapshot_await(replay, record) : apply_log_await(replay, record);
	if (r == -ELOQ_ECORRUPT)
		return replay_corrupt(replay, at, "the record is intact, but makes no sense");
	if (r < 0)
		return eloq_fail_errno(replay->reterr, r, "%s, offset %" PRIu64, replay->name, at);
	replay->state->roots =
		(struct eloq_roots){ .main = record->header.root, .ttl = record->header.ttl_root };
	return 0;
}

/* --- The file --------------------------------------------------------------------------------- */

static int replay_snapshot_await(struct replay *replay)
{
	struct record record;
	int r;

	r = record_look_await(replay, 0, &record);
	if (r < 0)
		return r;
	if (record.kind == RECORD_CUT)
		return replay_corrupt(replay, 0, "the file ends within the snapshot");
	if (record.kind == RECORD_BAD)
		return replay_corrupt(replay, 0, "the snapshot's checksum is wrong");
	r = replay_apply_await(replay, 0, &record);
	if (r < 0)
		return r;
	replay->state->snapshot_bytes = eloq_manifest_record_padded(record.header.payload_bytes);
	replay->state->bytes = replay->state->snapshot_bytes;
	return 0;
}

/* Behind what is not a good record there must be none. */
static int replay_check_tail_await(struct replay *replay)
{
	uint64_t bad = replay->state->bytes;

	for (uint64_t at = bad + ELOQ_MANIFEST_ALIGN; at < replay->file_bytes;
	     at += ELOQ_MANIFEST_ALIGN) {
		struct record record;
		bool plausible;
		int r;

		r = record_is_plausible_await(replay, at, &plausible);
		if (r == 0 && plausible)
			r = record_look_await(replay, at, &record);
		if (r < 0)
			return r;
		if (plausible && record.kind == RECORD_GOOD)
			return eloq_fail(replay->reterr, -ELOQ_ECORRUPT,
					 "%s, offset %" PRIu64
					 ": the record is damaged, and a good "
					 "one follows at offset %" PRIu64,
					 replay->name, bad, at);
		replay_breathe_await(replay);
	}
	return 0;
}

static int replay_log_await(struct replay *replay)
{
	struct eloq_manifest_state *state = replay->state;

	while (state->bytes < replay->file_bytes) {
		struct record record;
		int r;

		r = record_look_await(replay, state->bytes, &record);
		if (r < 0)
			return r;
		if (record.kind != RECORD_GOOD)
			return replay_check_tail_await(replay);
		r = replay_apply_await(replay, state->bytes, &record);
		if (r < 0)
			return r;
		state->bytes += eloq_manifest_record_padded(record.header.payload_bytes);
		state->log_records++;
		replay_breathe_await(replay);
	}
	return 0;
}

int eloq_manifest_replay_await(struct eloq_manifest_state *state, struct eloq_mapper *mapper,
			       struct eloq_io *io, struct eloq_io_file *file, const char *name,
			       struct eloq_errinfo *reterr)
{
	struct eloq_io_req size = { .op = ELOQ_IO_SIZE, .file = file };
	struct replay replay = {
		.state = state,
		.mapper = mapper,
		.io = io,
		.file = file,
		.name = name,
		.reterr = reterr,
	};
	int64_t file_bytes;
	int r;

	file_bytes = eloq_task_io_await(io, &size);
	if (file_bytes < 0)
		return eloq_fail_errno(reterr, (int)file_bytes, "%s: asking for its size", name);
	replay.file_bytes = (uint64_t)file_bytes;
	state->file_bytes = replay.file_bytes;
	r = replay_snapshot_await(&replay);
	if (r == 0)
		r = replay_log_await(&replay);
	free(replay.window);
	return r;
}
