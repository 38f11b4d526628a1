"""Compiles the hand-written C gradient at run time, and calls it through ctypes."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path

import numpy as np

from peers.base import Prepared

FOLDER = Path(__file__).resolve().parents[1]
SOURCE, BUILD = FOLDER / "native" / "rosenbrock.c", FOLDER / ".build"
FLAGS = ("-std=c11", "-O3", "-march=native", "-DNDEBUG", "-shared", "-fPIC")


class NativeError(Exception):
    """There is no C compiler, or it failed."""


def compiler() -> list[str]:
    """The words of ``CC``, or the first C compiler on the path."""
    words = shlex.split(os.environ.get("CC", ""))
    found = [name for name in words[:1] or ("cc", "gcc", "clang") if shutil.which(name)]
    if not found:
        raise NativeError(f"no C compiler: {words[0] if words else 'cc, gcc, clang'} not found")
    return words or found[:1]


@cache
def library() -> ctypes.CDLL:
    """``native/rosenbrock.c`` as a shared library, compiled now: the processor may be another."""
    BUILD.mkdir(exist_ok=True)
    target = BUILD / f"rosenbrock-{os.getpid()}.so"
    command = [*compiler(), *FLAGS, str(SOURCE), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NativeError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    try:
        return ctypes.CDLL(str(target))
    finally:
        target.unlink()


def rosenbrock(x: np.ndarray, name: str = "rosenbrock_plain") -> Prepared:
    """Value and gradient at x by the C function of that name; arguments converted beforehand.

    Raises
    ------
    NativeError
        If it cannot be compiled here.
    """
    function = getattr(library(), name)
    function.restype = ctypes.c_double
    gradient = np.zeros_like(x)
    pointers = (ctypes.c_void_p(each.ctypes.data) for each in (x, gradient))
    call = partial(function, ctypes.c_long(len(x)), *pointers)
    call.alive = (x, gradient)
    return Prepared(call, lambda value: (value, gradient))
