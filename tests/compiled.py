"""The transforms as tests call them, of compiled functions: the numbers that count are replayed.

Each call records the function at another point first, where it can, so that what the recording
froze would be seen; then at the point itself, where it takes another path; and then replays it.
"""

import functools
import warnings

import numpy as np

import fastad as fad

ON_ARGUMENTS = ("grad", "value_and_grad", "jacobian", "hessian")
AT_A_POINT = ("jvp", "hvp", "vjp", "linearize")
NAMES = ON_ARGUMENTS + AT_A_POINT


def elsewhere(x):
    """`x` with its floating numbers moved."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return (x * 0.9 + 0.05).astype(x.dtype)
    if isinstance(x, (float, np.floating)):
        return type(x)(x * 0.9 + 0.05)
    if type(x) in (list, tuple):
        return type(x)(elsewhere(item) for item in x)
    if type(x) is dict:
        return {key: elsewhere(item) for key, item in x.items()}
    return x


def quietly(call, *args, **kwargs):
    """Record at a point that the test did not choose: whatever happens there is not the test's."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return call(*args, **kwargs)
        except Exception:
            return None


def is_plain(f):
    """Whether `f` is to be compiled here: neither a compiled function nor inside a recording."""
    return callable(f) and not hasattr(f, "__fastad_transform__") and not fad_is_recording()


def fad_is_recording():
    from fastad._record import current_recorder

    return current_recorder() is not None


def on_arguments(transform):
    @functools.wraps(transform)
    def compiled_transform(f, *args, **kwargs):
        if not is_plain(f):
            return transform(f, *args, **kwargs)
        compiled = transform(fad.compile(f), *args, **kwargs)

        @functools.wraps(f)
        def replayed(*args, **kwargs):
            quietly(compiled, *elsewhere(args), **elsewhere(kwargs))
            compiled(*args, **kwargs)
            return compiled(*args, **kwargs)

        return replayed

    return compiled_transform


def at_a_point(transform):
    @functools.wraps(transform)
    def compiled_transform(f, *args, **kwargs):
        if not is_plain(f):
            return transform(f, *args, **kwargs)
        compiled = fad.compile(f)
        moved = [elsewhere(arg) for arg in args]
        quietly(transform, compiled, *moved, **kwargs)
        transform(compiled, *args, **kwargs)
        result = transform(compiled, *args, **kwargs)
        if transform.__name__ in ("vjp", "linearize"):
            place = 1
            first = quietly(transform, compiled, *moved, **kwargs)
            again = twice(result[place], None if first is None else first[place])
            return (*result[:place], again, *result[place + 1 :])
        return result

    return compiled_transform


def twice(linear, moved):
    """The function that vjp or linearize gave, recorded elsewhere and here, then replayed."""

    def replayed(*args):
        if moved is not None:
            quietly(moved, *args)
        linear(*args)
        return linear(*args)

    return replayed


def patch(monkeypatch):
    """Let `fad.grad` and the others go through `fad.compile`."""
    for name in ON_ARGUMENTS:
        monkeypatch.setattr(fad, name, on_arguments(getattr(fad, name)))
    for name in AT_A_POINT:
        monkeypatch.setattr(fad, name, at_a_point(getattr(fad, name)))
