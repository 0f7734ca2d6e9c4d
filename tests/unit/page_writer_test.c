/*
 * page_writer_test.c - pages of a commit: how they are gathered, that they are on disk, and what
 * an error leaves.
 */
#include "daemon/store/page_writer.h"

#include "daemon/format/overflow_page.h"
#include "tests/unit/task_world.h"

#include <errno.h>

enum { SHIFT = 4, FILE_PAGES = 1 << SHIFT, EXTENT_PAGES = 4, EXTENTS = 3, PARTITIONS = 3 };

struct partition {
	struct eloq_partition_dir dir;
	struct eloq_mapper *mapper;
	struct eloq_manifest *manifest;
};

struct store {
	struct task_world *w;
	struct eloq_files *files;
	struct eloq_cache *cache;
	struct eloq_extents *extents;
	struct partition partitions[PARTITIONS];
};

static void partition_begin(struct store *s, unsigned index, bool append_mode)
{
	const struct eloq_manifest_opts opts = { .bytes_max = 8 << 20,
						 .pages_per_file_shift = SHIFT };
	struct partition *p = &s->partitions[index];
	char dir_name[16];
	bool found;

	(void)snprintf(dir_name, sizeof(dir_name), "t.%u", index);
	p->dir = make_partition(s->w, dir_name, index + 1);
	eloq_list_init(&p->dir.files);
	ck_assert_int_eq(eloq_mapper_open(&p->mapper, append_mode), 0);
	ck_assert_int_eq(eloq_manifest_load_await(&p->manifest, s->files, s->w->io.io, &p->dir,
						  &opts, p->mapper, &found, NULL),
			 0);
}

static void store_begin(struct store *s, struct task_world *w, bool append_mode)
{
	const struct eloq_files_opts files_opts = { .files_max = 4,
						    .page_bytes = PAGE,
						    .pages_per_file_shift = SHIFT,
						    .append_mode = append_mode };
	const struct eloq_cache_opts cache_opts = { .bytes = (uint64_t)ELOQ_CACHE_FRAMES_MIN * PAGE,
						    .page_bytes = PAGE,
						    .pages_per_file_shift = SHIFT,
						    .verify_checksums = true };

	*s = (struct store){ .w = w };
	ck_assert_int_eq(eloq_files_open(&s->files, &files_opts, w->io.io), 0);
	ck_assert_int_eq(eloq_cache_open(&s->cache, &cache_opts, w->io.io, s->files, NULL), 0);
	ck_assert_int_eq(eloq_extents_open(&s->extents, w->io.io, PAGE, EXTENT_PAGES, EXTENTS), 0);
	for (unsigned i = 0; i < PARTITIONS; i++)
		partition_begin(s, i, append_mode);
}

static void store_end(struct store *s)
{
	for (unsigned i = 0; i < PARTITIONS; i++) {
		struct partition *p = &s->partitions[i];

		eloq_manifest_close_await(p->manifest);
		eloq_mapper_close(p->mapper);
		(void)eloq_files_close_dir_await(s->files, &p->dir);
	}
	eloq_extents_close(s->extents);
	eloq_cache_close(s->cache);
	ck_assert_uint_eq(eloq_io_stats(s->w->io.io)->registered_bytes, 0);
	eloq_files_close(s->files);
}

/* A commit in the making. */
struct commit {
	struct store *s;
	struct partition *p;
	struct eloq_change *change;
	struct eloq_page_writer *writer;
	uint8_t *page;
};

static struct commit commit_begin(struct store *s, unsigned partition)
{
	struct commit c = { .s = s, .p = &s->partitions[partition], .page = aligned(PAGE) };

	ck_assert_int_eq(eloq_change_begin(&c.change, c.p->mapper), 0);
	ck_assert_int_eq(eloq_page_writer_open(&c.writer, s->extents, s->files, s->cache,
					       s->w->io.io, &c.p->dir, c.p->manifest, c.change),
			 0);
	return c;
}

static int put(struct commit *c, uint32_t page_id, uint64_t value)
{
	eloq_overflow_page_encode(c->page, PAGE, &value, sizeof(value), NULL, 0);
	return eloq_page_writer_put_await(c->writer, page_id, c->page);
}

static int put_new(struct commit *c, uint64_t value)
{
	uint32_t page_id;

	ck_assert_int_eq(eloq_change_alloc(c->change, &page_id), 0);
	return put(c, page_id, value);
}

/* Makes it durable and current. */
static void commit_end(struct commit *c)
{
	ck_assert_int_eq(eloq_page_writer_finish_await(c->writer), 0);
	eloq_page_writer_close_await(c->writer);
	ck_assert_int_eq(eloq_manifest_commit_await(c->p->manifest, c->change, NULL), 0);
	eloq_change_commit(c->change);
	free(c->page);
}

