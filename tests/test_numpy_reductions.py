"""Sums, means, products, extrema, statistics, running sums; ties, zeros, empty arrays, errors."""

import numpy as np
import pytest
from numpy_case import APART, POSITIVE, check_error, demands_on, row

import fastad as fad

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
ROWS = [
    row("sum", np.sum, (3, 4)),
    row("sum of 0-d", np.sum, ()),
    row("sum axis 0", lambda x: np.sum(x, axis=0), (3, 4)),
    row("sum axis -1", lambda x: np.sum(x, axis=-1), (3, 4)),
    row("sum axis 1 of 3", lambda x: np.sum(x, 1), (2, 3, 4)),
    row("sum axes", lambda x: np.sum(x, axis=(0, -1)), (2, 3, 4)),
    row("sum no axes", lambda x: np.sum(x, axis=()), (2, 3)),
    row("sum keepdims", lambda x: np.sum(x, axis=1, keepdims=True), (3, 4)),
    row("sum all keepdims", lambda x: np.sum(x, keepdims=True), (3, 4)),
    row("sum where", lambda x: np.sum(x, axis=0, where=MASK), (3, 4)),
    row("sum where broadcast", lambda x: np.sum(x, where=MASK[:, :1]), (3, 4)),
    row("sum initial", lambda x: np.sum(x, axis=1, initial=2.5), (3, 4)),
    row("sum dtype", lambda x: np.sum(x, dtype=np.float64), (3, 4)),
    row("sum to single", lambda x: np.sum(x, dtype=np.float32) * 1.0, (3,), order=0),
    row("sum of nothing", np.sum, (0,)),
    row("sum of no rows", lambda x: np.sum(x, axis=0), (0, 3)),
    row("sum method", lambda x: x.sum(axis=1), (3, 4)),
    row("add.reduce", lambda x: np.add.reduce(x), (3, 4)),
    row("add.reduce axis", lambda x: np.add.reduce(x, axis=1), (3, 4)),
    row("mean", np.mean, (3, 4)),
    row("mean axis", lambda x: np.mean(x, axis=0), (3, 4)),
    row("mean keepdims", lambda x: np.mean(x, axis=(0, 2), keepdims=True), (2, 3, 4)),
    row("mean where", lambda x: np.mean(x, axis=1, where=MASK), (3, 4)),
    row("mean where all", lambda x: np.mean(x, where=MASK), (3, 4)),
    row("mean method", lambda x: x.mean(0), (3, 4)),
    row("prod", np.prod, (7,)),
    row("prod of 0-d", np.prod, ()),
    row("prod axis", lambda x: np.prod(x, axis=1), (3, 4)),
    row("prod axes", lambda x: np.prod(x, axis=(0, 2)), (2, 3, 2)),
    row("prod keepdims", lambda x: np.prod(x, axis=0, keepdims=True), (5, 2)),
    row("prod where", lambda x: np.prod(x, axis=0, where=MASK), (3, 4)),
    row("prod initial", lambda x: np.prod(x, initial=0.5), (3,)),
    row("prod of nothing", np.prod, (0,)),
    row("prod of no rows", lambda x: np.prod(x, axis=0), (0, 3)),
    row("prod one zero", np.prod, np.array([1.5, 0.0, -2.0, 0.7])),
    row("prod two zeros", np.prod, np.array([1.5, 0.0, -2.0, 0.0, 0.5])),
    row("prod method", lambda x: x.prod(axis=-1), (2, 3)),
    row("max", np.max, (5,), **APART),
    row("max of a matrix", np.max, (3, 4), **APART),
    row("max of 0-d", np.max, (), **APART),
    row("max axis", lambda x: np.max(x, axis=0), (3, 4), **APART),
    row("max axis -1", lambda x: np.max(x, axis=-1), (3, 4), **APART),
    row("max axes", lambda x: np.max(x, axis=(0, 2)), (2, 3, 4), **APART),
    row("max keepdims", lambda x: np.max(x, axis=1, keepdims=True), (3, 4), **APART),
    row("max initial", lambda x: np.max(x, axis=1, initial=0.45), (3, 4), **APART),
    row("max where", lambda x: np.max(x, axis=0, where=MASK, initial=-9.0), (3, 4), **APART),
    row("max of nothing with initial", lambda x: np.max(x, initial=1.0), (0,), **APART),
    row("amax", lambda x: np.amax(x, 1), (3, 4), **APART),
    row("max method", lambda x: x.max(1), (3, 4), **APART),
    row("maximum.reduce", lambda x: np.maximum.reduce(x), (3, 4), **APART),
    row("min", np.min, (5,), **APART),
    row("min axis", lambda x: np.min(x, axis=0), (3, 4), **APART),
    row("min keepdims", lambda x: np.min(x, keepdims=True), (3, 4), **APART),
    row("min where", lambda x: np.min(x, axis=0, where=MASK, initial=9.0), (3, 4), **APART),
    row("amin", lambda x: np.amin(x, axis=(0, 1)), (3, 4), **APART),
    row("ptp", lambda x: np.ptp(x, axis=1), (3, 4), **APART),
    row("var", np.var, (3, 4), **APART),
    row("var axis", lambda x: np.var(x, axis=1), (3, 4), **APART),
    row("var ddof", lambda x: np.var(x, axis=0, ddof=1, keepdims=True), (3, 4), **APART),
    row("var correction", lambda x: np.var(x, correction=1.5), (5,), **APART),
    row("var where", lambda x: np.var(x, axis=1, where=MASK, ddof=1), (3, 4), **APART),
    row(
        "var mean",
        lambda x: np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True)),
        (3, 4),
        **APART,
    ),
    row("var method", lambda x: x.var(0), (3, 4), **APART),
    row("std", np.std, (5,), **APART),
    row("std axis", lambda x: np.std(x, axis=0, ddof=1), (3, 4), **APART),
    row("std where", lambda x: np.std(x, axis=1, where=MASK), (3, 4), **APART),
    row("std method", lambda x: x.std(1, keepdims=True), (3, 4), **APART),
    row("average", np.average, (3, 4)),
    row("average axis", lambda x: np.average(x, axis=1, keepdims=True), (3, 4)),
    row("average weights", lambda x, w: np.average(x, axis=0, weights=w), (3, 4), (3,), **POSITIVE),
    row("average same weights", lambda x, w: np.average(x, weights=w), (3, 4), (3, 4), **POSITIVE),
    row("average returned", lambda x, w: np.average(x, 1, w, True)[1], (2, 3), (3,), **POSITIVE),
    row(
        "average swapped axes",
        lambda x, w: np.average(x, axis=(2, 0), weights=w),
        (2, 3, 4),
        (4, 2),
        **POSITIVE,
    ),
    row("average constant weights", lambda x: np.average(x, weights=[1.0, 2.0, 3.0]), (3,)),
    row("median odd", np.median, (5,), **APART),
    row("median even", np.median, (6,), **APART),
    row("median axis", lambda x: np.median(x, axis=0), (3, 4), **APART),
    row("median axes", lambda x: np.median(x, axis=(0, 2), keepdims=True), (2, 3, 4), **APART),
    row("cumsum", np.cumsum, (5,)),
    row("cumsum flat", np.cumsum, (2, 3)),
    row("cumsum axis", lambda x: np.cumsum(x, axis=0), (3, 4)),
    row("cumsum axis -1", lambda x: np.cumsum(x, axis=-1), (2, 3, 4)),
    row("cumsum method", lambda x: x.cumsum(1), (2, 3)),
    row("cumsum of 0-d", np.cumsum, ()),
    row("cumsum of nothing", np.cumsum, (0,)),
    row("add.accumulate", np.add.accumulate, (3, 2)),
    row("cumprod", np.cumprod, (7,)),
    row("cumprod one", np.cumprod, (1,)),
    row("cumprod axis", lambda x: np.cumprod(x, axis=0), (5, 2)),
    row("cumprod axis -1", lambda x: np.cumprod(x, axis=-1), (2, 3)),
    row("cumprod zeros", np.cumprod, np.array([1.5, 0.0, -2.0, 0.0, 0.5])),
    row("cumprod of nothing", np.cumprod, (0,)),
    row("diff", np.diff, (5,)),
    row("diff twice", lambda x: np.diff(x, 2), (3, 5)),
    row("diff axis", lambda x: np.diff(x, axis=0), (3, 4)),
    row("diff none", lambda x: np.diff(x, 0), (3,)),
    row("diff past the end", lambda x: np.diff(x, 4), (3,)),
    row("diff prepend", lambda x: np.diff(x, prepend=0.0), (3, 4)),
    row("diff both", lambda x, y: np.diff(x, prepend=y, append=x[:, -1:]), (3, 4), (3, 2)),
    row("clip", lambda x: np.clip(x, -0.5, 0.5), (3, 4), **APART),
    row("clip below", lambda x: np.clip(x, -0.5, None), (3, 4), **APART),
    row("clip above", lambda x: np.clip(x, None, 0.5), (3, 4), **APART),
    row("clip not", lambda x: np.clip(x, None, None), (3, 4), **APART),
    row("clip names", lambda x: np.clip(x, min=-0.25, max=0.45), (3, 4), **APART),
    row(
        "clip bounds",
        lambda x, a, b: np.clip(x, a, b),
        (3, 4),
        np.array([-1.0, -1.2, 0.0, -0.75]),
        np.array([[0.25], [1.25], [0.8]]),
        **APART,
    ),
    row("clip by a recorded bound", lambda a: np.clip(np.array([1.0, 5.0]), a, 4.0), (), **APART),
    row("clip method", lambda x: x.clip(-0.5, 0.5), (3, 4), **APART),
]


