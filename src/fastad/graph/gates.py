"""Gates: the nodes of a computation graph, each with its own little forward and backward.

A gate knows its operands and its operation, nothing of the graph around it. `forward` computes
its value from the values of its operands; `backward` multiplies the gradient that arrives from
above (upstream) with its local partials and adds the products to the gradients of its operands
(downstream). The local partials come from the library's one table of derivatives: a gate records
its own operation and asks for them; no derivative rule is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastad

Value = Any  # a float, or an ndarray
Function = Callable[..., Any]
Pullback = Callable[[Value], Sequence[Value]]


class Gate:
    """A node of a computation graph.

    Attributes
    ----------
    name : str
        Unique in its graph.
    op : str
        ``"input"``, ``"constant"``, or NumPy's name of the operation.
    operands : tuple of Gate
        Where its arguments come from.
    consumers : list of Gate
        Where its value goes, one entry for each use.
    value : float or ndarray, or None before the first forward pass
    gradient : float or ndarray, or None before the first backward pass
        The derivative of the final gate with respect to this gate's value.
    shares : tuple
        Downstream: what the last backward pass added to the gradient of each operand; None for
        an operand that nothing is differentiated by.
    """

    def __init__(self, name: str, op: str, operands: Sequence[Gate] = ()) -> None:
        self.name = name
        self.op = op
        self.operands = tuple(operands)
        self.consumers: list[Gate] = []
        self.value: Value = None
        self.gradient: Value = None
        self.shares: tuple[Value, ...] = ()
        for operand in self.operands:
            operand.consumers.append(self)

    @property
    def partials(self) -> tuple[Value, ...]:
        """Local partial derivatives by each operand; empty if the gate is not element-wise."""
        return ()

    def forget(self) -> None:
        """Have no gradient, as before a backward pass."""
        self.gradient, self.shares = None, ()

    def forward(self) -> None:
        """Compute the value from the values of the operands."""

    def backward(self) -> None:
        """Add upstream gradient times local partials to the gradients of the operands."""
        shares = zip(self.operands, self.chain_rule(self.gradient), strict=True)
        self.shares = tuple(None if gate.gradient is None else share for gate, share in shares)
        for operand, share in zip(self.operands, self.shares, strict=True):
            if share is not None:
                operand.gradient = operand.gradient + share

    def chain_rule(self, upstream: Value) -> Sequence[Value]:
        """What `upstream` means for each operand."""
        return [None] * len(self.operands)

    def __repr__(self) -> str:
        operands = ", ".join(operand.name for operand in self.operands)
        return f"<{self.name} = {self.op}({operands})>"


class InputGate(Gate):
    """A value that is given to each forward pass."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "input")


class ConstantGate(Gate):
    """A value that is part of the graph; nothing is differentiated by it."""

    def __init__(self, name: str, value: Value) -> None:
        super().__init__(name, "constant")
        self.value = value


class ElementGate(Gate):
    """An element-wise operation: a row of the library's table.

    Parameters
    ----------
    name, op, operands
        As for `Gate`.
    function : callable
        NumPy's function for the row.
    """

    def __init__(self, name: str, op: str, operands: Sequence[Gate], function: Function) -> None:
        super().__init__(name, op, operands)
        self.function = function
        self._partials: tuple[Value, ...] = ()

    @property
    def partials(self) -> tuple[Value, ...]:
        """One for each operand, of the shape of the gate's value; None for a mask or an index."""
        return self._partials

    def forward(self) -> None:
        operands = np.broadcast_arrays(*[gate.value for gate in self.operands])
        value, pullback = linearised(self.function, [as_value(operand) for operand in operands])
        self.value = value
        self._partials = tuple(pullback(as_value(np.ones_like(value))))

    def chain_rule(self, upstream: Value) -> Sequence[Value]:
        return [
            None if partial is None else sum_to_shape(times(upstream, partial), operand.value)
            for operand, partial in zip(self.operands, self.partials, strict=True)
        ]


class PredicateGate(Gate):
    """A comparison or another question with a truth value; no gradient passes it."""

    def __init__(self, name: str, op: str, operands: Sequence[Gate], function: Function) -> None:
        super().__init__(name, op, operands)
        self.function = function

    def forward(self) -> None:
        self.value = as_value(self.function(*[gate.value for gate in self.operands]))


class FunctionGate(Gate):
    """A NumPy function that is not element-wise: a sum, a matrix product, a view.

    Its chain rule is the library's own: the upstream gradient times the Jacobian of the function.

    Parameters
    ----------
    name, op, operands
        As for `Gate`.
    function : callable
        Of as many arrays as there are operands.
    """

    def __init__(self, name: str, op: str, operands: Sequence[Gate], function: Function) -> None:
        super().__init__(name, op, operands)
        self.function = function

    def forward(self) -> None:
        self.value, _ = linearised(self.function, [gate.value for gate in self.operands])

    def chain_rule(self, upstream: Value) -> Sequence[Value]:
        _, pullback = linearised(self.function, [gate.value for gate in self.operands])
        return pullback(upstream)


# --- little pieces of calculus -------------------------------------------------------------------


def linearised(function: Function, values: Sequence[Value]) -> tuple[Value, Pullback]:
    """The value of `function`, and what turns an upstream gradient into one for each argument.

    The second has None for an argument that is a mask or an index.
    """
    places = [i for i, value in enumerate(values) if is_floating(value)]
    if not places:
        return as_value(function(*values)), lambda upstream: [None] * len(values)

    def of_floats(*floats: Any) -> Any:
        return function(*_filled(values, places, floats))

    value, pull = fastad.vjp(of_floats, *[values[place] for place in places])

    def pullback(upstream: Value) -> list[Value]:
        cotangents = pull(upstream) if is_floating(result) else ()
        return _filled([None] * len(values), places, [as_value(each) for each in cotangents])

    result = as_value(value)
    return result, pullback


def _filled(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    """A list of the values, with the others in their places."""
    filled = list(values)
    for place, other in zip(places, others, strict=False):
        filled[place] = other
    return filled


def times(upstream: Value, partial: Value) -> Value:
    """The chain rule for one operand, where an upstream gradient of zero stays zero."""
    with np.errstate(invalid="ignore", over="ignore"):
        product = np.multiply(upstream, partial)
    return as_value(np.where(np.equal(upstream, 0.0), 0.0, product).astype(product.dtype))


def sum_to_shape(gradient: Value, like: Value) -> Value:
    """Gradient of an operand that was broadcast: the sum over the axes that repeated it."""
    array, shape = np.asarray(gradient), np.shape(like)
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    repeated = tuple(i for i, length in enumerate(shape) if length == 1 != array.shape[i])
    return as_value(array.sum(axis=repeated, keepdims=True) if repeated else array)


def is_floating(value: Value) -> bool:
    """Whether a value can have a gradient; masks and indices cannot."""
    return np.asarray(value).dtype.kind == "f"


def as_value(value: Any) -> Value:
    """A float for a scalar of double precision, else an array; inside a recording too."""
    array = np.asarray(value.value if isinstance(value, fastad.Array) else value)
    return float(array) if array.ndim == 0 and array.dtype == np.float64 else array
