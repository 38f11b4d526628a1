"""Functions that write into arrays, compiled: bit for bit what was recorded, at other inputs too."""

import numpy as np
import pytest
from test_update import POINT, SEEDS, Program, differences

import fastad as fad

RNG = np.random.default_rng(2024)
N = 7
POINTS = [0.8 + 0.4 * RNG.random(N) for _ in range(3)]


# --- loops of writes -----------------------------------------------------------------------------


def elements(x):
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) * x[i]
    return y


def from_the_end(x):
    y = np.ones_like(x)
    for i in range(len(x) - 2, -1, -1):
        y[i] += np.exp(-y[i + 1]) * x[i]
    return y


def longer_than_one_looks_back(x):
    y = np.zeros(100) * x[0]
    for i in range(100):
        y[i] = x[i % len(x)] * i
    for i in range(99, 0, -1):
        y[i - 1] += 0.5 * np.sin(y[i] + y[99 - i])
    return y


def rows(x):
    u = np.zeros((5, len(x))) * x[0]
    u[0] = x
    for t in range(1, 5):
        u[t] = np.sin(u[t - 1]) * x[t]
    return u


def columns(x):
    u = np.zeros((len(x), 4)) * x[0]
    u[:, 0] = x
    for t in range(1, 4):
        u[:, t] = u[:, t - 1] ** 2 - u[::-1, t - 1]
    return u


def heat(x):
    u = np.zeros((4, len(x))) * x[0]
    u[0] = x
    for t in range(1, 4):
        u[t, 1:-1] = u[t - 1, 1:-1] + 0.1 * (u[t - 1, 2:] + u[t - 1, :-2] - 2 * u[t - 1, 1:-1])
        row = u[t]
        row[0] = u[t - 1, 1]
        row[-1] += 0.5 * x[t]
    return u


def table(x):
    """Pascal's rule: an element of two others."""
    d = np.ones((5, 5)) * x[0]
    d[0] = x[:5]
    for i in range(1, 5):
        for j in range(1, 5):
            d[i, j] = d[i - 1, j] * 0.5 + d[i, j - 1] * x[j]
    return d


def sums_of_what_was_written(x):
    y = x * 1.0
    for i in range(1, len(x)):
        y[i] = np.sum(y[:i]) * 0.3 + y[i]
    return y


def overlapping(x):
    y = np.zeros(10) * x[0]
    for i in range(4):
        y[i : i + 6] += x[:6] * (i + 1)
        y[::3] *= 0.9
    return y


def substitution(x):
    """Lower triangle, solved row by row."""
    y = x * 1.0
    a = np.outer(x, x) + 3 * np.eye(len(x))
    for i in range(len(x)):
        y[i] = (y[i] - a[i, :i] @ y[:i]) / a[i, i]
    return y


def elimination(x):
    a = np.outer(np.sin(x[:4]), x[:4]) + 3 * np.eye(4)
    for k in range(3):
        for i in range(k + 1, 4):
            a[i, k] /= a[k, k]
            a[i, k + 1 :] -= a[i, k] * a[k, k + 1 :]
    return a


# --- versions that are read later ----------------------------------------------------------------


def older_sums(x):
    y, seen = np.zeros_like(x), []
    for i in range(len(x)):
        seen.append(np.sum(y) + y[i - 1])
        y[i] = x[i] ** 2
    return np.stack(seen)


def copies(x):
    y, kept = x * 2, []
    for i in range(3):
        kept.append(y.copy())
        y[i + 1] = y[i] * kept[0][i]
    return np.stack([*kept, y])


def constants_and_then_not(x):
    """What no input reaches is written first, and overwritten by what one does."""
    y = np.zeros_like(x)
    y[0], y[1] = 2.0, 3.0
    first = y[:2]
    kept = y + 0.0
    y[2] = 5.0
    y[2] = x[0]
    y[0] = x[1]
    return np.concatenate([y * x, first, kept, y[:3] * 2])


