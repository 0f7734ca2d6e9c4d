/*
 * hostile_test.c - a client that lies hurts itself only.
 *
 * Each test lets a raw client do one kind of harm to shard 0 while a client of the library works on
 * the same shard; afterwards the worker must be the same process, the other client's data must be
 * there, and the liar's lane closed for the right reason if what it did was a lie about framing.
 */
#include "shm/segment.h"
#include "tests/support/raw_client.h"
#include "tests/support/service.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct hostile {
	struct service s;
	struct raw_client raw;
	pid_t worker;
};

static void hostile_start(struct hostile *h, const char *io)
{
	service_start(&h->s, io, 1);
	service_put_text(&h->s, "honest", "value");
	raw_open(&h->raw, &h->s.daemon);
	h->worker = daemon_wait_worker(&h->s.daemon, 0, 0);
}

static void hostile_reopen(struct hostile *h)
{
	raw_close(&h->raw);
	raw_open(&h->raw, &h->s.daemon);
}

/* Nobody but the liar noticed. */
static void hostile_assert_harmless(struct hostile *h)
{
	service_expect_text(&h->s, "honest", "value");
	service_put_text(&h->s, "honest too", "value too");
	service_expect_text(&h->s, "honest too", "value too");
	ck_assert_int_eq(daemon_wait_worker(&h->s.daemon, 0, 0), h->worker);
	ck_assert_uint_eq(daemon_stat(&h->s.daemon, NULL, "restarts"), 0);
}

static void hostile_stop(struct hostile *h)
{
	hostile_assert_harmless(h);
	raw_close(&h->raw);
	service_stop(&h->s);
}

static struct eloq_request_segment *words(struct hostile *h)
{
	return h->raw.req_base;
}

static const struct eloq_answer_segment *answers(const struct hostile *h)
{
	return h->raw.ans_base;
}

/* --- Lies about framing: the lane is closed ------------------------------------------------------
 */

static void assert_bad_tail(struct hostile *h, uint64_t tail)
{
	atomic_store(&words(h)->req_tail, tail);
	raw_ring(&h->raw);
	ck_assert_int_eq(raw_wait_closed(&h->raw), ELOQ_LANE_REASON_BAD_POSITION);
	hostile_assert_harmless(h);
	hostile_reopen(h);
}

TEST_ON_BOTH(positions_beyond_the_ring_backwards_or_unaligned_close_the_lane)
{
	struct hostile h;
	struct eloq_request request;

	hostile_start(&h, io);
	assert_bad_tail(&h, h.raw.req_ring_bytes + 8);
	assert_bad_tail(&h, UINT64_MAX - 7);
	assert_bad_tail(&h, 12);
	request = raw_request(&h.raw, ELOQ_OP_PING);
	ck_assert_uint_eq(raw_call(&h.raw, &request, NULL, NULL), ELOQ_STATUS_OK);
	assert_bad_tail(&h, 0);
	hostile_stop(&h);
}

/* The worker looks at it when it wants room: more answers than the ring holds have to be taken. */
TEST_ON_BOTH(taking_answers_that_were_never_given_closes_the_lane)
{
	struct hostile h;

	hostile_start(&h, io);
	atomic_store(&words(&h)->ans_head, UINT64_C(1) << 40);
	while (atomic_load(&answers(&h)->state) != ELOQ_LANE_CLOSED) {
		struct eloq_request request = raw_request(&h.raw, ELOQ_OP_PING);

		if (eloq_lane_client_put(&h.raw.lane, &request, NULL, NULL) == 0)
			eloq_lane_client_publish(&h.raw.lane);
		else
			daemon_sleep_ms(1);
	}
	ck_assert_int_eq(raw_wait_closed(&h.raw), ELOQ_LANE_REASON_BAD_POSITION);
	hostile_stop(&h);
}

/* Writes a raw record of @bytes bytes at the ring's start, published as @published bytes. */
static void assert_bad_record(struct hostile *h, const void *record, size_t bytes,
			      uint64_t published, enum eloq_lane_reason reason)
{
	memcpy((uint8_t *)h->raw.req_base + ELOQ_SEGMENT_HEADER_BYTES, record, bytes);
	atomic_store(&words(h)->req_tail, published);
	raw_ring(&h->raw);
	ck_assert_int_eq(raw_wait_closed(&h->raw), reason);
	hostile_assert_harmless(h);
	hostile_reopen(h);
}

/* The bytes that the library would write for a request with a key of one byte. */
static void encode(struct hostile *h, struct eloq_request *request, uint8_t *record)
{
	memset(record, 0, 128);
	*request = raw_request(&h->raw, ELOQ_OP_GET);
	request->key_bytes = 1;
	*eloq_request_encode(record, request) = 'k';
}

