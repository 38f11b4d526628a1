"""ComputationalGraph: the lecture's graphs by hand, and every path to a graph against fad.grad."""

import math

import numpy as np
import pytest

import fastad as fad
from fastad.graph import ComputationalGraph, topological_sort


def product_of_sum():
    """The lecture's f(x, y, z) = (x + y) z."""
    g = ComputationalGraph("f(x, y, z) = (x + y) z")
    x, y, z = g.input("x"), g.input("y"), g.input("z")
    g.mul(g.add(x, y, name="q"), z, name="f")
    return g


def lecture(x):
    a = x**2
    c = a + np.exp(a)
    return np.sqrt(c) + np.cos(c)


# --- the lecture's graphs ------------------------------------------------------------------------


def test_product_of_sum():
    g = product_of_sum()
    assert g.forward({"x": -2, "y": 5, "z": -4}) == -12
    assert g.backward() == {"x": -4, "y": -4, "z": 3}
    assert g.values == {"x": -2, "y": 5, "z": -4, "q": 3, "f": -12}
    assert g.gradients == {"x": -4, "y": -4, "z": 3, "q": -4, "f": 1}


def test_lecture_by_hand_with_the_lectures_names():
    g = ComputationalGraph()
    a = g.square(g.input("x"), name="a")
    b = g.exp(a, name="b")
    c = g.add(a, b, name="c")
    g.add(g.sqrt(c, name="d"), g.cos(c, name="e"), name="f")
    x = 0.7
    assert g.forward(x) == pytest.approx(lecture(x), rel=1e-15)
    assert g.backward()["x"] == pytest.approx(fad.grad(lecture)(x), rel=1e-14)
    # By hand: dc/dx = 2x (1 + exp x²), df/dc = 1/(2 sqrt c) - sin c.
    value_c = x**2 + math.exp(x**2)
    slope_c = 0.5 / math.sqrt(value_c) - math.sin(value_c)
    assert g.gradients["c"] == pytest.approx(slope_c, rel=1e-14)
    assert g.gradients["a"] == pytest.approx(slope_c * (1 + math.exp(x**2)), rel=1e-14)
    assert g.gradients["x"] == pytest.approx(slope_c * (1 + math.exp(x**2)) * 2 * x, rel=1e-14)


def test_lecture_recorded_has_the_lectures_names():
    g = ComputationalGraph.record(lecture, 0.7)
    found = {gate.name: (gate.op, *(operand.name for operand in gate.operands)) for gate in
             g.nodes_topologically_sorted()}  # fmt: skip
    assert found == {
        "x": ("input",),
        "a": ("square", "x"),
        "b": ("exp", "a"),
        "c": ("add", "a", "b"),
        "d": ("sqrt", "c"),
        "e": ("cos", "c"),
        "f": ("add", "d", "e"),
    }


def test_forward_and_backward_are_the_lectures_loops(monkeypatch):
    """Every gate's own forward, in topological order; every gate's own backward, reversed."""
    g = product_of_sum()
    calls = []

    def watch(gate, step):
        run = getattr(gate, step)
        monkeypatch.setattr(gate, step, lambda: (calls.append((step, gate.name)), run()))

    for gate in g.nodes_topologically_sorted():
        watch(gate, "forward")
        watch(gate, "backward")
    g.forward(1, 2, 3)
    g.backward()
    order = [gate.name for gate in g.nodes_topologically_sorted()]
    assert calls == [("forward", n) for n in order] + [("backward", n) for n in reversed(order)]


def test_order_is_that_of_topological_sort():
    g = ComputationalGraph.record(lecture, 0.7)
    gates = g.nodes_topologically_sorted()
    assert gates == topological_sort({gate: gate.consumers for gate in gates})
    position = {gate: i for i, gate in enumerate(gates)}
    assert all(position[o] < position[gate] for gate in gates for o in gate.operands)


# --- every operation of the table -----------------------------------------------------------------

SAMPLES = {"above one": 1.7, "unit": 0.3}


