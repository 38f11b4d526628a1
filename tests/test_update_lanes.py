"""Functions that write into arrays, under fad.vmap, fad.checkpoint and fad.scan."""

import numpy as np
import pytest
from test_update import POINT, SEEDS, Program
from test_update_compiled import FUNCTIONS, N, narrow, recorded, weighed

import fastad as fad

X = np.random.default_rng(5).uniform(0.8, 1.2, size=(3, N))


def by_lane(f, x=X):
    return np.stack([f(row) for row in x])


def within(f):
    return 1e-5 if f is narrow else 1e-11


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_lanes(f):
    expected = by_lane(lambda x: recorded(f, x))
    np.testing.assert_allclose(fad.vmap(f)(X), expected, rtol=within(f))
    np.testing.assert_allclose(fad.compile(fad.vmap(f))(X), expected, rtol=within(f))


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradients_over_lanes(f):
    slope = fad.grad(weighed(f))
    expected = by_lane(slope)
    closeness = {"rtol": within(f), "atol": within(f)}
    np.testing.assert_allclose(fad.vmap(slope)(X), expected, **closeness)
    lanes = fad.grad(lambda x: np.sum(fad.vmap(weighed(f))(x)))
    np.testing.assert_allclose(lanes(X), expected, **closeness)
    pushed = fad.vmap(lambda x: fad.jvp(weighed(f), (x,), (X[0],))[1])(X)
    np.testing.assert_allclose(pushed, expected @ X[0], **closeness)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_checkpoints(f):
    slope = fad.grad(weighed(f))
    again = fad.grad(weighed(fad.checkpoint(f)))
    compiled = fad.compile(again)
    for x in X:
        np.testing.assert_allclose(again(x), slope(x), rtol=within(f), atol=within(f))
        np.testing.assert_allclose(compiled(x), slope(x), rtol=within(f), atol=within(f))


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_random_programs(seed):
    program = fad.checkpoint(Program(seed))
    expected = fad.value_and_grad(Program(seed))(POINT)
    value, gradient = fad.value_and_grad(program)(POINT)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-10)


def test_a_carry_that_is_written_to():
    def step(carry, x):
        carry[1:] = carry[:-1]
        carry[0] = np.sin(x) * carry[2]
        carry[1] += carry[0]
        return carry, carry[3:]

    def looped(x):
        carry, ys = x[:5] * 1.0, []
        for k in range(len(x)):
            carry, y = step(carry, x[k])
            ys.append(y * 1.0)
        return np.sum(carry) + np.sum(np.stack(ys) ** 2)

    def scanned(x):
        carry, ys = fad.scan(step, x[:5] * 1.0, x)
        return np.sum(carry) + np.sum(ys**2)

    for x in X:
        expected = fad.value_and_grad(looped)(x)
        for f in (scanned, fad.compile(scanned)):
            value, gradient = fad.value_and_grad(f)(x)
            np.testing.assert_allclose(value, expected[0])
            np.testing.assert_allclose(gradient, expected[1])


# --- what the lanes of a vmap share --------------------------------------------------------------


def test_shared_values_that_were_overwritten():
    """What is the same in every lane is written first, and read by what is not."""

    def f(x):
        y, steps = np.zeros_like(c), np.zeros_like(c)
        for i in range(4):
            steps[i] = 0.5 * (i + 1) + steps[i - 1]
        picked = steps[np.arange(3)] * x[:3]
        steps[0] = 9.0
        y[:3] = picked
        y[1] *= x[0]
        steps[1] = x[1]
        return y * steps

    c = np.ones(N)
    with fad.Tape() as tape:
        c = tape.variable(np.ones(N))
        expected = np.stack([f(tape.variable(row)).value for row in X])
        many = fad.vmap(f)(tape.variable(X))
    np.testing.assert_array_equal(many.value, expected)


def test_tangents_that_the_lanes_share():
    def f(x, z):
        y = np.zeros_like(x)
        y[0] = z[0]
        y[1] = np.sin(y[0]) * z[1]
        y[2] = x[0] * y[1]
        y[0] = x[1]
        return y

    def along(t):
        return fad.jvp(f, (X[0], X[1]), (t, X[2]))[1]

    np.testing.assert_allclose(fad.vmap(along)(X), by_lane(along), rtol=1e-13)


def test_an_outer_array_that_a_lane_writes_to():
    """It is lost, as every value that a lane leaves behind; what it was before is not."""
    with fad.Tape() as tape:
        x = tape.variable(X)
        y = x[0] * 2.0
        versions = {}
        for i in range(3):
            y[i] = y[i + 1] * 0.5
            versions[y.node] = y.value
        before = y.value

        def f(row):
            y[4] = row[0]
            y[5] = row[1] * y[4]
            return y[3:6] * row[2]

        lanes = fad.vmap(f)(x)
    expected = np.stack([[before[3] * r[2], r[0] * r[2], r[1] * r[0] * r[2]] for r in X])
    np.testing.assert_allclose(lanes.value, expected)
    assert np.isnan(y.value).any()
    for node, value in versions.items():
        np.testing.assert_array_equal(tape.nodes(node, node + 1)[0].value, value)
    tape.recorder.verify()


def test_blocks_of_lanes():
    """Many lanes are taken block by block, and the tape goes back each time."""

    def f(x):
        y, shared = np.zeros(40) * x[0], np.zeros(2) * x[0]
        shared[0] = 2.0
        y[0] = x[0]
        for i in range(1, 40):
            y[i] = np.sin(y[i - 1]) + shared[0] * x[1]
        shared[1] = x[0]
        return y * shared[1]

    many = np.random.default_rng(1).normal(size=(20_000, 2))
    found = fad.vmap(f)(many)[::4000]
    np.testing.assert_allclose(found, [recorded(f, x) for x in many[::4000]], rtol=1e-12)
