#!/usr/bin/env python3
"""Keeps files and functions small enough to enter: a file above 800 lines is refused, a function
above 70 lines is named."""

import re
import sys

import tree

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70

NAME = re.compile(r"(\w+)\s*\(")
WORDS_BEFORE_A_NAME = ("__attribute__", "ELOQ_PRINTF", "ELOQ_CLEANUP", "ELOQ_ALIGNED")


def functions(lines):
    """(name, first line, line count) of each function: a brace alone at the margin opens it."""
    opened = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            opened = number
        elif line == "}" and opened:
            yield name_above(lines, opened), opened, number - opened + 1
            opened = None


def name_above(lines, opened):
    """The declaration of a function starts at the last line before its brace that is not indented."""
    for line in reversed(lines[: opened - 1]):
        if line and not line[0].isspace():
            names = [n for n in NAME.findall(line) if n not in WORDS_BEFORE_A_NAME]
            return names[0] if names else line
    return "?"


def main():
    findings = []
    for path in tree.files():
        if path.suffix not in (*tree.C_SUFFIXES, ".py", ".cmake", ".sh", "") or path.name == "LICENSE":
            continue
        lines = tree.read(path).splitlines()
        if len(lines) > FILE_LINES_MAX:
            findings.append((path, len(lines), f"more than {FILE_LINES_MAX} lines: split it by idea"))
        if path.suffix not in tree.C_SUFFIXES:
            continue
        for name, line, count in functions(lines):
            if count > FUNCTION_LINES_MAX:
                print(f"{path}:{line}: warning: {name}() has {count} lines")
    return tree.report(findings)


if __name__ == "__main__":
    sys.exit(main())
