"""micrograd: the scalar engine that teaches, in pure Python."""

from __future__ import annotations

import math

import numpy as np
from micrograd.engine import Value

from functions import rosenbrock
from peers.base import Peer, Prepared


def tanh(x: Value) -> Value:
    """The engine has relu only; this is added the way its own operations are written."""
    value = math.tanh(x.data)
    result = Value(value, (x,), "tanh")

    def backward():
        x.grad += (1.0 - value * value) * result.grad

    result._backward = backward
    return result


class Micrograd(Peer):
    """``Value`` objects; its sort recurses, so that only short functions are within its reach."""

    title = "micrograd"
    how = "a list of Value objects; n = 3 only, since its topological sort recurses"
    largest = 3

    def rosenbrock(self, x):
        numbers = [float(each) for each in x]

        def both():
            variables = [Value(each) for each in numbers]
            value = rosenbrock.value_of_scalars(variables)
            value.backward()
            return value.data, [each.grad for each in variables]

        return Prepared(both, lambda found: (found[0], np.array(found[1])))

    def recording(self, body, values):
        if not all(isinstance(value, float) for value in values):
            return None
        return lambda: body(*[Value(value) for value in values])

    def sweep(self, function, values, wanted):
        variables = [Value(value) for value in values]
        result = function(variables, tanh)
        nodes, asked = reachable(result), variables[-wanted:]

        def call():
            for node in nodes:
                node.grad = 0.0
            result.backward()
            return [each.grad for each in asked]

        return Prepared(call, lambda found: (result.data, np.array(found)))


def reachable(result: Value) -> list[Value]:
    """Every node below `result`; their gradients must be cleared before a second sweep."""
    found, waiting = {result}, [result]
    while waiting:
        fresh = waiting.pop()._prev - found
        found |= fresh
        waiting += fresh
    return list(found)


def contenders() -> list[Peer]:
    """micrograd has one way."""
    return [Micrograd()]
