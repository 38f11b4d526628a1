"""NumPy's functions through fad.compile: recorded at one input, replayed at others, without more.

What a rule reads as a plain value is a guard of the recording, and a program with a guard on a
floating value is recorded anew at every call. So rules do not read them: the first half holds every
row of the tables to that, the second says what is read.
"""

import numpy as np
import pytest
import test_numpy_linalg as linalg
import test_numpy_products as products
import test_numpy_reductions as reductions
import test_numpy_shapes as shapes
from numpy_case import arguments, row

import fastad as fad
from fastad import _core
from fastad._record import recording

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
TWO = np.arange(2)


def order(x, *args, **options):
    return np.argsort(x, *args, **options)


FOUND = [
    row("ordered", lambda x: x[order(x)] * x, (5,)),
    row("ordered backwards", lambda x: x[order(x)[::-1]] * x, (5,)),
    row("ordered rows", lambda x: x[order(x[:, 0])] * x, (4, 3)),
    row("ordered columns", lambda x: x[:, order(x[1])] * x, (3, 4)),
    row("ordered part", lambda x: x[1:][order(x[:-1])], (5,)),
    row("one of its elements", lambda x: x[np.argmax(x)] - x[np.argmin(x)], (6,)),
    row("one of its rows", lambda x: x[np.argmax(x[:, 1])], (4, 3)),
    row("one of each row", lambda x: x[TWO, np.argmax(x, axis=1)], (2, 5)),
    row("take the order", lambda x: np.take(x, order(x)) * x, (5,)),
    row("take along an axis", lambda x: np.take(x, order(x[0]), axis=1) * x, (2, 4)),
    row("take one", lambda x: np.take(x, np.argmin(x)), (2, 4)),
    row("take_along_axis", lambda x: np.take_along_axis(x, order(x, 1), 1) * x, (2, 4)),
    row("take from constants", lambda x: x * np.take_along_axis(MASK * 2.0, order(x), 1), (3, 4)),
    row("sort a copy in place", lambda x: (lambda y: (y.sort(), y * x)[1])(x * 1.0), (2, 4)),
]

TRUTHS = [
    row("any and all", lambda x: x * 2 if np.any(x > -9) and np.all(np.isfinite(x)) else x, (3,)),
    row("any along", lambda x: np.where(np.any(x > 0, axis=1, keepdims=True), x, -x), (4, 2)),
    row("all where", lambda x: x if np.all(x > 5, where=x > 9) else -x, (3, 2)),
    row("any of 0-d", lambda x: x * 3 if np.any(x) else x, ()),
    row("any of nothing", lambda x: -x if np.any(x) else x, (0,)),
    row("count", lambda x: x * np.sum(x > 0), (5,)),
    row("count along", lambda x: x / np.count_nonzero(x > -9, axis=0), (3, 4)),
    row("share", lambda x: x * np.mean(x > 0), (5,)),
    row("share where", lambda x: x * np.mean(x > 0, axis=1, where=MASK, keepdims=True), (3, 4)),
    row("mean where", lambda x: np.mean(x, where=x > -1), (3, 4)),
    row("sum where", lambda x: np.sum(x, axis=0, where=x > -1), (3, 4)),
    row("prod where", lambda x: np.prod(x, axis=0, where=x > 0), (3, 4)),
    row("max where", lambda x: np.max(x, axis=0, where=x > 0, initial=-1.0), (3, 4)),
    row("var where", lambda x: np.var(x, axis=1, where=x > -1), (2, 9)),
    row("std where", lambda x: np.std(x, where=x < 1), (9,)),
    row("close", lambda x: x if np.allclose(x, x + 1e-12) else -x, (3,)),
    row("isclose", lambda x: np.where(np.isclose(x, np.round(x), atol=0.2), x, -x), (9,)),
    row("isclose of 0-d", lambda x: np.where(np.isclose(x, 0.5, atol=0.3), x, -x), ()),
    row("equal arrays", lambda x: x if np.array_equal(x, x[::-1]) else -x, (3,)),
    row("equal shapes", lambda x: x if np.array_equal(x, x[1:]) else -x, (3,)),
    row("where of 0-d", lambda x: np.where(np.sin(x), x, -x), ()),
    row("where of a list", lambda x: np.where([x[0], x[1], x[2]], x, -x), (3,)),
    row("modf of 0-d", lambda x: np.modf(x)[0], ()),
    row("ldexp", lambda x: np.ldexp(x, np.argmax(x)), (3,)),
    row("norm 3 of a vector", lambda x: np.linalg.norm(x, 3), (4,)),
]

