"""The command line: results, refusals, exit statuses; and that no formula can run code."""

import json
import math
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import fastad as fad
from fastad._expression import Expression, ExpressionError, parse_value
from fastad.cli import main

LECTURE = "sqrt(x**2 + exp(x**2)) + cos(x**2 + exp(x**2))"


def run(capsys, *argv):
    """Exit status, standard output, standard error."""
    status = main(argv)
    return status, *capsys.readouterr()


def report(capsys, *argv):
    status, out, err = run(capsys, *argv, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def error(capsys, *argv):
    """The one line of a refusal."""
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    return err


# --- results -------------------------------------------------------------------------------------


def test_the_lectures_function(capsys):
    status, out, err = run(capsys, "grad", LECTURE, "x=0.7")
    c = 0.49 + math.exp(0.49)
    slope = (0.5 / math.sqrt(c) - math.sin(c)) * (1 + math.exp(0.49)) * 1.4
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == f"f(x) = {LECTURE}"
    assert float(lines[3].split()[1]) == pytest.approx(math.sqrt(c) + math.cos(c), rel=1e-15)
    assert lines[4].split()[0] == "df/dx"
    assert float(lines[4].split()[1]) == pytest.approx(slope, rel=1e-14)
    assert [line.split()[0] for line in lines[6:]] == ["gate", "x", "a", "b", "c", "e", "d", "f"]


def test_json_has_everything(capsys):
    found = report(capsys, "grad", "(x + y) * z", "x=-2", "y=5", "z=-4")
    assert found["value"] == -12
    assert found["inputs"] == {"x": -2, "y": 5, "z": -4}
    assert found["gradient"] == {"x": -4, "y": -4, "z": 3}
    nodes = {node["name"]: node for node in found["nodes"]}
    assert nodes["a"]["op"] == "add"
    assert nodes["a"]["downstream"] == [-4, -4]
    assert nodes["b"]["operands"] == ["a", "z"]
    assert nodes["b"]["partials"] == [-4, 3]
    assert nodes["x"]["upstream"] == -4


def test_json_has_no_nan(capsys):
    found = report(capsys, "grad", "x/0 - inf*x + sum(y)", "x=1", "y=[1,inf]")
    assert found["value"] == "nan"
    assert found["inputs"]["y"] == [1, "inf"]


def test_arrays(capsys):
    found = report(capsys, "grad", "sum(A @ x) + norm(x) + max(x)", "A=[[1,2],[3,4]]", "x=[3,4]")
    assert found["value"] == 45
    np.testing.assert_allclose(found["gradient"]["x"], [4.6, 7.8])
    np.testing.assert_allclose(found["gradient"]["A"], [[3, 4], [3, 4]])
    assert "df/dx  [" in run(capsys, "grad", "sum(x**2)", "x=[1,2]")[1]


def test_higher_derivatives_of_one_number(capsys):
    found = report(capsys, "grad", "exp(2*x)", "x=0", "--order", "4")
    assert found["derivatives"] == pytest.approx([2, 4, 8, 16], rel=1e-14)
    out = run(capsys, "grad", "x**3", "x=2", "--order", "3")[1]
    assert [line.split() for line in out.splitlines()[3:7]] == [
        ["value", "8.0"], ["df/dx", "12.0"], ["d2f/dx2", "12.0"], ["d3f/dx3", "6.0"],
    ]  # fmt: skip


def test_hessian_of_several_inputs(capsys):
    found = report(capsys, "grad", "x**2 * sum(y**3)", "x=2", "y=[1,3]", "--order", "2")
    assert found["hessian"]["x"]["x"] == 56
    assert found["hessian"]["x"]["y"] == [12, 108]
    assert found["hessian"]["y"]["y"] == [[24, 0], [0, 72]]
    out = run(capsys, "grad", "x*y", "x=2", "y=3", "--order", "2")[1]
    assert "d2f/dxdy  1.0" in out


@pytest.mark.parametrize("ending", [".svg", ".dot", ".txt"])
def test_graph_files(capsys, tmp_path, ending):
    file = tmp_path / f"out{ending}"
    assert run(capsys, "grad", LECTURE, "x=0.7", "--graph", str(file))[0] == 0
    text = file.read_text(encoding="utf-8")
    assert "0.9328" in text
    assert "-1.874" in text
    if ending == ".svg":
        ET.fromstring(text)


def test_a_formula_may_begin_with_a_minus(capsys):
    assert report(capsys, "grad", "-x", "x=-2")["value"] == 2
    assert report(capsys, "grad", "-(x)**2", "x=3")["gradient"] == {"x": -6}


def test_info(capsys):
    status, out, err = run(capsys, "info")
    assert (status, err) == (0, "")
    assert fad.__version__ in out
    found = json.loads(run(capsys, "info", "--json")[1])
    assert found["numpy"] == np.__version__
    assert {"compiler", "flags", "instruction_set", "python", "optional packages"} <= set(found)
    assert not {"pytest", "sphinx", "ruff"} & set(found["optional packages"])


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("x*y", "x=1"), "no value for y: add y=…"),
        (("x", "x=1", "z=2"), "z is not in the formula x"),
        (("x", "x"), "expected name=value, such as x=0.7, not 'x'"),
        (("x", "1=2"), "expected name=value"),
        (("x", "x=y"), "the value of x: a value has no names in it, but here is 'y'"),
        (("x", "x="), "the value of x: the formula is empty"),
        (("x", "x=[1,[2]]"), "the value of x: column 1"),
        (("2 + 3",), "needs a name to differentiate by"),
        (("x", "x=[1,2]"), "shape (2,): sum(…) would make it a number"),
        (("x", "x=1", "--order", "0"), "--order goes from 1 to 8"),
        (("x*y", "x=1", "y=1", "--order", "3"), "--order above 2 needs a formula of one number"),
        (("x", "x=1", "--graph", "a.png"), "a drawing ends in .svg, .dot or .txt"),
    ],
)
def test_refusals_say_what_is_wrong(capsys, argv, words):
    assert words in error(capsys, "grad", *argv)


