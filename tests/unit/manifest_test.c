/*
 * manifest_test.c - what commits write, and what they leave when I/O fails.
 */
#include "daemon/store/manifest.h"

#include "tests/unit/hex.h"
#include "tests/unit/manifest_world.h"

#include <errno.h>

/* --- Golden bytes ----------------------------------------------------------------------------- */

static const char golden_snapshot[] = "a1 be 8b c4 ed 0c 8d f3 04 00 00 00 06 00 00 00"
				      "1e 00 00 00 07 00 07 00 00 00 01 09 11 19 21 29"
				      "31 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00";

/* With the remains of another record in its padding, as the reference writes it. */
static const char golden_log[] = "01 e3 3c 8b ab 87 e6 bd 04 00 00 00 06 00 00 00"
				 "17 00 00 00 02 00 00 00 03 39 0d 00 00 00 00 00"
				 "fe ff ff ff ff ff ff ff ff 01 00 ff ff ff ff ff 01 00";

enum { GOLDEN_LOG_BYTES = 43 }; /* without the remains */

/* The two records of the reference, a block each. */
static uint8_t *golden_manifest(void)
{
	uint8_t *bytes = hex_bytes(golden_snapshot, 2 * BLOCK);
	uint8_t *log = hex_bytes(golden_log, BLOCK);

	memcpy(bytes + BLOCK, log, BLOCK);
	free(log);
	return bytes;
}

TASK_TEST(manifest_of_the_reference_is_replayed)
{
	uint8_t *bytes = golden_manifest();
	struct eloq_mapping *mapping;
	struct partition p;
	bool found = false;

	partition_init(&p, w, false, BYTES_MAX);
	make_dir(w, "t.0");
	file_put(w, MANIFEST_NAME, bytes, 2 * BLOCK);
	ck_assert_msg(partition_load(&p, &found) == 0, "%s", p.err.text);
	ck_assert(found);
	mapping = eloq_mapper_acquire(p.mapper);
	ck_assert_uint_eq(eloq_mapping_roots(mapping).main, 4);
	ck_assert_uint_eq(eloq_mapping_roots(mapping).ttl, 6);
	ck_assert_uint_eq(eloq_mapping_page_ids(mapping), 7);
	for (uint32_t id = 0; id < 7; id++)
		ck_assert_uint_eq(eloq_mapping_get(mapping, id), id == 3 ? 7 : id);
	eloq_mapping_release(mapping);
	ck_assert_uint_eq(eloq_mapper_file_pages_end(p.mapper), 8);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(p.mapper).free, 1);
	ck_assert_uint_eq(eloq_manifest_bytes(p.manifest), 2 * BLOCK);
	free(bytes);
	partition_end(&p);
}

/* Its free page ids are a linked list, which nobody needs. */
static const char golden_truncated[] = "1e e9 89 1c 5e bf 0e 29 ff ff ff ff ff ff ff ff"
				       "1e 00 00 00 08 00 07 00 00 00 07 02 0a 12 1a 22"
				       "2a 0d 00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00";

TASK_TEST(truncated_partition_of_the_reference_is_empty_with_all_page_ids_free)
{
	uint8_t *bytes = hex_bytes(golden_truncated, BLOCK);
	struct eloq_change *change;
	struct partition p;
	uint32_t page_id;
	bool found = false;

	partition_init(&p, w, false, BYTES_MAX);
	make_dir(w, "t.0");
	file_put(w, MANIFEST_NAME, bytes, BLOCK);
	ck_assert_msg(partition_load(&p, &found) == 0, "%s", p.err.text);
	ck_assert(found);
	ck_assert_uint_eq(eloq_mapper_live_pages(p.mapper), 0);
	ck_assert_uint_eq(eloq_mapper_file_page_counts(p.mapper).free, 8);
	change = change_begin(&p);
	ck_assert_uint_eq(eloq_change_roots(change).main, ELOQ_PAGE_NONE);
	for (uint32_t i = 0; i < 8; i++) {
		ck_assert_int_eq(eloq_change_alloc(change, &page_id), 0);
		ck_assert_uint_eq(page_id, i); /* the seven that were there, and a new one */
	}
	eloq_change_abort(change);
	free(bytes);
	partition_end(&p);
}

