"""Chains of writes share a buffer (csrc/update.c): what was read before a write stays as it was.

Random programs of reads, writes, copies and views run on ndarrays and on Arrays alike. Values are
NumPy's, derivatives those of central differences, and the tape still knows every value that an
Array ever had.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastad as fad
from fastad import _core

INPUTS = 5
SIZE = 24  # parts of up to a quarter are copied when read, larger ones share memory


class Program:
    """A random sequence of statements about a pool of arrays, the same one for one seed."""

    def __init__(self, seed, steps=30):
        self.seed, self.steps = seed, steps

    def __call__(self, x, watch=lambda *arrays: None):
        rng = np.random.default_rng(self.seed)
        seeds = [x * k for k in (1.0, -0.5, 0.25, 0.7, 0.1)]
        vector = np.concatenate(seeds)[:SIZE]
        pool = [vector * 1.0, (vector * 0.5).reshape(4, 6) * 1.0]
        total = x[0] * 1.0
        for _ in range(self.steps):
            statement = STATEMENTS[rng.integers(len(STATEMENTS))]
            total = total + statement(pool, rng, total)
            watch(*pool)
        for y in pool:
            total = total + np.sum(np.sin(y) * np.cos(np.arange(float(y.size))).reshape(y.shape))
        return total


def one(pool, rng):
    return pool[rng.integers(len(pool))]


def place(y, rng):
    """A random element's index."""
    return tuple(int(rng.integers(n)) for n in y.shape)


def small(rng):
    """A slice that is often copied when read, and sometimes not."""
    start = int(rng.integers(0, 4))
    return slice(start, start + int(rng.integers(1, 4)))


def write_element(pool, rng, total):
    y = one(pool, rng)
    y[place(y, rng)] = np.tanh(y[place(y, rng)]) * 1.5 + 0.1 * np.tanh(total)
    return 0.0


def update_element(pool, rng, total):
    y = one(pool, rng)
    y[place(y, rng)] *= np.cos(y[place(y, rng)])
    return 0.0


def write_part(pool, rng, total):
    y, z = one(pool, rng), one(pool, rng)
    part = small(rng)
    y[part] = np.sin(y[part]) + z[place(z, rng)]
    return 0.0


def write_backwards(pool, rng, total):
    y = one(pool, rng)
    y[::-1] = y
    return 0.0


def write_overlapping(pool, rng, total):
    y = one(pool, rng)
    y[1:4] = y[0:3]
    return 0.0


def write_to_itself(pool, rng, total):
    y = one(pool, rng)
    y[...] = y
    return 0.0


def write_gathered(pool, rng, total):
    y = one(pool, rng)
    at = [0, 2, 0]
    y[at] = y[[1, 3, 2]] * 0.9
    return 0.0


def write_masked(pool, rng, total):
    y = one(pool, rng)
    y[y > 0.5] = total * 0.01
    return 0.0


def write_whole(pool, rng, total):
    y = one(pool, rng)
    y *= 0.9
    return 0.0


def write_row_of_row(pool, rng, total):
    y = one(pool, rng)
    row = y[1:3]
    row[0] = row[1] * 0.5
    row[1] = np.tanh(total)
    y[0] = row[0]
    return np.sum(row * row)


def read_element(pool, rng, total):
    y = one(pool, rng)
    return y[place(y, rng)] ** 2


def read_gathered(pool, rng, total):
    y = one(pool, rng)
    return np.sum(np.sin(y[[0, 2, 2]]))


def read_part(pool, rng, total):
    y = one(pool, rng)
    return np.sum(np.square(y[small(rng)]))


def read_whole(pool, rng, total):
    return np.sum(np.sin(one(pool, rng))) * 0.1


def read_linear(pool, rng, total):
    return np.sum(one(pool, rng)) * 0.1


def new_of_old(pool, rng, total):
    y = one(pool, rng)
    return keep(pool, rng, np.sin(y))


def new_copy(pool, rng, total):
    return keep(pool, rng, one(pool, rng).copy())


def new_view(pool, rng, total):
    y = one(pool, rng)
    view = y[::-1] if rng.integers(2) else y[:4]
    return keep(pool, rng, view)


def new_reshaped(pool, rng, total):
    y = one(pool, rng)
    return keep(pool, rng, y.reshape(-1) if rng.integers(2) else y.T)