BAD = [
    ("__import__('os').system('touch x')", 1, "only functions can be called"),
    ("x.__class__", 1, "attributes are not allowed"),
    ("1 + x.real", 5, "attributes are not allowed"),
    ("().__class__.__bases__", 1, "attributes are not allowed"),
    ("[i for i in x]", 1, "comprehensions are not allowed"),
    ("sum(i for i in x)", 4, "comprehensions are not allowed"),
    ("lambda: x", 1, "lambda is not allowed"),
    ("(lambda: x)()", 1, "only functions can be called"),
    ("x if x else 2", 1, "write where(condition, a, b)"),
    ("x + (y := 3)", 6, "assignments are not allowed"),
    ("x ^ 2", 1, "write ** for a power"),
    ("x << 2", 1, "BinOp is not allowed"),
    ("~x", 1, "UnaryOp is not allowed"),
    ("x is x", 1, "Compare is not allowed"),
    ("x in x", 1, "Compare is not allowed"),
    ("'text' * x", 1, "'text' is not a real number"),
    ("f'{x}'", 1, "text is not allowed"),
    ("x * 1j", 5, "1j is not a real number"),
    ("x + True", 5, "True is not a real number"),
    ("x + None", 5, "None is not a real number"),
    ("x + ...", 5, "Ellipsis is not a real number"),
    ("x, x", 1, "write [a, b]"),
    ("{x}", 1, "sets are not allowed"),
    ("{1: x}", 1, "dictionaries are not allowed"),
    ("x[y]", 3, "a subscript must be made of whole numbers"),
    ("x[1.5]", 3, "a subscript must be made of whole numbers"),
    ("x[None]", 3, "a subscript must be made of whole numbers"),
    ("sum(*x)", 5, "* before an argument"),
    ("sum(x, axis=0)", 8, "arguments by name are not allowed"),
    ("sin(x, 2)", 1, "sin takes 1 argument, not 2"),
    ("arctan2(x)", 1, "arctan2 takes 2 arguments, not 1"),
    ("max()", 1, "max takes 1 argument, not 0"),
    ("x + eval(x)", 5, "there is no function 'eval'"),
    ("open(x)", 1, "there is no function 'open'"),
    ("frompyfunc(x, 1, 1)", 1, "there is no function 'frompyfunc'"),
    ("x + sine(x)", 5, "there is no function 'sine': do you mean sin?"),
    ("sin", 1, "no value for sin"),
    ("x +", 4, "not a formula"),
    ("(x", 1, "not a formula"),
    ("x x", 1, "not a formula"),
    ("import os", 1, "not a formula"),
    ("x = 3", 1, "not a formula"),
    ("x; x", 2, "not a formula"),
    ("x # y", 3, "comments are not allowed"),
    ("", None, "the formula is empty"),
    ("   ", None, "the formula is empty"),
    ("π*x.y", 3, "attributes are not allowed"),
    ("x[5]", 1, "index 5"),
    ("x @ [1,2]", 1, ""),
    ("1" * 400 + "*x", 1, "the number is too large"),
]


