/*
 * options.c - everything that can be said to eloqstored. See options.h.
 */
#include "daemon/options.h"

#include "common/limits.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(member) offsetof(struct eloq_options, member)

#define KEY(in, key, kind, least, most, by_default, words)                                     \
	{                                                                                      \
		.section = (in), .name = #key, .type = ELOQ_CONF_##kind, .offset = FIELD(key), \
		.min = (least), .max = (most), .default_text = (by_default), .help = (words)   \
	}
#define KEY_TO(in, key, member, kind, least, most, by_default, words)                             \
	{                                                                                         \
		.section = (in), .name = #key, .type = ELOQ_CONF_##kind, .offset = FIELD(member), \
		.min = (least), .max = (most), .default_text = (by_default), .help = (words)      \
	}
#define KEY_IDLE(in, key, index, kind, most, by_default) \
	KEY_TO(in, key, without_effect[index], kind, 0, most, by_default, OPTIONS_NO_EFFECT)
#define KEY_CLOUD(in, key, kind, by_default)                                                \
	{                                                                                   \
		.section = (in), .name = #key, .type = ELOQ_CONF_##kind,                    \
		.default_text = (by_default), .help = "cloud mode", .refused = "cloud mode" \
	}

#define MB(n) (UINT64_C(n) << 20)
#define GB(n) (UINT64_C(n) << 30)
#define TB(n) (UINT64_C(n) << 40)
#define MS(n) (UINT64_C(n) * 1000000)

static const char OPTIONS_NO_EFFECT[] = "has no effect here";

