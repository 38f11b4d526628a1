"""fad.scan against the loop it stands for, and against finite differences of that loop's value."""

import subprocess
import sys
import threading
import warnings
from math import comb

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose

import fastad as fad
from fastad._program import revolve_split


def plain(f, init, xs=None, length=None, **_):
    """What scan means."""
    carry, ys = init, []
    for k in range(length if xs is None else len(xs)):
        carry, y = f(carry, None if xs is None else xs[k])
        ys.append(y)
    return carry, None if ys[0] is None else np.stack(ys)


def stored(*args, **kwargs):
    return fad.scan(*args, **kwargs)


def checkpointed(*args, **kwargs):
    return fad.scan(*args, checkpoints=2, **kwargs)


# --- functions of w (3 numbers) and of the scan to use -------------------------------------------


def recurrence(scan, w):
    def step(c, x):
        return np.sin(c * w[0]) * x + w[1] * c, c * x * w[2]

    c, ys = scan(step, w[0] * 0.5, np.linspace(0.5, 1.5, 7) * w[1])
    return c + np.sum(ys**2)


def branches(scan, w):
    def step(c, x):
        if c > 0.5:
            c = c * w[0] - x
        elif c > 0.2:
            c = c * w[2]
        else:
            c = np.exp(c * w[1]) + x
        return c, c**2

    c, ys = scan(step, w[0], np.linspace(-0.3, 0.5, 9))
    return c + np.sum(ys)


def matrices(scan, w):
    W = np.outer(w, w)

    def step(c, x):
        return np.tanh(W @ c + x), None

    c, _ = scan(step, w * 2, np.linspace(0, 1, 15).reshape(5, 3))
    return np.sum(c**2)


def nested(scan, w):
    def outer(c, x):
        def inner(d, z):
            return np.cos(d) * w[1] + z * c * w[0], d * z

        d, ys = scan(inner, c * x, np.array([0.3, 0.2, 0.1]))
        return d + 0.3 * c, np.sum(ys) * w[2]

    c, ys = scan(outer, w[0], np.array([1.0, 2.0, 0.5]))
    return c * np.sum(ys)


def nested_branches(scan, w):
    def outer(c, x):
        def inner(d, z):
            d = d * w[1] if d > 0.5 * c else d + z * w[2]
            return d, d * z

        d, ys = scan(inner, c * x, np.array([0.3, 0.2, 0.1, 0.7]))
        return (d + 0.3 * c if d > 1 else d), np.sum(ys) * w[2]

    c, ys = scan(outer, w[0], np.array([1.0, 2.0, 0.5, -1.0, 3.0]))
    return c * np.sum(ys)


def gradient_inside(scan, w):
    def energy(c):
        return np.sum(np.cos(c * w))

    def step(c, x):
        return c - 0.1 * fad.grad(energy)(c) * x, None

    c, _ = scan(step, w * 2, np.linspace(0.5, 1, 4))
    return np.sum(c**2)


def gradient_by_what_is_outside(scan, w):
    """The inner gradient is by a captured value."""

    def step(c, x):
        return fad.grad(lambda v: v**3 * c)(w[1]) + x, c

    c, ys = scan(step, w[0], np.linspace(0.1, 0.3, 4))
    return c * np.sum(ys)


def only_outside(scan, w):
    """Neither init nor xs depend on w."""
    c, ys = scan(lambda c, x: (c * w[0] + w[1] * x, w[2]), 1.0, np.linspace(0, 1, 5))
    return c + np.sum(ys) ** 2


def no_carry(scan, w):
    return np.sum(scan(lambda _, x: (None, x * w[0] ** 2), None, w * np.arange(1.0, 4))[1])


def count(scan, w):
    return scan(lambda c, _: (c * w[0] + np.sin(w[1] * w[2]), None), w[2], length=6)[0]


def while_inside(scan, w):
    def step(c, x):
        y = x
        while abs(y * y - x) > 1e-9:
            y = 0.5 * (y + x / y)
        return c + y * w[0], y * w[1]

    c, ys = scan(step, w[2], np.linspace(0.1, 9, 12))
    return c * np.sum(ys)


