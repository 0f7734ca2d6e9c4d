"""XXH3-64 with seed 0 and the default secret: in pure Python, and by the system's libxxhash.

Idea: within a block of 1 KiB the eight accumulators only add, so they are reduced modulo 2^64 once
a block. A block is XORed with its 16 overlapping pieces of the secret as one big integer, cut into
32-bit halves by one struct call, and multiplied and summed by C loops of the interpreter: about
0.1 ms for a page of 4 KiB.

`hash64` is the library's function where there is one, else the pure one. The library is checked
against the pure one at load and, by `check_sample`, on real pages now and then.
"""

import ctypes
import struct
from operator import mul
from typing import Callable

MASK32 = 0xFFFFFFFF
MASK64 = 0xFFFFFFFFFFFFFFFF

P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
P_MX1, P_MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)

STRIPE = 64
BLOCK_STRIPES = (192 - STRIPE) // 8
BLOCK = STRIPE * BLOCK_STRIPES

# Keys of the stripes of a block one behind the other: stripe s uses the secret from byte 8 * s on.
_BLOCK_KEY = b"".join(SECRET[8 * s : 8 * s + STRIPE] for s in range(BLOCK_STRIPES))
_START = (P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1)


def _read32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _read64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _rotate64(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & MASK64


def _fold_product(a: int, b: int) -> int:
    product = a * b
    return (product & MASK64) ^ (product >> 64)


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = (h * P_MX1) & MASK64
    return h ^ (h >> 32)


def _avalanche_xxh64(h: int) -> int:
    h ^= h >> 33
    h = (h * P64_2) & MASK64
    h ^= h >> 29
    h = (h * P64_3) & MASK64
    return h ^ (h >> 32)


def _up_to_16(data: bytes) -> int:
    n = len(data)
    if n > 8:
        low = _read64(data, 0) ^ _read64(SECRET, 24) ^ _read64(SECRET, 32)
        high = _read64(data, n - 8) ^ _read64(SECRET, 40) ^ _read64(SECRET, 48)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche((n + swapped + high + _fold_product(low, high)) & MASK64)
    if n >= 4:
        h = (_read32(data, n - 4) + (_read32(data, 0) << 32)) & MASK64
        h ^= _read64(SECRET, 8) ^ _read64(SECRET, 16)
        h ^= _rotate64(h, 49) ^ _rotate64(h, 24)
        h = (h * P_MX2) & MASK64
        h ^= (h >> 35) + n
        h = (h * P_MX2) & MASK64
        return h ^ (h >> 28)
    if n:
        combined = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        return _avalanche_xxh64(combined ^ _read32(SECRET, 0) ^ _read32(SECRET, 4))
    return _avalanche_xxh64(_read64(SECRET, 56) ^ _read64(SECRET, 64))


def _mix16(data: bytes, at: int, secret_at: int) -> int:
    return _fold_product(
        _read64(data, at) ^ _read64(SECRET, secret_at),
        _read64(data, at + 8) ^ _read64(SECRET, secret_at + 8),
    )


def _up_to_128(data: bytes) -> int:
    n = len(data)
    total = n * P64_1
    for i in range((n - 1) // 32 + 1):
        total += _mix16(data, 16 * i, 32 * i)
        total += _mix16(data, n - 16 * (i + 1), 32 * i + 16)
    return _avalanche(total & MASK64)


def _up_to_240(data: bytes) -> int:
    n = len(data)
    total = n * P64_1 + sum(_mix16(data, 16 * i, 16 * i) for i in range(8))
    total = _avalanche(total & MASK64)
    total += sum(_mix16(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
    return _avalanche((total + _mix16(data, n - 16, 136 - 17)) & MASK64)


def _accumulate(acc: list[int], data: bytes, key: bytes) -> None:
    """Adds whole stripes; key has one piece of the secret for each. acc is left unreduced."""
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
    halves = struct.unpack(f"<{len(data) // 4}I", mixed.to_bytes(len(data), "little"))
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    products = list(map(mul, halves[0::2], halves[1::2]))
    for lane in range(8):
        acc[lane] += sum(products[lane::8]) + sum(words[lane ^ 1 :: 8])


def _long(data: bytes) -> int:
    n = len(data)
    acc = list(_START)
    blocks = (n - 1) // BLOCK
    for b in range(blocks):
        _accumulate(acc, data[b * BLOCK : (b + 1) * BLOCK], _BLOCK_KEY)
        for lane in range(8):
            a = acc[lane] & MASK64
            a ^= (a >> 47) ^ _read64(SECRET, 192 - STRIPE + 8 * lane)
            acc[lane] = (a * P32_1) & MASK64
    rest = (n - 1 - blocks * BLOCK) // STRIPE * STRIPE
    if rest:
        _accumulate(acc, data[blocks * BLOCK : blocks * BLOCK + rest], _BLOCK_KEY[:rest])
    _accumulate(acc, data[n - STRIPE :], SECRET[192 - STRIPE - 7 : 192 - 7])
    result = n * P64_1
    for i in range(4):
        result += _fold_product(
            (acc[2 * i] & MASK64) ^ _read64(SECRET, 11 + 16 * i),
            (acc[2 * i + 1] & MASK64) ^ _read64(SECRET, 11 + 16 * i + 8),
        )
    return _avalanche(result & MASK64)


def pure_hash64(data: bytes) -> int:
    """XXH3-64 of data in pure Python."""
    if len(data) <= 16:
        return _up_to_16(data)
    if len(data) <= 128:
        return _up_to_128(data)
    if len(data) <= 240:
        return _up_to_240(data)
    return _long(data)


def _load_library() -> Callable[[bytes], int] | None:
    """XXH3_64bits of the system's libxxhash, if there is one that agrees with the pure hash."""
    try:
        function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_uint64
    function.argtypes = (ctypes.c_char_p, ctypes.c_size_t)

    def library_hash64(data: bytes) -> int:
        return function(data, len(data))

    probe = bytes(range(256)) * 5
    lengths = (0, 3, 8, 16, 100, 200, 1280)
    agrees = all(library_hash64(probe[:n]) == pure_hash64(probe[:n]) for n in lengths)
    return library_hash64 if agrees else None


_library = _load_library()
hash64: Callable[[bytes], int] = _library or pure_hash64
SOURCE = "libxxhash.so.0" if _library else "pure Python"


def check_sample(data: bytes) -> bool:
    """False if the two implementations disagree about data."""
    return _library is None or _library(data) == pure_hash64(data)


def mixed_hash64(data: bytes) -> int:
    """The checksum of manifest records: the hashes of blocks of 1 MiB, mixed."""
    total = 0
    for at in range(0, len(data), 1 << 20):
        total = _rotate64(total, 1) ^ hash64(data[at : at + (1 << 20)])
        total = (total * 0x9E3779B97F4A7C15) & MASK64
    return total
