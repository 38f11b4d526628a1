"""numpy.linalg: systems, inverses, determinants (of singular matrices too), Cholesky, norms."""

import numpy as np
import pytest
from numpy_case import APART, check_error, demands_on, row
from reference import numeric_gradient, numeric_jacobian

import fastad as fad


def regular(rng, shape):
    """Square matrices well away from singular ones; other shapes are plain."""
    x = rng.normal(size=shape)
    if len(shape) > 1 and shape[-1] == shape[-2]:
        x += 3 * np.eye(shape[-1])
    return x


def symmetric(x):
    return 0.5 * (x + np.swapaxes(x, -1, -2))


def cholesky_of(x, **options):
    return np.linalg.cholesky(symmetric(x) + 4 * np.eye(x.shape[-1]), **options)


REGULAR = {"sample": regular}

SYSTEMS = [
    row("solve vector", np.linalg.solve, (3, 3), (3,), **REGULAR),
    row("solve matrix", np.linalg.solve, (3, 3), (3, 2), **REGULAR),
    row("solve stack", np.linalg.solve, (2, 3, 3), (2, 3, 2), **REGULAR),
    row("solve broadcast matrix", np.linalg.solve, (3, 3), (2, 3, 1), **REGULAR),
    row("solve broadcast stack", np.linalg.solve, (2, 3, 3), (3, 2), **REGULAR),
    row("solve stack with one vector", np.linalg.solve, (2, 3, 3), (3,), **REGULAR),
    row("solve constant matrix", lambda b: np.linalg.solve([[2.0, 1.0], [0.5, 3.0]], b), (2,)),
    row("solve constant vector", lambda A: np.linalg.solve(A, [1, 2, 3]), (3, 3), **REGULAR),
    row("solve itself", lambda A: np.linalg.solve(A, A.T), (3, 3), **REGULAR),
    row("solve one", np.linalg.solve, (1, 1), (1,), **REGULAR),
    row("solve nothing", np.linalg.solve, (0, 0), (0, 2)),
    row("inv", np.linalg.inv, (3, 3), **REGULAR),
    row("inv stack", np.linalg.inv, (2, 2, 2), **REGULAR),
    row("det 0", np.linalg.det, (0, 0)),
    row("det 1", np.linalg.det, (1, 1)),
    row("det 2", np.linalg.det, (2, 2)),
    row("det 3", np.linalg.det, (3, 3)),
    row("det 4", np.linalg.det, (4, 4)),
    row("det 5", lambda A: np.linalg.det(A / 2), (5, 5)),
    row("det stack of 2", np.linalg.det, (3, 2, 2)),
    row("det stack of 4", np.linalg.det, (2, 4, 4)),
    row("slogdet", lambda A: np.linalg.slogdet(A)[1], (3, 3), **REGULAR),
    row("slogdet by name", lambda A: np.linalg.slogdet(A).logabsdet, (4, 4), **REGULAR),
    row("slogdet stack", lambda A: np.linalg.slogdet(A).logabsdet, (2, 3, 3), **REGULAR),
    row("slogdet both", lambda A: np.linalg.slogdet(-A)[0] * np.linalg.slogdet(A)[1], (3, 3)),
    row("cholesky", cholesky_of, (3, 3)),
    row("cholesky upper", lambda x: cholesky_of(x, upper=True), (3, 3)),
    row("cholesky stack", cholesky_of, (2, 3, 3)),
]

