"""Values that a user gives to a graph: whose they are, whether they are real numbers, how they
reach the input gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .gates import Value, as_value

if TYPE_CHECKING:
    from .computational import ComputationalGraph


class Source(Protocol):
    """Where a graph's gates come from, which decides what new inputs mean for them."""

    def pass_inputs(self, graph: ComputationalGraph, given: Mapping[str, Any]) -> None:
        """Make the graph ready for a forward pass at the given values."""


class ByHand:
    """Gates that a user added: the values go to the input gates, and that is all."""

    def pass_inputs(self, graph: ComputationalGraph, given: Mapping[str, Any]) -> None:
        """Give each input gate its value."""
        for gate in graph.inputs:
            gate.value = checked_value(given[gate.name], gate.name)


def matched_inputs(
    names: Sequence[str], inputs: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Values by name from one mapping, from values in turn, or from one list of these.

    Examples
    --------
    >>> from fastad.graph.inputs import matched_inputs
    >>> matched_inputs(["x", "y"], ({"y": 2},), {"x": 1}) == matched_inputs(["x", "y"], (1, 2), {})
    True
    """
    given = {**_by_name(names, inputs), **named}
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing:
        raise ValueError(f"no value for the inputs {missing}")
    if unknown:
        raise ValueError(f"values for {unknown}, but the inputs are {list(names)}")
    return given


def _by_name(names: Sequence[str], inputs: tuple[Any, ...]) -> Mapping[str, Any]:
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        return inputs[0]
    if len(inputs) == 1 and len(names) != 1 and isinstance(inputs[0], list | tuple):
        inputs = tuple(inputs[0])
    if len(inputs) > len(names):
        raise ValueError(f"{len(inputs)} values for the {len(names)} inputs {list(names)}")
    return dict(zip(names, inputs, strict=False))


def checked_value(value: Any, name: str) -> Value:
    """A copy of what a user gives as the value `name`: real numbers, integers made floats."""
    array = np.array(value)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "fb":
        raise TypeError(f"the value of {name} must be real numbers, not {array.dtype}")
    return as_value(array)
