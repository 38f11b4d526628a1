"""Threads inside a program: the same bits for any number of them, whatever they share."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_random_programs import BINARY, REDUCE, UNARY

import fastad as fad

COUNTS = (1, 2, 3, 7)
N = 60_000  # some regions are wide enough to be split from here on
rng = np.random.default_rng(19)
PLACES = rng.integers(0, N, N)
SPREAD = rng.integers(0, 50, N)
WEIGHTS = rng.normal(size=(8, 5))


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    fad.set_num_threads(1)


def bits(result):
    """What a call gave, as bytes."""
    if isinstance(result, (tuple, list)):
        return [bits(item) for item in result]
    return np.asarray(result).tobytes()


def on_each_count(call, repeat=2):
    """The result of `call` on one thread, once that of any number of threads is the same."""
    fad.set_num_threads(1)
    result = call()
    for count in COUNTS:
        fad.set_num_threads(count)
        for _ in range(repeat):
            assert bits(call()) == bits(result), f"other bits with {count} threads"
    return result


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def stencil(x):
    y = np.tanh(x)
    return np.sum((y[:-2] - 2 * y[1:-1] + y[2:]) ** 2 * np.exp(-y[1:-1]))


def gathered(x):
    return np.sum(np.sin(x[PLACES]) * x[SPREAD] * np.cos(x))


def written(x):
    y = np.sin(x) * 2.0
    y[1:] += x[:-1] * y[1:]
    y[::3] = np.cos(y[::3])
    y[SPREAD] = np.exp(-x)
    return np.sum(y * y)


def rows(x):
    x = x.reshape(-1, 6)
    return np.sum(np.sum(np.sin(x) * x, axis=1) ** 2)


def columns(x):
    x = x.reshape(-1, 6)
    return np.sum(np.sum(np.tanh(x) * x, axis=0) ** 2) + np.sum(x * np.mean(np.sin(x), axis=0))


def table(x):
    x = x.reshape(200, -1)
    return np.sum(np.sin(x) * np.sum(np.cos(x), axis=0) * np.sum(x * x, axis=1)[:, None])


def joined(x):
    y = np.concatenate([np.sin(x[:30_000]) * x[:30_000], np.cos(x[30_000:]) * x[:30_000]])
    return np.sum(y * y[::-1] * x)


def many_sums(x):
    return sum(np.sum(np.sin(k * x) * x) * k for k in range(1, 13))


def turned(x):
    x = x.reshape(300, 200)
    return np.sum(np.sin(x.T) * x.T * np.exp(-x.T) + np.where(x.T > 0, x.T, x.T**2))


FUNCTIONS = [
    rosenbrock,
    stencil,
    gathered,
    written,
    rows,
    columns,
    table,
    joined,
    many_sums,
    turned,
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradients(f, strict, dtype):
    x = rng.uniform(-1.0, 1.0, N).astype(dtype)
    both = fad.value_and_grad(fad.compile(f, strict=strict))
    value, gradient = on_each_count(lambda: both(x))
    expected = fad.value_and_grad(f)(x)
    tolerance = 1e-10 if dtype == np.float64 else 2e-3
    assert np.allclose(value, expected[0], rtol=tolerance)
    assert np.allclose(gradient, expected[1], rtol=tolerance, atol=tolerance)


def test_second_derivatives():
    x, v = rng.uniform(-1.0, 1.0, (2, N))
    f = fad.compile(stencil)
    on_each_count(lambda: fad.hvp(f, (x,), (v,)))
    on_each_count(lambda: fad.jvp(fad.compile(np.cumsum), (x,), (v,)))


@pytest.mark.parametrize("seed", range(12))
def test_random_functions(seed):
    """Operations of the random programs on long vectors; gradients too."""
    choice = np.random.default_rng(seed)
    unary, binary, reduce = (
        [items[i] for i in choice.integers(0, len(items) - 1, 8)]
        for items in (UNARY, BINARY, REDUCE)
    )
    shifts = choice.integers(0, 3, 8)

    def f(x):
        values = [x]
        for k in range(8):
            a, b = values[-1], values[k // 2]
            n = min(len(a), len(b)) - 2
            s = shifts[k]
            values.append(np.tanh(binary[k](unary[k](a)[s : s + n], b[2 - s : 2 - s + n])))
        return sum(r(v) for r, v in zip(reduce, values, strict=False))

    x = choice.uniform(-1.0, 1.0, 40_000)
    both = fad.value_and_grad(fad.compile(f))
    on_each_count(lambda: both(x))


# --- lanes ---------------------------------------------------------------------------------------


def pendulum(angle, speed):
    for _ in range(6):
        speed = speed - 0.1 * np.sin(angle) - 0.01 * speed * np.cos(speed)
        angle = angle + 0.1 * speed
    return angle * speed


@pytest.mark.parametrize("lanes", [1, 127, 40_000, 40_001, 65_537])
@pytest.mark.parametrize("compiled", [False, True])
def test_lanes(lanes, compiled):
    angles, speeds = rng.normal(size=(2, lanes))
    f = fad.compile(pendulum) if compiled else pendulum
    both = fad.vmap(fad.value_and_grad(f, argnums=(0, 1)))
    value, _ = on_each_count(lambda: both(angles, speeds))
    assert np.allclose(value, pendulum(angles, speeds))


@pytest.mark.parametrize("compiled", [False, True])
def test_lanes_of_arrays(compiled):
    """Outputs side by side, sums in each lane, weights that all lanes share."""
    x = rng.normal(size=(20_011, 8))

    def layer(weights, x):
        return np.sum(np.tanh(x @ weights) ** 2) + x[3] * np.sin(x[0])

    f = fad.compile(layer) if compiled else layer
    each = fad.vmap(fad.grad(f, argnums=1), in_axes=(None, 0))
    on_each_count(lambda: each(WEIGHTS, x))
    total = fad.grad(lambda w: np.sum(fad.vmap(layer, in_axes=(None, 0))(w, x)))
    on_each_count(lambda: total(WEIGHTS))
    compiled_total = fad.value_and_grad(
        fad.compile(lambda w: np.sum(fad.vmap(layer, in_axes=(None, 0))(w, x)))
    )
    on_each_count(lambda: compiled_total(WEIGHTS))


# --- callers -------------------------------------------------------------------------------------


def test_nested_calls():
    """A rule that runs programs, inside a program."""
    inner = fad.compile(lambda x: np.sin(x) * x + np.exp(-x))

    class Wave(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return inner(x)

        @staticmethod
        def backward(ctx, cotangent):
            (x,) = ctx.saved_tensors
            return cotangent * (np.sin(x) + x * np.cos(x) - np.exp(-x))

    x = rng.uniform(-1.0, 1.0, N)
    f = fad.value_and_grad(fad.compile(lambda x: np.sum(np.cos(Wave.apply(x)) * x)))
    on_each_count(lambda: f(x))


def test_scan():
    xs = rng.normal(size=(7, 50_000)) * 0.1

    def step(state, x):
        state = np.tanh(state + x) * np.cos(x) + 0.1 * np.sin(state)
        return state, np.sum(state)

    f = fad.compile(lambda init: np.sum(fad.scan(step, init, xs)[0] ** 2))
    both = fad.value_and_grad(f)
    init = rng.normal(size=50_000)
    on_each_count(lambda: both(init))


def test_callers():
    """Several Python threads at once: whoever finds the pool busy runs alone."""
    x = rng.uniform(-1.0, 1.0, N)
    both = fad.value_and_grad(fad.compile(stencil))
    expected = bits(both(x))
    fad.set_num_threads(3)
    wrong = []

    def work(number):
        for k in range(20):
            if number == 0:
                fad.set_num_threads(2 + k % 2)  # while the others run
            if bits(both(x)) != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_floating_point_errors_do_not_leak():
    """Infinities and NaN are values like others."""
    x = rng.uniform(-1.0, 1.0, N)
    x[::1000] = 0.0
    f = fad.compile(lambda x: np.log(x) / x + np.sqrt(x) * np.sin(1.0 / x))
    with np.errstate(all="ignore"):
        on_each_count(lambda: f(x))


# --- fork, environment, arguments ----------------------------------------------------------------

CHILD = """
import os, sys
import numpy as np
import fastad as fad

