"""Dense matrices of derivatives: Jacobians and Hessians."""

import functools
import itertools

import numpy as np

from fastad._batch import batch_values, constant, emit_batch, extent, seed, under_way
from fastad._calls import (
    Argnums,
    Call,
    Function,
    acquire,
    array_output,
    as_argnums,
    compiles,
    nested,
    outer_recorder,
    plain_values,
    release,
    shape_of,
    zeros_like,
)
from fastad._containers import flatten, unflatten
from fastad._core import Array, cast, emit_reverse, emit_tangent, memory_limit
from fastad._record import recording
from fastad._reverse import sweep
from fastad.errors import LaneError
from fastad.transforms import grad

__all__ = ["hessian", "jacobian"]


@compiles
def jacobian(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Function that gives the dense Jacobian of `f`.

    Parameters
    ----------
    f : callable
        Returns a number, an array, or a nested container of them.
    argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    callable
        Gives, for each output and argument, an array of shape ``output.shape + argument.shape``.
        It takes one sweep for each element of the output or of the argument, whichever are fewer,
        or, where that is faster, one recorded sweep over all of them.

    Examples
    --------
    >>> fad.jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    argnums = as_argnums(argnums)

    @functools.wraps(f)
    def jacobian_function(*args, **kwargs):
        outer = outer_recorder(args)
        if outer is not None:
            return nested(outer, lambda: _emit_jacobian(outer, f, argnums, args, kwargs, has_aux))
        recorder = acquire()
        try:
            with recording(recorder):
                call, outputs, structure = _record_outputs(
                    recorder, f, argnums, args, kwargs, has_aux
                )
                if _lanes_pay(recorder, call.variables, outputs):
                    blocks = plain_values(_emit_blocks(recorder, call.variables, outputs, True))
                else:
                    blocks = _sweep_jacobian(recorder, call, outputs)
            matrix = unflatten(structure, [call.pack(row) for row in blocks])
            return (matrix, plain_values(call.aux)) if has_aux else matrix
        finally:
            release(recorder)

    return jacobian_function


def _record_outputs(recorder, f, argnums, args, kwargs, has_aux):
    call = Call(recorder, f, argnums, args, kwargs, has_aux)
    leaves, structure = flatten(call.output)
    return call, [array_output(recorder, leaf, "jacobian") for leaf in leaves], structure


def _lanes_pay(recorder, variables, outputs):
    """Whether the rows (or columns) are faster to find all at once than one by one.

    They are for arrays: a row then costs its elements, not the calls. For a recording of scalars
    the numeric sweep is as fast, and needs less memory. Measured at 3, 30, 300 and 1000 variables.
    """
    traced = [o for o in outputs if isinstance(o, Array)]
    rows, columns = sum(o.size for o in traced), sum(v.size for v in variables)
    lanes = min(rows, columns)
    if lanes < 8 or memory_limit() or (rows <= columns and len(traced) > 1):
        return False
    nodes, numbers, rules = extent(recorder)
    return not rules and numbers > 4 * nodes


def _units(x):
    """All unit cotangents of an output or variable."""
    shape = shape_of(x)
    if not shape:
        yield (), 1.0
        return
    for index in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[index] = 1.0
        yield index, unit


def _sweep_jacobian(recorder, call, outputs):
    """For each output a list with one block for each variable."""
    variables = call.variables
    blocks = [[np.zeros(shape_of(o) + v.shape, v.dtype) for v in variables] for o in outputs]
    traced = [(k, o) for k, o in enumerate(outputs) if isinstance(o, Array)]
    if sum(v.size for v in variables) < sum(o.size for _, o in traced):
        _fill_columns(recorder, variables, traced, blocks)
    else:
        _fill_rows(recorder, call.nodes, traced, blocks)
    return [[block[()] if block.ndim == 0 else block for block in row] for row in blocks]


def _fill_rows(recorder, nodes, traced, blocks):
    for k, output in traced:
        for index, unit in _units(output):
            for block, row in zip(
                blocks[k], sweep(recorder, (output,), (unit,), nodes), strict=True
            ):
                block[index] = row


def _fill_columns(recorder, variables, traced, blocks):
    """Columns J e as derivatives by u of <J' u, e>, with J' u recorded once."""
    outputs = [o for _, o in traced]
    dummies = [recorder.variable(zeros_like(o)) for o in outputs]
    pulled = emit_reverse(recorder, outputs, dummies, variables)
    nodes = [d.node for d in dummies]
    for j, (variable, p) in enumerate(zip(variables, pulled, strict=True)):
        if not isinstance(p, Array):
            continue
        for index, unit in _units(variable):
            columns = sweep(recorder, (p,), (unit,), nodes)
            for (k, _), column in zip(traced, columns, strict=True):
                blocks[k][j][(..., *index)] = column


def _emit_jacobian(recorder, f, argnums, args, kwargs, has_aux):
    call, outputs, structure = _record_outputs(recorder, f, argnums, args, kwargs, has_aux)
    blocks = _emit_blocks(recorder, call.variables, outputs)
    matrix = unflatten(structure, [call.pack(row) for row in blocks])
    return (matrix, call.aux) if has_aux else matrix


def _emit_blocks(recorder, variables, outputs, plain=False):
    """For each output a list with one block for each variable: Arrays, or ndarrays if `plain`."""
    traced = [o for o in outputs if isinstance(o, Array)]
    try:
        if sum(v.size for v in variables) < sum(o.size for o in traced):
            rows = iter(_by_tangents(recorder, variables, traced, plain))
        else:
            rows = iter([_by_cotangents(recorder, variables, o, plain) for o in traced])
    except (LaneError, NotImplementedError):  # a custom rule that cannot take lanes
        rows = iter([_one_by_one(recorder, variables, o) for o in traced])
    return [
        next(rows)
        if isinstance(o, Array)
        else [np.zeros(shape_of(o) + v.shape, v.dtype)[()] for v in variables]
        for o in outputs
    ]


def _by_cotangents(recorder, variables, output, plain):
    """Blocks of one output: the emission of one row, repeated over all unit cotangents."""
    if not output.ndim:
        return emit_reverse(recorder, (output,), (1.0,), variables)
    with under_way(recorder):
        start = len(recorder)
        cotangent = seed(recorder, np.zeros(output.shape, output.dtype))
        pulled = emit_reverse(recorder, (output,), (cotangent,), variables)
        rows = _over(recorder, start, (cotangent,), pulled, plain)
    return [np.reshape(row, output.shape + v.shape) for row, v in zip(rows, variables, strict=True)]


def _by_tangents(recorder, variables, outputs, plain):
    """Blocks of all outputs: the emission of one column, repeated over all unit tangents."""
    with under_way(recorder):
        start = len(recorder)
        tangents = [seed(recorder, np.zeros(v.shape, v.dtype)) for v in variables]
        pushed = emit_tangent(recorder, variables, tangents, outputs)
        columns = _over(recorder, start, tangents, pushed, plain)
    ends = list(itertools.accumulate(v.size for v in variables))
    return [
        [
            _block(c[end - v.size : end], o.shape + v.shape, v.dtype)
            for v, end in zip(variables, ends, strict=True)
        ]
        for c, o in zip(columns, outputs, strict=True)
    ]


def _block(columns, shape, dtype):
    block = np.reshape(np.moveaxis(columns, 0, -1), shape)
    return cast(block, dtype) if isinstance(block, Array) else block.astype(dtype)


def _unit_lanes(arrays, count):
    """For each array its part of every unit vector of all arrays together, a lane for each."""
    start, lanes = 0, []
    for a in arrays:
        units = np.eye(count, a.size, -start, dtype=a.dtype)
        lanes.append(units.reshape(count, *a.shape))
        start += a.size
    return lanes


def _over(recorder, start, seeds, results, plain):
    """The results for all unit seeds; one that depends on no seed is repeated."""
    count, nodes = sum(a.size for a in seeds), [array.node for array in seeds]
    units = _unit_lanes(seeds, count)
    traced = [r for r in results if isinstance(r, Array)]
    if plain:
        over = iter(batch_values(recorder, start, count, nodes, units, traced))
    else:
        units = [constant(recorder, unit) for unit in units]
        over = iter(emit_batch(recorder, start, count, nodes, units, traced))
    lanes = [next(over) if isinstance(r, Array) else None for r in results]
    return [
        np.broadcast_to(r, (count, *shape_of(r))) if lane is None else lane
        for r, lane in zip(results, lanes, strict=True)
    ]


def _one_by_one(recorder, variables, output):
    """Blocks of one output: one reverse emission for each of its elements."""
    rows = [emit_reverse(recorder, (output,), (unit,), variables) for _, unit in _units(output)]
    if not output.ndim:
        return rows[0]
    if not rows:
        return [np.zeros(output.shape + v.shape) for v in variables]
    return [
        np.reshape(np.stack([row[j] for row in rows]), output.shape + v.shape)
        for j, v in enumerate(variables)
    ]


@compiles
def hessian(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Function that gives the dense matrix of second derivatives of `f`.

    Parameters
    ----------
    f, argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    callable
        Gives an array of shape ``argument.shape + argument.shape`` (nested structures for several
        arguments).

    Examples
    --------
    >>> fad.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums, has_aux), argnums, has_aux)
