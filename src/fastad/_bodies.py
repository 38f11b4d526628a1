"""Bodies: functions recorded apart, as traces, to be replayed and differentiated by rules.

A body has one trace for each path through it; what decides is guarded as in `fastad.compile`.
Derivatives of bodies are bodies again: their paths are made of the primal's, so that loops over
them (`fastad.scan`) are differentiated to any order by the same few lines.
"""

import threading

import numpy as np

from fastad import _core
from fastad._core import Array, emit_reverse, emit_tangent
from fastad._core import memory_limit as _memory_limit
from fastad._program import Trace
from fastad._record import recording
from fastad.errors import UnknownPath

__all__ = [
    "Body",
    "Derived",
    "Recorded",
    "TooManyPaths",
    "apply",
    "dtype_of",
    "is_float",
    "ones_like",
    "plain",
    "pulled",
    "pushed",
    "replay",
]

MOST_PATHS = 64

# As for fastad.compile under `strict`: replay gives the recording's bits, and so a path's derivative
# sees the same outcomes as the path.
PASSES = ("simplify", "roll", "simplify")


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
    return float(x) if np.ndim(x) == 0 and np.asarray(x).dtype == np.float64 else x


def apply(rule, operands):
    """Outputs of a rule: recorded where an operand is, else its forward's."""
    traced = [type(x) is Array for x in operands]
    if not any(traced):
        return rule.forward(*operands)
    rule.active = [t and x.active for t, x in zip(traced, operands, strict=True)]
    return _core.call(rule, operands)


class Path:
    """One path through a body.

    Attributes
    ----------
    trace : Trace
        Inputs and outputs as the body's; it may lack the last inputs.
    example : list
        Inputs at which it was recorded.
    origin : Path or None
        The primal's path that it is derived from.
    """

    def __init__(self, trace, example, origin=None):
        for name in PASSES:
            trace = trace.through(name, True)
        self.trace, self.example, self.origin = trace, example, origin
        self._program = None

    @property
    def program(self):
        """Its program, lowered when it is asked for."""
        if self._program is None:
            self._program = self.trace.lowered(True)
        return self._program

    @property
    def forms(self):
        """Type and shape of each output."""
        arrays = [self.trace.recorder.array(node) for node in self.trace.outputs]
        return [(x.dtype, x.shape) for x in arrays]

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
                "a recorded function does not hold where it was recorded: it decides by something else than its arguments"
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
            if len(self.paths) >= MOST_PATHS:
                raise TooManyPaths
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
    outer : Recorder or None
        Of the recording inside of which it stands.

    Attributes
    ----------
    constants : list of Array
        Outer Arrays that the function reads: further inputs, in the order in which they were met.
    values : list
        Outputs where the last path was recorded.
    """

    def __init__(self, function, count, outer):
        super().__init__()
        self.function, self.count, self.outer = function, count, outer
        self.constants, self.values = [], []

    def complete(self):
        """From now on nothing is recorded: outer Arrays may not be what they were."""
        self.function = self.outer = None
        self.constants, self.values = [], []

    def make_path(self, values):
        if self.function is None:
            raise UnknownPath
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
            self.constants = recorder.captures
            self.values = [recorder.node_value(node) for node in outputs]
            example = [*values, *(_core.forward_value(x) for x in recorder.captures)]
            trace = Trace.of(recorder, nodes, outputs, recorder.guards)
        finally:
            recorder.close()
        return Path(trace, example)


class Derived(Body):
    """A body made of another's paths.

    Parameters
    ----------
    base : Body
    primal : callable
        Takes the inputs of this body, gives those of the base.
    further : callable
        Takes a path of the base, gives examples of this body's inputs.
    build : callable
        Takes a recorder, a base path and this body's inputs as Arrays, gives the outputs.
    """

    def __init__(self, base, primal, further, build):
        super().__init__()
        self.base, self.primal, self.further, self.build = base, primal, further, build

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
                example = self.further(origin)
                inputs = [recorder.input(value) for value in example]
                outputs = [recorder.adopt(x).node for x in self.build(recorder, origin, inputs)]
            trace = Trace.of(recorder, [x.node for x in inputs], outputs, recorder.guards)
        finally:
            recorder.close()
        return Path(trace, example, origin)


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


def ones_like(x):
    """An example of a cotangent or tangent."""
    return np.ones(np.shape(x), np.asarray(x).dtype)


def typed(results, likes):
    """Plain zeros with shape and type."""
    return [
        result if isinstance(result, Array) else np.zeros(like.shape, like.dtype)
        for result, like in zip(results, likes, strict=True)
    ]