test_value, test_first_order, test_second_order, test_single = demands_on(ROWS)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.max, [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        (np.max, [[3.0, 3.0], [3.0, 1.0]], [[1 / 3, 1 / 3], [1 / 3, 0]]),
        (np.min, [2.0, 2.0, 2.0, 2.0], [0.25, 0.25, 0.25, 0.25]),
        (np.max, [0.0, -0.0], [0.5, 0.5]),
        (np.max, [np.inf, 1.0, np.inf], [0.5, 0, 0.5]),
        (np.max, [1.0, np.nan, 2.0, np.nan], [0, 0.5, 0, 0.5]),
        (lambda x: np.max(x, initial=3.0), [3.0, 1.0, 3.0], [1 / 3, 0, 1 / 3]),
        (np.ptp, [1.0, 2.0, 1.0], [-0.5, 1, -0.5]),
        (np.ptp, [1.0, 1.0], [0, 0]),
        (lambda x: np.clip(x, 0.0, 1.0).sum(), [0.0, 0.5, 1.0, 2.0], [0.5, 1, 0.5, 0]),
        (np.std, [2.0, 2.0, 2.0], [0, 0, 0]),
        (np.std, [2.0], [0]),
        (np.median, [2.0, 1.0, 2.0], [1, 0, 0]),
        (np.median, [2.0, np.nan, 1.0], [0, 1, 0]),
        (lambda x: np.round(x, 1).sum(), [0.12, 3.0], [0, 0]),
    ],
)
def test_gradient_at_kinks(f, x, expected):
    np.testing.assert_allclose(fad.grad(f)(np.array(x)), expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("most", [np.max, np.min])
def test_extrema_of_rows_of_any_length(rng, most, dtype):
    """With a NaN, or infinities of both signs, in any place."""
    for n in (*range(1, 20), 31, 32, 33, 47, 64, 65, 100):
        x = rng.normal(size=(2 * n + 3, n)).astype(dtype)
        x[np.arange(n), np.arange(n)] = np.nan
        x[n + np.arange(n), np.arange(n)] = np.inf
        x[n + np.arange(n), (np.arange(n) + 1) % n] = -np.inf
        x[2 * n] = np.inf
        x[2 * n + 1] = -np.inf
        for f in (lambda x: most(x, axis=1), fad.compile(lambda x: most(x, axis=1) * 1.0)):
            with fad.Tape() as tape:
                y = f(tape.variable(x))
            np.testing.assert_array_equal(y.value, most(x, axis=1))
        np.testing.assert_array_equal(
            fad.compile(lambda x: most(x, axis=1) * 1.0)(x), most(x, axis=1)
        )


def test_ties_along_an_axis():
    x = np.array([[1.0, 1.0, 0.0], [2.0, 3.0, 1.0]])
    gradient = fad.grad(lambda x: np.sum(np.max(x, axis=1) * np.array([1.0, 10.0])))(x)
    np.testing.assert_array_equal(gradient, [[0.5, 0.5, 0], [0, 10, 0]])
    _, tangent = fad.jvp(lambda x: np.max(x, axis=1), (x,), (np.array([[1.0, 2, 3], [4, 5, 6]]),))
    np.testing.assert_array_equal(tangent, [1.5, 5])


def test_ties_have_derivatives_of_any_order():
    def f(x):
        return np.max(x) ** 3

    x = np.array([2.0, 2.0])
    np.testing.assert_allclose(fad.hessian(f)(x), np.full((2, 2), 3.0))
    third = fad.jacobian(fad.hessian(f))(x)
    np.testing.assert_allclose(third, np.full((2, 2, 2), 0.75))


def test_value_of_a_tie_is_exact():
    x = np.array([0.1, 0.1, 0.1])
    assert fad.value_and_grad(np.max)(x)[0] == 0.1


def test_second_derivative_of_std_at_zero_is_zero():
    np.testing.assert_array_equal(fad.hessian(np.std)(np.array([2.0, 2.0])), np.zeros((2, 2)))
    rows = np.array([[1.0, 1.0], [1.0, 4.0]])
    gradient = fad.grad(lambda x: np.sum(np.std(x, axis=1)))(rows)
    np.testing.assert_allclose(gradient, [[0, 0], [-0.5, 0.5]])


def test_third_derivative_of_prod_with_zeros():
    third = fad.jacobian(fad.hessian(np.prod))(np.array([0.0, 0.0, 0.0, 5.0]))
    expected = np.zeros((4, 4, 4))
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        expected[i, j, k] = 5.0
    np.testing.assert_array_equal(third, expected)


@pytest.mark.one_shot
def test_masks_give_plain_numbers():
    def f(x):
        mask = x > 0
        assert type(np.sum(mask)) is np.int64
        assert np.any(mask) is np.True_ and np.all(mask) is np.False_
        assert mask.any() and not mask.all()
        assert np.count_nonzero(mask) == np.count_nonzero(x > 0) == 2
        np.testing.assert_array_equal(np.sum(mask, axis=0), [1, 1])
        assert np.mean(mask) == 0.5
        return np.sum(x * mask) / np.sum(mask)

    gradient = fad.grad(f)(np.array([[1.0, -1.0], [-2.0, 3.0]]))
    np.testing.assert_array_equal(gradient, [[0.5, 0], [0, 0.5]])


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.sum(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.sum(x, axis=(0, 0)), ValueError),
        (lambda x: np.sum(x, axis="a"), TypeError),
        (lambda x: np.sum(x, axis=1.0), TypeError),
        (lambda x: np.mean(x, axis=-3), np.exceptions.AxisError),
        (lambda x: np.prod(x, axis=5), np.exceptions.AxisError),
        (lambda x: np.max(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.max(x[:0]), ValueError),
        (lambda x: np.max(x[:0], axis=0), ValueError),
        (lambda x: np.max(x, where=MASK[:2, :3]), ValueError),
        (lambda x: np.sum(x, where=np.ones((4, 2, 3), bool)), ValueError),
        (lambda x: np.std(x, ddof=1, correction=1), ValueError),
        (lambda x: np.cumsum(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.cumprod(x, axis=-3), np.exceptions.AxisError),
        (lambda x: np.diff(x, -1), ValueError),
        (lambda x: np.diff(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.diff(np.sum(x)), ValueError),
        (lambda x: np.median(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.average(x, weights=np.ones(3)), TypeError),
        (lambda x: np.average(x, axis=0, weights=np.ones(3)), ValueError),
        (lambda x: np.average(x, axis=0, weights=np.zeros(2)), ZeroDivisionError),
        (lambda x: np.clip(x, 0.0), TypeError),
        (lambda x: np.clip(x, 0.0, 1.0, min=0.0), ValueError),
    ],
)
def test_errors_are_numpys(f, error):
    check_error(f, error)


OUT = np.zeros(())


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x, out=OUT),
        lambda x: np.mean(x, out=OUT),
        lambda x: np.prod(x, out=OUT),
        lambda x: np.max(x, out=OUT),
        lambda x: np.min(x, None, OUT),
        lambda x: np.any(x, out=OUT),
        lambda x: np.all(x, out=OUT),
        lambda x: np.std(x, out=OUT),
        lambda x: np.var(x, out=OUT),
        lambda x: np.median(x, out=OUT),
        lambda x: np.ptp(x, out=OUT),
        lambda x: np.cumsum(x, out=OUT),
        lambda x: np.cumprod(x, out=OUT),
        lambda x: np.clip(x, 0, 1, out=OUT),
        lambda x: np.round(x, 1, out=OUT),
        lambda x: np.argmax(x, out=OUT),
        lambda x: np.trace(x, out=OUT),
        lambda x: np.take(x, 0, out=OUT),
        lambda x: np.dot(x, x, out=OUT),
        lambda x: np.outer(x, x, out=OUT),
        lambda x: np.einsum("ii", x, out=OUT),
        lambda x: np.concatenate((x, x), out=OUT),
        lambda x: np.stack((x, x), out=OUT),
        lambda x: np.sum(np.ones(3), out=x),
    ],
)
def test_out_is_refused_by_name(f):
    with pytest.raises(TypeError, match="out"):
        fad.grad(f)(np.ones((2, 2)))
