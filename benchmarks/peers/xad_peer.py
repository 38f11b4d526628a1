"""XAD's Python binding: a C++ tape of scalars."""

from __future__ import annotations

import numpy as np
import xad.adj_1st as xadj
import xad.math

from functions import rosenbrock
from peers.base import Peer, Prepared


class Xad(Peer):
    """One tape, cleared and used again at every call, as its documentation advises."""

    title = "XAD"
    how = "adj_1st, one tape used again (clearAll); a list of scalars, since it has no arrays"
    largest = 10**4

    def rosenbrock(self, x):
        tape, numbers = xadj.Tape(), [float(each) for each in x]

        def both():
            with tape:
                tape.clearAll()
                variables = [xadj.Real(each) for each in numbers]
                tape.registerInputs(variables)
                tape.newRecording()
                value = rosenbrock.value_of_scalars(variables)
                tape.registerOutput(value)
                value.derivative = 1.0
                tape.computeAdjoints()
                return value.value, [each.derivative for each in variables]

        return Prepared(both, lambda found: (found[0], np.array(found[1])))

    def recording(self, body, values):
        if not all(isinstance(value, float) for value in values):
            return None
        tape = xadj.Tape()

        def record():
            with tape:
                tape.clearAll()
                variables = [xadj.Real(value) for value in values]
                tape.registerInputs(variables)
                tape.newRecording()
                body(*variables)

        return record

    def sweep(self, function, values, wanted):
        tape = xadj.Tape()
        with tape:
            variables = [xadj.Real(value) for value in values]
            tape.registerInputs(variables)
            tape.newRecording()
            result = function(variables, xad.math.tanh)
            tape.registerOutput(result)
        asked = variables[-wanted:]

        def call():
            with tape:
                tape.clearDerivatives()
                result.derivative = 1.0
                tape.computeAdjoints()
                return [each.derivative for each in asked]

        return Prepared(call, lambda found: (result.value, np.array(found)))


def contenders() -> list[Peer]:
    """XAD has one way."""
    return [Xad()]
