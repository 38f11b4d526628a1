"""Memory of large results: used again by the same program, once the caller has dropped it."""

import gc
import pickle
import tracemalloc

import numpy as np
import pytest

import fastad as fad

N = 1 << 20  # 8 MiB


@pytest.fixture
def f():
    f = fad.compile(lambda x: 2.0 * x)
    f(np.zeros(N))
    return f


def full(value):
    return np.full(N, float(value))


def test_dropped(f):
    result = f(full(1))
    place = result.ctypes.data
    assert result.flags.owndata and result.base is None and result.flags.aligned
    del result
    result = f(full(2))
    assert result.ctypes.data == place
    assert np.all(result == 4.0)


def test_kept(f):
    results = [f(full(i)) for i in range(4)]
    for i, result in enumerate(results):
        assert np.all(result == 2.0 * i)
    assert len({result.ctypes.data for result in results}) == 4


def test_views_keep_it(f):
    view = f(full(1))[N // 2 :]
    other = f(full(2))
    assert np.all(view == 2.0) and np.all(other == 4.0)


def test_outlives_the_program(f):
    result = f(full(3))
    more = f(full(4))
    del f, more
    gc.collect()
    result += 1.0
    assert np.all(result == 7.0)
    del result
    gc.collect()


@pytest.mark.parametrize("size", [10, N // 2, 3 * N])
def test_resized_in_place(f, size):
    """The memory that comes back has another size than what was given out."""
    result = f(full(1))
    result.resize(size, refcheck=False)
    assert np.all(result[: min(size, N)] == 2.0)
    del result
    again, more = f(full(2)), f(full(3))
    assert np.all(again == 4.0) and np.all(more == 6.0)


def test_reshaped_in_place(f):
    result = f(full(1))
    result.shape = (2, N // 2)
    result.dtype = np.int32
    del result
    assert np.all(f(full(2)) == 4.0)


def test_copies(f):
    result = f(full(1))
    assert np.all(pickle.loads(pickle.dumps(result)) == 2.0)
    assert np.all(result.copy() == 2.0)
    assert np.all(np.concatenate([result, f(full(2))])[N:] == 4.0)


def test_of_several_outputs():
    f = fad.compile(lambda x: (x + 1.0, np.stack((x, x)), np.sum(x)))
    for value in (1, 2, 3):
        plus, both, total = f(full(value))
        assert np.all(plus == value + 1.0) and np.all(both == value) and total == N * value
        del plus, both


def test_other_arrays_do_not_come_from_it(f):
    result = f(full(1))
    place = result.ctypes.data
    del result
    assert np.empty(N).ctypes.data != place
    assert f(full(1)).ctypes.data == place


def test_bounded(f):
    """As much is kept as one call gives."""
    tracemalloc.start()
    try:
        results = [f(full(i)) for i in range(5)]
        places = {result.ctypes.data for result in results}
        del results
        held = tracemalloc.get_traced_memory()[0]
        assert held < N
    finally:
        tracemalloc.stop()
    again = [f(full(i)) for i in range(2)]
    assert again[0].ctypes.data in places


def test_after_an_error():
    """NumPy's own memory is in use again afterwards."""
    handler = np._core.multiarray.get_handler_name
    f = fad.compile(lambda x: x[np.arange(N)] * 2.0)
    f(full(1))
    assert handler() == "default_allocator"
    assert handler(f(full(1))) == "fastad"
    assert handler(f(full(1)) + 1.0) == "default_allocator"
