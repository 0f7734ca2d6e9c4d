"""The primitive encodings of the format, and the words in which the reader complains."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

NONE32 = 0xFFFFFFFF


class Malformed(Exception):
    """Bytes that do not decode. `at` is an offset in the buffer that was being read."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at
        self.what = what


class Place(NamedTuple):
    """A byte of a file."""

    path: Path
    offset: int

    def plus(self, distance: int) -> "Place":
        return Place(self.path, self.offset + distance)

    def __str__(self) -> str:
        return f"{self.path}: offset {self.offset}"


class Finding(NamedTuple):
    """One thing that is wrong, and where."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Findings(list[Finding]):
    """What was found wrong so far."""

    def add(self, place: Place, what: str) -> None:
        self.append(Finding(place, what))


@dataclasses.dataclass(frozen=True)
class Options:
    """What a reader must be told, because no file says it."""

    page_size: int = 4096
    file_shift: int = 18
    overflow_pointers: int = 16
    append: bool = False
    # Rules beyond the format for stores that we wrote: nothing unused is other than zero.
    ours: bool = False


class Reader:
    """A cursor over part of a buffer. Everything that would leave that part is Malformed."""

    def __init__(self, data: bytes, pos: int = 0, end: int | None = None) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data) if end is None else end

    def at_end(self) -> bool:
        return self.pos >= self.end

    def take(self, size: int, what: str) -> bytes:
        start = self.pos
        if size > self.end - start:
            raise Malformed(start, f"{what} of {size} bytes leaves its {self.end - start} bytes")
        self.pos = start + size
        return self.data[start : self.pos]

    def fixed(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def varint(self, bits: int, what: str) -> int:
        """LEB128 of at most 32 or 64 bits, in its shortest form."""
        start = self.pos
        value = shift = 0
        while True:
            if self.pos >= self.end:
                raise Malformed(start, f"{what}: varint is cut off")
            byte = self.data[self.pos]
            self.pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= bits:
                raise Malformed(start, f"{what}: varint{bits} is too long")
        if value >> bits:
            raise Malformed(start, f"{what}: varint{bits} is too large")
        if byte == 0 and shift:
            raise Malformed(start, f"{what}: varint is not in its shortest form")
        return value

    def signed(self, bits: int, what: str) -> int:
        """A sign-magnitude varint; "minus zero" is never written."""
        start = self.pos
        code = self.varint(bits, what)
        if code == 1:
            raise Malformed(start, f"{what}: minus zero")
        return -(code >> 1) if code & 1 else code >> 1


def varint_size(value: int) -> int:
    """Bytes of a varint."""
    return max(1, (value.bit_length() + 6) // 7)


def signed_code(value: int) -> int:
    """The number that stands for a signed one: magnitude and sign, not zig-zag."""
    return (abs(value) << 1) | (value < 0)


def printable(key: bytes) -> str:
    """A key for a message: its hex digits, shortened."""
    return key.hex() if len(key) <= 24 else f"{key[:24].hex()}... ({len(key)} bytes)"


def first_nonzero(data: bytes) -> int | None:
    """Index of the first byte that is not zero."""
    rest = data.lstrip(b"\0")
    return len(data) - len(rest) if rest else None
