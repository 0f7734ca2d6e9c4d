/*
 * commit.c - the committing task of a partition. See commit.h.
 */
#include "daemon/store/commit.h"

#include "daemon/store/merge.h"
#include "daemon/store/tree_write.h"

#include <errno.h>
#include <stdlib.h>

/* What one commit may gather; a larger write goes alone. */
enum { COMMIT_ENTRIES_MAX = 4096, COMMIT_BYTES_MAX = 8 << 20 };

/* --- One commit ------------------------------------------------------------------------------- */

static bool write_has_expiry(const struct eloq_write *write)
{
	for (uint32_t i = 0; i < write->entry_count; i++)
		if (write->entries[i].expire_ms != 0)
			return true;
	return false;
}

static uint64_t write_bytes(const struct eloq_write *write)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < write->entry_count; i++)
		bytes += (uint64_t)write->entries[i].key_bytes + write->entries[i].value_bytes;
	return bytes;
}

/* Make @change durable and current, or give it up. */
static int commit_change_await(struct eloq_partition *partition, struct eloq_change *change,
			       struct eloq_errinfo *reterr)
{
	struct eloq_manifest_stats before = eloq_manifest_get_stats(partition->manifest);
	struct eloq_store_stats *counts = &partition->engine->counts;
	struct eloq_manifest_stats after;
	int r;

	r = eloq_manifest_commit_await(partition->manifest, change, reterr);
	after = eloq_manifest_get_stats(partition->manifest);
	counts->manifest_records += after.records - before.records;
	counts->manifest_snapshots += after.snapshots - before.snapshots;
	if (r < 0) {
		eloq_change_abort(change);
		return r;
	}
	counts->commits++;
	eloq_change_commit(change);
	return 0;
}

/* Write the pages that @merge changes and sync them. *ret_changed: there were any. */
static int commit_pages_await(struct eloq_partition *partition, const struct eloq_tree_view *view,
			      struct eloq_change *change, struct eloq_merge *merge,
			      bool *ret_changed, struct eloq_errinfo *reterr)
{
	struct eloq_engine *engine = partition->engine;
	struct eloq_roots roots = eloq_mapping_roots(view->mapping);
	struct eloq_tree_write write = {
		.view = view,
		.change = change,
		.merge = merge,
		.data_restart_interval = engine->opts.data_restart_interval,
		.index_restart_interval = engine->opts.index_restart_interval,
		.overflow_pointers = engine->opts.overflow_pointers,
		.reterr = reterr,
	};
	int r;

	r = eloq_page_writer_open(&write.writer, engine->extents, engine->files, engine->cache,
				  engine->io, &partition->dir, partition->manifest, change);
	if (r < 0)
		return r;
	r = eloq_tree_write_await(&write, roots.main, &roots.main, ret_changed);
	if (r == 0 && *ret_changed) {
		eloq_change_set_roots(change, roots);
		r = eloq_page_writer_finish_await(write.writer);
	}
	engine->counts.pages_written += eloq_page_writer_pages(write.writer);
	eloq_page_writer_close_await(write.writer);
	return r;
}

static int commit_merge_await(struct eloq_partition *partition, struct eloq_merge *merge,
			      bool *ret_written, struct eloq_errinfo *reterr)
{
	struct eloq_change *change = NULL;
	struct eloq_tree_view view;
	bool changed = false;
	int r;

	eloq_partition_view(partition, &view);
	if (eloq_mapping_roots(view.mapping).ttl == ELOQ_PAGE_NONE)
		r = eloq_change_begin(&change, partition->mapper);
	else
		r = eloq_fail(reterr, -ELOQ_EUNSUPPORTED,
			      "%s holds entries that expire; this version only reads, truncates "
			      "and drops such partitions",
			      partition->dir.name);
	if (r == 0)
		r = commit_pages_await(partition, &view, change, merge, &changed, reterr);
	/* From here on what the view refers to may become free. */
	eloq_partition_view_release(&view);
	if (r == 0 && changed) {
		r = commit_change_await(partition, change, reterr);
		*ret_written = r == 0;
		return r;
	}
	eloq_change_abort(change);
	if (r < 0)
		eloq_files_forget_dirty(partition->engine->files, &partition->dir);
	return r;
}

static int commit_truncate_await(struct eloq_partition *partition, struct eloq_errinfo *reterr)
{
	const struct eloq_roots none = { ELOQ_PAGE_NONE, ELOQ_PAGE_NONE };
	struct eloq_mapping *mapping = eloq_mapper_acquire(partition->mapper);
	struct eloq_roots roots = eloq_mapping_roots(mapping);
	struct eloq_change *change;
	int r;

	eloq_mapping_release(mapping);
	if (roots.main == ELOQ_PAGE_NONE && roots.ttl == ELOQ_PAGE_NONE)
		return 0;
	r = eloq_change_begin(&change, partition->mapper);
	if (r < 0)
		return r;
	r = eloq_change_free_all(change);
	if (r < 0) {
		eloq_change_abort(change);
		return r;
	}
	eloq_change_set_roots(change, none);
	return commit_change_await(partition, change, reterr);
}

/* --- The task --------------------------------------------------------------------------------- */

/* Move the writes of the next commit to @group: batches up to a bound, or one of another kind. */
static uint32_t commit_take(struct eloq_partition *partition, struct eloq_list *group)
{
	uint64_t entries = 0, bytes = 0;
	uint32_t count = 0;

	while (!eloq_list_empty(&partition->writes)) {
		struct eloq_write *write =
			eloq_list_entry(partition->writes.next, struct eloq_write, link);

		if (write->kind != ELOQ_WRITE_BATCH && count > 0)
			break;
		entries += write->entry_count;
		bytes += write_bytes(write);
		if (count > 0 && (entries > COMMIT_ENTRIES_MAX || bytes > COMMIT_BYTES_MAX))
			break;
		eloq_list_remove(&write->link);
		eloq_list_push_back(group, &write->link);
		count++;
		if (write->kind != ELOQ_WRITE_BATCH)
			break;
	}
	return count;
}

