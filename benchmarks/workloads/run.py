"""Runs the contenders of one workload size by size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from harness import machine
from harness.report import Line
from harness.timing import FULL, QUICK, Effort
from replay.native import NativeError
from workloads import agreement, rounds, table
from workloads.cells import Cell
from workloads.contenders import CONTENDERS, HAND, HAND_VALUE, NUMPY, Contender, with_tapes
from workloads.problem import Workload

VALUES = (HAND_VALUE, NUMPY)


@dataclass
class WorkloadSession:
    """The run: who takes part, how long to measure, and everything measured so far."""

    contenders: tuple[Contender, ...] = CONTENDERS
    effort: Effort = FULL
    quick: bool = False
    cores: list[int] = field(default_factory=list)
    timeout: float = 60.0
    most_bytes: int = 8 * 2**30
    progress: bool = True
    cells: list[Cell] = field(default_factory=list)


def new_session(options) -> WorkloadSession:
    """What the command line asks for; the peers are imported by the cells' own processes."""
    peers = None if options.peers is None else options.peers.split(",")
    chosen = tuple(
        each for each in CONTENDERS if not each.package or peers is None or each.package in peers
    )
    cores = sorted(machine.ALLOWED)[-options.threads :] if options.threads > 1 else []
    machine.threads(options.threads)
    timeout = options.timeout or (15.0 if options.quick else 60.0)
    effort = QUICK if options.quick else FULL
    return WorkloadSession(
        chosen, effort, options.quick, cores, timeout, int(options.memory * 2**30)
    )


def build(session: WorkloadSession) -> None:
    """Compile what takes part, before the cells' clocks run; a cell says itself what failed."""
    for each in session.contenders:
        if each.module == with_tapes.__name__:
            _progress(session, f"building {each.title}")
            with suppress(ImportError, NativeError):
                with_tapes.built(each.way)


def lines(workload: Workload, session: WorkloadSession) -> Iterator[Line]:
    """All sizes; with --quick the smallest."""
    build(session)
    for size in workload.sizes[:1] if session.quick else workload.sizes:
        cells = measured(workload, size, session)
        session.cells += cells
        print(table.text(cells), flush=True)
        yield from table.lines(cells)


def measured(workload: Workload, size: tuple[int, ...], session: WorkloadSession) -> list[Cell]:
    """Prepare, check and time the contenders at one size."""
    cells = [
        Cell(each, workload, size, timeout=session.timeout, most_bytes=session.most_bytes)
        for each in session.contenders
    ]
    measure(cells, session)
    return cells


def measure(cells: list[Cell], session: WorkloadSession) -> None:
    """The same for cells that stand already."""
    what = f"{cells[0].workload.name} {table.named(cells[0].size)}"
    try:
        for cell in cells:
            _progress(session, f"{what}: {cell.contender.title}")
            cell.start(session.cores)
        check(cells)
        _progress(session, f"{what}: timing")
        rounds.interleave([cell for cell in cells if cell.alive], session.effort)
    finally:
        for cell in cells:
            cell.end()
        _progress(session, "")


def check(cells: list[Cell]) -> None:
    """Whoever differs from the C by hand, at this size or at the small one, is not timed.

    The C by hand itself must give the value that the objective gives.
    """
    ours = {cell.contender.title: cell for cell in cells if cell.alive}
    for name in ("small", "full"):
        gradient, value, plain = (
            ours[title].found(name) if title in ours else None
            for title in (HAND, HAND_VALUE, NUMPY)
        )
        if value and plain and (why := agreement.fault(value, plain)):
            ours[HAND_VALUE].end("wrong", f"value: {why}, {name} size")
        for title, cell in ours.items():
            if title in (HAND, *VALUES) or not cell.alive:
                continue
            if gradient is None:
                cell.end("unchecked", "there is no C by hand to check it against")
            elif why := agreement.fault(cell.found(name), gradient):
                cell.end("wrong", f"{why}, {name} size")


def _progress(session: WorkloadSession, what: str) -> None:
    if session.progress:
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
