"""Loops: a step is recorded once, as a program, and run over and over in C.

The rule of a loop is differentiated by loops again: backwards over the step's vjp, forwards over its
jvp. So a loop nests in every transform, to any order.
"""

import operator
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from fastad import _core
from fastad._bodies import (
    Derived,
    Recorded,
    TooManyPaths,
    apply,
    dtype_of,
    is_float,
    ones_like,
    plain,
    pulled,
    pushed,
    replay,
)
from fastad._containers import flatten, unflatten
from fastad._core import Array
from fastad._program import Steps, revolve
from fastad._record import recording
from fastad.transforms import jvp, outer_recorder, vjp

__all__ = ["scan"]

ALIGNMENT = 8  # of the parts of a state, in bytes


# --- a loop over plain values --------------------------------------------------------------------


def _offsets(forms):
    """Places of values in a state, and its size."""
    offsets, at = [], 0
    for dtype, shape in forms:
        offsets.append(at)
        at += -(-int(np.prod(shape)) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
    return offsets, at


class _State:
    """The values that go from step to step, in one block of memory."""

    def __init__(self, forms):
        self.forms = forms
        self.offsets, self.nbytes = _offsets(forms)

    def empty(self):
        return np.empty(max(self.nbytes, 1), np.uint8)

    def parts(self, block):
        """The values in a block: views of it."""
        return [
            np.ndarray(shape, dtype, block, offset)
            for (dtype, shape), offset in zip(self.forms, self.offsets, strict=True)
        ]

    def packed(self, values):
        block = self.empty()
        for part, value in zip(self.parts(block), values, strict=True):
            part[...] = value
        return block


def _whole(x, form):
    """An input's memory, in the type that the step takes."""
    return np.require(x, form[0], ["C", "A"])


def _row_bytes(dtype, shape):
    return int(np.prod(shape)) * dtype.itemsize


def _places(arrays, forms, length, backwards):
    """Where the steps find their parts of stacked arrays."""
    sizes = [_row_bytes(*form) for form in forms]
    return [
        (array, (length - 1) * size if backwards else 0, -size if backwards else size)
        for array, size in zip(arrays, sizes, strict=True)
    ]


class _NewConstants(Exception):  # noqa: N818 - a message between functions
    """A new path reads outer Arrays that the others did not: they are further inputs of the loop."""


class _Run:
    """One loop over plain values, under way."""

    def __init__(self, body, sizes, length, backwards, values):
        self.body, self.length, self.backwards = body, length, backwards
        self.carried, self.stacked = sizes.carried, sizes.stacked
        self.values = values
        path = body.first(self.at(0, values[: self.carried]))
        inputs, outputs = path.program.inputs, path.program.outputs
        known = [np.asarray(v).dtype for v in values[len(inputs) :]]
        forms = inputs + [(d, np.shape(v)) for d, v in zip(known, values[len(inputs) :], strict=True)]
        self.state = _State(forms[: self.carried])
        edge = self.carried + self.stacked
        self.results = [np.empty((length, *shape), dtype) for dtype, shape in outputs[self.carried :]]
        self.steps = Steps(
            self.state.offsets,
            self.state.nbytes,
            self.rows(values[self.carried : edge], forms[self.carried : edge])
            + [(_whole(x, form), 0, 0) for x, form in zip(values[edge:], forms[edge:], strict=True)],
            _places(self.results, outputs[self.carried :], length, backwards),
        )
        for known_path in body.paths:
            self.steps.add(known_path.program)

    def rows(self, values, forms):
        """Where the steps find their rows of stacked arrays."""
        arrays = [_whole(x, form) for x, form in zip(values, forms, strict=True)]
        return _places(arrays, forms, self.length, self.backwards)

    def at(self, k, carry):
        """Inputs of step `k`."""
        k = self.length - 1 - k if self.backwards else k
        edge = self.carried + self.stacked
        rows = [np.asarray(value)[k] for value in self.values[self.carried : edge]]
        return [*carry, *rows, *self.values[edge:]]

    def miss(self, k, carry):
        """No known path holds at step `k`."""
        path = self.body.new_path(self.at(k, [np.copy(x) for x in carry]))
        if len(path.program.inputs) > len(self.values):
            raise _NewConstants
        self.steps.add(path.program)

    def run(self):
        """Final carry and stacked results."""
        here, there = self.state.packed(self.values[: self.carried]), self.state.empty()
        at, missed = 0, (-1, 0)
        while True:
            at, swapped = self.steps.run(here, there, at, self.length)
            if swapped:
                here, there = there, here
            if at == self.length:
                break
            missed = _again(missed, at)
            self.miss(at, self.state.parts(here))
        return [*(np.copy(x) for x in self.state.parts(here)), *self.results]


def _again(missed, at):
    """How often a step was missed: more often than there are paths means that none will ever do."""
    missed = (at, missed[1] + 1 if missed[0] == at else 0)
    if missed[1] > 128:
        raise RuntimeError(
            f"scan: no recorded path holds at step {at}: f decides by something else than its arguments"
        )
    return missed


class Sizes(NamedTuple):
    """How many inputs of a step are carried and how many are rows of stacked arrays; the rest is constant."""

    carried: int
    stacked: int


def _loop(body, sizes, length, backwards, values):
    run = _Run(body, sizes, length, backwards, values)
    try:
        return run.run()
    finally:
        run.steps.close()


# --- derivatives of steps ------------------------------------------------------------------------


class _Forms(NamedTuple):
    """Which of a loop's inputs and outputs are floating, by number."""

    inputs: list[bool]
    outputs: list[bool]


def _forms(body):
    path = body.paths[0]
    inputs = [is_float(np.asarray(x).dtype) for x in path.example]
    return _Forms(inputs, [is_float(dtype) for dtype, _ in path.forms])


def _chosen(items, which):
    return [items[i] for i in which]


def _example(path, count, constants):
    """Inputs of a path, completed by the constants that it does not read."""
    return [*path.example, *constants[len(path.example) - count :]]


class _Pull:
    """A step's vjp: which inputs it is taken by, and how its inputs are ordered.

    Carried are the cotangents of what the step carries and, summed, those of constants; stacked are
    the states, the rows and the cotangents of the results.
    """

    def __init__(self, sizes, count, forms, active, present):
        carried, edge = sizes.carried, sum(sizes)
        self.sizes_of_step = sizes
        self.carry = [i for i in range(carried) if forms.inputs[i]]
        self.rows = [i for i in range(carried, edge) if forms.inputs[i] and active[i]]
        self.constants = [i for i in range(edge, count) if forms.inputs[i] and active[i]]
        self.results = [i for i in range(carried, len(forms.outputs)) if forms.outputs[i] and present[i]]
        self.count = count
        self.sizes = Sizes(
            len(self.carry) + len(self.constants), carried + sizes.stacked + len(self.results)
        )

    def body(self, base, examples):
        key = ("vjp", self.sizes_of_step, self.count, *map(tuple, (self.rows, self.constants, self.results)))
        return base.derivative(key, lambda base: self.make_body(base, examples))

    def make_body(self, base, examples):
        first, edge = self.sizes.carried, sum(self.sizes_of_step)

        def primal(values):
            return [*values[first : first + edge], *values[sum(self.sizes) :]]

        def further(path):
            given = [*path.example, *examples[len(path.example) :]]
            outputs = [np.ones(shape, dtype) for dtype, shape in path.forms]
            return [
                *(ones_like(given[i]) for i in (*self.carry, *self.constants)),
                *given[:edge],
                *_chosen(outputs, self.results),
                *given[edge:],
            ]

        def build(recorder, path, inputs):
            n, seeds = len(self.carry), inputs[: len(self.carry)]
            sums = inputs[n:first]
            given = primal(inputs)
            outputs = replay(recorder, path, given)
            cotangents = [None] * len(outputs)
            for i, seed in zip(self.carry, seeds, strict=True):
                cotangents[i] = seed
            for i, seed in zip(self.results, inputs[first + edge : sum(self.sizes)], strict=True):
                cotangents[i] = seed
            wrt = _chosen(given, (*self.carry, *self.constants, *self.rows))
            found = pulled(recorder, outputs, cotangents, wrt)
            added = [s + f for s, f in zip(sums, found[n:first], strict=True)]
            return [*found[:n], *added, *found[first:]]

        return Derived(base, primal, further, build)


class _Push:
    """A step's jvp: it carries the state and its tangent."""

    def __init__(self, sizes, count, forms, present):
        carried, edge = sizes.carried, sum(sizes)
        self.step = sizes
        self.carry = [i for i in range(carried) if forms.inputs[i]]
        self.rows = [i for i in range(carried, edge) if forms.inputs[i] and present[i]]
        self.constants = [i for i in range(edge, count) if forms.inputs[i] and present[i]]
        self.results = [i for i in range(carried, len(forms.outputs)) if forms.outputs[i]]
        self.count = count
        self.sizes = Sizes(carried + len(self.carry), sizes.stacked + len(self.rows))

    def ordered(self, primals, tangents):
        """Inputs and their tangents in the order of the jvp's inputs."""
        carried, edge = self.step.carried, sum(self.step)
        return [
            *primals[:carried],
            *_chosen(tangents, self.carry),
            *primals[carried:edge],
            *_chosen(tangents, self.rows),
            *primals[edge:],
            *_chosen(tangents, self.constants),
        ]

    def primal(self, values):
        carried, edge = self.step.carried, sum(self.step)
        rows = values[self.sizes.carried : self.sizes.carried + self.step.stacked]
        constants = values[sum(self.sizes) : sum(self.sizes) + self.count - edge]
        return [*values[:carried], *rows, *constants]

    def tangents(self, values):
        """Those among inputs, by number of the input."""
        carried, edge = self.step.carried, sum(self.step)
        found = dict(zip(self.carry, values[carried:], strict=False))
        found |= zip(self.rows, values[self.sizes.carried + self.step.stacked :], strict=False)
        found |= zip(self.constants, values[sum(self.sizes) + self.count - edge :], strict=False)
        return found

    def body(self, base, examples):
        key = ("jvp", self.step, self.count, tuple(self.rows), tuple(self.constants))
        return base.derivative(key, lambda base: self.make_body(base, examples))

    def make_body(self, base, examples):
        def further(path):
            given = [*path.example, *examples[len(path.example) :]]
            return self.ordered(given, [ones_like(x) for x in given])

        def build(recorder, path, inputs):
            given, tangents = self.primal(inputs), self.tangents(inputs)
            outputs = replay(recorder, path, given)
            wrt = _chosen(given, tangents)
            wanted = _chosen(outputs, (*self.carry, *self.results))
            found = pushed(recorder, wrt, list(tangents.values()), wanted)
            return [*outputs[: self.step.carried], *found]

        return Derived(base, self.primal, further, build)


# --- the rules -----------------------------------------------------------------------------------


class _Scan:
    """The rule of a loop.

    Its inputs are those of the first step: carried, then stacked arrays, then constants. Its outputs
    are the final carry and the stacked results. With `stored`, the last of these are the states before
    each step.
    """

    takes_none = True
    active: list[bool] = []

    def __init__(self, body, sizes, length, backwards=False, stored=False, checkpoints=None):
        self.__name__ = "scan"
        self.body, self.sizes, self.length, self.backwards = body, sizes, length, backwards
        self.stored, self.checkpoints = stored, checkpoints

    def forward(self, *values):
        """Final carry and stacked results at plain values."""
        return tuple(_loop(self.body, self.sizes, self.length, self.backwards, list(values)))

    # --- reverse ---

    def vjp(self, inputs, outputs, cotangents):
        """Cotangents of the inputs, as numbers or recorded."""
        pull = _Pull(
            self.sizes, len(inputs), _forms(self.body), self.active, [c is not None for c in cotangents]
        )
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
        """Cotangents of the final carry, zeros where there are none, and of the results that have one."""
        carry = [
            np.zeros(np.shape(outputs[i]), dtype_of(outputs[i])) if cotangents[i] is None else cotangents[i]
            for i in pull.carry
        ]
        return [*carry, *_chosen(cotangents, pull.results)]

    def reverse(self, pull, inputs, states, seeds):
        """Cotangents by a loop in the other direction, over states that are stored."""
        if states is None:
            states = self.states(inputs)
        n = len(pull.carry)
        sums = [np.zeros(np.shape(inputs[i]), dtype_of(inputs[i])) for i in pull.constants]
        edge = sum(self.sizes)
        rule = _Scan(pull.body(self.body, self.examples(inputs)), pull.sizes, self.length, not self.backwards)
        return apply(
            rule,
            [*seeds[:n], *sums, *states, *inputs[self.sizes.carried : edge], *seeds[n:], *inputs[edge:]],
        )

    def examples(self, inputs):
        """Values of the inputs that a path may lack."""
        shapes = [(np.shape(x), dtype_of(x)) for x in inputs]
        return [np.ones(shape, dtype) for shape, dtype in shapes]

    def states(self, inputs):
        """The states before each step."""
        if not self.sizes.carried:
            return []
        rule = _Scan(_storing(self.body, self.sizes), self.sizes, self.length, self.backwards)
        return list(apply(rule, inputs)[-self.sizes.carried :])

    # --- forward ---

    def jvp(self, inputs, outputs, tangents):
        """Tangents of the outputs."""
        carried = self.sizes.carried
        push = _Push(self.sizes, len(inputs), _forms(self.body), [t is not None for t in tangents])
        given = [
            np.zeros(np.shape(x), dtype_of(x)) if t is None else t
            for x, t in zip(inputs, tangents, strict=True)
        ]
        rule = _Scan(
            push.body(self.body, self.examples(inputs)),
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


def _storing(base, sizes):
    """The body that gives also the state that it begins with."""

    def build(recorder, path, inputs):
        return [*replay(recorder, path, inputs), *inputs[: sizes.carried]]

    def make(base):
        return Derived(base, list, lambda path: path.example, build)

    return base.derivative(("storing", sizes), make)


class _Reversed:
    """The rule of a checkpointed loop's vjp. Derivatives of it are those of the loop that stores all states."""

    takes_none = True
    active: list[bool] = []

    def __init__(self, scan_rule, pull):
        self.__name__ = "vjp of scan"
        self.scan, self.pull = scan_rule, pull

    def forward(self, *values):
        """Cotangents at plain values, with few states kept."""
        scan_rule, pull = self.scan, self.pull
        inputs, seeds = list(values[: pull.count]), list(values[pull.count :])
        length, carried = scan_rule.length, scan_rule.sizes.carried
        forward = _Run(scan_rule.body, scan_rule.sizes, length, scan_rule.backwards, inputs)
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
        sums = [np.zeros(np.shape(inputs[i]), dtype_of(inputs[i])) for i in pull.constants]
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
        body = pull.body(scan_rule.body, scan_rule.examples(inputs))
        return _ReverseRun(body, pull.sizes, scan_rule, values)

    def reversed(self, forward, reverse, initial):
        def missed(k, state, cotangent):
            carry = forward.state.parts(state)
            if cotangent is None:
                forward.miss(k, carry)
            else:
                reverse.miss_at(k, carry, reverse.state.parts(cotangent))

        start = forward.state.packed(initial)
        seeds = reverse.state.packed(reverse.values[: reverse.carried])
        block, _ = revolve(
            forward.steps, reverse.steps, self.scan.length, self.scan.checkpoints, start, seeds, missed
        )
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
            values, pull = vjp(function, *_chosen(inputs, floating))
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
            return list(jvp(function, tuple(_chosen(inputs, floating)), given)[1])


def _where(operands):
    """Context in which derivatives of recorded operands are recorded, and those of numbers are not."""
    return nullcontext() if any(type(x) is Array for x in operands) else recording(None)


class _ReverseRun(_Run):
    """The loop over a step's vjp where the states come one at a time."""

    def __init__(self, body, sizes, scan_rule, values):
        self.states = scan_rule.sizes.carried
        super().__init__(body, sizes, scan_rule.length, scan_rule.backwards, values)

    def rows(self, values, forms):
        # The states' places are set step by step.
        none = [(np.empty(1), 0, 0)] * self.states
        return none + super().rows(values[self.states :], forms[self.states :])

    def miss_at(self, k, state, cotangents):
        values = self.at(k, [np.copy(x) for x in cotangents])
        values[self.carried : self.carried + self.states] = [np.copy(x) for x in state]
        self.steps.add(self.body.new_path(values).program)


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
        raise TypeError(f"scan: {name}: expected numbers or arrays of them, got {type(x).__name__} of dtype {dtype}")
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
        raise ValueError(f"scan: length is {length}, but the leading axis of xs has length {lengths.pop()}")
    return lengths.pop() if lengths else length


def _checkpoints(checkpoints, memory, carry):
    if checkpoints is not None and memory is not None:
        raise ValueError("scan: checkpoints and memory exclude each other")
    if memory is not None:
        forms = [(dtype_of(x), np.shape(x)) for x in carry]
        checkpoints = max(1, int(memory) // max(1, _offsets(forms)[1]))
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
    """Loop with a carried state: the step is recorded once and run over and over in C.

    As this, which stacks the results::

        def scan(f, init, xs, length=None):
            carry, ys = init, []
            for x in xs if xs is not None else [None] * length:
                carry, y = f(carry, x)
                ys.append(y)
            return carry, np.stack(ys)
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
                raise
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
        carry, rows = ([x if isinstance(x, Array) else np.copy(x)[()] for x in part] for part in (carry, rows))
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
        except _NewConstants:
            continue


def _first(x, length):
    """The first row; zeros where there is none."""
    value = np.asarray(_core.forward_value(x))
    return value[0] if length else np.zeros(value.shape[1:], value.dtype)


def _unrolled(f, step, carry, rows, length):
    """The loop as it is written."""
    warnings.warn(
        "scan: f takes too many paths to record each: the loop runs in Python", RuntimeWarning, stacklevel=5
    )
    state, results = _unflatten(step.carry_structure, carry), []
    for k in range(length):
        state, y = f(state, _unflatten(step.xs_structure, [x[k] for x in rows]))
        results.append(_flatten(y)[0])
    stacked = [np.stack([np.asarray(x) if not isinstance(x, Array) else x for x in column]) if not _core.is_array(column) else np.stack(column) for column in zip(*results, strict=True)]
    return state, _unflatten(step.y_structure, stacked)
