/*
 * message.c - records as bytes: requests, answers and padding.
 *
 * Idea: the first word of every record has the same shape, so that a reader can step over what it
 * has not decoded; header, optional words, key and value follow without gaps, and the length is
 * said twice (in units by the first word, by the sizes of the parts), which must agree.
 *
 *	[0] u16 length in units of 8 bytes   [2] u8 op, or 1 of an answer, or 0: PAD
 *	[3] u8 0, or status of an answer     [4] u16 flags     [6] u16 key bytes
 *
 * Always:   a record's length follows from its header alone; flags above the low eight never
 *	     change it, so a flag that we do not know is answered, not misread.
 * Runs on:  any thread; pure functions of private memory.
 * Fails by: -ELOQ_EPROTOCOL.                               docs/protocol.md, "Records".
 */
#include "shm/message.h"

#include "common/coding.h"
#include "shm/ring.h"

#include <string.h>

enum { MESSAGE_KIND_PAD = 0, MESSAGE_KIND_ANSWER = 1 };

/* Offsets in a record. */
enum {
	MESSAGE_AT_UNITS = 0,
	MESSAGE_AT_KIND = 2,
	MESSAGE_AT_STATUS = 3,
	MESSAGE_AT_FLAGS = 4,
	MESSAGE_AT_KEY_BYTES = 6,
	MESSAGE_AT_ID = 8,
	REQUEST_AT_ID_DISTANCE = 16,
	REQUEST_AT_TABLE = 20,
	REQUEST_AT_PARTITION = 24,
	REQUEST_AT_VALUE_BYTES = 28,
	ANSWER_AT_VALUE_BYTES = 16,
	ANSWER_AT_INCARNATION = 20,
};

static size_t message_units(size_t bytes)
{
	return bytes / ELOQ_RECORD_ALIGN;
}

static void message_put_first_word(uint8_t *p, size_t record_bytes, uint8_t kind, uint8_t status,
				   uint16_t flags, uint16_t key_bytes)
{
	eloq_assert_slow(message_units(record_bytes) <= UINT16_MAX);
	eloq_put_u16(p + MESSAGE_AT_UNITS, (uint16_t)message_units(record_bytes));
	p[MESSAGE_AT_KIND] = kind;
	p[MESSAGE_AT_STATUS] = status;
	eloq_put_u16(p + MESSAGE_AT_FLAGS, flags);
	eloq_put_u16(p + MESSAGE_AT_KEY_BYTES, key_bytes);
}

/* --- PAD ---------------------------------------------------------------------------------------
 */

size_t eloq_record_peek(const uint8_t first_word[8], bool *ret_pad)
{
	size_t bytes = eloq_get_u16(first_word + MESSAGE_AT_UNITS) * (size_t)ELOQ_RECORD_ALIGN;
	bool pad = first_word[MESSAGE_AT_KIND] == MESSAGE_KIND_PAD;

	if (pad && bytes > ELOQ_PAD_BYTES_MAX)
		return 0;
	*ret_pad = pad;
	return bytes;
}

void eloq_record_pad(uint8_t *p, size_t bytes)
{
	eloq_assert_slow(bytes >= ELOQ_RECORD_ALIGN && bytes <= ELOQ_PAD_BYTES_MAX &&
			 bytes % ELOQ_RECORD_ALIGN == 0);
	message_put_first_word(p, bytes, MESSAGE_KIND_PAD, 0, 0, 0);
}

/* --- Requests ----------------------------------------------------------------------------------
 */

static size_t request_fixed_bytes(unsigned flags)
{
	unsigned words = (unsigned)__builtin_popcount(flags & ELOQ_REQ_ALL_WORDS);

	return ELOQ_REQUEST_HEADER_BYTES + words * sizeof(uint64_t);
}

size_t eloq_request_fixed_bytes(const uint8_t header[ELOQ_REQUEST_HEADER_BYTES])
{
	return request_fixed_bytes(eloq_get_u16(header + MESSAGE_AT_FLAGS));
}

