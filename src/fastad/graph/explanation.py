"""What each gate does with the gradient that reaches it: in numbers and in the lecture's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .gates import Gate, Value
from .picture import show_value


@dataclass(frozen=True)
class GateExplanation:
    """One gate's little piece of the chain rule.

    Attributes
    ----------
    name, op : str
    operands : tuple of str
        Names of the operands.
    value : float or ndarray
    partials : tuple
        Local partial derivatives by each operand; empty for a gate that is not element-wise.
    upstream : float or ndarray
        Gradient that reaches the gate: the derivative of the final gate by this one's value.
    downstream : tuple
        What the gate passes to each operand; for an element-wise gate upstream times partial.
    words : str
        The same in words.
    """

    name: str
    op: str
    operands: tuple[str, ...]
    value: Value
    partials: tuple[Value, ...]
    upstream: Value
    downstream: tuple[Value, ...]
    words: str

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return dict(self.__dict__)


class Explanation(Sequence[GateExplanation]):
    """The explanations of a graph's gates in topological order; ``str`` gives a table.

    ``explanation["q"]`` is that of the gate called q.
    """

    def __init__(self, rows: Sequence[GateExplanation]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[GateExplanation]:
        return iter(self._rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for row in self._rows:
                if row.name == key:
                    return row
            raise KeyError(key)
        return self._rows[key]

    def __str__(self) -> str:
        heads = ("gate", "is", "value", "local partials", "upstream", "downstream", "in words")
        return table([heads, *(_cells(row) for row in self._rows)])

    def __repr__(self) -> str:
        return f"<Explanation of {len(self)} gates>"


def explain(gates: Sequence[Gate], output: Gate) -> Explanation:
    """Explain gates after a backward pass."""
    return Explanation([_explain(gate, gate is output) for gate in gates])


def _explain(gate: Gate, is_output: bool) -> GateExplanation:
    return GateExplanation(
        gate.name,
        gate.op,
        tuple(operand.name for operand in gate.operands),
        gate.value,
        tuple(gate.partials),
        gate.gradient,
        tuple(gate.shares),
        _words(gate, is_output),
    )


def _words(gate: Gate, is_output: bool) -> str:
    if gate.gradient is None:
        return "has no gradient: a truth value or an index"
    say = _WORDS.get(gate.op, _scales if gate.partials else _passes)
    words = say(gate)
    if is_output:
        return f"{words}; the final gate begins with 1"
    uses = _contributions(gate)
    return f"{words}; its own is the sum of {uses} contributions" if uses > 1 else words


def _contributions(gate: Gate) -> int:
    """How many times a consumer passed a gradient to `gate`."""
    return sum(
        operand is gate and share is not None
        for consumer in dict.fromkeys(gate.consumers)
        for operand, share in zip(consumer.operands, consumer.shares, strict=False)
    )


def _distributes(gate: Gate) -> str:
    return f"distributes: every operand gets the gradient {_up(gate)}"


def _opposes(gate: Gate) -> str:
    return f"distributes: the first operand gets the gradient {_up(gate)}, the second its negative"


def _swaps(gate: Gate) -> str:
    return f"swaps: each operand gets the gradient {_up(gate)} times the other operand"


def _routes(gate: Gate) -> str:
    names = [operand.name for operand in gate.operands]
    if any(partial is None or getattr(partial, "ndim", 0) for partial in gate.partials):
        return f"routes: element by element, the gradient goes to the operand that {gate.op} took"
    winners = [name for name, share in zip(names, gate.partials, strict=True) if share == 1.0]
    if winners:
        return f"routes: the gradient {_up(gate)} goes to {winners[0]} alone"
    if all(share == 0.5 for share in gate.partials):
        return f"routes: a tie, the gradient {_up(gate)} is split evenly"
    return "routes: the gradient goes to no operand"


def _selects(gate: Gate) -> str:
    return "routes: the gradient goes to the branch that was taken, the condition gets none"


def _flips(gate: Gate) -> str:
    return f"flips the sign of the gradient {_up(gate)}"


def _scales(gate: Gate) -> str:
    factors = [show_value(partial) for partial in gate.partials if partial is not None]
    noun = "its local derivative" if len(factors) == 1 else "the local derivatives"
    return f"scales the gradient {_up(gate)} by {noun} {', '.join(factors)}"


def _passes(gate: Gate) -> str:
    return f"passes the gradient {_up(gate)} back through the transpose of {gate.op}"


def _collects(gate: Gate) -> str:
    return f"collects the gradient {_up(gate)}"


def _up(gate: Gate) -> str:
    return show_value(gate.gradient)


_WORDS: dict[str, Callable[[Gate], str]] = {
    "input": _collects,
    "add": _distributes,
    "subtract": _opposes,
    "negative": _flips,
    "multiply": _swaps,
    "maximum": _routes,
    "minimum": _routes,
    "fmax": _routes,
    "fmin": _routes,
    "where": _selects,
}


def _cells(row: GateExplanation) -> tuple[str, ...]:
    call = f"{row.op}({', '.join(row.operands)})" if row.operands else row.op
    return (
        row.name,
        call,
        show_value(row.value),
        _list(row.partials),
        show_value(row.upstream),
        _list(row.downstream),
        row.words,
    )


def _list(values: Sequence[Value]) -> str:
    return ", ".join("-" if value is None else show_value(value) for value in values)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, the first one a head line, columns as wide as they need to be.

    Examples
    --------
    >>> from fastad.graph.explanation import table
    >>> print(table([("gate", "value"), ("x", "0.5")]))
    gate  value
    x     0.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
