"""dot, matmul and their kin, einsum in all its spellings."""

import numpy as np
import pytest
from numpy_case import check_error, demands_on, row

import fastad as fad

PRODUCTS = [
    row("dot", np.dot, (3,), (3,)),
    row("dot constant", lambda x: np.dot([1.0, 2.0, 3.0], x), (3,)),
    row("dot matrix vector", np.dot, (2, 3), (3,)),
    row("dot vector matrix", np.dot, (3,), (3, 2)),
    row("dot matrices", np.dot, (2, 3), (3, 4)),
    row("dot of 3-d", np.dot, (2, 3, 4), (2, 4, 3)),
    row("dot of 3-d and 1-d", np.dot, (2, 3, 4), (4,)),
    row("dot of 0-d", np.dot, (), (3,)),
    row("dot of nothing", np.dot, (0,), (0,)),
    row("dot method", lambda x, y: x.dot(y), (2, 3), (3,)),
    row("dot with itself", lambda x: np.dot(x, x), (3,)),
    row("matmul", np.matmul, (2, 3), (3, 4)),
    row("matmul operator", lambda x, y: x @ y, (2, 3), (3, 2)),
    row("matmul vectors", lambda x, y: x @ y, (3,), (3,)),
    row("matmul matrix vector", lambda x, y: x @ y, (2, 3), (3,)),
    row("matmul vector matrix", lambda x, y: x @ y, (3,), (3, 2)),
    row("matmul stack", np.matmul, (2, 3, 4), (2, 4, 2)),
    row("matmul broadcast stack", np.matmul, (2, 1, 3, 4), (5, 4, 2)),
    row("matmul stack vector", np.matmul, (2, 3, 4), (4,)),
    row("matmul vector stack", np.matmul, (3,), (2, 3, 4)),
    row("matmul constant left", lambda x: np.arange(6).reshape(2, 3) @ x, (3, 2), single=False),
    row("matmul constant right", lambda x: x @ np.ones((3, 2)), (2, 3)),
    row("matmul of nothing", np.matmul, (2, 0), (0, 3)),
    row("matmul transposed", lambda x: x.T @ x, (3, 2)),
    row("vdot", np.vdot, (2, 3), (3, 2)),
    row("inner", np.inner, (2, 3), (4, 3)),
    row("inner of vectors", np.inner, (3,), (3,)),
    row("inner of 3-d", np.inner, (2, 2, 3), (3,)),
    row("inner of 0-d", np.inner, (2,), ()),
    row("outer", np.outer, (3,), (2,)),
    row("outer of matrices", np.outer, (2, 2), (3,)),
    row("outer constant", lambda x: np.outer([1.0, 2.0], x), (3,)),
    row("tensordot", np.tensordot, (2, 3, 4), (3, 4, 2)),
    row("tensordot one", lambda x, y: np.tensordot(x, y, 1), (2, 3), (3, 2)),
    row("tensordot none", lambda x, y: np.tensordot(x, y, 0), (2,), (3,)),
    row("tensordot axes", lambda x, y: np.tensordot(x, y, ((0, 2), (1, 0))), (2, 3, 4), (4, 2)),
    row("tensordot axis", lambda x, y: np.tensordot(x, y, (0, -1)), (2, 3), (4, 2)),
    row("kron", np.kron, (2, 3), (3, 2)),
    row("kron of vectors", np.kron, (2,), (3,)),
    row("kron of a vector and a matrix", np.kron, (2,), (3, 2)),
    row("cross", np.cross, (3,), (3,)),
    row("cross of rows", np.cross, (4, 3), (4, 3)),
    row("cross broadcast", np.cross, (2, 1, 3), (3,)),
    row("cross axis", lambda x, y: np.cross(x, y, axis=0), (3, 2), (3, 2)),
    row("cross axes", lambda x, y: np.cross(x, y, 0, 1, 0), (3, 2), (2, 3)),
    row("cross constant", lambda x: np.cross([1.0, 2.0, 3.0], x), (3,)),
]


def einsum(subscripts, *shapes, **options):
    """A row that contracts operands of the given shapes."""
    return row(f"einsum {subscripts}", lambda *xs: np.einsum(subscripts, *xs), *shapes, **options)


