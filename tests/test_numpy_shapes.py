"""Shapes, joining and splitting, repeating and rolling, choosing and sorting of elements."""

import numpy as np
import pytest
from numpy_case import APART, check_error, demands_on, row

import fastad as fad

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
INDEX = np.array([[2, 0, 0, 1], [1, 1, 2, 0]])


def joined(parts):
    """The parts of a split weighted differently, so that each counts."""
    return np.concatenate([np.ravel(part) * (i + 1.0) for i, part in enumerate(parts)])


SHAPES = [
    row("reshape", lambda x: np.reshape(x, (4, 3)), (3, 4)),
    row("reshape unknown", lambda x: np.reshape(x, (2, -1)), (3, 4)),
    row("reshape flat", lambda x: np.reshape(x, -1), (3, 4)),
    row("reshape fortran", lambda x: np.reshape(x, (2, 6), order="F"), (3, 4)),
    row("reshape of nothing", lambda x: np.reshape(x, (5, -1)), (0, 5)),
    row("reshape to 0-d", lambda x: np.reshape(x, ()), (1, 1)),
    row("reshape of 0-d", lambda x: np.reshape(x, (1, 1)), ()),
    row("reshape method", lambda x: x.reshape(2, 6), (3, 4)),
    row("reshape method tuple", lambda x: x.reshape((2, -1)), (3, 4)),
    row("ravel", np.ravel, (3, 4)),
    row("ravel fortran", lambda x: np.ravel(x, order="F"), (3, 4)),
    row("ravel of a transpose", lambda x: np.ravel(x.T), (3, 4)),
    row("ravel method", lambda x: x.ravel(), (2, 3)),
    row("flatten", lambda x: x.flatten(), (2, 3)),
    row("flatten fortran", lambda x: x.flatten("F"), (2, 3)),
    row("squeeze", np.squeeze, (1, 3, 1)),
    row("squeeze axis", lambda x: np.squeeze(x, axis=-1), (1, 3, 1)),
    row("squeeze axes", lambda x: np.squeeze(x, axis=(0, 2)), (1, 3, 1)),
    row("squeeze method", lambda x: x.squeeze(0), (1, 3)),
    row("expand_dims", lambda x: np.expand_dims(x, 1), (3, 4)),
    row("expand_dims axes", lambda x: np.expand_dims(x, (0, -1)), (3, 4)),
    row("expand_dims of 0-d", lambda x: np.expand_dims(x, 0), ()),
    row("transpose", np.transpose, (2, 3, 4)),
    row("transpose axes", lambda x: np.transpose(x, (1, 0, -1)), (2, 3, 4)),
    row("transpose method", lambda x: x.transpose(2, 0, 1), (2, 3, 4)),
    row("transpose method none", lambda x: x.transpose(None), (2, 3)),
    row("T", lambda x: x.T, (2, 3, 4)),
    row("swapaxes", lambda x: np.swapaxes(x, 0, -1), (2, 3, 4)),
    row("swapaxes method", lambda x: x.swapaxes(1, 0), (2, 3)),
    row("matrix_transpose", np.matrix_transpose, (2, 3, 4)),
    row("moveaxis", lambda x: np.moveaxis(x, 0, -1), (2, 3, 4)),
    row("moveaxis of two", lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (2, 3, 4)),
    row("broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 4)), (3, 1)),
    row("broadcast_to of 0-d", lambda x: np.broadcast_to(x, (2, 3)), ()),
    row("broadcast_to an integer", lambda x: np.broadcast_to(x, 3), (1,)),
    row("broadcast_arrays", lambda x, y: joined(np.broadcast_arrays(x, y)), (3, 1), (4,)),
    row("broadcast_arrays constant", lambda x: joined(np.broadcast_arrays(x, np.ones(4))), (3, 1)),
    row("atleast_1d", np.atleast_1d, ()),
    row("atleast_2d", np.atleast_2d, (3,)),
    row("atleast_3d of 1-d", np.atleast_3d, (3,)),
    row("atleast_3d of 2-d", np.atleast_3d, (3, 2)),
    row("atleast_1d of two", lambda x, y: joined(np.atleast_1d(x, y)), (), (3,)),
    row("copy", np.copy, (3,)),
    row("copy method", lambda x: x.copy(), (3,)),
]

JOINING = [
    row("concatenate", lambda x, y: np.concatenate((x, y)), (2, 3), (1, 3)),
    row("concatenate axis", lambda x, y: np.concatenate([x, y], axis=-1), (2, 3), (2, 2)),
    row("concatenate flat", lambda x, y: np.concatenate((x, y), axis=None), (2, 3), ()),
    row("concatenate constant", lambda x: np.concatenate((np.ones(2), x, [5.0])), (2,)),
    row("concatenate with nothing", lambda x, y: np.concatenate((x, y)), (2,), (0,)),
    row("concatenate rows", lambda x: np.concatenate(x), (2, 3)),
    row("concatenate dtype", lambda x: np.concatenate((x, x), dtype=np.float64), (2,)),
    row("concatenate the same", lambda x: np.concatenate((x, x, x)), (2,)),
    row("stack", lambda x, y: np.stack((x, y)), (2, 3), (2, 3)),
    row("stack axis", lambda x, y: np.stack((x, y), axis=-1), (2, 3), (2, 3)),
    row("stack of 0-d", lambda x, y: np.stack((x, y, 3.0)), (), ()),
    row("stack constant", lambda x: np.stack((x, np.ones(3)), 1), (3,)),
    row("hstack", lambda x, y: np.hstack((x, y)), (2, 3), (2, 1)),
    row("hstack of vectors", lambda x, y: np.hstack((x, y)), (2,), ()),
    row("vstack", lambda x, y: np.vstack((x, y)), (2, 3), (3,)),
    row("dstack", lambda x, y: np.dstack((x, y)), (2, 3), (2, 3)),
    row("column_stack", lambda x, y: np.column_stack((x, y)), (2,), (2, 3)),
    row("split", lambda x: joined(np.split(x, 2)), (4, 3)),
    row("split places", lambda x: joined(np.split(x, [1, 3], axis=1)), (2, 4)),
    row("split past the end", lambda x: joined(np.split(x, [2, 9])), (3,)),
    row("array_split", lambda x: joined(np.array_split(x, 3)), (7,)),
    row("array_split axis", lambda x: joined(np.array_split(x, 3, axis=-1)), (2, 4)),
    row("hsplit", lambda x: joined(np.hsplit(x, 2)), (2, 4)),
    row("hsplit of a vector", lambda x: joined(np.hsplit(x, 2)), (4,)),
    row("vsplit", lambda x: joined(np.vsplit(x, 2)), (4, 2)),
    row("dsplit", lambda x: joined(np.dsplit(x, [1])), (2, 2, 3)),
]

ARRANGING = [
    row("tile", lambda x: np.tile(x, 3), (2,)),
    row("tile more axes", lambda x: np.tile(x, (2, 1, 3)), (2, 3)),
    row("tile fewer axes", lambda x: np.tile(x, 2), (2, 3)),
    row("tile of 0-d", lambda x: np.tile(x, (2, 2)), ()),
    row("tile not at all", lambda x: np.tile(x, 0), (2,), order=1),
    row("repeat", lambda x: np.repeat(x, 3), (2, 2)),
    row("repeat axis", lambda x: np.repeat(x, 2, axis=1), (2, 3)),
    row("repeat each", lambda x: np.repeat(x, [0, 2, 1], axis=1), (2, 3)),
    row("repeat method", lambda x: x.repeat([2, 1]), (2,)),
    row("flip", np.flip, (2, 3)),
    row("flip axis", lambda x: np.flip(x, 1), (2, 3)),
    row("flip axes", lambda x: np.flip(x, (0, -1)), (2, 3, 2)),
    row("flipud", np.flipud, (2, 3)),
    row("fliplr", np.fliplr, (2, 3)),
    row("roll", lambda x: np.roll(x, 2), (5,)),
    row("roll flat", lambda x: np.roll(x, -1), (2, 3)),
    row("roll axis", lambda x: np.roll(x, 4, axis=1), (2, 3)),
    row("roll axes", lambda x: np.roll(x, (1, -1), axis=(0, 1)), (2, 3)),
    row("roll one by two", lambda x: np.roll(x, 1, axis=(0, 1)), (2, 3)),
    row("roll not", lambda x: np.roll(x, 0), (3,)),
    row("roll of nothing", lambda x: np.roll(x, 2), (0,)),
]

SELECTING = [
    row("where", lambda x, y: np.where(MASK, x, y), (3, 4), (3, 4)),
    row("where broadcast", lambda x, y: np.where(MASK, x, y), (4,), (3, 1)),
    row("where constant", lambda x: np.where(MASK, x, 0.5), (3, 4)),
    row("where of numbers", lambda x: np.where(MASK, 1, x), ()),
    row("where recorded condition", lambda x: np.where(x > 0.1, x * x, np.exp(x)), (5,), **APART),
    row("where false", lambda x, y: np.where(False, x, y), (2,), (2,)),
    row("where of a float condition", lambda x: np.where(x, 2.0 * x, 1.0), (3,), **APART),
    row("take flat", lambda x: np.take(x, [5, 0, 0]), (2, 3)),
    row("take axis", lambda x: np.take(x, [[1, 0], [2, -1]], axis=1), (2, 3)),
    row("take one", lambda x: np.take(x, 1, axis=0), (2, 3)),
    row("take wrap", lambda x: np.take(x, [4, -5], axis=0, mode="wrap"), (3, 2)),
    row("take clip", lambda x: np.take(x, [4, -5], mode="clip"), (3,)),
    row("take method", lambda x: x.take([1, 1]), (3,)),
    row("take_along_axis", lambda x: np.take_along_axis(x, INDEX, axis=0), (3, 4)),
    row("take_along_axis last", lambda x: np.take_along_axis(x, INDEX, axis=-1), (2, 3)),
    row("diag of a vector", np.diag, (3,)),
    row("diag above", lambda x: np.diag(x, 2), (3,)),
    row("diag below", lambda x: np.diag(x, -1), (3,)),
    row("diag of a matrix", np.diag, (3, 4)),
    row("diag of a matrix below", lambda x: np.diag(x, -1), (3, 4)),
    row("diagflat", lambda x: np.diagflat(x, 1), (2, 2)),
    row("diagonal", np.diagonal, (4, 3)),
    row("diagonal above", lambda x: np.diagonal(x, 1), (3, 3)),
    row("diagonal outside", lambda x: np.diagonal(x, 5), (3, 3), order=1),
    row("diagonal axes", lambda x: np.diagonal(x, -1, 2, 0), (3, 2, 4)),
    row("diagonal method", lambda x: x.diagonal(), (2, 3)),
    row("trace", np.trace, (3, 3)),
    row("trace offset", lambda x: np.trace(x, offset=1, axis1=1, axis2=2), (2, 3, 4)),
    row("trace method", lambda x: x.trace(), (3, 2)),
    row("tril", np.tril, (3, 4)),
    row("tril k", lambda x: np.tril(x, 1), (2, 3, 3)),
    row("triu", lambda x: np.triu(x, -1), (4, 3)),
    row("triu of a vector", np.triu, (3,)),
    row("sort", np.sort, (5,), **APART),
    row("sort axis", lambda x: np.sort(x, axis=0), (3, 4), **APART),
    row("sort flat", lambda x: np.sort(x, axis=None), (2, 3), **APART),
    row("sort by argsort", lambda x: x[np.argsort(x)], (5,), **APART),
    row("sort of nothing", np.sort, (0,)),
]

FILLING = [
    row("zeros_like", lambda x: x + np.zeros_like(x), (3,)),
    row("ones_like", lambda x: x * np.ones_like(x, shape=(2, 3)), (3,)),
    row("full_like", lambda x: x * np.full_like(x, 2.5), (2, 3)),
    row("full_like recorded", lambda x, y: np.full_like(x, y) * x, (2, 3), ()),
    row("round", lambda x: np.round(x, 1) + x, (5,), **APART),
    row("round to ten", lambda x: np.round(10 * x, -1) + x, (5,), **APART),
    row("round method", lambda x: x.round() + x, (5,), **APART),
]

ROWS = [*SHAPES, *JOINING, *ARRANGING, *SELECTING, *FILLING]


test_value, test_first_order, test_second_order, test_single = demands_on(ROWS)


def test_arrays_made_like_a_recorded_one_can_be_written_to():
    def f(x):
        y, z = np.zeros_like(x), np.empty_like(x)
        y[1:] = x[:-1] ** 2
        z[...] = y
        z.fill(x[0])
        z[1] = x[2] * y[2]
        return np.sum(z)

    np.testing.assert_allclose(fad.grad(f)(np.array([2.0, 3.0, 5.0])), [2, 30, 9])


def test_likes_have_numpys_type_and_shape():
    def f(x):
        assert np.zeros_like(x).dtype == np.float32
        assert np.ones_like(x, dtype=np.float64).dtype == np.float64
        assert np.ones_like(x, shape=4).shape == (4,)
        assert np.zeros_like(x, dtype=bool).dtype == bool
        return np.sum(x)

    fad.grad(f)(np.ones((2, 3), np.float32))


def test_a_copy_is_not_a_view():
    def f(x):
        y, z, view = np.copy(x), x.flatten(), x.reshape(3, 1)
        view[0] = 10.0
        return np.sum(y * z * x)

    np.testing.assert_array_equal(fad.grad(f)(np.array([1.0, 2.0, 3.0])), [20, 12, 27])


def test_sort_in_place():
    def f(x):
        x.sort()
        return x[0] + 10 * x[1]

    np.testing.assert_array_equal(fad.grad(f)(np.array([3.0, 1.0, 2.0])), [0, 1, 10])


def test_equal_elements_keep_their_own_derivative_in_a_sort():
    gradient = fad.grad(lambda x: np.sum(np.sort(x) * np.array([1.0, 10.0, 100.0])))
    np.testing.assert_array_equal(gradient(np.array([2.0, 1.0, 1.0])), [100, 1, 10])


def test_masks_combine():
    def f(x):
        inside = (x > 0) & (x < 3) | ~(x < 9)
        assert inside.dtype == bool
        np.testing.assert_array_equal(inside.value, [False, True, False, True])
        return np.sum(np.where(inside ^ (x > 9), x * x, 0.0))

    np.testing.assert_array_equal(fad.grad(f)(np.array([-1.0, 2.0, 5.0, 9.0])), [0, 4, 0, 18])
    with pytest.raises(TypeError, match="bitwise_and"):
        fad.grad(lambda x: np.sum(x & x))(np.ones(2))


def test_the_branch_not_taken_has_derivative_zero():
    x = np.array([-1.0, 0.0, 4.0])
    gradient = fad.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x)
    np.testing.assert_array_equal(gradient, [0, 0, 0.25])
    gradient = fad.grad(lambda x: np.sum(np.where(x != 0, np.sin(x) / x, 1.0)))(x)
    assert np.all(np.isfinite(gradient)) and gradient[1] == 0


