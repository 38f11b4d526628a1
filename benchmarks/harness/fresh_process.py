"""Runs a measurement in a fresh interpreter, pinned as this process is, and reads its JSON."""

from __future__ import annotations

import json
import subprocess
import sys


class MeasurementError(Exception):
    """The process ended with an error, or its gradient was wrong."""


def run(*arguments: str) -> dict:
    """The JSON that ``python *arguments`` prints on its last line."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise MeasurementError(last[0])
    return json.loads(done.stdout.strip().splitlines()[-1])
