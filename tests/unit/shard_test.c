/*
 * shard_test.c - a worker alone, with the test as its supervisor and its client.
 */
#include "tests/unit/shard_world.h"

#include "daemon/shard/shard.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <sysexits.h>

static unsigned lane_state(const struct shard_world *w)
{
	const struct eloq_answer_segment *ans = w->ans_base;

	return atomic_load(&ans->state);
}

static unsigned count_directories(const struct shard_world *w)
{
	DIR *dir = opendir(w->root);
	const struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	(void)closedir(dir);
	return count;
}

TEST(a_worker_serves_and_leaves_when_it_is_told_to)
{
	struct shard_world w;
	char value[2048];

	world_open(&w);
	ck_assert_uint_eq(world_set(&w, "key", "value"), ELOQ_STATUS_OK);
	ck_assert_uint_eq(world_get(&w, "key", value), ELOQ_STATUS_OK);
	ck_assert_str_eq(value, "value");
	ck_assert_uint_eq(world_get(&w, "other", NULL), ELOQ_STATUS_NOT_FOUND);
	world_stop(&w);
	ck_assert_uint_eq(lane_state(&w), ELOQ_LANE_CLOSED);
	world_close(&w);
}

TEST(a_worker_refuses_what_it_must_not_do)
{
	struct shard_world w;
	struct eloq_request request;
	char words[2048];

	world_open(&w);
	ck_assert_uint_eq(world_set(&w, "key", "value"), ELOQ_STATUS_OK);
	/* To cut behind a key is a later version's: it must not become a truncate of everything. */
	request = world_request(&w, ELOQ_OP_TRUNCATE);
	request.key_bytes = 3;
	ck_assert_uint_eq(world_call(&w, &request, "kex", NULL, words), ELOQ_STATUS_UNSUPPORTED);
	ck_assert_uint_eq(world_get(&w, "key", NULL), ELOQ_STATUS_OK);
	/* Parameters as long as a value would take the memory of writes. */
	request = world_request(&w, ELOQ_OP_SCAN);
	request.flags = ELOQ_REQ_UP_BULK;
	request.value_bytes = ELOQ_VALUE_BYTES_MAX;
	ck_assert_uint_eq(world_call(&w, &request, NULL, NULL, words), ELOQ_STATUS_INVALID);
	request = world_request(&w, ELOQ_OP_GET);
	request.key_bytes = 1;
	request.table = WORLD_TABLE + 1;
	ck_assert_uint_eq(world_call(&w, &request, "k", NULL, words), ELOQ_STATUS_NO_TABLE);
	request = world_request(&w, ELOQ_OP_GET);
	request.key_bytes = 1;
	request.partition = WORLD_PARTITIONS;
	ck_assert_uint_eq(world_call(&w, &request, "k", NULL, words), ELOQ_STATUS_INVALID);
	world_stop(&w);
	world_close(&w);
}

/* What was published and not taken is dropped with the supervisor; all that was taken is answered.
 */
TEST(a_worker_without_supervisor_ends_what_it_took_and_leaves_by_itself)
{
	struct shard_world w;
	const struct eloq_answer_segment *ans;
	struct eloq_request request;
	const uint8_t *key_seen, *value_seen;
	struct eloq_answer answer;
	enum { PUTS = 200 };
	uint64_t ends[PUTS], taken_end;
	unsigned answered = 0, taken = 0;
	char key[16];

	world_open(&w);
	ans = w.ans_base;
	for (unsigned i = 0; i < PUTS; i++) {
		request = world_request(&w, ELOQ_OP_PUT);
		request.answered_below = 1;
		request.partition = i % WORLD_PARTITIONS;
		request.key_bytes = (uint16_t)snprintf(key, sizeof(key), "%04u", i);
		request.flags = ELOQ_REQ_INLINE_LIMIT;
		request.words[ELOQ_WORD_INLINE_LIMIT] = 64;
		ck_assert_int_eq(eloq_lane_client_put(&w.lane, &request, key, NULL), 0);
		ends[i] = w.lane.req_tail;
	}
	eloq_lane_client_publish(&w.lane);
	while (atomic_load(&ans->req_head) == 0)
		;
	(void)shutdown(w.socket, SHUT_RDWR);
	ck_assert_int_eq(world_wait_exit(&w), EX_UNAVAILABLE);
	while (eloq_lane_client_take(&w.lane, &answer, &key_seen, &value_seen) == 1) {
		ck_assert_uint_eq(answer.status, ELOQ_STATUS_OK);
		answered++;
	}
	taken_end = atomic_load(&ans->req_head);
	while (taken < PUTS && ends[taken] <= taken_end)
		taken++;
	ck_assert_uint_gt(taken, 0);
	ck_assert_uint_eq(answered, taken);
	/* All of it is on disk; the first ones were taken. */
	world_close_lane(&w);
	world_open_lane(&w);
	world_start(&w);
	world_resync(&w);
	for (unsigned i = 0; i < answered; i++) {
		request = world_request(&w, ELOQ_OP_GET);
		request.partition = i % WORLD_PARTITIONS;
		request.key_bytes = (uint16_t)snprintf(key, sizeof(key), "%04u", i);
		ck_assert_uint_eq(world_call(&w, &request, key, NULL, NULL), ELOQ_STATUS_OK);
	}
	world_stop(&w);
	world_close(&w);
}

