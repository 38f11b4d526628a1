"""What a drawing of a computation graph shows: gates to nodes, uses of a value to edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gates import Gate
from .picture import Picture, PictureEdge, PictureNode, show_value, sign

if TYPE_CHECKING:
    from .computational import ComputationalGraph

# Operations whose operands may change places: their edges need no numbers.
_COMMUTATIVE = {
    *("add", "multiply", "maximum", "minimum", "fmax", "fmin", "hypot", "logaddexp"),
    *("logaddexp2", "equal", "not_equal", "logical_and", "logical_or", "logical_xor", "nsum"),
}


def portrait(graph: ComputationalGraph) -> Picture:
    """The picture of a graph, with the values and gradients of the passes done so far."""
    gates = [gate for gate in graph.gates if gate.op != "constant"]
    numbers = {gate: number for number, gate in enumerate(gates)}
    nodes = [_node(gate) for gate in gates]
    edges = []
    for gate in gates:
        for position, operand in enumerate(gate.operands):
            if operand not in numbers:  # a constant: drawn once for each use, beside it
                nodes.append(PictureNode("constant", show_value(operand.value)))
            source = numbers.get(operand, len(nodes) - 1)
            edges.append(_edge(source, numbers[gate], gate, position))
    output = graph.output
    if output in numbers:
        nodes.append(PictureNode("output", "out" if _is_numbered(output) else output.name))
        value, gradient = show_value(output.value), show_value(output.gradient)
        edges.append(PictureEdge(numbers[output], len(nodes) - 1, value, gradient))
    return Picture(graph.title, nodes, edges)


def _node(gate: Gate) -> PictureNode:
    if gate.op == "input":
        return PictureNode("input", gate.name)
    caption = "" if _is_numbered(gate) else gate.name
    return PictureNode("gate", sign(gate.op), caption, _is_ordered(gate))


def _edge(source: int, target: int, gate: Gate, position: int) -> PictureEdge:
    operand = gate.operands[position]
    return PictureEdge(
        source,
        target,
        "" if operand.op == "constant" else show_value(operand.value),
        show_value(gate.shares[position]) if gate.shares and operand.op != "constant" else "",
        str(position + 1) if _is_ordered(gate) else "",
    )


def _is_ordered(gate: Gate) -> bool:
    return len(gate.operands) > 1 and gate.op not in _COMMUTATIVE


def _is_numbered(gate: Gate) -> bool:
    """Whether the name says no more than the operation, as that of an unnamed gate does."""
    return gate.name.startswith(gate.op) and gate.name[len(gate.op) :].isdecimal()
