/*
 * table.c - tables by name, and which partition and shard a key belongs to.
 *
 * Idea: a key's partition is its hash modulo the table's partitions, the partition's shard is its
 * number modulo the shards; both are known here, so a request goes straight to the worker that
 * owns its key. All limits of a call are checked in this file, before anything is sent.
 *
 * Runs on:  any thread; a table handle never changes.
 * Fails by: errors with the daemon's words; -EINVAL and -ELOQ_ETOOLONG for arguments.
 */
#include "client/internal.h"

#include "common/checksum.h"

#include <stdlib.h>
#include <string.h>

static_assert(sizeof(((struct eloq_table_info *)NULL)->name) ==
		      sizeof(((struct eloq_msg_table *)NULL)->name),
	      "a name that fits a message fits the public structure");
static_assert((int)ELOQ_SERVER_TIMESTAMPS == (int)ELOQ_TIMESTAMPS_SERVER &&
		      (int)ELOQ_CALLER_TIMESTAMPS == (int)ELOQ_TIMESTAMPS_CALLER,
	      "public numbers are the protocol's");

/* --- By name -----------------------------------------------------------------------------------
 */

static int table_message(struct eloq_msg_table_name *message, const char *name,
			 struct eloq_errinfo *reterr)
{
	size_t bytes = name ? strlen(name) : 0;

	memset(message, 0, sizeof(*message));
	if (bytes == 0 || bytes > ELOQ_TABLE_NAME_BYTES_MAX)
		return eloq_fail(reterr, -EINVAL, "a table's name has 1 to %d bytes",
				 ELOQ_TABLE_NAME_BYTES_MAX);
	memcpy(message->name, name, bytes);
	return 0;
}

static void table_read_info(struct eloq_table_info *info, const struct eloq_msg_table *message)
{
	*info = (struct eloq_table_info){
		.id = message->table,
		.partitions = message->flags & ELOQ_TABLE_ADOPTED ? 0 : message->partitions,
		.timestamps = (enum eloq_timestamps)message->timestamps,
	};
	memcpy(info->name, message->name, sizeof(info->name));
}

/* Ask for something by name that is answered by one message of type @answer. */
static int table_ask(struct eloq_client *client, const char *name, enum eloq_control_type type,
		     uint32_t partitions, uint32_t timestamps, struct eloq_table_info *ret_info,
		     struct eloq_errinfo *reterr)
{
	struct eloq_msg_table_name message;
	int r;

	r = table_message(&message, name, reterr);
	if (r < 0)
		return r;
	message.partitions = partitions;
	message.timestamps = timestamps;
	r = eloq_client_ask(client, &message, type, sizeof(message), reterr);
	if (r == 0 && ret_info)
		r = eloq_client_expect(client, ELOQ_CONTROL_TABLE, 0, reterr);
	if (r == 0 && ret_info)
		table_read_info(ret_info, &client->reply.table);
	eloq_client_end(client);
	return r;
}

int eloq_table_open(struct eloq_client *client, const char *name, struct eloq_table **ret_table,
		    struct eloq_error *reterr)
{
	struct eloq_errinfo info = { 0 };
	struct eloq_table *table = calloc(1, sizeof(*table));
	int r;

	if (!table)
		return eloq_client_report(reterr, &info, -ENOMEM);
	table->client = client;
	r = table_ask(client, name, ELOQ_CONTROL_TABLE_OPEN, 0, 0, &table->info, &info);
	if (r < 0) {
		free(table);
		return eloq_client_report(reterr, &info, r);
	}
	pthread_mutex_lock(&client->control_lock);
	eloq_list_push_back(&client->tables, &table->link);
	pthread_mutex_unlock(&client->control_lock);
	*ret_table = table;
	return 0;
}

void eloq_table_close(struct eloq_table *table)
{
	bool forked;

	if (!table)
		return;
	forked = eloq_client_is_forked(table->client);
	if (!forked)
		pthread_mutex_lock(&table->client->control_lock);
	eloq_list_remove(&table->link);
	if (!forked)
		pthread_mutex_unlock(&table->client->control_lock);
	free(table);
}

int eloq_table_create(struct eloq_client *client, const char *name, uint32_t partitions,
		      enum eloq_timestamps timestamps, struct eloq_error *reterr)
{
	struct eloq_errinfo info = { 0 };
	int r;

	if (partitions == 0 || partitions > ELOQ_PARTITIONS_PER_TABLE_MAX)
		r = eloq_fail(&info, -EINVAL, "a table has 1 to %d partitions",
			      ELOQ_PARTITIONS_PER_TABLE_MAX);
	else if (timestamps != ELOQ_SERVER_TIMESTAMPS && timestamps != ELOQ_CALLER_TIMESTAMPS)
		r = eloq_fail(&info, -EINVAL, "timestamps are the server's or the caller's");
	else
		r = table_ask(client, name, ELOQ_CONTROL_TABLE_CREATE, partitions, timestamps, NULL,
			      &info);
	return eloq_client_report(reterr, &info, r);
}

int eloq_table_drop(struct eloq_client *client, const char *name, struct eloq_error *reterr)
{
	struct eloq_errinfo info = { 0 };
	int r = table_ask(client, name, ELOQ_CONTROL_TABLE_DROP, 0, 0, NULL, &info);

	return eloq_client_report(reterr, &info, r);
}

/* --- All of them -------------------------------------------------------------------------------
 */

struct table_list {
	struct eloq_table_info *infos;
	size_t count, count_max;
};

