"""vmap against a Python loop over the lanes: every primitive, every NumPy rule, every nesting."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import test_numpy_linalg
import test_numpy_products
import test_numpy_reductions
import test_numpy_shapes
from numpy_case import agree
from readings import row_function
from reference import directional
from test_ops import DOMAINS

import fastad as fad
from fastad import _core
from fastad._calls import _POOL
from fastad._record import current_recorder

LANES = 3
ROWS = [
    case
    for module in (test_numpy_linalg, test_numpy_products, test_numpy_reductions, test_numpy_shapes)
    for case in module.ROWS
    if case.args
]
READS = {"sort by argsort"}  # rows that turn a recorded value into a plain index


def lanes_of(case):
    """The row's arguments in every lane, along axis 0."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    sample = case.sample or (lambda rng, shape: rng.normal(size=shape))
    return [
        np.stack([sample(rng, a) for _ in range(LANES)])
        if isinstance(a, tuple)
        else np.stack([np.asarray(a, float) * (1 + 0.25 * lane) for lane in range(LANES)])
        for a in case.args
    ]


def loop(f, args, mapped=None):
    """What vmap has to give; `mapped` tells which arguments have lanes."""
    mapped = [True] * len(args) if mapped is None else mapped
    count = next(len(a) for a, on in zip(args, mapped, strict=True) if on)
    return np.stack(
        [
            f(*[a[lane] if on else a for a, on in zip(args, mapped, strict=True)])
            for lane in range(count)
        ]
    )


def picked(f, k):
    return lambda *args: f(*args)[k]


def same(ours, theirs, rtol=1e-12):
    theirs = np.asarray(theirs)
    assert np.shape(ours) == theirs.shape
    assert np.asarray(ours).dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-12)


def refused(f, *args, match="differs from lane to lane", **options):
    with pytest.raises(fad.LaneError, match=match):
        fad.vmap(f, **options)(*args)
    assert current_recorder() is None
    assert fad.vmap(np.sin)(np.zeros(2)).tolist() == [0.0, 0.0]


# --- element-wise rows --------------------------------------------------------------------------


def operands(op, shapes):
    rng = np.random.default_rng(5)
    return [
        np.resize(DOMAINS[domain](rng), (LANES, *shape))
        for domain, shape in zip(op.domains, shapes, strict=True)
    ]


def value_of_row(op, *xs):
    """The row's value where the operands are on a tape; a float where it is a truth value."""
    with fad.Tape() as tape:
        result = row_function(op)(*[tape.variable(x) for x in xs])
        return np.asarray(_core.value_of(result), float)


@pytest.mark.parametrize(
    "shapes",
    [((), (), ()), ((2, 4), (4,), ()), ((), (2, 4), (1, 4)), ((2, 1), (3,), (2, 3))],
    ids=["scalars", "falling rank", "rising rank", "crossed"],
)
@pytest.mark.parametrize("op", fad.OPS.values(), ids=lambda op: op.name)
def test_every_elementwise_row(op, shapes):
    xs = operands(op, shapes[: op.arity])
    choices = [[True] * op.arity]
    if op.arity > 1:
        choices += [[k != j for k in range(op.arity)] for j in range(op.arity)]
    for mapped in choices:
        args = [x if on else x[0] for x, on in zip(xs, mapped, strict=True)]
        axes = tuple(0 if on else None for on in mapped)
        ours = fad.vmap(row_function(op), in_axes=axes)(*args)
        theirs = loop(lambda *a: value_of_row(op, *a), args, mapped)
        np.testing.assert_allclose(np.asarray(ours, float), theirs, rtol=4e-15, atol=0)
        if op.kind == "PREDICATE":
            assert np.asarray(ours).dtype == bool


@pytest.mark.parametrize(
    "op",
    [op for op in fad.OPS.values() if op.kind not in ("PREDICATE", "FLAT")],
    ids=lambda op: op.name,
)
def test_derivatives_of_elementwise_rows(op):
    f = row_function(op)
    every = tuple(range(op.arity))
    xs = operands(op, [()] * op.arity)
    of_lane = fad.grad(f, every)
    over_lanes = fad.vmap(of_lane)(*xs)
    of_sum = fad.grad(lambda *a: np.sum(fad.vmap(f)(*a)), every)(*xs)
    for k in every:
        theirs = loop(picked(of_lane, k), xs)
        same(over_lanes[k], theirs)
        same(of_sum[k], theirs)


# --- structural rows ----------------------------------------------------------------------------

INDEX = np.array([3, 0, 3, 1])


def updated(x, index, value):
    y = x * 1.0
    y[index] = value
    return y


