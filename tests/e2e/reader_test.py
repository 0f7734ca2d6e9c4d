#!/usr/bin/env python3
"""Stores that a real eloqstored wrote, read by the independent reader of tests/reader.

The reader was written from the format's description and shares nothing with the daemon. A daemon is
filled through eloqctl with random records (overwritten, deleted, large ones, over a restart) and
stopped; its store must then be sound, have zeroes wherever nothing is stored, and hold exactly what
was exported. The reader's own tests run here as well.

    reader_test.py [PATTERN]        only tests whose name contains PATTERN
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

READER = Path(__file__).resolve().parent.parent / "reader"
sys.path.insert(0, str(READER))

import jsonl  # noqa: E402
from codec import Options  # noqa: E402
from fixtures import Fixture  # noqa: E402
from store import Store, parse_size  # noqa: E402

BIN_DIR = Path(os.environ.get("ELOQ_BIN_DIR", ""))
PROGRAMS = ("eloqstored", "eloqctl")
TABLES = {"caller": 5, "server": 3, "short": 1}
READY_S = 60
STOP_S = 60


class Daemon:
    """An eloqstored on a data directory."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.directory = directory
        self.log = directory.with_suffix(".log")
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BIN_DIR / "eloqstored", "--data", directory, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not any(line.endswith("ready") for line in self.log.read_text().splitlines()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"daemon is not ready:\n{self.log.read_text()}")
            time.sleep(0.02)

    def ctl(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [BIN_DIR / "eloqctl", "--data", self.directory, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = f"{done.stdout[-2000:]}{done.stderr}{self.log.read_text()}"
            command = " ".join(words)[:200]
            raise AssertionError(f"eloqctl {command} ended with {done.returncode}:\n{said}")
        return done.stdout

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """For the end of a test that failed; a clean stop before this leaves nothing to do."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class WorkLoad:
    """Random records and what they leave in the store."""

    def __init__(self, seed: int, page_size: int) -> None:
        self.draw = random.Random(seed)
        self.page_size = page_size
        self.model: dict[tuple[str, str], str] = {}
        self.clock = 1000

    def value(self) -> bytes:
        """Mostly small; some around the size that a page can hold; some that take many pages."""
        kind = self.draw.random()
        if kind < 0.9:
            size = self.draw.randrange(0, 200)
        elif kind < 0.97:
            size = self.page_size + self.draw.randrange(-80, 10)
        else:
            size = self.draw.randrange(5 * self.page_size, 30 * self.page_size)
        return self.draw.randbytes(size)

    def key(self) -> bytes:
        """Rows of a table, arbitrary bytes, and the longest keys, which make trees deep."""
        kind = self.draw.random()
        if kind < 0.6:
            return b"row/%07d" % self.draw.randrange(4000)
        if kind < 0.95:
            return self.draw.randbytes(self.draw.randrange(1, 24))
        alike = b"k" * (self.page_size // 2 - 4)
        return alike + self.draw.randbytes(4)

    def lines(self, count: int) -> str:
        """Records to import; they are in the model from now on."""
        lines = []
        for _ in range(count):
            table, key = self.draw.choice(sorted(TABLES)), self.key().hex()
            value = self.value().hex()
            self.clock += self.draw.randrange(1, 1000)
            record = {"table": table, "partition": 0, "key": key, "value": value}
            lines.append(json.dumps({**record, "timestamp": self.clock, "expire_ts": 0}))
            self.model[table, key] = value
        return "\n".join(lines) + "\n"

    def truncate(self, table: str) -> None:
        for name in [name for name in self.model if name[0] == table]:
            del self.model[name]

    def drop_some(self, count: int) -> list[tuple[str, str]]:
        """Keys to delete; the longest values first, as their overflow pages become free."""
        longest = sorted(self.model, key=lambda name: len(self.model[name]))[-count // 2 :]
        others = sorted(set(self.model) - set(longest))
        names = longest + self.draw.sample(others, count - len(longest))
        for name in names:
            del self.model[name]
        return names


class DaemonStoreTest(unittest.TestCase):
    def setUp(self) -> None:
        missing = [name for name in PROGRAMS if not os.access(BIN_DIR / name, os.X_OK)]
        if "ELOQ_BIN_DIR" not in os.environ or missing:
            self.skipTest(f"no {' and '.join(missing) or 'programs'}: ELOQ_BIN_DIR names no build")
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name) / "data"
        self.seed = int(os.environ.get("TEST_SEED", random.getrandbits(32)))
        print(f"TEST_SEED={self.seed}")

    def start(self, settings: dict[str, str]) -> Daemon:
        daemon = Daemon(self.directory, settings)
        self.addCleanup(daemon.kill)
        daemon.wait_ready()
        return daemon

    def run_daemon(self, settings: dict[str, str], work: WorkLoad, first: bool) -> str:
        """One life of a daemon: writes, and returns what it exported at the end."""
        daemon = self.start(settings)
        for table, partitions in TABLES.items() if first else ():
            timestamps = "server" if table == "server" else "caller"
            words = ("--partitions", str(partitions), "--timestamps", timestamps)
            daemon.ctl("table", "create", table, *words)
        for turn in range(3):
            daemon.ctl("import", "-", stdin=work.lines(600))
            if turn == 1:
                daemon.ctl("table", "truncate", "short")
                work.truncate("short")
            for table, key in work.drop_some(6):
                daemon.ctl("--hex", "-t", table, "del", key)
        exported = daemon.ctl("export")
        self.assertEqual(daemon.stop(), 0, daemon.log.read_text())
        return exported

    def expect_sound(self, settings: dict[str, str]) -> None:
        page_size = parse_size(settings["data_page_size"])
        pages_per_file = parse_size(settings["data_file_size"]) // page_size
        options = Options(
            page_size=page_size,
            file_shift=pages_per_file.bit_length() - 1,
            overflow_pointers=int(settings["overflow_pointers"]),
            append=settings["data_append_mode"] == "true",
            ours=True,
        )
        work = WorkLoad(self.seed, options.page_size)
        for first in (True, False):
            exported = self.run_daemon(settings, work, first)
            lines = [json.loads(line) for line in exported.splitlines()]
            found = {(line["table"], line["key"]): line["value"] for line in lines}
            self.assertTrue(found == work.model, "the export is not what was written")
            store = Store([self.directory / "data"], options)
            records = store.check()
            self.assertEqual(store.findings, [])
            self.assertEqual(jsonl.differences(records, lines), [])
            self.assertEqual(len(lines), len(work.model))

    def expect_adopted_sound(self, name: str) -> None:
        """A store of the reference implementation, written on by the daemon."""
        fixture = Fixture(name, self.directory.parent)
        changed = [line for line in jsonl.read(fixture.expected) if line["expire_ts"] == 0]
        draw = random.Random(self.seed)
        for line in changed:
            line.pop("value_sha256", None)
            line.pop("value_len")
            line["value"] = draw.randbytes(draw.choice((10, 3000, 100000))).hex()
            line["timestamp"] += 1
        changed = draw.sample(changed, min(len(changed), 200))

        daemon = self.start({"config": str(fixture.path / "options.ini")})
        written = "\n".join(json.dumps(line) for line in changed)
        daemon.ctl("import", "-", stdin=written + "\n")
        exported = [json.loads(line) for line in daemon.ctl("export").splitlines()]
        self.assertEqual(daemon.stop(), 0, daemon.log.read_text())

        store = Store([fixture.store], fixture.options)
        records = store.check()
        self.assertEqual(store.findings, [])
        self.assertEqual(jsonl.differences(records, exported), [])
        found = {(r.table, r.partition, r.key): r for r in records}
        wanted = [found.get((w["table"], w["partition"], bytes.fromhex(w["key"]))) for w in changed]
        self.assertEqual(jsonl.differences(filter(None, wanted), changed), [])

    def test_a_basic_fixture_written_on_by_the_daemon(self) -> None:
        self.expect_adopted_sound("f01_basic-inplace")

    def test_a_basic_fixture_in_append_mode_written_on_by_the_daemon(self) -> None:
        self.expect_adopted_sound("f01_basic-append")

    def test_an_overflow_fixture_written_on_by_the_daemon(self) -> None:
        self.expect_adopted_sound("f03_overflow-inplace")

    def test_an_overflow_fixture_in_append_mode_written_on_by_the_daemon(self) -> None:
        self.expect_adopted_sound("f03_overflow-append")

    def test_in_place_on_one_shard(self) -> None:
        self.expect_sound(
            {
                "num_threads": "1",
                "data_append_mode": "false",
                "data_page_size": "4KB",
                "data_file_size": "64KB",
                "overflow_pointers": "16",
            }
        )

    def test_append_mode_on_two_shards_and_short_manifests(self) -> None:
        self.expect_sound(
            {
                "num_threads": "2",
                "data_append_mode": "true",
                "data_page_size": "4KB",
                "data_file_size": "128KB",
                "overflow_pointers": "3",
                "manifest_limit": "32768",
            }
        )

    def test_in_place_on_two_shards_with_large_pages_and_short_restarts(self) -> None:
        self.expect_sound(
            {
                "num_threads": "2",
                "data_append_mode": "false",
                "data_page_size": "16KB",
                "data_file_size": "1MB",
                "overflow_pointers": "2",
                "data_page_restart_interval": "3",
                "index_page_restart_interval": "1",
                "io_backend": "pool",
                # So that a request with the longest key of such pages fits into the ring.
                "request_ring_size": "64KB",
            }
        )


def tests_in(suite: unittest.TestSuite, pattern: str) -> unittest.TestSuite:
    """The tests of a suite whose name contains pattern."""
    found = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            found.addTests(tests_in(test, pattern))
        elif pattern in test.id():
            found.addTest(test)
    return found


def main() -> int:
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    loader = unittest.TestLoader()
    suite = unittest.TestSuite(
        [
            loader.discover(str(READER), "test_*.py", top_level_dir=str(READER)),
            loader.loadTestsFromTestCase(DaemonStoreTest),
        ]
    )
    result = unittest.TextTestRunner(stream=sys.stdout).run(tests_in(suite, pattern))
    for test, reason in result.skipped:
        print(f"skipped: {test.id()}: {reason}")
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