@pytest.mark.parametrize("row", [r for r in fad.OPS.values() if r.numpy_name], ids=lambda r: r.name)
def test_every_row_of_the_table_is_a_gate(row):
    """Its value is NumPy's, its local partials those of fad.grad, which sees only the table."""
    function = getattr(np, row.numpy_name)
    values = [SAMPLES.get(domain, 0.4 + 0.3 * i) for i, domain in enumerate(row.domains)]
    g = ComputationalGraph()
    gate = g.gate(row.numpy_name, *[g.input(f"x{i}") for i in range(row.arity)])
    assert g.forward(*values) == pytest.approx(function(*values), rel=1e-15)
    found = g.backward()
    if row.kind == "PREDICATE":
        assert gate.value.dtype == bool
        assert set(found.values()) == {0.0}
        return
    want = fad.grad(function, argnums=tuple(range(row.arity)))(*values)
    assert list(found.values()) == pytest.approx(want, rel=1e-15)
    assert list(gate.partials) == pytest.approx(want, rel=1e-15)


def test_operations_are_methods_by_numpys_and_by_short_names():
    g = ComputationalGraph()
    x, y = g.input("x"), g.input("y")
    assert g.mul(x, y).op == g.multiply(x, y).op == g.gate("mul", x, y).op == "multiply"
    assert g.max(x, y).op == "maximum"
    assert {"mul", "max", "arctan2", "forward"} <= set(dir(g))
    with pytest.raises(AttributeError, match="frobnicate"):
        g.frobnicate(x)


@pytest.mark.parametrize(("x", "y", "shares"), [(1, 2, (0, 1)), (2, 1, (1, 0)), (3, 3, (0.5, 0.5))])
def test_max_gate_routes_and_splits_ties(x, y, shares):
    g = ComputationalGraph()
    g.max(g.input("x"), g.input("y"))
    g.forward(x, y)
    assert tuple(g.backward().values()) == shares


def test_a_zero_gradient_stays_zero_behind_an_infinite_partial():
    g = ComputationalGraph()
    x = g.input("x")
    g.where(g.greater(x, 0.0), g.sqrt(x), 0.0)
    assert g.forward(0.0) == 0
    assert g.backward() == {"x": 0.0}
    assert g.gradients == {"x": 0.0, "sqrt1": 0.0, "where1": 1.0}
    assert g["sqrt1"].partials == (math.inf,)


def test_a_gate_used_twice_sums_its_contributions():
    g = ComputationalGraph()
    x = g.input("x")
    g.mul(x, x)
    g.forward(3)
    assert g.backward() == {"x": 6}


# --- arrays --------------------------------------------------------------------------------------


def test_arrays_broadcast():
    g = ComputationalGraph()
    a, b = g.input("a"), g.input("b")
    g.gate("sum", g.mul(g.sin(a), b))
    one, other = np.linspace(0, 1, 6).reshape(2, 3), np.array([[2.0], [3.0]])
    g.forward(one, other)
    found = g.backward()
    want = fad.grad(lambda a, b: np.sum(np.sin(a) * b), argnums=(0, 1))(one, other)
    assert found["a"].shape == (2, 3)
    assert found["b"].shape == (2, 1)
    np.testing.assert_allclose(found["a"], want[0], rtol=1e-15)
    np.testing.assert_allclose(found["b"], want[1], rtol=1e-15)


def test_functions_with_options():
    g = ComputationalGraph()
    x = g.input("x")
    g.gate("sum", g.gate("square", g.gate("sum", x, axis=0)))
    value = np.arange(6.0).reshape(2, 3)
    assert g.forward(value) == np.sum(np.sum(value, axis=0) ** 2)
    np.testing.assert_allclose(g.backward()["x"], np.tile(2 * value.sum(axis=0), (2, 1)))


def test_inputs_are_copied():
    g = ComputationalGraph()
    g.gate("sum", g.square(g.input("x")))
    value = np.array([1.0, 2.0])
    g.forward(value)
    value[:] = 100
    np.testing.assert_array_equal(g.backward()["x"], [2, 4])


def test_single_precision_stays():
    g = ComputationalGraph()
    g.gate("sum", g.square(g.input("x")))
    g.forward(np.array([1, 2], np.float32))
    assert g.backward()["x"].dtype == np.float32


