/*
 * pool.c - objects of one size from one block of memory, chained while they are free. See pool.h.
 */
#include "common/pool.h"

#include "common/compiler.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#if ELOQ_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes)	  ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

/* Lies in a free object. */
struct pool_free {
	struct pool_free *next;
};

struct eloq_pool {
	char *objects;
	struct pool_free *free;
	size_t stride; /* bytes from one object to the next */
	size_t count;
	size_t in_use;
};

/* Is @object one of ours, and not the middle of one? */
static ELOQ_UNUSED bool pool_owns(const struct eloq_pool *pool, const void *object)
{
	size_t offset = (size_t)((const char *)object - pool->objects);

	return offset < pool->count * pool->stride && offset % pool->stride == 0;
}

static ELOQ_UNUSED bool pool_is_free(const struct eloq_pool *pool, const void *object)
{
	const struct pool_free *next;

	for (const struct pool_free *each = pool->free; each; each = next) {
		if (each == object)
			return true;
		ASAN_UNPOISON_MEMORY_REGION(each, sizeof(*each));
		next = each->next;
		ASAN_POISON_MEMORY_REGION(each, sizeof(*each));
	}
	return false;
}

static void pool_put(struct eloq_pool *pool, void *object)
{
	struct pool_free *node = object;

	node->next = pool->free;
	pool->free = node;
	ASAN_POISON_MEMORY_REGION(object, pool->stride);
}

int eloq_pool_open(struct eloq_pool **ret_pool, size_t object_bytes, size_t align, size_t count)
{
	struct eloq_pool *pool;
	size_t bytes;

	if (object_bytes == 0 || count == 0 || !eloq_is_power_of_two(align) ||
	    object_bytes > SIZE_MAX / 2 || align > SIZE_MAX / 4)
		return -EINVAL;
	align = eloq_max_u64(align, _Alignof(struct pool_free));
	object_bytes = eloq_round_up(eloq_max_u64(object_bytes, sizeof(struct pool_free)), align);
	if (__builtin_mul_overflow(object_bytes, count, &bytes))
		return -EINVAL;

	pool = malloc(sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	*pool = (struct eloq_pool){ .stride = object_bytes, .count = count };
	pool->objects = aligned_alloc(align, bytes);
	if (!pool->objects) {
		free(pool);
		return -ENOMEM;
	}
	for (size_t i = count; i > 0; i--) /* the lowest is taken first */
		pool_put(pool, pool->objects + (i - 1) * pool->stride);
	*ret_pool = pool;
	return 0;
}

void eloq_pool_close(struct eloq_pool *pool)
{
	if (!pool)
		return;
	eloq_assert(pool->in_use == 0);
	ASAN_UNPOISON_MEMORY_REGION(pool->objects, pool->count * pool->stride);
	free(pool->objects);
	free(pool);
}

void *eloq_pool_take(struct eloq_pool *pool)
{
	struct pool_free *node = pool->free;

	if (!node)
		return NULL;
	ASAN_UNPOISON_MEMORY_REGION(node, pool->stride);
	pool->free = node->next;
	pool->in_use++;
	return node;
}

void eloq_pool_give(struct eloq_pool *pool, void *object)
{
	if (!object)
		return;
	eloq_assert(pool->in_use > 0);
	eloq_assert_slow(pool_owns(pool, object));
	eloq_assert_slow(!pool_is_free(pool, object));
	pool->in_use--;
	pool_put(pool, object);
}

size_t eloq_pool_count(const struct eloq_pool *pool)
{
	return pool->count;
}

size_t eloq_pool_in_use(const struct eloq_pool *pool)
{
	return pool->in_use;
}
