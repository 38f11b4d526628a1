"""Programs: a function recorded once for each kind of argument and path, replayed without Python.

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
from fastad._arguments import Arguments, Static, static_places
from fastad._bodies import hinted
from fastad._calls import as_argnums, origin_of_gradient
from fastad._containers import flatten, is_leaf, unflatten
from fastad._core import memory_limit as _memory_limit
from fastad._passes import optimised
from fastad._program import MISS, Decision, Path, Program, Replay, Trace
from fastad._progress import progress
from fastad._record import current_recorder, recording
from fastad.errors import UnknownPath, ValuesNeeded

__all__ = ["CacheInfo", "Compiled", "compile"]

MOST_PATHS = 128
MOST_HINTS = 32  # of paths through the body of a loop
WORTH_A_DRY_RUN = 1000  # elements of the inputs


class CacheInfo(NamedTuple):
    """How often a compiled function was recorded and replayed."""

    calls: int
    recordings: int
    keys: int
    paths: int


def compile(
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
        themselves. Where `f` has names for its arguments, number and name mean the same.
    strict : bool, default False
        Replay gives the recording's bits, products of matrices that are transposed or reversed in
        memory apart. Otherwise sums may be taken in another order and products fused, and values
        differ by rounding. The gradient of a compiled function is that of its program: its bits
        need not be those of a gradient that is recorded, `strict` or not.
    max_paths : int, default 128
        Most paths recorded for one kind of arguments. Beyond it the function is no longer
        replayed: a warning says so, and every call runs it as it is.
    verbose : bool, default False
        Print each stage of compiling with its number of nodes and its time. Without it too, a
        terminal shows how far a recording is that takes more than 2 seconds.

    Returns
    -------
    Compiled
        Callable as `f`. `grad`, `value_and_grad`, `jacobian`, `hessian`, `jvp`, `vjp`, `hvp`,
        `linearize` and `vmap` of it are compiled too, each with paths and counts of its own.
        Unless `strict`, ``compile(grad(f))`` is ``grad(compile(f))``: the derivative is taken of
        the finished program, which is faster than recording it. With `has_aux`, and where `f`
        calls a `Function`, the gradient is recorded.

    Notes
    -----
    As in JAX, only arguments are inputs: a global or closure variable that changes after the
    recording is not seen, and side effects (printing, appending to a list) happen while recording
    only, which for large arguments may run `f` twice. Objects given as arguments that are no
    numbers are static: what changes inside of them is not seen. Arguments are read at every call,
    so an array that was changed in place is seen. Python numbers are inputs as NumPy's are: an int
    is an int64, and a float promotes a float32 array to float64.

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
        return lambda function: _compiled(function, options)
    return _compiled(f, options)


def _compiled(f, options):
    """`f` compiled; a gradient as the gradient of a compiled function, which is shorter to make."""
    origin = None if options.strict else origin_of_gradient(f)
    if origin is None:
        return Compiled(f, options)
    transform, primal, arguments = origin
    return transform(_compiled(primal, options), *arguments)


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


# --- recording ---------------------------------------------------------------------------------


class _Recorded(NamedTuple):
    """A traced call: the trace, and how outputs become the result."""

    trace: Trace
    structure: Any
    leaves: list[Any]  # for each leaf of the result the number of an output, or Static
    pack: Any = None  # in place of what structure and leaves say


def _record(function, arguments):
    """Trace `function` at the given arguments: its form alone where that is worth a try."""
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
            with progress("fastad.compile: recording", recorder.__len__, "nodes"):
                result = function(*args, **kwargs)
            leaves, structure = _flatten_result(result)
            outputs: list[int] = []
            places: list[int | Static] = []
            for leaf in leaves:
                if _core.is_array(leaf):
                    array = _core.asarray(leaf)
                    if array.recorder is not recorder:
                        raise _core.TapeError("compile: f returned an Array of another tape")
                    places.append(len(outputs))
                    outputs.append(array.node)
                else:
                    places.append(Static(_checked(leaf)))
        trace = Trace.of(recorder, nodes, outputs, recorder.guards)
    finally:
        recorder.close()
    return _Recorded(trace, structure, places)


def _checked(leaf):
    """Refuse results that hide recorded values: replayed, they would be those of the recording."""
    inside = list(getattr(leaf, "__dict__", {}).values())
    inside += [getattr(leaf, name, None) for name in getattr(type(leaf), "__slots__", ())]
    inside += [cell.cell_contents for cell in getattr(leaf, "__closure__", None) or ()]
    inside += leaf if isinstance(leaf, (set, frozenset)) else []
    if hasattr(leaf, "__next__") or any(_core.is_array(item) for item in inside):
        raise TypeError(
            f"compile: f returned a {type(leaf).__name__}, whose recorded values cannot be taken "
            "out: return arrays and containers of them (others can be registered with optree)"
        )
    return leaf


class _Tuple(NamedTuple):
    """The structure of a tuple, which needs no optree: for each item leaves and structure."""

    parts: tuple[tuple[int, Any], ...]


def _flatten_result(result):
    if is_leaf(result) or result is None:
        return [result], None
    if type(result) is not tuple:
        return flatten(result)
    leaves, parts = [], []
    for item in result:
        own, structure = _flatten_result(item)
        leaves += own
        parts.append((len(own), structure))
    return leaves, _Tuple(tuple(parts))


def _unflatten_result(structure, leaves):
    if not isinstance(structure, _Tuple):
        return unflatten(structure, leaves)
    items, at = [], 0
    for count, inner in structure.parts:
        items.append(_unflatten_result(inner, leaves[at : at + count]))
        at += count
    return tuple(items)


def _pack(recorded):
    """Function that makes the result of the list of outputs; None: it is the only output."""
    if recorded.pack is not None:
        return recorded.pack
    places, structure = recorded.leaves, recorded.structure
    zero_d = [recorded.trace.recorder.node_shape(node) == () for node in recorded.trace.outputs]
    if structure is None and places == [0] and not zero_d[0]:
        return None

    def leaf(place, outputs):
        if isinstance(place, Static):
            return np.copy(place.value) if isinstance(place.value, np.ndarray) else place.value
        value = outputs[place]
        return value[()] if zero_d[place] and isinstance(value, np.ndarray) else value

    if structure is None:
        return lambda outputs: leaf(places[0], outputs)
    return lambda outputs: _unflatten_result(structure, [leaf(place, outputs) for place in places])


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
            line = f"{self.name}: {stage:12} {count:>10} {unit:12} {seconds * 1e3:10.3f} ms"
            print(line, file=sys.stderr)
        self.start = time.perf_counter()

    def show(self, stage, trace):
        """After a stage: tell, dump, verify."""
        self.tell(stage, len(trace))
        if self.dump == stage:
            print(trace.dump(), end="", file=sys.stderr)
        if _core.build_info()["debug"]:
            trace.verify()

    def through(self, trace, last=True):
        """The trace after all passes. FASTAD_DUMP=<pass> prints it after each of this name.

        `last`: no derivatives are taken of it.
        """
        return optimised(trace, self.strict, self.show, last=last)

    def lowered(self, trace):
        """The program of a trace."""
        program = trace.lowered(self.strict)
        if _core.build_info()["debug"]:
            program.verify()
        self.tell("lower", program.instructions + program.scalars, "instructions")
        return program


class _Paths:
    """The paths of one kind of arguments, as a tree of decisions."""

    def __init__(self):
        self.all: list[Path] = []
        self.refused: str | None = None  # why nothing is recorded
        self.last: Path | None = None
        self.root: Decision | None = None

    def add(self, path, seen):
        """Put a path in its place. Other threads may walk the tree: what they reach is complete."""
        decision = root = self.root or Decision(path)
        branch = None
        for outcome in seen:
            path.decisions.append(decision)
            following = decision.next.get(outcome)
            if following is None:
                following = Decision(path)
                if branch is None:
                    branch = (decision.next, outcome, following)
                else:
                    decision.next[outcome] = following
            decision = following
        decision.path = path
        if branch is not None:
            decisions, outcome, following = branch
            decisions[outcome] = following
        self.root, self.last = root, path
        self.all.append(path)


class _NotReplayed(Exception):  # noqa: N818 - no error: the function runs as it is
    """No path of a compiled function holds, and no more are recorded."""


class Compiled:
    """A function that is recorded once and replayed: what `fastad.compile` gives."""

    def __init__(self, function, options, is_transform=False):
        if not callable(function):
            raise TypeError(f"f: expected a function, got {type(function).__name__}")
        functools.update_wrapper(self, function, updated=())
        if not hasattr(function, "__name__"):
            self.__name__ = self.__qualname__ = type(function).__name__
        self.function, self.options, self.is_transform = function, options, is_transform
        self._static = static_places(function, options.static_argnums, options.static_argnames)
        self._lock = threading.RLock()
        self._derived: dict[Any, Any] = {}
        self._hints: dict[Any, list[Any]] = {}
        self._origin: tuple[Any, ...] | None = None  # of a transform: how it is made again
        self.clear()

    def clear(self) -> None:
        """Forget all programs, those of transforms included."""
        self._paths: dict[Any, _Paths] = {}
        self._calls = self._recordings = 0
        self._replay: Replay | None = None
        self._warned = False
        for derived in self._derived.values():
            derived.clear()

    def cache_info(self) -> CacheInfo:
        """How often it was called and recorded, for how many kinds of arguments and paths.

        A transform of it counts for itself: ``fad.grad(f).cache_info()``.
        """
        paths = sum(len(paths.all) for paths in list(self._paths.values()))
        return CacheInfo(self._calls, self._recordings, len(self._paths), paths)

    def __get__(self, owner, kind=None):
        return self if owner is None else _Method(self, owner)

    def __repr__(self):
        return f"<compiled {self.__qualname__}>"

    def __call__(self, *args, **kwargs):
        self._calls += 1
        if self._replay is not None and not kwargs and current_recorder() is None:
            try:
                result = self._replay(args)
            except Exception:  # of a rule, perhaps on a path that does not hold: the long way tells
                result = MISS
            if result is not MISS:
                return result
        return self._call(args, kwargs)

    def _call(self, args, kwargs):
        traced = _core.is_array(args) or _core.is_array([*kwargs.values()])
        if traced or current_recorder() is not None:
            return self.function(*args, **kwargs)  # within a recording: part of it
        arguments = Arguments(args, kwargs, self._static)
        try:
            path, outputs = self._run(arguments)
        except _NotReplayed as reason:
            result = self.function(*args, **kwargs)  # which may say what is wrong
            self._warn(str(reason))
            return result
        if arguments.only_inputs():
            self._replay = Replay(path)
        return path.packed(outputs)

    def _run(self, arguments):
        """The path that holds at these arguments, and its outputs."""
        known = self._count(arguments)
        found = self._run_known(arguments)
        if found is not None:
            return found
        with self._lock:
            if self._count(arguments) != known:  # another thread recorded
                found = self._run_known(arguments)
            # A value that decides may be rounded otherwise than recorded, but under strict.
            for strict in (self.options.strict, True):
                if found is None:
                    with hinted(self._hints):
                        self._compiled(arguments, strict)
                    found = self._run_known(arguments)
        if found is None:
            raise _NotReplayed(
                "what was recorded does not hold at the arguments that it was recorded at: "
                "such calls are not replayed"
            )
        return found

    def _count(self, arguments):
        paths = self._paths.get(arguments.key)
        return 0 if paths is None else len(paths.all)

    def _run_known(self, arguments):
        """As _run, or None where no path holds."""
        paths = self._paths.get(arguments.key)
        if paths is None:
            return None
        path = paths.last
        for _ in range(len(paths.all) + 1):  # paths that round otherwise may point to each other
            if path is None:
                return None
            outcome = self._attempt(path, arguments)
            if outcome is None:
                break
            if isinstance(outcome, list):
                paths.last = path
                return path, outcome
            path = path.other(*outcome)
        for path in list(paths.all):
            outcome = self._attempt(path, arguments)
            if isinstance(outcome, list):
                paths.last = path
                return path, outcome
        return None

    def _attempt(self, path, arguments):
        """What the program of a path gives; None where it fails, as it may if it does not hold."""
        try:
            return path.program(*arguments.inputs)
        except MemoryError:
            raise
        except UnknownPath as unknown:  # of a loop inside: what it closes over is recorded anew
            hints = self._hints.setdefault(unknown.key, [])
            hints[:] = [unknown.values, *hints[: MOST_HINTS - 1]]
        except Exception:  # of a rule, or of an index that is out of bounds
            pass
        return None

    def _compiled(self, arguments, strict=False):
        """Record a path at the given arguments."""
        with self._lock:
            paths = self._paths.get(arguments.key) or _Paths()
            if len(paths.all) >= self.options.max_paths and (not strict or self.options.strict):
                raise _NotReplayed(
                    f"more than {self.options.max_paths} paths were recorded (see max_paths): "
                    "further ones are not replayed"
                )
            if paths.refused is not None:
                raise _NotReplayed(paths.refused)
            self._recordings += 1
            try:
                path, seen = self._build(arguments, strict)
            except NotImplementedError as error:
                if not self.is_transform:
                    raise
                # A rule that is differentiable once, and this was the recording of a derivative.
                paths.refused = f"not replayed: {error}"
                self._paths[arguments.key] = paths
                raise _NotReplayed(paths.refused) from error
            paths.add(path, seen)
            self._paths[arguments.key] = paths
            return path

    def _warn(self, what):
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.__name__}: {what}", RuntimeWarning, stacklevel=4)

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
        try:
            path, _ = self._run(Arguments(args, kwargs, self._static))
        except _NotReplayed as reason:
            raise RuntimeError(f"{self.__name__}: {reason}") from None
        return path.program

    # --- transforms of it are compiled too ---

    def __fastad_transform__(self, transform, args, kwargs):
        """The transform of this function, compiled."""
        name, f = transform.__name__, self.function
        if name in ("vjp", "linearize"):
            return self._linearised(transform, args, **kwargs)
        if name in ("jvp", "hvp"):
            return self._along(transform, *args, **kwargs)
        args = tuple(tuple(x) if isinstance(x, list) else x for x in args)
        kwargs = {k: tuple(x) if isinstance(x, list) else x for k, x in kwargs.items()}
        key = (transform, args, tuple(kwargs.items()))
        derived = self._derive(
            key,
            lambda: (
                _CompiledGradient(
                    transform(f, *args, **kwargs), self.options, self, name, *args, **kwargs
                )
                if name in ("grad", "value_and_grad")
                else Compiled(transform(f, *args, **kwargs), self.options, True)
            ),
        )
        derived._origin = (self, *key)
        return derived

    def _derive(self, key, make):
        """The compiled function that `make` gives; the same one for the same key."""
        try:
            hash(key)
        except TypeError:  # containers of axes
            return make()
        with self._lock:
            if key not in self._derived:
                self._derived[key] = make()
            return self._derived[key]

    def _spread(self, key, name, function):
        """A compiled function of arguments side by side."""

        def make():
            function.__name__ = function.__qualname__ = f"{name} of {self.__name__}"
            return Compiled(function, self.options, True)

        return self._derive((key, name), make)

    def _along(self, transform, primals, tangents, **kwargs):
        """jvp or hvp. Primals and tangents side by side: a tuple of them is no container."""
        f, single = self.function, not isinstance(primals, tuple)
        if single != (not isinstance(tangents, tuple)) or not (
            single or len(primals) == len(tangents)
        ):
            return transform(f, primals, tangents, **kwargs)  # which says what is wrong
        n = 1 if single else len(primals)

        def along(*args):
            if single:
                return transform(f, *args, **kwargs)
            return transform(f, args[:n], args[n:], **kwargs)

        key = (single or n, *kwargs.items())
        compiled = self._spread(key, transform.__name__, along)
        return compiled(primals, tangents) if single else compiled(*primals, *tangents)

    def _linearised(self, transform, primals, has_aux=False):
        """Value of `vjp` or `linearize`, and their linear function, which takes the primals too."""
        f, n = self.function, len(primals)
        if current_recorder() is not None or _core.is_array(primals):
            return transform(f, *primals, has_aux=has_aux)

        def value(*args):
            result = transform(f, *args, has_aux=has_aux)
            return (result[0], result[2]) if has_aux else result[0]

        def linear(*args):
            return transform(f, *args[:n], has_aux=has_aux)[1](*args[n:])

        primals = [_snapshot(primal) for primal in primals]
        name = transform.__name__
        result = self._spread((has_aux, n), f"value of {name}", value)(*primals)
        apply = functools.partial(self._spread((has_aux, n), name, linear), *primals)
        return (result[0], apply, result[1]) if has_aux else (result, apply)

    def __reduce__(self):
        """Pickled by reference, as functions are; programs are made again where it is loaded."""
        if _named(self.__module__, self.__qualname__) is self:
            return self.__qualname__  # a decorated function: its name
        if self._origin is not None:
            parent, transform, *options = self._origin
            public = _named(transform.__module__, transform.__qualname__)
            return _transformed_again, (parent, public, *options)
        return Compiled, (self.function, self.options)


def _snapshot(x):
    """`x` with copies of its arrays: what may be written to later."""
    leaves, structure = flatten(x)
    return unflatten(structure, [np.array(v) if isinstance(v, np.ndarray) else v for v in leaves])


class _Method:
    """A compiled function as the method of an object, which is its first argument, a static one."""

    def __init__(self, compiled, owner):
        functools.update_wrapper(self, compiled, updated=())
        self.compiled, self.owner = compiled, owner

    def __call__(self, *args, **kwargs):
        return self.compiled(self.owner, *args, **kwargs)

    def __fastad_transform__(self, transform, args, kwargs):
        if transform.__name__ in ("grad", "value_and_grad", "jacobian", "hessian"):
            given = dict(zip(("argnums", "has_aux"), args, strict=False)) | kwargs
            argnums = as_argnums(given.pop("argnums", 0))
            shifted = (
                tuple(n + (n >= 0) for n in argnums)
                if isinstance(argnums, tuple)
                else argnums + (argnums >= 0)
            )
            return _Method(transform(self.compiled, argnums=shifted, **given), self.owner)
        return transform(functools.partial(self.compiled.function, self.owner), *args, **kwargs)


def _named(module, qualname):
    """What a module calls so, or None."""
    try:
        return operator.attrgetter(qualname)(sys.modules[module])
    except (AttributeError, KeyError, TypeError):
        return None


def _transformed_again(compiled, public, args, keywords):
    """A transform of a compiled function, when it is unpickled."""
    return public(compiled, *args, **dict(keywords))


class _CompiledGradient(Compiled):
    """Gradient of a compiled function: taken after re-rolling, of a few array nodes."""

    def __init__(self, function, options, primal, transform, argnums=0, has_aux=False):
        super().__init__(function, options, True)
        self.primal, self.with_value = primal.function, transform == "value_and_grad"
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
        trace = stages.through(recorded.trace, last=False)
        wanted = [k for _, inputs in places for k in inputs]
        trace = trace.gradient(0, wanted, self.with_value)
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
        return tuple if with_value else operator.itemgetter(0)

    def pack(outputs):
        found, at = [], int(with_value)
        for structure, inputs in places:
            found.append(unflatten(structure, outputs[at : at + len(inputs)]))
            at += len(inputs)
        gradients = found[0] if single else tuple(found)
        return (outputs[0], gradients) if with_value else gradients

    return pack
