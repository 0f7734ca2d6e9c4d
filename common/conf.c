/*
 * conf.c - the table of keys, the ini and the command line. See conf.h.
 *
 * Idea: libinih splits lines; Debian builds it so that the handler is not told the line's number.
 * But it calls the handler for a line before it asks for the next one, so our reader, which hands
 * it exactly one line a call, knows the number. The reader also refuses what libinih would split or
 * cut without a word: lines that are too long, and NUL bytes.
 */
#include "common/conf.h"

#include "common/conf_value.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* In any case, as the reference reads them. */
static const struct eloq_conf_key *conf_find(const struct eloq_conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->key_count; i++)
		if (strcasecmp(conf->keys[i].name, name) == 0)
			return &conf->keys[i];
	return NULL;
}

static size_t conf_index(const struct eloq_conf *conf, const struct eloq_conf_key *key)
{
	return (size_t)(key - conf->keys);
}

static void *conf_field(const struct eloq_conf *conf, const struct eloq_conf_key *key)
{
	return (char *)conf->values + key->offset;
}

/* What is in the field; owned by it. */
static struct eloq_conf_value conf_load(const struct eloq_conf *conf,
					const struct eloq_conf_key *key)
{
	const void *field = conf_field(conf, key);
	struct eloq_conf_value value = { 0 };

	switch (key->type) {
	case ELOQ_CONF_BOOL:
		value.number = *(const bool *)field;
		break;
	case ELOQ_CONF_U64:
	case ELOQ_CONF_SIZE:
	case ELOQ_CONF_DURATION:
		value.number = *(const uint64_t *)field;
		break;
	case ELOQ_CONF_STRING:
	case ELOQ_CONF_PATH:
		value.text = *(char *const *)field;
		break;
	case ELOQ_CONF_PATHS:
		value.paths = *(const struct eloq_conf_paths *)field;
		break;
	}
	return value;
}

/* Gives @value to the field, over whatever that held: who replaces clears first. */
static void conf_store(const struct eloq_conf *conf, const struct eloq_conf_key *key,
		       const struct eloq_conf_value *value)
{
	void *field = conf_field(conf, key);

	switch (key->type) {
	case ELOQ_CONF_BOOL:
		*(bool *)field = value->number != 0;
		break;
	case ELOQ_CONF_U64:
	case ELOQ_CONF_SIZE:
	case ELOQ_CONF_DURATION:
		*(uint64_t *)field = value->number;
		break;
	case ELOQ_CONF_STRING:
	case ELOQ_CONF_PATH:
		*(char **)field = value->text;
		break;
	case ELOQ_CONF_PATHS:
		*(struct eloq_conf_paths *)field = value->paths;
		break;
	}
}

static void conf_replace(const struct eloq_conf *conf, const struct eloq_conf_key *key,
			 const struct eloq_conf_value *value)
{
	struct eloq_conf_value old = conf_load(conf, key);

	eloq_conf_value_clear(&old);
	conf_store(conf, key, value);
}

/* The keys are ours: what is wrong with them is a bug. */
static int conf_key_default(const struct eloq_conf *conf, const struct eloq_conf_key *key)
{
	struct eloq_conf_value value = { 0 };
	struct eloq_errinfo err;
	int r = 0;

	eloq_assert(conf_find(conf, key->name) == key);
	if (key->default_text)
		r = eloq_conf_value_parse(key, key->default_text, "", &value, &err);
	eloq_assert(r == 0 || r == -ENOMEM);
	if (key->refused)
		eloq_conf_value_clear(&value);
	else
		conf_store(conf, key, &value);
	return r;
}

int eloq_conf_defaults(struct eloq_conf *conf, const struct eloq_conf_key *keys, size_t key_count,
		       void *values)
{
	int r = 0;

	eloq_assert(key_count <= ELOQ_CONF_KEYS_MAX);
	*conf = (struct eloq_conf){ .keys = keys, .key_count = key_count, .values = values };
	for (size_t i = 0; i < key_count; i++) {
		int key_r = conf_key_default(conf, &keys[i]); /* all, so that all can be cleared */

		r = r < 0 ? r : key_r;
	}
	if (r < 0)
		eloq_conf_clear(conf);
	return r;
}

