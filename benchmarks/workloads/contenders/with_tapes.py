"""C++ tapes, built now: ADOL-C (Debian's libadolc-dev) and CppAD (cmeel-cppad, or the system's)."""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path

from workloads.building import SOURCES, Native, by_hand, cplusplus, library

CMEEL = Path(sysconfig.get_paths()["purelib"]) / "cmeel.prefix"
SYSTEM = tuple(Path(each) for each in ("/usr", "/usr/local"))
HEADERS = {"adolc": "adolc/adolc.h", "cppad": "cppad/cppad.hpp"}
LIBRARIES = {"adolc": ("-ladolc",), "cppad": ()}


def prepare(workload, data, way):
    """The gradient by ``adolc`` or ``cppad``."""
    outputs = workload.empty_outputs(data)
    native = Native(by_hand(workload.name), f"{workload.name}_value", data, outputs)
    native.function = getattr(ctypes.CDLL(str(built(way))), f"{workload.name}_tape")
    return native


def built(way: str) -> Path:
    """The library of all workloads with this tape.

    Raises
    ------
    ImportError
        If its headers are not there.
    """
    roots = [root for root in (CMEEL, *SYSTEM) if (root / "include" / HEADERS[way]).exists()]
    if not roots:
        raise ImportError(f"{HEADERS[way]} not found")
    flags = [f"-I{roots[0] / 'include'}"] if roots[0] == CMEEL else []
    command = [*cplusplus(), "-std=c++17", *flags]
    return library(command, [SOURCES / f"{way}.cpp"], *LIBRARIES[way])
