"""ba: bundle adjustment; the sparse Jacobian of all reprojection errors, as CSR."""

from __future__ import annotations

from functools import lru_cache

import numpy

from workloads.problem import Data, Workload

CAMERA = (
    *(-0.758453, -1.109613, -0.845551, 34.556073, 39.676747, 53.881673),
    *(419.194514, 5.864426, -8.51887, 0.087812, 0.002739),
)
POINT = (7.203245, 0.001144, 3.023326)
WEIGHT, FEATURE = 0.417022, (271.760969, 834.209256)
COLUMNS = len(CAMERA) + len(POINT) + 1
BLOCK = 4096  # observations whose column numbers fit a second-level cache
ROW = numpy.dtype([("camera", "V44"), ("end", "V16")])  # its column numbers


def residual_in(np):
    """Of one observation, with NumPy, or what stands in for it."""

    def residual(camera, point, weight, feature):
        rotation, centre, focal = camera[:3], camera[3:6], camera[6]
        shift, k1, k2 = camera[7:9], camera[9], camera[10]
        offset = point - centre
        angle = np.sqrt(np.sum(rotation**2))
        axis = rotation / angle
        cos, sin = np.cos(angle), np.sin(angle)
        turned = offset * cos + np.cross(axis, offset) * sin
        turned = turned + axis * (np.sum(axis * offset) * (1.0 - cos))
        p = turned[:2] / turned[2]
        rho = np.sum(p * p)
        return weight * (focal * (p * (1.0 + k1 * rho + k2 * rho**2)) + shift - feature)

    return residual


residual = residual_in(numpy)


def residual_of_numbers(*numbers):
    """The same on single numbers, for those who write it so: camera, point, weight, feature."""
    np = numpy
    rotation, centre, (focal, *shift) = numbers[:3], numbers[3:6], numbers[6:9]
    k1, k2, point, weight, feature = *numbers[9:11], numbers[11:14], numbers[14], numbers[15:]
    angle = np.sqrt(rotation[0] ** 2 + rotation[1] ** 2 + rotation[2] ** 2)
    axis, cos, sin = [each / angle for each in rotation], np.cos(angle), np.sin(angle)
    offset = [point[i] - centre[i] for i in range(3)]
    inner = axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2]
    turned = []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        across = axis[j] * offset[k] - axis[k] * offset[j]
        turned.append(offset[i] * cos + across * sin + axis[i] * (inner * (1.0 - cos)))
    x, y = turned[0] / turned[2], turned[1] / turned[2]
    rho = x * x + y * y
    scale = focal * (1.0 + k1 * rho + k2 * rho**2)
    return [weight * (scale * p + u - f) for p, u, f in zip((x, y), shift, feature, strict=True)]


def weight_error(weight):
    """Of one observation."""
    return 1.0 - weight**2


def objective(cameras, points, weights, features):
    """All errors: 2p of reprojection, then p of weights."""
    errors = [
        residual(cameras[i % len(cameras)], points[i % len(points)], weights[i], features[i])
        for i in range(len(weights))
    ]
    return numpy.concatenate([numpy.ravel(errors), weight_error(weights)])


def observers(data):
    """Number of the camera and of the point of every observation."""
    return _observers(*map(len, data.variables))


@lru_cache(maxsize=1)
def _observers(n, m, p):
    """Given with the problem, so made once."""
    which = numpy.arange(p)
    return which % n, which % m


def observed(data):
    """Cameras, points, weights and features, one row for each observation."""
    cameras, points, weights = data.variables
    (features,) = data.constants
    camera, point = observers(data)
    return cameras[camera], points[point], weights, features


def csr(data, by_camera, by_point, by_weight, slopes):
    """The matrix 3p x (11n + 3m + p) from its blocks: values, column numbers, row starts.

    Parameters
    ----------
    data : Data
    by_camera, by_point, by_weight : ndarray, shapes (p, 2, 11), (p, 2, 3), (p, 2)
        Derivatives of the reprojection errors of each observation.
    slopes : ndarray, shape (p,)
        Derivatives of the weight errors.
    """
    p = len(slopes)
    values = numpy.empty(2 * p * COLUMNS + p)
    block = values[:-p].reshape(p, 2, COLUMNS)
    block[:, :, :11], block[:, :, 11:14], block[:, :, 14] = by_camera, by_point, by_weight
    values[-p:] = slopes
    return [values, *pattern(data)]


