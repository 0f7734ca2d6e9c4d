/*
 * message_test.c - records and lists as bytes: golden ones, random ones, and broken ones.
 *
 * The golden bytes are those of docs/protocol.md.
 */
#include "shm/message.h"

#include "common/prng.h"
#include "shm/layout.h"
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

static const struct eloq_request put_request = {
	.id = 0x1122334455667788,
	.answered_below = 0x1122334455667780,
	.op = ELOQ_OP_PUT,
	.flags = ELOQ_REQ_TIMESTAMP | ELOQ_REQ_DEADLINE | ELOQ_REQ_RESENT,
	.table = 0x01020304,
	.partition = 7,
	.key_bytes = 3,
	.value_bytes = 2,
	.words = { [ELOQ_WORD_TIMESTAMP] = 99, [ELOQ_WORD_DEADLINE] = 0x0a0b0c0d },
};

static const uint8_t put_request_bytes[] = {
	0x07, 0x00, 0x03, 0x00, 0x12, 0x01, 0x03, 0x00, /* 7 units, PUT, flags 0x112, key 3 */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
	0x08, 0x00, 0x00, 0x00, 0x04, 0x03, 0x02, 0x01, /* distance 8, table */
	0x07, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, /* partition, value 2 */
	0x63, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* timestamp */
	0x0d, 0x0c, 0x0b, 0x0a, 0x00, 0x00, 0x00, 0x00, /* deadline */
};

TEST(a_request_has_the_bytes_of_the_protocol)
{
	uint8_t bytes[64] = { 0 };
	uint8_t *key;

	ck_assert_uint_eq(eloq_request_bytes(&put_request), 56);
	ck_assert_uint_eq(eloq_request_inline_bytes(&put_request), 2);
	key = eloq_request_encode(bytes, &put_request);
	ck_assert_uint_eq((size_t)(key - bytes), sizeof(put_request_bytes));
	ck_assert_mem_eq(bytes, put_request_bytes, sizeof(put_request_bytes));
	ck_assert_uint_eq(eloq_request_fixed_bytes(bytes), sizeof(put_request_bytes));
}

TEST(an_answer_has_the_bytes_of_the_protocol)
{
	static const uint8_t expected[] = {
		0x05, 0x00, 0x01, 0x0a, 0x0a, 0x00, 0x00, 0x00, /* 5 units, answer, NO_SPACE */
		0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* id */
		0x05, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00, /* value 5, incarnation 9 */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* expiry */
	};
	const struct eloq_answer answer = {
		.id = 42,
		.status = ELOQ_STATUS_NO_SPACE,
		.flags = ELOQ_ANS_EXPIRY | ELOQ_ANS_MORE,
		.value_bytes = 5,
		.incarnation = 9,
		.expire_ms = UINT64_MAX,
	};
	uint8_t bytes[64] = { 0 };

	ck_assert_uint_eq(eloq_answer_bytes(&answer), 40);
	ck_assert_uint_eq((size_t)(eloq_answer_encode(bytes, &answer) - bytes), sizeof(expected));
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
}

TEST(a_value_that_lies_elsewhere_takes_no_room)
{
	struct eloq_request request = { .flags = ELOQ_REQ_UP_BULK, .value_bytes = 1 << 20 };
	struct eloq_answer answer = { .flags = ELOQ_ANS_BULK, .value_bytes = 1 << 20 };

	ck_assert_uint_eq(eloq_request_inline_bytes(&request), 0);
	ck_assert_uint_eq(eloq_request_bytes(&request), 40);
	ck_assert_uint_eq(eloq_answer_inline_bytes(&answer), 0);
	ck_assert_uint_eq(eloq_answer_bytes(&answer), 24);
	answer.flags = 0;
	answer.status = ELOQ_STATUS_NEED_BULK;
	ck_assert_uint_eq(eloq_answer_bytes(&answer), 24);
	answer.status = ELOQ_STATUS_OK;
	ck_assert_uint_eq(eloq_answer_bytes(&answer), 24 + (1 << 20));
}

