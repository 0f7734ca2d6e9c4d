"""Planted damage in pages and trees: each kind is found, with the file and offset where it lies.

The damaged pages get good checksums, unless the checksum is what is tested: it is the rules behind
the checksums that must notice.
"""

import dataclasses
import struct

import forge
from damage import DamageTest
from forge import Put, World
from manifest import UNUSED
from pages import parse_data_page


class SoundTest(DamageTest):
    def test_the_undamaged_store_is_sound(self) -> None:
        self.assertEqual(self.write_and_check(), [])
        records, _ = self.check()
        wanted = [(p.key, p.value, p.ts, p.expire) for puts in self.world.puts for p in puts]
        self.assertEqual([(r.key, r.value, r.timestamp, r.expire_ts) for r in records], wanted)


class PageDamageTest(DamageTest):
    def test_a_page_with_a_wrong_checksum(self) -> None:
        for page_id in self.world.pages:
            self.world = World()
            self.world.pages[page_id] = bytearray(forge.seal(self.world.pages[page_id]))
            self.world.pages[page_id][4000] ^= 1
            self.world.rotten = {page_id}
            findings = self.expect(page_id, 0, "page checksum")
            self.assertEqual(len(findings), 1, "nothing else is wrong")

    def test_a_page_of_another_type(self) -> None:
        self.world.pages[3][8] = 3
        self.expect(3, 8, "page type 3 (overflow page) where only data page will do")

    def test_a_root_that_is_a_leaf(self) -> None:
        self.world.roots = (3, 6)
        words = "page type 2 (data page) where only index page or leaf index page will do"
        self.expect(3, 8, words)

    def test_a_content_length_beyond_the_page(self) -> None:
        struct.pack_into("<H", self.world.pages[4], 9, 4097)
        self.expect(4, 9, "content length 4097")

    def test_a_restart_inside_an_entry(self) -> None:
        page = self.world.pages[3]
        (end,) = struct.unpack_from("<H", page, 9)
        (restart,) = struct.unpack_from("<H", page, end - 4)
        struct.pack_into("<H", page, end - 4, restart + 1)
        self.expect(3, restart + 1, f"restart {restart + 1} is inside an entry")

    def test_keys_out_of_order(self) -> None:
        puts = self.world.puts[1]
        self.world.pages[4] = forge.data_page([puts[0], puts[2], puts[1]], 3, 5)
        self.assertIn("is not above the one before", str(self.write_and_check()))

    def test_an_entry_that_shares_more_than_there_is(self) -> None:
        self.world.pages[5][19] = 1
        self.expect(5, 19, "restart entry shares")

    def test_a_varint_that_is_not_the_shortest(self) -> None:
        page = self.world.pages[5]
        page[19:22] = bytes([0x80, 0, 1])
        self.expect(5, 19, "not in its shortest form")

    def test_minus_zero(self) -> None:
        page = forge.data_page([Put(b"m", b"M", 1), Put(b"n", b"N", 1, World.expire + 1)], 4)
        at = struct.unpack_from("<H", page, 9)[0] - 5
        page[at] = 1
        self.world.pages[5] = page
        self.expect(5, at, "minus zero")

    def test_compression_code_3(self) -> None:
        self.world.pages[5][21] |= 0x0C
        self.expect(5, 19, "compression code 3")

    def test_a_key_above_half_a_page(self) -> None:
        self.world.pages[4] = forge.data_page([Put(b"d" * 2049)], 3, 5)
        self.expect(4, 19, "key of 2049 bytes")

    def test_an_unused_byte_only_in_stores_of_ours(self) -> None:
        self.world.pages[5][4095] = 1
        self.expect(5, 4095, "unused byte")
        theirs = dataclasses.replace(World.options, ours=False)
        self.assertEqual(self.check(theirs)[1], [])

    def test_an_unused_byte_between_value_and_pointers(self) -> None:
        self.world.pages[9][11 + 100] = 1
        self.expect(9, 11 + 100, "unused byte")


