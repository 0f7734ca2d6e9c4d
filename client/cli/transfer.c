/*
 * transfer.c - import and export: whole tables through files of lines.
 *
 * Idea: import collects records into one batch for each partition and sends a batch when it is
 * large enough; batches of different partitions are in flight together, so their syncs overlap. A
 * malformed line ends the import with its number; what came before it is written.
 */
#include "client/cli/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	IMPORT_BATCH_BYTES = 1 << 20,	 /* then it is sent */
	IMPORT_WAITING_BYTES = 64 << 20, /* in all batches together: then all are sent */
	IMPORT_TABLES_MAX = 64,		 /* different ones in one file */
	IMPORT_COMPLETIONS = 16,
};

struct import_batch {
	struct eloq_batch *batch;
	uint32_t partition;
	struct import_batch *next; /* of the same table */
};

struct import_table {
	struct eloq_table *table;
	const struct eloq_table_info *info;
	struct import_batch **batches; /* hash of partitions */
};

enum { IMPORT_BATCH_BUCKETS = 1024 };

struct import {
	struct cli *cli;
	FILE *file;
	enum transfer_format format;
	struct import_table tables[IMPORT_TABLES_MAX];
	unsigned table_count;
	size_t waiting_bytes;
	uint64_t line_no, records, bytes;
	double started_s, shown_s;
	int error; /* the first one of a batch */
};

static double transfer_now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void import_show(struct import *import, bool last)
{
	double now_s = transfer_now_s();
	double seconds = now_s - import->started_s;

	if (seconds <= 0)
		seconds = 1e-9;
	if (!last && (now_s - import->shown_s < 0.2 || !isatty(STDERR_FILENO)))
		return;
	import->shown_s = now_s;
	(void)fprintf(
		stderr, "%s%s %" PRIu64 " records, %.1f MB in %.2f s: %.0f keys/s, %.1f MB/s%s",
		isatty(STDERR_FILENO) ? "\r" : "", last ? "imported" : "importing", import->records,
		(double)import->bytes / 1e6, seconds, (double)import->records / seconds,
		(double)import->bytes / 1e6 / seconds, last ? "\n" : "");
}

/* --- sending
 * -------------------------------------------------------------------------------------- */

/* Collect what is done; with @all wait until nothing is in flight. */
static int import_poll(struct import *import, bool all)
{
	struct eloq_completion done[IMPORT_COMPLETIONS];
	struct eloq_channel *channel = import->cli->channel;

	do {
		int count = eloq_poll(channel, done, IMPORT_COMPLETIONS, UINT64_MAX);

		if (count < 0)
			return count;
		for (int i = 0; i < count; i++)
			if (done[i].result < 0 && import->error == 0)
				import->error = done[i].result;
	} while (all && eloq_in_flight(channel) > 0);
	return import->error;
}

static int import_send(struct import *import, struct import_table *table,
		       struct import_batch *batch)
{
	struct eloq_op_opts opts = cli_op_opts(import->cli);
	int r;

	if (eloq_batch_count(batch->batch) == 0)
		return 0;
	opts.partition_set = 1;
	opts.partition = batch->partition;
	while ((r = eloq_submit_batch(import->cli->channel, table->table, batch->batch, NULL,
				      &opts)) == -EAGAIN) {
		r = import_poll(import, false);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	(void)eloq_flush(import->cli->channel);
	import->waiting_bytes -= eloq_batch_bytes(batch->batch);
	eloq_batch_clear(batch->batch);
	return 0;
}

static int import_send_all(struct import *import)
{
	for (unsigned t = 0; t < import->table_count; t++) {
		for (unsigned b = 0; b < IMPORT_BATCH_BUCKETS; b++) {
			struct import_batch *batch = import->tables[t].batches[b];

			for (; batch; batch = batch->next) {
				int r = import_send(import, &import->tables[t], batch);

				if (r < 0)
					return r;
			}
		}
	}
	return import_poll(import, true);
}

/* --- collecting
 * ------------------------------------------------------------------------------------ */

/* NULL: told. @name "": the default table, made if missing. */
static struct import_table *import_table(struct import *import, const char *name)
{
	struct import_table *table;
	const char *wanted = name[0] ? name : "default";

