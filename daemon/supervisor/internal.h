/*
 * internal.h - the supervisor's own structures, shared by its files.
 *
 *   supervisor.c  its life: steps, signals, the loop    store_open.c  STORE, store paths, adoption
 *   worker.c      processes: start, death, heartbeat    link.c        what is said to and by them
 *   session.c     clients and their requests            lane.c        channels, lanes, bulk memory
 *   table.c       create, drop, list                    look.c        figures as JSON
 *
 * Everything runs on one thread and never blocks on a peer: what a socket does not take waits in an
 * outbox, what a worker has to answer is an entry in a list. Objects point up (lane -> session,
 * worker -> supervisor), lists point down.
 */
#ifndef ELOQ_DAEMON_SUPERVISOR_INTERNAL_H
#define ELOQ_DAEMON_SUPERVISOR_INTERNAL_H

#include "common/clock.h"
#include "common/err.h"
#include "common/list.h"
#include "daemon/options.h"
#include "daemon/supervisor/data_dir.h"
#include "daemon/supervisor/outbox.h"
#include "daemon/supervisor/store_file.h"
#include "shm/control.h"
#include "shm/layout.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct supervisor;
struct session;

/* A descriptor in the loop; part of the structure it concerns. fd -1: not watched. */
struct watch {
	int fd;
	uint32_t events;
	void (*ready)(struct watch *watch, uint32_t events);
};

int supervisor_watch(struct supervisor *super, struct watch *watch, int fd, uint32_t events);
void supervisor_watch_for(struct supervisor *super, struct watch *watch, uint32_t events);
void supervisor_unwatch(struct supervisor *super, struct watch *watch);

/*
 * A worker's place; the process in it changes.
 *
 *   DOWN -spawn-> STARTING -W_READY-> READY -W_STOP sent-> STOPPING
 *   STARTING, READY, STOPPING -the process died-> DOWN, or GONE once the daemon is stopping
 *   DOWN -the daemon is stopping-> GONE
 */
enum worker_state {
	WORKER_DOWN,
	WORKER_STARTING,
	WORKER_READY,
	WORKER_STOPPING,
	WORKER_GONE,
};

struct worker {
	struct supervisor *super;
	unsigned shard;
	enum worker_state state;
	bool stopped_cleanly; /* said W_STOPPED */
	bool was_ready;	      /* in this life of the supervisor */
	bool wants_timestamps;

	pid_t pid;
	uint32_t incarnation;
	struct watch socket; /* to the process */
	struct watch pidfd;
	struct eloq_outbox out;
	uint64_t spawned_ns;
	uint64_t restart_at_ns; /* while DOWN */
	uint64_t kill_at_ns;	/* 0: never */
	const char *kill_reason;
	unsigned deaths_in_a_row; /* each soon after its start */
	uint64_t restarts;

	int wal_fd;
	struct eloq_shared_fd *wal;
	struct eloq_shared_fd *page;	       /* writable */
	struct eloq_shared_fd *page_read_only; /* for clients */
	const struct eloq_worker_page *page_seen;
	uint64_t heartbeat_ns; /* as last seen */
	uint64_t silent_ns;    /* the heartbeat did not change */
	bool nudged;	       /* asleep and silent: asked for a sign of life */

	struct eloq_list lanes; /* struct lane */
	unsigned lane_count;
	struct eloq_list graves; /* struct grave, oldest first */
	uint32_t grave_seq;	 /* of the W_LOOK that fences them; 0: none is out */
};

/* Memory of a lane that its client gave up; freed once the worker let go of it (lane.c). */
struct grave {
	struct eloq_list link;
	uint32_t seq; /* of the W_LOOK behind its W_LANE_GONE; 0: not yet sent */
	struct eloq_shared_fd *memory;
	uint64_t bytes;
};

struct bulk {
	struct eloq_list link; /* in lane->bulks */
	uint32_t number;
	uint32_t direction;
	uint64_t bytes;
	struct eloq_shared_fd *memory; /* writable */
};

struct lane {
	struct eloq_list link; /* in worker->lanes */
	struct worker *worker;
	struct session *session;
	uint32_t number; /* unique in our life */
	uint32_t channel;
	bool closed; /* by the worker, for a lie: no successor gets it */
	uint32_t bulk_next;
	unsigned bulk_count;
	struct eloq_list bulks;
	struct eloq_shared_fd *req, *ans, *doorbell; /* writable all */
};

struct channel {
	struct eloq_list link; /* in session->channels */
	uint32_t number;       /* never reused in a session */
	struct lane *lanes[];  /* one place for each shard */
};

