"""Every row of the table, in every reading: no test is written for a single row.

The derivatives are held against mpmath and against finite differences of the value (reference.py);
the cells of the table are never read. A row that reference.py has no exact value for, such as one
that was just added, is held against the finite differences alone.
"""

import functools
import re
import zlib

import numpy as np
import pytest
from readings import (
    FIRST,
    HIGHER,
    array_long,
    array_nodes,
    array_reverse,
    array_tangent,
    multi_indices,
    row_function,
)
from reference import EXACT, directional, exact_partial, finite_partial

import fastad as fad
from fastad._ops import UFUNCS

KINDS = {"LINEAR", "BILINEAR", "SMOOTH", "KINK", "FLAT", "PREDICATE"}
COUNT = 24


def signed(rng, low, high):
    return rng.choice([-1.0, 1.0], COUNT) * rng.uniform(low, high, COUNT)


DOMAINS = {
    "real": lambda rng: rng.choice([-1.0, 1.0], COUNT) * np.exp(rng.uniform(-1.5, 2.5, COUNT)),
    "positive": lambda rng: np.exp(rng.uniform(-1.5, 2.5, COUNT)),
    "nonzero": lambda rng: signed(rng, 0.2, 5.0),
    "small": lambda rng: signed(rng, 0.1, 2.0),
    "unit": lambda rng: signed(rng, 0.02, 0.9),
    "above one": lambda rng: 1.0 + np.exp(rng.uniform(-2.0, 2.0, COUNT)),
    "mask": lambda rng: rng.permutation(np.arange(COUNT) % 2.0),
}

# STOP is not among what compares with derivatives of the value: to differ from them is its use.
DIFFERENTIABLE = [op for op in fad.OPS.values() if op.kind != "PREDICATE" and op.name != "STOP"]
PREDICATES = [op for op in fad.OPS.values() if op.kind == "PREDICATE"]
WITH_TARGET = [op for op in DIFFERENTIABLE if op in UFUNCS.values()]


def of_kind(*kinds):
    return [op for op in DIFFERENTIABLE if op.kind in kinds]


def rows(ops):
    return pytest.mark.parametrize("op", ops, ids=lambda op: op.name)


@functools.cache
def points(op):
    """One column of sampled points for each operand: the same ones every time."""
    rng = np.random.default_rng(zlib.crc32(op.name.lower().encode()))
    return [DOMAINS[domain](rng) for domain in op.domains]


# --- the oracle and the comparison --------------------------------------------------------------

LONG = np.finfo(np.longdouble).eps < 1e-18
FINITE_TOLERANCE = {1: 1e-11, 2: 1e-8, 3: 1e-4} if LONG else {1: 1e-8, 2: 1e-4, 3: 1e-1}
EXACT_TOLERANCE = {1: 1e-12, 2: 1e-12, 3: 1e-11}


@functools.cache
def partials(op, order):
    """({orders: vector}, relative tolerance): the best that is known of the row's derivatives."""
    indices = multi_indices(op.arity, order)
    return {n: known(op, points(op), n) for n in indices}, tolerance_of(op, order)


def known(op, columns, orders):
    if op.name in EXACT:
        at = zip(*columns, strict=True)
        return np.array([exact_partial(op.name, point, orders) for point in at])
    return finite_partial(getattr(np, op.numpy_name), columns, orders)[0]


def tolerance_of(op, order):
    return EXACT_TOLERANCE[order] if op.name in EXACT else FINITE_TOLERANCE[order]


