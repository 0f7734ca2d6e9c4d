"""Planted damage in manifests and files: each kind is found, with its file and offset."""

import dataclasses
import os
import random
import struct
from collections.abc import Callable

import forge
from codec import NONE32, Place
from damage import DamageTest
from forge import World
from manifest import UNUSED
from store import Store


class ManifestDamageTest(DamageTest):
    def setUp(self) -> None:
        super().setUp()
        updates = [(11, UNUSED)]
        self.world.logs = [forge.log(self.world.roots, updates, self.world.terms) for _ in range(2)]

    def test_every_flipped_byte_of_a_record(self) -> None:
        self.world.write(self.store)
        data = self.manifest.read_bytes()
        for start in (0, 8192):
            size = 20 + struct.unpack_from("<I", data, start + 16)[0]
            for at in range(start, start + size):
                self.manifest.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
                _, findings = self.check()
                self.assertEqual([finding.place for finding in findings], [self.at_manifest(start)])

    def test_a_bad_record_before_a_good_one(self) -> None:
        self.world.logs[0] = self.world.logs[0][:8] + b"\1" + self.world.logs[0][9:]
        findings = self.expect_at(self.at_manifest(4096), "record checksum is wrong")
        self.assert_found(findings, self.at_manifest(8192), "good record behind the bad one")

    def test_a_file_cut_off_anywhere(self) -> None:
        self.world.write(self.store)
        data = self.manifest.read_bytes()
        for size, place, words in (
            (0, 0, "cut off inside its snapshot record"),
            (19, 0, "cut off inside its snapshot record"),
            (30, 0, "cut off inside its snapshot record"),
            (4095, 0, "file ends inside the padding"),
            (4096 + 10, 4096, "record is cut off"),
            (len(data) - 1, 8192, "file ends inside the padding"),
            (len(data) - 1, len(data) - 1, "not a multiple of 4096"),
        ):
            self.manifest.write_bytes(data[:size])
            self.assert_found(self.check()[1], self.at_manifest(place), words)

    def test_padding_only_in_stores_of_ours(self) -> None:
        self.world.logs[1] += b"remains"
        at = 8192 + len(self.world.logs[1]) - len(b"remains")
        self.expect_at(self.at_manifest(at), "padding of a record is not zero")
        theirs = dataclasses.replace(World.options, ours=False)
        self.assertEqual(self.check(theirs)[1], [])

    def test_two_pages_on_one_file_page(self) -> None:
        self.world.logs = [
            forge.log(self.world.roots, [(3, forge.live(self.world.slots[4]))], self.world.terms)
        ]
        words = "pages 3 and 4 are both mapped to file page 6"
        self.expect_at(self.at_manifest(0), words)

    def test_a_file_page_not_below_max_fp_id(self) -> None:
        self.world.max_fp_id = 10
        self.assertIn("file page 10 is not below max_fp_id 10", str(self.write_and_check()))

    def test_a_data_file_that_the_term_map_lacks(self) -> None:
        del self.world.terms[1]
        self.expect_at(self.at_manifest(0), "term map lacks data file 1")

    def test_a_data_file_named_too_late(self) -> None:
        self.world.overrides = {5: self.world.mapping()[5]}
        self.world.slots[5] = 12
        update = [(5, forge.live(12))]
        late = {**self.world.terms, 3: 0}
        self.world.logs = [
            forge.log(self.world.roots, update, terms) for terms in (self.world.terms, late)
        ]
        self.expect_at(self.at_manifest(4096), "term map lacks data file 3, which page 5")

    def test_a_term_that_names_another_file(self) -> None:
        self.world.terms[2] = 7
        self.world.logs = []
        self.expect_at(self.at_manifest(8), "page 0 is in data file 2, not there")

    def test_undefined_mapping_values(self) -> None:
        for value in (0, 3, 15, 4):
            self.world.overrides = {11: value}
            self.assertIn(f"mapping value {value:#x}", str(self.write_and_check()))

    def test_a_free_list_link_to_a_live_page(self) -> None:
        self.world.overrides = {11: 3 << 3 | 2}
        self.assertIn("free-list link to page 3, which is not free", str(self.write_and_check()))

    def test_a_free_list_link_in_a_log_record(self) -> None:
        self.world.logs = [forge.log(self.world.roots, [(11, 0x12)], self.world.terms)]
        self.expect_at(self.at_manifest(4096 + 25), "mapping value 0x12 (tag 2) in a log record")

    def test_bytes_behind_the_term_map(self) -> None:
        terms = forge.term_map(self.world.terms)
        self.world.logs = [forge.record(0, 6, bytes(4) + terms + b"\0")]
        at = 4096 + 20 + 4 + len(terms)
        self.expect_at(self.at_manifest(at), "bytes behind the term map")

    def test_a_root_that_is_not_a_page_id(self) -> None:
        self.world.logs = [forge.log((0, NONE32 - 1), [(11, UNUSED)], self.world.terms)]
        self.expect_at(self.at_manifest(4096 + 12), "root page id 4294967294 is out of range")


