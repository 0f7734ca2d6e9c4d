/*
 * control.c - messages on sockets: packets that are checked before anybody looks into them.
 *
 * Idea: one table says for each type how long its structure is and what else must hold (where its
 * text is counted, which strings are terminated). A packet that passed eloq_control_receive() can
 * be cast to the structure of its type and read without further thought about lengths.
 *
 * Always:   header.bytes == length of the packet == structure + text; strings are terminated;
 *           an error leaves no descriptor open.
 * Runs on:  any thread; one at a time for each socket and direction.
 * Fails by: -errno, -ELOQ_EPROTOCOL, -ELOQ_EVERSION.      docs/protocol.md, "Control messages".
 */
#include "shm/control.h"

#include "common/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What every message of a type has. Offsets are 0 for "none": the header lies there. */
struct control_shape {
	uint16_t type;
	uint16_t bytes;	    /* of the structure */
	uint16_t text_at;   /* where text_bytes lies; without it nothing follows the structure */
	uint16_t string_at; /* a zero-terminated string of string_bytes */
	uint16_t string_bytes;
};

#define SHAPE(type, structure)                                         \
	{                                                              \
		ELOQ_CONTROL_##type, sizeof(struct structure), 0, 0, 0 \
	}
#define SHAPE_TEXT(type, structure)                                  \
	{                                                            \
		ELOQ_CONTROL_##type, sizeof(struct structure),       \
			offsetof(struct structure, text_bytes), 0, 0 \
	}
#define SHAPE_STRING(type, structure, string)                     \
	{                                                         \
		ELOQ_CONTROL_##type, sizeof(struct structure), 0, \
			offsetof(struct structure, string),       \
			sizeof(((struct structure *)0)->string)   \
	}

static const struct control_shape control_shapes[] = {
	SHAPE_STRING(HELLO, eloq_msg_hello, name),
	SHAPE(CHANNEL_OPEN, eloq_msg_channel_open),
	SHAPE(LANE_OPEN, eloq_msg_lane_open),
	SHAPE(BULK_OPEN, eloq_msg_bulk_open),
	SHAPE(BULK_CLOSE, eloq_msg_bulk_close),
	SHAPE(CHANNEL_CLOSE, eloq_msg_channel_close),
	SHAPE_STRING(TABLE_OPEN, eloq_msg_table_name, name),
	SHAPE_STRING(TABLE_CREATE, eloq_msg_table_name, name),
	SHAPE_STRING(TABLE_DROP, eloq_msg_table_name, name),
	SHAPE_STRING(TABLE_LIST, eloq_msg_table_name, name),
	SHAPE(LOOK, eloq_msg_look),
	SHAPE_TEXT(ERROR, eloq_msg_error),
	SHAPE_STRING(WELCOME, eloq_msg_welcome, release),
	SHAPE(CHANNEL, eloq_msg_channel),
	SHAPE(LANE, eloq_msg_lane),
	SHAPE(BULK, eloq_msg_bulk),
	SHAPE(DONE, eloq_msg_done),
	SHAPE_STRING(TABLE, eloq_msg_table, name),
	SHAPE_TEXT(TEXT, eloq_msg_text),
	SHAPE_STRING(W_START, eloq_msg_w_start, log_level),
	SHAPE_TEXT(W_ROOT, eloq_msg_w_root),
	SHAPE_STRING(W_TABLE, eloq_msg_table, name),
	SHAPE(W_LANE, eloq_msg_w_lane),
	SHAPE(W_BULK, eloq_msg_w_bulk),
	SHAPE(W_GO, eloq_msg_w_plain),
	SHAPE(W_LANE_GONE, eloq_msg_w_lane_end),
	SHAPE(W_BULK_GONE, eloq_msg_w_bulk_gone),
	SHAPE_STRING(W_TABLE_DROP, eloq_msg_table, name),
	SHAPE(W_TIMESTAMPS, eloq_msg_w_timestamps),
	SHAPE(W_LOOK, eloq_msg_w_plain),
	SHAPE(W_STOP, eloq_msg_w_plain),
	SHAPE_TEXT(W_READY, eloq_msg_w_reply),
	SHAPE_TEXT(W_REPLY, eloq_msg_w_reply),
	SHAPE(W_LANE_CLOSED, eloq_msg_w_lane_end),
	SHAPE(W_TIMESTAMPS_LOW, eloq_msg_w_plain),
	SHAPE_STRING(W_FIGURES, eloq_msg_w_figures, io_backend),
	SHAPE_TEXT(W_STOPPED, eloq_msg_w_reply),
};

enum control_count {
#define CONTROL_COUNT_ONE(name, number) CONTROL_INDEX_##name,
	ELOQ_CONTROL_MAP(CONTROL_COUNT_ONE)
#undef CONTROL_COUNT_ONE
		CONTROL_TYPES,
};
static_assert(ELOQ_ARRAY_SIZE(control_shapes) == CONTROL_TYPES, "every type has a shape");
static_assert(sizeof(struct eloq_msg_text) + ELOQ_CONTROL_TEXT_MAX <= ELOQ_CONTROL_BYTES_MAX,
	      "a whole text fits into one packet");

