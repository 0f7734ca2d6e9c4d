/*
 * io_sim_disk.h - what the disk and the instances on it know of each other; private to daemon/io.
 *
 *     io_sim.c       an instance: the back-end's operations, handles, death
 *     io_sim_disk.c  the disk: time, operations in flight, faults, cuts, locks, the trace
 *     io_sim_op.c    one operation: what it does to the file system, or leaves half done
 *     io_simfs.c     the file system: what is seen and what is durable
 *
 * Idea: an attempt of a request becomes an operation in one list of the disk, ordered by the time
 * at which it ends, of all instances together. Time steps from one end to the next. An operation
 * takes effect when it ends. A dead process' operation has no request any more, but copies of all
 * it needs, so that it can still land.
 */
#ifndef ELOQ_DAEMON_IO_IO_SIM_DISK_H
#define ELOQ_DAEMON_IO_IO_SIM_DISK_H

#include "daemon/io/backend.h"
#include "daemon/io/io_sim.h"
#include "daemon/io/io_simfs.h"

enum { ELOQ_SIM_LOCKS_MAX = ELOQ_IO_HOLDS_MAX };

struct eloq_sim_op {
	struct eloq_list link; /* in disk->ops, ordered by end_ns */
	uint64_t end_ns;
	uint64_t number; /* in the order of starts */
	unsigned owner;	 /* number of the instance */
	struct eloq_io *io;
	struct eloq_io_req *req; /* NULL: the owner is dead */

	enum eloq_io_op kind;
	unsigned flags;
	struct eloq_simfs_node *node; /* held */
	bool read_only;		      /* the handle is */
	bool direct;
	const char *path;
	const char *new_path;
	uint8_t *buf; /* as the others, what this attempt is about, and may be cut short */
	uint32_t bytes;
	uint64_t offset;
	uint64_t length;
	uint64_t mark;	   /* SYNC: what came before */
	uint64_t checksum; /* WRITE: of buf; nobody may change it meanwhile */
	int fault;	   /* what it will fail with, or 0 */
	void *copies[3];   /* of path, new_path and buf, if the owner is dead */

	struct eloq_simfs_node *opened; /* by OPEN: held, until somebody takes it */
};

struct eloq_sim_instance {
	struct eloq_list link; /* in disk->instances, oldest first */
	unsigned number;
	bool dead;
	uint64_t kill_at_io; /* disk->io_count at which it dies, or 0 */
};

struct eloq_sim_lock {
	int lock;
	unsigned owner;
};

struct eloq_sim_armed_fault {
	struct eloq_sim_fault fault;
	uint64_t seen;
};

struct eloq_sim_disk {
	struct eloq_sim_opts opts;
	struct eloq_prng prng;
	struct eloq_simfs fs;
	struct eloq_clock clock;
	uint64_t now_ns;

	struct eloq_list ops;
	struct eloq_list instances;
	unsigned instance_count; /* ever */
	struct eloq_sim_lock locks[ELOQ_SIM_LOCKS_MAX];
	unsigned lock_count;

	uint64_t io_count;
	uint64_t cut_at_io; /* io_count at which the power goes, or 0 */
	uint64_t cut_at_ns; /* or UINT64_MAX */
	struct eloq_sim_armed_fault faults[ELOQ_SIM_FAULTS_MAX];
	unsigned fault_count;
	uint32_t short_per_million;

	struct eloq_sim_stats stats;
	FILE *trace;
	uint64_t trace_hash;
};

/* --- io_sim_disk.c ---------------------------------------------------------------------------- */

/* An I/O begins: it is counted, may be given a fault; the answer is that or 0. */
int eloq_sim_disk_count_io(struct eloq_sim_disk *disk, unsigned kind);

/* Put the operation among those in flight. It may be the one at which power or process die: then
 * it is gone when this returns, its request failed. */
void eloq_sim_disk_start(struct eloq_sim_disk *disk, struct eloq_sim_instance *instance,
			 struct eloq_sim_op *op);

/* When something will happen; UINT64_MAX if nothing is under way. */
uint64_t eloq_sim_disk_next_ns(const struct eloq_sim_disk *disk);
/* Time moves to then, and it happens. */
void eloq_sim_disk_step(struct eloq_sim_disk *disk);

void eloq_sim_disk_kill(struct eloq_sim_disk *disk, struct eloq_sim_instance *instance);

/* @op NULL: something happened to instance @owner, or to the disk if that is 0. */
void eloq_sim_disk_note(struct eloq_sim_disk *disk, const char *event, const struct eloq_sim_op *op,
			unsigned owner, int64_t result);

/* --- io_sim_op.c ------------------------------------------------------------------------------ */

/* True if it leaves a trace on the disk, so that it can land after its process has died. */
bool eloq_sim_op_has_effect(const struct eloq_sim_op *op);

/* The operation ends, as planned: its effect, and what the system call returns. OPEN sets opened;
 * CLOSE frees no handle here. */
int64_t eloq_sim_op_carry_out(struct eloq_sim_disk *disk, struct eloq_sim_op *op);

/* Its process dies: copies of what it still needs. */
void eloq_sim_op_orphan(struct eloq_sim_op *op);

/* Out of the list, with all it holds. */
void eloq_sim_op_free(struct eloq_sim_disk *disk, struct eloq_sim_op *op);

const char *eloq_sim_kind_name(unsigned kind);

/* --- io_sim.c --------------------------------------------------------------------------------- */

/* The attempt ended with @result: hand it to the instance, which takes op->opened. */
void eloq_io_sim_attempt_ended(struct eloq_sim_op *op, int64_t result);

/* The request of @op will not be served any more, its instance is dead: -EIO. */
void eloq_io_sim_request_dies(struct eloq_sim_op *op);

#endif
