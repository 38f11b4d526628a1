"""The transforms, alone and nested to any order."""

import math

import numpy as np
import pytest

import fastad as fad

X = np.array([0.3, -1.2, 2.0])


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_gradient(x):
    g = np.zeros_like(x)
    inner = x[1:] - x[:-1] ** 2
    g[1:] += 200 * inner
    g[:-1] += -400 * inner * x[:-1] - 2 * (1 - x[:-1])
    return g


def rosenbrock_hessian(x):
    H = np.zeros((x.size, x.size))
    for i in range(x.size - 1):
        H[i, i] += -400 * (x[i + 1] - 3 * x[i] ** 2) + 2
        H[i + 1, i + 1] += 200
        H[i, i + 1] = H[i + 1, i] = -400 * x[i]
    return H


def vector(x):
    return np.stack([x[0] * x[1], np.sin(x[2]), x[0] ** 2, x[1] * x[2]])


def vector_jacobian(x):
    a, b, c = x
    return np.array([[b, a, 0], [0, 0, math.cos(c)], [2 * a, 0, 0], [0, c, b]])


# --- reverse -------------------------------------------------------------------------------------


def test_grad_and_value():
    value, gradient = fad.value_and_grad(rosenbrock)(X)
    assert value == rosenbrock(X)
    assert type(value) is float
    np.testing.assert_allclose(gradient, rosenbrock_gradient(X), rtol=1e-14)
    np.testing.assert_array_equal(fad.grad(rosenbrock)(X), gradient)


def test_a_gradient_is_fresh_and_the_argument_untouched():
    x = X.copy()
    first, second = fad.grad(rosenbrock)(x), fad.grad(rosenbrock)(x)
    first[:] = 0
    np.testing.assert_array_equal(second, fad.grad(rosenbrock)(x))
    np.testing.assert_array_equal(x, X)


def test_results_are_plain():
    assert type(fad.grad(np.sin)(1.0)) is float
    assert type(fad.grad(lambda x: np.sum(x))(np.ones(2))) is np.ndarray
    assert fad.grad(lambda x: x * x)(3) == 6.0
    assert fad.grad(lambda x: x * x)(np.float64(3)) == 6.0
    gradient = fad.grad(lambda x: np.sum(x * x))(np.arange(3))
    assert gradient.dtype == np.float64
    np.testing.assert_array_equal(gradient, [0, 2, 4])
    gradient = fad.grad(lambda x: np.sum(x * x))(np.ones((2, 2), np.float32))
    assert gradient.dtype == np.float32


@pytest.mark.parametrize("layout", ["F", "strided", "negative", "readonly", "broadcast", "big"])
def test_arguments_of_any_layout(layout):
    x = np.arange(12.0).reshape(3, 4)
    x = {
        "F": np.asfortranarray(x),
        "strided": np.arange(48.0).reshape(6, 8)[::2, ::2],
        "negative": x[::-1, ::-1],
        "readonly": np.frombuffer(x.tobytes()).reshape(3, 4),
        "broadcast": np.broadcast_to(np.arange(4.0), (3, 4)),
        "big": x.astype(">f8"),
    }[layout]
    weight = np.arange(12.0).reshape(3, 4) ** 2
    gradient = fad.grad(lambda x: np.sum(weight * x**2))(x)
    np.testing.assert_allclose(gradient, 2 * weight * x)


def test_argnums_and_keywords():
    def f(x, y, *, scale=1.0):
        return scale * x**2 * np.sum(y)

    y = np.array([1.0, 2.0])
    assert fad.grad(f)(3.0, y, scale=2.0) == 36.0
    np.testing.assert_array_equal(fad.grad(f, 1)(3.0, y), [9, 9])
    np.testing.assert_array_equal(fad.grad(f, -1)(3.0, y), [9, 9])
    both = fad.grad(f, argnums=(1, 0))(3.0, y)
    assert type(both) is tuple
    np.testing.assert_array_equal(both[0], [9, 9])
    assert both[1] == 18.0
    assert fad.grad(f, argnums=[0])(3.0, y) == (18.0,)
    with pytest.raises(TypeError, match="argnums"):
        fad.grad(f, argnums=2)(3.0, y)
    with pytest.raises(TypeError):
        fad.grad(f, argnums=0.5)


