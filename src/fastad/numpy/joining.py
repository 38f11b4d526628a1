"""Arrays put together and taken apart."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from fastad import _core
from fastad._core import Array
from fastad._record import implements

from .arguments import operand, refuse_out, reshaped
from .cumulative import part

__all__ = [
    "array_split",
    "column_stack",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "split",
    "stack",
    "vsplit",
    "vstack",
]


def _cast(x, dtype):
    return x if dtype is None else x.astype(dtype)


@implements(np.concatenate)
def concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Arrays end to end along an axis; flattened where it is None."""
    if out is not None:
        refuse_out("concatenate", out)
    parts = [x if type(x) is Array else operand(x) for x in arrays]
    if axis is None:
        parts, axis = [reshaped(x, (x.size,)) for x in parts], 0
    ndim = parts[0].ndim
    if ndim == 0:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    return _cast(_core.concatenate(parts, normalize_axis_index(axis, ndim)), dtype)


@implements(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Arrays of one shape side by side along a new axis."""
    refuse_out("stack", out)
    parts = [x if type(x) is Array else operand(x) for x in arrays]
    shape = parts[0].shape
    if any(x.shape != shape for x in parts):
        raise ValueError("all input arrays must have the same shape")
    axis = normalize_axis_index(axis, len(shape) + 1)
    longer = (*shape[:axis], 1, *shape[axis:])
    return _cast(_core.concatenate([reshaped(x, longer) for x in parts], axis), dtype)


def _at_least_1d(x):
    return reshaped(x, (1,)) if x.ndim == 0 else x


@implements(np.hstack)
def hstack(tup, *, dtype=None, casting="same_kind"):
    """Side by side: along the second axis, vectors along their only one."""
    parts = [_at_least_1d(operand(x)) for x in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype)


@implements(np.vstack)
def vstack(tup, *, dtype=None, casting="same_kind"):
    """On top of each other: along the first axis, vectors as rows."""
    return concatenate([np.atleast_2d(operand(x)) for x in tup], 0, dtype=dtype)


@implements(np.dstack)
def dstack(tup):
    """Behind each other: along the third axis."""
    return concatenate([np.atleast_3d(operand(x)) for x in tup], 2)


@implements(np.column_stack)
def column_stack(tup):
    """Vectors as the columns of a matrix."""
    parts = [operand(x) for x in tup]
    columns = [reshaped(x, (x.size, 1)) if x.ndim < 2 else x for x in parts]
    return concatenate(columns, 1)


def _ends(count, pieces):
    """Ends of `pieces` nearly equal runs of `count` elements; the first ones are longer."""
    if pieces <= 0:
        raise ValueError("number sections must be larger than 0.")
    each, longer = divmod(count, pieces)
    return [each * (i + 1) + min(i + 1, longer) for i in range(pieces)]


@implements(np.array_split)
def array_split(ary, indices_or_sections, axis=0):
    """List of views: of a number of parts, nearly equal, or cut at the given places."""
    axis = normalize_axis_index(axis, ary.ndim)
    if np.ndim(indices_or_sections):
        ends = [*indices_or_sections, None]
    else:
        ends = _ends(ary.shape[axis], indices_or_sections.__index__())
    starts = [0, *ends[:-1]]
    return [ary[part(axis, start, stop)] for start, stop in zip(starts, ends, strict=True)]


@implements(np.split)
def split(ary, indices_or_sections, axis=0):
    """List of views: of a number of equal parts, or cut at the given places."""
    if not np.ndim(indices_or_sections):
        axis = normalize_axis_index(axis, ary.ndim)
        if ary.shape[axis] % indices_or_sections:
            raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@implements(np.hsplit)
def hsplit(ary, indices_or_sections):
    """split along the second axis, or the only one."""
    if ary.ndim == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


@implements(np.vsplit)
def vsplit(ary, indices_or_sections):
    """split along the first axis."""
    if ary.ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(ary, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(ary, indices_or_sections):
    """split along the third axis."""
    if ary.ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(ary, indices_or_sections, 2)
