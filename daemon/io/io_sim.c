/*
 * io_sim.c - a process on the simulated disk: the back-end's operations (io_sim.h, io_sim_disk.h).
 *
 * Idea: handles are numbers into a table of file system nodes; an attempt becomes an operation of
 * the disk and comes back through eloq_io_sim_attempt_ended(). A turn is where time passes.
 *
 * Always:   a dead instance answers every request with -EIO and has no operation in flight.
 * Runs on:  one thread.
 */
#include "daemon/io/io_sim.h"

#include "daemon/io/io_sim_disk.h"

#include <errno.h>
#include <stdlib.h>

struct handle {
	struct eloq_simfs_node *node; /* held; NULL: the handle is free */
	bool read_only;
	bool direct;
};

struct sim {
	struct eloq_io io;
	struct eloq_sim_disk *disk;
	struct eloq_sim_instance instance;
	struct handle handles[ELOQ_IO_FILES_MAX];
	int handle_hint; /* all below are taken */
};

static struct sim *sim_of(struct eloq_io *io)
{
	return eloq_container_of(io, struct sim, io);
}

static const struct sim *sim_of_const(const struct eloq_io *io)
{
	return eloq_container_of(io, struct sim, io);
}

/* ---- handles ---------------------------------------------------------------------------- */

/* Takes @node. There are as many handles as files can be open. */
static int sim_handle_take(struct sim *sim, struct eloq_simfs_node *node, unsigned flags)
{
	int fd = sim->handle_hint;

	while (fd < ELOQ_IO_FILES_MAX && sim->handles[fd].node)
		fd++;
	eloq_assert(fd < ELOQ_IO_FILES_MAX);
	sim->handles[fd] = (struct handle){
		.node = node,
		.read_only = flags & (ELOQ_IO_READ_ONLY | ELOQ_IO_DIRECTORY),
		.direct = flags & ELOQ_IO_DIRECT,
	};
	sim->handle_hint = fd + 1;
	return fd;
}

static struct handle *sim_handle(struct sim *sim, const struct eloq_io_file *file)
{
	eloq_assert(file->fd >= 0 && file->fd < ELOQ_IO_FILES_MAX);
	eloq_assert(sim->handles[file->fd].node);
	return &sim->handles[file->fd];
}

static void sim_handle_free(struct sim *sim, const struct eloq_io_file *file)
{
	struct handle *handle = sim_handle(sim, file);

	eloq_simfs_release(&sim->disk->fs, handle->node);
	handle->node = NULL;
	if (file->fd < sim->handle_hint)
		sim->handle_hint = file->fd;
}

/* ---- requests --------------------------------------------------------------------------- */

/* The flags of this attempt: they change where O_DIRECT was refused. */
static unsigned sim_open_flags(const struct eloq_io_req *req)
{
	unsigned flags = req->flags;

	if (eloq_io_open_file(req)->is_buffered)
		flags &= ~(unsigned)(ELOQ_IO_DIRECT | ELOQ_IO_EXCLUSIVE);
	if (flags & ELOQ_IO_DIRECTORY)
		flags &= ~(unsigned)ELOQ_IO_DIRECT;
	return flags;
}

static struct eloq_sim_op *sim_make_op(struct sim *sim, struct eloq_io_req *req)
{
	const struct handle *handle = sim_handle(sim, req->file);
	struct eloq_sim_op *op = eloq_sim_alloc(sizeof(*op));

	eloq_list_init(&op->link);
	op->owner = sim->instance.number;
	op->io = &sim->io;
	op->req = req;
	op->kind = req->op;
	op->node = eloq_simfs_hold(handle->node);
	op->read_only = handle->read_only;
	op->direct = handle->direct;
	op->path = req->path;
	op->new_path = req->new_path;
	op->offset = req->offset;
	op->length = req->length;
	if (req->op == ELOQ_IO_OPEN) {
		op->flags = sim_open_flags(req);
		op->direct = op->flags & ELOQ_IO_DIRECT;
	} else if (req->op == ELOQ_IO_READ || req->op == ELOQ_IO_WRITE) {
		op->buf = (uint8_t *)req->buf + req->done_bytes;
		op->bytes = eloq_io_attempt_bytes(req);
		op->offset += req->done_bytes;
	}
	return op;
}

static void sim_fail(struct sim *sim, struct eloq_io_req *req)
{
	if (req->op == ELOQ_IO_CLOSE)
		sim_handle_free(sim, req->file);
	req->result = -EIO;
	eloq_io_ended(&sim->io, req);
}

static bool sim_start(struct eloq_io *io, struct eloq_io_req *req)
{
	struct sim *sim = sim_of(io);

	if (sim->instance.dead)
		sim_fail(sim, req);
	else
		eloq_sim_disk_start(sim->disk, &sim->instance, sim_make_op(sim, req));
	return true;
}

void eloq_io_sim_request_dies(struct eloq_sim_op *op)
{
	sim_fail(sim_of(op->io), op->req);
}

void eloq_io_sim_attempt_ended(struct eloq_sim_op *op, int64_t result)
{
	struct sim *sim = sim_of(op->io);

	if (op->opened) {
		result = sim_handle_take(sim, op->opened, op->flags);
		op->opened = NULL;
	}
	if (op->kind == ELOQ_IO_CLOSE)
		sim_handle_free(sim, op->req->file);
	if (eloq_io_judge(op->req, result))
		eloq_io_ended(&sim->io, op->req);
	else
		eloq_io_again(&sim->io, op->req);
}

/* ---- turns ------------------------------------------------------------------------------ */

