"""kmeans: the sum of squared distances to the nearest of k centroids; Newton's direction."""

from __future__ import annotations

import numpy

from workloads.problem import Data, Workload, seeded


def objective_in(np):
    """The function with NumPy, or what stands in for it.

    |p − c|² is expanded, as in the published Python code: a product of matrices, nothing of three
    dimensions.
    """

    def cost(centroids, points):
        squares = np.sum(points**2, axis=1)[:, None] + np.sum(centroids**2, axis=1)
        squares = squares - 2.0 * (points @ centroids.T)
        return np.sum(np.amin(squares, axis=1))

    return cost


def square_to_nearest(point, centroids):
    """Of one point, as the definition says, for those who write it so."""
    return numpy.amin(numpy.sum((point - centroids) ** 2, axis=1))


def data(size):
    """n points, of which the last k are the centroids to start from."""
    k, n, d = size
    points = seeded().rand(n, d)
    return Data((points[-k:].copy(),), (points,), lengths=size)


WORKLOAD = Workload(
    "kmeans",
    "Newton's direction for k centroids of n points in d dimensions",
    sizes=((10, 1000, 8), (100, 1000, 16), (100, 10_000, 16)),
    small=(3, 20, 2),
    data=data,
    objective=objective_in(numpy),
    wanted="newton",
)
