/*
 * partition.c - loading, dropping and point reads of one partition. See partition.h.
 */
#include "daemon/store/partition.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t partition_may_go_to[] = {
	[ELOQ_PARTITION_UNKNOWN] = 1u << ELOQ_PARTITION_BUSY,
	[ELOQ_PARTITION_BUSY] = 1u << ELOQ_PARTITION_UNKNOWN | 1u << ELOQ_PARTITION_ABSENT |
				1u << ELOQ_PARTITION_OPEN,
	[ELOQ_PARTITION_ABSENT] = 1u << ELOQ_PARTITION_OPEN | 1u << ELOQ_PARTITION_BUSY,
	[ELOQ_PARTITION_OPEN] = 1u << ELOQ_PARTITION_BUSY,
};

static void partition_go_to(struct eloq_partition *partition, enum eloq_partition_state next)
{
	bool settles = partition->state == ELOQ_PARTITION_BUSY;

	eloq_assert(partition_may_go_to[partition->state] & 1u << next);
	partition->state = next;
	if (settles)
		eloq_waitq_wake_all(&partition->settled);
}

int eloq_partition_open(struct eloq_partition **ret_partition, struct eloq_engine *engine,
			uint32_t table_id, uint32_t partition, const char *table, bool exists)
{
	struct eloq_partition *p = calloc(1, sizeof(*p));

	static_assert(sizeof(p->dir.name) >= ELOQ_PARTITION_DIR_BYTES, "any directory fits");
	if (!p)
		return -ENOMEM;
	p->engine = engine;
	p->table_id = table_id;
	p->partition = partition;
	p->dir.root = engine->opts.roots[partition % engine->opts.root_count];
	eloq_partition_dir_format(p->dir.name, table, partition);
	p->dir.no = ++engine->last_no;
	p->dir.exists = exists;
	eloq_list_init(&p->dir.files);
	eloq_waitq_init(&p->settled);
	eloq_waitq_init(&p->users_left);
	eloq_list_init(&p->writes);
	eloq_list_init(&p->table_link);
	*ret_partition = p;
	return 0;
}

void eloq_partition_close(struct eloq_partition *partition)
{
	if (!partition)
		return;
	eloq_assert(!partition->mapper && !partition->manifest && !partition->has_committer);
	eloq_assert(partition->users == 0 && eloq_waitq_empty(&partition->settled));
	free(partition);
}

bool eloq_partition_may_exist(const struct eloq_partition *partition)
{
	switch (partition->state) {
	case ELOQ_PARTITION_ABSENT:
		return false;
	case ELOQ_PARTITION_OPEN:
		return true;
	case ELOQ_PARTITION_UNKNOWN:
	case ELOQ_PARTITION_BUSY:
		break;
	}
	return partition->dir.exists;
}

/* --- Loading and unloading -------------------------------------------------------------------- */

static void partition_free_memory_await(struct eloq_partition *partition)
{
	eloq_manifest_close_await(partition->manifest);
	partition->manifest = NULL;
	eloq_mapper_close(partition->mapper);
	partition->mapper = NULL;
}

/* Read the manifest. On failure nothing is left in memory. */
static int partition_read_await(struct eloq_partition *partition, bool *ret_found,
				struct eloq_errinfo *reterr)
{
	struct eloq_engine *engine = partition->engine;
	const struct eloq_manifest_opts opts = {
		.bytes_max = engine->opts.manifest_bytes_max,
		.pages_per_file_shift = engine->opts.pages_per_file_shift,
	};
	int r;

	r = eloq_mapper_open(&partition->mapper, engine->opts.append_mode);
	if (r == 0)
		r = eloq_manifest_load_await(&partition->manifest, engine->files, engine->io,
					     &partition->dir, &opts, partition->mapper, ret_found,
					     reterr);
	if (r == -ELOQ_EFAILED_SYNC)
		engine->poisoned = true;
	if (r < 0)
		partition_free_memory_await(partition);
	return r;
}

/* From UNKNOWN to OPEN or ABSENT, or back. */
static int partition_load_await(struct eloq_partition *partition, struct eloq_errinfo *reterr)
{
	bool found = false;
	int r;

	partition_go_to(partition, ELOQ_PARTITION_BUSY);
	r = partition_read_await(partition, &found, reterr);
	if (r < 0) {
		partition_go_to(partition, ELOQ_PARTITION_UNKNOWN);
		return r;
	}
	if (!found)
		partition_free_memory_await(partition);
	else
		partition->engine->counts.partitions_loaded++;
	partition_go_to(partition, found ? ELOQ_PARTITION_OPEN : ELOQ_PARTITION_ABSENT);
	return 0;
}

