/*
 * io_simfs.c - see io_simfs.h.
 *
 *        write, truncate, create, rename, ...            sync ends: all before its mark
 *   now <------------------------------------ change ------------------------------------> durable
 *                                                |        cut, failed sync: as the seed has it
 *                                                +--> lost
 */
#include "daemon/io/io_simfs.h"

#include "common/compiler.h"
#include "daemon/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SIMFS_NAME_BYTES = 256, SIMFS_LIST_MAX = 65536 };

struct eloq_simfs_node {
	struct eloq_list link; /* in fs->nodes */
	uint64_t id;
	uint64_t refs; /* names, changes and holders */
	bool is_directory;
	bool is_stale;
	struct eloq_list changes;	    /* oldest first */
	struct eloq_sim_image now, durable; /* of a file */
	struct eloq_list now_names;	    /* of a directory */
	struct eloq_list durable_names;
};

struct name {
	struct eloq_list link;
	struct eloq_simfs_node *node;
	char text[SIMFS_NAME_BYTES];
};

enum change_kind { CHANGE_WRITE, CHANGE_SIZE, CHANGE_NAMES };

struct change {
	struct eloq_list link;
	uint64_t number; /* over all nodes: the order in which changes were made */
	enum change_kind kind;

	/* WRITE: bytes of data at offset. SIZE: offset is the new size. */
	uint64_t offset;
	uint32_t bytes;
	bool only_grows; /* SIZE: a larger size stays */

	/* NAMES: `gone` ("" for none) goes and `node`, unless NULL, is called `made`. */
	struct eloq_simfs_node *node;
	char gone[SIMFS_NAME_BYTES];
	char made[SIMFS_NAME_BYTES];

	uint8_t data[];
};

/* What happens to a row of changes that were not synced. */
enum fate {
	FATE_ALL,    /* kept */
	FATE_NONE,   /* lost */
	FATE_PREFIX, /* kept up to one that is torn, the others lost: as a journal would */
	FATE_EACH,   /* kept, lost or torn, each by itself */
};

enum outcome { KEPT, LOST, TORN };

static bool simfs_coin(struct eloq_simfs *fs)
{
	return eloq_prng_next(fs->prng) & 1;
}

/* ---- nodes ------------------------------------------------------------------------------ */

static struct eloq_simfs_node *node_new(struct eloq_simfs *fs, bool is_directory)
{
	struct eloq_simfs_node *node = eloq_sim_alloc(sizeof(*node));

	node->id = fs->next_node_id++;
	node->refs = 1;
	node->is_directory = is_directory;
	eloq_list_init(&node->changes);
	eloq_list_init(&node->now_names);
	eloq_list_init(&node->durable_names);
	eloq_list_push_back(&fs->nodes, &node->link);
	return node;
}

struct eloq_simfs_node *eloq_simfs_hold(struct eloq_simfs_node *node)
{
	node->refs++;
	return node;
}

static void names_clear(struct eloq_simfs *fs, struct eloq_list *names)
{
	struct eloq_list *at;

	while ((at = eloq_list_pop_front(names)) != NULL) {
		struct name *name = eloq_list_entry(at, struct name, link);

		eloq_simfs_release(fs, name->node);
		free(name);
	}
}

static void change_free(struct eloq_simfs *fs, struct change *change)
{
	eloq_list_remove(&change->link);
	fs->pending_bytes -= change->bytes;
	if (change->node)
		eloq_simfs_release(fs, change->node);
	free(change);
}

void eloq_simfs_release(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	eloq_assert(node->refs > 0);
	if (--node->refs > 0)
		return;
	eloq_list_for_each_safe (at, &node->changes)
		change_free(fs, eloq_list_entry(at, struct change, link));
	names_clear(fs, &node->now_names);
	names_clear(fs, &node->durable_names);
	fs->chunk_count -= node->now.chunk_count;
	eloq_sim_image_fini(&node->now);
	eloq_sim_image_fini(&node->durable);
	eloq_list_remove(&node->link);
	free(node);
}

uint64_t eloq_simfs_node_id(const struct eloq_simfs_node *node)
{
	return node->id;
}

bool eloq_simfs_is_directory(const struct eloq_simfs_node *node)
{
	return node->is_directory;
}

