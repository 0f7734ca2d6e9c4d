/*
 * manifest_fuzz.c - any bytes as a manifest's payload, of either kind, and as a whole record.
 *
 * A payload that decodes is written again from what was read; decoding that must give the same
 * numbers, whatever longer forms of them the input had used.
 */
#include "common/err.h"
#include "daemon/format/manifest_record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes);

/* The pairs go on both ways; the writer adds the manifest's own pair once more. */
static bool write_terms(struct eloq_manifest_writer *writer, struct eloq_manifest_piece terms)
{
	uint64_t file_id, term;
	int r;

	eloq_manifest_writer_terms(writer);
	while ((r = eloq_manifest_next_term(&terms, &file_id, &term)) > 0)
		eloq_manifest_writer_term(writer, file_id, term);
	return r == 0;
}

static void same_terms(struct eloq_manifest_piece a, struct eloq_manifest_piece b)
{
	uint64_t file_id[2], term[2];

	while (eloq_manifest_next_term(&a, &file_id[0], &term[0]) > 0) {
		eloq_assert(eloq_manifest_next_term(&b, &file_id[1], &term[1]) == 1);
		eloq_assert(file_id[0] == file_id[1] && term[0] == term[1]);
	}
	eloq_assert(eloq_manifest_next_term(&b, &file_id[1], &term[1]) == 1);
	eloq_assert(file_id[1] == ELOQ_TERM_MAP_MANIFEST && term[1] == 0);
	eloq_assert(eloq_manifest_next_term(&b, &file_id[1], &term[1]) == 0);
}

static const uint8_t *sealed_payload(struct eloq_manifest_writer *writer, const uint8_t *buffer,
				     uint32_t *ret_bytes)
{
	struct eloq_manifest_header header;
	uint64_t record_bytes;

	eloq_assert(eloq_manifest_writer_finish(writer, 1, 2, &record_bytes) == 0);
	eloq_assert(eloq_manifest_record_verify(buffer, record_bytes));
	eloq_manifest_header_decode(buffer, &header);
	eloq_assert(header.root == 1 && header.ttl_root == 2);
	*ret_bytes = header.payload_bytes;
	return buffer + ELOQ_MANIFEST_HEADER_BYTES;
}

static void use_snapshot(struct eloq_manifest_snapshot first, uint8_t *buffer, size_t capacity)
{
	uint32_t dictionary_bytes = (uint32_t)(first.dictionary.end - first.dictionary.at);
	struct eloq_manifest_piece mapping = first.mapping;
	struct eloq_manifest_snapshot second;
	struct eloq_manifest_writer writer;
	uint32_t payload_bytes, count = 0;
	const uint8_t *payload;
	uint64_t value[2];
	int r;

	eloq_manifest_writer_snapshot(&writer, buffer, capacity, first.file_page_next,
				      first.dictionary.at, dictionary_bytes);
	for (; (r = eloq_manifest_next_mapping(&mapping, &value[0])) > 0; count++)
		eloq_manifest_writer_mapping(&writer, value[0]);
	if (!write_terms(&writer, first.terms) || r < 0)
		return;
	eloq_assert(count == eloq_manifest_mapping_count(&first));
	payload = sealed_payload(&writer, buffer, &payload_bytes);
	eloq_assert(eloq_manifest_snapshot_decode(payload, payload_bytes, &second) == 0);
	eloq_assert(second.file_page_next == first.file_page_next);
	eloq_assert(second.dictionary.end - second.dictionary.at == dictionary_bytes);
	while (eloq_manifest_next_mapping(&first.mapping, &value[0]) > 0) {
		eloq_assert(eloq_manifest_next_mapping(&second.mapping, &value[1]) == 1);
		eloq_assert(value[0] == value[1]);
	}
	eloq_assert(eloq_manifest_next_mapping(&second.mapping, &value[1]) == 0);
	same_terms(first.terms, second.terms);
}

static void use_log(struct eloq_manifest_log first, uint8_t *buffer, size_t capacity)
{
	struct eloq_manifest_piece updates = first.updates;
	struct eloq_manifest_writer writer;
	struct eloq_manifest_log second;
	uint32_t payload_bytes, page_id[2];
	const uint8_t *payload;
	uint64_t value[2];
	int r;

	eloq_manifest_writer_log(&writer, buffer, capacity);
	while ((r = eloq_manifest_next_update(&updates, &page_id[0], &value[0])) > 0)
		eloq_manifest_writer_update(&writer, page_id[0], value[0]);
	if (!write_terms(&writer, first.terms) || r < 0)
		return;
	payload = sealed_payload(&writer, buffer, &payload_bytes);
	eloq_assert(eloq_manifest_log_decode(payload, payload_bytes, &second) == 0);
	while (eloq_manifest_next_update(&first.updates, &page_id[0], &value[0]) > 0) {
		eloq_assert(eloq_manifest_next_update(&second.updates, &page_id[1], &value[1]) ==
			    1);
		eloq_assert(page_id[0] == page_id[1] && value[0] == value[1]);
	}
	eloq_assert(eloq_manifest_next_update(&second.updates, &page_id[1], &value[1]) == 0);
	same_terms(first.terms, second.terms);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_bytes)
{
	/* Written again nothing is longer than it was; header, own pair and padding come on top. */
	size_t capacity = input_bytes + 2 * ELOQ_MANIFEST_ALIGN;
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_log log;
	uint8_t *buffer;

	if (input_bytes > 1 << 20)
		return 0;
	buffer = malloc(capacity);
	if (!buffer)
		return 0;
	eloq_manifest_record_verify(input, input_bytes);
	if (eloq_manifest_snapshot_decode(input, (uint32_t)input_bytes, &snapshot) == 0)
		use_snapshot(snapshot, buffer, capacity);
	if (eloq_manifest_log_decode(input, (uint32_t)input_bytes, &log) == 0)
		use_log(log, buffer, capacity);
	free(buffer);
	return 0;
}
