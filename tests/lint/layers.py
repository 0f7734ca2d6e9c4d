#!/usr/bin/env python3
"""Refuses an include that does not lead down the layers (docs/architecture.md, "Layers").

Two seams carry the design: shm/ is all that client and daemon share, and daemon/store/ knows neither
processes nor rings. Includes are written from the repository root, so a wrong one shows in review;
this makes sure that it does not get that far.
"""

import re
import sys

import tree

# What a part may include besides common/ and itself. ANYTHING: all parts.
ANYTHING = object()
MAY_INCLUDE = {
    "common": (),
    "format": (),
    "shm": (),
    "io": (),
    "client": ("shm",),
    "runtime": ("io",),
    "tier": ("runtime", "io"),
    "store": ("format", "tier", "runtime", "io"),
    "options": (),
    "shard": ("store", "runtime", "io", "shm", "options"),
    "supervisor": ("shm", "options"),
    "tools": ("store", "format", "runtime", "io"),
    "trace": (),
    "main": ("supervisor", "shard", "options"),
    "tests": ANYTHING,
    "bench": ANYTHING,
}

# Libraries, each behind the one door that we gave it. Tests and benchmarks may use any.
THIRD_PARTY = {
    r"liburing\.h|linux/io_uring\.h": ("io",),
    r"xxhash\.h": ("common",),
    r"ini\.h": ("common",),
    r"json-c/.*": ("client/cli",),
    r"jemalloc/.*": ("main",),
    r"sanitizer/.*|valgrind/.*": ("common", "runtime", "io"),
    r"check\.h": (),
    r"eloqclient\.h": ("client/examples",),
}

# The C library and the kernel's headers are for everybody.
SYSTEM = re.compile(
    r"(sys|linux|arpa|netinet|asm)/[a-z0-9_]+\.h"
    r"|(assert|complex|cpuid|ctype|dirent|dlfcn|endian|errno|error|execinfo|fcntl|fenv|float|fnmatch|ftw"
    r"|getopt|glob|grp|immintrin|inttypes|libgen|limits|link|locale|malloc|math|net/if|netdb|poll"
    r"|pthread|pwd|sched|semaphore|setjmp|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef"
    r"|stdint|stdio|stdlib|stdnoreturn|string|strings|syscall|sysexits|syslog|termios|threads|time"
    r"|uchar|ucontext|unistd|utime|wchar|x86intrin)\.h"
)

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def part_of(path):
    """The part that a file belongs to; None outside of every part."""
    pieces = path.split("/")
    if pieces[0] != "daemon":
        return pieces[0] if pieces[0] in MAY_INCLUDE else None
    if len(pieces) == 2:
        stem = re.split(r"[._]", pieces[1])[0]
        return stem if stem in ("main", "options") else None
    return pieces[1] if pieces[1] in MAY_INCLUDE else None


def judge_ours(path, part, included):
    """Why an include in quotes is wrong, or None."""
    if path == "client/eloqclient.h":
        return "is installed alone and may include nothing of ours"
    if not (tree.ROOT / included).is_file():
        return f'"{included}": not a file from the repository root'
    target = part_of(included)
    allowed = MAY_INCLUDE[part]
    if allowed is ANYTHING or target in ("common", part) or target in allowed:
        return None
    return f'"{included}": {part} may not include {target or "what belongs to no part"}'


def judge_theirs(path, part, included):
    """Why an include in angle brackets is wrong, or None."""
    for pattern, users in THIRD_PARTY.items():
        if re.fullmatch(pattern, included):
            if part in users or MAY_INCLUDE[part] is ANYTHING:
                return None
            if any(path.startswith(f"{user}/") for user in users):
                return None
            return f"<{included}>: is used only in {', '.join(users) or 'tests'}"
    if SYSTEM.fullmatch(included):
        return None
    return f"<{included}>: is not listed in tests/lint/layers.py"


def main():
    findings = []
    for file in tree.c_files():
        path = str(file)
        part = part_of(path)
        if part is None:
            findings.append((path, 1, "belongs to no part of the layer table"))
            continue
        for number, line in enumerate(tree.read(file).splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            ours, theirs = match.groups()
            wrong = judge_ours(path, part, ours) if ours else judge_theirs(path, part, theirs)
            if wrong:
                findings.append((path, number, wrong))
    return tree.report(findings)


if __name__ == "__main__":
    sys.exit(main())
