"""Loops: a step is recorded once, as a program, and run over and over in C.

The rule of a loop is differentiated by loops again: backwards over the step's vjp, forwards over
its jvp. So a loop nests in every transform, to any order.
"""

import operator
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from fastad import _core
from fastad._bodies import LaneByLane, Recorded, TooManyPaths, apply, dtype_of, is_float, plain
from fastad._calls import outer_recorder
from fastad._containers import flatten, unflatten
from fastad._core import Array
from fastad._loops import NewConstants, ReverseRun, Run, Sizes, loop, state_places
from fastad._program import revolve
from fastad._record import recording
from fastad._steps import Pull, Push, chosen, floating, storing
from fastad.transforms import jvp, vjp

__all__ = ["scan"]


# --- the rules -----------------------------------------------------------------------------------


class _Scan(LaneByLane):
    """The rule of a loop.

    Its inputs are those of the first step: carried, then stacked arrays, then constants. Its
    outputs are the final carry and the stacked results. With `stored`, the last of these are the
    states before each step.
    """

    takes_none = True

    def __init__(self, body, sizes, length, backwards=False, stored=False, checkpoints=None):
        self.__name__ = "scan"
        self.body, self.sizes, self.length, self.backwards = body, sizes, length, backwards
        self.stored, self.checkpoints = stored, checkpoints
        self.active: list[bool] = []  # inputs that have a derivative

    def forward(self, *values):
        """Final carry and stacked results at plain values."""
        return tuple(loop(self.body, self.sizes, self.length, self.backwards, list(values)))

    # --- reverse ---

    def vjp(self, inputs, outputs, cotangents):
        """Cotangents of the inputs, as numbers or recorded."""
        present = [c is not None for c in cotangents]
        pull = Pull(self.sizes, len(inputs), floating(inputs, self.body), self.active, present)
        if self.checkpoints and self.length > self.checkpoints:
            found = apply(_Reversed(self, pull), [*inputs, *self.seeds(pull, outputs, cotangents)])
        else:
            states = outputs[-self.sizes.carried :] if self.stored and self.sizes.carried else None
            found = self.reverse(pull, inputs, states, self.seeds(pull, outputs, cotangents))
        results = [None] * len(inputs)
        for i, x in zip((*pull.carry, *pull.constants, *pull.rows), found, strict=True):
            results[i] = x
        return results

    def seeds(self, pull, outputs, cotangents):
        """Cotangents of the final carry, zeros where it has none, and of results that have one."""
        carry = [_zeros(outputs[i]) if cotangents[i] is None else cotangents[i] for i in pull.carry]
        return [*carry, *chosen(cotangents, pull.results)]

    def reverse(self, pull, inputs, states, seeds):
        """Cotangents by a loop in the other direction, over states that are stored."""
        if states is None:
            states = self.states(inputs)
        n = len(pull.carry)
        sums = [_zeros(inputs[i]) for i in pull.constants]
        edge = sum(self.sizes)
        body = pull.body(self.body)
        rule = _Scan(body, pull.sizes, self.length, not self.backwards)
        rows = [*states, *inputs[self.sizes.carried : edge], *seeds[n:]]
        return apply(rule, [*seeds[:n], *sums, *rows, *inputs[edge:]])

    def states(self, inputs):
        """The states before each step."""
        if not self.sizes.carried:
            return []
        rule = _Scan(storing(self.body, self.sizes), self.sizes, self.length, self.backwards)
        return list(apply(rule, inputs)[-self.sizes.carried :])

    # --- forward ---

    def jvp(self, inputs, outputs, tangents):
        """Tangents of the outputs."""
        carried = self.sizes.carried
        push = Push(
            self.sizes, len(inputs), floating(inputs, self.body), [t is not None for t in tangents]
        )
        given = [_zeros(x) if t is None else t for x, t in zip(inputs, tangents, strict=True)]
        rule = _Scan(
            push.body(self.body),
            push.sizes,
            self.length,
            self.backwards,
            checkpoints=self.checkpoints,
        )
        found = apply(rule, push.ordered(inputs, given))[carried:]
        results = [None] * len(outputs)
        for i, x in zip((*push.carry, *push.results), found, strict=True):
            results[i] = x
        return results


def _zeros(like):
    return np.zeros(np.shape(like), dtype_of(like))


