"""Who takes part: one small adapter each, used as its own documentation says a fast user would.

An adapter has ``prepare(workload, data)``, which gives something with ``first()`` and
``run(number)`` (`building.Called`, `building.Native`), and may raise `Unable`.
"""

from __future__ import annotations

from dataclasses import dataclass


class Unable(Exception):
    """This contender does not offer this workload, for the reason given."""


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Parameters
    ----------
    title : str
        Its name in the table.
    module : str
        The adapter.
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
    Contender(HAND, "by_hand", "gradient", "-O3 -march=native; called from a loop in C"),
    Contender(HAND_VALUE, "by_hand", "value", "the value alone"),
    Contender(NUMPY, "plain", "value", "the objective as it is written, the value alone"),
    Contender(OURS, "with_fastad", "compiled", "the objective under fad.compile"),
    Contender("fastad, one-shot", "with_fastad", "one-shot", "recorded anew at every call"),
    Contender("fastad, vmap", "with_fastad", "vmap", "compiled; written for one point"),
    Contender(JAX, "with_jax", "jit", "jit, x64, blocked; inputs JAX arrays", "jax"),
    Contender(TORCH, "with_torch", "eager", "eager, torch.autograd.grad", "torch"),
    Contender("autograd", "with_autograd", "eager", "autograd.numpy", "autograd"),
    Contender("CasADi", "with_casadi", "function", "Function built once, into buffers", "casadi"),
    Contender("ADOL-C", "with_tapes", "adolc", "taped once, not counted; gradient()", "adolc"),
    Contender("CppAD", "with_tapes", "cppad", "recorded and reversed at every call", "cppad"),
)
PACKAGES = tuple(dict.fromkeys(each.package for each in CONTENDERS if each.package))