# name of the row: functions whose recording has it, of x of shape (3, 4), y of shape (3,), scalar s
STRUCTURAL = {
    "RESHAPE": [
        lambda x, y, s: np.reshape(x, (4, 3)),
        lambda x, y, s: np.reshape(x.T, (2, 6)),
        lambda x, y, s: np.reshape(s, (1, 1)) * x,
        lambda x, y, s: np.reshape(x[:1, :1], ()) * s,
    ],
    "VIEW": [
        lambda x, y, s: x[1],
        lambda x, y, s: x[::-1, None, 1:4:2],
        lambda x, y, s: x.T[1:, 0],
        lambda x, y, s: x[2, 1],
        lambda x, y, s: x[:, 3:3],
        lambda x, y, s: np.reshape(s, (1,))[None],
    ],
    "EMBED": [lambda x, y, s: fad.grad(lambda x: np.sum(x[1:, ::2] ** 2) * s)(x)],
    "UPDATE_VIEW": [
        lambda x, y, s: updated(x, np.s_[1:, 2], 5.0),
        lambda x, y, s: updated(x, np.s_[:, 1], y),
        lambda x, y, s: updated(x, np.s_[0], s),
    ],
    "BROADCAST_TO": [
        lambda x, y, s: np.broadcast_to(x, (2, 3, 4)),
        lambda x, y, s: np.broadcast_to(y[:, None], (2, 3, 4)),
        lambda x, y, s: np.broadcast_to(s, (2, 2)),
    ],
    "SUM_TO": [
        lambda x, y, s: np.sum(x),
        lambda x, y, s: np.sum(x, axis=0) * s,
        lambda x, y, s: np.sum(x, axis=1, keepdims=True),
        lambda x, y, s: np.sum(np.sum(x, axis=0)),
    ],
    "MAX_TO": [
        lambda x, y, s: np.max(x * s, axis=0),
        lambda x, y, s: np.max(np.max(x, axis=1, keepdims=True) * y[:, None]),
    ],
    "MIN_TO": [lambda x, y, s: np.min(x, axis=1) * s, lambda x, y, s: np.min(x)],
    "ELEMENT": [lambda x, y, s: y[1] * y[-1] + s],
    "STACK": [
        lambda x, y, s: (
            _core.stack_scalars([s * 1.0, y[0], s * s, 2.0, y[0]])
            if _core.is_array([s, y])
            else np.array([s, y[0], s * s, 2.0, y[0]])
        )
    ],
    "CONCATENATE": [
        lambda x, y, s: np.concatenate([x, x[:1] * s], axis=0),
        lambda x, y, s: np.concatenate([x.T, np.ones((4, 2)), x.T], axis=1),
    ],
    "NSUM": [
        lambda x, y, s: fad.grad(lambda x: np.sum(x * s) + np.sum(x**2) + np.sum(np.sin(x)))(x),
        lambda x, y, s: fad.grad(lambda t: t * s + np.sin(t) + t**3 + np.exp(t))(y[0]),
    ],
    "GATHER": [
        lambda x, y, s: x[:, INDEX] * s,
        lambda x, y, s: np.sort(x, axis=1),
        lambda x, y, s: np.sort(y)[INDEX[1:2]],
    ],
    "SCATTER_ADD": [
        lambda x, y, s: fad.grad(lambda x: np.sum(x[:, INDEX] ** 2) * s)(x),
        lambda x, y, s: np.diag(y),
        lambda x, y, s: fad.grad(lambda x: np.sum(np.sort(x, axis=0) * x[::-1]))(x),
    ],
    "UPDATE_AT": [
        lambda x, y, s: updated(x, (INDEX[:3] % 3, INDEX[1:]), y),
        lambda x, y, s: updated(y, [2, 0], s),
        lambda x, y, s: fad.grad(lambda y: np.sum(updated(y, [2, 0], s) ** 2))(y),
    ],
    "MATMUL": [
        lambda x, y, s: x.T @ y,
        lambda x, y, s: x @ x.T,
        lambda x, y, s: np.stack([x, x * s]) @ x.T,
        lambda x, y, s: y @ x,
        lambda x, y, s: y @ y,
        lambda x, y, s: np.arange(12.0).reshape(4, 3) @ y,
        lambda x, y, s: np.arange(12.0).reshape(4, 3) @ x,
        lambda x, y, s: np.arange(24.0).reshape(2, 4, 3) @ y,
        lambda x, y, s: x @ np.arange(8.0).reshape(4, 2),
        lambda x, y, s: np.stack([x, x]) @ np.arange(8.0).reshape(4, 2),
        lambda x, y, s: np.ones((2, 3)) @ np.stack([x, x])[..., :1],
        lambda x, y, s: x[:, :0] @ np.ones((0, 2)),
    ],
    "CUMSUM": [
        lambda x, y, s: np.cumsum(x, axis=1),
        lambda x, y, s: np.cumsum(x, axis=0),
        lambda x, y, s: fad.grad(lambda y: np.sum(np.cumsum(y) ** 2))(y),
    ],
    "CAST": [
        lambda x, y, s: x.astype(np.float32) * np.float32(2),
        lambda x, y, s: x.astype(np.float32)[0].astype(float) * s,
    ],
    "CUSTOM": [
        lambda x, y, s: np.linalg.inv(x @ x.T + 3 * np.eye(3)) * s,
    ],
    "OUTPUT": [lambda x, y, s: np.linalg.slogdet(x @ x.T + 3 * np.eye(3))[1] * s],
}
# Only passes of a compiled program make them: tests/c/test_batch.c.
NOT_FROM_PYTHON = {"CONSTANT", "VARIABLE", "STRIDED", "STRIDED_ADD"}


def structural_args():
    rng = np.random.default_rng(8)
    return [rng.normal(size=(LANES, *shape)) for shape in ((3, 4), (3,), ())]


def test_every_structural_row_is_here():
    for name, functions in STRUCTURAL.items():
        assert any(name in recorded_by(f) for f in functions)
    text = (Path(__file__).parent.parent / "csrc" / "structural.def").read_text()
    rows = set(re.findall(r"^ST\((\w+)", text, re.MULTILINE))
    assert rows - NOT_FROM_PYTHON == set(STRUCTURAL)


def recorded_by(f):
    """The names of the operations that f records."""
    with fad.Tape() as tape:
        variables = [tape.variable(a[0]) for a in structural_args()]
        f(*variables)
        recorder = variables[0].recorder
        return {recorder.op_name(i) for i in range(len(recorder))}