@pytest.mark.one_shot
def test_other_arguments_pass_untouched():
    seen = []

    def f(x, *rest, **named):
        seen.append((rest, named))
        return x

    marker = object()
    fad.grad(f)(1.0, "text", marker, None, key=[1, 2])
    assert seen == [(("text", marker, None), {"key": [1, 2]})]


def test_has_aux():
    def f(x):
        return x * x, {"twice": 2 * x, "list": [x, 1], "n": 3}

    gradient, aux = fad.grad(f, has_aux=True)(3.0)
    assert (gradient, aux) == (6.0, {"twice": 6.0, "list": [3.0, 1], "n": 3})
    (value, aux), gradient = fad.value_and_grad(f, has_aux=True)(3.0)
    assert (value, aux["twice"], gradient) == (9.0, 6.0, 6.0)
    with pytest.raises(TypeError, match="aux"):
        fad.grad(lambda x: x, has_aux=True)(3.0)
    y, pull, aux = fad.vjp(f, 3.0, has_aux=True)
    assert (y, pull(1.0), aux["n"]) == (9.0, (6.0,), 3)
    assert fad.jvp(f, 3.0, 1.0, has_aux=True)[2]["twice"] == 6.0
    assert fad.jacobian(f, has_aux=True)(3.0)[1]["twice"] == 6.0
    assert fad.hessian(lambda x: (x**3, "aux"), has_aux=True)(3.0) == (18.0, "aux")


def test_wrapped_functions_keep_their_name():
    assert fad.grad(rosenbrock).__name__ == "rosenbrock"


def test_containers():
    pytest.importorskip("optree")

    def f(p):
        return np.sum(p["w"] ** 2) + p["b"][0] * p["b"][1]

    gradient = fad.grad(f)({"w": np.array([1.0, 2.0]), "b": (3.0, [4.0][0])})
    np.testing.assert_array_equal(gradient["w"], [2, 4])
    assert gradient["b"] == (4.0, 3.0)
    rows = fad.jacobian(lambda x: {"a": x[0], "b": [x, x * x]})(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(rows["a"], [1, 0])
    np.testing.assert_array_equal(rows["b"][1], [[2, 0], [0, 4]])
    y, pull = fad.vjp(lambda x: (x, [x * x]), 3.0)
    assert y == (3.0, [9.0])
    assert pull((1.0, [10.0])) == (61.0,)
    with pytest.raises(ValueError, match="leaves"):
        pull((1.0, [10.0, 11.0]))
    assert fad.jvp(lambda t: (t[0] * t[1], t[0]), ((2.0, 3.0),), ((1.0, 10.0),)) == (
        (6.0, 2.0),
        (23.0, 1.0),
    )
    assert fad.stop_gradient({"a": 1.0, "b": [2.0]}) == {"a": 1.0, "b": [2.0]}


def test_a_function_that_ignores_its_input():
    assert fad.grad(lambda x: 3.0)(1.0) == 0.0
    assert fad.value_and_grad(lambda x: 3)(1.0) == (3, 0.0)
    np.testing.assert_array_equal(fad.grad(lambda x: np.float64(3))(X), np.zeros(3))
    zero = fad.grad(lambda x: 1.0)(np.ones(2, np.float32))
    assert zero.dtype == np.float32
    assert fad.grad(lambda x, y: y * y, (0, 1))(1.0, 3.0) == (0.0, 6.0)
    np.testing.assert_array_equal(fad.jacobian(lambda x: np.ones(2))(X), np.zeros((2, 3)))
    np.testing.assert_array_equal(fad.hessian(lambda x: np.sum(x))(X), np.zeros((3, 3)))
    np.testing.assert_array_equal(fad.hvp(lambda x: 1.0, X, X), np.zeros(3))
    assert fad.jvp(lambda x: 3.0, 1.0, 1.0) == (3.0, 0.0)
    assert fad.vjp(lambda x: 3.0, 1.0)[1](5.0) == (0.0,)
    assert fad.linearize(lambda x: 3.0, 1.0)[1](5.0) == 0.0
    assert fad.grad(fad.grad(lambda x: 2 * x))(1.0) == 0.0
    assert fad.grad(lambda x: float(x > 0))(1.0) == 0.0


def test_identity_and_fan_out():
    assert fad.grad(lambda x: x)(2.0) == 1.0
    assert fad.grad(lambda x: x + x + x * x)(2.0) == 6.0
    np.testing.assert_array_equal(fad.jacobian(lambda x: x)(X), np.eye(3))
    assert fad.grad(lambda x: sum((x for _ in range(100)), 0.0))(1.0) == 100.0


def test_vjp():
    y, pull = fad.vjp(vector, X)
    np.testing.assert_allclose(y, vector(X))
    for u in np.eye(4):
        np.testing.assert_allclose(pull(u)[0], u @ vector_jacobian(X), rtol=1e-15)
    np.testing.assert_allclose(pull(np.ones(4))[0], np.ones(4) @ vector_jacobian(X))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        pull(np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        pull(1.0)


def test_a_pullback_outlives_other_calls():
    _, pull = fad.vjp(vector, X)
    for _ in range(10):
        fad.grad(rosenbrock)(np.ones(50))
    np.testing.assert_allclose(pull(np.ones(4))[0], np.ones(4) @ vector_jacobian(X))


# --- forward -------------------------------------------------------------------------------------


def test_jvp_and_linearize():
    t = np.array([1.0, -2.0, 0.5])
    value, tangent = fad.jvp(vector, X, t)
    np.testing.assert_allclose(value, vector(X))
    np.testing.assert_allclose(tangent, vector_jacobian(X) @ t, rtol=1e-15)
    value, push = fad.linearize(vector, X)
    np.testing.assert_allclose(value, vector(X))
    for t in np.eye(3):
        np.testing.assert_allclose(push(t), vector_jacobian(X) @ t, rtol=1e-15)
    with pytest.raises(ValueError, match="shape"):
        push(np.ones(2))
    with pytest.raises(ValueError, match="shape"):
        fad.jvp(vector, X, np.ones(2))
    with pytest.raises(ValueError, match="tangents"):
        fad.jvp(vector, (X,), (X, X))


def test_jvp_of_several_arguments():
    assert fad.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0)) == (6.0, 23.0)
    _, push = fad.linearize(lambda x, y: x * y, 2.0, 3.0)
    assert push(1.0, 10.0) == 23.0