class _Reversed(LaneByLane):
    """The rule of a checkpointed loop's vjp.

    Its own derivatives are those of the loop that stores all states.
    """

    takes_none = True

    def __init__(self, scan_rule, pull):
        self.__name__ = "vjp of scan"
        self.scan, self.pull = scan_rule, pull
        self.active: list[bool] = []

    def forward(self, *values):
        """Cotangents at plain values, with few states kept."""
        scan_rule, pull = self.scan, self.pull
        inputs, seeds = list(values[: pull.count]), list(values[pull.count :])
        length, carried = scan_rule.length, scan_rule.sizes.carried
        forward = Run(scan_rule.body, scan_rule.sizes, length, scan_rule.backwards, inputs)
        try:
            reverse = self.backwards(forward, inputs, seeds)
            try:
                return self.reversed(forward, reverse, inputs[:carried])
            finally:
                reverse.steps.close()
        finally:
            forward.steps.close()

    def backwards(self, forward, inputs, seeds):
        """The loop over the step's vjp; it is the caller who goes through it from the end."""
        scan_rule, pull = self.scan, self.pull
        n, edge = len(pull.carry), sum(scan_rule.sizes)
        sums = [_zeros(inputs[i]) for i in pull.constants]
        states = [
            np.broadcast_to(x, (scan_rule.length, *np.shape(x)))  # for their form alone
            for x in forward.state.parts(forward.state.packed(inputs[: scan_rule.sizes.carried]))
        ]
        values = [
            *seeds[:n],
            *sums,
            *states,
            *inputs[scan_rule.sizes.carried : edge],
            *seeds[n:],
            *inputs[edge:],
        ]
        body = pull.body(scan_rule.body)
        return ReverseRun(body, pull.sizes, scan_rule, values)

    def reversed(self, forward, reverse, initial):
        def missed(k, state, cotangent):
            carry = forward.state.parts(state)
            if cotangent is None:
                forward.miss(k, carry)
            else:
                reverse.miss_at(k, carry, reverse.state.parts(cotangent))

        start = forward.state.packed(initial)
        seeds = reverse.state.packed(reverse.values[: reverse.carried])
        sizes = self.scan.length, self.scan.checkpoints
        block, _ = revolve(forward.steps, reverse.steps, *sizes, start, seeds, missed)
        return (*(np.copy(x) for x in reverse.state.parts(block)), *reverse.results)

    def expression(self, *operands):
        """The same by a loop that stores its states."""
        inputs, seeds = operands[: self.pull.count], operands[self.pull.count :]
        return tuple(self.scan.reverse(self.pull, inputs, None, list(seeds)))

    def of_floats(self, inputs):
        """The expression as a function of its floating inputs, and which these are."""
        floating = [i for i, x in enumerate(inputs) if is_float(dtype_of(x))]

        def function(*given):
            operands = list(inputs)
            for i, x in zip(floating, given, strict=True):
                operands[i] = x
            return self.expression(*operands)

        return function, floating

    def vjp(self, inputs, outputs, cotangents):
        function, floating = self.of_floats(inputs)
        with _where([*inputs, *cotangents]):
            values, pull = vjp(function, *chosen(inputs, floating))
            seeds = tuple(
                np.zeros(np.shape(v)) if c is None else c
                for v, c in zip(values, cotangents, strict=True)
            )
            found = pull(seeds)
        results = [None] * len(inputs)
        for i, x in zip(floating, found, strict=True):
            results[i] = x
        return results

    def jvp(self, inputs, outputs, tangents):
        function, floating = self.of_floats(inputs)
        given = tuple(
            np.zeros(np.shape(inputs[i])) if tangents[i] is None else tangents[i] for i in floating
        )
        with _where([*inputs, *tangents]):
            return list(jvp(function, tuple(chosen(inputs, floating)), given)[1])


def _where(operands):
    """Context in which derivatives are recorded where an operand is, and of numbers are not."""
    return nullcontext() if any(type(x) is Array for x in operands) else recording(None)


# --- the function --------------------------------------------------------------------------------


def _flatten(x):
    """As flatten, but None needs no optree."""
    return ([], _NOTHING) if x is None else flatten(x)


_NOTHING = object()


def _unflatten(structure, leaves):
    return None if structure is _NOTHING else unflatten(structure, leaves)


def _described(structure):
    return "None" if structure is _NOTHING else "one array" if structure is None else str(structure)


def _form_text(x):
    return f"{dtype_of(x)}{list(np.shape(x))}" if np.shape(x) else str(dtype_of(x))


