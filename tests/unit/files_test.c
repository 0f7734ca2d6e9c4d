/*
 * files_test.c - the table of open files: once open, never closed in use, synced before closed.
 */
#include "daemon/store/files.h"

#include "tests/unit/task_world.h"

#include <errno.h>

enum { FILE_PAGES_SHIFT = 4 };

static struct eloq_files *files_begin(struct task_world *w, uint32_t files_max, bool append_mode,
				      uint32_t shift)
{
	const struct eloq_files_opts opts = { .files_max = files_max,
					      .page_bytes = PAGE,
					      .pages_per_file_shift = shift,
					      .append_mode = append_mode };
	struct eloq_files *files;

	ck_assert_int_eq(eloq_files_open(&files, &opts, w->io.io), 0);
	return files;
}

static struct eloq_file *acquire(struct eloq_files *files, struct eloq_partition_dir *dir,
				 uint64_t file_id, bool create)
{
	struct eloq_file *file = NULL;

	ck_assert_int_eq(eloq_files_acquire_await(files, dir, file_id, 0, create, &file), 0);
	return file;
}

/* Makes the file and leaves it open, unpinned and dirty. */
static void make_file(struct eloq_files *files, struct eloq_partition_dir *dir, uint64_t file_id)
{
	eloq_files_release(files, acquire(files, dir, file_id, true));
}

static void files_end(struct eloq_files *files, struct eloq_partition_dir *dir)
{
	ck_assert_int_eq(eloq_files_close_dir_await(files, dir), 0);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	eloq_files_close(files);
}

TASK_TEST(new_directory_is_synced_in_its_root_before_a_file_is_made)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	int mkdir_at, sync_at, open_at;

	eloq_list_init(&dir.files);
	make_file(files, &dir, 0);
	mkdir_at = trace_find(ELOQ_IO_MKDIR, 0);
	sync_at = trace_find(ELOQ_IO_SYNC, 0);
	open_at = trace_find(ELOQ_IO_OPEN, 0);
	ck_assert(mkdir_at >= 0 && mkdir_at < sync_at && sync_at < open_at);
	ck_assert_ptr_eq(faults.trace[sync_at].file, dir.root);
	ck_assert(dir.exists && dir.dirty);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), 0);
	make_file(files, &dir, 1);
	ck_assert_uint_eq(trace_count(ELOQ_IO_MKDIR), 1);
	files_end(files, &dir);
}

TASK_TEST(directory_that_was_only_seen_is_synced_in_its_root_too)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);

	eloq_list_init(&dir.files);
	make_dir(w, "t.0");
	dir.exists = true;
	make_file(files, &dir, 0);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 1);
	ck_assert_ptr_eq(faults.trace[trace_find(ELOQ_IO_SYNC, 0)].file, dir.root);
	make_file(files, &dir, 1);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 1);
	files_end(files, &dir);
}

TASK_TEST(missing_data_file_is_corruption_and_missing_manifest_is_not)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_file *file;

	eloq_list_init(&dir.files);
	ck_assert_int_eq(eloq_files_acquire_await(files, &dir, 3, 0, false, &file), -ELOQ_ECORRUPT);
	ck_assert_int_eq(
		eloq_files_acquire_await(files, &dir, ELOQ_FILES_MANIFEST, 0, false, &file),
		-ENOENT);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	files_end(files, &dir);
}

struct opener {
	struct eloq_files *files;
	struct eloq_partition_dir *dir;
	uint64_t file_id;
	struct eloq_file *file;
	int result;
};

static void open_in_task(void *arg)
{
	struct opener *opener = arg;

	opener->result = eloq_files_acquire_await(opener->files, opener->dir, opener->file_id, 0,
						  false, &opener->file);
}

static void yield_until_idle(struct task_world *w)
{
	while (eloq_sched_live_count(w->sched) > 1)
		eloq_task_yield_await();
}

TASK_TEST(file_wanted_by_many_tasks_is_opened_once)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct opener openers[5];

	eloq_list_init(&dir.files);
	make_file(files, &dir, 7);
	ck_assert_int_eq(eloq_files_close_dir_await(files, &dir), 0);
	trace_clear();
	for (int i = 0; i < 5; i++) {
		openers[i] = (struct opener){ files, &dir, 7, NULL, 1 };
		start_task(w, open_in_task, &openers[i]);
	}
	yield_until_idle(w);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(openers[i].result, 0);
		ck_assert_ptr_eq(openers[i].file, openers[0].file);
		eloq_files_release(files, openers[i].file);
	}
	ck_assert_uint_eq(trace_count(ELOQ_IO_OPEN), 1);
	ck_assert_uint_eq(eloq_files_open_count(files), 1);
	files_end(files, &dir);
}

