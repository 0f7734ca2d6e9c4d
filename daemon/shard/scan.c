/*
 * scan.c - ranges, lists of partitions and their figures.
 *
 * Idea: a scan writes its entries straight into what carries the answer: the request's down bulk,
 * or a buffer as long as the answer's room in the ring. It stops before the entry that does not
 * fit; if that is the first, the answer says how much is needed.
 *
 * Runs on: the worker's thread, scans and figures in tasks of their own.
 */
#include "daemon/shard/internal.h"

#include "common/coding.h"

#include <stdlib.h>

struct scan_output {
	uint8_t *buf;
	uint32_t bytes, bytes_max;
	uint32_t needed; /* by the first entry, if it did not fit */
	bool keys_only;
	const struct shard_lane *lane;
	const struct shard_bulk *down;
};

static int scan_each(void *arg, const struct eloq_scan_entry *entry)
{
	struct scan_output *out = arg;
	struct eloq_scan_item item = {
		.key = entry->key,
		.key_bytes = (uint16_t)entry->key_bytes,
		.value = entry->value,
		.value_bytes = out->keys_only ? 0 : entry->value_bytes,
		.timestamp = entry->timestamp,
		.expire_ms = entry->expire_ms,
	};
	size_t bytes = eloq_scan_item_bytes(item.key_bytes, item.value_bytes);

	/* Nobody waits for it, and memory that was given up is not filled again. */
	if (out->lane->gone || (out->down && out->down->gone))
		return -ELOQ_ECLOSED;
	if (bytes > out->bytes_max - out->bytes) {
		if (out->bytes == 0)
			out->needed = (uint32_t)bytes;
		return 1;
	}
	(void)eloq_scan_put_item(out->buf + out->bytes, &item);
	out->bytes += (uint32_t)bytes;
	return 0;
}

/* The parameters are judged from the private copy; text for the refusal, or NULL. */
static const char *scan_prepare(const struct shard_request *request, struct eloq_scan *scan,
				struct eloq_scan_params *params)
{
	const struct eloq_request *req = &request->req;

	if (eloq_scan_get_params(request->payload + req->key_bytes, req->value_bytes, params) < 0)
		return "malformed scan parameters";
	if (params->flags & ~(uint32_t)ELOQ_SCAN_FLAGS_ALL)
		return "a flag of the scan is not supported";
	*scan = (struct eloq_scan){
		.begin = request->payload,
		.begin_bytes = req->key_bytes,
		.begin_exclusive = params->flags & ELOQ_SCAN_BEGIN_EXCLUSIVE,
		.end = params->end,
		.end_bytes = params->end_bytes,
		.keys_only = params->flags & ELOQ_SCAN_KEYS_ONLY,
		.entries_max = params->entries_max,
		.now_ms = params->flags & ELOQ_SCAN_EXPIRED_TOO
				  ? 0
				  : eloq_clock_realtime_us(request->shard->clock) / 1000,
		.each = scan_each,
	};
	return NULL;
}

static void scan_answer(struct shard_request *request, const struct scan_output *out, bool more)
{
	struct shard_reply reply = shard_request_reply(request);
	struct eloq_answer answer = { .status = ELOQ_STATUS_OK, .value_bytes = out->bytes };

	if (out->needed) {
		answer.status = ELOQ_STATUS_NEED_BULK;
		answer.value_bytes = out->needed;
	} else if (more) {
		answer.flags |= ELOQ_ANS_MORE;
	}
	shard_answer(&reply, &answer, out->buf);
}

void shard_scan_task(void *arg)
{
	struct shard_request *request = arg;
	struct shard_reply reply = shard_request_reply(request);
	struct eloq_scan_params params;
	struct eloq_scan scan;
	struct scan_output out = { .bytes_max = shard_reply_capacity(&reply),
				   .lane = request->lane,
				   .down = request->down };
	struct eloq_errinfo error = { 0 };
	const char *refusal = scan_prepare(request, &scan, &params);
	uint8_t *owned = NULL;
	bool more = false;
	int r;

	if (refusal) {
		shard_request_end(request, ELOQ_STATUS_INVALID, refusal);
		return;
	}
	if (params.bytes_max && params.bytes_max < out.bytes_max)
		out.bytes_max = params.bytes_max;
	out.keys_only = scan.keys_only;
	if (reply.down && reply.down->bytes >= out.bytes_max)
		out.buf = reply.down->base;
	else
		out.buf = owned = malloc(out.bytes_max ? out.bytes_max : 1);
	if (!out.buf) {
		shard_request_end(request, ELOQ_STATUS_NO_MEMORY, NULL);
		return;
	}
	scan.arg = &out;
	r = eloq_store_scan_await(request->shard->store, request->table->id, request->req.partition,
				  &scan, &more, &error);
	if (r < 0) {
		shard_request_end_error(request, r, &error);
	} else {
		scan_answer(request, &out, more);
		shard_request_free(request);
	}
	free(owned);
}

void shard_stat_task(void *arg)
{
	struct shard_request *request = arg;
	struct shard_reply reply = shard_request_reply(request);
	struct eloq_partition_stat stat;
	struct eloq_partition_figures figures;
	struct eloq_errinfo error = { 0 };
	uint8_t value[ELOQ_PARTITION_STAT_BYTES];
	struct eloq_answer answer = { .status = ELOQ_STATUS_OK, .value_bytes = sizeof(value) };
	int r;

	r = eloq_store_partition_stat_await(request->shard->store, request->table->id,
					    request->req.partition, &stat, &error);
	if (r < 0) {
		shard_request_end_error(request, r, &error);
		return;
	}
	figures = (struct eloq_partition_figures){
		.pages = stat.pages,
		.file_pages_end = stat.file_pages_end,
		.manifest_bytes = stat.manifest_bytes,
		.page_bytes = stat.page_bytes,
		.has_ttl_tree = stat.has_ttl_tree,
	};
	eloq_partition_figures_put(value, &figures);
	shard_answer(&reply, &answer, value);
	shard_request_free(request);
}

/* --- partitions
 * ------------------------------------------------------------------------------------ */

enum { PARTITIONS_PER_ANSWER_MAX = 192 };

struct partitions_output {
	uint32_t from;
	uint32_t count, count_max;
	bool more;
	uint8_t buf[PARTITIONS_PER_ANSWER_MAX * 4];
};

static int partitions_each(void *arg, uint32_t partition)
{
	struct partitions_output *out = arg;

	if (partition < out->from)
		return 0;
	if (out->count == out->count_max) {
		out->more = true;
		return 1;
	}
	eloq_put_u32(out->buf + (size_t)out->count * 4, partition);
	out->count++;
	return 0;
}

void shard_answer_partitions(const struct shard_reply *reply)
{
	struct partitions_output out = { .from = reply->req->partition };
	struct eloq_answer answer = { .status = ELOQ_STATUS_OK };
	uint32_t limit = eloq_lane_inline_limit(reply->req, reply->lane->end.ans_ring_bytes);

	out.count_max = (uint32_t)eloq_min_u64(PARTITIONS_PER_ANSWER_MAX, limit / 4);
	(void)eloq_store_table_partitions(reply->lane->shard->store, reply->req->table,
					  partitions_each, &out);
	answer.value_bytes = out.count * 4;
	if (out.more)
		answer.flags |= ELOQ_ANS_MORE;
	shard_answer(reply, &answer, out.buf);
}
