"""What it costs to compile: a node, its growth, and the time until the first gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fastad as fad

from functions import pendulum, rosenbrock, shooting
from harness.machine import available_bytes
from harness.owing import owing
from harness.report import Line, against, at_least, at_most, missing, not_run, ratio, wrong
from harness.session import Case, Session, checked, fault
from harness.timing import Figure
from peers.base import Peer, Prepared
from peers.fastad_peer import FastadCompiled, lacking
from replay.floats import in_floats, timed
from replay.loops import Problem

SIZES = (10**5, 10**6, 10**7)
LARGEST = SIZES[-1]
NEEDED_BYTES = 6 * 2**30
COST, LINEAR = at_most(25.0), at_most(1.5)
FIRST_LANES = 1000


def cost(session: Session) -> Iterator[Line]:
    """Compile the independent steps anew at every call; at each size / at the smallest."""
    smallest, reasons = None, _left_out(session)
    for size in SIZES:
        if size in reasons:
            yield not_run(_cost(size), reasons[size])
            yield not_run(_growth(size), reasons[size])
            continue
        figure, found = _compiled_anew(size, session, smallest)
        smallest = smallest or figure
        yield from found


def _left_out(session: Session) -> dict[int, str]:
    """Why sizes are not run."""
    if session.quick:
        return dict.fromkeys(SIZES[1:], "left out by --quick")
    free = available_bytes()
    if not session.large:
        return {LARGEST: "asks for --large"}
    if free is not None and free < NEEDED_BYTES:
        return {LARGEST: f"{free / 2**30:.1f} GiB free, {NEEDED_BYTES / 2**30:.0f} asked"}
    return {}


def _cost(size: int) -> str:
    return f"from function to first gradient, {size:.0e} nodes, a node".replace("e+0", "e")


def _growth(size: int) -> str:
    return f"  / the same at the smallest size, {size:.0e} nodes".replace("e+0", "e")


def _compiled_anew(
    size: int, session: Session, smallest: Figure | None
) -> tuple[Figure, list[Line]]:
    steps = size // shooting.OPERATIONS_A_STEP
    problem = Problem(shooting.objective, shooting.point(steps), shooting.operations(steps))
    gradient = problem.one_shot().call()[1]

    def anew():
        return fad.value_and_grad(fad.compile(problem.traced))(problem.x)

    ready = Prepared(anew, lambda found: (float(found[0]), found[1]))
    calls, faults = checked({_cost(size): ready}, problem.value, gradient)
    if faults:
        return smallest, faults
    figures = timed(session, calls)
    figure = figures[_cost(size)].per(problem.operations)
    found = [in_floats(_cost(size), figure, figures, "recording, passes, the first run, all in")]
    if smallest is not None:
        found.append(ratio(_growth(size), figure, smallest, "smallest", note="1 is linear"))
    return figure, found


VMAP = f"vmap of a pendulum, {FIRST_LANES} points"
FUNCTIONS: dict[str, tuple[Callable, Callable[[Peer, Any], Prepared | None]]] = {
    **{
        f"Rosenbrock, n = {n}": (partial(rosenbrock.point, n), lambda peer, x: peer.rosenbrock(x))
        for n in (3, 10**4, 10**6)
    },
    VMAP: (partial(pendulum.points, FIRST_LANES), lambda peer, x: peer.pendulums(x)),
}


def first_gradient(session: Session) -> Iterator[Line]:
    """From the function to its first gradient, against JAX: new transforms at every call."""
    jax = session.peer("JAX jit")
    if jax is None:
        why = session.absent.get("jax", "JAX does not take part")
        yield from (missing(what, why) for what in FUNCTIONS)
        return
    for what, (make, prepare) in FUNCTIONS.items():
        why = lacking("vmap") if what == VMAP else None
        yield missing(what, why) if why else _first(what, session, jax, partial(prepare, x=make()))


def _first(what: str, session: Session, jax: Peer, prepare: Callable) -> Line:
    """Both sides prepare from nothing at every call: new functions, nothing to find again."""
    theirs = prepare(jax)
    why = fault(prepare(FastadCompiled()), *theirs.read(theirs.call()))
    if why is not None:
        return wrong(what, why)
    figures = session.time(
        {"ours": lambda: prepare(FastadCompiled()).call(), "theirs": lambda: prepare(jax).call()}
    )
    note = "recording or tracing, compiling and the first run, all in, on both sides"
    return against(what, figures["ours"], figures["theirs"], note=note)


CASES = (
    Case(
        "compile",
        "Compiling the independent steps, value and gradient",
        owing(
            {
                **{_cost(size): COST for size in SIZES},
                **{_growth(size): LINEAR for size in SIZES[1:]},
            },
            cost,
            partial(lacking, "compile"),
        ),
    ),
    Case(
        "first-gradient",
        "From the function to its first gradient: JAX's time over ours",
        owing(
            dict.fromkeys(FUNCTIONS, at_least(10.0)), first_gradient, partial(lacking, "compile")
        ),
    ),
)