def in_place(scan, w):
    def step(c, x):
        c[0] = c[1] * x
        c[1] *= w[0]
        return c, c[0]

    c, ys = scan(step, w[:2] * 1.0, np.arange(1.0, 4.0))
    return np.sum(c) * np.sum(ys)


FUNCTIONS = [
    recurrence,
    branches,
    matrices,
    nested,
    nested_branches,
    gradient_inside,
    gradient_by_what_is_outside,
    only_outside,
    no_carry,
    count,
    while_inside,
    in_place,
]
W = np.array([0.7, 0.4, 0.2])
V = np.array([1.0, -0.5, 2.0])
TRANSFORMS = {
    "value": lambda f: f,
    "grad": fad.grad,
    "jvp": lambda f: lambda w: np.asarray(fad.jvp(f, w, V)),
    "vjp": lambda f: lambda w: fad.vjp(f, w)[1](2.0)[0],
    "linearize": lambda f: lambda w: fad.linearize(f, w)[1](V),
    "hessian": fad.hessian,
    "hvp": lambda f: lambda w: fad.hvp(f, w, V),
    "forward over forward": lambda f: lambda w: fad.jvp(lambda w: fad.jvp(f, w, V)[1], w, V)[1],
    "third": lambda f: fad.jacobian(fad.hessian(f)),
    "compile": fad.compile,
    "grad of compiled": lambda f: fad.grad(fad.compile(f)),
    "compiled grad": lambda f: fad.compile(fad.grad(f)),
    "hessian of compiled": lambda f: fad.hessian(fad.compile(f)),
    "jvp of compiled": lambda f: lambda w: np.asarray(fad.jvp(fad.compile(f), w, V)),
}


@pytest.mark.parametrize("scan", [stored, checkpointed])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_as_the_loop(function, transform, scan):
    transformed = TRANSFORMS[transform]
    expected = transformed(lambda w: function(plain, w.copy()))(W)
    found = transformed(lambda w: function(scan, w))(W)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scan", [stored, checkpointed])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_finite_differences_of_the_value(function, scan):
    value = lambda w: function(plain, w.copy())
    numeric = reference.numeric_gradient(value, W)
    assert_allclose(fad.grad(lambda w: function(scan, w))(W), numeric, rtol=1e-6, atol=1e-8)


def test_values_are_the_loops_bits():
    def step(c, x):
        return np.sin(c) * x + 0.1 * c * c / 3.0, c * x + 1.0

    xs = np.linspace(0.5, 1.5, 40)
    expected, found = plain(step, 0.3, xs), fad.scan(step, 0.3, xs)
    assert found[0] == expected[0]
    assert np.array_equal(found[1], expected[1])


# --- containers and types ------------------------------------------------------------------------


def test_containers():
    def step(carry, row):
        a, b = carry["a"], carry["b"]
        return {"a": a * row[0], "b": [b[0] + row[1]]}, (a, {"sum": np.sum(b[0])})

    init = {"a": 2.0, "b": [np.ones(2)]}
    rows = (np.array([1.0, 2.0, 3.0]), np.arange(6.0).reshape(3, 2))
    carry, (first, second) = fad.scan(step, init, rows)
    assert carry["a"] == 12.0
    assert np.array_equal(carry["b"][0], [7.0, 10.0])
    assert np.array_equal(first, [2.0, 2.0, 4.0])
    assert np.array_equal(second["sum"], [2.0, 3.0, 8.0])
    gradient = fad.grad(lambda init: fad.scan(step, init, rows)[0]["a"])(init)
    assert gradient["a"] == 6.0
    assert np.array_equal(gradient["b"][0], [0.0, 0.0])


