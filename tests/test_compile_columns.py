"""Arrays of many rows of few elements, compiled: taken apart into columns where that pays.

The values are compared with NumPy's, derivatives with finite differences of the values and with
those of the function as it is.
"""

import numpy as np
import pytest

import fastad as fad

LANES = 70
FEWEST = 64  # rows, csrc/rows.h
MOST = 32  # columns

WHICH = np.array([2, 0, 1, 1])
ROWS = np.arange(LANES) % 5
TURN = np.array([[0.0, -1.0, 0.5], [1.0, 0.0, 0.0], [0.3, 0.0, 2.0]])


def written(x):
    y = x * 2.0
    y[:, 1] = x[:, 0] * x[:, 2]
    y[:, ::2] += 1.0
    return np.sum(y * y, axis=1)


def put(x):
    y = x + 0.0
    y[:, [2, 0]] = x[:, :2] ** 2
    return y * np.sum(x, axis=1)[:, None]


def in_the_middle(x):
    length = np.sqrt(np.sum(x * x, axis=1, keepdims=True))
    biggest = np.max(x / length, axis=1, keepdims=True)  # of whole rows
    return (x - biggest) * length


def halves(x):
    both = np.concatenate([x[:, :1] * x[:, 1:], np.sin(x)], axis=1)
    return np.sum(both.reshape(len(x), 5)[:, ::-1] * np.arange(5.0), axis=1)


# name -> function of an array (LANES, 3)
FUNCTIONS = {
    "norm": lambda x: x / np.sqrt(np.sum(x**2, axis=1, keepdims=True)),
    "cross": lambda x: np.cross(x, x[:, ::-1] + 1.0) * np.array([1.0, 2.0, 3.0]),
    "elements": lambda x: x[:, 0] * x[:, 1] / x[:, 2] + x[:, -1],
    "order": lambda x: np.sum(x[:, WHICH] * x[:, ::-1][:, [0, 1, 2, 0]], axis=1),
    "outer": lambda x: np.sum(x[:, :, None] * np.sin(x)[:, None, :], axis=(1, 2)),
    "matrices": lambda x: (x[:, :, None] * x[:, None, :]) @ (TURN + x[:, None, :]),
    "turned": lambda x: np.sum((x @ TURN) * x, axis=1),
    "one for all": lambda x: np.sum(np.square(x - x[0]) * x[0, 1], axis=1),
    "over rows": lambda x: np.sum(x / np.sum(x, axis=1, keepdims=True), axis=0),
    "total": lambda x: np.sum(x * np.sum(x, axis=1)[:, None]),
    "chosen": lambda x: np.where(x > x[:, 1:2], x * x[:, :1], np.sum(x, axis=1)[:, None]),
    "chosen for all": lambda x: np.sum(np.where([True, False, True], x, 2.0 * x**3), axis=1),
    "gathered": lambda x: np.sum(x[ROWS] * x * x[:, [1, 1, 0]], axis=1),
    "written": written,
    "put": put,
    "in the middle": in_the_middle,
    "halves": halves,
    "einsum": lambda x: np.einsum("li,ij,lj->l", x, TURN, np.cos(x)),
    "stacked": lambda x: np.stack([x[:, 0] * x[:, 1], x[:, 2] ** 2], axis=1) + x[:, :2],
    "repeated": lambda x: np.broadcast_to(x[:, None, :], (len(x), 2, 3)) * x[:, :2, None],
    "ravelled": lambda x: np.ravel(x * np.sum(x, axis=1, keepdims=True)),
    "summed twice": lambda x: np.cumsum(x * x[:, :1], axis=1)[:, 2] * np.sum(x, axis=1),
    "lanes": lambda x: fad.vmap(lambda r: np.cross(r, TURN[0]) * np.dot(r, TURN @ r))(x),
    "nested lanes": lambda x: fad.vmap(
        lambda r, rows: np.sum(fad.vmap(np.dot, (None, 0))(r, rows) * r), (0, None)
    )(x, TURN),
}


@pytest.fixture
def x(rng):
    return rng.uniform(0.5, 2.0, size=(LANES, 3))


def compiled_twice(f, *args):
    """Of a compiled function: recorded elsewhere, then replayed."""
    compiled = fad.compile(f)
    compiled(*(arg * 0.9 for arg in args))
    result = compiled(*args)
    assert compiled.cache_info().recordings == 1
    return result


