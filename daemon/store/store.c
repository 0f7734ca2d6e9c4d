/*
 * store.c - the engine of a shard seen from outside: tables, and the way to their partitions.
 * See store.h.
 *
 * Idea: partitions are found by (table number, partition id) in a hash table. What exists is known
 * from the directories found at open; they wait, by name, until their table gets its number.
 */
#include "daemon/store/store.h"

#include "daemon/format/file_name.h"
#include "daemon/store/commit.h"
#include "daemon/store/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	STORE_BUCKETS_MIN = 256,
	STORE_EXTENT_BYTES = 256 << 10,
	STORE_EXTENTS = 16,
	STORE_FILES_MIN = 4,
};

/* A directory that was found and belongs to this shard. */
struct store_found {
	struct eloq_list link;
	uint32_t partition;
	char table[ELOQ_TABLE_NAME_BYTES_MAX + 1];
};

struct store_table {
	struct eloq_list link;
	struct eloq_list partitions; /* eloq_partition.table_link */
	uint32_t partition_count;
	uint32_t table_id;
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 1];
};

struct eloq_store {
	struct eloq_engine engine;
	struct eloq_list tables;
	struct eloq_list found;		 /* store_found, of tables that were not added */
	struct eloq_list orphans;	 /* partitions of removed tables that wait to be closed */
	struct eloq_partition **buckets; /* chained by hash_next */
	size_t bucket_count;		 /* a power of two */
	size_t partition_count;
	bool is_stopping;
};

/* --- Opening ---------------------------------------------------------------------------------- */

static int store_check_opts(const struct eloq_store_opts *opts, struct eloq_errinfo *reterr)
{
	uint64_t page_bytes = opts->page_bytes;

	if (!eloq_page_bytes_ok(page_bytes))
		return eloq_fail(reterr, -EINVAL,
				 "page size %u: a multiple of 4096 from %d to %d is needed",
				 opts->page_bytes, ELOQ_PAGE_BYTES_MIN, ELOQ_PAGE_BYTES_MAX);
	if (opts->pages_per_file_shift > 32 ||
	    page_bytes << opts->pages_per_file_shift > UINT64_C(1) << 32)
		return eloq_fail(reterr, -EINVAL, "data files would be larger than 4 GiB");
	if (opts->overflow_pointers < 1 || opts->overflow_pointers > ELOQ_OVERFLOW_POINTERS_MAX ||
	    12 + 4 * opts->overflow_pointers >= page_bytes)
		return eloq_fail(reterr, -EINVAL, "overflow pointers %u: 1 to %d are possible",
				 opts->overflow_pointers, ELOQ_OVERFLOW_POINTERS_MAX);
	if (opts->data_restart_interval < 1 || opts->index_restart_interval < 1)
		return eloq_fail(reterr, -EINVAL, "restart intervals must be at least 1");
	if (opts->cache_bytes / page_bytes < ELOQ_CACHE_FRAMES_MIN)
		return eloq_fail(reterr, -EINVAL, "the cache holds less than %d pages",
				 ELOQ_CACHE_FRAMES_MIN);
	if (opts->files_max < STORE_FILES_MIN)
		return eloq_fail(reterr, -EINVAL, "at least %d open files are needed",
				 STORE_FILES_MIN);
	if (opts->shard_count == 0 || opts->shard_index >= opts->shard_count)
		return eloq_fail(reterr, -EINVAL, "shard %u of %u", opts->shard_index,
				 opts->shard_count);
	if (opts->root_count == 0 || !opts->clock)
		return eloq_fail(reterr, -EINVAL, "no store path or no clock");
	return 0;
}

/* Remembers where a listing is. */
struct store_listing {
	struct eloq_store *store;
	uint32_t root_index;
};

static int store_note_directory(void *arg, const char *name, bool is_directory)
{
	struct store_listing *listing = arg;
	const struct eloq_store_opts *opts = &listing->store->engine.opts;
	struct store_found *found;
	char table[ELOQ_TABLE_NAME_BYTES_MAX + 1];
	uint32_t partition;

	/* A partition on a disk that is not its own is not looked for there by anybody. */
	if (!is_directory || !eloq_partition_dir_parse(name, table, &partition) ||
	    partition % opts->shard_count != opts->shard_index ||
	    partition % opts->root_count != listing->root_index)
		return 0;
	found = malloc(sizeof(*found));
	if (!found)
		return -ENOMEM;
	found->partition = partition;
	memcpy(found->table, table, sizeof(table));
	eloq_list_push_back(&listing->store->found, &found->link);
	return 0;
}

