/*
 * cache_test.c - what stays in memory, what goes, and what a reader is told.
 *
 * Pages are overflow pages whose value is their own number, written to data files of 256 pages.
 */
#include "daemon/store/cache.h"

#include "daemon/format/index_page.h"
#include "daemon/format/overflow_page.h"
#include "tests/unit/task_world.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { SHIFT = 8, FILE_PAGES = 1 << SHIFT, FRAMES = ELOQ_CACHE_FRAMES_MIN, DISK_PAGES = 1024 };

struct cache_world {
	struct task_world *w;
	struct eloq_files *files;
	struct eloq_cache *cache;
	struct eloq_partition_dir dir;
};

static void page_make(uint8_t *page, uint64_t number)
{
	eloq_overflow_page_encode(page, PAGE, &number, sizeof(number), NULL, 0);
	eloq_page_seal(page, PAGE);
}

static void index_page_make(uint8_t *page, uint32_t number)
{
	struct eloq_index_builder builder;
	uint8_t *key = malloc(ELOQ_KEY_BUFFER_BYTES);

	eloq_index_builder_init(&builder, page, PAGE, 16, ELOQ_PAGE_INDEX_LEAF, number, key);
	eloq_index_builder_finish(&builder);
	eloq_page_seal(page, PAGE);
	free(key);
}

static uint64_t page_number(const struct eloq_page *page)
{
	struct eloq_overflow_view view;

	eloq_overflow_page_decode(eloq_page_bytes(page), PAGE, &view);
	ck_assert_uint_eq(view.value_bytes, 8);
	return eloq_get_u64(view.value);
}

static struct eloq_cache *open_cache(const struct cache_world *c, uint64_t frames,
				     const char **ret_note)
{
	const struct eloq_cache_opts opts = { .bytes = frames * PAGE,
					      .page_bytes = PAGE,
					      .pages_per_file_shift = SHIFT,
					      .verify_checksums = true };
	struct eloq_cache *cache;

	ck_assert_int_eq(eloq_cache_open(&cache, &opts, c->w->io.io, c->files, ret_note), 0);
	return cache;
}

static struct cache_world cache_begin(struct task_world *w)
{
	const struct eloq_files_opts files_opts = { .files_max = 16,
						    .page_bytes = PAGE,
						    .pages_per_file_shift = SHIFT };
	struct cache_world c = { .w = w, .dir = make_partition(w, "t.0", 1) };
	uint8_t *pages = aligned((size_t)FILE_PAGES * PAGE);
	const char *note;
	char name[64];

	make_dir(w, "t.0");
	for (uint64_t first = 0; first < DISK_PAGES; first += FILE_PAGES) {
		for (uint64_t i = 0; i < FILE_PAGES; i++)
			page_make(pages + i * PAGE, first + i);
		(void)snprintf(name, sizeof(name), "t.0/data_%d_0", (int)(first / FILE_PAGES));
		file_put(w, name, pages, (size_t)FILE_PAGES * PAGE);
	}
	free(pages);
	ck_assert_int_eq(eloq_files_open(&c.files, &files_opts, w->io.io), 0);
	c.cache = open_cache(&c, FRAMES, &note);
	return c;
}

/* The list head must stay where it is, so it is set up in its place. */
#define CACHE_BEGIN(c, w)                      \
	struct cache_world c = cache_begin(w); \
	eloq_list_init(&(c).dir.files)

static void cache_end(struct cache_world *c)
{
	struct eloq_cache_stats stats;

	eloq_cache_get_stats(c->cache, &stats);
	ck_assert_uint_le(stats.pages, FRAMES);
	ck_assert_uint_eq(stats.pages_max, FRAMES);
	eloq_cache_close(c->cache);
	ck_assert_uint_eq(eloq_io_stats(c->w->io.io)->registered_bytes, 0);
	ck_assert_int_eq(eloq_files_close_dir_await(c->files, &c->dir), 0);
	eloq_files_close(c->files);
}

