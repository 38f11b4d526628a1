"""``compare.py replay``: functions recorded once, and then replayed."""

from __future__ import annotations

from replay import compiling, lanes, loops, paths, rosenbrock, scan

CASES = (
    *rosenbrock.CASES,
    *loops.CASES,
    *compiling.CASES,
    *lanes.CASES,
    *scan.CASES,
    *paths.CASES,
)
