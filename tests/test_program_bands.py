"""Steps over the same rows run some rows at a time; what is made of what dies has its memory."""

import numpy as np
import pytest
from memory_use import SANITIZED, memory_in_use, needs_memory_in_use

import fastad as fad


def nearest(points, centroids):
    squares = np.sum(points**2, axis=1)[:, None] + np.sum(centroids**2, axis=1)
    return np.sum(np.amin(squares - 2.0 * (points @ centroids.T), axis=1))


def softmax(x, w):
    y = x @ w
    e = np.exp(y - np.max(y, axis=1, keepdims=True))
    return np.sum(np.sin(e / np.sum(e, axis=1, keepdims=True)))


def normalised(x, w):
    y = x * w[0]
    y = y - np.mean(y, axis=1, keepdims=True)
    return np.sum(np.tanh(y / np.sqrt(np.sum(y * y, axis=1, keepdims=True) + 1.0)))


def columns_too(x, w):
    """Sums over rows and over columns, and what needs both."""
    y = np.exp(x @ w)
    return np.sum(np.sin(99.0 * y / np.sum(y, axis=1, keepdims=True) / np.mean(y, axis=0)))


def sums_over_rows(x, w):
    """Products whose sums go over the rows: of zeros mostly, and not."""
    y = x @ w
    taken = np.where(y == np.max(y, axis=1, keepdims=True), y, 0.0)
    return np.sum(np.cos(x.T @ taken)) + np.sum(np.sin(x.T @ np.tanh(y)))


def shifted(x, w):
    """A row that reads the one after it: not by rows."""
    y = x @ w
    return np.sum(np.max(y[1:] * y[:-1], axis=1))


CASES = {
    # sizes that fit neither strips nor blocks
    "nearest": (nearest, (4003, 7), (53, 7)),
    "nearest, many": (nearest, (1500, 16), (150, 16)),
    "softmax": (softmax, (3001, 9), (9, 77)),
    "softmax of long rows": (softmax, (301, 5), (5, 1300)),
    "normalised": (normalised, (2003, 101), (1, 101)),
    "columns too": (columns_too, (2003, 6), (6, 99)),
    "sums over rows": (sums_over_rows, (2003, 11), (11, 99)),
    "shifted": (shifted, (2003, 6), (6, 99)),
}


def gradient_of(f):
    return fad.value_and_grad(f, argnums=(0, 1))


def compare(ours, theirs, tolerance):
    np.testing.assert_allclose(ours[0], theirs[0], tolerance)
    for x, y in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(x, y, tolerance, tolerance * np.abs(y).max())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_is_that_of_the_recording(rng, name, dtype):
    f, *shapes = CASES[name]
    compiled = gradient_of(fad.compile(f))
    for _ in range(2):
        arguments = [rng.normal(size=shape).astype(dtype) for shape in shapes]
        compare(
            compiled(*arguments), gradient_of(f)(*arguments), 1e-10 if dtype is np.float64 else 2e-4
        )


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_differences_of_the_value(rng, name):
    f, *shapes = CASES[name]
    at = [rng.normal(size=shape) for shape in shapes]
    direction = [rng.normal(size=shape) for shape in shapes]
    slopes = gradient_of(fad.compile(f))(*at)[1]
    h = 1e-5 / np.sqrt(sum(d.size for d in direction))
    both = [f(*[a + s * h * d for a, d in zip(at, direction, strict=True)]) for s in (1, -1)]
    expected = (both[0] - both[1]) / (2 * h)
    found = sum(np.sum(g * d) for g, d in zip(slopes, direction, strict=True))
    size = sum(np.sum(np.abs(g * d)) for g, d in zip(slopes, direction, strict=True))
    assert abs(found - expected) <= 1e-5 * size


@pytest.mark.parametrize("name", CASES)
def test_threads_and_files_change_no_bit(rng, name):
    f, *shapes = CASES[name]
    arguments = [rng.normal(size=shape) for shape in shapes]
    program = fad.compile(lambda *x: gradient_of(f)(*x)).program(*arguments)
    program.verify()
    compiled = gradient_of(fad.compile(f))
    before = fad.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            fad.set_num_threads(threads)
            found.append(compiled(*arguments))
    finally:
        fad.set_num_threads(before)
    for other in found[1:]:
        assert other[0] == found[0][0]
        assert all(np.array_equal(x, y) for x, y in zip(other[1], found[0][1], strict=True))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("shifted", "normalised")])
