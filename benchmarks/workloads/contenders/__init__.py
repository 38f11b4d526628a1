"""Who takes part: one small adapter each, used as its own documentation says a fast user would.

An adapter has ``prepare(workload, data)``, which gives something with ``first()`` and
``run(number)`` (`building.Called`, `building.Native`), and may raise `UnableError`.
"""

from __future__ import annotations

from dataclasses import dataclass


class UnableError(Exception):
    """This contender does not offer this workload, for the reason given."""


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Parameters
    ----------
    title : str
        Its name in the table.
    module : str
        The adapter's full name.
    way : str
        What the adapter is asked for.
    how : str
        How it is used.
    package : str
        For ``--peers``; empty for those who always take part.
    """

    title: str
    module: str
    way: str
    how: str
    package: str = ""


HAND, HAND_VALUE, NUMPY = "C by hand", "C by hand, value", "NumPy, value"
OURS, JAX, TORCH = "fastad", "JAX", "PyTorch"

CONTENDERS = (
    Contender(
        HAND, f"{__name__}.by_hand", "gradient", "-O3 -march=native; called from a loop in C"
    ),
    Contender(HAND_VALUE, f"{__name__}.by_hand", "value", "the value alone"),
    Contender(
        NUMPY, f"{__name__}.plain", "value", "the objective as it is written, the value alone"
    ),
    Contender(OURS, f"{__name__}.with_fastad", "compiled", "the objective under fad.compile"),
    Contender(
        "fastad, one-shot", f"{__name__}.with_fastad", "one-shot", "recorded anew at every call"
    ),
    Contender(
        "fastad, vmap",
        f"{__name__}.with_fastad",
        "vmap",
        "compiled; written for one point, ba on single numbers",
    ),
    Contender(JAX, f"{__name__}.with_jax", "jit", "jit, x64, blocked; inputs JAX arrays", "jax"),
    Contender(TORCH, f"{__name__}.with_torch", "eager", "eager, torch.autograd.grad", "torch"),
    Contender("autograd", f"{__name__}.with_autograd", "eager", "autograd.numpy", "autograd"),
    Contender(
        "CasADi",
        f"{__name__}.with_casadi",
        "function",
        "Function built once, into buffers",
        "casadi",
    ),
    Contender(
        "ADOL-C", f"{__name__}.with_tapes", "adolc", "taped once, not counted; gradient()", "adolc"
    ),
    Contender(
        "CppAD", f"{__name__}.with_tapes", "cppad", "recorded and reversed at every call", "cppad"
    ),
)
PACKAGES = tuple(dict.fromkeys(each.package for each in CONTENDERS if each.package))
