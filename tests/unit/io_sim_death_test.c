/*
 * io_sim_death_test.c - what power cuts and the deaths of processes leave of a simulated disk.
 */
#include "daemon/io/io_sim.h"

#include "tests/unit/io_sim_world.h"

/* ---- power cuts ------------------------------------------------------------------------- */

TEST(what_was_synced_survives_every_cut)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 8, 'x');

		write_page(&w, file, 3, 'y');
		eloq_sim_disk_cut(disk);
		ck_assert_int_eq(eloq_sim_disk_size(disk, "f"), 8 * PAGE);
		ck_assert_int_eq(bytes_of(disk, "f", 0, 3 * PAGE), 'x');
		ck_assert_int_eq(bytes_of(disk, "f", 4 * PAGE, 4 * PAGE), 'x');
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
}

TEST(a_write_without_sync_is_kept_lost_or_torn_by_sectors)
{
	unsigned kept = 0, lost = 0, torn = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 2, 'x');
		unsigned new_sectors = 0;
		struct eloq_sim_stats stats;

		write_page(&w, file, 1, 'y');
		ck_assert_int_eq(bytes_of(disk, "f", PAGE, PAGE), 'y');
		eloq_sim_disk_cut(disk);
		for (unsigned i = 0; i < PAGE / SECTOR; i++) {
			int byte = bytes_of(disk, "f", PAGE + i * SECTOR, SECTOR);

			ck_assert(byte == 'x' || byte == 'y'); /* no sector is torn itself */
			new_sectors += byte == 'y';
		}
		kept += new_sectors == PAGE / SECTOR;
		lost += new_sectors == 0;
		torn += new_sectors > 0 && new_sectors < PAGE / SECTOR;
		ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), 'x');
		eloq_sim_disk_get_stats(disk, &stats);
		ck_assert_uint_eq(stats.cuts, 1);
		ck_assert_uint_le(stats.writes_kept + stats.writes_lost + stats.writes_torn, 1);
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(kept, SEEDS / 10);
	ck_assert_uint_gt(lost, SEEDS / 10);
	ck_assert_uint_gt(torn, SEEDS / 10);
}

/* Two writes to two files: any of the four outcomes, so a later one may be there alone. */
TEST(writes_without_sync_are_lost_in_any_order)
{
	unsigned outcomes[4] = { 0 };

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *a = durable_file(&w, "a", 1, 'x');
		struct eloq_io_file *b = durable_file(&w, "b", 1, 'x');

		write_page(&w, a, 0, 'y');
		write_page(&w, b, 0, 'y');
		eloq_sim_disk_cut(disk);
		outcomes[(bytes_of(disk, "a", 0, SECTOR) == 'y') * 2 +
			 (bytes_of(disk, "b", 0, SECTOR) == 'y')]++;
		close_dead(&w, a);
		close_dead(&w, b);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_gt(outcomes[i], SEEDS / 20);
}

TEST(growth_without_sync_may_be_lost_or_come_without_its_bytes)
{
	unsigned old_size = 0, zeros = 0, whole = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
		int64_t size;

		write_page(&w, file, 1, 'y');
		eloq_sim_disk_cut(disk);
		size = eloq_sim_disk_size(disk, "f");
		ck_assert(size == PAGE || size == 2 * PAGE);
		old_size += size == PAGE;
		if (size > PAGE) {
			zeros += bytes_of(disk, "f", PAGE, PAGE) == 0;
			whole += bytes_of(disk, "f", PAGE, PAGE) == 'y';
		}
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(old_size, 0);
	ck_assert_uint_gt(zeros, 0);
	ck_assert_uint_gt(whole, 0);
}

