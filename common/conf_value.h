/*
 * conf_value.h - one setting between text and value; for conf.c alone.
 */
#ifndef ELOQ_COMMON_CONF_VALUE_H
#define ELOQ_COMMON_CONF_VALUE_H

#include "common/conf.h"

/* Which member counts is the key's type's business; the others are 0. */
struct eloq_conf_value {
	uint64_t number; /* BOOL, U64, SIZE, DURATION */
	char *text;	 /* STRING, PATH */
	struct eloq_conf_paths paths;
};

/*
 * Judge @text by the type and range of @key. Relative paths get @prefix, a directory with its '/'
 * or "", in front. @reterr then says what is wrong with the text, without the key's name.
 */
int eloq_conf_value_parse(const struct eloq_conf_key *key, const char *text, const char *prefix,
			  struct eloq_conf_value *ret_value, struct eloq_errinfo *reterr);

void eloq_conf_value_clear(struct eloq_conf_value *value);

/* As eloq_conf_value_parse() reads it. */
void eloq_conf_value_print(enum eloq_conf_type type, const struct eloq_conf_value *value,
			   FILE *out);

enum { ELOQ_CONF_RANGE_BYTES = 96 };

/* "1..64", "at least 4KB", or "" where the key has no bounds. */
void eloq_conf_range_text(const struct eloq_conf_key *key, char text[ELOQ_CONF_RANGE_BYTES]);

#endif
