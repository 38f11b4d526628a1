"""Memory a recorded scalar operation takes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from harness.fresh_process import MeasurementError
from harness.report import Line, at_most, missing, wrong
from harness.session import Case, Session
from one_shot.fresh_tape import tape

OPERATIONS, QUICK_OPERATIONS = 4_000_000, 400_000
BAR = at_most(40.0)
KINDS = {
    "tape_bytes": ("tape.nbytes, a scalar operation", "what the tape says of itself"),
    "recorded_bytes": ("resident memory, recorded", "growth of the process; Arrays already freed"),
    "swept_bytes": ("resident memory, recorded and swept", "with the adjoints of the sweep"),
}


def memory(session: Session) -> Iterator[Line]:
    """What the tape says, and by how much a fresh process grew."""
    operations = QUICK_OPERATIONS if session.quick else OPERATIONS
    try:
        runs = [tape(operations) for _ in range(1 if session.quick else 3)]
    except MeasurementError as failure:
        yield wrong("memory a scalar operation", str(failure), BAR)
        return
    for key, (what, note) in KINDS.items():
        found = [run[key] for run in runs]
        if None in found:
            yield missing(what, "the tape has no nbytes", BAR)
            continue
        each = statistics.median(found) / runs[0]["operations"]
        yield Line(
            what,
            each,
            "B",
            BAR,
            ours=f"{statistics.median(found) / 2**20:.1f} MiB",
            note=f"{runs[0]['operations']} operations; {note}",
            detail={"bytes": found},
        )


CASES = (Case("memory", "Memory a recorded scalar operation", memory),)
