"""Σ y of the recurrence y[i] = sin(y[i−1]) x[i], y[0] = x[0], whose values are written into y."""

from __future__ import annotations

import math

import numpy as np


def value(x):
    """One write and two reads of an element a step."""
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) * x[i]
    return np.sum(y)


def table(x):
    """The same recurrence for eight columns, each row written and read as a whole."""
    y = np.zeros((len(x), 8)) * x[0]
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) * x[i]
    return np.sum(y)


def gradient(x):
    """The gradient by hand of `value`; that of `table` is eight times it."""
    y = np.array(x)
    for i in range(1, len(x)):
        y[i] = math.sin(y[i - 1]) * x[i]
    result, adjoint = np.ones_like(x), 0.0
    for i in range(len(x) - 1, 0, -1):
        adjoint += 1.0
        result[i] = adjoint * math.sin(y[i - 1])
        adjoint *= math.cos(y[i - 1]) * x[i]
    result[0] = adjoint + 1.0
    return result


def point(n: int) -> np.ndarray:
    """Factors near 1: the values neither grow nor vanish at once."""
    return 1.0 + 0.1 * np.cos(np.arange(float(n)))
