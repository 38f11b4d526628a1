"""JAX on the CPU in float64, jitted, synchronous dispatch, every call waited for."""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from workloads import ba, gmm, kmeans, llsq, lse
from workloads.building import Called

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)


def prepare(workload, data, _way):
    """``jit`` of the gradient."""
    if workload.wanted == "jacobian":
        return _jacobian(data)
    function = partial(FUNCTIONS.get(workload.name, workload.objective), **data.static)
    arguments = [jnp.asarray(each) for each in (*data.variables, *data.constants)]
    if workload.wanted == "newton":
        direction = jax.jit(partial(_direction, function))
        return _waiting(direction, arguments, lambda found: [found])
    argnums = tuple(range(len(data.variables)))
    both = jax.jit(jax.value_and_grad(function, argnums=argnums))
    return _waiting(both, arguments, lambda found: [found[0], *found[1]])


def _waiting(function, arguments, read):
    return Called(lambda: jax.block_until_ready(function(*arguments)), read)


def _direction(cost, centroids, points):
    def gradient(centroids):
        return jax.grad(cost)(centroids, points)

    slope, curvature = jax.jvp(gradient, (centroids,), (jnp.ones_like(centroids),))
    return slope / curvature


def _jacobian(data):
    blocks = jax.vmap(jax.jacrev(ba.residual_in(jnp), argnums=(0, 1, 2)))
    slopes = jax.vmap(jax.grad(ba.weight_error))
    camera, point = ba.observers(data)

    @jax.jit
    def values(cameras, points, weights, features):
        by_camera, by_point, by_weight = blocks(cameras[camera], points[point], weights, features)
        rows = jnp.concatenate([by_camera, by_point, by_weight[:, :, None]], axis=2)
        return jnp.concatenate([jnp.ravel(rows), slopes(weights)])

    arguments = [jnp.asarray(each) for each in (*data.variables, *data.constants)]

    def call():
        return [np.asarray(jax.block_until_ready(values(*arguments))), *ba.pattern(data)]

    return Called(call, lambda found: found)


def _factors(q, l):  # noqa: E741
    k, d = q.shape
    every = np.arange(d)
    rows, columns = gmm.triangle(d)
    result = jnp.zeros((k, d, d)).at[:, every, every].set(jnp.exp(q))
    return result.at[:, rows, columns].set(l)


def _lstm(main, extra, sequence):
    layers, bits = len(main) // 2, sequence.shape[1]
    weights, biases = (main[start::2].reshape(layers, 4, bits) for start in (0, 1))

    def step(state, pair):
        hidden, cells = state
        now, following = pair
        x, new_hidden, new_cells = now * extra[0], [], []
        for w, b, h, c in zip(weights, biases, hidden, cells, strict=True):
            forget = jax.nn.sigmoid(x * w[0] + b[0])
            ingate = jax.nn.sigmoid(h * w[1] + b[1])
            outgate = jax.nn.sigmoid(x * w[2] + b[2])
            new_cells.append(c * forget + ingate * jnp.tanh(h * w[3] + b[3]))
            x = outgate * jnp.tanh(new_cells[-1])
            new_hidden.append(x)
        y = x * extra[1] + extra[2]
        score = jnp.sum(following * (y - jnp.log(2.0 + jnp.sum(jnp.exp(y)))))
        return (new_hidden, new_cells), score

    zeros = [jnp.zeros(bits)] * layers
    _, scores = jax.lax.scan(step, (zeros, zeros), (sequence[:-1], sequence[1:]))
    return -jnp.sum(scores) / ((len(sequence) - 1) * bits)


def _ode(x, s):
    h = 2.0 / s

    def rates(y):
        return x * jnp.concatenate((jnp.ones(1), y[:-1]))

    def step(y, _):
        k1 = rates(y)
        k2 = rates(y + 0.5 * h * k1)
        k3 = rates(y + 0.5 * h * k2)
        k4 = rates(y + h * k3)
        return y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4), None

    return jax.lax.scan(step, jnp.zeros(len(x)), None, length=s)[0][-1]


FUNCTIONS = {
    "lse": lse.objective_in(jnp),
    "llsq": llsq.objective_in(jnp),
    "kmeans": kmeans.objective_in(jnp),
    "gmm": gmm.objective_in(jnp, _factors),
    "lstm": _lstm,
    "ode": _ode,
}
