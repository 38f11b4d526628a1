"""vmap in programs: one recording for all inputs, and the right lanes."""

import numpy as np
import pytest
from test_vmap import rosenbrock

import fastad as fad

RNG = np.random.default_rng(11)
POINTS = [RNG.normal(size=(6, 3)) for _ in range(2)]
MATRICES = [RNG.normal(size=(5, 3, 3)) + 3 * np.eye(3) for _ in range(2)]


@pytest.mark.parametrize(
    ("f", "inputs"),
    [
        (fad.vmap(rosenbrock), POINTS),
        (fad.vmap(fad.grad(rosenbrock)), POINTS),
        (fad.grad(lambda x: np.sum(fad.vmap(rosenbrock)(x))), POINTS),
        (lambda x: fad.hessian(rosenbrock)(x[0]), POINTS),
        (lambda x: fad.jacobian(lambda y: np.sin(y)[:, None] * y)(x[0]), POINTS),
        (fad.vmap(lambda x: np.where(x > 0, np.sqrt(np.abs(x)), -x)), [p[0] for p in POINTS]),
        (fad.vmap(lambda x: np.where(np.any(x > 1), np.max(x), np.sum(x))), POINTS),
        (fad.vmap(lambda x: np.sort(x)[::-1] * x), POINTS),
        (fad.vmap(lambda x: np.take(x, np.argsort(x))), POINTS),
        (fad.vmap(fad.grad(np.max)), POINTS),
        (fad.vmap(fad.grad(lambda a: np.sum(np.linalg.inv(a)))), MATRICES),
        (fad.vmap(lambda a: np.linalg.solve(a, np.ones(3))), MATRICES),
        (fad.vmap(fad.grad(np.linalg.det)), MATRICES),
    ],
)
def test_one_recording_serves_all_inputs(f, inputs):
    compiled = fad.compile(f)
    for x in inputs:
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-10, atol=1e-10)
    assert compiled.cache_info().recordings == 1


def test_lanes_of_a_compiled_function():
    f = fad.compile(rosenbrock)
    expected = [rosenbrock(x) for x in POINTS[0]]
    np.testing.assert_allclose(fad.vmap(f)(POINTS[0]), expected)
    slopes = [fad.grad(rosenbrock)(x) for x in POINTS[0]]
    np.testing.assert_allclose(fad.vmap(fad.grad(f))(POINTS[0]), slopes)
