"""Constants like a recorded array, rounding, and comparisons of whole arrays."""

import numpy as np

from fastad._core import broadcast_to, cast, is_array, value_of
from fastad._record import implements, method

from .arguments import constant, refuse_out
from .shapes import as_shape

__all__ = [
    "allclose",
    "array_equal",
    "empty_like",
    "full_like",
    "isclose",
    "ones_like",
    "round",
    "zeros_like",
]


def _filled(like, fill, dtype, shape):
    dtype = like.dtype if dtype is None else np.dtype(dtype)
    shape = like.shape if shape is None else as_shape(shape)
    if is_array(fill):
        return broadcast_to(cast(fill, dtype), shape)
    values = np.full(shape, fill, dtype)
    return constant(values, like) if dtype.kind == "f" else values


@implements(np.zeros_like)
def zeros_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Zeros, on the tape of `a`: recorded values can be written into it."""
    return _filled(a, 0, dtype, shape)


@implements(np.ones_like)
def ones_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Ones, on the tape of `a`: recorded values can be written into it."""
    return _filled(a, 1, dtype, shape)


@implements(np.empty_like)
def empty_like(prototype, /, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """Zeros, on the tape of `prototype`: recorded values can be written into it."""
    return _filled(prototype, 0, dtype, shape)


@implements(np.full_like)
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, *, device=None):
    """One value everywhere, which may be recorded, on the tape of `a`."""
    return _filled(a, fill_value, dtype, shape)


@method("fill")
def _fill(self, value):
    self[...] = value


@method("round")
@implements(np.round, np.around)
def round(a, decimals=0, out=None):
    """Rounded to decimals, halves to even; derivative 0, also at the jumps."""
    refuse_out("round", out)
    if decimals == 0:
        return np.rint(a)
    scale = 10.0 ** abs(decimals)
    return np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale


def _on_values(function):
    """A rule that answers for the values: nothing is recorded, nothing has a derivative."""

    def rule(*args, **kwargs):
        kwargs = {name: value_of(x) for name, x in kwargs.items()}
        return function(*[value_of(x) for x in args], **kwargs)

    rule.__name__ = function.__name__
    rule.__doc__ = f"numpy.{function.__name__} of the values: a plain result."
    return implements(function)(rule)


allclose = _on_values(np.allclose)
array_equal = _on_values(np.array_equal)
isclose = _on_values(np.isclose)