def csr_of_columns(data, rows, slopes):
    """The same from two rows of 15 arrays, each over the observations."""
    p = len(slopes)
    values = numpy.empty(2 * p * COLUMNS + p)
    block = values[:-p].reshape(p, 2, COLUMNS)
    for i, row in enumerate(rows):
        for j, each in enumerate(row):
            block[:, i, j] = each
    values[-p:] = slopes
    return [values, *pattern(data)]


@lru_cache(maxsize=1)
def _memory(p):
    """For the pattern: written anew at every call, in the same place, as the C by hand does."""
    return numpy.empty(2 * p * COLUMNS + p, numpy.int32), numpy.empty(3 * p + 1, numpy.int32)


def pattern(data):
    """Column numbers, row starts."""
    cameras, points, weights = data.variables
    n, m, p = len(cameras), len(points), len(weights)
    camera, point = observers(data)
    of_camera = numpy.zeros((n, 2, COLUMNS), numpy.int32)  # of both rows of an observation
    of_camera[:, :, :11] = numpy.arange(11 * n).reshape(n, 1, 11)
    columns, starts = _memory(p)
    columns[-p:] = numpy.arange(11 * n + 3 * m, 11 * n + 3 * m + p, dtype=numpy.int32)
    both = columns[:-p].reshape(p, 2, COLUMNS)
    ends = columns[:-p].view(ROW)["end"].reshape(p, 2)
    room = numpy.empty((BLOCK, 4), numpy.int32)
    for start in range(0, p, BLOCK):
        block = slice(start, start + BLOCK)
        numpy.take(of_camera, camera[block], axis=0, out=both[block], mode="clip")
        first = (11 * n + 3 * point[block]).astype(numpy.int32)
        end = room[: len(first)]  # of a row: by the point and the weight, written as one item
        for j in range(3):
            numpy.add(first, j, out=end[:, j])
        end[:, 3] = columns[-p:][block]
        for i in range(2):
            ends[block, i] = end.view("V16")[:, 0]
    starts[: 2 * p] = numpy.arange(0, 2 * p * COLUMNS, COLUMNS, dtype=numpy.int32)
    starts[2 * p :] = numpy.arange(2 * p * COLUMNS, len(columns) + 1, dtype=numpy.int32)
    return [columns, starts]


def observed_columns(data):
    """The 17 numbers of every observation, an array each."""
    cameras, points, weights = data.variables
    (features,) = data.constants
    camera, point = observers(data)
    return (
        *(column[camera] for column in cameras.T),
        *(column[point] for column in points.T),
        *(weights, features[:, 0].copy(), features[:, 1].copy()),
    )


def data(size):
    """One camera, point, weight and feature, repeated."""
    n, m, p = size
    variables = numpy.tile(CAMERA, (n, 1)), numpy.tile(POINT, (m, 1)), numpy.full(p, WEIGHT)
    return Data(variables, (numpy.tile(FEATURE, (p, 1)),), lengths=size)


def outputs(data):
    """Values, column numbers, row starts."""
    p = len(data.variables[2])
    count = 2 * p * COLUMNS + p
    return [
        numpy.zeros(count),
        numpy.zeros(count, numpy.int32),
        numpy.zeros(3 * p + 1, numpy.int32),
    ]


WORKLOAD = Workload(
    "ba",
    "sparse Jacobian of n cameras, m points, p observations, as CSR",
    sizes=((49, 7776, 31_843), (257, 65_132, 225_911), (356, 226_730, 1_255_268)),
    small=(2, 3, 7),
    data=data,
    objective=objective,
    wanted="jacobian",
    outputs=outputs,
)