static size_t request_inline_bytes(unsigned flags, uint32_t value_bytes)
{
	return flags & ELOQ_REQ_UP_BULK ? 0 : value_bytes;
}

static size_t request_bytes(unsigned flags, uint16_t key_bytes, uint32_t value_bytes)
{
	return eloq_round_up(request_fixed_bytes(flags) + key_bytes +
				     request_inline_bytes(flags, value_bytes),
			     ELOQ_RECORD_ALIGN);
}

size_t eloq_request_inline_bytes(const struct eloq_request *request)
{
	return request_inline_bytes(request->flags, request->value_bytes);
}

size_t eloq_request_bytes(const struct eloq_request *request)
{
	return request_bytes(request->flags, request->key_bytes, request->value_bytes);
}

uint8_t *eloq_request_encode(uint8_t *p, const struct eloq_request *request)
{
	unsigned words = request->flags & ELOQ_REQ_ALL_WORDS;

	message_put_first_word(p, eloq_request_bytes(request), request->op, 0, request->flags,
			       request->key_bytes);
	eloq_put_u64(p + MESSAGE_AT_ID, request->id);
	eloq_put_u32(p + REQUEST_AT_ID_DISTANCE, (uint32_t)(request->id - request->answered_below));
	eloq_put_u32(p + REQUEST_AT_TABLE, request->table);
	eloq_put_u32(p + REQUEST_AT_PARTITION, request->partition);
	eloq_put_u32(p + REQUEST_AT_VALUE_BYTES, request->value_bytes);
	p += ELOQ_REQUEST_HEADER_BYTES;
	for (; words; words &= words - 1) {
		eloq_put_u64(p, request->words[__builtin_ctz(words)]);
		p += sizeof(uint64_t);
	}
	return p;
}

int eloq_request_decode(const uint8_t *copy, size_t bytes, size_t record_bytes,
			struct eloq_request *ret_request, size_t *ret_offset)
{
	const uint8_t *p = copy + ELOQ_REQUEST_HEADER_BYTES;
	uint16_t flags, key_bytes;
	uint32_t value_bytes;

	if (bytes < ELOQ_REQUEST_HEADER_BYTES)
		return -ELOQ_EPROTOCOL;
	flags = eloq_get_u16(copy + MESSAGE_AT_FLAGS);
	key_bytes = eloq_get_u16(copy + MESSAGE_AT_KEY_BYTES);
	value_bytes = eloq_get_u32(copy + REQUEST_AT_VALUE_BYTES);
	if (copy[MESSAGE_AT_KIND] == MESSAGE_KIND_PAD || copy[MESSAGE_AT_STATUS] != 0 ||
	    bytes < request_fixed_bytes(flags) ||
	    record_bytes != request_bytes(flags, key_bytes, value_bytes))
		return -ELOQ_EPROTOCOL;
	ret_request->id = eloq_get_u64(copy + MESSAGE_AT_ID);
	ret_request->answered_below = ret_request->id - eloq_get_u32(copy + REQUEST_AT_ID_DISTANCE);
	ret_request->op = copy[MESSAGE_AT_KIND];
	ret_request->flags = flags;
	ret_request->table = eloq_get_u32(copy + REQUEST_AT_TABLE);
	ret_request->partition = eloq_get_u32(copy + REQUEST_AT_PARTITION);
	ret_request->key_bytes = key_bytes;
	ret_request->value_bytes = value_bytes;
	memset(ret_request->words, 0, sizeof(ret_request->words));
	for (unsigned words = flags & ELOQ_REQ_ALL_WORDS; words; words &= words - 1) {
		ret_request->words[__builtin_ctz(words)] = eloq_get_u64(p);
		p += sizeof(uint64_t);
	}
	*ret_offset = (size_t)(p - copy);
	return 0;
}

/* --- Answers -----------------------------------------------------------------------------------
 */

