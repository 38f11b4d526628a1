"""Graphs taken from the tape: the nodes that an output depends on become gates.

Nodes that NumPy has an element-wise function for become the same gates as those of a graph built
by hand. Any other node (a view, a sum, a matrix product, a custom rule) keeps its link to the
tape: its value is the recorded one, and its chain rule is a sweep of the tape from that node to
its operands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastad
from fastad._reverse import sweep

from .gates import (
    Function,
    Gate,
    InputGate,
    Value,
    as_value,
    is_floating,
    linearised,
)
from .inputs import ByHand, checked_value
from .operations import new_gate

if TYPE_CHECKING:
    from .computational import ComputationalGraph


class ClosedTape(ByHand):
    """Gates from a tape whose function is not known."""

    def pass_inputs(self, graph: ComputationalGraph, given: Mapping[str, Any]) -> None:
        """New inputs, if every gate can compute its own value."""
        fixed = [name for name in graph.values if isinstance(graph[name], RecordedGate)]
        if fixed:
            raise ValueError(
                f"the gates {fixed} know only their recorded values: "
                "use ComputationalGraph.record(f, ...) for new inputs"
            )
        super().pass_inputs(graph, given)


class Recording:
    """Gates from a function, which is recorded again for each forward pass."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self._function = f
        self._structure: object = None

    def pass_inputs(self, graph: ComputationalGraph, given: Mapping[str, Any]) -> None:
        """Record the function; the gates stay if the recording has the same nodes as before."""
        inputs = [gate.name for gate in graph.inputs]
        values = [checked_value(given[name], name) for name in inputs]
        with fastad.Tape() as tape:
            variables = [tape.variable(value) for value in values]
            names = {x.node: name for x, name in zip(variables, inputs, strict=True)}
            output = _as_array(self._function(*variables))
        nodes = nodes_of(tape, output)
        structure = [(node.op, node.parents) for node in nodes]
        if structure == self._structure:
            self._refresh(graph, tape, nodes)
        else:
            take(graph, tape, output, names)
        self._structure = structure

    def _refresh(self, graph: ComputationalGraph, tape: Any, nodes: Sequence[Any]) -> None:
        for gate, node in zip(graph.gates, nodes, strict=True):
            gate.value = as_value(node.value)
            if isinstance(gate, RecordedGate):
                gate.tape, gate.index = tape, node.index


def take(graph: ComputationalGraph, tape: Any, output: Any, names: Mapping[int, str]) -> None:
    """Give `graph` new gates: all variables of the tape, and what `output` depends on."""
    nodes = nodes_of(tape, output)
    names = {**_input_names(nodes), **names}
    unnamed = letters(names.values())
    gates: dict[int, Gate] = {}
    graph.clear()
    for node in nodes:
        operands = [gates[parent] for parent in node.parents]
        if node.op == "CONSTANT":
            gates[node.index] = graph.constant(node.value)
        else:
            name = names.get(node.index) or next(unnamed)
            gates[node.index] = graph.enter(_gate(tape, node, name, operands))
    graph.output = gates[output.node]


class RecordedGate(Gate):
    """A structural node of a tape."""

    def __init__(self, name: str, op: str, operands: Sequence[Gate], tape: Any, index: int) -> None:
        super().__init__(name, op, operands)
        self.tape, self.index = tape, index
        self.value = as_value(tape.recorder.node_value(index))

    def chain_rule(self, upstream: Value) -> Sequence[Value]:
        wanted = {gate: i for gate, i in self._parents() if is_floating(gate.value)}
        if len(wanted) > 1 and _are_related(wanted):
            return self._join_rule(upstream)
        recorder = self.tape.recorder
        node = recorder.array(self.index)
        found = sweep(recorder, (node,), (upstream,), list(wanted.values()))
        shares = dict(zip(wanted, found, strict=True))
        return [shares.pop(operand, None) for operand in self.operands]

    def _parents(self) -> Iterable[tuple[Gate, int]]:
        return zip(self.operands, self.tape.recorder.parents(self.index), strict=True)

    def _join_rule(self, upstream: Value) -> Sequence[Value]:
        """Where one operand depends on another, a sweep of the tape would count that path too."""
        join = _join(self)
        if join is None:
            raise NotImplementedError(
                f"backward through {self.op} ({self.name}), one of whose operands depends on "
                "another, is not possible in a drawn graph; fad.grad can do it"
            )
        _, pullback = linearised(join, [gate.value for gate in self.operands])
        return pullback(upstream)


