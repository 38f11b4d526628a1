# Indices: basic ones as views, advanced ones as flat indices.

cdef uint32_t fitted(Recorder recorder, uint32_t given, const fad_shape *shape) except? 0xfffffffe:
    """`given` with leading one-element axes dropped and broadcast to `shape`, as NumPy's assignment does."""
    cdef const fad_shape *own = fad_node_shape(recorder.tape, given)
    cdef Py_ssize_t skip = 0
    cdef const fad_shape *less
    while own.ndim - skip > shape.ndim and own.dims[skip] == 1:
        skip += 1
    if skip:
        recorder.check(fad_shape_intern(recorder.tape, own.ndim - skip, own.dims + skip, &less), "assignment")
        recorder.check(fad_record_reshape(recorder.tape, given, less, &given), "assignment")
    cdef fad_status status = fad_record_broadcast_to(recorder.tape, given, shape, &given)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"could not broadcast input array from shape {shape_tuple(own)} into shape "
                         f"{shape_tuple(shape)}")
    recorder.check(status, "assignment")
    return given


cdef const fad_shape *part_shape(Recorder recorder, int side):
    return (<fad_view *>recorder.tape.side[side]).part


cdef bint is_basic(object index):
    return index is None or index is Ellipsis or isinstance(index, slice) or \
        (isinstance(index, (int, np.integer)) and not isinstance(index, bool))


cdef int basic_index(Array a, object index) except -2:
    """Side record of a basic index, or -1 where the index is an advanced one."""
    cdef const fad_shape *shape = fad_node_shape(a.recorder.tape, a.node)
    cdef Py_ssize_t start[64]
    cdef Py_ssize_t step[64]
    cdef Py_ssize_t dims[64]
    cdef int source[64]
    cdef int axis = 0, out = 0, used = 0, missing
    cdef Py_ssize_t i, lower, upper, stride, length
    cdef uint32_t side = 0
    cdef tuple parts = index if type(index) is tuple else (index,)
    for part in parts:
        if not is_basic(part):
            return -1
        if part is not None and part is not Ellipsis:
            used += 1
    if used > <int>shape.ndim:
        raise IndexError(f"too many indices for array: array is {shape.ndim}-dimensional, but {used} were indexed")
    if len([part for part in parts if part is Ellipsis]) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    missing = <int>shape.ndim - used
    if Ellipsis not in parts:
        parts = parts + (Ellipsis,)
    memset(start, 0, sizeof(start))
    if len(parts) - 1 + <int>shape.ndim - used > 64:
        raise IndexError("too many new axes")
    for part in parts:
        if part is Ellipsis:
            for _ in range(missing):
                dims[out], step[out], source[out] = shape.dims[axis], 1, axis
                out += 1
                axis += 1
        elif part is None:
            dims[out], step[out], source[out] = 1, 0, -1
            out += 1
        elif isinstance(part, slice):
            PySlice_Unpack(part, &lower, &upper, &stride)
            length = PySlice_AdjustIndices(shape.dims[axis], &lower, &upper, stride)
            start[axis] = lower if length > 0 else 0
            dims[out], step[out], source[out] = length, stride if length > 1 else 1, axis
            out += 1
            axis += 1
        else:
            i = part
            if i < 0:
                i += shape.dims[axis]
            if not 0 <= i < shape.dims[axis]:
                raise IndexError(f"index {part} is out of bounds for axis {axis} with size {shape.dims[axis]}")
            start[axis] = i
            axis += 1
    a.recorder.check(fad_make_view(a.recorder.tape, shape, out, dims, start, step, source, &side), "index")
    return <int>side


cdef object flat_indices(tuple shape, object index):
    """Flat C-order indices that an advanced index picks, by NumPy's own rules: each axis' coordinate is indexed."""
    parts = index if type(index) is tuple else (index,)
    plain_index = tuple([index_value(part) for part in parts])
    if len(shape) == 1 and len(plain_index) == 1:
        # Without the coordinates, which are as many as the array has elements. What is wrong raises below.
        at = np.asarray(plain_index[0])
        if at.dtype.kind in "iu" and at.size and -shape[0] <= at.min() and at.max() < shape[0]:
            at = at.astype(np.int64)
            return np.asarray(np.where(at < 0, at + shape[0], at))
    cdef list strides = [1] * len(shape)
    cdef Py_ssize_t d
    for d in range(len(shape) - 2, -1, -1):
        strides[d] = strides[d + 1] * shape[d + 1]
    flat = None
    for d in range(len(shape)):
        along = [1] * len(shape)
        along[d] = shape[d]
        coordinate = np.broadcast_to((np.arange(shape[d], dtype=np.int64) * strides[d]).reshape(along), shape)
        picked = coordinate[plain_index]
        flat = picked if flat is None else flat + picked
    if flat is None:
        flat = np.zeros((), np.int64)[plain_index]
    return np.ascontiguousarray(flat, np.int64) if np.ndim(flat) else np.asarray(flat, np.int64)


class FlatIndices:
    """The rule of an index with recorded integers: the flat places that it picks."""

    leading_axes = False

    def __init__(self, shape, index, places):
        self.shape = shape      # of what is indexed
        self.index = index      # the index, None at the places of recorded integers
        self.places = places

    def forward(self, *integers):
        parts = list(self.index)
        for place, part in zip(self.places, integers):
            parts[place] = part
        return flat_indices(self.shape, tuple(parts))

    def vjp(self, inputs, outputs, cotangents):
        return (None,) * len(inputs)

    def jvp(self, inputs, outputs, tangents):
        return (None,)


cdef object places_of(Array a, object index):
    """Flat indices that an advanced index picks: recorded ones, where the recording computes it."""
    cdef tuple parts = index if type(index) is tuple else (index,)
    cdef list places
    if a.recorder.tracing:
        places = [i for i in range(len(parts)) if is_recorded_index(parts[i])]
        if places:
            rest = tuple([None if i in places else index_value(parts[i]) for i in range(len(parts))])
            return call(FlatIndices(a.shape, rest, tuple(places)), [parts[i] for i in places])[0]
    return flat_indices(a.shape, index)


cdef object index_value(object part):
    value = value_of(part)   # of a mask: how many elements it picks is part of the recording
    if type(part) is Array and (<Array>part).active & FAD_IS_ACTIVE:
        raise IndexError("an index must be integers or bools, got a differentiable Array")
    return value
