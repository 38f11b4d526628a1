"""fad.compile: what is recorded anew and what is replayed, guards, paths, arguments, results."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from compiled import elsewhere
from memory_use import memory_in_use, needs_memory_in_use

import fastad as fad

X = np.array([0.5, -1.0, 2.0])


def counts(f):
    info = f.cache_info()
    return info.recordings, info.keys, info.paths


# --- keys ----------------------------------------------------------------------------------------


def test_one_recording_for_each_shape_and_type():
    f = fad.compile(lambda x: x * 2 + 1)
    for _ in range(3):
        assert f(3.0) == 7.0
        np.testing.assert_array_equal(f(X), X * 2 + 1)
        np.testing.assert_array_equal(f(np.ones((2, 3))), np.full((2, 3), 3.0))
        single = f(X.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_array_equal(single, X.astype(np.float32) * 2 + 1)
    assert counts(f) == (4, 4, 4)
    assert f.cache_info().calls == 12


def test_structures_are_part_of_the_key():
    f = fad.compile(lambda a: a["x"] + a["y"][0] * a["y"][1])
    assert f({"x": 1.0, "y": (2.0, 3.0)}) == 7.0
    assert f({"x": 4.0, "y": (2.0, 5.0)}) == 14.0
    assert counts(f) == (1, 1, 1)
    assert f({"x": 1.0, "y": [2.0, 3.0]}) == 7.0
    assert counts(f) == (2, 2, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [(None, "a"), ("a", "b"), (True, False), (np.sin, np.cos), ((), None), (b"a", "a")],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_number_is_static(one, other):
    f = fad.compile(lambda x, option: x * (2 if option == one else 3))
    assert (f(1.0, one), f(1.0, other), f(2.0, one), f(2.0, other)) == (2.0, 3.0, 4.0, 6.0)
    assert counts(f)[:2] == (2, 2)


def test_static_arguments_by_number_and_by_name():
    def g(x, n, *, k=1):
        for _ in range(n):
            x = x * x
        return x * k

    for f in (
        fad.compile(g, static_argnums=1, static_argnames="k"),
        fad.compile(g, static_argnums=[-1], static_argnames=["k"]),
        fad.compile(g, static_argnames=("n", "k")),
    ):
        assert (f(2.0, 2), f(2.0, 3), f(3.0, 2), f(2.0, n=2)) == (16.0, 256.0, 81.0, 16.0)
        assert f(2.0, 2, k=5) == 80.0
        assert f(2.0, 2, k=7) == 112.0
        assert f(3.0, 2) == 81.0
        assert counts(f) == (5, 5, 5)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, (1, 1.0)),
        (1, True, (1, True)),
        (0.0, -0.0, (1.0, -1.0)),
        ((1, 0.0), (True, -0.0), None),
    ],
    ids=lambda x: type(x).__name__,
)
def test_static_values_that_python_finds_equal(one, other, expected):
    seen = []
    f = fad.compile(lambda x, s: (seen.append(repr(s)), x)[1], static_argnums=1)
    f(1.0, one)
    f(1.0, other)
    f(1.0, one)
    f(1.0, other)
    assert seen == [repr(one), repr(other)]


def test_an_unhashable_static_argument():
    f = fad.compile(lambda x, s: x, static_argnums=1)
    with pytest.raises(TypeError, match=r"argument 1.*hashable.*list"):
        f(1.0, [1, 2])


def test_python_ints_are_inputs():
    f = fad.compile(lambda x, n: x**n)
    for n in (0, 1, 2, 5, -2):
        assert f(2.0, n) == 2.0**n
    assert counts(f)[0] == 1


def test_keyword_arguments_in_any_order():
    f = fad.compile(lambda x, *, a, b: x * a - b)
    assert f(2.0, a=3.0, b=1.0) == 5.0
    assert f(2.0, b=1.0, a=4.0) == 7.0
    assert counts(f)[0] == 1
    assert fad.grad(f)(2.0, b=1.0, a=4.0) == 4.0


# --- guards and paths ----------------------------------------------------------------------------


def sign(x):
    if x > 0:
        return x * 2
    if x == 0:
        return x + 1.0
    return -x


def halvings(x):
    n = 0
    while x > 1:
        x = x / 2
        n += 1
    return x * n


def early(x):
    total = 0.0
    for item in x:
        if item < 0:
            return total * 2
        total = total + item**2
    return total


def picked(x):
    return x[int(fad.stop_gradient(np.argmax(x)))] * np.sum(x)


def masked(x):
    return np.sum(x[x > 0] ** 2)


def sorted_by_python(x):
    first, second, third = sorted([x[0], x[1], x[2]])
    return first * 2 + second * 3 - third


def truth(x):
    return np.sum(x) if np.any(x > 1) and not np.all(x > 0) else np.prod(x)


def length(x):
    return sum(x[k] for k in range(int(np.sum(x > 0))))


def not_a_number(x):
    return x * 2 if x != x else x * 3


def largest(x):
    return max(x[0], x[1], x[2]) * min(x)


def indexed(n):
    return {1: 5.0, 2: 6.0}.get(n, 0.0) + [1.0, 2.0, 3.0][n % 3] + np.sum(np.arange(n) * 2.0)


VECTORS = [X, -X, X[::-1].copy(), np.array([3.0, 2.0, 1.0]), np.array([-1.0, -2.0, -3.0]), 0 * X]
NUMBERS = [3.0, 0.0, -0.0, -2.0, 1.0, 10.0, 0.3, np.inf, np.nan]
PATHS = [
    (sign, NUMBERS),
    (not_a_number, NUMBERS),
    (halvings, [0.5, 1.0, 3.0, 100.0, 1e9, 5.0, np.nan]),
    (early, VECTORS),
    (picked, VECTORS),
    (masked, VECTORS),
    (sorted_by_python, VECTORS),
    (truth, VECTORS),
    (length, VECTORS),
    (largest, VECTORS),
]


@pytest.mark.parametrize(("f", "points"), PATHS, ids=lambda p: getattr(p, "__name__", "points"))
@pytest.mark.parametrize("strict", [False, True])
def test_paths(f, points, strict):
    compiled = fad.compile(f, strict=strict)
    for _ in range(3):
        for x in points:
            np.testing.assert_allclose(compiled(x), f(x), rtol=1e-15)
            value, gradient = fad.value_and_grad(compiled)(x)
            expected_value, expected = fad.value_and_grad(f)(x)
            np.testing.assert_allclose(value, expected_value, rtol=1e-15)
            np.testing.assert_allclose(gradient, expected, rtol=1e-14)
    recordings = counts(compiled)[0]
    assert recordings <= len(points)
    for x in points:
        compiled(x)
    assert counts(compiled)[0] == recordings
    gradient = fad.value_and_grad(compiled)
    assert counts(gradient)[0] <= len(points)


def test_integers_that_decide():
    f = fad.compile(indexed)
    for _ in range(2):
        for n in (0, 1, 2, 7, 1):
            assert f(n) == indexed(n)
    assert counts(f)[0] == 4


def twenty(x):
    """Twenty ways, by where x lies."""
    for k in range(19):
        if x < k / 19:
            return np.sin(k * x) + x**2
    return np.exp(-x)


def test_twenty_paths_are_recorded_once_each(rng):
    f = fad.compile(twenty)
    both = fad.value_and_grad(f)
    plain = fad.value_and_grad(twenty)
    for x in (np.arange(20) - 0.5) / 19:
        assert f(x) == twenty(x)
        both(x)
    assert counts(f)[0] == counts(both)[0] == 20
    for x in rng.uniform(-0.1, 1.1, 10_000).tolist():
        assert f(x) == pytest.approx(twenty(x), rel=1e-15)
        value, gradient = both(x)
        expected = plain(x)
        assert value == pytest.approx(expected[0], rel=1e-15)
        assert gradient == pytest.approx(expected[1], rel=1e-14)
    assert counts(f) == counts(both) == (20, 1, 20)


def test_too_many_paths():
    f = fad.compile(lambda x: x * int(fad.stop_gradient(x)), max_paths=3)
    with pytest.warns(RuntimeWarning, match="more than 3 paths.*max_paths") as caught:
        for x in range(20):
            assert f(x + 0.5) == (x + 0.5) * x
    assert len(caught) == 1
    assert counts(f) == (3, 1, 3)
    for x in range(20):
        assert fad.jvp(f, x + 0.5, 1.0) if x < 1 else f(x + 0.5) == (x + 0.5) * x
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(7.5) == 52.5
    with pytest.warns(RuntimeWarning, match="more than 3 paths"):
        assert [fad.grad(f)(x + 0.5) for x in range(9)] == list(range(9))


def test_a_value_that_decides_and_is_rounded_otherwise(rng):
    """The sum is read by Python: a guard on all its bits."""
    f = fad.compile(lambda x: x[0] * round(float(fad.stop_gradient(np.sum(x * 0.1))), 3))
    for _ in range(20):
        x = rng.normal(size=1000)
        np.testing.assert_allclose(f(x), x[0] * round(float(np.sum(x * 0.1)), 3), rtol=1e-15)


def test_an_index_out_of_range_on_another_path():
    """Each path computes all its guards, and one that does not hold is not in the others' way."""

    def f(x, i):
        if i < 3:
            return x[i] * 2 if x[i] > 0 else x[i] * 3
        return np.sum(x)

    compiled = fad.compile(f)
    for _ in range(3):
        for i in (0, 1, 2, 7, 0, 1, 99):
            assert compiled(X, i) == f(X, i)
    assert counts(compiled)[0] <= 4
    g = fad.compile(lambda x, i: x[i])
    assert [g(X, i) for i in (0, 2, -1, -3)] == [0.5, 2.0, 2.0, 0.5]
    for _ in range(2):
        with pytest.raises(IndexError, match="out of bounds"):
            g(X, 3)
    assert g(X, 1) == -1.0


