/*
 * keys.c - put, get, del, scan: one operation each.
 */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The open table and the key that the first word means. */
struct keys_target {
	struct eloq_table *table;
	struct cli_bytes key;
	struct eloq_op_opts opts;
};

static int keys_open(struct cli *cli, bool create, struct keys_target *ret_target)
{
	const char *word = cli->argv[0];
	int r;

	if (!cli_parse_word(&ret_target->key, word, strlen(word), cli->hex))
		return cli_usage("key '%s' is not hex", word);
	if (ret_target->key.bytes == 0)
		return cli_usage("a key has at least one byte");
	r = cli_connect(cli);
	if (r == CLI_DONE)
		r = cli_open_table(cli, cli->table_name, create, &ret_target->table);
	if (r != CLI_DONE)
		return r;
	if (eloq_table_info(ret_target->table)->partitions == 0 && !cli->partition_set)
		return cli_usage(
			"table %s was adopted and routes no keys: name a partition with -p",
			eloq_table_info(ret_target->table)->name);
	ret_target->opts = cli_op_opts(cli);
	return CLI_DONE;
}

static void keys_close(struct keys_target *target)
{
	cli_bytes_free(&target->key);
	eloq_table_close(target->table);
}

static bool keys_read_stdin(struct cli_bytes *out)
{
	size_t got;

	do {
		cli_bytes_reserve(out, 1 << 16);
		got = fread(out->data + out->bytes, 1, out->room - out->bytes, stdin);
		out->bytes += got;
	} while (got > 0);
	return !ferror(stdin);
}

static int keys_value(struct cli *cli, struct cli_bytes *out)
{
	const char *word = cli->argv[1];
	struct cli_bytes text = { 0 };
	bool good;

	if (strcmp(word, "-") != 0) {
		if (!cli_parse_word(out, word, strlen(word), cli->hex))
			return cli_usage("the value is not hex");
		return CLI_DONE;
	}
	if (!keys_read_stdin(&text)) {
		cli_bytes_free(&text);
		return cli_usage("standard input: %s", strerror(errno));
	}
	/* A line end behind hex digits belongs to the line, not to the value. */
	while (cli->hex && text.bytes > 0 && text.data[text.bytes - 1] == '\n')
		text.bytes--;
	good = cli_parse_word(out, (const char *)text.data, text.bytes, cli->hex);
	cli_bytes_free(&text);
	return good ? CLI_DONE : cli_usage("the value is not hex");
}

int cli_put(struct cli *cli)
{
	struct keys_target target = { 0 };
	struct cli_bytes value = { 0 };
	int r;

	r = keys_value(cli, &value);
	if (r == CLI_DONE)
		r = keys_open(cli, true, &target);
	if (r == CLI_DONE) {
		r = eloq_put(cli->channel, target.table, target.key.data, target.key.bytes,
			     value.data, value.bytes, &target.opts);
		if (r < 0)
			r = cli_fail_op(cli, "put", r);
		else if (r == 1)
			r = CLI_NEGATIVE;
	}
	cli_bytes_free(&value);
	keys_close(&target);
	return r;
}

int cli_get(struct cli *cli)
{
	struct keys_target target = { 0 };
	struct eloq_value value = { 0 };
	int r = keys_open(cli, false, &target);

	if (r == CLI_DONE) {
		r = eloq_get(cli->channel, target.table, target.key.data, target.key.bytes, &value,
			     &target.opts);
		if (r < 0) {
			r = cli_fail_op(cli, "get", r);
		} else {
			cli_print_bytes(cli, stdout, value.data, value.bytes);
			(void)putchar('\n');
		}
	}
	eloq_value_free(&value);
	keys_close(&target);
	return r;
}

int cli_del(struct cli *cli)
{
	struct keys_target target = { 0 };
	int r = keys_open(cli, false, &target);

	if (r == CLI_DONE) {
		r = eloq_delete(cli->channel, target.table, target.key.data, target.key.bytes,
				&target.opts);
		if (r < 0)
			r = cli_fail_op(cli, "del", r);
	}
	keys_close(&target);
	return r;
}

static int keys_scan(struct cli *cli, struct eloq_table *table, const struct cli_bytes *from,
		     const struct cli_bytes *to)
{
	struct eloq_scan_opts opts = {
		.opts_bytes = sizeof(opts),
		.from = cli->from ? from->data : NULL,
		.from_bytes = from->bytes,
		.to = cli->to ? to->data : NULL,
		.to_bytes = to->bytes,
		.limit = cli->limit,
		.keys_only = cli->keys_only,
		.partition_set = cli->partition_set,
		.partition = cli->partition,
		.timeout_ns = (uint64_t)(cli->timeout_s * 1e9),
	};
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	int r;

	if (cli->limit_set && cli->limit == 0)
		return CLI_DONE;
	r = eloq_scan_open(cli->channel, table, &opts, &cursor);
	if (r < 0)
		return cli_fail_op(cli, "scan", r);
	while ((r = eloq_scan_next(cursor, &entry)) == 1) {
		cli_print_field(cli, stdout, entry.key, entry.key_bytes);
		if (!cli->keys_only) {
			(void)putchar('\t');
			cli_print_field(cli, stdout, entry.value, entry.value_bytes);
		}
		(void)putchar('\n');
	}
	eloq_scan_close(cursor);
	return r < 0 ? cli_fail_op(cli, "scan", r) : CLI_DONE;
}

int cli_scan(struct cli *cli)
{
	struct cli_bytes from = { 0 }, to = { 0 };
	struct eloq_table *table = NULL;
	int r = CLI_DONE;

	if (cli->from && !cli_parse_word(&from, cli->from, strlen(cli->from), cli->hex))
		r = cli_usage("--from is not hex");
	if (cli->to && !cli_parse_word(&to, cli->to, strlen(cli->to), cli->hex))
		r = cli_usage("--to is not hex");
	if (r == CLI_DONE)
		r = cli_connect(cli);
	if (r == CLI_DONE)
		r = cli_open_table(cli, cli->table_name, false, &table);
	if (r == CLI_DONE)
		r = keys_scan(cli, table, &from, &to);
	eloq_table_close(table);
	cli_bytes_free(&from);
	cli_bytes_free(&to);
	return r;
}
