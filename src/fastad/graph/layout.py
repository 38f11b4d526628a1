"""Layered layout, left to right: where each node, each edge label and each bend of an edge goes.

The library `fast-sugiyama` ranks the nodes, orders them so that few edges cross, and aligns them
(Sugiyama, Tagawa and Toda, IEEE Trans. SMC 11(2), 1981; Brandes and Köpf, Graph Drawing 2001).
An edge label is laid out as if it were a node on its edge, and an edge that crosses a column gets
a place of its own there. Two facts follow, whatever the graph, and the tests hold them:

- no two boxes overlap, labels included;
- inside a column every edge runs horizontally through a place reserved for it, and it bends only
  between columns, where no boxes are: so no edge passes through a node or through a foreign label.

Lengths have no unit here: the SVG counts pixels, the text drawing counts characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Size = tuple[float, float]
Edge = tuple[int, int]

LARGEST = 20_000  # places; a graph of a hundred nodes needs less than a thousand

_MISSING = (
    "drawing a graph needs the layout library fast-sugiyama: pip install fastad[graph] "
    "(the DOT form needs no library)"
)


@dataclass(frozen=True)
class Box:
    """An upright rectangle, by its centre and its size; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class Column:
    """The horizontal range that the boxes of one rank share."""

    left: float
    right: float

    @property
    def centre(self) -> float:
        return (self.left + self.right) / 2


@dataclass(frozen=True)
class Route:
    """An edge: the boxes it passes, from its source to its target, one in each column.

    Attributes
    ----------
    places : tuple of Box
        The source, the places reserved on the way, the target.
    columns : tuple of Column
        The column of each place.
    label : Box
        The place of the edge's label, one of `places`.
    """

    places: tuple[Box, ...]
    columns: tuple[Column, ...]
    label: Box


@dataclass(frozen=True)
class Layout:
    """Boxes of the nodes and routes of the edges, in the order in which they were given."""

    nodes: tuple[Box, ...]
    routes: tuple[Route, ...]
    columns: tuple[Column, ...]
    width: float
    height: float


@dataclass(frozen=True)
class Spacing:
    """Distances between boxes.

    Attributes
    ----------
    row : float
        Free height between two boxes of one column.
    column : float
        Free width between two columns in which nothing runs far up or down.
    slope : float
        Width added between two columns for each unit of height that an edge climbs there.
    widest : float
        Largest free width between two columns.
    pitch : float
        Height of one step of the library's grid.
    """

    row: float
    column: float
    slope: float
    widest: float
    pitch: float


@dataclass
class _Place:
    size: Size
    rank: int


def layered_layout(
    sizes: Sequence[Size], edges: Sequence[Edge], labels: Sequence[Size], spacing: Spacing
) -> Layout:
    """Lay out a directed acyclic graph from left to right.

    Parameters
    ----------
    sizes : sequence of (width, height)
        One for each node.
    edges : sequence of (int, int)
        Source and target of each edge, as positions in `sizes`. Parallel edges are welcome.
    labels : sequence of (width, height)
        Size of each edge's label; ``(0, 0)`` for an edge without a label.
    spacing : Spacing
        Distances to keep.

    Returns
    -------
    Layout

    Raises
    ------
    ImportError
        If the layout library is not installed.
    ValueError
        If the graph is so large, or its edges so long, that nobody could read the drawing.
    """
    ranks = _ranks(len(sizes), edges)
    count = len(sizes) + sum(2 * (ranks[target] - ranks[source]) for source, target in edges)
    if count > LARGEST:
        raise ValueError(
            f"the graph is too large to be drawn: {len(sizes)} nodes and edges across "
            f"{max(ranks)} columns (the DOT form has no limit)"
        )
    places = [_Place(size, 2 * rank) for size, rank in zip(sizes, ranks, strict=True)]
    chains = [_chain(places, edge, label) for edge, label in zip(edges, labels, strict=True)]
    links = [link for chain in chains for link in pairwise(chain)]
    rows = _rows(places, _grid(len(places), links), spacing)
    columns = _columns(places, links, rows, spacing)
    boxes = [
        Box(columns[place.rank].centre, row, *place.size)
        for place, row in zip(places, rows, strict=True)
    ]
    routes = tuple(
        Route(
            tuple(boxes[i] for i in chain),
            tuple(columns[places[i].rank] for i in chain),
            boxes[chain[-2]],
        )
        for chain in chains
    )
    height = max((box.bottom for box in boxes), default=0.0)
    width = columns[-1].right if columns else 0.0
    return Layout(tuple(boxes[: len(sizes)]), routes, tuple(columns), width, height)


