"""Values: collected from overflow pages, and decompressed."""

import ctypes
from collections.abc import Iterator
from typing import NamedTuple

from codec import Malformed, Options, Place, Reader, printable
from files import PageSource
from pages import COMPRESSION_DICTIONARY, COMPRESSION_NONE, COMPRESSION_PLAIN, DATA_HEADER
from pages import Entry, OverflowPage, parse_overflow_page
from tree import Located

ZSTD_MAGIC = bytes.fromhex("28b52ffd")


class Zstd:
    """Decompression by the system's libzstd, or by the module `zstandard`, or by nobody."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL("libzstd.so.1")
            size, pointer, data = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
            library.ZSTD_createDCtx.restype = pointer
            library.ZSTD_isError.argtypes = (size,)
            decompress = library.ZSTD_decompress_usingDict
            decompress.restype = size
            decompress.argtypes = (pointer, pointer, size, data, size, data, size)
            self.library: ctypes.CDLL | None = library
            self.context = library.ZSTD_createDCtx()
        except (OSError, AttributeError):
            self.library = None
        try:
            import zstandard
        except ImportError:
            zstandard = None
        self.module = zstandard

    def source(self) -> str:
        if self.library:
            return "libzstd.so.1"
        return "zstandard" if self.module else "none: compressed values are not decoded"

    def decompress(self, frame: bytes, length: int, dictionary: bytes) -> bytes | None:
        """A frame's content; None if nobody can decompress. ValueError if it cannot be right."""
        if self.library:
            return self._by_library(self.library, frame, length, dictionary)
        return self._by_module(frame, length, dictionary) if self.module else None

    def _by_library(
        self, library: ctypes.CDLL, frame: bytes, length: int, dictionary: bytes
    ) -> bytes:
        target = ctypes.create_string_buffer(max(1, length))
        got = library.ZSTD_decompress_usingDict(
            self.context, target, length, frame, len(frame), dictionary, len(dictionary)
        )
        if library.ZSTD_isError(got):
            raise ValueError("zstd frame does not decompress")
        if got != length:
            raise ValueError(f"zstd frame has {got} bytes, its entry says {length}")
        return target.raw[:length]

    def _by_module(self, frame: bytes, length: int, dictionary: bytes) -> bytes:
        zstd = self.module
        known = zstd.ZstdCompressionDict(dictionary) if dictionary else None
        try:
            value = zstd.ZstdDecompressor(dict_data=known).decompress(frame, length)
        except zstd.ZstdError as error:
            raise ValueError(f"zstd frame does not decompress: {error}") from error
        if len(value) != length:
            raise ValueError(f"zstd frame has {len(value)} bytes, its entry says {length}")
        return value


def frame_has_dictionary_id(frame: bytes) -> bool:
    """Whether the header of a zstd frame names a dictionary."""
    if frame[:4] != ZSTD_MAGIC or len(frame) < 6:
        raise ValueError("no zstd frame")
    return bool(frame[4] & 3)


class Value(NamedTuple):
    """A value and its length; no data if it is compressed and cannot be decompressed here."""

    data: bytes | None
    length: int


class Values:
    """Makes values of entries, for one partition."""

    def __init__(self, source: PageSource, zstd: Zstd) -> None:
        self.source = source
        self.options = source.options
        self.zstd = zstd

    def value_of(self, located: Located) -> Value | None:
        """The value of an entry; None (and a finding) if it cannot be had."""
        entry, place = located
        stored: bytes | None = entry.stored
        if entry.is_overflow:
            stored = self._collect(entry, place)
        if stored is None:
            return None
        if entry.compression == COMPRESSION_NONE:
            return Value(stored, len(stored))
        try:
            return self._decompress(entry, stored)
        except (Malformed, ValueError) as error:
            self.source.findings.add(place, f"value of key {printable(entry.key)}: {error}")
            return None

    def _decompress(self, entry: Entry, stored: bytes) -> Value:
        reader = Reader(stored)
        length = reader.varint(32, "original length")
        frame = stored[reader.pos :]
        dictionary = self.source.state.dictionary
        named = frame_has_dictionary_id(frame)
        if named and entry.compression == COMPRESSION_PLAIN:
            raise ValueError("frame of a standalone value names a dictionary")
        if named and not dictionary:
            raise ValueError("frame names a dictionary, the partition has none")
        if self.options.ours and entry.compression == COMPRESSION_DICTIONARY and not dictionary:
            raise ValueError("compressed with a dictionary, the partition has none")
        return Value(self.zstd.decompress(frame, length, dictionary if named else b""), length)

    def _collect(self, entry: Entry, place: Place) -> bytes | None:
        """The stored value of an entry with overflow pages."""
        key = printable(entry.key)
        count = len(entry.stored) // 4
        if len(entry.stored) % 4 or not 1 <= count <= self.options.overflow_pointers:
            what = f"{len(entry.stored)} bytes are no list of overflow pages"
            self.source.give_up(place, f"key {key}: {what}")
            return None
        group = [int.from_bytes(entry.stored[4 * i : 4 * i + 4], "little") for i in range(count)]
        found: list[tuple[Place, int, OverflowPage]] = []
        referrer = place
        while group:
            pages = [self._overflow_page(page_id, referrer) for page_id in group]
            if None in pages:
                return None
            found += [(where, len(group), page) for where, page in pages]
            for where, page in pages[:-1]:
                if page.pointers:
                    self.source.findings.add(
                        where, f"key {key}: overflow page within a group has pointers"
                    )
            referrer, last = pages[-1]
            group = last.pointers
        value = b"".join(page.value for _, _, page in found)
        self._check_layout(key, found, len(value))
        if DATA_HEADER + 4 + entry.alone_size(len(value), False) <= self.options.page_size:
            what = f"value of {len(value)} bytes is in overflow pages, but fits on a page"
            self.source.findings.add(place, f"key {key}: {what}")
        return value

    def _overflow_page(self, page_id: int, referrer: Place) -> tuple[Place, OverflowPage] | None:
        page = self.source.fetch(page_id, referrer)
        if page is None:
            return None
        try:
            return page.place, parse_overflow_page(page.data, self.options)
        except Malformed as error:
            self.source.give_up(page.place.plus(error.at), f"page {page_id}: {error.what}")
            return None

    def _check_layout(
        self, key: str, found: list[tuple[Place, int, OverflowPage]], length: int
    ) -> None:
        """Pages are filled, and groups made, exactly as the length says."""
        wanted = list(overflow_layout(length, self.options))
        for i, (place, group, page) in enumerate(found):
            want = wanted[i] if i < len(wanted) else None
            have = (group, len(page.value), len(page.pointers))
            if have != want:
                what = f"key {key}: overflow page {i} of a value of {length} bytes"
                shape = "(pages in its group, bytes, pointers)"
                self.source.findings.add(place.plus(9), f"{what} is {have}, not {want} {shape}")
                return


def overflow_layout(length: int, options: Options) -> Iterator[tuple[int, int, int]]:
    """For each overflow page of a value: pages in its group, bytes in it, pointers in it."""
    most = options.overflow_pointers
    capacity = options.page_size - 12
    rest = length
    pages = min(-(-rest // capacity), most)
    while rest > 0:
        for i in range(1, pages + 1):
            if i == most and rest > capacity:
                rest -= capacity - 4 * most
                following = min(-(-rest // capacity), most)
                yield pages, capacity - 4 * most, following
                pages = following
                break
            yield pages, min(capacity, rest), 0
            rest -= min(capacity, rest)
