"""What tests of planted damage share: a store that is sound until a test changes it."""

import shutil
import tempfile
import unittest
from pathlib import Path

from codec import Findings, Options, Place
from forge import World
from partition import Record
from store import Store


class DamageTest(unittest.TestCase):
    """Writes its world, checks it, and looks for what must be said about it."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.store = Path(scratch.name) / "store"
        self.world = World()
        self.manifest = self.world.path(self.store) / "manifest_0"

    def check(self, options: Options = World.options) -> tuple[list[Record], Findings]:
        store = Store([self.store], options)
        return store.check(), store.findings

    def write_and_check(self, options: Options = World.options) -> Findings:
        shutil.rmtree(self.store, ignore_errors=True)
        self.world.write(self.store)
        return self.check(options)[1]

    def expect(self, page_id: int, at: int, words: str) -> Findings:
        """Damage at a byte of a page; `words` are in what is said about it."""
        return self.expect_at(self.world.place(self.store, page_id, at), words)

    def expect_at(self, place: Place, words: str) -> Findings:
        findings = self.write_and_check()
        self.assert_found(findings, place, words)
        return findings

    def assert_found(self, findings: Findings, place: Place, words: str) -> None:
        said = [f.what for f in findings if f.place == place]
        self.assertTrue(any(words in what for what in said), f"{place}: {words}, not in {findings}")

    def at_manifest(self, offset: int) -> Place:
        return Place(self.manifest, offset)
