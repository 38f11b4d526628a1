"""A picture as SVG: left to right, values above the edges and gradients below.

The file is self-contained: no script, no foreign font, its own background panel. Colours follow
the reader's light or dark setting through a style sheet inside the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from .layout import Box, Layout, Route, Size, Spacing, layered_layout
from .picture import Picture, PictureNode

Point = tuple[float, float]

RADIUS = 17.0
CAPTION = 13.0  # height of the line of text under a gate
CHARACTER = 6.8  # width of a character of 11 px monospaced text, on the wide side
LABEL_LINE = 14.0
MARGIN = 24.0
HEADER = 44.0
LEGEND = 40.0
PORT_PITCH = 9.0  # distance between two arrowheads on one node

_SPACING = Spacing(row=9.0, column=22.0, slope=0.18, widest=64.0, pitch=44.0)

_STYLE = """
.panel{fill:#ffffff;stroke:#d0d7de}
.shape{fill:#f6f8fa;stroke:#57606a;stroke-width:1.3}
.input{fill:#ddf4ff;stroke:#0969da}
.constant{fill:none;stroke:#8c959f;stroke-dasharray:3 2}
.edge{fill:none;stroke:#8c959f;stroke-width:1.2}
.head{fill:#8c959f}
text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px}
text{fill:#1f2328;text-anchor:middle}
.symbol{font-size:13px}
.sign{font-size:18px}
.caption{fill:#57606a}
.operand{fill:#57606a;font-size:8px;text-anchor:start}
.value{fill:#1a7f37}
.gradient{fill:#cf222e}
.title,.legend{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif;text-anchor:start}
.title{font-size:15px}
.legend{fill:#57606a}
@media (prefers-color-scheme:dark){
.panel{fill:#0d1117;stroke:#30363d}
.shape{fill:#21262d;stroke:#8b949e}
.input{fill:#0c2d6b;stroke:#58a6ff}
.constant{fill:none;stroke:#6e7681}
.edge{stroke:#6e7681}
.head{fill:#6e7681}
text{fill:#e6edf3}
.caption,.legend,.operand{fill:#9da7b3}
.value{fill:#56d364}
.gradient{fill:#ff7b72}
}
""".replace("\n", "")


def to_svg(picture: Picture) -> str:
    """Draw a picture as the text of an SVG file.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If the layout library is not installed.
    """
    layout = svg_layout(picture)
    tips = _tips(picture, layout)
    width = max(layout.width, _title_width(picture), _LEGEND_WIDTH) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + HEADER + LEGEND
    body = [
        *_frame(picture.title, width, height),
        f'<g transform="translate({_n((width - layout.width) / 2)} {_n(MARGIN + HEADER)})">',
        *_lines(picture, layout, tips),
        *(line for i, node in enumerate(picture.nodes) for line in _node(node, layout.nodes[i])),
        *_labels(picture, layout, tips),
        "</g>",
        *_legend(picture, height - LEGEND),
        "</svg>\n",
    ]
    return "\n".join(body)


def svg_layout(picture: Picture) -> Layout:
    """The layout that `to_svg` draws, in pixels."""
    sizes = [_node_size(node) for node in picture.nodes]
    labels = [_label_size(edge.value, edge.gradient) for edge in picture.edges]
    return layered_layout(sizes, picture.ends, labels, _SPACING)


# --- sizes ---------------------------------------------------------------------------------------


def _node_size(node: PictureNode) -> Size:
    width = max(_shape_width(node), CHARACTER * len(node.caption))
    return width, _shape_height(node) + (2 * CAPTION if node.caption else 0.0)


def _shape_width(node: PictureNode) -> float:
    text = 8.0 * len(node.symbol)
    if node.kind == "gate":
        return max(2 * RADIUS, text + (30.0 if node.is_ordered else 18.0))
    return max(2 * RADIUS if node.kind == "input" else 0.0, text + 14.0)


def _shape_height(node: PictureNode) -> float:
    return 2 * RADIUS if node.kind == "gate" else 24.0


def _label_size(value: str, gradient: str) -> Size:
    if not (value or gradient):
        return 0.0, 0.0
    return CHARACTER * max(len(value), len(gradient)) + 6.0, 2 * LABEL_LINE


# --- frame ---------------------------------------------------------------------------------------


def _frame(title: str, width: float, height: float) -> Iterator[str]:
    w, h = _n(width), _n(height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" '
        f'viewBox="0 0 {w} {h}" role="img">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style>"
    inside = f'width="{_n(width - 1)}" height="{_n(height - 1)}"'
    yield f'<rect class="panel" x="0.5" y="0.5" {inside} rx="8"/>'
    yield _text("title", MARGIN, MARGIN + 10, title)


def _title_width(picture: Picture) -> float:
    return 8.6 * len(picture.title)


_LEGEND_WIDTH = 430.0


def _legend(picture: Picture, top: float) -> Iterator[str]:
    y = top + 12
    x = MARGIN
    yield f'<path class="edge" d="M{_n(x)} {_n(y)}h52"/>'
    yield f'<path class="head" d="{_arrow(x + 58, y)}"/>'
    yield _text("value", x + 26, y - 4, "value")
    yield _text("gradient", x + 26, y + 12, "gradient")
    x += 76
    yield _text("legend", x, y + 4, "above: forward, below: backward")
    x += 196
    for kind, word in (("input", "input"), ("gate", "gate"), ("constant", "constant")):
        if not any(node.kind == kind for node in picture.nodes):
            continue
        yield _shape(kind, Box(x + 9, y, 18, 18 if kind == "gate" else 14))
        yield _text("legend", x + 24, y + 4, word)
        x += 34 + 6.5 * len(word)


# --- nodes ---------------------------------------------------------------------------------------


def _node(node: PictureNode, box: Box) -> Iterator[str]:
    if node.kind != "output":
        yield _shape(node.kind, Box(box.x, box.y, _shape_width(node), _shape_height(node)))
    shift = 3.0 if node.is_ordered and len(node.symbol) > 1 else 0.0  # room for the numbers
    size = "sign" if len(node.symbol) == 1 and node.kind == "gate" else "symbol"
    drop = 6.0 if size == "sign" else 4.5
    yield _text(size, box.x + shift, box.y + drop, node.symbol)
    if node.caption:
        yield _text("caption", box.x, box.y + _shape_height(node) / 2 + CAPTION - 2, node.caption)


def _shape(kind: str, box: Box) -> str:
    corner = box.height / 2 if kind == "gate" else 5.0
    return (
        f'<rect class="shape {kind}" x="{_n(box.left)}" y="{_n(box.top)}" '
        f'width="{_n(box.width)}" height="{_n(box.height)}" rx="{_n(corner)}"/>'
    )


# --- edges ---------------------------------------------------------------------------------------


def _lines(picture: Picture, layout: Layout, tips: list[Point]) -> Iterator[str]:
    for edge, route, tip in zip(picture.edges, layout.routes, tips, strict=True):
        start = _shape_right(picture.nodes[edge.source], route.places[0])
        yield f'<path class="edge" d="{_path(route, start, tip)}"/>'
        yield f'<path class="head" d="{_arrow(*tip)}"/>'


def _labels(picture: Picture, layout: Layout, tips: list[Point]) -> Iterator[str]:
    for edge, route, tip in zip(picture.edges, layout.routes, tips, strict=True):
        x, y = route.label.x, route.label.y
        if edge.value:
            yield _text("value", x, y - 4, edge.value)
        if edge.gradient:
            yield _text("gradient", x, y + 12, edge.gradient)
        if edge.operand:
            yield _text("operand", tip[0] + 2, tip[1] + 3, edge.operand)


def _tips(picture: Picture, layout: Layout) -> list[Point]:
    """Where each edge arrives on the outline of its target."""
    ports = _ports(layout)
    return [
        _tip(picture.nodes[edge.target], route.places[-1], port)
        for edge, route, port in zip(picture.edges, layout.routes, ports, strict=True)
    ]


def _ports(layout: Layout) -> list[float]:
    """How far above or below its target's middle each edge arrives, so that arrowheads part."""
    arriving: dict[Box, list[int]] = {}
    for number, route in enumerate(layout.routes):
        arriving.setdefault(route.places[-1], []).append(number)
    ports = [0.0] * len(layout.routes)
    for numbers in arriving.values():
        numbers.sort(key=lambda i: layout.routes[i].places[-2].y)
        pitch = min(PORT_PITCH, 2 * (RADIUS - 5) / len(numbers))
        for rank, number in enumerate(numbers):
            ports[number] = pitch * (rank - (len(numbers) - 1) / 2)
    return ports


def _tip(node: PictureNode, box: Box, port: float) -> Point:
    """The point of the outline of `node`, on its left, that is `port` below the middle."""
    half = _shape_width(node) / 2
    corner = _shape_height(node) / 2 if node.kind == "gate" else 0.0
    return box.x - half + corner - math.sqrt(max(corner**2 - port**2, 0.0)), box.y + port


def _shape_right(node: PictureNode, box: Box) -> Point:
    return box.x + _shape_width(node) / 2, box.y


def _path(route: Route, start: Point, tip: Point) -> str:
    """Straight inside the columns, an S-curve between them."""
    x, y = start
    parts = [f"M{_n(x)} {_n(y)}"]
    for left, right, place in zip(route.columns, route.columns[1:], route.places[1:], strict=False):
        is_last = place is route.places[-1]
        height = tip[1] if is_last else place.y
        parts.append(_bend(left.right, y, right.left, height))
        y = height
    return "".join([*parts, f"H{_n(tip[0] - 5)}"])


def _bend(x0: float, y0: float, x1: float, y1: float) -> str:
    if abs(y0 - y1) < 0.01:
        return f"H{_n(x1)}"
    middle = (x0 + x1) / 2
    return f"H{_n(x0)}C{_n(middle)} {_n(y0)} {_n(middle)} {_n(y1)} {_n(x1)} {_n(y1)}"


def _text(style: str, x: float, y: float, text: str) -> str:
    return f'<text class="{style}" x="{_n(x)}" y="{_n(y)}">{escape(text)}</text>'


def _arrow(x: float, y: float) -> str:
    return f"M{_n(x)} {_n(y)}l-7 -3v6z"


def _n(number: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{number:.1f}".removesuffix(".0")
