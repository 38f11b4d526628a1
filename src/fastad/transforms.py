"""Functions of functions: gradients, Jacobians, Hessians, products with them.

Outside of any recording a transform records `f` on a tape of its own and sweeps it numerically.
Inside another recording it appends the derivative as nodes to that tape, so transforms nest to
any order.
"""

import functools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastad import _core
from fastad._containers import flatten, is_leaf, map_arrays, unflatten
from fastad._core import Array, emit_reverse, emit_tangent, value_of
from fastad._core import memory_limit as _memory_limit
from fastad._record import current_recorder, recording
from fastad._reverse import push_scalars, sweep

__all__ = [
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]

_KEEP = 1 << 28  # bytes of a pooled tape that stay for the next call
_POOL: list[_core.Recorder] = []

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]


def _acquire():
    """A recorder from the pool, open for the calling thread."""
    recorder = _POOL.pop() if _POOL else _core.Recorder()
    recorder.open(_memory_limit())
    return recorder


def _release(recorder):
    """Give a recorder back: every Array on it becomes stale."""
    recorder.reset(_KEEP)
    if len(_POOL) < 2:
        _POOL.append(recorder)


# --- arguments and results ---------------------------------------------------------------------


class _Call:
    """One recorded call of `f`: its differentiated arguments as variables, its output, its aux.

    The arguments `argnums` (an int, or a tuple of them) are flattened to leaves, each leaf a
    variable.
    """

    def __init__(self, recorder, f, argnums, args, kwargs, has_aux=False):
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


def _argnums(argnums):
    if isinstance(argnums, (list, tuple)):
        return tuple(operator.index(i) for i in argnums)
    return operator.index(argnums)


def _outer(args):
    """The open recorder that a transform is inside of, or None: an argument's, or the context's."""
    for arg in args:
        if type(arg) is Array:
            arg.recorder.require_open()
            return arg.recorder
        if isinstance(arg, (list, tuple, dict)) or (
            isinstance(arg, np.ndarray) and arg.dtype == object
        ):
            recorder = _outer(arg.values() if isinstance(arg, dict) else arg)
            if recorder is not None:
                return recorder
    return current_recorder()


def _scalar_output(recorder, output, name):
    """The output as a 0-d Array, or None where it is a plain number: it depends on nothing."""
    output = _array_output(recorder, output, name)
    if not isinstance(output, Array):
        if np.ndim(output):
            raise TypeError(_not_scalar(name, np.shape(output)))
        return None
    if output.ndim:
        raise TypeError(_not_scalar(name, output.shape))
    return output


def _not_scalar(name, shape):
    return f"{name}: f must return a scalar, got shape {shape}: use jacobian or vjp"


def _array_output(recorder, output, name):
    """An output as an Array of `recorder`, or as plain numbers where nothing of it was recorded."""
    if type(output) is not Array and _core.is_array(output):
        output = _core.asarray(output)
    if type(output) is Array:
        if output.recorder is not recorder:
            raise _core.TapeError(f"{name}: f returned an Array of another tape")
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


def _plain(x):
    """Results without Arrays: what may outlive the tape."""
    return map_arrays(value_of, x)


def _zeros_like(value):
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


def _nested(recorder, body):
    """Run `body()` on an outer recorder; what does not depend on it comes back plain."""
    mark = len(recorder)
    with recording(recorder):
        results = body()
    return _settle(recorder, mark, True, results)


def _compiles(transform):
    """Let `fastad.compile` take over where the transformed function is a compiled one."""

    @functools.wraps(transform)
    def transform_or_compile(f, *args, **kwargs):
        hook = getattr(f, "__fastad_transform__", None)
        if hook is None:
            return transform(f, *args, **kwargs)
        return hook(transform, args, kwargs)

    return transform_or_compile


# --- reverse mode ------------------------------------------------------------------------------


