"""What a gradient reads long after it was made is computed again, where that is cheap."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(41)
TURNS, N = 60, 6007  # no multiple of a strip
ENOUGH = 2000  # that more than 2 MiB need not be kept
ONE = np.ones(1)


def before(y):
    return np.concatenate((ONE.astype(y.dtype), y[:-1]))


def stages(rate, of_state=lambda y: np.sum(y * y)):
    def f(x):
        y, h = 0.3 * x, 0.5 / TURNS
        for _ in range(TURNS):
            a = rate(x, y)
            b = rate(x, y + 0.5 * h * a)
            c = rate(x, y + 0.5 * h * b)
            d = rate(x, y + h * c)
            y = y + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        return of_state(y)

    return f


def linear(x, y):
    return x * before(y)


def curved(x, y):
    return x * (before(y) - y) * y


def bounded(x, y):
    return np.tanh(before(y)) * x  # not cheap: it is kept


def with_middle(x):
    """A stage is an output too, and another is read once more at the end."""
    y, kept = 0.3 * x, []
    for _ in range(TURNS):
        a = x * before(y)
        kept.append(y + 0.01 * a)
        y = y + 0.01 * (x * before(kept[-1]))
    return np.sum(y * y * kept[3]) + np.sum(kept[TURNS // 2])


FUNCTIONS = {
    "linear": stages(linear),
    "last": stages(linear, lambda y: y[-1]),  # no adjoint depends on a state
    "curved": stages(curved),
    "bounded": stages(bounded),
    "with_middle": with_middle,
}


def compiled(f, strict=False):
    return fad.compile(fad.value_and_grad(f), strict=strict)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_recorded(name, strict):
    f, x = FUNCTIONS[name], rng.uniform(-1.0, 1.0, N)
    g = compiled(f, strict)
    g.program(x).verify()
    value, gradient = g(x)
    expected, slope = fad.value_and_grad(f)(x)
    assert np.any(gradient)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_value(name):
    f, x, d = FUNCTIONS[name], rng.uniform(-1.0, 1.0, N), rng.uniform(-1.0, 1.0, N)
    h = 1e-6
    slope = compiled(f)(x)[1] @ d
    np.testing.assert_allclose(slope, (f(x + h * d) - f(x - h * d)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(("name", "arrays"), [("linear", 2), ("curved", 4)])
def test_less_memory(name, arrays):
    """A state of a step is kept, its other stages and what is made of them are not."""
    for n in (N, ENOUGH):
        x = rng.uniform(-1.0, 1.0, n)
        assert compiled(FUNCTIONS[name]).program(x).nbytes < arrays * TURNS * x.nbytes
    x = x[:400]  # little enough to be kept
    assert compiled(FUNCTIONS[name]).program(x).nbytes > 2 * arrays * TURNS * x.nbytes


@pytest.mark.parametrize("axis", [0, 1])
def test_what_many_rolls_make_is_kept(axis):
    """Most are memory of their own: to compute a stage of them again would keep those."""
    weights = {1: 8.0, -1: -8.0, 2: -1.0, -2: 1.0, 3: 0.5, -3: -0.5}

    def f(c):
        q = 0.3 * c
        for _ in range(TURNS):
            q = c * q + 0.02 * c * sum(w * np.roll(q, by, axis) for by, w in weights.items())
        return np.sum(q * q)

    c = rng.uniform(0.1, 1.0, (70, 71))
    d = rng.uniform(-1.0, 1.0, c.shape)
    g = compiled(f)
    assert g.program(c).nbytes < 2.4 * TURNS * c.nbytes
    h = 1e-6
    slope = np.sum(g(c)[1] * d)
    np.testing.assert_allclose(slope, (f(c + h * d) - f(c - h * d)) / (2 * h), rtol=1e-6)


def test_adjoints_do_not_run_ahead():
    """They would be kept beside the states, until the states come to where they belong."""
    x = rng.uniform(-1.0, 1.0, N)
    assert compiled(FUNCTIONS["last"]).program(x).nbytes < 1.6 * TURNS * x.nbytes


def test_tangents_and_sums_run_beside_the_states():
    """They are read with the states that they go with: to wait would keep all of these."""

    def f(x):
        y, states = x, []
        for _ in range(TURNS):
            y = y + 0.1 * (np.roll(y, 1) - 2.0 * y + np.roll(y, -1))
            states.append(y)
        return sum(np.sum((y - 0.5) ** 2) for y in states)

    x, v = rng.uniform(-1.0, 1.0, (2, 4 * N))
    assert fad.compile(f).program(x).nbytes < 12 * x.nbytes
    along = fad.compile(lambda x, v: fad.jvp(f, (x,), (v,))[1])
    assert along.program(x, v).nbytes < 24 * x.nbytes
    np.testing.assert_allclose(along(x, v), fad.grad(f)(x) @ v, rtol=1e-9)


def test_a_guard_waits_for_nothing():
    """Nor does what it is computed from, though it is recorded after a long chain."""

    def f(x):
        y, z = 0.3 * x, 0.2 * x
        for _ in range(3 * TURNS):
            y = y + 0.01 * x * before(y)
        for _ in range(TURNS):
            z = z + 0.02 * x * before(z)
        return np.sum(y * z) if z[7] > 0.0 else np.sum(y - z)

    g, x = compiled(f), rng.uniform(0.1, 1.0, N)
    for sign in (1.0, -1.0, 1.0):
        value, gradient = g(sign * x)
        np.testing.assert_allclose(value, f(sign * x), rtol=1e-11)
        np.testing.assert_allclose(gradient, fad.grad(f)(sign * x), rtol=1e-10, atol=1e-13)


def test_float32():
    x = rng.uniform(-1.0, 1.0, 2 * N).astype(np.float32)
    g = compiled(FUNCTIONS["linear"])
    g.program(x).verify()
    expected = fad.grad(FUNCTIONS["linear"])(x.astype(float))
    np.testing.assert_allclose(g(x)[1], expected, rtol=1e-3, atol=1e-4)
    assert g.program(x).nbytes < 0.75 * 4 * TURNS * x.nbytes


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0])
def test_special_values(special):
    f, x = FUNCTIONS["curved"], rng.uniform(-1.0, 1.0, N)
    x[[1000, 1001, N - 1]] = special
    with np.errstate(all="ignore"):
        expected = fad.grad(f)(x)
        found = compiled(f)(x)[1]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-10, atol=1e-13)


def test_guards():
    """A value that decides about a branch is the recording's, whatever is copied."""

    def f(x):
        y = 0.3 * x
        for k in range(TURNS):
            y = y + 0.01 * x * before(y + 0.01 * x * before(y))
            if k == TURNS // 2 and y[5] > 0.0:
                y = 2.0 * y
        return np.sum(y * y)

    g, x = compiled(f), rng.uniform(0.1, 1.0, N)
    for sign in (1.0, -1.0, 1.0):
        np.testing.assert_allclose(g(sign * x)[1], fad.grad(f)(sign * x), rtol=1e-10, atol=1e-13)


