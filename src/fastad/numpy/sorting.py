"""Sorting: the order is found on the values, the elements are gathered."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad._core import gather, reshape
from fastad._record import implements, method

from .arguments import Found, flag, found, refuse_out

__all__ = ["argmax", "argmin", "argsort", "sort"]


def _flat(indices, shape, axis):
    """Flat places of indices along an axis, matched with the array of the given shape."""
    if len(shape) == 1:
        return indices
    step = math.prod(shape[axis + 1 :])
    lines = np.arange(math.prod(shape[:axis])).reshape(-1, 1, 1) * (step * shape[axis])
    starts = (lines + np.arange(step)).reshape(*shape[:axis], 1, *shape[axis + 1 :])
    return starts + indices * step


class _SortedPlaces(Found):
    """Flat places of the elements in their order along an axis; equal ones stay as they are."""

    leading_axes = True

    def __init__(self, shape, axis):
        self.shape = shape
        self.axis = axis

    def forward(self, values):
        order = np.argsort(values, self.axis - len(self.shape), kind="stable")
        return (_flat(order, self.shape, self.axis),)


class _Searched(Found):
    """The indices that np.argsort, np.argmax or np.argmin finds."""

    def __init__(self, function, *options, **named):
        self.function = function
        self.options = options
        self.named = named

    def forward(self, values):
        return (self.function(values, *self.options, **self.named),)


@implements(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    """Sorted copy. Equal elements keep their order and each its own derivative."""
    if order is not None:
        raise ValueError("Cannot specify order when the array has no fields.")
    if axis is None:
        a, axis = reshape(a, (a.size,)), 0
    axis = normalize_axis_index(axis, a.ndim)
    return gather(a, found(_SortedPlaces(a.shape, axis), a)[0])


@method("sort")
def _sort_in_place(self, axis=-1, kind=None, order=None, *, stable=None):
    self[...] = sort(self, axis, kind, order, stable=stable)


@method("argsort")
@implements(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    """Indices that sort the values: a plain array (in `fastad.compile` a recorded one)."""
    return found(_Searched(np.argsort, axis, kind, order, stable=stable), a)[0]


@method("argmax")
@implements(np.argmax)
def argmax(a, axis=None, out=None, *, keepdims=False):
    """Index of the largest value: a plain integer or array (in `compile` a recorded one)."""
    refuse_out("argmax", out)
    return found(_Searched(np.argmax, axis, keepdims=flag(keepdims)), a)[0]


@method("argmin")
@implements(np.argmin)
def argmin(a, axis=None, out=None, *, keepdims=False):
    """Index of the smallest value: a plain integer or array (in `compile` a recorded one)."""
    refuse_out("argmin", out)
    return found(_Searched(np.argmin, axis, keepdims=flag(keepdims)), a)[0]
