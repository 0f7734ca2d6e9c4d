/*
 * session.c - clients on the control socket: who may talk, what they ask, when they are answered.
 *
 * Idea: a session is served one request at a time. Until the answers to it have left, nothing more
 * is read from its socket, so what a client can make us hold is bounded by one request, and a
 * client that does not read its answers waits for itself. A session is only marked dead where that
 * is found out; its memory and its lanes go at the end of the loop's turn, when nobody up the stack
 * can hold it any more.
 *
 * Trust:    nothing from a client is believed but the kernel's word about its uid. Descriptors it
 *           sends are never received.
 * Runs on:  the supervisor's thread; a bounded number of requests a turn for each client.
 * Fails by: ERROR with words; a client that breaks the protocol is told so and disconnected.
 */
#include "common/fd.h"
#include "common/log.h"
#include "daemon/supervisor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SESSION_REQUESTS_PER_TURN_MAX = 16,
	SESSION_ACCEPTS_PER_TURN_MAX = 16,
	SESSION_NUMBERS_AT_ONCE = 1024, /* reserved in STORE */
	SESSION_OUT_BYTES_MAX = 1 << 20,
};

static void session_die(struct session *session)
{
	if (session->dead)
		return;
	session->dead = true;
	supervisor_unwatch(session->super, &session->socket);
	eloq_list_remove(&session->link);
	eloq_list_push_back(&session->super->dead_sessions, &session->link);
}

/* --- Answers -----------------------------------------------------------------------------------
 */

void super_session_gate(struct session *session, const struct worker *worker)
{
	session->gates[worker->shard] = worker->out.queued;
}

static bool session_gates_open(const struct session *session)
{
	const struct supervisor *super = session->super;

	for (unsigned i = 0; i < super->worker_count; i++)
		if (super->workers[i].out.sent < session->gates[i])
			return false;
	return true;
}

/* Reads on only when all answers have left. */
static void session_watch(struct session *session, bool wants_room)
{
	bool wants_requests =
		session->out.count == 0 && session->wait == SESSION_WAIT_NONE && !session->closing;

	supervisor_watch_for(session->super, &session->socket,
			     (wants_requests ? EPOLLIN : 0u) | (wants_room ? EPOLLOUT : 0u));
}

static void session_flush(struct session *session)
{
	int r;

	if (session->dead)
		return;
	if (!session_gates_open(session)) {
		session_watch(session, false);
		return;
	}
	do {
		r = eloq_outbox_flush(&session->out, session->socket.fd);
		if (r == 0 && session->wait == SESSION_WAIT_LIST)
			super_table_list_go_on(session);
	} while (r == 0 && session->out.count);
	if (r < 0 && r != -EAGAIN && r != -ENOBUFS) {
		session_die(session);
		return;
	}
	if (session->closing && session->out.count == 0) {
		session_die(session);
		return;
	}
	/* -ENOBUFS passes; being told of room at once, again and again, is the lesser evil than a
	 * client that waits for ever. */
	session_watch(session, session->out.count != 0);
}

void super_session_send(struct session *session, const void *message, const void *text,
			size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count)
{
	if (session->dead)
		return;
	if (session->out.bytes > SESSION_OUT_BYTES_MAX ||
	    eloq_outbox_put(&session->out, message, text, text_bytes, fds, fd_count) < 0)
		session_die(session);
}

void super_session_send_error(struct session *session, uint32_t seq, int error, const char *words)
{
	const char *text = words && words[0] ? words : eloq_err_text(error);
	struct eloq_msg_error msg = {
		.code = eloq_control_code_from_error(error),
		.text_bytes = (uint32_t)strlen(text),
	};

	eloq_control_init(&msg, ELOQ_CONTROL_ERROR, sizeof(msg), seq);
	super_session_send(session, &msg, text, msg.text_bytes, NULL, 0);
}

void super_session_send_done(struct session *session, uint32_t seq)
{
	struct eloq_msg_done msg = { 0 };

	eloq_control_init(&msg, ELOQ_CONTROL_DONE, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, NULL, 0);
}

void super_session_send_text(struct session *session, uint32_t seq, const char *text, size_t bytes)
{
	do {
		size_t part = bytes < ELOQ_CONTROL_TEXT_MAX ? bytes : ELOQ_CONTROL_TEXT_MAX;
		struct eloq_msg_text msg = { .text_bytes = (uint32_t)part, .more = part < bytes };

		eloq_control_init(&msg, ELOQ_CONTROL_TEXT, sizeof(msg), seq);
		super_session_send(session, &msg, text, part, NULL, 0);
		text += part;
		bytes -= part;
	} while (bytes);
}

