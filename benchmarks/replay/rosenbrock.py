"""Compiled value and gradient of chained Rosenbrock: NumPy's value, peers, C by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from functions import rosenbrock
from harness.owing import owing
from harness.report import Line, against, at_most, duration, missing, ratio
from harness.session import Case, Session, checked
from harness.timing import Figure
from peers.base import Prepared
from peers.fastad_peer import FastadCompiled, lacking
from replay import native

SIZES = (3, 10**4, 10**6)
NUMPY, JAX, BY_HAND = "value and gradient / NumPy's value alone", "  / JAX jit", "  / C by hand"
BARS = {
    3: {NUMPY: at_most(0.35), JAX: at_most(0.35)},
    10**4: {NUMPY: at_most(1.0), JAX: at_most(0.8), BY_HAND: at_most(3.0)},
    10**6: {NUMPY: at_most(1.0), JAX: at_most(1.0)},
}
RIVALS = ("autograd", "PyTorch", "CasADi SX", "CasADi MX")
NATIVE = {
    BY_HAND: ("rosenbrock_plain", "one loop as one writes it"),
    "  / C by hand, 16 partial sums": ("rosenbrock_wide", "one loop that the compiler vectorises"),
}
EMPTY_CALL = "an empty C function"


def lines(n: int, session: Session) -> Iterator[Line]:
    """All contenders at one size."""
    x = rosenbrock.point(n)
    value, gradient = float(rosenbrock.value(x)), rosenbrock.gradient(x)
    ours = FastadCompiled()
    by_hand, lost = _native(x)
    yield from lost
    calls, faults = checked({**_contenders(ours, session, x), **by_hand}, value, gradient)
    for line in faults:
        line.what = f"  / {line.what.removeprefix('  / ')}" if line.what != ours.title else NUMPY
        yield line
    if ours.title not in calls:
        return
    if by_hand:
        calls[EMPTY_CALL] = native.rosenbrock(x, "nothing").call
    figures = session.time({NUMPY: partial(rosenbrock.value, x), **calls})
    figure = figures[ours.title]
    yield ratio(NUMPY, figure, figures[NUMPY], "NumPy", note=f"n = {n}; {ours.how}")
    yield from _jax(session, figure, figures)
    yield from _by_hand(figure, figures)
    yield from _others(session, figure, figures)


def _contenders(ours: FastadCompiled, session: Session, x) -> dict[str, Prepared]:
    able = [peer for peer in session.peers if peer.title in ("JAX jit", *RIVALS)]
    found = {
        peer.title: ready
        for peer in [ours, *able]
        if len(x) <= peer.largest and (ready := peer.rosenbrock(x)) is not None
    }
    one_shot = session.ours.rosenbrock(x)
    return found if one_shot is None else {**found, "fastad, one-shot": one_shot}


def _native(x) -> tuple[dict[str, Prepared], list[Line]]:
    if len(x) < 1000:
        return {}, []  # a call through ctypes takes a hundred times as long as the work
    try:
        return {what: native.rosenbrock(x, name) for what, (name, _) in NATIVE.items()}, []
    except native.NativeError as error:
        return {}, [missing(what, str(error)) for what in NATIVE]


def _jax(session: Session, ours: Figure, figures: dict[str, Figure]) -> Iterator[Line]:
    jax = session.peer("JAX jit")
    if jax is None:
        yield missing(JAX, session.absent.get("jax", "JAX does not take part"))
    elif jax.title in figures:
        yield ratio(JAX, ours, figures[jax.title], "JAX", note=jax.how)


def _by_hand(ours: Figure, figures: dict[str, Figure]) -> Iterator[Line]:
    for what, (_, how) in NATIVE.items():
        if what in figures:
            call = figures[EMPTY_CALL].seconds
            work = Figure([seconds - call for seconds in figures[what].rounds])
            note = (
                f"{how}; {' '.join(native.FLAGS[1:4])}; {duration(call)} for calling {EMPTY_CALL}"
            )
            yield ratio(what, ours, work, "C", note=f"{note} through ctypes are taken off")


def _others(session: Session, ours: Figure, figures: dict[str, Figure]) -> Iterator[Line]:
    if "fastad, one-shot" in figures:
        yield against("  against fastad, one-shot", ours, figures["fastad, one-shot"])
    for peer in session.peers:
        if peer.title in RIVALS and peer.title in figures:
            what = f"  against {peer.title}{'' if peer.records_each_call else ' (replays)'}"
            yield against(what, ours, figures[peer.title], note=peer.how)


def _case(n: int) -> Case:
    run: Callable[[Session], Iterator[Line]] = partial(lines, n)
    title = f"Compiled chained Rosenbrock, value and gradient, n = {n}"
    return Case(f"rosenbrock-{n}", title, owing(BARS[n], run, partial(lacking, "compile")))


CASES = tuple(_case(n) for n in SIZES)
