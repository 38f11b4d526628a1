"""What a case is given, and the check that every gradient passes before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.report import Bar, Line, reason, wrong
from harness.timing import FULL, Effort, Figure, interleave

if TYPE_CHECKING:
    from peers.base import Peer, Prepared

TOLERANCE = 1e-9


@dataclass
class Session:
    """The run: who takes part, how long to measure, and what to leave out."""

    ours: Peer
    peers: list[Peer]
    absent: dict[str, str] = field(default_factory=dict)
    effort: Effort = FULL
    quick: bool = False
    large: bool = False

    def peer(self, title: str) -> Peer | None:
        """The peer of that title, or None if it does not take part."""
        return next((peer for peer in self.peers if peer.title == title), None)

    def time(self, contenders: Mapping[str, Callable[[], object]]) -> dict[str, Figure]:
        """Time the contenders in turn, with this session's effort."""
        return interleave(contenders, self.effort)


@dataclass(frozen=True)
class Case:
    """One block of the table.

    Parameters
    ----------
    name : str
        For ``--only``.
    title : str
        The heading.
    run : callable
        Takes the session, yields lines.
    """

    name: str
    title: str
    run: Callable[[Session], Iterable[Line]]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """max |found − expected| / max |expected|; infinite if the shapes differ."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def slope_error(function: Callable, x: np.ndarray, gradient: np.ndarray) -> float:
    """How far a gradient is from complex steps of the function, along three random directions.

    The imaginary part of f(x + ihd)/h, h = 1e-30, is the slope along d for every analytic f,
    without cancellation (Squire and Trapp, SIAM Review 40, 1998).

    Parameters
    ----------
    function : callable
        Takes a list of complex numbers; no comparisons, no abs.
    x, gradient : ndarray
        The point, and what is to be checked.

    Returns
    -------
    float
        The largest difference, relative to the gradient's 2-norm.
    """
    generator, worst = np.random.default_rng(1), 0.0
    for _ in range(3):
        direction = generator.choice([-1.0, 1.0], len(x))
        slope = function((x + 1e-30j * direction).tolist()).imag / 1e-30
        error = abs(gradient @ direction - slope) / np.linalg.norm(gradient)
        worst = max(worst, float(error) if np.isfinite(error) else np.inf)
    return worst


def fault(prepared: Prepared, value: float, gradient: np.ndarray) -> str | None:
    """Why a contender may not be timed, or None: value and gradient within 1e-9 of by hand.

    Parameters
    ----------
    prepared : Prepared
        The contender.
    value, gradient : float, ndarray
        From the function's own NumPy code and its hand-written gradient.
    """
    try:
        found = prepared.read(prepared.call())
    except Exception as error:  # a peer may fail in any way; the run goes on without it
        return reason(error)
    errors = [
        relative_error(np.asarray(a), np.asarray(b))
        for a, b in zip(found, (value, gradient), strict=True)
    ]
    if all(error <= TOLERANCE for error in errors):
        return None
    return "relative error of value {:.1e}, of gradient {:.1e}".format(*errors)


def checked(
    prepared: Mapping[str, Prepared],
    value: float,
    gradient: np.ndarray,
    bars: Mapping[str, Bar] | None = None,
) -> tuple[dict[str, Callable[[], object]], list[Line]]:
    """Split contenders into those whose gradient is right and lines for the rest.

    Returns
    -------
    calls : dict of str to callable
        What may be timed.
    faults : list of Line
        One line a contender that may not.
    """
    calls, faults = {}, []
    for name, contender in prepared.items():
        why = fault(contender, value, gradient)
        if why is None:
            calls[name] = contender.call
        else:
            faults.append(wrong(name, why, (bars or {}).get(name)))
    return calls, faults