TEST(padding_is_one_word_and_at_most_the_rest_of_a_line)
{
	uint8_t word[8];
	bool pad;

	for (size_t bytes = 8; bytes <= 56; bytes += 8) {
		pad = false;
		eloq_record_pad(word, bytes);
		ck_assert_uint_eq(eloq_record_peek(word, &pad), bytes);
		ck_assert(pad);
	}
	memset(word, 0, sizeof(word));
	ck_assert_uint_eq(eloq_record_peek(word, &pad), 0);
	word[0] = 8;
	ck_assert_uint_eq(eloq_record_peek(word, &pad), 0);
	word[2] = ELOQ_OP_GET;
	ck_assert_uint_eq(eloq_record_peek(word, &pad), 64);
	ck_assert(!pad);
}

static uint64_t sometimes(struct eloq_prng *prng, unsigned flags, unsigned bit)
{
	return flags >> bit & 1 ? eloq_prng_next(prng) : 0;
}

static struct eloq_request random_request(struct eloq_prng *prng)
{
	struct eloq_request request = {
		.id = eloq_prng_next(prng),
		.op = (uint8_t)(1 + eloq_prng_below(prng, 255)),
		.flags = (uint16_t)eloq_prng_next(prng),
		.table = (uint32_t)eloq_prng_next(prng),
		.partition = (uint32_t)eloq_prng_next(prng),
		.key_bytes = (uint16_t)eloq_prng_below(prng, 300),
		.value_bytes = (uint32_t)eloq_prng_below(prng, 3000),
	};

	request.answered_below = request.id - (uint32_t)eloq_prng_next(prng);
	for (unsigned bit = 0; bit < 8; bit++)
		request.words[bit] = sometimes(prng, request.flags, bit);
	return request;
}

static void check_same_request(const struct eloq_request *a, const struct eloq_request *b)
{
	ck_assert_uint_eq(a->id, b->id);
	ck_assert_uint_eq(a->answered_below, b->answered_below);
	ck_assert_uint_eq(a->op, b->op);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->table, b->table);
	ck_assert_uint_eq(a->partition, b->partition);
	ck_assert_uint_eq(a->key_bytes, b->key_bytes);
	ck_assert_uint_eq(a->value_bytes, b->value_bytes);
	ck_assert_mem_eq(a->words, b->words, sizeof(a->words));
}

/* Every op and every flag, known or not: what we do not know is read all the same. */
TEST(random_requests_come_back_as_they_were)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (unsigned i = 0; i < 100000; i++) {
		struct eloq_request request = random_request(&prng), back;
		uint8_t bytes[ELOQ_REQUEST_FIXED_BYTES_MAX];
		size_t record_bytes = eloq_request_bytes(&request), fixed, offset, peeked;
		bool pad;

		fixed = (size_t)(eloq_request_encode(bytes, &request) - bytes);
		peeked = eloq_record_peek(bytes, &pad);
		ck_assert_uint_eq(peeked, record_bytes);
		ck_assert(!pad);
		ck_assert_uint_eq(eloq_request_fixed_bytes(bytes), fixed);
		memset(&back, 0xff, sizeof(back));
		ck_assert_int_eq(eloq_request_decode(bytes, fixed, record_bytes, &back, &offset),
				 0);
		ck_assert_uint_eq(offset, fixed);
		check_same_request(&request, &back);
		ck_assert_int_eq(
			eloq_request_decode(bytes, fixed - 1, record_bytes, &back, &offset),
			-ELOQ_EPROTOCOL);
		ck_assert_int_eq(
			eloq_request_decode(bytes, fixed, record_bytes + 8, &back, &offset),
			-ELOQ_EPROTOCOL);
		ck_assert_int_eq(
			eloq_request_decode(bytes, fixed, record_bytes - 8, &back, &offset),
			-ELOQ_EPROTOCOL);
	}
}