void eloq_conf_clear(struct eloq_conf *conf)
{
	static const struct eloq_conf_value nothing;

	for (size_t i = 0; i < conf->key_count; i++)
		if (!conf->keys[i].refused)
			conf_replace(conf, &conf->keys[i], &nothing);
	free(conf->file);
	conf->file = NULL;
}

/* "FILE:LINE: [section] name", "--name", or "[section] name" for a default. */
static void conf_place(const struct eloq_conf *conf, const struct eloq_conf_key *key,
		       enum eloq_conf_source source, char *text, size_t bytes)
{
	switch (source) {
	case ELOQ_CONF_FROM_FILE:
		(void)snprintf(text, bytes, "%.200s:%u: [%s] %s", conf->file,
			       conf->set[conf_index(conf, key)].line, key->section, key->name);
		break;
	case ELOQ_CONF_FROM_COMMAND_LINE:
		(void)snprintf(text, bytes, "--%s", key->name);
		break;
	case ELOQ_CONF_FROM_DEFAULT:
		(void)snprintf(text, bytes, "[%s] %s", key->section, key->name);
		break;
	}
}

int eloq_conf_fail(const struct eloq_conf *conf, struct eloq_errinfo *reterr, const char *name,
		   const char *format, ...)
{
	const struct eloq_conf_key *key = conf_find(conf, name);
	char place[ELOQ_ERRINFO_BYTES], words[ELOQ_ERRINFO_BYTES];
	va_list args;

	eloq_assert(key);
	va_start(args, format);
	(void)vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	conf_place(conf, key, conf->set[conf_index(conf, key)].source, place, sizeof(place));
	return eloq_fail(reterr, -ELOQ_ECONFIG, "%s: %s", place, words);
}

/* A key that is not built may say what its default says. */
static bool conf_asks_for_nothing(const struct eloq_conf_key *key, const char *text,
				  const struct eloq_conf_value *value)
{
	struct eloq_conf_value by_default;

	if (key->type >= ELOQ_CONF_STRING)
		return strcmp(text, key->default_text ? key->default_text : "") == 0;
	return key->default_text &&
	       eloq_conf_value_parse(key, key->default_text, "", &by_default, NULL) == 0 &&
	       by_default.number == value->number;
}

/* Judges @text and, unless a stronger source has spoken, takes it. */
static int conf_assign(struct eloq_conf *conf, const struct eloq_conf_key *key, const char *text,
		       const char *prefix, enum eloq_conf_source source,
		       struct eloq_errinfo *reterr)
{
	size_t index = conf_index(conf, key);
	struct eloq_conf_value value = { 0 };
	struct eloq_errinfo why = { 0 };
	char place[ELOQ_ERRINFO_BYTES];
	int r = eloq_conf_value_parse(key, text, prefix, &value, &why);

	if (key->refused && (r < 0 || !conf_asks_for_nothing(key, text, &value)))
		r = eloq_fail(&why, -ELOQ_EUNSUPPORTED, "not built: %s", key->refused);
	if (r < 0) {
		eloq_conf_value_clear(&value);
		conf_place(conf, key, source, place, sizeof(place));
		return eloq_fail(reterr, r, "%s: %s", place, why.text);
	}
	if (key->refused || source < conf->set[index].source) {
		eloq_conf_value_clear(&value);
		return 0;
	}
	conf_replace(conf, key, &value);
	conf->set[index].source = source;
	return 0;
}

int eloq_conf_set(struct eloq_conf *conf, const char *name, const char *value,
		  struct eloq_errinfo *reterr)
{
	const struct eloq_conf_key *key = conf_find(conf, name);

	if (!key)
		return eloq_fail(reterr, -ELOQ_ECONFIG, "--%.100s: there is no such key", name);
	return conf_assign(conf, key, value, "", ELOQ_CONF_FROM_COMMAND_LINE, reterr);
}

int eloq_conf_set_argument(struct eloq_conf *conf, int argc, char *const *argv, int *index,
			   struct eloq_errinfo *reterr)
{
	const char *name, *value;
	char key_name[64];
	size_t name_bytes;
	int r, taken = 1;