/* One sorted set of what all batches of @group change, but for those that were refused. */
static int commit_gather(struct eloq_merge *merge, struct eloq_list *group, uint64_t now_ms)
{
	uint64_t entries = 0;
	int r;

	eloq_list_for_each (node, group)
		entries += eloq_list_entry(node, struct eloq_write, link)->entry_count;
	/* Several writes are bounded by COMMIT_ENTRIES_MAX, a single one counts in 32 bits. */
	r = eloq_merge_open(merge, (uint32_t)entries, now_ms);
	if (r < 0)
		return r;
	eloq_list_for_each (node, group) {
		struct eloq_write *write = eloq_list_entry(node, struct eloq_write, link);

		if (write->result == 0)
			eloq_merge_add(merge, write);
	}
	eloq_merge_sort(merge);
	return 0;
}

static int commit_batches_await(struct eloq_partition *partition, struct eloq_list *group,
				struct eloq_errinfo *reterr)
{
	const struct eloq_clock *clock = partition->engine->opts.clock;
	struct eloq_merge merge;
	bool written = false;
	int r;

	r = commit_gather(&merge, group, eloq_clock_realtime_us(clock) / 1000);
	if (r < 0)
		return r;
	if (merge.count > 0) {
		r = eloq_partition_prepare_await(partition, reterr);
		if (r == 0) {
			r = commit_merge_await(partition, &merge, &written, reterr);
			eloq_partition_settle_await(partition, written);
		}
	}
	eloq_merge_close(&merge);
	return r;
}

static int commit_group_await(struct eloq_partition *partition, struct eloq_list *group,
			      struct eloq_errinfo *reterr)
{
	enum eloq_write_kind kind = eloq_list_entry(group->next, struct eloq_write, link)->kind;
	bool exists;
	int r;

	if (partition->engine->poisoned)
		return -ELOQ_EFAILED_SYNC;
	switch (kind) {
	case ELOQ_WRITE_BATCH:
		return commit_batches_await(partition, group, reterr);
	case ELOQ_WRITE_TRUNCATE:
		r = eloq_partition_enter_await(partition, &exists, reterr);
		if (r < 0 || !exists)
			return r;
		r = commit_truncate_await(partition, reterr);
		eloq_partition_leave(partition);
		return r;
	case ELOQ_WRITE_DROP:
		return eloq_partition_drop_await(partition, reterr);
	}
	return -EINVAL;
}

/* Entries that expire need the TTL tree: their writes are refused, the others go on. */
static void commit_refuse_expiry(struct eloq_list *group)
{
	eloq_list_for_each (node, group) {
		struct eloq_write *write = eloq_list_entry(node, struct eloq_write, link);

		write->result = 0;
		if (write->kind == ELOQ_WRITE_BATCH && write_has_expiry(write))
			write->result = -ELOQ_EUNSUPPORTED;
	}
}

/* Tell the writes of a commit how it ended, those that were refused why. */
static void commit_end(struct eloq_partition *partition, struct eloq_list *group, int result,
		       const struct eloq_errinfo *error)
{
	struct eloq_errinfo refusal = { 0 };
	struct eloq_list *node;

	(void)eloq_fail(&refusal, -ELOQ_EUNSUPPORTED,
			"%s: entries that expire cannot be written by this version",
			partition->dir.name);
	while ((node = eloq_list_pop_front(group))) {
		struct eloq_write *write = eloq_list_entry(node, struct eloq_write, link);
		bool refused = write->result < 0;

		if (!refused)
			write->result = result;
		write->error = refused ? &refusal : result < 0 ? error : NULL;
		write->done(write);
	}
}

static void commit_next_await(struct eloq_partition *partition)
{
	struct eloq_engine *engine = partition->engine;
	struct eloq_errinfo error = { 0 };
	struct eloq_list group;
	uint32_t count;
	int r;

	eloq_list_init(&group);
	count = commit_take(partition, &group);
	eloq_assert(!eloq_list_empty(&group));
	commit_refuse_expiry(&group);
	r = commit_group_await(partition, &group, &error);
	if (r == -ELOQ_EFAILED_SYNC)
		engine->poisoned = true;
	if (r == 0 && count > 1)
		engine->counts.merged_writes += count;
	if (r < 0 && error.text[0] == '\0')
		(void)eloq_fail_errno(&error, r, "%s: commit", partition->dir.name);
	commit_end(partition, &group, r, &error);
}

static void commit_task(void *arg)
{
	struct eloq_partition *partition = arg;
	struct eloq_engine *engine = partition->engine;

	while (!eloq_list_empty(&partition->writes))
		commit_next_await(partition);
	partition->has_committer = false;
	if (--engine->committers == 0)
		eloq_waitq_wake_all(&engine->committers_ended);
}

int eloq_commit_submit(struct eloq_partition *partition, struct eloq_write *write)
{
	struct eloq_engine *engine = partition->engine;
	int r;

	if (!partition->has_committer) {
		r = eloq_task_start(engine->sched, commit_task, partition);
		if (r < 0)
			return r;
		partition->has_committer = true;
		engine->committers++;
	}
	eloq_list_push_back(&partition->writes, &write->link);
	return 0;
}