EINSUM = [
    einsum("i->i", (3,)),
    einsum("i->", (3,)),
    einsum("i", (3,)),
    einsum("ij->ji", (2, 3)),
    einsum("ba", (2, 3)),
    einsum("ij->j", (2, 3)),
    einsum("ii", (3, 3)),
    einsum("ii->i", (3, 3)),
    einsum("iij->j", (3, 3, 2)),
    einsum("iji->ij", (3, 2, 3)),
    einsum("iii->i", (3, 3, 3)),
    einsum("ijij->", (2, 3, 2, 3)),
    einsum("i,i->", (3,), (3,)),
    einsum("i,i->i", (3,), (3,)),
    einsum("i,j->ij", (2,), (3,)),
    einsum("i,j->ji", (2,), (3,)),
    einsum("i,j->", (2,), (3,)),
    einsum("ij,j->i", (2, 3), (3,)),
    einsum("j,ij->i", (3,), (2, 3)),
    einsum("ij,ij->i", (2, 3), (2, 3)),
    einsum("ij,ij->", (2, 3), (2, 3)),
    einsum("ij,jk->ik", (2, 3), (3, 4)),
    einsum("ij,jk", (2, 3), (3, 4)),
    einsum("ij,kj->ki", (2, 3), (4, 3)),
    einsum("ij,jk->", (2, 3), (3, 4)),
    einsum("ij,jk->k", (2, 3), (3, 4)),
    einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    einsum("bij,jk->bik", (2, 3, 4), (4, 2)),
    einsum("ijb,kjb->bik", (3, 4, 2), (2, 4, 2)),
    einsum("ijk,jil->kl", (2, 3, 4), (3, 2, 2)),
    einsum("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    einsum("i,ij,j->", (2,), (2, 3), (3,)),
    einsum("i,i,i->i", (3,), (3,), (3,)),
    einsum("ij,ik,il->jkl", (3, 2), (3, 2), (3, 2)),
    einsum("ab,bc,cd,de->ae", (2, 3), (3, 2), (2, 4), (4, 2)),
    einsum("ab,ab,ac,c", (2, 3), (2, 3), (2, 4), (4,)),
    einsum("...i->...", (2, 3, 4)),
    einsum("i...->...i", (2, 3, 4)),
    einsum("...ij,...jk->...ik", (5, 2, 3), (5, 3, 2)),
    einsum("...ij,...jk", (5, 2, 3), (3, 2)),
    einsum("...,...", (2, 3), (3,)),
    einsum("...i,i...->i", (3,), (3,)),
    einsum("i...i->...", (2, 3, 2)),
    einsum("ij,jk->ik ", (2, 1), (3, 4)),
    einsum(" ij , jk -> ik", (2, 3), (1, 4)),
    einsum("ij,ij->ij", (2, 1), (1, 3)),
    einsum("ij,ij->", (2, 1), (2, 1)),
    einsum("ii,i->i", (1, 1), (3,)),
    einsum("ij,j", (0, 3), (3,)),
    einsum(",->", (), ()),
    einsum(",i->i", (), (3,)),
    einsum("aA,Ab", (2, 3), (3, 2)),
    row("einsum numbers", lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2]), (2, 3), (3, 2)),
    row("einsum numbers implied", lambda x, y: np.einsum(x, [4, 1], y, [1, 30]), (2, 3), (3, 2)),
    row(
        "einsum numbers with ellipsis",
        lambda x, y: np.einsum(x, [..., 1], y, [1, 0], [0, ...]),
        (4, 2, 3),
        (3, 2),
    ),
    row("einsum constant", lambda x: np.einsum("ij,j->i", np.ones((2, 3)), x), (3,)),
    row("einsum list", lambda x: np.einsum("i,i->", [1.0, 2.0, 3.0], x), (3,)),
    row("einsum optimize", lambda x: np.einsum("ij,jk->ik", x, x, optimize=True), (2, 2)),
    row("einsum same operand", lambda x: np.einsum("ij,kj->ik", x, x), (2, 3)),
]

ROWS = [*PRODUCTS, *EINSUM]


test_value, test_first_order, test_second_order, test_single = demands_on(ROWS)


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.dot(x, x), ValueError),
        (lambda x: np.dot(x[0], x[:, 0]), ValueError),
        (lambda x: np.dot(x, np.ones(2)), ValueError),
        (lambda x: np.dot(np.ones((4, 2, 2)), x.T), ValueError),
        (lambda x: x @ x, ValueError),
        (lambda x: x[0] @ x, ValueError),
        (lambda x: x @ x[:, 0], ValueError),
        (lambda x: x @ 2.0, ValueError),
        (lambda x: np.matmul(x[0, 0], x), ValueError),
        (lambda x: np.vdot(x, x[0]), ValueError),
        (lambda x: np.inner(x, x.T), ValueError),
        (lambda x: np.tensordot(x, x, 1), ValueError),
        (lambda x: np.tensordot(x, x, ((0, 1), (0,))), ValueError),
        (lambda x: np.tensordot(x, x, (2, 0)), IndexError),
        (lambda x: np.cross(x[0, 0], x[0, 0]), ValueError),
        (lambda x: np.cross(np.ones((2, 4)), np.concatenate((x, x), 1)[:, :4]), ValueError),
        (lambda x: np.cross(x, x, axis=3), np.exceptions.AxisError),
        (lambda x: np.einsum("ij,jk", x, x), ValueError),
        (lambda x: np.einsum("ij,j", x), ValueError),
        (lambda x: np.einsum("i", x), ValueError),
        (lambda x: np.einsum("ijk", x), ValueError),
        (lambda x: np.einsum("ij->k", x), ValueError),
        (lambda x: np.einsum("ij->ii", x), ValueError),
        (lambda x: np.einsum("ii", x), ValueError),
        (lambda x: np.einsum("ii->i", x[:, :1]), ValueError),
        (lambda x: np.einsum("i...->i", x), ValueError),
        (lambda x: np.einsum("i$", x), ValueError),
        (lambda x: np.einsum("i.j", x), ValueError),
    ],
)
def test_errors_are_numpys(f, error):
    check_error(f, error)


def test_vectors_of_two_components_warn_as_numpys():
    def f(x):
        with pytest.warns(DeprecationWarning):
            return np.cross(x[0], x[1]) + np.sum(np.cross(x, np.array([1.0, 2.0, 3.0])))

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(fad.grad(f)(x), [[4 - 3 + 2, -3 + 3 - 1], [-2 - 1, 1 + 2]])
