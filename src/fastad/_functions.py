"""fastad.sin, fastad.exp, ...: one function for each row of the table that NumPy names.

They take numbers, ndarrays and Arrays alike; on plain values they are NumPy's own.
"""

import numpy as np

from fastad import _core
from fastad._ops import OPS

__all__ = []


def _function(op):
    numpy_function = getattr(np, op.numpy_name)

    def function(*operands):
        if any(type(x) is _core.Array or _core.is_array(x) for x in operands):
            return (
                numpy_function(*operands)
                if op.name == "SELECT"
                else _core.record(op.number, *operands)
            )
        return numpy_function(*operands)

    function.__name__ = function.__qualname__ = op.numpy_name
    function.__doc__ = f"numpy.{op.numpy_name}: {op.doc}."
    return function


for _op in OPS.values():
    if _op.numpy_name:
        globals()[_op.numpy_name] = _function(_op)
        __all__.append(_op.numpy_name)
