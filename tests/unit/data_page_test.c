/*
 * data_page_test.c - leaves: the format document's bytes, a model, and hostile bytes.
 */
#include "daemon/format/data_page.h"

#include "common/prng.h"
#include "tests/unit/hex.h"

#define KEY(text)   .key = (const uint8_t *)(text), .key_bytes = sizeof(text) - 1
#define VALUE(text) .value = (const uint8_t *)(text), .value_bytes = sizeof(text) - 1

struct leaf_case {
	const char *hex; /* of a page of 4096 bytes */
	uint32_t restart_interval;
	uint32_t prev, next;
	uint32_t count;
	struct eloq_entry entries[4];
};

/* Small regions, an expiry, an overflow entry, an empty value. */
static const struct leaf_case leaf_with_two_regions = {
	.hex = "d0 6b 0e 7b d7 48 da 25 02 4c 00 ff ff ff ff 05 00 00 00 00 05 30 61 70 70 6c 65 72 "
	       "65 64 d0 0f 04 01 22 79 64 6f 80 d0 95 ff bc 31 15 00 06 81 01 62 61 6e 61 6e 61 "
	       "07 00 00 00 08 00 00 00 da 0f 03 01 00 64 00 13 00 2d 00 02 00",
	.restart_interval = 2,
	.prev = ELOQ_PAGE_NONE,
	.next = 5,
	.count = 4,
	.entries = {
		{ KEY("apple"), VALUE("red"), .timestamp = 1000 },
		{ KEY("apply"), VALUE("do"), .timestamp = 990, .expire_ms = 1700000000000 },
		{ KEY("banana"), VALUE("\7\0\0\0\10\0\0\0"), .timestamp = 1005,
		  .flags = ELOQ_ENTRY_OVERFLOW },
		{ KEY("band"), VALUE(""), .timestamp = 1005 },
	},
};

static const struct leaf_case leaves[] = {
	/* The leaf of an overflow value of two groups. */
	{
		.hex = "f8 ce 40 d5 ef 14 19 b5 02 25 00 ff ff ff ff ff ff ff ff 00 01 81 01 6b 00 "
		       "00 00 00 01 00 00 00 02 13 00 01 00",
		.restart_interval = 16,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.count = 1,
		.entries = {
			{ KEY("k"), VALUE("\0\0\0\0\1\0\0\0"), .timestamp = 1,
			  .flags = ELOQ_ENTRY_OVERFLOW },
		},
	},
	/* A leaf of a TTL tree. */
	{
		.hex = "16 65 9c 86 94 c8 79 c2 02 28 00 ff ff ff ff ff ff ff ff 00 0d 00 00 00 01 "
		       "8b cf e5 68 00 61 70 70 6c 79 00 13 00 01 00",
		.restart_interval = 16,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.count = 1,
		.entries = { { KEY("\0\0\1\x8b\xcf\xe5\x68\0apply"), VALUE("") } },
	},
	/* The complete store: the main tree's leaf after the first and the second commit. */
	{
		.hex = "b9 4e 1b cf b6 9c b1 df 02 48 00 ff ff ff ff ff ff ff ff 00 05 30 61 70 70 "
		       "6c 65 72 65 64 d0 0f 04 01 22 79 64 6f 80 b0 8f e6 b2 77 15 00 06 c1 01 62 "
		       "61 6e 61 6e 61 00 00 00 00 01 00 00 00 02 00 00 00 1e 13 00 01 00",
		.restart_interval = 16,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.count = 3,
		.entries = {
			{ KEY("apple"), VALUE("red"), .timestamp = 1000 },
			{ KEY("apply"), VALUE("do"), .timestamp = 990, .expire_ms = 4102444800000 },
			{ KEY("banana"), VALUE("\0\0\0\0\1\0\0\0\2\0\0\0"), .timestamp = 1005,
			  .flags = ELOQ_ENTRY_OVERFLOW },
		},
	},
	{
		.hex = "70 7a 97 3f 53 b8 b2 a8 02 48 00 ff ff ff ff ff ff ff ff 00 05 30 61 70 70 "
		       "6c 65 52 45 44 d2 0f 04 01 22 79 64 6f 80 b0 8f e6 b2 77 17 00 06 c1 01 62 "
		       "61 6e 61 6e 61 00 00 00 00 01 00 00 00 02 00 00 00 1e 13 00 01 00",
		.restart_interval = 16,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.count = 3,
		.entries = {
			{ KEY("apple"), VALUE("RED"), .timestamp = 1001 },
			{ KEY("apply"), VALUE("do"), .timestamp = 990, .expire_ms = 4102444800000 },
			{ KEY("banana"), VALUE("\0\0\0\0\1\0\0\0\2\0\0\0"), .timestamp = 1005,
			  .flags = ELOQ_ENTRY_OVERFLOW },
		},
	},
	/* Its TTL tree's leaf. */
	{
		.hex = "92 d7 05 40 04 cf 18 bf 02 28 00 ff ff ff ff ff ff ff ff 00 0d 00 00 00 03 "
		       "bb 2c c3 d8 00 61 70 70 6c 79 00 13 00 01 00",
		.restart_interval = 16,
		.prev = ELOQ_PAGE_NONE,
		.next = ELOQ_PAGE_NONE,
		.count = 1,
		.entries = { { KEY("\0\0\3\xbb\x2c\xc3\xd8\0apply"), VALUE("") } },
	},
};

