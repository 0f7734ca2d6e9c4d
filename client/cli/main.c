/*
 * main.c - eloqctl: the command line's words, which command they mean, and what its end says.
 *
 * One table names every command with its help, its words and the options it takes. Commands and
 * options that belong to the design but are not built are in the tables too, to be refused by name.
 */
#include "client/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct cli_command {
	const char *name;
	int (*run)(struct cli *cli); /* NULL: not built */
	int words_min, words_max;
	const char *options; /* letters of its own options, see cli_options */
	const char *usage;
	const char *help;
};

static const struct cli_command cli_commands[] = {
	{ "put", cli_put, 2, 2, "", "put KEY VALUE", "write one key; VALUE - reads stdin" },
	{ "get", cli_get, 1, 1, "", "get KEY", "print the value of one key" },
	{ "del", cli_del, 1, 1, "", "del KEY", "remove one key" },
	{ "scan", cli_scan, 0, 0, "FTLK", "scan [--from K] [--to K] [--limit N] [--keys-only]",
	  "print key<TAB>value lines in key order, --from included, --to not; tab, newline and "
	  "backslash in them as \\t \\n \\\\, other control bytes as \\xHH" },
	{ "import", cli_import, 1, 1, "O", "import FILE [--format jsonl|tsv]",
	  "write all records of a file; - reads stdin; keys and values of jsonl are hex" },
	{ "export", cli_export, 0, 1, "O", "export [FILE] [--format jsonl|tsv]",
	  "print all records, of one table with -t" },
	{ "table", cli_table, 1, 2, "NMCF",
	  "table list | create NAME [--partitions N] [--timestamps server|caller] | drop NAME | "
	  "truncate NAME | stat [NAME] [--count]",
	  "look at tables and change them" },
	{ "stat", cli_stat, 0, 0, "", "stat", "counters of the daemon and its shards, as JSON" },
	{ "ping", cli_ping, 0, 0, "", "ping", "a round trip through every shard" },
	{ "config", cli_config, 0, 0, "", "config", "the effective configuration" },
	{ "floor", NULL, 0, 9, "", NULL, NULL },
	{ "checkpoint", NULL, 0, 9, "", NULL, NULL },
	{ "archive", NULL, 0, 9, "", NULL, NULL },
	{ "compact", NULL, 0, 9, "", NULL, NULL },
	{ "expire", NULL, 0, 9, "", NULL, NULL },
	{ "top", NULL, 0, 9, "", NULL, NULL },
	{ "slow", NULL, 0, 9, "", NULL, NULL },
	{ "clients", NULL, 0, 9, "", NULL, NULL },
	{ "check", NULL, 0, 9, "", NULL, NULL },
	{ "repair", NULL, 0, 9, "", NULL, NULL },
	{ "dump", NULL, 0, 9, "", NULL, NULL },
};

/* Letters above 'a' are options of every command; 'Z' is one that is not built. */
static const struct option cli_options[] = {
	{ "data", required_argument, NULL, 'd' },
	{ "socket", required_argument, NULL, 's' },
	{ "table", required_argument, NULL, 't' },
	{ "partition", required_argument, NULL, 'p' },
	{ "timeout", required_argument, NULL, 'w' },
	{ "hex", no_argument, NULL, 'x' },
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'v' },
	{ "from", required_argument, NULL, 'F' },
	{ "to", required_argument, NULL, 'T' },
	{ "limit", required_argument, NULL, 'L' },
	{ "keys-only", no_argument, NULL, 'K' },
	{ "format", required_argument, NULL, 'O' },
	{ "partitions", required_argument, NULL, 'N' },
	{ "timestamps", required_argument, NULL, 'M' },
	{ "count", no_argument, NULL, 'C' },
	{ "ttl", required_argument, NULL, 'Z' },
	{ "ts", required_argument, NULL, 'Z' },
	{ "if-absent", no_argument, NULL, 'Z' },
	{ "if-ts", required_argument, NULL, 'Z' },
	{ "reverse", no_argument, NULL, 'Z' },
	{ NULL, 0, NULL, 0 },
};