@_compiles
def value_and_grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Function that gives the value of `f` and its gradient.

    Parameters
    ----------
    f : callable
        Function of numbers, arrays or nested containers of them that returns a scalar.
    argnums : int or tuple of int, default 0
        Positional arguments to differentiate by. A tuple gives a tuple of gradients.
    has_aux : bool, default False
        ``f`` returns ``(scalar, aux)``; the result's value is then ``(scalar, aux)`` too.

    Returns
    -------
    callable
        Takes the arguments of `f`, gives ``(value, gradient)``. A gradient has the structure,
        shape and floating type of its argument (integers are taken as float64). An argument that
        the output does not depend on has gradient zero.

    Raises
    ------
    TypeError
        When called: if the output is not a scalar, or an argument not real.
    NotImplementedError
        When called: if `f` uses a NumPy function that has no derivative rule.

    Examples
    --------
    >>> f = lambda x: np.sum(x**2)
    >>> fad.value_and_grad(f)(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    >>> fad.value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    >>> fad.value_and_grad(lambda x: (x**2, "steps: 1"), has_aux=True)(3.0)
    ((9.0, 'steps: 1'), 6.0)
    """
    argnums = _argnums(argnums)

    @functools.wraps(f)
    def value_and_gradient(*args, **kwargs):
        if (
            len(args) == 1
            and argnums == 0
            and type(args[0]) in _PLAIN
            and not kwargs
            and not has_aux
            and current_recorder() is None
            and (type(args[0]) is float or args[0].dtype.char in "df")
        ):
            return _one_shot(f, args[0])
        outer = _outer(args)
        if outer is not None:
            return _nested(outer, lambda: _emit_gradient(outer, f, argnums, args, kwargs, has_aux))
        recorder = _acquire()
        try:
            with recording(recorder):
                call = _Call(recorder, f, argnums, args, kwargs, has_aux)
                output = _scalar_output(recorder, call.output, "grad")
            if output is None:
                value, gradients = call.output, [_zeros_like(v) for v in call.variables]
            else:
                value, gradients = output.value, sweep(recorder, (output,), (1.0,), call.nodes)
            if has_aux:
                value = (value, _plain(call.aux))
            return value, call.pack(gradients)
        finally:
            _release(recorder)

    return value_and_gradient


_PLAIN = (np.ndarray, float)


def _one_shot(f, x):
    """Value and gradient at a plain float or floating array: asked for most, the shortest way."""
    recorder = _acquire()
    try:
        with recording(recorder):
            variable = recorder.variable(x)
            nodes = (variable.node,)
            output = f(variable)
            result = _scalar_output(recorder, output, "grad")
        if result is None:
            return output, _zeros_like(recorder.array(nodes[0]))
        return result.value, sweep(recorder, (result,), (1.0,), nodes)[0]
    finally:
        _release(recorder)


def _emit_gradient(recorder, f, argnums, args, kwargs, has_aux):
    call = _Call(recorder, f, argnums, args, kwargs, has_aux)
    output = _scalar_output(recorder, call.output, "grad")
    if output is None:
        value, gradients = call.output, [_zeros_like(v) for v in call.variables]
    else:
        value, gradients = output, emit_reverse(recorder, (output,), (1.0,), call.variables)
    return ((value, call.aux) if has_aux else value), call.pack(gradients)


@_compiles
def grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Function that gives the gradient of `f`.

    Parameters
    ----------
    f, argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    callable
        Takes the arguments of `f`, gives the gradient, or ``(gradient, aux)`` with `has_aux`.

    Notes
    -----
    Where `f` is not differentiable the subgradient is the one that the primitive's row states
    (``fad.OPS``): ties of max and min share the gradient, ``abs`` has 0 at 0. A cotangent of
    exactly zero stays zero when it meets an infinite or NaN partial, so that the branch that
    ``np.where`` did not take contributes nothing.

    Examples
    --------
    >>> fad.grad(np.sin)(0.0)
    1.0
    >>> fad.grad(fad.grad(lambda x: x**3))(2.0)
    12.0
    >>> fad.grad(lambda x: np.where(x > 0, np.sqrt(x), 0.0))(-1.0)
    0.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args, **kwargs):
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Value of `f` and the function that multiplies cotangents with its Jacobian from the left.

    Parameters
    ----------
    f : callable
        Returns a number, an array, or a nested container of them.
    *primals
        Arguments of `f`, all differentiated.
    has_aux : bool, default False
        ``f`` returns ``(output, aux)``.

    Returns
    -------
    output
        Value of `f`.
    vjp_function : callable
        Takes a cotangent with the structure of the output, gives a tuple with one cotangent for
        each primal. May be called any number of times.
    aux
        Only with `has_aux`.

    Raises
    ------
    ValueError
        When `vjp_function` is called: if the cotangent's structure or shapes are not the output's.

    Examples
    --------
    >>> y, pull = fad.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y
    array([1., 4.])
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    linear = _Linear(f, primals, has_aux)
    return (linear.value, linear.pull, linear.aux) if has_aux else (linear.value, linear.pull)


def linearize(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Value of `f` and the function that multiplies tangents with its Jacobian from the right.

    Recording is done once; the function then costs one sweep a call.

    Parameters
    ----------
    f, *primals, has_aux
        As for `vjp`.

    Returns
    -------
    output
        Value of `f`.
    jvp_function : callable
        Takes one tangent for each primal, gives the tangent of the output.
    aux
        Only with `has_aux`.

    Examples
    --------
    >>> y, push = fad.linearize(lambda x: x**2, np.array([1.0, 2.0]))
    >>> push(np.array([1.0, 10.0]))
    array([ 2., 40.])
    """
    linear = _Linear(f, primals, has_aux)
    return (linear.value, linear.push, linear.aux) if has_aux else (linear.value, linear.push)


def _check_seeds(seeds, likes, name):
    """Refuse seeds that are not one for each of `likes`, of its shape."""
    if len(seeds) != len(likes):
        raise ValueError(f"{name}: expected {len(likes)} leaves, got {len(seeds)}")
    for seed, like in zip(seeds, likes, strict=True):
        if _shape(seed) != _shape(like):
            raise ValueError(f"{name}: expected shape {_shape(like)}, got {_shape(seed)}")


class _Linear:
    """A function linearised at a point: on its own tape, or on the recording it is inside of."""

    def __init__(self, f, primals, has_aux):
        self.function = (lambda *args: f(*args)[0]) if has_aux else f
        self.outer = _outer(primals)
        self.recorder = _core.Recorder() if self.outer is None else self.outer
        self.dual = None
        self.lock = threading.RLock()  # one sweep of a tape at a time
        if self.outer is None:
            self.recorder.open(_memory_limit())
        with recording(self.recorder):
            argnums = tuple(range(len(primals)))
            self.call = _Call(self.recorder, f, argnums, primals, {}, has_aux)
            leaves, self.structure = flatten(self.call.output)
            self.outputs = [_array_output(self.recorder, leaf, "vjp") for leaf in leaves]
        if self.outer is None:
            self.recorder.close()
        self.value = self._public(unflatten(self.structure, self.outputs))
        self.aux = self._public(self.call.aux)

    def _public(self, x):
        return x if self.outer is not None else _plain(x)

    def _seeds(self, given, likes, name):
        """Seeds of the traced among `likes`, as pairs."""
        leaves, _ = flatten(given)
        _check_seeds(leaves, likes, name)
        return [pair for pair in zip(leaves, likes, strict=True) if isinstance(pair[1], Array)]

    def pull(self, cotangent):
        """Cotangents of the primals, given one of the output."""
        outer = _outer((cotangent,)) if self.outer is None else self.outer
        if outer is not None and self.outer is None:
            return self._again(outer).pull(cotangent)
        pairs = self._seeds(cotangent, self.outputs, "cotangent")
        seeds, outputs = [s for s, _ in pairs], [o for _, o in pairs]
        if not outputs:
            return self.call.pack([_zeros_like(v) for v in self.call.variables])
        if outer is not None:
            return self.call.pack(emit_reverse(outer, outputs, seeds, self.call.variables))
        with self.lock:
            return self.call.pack(sweep(self.recorder, outputs, seeds, self.call.nodes))

    def _again(self, recorder):
        """The same on an open recorder, for seeds that are recorded there."""
        with recording(recorder):
            return _Linear(
                self.function, self.call.pack(v.value for v in self.call.variables), False
            )

    def push(self, *tangents):
        """Tangent of the output, given one of each primal."""
        outer = _outer(tangents) if self.outer is None else self.outer
        if outer is not None and self.outer is None:
            return self._again(outer).push(*tangents)
        seeds = [s for s, _ in self._seeds(tangents, self.call.variables, "tangents")]
        traced = [o for o in self.outputs if isinstance(o, Array)]
        if outer is not None:
            results = iter(emit_tangent(outer, self.call.variables, seeds, traced))
        else:
            with self.lock:
                results = iter(self._push_numbers(seeds, traced))
        leaves = [next(results) if isinstance(o, Array) else _zeros_like(o) for o in self.outputs]
        return unflatten(self.structure, leaves)

    def _push_numbers(self, seeds, traced):
        """J t as the derivative by u of <J' u, t>: J' u is recorded once, with u a variable."""
        if not traced:
            return []
        if self.dual is None:
            self.recorder.open(_memory_limit())
            try:
                dummies = [self.recorder.variable(_zeros_like(o)) for o in traced]
                pulled = emit_reverse(self.recorder, traced, dummies, self.call.variables)
            finally:
                self.recorder.close()
            self.dual = [d.node for d in dummies], pulled
        nodes, pulled = self.dual
        pairs = [(p, s) for p, s in zip(pulled, seeds, strict=True) if isinstance(p, Array)]
        return sweep(self.recorder, [p for p, _ in pairs], [s for _, s in pairs], nodes)


# --- forward mode ------------------------------------------------------------------------------


def _sequence(x):
    return x if isinstance(x, tuple) else (x,)


@_compiles
def jvp(f: Function, primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Value of `f` and its derivative along `tangents`.

    Parameters
    ----------
    f : callable
    primals, tangents : tuple, or one array
        Arguments of `f`, and a direction of the same structure and shapes.
    has_aux : bool, default False
        ``f`` returns ``(output, aux)``.

    Returns
    -------
    output, tangent
        Value of `f` and its directional derivative; also aux with `has_aux`.

    Raises
    ------
    ValueError
        If structure or shapes of primals and tangents differ.

    Examples
    --------
    >>> fad.jvp(np.sin, 0.0, 2.0)
    (0.0, 2.0)
    >>> fad.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    """
    primals, tangents = _sequence(primals), _sequence(tangents)
    if len(primals) != len(tangents):
        raise ValueError(
            f"tangents: expected {len(primals)}, one for each primal, got {len(tangents)}"
        )
    outer = _outer((*primals, *tangents))
    if outer is not None:
        return _nested(outer, lambda: _push_forward(outer, f, primals, tangents, has_aux))
    recorder = _acquire()
    try:
        with recording(recorder):
            return _plain(_push_forward(recorder, f, primals, tangents, has_aux, plain=True))
    finally:
        _release(recorder)


def _push_forward(recorder, f, primals, tangents, has_aux, plain=False):
    call = _Call(recorder, f, tuple(range(len(primals))), primals, {}, has_aux)
    leaves, structure = flatten(call.output)
    outputs = [_array_output(recorder, leaf, "jvp") for leaf in leaves]
    seeds = [leaf for tangent in tangents for leaf in flatten(tangent)[0]]
    _check_seeds(seeds, call.variables, "tangents")
    traced = [o for o in outputs if isinstance(o, Array)]
    # Outside of any recording, a recording of scalars alone needs no tangent nodes.
    results = push_scalars(recorder, call.nodes, seeds, [o.node for o in traced]) if plain else None
    if results is None:
        results = emit_tangent(recorder, call.variables, seeds, traced)
    results = iter(results)
    pushed = [next(results) if isinstance(o, Array) else _zeros_like(o) for o in outputs]
    value, tangent = unflatten(structure, outputs), unflatten(structure, pushed)
    return (value, tangent, call.aux) if has_aux else (value, tangent)


# --- matrices ----------------------------------------------------------------------------------


@_compiles
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
    argnums = _argnums(argnums)

    @functools.wraps(f)
    def jacobian_function(*args, **kwargs):
        outer = _outer(args)
        if outer is not None:
            return _nested(outer, lambda: _emit_jacobian(outer, f, argnums, args, kwargs, has_aux))
        recorder = _acquire()
        try:
            with recording(recorder):
                call, outputs, structure = _record_outputs(
                    recorder, f, argnums, args, kwargs, has_aux
                )
                blocks = _sweep_jacobian(recorder, call, outputs)
            matrix = unflatten(structure, [call.pack(row) for row in blocks])
            return (matrix, _plain(call.aux)) if has_aux else matrix
        finally:
            _release(recorder)

    return jacobian_function


def _record_outputs(recorder, f, argnums, args, kwargs, has_aux):
    call = _Call(recorder, f, argnums, args, kwargs, has_aux)
    leaves, structure = flatten(call.output)
    return call, [_array_output(recorder, leaf, "jacobian") for leaf in leaves], structure


def _shape(x):
    return x.shape if isinstance(x, Array) else np.shape(x)


def _units(x):
    """All unit cotangents of an output or variable."""
    shape = _shape(x)
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
    blocks = [[np.zeros(_shape(o) + v.shape, v.dtype) for v in variables] for o in outputs]
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
    dummies = [recorder.variable(_zeros_like(o)) for o in outputs]
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
        return [np.zeros(_shape(output) + v.shape) for v in call.variables]
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


@_compiles
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


@_compiles
def hvp(f: Function, primals: Any, tangents: Any) -> Any:
    """Product of the Hessian of `f` with a direction, without the Hessian.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    primals, tangents : tuple, or one array
        Arguments of `f`, and a direction of the same structure and shapes.

    Returns
    -------
    array or tuple
        With the structure of `primals`.

    Examples
    --------
    >>> fad.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    single = not isinstance(primals, tuple)
    primals, tangents = _sequence(primals), _sequence(tangents)
    argnums = tuple(range(len(primals)))
    product = jvp(grad(f, argnums), primals, tangents)[1]
    return product[0] if single else product


def stop_gradient(x: Any) -> Any:
    """The value of `x` as a constant: no derivative passes.

    Parameters
    ----------
    x : Array, number, ndarray, or nested container

    Returns
    -------
    As `x`. A recorded value stays recorded, but may now be converted with ``float`` and, if it has
    dimensions, ``np.asarray``.

    Examples
    --------
    >>> fad.grad(lambda x: x * fad.stop_gradient(x))(3.0)
    3.0
    """
    if _core.is_array(x) and is_leaf(x):
        return _core.stop(x)
    return map_arrays(_core.stop, x)