	for (unsigned i = 0; i < import->table_count; i++)
		if (strcmp(import->tables[i].info->name, wanted) == 0)
			return &import->tables[i];
	if (import->table_count == IMPORT_TABLES_MAX) {
		(void)fprintf(stderr, "eloqctl: more than %d tables in one import\n",
			      IMPORT_TABLES_MAX);
		return NULL;
	}
	table = &import->tables[import->table_count];
	if (cli_open_table(import->cli, name[0] ? name : NULL, true, &table->table) != CLI_DONE)
		return NULL;
	table->info = eloq_table_info(table->table);
	table->batches = cli_alloc(IMPORT_BATCH_BUCKETS * sizeof(struct import_batch *));
	memset(table->batches, 0, IMPORT_BATCH_BUCKETS * sizeof(struct import_batch *));
	import->table_count++;
	return table;
}

static struct import_batch *import_batch(struct import_table *table, uint32_t partition)
{
	struct import_batch **at = &table->batches[partition % IMPORT_BATCH_BUCKETS];
	struct import_batch *batch;

	for (batch = *at; batch; batch = batch->next)
		if (batch->partition == partition)
			return batch;
	batch = cli_alloc(sizeof(*batch));
	*batch = (struct import_batch){ .partition = partition, .next = *at };
	if (eloq_batch_new(&batch->batch) < 0) {
		free(batch);
		return NULL;
	}
	*at = batch;
	return batch;
}

/* The partition a record belongs to; false, and what is wrong. */
static bool import_route(struct import *import, const struct import_table *table,
			 const struct transfer_record *record, uint32_t *ret_partition,
			 const char **ret_wrong)
{
	const struct cli *cli = import->cli;

	if (cli->partition_set) {
		*ret_partition = cli->partition;
	} else if (table->info->partitions > 0) {
		*ret_partition =
			eloq_table_partition(table->table, record->key.data, record->key.bytes);
	} else if (record->partition_set) {
		*ret_partition = record->partition;
	} else {
		*ret_wrong = "the table was adopted and routes no keys: name a partition with -p";
		return false;
	}
	return true;
}

/* Put one record into its batch. 0, or the exit code with the reason told. */
static int import_record(struct import *import, const struct transfer_record *record)
{
	const char *name = import->cli->table_name ? import->cli->table_name : record->table;
	struct import_table *table = import_table(import, name);
	struct import_batch *batch;
	const char *wrong = NULL;
	uint32_t partition = 0;
	uint64_t timestamp;
	size_t before;
	int r;

	if (!table)
		return CLI_ERROR;
	if (!import_route(import, table, record, &partition, &wrong))
		return cli_usage("line %" PRIu64 ": %s", import->line_no, wrong);
	batch = import_batch(table, partition);
	if (!batch)
		return cli_fail("import", -ENOMEM, NULL);
	timestamp = table->info->timestamps == ELOQ_CALLER_TIMESTAMPS ? record->timestamp : 0;
	before = eloq_batch_bytes(batch->batch);
	if (before > 0 && before + record->value.bytes > IMPORT_BATCH_BYTES) {
		r = import_send(import, table, batch);
		if (r < 0)
			return cli_fail_op(import->cli, "import", r);
		before = 0;
	}
	r = eloq_batch_put(batch->batch, record->key.data, record->key.bytes, record->value.data,
			   record->value.bytes, timestamp);
	if (r < 0)
		return cli_usage("line %" PRIu64 ": %s", import->line_no, eloq_strerror(r));
	import->waiting_bytes += eloq_batch_bytes(batch->batch) - before;
	import->records++;
	import->bytes += record->key.bytes + record->value.bytes;
	if (import->waiting_bytes > IMPORT_WAITING_BYTES) {
		r = import_send_all(import);
		if (r < 0)
			return cli_fail_op(import->cli, "import", r);
	}
	return CLI_DONE;
}

static int import_lines(struct import *import)
{
	struct transfer_record record = { 0 };
	char *line = NULL;
	size_t room = 0;
	ssize_t bytes;
	int result = CLI_DONE;

	while (result == CLI_DONE && (bytes = getline(&line, &room, import->file)) >= 0) {
		const char *wrong;

		import->line_no++;
		if (bytes > 0 && line[bytes - 1] == '\n')
			bytes--;
		if (bytes == 0)
			continue;
		wrong = transfer_parse(import->format, line, (size_t)bytes, &record);
		if (wrong)
			result = cli_usage("line %" PRIu64 ": %s", import->line_no, wrong);
		else
			result = import_record(import, &record);
		import_show(import, false);
	}
	if (ferror(import->file))
		result = cli_usage("reading line %" PRIu64 ": %s", import->line_no + 1,
				   strerror(errno));
	free(line);
	cli_bytes_free(&record.key);
	cli_bytes_free(&record.value);
	return result;
}

static void import_free(struct import *import)
{
	for (unsigned t = 0; t < import->table_count; t++) {
		for (unsigned b = 0; b < IMPORT_BATCH_BUCKETS; b++) {
			struct import_batch *batch = import->tables[t].batches[b];

			while (batch) {
				struct import_batch *next = batch->next;

				eloq_batch_free(batch->batch);
				free(batch);
				batch = next;
			}
		}
		free(import->tables[t].batches);
		eloq_table_close(import->tables[t].table);
	}
}

static int import_run(struct import *import)
{
	int result = import_lines(import);
	int r;

	/* Also after a bad line: what came before it stays. */
	r = import_send_all(import);
	if (r < 0) {
		int code = cli_fail_op(import->cli, "import", r);

		result = result == CLI_DONE ? code : result;
	}
	import_show(import, true);
	import_free(import);
	return result;
}

int cli_import(struct cli *cli)
{
	struct import import = { .cli = cli, .file = stdin, .started_s = transfer_now_s() };
	const char *name = cli->argv[0];
	int r;

	if (!transfer_format_of(cli, name, &import.format))
		return CLI_USAGE;
	if (strcmp(name, "-") != 0) {
		import.file = fopen(name, "re");
		if (!import.file)
			return cli_usage("%s: %s", name, strerror(errno));
	}
	r = cli_connect(cli);
	if (r == CLI_DONE)
		r = import_run(&import);
	if (import.file != stdin)
		(void)fclose(import.file);
	return r;
}

/* --- export
 * ------------------------------------------------------------------------------------------ */

struct export
{
	struct cli *cli;
	FILE *file;
	enum transfer_format format;
	uint64_t records;
};

static int export_table(void *arg, const struct eloq_table_info *info)
{
	struct export *export = arg;
	struct eloq_scan_opts opts = { .opts_bytes = sizeof(opts),
				       .page_bytes = 1 << 20,
				       .partition_set = export->cli->partition_set,
				       .partition = export->cli->partition };
	struct eloq_scan_cursor *cursor = NULL;
	struct eloq_entry_view entry;
	struct eloq_table *table;
	int r;

	r = eloq_table_open(export->cli->client, info->name, &table, NULL);
	if (r < 0)
		return r;
	r = eloq_scan_open(export->cli->channel, table, &opts, &cursor);
	while (r >= 0 && (r = eloq_scan_next(cursor, &entry)) == 1) {
		transfer_print(export->format, export->file, info->name, &entry);
		export->records++;
	}
	eloq_scan_close(cursor);
	eloq_table_close(table);
	return r;
}

/* Names first: a table is exported by calls that a walk over tables must not meet. */
struct export_names {
	struct eloq_table_info *infos;
	size_t count, room;
};

static int export_collect(void *arg, const struct eloq_table_info *info)
{
	struct export_names *names = arg;

	if (names->count == names->room) {
		size_t room = names->room ? names->room * 2 : 16;
		struct eloq_table_info *grown = cli_alloc(room * sizeof(*grown));

		if (names->count > 0)
			memcpy(grown, names->infos, names->count * sizeof(*grown));
		free(names->infos);
		names->infos = grown;
		names->room = room;
	}
	names->infos[names->count++] = *info;
	return 0;
}

static int export_tables(struct export *export)
{
	struct export_names names = { 0 };
	struct eloq_error error = { 0 };
	int r;

	r = eloq_table_list(export->cli->client, export_collect, &names, &error);
	for (size_t i = 0; r >= 0 && i < names.count; i++)
		r = export_table(export, &names.infos[i]);
	free(names.infos);
	return r < 0 ? cli_fail("export", r, &error) : CLI_DONE;
}

static int export_run(struct export *export)
{
	struct eloq_table *table;
	int r = cli_connect(export->cli);

	if (r != CLI_DONE)
		return r;
	/* A line of tsv does not say its table: one table at a time. */
	if (!export->cli->table_name && export->format == TRANSFER_JSONL)
		return export_tables(export);
	r = cli_open_table(export->cli, export->cli->table_name, false, &table);
	if (r != CLI_DONE)
		return r;
	r = export_table(export, eloq_table_info(table));
	eloq_table_close(table);
	return r < 0 ? cli_fail_op(export->cli, "export", r) : CLI_DONE;
}

int cli_export(struct cli *cli)
{
	struct export export = { .cli = cli, .file = stdout };
	const char *name = cli->argc > 0 ? cli->argv[0] : "-";
	int r;

	if (!transfer_format_of(cli, name, &export.format))
		return CLI_USAGE;
	if (strcmp(name, "-") != 0) {
		export.file = fopen(name, "we");
		if (!export.file)
			return cli_usage("%s: %s", name, strerror(errno));
	}
	r = export_run(&export);
	if (export.file != stdout && fclose(export.file) != 0 && r == CLI_DONE)
		r = cli_usage("%s: %s", name, strerror(errno));
	if (r == CLI_DONE && isatty(STDERR_FILENO) && export.file != stdout)
		(void)fprintf(stderr, "exported %" PRIu64 " records\n", export.records);
	return r;
}
