/*
 * fd.h - descriptors that know whether they are open.
 */
#ifndef ELOQ_COMMON_FD_H
#define ELOQ_COMMON_FD_H

#include <unistd.h>

/* Closes @fd unless it is negative. */
static inline void eloq_fd_close(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

/* As eloq_fd_close(), and marks the variable empty. */
static inline void eloq_fd_clear(int *fd)
{
	eloq_fd_close(*fd);
	*fd = -1;
}

/* The open descriptor of *fd, which is empty afterwards: a visible hand-over. */
static inline int eloq_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