/* Until the state is OPEN or ABSENT. */
static int partition_settled_await(struct eloq_partition *partition, struct eloq_errinfo *reterr)
{
	int r = 0;

	while (r == 0) {
		switch (partition->state) {
		case ELOQ_PARTITION_OPEN:
		case ELOQ_PARTITION_ABSENT:
			return 0;
		case ELOQ_PARTITION_BUSY:
			eloq_waitq_await(&partition->settled);
			break;
		case ELOQ_PARTITION_UNKNOWN:
			r = partition_load_await(partition, reterr);
			break;
		}
	}
	return r;
}

void eloq_partition_unload_await(struct eloq_partition *partition)
{
	eloq_assert(partition->users == 0 && !partition->has_committer);
	if (partition->state == ELOQ_PARTITION_UNKNOWN)
		return;
	partition_go_to(partition, ELOQ_PARTITION_BUSY);
	partition_free_memory_await(partition);
	(void)eloq_files_close_dir_await(partition->engine->files, &partition->dir);
	eloq_cache_forget_partition(partition->engine->cache, partition->dir.no);
	partition_go_to(partition, ELOQ_PARTITION_UNKNOWN);
}

int eloq_partition_enter_await(struct eloq_partition *partition, bool *ret_exists,
			       struct eloq_errinfo *reterr)
{
	int r = partition_settled_await(partition, reterr);

	if (r < 0)
		return r;
	*ret_exists = partition->state == ELOQ_PARTITION_OPEN;
	if (*ret_exists)
		partition->users++;
	return 0;
}

void eloq_partition_leave(struct eloq_partition *partition)
{
	eloq_assert(partition->users > 0);
	if (--partition->users == 0)
		eloq_waitq_wake_all(&partition->users_left);
}

void eloq_partition_view(struct eloq_partition *partition, struct eloq_tree_view *ret_view)
{
	struct eloq_engine *engine = partition->engine;

	*ret_view = (struct eloq_tree_view){
		.io = engine->io,
		.files = engine->files,
		.cache = engine->cache,
		.dir = &partition->dir,
		.manifest = partition->manifest,
		.mapping = eloq_mapper_acquire(partition->mapper),
		.places = &engine->places,
		.page_bytes = engine->opts.page_bytes,
		.pages_per_file_shift = engine->opts.pages_per_file_shift,
		.verify_checksums = engine->opts.verify_checksums,
	};
}

void eloq_partition_view_release(struct eloq_tree_view *view)
{
	eloq_mapping_release(view->mapping);
	view->mapping = NULL;
}

/* --- For the committer ------------------------------------------------------------------------ */

int eloq_partition_prepare_await(struct eloq_partition *partition, struct eloq_errinfo *reterr)
{
	bool found = false;
	int r;

	r = partition_settled_await(partition, reterr);
	if (r < 0 || partition->state == ELOQ_PARTITION_OPEN)
		return r;
	/* Readers go on seeing ABSENT until the first commit is durable. */
	r = partition_read_await(partition, &found, reterr);
	if (r < 0 || !found)
		return r;
	partition_free_memory_await(partition);
	return eloq_fail(reterr, -ELOQ_EBUSYOWNER,
			 "%s: a manifest appeared that this store did not write",
			 partition->dir.name);
}

void eloq_partition_settle_await(struct eloq_partition *partition, bool written)
{
	if (partition->state != ELOQ_PARTITION_ABSENT)
		return;
	if (written)
		partition_go_to(partition, ELOQ_PARTITION_OPEN);
	else
		partition_free_memory_await(partition);
}

int eloq_partition_drop_await(struct eloq_partition *partition, struct eloq_errinfo *reterr)
{
	struct eloq_engine *engine = partition->engine;
	int r;

	while (partition->state == ELOQ_PARTITION_BUSY)
		eloq_waitq_await(&partition->settled);
	partition_go_to(partition, ELOQ_PARTITION_BUSY);
	while (partition->users > 0)
		eloq_waitq_await(&partition->users_left);
	partition_free_memory_await(partition);
	r = eloq_files_close_dir_await(engine->files, &partition->dir);
	if (r == 0 && partition->dir.exists)
		r = eloq_files_remove_dir_await(engine->files, &partition->dir);
	eloq_cache_forget_partition(engine->cache, partition->dir.no);
	if (r < 0) {
		/* How much is left the next use will see. */
		partition_go_to(partition, ELOQ_PARTITION_UNKNOWN);
		return eloq_fail_errno(reterr, r, "%s: removing it", partition->dir.name);
	}
	partition->dir.exists = false;
	partition_go_to(partition, ELOQ_PARTITION_ABSENT);
	return 0;
}

/* --- Point reads ------------------------------------------------------------------------------ */

static bool entry_is_expired(const struct eloq_entry *entry, uint64_t now_ms)
{
	return entry->expire_ms != 0 && entry->expire_ms <= now_ms;
}

