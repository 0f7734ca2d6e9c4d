/*
 * list_test.c - the list against an array of the same order.
 */
#include "common/list.h"

#include "common/prng.h"
#include "tests/support/test.h"

#include <string.h>

enum { NODE_COUNT = 30, STEPS = 20000 };

struct item {
	unsigned id;
	struct eloq_list link;
};

static struct item items[NODE_COUNT];
static struct eloq_list head;
static unsigned model[NODE_COUNT];
static size_t model_count;

static void items_init(void)
{
	eloq_list_init(&head);
	model_count = 0;
	for (unsigned i = 0; i < NODE_COUNT; i++) {
		items[i].id = i;
		eloq_list_init(&items[i].link);
	}
}

static void model_insert(size_t at, unsigned id)
{
	memmove(&model[at + 1], &model[at], (model_count - at) * sizeof(model[0]));
	model[at] = id;
	model_count++;
}

static void model_remove(size_t at)
{
	model_count--;
	memmove(&model[at], &model[at + 1], (model_count - at) * sizeof(model[0]));
}

static void check_list_is_model(void)
{
	size_t i = 0;

	eloq_list_for_each (node, &head) {
		ck_assert_uint_lt(i, model_count);
		ck_assert_uint_eq(eloq_list_entry(node, struct item, link)->id, model[i++]);
		ck_assert_ptr_eq(node->next->prev, node);
	}
	ck_assert_uint_eq(i, model_count);
	ck_assert_int_eq(eloq_list_empty(&head), model_count == 0);
}

TEST(list_keeps_the_order_of_an_array)
{
	struct eloq_prng prng;

	eloq_prng_seed(&prng, test_seed());
	items_init();
	for (unsigned step = 0; step < STEPS; step++) {
		struct item *item = &items[eloq_prng_below(&prng, NODE_COUNT)];
		size_t at = 0;

		while (at < model_count && model[at] != item->id)
			at++;
		ck_assert_int_eq(eloq_list_empty(&item->link), at == model_count);
		if (at < model_count) {
			eloq_list_remove(&item->link);
			model_remove(at);
			eloq_list_remove(&item->link); /* again: harmless */
		} else if (eloq_prng_below(&prng, 2)) {
			eloq_list_push_back(&head, &item->link);
			model_insert(model_count, item->id);
		} else {
			eloq_list_push_front(&head, &item->link);
			model_insert(0, item->id);
		}
		check_list_is_model();
	}
}

TEST(list_pops_from_the_front_until_it_is_empty)
{
	items_init();
	ck_assert_ptr_null(eloq_list_pop_front(&head));
	for (unsigned i = 0; i < 3; i++)
		eloq_list_push_back(&head, &items[i].link);
	for (unsigned i = 0; i < 3; i++) {
		struct eloq_list *node = eloq_list_pop_front(&head);

		ck_assert_ptr_eq(node, &items[i].link);
		ck_assert(eloq_list_empty(node));
	}
	ck_assert_ptr_null(eloq_list_pop_front(&head));
}

TEST(list_splice_moves_all_to_the_end_and_leaves_none)
{
	struct eloq_list from;

	items_init();
	eloq_list_init(&from);
	eloq_list_splice_back(&head, &from);
	check_list_is_model();
	for (unsigned i = 0; i < 6; i++)
		eloq_list_push_back(i < 2 ? &head : &from, &items[i].link);
	eloq_list_splice_back(&head, &from);
	for (unsigned i = 0; i < 6; i++)
		model_insert(i, i);
	check_list_is_model();
	ck_assert(eloq_list_empty(&from));
	eloq_list_splice_back(&from, &head);
	ck_assert(eloq_list_empty(&head));
	ck_assert_ptr_eq(from.next, &items[0].link);
}

TEST(list_loop_may_remove_the_node_it_is_at)
{
	items_init();
	for (unsigned i = 0; i < NODE_COUNT; i++)
		eloq_list_push_back(&head, &items[i].link);
	eloq_list_for_each_safe (node, &head) {
		if (eloq_list_entry(node, struct item, link)->id % 3)
			eloq_list_remove(node);
	}
	for (unsigned i = 0; i < NODE_COUNT; i += 3)
		model_insert(model_count, i);
	check_list_is_model();
}
