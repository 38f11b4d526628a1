"""Derivatives held against finite differences of the value, in both modes, to any order."""

import numpy as np

from fastad._containers import flatten, unflatten
from fastad.transforms import jvp, vjp

__all__ = ["check_grads"]

# By precision: step, absolute and relative tolerance. The differences are of fourth order: the best
# step is about the fifth root of the rounding error.
_SINGLE = (4e-2, 1e-2, 1e-2)
_DOUBLE = (1e-3, 1e-6, 1e-6)


def check_grads(f, args, order=1, modes=("fwd", "rev"), eps=None, atol=None, rtol=None, seed=0):
    """Hold the derivatives of `f` against finite differences of its value.

    Every argument is moved along a random direction, one after the other. Forward mode must give
    the difference quotient of each element of the output, reverse mode that of the output's product
    with a random cotangent. For higher orders the functions that compute these derivatives are
    checked in turn, so that every nesting of the modes is tried.

    Parameters
    ----------
    f : callable
        Returns a number, an array, or a nested container of them.
    args : tuple
        Arguments of `f`: numbers, arrays or nested containers of them, all differentiated.
    order : int, default 1
        Highest order to check. The work grows with ``len(modes)**order``.
    modes : sequence of str, default ("fwd", "rev")
        ``"fwd"`` (`jvp`), ``"rev"`` (`vjp`), or both.
    eps : float, optional
        Step of the central differences, for arguments of size 1 and below; it grows with an
        argument's largest element. Default 1e-3, with float32 4e-2. The function is evaluated up to
        two steps from `args`.
    atol, rtol : float, optional
        Tolerances: numbers a and b agree if ``abs(a - b) <= atol + rtol * max(abs(a), abs(b))``.
        Default 1e-6, with float32 1e-2.
    seed : int, default 0
        Of the random directions and cotangents.

    Raises
    ------
    AssertionError
        Where they disagree or are not finite: names mode, order, argument and the two numbers.

    Notes
    -----
    The differences D(h) are extrapolated, (4 D(h) - D(2h)) / 3, so that their error is O(h**4). At
    a kink (ties of ``np.maximum``, ``abs`` at 0) they give the mean of both sides.

    Examples
    --------
    >>> fad.check_grads(lambda x, y: np.sum(np.sin(x) * y), (np.array([0.5, 2.0]), 3.0), order=2)
    >>> class Wrong(fad.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return np.sin(x)
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g
    >>> fad.check_grads(Wrong.apply, (1.0,), modes=["rev"])
    Traceback (most recent call last):
    ...
    AssertionError: check_grads: rev, order 1, argument 0: ...
    """
    modes = _modes(modes)
    if order < 1:
        raise ValueError(f"order: expected 1 or more, got {order}")
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args: expected a tuple of arguments, got {type(args).__name__}")
    flat = _Flat(f, args)
    defaults = _SINGLE if any(x.dtype == np.float32 for x in flat.leaves) else _DOUBLE
    given = (eps, atol, rtol)
    settings = [d if g is None else g for g, d in zip(given, defaults, strict=True)]
    rng = np.random.default_rng(seed)
    _check(flat, flat.leaves, order, modes, rng, settings, "")


def _modes(modes):
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not modes or set(modes) - {"fwd", "rev"}:
        raise ValueError(f"modes: expected 'fwd', 'rev' or both, got {modes}")
    return modes


class _Flat:
    """`f` as a function of the leaves of its arguments that gives a leaf, or a tuple of them."""

    def __init__(self, f, args):
        flattened = [flatten(arg) for arg in args]
        self.f = f
        self.structures = [(structure, len(leaves)) for leaves, structure in flattened]
        self.leaves = [_floating(leaf) for leaves, _ in flattened for leaf in leaves]
        self.names = [
            f"argument {k}" + (f", leaf {i}" if structure is not None else "")
            for k, (leaves, structure) in enumerate(flattened)
            for i in range(len(leaves))
        ]

    def __call__(self, *leaves):
        args, at = [], 0
        for structure, count in self.structures:
            args.append(unflatten(structure, leaves[at : at + count]))
            at += count
        leaves, structure = flatten(self.f(*args))
        return leaves[0] if structure is None else tuple(leaves)


def _floating(leaf):
    """An array of floats of its own."""
    leaf = np.array(leaf)
    return leaf if leaf.dtype == np.float32 else leaf.astype(float)


