"""Bitwise operators: on masks they are the logical ones and are recorded, on integers plain."""

import numpy as np

from fastad._core import Array, is_array, record, value_of
from fastad._ops import OPS
from fastad._record import implements

__all__ = []


def _is_mask(x):
    if type(x) is Array:
        # A truth value of scalars is a scalar itself: its operation tells it from a number.
        return x.dtype.kind == "b" or (x.op in OPS and OPS[x.op].kind == "PREDICATE")
    return isinstance(x, (bool, np.bool)) or (isinstance(x, np.ndarray) and x.dtype.kind == "b")


def _bitwise(function, logical):
    number = OPS[logical].number

    @implements(function)
    def rule(*operands):
        if all(_is_mask(x) for x in operands) and is_array(operands):
            return record(number, *operands)
        if any(type(x) is Array and x.dtype.kind == "f" for x in operands):
            raise TypeError(f"numpy.{function.__name__} takes masks and integers, got floats")
        return function(*[value_of(x) for x in operands])  # integers: NumPy's, on values

    return rule


_bitwise(np.bitwise_and, "LOGICAL_AND")
_bitwise(np.bitwise_or, "LOGICAL_OR")
_bitwise(np.bitwise_xor, "LOGICAL_XOR")
_bitwise(np.invert, "LOGICAL_NOT")
