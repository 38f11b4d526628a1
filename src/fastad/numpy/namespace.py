"""NumPy's functions for lists and object arrays that hold Arrays, too."""

import functools

import numpy as np

from fastad import _core
from fastad._core import Array, is_array
from fastad._ops import UFUNCS

__all__ = ["array", "asarray", "full", "lookup", "names"]

_PASSED_ON = """
arange bool_ e empty euler_gamma eye finfo float32 float64 geomspace identity inf indices int64
linspace logspace nan ndarray newaxis ones pi tri zeros
"""
PASSED_ON = frozenset(_PASSED_ON.split())
"""What is NumPy's own, and has nothing recorded about it."""

_SEQUENCES = "broadcast_arrays column_stack concatenate concat dstack hstack stack vstack"
OF_SEQUENCES = frozenset(_SEQUENCES.split())
"""Functions whose first argument is a sequence of arrays, which may differ in shape."""


def array(object, dtype=None, *, copy=True, ndmin=0):
    """An Array of (nested lists of) recorded values, or an ndarray of plain ones.

    Examples
    --------
    >>> import fastad.numpy as fnp
    >>> fad.grad(lambda x: fnp.sum(fnp.array([x, 2 * x]) ** 2))(3.0)
    30.0
    """
    if not is_array(object):
        return np.array(object, dtype, copy=copy, ndmin=ndmin)
    x = asarray(object, dtype)
    if ndmin > x.ndim:
        x = _core.reshape(x, (1,) * (ndmin - x.ndim) + x.shape)
    return np.copy(x) if copy and x is object else x


def asarray(a, dtype=None):
    """`a` itself if it is an Array; otherwise as `array` does."""
    if not is_array(a):
        return np.asarray(a, dtype)
    x = _core.asarray(a)
    return x if dtype is None else _core.cast(x, dtype)


def full(shape, fill_value, dtype=None):
    """One value everywhere, which may be recorded."""
    if not is_array(fill_value):
        return np.full(shape, fill_value, dtype)
    return np.broadcast_to(asarray(fill_value, dtype), shape)


def _operand(x):
    """A container that holds Arrays as one Array; anything else as it is."""
    if type(x) is Array or not isinstance(x, (list, tuple, np.ndarray)):
        return x
    return _core.asarray(x) if is_array(x) else x


@functools.cache
def _taking_containers(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        kwargs = {name: _operand(x) for name, x in kwargs.items()}
        return function(*[_operand(x) for x in args], **kwargs)

    return call


def _has_rule(function):
    try:
        return function in _core.FUNCTIONS or function in UFUNCS
    except TypeError:  # not hashable: no function
        return False


def lookup(module, name):
    """NumPy's `name` from `module` (numpy or numpy.linalg), or AttributeError."""
    found = getattr(module, name, None)
    if _has_rule(found):
        return found if name in OF_SEQUENCES else _taking_containers(found)
    if module is np and name in PASSED_ON:
        return found
    known = found is not None
    raise AttributeError(
        f"module 'fastad.{module.__name__}' has no attribute {name!r}"
        + f": {module.__name__}.{name} has no rule" * known
    )


def names(module):
    """All names that `lookup` finds in `module`."""
    found = {name for name in dir(module) if _has_rule(getattr(module, name, None))}
    return sorted(found | PASSED_ON if module is np else found)
