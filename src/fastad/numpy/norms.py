"""Norms of vectors and matrices; at a kink the derivative is a subgradient: 0 at 0."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad._core import cast, reshape, select, sum_to
from fastad._record import implements

from .arguments import flag, operand, truth
from .extrema import max as max_of
from .extrema import min as min_of
from .reductions import counted, total
from .statistics import root

__all__ = ["norm"]


def _without_derivative(x, axis, keepdims):
    """The number of elements other than 0, in the type of `x`."""
    return cast(counted(x, axis, keepdims), x.dtype)


def _power_norm(x, order, axis, keepdims):
    """(sum |x|**p)**(1/p). An element that is 0 has derivative 0; where the norm is 0 all have."""
    size = abs(x)
    if order > 0:
        nonzero = x != 0
        powers = select(nonzero, select(nonzero, size, 1.0) ** order, 0.0)
    else:
        powers = size**order
    sums = total(powers, axis, keepdims)
    some = truth(sums)
    return select(some, select(some, sums, 1.0) ** (1.0 / order), 0.0)


def _vector_norm(x, order, axis, keepdims):
    if order is None or order == 2:
        return root(total(x * x, axis, keepdims))
    if isinstance(order, str):
        raise ValueError(f"Invalid norm order '{order}' for vectors")
    if order == np.inf:
        return (
            max_of(abs(x), axis, keepdims=keepdims, initial=0.0)
            if x.size == 0
            else max_of(abs(x), axis, keepdims=keepdims)
        )
    if order == -np.inf:
        return min_of(abs(x), axis, keepdims=keepdims)
    if order == 0:
        return _without_derivative(x, axis, keepdims)
    if order == 1:
        return total(abs(x), axis, keepdims)
    return _power_norm(x, order, axis, keepdims)


def _matrix_norm(x, order, rows, columns, keepdims):
    """Norm of the matrices in the planes of two axes."""
    if order in (None, "fro", "f"):
        return root(total(x * x, (rows, columns), keepdims))
    if order in ("nuc", 2, -2):
        raise NotImplementedError(
            f"numpy.linalg.norm: ord={order!r} of a matrix needs singular values, "
            "which fastad does not differentiate yet"
        )
    if order not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    along, across = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = total(abs(x), along, True)
    extremum = max_of if order > 0 else min_of
    result = extremum(sums, across, keepdims=True)
    if keepdims:
        return result
    return reshape(result, tuple([n for i, n in enumerate(x.shape) if i not in (rows, columns)]))


def _axes(axis, ndim):
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        try:
            axis = (int(axis),)
        except Exception as error:
            raise TypeError("'axis' must be None, an integer or a tuple of integers") from error
    return tuple([normalize_axis_index(i, ndim) for i in axis])


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """Norm over one axis (of vectors), two (of matrices) or all elements."""
    x = operand(x)
    if axis is None and ord is None and not keepdims:
        return root(sum_to(x * x, ()))
    if axis is None and ord is None:
        return root(total(x * x, None, flag(keepdims)))
    axes = _axes(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, flag(keepdims))
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if axes[0] == axes[1]:
        raise ValueError("Duplicate axes given.")
    return _matrix_norm(x, ord, *axes, flag(keepdims))
