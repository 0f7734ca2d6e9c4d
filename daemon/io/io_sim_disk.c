/*
 * io_sim_disk.c - the simulated disk: time, what is in flight, faults, cuts (io_sim.h).
 */
#include "daemon/io/io_sim_disk.h"

#include "common/checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DISK_BYTES_MAX_DEFAULT (UINT64_C(64) << 20)
#define DISK_LATE_NS_DEFAULT   (110 * ELOQ_NS_PER_MS)

/* 2026-01-01 00:00:00 UTC */
#define DISK_EPOCH_US UINT64_C(1767225600000000)

enum { PER_MILLION = 1000000 };

/* ---- time ------------------------------------------------------------------------------- */

static uint64_t disk_monotonic_ns(void *arg)
{
	const struct eloq_sim_disk *disk = arg;

	return disk->now_ns;
}

static uint64_t disk_realtime_us(void *arg)
{
	const struct eloq_sim_disk *disk = arg;

	return DISK_EPOCH_US + disk->now_ns / ELOQ_NS_PER_US;
}

struct eloq_sim_disk *eloq_sim_disk_new(const struct eloq_sim_opts *opts)
{
	struct eloq_sim_disk *disk = eloq_sim_alloc(sizeof(*disk));

	disk->opts = *opts;
	if (!disk->opts.bytes_max)
		disk->opts.bytes_max = DISK_BYTES_MAX_DEFAULT;
	if (!disk->opts.late_ns_max)
		disk->opts.late_ns_max = DISK_LATE_NS_DEFAULT;
	eloq_prng_seed(&disk->prng, opts->seed);
	eloq_simfs_init(&disk->fs, &disk->prng, disk->opts.bytes_max);
	disk->clock = (struct eloq_clock){
		.monotonic_ns = disk_monotonic_ns,
		.realtime_us = disk_realtime_us,
		.arg = disk,
	};
	disk->now_ns = ELOQ_NS_PER_S;
	disk->cut_at_ns = UINT64_MAX;
	eloq_list_init(&disk->ops);
	eloq_list_init(&disk->instances);
	return disk;
}

void eloq_sim_disk_free(struct eloq_sim_disk *disk)
{
	if (!disk)
		return;
	eloq_assert(eloq_list_empty(&disk->instances));
	while (!eloq_list_empty(&disk->ops))
		eloq_sim_op_free(disk, eloq_list_entry(disk->ops.next, struct eloq_sim_op, link));
	eloq_simfs_fini(&disk->fs);
	free(disk);
}

const struct eloq_clock *eloq_sim_disk_clock(const struct eloq_sim_disk *disk)
{
	return &disk->clock;
}

static struct eloq_sim_op *disk_first_op(const struct eloq_sim_disk *disk)
{
	if (eloq_list_empty(&disk->ops))
		return NULL;
	return eloq_list_entry(disk->ops.next, struct eloq_sim_op, link);
}

uint64_t eloq_sim_disk_next_ns(const struct eloq_sim_disk *disk)
{
	const struct eloq_sim_op *op = disk_first_op(disk);

	return eloq_min_u64(op ? op->end_ns : UINT64_MAX, disk->cut_at_ns);
}

void eloq_sim_disk_step(struct eloq_sim_disk *disk)
{
	struct eloq_sim_op *op = disk_first_op(disk);
	int64_t result;

	disk->now_ns = eloq_max_u64(disk->now_ns, eloq_sim_disk_next_ns(disk));
	if (disk->cut_at_ns <= disk->now_ns) {
		eloq_sim_disk_cut(disk);
		return;
	}
	result = eloq_sim_op_carry_out(disk, op);
	eloq_sim_disk_note(disk, op->req ? "ends" : "lands", op, op->owner, result);
	if (op->req)
		eloq_io_sim_attempt_ended(op, result);
	else
		disk->stats.late_landed++;
	eloq_sim_op_free(disk, op);
}

void eloq_sim_disk_advance(struct eloq_sim_disk *disk, uint64_t ns)
{
	uint64_t end_ns = disk->now_ns + ns;

	while (eloq_sim_disk_next_ns(disk) <= end_ns)
		eloq_sim_disk_step(disk);
	disk->now_ns = end_ns;
}

/* ---- the trace -------------------------------------------------------------------------- */

