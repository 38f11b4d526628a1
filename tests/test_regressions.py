"""Bugs that were found by review, each as the smallest program that showed it."""

import collections
import contextvars
import threading

import numpy as np
import pytest

import fastad as fad

X = np.arange(5.0)


# --- wrong numbers -----------------------------------------------------------------------------


def test_two_uses_of_a_float32_array_among_float64_data():
    data = X + 1
    x = X.astype(np.float32)
    gradient = fad.grad(lambda x: np.sum(x * data) + np.sum(x * x))(x)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, data + 2 * X)


def test_an_array_and_its_float32_copy():
    def f(x):
        copy = x.astype(np.float32)
        return np.sum(x * x) + np.sum(copy)

    np.testing.assert_array_equal(fad.grad(f)(X), 2 * X + 1)


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_elements_taken_of_a_number(n):
    assert fad.grad(lambda x: np.sum(np.take(x, np.zeros(n, int))))(2.0) == n


def test_the_same_variable_twice():
    with fad.Tape() as tape:
        x = tape.variable(X)
        y = np.sum(x * x)
    first, second = tape.gradient(y, [x, x])
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, 2 * X)
    assert not np.shares_memory(first, second)


def test_gradient_by_a_mask_is_zero():
    with fad.Tape() as tape:
        x = tape.variable(X)
        mask = x > 2
        y = np.sum(np.where(mask, x, 0.0))
    np.testing.assert_array_equal(tape.gradient(y, [mask])[0], np.zeros(5))


@pytest.mark.parametrize("constant", [fad.stop_gradient, np.floor, np.round])
def test_inner_derivatives_at_a_recorded_constant(constant):
    def square(u):
        return np.sum(u**2)

    assert fad.grad(lambda x: x * fad.grad(square)(constant(x)))(3.0) == 6.0
    assert fad.grad(lambda x: x * fad.jvp(square, constant(x), 1.0)[1])(3.0) == 6.0
    inner = fad.grad(lambda x: np.sum(x * fad.grad(square)(constant(x))))
    np.testing.assert_array_equal(inner(X), 2 * X)


def test_a_0d_value_is_written_with_other_types():
    def f(x):
        y = x * 1.0
        y[()] = np.float32(2)
        z = x * 1.0
        z[...] = np.array(7)
        np.add(x, 1.0, out=y)
        return y * z

    assert fad.value_and_grad(f)(2.0) == (21.0, 7.0)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", [np.matrix, np.ma.masked_array])
def test_ndarrays_with_other_operators_are_refused(kind):
    other = kind([[1.0, 2.0]])
    with pytest.raises(TypeError, match="not supported"):
        fad.grad(lambda x: np.sum(x * other))(np.ones(2))
    with pytest.raises(TypeError, match="not supported"):
        fad.grad(np.sum)(other)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4"])
def test_data_of_the_other_byte_order(dtype):
    np.testing.assert_array_equal(fad.grad(lambda x: np.sum(x * X.astype(dtype)))(X), X)


def test_pull_is_at_the_point_that_was_recorded():
    x = X.copy()
    _, pull = fad.vjp(lambda u: u**2, x)
    x += 100
    np.testing.assert_array_equal(fad.grad(lambda s: np.sum(pull(s * np.ones(5))[0]))(1.0), 20.0)


# --- rules -------------------------------------------------------------------------------------