/* Room for the descriptors of one packet, aligned as the kernel wants it. */
union control_fds {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(int) * ELOQ_CONTROL_FDS_MAX)];
};

static const struct control_shape *control_shape_of(unsigned type)
{
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(control_shapes); i++)
		if (control_shapes[i].type == type)
			return &control_shapes[i];
	return NULL;
}

void eloq_control_init(void *message, enum eloq_control_type type, size_t bytes, uint32_t seq)
{
	const struct eloq_control_header header = {
		.magic = ELOQ_CONTROL_MAGIC,
		.version = ELOQ_CONTROL_VERSION,
		.type = (uint16_t)type,
		.bytes = (uint32_t)bytes,
		.seq = seq,
	};

	memcpy(message, &header, sizeof(header));
}

/* --- Sending -----------------------------------------------------------------------------------
 */

static void control_attach(struct msghdr *packet, union control_fds *room, const int *fds,
			   unsigned fd_count)
{
	struct cmsghdr *cmsg;

	memset(room, 0, sizeof(*room));
	packet->msg_control = room;
	packet->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	cmsg = CMSG_FIRSTHDR(packet);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
}

/* The length on the wire comes from the type, so a caller need not count its text twice. */
int eloq_control_send(int socket, const void *message, const void *text, size_t text_bytes,
		      const int *fds, unsigned fd_count)
{
	const struct control_shape *shape;
	struct eloq_control_header header;
	struct iovec parts[3];
	struct msghdr packet = { .msg_iov = parts, .msg_iovlen = text_bytes ? 3 : 2 };
	union control_fds room;
	ssize_t sent;

	memcpy(&header, message, sizeof(header));
	shape = control_shape_of(header.type);
	if (!shape || fd_count > ELOQ_CONTROL_FDS_MAX || (text_bytes && !shape->text_at) ||
	    text_bytes > (size_t)ELOQ_CONTROL_BYTES_MAX - shape->bytes)
		return -EINVAL;
	header.bytes = (uint32_t)(shape->bytes + text_bytes);
	parts[0] = (struct iovec){ &header, sizeof(header) };
	parts[1] = (struct iovec){ (uint8_t *)(uintptr_t)message + sizeof(header),
				   shape->bytes - sizeof(header) };
	parts[2] = (struct iovec){ (void *)(uintptr_t)text, text_bytes };
	if (fd_count)
		control_attach(&packet, &room, fds, fd_count);
	do
		sent = sendmsg(socket, &packet, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* --- Receiving ---------------------------------------------------------------------------------
 */

static void control_close_all(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		eloq_fd_close(fds[i]);
}

/*
 * Moves what came beside the packet to @fds. More than there is room for, or anything that is not
 * a descriptor, is closed and refused.
 */
static int control_detach(struct msghdr *packet, int *fds, unsigned fds_max, unsigned *ret_count)
{
	unsigned count = 0;
	int r = packet->msg_flags & MSG_CTRUNC ? -ELOQ_EPROTOCOL : 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(packet); cmsg; cmsg = CMSG_NXTHDR(packet, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (count < fds_max) {
				fds[count++] = fd;
			} else {
				eloq_fd_close(fd);
				r = -ELOQ_EPROTOCOL;
			}
		}
	}
	if (r < 0) {
		control_close_all(fds, count);
		return r;
	}
	*ret_count = count;
	return 0;
}

static int control_check(const uint8_t *packet, size_t bytes)
{
	const struct control_shape *shape;
	struct eloq_control_header header;
	uint32_t text_bytes = 0;

	if (bytes < sizeof(header))
		return -ELOQ_EPROTOCOL;
	memcpy(&header, packet, sizeof(header));
	if (header.magic != ELOQ_CONTROL_MAGIC)
		return -ELOQ_EPROTOCOL;
	if (header.version != ELOQ_CONTROL_VERSION)
		return -ELOQ_EVERSION;
	shape = control_shape_of(header.type);
	if (!shape || header.bytes != bytes || bytes < shape->bytes)
		return -ELOQ_EPROTOCOL;
	if (shape->text_at)
		memcpy(&text_bytes, packet + shape->text_at, sizeof(text_bytes));
	if (bytes - shape->bytes != text_bytes)
		return -ELOQ_EPROTOCOL;
	if (shape->string_bytes && !memchr(packet + shape->string_at, 0, shape->string_bytes))
		return -ELOQ_EPROTOCOL;
	return 0;
}

int eloq_control_receive(int socket, void *buffer, size_t buffer_bytes, int *fds, unsigned fds_max,
			 unsigned *ret_fd_count)
{
	struct iovec part = { .iov_base = buffer, .iov_len = buffer_bytes };
	struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
	union control_fds room;
	unsigned fd_count = 0;
	ssize_t received;
	int r;

	if (fds) {
		packet.msg_control = &room;
		packet.msg_controllen = sizeof(room);
	}
	/* Who leaves without having read all is told as ECONNRESET, once, before its own last
	 * words: they count, and the end behind them is told as 0. */
	do
		received = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
	while (received < 0 && (errno == EINTR || errno == ECONNRESET));
	if (received < 0)
		return -errno;
	if (fds) {
		r = control_detach(&packet, fds, fds_max, &fd_count);
		if (r < 0)
			return r;
	}
	if (received == 0 && fd_count == 0)
		return 0;
	r = packet.msg_flags & MSG_TRUNC ? -ELOQ_EPROTOCOL
					 : control_check(buffer, (size_t)received);
	if (r < 0) {
		control_close_all(fds, fd_count);
		return r;
	}
	if (ret_fd_count)
		*ret_fd_count = fd_count;
	return (int)received;
}

/* --- Codes and names ---------------------------------------------------------------------------
 */

int eloq_control_code_to_error(uint32_t code)
{
	switch (code) {
#define CONTROL_CODE_CASE(name, number, error) \
	case number:                           \
		return -(error);
		ELOQ_CONTROL_CODE_MAP(CONTROL_CODE_CASE)
#undef CONTROL_CODE_CASE
	default:
		return -ELOQ_EPROTOCOL;
	}
}

enum eloq_control_code eloq_control_code_from_error(int error)
{
	int number = error < 0 ? -error : error;

	switch (number) {
#define CONTROL_ERROR_CASE(name, code, value) \
	case value:                           \
		return ELOQ_CONTROL_CODE_##name;
		ELOQ_CONTROL_CODE_MAP(CONTROL_ERROR_CASE)
#undef CONTROL_ERROR_CASE
	case EDQUOT:
		return ELOQ_CONTROL_CODE_NO_SPACE;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return ELOQ_CONTROL_CODE_TOO_MANY;
	case EACCES:
	case EPERM:
		return ELOQ_CONTROL_CODE_DENIED;
	default:
		return ELOQ_CONTROL_CODE_FAILED;
	}
}

const char *eloq_control_type_text(unsigned type)
{
	switch (type) {
#define CONTROL_TYPE_CASE(name, number) \
	case number:                    \
		return #name;
		ELOQ_CONTROL_MAP(CONTROL_TYPE_CASE)
#undef CONTROL_TYPE_CASE
	default:
		return "unknown type";
	}
}

/* --- Sockets -----------------------------------------------------------------------------------
 */

/*
 * The address of @path. One that is too long for a socket address is named through a descriptor of
 * its directory, which must stay open until the address was used: *ret_dir, or -1.
 */
static int control_address(const char *path, struct sockaddr_un *ret_address, int *ret_dir)
{
	const char *name = strrchr(path, '/');
	char directory[4096];
	size_t directory_bytes;
	int dir = -1, n;

	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->sun_family = AF_UNIX;
	if (path[0] == '\0')
		return -EINVAL;
	if (strlen(path) < sizeof(ret_address->sun_path)) {
		memcpy(ret_address->sun_path, path, strlen(path) + 1);
		*ret_dir = -1;
		return 0;
	}
	directory_bytes = name ? (size_t)(name - path) + 1 : 0;
	if (!name || directory_bytes >= sizeof(directory))
		return -ENAMETOOLONG;
	memcpy(directory, path, directory_bytes);
	directory[directory_bytes] = '\0';
	dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	n = snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s",
		     dir, name + 1);
	if (n < 0 || (size_t)n >= sizeof(ret_address->sun_path)) {
		eloq_fd_close(dir);
		return -ENAMETOOLONG;
	}
	*ret_dir = dir;
	return 0;
}

