"""A manifest or archive as bytes: its records, replayed to the state that they describe.

A sound manifest is one snapshot record and any number of log records, each good and padded to a
multiple of 4096. Replay goes on over what is wrong as far as the format says that it does, so that
the rest can be checked too; each thing wrong is a finding.
"""

import dataclasses
import struct

from codec import NONE32, Findings, Malformed, Options, Place, Reader, first_nonzero
from pages import PAGE_ID_MAX
from xxh3 import mixed_hash64

ALIGNMENT = 4096
HEADER = 20
DICTIONARY_MAX = 16384

TAG_LIVE, TAG_FREE_LINK, UNUSED = 1, 2, 7

# Keys of the term map that are not data files.
TERM_OF_DIRECTORY = (1 << 64) - 1
TERM_OF_MANIFEST = (1 << 64) - 2


@dataclasses.dataclass
class State:
    """A partition as its manifest describes it."""

    main_root: int = NONE32
    ttl_root: int = NONE32
    max_fp_id: int = 0
    dictionary: bytes = b""
    mapping: list[int] = dataclasses.field(default_factory=list)
    terms: dict[int, int] = dataclasses.field(default_factory=dict)
    records: int = 0

    def file_page(self, page_id: int) -> int | None:
        """The file page that a page id is mapped to, if it is live."""
        if page_id < len(self.mapping) and self.mapping[page_id] & 7 == TAG_LIVE:
            return self.mapping[page_id] >> 3
        return None

    def live_pages(self) -> list[int]:
        return [i for i, value in enumerate(self.mapping) if value & 7 == TAG_LIVE]


@dataclasses.dataclass
class Record:
    """One record: [at, end) with its header, then padding up to `padded_end`."""

    at: int
    end: int
    padded_end: int
    checksum_is_good: bool


def replay(
    data: bytes, place: Place, options: Options, findings: Findings, is_archive: bool = False
) -> State | None:
    """The state after all good records of a manifest; None if it has no good snapshot."""
    first = _record_at(data, 0)
    if first is None:
        findings.add(place, f"manifest of {len(data)} bytes is cut off inside its snapshot record")
        return None
    if not first.checksum_is_good:
        findings.add(place, "checksum of the snapshot record is wrong")
        return None
    if len(data) % ALIGNMENT:
        findings.add(place.plus(len(data)), f"file length is not a multiple of {ALIGNMENT}")
    return _Replay(data, place, options, findings, is_archive).run(first)