def test_a_rule_that_fails_on_another_path():
    def f(A):
        if A[0, 0] < 0:
            return np.sum(A)
        L = np.linalg.cholesky(A)
        return L[0, 0] if L[1, 1] > 1 else L[1, 0]

    compiled = fad.compile(f)
    points = [np.diag([4.0, 9.0]), np.diag([-1.0, 2.0]), np.diag([1.0, 0.1])]
    for _ in range(3):
        for A in points:
            assert compiled(A) == f(A)
            np.testing.assert_allclose(fad.grad(compiled)(A), fad.grad(f)(A), atol=1e-15)
        with pytest.raises(np.linalg.LinAlgError):
            compiled(np.diag([1.0, -1.0]))
    assert counts(compiled)[2] == counts(fad.grad(compiled))[2] == 3


# --- what is seen and what is not ----------------------------------------------------------------


def test_an_array_changed_in_place_is_seen():
    f = fad.compile(lambda x: np.sum(x**2))
    x = X.copy()
    assert f(x) == 5.25
    x[0] = 2.0
    assert f(x) == 9.0
    np.testing.assert_array_equal(fad.grad(f)(x), 2 * x)
    x[:] = 1.0
    np.testing.assert_array_equal(fad.grad(f)(x), 2 * x)
    y, pull = fad.vjp(f, x)
    x[:] = 5.0
    assert y == 3.0
    np.testing.assert_array_equal(pull(1.0)[0], [2.0, 2.0, 2.0])


