"""One-shot gradients by large variables: nothing is computed until a value is asked for.

Each function is differentiated in three ways: as it comes, by a program whatever that costs, and
by a sweep. All are held against the function's value, and a recording that computes at once.
"""

import threading

import numpy as np
import pytest

import fastad as fad
from fastad import _core, _deferred, transforms

N = 1 << 17  # the least that is deferred
X = np.random.default_rng(7).uniform(0.2, 1.4, N) * np.where(np.arange(N) % 3, 1.0, -1.0)
WAYS = {"default": (1 << 14, 16), "program": (0, 0), "sweep": (1 << 40, 16)}


def at_once(g, *args):
    """What `g` gives without deferring: a limit of memory rules it out."""
    fad.set_memory_limit(1 << 40)
    try:
        return g(*args)
    finally:
        fad.set_memory_limit(0)


@pytest.fixture(params=list(WAYS))
def way(request, monkeypatch):
    fewest, saved = WAYS[request.param]
    monkeypatch.setattr(_deferred, "FEWEST", fewest)
    monkeypatch.setattr(_deferred, "SAVED", saved)
    return request.param


@pytest.fixture
def ends(monkeypatch):
    """How each recording ended: by a program, by a sweep, or because a value was asked for."""
    found = []

    original, run = transforms._value_and_sweep, _deferred.run_deferred

    def spy(recorder, output, nodes):
        result = run(recorder, output, nodes)
        found.append("sweep" if result is None else "program")
        return result

    def outer(recorder, output, nodes):
        if not recorder.deferred:
            found.append("asked")
        return original(recorder, output, nodes)

    monkeypatch.setattr(transforms, "run_deferred", spy)
    monkeypatch.setattr(transforms, "_value_and_sweep", outer)
    return found


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_gradient(x):
    g = np.zeros_like(x)
    inner = x[1:] - x[:-1] ** 2
    g[1:] += 200 * inner
    g[:-1] += -400 * inner * x[:-1] - 2 * (1 - x[:-1])
    return g


# --- functions ---------------------------------------------------------------------------------


