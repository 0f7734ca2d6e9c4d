/*
 * segment_test.c - shared memory that cannot be pulled away, and rings that never wrap.
 */
#include "shm/segment.h"

#include "common/err.h"
#include "common/fd.h"
#include "shm/layout.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RING_BYTES = 16 << 10, SEGMENT_BYTES = ELOQ_SEGMENT_HEADER_BYTES + RING_BYTES };

static int create(uint32_t magic, size_t bytes)
{
	int fd = -1;

	ck_assert_int_eq(eloq_segment_create("segment-test", magic, bytes, &fd), 0);
	ck_assert_int_ge(fd, 0);
	return fd;
}

TEST(a_segment_has_its_size_and_all_its_pages_at_once)
{
	int fd = create(ELOQ_REQUEST_SEGMENT_MAGIC, SEGMENT_BYTES);
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, SEGMENT_BYTES);
	ck_assert_int_ge(st.st_blocks * 512, SEGMENT_BYTES);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	eloq_fd_close(fd);
}

TEST(a_segment_cannot_be_shrunk_grown_or_sealed_further)
{
	int fd = create(ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES);

	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	ck_assert_int_lt(ftruncate(fd, 0), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_lt(ftruncate(fd, 2 * SEGMENT_BYTES), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_lt(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	ck_assert_int_eq(errno, EPERM);
	eloq_fd_close(fd);
}

TEST(a_reader_sees_the_memory_and_cannot_write_or_map_it_writable)
{
	int fd = create(0, ELOQ_BULK_BYTES_ALIGN), reader = -1;
	void *base, *view, *refused = NULL;

	ck_assert_int_eq(eloq_segment_reopen_read_only(fd, &reader), 0);
	ck_assert_int_eq(eloq_segment_map(fd, ELOQ_BULK_BYTES_ALIGN, true, &base), 0);
	ck_assert_int_eq(eloq_segment_map(reader, ELOQ_BULK_BYTES_ALIGN, false, &view), 0);
	memcpy(base, "written", 8);
	ck_assert_str_eq(view, "written");
	ck_assert_int_eq(write(reader, "x", 1), -1);
	ck_assert_int_eq(eloq_segment_map(reader, ELOQ_BULK_BYTES_ALIGN, true, &refused), -EACCES);
	ck_assert_ptr_null(refused);
	ck_assert_int_lt(mprotect(view, ELOQ_BULK_BYTES_ALIGN, PROT_READ | PROT_WRITE), 0);
	eloq_segment_unmap(base, ELOQ_BULK_BYTES_ALIGN);
	eloq_segment_unmap(view, ELOQ_BULK_BYTES_ALIGN);
	eloq_fd_close(reader);
	eloq_fd_close(fd);
}

TEST(descriptors_do_not_reach_programs_that_are_started)
{
	int fd = create(0, ELOQ_BULK_BYTES_ALIGN), reader = -1;

	ck_assert_int_eq(eloq_segment_reopen_read_only(fd, &reader), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(reader, F_GETFD), FD_CLOEXEC);
	eloq_fd_close(reader);
	eloq_fd_close(fd);
}

/* Byte by byte: a write on either side of the seam shows at both places. */
TEST(a_ring_lies_twice_in_a_row_behind_its_header)
{
	int fd = create(ELOQ_REQUEST_SEGMENT_MAGIC, SEGMENT_BYTES);
	uint8_t *base, *ring;
	void *mapped;

	ck_assert_int_eq(eloq_ring_segment_map(fd, RING_BYTES, true, &mapped), 0);
	base = mapped;
	ring = base + ELOQ_SEGMENT_HEADER_BYTES;
	for (unsigned i = 0; i < RING_BYTES; i++)
		ring[i] = (uint8_t)(i * 7);
	ck_assert_int_eq(memcmp(ring, ring + RING_BYTES, RING_BYTES), 0);
	memcpy(ring + RING_BYTES - 4, (const uint8_t[8]){ 1, 2, 3, 4, 5, 6, 7, 8 }, 8);
	ck_assert_mem_eq(ring + RING_BYTES - 4, ((uint8_t[]){ 1, 2, 3, 4 }), 4);
	ck_assert_mem_eq(ring, ((uint8_t[]){ 5, 6, 7, 8 }), 4);
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_REQUEST_SEGMENT_MAGIC, SEGMENT_BYTES), 0);
	eloq_ring_segment_unmap(base, RING_BYTES);
	eloq_fd_close(fd);
}

TEST(sizes_that_cannot_be_mapped_are_refused)
{
	int fd = -1, segment = create(ELOQ_REQUEST_SEGMENT_MAGIC, SEGMENT_BYTES);
	void *base = NULL;

	ck_assert_int_eq(eloq_segment_create("x", 0, 0, &fd), -EINVAL);
	ck_assert_int_eq(eloq_segment_create("x", 0, 4097, &fd), -EINVAL);
	ck_assert_int_eq(fd, -1);
	ck_assert_int_eq(eloq_ring_segment_map(segment, 0, true, &base), -EINVAL);
	ck_assert_int_eq(eloq_ring_segment_map(segment, 2048, true, &base), -EINVAL);
	ck_assert_int_eq(eloq_ring_segment_map(segment, 12 << 10, true, &base), -EINVAL);
	ck_assert_int_eq(eloq_ring_segment_map(-1, RING_BYTES, true, &base), -EBADF);
	ck_assert_int_eq(eloq_segment_map(-1, 4096, true, &base), -EBADF);
	ck_assert_ptr_null(base);
	eloq_segment_unmap(NULL, 4096);
	eloq_ring_segment_unmap(NULL, RING_BYTES);
	eloq_fd_close(segment);
}

TEST(a_header_of_another_kind_size_or_version_is_refused_by_its_own_name)
{
	int fd = create(ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES);
	struct eloq_segment_header *header;
	void *base;

	ck_assert_int_eq(eloq_segment_map(fd, SEGMENT_BYTES, true, &base), 0);
	header = base;
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES), 0);
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_REQUEST_SEGMENT_MAGIC, SEGMENT_BYTES),
			 -ELOQ_EPROTOCOL);
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES + 4096),
			 -ELOQ_EPROTOCOL);
	header->version = ELOQ_LAYOUT_VERSION + 1;
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES),
			 -ELOQ_EVERSION);
	/* A later version may count its size otherwise: the version is what we say. */
	header->bytes = 1;
	ck_assert_int_eq(eloq_segment_check(base, ELOQ_ANSWER_SEGMENT_MAGIC, SEGMENT_BYTES),
			 -ELOQ_EVERSION);
	eloq_segment_unmap(base, SEGMENT_BYTES);
	eloq_fd_close(fd);
}

TEST(plain_memory_starts_as_zeros_without_a_header)
{
	static const uint8_t zeros[ELOQ_BULK_BYTES_ALIGN];
	int fd = create(0, ELOQ_BULK_BYTES_ALIGN);
	void *base;

	ck_assert_int_eq(eloq_segment_map(fd, ELOQ_BULK_BYTES_ALIGN, false, &base), 0);
	ck_assert_int_eq(memcmp(base, zeros, sizeof(zeros)), 0);
	eloq_segment_unmap(base, ELOQ_BULK_BYTES_ALIGN);
	eloq_fd_close(fd);
}
