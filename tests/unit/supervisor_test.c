/*
 * supervisor_test.c - the supervisor's life: locks, workers that die or hang, STORE over restarts.
 */
#include "daemon/supervisor/supervisor.h"

#include "common/checksum.h"
#include "common/coding.h"
#include "daemon/options.h"
#include "tests/support/test.h"
#include "tests/unit/supervisor_world.h"

#include <sysexits.h>

static char said[65536];

static void check_refused(struct world *world, const char *const *args, int code, const char *words)
{
	int exit_code = world_refused(world, args, said, sizeof(said));

	ck_assert_msg(exit_code == code, "exit %d: %s", exit_code, said);
	ck_assert_msg(strstr(said, words), "\"%s\" does not say \"%s\"", said, words);
}

static pid_t worker_pid(int socket, unsigned shard)
{
	/* The first pid is the supervisor's. */
	return (pid_t)world_stat(socket, "pid", shard + 1);
}

TEST(a_clean_stop_exits_with_0_and_removes_the_socket)
{
	struct world world;
	struct stat st;
	int socket;

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	socket = world_hello(&world);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_welcome)->shard_count, 2);
	ck_assert_uint_eq(world_fd_count, 2);
	ck_assert_int_eq(stat(world.data, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert_int_eq(stat(world.socket, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	world_close_fds();
	ck_assert_int_eq(world_stop(&world), 0);
	ck_assert_int_lt(stat(world.socket, &st), 0);
	eloq_fd_close(socket);
}

TEST(a_signal_while_workers_start_stops_cleanly)
{
	struct world world;
	char store[600];

	world_new(&world);
	(void)snprintf(store, sizeof(store), "%s/STORE", world.data);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	while (access(store, F_OK) != 0)
		(void)poll(NULL, 0, 1);
	ck_assert_int_eq(world_stop(&world), 0);
	/* Nor does the next start find anything in its way. */
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	eloq_fd_close(world_hello(&world));
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_socket_that_another_daemon_listens_at_is_not_taken)
{
	struct world world, second;
	int socket;

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	eloq_fd_close(world_connect(&world));
	world_new(&second);
	check_refused(&second, WORLD_ARGS("--socket", world.socket), EX_CANTCREAT,
		      "Address already in use");
	socket = world_hello(&world);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_second_daemon_is_refused_and_names_the_first)
{
	struct world world, second;
	char words[64];

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	eloq_fd_close(world_connect(&world));
	second = world;
	(void)snprintf(words, sizeof(words), "pid %d", (int)world.pid);
	check_refused(&second, WORLD_ARGS("--num_threads", "1"), EX_TEMPFAIL, words);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_store_path_is_served_by_one_daemon_only)
{
	struct world world, second;
	char path[600];

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	eloq_fd_close(world_connect(&world));
	world_new(&second);
	(void)snprintf(path, sizeof(path), "%s/data", world.data);
	check_refused(&second, WORLD_ARGS("--store_path", path), EX_TEMPFAIL,
		      "in use by another daemon");
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_killed_worker_is_replaced_and_its_lanes_are_handed_over)
{
	struct world world;
	uint32_t channel;
	int socket;

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	socket = world_hello(&world);
	channel = world_channel(socket);
	ck_assert_uint_eq(world_lane(socket, channel, 0), ELOQ_CONTROL_LANE);
	ck_assert_uint_eq(world_lane(socket, channel, 1), ELOQ_CONTROL_LANE);
	for (uint64_t deaths = 1; deaths <= 3; deaths++) {
		pid_t pid = worker_pid(socket, 1);

		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		world_expect_stat(socket, "restarts", 2, deaths);  /* 0: all, 1, 2: each */
		world_expect_stat(socket, "turns", 1, 2 + deaths); /* its incarnation */
		/* The successor has the lane: total, shard 0, its count, shard 1, its count. */
		world_expect_stat(socket, "lanes", 4, 1);
		ck_assert_int_ne(worker_pid(socket, 1), pid);
	}
	ck_assert_uint_eq(world_stat(socket, "restarts", 1), 0);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_worker_that_hangs_is_killed_and_replaced)
{
	struct world world;
	char hang[600];
	int socket;

	world_new(&world);
	(void)snprintf(hang, sizeof(hang), "%s.hang", world.data);
	world_touch(hang);
	ck_assert_int_eq(setenv("FAKE_HANG", hang, 1), 0);
	world_start(&world, WORLD_ARGS("--num_threads", "1", "--heartbeat_timeout", "600ms"));
	socket = world_hello(&world);
	world_expect_stat(socket, "restarts", 0, 1);
	world_expect_stat(socket, "restarts", 0, 2);
	ck_assert_int_eq(unlink(hang), 0);
	world_expect_stat(socket, "incarnation", 0, 3);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_shard_that_cannot_start_does_not_keep_the_others_from_serving)
{
	struct world world;
	uint32_t channel;
	int socket;

	world_new(&world);
	ck_assert_int_eq(setenv("FAKE_FAIL", "1", 1), 0);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	socket = world_hello(&world);
	channel = world_channel(socket);
	ck_assert_uint_eq(world_lane(socket, channel, 0), ELOQ_CONTROL_LANE);
	world_expect_stat(socket, "lanes", 2, 1);
	ck_assert_ptr_nonnull(strstr(world_look(socket, ELOQ_LOOK_PING), "\"ready\":false"));
	while (world_stat(socket, "restarts", 2) < 4)
		(void)poll(NULL, 0, 10);
	eloq_fd_close(socket);
	/* Shard 0 stops cleanly; shard 1 may be caught at any point of its short lives. */
	(void)world_stop(&world);
}

TEST(after_a_kill_of_the_supervisor_the_next_one_waits_for_its_workers)
{
	struct world world;
	char lock[700];
	int fd, socket;

	world_new(&world);
	ck_assert_int_eq(setenv("FAKE_LINGER", "1", 1), 0);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	eloq_fd_close(world_hello(&world));
	(void)snprintf(lock, sizeof(lock), "%s/wal/shard-000/lock", world.data);
	fd = open(lock, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(kill(world.pid, SIGKILL), 0);
	ck_assert_int_eq(world_wait(&world), 128 + SIGKILL);
	ck_assert_int_lt(flock(fd, LOCK_EX | LOCK_NB), 0); /* the old worker is still there */
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	socket = world_hello(&world); /* over the stale socket file, too */
	ck_assert_uint_eq(world_stat(socket, "turns", 0), 2);
	eloq_fd_close(socket);
	eloq_fd_close(fd);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(numbers_go_on_over_restarts_and_other_shard_counts)
{
	struct world world;
	uint64_t session, last = 0;
	int socket;

	world_new(&world);
	for (unsigned round = 0; round < 3; round++) {
		const char *shards = round == 1 ? "3" : "1";

		world_start(&world, WORLD_ARGS("--num_threads", shards));
		socket = world_hello(&world);
		session = WORLD_ANSWER(eloq_msg_welcome)->session;
		ck_assert(round == 0 || session > last);
		last = session;
		if (round == 0)
			ck_assert_uint_eq(
				world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "kept", 16),
				ELOQ_CONTROL_TABLE);
		ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_OPEN, "kept", 0),
				  ELOQ_CONTROL_TABLE);
		ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_table)->table, 1);
		ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_table)->partitions, 16);
		/* Incarnations so far: 1, then 2 to 4, then 5. */
		ck_assert_uint_eq(world_stat(socket, "turns", 0), round == 0   ? 1
								  : round == 1 ? 2
									       : 5);
		eloq_fd_close(socket);
		ck_assert_int_eq(world_stop(&world), 0);
	}
}

