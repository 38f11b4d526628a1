"""The chained Rosenbrock function Σ 100 (x[i+1] − x[i]²)² + (1 − x[i])²."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def value(x):
    """The function with NumPy slices and ``np.sum``: a few array operations."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def value_in(xp):
    """The same function for a package with a namespace of its own in NumPy's place."""

    def rosenbrock(x):
        return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return rosenbrock


def value_of_scalars(x):
    """The same function in a plain loop over a list of scalars."""
    total = 0.0
    for here, following in pairwise(x):
        total = total + 100.0 * (following - here**2) ** 2 + (1.0 - here) ** 2
    return total


def gradient(x):
    """The gradient by hand."""
    slope = 200.0 * (x[1:] - x[:-1] ** 2)
    result = np.zeros_like(x)
    result[1:] += slope
    result[:-1] -= 2.0 * slope * x[:-1] + 2.0 * (1.0 - x[:-1])
    return result


def point(n: int) -> np.ndarray:
    """A point of n coordinates around (1, …, 1), where nothing cancels."""
    return 1.0 + 0.5 * np.random.default_rng(31337).normal(size=n)
