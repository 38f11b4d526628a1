"""Functions of functions: gradients, and products with Jacobians from both sides.

Outside of any recording a transform records `f` on a tape of its own and sweeps it numerically.
Inside another recording it appends the derivative as nodes to that tape, so transforms nest to
any order.
"""

import functools
import threading
from typing import Any

import numpy as np

from fastad import _core
from fastad._calls import (
    Argnums,
    Call,
    Function,
    acquire,
    array_output,
    as_argnums,
    compiles,
    gradient_of,
    nested,
    outer_recorder,
    plain_values,
    release,
    scalar_output,
    shape_of,
    zeros_like,
)
from fastad._containers import flatten, is_leaf, map_arrays, unflatten
from fastad._core import Array, emit_reverse, emit_tangent, memory_limit
from fastad._deferred import run_deferred
from fastad._record import current_recorder, recording
from fastad._reverse import push_scalars, sweep

__all__ = [
    "grad",
    "hvp",
    "jvp",
    "linearize",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]

# --- reverse mode ------------------------------------------------------------------------------


@compiles
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
    argnums = as_argnums(argnums)

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
        outer = outer_recorder(args)
        if outer is not None:
            return nested(outer, lambda: _emit_gradient(outer, f, argnums, args, kwargs, has_aux))
        recorder = acquire()
        try:
            with recording(recorder):
                call = Call(recorder, f, argnums, args, kwargs, has_aux, defer=True)
                output = scalar_output(recorder, call.output, "grad")
                aux = plain_values(call.aux) if has_aux else None
            if output is None:
                value, gradients = call.output, [zeros_like(v) for v in call.variables]
            else:
                value, gradients = _value_and_sweep(recorder, output, call.nodes)
            return ((value, aux) if has_aux else value), call.pack(gradients)
        finally:
            release(recorder)

    return gradient_of(value_and_gradient, value_and_grad, f, argnums, has_aux)


_PLAIN = (np.ndarray, float)


def _one_shot(f, x):
    """Value and gradient at a plain float or floating array: asked for most, the shortest way."""
    recorder = acquire()
    try:
        with recording(recorder):
            variable = recorder.variable(x)
            nodes = (variable.node,)
            recorder.defer((variable,))
            output = f(variable)
            result = scalar_output(recorder, output, "grad")
        if result is None:
            return output, zeros_like(recorder.array(nodes[0]))
        value, gradients = _value_and_sweep(recorder, result, nodes)
        return value, gradients[0]
    finally:
        release(recorder)


def _value_and_sweep(recorder, output, nodes):
    """Value of a 0-d output and its derivatives by nodes."""
    if recorder.deferred:
        found = run_deferred(recorder, output.node, nodes)
        if found is not None:
            return found
        recorder.settle()
    return output.value, sweep(recorder, (output,), (1.0,), nodes)


def _emit_gradient(recorder, f, argnums, args, kwargs, has_aux):
    call = Call(recorder, f, argnums, args, kwargs, has_aux)
    output = scalar_output(recorder, call.output, "grad")
    if output is None:
        value, gradients = call.output, [zeros_like(v) for v in call.variables]
    else:
        value, gradients = output, emit_reverse(recorder, (output,), (1.0,), call.variables)
    return ((value, call.aux) if has_aux else value), call.pack(gradients)


@compiles
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

    return gradient_of(gradient, grad, f, argnums, has_aux)


@compiles
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


@compiles
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
        if shape_of(seed) != shape_of(like):
            raise ValueError(f"{name}: expected shape {shape_of(like)}, got {shape_of(seed)}")