ROWS = [
    *reductions.ROWS,
    *shapes.ROWS,
    *products.ROWS,
    *linalg.ROWS,
    *FOUND,
    *TRUTHS,
]


def others(case):
    """Further arguments of the row's kind: moved a little, and with their elements permuted."""
    args, rng = arguments(case), np.random.default_rng(5)
    yield [a + 0.1 * rng.normal(size=a.shape) for a in args]
    permuted = [rng.permutation(np.ravel(a)).reshape(a.shape) for a in args]
    if "slogdet" not in case.name and "cholesky" not in case.name and "solve" not in case.name:
        yield permuted


def scalar(f):
    return lambda *xs: np.sum(np.sin(f(*xs)))


def gradient(case):
    every = tuple(range(len(case.args)))
    return fad.grad(scalar(case.f), every)


def of_gradient(case):
    """A scalar of the gradient, whose own gradient is of second order."""
    return lambda *xs: sum(np.sum(np.cos(g)) for g in gradient(case)(*xs))


def check_replay(case, f, once):
    """`f` is compiled, `once` gives the results that it is to give."""
    f(*arguments(case))
    for args in others(case):
        replayed, expected = f(*args), once(*args)
        replayed, expected = (
            [x] if np.isscalar(x) or isinstance(x, np.ndarray) else x for x in (replayed, expected)
        )
        for own, known in zip(replayed, expected, strict=True):
            assert np.shape(own) == np.shape(known)
            np.testing.assert_allclose(own, known, rtol=1e-9, atol=1e-9)
    assert f.cache_info().recordings == 1


@pytest.mark.parametrize("case", ROWS, ids=repr)
def test_value(case):
    check_replay(case, fad.compile(case.f), case.f)


@pytest.mark.parametrize("case", [case for case in ROWS if case.order > 0], ids=repr)
def test_gradient(case):
    every = tuple(range(len(case.args)))
    check_replay(case, fad.grad(fad.compile(scalar(case.f)), every), gradient(case))


@pytest.mark.parametrize("case", [case for case in ROWS if case.order > 1], ids=repr)
def test_second_order(case):
    every = tuple(range(len(case.args)))
    f = of_gradient(case)
    check_replay(case, fad.grad(fad.compile(f), every), fad.grad(f, every))


@pytest.mark.parametrize("case", [case for case in ROWS if case.order > 0], ids=repr)
def test_tangent(case):
    tangents = [np.ones_like(a) for a in arguments(case)]

    def along(*xs):
        return fad.jvp(case.f, xs, tuple(tangents))[1]

    check_replay(case, fad.compile(along), along)


# --- what is read -------------------------------------------------------------------------------


def guards(f, args):
    """Values that reach Python while f is traced, as (op, type)."""
    recorder = _core.Recorder()
    recorder.open()
    try:
        recorder.trace()
        with recording(recorder):
            f(*[recorder.input(a) for a in args])
        arrays = [recorder.array(node) for node, _ in recorder.guards]
        return [(a.op, a.dtype.kind, a.size) for a in arrays]
    finally:
        recorder.close()


def floats_read(f, args):
    kinds = {name: op.kind for name, op in fad.OPS.items()}
    return [g for g in guards(f, args) if g[1] == "f" and kinds.get(g[0]) != "PREDICATE"]