TEST(lanes_of_a_worker_that_a_signal_ended_go_on_with_its_successor)
{
	struct shard_world w;
	char value[2048];

	world_open(&w);
	ck_assert_uint_eq(world_set(&w, "key", "value"), ELOQ_STATUS_OK);
	ck_assert_int_eq(kill(w.pid, SIGTERM), 0);
	ck_assert_uint_eq(world_hear(&w), ELOQ_CONTROL_W_STOPPED);
	ck_assert_int_eq(world_wait_exit(&w), 0);
	ck_assert_uint_eq(lane_state(&w), ELOQ_LANE_OPEN);
	world_start(&w);
	world_resync(&w);
	ck_assert_uint_eq(world_get(&w, "key", value), ELOQ_STATUS_OK);
	ck_assert_str_eq(value, "value");
	world_stop(&w);
	world_close(&w);
}

/* A directory left behind would come back as an adopted table. */
TEST(a_dropped_table_leaves_nothing_behind_although_writes_were_on_their_way)
{
	struct shard_world w;
	const struct eloq_answer_segment *ans;
	struct eloq_request request;
	uint64_t taken;

	world_open(&w);
	ans = w.ans_base;
	for (uint32_t table = 100; table < 120; table++) {
		world_send_table(&w, ELOQ_CONTROL_W_TABLE, table, "dropped");
		taken = atomic_load(&ans->req_head);
		for (unsigned i = 0; i < WORLD_PARTITIONS; i++) {
			request = world_request(&w, ELOQ_OP_PUT);
			request.answered_below = request.id - i;
			request.table = table;
			request.partition = i;
			request.key_bytes = 1;
			world_put(&w, &request, "k", NULL);
		}
		while (atomic_load(&ans->req_head) == taken)
			;
		world_send_table(&w, ELOQ_CONTROL_W_TABLE_DROP, table, "dropped");
		/* Asked twice, as by a supervisor whose other worker had failed. */
		world_send_table(&w, ELOQ_CONTROL_W_TABLE_DROP, table, "dropped");
		ck_assert_uint_eq(world_hear(&w), ELOQ_CONTROL_W_REPLY);
		ck_assert_uint_eq(world_code(&w), ELOQ_CONTROL_CODE_OK);
		ck_assert_uint_eq(count_directories(&w), 0);
		for (unsigned i = 0; i < WORLD_PARTITIONS; i++) {
			unsigned status = world_take(&w, NULL).status;

			ck_assert(status == ELOQ_STATUS_OK || status == ELOQ_STATUS_NO_TABLE);
		}
	}
	world_say(&w, ELOQ_CONTROL_W_STOP);
	while (world_hear(&w) != ELOQ_CONTROL_W_STOPPED)
		;
	ck_assert_int_eq(world_wait_exit(&w), 0);
	world_close(&w);
}

/* Stop the worker while it looks for the next request, which it does for a moment after each. */
static void freeze(struct shard_world *w)
{
	struct eloq_request ping = world_request(w, ELOQ_OP_PING);
	const uint8_t *key_seen, *value_seen;
	struct eloq_answer answer;
	int status;

	world_put(w, &ping, NULL, NULL);
	while (eloq_lane_client_take(&w->lane, &answer, &key_seen, &value_seen) == 0)
		;
	eloq_lane_client_done(&w->lane);
	ck_assert_int_eq(kill(w->pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(w->pid, &status, WUNTRACED), w->pid);
	ck_assert(WIFSTOPPED(status));
}

static void lane_gone(struct shard_world *w)
{
	struct eloq_msg_w_lane_end msg = { .lane = w->lane_number };

	world_send(w, &msg, ELOQ_CONTROL_W_LANE_GONE, sizeof(msg), NULL, NULL, 0);
}

/*
 * A table that is not known makes the worker read its socket, where it stands that the client of
 * this very request is gone. It must see the request before the messages: so it is stopped, many
 * times, anywhere in its turn.
 */
TEST(a_client_that_goes_while_its_request_is_judged_hurts_nobody)
{
	struct shard_world w;
	struct eloq_request request;
	char name[16];

	world_open(&w);
	for (uint32_t i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof(name), "t%u", i);
		freeze(&w);
		request = world_request(&w, ELOQ_OP_PUT);
		request.key_bytes = 1;
		request.table = 100 + i;
		world_send_table(&w, ELOQ_CONTROL_W_TABLE, 100 + i, name);
		lane_gone(&w);
		world_put(&w, &request, "k", NULL);
		ck_assert_int_eq(kill(w.pid, SIGCONT), 0);
		world_close_lane(&w);
		world_open_lane(&w);
		world_send_lane(&w);
		world_resync(&w);
	}
	world_stop(&w);
	world_close(&w);
}
