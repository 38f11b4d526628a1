"""Sums in compiled programs: good to a few units in the last place, on any number of threads."""

import math

import numpy as np
import pytest

import fastad as fad

LENGTHS = (1, 5, 1023, 1024, 1025, 3 * 1024, 100_003, 1_000_000)


def units_off(found, rows):
    """The largest error of sums of positive rows, in units in the last place."""
    exact = np.array([math.fsum(row) for row in rows.astype(np.float64).tolist()])
    return np.max(np.abs(np.asarray(found, np.float64) - exact) / exact) / np.finfo(rows.dtype).eps


def equal(shape, dtype=np.float64):
    """Numbers whose roundings all go the same way where totals of strips are added one by one."""
    return np.full(shape, 0.7, dtype)


def positive(shape, dtype=np.float64):
    return np.random.default_rng(5).random(shape).astype(dtype)


@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize("n", LENGTHS)
def test_of_all_elements(n, dtype):
    total = fad.compile(lambda x: np.sum(2 * x))
    assert np.asarray(total(equal(n, dtype))).dtype == dtype
    for x in (equal(n, dtype), positive(n, dtype)):
        assert units_off([total(x)], 2 * x[None]) < 3


@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize(
    "shape", ((3, 333_331), (2, 1024), (7, 1025), (1000, 1000), (5, 1), (2, 3, 50_000))
)
def test_of_rows(shape, dtype):
    totals = fad.compile(lambda x: np.sum(2 * x, axis=-1))
    for x in (equal(shape, dtype), positive(shape, dtype)):
        assert units_off(np.ravel(totals(x)), 2 * x.reshape(-1, shape[-1])) < 3


def test_of_rows_into_a_column_that_strides():
    x = positive((2, 3, 5000))
    totals = fad.compile(lambda x: np.sum(np.sqrt(x), axis=(0, 2)))(x)
    assert units_off(totals, np.moveaxis(np.sqrt(x), 1, 0).reshape(3, -1)) < 3


@pytest.mark.parametrize("special", (np.inf, -np.inf, np.nan))
def test_of_special_values(special):
    x = np.ones(5000)
    x[3000] = special
    total = fad.compile(np.sum)
    assert np.array_equal(total(x), np.sum(x), equal_nan=True)
    assert total(np.ones(5000)) == 5000


def test_a_call_leaves_nothing_behind():
    f = fad.compile(lambda x: (np.sum(x), np.sum(x.reshape(2, -1), axis=1)))
    for scale in (1.0, 3.0, -2.0):
        total, halves = f(np.full(9000, scale))
        assert (total, *halves) == (9000 * scale, 4500 * scale, 4500 * scale)


def test_gradient_that_cancels():
    """The largest element's is a small number plus 1 minus a sum that is 1 but for rounding."""

    def lse(x):
        top = np.max(x)
        return np.log(np.sum(np.exp(x - top))) + top

    x = positive(1_280_000)
    shares = np.exp(x - x.max())
    expected = shares / math.fsum(shares.tolist())
    gradient = fad.grad(fad.compile(lse))(x)
    assert np.max(np.abs(gradient - expected)) / expected.max() < 5e-10


def test_any_number_of_threads_gives_the_same_bits():
    x = positive((3, 200_001))

    def f(x):
        y = np.exp(np.sin(x)) * np.cos(x) + np.sqrt(x)
        return np.sum(y), np.sum(y, axis=1), np.sum(y * x, axis=0)

    compiled = fad.compile(f)
    expected = [np.asarray(part).tobytes() for part in compiled(x)]
    try:
        for count in (2, 3, 5):
            fad.set_num_threads(count)
            for _ in range(5):
                assert [np.asarray(part).tobytes() for part in compiled(x)] == expected
    finally:
        fad.set_num_threads(1)
