"""What the reference implementation wrote is found sound, and is what it said that it wrote."""

import contextlib
import dataclasses
import io
import os
import random
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import eloqreader
import fixtures
import jsonl
import pages
import xxh3
from codec import Options, Place
from files import PageSource
from manifest import replay
from store import Store
from values import Zstd


def check(store: Path, options: Options) -> tuple[list, Store]:
    opened = Store([store], options)
    return opened.check(), opened


class FixtureTest(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def expect_sound(self, name: str) -> None:
        fixture = fixtures.Fixture(name, self.scratch)
        records, store = check(fixture.store, fixture.options)
        self.assertEqual(store.findings, [])
        expected = list(jsonl.read(fixture.expected))
        self.assertEqual(jsonl.differences(records, expected), [])
        names = [(r.table, r.partition, r.key) for r in records]
        self.assertEqual(names, sorted(set(names)))
        archives = store.check_archives()
        self.assertEqual(store.findings, [])
        wanted = fixture.expected_of_archives()
        self.assertEqual(set(archives), set(wanted))
        for stamp, path in wanted.items():
            self.assertEqual(jsonl.differences(archives[stamp], jsonl.read(path)), [])

    def test_f01_basic_append(self) -> None:
        self.expect_sound("f01_basic-append")

    def test_f01_basic_inplace(self) -> None:
        self.expect_sound("f01_basic-inplace")

    def test_f03_overflow_append(self) -> None:
        self.expect_sound("f03_overflow-append")

    def test_f03_overflow_inplace(self) -> None:
        self.expect_sound("f03_overflow-inplace")

    def test_f05_compressed_append(self) -> None:
        self.expect_sound("f05_compressed-append")

    def test_f05_compressed_inplace(self) -> None:
        self.expect_sound("f05_compressed-inplace")

    def test_f07_archive_append(self) -> None:
        self.expect_sound("f07_archive-append")

    def test_f09_truncate_drop_append(self) -> None:
        self.expect_sound("f09_truncate_drop-append")

    def test_f09_truncate_drop_inplace(self) -> None:
        self.expect_sound("f09_truncate_drop-inplace")

    def test_f11_pagesize_append(self) -> None:
        self.expect_sound("f11_pagesize-append")

    def test_f11_pagesize_inplace(self) -> None:
        self.expect_sound("f11_pagesize-inplace")

    def test_each_fixture_has_a_test_here(self) -> None:
        tested = {name.removeprefix("test_") for name in dir(self) if name.startswith("test_f")}
        self.assertEqual(tested, {name.replace("-", "_") for name in fixtures.NAMES})

    def test_without_libxxhash_the_same_is_found(self) -> None:
        with mock.patch.object(pages, "hash64", xxh3.pure_hash64):
            self.expect_sound("f01_basic-inplace")

    def test_without_zstd_lengths_still_agree(self) -> None:
        with mock.patch.object(Zstd, "decompress", return_value=None):
            self.expect_sound("f05_compressed-inplace")

    def test_compressed_values_are_decoded_here(self) -> None:
        if Zstd().source().startswith("none"):
            self.skipTest("neither libzstd.so.1 nor zstandard: compressed values are not compared")
        fixture = fixtures.Fixture("f05_compressed-append", self.scratch)
        records, _ = check(fixture.store, fixture.options)
        self.assertFalse([record for record in records if record.value is None])

    def test_every_flipped_byte_of_a_live_page_is_found_and_named(self) -> None:
        seed = int(os.environ.get("TEST_SEED", random.getrandbits(32)))
        print(f"TEST_SEED={seed}")
        draw = random.Random(seed)
        for name in ("f01_basic-append", "f03_overflow-inplace", "f09_truncate_drop-inplace"):
            fixture = fixtures.Fixture(name, self.scratch)
            for _ in range(10):
                self.flip_and_check(fixture, draw)

    def flip_and_check(self, fixture: fixtures.Fixture, draw: random.Random) -> None:
        _, store = check(fixture.store, fixture.options)
        live = []
        for found in store.partitions:
            manifest = Place(found.directory.manifests[0], 0)
            state = replay(manifest.path.read_bytes(), manifest, fixture.options, store.findings)
            source = PageSource(found.directory, state, fixture.options, store.findings)
            live += [source.fetch(page_id, manifest) for page_id in state.live_pages()]
        page = draw.choice(live)
        at = page.place.offset + draw.randrange(fixture.options.page_size)
        with open(page.place.path, "r+b") as file:
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ draw.randrange(1, 256)]))
            file.flush()
            _, store = check(fixture.store, fixture.options)
            self.assertEqual([finding.place for finding in store.findings], [page.place])
            file.seek(at)
            file.write(old)

    def test_wrong_options_are_not_taken_for_a_sound_store(self) -> None:
        fixture = fixtures.Fixture("f03_overflow-inplace", self.scratch)
        for wrong in ({"page_size": 8192}, {"file_shift": 4}, {"overflow_pointers": 15}):
            _, store = check(fixture.store, dataclasses.replace(fixture.options, **wrong))
            self.assertTrue(store.findings, wrong)


class CommandTest(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.fixture = fixtures.Fixture("f01_basic-append", Path(scratch.name))

    def run_command(self, command: str, *words: str) -> tuple[int, str, str]:
        config = ["--config", str(self.fixture.path / "options.ini")]
        argv = ["eloqreader.py", command, *config, *words, str(self.fixture.store)]
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out):
            with contextlib.redirect_stderr(err):
                code = eloqreader.main()
        return code, out.getvalue(), err.getvalue()

    def test_check_counts_and_says_which_hash_was_used(self) -> None:
        code, out, err = self.run_command("check")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("1 partitions, 1000 records", out)
        self.assertIn(f"XXH3: {xxh3.SOURCE}", out)

    def test_what_dump_prints_compares_equal(self) -> None:
        code, out, _ = self.run_command("dump")
        self.assertEqual(code, 0)
        lines = self.fixture.path / "dump.jsonl"
        lines.write_text(out)
        self.assertEqual(self.run_command("compare", str(lines))[0], 0)
        self.assertTrue(out.startswith('{"table":"t1","partition":0,"key":"6b65795f303030303030",'))

    def test_compare_names_what_is_missing_too_much_or_different(self) -> None:
        lines = self.fixture.expected.read_text().splitlines()
        lines[1] = lines[1].replace('"timestamp":1001', '"timestamp":1')
        lines[2] = lines[2].replace("6b6579", "ffffff")
        self.fixture.expected.write_text("\n".join(lines))
        code, out, err = self.run_command("compare", str(self.fixture.expected))
        self.assertEqual((code, out), (1, "3 differences\n"))
        for words in ("timestamp is 1001, expected 1", "is missing", "is not expected"):
            self.assertIn(words, err)

    def test_a_damaged_store_ends_with_1_and_names_the_place(self) -> None:
        path = self.fixture.store / "t1.0" / "manifest_0"
        data = bytearray(path.read_bytes())
        data[9] ^= 1
        path.write_bytes(data)
        code, _, err = self.run_command("check")
        self.assertEqual(code, 1)
        self.assertIn(f"{path}: offset 0: checksum of the snapshot record is wrong", err)
