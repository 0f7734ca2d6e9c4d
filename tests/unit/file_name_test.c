/*
 * file_name_test.c - names are exactly what the format says, or not ours.
 */
#include "daemon/format/file_name.h"

#include "tests/support/test.h"

#include <string.h>

TEST(names_format_and_parse_back)
{
	char name[ELOQ_FILE_NAME_BYTES];
	struct eloq_file_name parsed;

	eloq_file_name_data(name, 0, 0);
	ck_assert_str_eq(name, "data_0_0");
	eloq_file_name_data(name, UINT64_MAX, 17);
	ck_assert_str_eq(name, "data_18446744073709551615_17");
	ck_assert_int_eq(eloq_file_name_parse(name, &parsed), ELOQ_FILE_DATA);
	ck_assert_uint_eq(parsed.file_id, UINT64_MAX);
	ck_assert_uint_eq(parsed.term, 17);

	eloq_file_name_manifest(name, 0, false);
	ck_assert_str_eq(name, "manifest_0");
	ck_assert_int_eq(eloq_file_name_parse(name, &parsed), ELOQ_FILE_MANIFEST);
	ck_assert_uint_eq(parsed.term, 0);
	eloq_file_name_manifest(name, 0, true);
	ck_assert_str_eq(name, "manifest_0.tmp");
	ck_assert_int_eq(eloq_file_name_parse(name, &parsed), ELOQ_FILE_TEMPORARY);

	eloq_file_name_archive(name, 0, 1700000000000000, false);
	ck_assert_str_eq(name, "manifest_0_1700000000000000");
	ck_assert_int_eq(eloq_file_name_parse(name, &parsed), ELOQ_FILE_ARCHIVE);
	ck_assert_uint_eq(parsed.timestamp, 1700000000000000);
	eloq_file_name_archive(name, UINT64_MAX, UINT64_MAX, true);
	ck_assert_str_eq(name, "manifest_18446744073709551615_18446744073709551615.tmp");
	ck_assert_int_eq(eloq_file_name_parse(name, &parsed), ELOQ_FILE_TEMPORARY);
}

TEST(names_that_are_nearly_right_are_unknown)
{
	static const char *const names[] = {
		"",
		"data",
		"data_",
		"data_3",
		"data_3_",
		"data__0",
		"data_03_0",
		"data_3_00",
		"data_-1_0",
		"data_+1_0",
		"data_ 1_0",
		"data_1_0 ",
		"data_1_0x",
		"data_1_0_2",
		"Data_1_0",
		"data_18446744073709551616_0",
		"data_99999999999999999999999_0",
		"manifest",
		"manifest_",
		"manifest_x",
		"manifest_0_",
		"manifest_0_1_2",
		"manifest_0_01",
		"manifest_0.tm",
		"CURRENT_TERM",
	};
	struct eloq_file_name parsed;

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(names); i++) {
		ck_assert_msg(eloq_file_name_parse(names[i], &parsed) == ELOQ_FILE_UNKNOWN,
			      "accepted: %s", names[i]);
		ck_assert_uint_eq(parsed.file_id + parsed.term + parsed.timestamp, 0);
	}
}

TEST(a_partition_directory_is_split_at_its_last_dot)
{
	char table[ELOQ_TABLE_NAME_BYTES_MAX + 1], name[ELOQ_PARTITION_DIR_BYTES];
	uint32_t partition;

	ck_assert(eloq_partition_dir_parse("orders.2024.7", table, &partition));
	ck_assert_str_eq(table, "orders.2024");
	ck_assert_uint_eq(partition, 7);
	eloq_partition_dir_format(name, table, UINT32_MAX);
	ck_assert_str_eq(name, "orders.2024.4294967295");
	ck_assert(eloq_partition_dir_parse(name, table, &partition));
	ck_assert_uint_eq(partition, UINT32_MAX);
	ck_assert(eloq_partition_dir_parse("a b\xc3\xa4.0", table, &partition));
	ck_assert_str_eq(table, "a b\xc3\xa4");
}

TEST(other_directories_are_not_partitions)
{
	static const char *const names[] = {
		"",	"lost+found",	"t",	"t.",	".0",	 "..0", "t.01",
		"t.1x", "t.4294967296", "t.-1", "t. 1", "t.0\n",
	};
	char table[ELOQ_TABLE_NAME_BYTES_MAX + 1] = "untouched";
	uint32_t partition = 99;

	for (size_t i = 0; i < ELOQ_ARRAY_SIZE(names); i++)
		ck_assert_msg(!eloq_partition_dir_parse(names[i], table, &partition),
			      "accepted: %s", names[i]);
	ck_assert_str_eq(table, "untouched");
	ck_assert_uint_eq(partition, 99);
}

TEST(table_names_have_no_slash_no_control_bytes_and_a_limit)
{
	char name[ELOQ_TABLE_NAME_BYTES_MAX + 1], directory[ELOQ_PARTITION_DIR_BYTES];
	char table[ELOQ_TABLE_NAME_BYTES_MAX + 1];
	uint32_t partition;

	ck_assert(!eloq_table_name_ok("", 0));
	ck_assert(!eloq_table_name_ok(".", 1));
	ck_assert(!eloq_table_name_ok("..", 2));
	ck_assert(eloq_table_name_ok("...", 3));
	ck_assert(eloq_table_name_ok("a.b", 3));
	ck_assert(!eloq_table_name_ok("a/b", 3));
	ck_assert(!eloq_table_name_ok("a\0b", 3));
	ck_assert(!eloq_table_name_ok("a\n", 2));
	ck_assert(!eloq_table_name_ok("a\x7f", 2));
	memset(name, 'n', sizeof(name));
	ck_assert(!eloq_table_name_ok(name, sizeof(name)));
	ck_assert(eloq_table_name_ok(name, sizeof(name) - 1));
	name[sizeof(name) - 1] = '\0';
	eloq_partition_dir_format(directory, name, UINT32_MAX);
	ck_assert(eloq_partition_dir_parse(directory, table, &partition));
	ck_assert_str_eq(table, name);
}
