"""vmap: a function of one lane applied to many at once.

The function is recorded once, on the first lane; csrc/batch.c then repeats every node that depends
on the lane over all of them.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastad import _core
from fastad._batch import batch_values, constant, emit_batch, seed, under_way
from fastad._calls import acquire, compiles, nested, outer_recorder, plain_values, release
from fastad._containers import flatten, is_leaf, unflatten
from fastad._core import Array, forward_value
from fastad._record import recording

__all__ = ["vmap"]


@compiles
def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Function that applies `f` to many lanes at once.

    ``vmap(f)(xs)`` has the values of ``np.stack([f(x) for x in xs])``, but `f` runs once: what it
    does to one lane is recorded, and done to all lanes with array operations. What does not depend
    on the lane is computed once.

    Parameters
    ----------
    f : callable
        Function of one lane: of numbers, arrays or nested containers of them, to the same. It may
        use other values, recorded ones included: they are the same in every lane.
    in_axes : int, None, or tuple of them and of containers, default 0
        For each positional argument the axis along which the lanes lie; None for an argument that
        is the same in every lane. For a nested container one axis for all of it, or a container
        of axes. Keyword arguments have their lanes along axis 0.
    out_axes : int, None, or container of them, default 0
        Where the lanes lie in the output. None for an output that is the same in every lane.

    Returns
    -------
    callable
        Takes the arguments of `f` with a lane axis each, and gives its output with one. It can be
        differentiated, and mapped once more. Integers are taken as float64, as in `grad`.

    Raises
    ------
    ValueError
        When called: if arguments have different numbers of lanes, or axes do not fit.
    TypeError
        When called: if `f` turns a value that differs from lane to lane into a Python number,
        branch or index (``if x > 0``, ``float(x)``). Use ``np.where`` there.

    Examples
    --------
    >>> fad.vmap(lambda x, y: x * y)(np.array([1.0, 2.0]), np.array([3.0, 5.0]))
    array([ 3., 10.])
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> fad.vmap(lambda v: A @ v)(np.eye(2))
    array([[1., 3.],
           [2., 4.]])
    >>> fad.vmap(fad.grad(lambda x, k: np.sin(k * x)), in_axes=(0, None))(np.zeros(3), 2.0)
    array([2., 2., 2.])
    """

    @functools.wraps(f)
    def over_lanes(*args, **kwargs):
        arguments, lanes = _arguments(args, kwargs, in_axes)

        def body(recorder, in_blocks):
            return _record_lanes(recorder, f, arguments, len(args), lanes, out_axes, in_blocks)

        outer = outer_recorder((*args, *kwargs.values()))
        if outer is not None:
            return nested(outer, lambda: body(outer, in_blocks=False))
        recorder = acquire()
        try:
            with recording(recorder):
                return plain_values(body(recorder, in_blocks=True))
        finally:
            release(recorder)

    return over_lanes


# --- arguments ---------------------------------------------------------------------------------


class _Argument(NamedTuple):
    """One argument of the function: its leaves, and the lane axis of each (None: it has none)."""

    key: int | str
    leaves: list[Any]
    structure: Any
    axes: list[int | None]


def _arguments(args, kwargs, in_axes):
    """The arguments, and how many lanes they have."""
    if in_axes is None or isinstance(in_axes, int | np.integer):
        in_axes = (in_axes,) * len(args)
    elif not isinstance(in_axes, (tuple, list)):
        raise TypeError(
            f"in_axes: expected an int, None or a tuple of them, got {type(in_axes).__name__}"
        )
    if len(in_axes) != len(args):
        raise ValueError(
            f"in_axes: expected {len(args)} entries, one for each positional argument, "
            f"got {len(in_axes)}"
        )
    given = [*zip(range(len(args)), args, in_axes, strict=True)]
    given += [(name, value, 0) for name, value in kwargs.items()]
    arguments, lanes, first = [], None, None
    for key, value, spec in given:
        leaves, structure = flatten(value)
        axes = _axes(spec, value, f"in_axes: argument {key!r}")
        argument = _Argument(key, leaves, structure, [])
        arguments.append(argument)
        for leaf, axis in zip(leaves, axes, strict=True):
            argument.axes.append(axis if axis is None else _lane_axis(leaf, axis, key))
            if axis is None:
                continue
            count = np.shape(leaf)[argument.axes[-1]]
            if lanes is None:
                lanes, first = count, key
            elif count != lanes:
                raise ValueError(
                    f"vmap: argument {key!r} has {count} lanes (shape {np.shape(leaf)}, axis "
                    f"{axis}), but argument {first!r} has {lanes}"
                )
    if lanes is None:
        raise ValueError("vmap: no argument has lanes: in_axes names no axis of any")
    return arguments, lanes


