/*
 * conf_value.c - numbers with and without units, switches, texts and lists of paths.
 * See conf_value.h.
 */
#include "common/conf_value.h"

#include "common/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct conf_unit {
	const char *name;
	uint64_t factor;
};

/* Smallest first. */
static const struct conf_unit conf_size_units[] = {
	{ "", 1 },
	{ "KB", UINT64_C(1) << 10 },
	{ "MB", UINT64_C(1) << 20 },
	{ "GB", UINT64_C(1) << 30 },
	{ "TB", UINT64_C(1) << 40 },
};

static const struct conf_unit conf_duration_units[] = {
	{ "ns", 1 },
	{ "us", ELOQ_NS_PER_US },
	{ "ms", ELOQ_NS_PER_MS },
	{ "s", ELOQ_NS_PER_S },
	{ "m", 60 * ELOQ_NS_PER_S },
};

static const struct conf_unit conf_no_units[] = { { "", 1 } };

struct conf_units {
	const struct conf_unit *units;
	size_t count;
	const char *expected; /* for messages */
};

static struct conf_units conf_units_of(enum eloq_conf_type type)
{
	if (type == ELOQ_CONF_SIZE)
		return (struct conf_units){ conf_size_units, ELOQ_ARRAY_SIZE(conf_size_units),
					    "bytes, or a number with KB, MB, GB or TB" };
	if (type == ELOQ_CONF_DURATION)
		return (struct conf_units){ conf_duration_units,
					    ELOQ_ARRAY_SIZE(conf_duration_units),
					    "a number with ns, us, ms, s or m" };
	return (struct conf_units){ conf_no_units, 1, "a plain number" };
}

/* With the largest unit that leaves a whole number. */
static void conf_number_text(enum eloq_conf_type type, uint64_t number, char *text, size_t bytes)
{
	struct conf_units units = conf_units_of(type);
	const struct conf_unit *best = &units.units[0];

	for (size_t i = 0; i < units.count && number > 0; i++)
		if (number % units.units[i].factor == 0)
			best = &units.units[i];
	(void)snprintf(text, bytes, "%llu%s", (unsigned long long)(number / best->factor),
		       best->name);
}

void eloq_conf_range_text(const struct eloq_conf_key *key, char text[ELOQ_CONF_RANGE_BYTES])
{
	const char *what = "";
	char min[32], max[32];

	text[0] = '\0';
	if (key->type == ELOQ_CONF_BOOL || (key->min == 0 && key->max == 0))
		return;
	if (key->type == ELOQ_CONF_STRING || key->type == ELOQ_CONF_PATH)
		what = " bytes";
	else if (key->type == ELOQ_CONF_PATHS)
		what = " paths";
	conf_number_text(key->type, key->min, min, sizeof(min));
	conf_number_text(key->type, key->max, max, sizeof(max));
	if (key->max == 0)
		(void)snprintf(text, ELOQ_CONF_RANGE_BYTES, "at least %s%s", min, what);
	else
		(void)snprintf(text, ELOQ_CONF_RANGE_BYTES, "%s..%s%s", min, max, what);
}

static int conf_check_range(const struct eloq_conf_key *key, const char *text, uint64_t number,
			    bool overflow, struct eloq_errinfo *reterr)
{
	char range[ELOQ_CONF_RANGE_BYTES];

	if (!overflow && number >= key->min && (key->max == 0 || number <= key->max))
		return 0;
	eloq_conf_range_text(key, range);
	return eloq_fail(reterr, -ELOQ_ECONFIG, "\"%.100s\" is out of range %s", text,
			 key->max == 0 && overflow ? "0..2^64-1" : range);
}

static int conf_parse_bool(const char *text, uint64_t *ret_number, struct eloq_errinfo *reterr)
{
	static const char *const words[][2] = {
		{ "false", "true" }, { "no", "yes" }, { "off", "on" }, { "0", "1" }
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(words); i++) {
		for (unsigned truth = 0; truth < 2; truth++) {
			if (strcasecmp(text, words[i][truth]) == 0) {
				*ret_number = truth;
				return 0;
			}
		}
	}
	return eloq_fail(reterr, -ELOQ_ECONFIG, "\"%.100s\" is neither true nor false", text);
}

static int conf_parse_number(const struct eloq_conf_key *key, const char *text,
			     uint64_t *ret_number, struct eloq_errinfo *reterr)
{
	struct conf_units units = conf_units_of(key->type);
	const struct conf_unit *unit = NULL;
	const char *p = text;
	uint64_t number = 0;
	bool overflow = false;
	int r;

	for (; *p >= '0' && *p <= '9'; p++) {
		overflow |= __builtin_mul_overflow(number, UINT64_C(10), &number);
		overflow |= __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number);
	}
	if (p == text)
		return eloq_fail(reterr, -ELOQ_ECONFIG, "\"%.100s\" is not a number: give %s", text,
				 units.expected);
	p += strspn(p, " \t");
	for (size_t i = 0; i < units.count; i++)
		if (strcasecmp(p, units.units[i].name) == 0)
			unit = &units.units[i];
	if (!unit && *p == '\0' && number == 0 && !overflow)
		unit = &units.units[0]; /* nothing is nothing in any unit */
	if (!unit)
		return eloq_fail(reterr, -ELOQ_ECONFIG, "\"%.100s\" has %s unit: give %s", text,
				 *p ? "a wrong" : "no", units.expected);
	overflow |= __builtin_mul_overflow(number, unit->factor, &number);
	r = conf_check_range(key, text, number, overflow, reterr);
	if (r == 0)
		*ret_number = number;
	return r;
}

