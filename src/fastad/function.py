"""Functions with a backward pass of their own."""

from typing import Any, NamedTuple

import numpy as np

from fastad import _core
from fastad._core import Array, forward_value, value_of

__all__ = ["Function"]


class Context:
    """What forward leaves for backward."""

    def __init__(self):
        self._saved: tuple[Any, ...] = ()
        self._known: tuple[tuple[Any, Any], ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        """Stash values for backward: inputs, outputs, or anything else that is constant."""
        self._saved = values

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The stashed values, in order.

        Inputs and outputs come back as they are recorded, so that backward is differentiable.
        """
        return tuple(self._lookup(value) for value in self._saved)

    def _at(self, known):
        """The context of one backward call: inputs and outputs among its values as recorded."""
        now = Context()
        now._saved, now._known = self._saved, known
        for name, value in vars(self).items():
            if name not in ("_saved", "_known"):
                found = [current for plain, current in known if plain is value]
                setattr(now, name, found[0] if found else value)
        return now

    def _lookup(self, value):
        for plain, current in self._known:
            if plain is value:
                return current
        if any(isinstance(current, Array) for _, current in self._known) and _is_real(value):
            raise NotImplementedError(
                "save_for_backward: a derivative of this backward is being recorded, but it uses "
                "an intermediate value of forward, whose dependence on the inputs is unknown: save "
                "inputs or outputs and compute it from them in backward"
            )
        return value


def _is_real(value):
    return isinstance(value, (float, np.ndarray, np.floating))


class _Info(NamedTuple):
    """What a Function's vmap is told."""

    batch_size: int


class _Rule:
    """A Function's call as the rule of its node."""

    def __init__(self, function, ctx, arguments, plain_outputs, positions):
        self.__name__ = function.__name__
        self.function, self.ctx = function, ctx
        self.plain_inputs, self.plain_outputs = [arguments[i] for i in positions], plain_outputs
        self.constants = [argument for i, argument in enumerate(arguments) if i not in positions]
        self.positions, self.count = positions, len(arguments)

    def forward(self, *inputs):
        """The outputs at other inputs, when a program is replayed."""
        constants, given = iter(self.constants), dict(zip(self.positions, inputs, strict=True))
        arguments = [given[i] if i in given else next(constants) for i in range(self.count)]
        return self.function.forward(Context(), *arguments)

    def leaves_values(self):
        """Whether forward left something for backward that is no input, output or constant."""
        known = [*self.plain_inputs, *self.plain_outputs, *self.constants]
        left = [v for k, v in vars(self.ctx).items() if k not in ("_saved", "_known")]
        return not all(any(v is x for x in known) for v in [*self.ctx._saved, *left])

    def vjp(self, inputs, outputs, cotangents):
        known = list(zip(self.plain_inputs, inputs, strict=True))
        known += zip(self.plain_outputs, outputs, strict=True)
        known += zip(self.constants, self.constants, strict=True)
        ctx = self.ctx._at(tuple(known))
        results = self.function.backward(ctx, *cotangents)
        if not isinstance(results, (tuple, list)):
            results = (results,)
        if len(results) != self.count:
            raise ValueError(
                f"{self.__name__}.backward: expected {self.count} gradients, "
                f"one for each argument of forward, got {len(results)}"
            )
        return [results[i] for i in self.positions]

    def batch(self, lanes, inputs, over):
        rule = getattr(self.function, "vmap", None)
        if rule is None:
            raise NotImplementedError(
                f"{self.__name__} has no rule for the lanes of fad.vmap: give it a static method "
                "vmap(info, in_dims, *args), or call it in a loop over the lanes"
            )
        constants = iter(self.constants)
        args, in_dims = [], []
        traced = dict(zip(self.positions, zip(inputs, over, strict=True), strict=True))
        for i in range(self.count):
            own, array = traced[i] if i in traced else (next(constants), None)
            args.append(own if array is None else array)
            in_dims.append(None if array is None else 0)
        outputs, out_dims = rule(_Info(lanes), tuple(in_dims), *args)
        if not isinstance(outputs, tuple):
            outputs, out_dims = (outputs,), (out_dims,)
        if not isinstance(out_dims, tuple):
            out_dims = (out_dims,) * len(outputs)
        return [
            np.broadcast_to(output, (lanes, *np.shape(output)))
            if axis is None
            else np.moveaxis(output, axis, 0)
            for output, axis in zip(outputs, out_dims, strict=True)
        ]


class Function:
    """A function whose derivative you write yourself.

    Subclass it with two static methods. ``forward(ctx, *args)`` computes the output, or a tuple of
    outputs, from plain values. ``backward(ctx, *cotangents)`` gets one cotangent for each output
    and gives one gradient for each argument of forward (None where there is none, say for a flag).
    Call it by ``.apply(*args)``. Written with operations that can be recorded, backward is
    differentiable again.

    In a compiled function forward is called again on every replay, with a context that is thrown
    away. Where it leaves anything but inputs, outputs and constants for backward, the function is
    recorded anew for other inputs.

    For `vmap` give it a third static method, ``vmap(info, in_dims, *args)``, as in PyTorch: `args`
    over ``info.batch_size`` lanes, their lanes along axis ``in_dims[i]`` (None: the same in every
    lane); it returns the output (or a tuple) over all lanes and the place of their axis. Written
    with operations that can be recorded, or with ``apply``, it can be differentiated.

    Examples
    --------
    >>> class Multiply(fad.Function):
    ...     @staticmethod
    ...     def forward(ctx, x, y):
    ...         ctx.save_for_backward(x, y)
    ...         return x * y
    ...
    ...     @staticmethod
    ...     def backward(ctx, grad_z):
    ...         x, y = ctx.saved_tensors
    ...         return y * grad_z, x * grad_z
    >>> fad.grad(Multiply.apply, argnums=(0, 1))(2.0, 3.0)
    (3.0, 2.0)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the output, or a tuple of outputs, from plain values."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """Give one gradient for each argument of forward."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *cotangents)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function; record it where an argument is recorded."""
        ctx = Context()
        positions = [i for i, arg in enumerate(args) if _core.is_array(arg)]
        plain = [
            _distinct(forward_value(arg)) if i in positions else arg for i, arg in enumerate(args)
        ]
        result = cls.forward(ctx, *plain)
        if not positions:
            return result
        several = isinstance(result, tuple)
        outputs = result if several else (result,)
        # An output that is an input is a value of its own: backward must tell them apart.
        outputs = tuple(_output(value, plain) for value in outputs)
        rule = _Rule(cls, ctx, plain, outputs, positions)
        if rule.leaves_values():
            for i in positions:
                value_of(args[i])  # read: what forward left behind holds for these values alone
        arrays = _core.custom(rule, [args[i] for i in positions], outputs)
        return arrays if several else arrays[0]


def _distinct(value):
    """A float that is no other float: what was saved is found again by identity."""
    return np.float64(value) if isinstance(value, float) else value


def _output(value, inputs):
    if any(value is x for x in inputs):
        return np.copy(value)[()]
    return value
