/*
 * manifest_test.c - commits and what is left of them after any damage to the tail.
 *
 * A partition here is a mapper and a manifest; no data is written. The model is what every page
 * id maps to after each commit.
 */
#include "daemon/store/manifest.h"

#include "common/err.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/manifest_replay.h"
#include "tests/unit/hex.h"
#include "tests/unit/task_world.h"

#include <errno.h>

enum { SHIFT = 4, BLOCK = ELOQ_MANIFEST_ALIGN, BYTES_MAX = 8 << 20 };

static const char name[] = "t.0/manifest_0";

struct partition {
	struct task_world *w;
	struct eloq_files *files;
	struct eloq_partition_dir dir;
	struct eloq_manifest_opts opts;
	bool append_mode;
	struct eloq_mapper *mapper;
	struct eloq_manifest *manifest;
	struct eloq_errinfo err;
};

static void partition_init(struct partition *p, struct task_world *w, bool append_mode,
			   uint64_t bytes_max)
{
	const struct eloq_files_opts opts = { .files_max = 4,
					      .page_bytes = PAGE,
					      .pages_per_file_shift = SHIFT,
					      .append_mode = append_mode };

	*p = (struct partition){ .w = w, .dir = make_partition(w, "t.0", 1) };
	eloq_list_init(&p->dir.files);
	p->append_mode = append_mode;
	p->opts = (struct eloq_manifest_opts){ .bytes_max = bytes_max,
					       .pages_per_file_shift = SHIFT };
	ck_assert_int_eq(eloq_files_open(&p->files, &opts, w->io.io), 0);
}

static int partition_load(struct partition *p, bool *ret_found)
{
	int r;

	ck_assert_int_eq(eloq_mapper_open(&p->mapper, p->append_mode), 0);
	p->err = (struct eloq_errinfo){ 0 };
	r = eloq_manifest_load_await(&p->manifest, p->files, p->w->io.io, &p->dir, &p->opts,
				     p->mapper, ret_found, &p->err);
	if (r < 0) {
		eloq_mapper_close(p->mapper);
		p->mapper = NULL;
		ck_assert_int_eq(p->err.code, r);
	}
	return r;
}

static void partition_unload(struct partition *p)
{
	eloq_manifest_close_await(p->manifest);
	eloq_mapper_close(p->mapper);
	p->manifest = NULL;
	p->mapper = NULL;
}

static void partition_reload(struct partition *p)
{
	bool found = false;

	partition_unload(p);
	ck_assert_msg(partition_load(p, &found) == 0, "%s", p->err.text);
	ck_assert(found);
}

static void partition_begin(struct partition *p, struct task_world *w, bool append_mode,
			    uint64_t bytes_max)
{
	bool found = true;

	partition_init(p, w, append_mode, bytes_max);
	ck_assert_int_eq(partition_load(p, &found), 0);
	ck_assert(!found);
	ck_assert(p->dir.empty_new);
}

static void partition_end(struct partition *p)
{
	if (p->manifest)
		partition_unload(p);
	ck_assert_int_eq(eloq_files_close_dir_await(p->files, &p->dir), 0);
	eloq_files_close(p->files);
}

static struct eloq_change *change_begin(struct partition *p)
{
	struct eloq_change *change;

	ck_assert_int_eq(eloq_change_begin(&change, p->mapper), 0);
	return change;
}

/* Places the page as a page writer would, which makes the file known. */
static uint64_t place(struct partition *p, struct eloq_change *change, uint32_t page_id)
{
	uint64_t file_page;
	bool known;

	ck_assert_int_eq(eloq_change_place(change, page_id, &file_page), 0);
	(void)eloq_manifest_term(p->manifest, file_page >> SHIFT, &known);
	if (!known)
		ck_assert_int_eq(eloq_manifest_add_file(p->manifest, file_page >> SHIFT), 0);
	return file_page;
}

static void alloc_pages(struct partition *p, struct eloq_change *change, uint32_t count)
{
	uint32_t page_id;

	for (uint32_t i = 0; i < count; i++) {
		if (eloq_change_alloc(change, &page_id) != 0)
			ck_abort_msg("alloc");
		(void)place(p, change, page_id);
	}
}

static int commit(struct partition *p, struct eloq_change *change)
{
	int r;

	p->err = (struct eloq_errinfo){ 0 };
	r = eloq_manifest_commit_await(p->manifest, change, &p->err);
	if (r < 0)
		eloq_change_abort(change);
	else
		eloq_change_commit(change);
	return r;
}