TEST_ON_BOTH(records_whose_lengths_do_not_add_up_close_the_lane)
{
	struct hostile h;
	struct eloq_request request;
	uint8_t record[128];

	hostile_start(&h, io);
	memset(record, 0, sizeof(record));
	assert_bad_record(&h, record, sizeof(record), 64, ELOQ_LANE_REASON_BAD_RECORD);
	memset(record, 0xff, sizeof(record));
	assert_bad_record(&h, record, sizeof(record), 128, ELOQ_LANE_REASON_BAD_RECORD);
	/* Published is less than the record says. */
	encode(&h, &request, record);
	assert_bad_record(&h, record, sizeof(record), eloq_request_bytes(&request) - 8,
			  ELOQ_LANE_REASON_BAD_RECORD);
	/* A value of 3 GiB in a record of 40 bytes. */
	encode(&h, &request, record);
	memset(record + 28, 0xc0, sizeof(uint32_t)); /* the value's length */
	assert_bad_record(&h, record, sizeof(record), 40, ELOQ_LANE_REASON_BAD_RECORD);
	hostile_stop(&h);
}

TEST_ON_BOTH(ids_that_do_not_grow_close_the_lane)
{
	struct hostile h;
	struct eloq_request request;

	hostile_start(&h, io);
	request = raw_request(&h.raw, ELOQ_OP_PING);
	ck_assert_uint_eq(raw_call(&h.raw, &request, NULL, NULL), ELOQ_STATUS_OK);
	raw_publish(&h.raw, &request, NULL, NULL);
	ck_assert_int_eq(raw_wait_closed(&h.raw), ELOQ_LANE_REASON_BAD_ID);
	hostile_assert_harmless(&h);
	hostile_reopen(&h);
	/* Far more unanswered than may be. */
	request = raw_request(&h.raw, ELOQ_OP_PING);
	request.id += UINT64_C(2) << 20;
	raw_publish(&h.raw, &request, NULL, NULL);
	ck_assert_int_eq(raw_wait_closed(&h.raw), ELOQ_LANE_REASON_BAD_ID);
	ck_assert_uint_ge(daemon_stat(&h.s.daemon, "total", "lanes_closed_for_lies"), 2);
	hostile_stop(&h);
}

/* --- Well framed, but impossible: refused, and the lane lives on ---------------------------------
 */

static void assert_refused(struct hostile *h, const struct eloq_request *request, const char *key,
			   unsigned status)
{
	struct eloq_request ping;

	ck_assert_uint_eq(raw_call(&h->raw, request, key, NULL), status);
	ping = raw_request(&h->raw, ELOQ_OP_PING);
	ck_assert_uint_eq(raw_call(&h->raw, &ping, NULL, NULL), ELOQ_STATUS_OK);
}

TEST_ON_BOTH(unknown_operations_flags_tables_and_partitions_are_refused_by_name)
{
	struct hostile h;
	struct eloq_request request;

	hostile_start(&h, io);
	request = raw_request(&h.raw, ELOQ_OP_PING);
	request.op = 200;
	assert_refused(&h, &request, NULL, ELOQ_STATUS_UNSUPPORTED);
	request = raw_request(&h.raw, ELOQ_OP_GET);
	request.flags = 1u << 13;
	request.key_bytes = 1;
	assert_refused(&h, &request, "k", ELOQ_STATUS_UNSUPPORTED);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.flags = ELOQ_REQ_EXPIRY;
	request.key_bytes = 1;
	assert_refused(&h, &request, "k", ELOQ_STATUS_UNSUPPORTED);
	request = raw_request(&h.raw, ELOQ_OP_GET);
	request.table = 12345;
	request.key_bytes = 1;
	assert_refused(&h, &request, "k", ELOQ_STATUS_NO_TABLE);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.partition = SERVICE_PARTITIONS;
	request.key_bytes = 1;
	assert_refused(&h, &request, "k", ELOQ_STATUS_INVALID);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	assert_refused(&h, &request, NULL, ELOQ_STATUS_INVALID);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.key_bytes = 1;
	request.flags = ELOQ_REQ_TIMESTAMP;
	request.words[ELOQ_WORD_TIMESTAMP] = UINT64_MAX;
	assert_refused(&h, &request, "k", ELOQ_STATUS_INVALID);
	hostile_stop(&h);
}

