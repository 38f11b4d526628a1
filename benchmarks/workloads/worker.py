"""One contender at one size, in a process of its own; answers a line of JSON for a line of input.

``python benchmarks/workloads/worker.py SPEC`` with SPEC a JSON object: workload, size, module, way,
results (a folder), cores. First it writes what it computed at the small size and at this one to
``results`` and says how long the first call took and how much memory. Then for each number that it
reads it makes that many calls and says the seconds.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from harness.machine import forget_peak, peak_bytes, resident_bytes
from harness.report import reason


def main(text: str) -> None:
    """Prepare, report, then obey."""
    spec = json.loads(text)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints is not an answer

    def say(**answer):
        print(json.dumps(answer), file=answers, flush=True)

    if spec["cores"]:
        os.sched_setaffinity(0, set(spec["cores"]))
    try:
        ready, facts = prepared(spec)
    except Exception as error:  # a package may fail in any way
        say(failed=reason(error))
        return
    say(**facts)
    for line in sys.stdin:
        gc.collect()
        gc.disable()
        say(seconds=ready.run(int(line)))
        gc.enable()


def prepared(spec: dict):
    """The contender after its first call, and what that took."""
    workload = import_module(f"workloads.{spec['workload']}").WORKLOAD
    try:
        adapter = import_module(spec["module"])
    except ModuleNotFoundError as error:
        raise ImportError(f"not installed ({error})") from error
    small = adapter.prepare(workload, workload.data(workload.small), spec["way"])
    write(spec, "small", small.first())
    small.run(1)
    data = workload.data(tuple(spec["size"]))
    gc.collect()
    before = resident_bytes()
    forget_peak()
    start = perf_counter()
    ready = adapter.prepare(workload, data, spec["way"])
    found = ready.first()
    seconds = perf_counter() - start
    write(spec, "full", found)
    return ready, {"first_seconds": seconds, "peak_bytes": peak_bytes() - before}


def write(spec: dict, name: str, arrays: list[np.ndarray]) -> None:
    """For the comparison with the others."""
    np.savez(Path(spec["results"]) / f"{name}.npz", *arrays)


if __name__ == "__main__":
    main(sys.argv[1])
