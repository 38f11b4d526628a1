"""Joins that are windows, and sums that begin with a term or go on in memory."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(11)
ONE = np.ones(1)


def steps(x, shifted):
    y = 0.1 * x
    for _ in range(6):
        a = x * shifted(y)
        b = x * shifted(y + 0.3 * a)
        y = y + 0.2 * (a + 2.0 * b)
    return np.sum(np.sin(y))


def between(y):
    return np.concatenate((ONE, y, ONE))[2:] + np.concatenate((ONE, ONE, y, ONE))[1:-2]


def two_on_a_side(x):
    y = np.sin(x)
    return np.sum(np.concatenate((ONE, y)) ** 2) + np.sum(np.concatenate((3.0 * ONE, y)) ** 3)


def inner_part(x):
    y = np.sin(x)
    return np.sum(np.concatenate((y[:-2], x[:2])) * np.concatenate((x[:1], y[1:-1], x[-1:])))


def edge_that_comes_late(x):
    y = np.sin(x)
    last = np.cos(np.cumsum(y))[-1:]
    return np.sum(np.concatenate((last, y[:-1])) ** 2 * y)


def rows(x):
    y = np.sin(x[: len(x) // 4 * 4].reshape(-1, 4))
    down = np.concatenate((y[-1:], y[:-1]))
    right = np.concatenate((y[:, -1:], y[:, :-1]), axis=1)
    return np.sum(down * y) + np.sum(right * y)


def shifted_sums(x):
    y = np.sin(x)
    return np.sum(y[1:] * y[:-1] * x[1:]) + np.sum(y[2:] * x[:-2] * y[:-2]) + np.sum(y * x)


def gathered(x):
    at = np.arange(len(x))[::-1]
    return np.sum(x[at] * np.sin(x)) + np.sum(x * np.cos(x)) + np.sum(x[at[:-1]] * x[1:])


def many_uses(x):
    y, total = x, 0.0
    for _ in range(7):
        y = np.sin(y[::-1]) * x
        total = total + np.sum(y)
    return total


FUNCTIONS = {
    "before": lambda x: steps(x, lambda y: np.concatenate((ONE, y[:-1]))),
    "behind": lambda x: steps(x, lambda y: np.concatenate((y[1:], ONE))),
    "roll": lambda x: steps(x, lambda y: np.roll(y, 1) + np.roll(y, -1)),
    "both sides": lambda x: steps(x, between),
    "two on a side": two_on_a_side,
    "inner part": inner_part,
    "late edge": edge_that_comes_late,
    "rows": rows,
    "shifted sums": shifted_sums,
    "gathered": gathered,
    "many uses": many_uses,
}


@pytest.mark.parametrize("n", [4, 9, 3000])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_recorded(name, strict, n):
    f, x = FUNCTIONS[name], rng.uniform(-1.0, 1.0, n)
    compiled = fad.compile(f, strict=strict)
    value, gradient = fad.value_and_grad(compiled)(x)
    assert np.allclose(value, f(x), rtol=1e-12)
    assert np.allclose(gradient, fad.grad(f)(x), rtol=1e-11, atol=1e-12)
    direction = rng.uniform(-1.0, 1.0, n)
    expected = fad.hvp(f, x, direction)
    assert np.allclose(fad.hvp(compiled, x, direction), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_value(name):
    f, x, d = FUNCTIONS[name], rng.uniform(-1.0, 1.0, 9), rng.uniform(-1.0, 1.0, 9)
    slope = fad.grad(fad.compile(f))(x) @ d
    h = 1e-6
    assert np.allclose(slope, (f(x + h * d) - f(x - h * d)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_an_output_that_is_joined():
    @fad.compile
    def f(x):
        y = np.sin(x)
        return y, np.concatenate((ONE, y[:-1])), np.concatenate((y[1:], ONE))

    x = np.linspace(-1.0, 1.0, 9)
    y = np.sin(x)
    for found, expected in zip(f(x), (y, [1.0, *y[:-1]], [*y[1:], 1.0]), strict=True):
        assert np.allclose(found, expected, rtol=1e-14)


def test_joins_copy_nothing():
    def f(x):
        return steps(x, lambda y: np.concatenate((ONE, y[:-1])))

    text = fad.compile(f).program(np.ones(1000)).text()
    assert not [line for line in text.splitlines() if "store dims [999]" in line]


def test_strong_zero_in_memory():
    """A cotangent that is 0 meets an infinite partial, in the instruction that adds."""

    def f(x):
        y, total = np.where(x > 0, x, 1.0), 0.0
        for _ in range(8):
            safe = np.where(x > 0, np.sqrt(x[::1]), 0.0)
            y = y[::-1] * safe + y
            total = total + np.sum(y)
        return total

    x = np.array([0.0, 1.0, 4.0, 0.0, 2.0])
    gradient = fad.grad(fad.compile(f))(x)
    assert np.all(np.isfinite(gradient))
    assert np.allclose(gradient, fad.grad(f)(x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name):
    f, x = FUNCTIONS[name], rng.uniform(-1.0, 1.0, 50).astype(np.float32)
    found, expected = fad.grad(fad.compile(f))(x), fad.grad(f)(x.astype(float))
    assert np.allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shape", [(0, 500), (0, 3), (3, 0), (0, 0, 4)])
@pytest.mark.parametrize("strict", [False, True])
def test_parts_of_nothing(shape, strict):
    """No element of an empty array lies anywhere, not even behind a column's offset."""
    fs = [
        lambda y: np.sum(y[..., -1:] ** 2) + np.sum(y),
        lambda y: np.sum(y[..., 2:3] ** 2),
        lambda y: np.sum((y * (y * y))[..., 1:] * 2.0) + np.sum(np.sin(y)[..., ::-1][..., 1:]),
    ]
    if shape[-1] > 2:
        fs.append(lambda y: np.sum(y[..., shape[-1] - 1] ** 2))
    for f in fs:
        for g in (fad.compile(fad.grad(f), strict=strict), fad.grad(fad.compile(f, strict=strict))):
            program = g.program(np.zeros(shape))
            program.verify()
            assert g(np.zeros(shape)).shape == shape

    def mixed(x):
        nothing = np.sin(x[:0].reshape(0, 1) * np.ones(500))
        return np.sum(nothing[:, 400] ** 2) + np.sum(x * x)

    x = np.linspace(-1.0, 1.0, 9)
    program = fad.compile(fad.grad(mixed), strict=strict).program(x)
    program.verify()
    np.testing.assert_array_equal(program(x)[0], 2 * x)
