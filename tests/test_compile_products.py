"""Products in compiled programs: operands that BLAS takes as they lie in memory are not copied."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(8)

# What is multiplied, made of arrays of the shapes that follow.
PRODUCTS = {
    "transposed left": (lambda a, b: a.T @ b, (3, 4), (3, 5)),
    "transposed right": (lambda a, b: a @ b.T, (3, 4), (5, 4)),
    "both": (lambda a, b: a.T @ b.T, (4, 3), (5, 4)),
    "columns": (lambda a, b: a[:, 1:4] @ b[2:5], (4, 6), (7, 3)),
    "transposed columns": (lambda a, b: a[:, 1:4].T @ b[:, 2:], (4, 6), (4, 5)),
    "every other row": (lambda a, b: a[::2] @ b[1::2].T, (6, 4), (7, 4)),
    "rows backwards": (lambda a, b: a[::-1] @ b[:, ::-1], (3, 4), (4, 5)),
    "every other column": (lambda a, b: a[:, ::2] @ b, (3, 8), (4, 5)),
    "with itself": (lambda a, b: a @ a.T + b.T @ b, (4, 3), (3, 4)),
    "a row": (lambda a, b: a[:, 2:3].T @ b, (4, 3), (4, 5)),
    "a column": (lambda a, b: a.T @ b[:, 1:2], (4, 3), (4, 5)),
    "outer": (lambda a, b: a[:, :1] @ b[:, 1:2].T, (4, 3), (5, 3)),
    "inner": (lambda a, b: a[:, :1].T @ b[:, 1:2], (4, 3), (4, 2)),
    "one number": (lambda a, b: a[1:2, 1:2] @ b[:1, 2:3].T, (3, 3), (3, 3)),
    "a vector": (lambda a, b: a.T @ b[:, 0], (4, 3), (4, 2)),
    "stacks": (lambda a, b: np.swapaxes(a, 1, 2) @ b, (2, 3, 4), (2, 3, 5)),
    "stacks along the last axis": (
        lambda a, b: np.moveaxis(a, 2, 0) @ np.moveaxis(b, 1, 0),
        (3, 4, 2),
        (4, 2, 5),
    ),
    "a stack and a matrix": (lambda a, b: np.swapaxes(a, 0, 1) @ b.T, (3, 2, 4), (5, 4)),
    "stacks of stacks": (lambda a, b: a.transpose(1, 0, 3, 2) @ b, (2, 3, 4, 5), (1, 2, 4, 2)),
    "repeated": (lambda a, b: np.broadcast_to(a[0], (3, 4)) @ b, (2, 4), (4, 5)),
    "a repeated stack": (lambda a, b: np.broadcast_to(a.T, (3, 4, 2)) @ b, (2, 4), (3, 2, 5)),
    "nothing to add": (lambda a, b: a[:, 2:2] @ b.T[3:3], (3, 4), (5, 3)),
    "nothing at all": (lambda a, b: a[3:].T @ b[3:], (3, 4), (3, 5)),
    "computed before": (lambda a, b: np.sin(a).T @ np.exp(b)[:, 1:], (3, 4), (3, 5)),
    "einsum": (lambda a, b: np.einsum("kij,nkj->nki", a, b), (2, 3, 4), (5, 2, 4)),
    "read otherwise too": (lambda a, b: a.T @ b + np.reshape(a.T, (4, 3)) @ b, (3, 4), (3, 5)),
}


def drawn(*shapes, dtype=np.float64):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("strict", (False, True))
@pytest.mark.parametrize("dtype", (np.float64, np.float32))
@pytest.mark.parametrize("name", PRODUCTS)
def test_values_and_gradients(name, dtype, strict):
    product, *shapes = PRODUCTS[name]
    tolerance = 1e-12 if dtype == np.float64 else 1e-5

    def f(a, b):
        return np.sum(np.tanh(product(a, b)))

    value = fad.compile(product, strict=strict)
    gradient = fad.grad(fad.compile(f, strict=strict), argnums=(0, 1))
    for _ in range(2):
        a, b = drawn(*shapes, dtype=dtype)
        found = value(a, b)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, product(a, b), tolerance, tolerance)
        one_shot = fad.grad(f, argnums=(0, 1))(a, b)
        for x, y in zip(gradient(a, b), one_shot, strict=True):
            np.testing.assert_allclose(x, y, 10 * tolerance, tolerance)


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_of_the_value(name):
    product, *shapes = PRODUCTS[name]
    f = fad.compile(lambda a, b: np.sum(np.tanh(product(a, b))))
    a, b = drawn(*shapes)
    gradients = fad.grad(f, argnums=(0, 1))(a, b)
    for k, (x, gradient) in enumerate(zip((a, b), gradients, strict=True)):
        direction = rng.normal(size=x.shape)
        arguments = [a, b]
        ends = []
        for h in (-1e-5, 1e-5):
            arguments[k] = x + h * direction
            ends.append(f(*arguments))
        slope = (ends[1] - ends[0]) / 2e-5
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ("transposed left", "columns", "stacks", "a column"))
def test_nothing_is_copied(name):
    product, *shapes = PRODUCTS[name]
    text = fad.compile(product).program(*drawn(*shapes)).text()
    assert "matmul in0" in text
    assert "region" not in text


def test_what_blas_cannot_take_is_copied():
    product, *shapes = PRODUCTS["every other column"]
    assert "convert" in fad.compile(product).program(*drawn(*shapes)).text()


@pytest.mark.parametrize("name", PRODUCTS)
def test_saved(name):
    product, *shapes = PRODUCTS[name]
    program = fad.compile(product).program(*drawn(*shapes))
    loaded = fad.Program.from_bytes(program.to_bytes())
    a, b = drawn(*shapes)
    assert loaded(a, b)[0].tobytes() == program(a, b)[0].tobytes()
    assert loaded.to_bytes() == program.to_bytes()
    assert loaded.text() == program.text()
    assert program.draw().startswith("<svg")


def test_nan_and_inf():
    a, b = drawn((3, 4), (3, 5))
    a[1, 2], b[0, 1] = np.nan, np.inf
    f = fad.compile(lambda a, b: a.T @ b)
    with np.errstate(invalid="ignore"):
        expected = a.T @ b
    np.testing.assert_array_equal(f(a, b), expected)


# --- factors -------------------------------------------------------------------------------------

SCALED = {
    "left": lambda a, b: (2.0 * a).T @ b,
    "right": lambda a, b: a.T @ (b * -3.0),
    "both": lambda a, b: (0.5 * a).T @ (b / 3.0),
    "a sign": lambda a, b: (-a).T @ b,
    "signs": lambda a, b: (-a).T @ (-b),
    "large": lambda a, b: (1e150 * a).T @ (1e150 * b) * 1e-300,
    "too small together": lambda a, b: (1e-200 * a).T @ (1e-200 * b),
    "used again": lambda a, b: (2.0 * a).T @ b + np.sum(2.0 * a),
    "of rows": lambda a, b: (a * np.arange(1.0, 4.0)).T @ b,
}


@pytest.mark.parametrize("name", SCALED)
def test_factors_of_products(name):
    a, b = drawn((60, 3), (60, 5))
    f = SCALED[name]
    np.testing.assert_allclose(fad.compile(f)(a, b), f(a, b), 1e-12, 1e-12)
    assert np.array_equal(fad.compile(f, strict=True)(a, b), f(a, b))
    g = lambda a, b: np.sum(np.sin(f(a, b)))
    for found, expected in zip(
        fad.grad(fad.compile(g), argnums=(0, 1))(a, b),
        fad.grad(g, argnums=(0, 1))(a, b),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, 1e-11, 1e-11)


def test_factors_move_to_the_smaller_array():
    a, b = drawn((600, 3), (600, 5))
    text = fad.compile(lambda a, b: a.T @ (np.sin(b) * 7.0)).program(a, b).text()
    assert text.index("matmul") < text.index("MUL")
    text = fad.compile(lambda a, c: a @ (np.sin(c) * 7.0).T).program(a, b[:5, :3]).text()
    assert text.index("MUL") < text.index("matmul")
