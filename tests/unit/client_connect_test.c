/* Connecting, channels, tables, texts; and what is said when that fails. */
#include "client/eloqclient.h"
#include "tests/support/fake_daemon.h"
#include "tests/unit/client_world.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static int connect_to(const struct fake_daemon_opts *opts, struct eloq_error *error)
{
	struct fake_daemon *daemon = fake_daemon_start(opts);
	struct eloq_connect_opts connect = { .opts_bytes = sizeof(connect),
					     .socket = fake_daemon_socket(daemon) };
	struct eloq_client *client = NULL;
	int r = eloq_connect(&client, &connect, error);

	eloq_disconnect(client);
	fake_daemon_stop(daemon);
	return r;
}

TEST(connecting_where_nobody_serves_says_so)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts), .data_dir = test_tmpdir() };
	struct eloq_error error = { 0 };
	struct eloq_client *client = NULL;

	ck_assert_int_eq(eloq_connect(&client, &opts, &error), -ELOQ_CLIENT_ENODAEMON);
	ck_assert_int_eq(error.code, -ELOQ_CLIENT_ENODAEMON);
	ck_assert_ptr_nonnull(strstr(error.text, opts.data_dir));
	ck_assert_ptr_nonnull(strstr(error.text, "no daemon serves"));
	ck_assert_ptr_null(client);
}

TEST(a_socket_file_that_a_dead_daemon_left_is_nobody)
{
	struct fake_daemon *daemon = fake_daemon_start(NULL);
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts),
					  .socket = fake_daemon_socket(daemon) };
	struct eloq_client *client = NULL;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s", fake_daemon_socket(daemon));
	fake_daemon_stop(daemon);
	opts.socket = path;
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(eloq_connect(&client, &opts, NULL), -ELOQ_CLIENT_ENODAEMON);
}

TEST(the_environment_names_the_socket_and_options_override_it)
{
	struct fake_daemon *daemon = fake_daemon_start(NULL);
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts), .data_dir = test_tmpdir() };
	struct eloq_client *client = NULL;

	setenv("ELOQ_SOCKET", fake_daemon_socket(daemon), 1);
	ck_assert_int_eq(eloq_connect(&client, NULL, NULL), 0);
	eloq_disconnect(client);
	ck_assert_int_eq(eloq_connect(&client, &opts, NULL), -ELOQ_CLIENT_ENODAEMON);
	fake_daemon_stop(daemon);
}

TEST(another_version_is_refused_and_named)
{
	struct eloq_error error = { 0 };

	ck_assert_int_eq(
		connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_REFUSE_VERSION },
			   &error),
		-ELOQ_CLIENT_EVERSION);
	ck_assert_str_eq(error.text, "layout version 1 asked for, 9 is spoken here");
	ck_assert_int_eq(
		connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_OTHER_VERSION }, &error),
		-ELOQ_CLIENT_EVERSION);
	ck_assert_ptr_nonnull(strstr(error.text, "version 7"));
	ck_assert_int_eq(
		connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_OTHER_LAYOUT }, &error),
		-ELOQ_CLIENT_EVERSION);
	ck_assert_ptr_nonnull(strstr(error.text, "page of worker 0"));
}

TEST(a_daemon_that_refuses_or_misbehaves_is_told_apart)
{
	struct eloq_error error = { 0 };

	ck_assert_int_eq(connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_DENY }, &error),
			 -ELOQ_CLIENT_EDENIED);
	ck_assert_str_eq(error.text, "not you");
	ck_assert_int_eq(
		connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_HANG_UP }, &error),
		-ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(
		connect_to(&(struct fake_daemon_opts){ .hello = FAKE_HELLO_NONSENSE }, &error),
		-ELOQ_CLIENT_EPROTOCOL);
	ck_assert_ptr_nonnull(strstr(error.text, "WELCOME"));
}

TEST(options_of_a_newer_caller_are_refused_unless_they_are_zero)
{
	struct {
		struct eloq_connect_opts known;
		uint64_t newer;
	} opts = { .known.opts_bytes = sizeof(opts) };
	struct fake_daemon *daemon = fake_daemon_start(NULL);
	struct eloq_client *client = NULL;

	opts.known.socket = fake_daemon_socket(daemon);
	opts.newer = 1;
	ck_assert_int_eq(eloq_connect(&client, &opts.known, NULL), -EINVAL);
	opts.newer = 0;
	ck_assert_int_eq(eloq_connect(&client, &opts.known, NULL), 0);
	eloq_disconnect(client);
	opts.known.opts_bytes = 0;
	ck_assert_int_eq(eloq_connect(&client, &opts.known, NULL), -EINVAL);
	fake_daemon_stop(daemon);
}

