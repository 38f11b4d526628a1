"""The figures as CSV, and as a page with a chart for each workload."""

from __future__ import annotations

import csv
import math
from html import escape
from itertools import groupby
from pathlib import Path

from harness.report import Line, duration, number
from workloads.cells import Cell
from workloads.contenders import HAND, HAND_VALUE, NUMPY, OURS
from workloads.table import named

COLUMNS = ("workload", "size", "contender", "seconds", "spread", "first_call_seconds")
COLUMNS += ("peak_bytes", "state", "why", "how")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; color: #222; }
h1, h2 { font-weight: 600; } h2 { margin: 2em 0 .2em; } svg { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1em; font-size: 13px; }
dt { color: #666; } dd { margin: 0; } table { border-collapse: collapse; font-size: 13px; }
td, th { padding: .15em .8em .15em 0; text-align: right; white-space: nowrap; }
td:first-child, th:first-child, td:last-child { text-align: left; }
td:last-child { color: #666; white-space: normal; }
.PASS { color: #17692f; } .MISS, .WRONG { color: #a8201a; font-weight: 600; }
text { font: 12px system-ui, sans-serif; fill: #222; } .quiet { fill: #777; }
text { paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round; }
"""
COLOURS = {OURS: "#1f5fa8", HAND: "#333"}
OWN, OTHER = "#8fb4dc", "#c9c9c4"
LEFT, RIGHT, ROW, HEAD, GAP = 150, 110, 18, 26, 14
WIDTH = 860


def write_csv(path: Path, cells: list[Cell]) -> None:
    """One row a cell."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for cell in cells:
            spread = f"{cell.figure.spread:.3f}" if cell.seconds else ""
            figures = (cell.first_seconds, cell.peak_bytes)
            writer.writerow(
                (
                    *(cell.workload.name, " ".join(map(str, cell.size)), cell.contender.title),
                    *("" if cell.seconds is None else f"{cell.seconds:.6g}", spread),
                    *("" if each is None else str(round(each, 6)) for each in figures),
                    *(cell.state or "timed", cell.why, cell.contender.how),
                )
            )


def write_html(path: Path, facts: dict[str, str], cells: list[Cell], lines: list[Line]) -> None:
    """The page: machine, bars, then a chart and a table for each workload."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>fastad: workloads</title>",
        f"<style>{STYLE}</style><h1>Functions that others chose</h1>",
        "<p>Seconds for one gradient. The black line is the gradient written by hand in C; the "
        "scale is logarithmic.</p><dl>",
        *(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()),
        "</dl><h2>Bars</h2>",
        _bars(lines),
    ]
    for name, group in groupby(cells, key=lambda cell: cell.workload.name):
        own = list(group)
        parts += [f"<h2>{escape(name)}</h2><p>{escape(own[0].workload.title)}</p>", chart(own)]
        parts.append(_table(own))
    path.write_text("\n".join(parts) + "</html>\n")


def _bars(lines: list[Line]) -> str:
    rows = ["<tr><th>what<th>fastad<th>against<th>value<th>bar<th>verdict"]
    for line in lines:
        value = "-" if line.value is None else f"{number(line.value)} {line.unit}"
        cells = (line.what, line.ours, line.theirs, value, str(line.bar or "-"))
        verdict = f"<td class='{line.verdict}'>{line.verdict}"
        rows.append("<tr>" + "".join(f"<td>{escape(each)}" for each in cells) + verdict)
    return f"<table>{''.join(rows)}</table>"


def _table(cells: list[Cell]) -> str:
    rows = ["<tr><th>size<th>contender<th>a call<th>first call<th>memory<th>"]
    for cell in cells:
        if cell.state == "unable":
            continue
        first = "-" if cell.first_seconds is None else duration(cell.first_seconds)
        peak = "-" if cell.peak_bytes is None else f"{cell.peak_bytes / 2**20:.1f} MiB"
        seconds = cell.state if cell.seconds is None else duration(cell.seconds)
        words = (named(cell.size), cell.contender.title, seconds, first, peak)
        note = cell.why or cell.contender.how
        rows.append("<tr>" + "".join(f"<td>{escape(each)}" for each in (*words, note)))
    return f"<details><summary>figures</summary><table>{''.join(rows)}</table></details>"


def chart(cells: list[Cell]) -> str:
    """Bars on a logarithmic scale, a group for each size, the C by hand as a line through it."""
    cells = [c for c in cells if c.state != "unable" and c.contender.title != NUMPY]
    known = [cell.seconds for cell in cells if cell.seconds is not None]
    if not known:
        return "<p>Nothing was timed.</p>"
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)

    def place(seconds: float) -> float:
        return LEFT + (math.log10(seconds) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts, top = [], 8
    for size, group in groupby(cells, key=lambda cell: cell.size):
        shown = list(group)
        bottom = top + HEAD + ROW * len(shown)
        parts.append(f"<text x='0' y='{top + 16}' font-weight='600'>{named(size)}</text>")
        for power in range(low, high + 1):
            x = place(10.0**power)
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top + HEAD}' y2='{bottom}' "
                "stroke='#e4e4e0'/>"
                f"<text class='quiet' x='{x:.1f}' y='{top + 18}' text-anchor='middle'>"
                f"{duration(10.0**power)}</text>"
            )
        floor = next((c.seconds for c in shown if c.contender.title == HAND), None)
        ways = [_bar(cell, top + HEAD + ROW * index, place) for index, cell in enumerate(shown)]
        parts += [rectangle for rectangle, _ in ways]
        if floor is not None:
            x = place(floor)
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top + HEAD - 4}' y2='{bottom}' "
                "stroke='#000' stroke-width='1.5'/>"
            )
        parts += [labels for _, labels in ways]
        top = bottom + GAP
    return f"<svg viewBox='0 0 {WIDTH} {top}' role='img'>{''.join(parts)}</svg>"


def _bar(cell: Cell, y: float, place) -> tuple[str, str]:
    """The rectangle, and the texts, which are drawn over the line."""
    title = cell.contender.title
    name = f"<text x='{LEFT - 8}' y='{y + 13}' text-anchor='end'>{escape(title)}</text>"
    if cell.seconds is None:
        why = cell.state if cell.state != "limit" else cell.why
        return "", f"{name}<text class='quiet' x='{LEFT + 6}' y='{y + 13}'>{escape(why)}</text>"
    own = OWN if title.startswith(OURS) else OTHER
    colour, width = COLOURS.get(title, own), max(1.0, place(cell.seconds) - LEFT)
    opacity = 0.45 if title == HAND_VALUE else 1.0
    rectangle = (
        f"<rect x='{LEFT}' y='{y + 2}' width='{width:.1f}' height='{ROW - 4}' fill='{colour}' "
        f"opacity='{opacity}'/>"
    )
    label = f"<text x='{LEFT + width + 6:.1f}' y='{y + 13}'>{duration(cell.seconds)}</text>"
    return rectangle, name + label
