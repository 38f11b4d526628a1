"""Loops over plain values: memory for states and stacked arrays, and what is done on a new path."""

from typing import NamedTuple

import numpy as np

from fastad._program import Steps

__all__ = ["NewConstants", "ReverseRun", "Run", "Sizes", "loop", "state_places"]

ALIGNMENT = 8  # of the parts of a state, in bytes


def state_places(forms):
    """Places of values in a state, and its size."""
    offsets, at = [], 0
    for dtype, shape in forms:
        offsets.append(at)
        at += -(-_row_bytes(dtype, shape) // ALIGNMENT) * ALIGNMENT
    return offsets, at


class Sizes(NamedTuple):
    """How many inputs of a step are carried, and how many are rows of arrays. Others: constants."""

    carried: int
    stacked: int


class _State:
    """The values that go from step to step, in one block of memory."""

    def __init__(self, forms):
        self.forms = forms
        self.offsets, self.nbytes = state_places(forms)

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


class NewConstants(Exception):  # noqa: N818 - a message between functions
    """A new path reads outer Arrays that the others did not: further inputs of the loop."""


class Run:
    """One loop over plain values, under way."""

    def __init__(self, body, sizes, length, backwards, values):
        self.body, self.length, self.backwards = body, length, backwards
        self.carried, self.stacked = sizes.carried, sizes.stacked
        self.values = values
        path = body.first(self.at(0, values[: self.carried]))
        inputs, outputs = path.program.inputs, path.program.outputs
        unread = values[len(inputs) :]  # constants of other paths
        forms = inputs + [(np.asarray(x).dtype, np.shape(x)) for x in unread]
        self.state = _State(forms[: self.carried])
        edge = self.carried + self.stacked
        results = outputs[self.carried :]
        self.results = [np.empty((length, *shape), dtype) for dtype, shape in results]
        constants = zip(values[edge:], forms[edge:], strict=True)
        self.steps = Steps(
            self.state.offsets,
            self.state.nbytes,
            self.rows(values[self.carried : edge], forms[self.carried : edge])
            + [(_whole(x, form), 0, 0) for x, form in constants],
            _places(self.results, results, length, backwards),
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
            raise NewConstants
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
            f"scan: no recorded path holds at step {at}: "
            "f decides by something else than its arguments"
        )
    return missed


def loop(body, sizes, length, backwards, values):
    run = Run(body, sizes, length, backwards, values)
    try:
        return run.run()
    finally:
        run.steps.close()


class ReverseRun(Run):
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
