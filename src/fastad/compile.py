"""Programs: a function recorded once for each kind of argument and path, and replayed without Python.

The first call for given structures, shapes and types of arguments records the function, runs the
passes over the recording and lowers it to a program; later calls run the program. What Python
decided by a value (an ``if``, a ``while``, an index) is a guard: where it would be decided
otherwise, that path is recorded too.
"""

import functools
import operator
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastad import _core
from fastad._bodies import hinted
from fastad._containers import flatten, is_leaf, unflatten
from fastad._core import Array
from fastad._core import memory_limit as _memory_limit
from fastad._program import MISS, Decision, Path, Program, Replay, Trace
from fastad._record import current_recorder, recording
from fastad.errors import UnknownPath, ValuesNeeded

__all__ = ["CacheInfo", "Compiled", "compile"]

MOST_PATHS = 128
MOST_HINTS = 32  # of paths through the body of a loop
WORTH_A_DRY_RUN = 1000  # elements of the inputs

# The passes, in order. FASTAD_DUMP=<pass> prints the tape after each that has this name.
PASSES = ("simplify", "reassociate", "roll", "simplify")
STRICT_PASSES = ("simplify", "roll", "simplify")


class CacheInfo(NamedTuple):
    """How often a compiled function was recorded and replayed."""

    calls: int
    recordings: int
    keys: int
    paths: int


def compile(  # noqa: A001 - the field's word, as in re.compile
    f: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    strict: bool = False,
    max_paths: int = MOST_PATHS,
    verbose: bool = False,
) -> Any:
    """Function that is recorded once and replayed afterwards.

    Parameters
    ----------
    f : callable
        Function of numbers, arrays and nested containers of them. Without it, a decorator is
        returned.
    static_argnums, static_argnames : int or str, or a sequence of them
        Arguments whose values (hashable) are part of the recording: another value records anew.
        Arguments that are no numbers or arrays (strings, None, bools, functions) are static by
        themselves.
    strict : bool, default False
        Replay gives the recording's bits. Otherwise sums may be taken in another order and products
        fused, and values differ by rounding.
    max_paths : int, default 128
        Most paths recorded for one kind of arguments. Beyond it the function is no longer
        replayed: a warning says so, and every call runs it as it is.
    verbose : bool, default False
        Print each stage of compiling with its number of nodes and its time.

    Returns
    -------
    Compiled
        Callable as `f`. `grad`, `value_and_grad`, `jacobian`, `hessian`, `jvp`, `vjp`, `hvp` and
        `vmap` of it are compiled too.

    Notes
    -----
    As in JAX, only arguments are inputs: a global or closure variable that changes after the
    recording is not seen, and side effects (printing, appending to a list) happen while recording
    only. Arguments are read at every call, so an array that was changed in place is seen.

    Examples
    --------
    >>> @fad.compile
    ... def f(x):
    ...     return x**2 if x > 0 else -x
    >>> f(3.0), f(-3.0), f(4.0)
    (9.0, 3.0, 16.0)
    >>> f.cache_info().recordings
    2
    >>> fad.grad(f)(4.0)
    8.0
    """
    options = _Options(
        _indices(static_argnums), _names(static_argnames), strict, max_paths, verbose
    )
    if f is None:
        return lambda function: Compiled(function, options)
    return Compiled(f, options)


class _Options(NamedTuple):
    static_argnums: tuple[int, ...]
    static_argnames: tuple[str, ...]
    strict: bool
    max_paths: int
    verbose: bool


def _indices(given):
    if isinstance(given, (list, tuple)):
        return tuple(operator.index(i) for i in given)
    return (operator.index(given),)


def _names(given):
    return (given,) if isinstance(given, str) else tuple(given)


# --- arguments ---------------------------------------------------------------------------------


