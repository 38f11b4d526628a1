"""HIPS autograd: ``autograd.numpy`` in NumPy's place."""

from __future__ import annotations

from functools import partial

import autograd
import autograd.numpy as anp
import numpy as np

from workloads import gmm, kmeans, llsq, lse, lstm, ode
from workloads.building import Called
from workloads.contenders import UnableError


def prepare(workload, data, _way):
    """``value_and_grad``, made once and called many times."""
    if workload.wanted == "jacobian":
        raise UnableError("autograd has no vmap: one Jacobian an observation")
    function = partial(FUNCTIONS.get(workload.name, workload.objective), **data.static)
    arguments = (*data.variables, *data.constants)
    if workload.wanted == "newton":
        slope = autograd.grad(function)
        curvature = autograd.grad(lambda c, p: anp.sum(slope(c, p)))
        return Called(lambda: slope(*arguments) / curvature(*arguments), lambda found: [found])

    def packed(variables):
        return function(*variables, *data.constants)

    both = autograd.value_and_grad(packed)
    return Called(lambda: both(data.variables), lambda found: [found[0], *found[1]])


def _factors(q, l):  # noqa: E741
    """Gathered, since autograd has no writing in place."""
    k, d = q.shape
    places = np.full((d, d), d + l.shape[1])
    places[np.arange(d), np.arange(d)] = np.arange(d)
    places[gmm.triangle(d)] = d + np.arange(l.shape[1])
    return anp.concatenate([anp.exp(q), l, np.zeros((k, 1))], axis=1)[:, places]


FUNCTIONS = {
    "lse": lse.objective_in(anp),
    "llsq": llsq.objective_in(anp),
    "kmeans": kmeans.objective_in(anp),
    "gmm": gmm.objective_in(anp, _factors),
    "lstm": lstm.objective_in(anp),
    "ode": ode.objective_in(anp),
}
