"""fastad itself, through its public names only."""

from __future__ import annotations

import fastad as fad
import numpy as np

from functions import pendulum, rosenbrock
from peers.base import Peer, Prepared


class Fastad(Peer):
    """One-shot transforms, and ``fad.Tape``."""

    title = "fastad"
    how = "one-shot: f is recorded and swept at every call"

    def rosenbrock(self, x):
        both = fad.value_and_grad(rosenbrock.value)
        return Prepared(lambda: both(x), lambda found: (float(found[0]), np.asarray(found[1])))

    def product(self, x, y):
        both = fad.value_and_grad(lambda x, y: np.sum(x * y), argnums=(0, 1))
        return Prepared(lambda: both(x, y), lambda found: (float(found[0]), np.stack(found[1])))

    def recording(self, body, values):
        def record():
            with fad.Tape() as tape:
                return body(*[tape.variable(value) for value in values])

        return record

    def sweep(self, function, values, wanted):
        with fad.Tape() as tape:
            variables = [tape.variable(value) for value in values]
            result = function(variables, np.tanh)

        asked = variables[-wanted:]
        value = float(result.value)
        return Prepared(
            lambda: tape.gradient(result, asked),
            lambda found: (value, np.array([float(partial) for partial in found])),
        )


class FastadCompiled(Peer):
    """``fad.compile``: recorded at the first call, then replayed; contender of ``replay``."""

    title = "fastad"
    how = (
        "fad.value_and_grad(fad.compile(f)); compiled before, except where the line says otherwise"
    )
    records_each_call = False

    def rosenbrock(self, x):
        both = fad.value_and_grad(fad.compile(rosenbrock.value))
        return Prepared(lambda: both(x), lambda found: (float(found[0]), np.asarray(found[1])))

    def pendulums(self, points):
        both = fad.vmap(fad.value_and_grad(fad.compile(_outcome), argnums=(0, 1, 2)))
        return Prepared(
            lambda: both(*points), lambda found: (np.asarray(found[0]), np.stack(found[1]))
        )


def _outcome(angle, speed, damping):
    return pendulum.outcome(angle, speed, damping, np.sin)


def lacking(*names: str) -> str | None:
    """Which of these public names this fastad does not have, as a sentence; None if it has all."""
    absent = [name for name in names if not hasattr(fad, name)]
    return f"fastad {fad.__version__} has no {', '.join(absent)}" if absent else None


def contenders() -> list[Peer]:
    """Us."""
    return [Fastad()]
