"""Which operations a gate can have, and the kind of gate that each one makes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastad import OPS

from .gates import ElementGate, FunctionGate, Gate, PredicateGate

# The lecture's names of gates, and other short ones, for NumPy's.
SHORT_NAMES = {
    "mul": "multiply",
    "sub": "subtract",
    "div": "divide",
    "neg": "negative",
    "pow": "power",
    "abs": "absolute",
    "max": "maximum",
    "min": "minimum",
    "mod": "remainder",
}


def new_gate(name: str, op: str, operands: Sequence[Gate], options: Mapping[str, Any]) -> Gate:
    """A gate of the right kind for an operation by NumPy's name."""
    if not is_operation(op):
        raise ValueError(f"there is no operation {op!r}: see fastad.OPS for the element-wise ones")
    function = getattr(np, op)
    if op in element_operations():
        row = element_operations()[op]
        if len(operands) != row.arity:
            raise ValueError(f"{op} takes {row.arity} operands, got {len(operands)}")
        if options:
            raise TypeError(f"{op} takes no options, got {sorted(options)}")
        kind = PredicateGate if row.kind == "PREDICATE" else ElementGate
        return kind(name, op, operands, function)
    if options:
        function = functools.partial(function, **options)
    return FunctionGate(name, op, operands, function)


def is_operation(op: str) -> bool:
    """Whether NumPy has a function (not a type, not a module) of that name."""
    function = getattr(np, op, None)
    return callable(function) and not isinstance(function, type)


@functools.cache
def element_operations() -> Mapping[str, Any]:
    """The rows of the library's table by NumPy's names."""
    return {op.numpy_name: op for op in OPS.values() if op.numpy_name}
