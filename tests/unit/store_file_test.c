/*
 * store_file_test.c - STORE: what was saved comes back, and nothing else is believed.
 */
#include "daemon/supervisor/store_file.h"

#include "common/checksum.h"
#include "common/coding.h"
#include "common/fd.h"
#include "common/prng.h"
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct eloq_store_file sample(void)
{
	struct eloq_store_file store = {
		.page_bytes = 4096,
		.pages_per_file_shift = 18,
		.overflow_pointers = 16,
		.append_mode = 1,
		.shard_count = 2,
		.next_table = 1,
		.incarnation = 7,
		.session_end = 2048,
		.timestamp_end_us = UINT64_C(1760000000000000),
	};

	for (unsigned i = 0; i < sizeof(store.uuid); i++)
		store.uuid[i] = (uint8_t)(i * 17);
	ck_assert_int_eq(eloq_store_file_add_path(&store, "data"), 0);
	ck_assert_int_eq(eloq_store_file_add_path(&store, "/mnt/disk b"), 0);
	ck_assert_int_eq(eloq_store_file_add_table(&store, "default", 16, 0, 0), 0);
	ck_assert_int_eq(
		eloq_store_file_add_table(&store, "old.one", 0, 1, ELOQ_STORE_FILE_ADOPTED), 0);
	ck_assert_int_eq(eloq_store_file_add_table(&store, "gone", 4, 1, ELOQ_STORE_FILE_DROPPING),
			 0);
	return store;
}

static void check_equal(const struct eloq_store_file *a, const struct eloq_store_file *b)
{
	ck_assert_mem_eq(a->uuid, b->uuid, sizeof(a->uuid));
	ck_assert_uint_eq(a->page_bytes, b->page_bytes);
	ck_assert_uint_eq(a->pages_per_file_shift, b->pages_per_file_shift);
	ck_assert_uint_eq(a->overflow_pointers, b->overflow_pointers);
	ck_assert_uint_eq(a->append_mode, b->append_mode);
	ck_assert_uint_eq(a->shard_count, b->shard_count);
	ck_assert_uint_eq(a->next_table, b->next_table);
	ck_assert_uint_eq(a->incarnation, b->incarnation);
	ck_assert_uint_eq(a->session_end, b->session_end);
	ck_assert_uint_eq(a->timestamp_end_us, b->timestamp_end_us);
	ck_assert_uint_eq(a->path_count, b->path_count);
	for (uint32_t i = 0; i < a->path_count; i++)
		ck_assert_str_eq(a->paths[i], b->paths[i]);
	ck_assert_uint_eq(a->table_count, b->table_count);
	if (a->table_count)
		ck_assert_mem_eq(a->tables, b->tables, a->table_count * sizeof(*a->tables));
}

TEST(what_was_saved_comes_back)
{
	int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct eloq_store_file store = sample(), loaded = { 0 };
	struct eloq_errinfo error = { 0 };
	struct stat st;

	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, &error), -ENOENT);
	ck_assert_int_eq(eloq_store_file_save(dir, &store, &error), 0);
	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, &error), 0);
	check_equal(&store, &loaded);
	eloq_store_file_free(&loaded);
	store.incarnation++;
	ck_assert_int_eq(eloq_store_file_save(dir, &store, &error), 0);
	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, &error), 0);
	check_equal(&store, &loaded);
	ck_assert_int_eq(fstatat(dir, "STORE", &st, 0), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_lt(fstatat(dir, "STORE.tmp", &st, 0), 0);
	eloq_store_file_free(&loaded);
	eloq_store_file_free(&store);
	eloq_fd_close(dir);
}

