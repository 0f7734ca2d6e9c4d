/*
 * manifest_world.h - what the tests of manifests share: a partition that is a mapper and a
 * manifest; no data is written. The model is what every page id maps to after a commit.
 */
#ifndef ELOQ_TESTS_UNIT_MANIFEST_WORLD_H
#define ELOQ_TESTS_UNIT_MANIFEST_WORLD_H

#include "common/err.h"
#include "daemon/format/manifest_record.h"
#include "daemon/store/manifest.h"
#include "tests/unit/task_world.h"

enum { SHIFT = 4, BLOCK = ELOQ_MANIFEST_ALIGN, BYTES_MAX = 8 << 20 };

#define MANIFEST_NAME "t.0/manifest_0"

struct partition {
	struct task_world *w;
	struct eloq_files *files;
	struct eloq_partition_dir dir;
	struct eloq_manifest_opts opts;
	bool append_mode;
	struct eloq_mapper *mapper;
	struct eloq_manifest *manifest;
	struct eloq_errinfo err;
};

static inline void partition_init(struct partition *p, struct task_world *w, bool append_mode,
				  uint64_t bytes_max)
{
	const struct eloq_files_opts opts = { .files_max = 4,
					      .page_bytes = PAGE,
					      .pages_per_file_shift = SHIFT,
					      .append_mode = append_mode };

	*p = (struct partition){ .w = w, .dir = make_partition(w, "t.0", 1) };
	eloq_list_init(&p->dir.files);
	p->append_mode = append_mode;
	p->opts = (struct eloq_manifest_opts){ .bytes_max = bytes_max,
					       .pages_per_file_shift = SHIFT };
	ck_assert_int_eq(eloq_files_open(&p->files, &opts, w->io.io), 0);
}

static inline int partition_load(struct partition *p, bool *ret_found)
{
	int r;

	ck_assert_int_eq(eloq_mapper_open(&p->mapper, p->append_mode), 0);
	p->err = (struct eloq_errinfo){ 0 };
	r = eloq_manifest_load_await(&p->manifest, p->files, p->w->io.io, &p->dir, &p->opts,
				     p->mapper, ret_found, &p->err);
	if (r < 0) {
		eloq_mapper_close(p->mapper);
		p->mapper = NULL;
		ck_assert_int_eq(p->err.code, r);
	}
	return r;
}

static inline void partition_unload(struct partition *p)
{
	eloq_manifest_close_await(p->manifest);
	eloq_mapper_close(p->mapper);
	p->manifest = NULL;
	p->mapper = NULL;
}

static inline void partition_reload(struct partition *p)
{
	bool found = false;

	partition_unload(p);
	ck_assert_msg(partition_load(p, &found) == 0, "%s", p->err.text);
	ck_assert(found);
}

static inline void partition_begin(struct partition *p, struct task_world *w, bool append_mode,
				   uint64_t bytes_max)
{
	bool found = true;

	partition_init(p, w, append_mode, bytes_max);
	ck_assert_int_eq(partition_load(p, &found), 0);
	ck_assert(!found);
	ck_assert(p->dir.empty_new);
}

static inline void partition_end(struct partition *p)
{
	if (p->manifest)
		partition_unload(p);
	ck_assert_int_eq(eloq_files_close_dir_await(p->files, &p->dir), 0);
	eloq_files_close(p->files);
}

static inline struct eloq_change *change_begin(struct partition *p)
{
	struct eloq_change *change;

	ck_assert_int_eq(eloq_change_begin(&change, p->mapper), 0);
	return change;
}

/* Places the page as a page writer would, which makes the file known. */
static inline uint64_t place(struct partition *p, struct eloq_change *change, uint32_t page_id)
{
	uint64_t file_page;
	bool known;

	ck_assert_int_eq(eloq_change_place(change, page_id, &file_page), 0);
	(void)eloq_manifest_term(p->manifest, file_page >> SHIFT, &known);
	if (!known)
		ck_assert_int_eq(eloq_manifest_add_file(p->manifest, file_page >> SHIFT), 0);
	return file_page;
}

static inline void alloc_pages(struct partition *p, struct eloq_change *change, uint32_t count)
{
	uint32_t page_id;

	for (uint32_t i = 0; i < count; i++) {
		if (eloq_change_alloc(change, &page_id) != 0)
			ck_abort_msg("alloc");
		(void)place(p, change, page_id);
	}
}

static inline int commit(struct partition *p, struct eloq_change *change)
{
	int r;

	p->err = (struct eloq_errinfo){ 0 };
	r = eloq_manifest_commit_await(p->manifest, change, &p->err);
	if (r < 0)
		eloq_change_abort(change);
	else
		eloq_change_commit(change);
	return r;
}

static inline void commit_new_pages(struct partition *p, uint32_t count)
{
	struct eloq_change *change = change_begin(p);

	alloc_pages(p, change, count);
	eloq_change_set_roots(change, (struct eloq_roots){ 0, ELOQ_PAGE_NONE });
	ck_assert_msg(commit(p, change) == 0, "%s", p->err.text);
}

static inline int try_rewrite(struct partition *p, uint32_t first, uint32_t count)
{
	struct eloq_change *change = change_begin(p);

	for (uint32_t i = 0; i < count; i++)
		(void)place(p, change, first + i);
	return commit(p, change);
}

static inline void commit_rewrite(struct partition *p, uint32_t first, uint32_t count)
{
	ck_assert_msg(try_rewrite(p, first, count) == 0, "%s", p->err.text);
}

/* What a partition maps, to be compared. */
struct model {
	uint32_t page_ids;
	uint64_t file_pages_end;
	struct eloq_roots roots;
	uint64_t *file_pages;
};

static inline struct model model_take(struct partition *p)
{
	struct eloq_mapping *mapping = eloq_mapper_acquire(p->mapper);
	struct model model = { .page_ids = eloq_mapping_page_ids(mapping),
			       .file_pages_end = eloq_mapper_file_pages_end(p->mapper),
			       .roots = eloq_mapping_roots(mapping) };

	model.file_pages = malloc((model.page_ids + 1) * sizeof(uint64_t));
	for (uint32_t id = 0; id < model.page_ids; id++)
		model.file_pages[id] = eloq_mapping_get(mapping, id);
	eloq_mapping_release(mapping);
	return model;
}

static inline void expect_model(struct partition *p, const struct model *model)
{
	struct model now = model_take(p);

	ck_assert_uint_eq(now.roots.main, model->roots.main);
	ck_assert_uint_eq(now.roots.ttl, model->roots.ttl);
	ck_assert_uint_eq(now.file_pages_end, model->file_pages_end);
	ck_assert_uint_eq(now.page_ids, model->page_ids);
	ck_assert(!memcmp(now.file_pages, model->file_pages, now.page_ids * sizeof(uint64_t)));
	free(now.file_pages);
}

static inline void expect_reload(struct partition *p)
{
	struct model model = model_take(p);

	partition_reload(p);
	expect_model(p, &model);
	free(model.file_pages);
}

static inline void expect_corrupt(struct partition *p, const char *words)
{
	bool found;

	ck_assert_int_eq(partition_load(p, &found), -ELOQ_ECORRUPT);
	ck_assert_msg(strstr(p->err.text, MANIFEST_NAME) && strstr(p->err.text, words),
		      "\"%s\" lacks \"%s\"", p->err.text, words);
}

#endif
