"""Regions that read their own values at shifted places, strips first to last or last to first."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(12)
ONE = np.ones(1)
STAGES = 24


def before(y):
    return np.concatenate((ONE, y[:-1]))


def behind(y):
    return np.concatenate((y[1:], ONE))


def chain(x, shifted, ones=1.0):
    y = 0.1 * x * ones
    for _ in range(STAGES):
        y = x * shifted(y) + 0.3 * y
    return y


def to_the_right(x):
    return chain(x, before)


def to_the_left(x):
    return chain(x, behind)


def both_at_once(x):
    y, z = 0.1 * x, 0.2 * x
    for _ in range(STAGES):
        y, z = x * before(y) + 0.1 * y, x * behind(z) - 0.1 * z
    return y * z


def alternating(x):
    y = 0.1 * x
    for _ in range(STAGES):
        y = 0.5 * behind(x * before(y)) + 0.2 * before(y) * behind(y)
    return y


def crossing(x):
    """Each chain reads the other one, in and against its own direction."""
    y, z = 0.1 * x, 0.2 * x
    for k in range(STAGES):
        y, z = x * before(y) + 0.1 * z, x * behind(z) - (0.1 * y if k % 5 else 0.1 * behind(y))
    return y + z


def two_apart(x):
    y = 0.1 * x
    for _ in range(STAGES):
        y = x * np.concatenate((2.0 * ONE, ONE, y))[: len(x)] + 0.3 * y
    return y


def edge_from_the_input(x):
    return chain(x, lambda y: np.concatenate((x[-1:], y[:-1])))


def edge_from_a_scalar(x):
    first = np.sin(x[0])
    return chain(x, lambda y: np.concatenate((np.reshape(first * 2.0, (1,)), y[:-1])))


def edge_that_is_computed(x):
    """The chain's own last element becomes the first of the next stage."""
    return chain(x, lambda y: np.concatenate((y[-1:], y[:-1])))


def summed_up(x):
    y, total = 0.1 * x, 0.0
    for _ in range(STAGES):
        y = x * behind(y) + 0.3 * y
        total = total + np.sum(y * y)
    return y + total


def gathered(x):
    at = (np.arange(len(x)) * 7) % len(x)
    y = 0.1 * x
    for k in range(STAGES):
        y = x * before(y) + (0.3 * y[at] if k % 6 == 5 else 0.3 * y)
    return y


def rows(x):
    y = x[: len(x) // 2 * 2].reshape(-1, 2)
    ones = np.ones((1, 2))
    z = 0.1 * y
    for _ in range(STAGES):
        z = y * np.concatenate((ones, z[:-1])) + 0.3 * z
    return z


FUNCTIONS = {
    f.__name__: f
    for f in (
        to_the_right,
        to_the_left,
        both_at_once,
        alternating,
        crossing,
        two_apart,
        edge_from_the_input,
        edge_from_a_scalar,
        edge_that_is_computed,
        summed_up,
        gathered,
        rows,
    )
}
SIZES = [2, 3, 8, 127, 128, 129, 257, 1000, 3001]


def scalar(f):
    return lambda x: np.sum(np.sin(f(x)))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"summed_up"}))  # NumPy's order of sums
def test_strict_has_the_bits_of_numpy(name, n):
    f, x = FUNCTIONS[name], rng.uniform(-1.0, 1.0, n)
    compiled = fad.compile(f, strict=True)
    compiled.program(x).verify()
    if name != "edge_from_a_scalar":  # the sine of a scalar is the C library's
        np.testing.assert_array_equal(compiled(x), f(x))
    np.testing.assert_allclose(compiled(x), f(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_recorded(name, n, strict):
    f, x = scalar(FUNCTIONS[name]), rng.uniform(-1.0, 1.0, n)
    compiled = fad.compile(f, strict=strict)
    value, gradient = fad.value_and_grad(compiled)(x)
    fad.value_and_grad(compiled).program(x).verify()
    np.testing.assert_allclose(value, f(x), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gradient, fad.grad(f)(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("n", [9, 300])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_value(name, n):
    f, x, d = scalar(FUNCTIONS[name]), rng.uniform(-1.0, 1.0, n), rng.uniform(-1.0, 1.0, n)
    slope = fad.grad(fad.compile(f))(x) @ d
    h = 1e-6
    np.testing.assert_allclose(slope, (f(x + h * d) - f(x - h * d)) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name):
    f, x = scalar(FUNCTIONS[name]), rng.uniform(-1.0, 1.0, 700).astype(np.float32)
    found, expected = fad.grad(fad.compile(f))(x), fad.grad(f)(x.astype(float))
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("name", ["to_the_right", "to_the_left", "both_at_once", "crossing"])
def test_special_values(name):
    """A NaN or an infinity reaches exactly the elements that it reaches in NumPy."""
    f, x = FUNCTIONS[name], rng.uniform(-1.0, 1.0, 1000)
    x[[100, 600]], x[[300, 301]], x[[511, 512]] = np.nan, (np.inf, -np.inf), (0.0, -0.0)
    with np.errstate(all="ignore"):
        expected = f(x)
    np.testing.assert_array_equal(fad.compile(f, strict=True)(x), expected)
    found = fad.compile(f)(x)
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-11, atol=1e-14)


def test_fewer_regions():
    """Several stages at a time go strip by strip, the adjoint's from the last strip on."""
    f, x = scalar(to_the_right), np.ones(3000)
    lines = fad.value_and_grad(fad.compile(f)).program(x).text().splitlines()
    regions = [line for line in lines if line.startswith("region") and " of 3000" in line]
    assert len(regions) <= STAGES / 2
    assert any(line.startswith("region backwards") for line in regions)


def test_short_regions_have_no_direction():
    f, x = scalar(to_the_right), np.ones(100)
    assert "backwards" not in fad.value_and_grad(fad.compile(f)).program(x).text()


def test_wide_regions_stay_apart():
    """So that threads may run them."""
    f, x = to_the_right, np.ones(200_000)
    lines = fad.compile(f).program(x).text().splitlines()
    assert sum(line.startswith("region of 200000") for line in lines) >= STAGES
    np.testing.assert_allclose(fad.compile(f)(x), f(x), rtol=1e-12)


def test_saved_and_loaded(tmp_path):
    f, x = fad.value_and_grad(fad.compile(scalar(to_the_right))), rng.uniform(-1.0, 1.0, 3001)
    program = f.program(x)
    assert "region backwards" in program.text()
    program.save(tmp_path / "chain")
    loaded = fad.Program.load(tmp_path / "chain")
    assert loaded.text() == program.text()
    for found, expected in zip(loaded(x), program(x), strict=True):
        np.testing.assert_array_equal(found, expected)
