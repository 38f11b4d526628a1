"""Bodies: functions recorded apart, as traces, to be replayed and differentiated by rules.

A body has one trace for each path through it; what decides is guarded as in `fastad.compile`.
Derivatives of bodies are bodies again: their paths are made of the primal's, so that loops over
them (`fastad.scan`) are differentiated to any order by the same few lines.
"""

import contextlib
import contextvars
import copy
import threading
from typing import Any

import numpy as np

from fastad import _core
from fastad._core import Array, emit_reverse, emit_tangent
from fastad._core import memory_limit as _memory_limit
from fastad._passes import optimised
from fastad._program import Trace
from fastad._record import recording
from fastad.errors import UnknownPath

__all__ = [
    "Body",
    "Derived",
    "LaneByLane",
    "Recorded",
    "TooManyPaths",
    "apply",
    "dtype_of",
    "is_float",
    "plain",
    "pulled",
    "pushed",
    "replay",
]

MOST_PATHS = 64

_HINTS: contextvars.ContextVar[dict[Any, list[Any]] | None] = contextvars.ContextVar(
    "fastad_hints", default=None
)


@contextlib.contextmanager
def hinted(hints):
    """Meanwhile bodies record further paths at these inputs: {code: list of inputs}."""
    token = _HINTS.set(hints)
    try:
        yield
    finally:
        _HINTS.reset(token)


class TooManyPaths(Exception):  # noqa: N818 - not an error: then the function runs as it is
    """A body took more paths than are worth recording."""


def is_float(dtype):
    """Whether values of this type have derivatives."""
    return dtype.kind == "f"


def dtype_of(x):
    """Type of an Array, array or number."""
    return x.dtype if isinstance(x, Array) else np.asarray(x).dtype


def plain(x):
    """A result as numbers: 0-d float64 as a float."""
    if isinstance(x, Array) or np.ndim(x) or np.asarray(x).dtype != np.float64:
        return x
    return float(x)


def apply(rule, operands):
    """Outputs of a rule: recorded where an operand is, else its forward's."""
    traced = [i for i, x in enumerate(operands) if type(x) is Array]
    if not traced:
        return rule.forward(*operands)
    rule.active = [type(x) is Array and x.active for x in operands]
    if len(traced) < len(operands):
        rule = _Fixed(rule, operands, traced)
    return _core.call(rule, [operands[i] for i in traced])


class LaneByLane:
    """Rules that fad.vmap applies to one lane after the other."""

    __name__: str

    def batch(self, lanes, inputs, over):
        """Outputs over all lanes, given the inputs over all lanes (None: all lanes share one)."""
        pairs = list(zip(inputs, over, strict=True))
        try:
            rows = [
                apply(copy.copy(self), [x if many is None else many[i] for x, many in pairs])
                for i in range(lanes)
            ]
        except UnknownPath:
            raise NotImplementedError(
                f"{self.__name__}: a lane of fad.vmap takes another path through the function than "
                "the first lane: choose with np.where instead of if, or loop over the lanes"
            ) from None
        return [np.stack(column) for column in zip(*rows, strict=True)]


class _Fixed(LaneByLane):
    """A rule with numbers in place of some operands: the tape holds no copy of them."""

    takes_none = True

    def __init__(self, rule, operands, places):
        self.__name__ = rule.__name__
        self.rule, self.places = rule, places
        self.operands = [None if type(x) is Array else x for x in operands]

    def filled(self, items, others):
        """All operands (or what belongs to each): `items` for those that are no numbers."""
        found = list(others)
        for i, x in zip(self.places, items, strict=True):
            found[i] = x
        return found

    def forward(self, *values):
        """The rule's outputs at plain inputs."""
        return self.rule.forward(*self.filled(values, self.operands))

    def vjp(self, inputs, outputs, cotangents):
        """The rule's cotangents of the operands that are no numbers."""
        found = self.rule.vjp(self.filled(inputs, self.operands), outputs, cotangents)
        return [found[i] for i in self.places]

    def jvp(self, inputs, outputs, tangents):
        """The rule's tangents."""
        given = self.filled(tangents, [None] * len(self.operands))
        return self.rule.jvp(self.filled(inputs, self.operands), outputs, given)


class Path:
    """One path through a body.

    Attributes
    ----------
    trace : Trace
        Inputs and outputs as the body's; it may lack the last inputs.
    origin : Path or None
        The primal's path that it is derived from.
    """

    def __init__(self, trace, origin=None):
        # strict: replay gives the recording's bits, so that the derivative of a path sees the
        # same outcomes as the path.
        self.trace, self.origin = optimised(trace, True), origin
        self._program = None

    @property
    def program(self):
        """Its program, lowered when it is asked for."""
        if self._program is None:
            self._program = self.trace.lowered(True)
        return self._program

    def forms_of(self, nodes):
        """Type and shape of inputs or outputs."""
        arrays = [self.trace.recorder.array(node) for node in nodes]
        return [(x.dtype, x.shape) for x in arrays]

    @property
    def forms(self):
        """Type and shape of each output."""
        return self.forms_of(self.trace.outputs)

    def outputs(self, values):
        """Outputs at plain inputs; None where this is not their path."""
        try:
            outcome = self.program(*values[: len(self.trace.inputs)])
        except UnknownPath:
            return None
        return outcome if isinstance(outcome, list) else None


