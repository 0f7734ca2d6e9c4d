/*
 * manifest_record_test.c - manifest records: the format document's bytes, round trips, and
 * hostile bytes.
 */
#include "daemon/format/manifest_record.h"

#include "common/err.h"
#include "common/prng.h"
#include "tests/unit/hex.h"

#include <errno.h>

struct update {
	uint32_t page_id;
	uint64_t value;
};

/* A record of 4096 bytes: a snapshot if it has a mapping, else a log record. */
struct record_case {
	const char *hex;
	uint32_t root, ttl_root;
	uint64_t file_page_next;
	uint32_t mapping_count, update_count;
	uint64_t mapping[7];
	struct update updates[3];
};

#define LIVE(file_page) ((uint64_t)(file_page) << 3 | 1)
#define LINK(page_id)	((uint64_t)(page_id) << 3 | 2)

/* All of them have the term map {0: 0, manifest: 0}. */
static const struct record_case records[] = {
	{
		.hex = "28 44 7c 25 13 c2 5a 3d 01 00 00 00 ff ff ff ff 1b 00 00 00 03 00 04 00 00 "
		       "00 01 11 07 12 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = 1,
		.ttl_root = ELOQ_PAGE_NONE,
		.file_page_next = 3,
		.mapping_count = 4,
		.mapping = { LIVE(0), LIVE(2), ELOQ_MAPPING_FREE, LINK(2) },
	},
	{
		.hex = "2d ef aa 85 b5 66 25 41 01 00 00 00 ff ff ff ff 1c 00 00 00 07 00 00 00 00 "
		       "19 01 c1 0c 02 07 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = 1,
		.ttl_root = ELOQ_PAGE_NONE,
		.update_count = 3,
		.updates = { { 0, LIVE(3) }, { 1, LIVE(200) }, { 2, ELOQ_MAPPING_FREE } },
	},
	/* The complete store: first commit, second commit, truncate in both write modes. */
	{
		.hex = "a1 be 8b c4 ed 0c 8d f3 04 00 00 00 06 00 00 00 1e 00 00 00 07 00 07 00 00 "
		       "00 01 09 11 19 21 29 31 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = 4,
		.ttl_root = 6,
		.file_page_next = 7,
		.mapping_count = 7,
		.mapping = { LIVE(0), LIVE(1), LIVE(2), LIVE(3), LIVE(4), LIVE(5), LIVE(6) },
	},
	{
		.hex = "01 e3 3c 8b ab 87 e6 bd 04 00 00 00 06 00 00 00 17 00 00 00 02 00 00 00 03 "
		       "39 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = 4,
		.ttl_root = 6,
		.update_count = 1,
		.updates = { { 3, LIVE(7) } },
	},
	{
		.hex = "1e e9 89 1c 5e bf 0e 29 ff ff ff ff ff ff ff ff 1e 00 00 00 08 00 07 00 00 "
		       "00 07 02 0a 12 1a 22 2a 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = ELOQ_PAGE_NONE,
		.ttl_root = ELOQ_PAGE_NONE,
		.file_page_next = 8,
		.mapping_count = 7,
		.mapping = { ELOQ_MAPPING_FREE, LINK(0), LINK(1), LINK(2), LINK(3), LINK(4),
			     LINK(5) },
	},
	{
		.hex = "aa cb d1 76 36 8e 3d 88 ff ff ff ff ff ff ff ff 1e 00 00 00 09 00 07 00 00 "
		       "00 07 02 0a 12 1a 22 2a 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00",
		.root = ELOQ_PAGE_NONE,
		.ttl_root = ELOQ_PAGE_NONE,
		.file_page_next = 9,
		.mapping_count = 7,
		.mapping = { ELOQ_MAPPING_FREE, LINK(0), LINK(1), LINK(2), LINK(3), LINK(4),
			     LINK(5) },
	},
};

static void assert_terms_are_of_one_file(struct eloq_manifest_piece terms)
{
	uint64_t file_id, term;

	ck_assert_int_eq(eloq_manifest_next_term(&terms, &file_id, &term), 1);
	ck_assert_uint_eq(file_id, 0);
	ck_assert_uint_eq(term, 0);
	ck_assert_int_eq(eloq_manifest_next_term(&terms, &file_id, &term), 1);
	ck_assert_uint_eq(file_id, ELOQ_TERM_MAP_MANIFEST);
	ck_assert_uint_eq(term, 0);
	ck_assert_int_eq(eloq_manifest_next_term(&terms, &file_id, &term), 0);
}