static const struct eloq_conf_key options_keys[] = {
	KEY("server", socket, PATH, 1, 4095, NULL,
	    "control socket; without it DIR/eloqstored.sock"),
	KEY("server", io_backend, STRING, 1, 15, "auto",
	    "auto, uring or pool; auto takes uring where the kernel lets us"),
	KEY("server", pool_threads, U64, 0, 64, "4",
	    "threads of the pool back-end in each shard; 0: plain blocking calls"),
	KEY("server", request_ring_size, SIZE, ELOQ_RING_BYTES_MIN, ELOQ_RING_BYTES_MAX, "32KB",
	    "request ring of each lane, a power of two; raised to what the longest key needs"),
	KEY("server", answer_ring_size, SIZE, ELOQ_RING_BYTES_MIN, ELOQ_RING_BYTES_MAX, "64KB",
	    "answer ring of each lane, a power of two"),
	KEY("server", lane_memory, SIZE, MB(1), TB(1), "256MB",
	    "budget of all lanes and bulk memory together"),
	KEY("server", request_memory, SIZE, MB(1), TB(1), "256MB",
	    "copies of keys and values of requests in work, in each shard"),
	KEY("server", cache_size, SIZE, MB(1), TB(16), "256MB",
	    "page cache of the whole store, split evenly over the shards"),
	KEY_TO("server", heartbeat_timeout, heartbeat_timeout_ns, DURATION, MS(100), MS(3600000),
	       "10s", "a worker that is busy and silent for so long is killed and restarted"),
	KEY_TO("server", restart_delay_max, restart_delay_max_ns, DURATION, 0, MS(60000), "1s",
	       "longest wait before a worker that keeps dying is started again"),
	KEY("server", cpu_pinning, STRING, 1, 15, "auto",
	    "auto or off; auto pins a worker only if it owns a whole core and one is left over"),
	KEY("server", log_level, STRING, 1, 15, "info", "error, warn, info or debug"),

	KEY("run", num_threads, U64, 1, ELOQ_SHARDS_MAX, NULL,
	    "shards; without it half of the CPUs we may use, at least 1"),
	KEY("run", data_page_restart_interval, U64, 1, UINT16_MAX, "16",
	    "entries of a data page between two full keys"),
	KEY("run", index_page_restart_interval, U64, 1, UINT16_MAX, "16",
	    "entries of an index page between two full keys"),
	KEY("run", skip_verify_checksum, BOOL, 0, 0, "false",
	    "do not verify the checksums of pages that are read from disk"),
	KEY("run", buffer_pool_size, SIZE, MB(1), TB(16), NULL,
	    "page cache of each shard; another way to say cache_size"),
	KEY("run", manifest_limit, U64, 4096, GB(1), "8388608",
	    "bytes of a partition's manifest beyond which it is written anew"),
	KEY("run", fd_limit, U64, 128, 1000000, "10000", "open data files of all shards together"),
	KEY("run", io_queue_size, U64, 16, 65536, "4096",
	    "disk requests in flight in each shard; more than 1024 count as 1024"),
	KEY_IDLE("run", init_page_count, 0, U64, UINT32_MAX, "32768"),
	KEY_IDLE("run", root_meta_cache_size, 1, SIZE, 0, "1GB"),
	KEY_IDLE("run", max_inflight_write, 2, U64, UINT32_MAX, "32768"),
	KEY_IDLE("run", max_write_batch_pages, 3, U64, UINT32_MAX, "256"),
	KEY_IDLE("run", buf_ring_size, 4, U64, UINT16_MAX, "4096"),
	KEY_IDLE("run", coroutine_stack_size, 5, U64, UINT32_MAX, "32768"),
	KEY_IDLE("run", num_retained_archives, 6, U64, UINT32_MAX, "0"),
	KEY_IDLE("run", archive_interval_secs, 7, U64, UINT32_MAX, "86400"),
	KEY_IDLE("run", max_archive_tasks, 8, U64, UINT16_MAX, "256"),
	KEY_IDLE("run", file_amplify_factor, 9, U64, UINT8_MAX, "2"),
	KEY_IDLE("run", direct_io_buffer_pool_size, 10, U64, UINT32_MAX, "4"),
	KEY_CLOUD("run", local_space_limit, U64, "1099511627776"),
	KEY_CLOUD("run", reserve_space_ratio, U64, "100"),
	KEY_CLOUD("run", max_upload_batch, U64, "5"),
	KEY_CLOUD("run", max_cloud_concurrency, U64, "20"),
	KEY_CLOUD("run", cloud_request_threads, U64, "1"),
	KEY_CLOUD("run", allow_reuse_local_caches, BOOL, "false"),
	KEY_CLOUD("run", prewarm_cloud_cache, BOOL, "false"),
	KEY_CLOUD("run", prewarm_task_count, U64, "3"),

	KEY("permanent", store_path, PATHS, 1, ELOQ_SHARDS_MAX, NULL,
	    "directories of the data, one for each disk; without it DIR/data"),
	KEY("permanent", data_page_size, SIZE, ELOQ_PAGE_BYTES_MIN, ELOQ_PAGE_BYTES_MAX, "4KB",
	    "page size, a multiple of 4096"),
	KEY("permanent", data_file_size, SIZE, ELOQ_PAGE_BYTES_MIN, GB(4), "1GB",
	    "size of a data file; the next smaller power of two of pages counts"),
	KEY("permanent", overflow_pointers, U64, 1, ELOQ_OVERFLOW_POINTERS_MAX, "16",
	    "overflow pages that one entry or overflow page points to"),
	KEY("permanent", data_append_mode, BOOL, 0, 0, "false",
	    "write pages only to the end of data files"),
	KEY("permanent", enable_compression, BOOL, 0, 0, "false", OPTIONS_NO_EFFECT),
	KEY_CLOUD("permanent", cloud_store_path, STRING, NULL),
	KEY_CLOUD("permanent", cloud_provider, STRING, "aws"),
	KEY_CLOUD("permanent", cloud_endpoint, STRING, NULL),
	KEY_CLOUD("permanent", cloud_region, STRING, "us-east-1"),
	KEY_CLOUD("permanent", cloud_access_key, STRING, "minioadmin"),
	KEY_CLOUD("permanent", cloud_secret_key, STRING, "minioadmin"),
	KEY_CLOUD("permanent", cloud_verify_ssl, BOOL, "false"),
};

bool eloq_options_said(const struct eloq_options *options, const char *key)
{
	return eloq_conf_source(&options->conf, key) != ELOQ_CONF_FROM_DEFAULT;
}

/* --- Checks of what a range cannot say ----------------------------------------------------------
 */

static int options_check_word(const struct eloq_options *options, const char *key, const char *word,
			      const char *const *words, struct eloq_errinfo *reterr)
{
	char list[128] = "";

	for (const char *const *w = words; *w; w++) {
		if (strcmp(word, *w) == 0)
			return 0;
		(void)snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			       w == words ? "" : ", ", *w);
	}
	return eloq_conf_fail(&options->conf, reterr, key, "\"%.50s\" is none of %s", word, list);
}

static int options_check_words(const struct eloq_options *options, struct eloq_errinfo *reterr)
{
	static const char *const backends[] = { "auto", "uring", "pool", NULL };
	static const char *const pinnings[] = { "auto", "off", NULL };
	static const char *const levels[] = { "error", "warn", "info", "debug", NULL };
	int r;

	r = options_check_word(options, "io_backend", options->io_backend, backends, reterr);
	if (r == 0)
		r = options_check_word(options, "cpu_pinning", options->cpu_pinning, pinnings,
				       reterr);
	if (r == 0)
		r = options_check_word(options, "log_level", options->log_level, levels, reterr);
	return r;
}

uint32_t eloq_options_file_shift(uint64_t file_bytes, uint64_t page_bytes)
{
	uint64_t pages = file_bytes / page_bytes;

	return pages ? 63u - (uint32_t)__builtin_clzll(pages) : 0;
}