# --- matrices ------------------------------------------------------------------------------------


def test_jacobian_by_rows_and_by_columns():
    """Two outputs of many inputs take rows, many outputs of two inputs take columns."""
    A = np.arange(10.0).reshape(2, 5) - 4
    f = lambda x: np.sin(A @ x)
    x = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(fad.jacobian(f)(x), np.cos(A @ x)[:, None] * A, rtol=1e-14)
    g = lambda x: np.sin(A.T @ x)
    x = np.array([0.3, -0.7])
    np.testing.assert_allclose(fad.jacobian(g)(x), np.cos(A.T @ x)[:, None] * A.T, rtol=1e-14)


def test_jacobian_shapes():
    x = np.arange(6.0).reshape(2, 3)
    assert fad.jacobian(lambda x: x.T @ x)(x).shape == (3, 3, 2, 3)
    assert fad.jacobian(np.sin)(0.0) == 1.0
    assert fad.jacobian(lambda x: np.sum(x))(x).shape == (2, 3)
    assert fad.jacobian(lambda s: s * x)(2.0).shape == (2, 3)
    np.testing.assert_array_equal(fad.jacobian(lambda s: s * x)(2.0), x)
    a, b = fad.jacobian(lambda x, y: x * y, (0, 1))(X, 2.0)
    np.testing.assert_array_equal(a, 2 * np.eye(3))
    np.testing.assert_array_equal(b, X)
    assert fad.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert fad.jacobian(lambda x: np.sum(x) * np.ones(2))(np.zeros(0)).shape == (2, 0)
    expected = np.einsum("ik,jl->ijkl", np.eye(2), np.eye(3))
    np.testing.assert_array_equal(fad.jacobian(lambda x: x * 1.0)(x), expected)


