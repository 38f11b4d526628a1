"""A gradient, from an installed fastad: what every wheel must give before it leaves the house."""

import numpy as np

import fastad as fad

x = np.array([0.5, 1.0, 2.0])
gradient = fad.grad(lambda x: np.sum(np.sin(x) * x**2))(x)
np.testing.assert_allclose(gradient, np.cos(x) * x**2 + 2 * x * np.sin(x), rtol=1e-14)
print(f"fastad works, from {fad.__file__}")
