"""The benchmarks measure what they say: gradients by hand, verdicts, and every case in brief."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
OURS = {"functions", "harness", "one_shot", "replay", "peers", "compare", "workloads"}


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    """`benchmarks/` as compare.py finds it: first on the path, its modules forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in OURS:
            del sys.modules[name]


def differences(function, x, step=1e-5):
    """Central differences of a value."""
    shifts = step * np.eye(len(x))
    return np.array([(function(x + d) - function(x - d)) / (2 * step) for d in shifts])


def test_rosenbrock_by_hand():
    from functions import rosenbrock

    x = rosenbrock.point(6)
    np.testing.assert_allclose(rosenbrock.gradient(x), differences(rosenbrock.value, x), rtol=1e-6)
    assert rosenbrock.value_of_scalars(x.tolist()) == pytest.approx(rosenbrock.value(x), rel=1e-14)
    assert rosenbrock.value_in(np)(x) == rosenbrock.value(x)


@pytest.mark.parametrize("name", ["variables", "constants"])
def test_chain_by_hand(name):
    from functions import chain

    body, steps = getattr(chain, name), 5
    found = differences(lambda point: body(steps, *point), chain.POINT)
    expected = chain.gradient(steps, with_factors=name == "variables")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert body(steps, *chain.POINT.tolist()) == chain.value(steps)
    assert chain.own_copy(body).__code__ is not body.__code__


def test_dense_by_hand():
    from functions import dense

    point = dense.point(3, 4)
    value, gradient = dense.value_and_gradient(point, 3, 4)

    def plain(flat):
        return dense.stack(*dense.nested(list(flat), 3, 4))

    assert plain(point) == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(gradient, differences(plain, point), rtol=1e-6, atol=1e-9)


