"""PyTorch, eager, float64."""

from __future__ import annotations

import os
from functools import partial

import torch

from workloads import ba, gmm
from workloads.building import Called

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def prepare(workload, data, _way):
    """``torch.autograd.grad`` on tensors made once."""
    if workload.wanted == "jacobian":
        return _jacobian(data)
    function = partial(FUNCTIONS.get(workload.name, workload.objective), **data.static)
    variables = [torch.from_numpy(each.copy()).requires_grad_() for each in data.variables]
    constants = [torch.from_numpy(each) for each in data.constants]
    if workload.wanted == "newton":
        return Called(
            lambda: _direction(function, *variables, *constants),
            lambda found: [found.detach().numpy()],
        )

    def both():
        value = function(*variables, *constants)
        return value, *torch.autograd.grad(value, variables)

    return Called(both, lambda found: [each.detach().numpy() for each in found])


def _direction(cost, centroids, points):
    (slope,) = torch.autograd.grad(cost(centroids, points), centroids, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), centroids)
    return slope / curvature


def _residual(camera, point, weight, feature):
    offset = point - camera[3:6]
    angle = torch.sqrt(torch.sum(camera[:3] ** 2))
    axis = camera[:3] / angle
    cos, sin = torch.cos(angle), torch.sin(angle)
    turned = offset * cos + torch.linalg.cross(axis, offset) * sin
    turned = turned + axis * (torch.sum(axis * offset) * (1.0 - cos))
    p = turned[:2] / turned[2]
    rho = torch.sum(p * p)
    bend = 1.0 + camera[9] * rho + camera[10] * rho**2
    return weight * (camera[6] * (p * bend) + camera[7:9] - feature)


def _jacobian(data):
    blocks = torch.func.vmap(torch.func.jacrev(_residual, argnums=(0, 1, 2)))
    slopes = torch.func.vmap(torch.func.grad(ba.weight_error))

    def call():
        observed = [torch.from_numpy(each) for each in ba.observed(data)]
        found = [each.numpy() for each in blocks(*observed)]
        return ba.csr(data, *found, slopes(observed[2]).numpy())

    return Called(call, lambda found: found)


def _lse(x):
    return torch.logsumexp(x, 0)


def _llsq(x, n):
    t = torch.linspace(-1.0, 1.0, n, dtype=torch.float64)
    powers = t[:, None] ** torch.arange(len(x))
    return 0.5 * torch.sum((torch.sign(t) - powers @ x) ** 2)


def _kmeans(centroids, points):
    squares = torch.sum(points**2, dim=1)[:, None] + torch.sum(centroids**2, dim=1)
    squares = squares - 2.0 * (points @ centroids.T)
    return torch.sum(torch.amin(squares, dim=1))


def _gmm(alpha, mu, q, l, x, m, gamma):  # noqa: E741
    d = q.shape[1]
    factors = torch.diag_embed(torch.exp(q))
    rows, columns = (torch.from_numpy(each) for each in gmm.triangle(d))
    factors[:, rows, columns] = l
    moved = torch.einsum("kij,nkj->nki", factors, x[:, None, :] - mu)
    t = alpha + torch.sum(q, dim=1) - 0.5 * torch.sum(moved**2, dim=2)
    likelihood = torch.sum(torch.logsumexp(t, 1))
    return gmm.log_posterior(
        torch, likelihood, alpha, q, l, x, m, gamma, lambda t: torch.logsumexp(t, 0)
    )


def _lstm(main, extra, sequence):
    layers, bits = len(main) // 2, sequence.shape[1]
    weights = [main[2 * i].reshape(4, bits) for i in range(layers)]
    biases = [main[2 * i + 1].reshape(4, bits) for i in range(layers)]
    hidden = [torch.zeros(bits, dtype=torch.float64)] * layers
    cells = list(hidden)
    loss = 0.0
    for t in range(len(sequence) - 1):
        x = sequence[t] * extra[0]
        for i in range(layers):
            w, b, h = weights[i], biases[i], hidden[i]
            forget = torch.sigmoid(x * w[0] + b[0])
            ingate = torch.sigmoid(h * w[1] + b[1])
            outgate = torch.sigmoid(x * w[2] + b[2])
            cells[i] = cells[i] * forget + ingate * torch.tanh(h * w[3] + b[3])
            x = hidden[i] = outgate * torch.tanh(cells[i])
        y = x * extra[1] + extra[2]
        loss = loss + torch.sum(sequence[t + 1] * (y - torch.log(2.0 + torch.sum(torch.exp(y)))))
    return -loss / ((len(sequence) - 1) * bits)


def _ode(x, s):
    h, one = 2.0 / s, torch.ones(1, dtype=torch.float64)

    def rates(y):
        return x * torch.cat((one, y[:-1]))

    y = torch.zeros(len(x), dtype=torch.float64)
    for _ in range(s):
        k1 = rates(y)
        k2 = rates(y + 0.5 * h * k1)
        k3 = rates(y + 0.5 * h * k2)
        k4 = rates(y + h * k3)
        y = y + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return y[-1]


FUNCTIONS = {
    "lse": _lse,
    "llsq": _llsq,
    "kmeans": _kmeans,
    "gmm": _gmm,
    "lstm": _lstm,
    "ode": _ode,
}
