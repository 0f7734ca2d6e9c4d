/*
 * scan.c - ranges: a cursor that merges the partitions of a table in key order.
 *
 * Idea: each partition is a stream of pages; a page is the answer to one SCAN request, which starts
 * behind the last key of the page before. A heap holds the streams by their current keys. The
 * cursor is all there is: the worker keeps nothing, so a resync, or an error, costs at most the
 * page under way. When half of a page is used the next one is asked for.
 *
 * Always:   a stream's position only grows; whatever fails is asked again from there.
 * Runs on:  the channel's thread.
 * Fails by: the errors of a get; the cursor stays as it was before the call.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
	SCAN_PAGE_BYTES_DEFAULT = 64 << 10,
	SCAN_PAGE_BYTES_MIN = 1 << 10,
	SCAN_PAGES_BYTES_MAX = 32 << 20, /* of all streams together, unless the caller says more */
	SCAN_STARTS_AHEAD = 64,
};

/*
 * Two pages: one is being read, the other is under way (request), or there (next_is_there), or
 * free. The last key of the newest page is where the following one begins.
 */
struct scan_stream {
	uint32_t partition;
	unsigned current;
	struct client_buffer pages[2];
	const uint8_t *at, *end; /* what is left of the current page */
	size_t items_left;	 /* from `at` on */
	size_t next_items;	 /* of the next page */
	const uint8_t *half;
	struct eloq_scan_item item;
	bool has_item;
	bool next_is_there;
	bool ended; /* behind the newest page there is nothing */
	struct client_request *request;
	const uint8_t *last_key;
	uint16_t last_key_bytes; /* 0: no page yet */
	uint32_t page_needed;	 /* bytes of an entry that did not fit, else 0 */
};

struct eloq_scan_cursor {
	struct eloq_channel *channel;
	struct eloq_table *table;
	struct eloq_scan_opts opts; /* bounds point into `bounds` */
	uint8_t *bounds;
	uint64_t left; /* entries until the limit */
	uint32_t page_bytes;
	bool is_empty;		     /* no key lies between the bounds */
	struct scan_stream *streams; /* NULL: the partitions are not known yet */
	size_t stream_count;
	size_t filled; /* streams that have been through scan_fill() */
	struct scan_stream **heap;
	size_t heap_count;
	struct scan_stream *returned; /* its entry was given out and is to be stepped over */
};

/* --- Streams -----------------------------------------------------------------------------------
 */

static void stream_make_op(const struct eloq_scan_cursor *cursor, struct scan_stream *stream,
			   struct client_op *op)
{
	const bool fresh = stream->last_key_bytes == 0;
	const struct eloq_scan_opts *opts = &cursor->opts;

	*op = (struct client_op){
		.op = ELOQ_OP_SCAN,
		.table = cursor->table,
		.shard = stream->partition % cursor->channel->client->shard_count,
		.partition = stream->partition,
		.key = fresh ? opts->from : stream->last_key,
		.key_bytes = fresh ? opts->from_bytes : stream->last_key_bytes,
		.page_bytes = stream->page_needed ? stream->page_needed : cursor->page_bytes,
		.page_needed = stream->page_needed != 0,
		.into = &stream->pages[1 - stream->current],
	};
}

static size_t stream_put_params(const struct eloq_scan_cursor *cursor,
				const struct scan_stream *stream, const struct client_op *op,
				uint8_t *bytes)
{
	const struct eloq_scan_opts *opts = &cursor->opts;
	struct eloq_scan_params params = {
		.bytes_max = op->page_bytes,
		.entries_max = opts->limit ? cursor->left : 0,
		.end_bytes = (uint16_t)opts->to_bytes,
		.end = opts->to,
	};

	if (opts->keys_only)
		params.flags |= ELOQ_SCAN_KEYS_ONLY;
	if (stream->last_key_bytes || opts->from_exclusive)
		params.flags |= ELOQ_SCAN_BEGIN_EXCLUSIVE;
	eloq_scan_put_params(bytes, &params);
	return eloq_scan_params_bytes(&params);
}

/* Ask for the next page. With @wait for room if need be; else -EAGAIN when there is none. */
static int stream_start(struct eloq_scan_cursor *cursor, struct scan_stream *stream, bool wait,
			uint64_t deadline_ns)
{
	uint8_t params[ELOQ_SCAN_PARAMS_BYTES + ELOQ_KEY_BYTES_MAX];
	struct client_request *request;
	struct client_op op;
	int r;

	stream_make_op(cursor, stream, &op);
	op.value = params;
	op.value_bytes = stream_put_params(cursor, stream, &op, params);
	if (wait)
		return eloq_sync_start(cursor->channel, &op, true, deadline_ns, &stream->request);
	r = eloq_request_new(cursor->channel, &op, &request);
	if (r < 0)
		return r;
	r = eloq_request_own(request);
	if (r == 0)
		r = eloq_async_submit(request, true);
	if (r < 0) {
		eloq_async_release(request);
		return r;
	}
	stream->request = request;
	return 0;
}