/* Both are answers or a closed lane, as the worker sees fit: never a read beyond the memory. */
static void assert_bulk_refused(struct hostile *h, struct eloq_request *request)
{
	struct raw_client *raw = &h->raw;
	struct eloq_answer answer;
	const uint8_t *key, *value;
	uint32_t reason;

	raw_publish(raw, request, "k", NULL);
	for (;;) {
		if (eloq_lane_client_take(&raw->lane, &answer, &key, &value) == 1) {
			ck_assert_uint_ne(answer.status, ELOQ_STATUS_OK);
			eloq_lane_client_done(&raw->lane);
			break;
		}
		if (eloq_lane_client_step(&raw->lane, &reason) == ELOQ_LANE_EVENT_CLOSED) {
			ck_assert_uint_eq(reason, ELOQ_LANE_REASON_BAD_BULK);
			break;
		}
		daemon_sleep_ms(1);
	}
	hostile_assert_harmless(h);
	hostile_reopen(h);
}

TEST_ON_BOTH(bulk_memory_that_is_not_there_or_too_small_is_refused)
{
	struct hostile h;
	struct eloq_request request;
	void *base;

	hostile_start(&h, io);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.key_bytes = 1;
	request.value_bytes = 100000;
	request.flags = ELOQ_REQ_UP_BULK;
	request.words[ELOQ_WORD_UP_BULK] = 77;
	assert_bulk_refused(&h, &request);
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.key_bytes = 1;
	request.value_bytes = 4097;
	request.flags = ELOQ_REQ_UP_BULK;
	request.words[ELOQ_WORD_UP_BULK] = raw_bulk(&h.raw, ELOQ_BULK_UP, 4096, &base);
	assert_bulk_refused(&h, &request);
	eloq_segment_unmap(base, 4096);
	/* Memory of the wrong direction. */
	request = raw_request(&h.raw, ELOQ_OP_PUT);
	request.key_bytes = 1;
	request.value_bytes = 100;
	request.flags = ELOQ_REQ_UP_BULK;
	request.words[ELOQ_WORD_UP_BULK] = raw_bulk(&h.raw, ELOQ_BULK_DOWN, 4096, &base);
	assert_bulk_refused(&h, &request);
	eloq_segment_unmap(base, 4096);
	hostile_stop(&h);
}

/* --- Memory that moves under the worker ----------------------------------------------------------
 */

struct scribbler {
	struct hostile *h;
	void *bulk;
	size_t bulk_bytes;
	_Atomic bool stop;
};

static void *scribble(void *arg)
{
	struct scribbler *scribbler = arg;
	uint8_t *ring = (uint8_t *)scribbler->h->raw.req_base + ELOQ_SEGMENT_HEADER_BYTES;
	uint8_t byte = 0;

	while (!atomic_load(&scribbler->stop)) {
		for (size_t i = 0; i < 4096; i += 4)
			ring[i] ^= ++byte;
		memset(scribbler->bulk, byte, scribbler->bulk_bytes);
	}
	return NULL;
}

/* Whatever the worker reads there, it reads once: it answers or closes, again and again. */
TEST_ON_BOTH(memory_rewritten_after_publishing_hurts_only_its_writer)
{
	struct hostile h;
	enum { BULK = 1 << 20, ROUNDS = 40 };

	hostile_start(&h, io);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct scribbler scribbler = { .h = &h, .bulk_bytes = BULK };
		uint32_t bulk = raw_bulk(&h.raw, ELOQ_BULK_UP, BULK, &scribbler.bulk);
		pthread_t thread;

		ck_assert_int_eq(pthread_create(&thread, NULL, scribble, &scribbler), 0);
		for (unsigned i = 0; i < 20; i++) {
			struct eloq_request request = raw_request(&h.raw, ELOQ_OP_PUT);

			request.key_bytes = 1;
			request.value_bytes = i % 2 ? BULK : 64;
			if (i % 2) {
				request.flags = ELOQ_REQ_UP_BULK;
				request.words[ELOQ_WORD_UP_BULK] = bulk;
			}
			request.partition = 1;
			if (eloq_lane_client_put(&h.raw.lane, &request, "x", scribbler.bulk) < 0)
				break;
			eloq_lane_client_publish(&h.raw.lane);
		}
		raw_ring(&h.raw);
		service_expect_text(&h.s, "honest", "value");
		atomic_store(&scribbler.stop, true);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		eloq_segment_unmap(scribbler.bulk, BULK);
		hostile_reopen(&h);
	}
	hostile_stop(&h);
}

/* --- Not a lie, only a nuisance ------------------------------------------------------------------
 */

