"""What one later region alone reads is computed there: it is in no memory."""

import re

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(4)
N = 3000
PLACES = rng.integers(0, N, N)

# Functions of x (N numbers, one of them the largest), and how many arrays they have to keep. What
# the result is made of, element by element, lies where the result will be, and does not count.
FUNCTIONS = {
    "a sum between": (lambda x: (x + 1.0) * np.sum(x), 0),
    "a chain": (lambda x: np.exp(np.sin(x) + 1.0) * np.sum(x), 0),
    "a largest between": (lambda x: np.where(np.isnan(x), 0.0, x - np.max(x)), 0),
    "read twice, by one": (lambda x: (lambda y: y * np.sum(x) + y)(np.sin(x)), 0),
    "read at two stages": (lambda x: (lambda y: y + np.sum(y * np.sum(x)))(np.sin(x)), 0),
    "read by the sum too": (lambda x: (lambda y: y * np.sum(y))(np.sin(x)), 0),
    "gathered": (lambda x: np.sin(x)[PLACES] * np.sum(x), 1),
    "gathered by its own order": (lambda x: (lambda y: y + y[PLACES])(np.sin(x) * np.sum(x)), 1),
    "reversed": (lambda x: np.sin(x)[::-1] * np.sum(x), 1),
    "rows": (lambda x: np.reshape(x + 1.0, (3, -1)) * np.sum(np.reshape(x, (3, -1)), axis=0), 0),
    "a product of it": (lambda x: np.reshape(np.sin(x), (3, -1)) @ (x[:1000] * np.sum(x)), 2),
    "a guard": (lambda x: np.sin(x) * np.sum(x) if np.sum(np.cos(x)) < 1e9 else x, 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name):
    f, _ = FUNCTIONS[name]
    compiled = fad.compile(f)
    gradient = fad.grad(fad.compile(lambda x: np.sum(np.cos(f(x)))))
    for _ in range(2):
        x = rng.normal(size=N)
        np.testing.assert_allclose(compiled(x), f(x), 1e-12, 1e-10)
        expected = fad.grad(lambda x: np.sum(np.cos(f(x))))(x)
        np.testing.assert_allclose(gradient(x), expected, 1e-9, 1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_how_much_is_kept(name):
    f, arrays = FUNCTIONS[name]
    text = fad.compile(f).program(rng.normal(size=N)).text()
    assert len(re.findall(r"^  work\S+\[i\] = ", text, re.MULTILINE)) == arrays


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "product" not in name])
def test_strict_gives_the_bits_of_the_recording(name):
    f, _ = FUNCTIONS[name]
    x = rng.normal(size=N)
    expected = fad.vjp(f, x)[0]
    assert np.array_equal(fad.compile(f, strict=True)(x), expected)
