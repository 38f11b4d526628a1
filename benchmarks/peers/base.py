"""What a contender can be asked for.  Whatever an adapter does not override, it does not offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = tuple[float | np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """A call ready to be timed.

    Parameters
    ----------
    call : callable
        Does the work; returns what the package returns.
    read : callable
        Turns that result into NumPy's value and gradient, for the check before the timing.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Value]


class Peer:
    """A contender.

    Attributes
    ----------
    title : str
        Its name in the table.
    how : str
        How it is used, for a footnote.
    records_each_call : bool
        False if it traces or compiles once and then replays, which is not timed here.
    largest : int
        The largest n at which it is asked for a gradient.
    """

    title = ""
    how = ""
    records_each_call = True
    largest = 10**6

    def rosenbrock(self, x: np.ndarray) -> Prepared | None:
        """Value and gradient of the chained Rosenbrock function at x."""

    def pendulums(self, points: tuple[np.ndarray, ...]) -> Prepared | None:
        """Values and gradients of `functions.pendulum.outcome` at every point, as one batch.

        They are read as arrays of shape (N,) and (3, N).
        """

    def product(self, x: np.ndarray, y: np.ndarray) -> Prepared | None:
        """Value of Σ x·y and its gradients for x and y, stacked."""

    def recording(self, body: Callable, values: Sequence) -> Callable[[], Any] | None:
        """A call that records ``body(*variables)`` once, each variable holding one of `values`."""

    def sweep(self, function: Callable, values: Sequence[float], wanted: int) -> Prepared | None:
        """Record ``function(variables, tanh)`` now; the call is the reverse sweep alone.

        It returns the partials of the last `wanted` variables.
        """
