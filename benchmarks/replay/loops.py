"""Plain Python loops over scalars, compiled: what a recorded node costs when it is replayed."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import fastad as fad
import numpy as np

from functions import dense, recurrence, shooting, tangle
from harness.owing import owing
from harness.report import Line, against, at_least, at_most, wrong
from harness.session import TOLERANCE, Case, Session, checked, fault, slope_error
from peers.base import Prepared
from peers.fastad_peer import lacking
from replay.floats import in_floats, timed

VALUE, BOTH = "value, a recorded node", "value and gradient, a recorded node"
ANEW = "  against recording and reversing anew"
INSTRUCTIONS, GATHERS = "instructions, value and gradient", "gathers, value and gradient"


@dataclass
class Problem:
    """A function of many scalars and where it is evaluated.

    Parameters
    ----------
    function : callable
        ``function(x, sin, tanh)`` with a sequence of scalars.
    x : ndarray
        The point.
    operations : int
        Scalar operations of the function, its recorded nodes; variables are not counted.
    """

    function: Callable
    x: np.ndarray
    operations: int

    def traced(self, x):
        """The function as a user of fastad has it."""
        return self.function(x, np.sin, np.tanh)

    @cached_property
    def value(self) -> float:
        """The value with Python floats."""
        return self.function(self.x.tolist(), math.sin, math.tanh)

    def one_shot(self) -> Prepared:
        """Recorded and reversed at every call."""
        both = fad.value_and_grad(self.traced)
        return Prepared(lambda: both(self.x), lambda found: (float(found[0]), found[1]))

    def gradient(self) -> np.ndarray:
        """The one-shot gradient, after it agreed with complex steps of the plain function."""
        value, gradient = (one_shot := self.one_shot()).read(one_shot.call())
        error = slope_error(lambda x: self.function(x, cmath.sin, cmath.tanh), self.x, gradient)
        if not (error <= TOLERANCE and abs(value - self.value) <= TOLERANCE * abs(self.value)):
            raise ArithmeticError(f"the one-shot gradient is wrong by {error:.1e}")
        return gradient


def independent_steps(quick: bool) -> Problem:
    """130 operations a step."""
    steps = 30 if quick else 3000
    return Problem(shooting.objective, shooting.point(steps), shooting.operations(steps))


def dense_layers(quick: bool) -> Problem:
    """Ten layers of 200 x 200."""
    layers, width = (2, 8) if quick else (10, 200)

    def function(x, _sin, tanh):
        return dense.stack(*dense.nested(list(x), layers, width), tanh)

    return Problem(function, dense.point(layers, width), dense.operations(layers, width))


def irregular(quick: bool) -> Problem:
    """A random acyclic graph."""
    operations = 2000 if quick else 100_000
    return Problem(tangle.written(operations), tangle.point(), operations)


def sequential(quick: bool) -> Problem:
    """10 dependent operations a step."""
    steps = 100 if quick else 100_000

    def function(x, _sin, _tanh):
        return recurrence.last_position(x)

    return Problem(function, recurrence.point(steps), recurrence.operations(steps))


def lines(make: Callable[[bool], Problem], session: Session) -> Iterator[Line]:
    """Replay against a Python float operation and against recording anew; then the program."""
    problem = make(session.quick)
    gradient = problem.gradient()
    compiled = fad.compile(problem.traced)
    both = fad.value_and_grad(compiled)
    calls, faults = checked(
        {
            BOTH: Prepared(lambda: both(problem.x), lambda found: (float(found[0]), found[1])),
            ANEW: problem.one_shot(),
        },
        problem.value,
        gradient,
    )
    yield from faults
    value = Prepared(lambda: compiled(problem.x), lambda found: (float(found), gradient))
    why = fault(value, problem.value, gradient)
    if why is None:
        calls[VALUE] = value.call
    else:
        yield wrong(VALUE, why)
    figures = timed(session, calls)
    note = f"{problem.operations} operations recorded, {len(problem.x)} variables not counted"
    for what in (VALUE, BOTH):
        if what in calls:
            yield in_floats(what, figures[what].per(problem.operations), figures, note)
    if BOTH in calls and ANEW in calls:
        yield against(ANEW, figures[BOTH], figures[ANEW], note="one-shot fad.value_and_grad")
    yield from _program(compiled.program(problem.x), both.program(problem.x))


def _program(value, both) -> Iterator[Line]:
    note = (
        f"value alone: {_described(value)}; with the gradient: {_described(both)}; those of the "
        "scalar interpreter count too"
    )
    yield Line(INSTRUCTIONS, float(both.instructions + both.scalars), "", note=note)
    yield Line(GATHERS, float(both.gathers), "", note=note)


def _described(program) -> str:
    return (
        f"{program.instructions} vector and {program.scalars} scalar instructions, "
        f"{program.gathers} gathers, {program.nodes} nodes, {program.nbytes} bytes"
    )


def _case(name: str, title: str, make: Callable, bars: dict) -> Case:
    bars = {**bars, ANEW: at_least(10.0)}
    return Case(name, title, owing(bars, partial(lines, make), partial(lacking, "compile")))


CASES = (
    _case(
        "steps",
        "3000 independent steps of 130 scalar operations, one in ten sin or tanh",
        independent_steps,
        {
            VALUE: at_most(0.03),
            BOTH: at_most(0.1),
            INSTRUCTIONS: at_most(600.0),
            GATHERS: at_most(0.0),
        },
    ),
    _case(
        "dense", "Dense layers in plain loops, 800 000 nodes", dense_layers, {BOTH: at_most(0.15)}
    ),
    _case("irregular", "An irregular mix of 100 000 nodes", irregular, {BOTH: at_most(0.4)}),
    _case(
        "sequential",
        "A recurrence of 100 000 steps of 10 dependent operations",
        sequential,
        {BOTH: at_most(0.5)},
    ),
)
