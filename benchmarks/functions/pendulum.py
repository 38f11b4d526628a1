"""A damped pendulum over five Runge-Kutta steps: 201 scalar operations, 20 of them sines.

It is written for scalars; arrays of points go through it as well, element by element.
"""

from __future__ import annotations

import numpy as np

OPERATIONS, TRANSCENDENTAL = 201, 20
GRADIENT_OPERATIONS = 259  # a textbook reverse sweep, as `functions.counted` counts it
STEPS = 5
HALF, WHOLE, SIXTH = 0.05, 0.1, 0.1 / 6.0


def outcome(angle, speed, damping, sin):
    """Angle and speed, added up, after `STEPS` steps from (angle, speed)."""

    def acceleration(angle, speed):
        return -(sin(angle) + damping * speed)

    for _ in range(STEPS):
        slope1 = acceleration(angle, speed)
        speed2 = speed + HALF * slope1
        slope2 = acceleration(angle + HALF * speed, speed2)
        speed3 = speed + HALF * slope2
        slope3 = acceleration(angle + HALF * speed2, speed3)
        speed4 = speed + WHOLE * slope3
        slope4 = acceleration(angle + WHOLE * speed3, speed4)
        angle = angle + SIXTH * (speed + 2.0 * (speed2 + speed3) + speed4)
        speed = speed + SIXTH * (slope1 + 2.0 * (slope2 + slope3) + slope4)
    return angle + speed


def points(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles, speeds and dampings of `count` pendulums."""
    generator = np.random.default_rng(31337)
    return (
        generator.uniform(-3.0, 3.0, count),
        generator.normal(size=count),
        generator.uniform(0.0, 0.5, count),
    )


def values_and_gradients(points: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Values, and the three partials of each as rows, by complex steps: no rounding beyond NumPy's.

    The imaginary part of f(x + ih)/h, h = 1e-30, is f'(x) for every analytic f (Squire and Trapp,
    SIAM Review 40, 1998).
    """
    rows = []
    for place in range(3):
        shifted = [each.astype(complex) for each in points]
        shifted[place] += 1e-30j
        rows.append(outcome(*shifted, np.sin).imag / 1e-30)
    return outcome(*points, np.sin), np.stack(rows)