READS = [
    row("in", lambda x: x * 2 if 0.5 in x else x, (3,), order=0),
    row("scatter", lambda x: _assigned(x, np.argsort(x)), (4,), order=0),
    row("value", lambda x: x * x.value, (3,), order=0),
]
FLOATS_READ = {
    "in": "Python's membership test: the Array's own, no rule of NumPy",
    "value": "what .value is for",
}
"""Rows that read floating values while they are traced, and why. No rule of NumPy is among them."""


def _assigned(x, places):
    y = x * 1.0
    y[places] = x
    return y


@pytest.mark.parametrize("case", [*ROWS, *READS], ids=repr)
def test_no_floating_value_is_read(case):
    args = arguments(case)
    read = floats_read(case.f, args)
    if case.order > 0:
        read += floats_read(gradient(case), args)
    if case.order > 1:
        read += floats_read(fad.grad(of_gradient(case), tuple(range(len(args)))), args)
    assert bool(read) == (case.name in FLOATS_READ), read


X = np.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.5]])


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: x if np.any(x > 0) else -x, X, [("MAX_TO", "b", 1)]),
        (lambda x: x if np.all(x > 0) else -x, X, [("MIN_TO", "b", 1)]),
        (lambda x: x if np.allclose(x, 0.0) else -x, X, [("MIN_TO", "b", 1)]),
        (lambda x: x[: np.sum(x > 0)], X[0], [("CAST", "i", 1)]),
        (lambda x: x[x > 0], X, [("GREATER", "b", 6)]),
        (lambda x: x[np.nonzero(x)], X, [("NOT_EQUAL", "b", 6)]),
        (lambda x: np.average(x, weights=x + 9), X, [("EQUAL", "f", 1)]),
        (lambda x: np.average(x, 1, weights=x + 9), X, [("MAX_TO", "b", 1)]),
        (lambda x: x * (1 + np.sum(x > 0)), X, [("CAST", "i", 1)]),
        (lambda x: np.arange(9.0)[np.argmax(x)] * x, X, [("CUSTOM", "i", 1)]),
        (lambda x: np.linalg.det(x @ x.T), X, []),
        (fad.grad(lambda x: np.linalg.det(x.T @ x)), X, []),
        (fad.grad(lambda x: np.linalg.det(x)), np.eye(4), [("MIN_TO", "b", 1)]),
        (fad.grad(lambda x: np.linalg.slogdet(x)[1]), np.eye(4), [("MAX_TO", "b", 1)]),
    ],
)
def test_what_is_read_instead(f, x, expected):
    """The one truth value, the mask, the count that decides."""
    found = guards(f, [x])
    assert found == expected


# --- paths ----------------------------------------------------------------------------------------


def replays(f, *points):
    """f compiled agrees with f at the points in turn; the number of recordings after each."""
    compiled, counts = fad.compile(f), []
    for x in points:
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-9, atol=1e-12)
        counts.append(compiled.cache_info().recordings)
    return counts


def test_a_branch_by_any_is_one_more_path():
    def f(x):
        return np.sum(x * x) if np.any(x > 1) else np.sum(x)

    rng = np.random.default_rng(1)
    low, high = rng.uniform(0, 1, (2, 5)), rng.uniform(2, 3, (2, 5))
    assert replays(f, low[0], high[0], low[1], high[1], low[0]) == [1, 2, 2, 2, 2]
    assert replays(fad.grad(f), low[0], high[0], low[1], high[1]) == [1, 2, 2, 2]


def test_a_mask_as_an_index_is_a_path_for_each_mask():
    x = np.array([1.0, -2.0, 3.0])
    assert replays(lambda x: np.sum(x[x > 0] ** 2), x, 2 * x, -x, -3 * x) == [1, 1, 2, 2]


