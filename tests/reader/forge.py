"""Makes pages, records and a small store by hand, for tests: sound ones, and then damaged ones."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from codec import NONE32, Options, Place, signed_code
from manifest import ALIGNMENT, TERM_OF_MANIFEST, UNUSED
from xxh3 import hash64, mixed_hash64


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def signed(value: int) -> bytes:
    return varint(signed_code(value))


def seal(page: bytes) -> bytes:
    """A page with its checksum made good."""
    return hash64(bytes(page[8:])).to_bytes(8, "little") + bytes(page[8:])


def _shared(a: bytes, b: bytes) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


class Put(NamedTuple):
    """An entry to be; pages: the overflow pages that `value` is in."""

    key: bytes
    value: bytes = b""
    ts: int = 0
    expire: int = 0
    pages: tuple[int, ...] = ()


def _with_restarts(head: bytes, entries: list[bytes], every: int, size: int) -> bytearray:
    body, restarts = bytearray(head), []
    for i, entry in enumerate(entries):
        if i % every == 0:
            restarts.append(len(body))
        body += entry
    body += struct.pack(f"<{len(restarts) + 1}H", *restarts, len(restarts))
    struct.pack_into("<H", body, 9, len(body))
    return body + bytes(size - len(body))


def data_page(
    puts: list[Put], prev: int = NONE32, next: int = NONE32, every: int = 16, size: int = 4096
) -> bytearray:
    entries = []
    last = Put(b"")
    for i, put in enumerate(puts):
        if i % every == 0:
            last = Put(b"")
        shared = _shared(last.key, put.key)
        stored = struct.pack(f"<{len(put.pages)}I", *put.pages) if put.pages else put.value
        flags = bool(put.pages) | bool(put.expire) << 1
        entries.append(
            varint(shared) + varint(len(put.key) - shared) + varint(len(stored) << 4 | flags)
            + put.key[shared:] + stored
            + (varint(put.expire) if put.expire else b"") + signed(put.ts - last.ts)
        )  # fmt: skip
        last = put
    head = bytes(8) + b"\x02" + bytes(2) + struct.pack("<II", prev, next)
    return _with_restarts(head, entries, every, size)


def index_page(
    page_type: int,
    leftmost: int,
    children: Iterable[tuple[bytes, int]] = (),
    every: int = 16,
    size: int = 4096,
) -> bytearray:
    entries = []
    last_key, last_id = b"", 0
    for i, (key, page_id) in enumerate(children):
        if i % every == 0:
            last_key, last_id = b"", 0
        shared = _shared(last_key, key)
        entries.append(
            varint(shared) + varint(len(key) - shared) + key[shared:] + signed(page_id - last_id)
        )
        last_key, last_id = key, page_id
    head = bytes(8) + bytes([page_type]) + bytes(2) + struct.pack("<I", leftmost)
    return _with_restarts(head, entries, every, size)


def overflow_page(value: bytes, pointers: tuple[int, ...] = (), size: int = 4096) -> bytearray:
    tail = struct.pack(f"<{len(pointers)}I", *pointers) + bytes([len(pointers)])
    head = bytes(8) + b"\x03" + struct.pack("<H", len(value)) + value
    return bytearray(head + bytes(size - len(head) - len(tail)) + tail)


def ttl_key(expire: int, key: bytes) -> bytes:
    """The key of the TTL tree for a key with an expiry."""
    return expire.to_bytes(8, "big") + key


def live(file_page: int) -> int:
    """The mapping value of a live page."""
    return file_page << 3 | 1


def term_map(terms: dict[int, int]) -> bytes:
    pairs = b"".join(varint(file_id) + varint(term) for file_id, term in terms.items())
    return struct.pack("<I", len(pairs)) + pairs


def seal_record(record: bytes) -> bytes:
    return mixed_hash64(bytes(record[8:])).to_bytes(8, "little") + bytes(record[8:])


def record(main_root: int, ttl_root: int, payload: bytes) -> bytes:
    """A record without its padding."""
    return seal_record(bytes(8) + struct.pack("<III", main_root, ttl_root, len(payload)) + payload)


def snapshot(
    roots: tuple[int, int], max_fp_id: int, mapping: list[int], terms: dict[int, int]
) -> bytes:
    values = b"".join(map(varint, mapping))
    head = varint(max_fp_id) + varint(0) + struct.pack("<I", len(values))
    return record(*roots, head + values + term_map(terms))


def log(roots: tuple[int, int], updates: list[tuple[int, int]], terms: dict[int, int]) -> bytes:
    pairs = b"".join(varint(page_id) + varint(value) for page_id, value in updates)
    return record(*roots, struct.pack("<I", len(pairs)) + pairs + term_map(terms))


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


class World:
    """A sound partition that has one of everything, in memory until it is written.

    Main tree: page 0 over the leaf index pages 1 and 2, leaves 3, 4 and 5; the value of `e` lies
    in overflow pages 7 and 8 and, as a second group, 9. TTL tree: page 6 over leaf 10. Page 11 is
    free. Tests change what they like before write(), which makes good all checksums but those of
    the pages in `rotten`.
    """

    options = Options(file_shift=2, overflow_pointers=2, ours=True)
    expire = 4102444800000
    big = bytes(i * 7 % 251 for i in range(4084 + 4076 + 100))

    def __init__(self) -> None:
        self.puts = [
            [Put(b"a1", b"one", 5), Put(b"a2", b"two", 3, self.expire), Put(b"b", b"", 3)],
            [Put(b"d", b"x" * 100, 9), Put(b"e", self.big, 10, 0, (7, 8)), Put(b"f", b"F", 11)],
            [Put(b"m", b"M", 1 << 62), Put(b"n", b"N", 0, self.expire + 1)],
        ]
        ttl = [Put(ttl_key(self.expire, b"a2")), Put(ttl_key(self.expire + 1, b"n"))]
        self.pages = {
            0: index_page(0, 1, [(b"m", 2)]),
            1: index_page(1, 3, [(b"d", 4)]),
            2: index_page(1, 5),
            3: data_page(self.puts[0], NONE32, 4, every=2),
            4: data_page(self.puts[1], 3, 5),
            5: data_page(self.puts[2], 4, NONE32),
            6: index_page(1, 10),
            7: overflow_page(self.big[:4084]),
            8: overflow_page(self.big[4084:8160], (9,)),
            9: overflow_page(self.big[8160:]),
            10: data_page(ttl),
        }
        self.slots = {page_id: 10 - page_id for page_id in self.pages}
        # Mapping values of the snapshot that are not as the slots say.
        self.overrides: dict[int, int] = {}
        self.rotten: set[int] = set()
        self.roots = (0, 6)
        self.terms = {0: 0, 1: 0, 2: 0, TERM_OF_MANIFEST: 0}
        self.max_fp_id = 11
        self.logs: list[bytes] = []

    def mapping(self) -> list[int]:
        values = {page_id: live(slot) for page_id, slot in self.slots.items()} | self.overrides
        return [values.get(page_id, UNUSED) for page_id in range(max(12, max(values) + 1))]

    def manifest(self) -> bytes:
        first = snapshot(self.roots, self.max_fp_id, self.mapping(), self.terms)
        return b"".join(pad(part) for part in [first, *self.logs])

    def path(self, store: Path) -> Path:
        return store / "t.0"

    def place(self, store: Path, page_id: int, at: int = 0) -> Place:
        """Where a byte of a page lies."""
        slot = self.slots[page_id]
        return Place(self.path(store) / f"data_{slot >> 2}_0", (slot & 3) * 4096 + at)

    def write(self, store: Path) -> None:
        self.path(store).mkdir(parents=True)
        for page_id, page in self.pages.items():
            place = self.place(store, page_id)
            place.path.touch()
            with open(place.path, "r+b") as file:
                file.seek(place.offset)
                file.write(page if page_id in self.rotten else seal(page))
        (self.path(store) / "manifest_0").write_bytes(self.manifest())
