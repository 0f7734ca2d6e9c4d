/*
 * service.c - see service.h.
 */
#include "tests/support/service.h"

#include "common/prng.h"

#include <string.h>

void service_connect(struct service *service)
{
	service->client = daemon_connect(&service->daemon);
	service->channel = eloq_channel(service->client);
	ck_assert_ptr_nonnull(service->channel);
	service->table = daemon_table(service->client, "t", SERVICE_PARTITIONS);
}

void service_disconnect(struct service *service)
{
	eloq_disconnect(service->client);
	service->client = NULL;
	service->channel = NULL;
	service->table = NULL;
}

void service_start(struct service *service, const char *io, unsigned shards)
{
	daemon_init(&service->daemon, io, shards);
	daemon_start(&service->daemon);
	service_connect(service);
}

void service_stop(struct service *service)
{
	service_disconnect(service);
	ck_assert_int_eq(daemon_stop(&service->daemon), 0);
}

void service_restart(struct service *service)
{
	service_stop(service);
	daemon_start(&service->daemon);
	service_connect(service);
}

void service_put(struct service *service, const char *key, const void *value, size_t value_bytes)
{
	int r = eloq_put(service->channel, service->table, key, strlen(key), value, value_bytes,
			 NULL);

	ck_assert_msg(r == 0, "put %s: %s", key, eloq_strerror(r));
}

void service_put_text(struct service *service, const char *key, const char *text)
{
	service_put(service, key, text, strlen(text));
}

void service_expect(struct service *service, const char *key, const void *value, size_t value_bytes)
{
	struct eloq_value got = { 0 };
	int r = eloq_get(service->channel, service->table, key, strlen(key), &got, NULL);

	ck_assert_msg(r == 0, "get %s: %s", key, eloq_strerror(r));
	ck_assert_uint_eq(got.bytes, value_bytes);
	ck_assert_msg(value_bytes == 0 || memcmp(got.data, value, value_bytes) == 0,
		      "%s has another value", key);
	ck_assert_int_eq(((const char *)got.data)[got.bytes], 0);
	eloq_value_free(&got);
}

void service_expect_text(struct service *service, const char *key, const char *text)
{
	service_expect(service, key, text, strlen(text));
}

void service_expect_absent(struct service *service, const char *key)
{
	struct eloq_value got = { 0 };
	int r = eloq_get(service->channel, service->table, key, strlen(key), &got, NULL);

	ck_assert_msg(r == -ELOQ_CLIENT_ENOTFOUND, "get %s: %s", key, eloq_strerror(r));
}

void service_fill(void *to, size_t bytes, uint64_t seed)
{
	struct eloq_prng prng;
	uint8_t *p = to;

	eloq_prng_seed(&prng, seed);
	while (bytes > 0) {
		uint64_t word = eloq_prng_next(&prng);
		size_t part = bytes < sizeof(word) ? bytes : sizeof(word);

		memcpy(p, &word, part);
		p += part;
		bytes -= part;
	}
}
