"""A long recurrence by ``fad.scan`` with checkpoints: its memory and time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness.fresh_process import MeasurementError, run
from harness.owing import owing
from harness.report import Line, at_most, duration
from harness.session import TOLERANCE, Case, Session
from peers.fastad_peer import lacking

SCAN_PROCESS = Path(__file__).with_name("scan_process.py")
STEPS, QUICK_STEPS, CHECKPOINTS = 100_000, 2000, 100
MEMORY = f"peak memory, {CHECKPOINTS} checkpoints / the whole recording"
TIME = f"time, {CHECKPOINTS} checkpoints / the whole recording"
WAYS = {"loop": (), "scan": (), "checkpoints": (str(CHECKPOINTS),)}


def checkpoints(session: Session) -> Iterator[Line]:
    """In turn: a recorded Python loop, a scan that keeps every state, one with checkpoints."""
    steps = QUICK_STEPS if session.quick else STEPS
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(1 if session.quick else 3):
        for way in WAYS:
            runs[way].append(_measured(way, steps))
    note = (
        f"{steps} steps of 10 operations on 64 elements; the whole recording is that of a Python "
        "loop; medians of fresh processes; growth of resident memory at its peak"
    )
    yield from _lines("checkpoints", runs, MEMORY, TIME, note)
    yield from _lines("scan", runs, "  the same without checkpoints, memory", "  time", note)


def _measured(way: str, steps: int) -> dict:
    kind = "loop" if way == "loop" else "scan"
    found = run(str(SCAN_PROCESS), kind, str(steps), *WAYS[way])
    error = max(found["value_error"], found["slope_error"])
    if not error <= TOLERANCE:
        raise MeasurementError(f"wrong by {error:.1e}: {way}")
    return found


def _lines(way: str, runs: dict, memory: str, time: str, note: str) -> Iterator[Line]:
    peak, seconds = (_medians(runs[way], key) for key in ("peak_bytes", "seconds"))
    whole_peak, whole_seconds = (_medians(runs["loop"], key) for key in ("peak_bytes", "seconds"))
    yield Line(
        memory,
        peak / whole_peak,
        ours=f"{peak / 2**20:.1f} MiB",
        theirs=f"whole {whole_peak / 2**20:.0f} MiB",
        note=note,
        detail={"runs": runs[way]},
    )
    yield Line(
        time,
        seconds / whole_seconds,
        ours=duration(seconds),
        theirs=f"whole {duration(whole_seconds)}",
        note=note,
    )


def _medians(runs: list[dict], key: str) -> float:
    return statistics.median(found[key] for found in runs)


CASES = (
    Case(
        "scan",
        f"A recurrence of {STEPS} steps by scan with {CHECKPOINTS} checkpoints",
        owing({MEMORY: at_most(0.02), TIME: at_most(4.0)}, checkpoints, partial(lacking, "scan")),
    ),
)
