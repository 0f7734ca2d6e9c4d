"""One partition: its manifest (or an archive), both trees, and what ties them together."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from codec import Findings, Options, Place, printable
from files import PageSource, PartitionDir, PartitionName
from manifest import ALIGNMENT, State, check_unique, replay
from tree import Located, Tree
from values import Values, Zstd

KEY_PREFIX = 8  # of the TTL tree: the expiry, big-endian


class Record(NamedTuple):
    """An entry as a client sees it. `value` is None if it is compressed and stays so."""

    table: str
    partition: int
    key: bytes
    value: bytes | None
    value_len: int
    timestamp: int
    expire_ts: int


Sink = Callable[[Record], None]


class PartitionCheck:
    """Checks a partition and hands out its records, in key order."""

    def __init__(
        self, name: PartitionName, directory: PartitionDir, options: Options, findings: Findings
    ) -> None:
        self.name = name
        self.directory = directory
        self.options = options
        self.findings = findings
        self.zstd = Zstd()

    def check_files(self) -> None:
        """Names and lengths of the files, whatever is in them."""
        directory = self.directory
        for term, path in directory.manifests.items():
            if term:
                self.findings.add(Place(path, 0), f"manifest of term {term}: it is 0 in local mode")
        if directory.data_files and 0 not in directory.manifests:
            self.findings.add(Place(directory.path, 0), "data files without a manifest")
        if directory.archives and not self.options.append:
            path = next(iter(directory.archives.values()))
            self.findings.add(Place(path, 0), "archive in a store that is not in append mode")
        size_max = self.options.page_size << self.options.file_shift
        for path in directory.data_files.values():
            size = path.stat().st_size
            if size > size_max:
                self.findings.add(Place(path, size_max), f"data file has {size} bytes")
            if self.options.ours and size % ALIGNMENT:
                self.findings.add(Place(path, size), f"length is not a multiple of {ALIGNMENT}")
        for path in directory.others if self.options.ours else []:
            self.findings.add(Place(path, 0), "file that does not belong here")

    def check_manifest(self, path: Path, sink: Sink, is_archive: bool = False) -> None:
        """The state that a manifest describes, with every page of it."""
        place = Place(path, 0)
        state = replay(path.read_bytes(), place, self.options, self.findings, is_archive)
        if state is None:
            return
        check_unique(state, place, self.findings)
        source = PageSource(self.directory, state, self.options, self.findings)
        expiries = self._check_main_tree(source, state, place, sink)
        self._check_ttl_tree(source, state, place, expiries)
        source.check_all_reached(place)

    def _check_main_tree(
        self, source: PageSource, state: State, manifest: Place, sink: Sink
    ) -> dict[bytes, Place]:
        """Returns the keys that the TTL tree must have, with the places of their entries."""
        values = Values(source, self.zstd)
        expiries = {}
        for located in Tree(source, "main tree").walk(state.main_root, manifest.plus(8)):
            entry = located.entry
            if entry.expire:
                key = entry.expire.to_bytes(KEY_PREFIX, "big") + entry.key
                expiries[key] = located.place
            value = values.value_of(located)
            if value is not None:
                sink(Record(*self.name, entry.key, *value, entry.timestamp, entry.expire))
        return expiries

    def _check_ttl_tree(
        self, source: PageSource, state: State, manifest: Place, expiries: dict[bytes, Place]
    ) -> None:
        found = {}
        for located in Tree(source, "TTL tree").walk(state.ttl_root, manifest.plus(12)):
            self._check_ttl_entry(located)
            found[located.entry.key] = located.place
        if source.incomplete:
            return
        for key, place in expiries.items():
            if key not in found:
                user_key = printable(key[KEY_PREFIX:])
                self.findings.add(place, f"expiry of key {user_key} is not in the TTL tree")
        for key, place in found.items():
            if key not in expiries:
                self.findings.add(place, f"TTL tree has {printable(key)}, the main tree has not")

    def _check_ttl_entry(self, located: Located) -> None:
        entry, place = located
        if len(entry.key) <= KEY_PREFIX:
            self.findings.add(place, f"TTL key {entry.key.hex()} has no user key")
        plain = not (entry.stored or entry.is_overflow or entry.compression or entry.expire)
        if not plain or entry.timestamp:
            self.findings.add(place, f"TTL entry {printable(entry.key)} has more than a key")
