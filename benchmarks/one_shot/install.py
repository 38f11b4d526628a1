"""What it costs to have fastad: import time and the size of the wheels."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from harness.fresh_process import MeasurementError, run
from harness.machine import ROOT
from harness.report import Line, at_most, missing, wrong
from harness.session import Case, Session

IMPORT_BAR, WHEEL_BAR = at_most(20.0), at_most(3.0)
RUNS, QUICK_RUNS = 41, 5
TIMED_IMPORT = """
from time import perf_counter
start = perf_counter()
import {module}
print(perf_counter() - start)
"""


def import_time(session: Session) -> Iterator[Line]:
    """Median of fresh interpreters, numpy and fastad in turn; fastad brings numpy with it."""
    title = "import fastad - import numpy"
    try:
        pairs = [
            tuple(run("-c", TIMED_IMPORT.format(module=module)) for module in ("numpy", "fastad"))
            for _ in range(QUICK_RUNS if session.quick else RUNS)
        ]
    except MeasurementError as failure:
        yield wrong(title, str(failure), IMPORT_BAR)
        return
    numpy, ours = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    yield Line(
        title,
        ours - numpy,
        "ms",
        IMPORT_BAR,
        ours=f"{ours:.1f} ms",
        theirs=f"numpy {numpy:.1f} ms",
        detail={"numpy, fastad": pairs},
        note=f"medians of {len(pairs)} fresh interpreters each, in turn",
    )


def wheel_size(_session: Session) -> Iterator[Line]:
    """Every wheel in ``dist/``."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        yield missing("wheel", "no wheel in dist: `make wheel` builds them", WHEEL_BAR)
    for wheel in wheels:
        size = wheel.stat().st_size / 1e6
        yield Line(wheel.name, size, "MB", WHEEL_BAR, ours=f"{size:.2f} MB")


CASES = (
    Case("import", "Import time", import_time),
    Case("wheel", "Size of the wheels", wheel_size),
)
