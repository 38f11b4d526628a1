"""Sums, means and products over axes; truth and counts, which have no derivative."""

import numpy as np

from fastad._core import (
    Array,
    broadcast_to,
    cast,
    concatenate,
    max_to,
    min_to,
    replayed,
    reshape,
    select,
    sum_to,
    value_of,
    whole,
)
from fastad._record import implements, method

from .arguments import (
    NO_VALUE,
    constant,
    dropped,
    flag,
    merged,
    normalized_axes,
    refuse_out,
    truth,
)

__all__ = [
    "count_like",
    "count_of",
    "counted",
    "floating",
    "mask_to",
    "mean",
    "prod",
    "reduced",
    "sum",
    "total",
]


def reduced(primitive, x, axis=None, keepdims=False):
    """An Array over `axis` by `primitive`: sum_to, max_to or min_to."""
    if axis is None and not keepdims:
        return primitive(x, ())
    shape = x.shape
    axes = normalized_axes(axis, len(shape))
    if not keepdims and axes == tuple(range(len(axes))):
        return primitive(x, shape[len(axes) :])
    kept = primitive(x, dropped(shape, axes, True))
    return kept if keepdims else reshape(kept, dropped(shape, axes))


def total(x, axis=None, keepdims=False):
    """Sum of a floating Array over `axis`: no further arguments, no checks."""
    return reduced(sum_to, x, axis, keepdims)


def floating(x, dtype):
    """`x` in the wanted dtype; a plain array where that has no derivative (integers, bool)."""
    if dtype is not None:
        return cast(x, dtype)
    # Integers and masks are read: their arithmetic is NumPy's, on values.
    return x if x.dtype.kind == "f" else value_of(x)


def mask_to(where, shape):
    """A `where` argument broadcast to the operand's shape; ValueError if it does not fit."""
    if type(where) is Array:
        return broadcast_to(truth(where), shape)
    return np.broadcast_to(np.asarray(value_of(where), bool), shape)


def count_of(shape, axis, keepdims, where):
    """How many elements a reduction takes together: a number, or an array where `where` is one."""
    if type(where) is Array:
        return counted(mask_to(where, shape), axis, keepdims)
    if where is not True:
        return np.sum(mask_to(where, shape), axis=axis, keepdims=keepdims)
    count = 1
    for i in normalized_axes(axis, len(shape)):
        count *= shape[i]
    return count


def counted(x, axis=None, keepdims=False):
    """How many elements of an Array are other than 0, over axes, as floats."""
    return total(select(truth(x), 1.0, 0.0), axis, keepdims)


def count_like(count, x):
    """A count of `count_of` in the type of `x`."""
    if type(count) is Array:
        return cast(count, x.dtype)
    return count if type(count) is int else np.asarray(count, x.dtype)


def _without_derivative(function, x, axis, keepdims, where, **initial):
    if initial.get("initial") is NO_VALUE:
        initial = {}
    return function(x, axis=axis, keepdims=flag(keepdims), where=value_of(where), **initial)


@method("sum")
@implements(np.sum, (np.add, "reduce"))
def sum(a, axis=None, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Sum over axes."""
    if (
        where is True
        and initial is NO_VALUE
        and out is None
        and dtype is None
        and a.dtype.kind == "f"
    ):
        return total(a, axis, keepdims is not False and flag(keepdims))
    refuse_out("sum", out)
    if replayed(a) and a.dtype.kind == "b" and dtype is None and initial is NO_VALUE:
        mask = a if where is True else np.logical_and(a, mask_to(where, a.shape))
        return whole(counted(mask, axis, flag(keepdims)))
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        return _without_derivative(np.sum, x, axis, keepdims, where, initial=initial)
    if where is not True:
        x = select(mask_to(where, x.shape), x, 0.0)
    result = total(x, axis, flag(keepdims))
    return result if initial is NO_VALUE else result + initial


@method("mean")
@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    """Mean over axes."""
    if replayed(a) and a.dtype.kind == "b":
        a = select(a, 1.0, 0.0)
    if axis is None and keepdims is False and where is True and out is None and dtype is None:
        x = floating(a, None)
        return np.mean(x) if isinstance(x, (np.ndarray, np.generic)) else sum_to(x, ()) / a.size
    refuse_out("mean", out)
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        return _without_derivative(np.mean, x, axis, keepdims, where)
    keepdims = flag(keepdims)
    count = count_of(x.shape, axis, keepdims, where)
    if where is not True:
        x = select(mask_to(where, x.shape), x, 0.0)
    return total(x, axis, keepdims) / count_like(count, x)


def _product_of_rows(rows):
    """Product along the first axis by a tree of multiplications: right where factors are zero."""
    count = rows.shape[0]
    if count == 0:
        return constant(np.ones(rows.shape[1:], rows.dtype), rows)
    while count > 1:
        pairs = rows[0 : count - 1 : 2] * rows[1:count:2]
        rows = concatenate((pairs, rows[count - 1 :]), 0) if count % 2 else pairs
        count = (count + 1) // 2
    return reshape(rows, rows.shape[1:])


@method("prod")
@implements(np.prod, (np.multiply, "reduce"))
def prod(a, axis=None, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Product over axes; its derivatives of any order are right where elements are zero."""
    refuse_out("prod", out)
    x = floating(a, dtype)
    if isinstance(x, (np.ndarray, np.generic)):
        return _without_derivative(np.prod, x, axis, keepdims, where, initial=initial)
    axes = normalized_axes(axis, x.ndim)
    if where is not True:
        x = select(mask_to(where, x.shape), x, 1.0)
    result = _product_of_rows(merged(x, axes, first=True))
    if flag(keepdims):
        result = reshape(result, dropped(x.shape, axes, True))
    return result if initial is NO_VALUE else result * initial


def _truths(function, primitive, a, axis, keepdims, where):
    """Any or all over axes, recorded."""
    mask = truth(a)
    if where is not True:
        where = mask_to(where, a.shape)
        if primitive is max_to:
            mask = np.logical_and(mask, where)
        else:
            mask = np.logical_or(mask, np.logical_not(where))
    if a.size == 0:
        return function(np.zeros(a.shape, bool), axis=axis, keepdims=keepdims)
    return reduced(primitive, mask, axis, keepdims)


@method("any")
@implements(np.any, (np.logical_or, "reduce"))
def any(a, axis=None, out=None, keepdims=False, *, where=True):
    """Whether any element is true: a plain bool or array (in `fastad.compile` a recorded one)."""
    refuse_out("any", out)
    if replayed(a):
        return _truths(np.any, max_to, a, axis, flag(keepdims), where)
    return _without_derivative(np.any, value_of(a), axis, keepdims, where)


@method("all")
@implements(np.all, (np.logical_and, "reduce"))
def all(a, axis=None, out=None, keepdims=False, *, where=True):
    """Whether all elements are true: a plain bool or array (in `fastad.compile` a recorded one)."""
    refuse_out("all", out)
    if replayed(a):
        return _truths(np.all, min_to, a, axis, flag(keepdims), where)
    return _without_derivative(np.all, value_of(a), axis, keepdims, where)


@implements(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    """Number of elements other than 0: a plain integer or array (in `compile` a recorded one)."""
    if replayed(a):
        return whole(counted(a, axis, keepdims))
    return np.count_nonzero(value_of(a), axis=axis, keepdims=keepdims)