class Several(fad.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2, x * 3, x * 4

    @staticmethod
    def backward(ctx, *cotangents):
        return 2 * cotangents[0] + 3 * cotangents[1] + 4 * cotangents[2]


def test_gradient_by_an_output_of_a_rule_after_y():
    with fad.Tape() as tape:
        x = tape.variable(X)
        y = np.sum(x * x)
        outputs = Several.apply(x)
    np.testing.assert_array_equal(tape.gradient(y, outputs[0]), np.zeros(5))


class Attribute(fad.Function):
    @staticmethod
    def forward(ctx, x, power):
        ctx.x, ctx.power = x, power
        return x**power

    @staticmethod
    def backward(ctx, g):
        return ctx.power * ctx.x ** (ctx.power - 1) * g, None


def test_inputs_kept_as_attributes_are_differentiated():
    assert fad.grad(fad.grad(lambda x: Attribute.apply(x, 3.0)))(2.0) == 12.0


class Recording(fad.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors

        def long(u):
            for _ in range(3000):
                u = u + 1.0
            return u

        return 2 * x * g * fad.grad(long)(1.0)


def test_a_rule_records_on_the_tape_that_is_swept():
    with fad.Tape() as tape:
        x = tape.variable(2.0)
        y = Recording.apply(np.sin(x) * x)
        (gradient,) = tape.gradient(y, [x])
    assert gradient == pytest.approx(4 * np.sin(2) * (np.sin(2) + 2 * np.cos(2)))


class WrongTangent:
    @staticmethod
    def vjp(inputs, outputs, cotangents):
        return (cotangents[0],)

    @staticmethod
    def jvp(inputs, outputs, tangents):
        return (tangents[0][:2],)


def test_a_tangent_of_the_wrong_shape():
    def f(x):
        return fad._core.custom(WrongTangent, (x,), (X,))[0]

    with pytest.raises(ValueError, match="tangent of output 0 has shape"):
        fad.jvp(f, X, X)


# --- transforms --------------------------------------------------------------------------------


def test_transforms_in_a_tape_without_nodes():
    with fad.Tape():
        y, pull = fad.vjp(np.sin, 0.0)
        assert pull(1.0)[0].value == 1.0
    with fad.Tape():
        assert fad.linearize(np.sin, 0.0)[1](2.0).value == 2.0
    assert y.value == 0.0


def test_aux_in_dicts_of_other_kinds():
    def f(x):
        parts = collections.defaultdict(list, a=[2 * x])
        return x**2, (parts, collections.Counter(n=3))

    parts, counts = fad.value_and_grad(f, has_aux=True)(2.0)[0][1]
    assert parts["a"] == [4.0] and parts["b"] == []
    assert counts == {"n": 3} and type(counts) is collections.Counter


def test_item_of_a_constant():
    assert fad.grad(lambda x: x * fad.stop_gradient(x).item())(2.0) == 2.0


# --- threads and memory ------------------------------------------------------------------------


def test_a_tape_that_another_thread_records_on_is_not_swept():
    errors = []

    def sweep(tape, y, x):
        try:
            tape.gradient(y, [x])
        except fad.TapeError as error:
            errors.append(error)

    with fad.Tape() as tape:
        x = tape.variable(X)
        y = np.sum(x * x)
        thread = threading.Thread(target=sweep, args=(tape, y, x))
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_one_linear_function_in_several_threads():
    _, pull = fad.vjp(lambda x: np.cumsum(np.sin(x)), np.linspace(0, 1, 50_000))
    _, push = fad.linearize(lambda x: np.cumsum(np.sin(x)), np.linspace(0, 1, 50_000))
    seed = np.ones(50_000)
    expected = pull(seed)[0]
    failures = []

    def work():
        try:
            for _ in range(20):
                assert np.array_equal(pull(seed)[0], expected)
                push(seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("odd", [0, 1])
def test_views_that_hold_the_last_reference_to_their_base(odd):
    with fad.Tape() as tape:
        x = tape.variable(X)
        singles = [x * 1.0 for _ in range(odd)]
        views = [(x * 2)[1:3] for _ in range(1500)]
        del singles, views
        y = np.sum(x)
    assert y.value == 10.0


def test_rules_that_hold_the_last_reference_to_other_tapes():
    class Holding(fad.Function):
        @staticmethod
        def forward(ctx, x, held):
            ctx.held = held
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g, None

    last = None
    for _ in range(20):
        with fad.Tape() as tape:
            y = Holding.apply(tape.variable(1.0), last)
        last = {"y": lambda y=y: y}
        del tape, y
    del last
    assert fad.grad(np.sin)(0.0) == 1.0


def test_gradient_in_a_thread_that_copied_the_context():
    values = []
    with fad.Tape() as tape:
        x = tape.variable(1.0)
        context = contextvars.copy_context()
        work = lambda: values.append(fad.grad(np.sin)(0.0))
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
        y = x * x
    assert values == [1.0] and tape.gradient(y, x) == 2.0
