"""Arrays that are written place by place: a program joins what was written, copies nothing else."""

import numpy as np
import pytest

import fastad as fad

rng = np.random.default_rng(53)


def recurrence(x):
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = 0.5 * y[i - 1] + x[i] * x[i]
    return np.sum(y * y)


def relaxed(x):
    """Every place is read before and after it is written; the ends never are written."""
    y = x.copy()
    for i in range(1, len(x) - 1):
        y[i] = (y[i - 1] + y[i] + y[i + 1]) / 3.0
    return np.sum(y * y)


def twice(x):
    """A second sweep writes over the first, from the other end."""
    y = x.copy()
    for i in range(len(x)):
        y[i] = np.sin(y[i])
    for i in range(len(x) - 1, -1, -1):
        y[i] = y[i] * y[i - 1]
    return np.sum(y)


def trajectory(x):
    states = np.zeros((len(x), 3)) + 0.0 * x[0]
    state = x[:3]
    for i in range(len(x)):
        state = np.sin(state + x[i])
        states[i] = state
    return np.sum(states[1:] * states[:-1]) + states[len(x) // 2, 1]


def rows_of_rows(x):
    """A row is read from the array that it is written to, and a part of one."""
    a = np.zeros((len(x), 4)) + x[0]
    a[0] = x[:4]
    for i in range(1, len(x)):
        a[i] = a[i - 1] * x[i] + a[i // 2, 2]
    return np.sum(a[:, 1:3])


def image(x):
    u = np.outer(x, x)
    for i in range(1, len(x) - 1):
        for j in range(1, len(x) - 1):
            u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
    return np.sum(u * u)


def snapshots(x):
    """Older states of the array are read later, some of them whole."""
    y, kept = x.copy(), []
    for i in range(len(x)):
        y[i] = y[i] * y[i - 1] + 0.5
        if i % 3 == 0:
            kept.append(y.copy())
    return sum(np.sum(k * y) if i % 2 else np.sum(k[: i + 2]) for i, k in enumerate(kept))


def windows(x):
    """Stencils that read a few places at once, forward and backward."""
    y = x.copy()
    for i in range(2, len(x) - 2):
        y[i] = np.sum(y[i - 2 : i + 3] * np.array([0.1, -0.2, 0.3, -0.2, 0.1]))
        y[i] = y[i] - 0.2 * (y[i + 1 : i - 2 : -1] @ x[:3])
    return np.sum(np.cos(y))


def mixed(x):
    """Places of several sizes, and with steps."""
    y = np.concatenate((x, x))
    y[0] = x[1]
    y[2:4] = x[:2] * y[0]
    y[5] = y[2] * y[3]
    y[4:8:2] = x[1:3]
    y[::-3] = y[::-3] * 2.0
    y[6] = np.sum(y)
    y[7:8] = y[6:7] * x[0]
    return np.sum(y * np.arange(len(y)))


def of_two(x):
    """Two arrays that are written from one another."""
    a, b = x.copy(), np.zeros_like(x)
    for i in range(1, len(x)):
        b[i] = a[i - 1] * 1.5
        a[i] = a[i] + b[i] * b[i - 1]
    b[0] = np.sum(a)
    return np.sum(a * b)


def branching(x):
    """Two arrays from one state of a third."""
    y = x.copy()
    for i in range(len(x) // 2):
        y[i] = x[i] ** 2
    left, right = y.copy(), y.copy()
    for i in range(len(x)):
        left[i] = left[i - 1] * 0.5 + y[i]
        right[i] = x[i] - right[i - 1]
    return np.sum(left * right * y)


def turned(x):
    """Slices of three axes, some of them written and read through transposed views."""
    a = np.zeros((3, 3, 3)) + x[0]
    m = np.outer(x[:3], x[3:6])
    for i in range(3):
        a.transpose(0, 2, 1)[i] = m * x[i] + a[i - 1]
    for i in range(3):
        a[:, i] = a[:, i - 1].T * x[i] + a[i, :, 1]
        a[:, i].T[...] = a[:, i] + m
    for i in range(3):
        a[:, :, i] = a.transpose(2, 1, 0)[i] - m
        a[:, :, i].T[...] = a[:, :, i - 1]
    return np.sum(a * np.arange(27.0).reshape(3, 3, 3))


FUNCTIONS = {
    f.__name__: f
    for f in (
        *(recurrence, relaxed, twice, trajectory, rows_of_rows, image, snapshots),
        *(windows, mixed, of_two, branching, turned),
    )
}
LONG = ("recurrence", "relaxed", "twice", "of_two")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient(name, strict):
    f, x = FUNCTIONS[name], rng.uniform(0.2, 1.0, 13)
    g = fad.compile(fad.value_and_grad(f), strict=strict)
    for _ in range(3):
        value, gradient = g(x)
        np.testing.assert_allclose(value, f(x), rtol=1e-13)
        np.testing.assert_allclose(gradient, fad.grad(f)(x), rtol=1e-11, atol=1e-13)
        x = rng.uniform(0.2, 1.0, 13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_value(name):
    f, x, d, h = FUNCTIONS[name], rng.uniform(0.2, 1.0, 13), rng.uniform(-1.0, 1.0, 13), 1e-6
    slope = (f(x + h * d) - f(x - h * d)) / (2 * h)
    np.testing.assert_allclose(fad.compile(fad.grad(f))(x) @ d, slope, rtol=1e-6, atol=1e-8)
    along = fad.compile(lambda x: fad.jvp(f, (x,), (d,))[1])(x)
    np.testing.assert_allclose(along, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_order(name):
    f, x, d, h = FUNCTIONS[name], rng.uniform(0.2, 1.0, 13), rng.uniform(-1.0, 1.0, 13), 1e-6
    slope = (fad.grad(f)(x + h * d) - fad.grad(f)(x - h * d)) / (2 * h)
    found = fad.compile(lambda x, d: fad.hvp(f, x, d))(x, d)
    np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_memory_grows_with_the_array(name, strict):
    """And not with its square."""
    f = FUNCTIONS[name]
    small, large = (
        fad.compile(fad.value_and_grad(f), strict=strict).program(rng.uniform(0.2, 1.0, n)).nbytes
        for n in (500, 2000)
    )
    assert large < 5 * small


def cumulated(x):
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) + x[i]
    return y


def reached(x):
    """Each turn reads three places, two of which others read too."""
    y = x.copy()
    for i in range(2, len(x) - 1):
        y[i] = y[i] * y[i - 2] + 0.5 * y[i + 1] * y[i - 2]
    return y


@pytest.mark.parametrize("f", [cumulated, reached])
def test_adjoints_that_add_to_places(f):
    """What a recorded backward pass adds, element by element, for one cotangent and for all."""
    x, v, h = rng.uniform(0.2, 1.0, 11), rng.uniform(-1.0, 1.0, 11), 1e-6
    slopes = np.stack([(f(x + h * d) - f(x - h * d)) / (2 * h) for d in np.eye(11)], axis=1)
    pull = fad.compile(lambda x, v: fad.vjp(f, x)[1](v)[0])
    for sign in (1.0, -1.0):
        np.testing.assert_allclose(pull(x, sign * v), sign * v @ slopes, rtol=1e-6, atol=1e-8)
    for strict in (False, True):
        jacobian = fad.compile(fad.jacobian(f), strict=strict)(x)
        np.testing.assert_allclose(jacobian, slopes, rtol=1e-6, atol=1e-8)
    twice_over = fad.compile(lambda x, d: fad.hvp(lambda x: np.sum(f(x) ** 2), x, d))(x, v)
    expected = fad.hvp(lambda x: np.sum(f(x) ** 2), x, v)
    np.testing.assert_allclose(twice_over, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("f", [cumulated, reached])
def test_adjoints_need_no_array_for_each_turn(f):
    def nbytes(g, n, *more):
        x = rng.uniform(0.2, 1.0, n)
        return fad.compile(g).program(x, *(m(x) for m in more)).nbytes

    def pull(x, v):
        return fad.vjp(f, x)[1](v)[0]

    def curve(x, d):
        return fad.hvp(lambda x: np.sum(f(x) ** 2), x, d)

    for g in (pull, curve):
        assert nbytes(g, 800, np.ones_like) < 6 * nbytes(g, 200, np.ones_like)
    assert nbytes(fad.jacobian(f), 120) < 6 * nbytes(fad.jacobian(f), 60)  # 4 times the elements


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0])
def test_special_cotangents(special):
    x, v = rng.uniform(0.2, 1.0, 11), rng.uniform(-1.0, 1.0, 11)
    v[6] = special
    with np.errstate(all="ignore"):
        expected = fad.vjp(reached, x)[1](v)[0]
        found = fad.compile(lambda x, v: fad.vjp(reached, x)[1](v)[0])(x, v)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-12, atol=1e-14)


def test_rows_are_joined_once():
    x = rng.uniform(0.2, 1.0, 300)
    assert fad.compile(fad.value_and_grad(trajectory)).program(x).nbytes < 60 * 3 * x.nbytes


@pytest.mark.parametrize("name", ["recurrence", "relaxed", "trajectory", "mixed", "windows"])
def test_float32(name):
    f, x = FUNCTIONS[name], rng.uniform(0.2, 1.0, 13)
    single = fad.compile(fad.value_and_grad(f))(x.astype(np.float32))
    np.testing.assert_allclose(single[1], fad.grad(f)(x), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0])
@pytest.mark.parametrize("name", ["relaxed", "twice", "of_two"])
def test_special_values(name, special):
    f, x = FUNCTIONS[name], rng.uniform(0.2, 1.0, 13)
    x[4] = special
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(fad.compile(f, strict=True)(x), f(x))
        expected, found = fad.grad(f)(x), fad.compile(fad.grad(f))(x)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-11, atol=1e-13)