static int store_list_roots(struct eloq_store *store, struct eloq_errinfo *reterr)
{
	const struct eloq_store_opts *opts = &store->engine.opts;
	int r;

	for (uint32_t i = 0; i < opts->root_count; i++) {
		struct store_listing listing = { store, i };

		r = eloq_io_list(store->engine.io, opts->roots[i], ".", store_note_directory,
				 &listing);
		if (r < 0)
			return eloq_fail_errno(reterr, r, "%s: listing it",
					       opts->root_names ? opts->root_names[i] : "root");
	}
	return 0;
}

static int store_open_parts(struct eloq_engine *engine, const char **ret_note)
{
	const struct eloq_store_opts *opts = &engine->opts;
	const struct eloq_files_opts files = {
		.files_max = opts->files_max,
		.page_bytes = opts->page_bytes,
		.pages_per_file_shift = opts->pages_per_file_shift,
		.append_mode = opts->append_mode,
	};
	const struct eloq_cache_opts cache = {
		.bytes = opts->cache_bytes,
		.page_bytes = opts->page_bytes,
		.pages_per_file_shift = opts->pages_per_file_shift,
		.verify_checksums = opts->verify_checksums,
	};
	uint32_t extent_pages = STORE_EXTENT_BYTES / opts->page_bytes;
	int r;

	r = eloq_files_open(&engine->files, &files, engine->io);
	if (r == 0)
		r = eloq_cache_open(&engine->cache, &cache, engine->io, engine->files, ret_note);
	if (r == 0)
		r = eloq_extents_open(&engine->extents, engine->io, opts->page_bytes, extent_pages,
				      STORE_EXTENTS);
	return r;
}

static int store_resize_buckets(struct eloq_store *store, size_t count);

int eloq_store_open(struct eloq_store **ret_store, const struct eloq_store_opts *opts,
		    struct eloq_io *io, struct eloq_sched *sched, const char **ret_note,
		    struct eloq_errinfo *reterr)
{
	struct eloq_store *store;
	int r;

	*ret_note = NULL;
	r = store_check_opts(opts, reterr);
	if (r < 0)
		return r;
	store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->engine.opts = *opts;
	store->engine.io = io;
	store->engine.sched = sched;
	eloq_waitq_init(&store->engine.committers_ended);
	eloq_value_places_init(&store->engine.places);
	eloq_list_init(&store->tables);
	eloq_list_init(&store->found);
	eloq_list_init(&store->orphans);
	r = store_resize_buckets(store, STORE_BUCKETS_MIN);
	if (r == 0)
		r = store_open_parts(&store->engine, ret_note);
	if (r < 0)
		r = eloq_fail_errno(reterr, r, "opening the store");
	else
		r = store_list_roots(store, reterr);
	if (r < 0)
		eloq_store_close(store);
	else
		*ret_store = store;
	return r;
}

bool eloq_store_is_poisoned(const struct eloq_store *store)
{
	return store->engine.poisoned;
}

uint32_t eloq_store_key_bytes_max(const struct eloq_store *store)
{
	return eloq_key_bytes_max(store->engine.opts.page_bytes);
}

/* --- Partitions ------------------------------------------------------------------------------- */

static struct eloq_partition **store_bucket(const struct eloq_store *store, uint32_t table_id,
					    uint32_t partition)
{
	uint64_t hash = ((uint64_t)table_id << 32 | partition) * UINT64_C(0x9E3779B97F4A7C15);

	return &store->buckets[(hash >> 32) & (store->bucket_count - 1)];
}

static void store_hash_add(struct eloq_store *store, struct eloq_partition *partition)
{
	struct eloq_partition **bucket =
		store_bucket(store, partition->table_id, partition->partition);

	partition->hash_next = *bucket;
	*bucket = partition;
}

static void store_hash_remove(struct eloq_store *store, struct eloq_partition *partition)
{
	struct eloq_partition **at = store_bucket(store, partition->table_id, partition->partition);

	while (*at != partition)
		at = &(*at)->hash_next;
	*at = partition->hash_next;
}

