"""A function with twenty paths, at random arguments: right at each, and no path recorded twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import fastad as fad
import numpy as np

from functions import paths
from harness.owing import owing
from harness.report import Line, against, at_most
from harness.session import Case, Session
from peers.fastad_peer import lacking

CALLS, QUICK_CALLS = 100_000, 1000
ERROR = "largest relative error against one-shot"
UNEQUAL = "calls unequal to one-shot, bit for bit, strict=True"
AGAIN = "recordings after each path was seen once"
BARS = {ERROR: at_most(1e-12), UNEQUAL: at_most(0.0), AGAIN: at_most(0.0)}
TIMED_CALLS = 200


class Recorded:
    """The function, and how often Python ran it: a replay does not."""

    def __init__(self, **options):
        self.runs = 0
        self.both = fad.value_and_grad(fad.compile(self._function, **options))

    def _function(self, x):
        self.runs += 1
        return toll(x)


def toll(x):
    """The function as a user of fastad has it."""
    return paths.toll(x, np.sin, np.tanh)


def one_of_each(points: np.ndarray) -> list[np.ndarray]:
    """The first point on each path, found with Python floats."""
    found: dict[paths.Decisions, np.ndarray] = {}
    for x in points:
        paths.toll(x.tolist(), math.sin, math.tanh, lambda path, x=x: found.setdefault(path, x))
    return list(found.values())


def lines(session: Session) -> Iterator[Line]:
    """Every value and gradient against the one-shot result; then the time of a call."""
    points = paths.points(QUICK_CALLS if session.quick else CALLS)
    firsts = one_of_each(points)
    if len(firsts) != paths.PATHS:
        raise AssertionError(f"{len(firsts)} paths at these points, not {paths.PATHS}")
    replayed, strict = Recorded(), Recorded(strict=True)
    for first in firsts:
        replayed.both(first)
        strict.both(first)
    learned = replayed.runs
    one_shot = fad.value_and_grad(toll)
    error, unequal = _compared(points, one_shot, replayed.both, strict.both)
    note = (
        f"{len(points)} calls, {paths.PATHS} paths; Python ran the function {learned} times while "
        f"each path was seen once; cache_info: {replayed.both.cache_info()}"
    )
    yield Line(ERROR, error, "", note=note)
    yield Line(UNEQUAL, float(unequal), "", note=note)
    yield Line(AGAIN, float(replayed.runs - learned), "", note=note)
    figures = session.time(
        {
            "ours": partial(_all, replayed.both, points[:TIMED_CALLS]),
            "one-shot": partial(_all, one_shot, points[:TIMED_CALLS]),
        }
    )
    ours, anew = (figures[name].per(TIMED_CALLS) for name in ("ours", "one-shot"))
    yield against("  a call, against recording and reversing anew", ours, anew)


def _compared(
    points: np.ndarray, one_shot: Callable, replayed: Callable, strict: Callable
) -> tuple[float, int]:
    """The largest relative error of `replayed`, and at how many points `strict` is not equal."""
    worst, unequal = 0.0, 0
    for x in points:
        expected, found, same = (_row(both(x)) for both in (one_shot, replayed, strict))
        scale = np.abs(expected)
        error = np.max(np.abs(found - expected) / np.where(scale > 0, scale, 1.0))
        worst = max(worst, float(error) if np.isfinite(error) else math.inf)
        unequal += not np.array_equal(expected, same)
    return worst, unequal


def _row(found: tuple) -> np.ndarray:
    return np.append(found[1], found[0])


def _all(both: Callable, points: np.ndarray) -> None:
    for x in points:
        both(x)


CASES = (
    Case(
        "paths",
        f"A function with {paths.PATHS} data-dependent paths at random arguments",
        owing(BARS, lines, partial(lacking, "compile")),
    ),
)