TEST(limits_and_shards_come_from_the_daemon)
{
	struct fake_daemon *daemon = fake_daemon_start(&(struct fake_daemon_opts){
		.shard_count = 5, .key_bytes_max = 77, .value_bytes_max = 12345 });
	struct eloq_client *client = client_world_connect(daemon);

	ck_assert_uint_eq(eloq_shard_count(client), 5);
	ck_assert_uint_eq(eloq_key_bytes_max(client), 77);
	ck_assert_uint_eq(eloq_value_bytes_max(client), 12345);
	eloq_disconnect(client);
	fake_daemon_stop(daemon);
}

TEST(every_error_has_a_text_and_the_library_a_version)
{
	ck_assert_str_eq(eloq_strerror(-ELOQ_CLIENT_ENODAEMON), "no daemon serves this directory");
	ck_assert_str_eq(eloq_strerror(ENOENT), "No such file or directory");
	ck_assert_str_eq(eloq_strerror(-987654), "unknown error");
	ck_assert_str_eq(eloq_version(), "0.1.0");
}

/* --- Channels ----------------------------------------------------------------------------------
 */

TEST(a_closed_channel_takes_its_lanes_and_memory_with_it)
{
	struct client_world world;
	uint8_t *value = client_world_bytes(1, 100000);

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_put(world.channel, world.table, "key", 3, value, 100000, NULL), 0);
	ck_assert_int_eq(eloq_ping(world.channel, &(uint64_t){ 0 }), 0);
	ck_assert_uint_eq(client_world_figures(&world).channels, 1);
	ck_assert_uint_eq(client_world_figures(&world).lanes, 2);
	ck_assert_uint_eq(client_world_figures(&world).bulks, 1);
	eloq_channel_close(world.channel);
	ck_assert_uint_eq(client_world_figures(&world).channels, 0);
	ck_assert_uint_eq(client_world_figures(&world).lanes, 0);
	ck_assert_uint_eq(client_world_figures(&world).bulk_bytes, 0);
	eloq_channel_close(NULL);
	free(value);
	client_world_close(&world);
}

TEST(lanes_are_opened_when_a_shard_is_first_talked_to)
{
	struct eloq_op_opts opts = { .opts_bytes = sizeof(opts), .partition_set = 1 };
	struct client_world world;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 4 });
	ck_assert_uint_eq(client_world_figures(&world).lanes, 0);
	for (opts.partition = 0; opts.partition < 8; opts.partition++) {
		unsigned lanes = opts.partition < 4 ? opts.partition + 1 : 4;

		ck_assert_int_eq(eloq_put(world.channel, world.table, "k", 1, "v", 1, &opts), 0);
		ck_assert_uint_eq(client_world_figures(&world).lanes, lanes);
	}
	client_world_close(&world);
}

