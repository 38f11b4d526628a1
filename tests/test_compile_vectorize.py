"""Long loops over scalars: found in the recording, and made arrays of their turns.

Compiled functions are compared with themselves on floats, at points that they were not recorded
at: bit for bit when strict. Derivatives are compared with complex steps of the plain function
where it allows, and with the one-shot gradient.
"""

import cmath
import math

import numpy as np
import pytest

import fastad as fad
from fastad._core import Recorder, SpareMemory
from fastad._program import Trace
from fastad._record import recording

TURNS = 300  # of bodies of 15 nodes and more: csrc/vectorize_find.c wants 4096 nodes


def traced(f, x):
    """The trace of a function of an array that gives a number."""
    recorder = Recorder()
    recorder.open()
    recorder.trace()
    with recording(recorder):
        given = recorder.input(x)
        output = f(given)
    trace = Trace.of(recorder, [given.node], [output.node], recorder.guards)
    recorder.close()
    return trace


def vectorized(f, x):
    """What the pass makes of its trace; None: nothing."""
    trace = traced(f, x)
    after = trace.through("vectorize", True)
    return None if after is trace else after


def sin(x):
    return (
        math.sin(x)
        if isinstance(x, float)
        else cmath.sin(x)
        if isinstance(x, complex)
        else np.sin(x)
    )


def follow(a, b, c):
    """Sixteen operations."""
    for _ in range(2):
        a, b = a + 0.1 * b, b - 0.1 * sin(a)
    return a * c + b * b - (a - b) / (2.0 + c * c)


def elements(x):
    total = 0.0
    for k in range(0, 3 * TURNS, 3):
        total = total + follow(x[k], x[k + 1], x[k + 2])
    return total


def backwards(x):
    total = 0.0
    for k in range(3 * TURNS - 1, 1, -3):
        total = total + follow(x[k], x[k - 1], x[k - 2])
    return total


def one_of_all_turns(x):
    """What is the same in all turns is computed in each, and one element is read in each."""
    total = 0.0
    for k in range(TURNS):
        total = total + follow(x[k], x[1] * x[2] + 1.0, x[0] * 0.5)
    return total


def own_constants(x):
    total = 0.0
    for k in range(TURNS):
        total = total + follow(x[k], x[k + 1] * (k % 7 + 0.25), 1.0 + 0.01 * k * x[k])
    return total


def same_constant_made_anew(x):
    """More constants than the tape remembers."""
    total = 0.0
    for k in range(TURNS):
        y = follow(x[k], x[k + 1], 0.5)
        for c in range(80):
            y = y * (1.0 + 0.001 * c)
        total = total + y
    return total


def before_and_after(x):
    a = [x[k] * x[k] + 1.0 for k in range(5)]
    total = a[0] * a[3]
    for k in range(TURNS):
        total = total + follow(x[k] * a[1], x[k + 1], a[2])
    return total * a[4] + sin(total) / a[1]


def elements_made_before(x):
    numbers = [x[k] for k in range(2 * TURNS)]
    total = 0.0
    for k in range(TURNS):
        total = total + follow(numbers[k], numbers[2 * k], numbers[7])
    return total


def kept(x):
    """Results of turns, used after the loop, one by one and all together."""
    results = [follow(x[k], x[k + 1], x[k + 2]) for k in range(TURNS)]
    return results[0] * results[-1] + results[10] * sum(results[5:9]) - sum(results[::-1])


def choices(x):
    total = 0.0
    for k in range(TURNS):
        a = follow(x[k], x[k + 1], x[k + 2])
        chosen = (a if a > 0.3 else -2.0 * a) if is_plain(a) else np.where(a > 0.3, a, -2.0 * a)
        larger = (max(a, x[k])) if is_plain(a) else np.maximum(a, x[k])
        total = total + chosen * larger
    return total


def truth_as_number(x):
    total = 0.0
    for k in range(TURNS):
        a = follow(x[k], x[k + 1], x[k + 2])
        above = float(a.real > 0.3) if is_plain(a) else np.where(a > 0.3, 1.0, 0.0)
        total = total + a * above
    return total