static int table_list_add(struct table_list *list, const struct eloq_msg_table *message)
{
	if (list->count == list->count_max) {
		size_t count_max = list->count_max ? 2 * list->count_max : 16;
		struct eloq_table_info *grown;

		grown = reallocarray(list->infos, count_max, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->infos = grown;
		list->count_max = count_max;
	}
	table_read_info(&list->infos[list->count++], message);
	return 0;
}

/* Received to the end even without memory, so that the socket is free for the next question. */
static int table_list_receive(struct eloq_client *client, struct table_list *list,
			      struct eloq_errinfo *reterr)
{
	struct eloq_msg_table_name message = { 0 };
	int r, result = 0;

	r = eloq_client_ask(client, &message, ELOQ_CONTROL_TABLE_LIST, sizeof(message), reterr);
	while (r == 0 && client->reply.header.type == ELOQ_CONTROL_TABLE) {
		if (result == 0)
			result = table_list_add(list, &client->reply.table);
		r = eloq_client_next(client, reterr);
	}
	if (r == 0)
		r = eloq_client_expect(client, ELOQ_CONTROL_DONE, 0, reterr);
	eloq_client_end(client);
	return r < 0 ? r : result;
}

static int table_compare_names(const void *a, const void *b)
{
	return strcmp(((const struct eloq_table_info *)a)->name,
		      ((const struct eloq_table_info *)b)->name);
}

/* The walk starts when the list is complete: @each may ask the daemon itself. */
int eloq_table_list(struct eloq_client *client,
		    int (*each)(void *arg, const struct eloq_table_info *info), void *arg,
		    struct eloq_error *reterr)
{
	struct table_list list = { 0 };
	struct eloq_errinfo info = { 0 };
	int r;

	r = table_list_receive(client, &list, &info);
	if (r < 0) {
		free(list.infos);
		return eloq_client_report(reterr, &info, r);
	}
	if (list.count)
		qsort(list.infos, list.count, sizeof(*list.infos), table_compare_names);
	for (size_t i = 0; r == 0 && i < list.count; i++)
		r = each(arg, &list.infos[i]);
	free(list.infos);
	return r;
}

const struct eloq_table_info *eloq_table_info(const struct eloq_table *table)
{
	return &table->info;
}

/* --- Calls -------------------------------------------------------------------------------------
 */

uint32_t eloq_table_partition(const struct eloq_table *table, const void *key, size_t key_bytes)
{
	if (table->info.partitions == 0)
		return 0;
	return (uint32_t)(eloq_checksum_xxh3(key, key_bytes) % table->info.partitions);
}

uint64_t eloq_op_deadline_ns(uint64_t timeout_ns)
{
	uint64_t now_ns;

	if (timeout_ns == 0)
		return 0;
	now_ns = eloq_client_now_ns();
	return timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
}

static int op_read_opts(struct client_op *op, struct eloq_op_opts *known,
			const struct eloq_op_opts *opts)
{
	int r = eloq_client_read_opts(known, sizeof(*known), opts);

	if (r < 0)
		return r;
	/* The server's own timestamps cannot be set. */
	if (known->timestamp && op->table->info.timestamps != ELOQ_CALLER_TIMESTAMPS)
		return -EINVAL;
	op->timestamp = known->timestamp;
	op->deadline_ns = eloq_op_deadline_ns(known->timeout_ns);
	return 0;
}

static int op_set_partition(struct client_op *op, uint32_t partition)
{
	const struct eloq_table_info *info = &op->table->info;

	if (info->partitions && partition >= info->partitions)
		return -EINVAL;
	op->partition = partition;
	op->shard = partition % op->table->client->shard_count;
	return 0;
}

static int op_start(struct client_op *op, struct eloq_channel *channel, struct eloq_table *table)
{
	if (!channel)
		return -ELOQ_ETOOMANY;
	if (!table || table->client != channel->client)
		return -EINVAL;
	op->table = table;
	return eloq_client_check(channel->client);
}

int eloq_op_prepare(struct client_op *op, struct eloq_channel *channel, struct eloq_table *table,
		    const void *key, size_t key_bytes, const struct eloq_op_opts *opts)
{
	struct eloq_op_opts known;
	int r;

	r = op_start(op, channel, table);
	if (r < 0)
		return r;
	if (!key || key_bytes == 0)
		return -EINVAL;
	if (key_bytes > channel->client->key_bytes_max ||
	    op->value_bytes > channel->client->value_bytes_max)
		return -ELOQ_ETOOLONG;
	if (!op->value && op->value_bytes)
		return -EINVAL;
	r = op_read_opts(op, &known, opts);
	if (r < 0)
		return r;
	op->key = key;
	op->key_bytes = key_bytes;
	if (known.partition_set && known.partition != ELOQ_PARTITION_BY_KEY)
		return op_set_partition(op, known.partition);
	if (table->info.partitions == 0) /* keys of an adopted table are not routed */
		return -EINVAL;
	return op_set_partition(op, eloq_table_partition(table, key, key_bytes));
}

int eloq_op_prepare_partition(struct client_op *op, struct eloq_channel *channel,
			      struct eloq_table *table, uint32_t partition,
			      const struct eloq_op_opts *opts)
{
	struct eloq_op_opts known;
	int r;

	r = op_start(op, channel, table);
	if (r == 0)
		r = op_read_opts(op, &known, opts);
	return r < 0 ? r : op_set_partition(op, partition);
}
