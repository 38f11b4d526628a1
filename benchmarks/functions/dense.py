"""A stack of dense layers in plain Python loops: sums of w·x, then tanh."""

from __future__ import annotations

import math

import numpy as np


def stack(weights, x, tanh=math.tanh):
    """The sum of the outputs of tanh(W_l · … tanh(W_1 · x)).

    Parameters
    ----------
    weights : list of list of list of scalar
        A matrix a layer, as rows.
    x : list of scalar
        The input.
    tanh : callable
        The function of whichever package the scalars belong to.
    """
    for matrix in weights:
        following = []
        for row in matrix:
            total = row[0] * x[0]
            for j in range(1, len(x)):
                total = total + row[j] * x[j]
            following.append(tanh(total))
        x = following
    result = x[0]
    for each in x[1:]:
        result = result + each
    return result


def operations(layers: int, width: int) -> int:
    """How many scalar operations `stack` does: its nodes, the variables not counted."""
    return layers * width * (2 * width) + width - 1


def nested(flat, layers: int, width: int):
    """The weights, as nested lists, and the inputs from one flat list."""
    rows = [flat[i : i + width] for i in range(0, layers * width * width, width)]
    matrices = [rows[i : i + width] for i in range(0, layers * width, width)]
    return matrices, flat[layers * width * width :]


def point(layers: int, width: int) -> np.ndarray:
    """Weights and inputs, flat, of a size that leaves tanh its slope."""
    generator = np.random.default_rng(31337)
    weights = generator.normal(size=layers * width * width) / np.sqrt(width)
    return np.concatenate([weights, generator.normal(size=width)])


def value_and_gradient(flat: np.ndarray, layers: int, width: int) -> tuple[float, np.ndarray]:
    """Value and gradient with respect to all weights and inputs, by hand."""
    matrices = flat[: layers * width * width].reshape(layers, width, width)
    activations = [flat[layers * width * width :]]
    for matrix in matrices:
        activations.append(np.tanh(matrix @ activations[-1]))
    adjoint, parts = np.ones(width), []
    for matrix, before, after in zip(
        matrices[::-1], activations[-2::-1], activations[::-1], strict=False
    ):
        slope = adjoint * (1.0 - after**2)
        parts.append(np.outer(slope, before).ravel())
        adjoint = matrix.T @ slope
    return float(np.sum(activations[-1])), np.concatenate([*parts[::-1], adjoint])