static struct eloq_page *read_page(struct cache_world *c, uint64_t number, enum eloq_page_use use)
{
	struct eloq_errinfo err = { 0 };
	struct eloq_page *page = NULL;
	int r = eloq_cache_read_await(c->cache, &c->dir, number, 0, use, &page, &err);

	ck_assert_msg(r == 0, "page %d: %s", (int)number, err.text);
	return page;
}

/* Reads and lets go; for plain pages, looks at the content. */
static void touch(struct cache_world *c, uint64_t number, enum eloq_page_use use)
{
	struct eloq_page *page = read_page(c, number, use);

	if (eloq_page_type(eloq_page_bytes(page)) == ELOQ_PAGE_OVERFLOW &&
	    page_number(page) != number)
		ck_abort_msg("page %d holds %d", (int)number, (int)page_number(page));
	eloq_cache_unpin(c->cache, page);
}

static bool is_cached(struct cache_world *c, uint64_t number)
{
	struct eloq_page *page = eloq_cache_find(c->cache, c->dir.no, number, ELOQ_PAGE_SCAN);

	if (!page)
		return false;
	eloq_cache_unpin(c->cache, page);
	return true;
}

TASK_TEST(page_is_read_once_and_found_then)
{
	CACHE_BEGIN(c, w);
	struct eloq_cache_stats stats;

	ck_assert_ptr_null(eloq_cache_find(c.cache, 1, 300, ELOQ_PAGE_POINT));
	touch(&c, 300, ELOQ_PAGE_POINT);
	trace_clear();
	touch(&c, 300, ELOQ_PAGE_POINT);
	ck_assert(is_cached(&c, 300));
	ck_assert_uint_eq(faults.trace_count, 0);
	ck_assert_ptr_null(eloq_cache_find(c.cache, 2, 300, ELOQ_PAGE_POINT));
	eloq_cache_get_stats(c.cache, &stats);
	ck_assert_uint_eq(stats.misses, 1);
	ck_assert_uint_eq(stats.hits, 2);
	ck_assert_uint_eq(stats.pages, 1);
	cache_end(&c);
}

struct reader {
	struct cache_world *c;
	uint64_t number;
	struct eloq_page *page;
	struct eloq_errinfo err;
	int result;
};

static void read_in_task(void *arg)
{
	struct reader *reader = arg;

	reader->result = eloq_cache_read_await(reader->c->cache, &reader->c->dir, reader->number, 0,
					       ELOQ_PAGE_POINT, &reader->page, &reader->err);
}

static void yield_until_alone(struct task_world *w)
{
	while (eloq_sched_live_count(w->sched) > 1)
		eloq_task_yield_await();
}

TASK_TEST(reads_of_a_page_on_its_way_are_shared)
{
	CACHE_BEGIN(c, w);
	struct reader readers[9];

	trace_clear();
	for (int i = 0; i < 9; i++) {
		readers[i] = (struct reader){ .c = &c, .number = 5 };
		start_task(w, read_in_task, &readers[i]);
	}
	yield_until_alone(w);
	ck_assert_uint_eq(trace_count(ELOQ_IO_READ), 1);
	for (int i = 0; i < 9; i++) {
		ck_assert_int_eq(readers[i].result, 0);
		ck_assert_ptr_eq(readers[i].page, readers[0].page);
		ck_assert_uint_eq(page_number(readers[i].page), 5);
	}
	for (int i = 0; i < 9; i++)
		eloq_cache_unpin(c.cache, readers[i].page);
	cache_end(&c);
}

TASK_TEST(failure_of_a_shared_read_reaches_all_and_is_not_remembered)
{
	CACHE_BEGIN(c, w);
	struct reader readers[5];

	trace_clear();
	fail_request(ELOQ_IO_READ, 0, -EIO);
	for (int i = 0; i < 5; i++) {
		readers[i] = (struct reader){ .c = &c, .number = 257 };
		start_task(w, read_in_task, &readers[i]);
	}
	yield_until_alone(w);
	ck_assert_uint_eq(trace_count(ELOQ_IO_READ), 1);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(readers[i].result, -EIO);
		ck_assert_ptr_nonnull(strstr(readers[i].err.text, "t.0/data_1_0, offset 4096"));
	}
	touch(&c, 257, ELOQ_PAGE_POINT);
	cache_end(&c);
}

