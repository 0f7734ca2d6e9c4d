/*
 * client_world.h - a fake daemon, a client that is connected to it, and a table; for tests.
 */
#ifndef ELOQ_TESTS_UNIT_CLIENT_WORLD_H
#define ELOQ_TESTS_UNIT_CLIENT_WORLD_H

#include "client/eloqclient.h"
#include "tests/support/fake_daemon.h"
#include "tests/support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client_world {
	struct fake_daemon *daemon;
	struct eloq_client *client;
	struct eloq_channel *channel;
	struct eloq_table *table; /* "t", 8 partitions, the server's timestamps */
	uint32_t table_id;
};

static inline struct eloq_client *client_world_connect(struct fake_daemon *daemon)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts),
					  .socket = fake_daemon_socket(daemon) };
	struct eloq_error error = { 0 };
	struct eloq_client *client = NULL;
	int r = eloq_connect(&client, &opts, &error);

	ck_assert_msg(r == 0, "connect: %d %s", r, error.text);
	return client;
}

static inline void client_world_open(struct client_world *world,
				     const struct fake_daemon_opts *opts)
{
	world->daemon = fake_daemon_start(opts);
	world->table_id = fake_daemon_add_table(world->daemon, "t", 8, false);
	world->client = client_world_connect(world->daemon);
	ck_assert_int_eq(eloq_channel_open(world->client, &world->channel), 0);
	ck_assert_int_eq(eloq_table_open(world->client, "t", &world->table, NULL), 0);
}

static inline void client_world_close(struct client_world *world)
{
	struct fake_daemon_figures figures;

	fake_daemon_get_figures(world->daemon, &figures);
	ck_assert_uint_eq(figures.lies, 0);
	ck_assert_uint_eq(figures.bulk_changed_early, 0);
	ck_assert_uint_eq(figures.same_bulk_twice, 0);
	eloq_disconnect(world->client);
	fake_daemon_stop(world->daemon);
}

static inline struct fake_daemon_figures client_world_figures(const struct client_world *world)
{
	struct fake_daemon_figures figures;

	fake_daemon_get_figures(world->daemon, &figures);
	return figures;
}

/* Bytes that differ with @seed and along the way. Free them. */
static inline uint8_t *client_world_bytes(uint64_t seed, size_t count)
{
	uint8_t *bytes = malloc(count + 1);

	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)((seed * 131 + i * 7 + (i >> 8)) ^ (i >> 16));
	return bytes;
}

static inline int client_world_put(struct client_world *world, const char *key, const char *value)
{
	return eloq_put(world->channel, world->table, key, strlen(key), value, strlen(value), NULL);
}

/* The value is @expected (NULL: there is none). */
static inline void client_world_expect(struct client_world *world, const char *key,
				       const char *expected)
{
	struct eloq_value value = { 0 };
	int r = eloq_get(world->channel, world->table, key, strlen(key), &value, NULL);

	if (!expected) {
		ck_assert_int_eq(r, -ELOQ_CLIENT_ENOTFOUND);
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(value.bytes, strlen(expected));
	ck_assert_str_eq(value.data, expected); /* a zero byte follows the value */
	eloq_value_free(&value);
}

#endif