static int options_check_sizes(const struct eloq_options *options, struct eloq_errinfo *reterr)
{
	if (!eloq_is_power_of_two(options->request_ring_size))
		return eloq_conf_fail(&options->conf, reterr, "request_ring_size",
				      "%llu is not a power of two",
				      (unsigned long long)options->request_ring_size);
	if (!eloq_is_power_of_two(options->answer_ring_size))
		return eloq_conf_fail(&options->conf, reterr, "answer_ring_size",
				      "%llu is not a power of two",
				      (unsigned long long)options->answer_ring_size);
	if (options->data_page_size % ELOQ_PAGE_BYTES_MIN)
		return eloq_conf_fail(&options->conf, reterr, "data_page_size",
				      "%llu is not a multiple of 4096",
				      (unsigned long long)options->data_page_size);
	return 0;
}

/* --- Settling what depends on other things -----------------------------------------------------
 */

static uint64_t options_default_shards(void)
{
	cpu_set_t allowed;
	uint64_t cpus = 1;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0)
		cpus = (uint64_t)CPU_COUNT(&allowed);
	return eloq_min_u64(eloq_max_u64(cpus / 2, 1), ELOQ_SHARDS_MAX);
}

/* One cache holds what the reference keeps in two: its size is said for the store or for a shard.
 */
static int options_settle_cache(struct eloq_options *options, struct eloq_errinfo *reterr)
{
	bool whole = eloq_options_said(options, "cache_size");
	bool shard = eloq_options_said(options, "buffer_pool_size");

	if (shard && whole &&
	    options->cache_size / options->num_threads != options->buffer_pool_size)
		return eloq_conf_fail(&options->conf, reterr, "cache_size",
				      "%llu is not %llu times the buffer_pool_size that was said "
				      "too: say one of them",
				      (unsigned long long)options->cache_size,
				      (unsigned long long)options->num_threads);
	if (shard && !whole)
		options->cache_size = options->buffer_pool_size * options->num_threads;
	else
		options->buffer_pool_size = options->cache_size / options->num_threads;
	return 0;
}

/* The daemon looks for store paths from its data directory: what was said from here is made
 * absolute. */
static int options_settle_path(char **path, struct eloq_errinfo *reterr)
{
	char *here, *absolute = NULL;

	if ((*path)[0] == '/')
		return 0;
	here = getcwd(NULL, 0);
	if (!here)
		return eloq_fail_errno(reterr, -errno, "the working directory");
	if (asprintf(&absolute, "%s/%s", here, *path) < 0)
		absolute = NULL;
	free(here);
	if (!absolute)
		return eloq_fail_errno(reterr, -ENOMEM, "%s", *path);
	free(*path);
	*path = absolute;
	return 0;
}

static int options_settle(struct eloq_options *options, struct eloq_errinfo *reterr)
{
	int r;

	r = options_check_words(options, reterr);
	if (r == 0)
		r = options_check_sizes(options, reterr);
	if (r < 0)
		return r;
	if (options->num_threads == 0)
		options->num_threads = options_default_shards();
	r = options_settle_cache(options, reterr);
	for (size_t i = 0; r == 0 && i < options->store_path.count; i++)
		r = options_settle_path(&options->store_path.paths[i], reterr);
	return r;
}

/* --- Arguments ---------------------------------------------------------------------------------
 */

/* Takes `--name value` or `--name=value`. 1: it was that. */
static int options_take_word(int argc, char *const *argv, int *index, const char *name,
			     const char **ret_word, struct eloq_errinfo *reterr)
{
	const char *argument = argv[*index];
	size_t bytes = strlen(name);

	if (strncmp(argument, name, bytes) != 0)
		return 0;
	if (argument[bytes] == '=') {
		*ret_word = argument + bytes + 1;
		*index += 1;
		return 1;
	}
	if (argument[bytes] != '\0')
		return 0;
	if (*index + 1 >= argc)
		return eloq_fail(reterr, -EINVAL, "%s: a value must follow", name);
	*ret_word = argv[*index + 1];
	*index += 2;
	return 1;
}

static int options_take_action(struct eloq_options *options, const char *argument)
{
	static const struct {
		const char *name;
		enum eloq_options_action action;
	} actions[] = {
		{ "--check-config", ELOQ_OPTIONS_CHECK },
		{ "--help", ELOQ_OPTIONS_HELP },
		{ "-h", ELOQ_OPTIONS_HELP },
		{ "--version", ELOQ_OPTIONS_VERSION },
	};

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(actions); i++) {
		if (strcmp(argument, actions[i].name) == 0) {
			options->action = actions[i].action;
			return 1;
		}
	}
	return 0;
}

