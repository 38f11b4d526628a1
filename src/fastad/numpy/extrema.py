"""max, min and what follows from them. Elements that tie share the derivative evenly."""

import numpy as np

from fastad._core import (
    concatenate,
    custom,
    forward_value,
    gather,
    is_array,
    reshape,
    select,
    value_of,
    varies,
)
from fastad._record import implements, method

from .arguments import NO_VALUE, applied, dropped, flag, merged, normalized_axes, refuse_out
from .reductions import floating, mask_to

__all__ = ["clip", "max", "min", "ptp"]


class _TiedExtremum:
    """Extrema over the last axis: `mask` marks the elements that tie, `count` how many they are."""

    def __init__(self, mask, count):
        self.mask = mask
        self.count = count

    def vjp(self, inputs, outputs, cotangents):
        shares = np.expand_dims(cotangents[0] / self.count, -1)
        return (np.where(self.mask, shares, 0.0),)

    def jvp(self, inputs, outputs, tangents):
        return (np.sum(np.where(self.mask, tangents[0], 0.0), axis=-1) / self.count,)


def _ties(rows, argument):
    """Of every row: place and value of the extremum, which elements equal it, how many."""
    place = np.expand_dims(argument(rows, axis=-1), -1)
    best = np.take_along_axis(rows, place, -1)
    mask = rows == best
    return place, best, mask, np.sum(mask, axis=-1)


class _LanesExtremum:
    """Extrema over the last axis in a lane, and the share of each element in them."""

    leading_axes = True

    def __init__(self, argument):
        self.argument = argument

    def forward(self, rows):
        place, best, mask, count = _ties(rows, self.argument)
        np.put_along_axis(mask, place, True, -1)
        share = mask / np.maximum(count, 1)[..., None]
        return best[..., 0], share.astype(rows.dtype)

    def vjp(self, inputs, outputs, cotangents):
        shares = np.expand_dims(cotangents[0], -1) * outputs[1]
        return (np.where(outputs[1] != 0, shares, 0.0),)

    def jvp(self, inputs, outputs, tangents):
        chosen = np.where(outputs[1] != 0, tangents[0] * outputs[1], 0.0)
        return np.sum(chosen, axis=-1), None


def _of_rows(x, argument):
    """Extremum along the last axis of an Array; `argument` is argmax or argmin."""
    if varies(x):
        return applied(_LanesExtremum(argument), x)[0]
    rows = value_of(x)
    place, best, mask, count = _ties(rows, argument)
    if np.any(count > 1):
        # A NaN equals nothing, itself not: the first one has the place for itself.
        np.put_along_axis(mask, place, True, -1)
        return custom(_TiedExtremum(mask, np.maximum(count, 1)), (x,), (best[..., 0],))[0]
    first = np.arange(rows.size // rows.shape[-1]).reshape(rows.shape[:-1]) * rows.shape[-1]
    return gather(x, first + place[..., 0])


def _of_all(x, argument):
    """Extremum of all elements of an Array."""
    if x.ndim == 0:
        return x
    if varies(x):
        return _of_rows(reshape(x, (x.size,)), argument)
    values = value_of(x)
    place = int(argument(values))
    if np.count_nonzero(values == values.item(place)) > 1:
        return _of_rows(reshape(x, (x.size,)), argument)
    return x[np.unravel_index(place, x.shape)] if x.ndim > 1 else x[place]


def _extremum(function, argument, worst, a, axis, keepdims, initial, where):
    keepdims = flag(keepdims)
    values = forward_value(a) if a.dtype.kind == "f" else value_of(a)
    options = {} if initial is NO_VALUE else {"initial": forward_value(initial)}
    if where is not True:
        options["where"] = forward_value(where)
    if a.dtype.kind != "f" or options or a.size == 0:
        # NumPy's own answer: for masks and empty results, and to raise NumPy's own errors.
        plain = function(values, axis=axis, keepdims=keepdims, **options)
        if a.dtype.kind != "f" or np.size(plain) == 0:
            return plain
    axes = normalized_axes(axis, a.ndim)
    result_shape = dropped(a.shape, axes, keepdims)
    if where is not True:
        a = select(mask_to(where, a.shape), a, worst)
    rows = merged(a, axes)
    if initial is not NO_VALUE:
        column = reshape(initial, (1,) * rows.ndim) if is_array(initial) else np.asarray(initial)
        column = np.broadcast_to(column, (*rows.shape[:-1], 1)).astype(rows.dtype)
        rows = concatenate((rows, column), rows.ndim - 1)
    return reshape(_of_rows(rows, argument), result_shape)


@method("max")
@implements(np.max, np.amax)
def max(a, axis=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Largest element over axes, NaN if there is one."""
    refuse_out("max", out)
    plain_call = axis is None and keepdims is False and initial is NO_VALUE and where is True
    if plain_call and a.size and a.dtype.kind == "f":
        return _of_all(a, np.argmax)
    return _extremum(np.max, np.argmax, -np.inf, a, axis, keepdims, initial, where)


@method("min")
@implements(np.min, np.amin)
def min(a, axis=None, out=None, keepdims=False, initial=NO_VALUE, where=True):
    """Smallest element over axes, NaN if there is one."""
    refuse_out("min", out)
    plain_call = axis is None and keepdims is False and initial is NO_VALUE and where is True
    if plain_call and a.size and a.dtype.kind == "f":
        return _of_all(a, np.argmin)
    return _extremum(np.min, np.argmin, np.inf, a, axis, keepdims, initial, where)


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
