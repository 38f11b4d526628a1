# Arrays of nodes: made, made again of those that went, views of each other.

cdef enum:
    DEEPEST_VIEW = 1000
    FROZEN = 0xffff        # in place of a view's op


# Arrays come and go with every recorded operation: those that went are used again as they are, type and empty
# fields in place, which is several times cheaper than a new object.
cdef enum:
    SPARE_ARRAYS = 1024

cdef PyObject *spare[SPARE_ARRAYS]
cdef Py_ssize_t spare_count = 0

cdef extern from *:
    """
    typedef void (*fad_destructor)(PyObject *);
    static inline fad_destructor fad_swap_dealloc(PyTypeObject *type, fad_destructor dealloc)
    {
        fad_destructor before = type->tp_dealloc;
        type->tp_dealloc = dealloc;
        return before;
    }
    /* NumPy replaces the error of an element that it cannot store by words of its own where the element is a sequence,
     * and this slot is how it tells. Indexing and iteration have others. */
    static inline void fad_not_a_sequence(PyTypeObject *type)
    {
        type->tp_as_sequence->sq_item = NULL;
        PyType_Modified(type);
    }
    """
    ctypedef void (*fad_destructor)(PyObject *) noexcept
    fad_destructor fad_swap_dealloc(void *type, fad_destructor dealloc)
    void fad_not_a_sequence(void *type)
    void Py_SET_REFCNT(PyObject *o, Py_ssize_t count)
    Py_ssize_t Py_REFCNT(PyObject *o)

cdef fad_destructor destroy


cdef inline Array fresh():
    global spare_count
    cdef PyObject *p
    if spare_count > 0:
        spare_count -= 1
        p = spare[spare_count]
        Py_SET_REFCNT(p, 0)   # the cast takes the one reference
        return <Array>p
    return Array.__new__(Array)


cdef void set_aside(PyObject *p) noexcept:
    global spare_count
    cdef Array a
    Py_SET_REFCNT(p, 1)       # alive while its fields are cleared, which may set others aside
    a = <Array>p
    a.recorder = None
    if a.base is not None:
        a.base = None
        a.depth = 0
    a.version = 0
    Py_SET_REFCNT(p, 2)       # `a` goes out of scope, and nothing is destroyed
    if spare_count == SPARE_ARRAYS:
        a = None
        Py_SET_REFCNT(p, 0)
        destroy(p)
        return
    spare[spare_count] = p
    spare_count += 1


destroy = fad_swap_dealloc(<void *>Array, set_aside)
fad_not_a_sequence(<void *>Array)


cdef inline Array wrap(Recorder recorder, uint32_t node):
    cdef Array a
    cdef uint16_t flags = recorder.tape.nodes[node].flags
    if flags & FAD_IS_VERSION:   # known to one more: no write may take its buffer
        recorder.check(fad_hold(recorder.tape, node), "an earlier value")
    a = fresh()
    a.recorder = recorder
    a.generation = recorder.generation
    a.node = node
    a.scalar = not flags & FAD_IS_ARRAY
    a.active = flags & FAD_INHERITED
    return a


cdef int layout(Array a, Py_ssize_t *strides) except -1:
    """Strides, in elements, of the ndarray that `a` stands for. Those of its data differ: writing makes a copy."""
    cdef const fad_shape *shape = fad_node_shape(a.recorder.tape, a.node)
    cdef int axes[64]
    cdef Py_ssize_t steps[64]
    cdef const fad_view *view
    cdef int i, n = <int>shape.ndim
    for i in range(n):
        axes[i], steps[i] = i, 1
    while a.base is not None and a.view_op == FAD_VIEW:
        view = <fad_view *>a.recorder.tape.side[a.view_aux]
        for i in range(n):
            if axes[i] >= 0:
                steps[i] *= view.step[axes[i]]
                axes[i] = view.source[axes[i]]
        shape = view.whole
        a = a.base
    for i in range(n):
        strides[i] = steps[i] * shape.strides[axes[i]] if axes[i] >= 0 else 0
    return 0


cdef bint reshape_is_view(Array a, const fad_shape *to) except -1:
    """Whether NumPy's reshape gives a view: where axes are joined, their elements lie one step apart."""
    cdef const fad_shape *shape = fad_node_shape(a.recorder.tape, a.node)
    cdef Py_ssize_t strides[64]
    cdef Py_ssize_t dims[64]
    cdef Py_ssize_t before, after
    cdef int i, k, first, n = 0, new = 0
    layout(a, strides)
    if shape.size == 0:
        return True
    for i in range(<int>shape.ndim):
        if shape.dims[i] != 1:
            dims[n], strides[n] = shape.dims[i], strides[i]
            n += 1
    i = 0
    while i < n:
        first = i
        before, after = dims[i], to.dims[new]
        i, new = i + 1, new + 1
        while before != after:
            if before < after:
                before *= dims[i]
                i += 1
            else:
                after *= to.dims[new]
                new += 1
        for k in range(first, i - 1):
            if strides[k] != dims[k + 1] * strides[k + 1]:
                return False
    return True


cdef Array view_of(Array a, uint32_t node):
    """Array of a VIEW or RESHAPE node of `a`: writing to one writes to the other, as NumPy's views do."""
    cdef Array v = wrap(a.recorder, node)
    cdef fad_node n = a.recorder.tape.nodes[node]
    if v.scalar or a.scalar:
        return v
    if node == a.node:   # reshaped to its own shape
        if a.base is not None:
            v.base, v.base_version, v.depth = a.base, a.base_version, a.depth
            v.view_op, v.view_aux = a.view_op, a.view_aux
            return v
        n.op, n.aux = FAD_RESHAPE, fad_node_shape(a.recorder.tape, node).id
    elif n.a != a.node or (n.op == FAD_RESHAPE
                           and not reshape_is_view(a, fad_node_shape(a.recorder.tape, node))):
        return v
    v.base = a
    v.base_version = a.version
    v.view_op = n.op
    v.view_aux = n.aux
    v.depth = a.depth + 1
    if v.depth > DEEPEST_VIEW:
        # Too deep to follow: it stays as it is, and is refused once what it views is written to.
        while a.base is not None:
            a = a.base
        v.base = a
        v.base_version = a.version
        v.view_op = FROZEN
        v.depth = DEEPEST_VIEW + 1
    return v
