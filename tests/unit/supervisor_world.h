/*
 * supervisor_world.h - a real supervisor with workers that only pretend.
 *
 * The supervisor runs in a child process and starts this very test program as its workers: a
 * constructor sees `--worker` and plays the worker's part of the control messages instead of
 * running tests. What a worker was told comes back in its figures:
 *
 *   lanes     lanes it has         batches   bulk memory it has      gets    tables it knows
 *   deletes   drops asked          puts      descriptors received    turns   its incarnation
 *
 * Environment: FAKE_FAIL=SHARD never gets ready; FAKE_HANG=FILE awake without a heartbeat while
 * FILE is there; FAKE_KEEP=FILE does not reply to a drop while FILE is there; FAKE_LINGER=1 keeps
 * the shard's lock for a while after its supervisor is gone.
 */
#ifndef ELOQ_TESTS_UNIT_SUPERVISOR_WORLD_H
#define ELOQ_TESTS_UNIT_SUPERVISOR_WORLD_H

#include "common/fd.h"
#include "daemon/options.h"
#include "daemon/supervisor/supervisor.h"
#include "shm/control.h"
#include "shm/layout.h"
#include "shm/segment.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORLD_ARGS_MAX = 24, WORLD_PATIENCE_MS = 20000 };

/* --- The worker's part -------------------------------------------------------------------------
 */

struct fake_worker {
	int socket;
	const char *shard;
	int wal_fd;
	struct eloq_worker_page *page;
	struct eloq_figures figures;
};

static bool fake_file_is_there(const char *variable)
{
	const char *path = getenv(variable);

	return path && access(path, F_OK) == 0;
}

static void fake_reply(const struct fake_worker *fake, enum eloq_control_type type, uint32_t seq)
{
	struct eloq_msg_w_reply msg = { 0 };

	eloq_control_init(&msg, type, sizeof(msg), seq);
	(void)eloq_control_send(fake->socket, &msg, NULL, 0, NULL, 0);
}

static void fake_figures(const struct fake_worker *fake, uint32_t seq)
{
	struct eloq_msg_w_figures msg = { .io_backend = "fake", .figures = fake->figures };

	if (!fake_file_is_there("FAKE_HANG"))
		atomic_fetch_add(&fake->page->heartbeat_ns, 1);
	eloq_control_init(&msg, ELOQ_CONTROL_W_FIGURES, sizeof(msg), seq);
	(void)eloq_control_send(fake->socket, &msg, NULL, 0, NULL, 0);
}

static void fake_start(struct fake_worker *fake, const struct eloq_msg_w_start *msg, int *fds)
{
	void *base = NULL;
	int lock;

	if (eloq_segment_map(fds[0], ELOQ_WORKER_PAGE_BYTES, true, &base) < 0)
		_exit(99);
	fake->page = base;
	fake->wal_fd = eloq_fd_take(&fds[1]);
	fake->figures.turns = msg->incarnation;
	lock = openat(fake->wal_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		_exit(98);
	atomic_store(&fake->page->asleep, !fake_file_is_there("FAKE_HANG"));
}

static void fake_drop(struct fake_worker *fake, const struct eloq_msg_table *msg)
{
	fake->figures.deletes++;
	if (!fake_file_is_there("FAKE_KEEP"))
		fake_reply(fake, ELOQ_CONTROL_W_REPLY, msg->header.seq);
}

static void fake_go(struct fake_worker *fake)
{
	const char *fails = getenv("FAKE_FAIL");

	if (fails && strcmp(fails, fake->shard) == 0)
		_exit(97);
	fake_reply(fake, ELOQ_CONTROL_W_READY, 0);
}

static void fake_handle(struct fake_worker *fake, const uint8_t *message, int *fds)
{
	const struct eloq_control_header *header = (const void *)message;

	switch (header->type) {
	case ELOQ_CONTROL_W_START:
		fake_start(fake, (const void *)message, fds);
		break;
	case ELOQ_CONTROL_W_TABLE:
		fake->figures.gets++;
		break;
	case ELOQ_CONTROL_W_LANE:
		fake->figures.lanes++;
		break;
	case ELOQ_CONTROL_W_LANE_GONE:
		fake->figures.lanes--;
		break;
	case ELOQ_CONTROL_W_BULK:
		fake->figures.batches++;
		break;
	case ELOQ_CONTROL_W_BULK_GONE:
		fake->figures.batches--;
		break;
	case ELOQ_CONTROL_W_TABLE_DROP:
		fake_drop(fake, (const void *)message);
		break;
	case ELOQ_CONTROL_W_LOOK:
		fake_figures(fake, header->seq);
		break;
	case ELOQ_CONTROL_W_GO:
		fake_go(fake);
		break;
	case ELOQ_CONTROL_W_STOP:
		fake_reply(fake, ELOQ_CONTROL_W_STOPPED, 0);
		_exit(0);
	default:
		break;
	}
}

static void fake_worker_main(int socket, const char *shard)
{
	static _Alignas(8) uint8_t message[ELOQ_CONTROL_BYTES_MAX];
	struct fake_worker fake = { .socket = socket, .shard = shard };
	int fds[ELOQ_CONTROL_FDS_MAX];
	unsigned fd_count;

	while (eloq_control_receive(socket, message, sizeof(message), fds, ELOQ_CONTROL_FDS_MAX,
				    &fd_count) > 0) {
		fake.figures.puts += fd_count;
		fake_handle(&fake, message, fds);
		for (unsigned i = 0; i < fd_count; i++)
			eloq_fd_close(fds[i]);
	}
	if (getenv("FAKE_LINGER"))
		(void)poll(NULL, 0, 700);
	_exit(0);
}

/* glibc hands the arguments to constructors; tests never get to run in a worker. */
__attribute__((constructor(101))) static void world_maybe_worker(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--worker") == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getenv("FAKE_LINGER"))
			(void)prctl(PR_SET_PDEATHSIG, 0);
		fake_worker_main((int)strtol(argv[2], NULL, 10), argv[3]);
	}
}