TEST(a_truncate_without_sync_may_be_undone_and_with_sync_may_not)
{
	unsigned undone = 0, done = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 2, 'x');
		struct eloq_io_req truncate = { .op = ELOQ_IO_TRUNCATE, .file = file };

		truncate.offset = PAGE;
		ck_assert_int_eq(carry_out(&w, &truncate), 0);
		sync_file(&w, file);
		truncate.offset = 0;
		ck_assert_int_eq(carry_out(&w, &truncate), 0);
		eloq_sim_disk_cut(disk);
		undone += eloq_sim_disk_size(disk, "f") == PAGE;
		done += eloq_sim_disk_size(disk, "f") == 0;
		ck_assert_uint_eq(undone + done, seed + 1);
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(undone, 0);
	ck_assert_uint_gt(done, 0);
}

TEST(a_new_file_may_vanish_until_its_directory_is_synced)
{
	unsigned there = 0, gone = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = open_file(&w, "f", ELOQ_IO_CREATE);
		struct eloq_io_file *sure = durable_file(&w, "sure", 1, 'x');
		struct eloq_io_file *late = open_file(&w, "late", ELOQ_IO_CREATE);

		write_page(&w, late, 0, 'y');
		sync_file(&w, late); /* its bytes, not its name */
		eloq_sim_disk_cut(disk);
		ck_assert(exists(disk, "f"));
		ck_assert_int_eq(bytes_of(disk, "sure", 0, PAGE), 'x');
		if (exists(disk, "late")) {
			ck_assert_int_eq(bytes_of(disk, "late", 0, PAGE), 'y');
			there++;
		} else {
			gone++;
		}
		close_dead(&w, file);
		close_dead(&w, sure);
		close_dead(&w, late);
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(there, SEEDS / 10);
	ck_assert_uint_gt(gone, SEEDS / 10);
}

TEST(a_rename_without_directory_sync_may_vanish_but_is_never_half_done)
{
	unsigned moved = 0, unmoved = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_req rename = {
			.op = ELOQ_IO_RENAME, .file = w.dir, .path = "new", .new_path = "name"
		};

		close_file(&w, durable_file(&w, "name", 1, 'x'));
		close_file(&w, durable_file(&w, "new", 1, 'y'));
		ck_assert_int_eq(carry_out(&w, &rename), 0);
		ck_assert_int_eq(bytes_of(disk, "name", 0, PAGE), 'y');
		eloq_sim_disk_cut(disk);
		if (bytes_of(disk, "name", 0, PAGE) == 'y') {
			ck_assert(!exists(disk, "new"));
			moved++;
		} else {
			ck_assert_int_eq(bytes_of(disk, "name", 0, PAGE), 'x');
			ck_assert_int_eq(bytes_of(disk, "new", 0, PAGE), 'y');
			unmoved++;
		}
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(moved, SEEDS / 10);
	ck_assert_uint_gt(unmoved, SEEDS / 10);
}

TEST(unlinks_and_directories_are_durable_only_by_a_sync_of_their_directory)
{
	unsigned undone = 0, vanished = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		unsigned counts[2] = { 0 };

		close_file(&w, durable_file(&w, "f", 1, 'x'));
		close_file(&w, durable_file(&w, "sure", 1, 'x'));
		ck_assert_int_eq(call_named(&w, ELOQ_IO_MKDIR, "d"), 0);
		ck_assert_int_eq(call_named(&w, ELOQ_IO_UNLINK, "sure"), 0);
		sync_file(&w, w.dir);
		ck_assert_int_eq(call_named(&w, ELOQ_IO_UNLINK, "f"), 0);
		ck_assert_int_eq(call_named(&w, ELOQ_IO_MKDIR, "e"), 0);
		eloq_sim_disk_cut(disk);
		ck_assert(!exists(disk, "sure"));
		ck_assert_int_eq(eloq_sim_disk_list(disk, "d", count_name, counts), 0);
		undone += exists(disk, "f");
		vanished += eloq_sim_disk_list(disk, "e", count_name, counts) == -ENOENT;
		end_dead(&w);
		eloq_sim_disk_free(disk);
	}
	ck_assert_uint_gt(undone, 0);
	ck_assert_uint_lt(undone, SEEDS);
	ck_assert_uint_gt(vanished, 0);
	ck_assert_uint_lt(vanished, SEEDS);
}

