/*
 * doorbell.h - how the side that sleeps is woken: an eventfd for workers, a futex for clients.
 *
 * Private to shm/; what callers need is in lane.h.
 */
#ifndef ELOQ_SHM_DOORBELL_H
#define ELOQ_SHM_DOORBELL_H

#include "shm/layout.h"

/* Ring a worker's eventfd; negative: nothing to ring. */
void eloq_doorbell_ring(int fd);

/* Raise the wake counter, then wake the client that sleeps on it. */
void eloq_doorbell_wake_client(struct eloq_answer_segment *ans);

#endif