def test_hessian():
    np.testing.assert_allclose(fad.hessian(rosenbrock)(X), rosenbrock_hessian(X), rtol=1e-13)
    assert fad.hessian(lambda x: x**4)(2.0) == 48.0
    H = fad.hessian(lambda x, y: np.sum(x) ** 2 * y, (0, 1))(X, 3.0)
    np.testing.assert_allclose(H[0][0], np.full((3, 3), 6.0))
    np.testing.assert_allclose(H[0][1], np.full(3, 2 * X.sum()))
    np.testing.assert_allclose(H[1][0], np.full(3, 2 * X.sum()))
    assert H[1][1] == 0.0


def test_hvp():
    t = np.array([1.0, -2.0, 0.5])
    product = fad.hvp(rosenbrock, X, t)
    np.testing.assert_allclose(product, rosenbrock_hessian(X) @ t, rtol=1e-13)
    assert fad.hvp(lambda x, y: x * x * y, (2.0, 3.0), (1.0, 10.0)) == (6.0 + 40.0, 4.0)


# --- nesting -------------------------------------------------------------------------------------


def nth(f, n, by=fad.grad):
    for _ in range(n):
        f = by(f)
    return f


@pytest.mark.parametrize("order", range(1, 6))
def test_orders_of_a_scalar(order):
    x = 0.7
    exact = [math.sin, math.cos, lambda x: -math.sin(x), lambda x: -math.cos(x)][order % 4](x)
    assert nth(np.sin, order)(x) == pytest.approx(exact, rel=1e-14)
    forward = lambda f: lambda x: fad.jvp(f, x, 1.0)[1]
    assert nth(np.sin, order, forward)(x) == pytest.approx(exact, rel=1e-14)
    assert nth(lambda x: x**5, order)(x) == pytest.approx(
        math.perm(5, order) * x ** (5 - order), rel=1e-13
    )


MODES = {
    "reverse": lambda f: fad.grad(f),
    "forward": lambda f: lambda x: fad.jvp(f, x, 1.0)[1],
    "vjp": lambda f: lambda x: fad.vjp(f, x)[1](1.0)[0],
    "linearize": lambda f: lambda x: fad.linearize(f, x)[1](1.0),
    "jacobian": lambda f: fad.jacobian(f),
}


@pytest.mark.parametrize("a", MODES)
@pytest.mark.parametrize("b", MODES)
@pytest.mark.parametrize("c", MODES)
def test_every_mode_in_every_mode(a, b, c):
    def f(x):
        y = np.exp(x) * np.sin(x * x) / (1 + x)
        return y * np.where(x > 0, x, 1.0)

    x = 0.6
    third = MODES[a](MODES[b](MODES[c](f)))(x)
    assert type(third) is float or np.shape(third) == ()
    h = 1e-3
    second = nth(f, 2)
    stencil = second(x - 2 * h) - 8 * second(x - h) + 8 * second(x + h) - second(x + 2 * h)
    assert third == pytest.approx(stencil / (12 * h), rel=1e-8)


@pytest.mark.parametrize("order", [2, 3])
def test_orders_of_an_array_function(order):
    """Directional derivatives of any order against those of a polynomial along the line."""
    A = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]])
    t = np.array([1.0, -2.0, 0.5])

    def f(x):
        y = A @ x
        return np.sum(y[[0, 1, 0]] ** 3 * np.stack([x[0], x[1], x[2]])) + np.prod(x)

    def along(s):
        return f(X + s * t)

    coefficients = (
        np.polynomial.Polynomial.fit(
            np.linspace(-1, 1, 5), [along(s) for s in np.linspace(-1, 1, 5)], 4, domain=[-1, 1]
        )
        .convert()
        .coef
    )
    exact = coefficients[order] * math.factorial(order)
    g = f
    for _ in range(order):
        g = lambda x, g=g: np.sum(fad.grad(g)(x) * t)
    assert g(X) == pytest.approx(exact, rel=1e-11)
    g = f
    for _ in range(order):
        g = lambda x, g=g: fad.jvp(g, x, t)[1]
    assert g(X) == pytest.approx(exact, rel=1e-11)


