/*
 * manifest_replay_test.c - what is left of commits after any damage to the file.
 */
#include "daemon/store/manifest_replay.h"

#include "tests/unit/hex.h"
#include "tests/unit/manifest_world.h"

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
	h.bytes = file_get(p->w, MANIFEST_NAME, &h.count);
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

static struct eloq_io_file *open_manifest(struct task_world *w)
{
	struct eloq_io_req open = { .op = ELOQ_IO_OPEN,
				    .file = w->io.dir,
				    .path = MANIFEST_NAME,
				    .flags = ELOQ_IO_DIRECT };

	ck_assert_int_eq(eloq_task_io_await(w->io.io, &open), 0);
	return open.ret_file;
}

static void close_manifest(struct task_world *w, struct eloq_io_file *file)
{
	struct eloq_io_req close = { .op = ELOQ_IO_CLOSE, .file = file };

	ck_assert_int_eq(eloq_task_io_await(w->io.io, &close), 0);
}

/* The format document's first example: links of a free list, a log record that frees a page. */
static const char golden_snapshot[] = "28 44 7c 25 13 c2 5a 3d 01 00 00 00 ff ff ff ff"
				      "1b 00 00 00 03 00 04 00 00 00 01 11 07 12 0d 00"
				      "00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00";
static const char golden_log[] = "2d ef aa 85 b5 66 25 41 01 00 00 00 ff ff ff ff"
				 "1c 00 00 00 07 00 00 00 00 19 01 c1 0c 02 07 0d"
				 "00 00 00 00 00 fe ff ff ff ff ff ff ff ff 01 00";

TASK_TEST(golden_records_replay_to_what_they_say)
{
	uint8_t *bytes = hex_bytes(golden_snapshot, 2 * BLOCK), *log = hex_bytes(golden_log, BLOCK);
	struct eloq_manifest_state state = { 0 };
	struct eloq_mapper *mapper;
	struct eloq_mapping *mapping;
	struct eloq_io_file *file;

	memcpy(bytes + BLOCK, log, BLOCK);
	make_dir(w, "t.0");
	file_put(w, MANIFEST_NAME, bytes, 2 * BLOCK);
	file = open_manifest(w);
	ck_assert_int_eq(eloq_mapper_open(&mapper, false), 0);
	ck_assert_int_eq(
		eloq_manifest_replay_await(&state, mapper, w->io.io, file, MANIFEST_NAME, NULL), 0);
	ck_assert_uint_eq(state.roots.main, 1);
	ck_assert_uint_eq(state.roots.ttl, ELOQ_PAGE_NONE);
	ck_assert_uint_eq(state.page_ids, 4);
	ck_assert_uint_eq(state.file_pages_end, 201);
	ck_assert_uint_eq(state.log_records, 1);
	ck_assert_uint_eq(state.snapshot_bytes, BLOCK);
	ck_assert_uint_eq(state.bytes, 2 * BLOCK);
	ck_assert_uint_eq(state.terms.count, 1);
	ck_assert_int_eq(eloq_mapper_load_end(mapper, state.roots, state.file_pages_end, 0), 0);
	mapping = eloq_mapper_acquire(mapper);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 0), 3);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 1), 200);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 2), ELOQ_FILE_PAGE_NONE);
	ck_assert_uint_eq(eloq_mapping_get(mapping, 3), ELOQ_FILE_PAGE_NONE);
	eloq_mapping_release(mapping);
	eloq_mapper_close(mapper);
	eloq_manifest_state_clear(&state);
	close_manifest(w, file);
	free(bytes);
	free(log);
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
	r = eloq_manifest_replay_await(&state, mapper, p->w->io.io, file, MANIFEST_NAME, NULL);
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
	file = open_manifest(w);
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
	close_manifest(w, file);
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

	file_put(p->w, MANIFEST_NAME, bytes, count);
	ck_assert_msg(partition_load(p, &found) == 0, "%s", p->err.text);
	expect_model(p, &h->after[intact - 1]);
	ck_assert_uint_eq(eloq_manifest_bytes(p->manifest), h->start[intact]);
	commit_rewrite(p, 0, 1);
	ck_assert_int_eq(file_size(p->w, MANIFEST_NAME), (int64_t)(h->start[intact] + one_record));
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
				file_put(w, MANIFEST_NAME, h.bytes, h.count);
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
	file_put(w, MANIFEST_NAME, bytes, 0);
	expect_corrupt(&p, "the file ends within the snapshot");
	file_put(w, MANIFEST_NAME, bytes, 30);
	expect_corrupt(&p, "the snapshot's checksum is wrong");
	file_put(w, MANIFEST_NAME, bytes, 2 * BLOCK);
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
	file_put(w, MANIFEST_NAME, bytes, record_bytes);
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
	bytes = file_get(w, MANIFEST_NAME, &count);
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
