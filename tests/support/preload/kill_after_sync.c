/*
 * kill_after_sync.c - an interposer for LD_PRELOAD: dies right after a manifest became durable.
 *
 * When the file that the environment variable KILL_AFTER_SYNC_TRIGGER names exists, the next
 * successful fdatasync() of a file called manifest_0 removes it and kills the process with
 * SIGKILL: the commit is on disk, and nobody was told. Works where fdatasync() is libc's: with
 * io_backend pool and pool_threads 0.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_manifest(int fd)
{
	char link[64], path[4096];
	const char *name;
	ssize_t bytes;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	bytes = readlink(link, path, sizeof(path) - 1);
	if (bytes <= 0)
		return false;
	path[bytes] = '\0';
	name = strrchr(path, '/');
	return name && strcmp(name, "/manifest_0") == 0;
}

int fdatasync(int fd)
{
	const char *trigger = getenv("KILL_AFTER_SYNC_TRIGGER");
	int r = (int)syscall(SYS_fdatasync, fd);

	if (r == 0 && trigger && is_manifest(fd) && unlink(trigger) == 0)
		(void)kill(getpid(), SIGKILL);
	return r;
}
