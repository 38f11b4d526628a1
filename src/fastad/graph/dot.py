"""A picture in the DOT language of Graphviz. Needs no library, neither to write nor to read."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from .picture import Picture, PictureEdge, PictureNode

_SHAPES = {
    "input": 'shape=box, style="rounded,filled", fillcolor="#ddf4ff", color="#0969da"',
    "constant": 'shape=box, style="rounded,dashed", color="#8c959f"',
    "gate": 'shape=circle, style=filled, fillcolor="#f6f8fa", color="#57606a"',
    "output": "shape=plain",
}


def to_dot(picture: Picture) -> str:
    """Write a picture in the DOT language: ``dot -Tpng`` and others can draw it.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    str

    Examples
    --------
    >>> from fastad.graph.dot import to_dot
    >>> from fastad.graph.picture import Picture, PictureEdge, PictureNode
    >>> nodes = [PictureNode("input", "x"), PictureNode("output", "f")]
    >>> print(to_dot(Picture("f(x) = x", nodes, [PictureEdge(0, 1, "2", "1")])))
    digraph {
      graph [rankdir=LR, labelloc=t, label="f(x) = x"]
      node [fontname=monospace, fontsize=12]
      edge [fontname=monospace, fontsize=10, color="#8c959f"]
      n0 [label="x", shape=box, style="rounded,filled", fillcolor="#ddf4ff", color="#0969da"]
      n1 [label="f", shape=plain]
      n0 -> n1 [label=<<FONT COLOR="#1a7f37">2</FONT><BR/><FONT COLOR="#cf222e">1</FONT>>]
    }
    <BLANKLINE>
    """
    return "\n".join(["digraph {", *(f"  {line}" for line in _lines(picture)), "}\n"])


def _lines(picture: Picture) -> Iterator[str]:
    yield f"graph [rankdir=LR, labelloc=t, label={_quoted(picture.title)}]"
    yield "node [fontname=monospace, fontsize=12]"
    yield 'edge [fontname=monospace, fontsize=10, color="#8c959f"]'
    for number, node in enumerate(picture.nodes):
        yield f"n{number} [label={_quoted(_label(node))}, {_SHAPES[node.kind]}]"
    for edge in picture.edges:
        yield f"n{edge.source} -> n{edge.target}{_attributes(edge)}"


def _label(node: PictureNode) -> str:
    return f"{node.symbol}\n{node.caption}" if node.caption else node.symbol


def _attributes(edge: PictureEdge) -> str:
    parts = []
    if edge.value or edge.gradient:
        parts.append(
            f'label=<<FONT COLOR="#1a7f37">{escape(edge.value) or " "}</FONT><BR/>'
            f'<FONT COLOR="#cf222e">{escape(edge.gradient) or " "}</FONT>>'
        )
    if edge.operand:
        parts.append(f"headlabel={_quoted(edge.operand)}")
    return f" [{', '.join(parts)}]" if parts else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
