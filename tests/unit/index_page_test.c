/*
 * index_page_test.c - inner pages: the format document's bytes, a model, and hostile bytes.
 */
#include "daemon/format/index_page.h"

#include "common/prng.h"
#include "tests/unit/hex.h"

struct separator {
	const uint8_t *key;
	uint32_t key_bytes;
	uint32_t child;
};

#define SEPARATOR(text, child)                                   \
	{                                                        \
		(const uint8_t *)(text), sizeof(text) - 1, child \
	}

struct index_case {
	const char *hex; /* of a page of 4096 bytes */
	uint32_t leftmost;
	uint32_t count;
	struct separator separators[3];
};

/* Leaf index pages with regions of two: an example, and pages with only the leftmost child. */
static const struct index_case indexes[] = {
	{
		.hex = "b2 59 81 d0 74 c9 89 1f 01 24 00 01 00 00 00 00 03 61 70 70 08 02 01 7a d0 "
		       "04 00 01 62 04 0f 00 1a 00 02 00",
		.leftmost = 1,
		.count = 3,
		.separators = { SEPARATOR("app", 4), SEPARATOR("apz", 300), SEPARATOR("b", 2) },
	},
	{ .hex = "ed e3 41 e5 74 dd 58 51 01 11 00 01 00 00 00 00 00", .leftmost = 1 },
	{ .hex = "be 92 ea 63 30 53 76 49 01 11 00 03 00 00 00 00 00", .leftmost = 3 },
	{ .hex = "99 ef 37 0f 9d c3 fc 5d 01 11 00 05 00 00 00 00 00", .leftmost = 5 },
};

static void assert_index_is(const struct index_case *index)
{
	uint8_t *page = hex_bytes(index->hex, 4096), *built = malloc(4096);
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct eloq_index_builder builder;
	struct eloq_index_iter iter;

	ck_assert(eloq_page_verify(page, 4096));
	ck_assert(eloq_page_check(page, 4096));
	ck_assert(eloq_index_page_check_order(page, 4096, key_buffer));
	ck_assert(eloq_index_page_is_leaf(page));
	eloq_index_iter_init(&iter, page, 4096, key_buffer);
	ck_assert(eloq_index_iter_first(&iter));
	ck_assert_uint_eq(iter.key_bytes, 0);
	ck_assert_uint_eq(iter.child, index->leftmost);
	for (uint32_t i = 0; i < index->count; i++) {
		ck_assert(eloq_index_iter_next(&iter));
		ck_assert_uint_eq(iter.key_bytes, index->separators[i].key_bytes);
		ck_assert_mem_eq(iter.key, index->separators[i].key, iter.key_bytes);
		ck_assert_uint_eq(iter.child, index->separators[i].child);
	}
	ck_assert(!eloq_index_iter_next(&iter));

	memset(built, 0xa5, 4096);
	eloq_index_builder_init(&builder, built, 4096, 2, ELOQ_PAGE_INDEX_LEAF, index->leftmost,
				key_buffer);
	for (uint32_t i = 0; i < index->count; i++)
		ck_assert(eloq_index_builder_add(&builder, index->separators[i].key,
						 index->separators[i].key_bytes,
						 index->separators[i].child));
	eloq_index_builder_finish(&builder);
	eloq_page_seal(built, 4096);
	ck_assert_mem_eq(built, page, 4096);
	free(key_buffer);
	free(built);
	free(page);
}

TEST(the_example_index_pages_read_and_build)
{
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(indexes); i++)
		assert_index_is(&indexes[i]);
}

TEST(a_key_goes_to_the_child_of_the_last_separator_not_above_it)
{
	uint8_t *page = hex_bytes(indexes[0].hex, 4096);

	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "a", 1), 1);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "", 0), 1);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "app", 3), 4);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "apple", 5), 4);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "apz", 3), 300);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "az", 2), 300);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "b", 1), 2);
	ck_assert_uint_eq(eloq_index_page_find(page, 4096, "zebra", 5), 2);
	free(page);
}