TASK_TEST(same_commits_write_the_bytes_of_the_reference_with_clean_padding)
{
	uint8_t *expected = golden_manifest(), *bytes;
	struct eloq_change *change;
	struct partition p;
	size_t count;

	memset(expected + BLOCK + GOLDEN_LOG_BYTES, 0, BLOCK - GOLDEN_LOG_BYTES);

	partition_begin(&p, w, false, BYTES_MAX);
	change = change_begin(&p);
	alloc_pages(&p, change, 7);
	eloq_change_set_roots(change, (struct eloq_roots){ 4, 6 });
	ck_assert_int_eq(commit(&p, change), 0);
	commit_rewrite(&p, 3, 1);
	bytes = file_get(w, MANIFEST_NAME, &count);
	ck_assert_uint_eq(count, 2 * BLOCK);
	ck_assert_mem_eq(bytes, expected, count);
	free(bytes);
	free(expected);
	partition_end(&p);
}

TASK_TEST(truncated_partition_is_a_snapshot_with_free_page_ids)
{
	static const uint8_t freed[] = { 7, 7, 7, 7, 7, 7, 7 };
	struct eloq_change *change;
	struct partition p;
	uint8_t *bytes;
	size_t count;

	partition_begin(&p, w, false, BYTES_MAX);
	commit_new_pages(&p, 7);
	commit_rewrite(&p, 3, 1);
	change = change_begin(&p);
	ck_assert_int_eq(eloq_change_free_all(change), 0);
	eloq_change_set_roots(change, (struct eloq_roots){ ELOQ_PAGE_NONE, ELOQ_PAGE_NONE });
	ck_assert_int_eq(commit(&p, change), 0);
	bytes = file_get(w, MANIFEST_NAME, &count);
	ck_assert_uint_eq(count, BLOCK);
	ck_assert_uint_eq(bytes[20], 8); /* file pages 0..7 are known */
	ck_assert_mem_eq(bytes + 26, freed, 7);
	free(bytes);
	expect_reload(&p);

	change = change_begin(&p); /* nothing to say */
	trace_clear();
	ck_assert_int_eq(commit(&p, change), 0);
	ck_assert_uint_eq(faults.trace_count, 0);
	partition_end(&p);
}

/* --- Files in records ------------------------------------------------------------------------- */

/* Whether the last record of the manifest names the data file. */
static bool last_record_names(struct task_world *w, uint64_t file_id)
{
	struct eloq_manifest_header header = { 0 };
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_piece terms;
	struct eloq_manifest_log log;
	uint64_t at = 0, next = 0, id, term;
	bool named = false, manifest_named = false;
	uint8_t *bytes;
	size_t count;

	bytes = file_get(w, MANIFEST_NAME, &count);
	while (next < count) {
		at = next;
		eloq_manifest_header_decode(bytes + at, &header);
		next += eloq_manifest_record_padded(header.payload_bytes);
	}
	if (at == 0) {
		ck_assert_int_eq(
			eloq_manifest_snapshot_decode(bytes + at + ELOQ_MANIFEST_HEADER_BYTES,
						      header.payload_bytes, &snapshot),
			0);
		terms = snapshot.terms;
	} else {
		ck_assert_int_eq(eloq_manifest_log_decode(bytes + at + ELOQ_MANIFEST_HEADER_BYTES,
							  header.payload_bytes, &log),
				 0);
		terms = log.terms;
	}
	while (eloq_manifest_next_term(&terms, &id, &term) > 0) {
		named |= id == file_id;
		manifest_named |= id == ELOQ_TERM_MAP_MANIFEST;
	}
	ck_assert(manifest_named);
	free(bytes);
	return named;
}

