"""Types of traces and programs: see _program.pyx."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastad._core import Recorder

PASS_NAMES: tuple[str, ...]
MISS: object

class Trace:
    recorder: Recorder
    seen: list[bytes]
    outputs: list[int]
    inputs: list[int]
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
    def through(self, name: str, strict: bool) -> Trace: ...
    def gradient(self, output: int, inputs: Sequence[int]) -> Trace: ...
    def lowered(self, strict: bool) -> Program: ...

class Program:
    inputs: list[tuple[np.dtype[Any], tuple[int, ...]]]
    outputs: list[tuple[np.dtype[Any], tuple[int, ...]]]
    nodes: int
    instructions: int
    scalars: int
    steps: int
    guards: int
    gathers: int
    nbytes: int
    def text(self) -> str: ...
    def __call__(self, *leaves: Any) -> Any: ...  # list, or (guard, bytes) of another path

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
