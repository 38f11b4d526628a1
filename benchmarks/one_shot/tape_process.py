"""Records and sweeps a chain of N scalar operations in a process of its own; prints JSON.

``python benchmarks/one_shot/tape_process.py 1000000``.  A fresh process, so that resident memory
and growth are those of this one recording.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastad as fad
import numpy as np

from functions import chain
from harness.machine import resident_bytes


def measure(operations: int) -> dict:
    """Seconds and bytes of one recording and one sweep, the gradient checked."""
    steps = operations // chain.OPERATIONS_A_STEP
    _record_and_sweep(10)
    gc.collect()
    gc.disable()
    return _record_and_sweep(steps)


def _record_and_sweep(steps: int) -> dict:
    resident = [resident_bytes()]
    used = resource.getrusage(resource.RUSAGE_SELF)
    start = perf_counter()
    with fad.Tape() as tape:
        variables = [tape.variable(value) for value in chain.POINT.tolist()]
        result = chain.variables(steps, *variables)
    recorded = perf_counter()
    resident.append(resident_bytes())
    swept_from = perf_counter()
    partials = tape.gradient(result, variables)
    swept = perf_counter()
    now = resource.getrusage(resource.RUSAGE_SELF)
    resident.append(resident_bytes())
    expected = chain.gradient(steps, with_factors=True)
    error = np.max(np.abs(np.array(partials, dtype=float) / expected - 1.0))
    return {
        "operations": steps * chain.OPERATIONS_A_STEP,
        "record_seconds": recorded - start,
        "sweep_seconds": swept - swept_from,
        "user_seconds": now.ru_utime - used.ru_utime,
        "kernel_seconds": now.ru_stime - used.ru_stime,
        "tape_bytes": getattr(tape, "nbytes", None),
        "recorded_bytes": resident[1] - resident[0],
        "swept_bytes": resident[2] - resident[0],
        "value_right": float(result.value) == chain.value(steps),
        "gradient_error": float(error),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
