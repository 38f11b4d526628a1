"""Types of the compiled reverse loop: see _reverse.pyx."""

from collections.abc import Sequence
from typing import Any

from fastad._core import Array, Recorder

def sweep(
    recorder: Recorder,
    outputs: Sequence[Array],
    cotangents: Sequence[Any],
    wrt: Sequence[int],
    keep: bool = False,
) -> list[Any]: ...
def push_scalars(
    recorder: Recorder, wrt: Sequence[int], tangents: Sequence[Any], outputs: Sequence[int]
) -> Any: ...  # list of float, or None where an array is involved
