"""ode: a chain of linear equations by the classic Runge-Kutta method."""

from __future__ import annotations

import numpy

from workloads.problem import Data, Workload, seeded

END = 2.0


def objective_in(np):
    """The function with NumPy, or what stands in for it."""

    def ode(x, s):
        n, h = len(x), END / s
        one = np.ones(1)

        def rates(y):
            return x * np.concatenate((one, y[:-1]))

        y = np.zeros(n)
        for _ in range(s):
            k1 = rates(y)
            k2 = rates(y + 0.5 * h * k1)
            k3 = rates(y + 0.5 * h * k2)
            k4 = rates(y + h * k3)
            y = y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        return y[n - 1]

    return ode


def data(size):
    """n rates between 0 and 1; the number of steps is static."""
    n, s = size
    return Data((seeded().rand(n),), static={"s": s}, lengths=size)


# A step carries a value four equations further: the gradient is exactly 0 where n > 4 s, and it
# underflows before that. What every contender finds is therefore checked at the small size.
WORKLOAD = Workload(
    "ode",
    "the last of n linear equations after s Runge-Kutta steps",
    sizes=((1000, 10), (1000, 100), (10_000, 100), (8, 1000)),
    small=(12, 10),
    data=data,
    objective=objective_in(numpy),
)
