# What stands outside the tape: values as ndarrays, operands that are not Arrays.

cdef inline object shape_tuple(const fad_shape *shape):
    cdef size_t i
    return tuple([shape.dims[i] for i in range(shape.ndim)])


cdef object in_place_ndarray(const fad_array *array):
    """An ndarray that shares the array's memory."""
    cdef cnp.npy_intp dims[64]
    cdef cnp.npy_intp strides[64]
    cdef size_t i, item = 8
    cdef int number = cnp.NPY_FLOAT64
    if array.dtype == FAD_F32:
        item, number = 4, cnp.NPY_FLOAT32
    elif array.dtype == FAD_I64:
        number = cnp.NPY_INT64
    elif array.dtype == FAD_BOOL:
        item, number = 1, cnp.NPY_BOOL
    for i in range(array.shape.ndim):
        dims[i] = array.shape.dims[i]
        strides[i] = array.strides[i] * item
    return cnp.PyArray_New(<type>ndarray, <int>array.shape.ndim, dims, number, strides, array.data, 0, 0, None)


cdef object to_numpy(const fad_array *array):
    """A fresh C-contiguous ndarray with the array's elements."""
    return cnp.PyArray_NewCopy(<cnp.ndarray>in_place_ndarray(array), cnp.NPY_CORDER)


cdef int refuse(object x) except -1:
    """Raise TypeError for the ndarrays whose operators mean something else."""
    if type(x) is not ndarray and isinstance(x, (np.matrix, np.ma.MaskedArray)):
        raise TypeError(f"numpy.{type(x).__name__} is not supported: its operators are not an array's; "
                        "pass np.asarray(x), or its data and its mask apart")
    return 0


cdef object nested(object x):
    """ndarray of a list, tuple or other array-like; object dtype where it holds Arrays."""
    if isinstance(x, (list, tuple)):
        if holds_array(x):
            return nested_arrays(x)
    elif isinstance(x, (complex, str, bytes)) or x is None:
        raise TypeError(f"expected numbers or arrays, got {type(x).__name__}")
    array = np.asarray(x)
    if array.dtype == object and not array.shape and type(array[()]) is not Array:
        raise TypeError(f"expected numbers or arrays, got {type(x).__name__}")
    return array


cdef bint holds_array(object x):
    for item in x:
        if type(item) is Array or (isinstance(item, (list, tuple)) and holds_array(item)):
            return True
        if isinstance(item, ndarray) and item.dtype == object:
            return True
    return False


cdef object nested_arrays(object items):
    """One Array of a nested sequence that holds Arrays."""
    parts = [nested_arrays(item) if isinstance(item, (list, tuple)) and holds_array(item) else item
             for item in items]
    return rule_of(np.stack)(parts)


cdef object stack_objects(Recorder recorder, object array):
    """One Array of an object ndarray whose elements are Arrays and numbers."""
    cdef Py_ssize_t i, n = array.size
    cdef uint32_t node = 0
    cdef int dtype
    cdef list items = array.ravel().tolist()
    if n and any([type(item) is Array and ((<Array>item).recorder is recorder or recorder.captured is not None)
                  and not (<Array>item).scalar
                  for item in items]):
        return reshape(rule_of(np.stack)(items), array.shape + np.shape(items[0]))
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            item = items[i]
            if type(item) is not Array and not isinstance(item, (float, int, generic)):
                raise TypeError(f"an object array may hold Arrays and numbers, got {type(item).__name__} at flat "
                                f"index {i}")
            nodes[i] = recorder.lift(item, &dtype)
        recorder.check(fad_record_stack(recorder.tape, n, nodes, &node), "stack")
    finally:
        PyMem_Free(nodes)
    return reshape(wrap(recorder, node), array.shape)


cdef Recorder recorder_of(object x):
    """The recorder of an operand, or None."""
    if type(x) is Array:
        return (<Array>x).recorder
    if isinstance(x, ndarray):
        if x.dtype == object:
            for item in x.flat:
                if type(item) is Array:
                    return (<Array>item).recorder
    elif isinstance(x, (list, tuple)):
        for item in x:
            recorder = recorder_of(item)
            if recorder is not None:
                return recorder
    return None


cdef Recorder recorder_for(tuple operands):
    """The open recorder on which an operation of these operands is recorded."""
    cdef Recorder recorder
    for x in operands:
        recorder = recorder_of(x)
        if recorder is not None:
            recorder.require_open()
            return innermost(recorder)
    raise TypeError("expected at least one fastad.Array among the operands")


def is_array(x):
    """Whether `x` is an Array or a container (object array, list, tuple) that holds one."""
    return recorder_of(x) is not None


cdef bint is_traced(object x):
    return type(x) is Array or recorder_of(x) is not None


def value_of(x):
    """Value of an Array, or of an object array that holds some, without recording; anything else as it is."""
    if type(x) is Array:
        (<Array>x).readable()
        (<Array>x).recorder.asked((<Array>x).node)
        return (<Array>x).recorder.value_of((<Array>x).node)
    if recorder_of(x) is not None:
        return np.array([value_of(item) for item in np.asarray(x, dtype=object).ravel()]).reshape(np.shape(x)) \
            if isinstance(x, ndarray) else np.array([value_of(item) for item in x])
    return x


def forward_value(x):
    """As value_of, for the value of a custom node alone: it is computed again wherever the node is."""
    if type(x) is Array:
        (<Array>x).readable()
        return (<Array>x).recorder.value_of((<Array>x).node)
    return value_of(x)


def replayed(x):
    """Whether `x` is an Array whose value may be another when the recording is used again, in a program or for another
    lane of a vmap: do not decide by it.
    """
    cdef Array a
    if type(x) is not Array:
        return False
    a = <Array>x
    a.readable()
    return a.recorder.tracing and a.recorder.tape.nodes[a.node].op != FAD_CONSTANT or a.recorder.varies(a.node)


def varies(x):
    """Whether `x` is an Array that differs from lane to lane of a vmap under way."""
    if type(x) is not Array:
        return False
    (<Array>x).readable()
    return (<Array>x).recorder.varies((<Array>x).node)


cdef list shape_of_operands(Recorder recorder, uint32_t *nodes, int n):
    cdef int k
    return [shape_tuple(fad_node_shape(recorder.tape, nodes[k])) for k in range(n)]
