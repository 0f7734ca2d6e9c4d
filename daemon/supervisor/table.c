/*
 * table.c - tables: found by name, made, listed, dropped.
 *
 * Create: STORE first, then every worker, then the client, so that what a client knows is known to
 * everybody and survives. Drop: marked in STORE, so that no crash forgets it; each worker drops its
 * partitions and replies; a worker that dies meanwhile, or could not, is asked again; when all have
 * replied the table leaves STORE. Its number is never used again, its name is free only then.
 *
 * Runs on:  the supervisor's thread.
 * Fails by: ERROR to the client; a drop that failed goes on by itself, now and after a restart.
 */
#include "common/log.h"
#include "daemon/supervisor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_RESEND_MS = 5000, TABLE_LIST_AT_ONCE = 32 };

/* --- Names -------------------------------------------------------------------------------------
 */

/* Bytes that follow the first of a UTF-8 sequence; -1: none starts so. */
static int table_utf8_rest(uint8_t first)
{
	if (first < 0x80)
		return 0;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if (first >= 0xe0 && first <= 0xef)
		return 2;
	return first >= 0xf0 && first <= 0xf4 ? 3 : -1;
}

/* A name becomes part of a directory's name and is shown to people. */
static int table_check_name(const char *name, struct eloq_errinfo *reterr)
{
	const uint8_t *p = (const uint8_t *)name;

	if (name[0] == '\0')
		return eloq_fail(reterr, -EINVAL, "a table needs a name");
	if (strlen(name) > ELOQ_TABLE_NAME_BYTES_MAX)
		return eloq_fail(reterr, -ELOQ_ETOOLONG, "a table's name has at most %d bytes",
				 ELOQ_TABLE_NAME_BYTES_MAX);
	while (*p) {
		int rest = table_utf8_rest(*p);

		if (*p < 0x20 || *p == 0x7f || *p == '/' || rest < 0)
			return eloq_fail(reterr, -EINVAL,
					 "a table's name is UTF-8 without '/' and control "
					 "characters");
		for (p++; rest > 0; rest--, p++)
			if ((*p & 0xc0) != 0x80)
				return eloq_fail(reterr, -EINVAL, "a table's name is UTF-8");
	}
	return 0;
}

static struct eloq_store_file_table *table_find(const struct supervisor *super, const char *name)
{
	struct eloq_store_file_table *table = eloq_store_file_find_name(&super->store, name);

	return table && !(table->flags & ELOQ_STORE_FILE_DROPPING) ? table : NULL;
}

/* --- Open, list --------------------------------------------------------------------------------
 */

static void table_send(struct session *session, uint32_t seq,
		       const struct eloq_store_file_table *table)
{
	struct eloq_msg_table msg = {
		.table = table->id,
		.partitions = table->partitions,
		.timestamps = table->timestamps,
		.flags = table->flags & ELOQ_STORE_FILE_ADOPTED ? ELOQ_TABLE_ADOPTED : 0,
	};

	memcpy(msg.name, table->name, sizeof(msg.name));
	eloq_control_init(&msg, ELOQ_CONTROL_TABLE, sizeof(msg), seq);
	super_session_send(session, &msg, NULL, 0, NULL, 0);
}

static void table_send_not_found(struct session *session, const struct eloq_msg_table_name *msg)
{
	char words[ELOQ_TABLE_NAME_BYTES_MAX + 64];

	(void)snprintf(words, sizeof(words), "there is no table \"%.*s\"",
		       ELOQ_TABLE_NAME_BYTES_MAX, msg->name);
	super_session_send_error(session, msg->header.seq, -ELOQ_ENOTFOUND, words);
}

void super_table_open(struct session *session, const struct eloq_msg_table_name *msg)
{
	const struct eloq_store_file_table *table = table_find(session->super, msg->name);

	if (table)
		table_send(session, msg->header.seq, table);
	else
		table_send_not_found(session, msg);
}

/* Tables lie in the order of their numbers: the last one sent says where to go on, whatever was
 * made or dropped meanwhile. */
void super_table_list_go_on(struct session *session)
{
	const struct eloq_store_file *store = &session->super->store;
	unsigned sent = 0;

	for (uint32_t i = 0; i < store->table_count && sent < TABLE_LIST_AT_ONCE; i++) {
		const struct eloq_store_file_table *table = &store->tables[i];

		if (table->id <= session->list_after || table->flags & ELOQ_STORE_FILE_DROPPING)
			continue;
		table_send(session, session->wait_seq, table);
		session->list_after = table->id;
		sent++;
	}
	if (sent == TABLE_LIST_AT_ONCE)
		return;
	super_session_send_done(session, session->wait_seq);
	session->wait = SESSION_WAIT_NONE;
}

