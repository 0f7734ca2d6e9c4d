/*
 * conf.h - configuration: an ini file and `--key value`, by one table of keys.
 *
 * Idea: a key is a row: where it stands in the ini, what it may be, and into which field of the
 * caller's structure it goes. So parsing, refusing, help and printing need no code for each key.
 *
 * Always:   what is unknown, of the wrong unit, out of range or there twice is refused, with file
 *           and line, the key, and what would be right; nothing is guessed. What is set on the
 *           command line wins over the file, whichever was read first.
 * Runs on:  one thread at a time in a process, at start-up (libinih is set up by globals).
 * Fails by: -ELOQ_ECONFIG, or -ELOQ_EUNSUPPORTED for a key that is known but not built, with words.
 *           The values are then partly set; eloq_conf_clear() is due all the same.
 */
#ifndef ELOQ_COMMON_CONF_H
#define ELOQ_COMMON_CONF_H

#include "common/compiler.h"
#include "common/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	ELOQ_CONF_KEYS_MAX = 128,
	ELOQ_CONF_LINE_BYTES_MAX = 8192,
	ELOQ_CONF_FILE_BYTES_MAX = 1 << 20,
};

enum eloq_conf_type {		      /* field, and how it is written: */
		      ELOQ_CONF_BOOL, /* bool: true false, yes no, on off, 1 0 */
		      ELOQ_CONF_U64,  /* uint64_t: decimal digits */
		      ELOQ_CONF_SIZE, /* uint64_t: digits, then KB MB GB TB in any case, or nothing
				       */
		      ELOQ_CONF_DURATION, /* uint64_t of nanoseconds: digits, then ns us ms s m; or
					     0 */
		      ELOQ_CONF_STRING,	  /* char *, NULL if there is none */
		      ELOQ_CONF_PATH,  /* char *, NULL if there is none; in a file relative to that
					  file */
		      ELOQ_CONF_PATHS, /* struct eloq_conf_paths: separated by ':' or blanks, as
					  above */
};

struct eloq_conf_paths {
	char **paths;
	size_t count;
};

struct eloq_conf_key {
	const char *section;
	const char *name; /* unique over all sections: it is a command line option as well */
	enum eloq_conf_type type;
	size_t offset; /* of the field in the caller's structure */
	uint64_t min;  /* of a number; of the bytes of a text; of the entries of a list */
	uint64_t max;  /* 0: no upper bound */
	const char *default_text; /* as it would stand in the file; NULL: 0, false, nothing */
	const char *help;	  /* one line */
	/* Not NULL: known, but not built, and this is why. The field is not used. A file may still
	 * hold the key with its default, which asks for nothing. */
	const char *refused;
};

enum eloq_conf_source { ELOQ_CONF_FROM_DEFAULT, ELOQ_CONF_FROM_FILE, ELOQ_CONF_FROM_COMMAND_LINE };

/* Read through the functions below. */
struct eloq_conf {
	const struct eloq_conf_key *keys;
	size_t key_count;
	void *values; /* the caller's structure */
	char *file;   /* as it was named; NULL before one was read */
	struct {
		enum eloq_conf_source source;
		unsigned line; /* in the file; 0: not there */
	} set[ELOQ_CONF_KEYS_MAX];
};

/*
 * Begin: set every field of @values that @keys name to its default. The keys must outlive @conf;
 * a default that does not parse is our own bug and aborts. 0 or -ENOMEM.
 */
int eloq_conf_defaults(struct eloq_conf *conf, const struct eloq_conf_key *keys, size_t key_count,
		       void *values);

/* Free what the fields own and empty them. */
void eloq_conf_clear(struct eloq_conf *conf);

/* Read a file, once for each @conf. A path in it is taken relative to the file's directory. */
int eloq_conf_parse_file(struct eloq_conf *conf, const char *path, struct eloq_errinfo *reterr);

/* The same for text that is in memory, as if it had been read from @path. */
int eloq_conf_parse_text(struct eloq_conf *conf, const char *text, size_t text_bytes,
			 const char *path, struct eloq_errinfo *reterr);

/* Set one key as the command line does; the last time counts. */
int eloq_conf_set(struct eloq_conf *conf, const char *name, const char *value,
		  struct eloq_errinfo *reterr);

/*
 * If argv[*index] is `--key value` or `--key=value` of one of our keys, set it, move *index behind
 * it and return 1. 0: not one of ours, nothing done. Negative: it was, and is wrong.
 */
int eloq_conf_set_argument(struct eloq_conf *conf, int argc, char *const *argv, int *index,
			   struct eloq_errinfo *reterr);

/* Who said what @name, which must be a key, is. */
enum eloq_conf_source eloq_conf_source(const struct eloq_conf *conf, const char *name);

/*
 * For the caller's own checks, of two keys together for instance: fill @reterr with the place where
 * @name was set and the formatted line, as the checks here do. Returns -ELOQ_ECONFIG.
 */
int eloq_conf_fail(const struct eloq_conf *conf, struct eloq_errinfo *reterr, const char *name,
		   const char *format, ...) ELOQ_PRINTF(4, 5);

/*
 * Write all that is in force as an ini with a comment for each key. Read again it gives the same
 * (unless a directory's name holds blanks or colons). -EIO if @out has an error.
 */
int eloq_conf_print(const struct eloq_conf *conf, FILE *out);

#endif
