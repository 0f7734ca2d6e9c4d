/*
 * store_failures_test.c - a full disk, a failed sync, damaged files: what fails says so, and harms
 * nothing else.
 */
#include "common/limits.h"
#include "daemon/store/store.h"
#include "tests/support/store_world.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct store_world world;

enum { LONG_VALUE_BYTES = ELOQ_SHORT_VALUE_BYTES_MAX + 10000 };

static uint8_t long_value[LONG_VALUE_BYTES];

/* --- Writes and syncs that fail --------------------------------------------------------------- */

/* No file may grow beyond what it has: writes fail, as on a full disk. */
static void write_on_full_disk(void *arg)
{
	static uint8_t large[64 << 10];
	struct rlimit before, none;
	struct eloq_write_entry entries[2] = {
		{ .key = (const uint8_t *)"a",
		  .key_bytes = 1,
		  .value = (const uint8_t *)"new",
		  .value_bytes = 3,
		  .timestamp_auto = true },
		{ .key = (const uint8_t *)"b",
		  .key_bytes = 1,
		  .value = large,
		  .value_bytes = sizeof(large),
		  .timestamp_auto = true },
	};
	struct eloq_write write = {
		.kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = entries, .entry_count = 2
	};
	struct eloq_errinfo error = { 0 };

	(void)arg;
	store_world_put(&world, 1, 0, "a", "old", 3, 0);
	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = before;
	none.rlim_cur = 4096;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, &error), -EFBIG);
	ck_assert_int_ne(error.text[0], 0);
	/* A partition that fails with its first write does not exist. */
	write.partition = 1;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, &error), -EFBIG);
	store_world_expect(&world, 1, 1, "a", NULL, 0);
	ck_assert(!eloq_store_is_poisoned(world.store));
	store_world_expect(&world, 1, 0, "a", "old", 3);
	store_world_expect(&world, 1, 0, "b", NULL, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void read_old(void *arg)
{
	(void)arg;
	store_world_expect(&world, 1, 0, "a", "old", 3);
	store_world_put(&world, 1, 0, "a", "new", 3, 0);
	store_world_expect(&world, 1, 0, "a", "new", 3);
}

TEST(a_commit_that_fails_leaves_everything_as_it_was)
{
	store_world_init(&world);
	store_world_session(&world, write_on_full_disk, NULL);
	(void)store_world_check(&world, 0, "t.0", true);
	store_world_session(&world, read_old, NULL);
	(void)store_world_check(&world, 0, "t.0", true);
}

TEST(after_a_commit_that_failed_the_next_one_may_succeed)
{
	store_world_init(&world);
	store_world_open_table(&world);
	store_world_run(&world, write_on_full_disk, NULL);
	store_world_run(&world, read_old, NULL);
	store_world_close(&world);
	(void)store_world_check(&world, 0, "t.0", true);
}

/* Stands before the C library's: the n-th sync from now fails, as that of a dying disk. */
static unsigned syncs_until_failure;

int fdatasync(int fd)
{
	if (syncs_until_failure > 0 && --syncs_until_failure == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static void fail_sync(void *arg)
{
	const unsigned *which = arg;
	struct eloq_write_entry entry = { .key = (const uint8_t *)"a",
					  .key_bytes = 1,
					  .value = (const uint8_t *)"new",
					  .value_bytes = 3,
					  .timestamp_auto = true };
	struct eloq_write write = {
		.kind = ELOQ_WRITE_BATCH, .table_id = 1, .entries = &entry, .entry_count = 1
	};

	store_world_put(&world, 1, 0, "a", "old", 3, 0);
	ck_assert(!eloq_store_is_poisoned(world.store));
	syncs_until_failure = *which;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_EFAILED_SYNC);
	ck_assert_uint_eq(syncs_until_failure, 0);
	ck_assert(eloq_store_is_poisoned(world.store));
	/* Nothing is tried again as if it had not happened, in no partition. */
	write.partition = 1;
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, NULL), -ELOQ_EFAILED_SYNC);
	store_world_expect(&world, 1, 0, "a", "old", 3);
}

static void read_old_or_new(void *arg)
{
	struct eloq_store_value value;

	(void)arg;
	ck_assert_int_eq(
		eloq_store_get_await(world.store, 1, 0, (const uint8_t *)"a", 1, 0, &value, NULL),
		0);
	ck_assert(memcmp(value.data, "old", 3) == 0 || memcmp(value.data, "new", 3) == 0);
	eloq_store_value_release(world.store, &value);
	store_world_put(&world, 1, 0, "a", "next", 4, 0);
	store_world_expect(&world, 1, 0, "a", "next", 4);
}

/* First the data's sync fails, then the manifest's. */
TEST(a_failed_sync_poisons_the_store_until_it_is_opened_again)
{
	for (unsigned which = 1; which <= 2; which++) {
		store_world_init(&world);
		store_world_session(&world, fail_sync, &which);
		store_world_session(&world, read_old_or_new, NULL);
		(void)store_world_check(&world, 0, "t.0", true);
	}
}

/* --- Damage ----------------------------------------------------------------------------------- */

static void write_three_partitions(void *arg)
{
	(void)arg;
	for (uint32_t p = 0; p < 9; p += 4) {
		store_world_put(&world, 1, p, "key", "value", 5, 0);
		store_world_put(&world, 1, p, "long", long_value, LONG_VALUE_BYTES, 0);
	}
}

/* Changes one byte of a file. */
static void damage(const char *name, off_t offset)
{
	char path[512];
	uint8_t byte;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", world.root_paths[0], name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x10;
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	(void)close(fd);
}

static void fail_named(uint32_t partition, const char *key, const char *file, const char *offset)
{
	struct eloq_store_value value;
	struct eloq_errinfo error = { 0 };

	/* Again and again: a read that failed holds none of the places for long ones. */
	for (unsigned i = 0; i <= ELOQ_LONG_READS_MAX; i++) {
		ck_assert_int_eq(eloq_store_get_await(world.store, 1, partition,
						      (const uint8_t *)key, (uint32_t)strlen(key),
						      0, &value, &error),
				 -ELOQ_ECORRUPT);
		ck_assert_msg(strstr(error.text, file) && strstr(error.text, offset), "%s",
			      error.text);
	}
}

static void read_damaged(void *arg)
{
	struct eloq_write_entry entry = { .key = (const uint8_t *)"key", .key_bytes = 3 };
	struct eloq_write write = { .kind = ELOQ_WRITE_BATCH,
				    .table_id = 1,
				    .partition = 4,
				    .entries = &entry,
				    .entry_count = 1 };
	struct eloq_errinfo error = { 0 };

	(void)arg;
	fail_named(0, "long", "t.0/data_0_0", "12288");
	store_world_expect(&world, 1, 0, "key", "value", 5);
	fail_named(4, "key", "manifest_0", "0");
	ck_assert_int_eq(eloq_store_write_await(world.store, &write, &error), -ELOQ_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(error.text, "manifest_0"));
	store_world_expect(&world, 1, 8, "key", "value", 5);
	store_world_expect(&world, 1, 8, "long", long_value, LONG_VALUE_BYTES);
}

TEST(damage_is_named_with_file_and_offset_and_harms_one_partition_only)
{
	store_world_init(&world);
	store_world_session(&world, write_three_partitions, NULL);
	/* Each put was a commit of its own: 0, 1 are leaf and root, 2, 3, 4 the long value. */
	damage("t.0/data_0_0", 3 * 4096 + 100);
	damage("t.4/manifest_0", 30);
	store_world_session(&world, read_damaged, NULL);
}