static size_t answer_fixed_bytes(unsigned flags)
{
	unsigned words = (unsigned)__builtin_popcount(flags & ELOQ_ANS_ALL_WORDS);

	return ELOQ_ANSWER_HEADER_BYTES + words * sizeof(uint64_t);
}

static size_t answer_inline_bytes(unsigned flags, uint8_t status, uint32_t value_bytes)
{
	return flags & ELOQ_ANS_BULK || status == ELOQ_STATUS_NEED_BULK ? 0 : value_bytes;
}

static size_t answer_bytes(unsigned flags, uint8_t status, uint16_t key_bytes, uint32_t value_bytes)
{
	return eloq_round_up(answer_fixed_bytes(flags) + key_bytes +
				     answer_inline_bytes(flags, status, value_bytes),
			     ELOQ_RECORD_ALIGN);
}

size_t eloq_answer_inline_bytes(const struct eloq_answer *answer)
{
	return answer_inline_bytes(answer->flags, answer->status, answer->value_bytes);
}

size_t eloq_answer_bytes(const struct eloq_answer *answer)
{
	return answer_bytes(answer->flags, answer->status, answer->key_bytes, answer->value_bytes);
}

uint8_t *eloq_answer_encode(uint8_t *p, const struct eloq_answer *answer)
{
	message_put_first_word(p, eloq_answer_bytes(answer), MESSAGE_KIND_ANSWER, answer->status,
			       answer->flags, answer->key_bytes);
	eloq_put_u64(p + MESSAGE_AT_ID, answer->id);
	eloq_put_u32(p + ANSWER_AT_VALUE_BYTES, answer->value_bytes);
	eloq_put_u32(p + ANSWER_AT_INCARNATION, answer->incarnation);
	p += ELOQ_ANSWER_HEADER_BYTES;
	if (answer->flags & ELOQ_ANS_TIMESTAMP) {
		eloq_put_u64(p, answer->timestamp);
		p += sizeof(uint64_t);
	}
	if (answer->flags & ELOQ_ANS_EXPIRY) {
		eloq_put_u64(p, answer->expire_ms);
		p += sizeof(uint64_t);
	}
	return p;
}

int eloq_answer_decode(const uint8_t *copy, size_t bytes, size_t record_bytes,
		       struct eloq_answer *ret_answer, size_t *ret_offset)
{
	const uint8_t *p = copy + ELOQ_ANSWER_HEADER_BYTES;
	uint16_t flags, key_bytes;
	uint32_t value_bytes;
	uint8_t status;

	if (bytes < ELOQ_ANSWER_HEADER_BYTES)
		return -ELOQ_EPROTOCOL;
	status = copy[MESSAGE_AT_STATUS];
	flags = eloq_get_u16(copy + MESSAGE_AT_FLAGS);
	key_bytes = eloq_get_u16(copy + MESSAGE_AT_KEY_BYTES);
	value_bytes = eloq_get_u32(copy + ANSWER_AT_VALUE_BYTES);
	if (copy[MESSAGE_AT_KIND] != MESSAGE_KIND_ANSWER || bytes < answer_fixed_bytes(flags) ||
	    record_bytes != answer_bytes(flags, status, key_bytes, value_bytes))
		return -ELOQ_EPROTOCOL;
	*ret_answer = (struct eloq_answer){
		.id = eloq_get_u64(copy + MESSAGE_AT_ID),
		.status = status,
		.flags = flags,
		.key_bytes = key_bytes,
		.value_bytes = value_bytes,
		.incarnation = eloq_get_u32(copy + ANSWER_AT_INCARNATION),
	};
	if (flags & ELOQ_ANS_TIMESTAMP) {
		ret_answer->timestamp = eloq_get_u64(p);
		p += sizeof(uint64_t);
	}
	if (flags & ELOQ_ANS_EXPIRY) {
		ret_answer->expire_ms = eloq_get_u64(p);
		p += sizeof(uint64_t);
	}
	*ret_offset = (size_t)(p - copy);
	return 0;
}