def test_written_recurrence_by_hand():
    from functions import written_recurrence

    x = written_recurrence.point(6)
    expected = differences(written_recurrence.value, x)
    np.testing.assert_allclose(written_recurrence.gradient(x), expected, rtol=1e-6)
    np.testing.assert_allclose(differences(written_recurrence.table, x), 8 * expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_operations_are_counted(steps):
    from functions import counted, pendulum, recurrence, shooting, tangle

    def shots(x):
        return shooting.objective(x, counted.sin, counted.tanh)

    found = counted.count(shots, shooting.point(steps))
    assert found.operations == shooting.operations(steps)
    assert found.transcendental == shooting.TRANSCENDENTAL_A_STEP * steps
    found = counted.count(recurrence.last_position, recurrence.point(steps))
    assert found.operations == recurrence.operations(steps)
    found = counted.count(lambda x: pendulum.outcome(*x, counted.sin), [0.1, 0.2, 0.3])
    assert found.operations == pendulum.OPERATIONS
    assert found.reverse == pendulum.GRADIENT_OPERATIONS
    assert 10 * found.transcendental <= pendulum.OPERATIONS
    function = tangle.written(1000 * steps)
    found = counted.count(lambda x: function(x, counted.sin, counted.tanh), tangle.point())
    assert found.operations == 1000 * steps


def test_a_textbook_reverse_sweep():
    from functions import counted

    tally = counted.count(lambda x: x[0] * x[1] + 2.0 * x[0] - counted.tanh(x[0] / x[1]), [1.0, 2])
    assert (tally.operations, tally.transcendental) == (6, 1)
    # products 2 + 1, the minus 1, tanh 3, the quotient 3; x[0] has three uses and x[1] two
    assert tally.reverse == 2 + 1 + 1 + 3 + 3 + 2 + 1


def test_pendulum_by_complex_steps():
    from functions import pendulum

    points = pendulum.points(5)
    values, gradients = pendulum.values_and_gradients(points)
    for lane in range(5):
        x = np.array([each[lane] for each in points])
        found = differences(lambda x: pendulum.outcome(*x, np.sin), x)
        np.testing.assert_allclose(gradients[:, lane], found, rtol=1e-6, atol=1e-8)
        assert values[lane] == pendulum.outcome(*x, np.sin)


def test_slope_error_sees_a_wrong_partial():
    from functions import shooting
    from harness.session import slope_error

    x = shooting.point(3)
    gradient = differences(lambda x: shooting.objective(x, np.sin, np.tanh), x)

    def complex_(x):
        return shooting.objective(x, np.sin, np.tanh)

    assert slope_error(complex_, x, gradient) < 1e-7
    gradient[4] *= 1.001
    assert slope_error(complex_, x, gradient) > 1e-6
    assert slope_error(complex_, x, gradient * np.nan) == math.inf


def test_every_path_is_taken():
    from functions import paths

    seen = []
    for x in paths.points(4000).tolist():
        paths.toll(x, math.sin, math.tanh, seen.append)
    assert len(set(seen)) == paths.PATHS
    assert min(seen.count(path) for path in set(seen)) >= 4


@pytest.mark.parametrize("n", [2, 3, 17, 18, 19, 100])
def test_native_rosenbrock(n):
    from functions import rosenbrock
    from replay import native

    x = rosenbrock.point(n)
    for name in ("rosenbrock_plain", "rosenbrock_wide"):
        try:
            prepared = native.rosenbrock(x, name)
        except native.NativeError as error:
            pytest.skip(str(error))
        value, gradient = prepared.read(prepared.call())
        assert value == pytest.approx(rosenbrock.value(x), rel=1e-13)
        np.testing.assert_allclose(gradient, rosenbrock.gradient(x), rtol=1e-12)


def test_a_missing_compiler_is_reported(monkeypatch):
    from replay import native, rosenbrock

    monkeypatch.setenv("CC", "no-such-compiler --flag")
    with pytest.raises(native.NativeError, match="no-such-compiler not found"):
        native.library()
    found, lines = rosenbrock._native(np.ones(1000))
    assert found == {}
    assert {line.verdict for line in lines} == {"missing"}


def test_verdicts():
    from harness import report

    assert report.Line("a", 1.0, bar=report.at_most(1.0)).verdict == "PASS"
    assert report.Line("a", 1.1, bar=report.at_most(1.0)).verdict == "MISS"
    assert report.Line("a", 9.0, bar=report.at_least(10)).verdict == "MISS"
    assert report.Line("a", math.nan, bar=report.at_most(1.0)).verdict == "MISS"
    assert report.Line("a", 1.0, bar=report.at_most(1.0), spread=0.3).verdict == "noisy"
    assert report.Line("a", 1.1, bar=report.at_most(1.0), spread=0.3).verdict == "MISS"
    assert report.Line("a", 1.0).verdict == "info"
    assert report.Line("a", bar=report.at_most(1.0)).verdict == "missing"
    assert report.missing("a", "why", report.at_least(0.0)).verdict == "missing"


def test_a_wrong_gradient_is_not_timed():
    from harness.session import checked
    from peers.base import Prepared

    gradient = np.array([1.0, 2.0])

    def contender(found):
        return Prepared(lambda: found, lambda found: found)

    def raising(_):
        raise ArithmeticError("planted")

    calls, faults = checked(
        {
            "right": contender((3.0, gradient)),
            "gradient": contender((3.0, gradient * (1 + 1e-8))),
            "value": contender((3.1, gradient)),
            "shape": contender((3.0, gradient[:, None])),
            "nan": contender((3.0, gradient * np.nan)),
            "raises": Prepared(lambda: None, raising),
        },
        3.0,
        gradient,
    )
    assert list(calls) == ["right"]
    assert {line.what for line in faults} == {"gradient", "value", "shape", "nan", "raises"}
    assert {line.verdict for line in faults} == {"WRONG"}


def test_a_bar_is_owed():
    from harness.owing import owing
    from harness.report import Line, at_most

    bars = {"a": at_most(1.0), "b": at_most(2.0)}

    def broken(_session):
        yield Line("a", 0.5)
        raise ArithmeticError("planted")

    def verdicts(run, *lacking):
        return {line.what: line.verdict for line in owing(bars, run, *lacking)(None)}

    assert verdicts(broken) == {"a": "PASS", "b": "WRONG"}
    assert verdicts(lambda _: [Line("b", 3.0), Line("c", 9.0)]) == {
        "b": "MISS",
        "c": "info",
        "a": "WRONG",
    }
    assert verdicts(broken, lambda: "no compile") == {"a": "missing", "b": "missing"}
    (line,) = list(owing({"a": at_most(1.0)}, lambda _: (), lambda: "no compile")(None))
    assert line.note == "no compile"


def test_interleaving_gives_every_contender_its_rounds():
    from harness.timing import Effort, interleave

    effort = Effort(rounds=4, blocks=2, block_seconds=1e-4)
    figures = interleave({"a": lambda: sum(range(10)), "b": lambda: sum(range(1000))}, effort)
    assert [len(figure.rounds) for figure in figures.values()] == [4, 4]
    assert figures["b"].seconds > figures["a"].seconds > 0


def test_absent_peers_are_reported():
    import peers

    present, absent = peers.load_all(("no_such_package",))
    assert present == []
    assert "not installed" in absent["no_such_package"]


def brief(package, name):
    """The lines of one case with next to no effort, fastad alone."""
    import peers
    from harness.session import Session
    from harness.timing import Effort

    effort = Effort(rounds=1, blocks=1, block_seconds=1e-5)
    absent = {"torch": "left out", "jax": "left out"}
    session = Session(peers.load("fastad")[0], [], absent, effort, quick=True)
    (case,) = (case for case in package.CASES if case.name == name)
    return list(case.run(session))


def right(lines):
    """The verdicts, none of which is WRONG."""
    from harness.report import table

    verdicts = {line.verdict for line in lines}
    assert "WRONG" not in verdicts, table("in brief", lines)
    return verdicts


CASES = ["record-scalar", "record-array", "reverse", "rosenbrock-3", "rosenbrock-10000"]


@pytest.mark.parametrize("name", CASES)
def test_case_in_brief(name):
    """Every gradient of ours is right, by the benchmark's own check; no word on speed."""
    pytest.importorskip("fastad")
    import one_shot

    assert right(brief(one_shot, name)) & {"PASS", "MISS", "noisy"}


REPLAY_CASES = {
    "rosenbrock-3": ("compile",),
    "rosenbrock-10000": ("compile",),
    "steps": ("compile",),
    "dense": ("compile",),
    "irregular": ("compile",),
    "sequential": ("compile",),
    "vmap": ("compile", "vmap"),
    "scan": ("scan",),
    "paths": ("compile",),
}


@pytest.mark.parametrize("name", REPLAY_CASES)
def test_replay_case_in_brief(name):
    """Every value and gradient is right; a bar whose function is not there yet is missing."""
    fad = pytest.importorskip("fastad")
    import replay

    verdicts = right(brief(replay, name))
    if all(hasattr(fad, needed) for needed in REPLAY_CASES[name]):
        assert verdicts & {"PASS", "MISS", "noisy"}
    else:
        assert verdicts == {"missing"}


@pytest.mark.parametrize(
    "name", ["rosenbrock-3", "rosenbrock-10000", "steps", "irregular", "paths"]
)
def test_a_wrong_replay_never_passes(name, monkeypatch):
    fad = pytest.importorskip("fastad")
    import replay

    def planted(function, **_options):
        return lambda *arguments: 1.0001 * function(*arguments)

    monkeypatch.setattr(fad, "compile", planted, raising=False)
    lines = brief(replay, name)
    assert {line.verdict for line in lines if line.bar} <= {"WRONG", "MISS", "missing"}
    assert {line.verdict for line in lines} & {"WRONG", "MISS"}


WORKLOADS = ["det", "gmm", "kmeans", "llsq", "lse", "lstm", "ode", "ba"]


def small(name):
    """A workload, its data at the small size, and what the C by hand computes."""
    from replay.native import NativeError
    from workloads import WORKLOADS
    from workloads.contenders import by_hand

    workload = WORKLOADS[name]
    data = workload.data(workload.small)
    try:
        value = by_hand.prepare(workload, data, "value").first()[0]
        return workload, data, value, by_hand.prepare(workload, data, "gradient").first()
    except NativeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_by_hand(name):
    """The C agrees with the plain objective and with its differences."""
    workload, data, value, found = small(name)
    shapes = [each.shape for each in data.variables]
    ends = np.cumsum([each.size for each in data.variables])[:-1]

    def objective(flat):
        parts = [a.reshape(b) for a, b in zip(np.split(flat, ends), shapes, strict=True)]
        return workload.objective(*parts, *data.constants, **data.static)

    flat = np.concatenate([each.ravel() for each in data.variables])
    np.testing.assert_allclose(value, objective(flat), rtol=1e-12, atol=1e-12)
    slopes = differences(objective, flat)
    if workload.wanted == "newton":
        curvature = differences(lambda x: differences(objective, x).sum(), flat, step=1e-3)
        np.testing.assert_allclose(found[0].ravel(), slopes / curvature, rtol=1e-6, atol=1e-8)
    elif workload.wanted == "jacobian":
        values, columns, starts = found
        matrix = np.zeros((len(starts) - 1, len(flat)))
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        np.add.at(matrix, (rows, columns), values)
        np.testing.assert_allclose(matrix, slopes.T, rtol=1e-6, atol=1e-6)
        assert all(np.all(np.diff(row) > 0) for row in np.split(columns, starts[1:-1]))
    else:
        assert found[0] == pytest.approx(value, rel=1e-13)
        gradient = np.concatenate([each.ravel() for each in found[1:]])
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("way", ["compiled", "one-shot", "vmap"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_with_fastad(name, way):
    pytest.importorskip("fastad")
    from workloads import agreement
    from workloads.contenders import UnableError, with_fastad

    workload, data, _, expected = small(name)
    try:
        prepared = with_fastad.prepare(workload, data, way)
    except UnableError as error:
        pytest.skip(str(error))
    for _ in range(2):
        assert agreement.fault(prepared.first(), expected) is None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["adolc", "cppad"])
def test_workloads_with_tapes(way, tmp_path, monkeypatch):
    """The C++ tapes agree too, where they are installed."""
    from replay.native import NativeError
    from workloads import agreement
    from workloads.contenders import with_tapes

    monkeypatch.chdir(tmp_path)
    for name in WORKLOADS:
        workload, data, _, expected = small(name)
        try:
            prepared = with_tapes.prepare(workload, data, way)
        except (ImportError, NativeError) as error:
            pytest.skip(str(error))
        for _ in range(2):
            assert agreement.fault(prepared.first(), expected) is None, name


def test_agreement():
    from workloads.agreement import fault

    x, zeros, whole = np.array([1.0, -2.0]), np.zeros(2), np.array([3, 2**30])
    assert fault([x, zeros, whole], [x * (1 + 1e-10), zeros, whole]) is None
    for found, expected in [
        (x * (1 + 1e-8), x),
        (x * np.nan, x),
        (x[:, None], x),
        (zeros + 1e-300, zeros),
        (whole + np.array([0, 1]), whole),
    ]:
        assert fault([found], [expected]) is not None
    assert fault([x], [x, x]) is not None


PLANTED = {
    "wrong": """
        def prepare(workload, data, way):
            from workloads.contenders import by_hand
            ready = by_hand.prepare(workload, data, "gradient")
            right = ready.first
            ready.first = lambda: [(1 + 1e-8) * each for each in right()]
            return ready
        """,
    "slow": """
        import time

        def prepare(workload, data, way):
            time.sleep(60)
        """,
    "greedy": """
        import time

        def prepare(workload, data, way):
            prepare.kept = bytearray(b"1" * 400_000_000)
            time.sleep(60)
        """,
    "raising": """
        def prepare(workload, data, way):
            raise ArithmeticError("planted")
        """,
}


def test_planted_contenders_are_never_timed(tmp_path, monkeypatch):
    """What is wrong, slow, greedy, broken or absent is said to be so, and its bars do not pass."""
    import os
    from textwrap import dedent

    small("lse")
    from harness.timing import Effort
    from workloads import WORKLOADS, bars, run, table
    from workloads.cells import Cell
    from workloads.contenders import CONTENDERS, OURS, Contender

    for name, text in PLANTED.items():
        (tmp_path / f"planted_{name}.py").write_text(dedent(text))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    lse, size = WORKLOADS["lse"], (50,)
    monkeypatch.setitem(bars.BARS, "lse", {size: dict.fromkeys(["C by hand", "absent"], 1e9)})
    names = {
        "wrong": OURS,
        "slow": "slow",
        "greedy": "greedy",
        "raising": "raising",
        "no": "absent",
    }
    planted = [Contender(title, f"planted_{name}", "", "") for name, title in names.items()]
    session = run.WorkloadSession(effort=Effort(1, 1, 1e-5), progress=False)
    cells = {each.title: Cell(each, lse, size) for each in (*CONTENDERS[:3], *planted)}
    cells["slow"].timeout, cells["greedy"].most_bytes = 0.5, 300_000_000
    run.measure(list(cells.values()), session)
    states = {title: cell.state for title, cell in cells.items()}
    assert states == {
        **dict.fromkeys(["C by hand", "C by hand, value", "NumPy, value"], ""),
        OURS: "wrong",
        "slow": "limit",
        "greedy": "limit",
        "raising": "failed",
        "absent": "missing",
    }
    assert "GiB" in cells["greedy"].why and "0.5 s" in cells["slow"].why
    assert all((cell.seconds is None) == bool(cell.state) for cell in cells.values())
    assert {line.verdict for line in table.lines(list(cells.values()))} == {"WRONG"}
    assert "1.0e-08" in table.text(list(cells.values()))
    cells[OURS].state, cells[OURS].figure = "", cells["C by hand"].figure
    verdicts = {line.what: line.verdict for line in table.lines(list(cells.values()))}
    assert verdicts["lse 50 / absent"] == "missing"
    assert verdicts["lse 50 / C by hand"] == "PASS"


def test_pages_of_workloads(tmp_path):
    """A chart for each workload; what was not timed has a word in place of a bar."""
    import csv

    from harness.report import missing
    from harness.timing import Figure
    from workloads import WORKLOADS, pages
    from workloads.cells import Cell
    from workloads.contenders import CONTENDERS, HAND

    cells = [
        Cell(each, WORKLOADS[name], WORKLOADS[name].sizes[0], figure=Figure([1e-3, 2e-3]))
        for name in ("lse", "ode")
        for each in CONTENDERS
    ]
    cells[4].state, cells[4].why = "missing", "not <installed>"
    pages.write_csv(tmp_path / "figures.csv", cells)
    with (tmp_path / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cells) and rows[0]["contender"] == HAND
    assert rows[0]["seconds"] == "0.0015" and rows[4]["seconds"] == ""
    assert (rows[0]["state"], rows[4]["state"]) == ("timed", "missing")
    pages.write_html(tmp_path / "page.html", {"machine": "a & b"}, cells, [missing("x", "y")])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2 and "a &amp; b" in page and "not &lt;installed&gt;" in page
    bars = 2 * (len(CONTENDERS) - 1) - 1  # NumPy's value has none
    assert page.count("<rect") == bars
