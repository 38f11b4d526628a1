"""llsq: a polynomial of 128 coefficients fitted to the sign function."""

from __future__ import annotations

import numpy

from workloads.problem import Data, Workload, seeded

COEFFICIENTS = 128


def objective_in(np):
    """The function with NumPy, or what stands in for it."""

    def llsq(x, n):
        t = np.linspace(-1.0, 1.0, n)
        powers = t[:, None] ** np.arange(len(x))
        return 0.5 * np.sum((np.sign(t) - powers @ x) ** 2)

    return llsq


def miss(t, x):
    """At one point, by Horner's scheme, for those who write it so."""
    polynomial = 0.0
    for coefficient in x[::-1]:
        polynomial = polynomial * t + coefficient
    return numpy.sign(t) - polynomial


def data(size):
    """The coefficients; the number of points is static."""
    (n,) = size
    return Data((seeded().rand(COEFFICIENTS),), static={"n": n}, lengths=(n, COEFFICIENTS))


WORKLOAD = Workload(
    "llsq",
    "½ Σ (sign t − Σ x_j t^j)² at n points",
    sizes=((16,), (1024,), (16_392,)),
    small=(10,),
    data=data,
    objective=objective_in(numpy),
)