static void assert_snapshot_reads(const struct record_case *expected, const uint8_t *payload,
				  uint32_t payload_bytes)
{
	struct eloq_manifest_snapshot snapshot;
	uint64_t value;

	ck_assert_int_eq(eloq_manifest_snapshot_decode(payload, payload_bytes, &snapshot), 0);
	ck_assert_uint_eq(snapshot.file_page_next, expected->file_page_next);
	ck_assert_ptr_eq(snapshot.dictionary.at, snapshot.dictionary.end);
	ck_assert_uint_eq(eloq_manifest_mapping_count(&snapshot), expected->mapping_count);
	for (uint32_t i = 0; i < expected->mapping_count; i++) {
		ck_assert_int_eq(eloq_manifest_next_mapping(&snapshot.mapping, &value), 1);
		ck_assert_uint_eq(value, expected->mapping[i]);
	}
	ck_assert_int_eq(eloq_manifest_next_mapping(&snapshot.mapping, &value), 0);
	assert_terms_are_of_one_file(snapshot.terms);
}

static void assert_log_reads(const struct record_case *expected, const uint8_t *payload,
			     uint32_t payload_bytes)
{
	struct eloq_manifest_log log;
	uint32_t page_id;
	uint64_t value;

	ck_assert_int_eq(eloq_manifest_log_decode(payload, payload_bytes, &log), 0);
	for (uint32_t i = 0; i < expected->update_count; i++) {
		ck_assert_int_eq(eloq_manifest_next_update(&log.updates, &page_id, &value), 1);
		ck_assert_uint_eq(page_id, expected->updates[i].page_id);
		ck_assert_uint_eq(value, expected->updates[i].value);
	}
	ck_assert_int_eq(eloq_manifest_next_update(&log.updates, &page_id, &value), 0);
	assert_terms_are_of_one_file(log.terms);
}

static int write_record(const struct record_case *from, uint8_t *buffer, size_t capacity,
			uint64_t *ret_bytes)
{
	struct eloq_manifest_writer writer;

	if (from->mapping_count > 0) {
		eloq_manifest_writer_snapshot(&writer, buffer, capacity, from->file_page_next, NULL,
					      0);
		for (uint32_t i = 0; i < from->mapping_count; i++)
			eloq_manifest_writer_mapping(&writer, from->mapping[i]);
	} else {
		eloq_manifest_writer_log(&writer, buffer, capacity);
		for (uint32_t i = 0; i < from->update_count; i++)
			eloq_manifest_writer_update(&writer, from->updates[i].page_id,
						    from->updates[i].value);
	}
	eloq_manifest_writer_terms(&writer);
	eloq_manifest_writer_term(&writer, 0, 0);
	return eloq_manifest_writer_finish(&writer, from->root, from->ttl_root, ret_bytes);
}

TEST(the_example_records_read_and_build)
{
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(records); i++) {
		uint8_t *record = hex_bytes(records[i].hex, 4096), *built = malloc(4096);
		struct eloq_manifest_header header;
		uint64_t built_bytes;

		ck_assert(eloq_manifest_record_verify(record, 4096));
		eloq_manifest_header_decode(record, &header);
		ck_assert_uint_eq(header.root, records[i].root);
		ck_assert_uint_eq(header.ttl_root, records[i].ttl_root);
		ck_assert_uint_eq(eloq_manifest_record_padded(header.payload_bytes), 4096);
		if (records[i].mapping_count > 0)
			assert_snapshot_reads(&records[i], record + 20, header.payload_bytes);
		else
			assert_log_reads(&records[i], record + 20, header.payload_bytes);

		memset(built, 0xa5, 4096);
		ck_assert_int_eq(write_record(&records[i], built, 4096, &built_bytes), 0);
		ck_assert_uint_eq(built_bytes, 4096);
		ck_assert_mem_eq(built, record, 4096);
		free(built);
		free(record);
	}
}

TEST(what_stands_in_the_padding_does_not_matter)
{
	uint8_t *record = hex_bytes(records[3].hex, 4096);

	memset(record + 0x2b, 0xff, 4096 - 0x2b);
	ck_assert(eloq_manifest_record_verify(record, 4096));
	ck_assert(eloq_manifest_record_verify(record, 0x2b));
	record[0x2a] ^= 1;
	ck_assert(!eloq_manifest_record_verify(record, 4096));
	free(record);
}

