#!/usr/bin/env python3
"""Builds every variant, runs its test programs and adds up what they say.

Idea: a test program is anything that ends with a line "N passed, N failed, N skipped". One that
crashed, hung, printed no such line or left a process running counts as one more failure. The last
line printed here is the sum of theirs.

Normally called by `./dev test`, which installs what is needed first. What runs where:

  asan         gcc, AddressSanitizer and UBSan: every test
  clang-debug  clang, slow checks on: every test (--quick: units)
  tsan         clang, ThreadSanitizer: tests/race, which have both ends in one process
  fuzz         clang, libFuzzer: each target for its share of 30 s (--quick: 10 s)

A PATTERN is part of a program's file name; if no program has it, part of a test's name.
"""

import argparse
import concurrent.futures
import ctypes
import dataclasses
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
CPUS = len(os.sched_getaffinity(0))

CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")
SKIP_LINE = re.compile(r"^skipped: (.*)$")
TEST_NAME = re.compile(r"^\s*TEST\(\s*(\w+)", re.MULTILINE)

# Processes that take a while to notice the end of their test are given this long.
LEFTOVER_GRACE_S = 10
WATCHDOG_S = 900
WATCHDOG_QUICK_S = 240
FUZZ_S = 30
FUZZ_QUICK_S = 10

# Kinds whose programs keep to themselves run side by side; the others start daemons and clients
# and get the machine to themselves.
KINDS_PARALLEL = ("unit", "race", "sim")
KINDS_SERIAL = ("crash", "e2e")
KINDS = KINDS_PARALLEL + KINDS_SERIAL


@dataclasses.dataclass(frozen=True)
class Program:
    """One source under tests/<kind>/: a C program to be built, or a script that runs as it is."""

    source: Path

    @property
    def kind(self):
        return self.source.parent.name

    @property
    def name(self):
        return f"{self.kind}/{self.source.stem}"

    @property
    def is_script(self):
        return self.source.suffix != ".c"

    def command(self, build_dir):
        return [str(self.source)] if self.is_script else [str(build_dir / "tests" / self.name)]

    def has_test_named(self, pattern):
        return any(pattern in name for name in TEST_NAME.findall(self.source.read_text()))


@dataclasses.dataclass
class Total:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skip_reasons: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.skip_reasons += other.skip_reasons

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def say(line=""):
    print(line, flush=True)


def say_indented(text):
    """Output of others is set off, so that no line of theirs is taken for our closing line."""
    for line in text.splitlines():
        say(f"    | {line}")


# --- processes -----------------------------------------------------------------------------------


def become_subreaper():
    """Processes that lose their parent become our children, so that none is left running."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def children():
    """Pids of our children, with their names; those that only wait to be reaped are reaped."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            head, _, tail = (entry / "stat").read_text().rpartition(") ")
        except OSError:
            continue
        state, parent = tail.split()[:2]
        if int(parent) == os.getpid():
            found[int(entry.name)] = (state, head.partition("(")[2])
    return found


def reap_leftovers(known=()):
    """Ends every child that is not in known; returns the names of those that had to be killed."""
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    killed = []
    while True:
        running = {}
        for pid, (state, name) in children().items():
            if pid in known:
                continue
            if state in "ZX":
                os.waitpid(pid, 0)
            else:
                running[pid] = name
        if not running:
            return killed
        if time.monotonic() > deadline:
            for pid, name in running.items():
                killed.append(f"{name} ({pid})")
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def without_address_randomization():
    """TSan of clang 14 cannot place its shadow where the kernel randomizes by more than 28 bits."""
    command = ["setarch", platform.machine(), "-R"]
    works = subprocess.run(command + ["true"], capture_output=True, check=False).returncode == 0
    return command if works else []


# --- one program ---------------------------------------------------------------------------------


