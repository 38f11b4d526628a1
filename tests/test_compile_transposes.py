"""Element-wise work, sums and extrema of permuted arrays: done in the order of their memory."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(12)
VECTOR = rng.normal(size=4)
MASK = rng.random((3, 4)) < 0.5

# Functions of a (4, 3), b (4, 3), c (2, 4, 3), and whether no element is read out of order.
FUNCTIONS = {
    "one": (lambda a, b, c: np.sin(a.T), False),
    "two": (lambda a, b, c: np.sum(np.sin(a.T) * b.T, axis=1), True),
    "a total": (lambda a, b, c: np.sum(np.sin(a.T) * b.T), True),
    "rows": (lambda a, b, c: np.sum(a.T**2, axis=1), True),
    "columns": (lambda a, b, c: np.sum(a.T**2, axis=0), True),
    "kept": (lambda a, b, c: np.sum(np.exp(a.T), axis=1, keepdims=True) + b.T, False),
    "a number": (lambda a, b, c: np.sum(a.T * np.sum(b) + 2.0, axis=0), True),
    "a vector": (lambda a, b, c: np.sum(a.T * VECTOR, axis=0), True),
    "a row that is computed": (lambda a, b, c: np.sum(a.T * np.sum(b, axis=1), axis=0), True),
    "a column": (lambda a, b, c: np.sum(a.T / np.exp(np.sum(b, axis=0))[:, None], axis=0), False),
    "an array in order": (lambda a, b, c: a.T * np.reshape(b, (3, 4)), False),
    "an array in another order": (
        lambda a, b, c: np.sum(np.moveaxis(c, 0, 2) * c.transpose(1, 2, 0)[:, :, ::-1]),
        False,
    ),
    "a mask": (lambda a, b, c: np.where(a.T > b.T, a.T, 0.5), False),
    "a constant mask": (lambda a, b, c: np.sum(np.where(MASK, a.T, b.T), axis=1), False),
    "largest": (lambda a, b, c: np.max(np.sin(a.T), axis=1), True),
    "smallest": (lambda a, b, c: np.min(np.cos(a.T) - b.T, axis=0), True),
    "logsumexp": (
        lambda a, b, c: np.log(np.sum(np.exp(a.T - np.max(a.T, axis=1)[:, None]), axis=1)),
        True,
    ),
    "three axes": (lambda a, b, c: np.sum(np.sin(c.transpose(2, 0, 1)), axis=2), False),
    "back again": (lambda a, b, c: np.sin(np.cos(a.T).T) + b, True),
    "axes of one": (lambda a, b, c: np.sin(c[:1].transpose(2, 0, 1))[:, 0] * b.T, False),
    "new axes": (
        lambda a, b, c: np.sum(np.sin(a.T)[:, None, :] * c.transpose(2, 0, 1), axis=(0, 1)),
        False,
    ),
    "into a product": (lambda a, b, c: np.exp(a.T) @ b, True),
    "nothing": (lambda a, b, c: np.sin(a[:, 3:].T) + 1.0, True),
    "a sum of three": (lambda a, b, c: np.sum(a.T + b.T + np.sin(a).T, axis=0), True),
}


def drawn(dtype=np.float64):
    return [rng.normal(size=shape).astype(dtype) for shape in ((4, 3), (4, 3), (2, 4, 3))]


@pytest.mark.parametrize("strict", (False, True))
@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, dtype, strict):
    f, _ = FUNCTIONS[name]
    tolerance = 1e-12 if dtype == np.float64 else 2e-5

    def scalar(*arguments):
        return np.sum(np.tanh(f(*arguments)))

    compiled = fad.compile(f, strict=strict)
    gradient = fad.grad(fad.compile(scalar, strict=strict), argnums=(0, 1, 2))
    for _ in range(2):
        arguments = drawn(dtype)
        expected = f(*arguments)
        found = compiled(*arguments)
        assert np.shape(found) == np.shape(expected)
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(found, expected, tolerance, tolerance)
        slopes = fad.grad(scalar, argnums=(0, 1, 2))(*arguments)
        for x, y in zip(gradient(*arguments), slopes, strict=True):
            np.testing.assert_allclose(x, y, 10 * tolerance, tolerance)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_the_value(name):
    f, _ = FUNCTIONS[name]
    scalar = fad.compile(lambda *arguments: np.sum(np.tanh(f(*arguments))))
    arguments = drawn()
    for k, gradient in enumerate(fad.grad(scalar, argnums=(0, 1, 2))(*arguments)):
        direction = rng.normal(size=arguments[k].shape)
        moved = [
            [*arguments[:k], arguments[k] + h * direction, *arguments[k + 1 :]]
            for h in (-1e-6, 1e-6)
        ]
        slope = (scalar(*moved[1]) - scalar(*moved[0])) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", [name for name, (_, in_order) in FUNCTIONS.items() if in_order])
def test_memory_is_read_in_its_order(name):
    f, _ = FUNCTIONS[name]
    text = fad.compile(f).program(*drawn()).text()
    for line in text.splitlines():
        if "= load" in line:
            strides = line.split("strides [")[1].split("]")[0]
            assert strides.split(",")[-1].strip() in ("0", "8"), text


@pytest.mark.parametrize("special", (np.nan, np.inf, -np.inf))
def test_special_values_and_ties(special):
    def f(a):
        return np.sum(np.max(a.T, axis=1) * VECTOR[:3]) + np.sum(np.min(a.T, axis=0))

    for value in (np.ones((4, 3)), np.tile([1.0, special, 2.0], (4, 1))):
        compiled = fad.value_and_grad(fad.compile(f))(value)
        for found, expected in zip(compiled, fad.value_and_grad(f)(value), strict=True):
            np.testing.assert_allclose(found, expected, 1e-14)


def test_hessian():
    def f(a):
        return np.sum(np.log(np.sum(np.exp(np.sin(a.T) * VECTOR), axis=1)))

    a = drawn()[0]
    np.testing.assert_allclose(fad.hessian(fad.compile(f))(a), fad.hessian(f)(a), 1e-11, 1e-13)
