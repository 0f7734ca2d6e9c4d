/*
 * io_sim_world.h - what the tests of the simulated disk share: processes on it, and files.
 *
 * What is left to chance is shown over many seeds: that each outcome does occur, and that nothing
 * else does.
 */
#ifndef ELOQ_TESTS_UNIT_IO_SIM_WORLD_H
#define ELOQ_TESTS_UNIT_IO_SIM_WORLD_H

#include "daemon/io/io_sim.h"
#include "tests/unit/io_world.h"

#include <errno.h>

enum { SECTOR = 512, SEEDS = 200, BIG = 8 * PAGE };

static inline struct eloq_sim_disk *new_disk(uint64_t seed)
{
	return eloq_sim_disk_new(&(struct eloq_sim_opts){ .seed = seed });
}

/* A process begins; it is ended by world_end(). */
static inline struct world begin(struct eloq_sim_disk *disk)
{
	struct world w = { .path = "" };

	ck_assert_int_eq(eloq_io_sim_open(&w.io, disk, DEPTH), 0);
	ck_assert_int_eq(eloq_io_sim_root(w.io, &w.dir), 0);
	return w;
}

/* A process that is dead ends: nothing but closing works any more. */
static inline void end_dead(struct world *w)
{
	ck_assert(eloq_io_sim_is_dead(w->io));
	ck_assert_int_eq(call_on(w, ELOQ_IO_CLOSE, w->dir), -EIO);
	eloq_io_close(w->io);
}

static inline void close_dead(struct world *w, struct eloq_io_file *file)
{
	ck_assert_int_eq(call_on(w, ELOQ_IO_CLOSE, file), -EIO);
}

static inline void write_page(struct world *w, struct eloq_io_file *file, uint64_t page, int byte)
{
	char *buf = aligned(PAGE);

	memset(buf, byte, PAGE);
	ck_assert_int_eq(transfer(w, ELOQ_IO_WRITE, file, buf, PAGE, page * PAGE), PAGE);
	free(buf);
}

static inline void sync_file(struct world *w, struct eloq_io_file *file)
{
	ck_assert_int_eq(call_on(w, ELOQ_IO_SYNC, file), 0);
}

/* A file of @pages pages of @byte that is there whatever happens. */
static inline struct eloq_io_file *durable_file(struct world *w, const char *name, unsigned pages,
						int byte)
{
	struct eloq_io_file *file = open_file(w, name, ELOQ_IO_CREATE | ELOQ_IO_DIRECT);

	for (unsigned i = 0; i < pages; i++)
		write_page(w, file, i, byte);
	sync_file(w, file);
	sync_file(w, w->dir);
	return file;
}

/* What @count bytes at @offset all are, or -1 if they differ; fails if they are not there. */
static inline int bytes_of(struct eloq_sim_disk *disk, const char *name, uint64_t offset,
			   uint32_t count)
{
	uint8_t *buf = malloc(count);
	int byte;

	ck_assert_int_eq(eloq_sim_disk_read(disk, name, buf, count, offset), count);
	byte = buf[0];
	for (uint32_t i = 1; i < count; i++)
		if (buf[i] != byte)
			byte = -1;
	free(buf);
	return byte;
}

static inline bool exists(struct eloq_sim_disk *disk, const char *name)
{
	int64_t size = eloq_sim_disk_size(disk, name);

	ck_assert(size >= 0 || size == -ENOENT);
	return size >= 0;
}

static inline int count_name(void *arg, const char *name, bool is_directory)
{
	unsigned *counts = arg;

	ck_assert(name[0] != '.');
	counts[is_directory]++;
	return 0;
}

#endif