def side_by_side(x):
    """Two sums that run on, one of them of the other."""
    total, weighted = 0.0, 1.0
    for k in range(TURNS):
        a = follow(x[k], x[k + 1], x[k + 2])
        total = total + a
        weighted = weighted + 0.001 * total * a
    return weighted


def two_back(x):
    """A turn reads the sums of the last two."""
    older, old = x[0], x[1]
    for k in range(TURNS):
        older, old = old, 0.5 * old + 0.25 * older + follow(x[k], x[k + 1], x[k + 2])
    return old * older


def looks_like_the_body(x):
    """Nodes before the loop, with the ops that its body ends in."""
    total = x[3] + (x[0] * 0.5 - x[1] / 3.0)
    for k in range(TURNS):
        total = total + (follow(x[k], x[k + 1], x[k + 2]) - x[k] / 3.0)
    return total


def breaks_off(x):
    """The last turns are others."""
    total = 0.0
    for k in range(TURNS):
        a = follow(x[k], x[k + 1], x[k + 2])
        total = total + (a if k < TURNS - 20 else a * a)
    return total


def crosswise(x):
    """The same ops in all turns, and other operands in odd ones."""
    total = 0.0
    for k in range(TURNS):
        a, b = (x[k], x[k + 1]) if k % 2 else (x[k + 1], x[k])
        a = follow(a, b, x[k])
        b = follow(a, x[k + 2], x[k]) if k % 2 else follow(x[k + 2], a, x[k])
        total = total + a * b
    return total


def turned(x, odd=lambda k: k % 2):
    """Every other turn reads what it computed in another order."""
    total = 0.0
    for k in range(TURNS):
        a, b, c = x[k], x[k + 1], x[k + 2]
        p, q = follow(a, b, c), follow(c, a, b)
        total = total + (p / (2.0 + q * q) if odd(k) else q / (2.0 + p * p))
    return total


def turned_late(x):
    return turned(x, lambda k: k == TURNS - 9)


def turned_early(x):
    return turned(x, lambda k: k == 1)


def is_plain(x):
    return isinstance(x, (float, complex))


WHOLE = {f.__name__: f for f in (
    elements, backwards, one_of_all_turns, own_constants, same_constant_made_anew, kept, choices,
    before_and_after, elements_made_before, truth_as_number, side_by_side, two_back, breaks_off,
    looks_like_the_body, crosswise, turned, turned_late,
)}  # fmt: skip
SMOOTH = set(WHOLE) - {"choices", "truth_as_number"}


def point(seed=1):
    return np.random.default_rng(seed).normal(size=3 * TURNS + 2)


@pytest.mark.parametrize("name", WHOLE)
def test_loops_are_found(name):
    after = vectorized(WHOLE[name], point())
    assert after is not None
    after.verify()
    assert len(after) < len(traced(WHOLE[name], point())) / 3
    fewer = ("breaks_off", "looks_like_the_body", "crosswise", "turned", "turned_late")
    assert f"f64[{TURNS}]" in after.dump() or name in fewer


@pytest.mark.parametrize("name", WHOLE)
def test_values_are_those_of_the_function(name):
    f = WHOLE[name]
    strict, loose = fad.compile(f, strict=True), fad.compile(f)
    for seed in (1, 2, 3):
        x = point(seed)
        assert strict(x) == fad.vjp(f, x)[0]
        np.testing.assert_allclose(loose(x), f(x.tolist()), rtol=1e-11)


@pytest.mark.parametrize("name", WHOLE)
def test_gradients(name):
    f = WHOLE[name]
    compiled = fad.grad(fad.compile(f))
    compiled(point(9))
    x = point(4)
    found = compiled(x)
    np.testing.assert_allclose(found, fad.grad(f)(x), rtol=1e-9, atol=1e-11)
    if name in SMOOTH:
        for k in (0, 1, 2, 3, 7, TURNS - 1, TURNS, TURNS + 1, 2 * TURNS, 3 * TURNS - 1):
            moved = x.astype(complex)
            moved[k] += 1e-30j
            slope = f(moved.tolist()).imag / 1e-30
            np.testing.assert_allclose(found[k], slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["elements", "own_constants", "two_back"])
