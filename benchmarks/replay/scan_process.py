"""A long recurrence and its gradient in a process of its own; prints JSON.

``python benchmarks/replay/scan_process.py loop 100000``: a Python loop, every operation recorded;
``scan``: ``fad.scan``; ``scan 100000 100``: ``fad.scan`` with 100 checkpoints.  A fresh process, so
that the peak of resident memory is that of this one gradient.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastad as fad
import numpy as np

from functions import recurrence
from harness.machine import forget_peak, peak_bytes, resident_bytes

OSCILLATORS = 64
WARM_UP_STEPS = 20


def by_loop(position, speed, pushes):
    """Sum of the last positions; each step is 10 operations on arrays."""
    for k in range(len(pushes)):
        position, speed = recurrence.step(position, speed, pushes[k])
    return np.sum(position)


def by_scan(checkpoints: int | None):
    """The same by ``fad.scan``."""

    def body(carry, push):
        return recurrence.step(*carry, push), None

    def objective(position, speed, pushes):
        (position, _), _ = fad.scan(body, (position, speed), pushes, checkpoints=checkpoints)
        return np.sum(position)

    return objective


def point(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and speeds at the start, and one push a step for all oscillators."""
    generator = np.random.default_rng(31337)
    return (
        *generator.normal(size=(2, OSCILLATORS)),
        0.1 * generator.normal(size=steps),
    )


def measure(objective, steps: int) -> dict:
    """Seconds and bytes of value and gradient, and the error of its slope along one direction."""
    both = fad.value_and_grad(objective, argnums=(0, 1, 2))
    both(*point(WARM_UP_STEPS))
    x = point(steps)
    gc.collect()
    gc.disable()
    before = resident_bytes()
    forget_peak()
    start = perf_counter()
    value, gradient = both(*x)
    seconds = perf_counter() - start
    peak = peak_bytes() - before
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "value_error": abs(float(value) / by_loop(*x) - 1.0),
        "slope_error": _slope_error(x, gradient),
    }


def _slope_error(x: tuple, gradient: tuple) -> float:
    generator = np.random.default_rng(1)
    directions = [generator.choice([-1.0, 1.0], len(each)) for each in x]
    shifted = [each + 1e-30j * way for each, way in zip(x, directions, strict=True)]
    slope = by_loop(*shifted).imag / 1e-30
    found = sum(float(g @ way) for g, way in zip(gradient, directions, strict=True))
    norm = np.sqrt(sum(float(g @ g) for g in gradient))
    return abs(found - slope) / norm


def main(kind: str, steps: str, checkpoints: str | None = None) -> None:
    """Print what was measured."""
    objective = by_loop if kind == "loop" else by_scan(checkpoints and int(checkpoints))
    print(json.dumps(measure(objective, int(steps))))


if __name__ == "__main__":
    main(*sys.argv[1:])
