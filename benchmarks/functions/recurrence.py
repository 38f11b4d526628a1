"""A van der Pol oscillator: a sequential recurrence in which every operation waits for another."""

from __future__ import annotations

import numpy as np

OPERATIONS_A_STEP = 10
STEP, DAMPING = 0.01, 1.5


def step(position, speed, push):
    """One semi-implicit Euler step, 10 operations; scalars or arrays of oscillators."""
    slope = (1.0 - position * position) * speed * DAMPING - position + push
    speed = speed + slope * STEP
    return position + speed * STEP, speed


def last_position(x):
    """Where the oscillator is that starts at (x[0], x[1]) and is pushed by x[2], x[3], ..."""
    position, speed = x[0], x[1]
    for k in range(2, len(x)):
        position, speed = step(position, speed, x[k])
    return position


def point(steps: int) -> np.ndarray:
    """A start and small pushes, one a step: the oscillator stays near its limit cycle."""
    return np.concatenate([[0.7, -0.2], 0.1 * np.random.default_rng(31337).normal(size=steps)])


def operations(steps: int) -> int:
    """How many scalar operations `last_position` does; the variables are not counted."""
    return OPERATIONS_A_STEP * steps