void super_session_resume(struct session *session)
{
	session->wait = SESSION_WAIT_NONE;
	session_flush(session);
}

void super_sessions_gates_moved(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->sessions) {
		struct session *session = eloq_list_entry(node, struct session, link);

		if (session->out.count)
			session_flush(session);
	}
}

/* --- HELLO -------------------------------------------------------------------------------------
 */

static int session_take_number(struct supervisor *super, uint64_t *ret_number)
{
	int r;

	if (super->session_next == super->store.session_end) {
		super->store.session_end += SESSION_NUMBERS_AT_ONCE;
		r = supervisor_save(super, NULL);
		if (r < 0) {
			super->store.session_end -= SESSION_NUMBERS_AT_ONCE;
			return r;
		}
	}
	*ret_number = super->session_next++;
	return 0;
}

static void session_welcome(struct session *session, uint32_t seq)
{
	const struct supervisor *super = session->super;
	struct eloq_shared_fd *pages[ELOQ_SHARDS_MAX];
	struct eloq_msg_welcome msg = {
		.session = session->number,
		.shard_count = super->worker_count,
		.page_bytes = super->store.page_bytes,
		.key_bytes_max = super->store.page_bytes / 2,
		.value_bytes_max = ELOQ_VALUE_BYTES_MAX,
		.daemon_pid = (uint32_t)getpid(),
	};

	memcpy(msg.uuid, super->store.uuid, sizeof(msg.uuid));
	(void)snprintf(msg.release, sizeof(msg.release), "%s", ELOQ_VERSION);
	for (unsigned i = 0; i < super->worker_count; i++)
		pages[i] = super->workers[i].page_read_only;
	eloq_control_init(&msg, ELOQ_CONTROL_WELCOME, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, pages, super->worker_count);
}

/* Printable ASCII only: it goes into logs. */
static void session_copy_name(char name[32], const char *from)
{
	for (unsigned i = 0; i < 31 && from[i]; i++)
		name[i] = from[i] > ' ' && from[i] < 0x7f && from[i] != '"' && from[i] != '\\'
				  ? from[i]
				  : '_';
}

static void session_hello(struct session *session, const struct eloq_msg_hello *msg)
{
	char words[128];
	int r;

	if (msg->layout_version != ELOQ_LAYOUT_VERSION) {
		(void)snprintf(words, sizeof(words),
			       "the client knows memory layout version %u, the daemon version %d",
			       msg->layout_version, ELOQ_LAYOUT_VERSION);
		super_session_send_error(session, msg->header.seq, -ELOQ_EVERSION, words);
		session->closing = true;
		return;
	}
	if (session->greeted) {
		super_session_send_error(session, msg->header.seq, -ELOQ_EPROTOCOL,
					 "a second HELLO");
		session->closing = true;
		return;
	}
	r = session_take_number(session->super, &session->number);
	if (r < 0) {
		super_session_send_error(session, msg->header.seq, r,
					 "no session number can be kept");
		session->closing = true;
		return;
	}
	session->greeted = true;
	session->pid = msg->pid;
	session_copy_name(session->name, msg->name);
	session_welcome(session, msg->header.seq);
}

/* --- Requests ----------------------------------------------------------------------------------
 */

static void session_channel_open(struct session *session, uint32_t seq)
{
	struct eloq_msg_channel msg = { 0 };
	char words[64];
	int r = super_lane_channel_open(session, &msg.channel);

	if (r < 0) {
		(void)snprintf(words, sizeof(words), "%u channels, the most one client can have",
			       session->channel_count);
		super_session_send_error(session, seq, r, r == -ELOQ_ETOOMANY ? words : NULL);
		return;
	}
	eloq_control_init(&msg, ELOQ_CONTROL_CHANNEL, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, NULL, 0);
}

static void session_done_or_error(struct session *session, uint32_t seq, int r, const char *words)
{
	if (r < 0)
		super_session_send_error(session, seq, r, words);
	else
		super_session_send_done(session, seq);
}

