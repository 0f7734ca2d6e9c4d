/*
 * store_file.c - STORE: what a data directory is, and the numbers that must never come back.
 *
 * Idea: the structure in memory is written and read field by field, little-endian, without gaps.
 * Magic, version and size keep their places in every version, so that any version of us can name
 * the version of any other.
 *
 *   [0]  8    magic "ELOQSTOR"             [8]  u32  version, 1
 *   [12] u32  size of the whole file       [16] 16   uuid of the store
 *   [32] u32  page bytes                   [36] u32  pages per file, as a shift
 *   [40] u32  overflow pointers            [44] u32  append mode, 0 or 1
 *   [48] u32  shard count                  [52] u32  next table id
 *   [56] u32  last incarnation             [60] u32  zero
 *   [64] u64  session end                  [72] u64  timestamp end, microseconds
 *   [80] u32  count of paths               [84] u32  count of tables
 *   [88] paths, each:  u32 length, the bytes
 *        tables, each: u32 id, partitions, timestamps, flags, length of the name; its bytes
 *        u64  XXH3 (seed 0) of everything before it
 *
 * Always:   what decodes is fit for use: every bound holds, ids ascend, names are unique.
 * Runs on:  the supervisor's thread.
 * Fails by: see store_file.h; a failed save leaves the old file in place or, if only the sync of
 *           the directory failed, either one.              docs/format.md, "STORE".
 */
#include "daemon/supervisor/store_file.h"

#include "common/checksum.h"
#include "common/coding.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char store_magic[8] = { 'E', 'L', 'O', 'Q', 'S', 'T', 'O', 'R' };
static const char store_name[] = "STORE";
static const char store_name_new[] = "STORE.tmp";

enum {
	STORE_FIXED_BYTES = 88,
	STORE_TABLE_BYTES = 20,
	STORE_CHECKSUM_BYTES = 8,
	STORE_FLAGS_KNOWN = ELOQ_STORE_FILE_ADOPTED | ELOQ_STORE_FILE_DROPPING,
};

void eloq_store_file_free(struct eloq_store_file *store)
{
	for (uint32_t i = 0; i < store->path_count; i++)
		free(store->paths[i]);
	free(store->paths);
	free(store->tables);
	memset(store, 0, sizeof(*store));
}

/* --- Paths and tables in memory ----------------------------------------------------------------
 */

static int store_add_path(struct eloq_store_file *store, const char *path, size_t path_bytes)
{
	char **paths;
	char *copy;

	if (store->path_count == ELOQ_STORE_FILE_PATHS_MAX)
		return -ELOQ_ETOOMANY;
	if (path_bytes == 0 || path_bytes > ELOQ_STORE_FILE_PATH_BYTES_MAX)
		return -ELOQ_ETOOLONG;
	paths = realloc(store->paths, (store->path_count + 1) * sizeof(*paths));
	if (!paths)
		return -ENOMEM;
	store->paths = paths;
	copy = strndup(path, path_bytes);
	if (!copy)
		return -ENOMEM;
	paths[store->path_count++] = copy;
	return 0;
}

int eloq_store_file_add_path(struct eloq_store_file *store, const char *path)
{
	return store_add_path(store, path, strlen(path));
}

static int store_append_table(struct eloq_store_file *store,
			      const struct eloq_store_file_table *table)
{
	struct eloq_store_file_table *tables;

	if (store->table_count == ELOQ_TABLES_MAX)
		return -ELOQ_ETOOMANY;
	if (eloq_store_file_find_name(store, table->name))
		return -ELOQ_EEXISTS;
	tables = realloc(store->tables, (store->table_count + 1) * sizeof(*tables));
	if (!tables)
		return -ENOMEM;
	store->tables = tables;
	tables[store->table_count++] = *table;
	return 0;
}

int eloq_store_file_add_table(struct eloq_store_file *store, const char *name, uint32_t partitions,
			      uint32_t timestamps, uint32_t flags)
{
	struct eloq_store_file_table table = {
		.id = store->next_table,
		.partitions = partitions,
		.timestamps = timestamps,
		.flags = flags,
	};
	int r;

	if (strlen(name) > ELOQ_TABLE_NAME_BYTES_MAX)
		return -ELOQ_ETOOLONG;
	if (store->next_table == UINT32_MAX)
		return -ELOQ_ETOOMANY;
	memcpy(table.name, name, strlen(name));
	r = store_append_table(store, &table);
	if (r < 0)
		return r;
	store->next_table++;
	return 0;
}

