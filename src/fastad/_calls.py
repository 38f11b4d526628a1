"""One call of a function that is transformed: its recorder, arguments, outputs, results.

Outside of any recording a transform borrows a recorder from a pool; inside another recording it
uses that one, and what depends on nothing recorded before comes back plain.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastad import _core
from fastad._containers import flatten, is_leaf, map_arrays, unflatten
from fastad._core import Array, memory_limit, value_of
from fastad._record import current_recorder, recording

__all__ = [
    "Argnums",
    "Call",
    "Function",
    "acquire",
    "array_output",
    "as_argnums",
    "compiles",
    "nested",
    "outer_recorder",
    "plain_values",
    "release",
    "scalar_output",
    "shape_of",
    "zeros_like",
]

_KEEP = 1 << 28  # bytes of a pooled tape that stay for the next call
_POOL: list[_core.Recorder] = []

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]


def acquire():
    """A recorder from the pool, open for the calling thread."""
    recorder = _POOL.pop() if _POOL else _core.Recorder()
    recorder.open(memory_limit())
    return recorder


def release(recorder):
    """Give a recorder back: every Array on it becomes stale."""
    recorder.reset(_KEEP)
    if len(_POOL) < 2:
        _POOL.append(recorder)


# --- arguments and results ---------------------------------------------------------------------


class Call:
    """One recorded call of `f`: its differentiated arguments as variables, its output, its aux.

    The arguments `argnums` (an int, or a tuple of them) are flattened to leaves, each leaf a
    variable. `defer`: nobody but `f` asks for values of the recording before it is complete.
    """

    def __init__(self, recorder, f, argnums, args, kwargs, has_aux=False, defer=False):
        self.recorder = recorder
        self.single = not isinstance(argnums, tuple)
        positions = (argnums,) if self.single else argnums
        args = list(args)
        self.structures, self.variables = [], []
        for position in positions:
            leaves, structure = _argument(args, position)
            variables = [recorder.variable(leaf) for leaf in leaves]
            self.structures.append((structure, len(leaves)))
            self.variables.extend(variables)
            args[position] = unflatten(structure, variables)
        if defer:
            recorder.defer(self.variables)
        # Writing to an argument inside f moves the Array on: the variables stay where they began.
        self.nodes = [variable.node for variable in self.variables]
        self.variables = [recorder.array(node) for node in self.nodes]
        result = f(*args, **kwargs)
        self.output: Any
        self.aux: Any
        self.output, self.aux = _split(result) if has_aux else (result, None)

    def pack(self, leaves):
        """Results for the variables in the structure of the arguments."""
        leaves = list(leaves)
        packed, at = [], 0
        for structure, count in self.structures:
            packed.append(unflatten(structure, leaves[at : at + count]))
            at += count
        return packed[0] if self.single else tuple(packed)


def _split(result):
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"has_aux: expected f to return a pair (output, aux), got {type(result).__name__}"
        )
    return result


def _argument(args, position):
    if not -len(args) <= position < len(args):
        raise TypeError(
            f"argnums: argument {position} is to be differentiated, "
            f"but f got {len(args)} positional arguments"
        )
    leaves, structure = flatten(args[position])
    for leaf in leaves:
        _check_leaf(leaf, position)
    return leaves, structure


def _check_leaf(leaf, position):
    """Refuse what no derivative can be taken by, with the argument's place."""
    kind = type(leaf)
    if kind is float or kind is Array or kind is int:
        return
    if isinstance(leaf, np.ndarray) and leaf.dtype == object and _core.is_array(leaf):
        return
    dtype = np.asarray(leaf).dtype
    if dtype.kind in "iu" or dtype == np.float64 or dtype == np.float32:
        return
    hint = " (complex is not supported yet)" if dtype.kind == "c" else ""
    raise TypeError(
        f"argument {position}: expected real numbers (float64, float32 or integers), "
        f"got {kind.__name__} of dtype {dtype}{hint}"
    )


