"""A whole store: its paths, partition by partition."""

import configparser
import os
from pathlib import Path
from typing import NamedTuple

from codec import Findings, Options, Place
from files import PartitionDir, PartitionName, parse_partition_name
from partition import PartitionCheck, Record

_UNITS = {"KB": 10, "MB": 20, "GB": 30, "TB": 40}


def parse_size(text: str) -> int:
    """A number of bytes with an optional unit, as in an ini file."""
    text = text.strip().upper()
    if text[-2:] in _UNITS:
        return int(text[:-2]) << _UNITS[text[-2:]]
    return int(text)


def options_of_ini(path: Path) -> Options:
    """The options that a reader must know, from the ini file that a store was written with."""
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(path.read_text())
    permanent = ini["permanent"] if ini.has_section("permanent") else {}
    page_size = parse_size(permanent.get("data_page_size", "4KB"))
    shift = Options.file_shift
    if "data_file_size" in permanent:
        pages = parse_size(permanent["data_file_size"]) // page_size
        shift = max(pages, 1).bit_length() - 1
    return Options(
        page_size=page_size,
        file_shift=shift,
        overflow_pointers=int(permanent.get("overflow_pointers", "16")),
        append=permanent.get("data_append_mode", "false").lower() == "true",
    )


class Found(NamedTuple):
    """A partition and the directory it lies in."""

    name: PartitionName
    directory: PartitionDir


class Store:
    """The store paths of a store, in their order."""

    def __init__(self, paths: list[Path], options: Options) -> None:
        self.paths = paths
        self.options = options
        self.findings = Findings()
        self.partitions = self._list()

    def _list(self) -> list[Found]:
        found = []
        for index, path in enumerate(self.paths):
            for entry in path.iterdir():
                name = parse_partition_name(entry.name)
                if not entry.is_dir():
                    self.findings.add(Place(entry, 0), "store path holds more than directories")
                elif name is None:
                    continue
                elif name.partition % len(self.paths) != index:
                    self.findings.add(Place(entry, 0), "partition is on the wrong store path")
                else:
                    found.append(Found(name, PartitionDir(entry)))
        return sorted(found, key=lambda f: (os.fsencode(f.name.table), f.name.partition))

    def check(self) -> list[Record]:
        """Checks everything; returns the live records, sorted by table, partition and key."""
        records: list[Record] = []
        for found in self.partitions:
            check = PartitionCheck(*found, self.options, self.findings)
            check.check_files()
            if 0 in found.directory.manifests:
                check.check_manifest(found.directory.manifests[0], records.append)
        return records

    def check_archives(self) -> dict[int, list[Record]]:
        """Checks all archives; returns the records of each, over all partitions."""
        archives: dict[int, list[Record]] = {}
        if not self.options.append:
            return archives
        for found in self.partitions:
            check = PartitionCheck(*found, self.options, self.findings)
            for stamp, path in found.directory.archives.items():
                sink = archives.setdefault(stamp, []).append
                check.check_manifest(path, sink, is_archive=True)
        return archives
