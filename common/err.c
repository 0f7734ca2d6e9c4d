/*
 * err.c - the text of every error, and the one way to attach words to it. See err.h.
 *
 * Threads: any; nothing is shared.
 */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The analyzer's stand-ins are for those who call. */
#undef eloq_fail
#undef eloq_fail_errno

void eloq_assert_fail(const char *condition, const char *file, int line)
{
	fprintf(stderr, "<2>%s:%d: assertion failed: %s\n", file, line, condition);
	abort();
}

const char *eloq_err_text(int code)
{
	int number = code < 0 ? -code : code;

	switch (number) {
#define ELOQ_ERR_CASE(name, value, text) \
	case value:                      \
		return text;
		ELOQ_ERR_MAP(ELOQ_ERR_CASE)
#undef ELOQ_ERR_CASE
	default:
		break;
	}
	const char *text = strerrordesc_np(number);

	return text ? text : "unknown error";
}

const char *eloq_err_name(int code)
{
	int number = code < 0 ? -code : code;

	switch (number) {
#define ELOQ_ERR_CASE(name, value, text) \
	case value:                      \
		return #name;
		ELOQ_ERR_MAP(ELOQ_ERR_CASE)
#undef ELOQ_ERR_CASE
	default:
		break;
	}
	const char *name = strerrorname_np(number);

	return name ? name : "EUNKNOWN";
}

int eloq_fail(struct eloq_errinfo *reterr, int code, const char *format, ...)
{
	va_list args;

	if (!reterr)
		return code;
	reterr->code = code;
	va_start(args, format);
	(void)vsnprintf(reterr->text, sizeof(reterr->text), format, args);
	va_end(args);
	return code;
}

int eloq_fail_errno(struct eloq_errinfo *reterr, int code, const char *format, ...)
{
	va_list args;
	size_t used;

	if (!reterr)
		return code;
	reterr->code = code;
	va_start(args, format);
	(void)vsnprintf(reterr->text, sizeof(reterr->text), format, args);
	va_end(args);
	used = strlen(reterr->text);
	(void)snprintf(reterr->text + used, sizeof(reterr->text) - used, ": %s",
		       eloq_err_text(code));
	return code;
}
