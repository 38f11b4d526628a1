"""fad.Function: a backward pass of the user's own."""

import math

import numpy as np
import pytest

import fastad as fad

X = np.array([0.5, -1.0, 2.0])


class Scale(fad.Function):
    """factor * x, with a factor that is no tensor."""

    @staticmethod
    def forward(ctx, x, factor, name="scale"):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None, None


class Multiply(fad.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return y * g, x * g


class Exponential(fad.Function):
    """Saves its output, as is natural for exp."""

    @staticmethod
    def forward(ctx, x):
        y = np.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * g


class Polar(fad.Function):
    """Several outputs."""

    @staticmethod
    def forward(ctx, r, t):
        ctx.save_for_backward(r, t)
        return r * np.cos(t), r * np.sin(t)

    @staticmethod
    def backward(ctx, gx, gy):
        r, t = ctx.saved_tensors
        return (
            np.cos(t) * gx + np.sin(t) * gy,
            r * np.cos(t) * gy - r * np.sin(t) * gx,
        )


class Cube(fad.Function):
    """Keeps an intermediate that no recording sees: once differentiable only."""

    @staticmethod
    def forward(ctx, x):
        slope = 3 * x**2
        ctx.save_for_backward(slope)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (slope,) = ctx.saved_tensors
        return slope * g


def test_plain_call():
    assert Multiply.apply(2.0, 3.0) == 6.0
    np.testing.assert_array_equal(Multiply.apply(X, 2.0), 2 * X)


def test_gradient():
    assert fad.grad(Multiply.apply, (0, 1))(2.0, 3.0) == (3.0, 2.0)
    assert fad.grad(lambda x: Multiply.apply(x, x))(3.0) == 6.0
    gradient = fad.grad(lambda x: np.sum(Multiply.apply(x, np.sin(x))))(X)
    np.testing.assert_allclose(gradient, np.sin(X) + X * np.cos(X), rtol=1e-14)
    np.testing.assert_array_equal(fad.grad(lambda y: np.sum(Multiply.apply(X, y)))(X), X)


@pytest.mark.one_shot
def test_forward_and_backward_see_plain_values():
    seen = []

    class Spy(fad.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(type(x))
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            seen.append(type(g))
            return 2 * g

    fad.grad(lambda x: np.sum(Spy.apply(x)))(X)
    assert seen == [np.ndarray, np.ndarray]
    seen.clear()
    fad.grad(Spy.apply)(1.0)
    assert all(issubclass(kind, float) for kind in seen)


@pytest.mark.one_shot
def test_backward_is_called_once_a_sweep():
    calls = []

    class Counted(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return x + 1

        @staticmethod
        def backward(ctx, g):
            calls.append(g)
            return g

    def f(x):
        y = Counted.apply(x)
        return y * y + y

    assert fad.grad(f)(2.0) == 7.0
    assert calls == [7.0]


def test_arguments_that_are_no_tensors():
    assert fad.grad(lambda x: Scale.apply(x, 5.0, "name"))(1.0) == 5.0
    assert fad.grad(lambda x: Scale.apply(x, 5, None))(1.0) == 5.0
    np.testing.assert_array_equal(fad.jacobian(lambda x: Scale.apply(x, 2.0, {}))(X), 2 * np.eye(3))


def test_none_is_a_zero_gradient():
    class Half(fad.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, g):
            return g * 7.0, None

    assert fad.grad(Half.apply, (0, 1))(2.0, 3.0) == (7.0, 0.0)
    assert fad.jvp(Half.apply, (2.0, 3.0), (1.0, 1.0))[1] == 7.0


def test_several_outputs():
    def f(r, t):
        x, y = Polar.apply(r, t)
        return x * x + 2 * y

    gradient = fad.grad(f, (0, 1))(2.0, 0.3)
    c, s = math.cos(0.3), math.sin(0.3)
    assert gradient == pytest.approx((4 * c * c + 2 * s, -8 * c * s + 4 * c))
    # One of the outputs alone, either one: the other's cotangent is zero.
    assert fad.grad(lambda r, t: Polar.apply(r, t)[0], (0, 1))(2.0, 0.3) == pytest.approx(
        (c, -2 * s)
    )
    assert fad.grad(lambda r, t: Polar.apply(r, t)[1], (0, 1))(2.0, 0.3) == pytest.approx(
        (s, 2 * c)
    )
    J = fad.jacobian(lambda v: np.stack(Polar.apply(v[0], v[1])))(np.array([2.0, 0.3]))
    np.testing.assert_allclose(J, [[c, -2 * s], [s, 2 * c]])
    columns = fad.jvp(Polar.apply, (2.0, 0.3), (0.0, 1.0))[1]
    assert columns == pytest.approx((-2 * s, 2 * c))


def test_outputs_of_different_shapes():
    class Both(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sum(), x * x

        @staticmethod
        def backward(ctx, g_sum, g_square):
            (x,) = ctx.saved_tensors
            return g_sum + 2 * x * g_square

    def f(x):
        total, square = Both.apply(x)
        return total * np.sum(square)

    np.testing.assert_allclose(fad.grad(f)(X), np.sum(X * X) + 2 * X * np.sum(X), rtol=1e-14)


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (lambda x: Multiply.apply(x, x * x), lambda x: x * x * x),
        (Exponential.apply, np.exp),
        (lambda x: Exponential.apply(np.sin(x)), lambda x: np.exp(np.sin(x))),
        (
            lambda x: Polar.apply(x, x)[0] * Polar.apply(x, 2.0)[1],
            lambda x: x * np.cos(x) * x * np.sin(2.0),
        ),
        (lambda x: Scale.apply(x * x, 3.0, ""), lambda x: 3 * x * x),
    ],
    ids=["multiply", "saved output", "composed", "several outputs", "constant"],
)
def test_higher_orders(f, reference):
    x = 0.8
    for order in range(4):
        np.testing.assert_allclose(f(x), reference(x), rtol=1e-12, atol=1e-14, err_msg=str(order))
        pushed = fad.jvp(f, x, 1.0)[1]
        np.testing.assert_allclose(pushed, fad.grad(reference)(x), rtol=1e-12, atol=1e-14)
        f, reference = fad.grad(f), fad.grad(reference)
    total = lambda x: np.sum(Exponential.apply(x) * x)
    H = fad.hessian(total)(X)
    np.testing.assert_allclose(H, np.diag((2 + X) * np.exp(X)), rtol=1e-13)
    np.testing.assert_allclose(fad.hvp(total, X, np.ones(3)), (2 + X) * np.exp(X), rtol=1e-13)


def test_a_saved_intermediate_is_an_error_at_second_order():
    assert fad.grad(Cube.apply)(2.0) == 12.0
    with pytest.raises(NotImplementedError, match="intermediate"):
        fad.grad(fad.grad(Cube.apply))(2.0)
    with pytest.raises(NotImplementedError, match="intermediate"):
        fad.hessian(lambda x: np.sum(Cube.apply(x)))(X)
    assert fad.grad(Cube.apply)(2.0) == 12.0


def test_an_output_that_is_the_input():
    class Identity(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return 3.0 * g

    np.testing.assert_array_equal(fad.grad(lambda x: np.sum(Identity.apply(x)))(X), np.full(3, 3.0))
    assert fad.grad(Identity.apply)(1.0) == 3.0


# --- what a wrong backward is told ---------------------------------------------------------------


def faulty(result):
    class Faulty(fad.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, g):
            return result(g)

    return lambda x: np.sum(Faulty.apply(x, 2.0 * x))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda g: g, ValueError, "Faulty.*expected 2 gradients.*got 1"),
        (lambda g: (g, g, g), ValueError, "Faulty.*expected 2 gradients.*got 3"),
        (lambda g: (g[:2], g), ValueError, r"Faulty.*shape \(2,\)"),
        (lambda g: (g, 1.0), ValueError, r"Faulty.*shape \(\)"),
        (lambda g: (g, "text"), TypeError, "Faulty.*dtype|expected numbers"),
        (lambda g: (g, g * 1j), (TypeError, NotImplementedError), "complex|real"),
        (lambda g: 1 / 0, ZeroDivisionError, "zero"),
        (lambda g: [][1], IndexError, "range"),
    ],
    ids=["too few", "too many", "wrong shape", "scalar", "text", "complex", "raises", "raises too"],
)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
def test_wrong_gradients(result, error, message, nested):
    f = faulty(result)
    differentiate = fad.grad(f) if not nested else fad.hessian(f)
    with pytest.raises(error, match=message):
        differentiate(X)
    good = faulty(lambda g: (g, g))
    np.testing.assert_array_equal(fad.grad(good)(X), np.full(3, 3.0))