TEST(the_check_refuses_what_the_search_relies_on_not_being_there)
{
	static const struct {
		const char *what;
		uint32_t offset;
		uint8_t byte;
	} patches[] = {
		{ "data page", 0x08, 2 },
		{ "length beyond the page", 0x0a, 0x40 },
		{ "length in the header", 0x09, 0x10 },
		{ "length without entries but with restarts", 0x09, 0x11 },
		{ "leftmost child too great", 0x0e, 0x80 },
		{ "shared bytes at the first separator", 0x0f, 1 },
		{ "shared bytes at a restart", 0x1a, 1 },
		{ "more shared than the last separator has", 0x15, 4 },
		{ "separator longer than the page", 0x10, 0x7f },
		{ "child below zero", 0x14, 0x03 },
		{ "difference to below zero", 0x18, 0xd1 },
		{ "no restarts but entries", 0x22, 0 },
		{ "too many restarts", 0x23, 0xff },
		{ "first restart behind the first separator", 0x1e, 0x15 },
		{ "restarts not ascending", 0x20, 0x0f },
		{ "restart inside an entry", 0x20, 0x1b },
		{ "restart at an entry that shares", 0x20, 0x15 },
		{ "restart in the array", 0x20, 0x1e },
		{ "restart keys not ascending", 0x1c, 'a' },
	};
	uint8_t *page = hex_bytes(indexes[0].hex, 4096);

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(patches); i++) {
		uint8_t saved = page[patches[i].offset];

		ck_assert(eloq_index_page_check(page, 4096));
		page[patches[i].offset] = patches[i].byte;
		ck_assert_msg(!eloq_index_page_check(page, 4096), "accepted: %s", patches[i].what);
		page[patches[i].offset] = saved;
	}
	memset(page, 0, 4096);
	ck_assert(!eloq_page_check(page, 4096));
	free(page);
}

TEST(the_order_check_sees_what_the_structural_check_does_not)
{
	uint8_t *page = hex_bytes(indexes[0].hex, 4096);
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);

	page[0x17] = 'p'; /* "apz" becomes "app" */
	ck_assert(eloq_index_page_check(page, 4096));
	ck_assert(!eloq_index_page_check_order(page, 4096, key_buffer));
	free(key_buffer);
	free(page);
}

/* Sorted separators, and the page built from as many of them as fit. */
enum { MODEL_SEPARATORS_MAX = 6000, MODEL_KEY_BYTES_MAX = 400 };

struct model {
	struct separator separators[MODEL_SEPARATORS_MAX];
	uint32_t count; /* on the page */
	uint32_t leftmost;
	uint8_t *page;
	uint8_t *key_buffer;
	uint32_t page_bytes;
};

static int compare_separators(const void *a, const void *b)
{
	const struct separator *left = a, *right = b;
	uint32_t bytes = left->key_bytes < right->key_bytes ? left->key_bytes : right->key_bytes;
	int order = memcmp(left->key, right->key, bytes);

	return order != 0 ? order
			  : (left->key_bytes > right->key_bytes) -
				    (left->key_bytes < right->key_bytes);
}

static struct separator random_separator(struct eloq_prng *prng)
{
	uint32_t bytes = 1 + (uint32_t)eloq_prng_below(prng, 14);
	uint8_t *key;

	if (eloq_prng_below(prng, 50) == 0)
		bytes = 1 + (uint32_t)eloq_prng_below(prng, MODEL_KEY_BYTES_MAX);
	key = malloc(bytes);
	for (uint32_t i = 0; i < bytes; i++)
		key[i] = (uint8_t)('a' + eloq_prng_below(prng, 2));
	key[bytes - 1] = (uint8_t)eloq_prng_next(prng);
	return (struct separator){
		.key = key,
		.key_bytes = bytes,
		.child = (uint32_t)(eloq_prng_next(prng) >> (33 + eloq_prng_below(prng, 31))),
	};
}

/* The fit rule, restated. */
static uint32_t expected_cost(const struct model *model, uint32_t index, uint32_t interval)
{
	const struct separator *separator = &model->separators[index];
	bool opens = index % interval == 0;
	int64_t delta = separator->child;
	uint32_t shared = 0;

	if (!opens) {
		const struct separator *last = &model->separators[index - 1];

		while (shared < separator->key_bytes && shared < last->key_bytes &&
		       separator->key[shared] == last->key[shared])
			shared++;
		delta -= last->child;
	}
	return eloq_varint_bytes(shared) + eloq_varint_bytes(separator->key_bytes - shared) +
	       separator->key_bytes - shared + eloq_varint_bytes(eloq_sm_encode(delta)) +
	       (opens ? 2 : 0);
}

