"""Chains of scalar operations: the loop that recording is measured on.

With y = 2 and w = 1/2 one pass of four operations maps z to z − x/2.  All numbers on the way are
short binary fractions, so that values and gradient have a closed form without any rounding, for
any number of passes, and no value overflows or goes denormal.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial

import numpy as np

OPERATIONS_A_STEP = 16
PASSES_A_STEP = 4
STEPS_A_CALL = 1000
OPERATIONS_A_CALL = STEPS_A_CALL * OPERATIONS_A_STEP
POINT = np.array([3.0, 2.0**-10, 2.0, 0.5])


def variables(steps, z, x, y, w):
    """16 operations a step, all of them between variables."""
    for _ in range(steps):
        z = z * y
        z = z + x
        z = z * w
        z = z - x
        z = z * y
        z = z + x
        z = z * w
        z = z - x
        z = z * y
        z = z + x
        z = z * w
        z = z - x
        z = z * y
        z = z + x
        z = z * w
        z = z - x
    return z


def constants(steps, z, x, _y, _w):
    """The same operations; every factor is a Python constant."""
    for _ in range(steps):
        z = z * 2.0
        z = z + x
        z = z * 0.5
        z = z - x
        z = z * 2.0
        z = z + x
        z = z * 0.5
        z = z - x
        z = z * 2.0
        z = z + x
        z = z * 0.5
        z = z - x
        z = z * 2.0
        z = z + x
        z = z * 0.5
        z = z - x
    return z


def nothing(steps, z, _x, _y, _w):
    """The loop without its body: the overhead that both sides carry."""
    for _ in range(steps):
        pass
    return z


def own_copy(function):
    """The same function with bytecode of its own.

    CPython specialises bytecode for the operand types it meets.  One code object run with floats
    and Arrays in turn would slow the floats down, and flatter us.
    """
    code = function.__code__.replace()
    return types.FunctionType(code, function.__globals__, function.__name__)


def on_floats(body: Callable = variables) -> Callable:
    """A call of `body` on Python floats, `OPERATIONS_A_CALL` operations.

    With `variables` it is the unit F of many figures: the time of a Python float operation.
    """
    return partial(own_copy(body), STEPS_A_CALL, *POINT.tolist())


def value(steps: int) -> float:
    """What both chains return at `POINT`."""
    z, x, _, _ = POINT.tolist()
    return z - 0.5 * x * PASSES_A_STEP * steps


def gradient(steps: int, *, with_factors: bool) -> np.ndarray:
    """∂/∂(z, x, y, w) at `POINT`, by hand; the factors' part is zero for `constants`.

    A pass that begins at z_i has the partials −1/2 for x, z_i/2 for y and 2 z_i + x for w.
    """
    z, x, _, _ = POINT.tolist()
    passes = PASSES_A_STEP * steps
    sum_of_z = passes * z - 0.5 * x * passes * (passes - 1) / 2
    factors = [0.5 * sum_of_z, 2.0 * sum_of_z + passes * x] if with_factors else [0.0, 0.0]
    return np.array([1.0, -0.5 * passes, *factors])
