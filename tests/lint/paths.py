#!/usr/bin/env python3
"""The repository stands alone: no path of somebody's machine in it, none that leads out of it, and
every link of a document leads to a file that is there."""

import re
import sys

import tree

# Directories that exist on one machine only, wherever they are written out.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|work|Users)/\w[\w./-]*")
UPWARD_PATH = re.compile(r"(?<![\w.])(?:\.\./)+\w[\w./-]*")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def leads_out(path, target):
    """True for a relative path that leaves the repository, seen from the directory of path."""
    full = (tree.ROOT / path.parent / target).resolve()
    return tree.ROOT not in (full, *full.parents)


def judge(path, line):
    """What is wrong with the paths of one line."""
    for found in MACHINE_PATH.findall(line):
        yield f"{found}: a path of one machine"
    for found in UPWARD_PATH.findall(line):
        if leads_out(path, found):
            yield f"{found}: leads out of the repository"
    if path.suffix == ".md":
        for target in LINK.findall(line):
            if "://" not in target and not (tree.ROOT / path.parent / target).exists():
                yield f"{target}: the link leads nowhere"


def main():
    findings = []
    for path in tree.files():
        for number, line in enumerate(tree.read(path).splitlines(), 1):
            findings += [(path, number, wrong) for wrong in judge(path, line)]
    return tree.report(findings)


if __name__ == "__main__":
    sys.exit(main())