class Runner:
    def __init__(self, scratch, watchdog_s, only_failures=False):
        self.scratch = scratch
        self.watchdog_s = watchdog_s
        self.only_failures = only_failures
        self.total = Total()

    def environment(self, build_dir):
        env = dict(os.environ)
        env.update(
            TMPDIR=str(self.scratch),
            ELOQ_BIN_DIR=str(build_dir / "bin"),
            ELOQ_BUILD_DIR=str(build_dir),
            UBSAN_OPTIONS="print_stacktrace=1",
            TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1",
            PYTHONDONTWRITEBYTECODE="1",
        )
        return env

    def run(self, label, command, build_dir, has_closing_line=True):
        """Runs one program to its end or the watchdog's, and prints how it went."""
        started = time.monotonic()
        with tempfile.TemporaryFile(dir=self.scratch) as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.scratch,
                env=self.environment(build_dir),
                start_new_session=True,
            )
            hung = False
            try:
                process.wait(self.watchdog_s)
            except subprocess.TimeoutExpired:
                hung = True
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            out.seek(0)
            text = out.read().decode(errors="replace")

        result, complaint = judge(process.returncode, text, has_closing_line)
        if hung:
            complaint = f"hung: ended by the watchdog after {self.watchdog_s} s"
        took_s = time.monotonic() - started
        verdict = "FAILED" if result.failed else "ok    "
        if result.failed or not self.only_failures:
            say(f"{verdict} {label}: {result}{complaint and ' - ' + complaint} ({took_s:.1f} s)")
        if result.failed:
            say_indented(text)
        result.skip_reasons = [f"{label}: {reason}" for reason in result.skip_reasons]
        return result

    def step(self, label, command, build_dir=ROOT):
        """A command that passes or fails as a whole; counts as one."""
        self.total.add(self.run(label, command, build_dir, has_closing_line=False))

    def fail(self, label, text):
        say(f"FAILED {label}")
        say_indented(text)
        self.total.add(Total(failed=1))

    def expect_nothing_left(self, label):
        killed = reap_leftovers()
        if killed:
            self.fail(f"{label}: left running", "\n".join(killed))

    def run_all(self, jobs):
        """jobs: (label, command, build_dir, is_parallel)."""
        with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
            side_by_side = [pool.submit(self.run, *job[:3]) for job in jobs if job[3]]
            for future in side_by_side:
                self.total.add(future.result())
        self.expect_nothing_left("programs side by side")
        for job in jobs:
            if not job[3]:
                self.total.add(self.run(*job[:3]))
                self.expect_nothing_left(job[0])


def judge(returncode, text, has_closing_line):
    """What a program's exit code and output count for, and what is odd about them."""
    result = Total()
    if not has_closing_line:
        result.passed, result.failed = (1, 0) if returncode == 0 else (0, 1)
        return result, ""

    lines = text.rstrip().splitlines()
    closing = CLOSING_LINE.match(lines[-1]) if lines else None
    if closing:
        result.passed, result.failed, result.skipped = map(int, closing.groups())
    result.skip_reasons = [m.group(1) for m in map(SKIP_LINE.match, lines) if m]

    if not closing or (returncode != 0 and result.failed == 0):
        result.failed += 1
        how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        return result, how if closing else f"{how}, no closing line"
    return result, ""


# --- variants ------------------------------------------------------------------------------------


def programs():
    """All test programs, in the order of KINDS and of their names."""
    found = []
    for kind in KINDS:
        for path in sorted((TESTS / kind).glob("*_test.*")):
            if path.suffix == ".c" or (path.suffix in (".py", ".sh") and os.access(path, os.X_OK)):
                found.append(Program(path))
    return found


def fuzz_targets():
    return sorted(path.stem for path in (TESTS / "fuzz").glob("*_fuzz.c"))


