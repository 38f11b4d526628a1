"""Memory of a recording."""

import fastad as fad
import numpy as np

from functions import chain, rosenbrock

STEPS = 10**6 // chain.OPERATIONS_A_STEP


def _record():
    with fad.Tape() as tape:
        variables = [tape.variable(value) for value in chain.POINT.tolist()]
        result = chain.variables(STEPS, *variables)
    return tape, result, variables


def track_tape_bytes_a_scalar_node():
    """What the tape says of itself after 10^6 scalar operations."""
    tape, _, _ = _record()
    return tape.nbytes / len(tape)


track_tape_bytes_a_scalar_node.unit = "bytes"


def peakmem_nothing():
    """The floor: the interpreter with numpy and fastad."""
    return np.zeros(1)


def peakmem_million_scalars():
    """10^6 scalar operations, recorded and swept."""
    tape, result, variables = _record()
    tape.gradient(result, variables)


class Rosenbrock:
    """Value and gradient at n = 10^6."""

    def setup(self):
        """The point, 8 MB."""
        self.x = rosenbrock.point(10**6)

    def peakmem_numpy_value(self):
        """NumPy's value alone."""
        rosenbrock.value(self.x)

    def peakmem_value_and_grad(self):
        """Recorded and swept."""
        fad.value_and_grad(rosenbrock.value)(self.x)
