"""einsum made of strided views, sums, products with broadcasting and matrix products.

What is to be done depends on the subscripts and the shapes alone. It is worked out once, as a list
of steps (function, argument), and looked up afterwards.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fastad._core import cast
from fastad._record import implements

from .arguments import operand, refuse_out, reshaped, summed_to, transposed
from .products import product
from .subscripts import plan_of, written

__all__ = ["einsum"]


def _every(x, step):
    """Every step-th element along the last axis."""
    return x[..., ::step]


def _multiply(a, b):
    return a * b


class _Term:
    """An operand that is not there yet: its labels, its shape, and the steps that make it so."""

    def __init__(self, labels, shape):
        self.labels = labels
        self.shape = shape
        self.steps = []

    def sizes(self):
        return dict(zip(self.labels, self.shape, strict=True))

    def reshape(self, shape):
        if shape != self.shape:
            self.steps.append((reshaped, shape))
            self.shape = shape

    def order(self, labels):
        """Bring the axes into the order of the labels."""
        labels = tuple(labels)
        if labels == self.labels:
            return
        axes = tuple([self.labels.index(label) for label in labels])
        self.steps.append((transposed, axes))
        self.shape = tuple([self.shape[i] for i in axes])
        self.labels = labels

    def merge_repeated(self):
        """Take the diagonal of axes that have the same label."""
        for label in self.labels:
            while self.labels.count(label) > 1:
                i = self.labels.index(label)
                j = self.labels.index(label, i + 1)
                rest = [k for k in range(len(self.labels)) if k not in (i, j)]
                n = self.shape[i]
                self.steps.append((transposed, (*rest, i, j)))
                self.shape = tuple([self.shape[k] for k in rest])
                self.steps.append((reshaped, (*self.shape, n * n)))
                self.steps.append((_every, n + 1))
                self.shape = (*self.shape, n)
                self.labels = (*[self.labels[k] for k in rest], label)

    def sum_over(self, labels):
        """Sum over the given labels."""
        gone = [label in labels for label in self.labels]
        if not any(gone):
            return
        kept = tuple([n for n, out in zip(self.shape, gone, strict=True) if not out])
        if any(n != 1 for n, out in zip(self.shape, gone, strict=True) if out):
            ones = [1 if out else n for n, out in zip(self.shape, gone, strict=True)]
            self.steps.append((summed_to, tuple(ones)))
        self.steps.append((reshaped, kept))
        self.shape = kept
        self.labels = tuple([x for x, out in zip(self.labels, gone, strict=True) if not out])

    def spread(self, order):
        """Order the axes, with one-element axes for labels that are missing."""
        self.order([label for label in order if label in self.labels])
        sizes = self.sizes()
        self.reshape(tuple([sizes.get(label, 1) for label in order]))
        self.labels = tuple(order)

    def merge(self, groups):
        """Order the axes by groups of labels, each group made one axis."""
        self.order([label for group in groups for label in group])
        sizes = self.sizes()
        self.reshape(tuple([math.prod([sizes[label] for label in group]) for group in groups]))


class _Pair(NamedTuple):
    """Two operands to contract: their places, their steps, the product and the steps after it."""

    first: int
    second: int
    first_steps: list
    second_steps: list
    product: object
    steps: list


def _contract(a, b, kept):
    """The product of two terms, summed over the labels that both have and nobody needs further."""
    common = [label for label in a.labels if label in b.labels]
    summed = [label for label in common if label not in kept]
    batch = [label for label in common if label in kept]
    left = [label for label in a.labels if label not in common]
    right = [label for label in b.labels if label not in common]
    sizes = a.sizes() | b.sizes()
    if summed and (left or right):
        groups = [batch] if batch else []
        a.merge([*groups, left, summed])
        b.merge([*groups, summed, right])
        labels = (*batch, *left, *right)
        result = _Term(labels, (*a.shape[:-1], *b.shape[-1:]))
        result.reshape(tuple([sizes[label] for label in labels]))
        return result, product
    labels = (*batch, *left, *right, *summed)
    a.spread(labels)
    b.spread(labels)
    result = _Term(labels, tuple([sizes[label] for label in labels]))
    result.sum_over(summed)
    return result, _multiply


def _terms(plan, shapes):
    """The operands with each label once, and only labels that another one or the result has."""
    terms = [_Term(labels, shape) for labels, shape in zip(plan.labels, shapes, strict=True)]
    for term in terms:
        term.merge_repeated()
        pairs = zip(term.labels, term.shape, strict=True)
        term.sum_over([label for label, n in pairs if n == 1 != plan.sizes[label]])
    for term in terms:
        needed = set(plan.output).union(*[other.labels for other in terms if other is not term])
        term.sum_over([label for label in term.labels if label not in needed])
    return terms


@lru_cache(maxsize=1024)
def _recipe(subscripts, shapes):
    """The pairs to contract, and the steps from the last term to the result."""
    plan = plan_of(subscripts, shapes)
    terms, pairs = _terms(plan, shapes), []
    for i, j in plan.pairs:
        b, a = terms.pop(j), terms.pop(i)
        kept = set(plan.output).union(*[term.labels for term in terms])
        result, combine = _contract(a, b, kept)
        pairs.append(_Pair(i, j, a.steps, b.steps, combine, result.steps))
        result.steps = []
        terms.append(result)
    terms[0].order(plan.output)
    return pairs, terms[0].steps


def _done(x, steps):
    for step, argument in steps:
        x = step(x, argument)
    return x


@implements(np.einsum)
def einsum(*operands, out=None, optimize=False, dtype=None, order="K", casting="safe"):
    """Einstein's sum, contracted two operands at a time in the order that np.einsum_path finds."""
    refuse_out("einsum", out)
    subscripts, operands = written(operands)
    terms = [operand(x) for x in operands]
    pairs, last = _recipe(subscripts, tuple([x.shape for x in terms]))
    for pair in pairs:
        b, a = terms.pop(pair.second), terms.pop(pair.first)
        result = pair.product(_done(a, pair.first_steps), _done(b, pair.second_steps))
        terms.append(_done(result, pair.steps))
    result = _done(terms[0], last)
    return result if dtype is None else cast(result, dtype)
