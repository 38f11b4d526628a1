"""One recording in a fresh process."""

from __future__ import annotations

from pathlib import Path

from harness.fresh_process import MeasurementError, run
from harness.session import TOLERANCE

TAPE_PROCESS = Path(__file__).with_name("tape_process.py")


def tape(operations: int) -> dict:
    """Record and sweep a chain of that many operations; its gradient is right."""
    found = run(str(TAPE_PROCESS), str(operations))
    if not (found["value_right"] and found["gradient_error"] <= TOLERANCE):
        raise MeasurementError(f"wrong by {found['gradient_error']:.1e} at {operations} operations")
    return found