	if (*index >= argc || strncmp(argv[*index], "--", 2) != 0)
		return 0;
	name = argv[*index] + 2;
	name_bytes = strcspn(name, "=");
	if (name_bytes >= sizeof(key_name))
		return 0;
	memcpy(key_name, name, name_bytes);
	key_name[name_bytes] = '\0';
	if (!conf_find(conf, key_name))
		return 0;
	if (name[name_bytes] == '=') {
		value = name + name_bytes + 1;
	} else if (*index + 1 < argc) {
		value = argv[*index + 1];
		taken = 2;
	} else {
		return eloq_fail(reterr, -ELOQ_ECONFIG, "--%s: a value must follow", key_name);
	}
	r = eloq_conf_set(conf, key_name, value, reterr);
	if (r < 0)
		return r;
	*index += taken;
	return 1;
}

enum eloq_conf_source eloq_conf_source(const struct eloq_conf *conf, const char *name)
{
	const struct eloq_conf_key *key = conf_find(conf, name);

	eloq_assert(key);
	return conf->set[conf_index(conf, key)].source;
}

/* One parse, as the reader and the handler see it. */
struct conf_ini {
	struct eloq_conf *conf;
	const char *at;
	const char *end;
	const char *prefix;
	unsigned line; /* handed out last; the first is 1 */
	int error;
	struct eloq_errinfo *reterr;
};

/* libinih's fgets(). */
static char *conf_ini_line(char *line, int line_bytes_max, void *stream)
{
	struct conf_ini *ini = stream;
	size_t bytes = (size_t)(ini->end - ini->at);
	const char *newline;

	if (ini->error < 0 || bytes == 0)
		return NULL;
	newline = memchr(ini->at, '\n', bytes);
	if (newline)
		bytes = (size_t)(newline + 1 - ini->at);
	ini->line++;
	if (bytes >= (size_t)line_bytes_max || memchr(ini->at, '\0', bytes)) {
		ini->error = eloq_fail(ini->reterr, -ELOQ_ECONFIG,
				       "%s:%u: the line has a NUL byte or more than %d bytes",
				       ini->conf->file, ini->line, line_bytes_max - 1);
		return NULL;
	}
	memcpy(line, ini->at, bytes);
	line[bytes] = '\0';
	ini->at += bytes;
	return line;
}

static bool conf_has_section(const struct eloq_conf *conf, const char *section)
{
	for (size_t i = 0; i < conf->key_count; i++)
		if (strcasecmp(conf->keys[i].section, section) == 0)
			return true;
	return false;
}

static int conf_unknown(const struct conf_ini *ini, const char *section, const char *name)
{
	const struct eloq_conf_key *elsewhere = conf_find(ini->conf, name);
	const char *file = ini->conf->file;

	if (section[0] == '\0')
		return eloq_fail(ini->reterr, -ELOQ_ECONFIG,
				 "%s:%u: key \"%.100s\" stands before any [section]", file,
				 ini->line, name);
	if (!conf_has_section(ini->conf, section))
		return eloq_fail(ini->reterr, -ELOQ_ECONFIG, "%s:%u: unknown section [%s]", file,
				 ini->line, section);
	if (elsewhere)
		return eloq_fail(ini->reterr, -ELOQ_ECONFIG,
				 "%s:%u: key \"%s\" belongs to section [%s], not to [%s]", file,
				 ini->line, name, elsewhere->section, section);
	return eloq_fail(ini->reterr, -ELOQ_ECONFIG,
			 "%s:%u: unknown key \"%.100s\" in section [%s]", file, ini->line, name,
			 section);
}

/* libinih's handler: 0 stops the parse. */
static int conf_ini_key(void *user, const char *section, const char *name, const char *value)
{
	struct conf_ini *ini = user;
	struct eloq_conf *conf = ini->conf;
	const struct eloq_conf_key *key = conf_find(conf, name);
	unsigned *line;

	if (!key || strcasecmp(key->section, section) != 0) {
		ini->error = conf_unknown(ini, section, name);
		return 0;
	}
	line = &conf->set[conf_index(conf, key)].line;
	if (*line != 0) {
		ini->error = eloq_fail(ini->reterr, -ELOQ_ECONFIG,
				       "%s:%u: [%s] %s: it was set in line %u already", conf->file,
				       ini->line, key->section, key->name, *line);
		return 0;
	}
	*line = ini->line;
	ini->error = conf_assign(conf, key, value, ini->prefix, ELOQ_CONF_FROM_FILE, ini->reterr);
	return ini->error == 0;
}

