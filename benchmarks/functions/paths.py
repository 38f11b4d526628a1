"""A function whose control flow depends on its data in twenty ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PATHS = 20
Decisions = tuple[int, bool, bool]


def toll(x, sin, tanh, visited: Callable[[Decisions], None] | None = None):
    """A climb of zero to four stages, then one of two descents, then one of two ends.

    Parameters
    ----------
    x : sequence of scalar
        Height at the start, gain a stage, steepness, and what is paid at the end.
    sin, tanh : callable
        Those of whichever package the scalars belong to.
    visited : callable, optional
        Is told (stages, gentle, indebted), which names the path.
    """
    height, gain, steepness, price = x[0], x[1], x[2], x[3]
    stages = 0
    while stages < 4 and height < 2.0:
        height = height + gain * (1.0 + 0.1 * sin(height))
        stages += 1
    gentle = bool(steepness < 0.5)
    if gentle:
        total = height * steepness
    else:
        total = height / (0.5 + steepness) + steepness * steepness
    indebted = bool(price * height > total)
    if indebted:
        total = total - 0.3 * tanh(price - total)
    else:
        total = total * (1.0 + 0.2 * price)
    if visited is not None:
        visited((stages, gentle, indebted))
    return total


def points(count: int) -> np.ndarray:
    """Random arguments as rows; every path is taken by one in two hundred or more."""
    generator = np.random.default_rng(31337)
    low, high = [-1.0, 0.4, 0.0, 0.0], [2.8, 1.4, 1.0, 1.2]
    return generator.uniform(low, high, size=(count, 4))
