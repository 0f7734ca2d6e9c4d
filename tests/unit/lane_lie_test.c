/*
 * lane_lie_test.c - each lie that a client can tell closes its lane, and is told apart from the
 * others.
 */
#include "shm/lane.h"

#include "tests/unit/lane_steps.h"

#include <string.h>

static struct eloq_request_segment *client_words(struct lane_world *w)
{
	return w->client.req;
}

/* Peeks and finds the lie; the lane is closed, and the client reads why. */
static void check_lie(struct lane_world *w, enum eloq_lane_reason expected)
{
	struct eloq_request request;
	uint32_t reason = 99, told = 99;
	size_t offset;

	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, &request, &offset, &reason),
			 -ELOQ_EPROTOCOL);
	ck_assert_str_eq(eloq_lane_reason_text(reason), eloq_lane_reason_text(expected));
	eloq_lane_worker_close(&w->worker, (enum eloq_lane_reason)reason);
	ck_assert_int_eq(eloq_lane_worker_peek(&w->worker, &request, &offset, &reason), 0);
	ck_assert(eloq_lane_client_has_news(&w->client));
	ck_assert_int_eq(eloq_lane_client_step(&w->client, &told), ELOQ_LANE_EVENT_CLOSED);
	ck_assert_uint_eq(told, expected);
}

TEST(a_tail_beyond_the_ring_behind_us_or_between_records_closes_the_lane)
{
	static const uint64_t tails[] = { RING + 8, 4, UINT64_MAX - 7, UINT64_C(1) << 63, 33 };
	struct eloq_request got;

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(tails); i++) {
		struct lane_world w;

		open_synced(&w);
		atomic_store(&client_words(&w)->req_tail, tails[i]);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
	/* Back to where it had been. */
	for (unsigned back = 0; back < 2; back++) {
		struct lane_world w;

		open_synced(&w);
		put_get(&w, 1);
		eloq_lane_client_publish(&w.client);
		accept_next(&w, &got, NULL);
		atomic_store(&client_words(&w)->req_tail, back * 8);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
}

TEST(a_head_that_takes_what_is_not_there_closes_the_lane)
{
	for (unsigned i = 0; i < 3; i++) {
		struct lane_world w;
		uint64_t head;

		open_synced(&w);
		fill_answer_ring(&w, 1);
		head = i == 0 ? w.worker.ans_published + 8 : i == 1 ? 4 : UINT64_MAX - 7;
		atomic_store(&client_words(&w)->ans_head, head);
		check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
		lane_world_close(&w);
	}
}

TEST(a_head_that_goes_back_closes_the_lane)
{
	struct eloq_answer answer;
	struct eloq_request got;
	struct lane_world w;
	uint64_t waiting, head;

	open_synced(&w);
	waiting = fill_answer_ring(&w, 1);
	while (take(&w, &answer) == 1)
		;
	eloq_lane_client_done(&w.client);
	head = atomic_load(&client_words(&w)->ans_head);
	answer_ok(&w, accept_next(&w, &got, NULL), waiting, 1024);
	fill_answer_ring(&w, waiting + 1);
	atomic_store(&client_words(&w)->ans_head, head - 8);
	check_lie(&w, ELOQ_LANE_REASON_BAD_POSITION);
	lane_world_close(&w);
}

/* A record of 48 bytes whose first word says otherwise: @units in place of its 6, @op for GET. */
static void publish_misframed(struct lane_world *w, uint16_t units, uint8_t op)
{
	struct eloq_request request = get_request(1);
	uint8_t *record = (uint8_t *)w->req_base + ELOQ_SEGMENT_HEADER_BYTES;

	request.key_bytes = 16;
	ck_assert_int_eq(eloq_lane_client_put(&w->client, &request, (uint8_t[16]){ 0 }, NULL), 0);
	memcpy(record, &units, sizeof(units));
	record[2] = op;
	eloq_lane_client_publish(&w->client);
}

TEST(a_record_whose_length_is_not_that_of_its_parts_closes_the_lane)
{
	static const struct {
		uint16_t units;
		uint8_t op;
		enum eloq_lane_reason reason;
	} lies[] = {
		{ 0, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 1, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 5, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ 7, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		{ UINT16_MAX, ELOQ_OP_GET, ELOQ_LANE_REASON_BAD_RECORD },
		/* A PAD at the end, one that is too long, one of nothing, one before garbage. */
		{ 6, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 7, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 8, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 0, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
		{ 4, ELOQ_OP_PAD, ELOQ_LANE_REASON_BAD_RECORD },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(lies); i++) {
		struct lane_world w;

		open_synced(&w);
		publish_misframed(&w, lies[i].units, lies[i].op);
		check_lie(&w, lies[i].reason);
		lane_world_close(&w);
	}
}

TEST(two_pads_in_a_row_close_the_lane)
{
	uint8_t *ring;
	struct lane_world w;

	open_synced(&w);
	put_get(&w, 1);
	ring = (uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES;
	eloq_record_pad(ring, 8);
	eloq_record_pad(ring + 8, 8);
	eloq_lane_client_publish(&w.client);
	check_lie(&w, ELOQ_LANE_REASON_BAD_RECORD);
	lane_world_close(&w);
}

/* Puts what the client's end would put, without its own checks, at the start of the ring. */
static void publish_raw(struct lane_world *w, const struct eloq_request *request)
{
	eloq_request_encode((uint8_t *)w->req_base + ELOQ_SEGMENT_HEADER_BYTES, request);
	atomic_store(&client_words(w)->req_tail, eloq_request_bytes(request));
}

TEST(lengths_over_their_limits_close_the_lane)
{
	struct eloq_request request = get_request(1);
	struct lane_world w;

	open_synced(&w);
	request.value_bytes = QUARTER - 32 + 8;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);

	open_synced(&w);
	request.flags = ELOQ_REQ_UP_BULK;
	request.value_bytes = ELOQ_VALUE_BYTES_MAX + 1;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);

	lane_world_open(&w, ELOQ_RING_BYTES_MAX, RING, false);
	lane_world_sync(&w, INCARNATION);
	request = get_request(1);
	request.key_bytes = ELOQ_KEY_BYTES_MAX + 1;
	publish_raw(&w, &request);
	check_lie(&w, ELOQ_LANE_REASON_BAD_LIMIT);
	lane_world_close(&w);
}

TEST(ids_that_do_not_grow_or_reach_back_too_far_close_the_lane)
{
	static const struct {
		uint64_t first, id, answered_below;
	} lies[] = {
		{ 5, 5, 5 }, { 5, 4, 4 },	   { 5, 0, 0 },
		{ 0, 0, 0 }, { 5, 6, UINT64_MAX }, { 1, ELOQ_ID_DISTANCE_MAX + 100, 99 },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(lies); i++) {
		struct eloq_request request = get_request(lies[i].id), got;
		struct lane_world w;

		open_synced(&w);
		if (lies[i].first) {
			put_get(&w, lies[i].first);
			eloq_lane_client_publish(&w.client);
			accept_next(&w, &got, NULL);
		}
		request.answered_below = lies[i].answered_below;
		ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
		eloq_lane_client_publish(&w.client);
		check_lie(&w, ELOQ_LANE_REASON_BAD_ID);
		lane_world_close(&w);
	}
}

TEST(gaps_between_ids_and_the_greatest_distance_are_fine)
{
	struct eloq_request request = get_request(ELOQ_ID_DISTANCE_MAX + 100), got;
	struct lane_world w;

	open_synced(&w);
	put_get(&w, 1);
	request.answered_below = 100;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, NULL, NULL), 0);
	put_get(&w, UINT64_MAX);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, NULL);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.answered_below, 100);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.id, UINT64_MAX);
	lane_world_close(&w);
}