/* libinih is set up by globals. Lines are taken as they are: no continuation, which would turn an
 * indented key into a part of the value before it. */
static void conf_ini_setup(void)
{
	ini_use_stack = false;
	ini_initial_alloc = ELOQ_CONF_LINE_BYTES_MAX;
	ini_max_line = ELOQ_CONF_LINE_BYTES_MAX;
	ini_allow_multiline = false;
	ini_allow_no_value = false;
	ini_stop_on_first_error = true;
}

int eloq_conf_parse_text(struct eloq_conf *conf, const char *text, size_t text_bytes,
			 const char *path, struct eloq_errinfo *reterr)
{
	struct conf_ini ini = {
		.conf = conf, .at = text, .end = text + text_bytes, .reterr = reterr
	};
	const char *slash = strrchr(path, '/');
	char *prefix;
	int r;

	eloq_assert(!conf->file);
	prefix = strndup(path, slash ? (size_t)(slash + 1 - path) : 0);
	conf->file = strdup(path);
	if (!prefix || !conf->file) {
		r = eloq_fail_errno(reterr, -ENOMEM, "%s", path);
		goto out;
	}
	ini.prefix = prefix;
	conf_ini_setup();
	r = ini_parse_stream(conf_ini_line, &ini, conf_ini_key, &ini);
	if (ini.error < 0)
		r = ini.error;
	else if (r > 0)
		r = eloq_fail(reterr, -ELOQ_ECONFIG,
			      "%s:%d: neither [section], nor key = value, nor a comment", path, r);
	else if (r < 0)
		r = eloq_fail_errno(reterr, -ENOMEM, "%s", path);
out:
	free(prefix);
	return r;
}

int eloq_conf_parse_file(struct eloq_conf *conf, const char *path, struct eloq_errinfo *reterr)
{
	size_t bytes = 0;
	char *text = NULL;
	ssize_t got;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return eloq_fail_errno(reterr, -errno, "%s", path);
	text = malloc(ELOQ_CONF_FILE_BYTES_MAX + 1);
	if (!text) {
		r = eloq_fail_errno(reterr, -ENOMEM, "%s", path);
		goto out;
	}
	while ((got = read(fd, text + bytes, ELOQ_CONF_FILE_BYTES_MAX + 1 - bytes)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			r = eloq_fail_errno(reterr, -errno, "%s", path);
			goto out;
		}
		bytes += (size_t)got;
	}
	if (bytes > ELOQ_CONF_FILE_BYTES_MAX)
		r = eloq_fail(reterr, -ELOQ_ECONFIG, "%s: a configuration has at most %d bytes",
			      path, ELOQ_CONF_FILE_BYTES_MAX);
	else
		r = eloq_conf_parse_text(conf, text, bytes, path, reterr);
out:
	free(text);
	eloq_fd_close(fd);
	return r;
}

static void conf_print_key(const struct eloq_conf *conf, const struct eloq_conf_key *key, FILE *out)
{
	struct eloq_conf_value value = conf_load(conf, key);
	bool is_text = key->type == ELOQ_CONF_STRING || key->type == ELOQ_CONF_PATH;
	bool absent = (is_text && !value.text) ||
		      (key->type == ELOQ_CONF_PATHS && value.paths.count == 0);
	char range[ELOQ_CONF_RANGE_BYTES];

	eloq_conf_range_text(key, range);
	(void)fprintf(out, "# %s%s%s", key->help, range[0] ? "; " : "", range);
	if (key->default_text)
		(void)fprintf(out, " (default %s)", key->default_text);
	/* One that is not set stays a comment: an empty value may be out of its range. */
	(void)fprintf(out, "\n%s%s =%s", absent ? "# " : "", key->name, absent ? "" : " ");
	eloq_conf_value_print(key->type, &value, out);
	(void)fputc('\n', out);
}

int eloq_conf_print(const struct eloq_conf *conf, FILE *out)
{
	const char *section = NULL;

	for (size_t i = 0; i < conf->key_count; i++) {
		const struct eloq_conf_key *key = &conf->keys[i];

		if (key->refused)
			continue;
		if (!section || strcmp(section, key->section) != 0)
			(void)fprintf(out, "%s[%s]\n", section ? "\n" : "", key->section);
		section = key->section;
		conf_print_key(conf, key, out);
	}
	return ferror(out) ? -EIO : 0;
}
