"""lse: the logarithm of a sum of exponentials."""

from __future__ import annotations

import numpy

from workloads.problem import Data, Workload, seeded


def objective_in(np):
    """The function with NumPy, or what stands in for it."""

    def lse(x):
        top = np.max(x)
        return np.log(np.sum(np.exp(x - top))) + top

    return lse


def data(size):
    """n numbers between 0 and 1."""
    return Data((seeded().rand(*size),), lengths=size)


WORKLOAD = Workload(
    "lse",
    "log Σ exp x of n numbers",
    sizes=((2500,), (80_000,), (1_280_000,)),
    small=(50,),
    data=data,
    objective=objective_in(numpy),
)