def test_ties_come_and_go_without_another_path():
    a, b = np.array([1.0, 3.0, 3.0]), np.array([4.0, 3.0, 1.0])
    c = np.array([np.nan, 1.0, np.nan])
    for f in (np.max, np.min, np.ptp, lambda x: np.linalg.norm(x, np.inf)):
        assert replays(fad.grad(f), a, b, c, a) == [1, 1, 1, 1]


def test_std_and_norm_at_zero_without_another_path():
    a, b = np.array([1.0, 3.0, 3.0]), np.zeros(3)
    for f in (np.std, np.linalg.norm, lambda x: np.linalg.norm(x, 3)):
        assert replays(fad.grad(f), a, b, a) == [1, 1, 1]
        assert replays(fad.grad(f), b, a, b) == [1, 1, 1]


def test_a_singular_matrix_is_a_path_of_its_own():
    rng = np.random.default_rng(2)
    regular = rng.normal(size=(3, 4, 4)) + 3 * np.eye(4)
    singular = [np.outer(a, b) + np.outer(b, a) for a, b in rng.normal(size=(2, 2, 4))]
    f = fad.grad(np.linalg.det)
    points = [regular[0], singular[0], regular[1], singular[1], np.zeros((4, 4)), regular[2]]
    assert replays(f, *points) == [1, 2, 2, 2, 3, 3]

    def curvature(A):
        return fad.grad(lambda A: np.sum(f(A) ** 2))(A)

    assert replays(curvature, *points)[0] == 1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    "f",
    [
        lambda A: np.linalg.det(A),
        lambda A: np.linalg.slogdet(A)[1],
        lambda A: np.linalg.inv(A)[:, 0, 1],
        lambda A: np.linalg.solve(A, np.ones(4))[:, 2],
        lambda A: linalg.cholesky_of(A)[:, 3, 2],
    ],
)
def test_strong_zeros_hold_where_the_recording_met_none(f):
    rng = np.random.default_rng(0)
    whole = linalg.regular(rng, (2, 4, 4))
    holed = np.stack([whole[1], np.full((4, 4), np.nan)])
    gradient = fad.grad(fad.compile(lambda A: f(A)[0]))
    gradient(whole)
    np.testing.assert_allclose(gradient(holed), fad.grad(lambda A: f(A)[0])(holed), atol=1e-12)
    assert not np.any(gradient(holed)[1])


def test_slogdet_of_a_singular_matrix_that_is_not_asked_for():
    def guarded(A):
        sign, logarithm = np.linalg.slogdet(A)
        return np.sum(np.where(sign != 0, logarithm, 0.0))

    gradient = fad.grad(fad.compile(guarded))
    regular = np.stack([np.diag([2.0, 4.0]), np.diag([3.0, 1.0])])
    singular = np.stack([np.ones((2, 2)), np.diag([2.0, 4.0])])
    for A in (regular, singular, regular):
        np.testing.assert_allclose(gradient(A), fad.grad(guarded)(A))


def test_errors_of_a_rule_reach_the_caller_on_replay():
    f = fad.compile(np.linalg.inv)
    f(np.eye(2))
    with pytest.raises(np.linalg.LinAlgError):
        f(np.ones((2, 2)))
    np.testing.assert_array_equal(f(2 * np.eye(2)), np.eye(2) / 2)


def test_a_recorded_index_out_of_range():
    def f(x):
        return x[2 * np.argsort(x)]

    with pytest.raises(IndexError):
        fad.compile(f)(np.array([1.0, 2.0, 3.0]))


def test_outside_of_compile_the_results_are_plain():
    def f(x):
        assert type(np.argsort(x)) is np.ndarray
        assert isinstance(np.argmax(x), np.integer) and isinstance(np.sum(x > 0), np.integer)
        assert isinstance(np.any(x), np.bool) and isinstance(np.count_nonzero(x), int | np.integer)
        return np.sum(x)

    fad.grad(f)(np.array([1.0, 2.0]))
