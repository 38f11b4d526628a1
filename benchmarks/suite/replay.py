"""Compiled functions: replay, compiling, batches.  Skipped at commits before ``fad.compile``."""

import fastad as fad
import numpy as np

from functions import paths, pendulum, recurrence, rosenbrock, shooting

STEPS = 1000


def _steps(x):
    return shooting.objective(x, np.sin, np.tanh)


def _toll(x):
    return paths.toll(x, np.sin, np.tanh)


def _outcome(angle, speed, damping):
    return pendulum.outcome(angle, speed, damping, np.sin)


def _need(*names):
    """A benchmark whose setup raises NotImplementedError is skipped by asv."""
    absent = [name for name in names if not hasattr(fad, name)]
    if absent:
        raise NotImplementedError(f"fastad has no {absent}")


class Rosenbrock:
    """Value and gradient with NumPy slices and ``np.sum``."""

    params = (3, 100, 10**4, 10**6)
    param_names = ("n",)

    def setup(self, n):
        """Compiled, and called once."""
        _need("compile")
        self.x = rosenbrock.point(n)
        self.both = fad.value_and_grad(fad.compile(rosenbrock.value))
        self.both(self.x)

    def time_replay(self, _n):
        """A call."""
        self.both(self.x)

    def time_function_to_first_gradient(self, _n):
        """Recorded and compiled at every call."""
        fad.value_and_grad(fad.compile(rosenbrock.value))(self.x)


class ScalarLoops:
    """Plain Python loops over scalars."""

    params = ("independent steps", "recurrence")
    param_names = ("loop",)

    def setup(self, loop):
        """Compiled, and called once."""
        _need("compile")
        independent = loop == "independent steps"
        self.function = _steps if independent else recurrence.last_position
        self.x = (shooting if independent else recurrence).point(STEPS)
        self.compiled = fad.compile(self.function)
        self.both = fad.value_and_grad(self.compiled)
        self.compiled(self.x), self.both(self.x)

    def time_value(self, _loop):
        """A call for the value."""
        self.compiled(self.x)

    def time_value_and_grad(self, _loop):
        """A call for value and gradient."""
        self.both(self.x)

    def time_function_to_first_gradient(self, _loop):
        """Recorded and compiled at every call."""
        fad.value_and_grad(fad.compile(self.function))(self.x)

    def track_instructions(self, _loop):
        """Instructions for value and gradient, those of the scalar interpreter included."""
        program = self.both.program(self.x)
        return program.instructions + program.scalars

    track_instructions.unit = "instructions"

    def track_program_bytes(self, _loop):
        """Memory of the program."""
        return self.both.program(self.x).nbytes

    track_program_bytes.unit = "bytes"


class Lanes:
    """A scalar function of 201 operations, and its gradient, over a batch."""

    params = (100, 10**5)
    param_names = ("points",)

    def setup(self, points):
        """Compiled, and called once."""
        _need("compile", "vmap")
        self.points = pendulum.points(points)
        both = fad.value_and_grad(fad.compile(_outcome), argnums=(0, 1, 2))
        self.batch = fad.vmap(both)
        self.batch(*self.points)

    def time_vmap(self, _points):
        """A batch."""
        self.batch(*self.points)


class Paths:
    """A function with twenty paths."""

    def setup(self):
        """Every path recorded."""
        _need("compile")
        self.points = list(paths.points(1000))
        self.both = fad.value_and_grad(fad.compile(_toll))
        for x in self.points:
            self.both(x)

    def time_calls(self):
        """1000 calls at random arguments."""
        for x in self.points:
            self.both(x)


class Scan:
    """A recurrence on 64 elements."""

    params = (None, 20)
    param_names = ("checkpoints",)

    def setup(self, checkpoints):
        """The point, and the transform."""
        _need("scan")
        self.x = np.linspace(-1.0, 1.0, 64), np.linspace(1.0, -1.0, 64), recurrence.point(STEPS)

        def body(carry, push):
            return recurrence.step(*carry, push), None

        def objective(position, speed, pushes):
            (position, _), _ = fad.scan(body, (position, speed), pushes, checkpoints=checkpoints)
            return np.sum(position)

        self.both = fad.value_and_grad(objective, argnums=(0, 1, 2))

    def time_value_and_grad(self, _checkpoints):
        """1000 steps."""
        self.both(*self.x)

    def peakmem_value_and_grad(self, _checkpoints):
        """1000 steps."""
        self.both(*self.x)