TASK_TEST(records_name_every_data_file_in_use_and_in_append_mode_no_other)
{
	struct partition p;

	for (int append_mode = 0; append_mode < 2; append_mode++) {
		partition_begin(&p, w, append_mode, BYTES_MAX);
		commit_new_pages(&p, 16); /* all of file 0 */
		ck_assert(last_record_names(w, 0) && !last_record_names(w, 1));
		commit_rewrite(&p, 0, 1);
		ck_assert(last_record_names(w, 0) && last_record_names(w, 1));
		commit_rewrite(&p, 0, 15);
		ck_assert(last_record_names(w, 0) && last_record_names(w, 1));
		commit_rewrite(&p, 15, 1); /* append: nothing is left in file 0 */
		ck_assert_int_eq(last_record_names(w, 0), !append_mode);
		expect_reload(&p);
		partition_end(&p);
		file_remove(w, MANIFEST_NAME);
	}
}

/* --- Snapshots -------------------------------------------------------------------------------- */

TASK_TEST(log_that_would_outgrow_its_limit_is_replaced_by_a_snapshot)
{
	struct partition p;

	partition_begin(&p, w, false, 5 * BLOCK);
	commit_new_pages(&p, 10);
	for (uint32_t i = 0; i < 20; i++) {
		commit_rewrite(&p, i % 10, 1);
		ck_assert_int_le(file_size(w, MANIFEST_NAME), 5 * BLOCK);
		ck_assert_int_eq(file_size(w, MANIFEST_NAME),
				 (int64_t)eloq_manifest_bytes(p.manifest));
		if (i % 3 == 0)
			expect_reload(&p);
	}
	ck_assert_int_eq(file_size(w, "t.0/manifest_0.tmp"), -1);
	partition_unload(&p);
	partition_end(&p);
}

TASK_TEST(snapshot_is_synced_renamed_and_its_directory_synced)
{
	int write_at, sync_at, rename_at, open_at;
	struct partition p;

	partition_begin(&p, w, false, 2 * BLOCK);
	commit_new_pages(&p, 10);
	commit_rewrite(&p, 0, 1);
	trace_clear();
	commit_rewrite(&p, 0, 1); /* would be the third block */
	ck_assert_uint_eq(eloq_manifest_get_stats(p.manifest).snapshots, 2);
	ck_assert_str_eq(faults.trace[trace_find(ELOQ_IO_OPEN, 0)].path, "t.0/manifest_0.tmp");
	write_at = trace_find(ELOQ_IO_WRITE, 0);
	sync_at = trace_find(ELOQ_IO_SYNC, 0);
	rename_at = trace_find(ELOQ_IO_RENAME, 0);
	ck_assert(write_at >= 0 && write_at < sync_at && sync_at < rename_at);
	ck_assert_ptr_eq(faults.trace[write_at].file, faults.trace[sync_at].file);
	open_at = trace_find(ELOQ_IO_OPEN, rename_at);
	ck_assert_str_eq(faults.trace[open_at].path, "t.0");
	ck_assert_int_gt(trace_find(ELOQ_IO_SYNC, open_at), 0);
	expect_reload(&p);
	partition_end(&p);
}

TASK_TEST(partition_larger_than_the_limit_does_not_write_a_snapshot_each_time)
{
	struct partition p;

	partition_begin(&p, w, false, BLOCK);
	commit_new_pages(&p, 6000); /* several blocks */
	for (uint32_t i = 0; i < 4; i++)
		commit_rewrite(&p, i, 1);
	ck_assert_uint_eq(eloq_manifest_get_stats(p.manifest).snapshots, 1);
	ck_assert_uint_eq(eloq_manifest_get_stats(p.manifest).records, 4);
	expect_reload(&p);
	partition_end(&p);
}

