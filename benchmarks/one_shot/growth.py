"""Whether time grows linearly with the length of the recording, to 10^8 operations."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from harness.fresh_process import MeasurementError
from harness.machine import available_bytes
from harness.report import Line, at_most, duration, not_run, wrong
from harness.session import Case, Session
from one_shot.fresh_tape import tape

SMALLEST = 10**5
SIZES = (10**5, 10**6, 10**7)
LARGEST = 10**8
BAR = at_most(1.5)
NEEDED_BYTES = 6 * 2**30
TICK = 0.01  # seconds: what a kernel may count in
REPEATS = {10**5: 9, 10**6: 7, 10**7: 3, 10**8: 3}


def growth(session: Session) -> Iterator[Line]:
    """Seconds an operation, recorded and swept, at each size / at the smallest."""
    base = None
    for operations in SIZES[:2] if session.quick else SIZES:
        base, lines = _measured(operations, base, session.quick)
        yield from lines
        if base is None:
            return
    yield from _largest(session, base)


def _largest(session: Session, base: _Times) -> Iterator[Line]:
    what = _title(LARGEST)
    if not session.large:
        yield not_run(what, "asks for --large: about 4 GiB and some seconds", BAR)
    elif (free := available_bytes()) is not None and free < NEEDED_BYTES:
        yield not_run(what, f"{free / 2**30:.1f} GiB free, {NEEDED_BYTES / 2**30:.0f} asked", BAR)
    else:
        yield from _measured(LARGEST, base, session.quick)[1]


def _title(operations: int) -> str:
    return f"record and sweep, {operations:.0e} operations".replace("e+0", "e")


class _Times(NamedTuple):
    """Seconds an operation: by the clock, and what the process itself and the kernel computed."""

    record: float
    sweep: float
    user: float
    kernel: float

    @property
    def wall(self) -> float:
        return self.record + self.sweep


def _measured(
    operations: int, base: _Times | None, quick: bool
) -> tuple[_Times | None, list[Line]]:
    try:
        runs = [tape(operations) for _ in range(1 if quick else REPEATS[operations])]
    except MeasurementError as failure:
        return None, [wrong(_title(operations), str(failure), BAR)]
    times = _Times(
        *(
            statistics.median(run[f"{key}_seconds"] / run["operations"] for run in runs)
            for key in _Times._fields
        )
    )
    base = base or times
    found = [
        Line(
            _title(operations),
            times.wall / base.wall,
            bar=BAR,
            ours=duration(times.wall),
            theirs=f"at {SMALLEST:.0e} {duration(base.wall)}".replace("e+0", "e"),
            note="an operation's time / its time at the smallest size: 1 is linear; fresh "
            "processes, the Python loop included",
            detail={"times": times._asdict(), "runs": runs},
        )
    ]
    if times.wall * operations > 10 * TICK:
        found.append(
            Line(
                "  of it in the kernel, which clears pages",
                times.kernel / times.wall,
                ours=duration(times.kernel),
                theirs=f"our own code {duration(times.user)}",
                note="first touches of memory: getrusage(2), user and system time, an operation",
            )
        )
    return base, found


CASES = (Case("growth", "Growth with the length of the recording", growth),)
