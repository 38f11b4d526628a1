"""Whether what a contender computed is what the C by hand computed."""

from __future__ import annotations

import numpy as np

from harness.session import TOLERANCE


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """max |found − expected| / max |expected|; where all is zero, or whole numbers, equal or not.

    NaN and another shape are infinite.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return float("inf")
    largest = float(np.max(np.abs(expected), initial=0.0))
    if largest == 0.0 or expected.dtype.kind in "iu":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    relative = float(np.max(np.abs(found - expected))) / largest
    return relative if np.isfinite(relative) else float("inf")


def fault(found: list[np.ndarray], expected: list[np.ndarray]) -> str | None:
    """None if every array agrees to 1e-9; else the errors."""
    if len(found) != len(expected):
        return f"{len(found)} results, {len(expected)} expected"
    errors = [error(a, b) for a, b in zip(found, expected, strict=True)]
    if all(each <= TOLERANCE for each in errors):
        return None
    return "relative errors " + ", ".join(f"{each:.1e}" for each in errors)
