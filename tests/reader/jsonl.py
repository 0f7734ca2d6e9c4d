"""Records as JSON lines, and the difference between two sets of them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from partition import Record


def to_line(record: Record) -> str:
    """One line in the form of an export. A value that stays compressed has its length only."""
    fields: dict[str, Any] = {
        "table": record.table,
        "partition": record.partition,
        "key": record.key.hex(),
    }
    if record.value is None:
        fields["value_len"] = record.value_len
    else:
        fields["value"] = record.value.hex()
    fields["timestamp"] = record.timestamp
    fields["expire_ts"] = record.expire_ts
    return json.dumps(fields, separators=(",", ":"))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def differences(records: Iterable[Record], expected: Iterable[dict[str, Any]]) -> list[str]:
    """What records and expected lines do not agree on, in words."""
    found = {(r.table, r.partition, r.key.hex()): r for r in records}
    words = []
    for line in expected:
        name = (line["table"], line["partition"], line["key"])
        record = found.pop(name, None)
        if record is None:
            words.append(f"{_title(name)} is missing")
        else:
            words += [f"{_title(name)}: {what}" for what in _differences_of(record, line)]
    return words + [f"{_title(name)} is not expected" for name in found]


def _title(name: tuple[str, int, str]) -> str:
    return f"{name[0]}.{name[1]} key {name[2]}"


def _differences_of(record: Record, line: dict[str, Any]) -> Iterator[str]:
    wanted = dict(line)
    if "value" in wanted:
        wanted.setdefault("value_len", len(wanted["value"]) // 2)
    for field in ("value_len", "timestamp", "expire_ts"):
        if getattr(record, field) != wanted[field]:
            yield f"{field} is {getattr(record, field)}, expected {wanted[field]}"
    if record.value is None:
        return
    if "value" in wanted:
        if record.value.hex() != wanted["value"]:
            yield "value differs"
    elif hashlib.sha256(record.value).hexdigest() != wanted["value_sha256"]:
        yield "value differs (by its SHA-256)"
