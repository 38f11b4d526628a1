# Rows of csrc/structural.def, and custom nodes.

cdef const fad_shape *intern(Recorder recorder, object shape, str what) except NULL:
    cdef Py_ssize_t dims[64]
    cdef const fad_shape *result
    cdef int i, n
    if isinstance(shape, int):
        shape = (shape,)
    n = len(shape)
    if n > 64:
        raise ValueError(f"{what}: at most 64 dimensions, got {n}")
    for i in range(n):
        dims[i] = shape[i]
        if dims[i] < 0:
            raise ValueError(f"{what}: negative dimensions are not allowed, got {tuple(shape)}")
    recorder.check(fad_shape_intern(recorder.tape, n, dims, &result), what)
    return result


cdef Array operand(object x):
    """An operand as an Array of an open recorder."""
    cdef Recorder r
    cdef int dtype
    if type(x) is Array:
        (<Array>x).use()
        return inside(<Array>x)
    r = recorder_for((x,))
    return wrap(r, r.lift(x, &dtype))


def asarray(x):
    """`x` as an Array: itself, or the stack of an object array or nested list that holds Arrays."""
    return operand(x)


def reshape(x, shape):
    """Same elements in C order, other shape; `shape` without -1."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "reshape")
    cdef const fad_shape *own = fad_node_shape(a.recorder.tape, a.node)
    if own.size != to.size:
        raise ValueError(f"cannot reshape array of size {own.size} into shape {tuple(shape)}")
    a.recorder.check(fad_record_reshape(a.recorder.tape, a.node, to, &node), "reshape")
    return view_of(a, node)


def broadcast_to(x, shape):
    """Repeat along new and one-element axes."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "broadcast_to")
    cdef fad_status status = fad_record_broadcast_to(a.recorder.tape, a.node, to, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"broadcast_to: an array of shape {a.shape} does not broadcast to shape {tuple(shape)}")
    a.recorder.check(status, "broadcast_to")
    return wrap(a.recorder, node)


