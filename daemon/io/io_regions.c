/*
 * io_regions.c - the table of memory that is registered with the kernel.
 *
 * Idea: one array sorted by address, searched by halves: a dozen steps at most before an I/O that
 * costs a system call. Slots are what the kernel knows a region by, so they stay with their region
 * while the array shifts around them.
 *
 * Always:   sorted[0..count) are disjoint and ascending; sorted[count..max) only keep free slots.
 *           Together the slots are 0..max-1, each once.
 * Runs on:  the shard's thread.
 * Fails by: -ELOQ_ETOOMANY when all slots are taken. Overlapping regions are a bug of the caller.
 */
#include "daemon/io/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int eloq_io_regions_init(struct eloq_io_regions *regions, unsigned max)
{
	regions->sorted = calloc(max, sizeof(*regions->sorted));
	if (!regions->sorted)
		return -ENOMEM;
	for (unsigned i = 0; i < max; i++)
		regions->sorted[i].slot = i;
	regions->count = 0;
	regions->max = max;
	return 0;
}

void eloq_io_regions_fini(struct eloq_io_regions *regions)
{
	free(regions->sorted);
	*regions = (struct eloq_io_regions){ 0 };
}

/* How many regions begin below @address; they are the first ones. */
static unsigned regions_below(const struct eloq_io_regions *regions, uintptr_t address)
{
	unsigned low = 0, high = regions->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (regions->sorted[middle].begin < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int eloq_io_regions_add(struct eloq_io_regions *regions, const void *base, size_t bytes)
{
	struct eloq_io_region *sorted = regions->sorted;
	uintptr_t begin = (uintptr_t)base, end = begin + bytes;
	unsigned at = regions_below(regions, begin);
	uint32_t slot;

	eloq_assert(at == 0 || sorted[at - 1].end <= begin);
	eloq_assert(at == regions->count || sorted[at].begin >= end);
	if (regions->count == regions->max)
		return -ELOQ_ETOOMANY;
	slot = sorted[regions->count].slot;
	memmove(&sorted[at + 1], &sorted[at], (regions->count - at) * sizeof(*sorted));
	sorted[at] = (struct eloq_io_region){ .begin = begin, .end = end, .slot = slot };
	regions->count++;
	return (int)slot;
}

int eloq_io_regions_remove(struct eloq_io_regions *regions, const void *base, size_t bytes,
			   size_t *ret_bytes)
{
	struct eloq_io_region *sorted = regions->sorted;
	uintptr_t begin = (uintptr_t)base, end = begin + bytes;
	unsigned after = regions_below(regions, end);
	struct eloq_io_region region;

	if (after == 0 || sorted[after - 1].begin < begin)
		return -1;
	region = sorted[after - 1];
	eloq_assert(region.end <= end);
	memmove(&sorted[after - 1], &sorted[after], (regions->count - after) * sizeof(*sorted));
	regions->count--;
	sorted[regions->count].slot = region.slot;
	*ret_bytes = region.end - region.begin;
	return (int)region.slot;
}

int eloq_io_regions_find(const struct eloq_io_regions *regions, const void *buf, size_t bytes)
{
	uintptr_t begin = (uintptr_t)buf;
	unsigned upto = regions_below(regions, begin + 1);
	const struct eloq_io_region *region;

	if (upto == 0 || bytes == 0)
		return -1;
	region = &regions->sorted[upto - 1];
	if (begin >= region->end || bytes > region->end - begin)
		return -1;
	return (int)region->slot;
}
