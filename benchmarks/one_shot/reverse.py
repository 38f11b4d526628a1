"""The reverse loop, on a dense-layer stack that was recorded from plain Python loops."""

from __future__ import annotations

from collections.abc import Iterator

from functions import chain, dense
from harness.report import Line, against, at_most, duration, ratio
from harness.session import Case, Session, checked
from peers.base import Peer, Prepared

LAYERS, WIDTH = 4, 64
QUICK_LAYERS, QUICK_WIDTH = 2, 8


def dense_sweep(session: Session) -> Iterator[Line]:
    """Time sweeps of one recording: for the inputs, then for all weights as well."""
    layers, width = (QUICK_LAYERS, QUICK_WIDTH) if session.quick else (LAYERS, WIDTH)
    point = dense.point(layers, width)
    value, gradient = dense.value_and_gradient(point, layers, width)
    size = f"{layers} dense layers of {width} x {width}"
    inputs = {"ours": _sweep(session.ours, point, layers, width, wanted=width)}
    everything = {
        peer.title: prepared
        for peer in [session.ours, *session.peers]
        if (prepared := _sweep(peer, point, layers, width, wanted=len(point))) is not None
    }
    calls, faults = checked(inputs, value, gradient[-width:])
    more_calls, more_faults = checked(everything, value, gradient)
    yield from faults + more_faults
    if "ours" not in calls:
        return
    figures = session.time({"plain": chain.on_floats(), **calls, **more_calls})
    nodes = dense.operations(layers, width)
    float_operation = figures["plain"].per(chain.OPERATIONS_A_CALL)
    sweep = figures["ours"].per(nodes)
    with_variables = figures["ours"].per(nodes + len(point))
    note = (
        f"{size}: {nodes} operations recorded; the {len(point)} variables are swept too but "
        f"not counted ({duration(with_variables.seconds)} if they were); asked for the {width} "
        "inputs' partials"
    )
    yield Line(
        "reverse sweep, a scalar operation",
        sweep.seconds * 1e9,
        "ns",
        at_most(3.0),
        ours=duration(sweep.seconds),
        note=note,
        spread=sweep.spread,
    )
    yield ratio(
        "  / a Python float operation", sweep, float_operation, "Python float", at_most(0.3), note
    )
    yield from _peer_lines(session, figures, nodes, len(point))


def _peer_lines(session: Session, figures: dict, nodes: int, variables: int) -> Iterator[Line]:
    title = session.ours.title
    if title not in figures:
        return
    ours = figures[title].per(nodes)
    note = f"per operation, asked for the partials of all {variables} variables"
    yield Line(
        "  with all partials fetched",
        ours.seconds * 1e9,
        "ns",
        ours=duration(ours.seconds),
        note=note,
        detail={"sweep": figures[title].rounds},
    )
    for peer in session.peers:
        if peer.title in figures:
            theirs = figures[peer.title].per(nodes)
            yield against(f"  the same by {peer.title}", ours, theirs, note=note)


def _sweep(peer: Peer, point, layers: int, width: int, wanted: int) -> Prepared | None:
    def function(variables, tanh):
        return dense.stack(*dense.nested(variables, layers, width), tanh)

    return peer.sweep(function, point.tolist(), wanted)


CASES = (Case("reverse", "The reverse loop on recorded scalar code", dense_sweep),)
