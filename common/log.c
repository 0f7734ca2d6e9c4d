/*
 * log.c - log lines to stderr. See log.h.
 *
 * Each line is one write(2), so lines of several processes on one stderr do not mix.
 * Threads: any, after eloq_log_setup(). Fails by: nothing; a line that cannot be written is lost.
 */
#include "common/log.h"

#include "common/clock.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 1024, LOG_NAME_BYTES = 32 };

static char log_name[LOG_NAME_BYTES] = "eloq";
static enum eloq_log_level log_level = ELOQ_LOG_INFO;
static bool log_to_journal;

void eloq_log_setup(const char *name, enum eloq_log_level level)
{
	(void)snprintf(log_name, sizeof(log_name), "%s", name);
	log_level = level;
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static const char *log_level_name(enum eloq_log_level level)
{
	switch (level) {
	case ELOQ_LOG_ERR:
		return "error: ";
	case ELOQ_LOG_WARN:
		return "warning: ";
	case ELOQ_LOG_INFO:
		return "";
	case ELOQ_LOG_DEBUG:
		return "debug: ";
	}
	return "";
}

void eloq_log(enum eloq_log_level level, const char *format, ...)
{
	char line[LOG_LINE_BYTES];
	size_t end;
	int used;
	va_list args;

	if (level > log_level)
		return;
	if (log_to_journal)
		used = snprintf(line, sizeof(line), "<%d>%s: ", (int)level, log_name);
	else
		used = snprintf(line, sizeof(line), "%s: %s", log_name, log_level_name(level));
	va_start(args, format);
	(void)vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	end = strlen(line);
	line[end] = '\n';
	if (write(STDERR_FILENO, line, end + 1) < 0)
		return; /* nobody left to tell */
}

bool eloq_log_allowed(struct eloq_log_limit *limit, uint64_t now_ns, unsigned *ret_left_out)
{
	uint64_t second = now_ns / ELOQ_NS_PER_S;

	if (second != limit->second) {
		limit->second = second;
		limit->written = 0;
	}
	if (limit->written >= ELOQ_LOG_LINES_PER_S) {
		limit->left_out++;
		return false;
	}
	limit->written++;
	*ret_left_out = limit->left_out;
	limit->left_out = 0;
	return true;
}
