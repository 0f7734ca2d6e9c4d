/*
 * io_sim.h - the back-end `sim`: a disk in memory that does its worst, all of it from one seed.
 *
 * Idea: a disk outlives the back-ends that are opened on it, as a real one outlives processes.
 * A test opens an eloq_io on it, runs the engine, cuts the power or kills the process in the middle
 * of something, opens another one, and looks. Requests take virtual time and end in an order drawn
 * from the seed; what a cut leaves of that which was not synced is drawn too (io_simfs.h has the
 * rules). Nothing depends on real time or on addresses: the same seed and the same calls give the
 * same run, down to eloq_sim_disk_trace_hash().
 *
 *     struct eloq_sim_disk *disk = eloq_sim_disk_new(&(struct eloq_sim_opts){ .seed = seed });
 *
 *     eloq_io_sim_open(&io, disk, 64);           a process begins
 *     eloq_io_sim_root(io, &root);
 *     eloq_sim_disk_cut_at_io(disk, 100);        its 100th I/O will not end
 *     ... the engine runs until its I/O fails, and is closed like any other ...
 *     eloq_io_close(io);
 *     eloq_io_sim_open(&io, disk, 64);           the next one finds what is left
 *
 * Death: an instance whose power was cut or which was killed is dead: its requests in flight and
 * all later ones fail with -EIO and do nothing, so that an engine above it unwinds and frees its
 * memory. Of what was in flight at a cut, each operation happened, in part or not at all; at a
 * kill, each operation is dropped or still lands within late_ns_max, beside whoever runs by then.
 *
 * Time: moves only in a turn that finds nothing ready, to the next event or the end of the wait; a
 * turn that may not wait then takes ELOQ_SIM_TURN_NS. A turn that would wait for ever, with nothing
 * under way anywhere, fails with -EDEADLK: on this back-end a hang is an answer.
 *
 * Not here: descriptors. eloq_io_adopt_fd() and polls want real ones; eloq_io_sim_root() is the
 * way in, and the number given to eloq_io_hold() names a lock of the disk, see below.
 *
 * Runs on:  one thread. For tests: asserts when the process is out of memory.
 */
#ifndef ELOQ_DAEMON_IO_IO_SIM_H
#define ELOQ_DAEMON_IO_IO_SIM_H

#include "common/clock.h"
#include "daemon/io/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct eloq_sim_disk;

enum {
	ELOQ_SIM_LIST = ELOQ_IO_RMDIR + 1, /* eloq_io_list(), beside the kinds of eloq_io_op */
	ELOQ_SIM_KINDS,
	ELOQ_SIM_FAULTS_MAX = 8,
	ELOQ_SIM_TURN_NS = 1000,
};

#define ELOQ_SIM_KIND(op) (UINT32_C(1) << (op))
#define ELOQ_SIM_ANY_KIND (ELOQ_SIM_KIND(ELOQ_SIM_KINDS) - 1)

/* 0 anywhere but in seed: the default. */
struct eloq_sim_opts {
	uint64_t seed;
	uint64_t bytes_max;   /* -ENOSPC beyond; memory is a few times that at most. 64 MiB */
	uint64_t late_ns_max; /* how long after a kill something may still land. 110 ms */
	bool no_direct;	      /* a file system that refuses O_DIRECT */
};

/* I/Os that fail. Counting starts when the fault is added; each attempt of a request counts. */
struct eloq_sim_fault {
	uint32_t kinds;	      /* ELOQ_SIM_KIND() of each */
	uint64_t nth;	      /* 1: the next such I/O; 0: none by count */
	uint64_t count;	      /* how many in a row from there; 0: one */
	uint32_t per_million; /* besides: each by chance */

	/*
	 * What it fails with. -EIO leaves open what was done: a write may have reached its file in
	 * part or whole, a change of names may have happened. A SYNC of a file that fails with
	 * whatever error has dropped what it was for: some of it is on the disk, the next sync
	 * knows of nothing, and readers see what was lost until the process is killed. (Its
	 * successor reads the medium, as direct I/O does.) Names wait for the next sync.
	 * Any other error, as -ENOSPC or -EINTR, has changed nothing.
	 */
	int error;
};

struct eloq_sim_stats {
	uint64_t ios[ELOQ_SIM_KINDS]; /* attempts that were started */
	uint64_t faults, short_transfers;
	uint64_t cuts, kills;
	uint64_t late_landed, late_dropped; /* of what was in flight at kills */
	/* What cuts and failed syncs made of changes that were not durable. */
	uint64_t writes_kept, writes_lost, writes_torn;
	uint64_t sizes_kept, sizes_lost;
	uint64_t names_kept, names_lost;
};

