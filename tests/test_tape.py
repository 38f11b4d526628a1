"""fad.Tape: nodes, text form, partials by everything, limits, lifetimes.

The text form of recordings is held against tests/golden/tape/*.txt. After a change that is meant to
alter them: FASTAD_GOLDEN=write pytest tests/test_tape.py, and read the diff.
"""

import copy
import math
import os
import pathlib

import numpy as np
import pytest

import fastad as fad
from fastad import _core

GOLDEN = pathlib.Path(__file__).parent / "golden" / "tape"
A = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]])


# --- golden dumps --------------------------------------------------------------------------------


def lecture(tape):
    x = tape.variable(0.7, name="x")
    inner = x**2 + np.exp(x**2)
    return np.sqrt(inner) + np.cos(inner)


def architecture(tape):
    x, y = tape.variable(2.0), tape.variable(3.0)
    return x * np.sin(y)


def constants_are_shared(tape):
    x = tape.variable(2.0)
    return (x + 3.0) * 3.0 + (x - 3) * 1.5


def arrays(tape):
    x = tape.variable(np.arange(3.0))
    M = tape.variable(A)
    y = M @ x
    return np.sum(y * x[:2]) + x[1] - np.sum(M[:, ::-1])


def indices(tape):
    x = tape.variable(np.arange(4.0))
    y = x[[3, 0, 0]] * 2
    y[1:] = x[:2]
    y[[0]] = 7.0
    return np.sum(y)


def float32(tape):
    x = tape.variable(np.ones(2, np.float32))
    return np.sum(x * 2.0 + np.ones(2))


def mask(tape):
    x = tape.variable(np.array([-1.0, 4.0]))
    return np.sum(np.where(x > 0, np.sqrt(x), 0.0))


def derivative_as_nodes(tape):
    x = tape.variable(2.0)
    return fad.grad(lambda y: np.sin(y) * x)(x)


def tangent_as_nodes(tape):
    x = tape.variable(np.ones(3))
    return np.sum(fad.jvp(lambda y: y * y, x, 2.0 * x)[1])


def many_uses(tape):
    """One n-ary sum of the contributions, not a chain of adds."""
    x = tape.variable(2.0)
    return fad.grad(lambda y: y * y * y + np.sin(y) + y)(x)


