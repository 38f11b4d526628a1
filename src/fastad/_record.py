"""Who records now, and which NumPy functions have rules. Knows no rule itself."""

import contextvars

from fastad import _core

__all__ = ["METHODS", "current_recorder", "implements", "method", "recording"]

_CURRENT = contextvars.ContextVar("fastad_recorder", default=None)

METHODS = _core.METHODS
"""Methods of Array that are not the core's own: name to function(self, ...)."""


def implements(*functions):
    """Register the decorated function as the rule of NumPy functions, or ufuncs without a row.

    Examples
    --------
    >>> from fastad._record import implements
    >>> @implements(np.i0)
    ... def i0(x):
    ...     raise NotImplementedError("only an example")
    >>> import fastad._core
    >>> del fastad._core.FUNCTIONS[np.i0]
    """

    def register(rule):
        for function in functions:
            _core.FUNCTIONS[function] = rule
        return rule

    return register


def method(*names):
    """Register the decorated function as a method of Array."""

    def register(function):
        for name in names:
            METHODS[name] = function
        return function

    return register


def current_recorder():
    """The innermost open recorder of this context, or None."""
    recorder = _CURRENT.get()
    return recorder if recorder is not None and recorder.is_open else None


class recording:  # noqa: N801 - read as a verb: with recording(r)
    """Context manager: `recorder` is the one that records."""

    __slots__ = ("recorder", "token")

    def __init__(self, recorder):
        self.recorder = recorder

    def __enter__(self):
        self.token = _CURRENT.set(self.recorder)
        return self.recorder

    def __exit__(self, *exception):
        _CURRENT.reset(self.token)
        return False