def sum_to(x, shape):
    """Sum over the axes that broadcasting from `shape` to x.shape repeats."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "sum_to")
    cdef fad_status status = fad_record_sum_to(a.recorder.tape, a.node, to, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"sum_to: shape {tuple(shape)} does not broadcast to the operand's shape {a.shape}")
    a.recorder.check(status, "sum_to")
    return wrap(a.recorder, node)


cdef Array extremum_to(int op, object x, object shape):
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef str name = fad_ops[op].spelled.decode()
    cdef const fad_shape *to = intern(a.recorder, shape, name)
    cdef fad_status status = fad_record_extremum_to(a.recorder.tape, op, a.node, to, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"{name}: shape {tuple(shape)} does not broadcast to the operand's shape {a.shape}")
    if status == FAD_BAD_OPERAND:
        raise ValueError(f"{name}: zero-size array of shape {a.shape} has no extremum")
    a.recorder.check(status, name)
    return wrap(a.recorder, node)


def max_to(x, shape):
    """Largest elements over the axes that broadcasting from `shape` to x.shape repeats; x may have any type."""
    return extremum_to(FAD_MAX_TO, x, shape)


def min_to(x, shape):
    """Smallest elements over the axes that broadcasting from `shape` to x.shape repeats; x may have any type."""
    return extremum_to(FAD_MIN_TO, x, shape)


def transpose(x, axes):
    """Permute the axes: a view."""
    cdef Array a = operand(x)
    cdef int own[64]
    cdef uint32_t node = 0
    cdef int i
    if sorted(axes) != list(range(a.ndim)):
        raise ValueError(f"transpose: axes {tuple(axes)} are no permutation of the {a.ndim} axes")
    for i in range(a.ndim):
        own[i] = axes[i]
    if a.scalar:
        return a
    a.recorder.check(fad_record_transpose(a.recorder.tape, a.node, own, &node), "transpose")
    return view_of(a, node)


cdef uint32_t recorded_indices(Array indices, size_t size) except? 0xfffffffe:
    """Node of an int64 Array, dense: in range here, and checked again where it is computed again."""
    cdef fad_tape *tape = indices.recorder.tape
    cdef const fad_shape *shape
    cdef uint32_t node
    indices.use()
    node = indices.node
    array = indices.recorder.value_of(node)
    if array.size and (array.min() < 0 or array.max() >= size):
        raise IndexError(f"indices: flat index out of range for {size} elements")
    shape = fad_node_shape(tape, node)
    if tape.values[node].array.strides != shape.strides:   # of another shape, and back: a copy
        indices.recorder.check(fad_record_reshape(tape, node, intern(indices.recorder, (1,) + array.shape, "indices"),
                                                  &node), "indices")
        indices.recorder.check(fad_record_reshape(tape, node, shape, &node), "indices")
    return node


cdef bint is_recorded_index(object x):
    """Whether `x` is an int64 Array that the recording computes."""
    return type(x) is Array and (<Array>x).recorder is not None and not (<Array>x).scalar \
        and fad_node_dtype((<Array>x).recorder.tape, (<Array>x).node) == FAD_I64 \
        and (<Array>x).recorder.tape.nodes[(<Array>x).node].op != FAD_CONSTANT


cdef uint32_t index_node(Recorder recorder, object indices, size_t size) except? 0xfffffffe:
    if is_recorded_index(indices):
        return recorded_indices(<Array>indices, size)
    array = np.asarray(value_of(indices))
    if array.dtype.kind not in "iu":
        raise TypeError(f"indices: expected integers, got dtype {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= size):
        raise IndexError(f"indices: flat index out of range for {size} elements")
    return recorder.constant_array(np.asarray(array, np.int64) if array.ndim else array.astype(np.int64).reshape(()),
                                   FAD_CONSTANT, 0)


def gather(x, indices):
    """Elements of `x` at flat C-order `indices`; the result has the shape of `indices`. One of them is an Array."""
    cdef Recorder recorder = recorder_for((x, indices))
    cdef int dtype
    cdef uint32_t a = recorder.lift(x, &dtype), node = 0   # no second Array of it: the next write would copy
    cdef uint32_t at = index_node(recorder, indices, fad_node_shape(recorder.tape, a).size)
    recorder.check(fad_record_gather(recorder.tape, a, at, &node), "gather")
    return wrap(recorder, node)


def scatter_add(v, indices, shape):
    """Zeros of `shape`, with `v` added at flat C-order `indices`."""
    cdef Array a = operand(v)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "scatter_add")
    cdef uint32_t at = index_node(a.recorder, indices, to.size)
    if fad_node_shape(a.recorder.tape, a.node) != fad_node_shape(a.recorder.tape, at):
        raise ValueError(f"scatter_add: values of shape {a.shape} and indices of shape {np.shape(indices)}")
    a.recorder.check(fad_record_scatter_add(a.recorder.tape, a.node, at, to, &node), "scatter_add")
    return wrap(a.recorder, node)


def segment_sum(x, ids, Py_ssize_t n):
    """Sums of the rows of `x` that share an id: result row i is the sum of the rows k with ids[k] == i < n."""
    cdef Array a = operand(x)
    ids = np.asarray(value_of(ids))   # a value: which rows are summed is part of the recording
    if ids.ndim != 1 or a.ndim == 0 or a.shape[0] != ids.size:
        raise ValueError(f"segment_sum: ids: expected one id for each of the rows of x (shape {a.shape}), "
                         f"got shape {ids.shape}")
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        raise IndexError(f"segment_sum: ids out of range for {n} segments")
    row = int(np.prod(a.shape[1:]))
    flat = (ids.astype(np.int64)[:, None] * row + np.arange(row)).reshape(a.shape)
    return scatter_add(a, flat, (n,) + a.shape[1:])


def update_at(x, v, indices):
    """Copy of `x` with `v` (broadcast to indices.shape) written at distinct flat C-order `indices`."""
    cdef Recorder recorder = recorder_for((x, v))
    cdef int dtype
    cdef uint32_t a = recorder.lift(x, &dtype), b = recorder.lift(v, &dtype), node = 0
    cdef uint32_t at = index_node(recorder, indices, fad_node_shape(recorder.tape, a).size)
    recorder.check(fad_record_broadcast_to(recorder.tape, b, fad_node_shape(recorder.tape, at), &b), "update_index")
    recorder.check(fad_record_update_at(recorder.tape, a, b, at, &node), "update_index")
    return wrap(recorder, node)


update_index = update_at


def concatenate(sequence, axis=0):
    """Arrays of equal rank end to end along `axis`."""
    cdef tuple parts = tuple(sequence)
    cdef Recorder recorder = recorder_for(parts)
    cdef Py_ssize_t i, n = len(parts)
    cdef int dtype, common = -1
    cdef uint32_t node = 0
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    cdef fad_status status = FAD_OK
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            nodes[i] = recorder.lift(parts[i], &dtype)
            if dtype < 0:
                dtype = FAD_F64
            if common < 0:
                common = dtype
            elif common != dtype:
                common = {np.dtype(np.float64): FAD_F64, np.dtype(np.float32): FAD_F32, np.dtype(np.int64): FAD_I64}[
                    np.promote_types(DTYPES[common], DTYPES[dtype])]
        for i in range(n):
            recorder.check(fad_record_cast(recorder.tape, nodes[i], common, &nodes[i]), "concatenate")
        status = fad_record_concatenate(recorder.tape, n, nodes, axis, &node)
        if status == FAD_BAD_SHAPE or status == FAD_BAD_OPERAND:
            shapes = " ".join([str(shape_tuple(fad_node_shape(recorder.tape, nodes[i]))) for i in range(n)])
            raise ValueError(f"concatenate: shapes {shapes} do not fit along axis {axis}")
        recorder.check(status, "concatenate")
    finally:
        PyMem_Free(nodes)
    return wrap(recorder, node)


def stack_scalars(sequence):
    """0-d operands side by side as a vector."""
    cdef tuple parts = tuple(sequence)
    cdef object box = np.empty(len(parts), dtype=object)
    box[:] = parts
    return stack_objects(recorder_for(parts), box)


def matmul(a, b):
    """Matrix product of stacks of matrices (ndim >= 2 both)."""
    cdef Recorder recorder = recorder_for((a, b))
    cdef int dtype
    cdef uint32_t x = recorder.lift(a, &dtype), y, node = 0
    if dtype >= 0 and not fad_is_float(dtype):
        recorder.check(fad_record_cast(recorder.tape, x, FAD_F64, &x), "matmul")
    y = recorder.lift(b, &dtype)
    if dtype >= 0 and not fad_is_float(dtype):
        recorder.check(fad_record_cast(recorder.tape, y, FAD_F64, &y), "matmul")
    cdef fad_status status = fad_record_matmul(recorder.tape, x, y, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"matmul: shapes {shape_tuple(fad_node_shape(recorder.tape, x))} and "
                         f"{shape_tuple(fad_node_shape(recorder.tape, y))} do not fit")
    recorder.check(status, "matmul")
    return wrap(recorder, node)


def cumsum(x, axis, reverse=False):
    """Cumulative sum along `axis` (from the end where `reverse`)."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    if not 0 <= axis < a.ndim:
        raise ValueError(f"cumsum: axis {axis} is out of bounds for an array of {a.ndim} dimensions")
    a.recorder.check(fad_record_cumsum(a.recorder.tape, a.node, axis, reverse, &node), "cumsum")
    return wrap(a.recorder, node)


