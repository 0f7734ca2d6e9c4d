/*
 * look.c - what can be seen from outside: figures as JSON, the configuration as an ini.
 *
 * Each worker is asked for its counters; the answer waits until all have answered, died, or taken
 * longer than a second: a worker that hangs shows as one without figures, not as a silent command.
 *
 * Runs on:  the supervisor's thread.
 */
#include "daemon/supervisor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_PATIENCE_MS = 1000 };

static uint64_t look_uptime_ms(const struct supervisor *super)
{
	return (super->now_ns - super->started_ns) / ELOQ_NS_PER_MS;
}

/* --- JSON --------------------------------------------------------------------------------------
 */

static const char *look_state_text(enum worker_state state)
{
	switch (state) {
	case WORKER_DOWN:
		return "down";
	case WORKER_STARTING:
		return "starting";
	case WORKER_READY:
		return "ready";
	case WORKER_STOPPING:
		return "stopping";
	case WORKER_GONE:
		return "gone";
	}
	return "unknown";
}

static void look_print_figures(FILE *out, const struct eloq_figures *figures)
{
	const char *separator = "{";

#define LOOK_PRINT_FIGURE(name)                                                                   \
	(void)fprintf(out, "%s\"" #name "\":%llu", separator, (unsigned long long)figures->name); \
	separator = ",";
	ELOQ_FIGURE_MAP(LOOK_PRINT_FIGURE)
#undef LOOK_PRINT_FIGURE
	(void)fputc('}', out);
}

static void look_add(struct eloq_figures *total, const struct eloq_figures *figures)
{
#define LOOK_ADD_FIGURE(name) total->name += figures->name;
	ELOQ_FIGURE_MAP(LOOK_ADD_FIGURE)
#undef LOOK_ADD_FIGURE
}

static void look_print_worker(FILE *out, const struct worker *worker,
			      const struct eloq_msg_w_figures *msg)
{
	uint32_t cpu = worker->super->cpus[worker->shard];

	(void)fprintf(out,
		      "{\"shard\":%u,\"state\":\"%s\",\"pid\":%d,\"incarnation\":%u,"
		      "\"restarts\":%llu,\"lanes\":%u,\"cpu\":",
		      worker->shard, look_state_text(worker->state), (int)worker->pid,
		      worker->incarnation, (unsigned long long)worker->restarts,
		      worker->lane_count);
	if (cpu == ELOQ_CPU_NONE)
		(void)fputs("null", out);
	else
		(void)fprintf(out, "%u", cpu);
	if (msg->header.bytes) {
		(void)fprintf(out, ",\"io_backend\":\"%s\",\"figures\":", msg->io_backend);
		look_print_figures(out, &msg->figures);
		(void)fputc('}', out);
	} else {
		(void)fputs(",\"io_backend\":null,\"figures\":null}", out);
	}
}

static void look_print_daemon(FILE *out, const struct supervisor *super)
{
	(void)fprintf(out,
		      "\"pid\":%d,\"release\":\"%s\",\"ready\":%s,\"uptime_ms\":%llu,"
		      "\"shards\":%u",
		      (int)getpid(), ELOQ_VERSION, super->ready_said ? "true" : "false",
		      (unsigned long long)look_uptime_ms(super), super->worker_count);
}

static void look_print_stat(FILE *out, const struct look *look)
{
	const struct supervisor *super = look->session->super;
	struct eloq_figures total = { 0 };
	uint64_t restarts = 0;
	unsigned lanes = 0;

	for (unsigned i = 0; i < super->worker_count; i++) {
		restarts += super->workers[i].restarts;
		lanes += super->workers[i].lane_count;
		look_add(&total, &look->figures[i].figures);
	}
	(void)fputc('{', out);
	look_print_daemon(out, super);
	(void)fputs(",\"uuid\":\"", out);
	for (unsigned i = 0; i < sizeof(super->store.uuid); i++)
		(void)fprintf(out, "%02x", super->store.uuid[i]);
	(void)fprintf(out,
		      "\",\"tables\":%u,\"clients\":%u,\"lanes\":%u,\"lane_memory\":%llu,"
		      "\"lane_memory_max\":%llu,\"restarts\":%llu,\"workers\":[",
		      super->store.table_count, super->session_count, lanes,
		      (unsigned long long)super->lane_memory,
		      (unsigned long long)super->options->lane_memory,
		      (unsigned long long)restarts);
	for (unsigned i = 0; i < super->worker_count; i++) {
		if (i)
			(void)fputc(',', out);
		look_print_worker(out, &super->workers[i], &look->figures[i]);
	}
	(void)fputs("],\"total\":", out);
	look_print_figures(out, &total);
	(void)fputs("}\n", out);
}

/* --- Gathering ---------------------------------------------------------------------------------
 */

static void look_free(struct look *look)
{
	eloq_list_remove(&look->link);
	free(look->figures);
	free(look);
}

static void look_finish(struct look *look)
{
	struct session *session = look->session;
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (out)
		look_print_stat(out, look);
	if (out && fclose(out) == 0)
		super_session_send_text(session, session->wait_seq, text, bytes);
	else
		super_session_send_error(session, session->wait_seq, -ENOMEM, NULL);
	free(text);
	look_free(look);
	super_session_resume(session);
}

static void look_start_stat(struct session *session, uint32_t seq)
{
	struct supervisor *super = session->super;
	struct eloq_msg_w_plain msg = { 0 };
	struct look *look = calloc(1, sizeof(*look));

	if (look)
		look->figures = calloc(super->worker_count, sizeof(*look->figures));
	if (!look || !look->figures) {
		free(look);
		super_session_send_error(session, seq, -ENOMEM, NULL);
		return;
	}
	look->session = session;
	look->seq = supervisor_next_seq(super);
	look->give_up_ns = super->now_ns + LOOK_PATIENCE_MS * ELOQ_NS_PER_MS;
	eloq_list_push_back(&super->looks, &look->link);
	session->wait = SESSION_WAIT_LOOK;
	session->wait_seq = seq;
	eloq_control_init(&msg, ELOQ_CONTROL_W_LOOK, sizeof(msg), look->seq);
	for (unsigned i = 0; i < super->worker_count; i++) {
		if (super->workers[i].state != WORKER_READY)
			continue;
		look->missing |= UINT64_C(1) << i;
		super_link_send(&super->workers[i], &msg, NULL, 0, NULL, 0);
	}
	if (!look->missing)
		look->give_up_ns = super->now_ns; /* answered when this turn ends */
}

void super_looks_figures(struct worker *worker, const struct eloq_msg_w_figures *msg)
{
	eloq_list_for_each (node, &worker->super->looks) {
		struct look *look = eloq_list_entry(node, struct look, link);

		if (look->seq != msg->header.seq)
			continue;
		look->figures[worker->shard] = *msg;
		look->missing &= ~(UINT64_C(1) << worker->shard);
		if (!look->missing)
			look_finish(look);
		return;
	}
}

void super_looks_worker_died(struct worker *worker)
{
	eloq_list_for_each_safe (node, &worker->super->looks) {
		struct look *look = eloq_list_entry(node, struct look, link);

		if (!(look->missing & UINT64_C(1) << worker->shard))
			continue;
		look->missing &= ~(UINT64_C(1) << worker->shard);
		if (!look->missing)
			look_finish(look);
	}
}

void super_looks_session_gone(struct session *session)
{
	eloq_list_for_each_safe (node, &session->super->looks) {
		struct look *look = eloq_list_entry(node, struct look, link);

		if (look->session == session)
			look_free(look);
	}
}

void super_looks_tick(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->looks) {
		struct look *look = eloq_list_entry(node, struct look, link);

		if (look->give_up_ns <= super->now_ns)
			look_finish(look);
	}
}