TEST_ON_BOTH(a_client_that_never_takes_its_answers_holds_up_nobody)
{
	struct hostile h;
	unsigned published = 0;

	hostile_start(&h, io);
	for (unsigned quiet = 0; quiet < 20;) {
		struct eloq_request request = raw_request(&h.raw, ELOQ_OP_GET);

		request.key_bytes = 6;
		request.answered_below = 1;
		if (eloq_lane_client_put(&h.raw.lane, &request, "honest", NULL) < 0) {
			quiet++;
			daemon_sleep_ms(5);
			continue;
		}
		eloq_lane_client_publish(&h.raw.lane);
		published++;
		quiet = 0;
	}
	ck_assert_uint_gt(published, 100);
	for (unsigned i = 0; i < 200; i++)
		service_put_text(&h.s, "busy", "beside");
	ck_assert_uint_ne(atomic_load(&answers(&h)->state), ELOQ_LANE_CLOSED);
	hostile_stop(&h);
}

TEST_ON_BOTH(a_full_doorbell_that_blocks_blocks_no_worker)
{
	struct hostile h;
	struct eloq_request request;
	eventfd_t count;
	int flags;

	hostile_start(&h, io);
	(void)eventfd_read(h.raw.doorbell, &count);
	ck_assert_int_eq(eventfd_write(h.raw.doorbell, UINT64_MAX - 1), 0);
	flags = fcntl(h.raw.doorbell, F_GETFL);
	ck_assert_int_eq(fcntl(h.raw.doorbell, F_SETFL, flags & ~O_NONBLOCK), 0);
	hostile_assert_harmless(&h);
	/* Its own requests are found by the sweeps that others cause. */
	request = raw_request(&h.raw, ELOQ_OP_PING);
	ck_assert_int_eq(eloq_lane_client_put(&h.raw.lane, &request, NULL, NULL), 0);
	atomic_store(&words(&h)->req_tail, h.raw.lane.req_tail);
	h.raw.lane.req_published = h.raw.lane.req_tail;
	for (unsigned i = 0; !eloq_lane_client_has_news(&h.raw.lane); i++) {
		ck_assert_uint_lt(i, 10000);
		service_put_text(&h.s, "busy", "beside");
	}
	hostile_stop(&h);
}

struct ringer {
	struct hostile *h;
	_Atomic bool stop;
	_Atomic uint64_t rings;
};

static void *ring_for_ever(void *arg)
{
	struct ringer *ringer = arg;
	uint64_t count;

	while (!atomic_load(&ringer->stop)) {
		if (eventfd_write(ringer->h->raw.doorbell, 1) < 0)
			(void)eventfd_read(ringer->h->raw.doorbell, &count);
		atomic_fetch_add(&ringer->rings, 1);
	}
	return NULL;
}

TEST_ON_BOTH(a_doorbell_that_never_stops_ringing_disturbs_nobody)
{
	struct hostile h;
	struct ringer ringer = { .h = &h };
	struct eloq_request request;
	pthread_t thread;

	hostile_start(&h, io);
	ck_assert_int_eq(pthread_create(&thread, NULL, ring_for_ever, &ringer), 0);
	for (unsigned i = 0; i < 300; i++)
		service_put_text(&h.s, "busy", "beside");
	/* Also the ringer itself is served: its lane is looked at by timer. */
	request = raw_request(&h.raw, ELOQ_OP_PING);
	ck_assert_uint_eq(raw_call(&h.raw, &request, NULL, NULL), ELOQ_STATUS_OK);
	atomic_store(&ringer.stop, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_gt(atomic_load(&ringer.rings), 1000);
	hostile_stop(&h);
}

/* --- What a client holds -------------------------------------------------------------------------
 */

static void assert_sealed(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	ck_assert_int_ge(seals, 0);
	ck_assert_int_eq(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_lt(ftruncate(fd, 0), 0);
	ck_assert_int_lt(ftruncate(fd, st.st_size * 2), 0);
	ck_assert_int_lt(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
}

static void assert_read_only(int fd)
{
	char path[64];

	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_lt(pwrite(fd, "x", 1, 0), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	/* Only the owner may open it anew for writing: its mode keeps other users out. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (geteuid() == 0) {
		ck_assert_int_eq(seteuid(65534), 0);
		ck_assert_int_lt(open(path, O_RDWR | O_CLOEXEC), 0);
		ck_assert_int_eq(seteuid(0), 0);
	}
}

TEST(segments_are_sealed_private_and_not_writable_for_their_reader)
{
	struct hostile h;
	struct raw_client *raw = &h.raw;

	hostile_start(&h, "pool");
	assert_sealed(raw->req_fd);
	assert_sealed(raw->ans_fd);
	assert_sealed(raw->page_fds[0]);
	assert_read_only(raw->ans_fd);
	assert_read_only(raw->page_fds[0]);
	hostile_stop(&h);
}
