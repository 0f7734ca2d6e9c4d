/*
 * record.c - one line of an import or export file, to a record and back. See transfer.h.
 *
 * JSON is read by json-c, which keeps unsigned 64-bit numbers; it is written by hand, as the order
 * of keys is part of the form.
 */
#include "client/cli/transfer.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

bool transfer_format_of(const struct cli *cli, const char *file, enum transfer_format *ret_format)
{
	size_t length = strlen(file);

	*ret_format = TRANSFER_JSONL;
	if (!cli->format) {
		if (length > 4 && strcmp(file + length - 4, ".tsv") == 0)
			*ret_format = TRANSFER_TSV;
		return true;
	}
	if (strcmp(cli->format, "tsv") == 0)
		*ret_format = TRANSFER_TSV;
	else if (strcmp(cli->format, "jsonl") != 0)
		return cli_usage("--format wants jsonl or tsv, not '%s'", cli->format) == CLI_DONE;
	return true;
}

static const char *record_parse_tsv(const char *line, size_t bytes, struct transfer_record *record)
{
	const char *tab = memchr(line, '\t', bytes);

	if (!tab)
		return "no tab between key and value";
	if (!cli_parse_tsv(&record->key, line, (size_t)(tab - line)) ||
	    !cli_parse_tsv(&record->value, tab + 1, bytes - (size_t)(tab + 1 - line)))
		return "a backslash that is none of \\t \\n \\\\ \\xHH";
	return NULL;
}

static bool record_hex(struct json_object *value, struct cli_bytes *out)
{
	return json_object_is_type(value, json_type_string) &&
	       cli_parse_word(out, json_object_get_string(value),
			      (size_t)json_object_get_string_len(value), true);
}

static bool record_number(struct json_object *value, uint64_t max, uint64_t *ret_number)
{
	if (!json_object_is_type(value, json_type_int))
		return false;
	if (json_object_get_int64(value) < 0)
		return false;
	*ret_number = json_object_get_uint64(value);
	return *ret_number <= max;
}

/* One member; NULL, or what is wrong. @seen gets a bit for what must be there. */
static const char *record_member(struct transfer_record *record, const char *name,
				 struct json_object *value, unsigned *seen)
{
	uint64_t number = 0;

	if (strcmp(name, "key") == 0) {
		*seen |= 1;
		return record_hex(value, &record->key) ? NULL : "\"key\" is not a string of hex";
	}
	if (strcmp(name, "value") == 0) {
		*seen |= 2;
		return record_hex(value, &record->value) ? NULL
							 : "\"value\" is not a string of hex";
	}
	if (strcmp(name, "table") == 0) {
		if (!json_object_is_type(value, json_type_string) ||
		    (size_t)json_object_get_string_len(value) >= sizeof(record->table))
			return "\"table\" is not the name of a table";
		strcpy(record->table, json_object_get_string(value)); /* NOLINT: measured above */
		return NULL;
	}
	if (strcmp(name, "partition") == 0) {
		record->partition_set = record_number(value, UINT32_MAX - 1, &number);
		record->partition = (uint32_t)number;
		return record->partition_set ? NULL : "\"partition\" is not a number of 32 bits";
	}
	if (strcmp(name, "timestamp") == 0)
		return record_number(value, UINT64_MAX, &record->timestamp)
			       ? NULL
			       : "\"timestamp\" is not an unsigned number";
	if (strcmp(name, "expire_ts") == 0) {
		if (!record_number(value, UINT64_MAX, &number))
			return "\"expire_ts\" is not an unsigned number";
		return number ? "entries that expire cannot be written yet" : NULL;
	}
	return "an unknown member";
}

static const char *record_parse_json(const char *line, size_t bytes, struct transfer_record *record)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object = NULL;
	const char *wrong = NULL;
	unsigned seen = 0;

	if (!tokener)
		return "out of memory";
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	if (bytes <= INT32_MAX)
		object = json_tokener_parse_ex(tokener, line, (int)bytes);
	/* A number or name that ends with the line wants one more character to be complete. */
	if (!object || json_tokener_get_parse_end(tokener) != bytes ||
	    !json_object_is_type(object, json_type_object)) {
		wrong = "not a JSON object";
	} else {
		json_object_object_foreach(object, name, value)
		{
			if (!wrong)
				wrong = record_member(record, name, value, &seen);
		}
		if (!wrong && seen != 3)
			wrong = "\"key\" and \"value\" are needed";
	}
	json_object_put(object);
	json_tokener_free(tokener);
	return wrong;
}

const char *transfer_parse(enum transfer_format format, const char *line, size_t bytes,
			   struct transfer_record *record)
{
	const char *wrong;

	record->table[0] = '\0';
	record->partition_set = false;
	record->timestamp = 0;
	record->key.bytes = 0;
	record->value.bytes = 0;
	if (format == TRANSFER_TSV)
		wrong = record_parse_tsv(line, bytes, record);
	else
		wrong = record_parse_json(line, bytes, record);
	if (!wrong && record->key.bytes == 0)
		wrong = "an empty key";
	return wrong;
}

void transfer_print(enum transfer_format format, FILE *file, const char *table,
		    const struct eloq_entry_view *entry)
{
	if (format == TRANSFER_TSV) {
		cli_print_tsv(file, entry->key, entry->key_bytes);
		(void)putc('\t', file);
		cli_print_tsv(file, entry->value, entry->value_bytes);
		(void)putc('\n', file);
		return;
	}
	(void)fputs("{\"table\":", file);
	cli_print_json_string(file, table);
	(void)fprintf(file, ",\"partition\":%" PRIu32 ",\"key\":\"", entry->partition);
	cli_print_hex(file, entry->key, entry->key_bytes);
	(void)fputs("\",\"value\":\"", file);
	cli_print_hex(file, entry->value, entry->value_bytes);
	(void)fprintf(file, "\",\"timestamp\":%" PRIu64 ",\"expire_ts\":%" PRIu64 "}\n",
		      entry->timestamp, entry->expire_ms);
}