static int control_connect_at(const struct sockaddr_un *address, int flags, int *ret_socket)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	int r;

	if (fd < 0)
		return -errno;
	do
		r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	while (r < 0 && errno == EINTR);
	r = r < 0 ? -errno : 0;
	if (r == 0)
		*ret_socket = eloq_fd_take(&fd);
	eloq_fd_close(fd);
	return r;
}

int eloq_control_connect(const char *path)
{
	struct sockaddr_un address;
	int dir = -1, fd = -1, r;

	r = control_address(path, &address, &dir);
	if (r < 0)
		return r;
	r = control_connect_at(&address, 0, &fd);
	eloq_fd_close(dir);
	return r < 0 ? r : fd;
}

/* A socket file that nobody answers at was left by a daemon that was killed. */
static int control_remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int probe = -1, r;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	r = control_connect_at(address, SOCK_NONBLOCK, &probe);
	eloq_fd_close(probe);
	if (r != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int control_bind(int fd, const struct sockaddr_un *address)
{
	int r;

	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	r = control_remove_stale(address);
	if (r < 0)
		return r;
	return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

int eloq_control_listen(const char *path, unsigned backlog)
{
	struct sockaddr_un address;
	int dir = -1, fd, r;

	r = control_address(path, &address, &dir);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	/* The mode of the file to be: set before bind(), there is no moment with a wider one. */
	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0) {
		r = -errno;
		goto out;
	}
	r = control_bind(fd, &address);
	if (r < 0)
		goto out;
	if (listen(fd, (int)backlog) < 0) {
		r = -errno;
		goto out;
	}
	r = eloq_fd_take(&fd);
out:
	eloq_fd_close(fd);
	eloq_fd_close(dir);
	return r;
}
