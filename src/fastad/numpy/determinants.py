"""Determinants, with derivatives that are right for singular matrices too.

The derivative of det A is its cofactor matrix, a polynomial in the elements of A. For a regular
matrix it is det(A) A⁻ᵀ. That fails for a singular one, and near singular ones its own derivatives
lose digits, with the square of the condition number. There A is written in its singular vectors as
U B Vᵀ, and B as blocks [[P, Q], [R, T]] with the large singular values in P:
det B = det(P) det(C), C = T − R P⁻¹ Q. P is well conditioned; C is smaller than A, and the same is
done with it. U and V are constants, all else is recorded: derivatives of any order come out right.
"""

import numpy as np

from fastad._core import call, emit_reverse, is_array, stop, value_of, varies
from fastad._record import implements

from .arguments import Found, found
from .linear_algebra import settled

__all__ = ["det", "slogdet"]

SlogdetResult = type(np.linalg.slogdet(np.eye(1)))


def _t(x):
    """The matrices of a stack, transposed."""
    return np.swapaxes(x, -1, -2)


def _by_matrix(x):
    """Numbers, one for each matrix of a stack, with two axes to multiply matrices."""
    return np.expand_dims(x, (-1, -2))


def _cofactors_of_2(A):
    return A[..., ::-1, ::-1] * np.array([[1.0, -1.0], [-1.0, 1.0]])


_CYCLE = np.array([0, 1, 2, 0, 1])


def _turned(A, rows, columns):
    """Rows and columns of 3 by 3 matrices moved on cyclically."""
    return A[..., _CYCLE[rows : rows + 3, None], _CYCLE[columns : columns + 3]]


def _cofactors_of_3(A):
    return _turned(A, 1, 1) * _turned(A, 2, 2) - _turned(A, 1, 2) * _turned(A, 2, 1)


def _cofactors_by_minors(A):
    """Every cofactor as the determinant of a minor: for zero matrices, which have no scale."""
    n = A.shape[-1]
    others = np.array([[k for k in range(n) if k != i] for i in range(n)])
    minors = A[..., others[:, None, :, None], others[None, :, None, :]]
    signs = (-1.0) ** np.add.outer(np.arange(n), np.arange(n))
    return np.linalg.det(minors) * signs


class _Regularity(Found):
    """For which matrices of a stack det(A) A⁻ᵀ is accurate.

    Det and inverse by the same LU factors lose few digits in the product (Stewart, On the adjugate
    matrix, 1998); the derivatives of the product lose the square of the condition number.
    """

    def __init__(self, differentiated):
        self.limit = -0.25 if differentiated else -1.0

    def forward(self, A):
        determinants = np.linalg.det(A)
        regular = np.isfinite(determinants) & (determinants != 0)
        inverses = np.linalg.inv(np.where(regular[:, None, None], A, np.eye(A.shape[-1])))
        conditions = np.linalg.norm(A, axis=(1, 2)) * np.linalg.norm(inverses, axis=(1, 2))
        return (regular & (conditions < np.finfo(A.dtype).eps ** self.limit),)


class _Split(Found):
    """U, V, the determinant of both, and the number of large singular values of one matrix."""

    def forward(self, A):
        U, sizes, Vt = np.linalg.svd(A)
        sign = np.rint(np.linalg.det(U) * np.linalg.det(Vt))
        return U, Vt.T, sign, np.sum(sizes > np.finfo(A.dtype).eps ** 0.25 * sizes[0])


def _split(A):
    """What _Split finds; the number of large singular values decides, and is read."""
    U, V, sign, large = found(_Split(), A)
    U, V, sign = (stop(x) if is_array(x) else x for x in (U, V, sign))
    return U, V, sign, int(value_of(large))


