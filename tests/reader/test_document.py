"""The examples of the format's description, byte by byte: read as it says, and made anew."""

import tempfile
import unittest
from pathlib import Path

import forge
from codec import NONE32, Findings, Options, Place
from forge import Put
from manifest import TERM_OF_MANIFEST, UNUSED, State, replay
from pages import check_checksum, parse_data_page, parse_index_page, parse_overflow_page
from store import Store
from values import overflow_layout

OPTIONS = Options()
TERMS = {0: 0, TERM_OF_MANIFEST: 0}
EXPIRE = 4102444800000

DATA_PAGE = """d06b0e7bd748da25024c00ffffffff05 0000000005306170706c65726564d00f
    0401227964 6f80d095ffbc311500068101 62616e616e610700000008000000da0f 03010064001300 2d000200"""
OVERFLOW_LEAF = """f8ce40d5ef1419b5022500ffffffffff ffffff0001 81016b0000000001000000 0213000100"""
INDEX_PAGE = """b25981d074c9891f01240001000000 000361707008 02017ad004 00016204 0f001a000200"""
LONE_CHILD = "ede341e574dd585101110001000000 0000"
TTL_LEAF = """16659c8694c879c2022800ffffffffff ffffff000d000000018bcfe5680061 70706c7900 13000100"""
SNAPSHOT = """28447c2513c25a3d01000000ffffffff 1b0000000300 0400000001110712 0d000000 0000
    feffffffffffffffff0100"""
LOG = """2defaa85b566254101000000ffffffff 1c000000070000000019 01c10c 0207 0d000000 0000
    feffffffffffffffff0100"""

STORE_PAGES = {
    3: """b94e1bcfb69cb1df024800ffffffffff ffffff0005306170706c65726564d00f
        0401227964 6f80b08fe6b27715 0006c101 62616e616e61 000000000100000002000000 1e 13000100""",
    4: "be92ea633053764901110003000000 0000",
    5: """92d7054004cf18bf022800ffffffffff ffffff000d0000 0003bb2cc3d8006170706c7900 13000100""",
    6: "99ef370f9dc3fc5d01110005000000 0000",
}
STORE_MANIFEST = """a1be8bc4ed0c8df30400000006000000 1e000000 0700 07000000 0109111921 2931
    0d000000 0000 feffffffffffffffff0100"""
STORE_LOG = """01e33c8bab87e6bd0400000006000000 17000000 02000000 0339 0d000000 0000
    feffffffffffffffff0100"""
STORE_TRUNCATED = """1ee9891c5ebf0e29ffffffffffffffff 1e000000 0800 07000000 07020a121a222a
    0d000000 0000 feffffffffffffffff0100"""


def page_of(text: str) -> bytes:
    return bytes.fromhex(text).ljust(4096, b"\0")


def bytes_of(text: str) -> bytes:
    return bytes.fromhex(text)


def state_of(*records: str) -> tuple[State | None, Findings]:
    findings = Findings()
    data = b"".join(forge.pad(bytes_of(text)) for text in records)
    return replay(data, Place(Path("manifest_0"), 0), OPTIONS, findings), findings


class PageTest(unittest.TestCase):
    def test_the_data_page(self) -> None:
        page = page_of(DATA_PAGE)
        check_checksum(page)
        data = parse_data_page(page, OPTIONS)
        self.assertEqual((data.prev, data.next), (NONE32, 5))
        seen = [(e.key, e.stored, e.is_overflow, e.expire, e.timestamp) for e in data.entries]
        self.assertEqual(
            seen,
            [
                (b"apple", b"red", False, 0, 1000),
                (b"apply", b"do", False, 1700000000000, 990),
                (b"banana", bytes([7, 0, 0, 0, 8, 0, 0, 0]), True, 0, 1005),
                (b"band", b"", False, 0, 1005),
            ],
        )
        puts = [
            Put(b"apple", b"red", 1000),
            Put(b"apply", b"do", 990, 1700000000000),
            Put(b"banana", b"", 1005, 0, (7, 8)),
            Put(b"band", b"", 1005),
        ]
        self.assertEqual(forge.seal(forge.data_page(puts, next=5, every=2)), page)

    def test_the_leaf_of_an_overflow_value(self) -> None:
        page = page_of(OVERFLOW_LEAF)
        check_checksum(page)
        (entry,) = parse_data_page(page, OPTIONS).entries
        self.assertEqual((entry.key, entry.is_overflow, entry.timestamp), (b"k", True, 1))
        self.assertEqual(forge.seal(forge.data_page([Put(b"k", b"", 1, 0, (0, 1))])), page)

    def test_the_split_of_an_overflow_value(self) -> None:
        layout = list(overflow_layout(12336, Options(overflow_pointers=2)))
        self.assertEqual(layout, [(2, 4084, 0), (2, 4076, 2), (2, 4084, 0), (2, 92, 0)])
        page = parse_overflow_page(forge.overflow_page(b"v" * 4076, (2, 3)), OPTIONS)
        self.assertEqual((len(page.value), page.pointers), (4076, [2, 3]))

    def test_the_index_page(self) -> None:
        page = page_of(INDEX_PAGE)
        check_checksum(page)
        index = parse_index_page(page, OPTIONS)
        self.assertTrue(index.has_leaves)
        self.assertEqual(index.leftmost, 1)
        children = [(child.separator, child.page_id) for child in index.children]
        self.assertEqual(children, [(b"app", 4), (b"apz", 300), (b"b", 2)])
        self.assertEqual(forge.seal(forge.index_page(1, 1, children, every=2)), page)

    def test_the_index_page_with_only_a_leftmost_child(self) -> None:
        page = page_of(LONE_CHILD)
        check_checksum(page)
        self.assertEqual(parse_index_page(page, OPTIONS).children, [])
        self.assertEqual(forge.seal(forge.index_page(1, 1)), page)

    def test_the_leaf_of_the_ttl_tree(self) -> None:
        page = page_of(TTL_LEAF)
        check_checksum(page)
        key = (1700000000000).to_bytes(8, "big") + b"apply"
        self.assertEqual([e.key for e in parse_data_page(page, OPTIONS).entries], [key])
        self.assertEqual(forge.seal(forge.data_page([Put(key)])), page)