@pytest.mark.one_shot
def test_indices_and_conditions_are_plain():
    def f(x):
        assert type(np.argmax(x)) is np.int64 and np.argmax(x) == x.argmax() == 4
        assert np.argmin(x) == x.argmin() == 1
        np.testing.assert_array_equal(np.argmax(x, axis=1), [2, 1])
        np.testing.assert_array_equal(np.argmin(x, 0, keepdims=True), [[0, 0, 1]])
        for order in (np.argsort(x), x.argsort(axis=1)):
            np.testing.assert_array_equal(order, [[1, 0, 2], [2, 0, 1]])
        np.testing.assert_array_equal(np.where(x > 2), [[0, 1, 1], [2, 0, 1]])
        np.testing.assert_array_equal(x.nonzero()[0], np.nonzero(x)[0])
        assert np.shape(x) == (2, 3) and np.ndim(x) == 2 and np.size(x) == 6
        assert np.size(x, 1) == 3
        assert np.array_equal(x, x) and np.allclose(x, x + 1e-12)
        assert not np.any(np.isclose(x, x + 1.0))
        return np.sum(x[np.argmax(x, axis=1), :])

    x = np.array([[1.0, 0.0, 3.0], [4.0, 5.0, 2.0]])
    with pytest.raises(IndexError):
        fad.grad(f)(x)
    assert fad.grad(lambda x: x[np.argmax(x)])(np.array([1.0, 3.0, 2.0])).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.reshape(x, (4, 2)), ValueError),
        (lambda x: np.reshape(x, (-1, -1)), ValueError),
        (lambda x: np.reshape(x, (4, -1)), ValueError),
        (lambda x: np.reshape(x, (2.0, 3)), TypeError),
        (lambda x: np.reshape(x, (3, 2), order="X"), ValueError),
        (lambda x: np.squeeze(x, 0), ValueError),
        (lambda x: np.squeeze(x, 2), np.exceptions.AxisError),
        (lambda x: np.expand_dims(x, 3), np.exceptions.AxisError),
        (lambda x: np.expand_dims(x, (0, 0)), ValueError),
        (lambda x: np.transpose(x, (0, 0)), ValueError),
        (lambda x: np.transpose(x, (0, 1, 2)), ValueError),
        (lambda x: np.swapaxes(x, 0, 2), np.exceptions.AxisError),
        (lambda x: np.moveaxis(x, 0, 2), np.exceptions.AxisError),
        (lambda x: np.moveaxis(x, (0, 1), 1), ValueError),
        (lambda x: np.broadcast_to(x, (2, 4)), ValueError),
        (lambda x: np.broadcast_arrays(x, np.ones(2)), ValueError),
        (lambda x: np.matrix_transpose(x[0]), ValueError),
        (lambda x: np.concatenate((x, x[0])), ValueError),
        (lambda x: np.concatenate((x, x[:, :1])), ValueError),
        (lambda x: np.concatenate((x, x), axis=2), np.exceptions.AxisError),
        (lambda x: np.concatenate((x[0, 0], x[0, 1])), ValueError),
        (lambda x: np.stack((x, x[0])), ValueError),
        (lambda x: np.stack((x, x), axis=3), np.exceptions.AxisError),
        (lambda x: np.split(x, 2, axis=1), ValueError),
        (lambda x: np.array_split(x, 0), ValueError),
        (lambda x: np.hsplit(x[0, 0], 1), ValueError),
        (lambda x: np.vsplit(x[0], 1), ValueError),
        (lambda x: np.dsplit(x, 1), ValueError),
        (lambda x: np.repeat(x, -1), ValueError),
        (lambda x: np.repeat(x, [1, 2], axis=1), ValueError),
        (lambda x: np.repeat(x, 2, axis=2), np.exceptions.AxisError),
        (lambda x: np.flip(x, 2), np.exceptions.AxisError),
        (lambda x: np.fliplr(x[0]), ValueError),
        (lambda x: np.roll(x, 1, axis=2), np.exceptions.AxisError),
        (lambda x: np.where(x > 0, x), ValueError),
        (lambda x: np.where(x > 0, x, np.ones(2)), ValueError),
        (lambda x: np.take(x, 6), IndexError),
        (lambda x: np.take(x, [0, -4], axis=1), IndexError),
        (lambda x: np.take(x, 0, axis=2), np.exceptions.AxisError),
        (lambda x: np.take_along_axis(x, INDEX[:, :2], axis=0), IndexError),
        (lambda x: np.diag(x[None]), ValueError),
        (lambda x: np.diagonal(x[0]), ValueError),
        (lambda x: np.diagonal(x, 0, 1, 1), ValueError),
        (lambda x: np.sort(x, axis=2), np.exceptions.AxisError),
        (lambda x: np.argsort(x, axis=2), np.exceptions.AxisError),
    ],
)
def test_errors_are_numpys(f, error):
    check_error(f, error)