static int store_resize_buckets(struct eloq_store *store, size_t count)
{
	struct eloq_partition **old = store->buckets;
	size_t old_count = store->bucket_count;
	struct eloq_partition *partition, *next;

	store->buckets = calloc(count, sizeof(struct eloq_partition *));
	if (!store->buckets) {
		store->buckets = old;
		return -ENOMEM;
	}
	store->bucket_count = count;
	for (size_t i = 0; i < old_count; i++)
		for (partition = old[i]; partition; partition = next) {
			next = partition->hash_next;
			store_hash_add(store, partition);
		}
	free(old);
	return 0;
}

/* NULL: nothing is known of it, so it does not exist. */
static struct eloq_partition *store_find(const struct eloq_store *store, uint32_t table_id,
					 uint32_t partition)
{
	struct eloq_partition *p = *store_bucket(store, table_id, partition);

	while (p && (p->table_id != table_id || p->partition != partition))
		p = p->hash_next;
	return p;
}

static int store_add_partition(struct eloq_store *store, struct store_table *table,
			       uint32_t partition, bool exists,
			       struct eloq_partition **ret_partition)
{
	struct eloq_partition *p;
	int r;

	r = eloq_partition_open(&p, &store->engine, table->table_id, partition, table->name,
				exists);
	if (r < 0)
		return r;
	/* Longer chains are slower, not wrong: so a failure to grow does no harm. */
	if (store->partition_count >= store->bucket_count)
		(void)store_resize_buckets(store, store->bucket_count * 2);
	store_hash_add(store, p);
	eloq_list_push_back(&table->partitions, &p->table_link);
	table->partition_count++;
	store->partition_count++;
	*ret_partition = p;
	return 0;
}

/* --- Tables ----------------------------------------------------------------------------------- */

static struct store_table *store_table(const struct eloq_store *store, uint32_t table_id)
{
	eloq_list_for_each (node, &store->tables) {
		struct store_table *table = eloq_list_entry(node, struct store_table, link);

		if (table->table_id == table_id)
			return table;
	}
	return NULL;
}

int eloq_store_table_add(struct eloq_store *store, uint32_t table_id, const char *name)
{
	struct eloq_partition *partition;
	struct store_table *table;
	int r = 0;

	if (!eloq_table_name_ok(name, strlen(name)))
		return -EINVAL;
	eloq_list_for_each (node, &store->tables) {
		table = eloq_list_entry(node, struct store_table, link);
		if (table->table_id == table_id || strcmp(table->name, name) == 0)
			return -ELOQ_EEXISTS;
	}
	table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	table->table_id = table_id;
	memcpy(table->name, name, strlen(name));
	eloq_list_init(&table->partitions);
	eloq_list_push_back(&store->tables, &table->link);
	eloq_list_for_each_safe (node, &store->found) {
		struct store_found *found = eloq_list_entry(node, struct store_found, link);

		if (strcmp(found->table, name) != 0)
			continue;
		r = store_add_partition(store, table, found->partition, true, &partition);
		if (r < 0)
			break;
		eloq_list_remove(&found->link);
		free(found);
	}
	if (r < 0)
		eloq_store_table_remove(store, table_id);
	return r;
}

/* Out of sight; its memory goes when nobody can be in it any more. */
static void store_detach_partition(struct eloq_store *store, struct eloq_partition *partition)
{
	store_hash_remove(store, partition);
	eloq_list_remove(&partition->table_link);
	store->partition_count--;
	eloq_list_push_back(&store->orphans, &partition->table_link);
}

void eloq_store_table_remove(struct eloq_store *store, uint32_t table_id)
{
	struct store_table *table = store_table(store, table_id);

	if (!table)
		return;
	eloq_list_for_each_safe (node, &table->partitions)
		store_detach_partition(store,
				       eloq_list_entry(node, struct eloq_partition, table_link));
	eloq_list_remove(&table->link);
	free(table);
}

static int partition_compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

