"""det: a determinant by Laplace's expansion, in plain Python on scalars."""

from __future__ import annotations

from workloads.problem import Data, Workload, seeded


def determinant(rows):
    """Along the first row, every minor computed anew: ell! products."""
    first, *others = rows
    if not others:
        return first[0]
    total = 0.0
    for j, entry in enumerate(first):
        term = entry * determinant([row[:j] + row[j + 1 :] for row in others])
        total = total + term if j % 2 == 0 else total - term
    return total


def objective(a, ell):
    """The determinant of a matrix given row by row."""
    return determinant([[a[i * ell + j] for j in range(ell)] for i in range(ell)])


def data(size):
    """The matrix, flat."""
    (ell,) = size
    return Data((seeded().rand(ell * ell),), static={"ell": ell}, lengths=(ell,))


WORKLOAD = Workload(
    "det",
    "a determinant of ell rows by recursive expansion",
    sizes=((5,), (8,), (10,)),
    small=(4,),
    data=data,
    objective=objective,
)
