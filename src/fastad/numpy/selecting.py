"""Elements chosen by a condition, by index, or by their place about the diagonal."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad._core import (
    Array,
    call,
    gather,
    is_array,
    replayed,
    reshape,
    scatter_add,
    select,
    transpose,
    value_of,
    where_mask,
)
from fastad._record import implements, method

from .arguments import Found, operand, refuse_out, truth
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
        return nonzero(operand(condition))
    if is_array(condition):
        condition = truth(operand(condition))
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
    # The values of a mask are read: how many elements there are is part of the recording.
    return np.nonzero(value_of(truth(a)) if a.ndim else value_of(a))


class _TakenPlaces(Found):
    """Flat places of what np.take takes from an array of a shape, at the indices it is given."""

    def __init__(self, shape, axis, mode):
        self.shape = shape
        self.axis = axis
        self.mode = mode

    def forward(self, indices):
        indices = np.asarray(indices)
        if self.axis is None:
            return np.take(np.arange(math.prod(self.shape)), indices, mode=self.mode)
        before, count, after = (
            self.shape[: self.axis],
            self.shape[self.axis],
            self.shape[self.axis + 1 :],
        )
        inner = math.prod(after)
        outer = np.arange(math.prod(before)) * count * inner
        chosen = np.take(np.arange(count), indices, mode=self.mode).reshape(-1) * inner
        flat = outer[:, None, None] + chosen[:, None] + np.arange(inner)
        return flat.reshape(before + indices.shape + after)


class _MatchedPlaces(Found):
    """Flat places of what np.take_along_axis takes from an array of a shape."""

    def __init__(self, shape, axis):
        self.shape = shape
        self.axis = axis

    def forward(self, indices):
        places = np.arange(math.prod(self.shape)).reshape(self.shape)
        return np.take_along_axis(places, indices, self.axis)


def _gathered(x, rule, indices):
    """Elements of `x` at the flat places that the rule gives for recorded or plain indices."""
    if replayed(indices) and indices.dtype.kind == "i":
        return gather(x, call(rule, (indices,))[0])
    places = rule.forward(np.asarray(value_of(indices)))
    return gather(x, places) if type(x) is Array else x.reshape(-1)[places]


@method("take")
@implements(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    """Elements at indices along an axis, or of the flat array."""
    refuse_out("take", out)
    a = operand(a)
    axis = None if axis is None else normalize_axis_index(axis, a.ndim)
    return _gathered(a, _TakenPlaces(a.shape, axis, mode), indices)


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """Elements at indices matched with the array along an axis."""
    arr = operand(arr)
    return _gathered(arr, _MatchedPlaces(arr.shape, axis), indices)


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
