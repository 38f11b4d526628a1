"""The table of element-wise primitives as Python sees it: csrc/ops.def, read and never retyped."""

from typing import NamedTuple

import numpy as np

from fastad import _core

__all__ = ["OPS", "UFUNCS", "Op"]


class Op(NamedTuple):
    """One row of csrc/ops.def.

    Attributes
    ----------
    name : str
        Name of the row, for example ``"MUL"``.
    number : int
        Its op code in this build.
    numpy_name : str
        Name of the NumPy function that records it; empty for an internal row.
    arity : int
        Number of operands.
    kind : str
        LINEAR, BILINEAR, SMOOTH, KINK, FLAT or PREDICATE.
    domains : tuple of str
        Where the tests sample the operands.
    partials : tuple of str
        The partial derivatives as the table writes them.
    doc : str
        Its meaning, and the derivative chosen at a kink.
    """

    name: str
    number: int
    numpy_name: str
    arity: int
    kind: str
    domains: tuple
    partials: tuple
    doc: str


OPS = {row[0]: Op(*row) for row in _core.elementwise_table()}
"""All element-wise primitives by name."""

UFUNCS = {
    getattr(np, op.numpy_name): op
    for op in OPS.values()
    if op.numpy_name and isinstance(getattr(np, op.numpy_name), np.ufunc)
}
"""The NumPy ufunc of each row that has one."""

_core.install_ufuncs({ufunc: op.number for ufunc, op in UFUNCS.items()})
