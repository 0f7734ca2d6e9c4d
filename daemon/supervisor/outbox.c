/*
 * outbox.c - packets on their way out, and the descriptors that travel with them. See outbox.h.
 */
#include "daemon/supervisor/outbox.h"

#include "common/fd.h"
#include "shm/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct eloq_shared_fd {
	int fd;
	unsigned refs;
};

struct outbox_packet {
	struct eloq_list link;
	size_t message_bytes;
	size_t text_bytes;
	uint8_t *bytes; /* message, then text; behind fds */
	unsigned fd_count;
	struct eloq_shared_fd *fds[];
};

struct eloq_shared_fd *eloq_shared_fd_new(int fd)
{
	struct eloq_shared_fd *shared = malloc(sizeof(*shared));

	if (!shared) {
		eloq_fd_close(fd);
		return NULL;
	}
	shared->fd = fd;
	shared->refs = 1;
	return shared;
}

struct eloq_shared_fd *eloq_shared_fd_ref(struct eloq_shared_fd *shared)
{
	shared->refs++;
	return shared;
}

void eloq_shared_fd_unref(struct eloq_shared_fd *shared)
{
	if (!shared || --shared->refs)
		return;
	eloq_fd_close(shared->fd);
	free(shared);
}

int eloq_shared_fd_get(const struct eloq_shared_fd *shared)
{
	return shared->fd;
}

void eloq_outbox_init(struct eloq_outbox *outbox)
{
	memset(outbox, 0, sizeof(*outbox));
	eloq_list_init(&outbox->packets);
}

static void outbox_drop(struct eloq_outbox *outbox, struct outbox_packet *packet)
{
	eloq_list_remove(&packet->link);
	outbox->bytes -= packet->message_bytes + packet->text_bytes;
	outbox->count--;
	outbox->sent++;
	for (unsigned i = 0; i < packet->fd_count; i++)
		eloq_shared_fd_unref(packet->fds[i]);
	free(packet);
}

void eloq_outbox_clear(struct eloq_outbox *outbox)
{
	eloq_list_for_each_safe (node, &outbox->packets)
		outbox_drop(outbox, eloq_list_entry(node, struct outbox_packet, link));
}

int eloq_outbox_put(struct eloq_outbox *outbox, const void *message, const void *text,
		    size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count)
{
	struct eloq_control_header header;
	struct outbox_packet *packet;

	memcpy(&header, message, sizeof(header));
	eloq_assert(fd_count <= ELOQ_CONTROL_FDS_MAX);
	packet = malloc(sizeof(*packet) + fd_count * sizeof(packet->fds[0]) + header.bytes +
			text_bytes);
	if (!packet)
		return -ENOMEM;
	packet->bytes = (uint8_t *)&packet->fds[fd_count];
	packet->message_bytes = header.bytes;
	packet->text_bytes = text_bytes;
	packet->fd_count = fd_count;
	for (unsigned i = 0; i < fd_count; i++)
		packet->fds[i] = eloq_shared_fd_ref(fds[i]);
	memcpy(packet->bytes, message, header.bytes);
	if (text_bytes)
		memcpy(packet->bytes + header.bytes, text, text_bytes);
	eloq_list_push_back(&outbox->packets, &packet->link);
	outbox->bytes += header.bytes + text_bytes;
	outbox->count++;
	outbox->queued++;
	return 0;
}

static int outbox_send(const struct outbox_packet *packet, int socket)
{
	int fds[ELOQ_CONTROL_FDS_MAX];

	for (unsigned i = 0; i < packet->fd_count; i++)
		fds[i] = packet->fds[i]->fd;
	return eloq_control_send(socket, packet->bytes, packet->bytes + packet->message_bytes,
				 packet->text_bytes, fds, packet->fd_count);
}

int eloq_outbox_flush(struct eloq_outbox *outbox, int socket)
{
	eloq_list_for_each_safe (node, &outbox->packets) {
		struct outbox_packet *packet = eloq_list_entry(node, struct outbox_packet, link);
		int r = outbox_send(packet, socket);

		if (r == -ETOOMANYREFS || r == -ENOMEM)
			return -ENOBUFS;
		if (r < 0)
			return r;
		outbox_drop(outbox, packet);
	}
	return 0;
}
