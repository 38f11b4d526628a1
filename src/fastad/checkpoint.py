"""Functions whose intermediate values are computed again for the backward pass, and not kept."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastad import _core
from fastad._bodies import (
    Derived,
    LaneByLane,
    Recorded,
    apply,
    dtype_of,
    is_float,
    pulled,
    pushed,
    replay,
)
from fastad._calls import outer_recorder
from fastad._containers import flatten, unflatten
from fastad._core import Array
from fastad._core import memory_limit as _memory_limit
from fastad._record import recording
from fastad._reverse import sweep

__all__ = ["checkpoint"]


class _Once(LaneByLane):
    """The rule of a body that is run once: its node holds the outputs and nothing in between."""

    takes_none = True

    def __init__(self, body, name):
        self.__name__ = name
        self.body = body
        self.active: list[bool] = []  # inputs that have a derivative

    def forward(self, *values):
        """Outputs at plain inputs."""
        return tuple(self.body.path(list(values))[1])

    def vjp(self, inputs, outputs, cotangents):
        """Cotangents of the inputs, as numbers or recorded."""
        wanted = [i for i in _floats(inputs) if self.active[i]]
        present = [i for i in _floats(outputs) if cotangents[i] is not None]
        seeds = [cotangents[i] for i in present]
        if any(type(x) is Array for x in (*inputs, *seeds)):
            key = ("vjp", tuple(wanted), tuple(present))
            body = self.body.derivative(key, lambda base: _pull(base, len(inputs), wanted, present))
            found = apply(_Once(body, f"vjp of {self.__name__}"), [*inputs, *seeds])
        else:
            found = self.swept(list(inputs), wanted, present, seeds)
        return _placed(found, wanted, len(inputs))

    def swept(self, inputs, wanted, present, seeds):
        """Cotangents as numbers: the path is recorded again, swept, and forgotten."""
        path = self.body.path_of(inputs)
        recorder = _core.Recorder()
        recorder.open(_memory_limit())
        try:
            with recording(recorder):
                arrays = [recorder.input(x) for x in inputs]
                outputs = [replay(recorder, path, arrays)[i] for i in present]
            if not any(x.active for x in outputs):
                return [np.zeros(arrays[i].shape, arrays[i].dtype) for i in wanted]
            pairs = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.active]
            nodes = [arrays[i].node for i in wanted]
            return sweep(recorder, [o for o, _ in pairs], [s for _, s in pairs], nodes)
        finally:
            recorder.close()

    def jvp(self, inputs, outputs, tangents):
        """Tangents of the outputs."""
        present = [i for i in _floats(inputs) if tangents[i] is not None]
        wanted = _floats(outputs)
        key = ("jvp", tuple(present))
        body = self.body.derivative(key, lambda base: _push(base, len(inputs), present, wanted))
        rule = _Once(body, f"jvp of {self.__name__}")
        found = apply(rule, [*inputs, *(tangents[i] for i in present)])
        return _placed(found, wanted, len(outputs))


def _floats(items):
    return [i for i, x in enumerate(items) if is_float(dtype_of(x))]


def _placed(found, places, count):
    results = [None] * count
    for i, x in zip(places, found, strict=True):
        results[i] = x
    return results


def _pull(base, count, wanted, present):
    """The vjp of a body: its inputs and some outputs' cotangents to some inputs' cotangents."""

    def build(recorder, path, inputs):
        outputs = [replay(recorder, path, inputs)[i] for i in present]
        return pulled(recorder, outputs, inputs[count:], [inputs[i] for i in wanted])

    return Derived(base, lambda values: values[:count], build)


def _push(base, count, present, wanted):
    """The jvp of a body."""

    def build(recorder, path, inputs):
        outputs = [replay(recorder, path, inputs)[i] for i in wanted]
        return pushed(recorder, [inputs[i] for i in present], inputs[count:], outputs)

    return Derived(base, lambda values: values[:count], build)


class _Call:
    """One call: which leaves of the arguments are recorded, how the result is made."""

    def __init__(self, f, args, kwargs):
        self.f, self.names = f, list(kwargs)
        self.leaves, self.structures = [], []
        for arg in (*args, *kwargs.values()):
            leaves, structure = flatten(arg) if arg is not None else ([arg], None)
            self.leaves += [_core.asarray(x) if _core.is_array(x) else x for x in leaves]
            self.structures.append((structure, len(leaves)))
        self.places = [i for i, x in enumerate(self.leaves) if type(x) is Array]
        self.arrays = [self.leaves[i] for i in self.places]
        self.result: Any = None

    def __call__(self, arrays):
        """Call the function; gives the recorded leaves of its result."""
        nodes = [x.node for x in arrays]
        leaves = list(self.leaves)
        for i, x in zip(self.places, arrays, strict=True):
            leaves[i] = x
        values, at = [], 0
        for structure, count in self.structures:
            values.append(unflatten(structure, leaves[at : at + count]))
            at += count
        n = len(values) - len(self.names)
        result = self.f(*values[:n], **dict(zip(self.names, values[n:], strict=True)))
        if [x.node for x in arrays] != nodes:
            raise _core.TapeError(
                "checkpoint: f writes to its argument: let it return the new value instead"
            )
        found, structure = flatten(result) if result is not None else ([None], None)
        self.result = found, structure
        return [x for x in found if _core.is_array(x)]

    def packed(self, outputs):
        """The result with `outputs` in place of its recorded leaves."""
        outputs = iter(outputs)
        found, structure = self.result
        return unflatten(structure, [next(outputs) if _core.is_array(x) else x for x in found])


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Function whose intermediate values are not kept for the backward pass, but computed again.

    Parameters
    ----------
    f : callable
        Function of numbers, arrays and nested containers of them; other arguments are passed as
        they are. It may read variables of outside, recorded ones too, but not write to them or to
        its arguments.

    Returns
    -------
    callable
        As `f`. Its call is one node of the tape, which holds the results; the list of operations
        is kept with it, without values. Derivatives, of any order and in both modes, are those of
        `f`.

    Notes
    -----
    What is kept takes 24 bytes for an operation, whatever the size of its arrays: what is gained is
    the memory of arrays. For a long loop over scalars use `fad.scan` with checkpoints.

    Examples
    --------
    >>> layer = fad.checkpoint(lambda x: np.tanh(np.sin(x) * np.exp(-x)))
    >>> fad.grad(lambda x: np.sum(layer(x) ** 2))(np.array([0.5, 1.0]))
    array([ 0.12568684, -0.06049932])
    """
    if not callable(f):
        raise TypeError(f"checkpoint: f: expected a function, got {type(f).__name__}")

    @functools.wraps(f)
    def checkpointed(*args, **kwargs):
        outer = outer_recorder([*args, *kwargs.values()])
        if outer is None:
            return f(*args, **kwargs)
        call = _Call(f, args, kwargs)
        body = Recorded(call, len(call.arrays), outer, getattr(f, "__code__", f))
        body.first([_core.forward_value(x) for x in call.arrays])
        operands, values = [*call.arrays, *body.constants], body.values
        body.complete()
        if not operands or not values:
            return call.packed(values)
        rule = _Once(body, f"checkpoint of {getattr(f, '__name__', 'a function')}")
        rule.active = [x.active for x in operands]
        return call.packed(_core.custom(rule, operands, values))

    return checkpointed