def columns_of(f, *args):
    """How many columns the program reads or writes: none where nothing was taken apart."""
    text = fad.compile(f).program(*args).text()
    return sum(f"dims [{len(args[0])}] strides" in line for line in text.splitlines())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, x):
    f = FUNCTIONS[name]
    found, expected = compiled_twice(f, x), f(x)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_is_taken_apart(name, x):
    assert columns_of(FUNCTIONS[name], x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name, x, rng):
    f = FUNCTIONS[name]
    weights = rng.normal(size=np.shape(f(x)))
    loss = lambda x: np.sum(f(x) * weights)
    direction = rng.normal(size=x.shape)
    grad = fad.grad(fad.compile(loss))
    grad(x * 0.9)
    found = grad(x)
    np.testing.assert_allclose(found, fad.grad(loss)(x), rtol=1e-11, atol=1e-12)
    h = 1e-6
    slope = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.sum(found * direction), slope, rtol=1e-6)
    curve = fad.hvp(fad.compile(loss), x, direction)
    slopes = (grad(x + h * direction) - grad(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(curve, slopes, rtol=1e-4, atol=1e-6 * np.abs(slopes).max() + 1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name, x):
    f = FUNCTIONS[name]
    x = x.astype(np.float32)
    found, expected = compiled_twice(f, x), f(x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strict_keeps_the_bits(name, x):
    f = FUNCTIONS[name]
    strict = fad.compile(f, strict=True)
    strict(x * 0.9)
    recorded = fad.vjp(f, x)[0]
    np.testing.assert_array_equal(strict(x), recorded)


# None that overflows: a product that is fused with a sum does not.
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.0, -1.0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, rng):
    f = FUNCTIONS[name]
    x = rng.choice(SPECIAL, size=(LANES, 3))
    with np.errstate(all="ignore"):
        expected = f(x)
        np.testing.assert_allclose(compiled_twice(f, x), expected, rtol=1e-13)


def test_zeros_stay_strong():
    """What a choice discards has no part in the gradient, however infinite."""
    x = np.zeros((LANES, 3))
    x[::2] = 4.0

    def f(x):
        square = np.sum(x * x, axis=1, keepdims=True)
        return np.sum(np.where(square > 0, x / np.sqrt(square), x[:, ::-1] * 2.0))

    assert columns_of(f, x)
    found = fad.grad(fad.compile(f))(x)
    np.testing.assert_allclose(found, fad.grad(f)(x), atol=1e-15)
    np.testing.assert_array_equal(found[1::2], 2.0)


STEPS = [
    lambda r, v, k: v * r[:, k % v.shape[1] : k % v.shape[1] + 1],
    lambda r, v, k: np.concatenate([v[:, ::-1], r[:, k % 3 :]], axis=1)[:, :4],
    lambda r, v, k: v - np.sum(v, axis=1, keepdims=True) * 0.3,
    lambda r, v, k: np.cross(r, np.concatenate([v, r], axis=1)[:, :3]),
    lambda r, v, k: np.sin(v[:, [k % v.shape[1], 0, -1]]),
    lambda r, v, k: v * np.arange(1.0, 1.0 + v.shape[1]),
    lambda r, v, k: np.where(v > v[:, :1], v, np.tanh(v) * r[:, k % 3 :][:, :1]),
    lambda r, v, k: (v[:, :, None] * r[:, None, :]).reshape(len(v), -1)[:, :6],
    lambda r, v, k: (v[:, :, None] @ r[:, None, :])[:, k % v.shape[1], :],
    lambda r, v, k: v + np.sum(v * 0.01, axis=0),
    lambda r, v, k: v - np.max(v, axis=1, keepdims=True),
    lambda r, v, k: v[ROWS] * 0.5 + v,
    lambda r, v, k: v[::-1] + v,
    lambda r, v, k: changed(v, r, k),
]


def changed(v, r, k):
    v = v + 0.0
    v[:, k % v.shape[1]] = r[:, k % 3] * v[:, 0]
    v[:, :1] *= 0.5
    return v


@pytest.mark.parametrize("seed", range(40))
def test_random_rows(seed):
    rng = np.random.default_rng(seed)
    steps = [(STEPS[k], int(rng.integers(9))) for k in rng.integers(len(STEPS), size=6)]

    def f(r):
        v = r * 1.0
        for step, k in steps:
            v = step(r, np.tanh(v), k)
        return v

    r = rng.normal(size=(LANES, 3))
    np.testing.assert_allclose(compiled_twice(f, r), f(r), rtol=1e-10, atol=1e-12)
    weights, direction = rng.normal(size=f(r).shape), rng.normal(size=r.shape)
    loss = lambda r: np.sum(f(r) * weights)
    found = fad.grad(fad.compile(loss))(r)
    np.testing.assert_allclose(found, fad.grad(loss)(r), rtol=1e-9, atol=1e-11)
    slope = fad.jvp(fad.compile(f), (r,), (direction,))[1]
    np.testing.assert_allclose(np.sum(slope * weights), np.sum(found * direction), rtol=1e-9)
    lanes = fad.jacobian(fad.compile(loss))(r)
    np.testing.assert_allclose(lanes, found, rtol=1e-9, atol=1e-11)


# --- jacobians of lanes --------------------------------------------------------------------------


def turned(axis, point, scale):
    """A point turned about an axis by its length (Rodrigues), divided by its depth."""
    angle = np.sqrt(np.sum(axis**2))
    unit = axis / angle
    cross = np.cross(unit, point)
    all_ = point * np.cos(angle) + cross * np.sin(angle)
    all_ = all_ + unit * (np.sum(unit * point) * (1.0 - np.cos(angle)))
    return scale * all_[:2] / all_[2]


@pytest.mark.parametrize("in_axes", [(0, 0, 0), (None, 0, 0), (0, None, 0), (0, 0, None)])
def test_jacobians_in_lanes(in_axes, rng):
    lanes = rng.normal(size=(LANES, 3)) + 2.0, rng.normal(size=(LANES, 3)) + 5.0, np.ones(LANES)
    args = [each if axis == 0 else each[0] for each, axis in zip(lanes, in_axes, strict=True)]
    jacobian = fad.jacobian(turned, argnums=(0, 1, 2))
    compiled = fad.compile(fad.vmap(jacobian, in_axes))
    compiled(*(each * 1.1 for each in args))
    found = compiled(*args)
    for lane in range(0, LANES, 23):
        own = [each[lane] if axis == 0 else each for each, axis in zip(args, in_axes, strict=True)]
        for block, expected in zip(found, jacobian(*own), strict=True):
            np.testing.assert_allclose(block[lane], expected, rtol=1e-11, atol=1e-13)
    assert compiled.program(*args).steps <= 8


def test_one_region(rng):
    """Cross products, sums and views of rows of three: one pass over the lanes."""
    args = rng.normal(size=(LANES, 3)), rng.normal(size=(LANES, 3)) + 5.0, np.ones(LANES)
    compiled = fad.compile(fad.vmap(fad.jacobian(turned, argnums=(0, 1, 2))))
    assert compiled.program(*args).steps == 1


def test_gradient_by_what_lanes_share(rng):
    axis, points = rng.normal(size=3) + 2.0, rng.normal(size=(LANES, 3)) + 5.0
    many = fad.vmap(turned, (None, 0, None))
    loss = lambda axis, points: np.sum(many(axis, points, 1.5) ** 2)
    found = fad.grad(fad.compile(loss), argnums=(0, 1))(axis, points)
    for own, expected in zip(found, fad.grad(loss, argnums=(0, 1))(axis, points), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-10)


def test_rows_of_a_table(rng):
    """Rows that a constant list names are read column by column; their gradient goes back."""
    which, table = rng.integers(0, 9, size=LANES), rng.normal(size=(9, 3))
    f = lambda table, x: np.sum(np.cross(table[which], x) * np.sum(x, axis=1)[:, None])
    x = rng.normal(size=(LANES, 3))
    assert "gather" in fad.compile(f).program(table, x).text()
    np.testing.assert_allclose(compiled_twice(f, table, x), f(table, x), rtol=1e-11)
    found = fad.grad(fad.compile(f), argnums=(0, 1))(table, x)
    for own, expected in zip(found, fad.grad(f, argnums=(0, 1))(table, x), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-10, atol=1e-12)


# --- where it does not pay -----------------------------------------------------------------------


def test_arrays_that_stay():
    norm, each = FUNCTIONS["norm"], lambda x: np.tanh(x) * x + 1.0
    assert columns_of(norm, np.ones((FEWEST, MOST)))
    assert not columns_of(norm, np.ones((FEWEST - 1, 3)))
    assert not columns_of(norm, np.ones((FEWEST, MOST + 1)))
    assert not columns_of(each, np.ones((FEWEST, 3)))
    assert not columns_of(lambda x: np.sum(x**2), np.ones((FEWEST, 3)))
    assert not columns_of(lambda x: x[ROWS] * x, np.ones((LANES, 3)))


@pytest.mark.parametrize("shape", [(0, 3), (LANES, 0), (LANES, 1), (LANES, 1, 1), (1, 3)])
def test_shapes_at_the_edge(shape, rng):
    x = rng.normal(size=shape)
    f = lambda x: x * np.sum(x * x, axis=-1, keepdims=True) + np.sum(x, axis=0)
    np.testing.assert_allclose(compiled_twice(f, x), f(x), rtol=1e-13)
    loss = lambda x: np.sum(f(x) ** 2)
    np.testing.assert_allclose(fad.grad(fad.compile(loss))(x), fad.grad(loss)(x), rtol=1e-11)


def test_arguments_with_other_strides(x):
    f, g = FUNCTIONS["cross"], fad.compile(FUNCTIONS["cross"])
    for y in (np.asfortranarray(x), x[::-1], np.repeat(x, 2, axis=0)[::2], x[:, ::-1]):
        np.testing.assert_allclose(g(y), f(y), rtol=1e-13)


def test_a_branch_on_columns(x):
    f = lambda x: x[:, 0] * 2.0 if np.sum(np.sum(x**2, axis=1) * x[:, 1]) > 0 else x[:, 1] * x[:, 2]
    g = fad.compile(f)
    for y in (x, -x, x * 2.0, -x * 2.0):
        np.testing.assert_allclose(g(y), f(y), rtol=1e-13)
    assert g.cache_info().recordings == 2


def test_many_steps_of_rows_are_not_taken_apart_at_any_price(x):
    """A loop over arrays that is recorded in full: what would be too many columns stays arrays."""

    def f(x, steps):
        for _ in range(steps):
            x = np.cross(x, TURN[0]) + 0.1 * x
        return x

    few, many = (fad.compile(lambda x, steps=steps: f(x, steps)) for steps in (3, 3000))
    assert few.program(x).steps == 1
    assert many.program(x).steps > 3000


# --- outputs that are joined end to end ----------------------------------------------------------


def parts(x):
    rows, row = x * np.sum(x, axis=1)[:, None], np.sum(x, axis=0)
    return [np.ravel(rows), row, x[:, 0] * x[:, 1], np.zeros(3), row]


def test_joined_outputs(x):
    f = lambda x: np.concatenate(parts(x))
    np.testing.assert_allclose(compiled_twice(f, x), f(x), rtol=1e-13)
    both = lambda x: (np.concatenate(parts(x)), parts(x)[0] * 2.0, np.concatenate(parts(x)[1:]))
    for own, expected in zip(compiled_twice(both, x), both(x), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-13)
    weights = np.arange(float(f(x).size))
    loss = lambda x: np.sum(f(x) * weights)
    np.testing.assert_allclose(fad.grad(fad.compile(loss))(x), fad.grad(loss)(x), rtol=1e-12)


def test_joined_outputs_are_made_in_place(x):
    """Nested too: nothing is copied."""

    def f(x):
        inner = np.concatenate([np.exp(x[:, 0]), np.sqrt(x[:, 1])])
        return np.concatenate([np.tanh(x[:, 2]), inner])

    program = fad.compile(f).program(x)
    np.testing.assert_allclose(program(x)[0], f(x), rtol=1e-13)
    assert "store" not in program.text()
    assert "out0" in program.text()
    again = fad.Program.from_bytes(program.to_bytes())
    np.testing.assert_array_equal(again(x)[0], program(x)[0])


def test_joined_outputs_with_a_part_that_is_an_output_too(x):
    def f(x):
        first = np.sin(x[:, 0])
        return first, np.concatenate([first, first * 2.0, first]), first * 3.0

    for own, expected in zip(compiled_twice(f, x), f(x), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-13)


def test_joined_outputs_that_decide(x):
    """A part that a guard reads is made before it is known whether the path holds."""

    def f(x):
        first = np.sin(x[:, 0])
        sign = 1.0 if first[0] > 0 else -1.0
        return np.concatenate([first, sign * x[:, 1]])

    g = fad.compile(f)
    for y in (x, -x, x + 0.1):
        np.testing.assert_allclose(g(y), f(y), rtol=1e-13)


# --- extrema of rows -----------------------------------------------------------------------------


def nearest(x, c):
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(c**2, axis=1) - 2.0 * (x @ c.T)
    return np.sum(np.amin(squares, axis=1))


EXTREMA = {
    "nearest": nearest,
    "span": lambda x, c: np.sum((np.max(x, axis=1) - np.min(x * x, axis=1)) ** 2),
    "shares": lambda x, c: np.sum(np.sin(x / np.max(x + 3.0, axis=1, keepdims=True))),
    "of parts": lambda x, c: np.sum(np.max(np.reshape(x, (-1, 2, 3)), axis=2) * x[:, :2]),
    "of all of a row": lambda x, c: np.sum(
        np.cos(np.max(np.reshape(x, (-1, 2, 3)), axis=(1, 2), keepdims=True))
    ),
}


@pytest.mark.parametrize("name", EXTREMA)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [FEWEST, 131, 1000])
def test_extrema_of_rows(name, dtype, rows, rng):
    f = EXTREMA[name]
    gradient = fad.grad(f, argnums=(0, 1))
    whole, outside = fad.compile(gradient), fad.grad(fad.compile(f), argnums=(0, 1))
    tolerance = 1e-11 if dtype is np.float64 else 3e-3
    for ties in (False, True):
        x, c = rng.normal(size=(rows, 6)).astype(dtype), rng.normal(size=(7, 6)).astype(dtype)
        if ties:  # of two, three and six
            x, c = np.round(x), np.round(c)
            x[7], x[9, :3] = 1.0, 2.0
            c[[2, 5]] = c[0]
        expected = gradient(x, c)
        for found in (whole(x, c), outside(x, c)):
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.dtype == dtype
                np.testing.assert_allclose(ours, theirs, tolerance, tolerance)
        assert np.isclose(fad.compile(f)(x, c), f(x, c), tolerance)


def test_extrema_of_rows_against_differences(rng):
    x, c = rng.normal(size=(90, 6)), rng.normal(size=(7, 6))
    for f in EXTREMA.values():
        found = fad.compile(fad.grad(f))(x, c)
        for at in ((0, 0), (17, 3), (89, 5)):
            h = np.zeros_like(x)
            h[at] = 1e-6
            np.testing.assert_allclose(
                found[at], (f(x + h, c) - f(x - h, c)) / 2e-6, rtol=1e-5, atol=1e-7
            )


def test_special_extrema_of_rows():
    x = np.ones((LANES, 3))
    x[1], x[2], x[3] = [np.nan, 1, 2], [1, np.nan, np.nan], [np.inf, -np.inf, 0]
    x[4], x[5], x[6] = [0.0, -0.0, 0.0], [-np.inf] * 3, [np.inf] * 3
    for extremum in (np.max, np.min):
        f = lambda x: np.sin(extremum(2.0 * x, axis=1, keepdims=True)) * x  # noqa: B023
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(fad.compile(f)(x), f(x), 1e-15)
            total = fad.grad(lambda x: np.sum(f(x)[7:]) + np.sum(f(x)[:1]))  # noqa: B023
            np.testing.assert_allclose(fad.compile(total)(x), total(x), 1e-14)
            each = lambda x: np.sum(extremum(2.0 * x, axis=1))  # noqa: B023
            np.testing.assert_allclose(fad.compile(fad.grad(each))(x), fad.grad(each)(x), 1e-14)


def test_extrema_of_a_few_columns_are_chains():
    """Only where no derivatives follow: ties of three share evenly."""
    x = np.ones((LANES, 3))
    f = lambda x: np.sum(np.max(x * x, axis=1, keepdims=True) * x)
    assert " = max " not in fad.compile(f).program(x).text()
    assert " = max " in fad.compile(f, strict=True).program(x).text()
    np.testing.assert_allclose(fad.grad(fad.compile(f))(x), fad.grad(f)(x), 1e-14)
    assert " = max " not in fad.compile(fad.grad(f)).program(x).text()