TASK_TEST(failed_open_is_told_to_everybody_and_leaves_nothing)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct opener openers[3];

	eloq_list_init(&dir.files);
	for (int i = 0; i < 3; i++) {
		openers[i] = (struct opener){ files, &dir, 7, NULL, 1 };
		start_task(w, open_in_task, &openers[i]);
	}
	yield_until_idle(w);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(openers[i].result, -ELOQ_ECORRUPT);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	files_end(files, &dir);
}

TASK_TEST(dirty_file_that_is_closed_to_make_room_is_synced_first)
{
	struct eloq_files *files = files_begin(w, 2, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	int sync_at, close_at;

	eloq_list_init(&dir.files);
	make_file(files, &dir, 0);
	make_file(files, &dir, 1);
	trace_clear();
	make_file(files, &dir, 2); /* closes 0, the least recently used */
	ck_assert_uint_eq(eloq_files_open_count(files), 2);
	sync_at = trace_find(ELOQ_IO_SYNC, 0);
	close_at = trace_find(ELOQ_IO_CLOSE, 0);
	ck_assert(sync_at >= 0 && sync_at < close_at);
	ck_assert_ptr_eq(faults.trace[sync_at].file, faults.trace[close_at].file);

	/* Synced once by the table, so only the others are left, and the directory. */
	trace_clear();
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), 0);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 3);
	trace_clear();
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), 0);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 0);
	eloq_files_release(files, acquire(files, &dir, 0, false)); /* closes 1, which is clean */
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 0);
	ck_assert_uint_eq(trace_count(ELOQ_IO_CLOSE), 1);
	files_end(files, &dir);
}

TASK_TEST(pinned_files_stay_and_who_needs_room_waits)
{
	struct eloq_files *files = files_begin(w, 2, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_file *first, *second;
	struct opener opener = { files, &dir, 2, NULL, 1 };

	eloq_list_init(&dir.files);
	make_file(files, &dir, 2);
	first = acquire(files, &dir, 0, true);
	second = acquire(files, &dir, 1, true);
	trace_clear();
	start_task(w, open_in_task, &opener);
	for (int i = 0; i < 10; i++)
		eloq_task_yield_await();
	ck_assert_int_eq(opener.result, 1); /* still waiting */
	ck_assert_uint_eq(faults.trace_count, 0);
	eloq_files_release(files, second);
	yield_until_idle(w);
	ck_assert_int_eq(opener.result, 0);
	ck_assert_ptr_eq(acquire(files, &dir, 0, false), first);
	eloq_files_release(files, first);
	eloq_files_release(files, first);
	eloq_files_release(files, opener.file);
	files_end(files, &dir);
}

TASK_TEST(failed_sync_is_final)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_partition_dir other = make_partition(w, "t.1", 2);

	eloq_list_init(&dir.files);
	eloq_list_init(&other.files);
	make_file(files, &other, 0);
	make_file(files, &dir, 0);
	make_file(files, &dir, 1);
	fail_request(ELOQ_IO_SYNC, 1, -EIO);
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), -ELOQ_EFAILED_SYNC);
	trace_clear();
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), -ELOQ_EFAILED_SYNC);
	ck_assert_int_eq(eloq_files_sync_await(files, &other), -ELOQ_EFAILED_SYNC);
	ck_assert_int_eq(eloq_files_sync_dir_await(files, &dir), -ELOQ_EFAILED_SYNC);
	ck_assert_int_eq(eloq_files_close_dir_await(files, &other), -ELOQ_EFAILED_SYNC);
	(void)eloq_files_close_dir_await(files, &dir);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 0);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	eloq_files_close(files);
}

TASK_TEST(sync_that_fails_while_making_room_reaches_the_commit)
{
	struct eloq_files *files = files_begin(w, 1, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_partition_dir other = make_partition(w, "t.1", 2);
	struct eloq_file *file;

	eloq_list_init(&dir.files);
	eloq_list_init(&other.files);
	make_file(files, &dir, 0);
	other.exists = other.rooted = true;
	make_dir(w, "t.1");
	fail_request(ELOQ_IO_SYNC, 0, -EIO);
	ck_assert_int_eq(eloq_files_acquire_await(files, &other, 0, 0, true, &file),
			 -ELOQ_EFAILED_SYNC);
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), -ELOQ_EFAILED_SYNC);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	eloq_files_close(files);
}