# --- recorded functions --------------------------------------------------------------------------

A = np.arange(6.0).reshape(2, 3) + 1
V = np.arange(3.0) + 1
FUNCTIONS = {
    "lecture": (lecture, (0.7,)),
    "scalars": (lambda x, y: x * y + np.sin(x) / y - 2**x, (1.2, 2.5)),
    "where": (lambda x: np.sum(np.where(x > 2, np.log(x), 0 * x)), (A,)),
    "views": (lambda x: x[1] * x[0] ** 2 + np.sum(x[::-1] * x), (V,)),
    "sums": (lambda x: np.sum(np.sin(x) * x, axis=0)[1] + np.mean(x), (A,)),
    "broadcast": (lambda x, y: np.sum(x * y), (A, V)),
    "matmul": (lambda a, b: np.sum((a @ b) ** 2), (A, A.T)),
    "matmul of related": (lambda a: np.sum(np.exp(a @ (a * 0.01).T)), (A,)),
    "concatenate of related": (lambda x: np.sum(np.concatenate([x, 2 * x]) ** 2), (V,)),
    "stack of related": (lambda x: np.sum(np.stack([x, x**2]) ** 2), (A,)),
    "object array": (lambda x: np.sum(np.array([x, x * x]) ** 3), (3.0,)),
    "custom rule": (lambda x: np.linalg.det(x), (np.eye(3) + 0.1 * np.arange(9.0).reshape(3, 3),)),
    "statistics": (lambda x: np.var(x) + np.max(x) + np.prod(x), (A,)),
    "cumulative": (lambda x: np.sum(np.cumsum(x) * x), (V,)),
    "unused input": (lambda x, y: x * x, (2.0, 3.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_recorded_functions_have_fad_grads_gradients(name):
    f, args = FUNCTIONS[name]
    g = ComputationalGraph.record(f, *args)
    for point in (args, [np.asarray(arg) * 1.1 + 0.2 for arg in args], args):
        value = g.forward(*point)
        want, gradients = fad.value_and_grad(f, argnums=tuple(range(len(args))))(*point)
        np.testing.assert_allclose(value, want, rtol=1e-14)
        for found, gradient in zip(g.backward().values(), gradients, strict=True):
            np.testing.assert_allclose(found, gradient, rtol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_intermediate_gradients_are_the_tapes(name):
    f, args = FUNCTIONS[name]
    with fad.Tape() as tape:
        output = f(*[tape.variable(arg) for arg in args])
    g = ComputationalGraph.from_tape(tape, output)
    g.backward()
    partials = tape.gradients(output)
    kept = {node.index for node in tape.nodes() if node.op == "VARIABLE"} | {output.node}
    for node in reversed(tape.nodes()):
        if node.index in kept:
            kept.update(node.parents)
    gates = [gate for gate in g.gates if gate.op != "constant"]
    nodes = [n for n in tape.nodes() if n.index in kept and n.op != "CONSTANT"]
    assert len(gates) == len(nodes)
    for gate, node in zip(gates, nodes, strict=True):
        if gate.gradient is not None:
            np.testing.assert_allclose(gate.gradient, partials.at(node.index), rtol=1e-13)


def test_branches_are_those_of_the_new_inputs():
    def f(x):
        return x * x if x > 0 else -3 * x

    g = ComputationalGraph.record(f, 2.0)
    assert (g.forward(2.0), g.backward()["x"]) == (4, 4)
    assert (g.forward(-2.0), g.backward()["x"]) == (6, -3)
    assert (g.forward(5.0), g.backward()["x"]) == (25, 10)


def test_gates_stay_while_the_path_stays():
    g = ComputationalGraph.record(lecture, 0.5)
    gate = g["c"]
    g.forward(0.9)
    assert g["c"] is gate
    assert gate.value == 0.9**2 + np.exp(0.9**2)


def test_from_tape_keeps_names_and_takes_new_inputs_while_it_can():
    with fad.Tape() as tape:
        x = tape.variable(2.0, name="alpha")
        y = tape.variable(3.0)
        z = x * np.exp(y)
    g = ComputationalGraph.from_tape(tape, z)
    assert [gate.name for gate in g.inputs] == ["alpha", "x2"]
    assert list(g.backward().values()) == tape.gradient(z, [x, y])
    assert g.forward(alpha=1, x2=0) == 1

    with fad.Tape() as tape:
        x = tape.variable(V)
        z = np.sum(x)
    g = ComputationalGraph.from_tape(tape, z)
    np.testing.assert_array_equal(g.backward()["x1"], np.ones(3))
    with pytest.raises(ValueError, match=r"ComputationalGraph\.record"):
        g.forward(V)


def test_a_function_of_nothing_is_an_error():
    with pytest.raises(TypeError, match="nothing that depends"):
        ComputationalGraph.record(lambda x: 3.0, 1.0)


def test_an_error_in_the_function_leaves_the_recorder_usable():
    with pytest.raises(ZeroDivisionError):
        ComputationalGraph.record(lambda x: x / 0 + 1 // 0, 1.0)
    assert fad.grad(np.sin)(0.0) == 1


# --- inputs and misuse ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        (({"x": 1, "y": 2, "z": 3},), {}),
        ((1, 2, 3), {}),
        (([1, 2, 3],), {}),
        ((), {"x": 1, "y": 2, "z": 3}),
        ((1,), {"z": 3, "y": 2}),
        (({"x": 1, "y": 2},), {"z": 3}),
    ],
)
def test_ways_to_give_inputs(inputs, named):
    assert product_of_sum().forward(*inputs, **named) == 9


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((1, 2), r"no value for the inputs \['z'\]"),
        ((1, 2, 3, 4), "4 values for the 3 inputs"),
        (({"x": 1, "y": 2, "z": 3, "w": 4},), r"values for \['w'\]"),
    ],
)
def test_missing_and_unknown_inputs_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        product_of_sum().forward(*inputs)


@pytest.mark.parametrize("value", ["text", 1 + 2j, None, [object()]])
def test_inputs_are_real_numbers(value):
    with pytest.raises(TypeError, match="the value of x must be real"):
        product_of_sum().forward({"x": value, "y": 1, "z": 1})


def test_passes_come_in_order():
    g = product_of_sum()
    with pytest.raises(RuntimeError, match="forward pass first"):
        g.backward()
    with pytest.raises(RuntimeError, match="forward pass first"):
        g.values  # noqa: B018
    g.forward(1, 2, 3)
    with pytest.raises(RuntimeError, match="backward pass first"):
        g.gradients  # noqa: B018
    g.backward()
    g.forward(1, 2, 4)
    with pytest.raises(RuntimeError, match="backward pass first"):
        g.explain()
    g.exp(g["q"])
    with pytest.raises(RuntimeError, match="forward pass first"):
        g.backward()


def test_repeated_passes_do_not_pile_up():
    g = product_of_sum()
    for _ in range(3):
        g.forward(-2, 5, -4)
        assert g.backward() == {"x": -4, "y": -4, "z": 3}
        assert g.backward() == {"x": -4, "y": -4, "z": 3}


def test_final_gate_must_be_scalar_and_can_be_chosen():
    g = ComputationalGraph()
    squares = g.square(g.input("x"))
    total = g.gate("sum", squares)
    g.output = squares
    g.forward([1.0, 2.0])
    with pytest.raises(TypeError, match=r"square1 has shape \(2,\)"):
        g.backward()
    g.output = total
    assert g.forward([1.0, 2.0]) == 5


def test_misuse_of_gates():
    g, other = product_of_sum(), product_of_sum()
    with pytest.raises(ValueError, match="already has a gate called 'q'"):
        g.exp(g["x"], name="q")
    with pytest.raises(ValueError, match="not a gate of this graph"):
        g.exp(other["x"])
    with pytest.raises(ValueError, match="add takes 2 operands, got 1"):
        g.add(g["x"])
    with pytest.raises(ValueError, match="no operation 'frobnicate'"):
        g.gate("frobnicate", g["x"])
    with pytest.raises(TypeError, match="no options"):
        g.add(g["x"], g["y"], axis=0)
    with pytest.raises(ValueError, match="no gates"):
        ComputationalGraph().forward()


def test_a_deep_graph():
    """Ten thousand gates in a row, and no recursion."""
    g = ComputationalGraph()
    gate = g.input("x")
    for _ in range(10_000):
        gate = g.neg(gate)
    assert g.forward(2) == 2
    assert g.backward() == {"x": 1}


def test_a_graph_works_inside_a_recording_and_leaves_it_alone():
    with fad.Tape() as tape:
        x = tape.variable(2.0)
        g = product_of_sum()
        assert g.forward(-2, 5, -4) == -12
        assert g.backward() == {"x": -4, "y": -4, "z": 3}
        h = ComputationalGraph.record(lecture, 0.7)
        assert h.backward()["x"] == pytest.approx(-1.8740017049647133, rel=1e-14)
        y = x * x
    assert tape.gradient(y, x) == 4


# --- explanations --------------------------------------------------------------------------------


def test_explanation_of_the_lectures_gates():
    g = product_of_sum()
    g.forward(-2, 5, -4)
    g.backward()
    rows = g.explain()
    q, f = rows["q"], rows["f"]
    assert (q.op, q.operands, q.value, q.upstream) == ("add", ("x", "y"), 3, -4)
    assert (q.partials, q.downstream) == ((1, 1), (-4, -4))
    assert (f.partials, f.upstream, f.downstream) == ((-4, 3), 1, (-4, 3))
    assert q.words == "distributes: every operand gets the gradient -4"
    assert f.words.startswith("swaps: each operand gets the gradient 1 times the other operand")
    assert [row.name for row in rows] == [g.name for g in g.nodes_topologically_sorted()]
    assert rows["q"].as_dict()["downstream"] == (-4, -4)
    with pytest.raises(KeyError):
        rows["nothing"]


@pytest.mark.parametrize(
    ("op", "values", "words"),
    [
        ("add", (1, 2), "distributes: every operand gets the gradient 1"),
        ("sub", (1, 2), "distributes: the first operand gets the gradient 1, the second its neg"),
        ("mul", (1, 2), "swaps: each operand gets the gradient 1 times the other operand"),
        ("max", (1, 2), "routes: the gradient 1 goes to x1 alone"),
        ("min", (1, 2), "routes: the gradient 1 goes to x0 alone"),
        ("max", (2, 2), "routes: a tie, the gradient 1 is split evenly"),
        ("neg", (1,), "flips the sign of the gradient 1"),
        ("exp", (0,), "scales the gradient 1 by its local derivative 1"),
        ("div", (1, 2), "scales the gradient 1 by the local derivatives 0.5, -0.25"),
    ],
)
def test_words(op, values, words):
    g = ComputationalGraph()
    gate = g.gate(op, *[g.input(f"x{i}") for i in range(len(values))])
    g.forward(*values)
    g.backward()
    assert g.explain()[gate.name].words.startswith(words)


def test_words_count_contributions():
    g = ComputationalGraph.record(lecture, 0.7)
    g.backward()
    rows = g.explain()
    assert rows["a"].words.endswith("its own is the sum of 2 contributions")
    assert "contributions" not in rows["b"].words
    assert rows["f"].words.endswith("the final gate begins with 1")


def test_table_of_the_explanation_lines_up():
    g = product_of_sum()
    g.forward(-2, 5, -4)
    g.backward()
    lines = str(g.explain()).splitlines()
    assert len(lines) == 1 + len(g)
    start = lines[0].index("upstream")
    assert lines[4].split()[0] == "q" or "q " in "\n".join(lines)
    for line, row in zip(lines[1:], g.explain(), strict=True):
        assert line[start:].split()[0] == f"{row.upstream:g}"


def test_a_gradient_is_downstream_summed_over_consumers():
    g = ComputationalGraph.record(lecture, 0.7)
    g.backward()
    rows = list(g.explain())
    for row in rows[:-1]:
        received = [
            share
            for other in rows
            for operand, share in zip(other.operands, other.downstream, strict=True)
            if operand == row.name
        ]
        assert row.upstream == pytest.approx(sum(received), rel=1e-15)
