"""Exceptions of the package."""

__all__ = ["TapeError"]


class TapeError(RuntimeError):
    """A tape was used as it cannot be: after it closed, from another thread, past its limit.

    Examples
    --------
    >>> with fad.Tape() as tape:
    ...     x = tape.variable(1.0)
    >>> x * x
    Traceback (most recent call last):
    fastad.errors.TapeError: the tape of this Array is closed: ...
    """
