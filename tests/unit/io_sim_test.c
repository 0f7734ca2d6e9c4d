/*
 * io_sim_test.c - the simulated disk is a disk, with a time of its own, and fails as it is told.
 */
#include "daemon/io/io_sim.h"

#include "tests/unit/io_sim_world.h"

/* ---- an honest disk --------------------------------------------------------------------- */

TEST(opens_makes_and_refuses_files_as_the_flags_say)
{
	struct eloq_sim_disk *disk = new_disk(1);
	struct world w = begin(disk);
	struct eloq_io_file *file = NULL;
	char *buf = aligned(PAGE);

	ck_assert_str_eq(eloq_io_backend_name(w.io), "sim");
	ck_assert_int_eq(try_open(&w, "f", 0, &file), -ENOENT);
	ck_assert_int_eq(try_open(&w, "none/f", ELOQ_IO_CREATE, &file), -ENOENT);
	file = open_file(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE | ELOQ_IO_DIRECT);
	ck_assert(!eloq_io_file_is_buffered(file));
	write_page(&w, file, 0, 'x');
	close_file(&w, file);
	ck_assert_int_eq(try_open(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE, &file), -EEXIST);
	ck_assert_int_eq(try_open(&w, "f", ELOQ_IO_DIRECTORY, &file), -ENOTDIR);
	ck_assert_int_eq(try_open(&w, ".", 0, &file), -EISDIR);
	ck_assert_int_eq(try_open(&w, "f/g", ELOQ_IO_CREATE, &file), -ENOTDIR);
	file = open_file(&w, "f", ELOQ_IO_READ_ONLY);
	ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 0), -EBADF);
	close_file(&w, file);
	file = open_file(&w, "f", ELOQ_IO_TRUNC);
	ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), 0);
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(buf);
}

TEST(goes_on_buffered_where_the_file_system_refuses_direct_io)
{
	struct eloq_sim_disk *disk =
		eloq_sim_disk_new(&(struct eloq_sim_opts){ .seed = 1, .no_direct = true });
	struct world w = begin(disk);
	struct eloq_io_file *file =
		open_file(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_EXCLUSIVE | ELOQ_IO_DIRECT);

	ck_assert(eloq_io_file_is_buffered(file));
	write_page(&w, file, 0, 'x');
	close_file(&w, file);
	ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), 'x');
	world_end(&w);
	eloq_sim_disk_free(disk);
}

TEST(reads_writes_allocates_and_truncates_as_a_file_does)
{
	enum { BYTES = PAGE + 904 };
	struct eloq_sim_disk *disk = new_disk(2);
	struct world w = begin(disk);
	struct eloq_io_file *file = open_file(&w, "f", ELOQ_IO_CREATE);
	struct eloq_io_req truncate = { .op = ELOQ_IO_TRUNCATE, .file = file, .offset = 100 };
	struct eloq_io_req allocate = {
		.op = ELOQ_IO_ALLOCATE, .file = file, .offset = PAGE, .length = 3 * PAGE
	};
	char *out = aligned(4 * PAGE);
	char *in = aligned(4 * PAGE);

	fill(out, BYTES, 1);
	ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, out, BYTES, 0), BYTES);
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, in, 4 * PAGE, 0), BYTES);
	ck_assert(!memcmp(in, out, BYTES));
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, in, PAGE, 2 * PAGE), 0);
	ck_assert_int_eq(carry_out(&w, &truncate), 0);
	ck_assert_int_eq(carry_out(&w, &allocate), 0);
	ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), 4 * PAGE);
	ck_assert_int_eq(bytes_of(disk, "f", 100, 4 * PAGE - 100), 0);
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, in, 100, 0), 100);
	ck_assert(!memcmp(in, out, 100));
	truncate.offset = UINT64_C(5) << 30;
	ck_assert_int_eq(carry_out(&w, &truncate), 0);
	ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), INT64_C(5) << 30);
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(out);
	free(in);
}