def keep(pool, rng, y):
    """Into the pool: it lives on while others are written to."""
    if min(y.shape) < 4 or len(pool) < 3:
        pool[2:] = [y] if min(y.shape) >= 4 else pool[2:]
    else:
        pool[int(rng.integers(2, min(len(pool) + 1, 5))) :] = [y]
    return 0.0


WRITES = [
    write_element,
    write_element,
    update_element,
    update_element,
    write_part,
    write_backwards,
    write_overlapping,
    write_to_itself,
    write_gathered,
    write_masked,
    write_whole,
    write_row_of_row,
]
READS = [read_element, read_gathered, read_part, read_whole, read_linear]
STATEMENTS = WRITES * 2 + READS + [new_of_old, new_copy, new_view, new_reshaped]
POINT = np.array([0.7, -1.1, 0.9, 0.3, -0.4])
SEEDS = range(60)


def differences(f, x, h=1e-6):
    shifts = h * np.eye(x.size)
    return np.array([(f(x + d) - f(x - d)) / (2 * h) for d in shifts])


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs(seed):
    program = Program(seed)
    value, gradient = fad.value_and_grad(program)(POINT)
    np.testing.assert_allclose(value, program(POINT.copy()), rtol=1e-12)
    np.testing.assert_allclose(gradient, differences(program, POINT), rtol=2e-5, atol=1e-6)

    tangent = np.cos(np.arange(float(INPUTS)))
    np.testing.assert_allclose(
        fad.jvp(program, POINT, tangent)[1], gradient @ tangent, rtol=1e-11, atol=1e-12
    )
    with fad.Tape() as tape:
        x = tape.variable(POINT)
        y = program(x)
    np.testing.assert_allclose(tape.gradients(y)[x], gradient, rtol=1e-12, atol=1e-13)
    for _ in range(2):  # a sweep leaves values as they are
        np.testing.assert_array_equal(tape.gradient(y, x), gradient)
    tape.verify()


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_random_programs_to_second_order(seed):
    program = Program(seed, steps=12)
    tangent = np.cos(np.arange(float(INPUTS)))
    expected = differences(fad.grad(program), POINT)
    np.testing.assert_allclose(fad.hessian(program)(POINT), expected, rtol=2e-5, atol=2e-5)
    nested = fad.grad(lambda x: np.dot(fad.grad(program)(x), tangent))(POINT)
    np.testing.assert_allclose(nested, expected @ tangent, rtol=2e-5, atol=5e-5)
    forward = fad.grad(lambda x: fad.jvp(program, x, tangent)[1])(POINT)
    np.testing.assert_allclose(forward, nested, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_earlier_value_is_still_known(seed):
    """Values are asked for without being held: the buffers have been written to since."""
    seen = {}

    def watch(*arrays):
        for y in arrays:
            value = y.value  # first: it brings a view up to date
            seen.setdefault(y.node, value)

    with fad.Tape() as tape:
        y = Program(seed)(tape.variable(POINT), watch)
    recorder = tape.recorder
    for node, value in seen.items():
        np.testing.assert_array_equal(recorder.node_value(node), value)
    before = tape.gradients(y)
    for node in list(seen)[::2]:  # an Array of an earlier value has a copy of its own
        np.testing.assert_array_equal(recorder.array(node).value, seen[node])
    for node, value in seen.items():
        np.testing.assert_array_equal(recorder.node_value(node), value)
    tape.verify()
    after = tape.gradients(y)
    for node in seen:
        np.testing.assert_array_equal(after[recorder.array(node)], before[recorder.array(node)])


@pytest.mark.parametrize("seed", SEEDS[::3])
def test_rewinding_undoes_writes(seed):
    recorder = _core.Recorder()
    recorder.open()
    x = recorder.variable(POINT)
    values, marks = [], []

    def watch(*arrays):
        now = [y.value for y in arrays]  # first: it brings views up to date
        marks.append(len(recorder))
        values.append({y.node: value for y, value in zip(arrays, now, strict=True)})

    Program(seed)(x, watch)
    for mark, at in reversed(list(zip(marks, values, strict=True))):
        recorder.rewind(mark)
        recorder.verify()
        for node, value in at.items():
            np.testing.assert_array_equal(recorder.node_value(node), value)
    recorder.close()


# --- what a write costs --------------------------------------------------------------------------


def recurrence(x, n):
    y = np.zeros_like(x[0]) + np.zeros(n)
    y[0] = x[0]
    for i in range(1, n):
        y[i] = np.sin(y[i - 1]) + x[1]
    return np.sum(y)


def in_steps_of_time(x, n):
    """A table of states, one row a step: rows are read as views."""
    u = np.zeros((n, 8)) * x[0]
    u[0] = x[0]
    for t in range(1, n):
        u[t, 1:-1] = u[t - 1, 1:-1] + 0.1 * np.sin(u[t - 1, 2:] - u[t - 1, :-2]) * x[1]
        row = u[t]
        row[0] = u[t - 1, 1]
        row[-1] += 0.5
    return np.sum(u * u)


def two_arrays(x, n):
    p, v = x[0] * np.ones(n), x[1] * np.ones(n)
    for i in range(1, n):
        v[i] = v[i - 1] - 0.01 * p[i - 1]
        p[i] += 0.01 * v[i]
        p[[i - 1, i]] *= 0.99
    return p[-1] * v[-1]


LOOPS = [recurrence, in_steps_of_time, two_arrays]
X = np.array([0.4, 0.3])


def bytes_of(loop, n):
    with fad.Tape() as tape:
        x = tape.variable(X)
        y = loop(x, n)
    recorded = tape.nbytes
    tape.gradient(y, x)
    return recorded, tape.nbytes


def bytes_alone(loop, n):
    """In a process of its own: a tape's bytes count what it keeps of tapes before it."""
    code = f"import test_update as t; print(*t.bytes_of(t.{loop.__name__}, {n}))"
    here = Path(__file__).parent
    found = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, check=True)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_memory_is_linear_in_the_number_of_writes(loop):
    few, many = bytes_alone(loop, 500), bytes_alone(loop, 4000)
    assert many[0] < 10 * few[0]
    assert many[1] < 10 * few[1]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_loops(loop):
    f = lambda x: loop(x, 12)
    expected = differences(f, X)
    np.testing.assert_allclose(fad.grad(f)(X), expected, rtol=1e-6, atol=1e-8)
    for t in np.eye(2):
        np.testing.assert_allclose(fad.jvp(f, X, t)[1], expected @ t, rtol=1e-6, atol=1e-8)
    second = differences(fad.grad(f), X)
    np.testing.assert_allclose(fad.hessian(f)(X), second, rtol=1e-6, atol=1e-7)


