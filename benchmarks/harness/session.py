"""What a case is given, and the check that every gradient passes before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.report import Bar, Line, wrong
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
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
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