def test_perturbation_confusion():
    """The classics: an inner derivative never sees the outer one's perturbation."""
    d = fad.grad
    forward = MODES["forward"]
    for outer in (d, forward):
        for inner in (d, forward):
            assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0) == 1.0  # noqa: B023
            assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0) == 6.0  # noqa: B023
            assert outer(lambda x: inner(lambda y: y * y * x)(x))(3.0) == 12.0  # noqa: B023
            assert outer(lambda x: inner(lambda y: x)(x))(3.0) == 0.0  # noqa: B023
    # Manzyuk et al., "Perturbation Confusion in Forward Automatic Differentiation" (2019), 4:
    # a derivative that is passed out of a function and differentiated again.
    s = lambda u: lambda f: lambda x: f(x + u)
    shifted = fad.jvp(lambda u: s(u)(math_exp)(1.0), 0.0, 1.0)[1]
    assert shifted == pytest.approx(math.e)


def math_exp(x):
    return np.exp(x)


def test_closures_over_outer_variables():
    def f(x):
        g = lambda y: np.sum(x * y * y)
        return np.sum(fad.grad(g)(x) * x)  # 2 x^2 . x

    np.testing.assert_allclose(fad.grad(f)(X), 6 * X**2, rtol=1e-14)

    def h(x):
        inner = fad.jacobian(lambda y: np.sin(y) * x)(2 * x)
        return np.sum(inner * np.eye(3))

    np.testing.assert_allclose(fad.grad(h)(X), np.cos(2 * X) - 2 * X * np.sin(2 * X), rtol=1e-13)

    def k(x):
        return fad.value_and_grad(lambda y: y * x)(5.0)[1]

    assert fad.grad(k)(2.0) == 1.0


def test_newton_inside_grad():
    """Differentiating through an iteration that itself uses derivatives."""

    def root(a):
        x = 1.0
        for _ in range(8):
            f = lambda y: y * y - a
            x = x - f(x) / fad.grad(f)(x)
        return x

    assert root(2.0) == pytest.approx(math.sqrt(2))
    assert fad.grad(root)(2.0) == pytest.approx(0.5 / math.sqrt(2))
    assert fad.grad(fad.grad(root))(2.0) == pytest.approx(-0.25 * 2**-1.5)


def test_linearize_and_vjp_inside_grad_by_the_seed():
    def f(t):
        _, push = fad.linearize(np.sin, 0.3)
        _, pull = fad.vjp(np.sin, 0.3)
        return push(t * t) + pull(t)[0]

    assert fad.grad(f)(2.0) == pytest.approx(math.cos(0.3) * 5)


def test_pullback_made_outside_used_inside():
    _, pull = fad.vjp(lambda x: np.sin(x), 0.3)
    _, push = fad.linearize(lambda x: np.sin(x), 0.3)
    assert fad.grad(lambda u: pull(u * u)[0])(2.0) == pytest.approx(4 * math.cos(0.3))
    assert fad.grad(lambda u: push(u * u))(2.0) == pytest.approx(4 * math.cos(0.3))


def test_inside_a_tape():
    with fad.Tape() as tape:
        x = tape.variable(3.0)
        y = fad.grad(lambda y: y**3 * x)(x)  # 3 x^3
        z = fad.jvp(lambda y: y * x, x, 1.0)[1]
        plain = fad.grad(lambda y: y * y)(2.0)
    assert plain == 4.0
    assert type(plain) is float
    assert tape.gradient(y, x) == pytest.approx(3 * 3 * 9.0)
    assert tape.gradient(z, x) == 1.0


def test_nested_results_that_depend_on_nothing_are_plain():
    seen = []

    def f(x):
        seen.append(fad.grad(lambda y: y * y)(2.0))
        seen.append(fad.jvp(np.sin, 0.0, 1.0))
        return x * seen[0]

    assert fad.grad(f)(1.0) == 4.0
    assert seen == [4.0, (0.0, 1.0)]


# --- stop_gradient, strong zero, kinks -----------------------------------------------------------


def test_stop_gradient():
    f = lambda x: x * fad.stop_gradient(x)
    assert fad.grad(f)(3.0) == 3.0
    assert fad.jvp(f, 3.0, 1.0)[1] == 3.0
    assert fad.grad(fad.grad(f))(3.0) == 0.0
    g = lambda x: np.sum(fad.stop_gradient(x) * x)
    np.testing.assert_array_equal(fad.grad(g)(X), X)
    assert fad.stop_gradient(2.0) == 2.0


