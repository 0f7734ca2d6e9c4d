"""What the lints share: our files, and how a finding is printed."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Not ours to judge: build results, a running daemon's data, binary fixtures, the history.
NOT_SOURCES = ("build", "eloq-data", ".git", "tests/golden")
C_SUFFIXES = (".c", ".h", ".S")


def files():
    """Every text file of the repository, as paths relative to its root, in a stable order."""
    pending = [ROOT]
    found = []
    while pending:
        for path in pending.pop().iterdir():
            relative = path.relative_to(ROOT)
            if str(relative) in NOT_SOURCES or path.name == "__pycache__":
                continue
            if path.is_dir():
                pending.append(path)
            elif path.suffix != ".log":
                found.append(relative)
    return sorted(found)


def c_files():
    return [path for path in files() if path.suffix in C_SUFFIXES]


def read(path):
    return (ROOT / path).read_text(errors="replace")


def report(findings):
    """Prints (path, line, text) findings as compilers do; the exit code of a lint."""
    for path, line, text in findings:
        print(f"{path}:{line}: {text}")
    return 1 if findings else 0