TEST(a_record_that_claims_more_than_there_is_fails_verification)
{
	uint8_t *record = hex_bytes(records[0].hex, 47);

	ck_assert(eloq_manifest_record_verify(record, 47));
	for (uint64_t bytes = 0; bytes < 47; bytes++)
		ck_assert(!eloq_manifest_record_verify(record, bytes));
	eloq_put_u32(record + 16, UINT32_MAX);
	ck_assert(!eloq_manifest_record_verify(record, 47));
	ck_assert_uint_eq(eloq_manifest_record_padded(UINT32_MAX), (UINT64_C(1) << 32) + 4096);
	free(record);
}

TEST(a_header_of_zeroes_is_not_a_record)
{
	static const uint8_t zeroes[4096];

	ck_assert(!eloq_manifest_record_verify(zeroes, sizeof(zeroes)));
}

TEST(a_payload_cut_short_anywhere_is_refused)
{
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(records); i++) {
		struct eloq_manifest_snapshot snapshot;
		struct eloq_manifest_log log;
		uint8_t *record = hex_bytes(records[i].hex, 4096);
		uint32_t payload_bytes = eloq_get_u32(record + 16);

		for (uint32_t bytes = 0; bytes <= payload_bytes + 1; bytes++) {
			uint8_t *payload = malloc(bytes + 1);
			int r;

			memcpy(payload, record + 20, bytes);
			if (records[i].mapping_count > 0)
				r = eloq_manifest_snapshot_decode(payload, bytes, &snapshot);
			else
				r = eloq_manifest_log_decode(payload, bytes, &log);
			ck_assert_int_eq(r, bytes == payload_bytes ? 0 : -ELOQ_ECORRUPT);
			free(payload);
		}
		free(record);
	}
}

TEST(numbers_that_do_not_end_within_their_part_are_corrupt)
{
	static const uint8_t endless[] = { 0x05, 0x80 };
	struct eloq_manifest_piece piece = { endless, endless + 2 };
	static const uint8_t far_page[] = { 0x80, 0x80, 0x80, 0x80, 0x08, 0x07 };
	uint64_t value, term;
	uint32_t page_id;

	ck_assert_int_eq(eloq_manifest_next_mapping(&piece, &value), 1);
	ck_assert_int_eq(eloq_manifest_next_mapping(&piece, &value), -ELOQ_ECORRUPT);
	piece.at = endless;
	ck_assert_int_eq(eloq_manifest_next_update(&piece, &page_id, &value), -ELOQ_ECORRUPT);
	piece.at = endless;
	ck_assert_int_eq(eloq_manifest_next_term(&piece, &value, &term), -ELOQ_ECORRUPT);
	/* A page id of 2^31: no index page could name it. */
	piece = (struct eloq_manifest_piece){ far_page, far_page + sizeof(far_page) };
	ck_assert_int_eq(eloq_manifest_next_update(&piece, &page_id, &value), -ELOQ_ECORRUPT);
}

TEST(a_writer_without_room_says_how_much_it_wants_and_writes_nothing_beyond)
{
	uint8_t *expected = hex_bytes(records[0].hex, 4096);

	for (size_t capacity = 0; capacity <= 4096; capacity += capacity < 64 ? 1 : 448) {
		uint8_t *buffer = malloc(capacity > 0 ? capacity : 1);
		uint64_t bytes = 0;
		int r = write_record(&records[0], buffer, capacity, &bytes);

		ck_assert_uint_eq(bytes, 4096);
		ck_assert_int_eq(r, capacity == 4096 ? 0 : -ENOBUFS);
		if (r == 0)
			ck_assert_mem_eq(buffer, expected, 4096);
		free(buffer);
	}
	free(expected);
}

