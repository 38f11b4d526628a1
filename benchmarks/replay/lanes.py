"""``vmap``: a program over a million points, on one thread and on two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import fastad as fad
import numpy as np

from functions import pendulum
from harness.machine import unpinned
from harness.owing import owing
from harness.report import Line, against, at_least, at_most, not_run
from harness.session import Case, Session, checked
from peers.fastad_peer import FastadCompiled, lacking
from replay.floats import in_floats, timed

LANES, QUICK_LANES = 10**6, 1000
EACH, THREADS = "value and gradient, a node and lane", "two threads / one"
NODES = pendulum.OPERATIONS + pendulum.GRADIENT_OPERATIONS


def one_thread(session: Session) -> Iterator[Line]:
    """Against a Python float operation, and against the peers' batches."""
    points = pendulum.points(QUICK_LANES if session.quick else LANES)
    lanes = len(points[0])
    ours = FastadCompiled()
    rivals = [peer for peer in session.peers if peer.records_each_call or peer.title == "JAX jit"]
    prepared = {
        peer.title: ready
        for peer in [ours, *rivals]
        if (ready := peer.pendulums(points)) is not None
    }
    calls, faults = checked(prepared, *pendulum.values_and_gradients(points))
    for line in faults:
        line.what = EACH if line.what == ours.title else line.what
        yield line
    if ours.title not in calls:
        return
    figures = timed(session, {"numpy": partial(pendulum.outcome, *points, np.sin), **calls})
    note = (
        f"{lanes} points; {pendulum.OPERATIONS} operations, {pendulum.TRANSCENDENTAL} of them sin, "
        f"and {pendulum.GRADIENT_OPERATIONS} of a textbook reverse sweep: {NODES} nodes a lane"
    )
    figure = figures[ours.title]
    yield in_floats(EACH, figure.per(NODES * lanes), figures, note)
    yield against("  against NumPy's values alone", figure, figures["numpy"])
    for peer in rivals:
        if peer.title in figures:
            yield against(f"  against {peer.title}", figure, figures[peer.title], note=peer.how)


def two_threads(session: Session) -> Iterator[Line]:
    """The same batch on two cores; this process is unpinned meanwhile."""
    points = pendulum.points(QUICK_LANES if session.quick else LANES)
    with unpinned() as cores:
        if cores < 2:
            yield not_run(THREADS, "this process may use one core only")
            return
        try:
            yield from _on_threads(session, FastadCompiled().pendulums(points), points)
        finally:
            fad.set_num_threads(1)


def _on_threads(session: Session, prepared, points) -> Iterator[Line]:
    def on(threads: int) -> Callable:
        def call():
            fad.set_num_threads(threads)
            return prepared.call()

        return call

    one, two = (prepared.read(on(threads)()) for threads in (1, 2))
    if not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
        raise ArithmeticError("two threads and one give different numbers")
    figures = session.time({"one": on(1), "two": on(2)})
    yield against(
        THREADS,
        figures["two"],
        figures["one"],
        note=f"{len(points[0])} points; not pinned: other processes on the second core count too",
    )


CASES = (
    Case(
        "vmap",
        f"vmap of a scalar function of {pendulum.OPERATIONS} operations",
        owing({EACH: at_most(0.02)}, one_thread, partial(lacking, "compile", "vmap")),
    ),
    Case(
        "threads",
        "The same on two threads, as a multiple of its speed on one",
        owing(
            {THREADS: at_least(1.8)},
            two_threads,
            partial(lacking, "compile", "vmap", "set_num_threads"),
        ),
    ),
)