void super_table_list(struct session *session, uint32_t seq)
{
	session->wait = SESSION_WAIT_LIST;
	session->wait_seq = seq;
	session->list_after = 0;
	super_table_list_go_on(session);
}

/* --- Create ------------------------------------------------------------------------------------
 */

static int table_check_new(const struct supervisor *super, const struct eloq_msg_table_name *msg,
			   struct eloq_errinfo *reterr)
{
	const struct eloq_store_file_table *table;
	int r;

	r = table_check_name(msg->name, reterr);
	if (r < 0)
		return r;
	if (msg->partitions < 1 || msg->partitions > ELOQ_PARTITIONS_PER_TABLE_MAX)
		return eloq_fail(reterr, -EINVAL, "a table has 1 to %d partitions, not %u",
				 ELOQ_PARTITIONS_PER_TABLE_MAX, msg->partitions);
	if (msg->timestamps > ELOQ_TIMESTAMPS_CALLER)
		return eloq_fail(reterr, -EINVAL, "timestamps are the server's or the caller's");
	table = eloq_store_file_find_name(&super->store, msg->name);
	if (table)
		return eloq_fail(reterr, -ELOQ_EEXISTS, "table \"%s\" %s", msg->name,
				 table->flags & ELOQ_STORE_FILE_DROPPING
					 ? "is being dropped; try again when that is done"
					 : "exists already");
	return 0;
}

static int table_add(struct supervisor *super, const struct eloq_msg_table_name *msg,
		     struct eloq_errinfo *reterr)
{
	int r;

	r = eloq_store_file_add_table(&super->store, msg->name, msg->partitions, msg->timestamps,
				      0);
	if (r == -ELOQ_ETOOMANY)
		return eloq_fail(reterr, r, "%u tables, the most a store can have",
				 super->store.table_count);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "table \"%s\"", msg->name);
	r = supervisor_save(super, reterr);
	if (r < 0)
		eloq_store_file_remove_table(
			&super->store, eloq_store_file_find_name(&super->store, msg->name)->id);
	return r;
}

void super_table_create(struct session *session, const struct eloq_msg_table_name *msg)
{
	struct supervisor *super = session->super;
	struct eloq_errinfo error = { 0 };
	int r;

	r = table_check_new(super, msg, &error);
	if (r == 0)
		r = table_add(super, msg, &error);
	if (r < 0) {
		super_session_send_error(session, msg->header.seq, r, error.text);
		return;
	}
	for (unsigned i = 0; i < super->worker_count; i++) {
		super_link_send_table(&super->workers[i], ELOQ_CONTROL_W_TABLE, 0,
				      table_find(super, msg->name));
		super_session_gate(session, &super->workers[i]);
	}
	table_send(session, msg->header.seq, table_find(super, msg->name));
}

/* --- Drop --------------------------------------------------------------------------------------
 */

static uint64_t drop_all_shards(const struct supervisor *super)
{
	return super->worker_count == 64 ? UINT64_MAX : (UINT64_C(1) << super->worker_count) - 1;
}

static struct table_drop *drop_find(const struct supervisor *super, uint32_t table)
{
	eloq_list_for_each (node, &super->drops) {
		struct table_drop *drop = eloq_list_entry(node, struct table_drop, link);

		if (drop->table == table)
			return drop;
	}
	return NULL;
}

/* Ask a worker that serves; the others are asked when they do. */
static void drop_ask(const struct table_drop *drop, struct worker *worker)
{
	const struct eloq_store_file_table *table =
		eloq_store_file_find_id(&worker->super->store, drop->table);

	if (worker->state == WORKER_READY && drop->missing & UINT64_C(1) << worker->shard)
		super_link_send_table(worker, ELOQ_CONTROL_W_TABLE_DROP, drop->seq, table);
}

static struct table_drop *drop_start(struct supervisor *super, uint32_t table)
{
	struct table_drop *drop = calloc(1, sizeof(*drop));

	if (!drop)
		return NULL;
	drop->table = table;
	drop->seq = supervisor_next_seq(super);
	drop->missing = drop_all_shards(super);
	eloq_list_push_back(&super->drops, &drop->link);
	for (unsigned i = 0; i < super->worker_count; i++)
		drop_ask(drop, &super->workers[i]);
	return drop;
}

/* Tell all who wait for this drop. */
static void drop_answer(struct supervisor *super, const struct table_drop *drop, int error,
			const char *words)
{
	eloq_list_for_each_safe (node, &super->sessions) {
		struct session *session = eloq_list_entry(node, struct session, link);

		if (session->wait != SESSION_WAIT_TABLE || session->wait_table != drop->table)
			continue;
		if (error < 0)
			super_session_send_error(session, session->wait_seq, error, words);
		else
			super_session_send_done(session, session->wait_seq);
		super_session_resume(session);
	}
}

