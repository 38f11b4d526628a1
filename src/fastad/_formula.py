"""Formulas as text, made into lists of steps without ever running code.

The text is parsed with Python's own parser, and then every part of it is held against a white
list: numbers, names, operators, and calls of functions from the library's table. What is accepted
becomes a flat list of steps, equal parts one step.
"""

from __future__ import annotations

import ast
import difflib
import functools
import operator
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import fastad

__all__ = ["ExpressionError", "Step", "compiled"]

LONGEST = 10_000  # characters
DEEPEST = 1_000  # parts inside parts; Python's own parser may give up before

CONSTANTS = {"pi": np.pi, "e": np.e, "inf": np.inf, "nan": np.nan}

_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
}
_UNARY: dict[type, Callable[..., Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: np.logical_not,
}
_COMPARE: dict[type, Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_BOOLEAN: dict[type, Callable[..., Any]] = {ast.And: np.logical_and, ast.Or: np.logical_or}

_REFUSALS = {
    ast.Attribute: "attributes are not allowed",
    ast.Lambda: "lambda is not allowed",
    ast.ListComp: "comprehensions are not allowed",
    ast.GeneratorExp: "comprehensions are not allowed",
    ast.SetComp: "comprehensions are not allowed",
    ast.DictComp: "comprehensions are not allowed",
    ast.IfExp: "write where(condition, a, b) for 'a if condition else b'",
    ast.NamedExpr: "assignments are not allowed",
    ast.JoinedStr: "text is not allowed",
    ast.Starred: "* before an argument is not allowed",
    ast.Dict: "dictionaries are not allowed",
    ast.Set: "sets are not allowed",
    ast.Tuple: "tuples are not allowed: write [a, b]",
}


class ExpressionError(ValueError):
    """A formula that is not understood.

    Attributes
    ----------
    reason : str
        What is wrong.
    column : int or None
        Where, counted from 1.
    """

    def __init__(self, reason: str, column: int | None = None) -> None:
        super().__init__(reason, column)
        self.reason, self.column = reason, column

    def __str__(self) -> str:
        return self.reason if self.column is None else f"column {self.column}: {self.reason}"


class Step(NamedTuple):
    """One operation on the results of earlier steps; without a function, a number or an input."""

    function: Callable[..., Any] | None
    operands: tuple[int, ...]
    column: int
    constant: float | None = None
    name: str | None = None


class _Function(NamedTuple):
    """A function that a formula may call, and how many arguments it takes."""

    call: Callable[..., Any]
    fewest: int
    most: int


# --- from text to steps --------------------------------------------------------------------------


def compiled(text: str, given: Collection[str]) -> list[Step]:
    """Every part of the formula after the parts it is made of."""
    compiler = _Compiler(text, given)
    pending: list[tuple[ast.AST, int, bool]] = [(_parsed(text), 1, False)]
    results: list[int] = []
    while pending:
        part, depth, is_ready = pending.pop()
        inner = compiler.parts(part)
        if is_ready:
            first = len(results) - len(inner)
            results[first:] = [compiler.add(part, tuple(results[first:]))]
            continue
        if depth > DEEPEST:
            raise ExpressionError(_TOO_DEEP, compiler.column(part))
        pending.append((part, depth, True))
        pending.extend((each, depth + 1, False) for each in reversed(inner))
    return compiler.steps


_TOO_DEEP = "the formula is nested too deeply"


def _parsed(text: str) -> ast.expr:
    """The formula's syntax tree; nothing in it has been looked at yet."""
    if not text:
        raise ExpressionError("the formula is empty")
    if len(text) > LONGEST:
        raise ExpressionError(f"the formula is longer than {LONGEST} characters")
    if "#" in text:
        raise ExpressionError("comments are not allowed", text.index("#") + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(
            f"not a formula: {error.msg}", error.offset or len(text) + 1
        ) from None
    except (RecursionError, MemoryError):
        raise ExpressionError(_TOO_DEEP) from None
    except ValueError as error:
        raise ExpressionError(f"not a formula: {error}") from None


class _Compiler:
    """The steps found so far; a part that was seen before is its first step again."""

    def __init__(self, text: str, given: Collection[str]) -> None:
        self.steps: list[Step] = []
        self._encoded = text.encode(errors="replace")
        self._given = given
        self._seen: dict[Any, int] = {}

    def column(self, part: ast.AST) -> int:
        """Where a part begins, counted in characters from 1."""
        return len(self._encoded[: getattr(part, "col_offset", 0)].decode(errors="ignore")) + 1

    def refusal(self, part: ast.AST, reason: str) -> ExpressionError:
        """The error that says what is wrong with `part`."""
        return ExpressionError(reason, self.column(part))

    def parts(self, part: ast.AST) -> list[ast.expr]:
        """What has to be computed before `part`; an error for a part that is not allowed."""
        match part:
            case ast.Constant() | ast.Name():
                return []
            case ast.BinOp(left, op, right) if type(op) in _BINARY:
                return [left, right]
            case ast.UnaryOp(op, operand) if type(op) in _UNARY:
                return [operand]
            case ast.Compare(left, ops, others) if all(type(op) in _COMPARE for op in ops):
                return [left, *others]
            case ast.BoolOp(_, values) | ast.List(values):
                return values
            case ast.Subscript(value, _):
                return [value]
            case ast.Call(_, arguments, keywords):
                self._called(part)
                if keywords:
                    raise self.refusal(keywords[0], "arguments by name are not allowed")
                return arguments
        raise self.refusal(part, _refusal(part))

    def add(self, part: ast.AST, operands: tuple[int, ...]) -> int:
        """The number of the step that computes `part`."""
        column = self.column(part)
        match part:
            case ast.Constant(value):
                return self._number(part, value)
            case ast.Name(name) if name in CONSTANTS and name not in self._given:
                return self._number(part, CONSTANTS[name])
            case ast.Name(name):
                return self._step(name, Step(None, (), column, name=name))
            case ast.Compare(_, ops, _):
                return self._comparison(ops, operands, column)
            case ast.BoolOp(op, _):
                join = functools.partial(functools.reduce, _BOOLEAN[type(op)])
                return self._step(type(op), Step(lambda *v: join(v), operands, column))
            case ast.List():
                return self._step("list", Step(_stacked, operands, column))
            case ast.Subscript(_, index):
                pick = operator.itemgetter(self._index(index))
                return self._step(ast.dump(index), Step(pick, operands, column))
            case ast.Call():
                call = self._called(part).call
                return self._step(call, Step(call, operands, column))
            case ast.BinOp(_, op, _):
                return self._step(type(op), Step(_doing(_BINARY[type(op)]), operands, column))
            case ast.UnaryOp(op, _):
                return self._step(type(op), Step(_UNARY[type(op)], operands, column))
        raise self.refusal(part, _refusal(part))

    def _step(self, kind: Any, step: Step) -> int:
        key = (kind, step.operands, repr(step.constant))
        if key not in self._seen:
            self._seen[key] = len(self.steps)
            self.steps.append(step)
        return self._seen[key]

    def _number(self, part: ast.AST, value: Any) -> int:
        if type(value) not in (int, float):
            raise self.refusal(part, f"{value!r} is not a real number")
        try:
            number = float(value)
        except OverflowError:
            raise self.refusal(part, "the number is too large") from None
        return self._step("number", Step(None, (), self.column(part), constant=number))

    def _comparison(self, ops: Sequence[ast.cmpop], operands: Sequence[int], column: int) -> int:
        """a < b < c is a < b and b < c."""
        pairs = zip(ops, pairwise(operands), strict=True)
        steps = [self._step(type(op), Step(_COMPARE[type(op)], pair, column)) for op, pair in pairs]
        whole = steps[0]
        for step in steps[1:]:
            whole = self._step(ast.And, Step(np.logical_and, (whole, step), column))
        return whole

    def _called(self, part: ast.Call) -> _Function:
        """The function of a call, with a number of arguments that fits."""
        if not isinstance(part.func, ast.Name):
            raise self.refusal(part, "only functions can be called, by their name")
        name, count = part.func.id, len(part.args)
        function = functions().get(name)
        if function is None:
            near = difflib.get_close_matches(name, functions(), 1)
            hint = f": do you mean {near[0]}?" if near else ""
            raise self.refusal(part, f"there is no function {name!r}{hint}")
        if not function.fewest <= count <= function.most:
            takes = f"{function.fewest} argument{'s' * (function.fewest != 1)}"
            raise self.refusal(part, f"{name} takes {takes}, not {count}")
        return function

    def _index(self, index: ast.expr) -> Any:
        """A subscript made of constants: an integer, a slice, or several of these."""
        match index:
            case ast.Constant(value) if type(value) is int:
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(value)) if type(value) is int:
                return -value
            case ast.Slice(lower, upper, step):
                return slice(*[None if x is None else self._index(x) for x in (lower, upper, step)])
            case ast.Tuple(parts):
                return tuple(self._index(each) for each in parts)
        raise self.refusal(index, "a subscript must be made of whole numbers")


def _refusal(part: ast.AST) -> str:
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitXor):
        return "write ** for a power"
    return _REFUSALS.get(type(part), f"{type(part).__name__} is not allowed in a formula")


@functools.cache
def _doing(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that on two plain numbers is NumPy's: 1 / 0 is infinite and not an error."""

    def apply(a: Any, b: Any) -> Any:
        is_plain = type(a) is float and type(b) is float
        return operation(np.float64(a), b) if is_plain else operation(a, b)

    return apply


# --- functions -----------------------------------------------------------------------------------


@functools.cache
def functions() -> Mapping[str, _Function]:
    """The functions that a formula may call: the table's, by all of NumPy's names, and a few."""
    rows = {getattr(np, op.numpy_name): op for op in fastad.OPS.values() if op.numpy_name}
    found = {
        name: _Function(ufunc, rows[ufunc].arity, rows[ufunc].arity)
        for name, ufunc in vars(np).items()
        if isinstance(ufunc, np.ufunc) and ufunc in rows
    }
    found["where"] = _Function(np.where, 3, 3)
    for name in ("sum", "mean", "prod", "var", "std", "cumsum"):
        found[name] = _Function(getattr(np, name), 1, 1)
    found["dot"] = _Function(np.dot, 2, 2)
    found["norm"] = _Function(np.linalg.norm, 1, 1)
    found["max"] = _Function(_largest, 1, LONGEST)
    found["min"] = _Function(_smallest, 1, LONGEST)
    return found


def _largest(*values: Any) -> Any:
    """Of one array its largest element, of several values the largest, element by element."""
    return np.max(values[0]) if len(values) == 1 else functools.reduce(np.maximum, values)


def _smallest(*values: Any) -> Any:
    """Of one array its smallest element, of several values the smallest, element by element."""
    return np.min(values[0]) if len(values) == 1 else functools.reduce(np.minimum, values)


def _stacked(*elements: Any) -> Any:
    """[a, b, …] as one array."""
    if any(isinstance(element, fastad.Array) for element in elements):
        return np.stack(elements)
    return np.array(elements, dtype=np.float64)
