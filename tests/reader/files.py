"""Names in a store, and pages out of data files."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from codec import Findings, Malformed, Options, Place
from manifest import State
from pages import check_checksum
from xxh3 import check_sample

_NUMBER = r"(0|[1-9][0-9]*)"
_DATA_FILE = re.compile(rf"data_{_NUMBER}_{_NUMBER}")
_MANIFEST = re.compile(rf"manifest_{_NUMBER}(?:_{_NUMBER})?")
_PARTITION = re.compile(rf"(.+)\.{_NUMBER}", re.DOTALL)

# Every so many pages, the two implementations of the hash are compared.
SAMPLE_EVERY = 128


class PartitionName(NamedTuple):
    table: str
    partition: int


def parse_partition_name(name: str) -> PartitionName | None:
    """Table and partition id of a directory's name, which is split at its last dot."""
    match = _PARTITION.fullmatch(name)
    if not match or int(match.group(2)) > 0xFFFFFFFF:
        return None
    return PartitionName(match.group(1), int(match.group(2)))


class PartitionDir:
    """What lies in a partition's directory, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_files: dict[tuple[int, int], Path] = {}
        self.manifests: dict[int, Path] = {}
        self.archives: dict[int, Path] = {}
        self.others: list[Path] = []
        for entry in sorted(path.iterdir()):
            self._sort_in(entry)

    def _sort_in(self, path: Path) -> None:
        if match := _DATA_FILE.fullmatch(path.name):
            self.data_files[int(match.group(1)), int(match.group(2))] = path
        elif match := _MANIFEST.fullmatch(path.name):
            if match.group(2) is None:
                self.manifests[int(match.group(1))] = path
            else:
                self.archives[int(match.group(2))] = path
        elif not path.name.endswith(".tmp"):
            self.others.append(path)


class Page(NamedTuple):
    """A page that was read: its id, its bytes, and where they begin."""

    page_id: int
    data: bytes
    place: Place


class PageSource:
    """Pages of one partition by page id: the mapping applied, checksums verified.

    A page that cannot be had is a finding, and so is one that is asked for twice, as two pointers
    never lead to the same page. `incomplete` then stays set: what was to be found behind that page
    is unknown.
    """

    def __init__(
        self, directory: PartitionDir, state: State, options: Options, findings: Findings
    ) -> None:
        self.directory = directory
        self.state = state
        self.options = options
        self.findings = findings
        self.visited: dict[int, Place] = {}
        self.incomplete = False

    def fetch(self, page_id: int, referrer: Place) -> Page | None:
        """The page with an id; referrer is where a pointer to it was found."""
        if page_id in self.visited:
            first = self.visited[page_id]
            return self.give_up(referrer, f"page {page_id} is reached twice, first from {first}")
        self.visited[page_id] = referrer
        file_page = self.state.file_page(page_id)
        if file_page is None:
            return self.give_up(referrer, f"leads to page {page_id}, which is not mapped")
        place = self._place_of(file_page)
        if place is None:
            file_id = file_page >> self.options.file_shift
            return self.give_up(referrer, f"page {page_id} is in data file {file_id}, not there")
        with open(place.path, "rb") as file:
            data = os.pread(file.fileno(), self.options.page_size, place.offset)
        if len(data) != self.options.page_size:
            return self.give_up(place, f"file ends before the end of page {page_id}")
        try:
            check_checksum(data)
        except Malformed as error:
            return self.give_up(place, f"page {page_id}: {error.what}")
        if len(self.visited) % SAMPLE_EVERY == 1 and not check_sample(data[8:]):
            raise RuntimeError(f"{place}: the implementations of XXH3 disagree")
        return Page(page_id, data, place)

    def give_up(self, place: Place, what: str) -> None:
        self.findings.add(place, what)
        self.incomplete = True

    def _place_of(self, file_page: int) -> Place | None:
        file_id = file_page >> self.options.file_shift
        term = self.state.terms.get(file_id)
        path = None if term is None else self.directory.data_files.get((file_id, term))
        if path is None:
            return None
        slot = file_page & ((1 << self.options.file_shift) - 1)
        return Place(path, slot * self.options.page_size)

    def check_all_reached(self, manifest: Place) -> None:
        """No mapped page is left that neither tree leads to."""
        if self.incomplete:
            return
        for page_id in self.state.live_pages():
            if page_id not in self.visited:
                place = self._place_of(self.state.mapping[page_id] >> 3) or manifest
                self.findings.add(place, f"page {page_id} is mapped, but nothing leads to it")
