"""What the rules share: NumPy's arguments, and operations on an Array or an ndarray alike."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from fastad._core import (
    Array,
    asarray,
    call,
    concatenate,
    is_array,
    predicate,
    replayed,
    reshape,
    stop,
    sum_to,
    transpose,
    value_of,
)
from fastad._ops import OPS

__all__ = [
    "NO_VALUE",
    "Found",
    "constant",
    "dropped",
    "flag",
    "found",
    "merged",
    "normalized_axes",
    "operand",
    "refuse_out",
    "reshaped",
    "summed_to",
    "transposed",
    "truth",
]

NO_VALUE = np._NoValue
"""NumPy's own default of arguments that have none."""


def refuse_out(function, out):
    """Raise TypeError unless `out` is None."""
    if out is not None:
        raise TypeError(
            f"numpy.{function}: out: a recorded result cannot be written into an existing array; "
            "leave out= away and assign the result, y[...] = result"
        )


def flag(value):
    """A keepdims argument as a bool; NumPy's default stands for False."""
    return value is not NO_VALUE and bool(value)


def normalized_axes(axis, ndim):
    """An axis argument (None, an integer or a tuple of them) as a sorted tuple of axes."""
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


def dropped(shape, axes, keepdims=False):
    """`shape` after a reduction over `axes`."""
    if len(axes) == 1:
        (axis,) = axes
        return shape[:axis] + (1,) * keepdims + shape[axis + 1 :]
    if keepdims:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def merged(x, axes, first=False):
    """The Array with `axes` made one axis, the last or the first."""
    shape = x.shape
    kept = tuple([i for i in range(len(shape)) if i not in axes])
    order = axes + kept if first else kept + axes
    if order != tuple(range(len(shape))):
        x = transpose(x, order)
    one, rest = (math.prod([shape[i] for i in axes]),), tuple([shape[i] for i in kept])
    return reshape(x, one + rest if first else rest + one)


def operand(x):
    """`x` as an Array where it is or holds one, otherwise as an ndarray."""
    if type(x) is Array:
        return x
    return asarray(x) if is_array(x) else np.asarray(x)


def constant(value, like):
    """The Array of a constant on the tape of the Array `like`."""
    nothing = stop(reshape(like, (like.size,))[:0])
    value = np.asarray(value)
    return reshape(concatenate((value.reshape(-1), nothing), 0), value.shape)


def truth(x):
    """Where an Array is other than 0, recorded: nothing is decided by it, not even by a scalar."""
    return x if x.dtype.kind == "b" else predicate(OPS["NOT_EQUAL"].number, x, 0)


class Found:
    """A rule for what is found out about values, and has no derivative: orders, places, tests."""

    leading_axes = False  # whether forward takes lanes as further axes in front

    def batch(self, lanes, inputs, over):
        """What is found in each lane, by itself."""
        return found(self if self.leading_axes else _FoundInLanes(self), over[0])

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        """No derivative by any input."""
        return (None,) * len(inputs)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        """No derivative of any output."""
        return (None,) * len(outputs)


class _FoundInLanes(Found):
    """What a rule finds in each lane, side by side."""

    def __init__(self, rule):
        self.rule = rule

    def forward(self, values):
        lanes = [self.rule.forward(lane) for lane in values]
        if not lanes:  # shapes and types are those of zeros
            like = self.rule.forward(np.zeros(values.shape[1:], values.dtype))
            return tuple([np.stack([output])[:0] for output in _tuple(like)])
        return tuple([np.stack(outputs) for outputs in zip(*map(_tuple, lanes), strict=True)])


def _tuple(x):
    return x if isinstance(x, tuple) else (x,)


def found(rule, x):
    """Outputs of a Found rule: recorded where a replay may find others, plain ones elsewhere."""
    return call(rule, (x,)) if replayed(x) else rule.forward(value_of(x))


def reshaped(x, shape):
    """reshape of an Array or an ndarray."""
    return reshape(x, shape) if type(x) is Array else np.reshape(x, shape)


def transposed(x, axes):
    """transpose of an Array or an ndarray."""
    return transpose(x, axes) if type(x) is Array else np.transpose(x, axes)


def summed_to(x, shape):
    """Sum of an Array or an ndarray over the axes that broadcasting from `shape` would repeat."""
    if x.shape == shape:
        return x
    if type(x) is Array:
        return sum_to(x, shape)
    new = x.ndim - len(shape)
    repeated = [new + i for i, n in enumerate(shape) if n == 1 and x.shape[new + i] != 1]
    return np.sum(x, axis=(*range(new), *repeated)).reshape(shape)
