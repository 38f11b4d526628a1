"""Whether time grows linearly with the length of the recording, to 10^8 operations."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

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
REPEATS = {10**5: 9, 10**6: 7, 10**7: 3, 10**8: 1}


def growth(session: Session) -> Iterator[Line]:
    """Seconds an operation, recorded and swept, at each size / at the smallest."""
    base = None
    for operations in SIZES[:2] if session.quick else SIZES:
        base, line = _measured(operations, base, session.quick)
        yield line
        if base is None:
            return
    yield from _largest(session, base)


def _largest(session: Session, base: float) -> Iterator[Line]:
    what = _title(LARGEST)
    if not session.large:
        yield not_run(what, "asks for --large: about 4 GiB and some seconds", BAR)
    elif (free := available_bytes()) is not None and free < NEEDED_BYTES:
        yield not_run(what, f"{free / 2**30:.1f} GiB free, {NEEDED_BYTES / 2**30:.0f} asked", BAR)
    else:
        yield _measured(LARGEST, base, session.quick)[1]


def _title(operations: int) -> str:
    return f"record and sweep, {operations:.0e} operations".replace("e+0", "e")


def _measured(operations: int, base: float | None, quick: bool) -> tuple[float | None, Line]:
    try:
        runs = [tape(operations) for _ in range(1 if quick else REPEATS[operations])]
    except MeasurementError as failure:
        return None, wrong(_title(operations), str(failure), BAR)
    record, sweep = (
        statistics.median(run[key] / run["operations"] for run in runs)
        for key in ("record_seconds", "sweep_seconds")
    )
    base = base or record + sweep
    line = Line(
        _title(operations),
        (record + sweep) / base,
        bar=BAR,
        ours=duration(record + sweep),
        theirs=f"at {SMALLEST:.0e} {duration(base)}".replace("e+0", "e"),
        note="an operation's time / its time at the smallest size: 1 is linear; fresh processes, "
        "the Python loop included",
        detail={"record_ns": record * 1e9, "sweep_ns": sweep * 1e9, "runs": runs},
    )
    return base, line


CASES = (Case("growth", "Growth with the length of the recording", growth),)