TEST(moves_removes_and_lists_names)
{
	struct eloq_sim_disk *disk = new_disk(3);
	struct world w = begin(disk);
	struct eloq_io_req rename = {
		.op = ELOQ_IO_RENAME, .file = w.dir, .path = "d/a", .new_path = "d/b"
	};
	unsigned counts[2] = { 0 };

	ck_assert_int_eq(call_named(&w, ELOQ_IO_MKDIR, "d"), 0);
	ck_assert_int_eq(call_named(&w, ELOQ_IO_MKDIR, "d"), -EEXIST);
	close_file(&w, open_file(&w, "d/a", ELOQ_IO_CREATE));
	close_file(&w, open_file(&w, "top", ELOQ_IO_CREATE));
	ck_assert_int_eq(eloq_io_list(w.io, w.dir, ".", count_name, counts), 0);
	ck_assert(counts[0] == 1 && counts[1] == 1);
	ck_assert_int_eq(eloq_sim_disk_list(disk, "d", count_name, counts), 0);
	ck_assert_uint_eq(counts[0], 2);
	ck_assert_int_eq(eloq_io_list(w.io, w.dir, "none", count_name, counts), -ENOENT);
	ck_assert_int_eq(carry_out(&w, &rename), 0);
	ck_assert_int_eq(carry_out(&w, &rename), -ENOENT);
	ck_assert(exists(disk, "d/b"));
	ck_assert_int_eq(call_named(&w, ELOQ_IO_UNLINK, "d"), -EISDIR);
	ck_assert_int_eq(call_named(&w, ELOQ_IO_RMDIR, "d"), -ENOTEMPTY);
	ck_assert_int_eq(call_named(&w, ELOQ_IO_UNLINK, "d/b"), 0);
	ck_assert_int_eq(call_named(&w, ELOQ_IO_RMDIR, "d"), 0);
	ck_assert_int_eq(eloq_sim_disk_list(disk, "d", count_name, counts), -ENOENT);
	rename.path = "top";
	rename.new_path = "moved";
	ck_assert_int_eq(carry_out(&w, &rename), 0);
	ck_assert(exists(disk, "moved"));
	world_end(&w);
	eloq_sim_disk_free(disk);
}

TEST(an_unlinked_file_lives_as_long_as_it_is_open)
{
	struct eloq_sim_disk *disk = new_disk(4);
	struct world w = begin(disk);
	struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
	char *buf = aligned(PAGE);

	ck_assert_int_eq(call_named(&w, ELOQ_IO_UNLINK, "f"), 0);
	ck_assert(!exists(disk, "f"));
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, buf, PAGE, 0), PAGE);
	ck_assert_int_eq(buf[17], 'x');
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(buf);
}

TEST(refuses_writes_when_it_is_full_and_heals_when_there_is_room)
{
	struct eloq_sim_disk *disk =
		eloq_sim_disk_new(&(struct eloq_sim_opts){ .seed = 5, .bytes_max = 4 * PAGE });
	struct world w = begin(disk);
	struct eloq_io_file *file = open_file(&w, "f", ELOQ_IO_CREATE | ELOQ_IO_DIRECT);
	struct eloq_io_req truncate = { .op = ELOQ_IO_TRUNCATE, .file = file, .offset = PAGE };
	char *buf = aligned(PAGE);

	for (unsigned i = 0; i < 4; i++)
		write_page(&w, file, i, 'x');
	ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 4 * PAGE), -ENOSPC);
	write_page(&w, file, 3, 'y');
	ck_assert_int_eq(carry_out(&w, &truncate), 0);
	write_page(&w, file, 7, 'z');
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(buf);
}

/* ---- time ------------------------------------------------------------------------------- */

