"""What recording one operation costs: against a Python float, and against NumPy on 10 elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from functions import chain
from harness.report import Line, against, at_most, duration, ratio
from harness.session import Case, Session, fault
from harness.timing import Figure
from peers.base import Peer

PEER_STEPS = 50
ARRAY_LENGTH = 10
ARRAY_STEPS = 125


def scalar_chain(session: Session) -> Iterator[Line]:
    """Record the chains of `functions.chain` and run them with floats."""
    for body, label in ((chain.variables, "variables"), (chain.constants, "a Python constant")):
        yield from _scalar_lines(session, body, f"record a scalar operation, {label}")


def _scalar_lines(session: Session, body: Callable, title: str) -> Iterator[Line]:
    bar = at_most(2.5)
    why = _chain_fault(session.ours, body)
    if why is not None:
        yield Line(title, bar=bar, note=why, state="WRONG")
        return
    peers = {
        peer.title: call
        for peer in session.peers
        if (call := _recording(peer, body, PEER_STEPS)) is not None
    }
    figures = session.time(
        {
            "float": chain.on_floats(body),
            "loop": chain.on_floats(chain.nothing),
            "ours": _recording(session.ours, body, chain.STEPS_A_CALL),
            **peers,
        }
    )
    count = chain.OPERATIONS_A_CALL
    plain, loop, ours = (figures[name].per(count) for name in ("float", "loop", "ours"))
    yield ratio(
        title,
        ours,
        plain,
        "Python float",
        bar,
        note=f"the loop, {duration(loop.seconds)} an operation, is in both sides alike; without it "
        f"the ratio is {_without(ours, plain, loop):.2f}; {count} operations on a tape, "
        "making it is in ours",
    )
    for name in peers:
        yield against(
            f"  the same by {name}", ours, figures[name].per(PEER_STEPS * chain.OPERATIONS_A_STEP)
        )


def _without(ours: Figure, plain: Figure, loop: Figure) -> float:
    return (ours.seconds - loop.seconds) / (plain.seconds - loop.seconds)


def _recording(peer: Peer, body: Callable, steps: int) -> Callable | None:
    return peer.recording(partial(chain.own_copy(body), steps), chain.POINT.tolist())


def _chain_fault(peer: Peer, body: Callable) -> str | None:
    steps = 3
    values = chain.POINT.tolist()
    prepared = peer.sweep(lambda variables, _: body(steps, *variables), values, len(values))
    gradient = chain.gradient(steps, with_factors=body is chain.variables)
    return fault(prepared, chain.value(steps), gradient)


def small_array(session: Session) -> Iterator[Line]:
    """Record x*y on 10-element arrays in a loop, and let NumPy compute it in the same loop."""
    title, bar = f"record x*y, {ARRAY_LENGTH} elements", at_most(0.6)
    x, y = 1.0 + np.arange(ARRAY_LENGTH) / 8, 2.0 - np.arange(ARRAY_LENGTH) / 8
    why = _product_fault(session.ours, x, y)
    if why is not None:
        yield Line(title, bar=bar, note=why, state="WRONG")
        return
    peers = {
        peer.title: call
        for peer in session.peers
        if (call := _product(peer, PEER_STEPS, x, y)) is not None
    }
    figures = session.time(
        {
            "numpy": partial(chain.own_copy(products), ARRAY_STEPS, x, y),
            "ours": _product(session.ours, ARRAY_STEPS, x, y),
            **peers,
        }
    )
    plain, ours = (figures[name].per(ARRAY_STEPS * PRODUCTS) for name in ("numpy", "ours"))
    yield ratio(
        title,
        ours,
        plain,
        "NumPy",
        bar,
        note=f"the same loop with ndarrays and with Arrays; {ARRAY_STEPS * PRODUCTS} products on a "
        "tape, making it is in ours",
    )
    for name in peers:
        yield against(f"  the same by {name}", ours, figures[name].per(PEER_STEPS * PRODUCTS))


PRODUCTS = 8


def products(steps, x, y):
    """8 products a step; each result is dropped, as a temporary would be."""
    for _ in range(steps):
        z = x * y
        z = x * y
        z = x * y
        z = x * y
        z = x * y
        z = x * y
        z = x * y
        z = x * y
    return z


def _product(peer: Peer, steps: int, x: np.ndarray, y: np.ndarray) -> Callable | None:
    return peer.recording(partial(chain.own_copy(products), steps), [x, y])


def _product_fault(peer: Peer, x: np.ndarray, y: np.ndarray) -> str | None:
    """The gradient of Σ x·y is (y, x): it goes through the node that is timed."""
    return fault(peer.product(x, y), float(x @ y), np.stack([y, x]))


CASES = (
    Case("record-scalar", "Recording a scalar operation / a Python float operation", scalar_chain),
    Case("record-array", "Recording x*y on 10 elements / NumPy's x*y", small_array),
)