void eloq_simfs_init(struct eloq_simfs *fs, struct eloq_prng *prng, uint64_t bytes_max)
{
	*fs = (struct eloq_simfs){
		.prng = prng,
		.chunks_max = bytes_max / ELOQ_SIM_CHUNK_BYTES,
		.next_change = 1,
	};
	eloq_list_init(&fs->nodes);
	fs->root = node_new(fs, true);
}

void eloq_simfs_fini(struct eloq_simfs *fs)
{
	eloq_simfs_release(fs, fs->root);
	eloq_assert(eloq_list_empty(&fs->nodes));
}

/* ---- names ------------------------------------------------------------------------------ */

static struct name *names_find(struct eloq_list *names, const char *text)
{
	eloq_list_for_each (node, names) {
		struct name *name = eloq_list_entry(node, struct name, link);

		if (!strcmp(name->text, text))
			return name;
	}
	return NULL;
}

static void names_remove(struct eloq_simfs *fs, struct name *name)
{
	if (!name)
		return;
	eloq_list_remove(&name->link);
	eloq_simfs_release(fs, name->node);
	free(name);
}

/* No name is longer than simfs_walk() allows. */
static void name_copy(char *to, const char *name)
{
	size_t bytes = strlen(name) + 1;

	eloq_assert(bytes <= SIMFS_NAME_BYTES);
	memcpy(to, name, bytes);
}

/* Whatever was called so is not any more, and @node is called nothing else. */
static void names_set(struct eloq_simfs *fs, struct eloq_list *names, const char *text,
		      struct eloq_simfs_node *node)
{
	struct name *name = eloq_sim_alloc(sizeof(*name));

	name->node = eloq_simfs_hold(node);
	name_copy(name->text, text);
	names_remove(fs, names_find(names, text));
	eloq_list_for_each_safe (other, names)
		if (eloq_list_entry(other, struct name, link)->node == node)
			names_remove(fs, eloq_list_entry(other, struct name, link));
	eloq_list_push_back(names, &name->link);
}

static void names_apply(struct eloq_simfs *fs, struct eloq_list *names, const struct change *change)
{
	if (change->gone[0])
		names_remove(fs, names_find(names, change->gone));
	if (change->node)
		names_set(fs, names, change->made, change->node);
}

/* From @dir to the directory that holds the last name of @path, which is "." for @path ".". */
static int simfs_walk(struct eloq_simfs_node *dir, const char *path,
		      struct eloq_simfs_node **ret_parent, char *ret_last)
{
	const char *slash;

	while ((slash = strchr(path, '/')) != NULL) {
		struct name *name;
		size_t bytes = (size_t)(slash - path);

		if (bytes >= SIMFS_NAME_BYTES)
			return -ENAMETOOLONG;
		memcpy(ret_last, path, bytes);
		ret_last[bytes] = '\0';
		name = names_find(&dir->now_names, ret_last);
		if (!name)
			return -ENOENT;
		dir = name->node;
		if (!dir->is_directory)
			return -ENOTDIR;
		path = slash + 1;
	}
	if (strlen(path) >= SIMFS_NAME_BYTES)
		return -ENAMETOOLONG;
	if (!path[0])
		return -ENOENT;
	name_copy(ret_last, path);
	*ret_parent = dir;
	return 0;
}

/* *ret_node is NULL if the last name is free. */
static int simfs_find(struct eloq_simfs_node *dir, const char *path,
		      struct eloq_simfs_node **ret_parent, char *ret_last,
		      struct eloq_simfs_node **ret_node)
{
	struct name *name;
	int r;

	if (!dir->is_directory)
		return -ENOTDIR;
	r = simfs_walk(dir, path, ret_parent, ret_last);
	if (r < 0)
		return r;
	eloq_assert(*ret_parent);
	if (!strcmp(ret_last, ".")) {
		*ret_node = *ret_parent;
		return 0;
	}
	name = names_find(&(*ret_parent)->now_names, ret_last);
	*ret_node = name ? name->node : NULL;
	return 0;
}

/* ---- changes ---------------------------------------------------------------------------- */

static struct change *change_add(struct eloq_simfs *fs, struct eloq_simfs_node *node,
				 enum change_kind kind, uint32_t bytes)
{
	struct change *change = eloq_sim_alloc(sizeof(*change) + bytes);

