"""Exceptions of the package."""

__all__ = ["TapeError", "UnknownPath"]


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


class UnknownPath(Exception):  # noqa: N818 - a message between parts of the package
    """A rule that is replayed came to a path through its function that it has not recorded.

    `fastad.compile` records the function anew then; no user sees this.

    Attributes
    ----------
    key : object
        The code that takes the path.
    values : list
        Inputs at which it does.
    """

    def __init__(self, key, values):
        super().__init__(key, values)
        self.key, self.values = key, values
