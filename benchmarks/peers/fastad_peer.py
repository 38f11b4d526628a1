"""fastad itself, through its public names only."""

from __future__ import annotations

import fastad as fad
import numpy as np

from functions import rosenbrock
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


def contenders() -> list[Peer]:
    """Us."""
    return [Fastad()]