def test_a_closure_is_not_seen_and_side_effects_happen_once():
    calls, factor = [], [2.0]

    @fad.compile
    def f(x):
        calls.append(x)
        return x * factor[0]

    assert f(1.0) == 2.0
    factor[0] = 3.0
    assert f(1.0) == 2.0
    assert len(calls) == 1
    f.clear()
    assert f(1.0) == 3.0
    assert counts(f) == (1, 1, 1)


def test_an_argument_that_f_writes_to():
    def f(x):
        x[0] = x[1] * 2
        x += 1.0
        return np.sum(x**2)

    compiled = fad.compile(f)
    for x in (X, -X, X * 3):
        before = x.copy()
        assert compiled(x) == f(x.copy())
        np.testing.assert_array_equal(x, before)
        np.testing.assert_allclose(fad.grad(compiled)(x), fad.grad(f)(x), rtol=1e-15)


# --- exceptions ----------------------------------------------------------------------------------


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop, MemoryError])
def test_an_exception_while_recording_loses_nothing(error):
    fail = [True]

    @fad.compile
    def f(x):
        y = np.sin(x)
        if fail[0]:
            raise error("planted")
        return y if x > 0 else -y

    for g in (f, fad.grad(f), fad.value_and_grad(f), fad.hessian(f)):
        fail[0] = True
        for _ in range(2):
            with pytest.raises(error, match="planted"):
                g(1.0)
        assert f.cache_info().keys == 0 or g is not f
        fail[0] = False
        first = g(1.0)
        fail[0] = True
        with pytest.raises(error, match="planted"):
            g(-1.0)
        assert g(1.0) == first
        fail[0] = False
        g(-1.0)
        assert g(1.0) == first
        f.clear()
    assert fad.grad(lambda x: x * x)(3.0) == 6.0


def test_a_function_without_a_rule():
    f = fad.compile(lambda x: np.unwrap(x))
    with pytest.raises(NotImplementedError, match="unwrap"):
        f(X)


# --- arguments of all kinds ----------------------------------------------------------------------

