/*
 * io_sim_op.c - one operation of the simulated disk: what it does when it ends (io_sim_disk.h).
 *
 * Always:   direct I/O is aligned, and the bytes of a write are at its end what they were at its
 *           start: the request was the back-end's all the time.
 */
#include "common/checksum.h"
#include "daemon/io/io_sim_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *eloq_sim_kind_name(unsigned kind)
{
	static const char *const names[ELOQ_SIM_KINDS] = {
		[ELOQ_IO_OPEN] = "open",	 [ELOQ_IO_CLOSE] = "close",
		[ELOQ_IO_READ] = "read",	 [ELOQ_IO_WRITE] = "write",
		[ELOQ_IO_SYNC] = "sync",	 [ELOQ_IO_ALLOCATE] = "allocate",
		[ELOQ_IO_TRUNCATE] = "truncate", [ELOQ_IO_SIZE] = "size",
		[ELOQ_IO_RENAME] = "rename",	 [ELOQ_IO_UNLINK] = "unlink",
		[ELOQ_IO_MKDIR] = "mkdir",	 [ELOQ_IO_RMDIR] = "rmdir",
		[ELOQ_SIM_LIST] = "list",
	};

	eloq_assert(kind < ELOQ_SIM_KINDS);
	return names[kind];
}

bool eloq_sim_op_has_effect(const struct eloq_sim_op *op)
{
	switch (op->kind) {
	case ELOQ_IO_OPEN:
		return op->flags & (ELOQ_IO_CREATE | ELOQ_IO_TRUNC);
	case ELOQ_IO_WRITE:
	case ELOQ_IO_SYNC:
	case ELOQ_IO_ALLOCATE:
	case ELOQ_IO_TRUNCATE:
	case ELOQ_IO_RENAME:
	case ELOQ_IO_UNLINK:
	case ELOQ_IO_MKDIR:
	case ELOQ_IO_RMDIR:
		return true;
	case ELOQ_IO_CLOSE:
	case ELOQ_IO_READ:
	case ELOQ_IO_SIZE:
		return false;
	}
	return false;
}

/* Linux makes the file before it refuses O_DIRECT; the next attempt comes without. */
static int op_open(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	int r = eloq_simfs_open(&disk->fs, op->node, op->path, op->flags, &op->opened);

	if (r == 0 && op->direct && disk->opts.no_direct) {
		eloq_simfs_release(&disk->fs, op->opened);
		op->opened = NULL;
		return -EINVAL;
	}
	return r;
}

static int64_t op_transfer(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	if (op->direct) {
		eloq_assert((uintptr_t)op->buf % ELOQ_IO_ALIGN == 0 || !op->req);
		eloq_assert(op->offset % ELOQ_IO_ALIGN == 0);
		eloq_assert(op->bytes % ELOQ_SIM_SECTOR_BYTES == 0);
	}
	if (op->kind == ELOQ_IO_READ)
		return eloq_simfs_read(op->node, op->buf, op->bytes, op->offset);
	if (op->read_only)
		return -EBADF;
	return eloq_simfs_write(&disk->fs, op->node, op->buf, op->bytes, op->offset);
}

static int64_t op_do(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	struct eloq_simfs *fs = &disk->fs;

	switch (op->kind) {
	case ELOQ_IO_OPEN:
		return op_open(disk, op);
	case ELOQ_IO_CLOSE:
		return 0;
	case ELOQ_IO_READ:
	case ELOQ_IO_WRITE:
		return op_transfer(disk, op);
	case ELOQ_IO_SYNC:
		eloq_simfs_sync(fs, op->node, op->mark);
		return 0;
	case ELOQ_IO_ALLOCATE:
		if (op->read_only)
			return -EBADF;
		return eloq_simfs_allocate(fs, op->node, op->offset + op->length);
	case ELOQ_IO_TRUNCATE:
		if (op->read_only)
			return -EINVAL;
		return eloq_simfs_truncate(fs, op->node, op->offset);
	case ELOQ_IO_SIZE:
		return eloq_simfs_size(op->node);
	case ELOQ_IO_RENAME:
		return eloq_simfs_rename(fs, op->node, op->path, op->new_path);
	case ELOQ_IO_UNLINK:
		return eloq_simfs_remove(fs, op->node, op->path, false);
	case ELOQ_IO_MKDIR:
		return eloq_simfs_mkdir(fs, op->node, op->path);
	case ELOQ_IO_RMDIR:
		return eloq_simfs_remove(fs, op->node, op->path, true);
	}
	return -EINVAL;
}

/* What an operation that fails with -EIO may leave behind: all, nothing, part of a write. */
static void op_half_do(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	uint64_t draw = eloq_prng_below(&disk->prng, 3);

	if (draw == 0 || !eloq_sim_op_has_effect(op))
		return;
	if (draw == 1 && op->kind == ELOQ_IO_WRITE)
		op->bytes = (uint32_t)eloq_prng_below(&disk->prng,
						      op->bytes / ELOQ_SIM_SECTOR_BYTES + 1) *
			    ELOQ_SIM_SECTOR_BYTES;
	(void)op_do(disk, op);
	if (op->opened)
		eloq_simfs_release(&disk->fs, op->opened);
	op->opened = NULL;
}

int64_t eloq_sim_op_carry_out(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	if (op->kind == ELOQ_IO_WRITE && op->req)
		eloq_assert(eloq_checksum_xxh3(op->buf, op->bytes) == op->checksum);
	if (!op->fault)
		return op_do(disk, op);
	if (op->kind == ELOQ_IO_SYNC)
		eloq_simfs_sync_fails(&disk->fs, op->node, op->mark);
	else if (op->fault == -EIO)
		op_half_do(disk, op);
	return op->fault;
}

static void *op_copy(const void *from, size_t bytes)
{
	void *copy = eloq_sim_alloc(bytes + 1);

	memcpy(copy, from, bytes);
	return copy;
}

void eloq_sim_op_orphan(struct eloq_sim_op *op)
{
	if (op->path)
		op->path = op->copies[0] = op_copy(op->path, strlen(op->path));
	if (op->new_path)
		op->new_path = op->copies[1] = op_copy(op->new_path, strlen(op->new_path));
	if (op->buf)
		op->buf = op->copies[2] = op_copy(op->buf, op->bytes);
	op->req = NULL;
	op->io = NULL;
	op->fault = 0;
}

void eloq_sim_op_free(struct eloq_sim_disk *disk, struct eloq_sim_op *op)
{
	eloq_list_remove(&op->link);
	eloq_simfs_release(&disk->fs, op->node);
	if (op->opened)
		eloq_simfs_release(&disk->fs, op->opened);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(op->copies); i++)
		free(op->copies[i]);
	free(op);
}