/* A sync is for what had ended before it began. */
TEST(a_sync_does_not_cover_what_is_still_in_flight)
{
	unsigned lost = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
		char *buf = aligned(PAGE);
		unsigned done = 0;
		struct eloq_io_req write = { .op = ELOQ_IO_WRITE,
					     .file = file,
					     .buf = buf,
					     .bytes = PAGE,
					     .done = count_done,
					     .arg = &done };
		struct eloq_io_req sync = {
			.op = ELOQ_IO_SYNC, .file = file, .done = count_done, .arg = &done
		};

		memset(buf, 'y', PAGE);
		eloq_io_submit(w.io, &write);
		eloq_io_submit(w.io, &sync);
		while (done < 2)
			ck_assert_int_ge(eloq_io_turn(w.io, FOR_EVER, TURN_MAX), 0);
		ck_assert(write.result == PAGE && sync.result == 0);
		eloq_sim_disk_cut(disk);
		lost += bytes_of(disk, "f", 0, SECTOR) == 'x';
		close_dead(&w, file);
		end_dead(&w);
		eloq_sim_disk_free(disk);
		free(buf);
	}
	ck_assert_uint_gt(lost, 0);
}

TEST(the_power_goes_at_the_io_that_was_named)
{
	unsigned landed = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
		char *buf = aligned(PAGE);

		memset(buf, 'y', PAGE);
		eloq_sim_disk_cut_at_io(disk, 3);
		ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), PAGE);
		ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, file), PAGE);
		ck_assert(!eloq_io_sim_is_dead(w.io));
		ck_assert_int_eq(transfer(&w, ELOQ_IO_WRITE, file, buf, PAGE, 0), -EIO);
		ck_assert(eloq_io_sim_is_dead(w.io));
		landed += bytes_of(disk, "f", 0, SECTOR) == 'y';
		ck_assert_int_eq(transfer(&w, ELOQ_IO_READ, file, buf, PAGE, 0), -EIO);
		close_dead(&w, file);
		end_dead(&w);
		w = begin(disk);
		close_file(&w, open_file(&w, "f", 0));
		world_end(&w);
		eloq_sim_disk_free(disk);
		free(buf);
	}
	ck_assert_uint_gt(landed, 0);
	ck_assert_uint_lt(landed, SEEDS);
}

TEST(the_power_goes_at_the_time_that_was_named)
{
	struct eloq_sim_disk *disk = new_disk(9);
	const struct eloq_clock *clock = eloq_sim_disk_clock(disk);
	struct world w = begin(disk);
	uint64_t at_ns = eloq_clock_monotonic_ns(clock) + 5 * MS;

	eloq_sim_disk_cut_at_ns(disk, at_ns);
	while (call_on(&w, ELOQ_IO_SIZE, w.dir) == 0)
		ck_assert_uint_le(eloq_clock_monotonic_ns(clock), at_ns);
	ck_assert_uint_eq(eloq_clock_monotonic_ns(clock), at_ns);
	end_dead(&w);
	eloq_sim_disk_free(disk);
}

/* ---- dead processes --------------------------------------------------------------------- */

TEST(after_a_kill_writes_in_flight_land_late_or_never_and_what_ended_stays)
{
	unsigned at_once = 0, late = 0, never = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		struct world w = begin(disk);
		struct world next;
		struct eloq_io_file *file = durable_file(&w, "f", 2, 'x');
		char *buf = aligned(PAGE);
		unsigned done = 0;
		struct eloq_io_req write = { .op = ELOQ_IO_WRITE,
					     .file = file,
					     .buf = buf,
					     .bytes = PAGE,
					     .done = count_done,
					     .arg = &done };

		write_page(&w, file, 1, 'z'); /* no sync: the kernel has it, and lives */
		memset(buf, 'y', PAGE);
		eloq_io_submit(w.io, &write);
		eloq_io_sim_kill(w.io);
		ck_assert_int_eq(eloq_io_turn(w.io, 0, TURN_MAX), 1);
		ck_assert_int_eq(write.result, -EIO);
		memset(buf, '!', PAGE); /* the dead process' memory is somebody else's */
		next = begin(disk);
		at_once += bytes_of(disk, "f", 0, PAGE) == 'y';
		eloq_sim_disk_advance(disk, 110 * MS);
		if (bytes_of(disk, "f", 0, PAGE) == 'y') {
			late++;
		} else {
			ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), 'x');
			never++;
		}
		eloq_sim_disk_advance(disk, 1000 * MS);
		ck_assert_int_eq(bytes_of(disk, "f", PAGE, PAGE), 'z');
		close_dead(&w, file);
		end_dead(&w);
		world_end(&next);
		eloq_sim_disk_free(disk);
		free(buf);
	}
	ck_assert_uint_eq(at_once, 0);
	ck_assert_uint_gt(late, SEEDS / 10);
	ck_assert_uint_gt(never, SEEDS / 10);
}

