# Derivatives as nodes.

cdef uint32_t *node_list(Recorder recorder, tuple arrays) except NULL:
    cdef Py_ssize_t i, n = len(arrays)
    cdef int dtype
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            nodes[i] = recorder.lift(arrays[i], &dtype)
    except BaseException:
        PyMem_Free(nodes)
        raise
    return nodes


def emit_reverse(Recorder recorder, outputs, cotangents, wrt):
    """Record the cotangents of `wrt` given those of `outputs`; zeros (plain) where an output does not depend on it."""
    return emit(recorder, tuple(outputs), tuple(cotangents), tuple(wrt), True)


def emit_tangent(Recorder recorder, wrt, tangents, outputs):
    """Record the tangents of `outputs` given those of `wrt`; zeros (plain) where an output does not depend on it."""
    return emit(recorder, tuple(wrt), tuple(tangents), tuple(outputs), False)


cdef object emit(Recorder recorder, tuple given, tuple seeds, tuple wanted, bint reverse):
    cdef Py_ssize_t i, n = len(given), m = len(wanted)
    cdef uint32_t *from_nodes = NULL
    cdef uint32_t *seed_nodes = NULL
    cdef uint32_t *to_nodes = NULL
    cdef uint32_t *results = NULL
    cdef size_t end
    recorder.require_open()
    if FAD_DEBUG_BUILD:
        recorder.verify()
    try:
        from_nodes = node_list(recorder, given)
        to_nodes = node_list(recorder, wanted)
        end = recorder.tape.count   # after these: a view may have been taken again
        seed_nodes = node_list(recorder, tuple([conform(recorder, seed, like) for seed, like in zip(seeds, given)]))
        results = <uint32_t *>PyMem_Malloc((m + 1) * sizeof(uint32_t))
        if results == NULL:
            raise MemoryError
        if reverse:
            recorder.check(fad_emit_reverse(recorder.tape, end, n, from_nodes, seed_nodes, m, to_nodes, results),
                           "derivatives as nodes")
        else:
            recorder.check(fad_emit_tangent(recorder.tape, end, n, from_nodes, seed_nodes, m, to_nodes, results),
                           "derivatives as nodes")
        return [zeros_like(recorder, to_nodes[i]) if results[i] == FAD_NODE_NONE else wrap(recorder, results[i])
                for i in range(m)]
    finally:
        PyMem_Free(from_nodes)
        PyMem_Free(seed_nodes)
        PyMem_Free(to_nodes)
        PyMem_Free(results)


cdef object conform(Recorder recorder, object seed, Array like):
    """A seed as an Array of the type and shape of `like`."""
    cdef int dtype
    cdef uint32_t node = recorder.lift(seed, &dtype)
    recorder.check(fad_record_cast(recorder.tape, node, fad_node_dtype(recorder.tape, like.node), &node), "seed")
    if fad_node_shape(recorder.tape, node) != fad_node_shape(recorder.tape, like.node):
        raise ValueError(f"seed of shape {shape_tuple(fad_node_shape(recorder.tape, node))} for a value of shape "
                         f"{like.shape}")
    return wrap(recorder, node)


cdef object zeros_like(Recorder recorder, uint32_t node):
    shape = shape_tuple(fad_node_shape(recorder.tape, node))
    dtype = fad_node_dtype(recorder.tape, node)
    if not shape and dtype != FAD_F32:
        return 0.0
    return np.zeros(shape, DTYPES[dtype if fad_is_float(dtype) else FAD_F64])[()]