@pytest.mark.parametrize(("formula", "column", "words"), BAD, ids=[f[:20] for f, _, _ in BAD])
def test_formulas_that_are_not_allowed(capsys, formula, column, words):
    line = error(capsys, "grad", formula, "x=[1,2,3]")
    assert words in line
    if words.startswith("not a formula"):
        assert "column" in line  # Python's parser chooses which
    elif column is not None and not words.startswith("no value"):
        assert f"column {column}: " in line


@pytest.mark.parametrize(
    "formula",
    [
        "-" * 9_000 + "x",
        "(" * 4_000 + "x" + ")" * 4_000,
        "[" * 4_000 + "x" + "]" * 4_000,
        "x" + "**x" * 3_000,
        "x" + "+x" * 4_900,
        "not " * 2_000 + "x",
        "sin(" * 2_000 + "x" + ")" * 2_000,
        "x" + "[0]" * 3_000,
        "x" * 10_001,
        "x" + "<x" * 4_000,
        "1_" * 4_000 + "1*x",
        "\0x",
        "\ud800x",
        "x\\\n+1\\",
    ],
    ids=range(14),
)
def test_no_formula_exhausts_anything(formula):
    """Deep, long and strange text is refused, or understood, at once."""
    try:
        Expression(formula)(1.0)
    except ExpressionError as caught:
        assert len(str(caught)) < 300


def test_long_sums_within_the_limits_work():
    formula = Expression("x" + "+x" * 900)
    assert formula(2.0) == 1802
    assert fad.grad(formula)(2.0) == 901


def test_formulas_nested_beyond_the_limit_are_refused():
    with pytest.raises(ExpressionError, match="nested too deeply"):
        Expression("x" + "+x" * 1_500)


def test_random_text_is_refused_or_understood():
    """Text made of a formula's own pieces: nothing but ExpressionError may come out."""
    source = random.Random(7)
    pieces = [
        *("x", "y", "2", "0", ".5", "+", "-", "*", "/", "**", "//", "%", "(", ")", "[", "]", ","),
        *("sin", "sum", "where", "max", "<", "==", "and", "not", ":", "if", "lambda", ".", "pi"),
        *("for", "in", "'", "\\", "@", "=", "1e9", "é", "\t", "_", "[0]", "(x)", "exp(", "[x,y]"),
    ]
    understood = 0
    for _ in range(4000):
        text = "".join(source.choices(pieces, k=source.randint(1, 9)))
        try:
            f = Expression(text)
            f(*[0.5] * len(f.names))
            understood += 1
        except ExpressionError as caught:
            assert str(caught)
    assert understood > 50