ARRAYS = {
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(18.0).reshape(3, 6)[:, ::3],
    "reversed": np.arange(6.0).reshape(3, 2)[::-1, ::-1],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "big endian": np.arange(6.0).reshape(3, 2).astype(">f8"),
    "broadcast": np.broadcast_to(np.arange(2.0), (3, 2)),
    "unaligned": np.frombuffer(b"\0" + np.arange(6.0).tobytes(), np.uint8)[1:]
    .view(np.float64)
    .reshape(3, 2),
    "float32": np.arange(6, dtype=np.float32).reshape(3, 2),
    "float32 big endian": np.arange(6).reshape(3, 2).astype(">f4"),
    "int8": np.arange(6, dtype=np.int8).reshape(3, 2),
    "uint64": np.arange(6, dtype=np.uint64).reshape(3, 2),
    "int32 big endian": np.arange(6).reshape(3, 2).astype(">i4"),
    "bool": np.arange(6).reshape(3, 2) % 2 == 0,
    "0-d": np.array(2.0),
    "0-d float32": np.array(2.0, np.float32),
    "0-d int": np.array(2),
    "float64": np.float64(2.0),
    "float32 number": np.float32(2.0),
    "int64": np.int64(2),
    "bool_": np.bool_(True),
    "empty": np.zeros((0, 2)),
    "empty too": np.zeros((3, 0), np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_every_layout_and_type(name):
    x = ARRAYS[name]
    f = lambda x: np.sin(x * 0.25).T + np.sum(x) * 2.0
    compiled = fad.compile(f)
    expected = np.asarray(f(x))
    for _ in range(3):
        ours = compiled(x)
        assert np.shape(ours) == expected.shape
        assert np.asarray(ours).dtype == expected.dtype or np.asarray(x).dtype.kind != "f"
        np.testing.assert_allclose(ours, expected, rtol=1e-6 if "32" in name else 1e-14)
    assert counts(compiled)[0] == 1
    if np.asarray(x).dtype.kind == "f":
        g = lambda x: np.sum(np.sin(x * 0.25)) + np.sum(x**2) * 2.0
        ours, theirs = fad.grad(fad.compile(g))(x), fad.grad(g)(x)
        assert np.shape(ours) == np.shape(theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        assert type(ours) is type(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_read_only_array_stays_as_it_is():
    x = X.copy()
    x.flags.writeable = False
    f = fad.compile(lambda x: x * 2)
    np.testing.assert_array_equal(f(x), X * 2)
    assert f(x).flags.writeable


@pytest.mark.parametrize(
    "x",
    [
        1j,
        np.array([1j]),
        np.array(["a"]),
        np.array([1.0], np.float16),
        np.array([1.0], np.longdouble),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([object()]),
        np.matrix([[1.0]]),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        10**30,
        [[1.0], set()],
    ],
    ids=lambda x: type(x).__name__,
)
def test_arguments_that_are_refused(x):
    f = fad.compile(lambda x: x)
    with pytest.raises(TypeError, match="argument 0"):
        f(x)
    f(1.0)
    f(np.ones(2))
    with pytest.raises(TypeError, match="argument 0"):
        f(x)


def test_what_converts_to_an_array_is_an_input():
    class Data:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return np.array(self.values, dtype)

    f = fad.compile(lambda x: np.sum(x) * 2)
    data = Data([1.0, 2.0])
    assert f(data) == 6.0
    data.values = [3.0, 4.0]
    assert f(data) == 14.0


def test_what_is_no_function():
    with pytest.raises(TypeError, match="function"):
        fad.compile(3)


# --- results -------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: object
    second: object


CONSTANT = np.array([1.0, 2.0])
RESULTS = {
    "input": lambda x: x,
    "twice": lambda x: (x, x),
    "view": lambda x: x[1:],
    "views": lambda x: [x[::-1], x[:2], x.reshape(3, 1).T],
    "constant": lambda x: CONSTANT,
    "number": lambda x: 3.0,
    "none": lambda x: None,
    "nothing": lambda x: (),
    "text": lambda x: ("text", None, True, 3),
    "nested": lambda x: {"a": (x * 2, [x[0], CONSTANT]), "b": {"c": None, "d": "e"}},
    "named": lambda x: Pair(x + 1, (x[0], 2)),
    "repeated": lambda x: (lambda y: (y, y, [y]))(np.sin(x)),
    "mask": lambda x: x > 0,
    "index": lambda x: np.argmax(x),
    "int": lambda x: np.sum(x > 0),
    "objects": lambda x: np.array([x[0], x[1] * 2]) if not isinstance(x, fad.Array) else x[:2],
    "broadcast": lambda x: np.broadcast_to(x, (2, 3)),
    "filled": lambda x: np.zeros_like(x),
}


def same(a, b):
    assert type(a) is type(b) or (np.isscalar(a) and np.isscalar(b))
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif isinstance(a, np.ndarray) or (np.isscalar(a) and not isinstance(a, str)):
        np.testing.assert_array_equal(a, b)
        assert np.shape(a) == np.shape(b)
    else:
        assert a == b


def leaves(x):
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        return [leaf for item in x for leaf in leaves(item)]
    return [x] if isinstance(x, np.ndarray) else []


@pytest.mark.parametrize("name", [name for name in RESULTS if name != "objects"])
def test_results(name):
    f = RESULTS[name]
    compiled = fad.compile(f, strict=True)
    kept = []
    for x in (X, X * 2, -X, X):
        x = x.copy()
        ours = compiled(x)
        same(ours, f(x))
        arrays = leaves(ours)
        kept.append((arrays, [a.copy() for a in arrays]))
        for i, a in enumerate(arrays):
            assert a.flags.writeable
            assert not np.shares_memory(a, x)
            assert not np.shares_memory(a, CONSTANT)
            assert not any(np.shares_memory(a, b) for b in arrays[:i])
    for arrays, values in kept:  # later calls left them alone
        for a, b in zip(arrays, values, strict=True):
            np.testing.assert_array_equal(a, b)
    for arrays, _ in kept:
        for a in arrays:
            a[...] = 7
    same(compiled(X.copy()), f(X.copy()))


def test_results_that_hide_recorded_values():
    class Hidden:
        def __init__(self, x):
            self.x = x

    for f in (lambda x: Hidden(x), lambda x: {x}, lambda x: (i for i in x), lambda x: lambda: x):
        with pytest.raises(TypeError, match="recorded values"):
            fad.compile(f)(X)


# --- strict --------------------------------------------------------------------------------------

SUMS = [
    lambda x: np.sum(x * 1.1),
    lambda x: np.sum(x.reshape(50, 41), axis=0),
    lambda x: np.sum(x.reshape(50, 41), axis=1),
    lambda x: np.sum(x.reshape(50, 41).T),
    lambda x: np.sum(x.reshape(50, 41).T, axis=0),
    lambda x: np.sum(x.reshape(5, 10, 41), axis=(0, 2)),
    lambda x: np.sum(x.reshape(5, 10, 41).transpose(2, 0, 1) * 3.0, axis=(0, 2)),
    lambda x: np.sum(x[::3]),
    lambda x: np.mean(x) + np.var(x),
    lambda x: np.sum(np.broadcast_to(x[:50, None], (50, 7)) * x[:7]),
    lambda x: x[:40].reshape(4, 10) @ x[40:80].reshape(10, 4) @ x[:4],
    lambda x: np.cumsum(x.reshape(50, 41), axis=1) * np.prod(x[:5]),
    lambda x: sum(x[i] * x[i + 1] + 0.1 for i in range(100)),
    lambda x: np.exp(x) / (1 + np.exp(x)) - np.tanh(x) * x + x * x - x,
]


@pytest.mark.parametrize("f", SUMS, ids=range(len(SUMS)))
@pytest.mark.parametrize("dtype", [float, np.float32])
def test_strict_gives_the_recordings_bits(f, dtype, rng):
    compiled = fad.compile(f, strict=True)
    for _ in range(3):
        x = rng.normal(size=2050).astype(dtype)
        recorded = fad.vjp(f, x)[0]
        ours = compiled(x)
        assert np.asarray(ours).tobytes() == np.asarray(recorded).tobytes()


@pytest.mark.parametrize("f", SUMS, ids=range(len(SUMS)))
def test_sums_that_are_not_strict(f, rng):
    compiled = fad.compile(f)
    total = lambda x: np.sum(np.sin(f(x)))
    for _ in range(2):
        x = rng.normal(size=2050)
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-12, atol=1e-12)
        ours, theirs = fad.grad(fad.compile(total))(x), fad.grad(total)(x)
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


# --- inside one another --------------------------------------------------------------------------


def test_compile_inside_compile():
    inner = fad.compile(lambda x: x**2 if x > 0 else -x)
    outer = fad.compile(lambda x: inner(x) * 2 + inner(-x))
    for x in (3.0, -2.0, 4.0):
        expected = (x * x if x > 0 else -x) * 2 + (x * x if x < 0 else x)
        assert outer(x) == expected
    assert counts(inner)[0] == 0  # part of the outer recording
    assert inner(3.0) == 9.0
    assert fad.grad(outer)(3.0) == 13.0
    assert fad.compile(fad.compile(np.sin))(1.0) == np.sin(1.0)


def test_a_compiled_function_inside_a_plain_gradient():
    f = fad.compile(lambda x: np.sin(x) * x)
    f(1.0)
    g = lambda x: f(x) * 3.0 + f(2.0)
    x = 0.7
    assert fad.grad(g)(x) == pytest.approx(3 * (np.sin(x) + x * np.cos(x)), rel=1e-15)
    assert fad.grad(fad.grad(g))(x) == pytest.approx(3 * (2 * np.cos(x) - x * np.sin(x)))
    with fad.Tape() as tape:
        v = tape.variable(x)
        y = f(v)
    assert tape.gradient(y, [v])[0] == pytest.approx(np.sin(x) + x * np.cos(x))


def test_a_compiled_function_that_closes_over_a_traced_value():
    def f(x):
        g = fad.compile(lambda y: x * y * y)
        return fad.grad(g)(3.0) + g(2.0) + fad.value_and_grad(g)(1.0)[0]

    assert fad.grad(f)(5.0) == 11.0
    assert fad.grad(fad.compile(f))(5.0) == 11.0
    kept = []

    def keep(x):
        kept.append(fad.compile(lambda y: x * y))
        return kept[0](x)

    assert fad.grad(keep)(3.0) == 6.0
    with pytest.raises(fad.TapeError):
        kept[0](2.0)


def test_recursion():
    @fad.compile
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert [power(2.0, n) for n in (1, 5, 3, 5)] == [2.0, 32.0, 8.0, 32.0]
    assert fad.grad(power)(2.0, 3) == 12.0


# --- transforms ----------------------------------------------------------------------------------


def quadratic(x, y):
    return np.sum(np.sin(x) * x) * y**2 + y


def test_argnums_and_aux():
    f = fad.compile(quadratic)
    for x, y in ((X, 2.0), (-X, 3.0)):
        for argnums in (0, 1, (0, 1), (1,), (1, 0), -1, (), (0, 0)):
            value, gradient = fad.value_and_grad(f, argnums)(x, y)
            expected, theirs = fad.value_and_grad(quadratic, argnums)(x, y)
            np.testing.assert_allclose(value, expected, rtol=1e-14)
            assert type(gradient) is type(theirs)
            ours = gradient if isinstance(gradient, tuple) else (gradient,)
            theirs = theirs if isinstance(theirs, tuple) else (theirs,)
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-14)
    g = fad.compile(lambda x: (np.sum(x**2), {"x": x * 3, "text": "t", "n": 3}))
    for x in (X, -X):
        (value, aux), gradient = fad.value_and_grad(g, has_aux=True)(x)
        assert (value, aux["text"], aux["n"]) == (np.sum(x**2), "t", 3)
        np.testing.assert_array_equal(aux["x"], x * 3)
        np.testing.assert_array_equal(gradient, 2 * x)
    with pytest.raises(TypeError, match="scalar"):
        fad.grad(fad.compile(lambda x: x * 2))(X)
    with pytest.raises(TypeError, match="argnums"):
        fad.grad(f, 5)(X, 2.0)


def test_gradients_of_containers_and_integers():
    f = lambda p: np.sum(p["w"] * 2) * p["b"][0] + p["b"][1]
    point = {"w": X, "b": (2.0, np.array([1.0, 2.0]))}
    f = lambda p: np.sum(p["w"] * 2) * p["b"][0] + np.sum(p["b"][1] ** 2)
    same(fad.grad(fad.compile(f))(point), fad.grad(f)(point))
    g = lambda x, n: np.sum(x**2) * n
    for n in (3, np.array(3), np.int8(3)):
        for argnums in (0, 1, (0, 1)):
            same(fad.grad(fad.compile(g), argnums)(X, n), fad.grad(g, argnums)(X, n))
    whole = np.arange(3)
    same(fad.grad(fad.compile(g))(whole, 2), fad.grad(g)(whole, 2))


@pytest.mark.parametrize("x", [X, np.array([0.1, 0.2])])
def test_every_transform_of_a_compiled_function(x):
    f = lambda x: np.sum(np.sin(x) * x[::-1] ** 2)
    h = lambda x: np.stack([np.sum(x**3), x[0] * x[1]])
    t = np.cos(x)
    cf, ch = fad.compile(f), fad.compile(h)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    for _ in range(2):
        for scale in (1.0, -0.5):
            p = x * scale
            close(fad.grad(cf)(p), fad.grad(f)(p))
            close(fad.hessian(cf)(p), fad.hessian(f)(p))
            close(fad.jacobian(ch)(p), fad.jacobian(h)(p))
            close(fad.jacobian(fad.grad(cf))(p), fad.hessian(f)(p))
            close(fad.jvp(ch, p, t), fad.jvp(h, p, t))
            close(fad.jvp(ch, (p,), (t,)), fad.jvp(h, (p,), (t,)))
            close(fad.hvp(cf, p, t), fad.hvp(f, p, t))
            close(fad.vjp(ch, p)[0], h(p))
            close(fad.vjp(ch, p)[1](np.ones(2))[0], fad.vjp(h, p)[1](np.ones(2))[0])
            close(fad.linearize(ch, p)[1](t), fad.linearize(h, p)[1](t))
            close(fad.vmap(cf)(np.stack([p, t])), [f(p), f(t)])
            close(fad.vmap(fad.grad(cf))(np.stack([p, t])), [fad.grad(f)(p), fad.grad(f)(t)])
            close(fad.grad(lambda x: np.sum(fad.vmap(cf)(np.stack([x, x]))))(p), 2 * fad.grad(f)(p))
            close(fad.grad(fad.compile(lambda x: np.sum(fad.grad(f)(x) * t)))(p), fad.hvp(f, p, t))
    for transform in (fad.grad, fad.value_and_grad, fad.hessian, fad.jacobian, fad.vmap):
        g = transform(cf)
        assert g is transform(cf)
        assert counts(g)[0] <= 1 or transform is fad.vmap


def test_vmap_of_a_compiled_function_is_compiled():
    f = fad.compile(lambda x, k: np.sin(x) * k)
    mapped = fad.vmap(f, in_axes=(0, None))
    for k in (1.0, 2.0):
        np.testing.assert_allclose(mapped(X, k), np.sin(X) * k, rtol=1e-15)
    assert counts(mapped) == (1, 1, 1)
    tree = fad.vmap(fad.compile(lambda p: p["a"] * p["b"]), in_axes=({"a": 0, "b": None},))
    np.testing.assert_array_equal(tree({"a": X, "b": 2.0}), X * 2)
    np.testing.assert_array_equal(tree({"a": X, "b": 3.0}), X * 3)


def test_dense_matrices_go_over_lanes():
    """A Jacobian of n rows is not n emissions."""

    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def scalars(x):
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))

    sizes = {}
    for n in (10, 100):
        x = np.linspace(0, 1, n)
        for f in (rosenbrock, scalars):
            H = fad.hessian(fad.compile(f))
            np.testing.assert_allclose(H(x), fad.hessian(f)(x), rtol=1e-12, atol=1e-9)
            program = H.program(x)
            sizes[f.__name__, n] = program.instructions + program.scalars
    assert sizes["rosenbrock", 100] <= sizes["rosenbrock", 10] + 20
    assert sizes["scalars", 100] <= 20 * sizes["scalars", 10]


