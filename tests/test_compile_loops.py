"""Loops that do not roll into arrays: a body held once, repeated."""

import re
import threading

import numpy as np
import pytest

import fastad as fad

TOLERANCE = 1e-12


def oscillator(x):
    """A van der Pol oscillator, pushed by the elements of x."""
    position, speed = x[0], x[1]
    for k in range(2, len(x)):
        slope = (1.0 - position * position) * speed * 1.5 - position + x[k]
        speed = speed + slope * 0.01
        position = position + speed * 0.01
    return position


def coefficients(x):
    """Numbers that are others in each step, some of them the same."""
    p, q = x[0], x[1]
    for k in range(len(x)):
        p = np.sin(p * (0.9 + 0.1 * np.cos(float(k))) + q)
        q = q * (0.99 if k % 3 else 1.01) + x[k] * 0.125
    return p + q


def third_order(x):
    """Reads what was two and three steps before, and sums up."""
    a, b, c = x[0], x[1], x[2]
    total = 0.0
    for k in range(3, len(x)):
        a, b, c = b, c, np.tanh(a * 0.3 + b - c * 0.7 + x[k])
        total = total + c * c
    return total


def branching(x):
    """What Python decides in the loop is recorded as it was decided."""
    y, z = x[0], x[1]
    for k in range(2, len(x)):
        y = (y + x[k]) * 0.99
        z = z - y * 0.125
        if k % 50 == 0:
            z = abs(z)
        if z > 1e6:
            z = z - 1.0
    return y * z


def two_loops(x):
    """The second reads the states of the first, backwards."""
    states = [x[0]]
    for k in range(1, len(x)):
        states.append(np.sin(states[-1] * 0.7 + x[k]))
    y = x[1]
    for k in reversed(range(len(x))):
        y = y * 0.5 + states[k] * x[k]
    return y


def matrix(x):
    """Three states, mixed by a matrix written out."""
    state = [x[0], x[1], x[2]]
    mix = [[0.5, 0.2, -0.1], [0.1, 0.6, 0.3], [-0.2, 0.1, 0.7]]
    for k in range(3, len(x)):
        state = [sum(m * s for m, s in zip(row, state, strict=True)) for row in mix]
        state[0] = np.cos(state[0]) + x[k]
    return state[0] * state[1] + state[2]


def computed(x):
    """Reads arrays that are computed first."""
    s = np.sin(x)
    c = np.cos(s)
    y = s[0]
    for k in range(len(x)):
        y = y * c[len(x) - 1 - k] - s[k]
    return y


def stacked(x):
    """All states leave the loop as an array."""
    y, states = x[0], []
    for k in range(len(x)):
        y = y * y * 0.25 + x[k]
        states.append(y)
    return np.sum(np.stack(states) * x)


FUNCTIONS = (
    oscillator,
    coefficients,
    third_order,
    branching,
    two_loops,
    matrix,
    computed,
    stacked,
)


def point(n):
    """Small numbers of both signs."""
    return 0.3 * np.sin(1.7 * np.arange(n) + 0.4)


def close(found, expected):
    """To 1e-12 of the largest."""
    expected = np.asarray(expected)
    return np.max(np.abs(found - expected)) <= TOLERANCE * max(1.0, np.max(np.abs(expected)))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [5, 30, 700])
def test_value_and_gradient_are_those_of_one_shot(function, n):
    x = point(n)
    value, gradient = fad.value_and_grad(function)(x)
    compiled = fad.compile(function)
    assert close(compiled(x), value)
    found = fad.value_and_grad(compiled)(x)
    assert close(found[0], value)
    assert close(found[1], gradient)
    other = x[::-1].copy()
    assert close(fad.grad(compiled)(other), fad.grad(function)(other))


