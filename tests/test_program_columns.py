"""Columns of the same rows, which a program stores and gathers together.

The values are compared with NumPy's on arrays, bit for bit where the recording is strict.
"""

import numpy as np
import pytest

import fastad as fad

COUNTS = [1, 2, 3, 5, 8, 9, 15, 17, 33, 64, 70]
LENGTHS = [64, 127, 128, 130, 1000]


def columns(x, y, count):
    """So many columns; every fifth is the same in all rows, every seventh is an argument itself."""
    made = []
    for j in range(count):
        if j % 5 == 4:
            made.append(np.full(len(x), j + 0.5).astype(x.dtype))
        else:
            made.append(y if j % 7 == 6 else x * (j + 1) + y)
    return made


def stacked(count):
    return lambda x, y: np.stack(columns(x, y, count), axis=1)


def samples(rng, n, dtype=float):
    return rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", COUNTS)
def test_stored(rng, count, dtype):
    for n in LENGTHS:
        x, y = samples(rng, n, dtype)
        f = fad.compile(stacked(count), strict=True)
        for _ in range(2):
            result = f(x, y)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, stacked(count)(x, y), strict=True)


def test_special_values():
    x = np.resize([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.0], 131)
    y = np.resize([-0.0, np.nan, 1.0, np.inf], 131)
    f = fad.compile(stacked(15), strict=True)
    f(y, x)
    with np.errstate(invalid="ignore"):
        want = stacked(15)(x, y)
        assert f(x, y).tobytes() == want.tobytes() or np.array_equal(f(x, y), want, equal_nan=True)
        np.testing.assert_array_equal(np.signbit(f(x, y)), np.signbit(want))


def backwards(x, y):
    rows = np.stack((x, x, x), axis=1) + y[:, None]
    for j, each in enumerate((x + y, x * y, x - y)):
        rows[::-1, j] = each
    return rows


def every_other(x, y):
    rows = np.concatenate((x, y))[:, None] * np.ones(4)
    for j in range(3):
        rows[::2, j + 1] = x * (j + 1) - y
    return rows


def onto_itself(x, y):
    rows = np.stack((x, y, x, y), axis=1) + 1.0
    rows[:, 0] = x * y
    rows[:, 1] = rows[:, 0] + x
    rows[:, 2] = rows[::-1, 1]
    rows[:, 3] = rows[:, 2]
    return rows


def shifted(x, y):
    rows = np.concatenate((x, y[:1]))[:, None] * np.ones(2)
    rows[:-1, 0] = x * 2.0
    rows[1:, 1] = rows[:-1, 0] * y
    rows[1:, 0] = rows[:-1, 1] + x
    return rows


@pytest.mark.parametrize("written", [backwards, every_other, onto_itself, shifted])
@pytest.mark.parametrize("strict", [False, True])
def test_written(rng, written, strict):
    for n in LENGTHS:
        x, y = samples(rng, n)
        f = fad.compile(written, strict=strict)
        f(y, x)
        np.testing.assert_allclose(f(x, y), written(x, y), rtol=1e-14, atol=1e-14)


def turned(row):
    return np.stack([row[j] * row[-1 - j] for j in range(len(row))])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [2, 3, 8, 9, 11, 17, 32])
def test_gathered(rng, count, dtype):
    for n in LENGTHS:
        table = rng.normal(size=(7, count)).astype(dtype)
        which = rng.integers(-7, 7, size=n)
        f = fad.compile(lambda table, which=which: fad.vmap(turned)(table[which]))
        f(table + 1)
        rows = table[which]
        np.testing.assert_allclose(f(table), rows * rows[:, ::-1], rtol=1e-6)


def test_gathered_gradient(rng):
    table = rng.normal(size=(5, 11))
    which = rng.integers(0, 5, size=333)
    f = fad.compile(fad.grad(lambda table: np.sum(np.sin(fad.vmap(turned)(table[which])))))
    f(table + 1)
    rows = table[which]
    want = np.zeros_like(table)
    np.add.at(want, which, 2 * np.cos(rows * rows[:, ::-1]) * rows[:, ::-1])
    np.testing.assert_allclose(f(table), want, rtol=1e-12)


@pytest.mark.parametrize("size, more", [(1 << 22, -1), (1 << 22, 1), (1 << 25, 37)])
@pytest.mark.parametrize("count, dtype", [(15, float), (3, float), (5, np.float32), (33, float)])
def test_large(rng, count, dtype, size, more):
    """What is larger than the limit is written past the caches, on any number of threads."""
    n = size // (count * np.dtype(dtype).itemsize) + more
    x, y = samples(rng, n, dtype)
    f = fad.compile(stacked(count), strict=True)
    before = fad.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fad.set_num_threads(threads)
            f(y, x)
            np.testing.assert_array_equal(f(x, y), stacked(count)(x, y))
    finally:
        fad.set_num_threads(before)


def test_jacobian_of_rows(rng):
    """vmap of a Jacobian, joined to rows of values as a sparse matrix has them."""
    n = 515
    cameras, points = rng.uniform(1, 2, size=(4, 5)), rng.uniform(1, 2, size=(50, 3))
    camera, point = np.arange(n) % 4, np.arange(n) % 50

    def residual(c, p):
        return np.stack([c[0] * p[0] / p[2] + c[1] * c[2], np.sin(c[3] * p[1]) * c[4]])

    def values(cameras, points):
        blocks = fad.vmap(fad.jacobian(residual, argnums=(0, 1)))(cameras[camera], points[point])
        return np.ravel(np.concatenate(blocks, axis=2))

    f = fad.compile(values)
    f(cameras + 1, points)
    found = f(cameras, points).reshape(n, 2, 8)
    for i in range(0, n, 101):
        c, p, h = cameras[camera[i]], points[point[i]], 1e-6
        for j in range(8):
            step = np.zeros(8)
            step[j] = h
            up, down = (residual(c + s * step[:5], p + s * step[5:]) for s in (1, -1))
            np.testing.assert_allclose(found[i, :, j], (up - down) / (2 * h), atol=1e-7)