static void assert_entry_eq(const struct eloq_entry *entry, const struct eloq_entry *expected)
{
	ck_assert_uint_eq(entry->key_bytes, expected->key_bytes);
	ck_assert_mem_eq(entry->key, expected->key, expected->key_bytes);
	ck_assert_uint_eq(entry->value_bytes, expected->value_bytes);
	if (expected->value_bytes > 0)
		ck_assert_mem_eq(entry->value, expected->value, expected->value_bytes);
	ck_assert_uint_eq(entry->timestamp, eloq_min_u64(expected->timestamp, ELOQ_TIMESTAMP_MAX));
	ck_assert_uint_eq(entry->expire_ms, expected->expire_ms);
	ck_assert_uint_eq(entry->flags, expected->flags);
}

static void assert_leaf_is(const struct leaf_case *leaf)
{
	uint8_t *page = hex_bytes(leaf->hex, 4096), *built = malloc(4096);
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	struct eloq_data_builder builder;
	struct eloq_data_iter iter;
	struct eloq_entry found;

	ck_assert(eloq_page_verify(page, 4096));
	ck_assert(eloq_page_check(page, 4096));
	ck_assert(eloq_data_page_check_order(page, 4096, key_buffer));
	ck_assert_uint_eq(eloq_data_page_prev(page), leaf->prev);
	ck_assert_uint_eq(eloq_data_page_next(page), leaf->next);
	eloq_data_iter_init(&iter, page, 4096, key_buffer);
	for (uint32_t i = 0; i < leaf->count; i++) {
		ck_assert(i == 0 ? eloq_data_iter_first(&iter) : eloq_data_iter_next(&iter));
		assert_entry_eq(&iter.entry, &leaf->entries[i]);
		ck_assert(eloq_data_page_find(page, 4096, leaf->entries[i].key,
					      leaf->entries[i].key_bytes, &found));
		assert_entry_eq(&found, &leaf->entries[i]);
	}
	ck_assert(!eloq_data_iter_next(&iter));

	memset(built, 0xa5, 4096);
	eloq_data_builder_init(&builder, built, 4096, leaf->restart_interval, leaf->prev,
			       leaf->next, key_buffer);
	for (uint32_t i = 0; i < leaf->count; i++)
		ck_assert(eloq_data_builder_add(&builder, &leaf->entries[i]));
	eloq_data_builder_finish(&builder);
	eloq_page_seal(built, 4096);
	ck_assert_mem_eq(built, page, 4096);
	free(key_buffer);
	free(built);
	free(page);
}

