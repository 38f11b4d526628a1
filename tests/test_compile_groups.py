"""Irregular scalars in `fad.compile`: groups of one op, at the numbers of the function itself."""

import time

import numpy as np
import pytest

import fastad as fad

FORMS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: np.sin(a) * b,
    "scaled": lambda a, b: 0.7 * a,
    "sin": lambda a, b: np.sin(a),
    "tanh": lambda a, b: np.tanh(a),
    "power": lambda a, b: (2.0 + np.cos(a)) ** 1.5,
    "quotient": lambda a, b: a / (2.0 + b * b),
    "largest": lambda a, b: np.maximum(a, 0.5 * b),
    "clipped": lambda a, b: np.minimum(np.abs(a), 1.0 + b),
    "hypot": lambda a, b: np.hypot(a, 1.0 + b * b),
}


def tangle(seed, width, count):
    """A function of `width` scalars that is `count` operations without a loop in them."""
    rng = np.random.default_rng(seed)
    forms = rng.choice(list(FORMS), size=count).tolist()
    strands = rng.integers(width, size=count).tolist()
    others = rng.integers(width + np.arange(count)).tolist()

    def function(x):
        pool = list(x)
        values = list(pool)
        for form, strand, other in zip(forms, strands, others, strict=True):
            pool[strand] = FORMS[form](pool[strand], values[other])
            values.append(pool[strand])
        return sum(pool[1:], pool[0])

    return function


def point(seed, width):
    return np.random.default_rng(seed).uniform(-1, 1, width)


def check(f, x, strict=False):
    """The program of value and gradient, after both were compared with those of the function."""
    both = fad.value_and_grad(fad.compile(f, strict=strict))
    expected = fad.value_and_grad(f)(x)
    both(x)
    value, gradient = both(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-11)
    scale = np.max(np.abs(expected[1]))
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-10 * scale)
    return both.program(x)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("seed", "width", "count"),
    [(0, 20, 300), (1, 60, 1500), (2, 300, 3000), (3, 40, 3000)],
)
def test_irregular_scalars_are_groups(seed, width, count, strict):
    program = check(tangle(seed, width, count), point(seed, width), strict)
    assert program.groups > 0
    assert program.groups < program.scalars / 4
    assert "groups, " in program.text()


def test_strict_keeps_the_bits():
    f, x = tangle(4, 60, 1500), point(4, 60)
    compiled = fad.compile(f, strict=True)
    compiled(x)
    assert compiled.program(x).groups > 0
    assert compiled(x) == f(x.tolist())


def test_no_rolled_rest_where_little_rolls():
    """A pass that finds a run here and there costs more than it saves."""
    program = check(tangle(5, 100, 3000), point(5, 100))
    assert program.instructions <= 2


@pytest.mark.parametrize("strict", [False, True])
def test_groups_beside_arrays_loops_and_guards(strict):
    inner = tangle(6, 40, 600)

    def f(x):
        y = np.tanh(x) * 0.5
        z = inner(y)
        if z > 1e9:
            z = -z
        w = z
        for k in range(300):  # a recurrence between two tangles
            w = np.sin(w + y[k % 40])
        stacked = np.stack([w * y[i] for i in (3, 1, 4, 1, 5)])
        return inner(np.sin(y) + w) + np.sum(stacked**2)

    program = check(f, point(6, 40), strict)
    assert program.groups > 0
    assert program.guards == 1


def test_second_derivatives():
    f, x = tangle(7, 10, 80), point(7, 10)
    v = point(8, 10)
    compiled = fad.compile(f)
    np.testing.assert_allclose(fad.hvp(compiled, x, v), fad.hvp(f, x, v), rtol=1e-8, atol=1e-9)


def test_other_values():
    """The program is for any point, special values included."""
    f, x = tangle(9, 40, 900), point(9, 40)
    compiled = fad.compile(f)
    compiled(x)
    assert compiled.program(x).groups > 0
    for special in (0.0, -0.0, np.inf, np.nan, 1e300):
        y = x.copy()
        y[7] = special
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(compiled(y), f(list(y)), rtol=1e-11)
    assert compiled.cache_info().recordings == 1


def test_saved_and_drawn():
    f, x = tangle(10, 40, 600), point(10, 40)
    program = fad.value_and_grad(fad.compile(f)).program(x)
    data = program.to_bytes()
    loaded = fad.Program.from_bytes(data)
    assert loaded.to_bytes() == data
    assert loaded.text() == program.text()
    for found, expected in zip(loaded(x), program(x), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "groups, " in program.draw()


def test_each_group_reads_what_was_written_before():
    """By the schedule's account of memory: all that a step reads is constant or was a result."""
    program = fad.compile(tangle(11, 40, 900)).program(point(11, 40))
    written, read_too_early = set(), []
    for text, _, reads, writes in program.schedule():
        for base, begin, end in reads:
            if base == "work" and not text.startswith("region"):
                read_too_early += [k for k in range(begin, end, 8) if k not in written]
        for base, begin, end in writes:
            if base == "work":
                written.update(range(begin, end, 8))
    constants = min(written)
    assert all(k < constants for k in read_too_early)


def test_grouping_costs_by_the_node():
    """Twice the nodes, about twice the time to compile: nothing is sorted or searched."""
    times = []
    for count in (8_000, 32_000):
        f, x = tangle(12, 100, count), point(12, 100)
        best = np.inf
        for _ in range(3):
            start = time.perf_counter()
            fad.compile(f).program(x)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    assert times[1] < 12 * times[0]