def stages_of_late_readings(x):
    y, states = 0.3 * x, []
    for _ in range(TURNS):
        a = y + 0.01 * (x * before(y))
        b = y - 0.02 * (x * before(a))
        c = y + 0.03 * (x * before(b))
        states.append((c, b, a, y))
        y = y + 0.01 * (x * before(c))
    return y, [stage for state in reversed(states) for stage in state]


def test_a_guard_and_another_read_the_same_copy():
    """The copy waits for an operand of its first reader, which no guard needs: not for a guard."""

    def f(x):
        y, late = stages_of_late_readings(x)
        plain = decides = y
        for i, stage in enumerate(late):
            plain = before(plain) * stage + 0.1
            decides = before(decides) * 0.9
            if i == 50 and np.sum(decides * stage) > 0.0:
                plain = -plain
        return np.sum(plain * plain * plain)

    g, x = fad.compile(f), rng.uniform(0.1, 1.0, 2 * N)
    for sign in (1.0, -1.0, 1.0):
        np.testing.assert_allclose(g(sign * x), f(sign * x), rtol=1e-11)


def test_a_copy_that_waits_for_what_a_sum_absorbs():
    """Its reader is late + EMBED(...), without memory of its own: it waits for what is embedded."""

    def f(x):
        y, late = stages_of_late_readings(x)
        for stage in late:
            w = before(y) * x
            y = stage + fad.grad(lambda s, w=w: np.sum(s[1:] * w[1:]))(w)
        return np.sum(y * y)

    g, x = fad.compile(f), rng.uniform(-1.0, 1.0, 2 * N)
    np.testing.assert_allclose(g(x), f(x), rtol=1e-11)
    assert g.program(x).nbytes < 3 * TURNS * x.nbytes


def test_saved_and_loaded(tmp_path):
    x = rng.uniform(-1.0, 1.0, N)
    program = compiled(FUNCTIONS["linear"]).program(x)
    program.save(tmp_path / "again")
    loaded = fad.Program.load(tmp_path / "again")
    assert loaded.text() == program.text()
    for found, expected in zip(loaded(x), program(x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_threads_give_the_same_bits():
    g, x = compiled(FUNCTIONS["linear"]), rng.uniform(-1.0, 1.0, 60_001)
    alone, threads = g(x), fad.get_num_threads()
    try:
        fad.set_num_threads(3)
        together = g(x)
    finally:
        fad.set_num_threads(threads)
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)
