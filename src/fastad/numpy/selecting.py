"""Elements chosen by a condition, by index, or by their place about the diagonal."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad._core import (
    Array,
    gather,
    is_array,
    reshape,
    scatter_add,
    select,
    transpose,
    value_of,
    where_mask,
)
from fastad._record import implements, method

from .arguments import operand, refuse_out
from .reductions import sum as sum_of

__all__ = [
    "copyto",
    "diag",
    "diagflat",
    "diagonal",
    "nonzero",
    "take",
    "take_along_axis",
    "trace",
    "tril",
    "triu",
    "where",
]


@implements(np.where)
def where(condition, x=None, y=None, /):
    """Elements of `x` where the condition is true, else of `y`; without them, np.nonzero.

    The branch that is not taken has derivative 0, whatever its own derivative is there.
    """
    if x is None or y is None:
        if x is not y:
            raise ValueError("either both or neither of x and y should be given")
        return np.nonzero(value_of(condition))
    if type(condition) is Array:
        if condition.dtype.kind != "b":
            condition = condition != 0
    elif is_array(condition):
        condition = np.asarray(value_of(condition), bool)
    return select(condition, x, y)


@implements(np.copyto)
def copyto(dst, src, casting="same_kind", where=True):
    """Write `src` into the recorded array `dst`, where the mask is true."""
    if type(dst) is not Array:
        raise TypeError(
            "numpy.copyto: dst: an ndarray cannot hold a recorded value; make the array of "
            "something recorded, as np.zeros_like(x) does"
        )
    if hasattr(src, "dtype"):
        np.copyto(np.empty(0, dst.dtype), np.empty(0, src.dtype), casting)  # NumPy's own refusal
    dst[...] = src if where is True else select(where_mask(where), src, dst)


@method("nonzero")
@implements(np.nonzero)
def nonzero(a):
    """Indices of the elements other than zero: plain arrays."""
    return np.nonzero(value_of(a))


@method("take")
@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """Elements at indices along an axis, or of the flat array."""
    refuse_out("take", out)
    indices = np.asarray(value_of(indices))
    a = operand(a)
    if axis is None:
        return gather(a, np.take(np.arange(a.size), indices, mode=mode))
    axis = normalize_axis_index(axis, a.ndim)
    count, inner = a.shape[axis], math.prod(a.shape[axis + 1 :])
    outer = np.arange(math.prod(a.shape[:axis])) * count * inner
    chosen = np.take(np.arange(count), indices, mode=mode).reshape(-1) * inner
    flat = outer[:, None, None] + chosen[:, None] + np.arange(inner)
    return gather(a, flat.reshape(a.shape[:axis] + indices.shape + a.shape[axis + 1 :]))


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """Elements at indices matched with the array along an axis."""
    arr, indices = operand(arr), np.asarray(value_of(indices))
    if not isinstance(arr, Array):
        return np.take_along_axis(arr, indices, axis)
    places = np.arange(arr.size).reshape(arr.shape)
    return gather(arr, np.take_along_axis(places, indices, axis))


def _diagonal_of_last(x, offset):
    """Diagonal of the last two axes, as a strided view of the two merged."""
    rows, columns = x.shape[-2:]
    start = offset if offset >= 0 else -offset * columns
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    merged = reshape(x, (*x.shape[:-2], rows * columns))
    step = columns + 1
    return merged[..., start : start + (count - 1) * step + 1 if count else start : step]


@method("diagonal")
@implements(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    """Diagonals of the planes of two axes, along a new last axis."""
    if a.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    if i == j:
        raise ValueError("axis1 and axis2 cannot be the same")
    rest = tuple([k for k in range(a.ndim) if k not in (i, j)])
    if (*rest, i, j) != tuple(range(a.ndim)):
        a = transpose(a, (*rest, i, j))
    return _diagonal_of_last(a, offset.__index__())


@method("trace")
@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    """Sum of a diagonal."""
    refuse_out("trace", out)
    return sum_of(diagonal(a, offset, axis1, axis2), -1, dtype)


@implements(np.diag)
def diag(v, k=0):
    """Matrix with the given diagonal, or diagonal of a given matrix."""
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    size = v.shape[0] + abs(k)
    start = k if k >= 0 else -k * size
    return scatter_add(v, start + np.arange(v.shape[0]) * (size + 1), (size, size))


@implements(np.diagflat)
def diagflat(v, k=0):
    """Matrix with the elements of an array of any shape as its diagonal."""
    return diag(reshape(v, (v.size,)), k)


@implements(np.tril)
def tril(m, k=0):
    """Elements on and below the k-th diagonal; zero above."""
    return select(np.tri(*m.shape[-2:], k=k, dtype=bool), m, 0.0)


@implements(np.triu)
def triu(m, k=0):
    """Elements on and above the k-th diagonal; zero below."""
    return select(np.tri(*m.shape[-2:], k=k - 1, dtype=bool), 0.0, m)
