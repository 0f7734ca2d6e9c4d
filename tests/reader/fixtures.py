"""The stores of tests/golden/reference, unpacked or copied to a scratch directory."""

import shutil
import tarfile
from pathlib import Path

from codec import Options
from store import options_of_ini

REFERENCE = Path(__file__).resolve().parent.parent / "golden" / "reference"
NAMES = sorted(path.name.removesuffix(".tar.xz") for path in REFERENCE.glob("f*"))


class Fixture:
    """One of them, ours to change."""

    def __init__(self, name: str, scratch: Path) -> None:
        if (REFERENCE / name).is_dir():
            shutil.copytree(REFERENCE / name, scratch / name)
        else:
            with tarfile.open(REFERENCE / f"{name}.tar.xz") as archive:
                archive.extractall(scratch)
        self.path = scratch / name
        self.options: Options = options_of_ini(self.path / "options.ini")
        self.store = self.path / "store"
        self.expected = self.path / "expected.jsonl"

    def expected_of_archives(self) -> dict[int, Path]:
        """Expected records of each archive, by its timestamp."""
        paths = self.path.glob("expected-archive-*.jsonl")
        return {int(path.stem.rpartition("-")[2]): path for path in paths}
