"""No memory at allocation N, for N = 1, 2, 3, ...: nothing is lost, nothing leaks."""

import gc
import sys

import numpy as np
import pytest
from memory_use import memory_in_use, needs_memory_in_use

import fastad as fad
from fastad import _core
from fastad._calls import _POOL
from fastad._program import Trace
from fastad._record import current_recorder, recording

X = np.linspace(0.1, 1.3, 6)
M = np.arange(24.0).reshape(4, 6) / 10


class Square(fad.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x, x + 1

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return 2 * x * g + h

    @staticmethod
    def vmap(info, in_dims, x):
        return Square.apply(x), (0, 0)


def scalars(x):
    a, b = x[0], x[1]
    for _ in range(5):
        a, b = np.sin(a) * b + 2.0, a / b - np.exp(-b)
    return a * b


def arrays(x):
    return np.sum(np.sqrt(x) * x[::-1]) + np.sum((x[:, None] - x) ** 2) + np.prod(x)


def indexing(x):
    y = x[[3, 0, 0, 2]] * x[x > 0.5][0]
    y[1:3] = x[:2]
    y[[0]] += 1.0
    return np.sum(np.concatenate([y, x])) + np.sum(np.stack([x[0], x[1] * x[2]]))


def products(x):
    return np.sum((M @ x) ** 2) + np.sum(np.cumsum(x) * x) + np.sum(np.outer(x, x) @ x)


def rules(x):
    square, more = Square.apply(x)
    return np.sum(square * more) + np.linalg.norm(x)


def many_constants(x):
    return sum(x[0] * float(i) + np.sum(x * np.full(6, float(i))) for i in range(100))


FUNCTIONS = [scalars, arrays, indexing, products, rules, many_constants]
TRANSFORMS = {
    "grad": lambda f: fad.grad(f)(X),
    "jvp": lambda f: fad.jvp(f, X, np.ones(6))[1],
    "hessian": lambda f: fad.hessian(f)(X),
    "hvp": lambda f: fad.hvp(f, X, np.ones(6)),
    "linearize": lambda f: fad.linearize(f, X)[1](np.ones(6)),
    "vjp": lambda f: fad.vjp(f, X)[1](1.0)[0],
    "vmap": lambda f: fad.vmap(f)(np.stack([X, 2 * X])),
    "grad of vmap": lambda f: fad.grad(lambda x: np.sum(fad.vmap(f)(x)))(np.stack([X, 2 * X])),
    "hessian in vmap": lambda f: fad.vmap(fad.hessian(f))(np.stack([X, 2 * X])),
}
CASES = [
    (name, f)
    for name in TRANSFORMS
    for f in FUNCTIONS
    if not ("vmap" in name and f is indexing)  # a mask of values that differ from lane to lane
]


def forget_memory():
    """Drop pooled and idle tapes, so that a call has to allocate all it needs."""
    _POOL.clear()
    _core.drop_idle_tapes()


@pytest.fixture(autouse=True)
def allocation_works_again():
    yield
    _core.fail_allocation(0)


@pytest.mark.parametrize(("name", "f"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_every_allocation_fails_once(name, f):
    transform = TRANSFORMS[name]
    right = transform(f)
    failed = 0
    for n in range(1, 2000):
        forget_memory()
        _core.fail_allocation(n)
        try:
            result = transform(f)
        except MemoryError:
            failed += 1
            _core.fail_allocation(0)
            assert current_recorder() is None
            np.testing.assert_array_equal(transform(f), right)
            continue
        finally:
            _core.fail_allocation(0)
        np.testing.assert_array_equal(result, right)
        break
    else:
        raise AssertionError("still failing after 2000 allocations")
    assert failed >= 5


def test_a_tape_that_ran_out_is_whole():
    forget_memory()
    with fad.Tape() as tape:
        x = y = tape.variable(0.5)
        _core.fail_allocation(1)
        with pytest.raises(MemoryError, match="no memory"):
            while True:
                y = np.sin(y)
        _core.fail_allocation(0)
        tape.verify()
        count = len(tape)
        y = np.sin(y)
        assert len(tape) == count + 1
    assert tape.gradient(y, x) > 0


def test_no_memory_for_the_sweep():
    with fad.Tape() as tape:
        x = tape.variable(np.ones(300_000))
        y = np.sum(np.sin(x) * x * x)
    right = tape.gradient(y, x)
    for n in range(1, 20):
        _core.fail_allocation(n)
        try:
            again = tape.gradients(y)[x]
        except MemoryError:
            _core.fail_allocation(0)
            np.testing.assert_array_equal(tape.gradient(y, x), right)
        else:
            np.testing.assert_array_equal(again, right)
            break
        finally:
            _core.fail_allocation(0)
    else:
        raise AssertionError("the sweep still fails")


# --- large blocks, which the passes over a long trace hand on ------------------------------------


def long_loop(x):
    """So many nodes that a table of one number for each is a large block."""
    a, b = x[0], x[1]
    for _ in range(60_000):
        a, b = a * b - 0.25 * a, b * 0.75 - a * a + 0.1
    return a * b


LONG_AT = np.array([0.3, 0.4])


def traced(f, x):
    """A fresh trace of `f`."""
    recorder = _core.Recorder()
    recorder.open()
    recorder.trace(False)
    with recording(recorder):
        given = recorder.input(x)
        output = _core.asarray(f(given))
    trace = Trace.of(recorder, [given.node], [output.node], recorder.guards)
    recorder.close()
    return trace


def test_a_pass_takes_what_the_one_before_gave_back():
    memory = _core.SpareMemory()
    assert memory.nbytes == 0
    trace = traced(long_loop, LONG_AT)
    simple = trace.through("simplify", True, memory)
    after_a_pass = memory.nbytes
    assert after_a_pass >= 4 * len(trace)  # its table of new numbers, at least
    size = trace.recorder.nbytes
    trace.discard(memory)
    assert memory.nbytes - after_a_pass >= size / 2
    free = memory.nbytes
    again = simple.through("simplify", True, memory)
    assert memory.nbytes < free  # the new trace's nodes came from there
    plain = simple.through("simplify", True)
    assert again.dump() == plain.dump()
    program = again.lowered(True)
    del memory, trace, simple, plain, again  # a program needs nothing of them
    np.testing.assert_array_equal(program(LONG_AT)[0], long_loop(LONG_AT))


def test_blocks_of_a_trace_that_stays_are_its_own():
    """What a trace took is no longer the lender's, whatever the lender does next."""
    memory = _core.SpareMemory()
    first = traced(long_loop, LONG_AT)
    stays = first.through("simplify", True, memory)
    text = stays.dump()
    first.discard(memory)
    for _ in range(3):
        other = stays.through("reassociate", False, memory)
        other.discard(memory)
    del memory, other, first
    traced(long_loop, LONG_AT + 0.1).through("simplify", True)
    assert stays.dump() == text
    stays.verify()


def test_allocations_of_a_long_compilation_fail():
    right = fad.compile(long_loop)(LONG_AT)
    failed = 0
    for n in range(1, 400, 7):
        forget_memory()
        _core.fail_allocation(n)
        try:
            result = fad.compile(long_loop)(LONG_AT)
        except MemoryError:
            failed += 1
            continue
        finally:
            _core.fail_allocation(0)
        assert result == right
        break
    else:
        raise AssertionError("still failing after 400 allocations")
    assert failed >= 5
    assert fad.compile(long_loop)(LONG_AT) == right


def everything():
    for name, f in CASES:
        TRANSFORMS[name](f)


def failing():
    for name, f in CASES:
        for n in (1, 3, 6, 10):
            forget_memory()
            _core.fail_allocation(n)
            try:
                TRANSFORMS[name](f)
            except MemoryError:
                pass
            finally:
                _core.fail_allocation(0)


def raising():
    class MineError(Exception):
        pass

    def broken(f):
        def g(x):
            f(x)
            raise MineError

        return g

    for name, f in CASES:
        with pytest.raises(MineError):
            TRANSFORMS[name](broken(f))


@pytest.mark.parametrize("work", [everything, failing, raising], ids=lambda f: f.__name__)
def test_no_object_leaks(work):
    work()
    work()
    gc.collect()
    before, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    for _ in range(3):
        work()
    gc.collect()
    assert len(gc.get_objects()) - before < 50
    assert sys.getallocatedblocks() - blocks < 400


@needs_memory_in_use
def test_no_memory_leaks():
    """A leak of one array a call would be 400 MB here."""
    x = np.ones(50_000)

    def work():
        fad.grad(lambda x: np.sum(np.sin(x) * x))(x)
        fad.hvp(lambda x: np.sum(x**3), x, x)
        with fad.Tape() as tape:
            y = tape.variable(x) * 2
            tape.gradient(np.sum(y), y)
        fad.vjp(lambda x: x * x, x)[1](x)

    for _ in range(20):
        work()
    before = memory_in_use()
    for _ in range(200):
        work()
    assert memory_in_use() - before < 40e6


@needs_memory_in_use
def test_the_measure_sees_a_leak():
    before = memory_in_use()
    kept = np.ones(10_000_000)  # so large that it is no memory that was freed before
    assert memory_in_use() - before >= kept.nbytes / 2
