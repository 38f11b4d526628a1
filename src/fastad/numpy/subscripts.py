"""The subscripts of einsum: what they say about operands, and in which order to contract.

A label is a letter, or ``.0``, ``.1``, ... for the axes of an ellipsis, counted from the last.
"""

from string import ascii_letters, ascii_lowercase, ascii_uppercase
from typing import NamedTuple

import numpy as np

__all__ = ["Plan", "plan_of", "written"]

_BY_NUMBER = ascii_uppercase + ascii_lowercase


class Plan(NamedTuple):
    """What einsum does.

    Attributes
    ----------
    labels : tuple of tuple of str
        The labels of each operand's axes.
    output : tuple of str
        The labels of the result's axes.
    sizes : dict
        Size of each label.
    pairs : tuple of tuple of int
        Places of the two operands to contract next; the result goes to the end of the list.
    """

    labels: tuple
    output: tuple
    sizes: dict
    pairs: tuple


def written(operands):
    """Subscripts and operands from either spelling of einsum's arguments."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), operands[1:]
    terms = [_term(numbers) for numbers in operands[1::2]]
    subscripts = ",".join(terms)
    if len(operands) % 2:
        subscripts += "->" + _term(operands[-1])
    return subscripts, operands[: 2 * len(terms) : 2]


def _term(numbers):
    return "".join(["..." if n is Ellipsis else _BY_NUMBER[n.__index__()] for n in numbers])


def _labels(term, ndim):
    """Labels of one operand; of the output if ndim is the number of axes of its ellipsis."""
    if set(term.replace("...", "", 1)) - set(ascii_letters):
        raise ValueError(f"einsum: invalid subscript in {term!r}: letters and one '...' only")
    before, dots, after = term.partition("...")
    hidden = ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(
            f"einsum: operand has {ndim} dimensions, but its subscripts {term!r} "
            f"name {len(before) + len(after)}"
        )
    return (*before, *[f".{i}" for i in reversed(range(hidden))], *after)


def _hidden(labels):
    return sorted({label for own in labels for label in own if label[0] == "."}, reverse=True)


def _output(term, labels):
    """Labels of the result: spelled out, or those that occur once in alphabetical order."""
    used = [label for own in labels for label in own]
    if term is None:
        return (*_hidden(labels), *sorted({x for x in used if used.count(x) == 1 and x[0] != "."}))
    hidden = _hidden(labels)
    if hidden and "..." not in term:
        raise ValueError(f"einsum: the output {term!r} lacks '...', which an operand has")
    output = _labels(term, len(term.replace("...", "")) + len(hidden))
    for label in output:
        if output.count(label) > 1:
            raise ValueError(f"einsum: the output has subscript {label!r} more than once")
        if label not in used:
            raise ValueError(f"einsum: the output has subscript {label!r}, which no operand has")
    return output


def _sizes(labels, shapes):
    """Size of every label; one-element axes broadcast, but not within an operand."""
    sizes = {}
    for own, shape in zip(labels, shapes, strict=True):
        for label, n in zip(own, shape, strict=True):
            twice = own.count(label) > 1 and shape[own.index(label)] != n
            if twice or (n != 1 and sizes.get(label, 1) not in (1, n)):
                raise ValueError(
                    f"einsum: sizes {sizes.get(label, shape[own.index(label)])} and {n} "
                    f"of subscript {label!r} do not match"
                )
            if sizes.get(label, 1) == 1:
                sizes[label] = n
    return sizes


def _pairs(subscripts, shapes):
    """Two operands at a time: in the order that NumPy finds cheapest, where there is a choice."""
    count = len(shapes)
    if count <= 2:
        return ((0, 1),) * (count - 1)
    stand_ins = [np.broadcast_to(0.0, shape) for shape in shapes]
    path, _ = np.einsum_path(subscripts, *stand_ins, optimize="greedy")
    pairs = []
    for group in path[1:]:
        # A group of more than two is contracted from its last operands, each result at the end.
        group = sorted(group)
        for left in range(len(group) - 1, 0, -1):
            if left == len(group) - 1:
                pairs.append((group[left - 1], group[left]))
            else:
                pairs.append((group[left - 1], count - 1))
            count -= 1
    return tuple(pairs)


def plan_of(subscripts, shapes):
    """The plan for subscripts without blanks and operands of the given shapes."""
    terms, arrow, output = subscripts.partition("->")
    terms = terms.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: {len(terms)} terms in {subscripts!r} for {len(shapes)} operands")
    labels = tuple([_labels(term, len(shape)) for term, shape in zip(terms, shapes, strict=True)])
    return Plan(
        labels,
        _output(output if arrow else None, labels),
        _sizes(labels, shapes),
        _pairs(subscripts, shapes),
    )