TEST(time_stands_still_while_there_is_something_to_do)
{
	struct eloq_sim_disk *disk = new_disk(6);
	const struct eloq_clock *clock = eloq_sim_disk_clock(disk);
	struct world w = begin(disk);
	uint64_t start = eloq_clock_monotonic_ns(clock);
	uint64_t real = eloq_clock_realtime_us(clock);
	unsigned done = 0;
	struct eloq_io_req req = {
		.op = ELOQ_IO_SIZE, .file = w.dir, .done = count_done, .arg = &done
	};

	eloq_io_submit(w.io, &req);
	ck_assert_uint_eq(eloq_clock_monotonic_ns(clock), start);
	ck_assert_int_eq(eloq_io_turn(w.io, 0, TURN_MAX), 0);
	ck_assert_uint_eq(eloq_clock_monotonic_ns(clock), start + ELOQ_SIM_TURN_NS);
	ck_assert_int_eq(eloq_io_turn(w.io, FOR_EVER, TURN_MAX), 1);
	ck_assert_uint_eq(done, 1);
	ck_assert_uint_gt(eloq_clock_monotonic_ns(clock), start + 10 * ELOQ_SIM_TURN_NS);
	start = eloq_clock_monotonic_ns(clock);
	ck_assert_int_eq(eloq_io_turn(w.io, 7 * MS, TURN_MAX), 0);
	ck_assert_uint_eq(eloq_clock_monotonic_ns(clock), start + 7 * MS);
	ck_assert_uint_ge(eloq_clock_realtime_us(clock), real + 7000);
	world_end(&w);
	eloq_sim_disk_free(disk);
}

TEST(waiting_for_ever_for_nothing_is_an_error)
{
	struct eloq_sim_disk *disk = new_disk(7);
	struct world w = begin(disk);

	ck_assert_int_eq(eloq_io_turn(w.io, FOR_EVER, TURN_MAX), -EDEADLK);
	world_end(&w);
	eloq_sim_disk_free(disk);
}

struct ends {
	unsigned count;
	unsigned order[16];
};

struct numbered {
	struct eloq_io_req req;
	struct ends *ends;
	unsigned number;
};

static void note_end(struct eloq_io_req *req)
{
	struct numbered *numbered = req->arg;

	numbered->ends->order[numbered->ends->count++] = numbered->number;
}

TEST(requests_end_in_an_order_of_their_own)
{
	struct eloq_sim_disk *disk = new_disk(8);
	struct world w = begin(disk);
	struct numbered reqs[16];
	struct ends ends = { 0 };
	bool seen[16] = { false };
	bool in_order = true;

	for (unsigned i = 0; i < 16; i++) {
		reqs[i] = (struct numbered){ .ends = &ends, .number = i };
		reqs[i].req = (struct eloq_io_req){
			.op = ELOQ_IO_SIZE, .file = w.dir, .done = note_end, .arg = &reqs[i]
		};
		eloq_io_submit(w.io, &reqs[i].req);
	}
	while (ends.count < 16)
		ck_assert_int_ge(eloq_io_turn(w.io, FOR_EVER, TURN_MAX), 0);
	for (unsigned i = 0; i < 16; i++) {
		ck_assert(!seen[ends.order[i]]);
		seen[ends.order[i]] = true;
		in_order &= ends.order[i] == i;
	}
	ck_assert(!in_order);
	world_end(&w);
	eloq_sim_disk_free(disk);
}

/* A little of everything; returns the trace's hash. */
static uint64_t run_mixture(uint64_t seed, FILE *trace)
{
	struct eloq_sim_disk *disk = new_disk(seed);
	struct world w = begin(disk);
	struct eloq_io_file *file;
	uint64_t hash;

	eloq_sim_disk_trace_to(disk, trace);
	file = durable_file(&w, "f", 4, 'a');
	for (unsigned i = 0; i < 10; i++)
		write_page(&w, file, i % 5, 'b' + (int)i);
	(void)call_named(&w, ELOQ_IO_MKDIR, "d");
	eloq_sim_disk_cut(disk);
	close_dead(&w, file);
	end_dead(&w);
	w = begin(disk);
	file = open_file(&w, "f", 0);
	for (unsigned i = 0; i < 5; i++) {
		char buf[PAGE];

		(void)transfer(&w, ELOQ_IO_READ, file, buf, PAGE, i * PAGE);
	}
	close_file(&w, file);
	world_end(&w);
	hash = eloq_sim_disk_trace_hash(disk);
	eloq_sim_disk_free(disk);
	return hash;
}

static char *trace_text(uint64_t seed, uint64_t *ret_hash)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);

	ck_assert_ptr_nonnull(file);
	*ret_hash = run_mixture(seed, file);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

