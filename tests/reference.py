"""The oracle: derivatives from values alone, by finite differences; none of ours is ever read.

Central differences of fourth order: with steps h and 2h the error is O(h**4). For the rows of the
table of primitives: their values in mpmath, differentiated there, and extrapolated differences in
long doubles.
"""

import itertools
import math

import mpmath
import numpy as np
from mpmath import mp

__all__ = [
    "EXACT",
    "directional",
    "exact_partial",
    "finite_partial",
    "mixed",
    "numeric_gradient",
    "numeric_jacobian",
]

STEP = 1e-3
SECOND_STEP = 4e-3


def _moved(args, tangents, step):
    return [np.asarray(x) + step * np.asarray(t) for x, t in zip(args, tangents, strict=True)]


def directional(f, args, tangents, step=STEP):
    """Derivative of f(*args) along tangents, one for each argument."""

    def central(h):
        forward, back = f(*_moved(args, tangents, h)), f(*_moved(args, tangents, -h))
        return (np.asarray(forward) - np.asarray(back)) / (2 * h)

    return (4 * central(step) - central(2 * step)) / 3


def mixed(f, args, u, v, step=SECOND_STEP):
    """Second derivative of the scalar f(*args) along u and v."""

    def central(h):
        value = 0.0
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            value += a * b * float(f(*_moved(_moved(args, u, a * h), v, b * h)))
        return value / (4 * h * h)

    return (4 * central(step) - central(2 * step)) / 3


def numeric_jacobian(f, x, step=STEP):
    """Jacobian of f at x, of shape f(x).shape + x.shape, a column for each element of x."""
    x = np.asarray(x, float)
    columns = []
    for i in range(x.size):
        unit = np.zeros(x.size)
        unit[i] = 1.0
        columns.append(directional(f, (x,), (unit.reshape(x.shape),), step))
    shape = np.shape(f(x))
    if not columns:
        return np.zeros(shape + x.shape)
    return np.stack(columns, axis=-1).reshape(shape + x.shape)


def numeric_gradient(f, x, step=STEP):
    """Gradient of the scalar f at x."""
    return numeric_jacobian(f, x, step)


# --- the rows of the table ----------------------------------------------------------------------


def _sign(x):
    return (x > 0) - (x < 0)


def _truncated(x):
    return _sign(x) * mp.floor(abs(x))


def _gap(x):
    """Distance from x to the next float away from zero."""
    return _sign(x) * mp.ldexp(1, mp.frexp(x)[1] - 53)


