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
        return _jacobian_of_numbers(data) if way == "vmap" else _jacobian(data, compiled)
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


def _jacobian(data, compiled):
    blocks = fad.vmap(fad.jacobian(compiled(ba.residual), argnums=(0, 1, 2)))
    slopes = fad.vmap(fad.grad(compiled(ba.weight_error)))

    def call():
        observed = ba.observed(data)
        return ba.csr(data, *blocks(*observed), slopes(data.variables[2]))

    return Called(call, lambda found: found)


def _jacobian_of_numbers(data):
    residual = fad.compile(ba.residual_of_numbers)
    rows = fad.vmap(fad.jacobian(residual, argnums=tuple(range(ba.COLUMNS))))
    slopes = fad.vmap(fad.grad(fad.compile(ba.weight_error)))

    def call():
        observed = ba.observed_columns(data)
        return ba.csr_of_columns(data, rows(*observed), slopes(data.variables[2]))

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


LANES = {"gmm": _gmm, "kmeans": _kmeans, "llsq": _llsq}
