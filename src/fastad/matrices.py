"""Dense matrices of derivatives: Jacobians and Hessians."""

import functools

import numpy as np

from fastad._calls import (
    Argnums,
    Call,
    Function,
    acquire,
    array_output,
    as_argnums,
    nested,
    outer_recorder,
    plain_values,
    release,
    shape_of,
    zeros_like,
)
from fastad._containers import flatten, unflatten
from fastad._core import Array, emit_reverse
from fastad._record import recording
from fastad._reverse import sweep
from fastad.transforms import grad

__all__ = ["hessian", "jacobian"]


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
        It takes one sweep for each element of the output or of the argument, whichever are fewer.

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
    matrix = unflatten(structure, [call.pack(_emit_rows(recorder, call, o)) for o in outputs])
    return (matrix, call.aux) if has_aux else matrix


def _emit_rows(recorder, call, output):
    """Blocks of one output, as Arrays: one reverse emission for each of its elements."""
    if not isinstance(output, Array):
        return [np.zeros(shape_of(output) + v.shape) for v in call.variables]
    rows = [
        emit_reverse(recorder, (output,), (unit,), call.variables) for _, unit in _units(output)
    ]
    if not output.ndim:
        return rows[0]
    if not rows:
        return [np.zeros(output.shape + v.shape) for v in call.variables]
    return [
        np.reshape(np.stack([row[j] for row in rows]), output.shape + v.shape)
        for j, v in enumerate(call.variables)
    ]


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