EXACT = {
    "ADD": lambda x, y: x + y,
    "SUB": lambda x, y: x - y,
    "MUL": lambda x, y: x * y,
    "DIV": lambda x, y: x / y,
    "NEG": lambda x: -x,
    "POS": lambda x: x,
    "POW": lambda x, y: mp.power(x, y),
    "SQUARE": lambda x: x * x,
    "SQRT": mp.sqrt,
    "ROOT": mp.sqrt,
    "CBRT": lambda x: _sign(x) * mp.root(abs(x), 3),
    "RECIPROCAL": lambda x: 1 / x,
    "FLOOR_DIVIDE": lambda x, y: mp.floor(x / y),
    "MOD": lambda x, y: x - y * mp.floor(x / y),
    "FMOD": lambda x, y: x - y * _truncated(x / y),
    "ABS": abs,
    "FABS": abs,
    "SIGN": _sign,
    "FLOOR": mp.floor,
    "CEIL": mp.ceil,
    "TRUNC": _truncated,
    "RINT": mp.nint,
    "EXP": mp.exp,
    "EXP2": lambda x: mp.power(2, x),
    "EXPM1": mp.expm1,
    "LOG": mp.log,
    "LOG2": lambda x: mp.log(x) / mp.log(2),
    "LOG10": mp.log10,
    "LOG1P": lambda x: mp.log(1 + x),
    "LOGADDEXP": lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
    "LOGADDEXP2": lambda x, y: mp.log(mp.power(2, x) + mp.power(2, y)) / mp.log(2),
    "SIN": mp.sin,
    "COS": mp.cos,
    "TAN": mp.tan,
    "ARCSIN": mp.asin,
    "ARCCOS": mp.acos,
    "ARCTAN": mp.atan,
    "ARCTAN2": mp.atan2,
    "SINH": mp.sinh,
    "COSH": mp.cosh,
    "TANH": mp.tanh,
    "ARCSINH": mp.asinh,
    "ARCCOSH": mp.acosh,
    "ARCTANH": mp.atanh,
    "HYPOT": lambda x, y: mp.sqrt(x * x + y * y),
    "MAXIMUM": max,
    "MINIMUM": min,
    "FMAX": max,
    "FMIN": min,
    "COPYSIGN": lambda x, y: abs(x) * _sign(y),
    "HEAVISIDE": lambda x, y: y if x == 0 else mp.mpf(x > 0),
    "DEGREES": mp.degrees,
    "RADIANS": mp.radians,
    "RAD2DEG": mp.degrees,
    "DEG2RAD": mp.radians,
    "NEXTAFTER": lambda x, y: x,  # the function of real numbers that it stands for
    "SPACING": _gap,
    "TIES": lambda x, y: x == y,
    "ZMUL": lambda x, y: x * y,
    "SMUL": lambda x, y: x * y,
    "SELECT": lambda x, y, z: y if x > 0.5 else z,
}
"""Values of the rows as functions of real numbers, by name."""


def exact_partial(name, point, orders):
    """Partial derivative of a row, `orders[k]` times by operand k, well beyond doubles."""
    with mpmath.workdps(60):
        point = [mp.mpf(float(x)) for x in point]
        if not any(orders):
            return float(EXACT[name](*point))
        if len(point) == 1:
            return float(mpmath.diff(EXACT[name], point[0], orders[0]))
        return float(mpmath.diff(EXACT[name], tuple(point), tuple(orders)))


STENCILS = {
    0: {0: 1.0},
    1: {-1: -0.5, 1: 0.5},
    2: {-1: 1.0, 0: -2.0, 1: 1.0},
    3: {-2: -0.5, -1: 1.0, 1: -1.0, 2: 0.5},
}


def _difference(f, columns, orders, steps):
    """Central difference quotient of element-wise f, `orders[k]` times by operand k."""
    total = 0
    for corner in itertools.product(*(STENCILS[n].items() for n in orders)):
        weight = math.prod(w for _, w in corner)
        moved = [x + i * h for x, h, (i, _) in zip(columns, steps, corner, strict=True)]
        total = total + weight * f(*moved)
    return total / math.prod(h**n for h, n in zip(steps, orders, strict=True))


def _extrapolated(f, columns, orders, steps, levels=5):
    """Richardson's limit of step to 0, and how far its last two estimates are apart."""
    table = [_difference(f, columns, orders, [h / 2**i for h in steps]) for i in range(levels)]
    for j in range(1, levels):
        last = table[-1]
        table = [(4**j * b - a) / (4**j - 1) for a, b in itertools.pairwise(table)]
    return table[0], abs(table[0] - last)


def finite_partial(f, columns, orders):
    """Partial derivatives of element-wise f at many points, from its values in long doubles alone.

    `columns` holds one array for each operand. Of several first steps, the one whose extrapolation
    settles best counts: the large for smooth functions, the small beside a kink. Comes with the
    distance of the last two estimates, which is large where none settles.
    """
    columns = [np.asarray(x, np.longdouble) for x in columns]
    sizes = [np.minimum(1, abs(x)) for x in columns]
    best, error = 0, np.inf
    for exponent in (-4, -5, -6, -7, -9, -12):
        steps = [size * np.longdouble(2) ** exponent for size in sizes]
        estimate, spread = _extrapolated(f, columns, orders, steps)
        best, error = np.where(spread < error, estimate, best), np.fmin(spread, error)
    return best.astype(float), error.astype(float)
