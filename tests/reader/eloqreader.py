#!/usr/bin/env python3
"""Reads and checks stores in EloqStore's format; shares nothing with the daemon.

    eloqreader.py check DIR...             every page and record; exit code 1 if anything is wrong
    eloqreader.py dump DIR...              all records as JSON lines, as `eloqctl export` does
    eloqreader.py compare EXPECTED DIR...  the records against such lines (value or value_sha256)

DIR is a store path (a daemon's DIR/data); several are given in the order of `store_path`. The store
must be stopped. Page size and the like are not in any file: give options, or the ini by --config.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import jsonl
import xxh3
from codec import Options
from store import Store, options_of_ini
from values import Zstd

SHOWN_DIFFERENCES = 20


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, help="take options from this ini file")
    common.add_argument("--page-size", type=int, metavar="BYTES", help="default 4096")
    common.add_argument("--file-shift", type=int, metavar="N", help="2^N pages a file, default 18")
    common.add_argument("--overflow-pointers", type=int, metavar="N", help="default 16")
    common.add_argument("--append", action="store_true", help="append mode: check archives too")
    common.add_argument("--ours", action="store_true", help="what is unused must be zero")

    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "dump", "compare"):
        command = commands.add_parser(name, parents=[common])
        if name == "compare":
            command.add_argument("expected", type=Path, metavar="EXPECTED")
        command.add_argument("paths", type=Path, nargs="+", metavar="DIR")
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> Options:
    """Options of the ini file, or the defaults, changed by what is given."""
    options = options_of_ini(args.config) if args.config else Options()
    given = {
        name: getattr(args, name)
        for name in ("page_size", "file_shift", "overflow_pointers")
        if getattr(args, name) is not None
    }
    append = args.append or options.append
    return dataclasses.replace(options, append=append, ours=args.ours, **given)


def main() -> int:
    args = parse_command_line()
    for path in args.paths:
        if not path.is_dir():
            print(f"eloqreader: {path} is not a directory", file=sys.stderr)
            return 2
    store = Store(args.paths, options_of(args))
    records = store.check()
    wrong = 0
    if args.command == "dump":
        for record in records:
            print(jsonl.to_line(record))
    if args.command == "compare":
        words = jsonl.differences(records, jsonl.read(args.expected))
        for word in words[:SHOWN_DIFFERENCES]:
            print(word, file=sys.stderr)
        wrong += len(words)
        print(f"{len(words)} differences")
    if args.command == "check":
        archives = store.check_archives()
        counts = f"{len(store.partitions)} partitions, {len(records)} records"
        print(f"{counts}, {len(archives)} archives")
        print(f"XXH3: {xxh3.SOURCE}; zstd: {Zstd().source()}")
        print(f"{len(store.findings)} findings")
    for finding in store.findings:
        print(finding, file=sys.stderr)
    return 1 if store.findings or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