static void drop_finish(struct supervisor *super, struct table_drop *drop)
{
	struct eloq_store_file_table *table = eloq_store_file_find_id(&super->store, drop->table);
	struct eloq_store_file_table kept = *table;
	struct eloq_errinfo error = { 0 };
	int r;

	eloq_store_file_remove_table(&super->store, drop->table);
	r = supervisor_save(super, &error);
	if (r < 0) {
		/* Back in its place, so that the next try finds it. */
		eloq_store_file_restore_table(&super->store, &kept);
		drop->resend_ns = super->now_ns + TABLE_RESEND_MS * ELOQ_NS_PER_MS;
		drop_answer(super, drop, r, error.text);
		return;
	}
	eloq_log_info("table dropped table=%u name=\"%s\"", kept.id, kept.name);
	drop_answer(super, drop, 0, NULL);
	eloq_list_remove(&drop->link);
	free(drop);
}

void super_tables_reply(struct worker *worker, uint32_t seq, int error, const char *text,
			size_t text_bytes)
{
	struct supervisor *super = worker->super;
	char words[256];

	eloq_list_for_each (node, &super->drops) {
		struct table_drop *drop = eloq_list_entry(node, struct table_drop, link);

		if (drop->seq != seq)
			continue;
		if (error < 0) {
			(void)snprintf(words, sizeof(words),
				       "shard %u: %.*s; the drop goes on by itself", worker->shard,
				       (int)(text_bytes < 128 ? text_bytes : 128), text);
			eloq_log_warn("table not dropped yet table=%u %s", drop->table, words);
			drop->resend_ns = super->now_ns + TABLE_RESEND_MS * ELOQ_NS_PER_MS;
			drop_answer(super, drop, error, words);
			return;
		}
		drop->missing &= ~(UINT64_C(1) << worker->shard);
		if (!drop->missing)
			drop_finish(super, drop);
		return;
	}
}

void super_tables_worker_ready(struct worker *worker)
{
	eloq_list_for_each (node, &worker->super->drops)
		drop_ask(eloq_list_entry(node, struct table_drop, link), worker);
}

static int drop_mark(struct supervisor *super, struct eloq_store_file_table *table,
		     struct eloq_errinfo *reterr)
{
	int r;

	table->flags |= ELOQ_STORE_FILE_DROPPING;
	r = supervisor_save(super, reterr);
	if (r < 0)
		table->flags &= ~(uint32_t)ELOQ_STORE_FILE_DROPPING;
	return r;
}

void super_table_drop(struct session *session, const struct eloq_msg_table_name *msg)
{
	struct supervisor *super = session->super;
	struct eloq_store_file_table *table = eloq_store_file_find_name(&super->store, msg->name);
	struct eloq_errinfo error = { 0 };
	int r = 0;

	if (!table) {
		table_send_not_found(session, msg);
		return;
	}
	if (!(table->flags & ELOQ_STORE_FILE_DROPPING))
		r = drop_mark(super, table, &error);
	if (r == 0 && !drop_find(super, table->id) && !drop_start(super, table->id))
		r = -ENOMEM;
	if (r < 0) {
		super_session_send_error(session, msg->header.seq, r, error.text);
		return;
	}
	session->wait = SESSION_WAIT_TABLE;
	session->wait_seq = msg->header.seq;
	session->wait_table = table->id;
}

void super_tables_resume_drops(struct supervisor *super)
{
	for (uint32_t i = 0; i < super->store.table_count; i++) {
		const struct eloq_store_file_table *table = &super->store.tables[i];

		if (!(table->flags & ELOQ_STORE_FILE_DROPPING))
			continue;
		eloq_log_info("dropping a table goes on table=%u name=\"%s\"", table->id,
			      table->name);
		if (!drop_start(super, table->id))
			eloq_log_err("no memory to drop a table; it is tried at the next start");
	}
}

void super_tables_tick(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->drops) {
		struct table_drop *drop = eloq_list_entry(node, struct table_drop, link);

		if (!drop->resend_ns || drop->resend_ns > super->now_ns)
			continue;
		drop->resend_ns = 0;
		for (unsigned i = 0; i < super->worker_count; i++)
			drop_ask(drop, &super->workers[i]);
		if (!drop->missing)
			drop_finish(super, drop);
	}
}

uint64_t super_tables_next_due_ns(const struct supervisor *super)
{
	uint64_t due = UINT64_MAX;

	eloq_list_for_each (node, &super->drops) {
		const struct table_drop *drop = eloq_list_entry(node, struct table_drop, link);

		if (drop->resend_ns)
			due = eloq_min_u64(due, drop->resend_ns);
	}
	return due;
}

void super_tables_close(struct supervisor *super)
{
	struct eloq_list *node;

	while ((node = eloq_list_pop_front(&super->drops)))
		free(eloq_list_entry(node, struct table_drop, link));
}