class Cubed(fad.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2


def logsumexp(x):
    top = np.max(x)
    return np.log(np.sum(np.exp(x - top))) + top


def matrix(x):
    m = np.reshape(x, (256, -1))
    return np.sum(np.tanh(m @ m.T)) + np.mean(np.var(m, axis=0))


def scalars(x):
    total = 0.0
    for k in range(40):
        total += np.sin(x[k]) * x[k + 1] / (1.0 + x[k] ** 2)
    return total


def picked(x):
    mask = x > 0.5
    return np.sum(np.where(mask, x**2, np.exp(-x))) + np.sum(np.minimum(x, x[::-1]))


def joined(x):
    y = np.concatenate([x[:5], x[::2] * 2.0, np.stack([x[0], x[1] * x[2]])])
    return np.sum(y * np.arange(y.size)) / y.size + np.sum(np.cumsum(x[:50]) ** 2)


def gathered(x):
    return np.sum(x[np.array([3, 5, 3, 77])] ** 2) * np.prod(x[:5])


def nested(x):
    inner = fad.grad(lambda y: np.sum(np.sin(y) * x))(2.0 * x)
    return np.sum(inner * x)


def pushed(x):
    return np.sum(fad.jvp(lambda y: y * y * x, x, np.cos(x))[1])


def branch(x):
    s = np.sum(x**2)
    return s * 2.0 if s > 1.0 else np.sum(x)


def branch_of_elements(x):
    return np.sum(x**3) * x[3] if x[3] > x[4] and not x[5] <= 0.5 else np.sum(np.sin(x))


def truth(x):
    y = np.sin(x)
    return np.sum(y * x) if np.any(y > 0.9) and bool(y[1] > -2) else np.sum(y)


def value_inside(x):
    y = x * 3.0
    scale = np.max(np.abs(y.value)) if isinstance(y, fad.Array) else np.max(np.abs(y))
    return np.sum(y**2) + scale * 0.0


def looked_at(x):
    y = np.exp(x)
    assert repr(y) and str(np.sum(y))
    return np.sum(y * x)


def stopped(x):
    return np.sum(x**2) * float(fad.stop_gradient(x[0])) ** 0


def mask_as_index(x):
    return np.sum(x[x > 0.5] ** 2)


def computed_index(x):
    return np.sum(x[np.argsort(x)[:10]] ** 2) + x[np.argmax(x)]


def in_order(x):
    return np.sum(np.sort(x)[:100] * np.arange(100.0)) + np.median(x)


def written(x):
    y = x * 2.0
    y[3:9] = x[4:10] ** 2
    y[np.array([20, 30])] = 5.0
    for k in range(100, 110):
        y[k] = y[k - 1] * x[k]
    return np.sum(y**2)


def written_late(x):
    y = np.sin(x)
    s = np.sum(y * x)
    y += x
    z = y[2:50]
    z *= 3.0
    return s + np.sum(y**2)


def argument_written(x):
    before = np.sum(x[:10] ** 2)
    x[0] = x[1] * 2.0
    x *= 0.5
    return np.sum(x**2) + before


def constant_written(x):
    y = np.zeros_like(x)
    s = np.sum(x * x)
    y[4] = x[5] * s
    y[7] = 3.0
    return np.sum(y * x) + s


def output_given(x):
    y = np.multiply(x, x)
    np.add(y, x, out=y)
    return np.sum(y * x)


def solved(x):
    m = np.reshape(x[:9], (3, 3)) + 5.0 * np.eye(3)
    return np.sum(np.linalg.solve(m, x[9:12])) + np.sum(x**2)


def own_rule(x):
    return np.sum(Cubed.apply(x * 2.0) * x)


def checkpointed(x):
    return np.sum(fad.checkpoint(lambda y: np.sin(y) * x)(x * 2.0))


def scanned(x):
    carry, ys = fad.scan(lambda c, y: (c * 0.5 + y, c * y), x[0], x[:20])
    return np.sum(ys) + carry + np.sum(x**2)


def lanes(x):
    m = np.reshape(x, (-1, 16))
    return np.sum(fad.vmap(lambda row: np.sum(row**2) * row[3])(m))


def lanes_of_constants(x):
    y = np.sin(x)
    found = fad.vmap(lambda row: np.sum(row**3))(np.ones((8, 4)))
    return np.sum(y) * np.sum(found)


def matrix_inside(x):
    return np.sum(fad.jacobian(lambda y: np.sin(y) * x[:3])(x[:3] * 2.0)) + np.sum(x**2)


PLAIN = [rosenbrock, logsumexp, matrix, scalars, picked, joined, gathered, nested, pushed]
ASKING = [branch, branch_of_elements, truth, value_inside, looked_at, stopped, mask_as_index]
ASKING += [computed_index, in_order, written, written_late, argument_written, constant_written]
ASKING += [output_given, solved, own_rule, checkpointed, scanned, lanes, lanes_of_constants]
ASKING += [matrix_inside]


def slope(f, x, d, step=1e-6):
    return (f(x + step * d) - f(x - step * d)) / (2 * step)


@pytest.mark.parametrize("f", PLAIN + ASKING, ids=lambda f: f.__name__)
def test_values_and_gradients(f, way, ends):
    value, gradient = fad.value_and_grad(f)(X)
    expected, same = at_once(fad.value_and_grad(f), X)
    assert type(value) is type(expected)
    assert gradient.dtype == X.dtype
    np.testing.assert_allclose(value, f(X.copy()), rtol=1e-12)
    np.testing.assert_allclose(gradient, same, rtol=1e-9, atol=1e-12 * np.max(np.abs(same)))
    d = np.random.default_rng(1).normal(size=N)
    d /= np.linalg.norm(d)
    scale = np.linalg.norm(gradient) + abs(value)
    assert abs(gradient @ d - slope(f, X, d)) <= 3e-5 * scale
    if f in ASKING:
        assert ends[:2] == ["asked", "asked"]
    elif way != "default":
        assert ends[:2] == [way, "asked"]


def test_rosenbrock_is_one_run_of_a_program(ends):
    for n in (N, 10**6):
        x = np.random.default_rng(n).normal(size=n)
        value, gradient = fad.value_and_grad(rosenbrock)(x)
        np.testing.assert_allclose(value, rosenbrock(x), rtol=1e-13)
        np.testing.assert_allclose(gradient, rosenbrock_gradient(x), rtol=1e-12, atol=1e-9)
        np.testing.assert_array_equal(fad.grad(rosenbrock)(x), gradient)
    assert ends == ["program"] * 4


def test_small_variables_and_limits_are_not_deferred(ends):
    fad.grad(rosenbrock)(X[:-1])
    at_once(fad.grad(rosenbrock), X)
    assert ends == ["asked"] * 2


def test_what_a_program_does_not_make_faster_is_swept(ends):
    fad.grad(scalars)(X)
    assert ends == ["sweep"]


@pytest.mark.parametrize("f", [rosenbrock, branch, written, lanes], ids=lambda f: f.__name__)
def test_a_function_runs_once(f, way):
    calls = []

    def counted(x):
        calls.append(len(calls))
        return f(x)

    fad.value_and_grad(counted)(X)
    assert calls == [0]


def test_random_numbers_are_drawn_once(way):
    def noisy(x):
        weights = rng.normal(size=N)
        s = np.sum(x * weights)
        return s * rng.normal() if s > -1e9 else s

    rng = np.random.default_rng(3)
    value, gradient = fad.value_and_grad(noisy)(X)
    rng = np.random.default_rng(3)
    np.testing.assert_allclose(value, noisy(X), rtol=1e-12)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=N)
    np.testing.assert_allclose(gradient, weights * rng.normal(), rtol=1e-12)