class Body:
    """A function of inputs to outputs, as paths.

    Attributes
    ----------
    paths : list of Path
    """

    def __init__(self):
        self.paths = []
        self.lock = threading.RLock()
        self.derivatives = {}

    def derivative(self, key, make):
        """The body derived by `make(self)`, made once."""
        with self.lock:
            if key not in self.derivatives:
                self.derivatives[key] = make(self)
            return self.derivatives[key]

    def first(self, values):
        """Some path; one for these inputs is made where there is none."""
        with self.lock:
            return self.paths[0] if self.paths else self.new_path(values)

    def path(self, values):
        """The path that holds at these inputs, and the outputs."""
        with self.lock:
            for path in self.paths:
                outputs = path.outputs(values)
                if outputs is not None:
                    return path, outputs
            path = self.new_path(values)
            outputs = path.outputs(values)
        if outputs is None:
            raise RuntimeError(
                "a recorded function does not hold where it was recorded: "
                "it decides by something else than its arguments"
            )
        return path, outputs

    def path_of(self, values):
        """The path that holds at these inputs, which one of the paths does."""
        with self.lock:
            if len(self.paths) == 1 and not self.paths[0].trace.guards:
                return self.paths[0]
        return self.path(values)[0]

    def new_path(self, values):
        """Make the path that holds at these inputs, which none of the others does."""
        with self.lock:
            path = self.make_path(values)
            if path not in self.paths:
                self.paths.append(path)
            return path

    def make_path(self, values):
        raise NotImplementedError


class Recorded(Body):
    """The body of a function that the user wrote.

    Parameters
    ----------
    function : callable
        Takes a list of Arrays, gives a list of Arrays and numbers.
    count : int
        How many.
    key : object
        The user's code, by which it is known in `hinted`.
    outer : Recorder or None
        Of the recording inside of which it stands.

    Attributes
    ----------
    constants : list of Array
        Outer Arrays that the function reads: further inputs, in the order in which they were met.
    values : list
        Outputs where the last path was recorded.
    """

    def __init__(self, function, count, outer, key=None):
        super().__init__()
        self.function, self.count, self.outer, self.key = function, count, outer, key
        self.constants, self.values = [], []

    def first(self, values):
        if not self.paths:
            self.new_path(values)
            self.follow((_HINTS.get() or {}).get(self.key, ()))
        return self.paths[0]

    def follow(self, hints):
        """Record the paths taken at other inputs, as far as there are any."""
        forms = self.paths[0].forms_of(self.paths[0].trace.inputs[: self.count])
        for values in hints:
            if [(dtype_of(x), np.shape(x)) for x in values] != forms:
                continue
            with contextlib.suppress(Exception):
                constants = [_core.forward_value(x) for x in self.constants]
                given = [*values, *constants]
                if all(path.outputs(given) is None for path in self.paths):
                    self.new_path(given)

    def complete(self):
        """From now on nothing is recorded: outer Arrays may not be what they were."""
        self.function = self.outer = None
        self.constants, self.values = [], []

    def make_path(self, values):
        if self.function is None:
            raise UnknownPath(self.key, [np.copy(x)[()] for x in values[: self.count]])
        if len(self.paths) >= MOST_PATHS:
            raise TooManyPaths
        values = values[: self.count]
        recorder = _core.Recorder()
        recorder.open(_memory_limit())
        recorder.trace()
        try:
            recorder.enclose(self.outer)
            try:
                with recording(recorder):
                    inputs = [recorder.input(value) for value in values]
                    nodes = [x.node for x in inputs]
                    for constant in self.constants:
                        recorder.adopt(constant)
                    outputs = [recorder.adopt(x).node for x in self.function(inputs)]
            finally:
                recorder.leave()
            nodes += recorder.captured_nodes
            self.constants = list(recorder.captures or ())
            self.values = [recorder.node_value(node) for node in outputs]
            trace = Trace.of(recorder, nodes, outputs, recorder.guards)
        finally:
            recorder.close()
        return Path(trace)


class Derived(Body):
    """A body made of another's paths.

    Parameters
    ----------
    base : Body
    primal : callable
        Takes the inputs of this body, gives those of the base.
    build : callable
        Takes a recorder, a base path and this body's inputs as Arrays, gives the outputs.
    """

    def __init__(self, base, primal, build):
        super().__init__()
        self.base, self.primal, self.build = base, primal, build

    def make_path(self, values):
        origin = self.base.path_of(self.primal(values))
        for path in self.paths:
            if path.origin is origin:
                return path
        recorder = _core.Recorder()
        recorder.open(_memory_limit())
        recorder.trace()
        try:
            with recording(recorder):
                inputs = [recorder.input(value) for value in values]
                outputs = [recorder.adopt(x).node for x in self.build(recorder, origin, inputs)]
            trace = Trace.of(recorder, [x.node for x in inputs], outputs, recorder.guards)
        finally:
            recorder.close()
        return Path(trace, origin)


# --- derivatives on a recorder -------------------------------------------------------------------


def replay(recorder, path, inputs):
    """Outputs of a path at recorded inputs."""
    return path.trace.onto(recorder, inputs[: len(path.trace.inputs)])


def pulled(recorder, outputs, cotangents, wrt):
    """Cotangents of `wrt` given some of the outputs (None: zero)."""
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(outputs, cotangents, strict=True)
        if cotangent is not None and output.active
    ]
    if not pairs or not wrt:
        return [np.zeros(x.shape, x.dtype) for x in wrt]
    return typed(emit_reverse(recorder, [o for o, _ in pairs], [c for _, c in pairs], wrt), wrt)


def pushed(recorder, wrt, tangents, outputs):
    """Tangents of `outputs` given those of `wrt`."""
    active = [output for output in outputs if output.active]
    found = iter(emit_tangent(recorder, wrt, tangents, active) if wrt and active else ())
    return typed([next(found, 0.0) if output.active else 0.0 for output in outputs], outputs)


def typed(results, likes):
    """Plain zeros with shape and type."""
    return [
        result if isinstance(result, Array) else np.zeros(like.shape, like.dtype)
        for result, like in zip(results, likes, strict=True)
    ]