def as_argnums(argnums):
    if isinstance(argnums, (list, tuple)):
        return tuple(operator.index(i) for i in argnums)
    return operator.index(argnums)


def outer_recorder(args):
    """The open recorder that a transform is inside of, or None: an argument's, or the context's."""
    for arg in args:
        if type(arg) is Array:
            arg.recorder.require_open()
            return arg.recorder.innermost()
        if isinstance(arg, (list, tuple, dict)) or (
            isinstance(arg, np.ndarray) and arg.dtype == object
        ):
            recorder = outer_recorder(arg.values() if isinstance(arg, dict) else arg)
            if recorder is not None:
                return recorder
    return current_recorder()


def scalar_output(recorder, output, name):
    """The output as a 0-d Array, or None where it is a plain number: it depends on nothing."""
    output = array_output(recorder, output, name)
    if not isinstance(output, Array):
        if np.ndim(output):
            raise TypeError(_not_scalar(name, np.shape(output)))
        return None
    if output.ndim:
        raise TypeError(_not_scalar(name, output.shape))
    return output


def _not_scalar(name, shape):
    return f"{name}: f must return a scalar, got shape {shape}: use jacobian or vjp"


def array_output(recorder, output, name):
    """An output as an Array of `recorder`, or as plain numbers where nothing of it was recorded."""
    if type(output) is not Array and _core.is_array(output):
        output = _core.asarray(output)
    if type(output) is Array:
        if output.recorder is not recorder:
            if recorder.captures is None:
                raise _core.TapeError(f"{name}: f returned an Array of another tape")
            output = recorder.adopt(output)
        if output.dtype.kind != "f":
            return value_of(output)
        return output
    if not is_leaf(output):
        raise TypeError(
            f"{name}: expected f to return a number or an array, got {type(output).__name__}"
        )
    dtype = np.asarray(output).dtype
    if dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected f to return real numbers, got dtype {dtype}")
    return output


def plain_values(x):
    """Results without Arrays: what may outlive the tape."""
    return map_arrays(value_of, x)


def zeros_like(value):
    if type(value) is Array:
        return (
            np.zeros(value.shape, value.dtype) if value.ndim or value.dtype == np.float32 else 0.0
        )
    return np.zeros(np.shape(value)) if np.ndim(value) else 0.0


def _settle(recorder, mark, plain_call, results):
    """Results of a nested transform: plain where they depend on nothing recorded before it."""
    if not plain_call:
        return results

    def settle(array):
        return array if recorder.depends_on_before(array.node, mark) else value_of(array)

    return map_arrays(settle, results)


def nested(recorder, body):
    """Run `body()` on an outer recorder; what does not depend on it comes back plain."""
    mark = len(recorder)
    with recording(recorder):
        results = body()
    return _settle(recorder, mark, True, results)


def shape_of(x):
    return x.shape if isinstance(x, Array) else np.shape(x)


def gradient_of(made, transform, f, *args):
    """Note on the function that `grad` or `value_and_grad` made how it can be made again."""
    made.__fastad_gradient__ = (made.__closure__, transform, f, args)
    return made


def origin_of_gradient(f):
    """What was noted: transform, function, arguments. None: `f` is something else.

    ``functools.wraps`` hands the note on to what a user made of such a function: it is of another
    closure there.
    """
    closure, *origin = getattr(f, "__fastad_gradient__", (None,))
    return origin if closure is not None and closure is getattr(f, "__closure__", None) else None


def compiles(transform):
    """Let `fastad.compile` take over where the transformed function is a compiled one."""

    @functools.wraps(transform)
    def transform_or_compile(f, *args, **kwargs):
        hook = getattr(f, "__fastad_transform__", None)
        if hook is None:
            return transform(f, *args, **kwargs)
        return hook(transform, args, kwargs)

    return transform_or_compile