static void commit_new_pages(struct partition *p, uint32_t count)
{
	struct eloq_change *change = change_begin(p);

	alloc_pages(p, change, count);
	eloq_change_set_roots(change, (struct eloq_roots){ 0, ELOQ_PAGE_NONE });
	ck_assert_msg(commit(p, change) == 0, "%s", p->err.text);
}

static int try_rewrite(struct partition *p, uint32_t first, uint32_t count)
{
	struct eloq_change *change = change_begin(p);

	for (uint32_t i = 0; i < count; i++)
		(void)place(p, change, first + i);
	return commit(p, change);
}

static void commit_rewrite(struct partition *p, uint32_t first, uint32_t count)
{
	ck_assert_msg(try_rewrite(p, first, count) == 0, "%s", p->err.text);
}

/* What a partition maps, to be compared. */
struct model {
	uint32_t page_ids;
	uint64_t file_pages_end;
	struct eloq_roots roots;
	uint64_t *file_pages;
};

static struct model model_take(struct partition *p)
{
	struct eloq_mapping *mapping = eloq_mapper_acquire(p->mapper);
	struct model model = { .page_ids = eloq_mapping_page_ids(mapping),
			       .file_pages_end = eloq_mapper_file_pages_end(p->mapper),
			       .roots = eloq_mapping_roots(mapping) };

	model.file_pages = malloc((model.page_ids + 1) * sizeof(uint64_t));
	for (uint32_t id = 0; id < model.page_ids; id++)
		model.file_pages[id] = eloq_mapping_get(mapping, id);
	eloq_mapping_release(mapping);
	return model;
}

static void expect_model(struct partition *p, const struct model *model)
{
	struct model now = model_take(p);

	ck_assert_uint_eq(now.roots.main, model->roots.main);
	ck_assert_uint_eq(now.roots.ttl, model->roots.ttl);
	ck_assert_uint_eq(now.file_pages_end, model->file_pages_end);
	ck_assert_uint_eq(now.page_ids, model->page_ids);
	ck_assert(!memcmp(now.file_pages, model->file_pages, now.page_ids * sizeof(uint64_t)));
	free(now.file_pages);
}

static void expect_reload(struct partition *p)
{
	struct model model = model_take(p);

	partition_reload(p);
	expect_model(p, &model);
	free(model.file_pages);
}

static void expect_corrupt(struct partition *p, const char *words)
{
	bool found;

	ck_assert_int_eq(partition_load(p, &found), -ELOQ_ECORRUPT);
	ck_assert_msg(strstr(p->err.text, "t.0/manifest_0") && strstr(p->err.text, words),
		      "\"%s\" lacks \"%s\"", p->err.text, words);
}

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
	file_put(w, name, bytes, 2 * BLOCK);
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
	bytes = file_get(w, name, &count);
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
	bytes = file_get(w, name, &count);
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

/* --- Damage ----------------------------------------------------------------------------------- */

enum { COMMITS = 6 };

struct history {
	struct model after[COMMITS]; /* after[0]: the snapshot */
	uint64_t start[COMMITS + 1]; /* of each record; the last one is the end */
	uint64_t end[COMMITS];	     /* of each record without its padding */
	uint8_t *bytes;
	size_t count;
};

/* A snapshot and five log records; the fourth and the snapshot are longer than a block. */
static struct history history_make(struct partition *p)
{
	static const uint32_t rewrites[COMMITS] = { 0, 1, 40, 1, 3000, 2 };
	struct history h;

	for (int i = 0; i < COMMITS; i++) {
		h.start[i] = eloq_manifest_bytes(p->manifest);
		if (i == 0)
			commit_new_pages(p, 5000);
		else
			commit_rewrite(p, (uint32_t)i, rewrites[i]);
		h.after[i] = model_take(p);
	}
	h.start[COMMITS] = eloq_manifest_bytes(p->manifest);
	h.bytes = file_get(p->w, name, &h.count);
	ck_assert_uint_eq(h.count, h.start[COMMITS]);
	for (int i = 0; i < COMMITS; i++)
		h.end[i] = h.start[i] + ELOQ_MANIFEST_HEADER_BYTES +
			   eloq_get_u32(h.bytes + h.start[i] + 16);
	return h;
}

static void history_free(struct history *h)
{
	for (int i = 0; i < COMMITS; i++)
		free(h->after[i].file_pages);
	free(h->bytes);
}

