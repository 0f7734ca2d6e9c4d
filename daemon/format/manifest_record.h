/*
 * manifest_record.h - the records of a manifest: a snapshot first, then log records.
 *
 * A record is a 20-byte header, a payload, and zeroes up to a multiple of 4096. Nothing in it
 * says which of the two kinds it is; its position does. Both kinds end with the term map, which
 * says under which term (part of the name) each data file was made.
 *
 * Bytes come from disk: decoders refuse what does not fit into the payload given and allocate
 * nothing. A header's payload length is a claim: bound it by the file's size before reading.
 * Pure bytes, any thread. docs/format.md, "Manifest".
 */
#ifndef ELOQ_FORMAT_MANIFEST_RECORD_H
#define ELOQ_FORMAT_MANIFEST_RECORD_H

#include "common/coding.h"
#include "common/limits.h"
#include "daemon/format/page.h"

enum { ELOQ_MANIFEST_HEADER_BYTES = 20 };

/* Key of the manifest itself in the term map. */
#define ELOQ_TERM_MAP_MANIFEST (UINT64_MAX - 1)

/*
 * Mapping values: what a page id stands for. Everything but a live page is a free page id; links
 * of the reference's free list are not followed.
 */
enum {
	ELOQ_MAPPING_TAG = 7, /* mask */
	ELOQ_MAPPING_TAG_LIVE = 1,
	ELOQ_MAPPING_TAG_FREE_LINK = 2,
	ELOQ_MAPPING_FREE = 7, /* the whole value, as we write it */
	ELOQ_MAPPING_TAG_BITS = 3,
};

#define ELOQ_FILE_PAGE_ID_MAX (UINT64_MAX >> ELOQ_MAPPING_TAG_BITS)

static inline uint64_t eloq_mapping_live(uint64_t file_page_id)
{
	return file_page_id << ELOQ_MAPPING_TAG_BITS | ELOQ_MAPPING_TAG_LIVE;
}

static inline bool eloq_mapping_is_live(uint64_t value)
{
	return (value & ELOQ_MAPPING_TAG) == ELOQ_MAPPING_TAG_LIVE;
}

/* Of a live value. */
static inline uint64_t eloq_mapping_file_page(uint64_t value)
{
	return value >> ELOQ_MAPPING_TAG_BITS;
}

struct eloq_manifest_header {
	uint64_t checksum;
	uint32_t root;	   /* page id of the main tree's root; ELOQ_PAGE_NONE: empty */
	uint32_t ttl_root; /* likewise of the TTL tree */
	uint32_t payload_bytes;
};

/* @bytes: ELOQ_MANIFEST_HEADER_BYTES of them. Decoding proves nothing: see _verify(). */
void eloq_manifest_header_decode(const uint8_t *bytes, struct eloq_manifest_header *ret_header);

/* Bytes of the record without and with its padding. */
static inline uint64_t eloq_manifest_record_bytes(uint32_t payload_bytes)
{
	return (uint64_t)ELOQ_MANIFEST_HEADER_BYTES + payload_bytes;
}

static inline uint64_t eloq_manifest_record_padded(uint32_t payload_bytes)
{
	return eloq_round_up(eloq_manifest_record_bytes(payload_bytes), ELOQ_MANIFEST_ALIGN);
}

/*
 * Whether the checksum is right, for a record of which header and whole payload are at @record;
 * false also if @record_bytes is less than that.
 */
bool eloq_manifest_record_verify(const uint8_t *record, uint64_t record_bytes);

/* Writes the header, checksum included, in front of a payload that is already in its place. */
void eloq_manifest_record_seal(uint8_t *record, uint32_t root, uint32_t ttl_root,
			       uint32_t payload_bytes);

/* Decoded payloads: pieces of it, to be walked with the iterators below. */
struct eloq_manifest_piece {
	const uint8_t *at;
	const uint8_t *end;
};

struct eloq_manifest_snapshot {
	uint64_t file_page_next;	       /* the smallest file page id never used */
	struct eloq_manifest_piece dictionary; /* empty: none */
	struct eloq_manifest_piece mapping;    /* eloq_manifest_next_mapping() */
	struct eloq_manifest_piece terms;      /* eloq_manifest_next_term() */
};