/* As written down in docs/format.md, byte by byte. */
TEST(the_bytes_are_those_of_the_format_document)
{
	struct eloq_store_file store = sample();
	uint8_t *bytes = NULL;
	size_t count = 0;

	ck_assert_int_eq(eloq_store_file_encode(&store, &bytes, &count), 0);
	ck_assert_uint_eq(count, 88 + (4 + 4) + (4 + 11) + (20 + 7) + (20 + 7) + (20 + 4) + 8);
	ck_assert_mem_eq(bytes, "ELOQSTOR", 8);
	ck_assert_uint_eq(eloq_get_u32(bytes + 8), 1);
	ck_assert_uint_eq(eloq_get_u32(bytes + 12), count);
	ck_assert_mem_eq(bytes + 16, store.uuid, 16);
	ck_assert_uint_eq(eloq_get_u32(bytes + 32), 4096);
	ck_assert_uint_eq(eloq_get_u32(bytes + 36), 18);
	ck_assert_uint_eq(eloq_get_u32(bytes + 40), 16);
	ck_assert_uint_eq(eloq_get_u32(bytes + 44), 1);
	ck_assert_uint_eq(eloq_get_u32(bytes + 48), 2);
	ck_assert_uint_eq(eloq_get_u32(bytes + 52), 4);
	ck_assert_uint_eq(eloq_get_u32(bytes + 56), 7);
	ck_assert_uint_eq(eloq_get_u32(bytes + 60), 0);
	ck_assert_uint_eq(eloq_get_u64(bytes + 64), 2048);
	ck_assert_uint_eq(eloq_get_u64(bytes + 72), UINT64_C(1760000000000000));
	ck_assert_uint_eq(eloq_get_u32(bytes + 80), 2);
	ck_assert_uint_eq(eloq_get_u32(bytes + 84), 3);
	ck_assert_mem_eq(bytes + 88, "\4\0\0\0data\13\0\0\0/mnt/disk b", 23);
	ck_assert_mem_eq(bytes + 111, "\1\0\0\0\20\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0default", 27);
	ck_assert_uint_eq(eloq_get_u64(bytes + count - 8), eloq_checksum_xxh3(bytes, count - 8));
	free(bytes);
	eloq_store_file_free(&store);
}

TEST(a_newer_version_is_refused_by_name)
{
	struct eloq_store_file store = sample(), loaded = { 0 };
	struct eloq_errinfo error = { 0 };
	uint8_t *bytes = NULL;
	size_t count = 0;

	ck_assert_int_eq(eloq_store_file_encode(&store, &bytes, &count), 0);
	eloq_put_u32(bytes + 8, 2);
	eloq_put_u64(bytes + count - 8, eloq_checksum_xxh3(bytes, count - 8));
	ck_assert_int_eq(eloq_store_file_decode(bytes, count, &loaded, &error), -ELOQ_EVERSION);
	ck_assert_ptr_nonnull(strstr(error.text, "version 2"));
	ck_assert_ptr_nonnull(strstr(error.text, "version 1"));
	free(bytes);
	eloq_store_file_free(&store);
}

TEST(every_flipped_bit_and_every_cut_is_refused)
{
	struct eloq_store_file store = sample(), loaded = { 0 };
	struct eloq_errinfo error;
	uint8_t *bytes = NULL;
	size_t count = 0;

	ck_assert_int_eq(eloq_store_file_encode(&store, &bytes, &count), 0);
	for (size_t bit = 0; bit < count * 8; bit++) {
		int r;

		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		r = eloq_store_file_decode(bytes, count, &loaded, &error);
		ck_assert(r == -ELOQ_ECORRUPT || r == -ELOQ_EVERSION);
		ck_assert_ptr_nonnull(strstr(error.text, "STORE"));
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < count; cut++)
		ck_assert_int_eq(eloq_store_file_decode(bytes, cut, &loaded, &error),
				 -ELOQ_ECORRUPT);
	free(bytes);
	eloq_store_file_free(&store);
}

/* The checksum is put right again, so that the checks behind it are reached. What is accepted
 * then is encoded again to the same bytes: nothing was read that is not understood. */
