"""The functions of numpy.linalg that have a rule, for recorded and plain values."""

import numpy as np

from . import determinants, linear_algebra, norms  # noqa: F401  (register their rules)
from .namespace import lookup, names

LinAlgError = np.linalg.LinAlgError


def __getattr__(name):
    return lookup(np.linalg, name)


def __dir__():
    return sorted([*names(np.linalg), "LinAlgError"])