def test_a_rule_that_is_differentiable_once():
    """Its derivative cannot be recorded: the gradient is taken without a program."""

    class Cube(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3 * x**2)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0] * g

    f = fad.compile(lambda x: Cube.apply(x))
    assert (f(2.0), f(3.0)) == (8.0, 27.0)
    with pytest.warns(RuntimeWarning, match="intermediate"):
        assert fad.grad(f)(2.0) == 12.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fad.grad(f)(3.0) == 27.0
    with pytest.raises(NotImplementedError, match="intermediate"):
        fad.grad(fad.grad(f))(2.0)


# --- names ---------------------------------------------------------------------------------------


class Model:
    """Has attributes named as those of a compiled function."""

    def __init__(self, scale):
        self.scale = self.function = self.options = self.clear = self.program = scale

    def __call__(self, x):
        return x * self.scale

    @fad.compile
    def method(self, x, y=1.0):
        """A method."""
        return x**2 * self.scale * y


def test_callable_objects_methods_and_builtins():
    f = fad.compile(Model(3.0))
    assert (f(2.0), fad.grad(f)(2.0)) == (6.0, 3.0)
    assert f.program(2.0).nodes
    assert repr(f) == "<compiled Model>"
    one, other = Model(2.0), Model(5.0)
    for _ in range(2):
        assert (one.method(3.0), other.method(3.0), one.method(3.0, 2.0)) == (18.0, 45.0, 36.0)
        assert (fad.grad(one.method)(3.0), fad.grad(other.method, 1)(3.0, 2.0)) == (12.0, 45.0)
        assert fad.jvp(one.method, 3.0, 1.0) == (18.0, 12.0)
        assert fad.value_and_grad(one.method, argnums=(0, 1))(3.0, 2.0) == (36.0, (24.0, 18.0))
    assert one.method.__doc__ == "A method."
    assert counts(Model.method)[0] == 3
    from functools import partial

    assert fad.compile(partial(lambda x, y: x * y, 2.0))(3.0) == 6.0
    assert fad.compile(np.sin)(1.0) == np.sin(1.0)