/* --- Failing I/O ------------------------------------------------------------------------------ */

TASK_TEST(failed_append_is_taken_back_and_the_next_one_works)
{
	struct partition p;
	struct model before;
	int write_at, cut_at;

	partition_begin(&p, w, false, BYTES_MAX);
	commit_new_pages(&p, 10);
	before = model_take(&p);
	trace_clear();
	fail_request(ELOQ_IO_WRITE, 0, -ENOSPC);
	ck_assert_int_eq(try_rewrite(&p, 0, 1), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(p.err.text, "t.0/manifest_0"));
	write_at = trace_find(ELOQ_IO_WRITE, 0);
	cut_at = trace_find(ELOQ_IO_TRUNCATE, write_at);
	ck_assert(cut_at > write_at && trace_find(ELOQ_IO_SYNC, cut_at) > cut_at);
	expect_model(&p, &before);
	partition_reload(&p);
	expect_model(&p, &before);
	commit_rewrite(&p, 0, 2);
	expect_reload(&p);
	free(before.file_pages);
	partition_end(&p);
}

static void expect_poisoned(struct partition *p)
{
	trace_clear();
	ck_assert_int_eq(try_rewrite(p, 0, 1), -ELOQ_EFAILED_SYNC);
	ck_assert_uint_eq(faults.trace_count, 0);
}

TASK_TEST(failed_append_that_cannot_be_taken_back_is_a_failed_sync)
{
	struct partition p;

	partition_begin(&p, w, false, BYTES_MAX);
	commit_new_pages(&p, 10);
	fail_request(ELOQ_IO_WRITE, 0, -EIO);
	faults.fail_ops |= 1u << ELOQ_IO_TRUNCATE;
	faults.fail_count = 2;
	ck_assert_int_eq(try_rewrite(&p, 0, 1), -ELOQ_EFAILED_SYNC);
	expect_poisoned(&p);
	partition_end(&p);
}

TASK_TEST(failed_sync_of_an_append_is_final)
{
	struct partition p;

	partition_begin(&p, w, false, BYTES_MAX);
	commit_new_pages(&p, 10);
	fail_request(ELOQ_IO_SYNC, 0, -EIO);
	ck_assert_int_eq(try_rewrite(&p, 0, 1), -ELOQ_EFAILED_SYNC);
	expect_poisoned(&p);
	partition_end(&p);
}

TASK_TEST(failed_snapshot_leaves_the_old_manifest)
{
	static const struct {
		enum eloq_io_op op;
		int result;
		int expected;
	} cases[] = {
		{ ELOQ_IO_OPEN, -EMFILE, -EMFILE },
		{ ELOQ_IO_WRITE, -ENOSPC, -ENOSPC },
		{ ELOQ_IO_RENAME, -ENOSPC, -ENOSPC },
	};
	struct partition p;
	struct model before;

	partition_begin(&p, w, false, 2 * BLOCK);
	commit_new_pages(&p, 10);
	commit_rewrite(&p, 0, 1);
	before = model_take(&p);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(cases); i++) {
		fail_request(cases[i].op, 0, cases[i].result);
		ck_assert_int_eq(try_rewrite(&p, 0, 1), cases[i].expected);
		ck_assert_int_eq(file_size(w, "t.0/manifest_0.tmp"), -1);
		partition_reload(&p);
		expect_model(&p, &before);
	}
	commit_rewrite(&p, 0, 1);
	expect_reload(&p);
	free(before.file_pages);
	partition_end(&p);
}