@pytest.mark.parametrize(
    ("name", "f"), [(name, f) for name, functions in STRUCTURAL.items() for f in functions]
)
def test_every_structural_row(name, f):
    args = structural_args()
    for mapped in ([1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]):
        given = [a if on else a[0] for a, on in zip(args, mapped, strict=True)]
        axes = tuple(0 if on else None for on in mapped)

        def on_tape(*xs):
            return fad.vjp(f, *xs)[0]

        recorded, _ = fad.vjp(lambda *xs, axes=axes: fad.vmap(f, axes)(*xs), *given)
        same(recorded, loop(on_tape, given, mapped))

        def scalar(*xs):
            return np.sum(np.sin(f(*xs)))

        every = (0, 1, 2)
        of_lane = fad.grad(scalar, every)
        ours = fad.vmap(of_lane, axes)(*given)
        for k in every:
            same(ours[k], loop(picked(of_lane, k), given, mapped), 1e-6)
        total = fad.grad(lambda *xs, axes=axes: np.sum(fad.vmap(scalar, axes)(*xs)), every)(*given)
        for k in every:
            same(total[k], ours[k] if mapped[k] else np.sum(ours[k], axis=0), 1e-6)


# --- NumPy's functions --------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in ROWS if c.name not in READS], ids=repr)
def test_numpy_rule(case):
    args = lanes_of(case)
    same(fad.vmap(case.f)(*args), loop(lambda *a: fad.vjp(case.f, *a)[0], args))
    if len(args) > 1:
        axes = (0,) + (None,) * (len(args) - 1)
        given = [args[0], *[a[0] for a in args[1:]]]
        theirs = loop(lambda *a: fad.vjp(case.f, *a)[0], given, [True] + [False] * (len(args) - 1))
        same(fad.vmap(case.f, axes)(*given), theirs)


@pytest.mark.parametrize("case", [c for c in ROWS if c.order and c.name not in READS], ids=repr)
def test_derivatives_of_numpy_rule(case):
    args = lanes_of(case)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(LANES, *np.shape(case.f(*[a[0] for a in args]))))
    tangents = [rng.normal(size=a.shape) for a in args]
    every = tuple(range(len(args)))

    def values(*xs):
        return np.sum(weights * loop(case.f, xs))

    expected = float(directional(values, args, tangents))
    inside = fad.vmap(fad.grad(lambda w, *xs: np.sum(w * case.f(*xs)), tuple(k + 1 for k in every)))
    outside = fad.grad(lambda *xs: np.sum(weights * fad.vmap(case.f)(*xs)), every)
    for gradients in (inside(weights, *args), outside(*args)):
        agree(
            sum(np.sum(g * t) for g, t in zip(gradients, tangents, strict=True)),
            expected,
            100 * case.tolerance,
        )
    pushed = fad.vmap(lambda *xs: fad.jvp(case.f, xs[: len(args)], xs[len(args) :])[1])
    agree(np.sum(weights * pushed(*args, *tangents)), expected, 100 * case.tolerance)


@pytest.mark.parametrize("case", [c for c in ROWS if c.order > 1 and c.name not in READS], ids=repr)
def test_second_derivatives_of_numpy_rule(case):
    args = lanes_of(case)

    def along(*xs):
        slope = fad.grad(lambda *y: np.sum(np.sin(case.f(*y))))(*xs)
        return np.sum(np.sin(slope))

    of_lane = fad.grad(along, len(args) - 1)
    same(fad.vmap(of_lane)(*args), loop(of_lane, args), 1e-8)


@pytest.mark.parametrize("case", [c for c in ROWS if c.name in READS], ids=repr)
def test_a_rule_that_reads_is_refused(case):
    refused(case.f, *lanes_of(case))


# --- matrices of one and the same factor, singular matrices, ties ---------------------------------


def test_det_and_its_derivatives_at_singular_lanes():
    A = np.stack([np.eye(5), np.ones((5, 5)), np.diag([1.0, 2.0, 0.0, 4.0, 5.0]), np.zeros((5, 5))])
    f = np.linalg.det
    same(fad.vmap(fad.grad(f))(A), loop(fad.grad(f), [A]), 1e-9)
    same(
        fad.grad(lambda A: np.sum(fad.vmap(f)(A) ** 2))(A), loop(fad.grad(lambda a: f(a) ** 2), [A])
    )
    direction = np.random.default_rng(1).normal(size=(5, 5))

    def bent(a):
        return np.sum(fad.grad(f)(a) * direction)

    same(fad.vmap(fad.grad(bent))(A), loop(fad.grad(bent), [A]), 1e-9)


def test_slogdet_at_a_singular_lane_that_nobody_wants():
    A = np.stack([2 * np.eye(3), np.ones((3, 3))])

    def f(a, wanted):
        return np.where(wanted, np.linalg.slogdet(a)[1], 0.0)

    ours = fad.vmap(fad.grad(f))(A, np.array([True, False]))
    same(ours, np.stack([np.eye(3) / 2, np.zeros((3, 3))]))


def test_ties_and_nan_in_extrema():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [np.nan, 1.0, 5.0], [4.0, 0.0, -1.0]])
    for f in (np.max, np.min, np.ptp, np.median, lambda x: np.sort(x)[1]):
        same(fad.vmap(f)(x), loop(lambda a, f=f: fad.vjp(f, a)[0], [x]))
        same(fad.vmap(fad.grad(f))(x), loop(fad.grad(f), [x]))


def test_root_of_zero():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    for f in (np.linalg.norm, np.std, lambda x: np.linalg.norm(x, 0) + np.sum(x)):
        same(fad.vmap(fad.grad(f))(x), loop(fad.grad(f), [x]))