int eloq_store_table_partitions(struct eloq_store *store, uint32_t table_id,
				int (*each)(void *arg, uint32_t partition), void *arg)
{
	struct store_table *table = store_table(store, table_id);
	size_t count = 0;
	uint32_t *ids;
	int r = 0;

	if (!table)
		return -ELOQ_ENOTFOUND;
	ids = malloc((store->partition_count + 1) * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	eloq_list_for_each (node, &table->partitions) {
		struct eloq_partition *p = eloq_list_entry(node, struct eloq_partition, table_link);

		if (eloq_partition_may_exist(p))
			ids[count++] = p->partition;
	}
	qsort(ids, count, sizeof(*ids), partition_compare);
	for (size_t i = 0; i < count && r == 0; i++)
		r = each(arg, ids[i]);
	free(ids);
	return r;
}

/* --- Stopping --------------------------------------------------------------------------------- */

static void store_unload_await(struct eloq_list *partitions)
{
	eloq_list_for_each (node, partitions) {
		struct eloq_partition *p = eloq_list_entry(node, struct eloq_partition, table_link);

		/* Pages that scans had asked for ahead may still be on their way. */
		while (p->users > 0)
			eloq_waitq_await(&p->users_left);
		eloq_partition_unload_await(p);
	}
}

void eloq_store_stop_await(struct eloq_store *store)
{
	store->is_stopping = true;
	while (store->engine.committers > 0)
		eloq_waitq_await(&store->engine.committers_ended);
	eloq_list_for_each (node, &store->tables)
		store_unload_await(&eloq_list_entry(node, struct store_table, link)->partitions);
	store_unload_await(&store->orphans);
}

void eloq_store_close(struct eloq_store *store)
{
	struct eloq_list *node;

	if (!store)
		return;
	while (!eloq_list_empty(&store->tables))
		eloq_store_table_remove(
			store,
			eloq_list_entry(store->tables.next, struct store_table, link)->table_id);
	while ((node = eloq_list_pop_front(&store->orphans)))
		eloq_partition_close(eloq_list_entry(node, struct eloq_partition, table_link));
	while ((node = eloq_list_pop_front(&store->found)))
		free(eloq_list_entry(node, struct store_found, link));
	if (store->engine.extents)
		eloq_extents_close(store->engine.extents);
	if (store->engine.cache)
		eloq_cache_close(store->engine.cache);
	if (store->engine.files)
		eloq_files_close(store->engine.files);
	free(store->buckets);
	free(store);
}

/* --- Reads ------------------------------------------------------------------------------------ */

void eloq_store_value_release(struct eloq_store *store, struct eloq_store_value *value)
{
	struct eloq_value_copy copy = { .data = value->owned, .has_place = value->has_place };

	if (value->page)
		eloq_cache_unpin(store->engine.cache, value->page);
	eloq_value_copy_free(&store->engine.places, &copy);
	memset(value, 0, sizeof(*value));
}

int eloq_store_get(struct eloq_store *store, uint32_t table_id, uint32_t partition,
		   const uint8_t *key, uint32_t key_bytes, uint64_t now_ms,
		   struct eloq_store_value *ret_value)
{
	struct eloq_partition *p = store_find(store, table_id, partition);

	if (!p)
		return -ELOQ_ENOTFOUND;
	return eloq_partition_get(p, key, key_bytes, now_ms, ret_value);
}

int eloq_store_get_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
			 const uint8_t *key, uint32_t key_bytes, uint64_t now_ms,
			 struct eloq_store_value *ret_value, struct eloq_errinfo *reterr)
{
	struct eloq_partition *p = store_find(store, table_id, partition);

	if (!p)
		return -ELOQ_ENOTFOUND;
	return eloq_partition_get_await(p, key, key_bytes, now_ms, ret_value, reterr);
}

int eloq_store_scan_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
			  const struct eloq_scan *scan, bool *ret_more, struct eloq_errinfo *reterr)
{
	struct eloq_partition *p = store_find(store, table_id, partition);
	bool exists = false;
	int r;

	*ret_more = false;
	if (!p)
		return 0;
	r = eloq_partition_enter_await(p, &exists, reterr);
	if (r < 0 || !exists)
		return r;
	r = eloq_cursor_scan_await(p, scan, ret_more, reterr);
	eloq_partition_leave(p);
	return r;
}

/* --- Writes ----------------------------------------------------------------------------------- */

