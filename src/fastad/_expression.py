"""Formulas as functions.

A formula's steps are evaluated from first to last: no `eval`, no recursion, and integers are
floats, so that ``9**9**9`` is infinite and not a hang.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fastad._formula import ExpressionError, Step, compiled

__all__ = ["Expression", "ExpressionError", "parse_value"]


class Expression:
    """A formula as a function of its names, in alphabetic order.

    Parameters
    ----------
    text : str
        A Python expression of names, numbers, ``+ - * / // % ** @``, comparisons, ``and or
        not``, lists, constant subscripts, and calls of NumPy's element-wise functions and of
        ``where sum mean prod max min var std dot cumsum norm``. Integers are floats. The names
        pi, e, inf and nan are the constants.
    given : collection of str
        Names that are inputs even if they are also those of constants.

    Attributes
    ----------
    text : str
    names : tuple of str
        The inputs.

    Raises
    ------
    ExpressionError
        If the text is anything else; it is never run.

    Examples
    --------
    >>> from fastad._expression import Expression
    >>> f = Expression("x * sin(y) + 1")
    >>> f.names, float(f(2.0, 0.0))
    (('x', 'y'), 1.0)
    >>> fad.grad(f, argnums=(0, 1))(2.0, 0.0)
    (0.0, 2.0)
    >>> Expression("__import__('os').system('ls')")
    Traceback (most recent call last):
    fastad._formula.ExpressionError: column 1: only functions can be called, by their name
    """

    def __init__(self, text: str, given: Collection[str] = ()) -> None:
        self.text = " ".join(text.split())
        self._steps = compiled(self.text, given)
        self.names = tuple(sorted({step.name for step in self._steps if step.name is not None}))
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in self.names]
        )
        self.__name__ = self.__qualname__ = "f"

    def __call__(self, *values: Any) -> Any:
        """The value of the formula; `values` are those of `names` in turn."""
        inputs = dict(zip(self.names, values, strict=True))
        results: list[Any] = []
        with np.errstate(all="ignore"):
            for step in self._steps:
                results.append(_result(step, results, inputs))
        return results[-1]

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"


def parse_value(text: str) -> Any:
    """A number or an array of numbers from text: a formula without names.

    Examples
    --------
    >>> from fastad._expression import parse_value
    >>> parse_value("-1e-3"), parse_value("[1, 2, pi/2]")
    (-0.001, array([1.        , 2.        , 1.57079633]))
    """
    value = Expression(text)
    if value.names:
        raise ExpressionError(f"a value has no names in it, but here is {value.names[0]!r}")
    result = np.asarray(value())
    return float(result) if result.ndim == 0 else result


def _result(step: Step, results: Sequence[Any], inputs: Mapping[str, Any]) -> Any:
    if step.function is None:
        return step.constant if step.name is None else inputs[step.name]
    try:
        return step.function(*[results[i] for i in step.operands])
    except (TypeError, ValueError, IndexError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExpressionError(reason, step.column) from error