TRAPS = [
    (lambda x: np.where(x > 0, np.sqrt(x), 0.0), -1.0, 0.0),
    (lambda x: np.where(x > 0, np.sqrt(x), 0.0), 0.0, 0.0),
    (lambda x: np.where(x > 0, np.sqrt(x), 0.0), 4.0, 0.25),
    (lambda x: np.where(x != 0, np.sin(x) / x, 1.0), 0.0, 0.0),
    (lambda x: np.where(x > 0, np.log(x), x), 0.0, 1.0),
    (lambda x: np.where(x > 0, x * np.log(x), 0.0), 0.0, 0.0),
    (lambda x: np.where(x < 10, x, np.exp(x)), 1000.0, math.inf),
    (lambda x: np.where(x < 2000, x, np.exp(x)), 1000.0, 1.0),
    (lambda x: np.where(np.abs(x) < 1, np.arctanh(x), x), 1.0, 1.0),
    (lambda x: np.where(x > 0, 1 / x, 2 * x), 0.0, 2.0),
]


@pytest.mark.parametrize(("f", "x", "expected"), TRAPS, ids=range(len(TRAPS)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_strong_zero(f, x, expected):
    """The branch that is not taken contributes nothing, in every mode, whatever its partial."""
    assert fad.grad(f)(x) == expected
    assert fad.jvp(f, x, 1.0)[1] == expected
    assert fad.jacobian(f)(x) == expected
    assert fad.linearize(f, x)[1](1.0) == expected
    point = np.array([x, 2.5, x])
    rest = fad.grad(f)(2.5)
    total = lambda x: np.sum(f(x))

    def close(ours, theirs):  # a replay may round otherwise
        np.testing.assert_allclose(ours, theirs, rtol=2e-16)

    close(fad.grad(total)(point), [expected, rest, expected])
    close(fad.jvp(f, point, np.ones(3))[1], [expected, rest, expected])
    if expected != math.inf:
        inside = fad.vjp(lambda x: fad.grad(total)(x), point)[0]
        close(inside, [expected, rest, expected])
        assert np.isfinite(fad.grad(fad.grad(f))(x))
        assert np.all(np.isfinite(fad.hessian(total)(point)))
        assert np.all(np.isfinite(fad.hvp(total, point, np.ones(3))))


def test_infinite_and_nan_partials_are_not_hidden():
    assert fad.grad(np.sqrt)(0.0) == math.inf
    assert math.isnan(fad.grad(lambda x: x * math.nan)(1.0))
    assert fad.grad(lambda x: np.log(x))(0.0) == math.inf


def test_ties_share():
    assert fad.grad(lambda x, y: np.maximum(x, y), (0, 1))(1.0, 1.0) == (0.5, 0.5)
    assert fad.grad(lambda x: np.maximum(x, 0.0))(0.0) == 0.5
    np.testing.assert_array_equal(
        fad.grad(lambda x: np.max(x))(np.array([1.0, 3.0, 3.0])), [0, 0.5, 0.5]
    )
    assert fad.grad(abs)(0.0) == 0.0


def test_same_inputs_same_bits():
    x = np.random.default_rng(0).normal(size=1000)
    f = lambda x: np.sum(np.sin(x)[::-1] * x) + np.sum(x[np.arange(1000) % 7])
    first = fad.grad(f)(x)
    for _ in range(3):
        assert fad.grad(f)(x).tobytes() == first.tobytes()


# --- one long chain and wide sums ----------------------------------------------------------------


def test_a_million_inputs():
    x = np.linspace(0, 1, 10**6)
    gradient = fad.grad(lambda x: np.sum(np.sin(x) * x))(x)
    np.testing.assert_allclose(gradient, np.cos(x) * x + np.sin(x), rtol=1e-12)


def test_lists_of_scalars():
    pytest.importorskip("optree")
    gradient = fad.grad(lambda xs: xs[0] * xs[1] + sum(xs))([2.0, 3.0, 4.0])
    assert gradient == [4.0, 3.0, 1.0]
