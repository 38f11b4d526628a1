"""fastad: automatic differentiation of ordinary Python and NumPy code, recorded on a flat C tape.

>>> import fastad as fad
>>> fad.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0]))
array([0.        , 1.38177329])
"""

import importlib

from fastad import _ops as _ops
from fastad._core import Array, set_memory_limit
from fastad._functions import *  # noqa: F403 - one function for each row of the table
from fastad._functions import __all__ as _elementwise
from fastad._ops import OPS
from fastad._program import Program, get_num_threads, set_num_threads
from fastad.batching import vmap
from fastad.checkpoint import checkpoint
from fastad.compile import compile
from fastad.errors import LaneError, ProgramError, TapeError
from fastad.function import Function
from fastad.matrices import hessian, jacobian
from fastad.scan import scan
from fastad.tape import Tape
from fastad.transforms import (
    grad,
    hvp,
    jvp,
    linearize,
    stop_gradient,
    value_and_grad,
    vjp,
)

__version__ = "0.1.0"

_LAZY = {"numpy": "fastad.numpy", "graph": "fastad.graph", "check_grads": "fastad.check"}

__all__ = [
    "OPS",
    "Array",
    "Function",
    "LaneError",
    "Program",
    "ProgramError",
    "Tape",
    "TapeError",
    "checkpoint",
    "compile",
    "check_grads",  # noqa: F405 - these three are imported when they are used
    "get_num_threads",
    "grad",
    "graph",  # noqa: F405
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "numpy",  # noqa: F405
    "scan",
    "set_memory_limit",
    "set_num_threads",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
    *_elementwise,
]


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module 'fastad' has no attribute '{name}'")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