class _Step:
    """The user's function, from leaves to leaves."""

    def __init__(self, f, init, xs, stored):
        self.f, self.stored = f, stored
        self.carry, self.carry_structure = _flatten(init)
        self.xs, self.xs_structure = _flatten(xs)
        self.y_structure: Any = None
        self.results = 0

    def __call__(self, leaves):
        n = len(self.carry)
        before = [_core.asarray(x) for x in leaves[:n]]  # as they are now: f may write to them
        kept = [x.recorder.array(x.node) for x in before]
        result = self.f(
            _unflatten(self.carry_structure, leaves[:n]), _unflatten(self.xs_structure, leaves[n:])
        )
        carry, ys = self.split(result)
        return [*self.checked(carry, kept), *ys, *(kept if self.stored else ())]

    def split(self, result):
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"scan: f must return a pair (carry, y), got {type(result).__name__}"
                + (f" of {len(result)}" if isinstance(result, tuple) else "")
            )
        carry, structure = _flatten(result[0])
        if structure is not self.carry_structure and structure != self.carry_structure:
            raise TypeError(
                "scan: f must return a carry with the structure of init: expected "
                f"{_described(self.carry_structure)}, got {_described(structure)}"
            )
        ys, structure = _flatten(result[1])
        if self.results and structure is not self.y_structure and structure != self.y_structure:
            raise TypeError(
                f"scan: f must return y with the same structure at each step: first it was "
                f"{_described(self.y_structure)}, then {_described(structure)}"
            )
        self.y_structure, self.results = structure, self.results or 1
        return carry, ys

    def checked(self, carry, kept):
        for i, (x, like) in enumerate(zip(carry, kept, strict=True)):
            if np.shape(x) != like.shape or dtype_of(x) != like.dtype:
                raise _CarryError(i, x, like)
        return carry


class _CarryError(TypeError):
    """A leaf of the carry does not come back as it went in."""

    def __init__(self, index, x, like):
        self.index, self.x = index, dtype_of(x)
        super().__init__(
            f"scan: f must return a carry of the shapes and types of init: leaf {index}: expected "
            f"{_form_text(like)}, got {_form_text(x)}"
        )


def _leaf(x, name):
    """A leaf as an Array or a number of a type that can be recorded."""
    if not isinstance(x, Array) and _core.is_array(x):
        x = _core.asarray(x)
    dtype = dtype_of(x)
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or dtype == np.float16:
        raise TypeError(
            f"scan: {name}: expected real numbers or arrays of them, "
            f"got {type(x).__name__} of dtype {dtype}"
        )
    if not isinstance(x, Array) and dtype.kind in "iu":
        x = np.asarray(x, np.int64)
    return x


def _length(xs, length):
    if length is not None:
        length = operator.index(length)
        if length < 0:
            raise ValueError(f"scan: length: expected 0 or more, got {length}")
    for i, x in enumerate(xs):
        if not np.shape(x):
            raise ValueError(f"scan: xs: leaf {i} has no leading axis to loop over")
    lengths = {np.shape(x)[0] for x in xs}
    if length is None and not xs:
        raise ValueError("scan: length is needed where xs has no arrays")
    if len(lengths) > 1:
        raise ValueError(f"scan: xs: leading axes of different lengths: {sorted(lengths)}")
    if length is not None and lengths and length not in lengths:
        raise ValueError(
            f"scan: length is {length}, but the leading axis of xs has length {lengths.pop()}"
        )
    return lengths.pop() if lengths else length


