"""Exceptions of the package."""

__all__ = ["LaneError", "ProgramError", "TapeError", "UnknownPath", "ValuesNeeded"]


class ValuesNeeded(BaseException):  # no error: starts again with values
    """A value was asked for while only the form of a function is recorded. Never seen by a user."""


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


class ProgramError(ValueError):
    """Bytes are no program that can be run here: damaged, of another version, or malformed.

    Examples
    --------
    >>> fad.Program.from_bytes(b"GIF89a")
    Traceback (most recent call last):
    fastad.errors.ProgramError: byte 0: this is no saved program
    """


class LaneError(TypeError):
    """A value that differs from lane to lane of a vmap was to become a Python number or a branch.

    Examples
    --------
    >>> fad.vmap(lambda x: x if x > 0 else -x)(np.array([1.0, -1.0]))
    Traceback (most recent call last):
    fastad.errors.LaneError: this value differs from lane to lane of fad.vmap, ...
    >>> fad.vmap(lambda x: np.where(x > 0, x, -x))(np.array([1.0, -1.0]))
    array([1., 1.])
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