/* What keeps a session from taking its next request: answers come in the order of requests. */
enum session_wait {
	SESSION_WAIT_NONE,
	SESSION_WAIT_LIST,  /* more tables to send when there is room */
	SESSION_WAIT_TABLE, /* a drop, until all workers have replied */
	SESSION_WAIT_LOOK,  /* figures, until all workers have answered */
};

struct session {
	struct eloq_list link; /* in super->sessions, or super->dead_sessions */
	struct supervisor *super;
	struct watch socket;
	uint64_t number;
	uid_t uid;
	uint32_t pid;
	char name[32];
	bool greeted;
	bool closing; /* gone once its outbox is empty */
	bool dead;
	enum session_wait wait;
	uint32_t wait_seq;   /* of its request */
	uint32_t wait_table; /* whose drop it waits for */
	uint32_t list_after; /* the last table that was sent */
	struct eloq_outbox out;
	/* Nothing leaves before each worker was sent its packets up to here: what a client learns,
	 * its workers were told before. */
	uint64_t gates[ELOQ_SHARDS_MAX];
	struct eloq_list channels;
	unsigned channel_count;
	uint32_t channel_next;
};

/* A table on its way out: each worker drops its partitions and replies. */
struct table_drop {
	struct eloq_list link;
	uint32_t table;
	uint32_t seq;
	uint64_t missing;   /* bit n: shard n has not replied */
	uint64_t resend_ns; /* 0: no reply was a failure */
};

/* Figures being gathered for one client. */
struct look {
	struct eloq_list link;
	struct session *session;
	uint32_t seq;
	uint64_t missing;
	uint64_t give_up_ns;
	struct eloq_msg_w_figures *figures; /* of each shard; bytes 0: none came */
};

enum supervisor_phase { SUPERVISOR_STARTING, SUPERVISOR_SERVING, SUPERVISOR_STOPPING };

struct supervisor {
	struct eloq_options *options;
	const struct eloq_clock *clock;
	const char *program; /* of workers */
	struct eloq_data_dir dir;
	struct eloq_store_file store;
	struct eloq_shared_fd *roots[ELOQ_STORE_FILE_PATHS_MAX];
	char *socket_path;

	enum supervisor_phase phase;
	bool ready_said;
	bool quick;	  /* the second signal came */
	int exit_code;	  /* of sysexits.h, once something went wrong */
	bool gates_moved; /* see super_sessions_gates_moved() */
	uint64_t now_ns;
	uint64_t started_ns;
	uint64_t ticked_ns;
	int epoll_fd;
	struct watch signals;
	struct watch listener;

	struct worker *workers;
	unsigned worker_count;
	uint32_t cpus[ELOQ_SHARDS_MAX];

	struct eloq_list sessions;
	struct eloq_list dead_sessions; /* freed when no event can name them any more */
	unsigned session_count;
	uint64_t session_next;
	uint32_t lane_next;
	uint64_t lane_memory; /* in use, graves included */
	uint32_t seq;	      /* of our requests to workers */
	struct eloq_list drops;
	struct eloq_list looks;
};

/* A number for a request to a worker; never 0. */
uint32_t supervisor_next_seq(struct supervisor *super);
bool supervisor_is_stopping(const struct supervisor *super);
/* Log what STORE could not be told; the caller refuses what depends on it. */
int supervisor_save(struct supervisor *super, struct eloq_errinfo *reterr);

/* --- store_open.c --- */
int super_store_open(struct supervisor *super, int stop_fd, struct eloq_errinfo *reterr);
void super_store_close(struct supervisor *super);

/* --- worker.c --- */
int super_workers_open(struct supervisor *super, struct eloq_errinfo *reterr);
void super_workers_close(struct supervisor *super);
/* Start and end what is due. */
void super_workers_tick(struct supervisor *super);
/* Look for workers that hang, and try again what did not go; @elapsed_ns since the last time. */
void super_workers_check(struct supervisor *super, uint64_t elapsed_ns);
void super_workers_stop(struct supervisor *super);
void super_workers_hurry(struct supervisor *super);
bool super_workers_gone(const struct supervisor *super);
bool super_workers_all_ready(const struct supervisor *super);
/* Each is ready, or had its chance. */
bool super_workers_settled(const struct supervisor *super);
uint64_t super_workers_next_due_ns(const struct supervisor *super);
bool super_worker_is_alive(const struct worker *worker);
/* End a process that broke the rules; its death is then handled as any. */
void super_worker_kill(struct worker *worker, const char *reason);
/* The same, unless it leaves by itself before long. */
void super_worker_kill_later(struct worker *worker, const char *reason);
void super_worker_became_ready(struct worker *worker, const char *notes, size_t notes_bytes);