static void session_lane_open(struct session *session, const struct eloq_msg_lane_open *msg)
{
	struct eloq_errinfo error = { 0 };
	int r = super_lane_open(session, msg->header.seq, msg->channel, msg->shard, &error);

	if (r < 0)
		super_session_send_error(session, msg->header.seq, r, error.text);
}

static void session_bulk_open(struct session *session, const struct eloq_msg_bulk_open *msg)
{
	struct eloq_errinfo error = { 0 };
	int r = super_lane_bulk_open(session, msg, &error);

	if (r < 0)
		super_session_send_error(session, msg->header.seq, r, error.text);
}

static void session_serve(struct session *session, const uint8_t *message)
{
	const struct eloq_control_header *header = (const void *)message;
	const void *msg = message;

	switch (header->type) {
	case ELOQ_CONTROL_CHANNEL_OPEN:
		session_channel_open(session, header->seq);
		break;
	case ELOQ_CONTROL_LANE_OPEN:
		session_lane_open(session, msg);
		break;
	case ELOQ_CONTROL_BULK_OPEN:
		session_bulk_open(session, msg);
		break;
	case ELOQ_CONTROL_BULK_CLOSE:
		session_done_or_error(session, header->seq, super_lane_bulk_close(session, msg),
				      "there is no such bulk memory");
		break;
	case ELOQ_CONTROL_CHANNEL_CLOSE:
		session_done_or_error(
			session, header->seq,
			super_lane_channel_close(
				session, ((const struct eloq_msg_channel_close *)msg)->channel),
			"there is no such channel");
		break;
	case ELOQ_CONTROL_TABLE_OPEN:
		super_table_open(session, msg);
		break;
	case ELOQ_CONTROL_TABLE_CREATE:
		super_table_create(session, msg);
		break;
	case ELOQ_CONTROL_TABLE_DROP:
		super_table_drop(session, msg);
		break;
	case ELOQ_CONTROL_TABLE_LIST:
		super_table_list(session, header->seq);
		break;
	case ELOQ_CONTROL_LOOK:
		super_look_answer(session, msg);
		break;
	default:
		super_session_send_error(session, header->seq, -ELOQ_EPROTOCOL,
					 "not a request of a client");
		session->closing = true;
	}
}

static void session_handle(struct session *session, const uint8_t *message)
{
	const struct eloq_control_header *header = (const void *)message;

	if (supervisor_is_stopping(session->super) && header->type != ELOQ_CONTROL_CHANNEL_CLOSE &&
	    header->type != ELOQ_CONTROL_BULK_CLOSE) {
		super_session_send_error(session, header->seq, -ELOQ_ESTOPPED, NULL);
	} else if (header->type == ELOQ_CONTROL_HELLO) {
		session_hello(session, (const void *)message);
	} else if (!session->greeted) {
		super_session_send_error(session, header->seq, -ELOQ_EPROTOCOL,
					 "HELLO comes first");
		session->closing = true;
	} else {
		session_serve(session, message);
	}
}

/* What cannot be read is answered as well as its header allows, then the client is let go. */
static void session_refuse(struct session *session, const uint8_t *message, int error)
{
	const struct eloq_control_header *header = (const void *)message;
	char words[96] = "malformed message";

	if (error == -ELOQ_EVERSION)
		(void)snprintf(
			words, sizeof(words),
			"the client speaks version %u of the protocol, the daemon version %d",
			header->version, ELOQ_CONTROL_VERSION);
	super_session_send_error(session, error == -ELOQ_EVERSION ? header->seq : 0, error, words);
	session->closing = true;
}

static void session_read(struct session *session)
{
	static _Alignas(8) uint8_t message[ELOQ_CONTROL_BYTES_MAX]; /* one thread, no recursion */

	for (unsigned i = 0; i < SESSION_REQUESTS_PER_TURN_MAX; i++) {
		int r;

		if (session->dead || session->closing || session->out.count ||
		    session->wait != SESSION_WAIT_NONE)
			return;
		r = eloq_control_receive(session->socket.fd, message, sizeof(message), NULL, 0,
					 NULL);
		if (r == -EAGAIN)
			return;
		if (r > 0)
			session_handle(session, message);
		else if (r == -ELOQ_EVERSION || r == -ELOQ_EPROTOCOL)
			session_refuse(session, message, r);
		else
			session_die(session);
		session_flush(session);
	}
}

