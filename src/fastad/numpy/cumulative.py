"""Running sums and products, differences of neighbours."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad import _core
from fastad._core import concatenate, reshape, value_of
from fastad._record import implements, method

from .arguments import NO_VALUE, operand, refuse_out
from .reductions import floating

__all__ = ["cumprod", "cumsum", "diff"]


def _along(x, axis):
    """An Array and a valid axis of it; without axis the flat array and 0."""
    if axis is None:
        return reshape(x, (x.size,)), 0
    if x.ndim == 0 and axis in (0, -1):
        return reshape(x, (1,)), 0
    return x, normalize_axis_index(axis, x.ndim)


def part(axis, start, stop, step=None):
    """Index of a slice along one axis."""
    return (slice(None),) * axis + (slice(start, stop, step),)


@method("cumsum")
@implements(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    """Cumulative sum along an axis, or of the flat array."""
    refuse_out("cumsum", out)
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        return np.cumsum(x, axis=axis)
    return _core.cumsum(*_along(x, axis))


@implements((np.add, "accumulate"))
def _add_accumulate(a, axis=0, dtype=None, out=None):
    return cumsum(a, axis, dtype, out)


@implements((np.multiply, "accumulate"))
def _multiply_accumulate(a, axis=0, dtype=None, out=None):
    return cumprod(a, axis, dtype, out)


@method("cumprod")
@implements(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    """Cumulative product along an axis, or of the flat array, right to any order at zeros.

    Doubles the length of the products log2(n) times: n log2(n) multiplications.
    """
    refuse_out("cumprod", out)
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        return np.cumprod(x, axis=axis)
    x, axis = _along(x, axis)
    reach, count = 1, x.shape[axis]
    while reach < count:
        longer = x[part(axis, reach, None)] * x[part(axis, None, count - reach)]
        x = concatenate((x[part(axis, None, reach)], longer), axis)
        reach *= 2
    return +x if reach == 1 else x


def _beside(values, like, axis):
    """The prepend or append argument of diff as an operand of concatenate."""
    values = operand(values)
    if values.ndim:
        return values
    shape = (*like.shape[:axis], 1, *like.shape[axis + 1 :])
    return np.broadcast_to(values, shape)


@implements(np.diff)
def diff(a, n=1, axis=-1, prepend=NO_VALUE, append=NO_VALUE):
    """Differences of neighbours along an axis, `n` times."""
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    a = operand(a)
    if a.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalize_axis_index(axis, a.ndim)
    parts = [a]
    if prepend is not NO_VALUE:
        parts.insert(0, _beside(prepend, a, axis))
    if append is not NO_VALUE:
        parts.append(_beside(append, a, axis))
    if len(parts) > 1:
        a = concatenate(parts, axis)
    if a.dtype.kind == "b":
        return np.diff(value_of(a), n, axis)  # of masks: NumPy's, on values
    for _ in range(n):
        a = a[part(axis, 1, None)] - a[part(axis, None, -1)]
    return a