TEST(beyond_the_daemons_bound_channels_are_too_many)
{
	struct client_world world;
	struct eloq_channel *channel = NULL;

	client_world_open(&world, &(struct fake_daemon_opts){ .channels_max = 1 });
	ck_assert_int_eq(eloq_channel_open(world.client, &channel), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_ptr_null(eloq_channel(world.client));
	ck_assert_int_eq(eloq_put(NULL, world.table, "k", 1, "v", 1, NULL), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(eloq_poll(NULL, NULL, 0, 0), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(eloq_ping(NULL, NULL), -ELOQ_CLIENT_ETOOMANY);
	ck_assert_int_eq(eloq_scan_open(NULL, world.table, NULL, NULL), -ELOQ_CLIENT_ETOOMANY);
	client_world_close(&world);
}

struct thread_world {
	struct client_world *world;
	char key[16];
	struct eloq_channel *channel;
};

static void *use_own_channel(void *arg)
{
	struct thread_world *thread = arg;
	struct client_world *world = thread->world;
	struct eloq_channel *channel = eloq_channel(world->client);

	thread->channel = channel;
	ck_assert_ptr_nonnull(channel);
	ck_assert_ptr_eq(eloq_channel(world->client), channel);
	for (unsigned i = 0; i < 200; i++) {
		char value[16];
		char got[16] = { 0 };
		size_t got_bytes = 0;
		int n = snprintf(value, sizeof(value), "v%u", i);

		ck_assert_int_eq(eloq_put(channel, world->table, thread->key, strlen(thread->key),
					  value, (size_t)n, NULL),
				 0);
		ck_assert_int_eq(eloq_get_into(channel, world->table, thread->key,
					       strlen(thread->key), got, sizeof(got), &got_bytes,
					       NULL),
				 0);
		ck_assert_str_eq(got, value);
	}
	return NULL;
}

TEST(each_thread_has_its_own_channel_which_ends_with_it)
{
	struct client_world world;
	struct thread_world threads[4];
	pthread_t ids[4];

	client_world_open(&world, NULL);
	for (unsigned i = 0; i < 4; i++) {
		threads[i].world = &world;
		(void)snprintf(threads[i].key, sizeof(threads[i].key), "key%u", i);
		ck_assert_int_eq(pthread_create(&ids[i], NULL, use_own_channel, &threads[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(ids[i], NULL), 0);
	ck_assert_uint_eq(client_world_figures(&world).channels, 1);
	for (unsigned i = 0; i < 4; i++)
		client_world_expect(&world, threads[i].key, "v199");
	ck_assert_ptr_nonnull(eloq_channel(world.client));
	client_world_close(&world);
}

TEST(in_a_forked_child_the_handle_refuses_and_a_new_one_works)
{
	struct client_world world;
	pid_t child;
	int status;

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "parent"), 0);
	child = fork();
	if (child == 0) {
		struct eloq_completion completion;
		struct eloq_client *client = client_world_connect(world.daemon);
		struct eloq_table *table;
		char got[16];
		size_t bytes;

		if (client_world_put(&world, "key", "child") != -ELOQ_CLIENT_ECLOSED)
			_exit(1);
		if (eloq_poll(world.channel, &completion, 1, 0) != -ELOQ_CLIENT_ECLOSED)
			_exit(2);
		eloq_disconnect(world.client);
		if (eloq_table_open(client, "t", &table, NULL) != 0)
			_exit(3);
		if (eloq_get_into(eloq_channel(client), table, "key", 3, got, sizeof(got), &bytes,
				  NULL) != 0)
			_exit(4);
		if (eloq_put(eloq_channel(client), table, "key2", 4, "child", 5, NULL) != 0)
			_exit(5);
		eloq_disconnect(client);
		_exit(bytes == 6 && memcmp(got, "parent", 6) == 0 ? 0 : 6);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status), "the child died: %d", status);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	client_world_expect(&world, "key", "parent");
	client_world_expect(&world, "key2", "child");
	client_world_close(&world);
}

TEST(disconnecting_leaves_nothing_at_the_daemon)
{
	struct client_world world;
	struct fake_daemon_figures figures;

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	eloq_disconnect(world.client);
	do
		figures = client_world_figures(&world);
	while (figures.connections > 0);
	ck_assert_uint_eq(figures.lanes, 0);
	ck_assert_uint_eq(figures.channels, 0);
	fake_daemon_stop(world.daemon);
	eloq_disconnect(NULL);
}

/* --- Tables ------------------------------------------------------------------------------------
 */

TEST(tables_are_created_opened_listed_and_dropped_by_name)
{
	struct client_world world;
	struct eloq_error error = { 0 };
	struct eloq_table *table = NULL;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_table_create(world.client, "new", 3, ELOQ_CALLER_TIMESTAMPS, NULL),
			 0);
	ck_assert_int_eq(eloq_table_create(world.client, "new", 3, ELOQ_CALLER_TIMESTAMPS, &error),
			 -ELOQ_CLIENT_EEXISTS);
	ck_assert_str_eq(error.text, "it exists");
	ck_assert_int_eq(eloq_table_open(world.client, "new", &table, NULL), 0);
	ck_assert_str_eq(eloq_table_info(table)->name, "new");
	ck_assert_uint_eq(eloq_table_info(table)->partitions, 3);
	ck_assert_int_eq(eloq_table_info(table)->timestamps, ELOQ_CALLER_TIMESTAMPS);
	ck_assert_int_eq(eloq_table_drop(world.client, "new", NULL), 0);
	ck_assert_int_eq(eloq_put(world.channel, table, "k", 1, "v", 1, NULL),
			 -ELOQ_CLIENT_ENOTFOUND);
	eloq_table_close(table);
	eloq_table_close(NULL);
	ck_assert_int_eq(eloq_table_drop(world.client, "new", &error), -ELOQ_CLIENT_ENOTFOUND);
	ck_assert_int_eq(eloq_table_open(world.client, "new", &table, &error),
			 -ELOQ_CLIENT_ENOTFOUND);
	ck_assert_str_eq(error.text, "no such table");
	client_world_close(&world);
}

TEST(what_no_table_can_be_is_refused_before_it_is_sent)
{
	struct client_world world;
	struct eloq_error error = { 0 };
	char name[300];

	client_world_open(&world, NULL);
	memset(name, 'x', sizeof(name));
	name[201] = '\0';
	ck_assert_int_eq(eloq_table_create(world.client, name, 1, ELOQ_SERVER_TIMESTAMPS, &error),
			 -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.text, "200"));
	name[200] = '\0';
	ck_assert_int_eq(eloq_table_create(world.client, name, 1, ELOQ_SERVER_TIMESTAMPS, NULL), 0);
	ck_assert_int_eq(eloq_table_create(world.client, "", 1, ELOQ_SERVER_TIMESTAMPS, NULL),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(world.client, NULL, 1, ELOQ_SERVER_TIMESTAMPS, NULL),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(world.client, "a", 0, ELOQ_SERVER_TIMESTAMPS, NULL),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(world.client, "a", 65537, ELOQ_SERVER_TIMESTAMPS, NULL),
			 -EINVAL);
	ck_assert_int_eq(eloq_table_create(world.client, "a", 1, (enum eloq_timestamps)2, NULL),
			 -EINVAL);
	client_world_close(&world);
}

struct names {
	char text[256];
	int bytes;
	struct eloq_client *client;
	int end_at;
};

static int add_name(void *arg, const struct eloq_table_info *info)
{
	struct names *names = arg;
	struct eloq_table *table;

	names->bytes += snprintf(names->text + names->bytes,
				 sizeof(names->text) - (size_t)names->bytes, "%s ", info->name);
	/* The socket is free: the walk may ask the daemon. */
	ck_assert_int_eq(eloq_table_open(names->client, info->name, &table, NULL), 0);
	return --names->end_at == 0 ? 17 : 0;
}

TEST(tables_are_listed_by_name_until_the_caller_has_seen_enough)
{
	struct client_world world;
	struct names names = { .end_at = -1 };

	client_world_open(&world, NULL);
	names.client = world.client;
	fake_daemon_add_table(world.daemon, "b", 1, false);
	fake_daemon_add_table(world.daemon, "a", 0, true);
	fake_daemon_add_table(world.daemon, "z", 1, false);
	ck_assert_int_eq(eloq_table_list(world.client, add_name, &names, NULL), 0);
	ck_assert_str_eq(names.text, "a b t z ");
	names = (struct names){ .client = world.client, .end_at = 2 };
	ck_assert_int_eq(eloq_table_list(world.client, add_name, &names, NULL), 17);
	ck_assert_str_eq(names.text, "a b ");
	client_world_close(&world);
}

/* --- Texts and death ---------------------------------------------------------------------------
 */

TEST(texts_longer_than_a_packet_come_whole)
{
	struct client_world world;
	char *text = NULL;

	client_world_open(&world, NULL);
	ck_assert_int_eq(eloq_daemon_config(world.client, &text, NULL), 0);
	ck_assert_uint_eq(strlen(text), 40000);
	ck_assert_uint_eq(strspn(text, "#"), 40000);
	free(text);
	ck_assert_int_eq(eloq_daemon_stat(world.client, &text, NULL), 0);
	ck_assert_str_eq(text, "{}");
	free(text);
	client_world_close(&world);
}

TEST(a_ping_goes_through_every_shard)
{
	struct client_world world;
	uint64_t ns = 0;

	client_world_open(&world, &(struct fake_daemon_opts){ .shard_count = 3 });
	ck_assert_int_eq(eloq_ping(world.channel, &ns), 0);
	ck_assert_uint_gt(ns, 0);
	ck_assert_uint_eq(client_world_figures(&world).requests[ELOQ_OP_PING], 3);
	client_world_close(&world);
}

static void *hang_up_soon(void *arg)
{
	usleep(20000);
	fake_daemon_hang_up(arg);
	return NULL;
}

TEST(who_waits_for_a_daemon_that_dies_is_told)
{
	struct client_world world;
	struct eloq_channel *channel;
	struct eloq_error error = { 0 };
	char *text = NULL;
	pthread_t thread;

	client_world_open(&world, NULL);
	ck_assert_int_eq(client_world_put(&world, "key", "value"), 0);
	fake_daemon_pause_worker(world.daemon, 0, true);
	fake_daemon_pause_worker(world.daemon, 1, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, hang_up_soon, world.daemon), 0);
	ck_assert_int_eq(client_world_put(&world, "key", "other"), -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(client_world_put(&world, "key", "third"), -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(eloq_channel_open(world.client, &channel), -ELOQ_CLIENT_ECLOSED);
	ck_assert_int_eq(eloq_daemon_stat(world.client, &text, &error), -ELOQ_CLIENT_ECLOSED);
	ck_assert_str_ne(error.text, "");
	client_world_close(&world);
}

TEST(a_daemon_that_dies_between_two_questions_is_noticed_by_the_next)
{
	struct client_world world;
	struct eloq_table *table;

	client_world_open(&world, NULL);
	fake_daemon_hang_up(world.daemon);
	ck_assert_int_eq(eloq_table_open(world.client, "t", &table, NULL), -ELOQ_CLIENT_ECLOSED);
	client_world_close(&world);
}