TEST(the_example_leaf_with_two_regions_reads_and_builds)
{
	assert_leaf_is(&leaf_with_two_regions);
}

TEST(leaves_of_the_other_examples_read_and_build)
{
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(leaves); i++)
		assert_leaf_is(&leaves[i]);
}

TEST(pointers_of_an_overflow_entry_are_read_from_its_value)
{
	const struct eloq_entry *entry = &leaf_with_two_regions.entries[2];

	ck_assert_uint_eq(eloq_entry_pointer_count(entry), 2);
	ck_assert_uint_eq(eloq_entry_pointer(entry, 0), 7);
	ck_assert_uint_eq(eloq_entry_pointer(entry, 1), 8);
}

TEST(any_single_flipped_bit_breaks_the_checksum)
{
	uint8_t *page = hex_bytes(leaf_with_two_regions.hex, 4096);

	for (uint32_t bit = 0; bit < 4096 * 8; bit += bit < 700 ? 1 : 13) {
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (eloq_page_verify(page, 4096))
			ck_abort_msg("bit %u", bit);
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	ck_assert(eloq_page_verify(page, 4096));
	free(page);
}

TEST(the_check_refuses_what_the_search_relies_on_not_being_there)
{
	static const struct {
		const char *what;
		uint32_t offset;
		uint8_t byte;
	} patches[] = {
		{ "index page", 0x08, 1 },
		{ "deleted page", 0x08, 255 },
		{ "length beyond the page", 0x0a, 0x40 },
		{ "length in the header", 0x09, 0x14 },
		{ "length off by one", 0x09, 0x4d },
		{ "previous page id reserved", 0x0b, 0xfe },
		{ "next page id too great", 0x12, 0x80 },
		{ "shared bytes at the first entry", 0x13, 1 },
		{ "shared bytes at a restart", 0x2d, 1 },
		{ "more shared than the last key has", 0x20, 6 },
		{ "compression 3", 0x22, 0x2e },
		{ "value longer than the page", 0x15, 0xf0 },
		{ "timestamp below zero", 0x1e, 0xd1 },
		{ "overflow page id too great", 0x3e, 0x80 },
		{ "no restarts", 0x4a, 0 },
		{ "too many restarts", 0x4b, 0xff },
		{ "first restart behind the first entry", 0x46, 0x20 },
		{ "restarts not ascending", 0x48, 0x13 },
		{ "restart inside an entry", 0x48, 0x2e },
		{ "restart at an entry that shares", 0x48, 0x20 },
		{ "restart in the array", 0x48, 0x46 },
		{ "restart keys not ascending", 0x31, 'a' },
	};
	uint8_t *page = hex_bytes(leaf_with_two_regions.hex, 4096);

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(patches); i++) {
		uint8_t saved = page[patches[i].offset];

		ck_assert(eloq_data_page_check(page, 4096));
		page[patches[i].offset] = patches[i].byte;
		ck_assert_msg(!eloq_data_page_check(page, 4096), "accepted: %s", patches[i].what);
		page[patches[i].offset] = saved;
	}
	memset(page, 0, 4096);
	ck_assert(!eloq_page_check(page, 4096));
	memset(page, 0xff, 4096);
	ck_assert(!eloq_page_check(page, 4096));
	free(page);
}

TEST(an_overflow_entry_with_a_broken_pointer_list_is_refused)
{
	uint8_t value[4 * (ELOQ_OVERFLOW_POINTERS_MAX + 1)] = { 0 };
	uint8_t page[4096], key_buffer[ELOQ_KEY_BUFFER_BYTES];
	struct eloq_entry entry = { KEY("k"), .value = value, .flags = ELOQ_ENTRY_OVERFLOW };
	struct eloq_data_builder builder;

	for (entry.value_bytes = 0; entry.value_bytes <= sizeof(value); entry.value_bytes++) {
		eloq_data_builder_init(&builder, page, 4096, 16, ELOQ_PAGE_NONE, ELOQ_PAGE_NONE,
				       key_buffer);
		ck_assert(eloq_data_builder_add(&builder, &entry));
		eloq_data_builder_finish(&builder);
		ck_assert_int_eq(eloq_data_page_check(page, 4096),
				 entry.value_bytes > 0 && entry.value_bytes % 4 == 0 &&
					 entry.value_bytes < sizeof(value));
	}
}

