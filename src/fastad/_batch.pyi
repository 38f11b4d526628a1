"""Types of the compiled lanes: see _batch.pyx."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastad._core import Array, Recorder

def under_way(recorder: Recorder) -> AbstractContextManager[None]: ...
def constant(recorder: Recorder, array: np.ndarray) -> Array: ...
def seed(recorder: Recorder, example: np.ndarray) -> Array: ...
def extent(recorder: Recorder) -> tuple[int, int, bool]: ...
def batch_values(
    recorder: Recorder,
    start: int,
    lanes: int,
    seeds: Sequence[int],
    arrays: Sequence[np.ndarray],
    outputs: Sequence[Array],
) -> list[Any]: ...
def emit_batch(
    recorder: Recorder,
    start: int,
    lanes: int,
    seeds: Sequence[int],
    batched: Sequence[Array],
    outputs: Sequence[Array],
) -> list[Array | None]: ...