def cast(x, dtype):
    """`x` as float64 or float32 (an integer or bool result is a plain ndarray: it has no derivative)."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    wanted = np.dtype(dtype)
    if wanted != FLOAT64 and wanted != DTYPES[FAD_F32]:
        if wanted.kind in "iub":
            return np.asarray(value_of(a)).astype(wanted)
        raise TypeError(f"dtype: expected float64, float32, an integer type or bool, got {wanted}"
                        + (" (complex is not supported yet)" if wanted.kind == "c" else ""))
    a.recorder.check(fad_record_cast(a.recorder.tape, a.node, FAD_F64 if wanted == FLOAT64 else FAD_F32, &node),
                     "cast")
    return wrap(a.recorder, node)


def custom(rule, inputs, values, n_out=None):
    """A node with a rule of its own.

    Parameters
    ----------
    rule : object
        ``rule.vjp(inputs, outputs, cotangents)`` gives one derivative for each input (None: zero), and, optionally,
        ``rule.jvp(inputs, outputs, tangents)`` one tangent for each output.
    inputs : sequence
        Operands, at least one an Array.
    values : sequence
        The outputs, already computed.

    Returns
    -------
    tuple of Array
    """
    cdef tuple operands = tuple(inputs), outputs = tuple(values)
    cdef Recorder recorder = recorder_for(operands)
    cdef size_t i, n = len(operands), m = len(outputs)
    cdef int dtype
    cdef uint32_t first = 0
    recorder.settle()
    cdef fad_array to
    cdef cnp.ndarray array
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    cdef uint8_t *dtypes = <uint8_t *>PyMem_Malloc(m + 1)
    cdef const fad_shape **shapes = <const fad_shape **>PyMem_Malloc((m + 1) * sizeof(void *))
    try:
        if nodes == NULL or dtypes == NULL or shapes == NULL:
            raise MemoryError
        for i in range(n):
            nodes[i] = recorder.lift(operands[i], &dtype)
        arrays = []
        for i in range(m):
            array = np.ascontiguousarray(outputs[i]) if np.ndim(outputs[i]) else np.asarray(outputs[i])
            if array.dtype not in DTYPES:
                if array.dtype.kind not in "iu":
                    raise TypeError(f"{rule_name(rule)}: output {i} has dtype {array.dtype}: expected float64, "
                                    "float32, integer or bool")
                array = array.astype(np.int64)
            arrays.append(array)
            dtypes[i] = <uint8_t>DTYPES.index(array.dtype)
            shapes[i] = intern(recorder, np.shape(array), rule_name(rule))
        recorder.check(fad_new_custom(recorder.tape, <void *>rule, n, nodes, <uint32_t>m, dtypes, shapes, &first),
                       rule_name(rule))
        Py_INCREF(rule)
        for i in range(m):
            array = arrays[i]
            to = fad_value_array(recorder.tape, first + <uint32_t>i)
            memcpy(to.data, cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
    finally:
        PyMem_Free(nodes)
        PyMem_Free(dtypes)
        PyMem_Free(shapes)
    return tuple([custom_output(recorder, first + <uint32_t>i) for i in range(m)])


def call(rule, inputs):
    """A custom node of a rule that can compute its outputs again.

    Parameters
    ----------
    rule : object
        As of `custom`, and ``rule.forward(*values)`` gives the output or a tuple of them. All its methods depend on
        inputs, outputs and constants alone.
    inputs : sequence
        Operands, at least one an Array.

    Returns
    -------
    tuple of Array
    """
    cdef tuple operands = tuple(inputs)
    outputs = rule.forward(*[forward_value(x) for x in operands])
    return custom(rule, operands, outputs if isinstance(outputs, tuple) else (outputs,))


def whole(x):
    """`x` as a recorded int64 Array, which has no derivative."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    a.recorder.check(fad_record_cast(a.recorder.tape, a.node, FAD_I64, &node), "cast")
    return wrap(a.recorder, node)


cdef Array custom_output(Recorder recorder, uint32_t node):
    """An output's Array. The first node of a rule is active for the rule's sake, even where its value is an index."""
    cdef Array a = wrap(recorder, node)
    if not fad_is_float(fad_node_dtype(recorder.tape, node)):
        a.active &= FAD_IS_DYNAMIC
    return a
