"""Loops that write into an array: time and memory in proportion to the number of steps."""

import fastad as fad

from functions import written_recurrence


class Loop:
    """Value and gradient of a recurrence, its steps the n elements or the n rows of an array."""

    params = (("value", "table"), (1000, 4000, 16000))
    param_names = ("function", "n")

    def setup(self, function, n):
        """The point and the transform."""
        self.x = written_recurrence.point(n)
        self.function = getattr(written_recurrence, function)
        self.both = fad.value_and_grad(self.function)

    def time_numpy_value(self, _function, _n):
        """NumPy's value alone."""
        self.function(self.x)

    def time_value_and_grad(self, _function, _n):
        """Recorded and swept at every call."""
        self.both(self.x)

    def track_tape_bytes_a_step(self, _function, n):
        """What the tape says of itself after recording and a sweep."""
        with fad.Tape() as tape:
            x = tape.variable(self.x)
            y = self.function(x)
        tape.gradient(y, x)
        return tape.nbytes / n

    track_tape_bytes_a_step.unit = "bytes"