static void commit_abort(struct commit *c)
{
	eloq_page_writer_close_await(c->writer);
	eloq_change_abort(c->change);
	eloq_files_forget_dirty(c->s->files, &c->p->dir);
	free(c->page);
}

static uint64_t page_value(struct store *s, struct partition *p, uint32_t page_id)
{
	struct eloq_mapping *mapping = eloq_mapper_acquire(p->mapper);
	struct eloq_overflow_view view;
	struct eloq_errinfo err = { 0 };
	struct eloq_page *page;
	uint64_t value;
	int r;

	r = eloq_cache_read_await(s->cache, &p->dir, eloq_mapping_get(mapping, page_id), 0,
				  ELOQ_PAGE_POINT, &page, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	eloq_overflow_page_decode(eloq_page_bytes(page), PAGE, &view);
	value = eloq_get_u64(view.value);
	eloq_cache_unpin(s->cache, page);
	eloq_mapping_release(mapping);
	return value;
}

/* Page ids 0.. hold first, first + 1, ..., as seen in the cache and as seen on disk. */
static void expect_values(struct store *s, unsigned partition, uint32_t count, uint64_t first)
{
	struct partition *p = &s->partitions[partition];

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < count; i++) {
			if (page_value(s, p, i) != first + i)
				ck_abort_msg("page %d is wrong", (int)i);
		}
		eloq_cache_forget_partition(s->cache, p->dir.no);
	}
}

/* The cache registers all of its memory with the first page, as it is so small. */
TASK_TEST(extent_is_registered_when_it_is_first_used_and_once)
{
	const uint64_t first_use_bytes = (ELOQ_CACHE_FRAMES_MIN + EXTENT_PAGES) * PAGE;
	struct store s;

	store_begin(&s, w, false);
	ck_assert_uint_eq(eloq_io_stats(w->io.io)->registered_bytes, 0);
	for (uint64_t i = 0; i < 3; i++) {
		struct commit c = commit_begin(&s, 0);

		ck_assert_int_eq(put_new(&c, i), 0);
		commit_end(&c);
		ck_assert_uint_eq(eloq_io_stats(w->io.io)->registered_bytes,
				  w->io.kind == &uring ? first_use_bytes : 0);
	}
	expect_values(&s, 0, 3, 0);
	store_end(&s);
}

TASK_TEST(pages_in_a_row_are_gathered_and_no_write_crosses_files)
{
	struct store s;
	struct commit c;
	uint64_t written = 0;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	trace_clear();
	for (uint64_t i = 0; i < 2 * FILE_PAGES + 6; i++)
		ck_assert_int_eq(put_new(&c, 1000 + i), 0);
	ck_assert_int_eq(eloq_page_writer_finish_await(c.writer), 0);
	ck_assert_uint_eq(eloq_page_writer_pages(c.writer), 2 * FILE_PAGES + 6);
	ck_assert_uint_eq(trace_count(ELOQ_IO_WRITE), 2 * FILE_PAGES / EXTENT_PAGES + 2);
	for (unsigned i = 0; i < faults.trace_count; i++) {
		const struct traced *traced = &faults.trace[i];

		if (traced->op != ELOQ_IO_WRITE)
			continue;
		written += traced->bytes;
		ck_assert_uint_le(traced->offset + traced->bytes, FILE_PAGES * PAGE);
	}
	ck_assert_uint_eq(written, (2 * FILE_PAGES + 6) * PAGE);
	commit_end(&c);
	ck_assert_int_eq(file_size(w, "t.0/data_1_0"), FILE_PAGES * PAGE);
	ck_assert_int_eq(file_size(w, "t.0/data_2_0"), 6 * PAGE);
	expect_values(&s, 0, 2 * FILE_PAGES + 6, 1000);
	store_end(&s);
}

TASK_TEST(everything_is_written_before_anything_is_synced)
{
	struct store s;
	struct commit c;
	int first_sync;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 10; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	trace_clear();
	ck_assert_int_eq(eloq_page_writer_finish_await(c.writer), 0);
	first_sync = trace_find(ELOQ_IO_SYNC, 0);
	ck_assert_int_ge(first_sync, 0);
	ck_assert_int_eq(trace_find(ELOQ_IO_WRITE, first_sync), -1);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 2); /* data_0_0 and the directory */
	commit_end(&c);
	store_end(&s);
}

TASK_TEST(places_that_are_scattered_are_written_one_by_one)
{
	struct store s;
	struct commit c;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 12; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	commit_end(&c);
	for (int round = 1; round <= 5; round++) {
		c = commit_begin(&s, 0);
		for (uint32_t i = 0; i < 12; i += 2)
			ck_assert_int_eq(put(&c, i, 100 + i), 0);
		for (uint32_t i = 1; i < 12; i += 2)
			ck_assert_int_eq(put(&c, i, 100 + i), 0);
		commit_end(&c);
		expect_values(&s, 0, 12, 100);
	}
	store_end(&s);
}

