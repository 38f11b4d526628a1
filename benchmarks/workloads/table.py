"""The table of one size: seconds, ratios, first call, memory; and the lines that have bars."""

from __future__ import annotations

from harness.report import Line, at_most, duration, missing, number, ratio, wrong
from workloads.bars import BARS, MOST_BYTES
from workloads.cells import Cell
from workloads.contenders import HAND, OURS

HEADINGS = ("", "a call", "/ by hand", "/ fastad", "first call", "memory", "")


def named(size: tuple[int, ...]) -> str:
    """A size as text."""
    return ", ".join(map(str, size))


def by_title(cells: list[Cell]) -> dict[str, Cell]:
    """The cells of one size."""
    return {cell.contender.title: cell for cell in cells}


def text(cells: list[Cell]) -> str:
    """One row a contender."""
    cell = cells[0]
    rows = [HEADINGS, *(_row(each, by_title(cells)) for each in cells if each.state != "unable")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = [f"### {cell.workload.name} {named(cell.size)}"]
    for row in rows:
        padded = [each.rjust(width) for each, width in zip(row, widths, strict=False)]
        padded[0] = row[0].ljust(widths[0])
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return "\n".join(lines) + "\n"


def _row(cell: Cell, others: dict[str, Cell]) -> tuple[str, ...]:
    def over(title):
        other = others.get(title)
        if cell.seconds is None or other is None or other.seconds is None:
            return "-"
        return number(cell.seconds / other.seconds)

    return (
        cell.contender.title,
        cell.state or ("-" if cell.seconds is None else duration(cell.seconds)),
        over(HAND),
        over(OURS),
        "-" if cell.first_seconds is None else duration(cell.first_seconds),
        "-" if cell.peak_bytes is None else f"{cell.peak_bytes / 2**20:.1f} MiB",
        cell.why or cell.contender.how,
    )


def lines(cells: list[Cell]) -> list[Line]:
    """A line for every bar of the size, come what may, and one for every cell that is wrong."""
    name, size = cells[0].workload.name, cells[0].size
    found, others = [], by_title(cells)
    for title, limit in BARS.get(name, {}).get(size, {}).items():
        found.append(_line(f"{name} {named(size)} / {title}", others, title, limit))
    if (name, size) in MOST_BYTES:
        found.append(_memory(others[OURS], MOST_BYTES[name, size]))
    found += [
        wrong(f"{name} {named(size)}, {cell.contender.title}", cell.why)
        for cell in cells
        if cell.state in ("wrong", "failed") and cell.contender.title != OURS
    ]
    if others[OURS].state and not found:
        found.append(wrong(f"{name} {named(size)}", others[OURS].why))
    return found


def _line(what: str, others: dict[str, Cell], title: str, limit: float) -> Line:
    ours, theirs, bar = others[OURS], others.get(title), at_most(limit)
    if ours.seconds is None:
        return wrong(what, f"fastad: {ours.why}", bar)
    if theirs is None or theirs.seconds is None:
        why = "left out by --peers" if theirs is None else f"{title}: {theirs.why}"
        return missing(what, why, bar)
    return ratio(what, ours.figure, theirs.figure, title, bar)


def _memory(ours: Cell, limit: int) -> Line:
    what = f"{ours.workload.name} {named(ours.size)}, memory of recording"
    bar = at_most(limit / 10**9)
    if ours.peak_bytes is None:
        return wrong(what, f"fastad: {ours.why}", bar)
    return Line(what, ours.peak_bytes / 1e9, "GB", bar)
