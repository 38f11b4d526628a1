"""einsum made of strided views, sums, products with broadcasting and matrix products."""

import math

import numpy as np

from fastad._core import cast
from fastad._record import implements

from .arguments import operand, refuse_out, reshaped, summed_to, transposed
from .products import product
from .subscripts import plan_of, written

__all__ = ["einsum"]


def _merge_repeated(x, labels):
    """Take the diagonal of axes that have the same label."""
    for label in set(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            rest = [k for k in range(len(labels)) if k not in (i, j)]
            n = x.shape[i]
            x = transposed(x, (*rest, i, j))
            x = reshaped(x, (*x.shape[:-2], n * n))[..., :: n + 1]
            labels = (*[labels[k] for k in rest], label)
    return x, labels


def _without(x, labels, gone):
    """Sum over the axes at the places `gone`."""
    if not gone:
        return x, labels
    ones = tuple([1 if i in gone else n for i, n in enumerate(x.shape)])
    left = [i for i in range(len(labels)) if i not in gone]
    x = reshaped(summed_to(x, ones), tuple([x.shape[i] for i in left]))
    return x, tuple([labels[i] for i in left])


def _spread(x, labels, sizes):
    """Drop one-element axes that broadcast against another operand's."""
    return _without(x, labels, [i for i, own in enumerate(labels) if x.shape[i] == 1 != sizes[own]])


def _reduced(terms, output):
    """Sum every operand over the labels that nothing else has."""
    for i, (x, labels) in enumerate(terms):
        others = [own for k, (_, own) in enumerate(terms) if k != i]
        needed = set(output).union(*others)
        terms[i] = _without(x, labels, [k for k, own in enumerate(labels) if own not in needed])


def _arranged(x, labels, order):
    """Axes in the given order, with one-element axes for labels that `x` lacks."""
    own = [label for label in order if label in labels]
    x = _ordered(x, labels, own)
    if len(own) == len(order):
        return x
    sizes = dict(zip(own, x.shape, strict=True))
    return reshaped(x, tuple([sizes.get(label, 1) for label in order]))


def _ordered(x, labels, order):
    if tuple(order) == labels:
        return x
    return transposed(x, tuple([labels.index(label) for label in order]))


def _merged(x, labels, groups):
    """Axes in the order of the groups, each group made one axis."""
    x = _ordered(x, labels, [label for group in groups for label in group])
    shape, start = [], 0
    for group in groups:
        shape.append(math.prod(x.shape[start : start + len(group)]))
        start += len(group)
    return reshaped(x, tuple(shape))


def _contract(a, a_labels, b, b_labels, kept):
    """Product of two operands, summed over the labels that both have and nobody needs any more."""
    common = [label for label in a_labels if label in b_labels]
    summed = [label for label in common if label not in kept]
    batch = [label for label in common if label in kept]
    left = [label for label in a_labels if label not in common]
    right = [label for label in b_labels if label not in common]
    if not summed or not (left or right):
        order = (*batch, *left, *right, *summed)
        x = _arranged(a, a_labels, order) * _arranged(b, b_labels, order)
        size = len(order) - len(summed)
        if summed:
            x = summed_to(x, x.shape[:size] + (1,) * len(summed))
            x = reshaped(x, x.shape[:size])
        return x, order[:size]
    order = (*batch, *left, *right)
    sizes = dict(zip(a_labels, a.shape, strict=True)) | dict(zip(b_labels, b.shape, strict=True))
    groups = [batch] if batch else []
    x = product(
        _merged(a, a_labels, [*groups, left, summed]),
        _merged(b, b_labels, [*groups, summed, right]),
    )
    return reshaped(x, tuple([sizes[label] for label in order])), order


@implements(np.einsum)
def einsum(*operands, out=None, optimize=False, dtype=None, order="K", casting="safe"):
    """Einstein's sum, contracted two operands at a time in the order that np.einsum_path finds."""
    refuse_out("einsum", out)
    subscripts, operands = written(operands)
    operands = [operand(x) for x in operands]
    plan = plan_of(subscripts, tuple([x.shape for x in operands]))
    terms = [
        _spread(*_merge_repeated(x, labels), plan.sizes)
        for x, labels in zip(operands, plan.labels, strict=True)
    ]
    _reduced(terms, plan.output)
    for i, j in plan.pairs:
        (b, b_labels), (a, a_labels) = terms.pop(j), terms.pop(i)
        kept = set(plan.output).union(*[labels for _, labels in terms])
        terms.append(_contract(a, a_labels, b, b_labels, kept))
    result = _ordered(*terms[0], plan.output)
    return result if dtype is None else cast(result, dtype)
