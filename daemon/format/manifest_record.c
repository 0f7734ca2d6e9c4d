/*
 * manifest_record.c - reading records of the manifest. See manifest_record.h.
 */
#include "daemon/format/manifest_record.h"

#include "common/checksum.h"
#include "common/err.h"

#include <string.h>

enum { HEADER_CHECKSUM = 0, HEADER_ROOT = 8, HEADER_TTL_ROOT = 12, HEADER_PAYLOAD_BYTES = 16 };

void eloq_manifest_header_decode(const uint8_t *bytes, struct eloq_manifest_header *ret_header)
{
	*ret_header = (struct eloq_manifest_header){
		.checksum = eloq_get_u64(bytes + HEADER_CHECKSUM),
		.root = eloq_get_u32(bytes + HEADER_ROOT),
		.ttl_root = eloq_get_u32(bytes + HEADER_TTL_ROOT),
		.payload_bytes = eloq_get_u32(bytes + HEADER_PAYLOAD_BYTES),
	};
}

/* The checksum covers everything behind itself but the padding. */
static uint64_t record_checksum(const uint8_t *record, uint64_t record_bytes)
{
	return eloq_checksum_manifest(record + HEADER_ROOT, record_bytes - HEADER_ROOT);
}

bool eloq_manifest_record_verify(const uint8_t *record, uint64_t record_bytes)
{
	struct eloq_manifest_header header;
	uint64_t needed;

	if (record_bytes < ELOQ_MANIFEST_HEADER_BYTES)
		return false;
	eloq_manifest_header_decode(record, &header);
	needed = eloq_manifest_record_bytes(header.payload_bytes);
	return needed <= record_bytes && record_checksum(record, needed) == header.checksum;
}

void eloq_manifest_record_seal(uint8_t *record, uint32_t root, uint32_t ttl_root,
			       uint32_t payload_bytes)
{
	eloq_put_u32(record + HEADER_ROOT, root);
	eloq_put_u32(record + HEADER_TTL_ROOT, ttl_root);
	eloq_put_u32(record + HEADER_PAYLOAD_BYTES, payload_bytes);
	eloq_put_u64(record + HEADER_CHECKSUM,
		     record_checksum(record, eloq_manifest_record_bytes(payload_bytes)));
}

static size_t piece_bytes(const struct eloq_manifest_piece *piece)
{
	return (size_t)(piece->end - piece->at);
}

/* Cuts @bytes off the front of @from. */
static bool take_piece(struct eloq_manifest_piece *from, uint32_t bytes,
		       struct eloq_manifest_piece *ret_piece)
{
	if (bytes > piece_bytes(from))
		return false;
	*ret_piece = (struct eloq_manifest_piece){ .at = from->at, .end = from->at + bytes };
	from->at += bytes;
	return true;
}

/* A piece behind its u32 length. */
static bool take_measured(struct eloq_manifest_piece *from, struct eloq_manifest_piece *ret_piece)
{
	uint32_t bytes;

	if (piece_bytes(from) < sizeof(bytes))
		return false;
	bytes = eloq_get_u32(from->at);
	from->at += sizeof(bytes);
	return take_piece(from, bytes, ret_piece);
}

static bool take_varint64(struct eloq_manifest_piece *from, uint64_t *ret_v)
{
	const uint8_t *behind = eloq_get_varint64(from->at, from->end, ret_v);

	if (!behind)
		return false;
	from->at = behind;
	return true;
}

static bool take_varint32(struct eloq_manifest_piece *from, uint32_t *ret_v)
{
	const uint8_t *behind = eloq_get_varint32(from->at, from->end, ret_v);

	if (!behind)
		return false;
	from->at = behind;
	return true;
}

int eloq_manifest_snapshot_decode(const uint8_t *payload, uint32_t payload_bytes,
				  struct eloq_manifest_snapshot *ret_snapshot)
{
	struct eloq_manifest_piece rest = { .at = payload, .end = payload + payload_bytes };
	struct eloq_manifest_snapshot snapshot;
	uint32_t dictionary_bytes;

	if (!take_varint64(&rest, &snapshot.file_page_next) ||
	    !take_varint32(&rest, &dictionary_bytes) ||
	    !take_piece(&rest, dictionary_bytes, &snapshot.dictionary) ||
	    !take_measured(&rest, &snapshot.mapping) || !take_measured(&rest, &snapshot.terms) ||
	    rest.at != rest.end)
		return -ELOQ_ECORRUPT;
	*ret_snapshot = snapshot;
	return 0;
}

int eloq_manifest_log_decode(const uint8_t *payload, uint32_t payload_bytes,
			     struct eloq_manifest_log *ret_log)
{
	struct eloq_manifest_piece rest = { .at = payload, .end = payload + payload_bytes };
	struct eloq_manifest_log log;

	if (!take_measured(&rest, &log.updates) || !take_measured(&rest, &log.terms) ||
	    rest.at != rest.end)
		return -ELOQ_ECORRUPT;
	*ret_log = log;
	return 0;
}

uint32_t eloq_manifest_mapping_count(const struct eloq_manifest_snapshot *snapshot)
{
	uint32_t count = 0;

	/* A varint ends with the one byte that has no high bit. */
	for (const uint8_t *p = snapshot->mapping.at; p < snapshot->mapping.end; p++)
		count += *p < 0x80;
	return count;
}

int eloq_manifest_next_mapping(struct eloq_manifest_piece *mapping, uint64_t *ret_value)
{
	if (mapping->at == mapping->end)
		return 0;
	return take_varint64(mapping, ret_value) ? 1 : -ELOQ_ECORRUPT;
}

int eloq_manifest_next_update(struct eloq_manifest_piece *updates, uint32_t *ret_page_id,
			      uint64_t *ret_value)
{
	if (updates->at == updates->end)
		return 0;
	if (!take_varint32(updates, ret_page_id) || *ret_page_id > ELOQ_PAGE_ID_MAX ||
	    !take_varint64(updates, ret_value))
		return -ELOQ_ECORRUPT;
	return 1;
}

int eloq_manifest_next_term(struct eloq_manifest_piece *terms, uint64_t *ret_file_id,
			    uint64_t *ret_term)
{
	if (terms->at == terms->end)
		return 0;
	if (!take_varint64(terms, ret_file_id) || !take_varint64(terms, ret_term))
		return -ELOQ_ECORRUPT;
	return 1;
}