def _cofactors_by_blocks(A):
    """Cofactors of one matrix, from those of the blocks that its singular vectors make."""
    U, V, sign, large = _split(A)
    if large == A.shape[-1]:
        return _cofactors_of_one(A, True)
    B = U.T @ A @ V
    P, Q, R, T = B[:large, :large], B[:large, large:], B[large:, :large], B[large:, large:]
    inverse = np.linalg.inv(P)
    right, left = inverse @ Q, R @ inverse
    C = T - R @ right
    p, K = np.linalg.det(P), cofactors(C)
    top = np.linalg.det(C) * p * inverse.T + p * (left.T @ K @ right.T)
    rows = [
        np.concatenate((top, -p * (left.T @ K)), axis=1),
        np.concatenate((-p * (K @ right.T), p * K), axis=1),
    ]
    return sign * (U @ np.concatenate(rows, axis=0) @ V.T)


def _cofactors_of_one(A, regular):
    if regular:
        return np.linalg.det(A) * np.linalg.inv(A).T
    if not np.all(np.isfinite(A)):
        return A * np.nan
    return _cofactors_by_blocks(A) if np.any(A) else _cofactors_by_minors(A)


def cofactors(A):
    """The cofactor matrices of a stack of matrices: the derivatives of their determinants."""
    n = A.shape[-1]
    if n < 2:
        return np.ones_like(A)
    if n < 4:
        return _cofactors_of_2(A) if n == 2 else _cofactors_of_3(A)
    if varies(A):
        return call(_Cofactors, (A,))[0]
    matrices = np.reshape(A, (-1, n, n))
    (regular,) = found(_Regularity(is_array(A)), matrices)
    if np.all(regular):  # one truth value decides
        return _by_matrix(np.linalg.det(A)) * _t(np.linalg.inv(A))
    parts = [_cofactors_of_one(matrices[i], good) for i, good in enumerate(value_of(regular))]
    return np.reshape(np.stack(parts), A.shape)


class _Cofactors:
    """Cofactors in a lane: which formula is accurate differs from lane to lane."""

    @staticmethod
    def forward(A):
        return (cofactors(A),)

    @staticmethod
    def batch(lanes, inputs, over):
        return (cofactors(over[0]),)

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        by_minors = _cofactors_by_minors(inputs[0])
        return emit_reverse(by_minors.recorder, (by_minors,), cotangents, inputs)


class _Det:
    leading_axes = True

    @staticmethod
    def forward(A):
        return (np.linalg.det(A),)

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        g = _by_matrix(cotangents[0])
        return (settled(g * cofactors(inputs[0]), g),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        change = settled(cofactors(inputs[0]) * tangents[0], tangents[0])
        return (np.sum(change, axis=(-1, -2)),)


@implements(np.linalg.det)
def det(a):
    """Determinants; derivatives of any order are right for singular matrices too."""
    return call(_Det, (a,))[0]


def _inverse(A, logarithm, asked):
    """Inverses; a singular matrix is an error, unless its derivative meets a zero anyway.

    `logarithm` has two more axes than NumPy gives it, and so has `asked`: where a seed is not 0.
    """
    idle = np.logical_and(np.equal(logarithm, -np.inf), np.logical_not(asked))
    if varies(idle) or np.any(idle):  # one truth value decides
        A = np.where(idle, np.eye(A.shape[-1]), A)
    return np.linalg.inv(A)


class _LogDet:
    """The cotangent of A is that of log|det A| times A⁻ᵀ. The sign has derivative 0."""

    leading_axes = True

    @staticmethod
    def forward(A):
        return tuple(np.linalg.slogdet(A))

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        (A,), (_, logarithm), (_, g) = inputs, outputs, cotangents
        g = _by_matrix(g)
        inverse = _inverse(A, _by_matrix(logarithm), np.not_equal(g, 0))
        return (settled(g * _t(inverse), g),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        (A,), (_, logarithm), (dA,) = inputs, outputs, tangents
        asked = np.any(dA, axis=(-1, -2), keepdims=True)
        inverse = _inverse(A, _by_matrix(logarithm), asked)
        return None, np.sum(settled(_t(inverse) * dA, dA), axis=(-1, -2))


@implements(np.linalg.slogdet)
def slogdet(a):
    """Sign and logarithm of |determinant|; the derivative at a singular matrix is a LinAlgError."""
    return SlogdetResult(*call(_LogDet, (a,)))