TEST(a_large_snapshot_with_a_dictionary_comes_back)
{
	enum { PAGES = 300000, DICTIONARY_BYTES = 16384, FILES = 100 };
	uint64_t *values = malloc(PAGES * sizeof(*values)), bytes, value, file_id, term;
	uint8_t *dictionary = malloc(DICTIONARY_BYTES), *buffer = NULL;
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_writer writer;
	size_t capacity = 0;
	struct eloq_prng prng;
	int r;

	eloq_prng_seed(&prng, test_seed());
	for (uint32_t i = 0; i < PAGES; i++)
		values[i] = eloq_prng_next(&prng) >> eloq_prng_below(&prng, 64);
	memset(dictionary, 'd', DICTIONARY_BYTES);
	for (int pass = 0; pass < 2; pass++) {
		eloq_manifest_writer_snapshot(&writer, buffer, capacity, UINT64_MAX, dictionary,
					      DICTIONARY_BYTES);
		for (uint32_t i = 0; i < PAGES; i++)
			eloq_manifest_writer_mapping(&writer, values[i]);
		eloq_manifest_writer_terms(&writer);
		for (uint64_t i = 0; i < FILES; i++)
			eloq_manifest_writer_term(&writer, i << 30, UINT64_MAX - i);
		r = eloq_manifest_writer_finish(&writer, 7, 8, &bytes);
		ck_assert_int_eq(r, pass == 0 ? -ENOBUFS : 0);
		ck_assert_uint_eq(bytes % 4096, 0);
		if (pass == 0) {
			capacity = bytes;
			buffer = malloc(capacity);
		}
	}
	ck_assert(eloq_manifest_record_verify(buffer, bytes));
	r = eloq_manifest_snapshot_decode(buffer + 20, eloq_get_u32(buffer + 16), &snapshot);
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(snapshot.file_page_next, UINT64_MAX);
	ck_assert_int_eq(snapshot.dictionary.end - snapshot.dictionary.at, DICTIONARY_BYTES);
	ck_assert_mem_eq(snapshot.dictionary.at, dictionary, DICTIONARY_BYTES);
	ck_assert_uint_eq(eloq_manifest_mapping_count(&snapshot), PAGES);
	for (uint32_t i = 0; i < PAGES; i++) {
		if (eloq_manifest_next_mapping(&snapshot.mapping, &value) != 1 ||
		    value != values[i])
			ck_abort_msg("mapping of page %u differs", i);
	}
	for (uint64_t i = 0; i < FILES; i++) {
		ck_assert_int_eq(eloq_manifest_next_term(&snapshot.terms, &file_id, &term), 1);
		ck_assert_uint_eq(file_id, i << 30);
		ck_assert_uint_eq(term, UINT64_MAX - i);
	}
	free(buffer);
	free(dictionary);
	free(values);
}

TEST(mutated_payloads_are_refused_or_read_within_their_bounds)
{
	uint32_t accepted = 0, refused = 0;
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (uint32_t round = 0; round < 20000; round++) {
		const struct record_case *from = &records[round % ELOQ_ARRAY_SIZE(records)];
		uint8_t *record = hex_bytes(from->hex, 64), *payload;
		uint32_t payload_bytes = eloq_get_u32(record + 16), page_id;
		struct eloq_manifest_snapshot snapshot;
		struct eloq_manifest_log log;
		uint64_t a, b;
		int r;

		for (uint64_t i = eloq_prng_below(&prng, 3); i < 3; i++)
			record[20 + eloq_prng_below(&prng, payload_bytes)] =
				(uint8_t)(eloq_prng_next(&prng) >> eloq_prng_below(&prng, 8));
		payload = malloc(payload_bytes);
		memcpy(payload, record + 20, payload_bytes);
		if (from->mapping_count > 0) {
			r = eloq_manifest_snapshot_decode(payload, payload_bytes, &snapshot);
			while (r == 0 && eloq_manifest_next_mapping(&snapshot.mapping, &a) > 0)
				;
			while (r == 0 && eloq_manifest_next_term(&snapshot.terms, &a, &b) > 0)
				;
		} else {
			r = eloq_manifest_log_decode(payload, payload_bytes, &log);
			while (r == 0 &&
			       eloq_manifest_next_update(&log.updates, &page_id, &a) > 0) {
				if (page_id > ELOQ_PAGE_ID_MAX)
					ck_abort_msg("page id %u", page_id);
			}
			while (r == 0 && eloq_manifest_next_term(&log.terms, &a, &b) > 0)
				;
		}
		accepted += r == 0;
		refused += r != 0;
		free(payload);
		free(record);
	}
	ck_assert_uint_gt(accepted, 100);
	ck_assert_uint_gt(refused, 100);
}
