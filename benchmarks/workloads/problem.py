"""What a workload is: data, a plain function, and the sizes at which it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

SEED = 31337


@dataclass(frozen=True)
class Data:
    """The arguments of one size.

    Parameters
    ----------
    variables : tuple of ndarray
        What is differentiated, in the order of the objective's first arguments.
    constants : tuple of ndarray
        The arguments that follow.
    static : mapping
        Keyword arguments that are no arrays: lengths and the like.
    lengths : tuple of int
        What the C functions are told.
    """

    variables: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray, ...] = ()
    static: Mapping = field(default_factory=dict)
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Workload:
    """One of the eight.

    Parameters
    ----------
    name : str
        Its short name.
    title : str
        What is computed.
    sizes : tuple of tuple of int
        All sizes at which it is measured.
    small : tuple of int
        At this size every contender is checked first, and warmed up.
    data : callable
        Takes a size, gives its `Data`.
    objective : callable
        NumPy and Python, without any differentiation package.
    wanted : str
        ``"gradient"``: value and gradient; ``"newton"``: gradient / diagonal of the Hessian;
        ``"jacobian"``: the CSR arrays of a sparse Jacobian.
    outputs : callable, optional
        Takes the `Data`, gives arrays like those that the C function writes.
    """

    name: str
    title: str
    sizes: tuple[tuple[int, ...], ...]
    small: tuple[int, ...]
    data: Callable[[tuple[int, ...]], Data]
    objective: Callable
    wanted: str = "gradient"
    outputs: Callable[[Data], list[np.ndarray]] | None = None

    def empty_outputs(self, data: Data) -> list[np.ndarray]:
        """Arrays of the shape of everything that is wanted."""
        if self.outputs is not None:
            return self.outputs(data)
        value = [np.zeros(())] if self.wanted == "gradient" else []
        return value + [np.zeros_like(each) for each in data.variables]


def seeded() -> np.random.RandomState:
    """NumPy's old generator as ``np.random.seed(31337)`` leaves it."""
    return np.random.RandomState(SEED)