/* How many records survive if the file is cut to @bytes. */
static int history_intact(const struct history *h, uint64_t bytes)
{
	int intact = 0;

	while (intact < COMMITS && h->end[intact] <= bytes)
		intact++;
	return intact;
}

/* Replays the file without opening the partition. */
static void expect_cut_replay(struct partition *p, struct eloq_io_file *file,
			      const struct history *h, uint64_t bytes)
{
	struct eloq_manifest_state state = { 0 };
	int intact = history_intact(h, bytes);
	struct eloq_mapper *mapper;
	int r;

	ck_assert_int_eq(eloq_mapper_open(&mapper, false), 0);
	r = eloq_manifest_replay_await(&state, mapper, p->w->io.io, file, name, NULL);
	if (intact == 0 && r != -ELOQ_ECORRUPT)
		ck_abort_msg("cut to %d bytes: %d", (int)bytes, r);
	if (intact > 0) {
		const struct model *model = &h->after[intact - 1];

		if (r != 0 || state.bytes != h->start[intact] || state.file_bytes != bytes ||
		    state.file_pages_end != model->file_pages_end ||
		    state.page_ids != model->page_ids || state.roots.main != model->roots.main)
			ck_abort_msg("cut to %d bytes: not the state of commit %d", (int)bytes,
				     intact);
		if (eloq_mapper_load_end(mapper, state.roots, state.file_pages_end, 0) != 0)
			ck_abort_msg("cut to %d bytes: the mapping is damaged", (int)bytes);
		p->mapper = mapper;
		if (bytes % 16 == 0) /* it takes its time */
			expect_model(p, model);
		p->mapper = NULL;
	}
	eloq_manifest_state_clear(&state);
	eloq_mapper_close(mapper);
}

static bool is_near(uint64_t a, uint64_t b)
{
	return a + 48 >= b && a <= b + 48;
}

TASK_TEST(manifest_cut_anywhere_is_the_commits_that_are_whole)
{
	struct eloq_io_file *file;
	struct partition p;
	struct history h;
	uint64_t bytes;

	partition_begin(&p, w, false, BYTES_MAX);
	h = history_make(&p);
	partition_unload(&p);
	file = NULL;
	{
		struct eloq_io_req open = {
			.op = ELOQ_IO_OPEN, .file = w->io.dir, .path = name, .flags = ELOQ_IO_DIRECT
		};

		ck_assert_int_eq(eloq_task_io_await(w->io.io, &open), 0);
		file = open.ret_file;
	}
	/* Every byte of the short records and around every edge; within the long ones and in
	 * paddings, where all cuts are alike, some. */
	for (bytes = h.count + 1; bytes-- > 0;) {
		struct eloq_io_req cut = { .op = ELOQ_IO_TRUNCATE, .file = file, .offset = bytes };
		bool look = bytes % 509 == 0;

		for (int i = 0; i < COMMITS; i++)
			look |= is_near(bytes, h.start[i]) || is_near(bytes, h.end[i]);
		if (!look)
			continue;
		faults.trace_count = 0;
		ck_assert_int_eq(eloq_task_io_await(w->io.io, &cut), 0);
		expect_cut_replay(&p, file, &h, bytes);
	}
	{
		struct eloq_io_req close = { .op = ELOQ_IO_CLOSE, .file = file };

		ck_assert_int_eq(eloq_task_io_await(w->io.io, &close), 0);
	}
	history_free(&h);
	partition_end(&p);
}

/* Puts the file as damaged, loads it, expects the commits before @intact, and goes on from there.
 */
static void expect_intact_then_go_on(struct partition *p, const struct history *h,
				     const uint8_t *bytes, size_t count, int intact)
{
	uint64_t one_record = h->start[2] - h->start[1];
	bool found;

	file_put(p->w, name, bytes, count);
	ck_assert_msg(partition_load(p, &found) == 0, "%s", p->err.text);
	expect_model(p, &h->after[intact - 1]);
	ck_assert_uint_eq(eloq_manifest_bytes(p->manifest), h->start[intact]);
	commit_rewrite(p, 0, 1);
	ck_assert_int_eq(file_size(p->w, name), (int64_t)(h->start[intact] + one_record));
	expect_reload(p);
	partition_unload(p);
}