/* The daemon is trusted, but lengths that do not add up are told. */
static int stream_check_page(struct scan_stream *stream, const struct client_buffer *page)
{
	const uint8_t *p = page->data, *end = page->data + page->bytes;
	struct eloq_scan_item item = { 0 };

	stream->next_items = 0;
	while (p < end) {
		p = eloq_scan_get_item(p, end, &item);
		if (!p || item.key_bytes == 0)
			return -ELOQ_EPROTOCOL;
		stream->next_items++;
	}
	if (item.key_bytes) {
		stream->last_key = item.key;
		stream->last_key_bytes = item.key_bytes;
	}
	return 0;
}

/* The request is finished: its page becomes the next one. */
static int stream_take_page(struct scan_stream *stream)
{
	struct client_buffer *page = &stream->pages[1 - stream->current];
	struct client_request *request = stream->request;
	const bool more = request->more;
	int r = request->result;

	stream->request = NULL;
	eloq_async_release(request);
	if (r == -ELOQ_ETOOLONG && page->bytes > stream->page_needed) {
		stream->page_needed = (uint32_t)page->bytes; /* and ask again */
		return 0;
	}
	if (r < 0)
		return r;
	r = stream_check_page(stream, page);
	if (r < 0)
		return r;
	if (page->bytes == 0 && more)
		return -ELOQ_EPROTOCOL; /* it would never end */
	stream->page_needed = 0;
	stream->ended = !more;
	stream->next_is_there = true;
	return 0;
}

/* Ask ahead once half of the page is used, unless what is left of it is enough for the limit. */
static void stream_prefetch(struct eloq_scan_cursor *cursor, struct scan_stream *stream)
{
	if (stream->ended || stream->request || stream->next_is_there || stream->at < stream->half)
		return;
	if (cursor->left <= stream->items_left + 1)
		return;
	/* Failing costs only time: it is asked for again when it is needed. */
	if (stream_start(cursor, stream, false, 0) == 0)
		(void)eloq_flush(cursor->channel);
}

static void stream_read_item(struct eloq_scan_cursor *cursor, struct scan_stream *stream)
{
	stream->at = eloq_scan_get_item(stream->at, stream->end, &stream->item);
	eloq_assert(stream->at != NULL); /* the page was checked when it came */
	stream->has_item = true;
	stream->items_left--;
	stream_prefetch(cursor, stream);
}

static void stream_turn_page(struct scan_stream *stream)
{
	const struct client_buffer *page;

	stream->current = 1 - stream->current;
	stream->next_is_there = false;
	page = &stream->pages[stream->current];
	stream->items_left = stream->next_items;
	stream->at = page->data;
	stream->end = page->data + page->bytes;
	stream->half = page->data + page->bytes / 2;
}

/* Make the next entry the stream's item; without one it is at its end. */
static int stream_fill(struct eloq_scan_cursor *cursor, struct scan_stream *stream,
		       uint64_t deadline_ns)
{
	int r = 0;

	while (r == 0 && !stream->has_item) {
		if (stream->at < stream->end) {
			stream_read_item(cursor, stream);
			return 0;
		}
		if (stream->next_is_there) {
			stream_turn_page(stream);
			continue;
		}
		if (stream->ended)
			return 0;
		if (!stream->request)
			r = stream_start(cursor, stream, true, deadline_ns);
		if (r == 0)
			r = eloq_sync_wait(cursor->channel, eloq_sync_is_finished, stream->request,
					   deadline_ns);
		if (r == 0)
			r = stream_take_page(stream);
	}
	return r;
}

/* --- The heap ----------------------------------------------------------------------------------
 */

static bool scan_is_before(const struct scan_stream *a, const struct scan_stream *b)
{
	size_t both = eloq_min_u64(a->item.key_bytes, b->item.key_bytes);
	int order = memcmp(a->item.key, b->item.key, both);

	if (order)
		return order < 0;
	if (a->item.key_bytes != b->item.key_bytes)
		return a->item.key_bytes < b->item.key_bytes;
	return a->partition < b->partition;
}

