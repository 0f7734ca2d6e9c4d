/*
 * main.c - eloqstored: reads what it is told, then is the supervisor, or one of its workers.
 *
 * A worker is this program again, started as `eloqstored --worker FD SHARD` by the supervisor: a
 * fresh address space and nothing inherited but one socket.
 */
#include "common/log.h"
#include "daemon/options.h"
#include "daemon/shard/shard.h"
#include "daemon/supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

/* A small number that the supervisor wrote; -1 for anything else. */
static int main_number(const char *text)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	return errno || end == text || *end || number < 0 || number > INT16_MAX ? -1 : (int)number;
}

/* The kernel tells a worker of its parent's death; the socket tells it too, should the parent have
 * died before this line. */
static int main_worker(int argc, char **argv)
{
	int socket = argc == 4 ? main_number(argv[2]) : -1;
	int shard = argc == 4 ? main_number(argv[3]) : -1;

	if (socket < 0 || shard < 0) {
		(void)fputs("eloqstored: --worker is for eloqstored itself\n", stderr);
		return EX_USAGE;
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	return eloq_shard_main(socket, shard);
}

static int main_print_config(const struct eloq_options *options)
{
	char *text = eloq_options_text(options);
	int r = text && fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? EX_OK : EX_IOERR;

	free(text);
	return r;
}

static int main_serve(struct eloq_options *options)
{
	char *note = eloq_options_note(options);

	eloq_log_setup("eloqstored", eloq_options_log_level(options->log_level));
	if (note && note[0])
		eloq_log_info("%s", note);
	free(note);
	return eloq_supervisor_run(options, "/proc/self/exe");
}

static int main_act(struct eloq_options *options)
{
	switch (options->action) {
	case ELOQ_OPTIONS_SERVE:
		return main_serve(options);
	case ELOQ_OPTIONS_CHECK:
		return main_print_config(options);
	case ELOQ_OPTIONS_HELP:
		eloq_options_help(stdout);
		return EX_OK;
	case ELOQ_OPTIONS_VERSION:
		(void)puts("eloqstored " ELOQ_VERSION);
		return EX_OK;
	}
	return EX_SOFTWARE;
}

static int main_exit_code(int error)
{
	switch (-error) {
	case EINVAL:
		return EX_USAGE;
	case ELOQ_ECONFIG:
	case ELOQ_EUNSUPPORTED:
		return EX_CONFIG;
	case ENOMEM:
		return EX_OSERR;
	default:
		return EX_NOINPUT;
	}
}

int main(int argc, char **argv)
{
	struct eloq_errinfo error = { 0 };
	struct eloq_options options;
	int r;

	if (argc > 1 && strcmp(argv[1], "--worker") == 0)
		return main_worker(argc, argv);
	r = eloq_options_parse(&options, argc, argv, &error);
	if (r < 0) {
		(void)fprintf(stderr, "eloqstored: %s\n", error.text);
		return main_exit_code(r);
	}
	r = main_act(&options);
	eloq_options_clear(&options);
	return r;
}