static int sim_turn(struct eloq_io *io, uint64_t wait_ns)
{
	struct eloq_sim_disk *disk = sim_of(io)->disk;
	uint64_t end_ns = UINT64_MAX;

	if (wait_ns != UINT64_MAX)
		end_ns = disk->now_ns + eloq_max_u64(wait_ns, ELOQ_SIM_TURN_NS);
	while (eloq_sim_disk_next_ns(disk) <= disk->now_ns)
		eloq_sim_disk_step(disk);
	(void)eloq_io_start_waiting(io);
	while (eloq_list_empty(&io->ended)) {
		uint64_t next_ns = eloq_sim_disk_next_ns(disk);

		if (next_ns == UINT64_MAX && end_ns == UINT64_MAX)
			return -EDEADLK;
		if (next_ns > end_ns) {
			disk->now_ns = end_ns;
			break;
		}
		eloq_sim_disk_step(disk);
		(void)eloq_io_start_waiting(io);
	}
	return 0;
}

static bool sim_has_work(const struct eloq_io *io)
{
	const struct eloq_sim_disk *disk = sim_of_const(io)->disk;

	return eloq_sim_disk_next_ns(disk) <= disk->now_ns;
}

/* ---- the rest of the table -------------------------------------------------------------- */

/* Refuses descriptors of the real world, which eloq_io_adopt_fd() would bring in. */
static void sim_file_event(struct eloq_io *io, struct eloq_io_file *file)
{
	(void)sim_handle(sim_of(io), file);
}

static int sim_list(struct eloq_io *io, struct eloq_io_file *dir, const char *path,
		    int (*each)(void *arg, const char *name, bool is_directory), void *arg)
{
	struct sim *sim = sim_of(io);
	int r;

	if (sim->instance.dead)
		return -EIO;
	r = eloq_sim_disk_count_io(sim->disk, ELOQ_SIM_LIST);
	if (r < 0)
		return r;
	return eloq_simfs_list(&sim->disk->fs, sim_handle(sim, dir)->node, path, each, arg);
}

/* @fd names a lock; who did not wait for its last owner is broken. */
static int sim_hold(struct eloq_io *io, int fd)
{
	struct sim *sim = sim_of(io);
	struct eloq_sim_disk *disk = sim->disk;

	eloq_assert(fd >= 0 && !eloq_sim_disk_is_held(disk, fd));
	/* Entries of those who are gone for good make room. */
	for (unsigned i = 0; i < disk->lock_count;) {
		if (eloq_sim_disk_is_held(disk, disk->locks[i].lock))
			i++;
		else
			disk->locks[i] = disk->locks[--disk->lock_count];
	}
	if (disk->lock_count == ELOQ_SIM_LOCKS_MAX)
		return -ELOQ_ETOOMANY;
	disk->locks[disk->lock_count++] =
		(struct eloq_sim_lock){ .lock = fd, .owner = sim->instance.number };
	return 0;
}

static int sim_poll_start(struct eloq_io *io ELOQ_UNUSED, struct eloq_io_poll *poll ELOQ_UNUSED)
{
	return -ELOQ_EUNSUPPORTED;
}

static void sim_poll_stop(struct eloq_io *io ELOQ_UNUSED, struct eloq_io_poll *poll ELOQ_UNUSED)
{
}

static void sim_close(struct eloq_io *io)
{
	struct sim *sim = sim_of(io);

	eloq_list_remove(&sim->instance.link);
	eloq_io_fini(io);
	free(sim);
}

static const struct eloq_io_ops sim_ops = {
	.name = "sim",
	.close = sim_close,
	.start = sim_start,
	.turn = sim_turn,
	.has_work = sim_has_work,
	.file_opened = sim_file_event,
	.file_closing = sim_file_event,
	.list = sim_list,
	.hold = sim_hold,
	.poll_start = sim_poll_start,
	.poll_stop = sim_poll_stop,
};

/* ---- opening and dying ------------------------------------------------------------------ */

int eloq_io_sim_open(struct eloq_io **ret_io, struct eloq_sim_disk *disk, unsigned depth)
{
	struct sim *sim;
	int r;

	if (depth < 1 || depth > ELOQ_IO_DEPTH_MAX)
		return -EINVAL;
	sim = eloq_sim_alloc(sizeof(*sim));
	r = eloq_io_init(&sim->io, &sim_ops, depth);
	eloq_assert(r == 0);
	sim->disk = disk;
	sim->instance.number = ++disk->instance_count;
	eloq_list_push_back(&disk->instances, &sim->instance.link);
	eloq_sim_disk_note(disk, "begin", NULL, sim->instance.number, 0);
	*ret_io = &sim->io;
	return 0;
}

int eloq_io_sim_root(struct eloq_io *io, struct eloq_io_file **ret_root)
{
	struct sim *sim = sim_of(io);
	struct eloq_io_file *file;

	eloq_assert(io->ops->close == sim_close);
	file = eloq_io_take_file(io);
	if (!file)
		return -EMFILE;
	file->is_directory = true;
	file->fd = sim_handle_take(sim, eloq_simfs_hold(sim->disk->fs.root), ELOQ_IO_DIRECTORY);
	*ret_root = file;
	return 0;
}

void eloq_io_sim_kill(struct eloq_io *io)
{
	struct sim *sim = sim_of(io);

	eloq_sim_disk_kill(sim->disk, &sim->instance);
}

void eloq_io_sim_kill_at_io(struct eloq_io *io, uint64_t k)
{
	struct sim *sim = sim_of(io);

	sim->instance.kill_at_io = k ? sim->disk->io_count + k : 0;
}

bool eloq_io_sim_is_dead(const struct eloq_io *io)
{
	return sim_of_const(io)->instance.dead;
}