/* --- link.c --- */
/* Queue and try to send. A worker that is down is told all by its start sequence instead. */
void super_link_send(struct worker *worker, const void *message, const void *text,
		     size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count);
void super_link_flush(struct worker *worker);
/* Everything a new process must know, up to GO. */
void super_link_send_start(struct worker *worker, uint64_t timestamp_floor_us);
void super_link_send_table(struct worker *worker, enum eloq_control_type type, uint32_t seq,
			   const struct eloq_store_file_table *table);
void super_link_send_timestamps(struct worker *worker);
/* Reserve timestamps ahead for everybody, in memory: STORE must be saved before they are used. */
void super_link_reserve_timestamps(struct supervisor *super);
void super_link_socket_ready(struct watch *watch, uint32_t events);
/* Handle what has arrived. 1: there may be more; -EAGAIN: that was all; 0: the other side closed.
 */
int super_link_drain(struct worker *worker);

/* --- lane.c --- */
int super_lane_channel_open(struct session *session, uint32_t *ret_channel);
int super_lane_channel_close(struct session *session, uint32_t channel);
void super_lane_close_session(struct session *session);
int super_lane_open(struct session *session, uint32_t seq, uint32_t channel, uint32_t shard,
		    struct eloq_errinfo *reterr);
int super_lane_bulk_open(struct session *session, const struct eloq_msg_bulk_open *msg,
			 struct eloq_errinfo *reterr);
int super_lane_bulk_close(struct session *session, const struct eloq_msg_bulk_close *msg);
/* Hand all lanes and bulks over to a new process. */
void super_lane_hand_over(struct worker *worker);
void super_lane_closed_by_worker(struct worker *worker, uint32_t number, uint32_t reason);
/* The worker has handled everything up to the W_LOOK of @seq. */
void super_lane_fence_passed(struct worker *worker, uint32_t seq);
void super_lane_worker_died(struct worker *worker);

/* --- session.c --- */
int super_sessions_listen(struct supervisor *super, struct eloq_errinfo *reterr);
void super_sessions_stop_listening(struct supervisor *super);
void super_sessions_close_all(struct supervisor *super);
void super_sessions_bury(struct supervisor *super);
/* By the clock: listen again, if descriptors lacked. */
void super_sessions_check(struct supervisor *super);
/* A worker was sent packets: answers that waited for that may leave. */
void super_sessions_gates_moved(struct supervisor *super);
void super_session_send(struct session *session, const void *message, const void *text,
			size_t text_bytes, struct eloq_shared_fd *const *fds, unsigned fd_count);
void super_session_send_error(struct session *session, uint32_t seq, int error, const char *words);
void super_session_send_done(struct session *session, uint32_t seq);
/* Text of any length, in as many TEXTs as it takes. */
void super_session_send_text(struct session *session, uint32_t seq, const char *text, size_t bytes);
/* What the session waited for has come: go on with its next request. */
void super_session_resume(struct session *session);
/* Hold back what is sent from now on until @worker was sent all that is queued for it. */
void super_session_gate(struct session *session, const struct worker *worker);

/* --- table.c --- */
void super_tables_resume_drops(struct supervisor *super);
void super_tables_close(struct supervisor *super);
void super_tables_tick(struct supervisor *super);
uint64_t super_tables_next_due_ns(const struct supervisor *super);
void super_tables_worker_ready(struct worker *worker);
void super_tables_reply(struct worker *worker, uint32_t seq, int error, const char *text,
			size_t text_bytes);
void super_table_open(struct session *session, const struct eloq_msg_table_name *msg);
void super_table_create(struct session *session, const struct eloq_msg_table_name *msg);
void super_table_drop(struct session *session, const struct eloq_msg_table_name *msg);
void super_table_list(struct session *session, uint32_t seq);
/* Send more of the list while there is room. */
void super_table_list_go_on(struct session *session);

/* --- look.c --- */
void super_look_answer(struct session *session, const struct eloq_msg_look *msg);
void super_looks_figures(struct worker *worker, const struct eloq_msg_w_figures *msg);
void super_looks_worker_died(struct worker *worker);
void super_looks_session_gone(struct session *session);
void super_looks_tick(struct supervisor *super);
uint64_t super_looks_next_due_ns(const struct supervisor *super);
void super_looks_close(struct supervisor *super);

/* --- notify.c --- */
/* Tell the service manager, if $NOTIFY_SOCKET names one: lines as "READY=1\nSTATUS=...". */
void super_notify(const char *lines);

/* --- cpus.c --- */
/* A CPU for each worker, or ELOQ_CPU_NONE for all. */
void super_cpus_choose(uint32_t *cpus, unsigned count, bool pin);

#endif
