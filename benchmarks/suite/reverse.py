"""The reverse loop over a recording made beforehand."""

import fastad as fad
import numpy as np

from functions import chain, dense

LAYERS, WIDTH = 4, 64


class DenseStack:
    """Four dense layers of 64 x 64 in plain Python loops."""

    def setup(self):
        """Record once."""
        with fad.Tape() as self.tape:
            variables = [self.tape.variable(v) for v in dense.point(LAYERS, WIDTH).tolist()]
            layers = dense.nested(variables, LAYERS, WIDTH)
            self.result = dense.stack(*layers, np.tanh)
        self.all, self.inputs = variables, variables[-WIDTH:]

    def time_inputs(self):
        """The partials of the inputs."""
        self.tape.gradient(self.result, self.inputs)

    def time_all(self):
        """The partials of all weights too."""
        self.tape.gradient(self.result, self.all)


class Chain:
    """A chain without any parallelism."""

    params = (10**4, 10**6)
    param_names = ("operations",)

    def setup(self, operations):
        """Record once."""
        with fad.Tape() as self.tape:
            self.variables = [self.tape.variable(value) for value in chain.POINT.tolist()]
            steps = operations // chain.OPERATIONS_A_STEP
            self.result = chain.variables(steps, *self.variables)

    def time_sweep(self, _operations):
        """One sweep."""
        self.tape.gradient(self.result, self.variables)