def agree(ours, theirs, tolerance, absolute=1e-40):
    """Element by element, relative to the derivative itself."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    wrong = ~(abs(ours - theirs) <= tolerance * abs(theirs) + absolute)
    assert not wrong.any(), f"{ours[wrong][:3]} should be {theirs[wrong][:3]}"


def first_order(op):
    known, tolerance = partials(op, 1)
    return [known[n] for n in sorted(known, reverse=True)], tolerance


def check_first(op, reading, f=None):
    """A reading of the row, or of `f` in its place, against the oracle."""
    expected, tolerance = first_order(op)
    for ours, theirs in zip(reading(f or row_function(op), points(op)), expected, strict=True):
        agree(ours, theirs, tolerance)


def check_higher(op, order, reading, f=None):
    expected, tolerance = partials(op, order)
    ours = reading(f or row_function(op), points(op), order)
    for n, theirs in expected.items():
        agree(ours[n], theirs, tolerance)


# --- the table is complete ----------------------------------------------------------------------


@rows(fad.OPS.values())
def test_row_is_complete(op):
    assert op.kind in KINDS
    assert len(op.domains) == len(op.partials) == op.arity
    assert set(op.domains) <= set(DOMAINS)
    assert len(op.doc) >= 4
    if op.numpy_name:
        assert callable(getattr(np, op.numpy_name)) and callable(getattr(fad, op.numpy_name))
    else:  # internal, and NumPy cannot be its oracle
        assert op.name in EXACT or op.name == "STOP"


WITHOUT_ROW = {
    "float_power": "power with integers taken as floats: np.power",
    "conjugate": "the identity on real numbers",
    "divmod": "two results: np.floor_divide and np.remainder",
    "frexp": "an integer among its results",
    "ldexp": "an integer operand: x * 2.0**n",
    "modf": "two results: np.trunc and its difference from x",
}


def float_ufuncs():
    """Every element-wise ufunc of NumPy with a loop from doubles to doubles or truth values."""
    ufuncs = [getattr(np, name) for name in dir(np)]
    ufuncs = [u for u in ufuncs if isinstance(u, np.ufunc) and u.signature is None]
    return {u.__name__: u for u in ufuncs if any(t.startswith("d") for t in u.types)}


def test_every_float_ufunc_has_a_row():
    names = {ufunc.__name__ for ufunc in UFUNCS}
    assert len(names) > 60
    assert set(float_ufuncs()) - names == set(WITHOUT_ROW) - names


@pytest.mark.parametrize("name", sorted(set(WITHOUT_ROW) - {u.__name__ for u in UFUNCS}))
def test_ufunc_without_row_is_right_or_refused(name):
    """A rule of NumPy's family may know it; never does it give a wrong or silent zero."""
    ufunc = getattr(np, name)

    def f(x):
        results = ufunc(x, 3) if name == "ldexp" else ufunc(*[2.5 * x, x + 0.25][: ufunc.nin])
        results = results if isinstance(results, tuple) else (results,)
        return np.sum(sum(results))

    at, direction = np.array([0.4, 1.7]), np.array([1.0, -0.5])
    try:
        tangent = fad.jvp(f, at, direction)[1]
    except NotImplementedError as refusal:
        assert re.search(rf"numpy\.{name}\b", str(refusal))
    else:
        agree(tangent, directional(f, [at], [direction]), 1e-9)


# --- values -------------------------------------------------------------------------------------


@rows(WITH_TARGET)
def test_value_is_that_of_numpy(op):
    expected = getattr(np, op.numpy_name)(*points(op))
    with fad.Tape() as tape:
        scalars = [
            row_function(op)(*[tape.variable(float(x)) for x in point])
            for point in zip(*points(op), strict=True)
        ]
        arrays = row_function(op)(*[tape.variable(x) for x in points(op)])
    assert {s.op for s in scalars} == {arrays.op} == {op.name}
    np.testing.assert_allclose([s.value for s in scalars], expected, rtol=1e-15)
    np.testing.assert_allclose(arrays.value, expected, rtol=1e-15)


@rows([op for op in DIFFERENTIABLE if op.name in EXACT])
def test_value_is_exact(op):
    expected = [exact_partial(op.name, p, (0,) * op.arity) for p in zip(*points(op), strict=True)]
    with fad.Tape() as tape:
        y = row_function(op)(*[tape.variable(x) for x in points(op)])
    agree(y.value, np.array(expected), 4e-15)


