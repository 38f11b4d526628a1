"""Every kind of bad input: a clear error or the right answer, and the recorder works afterwards."""

import math
import signal
import threading

import numpy as np
import pytest

import fastad as fad
from fastad._calls import _POOL
from fastad._record import current_recorder

X = np.array([0.3, -1.2, 2.0])


@pytest.fixture(autouse=True)
def recorder_works_afterwards():
    yield
    fad.set_memory_limit(0)
    assert current_recorder() is None
    value, gradient = fad.value_and_grad(lambda x: np.sum(np.sin(x) * x))(X)
    assert value == np.sum(np.sin(X) * X)
    np.testing.assert_allclose(gradient, np.cos(X) * X + np.sin(X), rtol=1e-14)
    np.testing.assert_allclose(fad.hessian(lambda x: np.sum(x**3))(X), np.diag(6 * X), rtol=1e-14)
    assert fad.jvp(np.sin, 0.0, 1.0) == (0.0, 1.0)


TRANSFORMS = {
    "grad": lambda f, x: fad.grad(f)(x),
    "value_and_grad": lambda f, x: fad.value_and_grad(f)(x),
    "vjp": lambda f, x: fad.vjp(f, x)[1](np.ones(np.shape(f(x)))[()]),
    "jvp": lambda f, x: fad.jvp(f, x, np.ones(np.shape(x))[()]),
    "jacobian": lambda f, x: fad.jacobian(f)(x),
    "hessian": lambda f, x: fad.hessian(f)(x),
    "linearize": lambda f, x: fad.linearize(f, x)[1](np.ones(np.shape(x))[()]),
    "grad of grad": lambda f, x: fad.grad(lambda y: np.sum(fad.grad(f)(y)))(x),
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


# --- wrong dtype ---------------------------------------------------------------------------------


@every_transform
@pytest.mark.parametrize(
    "x",
    [
        1j,
        np.array([1j, 2.0]),
        "text",
        b"bytes",
        np.array(["a", "b"]),
        np.array([object(), 1.0]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([True, False]),
        np.float16(1.0),
        np.longdouble(1.0),
        np.zeros(2, [("a", float)]),
        object(),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)
def test_wrong_dtype_of_the_argument(transform, x):
    with pytest.raises((TypeError, ValueError)) as caught:
        transform(lambda x: x, x)
    message = str(caught.value)
    assert "real" in message or "dtype" in message or "expected" in message
    if np.iscomplexobj(x):
        assert "complex" in message


@pytest.mark.parametrize(
    "operand",
    [1j, np.complex128(1j), np.array([1j]), "text", np.array(["a"]), None, object(), {}, {1.0}],
)
@pytest.mark.parametrize("point", [1.0, X[:1]])
def test_wrong_operands_inside(operand, point):
    for f in (
        lambda x: x + operand,
        lambda x: operand * x,
        lambda x: np.multiply(x, operand),
        lambda x: np.arctan2(operand, x),
        lambda x: x**operand,
        lambda x: np.where(True, x, operand),
        lambda x: np.concatenate([np.reshape(x, (1,)), operand]),
    ):
        with pytest.raises((TypeError, ValueError, NotImplementedError)):
            fad.grad(lambda x: np.sum(f(x)))(point)  # noqa: B023


@pytest.mark.parametrize("output", [1j, "text", np.array([1j]), np.array(["a"]), object()])
def test_wrong_type_of_the_output(output):
    for transform in ("grad", "jacobian", "jvp"):
        with pytest.raises((TypeError, ValueError)):
            TRANSFORMS[transform](lambda x: output, 1.0)


def test_no_output():
    with pytest.raises(TypeError, match="NoneType"):
        fad.grad(lambda x: None)(1.0)


def test_complex_casts():
    with pytest.raises(TypeError, match="complex"):
        fad.grad(lambda x: np.sum(x.astype(complex)))(X)
    with pytest.raises((TypeError, NotImplementedError)):
        fad.grad(lambda x: np.sum(np.fft.fft(x)))(X)
    with pytest.raises(NotImplementedError, match="numpy"):
        fad.grad(lambda x: np.unwrap(x)[0])(X)


# --- outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "hessian", "grad of grad"])
def test_non_scalar_output(name):
    for f in (lambda x: x * 2, lambda x: x[:1], lambda x: np.ones(3)):
        with pytest.raises(TypeError, match=r"scalar.*shape \((1|3),\).*jacobian or vjp"):
            TRANSFORMS[name](f, X)
    with pytest.raises(TypeError, match=r"scalar|number"):
        TRANSFORMS[name](lambda x: [np.sum(x)], X)


def test_output_that_does_not_depend_on_the_input():
    for name in ("grad", "jacobian", "grad of grad", "linearize", "vjp"):
        result = TRANSFORMS[name](lambda x: 5.0, X)
        result = result[0] if isinstance(result, tuple) else result
        np.testing.assert_array_equal(result, np.zeros(3) if name != "linearize" else 0.0)


def test_an_array_of_another_tape_as_output():
    with fad.Tape() as tape:
        x = tape.variable(1.0)
    with pytest.raises(fad.TapeError, match=r"another tape|closed"):
        fad.grad(lambda y: x)(1.0)


# --- tapes and threads ---------------------------------------------------------------------------


def test_use_after_close():
    with fad.Tape() as tape:
        x = tape.variable(1.0)
    with pytest.raises(fad.TapeError, match="closed"):
        x + 1
    with pytest.raises(fad.TapeError, match="closed"):
        fad.grad(lambda y: x * y)(1.0)


def test_mixing_tapes():
    with fad.Tape() as one, fad.Tape() as two:
        x, y = one.variable(1.0), two.variable(X)
        for mix in (
            lambda: x + y,
            lambda: y * x,
            lambda: np.arctan2(x, y),
            lambda: np.stack([x, y[0]]),
            lambda: np.where(y > 0, x, y),
            lambda: y.__setitem__(0, x),
            lambda: y @ np.array([x, x, x]),
            lambda: np.concatenate([y, np.stack([x])]),
        ):
            with pytest.raises(fad.TapeError, match="different tapes"):
                mix()
        with pytest.raises(fad.TapeError, match="another tape"):
            two.gradient(x, y)


def in_thread(f):
    """Outcome of `f` in another thread: its value or its error."""
    outcome = []

    def run():
        try:
            outcome.append(f())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_mixing_threads():
    with fad.Tape() as tape:
        x, v = tape.variable(2.0), tape.variable(X)
        for use in (
            lambda: x + 1,
            lambda: np.sin(v),
            lambda: v[0],
            lambda: tape.variable(1.0),
            lambda: fad.grad(lambda y: x * y)(1.0),
            lambda: v.__setitem__(0, 1.0),
        ):
            error = in_thread(use)
            assert isinstance(error, fad.TapeError)
            assert "another thread" in str(error)
        assert in_thread(lambda: x.value) == 2.0
        # A thread's own gradients are its own.
        assert in_thread(lambda: fad.grad(np.sin)(0.0)) == 1.0
        y = x * x
    assert tape.gradient(y, x) == 4.0


def test_threads_side_by_side():
    f = lambda x: np.sum(np.sin(x) * x[::-1]) * x[0]
    points = np.random.default_rng(1).normal(size=(8, 50))
    alone = [fad.grad(f)(x) for x in points]
    results = [None] * 8

    def run(i):
        for _ in range(50):
            results[i] = fad.grad(f)(points[i])
            fad.hvp(f, points[i], points[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, results, strict=True):
        np.testing.assert_array_equal(one, other)


# --- conversions ---------------------------------------------------------------------------------


@every_transform
@pytest.mark.parametrize(
    "convert",
    [float, math.sin, lambda x: np.asarray(x, float), lambda x: np.float64(x), lambda x: int(x)],
    ids=["float", "math.sin", "np.asarray", "np.float64", "int"],
)
def test_conversions_to_constants(transform, convert):
    with pytest.raises(TypeError, match="stop_gradient"):
        transform(lambda x: convert(x) * x if isinstance(x, fad.Array) else x, 1.0)


# --- what belongs to the user --------------------------------------------------------------------


@every_transform
def test_the_users_array_is_never_written_to(transform):
    def f(x):
        x[0] = x[1] * 2
        x += 1.0
        x[::-1][0] *= 3.0
        return np.sum(x * x)

    mine = X.copy()
    mine.flags.writeable = False
    try:
        transform(f, mine)
    except ValueError as error:  # `f` itself, called on the ndarray by the test's own table
        assert "read-only" in str(error)
    np.testing.assert_array_equal(mine, X)


def test_writing_to_the_users_array_after_the_call():
    mine = X.copy()
    with fad.Tape() as tape:
        x = tape.variable(mine)
        y = np.sum(x * mine)
        mine[:] = 0
    np.testing.assert_array_equal(tape.gradient(y, x), X)
    mine = X.copy()
    _, pull = fad.vjp(lambda x: x * mine, mine)
    mine[:] = 0
    np.testing.assert_array_equal(pull(np.ones(3))[0], X)


# --- shapes --------------------------------------------------------------------------------------


@every_transform
@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.sum(x + np.ones(2)), r"\(3,\).*\(2,\)"),
        (lambda x: np.sum(np.ones((2, 4)) * x), r"\(2, 4\).*\(3,\)"),
        (lambda x: np.sum(x @ np.ones((2, 2))), "matmul"),
        (lambda x: np.sum(x.reshape(2, 2)), "reshape"),
        (lambda x: np.sum(np.concatenate([x, np.ones((2, 2))])), "concatenate|dimensions"),
        (lambda x: np.sum(x[[0, 5]]), "out of bounds"),
        (lambda x: np.sum(x[3]), "out of bounds"),
        (lambda x: np.sum(np.where(np.ones(2, bool), x, 0.0)), r"\(2,\).*\(3,\)"),
        (lambda x: np.sum(np.broadcast_to(x, (2, 2))), "broadcast"),
        (lambda x: np.sum(x, axis=1), "axis"),
        (lambda x: x.nonsense, "nonsense"),
    ],
    ids=range(11),
)
def test_shape_mismatch(transform, f, message):
    with pytest.raises((ValueError, IndexError, AttributeError), match=message):
        transform(f, X)


# --- memory --------------------------------------------------------------------------------------


@every_transform
def test_the_limit_in_the_middle(transform):
    calls = []

    def f(x):
        calls.append(1)
        for _ in range(100_000 if isinstance(x, fad.Array) else 1):
            x = np.sin(x)
        return x

    fad.set_memory_limit(1 << 20)
    with pytest.raises(fad.TapeError, match="limit"):
        transform(f, 0.5)
    assert calls


@every_transform
def test_a_failed_allocation_in_the_middle(transform):
    def f(x):
        if isinstance(x, fad.Array):
            fad._core.fail_allocation(1)
        return np.sum(x[:, None] * np.ones((3, 300_000)))

    _POOL.clear()
    fad._core.drop_idle_tapes()  # memory that is kept would serve
    try:
        with pytest.raises(MemoryError):
            transform(f, X)
    finally:
        fad._core.fail_allocation(0)


def test_an_array_too_large_for_any_memory():
    with pytest.raises((MemoryError, ValueError)):
        fad.grad(lambda x: np.sum(np.broadcast_to(x, (2**50, 3))))(X)


# --- exceptions ----------------------------------------------------------------------------------


@every_transform
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_f(transform, error):
    def f(x):
        y = np.sin(x) * x
        if isinstance(x, fad.Array):
            raise error("mine")
        return y

    with pytest.raises(error, match="mine"):
        transform(f, 1.0)
    with pytest.raises(error, match="mine"), fad.Tape() as tape:
        f(tape.variable(1.0))
    assert current_recorder() is None


def test_an_exception_that_f_handles():
    def f(x):
        try:
            fad.grad(lambda y: np.sum(y * x + np.ones(2)))(np.ones(3))
        except ValueError:
            return x * x
        raise AssertionError

    assert fad.grad(f)(3.0) == 6.0
    assert fad.grad(fad.grad(f))(3.0) == 2.0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
def test_ctrl_c():
    """A real signal, at any moment of the recording."""

    def f(x):
        while True:
            x = np.sin(x) * 1.5

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for wait in (0.01, 0.02, 0.05):
            signal.setitimer(signal.ITIMER_REAL, wait)
            with pytest.raises(KeyboardInterrupt):
                fad.grad(f)(1.0)
            signal.setitimer(signal.ITIMER_REAL, wait)
            with pytest.raises(KeyboardInterrupt):
                fad.jvp(f, 1.0, 1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_recursive_f_fails_as_python_does():
    def f(x):
        return f(x + 1.0)

    with pytest.raises(RecursionError):
        fad.grad(f)(1.0)


# --- no recursion anywhere -----------------------------------------------------------------------


def chain(x, n):
    for _ in range(n // 2):
        x = np.negative(x) if isinstance(x, np.ndarray) else -x
        x = x * 1.0000001
    return x


def test_a_million_chained_operations():
    n = 10**6
    slope = 1.0000001 ** (n // 2)
    assert fad.grad(lambda x: chain(x, n))(0.5) == pytest.approx(slope, rel=1e-9)
    assert fad.jvp(lambda x: chain(x, n), 0.5, 1.0)[1] == pytest.approx(slope, rel=1e-9)


def test_a_million_chained_operations_twice():
    n = 10**6

    def f(x):
        return chain(x * x, n)

    slope = 1.0000001 ** (n // 2)
    assert fad.grad(fad.grad(f))(0.5) == pytest.approx(2 * slope, rel=1e-9)


def test_chained_array_operations():
    n = 10**5

    def f(x):
        for _ in range(n):
            x = x * 1.00001
        return np.sum(x * x)

    expected = 2 * X * 1.00001 ** (2 * n)
    np.testing.assert_allclose(fad.grad(f)(X), expected, rtol=1e-9)
    np.testing.assert_allclose(fad.hvp(f, X, X), expected, rtol=1e-9)


@pytest.mark.parametrize("depth", [10, 999, 1000, 1001, 20_000])
def test_deep_chains_of_views(depth):
    def f(x):
        for _ in range(depth):
            x = x[::-1]
        return np.sum(x * np.arange(3.0))

    expected = np.arange(3.0) if depth % 2 == 0 else np.arange(3.0)[::-1]
    np.testing.assert_array_equal(fad.grad(f)(X), expected)


@pytest.mark.parametrize("depth", [10, 900])
def test_writing_through_deep_chains_of_views(depth):
    def f(x):
        y = x * 1.0
        view = y
        for _ in range(depth):
            view = view[::-1]
        view[0] = 10.0 * x[1]
        return np.sum(y * np.arange(1.0, 4.0))

    np.testing.assert_array_equal(fad.grad(f)(X), [0, 2 + 10, 3])


def test_writing_through_too_many_views():
    def f(x):
        y = x * 1.0
        view = y
        for _ in range(5000):
            view = view[::-1]
        view[0] = 0.0
        return np.sum(y)

    with pytest.raises(fad.TapeError, match="views"):
        fad.grad(f)(X)


def test_many_views_are_destroyed_without_recursion():
    with fad.Tape() as tape:
        view = tape.variable(X)
        for _ in range(100_000):
            view = view[::-1]
    del view


def test_deeply_nested_transforms():
    f = np.sin
    for _ in range(8):
        f = fad.grad(f)
    assert f(0.3) == pytest.approx(math.sin(0.3))


def test_wide_sums():
    x = np.arange(10**4, dtype=float)
    np.testing.assert_array_equal(fad.grad(lambda x: sum(list(x)))(x), np.ones(10**4))
    gradient = fad.grad(lambda x: fad.grad(lambda y: sum(v * v for v in y))(x)[7])(x)
    assert gradient[7] == 2.0


# --- wrong calls ---------------------------------------------------------------------------------


def test_wrong_arguments_of_transforms():
    with pytest.raises(TypeError):
        fad.grad(np.sin)()
    with pytest.raises(TypeError):
        fad.grad(3.0)(1.0)
    with pytest.raises((ValueError, TypeError)):
        fad.jvp(np.sin, 1.0, "text")
    with pytest.raises((ValueError, TypeError)):
        fad.vjp(np.sin, 1.0)[1]("text")
    with pytest.raises((ValueError, TypeError)):
        fad.vjp(np.sin, 1.0)[1](1j)
    with pytest.raises((ValueError, TypeError)):
        fad.jvp(np.sin, 1.0, 1j)
    with pytest.raises((ValueError, TypeError)):
        fad.linearize(np.sin, X)[1](np.ones(3) * 1j)


@pytest.mark.parametrize(
    "function", [np.unwrap, np.i0, np.fft.fft, np.linalg.eig], ids=lambda f: f.__name__
)
def test_a_function_without_a_rule_is_named(function):
    with pytest.raises(NotImplementedError, match=function.__name__):
        fad.grad(lambda x: np.sum(function(np.outer(x, x))))(X)