def test_steps_go_by_rows(rng, name):
    f, *shapes = CASES[name]
    arguments = [rng.normal(size=shape) for shape in shapes]
    compiled = fad.compile(lambda *x: gradient_of(f)(*x))
    assert f"of {shapes[0][0]} rows at a time" in compiled.program(*arguments).text()
    strict = fad.compile(lambda *x: gradient_of(f)(*x), strict=True)
    assert "rows at a time" not in strict.program(*arguments).text()


@needs_memory_in_use
def test_arrays_that_a_band_alone_reads_are_never_whole(rng):
    points, centroids = rng.normal(size=(200_000, 2)), rng.normal(size=(100, 2))
    before = memory_in_use()
    program = fad.compile(gradient_of(nearest)).program(points, centroids)
    found = program(points, centroids)
    whole = points.shape[0] * centroids.shape[0] * 8  # the distances; ties are an eighth of it
    assert memory_in_use() - before < whole / 2 or SANITIZED
    expected = gradient_of(nearest)(points, centroids)
    np.testing.assert_allclose(found[0], expected[0], 1e-10)
    np.testing.assert_allclose(found[2], expected[1][1], 1e-10, 1e-10)


def test_an_array_that_is_read_after_the_band_is_kept(rng):
    x, w = rng.normal(size=(3001, 7)), rng.normal(size=(7, 83))

    def each(x, w):
        y = x @ w
        z = np.exp(y - np.max(y, axis=1, keepdims=True))
        s = np.sum(z, axis=1, keepdims=True)
        return y, z, s

    def later(x, w):
        y, z, s = each(x, w)
        return np.sum(np.cumsum(z / s, axis=0)[::7]) + np.sum(y[1:] * y[:-1])

    def outputs(x, w):
        y, z, s = each(x, w)
        return z / s, s, np.max(z * y, axis=0)

    np.testing.assert_allclose(fad.compile(later)(x, w), later(x, w), 1e-11)
    for ours, theirs in zip(fad.compile(outputs)(x, w), outputs(x, w), strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-11)


def test_memory_of_a_band_is_used_again_by_the_next(rng):
    """Two bands over other rows, whose arrays may take each other's memory; run again and again."""

    def f(x, w):
        y = x @ w
        first = np.max(np.tanh(y), axis=1)
        z = np.reshape(first, (-1, 1)) @ w[:1] + np.sin(x @ w)
        return np.sum(np.exp(z - np.max(z, axis=1, keepdims=True))) + np.sum(first)

    compiled = gradient_of(fad.compile(f))
    for _ in range(3):
        x, w = rng.normal(size=(3001, 7)), rng.normal(size=(7, 83))
        compare(compiled(x, w), gradient_of(f)(x, w), 1e-10)


def test_what_reads_later_rows_does_not_go_by_rows(rng):
    x, y = rng.normal(size=(2, 3000, 101))
    for f in (
        lambda x, y: np.max(np.cumsum(x * y, axis=0), axis=1),
        lambda x, y: (x * y)[::-1] - np.max(x * y, axis=1, keepdims=True),
        lambda x, y: x / np.max(np.sum(x * y, axis=1)),
    ):
        compiled = fad.compile(f)
        np.testing.assert_allclose(compiled(x, y), f(x, y), 1e-12, 1e-9)