/* @bytes of @path, with @prefix in front unless it is absolute or empty. NULL: no memory. */
static char *conf_join(const char *prefix, const char *path, size_t bytes)
{
	size_t prefix_bytes = bytes == 0 || path[0] == '/' ? 0 : strlen(prefix);
	char *joined = malloc(prefix_bytes + bytes + 1);

	if (!joined)
		return NULL;
	memcpy(joined, prefix, prefix_bytes);
	memcpy(joined + prefix_bytes, path, bytes);
	joined[prefix_bytes + bytes] = '\0';
	return joined;
}

static int conf_parse_text(const struct eloq_conf_key *key, const char *text, const char *prefix,
			   char **ret_text, struct eloq_errinfo *reterr)
{
	int r = conf_check_range(key, text, strlen(text), false, reterr);

	if (r < 0)
		return r;
	*ret_text = conf_join(key->type == ELOQ_CONF_PATH ? prefix : "", text, strlen(text));
	return *ret_text ? 0 : eloq_fail_errno(reterr, -ENOMEM, "no memory for a text");
}

static void conf_paths_clear(struct eloq_conf_paths *paths)
{
	for (size_t i = 0; i < paths->count; i++)
		free(paths->paths[i]);
	free(paths->paths);
	*paths = (struct eloq_conf_paths){ 0 };
}

static int conf_parse_paths(const struct eloq_conf_key *key, const char *text, const char *prefix,
			    struct eloq_conf_paths *ret_paths, struct eloq_errinfo *reterr)
{
	static const char separators[] = ": \t";
	struct eloq_conf_paths paths = { 0 };
	size_t paths_max = strlen(text) / 2 + 1; /* each has a byte, and one between them */
	int r;

	paths.paths = calloc(paths_max, sizeof(paths.paths[0]));
	if (!paths.paths)
		return eloq_fail_errno(reterr, -ENOMEM, "no memory for a list");
	for (const char *p = text + strspn(text, separators); *p; p += strspn(p, separators)) {
		size_t bytes = strcspn(p, separators);
		char *path = conf_join(prefix, p, bytes);

		if (!path) {
			r = eloq_fail_errno(reterr, -ENOMEM, "no memory for a path");
			goto out;
		}
		eloq_assert(paths.count < paths_max);
		paths.paths[paths.count++] = path;
		p += bytes;
	}
	r = conf_check_range(key, text, paths.count, false, reterr);
	if (r < 0)
		goto out;
	*ret_paths = paths;
	paths = (struct eloq_conf_paths){ 0 }; /* the caller owns them from here */
out:
	conf_paths_clear(&paths);
	return r;
}

/* Texts that an ini could not hold are refused from the command line too, so that all that is in
 * force can be printed and read again. */
static bool conf_fits_in_ini(const char *text)
{
	size_t bytes = strlen(text);
	char before = ' ';

	if (bytes >= ELOQ_CONF_LINE_BYTES_MAX / 2)
		return false;
	if (bytes > 0 && (strchr(" \t", text[0]) || strchr(" \t", text[bytes - 1])))
		return false;
	for (const char *p = text; *p; p++) {
		bool blank = before == ' ' || before == '\t';

		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f || (*p == ';' && blank))
			return false;
		before = *p;
	}
	return true;
}

int eloq_conf_value_parse(const struct eloq_conf_key *key, const char *text, const char *prefix,
			  struct eloq_conf_value *ret_value, struct eloq_errinfo *reterr)
{
	struct eloq_conf_value value = { 0 };
	int r = -ELOQ_ECONFIG;

	if (!conf_fits_in_ini(text))
		return eloq_fail(reterr, -ELOQ_ECONFIG,
				 "the value is too long, or has a control character, blanks around "
				 "it, or a ';' where a comment would start");
	switch (key->type) {
	case ELOQ_CONF_BOOL:
		r = conf_parse_bool(text, &value.number, reterr);
		break;
	case ELOQ_CONF_U64:
	case ELOQ_CONF_SIZE:
	case ELOQ_CONF_DURATION:
		r = conf_parse_number(key, text, &value.number, reterr);
		break;
	case ELOQ_CONF_STRING:
	case ELOQ_CONF_PATH:
		r = conf_parse_text(key, text, prefix, &value.text, reterr);
		break;
	case ELOQ_CONF_PATHS:
		r = conf_parse_paths(key, text, prefix, &value.paths, reterr);
		break;
	}
	if (r == 0)
		*ret_value = value;
	return r;
}

void eloq_conf_value_clear(struct eloq_conf_value *value)
{
	free(value->text);
	conf_paths_clear(&value->paths);
	*value = (struct eloq_conf_value){ 0 };
}

void eloq_conf_value_print(enum eloq_conf_type type, const struct eloq_conf_value *value, FILE *out)
{
	char number[32];

	switch (type) {
	case ELOQ_CONF_BOOL:
		(void)fputs(value->number ? "true" : "false", out);
		break;
	case ELOQ_CONF_U64:
	case ELOQ_CONF_SIZE:
	case ELOQ_CONF_DURATION:
		conf_number_text(type, value->number, number, sizeof(number));
		(void)fputs(number, out);
		break;
	case ELOQ_CONF_STRING:
	case ELOQ_CONF_PATH:
		(void)fputs(value->text ? value->text : "", out);
		break;
	case ELOQ_CONF_PATHS:
		for (size_t i = 0; i < value->paths.count; i++)
			(void)fprintf(out, "%s%s", i ? ":" : "", value->paths.paths[i]);
		break;
	}
}