static void model_fill(struct model *model, struct eloq_prng *prng, uint32_t page_bytes,
		       uint32_t interval)
{
	struct eloq_index_builder builder;
	uint32_t distinct = 1, length = 15 + 2;

	model->page_bytes = page_bytes;
	model->page = malloc(page_bytes);
	model->key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	model->leftmost = (uint32_t)eloq_prng_below(prng, (uint64_t)ELOQ_PAGE_ID_MAX + 1);
	for (uint32_t i = 0; i < MODEL_SEPARATORS_MAX; i++)
		model->separators[i] = random_separator(prng);
	qsort(model->separators, MODEL_SEPARATORS_MAX, sizeof(model->separators[0]),
	      compare_separators);
	for (uint32_t i = 1; i < MODEL_SEPARATORS_MAX; i++) {
		struct separator swap = model->separators[i];

		if (compare_separators(&swap, &model->separators[distinct - 1]) == 0)
			continue;
		model->separators[i] = model->separators[distinct];
		model->separators[distinct++] = swap;
	}
	memset(model->page, 0xa5, page_bytes);
	eloq_index_builder_init(&builder, model->page, page_bytes, interval, ELOQ_PAGE_INDEX_INNER,
				model->leftmost, model->key_buffer);
	for (model->count = 0; model->count < distinct; model->count++) {
		const struct separator *separator = &model->separators[model->count];
		uint32_t cost = expected_cost(model, model->count, interval);
		bool added = eloq_index_builder_add(&builder, separator->key, separator->key_bytes,
						    separator->child);

		ck_assert_int_eq(added, length + cost <= page_bytes);
		if (!added)
			break;
		length += cost;
		ck_assert_uint_eq(eloq_index_builder_bytes(&builder), length);
	}
	ck_assert_uint_eq(eloq_index_builder_count(&builder), model->count + 1);
	eloq_index_builder_finish(&builder);
	for (uint32_t i = length; i < page_bytes; i++) {
		if (model->page[i] != 0)
			ck_abort_msg("unused byte %u is not zero", i);
	}
}

static void model_free(struct model *model)
{
	for (uint32_t i = 0; i < MODEL_SEPARATORS_MAX; i++)
		free((void *)(uintptr_t)model->separators[i].key);
	free(model->key_buffer);
	free(model->page);
}

/* Position 0 is the leftmost child. */
static void assert_iter_at(const struct eloq_index_iter *iter, const struct model *model,
			   uint32_t position)
{
	const struct separator *separator;

	if (position == 0) {
		ck_assert_uint_eq(iter->key_bytes, 0);
		ck_assert_uint_eq(iter->child, model->leftmost);
		return;
	}
	separator = &model->separators[position - 1];
	ck_assert_uint_eq(iter->key_bytes, separator->key_bytes);
	ck_assert_mem_eq(iter->key, separator->key, separator->key_bytes);
	ck_assert_uint_eq(iter->child, separator->child);
}

static void model_assert_walks(const struct model *model)
{
	struct eloq_index_iter iter;

	eloq_index_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	for (uint32_t i = 0; i <= model->count; i++) {
		ck_assert(i == 0 ? eloq_index_iter_first(&iter) : eloq_index_iter_next(&iter));
		assert_iter_at(&iter, model, i);
	}
	ck_assert(!eloq_index_iter_next(&iter));
	for (uint32_t i = model->count + 1; i-- > 0;) {
		ck_assert(i == model->count ? eloq_index_iter_last(&iter)
					    : eloq_index_iter_prev(&iter));
		assert_iter_at(&iter, model, i);
	}
	ck_assert(!eloq_index_iter_prev(&iter));
}