int cli_usage(const char *format, ...)
{
	va_list args;

	(void)fputs("eloqctl: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputs("\n", stderr);
	return CLI_USAGE;
}

static void cli_help(void)
{
	printf("usage: eloqctl [--data DIR | --socket PATH] [-t TABLE] [-p PARTITION] COMMAND\n\n");
	for (size_t i = 0; i < sizeof(cli_commands) / sizeof(cli_commands[0]); i++)
		if (cli_commands[i].run)
			printf("  %s\n      %s\n", cli_commands[i].usage, cli_commands[i].help);
	printf("\nevery command:\n"
	       "  --data DIR        data directory of the daemon (default ./eloq-data)\n"
	       "  --socket PATH     its socket, if not DIR/eloqstored.sock\n"
	       "  -t, --table NAME  table (default `default`, made by the first put or import)\n"
	       "  -p, --partition N one partition; without it keys are routed by their hash\n"
	       "  --timeout S       give up after so many seconds\n"
	       "  --hex             keys and values as hex digits, both ways\n"
	       "  --json            for programs: stat, ping, table list, table stat\n"
	       "  --help, --version\n\n"
	       "exit codes: 0 done, 1 negative answer, 2 usage or bad input, 3 no daemon, 4 error of "
	       "the service, 5 timeout\n");
}

int cli_fail(const char *what, int error, const struct eloq_error *words)
{
	const char *text = words && words->text[0] ? words->text : eloq_strerror(error);

	(void)fprintf(stderr, "eloqctl: %s: %s\n", what, text);
	switch (error) {
	case -ELOQ_CLIENT_ENODAEMON:
		return CLI_NO_DAEMON;
	case -ETIMEDOUT:
		return CLI_TIMEOUT;
	case -ELOQ_CLIENT_ENOTFOUND:
		return CLI_NEGATIVE;
	case -EINVAL:
	case -EXDEV:
	case -ELOQ_CLIENT_ETOOLONG:
		return CLI_USAGE;
	default:
		return CLI_ERROR;
	}
}

int cli_fail_op(const struct cli *cli, const char *what, int error)
{
	struct eloq_error words = { .code = error };
	const char *said = cli->channel ? eloq_channel_words(cli->channel) : "";

	if (said[0])
		(void)snprintf(words.text, sizeof(words.text), "%s: %s", eloq_strerror(error),
			       said);
	return cli_fail(what, error, &words);
}

struct eloq_op_opts cli_op_opts(const struct cli *cli)
{
	return (struct eloq_op_opts){
		.opts_bytes = sizeof(struct eloq_op_opts),
		.partition_set = cli->partition_set,
		.partition = cli->partition,
		.timeout_ns = (uint64_t)(cli->timeout_s * 1e9),
	};
}

int cli_connect(struct cli *cli)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts),
					  .data_dir = cli->data_dir,
					  .socket = cli->socket };
	struct eloq_error error = { 0 };
	const char *dir = cli->data_dir ? cli->data_dir : "./eloq-data";
	int r;

	r = eloq_connect(&cli->client, &opts, &error);
	if (r < 0) {
		r = cli_fail("connect", r, &error);
		if (r == CLI_NO_DAEMON && !cli->socket)
			(void)fprintf(stderr, "start one with: eloqstored --data %s\n", dir);
		return r;
	}
	r = eloq_channel_open(cli->client, &cli->channel);
	return r < 0 ? cli_fail("open a channel", r, NULL) : CLI_DONE;
}

int cli_open_table(struct cli *cli, const char *name, bool create, struct eloq_table **ret_table)
{
	struct eloq_error error = { 0 };
	bool is_default;
	int r;

	if (!name)
		name = "default";
	is_default = strcmp(name, "default") == 0;
	r = eloq_table_open(cli->client, name, ret_table, &error);
	if (r == -ELOQ_CLIENT_ENOTFOUND && create && is_default) {
		r = eloq_table_create(cli->client, name, CLI_DEFAULT_PARTITIONS,
				      ELOQ_SERVER_TIMESTAMPS, &error);
		/* Somebody else may just have made it. */
		if (r == 0 || r == -ELOQ_CLIENT_EEXISTS)
			r = eloq_table_open(cli->client, name, ret_table, &error);
	}
	if (r < 0) {
		(void)fprintf(stderr, "eloqctl: table %s: %s\n", name,
			      error.text[0] ? error.text : eloq_strerror(r));
		return r == -ETIMEDOUT ? CLI_TIMEOUT : CLI_ERROR;
	}
	return CLI_DONE;
}

static bool cli_parse_number(const char *text, uint64_t max, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number > max)
		return false;
	*ret_number = number;
	return true;
}