uint64_t super_looks_next_due_ns(const struct supervisor *super)
{
	uint64_t due = UINT64_MAX;

	eloq_list_for_each (node, &super->looks)
		due = eloq_min_u64(due, eloq_list_entry(node, struct look, link)->give_up_ns);
	return due;
}

void super_looks_close(struct supervisor *super)
{
	eloq_list_for_each_safe (node, &super->looks)
		look_free(eloq_list_entry(node, struct look, link));
}

/* --- Answers at once ---------------------------------------------------------------------------
 */

static void look_ping(struct session *session, uint32_t seq)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (out) {
		(void)fputc('{', out);
		look_print_daemon(out, session->super);
		(void)fputs("}\n", out);
	}
	if (out && fclose(out) == 0)
		super_session_send_text(session, seq, text, bytes);
	else
		super_session_send_error(session, seq, -ENOMEM, NULL);
	free(text);
}

static void look_config(struct session *session, uint32_t seq)
{
	char *text = eloq_options_text(session->super->options);

	if (text)
		super_session_send_text(session, seq, text, strlen(text));
	else
		super_session_send_error(session, seq, -ENOMEM, NULL);
	free(text);
}

void super_look_answer(struct session *session, const struct eloq_msg_look *msg)
{
	switch (msg->what) {
	case ELOQ_LOOK_STAT:
		look_start_stat(session, msg->header.seq);
		break;
	case ELOQ_LOOK_CONFIG:
		look_config(session, msg->header.seq);
		break;
	case ELOQ_LOOK_PING:
		look_ping(session, msg->header.seq);
		break;
	default:
		super_session_send_error(session, msg->header.seq, -ELOQ_EUNSUPPORTED,
					 "this daemon has nothing of that kind to show");
	}
}
