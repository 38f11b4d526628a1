"""One-shot gradients of the chained Rosenbrock function."""

import fastad as fad

from functions import rosenbrock


class Rosenbrock:
    """Written with NumPy slices and ``np.sum``."""

    params = (3, 100, 10**4, 10**6)
    param_names = ("n",)

    def setup(self, n):
        """The point and the transform."""
        self.x = rosenbrock.point(n)
        self.both = fad.value_and_grad(rosenbrock.value)

    def time_numpy_value(self, _n):
        """NumPy's value alone."""
        rosenbrock.value(self.x)

    def time_gradient_by_hand(self, _n):
        """Value and gradient by hand, in NumPy."""
        rosenbrock.value(self.x)
        rosenbrock.gradient(self.x)

    def time_value_and_grad(self, _n):
        """Recorded and swept at every call."""
        self.both(self.x)


class RosenbrockOfScalars:
    """The same in a plain Python loop."""

    params = (3, 100, 10**4)
    param_names = ("n",)

    def setup(self, n):
        """The point as Python floats, and the transform of a function that unpacks it."""
        self.x = rosenbrock.point(n)
        self.floats = self.x.tolist()
        self.both = fad.value_and_grad(lambda x: rosenbrock.value_of_scalars(list(x)))

    def time_float_value(self, _n):
        """Python floats, the value alone."""
        rosenbrock.value_of_scalars(self.floats)

    def time_value_and_grad(self, _n):
        """Recorded and swept at every call."""
        self.both(self.x)