def _chain(places: list[_Place], edge: Edge, label: Size) -> list[int]:
    """Reserve a place for `edge` in each column between its ends, the label before its target."""
    source, target = edge
    first, last = places[source].rank + 1, places[target].rank
    reserved = range(len(places), len(places) + last - first)
    places.extend(_Place((0.0, 0.0), rank) for rank in range(first, last - 1))
    places.append(_Place(label, last - 1))
    return [source, *reserved, target]


def _ranks(n: int, edges: Sequence[Edge]) -> list[int]:
    """The column of each node, such that edges lead rightwards and are short in all."""
    ranks = [0] * n
    for component in _solve(sorted(set(edges))):
        top = max(y for _, (_, y) in component)
        for node, (_, y) in component:
            ranks[node] = round(top - y)
    return ranks


def _grid(n: int, links: Sequence[Edge]) -> list[float]:
    """Height of each place in steps of the library's grid, one component below the other."""
    heights: list[float | None] = [None] * n
    below = 0.0  # what the components so far take
    for component in _solve(links):
        top = min(x for _, (x, _) in component)
        for node, (x, _) in component:
            heights[node] = below + x - top
        below += 1.0 + max(x for _, (x, _) in component) - top
    for node, height in enumerate(heights):
        if height is None:
            heights[node] = below
            below += 1.0
    return [height for height in heights if height is not None]


def _solve(edges: Sequence[Edge]) -> Iterable[Sequence[tuple[Any, tuple[float, float]]]]:
    """Positions found by the library, one list for each connected component of the graph."""
    try:
        from fast_sugiyama import from_edges
    except ImportError as error:
        raise ImportError(_MISSING) from error
    if not edges:
        return []
    found = from_edges(edges, vertex_spacing=1, dummy_vertices=False, ranking_type="minimize")
    return [positions for positions, *_ in found]


def _rows(places: Sequence[_Place], grid: Sequence[float], spacing: Spacing) -> list[float]:
    """The y of every place: as near to the library's as the heights of the boxes allow."""
    rows = [0.0] * len(places)
    for members in _by_rank(places):
        members.sort(key=lambda i: grid[i])
        wanted = [grid[i] * spacing.pitch for i in members]
        heights = [places[i].size[1] for i in members]
        apart = [(a + b) / 2 + spacing.row for a, b in pairwise(heights)]
        for i, row in zip(members, _spread(wanted, apart), strict=True):
            rows[i] = row
    top = min((row - place.size[1] / 2 for row, place in zip(rows, places, strict=True)), default=0)
    return [row - top for row in rows]


def _spread(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """The nearest positions (least squares) to `wanted` with given least distances.

    Less the distances it is a monotone regression, solved by pooling adjacent violators
    (Barlow et al., *Statistical Inference under Order Restrictions*, 1972, section 1.2).
    """
    offsets = [0.0]
    for distance in apart:
        offsets.append(offsets[-1] + distance)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        mean, size = want - offset, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean = (before * count + mean * size) / (count + size)
            size += count
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return [base + offset for base, offset in zip(level, offsets, strict=True)]


def _columns(
    places: Sequence[_Place], links: Sequence[Edge], rows: Sequence[float], spacing: Spacing
) -> list[Column]:
    """The x range of every rank; a gap is wider where an edge climbs far."""
    widths = [max(places[i].size[0] for i in members) for members in _by_rank(places)]
    climbs = [0.0] * len(widths)
    for a, b in links:
        climbs[places[b].rank] = max(climbs[places[b].rank], abs(rows[a] - rows[b]))
    columns: list[Column] = []
    for width, climb in zip(widths, climbs, strict=True):
        gap = min(spacing.widest, spacing.column + spacing.slope * climb)
        left = columns[-1].right + gap if columns else 0.0
        columns.append(Column(left, left + width))
    return columns


def _by_rank(places: Sequence[_Place]) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(1 + max((p.rank for p in places), default=-1))]
    for i, place in enumerate(places):
        members[place.rank].append(i)
    return members