void eloq_store_file_remove_table(struct eloq_store_file *store, uint32_t id)
{
	struct eloq_store_file_table *table = eloq_store_file_find_id(store, id);
	struct eloq_store_file_table *end = store->tables + store->table_count;

	if (!table)
		return;
	memmove(table, table + 1, (size_t)(end - (table + 1)) * sizeof(*table));
	store->table_count--;
}

/* The place it had is still allocated. */
void eloq_store_file_restore_table(struct eloq_store_file *store,
				   const struct eloq_store_file_table *table)
{
	uint32_t at = 0;

	while (at < store->table_count && store->tables[at].id < table->id)
		at++;
	memmove(&store->tables[at + 1], &store->tables[at],
		(store->table_count - at) * sizeof(*table));
	store->tables[at] = *table;
	store->table_count++;
}

struct eloq_store_file_table *eloq_store_file_find_name(const struct eloq_store_file *store,
							const char *name)
{
	for (uint32_t i = 0; i < store->table_count; i++)
		if (strcmp(store->tables[i].name, name) == 0)
			return &store->tables[i];
	return NULL;
}

struct eloq_store_file_table *eloq_store_file_find_id(const struct eloq_store_file *store,
						      uint32_t id)
{
	for (uint32_t i = 0; i < store->table_count; i++)
		if (store->tables[i].id == id)
			return &store->tables[i];
	return NULL;
}

/* --- Bytes -------------------------------------------------------------------------------------
 */

static size_t store_bytes(const struct eloq_store_file *store)
{
	size_t bytes = STORE_FIXED_BYTES + STORE_CHECKSUM_BYTES;

	for (uint32_t i = 0; i < store->path_count; i++)
		bytes += sizeof(uint32_t) + strlen(store->paths[i]);
	for (uint32_t i = 0; i < store->table_count; i++)
		bytes += STORE_TABLE_BYTES + strlen(store->tables[i].name);
	return bytes;
}

static uint8_t *store_put_fixed(uint8_t *p, const struct eloq_store_file *store, size_t bytes)
{
	memcpy(p, store_magic, sizeof(store_magic));
	eloq_put_u32(p + 8, ELOQ_STORE_FILE_VERSION);
	eloq_put_u32(p + 12, (uint32_t)bytes);
	memcpy(p + 16, store->uuid, sizeof(store->uuid));
	eloq_put_u32(p + 32, store->page_bytes);
	eloq_put_u32(p + 36, store->pages_per_file_shift);
	eloq_put_u32(p + 40, store->overflow_pointers);
	eloq_put_u32(p + 44, store->append_mode);
	eloq_put_u32(p + 48, store->shard_count);
	eloq_put_u32(p + 52, store->next_table);
	eloq_put_u32(p + 56, store->incarnation);
	eloq_put_u32(p + 60, 0);
	eloq_put_u64(p + 64, store->session_end);
	eloq_put_u64(p + 72, store->timestamp_end_us);
	eloq_put_u32(p + 80, store->path_count);
	eloq_put_u32(p + 84, store->table_count);
	return p + STORE_FIXED_BYTES;
}

static uint8_t *store_put_string(uint8_t *p, const char *string)
{
	size_t bytes = strlen(string);

	eloq_put_u32(p, (uint32_t)bytes);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): its length stands before it */
	memcpy(p + 4, string, bytes);
	return p + 4 + bytes;
}

static uint8_t *store_put_table(uint8_t *p, const struct eloq_store_file_table *table)
{
	eloq_put_u32(p, table->id);
	eloq_put_u32(p + 4, table->partitions);
	eloq_put_u32(p + 8, table->timestamps);
	eloq_put_u32(p + 12, table->flags);
	return store_put_string(p + 16, table->name);
}

int eloq_store_file_encode(const struct eloq_store_file *store, uint8_t **ret_bytes,
			   size_t *ret_count)
{
	size_t bytes = store_bytes(store);
	uint8_t *start, *p;

	start = malloc(bytes);
	if (!start)
		return -ENOMEM;
	p = store_put_fixed(start, store, bytes);
	for (uint32_t i = 0; i < store->path_count; i++)
		p = store_put_string(p, store->paths[i]);
	for (uint32_t i = 0; i < store->table_count; i++)
		p = store_put_table(p, &store->tables[i]);
	eloq_put_u64(p, eloq_checksum_xxh3(start, (size_t)(p - start)));
	eloq_assert((size_t)(p - start) + STORE_CHECKSUM_BYTES == bytes);
	*ret_bytes = start;
	*ret_count = bytes;
	return 0;
}

