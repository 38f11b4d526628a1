"""Derivatives of a loop's step: bodies with inputs and outputs in the order that a loop needs."""

from typing import NamedTuple

from fastad._bodies import Derived, dtype_of, is_float, pulled, pushed, replay
from fastad._loops import Sizes

__all__ = ["Pull", "Push", "chosen", "floating", "storing"]


class Floating(NamedTuple):
    """Which of a loop's inputs and outputs are floating, by number."""

    inputs: list[bool]
    outputs: list[bool]


def floating(inputs, body):
    """For a loop's inputs, and the body of its step."""
    outputs = [is_float(dtype) for dtype, _ in body.paths[0].forms]
    return Floating([is_float(dtype_of(x)) for x in inputs], outputs)


def chosen(items, which):
    return [items[i] for i in which]


class Pull:
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
        results = range(carried, len(forms.outputs))
        self.results = [i for i in results if forms.outputs[i] and present[i]]
        self.count = count
        self.sizes = Sizes(
            len(self.carry) + len(self.constants), carried + sizes.stacked + len(self.results)
        )

    def body(self, base):
        chosen_ones = map(tuple, (self.rows, self.constants, self.results))
        key = ("vjp", self.sizes_of_step, self.count, *chosen_ones)
        return base.derivative(key, lambda base: self.make_body(base))

    def make_body(self, base):
        first, edge = self.sizes.carried, sum(self.sizes_of_step)

        def primal(values):
            return [*values[first : first + edge], *values[sum(self.sizes) :]]

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
            wrt = chosen(given, (*self.carry, *self.constants, *self.rows))
            found = pulled(recorder, outputs, cotangents, wrt)
            added = [s + f for s, f in zip(sums, found[n:first], strict=True)]
            return [*found[:n], *added, *found[first:]]

        return Derived(base, primal, build)


class Push:
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
            *chosen(tangents, self.carry),
            *primals[carried:edge],
            *chosen(tangents, self.rows),
            *primals[edge:],
            *chosen(tangents, self.constants),
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

    def body(self, base):
        key = ("jvp", self.step, self.count, tuple(self.rows), tuple(self.constants))
        return base.derivative(key, lambda base: self.make_body(base))

    def make_body(self, base):
        def build(recorder, path, inputs):
            given, tangents = self.primal(inputs), self.tangents(inputs)
            outputs = replay(recorder, path, given)
            wrt = chosen(given, tangents)
            wanted = chosen(outputs, (*self.carry, *self.results))
            found = pushed(recorder, wrt, list(tangents.values()), wanted)
            return [*outputs[: self.step.carried], *found]

        return Derived(base, self.primal, build)


def storing(base, sizes):
    """The body that gives also the state that it begins with."""

    def build(recorder, path, inputs):
        return [*replay(recorder, path, inputs), *inputs[: sizes.carried]]

    def make(base):
        return Derived(base, list, build)

    return base.derivative(("storing", sizes), make)
