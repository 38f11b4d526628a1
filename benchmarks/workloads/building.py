"""Compiles the functions by hand and the C++ tapes, for this processor, once for each source."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from time import perf_counter

import numpy as np

from harness import machine
from replay.native import BUILD, FOLDER, NativeError, compiler
from workloads.problem import Data

SOURCES = FOLDER / "native" / "workloads"
FLAGS = ("-O3", "-march=native", "-DNDEBUG", "-shared", "-fPIC")


def cplusplus() -> list[str]:
    """The words of ``CXX``, or the first C++ compiler on the path."""
    words = shlex.split(os.environ.get("CXX", ""))
    found = [name for name in words[:1] or ("c++", "g++", "clang++") if shutil.which(name)]
    if not found:
        raise NativeError("no C++ compiler: c++, g++, clang++ not found")
    return words or found[:1]


def facts() -> dict[str, str]:
    """The compilers, for the header."""
    found = []
    for words in (compiler, cplusplus):
        try:
            done = subprocess.run([*words(), "--version"], capture_output=True, text=True)
            found.append(done.stdout.partition("\n")[0])
        except (NativeError, OSError) as error:
            found.append(str(error))
    return {"compilers": f"{', '.join(found)}; {' '.join(FLAGS[:3])}"}


def library(command: list[str], sources: list[Path], *rest: str) -> Path:
    """A shared library of these sources; built unless it stands there from before.

    Raises
    ------
    NativeError
        If it cannot be compiled here.
    """
    words = [*command, *FLAGS, *map(str, sources), *rest]
    key = hashlib.sha256(" ".join([*words, machine.processor()]).encode())
    for each in sorted(SOURCES.iterdir()):
        key.update(each.read_bytes())
    target = BUILD / f"{sources[0].stem}-{key.hexdigest()[:16]}.so"
    if not target.exists():
        BUILD.mkdir(exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run([*words, "-o", str(fresh)], capture_output=True, text=True)
        if done.returncode != 0:
            errors = [row for row in done.stderr.splitlines() if "error" in row]
            raise NativeError(f"{command[0]}: {(errors or ['failed'])[0]}")
        fresh.rename(target)
    return target


def by_hand(name: str) -> ctypes.CDLL:
    """The library of the functions written by hand for a workload."""
    sources = [SOURCES / f"{name}.c", SOURCES / "drive.c"]
    return ctypes.CDLL(str(library([*compiler(), "-std=c11"], sources, "-lm")))


class Native:
    """A C function of a workload with its arguments; the loop over its calls is in C too."""

    def __init__(self, loaded: ctypes.CDLL, symbol: str, data: Data, outputs: list[np.ndarray]):
        self.function = getattr(loaded, symbol)
        self.outputs = outputs
        inputs = [np.ascontiguousarray(each) for each in (*data.variables, *data.constants)]
        self.alive = inputs
        self.arguments = (
            (ctypes.c_long * max(3, len(data.lengths)))(*data.lengths),  # the rest are zeros
            _pointers(inputs),
            _pointers(outputs),
        )
        self.drive = loaded.drive
        self.drive.restype = ctypes.c_double

    def run(self, number: int) -> float:
        """Seconds for that many calls."""
        return self.drive(self.function, ctypes.c_long(number), *self.arguments)

    def first(self) -> list[np.ndarray]:
        """What it computes."""
        self.run(1)
        return self.outputs


def _pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*[each.ctypes.data for each in arrays])


class Called:
    """A Python call and how to read its result; `Native`'s counterpart."""

    def __init__(self, call, read):
        self.call, self.read = call, read

    def run(self, number: int) -> float:
        """Seconds for that many calls; a result is dropped before the next call."""
        repeats = range(number)
        start = perf_counter()
        for _ in repeats:
            self.call()
        return perf_counter() - start

    def first(self) -> list[np.ndarray]:
        """What it computes."""
        return [np.asarray(each) for each in self.read(self.call())]
