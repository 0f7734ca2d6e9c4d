/*
 * admin.c - tables, and looks at the daemon.
 */
#include "client/cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *admin_timestamps(enum eloq_timestamps timestamps)
{
	return timestamps == ELOQ_CALLER_TIMESTAMPS ? "caller" : "server";
}

static int admin_print_table(void *arg, const struct eloq_table_info *info)
{
	const struct cli *cli = arg;

	if (cli->json) {
		printf("{\"table\":");
		cli_print_json_string(stdout, info->name);
		printf(",\"id\":%" PRIu32 ",\"partitions\":%" PRIu32
		       ",\"timestamps\":\"%s\",\"adopted\":%s}\n",
		       info->id, info->partitions, admin_timestamps(info->timestamps),
		       info->partitions == 0 ? "true" : "false");
		return 0;
	}
	if (info->partitions == 0)
		printf("%-30s adopted, keys not routed   timestamps: %s\n", info->name,
		       admin_timestamps(info->timestamps));
	else
		printf("%-30s %6" PRIu32 " partitions          timestamps: %s\n", info->name,
		       info->partitions, admin_timestamps(info->timestamps));
	return 0;
}

static int admin_table_list(struct cli *cli)
{
	struct eloq_error error = { 0 };
	int r = eloq_table_list(cli->client, admin_print_table, cli, &error);

	return r < 0 ? cli_fail("table list", r, &error) : CLI_DONE;
}

static int admin_table_create(struct cli *cli, const char *name)
{
	struct eloq_error error = { 0 };
	enum eloq_timestamps timestamps = ELOQ_SERVER_TIMESTAMPS;
	uint32_t partitions =
		cli->partitions_set ? (uint32_t)cli->partitions : CLI_DEFAULT_PARTITIONS;
	int r;

	if (cli->timestamps && strcmp(cli->timestamps, "caller") == 0)
		timestamps = ELOQ_CALLER_TIMESTAMPS;
	else if (cli->timestamps && strcmp(cli->timestamps, "server") != 0)
		return cli_usage("--timestamps wants server or caller, not '%s'", cli->timestamps);
	r = eloq_table_create(cli->client, name, partitions, timestamps, &error);
	return r < 0 ? cli_fail("table create", r, &error) : CLI_DONE;
}

static int admin_table_drop(struct cli *cli, const char *name)
{
	struct eloq_error error = { 0 };
	int r = eloq_table_drop(cli->client, name, &error);

	if (r < 0) {
		(void)cli_fail("table drop", r, &error);
		return CLI_ERROR; /* a missing table too, as for every other command */
	}
	return CLI_DONE;
}

struct admin_truncate {
	struct cli *cli;
	struct eloq_table *table;
};

static int admin_truncate_partition(void *arg, uint32_t partition)
{
	struct admin_truncate *truncate = arg;
	struct eloq_op_opts opts = cli_op_opts(truncate->cli);

	return eloq_truncate(truncate->cli->channel, truncate->table, partition, &opts);
}

static int admin_table_truncate(struct cli *cli, const char *name)
{
	struct admin_truncate truncate = { .cli = cli };
	int r = cli_open_table(cli, name, false, &truncate.table);

	if (r != CLI_DONE)
		return r;
	if (cli->partition_set)
		r = admin_truncate_partition(&truncate, cli->partition);
	else
		r = eloq_table_partitions(cli->channel, truncate.table, admin_truncate_partition,
					  &truncate);
	eloq_table_close(truncate.table);
	return r < 0 ? cli_fail_op(cli, "table truncate", r) : CLI_DONE;
}

/* Entries by a scan of the keys: exact, and as long as the table. */
static int admin_count(struct cli *cli, struct eloq_table *table, uint64_t *ret_count)
{
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
				       .keys_only = 1,
				       .page_bytes = 1 << 20 };
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	int r;

	*ret_count = 0;
	r = eloq_scan_open(cli->channel, table, &opts, &cursor);
	if (r < 0)
		return r;
	while ((r = eloq_scan_next(cursor, &entry)) == 1)
		(*ret_count)++;
	eloq_scan_close(cursor);
	return r;
}