def truth_of(op, columns):
    """What NumPy says of a predicate; or, of an internal one, what its row says."""
    if op.name == "TIES":
        return np.equal(*columns) | np.isnan(columns[0])
    return getattr(np, op.numpy_name)(*columns)


@rows(PREDICATES)
def test_predicate_gives_truth_values(op):
    columns = points(op)
    columns = [np.where(np.arange(COUNT) % 3 == k, 0.0, x) for k, x in enumerate(columns)]
    expected = truth_of(op, columns)
    with fad.Tape() as tape:
        scalars = [
            row_function(op)(*[tape.variable(float(x)) for x in point])
            for point in zip(*columns, strict=True)
        ]
        arrays = row_function(op)(*[tape.variable(x) for x in columns])
    assert arrays.dtype == arrays.value.dtype == bool and not arrays.active
    np.testing.assert_array_equal(arrays.value, expected)
    assert [bool(s) for s in scalars] == expected.tolist()


@rows(PREDICATES)
def test_predicate_has_no_derivative(op):
    def chosen(*x):
        return fad.where(row_function(op)(*x), 3.0 * x[0], 2.0 * x[-1])

    gradients = fad.vjp(chosen, *points(op))[1](np.ones(COUNT))
    assert np.all(np.isin(sum(gradients), [2.0, 3.0]))


# --- first order --------------------------------------------------------------------------------


@rows(DIFFERENTIABLE)
@pytest.mark.parametrize("reading", FIRST, ids=lambda reading: reading.__name__)
def test_first_order(op, reading):
    check_first(op, reading)


@rows([op for op in WITH_TARGET if op.name in EXACT])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_oracles_agree(op, order):
    """The exact derivatives, which all else is held against, with differences of NumPy's values."""
    for n, exact in partials(op, order)[0].items():
        with np.errstate(invalid="ignore"):
            finite, spread = finite_partial(getattr(np, op.numpy_name), points(op), n)
        tolerance = FINITE_TOLERANCE[order]
        settled = spread <= tolerance * (1 + abs(finite))
        assert np.mean(settled) > 0.8  # else beside a kink
        agree(finite[settled], exact[settled], 10 * tolerance, 10 * tolerance)


@rows(DIFFERENTIABLE)
def test_broadcasting(op):
    """A cotangent is summed over the axes that its operand was broadcast along."""
    shapes = [(6, 1), (4,), (1, 1)]
    operands = [x[: np.prod(s)].reshape(s) for x, s in zip(points(op), shapes, strict=False)]
    full = np.broadcast_arrays(*operands)
    weights = np.random.default_rng(1).normal(size=full[0].shape)
    columns, tolerance = [x.ravel() for x in full], tolerance_of(op, 1)
    expected = [known(op, columns, n) for n in sorted(multi_indices(op.arity, 1), reverse=True)]
    pulled = fad.vjp(row_function(op), *operands)[1](weights)
    for ours, operand, partial in zip(pulled, operands, expected, strict=True):
        terms = weights * partial.reshape(weights.shape)
        axes = tuple(a for a in (0, 1) if np.atleast_2d(operand).shape[a] < terms.shape[a])
        agree(
            np.atleast_2d(ours),
            np.sum(terms, axes, keepdims=True),
            tolerance,
            tolerance * np.max(abs(terms)),
        )


@rows(DIFFERENTIABLE)
def test_single_precision(op):
    """float32 in, float32 out, and what float64 gives up to rounding."""
    single = [x.astype(np.float32) for x in points(op)]
    double = [x.astype(float) for x in single]
    for reading in (array_reverse, array_long, array_tangent, array_nodes):
        for ours, theirs in zip(
            reading(row_function(op), single), reading(row_function(op), double), strict=True
        ):
            assert ours.dtype == np.float32
            agree(ours, theirs, 2e-5)


@rows(DIFFERENTIABLE)
def test_scalars_of_single_precision(op):
    point = [np.float32(x[0]) for x in points(op)]
    ours = fad.grad(row_function(op), tuple(range(op.arity)))(*point)
    theirs = fad.grad(row_function(op), tuple(range(op.arity)))(*map(float, point))
    assert {np.asarray(x).dtype for x in ours} == {np.dtype(np.float32)}
    agree(ours, theirs, 2e-5)