def _join(gate: RecordedGate) -> Function | None:
    """NumPy's function for a node with several operands, if it can be told from the shapes."""
    shape = np.shape(gate.value)
    if gate.op == "matmul":
        return np.matmul
    if gate.op == "nsum":
        return lambda *terms: sum(terms[1:], start=terms[0])
    if gate.op == "stack":
        return lambda *scalars: np.reshape(np.stack(scalars), shape)
    if gate.op == "concatenate":
        parts = [np.shape(operand.value) for operand in gate.operands]
        axis = next(i for i in range(len(shape)) if sum(part[i] for part in parts) == shape[i])
        return lambda *arrays: np.concatenate(arrays, axis=axis)
    return None


def _are_related(gates: Iterable[Gate]) -> bool:
    """Whether one of the gates depends on another of them."""
    family = set(gates)
    reached = [operand for gate in family for operand in gate.operands]
    seen: set[Gate] = set()
    while reached:
        gate = reached.pop()
        if gate in family:
            return True
        if gate not in seen:
            seen.add(gate)
            reached.extend(gate.operands)
    return False


# --- from nodes to gates -------------------------------------------------------------------------


def nodes_of(tape: Any, output: Any) -> list[Any]:
    """The variables of a tape and the nodes that `output` depends on, in the order of the tape."""
    if not isinstance(output, fastad.Array) or output.recorder is not tape.recorder:
        raise TypeError("output: expected an Array of the tape")
    nodes = tape.nodes()
    wanted = {output.node}
    for node in reversed(nodes[: output.node + 1]):
        if node.index in wanted:
            wanted.update(node.parents)
    return [node for node in nodes if node.index in wanted or node.op == "VARIABLE"]


def _gate(tape: Any, node: Any, name: str, operands: Sequence[Gate]) -> Gate:
    if node.op == "VARIABLE":
        gate = InputGate(name)
        gate.value = as_value(node.value)
        return gate
    op = fastad.OPS[node.op].numpy_name if node.op in fastad.OPS else ""
    if op:
        return new_gate(name, op, operands, {})
    return RecordedGate(name, node.op.lower(), operands, tape, node.index)


def _as_array(output: Any) -> Any:
    """What a function returned, as an Array: object arrays are stacked on the open tape."""
    if isinstance(output, np.ndarray) and output.dtype == object and output.size:
        output = np.reshape(np.stack(output.ravel().tolist()), output.shape)
    if isinstance(output, fastad.Array):
        return output
    raise TypeError(
        "the function returned nothing that depends on its inputs "
        f"({type(output).__name__}): there is no graph to draw"
    )


def _input_names(nodes: Sequence[Any]) -> dict[int, str]:
    """Names of the variables: their own, or x1, x2, …"""
    inputs = [node for node in nodes if node.op == "VARIABLE"]
    return {node.index: node.name or f"x{i}" for i, node in enumerate(inputs, start=1)}


def parameter_names(f: Callable[..., Any], count: int) -> list[str]:
    """What `f` calls its first `count` positional arguments; x1, x2, … where it does not say.

    Examples
    --------
    >>> from fastad.graph.recorded import parameter_names
    >>> parameter_names(lambda w, b, *rest: 0, 4), parameter_names(max, 1)
    (['w', 'b', 'x3', 'x4'], ['x1'])
    """
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds][:count]
    return names + [f"x{i + 1}" for i in range(len(names), count)]


def letters(taken: Iterable[str]) -> Iterator[str]:
    """a, b, … z, aa, ab, … without the names that are taken.

    Examples
    --------
    >>> from itertools import islice
    >>> from fastad.graph.recorded import letters
    >>> list(islice(letters({"b"}), 3)), list(islice(letters([]), 28))[-3:]
    (['a', 'c', 'd'], ['z', 'aa', 'ab'])
    """
    used = set(taken)
    number = 0
    while True:
        number, word = number + 1, ""
        left = number
        while left:
            left, digit = divmod(left - 1, 26)
            word = chr(ord("a") + digit) + word
        if word not in used:
            yield word
