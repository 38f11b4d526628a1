"""Refuse a misaligned row in a table of primitives (`python tools/check_table.py csrc/*.def`).

A table is a comment that draws its columns, `/* ---- --- ---- */`, and the rows `NAME(cell, ...)`
below it, up to a line that is neither row nor comment. Each cell starts where its column does.
"""

import re
import sys
from pathlib import Path

RULE = re.compile(r"/\*(?:\s+-+)+\s*\*/\s*$")
ROW = re.compile(r"[A-Z]\w*\(")
OPENING, CLOSING = "([{", ")]}"


def cell_starts(row: str) -> list[int]:
    """Where the top-level cells of `NAME(a, f(b, c), "d, e")` start."""
    starts, depth, quoted, awaited = [], 0, False, False
    for position, character in enumerate(row):
        if awaited and not character.isspace():
            starts.append(position)
            awaited = False
        if character == '"' and row[position - 1] != "\\":
            quoted = not quoted
        if quoted:
            continue
        depth += (character in OPENING) - (character in CLOSING)
        awaited = awaited or (depth == 1 and character in ",(")
        if depth == 0 and character == ")":
            break
    return starts


def faults(text: str) -> list[tuple[int, str]]:
    """Line numbers and what is wrong there; a file without a single checked row is a fault too."""
    found, columns, rows = [], [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if RULE.match(line):
            columns = [match.start() for match in re.finditer("-+", line)]
        elif columns and ROW.match(line):
            rows += 1
            starts = cell_starts(line)
            if len(starts) != len(columns):
                found.append((number, f"{len(starts)} cells under {len(columns)} columns"))
            else:
                off = [i for i, (a, b) in enumerate(zip(starts, columns, strict=True), 1) if a != b]
                if off:
                    found.append((number, f"misaligned cells: {', '.join(map(str, off))}"))
        elif not line.startswith("/*"):
            columns = []
    return found or ([] if rows else [(1, "no table found")])


def main(paths: list[str]) -> int:
    messages = [
        f"{path}:{number}: {what}"
        for path in paths
        for number, what in faults(Path(path).read_text(encoding="utf-8"))
    ]
    print("\n".join(messages) or f"aligned: {' '.join(paths)}")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
