"""Wires between two columns of a text drawing: which vertical runs where, and how it is drawn.

Each wire leaves the left column on one row and enters the right column on one or several rows.
It runs right, then up or down on a *track* of its own, then right again. Two rules keep the
drawing unambiguous (Hashimoto and Stevens, Proc. 8th Design Automation Workshop, 1971: channel
routing with vertical constraints):

- wires whose verticals overlap are on different tracks;
- a wire that leaves on row r turns off before any other wire enters row r.

Where the second rule is circular, a wire is split: it first moves to a free row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .topological import CycleError, topological_sort

LEFT, RIGHT, UP, DOWN = 1, 2, 4, 8
GLYPHS = {
    LEFT | RIGHT: "─",
    UP | DOWN: "│",
    RIGHT | DOWN: "╭",
    LEFT | DOWN: "╮",
    RIGHT | UP: "╰",
    LEFT | UP: "╯",
    LEFT | RIGHT | DOWN: "┬",
    LEFT | RIGHT | UP: "┴",
    UP | DOWN | RIGHT: "├",
    UP | DOWN | LEFT: "┤",
    LEFT | RIGHT | UP | DOWN: "┼",
}


@dataclass
class Wire:
    """From row `source` on the left to the rows `targets` on the right, by way of `track`.

    A wire that was split ends on a free row, where its `rest` goes on.
    """

    source: int
    targets: set[int]
    track: int = -1  # none: the wire is straight
    rest: Wire | None = None

    @property
    def is_straight(self) -> bool:
        return self.targets == {self.source}

    @property
    def span(self) -> tuple[int, int]:
        rows = {self.source, *self.targets}
        return min(rows), max(rows)


class Channel:
    """The space between two columns.

    Parameters
    ----------
    links : iterable of (int, int)
        Row on the left and row on the right of each edge.
    """

    def __init__(self, links: Iterable[tuple[int, int]]) -> None:
        wires: dict[int, Wire] = {}
        for source, target in links:
            wires.setdefault(source, Wire(source, set())).targets.add(target)
        self.wires = [wires[source] for source in sorted(wires)]
        self._assign(self._order())

    @property
    def width(self) -> int:
        """Number of characters, a free one at either end."""
        return 3 + max((wire.track for wire in self.wires), default=-1)

    @property
    def height(self) -> int:
        """Number of rows, from 0, that the wires need."""
        return 1 + max((wire.span[1] for wire in self.wires), default=-1)

    def cells(self) -> Iterator[tuple[int, int, str]]:
        """Column, row and character of every place a wire goes through."""
        for x in range(self.width):
            for y in {row for wire in self.wires for row in range(wire.span[0], wire.span[1] + 1)}:
                glyph = self._glyph(x, y)
                if glyph:
                    yield x, y, glyph

    def _order(self) -> list[Wire]:
        """The wires, each before those that enter the row it leaves on."""
        while True:
            bent = [wire for wire in self.wires if not wire.is_straight]
            later = {
                i: [j for j, b in enumerate(bent) if _comes_before(a, b)]
                for i, a in enumerate(bent)
            }
            try:
                return [bent[i] for i in topological_sort(later)]
            except CycleError as error:
                self._split(bent[error.nodes[0]])

    def _split(self, wire: Wire) -> None:
        taken = {row for other in self.wires for row in (other.source, *other.targets)}
        free = [row for row in range(max(taken) + 2) if row not in taken]
        detour = min(free, key=lambda row: abs(row - wire.source))
        wire.rest = Wire(detour, wire.targets)
        wire.targets = {detour}
        self.wires.append(wire.rest)

    def _assign(self, order: list[Wire]) -> None:
        placed: list[Wire] = []
        for wire in order:
            first = 1 + max((p.track for p in placed if _comes_before(p, wire)), default=-1)
            busy = {p.track for p in placed if _overlap(p.span, wire.span)}
            wire.track = next(t for t in range(first, len(order) + 1) if t not in busy)
            placed.append(wire)

    def _glyph(self, x: int, y: int) -> str:
        """What to draw: a vertical hides what it crosses; only wires that meet look joined."""
        for wire in self.wires:
            if wire.track == x - 1 and not wire.is_straight and wire.span[0] <= y <= wire.span[1]:
                return GLYPHS[self._arms(wire, y)]
        return GLYPHS[LEFT | RIGHT] if self._runs_through(x, y) else ""

    def _arms(self, wire: Wire, y: int) -> int:
        top, bottom = wire.span
        arms = (UP if y > top else 0) | (DOWN if y < bottom else 0)
        if y == wire.source:
            arms |= LEFT
        if y in wire.targets:
            arms |= RIGHT
            if any(y in o.targets and o.track < wire.track for o in self.wires if o is not wire):
                arms |= LEFT
        return arms

    def _runs_through(self, x: int, y: int) -> bool:
        """Whether a wire is on row `y` on its way to its track, or behind it."""
        track = x - 1
        begins = {id(wire.rest): wire.track for wire in self.wires if wire.rest}
        return any(
            (wire.source == y and begins.get(id(wire), -2) < track < wire.track)
            or (y in wire.targets and (track > wire.track or wire.is_straight) and not wire.rest)
            for wire in self.wires
        )


def _comes_before(a: Wire, b: Wire) -> bool:
    """Whether `a` turns off a row that `b` enters, or `b` is the rest of `a`."""
    if b.rest is a:
        return False
    return a.rest is b or (a is not b and a.source in b.targets)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