def test_an_unmapped_matrix_is_factorised_once(monkeypatch):
    shapes = []
    solve = np.linalg.solve
    monkeypatch.setattr(
        test_numpy_linalg.np.linalg,
        "solve",
        lambda a, b: shapes.append(np.shape(a)) or solve(a, b),
    )
    A, b = np.eye(3) + 0.1, np.random.default_rng(0).normal(size=(50, 3))
    ours = fad.vmap(lambda A, b: fad.stop_gradient(solve(A, b)), (None, 0))(A, b)
    same(ours, np.stack([solve(A, row) for row in b]))
    assert set(shapes) == {(3, 3)}


# --- masks and choices ----------------------------------------------------------------------------

X = np.linspace(-2.0, 2.0, 5)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x > 0, x, x * x),
        lambda x: np.where((x > -1) & (x < 1), x, 7.0),
        lambda x: np.where(np.logical_or(x < -1, np.logical_not(x <= 1)), x, 7.0),
        lambda x: np.where(x < 1.0, np.where(x == 0, 3.0, x), -x),
        lambda x: np.where(np.isnan(np.where(x > 0, np.nan, x)), 1.0, x),
        lambda x: (x > 0) * x + np.sign(x),
        lambda x: fad.where(x > 0, np.sqrt(abs(x)), 0.0),
        lambda x: np.where(np.any(np.stack([x, x - 1]) > 0), x, 0.0),
        lambda x: np.where(np.all(np.stack([x, x - 1]) > 0), x, 0.0),
        lambda x: np.sum(np.stack([x, x - 1]) > 0) * 1.0 + 0 * x,
        lambda x: np.mean(np.stack([x, x - 1]) > 0) + 0 * x,
        lambda x: np.clip(x, -1, 1),
        lambda x: np.where(x != x, 1.0, 2.0),
    ],
)
def test_choices(f):
    same(fad.vmap(f)(X), loop(lambda x: np.asarray(f(np.float64(x)), float), [X]))
    with fad.Tape() as tape:
        x = tape.variable(X)
        total = np.sum(fad.vmap(f)(x))
    np.testing.assert_allclose(
        tape.gradient(total, x), loop(fad.grad(lambda x: f(x) * 1.0), [X]), atol=1e-15
    )


@pytest.mark.parametrize(
    "f",
    [
        np.argsort,
        np.argmax,
        lambda x: np.argmin(x) * 1.0,
        np.count_nonzero,
        lambda x: np.any(x > 1),
        lambda x: np.all(x > -1, axis=0),
        lambda x: np.allclose(x, 1.0),
        lambda x: np.isclose(x, x[::-1]),
        lambda x: np.sum(x > 0),
        lambda x: np.mean(x > 0),
        lambda x: np.take(x, np.argmax(x)),
        lambda x: np.take_along_axis(x, np.argsort(-x), 0),
    ],
)
def test_what_is_found_out_about_every_lane(f):
    x = np.random.default_rng(9).normal(size=(4, 3))
    np.testing.assert_array_equal(fad.vmap(f)(x), np.stack([f(row) for row in x]))
    twice = fad.vmap(fad.vmap(f))(np.stack([x, -x]))
    np.testing.assert_array_equal(twice, [[f(row) for row in x], [f(-row) for row in x]])
    assert len(fad.vmap(f)(x[:0])) == 0


def test_masks_as_arguments_and_results():
    mask = np.array([True, False, True, True, False])
    ours = fad.vmap(lambda x, m: (np.where(m, x, -x), ~m, x > 1, np.isnan(x)))(X, mask)
    same(ours[0], np.where(mask, X, -X))
    same(ours[1], ~mask)
    same(ours[2], X > 1)
    same(ours[3], np.isnan(X))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x > 0 else -x,
        lambda x: x if x else 0.0,
        lambda x: max(x, 0.0),
        float,
        lambda x: float(fad.stop_gradient(x)),
        lambda x: int(fad.stop_gradient(x)),
        lambda x: x.value,
        lambda x: np.asarray(fad.stop_gradient(np.stack([x, x]))),
        lambda x: x.item(),
        lambda x: np.arange(4.0)[np.argsort(np.stack([x, -x]))],
        lambda x: np.stack([x, -x])[np.argmax(np.stack([x, -x]))],
        lambda x: np.stack([x, -x])[np.stack([x, -x]) > 0],
        lambda x: np.stack([x, -x])[fad.stop_gradient(x)],
        lambda x: np.nonzero(np.stack([x, -x])),
        lambda x: range(np.count_nonzero(np.stack([x, -x]))),
        lambda x: 1.0 if np.allclose(x, 1.0) else x,
        lambda x: 1.0 in np.stack([x, -x]),
        lambda x: sorted([x, -x])[0],
        lambda x: [1.0, 2.0][x > 0],
        lambda x: fad.grad(lambda y: y * (2.0 if x > 0 else 1.0))(3.0),
        lambda x: fad.grad(lambda y: y if y > 0 else 2 * y)(x),
        lambda x: fad.vmap(lambda y: y if x > 0 else 2 * y)(X),
        lambda x: fad.vmap(lambda y: y if y > 0 else x)(X),
        lambda x: fad.jvp(lambda y: y if y > 0 else 2 * y, x, 1.0)[1],
    ],
)
def test_no_lane_decides_for_all(f):
    refused(f, X)
    with fad.Tape() as tape:
        x = tape.variable(X)
        with pytest.raises(fad.LaneError, match=r"np\.where"):
            fad.vmap(f)(x)
        y = np.sum(fad.vmap(np.sin)(x))
    np.testing.assert_allclose(tape.gradient(y, x), np.cos(X))


