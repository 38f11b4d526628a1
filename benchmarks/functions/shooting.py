"""Defects of multiple shooting: a long loop of independent steps, each a few scalar operations.

Step k starts a pendulum with friction at (x[3k], x[3k+1]), pushes it by x[3k+2], follows it for
three midpoint steps, and compares where it arrives with the start of step k+1.
"""

from __future__ import annotations

import numpy as np

OPERATIONS_A_STEP = 130
TRANSCENDENTAL_A_STEP = 13
HALF, WHOLE = 0.05, 0.1


def acceleration(angle, speed, push, sin, tanh):
    """15 operations, 2 of them sin and tanh."""
    gravity = 9.81 * sin(angle)
    friction = 0.3 * tanh(4.0 * speed)
    spring = angle * (1.0 - 0.1 * angle * angle)
    drive = push * (1.0 - 0.05 * speed)
    return drive - gravity - friction - spring


def objective(x, sin, tanh):
    """Sum over the steps of what one step misses the next one's start by, and of its effort.

    Parameters
    ----------
    x : sequence of scalar
        Angle, speed, push of each step, then the last step's target: 3 steps + 2 numbers.
    sin, tanh : callable
        Those of whichever package the scalars belong to.
    """
    total = 0.0
    for k in range(0, len(x) - 2, 3):
        angle, speed, push = x[k], x[k + 1], x[k + 2]
        for _ in range(3):
            slope = acceleration(angle, speed, push, sin, tanh)
            middle = angle + HALF * speed
            middle_speed = speed + HALF * slope
            slope = acceleration(middle, middle_speed, push, sin, tanh)
            angle = angle + WHOLE * middle_speed
            speed = speed + WHOLE * slope
        missed = angle - x[k + 3]
        missed_speed = speed - x[k + 4]
        effort = 0.01 * push * push + 0.1 * tanh(push * angle) - 0.05 * speed
        total = total + (missed * missed + 0.5 * missed_speed * missed_speed + effort)
    return total


def point(steps: int) -> np.ndarray:
    """Starts and pushes of ordinary size."""
    return np.random.default_rng(31337).normal(size=3 * steps + 2)


def operations(steps: int) -> int:
    """How many scalar operations `objective` does; the variables are not counted."""
    return OPERATIONS_A_STEP * steps