static void model_assert_probe(const struct model *model, const struct separator *probe)
{
	struct eloq_index_iter iter;
	uint32_t position = 0;

	while (position < model->count &&
	       compare_separators(&model->separators[position], probe) <= 0)
		position++;
	ck_assert_uint_eq(
		eloq_index_page_find(model->page, model->page_bytes, probe->key, probe->key_bytes),
		position == 0 ? model->leftmost : model->separators[position - 1].child);
	eloq_index_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	ck_assert(eloq_index_iter_seek(&iter, probe->key, probe->key_bytes));
	assert_iter_at(&iter, model, position);
	ck_assert_int_eq(eloq_index_iter_next(&iter), position < model->count);
	if (position < model->count)
		assert_iter_at(&iter, model, position + 1);
	eloq_index_iter_seek(&iter, probe->key, probe->key_bytes);
	ck_assert_int_eq(eloq_index_iter_prev(&iter), position > 0);
	if (position > 0)
		assert_iter_at(&iter, model, position - 1);
}

TEST(random_pages_behave_as_sorted_arrays)
{
	static const uint32_t sizes[] = { 4096, 8192, 16384, 61440 };
	static const uint32_t intervals[] = { 1, 2, 3, 16 };
	struct model *model = malloc(sizeof(*model));
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	for (uint32_t round = 0; round < 16; round++) {
		model_fill(model, &prng, sizes[round % 4], intervals[round / 4]);
		ck_assert(eloq_index_page_check(model->page, model->page_bytes));
		ck_assert(!eloq_index_page_is_leaf(model->page));
		ck_assert(eloq_index_page_check_order(model->page, model->page_bytes,
						      model->key_buffer));
		model_assert_walks(model);
		for (uint32_t i = 0; i < model->count; i += 1 + i / 50)
			model_assert_probe(model, &model->separators[i]);
		for (uint32_t i = 0; i < 300; i++) {
			struct separator probe = random_separator(&prng);

			model_assert_probe(model, &probe);
			free((void *)(uintptr_t)probe.key);
		}
		model_free(model);
	}
	free(model);
}

/* Everything that reads, on a page that passed its check; a sanitizer watches the bounds. */
static void use_page(const struct model *model, struct eloq_prng *prng)
{
	struct eloq_index_iter iter;
	uint32_t steps = 0;
	bool more;

	eloq_index_page_check_order(model->page, model->page_bytes, model->key_buffer);
	eloq_index_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	for (more = eloq_index_iter_first(&iter); more; more = eloq_index_iter_next(&iter)) {
		if (iter.child > ELOQ_PAGE_ID_MAX || ++steps == model->page_bytes)
			ck_abort_msg("child %u is not sound", steps);
	}
	for (more = eloq_index_iter_last(&iter); more; more = eloq_index_iter_prev(&iter))
		steps--;
	ck_assert_uint_eq(steps, 0);
	for (int i = 0; i < 8; i++) {
		const struct separator *probe =
			&model->separators[eloq_prng_below(prng, MODEL_SEPARATORS_MAX)];

		ck_assert_uint_le(eloq_index_page_find(model->page, model->page_bytes, probe->key,
						       probe->key_bytes),
				  ELOQ_PAGE_ID_MAX);
		ck_assert(eloq_index_iter_seek(&iter, probe->key, probe->key_bytes));
	}
}

TEST(mutated_pages_are_refused_or_read_within_their_bounds)
{
	struct model *model = malloc(sizeof(*model));
	uint32_t accepted = 0, refused = 0;
	struct eloq_prng prng;
	uint8_t *sound;

	eloq_prng_seed(&prng, test_seed());
	model_fill(model, &prng, 4096, 4);
	sound = malloc(4096);
	memcpy(sound, model->page, 4096);
	for (uint32_t round = 0; round < 10000; round++) {
		uint32_t length = eloq_get_u16(sound + ELOQ_PAGE_LENGTH);

		memcpy(model->page, sound, 4096);
		for (uint64_t i = eloq_prng_below(&prng, 4); i < 4; i++) {
			/* Header and restart array matter most. */
			uint64_t at = eloq_prng_below(&prng, 2) ? 8 + eloq_prng_below(&prng, 12)
								: eloq_prng_below(&prng, length);

			if (eloq_prng_below(&prng, 4) == 0)
				at = length - 1 - eloq_prng_below(&prng, 40);
			model->page[at] = (uint8_t)eloq_prng_next(&prng);
		}
		if (!eloq_index_page_check(model->page, 4096)) {
			refused++;
			continue;
		}
		accepted++;
		use_page(model, &prng);
	}
	ck_assert_uint_gt(accepted, 100);
	ck_assert_uint_gt(refused, 100);
	free(sound);
	model_free(model);
	free(model);
}