class _Linear:
    """A function linearised at a point: on its own tape, or on the recording it is inside of."""

    def __init__(self, f, primals, has_aux):
        self.function = (lambda *args: f(*args)[0]) if has_aux else f
        self.outer = outer_recorder(primals)
        self.recorder = _core.Recorder() if self.outer is None else self.outer
        self.dual = None
        self.lock = threading.RLock()  # one sweep of a tape at a time
        if self.outer is None:
            self.recorder.open(memory_limit())
        with recording(self.recorder):
            argnums = tuple(range(len(primals)))
            self.call = Call(self.recorder, f, argnums, primals, {}, has_aux)
            leaves, self.structure = flatten(self.call.output)
            self.outputs = [array_output(self.recorder, leaf, "vjp") for leaf in leaves]
        if self.outer is None:
            self.recorder.close()
        self.value = self._public(unflatten(self.structure, self.outputs))
        self.aux = self._public(self.call.aux)

    def _public(self, x):
        return x if self.outer is not None else plain_values(x)

    def _seeds(self, given, likes, name):
        """Seeds of the traced among `likes`, as pairs."""
        leaves, _ = flatten(given)
        _check_seeds(leaves, likes, name)
        return [pair for pair in zip(leaves, likes, strict=True) if isinstance(pair[1], Array)]

    def pull(self, cotangent):
        """Cotangents of the primals, given one of the output."""
        outer = outer_recorder((cotangent,)) if self.outer is None else self.outer
        if outer is not None and self.outer is None:
            return self._again(outer).pull(cotangent)
        pairs = self._seeds(cotangent, self.outputs, "cotangent")
        seeds, outputs = [s for s, _ in pairs], [o for _, o in pairs]
        if not outputs:
            return self.call.pack([zeros_like(v) for v in self.call.variables])
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
        outer = outer_recorder(tangents) if self.outer is None else self.outer
        if outer is not None and self.outer is None:
            return self._again(outer).push(*tangents)
        seeds = [s for s, _ in self._seeds(tangents, self.call.variables, "tangents")]
        traced = [o for o in self.outputs if isinstance(o, Array)]
        if outer is not None:
            results = iter(emit_tangent(outer, self.call.variables, seeds, traced))
        else:
            with self.lock:
                results = iter(self._push_numbers(seeds, traced))
        leaves = [next(results) if isinstance(o, Array) else zeros_like(o) for o in self.outputs]
        return unflatten(self.structure, leaves)

    def _push_numbers(self, seeds, traced):
        """J t as the derivative by u of <J' u, t>: J' u is recorded once, with u a variable."""
        if not traced:
            return []
        if self.dual is None:
            self.recorder.open(memory_limit())
            try:
                dummies = [self.recorder.variable(zeros_like(o)) for o in traced]
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


@compiles
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
    outer = outer_recorder((*primals, *tangents))
    if outer is not None:
        return nested(outer, lambda: _push_forward(outer, f, primals, tangents, has_aux))
    recorder = acquire()
    try:
        with recording(recorder):
            return plain_values(_push_forward(recorder, f, primals, tangents, has_aux, plain=True))
    finally:
        release(recorder)


def _push_forward(recorder, f, primals, tangents, has_aux, plain=False):
    call = Call(recorder, f, tuple(range(len(primals))), primals, {}, has_aux)
    leaves, structure = flatten(call.output)
    outputs = [array_output(recorder, leaf, "jvp") for leaf in leaves]
    seeds = [leaf for tangent in tangents for leaf in flatten(tangent)[0]]
    _check_seeds(seeds, call.variables, "tangents")
    traced = [o for o in outputs if isinstance(o, Array)]
    # Outside of any recording, a recording of scalars alone needs no tangent nodes.
    results = push_scalars(recorder, call.nodes, seeds, [o.node for o in traced]) if plain else None
    if results is None:
        results = emit_tangent(recorder, call.variables, seeds, traced)
    results = iter(results)
    pushed = [next(results) if isinstance(o, Array) else zeros_like(o) for o in outputs]
    value, tangent = unflatten(structure, outputs), unflatten(structure, pushed)
    return (value, tangent, call.aux) if has_aux else (value, tangent)


@compiles
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
