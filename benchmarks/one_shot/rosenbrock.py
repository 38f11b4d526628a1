"""One-shot value and gradient of the chained Rosenbrock function: NumPy's value, and the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from functions import rosenbrock
from harness.report import Bar, Line, against, at_least, at_most, missing, ratio
from harness.session import Case, Session, checked

SIZES = (3, 10**4, 10**6)
AGAINST_NUMPY = {3: at_most(2.5), 10**4: at_most(4.0), 10**6: at_most(4.0)}
TIMES_FASTER: dict[str, dict[int, Bar]] = {
    "autograd": {3: at_least(10.0), 10**4: at_least(1.0), 10**6: at_least(1.0)},
    "PyTorch": {3: at_least(5.0), 10**4: at_least(1.0), 10**6: at_least(1.0)},
}
TITLES = {"torch": "PyTorch", "jax": "JAX", "casadi": "CasADi", "xad": "XAD"}
FLOOR = "gradient by hand, NumPy"


def lines(n: int, session: Session) -> Iterator[Line]:
    """All contenders at one size."""
    x = rosenbrock.point(n)
    value, gradient = float(rosenbrock.value(x)), rosenbrock.gradient(x)
    bars = {name: by_size[n] for name, by_size in TIMES_FASTER.items()}
    able = [peer for peer in session.peers if n <= peer.largest]
    prepared = {
        peer.title: ready
        for peer in [session.ours, *able]
        if (ready := peer.rosenbrock(x)) is not None
    }
    title = session.ours.title
    calls, faults = checked(prepared, value, gradient, bars | {title: AGAINST_NUMPY[n]})
    for line in faults:
        line.what = f"value_and_grad, n = {n}, {line.what}"
        yield line
    for package, why in session.absent.items():
        name = TITLES.get(package, package)
        yield missing(f"  against {name}", why, bars.get(name))
    if title not in calls:
        return
    figures = session.time(
        {
            "numpy": partial(rosenbrock.value, x),
            FLOOR: lambda: (rosenbrock.value(x), rosenbrock.gradient(x)),
            **calls,
        }
    )
    ours, plain = figures[title], figures["numpy"]
    yield ratio(f"value_and_grad, n = {n}", ours, plain, "NumPy's value", AGAINST_NUMPY[n])
    yield against(f"  against the {FLOOR}", ours, figures[FLOOR])
    for peer in able:
        if peer.title in figures:
            what = f"  against {peer.title}{'' if peer.records_each_call else ' (replays)'}"
            yield against(what, ours, figures[peer.title], bars.get(peer.title), peer.how)


def _case(n: int) -> Case:
    run: Callable[[Session], Iterator[Line]] = partial(lines, n)
    return Case(f"rosenbrock-{n}", f"Chained Rosenbrock, value and gradient, n = {n}", run)


CASES = tuple(_case(n) for n in SIZES)