TEST(a_drop_goes_on_after_the_daemon_was_killed_in_its_midst)
{
	struct eloq_msg_table_name drop = { .name = "t" };
	struct world world;
	char keep[600];
	int socket;

	world_new(&world);
	(void)snprintf(keep, sizeof(keep), "%s.keep", world.data);
	world_touch(keep);
	ck_assert_int_eq(setenv("FAKE_KEEP", keep, 1), 0);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	socket = world_hello(&world);
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t", 1),
			  ELOQ_CONTROL_TABLE);
	eloq_control_init(&drop, ELOQ_CONTROL_TABLE_DROP, sizeof(drop), 1000);
	ck_assert_int_eq(eloq_control_send(socket, &drop, NULL, 0, NULL, 0), 0);
	eloq_fd_close(socket);
	socket = world_hello(&world);
	world_expect_stat(socket, "deletes", 2, 2); /* the total: both were asked */
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_OPEN, "t", 0), ELOQ_CONTROL_ERROR);
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t", 1),
			  ELOQ_CONTROL_ERROR); /* its name is not free yet */
	/* A successor is asked again. */
	ck_assert_int_eq(kill(worker_pid(socket, 0), SIGKILL), 0);
	world_expect_stat(socket, "restarts", 1, 1);
	world_expect_stat(socket, "deletes", 0, 1);
	eloq_fd_close(socket);
	ck_assert_int_eq(kill(world.pid, SIGKILL), 0);
	ck_assert_int_eq(world_wait(&world), 128 + SIGKILL);
	ck_assert_int_eq(unlink(keep), 0);
	world_start(&world, WORLD_ARGS("--num_threads", "2"));
	socket = world_hello(&world);
	world_expect_stat(socket, "tables", 0, 0);
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_CREATE, "t", 1),
			  ELOQ_CONTROL_TABLE);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_table)->table, 2);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
}