@pytest.mark.parametrize("scan", [stored, checkpointed])
def test_float32(scan):
    x = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    carry, ys = scan(lambda c, x: (c * x + np.float32(1), c), np.float32(1), x)
    assert (carry.dtype, ys.dtype) == (np.float32, np.float32)
    f = lambda x: np.sum(scan(lambda c, x: (c * x, c * x), x[0], x)[1])
    gradient = fad.grad(f)(x)
    assert gradient.dtype == np.float32
    expected = fad.grad(lambda x: np.sum(plain(lambda c, x: (c * x, c * x), x[0], x)[1]))
    assert_allclose(gradient, expected(x.astype(float)), rtol=1e-6)
    assert_allclose(fad.hessian(f)(x), fad.jacobian(expected)(x.astype(float)), rtol=1e-5)


def test_integers():
    assert fad.scan(lambda c, x: (c + x, c), 0, np.arange(4))[0] == 6
    table = np.array([2.0, 3.0, 5.0])
    f = lambda w: fad.scan(lambda c, i: (c * w + table[i], c), 1.0, np.array([2, 0, 1, 2]))[0]
    g = lambda w: plain(lambda c, i: (c * w + table[i], c), 1.0, np.array([2, 0, 1, 2]))[0]
    assert_allclose(fad.value_and_grad(f)(0.7), fad.value_and_grad(g)(0.7))
    flags = np.array([True, False, True])
    f = lambda scan, w: scan(lambda c, b: (np.where(b, c * w, c + w), None), 1.0, flags)[0]
    both = [fad.value_and_grad(lambda w, scan=scan: f(scan, w))(0.7) for scan in (fad.scan, plain)]
    assert_allclose(*both)


def test_a_python_int_becomes_a_float():
    assert fad.scan(lambda c, _: (c + 0.5, c), 0, length=4)[0] == 2.0
    assert fad.grad(lambda w: fad.scan(lambda c, _: (c + w, None), 0, length=4)[0])(2.0) == 4.0


def test_length_zero():
    carry, ys = fad.scan(lambda c, x: (c, x * 2), 1.5, np.zeros((0, 3)))
    assert carry == 1.5
    assert ys.shape == (0, 3)
    f = lambda w: fad.scan(lambda c, x: (c * w, None), w**2, np.zeros((0, 3)))[0]
    assert fad.grad(f)(3.0) == 6.0


@pytest.mark.parametrize("order", ["C", "F"])
def test_any_layout(order):
    xs = np.asarray(np.arange(12.0).reshape(4, 3)[:, ::-1], order=order)
    f = lambda xs: np.sum(fad.scan(lambda c, x: (c * 0.5 + x, c), np.zeros(3), xs)[1] ** 2)
    g = lambda xs: np.sum(plain(lambda c, x: (c * 0.5 + x, c), np.zeros(3), xs)[1] ** 2)
    assert_allclose(fad.grad(f)(xs), fad.grad(g)(xs))
    big = np.arange(3.0).astype(">f8")
    assert fad.scan(lambda c, x: (c + x, None), 0.0, big)[0] == 3.0


# --- what is outside of the step -----------------------------------------------------------------


def test_no_derivative_is_lost_to_a_closure():
    """Each way in which a step can read a recorded value of outside."""
    reads = {
        "operator": lambda w, c: c * w,
        "reversed operator": lambda w, c: w * c,
        "outside alone": lambda w, c: c + w * w,
        "function": lambda w, c: c + np.sin(w),
        "index": lambda w, c: c * w[1],
        "slice": lambda w, c: c + np.sum(w[1:]),
        "method": lambda w, c: c + w.sum(),
        "stack": lambda w, c: c + np.stack([w[0], np.sum(c)])[0],
        "object array": lambda w, c: c + np.sum(np.array([w[0], w[1]])),
        "where": lambda w, c: np.where(w > 0, c * w, c - w),
        "compare": lambda w, c: c * w[0] if w[0] < np.sum(c) else c * w[1],
        "matmul": lambda w, c: c + w @ c,
        "checkpoint": lambda w, c: fad.checkpoint(lambda c: c * w)(c),
        "returned": lambda w, c: w,
    }
    for name, read in reads.items():
        f = lambda scan, w, read=read: np.sum(
            scan(lambda c, x: (read(w, c) + x, None), np.ones(3), np.ones(2))[0]
        )
        found = fad.grad(lambda w, f=f: f(fad.scan, w))(W)
        expected = fad.grad(lambda w, f=f: f(plain, w))(W)
        assert_allclose(found, expected, err_msg=name)
        assert np.any(found)


