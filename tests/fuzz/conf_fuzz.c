/*
 * conf_fuzz.c - any bytes as a configuration file: refused with words, or taken; and what was taken
 * prints as a file that reads back to the same.
 */
#include "common/conf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct settings {
	bool flag;
	uint64_t number;
	uint64_t size;
	uint64_t duration;
	char *text;
	char *path;
	struct eloq_conf_paths paths;
};

#define FIELD(type, name) (type), offsetof(struct settings, name)

static const struct eloq_conf_key keys[] = {
	{ "a", "flag", FIELD(ELOQ_CONF_BOOL, flag), 0, 0, "true", "help", NULL },
	{ "a", "number", FIELD(ELOQ_CONF_U64, number), 1, 1000, "10", "help", NULL },
	{ "a", "size", FIELD(ELOQ_CONF_SIZE, size), 0, 0, "32MB", "help", NULL },
	{ "b", "duration", FIELD(ELOQ_CONF_DURATION, duration), 0, 0, "250ms", "help", NULL },
	{ "b", "text", FIELD(ELOQ_CONF_STRING, text), 0, 100, "x", "help", NULL },
	{ "b", "path", FIELD(ELOQ_CONF_PATH, path), 0, 0, NULL, "help", NULL },
	{ "c", "paths", FIELD(ELOQ_CONF_PATHS, paths), 0, 8, NULL, "help", NULL },
	{ "c", "cloud", ELOQ_CONF_SIZE, 0, 0, 0, "1TB", "help", "the cloud tier" },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is in force after reading @text, as an ini; NULL if it was refused. The caller frees. */
static char *read_and_print(const char *text, size_t bytes)
{
	struct settings settings;
	struct eloq_conf conf;
	struct eloq_errinfo err = { 0 };
	char *printed = NULL;
	size_t printed_bytes;

	eloq_assert(eloq_conf_defaults(&conf, keys, ELOQ_ARRAY_SIZE(keys), &settings) == 0);
	if (eloq_conf_parse_text(&conf, text, bytes, "f.ini", &err) == 0) {
		FILE *out = open_memstream(&printed, &printed_bytes);

		eloq_assert(out && eloq_conf_print(&conf, out) == 0);
		(void)fclose(out);
	} else {
		eloq_assert(err.code < 0 && strncmp(err.text, "f.ini:", 6) == 0);
	}
	eloq_conf_clear(&conf);
	return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char *first = read_and_print((const char *)data, bytes);

	if (first) {
		char *second = read_and_print(first, strlen(first));

		eloq_assert(second && strcmp(first, second) == 0);
		free(second);
	}
	free(first);
	return 0;
}