struct eloq_sim_disk *eloq_sim_disk_new(const struct eloq_sim_opts *opts);
/* NULL is fine. All instances were closed. */
void eloq_sim_disk_free(struct eloq_sim_disk *disk);

/* The disk's time; valid as long as the disk. The real time of a new disk is a fixed date. */
const struct eloq_clock *eloq_sim_disk_clock(const struct eloq_sim_disk *disk);
/* Let time pass; what is in flight on any instance ends meanwhile. */
void eloq_sim_disk_advance(struct eloq_sim_disk *disk, uint64_t ns);

/* --- Processes -------------------------------------------------------------------------------- */

/* One more instance on @disk, to be closed by eloq_io_close() before the disk. 0 or -EINVAL. */
int eloq_io_sim_open(struct eloq_io **ret_io, struct eloq_sim_disk *disk, unsigned depth);

/* A handle of the disk's root directory, to be closed by a CLOSE. -EMFILE. */
int eloq_io_sim_root(struct eloq_io *io, struct eloq_io_file **ret_root);

/* kill -9: the instance is dead, what it had in flight may land later. */
void eloq_io_sim_kill(struct eloq_io *io);
/* The same when the instance starts its k-th I/O from here (1: the next one); 0: never. */
void eloq_io_sim_kill_at_io(struct eloq_io *io, uint64_t k);
bool eloq_io_sim_is_dead(const struct eloq_io *io);

/* The power goes, now, when the k-th I/O from here starts, or at a time: all instances are dead.
 * 0 and UINT64_MAX call it off. */
void eloq_sim_disk_cut(struct eloq_sim_disk *disk);
void eloq_sim_disk_cut_at_io(struct eloq_sim_disk *disk, uint64_t k);
void eloq_sim_disk_cut_at_ns(struct eloq_sim_disk *disk, uint64_t at_ns);

/*
 * eloq_io_hold(io, lock) takes lock number @lock (any number >= 0) of the disk for the instance. It
 * is free again when the instance is closed or dead and nothing that it had in flight can land
 * any more.
 */
bool eloq_sim_disk_is_held(const struct eloq_sim_disk *disk, int lock);
/* Let time pass until the lock is free. No living instance may hold it. */
void eloq_sim_disk_wait_until_free(struct eloq_sim_disk *disk, int lock);

/* --- Faults ----------------------------------------------------------------------------------- */

/* At most ELOQ_SIM_FAULTS_MAX at a time; an I/O that several want fails by the first of them. */
void eloq_sim_disk_add_fault(struct eloq_sim_disk *disk, const struct eloq_sim_fault *fault);
/* The transfers of READs and WRITEs that move less than they were asked to: of a million. */
void eloq_sim_disk_set_short_transfers(struct eloq_sim_disk *disk, uint32_t per_million);
/* Faults and short transfers end. */
void eloq_sim_disk_clear_faults(struct eloq_sim_disk *disk);

/* Flip a bit in the sector of file @path at @offset: it reads wrong until it is written again.
 * What the file has not synced is synced by that. -ENOENT, -EISDIR. */
int eloq_sim_disk_rot(struct eloq_sim_disk *disk, const char *path, uint64_t offset);

/* --- Looking ---------------------------------------------------------------------------------- */

/* What a process would see that opens the disk now; paths from the root. As eloq_io_list(), READ
 * and SIZE, without taking time or counting. */
int eloq_sim_disk_list(struct eloq_sim_disk *disk, const char *path,
		       int (*each)(void *arg, const char *name, bool is_directory), void *arg);
int64_t eloq_sim_disk_read(struct eloq_sim_disk *disk, const char *path, void *buf, uint32_t bytes,
			   uint64_t offset);
int64_t eloq_sim_disk_size(struct eloq_sim_disk *disk, const char *path);

/* I/Os started so far, of all kinds and instances. */
uint64_t eloq_sim_disk_io_count(const struct eloq_sim_disk *disk);
void eloq_sim_disk_get_stats(const struct eloq_sim_disk *disk, struct eloq_sim_stats *ret_stats);

/* A line for every event from here on; NULL: no more. The hash is of all events since the start,
 * bytes written included, whether they were printed or not. */
void eloq_sim_disk_trace_to(struct eloq_sim_disk *disk, FILE *file);
uint64_t eloq_sim_disk_trace_hash(const struct eloq_sim_disk *disk);

#endif