TEST(the_order_check_sees_what_the_structural_check_does_not)
{
	uint8_t *page = hex_bytes(leaf_with_two_regions.hex, 4096);
	uint8_t *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);

	page[0x23] = 'd'; /* "apply" becomes "appld", less than "apple" */
	ck_assert(eloq_data_page_check(page, 4096));
	ck_assert(!eloq_data_page_check_order(page, 4096, key_buffer));
	page[0x23] = 'e'; /* and "apple" again */
	ck_assert(eloq_data_page_check(page, 4096));
	ck_assert(!eloq_data_page_check_order(page, 4096, key_buffer));
	free(key_buffer);
	free(page);
}

TEST(timestamps_above_the_signed_range_are_clamped)
{
	const struct eloq_entry entries[] = {
		{ KEY("a"), VALUE("1"), .timestamp = UINT64_MAX },
		{ KEY("b"), VALUE("2"), .timestamp = 0 },
		{ KEY("c"), VALUE("3"), .timestamp = ELOQ_TIMESTAMP_MAX },
		{ KEY("d"), VALUE("4"), .timestamp = ELOQ_TIMESTAMP_MAX + 1,
		  .expire_ms = UINT64_MAX },
	};
	uint8_t page[4096], key_buffer[ELOQ_KEY_BUFFER_BYTES];
	struct eloq_data_builder builder;
	struct eloq_entry found;

	eloq_data_builder_init(&builder, page, 4096, 16, ELOQ_PAGE_NONE, ELOQ_PAGE_NONE,
			       key_buffer);
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(entries); i++)
		ck_assert(eloq_data_builder_add(&builder, &entries[i]));
	eloq_data_builder_finish(&builder);
	ck_assert(eloq_data_page_check(page, 4096));
	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(entries); i++) {
		ck_assert(eloq_data_page_find(page, 4096, entries[i].key, 1, &found));
		assert_entry_eq(&found, &entries[i]);
	}
}

TEST(an_entry_fits_alone_up_to_the_last_byte_of_an_empty_page)
{
	static const uint32_t sizes[] = { 4096, 8192, 16384, 61440 };
	static uint8_t bytes[61440];

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(sizes); i++) {
		uint8_t *page = malloc(sizes[i]), *key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
		/* Behind the header: lengths 1 + 1 + 3, key 10, timestamp 1, restart and count 4.
		 */
		uint32_t fits = sizes[i] - 19 - 20;
		struct eloq_entry entry = { .key = bytes, .key_bytes = 10, .value = bytes };
		struct eloq_data_builder builder;

		for (uint32_t value_bytes = fits - 2; value_bytes <= fits + 2; value_bytes++) {
			bool fit = value_bytes <= fits;

			entry.value_bytes = value_bytes;
			eloq_data_builder_init(&builder, page, sizes[i], 16, ELOQ_PAGE_NONE,
					       ELOQ_PAGE_NONE, key_buffer);
			ck_assert_int_eq(
				eloq_data_entry_fits_alone(sizes[i], 10, value_bytes, 0, 0), fit);
			ck_assert_int_eq(eloq_data_builder_add(&builder, &entry), fit);
			if (!fit)
				continue;
			eloq_data_builder_finish(&builder);
			ck_assert(eloq_data_page_check(page, sizes[i]));
			ck_assert_uint_eq(eloq_get_u16(page + ELOQ_PAGE_LENGTH),
					  sizes[i] - (fits - value_bytes));
		}
		free(key_buffer);
		free(page);
	}
	ck_assert(!eloq_data_entry_fits_alone(61440, 1, UINT32_MAX, UINT64_MAX, UINT64_MAX));
	ck_assert(!eloq_data_entry_fits_alone(4096, UINT32_MAX, 0, 0, 0));
}