def _axes(spec, x, name):
    """The axis of each leaf of `x`, of a container that has the form of `x` down to some depth."""
    if spec is None or isinstance(spec, int | np.integer):
        return [spec if spec is None else operator.index(spec)] * len(flatten(x)[0])
    if is_leaf(spec):
        raise TypeError(f"{name}: expected ints and None, got {spec!r}")
    if is_leaf(x) or x is None:
        raise ValueError(f"{name}: expected an int or None for a number or array, got {spec!r}")
    import optree  # it was imported to flatten x

    try:
        inner, outer = optree.tree_flatten_one_level(spec), optree.tree_flatten_one_level(x)
    except ValueError:
        raise TypeError(f"{name}: expected ints and None, got {spec!r}") from None
    same = len(inner[0]) == len(outer[0]) and sorted(map(str, inner[2])) == sorted(
        map(str, outer[2])
    )
    if not same:
        raise ValueError(f"{name}: {spec!r} has not the form of {type(x).__name__} {x!r}")
    return [
        axis
        for part, item in zip(inner[0], outer[0], strict=True)
        for axis in _axes(part, item, name)
    ]


def _lane_axis(leaf, axis, key):
    ndim = np.ndim(leaf)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"vmap: argument {key!r} of shape {np.shape(leaf)} has no axis {axis} for its lanes: "
            "in_axes=None is for what is the same in every lane"
        )
    return axis % ndim


def _over(leaf, axis, key):
    """All lanes of a leaf, lanes first: an Array, or an ndarray that can be recorded."""
    array: Any
    if _core.is_array(leaf):
        array = _core.asarray(leaf)
        if array.dtype.kind == "i":
            array = _core.cast(array, np.float64)
        return np.moveaxis(array, axis, 0) if axis else array
    array = np.moveaxis(np.asarray(leaf), axis, 0)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "b" and array.dtype not in (np.float64, np.float32):
        hint = " (complex is not supported yet)" if array.dtype.kind == "c" else ""
        raise TypeError(
            f"vmap: argument {key!r}: expected real numbers or bools, got dtype {array.dtype}{hint}"
        )
    return array


def _first_lane(over):
    """Value of the first lane; where there is none, ones that make a regular matrix."""
    known = type(over) is not Array or not over.recorder.dry
    if len(over) and known:
        return np.asarray(forward_value(over[0]), over.dtype)
    shape = over.shape[1:]
    example = np.ones(shape, over.dtype)
    if len(shape) > 1 and over.dtype.kind == "f":
        example += max(shape[-2:]) * np.eye(*shape[-2:], dtype=over.dtype)
    return example


# --- the recording, and its lanes --------------------------------------------------------------


def _record_lanes(recorder, f, arguments, count, lanes, out_axes, in_blocks):
    """Output of `f` over all lanes; the first `count` arguments are the positional ones.

    `in_blocks`: no argument is recorded, and only values are wanted.
    """
    recorder.settle()
    every = [
        None if axis is None else _over(leaf, axis, argument.key)
        for argument in arguments
        for leaf, axis in zip(argument.leaves, argument.axes, strict=True)
    ]
    examples = [None if over is None else _first_lane(over) for over in every]
    with under_way(recorder):
        start = len(recorder)
        fresh = [None if example is None else seed(recorder, example) for example in examples]
        seeds = [array.node for array in fresh if array is not None]
        values, at = [], 0
        for argument in arguments:
            own = fresh[at : at + len(argument.leaves)]
            at += len(argument.leaves)
            leaves = [
                leaf if array is None else array
                for leaf, array in zip(argument.leaves, own, strict=True)
            ]
            values.append(unflatten(argument.structure, leaves))
        names = [argument.key for argument in arguments[count:]]
        result = f(*values[:count], **dict(zip(names, values[count:], strict=True)))
        leaves, structure = flatten(result)
        axes = _axes(out_axes, result, "out_axes")
        outputs = [_output(recorder, leaf) for leaf in leaves]
        traced = [output for output in outputs if type(output) is Array]
        batched = [over for over in every if over is not None]
        if in_blocks:
            results = iter(batch_values(recorder, start, lanes, seeds, batched, traced))
        else:
            batched = [x if type(x) is Array else constant(recorder, x) for x in batched]
            results = iter(emit_batch(recorder, start, lanes, seeds, batched, traced))
    spread = [
        _placed(output, next(results) if type(output) is Array else None, lanes, axis)
        for output, axis in zip(outputs, axes, strict=True)
    ]
    return unflatten(structure, spread)


def _output(recorder, output):
    """A leaf of the output as an Array of `recorder`, or as plain numbers."""
    if type(output) is not Array and _core.is_array(output):
        output = _core.asarray(output)
    if type(output) is Array:
        if output.recorder is not recorder:
            raise _core.TapeError("vmap: f returned an Array of another tape")
        return output
    if np.asarray(output).dtype.kind not in "fiub":
        raise TypeError(
            f"vmap: expected f to return real numbers or bools, got {type(output).__name__}"
        )
    return output


def _placed(output, over, lanes, axis):
    """An output with lanes along `axis`; `over` None: it is the same in every lane."""
    if axis is None:
        if over is not None:
            raise ValueError("out_axes: None for an output that differs from lane to lane")
        return output
    ndim = np.ndim(output) + 1
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"out_axes: an output of shape {np.shape(output)} in each lane has no place {axis} "
            "for its lanes"
        )
    if over is None:
        over = np.broadcast_to(output, (lanes, *np.shape(output)))
        over = over.copy() if isinstance(over, np.ndarray) else over
    return over if axis % ndim == 0 else np.moveaxis(over, 0, axis)