NORMS = [
    row("norm", np.linalg.norm, (4,)),
    row("norm of a matrix", np.linalg.norm, (3, 4)),
    row("norm of 3-d", np.linalg.norm, (2, 3, 2)),
    row("norm of 0-d", lambda x: np.linalg.norm(x), ()),
    row("norm keepdims", lambda x: np.linalg.norm(x, keepdims=True), (2, 3)),
    row("norm axis", lambda x: np.linalg.norm(x, axis=1), (2, 3)),
    row("norm axis keepdims", lambda x: np.linalg.norm(x, axis=-2, keepdims=True), (2, 3), **APART),
    row("norm axes", lambda x: np.linalg.norm(x, axis=(0, 2)), (2, 3, 4)),
    row("norm fro", lambda x: np.linalg.norm(x, "fro"), (2, 3)),
    row("norm 2", lambda x: np.linalg.norm(x, 2), (3,)),
    row("norm 1", lambda x: np.linalg.norm(x, 1), (3,), **APART),
    row("norm inf", lambda x: np.linalg.norm(x, np.inf), (4,), **APART),
    row("norm -inf", lambda x: np.linalg.norm(x, -np.inf, axis=0), (3, 2), **APART),
    row("norm 3", lambda x: np.linalg.norm(x, 3, axis=1), (2, 3), **APART),
    row("norm 0.5", lambda x: np.linalg.norm(x, 0.5), (3,), **APART),
    row("norm -1", lambda x: np.linalg.norm(x, -1), (3,), **APART),
    row("norm 0", lambda x: np.linalg.norm(x, 0) + 0 * np.sum(x), (3,), **APART),
    row("norm matrix 1", lambda x: np.linalg.norm(x, 1), (3, 4), **APART),
    row("norm matrix -1", lambda x: np.linalg.norm(x, -1, keepdims=True), (3, 4), **APART),
    row("norm matrix inf", lambda x: np.linalg.norm(x, np.inf, axis=(2, 0)), (2, 3, 4), **APART),
    row("norm matrix -inf", lambda x: np.linalg.norm(x, -np.inf), (3, 4), **APART),
]

ROWS = [*SYSTEMS, *NORMS]


test_value, test_first_order, test_second_order, test_single = demands_on(ROWS)


# --- determinants of singular matrices ----------------------------------------------------------