TASK_TEST(snapshot_whose_syncs_fail_has_an_unknown_outcome)
{
	struct partition p;

	for (unsigned skip = 0; skip < 2; skip++) { /* the file's, the directory's */
		partition_begin(&p, w, false, 2 * BLOCK);
		commit_new_pages(&p, 10);
		commit_rewrite(&p, 0, 1);
		fail_request(ELOQ_IO_SYNC, skip, -EIO);
		ck_assert_int_eq(try_rewrite(&p, 0, 1), -ELOQ_EFAILED_SYNC);
		ck_assert_int_eq(try_rewrite(&p, 0, 1), -ELOQ_EFAILED_SYNC);
		partition_end(&p);
		file_remove(w, MANIFEST_NAME);
	}
}

TASK_TEST(what_was_found_is_synced_before_it_is_used)
{
	struct partition p;

	partition_begin(&p, w, false, BYTES_MAX);
	commit_new_pages(&p, 10);
	partition_unload(&p);
	trace_clear();
	{
		bool found;

		ck_assert_int_eq(partition_load(&p, &found), 0);
	}
	ck_assert_uint_eq(trace_count(ELOQ_IO_SYNC), 2); /* the file and its directory */
	ck_assert_uint_eq(trace_count(ELOQ_IO_WRITE), 0);
	partition_end(&p);
}

/* --- Random commits --------------------------------------------------------------------------- */

static void random_commit(struct partition *p, struct eloq_prng *prng, uint32_t page_ids)
{
	struct eloq_change *change = change_begin(p);
	uint64_t steps = 1 + eloq_prng_below(prng, eloq_prng_below(prng, 8) ? 5 : 800);
	uint32_t root = ELOQ_PAGE_NONE, page_id;

	for (uint64_t i = 0; i < steps; i++) {
		page_id = (uint32_t)eloq_prng_below(prng, page_ids);
		if (page_id >= eloq_change_page_ids(change) ||
		    eloq_change_get(change, page_id) == ELOQ_FILE_PAGE_NONE) {
			ck_assert_int_eq(eloq_change_alloc(change, &page_id), 0);
			(void)place(p, change, page_id);
		} else if (eloq_prng_below(prng, 3) == 0) {
			ck_assert_int_eq(eloq_change_free(change, page_id), 0);
		} else {
			(void)place(p, change, page_id);
		}
	}
	for (page_id = 0; page_id < eloq_change_page_ids(change); page_id++) {
		if (eloq_change_get(change, page_id) != ELOQ_FILE_PAGE_NONE)
			root = page_id;
	}
	eloq_change_set_roots(change, (struct eloq_roots){ root, ELOQ_PAGE_NONE });
	if (eloq_prng_below(prng, 10) == 0)
		fail_request(eloq_prng_below(prng, 2) ? ELOQ_IO_WRITE : ELOQ_IO_RENAME, 0, -ENOSPC);
	(void)commit(p, change);
	faults.fail = false;
	faults.trace_count = 0;
}

static void run_random(struct task_world *w, bool append_mode)
{
	struct eloq_prng prng;
	struct partition p;

	eloq_prng_seed(&prng, test_seed());
	partition_begin(&p, w, append_mode, 6 * BLOCK);
	commit_new_pages(&p, 1);
	for (int i = 0; i < 150; i++) {
		struct model model;

		random_commit(&p, &prng, 1200);
		if (i % 7 != 0)
			continue;
		model = model_take(&p);
		partition_reload(&p);
		/* Ids that were allocated and freed by one commit are in no record. */
		if (eloq_mapper_live_pages(p.mapper) > 0) {
			struct model now = model_take(&p);

			while (model.page_ids > now.page_ids)
				ck_assert(model.file_pages[--model.page_ids] ==
					  ELOQ_FILE_PAGE_NONE);
			free(now.file_pages);
		}
		model.file_pages_end = eloq_mapper_file_pages_end(p.mapper);
		expect_model(&p, &model);
		free(model.file_pages);
	}
	partition_end(&p);
}

TASK_TEST(random_commits_survive_reloading_in_place)
{
	run_random(w, false);
}

TASK_TEST(random_commits_survive_reloading_in_append_mode)
{
	run_random(w, true);
}