/* A sorted array of entries, and the page built from as many of them as fit. */
enum { MODEL_ENTRIES_MAX = 6000 };

struct model {
	struct eloq_entry entries[MODEL_ENTRIES_MAX];
	uint32_t count; /* on the page */
	uint8_t *page;
	uint8_t *key_buffer;
	uint32_t page_bytes;
};

static int compare_entries(const void *a, const void *b)
{
	const struct eloq_entry *left = a, *right = b;
	uint32_t bytes = left->key_bytes < right->key_bytes ? left->key_bytes : right->key_bytes;
	int order = memcmp(left->key, right->key, bytes);

	return order != 0 ? order
			  : (left->key_bytes > right->key_bytes) -
				    (left->key_bytes < right->key_bytes);
}

/* Keys of few letters share prefixes and are prefixes of each other; some are long. */
static uint8_t *random_key(struct eloq_prng *prng, uint32_t page_bytes, uint32_t *ret_bytes)
{
	uint32_t bytes = 1 + (uint32_t)eloq_prng_below(prng, 12);
	uint8_t *key;

	if (eloq_prng_below(prng, 50) == 0)
		bytes += (uint32_t)eloq_prng_below(prng, page_bytes / 16);
	key = malloc(bytes);
	for (uint32_t i = 0; i < bytes; i++)
		key[i] = i < bytes - 1 || bytes % 2 ? (uint8_t)('a' + eloq_prng_below(prng, 2))
						    : (uint8_t)eloq_prng_next(prng);
	*ret_bytes = bytes;
	return key;
}

static void random_entry(struct eloq_prng *prng, uint32_t page_bytes, struct eloq_entry *entry)
{
	static const uint8_t kinds[] = { 0, 0, 0, 4, 8 };
	uint32_t value_bytes = (uint32_t)eloq_prng_below(prng, 40);
	uint8_t *value;

	if (eloq_prng_below(prng, 30) == 0)
		value_bytes = (uint32_t)eloq_prng_below(prng, page_bytes / 8);
	*entry = (struct eloq_entry){
		.key = random_key(prng, page_bytes, &entry->key_bytes),
		.key_bytes = entry->key_bytes,
		.timestamp = eloq_prng_next(prng) >> eloq_prng_below(prng, 64),
		.flags = kinds[eloq_prng_below(prng, ELOQ_ARRAY_SIZE(kinds))],
	};
	if (eloq_prng_below(prng, 3) == 0)
		entry->expire_ms = 1 + (eloq_prng_next(prng) >> (1 + eloq_prng_below(prng, 62)));
	if (eloq_prng_below(prng, 10) == 0) {
		entry->flags |= ELOQ_ENTRY_OVERFLOW;
		value_bytes = 4 * (1 + (uint32_t)eloq_prng_below(prng, 16));
	}
	value = malloc(value_bytes + 1);
	for (uint32_t i = 0; i < value_bytes; i++)
		value[i] = entry->flags & ELOQ_ENTRY_OVERFLOW && i % 4 == 3
				   ? 0
				   : (uint8_t)eloq_prng_next(prng);
	entry->value = value;
	entry->value_bytes = value_bytes;
}