def test_huge_powers_are_floats():
    assert Expression("9**9**9")() == math.inf
    assert Expression("2**0.5 - 7//2 + 7%4")() == 2**0.5
    assert Expression("1/0")() == math.inf
    assert math.isnan(Expression("0/0")())


def test_names_that_are_functions_of_the_process_stay_names():
    assert Expression("__import__ + exit").names == ("__import__", "exit")
    assert Expression("e + pi").names == ()
    assert Expression("e + pi", given={"e": 1}).names == ("e",)


# --- formulas as functions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("x + y*2 - -y", 9),
        ("where(x > y, x, y) + where(x > 1 and not y > 3, 1, 2)", 2.5 + 1),
        ("where(0 < x < 1, 10, 20)", 20),
        ("max(x, y, 3) - min(x, y, 3)", 1.5),
        ("sum([x, y])**2", 16),
        ("[x, y, 1][-1] + sum([x, y, 1][:2])", 5),
        ("dot([1, 2], [3, 4]) + mean([1, 2, 3]) + prod([2, 3])", 19),
        ("abs(-x) + asin(0) + power(x, 2) + var([1, 3]) + std([1, 3])", 1.5 + 2.25 + 2),
        ("log(e) + cos(pi) + exp(-inf)", 0),
        ("sum([[1, 2], [3, 4]] @ [1, 1])", 10),
    ],
)
def test_values(formula, value):
    f = Expression(formula)
    given = {"x": 1.5, "y": 2.5}
    assert f(*[given[name] for name in f.names]) == pytest.approx(value, rel=1e-15)


def test_every_function_of_the_table_by_every_name_of_numpy():
    for alias in ("arcsin", "asin", "pow", "acos", "atan2", "abs", "fabs", "hypot", "heaviside"):
        count = getattr(np, alias).nin
        f = Expression(f"{alias}({', '.join('ab'[:count])})")
        values = [0.3, 0.6][:count]
        assert f(*values) == getattr(np, alias)(*values)
        assert fad.grad(f)(*values) == fad.grad(getattr(np, alias))(*values)


def test_equal_parts_are_one_part():
    f = Expression("sin(x)*sin(x) + sin( x ) + cos(x)")
    g = fad.graph.ComputationalGraph.record(f, 0.5)
    ops = [gate.op for gate in g.gates]
    assert (ops.count("sin"), ops.count("cos")) == (1, 1)
    assert fad.grad(f)(0.5) == pytest.approx(
        2 * math.sin(0.5) * math.cos(0.5) + math.cos(0.5) - math.sin(0.5), rel=1e-14
    )
    assert Expression("x[0] + x[1] + x[0]")(np.array([1.0, 5.0])) == 7
    assert Expression("(-0.0)/1 + 0.0/1")() == 0


def test_values_as_text():
    assert parse_value("sqrt(4)") == 2.0
    np.testing.assert_array_equal(parse_value("[[1,2],[3,4]]"), [[1, 2], [3, 4]])
    with pytest.raises(ExpressionError, match="too large"):
        parse_value("9" * 400)


# --- the process ---------------------------------------------------------------------------------


def process(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastad", *argv], capture_output=True, text=True, **options
    )


def test_exit_statuses_of_the_process(tmp_path):
    assert process("grad", "x*x", "x=3").stdout.splitlines()[4] == "df/dx  6.0"
    missing = process("grad", "x", "x=1", "--graph", str(tmp_path / "no" / "such.svg"))
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert process("grad", "x +", "x=1").returncode == 2
    assert process().returncode == 2
    assert process("--help").returncode == 0


def test_without_the_layout_library(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    status, _, err = run(capsys, "grad", "x", "x=1", "--graph", str(tmp_path / "out.svg"))
    assert status == 1
    assert "pip install fastad[graph]" in err
    assert err.count("\n") == 1


def test_a_reader_that_stops_reading():
    """`fastad grad ... | head -1` ends without a traceback."""
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(
        [sys.executable, "-m", "fastad", "grad", "x", "x=1"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (found.returncode, found.stderr) == (1, b"")
