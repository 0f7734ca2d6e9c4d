/*
 * hello.c - the first minute with libeloqclient: put, get, scan, delete.
 *
 *	cc hello.c $(pkg-config --cflags --libs eloqclient) -o hello
 *	./hello [SOCKET]
 *
 * Without SOCKET the daemon is looked for where $ELOQ_SOCKET says, else in ./eloq-data. The table
 * "hello" is made on the first run.
 */
#include <eloqclient.h>

#include <stdio.h>
#include <string.h>

static int complain(const char *what, int r, const struct eloq_error *error)
{
	fprintf(stderr, "hello: %s: %s\n", what, error ? error->text : eloq_strerror(r));
	return 1;
}

static int open_table(struct eloq_client *client, struct eloq_table **ret_table,
		      struct eloq_error *reterr)
{
	int r = eloq_table_create(client, "hello", 4, ELOQ_SERVER_TIMESTAMPS, reterr);

	if (r < 0 && r != -ELOQ_CLIENT_EEXISTS)
		return r;
	return eloq_table_open(client, "hello", ret_table, reterr);
}

static int print_all(struct eloq_channel *channel, struct eloq_table *table)
{
	struct eloq_scan_cursor *cursor;
	struct eloq_entry_view entry;
	int r;

	r = eloq_scan_open(channel, table, NULL, &cursor);
	if (r < 0)
		return r;
	while ((r = eloq_scan_next(cursor, &entry)) > 0)
		printf("  %.*s = %.*s\n", (int)entry.key_bytes, (const char *)entry.key,
		       (int)entry.value_bytes, (const char *)entry.value);
	eloq_scan_close(cursor);
	return r;
}

static int say_hello(struct eloq_channel *channel, struct eloq_table *table)
{
	static const char *const pairs[][2] = { { "apple", "red" },
						{ "banana", "yellow" },
						{ "cherry", "dark red" } };
	struct eloq_value value;
	int r = 0;

	/* When a put returns 0, its value is on disk. */
	for (size_t i = 0; r == 0 && i < sizeof(pairs) / sizeof(pairs[0]); i++)
		r = eloq_put(channel, table, pairs[i][0], strlen(pairs[i][0]), pairs[i][1],
			     strlen(pairs[i][1]), NULL);
	if (r < 0)
		return r;
	r = eloq_get(channel, table, "banana", 6, &value, NULL);
	if (r < 0)
		return r;
	printf("a banana is %s\nall there is, in order of keys:\n", (const char *)value.data);
	eloq_value_free(&value);
	r = print_all(channel, table);
	if (r < 0)
		return r;
	r = eloq_delete(channel, table, "banana", 6, NULL);
	if (r < 0)
		return r;
	r = eloq_get(channel, table, "banana", 6, &value, NULL);
	printf("and now: %s\n", eloq_strerror(r));
	return r == -ELOQ_CLIENT_ENOTFOUND ? 0 : r;
}

int main(int argc, char **argv)
{
	struct eloq_connect_opts opts = { .opts_bytes = sizeof(opts) };
	struct eloq_error error = { 0 };
	struct eloq_client *client;
	struct eloq_table *table;
	int r;

	opts.socket = argc > 1 ? argv[1] : NULL;
	r = eloq_connect(&client, &opts, &error);
	if (r < 0)
		return complain("connecting", r, &error);
	r = open_table(client, &table, &error);
	if (r < 0) {
		eloq_disconnect(client);
		return complain("table hello", r, &error);
	}
	r = say_hello(eloq_channel(client), table);
	eloq_disconnect(client);
	return r < 0 ? complain("request", r, NULL) : 0;
}