	change->number = fs->next_change++;
	change->kind = kind;
	change->bytes = bytes;
	eloq_list_push_back(&node->changes, &change->link);
	fs->pending_bytes += bytes;
	return change;
}

static void simfs_change_names(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *gone,
			       const char *made, struct eloq_simfs_node *node)
{
	struct change *change = change_add(fs, dir, CHANGE_NAMES, 0);

	name_copy(change->gone, gone);
	name_copy(change->made, made);
	change->node = node ? eloq_simfs_hold(node) : NULL;
	names_apply(fs, &dir->now_names, change);
}

static void image_set_size(struct eloq_sim_image *image, const struct change *change)
{
	if (!change->only_grows || change->offset > image->bytes)
		eloq_sim_image_resize(image, change->offset);
}

static void image_grow(struct eloq_sim_image *image, uint64_t bytes)
{
	if (bytes > image->bytes)
		image->bytes = bytes;
}

/* Each sector that @change writes survives or not. */
static void image_write_torn(struct eloq_simfs *fs, struct eloq_sim_image *image,
			     const struct change *change)
{
	uint64_t at = change->offset;
	uint64_t end = change->offset + change->bytes;

	while (at < end) {
		uint64_t next =
			eloq_min_u64(end, (at / ELOQ_SIM_SECTOR_BYTES + 1) * ELOQ_SIM_SECTOR_BYTES);

		if (simfs_coin(fs))
			eloq_sim_image_write(image, change->data + (at - change->offset), next - at,
					     at);
		at = next;
	}
}

/* A write that did not fully survive: whether the file grew by it is a question of its own. */
static void settle_lost_write(struct eloq_simfs *fs, struct eloq_sim_image *image,
			      const struct change *change, bool grows)
{
	if (change->offset + change->bytes <= image->bytes)
		return;
	if (grows) {
		image_grow(image, change->offset + change->bytes);
		fs->stats.sizes_kept++;
	} else {
		fs->stats.sizes_lost++;
	}
}

static void settle_write(struct eloq_simfs *fs, struct eloq_sim_image *image,
			 const struct change *change, enum outcome outcome, bool grows)
{
	switch (outcome) {
	case KEPT:
		eloq_sim_image_write(image, change->data, change->bytes, change->offset);
		image_grow(image, change->offset + change->bytes);
		fs->stats.writes_kept++;
		return;
	case TORN:
		image_write_torn(fs, image, change);
		settle_lost_write(fs, image, change, simfs_coin(fs));
		fs->stats.writes_torn++;
		return;
	case LOST:
		settle_lost_write(fs, image, change, grows && simfs_coin(fs));
		fs->stats.writes_lost++;
		return;
	}
}

static void settle_change(struct eloq_simfs *fs, struct eloq_simfs_node *node,
			  const struct change *change, enum outcome outcome, bool grows)
{
	if (change->kind == CHANGE_WRITE) {
		settle_write(fs, &node->durable, change, outcome, grows);
		return;
	}
	/* There is no half of these. */
	if (outcome == TORN)
		outcome = simfs_coin(fs) ? KEPT : LOST;
	if (change->kind == CHANGE_SIZE) {
		if (outcome == KEPT)
			image_set_size(&node->durable, change);
		fs->stats.sizes_kept += outcome == KEPT;
		fs->stats.sizes_lost += outcome == LOST;
	} else {
		if (outcome == KEPT)
			names_apply(fs, &node->durable_names, change);
		fs->stats.names_kept += outcome == KEPT;
		fs->stats.names_lost += outcome == LOST;
	}
}

static uint64_t changes_before(const struct eloq_simfs_node *node, uint64_t mark)
{
	uint64_t count = 0;

	eloq_list_for_each (at, &node->changes) {
		if (eloq_list_entry(at, struct change, link)->number >= mark)
			break;
		count++;
	}
	return count;
}

/* All changes of @node before @mark meet their fate and leave the log. */
static void settle(struct eloq_simfs *fs, struct eloq_simfs_node *node, uint64_t mark,
		   enum fate fate)
{
	uint64_t count = changes_before(node, mark);
	uint64_t prefix = fate == FATE_PREFIX ? eloq_prng_below(fs->prng, count + 1) : 0;
	uint64_t i = 0;

