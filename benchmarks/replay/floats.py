"""Figures in units of F, the time of one Python float operation in the same run."""

from __future__ import annotations

from functions import chain
from harness.report import Line, ratio
from harness.session import Session
from harness.timing import Figure

F = "a Python float operation"


def timed(session: Session, calls: dict) -> dict[str, Figure]:
    """Seconds a call of each contender, in turn with a chain of Python floats, which gives `F`."""
    figures = session.time({F: chain.on_floats(), **calls})
    figures[F] = figures[F].per(chain.OPERATIONS_A_CALL)
    return figures


def in_floats(what: str, ours: Figure, figures: dict[str, Figure], note: str) -> Line:
    """Our time in units of F."""
    line = ratio(what, ours, figures[F], "F", note=f"{note}; F is {F}")
    line.unit = "F"
    return line