def test_what_all_lanes_share_may_decide():
    def f(x, k):
        return x * k if k > 1 else x

    same(fad.vmap(f, (0, None))(X, 2.0), 2 * X)
    same(fad.grad(lambda k: np.sum(fad.vmap(lambda x: f(x, k))(X[3:])))(2.0), np.sum(X[3:]))
    shapes = []
    fad.vmap(lambda x: shapes.append((x.shape, x.ndim, len(x), str(x.dtype))) or x)(np.ones((2, 3)))
    assert shapes == [((3,), 1, 3, "float64")]


def test_a_recorded_value_can_be_shown():
    texts = []
    fad.vmap(lambda x: texts.append(repr(x)) or x)(X)
    assert texts == ["Array(-2.0)"]


def test_what_is_left_behind_is_not_the_first_lane():
    kept = []

    def f(x):
        kept.append(np.sin(x))
        return x

    def g(x):
        return np.sum(fad.vmap(f)(x)) * kept[-1]

    assert np.isnan(fad.value_and_grad(g)(X)[0])
    with pytest.raises(fad.TapeError):
        fad.vmap(f)(X)
        kept[-1] + 1.0


# --- nesting --------------------------------------------------------------------------------------


def rosenbrock(x):
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))


def bent(x):
    return np.array([x[0] * np.sin(x[1]), x[1] ** 2, np.exp(x[0] * x[2]), x[2]])


P = np.random.default_rng(2).normal(size=(4, 3))

