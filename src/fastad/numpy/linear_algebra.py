"""Linear systems, inverses, Cholesky factors: rules written in NumPy, and so of any order."""

import numpy as np

from fastad._core import custom, value_of
from fastad._record import implements

from .arguments import operand, summed_to

__all__ = ["cholesky", "inv", "solve"]


def _t(x):
    """The matrices of a stack, transposed."""
    return np.swapaxes(x, -1, -2)


class _Solve:
    """X = A⁻¹ B. The cotangent of B is Y = A⁻ᵀ X̄, that of A is −Y Xᵀ."""

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        (A, b), (x,), (g,) = inputs, outputs, cotangents
        if b.ndim == 1:
            y = np.linalg.solve(_t(A), g[..., None])
            return summed_to(-(y @ x[..., None, :]), A.shape), summed_to(y[..., 0], b.shape)
        y = np.linalg.solve(_t(A), g)
        return summed_to(-(y @ _t(x)), A.shape), summed_to(y, b.shape)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        (A, b), (x,), (dA, db) = inputs, outputs, tangents
        if b.ndim == 1:
            change = db[..., None] - dA @ x[..., None]
            return (np.linalg.solve(A, change)[..., 0],)
        return (np.linalg.solve(A, db - dA @ x),)


@implements(np.linalg.solve)
def solve(a, b):
    """Solution of linear systems; `b` is one vector or a stack of matrices, as in NumPy 2."""
    a, b = operand(a), operand(b)
    return custom(_Solve, (a, b), (np.linalg.solve(value_of(a), value_of(b)),))[0]


class _Inverse:
    """B = A⁻¹. The cotangent of A is −Bᵀ B̄ Bᵀ."""

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        transposed = _t(outputs[0])
        return (-(transposed @ cotangents[0] @ transposed),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        return (-(outputs[0] @ tangents[0] @ outputs[0]),)


@implements(np.linalg.inv)
def inv(a):
    """Inverses of matrices."""
    return custom(_Inverse, (a,), (np.linalg.inv(value_of(a)),))[0]


def _lower_half(x):
    """Φ: the strictly lower triangle and half of the diagonal."""
    n = x.shape[-1]
    return x * (np.tri(n, k=-1) + 0.5 * np.eye(n))


def _symmetric(x):
    return 0.5 * (x + _t(x))


class _Cholesky:
    """A = L Lᵀ (Murray, Differentiation of the Cholesky decomposition, 2016: equations 8, 10)."""

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        (L,), (g,) = outputs, cotangents
        inner = _lower_half(_t(L) @ g)
        # L⁻ᵀ inner L⁻¹, by two triangular systems.
        left = np.linalg.solve(_t(L), inner)
        return (_symmetric(_t(np.linalg.solve(_t(L), _t(left)))),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        (L,), (dA,) = outputs, tangents
        left = np.linalg.solve(L, _symmetric(dA))
        return (L @ _lower_half(_t(np.linalg.solve(L, _t(left)))),)


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """Cholesky factors of symmetric matrices.

    The matrix counts as symmetric: NumPy reads one triangle only, the derivative is that of
    ``cholesky((a + a.T) / 2)``, so the gradient by `a` is symmetric (as in JAX and PyTorch).
    """
    lower = np.linalg.cholesky(value_of(a), upper=upper)
    factor = custom(_Cholesky, (a,), (_t(lower) if upper else lower,))[0]
    return _t(factor) if upper else factor
