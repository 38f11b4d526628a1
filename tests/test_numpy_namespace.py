"""fastad.numpy: the same names for plain and recorded values; methods of Array; what is refused."""

import subprocess
import sys

import numpy as np
import pytest

import fastad as fad
import fastad.numpy as fnp

NAMES = """
sum mean prod max min amax amin var std any all cumsum cumprod diff dot matmul vdot inner outer
tensordot einsum where clip concatenate stack hstack vstack split array_split hsplit vsplit reshape
ravel squeeze expand_dims transpose swapaxes moveaxis broadcast_to broadcast_arrays tile repeat flip
fliplr flipud roll take take_along_axis diag diagonal trace tril triu sort argsort argmax argmin
zeros_like ones_like full_like empty_like atleast_1d atleast_2d atleast_3d copy shape ndim size
round around array_equal allclose isclose count_nonzero nonzero average ptp median cross kron
sin exp sqrt add multiply power maximum arctan2 absolute array asarray zeros ones linspace arange
eye pi e inf nan newaxis full
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_the_namespace_has(name):
    assert hasattr(fnp, name)
    assert name in dir(fnp)
    own, theirs = getattr(fnp, name), getattr(np, name)
    if callable(theirs) and name not in ("array", "asarray", "full"):
        assert own.__name__ == theirs.__name__
        assert own.__doc__ == theirs.__doc__


@pytest.mark.parametrize("name", ["solve", "inv", "det", "slogdet", "cholesky", "norm"])
def test_linalg_has(name):
    assert name in dir(fnp.linalg)
    assert getattr(fnp.linalg, name).__name__ == name


@pytest.mark.parametrize("name", ["fft", "percentile", "no_such_name", "save"])
def test_what_has_no_rule_is_no_attribute(name):
    with pytest.raises(AttributeError, match=name):
        getattr(fnp, name)
    with pytest.raises(AttributeError, match="svd"):
        fnp.linalg.svd  # noqa: B018 (the look-up is the test)


def test_plain_values_stay_plain():
    assert type(fnp.sin(0.5)) is np.float64
    np.testing.assert_array_equal(fnp.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    assert fnp.array([1], dtype=np.float32).dtype == np.float32
    assert fnp.array(1.0, ndmin=2).shape == (1, 1)
    assert fnp.sum([1, 2, 3]) == 6
    assert fnp.asarray([1.0]).dtype == float
    x = np.ones(2)
    assert fnp.asarray(x) is x and fnp.array(x) is not x
    np.testing.assert_array_equal(fnp.full((2,), 3.0), [3, 3])


def test_array_stacks_recorded_values():
    def f(x, y):
        z = fnp.array([[x, 2.0], [y, x * y]])
        assert z.shape == (2, 2) and isinstance(z, fad.Array)
        return fnp.sum(z * fnp.array([[1.0, 1.0], [10.0, 100.0]]))

    assert fad.grad(f, (0, 1))(3.0, 5.0) == (501.0, 310.0)


def test_array_of_recorded_rows_and_ndmin_and_dtype():
    def f(x):
        assert fnp.array([x, x]).shape == (2, 3)
        assert fnp.array(x, ndmin=3).shape == (1, 1, 3)
        assert fnp.array([x[0], x[1]], dtype=np.float32).dtype == np.float32
        assert fnp.asarray(x) is x and fnp.array(x) is not x
        assert fnp.full((2, 2), x[0]).shape == (2, 2)
        return fnp.sum(fnp.array([x, np.ones(3)]))

    np.testing.assert_array_equal(fad.grad(f)(np.ones(3)), np.ones(3))


def test_array_copies():
    def f(x):
        y = fnp.array(x)
        y[0] = 0.0
        return np.sum(x * y)

    np.testing.assert_array_equal(fad.grad(f)(np.array([2.0, 3.0])), [0, 6])


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: fnp.sum([x, x**2]), 5.0),
        (lambda x: fnp.linalg.det([[x, 2.0], [3.0, x]]), 4.0),
        (lambda x: fnp.linalg.norm([3.0 * x, 4.0 * x]), 5.0),
        (lambda x: fnp.linalg.solve([[x, 0.0], [0.0, 1.0]], [1.0, x])[0], -0.25),
        (lambda x: fnp.dot([x, 1.0], [x, x]), 5.0),
        (lambda x: fnp.einsum("i,i->", [x, 1.0], [x, x]), 5.0),
        (lambda x: fnp.max([x, 1.0, 0.5 * x]), 1.0),
        (lambda x: fnp.exp(np.array([x, 0.0]))[0], np.exp(2.0)),
        (lambda x: fnp.stack([x, x])[1], 1.0),
        (lambda x: fnp.concatenate([[x], [x * x, 1.0]])[1], 4.0),
        (lambda x: fnp.where([True, False], [x, 1.0], [x, x * x])[1], 4.0),
        (lambda x: fnp.average([1.0, 2.0], weights=[x, 1.0]), -1 / 9),
        (lambda x: np.sum(np.array([x, x * x])), 5.0),
        (lambda x: np.dot(np.array([x, x]), np.array([1.0, x])), 5.0),
    ],
)
def test_lists_and_object_arrays_of_recorded_values(f, expected):
    np.testing.assert_allclose(fad.grad(f)(2.0), expected)


METHODS = {
    "sum": (1,),
    "mean": (0,),
    "prod": (),
    "max": (1,),
    "min": (),
    "std": (0,),
    "var": (),
    "cumsum": (1,),
    "cumprod": (0,),
    "reshape": (3, 2),
    "ravel": (),
    "flatten": (),
    "squeeze": (),
    "swapaxes": (0, 1),
    "transpose": (1, 0),
    "trace": (),
    "diagonal": (),
    "take": ([0, 5],),
    "repeat": (2,),
    "clip": (0.0, 1.0),
    "round": (1,),
    "copy": (),
    "dot": (np.array([1.0, 2.0, 3.0]),),
    "astype": (np.float32,),
    "any": (),
    "all": (1,),
    "argmax": (1,),
    "argmin": (),
    "argsort": (0,),
    "nonzero": (),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_those_of_ndarray(name):
    x = np.random.default_rng(0).normal(size=(2, 3))
    expected = getattr(x, name)(*METHODS[name])

    def f(x):
        result = getattr(x, name)(*METHODS[name])
        value = fad.stop_gradient(result) if isinstance(result, fad.Array) else result
        np.testing.assert_allclose(np.asarray(getattr(value, "value", value)), expected, rtol=1e-6)
        return np.sum(x)

    np.testing.assert_array_equal(fad.grad(f)(x), np.ones((2, 3)))


@pytest.mark.parametrize(
    "f", [np.percentile, np.linalg.svd, np.fft.fft, np.interp, np.nansum, np.histogram]
)
def test_a_function_without_a_rule_is_named(f):
    with pytest.raises(NotImplementedError, match=f.__name__):
        fad.grad(lambda x: f(x, x, x) if f is np.interp else f(x, 1))(np.ones(3))


def test_no_module_that_is_not_needed_is_imported():
    code = "import sys, fastad.numpy; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"scipy", "optree", "jax", "torch"} & set(loaded.stdout.split())
