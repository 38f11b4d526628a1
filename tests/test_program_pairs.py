"""Instructions of a compiled function that run as one loop: values and gradients.

tests/c/test_pairs.c says which pairs there are, and that each has the bits of its two instructions.
"""

import numpy as np
import pytest

import fastad as fad

LENGTHS = [0, 1, 2, 7, 8, 9, 31, 32, 33, 64, 127, 500, 1025]


def heat(u):
    for _ in range(3):
        u = u + 0.1 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) - 0.01 * u**3
    return u


def attraction(x):
    square = x * x + 0.5 * x + 1.0
    inverse = 1.0 / (square * square * square)
    return 4.0 * inverse * (inverse - 1.0)


def pendulum(angle):
    speed = 0.1 * angle
    for _ in range(4):
        speed = speed + 0.05 * (-9.81 * np.sin(angle) - 0.1 * speed)
        angle = angle + 0.05 * speed
    return angle * speed - angle


def chain(x):
    """Stages that read the ones before them at shifted places too, and are summed up."""
    stages = [x]
    for k in range(4):
        before = np.concatenate((np.ones(1, x.dtype), stages[-1][:-1]))
        stages.append(x * before * (0.5 + 0.1 * k) + x)
    return stages[1] + stages[2] + stages[3] + stages[4] + x * stages[4]


def polynomial(x):
    value = 0.0 * x
    for c in (1.0, -2.0, 3.0, -4.0, 5.0):
        value = value * x + c
    return value


FUNCTIONS = [heat, attraction, pendulum, chain, polynomial]


def total(f):
    return lambda x: np.sum(f(x) * f(x))


def close(dtype):
    return {"rtol": 1e-4, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_values(rng, f, dtype):
    for n in LENGTHS:
        if n == 0 and f is chain:
            continue  # a stage has one element more than it has
        x = rng.normal(size=n).astype(dtype)
        np.testing.assert_allclose(fad.compile(f)(x), f(x), **close(dtype))


@pytest.mark.parametrize("f", FUNCTIONS)
def test_strict_values_have_the_bits_of_numpy(rng, f):
    for n in LENGTHS[1:]:
        x = rng.normal(size=n)
        compiled = fad.compile(f, strict=True)
        for _ in range(2):
            with fad.Tape() as tape:
                recorded = f(tape.variable(x)).value
            np.testing.assert_array_equal(compiled(x), recorded)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_gradients(rng, f, strict):
    for n in (1, 9, 64, 70, 300):
        x, direction, h = rng.normal(size=n), rng.normal(size=n), 1e-6
        value, slope = fad.value_and_grad(fad.compile(total(f), strict=strict))(x)
        difference = (total(f)(x + h * direction) - total(f)(x - h * direction)) / (2.0 * h)
        np.testing.assert_allclose(value, total(f)(x), rtol=1e-12)
        np.testing.assert_allclose(slope @ direction, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_special_values(f):
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, -1e-310, 1e200]
    x = np.resize(special, 70)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(fad.compile(f)(x), f(x), rtol=1e-12)
        compiled = fad.compile(f, strict=True)(x)
        np.testing.assert_array_equal(compiled, f(x))
        if f is attraction:
            np.testing.assert_array_equal(np.signbit(compiled), np.signbit(f(x)))


def test_many_threads_give_the_same_bits(rng):
    x = rng.normal(size=300_001)
    both = fad.value_and_grad(fad.compile(total(attraction)))
    before = fad.get_num_threads()
    try:
        fad.set_num_threads(1)
        value, slope = both(x)
        fad.set_num_threads(4)
        np.testing.assert_array_equal(both(x)[1], slope)
        assert both(x)[0] == value
    finally:
        fad.set_num_threads(before)