def test_higher_orders(name):
    f = fad.compile(WHOLE[name])
    x, v = point(5), point(6)
    step = 1e-6
    gradient = fad.grad(WHOLE[name])
    slope = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    np.testing.assert_allclose(fad.hvp(f, x, v), slope, rtol=2e-6, atol=2e-6 * np.max(abs(slope)))


def test_guards_inside_of_the_loop():
    def f(x):
        total = 0.0
        for k in range(TURNS):
            a = follow(x[k], x[k + 1], x[k + 2])
            if a > -1e3:
                total = total + a
        return total

    compiled = fad.compile(f)
    for seed in (1, 2):
        np.testing.assert_allclose(compiled(point(seed)), f(point(seed).tolist()), rtol=1e-12)
    assert compiled.cache_info().recordings == 1
    x = point(3)
    x[30] = 1e9
    x[31] = -1e12
    np.testing.assert_allclose(compiled(x), f(x.tolist()), rtol=1e-12)  # another path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 0.0])
def test_special_values(value):
    def f(x):
        total = 0.0
        for k in range(TURNS):
            a = x[k] * 2.0 + 1.0 - x[k] / 3.0
            for _ in range(5):
                a = np.maximum(a * x[k + 1], np.where(a > 0.5, a, x[k]))
            total = total + a
        return total

    x = point(7)
    x[[0, 5, TURNS]] = value
    strict = fad.compile(f, strict=True)
    strict(point(8))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(strict(x), fad.vjp(f, x)[0])
        found, right = fad.grad(strict)(x), fad.grad(f)(x)
    np.testing.assert_allclose(found, right, rtol=1e-9)


def nest(x):
    """Rows end: no element is read at equal distances."""
    total = 0.0
    for i in range(40):
        for j in range(40):
            k = 41 * i + j
            total = total + (x[k] * x[k + 1] - x[k + 41] * x[k + 42]) / (2.0 + x[k] * x[k])
    return total


def recurrence(x):
    y = x[0]
    for k in range(1000):
        y = sin(y * 0.9 + x[k] * 0.1) + 0.5 * y
    return y


def few_used(x):
    """An array lives as a whole: what nobody reads of it would be computed too."""
    results = [follow(x[k], x[k + 1], x[2 * k]) for k in range(TURNS)]
    return results[0] * results[1]


def rows_end(x):
    """Every hundredth turn does more: a loop of long turns, which are short arrays."""
    total = 0.0
    for k in range(70 * 100):
        total = total + follow(x[k % 1000], x[k % 999], 0.5)
        if k % 100 == 0:
            total = total * 0.99
    return total


def of_float32(x):
    return elements(x.astype(np.float32))


@pytest.mark.parametrize("f", [nest, recurrence, few_used, rows_end, of_float32, turned_early])
def test_what_is_better_rolled_is_left(f):
    x = np.random.default_rng(2).normal(size=1800)
    assert vectorized(f, x) is None
    np.testing.assert_allclose(fad.compile(f)(x), fad.vjp(f, x)[0], rtol=1e-6)
    np.testing.assert_allclose(fad.grad(fad.compile(f))(x), fad.grad(f)(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 20, 63, 64, 65, 130])
def test_few_turns(count):
    def f(x):
        total = x[0]
        for k in range(count):
            for _ in range(4):
                total = total + follow(x[k], x[k + 1], x[k + 2])
        return total

    x = point(3)
    np.testing.assert_allclose(fad.compile(f)(x), f(x.tolist()), rtol=1e-12)
    np.testing.assert_allclose(fad.grad(fad.compile(f))(x), fad.grad(f)(x), rtol=1e-10, atol=1e-12)


# --- random bodies -------------------------------------------------------------------------------