def build(runner, preset, targets=()):
    """Configures and builds build/<preset>; targets: only those. False if it does not build."""
    say(f"building {preset}")
    build_dir = ROOT / "build" / preset
    commands = [["cmake", "--preset", preset], ["cmake", "--build", str(build_dir)]]
    if targets:
        commands[1] += ["--target", *targets]
    for command in commands:
        done = subprocess.run(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode != 0:
            progress = re.compile(r"^\[\d+/\d+\] (Building|Linking|Re-)")
            text = "\n".join(l for l in done.stdout.splitlines() if not progress.match(l))
            runner.fail(f"{preset}: {' '.join(command)}", text)
            return False
    return True


def run_variant(runner, preset, selected, everything, test_name="", prefix=()):
    """Builds a variant (everything in it, or what is selected) and runs the selected programs."""
    targets = [] if everything else [p.source.stem for p in selected if not p.is_script]
    if any(p.is_script for p in selected):
        targets = []
    if not selected and not everything:
        return
    if not build(runner, preset, targets):
        return
    build_dir = ROOT / "build" / preset
    jobs = []
    for program in selected:
        command = [*prefix, *program.command(build_dir)] + ([test_name] if test_name else [])
        parallel = program.kind in KINDS_PARALLEL
        jobs.append((f"{preset} {program.name}", command, build_dir, parallel))
    runner.run_all(jobs)


def run_fuzz(runner, targets, seconds):
    if not targets or not build(runner, "fuzz", targets):
        return
    build_dir = ROOT / "build" / "fuzz"
    for target in targets:
        corpus = runner.scratch / f"corpus-{target}"
        corpus.mkdir()
        seeds = TESTS / "fuzz" / "corpus" / target
        command = [
            str(build_dir / "fuzz" / target),
            f"-max_total_time={max(1, seconds // len(targets))}",
            f"-artifact_prefix={build_dir}/",
            "-print_final_stats=0",
            "-verbosity=0",
            str(corpus),
        ]
        runner.step(f"fuzz {target}", command + ([str(seeds)] if seeds.is_dir() else []), build_dir)


def test(runner, pattern, quick):
    selected = programs()
    targets = fuzz_targets()
    test_name = ""
    if pattern:
        targets = [t for t in targets if pattern in f"fuzz/{t}"]
        by_file = [p for p in selected if pattern in f"{p.kind}/{p.source.name}"]
        if not by_file and not targets:
            test_name = pattern
            by_file = [p for p in selected if not p.is_script and p.has_test_named(pattern)]
        selected = by_file
        if not selected and not targets:
            say(f"no test program and no test has {pattern} in its name")
            return
    everything = not pattern
    races = [p for p in selected if p.kind == "race"]
    clang = [p for p in selected if p.kind == "unit"] if quick and not pattern else selected

    if everything:
        runner.step("lint", [str(ROOT / "dev"), "lint", "--no-tidy"])
        # What users run is compiled here too: gcc says more when it optimises.
        build(runner, "release")
    run_variant(runner, "asan", selected, everything, test_name)
    run_variant(runner, "clang-debug", clang, everything, test_name)
    run_variant(runner, "tsan", races, False, test_name, without_address_randomization())
    run_fuzz(runner, targets, FUZZ_QUICK_S if quick else FUZZ_S)


def soak(runner, seconds):
    """Runs what draws seeds again and again: each round is another set of random tests."""
    random = [p for p in programs() if not p.is_script and "test_seed(" in p.source.read_text()]
    if not random:
        say("there is nothing to soak yet: no test draws a seed")
        return
    if not build(runner, "asan", [p.source.stem for p in random]):
        return
    build_dir = ROOT / "build" / "asan"
    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline and not runner.total.failed:
        jobs = [
            (f"asan {p.name}", p.command(build_dir), build_dir, p.kind in KINDS_PARALLEL)
            for p in random
        ]
        runner.run_all(jobs)
        rounds += 1
    say(f"{rounds} rounds")


def main():
    parser = argparse.ArgumentParser(description="Runs the tests; see ./dev help")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--soak", type=int, metavar="SECONDS")
    parser.add_argument("pattern", nargs="?", default="")
    args = parser.parse_args()

    become_subreaper()
    scratch = Path(tempfile.mkdtemp(prefix="eloq-"))
    watchdog_s = WATCHDOG_QUICK_S if args.quick else WATCHDOG_S
    runner = Runner(scratch, watchdog_s, only_failures=bool(args.soak))
    started = time.monotonic()
    try:
        if args.soak:
            soak(runner, args.soak)
        else:
            test(runner, args.pattern, args.quick)
    finally:
        reap_leftovers()
        shutil.rmtree(scratch, ignore_errors=True)
    say()
    for reason in dict.fromkeys(runner.total.skip_reasons):
        say(f"skipped: {reason}")
    say(f"{time.monotonic() - started:.0f} s in all")
    say(str(runner.total))
    ran = runner.total.passed + runner.total.failed + runner.total.skipped
    return 0 if ran and not runner.total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