/* --- The daemon --------------------------------------------------------------------------------
 */

struct world {
	pid_t pid;
	char data[512];
	char socket[600];
};

static _Alignas(8) uint8_t world_answer[ELOQ_CONTROL_BYTES_MAX];
static int world_fds[ELOQ_CONTROL_FDS_MAX];
static unsigned world_fd_count;

static void world_child(const struct world *world, const char *const *args)
{
	char *argv[WORLD_ARGS_MAX] = { (char *)"test", (char *)"--data",
				       (char *)(uintptr_t)world->data };
	struct eloq_options options;
	struct eloq_errinfo error = { 0 };
	int argc = 3, code;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (*args && argc < WORLD_ARGS_MAX)
		argv[argc++] = (char *)(uintptr_t)*args++;
	if (eloq_options_parse(&options, argc, argv, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		exit(96);
	}
	code = eloq_supervisor_run(&options, "/proc/self/exe");
	eloq_options_clear(&options);
	exit(code);
}

/* Start a daemon on a directory, which may be there; does not wait for it. */
ELOQ_UNUSED static void world_start(struct world *world, const char *const *args)
{
	(void)snprintf(world->socket, sizeof(world->socket), "%s/eloqstored.sock", world->data);
	(void)fflush(stdout);
	world->pid = fork();
	ck_assert_int_ge(world->pid, 0);
	if (world->pid == 0)
		world_child(world, args);
}

#define WORLD_ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

ELOQ_UNUSED static void world_new(struct world *world)
{
	memset(world, 0, sizeof(*world));
	(void)snprintf(world->data, sizeof(world->data), "%s/data", test_tmpdir());
}

/* The exit code of the daemon; 128 + N: it died of signal N. */
ELOQ_UNUSED static int world_wait(struct world *world)
{
	int status = 0;

	ck_assert_int_eq(waitpid(world->pid, &status, 0), world->pid);
	world->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

ELOQ_UNUSED static int world_stop(struct world *world)
{
	ck_assert_int_eq(kill(world->pid, SIGTERM), 0);
	return world_wait(world);
}

/* The exit code of a daemon that is expected to refuse; what it said is in @text. */
ELOQ_UNUSED static int world_refused(struct world *world, const char *const *args, char *text,
				     size_t text_bytes)
{
	int ends[2], saved;
	size_t used = 0;
	ssize_t n;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	saved = dup(STDERR_FILENO);
	ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
	world_start(world, args);
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	eloq_fd_close(saved);
	eloq_fd_close(ends[1]);
	while (used < text_bytes - 1 && (n = read(ends[0], text + used, text_bytes - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	eloq_fd_close(ends[0]);
	return world_wait(world);
}

/* --- A client ----------------------------------------------------------------------------------
 */

ELOQ_UNUSED static int world_connect(const struct world *world)
{
	for (int waited_ms = 0; waited_ms < WORLD_PATIENCE_MS; waited_ms += 10) {
		int socket = eloq_control_connect(world->socket);

		if (socket >= 0)
			return socket;
		(void)poll(NULL, 0, 10);
	}
	ck_abort_msg("nobody listens at %s", world->socket);
	return -1;
}

/* Wait for the next answer, which is then in world_answer, its descriptors in world_fds. */
ELOQ_UNUSED static unsigned world_receive(int socket)
{
	int r = eloq_control_receive(socket, world_answer, sizeof(world_answer), world_fds,
				     ELOQ_CONTROL_FDS_MAX, &world_fd_count);

	ck_assert_msg(r >= 0, "%s", eloq_err_text(r));
	return r ? ((struct eloq_control_header *)(void *)world_answer)->type : 0;
}

ELOQ_UNUSED static void world_close_fds(void)
{
	for (unsigned i = 0; i < world_fd_count; i++)
		eloq_fd_close(world_fds[i]);
	world_fd_count = 0;
}

#define WORLD_ANSWER(structure) ((const struct structure *)(const void *)world_answer)

ELOQ_UNUSED static unsigned world_ask(int socket, void *message, enum eloq_control_type type,
				      size_t bytes)
{
	static uint32_t seq;

	world_close_fds();
	eloq_control_init(message, type, bytes, ++seq);
	ck_assert_int_eq(eloq_control_send(socket, message, NULL, 0, NULL, 0), 0);
	type = world_receive(socket);
	if (type)
		ck_assert_uint_eq(WORLD_ANSWER(eloq_control_header)->seq, seq);
	return type;
}

#define WORLD_ASK(socket, message, type) \
	world_ask(socket, &(message), ELOQ_CONTROL_##type, sizeof(message))

ELOQ_UNUSED static int world_hello(const struct world *world)
{
	struct eloq_msg_hello hello = { .layout_version = ELOQ_LAYOUT_VERSION, .name = "test" };
	int socket = world_connect(world);

	hello.pid = (uint32_t)getpid();
	ck_assert_uint_eq(WORLD_ASK(socket, hello, HELLO), ELOQ_CONTROL_WELCOME);
	return socket;
}

/* The words of the ERROR in world_answer, or "". */
ELOQ_UNUSED static const char *world_error(uint32_t *ret_code)
{
	static char words[1024];
	const struct eloq_msg_error *error = WORLD_ANSWER(eloq_msg_error);

	words[0] = '\0';
	*ret_code = 0;
	if (error->header.type == ELOQ_CONTROL_ERROR) {
		(void)snprintf(words, sizeof(words), "%.*s", (int)error->text_bytes,
			       (const char *)(error + 1));
		*ret_code = error->code;
	}
	return words;
}

ELOQ_UNUSED static uint32_t world_channel(int socket)
{
	struct eloq_msg_channel_open open = { 0 };

	ck_assert_uint_eq(WORLD_ASK(socket, open, CHANNEL_OPEN), ELOQ_CONTROL_CHANNEL);
	return WORLD_ANSWER(eloq_msg_channel)->channel;
}

ELOQ_UNUSED static unsigned world_lane(int socket, uint32_t channel, uint32_t shard)
{
	struct eloq_msg_lane_open open = { .channel = channel, .shard = shard };

	return WORLD_ASK(socket, open, LANE_OPEN);
}

ELOQ_UNUSED static unsigned world_table(int socket, enum eloq_control_type type, const char *name,
					uint32_t partitions)
{
	struct eloq_msg_table_name msg = { .partitions = partitions };

	(void)snprintf(msg.name, sizeof(msg.name), "%s", name);
	return world_ask(socket, &msg, type, sizeof(msg));
}

/* All of a LOOK's text. Valid until the next one. */
ELOQ_UNUSED static const char *world_look(int socket, enum eloq_look what)
{
	static char text[1 << 18];
	struct eloq_msg_look look = { .what = what };
	size_t used = 0;
	unsigned type = WORLD_ASK(socket, look, LOOK);

	for (;;) {
		const struct eloq_msg_text *part = WORLD_ANSWER(eloq_msg_text);

		ck_assert_uint_eq(type, ELOQ_CONTROL_TEXT);
		ck_assert_uint_lt(used + part->text_bytes, sizeof(text));
		memcpy(text + used, part + 1, part->text_bytes);
		used += part->text_bytes;
		if (!part->more)
			break;
		type = world_receive(socket);
	}
	text[used] = '\0';
	return text;
}

/* The number behind `"name":` for the @nth time (0: the first) in STAT; UINT64_MAX: not there. */
ELOQ_UNUSED static uint64_t world_stat(int socket, const char *name, unsigned nth)
{
	const char *p = world_look(socket, ELOQ_LOOK_STAT);
	char pattern[64];

	(void)snprintf(pattern, sizeof(pattern), "\"%s\":", name);
	for (;; nth--) {
		p = strstr(p, pattern);
		if (!p)
			return UINT64_MAX;
		p += strlen(pattern);
		if (nth == 0)
			return *p >= '0' && *p <= '9' ? strtoull(p, NULL, 10) : UINT64_MAX;
	}
}

/* Wait until the number is that; other clients and deaths take a moment to be seen. */
ELOQ_UNUSED static void world_expect_stat(int socket, const char *name, unsigned nth,
					  uint64_t expected)
{
	uint64_t number = 0;

	for (int waited_ms = 0; waited_ms < WORLD_PATIENCE_MS; waited_ms += 10) {
		number = world_stat(socket, name, nth);
		if (number == expected)
			return;
		(void)poll(NULL, 0, 10);
	}
	ck_abort_msg("%s is %llu, not %llu", name, (unsigned long long)number,
		     (unsigned long long)expected);
}

ELOQ_UNUSED static void world_touch(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	eloq_fd_close(fd);
}

#endif
