"""Random programs of scalar and array operations: every way to a derivative gives the same numbers.

The oracle is the value alone: central differences of it. The numeric reverse sweep, the reverse
sweep recorded as nodes and the forward sweep must agree with it, and far more closely with each
other.
"""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastad as fad

N = 4
UNARY = [
    np.sin,
    np.tanh,
    np.square,
    np.negative,
    lambda v: np.exp(0.3 * np.tanh(v)),
    lambda v: np.sqrt(1.5 + v * v),
    lambda v: np.log(2.0 + np.cos(v)),
    lambda v: 1.0 / (2.0 + v * v),
    lambda v: v * 0.5,
    lambda v: 2.0 - v,
    lambda v: (1.2 + np.cos(v)) ** 1.7,
    lambda v: fad.stop_gradient(v) * 0.0 + v if isinstance(v, fad.Array) else v * 1.0,
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - 2.0 * b,
    lambda a, b: np.tanh(a) * b,
    lambda a, b: a / (2.0 + b * b),
    lambda a, b: np.hypot(a, 1.0 + b * b),
    lambda a, b: np.arctan2(a, 1.5 + np.cos(b)),
    lambda a, b: np.logaddexp(a, b),
]
VECTOR = [
    lambda v: v[::-1],
    lambda v: v[[2, 0, 0, 1]],
    lambda v: np.concatenate([v[2:], v[:2]]),
    lambda v: np.cumsum(v),
    lambda v: v.reshape(2, 2).T.reshape(N),
    lambda v: np.stack([v[3], v[0] * v[1], v[2], v[1]]),
    lambda v: (v.reshape(2, 2) @ np.array([[0.5, -1.0], [0.25, 2.0]])).reshape(N),
    lambda v: np.tanh(v[:, None] * v).sum(axis=0),
    lambda v: np.where(v.reshape(2, 2)[0, 0] != 9.0, v, 0.0 * v),
    lambda v: v - np.mean(v),
    lambda v: written(v),
]
REDUCE = [np.sum, np.mean, lambda v: v[1], lambda v: v @ v * 0.1, lambda v: np.sum(v[1:] * v[:-1])]


def written(v):
    y = v * 1.0
    y[1:] += y[:-1]
    y[[0]] = v[3]
    return y


step = st.one_of(
    st.tuples(st.just("unary"), st.integers(0, len(UNARY) - 1), st.integers(0, 99)),
    st.tuples(st.just("binary"), st.integers(0, len(BINARY) - 1), st.integers(0, 9999)),
    st.tuples(st.just("vector"), st.integers(0, len(VECTOR) - 1), st.integers(0, 99)),
    st.tuples(st.just("reduce"), st.integers(0, len(REDUCE) - 1), st.integers(0, 99)),
)
programs = st.lists(step, min_size=1, max_size=14)
points = st.lists(st.integers(-20, 20), min_size=N, max_size=N).map(lambda v: np.array(v) / 13.0)


def run(program, x):
    """A stack machine: each step takes earlier values, scalars and vectors, and adds one."""
    values, vectors = [x, x[0]], [x]
    for kind, which, pick in program:
        if kind == "unary":
            value = UNARY[which](values[pick % len(values)])
        elif kind == "binary":
            value = BINARY[which](
                values[pick % 100 % len(values)], values[pick // 100 % len(values)]
            )
        else:
            source = vectors[pick % len(vectors)]
            value = (VECTOR if kind == "vector" else REDUCE)[which](source)
        values.append(value)
        if value.shape == (N,):
            vectors.append(value)
    # Bounded, so that differences are meaningful; every value counts.
    total = 0.0
    for i, value in enumerate(values):
        total = total + np.sum(np.sin(value * 0.7)) / (i + 1.0)
    return total


def difference(f, x):
    """Central differences, extrapolated, and how far those of two steps disagree."""

    def at(h):
        g = np.empty(N)
        for i in range(N):
            e = np.zeros(N)
            e[i] = h
            g[i] = (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h)
        return g

    coarse, fine = at(4e-4), at(2e-4)
    return fine, np.max(np.abs(coarse - fine))


def close(a, b, tolerance):
    scale = 1 + np.max(np.abs(np.asarray(b)))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs, points)
def test_every_mode_gives_the_differences_of_the_value(program, x):
    f = lambda x: run(program, x)
    value, swept = fad.value_and_grad(f)(x)
    np.testing.assert_allclose(value, f(x), rtol=1e-12)  # compiled, products are fused with sums
    with fad.Tape() as tape:
        v = tape.variable(x)
        emitted = fad.grad(f)(v)
        emitted = emitted.value if isinstance(emitted, fad.Array) else emitted
        tape.verify()
    pushed = np.array([fad.jvp(f, x, e)[1] for e in np.eye(N)])
    _, push = fad.linearize(f, x)
    transposed = np.array([push(e) for e in np.eye(N)])
    close(emitted, swept, 1e-13)
    close(pushed, swept, 1e-12)
    close(transposed, swept, 1e-12)
    numeric, doubt = difference(f, x)
    close(swept, numeric, 1e-8 + 10 * doubt)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs, points)
def test_second_derivatives(program, x):
    f = lambda x: run(program, x)
    H = fad.hessian(f)(x)
    close(H, H.T, 1e-11)
    t = np.array([1.0, -0.5, 2.0, 0.25])
    close(fad.hvp(f, x, t), H @ t, 1e-11)
    inside = fad.grad(lambda x: fad.jvp(f, x, t)[1])(x)
    close(inside, H @ t, 1e-11)
    numeric, doubt = difference(lambda x: np.sum(fad.grad(f)(x) * t), x)
    close(H @ t, numeric, 1e-8 + 10 * doubt)


def test_the_comparison_can_fail():
    """A planted factor in one rule is seen."""

    class Wrong(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return np.sin(x)

        @staticmethod
        def backward(ctx, g):
            return g * 0.999

    f = lambda x: np.sum(Wrong.apply(x) if isinstance(x, fad.Array) else np.sin(x))
    x = np.zeros(N)
    numeric, doubt = difference(f, x)
    try:
        close(fad.grad(f)(x), numeric, 1e-8 + 10 * doubt)
    except AssertionError:
        return
    raise AssertionError("a wrong derivative was not seen")
