"""The hash: the format's vectors, and both implementations against each other."""

import os
import random
import unittest

import xxh3


class Xxh3Test(unittest.TestCase):
    def test_both_give_the_hashes_of_the_format(self) -> None:
        for data, wanted in (
            (b"", 0x2D06800538D394C2),
            (b"a", 0xE6C632B61E964E1F),
            (bytes(4088), 0xE9B88C5D16960EE3),
        ):
            self.assertEqual(xxh3.pure_hash64(data), wanted)
            self.assertEqual(xxh3.hash64(data), wanted)

    def test_the_mixed_hash_gives_those_of_the_format(self) -> None:
        self.assertEqual(xxh3.mixed_hash64(bytes(12)), 0x22D1F9AEB23BC7B0)
        self.assertEqual(xxh3.mixed_hash64(b"x" * 1048581), 0xDE4F16AA0B7ADF73)

    def test_both_agree_at_every_length_up_to_two_blocks_and_at_some_beyond(self) -> None:
        if xxh3.SOURCE == "pure Python":
            self.skipTest("no libxxhash.so.0: nothing to compare the pure hash with")
        seed = int(os.environ.get("TEST_SEED", random.getrandbits(32)))
        print(f"TEST_SEED={seed}")
        draw = random.Random(seed)
        data = draw.randbytes(70000)
        for size in [*range(2100), *(draw.randrange(2100, 70000) for _ in range(50))]:
            at = draw.randrange(70000 - size)
            self.assertTrue(xxh3.check_sample(data[at : at + size]), f"{size} bytes from {at}")