static int options_take_one(struct eloq_options *options, int argc, char *const *argv, int *index,
			    struct eloq_errinfo *reterr)
{
	int r;

	if (options_take_action(options, argv[*index])) {
		*index += 1;
		return 1;
	}
	r = options_take_word(argc, argv, index, "--data", &options->data, reterr);
	if (r == 0)
		r = options_take_word(argc, argv, index, "--config", &options->config_file, reterr);
	if (r == 0)
		r = eloq_conf_set_argument(&options->conf, argc, argv, index, reterr);
	if (r == 0)
		return eloq_fail(reterr, -EINVAL, "unknown argument %.100s (--help lists them)",
				 argv[*index]);
	return r;
}

int eloq_options_parse(struct eloq_options *options, int argc, char *const *argv,
		       struct eloq_errinfo *reterr)
{
	int index = 1, r;

	memset(options, 0, sizeof(*options));
	options->data = "./eloq-data";
	r = eloq_conf_defaults(&options->conf, options_keys, ELOQ_ARRAY_SIZE(options_keys),
			       options);
	if (r < 0)
		return eloq_fail_errno(reterr, r, "options");
	while (r >= 0 && index < argc) {
		r = options_take_one(options, argc, argv, &index, reterr);
		if (r > 0 && (options->action == ELOQ_OPTIONS_HELP ||
			      options->action == ELOQ_OPTIONS_VERSION))
			return 0;
	}
	if (r >= 0 && options->data[0] == '\0')
		r = eloq_fail(reterr, -EINVAL, "--data: a directory must be named");
	if (r >= 0 && options->config_file)
		r = eloq_conf_parse_file(&options->conf, options->config_file, reterr);
	if (r >= 0)
		r = options_settle(options, reterr);
	if (r < 0)
		eloq_options_clear(options);
	return r < 0 ? r : 0;
}

void eloq_options_clear(struct eloq_options *options)
{
	eloq_conf_clear(&options->conf);
}

/* --- Saying it ---------------------------------------------------------------------------------
 */

static bool options_key_is_idle(const struct eloq_options *options, const struct eloq_conf_key *key)
{
	if (key->help != OPTIONS_NO_EFFECT || !eloq_options_said(options, key->name))
		return false;
	/* Said, but what it asks for is what happens anyway. */
	return key->type != ELOQ_CONF_BOOL || options->enable_compression;
}

char *eloq_options_note(const struct eloq_options *options)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	bool first = true;

	if (!out)
		return NULL;
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(options_keys); i++) {
		if (!options_key_is_idle(options, &options_keys[i]))
			continue;
		(void)fprintf(out, "%s%s", first ? "these keys have no effect here: " : ", ",
			      options_keys[i].name);
		first = false;
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

char *eloq_options_text(const struct eloq_options *options)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	int r;

	if (!out)
		return NULL;
	r = eloq_conf_print(&options->conf, out);
	if (fclose(out) != 0 || r < 0) {
		free(text);
		return NULL;
	}
	return text;
}

void eloq_options_help(FILE *out)
{
	const char *section = "";

	(void)fputs("Usage: eloqstored [--data DIR] [--config FILE] [--key value ...]\n"
		    "\n"
		    "Serves the key-value store in DIR (default ./eloq-data, made if missing)\n"
		    "in the foreground, until SIGTERM.\n"
		    "\n"
		    "  --data DIR       the data directory\n"
		    "  --config FILE    an ini file with any of the keys below in their sections\n"
		    "  --check-config   print the configuration in force and exit\n"
		    "  --version        print the version and exit\n"
		    "  --help           print this and exit\n",
		    out);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(options_keys); i++) {
		const struct eloq_conf_key *key = &options_keys[i];

		if (key->refused || key->help == OPTIONS_NO_EFFECT)
			continue;
		if (strcmp(section, key->section) != 0)
			(void)fprintf(out, "\n[%s]\n", key->section);
		section = key->section;
		(void)fprintf(out, "  --%s VALUE\n        %s%s%s%s\n", key->name, key->help,
			      key->default_text ? " (default " : "",
			      key->default_text ? key->default_text : "",
			      key->default_text ? ")" : "");
	}
	(void)fputs("\nExit codes are those of sysexits.h: 78 is a bad configuration, 75 a data\n"
		    "directory that another daemon serves.\n",
		    out);
}

enum eloq_log_level eloq_options_log_level(const char *name)
{
	if (strcmp(name, "error") == 0)
		return ELOQ_LOG_ERR;
	if (strcmp(name, "warn") == 0)
		return ELOQ_LOG_WARN;
	return strcmp(name, "debug") == 0 ? ELOQ_LOG_DEBUG : ELOQ_LOG_INFO;
}
