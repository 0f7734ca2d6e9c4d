/*
 * io_sim_image.h - the bytes of one simulated file, kept in memory where something was written.
 *
 * Idea: a two-level table of 4 KiB chunks; what was never written is a hole and reads as zeros, so
 * a file of gigabytes that holds a few pages costs a few pages. An image knows its size but does
 * not enforce it: reading and writing beyond is the caller's to judge, and costs nothing here.
 *
 * Runs on:  one thread. Private to daemon/io. Fails by: asserting, when the process has no memory.
 */
#ifndef ELOQ_DAEMON_IO_IO_SIM_IMAGE_H
#define ELOQ_DAEMON_IO_IO_SIM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum { ELOQ_SIM_CHUNK_BYTES = 4096, ELOQ_SIM_GROUP_CHUNKS = 256 };

struct eloq_sim_group {
	uint8_t *chunks[ELOQ_SIM_GROUP_CHUNKS]; /* NULL: a hole */
};

/* All zeros is an empty image. */
struct eloq_sim_image {
	uint64_t bytes;			/* the file's size */
	uint64_t chunk_count;		/* in memory */
	struct eloq_sim_group **groups; /* NULL: a hole */
	size_t group_count;
};

void eloq_sim_image_fini(struct eloq_sim_image *image);
void eloq_sim_image_read(const struct eloq_sim_image *image, void *buf, size_t bytes,
			 uint64_t offset);
void eloq_sim_image_write(struct eloq_sim_image *image, const void *buf, size_t bytes,
			  uint64_t offset);

/* Set the size; bytes at and beyond it are zeros from here on. */
void eloq_sim_image_resize(struct eloq_sim_image *image, uint64_t bytes);

/* How many chunks a write would add. */
uint64_t eloq_sim_image_holes(const struct eloq_sim_image *image, size_t bytes, uint64_t offset);

/* Make @to equal to @from. */
void eloq_sim_image_copy(struct eloq_sim_image *to, const struct eloq_sim_image *from);

/* malloc() for the simulator: zeroed, never NULL. */
void *eloq_sim_alloc(size_t bytes);

#endif
