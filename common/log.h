/*
 * log.h - one line an event, for whoever decides; libraries return errors instead.
 *
 * Lines go to stderr with a "<N>" priority prefix when it is a journal, else with the level's
 * name, as: <6>worker[0]: ready incarnation=7. Text first, then key=value pairs.
 */
#ifndef ELOQ_COMMON_LOG_H
#define ELOQ_COMMON_LOG_H

#include "common/compiler.h"

#include <stdbool.h>
#include <stdint.h>

/* syslog's numbers, so that the prefix is the level. */
enum eloq_log_level { ELOQ_LOG_ERR = 3, ELOQ_LOG_WARN = 4, ELOQ_LOG_INFO = 6, ELOQ_LOG_DEBUG = 7 };

/* Name put before each line, copied, up to 31 bytes; and the least urgent level that is written. */
void eloq_log_setup(const char *name, enum eloq_log_level level);

void eloq_log(enum eloq_log_level level, const char *format, ...) ELOQ_PRINTF(2, 3);

/* Keeps a line that clients can provoke from filling the log. All zeros is a fresh one. */
struct eloq_log_limit {
	uint64_t second; /* that is being counted */
	unsigned written;
	unsigned left_out;
};

enum { ELOQ_LOG_LINES_PER_S = 5 };

/* True if one more line may be written now; *ret_left_out lines were not since the last one. */
bool eloq_log_allowed(struct eloq_log_limit *limit, uint64_t now_ns, unsigned *ret_left_out);

#define eloq_log_err(...)   eloq_log(ELOQ_LOG_ERR, __VA_ARGS__)
#define eloq_log_warn(...)  eloq_log(ELOQ_LOG_WARN, __VA_ARGS__)
#define eloq_log_info(...)  eloq_log(ELOQ_LOG_INFO, __VA_ARGS__)
#define eloq_log_debug(...) eloq_log(ELOQ_LOG_DEBUG, __VA_ARGS__)

#endif
