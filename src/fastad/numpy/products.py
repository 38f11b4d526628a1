"""Products of vectors and matrices."""

import math
import warnings

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from fastad import _core
from fastad._core import Array, sum_to
from fastad._record import implements, method

from .arguments import operand, refuse_out, reshaped, transposed

__all__ = ["cross", "dot", "inner", "kron", "matmul", "outer", "tensordot", "vdot"]


def _lengths(name, a, b):
    """ValueError: the sizes of contracted axes differ."""
    return ValueError(f"{name}: shapes {a.shape} and {b.shape} not aligned")


def _vector_product(name, a, b):
    if a.shape != b.shape:
        raise _lengths(name, a, b)
    return sum_to(a * b, ())


def product(a, b):
    """Matrix product of stacks of matrices, at least one an Array."""
    return _core.matmul(a, b) if type(a) is Array or type(b) is Array else np.matmul(a, b)


@implements(np.matmul)
def matmul(a, b, /, out=None):
    """Matrix product: vectors as a row on the left and a column on the right, stacks broadcast."""
    refuse_out("matmul", out)
    a, b = operand(a), operand(b)
    if a.ndim >= 2 and b.ndim >= 2:
        return _core.matmul(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul: an operand has no axes: use * to multiply by a number")
    if a.ndim == 1 and b.ndim == 1:
        return _vector_product("matmul", a, b)
    if b.ndim == 1:
        if a.shape[-1] != b.shape[0]:
            raise _lengths("matmul", a, b)
        return _core.reshape(_core.matmul(a, reshaped(b, (b.size, 1))), a.shape[:-1])
    if a.shape[0] != b.shape[-2]:
        raise _lengths("matmul", a, b)
    shape = b.shape[:-2] + b.shape[-1:]
    return _core.reshape(_core.matmul(reshaped(a, (1, a.size)), b), shape)


@method("dot")
@implements(np.dot)
def dot(a, b, out=None):
    """Product over the last axis of `a` and the last but one of `b`."""
    if out is not None:
        refuse_out("dot", out)
    a, b = operand(a), operand(b)
    if a.ndim == 1 and b.ndim == 1:
        return _vector_product("dot", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.ndim <= 2 and b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, (-1, -2 if b.ndim > 1 else -1))


@implements(np.vdot)
def vdot(a, b, /):
    """Product of the flat arrays."""
    a, b = operand(a), operand(b)
    if a.size != b.size:
        raise ValueError("cannot reshape array: vectors have different lengths")
    return _vector_product("vdot", reshaped(a, (a.size,)), reshaped(b, (b.size,)))


@implements(np.inner)
def inner(a, b, /):
    """Product over the last axes."""
    a, b = operand(a), operand(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return tensordot(a, b, (-1, -1))


@implements(np.outer)
def outer(a, b, out=None):
    """All products of an element of `a` and one of `b`."""
    refuse_out("outer", out)
    a, b = operand(a), operand(b)
    return reshaped(a, (a.size, 1)) * reshaped(b, (1, b.size))


def _contracted_axes(axes, a, b):
    """The axes argument of tensordot as two tuples of axes."""
    if np.ndim(axes) == 0:
        first, second = tuple(range(-axes, 0)), tuple(range(axes))
    else:
        first, second = (tuple(np.atleast_1d(side).tolist()) for side in axes)
    if len(first) != len(second):
        raise ValueError("shape-mismatch for sum")
    first = normalize_axis_tuple(first, a.ndim, allow_duplicate=True)
    second = normalize_axis_tuple(second, b.ndim, allow_duplicate=True)
    if [a.shape[i] for i in first] != [b.shape[j] for j in second]:
        raise ValueError("shape-mismatch for sum")
    return first, second


def _as_matrix(x, rows, columns):
    """A matrix of the merged axes `rows` by the merged axes `columns`."""
    order = rows + columns
    if order != tuple(range(x.ndim)):
        x = transposed(x, order)
    split = len(rows)
    height, width = math.prod(x.shape[:split]), math.prod(x.shape[split:])
    return reshaped(x, (height, width))


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    """Product over axes of each operand."""
    a, b = operand(a), operand(b)
    first, second = _contracted_axes(axes, a, b)
    left = tuple([i for i in range(a.ndim) if i not in first])
    right = tuple([j for j in range(b.ndim) if j not in second])
    shape = tuple([a.shape[i] for i in left] + [b.shape[j] for j in right])
    result = product(_as_matrix(a, left, first), _as_matrix(b, second, right))
    return _core.reshape(result, shape)


@implements(np.kron)
def kron(a, b):
    """Every element of `a` times the whole of `b`."""
    a, b = operand(a), operand(b)
    ndim = max(a.ndim, b.ndim)
    rows, columns = (1,) * (ndim - a.ndim) + a.shape, (1,) * (ndim - b.ndim) + b.shape
    a = reshaped(a, tuple([m for n in rows for m in (n, 1)]))
    b = reshaped(b, tuple([m for n in columns for m in (1, n)]))
    return _core.reshape(a * b, tuple([m * n for m, n in zip(rows, columns, strict=True)]))


def _components(x, axis, name):
    """The vectors of cross as a list of their two or three components."""
    if x.ndim < 1:
        raise ValueError("At least one array has zero dimension")
    axis = normalize_axis_index(axis, x.ndim, msg_prefix=name)
    if x.shape[axis] not in (2, 3):
        raise ValueError("incompatible dimensions for cross product\n(dimension must be 2 or 3)")
    return [x[(slice(None),) * axis + (i,)] for i in range(x.shape[axis])]


@implements(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Vector product of vectors with three components (NumPy deprecates two)."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x = _components(operand(a), axisa, "axisa")
    y = _components(operand(b), axisb, "axisb")
    if len(x) == 2 or len(y) == 2:
        warnings.warn(
            "numpy.cross of 2-dimensional vectors is deprecated in NumPy 2.0",
            DeprecationWarning,
            stacklevel=2,
        )
    last = x[0] * y[1] - x[1] * y[0]
    if len(x) == 2 and len(y) == 2:
        return last
    x, y = (v if len(v) == 3 else [*v, 0.0] for v in (x, y))
    parts = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], last]
    return np.stack(np.broadcast_arrays(*parts), axis=axisc)