def test_outside_cannot_be_written_to():
    def assign(w):
        def step(c, _):
            w[0] = c
            return c, None

        return fad.scan(step, 1.0, length=2)[0]

    def view(w):
        def step(c, _):
            w[1:][0] = c
            return c, None

        return fad.scan(step, 1.0, length=2)[0]

    def add(w):
        def step(c, _):
            nonlocal w
            w += c
            return c, None

        return fad.scan(step, 1.0, length=2)[0]

    for f in (assign, view, add):
        with pytest.raises(fad.TapeError, match="writes to an Array that it did not make"):
            fad.grad(f)(W)


def test_what_leaves_the_step_is_an_error():
    leaked = []

    def f(w):
        def step(c, _):
            leaked.append(c)
            return c * w, None

        return fad.scan(step, w, length=2)[0] * leaked[0]

    with pytest.raises(fad.TapeError):
        fad.grad(f)(2.0)


def test_stop_gradient_stops():
    f = lambda w: fad.scan(lambda c, _: (c * fad.stop_gradient(w), None), w, length=2)[0]
    assert fad.grad(f)(3.0) == 9.0


def test_arrays_changed_after_the_call():
    xs = np.array([1.0, 2.0])
    y, pull = fad.vjp(lambda w: fad.scan(lambda c, x: (c * x * w, None), 1.0, xs)[0], 3.0)
    xs[:] = 100.0
    assert y == 18.0
    assert pull(1.0) == (12.0,)


# --- paths ---------------------------------------------------------------------------------------


def five_ways(scan, w):
    def step(c, x):
        if c < -1:
            c = c * 0.5 * w[2]
        elif c < -0.4:
            c = c * c * w[1]
        elif c < 0:
            c = np.sin(c)
        elif c > 0.5:
            c = c * w[0] - x
        else:
            c = np.exp(c * w[1]) + x * w[2]
        return c, c**2

    c, ys = scan(step, w[0], np.linspace(-0.3, 0.5, 9))
    return c + np.sum(ys)


def test_new_paths_of_a_compiled_function(rng):
    compiled = fad.compile(lambda w: five_ways(fad.scan, w))
    gradient = fad.grad(compiled)
    for _ in range(60):
        w = 2 * rng.normal(size=3)
        with np.errstate(all="ignore"):
            assert_allclose(compiled(w), five_ways(plain, w))
            expected = fad.grad(lambda w: five_ways(plain, w))(w)
            assert_allclose(gradient(w), expected, rtol=1e-9)
    assert compiled.cache_info().recordings < 20


def test_too_many_paths_run_in_python():
    def f(scan, w):
        def step(c, _):
            return c * w * (2 if float(fad.stop_gradient(c)) > 0 else 1), None

        return scan(step, 1.0, length=200)[0]

    with pytest.warns(RuntimeWarning, match="too many paths"):
        found = fad.value_and_grad(lambda w: f(fad.scan, w))(0.49)
    assert_allclose(found, fad.value_and_grad(lambda w: f(plain, w))(0.49))


def test_few_paths_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fad.grad(lambda w: branches(fad.scan, w))(W)


# --- bad input -----------------------------------------------------------------------------------

