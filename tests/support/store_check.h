/*
 * store_check.h - reads a partition's files without the engine and proves that they are sound.
 *
 * Only the format's own functions are used: manifest records, mapping, pages. Checked are all
 * checksums, the order of keys, separators against what lies below them, equal depth of leaves,
 * links in both directions, overflow chains, the TTL tree against the main one, that each page has
 * one place in one tree, and that nothing is mapped that no tree reaches. A fault fails the test.
 */
#ifndef ELOQ_TESTS_SUPPORT_STORE_CHECK_H
#define ELOQ_TESTS_SUPPORT_STORE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

struct store_check {
	uint32_t page_bytes;
	uint32_t pages_per_file_shift;

	/* What was found. */
	uint64_t entries;
	uint64_t ttl_entries;
	uint64_t leaves;
	uint64_t index_pages;
	uint64_t overflow_pages;
	uint64_t leaf_bytes; /* content of all leaves */
	unsigned depth;	     /* of the main tree's leaves */
	uint32_t root;
	uint64_t file_page_next;
};

/* @dir: "<root>/<table>.<partition>". False: there is no manifest. */
bool store_check_partition(struct store_check *check, const char *dir);

#endif
