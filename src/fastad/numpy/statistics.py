"""Variance, standard deviation, weighted average, median."""

import math

import numpy as np

from fastad._core import gather, record, reshape, select, value_of, varies
from fastad._ops import OPS
from fastad._record import implements, method

from .arguments import (
    NO_VALUE,
    Found,
    constant,
    dropped,
    flag,
    found,
    merged,
    normalized_axes,
    operand,
    refuse_out,
    reshaped,
    transposed,
)
from .reductions import count_like, count_of, floating, mask_to, total
from .reductions import mean as mean_of

__all__ = ["average", "median", "root", "std", "var"]


_ROOT = OPS["ROOT"].number


def root(x):
    """Square root with derivative 0 at 0, where the square root itself has none."""
    return record(_ROOT, x)


def _degrees(ddof, correction):
    if correction is NO_VALUE:
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


def _variance(x, axis, ddof, keepdims, where, mean):
    if mean is NO_VALUE:
        mean = mean_of(x, axis, keepdims=True, where=where)
    squares = (x - mean) ** 2
    if where is not True:
        squares = select(mask_to(where, x.shape), squares, 0.0)
    keepdims = flag(keepdims)
    count = np.maximum(np.subtract(count_of(x.shape, axis, keepdims, where), ddof), 0)
    return total(squares, axis, keepdims) / count_like(count, x)


@method("var")
@implements(np.var)
def var(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=False,
    *,
    where=True,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """Variance over axes."""
    refuse_out("var", out)
    ddof = _degrees(ddof, correction)
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        plain_mean = {} if mean is NO_VALUE else {"mean": value_of(mean)}
        return np.var(
            x, axis, ddof=ddof, keepdims=flag(keepdims), where=value_of(where), **plain_mean
        )
    return _variance(x, axis, ddof, keepdims, where, mean)


@method("std")
@implements(np.std)
def std(
    a,
    axis=None,
    dtype=None,
    out=None,
    ddof=0,
    keepdims=False,
    *,
    where=True,
    mean=NO_VALUE,
    correction=NO_VALUE,
):
    """Standard deviation over axes; where it is 0 its derivative is 0, a subgradient."""
    refuse_out("std", out)
    variance = var(
        a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction
    )
    return np.sqrt(variance) if isinstance(variance, (np.ndarray, np.generic)) else root(variance)


def _weights_like(weights, a, axis):
    """The weights, with one-element axes so that they broadcast against `a`."""
    weights = operand(weights)
    if weights.shape == a.shape:
        return weights
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if weights.shape != tuple([a.shape[i] for i in axis]):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    weights = transposed(weights, tuple(np.argsort(axis).tolist()))
    return reshaped(weights, tuple([n if i in axis else 1 for i, n in enumerate(a.shape)]))


@implements(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """Weighted average over axes; the weights may be recorded too."""
    a = operand(a)
    keepdims = flag(keepdims)
    if axis is not None:
        axis = np.lib.array_utils.normalize_axis_tuple(axis, a.ndim, argname="axis")
    if weights is None:
        result = np.mean(a, axis=axis, keepdims=keepdims)
        scale = np.full(result.shape, a.size / result.size, a.dtype)[()]
        return (result, scale) if returned else result
    weights = _weights_like(weights, a, axis)
    scale = np.sum(weights, axis=axis, keepdims=keepdims)
    if not varies(scale) and np.any(np.equal(scale, 0)):
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    result = np.sum(a * weights, axis=axis, keepdims=keepdims) / scale
    return (result, np.broadcast_to(scale, result.shape)) if returned else result


def _middle(values):
    """Positions of the one or two middle elements of every row; of a NaN, if there is one."""
    order = np.argsort(values, axis=-1, kind="stable")
    count = values.shape[-1]
    middle = order[..., [(count - 1) // 2, count // 2]]
    missing = np.isnan(np.take_along_axis(values, order[..., -1:], -1))
    return np.where(missing, order[..., -1:], middle)


class _Middle(Found):
    """Flat places of the two middle elements of every row of an array of a shape."""

    leading_axes = True

    def __init__(self, shape):
        self.first = np.arange(math.prod(shape)).reshape(shape)[..., 0]

    def forward(self, rows):
        places = _middle(rows)
        return places[..., 0] + self.first, places[..., 1] + self.first


@implements(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    """Median over axes: the middle element, or the mean of the two; of equal ones the first."""
    refuse_out("median", out)
    if a.dtype.kind != "f":
        return np.median(value_of(a), axis=axis, keepdims=keepdims)  # of integers and masks
    axes = normalized_axes(axis, a.ndim)
    rows = merged(a, axes)
    shape = dropped(a.shape, axes, keepdims)
    if rows.shape[-1] == 0:
        return constant(np.full(shape, np.nan, a.dtype), a)
    low, high = found(_Middle(rows.shape), rows)
    if rows.shape[-1] % 2:
        return reshape(gather(rows, low), shape)
    return reshape((gather(rows, low) + gather(rows, high)) / 2, shape)