/* One option; CLI_DONE, or the exit code with the reason told. */
static int cli_set_option(struct cli *cli, int letter, const char *name, const char *text)
{
	uint64_t number = 0;
	char *end;

	switch (letter) {
	case 'd':
		cli->data_dir = text;
		return CLI_DONE;
	case 's':
		cli->socket = text;
		return CLI_DONE;
	case 't':
		cli->table_name = text;
		return CLI_DONE;
	case 'p':
		if (!cli_parse_number(text, UINT32_MAX - 1, &number))
			return cli_usage("--partition wants a number, not '%s'", text);
		cli->partition = (uint32_t)number;
		cli->partition_set = true;
		return CLI_DONE;
	case 'w':
		cli->timeout_s = strtod(text, &end);
		if (*end || !(cli->timeout_s > 0) || cli->timeout_s > 1e6)
			return cli_usage("--timeout wants seconds above 0, not '%s'", text);
		return CLI_DONE;
	case 'x':
		cli->hex = true;
		return CLI_DONE;
	case 'j':
		cli->json = true;
		return CLI_DONE;
	case 'F':
		cli->from = text;
		return CLI_DONE;
	case 'T':
		cli->to = text;
		return CLI_DONE;
	case 'L':
		cli->limit_set = true;
		if (!cli_parse_number(text, UINT64_MAX, &cli->limit))
			return cli_usage("--limit wants a number, not '%s'", text);
		return CLI_DONE;
	case 'K':
		cli->keys_only = true;
		return CLI_DONE;
	case 'O':
		cli->format = text;
		return CLI_DONE;
	case 'N':
		cli->partitions_set = true;
		if (!cli_parse_number(text, 65536, &cli->partitions) || cli->partitions == 0)
			return cli_usage("--partitions wants a number from 1 to 65536, not '%s'",
					 text);
		return CLI_DONE;
	case 'M':
		cli->timestamps = text;
		return CLI_DONE;
	case 'C':
		cli->count = true;
		return CLI_DONE;
	case 'Z':
		return cli_usage("--%s is not built yet", name);
	default:
		return cli_usage("try 'eloqctl --help'");
	}
}

/* Options may stand before and behind the command; those of other commands are refused. */
static int cli_parse(struct cli *cli, int argc, char **argv, char *ret_used, bool *ret_ended)
{
	int letter, index = 0;

	*ret_ended = false;
	while ((letter = getopt_long(argc, argv, "t:p:h", cli_options, &index)) != -1) {
		int r;

		if (letter == 'h' || letter == 'v') {
			*ret_ended = true;
			if (letter == 'h')
				cli_help();
			else
				printf("eloqctl %s\n", eloq_version());
			return CLI_DONE;
		}
		if (letter == '?')
			return cli_usage("try 'eloqctl --help'");
		if (letter >= 'A' && letter <= 'Y')
			ret_used[letter - 'A'] = (char)letter;
		r = cli_set_option(cli, letter, cli_options[index].name, optarg);
		if (r != CLI_DONE)
			return r;
	}
	return CLI_DONE;
}

static const char *cli_option_name(char letter)
{
	for (const struct option *o = cli_options; o->name; o++)
		if (o->val == letter)
			return o->name;
	return "?";
}

static int cli_check_words(const struct cli_command *command, const struct cli *cli,
			   const char *used)
{
	for (int i = 0; i < 26; i++)
		if (used[i] && !strchr(command->options, used[i]))
			return cli_usage("%s does not take --%s", command->name,
					 cli_option_name(used[i]));
	if (cli->argc < command->words_min || cli->argc > command->words_max)
		return cli_usage("usage: eloqctl %s", command->usage);
	return CLI_DONE;
}

static int cli_run(struct cli *cli, const char *name, const char *used)
{
	for (size_t i = 0; i < sizeof(cli_commands) / sizeof(cli_commands[0]); i++) {
		const struct cli_command *command = &cli_commands[i];
		int r;

		if (strcmp(command->name, name) != 0)
			continue;
		if (!command->run)
			return cli_usage("%s is not built yet", name);
		r = cli_check_words(command, cli, used);
		return r == CLI_DONE ? command->run(cli) : r;
	}
	return cli_usage("unknown command '%s'; try 'eloqctl --help'", name);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	char used[26] = { 0 };
	bool ended;
	int r;

	r = cli_parse(&cli, argc, argv, used, &ended);
	if (r != CLI_DONE || ended)
		return r;
	if (optind == argc)
		return cli_usage("no command; try 'eloqctl --help'");
	cli.argc = argc - optind - 1;
	cli.argv = argv + optind + 1;
	r = cli_run(&cli, argv[optind], used);
	eloq_channel_close(cli.channel);
	eloq_disconnect(cli.client);
	if (fflush(stdout) != 0 && r == CLI_DONE) {
		perror("eloqctl: output");
		r = CLI_ERROR;
	}
	return r;
}