class ManifestTest(unittest.TestCase):
    def test_the_snapshot_and_the_log_record(self) -> None:
        state, findings = state_of(SNAPSHOT, LOG)
        self.assertEqual(findings, [])
        self.assertEqual((state.main_root, state.ttl_root), (1, NONE32))
        self.assertEqual(state.mapping, [forge.live(3), forge.live(200), UNUSED, 0x12])
        self.assertEqual((state.max_fp_id, state.terms), (201, TERMS))

    def test_both_can_be_made_anew(self) -> None:
        roots = (1, NONE32)
        mapping = [forge.live(0), forge.live(2), UNUSED, 0x12]
        self.assertEqual(forge.snapshot(roots, 3, mapping, TERMS), bytes_of(SNAPSHOT))
        updates = [(0, forge.live(3)), (1, forge.live(200)), (2, UNUSED)]
        self.assertEqual(forge.log(roots, updates, TERMS), bytes_of(LOG))


class StoreTest(unittest.TestCase):
    """The complete store: two store paths, an overflow value, an expiry."""

    options = Options(file_shift=4)

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.paths = [Path(scratch.name) / name for name in ("d0", "d1")]
        self.partition = self.paths[1] / "t.3"
        self.paths[0].mkdir()
        self.partition.mkdir(parents=True)
        pages = [forge.seal(forge.overflow_page(b"B" * n)) for n in (4084, 4084, 1832)]
        self.assertEqual(pages[2][:11].hex(), "17486d7a121fde96032807")
        pages += [page_of(text) for text in STORE_PAGES.values()]
        (self.partition / "data_0_0").write_bytes(b"".join(pages))

    def check(self, *records: bytes) -> list[tuple[bytes, bytes | None, int, int]]:
        (self.partition / "manifest_0").write_bytes(b"".join(map(forge.pad, records)))
        store = Store(self.paths, self.options)
        found = store.check()
        self.assertEqual(store.findings, [])
        self.assertEqual({r[:2] for r in found} - {("t", 3)}, set())
        return [(r.key, r.value, r.timestamp, r.expire_ts) for r in found]

    def test_the_first_commit(self) -> None:
        self.assertEqual(
            self.check(bytes_of(STORE_MANIFEST)),
            [
                (b"apple", b"red", 1000, 0),
                (b"apply", b"do", 990, EXPIRE),
                (b"banana", b"B" * 10000, 1005, 0),
            ],
        )

    def test_the_second_commit_with_remains_in_its_padding(self) -> None:
        leaf = [
            Put(b"apple", b"RED", 1001),
            Put(b"apply", b"do", 990, EXPIRE),
            Put(b"banana", b"", 1005, 0, (0, 1, 2)),
        ]
        page = forge.seal(forge.data_page(leaf))
        self.assertEqual(page[:8].hex(), "707a973f53b8b2a8")
        with open(self.partition / "data_0_0", "ab") as file:
            file.write(page)
        remains = bytes_of(STORE_LOG) + bytes.fromhex("ffffffffff0100")
        found = self.check(bytes_of(STORE_MANIFEST), remains)
        self.assertEqual(found[0], (b"apple", b"RED", 1001, 0))

    def test_the_full_truncate(self) -> None:
        self.assertEqual(self.check(bytes_of(STORE_TRUNCATED)), [])