# --- threads -------------------------------------------------------------------------------------


def test_many_threads_record_and_replay(rng):
    f = fad.compile(twenty)
    both = fad.value_and_grad(f)
    plain = fad.value_and_grad(twenty)
    points = rng.uniform(-0.1, 1.1, 400).tolist()
    expected = [plain(x) for x in points]
    start = threading.Barrier(8)

    def work(seed):
        start.wait()
        order = np.random.default_rng(seed).permutation(len(points))
        for i in order:
            value, gradient = both(points[i])
            assert value == pytest.approx(expected[i][0], rel=1e-15)
            assert gradient == pytest.approx(expected[i][1], rel=1e-14)
            assert f(points[i]) == value

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()
    assert counts(f) == counts(both) == (20, 1, 20)


def test_errors_of_rules_stay_in_their_thread():
    class Choosy(fad.Function):
        @staticmethod
        def forward(ctx, x):
            if np.any(x < 0):
                raise ValueError(f"{x[0]}")
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    f = fad.compile(lambda x: Choosy.apply(x))
    f(np.ones(3))

    def work(k):
        for i in range(50):
            x = np.full(3, float(k)) if i % 2 else np.full(3, -float(k))
            if i % 2:
                np.testing.assert_array_equal(f(x), 2 * x)
            else:
                with pytest.raises(ValueError, match=f"^-{k}.0$"):
                    f(x)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, k) for k in range(1, 7)]:
            done.result()


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_memory_in_use
def test_programs_are_freed():
    class Double(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def once():
        f = fad.compile(lambda x: np.sum(np.sin(Double.apply(x)) * x[::-1]) if x[0] > 0 else x[0])
        fad.value_and_grad(f)(X)
        f(-X)

    for _ in range(300):
        once()
    before = memory_in_use()
    for _ in range(2000):
        once()
    assert memory_in_use() - before < 4 << 20


# --- single passes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dead", "simplify", "columns", "reassociate", "roll"])
def test_a_pass_alone_keeps_the_values(name, rng):
    from fastad.compile import Compiled

    f = lambda x: np.sum(np.tanh(x[:, None] * x) @ x) + sum(x[i] * x[i + 1] for i in range(3))

    class Only(Compiled):
        def _trace(self, arguments, stages):
            stages.through = lambda trace: trace.through(name, self.options.strict)
            return super()._trace(arguments, stages)

    for strict in (False, True):
        only = Only(f, fad.compile(f, strict=strict).options)
        for _ in range(2):
            x = rng.normal(size=4)
            np.testing.assert_allclose(only(x), f(x), rtol=1e-13)
            if strict and name not in ("reassociate", "columns"):
                assert only(x) == fad.vjp(f, x)[0]
    assert elsewhere(1.0) != 1.0


# --- gradients that are compiled -----------------------------------------------------------------


@pytest.mark.parametrize("transform", [fad.grad, fad.value_and_grad])
def test_a_compiled_gradient_is_the_gradient_of_a_compiled_function(transform, rng):
    def f(x, y):
        total = y
        for i in range(len(x) - 1):
            total = total + np.sin(x[i] * y) * x[i + 1]
        return total

    for argnums in (0, 1, (1, 0)):
        compiled = fad.compile(transform(f, argnums))
        same = transform(fad.compile(f), argnums)
        assert type(compiled) is type(same)
        for _ in range(2):
            x, y = rng.normal(size=50), rng.normal()
            right, found = transform(f, argnums)(x, y), compiled(x, y)
            for a, b in zip(
                np.atleast_1d(np.hstack(flat(found))), np.hstack(flat(right)), strict=True
            ):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
        assert compiled.cache_info().recordings == 1


def flat(result):
    return (
        [np.ravel(v) for part in result for v in flat(part)]
        if isinstance(result, tuple)
        else [np.ravel(result)]
    )


def test_what_a_user_makes_of_a_gradient_is_compiled_as_it_is():
    """functools.wraps hands on what is noted on a function."""
    import functools

    gradient = fad.grad(lambda x: np.sum(x**3))

    @functools.wraps(gradient)
    def doubled(x):
        return 2.0 * gradient(x)

    other = functools.wraps(gradient)(fad.grad(lambda x: np.sum(x**4)))
    x = np.array([1.0, 2.0])
    for _ in range(2):
        np.testing.assert_allclose(fad.compile(other)(x), 4 * x**3)
        np.testing.assert_allclose(fad.compile(doubled)(x), 6 * x**2)
        np.testing.assert_allclose(fad.compile(gradient)(x), 3 * x**2)
    np.testing.assert_allclose(fad.grad(fad.compile(lambda x: np.sum(doubled(x))))(x), 12 * x)


def test_compiled_gradients_nest_and_keep_their_options(rng):
    def f(x, n):
        return np.sum(np.tanh(x) ** n), n

    compiled = fad.compile(fad.grad(f, has_aux=True), static_argnums=1)
    x = rng.normal(size=5)
    for n in (2, 3):
        gradient, aux = compiled(x, n)
        np.testing.assert_allclose(gradient, fad.grad(lambda x, n=n: f(x, n)[0])(x))
        assert aux == n
    assert compiled.cache_info().recordings == 2
    second = fad.compile(fad.grad(fad.grad(lambda x: x**5)))
    assert [second(2.0), second(3.0)] == [160.0, 540.0]
    strict = fad.compile(fad.grad(lambda x: np.sum(np.sin(x))), strict=True)
    np.testing.assert_array_equal(strict(x), fad.grad(lambda x: np.sum(np.sin(x)))(x))


def test_a_compiled_gradient_pickles():
    import pickle

    again = pickle.loads(pickle.dumps(fad.compile(fad.grad(np.sin))))
    assert again(0.0) == 1.0
    assert pickle.loads(pickle.dumps(decorated_gradient)) is decorated_gradient


@fad.compile
@fad.grad
def decorated_gradient(x):
    return x**3
