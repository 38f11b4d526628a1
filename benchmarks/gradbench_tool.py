"""fastad as a tool of GradBench: JSON lines on standard input, one line of answer for each.

    echo '{"id": 0, "kind": "define", "module": "lse"}' | python benchmarks/gradbench_tool.py

Messages have ``id`` and ``kind``. ``define`` names a module; ``evaluate`` a module, a function and
its input, with ``min_runs`` and ``min_seconds``. The answer to it has the output and one timing a
run: ``prepare``, which is recording, compiling and the first call together, then ``evaluate``.
Whatever goes wrong is an answer with ``success`` false and the program goes on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fastad as fad
import numpy as np

from workloads import WORKLOADS, ba
from workloads.building import Called
from workloads.contenders import with_fastad
from workloads.problem import Data

OTHER_NAMES = {"dir": "direction", "jacobian": "gradient", "objective": "primal", "cost": "primal"}


def _arrays(input: dict, *names: str) -> tuple[np.ndarray, ...]:
    return tuple(np.array(input[name], dtype=float) for name in names)


def _ba(input: dict) -> Data:
    cameras = np.tile(np.array(input["cam"], dtype=float), (input["n"], 1))
    points = np.tile(np.array(input["x"], dtype=float), (input["m"], 1))
    features = np.tile(np.array(input["feat"], dtype=float), (input["p"], 1))
    return Data((cameras, points, np.full(input["p"], float(input["w"]))), (features,))


READERS: dict[str, Callable[[dict], Data]] = {
    "det": lambda i: Data(_arrays(i, "A"), static={"ell": i["ell"]}),
    "gmm": lambda i: Data(
        _arrays(i, "alpha", "mu", "q", "l"),
        _arrays(i, "x"),
        {"m": i["m"], "gamma": i["gamma"]},
    ),
    "kmeans": lambda i: Data(_arrays(i, "centroids"), _arrays(i, "points")),
    "llsq": lambda i: Data(_arrays(i, "x"), static={"n": i["n"]}),
    "lse": lambda i: Data(_arrays(i, "x")),
    "lstm": lambda i: Data(
        _arrays(i, "main_params", "extra_params"), _arrays(i, "sequence", "state")
    ),
    "ode": lambda i: Data(_arrays(i, "x"), static={"s": i["s"]}),
    "ba": _ba,
}


def primal(module: str, data: Data) -> Called:
    """The compiled value."""
    if module == "ba":
        residuals = fad.vmap(fad.compile(ba.residual))
        return Called(
            lambda: (residuals(*ba.observed(data)), ba.weight_error(data.variables[2])),
            lambda errors: errors,
        )
    function = fad.compile(partial(WORKLOADS[module].objective, **data.static))
    arguments = (*data.variables, *data.constants)
    return Called(lambda: function(*arguments), lambda value: [value])


def derivative(module: str, data: Data) -> Called:
    """The compiled gradient, Newton's direction, or the Jacobian."""
    return with_fastad.prepare(WORKLOADS[module], data, "compiled")


def as_output(module: str, function: str, found: list[np.ndarray]):
    """As GradBench's validators expect it."""
    if module == "ba" and function == "primal":
        residuals, errors = found
        return {
            "reproj_error": {"elements": residuals[0].tolist(), "repeated": len(residuals)},
            "w_err": {"element": float(errors[0]), "repeated": len(errors)},
        }
    if module == "ba":
        values, columns, starts = (each.tolist() for each in found)
        return {"rows": starts, "cols": columns, "vals": values}
    if function == "primal":
        return float(found[0])
    if function == "direction":
        return found[0].tolist()
    if module == "gmm":
        names = ("alpha", "mu", "q", "l")
        return {name: each.tolist() for name, each in zip(names, found[1:], strict=True)}
    return np.concatenate([np.ravel(each) for each in found[1:]]).tolist()


def evaluate(module: str, function: str, input: dict) -> dict:
    """The output and the timings."""
    function = OTHER_NAMES.get(function, function)
    wanted = "direction" if module == "kmeans" else "gradient"
    if function not in ("primal", wanted):
        raise ValueError(f"{module} has no function {function!r}")
    data = READERS[module](input)
    start = perf_counter_ns()
    called = (primal if function == "primal" else derivative)(module, data)
    found = called.first()
    timings = [_timing("prepare", perf_counter_ns() - start)]
    runs, spent = 0, 0
    while runs < input.get("min_runs", 1) or spent < 1e9 * input.get("min_seconds", 0.0):
        start = perf_counter_ns()
        called.call()
        taken = perf_counter_ns() - start
        timings.append(_timing("evaluate", taken))
        runs, spent = runs + 1, spent + taken
    return {"output": as_output(module, function, found), "timings": timings}


def _timing(name: str, nanoseconds: int) -> dict:
    return {"name": name, "nanoseconds": nanoseconds}


def respond(message: dict) -> dict:
    """What is said of a message, besides its number."""
    kind = message["kind"]
    if kind in ("define", "evaluate") and message["module"] not in READERS:
        return {"success": False, "error": f"no module {message['module']!r}"}
    if kind == "start":
        return {"success": True, "tool": "fastad"}
    if kind == "evaluate":
        found = evaluate(message["module"], message["function"], message["input"])
        return {"success": True} | found
    if kind in ("define", "analysis"):
        return {"success": True}
    return {"success": False, "error": f"no kind {kind!r}"}


def answer(line: str) -> str:
    """The answer to one message, whatever happens: NaN and infinities are no JSON either."""
    number = {"id": None}
    try:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise TypeError(f"message: expected an object, got {type(message).__name__}")
        number["id"] = message.get("id")
        return json.dumps(number | respond(message), allow_nan=False)
    except Exception as error:  # the next message is answered all the same
        fault = {"success": False, "error": f"{type(error).__name__}: {error}"}
        return json.dumps(number | fault)


def main(messages: Iterable[str] = sys.stdin, answers: TextIO = sys.stdout) -> None:
    """Answer every line."""
    for line in messages:
        if line.strip():
            print(answer(line), file=answers, flush=True)


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity") and "--multithreaded" not in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    main()