def constants_that_are_read_in_between(x):
    """Constants of a chain that goes on, read after and overwritten by what is none."""
    y = np.zeros_like(x)
    y[0], y[1] = 2.0, 3.0
    y[2] = x[0]
    early = y[0] * x[1] + y[1]
    y[0] = x[2]
    y[1] *= x[3]
    return y * early


def constants_are_parts(x):
    """A chain of constants is read element by element while it goes on."""
    weights = np.zeros_like(x)
    total = x[0] * 0.0
    for i in range(len(x)):
        weights[i] = 1.0 / (i + 1) + weights[i - 1]
        total = total + weights[i] * x[i] + weights[:2] @ x[:2]
        weights[0] += 0.125
    return total * weights


def a_view_that_was_returned(x):
    y = x * 1.0
    part = y[1:4]
    y[2] = x[0] * 7
    return part


def through_views(x):
    y = np.zeros((3, 4)) * x[0]
    flat, turned = y.reshape(12), y.T
    for i in range(len(x)):
        flat[i + 2] = x[i] * (i + 1)
        turned[i % 4] *= 0.5
    return y


def swaps(x):
    y = x * 1.0
    for i in range(3):
        y[i], y[-1 - i] = y[-1 - i] * 2, y[i]
    y[[0, 2, 4]] = y[[4, 0, 2]]
    y[::2] = y[::-2]
    return y


def masks_and_places(x):
    y = x * 1.0
    y[[5, 1, 1]] = x[:3]
    y[np.arange(len(x)) % 3 == 0] = x[3] * x[4]
    np.copyto(y, y * y, where=np.arange(len(x)) > 4)
    np.multiply(y, x, out=y)
    return y


def narrow(x):
    y = np.zeros(len(x), np.float32) * x.astype(np.float32)
    for i in range(1, len(x)):
        y[i] = y[i - 1] * 0.5 + x[i]
    return y


FUNCTIONS = [
    elements,
    from_the_end,
    longer_than_one_looks_back,
    rows,
    columns,
    heat,
    table,
    sums_of_what_was_written,
    overlapping,
    substitution,
    elimination,
    older_sums,
    copies,
    constants_and_then_not,
    constants_that_are_read_in_between,
    constants_are_parts,
    a_view_that_was_returned,
    through_views,
    swaps,
    masks_and_places,
    narrow,
]


# --- paths that depend on what was written -------------------------------------------------------


def limited(x):
    y = np.zeros_like(x)
    for i in range(1, len(x)):
        y[i] = y[i - 1] + x[i]
        if y[i] > 2.5:
            y[i] *= 0.5
        if np.sum(y) > 6:
            y[i] = y[i] - y[i - 1]
    return y


def sorted_by_swapping(x):
    y = x * 1.0
    for end in range(len(x) - 1, 0, -1):
        for i in range(end):
            if y[i] > y[i + 1]:
                y[i], y[i + 1] = y[i + 1], y[i]
    return y


def looked_at_as_a_whole(x):
    """Arrays whose values reach Python between two writes."""
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = x[i] * 3
        if fad.stop_gradient(y).max() > 3:
            y[: i + 1] *= 0.5
    return y


PATHS = [limited, sorted_by_swapping, looked_at_as_a_whole]


# --- values and gradients ------------------------------------------------------------------------


def recorded(f, x):
    with fad.Tape() as tape:
        return f(tape.variable(x)).value


def weighed(f):
    """A scalar that depends on every element of f(x)."""

    def total(x):
        y = f(x)
        return np.sum(y * np.cos(1.0 + np.arange(y.size)).reshape(y.shape).astype(y.dtype))

    return total


