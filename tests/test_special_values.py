"""Zeros, infinities, NaN, ties and branch points, each a row with the derivative ops.def states.

A row is (op, operands, partials). Every reading of first order must give these partials, up to the
sign of a zero, and a cotangent or tangent of exactly zero must give zero whatever they are.
"""

import numpy as np
import pytest
from readings import FIRST, row_function

import fastad as fad

inf, nan = np.inf, np.nan

ROWS = [
    # arithmetic: IEEE 754 as it comes
    ("ADD", (inf, -inf), (1, 1)),
    ("SUB", (inf, inf), (1, -1)),
    ("MUL", (0.0, inf), (inf, 0)),
    ("MUL", (nan, 2.0), (2, nan)),
    ("DIV", (1.0, 0.0), (inf, -inf)),
    ("DIV", (1.0, -0.0), (-inf, -inf)),
    ("DIV", (0.0, 0.0), (inf, nan)),
    ("DIV", (1.0, inf), (0, 0)),
    ("RECIPROCAL", (0.0,), (-inf,)),
    ("RECIPROCAL", (-0.0,), (-inf,)),
    ("RECIPROCAL", (inf,), (0,)),
    ("SQUARE", (-inf,), (-inf,)),
    # powers and roots
    ("POW", (0.0, 2.0), (0, 0)),
    ("POW", (0.0, 1.0), (1, 0)),
    ("POW", (0.0, 0.0), (0, 0)),
    ("POW", (0.0, 0.5), (inf, 0)),
    ("POW", (2.0, 0.0), (0, np.log(2.0))),
    ("POW", (-2.0, 3.0), (12, nan)),
    ("POW", (-2.0, 0.0), (0, nan)),
    ("POW", (inf, 0.5), (0, inf)),
    ("POW", (inf, 0.0), (0, inf)),
    ("POW", (nan, 0.0), (0, nan)),
    ("POW", (1.0, inf), (inf, 0)),
    ("SQRT", (0.0,), (inf,)),
    ("SQRT", (inf,), (0,)),
    ("SQRT", (-1.0,), (nan,)),
    ("CBRT", (0.0,), (inf,)),
    ("CBRT", (-0.0,), (inf,)),
    ("CBRT", (-8.0,), (1 / 12,)),
    ("HYPOT", (0.0, 0.0), (0, 0)),
    ("HYPOT", (-3.0, 0.0), (-1, 0)),
    ("HYPOT", (1e200, 1e200), (0.5**0.5, 0.5**0.5)),
    # exponentials and logarithms
    ("EXP", (-inf,), (0,)),
    ("EXP", (inf,), (inf,)),
    ("EXP", (nan,), (nan,)),
    ("EXP2", (-inf,), (0,)),
    ("EXPM1", (-inf,), (0,)),
    ("EXPM1", (0.0,), (1,)),
    ("LOG", (0.0,), (inf,)),
    ("LOG", (inf,), (0,)),
    ("LOG2", (0.0,), (inf,)),
    ("LOG10", (0.0,), (inf,)),
    ("LOG1P", (-1.0,), (inf,)),
    ("LOG1P", (1e-300,), (1,)),
    ("LOGADDEXP", (-inf, -inf), (0.5, 0.5)),
    ("LOGADDEXP", (inf, inf), (0.5, 0.5)),
    ("LOGADDEXP", (inf, 1.0), (1, 0)),
    ("LOGADDEXP", (-inf, 1.0), (0, 1)),
    ("LOGADDEXP", (inf, -inf), (1, 0)),
    ("LOGADDEXP", (3.0, 3.0), (0.5, 0.5)),
    ("LOGADDEXP", (1000.0, -1000.0), (1, 0)),
    ("LOGADDEXP2", (-inf, -inf), (0.5, 0.5)),
    ("LOGADDEXP2", (1.0, inf), (0, 1)),
    # trigonometric and hyperbolic functions
    ("SIN", (inf,), (nan,)),
    ("ARCSIN", (1.0,), (inf,)),
    ("ARCSIN", (-1.0,), (inf,)),
    ("ARCSIN", (2.0,), (nan,)),
    ("ARCCOS", (1.0,), (-inf,)),
    ("ARCCOS", (-1.0,), (-inf,)),
    ("ARCTAN", (inf,), (0,)),
    ("ARCTAN2", (0.0, 0.0), (nan, nan)),
    ("ARCTAN2", (0.0, -1.0), (-1, 0)),
    ("ARCTAN2", (1e-200, 1e-200), (5e199, -5e199)),
    ("TANH", (inf,), (0,)),
    ("TANH", (-inf,), (0,)),
    ("SINH", (0.0,), (1,)),
    ("COSH", (0.0,), (0,)),
    ("ARCSINH", (-inf,), (0,)),
    ("ARCSINH", (1e200,), (1e-200,)),
    ("ARCCOSH", (1.0,), (inf,)),
    ("ARCCOSH", (0.0,), (nan,)),
    ("ARCTANH", (1.0,), (inf,)),
    ("ARCTANH", (-1.0,), (inf,)),
    # kinks and jumps
    ("ABS", (0.0,), (0,)),
    ("ABS", (-0.0,), (0,)),
    ("ABS", (-inf,), (-1,)),
    ("ABS", (nan,), (nan,)),
    ("FABS", (0.0,), (0,)),
    ("SIGN", (0.0,), (0,)),
    ("FLOOR", (2.0,), (0,)),
    ("CEIL", (2.0,), (0,)),
    ("TRUNC", (-0.0,), (0,)),
    ("RINT", (2.5,), (0,)),
    ("RINT", (nan,), (0,)),
    ("FLOOR_DIVIDE", (6.0, 2.0), (0, 0)),
    ("MOD", (6.0, 2.0), (1, -3)),
    ("MOD", (-6.0, 4.0), (1, 2)),
    ("MOD", (1.0, 0.1), (1, -9)),  # 1.0 is less than ten times the double nearest to 0.1
    ("MOD", (1.0, inf), (1, 0)),
    ("FMOD", (6.0, 2.0), (1, -3)),
    ("FMOD", (-7.0, 2.0), (1, 3)),
    ("FMOD", (1.0, 0.1), (1, -9)),
    ("FMOD", (1.0, inf), (1, 0)),
    ("MAXIMUM", (2.0, 2.0), (0.5, 0.5)),
    ("MAXIMUM", (0.0, -0.0), (0.5, 0.5)),
    ("MAXIMUM", (inf, inf), (0.5, 0.5)),
    ("MAXIMUM", (-inf, 1.0), (0, 1)),
    ("MAXIMUM", (nan, 1.0), (0, 0)),
    ("MINIMUM", (2.0, 2.0), (0.5, 0.5)),
    ("MINIMUM", (-inf, 1.0), (1, 0)),
    ("MINIMUM", (1.0, nan), (0, 0)),
    ("FMAX", (2.0, 2.0), (0.5, 0.5)),
    ("FMAX", (nan, 1.0), (0, 1)),
    ("FMIN", (2.0, 2.0), (0.5, 0.5)),
    ("FMIN", (1.0, nan), (1, 0)),
    ("COPYSIGN", (0.0, -1.0), (0, 0)),
    ("COPYSIGN", (-3.0, 0.0), (-1, 0)),
    ("COPYSIGN", (3.0, -0.0), (-1, 0)),
    ("HEAVISIDE", (0.0, 0.5), (0, 1)),
    ("HEAVISIDE", (-0.0, 0.5), (0, 1)),
    ("HEAVISIDE", (1.0, nan), (0, 0)),
    ("NEXTAFTER", (1.0, inf), (1, 0)),
    ("NEXTAFTER", (1.0, 1.0), (1, 0)),
    ("SPACING", (0.0,), (0,)),
    # what puts other rows together
    ("SELECT", (1.0, 2.0, nan), (0, 1, 0)),
    ("SELECT", (0.0, inf, 3.0), (0, 0, 1)),
    ("SELECT", (nan, 2.0, 3.0), (0, 1, 0)),
    ("ZMUL", (0.0, nan), (nan, 0)),
    ("ZMUL", (2.0, inf), (inf, 2)),
    ("STOP", (nan,), (0,)),
    ("ROOT", (0.0,), (0,)),
    ("ROOT", (4.0,), (0.25,)),
    ("ROOT", (inf,), (0,)),
    ("ROOT", (-1.0,), (nan,)),
]


