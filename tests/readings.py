"""All the ways in which fastad can be asked for the derivatives of a row of the table.

A reading of first order takes a function and its operands, one column (a vector of points) each,
and gives the partials: a list with one vector for each operand. One of higher order takes the
order, too, and gives {orders: vector}, where orders[k] is how often operand k is differentiated by.
"""

import itertools

import numpy as np

import fastad as fad
from fastad import _core

__all__ = ["FIRST", "HIGHER", "multi_indices", "row_function"]


def row_function(op):
    """What records the row: its NumPy function; the primitive itself where there is none."""
    if op.name == "SELECT":
        return lambda x, y, z: record(op, np.not_equal(x, 0.0), y, z)
    if not op.numpy_name:
        return lambda *operands: _core.record(op.number, *operands)
    return getattr(np, op.numpy_name)


def record(op, *operands):
    recorded = any(_core.is_array(x) for x in operands)
    return _core.record(op.number, *operands) if recorded else getattr(np, op.numpy_name)(*operands)


def multi_indices(arity, order):
    """All (n0, n1, ...) with sum `order`."""
    return [n for n in itertools.product(range(order + 1), repeat=arity) if sum(n) == order]


def by_point(reading):
    """A reading of scalars, point by point."""

    def columns_of_partials(f, columns):
        rows = [reading(f, [float(x) for x in point]) for point in zip(*columns, strict=True)]
        return [np.array(column, float) for column in zip(*rows, strict=True)]

    columns_of_partials.__name__ = reading.__name__
    return columns_of_partials


def units(like):
    """The unit tangents: one operand moves, the others stand."""
    for k in range(len(like)):
        yield tuple(np.full_like(x, float(i == k))[()] for i, x in enumerate(like))


def everything(x):
    return tuple(range(len(x)))


# --- scalars ------------------------------------------------------------------------------------


@by_point
def scalar_reverse(f, point):
    return fad.grad(f, everything(point))(*point)


@by_point
def scalar_tangent(f, point):
    return [fad.jvp(f, tuple(point), unit)[1] for unit in units(point)]


@by_point
def scalar_push(f, point):
    push = fad.linearize(f, *point)[1]
    return [push(*unit) for unit in units(point)]


@by_point
def scalar_nodes(f, point):
    with fad.Tape() as tape:
        gradients = fad.grad(f, everything(point))(*[tape.variable(x) for x in point])
        return [_core.value_of(g) for g in gradients]


@by_point
def scalar_alone(f, point):
    """One operand at a time, with the others as plain numbers."""
    return [fad.grad(f, k)(*point) for k in range(len(point))]


@by_point
def tape_partials(f, point):
    with fad.Tape() as tape:
        y = f(*[tape.variable(x) for x in point])
    return tape.partials(y.node)


# --- arrays -------------------------------------------------------------------------------------


def pulled(f, columns):
    y, pull = fad.vjp(f, *columns)
    return list(pull(np.ones_like(y)))


def array_reverse(f, columns):
    return pulled(f, columns)


def array_long(f, columns):
    """Longer than the strips that the sweep works in."""
    times = 1000 // len(columns[0])
    long = pulled(f, [np.tile(x, times) for x in columns])
    parts = [p.reshape(times, -1) for p in long]
    for p in parts:
        np.testing.assert_allclose(p, np.broadcast_to(p[0], p.shape), rtol=1e-14)
    return [p[-1] for p in parts]


def array_strided(f, columns):
    """Views on either side: strided arrays come in, and are strided once more when recorded."""
    wide = [np.repeat(x, 4)[::-2] for x in columns]
    assert not any(x.flags.c_contiguous for x in wide)
    found = pulled(lambda *views: f(*[v[::2] for v in views]), wide)
    assert all(not np.any(p[1::2]) for p in found)
    return [p[::2][::-1] for p in found]


def array_transposed(f, columns):
    """Operands of two dimensions whose memory runs in different orders."""
    square = [np.tile(x, (3, 1)) for x in columns]
    square[0] = np.asfortranarray(square[0])
    return [p[1] for p in pulled(lambda *a: f(*[x.T for x in a]).T, square)]


def array_tangent(f, columns):
    return [fad.jvp(f, tuple(columns), unit)[1] for unit in units(columns)]


def array_push(f, columns):
    push = fad.linearize(f, *columns)[1]
    return [push(*unit) for unit in units(columns)]


def array_nodes(f, columns):
    with fad.Tape() as tape:
        y, pull = fad.vjp(f, *[tape.variable(x) for x in columns])
        return [_core.value_of(p) for p in pull(np.ones(y.shape))]


def array_alone(f, columns):
    """One operand at a time, with the others as plain arrays."""
    found = []
    for k, column in enumerate(columns):
        others = [*columns]
        f_of_one = lambda x, k=k, others=others: f(*others[:k], x, *others[k + 1 :])
        found += pulled(f_of_one, [column])
    return found


FIRST = [
    scalar_reverse,
    scalar_tangent,
    scalar_push,
    scalar_nodes,
    scalar_alone,
    array_reverse,
    array_long,
    array_strided,
    array_transposed,
    array_tangent,
    array_push,
    array_nodes,
    array_alone,
]


# --- higher orders ------------------------------------------------------------------------------


def steps(orders):
    """(2, 1) -> [0, 0, 1]: the operands to differentiate by, one after the other."""
    return [k for k, n in enumerate(orders) for _ in range(n)]


def grad_once(f, k):
    return fad.grad(f, k)


def jvp_once(f, k):
    def derivative(*point):
        unit = tuple(float(i == k) for i in range(len(point)))
        return fad.jvp(f, point, unit)[1]

    return derivative


def vjp_array_once(f, k):
    """Element-wise derivative of an element-wise function of arrays."""

    def derivative(*columns):
        return fad.vjp(f, *columns)[1](np.ones(columns[0].shape))[k]

    return derivative


def jvp_array_once(f, k):
    def derivative(*columns):
        unit = tuple(np.full(x.shape, float(i == k)) for i, x in enumerate(columns))
        return fad.jvp(f, columns, unit)[1]

    return derivative


def nested(f, orders, ways):
    """`f` differentiated by each of its operands in turn, each time in the next of the ways."""
    for k, way in zip(steps(orders), itertools.cycle(ways), strict=False):
        f = way(f, k)
    return f


def scalar_higher(ways):
    def reading(f, columns, order):
        points = [[float(x) for x in point] for point in zip(*columns, strict=True)]
        return {
            orders: np.array([nested(f, orders, ways)(*point) for point in points], float)
            for orders in multi_indices(len(columns), order)
        }

    return reading


def array_higher(ways):
    def reading(f, columns, order):
        return {
            orders: np.asarray(nested(f, orders, ways)(*columns))
            for orders in multi_indices(len(columns), order)
        }

    return reading


HIGHER = {
    "scalar_reverse": scalar_higher([grad_once]),
    "scalar_forward": scalar_higher([jvp_once]),
    "scalar_forward_over_reverse": scalar_higher([grad_once, jvp_once]),
    "scalar_reverse_over_forward": scalar_higher([jvp_once, grad_once]),
    "array_reverse": array_higher([vjp_array_once]),
    "array_forward": array_higher([jvp_array_once]),
    "array_forward_over_reverse": array_higher([vjp_array_once, jvp_array_once]),
    "array_reverse_over_forward": array_higher([jvp_array_once, vjp_array_once]),
}
