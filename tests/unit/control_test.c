/*
 * control_test.c - messages on sockets: what arrives is whole and checked, or refused.
 */
#include "shm/control.h"

#include "common/fd.h"
#include "common/prng.h"
#include "tests/support/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

static int near_end, far_end;
static _Alignas(8) uint8_t buffer[ELOQ_CONTROL_BYTES_MAX];

static void open_pair(void)
{
	int ends[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	near_end = ends[0];
	far_end = ends[1];
}

static void close_pair(void)
{
	eloq_fd_close(near_end);
	eloq_fd_close(far_end);
}

static int open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static int receive_plain(void)
{
	return eloq_control_receive(far_end, buffer, sizeof(buffer), NULL, 0, NULL);
}

TEST(a_message_arrives_with_its_text_and_descriptors)
{
	struct eloq_msg_text text = { .text_bytes = 5, .more = 1 };
	const struct eloq_msg_text *got = (const void *)buffer;
	int sent[2], received[ELOQ_CONTROL_FDS_MAX];
	unsigned count = 0;

	open_pair();
	ck_assert_int_eq(pipe2(sent, O_CLOEXEC), 0);
	eloq_control_init(&text, ELOQ_CONTROL_TEXT, sizeof(text) + 5, 77);
	ck_assert_int_eq(eloq_control_send(near_end, &text, "hello", 5, sent, 2), 0);
	ck_assert_int_eq(eloq_control_receive(far_end, buffer, sizeof(buffer), received,
					      ELOQ_CONTROL_FDS_MAX, &count),
			 (int)sizeof(text) + 5);
	ck_assert_uint_eq(got->header.type, ELOQ_CONTROL_TEXT);
	ck_assert_uint_eq(got->header.bytes, sizeof(text) + 5);
	ck_assert_uint_eq(got->header.seq, 77);
	ck_assert_uint_eq(got->more, 1);
	ck_assert_int_eq(memcmp(got + 1, "hello", 5), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_int_eq(write(received[1], "x", 1), 1);
	ck_assert_int_eq(read(sent[0], buffer, 1), 1);
	ck_assert_int_ne(fcntl(received[0], F_GETFD) & FD_CLOEXEC, 0);
	for (int i = 0; i < 2; i++) {
		eloq_fd_close(sent[i]);
		eloq_fd_close(received[i]);
	}
	close_pair();
}

TEST(the_length_on_the_wire_counts_the_text_even_if_the_caller_did_not)
{
	struct eloq_msg_w_reply reply = { .text_bytes = 3 };

	open_pair();
	eloq_control_init(&reply, ELOQ_CONTROL_W_READY, sizeof(reply), 0);
	ck_assert_int_eq(eloq_control_send(near_end, &reply, "abc", 3, NULL, 0), 0);
	ck_assert_int_eq(receive_plain(), (int)sizeof(reply) + 3);
	close_pair();
}

TEST(descriptors_that_nobody_wants_are_dropped_by_the_kernel)
{
	struct eloq_msg_channel_open open = { 0 };
	int before, fds[2];

	open_pair();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	before = open_descriptors();
	eloq_control_init(&open, ELOQ_CONTROL_CHANNEL_OPEN, sizeof(open), 1);
	ck_assert_int_eq(eloq_control_send(near_end, &open, NULL, 0, fds, 2), 0);
	ck_assert_int_eq(receive_plain(), (int)sizeof(open));
	ck_assert_int_eq(open_descriptors(), before);
	eloq_fd_close(fds[0]);
	eloq_fd_close(fds[1]);
	close_pair();
}

TEST(more_descriptors_than_wanted_are_refused_and_none_stays_open)
{
	struct eloq_msg_channel_open open = { 0 };
	int before, fds[2], received[1];
	unsigned count;

	open_pair();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	before = open_descriptors();
	eloq_control_init(&open, ELOQ_CONTROL_CHANNEL_OPEN, sizeof(open), 1);
	ck_assert_int_eq(eloq_control_send(near_end, &open, NULL, 0, fds, 2), 0);
	ck_assert_int_eq(eloq_control_receive(far_end, buffer, sizeof(buffer), received, 1, &count),
			 -ELOQ_EPROTOCOL);
	ck_assert_int_eq(open_descriptors(), before);
	eloq_fd_close(fds[0]);
	eloq_fd_close(fds[1]);
	close_pair();
}

TEST(a_closed_socket_reads_as_zero_and_an_empty_one_as_again)
{
	open_pair();
	ck_assert_int_eq(receive_plain(), -EAGAIN);
	eloq_fd_clear(&near_end);
	ck_assert_int_eq(receive_plain(), 0);
	close_pair();
}

/* Sends raw bytes, so that nothing of ours can put them right. */
static int receive_raw(const void *bytes, size_t count)
{
	ck_assert_int_eq(send(near_end, bytes, count, 0), (ssize_t)count);
	return receive_plain();
}

TEST(another_version_is_told_apart_from_nonsense)
{
	struct eloq_msg_hello hello = { .layout_version = 1 };

	open_pair();
	eloq_control_init(&hello, ELOQ_CONTROL_HELLO, sizeof(hello), 9);
	hello.header.version = ELOQ_CONTROL_VERSION + 1;
	ck_assert_int_eq(receive_raw(&hello, sizeof(hello)), -ELOQ_EVERSION);
	ck_assert_uint_eq(((struct eloq_control_header *)(void *)buffer)->version,
			  ELOQ_CONTROL_VERSION + 1);
	hello.header.version = ELOQ_CONTROL_VERSION;
	hello.header.magic++;
	ck_assert_int_eq(receive_raw(&hello, sizeof(hello)), -ELOQ_EPROTOCOL);
	hello.header.magic--;
	ck_assert_int_eq(receive_raw(&hello, sizeof(hello)), (int)sizeof(hello));
	close_pair();
}

TEST(wrong_lengths_unknown_types_and_open_strings_are_refused)
{
	struct eloq_msg_table_name table = { .partitions = 1 };
	struct eloq_msg_error error = { .text_bytes = 100 };

	open_pair();
	eloq_control_init(&table, ELOQ_CONTROL_TABLE_OPEN, sizeof(table), 1);
	ck_assert_int_eq(receive_raw(&table, sizeof(table)), (int)sizeof(table));
	ck_assert_int_eq(receive_raw(&table, sizeof(table) - 4), -ELOQ_EPROTOCOL);
	ck_assert_int_eq(receive_raw(&table, 3), -ELOQ_EPROTOCOL);
	memset(table.name, 'x', sizeof(table.name));
	ck_assert_int_eq(receive_raw(&table, sizeof(table)), -ELOQ_EPROTOCOL);
	eloq_control_init(&table, (enum eloq_control_type)63, sizeof(table), 1);
	ck_assert_int_eq(receive_raw(&table, sizeof(table)), -ELOQ_EPROTOCOL);
	eloq_control_init(&error, ELOQ_CONTROL_ERROR, sizeof(error), 1);
	ck_assert_int_eq(receive_raw(&error, sizeof(error)), -ELOQ_EPROTOCOL);
	close_pair();
}

TEST(a_packet_longer_than_the_buffer_is_refused)
{
	struct eloq_msg_text text = { .text_bytes = ELOQ_CONTROL_TEXT_MAX };
	static char words[ELOQ_CONTROL_TEXT_MAX];

	open_pair();
	eloq_control_init(&text, ELOQ_CONTROL_TEXT, sizeof(text) + sizeof(words), 1);
	ck_assert_int_eq(eloq_control_send(near_end, &text, words, sizeof(words), NULL, 0), 0);
	ck_assert_int_eq(eloq_control_receive(far_end, buffer, 256, NULL, 0, NULL),
			 -ELOQ_EPROTOCOL);
	close_pair();
}

/* Whatever is accepted has the length its type promises. */
TEST(the_last_words_of_who_left_without_reading_all_arrive)
{
	struct eloq_msg_done done = { 0 };
	const struct eloq_control_header *got = (const void *)buffer;

	open_pair();
	eloq_control_init(&done, ELOQ_CONTROL_DONE, sizeof(done), 7);
	ck_assert_int_eq(eloq_control_send(far_end, &done, NULL, 0, NULL, 0), 0);
	ck_assert_int_eq(eloq_control_send(near_end, &done, NULL, 0, NULL, 0), 0);
	eloq_fd_clear(&near_end);
	ck_assert_int_eq(receive_plain(), (int)sizeof(done));
	ck_assert_uint_eq(got->seq, 7);
	ck_assert_int_eq(receive_plain(), 0);
	close_pair();
}

TEST(mutated_messages_are_refused_or_keep_every_promise)
{
	struct eloq_prng prng;
	uint8_t packet[sizeof(struct eloq_msg_table_name)];
	int accepted = 0;

	eloq_prng_seed(&prng, test_seed());
	open_pair();
	for (int round = 0; round < 20000; round++) {
		const struct eloq_control_header *header = (const void *)buffer;
		size_t bytes = sizeof(packet);
		int r;

		memset(packet, 0, sizeof(packet));
		eloq_control_init(packet, ELOQ_CONTROL_TABLE_CREATE, sizeof(packet), 1);
		for (uint64_t n = eloq_prng_below(&prng, 4); n; n--)
			packet[eloq_prng_below(&prng, sizeof(packet))] =
				(uint8_t)eloq_prng_next(&prng);
		if (eloq_prng_below(&prng, 4) == 0)
			bytes = 1 + (size_t)eloq_prng_below(&prng, sizeof(packet));
		r = receive_raw(packet, bytes);
		if (r < 0)
			continue;
		accepted++;
		ck_assert_uint_eq(header->bytes, bytes);
		if (header->type == ELOQ_CONTROL_TABLE_CREATE)
			ck_assert_uint_eq(bytes, sizeof(packet));
	}
	ck_assert_int_gt(accepted, 0);
	close_pair();
}

TEST(codes_go_to_errors_and_back)
{
	for (uint32_t code = 0; code <= ELOQ_CONTROL_CODE_NO_SPACE; code++)
		ck_assert_uint_eq(eloq_control_code_from_error(eloq_control_code_to_error(code)),
				  code);
	ck_assert_int_eq(eloq_control_code_to_error(1000), -ELOQ_EPROTOCOL);
	ck_assert_int_eq(eloq_control_code_from_error(-EMFILE), ELOQ_CONTROL_CODE_TOO_MANY);
	ck_assert_str_eq(eloq_control_type_text(ELOQ_CONTROL_W_LANE), "W_LANE");
	ck_assert_str_eq(eloq_control_type_text(9999), "unknown type");
}

static void check_connection(const char *path)
{
	struct stat st;
	int listener, client, served;

	listener = eloq_control_listen(path, 4);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	client = eloq_control_connect(path);
	ck_assert_int_ge(client, 0);
	served = accept(listener, NULL, NULL);
	ck_assert_int_ge(served, 0);
	eloq_fd_close(served);
	eloq_fd_close(client);
	eloq_fd_close(listener);
}

TEST(a_path_longer_than_a_socket_address_goes_through_its_directory)
{
	char path[PATH_BYTES], name[101];

	memset(name, 'd', 100);
	name[100] = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	(void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", "s.sock");
	ck_assert_uint_gt(strlen(path), 108);
	check_connection(path);
	check_connection(path); /* and replaces the file that the first one left */
}

TEST(a_stale_socket_is_replaced_a_live_one_and_a_file_are_not)
{
	char path[PATH_BYTES];
	int live;

	(void)snprintf(path, sizeof(path), "%s/s.sock", test_tmpdir());
	ck_assert_int_eq(eloq_control_connect(path), -ENOENT);
	check_connection(path);
	ck_assert_int_eq(eloq_control_connect(path), -ECONNREFUSED);
	live = eloq_control_listen(path, 4);
	ck_assert_int_ge(live, 0);
	ck_assert_int_eq(eloq_control_listen(path, 4), -EADDRINUSE);
	eloq_fd_close(live);
	ck_assert_int_eq(unlink(path), 0);
	eloq_fd_close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ck_assert_int_eq(eloq_control_listen(path, 4), -EEXIST);
}
