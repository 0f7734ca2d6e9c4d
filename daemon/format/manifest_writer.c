/*
 * manifest_writer.c - building records of the manifest. See manifest_record.h.
 */
#include "common/err.h"
#include "daemon/format/manifest_record.h"

#include <errno.h>

enum { LENGTH_BYTES = 4 };

/* Once something did not fit, used is above capacity and nothing more is written. */
static bool writer_fits(const struct eloq_manifest_writer *writer, uint64_t bytes)
{
	return writer->used <= writer->capacity && bytes <= writer->capacity - writer->used;
}

static void writer_varint(struct eloq_manifest_writer *writer, uint64_t v)
{
	unsigned bytes = eloq_varint_bytes(v);

	if (writer_fits(writer, bytes))
		eloq_put_varint(writer->buffer + writer->used, v);
	writer->used += bytes;
}

/* A part is a u32 length, filled in when it is closed, and what follows. */
static void writer_open_part(struct eloq_manifest_writer *writer)
{
	writer->length = writer->used;
	writer->used += LENGTH_BYTES;
}

static void writer_close_part(struct eloq_manifest_writer *writer)
{
	uint64_t part_bytes = writer->used - writer->length - LENGTH_BYTES;

	/* A part beyond 32 bits makes the payload too long as well, which finish refuses. */
	if (writer_fits(writer, 0))
		eloq_put_u32(writer->buffer + writer->length, (uint32_t)part_bytes);
}

static void writer_init(struct eloq_manifest_writer *writer, uint8_t *buffer, size_t capacity)
{
	*writer = (struct eloq_manifest_writer){
		.buffer = buffer,
		.capacity = capacity,
		.used = ELOQ_MANIFEST_HEADER_BYTES,
	};
}

void eloq_manifest_writer_snapshot(struct eloq_manifest_writer *writer, uint8_t *buffer,
				   size_t capacity, uint64_t file_page_next, const void *dictionary,
				   uint32_t dictionary_bytes)
{
	writer_init(writer, buffer, capacity);
	writer_varint(writer, file_page_next);
	writer_varint(writer, dictionary_bytes);
	if (dictionary_bytes > 0 && writer_fits(writer, dictionary_bytes))
		memcpy(writer->buffer + writer->used, dictionary, dictionary_bytes);
	writer->used += dictionary_bytes;
	writer_open_part(writer);
}

void eloq_manifest_writer_mapping(struct eloq_manifest_writer *writer, uint64_t value)
{
	writer_varint(writer, value);
}

void eloq_manifest_writer_log(struct eloq_manifest_writer *writer, uint8_t *buffer, size_t capacity)
{
	writer_init(writer, buffer, capacity);
	writer_open_part(writer);
}

void eloq_manifest_writer_update(struct eloq_manifest_writer *writer, uint32_t page_id,
				 uint64_t value)
{
	eloq_assert(page_id <= ELOQ_PAGE_ID_MAX);
	writer_varint(writer, page_id);
	writer_varint(writer, value);
}

void eloq_manifest_writer_terms(struct eloq_manifest_writer *writer)
{
	writer_close_part(writer);
	writer_open_part(writer);
}

void eloq_manifest_writer_term(struct eloq_manifest_writer *writer, uint64_t file_id, uint64_t term)
{
	writer_varint(writer, file_id);
	writer_varint(writer, term);
}

int eloq_manifest_writer_finish(struct eloq_manifest_writer *writer, uint32_t root,
				uint32_t ttl_root, uint64_t *ret_record_bytes)
{
	uint64_t payload_bytes, padded;

	eloq_manifest_writer_term(writer, ELOQ_TERM_MAP_MANIFEST, 0);
	writer_close_part(writer);
	payload_bytes = writer->used - ELOQ_MANIFEST_HEADER_BYTES;
	if (payload_bytes > UINT32_MAX)
		return -ELOQ_ETOOLONG;
	padded = eloq_manifest_record_padded((uint32_t)payload_bytes);
	*ret_record_bytes = padded;
	if (padded > writer->capacity)
		return -ENOBUFS;
	memset(writer->buffer + writer->used, 0, padded - writer->used);
	eloq_manifest_record_seal(writer->buffer, root, ttl_root, (uint32_t)payload_bytes);
	return 0;
}