def _checkpoints(checkpoints, memory, carry):
    if checkpoints is not None and memory is not None:
        raise ValueError("scan: checkpoints and memory exclude each other")
    if memory is not None:
        forms = [(dtype_of(x), np.shape(x)) for x in carry]
        checkpoints = max(1, int(memory) // max(1, state_places(forms)[1]))
    if checkpoints is not None and operator.index(checkpoints) < 1:
        raise ValueError(f"scan: checkpoints: expected 1 or more, got {checkpoints}")
    return checkpoints


def scan(
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    checkpoints: int | None = None,
    memory: int | None = None,
) -> Any:
    """Loop that carries a state: its step is recorded once, and run over and over in C.

    As this, at the cost of a compiled loop and with the memory of one step::

        def scan(f, init, xs, length=None):
            carry, ys = init, []
            for x in [None] * length if xs is None else xs:
                carry, y = f(carry, x)
                ys.append(y)
            return carry, np.stack(ys)

    Parameters
    ----------
    f : callable
        Step ``f(carry, x) -> (carry, y)``. The carry it returns has the structure, shapes and types
        of the one it got. It may read variables of outside, recorded ones too; what it writes to
        them is refused.
    init : number, array, or nested container of them, or None
        First carry. A Python int becomes a float where `f` returns a float in its place.
    xs : array, or nested container of arrays, optional
        Step k gets ``xs[k]``.
    length : int, optional
        Number of steps; needed where `xs` has no arrays.
    checkpoints : int, optional
        Most states that the backward pass keeps. It takes the steps forward again from these, as
        seldom as can be (binomial checkpointing, [1]_): with s of them and up to C(s + r, s) steps,
        none more than r times. By default all states are kept.
    memory : int, optional
        In place of `checkpoints`: bytes for states.

    Returns
    -------
    carry
        The last one.
    ys
        The results y of all steps, stacked along a new first axis.

    Raises
    ------
    TypeError
        If `f` does not return a pair, or not a carry like the one it got.
    ValueError
        If the lengths of `xs` and `length` do not agree.

    Notes
    -----
    The step is recorded with its first arguments. What Python decided by a value (``if``,
    ``while``) is checked at every step, and recorded again where it is decided otherwise; a loop
    with more than 64 such paths through its step runs in Python, with a warning. Integers in the
    carry decide wherever Python computes with them: count in floats, or in `xs`.

    Derivatives of any order and in both modes are loops again. Those of second and higher order
    store all states, also with `checkpoints`.

    References
    ----------
    .. [1] A. Griewank and A. Walther, Algorithm 799: Revolve: an implementation of checkpointing
       for the reverse or adjoint mode of computational differentiation, ACM TOMS 26 (2000), 19-45.

    Examples
    --------
    >>> def step(y, h):
    ...     y = y - h * y**2
    ...     return y, y
    >>> fad.scan(step, 1.0, np.array([0.5, 0.5]))
    (0.375, array([0.5  , 0.375]))
    >>> def slow(y, _):
    ...     return y - 1e-5 * y**2, None
    >>> def after(y):
    ...     return fad.scan(slow, y, length=100_000, checkpoints=50)[0]
    >>> round(fad.grad(after)(1.0), 4)
    0.25
    """
    if not callable(f):
        raise TypeError(f"scan: f: expected a function, got {type(f).__name__}")
    weak: set[int] = set()
    while True:
        try:
            return _scan(f, init, xs, length, checkpoints, memory, weak)
        except _CarryError as error:
            # As in JAX, a Python int in init becomes a float where f returns one.
            if error.index in weak or error.x.kind != "f" or not _is_int_leaf(init, error.index):
                raise TypeError(str(error)) from None
            weak.add(error.index)


def _is_int_leaf(init, index):
    leaf = _flatten(init)[0][index]
    return isinstance(leaf, int) and not isinstance(leaf, bool)


def _scan(f, init, xs, length, checkpoints, memory, weak):
    carry = [float(x) if i in weak else x for i, x in enumerate(_flatten(init)[0])]
    init = _unflatten(_flatten(init)[1], carry)
    carry = [_leaf(x, "init") for x in carry]
    rows = [_leaf(x, "xs") for x in _flatten(xs)[0]]
    length = _length(rows, length)
    checkpoints = _checkpoints(checkpoints, memory, carry)
    outer = outer_recorder([*carry, *rows])
    if outer is not None:  # the backward pass may come after f's caller has changed his arrays
        carry, rows = _copied(carry), _copied(rows)
    step = _Step(f, init, xs, outer is not None and not checkpoints)
    body = Recorded(step, len(carry) + len(rows), outer, getattr(f, "__code__", f))
    try:
        try:
            outputs = _outputs(body, carry, rows, length, step, checkpoints)
        except TooManyPaths:
            return _unrolled(f, step, carry, rows, length)
    finally:
        body.complete()
    results = outputs[len(carry) :]
    if step.stored and carry:
        results = results[: -len(carry)]
    results = [plain(x) for x in results]
    return (
        _unflatten(step.carry_structure, [plain(x) for x in outputs[: len(carry)]]),
        _unflatten(step.y_structure, results),
    )


def _copied(leaves):
    return [x if isinstance(x, Array) else np.copy(x)[()] for x in leaves]


def _outputs(body, carry, rows, length, step, checkpoints):
    first = [_first(x, length) for x in rows]
    body.first([*(_core.forward_value(x) for x in carry), *first])
    if length == 0:
        forms = body.paths[0].forms[len(carry) :]
        return [*carry, *(np.zeros((0, *shape), dtype) for dtype, shape in forms)]
    sizes = Sizes(len(carry), len(rows))
    while True:
        rule = _Scan(body, sizes, length, stored=step.stored, checkpoints=checkpoints)
        try:
            return list(apply(rule, [*carry, *rows, *body.constants]))
        except NewConstants:
            continue


def _first(x, length):
    """The first row; zeros where there is none."""
    value = np.asarray(_core.forward_value(x))
    return value[0] if length else np.zeros(value.shape[1:], value.dtype)


def _unrolled(f, step, carry, rows, length):
    """The loop as it is written."""
    warnings.warn(
        "scan: f takes too many paths to record each: the loop runs in Python",
        RuntimeWarning,
        stacklevel=4,
    )
    state, results = _unflatten(step.carry_structure, carry), []
    for k in range(length):
        state, y = f(state, _unflatten(step.xs_structure, [x[k] for x in rows]))
        results.append(_flatten(y)[0])
    stacked = [np.stack(column) for column in zip(*results, strict=True)]
    final = [plain(x) for x in _flatten(state)[0]]
    return _unflatten(step.carry_structure, final), _unflatten(step.y_structure, stacked)