ONES = np.ones(3)
BAD = [
    (TypeError, "f: expected a function", lambda: fad.scan(3, 1.0, ONES)),
    (TypeError, "pair .* got Array", lambda: fad.scan(lambda c, x: c, 1.0, ONES)),
    (TypeError, "pair .* got tuple of 3", lambda: fad.scan(lambda c, x: (c, c, c), 1.0, ONES)),
    (
        TypeError,
        "expected one array, got PyTree",
        lambda: fad.scan(lambda c, x: ((c, c), x), 1.0, ONES),
    ),
    (TypeError, "expected None, got one", lambda: fad.scan(lambda c, x: (x, x), None, ONES)),
    (
        TypeError,
        r"leaf 0: expected float64, got float64\[2\]",
        lambda: fad.scan(lambda c, x: (np.stack([c, c]), x), 1.0, ONES),
    ),
    (
        TypeError,
        r"leaf 0: expected float64, got float32",
        lambda: fad.scan(lambda c, x: (c.astype(np.float32), x), 1.0, ONES),
    ),
    (TypeError, "init: expected real", lambda: fad.scan(lambda c, x: (c, x), 1j, ONES)),
    (TypeError, "xs: expected real", lambda: fad.scan(lambda c, x: (c, x), 1.0, ONES * 1j)),
    (TypeError, "expected numbers", lambda: fad.scan(lambda c, x: (c, "y"), 1.0, ONES)),
    (ValueError, "length is needed", lambda: fad.scan(lambda c, x: (c, x), 1.0)),
    (ValueError, "no leading axis", lambda: fad.scan(lambda c, x: (c, x), 1.0, 2.0)),
    (ValueError, "length is 2, .* length 3", lambda: fad.scan(lambda c, x: (c, x), 1.0, ONES, 2)),
    (ValueError, r"\[2, 3\]", lambda: fad.scan(lambda c, x: (c, x), 1.0, (ONES, np.ones(2)))),
    (ValueError, "0 or more", lambda: fad.scan(lambda c, x: (c, x), 1.0, length=-1)),
    (TypeError, "integer", lambda: fad.scan(lambda c, x: (c, x), 1.0, length=2.5)),
    (ValueError, "1 or more", lambda: fad.scan(lambda c, x: (c, x), 1.0, ONES, checkpoints=0)),
    (
        ValueError,
        "exclude each other",
        lambda: fad.scan(lambda c, x: (c, x), 1.0, ONES, checkpoints=1, memory=9),
    ),
]


