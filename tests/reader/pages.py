"""Pages as bytes: checksum, type, entries, restart arrays.

Knows nothing of trees or files: a page is taken apart on its own, and whatever in it breaks a rule
of the format is Malformed, with its offset in the page.
"""

import dataclasses
import struct
from typing import NamedTuple

from codec import NONE32, Malformed, Options, Reader
from codec import first_nonzero, printable, signed_code, varint_size
from xxh3 import hash64

INDEX_OF_INDEXES, INDEX_OF_LEAVES, DATA, OVERFLOW = 0, 1, 2, 3
TYPE_NAMES = {0: "index page", 1: "leaf index page", 2: "data page", 3: "overflow page"}
INDEX_TYPES = (INDEX_OF_INDEXES, INDEX_OF_LEAVES)

DATA_HEADER = 19
INDEX_HEADER = 15
PREV_AT, NEXT_AT = 11, 15

FLAG_OVERFLOW, FLAG_EXPIRY = 1, 2
COMPRESSION_NONE, COMPRESSION_DICTIONARY, COMPRESSION_PLAIN = 0, 1, 2

PAGE_ID_MAX = (1 << 31) - 1
TIMESTAMP_MAX = (1 << 63) - 1


class Entry(NamedTuple):
    """An entry of a data page; `stored` is its value, or a list of overflow pages."""

    at: int
    key: bytes
    stored: bytes
    is_overflow: bool
    compression: int
    expire: int
    timestamp: int

    def alone_size(self, stored_size: int, is_overflow: bool) -> int:
        """What it would cost as the only entry of a page, if that many bytes were stored in it."""
        flags = is_overflow | (FLAG_EXPIRY if self.expire else 0) | self.compression << 2
        return (
            varint_size(0)
            + varint_size(len(self.key))
            + varint_size(stored_size << 4 | flags)
            + len(self.key)
            + stored_size
            + (varint_size(self.expire) if self.expire else 0)
            + varint_size(signed_code(self.timestamp))
        )


@dataclasses.dataclass
class DataPage:
    prev: int
    next: int
    entries: list[Entry]


class Child(NamedTuple):
    at: int
    separator: bytes
    page_id: int


@dataclasses.dataclass
class IndexPage:
    """`children` leaves out the leftmost one, which has no separator."""

    has_leaves: bool
    leftmost: int
    children: list[Child]


@dataclasses.dataclass
class OverflowPage:
    value: bytes
    pointers: list[int]


def check_checksum(page: bytes) -> None:
    stored = int.from_bytes(page[:8], "little")
    counted = hash64(page[8:])
    if stored != counted:
        raise Malformed(0, f"page checksum is {stored:016x}, its bytes have {counted:016x}")


def check_type(page: bytes, wanted: tuple[int, ...]) -> None:
    if page[8] not in wanted:
        names = " or ".join(TYPE_NAMES[t] for t in wanted)
        found = TYPE_NAMES.get(page[8], "no type known")
        raise Malformed(8, f"page type {page[8]} ({found}) where only {names} will do")


def _page_id(page_id: int, at: int) -> int:
    if not 0 <= page_id <= PAGE_ID_MAX:
        raise Malformed(at, f"page id {page_id} is out of range")
    return page_id


def _restarts(page: bytes, header: int) -> tuple[list[int], int]:
    """The restart array of a data or index page, and where the entries end."""
    (length,) = struct.unpack_from("<H", page, 9)
    if not header + 2 <= length <= len(page):
        raise Malformed(9, f"content length {length} of a page of {len(page)} bytes")
    (count,) = struct.unpack_from("<H", page, length - 2)
    start = length - 2 * (count + 1)
    if start < header:
        raise Malformed(length - 2, f"{count} restarts do not fit into the page")
    restarts = list(struct.unpack_from(f"<{count}H", page, start))
    if count and restarts[0] != header:
        raise Malformed(start, f"first restart is {restarts[0]}, not {header}")
    for i in range(1, count):
        if not restarts[i - 1] < restarts[i] < start:
            raise Malformed(start + 2 * i, f"restart {restarts[i]} is out of order")
    if not count and start != header:
        raise Malformed(length - 2, "entries, but no restart")
    return restarts, start


def _check_unused(page: bytes, start: int, end: int, options: Options) -> None:
    if options.ours:
        at = first_nonzero(page[start:end])
        if at is not None:
            raise Malformed(start + at, "unused byte of a page is not zero")