def test_arrays_that_are_overwritten_while_f_runs_count_as_they_were(way):
    x, a = X.copy(), np.cos(X)

    def f(y):
        z = y * a
        a[:] = np.nan
        x[:] = np.nan
        return np.sum(z * y)

    np.testing.assert_allclose(fad.grad(f)(x), 2 * X * np.cos(X), rtol=1e-13)


def test_special_values(way):
    x = X.copy()
    x[:6] = 0.0, -1.0, np.inf, -np.inf, np.nan, 4.0

    def f(x):
        root = np.where(x > 0, np.sqrt(x), 0.0)
        return np.sum(np.where(np.isfinite(root), root, 0.0)) + np.sum(np.maximum(x[5:], 0.3))

    expected = at_once(fad.value_and_grad(f), x)
    value, gradient = fad.value_and_grad(f)(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-13)
    np.testing.assert_array_equal(gradient[:5], np.zeros(5))
    assert gradient[5] == 0.25 + 1.0


def test_nan_and_infinity_reach_the_result(way):
    for bad in (np.nan, np.inf, -np.inf):
        x = X.copy()
        x[77] = bad
        value, gradient = fad.value_and_grad(lambda x: np.sum(x * np.abs(x)))(x)
        np.testing.assert_equal(value, np.sum(x * np.abs(x)))
        np.testing.assert_allclose(gradient, 2 * np.abs(x), rtol=1e-15)


FORMS = ["reversed", "strided", "fortran", "read-only", "swapped", "matrix"]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_argument(form, way):
    x = {
        "reversed": lambda: X[::-1],
        "strided": lambda: np.repeat(X, 3)[::3],
        "fortran": lambda: np.asfortranarray(X.reshape(256, -1)),
        "read-only": lambda: X.view(),
        "swapped": lambda: X.astype(X.dtype.newbyteorder()),
        "matrix": lambda: X.reshape(16, 64, -1).transpose(2, 0, 1),
    }[form]()
    if form == "read-only":
        x.flags.writeable = False
    gradient = fad.grad(lambda x: np.sum(np.sin(x) * x))(x)
    assert gradient.shape == x.shape
    assert gradient.flags.writeable
    np.testing.assert_allclose(gradient, np.cos(x) * x + np.sin(x), rtol=1e-12, atol=1e-14)