x = np.linspace(-1.0, 1.0, 60_000)
both = fad.value_and_grad(fad.compile(lambda x: np.sum(np.sin(x) * x * np.exp(-x) + np.cos(x))))
print(fad.get_num_threads())
alone = both(x)
fad.set_num_threads(3)
same = lambda: all(np.array_equal(a, b) for a, b in zip(alone, both(x)))
assert same()
child = os.fork()
if child == 0:
    fine = same() and same() and fad.get_num_threads() == 3
    fad.set_num_threads(2)
    os._exit(not (fine and same()))
assert os.waitpid(child, 0)[1] == 0
assert same()
"""


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_environment_and_exit():
    ended = run(CHILD, FASTAD_NUM_THREADS="2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "2\n"


@pytest.mark.parametrize("given", ["", "  ", "1"])
def test_environment_of_one(given):
    ended = run("import fastad; print(fastad.get_num_threads())", FASTAD_NUM_THREADS=given)
    assert ended.stdout == "1\n"


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", "100000"])
def test_bad_environment(given):
    ended = run("import fastad", FASTAD_NUM_THREADS=given)
    assert ended.returncode != 0
    message = "ValueError: environment variable FASTAD_NUM_THREADS: expected an int from 1 to 1024"
    assert f"{message}, got '{given}'" in ended.stderr


@pytest.mark.parametrize("n", [True, 2.0, "2", None, np.bool_(True), 1 + 0j])
def test_bad_type(n):
    with pytest.raises(TypeError, match="n: expected an int from 1 to 1024, got "):
        fad.set_num_threads(n)
    assert fad.get_num_threads() == 1


@pytest.mark.parametrize("n", [0, -2, 1025, 10**30])
def test_bad_number(n):
    with pytest.raises(ValueError, match=f"n: expected an int from 1 to 1024, got {n}"):
        fad.set_num_threads(n)
    assert fad.get_num_threads() == 1


def test_number():
    fad.set_num_threads(np.int64(3))
    assert fad.get_num_threads() == 3


# --- lanes that are not compiled -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_many_lanes_are_those_of_few(dtype):
    """A batch for which a program is made has the values of small batches, which are recorded."""
    x = rng.uniform(-1.0, 1.0, (200_003, 3)).astype(dtype)
    shift = np.array([0.5, -0.25, 2.0], dtype)

    def f(x):
        y = np.sin(x) * x[::-1] + shift
        y[1:] += y[:-1] * x[0]
        return y, np.sum(y * y), np.exp(-x[0]), np.max(x), np.cumsum(y) @ shift, shift * 2

    def each(x):
        return fad.vmap(lambda x: (*f(x), *fad.value_and_grad(lambda x: f(x)[4])(x)))(x)

    many = on_each_count(lambda: each(x), repeat=1)
    for start in (0, 77_000, 199_003):
        few = each(x[start : start + 1000])
        for all_lanes, some in zip(many, few, strict=True):
            assert all_lanes.dtype == some.dtype
            assert np.array_equal(all_lanes[start : start + 1000], some)


def test_no_lanes_of_many_numbers():
    assert fad.vmap(lambda x: 2.0 * x[:3])(np.zeros((0, 5_000_000))).shape == (0, 3)