static int partition_refuse_compressed(const struct eloq_partition *partition,
				       struct eloq_errinfo *reterr)
{
	return eloq_fail(reterr, -ELOQ_EUNSUPPORTED,
			 "%s: the value is compressed, which this version does not read",
			 partition->dir.name);
}

/* What a found entry says about its value; the value itself if it lies in @leaf. */
static void partition_take_value(struct eloq_page *leaf, const struct eloq_entry *entry,
				 struct eloq_store_value *ret_value)
{
	*ret_value = (struct eloq_store_value){
		.data = entry->value,
		.bytes = entry->value_bytes,
		.timestamp = entry->timestamp,
		.expire_ms = entry->expire_ms,
		.page = leaf,
	};
}

int eloq_partition_get(struct eloq_partition *partition, const uint8_t *key, uint32_t key_bytes,
		       uint64_t now_ms, struct eloq_store_value *ret_value)
{
	struct eloq_tree_view view;
	struct eloq_page *leaf;
	struct eloq_entry entry;
	int r;

	if (partition->state == ELOQ_PARTITION_ABSENT)
		return -ELOQ_ENOTFOUND;
	if (partition->state != ELOQ_PARTITION_OPEN)
		return -EAGAIN;
	eloq_partition_view(partition, &view);
	r = eloq_tree_find(&view, eloq_mapping_roots(view.mapping).main, key, key_bytes, &leaf,
			   &entry);
	eloq_partition_view_release(&view);
	if (r < 0)
		return r;
	if (entry_is_expired(&entry, now_ms))
		r = -ELOQ_ENOTFOUND;
	else if (entry.flags & (ELOQ_ENTRY_OVERFLOW | ELOQ_ENTRY_COMPRESSION))
		r = -EAGAIN;
	if (r < 0)
		eloq_cache_unpin(partition->engine->cache, leaf);
	else
		partition_take_value(leaf, &entry, ret_value);
	return r;
}

static int partition_find_await(struct eloq_partition *partition, const struct eloq_tree_view *view,
				const uint8_t *key, uint32_t key_bytes, uint64_t now_ms,
				struct eloq_store_value *ret_value, struct eloq_errinfo *reterr)
{
	struct eloq_store_value found;
	struct eloq_value_copy copy;
	struct eloq_value_ref ref;
	struct eloq_page *leaf;
	struct eloq_entry entry;
	int r;

	r = eloq_tree_find_await(view, eloq_mapping_roots(view->mapping).main, key, key_bytes,
				 &leaf, &entry, reterr);
	if (r < 0)
		return r;
	if (entry_is_expired(&entry, now_ms))
		r = -ELOQ_ENOTFOUND;
	else if (entry.flags & ELOQ_ENTRY_COMPRESSION)
		r = partition_refuse_compressed(partition, reterr);
	if (r < 0) {
		eloq_cache_unpin(view->cache, leaf);
		return r;
	}
	partition_take_value(leaf, &entry, &found);
	if (entry.flags & ELOQ_ENTRY_OVERFLOW) {
		eloq_value_ref_set(&ref, &entry);
		eloq_cache_unpin(view->cache, leaf);
		found.page = NULL;
		r = eloq_value_read_await(view, &ref, &copy, reterr);
		if (r < 0)
			return r;
		found.data = found.owned = copy.data;
		found.bytes = copy.bytes;
		found.has_place = copy.has_place;
	}
	*ret_value = found;
	return 0;
}

int eloq_partition_get_await(struct eloq_partition *partition, const uint8_t *key,
			     uint32_t key_bytes, uint64_t now_ms,
			     struct eloq_store_value *ret_value, struct eloq_errinfo *reterr)
{
	struct eloq_tree_view view;
	bool exists;
	int r;

	r = eloq_partition_enter_await(partition, &exists, reterr);
	if (r < 0)
		return r;
	if (!exists)
		return -ELOQ_ENOTFOUND;
	eloq_partition_view(partition, &view);
	r = partition_find_await(partition, &view, key, key_bytes, now_ms, ret_value, reterr);
	eloq_partition_view_release(&view);
	eloq_partition_leave(partition);
	return r;
}

void eloq_partition_get_stat(struct eloq_partition *partition, struct eloq_partition_stat *ret_stat)
{
	struct eloq_mapping *mapping = eloq_mapper_acquire(partition->mapper);

	*ret_stat = (struct eloq_partition_stat){
		.pages = eloq_mapper_live_pages(partition->mapper),
		.file_pages_end = eloq_mapper_file_pages_end(partition->mapper),
		.manifest_bytes = eloq_manifest_bytes(partition->manifest),
		.page_bytes = partition->engine->opts.page_bytes,
		.has_ttl_tree = eloq_mapping_roots(mapping).ttl != ELOQ_PAGE_NONE,
	};
	eloq_mapping_release(mapping);
}