class _Keys:
    """Rebuilds the keys of a page, and sees to it that each restart is met and keys ascend."""

    def __init__(self, restarts: list[int], key_max: int) -> None:
        self.restarts = restarts
        self.passed = 0
        self.key_max = key_max
        self.last = b""

    def is_restart(self, at: int) -> bool:
        if self.passed < len(self.restarts):
            if self.restarts[self.passed] == at:
                self.passed += 1
                return True
            if self.restarts[self.passed] < at:
                self.missed()
        return False

    def missed(self) -> None:
        restart = self.restarts[self.passed]
        raise Malformed(restart, f"restart {restart} is inside an entry")

    def join(self, at: int, restart: bool, shared: int, suffix: bytes) -> bytes:
        if restart and shared:
            raise Malformed(at, f"restart entry shares {shared} bytes of a key")
        if shared > len(self.last):
            raise Malformed(at, f"shares {shared} bytes of a key of {len(self.last)}")
        key = self.last[:shared] + suffix
        if key <= self.last:
            what = f"key {printable(key)} is not above the one before, {printable(self.last)}"
            raise Malformed(at, what if key else "key is empty")
        if len(key) > self.key_max:
            raise Malformed(at, f"key of {len(key)} bytes, at most {self.key_max} are allowed")
        self.last = key
        return key

    def finish(self) -> None:
        if self.passed != len(self.restarts):
            self.missed()


def parse_data_page(page: bytes, options: Options) -> DataPage:
    check_type(page, (DATA,))
    restarts, end = _restarts(page, DATA_HEADER)
    if not restarts:
        raise Malformed(9, "data page without entries")
    prev_id, next_id = struct.unpack_from("<II", page, PREV_AT)
    for at, page_id in ((PREV_AT, prev_id), (NEXT_AT, next_id)):
        if page_id != NONE32:
            _page_id(page_id, at)

    keys = _Keys(restarts, options.page_size // 2)
    reader = Reader(page, DATA_HEADER, end)
    entries = []
    timestamp = 0
    while not reader.at_end():
        at = reader.pos
        restart = keys.is_restart(at)
        shared = reader.varint(32, "shared key bytes")
        non_shared = reader.varint(32, "key bytes")
        length = reader.varint(32, "value length")
        key = keys.join(at, restart, shared, reader.take(non_shared, "key"))
        stored = reader.take(length >> 4, "value")
        compression = length >> 2 & 3
        if compression == 3:
            raise Malformed(at, "compression code 3")
        expire = reader.varint(64, "expiry") if length & FLAG_EXPIRY else 0
        if length & FLAG_EXPIRY and not expire:
            raise Malformed(at, "expiry 0 is stored")
        timestamp = reader.signed(64, "timestamp") + (0 if restart else timestamp)
        if not 0 <= timestamp <= TIMESTAMP_MAX:
            raise Malformed(at, f"timestamp {timestamp} is out of range")
        is_overflow = bool(length & FLAG_OVERFLOW)
        entries.append(Entry(at, key, stored, is_overflow, compression, expire, timestamp))
    keys.finish()
    _check_unused(page, end + 2 * len(restarts) + 2, len(page), options)
    return DataPage(prev_id, next_id, entries)


def parse_index_page(page: bytes, options: Options) -> IndexPage:
    check_type(page, INDEX_TYPES)
    restarts, end = _restarts(page, INDEX_HEADER)
    leftmost = _page_id(struct.unpack_from("<I", page, 11)[0], 11)
    keys = _Keys(restarts, options.page_size // 2)
    reader = Reader(page, INDEX_HEADER, end)
    children = []
    page_id = 0
    while not reader.at_end():
        at = reader.pos
        restart = keys.is_restart(at)
        shared = reader.varint(32, "shared key bytes")
        non_shared = reader.varint(32, "key bytes")
        separator = keys.join(at, restart, shared, reader.take(non_shared, "key"))
        page_id = reader.signed(32, "child") + (0 if restart else page_id)
        children.append(Child(at, separator, _page_id(page_id, at)))
    keys.finish()
    _check_unused(page, end + 2 * len(restarts) + 2, len(page), options)
    return IndexPage(page[8] == INDEX_OF_LEAVES, leftmost, children)


def parse_overflow_page(page: bytes, options: Options) -> OverflowPage:
    check_type(page, (OVERFLOW,))
    (length,) = struct.unpack_from("<H", page, 9)
    count = page[-1]
    pointers_at = len(page) - 1 - 4 * count
    if 11 + length > pointers_at:
        raise Malformed(9, f"{length} bytes of value and {count} pointers do not fit")
    pointers = struct.unpack_from(f"<{count}I", page, pointers_at)
    for i, page_id in enumerate(pointers):
        _page_id(page_id, pointers_at + 4 * i)
    _check_unused(page, 11 + length, pointers_at, options)
    return OverflowPage(page[11 : 11 + length], list(pointers))
