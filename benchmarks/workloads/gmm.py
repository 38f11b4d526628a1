"""gmm: the log posterior of a Gaussian mixture with a Wishart prior."""

from __future__ import annotations

import math

import numpy

from workloads.problem import SEED, Data, Workload

POINTS, M, GAMMA = 1000, 0, 1.0


def triangle(d):
    """Rows and columns of the strictly lower triangle, column by column."""
    columns, rows = numpy.triu_indices(d, 1)
    return rows, columns


def factors(q, l):  # noqa: E741 - its name in the literature
    """Q: exp q on the diagonal, l below it, column by column."""
    k, d = q.shape
    result = numpy.zeros_like(q, shape=(k, d, d))
    every = numpy.arange(d)
    result[:, every, every] = numpy.exp(q)
    rows, columns = triangle(d)
    result[:, rows, columns] = l
    return result


def log_multigamma(x, d):
    """The logarithm of the multivariate gamma function."""
    return 0.25 * d * (d - 1) * math.log(math.pi) + sum(math.lgamma(x - 0.5 * j) for j in range(d))


def logsumexp_in(np):
    """Along an axis, without overflow."""

    def logsumexp(t, axis=0):
        top = np.amax(t, axis=axis)
        return top + np.log(np.sum(np.exp(t - np.expand_dims(top, axis)), axis=axis))

    return logsumexp


def log_posterior(np, likelihood, alpha, q, l, x, m, gamma, logsumexp=None):  # noqa: E741
    """What is left to do after the sum over the points."""
    (n, d), k = x.shape, len(alpha)
    likelihood = likelihood - n * (logsumexp or logsumexp_in(np))(alpha)
    prior = 0.5 * gamma**2 * (np.sum(np.exp(q) ** 2) + np.sum(l**2)) - m * np.sum(q)
    freedom = d + m + 1
    constant = freedom * d * (math.log(gamma) - 0.5 * math.log(2.0))
    constant -= log_multigamma(0.5 * freedom, d)
    return -0.5 * n * d * math.log(2.0 * math.pi) + likelihood - prior + k * constant


def objective_in(np, factors):
    """The function with NumPy, or what stands in for it, and its way to write a triangle."""

    def gmm(alpha, mu, q, l, x, m, gamma):  # noqa: E741
        moved = np.einsum("kij,nkj->nki", factors(q, l), x[:, None, :] - mu)
        t = alpha + np.sum(q, axis=1) - 0.5 * np.sum(moved**2, axis=2)
        likelihood = np.sum(logsumexp_in(np)(t, axis=1))
        return log_posterior(np, likelihood, alpha, q, l, x, m, gamma)

    return gmm


def log_mixture(x, weights, mu, q):
    """The density of one point, for those who write it so."""
    moved = numpy.einsum("kij,kj->ki", q, x - mu)
    return logsumexp_in(numpy)(weights - 0.5 * numpy.sum(moved**2, axis=1))


def data(size):
    """1000 points, and the parameters drawn in the order of the publication."""
    d, k, n = (*size, POINTS)[:3]
    generator = numpy.random.default_rng(SEED)
    x, alpha = generator.normal(size=(n, d)), generator.normal(size=k)
    mu, q = generator.uniform(size=(k, d)), generator.normal(size=(k, d))
    l = generator.normal(size=(k, d * (d - 1) // 2))  # noqa: E741
    static = {"m": M, "gamma": GAMMA}
    return Data((alpha, mu, q, l), (x,), static, lengths=(d, k, n))


WORKLOAD = Workload(
    "gmm",
    "log posterior of a mixture of k Gaussians in d dimensions, 1000 points",
    sizes=((2, 5), (10, 25), (32, 50)),
    small=(3, 4, 7),
    data=data,
    objective=objective_in(numpy, factors),
)
