"""fad.checkpoint against the function it wraps."""

import gc

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose

import fastad as fad
from fastad import _core

W = np.array([0.7, 0.4, 0.2])
V = np.array([1.0, -0.5, 2.0])
MATRIX = np.linspace(-1, 1, 9).reshape(3, 3)


def identity(f):
    return f


def layers(checkpoint, w):
    layer = checkpoint(lambda x: np.tanh(MATRIX @ x) * np.exp(-(x**2)))
    return np.sum(layer(layer(layer(w))) ** 2)


def closure(checkpoint, w):
    inner = checkpoint(lambda x, y: np.sin(x * y) * np.sum(np.exp(w * x)) + y)
    return inner(w[0], w[1]) + np.sum(checkpoint(lambda v: np.cos(v) ** 3 * w[2])(w))


def only_outside(checkpoint, w):
    return checkpoint(lambda: np.sum(np.sin(w) * w[::-1]))() * w[0]


def branch(checkpoint, w):
    f = checkpoint(lambda x: x**2 * w[0] if x > 0.5 else np.sin(x) * w[1])
    return f(w[0]) * f(w[1]) + f(w[2])


def containers(checkpoint, w):
    @checkpoint
    def f(pair, *, scale, flag):
        a, b = pair["a"], pair["b"]
        return {"sum": a + b * scale if flag else a, "rest": [b**2, "text", 3]}

    result = f({"a": w[0] * w[1], "b": w}, scale=w[2], flag=True)
    return np.sum(result["sum"] * result["rest"][0]) * result["rest"][2]


def nested(checkpoint, w):
    @checkpoint
    def outer(x):
        inner = checkpoint(lambda y: np.sin(y * w[1]) * x[0])
        return np.sum(inner(x) * inner(x**2))

    return outer(w)


def gradient_inside(checkpoint, w):
    energy = lambda x: np.sum(np.cos(x * w))
    return np.sum(checkpoint(lambda x: x - 0.1 * fad.grad(energy)(x))(w) ** 2)


def around_a_scan(checkpoint, w):
    @checkpoint
    def f(a, b):
        c, ys = fad.scan(lambda c, x: (np.sin(c * w[0]) * x * a, c * b), w[2], np.ones(4) * 0.7)
        return c * np.sum(ys)

    return f(w[0], w[1])


def inside_a_scan(checkpoint, w):
    step = checkpoint(lambda c, x: (np.sin(c * w[0]) * x, c * w[1]))
    c, ys = fad.scan(step, w[2], np.linspace(0.5, 1, 4))
    return c * np.sum(ys)


FUNCTIONS = [
    layers,
    closure,
    only_outside,
    branch,
    containers,
    nested,
    gradient_inside,
    around_a_scan,
    inside_a_scan,
]
TRANSFORMS = {
    "value": lambda f: f,
    "grad": fad.grad,
    "jvp": lambda f: lambda w: np.asarray(fad.jvp(f, w, V)),
    "vjp": lambda f: lambda w: fad.vjp(f, w)[1](2.0)[0],
    "hessian": fad.hessian,
    "hvp": lambda f: lambda w: fad.hvp(f, w, V),
    "forward over forward": lambda f: lambda w: fad.jvp(lambda w: fad.jvp(f, w, V)[1], w, V)[1],
    "third": lambda f: fad.jacobian(fad.hessian(f)),
    "compile": fad.compile,
    "grad of compiled": lambda f: fad.grad(fad.compile(f)),
    "compiled grad": lambda f: fad.compile(fad.grad(f)),
    "hessian of compiled": lambda f: fad.hessian(fad.compile(f)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_as_the_function(function, transform):
    transformed = TRANSFORMS[transform]
    expected = transformed(lambda w: function(identity, w))(W)
    found = transformed(lambda w: function(fad.checkpoint, w))(W)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_finite_differences_of_the_value(function):
    numeric = reference.numeric_gradient(lambda w: function(identity, w), W)
    gradient = fad.grad(lambda w: function(fad.checkpoint, w))(W)
    assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_plain_arguments():
    assert fad.checkpoint(lambda x, s: x * 2 if s == "twice" else x)(3.0, "twice") == 6.0


def test_compiled_takes_another_path(rng):
    def f(checkpoint, w):
        g = checkpoint(lambda x: x * w[0] if x > 0 else (x**2 if x < -1 else -x * w[1]))
        return g(w[0]) + g(w[1]) * g(w[2])

    compiled = fad.grad(fad.compile(lambda w: f(fad.checkpoint, w)))
    for _ in range(40):
        w = 2 * rng.normal(size=3)
        assert_allclose(compiled(w), fad.grad(lambda w: f(identity, w))(w))


def test_the_tape_is_smaller():
    x = np.linspace(0, 1, 1000)
    block = lambda x: np.sin(np.exp(np.cos(np.tanh(x * 0.9) + 0.1) - 0.3) * 0.7)
    sizes = {}
    for name, f in (("plain", block), ("checkpoint", fad.checkpoint(block))):
        with fad.Tape() as tape:
            y = v = tape.variable(x)
            for _ in range(10):
                y = f(y)
            total = np.sum(y)
        sizes[name] = tape.nbytes, tape.gradient(total, v)
    assert_allclose(sizes["checkpoint"][1], sizes["plain"][1], rtol=1e-12)
    assert sizes["checkpoint"][0] < 0.4 * sizes["plain"][0]


def test_nothing_else_holds_the_values():
    """All recorders that are alive after the forward pass, together."""
    x = np.linspace(0, 1, 100_000)
    block = lambda x: np.sin(np.exp(np.cos(np.tanh(x * 0.9) + 0.1) - 0.3) * 0.7)

    def held(f):
        gc.collect()
        before = {id(r) for r in gc.get_objects() if isinstance(r, _core.Recorder)}
        _core.drop_idle_tapes()
        with fad.Tape() as tape:
            y = tape.variable(x)
            for _ in range(5):
                y = f(y)
        gc.collect()
        after = [r for r in gc.get_objects() if isinstance(r, _core.Recorder)]
        assert len(y) == x.size  # still there
        return sum(r.nbytes for r in after if id(r) not in before)

    assert held(fad.checkpoint(block)) < 0.35 * held(block)


def test_writes_are_refused():
    def argument(x):
        x[0] = 0.0
        return np.sum(x)

    with pytest.raises(fad.TapeError, match="writes to its argument"):
        fad.grad(fad.checkpoint(argument))(W)

    def outside(w):
        def f(x):
            w[0] = x[1]
            return x

        return np.sum(fad.checkpoint(f)(w * 1.0))

    with pytest.raises(fad.TapeError, match="did not make"):
        fad.grad(outside)(W)


def test_an_exception_inside():
    def broken(x):
        raise ZeroDivisionError("planted")

    def f(w):
        y = w * w
        with pytest.raises(ZeroDivisionError, match="planted"):
            fad.checkpoint(broken)(w)
        return y * fad.checkpoint(np.sin)(w)

    assert_allclose(fad.grad(f)(2.0), 4 * np.sin(2.0) + 4 * np.cos(2.0))


def test_bad_input():
    with pytest.raises(TypeError, match="expected a function"):
        fad.checkpoint(3)


def test_a_planted_fault_is_seen(monkeypatch):

    names = fad.checkpoint.__globals__
    honest = names["pulled"]
    monkeypatch.setitem(names, "pulled", lambda *args: [x * 0.5 for x in honest(*args)])
    with pytest.raises(AssertionError):
        test_as_the_function(layers, "hessian")
    with pytest.raises(AssertionError):
        test_as_the_function(closure, "compiled grad")