TEST(a_process_dies_at_the_io_that_was_named_and_others_live)
{
	struct eloq_sim_disk *disk = new_disk(10);
	struct world w = begin(disk);
	struct world other = begin(disk);
	struct eloq_sim_stats stats;

	eloq_io_sim_kill_at_io(w.io, 2);
	ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, w.dir), 0);
	ck_assert_int_eq(call_on(&w, ELOQ_IO_SIZE, w.dir), -EIO);
	ck_assert(eloq_io_sim_is_dead(w.io) && !eloq_io_sim_is_dead(other.io));
	ck_assert_int_eq(call_on(&other, ELOQ_IO_SIZE, other.dir), 0);
	eloq_sim_disk_get_stats(disk, &stats);
	ck_assert_uint_eq(stats.kills, 1);
	ck_assert_uint_eq(stats.cuts, 0);
	end_dead(&w);
	world_end(&other);
	eloq_sim_disk_free(disk);
}

TEST(a_held_lock_is_free_only_after_the_last_late_write)
{
	enum { LOCK = 3 };
	unsigned waited = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct eloq_sim_disk *disk = new_disk(seed);
		const struct eloq_clock *clock = eloq_sim_disk_clock(disk);
		struct world w = begin(disk);
		struct world next = begin(disk);
		struct eloq_io_file *file = durable_file(&w, "f", 1, 'x');
		char *buf = aligned(PAGE);
		unsigned done = 0;
		struct eloq_io_req write = { .op = ELOQ_IO_WRITE,
					     .file = file,
					     .buf = buf,
					     .bytes = PAGE,
					     .done = count_done,
					     .arg = &done };
		uint64_t killed_ns;
		int byte;

		memset(buf, 'y', PAGE);
		ck_assert(!eloq_sim_disk_is_held(disk, LOCK));
		ck_assert_int_eq(eloq_io_hold(w.io, LOCK), 0);
		ck_assert(eloq_sim_disk_is_held(disk, LOCK));
		ck_assert(!eloq_sim_disk_is_held(disk, LOCK + 1));
		eloq_io_submit(w.io, &write);
		eloq_io_sim_kill(w.io);
		ck_assert_int_eq(eloq_io_turn(w.io, 0, TURN_MAX), 1);
		close_dead(&w, file);
		end_dead(&w);
		killed_ns = eloq_clock_monotonic_ns(clock);
		waited += eloq_sim_disk_is_held(disk, LOCK);
		eloq_sim_disk_wait_until_free(disk, LOCK);
		ck_assert_uint_le(eloq_clock_monotonic_ns(clock), killed_ns + 110 * MS);
		ck_assert_int_eq(eloq_io_hold(next.io, LOCK), 0);
		byte = bytes_of(disk, "f", 0, PAGE);
		eloq_sim_disk_advance(disk, 500 * MS);
		ck_assert_int_eq(bytes_of(disk, "f", 0, PAGE), byte);
		world_end(&next);
		ck_assert(!eloq_sim_disk_is_held(disk, LOCK));
		eloq_sim_disk_free(disk);
		free(buf);
	}
	ck_assert_uint_gt(waited, SEEDS / 10);
	ck_assert_uint_lt(waited, SEEDS);
}
