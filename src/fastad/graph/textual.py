"""A picture as plain text: the same layout as the SVG, in characters.

Inputs stand in square brackets, gates in round ones; the value stands above each edge and the
gradient below it. A number at the end of an edge says which operand it is, where that matters. A
line that meets ``│`` without a corner passes behind it.
"""

from __future__ import annotations

from itertools import pairwise

from .channel import Channel
from .layout import Box, Layout, Size, Spacing, layered_layout
from .picture import Picture, PictureNode

_SPACING = Spacing(row=1.0, column=1.0, slope=0.0, widest=1.0, pitch=3.0)
_BRACKETS = {"input": ("[", "]"), "gate": ("(", ")")}


class _Canvas:
    """Characters by column and row."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], str] = {}

    def write(self, x: int, y: int, text: str) -> None:
        for offset, character in enumerate(text):
            self._cells[x + offset, y] = character

    def __str__(self) -> str:
        width = 1 + max((x for x, _ in self._cells), default=-1)
        height = 1 + max((y for _, y in self._cells), default=-1)
        rows = ["".join(self._cells.get((x, y), " ") for x in range(width)) for y in range(height)]
        return "\n".join(row.rstrip() for row in _without_repeats(rows))


def _without_repeats(rows: list[str]) -> list[str]:
    """Leave out a row in which nothing but verticals goes on as in the row above."""
    above = [None, *rows]
    return [
        row for row, before in zip(rows, above, strict=False) if row != before or row.strip(" │")
    ]


def to_text(picture: Picture) -> str:
    """Draw a picture with characters.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    str
        As many columns as the graph is deep, so perhaps wider than a terminal: ``less -S``.

    Raises
    ------
    ImportError
        If the layout library is not installed.

    Examples
    --------
    >>> from fastad.graph.picture import Picture, PictureEdge, PictureNode
    >>> from fastad.graph.textual import to_text
    >>> nodes = [PictureNode("input", "x"), PictureNode("gate", "exp"), PictureNode("output", "f")]
    >>> edges = [PictureEdge(0, 1, "0.5", "1.649"), PictureEdge(1, 2, "1.649", "1")]
    >>> print(to_text(Picture("f(x) = exp x", nodes, edges)))
    f(x) = exp x
    <BLANKLINE>
           0.5            1.649
    [x]───────────(exp)─────────── f
          1.649             1
    <BLANKLINE>
    """
    return f"{picture.title}\n\n{_Drawing(picture)}\n".lstrip("\n")


def text_layout(picture: Picture) -> Layout:
    """The layout that `to_text` draws, in characters; only its rows and widths are used."""
    sizes: list[Size] = [(float(len(_node_text(node))), 1.0) for node in picture.nodes]
    labels = [_label_size(edge.value, edge.gradient) for edge in picture.edges]
    return layered_layout(sizes, picture.ends, labels, _SPACING)


class _Drawing:
    """The canvas of a picture; columns are as wide as their boxes, channels as their tracks."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.layout = text_layout(picture)
        self.numbers = {column: i for i, column in enumerate(self.layout.columns)}
        self.widths = [round(column.right - column.left) for column in self.layout.columns]
        self.channels = self._channels()
        self.lefts = self._lefts()
        self.canvas = _Canvas()
        self._draw_channels()
        self._draw_edges()
        self._draw_nodes()

    def __str__(self) -> str:
        return str(self.canvas)

    def _channels(self) -> list[Channel]:
        links: list[list[tuple[int, int]]] = [[] for _ in self.widths[1:]]
        for route in self.layout.routes:
            rows = [_row(place) for place in route.places]
            first = self.numbers[route.columns[0]]
            for i, link in enumerate(pairwise(rows)):
                links[first + i].append(link)
        return [Channel(each) for each in links]

    def _lefts(self) -> list[int]:
        lefts = [0]
        for width, channel in zip(self.widths, self.channels, strict=False):
            lefts.append(lefts[-1] + width + channel.width)
        return lefts

    def _draw_channels(self) -> None:
        for left, width, channel in zip(self.lefts, self.widths, self.channels, strict=False):
            for x, y, glyph in channel.cells():
                self.canvas.write(left + width + x, y, glyph)

    def _draw_edges(self) -> None:
        for edge, route in zip(self.picture.edges, self.layout.routes, strict=True):
            for place, column in zip(route.places, route.columns, strict=True):
                number = self.numbers[column]
                line = "─" * self.widths[number]
                self.canvas.write(self.lefts[number], _row(place), line)
            left, row = self.lefts[self.numbers[route.columns[-2]]], _row(route.label)
            width = self.widths[self.numbers[route.columns[-2]]]
            self.canvas.write(left, row - 1, edge.value.center(width).rstrip())
            self.canvas.write(left, row + 1, edge.gradient.center(width).rstrip())
            self.canvas.write(left + width - len(edge.operand), row, edge.operand)

    def _draw_nodes(self) -> None:
        entered = {edge.target for edge in self.picture.edges}
        left = {edge.source for edge in self.picture.edges}
        for i, (node, box) in enumerate(zip(self.picture.nodes, self.layout.nodes, strict=True)):
            number = next(
                k for k, c in enumerate(self.layout.columns) if c.left <= box.x <= c.right
            )
            text, width = _node_text(node), self.widths[number]
            line = text.center(width, "─")
            before = len(line) - len(line.lstrip("─"))
            shown = (line[:before] if i in entered else " " * before) + text
            after = line[before + len(text) :]
            self.canvas.write(
                self.lefts[number], _row(box), shown + (after if i in left else " " * len(after))
            )


def _node_text(node: PictureNode) -> str:
    opening, closing = _BRACKETS.get(node.kind, (" ", " "))
    inside = f"{node.caption} = {node.symbol}" if node.caption else node.symbol
    return f"{opening}{inside}{closing}"


def _label_size(value: str, gradient: str) -> Size:
    width = max(len(value), len(gradient))
    return (width + 2.0, 3.0) if width else (0.0, 1.0)


def _row(box: Box) -> int:
    """The row of the box's middle line; rounding down keeps distances of whole numbers."""
    return int(box.y)