	eloq_list_for_each_safe (at, &node->changes) {
		struct change *change = eloq_list_entry(at, struct change, link);
		enum outcome outcome = KEPT;

		if (i == count)
			break;
		if (fate == FATE_NONE || (fate == FATE_PREFIX && i > prefix))
			outcome = LOST;
		else if (fate == FATE_PREFIX && i == prefix)
			outcome = TORN;
		else if (fate == FATE_EACH)
			outcome = (enum outcome)eloq_prng_below(fs->prng, 3);
		settle_change(fs, node, change, outcome, fate == FATE_EACH);
		change_free(fs, change);
		i++;
	}
	/* Bytes that survived beyond the end that survived are nobody's. */
	eloq_sim_image_resize(&node->durable, node->durable.bytes);
}

static enum fate fate_draw(struct eloq_simfs *fs)
{
	static const enum fate fates[] = { FATE_ALL,  FATE_NONE, FATE_PREFIX,
					   FATE_EACH, FATE_EACH, FATE_EACH };

	return fates[eloq_prng_below(fs->prng, ELOQ_ARRAY_SIZE(fates))];
}

uint64_t eloq_simfs_sync_mark(const struct eloq_simfs *fs)
{
	return fs->next_change;
}

void eloq_simfs_sync(struct eloq_simfs *fs, struct eloq_simfs_node *node, uint64_t mark)
{
	const struct eloq_simfs_stats before = fs->stats;

	settle(fs, node, mark, FATE_ALL);
	fs->stats = before; /* these were no accidents */
}

void eloq_simfs_sync_fails(struct eloq_simfs *fs, struct eloq_simfs_node *node, uint64_t mark)
{
	if (node->is_directory || changes_before(node, mark) == 0)
		return;
	settle(fs, node, mark, fate_draw(fs));
	node->is_stale = true;
}

/* ---- cuts ------------------------------------------------------------------------------- */

/* Readers see the medium from here on. */
static void node_show_durable(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	node->is_stale = false;
	if (!node->is_directory) {
		fs->chunk_count -= node->now.chunk_count;
		eloq_sim_image_copy(&node->now, &node->durable);
		fs->chunk_count += node->now.chunk_count;
		return;
	}
	names_clear(fs, &node->now_names);
	eloq_list_for_each (at, &node->durable_names) {
		struct name *name = eloq_list_entry(at, struct name, link);

		names_set(fs, &node->now_names, name->text, name->node);
	}
}

/* @each for every node; nodes that lose their last name meanwhile go at the end. */
static void simfs_for_each(struct eloq_simfs *fs,
			   void (*each)(struct eloq_simfs *fs, struct eloq_simfs_node *node))
{
	eloq_list_for_each (at, &fs->nodes)
		eloq_simfs_hold(eloq_list_entry(at, struct eloq_simfs_node, link));
	eloq_list_for_each (at, &fs->nodes)
		each(fs, eloq_list_entry(at, struct eloq_simfs_node, link));
	/* What a release takes along was released before: the next one is still held. */
	eloq_list_for_each_safe (at, &fs->nodes)
		eloq_simfs_release(fs, eloq_list_entry(at, struct eloq_simfs_node, link));
}

static void node_keep_all(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	eloq_simfs_sync(fs, node, UINT64_MAX);
}

static void node_lose_all(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	settle(fs, node, UINT64_MAX, FATE_NONE);
}

static void node_draw_fate(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	settle(fs, node, UINT64_MAX, fate_draw(fs));
}

void eloq_simfs_cut(struct eloq_simfs *fs)
{
	/* Mostly each node has a fate of its own; now and then the whole disk shares one. */
	switch (eloq_prng_below(fs->prng, 8)) {
	case 0:
		simfs_for_each(fs, node_lose_all);
		break;
	case 1:
		simfs_for_each(fs, node_keep_all);
		break;
	default:
		simfs_for_each(fs, node_draw_fate);
		break;
	}
	simfs_for_each(fs, node_show_durable);
}

static void node_evict(struct eloq_simfs *fs, struct eloq_simfs_node *node)
{
	if (!node->is_stale)
		return;
	/* Pages that are still dirty are written first; only clean ones can go. */
	eloq_simfs_sync(fs, node, UINT64_MAX);
	node_show_durable(fs, node);
}

void eloq_simfs_evict(struct eloq_simfs *fs)
{
	simfs_for_each(fs, node_evict);
}