TEST(one_seed_is_one_run_and_another_seed_another)
{
	uint64_t first, second, other;
	char *a = trace_text(1, &first);
	char *b = trace_text(1, &second);
	char *c = trace_text(2, &other);

	ck_assert_uint_gt(strlen(a), 1000);
	ck_assert_str_eq(a, b);
	ck_assert_str_ne(a, c);
	ck_assert_uint_eq(first, second);
	ck_assert_uint_ne(first, other);
	ck_assert_uint_eq(run_mixture(1, NULL), first);
	free(a);
	free(b);
	free(c);
}

/* ---- faults ----------------------------------------------------------------------------- */

TEST(a_fault_hits_the_nth_of_its_kind_and_no_other)
{
	struct eloq_sim_disk *disk = new_disk(11);
	struct world w = begin(disk);
	struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
	char *buf = aligned(PAGE);
	struct eloq_sim_stats stats;

	memset(buf, 'y', PAGE);
	eloq_sim_disk_add_fault(disk,
				&(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_WRITE),
							  .nth = 3,
							  .count = 2,
							  .error = -ENOSPC });
	eloq_sim_disk_add_fault(
		disk, &(struct eloq_sim_fault){
			      .kinds = ELOQ_SIM_KIND(ELOQ_IO_READ), .nth = 1, .error = -EIO });
	eloq_sim_disk_add_fault(
		disk, &(struct eloq_sim_fault){
			      .kinds = ELOQ_SIM_KIND(ELOQ_SIM_LIST), .nth = 1, .error = -EIO });
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, buf, PAGE, 0), -EIO);
	for (int i = 1; i <= 8; i++) {
		int64_t r = transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 0);

		ck_assert_int_eq(r, i == 3 || i == 4 ? -ENOSPC : PAGE);
		ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), PAGE);
	}
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, buf, PAGE, 0), PAGE);
	ck_assert_int_eq(eloq_io_list(w.io, w.dir, ".", count_name, (unsigned[2]){ 0 }), -EIO);
	ck_assert_int_eq(eloq_io_list(w.io, w.dir, ".", count_name, (unsigned[2]){ 0 }), 0);
	eloq_sim_disk_get_stats(disk, &stats);
	ck_assert_uint_eq(stats.faults, 4);
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(buf);
}

TEST(random_faults_come_at_their_rate_until_they_are_cleared)
{
	struct eloq_sim_disk *disk = new_disk(12);
	struct world w = begin(disk);
	unsigned failed = 0;

	eloq_sim_disk_add_fault(disk,
				&(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_SYNC),
							  .per_million = 250000,
							  .error = -EIO });
	for (int i = 0; i < 400; i++)
		failed += call_on(&w, ELOQ_IO_SYNC, w.dir) == -EIO;
	ck_assert(failed > 60 && failed < 140);
	eloq_sim_disk_clear_faults(disk);
	for (int i = 0; i < 100; i++)
		sync_file(&w, w.dir);
	world_end(&w);
	eloq_sim_disk_free(disk);
}

TEST(a_write_that_failed_with_eio_may_be_there_and_one_with_enospc_is_not)
{
	unsigned there = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
		struct eloq_sim_fault fault = { .kinds = ELOQ_SIM_KIND(ELOQ_IO_WRITE),
						.nth = 1,
						.error = -ENOSPC };
		char *buf = aligned(PAGE);

		memset(buf, 'y', PAGE);
		eloq_sim_disk_add_fault(disk, &fault);
		ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 0), -ENOSPC);
		ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), 'x');
		fault.error = -EIO;
		eloq_sim_disk_add_fault(disk, &fault);
		ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 0), -EIO);
		there += bytes_of(disk, "f", 0, SECTOR) == 'y';
		close_file(&w, file);
		world_end(&w);
		eloq_sim_disk_free(disk);
		free(buf);
	}
	ck_assert_uint_gt(there, 0);
	ck_assert_uint_lt(there, SEEDS);
}

