"""CasADi: the function is built once as a graph of scalars or matrices, evaluated into buffers."""

from __future__ import annotations

from itertools import pairwise

import casadi as ca
import numpy as np

from workloads import lstm
from workloads.building import Called
from workloads.contenders import UnableError


def prepare(workload, data, _way):
    """``Function`` of value and gradient."""
    if workload.name not in FUNCTIONS:
        raise UnableError("needs arrays of three dimensions")
    symbol, function = FUNCTIONS[workload.name]
    shapes = [(1, *each.shape)[-2:] for each in data.variables]
    symbols = [symbol.sym("x", rows, columns) for rows, columns in shapes]
    value = function(*symbols, *data.constants, **data.static)
    slopes = [ca.gradient(value, each) for each in symbols]
    compiled = ca.Function("f", symbols, [value, *slopes])
    buffer, evaluate = compiled.buffer()
    # CasADi's matrices lie column by column.
    pairs = zip(data.variables, shapes, strict=True)
    points = [np.array(each).reshape(shape).ravel("F") for each, shape in pairs]
    outputs = [np.zeros(1), *(np.zeros_like(each) for each in points)]
    for index, each in enumerate(points):
        buffer.set_arg(index, memoryview(each))
    for index, each in enumerate(outputs):
        buffer.set_res(index, memoryview(each))

    def call(_alive=(compiled, buffer, points)):
        evaluate()
        return outputs

    def read(found):
        value, *slopes = found
        shaped = [
            each.reshape(shape, order="F") for each, shape in zip(slopes, shapes, strict=True)
        ]
        pairs = zip(shaped, data.variables, strict=True)
        return [value[0], *(each.reshape(like.shape) for each, like in pairs)]

    return Called(call, read)


def _lse(x):
    top = ca.mmax(x)
    return ca.log(ca.sum2(ca.exp(x - top))) + top


def _llsq(x, n):
    t = np.linspace(-1.0, 1.0, n)
    powers = t[:, None] ** np.arange(x.shape[1])
    return 0.5 * ca.sumsqr(np.sign(t) - powers @ x.T)


def _det(a, ell):
    def determinant(rows):
        first, *others = rows
        if not others:
            return first[0]
        total = 0.0
        for j, entry in enumerate(first):
            term = entry * determinant([row[:j] + row[j + 1 :] for row in others])
            total = total + term if j % 2 == 0 else total - term
        return total

    entries = ca.horzsplit(a)
    return determinant([entries[i * ell : (i + 1) * ell] for i in range(ell)])


def _ode(x, s):
    h = 2.0 / s

    def rates(y):
        return x * ca.horzcat(1.0, y[:-1])

    y = ca.DM.zeros(x.shape)
    for _ in range(s):
        k1 = rates(y)
        k2 = rates(y + 0.5 * h * k1)
        k3 = rates(y + 0.5 * h * k2)
        k4 = rates(y + h * k3)
        y = y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return y[-1]


def _lstm(main, extra, sequence):
    layers, bits = main.shape[0] // 2, lstm.BITS

    def gates(row):
        return [main[row, bits * gate : bits * (gate + 1)] for gate in range(4)]

    def sigmoid(x):
        return 1.0 / (1.0 + ca.exp(-x))

    hidden, cells = [ca.DM.zeros(1, bits)] * layers, [ca.DM.zeros(1, bits)] * layers
    loss = 0.0
    for now, following in pairwise(sequence):
        x = now[None, :] * extra[0, :]
        for i in range(layers):
            w, b, h = gates(2 * i), gates(2 * i + 1), hidden[i]
            forget, outgate = sigmoid(x * w[0] + b[0]), sigmoid(x * w[2] + b[2])
            cells[i] = cells[i] * forget + sigmoid(h * w[1] + b[1]) * ca.tanh(h * w[3] + b[3])
            x = hidden[i] = outgate * ca.tanh(cells[i])
        y = x * extra[1, :] + extra[2, :]
        loss = loss + ca.sum2(following[None, :] * (y - ca.log(2.0 + ca.sum2(ca.exp(y)))))
    return -loss / ((len(sequence) - 1) * bits)


FUNCTIONS = {
    "lse": (ca.MX, _lse),
    "llsq": (ca.MX, _llsq),
    "det": (ca.SX, _det),
    "ode": (ca.MX, _ode),
    "lstm": (ca.MX, _lstm),
}