def _record_at(data: bytes, at: int) -> Record | None:
    """The record that begins at `at`, if the file has all of it but perhaps padding."""
    if at + HEADER > len(data):
        return None
    (length,) = struct.unpack_from("<I", data, at + 16)
    end = at + HEADER + length
    if end > len(data):
        return None
    (stored,) = struct.unpack_from("<Q", data, at)
    padded_end = (end + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return Record(at, end, padded_end, stored == mixed_hash64(data[at + 8 : end]))


class _Replay:
    def __init__(
        self, data: bytes, place: Place, options: Options, findings: Findings, is_archive: bool
    ) -> None:
        self.data = data
        self.place = place
        self.options = options
        self.findings = findings
        self.is_archive = is_archive
        self.state = State()

    def run(self, first: Record) -> State | None:
        if not self._apply(first):
            return None
        at = first.padded_end
        first_bad = None
        while at < len(self.data):
            record = _record_at(self.data, at)
            if record is None:
                self._add(at, "record is cut off")
                break
            if not record.checksum_is_good:
                if first_bad is None:
                    self._add(at, "record checksum is wrong")
                    first_bad = at
            elif first_bad is not None:
                self._add(at, f"good record behind the bad one at offset {first_bad}")
                break
            elif self.is_archive:
                self._add(at, "archive has a second record")
                break
            elif not self._apply(record):
                break
            at = record.padded_end
        return self.state

    def _add(self, at: int, what: str) -> None:
        self.findings.add(self.place.plus(at), what)

    def _apply(self, record: Record) -> bool:
        """Applies a record with a good checksum. False if its payload does not decode."""
        state = self.state
        roots = struct.unpack_from("<II", self.data, record.at + 8)
        for i, root in enumerate(roots):
            if root != NONE32 and root > PAGE_ID_MAX:
                self._add(record.at + 8 + 4 * i, f"root page id {root} is out of range")
        state.main_root, state.ttl_root = roots
        reader = Reader(self.data, record.at + HEADER, record.end)
        try:
            if record.at == 0:
                touched = self._snapshot(reader)
            else:
                touched = self._log(reader)
            self._terms(reader)
            if not reader.at_end():
                raise Malformed(reader.pos, "bytes behind the term map")
        except Malformed as error:
            self._add(error.at, error.what)
            return False
        state.records += 1
        self._check_mapped(record, touched)
        self._check_padding(record)
        return True

    def _snapshot(self, reader: Reader) -> list[int]:
        state = self.state
        state.max_fp_id = reader.varint(64, "max_fp_id")
        at = reader.pos
        size = reader.varint(32, "dictionary length")
        if size > DICTIONARY_MAX:
            raise Malformed(at, f"dictionary of {size} bytes, at most {DICTIONARY_MAX} are allowed")
        state.dictionary = reader.take(size, "dictionary")
        mapping = self._part(reader, "mapping")
        links = []
        while not mapping.at_end():
            at = mapping.pos
            value = mapping.varint(64, "mapping value")
            self._check_value(at, value, is_snapshot=True)
            if value & 7 == TAG_LIVE and value >> 3 >= state.max_fp_id:
                self._add(at, f"file page {value >> 3} is not below max_fp_id {state.max_fp_id}")
            if value & 7 == TAG_FREE_LINK:
                links.append((value >> 3, at))
            state.mapping.append(value)
        linked = set()
        for page_id, at in links:
            if page_id >= len(state.mapping) or state.file_page(page_id) is not None:
                self._add(at, f"free-list link to page {page_id}, which is not free")
            if page_id in linked:
                self._add(at, f"second free-list link to page {page_id}")
            linked.add(page_id)
        return state.live_pages()

    def _log(self, reader: Reader) -> list[int]:
        state = self.state
        mapping = self._part(reader, "mapping updates")
        touched = []
        while not mapping.at_end():
            at = mapping.pos
            page_id = mapping.varint(32, "page id")
            if page_id > PAGE_ID_MAX:
                raise Malformed(at, f"page id {page_id} is out of range")
            at = mapping.pos
            value = mapping.varint(64, "mapping value")
            self._check_value(at, value, is_snapshot=False)
            gap = page_id + 1 - len(state.mapping)
            if gap > len(self.data) + (1 << 20):
                raise Malformed(at, f"page id {page_id} leaves a gap of {gap} pages")
            state.mapping.extend([UNUSED] * gap)
            state.mapping[page_id] = value
            if value & 7 == TAG_LIVE:
                state.max_fp_id = max(state.max_fp_id, (value >> 3) + 1)
                touched.append(page_id)
        return touched

    def _part(self, reader: Reader, what: str) -> Reader:
        """The bytes behind a length of 32 bits, as a reader of their own."""
        size = reader.fixed(4, f"{what} length")
        start = reader.pos
        reader.take(size, what)
        return Reader(self.data, start, reader.pos)

    def _check_value(self, at: int, value: int, is_snapshot: bool) -> None:
        tag = value & 7
        if tag == TAG_LIVE or value == UNUSED or (tag == TAG_FREE_LINK and is_snapshot):
            return
        where = "snapshot" if is_snapshot else "log record"
        self._add(at, f"mapping value {value:#x} (tag {tag}) in a {where}")

    def _terms(self, reader: Reader) -> None:
        pairs = self._part(reader, "term map")
        while not pairs.at_end():
            at = pairs.pos
            file_id = pairs.varint(64, "file id")
            term = pairs.varint(64, "term")
            if file_id == TERM_OF_DIRECTORY:
                self._add(at, "term map has the directory's key")
            if file_id == TERM_OF_MANIFEST and term:
                self._add(at, f"manifest has term {term}: it is 0 in local mode")
            self.state.terms[file_id] = term

    def _check_mapped(self, record: Record, touched: list[int]) -> None:
        """What a record maps must lie in files that it, or one before it, names."""
        users: dict[int, int] = {}
        for page_id in touched:
            file_page = self.state.file_page(page_id)
            if file_page is not None:
                users.setdefault(file_page >> self.options.file_shift, page_id)
        for file_id, page_id in users.items():
            if file_id not in self.state.terms:
                what = f"term map lacks data file {file_id}, which page {page_id} is mapped to"
                self._add(record.at, what)

    def _check_padding(self, record: Record) -> None:
        if record.padded_end > len(self.data):
            self._add(record.at, "file ends inside the padding of this record")
        if self.options.ours:
            at = first_nonzero(self.data[record.end : record.padded_end])
            if at is not None:
                self._add(record.end + at, "padding of a record is not zero")


def check_unique(state: State, place: Place, findings: Findings) -> None:
    """No two page ids are mapped to one file page."""
    owners: dict[int, int] = {}
    for page_id in state.live_pages():
        file_page = state.mapping[page_id] >> 3
        if file_page in owners:
            both = f"pages {owners[file_page]} and {page_id}"
            findings.add(place, f"{both} are both mapped to file page {file_page}")
        owners.setdefault(file_page, page_id)