class TreeDamageTest(DamageTest):
    def test_leaf_links_that_changed_places(self) -> None:
        page = self.world.pages[4]
        page[11:15], page[15:19] = page[15:19], page[11:15]
        findings = self.expect(4, 11, "previous leaf is page 5, the tree says page 3")
        words = "next leaf is page 3, the tree says page 5"
        self.assert_found(findings, self.world.place(self.store, 4, 15), words)

    def test_a_chain_of_leaves_that_does_not_end(self) -> None:
        struct.pack_into("<I", self.world.pages[5], 15, 3)
        self.expect(5, 15, "next leaf is page 3, the tree says none")

    def test_a_key_below_the_separator_of_its_page(self) -> None:
        self.world.pages[1] = forge.index_page(1, 3, [(b"dd", 4)])
        self.expect(4, 19, "key 64 is outside the bounds [6464, 6d)")

    def test_a_key_above_the_separator_of_the_next_page(self) -> None:
        self.world.pages[0] = forge.index_page(0, 1, [(b"f", 2)])
        self.assertIn("key 66 is outside the bounds [64, 66)", str(self.write_and_check()))

    def test_a_separator_outside_its_page(self) -> None:
        self.world.pages[2] = forge.index_page(1, 5, [(b"a", 4)])
        self.expect(2, 15, "separator 61 is not inside the bounds [6d, -)")

    def test_leaves_at_two_depths(self) -> None:
        self.world.pages[0] = forge.index_page(0, 1, [(b"m", 12)])
        self.world.pages[12] = forge.index_page(0, 2)
        self.world.slots[12] = 11
        self.world.max_fp_id = 12
        self.expect(2, 8, "leaves at depth 3, others at 2")

    def test_a_page_that_is_reached_twice(self) -> None:
        self.world.pages[2] = forge.index_page(1, 5, [(b"z", 3)])
        self.expect(2, 15, "page 3 is reached twice")

    def test_a_page_that_is_not_mapped(self) -> None:
        self.world.logs = [forge.log(self.world.roots, [(5, UNUSED)], self.world.terms)]
        self.expect(2, 11, "leads to page 5, which is not mapped")

    def test_a_page_id_beyond_the_mapping(self) -> None:
        self.world.pages[2] = forge.index_page(1, 1000)
        self.expect(2, 11, "leads to page 1000, which is not mapped")

    def test_a_mapped_page_that_nothing_leads_to(self) -> None:
        self.world.pages[1] = forge.index_page(1, 3)
        struct.pack_into("<I", self.world.pages[3], 15, 5)
        struct.pack_into("<I", self.world.pages[5], 11, 3)
        for page_id in (4, 7, 8, 9):
            self.expect(page_id, 0, f"page {page_id} is mapped, but nothing leads to it")

    def test_an_expiry_that_the_ttl_tree_lacks(self) -> None:
        self.world.pages[10] = forge.data_page([Put(forge.ttl_key(World.expire, b"a2"))])
        self.expect(5, self.entry_at(5, 1), "expiry of key 6e is not in the TTL tree")

    def test_a_ttl_entry_that_the_main_tree_lacks(self) -> None:
        keys = [forge.ttl_key(World.expire + i, k) for i, k in enumerate((b"a2", b"n", b"q"))]
        self.world.pages[10] = forge.data_page([Put(key) for key in keys], every=1)
        self.expect(10, self.entry_at(10, 2), "the main tree has not")

    def test_a_ttl_entry_with_a_value(self) -> None:
        keys = [forge.ttl_key(World.expire + i, k) for i, k in enumerate((b"a2", b"n"))]
        self.world.pages[10] = forge.data_page([Put(keys[0], b"v"), Put(keys[1], b"", 1)], every=1)
        findings = self.expect(10, 19, "has more than a key")
        self.assertEqual(len(findings), 2)

    def entry_at(self, page_id: int, index: int) -> int:
        """Offset of an entry in a page that the test made."""
        return parse_data_page(bytes(self.world.pages[page_id]), World.options).entries[index].at


class OverflowDamageTest(DamageTest):
    def test_a_chain_that_leads_back(self) -> None:
        self.world.pages[8] = forge.overflow_page(World.big[4084:8160], (7,))
        self.expect(8, 0, "page 7 is reached twice")

    def test_a_chain_that_ends_early(self) -> None:
        self.world.pages[8] = forge.overflow_page(World.big[4084:8160])
        self.expect(9, 0, "page 9 is mapped, but nothing leads to it")

    def test_a_page_that_is_not_filled(self) -> None:
        self.world.pages[7] = forge.overflow_page(World.big[:4083])
        self.expect(7, 9, "is (2, 4083, 0), not (2, 4084, 0)")

    def test_a_length_beyond_the_page(self) -> None:
        struct.pack_into("<H", self.world.pages[7], 9, 4085)
        self.expect(7, 9, "4085 bytes of value and 0 pointers do not fit")

    def test_pointers_within_a_group(self) -> None:
        self.world.pages[7] = forge.overflow_page(World.big[:4076], (9,))
        self.expect(7, 0, "within a group has pointers")

    def test_a_page_of_another_type(self) -> None:
        self.world.pages[9][8] = 2
        self.expect(9, 8, "page type 2 (data page) where only overflow page will do")

    def test_a_list_longer_than_the_option_says(self) -> None:
        options = dataclasses.replace(World.options, overflow_pointers=1)
        findings = self.write_and_check(options)
        self.assertIn("8 bytes are no list of overflow pages", str(findings))

    def test_a_value_that_would_fit_on_a_page(self) -> None:
        puts = self.world.puts[1]
        self.world.pages[4] = forge.data_page([puts[0], Put(b"e", b"", 10, 0, (9,)), puts[2]], 3, 5)
        self.assertIn("value of 100 bytes is in overflow pages", str(self.write_and_check()))
