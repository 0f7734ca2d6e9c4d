/*
 * io_sim_image.c - see io_sim_image.h.
 */
#include "daemon/io/io_sim_image.h"

#include "common/compiler.h"

#include <stdlib.h>
#include <string.h>

void *eloq_sim_alloc(size_t bytes)
{
	void *memory = calloc(1, bytes);

	eloq_assert(memory);
	return memory;
}

/* Drop the chunks of @group from @first on. */
static void group_cut(struct eloq_sim_image *image, struct eloq_sim_group *group, uint64_t first)
{
	if (!group)
		return;
	for (uint64_t i = first; i < ELOQ_SIM_GROUP_CHUNKS; i++) {
		image->chunk_count -= group->chunks[i] != NULL;
		free(group->chunks[i]);
		group->chunks[i] = NULL;
	}
}

void eloq_sim_image_fini(struct eloq_sim_image *image)
{
	for (size_t i = 0; i < image->group_count; i++) {
		group_cut(image, image->groups[i], 0);
		free(image->groups[i]);
	}
	eloq_assert(image->chunk_count == 0);
	free(image->groups);
	memset(image, 0, sizeof(*image));
}

/* NULL: a hole. */
static uint8_t *chunk_find(const struct eloq_sim_image *image, uint64_t chunk)
{
	uint64_t group = chunk / ELOQ_SIM_GROUP_CHUNKS;

	if (group >= image->group_count || !image->groups[group])
		return NULL;
	return image->groups[group]->chunks[chunk % ELOQ_SIM_GROUP_CHUNKS];
}

static void groups_grow(struct eloq_sim_image *image, size_t count)
{
	struct eloq_sim_group **groups = eloq_sim_alloc(count * sizeof(*groups));

	if (image->group_count > 0)
		memcpy(groups, image->groups, image->group_count * sizeof(*groups));
	free(image->groups);
	image->groups = groups;
	image->group_count = count;
}

static uint8_t *chunk_make(struct eloq_sim_image *image, uint64_t chunk)
{
	uint64_t group = chunk / ELOQ_SIM_GROUP_CHUNKS;
	uint8_t **at;

	if (group >= image->group_count)
		groups_grow(image, group + 1);
	if (!image->groups[group])
		image->groups[group] = eloq_sim_alloc(sizeof(*image->groups[group]));
	at = &image->groups[group]->chunks[chunk % ELOQ_SIM_GROUP_CHUNKS];
	if (!*at) {
		*at = eloq_sim_alloc(ELOQ_SIM_CHUNK_BYTES);
		image->chunk_count++;
	}
	return *at;
}

/* The part of [offset, offset + bytes) that lies in the chunk of @offset. */
static size_t part_bytes(size_t bytes, uint64_t offset)
{
	return (size_t)eloq_min_u64(bytes, ELOQ_SIM_CHUNK_BYTES - offset % ELOQ_SIM_CHUNK_BYTES);
}

void eloq_sim_image_read(const struct eloq_sim_image *image, void *buf, size_t bytes,
			 uint64_t offset)
{
	uint8_t *to = buf;

	while (bytes > 0) {
		const uint8_t *chunk = chunk_find(image, offset / ELOQ_SIM_CHUNK_BYTES);
		size_t part = part_bytes(bytes, offset);

		if (chunk)
			memcpy(to, chunk + offset % ELOQ_SIM_CHUNK_BYTES, part);
		else
			memset(to, 0, part);
		to += part;
		offset += part;
		bytes -= part;
	}
}

void eloq_sim_image_write(struct eloq_sim_image *image, const void *buf, size_t bytes,
			  uint64_t offset)
{
	const uint8_t *from = buf;

	while (bytes > 0) {
		uint8_t *chunk = chunk_make(image, offset / ELOQ_SIM_CHUNK_BYTES);
		size_t part = part_bytes(bytes, offset);

		memcpy(chunk + offset % ELOQ_SIM_CHUNK_BYTES, from, part);
		from += part;
		offset += part;
		bytes -= part;
	}
}

void eloq_sim_image_resize(struct eloq_sim_image *image, uint64_t bytes)
{
	uint64_t whole = eloq_round_up(bytes, ELOQ_SIM_CHUNK_BYTES) / ELOQ_SIM_CHUNK_BYTES;
	uint8_t *last = chunk_find(image, bytes / ELOQ_SIM_CHUNK_BYTES);

	if (last && bytes % ELOQ_SIM_CHUNK_BYTES)
		memset(last + bytes % ELOQ_SIM_CHUNK_BYTES, 0,
		       ELOQ_SIM_CHUNK_BYTES - bytes % ELOQ_SIM_CHUNK_BYTES);
	for (uint64_t g = whole / ELOQ_SIM_GROUP_CHUNKS; g < image->group_count; g++)
		group_cut(image, image->groups[g],
			  eloq_max_u64(whole, g * ELOQ_SIM_GROUP_CHUNKS) -
				  g * ELOQ_SIM_GROUP_CHUNKS);
	image->bytes = bytes;
}

uint64_t eloq_sim_image_holes(const struct eloq_sim_image *image, size_t bytes, uint64_t offset)
{
	uint64_t holes = 0;

	while (bytes > 0) {
		size_t part = part_bytes(bytes, offset);

		holes += !chunk_find(image, offset / ELOQ_SIM_CHUNK_BYTES);
		offset += part;
		bytes -= part;
	}
	return holes;
}

void eloq_sim_image_copy(struct eloq_sim_image *to, const struct eloq_sim_image *from)
{
	eloq_sim_image_fini(to);
	for (size_t i = 0; i < from->group_count * ELOQ_SIM_GROUP_CHUNKS; i++) {
		const uint8_t *chunk = chunk_find(from, i);

		if (chunk)
			eloq_sim_image_write(to, chunk, ELOQ_SIM_CHUNK_BYTES,
					     i * ELOQ_SIM_CHUNK_BYTES);
	}
	to->bytes = from->bytes;
}
