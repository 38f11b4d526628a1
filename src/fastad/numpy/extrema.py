"""max, min and what follows from them. Elements that tie share the derivative evenly."""

import numpy as np

from fastad._core import concatenate, is_array, max_to, min_to, reshape, select, value_of
from fastad._record import implements, method

from .arguments import NO_VALUE, dropped, flag, merged, normalized_axes, refuse_out
from .reductions import floating, mask_to, reduced

__all__ = ["clip", "max", "min", "ptp"]


def _initially(initial, rows):
    """The `initial` argument as one more column of the rows."""
    column = reshape(initial, (1,) * rows.ndim) if is_array(initial) else np.asarray(initial)
    return np.broadcast_to(column, (*rows.shape[:-1], 1)).astype(rows.dtype)


def _nothing(function, x, axis, keepdims, initial, where):
    """NumPy's answer for zeros like `x`: its own errors, and the shape of an empty result."""
    options = {} if initial is NO_VALUE else {"initial": 0}
    if where is not True:
        options["where"] = np.broadcast_to(True, np.shape(where))
    return function(np.zeros(x.shape, x.dtype), axis=axis, keepdims=keepdims, **options)


def _extremum(function, primitive, worst, a, axis, keepdims, initial, where):
    keepdims = flag(keepdims)
    if a.dtype.kind != "f":
        # Of masks and integers plain values, as from all arithmetic of theirs.
        options = {} if initial is NO_VALUE else {"initial": value_of(initial)}
        options |= {} if where is True else {"where": value_of(where)}
        return function(value_of(a), axis=axis, keepdims=keepdims, **options)
    if where is True and initial is NO_VALUE and a.size:
        return reduced(primitive, a, axis, keepdims)
    empty = _nothing(function, a, axis, keepdims, initial, where)
    if np.size(empty) == 0:
        return empty
    axes = normalized_axes(axis, a.ndim)
    if where is not True:
        a = select(mask_to(where, a.shape), a, worst)
    rows = merged(a, axes)
    rows = concatenate((rows, _initially(initial, rows)), rows.ndim - 1)
    return reshape(reduced(primitive, rows, -1), dropped(a.shape, axes, keepdims))


@method("max")
@implements(np.max, np.amax)
def max(a, axis=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Largest element over axes, NaN if there is one."""
    refuse_out("max", out)
    return _extremum(np.max, max_to, -np.inf, a, axis, keepdims, initial, where)


@method("min")
@implements(np.min, np.amin)
def min(a, axis=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Smallest element over axes, NaN if there is one."""
    refuse_out("min", out)
    return _extremum(np.min, min_to, np.inf, a, axis, keepdims, initial, where)


@implements((np.maximum, "reduce"))
def _maximum_reduce(a, axis=0, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    return max(floating(a, dtype), axis, out, keepdims, initial, where)


@implements((np.minimum, "reduce"))
def _minimum_reduce(a, axis=0, dtype=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    return min(floating(a, dtype), axis, out, keepdims, initial, where)


@implements(np.ptp)
def ptp(a, axis=None, out=None, keepdims=False):
    """Largest minus smallest element over axes."""
    refuse_out("ptp", out)
    keepdims = flag(keepdims)
    return max(a, axis, keepdims=keepdims) - min(a, axis, keepdims=keepdims)


@method("clip")
def _clip_method(self, min=None, max=None, out=None):
    return clip(self, min, max, out)


def _bounds(a_min, a_max, low, high):
    """The two bounds of clip from its two spellings, as NumPy tells them apart."""
    if a_min is NO_VALUE and a_max is NO_VALUE:
        return None if low is NO_VALUE else low, None if high is NO_VALUE else high
    for name, bound in (("a_min", a_min), ("a_max", a_max)):
        if bound is NO_VALUE:
            raise TypeError(f"clip() missing 1 required positional argument: {name!r}")
    if low is not NO_VALUE or high is not NO_VALUE:
        raise ValueError("clip: pass the bounds as a_min and a_max or as min and max, not both")
    return a_min, a_max


@implements(np.clip)
def clip(a, a_min=NO_VALUE, a_max=NO_VALUE, out=None, *, min=NO_VALUE, max=NO_VALUE):
    """Values limited to an interval; at a bound, value and bound share the derivative."""
    refuse_out("clip", out)
    low, high = _bounds(a_min, a_max, min, max)
    if low is None and high is None:
        return np.positive(a)
    if low is not None:
        a = np.maximum(a, low)
    return a if high is None else np.minimum(a, high)