def of_rank(n, rank, seed=3):
    """A matrix of small integers with the given rank: products and sums of it are exact."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (n, rank)) @ rng.integers(-2, 3, (rank, n))).astype(float)


def cofactors(A):
    """The oracle: every cofactor from its minor."""
    n = len(A)
    result = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            minor = np.delete(np.delete(A, i, 0), j, 1)
            result[i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    return result


SINGULAR = [
    np.zeros((4, 4)),
    np.ones((4, 4)),
    np.arange(16.0).reshape(4, 4),
    np.diag([1.0, 2.0, 0.0, 4.0, 5.0]),
    np.diag([1.0, 2.0, 0.0, 0.0, 5.0]),
    np.diag([1.0, 0.0, 0.0, 0.0, 5.0]),
    np.diag([1.0, 1e-9, 2.0, 3.0]),
    np.diag([1.0, 1e-200, 2.0, 1e-200]),
    of_rank(4, 3),
    of_rank(5, 4),
    of_rank(5, 3),
    of_rank(6, 2),
    of_rank(6, 5) + 1e-10 * np.eye(6),
    np.zeros((3, 3)),
    np.arange(9.0).reshape(3, 3),
    np.array([[1.0, 2.0], [2.0, 4.0]]),
    np.zeros((1, 1)),
]


@pytest.mark.parametrize(
    "A", SINGULAR, ids=lambda A: f"rank {np.linalg.matrix_rank(A)} of {len(A)}"
)
def test_gradient_of_det_at_singular_matrices(A):
    expected = cofactors(A)
    tolerance = 1e-12 * max(1.0, np.linalg.norm(A) ** (len(A) - 1))
    np.testing.assert_allclose(fad.grad(np.linalg.det)(A), expected, atol=tolerance)
    direction = np.random.default_rng(0).normal(size=A.shape)
    _, tangent = fad.jvp(np.linalg.det, (A,), (direction,))
    np.testing.assert_allclose(tangent, np.sum(expected * direction), atol=10 * tolerance)


@pytest.mark.parametrize(
    "A", SINGULAR, ids=lambda A: f"rank {np.linalg.matrix_rank(A)} of {len(A)}"
)
def test_hessian_of_det_at_singular_matrices(A):
    expected = numeric_jacobian(cofactors, A)
    tolerance = 1e-9 * max(1.0, np.linalg.norm(A) ** (len(A) - 1))
    np.testing.assert_allclose(fad.hessian(np.linalg.det)(A), expected, atol=tolerance)


@pytest.mark.parametrize("A", [np.zeros((4, 4)), np.diag([1.0, 0.0, 0.0, 2.0]), of_rank(4, 3)])
def test_third_derivative_of_det_at_singular_matrices(A):
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(2, 4, 4))

    def curvature(A):
        return np.sum(u * fad.jvp(fad.grad(np.linalg.det), (A,), (v,))[1])

    expected = numeric_gradient(lambda A: np.sum(u * (cofactors(A + v) - cofactors(A - v))) / 2, A)
    # The determinant is a polynomial: of the odd part in v only the linear and the cubic term.
    cubic = numeric_gradient(
        lambda A: np.sum(u * (cofactors(A + 2 * v) - cofactors(A - 2 * v))) / 4, A
    )
    expected = (4 * expected - cubic) / 3
    tolerance = 1e-8 * max(1.0, np.linalg.norm(A) ** 3)
    np.testing.assert_allclose(fad.grad(curvature)(A), expected, atol=tolerance)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_det_of_a_stack_of_singular_and_regular_matrices():
    A = np.stack([of_rank(4, 3), np.eye(4), np.zeros((4, 4)), np.full((4, 4), np.nan)])
    gradient = fad.grad(lambda A: np.sum(np.linalg.det(A)[:3]))(A)
    for own, matrix in zip(gradient[:3], A, strict=False):
        np.testing.assert_allclose(own, cofactors(matrix), atol=1e-11)
    assert not np.any(gradient[3])
    gradient = fad.grad(lambda A: np.sum(np.linalg.det(A)))(A)
    np.testing.assert_allclose(gradient[1], np.eye(4), atol=1e-12)
    assert np.all(np.isnan(gradient[3]))


def test_det_of_a_large_singular_matrix():
    A = of_rank(30, 29, seed=1) / 50
    U, sizes, Vt = np.linalg.svd(A)
    sign = np.linalg.det(U) * np.linalg.det(Vt)
    expected = sign * np.prod(sizes[:-1]) * np.outer(U[:, -1], Vt[-1])
    gradient = fad.grad(np.linalg.det)(A)
    np.testing.assert_allclose(gradient, expected, atol=1e-10 * np.max(np.abs(expected)))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    "f",
    [
        lambda A: np.linalg.det(A),
        lambda A: np.linalg.slogdet(A)[1],
        lambda A: np.linalg.inv(A)[:, 0, 1],
        lambda A: np.linalg.solve(A, np.ones(4))[:, 2],
        lambda A: np.linalg.solve(A, A + 1.0)[:, 0, 0],
        lambda A: cholesky_of(A)[:, 3, 2],
    ],
)
def test_a_matrix_that_nobody_asks_for_may_hold_nan(f):
    rng = np.random.default_rng(0)
    A = np.stack([regular(rng, (4, 4)), np.full((4, 4), np.nan)])
    gradient = fad.grad(lambda A: f(A)[0])(A)
    assert not np.any(gradient[1])
    np.testing.assert_allclose(gradient[0], fad.grad(lambda A: f(A)[0])(A[:1])[0])
    tangent = np.stack([rng.normal(size=(4, 4)), np.zeros((4, 4))])
    _, change = fad.jvp(f, (A,), (tangent,))
    assert change[1] == 0 and np.isfinite(change[0])
    hessian = fad.hessian(lambda A: f(A)[0])(A)
    assert np.all(np.isfinite(hessian[0, :, :, 0]))


# --- other edges --------------------------------------------------------------------------------


def test_slogdet_gives_numpys_result():
    A = np.array([[0.0, 2.0], [3.0, 1.0]])

    def f(A):
        result = np.linalg.slogdet(A)
        sign, logarithm = result
        assert type(result) is type(np.linalg.slogdet(np.eye(2)))
        return sign * np.exp(logarithm)

    value, gradient = fad.value_and_grad(f)(A)
    np.testing.assert_allclose(value, -6)
    np.testing.assert_allclose(gradient, [[1, -3], [-2, 0]], atol=1e-15)


def test_slogdet_of_a_singular_matrix_has_no_derivative():
    with pytest.raises(np.linalg.LinAlgError):
        fad.grad(lambda A: np.linalg.slogdet(A)[1])(np.ones((2, 2)))

    def guarded(A):
        sign, logarithm = np.linalg.slogdet(A)
        return np.sum(np.where(sign != 0, logarithm, 0.0))

    A = np.stack([np.ones((2, 2)), np.diag([2.0, 4.0])])
    np.testing.assert_allclose(fad.grad(guarded)(A), [np.zeros((2, 2)), np.diag([0.5, 0.25])])
    hessian = fad.hessian(guarded)(A)
    np.testing.assert_allclose(hessian[1, 0, 0, 1, 0, 0], -0.25)
    assert not np.any(hessian[0])


def test_slogdet_times_a_factor_that_is_zero():
    """The mixed derivative is that of the logarithm, although its cotangent is zero."""
    A = np.diag([2.0, 4.0])
    mixed = fad.jacobian(fad.grad(lambda t, A: t * np.linalg.slogdet(A)[1]), argnums=1)(0.0, A)
    np.testing.assert_allclose(mixed, np.diag([0.5, 0.25]))


def test_gradient_of_cholesky_is_symmetric():
    A = np.array([[4.0, 1.0], [1.0, 3.0]])
    gradient = fad.grad(lambda A: np.linalg.cholesky(A)[1, 0])(A)
    np.testing.assert_allclose(gradient, [[-0.0625, 0.25], [0.25, 0.0]])


@pytest.mark.parametrize("order", [None, 1, 2, 3, 0.5, -1, np.inf])
def test_gradient_of_a_norm_at_zero_is_zero(order):
    def norm(x):
        return np.linalg.norm(x, order)

    np.testing.assert_array_equal(fad.grad(norm)(np.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(fad.hessian(norm)(np.zeros(3)), np.zeros((3, 3)))
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    gradient = fad.grad(lambda x: np.sum(np.linalg.norm(x, order, axis=1)))(rows)
    assert not np.any(gradient[0]) and np.all(np.isfinite(gradient)) and np.any(gradient[1])


@pytest.mark.parametrize("order", [3, 1.5, 0.5, -1])
def test_an_element_that_is_zero_has_derivative_zero_in_a_norm(order):
    gradient = fad.grad(lambda x: np.linalg.norm(x, order))(np.array([0.0, 2.0, -1.0]))
    assert gradient[0] == 0 and np.all(np.isfinite(gradient))


def test_ties_in_a_maximum_norm():
    gradient = fad.grad(lambda x: np.linalg.norm(x, np.inf))(np.array([-2.0, 2.0, 1.0]))
    np.testing.assert_array_equal(gradient, [-0.5, 0.5, 0])


@pytest.mark.parametrize("order", ["nuc", 2, -2])
def test_norms_that_need_singular_values_are_named(order):
    with pytest.raises(NotImplementedError, match=str(order)):
        fad.grad(lambda x: np.linalg.norm(x, order))(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.linalg.inv(x), np.linalg.LinAlgError),
        (lambda x: np.linalg.det(x), np.linalg.LinAlgError),
        (lambda x: np.linalg.slogdet(x[0])[1], np.linalg.LinAlgError),
        (lambda x: np.linalg.inv(x[:, :2] * 0), np.linalg.LinAlgError),
        (lambda x: np.linalg.solve(x[:, :2], np.ones(3)), ValueError),
        (lambda x: np.linalg.solve(x, np.ones(2)), np.linalg.LinAlgError),
        (lambda x: np.linalg.cholesky(-x[:, :2] @ x[:, :2].T), np.linalg.LinAlgError),
        (lambda x: np.linalg.norm(x, 3), ValueError),
        (lambda x: np.linalg.norm(x, "f", axis=0), ValueError),
        (lambda x: np.linalg.norm(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.linalg.norm(x, axis=(0, 0)), ValueError),
        (lambda x: np.linalg.norm(x, axis="a"), TypeError),
        (lambda x: np.linalg.norm(x[None], 1), ValueError),
    ],
)
def test_errors_are_numpys(f, error):
    check_error(f, error)
