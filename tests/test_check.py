"""The checker is checked: what is right passes, and every planted fault is caught and named."""

import sys

import numpy as np
import pytest

import fastad as fad

POINT = np.array([0.3, -0.7, 1.1])
MODES = ["fwd", "rev"]


class Cube(fad.Function):
    """x**3 with a derivative that each fault below overrides."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3.0 * x * x * g


class WrongSign(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -3.0 * x * x * g


class WrongFactor(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3.0001 * x * x * g


class OneElementDropped(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3.0 * x * x * g * np.array([1.0, 0.0, 1.0])


class CotangentIgnored(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3.0 * x * x


class WrongSecond(Cube):
    """Right at first order; its derivative takes x for a constant."""

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3.0 * x * fad.stop_gradient(x) * g


class WrongThird(Cube):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        off = x - fad.stop_gradient(x)
        return (3.0 * x * x + off * off) * g


class Product(fad.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return y * g, x * g


class DroppedAdjoint(Product):
    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[1] * g, None


class Swapped(Product):
    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return x * g, y * g


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [POINT, 0.7, POINT.reshape(3, 1)], ids=["1-d", "0-d", "2-d"])
def test_right_ones_pass(mode, at):
    fad.check_grads(Cube.apply, (at,), order=3, modes=[mode])
    fad.check_grads(Product.apply, (at, at + 0.5), order=2, modes=[mode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fault", [WrongSign, WrongFactor, OneElementDropped, CotangentIgnored], ids=lambda f: f.__name__
)
def test_first_order_faults(fault, mode):
    with pytest.raises(
        AssertionError, match=rf"check_grads: {mode}, order 1, argument 0: output 0"
    ):
        fad.check_grads(fault.apply, (POINT,), modes=[mode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("fault", "order"), [(WrongSecond, 2), (WrongThird, 3)])
def test_higher_order_faults(fault, order, mode):
    fad.check_grads(fault.apply, (POINT,), order - 1, modes=[mode])
    chain = " of ".join([mode] * order)
    with pytest.raises(AssertionError, match=f"check_grads: {chain}, order {order}, argument 0"):
        fad.check_grads(fault.apply, (POINT,), order, modes=[mode])


@pytest.mark.parametrize("mode", MODES)
def test_the_argument_is_named(mode):
    with pytest.raises(AssertionError, match=f"{mode}, order 1, argument 1:"):
        fad.check_grads(DroppedAdjoint.apply, (POINT, POINT + 1.0), modes=[mode])
    with pytest.raises(AssertionError, match=f"{mode}, order 1, argument 0:"):
        fad.check_grads(Swapped.apply, (POINT, POINT + 1.0), modes=[mode])


def test_both_numbers_are_shown():
    with pytest.raises(AssertionError, match=r"output 0: -?\d\.\d+, finite differences give -?\d"):
        fad.check_grads(WrongSign.apply, (0.7,))


def test_the_worst_element_is_named():
    with pytest.raises(AssertionError, match=r"output 0\[1\]: -?0\.0, finite"):
        fad.check_grads(OneElementDropped.apply, (POINT,), modes="fwd")


def test_mixed_nestings_are_tried():
    chains = set()
    for modes in (["fwd", "rev"], ["rev", "fwd"], ["fwd"], ["rev"]):
        with pytest.raises(AssertionError) as caught:
            fad.check_grads(WrongSecond.apply, (POINT,), order=2, modes=modes)
        chains.add(str(caught.value).split(":")[1].split(",")[0].strip())
    assert chains >= {"fwd of fwd", "rev of rev"}


def test_ordinary_functions():
    matrix = np.arange(6.0).reshape(2, 3) / 3.0
    fad.check_grads(lambda x: np.sum(np.tanh(matrix @ x)), (POINT,), order=2)
    fad.check_grads(lambda x, y: (x * y, np.exp(x) + y), (POINT, 2.0), order=2)
    fad.check_grads(lambda x: x * 1e6, (np.array([1e6, 2e6]),))


def test_containers():
    tree = {"w": POINT, "b": (1.5, np.array([0.2]))}
    f = lambda p: {"y": p["w"] * p["b"][0], "z": np.sin(p["b"][1])}
    fad.check_grads(f, (tree,), order=2)
    wrong = lambda p: DroppedAdjoint.apply(p["b"][0] * POINT, p["w"])
    with pytest.raises(AssertionError, match="argument 0, leaf 2"):
        fad.check_grads(wrong, (tree,))


def test_plain_arguments_need_no_containers(monkeypatch):
    monkeypatch.setitem(sys.modules, "optree", None)
    fad.check_grads(lambda x, y: x * y, (POINT, 2.0), order=2)
    with pytest.raises(ImportError, match="optree"):
        fad.check_grads(lambda x: (x, x), (POINT,))


def test_single_precision():
    single = POINT.astype(np.float32)
    fad.check_grads(lambda x: np.sum(np.sin(x) * x), (single,), order=2)
    with pytest.raises(AssertionError):
        fad.check_grads(WrongSign.apply, (single,))


def test_integers_are_numbers():
    fad.check_grads(lambda x: x * x, (3,), order=2)


def test_tolerances_and_steps():
    f = WrongFactor.apply
    fad.check_grads(f, (POINT,), atol=1e-3)
    fad.check_grads(f, (POINT,), rtol=1e-3)
    with pytest.raises(AssertionError):
        fad.check_grads(np.sqrt, (1e-3,), eps=3e-4)
    fad.check_grads(np.sqrt, (1e-3,), eps=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_is_no_agreement():
    with pytest.raises(AssertionError):
        fad.check_grads(lambda x: x * np.nan, (POINT,))
    with pytest.raises(AssertionError):
        fad.check_grads(np.log, (0.0,))


def test_seeds_repeat():
    messages = []
    for seed in (0, 0, 1):
        with pytest.raises(AssertionError) as caught:
            fad.check_grads(WrongSign.apply, (POINT,), seed=seed)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] != messages[2]


def test_arguments_stay_as_they_are():
    x = POINT.copy()
    fad.check_grads(lambda x: x * x, (x,), order=2)
    np.testing.assert_array_equal(x, POINT)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"modes": ["forward"]}, ValueError, "modes: expected 'fwd', 'rev' or both"),
        ({"modes": []}, ValueError, "modes"),
        ({"order": 0}, ValueError, "order: expected 1 or more, got 0"),
        ({"args": POINT}, TypeError, "args: expected a tuple of arguments, got ndarray"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        fad.check_grads(**{"f": np.sin, "args": (POINT,), **options})
