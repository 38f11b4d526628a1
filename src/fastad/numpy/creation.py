"""Constants like a recorded array, rounding, and comparisons of whole arrays."""

import numpy as np

from fastad._core import broadcast_to, cast, is_array, replayed, value_of
from fastad._record import implements, method

from .arguments import constant, operand, refuse_out, reshaped
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


# --- comparisons of whole arrays: nothing has a derivative; recorded where a replay may differ ---


def _compared(test, a, b, equal_nan):
    """``test(a, b)``, NaNs equal or not, recorded of scalars as well: a mask."""
    a, b = operand(a), operand(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = (reshaped(x, x.shape or (1,)) for x in (a, b))
    mask = test(a, b)
    if equal_nan:
        mask = np.logical_or(mask, np.logical_and(np.isnan(a), np.isnan(b)))
    return reshaped(mask, shape)


@implements(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Where two arrays agree within a tolerance: a plain result (in `fastad.compile` recorded)."""
    if not replayed(a) and not replayed(b):
        return np.isclose(value_of(a), value_of(b), rtol, atol, equal_nan)

    def near(a, b):
        within = np.less_equal(np.abs(a - b), atol + rtol * np.abs(b))
        return np.logical_or(np.logical_and(within, np.isfinite(b)), np.equal(a, b))

    return _compared(near, a, b, equal_nan)


@implements(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether two arrays agree within a tolerance: a plain bool (in `fastad.compile` recorded)."""
    return np.all(isclose(a, b, rtol, atol, equal_nan))


@implements(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    """Whether shapes and elements are equal: a plain bool (in `fastad.compile` recorded)."""
    if not replayed(a1) and not replayed(a2):
        return np.array_equal(value_of(a1), value_of(a2), equal_nan)
    if np.shape(a1) != np.shape(a2):
        return False
    return np.all(_compared(np.equal, a1, a2, equal_nan))