static void scan_sift_down(struct eloq_scan_cursor *cursor, size_t i)
{
	struct scan_stream **heap = cursor->heap;

	for (;;) {
		size_t child = 2 * i + 1;
		struct scan_stream *moved;

		if (child >= cursor->heap_count)
			return;
		if (child + 1 < cursor->heap_count && scan_is_before(heap[child + 1], heap[child]))
			child++;
		if (!scan_is_before(heap[child], heap[i]))
			return;
		moved = heap[i];
		heap[i] = heap[child];
		heap[child] = moved;
		i = child;
	}
}

static void scan_make_heap(struct eloq_scan_cursor *cursor)
{
	for (size_t i = 0; i < cursor->stream_count; i++)
		if (cursor->streams[i].has_item)
			cursor->heap[cursor->heap_count++] = &cursor->streams[i];
	for (size_t i = cursor->heap_count / 2; i-- > 0;)
		scan_sift_down(cursor, i);
}

/* --- Opening -----------------------------------------------------------------------------------
 */

/* Bytes compare first, then lengths; from an exclusive or equal bound on there is nothing. */
static bool scan_range_is_empty(const struct eloq_scan_opts *opts)
{
	size_t both = eloq_min_u64(opts->from_bytes, opts->to_bytes);
	int order;

	if (!opts->to)
		return false;
	order = both ? memcmp(opts->from, opts->to, both) : 0;
	return order ? order > 0 : opts->from_bytes >= opts->to_bytes;
}

static int scan_check_opts(const struct eloq_channel *channel, const struct eloq_table *table,
			   const struct eloq_scan_opts *opts)
{
	if (!table || table->client != channel->client)
		return -EINVAL;
	if ((!opts->from && opts->from_bytes) || (!opts->to && opts->to_bytes))
		return -EINVAL;
	if (opts->from_bytes > channel->client->key_bytes_max ||
	    opts->to_bytes > channel->client->key_bytes_max)
		return -ELOQ_ETOOLONG;
	if (opts->partition_set && table->info.partitions &&
	    opts->partition >= table->info.partitions)
		return -EINVAL;
	return eloq_client_check(channel->client);
}

static int scan_copy_bounds(struct eloq_scan_cursor *cursor)
{
	struct eloq_scan_opts *opts = &cursor->opts;

	cursor->bounds = malloc(opts->from_bytes + opts->to_bytes + 1);
	if (!cursor->bounds)
		return -ENOMEM;
	if (opts->from_bytes)
		memcpy(cursor->bounds, opts->from, opts->from_bytes);
	if (opts->to_bytes)
		memcpy(cursor->bounds + opts->from_bytes, opts->to, opts->to_bytes);
	opts->from = cursor->bounds;
	opts->to = opts->to ? cursor->bounds + opts->from_bytes : NULL;
	return 0;
}

int eloq_scan_open(struct eloq_channel *channel, struct eloq_table *table,
		   const struct eloq_scan_opts *opts, struct eloq_scan_cursor **ret_cursor)
{
	struct eloq_scan_opts known;
	struct eloq_scan_cursor *cursor;
	int r;

	if (!channel)
		return -ELOQ_ETOOMANY;
	r = eloq_client_read_opts(&known, sizeof(known), opts);
	if (r == 0)
		r = scan_check_opts(channel, table, &known);
	if (r < 0)
		return r;
	cursor = calloc(1, sizeof(*cursor));
	if (!cursor)
		return -ENOMEM;
	cursor->channel = channel;
	cursor->table = table;
	cursor->opts = known;
	cursor->left = known.limit ? known.limit : UINT64_MAX;
	cursor->is_empty = scan_range_is_empty(&known);
	r = scan_copy_bounds(cursor);
	if (r < 0) {
		free(cursor);
		return r;
	}
	*ret_cursor = cursor;
	return 0;
}

/* So many streams that their pages would be too much memory get shorter ones. */
static uint32_t scan_page_bytes(const struct eloq_scan_opts *opts, size_t stream_count)
{
	uint64_t share = SCAN_PAGES_BYTES_MAX / (2 * eloq_max_u64(stream_count, 1));

	if (opts->page_bytes)
		return (uint32_t)eloq_max_u64(opts->page_bytes, SCAN_PAGE_BYTES_MIN);
	return (uint32_t)eloq_max_u64(eloq_min_u64(share, SCAN_PAGE_BYTES_DEFAULT),
				      SCAN_PAGE_BYTES_MIN);
}

