"""fastad: the plain objective under its transforms."""

from __future__ import annotations

from functools import partial

import fastad as fad
import numpy as np

from workloads import ba, gmm, kmeans, llsq
from workloads.building import Called
from workloads.contenders import UnableError


def prepare(workload, data, way):
    """Compiled, one-shot, or by lanes."""
    compiled = fad.compile if way != "one-shot" else lambda f: f
    if workload.wanted == "jacobian":
        return JACOBIANS.get(way, _jacobian)(data)
    objective = workload.objective
    if way == "vmap":
        if workload.name not in LANES:
            raise UnableError("not a sum over points")
        objective = LANES[workload.name]
    function = partial(objective, **data.static)
    arguments = (*data.variables, *data.constants)
    if workload.wanted == "newton":
        both = compiled(partial(_direction, function))
        return Called(lambda: both(*arguments), lambda found: [found])
    both = fad.value_and_grad(compiled(function), argnums=tuple(range(len(data.variables))))
    return Called(lambda: both(*arguments), lambda found: [found[0], *found[1]])


def _direction(cost, centroids, points):
    def gradient(centroids):
        return fad.grad(cost)(centroids, points)

    slope, curvature = fad.jvp(gradient, (centroids,), (np.ones(centroids.shape),))
    return slope / curvature


def _jacobian(data):
    camera, point = ba.observers(data)

    @fad.compile
    def values(cameras, points, weights, features):
        by_camera, by_point, by_weight = BLOCKS(cameras[camera], points[point], weights, features)
        rows = np.concatenate([by_camera, by_point, by_weight[:, :, None]], axis=2)
        return np.concatenate([np.ravel(rows), SLOPES(weights)])

    arguments = (*data.variables, *data.constants)
    return Called(lambda: [values(*arguments), *ba.pattern(data)], lambda found: found)


def _jacobian_of_arrays(data):
    def call():
        return ba.csr(data, *BLOCKS(*ba.observed(data)), SLOPES(data.variables[2]))

    return Called(call, lambda found: found)


def _jacobian_of_numbers(data):
    rows = fad.vmap(fad.jacobian(ba.residual_of_numbers, argnums=tuple(range(ba.COLUMNS))))

    @fad.compile
    def values(*columns):
        first, second = rows(*columns)
        return np.concatenate([np.ravel(np.stack([*first, *second], 1)), SLOPES(columns[14])])

    def call():
        return [values(*ba.observed_columns(data)), *ba.pattern(data)]

    return Called(call, lambda found: found)


def _gmm(alpha, mu, q, l, x, m, gamma):  # noqa: E741
    mixture = fad.vmap(gmm.log_mixture, (0, None, None, None))
    likelihood = np.sum(mixture(x, alpha + np.sum(q, axis=1), mu, gmm.factors(q, l)))
    return gmm.log_posterior(np, likelihood, alpha, q, l, x, m, gamma)


def _kmeans(centroids, points):
    return np.sum(fad.vmap(kmeans.square_to_nearest, (0, None))(points, centroids))


def _llsq(x, n):
    t = np.linspace(-1.0, 1.0, n)
    return 0.5 * np.sum(fad.vmap(llsq.miss, (0, None))(t, x) ** 2)


BLOCKS = fad.vmap(fad.jacobian(ba.residual, argnums=(0, 1, 2)))
SLOPES = fad.vmap(fad.grad(ba.weight_error))
LANES = {"gmm": _gmm, "kmeans": _kmeans, "llsq": _llsq}
JACOBIANS = {"one-shot": _jacobian_of_arrays, "vmap": _jacobian_of_numbers}