static void disk_hash(struct eloq_sim_disk *disk, uint64_t value)
{
	disk->trace_hash = (disk->trace_hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
	disk->trace_hash ^= disk->trace_hash >> 29;
}

static void disk_print(const struct eloq_sim_disk *disk, const char *event,
		       const struct eloq_sim_op *op, unsigned owner, int64_t result)
{
	fprintf(disk->trace, "%13" PRIu64 " [%u] %-5s", disk->now_ns, owner, event);
	if (op) {
		fprintf(disk->trace, " #%" PRIu64 " %s node %" PRIu64, op->number,
			eloq_sim_kind_name(op->kind), eloq_simfs_node_id(op->node));
		if (op->path)
			fprintf(disk->trace, " %s", op->path);
		if (op->new_path)
			fprintf(disk->trace, " -> %s", op->new_path);
		if (op->kind == ELOQ_IO_READ || op->kind == ELOQ_IO_WRITE)
			fprintf(disk->trace, " %" PRIu32 " at %" PRIu64, op->bytes, op->offset);
	}
	fprintf(disk->trace, " = %" PRId64 "\n", result);
}

void eloq_sim_disk_note(struct eloq_sim_disk *disk, const char *event, const struct eloq_sim_op *op,
			unsigned owner, int64_t result)
{
	disk_hash(disk, disk->now_ns);
	disk_hash(disk, (uint64_t)event[0] << 32 | owner);
	disk_hash(disk, (uint64_t)result);
	if (op) {
		disk_hash(disk, op->number);
		disk_hash(disk, (uint64_t)op->kind);
		disk_hash(disk, eloq_simfs_node_id(op->node));
		disk_hash(disk, op->offset);
		disk_hash(disk, op->bytes);
		disk_hash(disk, op->checksum);
	}
	if (disk->trace)
		disk_print(disk, event, op, owner, result);
}

void eloq_sim_disk_trace_to(struct eloq_sim_disk *disk, FILE *file)
{
	disk->trace = file;
}

uint64_t eloq_sim_disk_trace_hash(const struct eloq_sim_disk *disk)
{
	return disk->trace_hash;
}

/* ---- operations ------------------------------------------------------------------------- */

static int disk_draw_fault(struct eloq_sim_disk *disk, unsigned kind)
{
	int error = 0;

	for (unsigned i = 0; i < disk->fault_count; i++) {
		struct eloq_sim_armed_fault *armed = &disk->faults[i];
		const struct eloq_sim_fault *fault = &armed->fault;
		bool hits;

		if (!(fault->kinds & ELOQ_SIM_KIND(kind)))
			continue;
		armed->seen++;
		hits = fault->nth && armed->seen >= fault->nth &&
		       armed->seen - fault->nth < eloq_max_u64(fault->count, 1);
		if (fault->per_million &&
		    eloq_prng_below(&disk->prng, PER_MILLION) < fault->per_million)
			hits = true;
		if (hits && !error)
			error = fault->error;
	}
	disk->stats.faults += error != 0;
	return error;
}

int eloq_sim_disk_count_io(struct eloq_sim_disk *disk, unsigned kind)
{
	disk->io_count++;
	disk->stats.ios[kind]++;
	return disk_draw_fault(disk, kind);
}

/* Roughly a fast SSD; one in 16 takes 20 times as long, so that the order is anything. */
static uint64_t disk_draw_latency_ns(struct eloq_sim_disk *disk, enum eloq_io_op kind)
{
	uint64_t ns = 20 * ELOQ_NS_PER_US + eloq_prng_below(&disk->prng, 80 * ELOQ_NS_PER_US);

	if (kind == ELOQ_IO_SYNC)
		ns *= 10;
	if (eloq_prng_below(&disk->prng, 16) == 0)
		ns *= 20;
	return ns;
}

/* A transfer that moves less: a write by sectors, a direct read by what it could go on from. */
static void disk_draw_short(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	uint32_t unit = 1;

	if (op->kind != ELOQ_IO_READ && op->kind != ELOQ_IO_WRITE)
		return;
	if (op->direct)
		unit = op->kind == ELOQ_IO_READ ? ELOQ_IO_ALIGN : ELOQ_SIM_SECTOR_BYTES;
	if (op->bytes <= unit ||
	    eloq_prng_below(&disk->prng, PER_MILLION) >= disk->short_per_million)
		return;
	op->bytes = unit * (1 + (uint32_t)eloq_prng_below(&disk->prng, (op->bytes - 1) / unit));
	disk->stats.short_transfers++;
}

static void disk_insert(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	struct eloq_list *at = disk->ops.prev;

	while (at != &disk->ops &&
	       eloq_list_entry(at, struct eloq_sim_op, link)->end_ns > op->end_ns)
		at = at->prev;
	eloq_list_insert_before(at->next, &op->link);
}

void eloq_sim_disk_start(struct eloq_sim_disk *disk, struct eloq_sim_instance *instance,
			 struct eloq_sim_op *op)
{
	op->fault = eloq_sim_disk_count_io(disk, op->kind);
	op->number = disk->io_count;
	op->end_ns = disk->now_ns + disk_draw_latency_ns(disk, op->kind);
	op->mark = eloq_simfs_sync_mark(&disk->fs);
	if (disk->short_per_million)
		disk_draw_short(disk, op);
	if (op->kind == ELOQ_IO_WRITE)
		op->checksum = eloq_checksum_xxh3(op->buf, op->bytes);
	disk_insert(disk, op);
	eloq_sim_disk_note(disk, "start", op, op->owner, op->fault);
	if (disk->cut_at_io && disk->io_count >= disk->cut_at_io)
		eloq_sim_disk_cut(disk);
	else if (instance->kill_at_io && disk->io_count >= instance->kill_at_io)
		eloq_sim_disk_kill(disk, instance);
}

/* ---- death ------------------------------------------------------------------------------ */

static bool disk_coin(struct eloq_sim_disk *disk)
{
	return eloq_prng_next(&disk->prng) & 1;
}

void eloq_sim_disk_cut(struct eloq_sim_disk *disk)
{
	disk->cut_at_io = 0;
	disk->cut_at_ns = UINT64_MAX;
	disk->stats.cuts++;
	eloq_sim_disk_note(disk, "cut", NULL, 0, 0);
	eloq_list_for_each (at, &disk->instances)
		eloq_list_entry(at, struct eloq_sim_instance, link)->dead = true;
	while (!eloq_list_empty(&disk->ops)) {
		struct eloq_sim_op *op = disk_first_op(disk);

		/* What took effect is not durable by that, so it is still up to the cut below. */
		if (eloq_sim_op_has_effect(op) && disk_coin(disk))
			(void)eloq_sim_op_carry_out(disk, op);
		if (op->req)
			eloq_io_sim_request_dies(op);
		eloq_sim_op_free(disk, op);
	}
	eloq_simfs_cut(&disk->fs);
	disk->lock_count = 0;
}

/* A large write is several to the device: some of them may be all that was on its way. */
static void disk_shorten_late_write(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	if (op->bytes > ELOQ_SIM_CHUNK_BYTES && eloq_prng_below(&disk->prng, 4) == 0)
		op->bytes = ELOQ_SIM_CHUNK_BYTES *
			    (uint32_t)eloq_prng_below(&disk->prng,
						      op->bytes / ELOQ_SIM_CHUNK_BYTES + 1);
}

void eloq_sim_disk_kill(struct eloq_sim_disk *disk, struct eloq_sim_instance *instance)
{
	struct eloq_list late;

	if (instance->dead)
		return;
	instance->dead = true;
	disk->stats.kills++;
	eloq_sim_disk_note(disk, "kill", NULL, instance->number, 0);
	eloq_list_init(&late);
	eloq_list_for_each_safe (at, &disk->ops) {
		struct eloq_sim_op *op = eloq_list_entry(at, struct eloq_sim_op, link);

		if (op->owner != instance->number)
			continue;
		eloq_io_sim_request_dies(op);
		if (!eloq_sim_op_has_effect(op) || eloq_prng_below(&disk->prng, 3) == 0) {
			eloq_sim_op_free(disk, op);
			disk->stats.late_dropped++;
			continue;
		}
		eloq_sim_op_orphan(op);
		if (op->kind == ELOQ_IO_WRITE)
			disk_shorten_late_write(disk, op);
		op->end_ns =
			disk->now_ns + 1 + eloq_prng_below(&disk->prng, disk->opts.late_ns_max);
		eloq_list_remove(&op->link);
		eloq_list_push_back(&late, &op->link);
	}
	while (!eloq_list_empty(&late))
		disk_insert(disk,
			    eloq_list_entry(eloq_list_pop_front(&late), struct eloq_sim_op, link));
	/* The next process reads past the cache what this one could not sync. */
	eloq_simfs_evict(&disk->fs);
}

void eloq_sim_disk_cut_at_io(struct eloq_sim_disk *disk, uint64_t k)
{
	disk->cut_at_io = k ? disk->io_count + k : 0;
}

void eloq_sim_disk_cut_at_ns(struct eloq_sim_disk *disk, uint64_t at_ns)
{
	disk->cut_at_ns = at_ns;
}

/* True if the instance lives, or something of it may still land. */
static bool disk_is_at_work(const struct eloq_sim_disk *disk, unsigned owner)
{
	eloq_list_for_each (at, &disk->instances) {
		struct eloq_sim_instance *instance =
			eloq_list_entry(at, struct eloq_sim_instance, link);

		if (instance->number == owner && !instance->dead)
			return true;
	}
	eloq_list_for_each (at, &disk->ops)
		if (eloq_list_entry(at, struct eloq_sim_op, link)->owner == owner)
			return true;
	return false;
}

bool eloq_sim_disk_is_held(const struct eloq_sim_disk *disk, int lock)
{
	for (unsigned i = 0; i < disk->lock_count; i++)
		if (disk->locks[i].lock == lock && disk_is_at_work(disk, disk->locks[i].owner))
			return true;
	return false;
}

void eloq_sim_disk_wait_until_free(struct eloq_sim_disk *disk, int lock)
{
	while (eloq_sim_disk_is_held(disk, lock)) {
		eloq_assert(eloq_sim_disk_next_ns(disk) != UINT64_MAX);
		eloq_sim_disk_step(disk);
	}
}

/* ---- faults ----------------------------------------------------------------------------- */

void eloq_sim_disk_add_fault(struct eloq_sim_disk *disk, const struct eloq_sim_fault *fault)
{
	eloq_assert(disk->fault_count < ELOQ_SIM_FAULTS_MAX);
	eloq_assert(fault->kinds && fault->error < 0);
	disk->faults[disk->fault_count++] = (struct eloq_sim_armed_fault){ .fault = *fault };
}

void eloq_sim_disk_set_short_transfers(struct eloq_sim_disk *disk, uint32_t per_million)
{
	disk->short_per_million = per_million;
}

void eloq_sim_disk_clear_faults(struct eloq_sim_disk *disk)
{
	disk->fault_count = 0;
	disk->short_per_million = 0;
}

/* ---- looking ---------------------------------------------------------------------------- */

static int disk_open(struct eloq_sim_disk *disk, const char *path,
		     struct eloq_simfs_node **ret_file)
{
	return eloq_simfs_open(&disk->fs, disk->fs.root, path, 0, ret_file);
}

int eloq_sim_disk_rot(struct eloq_sim_disk *disk, const char *path, uint64_t offset)
{
	struct eloq_simfs_node *file = NULL;
	int r = disk_open(disk, path, &file);

	if (r < 0)
		return r;
	eloq_simfs_rot(&disk->fs, file, offset);
	eloq_simfs_release(&disk->fs, file);
	return 0;
}

int eloq_sim_disk_list(struct eloq_sim_disk *disk, const char *path,
		       int (*each)(void *arg, const char *name, bool is_directory), void *arg)
{
	return eloq_simfs_list(&disk->fs, disk->fs.root, path, each, arg);
}

int64_t eloq_sim_disk_read(struct eloq_sim_disk *disk, const char *path, void *buf, uint32_t bytes,
			   uint64_t offset)
{
	struct eloq_simfs_node *file = NULL;
	int64_t r = disk_open(disk, path, &file);

	if (r < 0)
		return r;
	r = eloq_simfs_read(file, buf, bytes, offset);
	eloq_simfs_release(&disk->fs, file);
	return r;
}

int64_t eloq_sim_disk_size(struct eloq_sim_disk *disk, const char *path)
{
	struct eloq_simfs_node *file = NULL;
	int64_t r = disk_open(disk, path, &file);

	if (r < 0)
		return r;
	r = eloq_simfs_size(file);
	eloq_simfs_release(&disk->fs, file);
	return r;
}

uint64_t eloq_sim_disk_io_count(const struct eloq_sim_disk *disk)
{
	return disk->io_count;
}

void eloq_sim_disk_get_stats(const struct eloq_sim_disk *disk, struct eloq_sim_stats *ret_stats)
{
	const struct eloq_simfs_stats *fs = &disk->fs.stats;

	*ret_stats = disk->stats;
	ret_stats->writes_kept = fs->writes_kept;
	ret_stats->writes_lost = fs->writes_lost;
	ret_stats->writes_torn = fs->writes_torn;
	ret_stats->sizes_kept = fs->sizes_kept;
	ret_stats->sizes_lost = fs->sizes_lost;
	ret_stats->names_kept = fs->names_kept;
	ret_stats->names_lost = fs->names_lost;
}