# --- who else may read ---------------------------------------------------------------------------


def chain(x):
    """An array whose last value nobody has read: the next write may take its buffer."""
    y = 1.0 * x
    y[0] = 2.0 * x[1]
    return y


def same_node_by_another_name(x):
    y = chain(x)
    z = y.astype(float)
    y[1] = 5.0
    z[2] = x[0] * z[1]
    return y * z


def copied_before(x):
    y = chain(x)
    z = y.copy()
    y[1] = x[2] * y[0]
    return y * z


def value_and_view_used_before_and_after(x):
    y = chain(x)
    first = y[:1]
    squares = y * y
    y[0] = x[2] ** 3
    return squares + y * first


def written_by_an_inner_gradient(x):
    y = chain(x)
    inner = fad.grad(lambda z: np.sum(z * z * y))(y) if isinstance(y, fad.Array) else 2 * y * y
    y[0] = x[1] * x[1]
    return inner * y


def named_by_its_number(x):
    y = chain(x)
    y[0] *= x[1]
    y[1] += x[0]
    if not isinstance(y, fad.Array):
        old = y.copy()
        y[1] = x[0] ** 2
        y[2] = x[2] * y[1]
        return y * np.sin(old)
    number = y.node
    y[1] = x[0] ** 2
    y[2] = x[2] * y[1]
    return y * np.sin(y.recorder.array(number))