def label(row):
    return f"{row[0]}({', '.join(map(str, row[1]))})"


def columns(operands):
    """Two copies: one point that is an array of its own, and a neighbour to disturb."""
    return [np.array([x, x]) for x in operands]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", ROWS, ids=label)
def test_partials(row):
    name, operands, expected = row
    for reading in FIRST:
        found = reading(row_function(fad.OPS[name]), columns(operands))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(
                ours, np.full(2, theirs, float), rtol=1e-14, err_msg=reading.__name__
            )


def pulled(f, operands, cotangent):
    return fad.vjp(f, *operands)[1](cotangent)


def pulled_as_nodes(f, operands, cotangent):
    with fad.Tape() as tape:
        found = pulled(f, [tape.variable(x) for x in operands], cotangent)
        return [getattr(x, "value", x) for x in found]


def pushed(f, operands, tangent):
    return [fad.jvp(f, tuple(operands), (tangent,) * len(operands))[1]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", ROWS, ids=label)
@pytest.mark.parametrize("way", [pulled, pulled_as_nodes, pushed], ids=lambda way: way.__name__)
def test_strong_zero(row, way):
    name, operands, _ = row
    f = row_function(fad.OPS[name])
    assert not np.any(way(f, operands, 0.0))
    assert not np.any(way(f, columns(operands), np.zeros(2)))


ROUTES = [
    ("where", lambda x, y: np.where(x < y, x, y), 1.0, 2.0),
    ("maximum", np.maximum, 2.0, 1.0),
    ("minimum", np.minimum, 1.0, 2.0),
    ("fmax", np.fmax, 2.0, 1.0),
    ("fmin", np.fmin, 1.0, 2.0),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("factor", [inf, -inf, nan])
@pytest.mark.parametrize(("name", "route", "taken", "left"), ROUTES, ids=[r[0] for r in ROUTES])
@pytest.mark.parametrize("given", [float, lambda v: np.full(3, v), lambda v: np.full(3, v, "f4")])
@pytest.mark.parametrize(
    "compiled", [lambda f: f, fad.compile, lambda f: fad.compile(f, strict=True)]
)
def test_what_a_route_does_not_take_gets_nothing(compiled, given, name, route, taken, left, factor):
    """Not even of a cotangent that is infinite or NaN."""
    f = compiled(lambda x, y: np.sum(route(x, y) * factor))
    x, y = given(taken), given(left)
    to_taken, to_left = fad.grad(f, argnums=(0, 1))(x, y)
    np.testing.assert_array_equal(to_taken, np.full(np.shape(x), factor))
    np.testing.assert_array_equal(to_left, np.zeros(np.shape(x)))
    _, tangent = fad.jvp(f, (x, y), (0.0 * x, 1.0 + 0.0 * y))
    assert tangent == 0
    as_nodes = fad.jvp(fad.grad(f, argnums=(0, 1)), (x, y), (x, y))[0][1]
    np.testing.assert_array_equal(as_nodes, np.zeros(np.shape(x)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_strong_zero_is_for_zeros_alone():
    """Beside a zero, the other elements of the same array keep their infinite partials."""
    gradient = pulled(np.sqrt, [np.zeros(3)], np.array([0.0, 1.0, -2.0]))[0]
    np.testing.assert_array_equal(gradient, [0.0, inf, -inf])
    assert np.isnan(pulled(np.sqrt, [0.0], nan)[0])


TRAPS = [
    (lambda x: np.where(x > 0, np.sqrt(x), 0.0), -1.0, 0.0),
    (lambda x: np.where(x > 0, np.sqrt(x), 0.0), 0.0, 0.0),
    (lambda x: np.where(x != 0, np.sin(x) / x, 1.0), 0.0, 0.0),
    (lambda x: np.where(x > 0, x * np.log(x), 0.0), 0.0, 0.0),
    (lambda x: np.where(x < 700, np.exp(x), 1.0), 1e4, 0.0),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("f", "x", "slope"), TRAPS)
def test_the_branch_not_taken(f, x, slope):
    at = np.array([x, 0.5, x])
    beside = fad.grad(f)(0.5)
    expected = [slope, beside, slope]
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14)  # and the zeros are zeros
    assert fad.grad(f)(x) == slope
    assert fad.jvp(f, x, 1.0)[1] == slope
    same(fad.grad(lambda x: np.sum(f(x)))(at), expected)
    same(pulled_as_nodes(f, [at], np.ones(3))[0], expected)
    same(fad.jvp(f, at, np.ones(3))[1], expected)


def derivative(f):
    return lambda x: fad.jvp(f, x, 1.0)[1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("once", [fad.grad, derivative], ids=["reverse", "forward"])
@pytest.mark.parametrize(("f", "x", "slope"), TRAPS)
def test_the_branch_not_taken_at_any_order(f, x, slope, once):
    for _ in range(4):
        f = once(f)
        assert f(x) == 0.0
        assert np.isfinite(f(0.5))


def rows_of_the_table_without_special_values():
    return {op.name for op in fad.OPS.values()} - {name for name, _, _ in ROWS}


def test_every_kink_is_a_row():
    kinks = {op.name for op in fad.OPS.values() if op.kind in ("KINK", "FLAT")}
    assert not kinks & rows_of_the_table_without_special_values()
