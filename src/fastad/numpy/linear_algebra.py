"""Linear systems, inverses, Cholesky factors: rules written in NumPy, and so of any order."""

import functools

import numpy as np

from fastad._core import call, replayed, reshape, value_of
from fastad._record import implements

from .arguments import operand, summed_to

__all__ = ["cholesky", "inv", "settled", "solve"]


def _t(x):
    """The matrices of a stack, transposed."""
    return np.swapaxes(x, -1, -2)


def settled(derivative, *seeds):
    """`derivative` (matrices), but zero where the seeds (cotangents, tangents) of a matrix are.

    A seed that is zero stays zero when it meets a NaN: a matrix that nobody wants the derivative of
    may hold anything.
    """
    if not replayed(derivative) and np.all(np.isfinite(value_of(derivative))):
        return derivative
    asked = [np.any(seed, axis=(-1, -2), keepdims=True) for seed in seeds]
    return np.where(functools.reduce(np.logical_or, asked), derivative, 0.0)


def _with_axes(over, x, rank):
    """An operand over all lanes, with one-element axes that make it one of `rank` axes a lane."""
    if over is None:
        return x
    return reshape(over, (over.shape[0], *(1,) * (rank - x.ndim), *x.shape))


class _Solve:
    """X = A⁻¹ B. The cotangent of B is Y = A⁻ᵀ X̄, that of A is −Y Xᵀ."""

    @staticmethod
    def forward(a, b):
        return (np.linalg.solve(a, b),)

    @staticmethod
    def batch(lanes, inputs, over):
        (A, b), (left, right) = inputs, over
        if b.ndim == 1:
            column = None if right is None else right[..., None]
            return (_Solve.batch(lanes, (A, b[:, None]), (left, column))[0][..., 0],)
        if left is None and A.ndim == 2 and A.size:  # one factorisation for all lanes
            columns = np.moveaxis(right, -2, 0)
            x = np.linalg.solve(A, reshape(columns, (len(A), columns.size // len(A))))
            return (np.moveaxis(reshape(x, columns.shape), 0, -2),)
        rank = max(A.ndim, b.ndim)
        return (np.linalg.solve(_with_axes(left, A, rank), _with_axes(right, b, rank)),)

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        (A, b), (x,), (g,) = inputs, outputs, cotangents
        if b.ndim == 1:
            x, g = x[..., None], g[..., None]
        y = settled(np.linalg.solve(_t(A), g), g)
        product = settled(y @ _t(x), g)
        y = y[..., 0] if b.ndim == 1 else y
        return summed_to(-product, A.shape), summed_to(y, b.shape)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        (A, b), (x,), (dA, db) = inputs, outputs, tangents
        if b.ndim == 1:
            x, db = x[..., None], db[..., None]
        dx = settled(np.linalg.solve(A, db - dA @ x), dA, db)
        return (dx[..., 0] if b.ndim == 1 else dx,)


@implements(np.linalg.solve)
def solve(a, b):
    """Solution of linear systems; `b` is one vector or a stack of matrices, as in NumPy 2."""
    a, b = operand(a), operand(b)
    return call(_Solve, (a, b))[0]


class _Inverse:
    """B = A⁻¹. The cotangent of A is −Bᵀ B̄ Bᵀ."""

    leading_axes = True

    @staticmethod
    def forward(a):
        return (np.linalg.inv(a),)

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        transposed = _t(outputs[0])
        return (settled(-(transposed @ cotangents[0] @ transposed), cotangents[0]),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        return (settled(-(outputs[0] @ tangents[0] @ outputs[0]), tangents[0]),)


@implements(np.linalg.inv)
def inv(a):
    """Inverses of matrices."""
    return call(_Inverse, (a,))[0]


def _lower_half(x):
    """Φ: the strictly lower triangle and half of the diagonal."""
    n = x.shape[-1]
    return x * (np.tri(n, k=-1) + 0.5 * np.eye(n))


def _symmetric(x):
    return 0.5 * (x + _t(x))


class _Cholesky:
    """A = L Lᵀ (Murray, Differentiation of the Cholesky decomposition, 2016: equations 8, 10)."""

    leading_axes = True

    @staticmethod
    def forward(a):
        return (np.linalg.cholesky(a),)

    @staticmethod
    def vjp(inputs, outputs, cotangents):
        (L,), (g,) = outputs, cotangents
        inner = _lower_half(_t(L) @ g)
        # L⁻ᵀ inner L⁻¹, by two triangular systems.
        left = np.linalg.solve(_t(L), inner)
        return (settled(_symmetric(_t(np.linalg.solve(_t(L), _t(left)))), g),)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        (L,), (dA,) = outputs, tangents
        left = np.linalg.solve(L, _symmetric(dA))
        return (settled(L @ _lower_half(_t(np.linalg.solve(L, _t(left)))), dA),)


class _CholeskyOfUpper(_Cholesky):
    """The same L, read from the upper triangle."""

    @staticmethod
    def forward(a):
        return (_t(np.linalg.cholesky(a, upper=True)),)


@implements(np.linalg.cholesky)
def cholesky(a, /, *, upper=False):
    """Cholesky factors of symmetric matrices.

    The matrix counts as symmetric: NumPy reads one triangle only, the derivative is that of
    ``cholesky((a + a.T) / 2)``, so the gradient by `a` is symmetric (as in JAX and PyTorch).
    """
    factor = call(_CholeskyOfUpper if upper else _Cholesky, (a,))[0]
    return _t(factor) if upper else factor
