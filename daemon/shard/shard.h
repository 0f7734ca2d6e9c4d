/*
 * shard.h - a shard worker: one process, one thread, the sole owner of its partitions.
 *
 * The supervisor starts it with a socket, tells it everything it needs (shm/control.h), and hands
 * it lanes. It serves until it is told to stop, the supervisor is gone, or it must leave.
 */
#ifndef ELOQ_DAEMON_SHARD_SHARD_H
#define ELOQ_DAEMON_SHARD_SHARD_H

/*
 * The worker's life, from its first message to its last. @control_socket is a SOCK_SEQPACKET to
 * the supervisor. Returns the exit code of the process: 0 after a clean stop, else of sysexits.h.
 */
int eloq_shard_main(int control_socket, int shard_index);

#endif