def test_wrong_outputs():
    class Text(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return "text"

    class Complex(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return 1j * x

    for function in (Text, Complex):
        with pytest.raises(TypeError, match=f"{function.__name__}.*dtype"):
            fad.grad(function.apply)(1.0)
    with pytest.raises(NotImplementedError, match="forward"):
        fad.grad(fad.Function.apply)(1.0)
    assert fad.grad(np.sin)(0.0) == 1.0


def test_an_exception_in_forward():
    class Broken(fad.Function):
        @staticmethod
        def forward(ctx, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fad.grad(Broken.apply)(1.0)
    assert fad.grad(np.sin)(0.0) == 1.0


def test_gradients_inside_backward():
    """A backward may itself differentiate: the sweep of another tape inside this tape's sweep."""

    class Outer(fad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return np.sin(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * fad.grad(np.sin)(x)

    assert fad.grad(lambda x: Outer.apply(x * x))(0.5) == pytest.approx(math.cos(0.25))
    assert fad.grad(fad.grad(Outer.apply))(0.5) == pytest.approx(-math.sin(0.5))


def test_integer_outputs_have_no_gradient():
    class Where(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return np.argsort(x), np.sort(x)

        @staticmethod
        def backward(ctx, g_order, g):
            return g * 5.0

    def f(x):
        order, values = Where.apply(x)
        assert not order.active
        return np.sum(values) + np.sum(x[order])

    np.testing.assert_array_equal(fad.grad(f)(X), np.full(3, 6.0))


@pytest.mark.one_shot
def test_rules_are_released():
    """A Function's context lives as long as its tape remembers it, and no longer."""
    import gc
    import weakref

    watched = []

    class Watched(fad.Function):
        @staticmethod
        def forward(ctx, x):
            watched.append(weakref.ref(ctx))
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    assert fad.grad(Watched.apply)(1.0) == 2.0
    with fad.Tape() as tape:
        y = Watched.apply(tape.variable(1.0))
    assert watched[1]() is not None
    assert tape.gradient(y, []) == []
    del tape, y
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


# --- in a program -------------------------------------------------------------------------------


class ScaledCube(fad.Function):
    @staticmethod
    def forward(ctx, x, scale):
        y = scale * x**3
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, g):
        x, _ = ctx.saved_tensors
        return 3 * ctx.scale * x**2 * g, None


class Hinge(fad.Function):
    """Keeps a decision of forward, which no replay may take over."""

    @staticmethod
    def forward(ctx, x):
        ctx.positive = bool(np.sum(x) > 0)
        return x * ctx.positive

    @staticmethod
    def backward(ctx, g):
        return g * ctx.positive


def test_a_function_is_called_again_on_replay():
    def f(x):
        return np.sum(np.sin(ScaledCube.apply(x, 2.0)))

    x = np.array([0.5, -1.0])
    for compiled, once in ((fad.compile(f), f), (fad.grad(fad.compile(f)), fad.grad(f))):
        for point in (x, x + 1, 2 * x):
            np.testing.assert_allclose(compiled(point), once(point), rtol=1e-12)
        assert compiled.cache_info().recordings == 1


def test_what_forward_leaves_behind_is_a_guard():
    def f(x):
        return np.sum(Hinge.apply(np.sin(x)))

    x = np.array([0.5, 1.0])
    gradient = fad.grad(fad.compile(f))
    for point in (x, -x, 2 * x, x):
        np.testing.assert_allclose(gradient(point), fad.grad(f)(point))
    assert gradient.cache_info().recordings == 3