class _Static:
    """A static argument as a leaf of the arguments' structure."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def _is_number(x):
    """Whether `x` is an input: a number or an array of them. Truth values are static."""
    if isinstance(x, (float, int)):
        return not isinstance(x, bool)
    return isinstance(x, (np.ndarray, np.generic, complex)) and not isinstance(x, (str, bytes))


class _Arguments:
    """The arguments of one call, taken apart: inputs, and the key of what they look like."""

    def __init__(self, args, kwargs, options):
        self.inputs, self.forms, self.places = [], [], []
        self.kwargs = tuple(sorted(kwargs))
        for index, arg in enumerate(args):
            self._add(arg, index in options.static_argnums, f"argument {index}")
        for name in self.kwargs:
            self._add(kwargs[name], name in options.static_argnames, f"argument {name!r}")
        self.positional = len(args)
        self.key = (self.kwargs, tuple(self.forms))

    def _add(self, arg, static, name):
        if static or not (_is_number(arg) or isinstance(arg, (tuple, list, dict))):
            container = not static and not is_leaf(arg) and _has_leaves(arg)
            if not container:
                return self._add_static(arg, name)
        if _is_number(arg):
            self.forms.append(_form(arg, name))
            self.places.append((None, 1))
            self.inputs.append(arg)
            return None
        leaves, structure = flatten(arg)
        dynamic = []
        for leaf in leaves:
            if _is_number(leaf):
                self.forms.append(_form(leaf, name))
                self.inputs.append(leaf)
                dynamic.append(None)
            else:
                self.forms.append(("static", _hashable(leaf, name)))
                dynamic.append(_Static(leaf))
        self.forms.append(("structure", structure))
        self.places.append((structure, dynamic))
        return None

    def _add_static(self, arg, name):
        self.forms.append(("static", _hashable(arg, name)))
        self.places.append((_Static(arg), 0))

    def inputs_of(self, argnums):
        """For each positional argument its structure and the numbers of its inputs; None where that cannot be said."""
        found, at, all_places = [], 0, []
        for structure, dynamic in self.places:
            count = dynamic if isinstance(dynamic, int) else sum(leaf is None for leaf in dynamic)
            pure = isinstance(dynamic, int) or count == len(dynamic)
            static = isinstance(structure, _Static) or not pure
            all_places.append(None if static else (structure, list(range(at, at + count))))
            at += count
        for argnum in argnums:
            if not -self.positional <= argnum < self.positional:
                return None
            place = all_places[argnum % self.positional]
            if place is None or any(self.forms_of_inputs()[k][0] not in "df" for k in place[1]):
                return None
            found.append(place)
        return found

    def forms_of_inputs(self):
        """Type and shape of each input."""
        return [form for form in self.forms if form[0] not in ("static", "structure")]

    def rebuilt(self, leaves):
        """args and kwargs with `leaves` in place of the inputs."""
        leaves = iter(leaves)
        values = []
        for structure, dynamic in self.places:
            if isinstance(structure, _Static):
                values.append(structure.value)
            elif structure is None:
                values.append(next(leaves))
            else:
                filled = [next(leaves) if leaf is None else leaf.value for leaf in dynamic]
                values.append(unflatten(structure, filled))
        named = dict(zip(self.kwargs, values[self.positional :], strict=True))
        return values[: self.positional], named


def _has_leaves(x):
    """Whether `x` is a container that optree knows."""
    try:
        leaves, _ = flatten(x)
    except ImportError:
        return False
    return not (len(leaves) == 1 and leaves[0] is x)


def _hashable(value, name):
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected a number, an array, a container of them or a hashable static value, "
            f"got {type(value).__name__}"
        ) from None
    return (type(value), value)


def _form(leaf, name):
    """Type and shape of an input."""
    if type(leaf) is float:
        return ("d", ())
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8 or array.dtype == np.float16:
        hint = " (complex is not supported yet)" if array.dtype.kind == "c" else ""
        raise TypeError(
            f"{name}: expected real numbers (float64, float32, integers or bools), "
            f"got {type(leaf).__name__} of dtype {array.dtype}{hint}"
        )
    return (array.dtype.char, array.shape)


# --- recording ---------------------------------------------------------------------------------


class _Recorded(NamedTuple):
    """A traced call: the trace, and how outputs become the result."""

    trace: Trace
    structure: Any
    leaves: list[Any]  # for each leaf of the result the number of an output, or _Static
    pack: Any = None  # in place of what structure and leaves say


def _record(function, arguments):
    """Trace `function` at the given arguments: its form alone where that is worth a try, else with values."""
    if sum(np.size(leaf) for leaf in arguments.inputs) >= WORTH_A_DRY_RUN:
        try:
            return _record_once(function, arguments, dry=True)
        except ValuesNeeded:
            pass
    return _record_once(function, arguments, dry=False)


def _record_once(function, arguments, dry):
    recorder = _core.Recorder()
    recorder.open(_memory_limit())
    try:
        recorder.trace(dry)
        with recording(recorder):
            inputs = [recorder.input(leaf) for leaf in arguments.inputs]
            nodes = [x.node for x in inputs]
            args, kwargs = arguments.rebuilt(inputs)
            result = function(*args, **kwargs)
            leaves, structure = _flatten_result(result)
            outputs, places = [], []
            for leaf in leaves:
                if _core.is_array(leaf):
                    array = _core.asarray(leaf)
                    if array.recorder is not recorder:
                        raise _core.TapeError("compile: f returned an Array of another tape")
                    places.append(len(outputs))
                    outputs.append(array.node)
                else:
                    places.append(_Static(leaf))
        trace = Trace.of(recorder, nodes, outputs, recorder.guards)
    finally:
        recorder.close()
    return _Recorded(trace, structure, places)


def _flatten_result(result):
    if is_leaf(result) or result is None:
        return [result], None
    return flatten(result)


def _pack(recorded):
    """Function that makes the result of the list of outputs; None: it is the only output."""
    if recorded.pack is not None:
        return recorded.pack
    places, structure = recorded.leaves, recorded.structure
    zero_d = [
        recorded.trace.recorder.node_shape(node) == () for node in recorded.trace.outputs
    ]
    if structure is None and places == [0] and not zero_d[0]:
        return None

    def leaf(place, outputs):
        if isinstance(place, _Static):
            return np.copy(place.value) if isinstance(place.value, np.ndarray) else place.value
        value = outputs[place]
        return value[()] if zero_d[place] and isinstance(value, np.ndarray) else value

    if structure is None:
        return lambda outputs: leaf(places[0], outputs)
    return lambda outputs: unflatten(structure, [leaf(place, outputs) for place in places])


# --- compiling ---------------------------------------------------------------------------------


class _Stages:
    """Runs passes, and tells of them where asked to."""

    def __init__(self, name, strict, verbose):
        self.name, self.strict, self.verbose = name, strict, verbose
        self.dump = os.environ.get("FASTAD_DUMP", "")
        self.start = time.perf_counter()

    def tell(self, stage, count, unit="nodes"):
        """Print a line where verbose."""
        if self.verbose:
            seconds = time.perf_counter() - self.start
            print(f"{self.name}: {stage:12} {count:>10} {unit:12} {seconds * 1e3:10.3f} ms", file=sys.stderr)
        self.start = time.perf_counter()

    def show(self, stage, trace):
        """After a stage: tell, dump, verify."""
        self.tell(stage, len(trace))
        if self.dump == stage:
            print(trace.dump(), end="", file=sys.stderr)
        if _core.build_info()["debug"]:
            trace.verify()

    def through(self, trace):
        """The trace after all passes; one that does not roll keeps its order, and is simple."""
        for name in STRICT_PASSES if self.strict else PASSES:
            after = trace.through(name, self.strict)
            self.show(name, after)
            if name == "roll" and len(after) >= len(trace):
                break
            trace = after
        return trace

    def lowered(self, trace):
        """The program of a trace."""
        program = trace.lowered(self.strict)
        if _core.build_info()["debug"]:
            program.verify()
        self.tell("lower", program.instructions + program.scalars, "instructions")
        return program


class _Paths:
    """The paths of one kind of arguments."""

    def __init__(self):
        self.count, self.last = 0, None
        self.root = None

    def add(self, path, seen):
        """Put a path in its place."""
        if self.root is None:
            self.root = Decision(path)
        decision = self.root
        for outcome in seen:
            path.decisions.append(decision)
            decision = decision.next.setdefault(outcome, Decision(path))
        decision.path = path
        self.count += 1
        self.last = path


class Compiled:
    """A function that is recorded once and replayed: what `fastad.compile` gives."""

    def __init__(self, function, options):
        if not callable(function):
            raise TypeError(f"f: expected a function, got {type(function).__name__}")
        functools.update_wrapper(self, function)
        self.function, self.options = function, options
        self._lock = threading.RLock()
        self._derived: dict[Any, Any] = {}
        self._hints: dict[Any, list[Any]] = {}
        self._origin: tuple[Any, ...] | None = None  # of a transform: how it is made again
        self.clear()

    def clear(self) -> None:
        """Forget all programs."""
        self._paths: dict[Any, _Paths] = {}
        self._calls = self._recordings = 0
        self._replay: Replay | None = None
        self._warned = False

    def cache_info(self) -> CacheInfo:
        """How often the function was called and recorded, for how many kinds of arguments and paths."""
        paths = sum(paths.count for paths in self._paths.values())
        return CacheInfo(self._calls, self._recordings, len(self._paths), paths)

    def __call__(self, *args, **kwargs):
        self._calls += 1
        if self._replay is not None and not kwargs and current_recorder() is None:
            try:
                result = self._replay(args)
            except UnknownPath:
                result = MISS
            if result is not MISS:
                return result
        return self._call(args, kwargs)

    def _call(self, args, kwargs):
        if current_recorder() is not None or _core.is_array(args) or _core.is_array([*kwargs.values()]):
            return self.function(*args, **kwargs)  # within a recording: part of it
        arguments = _Arguments(args, kwargs, self.options)
        paths = self._paths.get(arguments.key)
        path = paths.last if paths is not None else None
        while path is not None:
            try:
                outcome = path.program(*arguments.inputs)
            except UnknownPath as unknown:  # of a loop inside: what it closes over is recorded anew
                hints = self._hints.setdefault(unknown.key, [])
                hints[:] = [unknown.values, *hints[: MOST_HINTS - 1]]
                break
            if isinstance(outcome, list):
                paths.last = path
                self._remember(path, arguments)
                return path.packed(outcome)
            path = path.other(*outcome)
        with hinted(self._hints):
            return self._first_call(args, kwargs, arguments)

    def _remember(self, path, arguments):
        if not arguments.kwargs and len(arguments.inputs) == len(arguments.forms):
            self._replay = Replay(path)

    def _first_call(self, args, kwargs, arguments):
        path = self._compiled(arguments)
        if path is None:
            return self.function(*args, **kwargs)
        try:
            outcome = path.program(*arguments.inputs)
        except UnknownPath:
            return self.function(*args, **kwargs)
        if not isinstance(outcome, list):
            # A value that decides was computed in another order and rounded otherwise.
            path = self._compiled(arguments, strict=True)
            outcome = path.program(*arguments.inputs)
        if not isinstance(outcome, list):
            raise RuntimeError(
                f"{self.__name__}: a recording does not hold at the arguments it was made at: "
                "the function decides by something else than its arguments"
            )
        self._remember(path, arguments)
        return path.packed(outcome)

    def _compiled(self, arguments, strict=False):
        """Record a path at the given arguments; None where there are too many."""
        with self._lock:
            paths = self._paths.setdefault(arguments.key, _Paths())
            if paths.count >= self.options.max_paths and not strict:
                self._warn()
                return None
            self._recordings += 1
            try:
                path, seen = self._build(arguments, strict or self.options.strict)
            except BaseException:
                if paths.count == 0:
                    del self._paths[arguments.key]
                raise
            paths.add(path, seen)
            return path

    def _warn(self):
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.__name__}: more than {self.options.max_paths} paths were recorded (see max_paths): "
                "further ones are not replayed",
                RuntimeWarning,
                stacklevel=5,
            )

    def _build(self, arguments, strict):
        stages = _Stages(self.__name__, strict, self.options.verbose)
        recorded = self._trace(arguments, stages)
        program = stages.lowered(recorded.trace)
        return Path(program, _pack(recorded)), recorded.trace.seen

    def _trace(self, arguments, stages):
        recorded = _record(self.function, arguments)
        stages.show("record", recorded.trace)
        return recorded._replace(trace=stages.through(recorded.trace))

    def program(self, *args, **kwargs) -> Program:
        """The program that runs at these arguments."""
        arguments = _Arguments(args, kwargs, self.options)
        paths = self._paths.get(arguments.key)
        path = paths.last if paths is not None else None
        while path is not None:
            outcome = path.program(*arguments.inputs)
            if isinstance(outcome, list):
                return path.program
            path = path.other(*outcome)
        path = self._compiled(arguments)
        if path is None:
            raise RuntimeError(f"{self.__name__}: more than {self.options.max_paths} paths")
        return path.program

    # --- transforms of it are compiled too ---

    def __fastad_transform__(self, transform, args, kwargs):
        """The transform of this function, compiled."""
        if transform.__name__ in ("jvp", "hvp"):
            names = ("primals", "tangents", "has_aux")
            given = dict(zip(names, args, strict=False)) | kwargs
            has_aux = given.pop("has_aux", False)
            keywords = (("has_aux", True),) if has_aux else ()
            return self._transformed(transform, (), keywords, along=True)(**given)
        argnums = [tuple(x) if isinstance(x, list) else x for x in args]
        keywords = {k: tuple(x) if isinstance(x, list) else x for k, x in kwargs.items()}
        return self._transformed(transform, tuple(argnums), tuple(keywords.items()))

    def _transformed(self, transform, args, keywords, along=False):
        key = (transform, args, keywords)
        if key not in self._derived:
            if along:

                def function(primals, tangents):
                    return transform(self.function, primals, tangents, **dict(keywords))

                function.__name__ = f"{transform.__name__} of {self.__name__}"
            else:
                function = transform(self.function, *args, **dict(keywords))
            self._derived[key] = Compiled(function, self.options)
            if transform.__name__ in ("grad", "value_and_grad"):
                self._derived[key] = _CompiledGradient(function, self.options, self.function, transform.__name__,
                                                       *args, **dict(keywords))
            self._derived[key]._origin = (self, *key, along)
        return self._derived[key]

    def __reduce__(self):
        """Pickled by reference, as functions are; programs are made again where it is loaded."""
        if self._origin is not None:
            parent, transform, *options = self._origin
            public = _named(transform.__module__, transform.__qualname__)
            return _transformed_again, (parent, public, *options)
        if _named(self.__module__, self.__qualname__) is self:
            return self.__qualname__  # a decorated function: its name
        return Compiled, (self.function, self.options)


def _named(module, qualname):
    """What a module calls so, or None."""
    try:
        return operator.attrgetter(qualname)(sys.modules[module])
    except (AttributeError, KeyError, TypeError):
        return None


def _transformed_again(compiled, public, args, keywords, along):
    """A transform of a compiled function, when it is unpickled."""
    return compiled._transformed(public.__wrapped__, args, keywords, along)


class _CompiledGradient(Compiled):
    """Gradient of a compiled function: taken after re-rolling, of a few array nodes."""

    def __init__(self, function, options, primal, transform, argnums=0, has_aux=False):
        super().__init__(function, options)
        self.primal, self.with_value = primal, transform == "value_and_grad"
        self.argnums, self.has_aux = argnums, has_aux

    def _trace(self, arguments, stages):
        single = not isinstance(self.argnums, tuple)
        places = arguments.inputs_of((self.argnums,) if single else self.argnums)
        if places is None or self.has_aux:
            return super()._trace(arguments, stages)
        recorded = _record(self.primal, arguments)
        if not _is_scalar(recorded) or recorded.trace.has_rules:
            return super()._trace(arguments, stages)  # which says what is wrong, if anything is
        stages.show("record", recorded.trace)
        trace = stages.through(recorded.trace)
        trace = trace.gradient(0, [k for _, inputs in places for k in inputs])
        stages.show("gradient", trace)
        trace = stages.through(trace)
        return recorded._replace(trace=trace, pack=_gradient_pack(places, single, self.with_value))


def _is_scalar(recorded):
    if recorded.structure is not None or recorded.leaves != [0]:
        return False
    recorder, node = recorded.trace.recorder, recorded.trace.outputs[0]
    return recorder.node_shape(node) == () and recorder.node_active(node)


def _gradient_pack(places, single, with_value):
    """Function that makes (value, gradients), or the gradients, of the list of outputs."""
    if single and places[0][0] is None:
        if with_value:
            return tuple
        return operator.itemgetter(1)

    def pack(outputs):
        found, at = [], 1
        for structure, inputs in places:
            found.append(unflatten(structure, outputs[at : at + len(inputs)]))
            at += len(inputs)
        gradients = found[0] if single else tuple(found)
        return (outputs[0], gradients) if with_value else gradients

    return pack