class Body:
    """A random loop: what each turn does is drawn once, where its operands come from as well."""

    def __init__(self, rng):
        self.turns = int(rng.integers(64, 200))
        self.length = int(rng.integers(30, 90))
        self.steps = [self._step(rng, i) for i in range(self.length)]
        self.carried = int(rng.integers(1, 4))
        self.before, self.after = int(rng.integers(0, 12)), int(rng.integers(0, 12))
        self.broken = int(rng.integers(0, self.turns)) if rng.random() < 0.2 else None

    def _step(self, rng, i):
        kind = rng.choice(["add", "mul", "sub", "sin", "div", "max"])
        operands = [self._operand(rng, i) for _ in range(2)]
        return kind, operands

    def _operand(self, rng, i):
        kind = rng.choice(["own", "own", "own", "element", "number", "counted", "outer", "last"],
                          p=[0.25, 0.2, 0.2, 0.15, 0.07, 0.055, 0.07, 0.005])  # fmt: skip
        if kind == "own" and i == 0:
            kind = "element"
        return kind, int(rng.integers(0, max(i, 1))), int(rng.integers(1, 4)), float(rng.normal())

    def __call__(self, x):
        outer = [x[k] * 0.5 + sin(x[k + 1]) for k in range(4)]
        for k in range(self.before):
            outer[k % 4] = outer[k % 4] * x[k] - 0.3
        sums = [x[0] + 0.0 for _ in range(self.carried)]
        last = [outer[0]] * self.length
        for turn in range(self.turns):
            own = []
            for kind, operands in self.steps:
                a, b = (self._read(x, turn, own, outer, last, o) for o in operands)
                own.append(self._apply(kind, a, b))
            if turn == self.broken:
                own[-1] = own[-1] * 1.5
            for c in range(self.carried):
                sums[c] = sums[c] + 0.01 * own[-1 - c]
            last = own
        for k in range(self.after):
            sums[0] = sums[0] * 0.9 + last[k]
        total = sums[0]
        for each in sums[1:]:
            total = total + each
        return total

    @staticmethod
    def _read(x, turn, own, outer, last, operand):
        kind, which, stride, number = operand
        if kind == "own":
            return own[which]
        if kind == "element":
            return x[which + stride * turn]
        if kind == "outer":
            return outer[which % 4]
        if kind == "last":
            return last[which]
        return number if kind == "number" else number + 0.125 * turn

    @staticmethod
    def _apply(kind, a, b):
        if kind == "add":
            return a * 0.5 + b
        if kind == "mul":
            return sin(a) * b if not isinstance(a, float) or not isinstance(b, float) else a * b
        if kind == "sub":
            return a - b * 0.25
        if kind == "sin":
            return sin(a + b) if not isinstance(a, float) else a + b
        if kind == "div":
            return a / (3.0 + b * b)
        return np.maximum(a, 0.5 * b)


@pytest.mark.parametrize("seed", range(60))
def test_random_bodies(seed):
    rng = np.random.default_rng(seed)
    f = Body(rng)
    size = f.length + 4 * f.turns
    strict, loose = fad.compile(f, strict=True), fad.compile(f)
    gradient = fad.grad(loose)
    for _ in range(3):
        x = rng.normal(size=size) * 0.5
        right, slope = fad.value_and_grad(f)(x)
        np.testing.assert_array_equal(strict(x), right)
        np.testing.assert_allclose(loose(x), right, rtol=1e-9)
        np.testing.assert_allclose(gradient(x), slope, rtol=1e-8, atol=1e-9 * np.max(abs(slope)))


def test_random_bodies_are_vectorized():
    """Else the test above would say nothing."""
    count = 0
    for seed in range(60):
        f = Body(np.random.default_rng(seed))
        count += vectorized(f, np.full(f.length + 4 * f.turns, 0.5)) is not None
    assert count >= 20


# --- memory --------------------------------------------------------------------------------------


def test_spare_memory_is_taken():
    memory = SpareMemory()
    trace = traced(elements, point())
    after = trace.through("vectorize", False, memory)
    trace.discard(memory)
    again = after.through("simplify", False, memory)
    np.testing.assert_allclose(
        again.lowered(False)(point(2))[0], elements(point(2).tolist()), rtol=1e-12
    )


def test_allocations_fail():
    from fastad import _core

    trace, failed = traced(elements, point()), 0
    for n in range(1, 200):
        _core.fail_allocation(n)
        try:
            after = trace.through("vectorize", False)
        except MemoryError:
            failed += 1
            continue
        finally:
            _core.fail_allocation(0)
        assert after is not trace
        break
    assert 3 < failed < 199
