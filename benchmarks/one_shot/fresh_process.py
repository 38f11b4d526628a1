"""Runs a measurement in a fresh interpreter, pinned as this process is, and reads its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from harness.session import TOLERANCE

TAPE_PROCESS = Path(__file__).with_name("tape_process.py")


class MeasurementError(Exception):
    """The process ended with an error, or its gradient was wrong."""


def run(*arguments: str) -> dict:
    """The JSON that ``python *arguments`` prints on its last line."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise MeasurementError(last[0])
    return json.loads(done.stdout.strip().splitlines()[-1])


def tape(operations: int) -> dict:
    """Record and sweep a chain of that many operations; its gradient is right."""
    found = run(str(TAPE_PROCESS), str(operations))
    if not (found["value_right"] and found["gradient_error"] <= TOLERANCE):
        raise MeasurementError(f"wrong by {found['gradient_error']:.1e} at {operations} operations")
    return found
