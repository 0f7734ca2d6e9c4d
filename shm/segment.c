/*
 * segment.c - shared memory that cannot be pulled away.
 *
 * Idea: a memfd is given its full size and all its pages, then sealed: whoever holds a descriptor
 * can neither shrink it (SIGBUS on the other side), nor grow it (memory beyond the budget), nor add
 * seals (F_SEAL_WRITE would fail a later mapping). Mode 0600 and a second open that is
 * read-only keep other users' processes from writing what they were given to read.
 *
 * Always:   a descriptor that was returned is sealed and fully allocated.
 * Runs on:  any thread; nothing is shared.
 * Fails by: -errno, nothing left behind.                  docs/protocol.md, "Memory".
 */
#include "shm/segment.h"

#include "common/compiler.h"
#include "common/err.h"
#include "common/fd.h"
#include "shm/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEGMENT_ALIGN = ELOQ_SEGMENT_HEADER_BYTES };

static_assert(SEGMENT_ALIGN == ELOQ_BULK_BYTES_ALIGN, "bulk memory is made of pages too");

static int segment_allocate(int fd, size_t bytes)
{
	int r;

	do
		r = fallocate(fd, 0, 0, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int segment_write_header(int fd, uint32_t magic, size_t bytes)
{
	const struct eloq_segment_header header = {
		.magic = magic,
		.version = ELOQ_LAYOUT_VERSION,
		.bytes = bytes,
	};
	ssize_t written = pwrite(fd, &header, sizeof(header), 0);

	if (written < 0)
		return -errno;
	return written == (ssize_t)sizeof(header) ? 0 : -EIO;
}

static int segment_fill_and_seal(int fd, uint32_t magic, size_t bytes)
{
	int r;

	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0)
		return -errno;
	r = segment_allocate(fd, bytes);
	if (r < 0)
		return r;
	if (magic) {
		r = segment_write_header(fd, magic, bytes);
		if (r < 0)
			return r;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

int eloq_segment_create(const char *name, uint32_t magic, size_t bytes, int *ret_fd)
{
	int fd, r;

	if (bytes == 0 || bytes % SEGMENT_ALIGN)
		return -EINVAL;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r = segment_fill_and_seal(fd, magic, bytes);
	if (r < 0)
		goto out;
	*ret_fd = eloq_fd_take(&fd);
out:
	eloq_fd_close(fd);
	return r;
}

int eloq_segment_reopen_read_only(int fd, int *ret_fd)
{
	char path[32];
	int reader;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return -errno;
	*ret_fd = reader;
	return 0;
}

static int segment_protection(bool writable)
{
	return writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

int eloq_segment_map(int fd, size_t bytes, bool writable, void **ret_base)
{
	void *base = mmap(NULL, bytes, segment_protection(writable), MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	*ret_base = base;
	return 0;
}

void eloq_segment_unmap(void *base, size_t bytes)
{
	if (base)
		(void)munmap(base, bytes);
}

static size_t segment_mapped_bytes(size_t ring_bytes)
{
	return ELOQ_SEGMENT_HEADER_BYTES + 2 * ring_bytes;
}

/* The whole range is reserved first, so that the two fixed mappings replace nothing else's. */
int eloq_ring_segment_map(int fd, size_t ring_bytes, bool writable, void **ret_base)
{
	const size_t once = ELOQ_SEGMENT_HEADER_BYTES + ring_bytes;
	const int protection = segment_protection(writable);
	uint8_t *base;
	int r;

	if (!eloq_is_power_of_two(ring_bytes) || ring_bytes % SEGMENT_ALIGN)
		return -EINVAL;
	base = mmap(NULL, segment_mapped_bytes(ring_bytes), PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	if (mmap(base, once, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(base + once, ring_bytes, protection, MAP_SHARED | MAP_FIXED, fd,
		 ELOQ_SEGMENT_HEADER_BYTES) == MAP_FAILED) {
		r = -errno;
		eloq_ring_segment_unmap(base, ring_bytes);
		return r;
	}
	*ret_base = base;
	return 0;
}

void eloq_ring_segment_unmap(void *base, size_t ring_bytes)
{
	eloq_segment_unmap(base, segment_mapped_bytes(ring_bytes));
}

/* The version comes before the size: another version may count it otherwise. */
int eloq_segment_check(const void *base, uint32_t magic, size_t bytes)
{
	struct eloq_segment_header header;

	memcpy(&header, base, sizeof(header));
	if (header.magic != magic)
		return -ELOQ_EPROTOCOL;
	if (header.version != ELOQ_LAYOUT_VERSION)
		return -ELOQ_EVERSION;
	if (header.zero != 0 || header.bytes != bytes)
		return -ELOQ_EPROTOCOL;
	return 0;
}
