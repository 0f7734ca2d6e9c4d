/*
 * supervisor.h - the process that owns the data directory and watches over the workers.
 *
 * It takes the locks, keeps STORE, starts one worker for each shard and another when one dies,
 * makes the shared memory of clients and workers, and answers on the control socket. It never
 * touches a request or a page.
 *
 * Runs on: the main thread of eloqstored, the only one.
 */
#ifndef ELOQ_DAEMON_SUPERVISOR_SUPERVISOR_H
#define ELOQ_DAEMON_SUPERVISOR_SUPERVISOR_H

struct eloq_options;

/*
 * Serve until a signal ends it. @program is started for each shard as `@program --worker FD SHARD`.
 * @options get the store's own values where nothing was said (page size and the like). Returns the
 * exit code of the process: 0 after a clean stop, else of sysexits.h; why was logged.
 */
int eloq_supervisor_run(struct eloq_options *options, const char *program);

#endif
