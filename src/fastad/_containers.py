"""Nested containers of numbers and arrays as arguments and results.

A number or array is a leaf and needs nothing; optree is imported when a tuple, list, dict or
registered class comes.
"""

import copy

import numpy as np

from fastad._core import Array

__all__ = ["flatten", "is_leaf", "map_arrays", "unflatten"]


def is_leaf(x):
    """Whether `x` is a number or an array."""
    return isinstance(x, (Array, np.ndarray, np.generic, float, int, complex, str, bytes))


def _optree():
    try:
        import optree
    except ImportError:
        raise ImportError(
            "nested containers (tuples, lists, dicts) as differentiated arguments need optree: "
            "pip install fastad[containers]"
        ) from None
    return optree


def flatten(x):
    """Leaves of `x` in order, and what `unflatten` needs to put them back (None for one leaf)."""
    if is_leaf(x):
        return [x], None
    return _optree().tree_flatten(x, is_leaf=is_leaf)


def unflatten(structure, leaves):
    """Inverse of `flatten`."""
    if structure is None:
        return leaves[0]
    return _optree().tree_unflatten(structure, leaves)


def map_arrays(function, x):
    """`x` with `function` applied to the Arrays in tuples, lists, dicts and object arrays of it."""
    if type(x) is Array:
        return function(x)
    if isinstance(x, dict):
        result = copy.copy(x)  # keeps the kind of dict, and what a defaultdict makes
        for key, item in x.items():
            result[key] = map_arrays(function, item)
        return result
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(map_arrays(function, item) for item in x))
    if isinstance(x, (list, tuple)):
        return type(x)(map_arrays(function, item) for item in x)
    if isinstance(x, np.ndarray) and x.dtype == object:
        items = [map_arrays(function, item) for item in x.ravel().tolist()]
        return np.array(items).reshape(x.shape + np.shape(items[0])) if items else x
    return x
