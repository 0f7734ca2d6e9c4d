/*
 * segment.h - shared memory that cannot be pulled away: sealed memfds and their mappings.
 *
 * Made by the supervisor only: full size at once, mode 0600, sealed against shrinking, growing and
 * further seals. A reader's descriptor is a second, read-only open of the same memory. Rings are
 * mapped twice in a row so that a record never wraps.
 *
 * Fails by: -errno. Owner of a mapping unmaps it; descriptors are the caller's.
 */
#ifndef ELOQ_SHM_SEGMENT_H
#define ELOQ_SHM_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Make a segment of @bytes (a multiple of 4096) with its header filled in. @magic 0: plain memory
 * without a header (bulk). All pages are allocated. */
int eloq_segment_create(const char *name, uint32_t magic, size_t bytes, int *ret_fd);

/* A read-only descriptor of the same memory, for the side that must not write. */
int eloq_segment_reopen_read_only(int fd, int *ret_fd);

/* Map a segment without a ring, or bulk memory. */
int eloq_segment_map(int fd, size_t bytes, bool writable, void **ret_base);
void eloq_segment_unmap(void *base, size_t bytes); /* NULL is fine */

/* Map header page, then the ring twice. @ring_bytes: a power of two, multiple of 4096. */
int eloq_ring_segment_map(int fd, size_t ring_bytes, bool writable, void **ret_base);
void eloq_ring_segment_unmap(void *base, size_t ring_bytes);

/* Check a header: -ELOQ_EVERSION (another layout version), -ELOQ_EPROTOCOL (magic, size). */
int eloq_segment_check(const void *base, uint32_t magic, size_t bytes);

#endif