/* ---- files ------------------------------------------------------------------------------ */

/* A kernel writes back by itself what has piled up; here that bounds the logs. */
static void simfs_write_back(struct eloq_simfs *fs)
{
	if (fs->pending_bytes > fs->chunks_max * ELOQ_SIM_CHUNK_BYTES)
		simfs_for_each(fs, node_keep_all);
}

int64_t eloq_simfs_read(const struct eloq_simfs_node *file, void *buf, uint32_t bytes,
			uint64_t offset)
{
	uint32_t moved;

	if (file->is_directory)
		return -EISDIR;
	if (offset >= file->now.bytes)
		return 0;
	moved = (uint32_t)eloq_min_u64(bytes, file->now.bytes - offset);
	eloq_sim_image_read(&file->now, buf, moved, offset);
	return moved;
}

int64_t eloq_simfs_write(struct eloq_simfs *fs, struct eloq_simfs_node *file, const void *buf,
			 uint32_t bytes, uint64_t offset)
{
	uint64_t holes = eloq_sim_image_holes(&file->now, bytes, offset);
	struct change *change;

	if (fs->chunk_count + holes > fs->chunks_max)
		return -ENOSPC;
	if (bytes == 0)
		return 0;
	change = change_add(fs, file, CHANGE_WRITE, bytes);
	change->offset = offset;
	memcpy(change->data, buf, bytes);
	eloq_sim_image_write(&file->now, buf, bytes, offset);
	image_grow(&file->now, offset + bytes);
	fs->chunk_count += holes;
	simfs_write_back(fs);
	return bytes;
}

int64_t eloq_simfs_size(const struct eloq_simfs_node *file)
{
	return (int64_t)file->now.bytes;
}

static void simfs_set_size(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t bytes,
			   bool only_grows)
{
	struct change *change = change_add(fs, file, CHANGE_SIZE, 0);

	change->offset = bytes;
	change->only_grows = only_grows;
	fs->chunk_count -= file->now.chunk_count;
	image_set_size(&file->now, change);
	fs->chunk_count += file->now.chunk_count;
}

int eloq_simfs_truncate(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t bytes)
{
	simfs_set_size(fs, file, bytes, false);
	return 0;
}

int eloq_simfs_allocate(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t end)
{
	simfs_set_size(fs, file, end, true);
	return 0;
}

static void image_flip(struct eloq_sim_image *image, uint64_t offset, uint8_t mask)
{
	uint8_t byte;

	eloq_sim_image_read(image, &byte, 1, offset);
	byte ^= mask;
	eloq_sim_image_write(image, &byte, 1, offset);
}

void eloq_simfs_rot(struct eloq_simfs *fs, struct eloq_simfs_node *file, uint64_t offset)
{
	uint64_t at = offset / ELOQ_SIM_SECTOR_BYTES * ELOQ_SIM_SECTOR_BYTES +
		      eloq_prng_below(fs->prng, ELOQ_SIM_SECTOR_BYTES);
	uint8_t mask = (uint8_t)(1u << eloq_prng_below(fs->prng, 8));

	eloq_simfs_sync(fs, file, UINT64_MAX); /* no copy stays whole in the log */
	fs->chunk_count -= file->now.chunk_count;
	image_flip(&file->now, at, mask);
	fs->chunk_count += file->now.chunk_count;
	image_flip(&file->durable, at, mask);
}

/* ---- directories ------------------------------------------------------------------------ */

static int simfs_check_open(const struct eloq_simfs_node *node, unsigned flags)
{
	if (!node)
		return flags & ELOQ_IO_CREATE ? 0 : -ENOENT;
	if ((flags & ELOQ_IO_CREATE) && (flags & ELOQ_IO_EXCLUSIVE))
		return -EEXIST;
	if ((flags & ELOQ_IO_DIRECTORY) && !node->is_directory)
		return -ENOTDIR;
	if (node->is_directory && !(flags & (ELOQ_IO_DIRECTORY | ELOQ_IO_READ_ONLY)))
		return -EISDIR;
	return 0;
}