def _several(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _plain(leaves):
    """0-d arrays as the numbers they stand for."""
    return tuple(leaf[()] for leaf in leaves)


# --- directions and differences ----------------------------------------------------------------


def _random(rng, like):
    """No element near 0, so that none can hide: 0.5 to 1 of either sign, in the type of `like`."""
    shape = np.shape(like)
    values = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)
    dtype = np.asarray(like).dtype
    return np.asarray(values, dtype if dtype.kind == "f" else float)


def _along(leaves, direction, k):
    """Tangents that move leaf k along `direction`, and no other."""
    return [direction if i == k else np.zeros_like(x) for i, x in enumerate(leaves)]


def _quotient(g, leaves, tangents, step):
    """Derivative of g along the tangents by differences, for each output, in double precision."""

    def at(h):
        moved = [np.asarray(x + h * t, x.dtype) for x, t in zip(leaves, tangents, strict=True)]
        return [np.asarray(y, float) for y in _several(g(*_plain(moved)))]

    def central(h):
        return [(b - a) / (2 * h) for a, b in zip(at(-h), at(h), strict=True)]

    return [(4 * a - b) / 3 for a, b in zip(central(step), central(2 * step), strict=True)]


def _step(eps, leaf):
    return eps * max(1.0, float(np.max(np.abs(leaf), initial=0.0)))


# --- one order and the next --------------------------------------------------------------------


def _check(g, leaves, order, modes, rng, settings, path):
    """Check g, a function of leaves, and then its derivatives as such functions.

    `path` says how g came about: the modes of the orders below, the last one first.
    """
    eps, atol, rtol = settings
    names = g.names
    outputs = g(*_plain(leaves))
    directions = [_random(rng, x) for x in leaves]
    cotangents = _plain(_random(rng, y) for y in _several(outputs))
    if not isinstance(outputs, tuple):
        (cotangents,) = cotangents
    for k, direction in enumerate(directions):
        tangents = _along(leaves, direction, k)
        expected = _quotient(g, leaves, tangents, _step(eps, leaves[k]))
        for mode in modes:
            found = _MODES[mode](g, leaves, tangents, cotangents)
            wanted = expected if mode == "fwd" else [_product(_several(cotangents), expected)]
            where = f"check_grads: {mode}{path}, order {path.count(' of ') + 1}, {names[k]}"
            _compare(found, wanted, atol, rtol, where)
    if order > 1:
        for mode in modes:
            derivative = _Derivative(g, mode, directions, cotangents)
            _check(derivative, leaves, order - 1, modes, rng, settings, f" of {mode}{path}")


def _product(left, right):
    """Sum of the products of two sequences of arrays, or recorded ones."""
    return sum(np.sum(a * b) for a, b in zip(left, right, strict=True))


def _forward(g, leaves, tangents, cotangents):
    return _several(jvp(g, _plain(leaves), _plain(tangents))[1])


def _reverse(g, leaves, tangents, cotangents):
    return [_product(vjp(g, *_plain(leaves))[1](cotangents), tangents)]


_MODES = {"fwd": _forward, "rev": _reverse}


class _Derivative:
    """Derivative of g along fixed directions: as it is, or, by reverse mode, of <cotangents, g>."""

    def __init__(self, g, mode, directions, cotangents):
        self.g, self.mode, self.names = g, mode, g.names
        self.directions, self.cotangents = _plain(directions), cotangents

    def __call__(self, *leaves):
        if self.mode == "fwd":
            return jvp(self.g, leaves, self.directions)[1]
        return _product(vjp(self.g, *leaves)[1](self.cotangents), self.directions)


def _compare(found, expected, atol, rtol, where):
    """Raise AssertionError for the element that is farthest off."""
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = np.asarray(a, float), np.asarray(b, float)
        if a.shape != b.shape:
            raise AssertionError(f"{where}: shape {a.shape}, finite differences give {b.shape}")
        allowed = atol + rtol * np.maximum(np.abs(a), np.abs(b))
        with np.errstate(invalid="ignore"):
            excess = np.nan_to_num(np.abs(a - b) - allowed, nan=np.inf)
        if np.any(excess > 0):
            at = np.unravel_index(np.argmax(excess), a.shape)
            place = f"output {i}{[int(j) for j in at] if at else ''}"
            numbers = f"{float(a[at])!r}, finite differences give {float(b[at])!r}"
            raise AssertionError(f"{where}: {place}: {numbers}")