@pytest.mark.parametrize("f", FUNCTIONS + PATHS, ids=lambda f: f.__name__)
def test_values_are_those_of_the_recording(f):
    strict, loose = fad.compile(f, strict=True), fad.compile(f)
    for x in [*POINTS, POINTS[0]]:
        expected = recorded(f, x)
        np.testing.assert_array_equal(strict(x), expected)
        np.testing.assert_allclose(loose(x), expected, rtol=1e-12)
    if f in FUNCTIONS:
        assert strict.cache_info().recordings == loose.cache_info().recordings == 1


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("f", FUNCTIONS + PATHS, ids=lambda f: f.__name__)
def test_gradients(f, strict):
    total = weighed(f)
    compiled = fad.value_and_grad(fad.compile(total, strict=strict))
    rtol = 1e-5 if f is narrow else 1e-11
    for x in POINTS:
        value, gradient = compiled(x)
        expected = fad.value_and_grad(total)(x)
        if strict:
            assert value == expected[0]
        np.testing.assert_allclose(value, expected[0], rtol=rtol)
        np.testing.assert_allclose(gradient, expected[1], rtol=rtol, atol=rtol)
        if f is not narrow:
            np.testing.assert_allclose(gradient, differences(total, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_second_derivatives_and_tangents(f):
    total = weighed(f)
    compiled = fad.compile(total)
    rtol = 1e-4 if f is narrow else 1e-10
    for x in POINTS[:2]:
        hessian, jvp = fad.hessian(total)(x), fad.jvp(total, (x,), (POINTS[2],))
        np.testing.assert_allclose(fad.hessian(compiled)(x), hessian, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(fad.jvp(compiled, (x,), (POINTS[2],)), jvp, rtol=rtol, atol=rtol)


def test_a_scalar_that_is_an_array_of_one_element():
    """Its second derivative stores what a region over one element has in a strip."""

    def f(x):
        a = np.outer(x, x)
        return np.sum(a[1, 1:] - a[1, 0] * a[0, 1:])

    x = np.array([0.9, 1.1])
    np.testing.assert_allclose(fad.hessian(fad.compile(f))(x), fad.hessian(f)(x), rtol=1e-12)


def test_arguments_are_not_written_to():
    @fad.compile
    def f(x):
        x[0] = x[1] * 2
        x[1:] *= x[0]
        return x

    for x in POINTS:
        before = x.copy()
        y = f(x)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_allclose(y, np.concatenate([[2 * x[1]], 2 * x[1] * x[1:]]))


def test_arguments_that_are_written_to_are_differentiated():
    def f(x):
        x[0] = x[1] * 2
        x[1:] *= x[0]
        return np.sum(x)

    for x in POINTS:
        compiled = fad.value_and_grad(fad.compile(f))(x)
        expected = fad.value_and_grad(f)(x)
        np.testing.assert_allclose(compiled[0], expected[0])
        np.testing.assert_allclose(compiled[1], expected[1])


def test_large_arguments():
    """Recorded without values: chains of writes need none."""

    def f(x):
        y, weights = np.zeros_like(x), np.zeros_like(x)
        weights[0], weights[1:] = 2.0, 0.5
        kept = weights * 1.0
        weights[3] = 4.0
        y[::2] = x[1::2]
        part = y[10:90].reshape(8, 10)
        part[2] *= x[:10]
        part.T[4] += part[:, 3]
        for i in range(1, 40):
            y[i] += np.sin(y[i - 1])
        kept[5:7] = y[5]
        return weights * y + kept

    compiled, slope = fad.compile(f, strict=True), fad.grad(fad.compile(weighed(f)))
    for x in np.cos(np.arange(4800.0)).reshape(2, 2400):
        np.testing.assert_array_equal(compiled(x), recorded(f, x))
        np.testing.assert_allclose(slope(x), fad.grad(weighed(f))(x), rtol=1e-11, atol=1e-12)
    assert compiled.cache_info().recordings == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs(seed):
    program = Program(seed)
    strict, slope = fad.compile(program, strict=True), fad.grad(fad.compile(program))
    for x in (POINT, 1.1 * POINT[::-1]):
        expected = fad.value_and_grad(program)(x)
        assert strict(x) == expected[0]
        np.testing.assert_allclose(slope(x), expected[1], rtol=1e-9, atol=1e-10)