static void expect_corrupt(struct cache_world *c, uint64_t number, const char *words)
{
	struct eloq_errinfo err = { 0 };
	struct eloq_page *page;

	ck_assert_int_eq(
		eloq_cache_read_await(c->cache, &c->dir, number, 0, ELOQ_PAGE_POINT, &page, &err),
		-ELOQ_ECORRUPT);
	ck_assert_msg(strstr(err.text, words) != NULL, "\"%s\" lacks \"%s\"", err.text, words);
	ck_assert(!is_cached(c, number));
}

TASK_TEST(bad_pages_are_refused_with_file_and_offset)
{
	CACHE_BEGIN(c, w);
	uint8_t *pages = aligned(5 * PAGE);

	for (uint64_t i = 0; i < 4; i++)
		page_make(pages + i * PAGE, 512 + i);
	pages[PAGE + 2000] ^= 1;	       /* checksum */
	pages[2 * PAGE + ELOQ_PAGE_TYPE] = 77; /* right checksum, no such type */
	eloq_page_seal(pages + 2 * PAGE, PAGE);
	memset(pages + 3 * PAGE, 0, PAGE); /* a hole, or space never written */
	file_put(w, "t.0/data_2_0", pages, 4 * PAGE + 100);
	touch(&c, 512, ELOQ_PAGE_POINT);
	expect_corrupt(&c, 513, "t.0/data_2_0, offset 4096: the page's checksum");
	expect_corrupt(&c, 514, "t.0/data_2_0, offset 8192: the page's structure");
	expect_corrupt(&c, 515, "t.0/data_2_0, offset 12288: the page's checksum");
	expect_corrupt(&c, 516, "t.0/data_2_0, offset 16384: the file ends");
	expect_corrupt(&c, 700, "t.0/data_2_0, offset 770048: the file ends");
	expect_corrupt(&c, 5000, "t.0/data_19_0, offset 557056: the file is missing");
	free(pages);
	cache_end(&c);
}

TASK_TEST(pinned_pages_stay_as_they_are_under_pressure)
{
	CACHE_BEGIN(c, w);
	struct eloq_page *pinned[FRAMES / 2];

	for (int i = 0; i < FRAMES / 2; i++)
		pinned[i] = read_page(&c, (uint64_t)i, i % 2 ? ELOQ_PAGE_POINT : ELOQ_PAGE_SCAN);
	for (uint64_t i = FRAMES; i < DISK_PAGES; i++)
		touch(&c, i, i % 3 ? ELOQ_PAGE_POINT : ELOQ_PAGE_SCAN);
	for (int i = 0; i < FRAMES / 2; i++) {
		ck_assert_uint_eq(page_number(pinned[i]), (uint64_t)i);
		ck_assert_ptr_eq(read_page(&c, (uint64_t)i, ELOQ_PAGE_SCAN), pinned[i]);
		eloq_cache_unpin(c.cache, pinned[i]);
		eloq_cache_unpin(c.cache, pinned[i]);
	}
	cache_end(&c);
}