def given_to_a_rule(x):
    class Cube(fad.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return v**3

        @staticmethod
        def backward(ctx, g):
            (v,) = ctx.saved_tensors
            return 3 * v**2 * g

    y = chain(x)
    cubes = Cube.apply(y) if isinstance(y, fad.Array) else y**3
    y[0] = x[1] * x[1]
    return cubes * y


@pytest.mark.parametrize(
    "f",
    [
        same_node_by_another_name,
        copied_before,
        value_and_view_used_before_and_after,
        written_by_an_inner_gradient,
        named_by_its_number,
        given_to_a_rule,
    ],
    ids=lambda f: f.__name__,
)
def test_others_keep_the_old_value(f):
    x = np.array([0.7, -1.2, 0.4])
    weight = np.array([1.0, -2.0, 0.5])
    scalar = lambda v: np.sum(weight * f(v))
    value, gradient = fad.value_and_grad(scalar)(x)
    np.testing.assert_allclose(value, scalar(x.copy()), rtol=1e-14)
    np.testing.assert_allclose(gradient, differences(scalar, x), rtol=1e-6, atol=1e-8)
    for t in np.eye(3):
        np.testing.assert_allclose(fad.jvp(scalar, x, t)[1], gradient @ t, rtol=1e-12)


def test_partials_by_a_written_array():
    """The adjoint of a write is handed on in its own memory, unless somebody asked for it."""
    weight = np.array([1.0, -2.0, 3.0])
    with fad.Tape() as tape:
        x = tape.variable(np.array([0.5, 1.5, -1.0]))
        y = chain(x)
        first = y.node
        y[1] = x[2] ** 2
        y[[2]] = y[0]
        z = np.sum(weight * y) + 5.0 * y[2]
    for _ in range(2):
        by_y, by_x = tape.gradient(z, [y, x])
        np.testing.assert_array_equal(by_y, [1.0, -2.0, 8.0])
        np.testing.assert_array_equal(by_x, [0.0, 18.0, 4.0])
    every = tape.gradients(z)
    np.testing.assert_array_equal(every[y], [1.0, -2.0, 8.0])
    np.testing.assert_array_equal(every[tape.recorder.array(first)], [9.0, 0.0, 0.0])
    np.testing.assert_array_equal(every[x], by_x)


def test_an_adjoint_that_two_share_is_not_cut():
    weight = np.array([1.0, -2.0, 3.0])
    with fad.Tape() as tape:
        x = tape.variable(np.array([0.5, 1.5, -1.0]))
        a = 2.0 * x
        y = chain(x)
        y[1] = x[0]
        z = np.sum(weight * (a + y))  # a and y have the same adjoint
    np.testing.assert_array_equal(tape.gradient(z, x), [2.0 - 2.0, -4.0 + 2.0, 6.0 + 3.0])


def test_a_temporary_that_was_reshaped():
    """Its name is gone: writes need not reach it. One that has a name sees them."""
    for named in (False, True):
        base = []
        with fad.Tape() as tape:
            x = tape.variable(np.arange(6.0))
            whole = 1.0 * x
            if named:
                base.append(whole)
            y = whole.reshape(6).reshape(2, 3)
            del whole
            count = len(tape)
            for i in range(10):
                y[0, i % 3] = x[i % 6]
        assert (len(tape) > count + 2 * 10 + 4) == named
        np.testing.assert_array_equal(y.value, [[3, 1, 2], [3, 4, 5]])
        for whole in base:
            np.testing.assert_array_equal(whole.value, [3, 1, 2, 3, 4, 5])
        tape.verify()


def test_a_refused_write_changes_nothing():
    with fad.Tape() as tape:
        x = tape.variable(POINT)
        y = chain(x)
        before = y.value
        for index, value in ((9, 1.0), (slice(0, 2), np.ones(3)), ([0, 7], 1.0), (0, "one")):
            with pytest.raises((IndexError, ValueError, TypeError)):
                y[index] = value
            np.testing.assert_array_equal(y.value, before)
        y[1] = x[0]
        z = np.sum(y * y)
    np.testing.assert_allclose(tape.gradient(z, x), [2 * 0.7, 8 * -1.1, 2 * 0.9, 0.6, -0.8])


def test_no_memory_for_a_write():
    """Whichever allocation fails, the array has its value from before or after, never between."""
    with fad.Tape() as tape:
        x = tape.variable(np.arange(3000.0))
        y = x * 1.0
        y[0] = 5.0
        expected = y.value
        failed = 0
        for i in range(1, 3000):
            _core.fail_allocation(1)
            try:
                y[i : i + 200] = -y[i : i + 200]
                expected[i : i + 200] *= -1
            except MemoryError:
                failed += 1
            finally:
                _core.fail_allocation(0)
            if i % 100 == 0:
                np.testing.assert_array_equal(y.value, expected)
                y[i] = 1.0  # takes the memory that was refused
                expected[i] = 1.0
    assert failed
    tape.verify()