/* The capacity rule, restated. */
static uint32_t expected_cost(const struct model *model, uint32_t index, uint32_t interval)
{
	const struct eloq_entry *entry = &model->entries[index];
	uint64_t timestamp = eloq_min_u64(entry->timestamp, ELOQ_TIMESTAMP_MAX);
	int64_t delta = (int64_t)timestamp;
	bool opens = index % interval == 0;
	uint32_t shared = 0;

	if (!opens) {
		const struct eloq_entry *last = &model->entries[index - 1];

		while (shared < entry->key_bytes && shared < last->key_bytes &&
		       entry->key[shared] == last->key[shared])
			shared++;
		delta -= (int64_t)eloq_min_u64(last->timestamp, ELOQ_TIMESTAMP_MAX);
	}
	return eloq_varint_bytes(shared) + eloq_varint_bytes(entry->key_bytes - shared) +
	       eloq_varint_bytes((uint64_t)entry->value_bytes * 16) + entry->key_bytes - shared +
	       entry->value_bytes + (entry->expire_ms ? eloq_varint_bytes(entry->expire_ms) : 0) +
	       eloq_varint_bytes(eloq_sm_encode(delta)) + (opens ? 2 : 0);
}

static void model_fill(struct model *model, struct eloq_prng *prng, uint32_t page_bytes,
		       uint32_t interval)
{
	struct eloq_data_builder builder;
	uint32_t distinct = 1, length = 19 + 2;

	model->page_bytes = page_bytes;
	model->page = malloc(page_bytes);
	model->key_buffer = malloc(ELOQ_KEY_BUFFER_BYTES);
	for (uint32_t i = 0; i < MODEL_ENTRIES_MAX; i++)
		random_entry(prng, page_bytes, &model->entries[i]);
	qsort(model->entries, MODEL_ENTRIES_MAX, sizeof(model->entries[0]), compare_entries);
	for (uint32_t i = 1; i < MODEL_ENTRIES_MAX; i++) {
		struct eloq_entry swap = model->entries[i];

		if (compare_entries(&swap, &model->entries[distinct - 1]) == 0)
			continue;
		model->entries[i] = model->entries[distinct];
		model->entries[distinct++] = swap;
	}
	memset(model->page, 0xa5, page_bytes);
	eloq_data_builder_init(&builder, model->page, page_bytes, interval, 1, 2,
			       model->key_buffer);
	for (model->count = 0; model->count < distinct; model->count++) {
		uint32_t cost = expected_cost(model, model->count, interval);
		bool added = eloq_data_builder_add(&builder, &model->entries[model->count]);

		ck_assert_int_eq(added, length + cost <= page_bytes);
		if (!added)
			break;
		length += cost;
		ck_assert_uint_eq(eloq_data_builder_bytes(&builder), length);
	}
	ck_assert_uint_eq(eloq_data_builder_count(&builder), model->count);
	eloq_data_builder_finish(&builder);
	for (uint32_t i = length; i < page_bytes; i++) {
		if (model->page[i] != 0)
			ck_abort_msg("unused byte %u is not zero", i);
	}
}

static void model_free(struct model *model)
{
	for (uint32_t i = 0; i < MODEL_ENTRIES_MAX; i++) {
		free((void *)(uintptr_t)model->entries[i].key);
		free((void *)(uintptr_t)model->entries[i].value);
	}
	free(model->key_buffer);
	free(model->page);
}

/* Index of the first entry on the page that is >= the probe; count if there is none. */
static uint32_t model_lower_bound(const struct model *model, const struct eloq_entry *probe)
{
	uint32_t index = 0;

	while (index < model->count && compare_entries(&model->entries[index], probe) < 0)
		index++;
	return index;
}

static void model_assert_walks(const struct model *model)
{
	struct eloq_data_iter iter;

	eloq_data_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	for (uint32_t i = 0; i < model->count; i++) {
		ck_assert(i == 0 ? eloq_data_iter_first(&iter) : eloq_data_iter_next(&iter));
		assert_entry_eq(&iter.entry, &model->entries[i]);
	}
	ck_assert(!eloq_data_iter_next(&iter));
	for (uint32_t i = model->count; i-- > 0;) {
		ck_assert(i == model->count - 1 ? eloq_data_iter_last(&iter)
						: eloq_data_iter_prev(&iter));
		assert_entry_eq(&iter.entry, &model->entries[i]);
	}
	ck_assert(!eloq_data_iter_prev(&iter));
}

