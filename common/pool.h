/*
 * pool.h - a fixed number of objects of one size, made at start-up.
 *
 * Idea: what the hot path needs is allocated before it serves; "none left" is an answer, and the
 * bound is the caller's. Objects given back last are taken first: they are still in the cache.
 *
 * Always:   an object is free or in use; the pool touches only free ones.
 * Runs on:  one thread at a time.
 * Fails by: NULL when none is free. Under ASan whoever touches a free object is caught.
 */
#ifndef ELOQ_COMMON_POOL_H
#define ELOQ_COMMON_POOL_H

#include <stddef.h>

struct eloq_pool;

/*
 * Make @count objects of @object_bytes (> 0), each aligned to @align, a power of two. All memory is
 * allocated here. 0, -EINVAL or -ENOMEM.
 */
int eloq_pool_open(struct eloq_pool **ret_pool, size_t object_bytes, size_t align, size_t count);

/* NULL is fine. All objects must have been given back. */
void eloq_pool_close(struct eloq_pool *pool);

/* An object of undefined content, or NULL if all are in use. */
void *eloq_pool_take(struct eloq_pool *pool);

/* Give back what eloq_pool_take() returned. NULL is fine. */
void eloq_pool_give(struct eloq_pool *pool, void *object);

size_t eloq_pool_count(const struct eloq_pool *pool);
size_t eloq_pool_in_use(const struct eloq_pool *pool);

#endif
