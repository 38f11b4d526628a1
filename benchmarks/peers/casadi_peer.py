"""CasADi: the function is built once as a graph, then evaluated through its buffer interface."""

from __future__ import annotations

import casadi as ca
import numpy as np

from peers.base import Peer, Prepared


def _rosenbrock(x):
    return ca.sum1(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


class CasadiSX(Peer):
    """Scalar graph (SX)."""

    title = "CasADi SX"
    how = "Function built once, not timed; evaluated into preallocated buffers"
    records_each_call = False
    largest = 10**4
    symbol = ca.SX

    def rosenbrock(self, x):
        symbols = self.symbol.sym("x", len(x))
        value = _rosenbrock(symbols)
        function = ca.Function("f", [symbols], [value, ca.gradient(value, symbols)])
        buffer, evaluate = function.buffer()
        point, outputs = x.copy(), (np.zeros(1), np.zeros(len(x)))
        buffer.set_arg(0, memoryview(point))
        for index, output in enumerate(outputs):
            buffer.set_res(index, memoryview(output))

        def call(_alive=(function, buffer, point)):
            evaluate()
            return outputs

        return Prepared(call, lambda found: (float(found[0][0]), found[1]))

    def recording(self, body, values):
        if not all(isinstance(value, float) for value in values):
            return None
        symbols = [ca.SX.sym("v") for _ in values]
        return lambda: body(*symbols)


class CasadiMX(CasadiSX):
    """Matrix graph (MX): the faster of the two for long vectors."""

    title = "CasADi MX"
    largest = 10**6
    symbol = ca.MX

    def recording(self, body, values):
        return None


def contenders() -> list[Peer]:
    """Both graph types."""
    return [CasadiSX(), CasadiMX()]