TEST(random_answers_come_back_as_they_were)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (unsigned i = 0; i < 100000; i++) {
		struct eloq_answer answer = {
			.id = eloq_prng_next(&prng),
			.status = (uint8_t)eloq_prng_below(&prng, 30),
			.flags = (uint16_t)eloq_prng_next(&prng),
			.key_bytes = (uint16_t)eloq_prng_below(&prng, 300),
			.value_bytes = (uint32_t)eloq_prng_below(&prng, 3000),
			.incarnation = (uint32_t)eloq_prng_next(&prng),
		};
		uint8_t bytes[ELOQ_ANSWER_FIXED_BYTES_MAX];
		size_t record_bytes = eloq_answer_bytes(&answer), fixed, offset;
		struct eloq_answer back;

		answer.timestamp = sometimes(&prng, answer.flags, 0);
		answer.expire_ms = sometimes(&prng, answer.flags, 1);
		fixed = (size_t)(eloq_answer_encode(bytes, &answer) - bytes);
		ck_assert_int_eq(eloq_answer_decode(bytes, fixed, record_bytes, &back, &offset), 0);
		ck_assert_uint_eq(offset, fixed);
		ck_assert_uint_eq(back.id, answer.id);
		ck_assert_uint_eq(back.status, answer.status);
		ck_assert_uint_eq(back.flags, answer.flags);
		ck_assert_uint_eq(back.key_bytes, answer.key_bytes);
		ck_assert_uint_eq(back.value_bytes, answer.value_bytes);
		ck_assert_uint_eq(back.incarnation, answer.incarnation);
		ck_assert_uint_eq(back.timestamp, answer.timestamp);
		ck_assert_uint_eq(back.expire_ms, answer.expire_ms);
		ck_assert_int_eq(eloq_answer_decode(bytes, fixed - 1, record_bytes, &back, &offset),
				 -ELOQ_EPROTOCOL);
		ck_assert_int_eq(eloq_answer_decode(bytes, fixed, record_bytes + 8, &back, &offset),
				 -ELOQ_EPROTOCOL);
	}
}

TEST(a_request_with_a_status_or_of_kind_pad_is_refused)
{
	uint8_t bytes[64] = { 0 };
	struct eloq_request request;
	size_t offset;

	eloq_request_encode(bytes, &put_request);
	ck_assert_int_eq(eloq_request_decode(bytes, 48, 56, &request, &offset), 0);
	bytes[3] = 1;
	ck_assert_int_eq(eloq_request_decode(bytes, 48, 56, &request, &offset), -ELOQ_EPROTOCOL);
	bytes[3] = 0;
	bytes[2] = ELOQ_OP_PAD;
	ck_assert_int_eq(eloq_request_decode(bytes, 48, 56, &request, &offset), -ELOQ_EPROTOCOL);
}

/* --- Codes -------------------------------------------------------------------------------------
 */

TEST(every_code_has_a_text_and_unknown_ones_say_so)
{
	for (unsigned status = 0; status <= ELOQ_STATUS_TIMED_OUT; status++)
		ck_assert_str_ne(eloq_status_text(status), "unknown status");
	ck_assert_str_eq(eloq_status_text(ELOQ_STATUS_TIMED_OUT + 1), "unknown status");
	ck_assert_int_eq(eloq_status_to_error(200), -ELOQ_EPROTOCOL);
	ck_assert_str_eq(eloq_op_text(ELOQ_OP_SCAN), "scan");
	ck_assert_str_eq(eloq_op_text(200), "unknown op");
	ck_assert_str_eq(eloq_lane_reason_text(ELOQ_LANE_REASON_BAD_ID),
			 "request ids do not grow, or too many are unanswered");
	ck_assert_str_eq(eloq_lane_reason_text(99), "unknown reason");
}

TEST(only_ops_that_write_change_something)
{
	for (unsigned op = 0; op < 256; op++)
		ck_assert_int_eq(eloq_op_changes(op), op == ELOQ_OP_PUT || op == ELOQ_OP_DELETE ||
							      op == ELOQ_OP_BATCH ||
							      op == ELOQ_OP_TRUNCATE);
}

/* Several statuses may become one error of the library; the way back leads to one of them. */
TEST(errors_and_statuses_lead_to_each_other)
{
	for (unsigned status = 0; status <= ELOQ_STATUS_TIMED_OUT; status++) {
		int error = eloq_status_to_error(status);

		ck_assert_int_le(error, 0);
		ck_assert_int_eq(eloq_status_to_error(eloq_status_from_error(error)), error);
	}
	ck_assert_int_eq(eloq_status_from_error(-ENOSPC), ELOQ_STATUS_NO_SPACE);
	ck_assert_int_eq(eloq_status_from_error(-EDQUOT), ELOQ_STATUS_NO_SPACE);
	ck_assert_int_eq(eloq_status_from_error(-ELOQ_EFAILED_SYNC), ELOQ_STATUS_IO_ERROR);
	ck_assert_int_eq(eloq_status_from_error(-EBADF), ELOQ_STATUS_IO_ERROR);
}