def test_single_precision(way):
    x = X.astype(np.float32)
    value, gradient = fad.value_and_grad(rosenbrock)(x)
    expected, same = at_once(fad.value_and_grad(rosenbrock), x)
    assert (type(value), value.dtype) == (type(expected), expected.dtype)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(value, rosenbrock(X), rtol=2e-6)
    np.testing.assert_allclose(gradient, same, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(gradient, rosenbrock_gradient(X), rtol=1e-3, atol=1e-3)


def test_sums_of_many_single_precision_numbers():
    x = np.random.default_rng(0).uniform(0.5, 1.5, 3 * 10**6).astype(np.float32)
    value = fad.value_and_grad(lambda x: np.sum(x * x))(x)[0]
    np.testing.assert_allclose(value, np.sum(x.astype(float) ** 2), rtol=2e-6)


def test_several_arguments(way, ends):
    weights, bias, data = X.reshape(256, -1), 0.25, np.cos(X[:256])

    def f(w, b, a, scale=1.0):
        return np.sum(np.tanh(w + b) * scale) + np.sum((a @ w) ** 2)

    for argnums in (0, 1, (0, 1), (2, 0), (0, 1, 2), -2):
        both = fad.value_and_grad(f, argnums)
        value, gradients = both(weights, bias, data, scale=2.0)
        expected, same = at_once(lambda g=both: g(weights, bias, data, scale=2.0))
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert type(gradients) is type(same)
        pairs = zip(gradients, same, strict=True) if type(same) is tuple else [(gradients, same)]
        for ours, theirs in pairs:
            assert type(ours) is type(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    assert "asked" in ends
    by_both = fad.grad(lambda x, y: np.sum(x * y**2), (0, 1))(X, X)
    np.testing.assert_allclose(by_both, [X**2, 2 * X**2], rtol=1e-14)


def test_one_argument_twice(way):
    first, second = fad.grad(lambda x: np.sum(x**3), (0, 0))(X)
    expected = at_once(lambda: fad.grad(lambda x: np.sum(x**3), (0, 0))(X))
    np.testing.assert_allclose((first, second), expected, rtol=1e-14)


def test_containers_and_aux(way, ends):
    point = {"w": X, "b": (2.0, np.array([1.0, 2.0]))}

    def f(p):
        y = np.sin(p["w"]) * p["b"][0]
        return np.sum(y * p["w"]) + np.sum(p["b"][1] ** 2), {"y": y, "n": 3}

    (value, aux), gradient = fad.value_and_grad(f, has_aux=True)(point)
    assert ends == ["asked"]
    expected = np.sum(np.sin(X) * 2 * X) + 5
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_array_equal(aux["y"], np.sin(X) * 2.0)
    by_w = 2 * (np.cos(X) * X + np.sin(X))
    np.testing.assert_allclose(gradient["w"], by_w, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient["b"][0], np.sum(np.sin(X) * X), rtol=1e-12)
    np.testing.assert_array_equal(gradient["b"][1], [2.0, 4.0])


def test_outputs_that_do_not_depend_on_the_variable(way):
    def of_constants(x):
        return np.sum(np.zeros_like(x) + 1.0)

    for f, expected in ((lambda x: 3.0, 3.0), (of_constants, N), (lambda x: np.sum(x > 9.0), 0)):
        value, gradient = fad.value_and_grad(f)(X)
        assert value == expected
        np.testing.assert_array_equal(gradient, np.zeros(N))
    for f in (lambda x: np.sum(np.floor(x)), lambda x: np.sum(fad.stop_gradient(x))):
        value, gradient = fad.value_and_grad(f)(X)
        np.testing.assert_allclose(value, np.sum(f(X)), rtol=1e-12)
        np.testing.assert_array_equal(gradient, np.zeros(N))


def test_higher_orders_of_large_variables():
    d = np.cos(X)
    f = lambda x: np.sum(np.sin(x) * x**2)
    expected = at_once(lambda: fad.hvp(f, X, d))
    np.testing.assert_array_equal(fad.hvp(f, X, d), expected)
    g = fad.grad(lambda x: np.sum(fad.grad(f)(x) * d))
    np.testing.assert_allclose(g(X), expected, rtol=1e-10, atol=1e-11)
    value, pull = fad.vjp(f, X)
    first, second = pull(1.0)[0], pull(2.0)[0]
    np.testing.assert_array_equal(2 * first, second)
    np.testing.assert_allclose(fad.grad(f)(X), first, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(fad.jvp(f, X, d)[0], value)


def test_an_error_in_between_leaves_nothing_behind(way):
    class StopError(Exception):
        pass

    def fails(x):
        y = np.sin(x) * 2.0
        if fails.late:
            np.sum(y).value  # noqa: B018 - computes
        raise StopError

    for late in (False, True):
        fails.late = late
        with pytest.raises(StopError):
            fad.grad(fails)(X)
        with pytest.raises(ValueError, match="broadcast"):
            fad.grad(lambda x: np.sum(x * np.ones(3)))(X)
        with pytest.raises(TypeError, match="scalar"):
            fad.grad(lambda x: x * 2.0)(X)
        with pytest.raises(TypeError, match="drop its derivative"):
            fad.grad(lambda x: float(np.sum(x)))(X)
        assert fad.value_and_grad(branch)(X[:9])[0] == branch(X[:9])
        gradient = fad.grad(rosenbrock)(X)
        np.testing.assert_allclose(gradient, rosenbrock_gradient(X), rtol=1e-11, atol=1e-11)


def test_arrays_that_outlive_the_call_are_refused(way):
    kept = []

    def f(x):
        kept.append(x * 2.0)
        return np.sum(kept[-1])

    fad.grad(f)(X)
    with pytest.raises(fad.TapeError, match="reset"):
        kept[0].value  # noqa: B018


def test_no_value_is_asked_for_while_the_program_is_made(monkeypatch):
    """As another thread might, which has an Array of the function."""
    kept, refused = [], []

    def f(x):
        kept.append(np.sin(x))
        return np.sum(kept[-1])

    def optimised(trace, strict, **options):
        with pytest.raises(RuntimeError, match="under way"):
            kept[-1].value  # noqa: B018
        refused.append(len(trace))
        return original(trace, strict, **options)

    original = _deferred.optimised
    monkeypatch.setattr(_deferred, "optimised", optimised)
    np.testing.assert_allclose(fad.grad(f)(X), np.cos(X), rtol=1e-12)
    assert len(refused) == 2


@pytest.mark.parametrize("f", [rosenbrock, branch, written], ids=lambda f: f.__name__)
def test_allocations_that_fail(f, way):
    expected = fad.grad(f)(X)
    for n in range(1, 200):
        _core.drop_idle_tapes()
        _core.fail_allocation(n)
        try:
            gradient = fad.grad(f)(X)
        except MemoryError:
            continue
        finally:
            _core.fail_allocation(0)
        np.testing.assert_array_equal(gradient, expected)
        break
    np.testing.assert_array_equal(fad.grad(f)(X), expected)


def test_threads_each_with_its_own(way):
    expected = {f: fad.grad(f)(X) for f in (rosenbrock, branch, written)}
    wrong = []

    def work(f):
        wrong.extend(f for _ in range(10) if not np.array_equal(fad.grad(f)(X), expected[f]))

    threads = [threading.Thread(target=work, args=(f,)) for f in expected for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_number_of_threads_does_not_change_the_bits():
    x = np.random.default_rng(2).normal(size=10**6)
    expected = fad.value_and_grad(rosenbrock)(x)
    before = fad.get_num_threads()
    try:
        fad.set_num_threads(2)
        value, gradient = fad.value_and_grad(rosenbrock)(x)
    finally:
        fad.set_num_threads(before)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


def test_comparisons_recorded_after_a_cast_are_computed_again(way):
    """A comparison of a number with a float32 array of one element."""

    def f(x, y):
        return np.where(np.greater(x[0], y), np.sum(x**2), np.sum(x)) + y

    for y in (np.float32(-3.0), np.float32(3.0)):
        for _ in range(2):
            value, (by_x, by_y) = fad.value_and_grad(f, (0, 1))(X, y)
            np.testing.assert_allclose(value, f(X, y), rtol=1e-12)
            np.testing.assert_allclose(by_x, 2 * X if y < 0 else np.ones(N), rtol=1e-13)
            assert by_y == 1.0
