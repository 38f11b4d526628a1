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
    """
    ctypedef void (*fad_destructor)(PyObject *) noexcept
    fad_destructor fad_swap_dealloc(void *type, fad_destructor dealloc)
    void Py_SET_REFCNT(PyObject *o, Py_ssize_t count)

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


cdef inline Array wrap(Recorder recorder, uint32_t node):
    cdef Array a = fresh()
    cdef uint16_t flags = recorder.tape.nodes[node].flags
    a.recorder = recorder
    a.generation = recorder.generation
    a.node = node
    a.scalar = not flags & FAD_IS_ARRAY
    a.active = flags & FAD_INHERITED
    return a


cdef Array view_of(Array a, uint32_t node):
    """Array of a VIEW or RESHAPE node of `a`: writing to one writes to the other, as NumPy's views do."""
    cdef Array v = wrap(a.recorder, node)
    cdef fad_node n = a.recorder.tape.nodes[node]
    if v.scalar or a.scalar or node == a.node or n.a != a.node:
        return v
    if n.op == FAD_RESHAPE and a.recorder.tape.values[node].array.data != a.recorder.tape.values[a.node].array.data:
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
