/*
 * session_test.c - clients at the control socket: what they get, what they are refused, and that
 * none of them can hurt another.
 */
#include "daemon/options.h"
#include "daemon/supervisor/supervisor.h"
#include "tests/support/test.h"
#include "tests/unit/supervisor_world.h"

#include <sys/mman.h>

static void check_error(unsigned type, uint32_t code, const char *words)
{
	uint32_t got;
	const char *text = world_error(&got);

	ck_assert_uint_eq(type, ELOQ_CONTROL_ERROR);
	ck_assert_msg(got == code, "code %u: %s", got, text);
	ck_assert_msg(strstr(text, words), "\"%s\" does not say \"%s\"", text, words);
}

static int start_and_greet(struct world *world, const char *const *args)
{
	world_new(world);
	world_start(world, args);
	return world_hello(world);
}

static unsigned ask_bulk(int socket, uint32_t channel, uint32_t direction, uint64_t bytes)
{
	struct eloq_msg_bulk_open open = { .channel = channel,
					   .direction = direction,
					   .bytes = bytes };

	return WORLD_ASK(socket, open, BULK_OPEN);
}

/* True if the descriptor can be mapped for writing. */
static bool is_writable(int fd, size_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return false;
	(void)munmap(base, bytes);
	return true;
}

TEST(a_client_gets_pages_lanes_and_bulk_it_may_write_only_where_it_should)
{
	struct eloq_msg_bulk_close close_bulk = { .bulk = 1 };
	struct eloq_msg_channel_close close_channel = { 0 };
	const struct eloq_msg_lane *lane = WORLD_ANSWER(eloq_msg_lane);
	struct world world;
	uint32_t channel;
	int socket;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	ck_assert_uint_eq(world_fd_count, 1);
	ck_assert(!is_writable(world_fds[0], ELOQ_WORKER_PAGE_BYTES));
	channel = world_channel(socket);
	ck_assert_uint_eq(world_lane(socket, channel, 0), ELOQ_CONTROL_LANE);
	ck_assert_uint_eq(world_fd_count, 3);
	ck_assert_uint_eq(lane->req_ring_bytes, ELOQ_REQ_RING_BYTES_DEFAULT);
	ck_assert_uint_eq(lane->ans_ring_bytes, ELOQ_ANS_RING_BYTES_DEFAULT);
	ck_assert(is_writable(world_fds[0], ELOQ_SEGMENT_HEADER_BYTES));
	ck_assert(!is_writable(world_fds[1], ELOQ_SEGMENT_HEADER_BYTES));
	check_error(world_lane(socket, channel, 0), ELOQ_CONTROL_CODE_EXISTS, "has a lane");
	ck_assert_uint_eq(ask_bulk(socket, channel, ELOQ_BULK_UP, 5000), ELOQ_CONTROL_BULK);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_bulk)->bytes, 8192);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_bulk)->bulk, 1);
	ck_assert(is_writable(world_fds[0], 8192));
	ck_assert_uint_eq(ask_bulk(socket, channel, ELOQ_BULK_DOWN, 4096), ELOQ_CONTROL_BULK);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_bulk)->bulk, 2);
	ck_assert(!is_writable(world_fds[0], 4096));
	/* Page and wal/, a store path, three of the lane, two of bulk. */
	ck_assert_uint_eq(world_stat(socket, "puts", 0), 2 + 1 + 3 + 2);
	ck_assert_uint_eq(world_stat(socket, "batches", 0), 2);
	close_bulk.channel = channel;
	ck_assert_uint_eq(WORLD_ASK(socket, close_bulk, BULK_CLOSE), ELOQ_CONTROL_DONE);
	check_error(WORLD_ASK(socket, close_bulk, BULK_CLOSE), ELOQ_CONTROL_CODE_NOT_FOUND, "bulk");
	ck_assert_uint_eq(world_stat(socket, "batches", 0), 1);
	close_channel.channel = channel;
	ck_assert_uint_eq(WORLD_ASK(socket, close_channel, CHANNEL_CLOSE), ELOQ_CONTROL_DONE);
	world_expect_stat(socket, "lane_memory", 0, 0);
	ck_assert_uint_ne(world_channel(socket), channel);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(memory_that_a_client_gave_up_but_still_holds_is_emptied)
{
	struct eloq_msg_bulk_close close_bulk = { .bulk = 1 };
	struct world world;
	struct stat st;
	uint32_t channel;
	int socket, kept;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	channel = world_channel(socket);
	ck_assert_uint_eq(world_lane(socket, channel, 0), ELOQ_CONTROL_LANE);
	ck_assert_uint_eq(ask_bulk(socket, channel, ELOQ_BULK_UP, 1 << 20), ELOQ_CONTROL_BULK);
	kept = eloq_fd_take(&world_fds[0]);
	ck_assert_int_eq(fstat(kept, &st), 0);
	ck_assert_int_eq(st.st_blocks, (1 << 20) / 512);
	close_bulk.channel = channel;
	ck_assert_uint_eq(WORLD_ASK(socket, close_bulk, BULK_CLOSE), ELOQ_CONTROL_DONE);
	world_expect_stat(socket, "lane_memory", 0, (4096 + 32768) + (4096 + 65536));
	ck_assert_int_eq(fstat(kept, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
	ck_assert_int_eq(st.st_size, 1 << 20);
	eloq_fd_close(kept);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(beyond_a_bound_the_answer_is_too_many_and_names_it)
{
	struct world world;
	uint32_t channel = 0;
	unsigned type, lanes = 0;
	int socket, other;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1", "--lane_memory", "1MB"));
	do {
		channel = world_channel(socket);
		type = world_lane(socket, channel, 0);
		lanes += type == ELOQ_CONTROL_LANE;
	} while (type == ELOQ_CONTROL_LANE);
	check_error(type, ELOQ_CONTROL_CODE_TOO_MANY, "lane_memory");
	ck_assert_uint_eq(lanes, (1 << 20) / (2 * 4096 + 32768 + 65536));
	check_error(ask_bulk(socket, channel, ELOQ_BULK_UP, 1), ELOQ_CONTROL_CODE_NOT_FOUND,
		    "no lane");
	check_error(ask_bulk(socket, 0, ELOQ_BULK_UP, UINT64_MAX), ELOQ_CONTROL_CODE_TOO_MANY,
		    "lane_memory");
	check_error(ask_bulk(socket, 0, 2, 4096), ELOQ_CONTROL_CODE_INVALID, "direction");
	for (unsigned i = lanes + 1; i < ELOQ_CHANNELS_PER_CLIENT_MAX; i++)
		(void)world_channel(socket);
	{
		struct eloq_msg_channel_open open = { 0 };

		check_error(WORLD_ASK(socket, open, CHANNEL_OPEN), ELOQ_CONTROL_CODE_TOO_MANY,
			    "256 channels");
	}
	/* What one client holds comes back when it leaves. */
	eloq_fd_close(socket);
	other = world_hello(&world);
	world_expect_stat(other, "lane_memory", 0, 0);
	world_expect_stat(other, "lanes", 2, 0);
	ck_assert_uint_eq(world_lane(other, world_channel(other), 0), ELOQ_CONTROL_LANE);
	for (unsigned i = 0; i < ELOQ_BULKS_PER_LANE_MAX; i++)
		ck_assert_uint_eq(ask_bulk(other, 0, ELOQ_BULK_UP, 4096), ELOQ_CONTROL_BULK);
	check_error(ask_bulk(other, 0, ELOQ_BULK_UP, 4096), ELOQ_CONTROL_CODE_TOO_MANY,
		    "16 pieces");
	eloq_fd_close(other);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(other_versions_are_refused_by_name)
{
	struct eloq_msg_hello hello = { .layout_version = ELOQ_LAYOUT_VERSION + 1 };
	struct world world;
	int socket;

	eloq_fd_close(start_and_greet(&world, WORLD_ARGS("--num_threads", "1")));
	socket = world_connect(&world);
	check_error(WORLD_ASK(socket, hello, HELLO), ELOQ_CONTROL_CODE_VERSION,
		    "layout version 2, the daemon version 1");
	ck_assert_uint_eq(world_receive(socket), 0); /* and disconnected */
	eloq_fd_close(socket);
	socket = world_connect(&world);
	eloq_control_init(&hello, ELOQ_CONTROL_HELLO, sizeof(hello), 5);
	hello.header.version = ELOQ_CONTROL_VERSION + 1;
	ck_assert_int_eq(send(socket, &hello, sizeof(hello), 0), (ssize_t)sizeof(hello));
	check_error(world_receive(socket), ELOQ_CONTROL_CODE_VERSION,
		    "version 2 of the protocol, the daemon version 1");
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_error)->header.seq, 5);
	ck_assert_uint_eq(world_receive(socket), 0);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(who_breaks_the_protocol_is_told_and_let_go)
{
	struct eloq_msg_channel_open open = { 0 };
	struct eloq_msg_w_plain stop = { 0 };
	struct eloq_msg_hello hello = { .layout_version = ELOQ_LAYOUT_VERSION };
	struct world world;
	int socket, good;

	good = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	socket = world_connect(&world);
	check_error(WORLD_ASK(socket, open, CHANNEL_OPEN), ELOQ_CONTROL_CODE_PROTOCOL, "HELLO");
	ck_assert_uint_eq(world_receive(socket), 0);
	eloq_fd_close(socket);
	socket = world_hello(&world);
	check_error(WORLD_ASK(socket, stop, W_STOP), ELOQ_CONTROL_CODE_PROTOCOL, "not a request");
	ck_assert_uint_eq(world_receive(socket), 0);
	eloq_fd_close(socket);
	socket = world_hello(&world);
	check_error(WORLD_ASK(socket, hello, HELLO), ELOQ_CONTROL_CODE_PROTOCOL, "second HELLO");
	eloq_fd_close(socket);
	socket = world_hello(&world);
	ck_assert_int_eq(send(socket, "nonsense", 8, 0), 8);
	check_error(world_receive(socket), ELOQ_CONTROL_CODE_PROTOCOL, "malformed");
	ck_assert_uint_eq(world_receive(socket), 0);
	eloq_fd_close(socket);
	(void)world_channel(good); /* nobody else noticed */
	eloq_fd_close(good);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(descriptors_of_clients_are_never_received)
{
	struct eloq_msg_channel_open open = { 0 };
	struct world world;
	int socket, ends[2];
	char byte;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	eloq_control_init(&open, ELOQ_CONTROL_CHANNEL_OPEN, sizeof(open), 1);
	ck_assert_int_eq(eloq_control_send(socket, &open, NULL, 0, &ends[1], 1), 0);
	ck_assert_uint_eq(world_receive(socket), ELOQ_CONTROL_CHANNEL);
	eloq_fd_close(ends[1]);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0); /* nobody else holds the other end */
	eloq_fd_close(ends[0]);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_client_that_floods_and_never_reads_waits_for_itself)
{
	struct eloq_msg_look look = { .what = ELOQ_LOOK_CONFIG };
	struct world world;
	int flood, other, sent = 0, r = 0;

	flood = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	other = world_hello(&world);
	ck_assert_int_eq(fcntl(flood, F_SETFL, O_NONBLOCK), 0);
	eloq_control_init(&look, ELOQ_CONTROL_LOOK, sizeof(look), 1);
	for (int quiet = 0; quiet < 20;) {
		r = eloq_control_send(flood, &look, NULL, 0, NULL, 0);
		if (r == 0) {
			sent++;
			quiet = 0;
		} else {
			ck_assert_int_eq(r, -EAGAIN);
			quiet++;
			(void)poll(NULL, 0, 5);
		}
	}
	ck_assert_int_gt(sent, 10);
	(void)world_channel(other); /* is served meanwhile */
	ck_assert_ptr_nonnull(strstr(world_look(other, ELOQ_LOOK_PING), "\"ready\":true"));
	/* It gets every answer once it reads. */
	ck_assert_int_eq(fcntl(flood, F_SETFL, 0), 0);
	for (int texts = 0; texts < sent;) {
		ck_assert_uint_eq(world_receive(flood), ELOQ_CONTROL_TEXT);
		texts += !WORLD_ANSWER(eloq_msg_text)->more;
	}
	eloq_fd_close(flood);
	eloq_fd_close(other);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(tables_are_made_found_listed_and_dropped)
{
	const struct eloq_msg_table *table = WORLD_ANSWER(eloq_msg_table);
	struct world world;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 2];
	int socket;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "2"));
	for (unsigned i = 1; i <= 100; i++) {
		(void)snprintf(name, sizeof(name), "t%u", i);
		ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, name, i),
				  ELOQ_CONTROL_TABLE);
		ck_assert_uint_eq(table->table, i);
		/* Both workers knew it before we did. */
		if (i % 20 == 0)
			ck_assert_uint_eq(world_stat(socket, "gets", 2), 2 * i);
	}
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_DROP, "t50", 0),
			  ELOQ_CONTROL_DONE);
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_OPEN, "t50", 0),
		    ELOQ_CONTROL_CODE_NOT_FOUND, "t50");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_DROP, "t50", 0),
		    ELOQ_CONTROL_CODE_NOT_FOUND, "t50");
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_LIST, "", 0), ELOQ_CONTROL_TABLE);
	for (unsigned i = 1; i <= 100; i++) {
		if (i == 50)
			continue;
		ck_assert_uint_eq(table->header.type, ELOQ_CONTROL_TABLE);
		ck_assert_uint_eq(table->table, i);
		ck_assert_uint_eq(table->partitions, i);
		(void)world_receive(socket);
	}
	ck_assert_uint_eq(table->header.type, ELOQ_CONTROL_DONE);
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t1", 1),
		    ELOQ_CONTROL_CODE_EXISTS, "exists already");
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t50", 1),
			  ELOQ_CONTROL_TABLE);
	ck_assert_uint_eq(table->table, 101);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(names_that_are_no_names_are_refused)
{
	struct world world;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 2];
	int socket;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, name, 1),
		    ELOQ_CONTROL_CODE_TOO_LONG, "at most 200");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "", 1),
		    ELOQ_CONTROL_CODE_INVALID, "needs a name");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "a/b", 1),
		    ELOQ_CONTROL_CODE_INVALID, "'/'");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "a\nb", 1),
		    ELOQ_CONTROL_CODE_INVALID, "control");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "\xc3(", 1),
		    ELOQ_CONTROL_CODE_INVALID, "UTF-8");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t", 0),
		    ELOQ_CONTROL_CODE_INVALID, "1 to 65536");
	check_error(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t", 65537),
		    ELOQ_CONTROL_CODE_INVALID, "1 to 65536");
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "\xc3\xa4.b c", 1),
			  ELOQ_CONTROL_TABLE);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(figures_are_json_and_cover_every_worker)
{
	struct eloq_msg_look look = { .what = 99 };
	struct world world;
	const char *text;
	int socket;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "2", "--cpu_pinning", "off"));
	text = world_look(socket, ELOQ_LOOK_STAT);
	ck_assert_ptr_nonnull(strstr(text, "\"io_backend\":\"fake\""));
	ck_assert_ptr_nonnull(strstr(text, "\"state\":\"ready\""));
	ck_assert_ptr_nonnull(strstr(text, "\"cpu\":null"));
	ck_assert_ptr_nonnull(strstr(text, "\"total\":{\"requests_taken\":0,"));
	ck_assert_ptr_nonnull(strstr(world_look(socket, ELOQ_LOOK_CONFIG), "num_threads = 2"));
	check_error(WORLD_ASK(socket, look, LOOK), ELOQ_CONTROL_CODE_UNSUPPORTED, "nothing");
	/* A worker that does not answer shows as one without figures. */
	ck_assert_int_eq(kill((pid_t)world_stat(socket, "pid", 2), SIGSTOP), 0);
	text = world_look(socket, ELOQ_LOOK_STAT);
	ck_assert_ptr_nonnull(strstr(text, "\"figures\":null"));
	ck_assert_ptr_nonnull(strstr(text, "\"io_backend\":\"fake\""));
	ck_assert_int_eq(kill(world.pid, SIGKILL), 0);
	ck_assert_int_eq(world_wait(&world), 128 + SIGKILL);
	eloq_fd_close(socket);
}

TEST(while_stopping_requests_are_answered_stopped)
{
	struct eloq_msg_channel_open open = { 0 };
	struct world world;
	pid_t worker;
	int socket;

	socket = start_and_greet(&world, WORLD_ARGS("--num_threads", "1"));
	worker = (pid_t)world_stat(socket, "pid", 1);
	ck_assert_int_eq(kill(worker, SIGSTOP), 0);
	ck_assert_int_eq(kill(world.pid, SIGTERM), 0);
	while (access(world.socket, F_OK) == 0)
		(void)poll(NULL, 0, 5);
	check_error(WORLD_ASK(socket, open, CHANNEL_OPEN), ELOQ_CONTROL_CODE_STOPPED, "stopping");
	ck_assert_int_eq(kill(worker, SIGCONT), 0);
	ck_assert_int_eq(world_wait(&world), 0);
	ck_assert_uint_eq(world_receive(socket), 0);
	eloq_fd_close(socket);
}