def test_ties_and_nans_in_a_band(rng):
    points = rng.integers(0, 3, (3000, 2)).astype(float)
    points[17] = np.nan
    points[2999, 1] = np.inf
    centroids = np.repeat(rng.integers(0, 3, (40, 2)).astype(float), 2, axis=0)
    with np.errstate(invalid="ignore"):
        ours = gradient_of(fad.compile(nearest))(points, centroids)
        theirs = gradient_of(nearest)(points, centroids)
    for x, y in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(x, y, 1e-12, 1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_over_the_rows_are_in_the_band(dtype, rng):
    """With their operands' special values, and in the order that threads do not change."""
    x, w = (rng.normal(size=shape).astype(dtype) for shape in ((3001, 7), (7, 83)))

    def f(x, w):
        y = x @ w
        chosen = np.where(y > 1.8 * np.max(y, axis=1, keepdims=True) - 0.5, y, 0.0)
        return chosen.T @ x, x.T @ np.exp(y)

    compiled = fad.compile(f)
    text = compiled.program(x, w).text()
    band = text[text.index("rows at a time") :]
    assert band.count(" = matmul ") >= 2
    tolerance = 1e-10 if dtype is np.float64 else 2e-3
    before = fad.get_num_threads()
    for special in (1.0, np.nan, np.inf):
        x[1234, 3] = special
        with np.errstate(all="ignore"):
            expected = f(x, w)
            found = compiled(x, w)
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, tolerance, tolerance)
            try:
                fad.set_num_threads(3)
                again = compiled(x, w)
            finally:
                fad.set_num_threads(before)
        for ours, theirs in zip(found, again, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# --- log sum exp, and shares of a sum ------------------------------------------------------------


def lse(x):
    top = np.max(x)
    return np.log(np.sum(np.exp(x - top))) + top


SPECIAL = [
    [1.0, 2.0, 3.0],
    [3.0, 3.0, 1.0],
    [np.nan, 1.0],
    [np.inf, 1.0],
    [-np.inf, 1.0],
    [-np.inf, -np.inf],
    [1e300, -1e300],
    [0.0, -0.0],
    [5.0],
]


@pytest.mark.parametrize("x", SPECIAL, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_log_sum_exp_of_special_values(x, dtype):
    with np.errstate(all="ignore"):
        x = np.array(x, dtype)
        ours = fad.value_and_grad(fad.compile(lse))(x)
        theirs = fad.value_and_grad(lse)(x)
    np.testing.assert_allclose(ours[0], theirs[0], 1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], 1e-6, 1e-6)


@pytest.mark.parametrize(
    "x",
    [
        [0.0, 0.0],
        [1.0, -1.0],
        [1e308, 1e308],
        [np.inf, 1.0],
        [1e-300, 0.0],
        [2.0, 3.0],
        [np.nan, 0.0],
    ],
    ids=str,
)
def test_sum_of_shares_of_special_values(x):
    x = np.array(x)
    with np.errstate(all="ignore"):
        for f in (
            lambda x: np.sum(x * (1.0 / np.sum(x))),
            lambda x: np.sum((-3.0 / np.sum(x)) * x),
            lambda x: np.sum(x * (-(1.0 / np.sum(x)) * 2.0)),
        ):
            ours, theirs = fad.compile(f)(x), f(x)
            if np.isinf(np.sum(x)) and np.all(np.isfinite(x)):
                continue  # the sum overflows: 0 times the elements, or 0 times infinity
            np.testing.assert_allclose(ours, theirs, 1e-12)


@pytest.mark.parametrize("n", [1, 2, 63, 1024, 1025, 5000])
def test_an_output_holds_what_it_is_made_of(rng, n):
    def f(x):
        e = np.exp(x)
        s = np.sum(e)
        return e / s + x, e * 2.0, s

    x = rng.normal(size=n)
    first, second, s = fad.compile(f)(x)
    np.testing.assert_allclose(first, np.exp(x) / np.sum(np.exp(x)) + x, 1e-13)
    np.testing.assert_allclose(second, np.exp(x) * 2.0, 1e-13)
    np.testing.assert_allclose(s, np.sum(np.exp(x)), 1e-13)


@pytest.mark.parametrize("n", [2, 100, 5000])
def test_what_is_read_again_is_not_overwritten(rng, n):
    def product_before(x, y):
        q = np.exp(x)
        s = np.sum(q)
        t = q * q  # becomes one instruction with the sum below
        out = q + s
        return out, t + y

    def reader_after(x, y):
        q = np.exp(x)
        return q + np.sum(q), (q * np.sum(q) + y) * q

    x, y = rng.normal(size=(2, n))
    for f in (product_before, reader_after):
        for ours, theirs in zip(fad.compile(f)(x, y), f(x, y), strict=True):
            np.testing.assert_allclose(ours, theirs, 1e-13, 1e-15)  # t + y cancels
