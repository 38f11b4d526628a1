"""csrc/lower_fuse.c: sums that are one instruction with a product, and signs that go into them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastad as fad

SIZES = [0, 1, 7, 301, 2000]
SPECIAL = [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan]


def instructions(program):
    """How often each occurs."""
    words = re.findall(r"= ([A-Za-z-]+)", program.text())
    return {word: words.count(word) for word in words}


def operands(size, dtype, count=5):
    """Ordinary numbers; where there is room, every combination of special ones in three."""
    rng = np.random.default_rng(size)
    columns = rng.uniform(-2.0, 2.0, (count, size))
    grid = np.array(np.meshgrid(SPECIAL, SPECIAL, SPECIAL)).reshape(3, -1)
    if size > grid.shape[1]:
        columns[:3, : grid.shape[1]] = grid
    return [column.astype(dtype) for column in columns]


def close(found, right, dtype):
    assert found.dtype == right.dtype == dtype
    np.testing.assert_allclose(
        found, right, rtol=1e-12 if dtype == "f8" else 1e-4, atol=1e-6 if dtype == "f4" else 1e-13
    )


def joined(x, y, z, p, q):
    """The sum of two products joins what is added to it."""
    early, c, s = np.tanh(z), np.cos(p), np.sin(q)
    return early + (c * s + np.arctan(x) * np.arctan(y))


def joined_difference(x, y, z, p, q):
    early, c, s = np.tanh(z), np.cos(p), np.sin(q)
    return (c * s - np.arctan(x) * np.arctan(y)) + early


def joined_square(x, y, z, p, q):
    early, c = np.tanh(z), np.cos(p)
    return (np.square(c) + np.arctan(x) * np.arctan(y)) + early


def signed(x, y, z, p, q):
    """The sign that products share goes into their sums: as a factor, and of what is added."""
    turned = -np.cos(x)
    return turned * y + z, p * q + turned * z, q - turned * p


def signed_twice(x, y, z, p, q):
    one, other = -np.cos(x), -np.sin(p)
    return one * other + z, one * y + q, other * y + q


def signed_and_read(x, y, z, p, q):
    turned = -np.cos(x)
    return turned * y + z, p + turned * q, np.exp(turned)


CASES = [
    (joined, {"mul-add": 2}, ["ADD", "MUL"]),
    (joined_difference, {"mul-add": 1, "sub-mul": 1}, ["ADD", "SUB", "MUL"]),
    (joined_square, {"mul-add": 2}, ["ADD", "MUL", "SQUARE"]),
    (signed, {"sub-mul": 1, "mul-sub": 1, "mul-add": 1}, ["NEG", "ADD", "SUB"]),
    (signed_twice, {"sub-mul": 2, "mul-add": 1}, ["NEG", "ADD"]),
    (signed_and_read, {"sub-mul": 2, "NEG": 1}, ["ADD"]),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("f", "there", "gone"), CASES, ids=[case[0].__name__ for case in CASES])
def test_sums(f, there, gone, size, dtype):
    arguments = operands(size, dtype)
    program = fad.compile(f).program(*arguments)
    if size > 1:
        found = instructions(program)
        assert {word: found.get(word, 0) for word in there} == there
        assert not set(gone) & set(found)
    right = f(*arguments)
    right = right if isinstance(right, tuple) else (right,)
    for run in (program, fad.Program.from_bytes(program.to_bytes())):
        for own, value in zip(run(*arguments), right, strict=True):
            close(own, value, dtype)


@pytest.mark.parametrize("f", [case[0] for case in CASES])
def test_strict_programs_have_none(f):
    program = fad.compile(f, strict=True).program(*operands(301, "f8"))
    assert not {"mul-add", "mul-sub", "sub-mul"} & set(instructions(program))


def strong_difference(x, w, y):
    return np.sum(np.exp(x * w) - np.exp(x * y))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_strong_products_that_are_subtracted(dtype):
    """Where the cotangent is 0 the product is nothing, on either side of the difference."""
    x = np.linspace(0.1, 1.0, 301).astype(dtype)
    w, y = np.linspace(0.1, 2.0, 301).astype(dtype), np.linspace(-1.0, 0.5, 301).astype(dtype)
    w[10], y[20], w[30], y[30] = (-np.inf,) * 4
    w[40], y[50], w[60] = np.inf, np.inf, np.nan
    program = fad.compile(fad.grad(strong_difference)).program(x, w, y)
    assert {"zmul-sub", "sub-zmul"} & set(instructions(program))
    right = w * np.exp(x * w) - y * np.exp(x * y)
    right[10], right[20], right[30] = -(y * np.exp(x * y))[10], (w * np.exp(x * w))[20], 0.0
    for run in (program, fad.Program.from_bytes(program.to_bytes())):
        close(run(x, w, y)[0], right, dtype)
    close(fad.grad(strong_difference)(x, w, y), right, dtype)


@pytest.mark.parametrize("size", [1, 7, 301, 2000])
def test_gradients_of_rows(size):
    """A cross product under vmap has all of them; against finite differences."""

    def f(x, y, z):
        c = np.cross(x, y)
        return np.sum(np.sin(np.cross(c, z) / (1.0 + np.sum(c * c))))

    rng = np.random.default_rng(size)
    x, y, z, t = rng.uniform(-1.0, 1.0, (4, size, 3))
    lanes = fad.compile(fad.vmap(fad.grad(f)))
    found = lanes(x, y, z)
    step = 1e-6
    values = fad.vmap(f)
    right = (values(x + step * t, y, z) - values(x - step * t, y, z)) / (2 * step)
    np.testing.assert_allclose(np.sum(found * t, axis=1), right, rtol=1e-6, atol=1e-8)
    if size > 64:
        assert {"zmul-add", "zmul-sub"} <= set(instructions(lanes.program(x, y, z)))


@pytest.mark.parametrize("size", [1, 7, 301, 2000])
def test_differences_that_go_to_memory(size):
    """What is added to memory element by element begins with what is there, differences too."""
    rng = np.random.default_rng(size)
    x, y, z = rng.uniform(-1.0, 1.0, (3, size + 2))

    def f(x, y, z):
        out = np.sin(x)
        a, b, c, d = np.cos(y), np.cos(z), np.tanh(y), np.tanh(z)
        out[1:] += a[1:] * b[1:] - c[1:] * d[1:]
        out[:-1] += c[:-1] * b[:-1] - a[:-1] * d[:-1] + np.exp(z[:-1])
        return out

    def total(x, y, z):
        return np.sum(np.sin(f(x, y, z)) - f(z, x, y) * f(y, z, x))

    np.testing.assert_allclose(fad.compile(f)(x, y, z), f(x, y, z), rtol=1e-13, atol=1e-13)
    found = fad.compile(fad.grad(total, argnums=(0, 1, 2)))(x, y, z)
    t = rng.uniform(-1.0, 1.0, (3, size + 2))
    step = 1e-6
    right = (
        total(x + step * t[0], y + step * t[1], z + step * t[2])
        - total(x - step * t[0], y - step * t[1], z - step * t[2])
    ) / (2 * step)
    np.testing.assert_allclose(
        sum(np.sum(g * u) for g, u in zip(found, t, strict=True)), right, rtol=1e-6, atol=1e-8
    )