struct eloq_manifest_log {
	struct eloq_manifest_piece updates; /* eloq_manifest_next_update() */
	struct eloq_manifest_piece terms;
};

/* @payload: the bytes behind the header of a verified record. 0 or -ELOQ_ECORRUPT. */
int eloq_manifest_snapshot_decode(const uint8_t *payload, uint32_t payload_bytes,
				  struct eloq_manifest_snapshot *ret_snapshot);
int eloq_manifest_log_decode(const uint8_t *payload, uint32_t payload_bytes,
			     struct eloq_manifest_log *ret_log);

/* How many page ids a snapshot's mapping describes, if it is well formed: at most its bytes. */
uint32_t eloq_manifest_mapping_count(const struct eloq_manifest_snapshot *snapshot);

/*
 * Take one item off the front of a piece. 1: got it; 0: the piece is used up; -ELOQ_ECORRUPT.
 * Mapping values come for page ids 0, 1, 2, ...; updates apply in order, the last one wins;
 * of terms the later pair overrides the earlier, and ELOQ_TERM_MAP_MANIFEST is among them.
 * A page id is at most ELOQ_PAGE_ID_MAX; by how much one update may let a table grow is the
 * caller's to bound.
 */
int eloq_manifest_next_mapping(struct eloq_manifest_piece *mapping, uint64_t *ret_value);
int eloq_manifest_next_update(struct eloq_manifest_piece *updates, uint32_t *ret_page_id,
			      uint64_t *ret_value);
int eloq_manifest_next_term(struct eloq_manifest_piece *terms, uint64_t *ret_file_id,
			    uint64_t *ret_term);

/*
 * Writes a record into a buffer of the caller. Like snprintf() it goes on counting when the
 * buffer is full, so that _finish() can say how large it must be: try, grow, try again.
 *
 *	eloq_manifest_writer_snapshot(&w, buffer, capacity, file_page_next, dictionary, bytes);
 *	for each page id from 0:	eloq_manifest_writer_mapping(&w, value);
 * or
 *	eloq_manifest_writer_log(&w, buffer, capacity);
 *	for each update:		eloq_manifest_writer_update(&w, page_id, value);
 * then
 *	eloq_manifest_writer_terms(&w);
 *	for each data file in use:	eloq_manifest_writer_term(&w, file_id, term);
 *	r = eloq_manifest_writer_finish(&w, root, ttl_root, &record_bytes);
 */
struct eloq_manifest_writer {
	uint8_t *buffer;
	uint64_t capacity;
	uint64_t used;	 /* bytes wanted so far, written or not */
	uint64_t length; /* offset of the u32 length of the part being written */
};

void eloq_manifest_writer_snapshot(struct eloq_manifest_writer *writer, uint8_t *buffer,
				   size_t capacity, uint64_t file_page_next, const void *dictionary,
				   uint32_t dictionary_bytes);
void eloq_manifest_writer_mapping(struct eloq_manifest_writer *writer, uint64_t value);

void eloq_manifest_writer_log(struct eloq_manifest_writer *writer, uint8_t *buffer,
			      size_t capacity);
void eloq_manifest_writer_update(struct eloq_manifest_writer *writer, uint32_t page_id,
				 uint64_t value);

void eloq_manifest_writer_terms(struct eloq_manifest_writer *writer);
void eloq_manifest_writer_term(struct eloq_manifest_writer *writer, uint64_t file_id,
			       uint64_t term);

/*
 * Adds the manifest's own pair (term 0), zero padding, header and checksum.
 * Returns 0; -ENOBUFS: @capacity was too small; -ELOQ_ETOOLONG: the payload passes 2^32 - 1.
 * *ret_record_bytes, padded, is set on success and on -ENOBUFS.
 */
int eloq_manifest_writer_finish(struct eloq_manifest_writer *writer, uint32_t root,
				uint32_t ttl_root, uint64_t *ret_record_bytes);

#endif