@pytest.mark.parametrize("function", FUNCTIONS[:-1], ids=lambda f: f.__name__)
def test_strict_gives_the_same_bits(function):
    x = point(500)
    value, gradient = fad.value_and_grad(function)(x)
    compiled = fad.compile(function, strict=True)
    assert compiled(x) == value
    found = fad.value_and_grad(compiled)(x)
    assert found[0] == value
    assert close(found[1], gradient)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_number_of_instructions_does_not_grow(function):
    both = fad.value_and_grad(fad.compile(function))
    few, many = (both.program(point(n)).scalars for n in (2000, 4000))
    assert many <= 1.25 * few
    assert many < 2000


@pytest.mark.parametrize("function", [oscillator, third_order], ids=lambda f: f.__name__)
def test_second_derivatives(function):
    x = point(200)
    along = np.cos(np.arange(200.0))
    assert close(fad.hvp(fad.compile(function), (x,), (along,)), fad.hvp(function, (x,), (along,)))


def test_threads_have_their_own_iteration():
    both = fad.value_and_grad(fad.compile(oscillator))
    points = [point(2000) * scale for scale in (0.5, 1.0, 1.5, 2.0)]
    expected = [both(x) for x in points]
    wrong = []

    def work(x, known):
        for _ in range(50):
            value, gradient = both(x)
            if value != known[0] or not np.array_equal(gradient, known[1]):
                wrong.append(value)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(points, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_text_shows_the_body_once():
    program = fad.compile(oscillator).program(point(100))
    assert "repeat" in program.text()
    assert program.text().count("\n") < 50


@pytest.mark.parametrize("n", [1, 7, 14, 16, 63])
def test_temporaries_are_no_longer_than_the_range(n):
    """A loop over short arrays has thousands of them, and they are read again soon."""
    turns, x = 60, np.linspace(0.1, 1.0, n)

    def f(w):
        h = c = np.zeros(n)
        total = 0.0
        for _ in range(turns):
            keep, made = 1.0 / (1.0 + np.exp(-(x * w[0] + h * w[1]))), np.tanh(h * w[2] + x)
            c = c * keep + made * (1.0 - keep)
            h = keep * np.tanh(c)
            total = total + np.sum(h * h)
        return total

    w = np.linspace(-0.5, 0.5, 3 * n).reshape(3, n)
    g = fad.compile(fad.value_and_grad(f))
    assert g.program(w).nbytes < 12 * turns * 8 * (n + 8)
    value, slope = g(w)
    h, d = 1e-6, np.cos(np.arange(3.0 * n)).reshape(3, n)
    np.testing.assert_allclose(value, f(w), rtol=1e-12)
    expected = (f(w + h * d) - f(w - h * d)) / (2 * h)
    np.testing.assert_allclose(np.sum(slope * d), expected, rtol=1e-7)


@pytest.mark.parametrize("strict", [False, True])
def test_what_a_gradient_adds_up_is_not_kept(strict):
    """Slopes are made when the adjoints come to them, and terms of long sums are added at once."""
    turns, n = 60, 130
    x = np.linspace(0.1, 1.0, n)

    def f(w):
        h = c = np.zeros(n)
        total = 0.0
        for _ in range(turns):
            keep = 1.0 / (1.0 + np.exp(-(x * w[0] + h * w[1])))
            made = np.tanh(h * w[2] + x)
            c = c * keep + made * (1.0 - keep)
            h = keep * np.tanh(c)
            total = total + np.sum(h * x) - np.log(np.sum(np.exp(h * w[3])))
        return total

    w = np.linspace(-0.5, 0.5, 4 * n).reshape(4, n)
    g = fad.compile(fad.value_and_grad(f), strict=strict)
    strips = [int(s) for s in re.findall(r"(\d+) strips of", g.program(w).text())]
    assert strict or max(strips) < 1.5 * turns  # of three for each turn
    value, slope = g(w)
    h, d = 1e-5, np.cos(np.arange(4.0 * n)).reshape(4, n)
    np.testing.assert_allclose(value, f(w), rtol=1e-12)
    expected = (f(w + h * d) - f(w - h * d)) / (2 * h)
    np.testing.assert_allclose(np.sum(slope * d), expected, rtol=1e-6)