TRANSFORMS = {
    "value": lambda f: f,
    "grad": fad.grad,
    "hessian": fad.hessian,
    "third": lambda f: fad.jacobian(fad.hessian(f)),
    "jvp": lambda f: lambda x: fad.jvp(f, x, np.ones(3))[1],
    "hvp": lambda f: lambda x: fad.hvp(f, x, np.ones(3)),
    "vjp": lambda f: lambda x: fad.vjp(f, x)[1](2.0)[0],
    "linearize": lambda f: lambda x: fad.linearize(f, x)[1](np.ones(3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_vmap_of_a_transform(name):
    f = TRANSFORMS[name](rosenbrock)
    same(fad.vmap(f)(P), loop(f, [P]))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_of_vmap(name):
    """The lanes do not meet: derivatives of the sum are those of the lanes."""
    f = TRANSFORMS[name]
    total = TRANSFORMS[name](lambda x: np.sum(np.sin(fad.vmap(rosenbrock)(x * P / 3))))
    plain = f(lambda x: sum(np.sin(rosenbrock(x * p / 3)) for p in P))
    same(total(np.array([0.3, -0.2, 0.5])), plain(np.array([0.3, -0.2, 0.5])), 1e-10)


def test_jacobians_inside_and_outside():
    of_lane = fad.jacobian(bent)
    same(fad.vmap(of_lane)(P), loop(of_lane, [P]))
    whole = fad.jacobian(fad.vmap(bent))(P)
    expected = np.zeros((4, 4, 4, 3))
    for lane in range(4):
        expected[lane, :, lane] = of_lane(P[lane])
    same(whole, expected)
    inner = fad.jacobian(lambda x: np.sum(fad.jacobian(bent)(x) ** 2, axis=1))(P[0])
    same(inner, fad.jacobian(lambda x: np.array([np.sum(row**2) for row in rows_of(x)]))(P[0]))


def rows_of(x):
    return [fad.grad(lambda x, i=i: bent(x)[i])(x) for i in range(4)]


def test_vmap_of_vmap():
    f = lambda x, y: np.sin(x) * y + x
    table = fad.vmap(fad.vmap(f, (None, 0)), (0, None))
    same(table(X, P[0]), np.array([[f(x, y) for y in P[0]] for x in X]))
    other = fad.vmap(fad.vmap(f, (0, None)), (None, 0))
    same(other(X, P[0]), table(X, P[0]).T)
    slopes = fad.vmap(fad.vmap(fad.grad(f), (None, 0)), (0, None))(X, P[0])
    same(slopes, np.cos(X)[:, None] * P[0] + 1)
    total = fad.grad(lambda x, y: np.sum(table(x, y) ** 2), (0, 1))(X, P[0])
    plain = fad.grad(lambda x, y: np.sum((np.sin(x)[:, None] * y + x[:, None]) ** 2), (0, 1))
    for ours, theirs in zip(total, plain(X, P[0]), strict=True):
        same(ours, theirs)


def test_three_levels_with_a_matrix():
    A = np.random.default_rng(3).normal(size=(2, 3, 4, 3, 3)) + 3 * np.eye(3)
    f = lambda a: np.linalg.solve(a, np.arange(3.0))
    same(fad.vmap(fad.vmap(fad.vmap(f)))(A), f_over(f, A))
    g = lambda a: np.max(np.sort(a @ a, axis=0)[1])
    same(fad.vmap(fad.vmap(fad.vmap(g)))(A), f_over(g, A))
    same(fad.vmap(fad.vmap(fad.vmap(fad.grad(g))))(A), f_over(fad.grad(g), A))


def f_over(f, A):
    return np.array([[[f(a) for a in row] for row in block] for block in A])


def test_closures_are_the_same_in_every_lane():
    def total(w, b):
        return np.sum(fad.vmap(lambda x: np.tanh(x @ w + b))(P))

    w, b = np.array([0.2, -0.4, 0.1]), 0.3
    ours = fad.grad(total, (0, 1))(w, b)
    plain = fad.grad(lambda w, b: np.sum(np.tanh(P @ w + b)), (0, 1))(w, b)
    same(ours[0], plain[0])
    same(ours[1], plain[1])
    same(
        fad.hessian(lambda w: total(w, b))(w),
        fad.hessian(lambda w: np.sum(np.tanh(P @ w + b)))(w),
    )


def test_an_outer_lane_in_an_inner_function():
    def f(x):
        return np.sum(fad.vmap(lambda y: np.sin(x * y))(P[0])) + fad.grad(lambda y: y**2 * x)(x)

    plain = lambda x: np.sum(np.sin(x * P[0])) + 2 * x**2
    same(fad.vmap(f)(X), loop(plain, [X]))
    same(fad.vmap(fad.grad(f))(X), loop(lambda x: np.sum(np.cos(x * P[0]) * P[0]) + 4 * x, [X]))


def test_stopped_lanes_stay_lanes():
    f = lambda x: fad.grad(lambda y: y * fad.stop_gradient(x))(2.0)
    same(fad.vmap(f)(X), X)
    g = lambda x: fad.grad(lambda y: y**2)(fad.stop_gradient(x))
    same(fad.vmap(g)(X), 2 * X)
    same(fad.vmap(fad.grad(lambda x: x * fad.stop_gradient(x)))(X), X)


def test_constants_are_computed_once():
    calls = []

    class Slow(fad.Function):
        @staticmethod
        def forward(ctx, x):
            calls.append(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def f(x, k):
        return x * Slow.apply(k)

    assert fad.grad(lambda k: np.sum(fad.vmap(f, (0, None))(X, k)))(1.0) == 2 * np.sum(X)
    assert len(calls) == 1


def test_vmap_inside_tape_and_out_of_it():
    with fad.Tape() as tape:
        x = tape.variable(P)
        y = fad.vmap(rosenbrock)(x)
        assert isinstance(y, fad.Array)
        plain = fad.vmap(rosenbrock)(P)
        assert isinstance(plain, np.ndarray)
        total = np.sum(y)
    same(tape.gradient(total, x), loop(fad.grad(rosenbrock), [P]))


def test_writing_to_an_argument():
    def f(x):
        x[0] += 1.0
        x *= 2.0
        return np.sum(x * x)

    given = P.copy()
    same(fad.vmap(f)(given), loop(lambda x: f(x.copy()), [P]))
    same(given, P)
    same(fad.vmap(fad.grad(f))(given), loop(fad.grad(f), [P]))


# --- arguments and results ------------------------------------------------------------------------


def test_in_axes_and_out_axes():
    A = np.random.default_rng(4).normal(size=(2, 5, 3))
    f = lambda a, b: a * b[0]
    for axis in (0, 1, 2, -1, -2, -3):
        for out in (0, 1, 2, -1, -2):
            ours = fad.vmap(f, (axis, None), out)(A, X)
            same(ours, np.moveaxis(np.moveaxis(A, axis, 0) * X[0], 0, out))
    with fad.Tape() as tape:
        a = tape.variable(A)
        y = np.sum(fad.vmap(lambda a: a**3, 1, -1)(a))
    same(tape.gradient(y, a), 3 * A**2)


def test_containers():
    tree = {"w": P, "b": (X[:4], 2.0)}
    axes = {"w": 0, "b": (0, None)}

    def f(p, x):
        return {"sum": np.sum(p["w"]) + p["b"][0] * x, "rest": [p["b"][1], p["w"]]}

    ours = fad.vmap(f, (axes, None))(tree, 3.0)
    same(ours["sum"], np.sum(P, axis=1) + 3 * X[:4])
    same(ours["rest"][0], np.full(4, 2.0))
    same(ours["rest"][1], P)
    placed = fad.vmap(f, (axes, None), {"sum": 0, "rest": [None, 1]})(tree, 3.0)
    assert placed["rest"][0] == 2.0
    same(placed["rest"][1], P.T)
    gradients = fad.vmap(fad.grad(lambda p, x: f(p, x)["sum"]), (axes, None))(tree, 3.0)
    same(gradients["w"], np.ones((4, 3)))
    same(gradients["b"][0], np.full(4, 3.0))
    same(gradients["b"][1], np.zeros(4))


def test_keywords_are_mapped():
    same(fad.vmap(lambda x, *, k: x * k)(X, k=2 * X), 2 * X * X)
    same(fad.vmap(lambda x, k: x * k, in_axes=None)(2.0, k=X), 2 * X)


def test_numbers_and_types():
    assert fad.vmap(lambda x: 3)(X).tolist() == [3] * 5
    assert fad.vmap(lambda x: None)(X) is None
    same(fad.vmap(lambda x: x * 2)(np.arange(3)), np.array([0.0, 2.0, 4.0]))
    single = fad.vmap(lambda x, s: x * s + 1)(np.ones((2, 3), np.float32), np.ones(2, np.float32))
    assert single.dtype == np.float32
    same(fad.vmap(lambda x: np.array([x, x * 2]))(X), np.stack([X, 2 * X], 1))
    same(fad.vmap(lambda x: x[::2])(P[::-1, ::-1]), P[::-1, ::-1][:, ::2])


def test_float32_scalars_of_lanes_have_the_type_of_arrays():
    def f(x, s):
        return np.where(s > x, s, x) * s

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    with fad.Tape() as tape:
        expected = np.stack(
            [
                np.asarray(f(tape.variable(row), tape.variable(0.3 * i)).value)
                for i, row in enumerate(x)
            ]
        )
    ours = fad.vmap(f)(x, 0.3 * np.arange(4))
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "f",
    [
        rosenbrock,
        fad.grad(rosenbrock),
        fad.hessian(rosenbrock),
        fad.jacobian(bent),
        lambda x: np.linalg.inv(np.outer(x, x) + 4 * np.eye(3)),
        lambda x: np.sort(x)[::-1],
        lambda x: np.linalg.cholesky(np.outer(x, x) + 4 * np.eye(3)) @ x,
        np.max,
        lambda x: np.stack([x, x[[0, 0, 2]]]),
    ],
)
def test_no_lane_and_one_lane(f):
    for count in (0, 1):
        ours = fad.vmap(f)(P[:count])
        assert ours.shape == (count, *np.shape(f(P[0])))
        total = fad.grad(lambda x: np.sum(fad.vmap(f)(x)))(P[:count])
        assert total.shape == (count, 3)
    same(fad.vmap(f)(P[:1])[0], f(P[0]))


def test_more_lanes_than_one_block():
    rng = np.random.default_rng(6)
    x, A = rng.normal(size=(5000, 3)), rng.normal(size=(3, 3))

    def f(x):
        y = x * 1.0
        head = y[:2]
        y[0] = 4.0  # a view that has to be taken again
        inverse = np.linalg.inv(np.outer(x, x) + 3 * np.eye(3))
        return fad.grad(rosenbrock)(x), inverse, x[0] > 0, np.sum(A), head, np.sort(x)

    gradients, inverses, signs, total, heads, sorts = fad.vmap(f)(x)
    same(gradients[::499], loop(fad.grad(rosenbrock), [x[::499]]), 1e-11)
    same(inverses, np.linalg.inv(x[:, :, None] * x[:, None] + 3 * np.eye(3)))
    same(signs, x[:, 0] > 0)
    same(total, np.full(5000, np.sum(A)))
    same(heads, np.stack([np.full(5000, 4.0), x[:, 1]], axis=1))
    same(sorts, np.sort(x))


def test_memory_does_not_grow_with_the_lanes():
    x = np.linspace(0.0, 1.0, 200_000)

    def f(x):
        for _ in range(50):
            x = np.sin(x) * x
        return x

    _POOL.clear()
    fad.set_memory_limit(20_000_000)  # all lanes of all nodes are 160 MB
    try:
        same(fad.vmap(f)(x), f(x))
    finally:
        fad.set_memory_limit(0)


def test_no_lane_of_matrices():
    assert fad.vmap(np.linalg.inv)(np.zeros((0, 3, 3))).shape == (0, 3, 3)
    assert fad.vmap(np.linalg.solve, (0, None))(np.zeros((0, 3, 3)), np.ones(3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: fad.vmap(np.add)(X, X[:3]),
            ValueError,
            "argument 1 has 3 lanes",
        ),
        (lambda: fad.vmap(np.add)(X, 1.0), ValueError, "argument 1 of shape .* no axis 0"),
        (lambda: fad.vmap(np.sin, 1)(X), ValueError, "argument 0 of shape .* no axis 1"),
        (lambda: fad.vmap(np.add, (0,))(X, X), ValueError, "in_axes: expected 2 entries"),
        (lambda: fad.vmap(np.sin, None)(X), ValueError, "no argument has lanes"),
        (lambda: fad.vmap(np.sin, "x")(X), TypeError, "in_axes"),
        (lambda: fad.vmap(np.sin, (0.5,))(X), TypeError, "in_axes"),
        (lambda: fad.vmap(np.sin, ((0,),))(X), ValueError, "in_axes: argument 0"),
        (
            lambda: fad.vmap(lambda x: x["a"], ({"b": 0},))({"a": X}),
            ValueError,
            "in_axes: argument 0",
        ),
        (lambda: fad.vmap(len, ([0],))({"a": X}), ValueError, "in_axes: argument 0"),
        (lambda: fad.vmap(np.sin, 0, 3)(X), ValueError, "out_axes"),
        (lambda: fad.vmap(np.sin, 0, None)(X), ValueError, "out_axes: None"),
        (lambda: fad.vmap(lambda x: (x, x), 0, (0,))(X), ValueError, "out_axes"),
        (lambda: fad.vmap(lambda x: "text")(X), TypeError, "real numbers"),
        (lambda: fad.vmap(np.sin)(X * 1j), TypeError, "argument 0.*complex"),
        (lambda: fad.vmap(np.sin)(np.array(["a"])), TypeError, "argument 0"),
        (lambda: fad.vmap(lambda x, k: x * k)(X, k=X[:2]), ValueError, "argument 'k' has 2 lanes"),
        (lambda: fad.vmap(lambda x: np.ones(2) + np.stack([x] * 3))(X), ValueError, "broadcast"),
        (lambda: fad.vmap(lambda x: 1 / 0)(X), ZeroDivisionError, "division"),
    ],
)
def test_errors(call, error, text):
    for inside in (False, True):
        with fad.Tape() as tape:
            x = tape.variable(2.0)
            if inside:
                with pytest.raises(error, match=text):
                    call()
                assert x.recorder.lanes is None
            y = fad.vmap(np.multiply, (0, None))(X, x)
            total = np.sum(y)
        assert tape.gradient(total, x) == np.sum(X)
        if not inside:
            with pytest.raises(error, match=text):
                call()
            assert current_recorder() is None


# --- functions with a rule of their own ----------------------------------------------------------


class Cube(fad.Function):
    @staticmethod
    def forward(ctx, x, k, scale):
        ctx.save_for_backward(x, k)
        ctx.scale = scale
        return x**3 * k * scale

    @staticmethod
    def backward(ctx, g):
        x, k = ctx.saved_tensors
        return 3 * x**2 * k * ctx.scale * g, x**3 * ctx.scale * g, None

    @staticmethod
    def vmap(info, in_dims, x, k, scale):
        assert info.batch_size == 5
        assert in_dims[2] is None
        return Cube.apply(x, k + 0 * x, scale), 0


class Bare(fad.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def test_functions_with_and_without_a_rule_for_lanes():
    f = lambda x, k: Cube.apply(x, k, 2.0)
    same(fad.vmap(f)(X, X + 5), 2 * X**3 * (X + 5))
    same(fad.vmap(f, (0, None))(X, 4.0), 8 * X**3)
    same(fad.vmap(fad.grad(f, 1), (0, None))(X, 4.0), 2 * X**3)
    same(fad.vmap(fad.grad(fad.grad(f)), (0, None))(X, 4.0), 48 * X)
    same(fad.grad(lambda k: np.sum(fad.vmap(f, (0, None))(X, k)))(4.0), np.sum(2 * X**3))
    with pytest.raises(NotImplementedError, match=r"Bare .*vmap\(info"):
        fad.vmap(Bare.apply)(X)
    assert current_recorder() is None


def test_a_function_of_two_outputs():
    class Both(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return np.sin(x), np.cos(x)

        @staticmethod
        def backward(ctx, g, h):
            (x,) = ctx.saved_tensors
            return np.cos(x) * g - np.sin(x) * h

        @staticmethod
        def vmap(info, in_dims, x):
            return Both.apply(x), (0, 0)

    same(fad.vmap(lambda x: sum(Both.apply(x)))(X), np.sin(X) + np.cos(X))
    same(fad.vmap(fad.grad(lambda x: sum(Both.apply(x))))(X), np.cos(X) - np.sin(X))


def test_the_jacobian_of_a_function_without_a_rule_is_still_right():
    def outer(x):
        return np.sum(fad.jacobian(lambda x: Bare.apply(x) * x)(x) ** 2)

    same(fad.grad(outer)(P[0]), 36 * P[0] ** 3)

    class Reads(Bare):
        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * g if np.any(np.asarray(g) != 0) else g

    same(fad.grad(lambda x: np.sum(fad.jacobian(Reads.apply)(x)))(P[0]), np.full(3, 2.0))


# --- what is recorded -----------------------------------------------------------------------------


def ops_of(f, *args, **options):
    """The operations that vmap appends after the recording of one lane."""
    with fad.Tape() as tape:
        variables = [tape.variable(a) for a in args]
        fad.vmap(f, **options)(*variables)
        recorder = variables[0].recorder
        return [
            (recorder.op_name(i), recorder.node_shape(i))
            for i in range(len(recorder))
            if LANES in recorder.node_shape(i)
        ]


def test_scalars_become_contiguous_vectors():
    recorded = ops_of(lambda x, y: np.sin(x) * y + 1.0, np.ones(LANES), np.ones(LANES))
    assert recorded == [
        ("VARIABLE", (3,)),
        ("VARIABLE", (3,)),
        ("SIN", (3,)),
        ("MUL", (3,)),
        ("ADD", (3,)),
    ]


def test_what_nobody_wants_is_not_repeated():
    recorded = ops_of(lambda x: (np.exp(np.cos(x)), x * 2.0)[1], np.ones(LANES))
    assert [name for name, _ in recorded] == ["VARIABLE", "MUL"]


def test_one_large_product_instead_of_many():
    A = np.arange(8.0).reshape(4, 2)
    for f, x in (
        (lambda v: A @ v, np.ones((LANES, 2))),
        (lambda v: v @ A, np.ones((LANES, 4))),
        (lambda m: m @ A, np.ones((LANES, 5, 4))),
    ):
        products = [shape for name, shape in ops_of(f, x) if name == "MATMUL"]
        assert all(len(shape) == 2 for shape in products)


# --- Jacobians by lanes ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [8, 20, 30])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_jacobians_of_arrays(rows, kind):
    rng = np.random.default_rng(12)
    W = rng.normal(size=(rows, 20)).astype(kind)
    x, y = rng.normal(size=20).astype(kind), rng.normal(size=(4, 5)).astype(kind)
    f = lambda x, y: np.tanh(W @ (x * np.reshape(y, (20,)))) + np.sum(x)
    ours = fad.jacobian(f, (0, 1))(x, y)
    slope = 1 - np.tanh(W @ (x * y.ravel())) ** 2
    expected = (
        slope[:, None] * W * y.ravel() + 1,
        (slope[:, None] * W * x).reshape(rows, 4, 5),
    )
    for own, theirs in zip(ours, expected, strict=True):
        assert own.dtype == kind
        agree(own, theirs, 1e-13 if kind is np.float64 else 1e-5)
    inside = fad.jacobian(lambda s: fad.jacobian(f, (0, 1))(x * s, y)[0])(kind(1.0))
    assert inside.shape == (rows, 20)


def test_hessians_of_arrays():
    x = np.linspace(-1.0, 1.0, 40)
    f = lambda x: np.sum(np.exp(x) * x[::-1]) + np.max(x) ** 2
    expected = np.diag(np.exp(x) * x[::-1])
    expected[np.arange(40), np.arange(40)[::-1]] += np.exp(x) + np.exp(x[::-1])
    expected[-1, -1] += 2.0
    np.testing.assert_allclose(fad.hessian(f)(x), expected, atol=1e-13)