@rows(DIFFERENTIABLE)
def test_empty(op):
    empty = [np.zeros((0, 3)) for _ in range(op.arity)]
    for reading in (array_reverse, array_tangent, array_nodes):
        assert [x.shape for x in reading(row_function(op), empty)] == [(0, 3)] * op.arity


def test_stop_is_the_identity_without_derivative():
    stop = row_function(fad.OPS["STOP"])
    for reading in FIRST:
        column = np.array([1.5, -2.0])
        assert not np.any(reading(stop, [column]))
    assert fad.value_and_grad(stop)(1.5) == (1.5, 0.0)


# --- higher orders ------------------------------------------------------------------------------


@rows(DIFFERENTIABLE)
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("reading", HIGHER)
def test_higher_order(op, order, reading):
    check_higher(op, order, HIGHER[reading])


# --- kinds: what sparsity and shortcuts rely on --------------------------------------------------


@rows(of_kind("LINEAR", "BILINEAR", "FLAT"))
def test_kind_is_true(op):
    first, second = partials(op, 1)[0], partials(op, 2)[0]
    if op.kind == "FLAT":
        assert not any(np.any(abs(x) > 1e-30) for x in first.values())
    for n, derivatives in second.items():
        if op.kind != "BILINEAR" or 2 in n:
            assert np.all(abs(derivatives) < 1e-30)


@rows(of_kind("LINEAR"))
def test_partials_of_linear_rows_are_constant(op):
    """Bit for bit; those of SELECT for each value of its mask."""
    where = points(op)[0] == 1.0 if op.name == "SELECT" else np.full(COUNT, True)
    for reading in FIRST:
        for partial in reading(row_function(op), points(op)):
            assert len(set(partial[where])) == 1 >= len(set(partial[~where]))


@rows(of_kind("SMOOTH"))
def test_smooth_rows_are_curved(op):
    assert any(np.any(abs(x) > 1e-6) for x in partials(op, 2)[0].values())


@rows(of_kind("KINK"))
def test_choice_at_a_kink_is_documented(op):
    assert re.search("derivative|gradient", op.doc)


# --- the comparison itself: planted faults ------------------------------------------------------


def wrong_sign(f):
    return lambda *x: 2.0 * fad.stop_gradient(f(*x)) - f(*x)


def wrong_factor(f):
    return lambda *x: (1 + 1e-10) * f(*x) - 1e-10 * fad.stop_gradient(f(*x))


def dropped_operands(f):
    """One operand after the other loses its derivative."""
    return lambda *x: f(*map(fad.stop_gradient, x)) + 0.0 * x[0]


def wrong_power(power):
    """Derivatives right but for one order: (x - x)**power counts in that order alone."""

    def fault(f):
        def faulty(*x):
            d = x[0] - fad.stop_gradient(x[0])
            return f(*x) + 1e-6 * d**power

        return faulty

    return fault


def has_derivative(op):
    return op.kind != "FLAT" and op.numpy_name != "heaviside"


@rows([op for op in DIFFERENTIABLE if has_derivative(op)])
@pytest.mark.parametrize("fault", [wrong_sign, wrong_factor, dropped_operands])
def test_planted_fault_of_first_order(op, fault):
    for reading in FIRST:
        if reading.__name__ == "tape_partials":
            continue  # of one node: test_new_row.py plants a whole row
        with pytest.raises(AssertionError, match="should be"):
            check_first(op, reading, fault(row_function(op)))


@rows([op for op in DIFFERENTIABLE if op.name in EXACT])
@pytest.mark.parametrize("order", [2, 3])
def test_planted_fault_of_higher_order(op, order):
    for reading in HIGHER.values():
        with pytest.raises(AssertionError, match="should be"):
            check_higher(op, order, reading, wrong_power(order)(row_function(op)))
