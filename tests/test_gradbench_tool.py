"""A small client of benchmarks/gradbench_tool.py: what it answers, and that it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[1] / "benchmarks" / "gradbench_tool.py"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="no benchmarks here")


def talk(*messages):
    """The answers to messages, which get their numbers here."""
    lines = [json.dumps({"id": n} | message) for n, message in enumerate(messages)]
    done = subprocess.run(
        [sys.executable, str(TOOL)], input="\n".join(lines), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == list(range(len(messages)))
    return answers


def evaluate(module, function, **input):
    """A message."""
    return {"kind": "evaluate", "module": module, "function": function, "input": input}


def test_it_answers_and_goes_on():
    start, known, unknown, other, bad, odd, wish, last = talk(
        {"kind": "start", "eval": "lse"},
        {"kind": "define", "module": "lse"},
        {"kind": "define", "module": "no such module"},
        evaluate("lse", "hessian", x=[1.0]),
        evaluate("lse", "gradient", y=[1.0]),
        evaluate("no such module", "gradient", x=[1.0]),
        {"kind": "wish"},
        {"kind": "analysis", "of": 3, "valid": False},
    )
    assert start["success"] and start["tool"] == "fastad"
    assert known["success"] and last["success"]
    for answer in (unknown, other, bad, odd, wish):
        assert answer["success"] is False and answer["error"]


def test_what_is_no_message_is_answered():
    lines = ["[1, 2]", "null", "no JSON", "[" * 200_000, '{"id": 7, "kind": ["start"]}']
    lines.append('{"id": 8, "kind": "evaluate", "module": "lse", "function": "gradient"')
    lines[-1] += ', "input": {"x": [1e400, 2.0]}}'  # its gradient is NaN
    done = subprocess.run(
        [sys.executable, str(TOOL)], input="\n".join(lines), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [None, None, None, None, 7, 8]
    for reply in answers:
        assert reply["success"] is False and reply["error"]


def test_it_times_every_run():
    value, gradient = talk(
        evaluate("lse", "primal", x=[0.0, 1.0], min_runs=3, min_seconds=0.0),
        evaluate("lse", "gradient", x=[0.0, 1.0], min_runs=1, min_seconds=0.01),
    )
    assert value["output"] == pytest.approx(np.log(1 + np.e), rel=1e-15)
    assert gradient["output"] == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)], rel=1e-14)
    assert [each["name"] for each in value["timings"]] == ["prepare", *["evaluate"] * 3]
    spent = [each["nanoseconds"] for each in gradient["timings"][1:]]
    assert sum(spent) >= 1e7 > sum(spent[:-1])


def test_every_module():
    """Outputs have the validators' shapes; the figures are checked in test_benchmarks.py."""
    rng = np.random.default_rng(1)
    numbers = lambda *shape: rng.random(shape).tolist()
    camera = [-0.7, -1.1, -0.8, 34.0, 39.0, 53.0, 419.0, 5.0, -8.0, 0.08, 0.002]
    bundle = {"n": 2, "m": 3, "p": 4, "cam": camera, "x": numbers(3), "w": 0.4, "feat": [1.0, 2.0]}
    text = rng.integers(0, 2, (5, 14)).tolist()
    network = {
        "main_params": numbers(4, 56),
        "extra_params": numbers(3, 14),
        "state": numbers(4, 14),
        "sequence": text,
    }
    mixture = {"alpha": numbers(4), "mu": numbers(4, 3), "q": numbers(4, 3), "l": numbers(4, 3)}
    asked = {
        ("det", "gradient"): ({"A": [1.0, 2.0, 3.0, 4.0], "ell": 2}, [4.0, -3.0, -2.0, 1.0]),
        ("det", "primal"): ({"A": [1.0, 2.0, 3.0, 4.0], "ell": 2}, -2.0),
        ("kmeans", "cost"): ({"points": [[0.0], [2.0], [5.0]], "centroids": [[1.0], [4.0]]}, 3.0),
        ("kmeans", "direction"): (
            {"points": [[0.0], [2.0], [6.0]], "centroids": [[2.0], [4.0]]},
            [[1.0], [-2.0]],
        ),
        ("llsq", "gradient"): ({"x": [1.0, 0.0], "n": 2}, [2.0, -2.0]),
        ("ode", "primal"): ({"x": [0.5], "s": 3}, pytest.approx(1.0)),
        ("ode", "gradient"): ({"x": [0.5], "s": 3}, [pytest.approx(2.0)]),
        ("gmm", "objective"): (mixture | {"x": numbers(6, 3), "m": 0, "gamma": 1.0}, None),
        ("gmm", "jacobian"): (mixture | {"x": numbers(6, 3), "m": 0, "gamma": 1.0}, None),
        ("lstm", "objective"): (network, None),
        ("lstm", "jacobian"): (network, None),
        ("ba", "objective"): (bundle, None),
        ("ba", "jacobian"): (bundle, None),
    }
    answers = talk(*[evaluate(*names, **input) for names, (input, _) in asked.items()])
    outputs = dict(zip(asked, (answer.get("output", answer) for answer in answers), strict=True))
    for names, (_, expected) in asked.items():
        assert expected is None or outputs[names] == expected, names
    assert isinstance(outputs["gmm", "objective"], float)
    for name, each in outputs["gmm", "jacobian"].items():
        assert np.shape(each) == np.shape(mixture[name])
    assert len(outputs["lstm", "jacobian"]) == 4 * 56 + 3 * 14
    assert outputs["ba", "objective"]["w_err"] == {"element": pytest.approx(0.84), "repeated": 4}
    assert len(outputs["ba", "jacobian"]["vals"]) == 4 * 31
    assert outputs["ba", "jacobian"]["rows"][-1] == 4 * 31
