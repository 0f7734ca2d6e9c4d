/*
 * text.c - keys and values as people and files write them: plain, hex, tsv, json.
 *
 * Runs on: one thread. Fails by: false for text that is not of its form; running out of memory
 * ends the program.
 */
#include "client/cli/cli.h"

#include <stdlib.h>
#include <string.h>

void *cli_alloc(size_t bytes)
{
	void *memory = malloc(bytes ? bytes : 1);

	if (!memory) {
		fprintf(stderr, "eloqctl: out of memory\n");
		exit(CLI_ERROR);
	}
	return memory;
}

void cli_bytes_reserve(struct cli_bytes *out, size_t room)
{
	unsigned char *grown;

	if (out->data && out->room - out->bytes >= room)
		return;
	if (room < out->room)
		room = out->room;
	room += out->bytes + 64;
	grown = cli_alloc(room);
	if (out->data)
		memcpy(grown, out->data, out->bytes);
	free(out->data);
	out->data = grown;
	out->room = room;
}

void cli_bytes_append(struct cli_bytes *out, const void *data, size_t bytes)
{
	cli_bytes_reserve(out, bytes);
	if (bytes > 0)
		memcpy(out->data + out->bytes, data, bytes);
	out->bytes += bytes;
}

void cli_bytes_free(struct cli_bytes *out)
{
	free(out->data);
	*out = (struct cli_bytes){ 0 };
}

static int text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool text_hex_byte(const char *text, unsigned char *ret_byte)
{
	int high = text_hex_digit(text[0]);
	int low = high < 0 ? -1 : text_hex_digit(text[1]);

	if (low < 0)
		return false;
	*ret_byte = (unsigned char)(high << 4 | low);
	return true;
}

bool cli_parse_word(struct cli_bytes *out, const char *text, size_t bytes, bool hex)
{
	if (!hex) {
		cli_bytes_append(out, text, bytes);
		return true;
	}
	if (bytes % 2 != 0)
		return false;
	cli_bytes_reserve(out, bytes / 2);
	for (size_t i = 0; i < bytes; i += 2)
		if (!text_hex_byte(text + i, &out->data[out->bytes++]))
			return false;
	return true;
}

/* What stands behind a backslash; the number of characters it takes, 0 if it is none of ours. */
static size_t text_unescape(const char *text, size_t bytes, unsigned char *ret_byte)
{
	if (bytes == 0)
		return 0;
	switch (text[0]) {
	case 't':
		*ret_byte = '\t';
		return 1;
	case 'n':
		*ret_byte = '\n';
		return 1;
	case '\\':
		*ret_byte = '\\';
		return 1;
	case 'x':
		return bytes >= 3 && text_hex_byte(text + 1, ret_byte) ? 3 : 0;
	default:
		return 0;
	}
}

bool cli_parse_tsv(struct cli_bytes *out, const char *text, size_t bytes)
{
	const char *end = text + bytes;

	cli_bytes_reserve(out, bytes);
	while (text < end) {
		const char *escape = memchr(text, '\\', (size_t)(end - text));
		size_t plain = (size_t)((escape ? escape : end) - text);
		unsigned char byte;
		size_t taken;

		cli_bytes_append(out, text, plain);
		if (!escape)
			break;
		taken = text_unescape(escape + 1, (size_t)(end - escape - 1), &byte);
		if (taken == 0)
			return false;
		cli_bytes_append(out, &byte, 1);
		text = escape + 1 + taken;
	}
	return true;
}

void cli_print_hex(FILE *file, const void *data, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++) {
		(void)putc(digits[p[i] >> 4], file);
		(void)putc(digits[p[i] & 15], file);
	}
}

void cli_print_tsv(FILE *file, const void *data, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++) {
		if (p[i] == '\t')
			(void)fputs("\\t", file);
		else if (p[i] == '\n')
			(void)fputs("\\n", file);
		else if (p[i] == '\\')
			(void)fputs("\\\\", file);
		else if (p[i] < 0x20 || p[i] == 0x7f)
			(void)fprintf(file, "\\x%02x", p[i]);
		else
			(void)putc(p[i], file);
	}
}

void cli_print_bytes(const struct cli *cli, FILE *file, const void *data, size_t bytes)
{
	if (cli->hex)
		cli_print_hex(file, data, bytes);
	else
		(void)fwrite(data, 1, bytes, file);
}

void cli_print_field(const struct cli *cli, FILE *file, const void *data, size_t bytes)
{
	if (cli->hex)
		cli_print_hex(file, data, bytes);
	else
		cli_print_tsv(file, data, bytes);
}

void cli_print_json_string(FILE *file, const char *text)
{
	(void)putc('"', file);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			(void)fprintf(file, "\\%c", c);
		else if (c < 0x20)
			(void)fprintf(file, "\\u%04x", c);
		else
			(void)putc(c, file);
	}
	(void)putc('"', file);
}
