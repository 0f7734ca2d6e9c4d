/*
 * look.c - looking at the daemon: round trips, partitions, figures, counters, configuration.
 *
 * Idea: what the workers know is asked through the lanes, one request at a time, as nobody is in a
 * hurry; what the supervisor knows comes over the socket as text.
 *
 * Runs on:  the channel's thread; any thread for the texts.
 */
#include "client/internal.h"

#include "common/coding.h"

#include <stdlib.h>
#include <string.h>

int eloq_ping(struct eloq_channel *channel, uint64_t *ret_ns)
{
	struct client_op op = { .op = ELOQ_OP_PING };
	uint64_t slowest_ns = 0;
	int r;

	if (!channel)
		return -ELOQ_ETOOMANY;
	r = eloq_client_check(channel->client);
	for (; r == 0 && op.shard < channel->client->shard_count; op.shard++) {
		uint64_t start_ns = eloq_client_now_ns();

		op.partition = op.shard;
		r = eloq_sync_call(channel, &op, NULL);
		slowest_ns = eloq_max_u64(slowest_ns, eloq_client_now_ns() - start_ns);
	}
	if (r == 0)
		*ret_ns = slowest_ns;
	return r;
}

/* --- Partitions --------------------------------------------------------------------------------
 */

static int look_add_partition(struct client_partitions *partitions, uint32_t id)
{
	if (partitions->count == partitions->count_max) {
		size_t count_max = partitions->count_max ? 2 * partitions->count_max : 64;
		uint32_t *grown = reallocarray(partitions->ids, count_max, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		partitions->ids = grown;
		partitions->count_max = count_max;
	}
	partitions->ids[partitions->count++] = id;
	return 0;
}

/* Ascending ids from one shard, a page at a time. */
static int look_shard_partitions(struct eloq_channel *channel, struct eloq_table *table,
				 uint32_t shard, uint64_t deadline_ns,
				 struct client_partitions *partitions)
{
	struct client_buffer page = { 0 };
	struct client_op op = { .op = ELOQ_OP_PARTITIONS,
				.table = table,
				.shard = shard,
				.deadline_ns = deadline_ns,
				.into = &page };
	struct client_request *request;
	bool more = true;
	int r = 0;

	while (more && r == 0) {
		r = eloq_sync_call(channel, &op, &request);
		if (r < 0)
			break;
		more = request->more && page.bytes >= sizeof(uint32_t);
		eloq_async_release(request);
		for (size_t at = 0; r == 0 && at + sizeof(uint32_t) <= page.bytes;
		     at += sizeof(uint32_t)) {
			op.partition = eloq_get_u32(page.data + at) + 1;
			r = look_add_partition(partitions, op.partition - 1);
		}
	}
	eloq_buffer_clear(&page);
	return r;
}

static int look_compare_ids(const void *a, const void *b)
{
	uint32_t left, right;

	memcpy(&left, a, sizeof(left));
	memcpy(&right, b, sizeof(right));
	return (left > right) - (left < right);
}

int eloq_look_partitions(struct eloq_channel *channel, struct eloq_table *table,
			 uint64_t deadline_ns, struct client_partitions *ret_partitions)
{
	int r = 0;

	*ret_partitions = (struct client_partitions){ 0 };
	for (uint32_t i = 0; r == 0 && i < channel->client->shard_count; i++)
		r = look_shard_partitions(channel, table, i, deadline_ns, ret_partitions);
	if (r < 0) {
		free(ret_partitions->ids);
		return r;
	}
	if (ret_partitions->count)
		qsort(ret_partitions->ids, ret_partitions->count, sizeof(*ret_partitions->ids),
		      look_compare_ids);
	return 0;
}

static int look_check(const struct eloq_channel *channel, const struct eloq_table *table)
{
	if (!channel)
		return -ELOQ_ETOOMANY;
	if (!table || table->client != channel->client)
		return -EINVAL;
	return eloq_client_check(channel->client);
}

int eloq_table_partitions(struct eloq_channel *channel, struct eloq_table *table,
			  int (*each)(void *arg, uint32_t partition), void *arg)
{
	struct client_partitions partitions = { 0 };
	int r;

	r = look_check(channel, table);
	if (r == 0)
		r = eloq_look_partitions(channel, table, 0, &partitions);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < partitions.count; i++)
		r = each(arg, partitions.ids[i]);
	free(partitions.ids);
	return r;
}