/* Reads a counted string at *p without zero bytes, and moves *p behind it. */
static const char *store_get_string(const uint8_t **p, const uint8_t *end, size_t bytes_max,
				    size_t *ret_bytes)
{
	const uint8_t *string;
	size_t bytes;

	if (end - *p < 4)
		return NULL;
	bytes = eloq_get_u32(*p);
	string = *p + 4;
	if (bytes == 0 || bytes > bytes_max || bytes > (size_t)(end - string) ||
	    memchr(string, 0, bytes))
		return NULL;
	*p = string + bytes;
	*ret_bytes = bytes;
	return (const char *)string;
}

static bool store_table_is_fit(const struct eloq_store_file *store,
			       const struct eloq_store_file_table *table)
{
	const struct eloq_store_file_table *last =
		store->table_count ? &store->tables[store->table_count - 1] : NULL;
	bool adopted = table->flags & ELOQ_STORE_FILE_ADOPTED;

	return table->id > (last ? last->id : 0) && table->id < store->next_table &&
	       table->partitions <= ELOQ_PARTITIONS_PER_TABLE_MAX &&
	       (table->partitions == 0) == adopted && table->timestamps <= 1 &&
	       !(table->flags & ~(uint32_t)STORE_FLAGS_KNOWN) && !strchr(table->name, '/');
}

static int store_get_table(struct eloq_store_file *store, const uint8_t **p, const uint8_t *end)
{
	struct eloq_store_file_table table = { 0 };
	const char *name;
	size_t name_bytes;

	if (end - *p < STORE_TABLE_BYTES)
		return -ELOQ_ECORRUPT;
	table.id = eloq_get_u32(*p);
	table.partitions = eloq_get_u32(*p + 4);
	table.timestamps = eloq_get_u32(*p + 8);
	table.flags = eloq_get_u32(*p + 12);
	*p += 16;
	name = store_get_string(p, end, ELOQ_TABLE_NAME_BYTES_MAX, &name_bytes);
	if (!name)
		return -ELOQ_ECORRUPT;
	memcpy(table.name, name, name_bytes);
	if (!store_table_is_fit(store, &table))
		return -ELOQ_ECORRUPT;
	return store_append_table(store, &table);
}

static void store_get_fixed(const uint8_t *p, struct eloq_store_file *store)
{
	memcpy(store->uuid, p + 16, sizeof(store->uuid));
	store->page_bytes = eloq_get_u32(p + 32);
	store->pages_per_file_shift = eloq_get_u32(p + 36);
	store->overflow_pointers = eloq_get_u32(p + 40);
	store->append_mode = eloq_get_u32(p + 44);
	store->shard_count = eloq_get_u32(p + 48);
	store->next_table = eloq_get_u32(p + 52);
	store->incarnation = eloq_get_u32(p + 56);
	store->session_end = eloq_get_u64(p + 64);
	store->timestamp_end_us = eloq_get_u64(p + 72);
}

static bool store_is_fit(const struct eloq_store_file *store)
{
	return store->page_bytes >= ELOQ_PAGE_BYTES_MIN &&
	       store->page_bytes <= ELOQ_PAGE_BYTES_MAX &&
	       store->page_bytes % ELOQ_PAGE_BYTES_MIN == 0 && store->pages_per_file_shift < 32 &&
	       (uint64_t)store->page_bytes << store->pages_per_file_shift <= UINT64_C(1) << 32 &&
	       store->overflow_pointers >= 1 &&
	       store->overflow_pointers <= ELOQ_OVERFLOW_POINTERS_MAX && store->append_mode <= 1 &&
	       store->shard_count >= 1 && store->shard_count <= ELOQ_SHARDS_MAX &&
	       store->next_table >= 1;
}

static int store_get_lists(const uint8_t *bytes, const uint8_t *end, struct eloq_store_file *store)
{
	const uint8_t *p = bytes + STORE_FIXED_BYTES;
	uint32_t path_count = eloq_get_u32(bytes + 80);
	uint32_t table_count = eloq_get_u32(bytes + 84);
	int r;

	if (path_count == 0)
		return -ELOQ_ECORRUPT;
	for (uint32_t i = 0; i < path_count; i++) {
		size_t path_bytes;
		const char *path =
			store_get_string(&p, end, ELOQ_STORE_FILE_PATH_BYTES_MAX, &path_bytes);

		r = path ? store_add_path(store, path, path_bytes) : -ELOQ_ECORRUPT;
		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < table_count; i++) {
		r = store_get_table(store, &p, end);
		if (r < 0)
			return r;
	}
	return p == end ? 0 : -ELOQ_ECORRUPT;
}

