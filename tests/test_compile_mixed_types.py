"""Compiled programs of mixed float32 and float64, single numbers and arrays of one element.

Each is called at changing points: a number that is read before it is written is then that of the
call before, and seen.
"""

import random

import numpy as np
import pytest

import fastad as fad

UNARY = (np.sin, np.tanh, np.square, np.abs, np.negative, np.sum)
BINARY = (np.add, np.subtract, np.multiply, np.maximum, np.minimum)
COMPARISONS = (np.less, np.greater)


def random_function(dice, parts):
    """A function of x (three elements, of which `parts` are taken together) and a number y."""
    steps, known = [], 5
    for _ in range(dice.randint(2, 8)):
        kind = dice.choices(("unary", "binary", "where", "scale"), (30, 45, 20, 5))[0]
        function = dice.choice({"unary": UNARY, "binary": BINARY}.get(kind, COMPARISONS))
        steps.append((kind, function, [dice.randrange(known) for _ in range(4)]))
        known += 1

    def f(x, y):
        v = [x[0], x[1], x[:parts], y, x[1 : 1 + parts]]
        for kind, function, (a, b, c, d) in steps:
            if kind == "unary":
                v.append(function(v[a]))
            elif kind == "binary":
                v.append(function(v[a], v[b]))
            elif kind == "where":
                v.append(np.where(function(v[a], v[b]), v[c], v[d]))
            else:
                v.append(v[a] * np.float64(1.5))
        return np.sum(v[-1]) + np.sum(v[-2]) * v[0]

    return f


def flat(found):
    return np.concatenate([np.ravel(np.asarray(part, dtype=float)) for part in found])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("block", range(6))
def test_values_and_gradients_at_changing_points(block, strict):
    for seed in range(200 * block, 200 * (block + 1)):
        dice = random.Random(seed)
        dtype, other = (dice.choice((np.float32, np.float64)) for _ in range(2))
        f = random_function(dice, dice.choice((1, 1, 2)))
        points = [
            (np.array(x, dtype), other(y))
            for x, y in (([0.3, 0.55, 0.7], 0.8), ([0.9, -0.3, 0.2], -0.4), ([0.3, 0.55, 0.7], 0.8))
        ]
        compiled = fad.compile(f, strict=strict)
        both = fad.value_and_grad(compiled, argnums=(0, 1))
        once = fad.value_and_grad(f, argnums=(0, 1))
        tolerance = 1e-9 if dtype is other is np.float64 else 3e-4
        for x, y in points:
            expected = f(x, y)
            np.testing.assert_allclose(compiled(x, y), expected, tolerance, tolerance, err_msg=seed)
            value, gradients = both(x, y)
            np.testing.assert_allclose(value, expected, tolerance, tolerance, err_msg=seed)
            np.testing.assert_allclose(
                flat(gradients), flat(once(x, y)[1]), tolerance, tolerance, err_msg=seed
            )


@pytest.mark.parametrize("transform", [fad.grad, fad.value_and_grad, fad.jacobian])
def test_a_single_float32_number_is_never_that_of_the_call_before(transform):
    def f(x):
        return np.sin(np.maximum(x, 0.1))

    found = transform(fad.compile(f))
    for x in (1.0, -1.0, 1.0, 1.0, -0.5):
        gradient = found(np.float32(x))
        gradient = gradient[1] if transform is fad.value_and_grad else gradient
        step = 1e-6
        slope = (f(np.float64(x) + step) - f(np.float64(x) - step)) / (2 * step)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)


def test_such_a_program_is_right_when_loaded():
    g = fad.grad(fad.compile(lambda x: np.maximum(x[0], 0.1) * x[1]))
    x = np.array([0.3, 0.7], np.float32)
    loaded = fad.Program.from_bytes(g.program(x).to_bytes())
    (gradient,) = loaded(x)
    np.testing.assert_array_equal(gradient, np.array([0.7, 0.3], np.float32))