TEST(unknown_ops_and_flags_are_shown_and_are_for_the_server_to_refuse)
{
	struct eloq_request request = get_request(1), got;
	uint8_t payload[8];
	struct lane_world w;

	open_synced(&w);
	request.op = 251;
	request.flags = 0xfe00;
	request.key_bytes = 2;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, "kk", NULL), 0);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	accept_next(&w, &got, payload);
	ck_assert_uint_eq(got.op, 251);
	ck_assert_uint_eq(got.flags, 0xfe00);
	ck_assert_mem_eq(payload, "kk", 2);
	accept_next(&w, &got, NULL);
	ck_assert_uint_eq(got.id, 2);
	lane_world_close(&w);
}

/* Between peek and accept everything in the ring becomes something else. */
TEST(memory_rewritten_after_publishing_changes_payload_bytes_only)
{
	struct eloq_request request = get_request(1), got;
	uint8_t payload[24 + 8];
	struct lane_world w;
	uint32_t reason;
	size_t offset;

	open_synced(&w);
	request.key_bytes = 8;
	request.value_bytes = 16;
	ck_assert_int_eq(eloq_lane_client_put(&w.client, &request, "12345678", "1234567812345678"),
			 0);
	eloq_lane_client_publish(&w.client);
	ck_assert_int_eq(eloq_lane_worker_peek(&w.worker, &got, &offset, &reason), 1);
	memset((uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES, 0xee, RING);
	memset(payload, 0x11, sizeof(payload));
	eloq_lane_worker_accept(&w.worker, &got, offset, payload);
	for (size_t i = 0; i < sizeof(payload); i++)
		ck_assert_uint_eq(payload[i], i < 24 ? 0xee : 0x11);
	ck_assert_uint_eq(w.worker.req_taken, 56);
	/* The next record is judged as the garbage that it is. */
	put_get(&w, 2);
	memset((uint8_t *)w.req_base + ELOQ_SEGMENT_HEADER_BYTES, 0xee, RING);
	eloq_lane_client_publish(&w.client);
	check_lie(&w, ELOQ_LANE_REASON_BAD_RECORD);
	lane_world_close(&w);
}

TEST(a_closed_lane_takes_answers_of_requests_in_flight_and_shows_none)
{
	struct eloq_request got;
	struct eloq_answer answer;
	struct lane_world w;
	uint32_t reserved;

	open_synced(&w);
	put_get(&w, 1);
	put_get(&w, 2);
	eloq_lane_client_publish(&w.client);
	reserved = accept_next(&w, &got, NULL);
	eloq_lane_worker_close(&w.worker, ELOQ_LANE_REASON_STOPPED);
	eloq_lane_worker_close(&w.worker, ELOQ_LANE_REASON_LEFT);
	answer_ok(&w, reserved, 1, 10);
	eloq_lane_worker_publish(&w.worker);
	ck_assert_int_eq(take(&w, &answer), 0);
	ck_assert_int_eq(peek(&w, &got), 0);
	ck_assert_uint_eq(atomic_load(&w.client.ans->reason), ELOQ_LANE_REASON_STOPPED);
	lane_world_close(&w);
}
