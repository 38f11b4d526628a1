"""Products of matrices in programs: sums of a few terms, and operands that are mostly zeros."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(11)
TOLERANCE = {np.float64: 1e-13, np.float32: 3e-6}


def compare(ours, theirs, dtype, like=None):
    assert ours.dtype == dtype and ours.shape == theirs.shape
    size = np.abs(theirs if like is None else like)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    kept = np.isfinite(theirs)
    assert np.all(np.abs(ours - theirs)[kept] <= TOLERANCE[dtype] * (size[kept] + 1e-300))


def magnitude(x, y):
    """What the terms of each sum add up to, without their signs."""
    with np.errstate(all="ignore"):
        return np.abs(x).astype(float) @ np.abs(y).astype(float)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 8, 9, 31, 200])
@pytest.mark.parametrize("terms", [1, 2, 16, 32, 33])
@pytest.mark.parametrize("columns", [1, 4, 5, 8, 16, 17, 31, 33, 50])
def test_sums_of_a_few_terms(rows, terms, columns, dtype):
    x = rng.normal(size=(rows, terms)).astype(dtype)
    y = rng.normal(size=(terms, columns)).astype(dtype)
    size = magnitude(x, y)
    compare(fad.compile(np.matmul)(x, y), x @ y, dtype, size)
    turned = np.ascontiguousarray(y.T)
    compare(fad.compile(lambda x, y: x @ y.T)(x, turned), x @ y, dtype, size)
    both = fad.compile(lambda x, y: x.T @ y.T)
    compare(both(np.ascontiguousarray(x.T), turned), x @ y, dtype, size)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_of_a_few_special_terms(dtype):
    x = rng.normal(size=(40, 7)).astype(dtype)
    y = rng.normal(size=(7, 21)).astype(dtype)
    x[3, 2], x[17, 0], x[39, 6], y[4, 20], y[1, 3] = np.nan, np.inf, -np.inf, np.inf, 0.0
    x[5], y[:, 7] = 0.0, 0.0
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(fad.compile(np.matmul)(x, y), x @ y, 1e-4, 1e-5)


def mostly_zeros(rows, columns, some, dtype):
    """In each row as many numbers as `some` says, at places of their own."""
    y = np.zeros((rows, columns), dtype)
    for k in range(some):
        y[np.arange(rows), (rng.integers(0, columns) + k * np.arange(rows)) % columns] = k + 1.5
    return y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [63, 64, 1000, 1024, 1025, 2500])
@pytest.mark.parametrize("some", [0, 1, 2, 7])
@pytest.mark.parametrize("shape", [(16, 100), (33, 61), (8, 64), (1, 600), (70, 70)])
def test_operands_that_are_mostly_zeros(rows, some, shape, dtype):
    x = rng.normal(size=(rows, shape[0])).astype(dtype)
    y = mostly_zeros(rows, shape[1], some, dtype)
    product = fad.compile(lambda x, y: x.T @ y)
    compare(product(x, y), x.T @ y, dtype, magnitude(x.T, y))
    y[rows // 2 :] = 1.0  # what was taken for zeros in part is none
    compare(product(x, y), x.T @ y, dtype, magnitude(x.T, y))
    y = mostly_zeros(rows, shape[1], some, dtype)
    y[5] = -2.0
    compare(product(x, y), x.T @ y, dtype, magnitude(x.T, y))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_zeros_meet_what_is_not_finite(special, dtype):
    """As NumPy has it: 0 times infinity is a NaN."""
    x = rng.normal(size=(300, 16)).astype(dtype)
    y = mostly_zeros(300, 100, 1, dtype)
    product = fad.compile(lambda x, y: x.T @ y)
    for array, at in ((x, (117, 3)), (x, (299, 15)), (y, (17, 50)), (y, (0, 99))):
        kept, array[at] = array[at], special
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(product(x, y), x.T @ y, 1e-5)
        array[at] = kept
    y[y == 0] = -0.0
    np.testing.assert_allclose(product(x, y), x.T @ y, 1e-5, 1e-5)


@pytest.mark.parametrize("some", [0, 1])
def test_parts_of_larger_matrices(some):
    whole = rng.normal(size=(400, 40))
    y = mostly_zeros(400, 150, some, np.float64)
    product = fad.compile(lambda x, y: x[7:300, 3:19].T @ y[7:300, 20:120])
    np.testing.assert_allclose(
        product(whole, y), whole[7:300, 3:19].T @ y[7:300, 20:120], 1e-12, 1e-12
    )
    again = fad.compile(lambda x, y: x[::2, :16] @ y[:16, ::3])
    np.testing.assert_allclose(again(whole, y), whole[::2, :16] @ y[:16, ::3], 1e-12, 1e-12)


def test_strict_keeps_the_bits_of_numpy():
    x, y = rng.normal(size=(200, 16)), rng.normal(size=(100, 16))
    assert np.array_equal(fad.compile(lambda x, y: x @ y.T, strict=True)(x, y), x @ y.T)
    y = mostly_zeros(200, 100, 1, np.float64)
    assert np.array_equal(fad.compile(lambda x, y: x.T @ y, strict=True)(x, y), x.T @ y)


def test_what_guards_are_computed_by_keeps_the_bits_of_numpy():
    x, y = rng.normal(size=(50, 16)), rng.normal(size=(20, 16))
    limit = (x @ y.T)[3, 4]
    outcome = fad.compile(lambda x, y: 1.0 * x[0, 0] if (x @ y.T)[3, 4] >= limit else 0.0 * x[0, 0])
    assert outcome(x, y) == x[0, 0]
    smaller = np.nextafter(x, 0.0)
    expected = smaller[0, 0] if (smaller @ y.T)[3, 4] >= limit else 0.0
    assert outcome(smaller, y) == expected


@pytest.mark.parametrize("shapes", [((200, 16), (16, 33)), ((16, 300), (300, 100))])
def test_gradients(shapes):
    x, y = (rng.normal(size=shape) for shape in shapes)
    y[np.abs(y) < 1.9] = 0.0  # mostly zeros
    f = lambda x, y: np.sum(np.sin(x @ y))
    ours = fad.grad(fad.compile(f), argnums=(0, 1))(x, y)
    for found, expected in zip(ours, fad.grad(f, argnums=(0, 1))(x, y), strict=True):
        np.testing.assert_allclose(found, expected, 1e-10, 1e-10)
    h, at = 1e-6, np.unravel_index(np.argmax(np.abs(ours[0])), x.shape)
    above, below = x.copy(), x.copy()
    above[at], below[at] = x[at] + h, x[at] - h
    np.testing.assert_allclose(ours[0][at], (f(above, y) - f(below, y)) / (2 * h), 1e-5)
