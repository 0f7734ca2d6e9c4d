/*
 * service.h - a daemon, a client of it and an open table: what most end-to-end tests start with.
 *
 * Functions fail the running test when the service does not do what their name says.
 */
#ifndef ELOQ_TESTS_SUPPORT_SERVICE_H
#define ELOQ_TESTS_SUPPORT_SERVICE_H

#include "tests/support/daemon.h"

#include <stddef.h>
#include <stdint.h>

enum { SERVICE_PARTITIONS = 16 };

struct service {
	struct daemon daemon;
	struct eloq_client *client;
	struct eloq_channel *channel;
	struct eloq_table *table; /* "t" */
};

/* On a fresh directory: a daemon that serves, a client, its table. */
void service_start(struct service *service, const char *io, unsigned shards);
/* Stop cleanly; the exit code must be 0. */
void service_stop(struct service *service);
/* Stop cleanly and start again on the same directory. */
void service_restart(struct service *service);

/* The client alone: for a daemon that the test starts or kills by itself. */
void service_connect(struct service *service);
void service_disconnect(struct service *service);

/* Keys are C strings. */
void service_put(struct service *service, const char *key, const void *value, size_t value_bytes);
void service_put_text(struct service *service, const char *key, const char *text);
void service_expect(struct service *service, const char *key, const void *value,
		    size_t value_bytes);
void service_expect_text(struct service *service, const char *key, const char *text);
void service_expect_absent(struct service *service, const char *key);

/* Bytes that only @seed decides, so that a reader can check what a writer wrote. */
void service_fill(void *to, size_t bytes, uint64_t seed);

#endif