TASK_TEST(after_a_torn_tail_commits_go_on_and_the_tail_is_gone)
{
	struct partition p;
	struct history h;

	partition_begin(&p, w, false, BYTES_MAX);
	h = history_make(&p);
	partition_unload(&p);
	expect_intact_then_go_on(&p, &h, h.bytes, h.count - 1, COMMITS); /* in the padding */
	expect_intact_then_go_on(&p, &h, h.bytes, h.end[5], COMMITS);	 /* all of it gone */
	expect_intact_then_go_on(&p, &h, h.bytes, h.end[5] - 1, COMMITS - 1);
	expect_intact_then_go_on(&p, &h, h.bytes, h.start[4] + BLOCK, 4); /* a long record */
	expect_intact_then_go_on(&p, &h, h.bytes, h.start[4] + 10, 4);
	expect_intact_then_go_on(&p, &h, h.bytes, h.start[1], 1);
	history_free(&h);
	partition_end(&p);
}

TASK_TEST(flipped_bit_is_a_torn_tail_at_the_end_and_corruption_anywhere_else)
{
	struct partition p;
	struct history h;

	partition_begin(&p, w, false, BYTES_MAX);
	h = history_make(&p);
	partition_unload(&p);
	for (int i = 0; i < COMMITS; i++) {
		/* Checksum, root, length, payload. */
		const uint64_t places[] = { h.start[i], h.start[i] + 8, h.start[i] + 16,
					    h.start[i] + 19, h.end[i] - 1 };

		for (size_t j = 0; j < 5; j++) {
			h.bytes[places[j]] ^= 0x10;
			if (i == COMMITS - 1) {
				expect_intact_then_go_on(&p, &h, h.bytes, h.count, COMMITS - 1);
			} else {
				file_put(w, name, h.bytes, h.count);
				expect_corrupt(&p, i == 0 ? "offset 0: " : "is damaged, and");
			}
			h.bytes[places[j]] ^= 0x10;
		}
	}
	/* What stands in the padding means nothing. */
	memset(h.bytes + h.end[5], 0xee, h.count - h.end[5]);
	expect_intact_then_go_on(&p, &h, h.bytes, h.count, COMMITS);
	history_free(&h);
	partition_end(&p);
}

TASK_TEST(zeros_garbage_and_absurd_lengths_behind_the_end_are_cut_off)
{
	enum { TAIL = 16 << 10 };
	struct partition p;
	struct history h;
	uint8_t *longer;

	partition_begin(&p, w, false, BYTES_MAX);
	h = history_make(&p);
	partition_unload(&p);
	longer = calloc(1, h.count + TAIL);
	memcpy(longer, h.bytes, h.count);
	expect_intact_then_go_on(&p, &h, longer, h.count + TAIL, COMMITS);
	fill(longer + h.count, TAIL, 42);
	expect_intact_then_go_on(&p, &h, longer, h.count + TAIL - 77, COMMITS);
	for (uint32_t at = 0; at < TAIL; at += BLOCK)
		eloq_put_u32(longer + h.count + at + 16, UINT32_MAX - at);
	trace_clear();
	expect_intact_then_go_on(&p, &h, longer, h.count + TAIL, COMMITS);
	for (unsigned i = 0; i < faults.trace_count; i++) {
		if (faults.trace[i].op == ELOQ_IO_READ)
			ck_assert_uint_le(faults.trace[i].bytes, h.count + TAIL);
	}
	free(longer);
	history_free(&h);
	partition_end(&p);
}

TASK_TEST(empty_and_foreign_files_are_corrupt_and_never_an_empty_partition)
{
	uint8_t *bytes = calloc(2, BLOCK);
	struct partition p;

	partition_init(&p, w, false, BYTES_MAX);
	make_dir(w, "t.0");
	file_put(w, name, bytes, 0);
	expect_corrupt(&p, "the file ends within the snapshot");
	file_put(w, name, bytes, 30);
	expect_corrupt(&p, "the snapshot's checksum is wrong");
	file_put(w, name, bytes, 2 * BLOCK);
	expect_corrupt(&p, "the snapshot's checksum is wrong");
	free(bytes);
	partition_end(&p);
}