static void admin_print_stat(const struct cli *cli, const struct eloq_table_info *info,
			     const struct eloq_table_stat *stat, uint64_t count)
{
	if (cli->json) {
		printf("{\"table\":");
		cli_print_json_string(stdout, info->name);
		printf(",\"partitions\":%" PRIu64 ",\"pages\":%" PRIu64 ",\"page_bytes\":%" PRIu64
		       ",\"file_pages\":%" PRIu64 ",\"manifest_bytes\":%" PRIu64
		       ",\"ttl_partitions\":%" PRIu64,
		       stat->partitions, stat->pages, stat->page_bytes, stat->file_pages,
		       stat->manifest_bytes, stat->ttl_partitions);
		if (cli->count)
			printf(",\"entries\":%" PRIu64, count);
		printf("}\n");
		return;
	}
	printf("table       %s\n", info->name);
	if (info->partitions == 0)
		printf("partitions  %" PRIu64 ", adopted\n", stat->partitions);
	else
		printf("partitions  %" PRIu64 " of %" PRIu32 " hold something\n", stat->partitions,
		       info->partitions);
	printf("timestamps  %s\n", admin_timestamps(info->timestamps));
	if (cli->count)
		printf("entries     %" PRIu64 "\n", count);
	printf("pages       %" PRIu64 " of %" PRIu64 " bytes: %.1f MB live\n", stat->pages,
	       stat->page_bytes, (double)stat->pages * (double)stat->page_bytes / 1e6);
	printf("file pages  %" PRIu64 ": %.1f MB used in files\n", stat->file_pages,
	       (double)stat->file_pages * (double)stat->page_bytes / 1e6);
	printf("manifests   %.1f kB\n", (double)stat->manifest_bytes / 1e3);
	if (stat->ttl_partitions)
		printf("expiring    %" PRIu64 " partitions have entries that expire\n",
		       stat->ttl_partitions);
}

static int admin_table_stat(struct cli *cli, const char *name)
{
	struct eloq_table *table;
	struct eloq_table_stat stat = { 0 };
	uint64_t count = 0;
	int r = cli_open_table(cli, name, false, &table);

	if (r != CLI_DONE)
		return r;
	r = eloq_table_stat(cli->channel, table, &stat);
	if (r >= 0 && cli->count)
		r = admin_count(cli, table, &count);
	if (r >= 0)
		admin_print_stat(cli, eloq_table_info(table), &stat, count);
	eloq_table_close(table);
	return r < 0 ? cli_fail_op(cli, "table stat", r) : CLI_DONE;
}

int cli_table(struct cli *cli)
{
	static const struct {
		const char *verb;
		bool wants_name;
		int (*run)(struct cli *cli, const char *name);
	} verbs[] = {
		{ "create", true, admin_table_create },
		{ "drop", true, admin_table_drop },
		{ "truncate", true, admin_table_truncate },
		{ "stat", false, admin_table_stat },
	};
	const char *verb = cli->argv[0];
	const char *name = cli->argc > 1 ? cli->argv[1] : cli->table_name;
	int r;

	if (strcmp(verb, "list") == 0) {
		r = cli_connect(cli);
		return r == CLI_DONE ? admin_table_list(cli) : r;
	}
	if (cli->from && strcmp(verb, "truncate") == 0)
		return cli_usage("truncate --from is not built yet");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verb, verbs[i].verb) != 0)
			continue;
		if (verbs[i].wants_name && !name)
			return cli_usage("table %s wants a name", verb);
		r = cli_connect(cli);
		return r == CLI_DONE ? verbs[i].run(cli, name) : r;
	}
	return cli_usage("table %s: try list, create, drop, truncate or stat", verb);
}

int cli_stat(struct cli *cli)
{
	struct eloq_error error = { 0 };
	char *text;
	int r = cli_connect(cli);

	if (r != CLI_DONE)
		return r;
	r = eloq_daemon_stat(cli->client, &text, &error);
	if (r < 0)
		return cli_fail("stat", r, &error);
	printf("%s", text);
	free(text);
	return CLI_DONE;
}

int cli_config(struct cli *cli)
{
	struct eloq_error error = { 0 };
	char *text;
	int r = cli_connect(cli);

	if (r != CLI_DONE)
		return r;
	r = eloq_daemon_config(cli->client, &text, &error);
	if (r < 0)
		return cli_fail("config", r, &error);
	printf("%s", text);
	free(text);
	return CLI_DONE;
}

int cli_ping(struct cli *cli)
{
	uint64_t ns;
	int r = cli_connect(cli);

	if (r != CLI_DONE)
		return r;
	r = eloq_ping(cli->channel, &ns);
	if (r < 0)
		return cli_fail("ping", r, NULL);
	if (cli->json)
		printf("{\"shards\":%u,\"slowest_ns\":%" PRIu64 "}\n",
		       eloq_shard_count(cli->client), ns);
	else
		printf("%u shard%s, slowest %.1f us\n", eloq_shard_count(cli->client),
		       eloq_shard_count(cli->client) == 1 ? "" : "s", (double)ns / 1e3);
	return CLI_DONE;
}
