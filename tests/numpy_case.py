"""Rows of the tests of NumPy's functions, and what is demanded of every row.

A row is a function of arrays written with numpy. It is called with plain arrays for the value, and
with recorded ones; its derivatives are compared with finite differences of the plain value.
"""

import zlib
from typing import NamedTuple

import numpy as np
import pytest
from reference import directional, mixed

import fastad as fad


class Row(NamedTuple):
    """One function with the arguments to call it with.

    `args` are shapes (sampled from a normal distribution, or by `sample`) or arrays. `order` is how
    often it is differentiated, `single` whether float32 arguments are tried, too.
    """

    name: str
    f: object
    args: tuple
    order: int = 2
    tolerance: float = 1e-7
    sample: object = None
    single: bool = True

    def __repr__(self):
        return self.name


def row(name, f, *args, **options):
    return Row(name, f, args, **options)


def spaced(rng, shape):
    """Values too far apart for a finite difference to move one past another."""
    count = int(np.prod(shape))
    return rng.permutation(0.35 * np.arange(count) - 1.83).reshape(shape)


POSITIVE = {"sample": lambda rng, shape: rng.uniform(0.5, 2.0, shape)}
APART = {"sample": spaced}


def arguments(case):
    """The row's arguments: the same ones every time."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    sample = case.sample or (lambda rng, shape: rng.normal(size=shape))
    return [sample(rng, a) if isinstance(a, tuple) else np.asarray(a, float) for a in case.args]


def like(rng, arrays):
    return [rng.normal(size=np.shape(a)) for a in arrays]


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays] or [np.zeros(0)])


def agree(ours, theirs, tolerance):
    """Close, in units of the larger one's size."""
    scale = max(1.0, float(np.max(np.abs(theirs), initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


def check_value(case):
    args = arguments(case)
    expected = np.asarray(case.f(*args))
    value, _ = fad.vjp(case.f, *args)
    assert np.shape(value) == expected.shape
    assert np.asarray(value).dtype == expected.dtype
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-13)


def check_first_order(case):
    """Reverse and forward, each against the finite difference along a random tangent."""
    args, rng = arguments(case), np.random.default_rng(1)
    tangents = like(rng, args)
    value, pull = fad.vjp(case.f, *args)
    cotangent = rng.normal(size=np.shape(value))
    expected = directional(case.f, args, tangents)
    cotangents = pull(cotangent)
    for own, arg in zip(cotangents, args, strict=True):
        assert np.shape(own) == np.shape(arg)
    reverse = np.dot(flat(cotangents), flat(tangents))
    agree(reverse, np.sum(cotangent * expected), case.tolerance)
    _, forward = fad.jvp(case.f, tuple(args), tuple(tangents))
    assert np.shape(forward) == np.shape(value)
    agree(forward, expected, case.tolerance)


def check_second_order(case):
    """All four ways to nest the two modes, on a function that is nonlinear in the row's result."""
    args, rng = arguments(case), np.random.default_rng(2)
    every, u, v = tuple(range(len(args))), like(rng, args), like(rng, args)
    weights = rng.normal(size=np.shape(case.f(*args)))

    def scalar(*xs):
        return np.sum(weights * np.sin(case.f(*xs)))

    def along(f, direction):
        return lambda *xs: fad.jvp(f, xs, tuple(direction))[1]

    def against(f, direction):
        def g(*xs):
            gradients = fad.grad(f, every)(*xs)
            return sum(np.sum(d * x) for d, x in zip(direction, gradients, strict=True))

        return g

    expected = mixed(scalar, args, u, v)
    for outer in (along, against):
        for inner in (along, against):
            ours = outer(inner(scalar, u), v)(*args)
            agree(ours, expected, 10 * case.tolerance)


def check_single(case):
    """float32 in, float32 out where NumPy does so, derivatives of the argument's type."""
    args = arguments(case)
    single = [np.asarray(a, np.float32) for a in args]
    expected = np.asarray(case.f(*single))
    value, pull = fad.vjp(case.f, *single)
    assert np.asarray(value).dtype == expected.dtype
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5)
    cotangent = np.ones(expected.shape, expected.dtype)
    ours = pull(cotangent)
    theirs = fad.vjp(case.f, *[a.astype(float) for a in single])[1](cotangent.astype(float))
    for own, double in zip(ours, theirs, strict=True):
        assert np.asarray(own).dtype == np.float32
        agree(own, double, 1e-3)


def demands_on(rows):
    """The tests of every row's value, first and second derivatives, and of float32."""

    def each(check, rows):
        @pytest.mark.parametrize("case", rows, ids=repr)
        def test(case):
            check(case)

        return test

    return (
        each(check_value, rows),
        each(check_first_order, [case for case in rows if case.order > 0]),
        each(check_second_order, [case for case in rows if case.order > 1]),
        each(check_single, [case for case in rows if case.single]),
    )


def check_error(f, error):
    """The same type of error for recorded as for plain values."""
    x = np.arange(6.0).reshape(2, 3)
    with pytest.raises(error):
        f(x)
    with pytest.raises(error):
        fad.grad(lambda x: np.sum(f(x)))(x)