static void session_ready(struct watch *watch, uint32_t events)
{
	struct session *session = eloq_container_of(watch, struct session, socket);

	if (events & EPOLLIN)
		session_read(session);
	if (!session->dead && events & EPOLLOUT)
		session_flush(session);
	/* Hung up, and nothing is left to read: reading would have found out itself. */
	if (!session->dead && events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN))
		session_die(session);
}

/* --- Coming ------------------------------------------------------------------------------------
 */

/* Words for one who is not let in: a single try, as nobody waits for him. */
static void session_turn_away(int socket, int error, const char *words)
{
	struct eloq_msg_error msg = {
		.code = eloq_control_code_from_error(error),
		.text_bytes = (uint32_t)strlen(words),
	};

	eloq_control_init(&msg, ELOQ_CONTROL_ERROR, sizeof(msg), 0);
	(void)eloq_control_send(socket, &msg, words, msg.text_bytes, NULL, 0);
	eloq_fd_close(socket);
}

static void session_start(struct supervisor *super, int socket, uid_t uid)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session) {
		session_turn_away(socket, -ELOQ_ETOOMANY, "no memory for another client");
		return;
	}
	session->super = super;
	session->uid = uid;
	session->socket = (struct watch){ .fd = -1, .ready = session_ready };
	eloq_list_init(&session->link);
	eloq_list_init(&session->channels);
	eloq_outbox_init(&session->out);
	if (supervisor_watch(super, &session->socket, socket, EPOLLIN) < 0) {
		session_turn_away(socket, -ELOQ_ETOOMANY, "no place to watch another client");
		free(session);
		return;
	}
	eloq_list_push_back(&super->sessions, &session->link);
	super->session_count++;
}

static void session_admit(struct supervisor *super, int socket)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t peer_bytes = sizeof(peer);
	char words[96];

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0 ||
	    (peer.uid != 0 && peer.uid != super->dir.owner)) {
		(void)snprintf(words, sizeof(words),
			       "uid %u is neither root nor the owner of the data directory",
			       (unsigned)peer.uid);
		session_turn_away(socket, -ELOQ_EDENIED, words);
		return;
	}
	if (super->session_count >= ELOQ_CLIENTS_MAX) {
		(void)snprintf(words, sizeof(words),
			       "%u clients are connected, the most there can be",
			       super->session_count);
		session_turn_away(socket, -ELOQ_ETOOMANY, words);
		return;
	}
	session_start(super, socket, peer.uid);
}

static void sessions_accept(struct watch *watch, uint32_t events ELOQ_UNUSED)
{
	struct supervisor *super = eloq_container_of(watch, struct supervisor, listener);

	for (unsigned i = 0; i < SESSION_ACCEPTS_PER_TURN_MAX; i++) {
		int socket = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (socket < 0) {
			/* Without descriptors a client waits at the door; asking again at once
			 * would only burn the CPU. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
				supervisor_watch_for(super, watch, 0);
			return;
		}
		session_admit(super, socket);
	}
}

int super_sessions_listen(struct supervisor *super, struct eloq_errinfo *reterr)
{
	int fd, r;

	fd = eloq_control_listen(super->socket_path, SOMAXCONN);
	if (fd < 0)
		return eloq_fail_errno(reterr, fd, "cannot listen at %s", super->socket_path);
	super->listener.ready = sessions_accept;
	r = supervisor_watch(super, &super->listener, fd, EPOLLIN);
	if (r < 0) {
		(void)unlink(super->socket_path);
		eloq_fd_close(fd);
		return eloq_fail_errno(reterr, r, "cannot watch %s", super->socket_path);
	}
	return 0;
}

void super_sessions_stop_listening(struct supervisor *super)
{
	if (super->listener.fd < 0)
		return;
	(void)unlink(super->socket_path);
	supervisor_unwatch(super, &super->listener);
}

/* --- Going -------------------------------------------------------------------------------------
 */

void super_sessions_bury(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->dead_sessions) {
		struct session *session = eloq_list_entry(node, struct session, link);

		eloq_list_remove(&session->link);
		super_lane_close_session(session);
		super_looks_session_gone(session);
		eloq_outbox_clear(&session->out);
		super->session_count--;
		free(session);
	}
}

void super_sessions_check(struct supervisor *super)
{
	if (super->listener.fd >= 0)
		supervisor_watch_for(super, &super->listener, EPOLLIN);
}

void super_sessions_close_all(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->sessions)
		session_die(eloq_list_entry(node, struct session, link));
	super_sessions_bury(super);
}