TASK_TEST(page_put_twice_is_what_it_was_last)
{
	struct store s;
	struct commit c;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 8; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert_int_eq(put(&c, i, 500 + i), 0);
	commit_end(&c);
	expect_values(&s, 0, 8, 500);
	store_end(&s);
}

TASK_TEST(failed_write_fails_the_commit_and_the_next_one_takes_its_places)
{
	struct store s;
	struct commit c;
	int r = 0;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 5; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	commit_end(&c);
	for (unsigned skip = 0; skip < 6; skip++) {
		c = commit_begin(&s, 0);
		fail_request(ELOQ_IO_WRITE, skip, -ENOSPC);
		for (uint64_t i = 0; i < 24 && r == 0; i++)
			r = put_new(&c, 700 + i);
		ck_assert_int_eq(r < 0 ? r : eloq_page_writer_finish_await(c.writer), -ENOSPC);
		ck_assert_int_eq(eloq_page_writer_finish_await(c.writer), -ENOSPC);
		commit_abort(&c);
		r = 0;
	}
	expect_values(&s, 0, 5, 0);
	c = commit_begin(&s, 0);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_int_eq(put(&c, i, 900 + i), 0);
	commit_end(&c);
	expect_values(&s, 0, 5, 900);
	store_end(&s);
}

TASK_TEST(file_that_cannot_be_made_fails_the_commit)
{
	struct store s;
	struct commit c;
	int r = 0;

	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	fail_request(ELOQ_IO_OPEN, 0, -EMFILE);
	for (uint64_t i = 0; i < 24 && r == 0; i++)
		r = put_new(&c, i);
	ck_assert_int_eq(r, -EMFILE);
	ck_assert_int_eq(put_new(&c, 1), -EMFILE);
	ck_assert_int_eq(eloq_page_writer_finish_await(c.writer), -EMFILE);
	commit_abort(&c);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 3; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	commit_end(&c);
	expect_values(&s, 0, 3, 0);
	store_end(&s);
}

TASK_TEST(append_mode_goes_on_behind_the_last_page)
{
	struct store s;
	struct commit c;

	store_begin(&s, w, true);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 5; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	commit_end(&c);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), FILE_PAGES * PAGE);
	for (int round = 0; round < 6; round++) {
		c = commit_begin(&s, 0);
		for (uint32_t i = 0; i < 5; i++)
			ck_assert_int_eq(put(&c, i, 50 + i), 0);
		commit_end(&c);
		expect_values(&s, 0, 5, 50);
	}
	ck_assert_uint_eq(eloq_mapper_file_pages_end(s.partitions[0].mapper), 35);
	ck_assert_int_eq(file_size(w, "t.0/data_2_0"), FILE_PAGES * PAGE);
	store_end(&s);
}

/* Files that are left from a removal cut short hold pages with good checksums. */
TASK_TEST(new_partition_does_not_grow_over_old_files)
{
	uint8_t *old = aligned(FILE_PAGES * PAGE);
	struct store s;
	struct commit c;

	make_dir(w, "t.0");
	file_put(w, "t.0/data_0_0", old, FILE_PAGES * PAGE);
	store_begin(&s, w, false);
	c = commit_begin(&s, 0);
	for (uint64_t i = 0; i < 3; i++)
		ck_assert_int_eq(put_new(&c, i), 0);
	commit_end(&c);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), 3 * PAGE);
	expect_values(&s, 0, 3, 0);
	free(old);
	store_end(&s);
}

struct committer {
	struct store *s;
	unsigned partition;
};

static void commit_in_task(void *arg)
{
	const struct committer *committer = arg;

	for (int round = 0; round < 4; round++) {
		struct commit c = commit_begin(committer->s, committer->partition);

		for (uint64_t i = 0; i < 30; i++) {
			int r = round == 0 ? put_new(&c, i) : put(&c, (uint32_t)i, i);

			ck_assert_int_eq(r, 0);
			if (i % 7 == 0)
				eloq_task_yield_await();
		}
		commit_end(&c);
	}
}

TASK_TEST(commits_of_several_partitions_share_few_extents_and_files)
{
	struct committer committers[PARTITIONS];
	struct store s;

	store_begin(&s, w, false);
	for (unsigned i = 0; i < PARTITIONS; i++) {
		committers[i] = (struct committer){ &s, i };
		start_task(w, commit_in_task, &committers[i]);
	}
	while (eloq_sched_live_count(w->sched) > 1)
		eloq_task_yield_await();
	for (unsigned i = 0; i < PARTITIONS; i++)
		expect_values(&s, i, 30, 0);
	store_end(&s);
}