TASK_TEST(with_every_frame_pinned_a_read_waits_and_an_insertion_does_nothing)
{
	CACHE_BEGIN(c, w);
	struct eloq_page *pinned[FRAMES];
	struct reader readers[3];
	uint8_t *page = aligned(PAGE);

	for (int i = 0; i < FRAMES; i++)
		pinned[i] = read_page(&c, (uint64_t)i, ELOQ_PAGE_POINT);
	page_make(page, 900);
	eloq_cache_insert(c.cache, 1, 900, page);
	ck_assert(!is_cached(&c, 900));
	trace_clear();
	for (int i = 0; i < 3; i++) {
		readers[i] = (struct reader){ .c = &c, .number = 500, .result = 1 };
		start_task(w, read_in_task, &readers[i]);
	}
	for (int i = 0; i < 10; i++)
		eloq_task_yield_await();
	ck_assert_uint_eq(trace_count(ELOQ_IO_READ), 0);
	eloq_cache_unpin(c.cache, pinned[17]);
	yield_until_alone(w);
	ck_assert_uint_eq(trace_count(ELOQ_IO_READ), 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(readers[i].result, 0);
		ck_assert_ptr_eq(readers[i].page, pinned[17]); /* the only frame that was free */
		eloq_cache_unpin(c.cache, readers[i].page);
	}
	for (int i = 0; i < FRAMES; i++) {
		if (i != 17)
			eloq_cache_unpin(c.cache, pinned[i]);
	}
	free(page);
	cache_end(&c);
}

TASK_TEST(scan_of_everything_leaves_most_pages_of_point_reads)
{
	CACHE_BEGIN(c, w);
	int kept = 0;

	for (uint64_t i = 0; i < FRAMES; i++)
		touch(&c, i, ELOQ_PAGE_POINT);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = FRAMES; i < DISK_PAGES; i++)
			touch(&c, i, ELOQ_PAGE_SCAN);
	}
	for (uint64_t i = 0; i < FRAMES; i++)
		kept += is_cached(&c, i);
	ck_assert_int_ge(kept, FRAMES - FRAMES / 8 - 1);
	ck_assert_int_lt(kept, FRAMES); /* a scan has its share */
	cache_end(&c);
}

TASK_TEST(page_of_a_scan_that_a_point_read_wants_is_kept_as_one)
{
	CACHE_BEGIN(c, w);

	for (uint64_t i = 0; i < FRAMES; i++)
		touch(&c, i, ELOQ_PAGE_SCAN);
	touch(&c, 3, ELOQ_PAGE_POINT);
	for (uint64_t i = FRAMES; i < DISK_PAGES; i++)
		touch(&c, i, ELOQ_PAGE_SCAN);
	ck_assert(is_cached(&c, 3));
	ck_assert(!is_cached(&c, 2));
	cache_end(&c);
}

TASK_TEST(index_pages_outlive_data_pages_that_are_read_once)
{
	CACHE_BEGIN(c, w);
	uint8_t *page = aligned(PAGE);

	for (uint32_t i = 0; i < 8; i++) {
		index_page_make(page, i);
		eloq_cache_insert(c.cache, 1, 2000 + i, page);
	}
	for (uint64_t i = 0; i < DISK_PAGES; i++) {
		touch(&c, i, i % 2 ? ELOQ_PAGE_POINT : ELOQ_PAGE_SCAN);
		if (i % 100 != 0)
			continue;
		for (uint64_t j = 0; j < 8; j++)
			touch(&c, 2000 + j, ELOQ_PAGE_POINT); /* else a read of a missing file */
	}
	free(page);
	cache_end(&c);
}

TASK_TEST(insertion_replaces_and_forgetting_forgets)
{
	CACHE_BEGIN(c, w);
	uint8_t *page = aligned(PAGE);
	struct eloq_page *old, *now;

	old = read_page(&c, 9, ELOQ_PAGE_POINT);
	page_make(page, 1009);
	eloq_cache_insert(c.cache, 1, 9, page);
	now = eloq_cache_find(c.cache, 1, 9, ELOQ_PAGE_POINT);
	ck_assert_uint_eq(page_number(now), 1009);
	ck_assert_uint_eq(page_number(old), 9); /* whoever has it pinned may go on */
	eloq_cache_forget(c.cache, 1, 9);
	ck_assert(!is_cached(&c, 9));
	ck_assert_uint_eq(page_number(now), 1009);
	eloq_cache_unpin(c.cache, old);
	eloq_cache_unpin(c.cache, now);
	touch(&c, 9, ELOQ_PAGE_POINT); /* what the disk has */
	free(page);
	cache_end(&c);
}