static void model_assert_probe(const struct model *model, const struct eloq_entry *probe)
{
	uint32_t lower = model_lower_bound(model, probe);
	bool present = lower < model->count && compare_entries(&model->entries[lower], probe) == 0;
	uint32_t floor_end = lower + present;
	struct eloq_data_iter iter;
	struct eloq_entry found;

	ck_assert_int_eq(eloq_data_page_find(model->page, model->page_bytes, probe->key,
					     probe->key_bytes, &found),
			 present);
	if (present)
		assert_entry_eq(&found, &model->entries[lower]);

	eloq_data_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	ck_assert_int_eq(eloq_data_iter_seek(&iter, probe->key, probe->key_bytes),
			 lower < model->count);
	if (lower < model->count) {
		assert_entry_eq(&iter.entry, &model->entries[lower]);
		ck_assert_int_eq(eloq_data_iter_prev(&iter), lower > 0);
		if (lower > 0)
			assert_entry_eq(&iter.entry, &model->entries[lower - 1]);
	}
	ck_assert_int_eq(eloq_data_iter_seek_floor(&iter, probe->key, probe->key_bytes),
			 floor_end > 0);
	if (floor_end == 0)
		return;
	assert_entry_eq(&iter.entry, &model->entries[floor_end - 1]);
	ck_assert_int_eq(eloq_data_iter_next(&iter), floor_end < model->count);
	if (floor_end < model->count)
		assert_entry_eq(&iter.entry, &model->entries[floor_end]);
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
		ck_assert(eloq_data_page_check(model->page, model->page_bytes));
		ck_assert(eloq_data_page_check_order(model->page, model->page_bytes,
						     model->key_buffer));
		model_assert_walks(model);
		for (uint32_t i = 0; i < model->count; i += 1 + i / 50)
			model_assert_probe(model, &model->entries[i]);
		for (uint32_t i = 0; i < 500; i++) {
			struct eloq_entry probe = { 0 };

			probe.key = random_key(&prng, model->page_bytes, &probe.key_bytes);
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
	struct eloq_data_iter iter;
	struct eloq_entry found;
	uint32_t steps = 0;
	bool more;

	eloq_data_page_check_order(model->page, model->page_bytes, model->key_buffer);
	eloq_data_iter_init(&iter, model->page, model->page_bytes, model->key_buffer);
	for (more = eloq_data_iter_first(&iter); more; more = eloq_data_iter_next(&iter)) {
		if (iter.entry.timestamp > ELOQ_TIMESTAMP_MAX || iter.entry.value < model->page ||
		    iter.entry.value_bytes >
			    (size_t)(model->page + model->page_bytes - iter.entry.value) ||
		    ++steps == model->page_bytes)
			ck_abort_msg("entry %u is not sound", steps);
	}
	for (more = eloq_data_iter_last(&iter); more; more = eloq_data_iter_prev(&iter))
		steps--;
	ck_assert_uint_eq(steps, 0);
	for (int i = 0; i < 8; i++) {
		const struct eloq_entry *probe =
			&model->entries[eloq_prng_below(prng, MODEL_ENTRIES_MAX)];

		eloq_data_page_find(model->page, model->page_bytes, probe->key, probe->key_bytes,
				    &found);
		eloq_data_iter_seek(&iter, probe->key, probe->key_bytes);
		eloq_data_iter_seek_floor(&iter, probe->key, probe->key_bytes);
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
			/* Header and restart array matter most: half of the hits go there. */
			uint64_t at = eloq_prng_below(&prng, 2) ? 9 + eloq_prng_below(&prng, 14)
								: eloq_prng_below(&prng, length);

			if (eloq_prng_below(&prng, 4) == 0)
				at = length - 1 - eloq_prng_below(&prng, 40);
			model->page[at] = (uint8_t)eloq_prng_next(&prng);
		}
		if (!eloq_data_page_check(model->page, 4096)) {
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