def test_a_branch_reads_what_was_written():
    def f(x):
        y = x.copy()
        for i in range(1, len(x)):
            y[i] = y[i] - y[i - 1] if y[i - 1] > 0.0 else y[i] * 2.0
            if i % 5 == 0 and np.sum(y) > 1.0:
                y[i] = 0.0
        return np.sum(y * y)

    g = fad.compile(fad.value_and_grad(f))
    for _ in range(8):
        x = rng.uniform(-1.0, 1.0, 17)
        value, gradient = g(x)
        np.testing.assert_allclose(value, f(x), rtol=1e-13)
        np.testing.assert_allclose(gradient, fad.grad(f)(x), rtol=1e-11, atol=1e-13)


def test_an_array_that_is_written_is_an_output():
    def f(x):
        y = x.copy()
        for i in range(1, len(x)):
            y[i] = y[i] * y[i - 1]
        return y, y[2:4], np.sum(y)

    g, x = fad.compile(f), rng.uniform(0.2, 1.0, 9)
    for found, expected in zip(g(x), f(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    jacobian = fad.compile(fad.jacobian(lambda x: f(x)[0]))(x)
    np.testing.assert_allclose(jacobian, np.tril(np.divide.outer(f(x)[0], x)), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "lanes", "n"),
    [
        ("recurrence", 100, 50),
        ("relaxed", 100, 50),  # constants that nobody reads have no value there
        *((name, 7, 11) for name in ("trajectory", "rows_of_rows", "image", "mixed")),
    ],
)
def test_lanes(name, lanes, n):
    f, xs = FUNCTIONS[name], rng.uniform(0.2, 1.0, (lanes, n))
    np.testing.assert_allclose(fad.compile(fad.vmap(f))(xs), [f(x) for x in xs], rtol=1e-12)
    found = fad.compile(fad.vmap(fad.grad(f)))(xs[:9])
    np.testing.assert_allclose(found, [fad.grad(f)(x) for x in xs[:9]], rtol=1e-10, atol=1e-12)


def test_lanes_are_joined_once():
    """Each turn writes a column of all lanes."""
    programs = [
        fad.compile(fad.vmap(recurrence), strict=strict).program(rng.uniform(0.2, 1.0, (100, n)))
        for strict in (False, True)
        for n in (100, 400)
    ]
    for small, large in (programs[:2], programs[2:]):
        assert large.nbytes < 6 * small.nbytes


def written_at_random(seed):
    """A function that writes and reads an array of two axes in ways drawn from a seed."""

    def places(draw, shape):
        kind = draw.integers(5)
        i, j = (int(draw.integers(n)) for n in shape)
        if kind == 0:
            return i, j
        if kind == 1:
            return (i,)
        if kind == 2:
            return slice(None), j
        if kind == 3:
            return slice(min(i, 2), i + 2), slice(None, None, -1)
        return i, slice(j // 2, j + 1)

    def f(x):
        draw = np.random.default_rng(seed)
        a = np.outer(x, x[:4]) if seed % 2 else np.zeros((len(x), 4)) + x[0]
        views, total = [a], 0.0
        few = [places(draw, a.shape) for _ in range(3)]
        for k in range(25):
            at = few[int(draw.integers(3))] if draw.integers(2) else places(draw, a.shape)
            other = places(draw, a.shape)
            old = views[int(draw.integers(len(views)))]
            factor = (1.0 + np.mean(old[other])) * x[k % len(x)]
            a[at] = np.sin(a[at]) * factor if k % 4 else 0.25 * k
            if draw.integers(6) == 0:
                views.append(a.copy() if draw.integers(2) else a[::-1])
            if draw.integers(8) == 0:
                total = total + np.sum(a[other] * 0.5)
        return total + np.sum(a * a) + sum(np.sum(v) for v in views)

    return f


@pytest.mark.parametrize("seed", range(60))
def test_random_writes(seed):
    f, x, d, h = written_at_random(seed), rng.uniform(0.2, 1.0, 6), rng.uniform(-1.0, 1.0, 6), 1e-6
    np.testing.assert_array_equal(fad.compile(f, strict=True)(x), f(x))
    value, gradient = fad.compile(fad.value_and_grad(f))(x)
    np.testing.assert_allclose(value, f(x), rtol=1e-12)
    np.testing.assert_allclose(gradient, fad.grad(f)(x), rtol=1e-10, atol=1e-12)
    slope = (f(x + h * d) - f(x - h * d)) / (2 * h)
    np.testing.assert_allclose(gradient @ d, slope, rtol=1e-4, atol=1e-6)


def test_a_partial_sum_is_no_value_of_a_repeated_body():
    """The terms of a long sum lie as far apart as the body that adds them is long."""

    def f(x):
        n, s = len(x), 0.0 * x[0]
        a, b, c = x.copy(), np.zeros_like(x), np.ones_like(x) * x[0]
        p, q, r = np.outer(x, x[:1]), np.zeros((n, 1)) + 0.0 * x[0], np.zeros((1, n)) + 0.0 * x[0]
        for i in range(n - 5, 2, -1):
            q[i] = q[i] * 0.5 + p[i + 1] * 0.354
            q[i, 0] = np.tanh(q[i + 2, 0]) * 0.206 + b[i] * 0.1
        seen = a.copy(), r.copy()
        b[:] = np.tanh(a + c)
        for i in range(n - 5, 2, -1):
            a[i] = 0.358 * (c[i + 1] + a[i - 3]) + 0.1 * s
            b[i : i + 2] = 0.666 * a[i + 2 : i + 4]
            s = 0.9 * s + 0.1 * c[i - 1]
            q[i] = q[i] * 0.5 + p[i + 2] * 0.671
            if s > 0.2:
                s = s * 0.3
        c[np.array([1, 0, n - 1])] += x[:3]
        for i in range(5, n - 4, 3):
            a[i] = 0.1875 * (b[i - 1] + a[i + 2]) + 0.1 * s
            if s > 0.2:
                s = s * 0.3
        b[:] = np.tanh(a + c)
        p[::2] = p[::2] * 0.5
        q[:, ::-1] += 0.1 * p
        for i in range(n - 5, 3, -1):
            q[i] = 0.71 * np.tanh(q[i - 2]) + 0.1 * x[i]
            q[i] = q[i] * 0.5 + p[i - 2] * 0.568
        parts = [np.tanh(0.3 * v).reshape(-1) for v in (a, b, c, p, q, r)]
        parts += [np.tanh(0.2 * v).reshape(-1) for v in seen]
        out = np.concatenate([*parts, np.zeros(1) * s + s])
        return np.sum(out * np.cos(np.arange(out.size)))

    for n in (597, 600, 603):
        x = rng.uniform(0.2, 1.0, n)
        expected = fad.grad(f)(x)
        np.testing.assert_allclose(fad.compile(fad.grad(f))(x), expected, rtol=1e-9, atol=1e-11)


def orthogonal(x):
    """Columns are read as soon as they are written."""
    n = int(len(x) ** 0.5)
    q = np.reshape(x, (n, n)) * 1.0
    for j in range(n):
        for k in range(j):
            q[:, j] -= (q[:, k] @ q[:, j]) * q[:, k]
        q[:, j] = q[:, j] / np.sqrt(q[:, j] @ q[:, j])
    return np.sum(np.sin(q))


def test_writes_stay_where_joins_would_be_many():
    x = rng.uniform(0.2, 1.0, 30 * 30)

    def pull(x, v):
        return v * fad.vjp(orthogonal, x)[1](1.0)[0]

    g = fad.compile(pull)
    np.testing.assert_allclose(g(x, 2.0), 2.0 * fad.grad(orthogonal)(x), rtol=1e-8, atol=1e-10)
    assert g.program(x, 2.0).nbytes < 80 * x.nbytes


def test_old_states_read_last_first():
    def f(x):
        y, past = x.copy(), []
        for i in range(200):
            y[i % len(x)] = np.sin(y[i % 5]) * 0.9
            past.append(y.copy())
        return sum(np.sum(p * p) for p in past[::-1])

    x = rng.uniform(0.2, 1.0, 12)
    value, gradient = fad.compile(fad.value_and_grad(f))(x)
    np.testing.assert_allclose(value, f(x), rtol=1e-12)
    np.testing.assert_allclose(gradient, fad.grad(f)(x), rtol=1e-11, atol=1e-13)
