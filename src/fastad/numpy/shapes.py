"""Rules that keep the elements and change the shape."""

import math
import operator

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from fastad import _core
from fastad._core import value_of
from fastad._record import implements, method

from .arguments import operand, reshaped, transposed

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "moveaxis",
    "ndim",
    "ravel",
    "reshape",
    "shape",
    "size",
    "squeeze",
    "swapaxes",
    "transpose",
]


def as_shape(wanted):
    """A shape argument (an integer or several) as a tuple."""
    if not isinstance(wanted, (tuple, list, np.ndarray)):
        wanted = (wanted,)
    return tuple([operator.index(n) for n in wanted])


def resolved_shape(wanted, size):
    """The shape argument of reshape as a tuple without -1; NumPy's errors where it does not fit."""
    shape = as_shape(wanted)
    if min(shape, default=0) >= 0:
        return shape
    if sum(n < 0 for n in shape) > 1:
        raise ValueError("can only specify one unknown dimension")
    known = math.prod([n for n in shape if n >= 0])
    if known == 0 or size % known:
        raise ValueError(f"cannot reshape array of size {size} into shape {shape}")
    return tuple([size // known if n < 0 else n for n in shape])


def _reversed(x):
    return transposed(x, tuple(range(x.ndim))[::-1])


@implements(np.reshape)
def reshape(a, /, shape=None, order="C", *, copy=None):
    """Other shape, in C or Fortran order of the elements."""
    if shape is None:
        raise TypeError("reshape() missing 1 required positional argument: 'shape'")
    shape = resolved_shape(shape, a.size)
    if order in ("C", "A"):
        return _core.reshape(a, shape)
    if order != "F":
        raise ValueError(f"order must be one of 'C', 'F', 'A' (got {order!r})")
    return _reversed(_core.reshape(_reversed(a), shape[::-1]))


@method("ravel")
@implements(np.ravel)
def ravel(a, order="C"):
    """One-dimensional."""
    return reshape(a, (a.size,), "C" if order == "K" else order)


@method("squeeze")
@implements(np.squeeze)
def squeeze(a, axis=None):
    """Without axes of one element."""
    if axis is None:
        return _core.reshape(a, tuple([n for n in a.shape if n != 1]))
    axes = normalize_axis_tuple(axis, a.ndim)
    if any(a.shape[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return _core.reshape(a, tuple([n for i, n in enumerate(a.shape) if i not in axes]))


@implements(np.expand_dims)
def expand_dims(a, axis):
    """With new axes of one element at the places `axis` of the result."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = normalize_axis_tuple(axes, len(axes) + a.ndim)
    old = iter(a.shape)
    return _core.reshape(
        a, tuple([1 if i in axes else next(old) for i in range(a.ndim + len(axes))])
    )


@implements(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    """Axes permuted, or reversed."""
    if axes is None:
        return _reversed(a)
    if len(axes) != a.ndim:
        raise ValueError("axes don't match array")
    return _core.transpose(a, normalize_axis_tuple(axes, a.ndim))


@method("swapaxes")
@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    """Two axes exchanged."""
    order = list(range(a.ndim))
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    order[i], order[j] = j, i
    return transposed(a, tuple(order))


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    """Axes moved to other places, the rest in order."""
    source = normalize_axis_tuple(source, a.ndim, "source")
    destination = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(source) != len(destination):
        raise ValueError(
            "`source` and `destination` arguments must have the same number of elements"
        )
    order = [i for i in range(a.ndim) if i not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        order.insert(place, axis)
    return transposed(a, tuple(order))


@implements(np.matrix_transpose)
def matrix_transpose(x, /):
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return swapaxes(x, -1, -2)


@implements(np.broadcast_to)
def broadcast_to(array, shape, subok=False):
    """Repeated along new and one-element axes."""
    return _core.broadcast_to(array, as_shape(shape))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args, subok=False):
    """Operands broadcast against each other."""
    operands = [operand(x) for x in args]
    common = np.broadcast_shapes(*[x.shape for x in operands])
    return tuple([np.broadcast_to(x, common) for x in operands])


def _at_least(count):
    def rule(*arys):
        results = [_with_axes(operand(x), count) for x in arys]
        return results[0] if len(results) == 1 else tuple(results)

    return rule


def _with_axes(x, count):
    """`x` with NumPy's new axes where it has fewer than `count`."""
    old = x.shape
    if len(old) >= count:
        return x
    new = {
        0: (1,) * count,
        1: old if count == 1 else (1, *old) if count == 2 else (1, *old, 1),
        2: (*old, 1),
    }
    return reshaped(x, new[len(old)])


atleast_1d = implements(np.atleast_1d)(_at_least(1))
atleast_2d = implements(np.atleast_2d)(_at_least(2))
atleast_3d = implements(np.atleast_3d)(_at_least(3))


@implements(np.shape)
def shape(a):
    """Shape, a plain tuple."""
    return a.shape


@implements(np.ndim)
def ndim(a):
    """Number of axes, a plain integer."""
    return a.ndim


@implements(np.size)
def size(a, axis=None):
    """Number of elements, or along axes: a plain integer."""
    return a.size if axis is None else np.size(np.broadcast_to(False, a.shape), axis)


@method("reshape")
def _reshape_method(self, *shape, order="C", copy=None):
    wanted = shape[0] if len(shape) == 1 else shape
    if order == "C":
        return _core.reshape(self, resolved_shape(wanted, self.size))
    return reshape(self, wanted, order)


@method("transpose")
def _transpose_method(self, *axes):
    if len(axes) == 1 and (axes[0] is None or np.ndim(axes[0])):
        axes = axes[0]
    return transpose(self, axes or None)


@method("flatten")
def _flatten(self, order="C"):
    return _copied(ravel(self, order))


def _copied(x):
    """An Array that is no view of another: writing to one leaves the other as it is."""
    return +x if x.dtype.kind == "f" else value_of(x)  # masks and integers: a plain array


@implements(np.copy)
def copy(a, order="K", subok=False):
    """A copy: writing to it leaves the original as it is."""
    return _copied(a)