TEST(random_contents_under_a_right_checksum_are_refused_or_understood)
{
	struct eloq_store_file store = sample(), loaded = { 0 };
	struct eloq_prng prng;
	uint8_t *bytes = NULL, *copy = NULL, *again = NULL;
	size_t count = 0, again_count = 0;
	unsigned refused = 0, accepted = 0;

	eloq_prng_seed(&prng, test_seed());
	ck_assert_int_eq(eloq_store_file_encode(&store, &bytes, &count), 0);
	copy = malloc(count);
	ck_assert_ptr_nonnull(copy);
	for (unsigned round = 0; round < 20000; round++) {
		memcpy(copy, bytes, count);
		for (uint64_t n = 1 + eloq_prng_below(&prng, 3); n; n--)
			copy[16 + eloq_prng_below(&prng, count - 24)] =
				(uint8_t)eloq_prng_next(&prng);
		eloq_put_u32(copy + 60, 0);
		eloq_put_u64(copy + count - 8, eloq_checksum_xxh3(copy, count - 8));
		if (eloq_store_file_decode(copy, count, &loaded, NULL) < 0) {
			refused++;
			continue;
		}
		accepted++;
		ck_assert_int_eq(eloq_store_file_encode(&loaded, &again, &again_count), 0);
		ck_assert_uint_eq(again_count, count);
		ck_assert_mem_eq(again, copy, count);
		free(again);
		eloq_store_file_free(&loaded);
	}
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_gt(accepted, 0);
	free(copy);
	free(bytes);
	eloq_store_file_free(&store);
}

TEST(table_ids_are_never_reused_and_names_are_unique)
{
	struct eloq_store_file store = sample();
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 2];

	ck_assert_int_eq(eloq_store_file_add_table(&store, "gone", 1, 0, 0), -ELOQ_EEXISTS);
	eloq_store_file_remove_table(&store, 3);
	ck_assert_ptr_null(eloq_store_file_find_name(&store, "gone"));
	ck_assert_int_eq(eloq_store_file_add_table(&store, "gone", 1, 0, 0), 0);
	ck_assert_uint_eq(eloq_store_file_find_name(&store, "gone")->id, 4);
	eloq_store_file_remove_table(&store, 1);
	eloq_store_file_remove_table(&store, 1);
	ck_assert_uint_eq(store.table_count, 2);
	ck_assert_str_eq(eloq_store_file_find_id(&store, 2)->name, "old.one");
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(eloq_store_file_add_table(&store, name, 1, 0, 0), -ELOQ_ETOOLONG);
	name[ELOQ_TABLE_NAME_BYTES_MAX] = '\0';
	ck_assert_int_eq(eloq_store_file_add_table(&store, name, 1, 0, 0), 0);
	eloq_store_file_free(&store);
}

TEST(a_full_list_of_tables_is_refused_and_still_loads)
{
	int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct eloq_store_file store = sample(), loaded = { 0 };
	char name[32];

	for (unsigned i = store.table_count; i < ELOQ_TABLES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "t%u", i);
		ck_assert_int_eq(eloq_store_file_add_table(&store, name, 1, 0, 0), 0);
	}
	ck_assert_int_eq(eloq_store_file_add_table(&store, "x", 1, 0, 0), -ELOQ_ETOOMANY);
	ck_assert_int_eq(eloq_store_file_save(dir, &store, NULL), 0);
	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, NULL), 0);
	check_equal(&store, &loaded);
	eloq_store_file_free(&loaded);
	eloq_store_file_free(&store);
	eloq_fd_close(dir);
}

TEST(a_store_that_is_no_file_or_empty_is_refused)
{
	int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct eloq_store_file loaded = { 0 };

	ck_assert_int_eq(mkdirat(dir, "STORE", 0700), 0);
	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, NULL), -ELOQ_ECORRUPT);
	ck_assert_int_eq(unlinkat(dir, "STORE", AT_REMOVEDIR), 0);
	eloq_fd_close(openat(dir, "STORE", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ck_assert_int_eq(eloq_store_file_load(dir, &loaded, NULL), -ELOQ_ECORRUPT);
	eloq_fd_close(dir);
}