/* --- Figures -----------------------------------------------------------------------------------
 */

static int look_add_figures(struct eloq_channel *channel, struct eloq_table *table,
			    uint32_t partition, struct eloq_table_stat *stat)
{
	struct eloq_partition_figures figures = { 0 };
	uint8_t bytes[ELOQ_PARTITION_STAT_BYTES];
	struct client_buffer into = { .data = bytes, .capacity = sizeof(bytes), .fixed = true };
	struct client_op op = { .op = ELOQ_OP_PARTITION_STAT };
	int r;

	r = eloq_op_prepare_partition(&op, channel, table, partition, NULL);
	op.into = &into;
	if (r == 0)
		r = eloq_sync_call(channel, &op, NULL);
	if (r == 0)
		r = eloq_partition_figures_get(bytes, into.bytes, &figures);
	if (r < 0)
		return r;
	stat->partitions++;
	stat->pages += figures.pages;
	stat->page_bytes = figures.page_bytes;
	stat->file_pages += figures.file_pages_end;
	stat->manifest_bytes += figures.manifest_bytes;
	stat->ttl_partitions += figures.has_ttl_tree != 0;
	return 0;
}

int eloq_table_stat(struct eloq_channel *channel, struct eloq_table *table,
		    struct eloq_table_stat *ret_stat)
{
	struct client_partitions partitions = { 0 };
	struct eloq_table_stat stat = { 0 };
	int r;

	r = look_check(channel, table);
	if (r == 0)
		r = eloq_look_partitions(channel, table, 0, &partitions);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < partitions.count; i++)
		r = look_add_figures(channel, table, partitions.ids[i], &stat);
	free(partitions.ids);
	if (r == 0)
		*ret_stat = stat;
	return r;
}

/* --- Texts -------------------------------------------------------------------------------------
 */

static int look_add_text(char **text, size_t *text_bytes, const struct eloq_msg_text *part)
{
	char *grown = realloc(*text, *text_bytes + part->text_bytes + 1);

	if (!grown)
		return -ENOMEM;
	memcpy(grown + *text_bytes, part + 1, part->text_bytes);
	*text_bytes += part->text_bytes;
	grown[*text_bytes] = '\0';
	*text = grown;
	return 0;
}

/* A long text comes in parts; they are received to the end even without memory for them. */
static int look_text(struct eloq_client *client, enum eloq_look what, char **ret_text,
		     struct eloq_error *reterr)
{
	struct eloq_msg_look message = { .what = what };
	struct eloq_errinfo info = { 0 };
	char *text = NULL;
	size_t text_bytes = 0;
	int r, result = 0;

	r = eloq_client_ask(client, &message, ELOQ_CONTROL_LOOK, sizeof(message), &info);
	for (;;) {
		if (r == 0)
			r = eloq_client_expect(client, ELOQ_CONTROL_TEXT, 0, &info);
		if (r < 0)
			break;
		if (result == 0)
			result = look_add_text(&text, &text_bytes, &client->reply.text);
		if (!client->reply.text.more)
			break;
		r = eloq_client_next(client, &info);
	}
	eloq_client_end(client);
	if (r == 0)
		r = result;
	if (r < 0) {
		free(text);
		return eloq_client_report(reterr, &info, r);
	}
	*ret_text = text;
	return 0;
}

int eloq_daemon_stat(struct eloq_client *client, char **ret_json, struct eloq_error *reterr)
{
	return look_text(client, ELOQ_LOOK_STAT, ret_json, reterr);
}

int eloq_daemon_config(struct eloq_client *client, char **ret_ini, struct eloq_error *reterr)
{
	return look_text(client, ELOQ_LOOK_CONFIG, ret_ini, reterr);
}