TASK_TEST(page_forgotten_while_it_is_read_is_not_found_again)
{
	CACHE_BEGIN(c, w);
	struct reader reader = { .c = &c, .number = 9, .result = 1 };

	start_task(w, read_in_task, &reader);
	eloq_task_yield_await();
	eloq_cache_forget(c.cache, 1, 9);
	yield_until_alone(w);
	ck_assert_int_eq(reader.result, 0);
	ck_assert_uint_eq(page_number(reader.page), 9);
	eloq_cache_ref(reader.page);
	eloq_cache_unpin(c.cache, reader.page);
	ck_assert_uint_eq(page_number(reader.page), 9);
	eloq_cache_unpin(c.cache, reader.page);
	trace_clear();
	touch(&c, 9, ELOQ_PAGE_POINT);
	ck_assert_uint_eq(trace_count(ELOQ_IO_READ), 1);
	cache_end(&c);
}

TASK_TEST(partition_is_forgotten_without_the_others)
{
	CACHE_BEGIN(c, w);
	uint8_t *page = aligned(PAGE);

	page_make(page, 7);
	for (uint32_t no = 1; no <= 2; no++) {
		for (uint64_t i = 0; i < 10; i++)
			eloq_cache_insert(c.cache, no, i, page);
	}
	eloq_cache_forget_partition(c.cache, 1);
	for (uint64_t i = 0; i < 10; i++) {
		struct eloq_page *other = eloq_cache_find(c.cache, 2, i, ELOQ_PAGE_SCAN);

		ck_assert_ptr_null(eloq_cache_find(c.cache, 1, i, ELOQ_PAGE_SCAN));
		ck_assert_ptr_nonnull(other);
		eloq_cache_unpin(c.cache, other);
	}
	free(page);
	cache_end(&c);
}

TASK_TEST(too_small_a_budget_is_refused)
{
	const struct eloq_cache_opts opts = { .bytes = (FRAMES - 1) * PAGE, .page_bytes = PAGE };
	struct eloq_cache *cache;

	ck_assert_int_eq(eloq_cache_open(&cache, &opts, w->io.io, NULL, NULL), -EINVAL);
}

enum { MANY_FRAMES = 4096, CHUNK_FRAMES = (1 << 20) / PAGE };

static unsigned resident_pages(const uint8_t *base)
{
	static unsigned char is_resident[MANY_FRAMES];
	unsigned count = 0;

	ck_assert_int_eq(mincore((void *)(uintptr_t)base, (size_t)MANY_FRAMES * PAGE, is_resident),
			 0);
	for (int i = 0; i < MANY_FRAMES; i++)
		count += is_resident[i] & 1;
	return count;
}

