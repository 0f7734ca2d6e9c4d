/*
 * double_apply_test.c - what this version does wrong when a worker dies between a commit and its
 * answer: the client sends the request again, and it is executed again.
 *
 * The test holds while the weakness does. A version that applies each request exactly once has to
 * turn its last expectation around: the key must still hold 2.
 */
#include "tests/support/service.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char trigger[300];

/* Workers of daemons started from here on die after the next sync of a manifest that follows. */
static void prepare_daemons(void)
{
	char options[512];
	const char *given = getenv("ASAN_OPTIONS");

	(void)snprintf(trigger, sizeof(trigger), "%s/die", test_tmpdir());
	ck_assert_int_eq(setenv("KILL_AFTER_SYNC_TRIGGER", trigger, 1), 0);
	ck_assert_int_eq(setenv("LD_PRELOAD", ELOQ_PRELOAD_DIR "/kill_after_sync.so", 1), 0);
	/* The interposer comes before the sanitizer's runtime, which takes that for a mistake. */
	(void)snprintf(options, sizeof(options), "%s%sverify_asan_link_order=0", given ? given : "",
		       given ? ":" : "");
	ck_assert_int_eq(setenv("ASAN_OPTIONS", options, 1), 0);
}

static void pull_trigger(void)
{
	int fd = open(trigger, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
}

static bool trigger_is_gone(void *arg)
{
	(void)arg;
	return access(trigger, F_OK) < 0;
}

/* A has a put in flight, and B sees it done before A asks for its answer. */
TEST(known_weakness_an_unanswered_put_is_applied_twice_which_later_versions_must_not_do)
{
	struct service a, b;
	struct eloq_completion done;
	pid_t before;

	prepare_daemons();
	daemon_init(&a.daemon, "pool", 1);
	a.daemon.extra = "--pool_threads 0 --restart_delay_max 50ms";
	daemon_start(&a.daemon);
	b.daemon = a.daemon;
	service_connect(&a);
	service_connect(&b);
	service_put_text(&a, "k", "0");
	before = daemon_wait_worker(&a.daemon, 0, 0);

	pull_trigger();
	ck_assert_int_eq(eloq_submit_put(a.channel, a.table, "k", 1, "1", 1, NULL, NULL), 0);
	ck_assert_int_eq(eloq_flush(a.channel), 0);
	daemon_wait_until(trigger_is_gone, NULL, "the worker's death");
	(void)daemon_wait_worker(&a.daemon, 0, before);

	service_expect_text(&b, "k", "1");
	service_put_text(&b, "k", "2");
	service_expect_text(&b, "k", "2");
	ck_assert_int_eq(eloq_poll(a.channel, &done, 1, UINT64_MAX), 1);
	ck_assert_int_eq(done.result, 0);
	ck_assert_uint_eq(daemon_stat(&a.daemon, NULL, "restarts"), 1);
	/* The weakness: A's put from before B's took effect once more, behind it. */
	service_expect_text(&b, "k", "1");

	service_disconnect(&b);
	service_stop(&a);
}