/* fsyncgate: the pages are clean after the failure, and the next sync says that all is well. */
TEST(after_a_failed_sync_the_next_one_succeeds_and_saves_nothing)
{
	unsigned lost = 0, saved = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 2, 'x');

		write_page(&w, file, 0, 'y');
		eloq_sim_disk_add_fault(
			disk, &(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_SYNC),
							.nth = 1,
							.error = -EIO });
		ck_assert_int_eq(call_on(&w, ELOQ_IO_SYNC, file), -EIO);
		ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), 'y'); /* still in the cache */
		write_page(&w, file, 1, 'z');
		sync_file(&w, file);
		eloq_sim_disk_cut(disk);
		if (bytes_of(disk, "f", 0, PAGE) == 'y')
			saved++;
		else
			lost++;
		ck_assert_int_eq(bytes_of(disk, "f", PAGE, PAGE), 'z');
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(lost, SEEDS / 10);
	ck_assert_uint_gt(saved, SEEDS / 10);
}

TEST(what_a_failed_sync_lost_is_gone_for_the_next_process)
{
	unsigned forgotten = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');

		write_page(&w, file, 0, 'y');
		eloq_sim_disk_add_fault(
			disk, &(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_SYNC),
							.nth = 1,
							.error = -EIO });
		ck_assert_int_eq(call_on(&w, ELOQ_IO_SYNC, file), -EIO);
		eloq_io_sim_kill(w.io);
		forgotten += bytes_of(disk, "f", 0, SECTOR) == 'x';
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(forgotten, SEEDS / 10);
	ck_assert_uint_lt(forgotten, SEEDS);
}

TEST(short_and_interrupted_transfers_are_continued_until_all_is_moved)
{
	const unsigned flags[] = { ELOQ_IO_CREATE, ELOQ_IO_CREATE | ELOQ_IO_DIRECT };
	struct eloq_sim_disk *disk = new_disk(13);
	struct world w = begin(disk);
	struct eloq_sim_stats stats;
	char *out = aligned(BIG);
	char *in = aligned(BIG);

	eloq_sim_disk_set_short_transfers(disk, 500000);
	eloq_sim_disk_add_fault(disk,
				&(struct eloq_sim_fault){ .kinds = ELOQ_SIM_KIND(ELOQ_IO_WRITE) |
								   ELOQ_SIM_KIND(ELOQ_IO_READ),
							  .per_million = 100000,
							  .error = -EINTR });
	for (unsigned i = 0; i < 50; i++) {
		struct eloq_io_file *file = open_file(&w, i % 2 ? "direct" : "plain", flags[i % 2]);

		fill(out, BIG, i);
		ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, out, BIG, PAGE), BIG);
		ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, in, BIG, PAGE), BIG);
		ck_assert(!memcmp(in, out, BIG));
		close_file(&w, file);
	}
	eloq_sim_disk_get_stats(disk, &stats);
	ck_assert_uint_gt(stats.short_transfers, 50);
	ck_assert_uint_gt(stats.faults, 10);
	ck_assert_uint_gt(stats.ios[ELOQ_IO_WRITE], 100);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(out);
	free(in);
}

TEST(a_rotten_sector_reads_wrong_by_one_bit_until_it_is_written)
{
	struct eloq_sim_disk *disk = new_disk(14);
	struct world w = begin(disk);
	struct eloq_io_file *file = durable_file(&w, "f", 2, 0);
	uint8_t *buf = aligned(2 * PAGE);
	int bits = 0;

	ck_assert_int_eq(eloq_sim_disk_rot(disk, "none", 0), -ENOENT);
	ck_assert_int_eq(eloq_sim_disk_rot(disk, "f", PAGE + SECTOR + 7), 0);
	ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, buf, 2 * PAGE, 0), 2 * PAGE);
	for (unsigned i = 0; i < 2 * PAGE; i++) {
		ck_assert(!buf[i] || (i >= PAGE + SECTOR && i < PAGE + 2 * SECTOR));
		bits += __builtin_popcount(buf[i]);
	}
	ck_assert_int_eq(bits, 1);
	write_page(&w, file, 1, 'y');
	ck_assert_int_eq(bytes_of(disk, "f", PAGE, PAGE), 'y');
	close_file(&w, file);
	world_end(&w);
	eloq_sim_disk_free(disk);
	free(buf);
}