/* --- Lists -------------------------------------------------------------------------------------
 */

TEST(a_batch_has_the_bytes_of_the_protocol)
{
	static const uint8_t expected[] = {
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* one entry */
		0x03, 0x01, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, /* PUT, timestamp, key 1, value 2 */
		0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* timestamp */
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* expiry */
		'k',  'v',  'w',  0x00, 0x00, 0x00, 0x00, 0x00, /* and padding */
	};
	const struct eloq_batch_entry entry = {
		.op = ELOQ_OP_PUT,
		.flags = ELOQ_BATCH_TIMESTAMP,
		.key_bytes = 1,
		.value_bytes = 2,
		.timestamp = 5,
		.key = (const uint8_t *)"k",
		.value = (const uint8_t *)"vw",
	};
	uint8_t bytes[64], *p;

	memset(bytes, 0xff, sizeof(bytes));
	p = eloq_batch_put_entry(eloq_batch_put_header(bytes, 1), &entry);
	ck_assert_uint_eq((size_t)(p - bytes), sizeof(expected));
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
	ck_assert_uint_eq(8 + eloq_batch_entry_bytes(1, 2), sizeof(expected));
}

TEST(a_batch_is_read_back_and_a_short_one_is_refused_at_every_length)
{
	static const uint8_t key[] = "a key", value[] = "some value";
	struct eloq_batch_entry entry = {
		.op = ELOQ_OP_DELETE,
		.key_bytes = sizeof(key),
		.expire_ms = 77,
		.key = key,
		.value = value,
	};
	uint8_t bytes[256], *end = eloq_batch_put_header(bytes, 2);
	const uint8_t *first, *second;
	struct eloq_batch_entry back;
	uint32_t count;

	end = eloq_batch_put_entry(end, &entry);
	entry.op = ELOQ_OP_PUT;
	entry.value_bytes = sizeof(value);
	end = eloq_batch_put_entry(end, &entry);
	first = eloq_batch_get_header(bytes, end, &count);
	ck_assert_ptr_nonnull(first);
	ck_assert_uint_eq(count, 2);
	second = eloq_batch_get_entry(first, end, &back);
	ck_assert_ptr_nonnull(second);
	ck_assert_uint_eq(back.op, ELOQ_OP_DELETE);
	ck_assert_uint_eq(back.value_bytes, 0);
	ck_assert_uint_eq(back.expire_ms, 77);
	ck_assert_ptr_eq(eloq_batch_get_entry(second, end, &back), end);
	ck_assert_mem_eq(back.key, key, sizeof(key));
	ck_assert_mem_eq(back.value, value, sizeof(value));
	for (const uint8_t *cut = second; cut < end; cut++)
		ck_assert_ptr_null(eloq_batch_get_entry(second, cut, &back));
	for (const uint8_t *cut = bytes; cut < bytes + 8 + 2 * 24; cut++)
		ck_assert_ptr_null(eloq_batch_get_header(bytes, cut, &count));
	/* Lengths of 4 GiB do not wrap around. */
	memset(bytes + 8 + 4, 0xff, 4);
	ck_assert_ptr_null(eloq_batch_get_entry(first, end, &back));
}

TEST(an_outcome_is_four_words)
{
	const struct eloq_batch_outcome outcome = { .applied = 1, .absent = 2, .older = 3 };
	static const uint8_t expected[ELOQ_BATCH_ANSWER_BYTES] = { 1, 0, 0, 0, 2, 0, 0, 0, 3 };
	uint8_t bytes[ELOQ_BATCH_ANSWER_BYTES];
	struct eloq_batch_outcome back;

	eloq_batch_put_outcome(bytes, &outcome);
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
	ck_assert_int_eq(eloq_batch_get_outcome(bytes, sizeof(bytes), &back), 0);
	ck_assert_uint_eq(back.applied, 1);
	ck_assert_uint_eq(back.absent, 2);
	ck_assert_uint_eq(back.older, 3);
	ck_assert_int_eq(eloq_batch_get_outcome(bytes, 15, &back), -ELOQ_EPROTOCOL);
}

