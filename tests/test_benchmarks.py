"""The benchmarks measure what they say: gradients by hand, verdicts, and every case in brief."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    """`benchmarks/` as compare.py finds it: first on the path, its modules forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"functions", "harness", "one_shot", "peers", "compare"}:
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


def test_recurrence_by_hand():
    from functions import recurrence

    x = recurrence.point(6)
    expected = differences(recurrence.value, x)
    np.testing.assert_allclose(recurrence.gradient(x), expected, rtol=1e-6)
    np.testing.assert_allclose(differences(recurrence.table, x), 8 * expected, rtol=1e-6)


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


CASES = ["record-scalar", "record-array", "reverse", "rosenbrock-3", "rosenbrock-10000"]


@pytest.mark.parametrize("name", CASES)
def test_case_in_brief(name):
    """Every gradient of ours is right, by the benchmark's own check; no word on speed."""
    pytest.importorskip("fastad")
    import one_shot
    import peers
    from harness.report import table
    from harness.session import Session
    from harness.timing import Effort

    effort = Effort(rounds=1, blocks=1, block_seconds=1e-5)
    session = Session(peers.load("fastad")[0], [], {"torch": "left out"}, effort, quick=True)
    (case,) = (case for case in one_shot.CASES if case.name == name)
    lines = list(case.run(session))
    verdicts = {line.verdict for line in lines}
    assert verdicts & {"PASS", "MISS", "noisy"}
    assert "WRONG" not in verdicts, table(case.title, lines)
