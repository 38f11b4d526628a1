"""NumPy's functions for recorded and plain values alike, and the rules behind them.

``np.sum(x)`` and its kin work on recorded values by themselves, because an Array takes part in
NumPy's protocols. This namespace adds what a protocol cannot reach: ``fnp.array([x, y])``, and
lists and object arrays of recorded values in the place of an array.

A NumPy function without a rule raises NotImplementedError on a recorded value; here it is an
AttributeError.

Examples
--------
>>> import fastad.numpy as fnp
>>> fad.grad(lambda x: fnp.linalg.det([[x, 2.0], [3.0, x]]))(5.0)
10.0
"""

import numpy as np

from . import (  # noqa: F401  (each registers its rules)
    arranging,
    contraction,
    creation,
    cumulative,
    extrema,
    joining,
    linalg,
    masks,
    products,
    reductions,
    selecting,
    shapes,
    sorting,
    statistics,
    ufuncs,
)
from .namespace import array, asarray, full, lookup, names

__all__ = ["array", "asarray", "full", "linalg"]


def __getattr__(name):
    return lookup(np, name)


def __dir__():
    return sorted({*names(np), *__all__})
