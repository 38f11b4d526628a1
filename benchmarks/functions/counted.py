"""A scalar that counts: operations of a function, and those of a textbook reverse sweep over it.

It gives the counts by which figures are divided, without asking the package under test.  Reverse
mode is counted as in Griewank and Walther, Evaluating Derivatives (2008), table 3.3: an operation
costs the multiplications of its partials, and a variable with m uses costs m - 1 additions.  What
is multiplied by one or added to zero is not counted; nothing is shared or fused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Tally:
    """What was counted so far."""

    operations: int = 0
    transcendental: int = 0
    reverse: int = 0


class Counted:
    """A number whose operations are counted in a `Tally`."""

    def __init__(self, value: float, tally: Tally):
        self.value, self.tally, self.uses = float(value), tally, 0

    def _result(self, value: float, operands: tuple, partials: int) -> Counted:
        self.tally.operations += 1
        self.tally.reverse += partials
        for operand in operands:
            if isinstance(operand, Counted):
                self.tally.reverse += operand.uses > 0
                operand.uses += 1
        return Counted(value, self.tally)

    def __add__(self, other):
        return self._result(self.value + _number(other), (self, other), 0)

    __radd__ = __add__

    def __sub__(self, other):
        return self._result(self.value - _number(other), (self, other), _variables(other))

    def __rsub__(self, other):
        return self._result(_number(other) - self.value, (self,), 1)

    def __mul__(self, other):
        partials = 1 + _variables(other)
        return self._result(self.value * _number(other), (self, other), partials)

    __rmul__ = __mul__

    def __truediv__(self, other):
        partials = 1 + 2 * _variables(other)
        return self._result(self.value / _number(other), (self, other), partials)

    def __neg__(self):
        return self._result(-self.value, (self,), 1)


def _number(operand: Counted | float) -> float:
    return operand.value if isinstance(operand, Counted) else operand


def _variables(operand: Counted | float) -> int:
    return int(isinstance(operand, Counted))


def sin(x: Counted) -> Counted:
    """Sine; its partial is a cosine and a product."""
    x.tally.transcendental += 1
    return x._result(math.sin(x.value), (x,), 2)


def tanh(x: Counted) -> Counted:
    """Hyperbolic tangent; its partial 1 - v² times the adjoint is three operations."""
    x.tally.transcendental += 1
    return x._result(math.tanh(x.value), (x,), 3)


def count(function, values) -> Tally:
    """Operations of ``function(variables)`` and of the reverse sweep over it.

    Parameters
    ----------
    function : callable
        Takes a list of scalars.
    values : iterable of float
        Where it is evaluated.
    """
    tally = Tally()
    function([Counted(value, tally) for value in values])
    return tally
