"""Recording: scalars, small arrays, and the same loops without recording."""

import fastad as fad
import numpy as np

from functions import chain

STEPS = 1000
BODIES = {"variables": chain.variables, "constants": chain.constants, "loop": chain.nothing}


class Scalars:
    """16 000 scalar operations a call."""

    params = ("variables", "constants", "loop")
    param_names = ("factors",)

    def setup(self, factors):
        """One copy of the bytecode for floats, one for Arrays."""
        self.plain, self.recorded = (chain.own_copy(BODIES[factors]) for _ in range(2))
        self.values = chain.POINT.tolist()

    def time_float(self, _factors):
        """Python floats."""
        self.plain(STEPS, *self.values)

    def time_record(self, _factors):
        """The same on a tape."""
        with fad.Tape() as tape:
            self.recorded(STEPS, *[tape.variable(value) for value in self.values])


class SmallArrays:
    """100 products of small arrays a call."""

    params = (1, 10, 100, 1000)
    param_names = ("n",)

    def setup(self, n):
        """Two arrays."""
        self.x, self.y = np.linspace(1, 2, n), np.linspace(2, 3, n)

    @staticmethod
    def _products(x, y):
        for _ in range(100):
            z = x * y
        return z

    def time_numpy(self, _n):
        """NumPy itself."""
        self._products(self.x, self.y)

    def time_record(self, _n):
        """The same on a tape."""
        with fad.Tape() as tape:
            self._products(tape.variable(self.x), tape.variable(self.y))