@pytest.mark.parametrize(("error", "message", "call"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("at", [0, 2])
def test_an_exception_in_the_step(at):
    """It passes through, and what was being recorded goes on."""
    calls = []

    def step(c, x):
        calls.append(x)
        if x > at - 0.5:
            raise ZeroDivisionError("planted")
        return c * x, None

    def f(w):
        y = w * w
        with pytest.raises(ZeroDivisionError, match="planted"):
            fad.scan(step, w, np.arange(4.0))
        return y * fad.scan(lambda c, x: (c * w, None), 1.0, length=2)[0]

    assert fad.grad(f)(2.0) == 32.0
    assert len(calls) == 2 if at else 1


# --- binomial checkpointing ----------------------------------------------------------------------


def steps_of_schedule(length, slots):
    """Forward steps that the splits of revolve lead to."""
    if length < 2:
        return 0
    if slots == 1:
        return length * (length - 1) // 2
    split = revolve_split(length, slots)
    return split + steps_of_schedule(length - split, slots - 1) + steps_of_schedule(split, slots)


def fewest_steps(length, slots):
    """Griewank and Walther (2000): r l - C(s + r, r - 1), r least with l <= C(s + r, s)."""
    r = next(r for r in range(length + 1) if comb(slots + r, slots) >= length)
    return r * length - comb(slots + r, r - 1) if r else 0


def test_schedules_take_the_fewest_steps():
    for slots in range(1, 9):
        for length in range(1, 70):
            assert steps_of_schedule(length, slots) == fewest_steps(length, slots)


def test_fewest_is_fewest():
    """The closed form against a search of all schedules."""
    best = {}
    for slots in range(1, 6):
        for length in range(1, 30):
            searched = [
                k + best[length - k, slots - 1] + best[k, slots]
                for k in range(1, length)
                if slots > 1
            ]
            best[length, slots] = min(
                [length * (length - 1) // 2, *searched],
            )
            assert best[length, slots] == fewest_steps(length, slots)


@pytest.mark.parametrize(("length", "slots"), [(2, 1), (7, 1), (10, 2), (57, 3), (84, 3), (500, 4)])
def test_the_loop_takes_that_many(monkeypatch, length, slots):
    taken = []
    run = fad.scan.__globals__["revolve"]

    def counting(*args):
        result = run(*args)
        taken.append(result[1])
        return result

    monkeypatch.setitem(fad.scan.__globals__, "revolve", counting)
    f = lambda w: fad.scan(lambda c, _: (np.sin(c * w), None), w, length=length, checkpoints=slots)[
        0
    ]
    g = lambda w: fad.scan(lambda c, _: (np.sin(c * w), None), w, length=length)[0]
    assert_allclose(fad.grad(f)(1.3), fad.grad(g)(1.3), rtol=1e-12)
    assert taken == [fewest_steps(length, slots)]


def test_memory_gives_the_number_of_states(monkeypatch):
    seen = []
    run = fad.scan.__globals__["revolve"]
    monkeypatch.setitem(
        fad.scan.__globals__, "revolve", lambda *args: seen.append(args[3]) or run(*args)
    )
    f = lambda w: np.sum(
        fad.scan(lambda c, _: (c * w, None), np.ones(10), length=50, memory=500)[0]
    )
    fad.grad(f)(0.9)
    assert seen == [6]


# --- memory --------------------------------------------------------------------------------------


def ten_operations(c):
    for _ in range(5):
        c = np.sin(c) + 0.1
    return c


def test_the_tape_holds_no_copy_of_the_steps():
    with fad.Tape() as tape:
        x = tape.variable(0.3)
        before = tape.nbytes
        y, _ = fad.scan(lambda c, _: (ten_operations(c), None), x, length=10_000, checkpoints=10)
        few = tape.nbytes - before
    assert few < 10_000
    assert_allclose(tape.gradient(y, x), fad.grad(lambda c: _loop(c, 10_000))(0.3), rtol=1e-9)


def _loop(c, n):
    for _ in range(n):
        c = ten_operations(c)
    return c


def test_peak_memory_with_checkpoints():
    """At most 2 % of what the recording of the plain loop takes, all buffers counted."""
    script = """
import tracemalloc, sys
import numpy as np
import fastad as fad
sys.path.insert(0, "tests")
from test_scan import ten_operations

def f(w):
    return fad.scan(lambda c, _: (ten_operations(c), None), w, length=100_000, checkpoints=100)[0]

fad.grad(f)(0.3)
with fad.Tape() as tape:
    c = tape.variable(0.3)
    for _ in range(1000):
        c = ten_operations(c)
full = 100 * tape.nbytes
tracemalloc.start()
with fad.Tape() as tape:
    x = tape.variable(0.3)
    y = f(x)
tape.gradient(y, x)
peak = tracemalloc.get_traced_memory()[1] + tape.nbytes
print(peak / full)
"""
    ratio = float(
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
    )
    assert ratio < 0.02


# --- the rest ------------------------------------------------------------------------------------


def test_threads():
    """One compiled function, replayed from several threads: no state is shared."""
    compiled = fad.compile(fad.value_and_grad(lambda w: five_ways(fad.scan, w)))
    points = np.random.default_rng(0).uniform(0.1, 0.9, (4, 3))
    expected = [fad.value_and_grad(lambda w: five_ways(plain, w))(w) for w in points]
    failures = []

    def work(i):
        for _ in range(20):
            value, gradient = compiled(points[i])
            if not (np.isclose(value, expected[i][0]) and np.allclose(gradient, expected[i][1])):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_planted_fault_is_seen(monkeypatch):
    """The vjp of a step, halved: the comparisons above fail."""
    import fastad._steps as steps

    honest = steps.pulled
    monkeypatch.setattr(
        steps,
        "pulled",
        lambda recorder, outputs, cotangents, wrt: [
            x * 0.5 for x in honest(recorder, outputs, cotangents, wrt)
        ],
    )
    with pytest.raises(AssertionError):
        test_as_the_loop(recurrence, "grad", stored)
    with pytest.raises(AssertionError):
        test_as_the_loop(recurrence, "hessian", checkpointed)
