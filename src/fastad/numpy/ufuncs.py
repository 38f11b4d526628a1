"""Ufuncs that are no row of the table: two outputs, an integer operand, a type of their own."""

import numpy as np

from fastad._core import Array, cast, is_array, predicate, select, value_of
from fastad._ops import OPS
from fastad._record import implements

__all__ = ["divmod", "float_power", "ldexp", "modf"]


@implements(np.divmod)
def divmod(x, y):
    """Floor of the quotient, and the remainder."""
    return np.floor_divide(x, y), np.remainder(x, y)


@implements(np.modf)
def modf(x):
    """Fractional part (derivative 1) and integer part (derivative 0)."""
    whole = np.trunc(x)
    return select(predicate(OPS["ISINF"].number, x), np.copysign(0.0, x), x - whole), whole


@implements(np.ldexp)
def ldexp(x, exponent):
    """``x * 2**exponent`` for integer exponents."""
    exponent = exponent if type(exponent) is Array else np.asarray(value_of(exponent))
    if exponent.dtype.kind not in "iu":
        raise TypeError(f"ldexp: expected an integer exponent, got dtype {exponent.dtype}")
    return x * np.exp2(exponent.astype(np.float64))


@implements(np.float_power)
def float_power(x, y):
    """Power in float64, whatever the operands' types."""
    return np.power(
        *(cast(v, np.float64) if is_array(v) else np.asarray(v, np.float64) for v in (x, y))
    )
