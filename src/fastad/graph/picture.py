"""What a drawing shows, before anybody decides how: symbols, captions, the text on the edges.

`Picture` is the one input of the three drawers (`svg`, `dot`, `textual`); it knows nothing of
tapes and gradients, only strings. `show_value` is the one place where numbers become short text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["input", "constant", "gate", "output"]

# How a gate is drawn where a sign is better known than NumPy's name for it.
_SIGNS = {
    "add": "+",
    "subtract": "−",
    "multiply": "×",
    "divide": "÷",
    "negative": "neg",
    "power": "^",
    "square": "x²",
    "sqrt": "√",
    "cbrt": "∛",
    "reciprocal": "1/·",
    "absolute": "|·|",
    "maximum": "max",
    "minimum": "min",
    "matmul": "@",
    "sum": "Σ",
    "remainder": "mod",
    "floor_divide": "//",
    "less": "<",
    "less_equal": "≤",
    "greater": ">",
    "greater_equal": "≥",
    "equal": "=",
    "not_equal": "≠",
}


@dataclass(frozen=True)
class PictureNode:
    """A node: the `symbol` inside, the `caption` beside it (may be empty).

    `is_ordered` says that the edges that enter it carry numbers.
    """

    kind: Kind
    symbol: str
    caption: str = ""
    is_ordered: bool = False


@dataclass(frozen=True)
class PictureEdge:
    """An edge between two nodes, by number, with the texts above and below (may be empty).

    `operand` says which operand of its target the edge is, where the order matters: "1", "2", …
    """

    source: int
    target: int
    value: str = ""
    gradient: str = ""
    operand: str = ""


@dataclass(frozen=True)
class Picture:
    """A graph ready to be drawn.

    Attributes
    ----------
    title : str
        Shown above the drawing.
    nodes : sequence of PictureNode
    edges : sequence of PictureEdge
    """

    title: str
    nodes: Sequence[PictureNode]
    edges: Sequence[PictureEdge]

    @property
    def ends(self) -> list[tuple[int, int]]:
        """Source and target of each edge."""
        return [(edge.source, edge.target) for edge in self.edges]


def sign(op: str) -> str:
    """The sign of an operation, or its name.

    Examples
    --------
    >>> from fastad.graph.picture import sign
    >>> sign("multiply"), sign("tanh")
    ('×', 'tanh')
    """
    return _SIGNS.get(op, op)


def show_value(value: Any, digits: int = 4) -> str:
    """A value as short text: a number, up to three elements, or the shape of an array.

    Examples
    --------
    >>> from fastad.graph.picture import show_value
    >>> show_value(1.3223178), show_value(-0.0), show_value(1e-300)
    ('1.322', '0', '1e-300')
    >>> show_value([1.0, 2.5]), show_value(np.ones((3, 4))), show_value(None)
    ('[1, 2.5]', '3×4 array', '')
    """
    if value is None:
        return ""
    array = np.asarray(value)
    if array.ndim == 0:
        return show_number(array[()], digits)
    if array.ndim == 1 and array.size <= 3:
        return "[" + ", ".join(show_number(element, digits - 1) for element in array) + "]"
    sizes = "×".join(str(length) for length in array.shape)
    return f"{sizes} array" if array.ndim > 1 else f"{sizes} elements"


def show_number(number: Any, digits: int = 4) -> str:
    """A scalar with `digits` significant digits, booleans as words, minus zero as zero."""
    if isinstance(number, bool | np.bool_):
        return str(bool(number))
    return f"{float(number) + 0.0:.{digits}g}"
