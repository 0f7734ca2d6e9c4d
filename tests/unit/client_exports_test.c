/* The shared library lets out what its header declares, and nothing else. */
#include "tests/support/test.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENT_DIR ELOQ_GOLDEN_DIR "/../../client/"

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	ck_assert_msg(file != NULL, "%s", path);
	ck_assert_ptr_nonnull(text);
	ck_assert_uint_gt(fread(text, 1, (1 << 20) - 1, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

static void blank_comments(char *text)
{
	for (char *start; (start = strstr(text, "/*")) != NULL;) {
		char *end = strstr(start, "*/");

		ck_assert_ptr_nonnull(end);
		memset(start, ' ', (size_t)(end + 2 - start));
	}
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* The next name of ours that is followed by @after; *ret_bytes is its length. */
static const char *next_name(const char *text, char after, size_t *ret_bytes)
{
	for (const char *p = text; (p = strstr(p, "eloq_")) != NULL;) {
		size_t bytes = 0;

		while (is_name(p[bytes]))
			bytes++;
		if (p[bytes] == after && !is_name(p[-1])) {
			*ret_bytes = bytes;
			return p;
		}
		p += bytes;
	}
	return NULL;
}

/* How many names @text has, all of which are in @other followed by @other_after. */
static unsigned count_names(const char *text, char after, const char *other, char other_after)
{
	unsigned count = 0;
	size_t bytes;

	for (const char *p = text; (p = next_name(p, after, &bytes)) != NULL; p += bytes) {
		char wanted[128];

		(void)snprintf(wanted, sizeof(wanted), "%.*s%c", (int)bytes, p, other_after);
		ck_assert_msg(strstr(other, wanted) != NULL, "only one of the two has %.*s",
			      (int)bytes, p);
		count++;
	}
	return count;
}

TEST(the_map_names_what_the_header_declares_and_nothing_else)
{
	char *header = read_file(CLIENT_DIR "eloqclient.h");
	char *map = read_file(CLIENT_DIR "libeloqclient.map");

	blank_comments(header);
	ck_assert_uint_gt(count_names(header, '(', map, ';'), 40);
	ck_assert_uint_eq(count_names(map, ';', header, '('), count_names(header, '(', map, ';'));
	ck_assert_ptr_nonnull(strstr(map, "local:"));
	ck_assert_ptr_null(strstr(map, "eloq_*"));
	free(header);
	free(map);
}
