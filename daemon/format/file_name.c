/*
 * file_name.c - names of data files, manifests and partition directories. See file_name.h.
 */
#include "daemon/format/file_name.h"

#include "common/compiler.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reads a plain decimal number up to @max and moves *at behind it. */
static bool take_number(const char **at, uint64_t max, uint64_t *ret_v)
{
	const char *p = *at;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return false;
	if (*p == '0' && p[1] >= '0' && p[1] <= '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*at = p;
	*ret_v = v;
	return true;
}

static bool take_word(const char **at, const char *word)
{
	size_t bytes = strlen(word);

	if (strncmp(*at, word, bytes) != 0)
		return false;
	*at += bytes;
	return true;
}

static bool ends_with(const char *name, const char *end)
{
	size_t name_bytes = strlen(name), end_bytes = strlen(end);

	return name_bytes >= end_bytes && strcmp(name + name_bytes - end_bytes, end) == 0;
}

static bool parse_data(const char *p, struct eloq_file_name *name)
{
	name->kind = ELOQ_FILE_DATA;
	return take_word(&p, "data_") && take_number(&p, UINT64_MAX, &name->file_id) &&
	       take_word(&p, "_") && take_number(&p, UINT64_MAX, &name->term) && *p == '\0';
}

static bool parse_manifest(const char *p, struct eloq_file_name *name)
{
	if (!take_word(&p, "manifest_") || !take_number(&p, UINT64_MAX, &name->term))
		return false;
	name->kind = ELOQ_FILE_MANIFEST;
	if (*p == '\0')
		return true;
	name->kind = ELOQ_FILE_ARCHIVE;
	return take_word(&p, "_") && take_number(&p, UINT64_MAX, &name->timestamp) && *p == '\0';
}

enum eloq_file_kind eloq_file_name_parse(const char *name, struct eloq_file_name *ret_name)
{
	struct eloq_file_name data = { 0 }, manifest = { 0 };

	if (ends_with(name, ".tmp"))
		*ret_name = (struct eloq_file_name){ .kind = ELOQ_FILE_TEMPORARY };
	else if (parse_data(name, &data))
		*ret_name = data;
	else if (parse_manifest(name, &manifest))
		*ret_name = manifest;
	else
		*ret_name = (struct eloq_file_name){ .kind = ELOQ_FILE_UNKNOWN };
	return ret_name->kind;
}

static const char *suffix(bool temporary)
{
	return temporary ? ".tmp" : "";
}

void eloq_file_name_data(char *ret_name, uint64_t file_id, uint64_t term)
{
	snprintf(ret_name, ELOQ_FILE_NAME_BYTES, "data_%" PRIu64 "_%" PRIu64, file_id, term);
}

void eloq_file_name_manifest(char *ret_name, uint64_t term, bool temporary)
{
	snprintf(ret_name, ELOQ_FILE_NAME_BYTES, "manifest_%" PRIu64 "%s", term, suffix(temporary));
}

void eloq_file_name_archive(char *ret_name, uint64_t term, uint64_t timestamp, bool temporary)
{
	snprintf(ret_name, ELOQ_FILE_NAME_BYTES, "manifest_%" PRIu64 "_%" PRIu64 "%s", term,
		 timestamp, suffix(temporary));
}

bool eloq_table_name_ok(const char *name, size_t name_bytes)
{
	if (name_bytes == 0 || name_bytes > ELOQ_TABLE_NAME_BYTES_MAX)
		return false;
	if (name[0] == '.' && (name_bytes == 1 || (name_bytes == 2 && name[1] == '.')))
		return false;
	for (size_t i = 0; i < name_bytes; i++) {
		unsigned char byte = (unsigned char)name[i];

		if (byte < 0x20 || byte == 0x7f || byte == '/')
			return false;
	}
	return true;
}

void eloq_partition_dir_format(char *ret_name, const char *table, uint32_t partition)
{
	eloq_assert(eloq_table_name_ok(table, strlen(table)));
	snprintf(ret_name, ELOQ_PARTITION_DIR_BYTES, "%s.%" PRIu32, table, partition);
}

bool eloq_partition_dir_parse(const char *name, char *ret_table, uint32_t *ret_partition)
{
	const char *dot = strrchr(name, '.');
	const char *p;
	uint64_t partition;
	size_t table_bytes;

	if (!dot)
		return false;
	table_bytes = (size_t)(dot - name);
	p = dot + 1;
	if (!eloq_table_name_ok(name, table_bytes) || !take_number(&p, UINT32_MAX, &partition) ||
	    *p != '\0')
		return false;
	memcpy(ret_table, name, table_bytes);
	ret_table[table_bytes] = '\0';
	*ret_partition = (uint32_t)partition;
	return true;
}