class FileDamageTest(DamageTest):
    def test_a_data_file_cut_short(self) -> None:
        self.world.write(self.store)
        place = self.world.place(self.store, 3)
        os.truncate(place.path, place.offset + 100)
        self.assert_found(self.check()[1], place, "file ends before the end of page 3")

    def test_a_data_file_that_is_not_there(self) -> None:
        self.world.write(self.store)
        self.world.place(self.store, 0).path.unlink()
        words = "page 0 is in data file 2, not there"
        self.assert_found(self.check()[1], self.at_manifest(8), words)

    def test_a_data_file_that_is_too_long(self) -> None:
        self.world.write(self.store)
        path = self.world.place(self.store, 10).path
        os.truncate(path, 5 * 4096)
        self.assert_found(self.check()[1], Place(path, 4 * 4096), "data file has 20480 bytes")

    def test_data_without_a_manifest(self) -> None:
        self.world.write(self.store)
        self.manifest.unlink()
        self.assert_found(self.check()[1], Place(self.manifest.parent, 0), "without a manifest")

    def test_strangers_beside_partitions_and_in_one(self) -> None:
        self.world.write(self.store)
        (self.store / "notes").touch()
        stranger = self.manifest.with_name("data_3")
        stranger.touch()
        findings = self.check()[1]
        self.assert_found(findings, Place(self.store / "notes", 0), "more than directories")
        self.assert_found(findings, Place(stranger, 0), "does not belong here")

    def test_an_archive_outside_append_mode(self) -> None:
        self.world.write(self.store)
        archive = self.manifest.with_name("manifest_0_17")
        archive.write_bytes(self.manifest.read_bytes())
        self.assert_found(self.check()[1], Place(archive, 0), "not in append mode")

    def test_a_partition_on_the_wrong_path(self) -> None:
        other = self.store.with_name("other")
        other.mkdir()
        self.world.write(self.store)
        store = Store([other, self.store], World.options)
        self.assertIn("partition is on the wrong store path", str(store.findings))

    def test_an_archive_with_a_flipped_byte(self) -> None:
        self.world.write(self.store)
        archive = self.manifest.with_name("manifest_0_17")
        data = bytearray(self.manifest.read_bytes())
        options = dataclasses.replace(World.options, append=True)
        archive.write_bytes(data)
        store = Store([self.store], options)
        self.assertEqual((len(store.check_archives()[17]), store.findings), (8, []))
        data[20] ^= 1
        archive.write_bytes(data)
        store = Store([self.store], options)
        store.check_archives()
        self.assert_found(store.findings, Place(archive, 0), "checksum of the snapshot record")


class RandomDamageTest(DamageTest):
    """Any byte changed, its checksum made good again: no crash, and nothing passes for the same."""

    ROUNDS = 600

    def setUp(self) -> None:
        super().setUp()
        self.seed = int(os.environ.get("TEST_SEED", random.getrandbits(32)))
        print(f"TEST_SEED={self.seed}")
        self.draw = random.Random(self.seed)
        self.world.write(self.store)
        self.sound = self.check()[0]
        self.damaged = 0

    def rounds(self, plant: Callable[[], str], always_noticed: bool) -> None:
        for _ in range(self.ROUNDS):
            what = plant()
            records, findings = self.check()
            if always_noticed and not findings:
                self.assertNotEqual(records, self.sound, f"TEST_SEED={self.seed}: {what}")

    def plant_in(self, page_ids: tuple[int, ...]) -> str:
        """Changes one byte of a page, and puts back the one of the round before."""
        self.write_page(self.damaged, self.world.pages[self.damaged])
        self.damaged = self.draw.choice(page_ids)
        page = bytearray(self.world.pages[self.damaged])
        used = struct.unpack_from("<H", page, 9)[0] + (11 if page[8] == 3 else 0)
        at = self.draw.choice((self.draw.randrange(8, used), self.draw.randrange(8, 4096)))
        page[at] ^= self.draw.randrange(1, 256)
        self.write_page(self.damaged, page)
        return f"byte {at} of page {self.damaged}"

    def write_page(self, page_id: int, page: bytearray) -> None:
        place = self.world.place(self.store, page_id)
        with open(place.path, "r+b") as file:
            file.seek(place.offset)
            file.write(forge.seal(page))

    def test_of_data_and_overflow_pages_is_always_noticed(self) -> None:
        self.rounds(lambda: self.plant_in((3, 4, 5, 7, 8, 9, 10)), always_noticed=True)

    def test_of_index_pages_does_not_crash(self) -> None:
        self.rounds(lambda: self.plant_in((0, 1, 2, 6)), always_noticed=False)

    def test_of_manifest_records_does_not_crash(self) -> None:
        sound = forge.snapshot((0, 6), 11, self.world.mapping(), self.world.terms)

        def plant() -> str:
            record = bytearray(sound)
            at = self.draw.randrange(8, len(record))
            record[at] ^= self.draw.randrange(1, 256)
            self.manifest.write_bytes(forge.pad(forge.seal_record(record)))
            return f"byte {at} of the manifest"

        self.rounds(plant, always_noticed=False)
