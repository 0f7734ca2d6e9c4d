/*
 * err.h - errors: a negative number, and words where there is time for words.
 *
 * A function returns 0 or a count on success and a negative number on failure: -errno for what
 * the system said, or -ELOQ_E... from the one table below for what only we can say. Cold paths
 * (open, configuration, recovery) also fill the caller's eloq_errinfo; the hot path returns the
 * number alone. Library code does not log: whoever decides, logs once.
 *
 * These numbers are not part of any format: shm/message.h has the codes that cross processes.
 */
#ifndef ELOQ_COMMON_ERR_H
#define ELOQ_COMMON_ERR_H

#include "common/compiler.h"

/* Numbers start far above any errno. X(name, number, text) */
#define ELOQ_ERR_MAP(X)                                                                           \
	X(ECORRUPT, 5001, "checksum or structure check failed")                                   \
	X(EVERSION, 5002, "version not supported")                                                \
	X(EFOREIGN, 5003, "belongs to another store")                                             \
	X(EBUSYOWNER, 5004, "in use by another daemon")                                           \
	X(EUNSUPPORTED, 5005, "not supported by this version")                                    \
	X(ENOTFOUND, 5006, "not found")                                                           \
	X(EEXISTS, 5007, "exists already")                                                        \
	X(ETOOMANY, 5008, "too many: a configured bound is reached")                              \
	X(ETOOLONG, 5009, "longer than the limit")                                                \
	X(EDENIED, 5010, "not permitted")                                                         \
	X(ENODAEMON, 5011, "no daemon serves this directory")                                     \
	X(ECLOSED, 5012, "the daemon closed the connection")                                      \
	X(EUNKNOWN_OUTCOME, 5013, "the daemon is gone; whether the write took effect is unknown") \
	X(EPROTOCOL, 5014, "the other side broke the protocol")                                   \
	X(ECONFIG, 5015, "bad configuration")                                                     \
	X(ECRASHED, 5016, "the request crashed the worker")                                       \
	X(ESTOPPED, 5017, "the service is stopping")                                              \
	X(EFAILED_SYNC, 5018, "a sync failed; what the disk holds is unknown until recovery")     \
	X(EREADONLY, 5019, "the shard serves reads only")                                         \
	X(EORDER, 5020, "keys not strictly ascending")

enum eloq_err {
#define ELOQ_ERR_ENUM(name, number, text) ELOQ_##name = (number),
	ELOQ_ERR_MAP(ELOQ_ERR_ENUM)
#undef ELOQ_ERR_ENUM
};

enum { ELOQ_ERRINFO_BYTES = 512 };

/* Where a cold path says what went wrong. text is one line without a final stop, "" if unset. */
struct eloq_errinfo {
	int code;
	char text[ELOQ_ERRINFO_BYTES];
};

/* Text for a negative (or positive) code of either kind; never NULL, valid for the process. */
const char *eloq_err_text(int code);

/* Short name of a code, as "ECORRUPT" or "ENOENT"; never NULL. */
const char *eloq_err_name(int code);

/*
 * Writes @code and a formatted line into @reterr (NULL is fine) and returns @code, so that a
 * failure is one statement: return eloq_fail(reterr, -ELOQ_ECORRUPT, "page %u is bad", id);
 */
int eloq_fail(struct eloq_errinfo *reterr, int code, const char *format, ...) ELOQ_PRINTF(3, 4);

/* As eloq_fail(), with ": " and the text of @code behind the line. */
int eloq_fail_errno(struct eloq_errinfo *reterr, int code, const char *format, ...)
	ELOQ_PRINTF(3, 4);

/* The analyzer does not look into variadic functions: this tells it what they return. */
#ifdef __clang_analyzer__
#define eloq_fail(reterr, code, ...) ((void)(eloq_fail)((reterr), (code), __VA_ARGS__), (code))
#define eloq_fail_errno(reterr, code, ...) \
	((void)(eloq_fail_errno)((reterr), (code), __VA_ARGS__), (code))
#endif

#endif