/* What can be said before anything of this version is looked at. */
static int store_check_frame(const uint8_t *bytes, size_t count, struct eloq_errinfo *reterr)
{
	uint32_t version;

	if (count < STORE_FIXED_BYTES + STORE_CHECKSUM_BYTES ||
	    memcmp(bytes, store_magic, sizeof(store_magic)) != 0)
		return eloq_fail(reterr, -ELOQ_ECORRUPT, "STORE is damaged: no magic at its start");
	version = eloq_get_u32(bytes + 8);
	if (version != ELOQ_STORE_FILE_VERSION)
		return eloq_fail(reterr, -ELOQ_EVERSION,
				 "STORE has version %u, this program knows version %d", version,
				 ELOQ_STORE_FILE_VERSION);
	if (eloq_get_u32(bytes + 12) != count)
		return eloq_fail(reterr, -ELOQ_ECORRUPT,
				 "STORE is damaged: %zu bytes, its header says %u", count,
				 eloq_get_u32(bytes + 12));
	if (eloq_checksum_xxh3(bytes, count - STORE_CHECKSUM_BYTES) !=
	    eloq_get_u64(bytes + count - STORE_CHECKSUM_BYTES))
		return eloq_fail(reterr, -ELOQ_ECORRUPT, "STORE is damaged: wrong checksum");
	return 0;
}

int eloq_store_file_decode(const uint8_t *bytes, size_t count, struct eloq_store_file *ret_store,
			   struct eloq_errinfo *reterr)
{
	struct eloq_store_file store = { 0 };
	int r;

	r = store_check_frame(bytes, count, reterr);
	if (r < 0)
		return r;
	store_get_fixed(bytes, &store);
	r = store_is_fit(&store)
		    ? store_get_lists(bytes, bytes + count - STORE_CHECKSUM_BYTES, &store)
		    : -ELOQ_ECORRUPT;
	if (r == 0) {
		*ret_store = store;
		return 0;
	}
	eloq_store_file_free(&store);
	if (r == -ENOMEM)
		return eloq_fail_errno(reterr, r, "STORE");
	return eloq_fail(reterr, -ELOQ_ECORRUPT, "STORE is damaged: its contents make no sense");
}

/* --- The file ----------------------------------------------------------------------------------
 */

static int store_read_all(int fd, uint8_t *bytes, size_t count)
{
	size_t done = 0;

	while (done < count) {
		ssize_t n = read(fd, bytes + done, count - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int store_write_all(int fd, const uint8_t *bytes, size_t count)
{
	size_t done = 0;

	while (done < count) {
		ssize_t n = write(fd, bytes + done, count - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

int eloq_store_file_load(int dir_fd, struct eloq_store_file *ret_store, struct eloq_errinfo *reterr)
{
	uint8_t *bytes = NULL;
	struct stat st;
	int fd, r;

	fd = openat(dir_fd, store_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "cannot open STORE");
	if (fstat(fd, &st) < 0) {
		r = eloq_fail_errno(reterr, -errno, "cannot look at STORE");
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > ELOQ_STORE_FILE_BYTES_MAX) {
		r = eloq_fail(reterr, -ELOQ_ECORRUPT, "STORE is damaged: not a file of ours");
		goto out;
	}
	bytes = malloc((size_t)st.st_size + 1);
	r = bytes ? store_read_all(fd, bytes, (size_t)st.st_size) : -ENOMEM;
	if (r < 0) {
		(void)eloq_fail_errno(reterr, r, "cannot read STORE");
		goto out;
	}
	r = eloq_store_file_decode(bytes, (size_t)st.st_size, ret_store, reterr);
out:
	free(bytes);
	eloq_fd_close(fd);
	return r;
}

static int store_write_new(int dir_fd, const uint8_t *bytes, size_t count)
{
	int fd, r;

	fd = openat(dir_fd, store_name_new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		    S_IRUSR | S_IWUSR);
	if (fd < 0)
		return -errno;
	r = store_write_all(fd, bytes, count);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

int eloq_store_file_save(int dir_fd, const struct eloq_store_file *store,
			 struct eloq_errinfo *reterr)
{
	uint8_t *bytes = NULL;
	size_t count = 0;
	int r;

	r = eloq_store_file_encode(store, &bytes, &count);
	if (r < 0)
		goto out;
	r = store_write_new(dir_fd, bytes, count);
	if (r < 0)
		goto out;
	if (renameat(dir_fd, store_name_new, dir_fd, store_name) < 0 || fsync(dir_fd) < 0)
		r = -errno;
out:
	free(bytes);
	return r < 0 ? eloq_fail_errno(reterr, r, "cannot replace STORE") : 0;
}