static int store_check_write(const struct eloq_store *store, const struct eloq_write *write)
{
	uint32_t key_bytes_max = eloq_store_key_bytes_max(store);

	for (uint32_t i = 0; i < write->entry_count; i++) {
		const struct eloq_write_entry *entry = &write->entries[i];

		if (entry->key_bytes == 0)
			return -EINVAL;
		if (entry->key_bytes > key_bytes_max || entry->value_bytes > ELOQ_VALUE_BYTES_MAX)
			return -ELOQ_ETOOLONG;
		if (i > 0 && eloq_key_compare(entry[-1].key, entry[-1].key_bytes, entry->key,
					      entry->key_bytes) >= 0)
			return -ELOQ_EORDER;
	}
	return 0;
}

/* There is nothing to remove where nothing is: such a write has ended, and leaves no trace. */
static bool store_write_only_removes(struct eloq_write *write)
{
	if (write->kind != ELOQ_WRITE_BATCH)
		return true;
	for (uint32_t i = 0; i < write->entry_count; i++) {
		if (write->entries[i].op != ELOQ_WRITE_DELETE)
			return false;
		write->entries[i].outcome = ELOQ_WRITE_ABSENT;
	}
	return true;
}

int eloq_store_write_submit(struct eloq_store *store, struct eloq_write *write)
{
	struct eloq_partition *p = store_find(store, write->table_id, write->partition);
	struct store_table *table;
	int r;

	if (store->engine.poisoned)
		return -ELOQ_EFAILED_SYNC;
	if (store->is_stopping)
		return -ELOQ_ESTOPPED;
	table = p ? NULL : store_table(store, write->table_id);
	if (!p && !table)
		return -ELOQ_ENOTFOUND;
	if (write->partition % store->engine.opts.shard_count != store->engine.opts.shard_index)
		return -EINVAL;
	if (write->kind == ELOQ_WRITE_BATCH) {
		r = store_check_write(store, write);
		if (r < 0)
			return r;
	}
	if (!p && store_write_only_removes(write)) {
		write->result = 0;
		write->error = NULL;
		write->done(write);
		return 0;
	}
	if (!p) {
		if (table->partition_count >= ELOQ_PARTITIONS_PER_TABLE_MAX)
			return -ELOQ_ETOOMANY;
		r = store_add_partition(store, table, write->partition, false, &p);
		if (r < 0)
			return r;
	}
	return eloq_commit_submit(p, write);
}

struct store_wait {
	struct eloq_task *task; /* NULL until it is suspended */
	bool is_done;
	struct eloq_errinfo *reterr;
};

static void store_write_done(struct eloq_write *write)
{
	struct store_wait *wait = write->arg;

	if (write->error && wait->reterr)
		*wait->reterr = *write->error;
	write->error = NULL;
	wait->is_done = true;
	if (wait->task)
		eloq_task_wake(wait->task);
}

int eloq_store_write_await(struct eloq_store *store, struct eloq_write *write,
			   struct eloq_errinfo *reterr)
{
	struct store_wait wait = { .reterr = reterr };
	int r;

	write->done = store_write_done;
	write->arg = &wait;
	r = eloq_store_write_submit(store, write);
	if (r < 0)
		return r;
	if (!wait.is_done) {
		wait.task = eloq_task_self();
		eloq_task_suspend_await();
	}
	return write->result;
}

/* --- Looking ---------------------------------------------------------------------------------- */

int eloq_store_partition_stat_await(struct eloq_store *store, uint32_t table_id, uint32_t partition,
				    struct eloq_partition_stat *ret_stat,
				    struct eloq_errinfo *reterr)
{
	struct eloq_partition *p = store_find(store, table_id, partition);
	bool exists = false;
	int r;

	if (!p)
		return -ELOQ_ENOTFOUND;
	r = eloq_partition_enter_await(p, &exists, reterr);
	if (r < 0)
		return r;
	if (!exists)
		return -ELOQ_ENOTFOUND;
	eloq_partition_get_stat(p, ret_stat);
	eloq_partition_leave(p);
	return 0;
}

void eloq_store_get_stats(const struct eloq_store *store, struct eloq_store_stats *ret_stats)
{
	struct eloq_cache_stats cache;

	eloq_cache_get_stats(store->engine.cache, &cache);
	*ret_stats = store->engine.counts;
	ret_stats->cache_hits = cache.hits;
	ret_stats->cache_misses = cache.misses;
	ret_stats->cache_evictions = cache.evictions;
	ret_stats->cache_pages = cache.pages;
	ret_stats->cache_pages_max = cache.pages_max;
	ret_stats->files_open = eloq_files_open_count(store->engine.files);
}