TEST(a_directory_of_the_reference_is_adopted_and_remembered)
{
	struct world world;
	char path[700], ini[700];
	const struct eloq_msg_table *table = WORLD_ANSWER(eloq_msg_table);
	int fd, socket;

	world_new(&world);
	(void)snprintf(path, sizeof(path), "%s.its", world.data);
	(void)snprintf(ini, sizeof(ini), "%s.ini", world.data);
	fd = open(ini, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(dprintf(fd, "[permanent]\nstore_path = data.its\ndata_page_size = 16KB\n"
				     "data_file_size = 64KB\n"),
			 0);
	eloq_fd_close(fd);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s.its/t.one.7", world.data);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s.its/lost+found", world.data);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	world_start(&world, WORLD_ARGS("--config", ini));
	socket = world_hello(&world);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_welcome)->page_bytes, 16384);
	ck_assert_uint_eq(world_table(socket, ELOQ_CONTROL_TABLE_OPEN, "t.one", 0),
			  ELOQ_CONTROL_TABLE);
	ck_assert_uint_eq(table->partitions, 0);
	ck_assert_uint_eq(table->timestamps, ELOQ_TIMESTAMPS_CALLER);
	ck_assert_uint_eq(table->flags, ELOQ_TABLE_ADOPTED);
	ck_assert_uint_eq(world_stat(socket, "tables", 0), 1);
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
	/* STORE remembers: nothing need be said again, and nothing else may be. */
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	socket = world_hello(&world);
	ck_assert_uint_eq(WORLD_ANSWER(eloq_msg_welcome)->page_bytes, 16384);
	ck_assert_ptr_nonnull(
		strstr(world_look(socket, ELOQ_LOOK_CONFIG), "data_page_size = 16KB"));
	eloq_fd_close(socket);
	ck_assert_int_eq(world_stop(&world), 0);
	check_refused(&world, WORLD_ARGS("--data_page_size", "4KB"), EX_CONFIG, "data_page_size");
	check_refused(&world, WORLD_ARGS("--data_file_size", "1MB"), EX_CONFIG, "data_file_size");
	check_refused(&world, WORLD_ARGS("--overflow_pointers", "4"), EX_CONFIG,
		      "overflow_pointers");
	check_refused(&world, WORLD_ARGS("--data_append_mode", "true"), EX_CONFIG,
		      "data_append_mode");
	(void)snprintf(path, sizeof(path), "%s/elsewhere", test_tmpdir());
	check_refused(&world, WORLD_ARGS("--store_path", path), EX_CONFIG, "store_path");
}