TEST(scan_parameters_come_back_and_every_other_length_is_refused)
{
	const struct eloq_scan_params params = {
		.flags = ELOQ_SCAN_KEYS_ONLY,
		.bytes_max = 4096,
		.entries_max = 1000,
		.end_bytes = 3,
		.end = (const uint8_t *)"end",
	};
	static const uint8_t expected[] = {
		0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, /* flags, bytes_max */
		0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* entries_max */
		0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* end_bytes, zeros */
		'e',  'n',  'd',
	};
	uint8_t bytes[sizeof(expected) + 1];
	struct eloq_scan_params back;

	ck_assert_uint_eq(eloq_scan_params_bytes(&params), sizeof(expected));
	eloq_scan_put_params(bytes, &params);
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
	for (size_t length = 0; length <= sizeof(bytes); length++)
		ck_assert_int_eq(eloq_scan_get_params(bytes, length, &back),
				 length == sizeof(expected) ? 0 : -ELOQ_EPROTOCOL);
	ck_assert_int_eq(eloq_scan_get_params(bytes, sizeof(expected), &back), 0);
	ck_assert_uint_eq(back.flags, ELOQ_SCAN_KEYS_ONLY);
	ck_assert_uint_eq(back.bytes_max, 4096);
	ck_assert_uint_eq(back.entries_max, 1000);
	ck_assert_mem_eq(back.end, "end", 3);
	bytes[23] = 1;
	ck_assert_int_eq(eloq_scan_get_params(bytes, sizeof(expected), &back), -ELOQ_EPROTOCOL);
}

TEST(random_scan_items_come_back_in_order)
{
	enum { ITEMS = 100, BYTES = ITEMS * 512 };
	uint8_t *bytes = malloc(BYTES), *end = bytes, noise[256];
	struct eloq_scan_item items[ITEMS], back;
	const uint8_t *p = bytes;
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)eloq_prng_next(&prng);
	for (unsigned i = 0; i < ITEMS; i++) {
		items[i] = (struct eloq_scan_item){
			.key_bytes = (uint16_t)eloq_prng_below(&prng, sizeof(noise)),
			.value_bytes = (uint32_t)eloq_prng_below(&prng, sizeof(noise)),
			.timestamp = eloq_prng_next(&prng),
			.expire_ms = eloq_prng_next(&prng),
			.key = noise,
			.value = noise,
		};
		end = eloq_scan_put_item(end, &items[i]);
	}
	for (unsigned i = 0; i < ITEMS; i++) {
		const uint8_t *next = eloq_scan_get_item(p, end, &back);

		ck_assert_ptr_nonnull(next);
		ck_assert_ptr_null(eloq_scan_get_item(p, next - 1, &back));
		ck_assert_uint_eq(back.timestamp, items[i].timestamp);
		ck_assert_uint_eq(back.expire_ms, items[i].expire_ms);
		ck_assert_uint_eq(back.key_bytes, items[i].key_bytes);
		ck_assert_uint_eq(back.value_bytes, items[i].value_bytes);
		ck_assert_int_eq(memcmp(back.key, noise, back.key_bytes), 0);
		ck_assert_int_eq(memcmp(back.value, noise, back.value_bytes), 0);
		p = next;
	}
	ck_assert_ptr_eq(p, end);
	free(bytes);
}

TEST(figures_come_back_as_they_were)
{
	const struct eloq_partition_figures figures = { 1, 2, 3, 4096, 1 };
	uint8_t bytes[ELOQ_PARTITION_STAT_BYTES];
	struct eloq_partition_figures back;

	eloq_partition_figures_put(bytes, &figures);
	ck_assert_int_eq(eloq_partition_figures_get(bytes, sizeof(bytes), &back), 0);
	ck_assert_mem_eq(&back, &figures, sizeof(figures));
	ck_assert_int_eq(eloq_partition_figures_get(bytes, sizeof(bytes) - 8, &back),
			 -ELOQ_EPROTOCOL);
}