TASK_TEST(aborted_commit_forgets_files_but_not_the_directory)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);

	eloq_list_init(&dir.files);
	make_file(files, &dir, 0);
	eloq_files_forget_dirty(files, &dir);
	trace_clear();
	ck_assert_int_eq(eloq_files_sync_await(files, &dir), 0);
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 1);
	ck_assert_str_eq(faults.trace[trace_find(ELOQ_IO_OPEN, 0)].path, "t.0");
	files_end(files, &dir);
}

TASK_TEST(append_mode_allocates_in_steps_up_to_the_size_of_a_file)
{
	const uint64_t mib = UINT64_C(1) << 20;
	struct eloq_files *files = files_begin(w, 8, true, 15); /* 128 MiB */
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_file *file;

	eloq_list_init(&dir.files);
	file = acquire(files, &dir, 0, true);
	ck_assert_int_eq(eloq_files_reserve_await(files, file, PAGE), 0);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), (int64_t)(64 * mib));
	trace_clear();
	ck_assert_int_eq(eloq_files_reserve_await(files, file, 64 * mib), 0);
	ck_assert_uint_eq(faults.trace_count, 0);
	eloq_files_release(files, file);
	ck_assert_int_eq(eloq_files_close_dir_await(files, &dir), 0);

	file = acquire(files, &dir, 0, false); /* its size is known again */
	trace_clear();
	ck_assert_int_eq(eloq_files_reserve_await(files, file, 64 * mib), 0);
	ck_assert_uint_eq(faults.trace_count, 0);
	ck_assert_int_eq(eloq_files_reserve_await(files, file, 64 * mib + PAGE), 0);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), (int64_t)(128 * mib));
	eloq_files_release(files, file);
	files_end(files, &dir);

	files = files_begin(w, 8, true, 2);
	file = acquire(files, &dir, 1, true);
	fail_request(ELOQ_IO_ALLOCATE, 0, -ENOSPC);
	ck_assert_int_eq(eloq_files_reserve_await(files, file, PAGE), -ENOSPC);
	ck_assert_int_eq(eloq_files_reserve_await(files, file, PAGE), 0);
	ck_assert_int_eq(file_size(w, "t.0/data_1_0"), 4 * PAGE);
	eloq_files_release(files, file);
	files_end(files, &dir);
}

TASK_TEST(in_place_files_are_not_allocated)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	struct eloq_file *file;

	eloq_list_init(&dir.files);
	file = acquire(files, &dir, 0, true);
	ck_assert_int_eq(eloq_files_reserve_await(files, file, PAGE), 0);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), 0);
	eloq_files_release(files, file);
	files_end(files, &dir);
}

TASK_TEST(old_bytes_go_only_where_no_manifest_was)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);

	eloq_list_init(&dir.files);
	make_dir(w, "t.0");
	file_put(w, "t.0/data_0_0", "old", 3);
	file_put(w, "t.0/data_1_0", "old", 3);
	make_file(files, &dir, 0);
	ck_assert_int_eq(file_size(w, "t.0/data_0_0"), 3);
	dir.empty_new = true;
	make_file(files, &dir, 1);
	ck_assert_int_eq(file_size(w, "t.0/data_1_0"), 0);
	files_end(files, &dir);
}

TASK_TEST(removing_a_partition_takes_the_manifest_first_and_everything_after_it)
{
	struct eloq_files *files = files_begin(w, 8, false, FILE_PAGES_SHIFT);
	struct eloq_partition_dir dir = make_partition(w, "t.0", 1);
	char name[64];
	int unlink_at, sync_at;

	eloq_list_init(&dir.files);
	for (uint64_t id = 0; id < 40; id++)
		make_file(files, &dir, id);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(name, sizeof(name), "t.0/stranger %d", i);
		file_put(w, name, "x", 1);
	}
	file_put(w, "t.0/manifest_0", "x", 1);
	trace_clear();
	ck_assert_int_eq(eloq_files_remove_dir_await(files, &dir), 0);
	ck_assert_int_eq(file_size(w, "t.0"), -1);
	ck_assert(!dir.exists);
	ck_assert_uint_eq(eloq_files_open_count(files), 0);
	unlink_at = trace_find(ELOQ_IO_UNLINK, 0);
	ck_assert_str_eq(faults.trace[unlink_at].path, "t.0/manifest_0");
	sync_at = trace_find(ELOQ_IO_SYNC, unlink_at);
	ck_assert(sync_at > unlink_at && sync_at < trace_find(ELOQ_IO_UNLINK, unlink_at + 1));
	ck_assert_int_eq(eloq_files_remove_dir_await(files, &dir), 0); /* nothing left to do */
	eloq_files_close(files);
}