int eloq_simfs_open(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		    unsigned flags, struct eloq_simfs_node **ret_node)
{
	struct eloq_simfs_node *parent, *node;
	char last[SIMFS_NAME_BYTES];
	int r;

	r = simfs_find(dir, path, &parent, last, &node);
	if (r == 0)
		r = simfs_check_open(node, flags);
	if (r < 0)
		return r;
	if (!node) {
		node = node_new(fs, false);
		simfs_change_names(fs, parent, "", last, node);
		*ret_node = node; /* the first reference is the caller's */
		return 0;
	}
	if ((flags & ELOQ_IO_TRUNC) && !node->is_directory)
		(void)eloq_simfs_truncate(fs, node, 0);
	*ret_node = eloq_simfs_hold(node);
	return 0;
}

int eloq_simfs_mkdir(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path)
{
	struct eloq_simfs_node *parent, *node;
	char last[SIMFS_NAME_BYTES];
	int r;

	r = simfs_find(dir, path, &parent, last, &node);
	if (r < 0)
		return r;
	if (node)
		return -EEXIST;
	node = node_new(fs, true);
	simfs_change_names(fs, parent, "", last, node);
	eloq_simfs_release(fs, node);
	return 0;
}

int eloq_simfs_remove(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		      bool directory)
{
	struct eloq_simfs_node *parent, *node;
	char last[SIMFS_NAME_BYTES];
	int r;

	r = simfs_find(dir, path, &parent, last, &node);
	if (r < 0)
		return r;
	if (!node)
		return -ENOENT;
	if (node == parent)
		return -EINVAL;
	if (directory != node->is_directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (!eloq_list_empty(&node->now_names))
		return -ENOTEMPTY;
	simfs_change_names(fs, parent, last, "", NULL);
	return 0;
}

/* What stands in the way of calling @node by the name of @target. */
static int simfs_check_replace(const struct eloq_simfs_node *node,
			       const struct eloq_simfs_node *target)
{
	if (!target)
		return 0;
	if (node->is_directory != target->is_directory)
		return node->is_directory ? -ENOTDIR : -EISDIR;
	return eloq_list_empty(&target->now_names) ? 0 : -ENOTEMPTY;
}

int eloq_simfs_rename(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		      const char *new_path)
{
	struct eloq_simfs_node *parent, *new_parent, *node, *target;
	char last[SIMFS_NAME_BYTES], new_last[SIMFS_NAME_BYTES];
	int r;

	r = simfs_find(dir, path, &parent, last, &node);
	if (r == 0)
		r = simfs_find(dir, new_path, &new_parent, new_last, &target);
	if (r < 0)
		return r;
	if (!node)
		return -ENOENT;
	if (parent != new_parent)
		return -EXDEV;
	if (node == target)
		return 0;
	r = simfs_check_replace(node, target);
	if (r == 0)
		simfs_change_names(fs, parent, last, new_last, node);
	return r;
}

struct listed {
	char text[SIMFS_NAME_BYTES];
	bool is_directory;
};

/* A copy, as @each may change the directory; shuffled, as no order is promised. */
static struct listed *simfs_list_copy(struct eloq_simfs *fs, struct eloq_simfs_node *dir,
				      size_t *ret_count)
{
	struct listed *listed;
	size_t count = 0;

	eloq_list_for_each (at, &dir->now_names)
		count++;
	eloq_assert(count <= SIMFS_LIST_MAX);
	listed = eloq_sim_alloc((count + 1) * sizeof(*listed));
	count = 0;
	eloq_list_for_each (at, &dir->now_names) {
		struct name *name = eloq_list_entry(at, struct name, link);
		size_t place = (size_t)eloq_prng_below(fs->prng, count + 1);

		listed[count++] = listed[place];
		name_copy(listed[place].text, name->text);
		listed[place].is_directory = name->node->is_directory;
	}
	*ret_count = count;
	return listed;
}

int eloq_simfs_list(struct eloq_simfs *fs, struct eloq_simfs_node *dir, const char *path,
		    int (*each)(void *arg, const char *name, bool is_directory), void *arg)
{
	struct eloq_simfs_node *node = NULL;
	struct listed *listed;
	size_t count;
	int r;

	r = eloq_simfs_open(fs, dir, path, ELOQ_IO_DIRECTORY, &node);
	if (r < 0)
		return r;
	listed = simfs_list_copy(fs, node, &count);
	for (size_t i = 0; i < count && r == 0; i++)
		r = each(arg, listed[i].text, listed[i].is_directory);
	free(listed);
	eloq_simfs_release(fs, node);
	return r;
}