def function_node(tape):
    class Double(fad.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x, x

        @staticmethod
        def backward(ctx, g, h):
            return 2 * g + h

    x = tape.variable(np.ones(2))
    y, z = Double.apply(x)
    return np.sum(y * z)


RECORDINGS = [
    lecture,
    architecture,
    constants_are_shared,
    arrays,
    indices,
    float32,
    mask,
    derivative_as_nodes,
    tangent_as_nodes,
    many_uses,
    function_node,
]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_text_form(recording):
    with fad.Tape() as tape:
        output = recording(tape)
    text = tape.dump() + f"output %{output.node}\n"
    path = GOLDEN / f"{recording.__name__}.txt"
    if os.environ.get("FASTAD_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    tape.verify()


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {f.__name__ for f in RECORDINGS}


def test_part_of_the_text_form():
    with fad.Tape() as tape:
        architecture(tape)
    lines = tape.dump().splitlines(keepends=True)
    assert tape.dump(2) == "".join(lines[2:])
    assert tape.dump(1, 2) == lines[1]
    assert tape.dump(50) == ""


# --- nodes and partials --------------------------------------------------------------------------


def test_nodes():
    with fad.Tape() as tape:
        x = tape.variable(2.0, name="x")
        y = tape.variable(np.array([1.0, 3.0]), name="y")
        z = np.sum(x * y)
    nodes = tape.nodes()
    assert len(nodes) == len(tape)
    assert [n.index for n in nodes] == list(range(len(tape)))
    assert [n.op for n in nodes[:3]] == ["VARIABLE", "VARIABLE", "MUL"]
    assert [n.name for n in nodes[:3]] == ["x", "y", None]
    assert nodes[2].parents == (x.node, y.node)
    assert [n.shape for n in nodes[:3]] == [(), (2,), (2,)]
    np.testing.assert_array_equal(nodes[2].value, [2.0, 6.0])
    assert nodes[z.node].value == 8.0
    assert all(parent < n.index for n in nodes for parent in n.parents)
    assert all(n.active for n in nodes if n.op != "CONSTANT")
    assert [n.index for n in tape.nodes(1, 3)] == [1, 2]


def test_local_partials():
    with fad.Tape() as tape:
        x, y = tape.variable(2.0), tape.variable(3.0)
        product, quotient, sine = x * y, x / y, np.sin(x)
        v = tape.variable(np.ones(2)) * x
    assert tape.partials(product.node) == (3.0, 2.0)
    assert tape.partials(quotient.node) == pytest.approx((1 / 3, -2 / 9))
    assert tape.partials(sine.node) == (math.cos(2.0),)
    with pytest.raises(ValueError, match="element-wise"):
        tape.partials(v.node)
    with pytest.raises(IndexError):
        tape.partials(10**6)


def test_gradient():
    with fad.Tape() as tape:
        x, y = tape.variable(2.0), tape.variable(np.array([1.0, 3.0]))
        inner = x * y
        z = np.sum(inner * inner)
    assert tape.gradient(z, x) == 2 * 2 * 10.0
    gx, gy = tape.gradient(z, [x, y])
    assert gx == 40.0
    np.testing.assert_array_equal(gy, [8, 24])
    np.testing.assert_array_equal(tape.gradient(z, inner), 2 * inner.value)
    assert tape.gradient(z, z) == 1.0
    assert tape.gradient(x, z) == 0.0
    assert tape.gradient(x, [y])[0].tolist() == [0.0, 0.0]
    assert tape.gradient(z, []) == []


def test_gradients_by_every_node():
    """(x + y) z, the lecture's circuit: all partials in one sweep."""
    with fad.Tape() as tape:
        x, y, z = (tape.variable(v) for v in (-2.0, 5.0, -4.0))
        q = x + y
        f = q * z
    partials = tape.gradients(f)
    assert [partials[v] for v in (x, y, z, q, f)] == [-4.0, -4.0, 3.0, -4.0, 1.0]
    assert partials.at(q.node) == -4.0
    assert len(partials) == f.node + 1
    assert [n.index for n in partials] == list(range(f.node + 1))


def test_gradients_of_arrays_by_every_node():
    with fad.Tape() as tape:
        x = tape.variable(np.array([0.5, -1.0, 2.0]))
        parts = [x[:2], np.sin(x), x > 0]
        y = np.where(parts[2], parts[1], 0.0)
        total = np.sum(y * x) + np.sum(parts[0])
        later = total * 2
    partials = tape.gradients(total)
    for array in (x, parts[0], parts[1], y):
        np.testing.assert_allclose(partials[array], tape.gradient(total, array))
    np.testing.assert_array_equal(partials[parts[1]], [0.5, 0, 2])
    assert partials[later] == 0.0
    # A change of a node by h changes the output by its partial times h.
    np.testing.assert_array_equal(partials[parts[0]], [1, 1])


def test_wrong_questions():
    with fad.Tape() as tape:
        x = tape.variable(np.ones(2))
        y = np.sum(x)
    with fad.Tape() as other:
        z = other.variable(1.0)
    with pytest.raises(TypeError, match="scalar"):
        tape.gradient(x, x)
    with pytest.raises(TypeError, match="Array"):
        tape.gradient(y, 1.0)
    with pytest.raises(TypeError, match="Array"):
        tape.gradient(2.0, x)
    with pytest.raises(TypeError, match="Array"):
        tape.gradients(y)[0]
    with pytest.raises(fad.TapeError, match="another tape"):
        tape.gradient(y, z)
    with pytest.raises(fad.TapeError, match="another tape"):
        tape.gradients(y)[z]
    for wrong in (
        "text",
        1j,
        None,
        np.array(["a"]),
        np.float16(1),
        np.longdouble(1),
        np.array([object()]),
    ):
        with fad.Tape() as t, pytest.raises(TypeError, match="value"):
            t.variable(wrong)


# --- lifetimes -----------------------------------------------------------------------------------


def test_a_closed_tape_can_be_read_and_not_written():
    with fad.Tape() as tape:
        x = tape.variable(2.0)
        v = tape.variable(np.arange(3.0))
        view = v[1:]
        y = np.sum(view) * x
    assert (y.value, x.value, view.shape) == (6.0, 2.0, (2,))
    assert tape.gradient(y, x) == 3.0
    assert "6.0" in repr(y)
    assert y > 5
    for use in (
        lambda: x + 1,
        lambda: 1 + x,
        lambda: -x,
        lambda: np.sin(x),
        lambda: v[0],
        lambda: v[[0]],
        lambda: v.__setitem__(0, 1.0),
        lambda: view > 0,
        lambda: np.sum(v),
        lambda: v @ v,
        lambda: tape.variable(1.0),
        lambda: fad.stop_gradient(x),
        lambda: fad.grad(np.sin)(x),
        lambda: fad.jvp(np.sin, x, 1.0),
        lambda: np.array([x, 1.0]) * 2 + x,
        lambda: copy.copy(x) + 1,
    ):
        with pytest.raises(fad.TapeError, match="closed"):
            use()
    with pytest.raises(fad.TapeError, match="once"), tape:
        pass
    assert tape.gradient(y, x) == 3.0


def test_an_array_that_left_its_gradient_call():
    leaked = []
    fad.grad(lambda x: (leaked.append(x), x * x)[1])(1.0)
    fad.grad(lambda x: np.sum((leaked.append(x[1:]), x * x)[1]))(np.ones(3))
    for array in leaked:
        for use in (
            lambda: array + 1,  # noqa: B023
            lambda: np.sin(array),  # noqa: B023
            lambda: array.value,  # noqa: B023
            lambda: array.shape,  # noqa: B023
            lambda: array > 0,  # noqa: B023
            lambda: array[0],  # noqa: B023
        ):
            with pytest.raises(fad.TapeError):
                use()
        assert "reset" in repr(array)
    # Also from within the next call, which uses the same tape again.
    with pytest.raises(fad.TapeError, match="reset"):
        fad.grad(lambda x: x * leaked[0])(2.0)
    with pytest.raises(fad.TapeError, match="reset"):
        fad.grad(lambda x: leaked[0] + x)(2.0)
    assert fad.grad(lambda x: x * x)(2.0) == 4.0


def test_nested_tapes():
    with fad.Tape() as outer:
        x = outer.variable(2.0)
        with fad.Tape() as inner:
            y = inner.variable(3.0)
            u = y * y
            with pytest.raises(fad.TapeError, match="different tapes"):
                x * y
        v = x * x
        with pytest.raises(fad.TapeError, match=r"different tapes|closed"):
            v * u
    assert inner.gradient(u, y) == 6.0
    assert outer.gradient(v, x) == 4.0


def test_values_outlive_the_tape_object():
    with fad.Tape() as tape:
        y = tape.variable(2.0) * 3.0
    del tape
    for _ in range(10):
        with fad.Tape() as other:
            other.variable(5.0)
    assert y.value == 6.0


# --- memory --------------------------------------------------------------------------------------


def test_memory_of_a_scalar_node():
    """At most 40 bytes a node, growth included."""
    n = 300_000
    with fad.Tape() as tape:
        empty = tape.nbytes
        x = tape.variable(1.0)
        for _ in range(n):
            x = -x
    assert len(tape) == n + 1
    assert tape.nbytes - empty <= 40 * n * (2 if n < 2**20 else 1.25)
    assert 16 * n < tape.nbytes


@pytest.mark.slow
def test_memory_of_a_long_recording():
    n = 5_000_000
    with fad.Tape() as tape:
        x = tape.variable(1.0)
        for _ in range(n):
            x = -x
    assert tape.nbytes <= 40 * n
    assert tape.gradient(x, tape.recorder.array(0)) == 1.0


def test_limit_after_a_large_recording():
    """Memory that an earlier tape left is not counted against the next one's limit."""
    with fad.Tape() as large:
        large.variable(np.ones(10**6)) * 2
    del large
    with fad.Tape(limit=1 << 19) as tape:
        assert tape.nbytes <= 1 << 19
        x = tape.variable(2.0)
        y = np.sum(x * np.ones(100))
        assert tape.nbytes <= 1 << 19
    assert tape.gradient(y, x) == 100.0


def test_limit():
    with fad.Tape(limit=1 << 19) as tape:
        x = y = tape.variable(0.5)
        with pytest.raises(fad.TapeError, match="limit of 524288 bytes"):
            for _ in range(10**6):
                y = np.sin(y)
        assert tape.nbytes <= 1 << 19
        tape.verify()
        with pytest.raises(fad.TapeError, match="limit"):
            np.sum(x * np.ones(10**6))
        assert len(tape) > 1000
    assert tape.gradient(y, x) > 0


def test_memory_limit_of_transforms():
    f = lambda x: np.sum(np.sin(x) * x)
    x = np.ones(10**5)
    try:
        fad.set_memory_limit(1 << 20)
        with pytest.raises(fad.TapeError, match="limit"):
            fad.grad(f)(x)
        np.testing.assert_array_equal(fad.grad(f)(np.zeros(3)), np.zeros(3))
    finally:
        fad.set_memory_limit(0)
    assert fad.grad(f)(x).shape == (10**5,)
    with pytest.raises(ValueError, match="nbytes"):
        fad.set_memory_limit(-1)


def test_rewind_and_reset_of_a_recorder():
    recorder = _core.Recorder()
    recorder.open()
    x = recorder.variable(2.0)
    y = x * 7.0
    mark = len(recorder)
    z = y * 9.0
    recorder.rewind(mark)
    assert len(recorder) == mark
    again = y * 9.0
    assert again.value == z.value == 126.0
    recorder.verify()
    recorder.reset()
    assert len(recorder) == 0
    assert not recorder.is_open
    recorder.open()
    with pytest.raises(fad.TapeError, match="reset"):
        x + 1.0
    assert (recorder.variable(1.0) + 7.0).value == 8.0
    recorder.close()


def test_the_same_tape_serves_the_next_call():
    """A call of the same size takes no memory that the first did not take."""
    f = lambda x: np.sum(np.sin(x) * x)
    x = np.ones(1000)
    for _ in range(3):
        fad.grad(f)(x)
    before = _core.fail_allocation(0)
    for _ in range(20):
        fad.grad(f)(x)
    assert _core.fail_allocation(0) == before