TEST(store_paths_keep_their_number_and_order)
{
	struct world world;
	char a[600], b[600], both[1300], turned[1300], stray[700];

	world_new(&world);
	(void)snprintf(a, sizeof(a), "%s.a", world.data);
	(void)snprintf(b, sizeof(b), "%s.b", world.data);
	(void)snprintf(both, sizeof(both), "%s:%s", a, b);
	(void)snprintf(turned, sizeof(turned), "%s:%s", b, a);
	world_start(&world, WORLD_ARGS("--store_path", both));
	eloq_fd_close(world_connect(&world));
	ck_assert_int_eq(world_stop(&world), 0);
	check_refused(&world, WORLD_ARGS("--store_path", turned), EX_CONFIG, "store_path number 0");
	check_refused(&world, WORLD_ARGS("--store_path", a), EX_CONFIG, "the number of");
	(void)snprintf(stray, sizeof(stray), "%s/t.0", b);
	ck_assert_int_eq(mkdir(stray, 0700), 0);
	check_refused(&world, WORLD_ARGS("--store_path", both), EX_CONFIG, "in their order");
	ck_assert_int_eq(rmdir(stray), 0);
	(void)snprintf(stray, sizeof(stray), "%s/notes.txt", b);
	world_touch(stray);
	check_refused(&world, WORLD_ARGS("--store_path", both), EX_CONFIG, "notes.txt");
	ck_assert_int_eq(unlink(stray), 0);
	ck_assert_int_eq(rmdir(b), 0);
	check_refused(&world, WORLD_ARGS("--num_threads", "1"), EX_CANTCREAT, b);
	(void)snprintf(both, sizeof(both), "%s:%s/../data.a", a, a);
	world_new(&world);
	check_refused(&world, WORLD_ARGS("--store_path", both), EX_CONFIG, "twice");
}

TEST(a_data_directory_that_cannot_be_one_is_refused)
{
	struct world world;

	world_new(&world);
	world_touch(world.data);
	check_refused(&world, WORLD_ARGS("--num_threads", "1"), EX_CANTCREAT, "Not a directory");
	world_new(&world);
	(void)snprintf(world.data + strlen(world.data), 32, "/missing/dir");
	check_refused(&world, WORLD_ARGS("--num_threads", "1"), EX_CANTCREAT, "missing/dir");
}

TEST(a_newer_or_damaged_store_is_refused_by_name)
{
	struct world world;
	uint8_t bytes[4096];
	char path[600];
	ssize_t count;
	int fd;

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	eloq_fd_close(world_connect(&world));
	ck_assert_int_eq(world_stop(&world), 0);
	(void)snprintf(path, sizeof(path), "%s/STORE", world.data);
	fd = open(path, O_RDWR | O_CLOEXEC);
	count = read(fd, bytes, sizeof(bytes));
	ck_assert_int_gt(count, 88);
	bytes[40] ^= 1;
	ck_assert_int_eq(pwrite(fd, bytes, (size_t)count, 0), count);
	check_refused(&world, WORLD_ARGS("--num_threads", "1"), EX_DATAERR, "STORE is damaged");
	eloq_put_u32(bytes + 8, 2);
	eloq_put_u64(bytes + count - 8, eloq_checksum_xxh3(bytes, (size_t)count - 8));
	ck_assert_int_eq(pwrite(fd, bytes, (size_t)count, 0), count);
	check_refused(&world, WORLD_ARGS("--num_threads", "1"), EX_DATAERR, "version 2");
	eloq_fd_close(fd);
}

TEST(a_second_signal_stops_quickly)
{
	struct world world;
	int socket;

	world_new(&world);
	world_start(&world, WORLD_ARGS("--num_threads", "1"));
	socket = world_hello(&world);
	/* A worker that stands still does not answer W_STOP. */
	ck_assert_int_eq(kill(worker_pid(socket, 0), SIGSTOP), 0);
	ck_assert_int_eq(kill(world.pid, SIGTERM), 0);
	while (access(world.socket, F_OK) == 0)
		(void)poll(NULL, 0, 5);
	ck_assert_int_eq(kill(world.pid, SIGINT), 0);
	ck_assert_int_eq(world_wait(&world), EX_SOFTWARE);
	eloq_fd_close(socket);
}
