"""Types of traces, programs and loops over them: see _program.pyx."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastad._core import Array, Recorder, SpareMemory

Form = tuple[np.dtype[Any], tuple[int, ...]]

PASS_NAMES: tuple[str, ...]
MISS: object

class Trace:
    recorder: Recorder
    seen: list[bytes]
    inputs: list[int]
    outputs: list[int]
    guards: list[int]
    has_rules: bool
    @staticmethod
    def of(
        recorder: Recorder,
        inputs: Sequence[int],
        outputs: Sequence[int],
        guards: Sequence[tuple[int, bytes]],
    ) -> Trace: ...
    def __len__(self) -> int: ...
    def dump(self) -> str: ...
    def verify(self) -> None: ...
    def through(self, name: str, strict: bool, memory: SpareMemory | None = None) -> Trace: ...
    def discard(self, memory: SpareMemory | None) -> None: ...
    def gradient(self, output: int, inputs: Sequence[int], with_values: bool = True) -> Trace: ...
    def onto(self, recorder: Recorder, arrays: Sequence[Array]) -> list[Array]: ...
    def lowered(self, strict: bool) -> Program: ...

class Program:
    inputs: list[Form]
    outputs: list[Form]
    nodes: int
    instructions: int
    scalars: int
    groups: int
    steps: int
    guards: int
    gathers: int
    working_bytes: int
    nbytes: int
    def text(self) -> str: ...
    def draw(self, path: str | PathLike[str] | None = None) -> str: ...
    def schedule(
        self,
    ) -> list[tuple[str, int, list[tuple[str, int, int]], list[tuple[str, int, int]]]]: ...
    def verify(self) -> None: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: Any) -> Program: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    @staticmethod
    def load(path: str | PathLike[str]) -> Program: ...
    def __call__(self, *leaves: Any) -> list[Any] | tuple[int, bytes]: ...

class Path:
    program: Program
    pack: Callable[[list[Any]], Any] | None
    decisions: list[Decision]
    def __init__(self, program: Program, pack: Callable[[list[Any]], Any] | None) -> None: ...
    def packed(self, outputs: list[Any]) -> Any: ...
    def other(self, guard: int, seen: bytes) -> Path | None: ...

class Decision:
    next: dict[bytes, Decision]
    path: Path
    def __init__(self, path: Path) -> None: ...

class Replay:
    path: Path
    def __init__(self, path: Path) -> None: ...
    def __call__(self, args: tuple[Any, ...]) -> Any: ...

class Steps:
    programs: list[Program]
    def __init__(
        self,
        offsets: Sequence[int],
        state_bytes: int,
        inputs: Sequence[tuple[NDArray[Any], int, int]],
        outputs: Sequence[tuple[NDArray[Any], int, int]],
    ) -> None: ...
    def close(self) -> None: ...
    def add(self, program: Program) -> None: ...
    def run(
        self, here: NDArray[Any], there: NDArray[Any], at: int, to: int
    ) -> tuple[int, bool]: ...

def revolve(
    forward: Steps,
    reverse: Steps,
    length: int,
    slots: int,
    initial: NDArray[Any],
    cotangent: NDArray[Any],
    missed: Callable[[int, NDArray[Any], NDArray[Any] | None], None],
) -> tuple[NDArray[Any], int]: ...
def revolve_split(steps: int, slots: int) -> int: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