/* Snapshot by hand: page ids 0.. map to @file_pages; one data file of this id and term. */
static void put_snapshot(struct task_world *w, const uint64_t *file_pages, unsigned count,
			 uint64_t file_pages_end, uint32_t root, uint64_t file_id, uint64_t term,
			 const char *dictionary)
{
	uint8_t *bytes = calloc(1, BLOCK);
	struct eloq_manifest_writer writer;
	uint64_t record_bytes;

	eloq_manifest_writer_snapshot(&writer, bytes, BLOCK, file_pages_end, dictionary,
				      (uint32_t)strlen(dictionary));
	for (unsigned i = 0; i < count; i++)
		eloq_manifest_writer_mapping(&writer, eloq_mapping_live(file_pages[i]));
	eloq_manifest_writer_terms(&writer);
	eloq_manifest_writer_term(&writer, file_id, term);
	ck_assert_int_eq(eloq_manifest_writer_finish(&writer, root, ELOQ_PAGE_NONE, &record_bytes),
			 0);
	file_put(w, name, bytes, record_bytes);
	free(bytes);
}

TASK_TEST(intact_records_that_contradict_themselves_are_corrupt)
{
	const uint64_t shared[] = { 1, 2, 1 }, good[] = { 1, 2, 3 };
	struct partition p;

	partition_init(&p, w, false, BYTES_MAX);
	make_dir(w, "t.0");
	put_snapshot(w, shared, 3, 4, 0, 0, 0, "");
	expect_corrupt(&p, "two pages have one place");
	put_snapshot(w, good, 3, 4, 0, 1, 0, "");
	expect_corrupt(&p, "page 0 lies in data file 0, which no record names");
	put_snapshot(w, good, 3, 4, 3, 0, 0, "");
	expect_corrupt(&p, "the root, page 3, is not a live page");
	partition_end(&p);
}

TASK_TEST(dictionary_and_terms_pass_through_unchanged)
{
	static const char dictionary[] = "not really trained, but kept as it is";
	const uint64_t pages[] = { 1, 2, 3 };
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_header header;
	struct eloq_change *change;
	struct partition p;
	uint8_t *bytes;
	size_t count;
	bool found, known;

	partition_init(&p, w, false, BYTES_MAX);
	make_dir(w, "t.0");
	put_snapshot(w, pages, 3, 4, 0, 0, 5, dictionary);
	ck_assert_msg(partition_load(&p, &found) == 0, "%s", p.err.text);
	ck_assert_uint_eq(eloq_manifest_term(p.manifest, 0, &known), 5);
	ck_assert(known);
	ck_assert_uint_eq(eloq_manifest_term(p.manifest, 1, &known), 0);
	ck_assert(!known);
	commit_rewrite(&p, 0, 3);
	partition_reload(&p);
	ck_assert_uint_eq(eloq_manifest_term(p.manifest, 0, &known), 5);

	change = change_begin(&p); /* to empty: writes a snapshot */
	ck_assert_int_eq(eloq_change_free_all(change), 0);
	eloq_change_set_roots(change, (struct eloq_roots){ ELOQ_PAGE_NONE, ELOQ_PAGE_NONE });
	ck_assert_int_eq(commit(&p, change), 0);
	ck_assert_uint_eq(eloq_manifest_get_stats(p.manifest).snapshots, 1);
	bytes = file_get(w, name, &count);
	eloq_manifest_header_decode(bytes, &header);
	ck_assert_int_eq(eloq_manifest_snapshot_decode(bytes + ELOQ_MANIFEST_HEADER_BYTES,
						       header.payload_bytes, &snapshot),
			 0);
	ck_assert_int_eq(snapshot.dictionary.end - snapshot.dictionary.at, sizeof(dictionary) - 1);
	ck_assert_mem_eq(snapshot.dictionary.at, dictionary, sizeof(dictionary) - 1);
	free(bytes);
	partition_reload(&p);
	ck_assert_uint_eq(eloq_manifest_term(p.manifest, 0, &known), 5);
	partition_end(&p);
}

/* --- Files in records ------------------------------------------------------------------------- */

/* Whether the last record of the manifest names the data file. */
static bool last_record_names(struct task_world *w, uint64_t file_id)
{
	struct eloq_manifest_header header;
	struct eloq_manifest_snapshot snapshot;
	struct eloq_manifest_piece terms;
	struct eloq_manifest_log log;
	uint64_t at = 0, next = 0, id, term;
	bool named = false, manifest_named = false;
	uint8_t *bytes;
	size_t count;

	bytes = file_get(w, name, &count);
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
		file_remove(w, name);
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
		ck_assert_int_le(file_size(w, name), 5 * BLOCK);
		ck_assert_int_eq(file_size(w, name), (int64_t)eloq_manifest_bytes(p.manifest));
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
		file_remove(w, name);
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