/* Frames come in ascending order, so the first one's bytes are where the region begins. */
TASK_TEST(memory_is_touched_and_registered_no_more_than_a_chunk_ahead_of_use)
{
	static const unsigned steps[] = { 1, 2, CHUNK_FRAMES, CHUNK_FRAMES + 1, 700 };
	CACHE_BEGIN(c, w);
	struct eloq_cache *small = c.cache;
	const uint8_t *base = NULL;
	unsigned used = 0;
	const char *note;

	ck_assert_int_eq(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	c.cache = open_cache(&c, MANY_FRAMES, &note);
	ck_assert_uint_eq(eloq_io_stats(w->io.io)->registered_bytes, 0);
	for (unsigned i = 0; i < ELOQ_ARRAY_SIZE(steps); i++) {
		unsigned chunked =
			(steps[i] + CHUNK_FRAMES - 1) / CHUNK_FRAMES * (unsigned)CHUNK_FRAMES;

		for (; used < steps[i]; used++) {
			struct eloq_page *page = read_page(&c, used, ELOQ_PAGE_POINT);

			base = base ? base : eloq_page_bytes(page);
			ck_assert_ptr_eq(eloq_page_bytes(page), base + (size_t)used * PAGE);
			ck_assert_uint_eq(page_number(page), used);
			eloq_cache_unpin(c.cache, page);
		}
		ck_assert_uint_ge(resident_pages(base), used);
		ck_assert_uint_le(resident_pages(base), chunked);
		if (w->io.kind == &uring && !note)
			ck_assert_uint_eq(eloq_io_stats(w->io.io)->registered_bytes,
					  (uint64_t)chunked * PAGE);
	}
	eloq_cache_close(c.cache);
	c.cache = small;
	cache_end(&c);
}

/* A back-end whose limit is reached with the second chunk. */
static struct {
	unsigned calls;
	size_t bytes;
} limited;

static int limited_can_register(struct eloq_io *io ELOQ_UNUSED, void *base ELOQ_UNUSED,
				size_t bytes)
{
	ck_assert_uint_eq(bytes, (size_t)MANY_FRAMES * PAGE);
	return -ENOMEM;
}

static int limited_register(struct eloq_io *io ELOQ_UNUSED, void *base ELOQ_UNUSED, size_t bytes)
{
	if (limited.calls++ > 0)
		return -ENOMEM;
	limited.bytes = bytes;
	return 0;
}

static size_t limited_forget(struct eloq_io *io ELOQ_UNUSED, void *base ELOQ_UNUSED,
			     size_t bytes ELOQ_UNUSED)
{
	return limited.bytes;
}

TASK_TEST(cache_over_the_memlock_limit_says_so_and_goes_on_unregistered)
{
	const struct eloq_io_ops ops = faults.ops;
	CACHE_BEGIN(c, w);
	struct eloq_cache *small = c.cache;
	const char *note = NULL;

	faults.ops.can_register_memory = limited_can_register;
	faults.ops.register_memory = limited_register;
	faults.ops.forget_memory = limited_forget;
	c.cache = open_cache(&c, MANY_FRAMES, &note);
	ck_assert_ptr_nonnull(note);
	ck_assert_ptr_nonnull(strstr(note, "memlock"));
	for (uint64_t i = 0; i < 4 * CHUNK_FRAMES; i++)
		touch(&c, i, ELOQ_PAGE_POINT);
	ck_assert_uint_eq(limited.calls, 2);
	eloq_cache_close(c.cache);
	c.cache = small;
	faults.ops = ops;
	cache_end(&c);
}

/*
 * Random use against what must hold: a page found or read is the right one, pins are respected,
 * and no more pages are there than the budget allows.
 */
TASK_TEST(random_use_gives_the_right_pages_within_the_budget)
{
	CACHE_BEGIN(c, w);
	struct eloq_page *pinned[20] = { NULL };
	uint64_t numbers[20];
	uint8_t *page = aligned(PAGE);
	struct eloq_cache_stats stats;
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (int step = 0; step < 4000; step++) {
		uint64_t number = eloq_prng_below(&prng, eloq_prng_below(&prng, 2) ? 40 : 200);
		uint64_t slot = eloq_prng_below(&prng, 20);
		enum eloq_page_use use =
			eloq_prng_below(&prng, 2) ? ELOQ_PAGE_POINT : ELOQ_PAGE_SCAN;

		if (pinned[slot]) {
			if (page_number(pinned[slot]) != numbers[slot])
				ck_abort_msg("a pinned page changed");
			eloq_cache_unpin(c.cache, pinned[slot]);
			pinned[slot] = NULL;
		} else if (eloq_prng_below(&prng, 4) == 0) {
			page_make(page, number); /* as a commit would: same place, same page */
			eloq_cache_insert(c.cache, 1, number, page);
		} else if (eloq_prng_below(&prng, 8) == 0) {
			eloq_cache_forget(c.cache, 1, number);
		} else {
			faults.trace_count = 0;
			pinned[slot] = read_page(&c, number, use);
			numbers[slot] = number;
		}
		eloq_cache_get_stats(c.cache, &stats);
		if (stats.pages > FRAMES)
			ck_abort_msg("over the budget");
	}
	for (int i = 0; i < 20; i++) {
		if (pinned[i])
			eloq_cache_unpin(c.cache, pinned[i]);
	}
	free(page);
	cache_end(&c);
}