static int scan_make_streams(struct eloq_scan_cursor *cursor, const uint32_t *ids, size_t count)
{
	struct scan_stream *streams = calloc(count ? count : 1, sizeof(*streams));
	struct scan_stream **heap = calloc(count ? count : 1, sizeof(*heap));

	if (!streams || !heap) {
		free(streams);
		free(heap);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		streams[i].partition = ids[i];
	cursor->streams = streams;
	cursor->heap = heap;
	cursor->stream_count = count;
	cursor->filled = 0;
	cursor->heap_count = 0;
	cursor->returned = NULL;
	cursor->page_bytes = scan_page_bytes(&cursor->opts, count);
	return 0;
}

/* Only partitions that exist are asked: most of a large table's may be empty. */
static int scan_find_partitions(struct eloq_scan_cursor *cursor, uint64_t deadline_ns)
{
	struct client_partitions partitions;
	int r;

	if (cursor->opts.partition_set)
		return scan_make_streams(cursor, &cursor->opts.partition, 1);
	r = eloq_look_partitions(cursor->channel, cursor->table, deadline_ns, &partitions);
	if (r < 0)
		return r;
	r = scan_make_streams(cursor, partitions.ids, partitions.count);
	free(partitions.ids);
	return r;
}

/* The first page of every stream, several asked for at a time. */
static int scan_fill(struct eloq_scan_cursor *cursor, uint64_t deadline_ns)
{
	int r = 0;

	if (!cursor->streams)
		r = scan_find_partitions(cursor, deadline_ns);
	while (r == 0 && cursor->filled < cursor->stream_count) {
		size_t end = eloq_min_u64(cursor->filled + SCAN_STARTS_AHEAD, cursor->stream_count);

		for (size_t i = cursor->filled; i < end; i++) {
			struct scan_stream *stream = &cursor->streams[i];

			/* Failing costs only time, as in stream_prefetch(). */
			if (!stream->request && !stream->has_item && !stream->next_is_there)
				(void)stream_start(cursor, stream, false, 0);
		}
		r = stream_fill(cursor, &cursor->streams[cursor->filled], deadline_ns);
		if (r != 0)
			return r;
		if (++cursor->filled == cursor->stream_count)
			scan_make_heap(cursor);
	}
	return r;
}

/* --- Walking -----------------------------------------------------------------------------------
 */

/* Step over the entry that was given out last. */
static int scan_advance(struct eloq_scan_cursor *cursor, uint64_t deadline_ns)
{
	struct scan_stream *stream = cursor->returned;
	int r;

	if (!stream)
		return 0;
	stream->has_item = false;
	r = stream_fill(cursor, stream, deadline_ns);
	if (r < 0)
		return r;
	if (!stream->has_item)
		cursor->heap[0] = cursor->heap[--cursor->heap_count];
	cursor->returned = NULL;
	scan_sift_down(cursor, 0);
	return 0;
}

static void scan_view(const struct eloq_scan_cursor *cursor, const struct scan_stream *stream,
		      struct eloq_entry_view *ret_entry)
{
	const struct eloq_scan_item *item = &stream->item;

	*ret_entry = (struct eloq_entry_view){
		.key = item->key,
		.key_bytes = item->key_bytes,
		.value = cursor->opts.keys_only ? NULL : item->value,
		.value_bytes = item->value_bytes,
		.timestamp = item->timestamp,
		.expire_ms = item->expire_ms,
		.partition = stream->partition,
	};
}

int eloq_scan_next(struct eloq_scan_cursor *cursor, struct eloq_entry_view *ret_entry)
{
	uint64_t deadline_ns;
	int r;

	if (cursor->left == 0 || cursor->is_empty)
		return 0;
	r = eloq_client_check(cursor->channel->client);
	if (r < 0)
		return r;
	deadline_ns = eloq_op_deadline_ns(cursor->opts.timeout_ns);
	if (!cursor->streams || cursor->filled < cursor->stream_count)
		r = scan_fill(cursor, deadline_ns);
	if (r == 0)
		r = scan_advance(cursor, deadline_ns);
	if (r != 0)
		return r;
	if (cursor->heap_count == 0)
		return 0;
	cursor->returned = cursor->heap[0];
	cursor->left--;
	scan_view(cursor, cursor->returned, ret_entry);
	return 1;
}

void eloq_scan_close(struct eloq_scan_cursor *cursor)
{
	if (!cursor)
		return;
	for (size_t i = 0; i < cursor->stream_count; i++) {
		struct scan_stream *stream = &cursor->streams[i];

		eloq_async_release(stream->request);
		eloq_buffer_clear(&stream->pages[0]);
		eloq_buffer_clear(&stream->pages[1]);
	}
	free(cursor->streams);
	free(cursor->heap);
	free(cursor->bounds);
	free(cursor);
}
