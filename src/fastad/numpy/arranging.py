"""Elements repeated, reversed and rolled."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad._core import broadcast_to, concatenate, gather, reshape, value_of
from fastad._record import implements, method

from .arguments import normalized_axes
from .cumulative import part

__all__ = ["flip", "fliplr", "flipud", "repeat", "roll", "tile"]


@implements(np.tile)
def tile(A, reps):
    """The whole array repeated along axes."""
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    ndim = max(A.ndim, len(reps))
    shape = (1,) * (ndim - A.ndim) + A.shape
    reps = (1,) * (ndim - len(reps)) + reps
    apart = [m for n in shape for m in (1, n)]
    repeated = [m for pair in zip(reps, shape, strict=True) for m in pair]
    tiled = broadcast_to(reshape(A, tuple(apart)), tuple(repeated))
    return reshape(tiled, tuple([n * r for n, r in zip(shape, reps, strict=True)]))


def _repeat_each(x, count, axis):
    """Every element along `axis` the same number of times."""
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    apart = reshape(x, (*before, 1, *after))
    repeated = broadcast_to(apart, (*before, count, *after))
    return reshape(repeated, (*before[:-1], before[-1] * count, *after))


@method("repeat")
@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """Elements repeated along an axis, or of the flat array."""
    if axis is None:
        a, axis = reshape(a, (a.size,)), 0
    axis = normalize_axis_index(axis, a.ndim)
    repeats = np.asarray(value_of(repeats))  # read: the shape of the result depends on it
    if repeats.size == 1:
        count = repeats.item()
        if count < 0 or repeats.dtype.kind not in "iub":
            np.repeat(0, repeats)  # raises NumPy's own error
        return _repeat_each(a, count, axis)
    places = np.arange(a.size).reshape(a.shape)
    return gather(a, np.repeat(places, repeats, axis))


@implements(np.flip)
def flip(m, axis=None):
    """Order reversed along axes: a view."""
    axes = normalized_axes(axis, m.ndim)
    return m[tuple([slice(None, None, -1 if i in axes else 1) for i in range(m.ndim)])]


@implements(np.flipud)
def flipud(m):
    """Order reversed along the first axis: a view."""
    if m.ndim < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(m, 0)


@implements(np.fliplr)
def fliplr(m):
    """Order reversed along the second axis: a view."""
    if m.ndim < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


def _roll_along(x, shift, axis):
    count = x.shape[axis]
    shift = shift % count if count else 0
    if shift == 0:
        return x
    cut = count - shift
    return concatenate((x[part(axis, cut, None)], x[part(axis, None, cut)]), axis)


@implements(np.roll)
def roll(a, shift, axis=None):
    """Elements moved along axes; those that leave at one end come in at the other."""
    if axis is None:
        return reshape(_roll_along(reshape(a, (a.size,)), shift, 0), a.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,)
    if len(shifts) != len(axes):
        shifts, axes = (list(pair) for pair in np.broadcast_arrays(shifts, axes))
    rolled = a
    for count, i in zip(shifts, axes, strict=True):
        rolled = _roll_along(rolled, int(count), normalize_axis_index(int(i), a.ndim))
    return +a if rolled is a else rolled
