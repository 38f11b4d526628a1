# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, cdivision=True
"""The reverse loop: partial derivatives of outputs with respect to every node before them.

The forward loop, its smaller sister for recordings of scalars, is here too.
"""

from libc.stdlib cimport calloc, free

import numpy as np

cimport numpy as cnp

from fastad._core import build_info

from fastad._core cimport *

cdef bint VERIFY = build_info()["debug"]   # debug builds check the tape before each sweep

cnp.import_array()


cdef fad_status sweep_down(fad_sweep *sweep, size_t start) noexcept nogil:
    """Visit the nodes start, start-1, ..., 0: the tape is in topological order, so each node's adjoint is complete."""
    cdef fad_tape *tape = sweep.tape
    cdef fad_status status
    cdef size_t i = start + 1
    while i > 0:
        if not tape.nodes[i - 1].flags & FAD_HAS_ARRAY:
            i = fad_sweep_scalars(sweep, i)   # this node, and as many below it as are scalar too
            continue
        i -= 1
        status = fad_sweep_node(sweep, <uint32_t>i)
        if status != FAD_OK:
            return status
    return FAD_OK


cdef int seed(Recorder recorder, fad_sweep *sweep, Array output, object cotangent) except -1:
    """Add a cotangent to an output's adjoint."""
    cdef cnp.ndarray array
    cdef fad_array given
    if output.scalar:
        sweep.adjoints[output.node].number += cotangent
        return 0
    dtype = np.float32 if fad_node_dtype(recorder.tape, output.node) == FAD_F32 else np.float64
    given.shape = fad_node_shape(recorder.tape, output.node)
    shape = tuple([given.shape.dims[i] for i in range(given.shape.ndim)])
    array = np.asarray(cotangent)
    if (<object>array).dtype.kind not in "fiub":
        raise TypeError(f"cotangent: expected real numbers, got dtype {(<object>array).dtype}")
    array = np.asarray(array, dtype)
    if (<object>array).shape != shape:
        raise ValueError(f"cotangent of shape {(<object>array).shape} for an output of shape {shape}")
    if array.ndim:
        array = np.ascontiguousarray(array)
    given.data = <char *>cnp.PyArray_DATA(array)
    given.strides = given.shape.strides
    given.dtype = FAD_F32 if dtype is np.float32 else FAD_F64
    recorder.check(fad_sweep_give(sweep, output.node, &given, NULL), "cotangent")
    return 0


def sweep(Recorder recorder, outputs, cotangents, wrt, keep=False):
    """Gradients of <outputs, cotangents> with respect to nodes.

    Parameters
    ----------
    outputs : sequence of Array
    cotangents : sequence of float or ndarray
    wrt : sequence of int
        Node numbers.
    keep : bool
        Give the adjoints of all nodes instead, as a list.
    """
    cdef fad_sweep *s = &recorder.sweep
    cdef size_t count, start = 0
    cdef Py_ssize_t i
    cdef fad_status status
    cdef Array output
    cdef list results = []
    cdef cnp.ndarray array
    cdef fad_array g
    cdef double number = 0
    cdef uint32_t node
    if VERIFY:
        recorder.verify()
    if recorder.sweeping:
        raise RuntimeError("a reverse sweep of this tape is under way")
    if recorder.thread != 0:
        recorder.require_open()   # by this thread: another's recording would move the nodes
    if len(wrt) > 1 and len(set(wrt)) < len(wrt):
        return repeated(recorder, outputs, cotangents, wrt)
    for output in outputs:
        output.readable()
        if output.node > start:
            start = output.node
    for node in wrt:
        if node > start:
            start = node
    # A CUSTOM node with several outputs runs when its first one is visited: begin past its last.
    count = recorder.tape.count
    while start + 1 < count and recorder.tape.nodes[start + 1].op == FAD_OUTPUT:
        start += 1
    if count == 0:
        return results
    recorder.sweeping = True
    try:
        recorder.check(fad_sweep_begin(s, recorder.tape, start + 1, keep), "reverse sweep")
        for node in wrt:
            if keep or not fad_is_array(recorder.tape, node):
                results.append(None)
                continue
            g.shape = fad_node_shape(recorder.tape, node)
            if not fad_is_float(fad_node_dtype(recorder.tape, node)):
                results.append(np.zeros([g.shape.dims[k] for k in range(g.shape.ndim)]))   # masks, indices
                continue
            dtype = cnp.NPY_FLOAT32 if fad_node_dtype(recorder.tape, node) == FAD_F32 else cnp.NPY_FLOAT64
            array = cnp.PyArray_EMPTY(<int>g.shape.ndim, <cnp.npy_intp *>g.shape.dims, dtype, 0)
            recorder.check(fad_sweep_preset(s, node, <char *>cnp.PyArray_DATA(array)), "reverse sweep")
            results.append(array)
        for output, cotangent in zip(outputs, cotangents):
            seed(recorder, s, output, cotangent)
        with nogil:
            status = sweep_down(s, start)
        recorder.check(status, "reverse sweep")
        if keep:
            return kept(recorder, s, start + 1)
        for i, node in enumerate(wrt):
            if results[i] is None:
                results[i] = s.adjoints[node].number
            elif fad_is_float(fad_node_dtype(recorder.tape, node)):
                fad_sweep_finish(s, node)
        return results
    finally:
        recorder.sweeping = False
        fad_sweep_end(s, KEEP)


cdef list repeated(Recorder recorder, outputs, cotangents, wrt):
    """Gradients by nodes of which some are named more than once: to each place an array of its own."""
    distinct = list(dict.fromkeys(wrt))
    found = dict(zip(distinct, sweep(recorder, outputs, cotangents, distinct)))
    return [np.copy(found[node]) if isinstance(found[node], np.ndarray) else found[node] for node in wrt]


cdef enum:
    KEEP = 1 << 28   # bytes of adjoints that stay with a tape for its next sweep


cdef list kept(Recorder recorder, fad_sweep *s, size_t count):
    """Adjoints of all nodes: floats and ndarrays; None for masks and indices."""
    cdef size_t i, k
    cdef const fad_shape *shape
    cdef double number = 0
    cdef fad_array g
    cdef list values = []
    for i in range(count):
        if not fad_is_array(recorder.tape, <uint32_t>i):
            values.append(s.adjoints[i].number)
        elif fad_sweep_get(s, <uint32_t>i, &number, &g):
            values.append(to_numpy(&g))
        elif fad_is_float(fad_node_dtype(recorder.tape, <uint32_t>i)):
            shape = fad_node_shape(recorder.tape, <uint32_t>i)
            values.append(np.zeros([shape.dims[k] for k in range(shape.ndim)],
                                   np.float32 if fad_node_dtype(recorder.tape, <uint32_t>i) == FAD_F32 else np.float64))
        else:
            values.append(None)
    return values


cdef bint sweep_up(fad_tape *tape, double *tangents, size_t low, size_t high) noexcept nogil:
    """Tangents of the nodes low .. high from those already set; False where a node involves an array."""
    cdef const fad_node *n
    cdef const fad_value *values = tape.values
    cdef double ta, tb, tc
    cdef size_t i
    for i in range(low, high + 1):
        n = &tape.nodes[i]
        if n.flags & FAD_HAS_ARRAY:
            return False
        if n.op >= FAD_ELEMENTWISE_COUNT or not n.flags & FAD_IS_ACTIVE:
            continue
        # Nodes before `low` do not depend on the variables.
        ta = tangents[n.a - low] if n.a >= low else 0.0
        tb = tangents[n.b - low] if n.b >= low else 0.0
        tc = tangents[n.aux - low] if n.aux >= low else 0.0
        if ta != 0 or tb != 0 or tc != 0:
            tangents[i - low] = fad_scalar_tangent(n.op, &values[n.a].number, &values[n.b].number,
                                                   &values[n.aux].number, &values[i].number, ta, tb, tc)
    return True


def push_scalars(Recorder recorder, wrt, tangents, outputs):
    """Tangents of scalar outputs as floats, given those of the variables.

    Parameters
    ----------
    wrt, outputs : sequence of int
        Node numbers; `wrt` are variables.
    tangents : sequence of float

    Returns
    -------
    list of float, or None where an array is involved
    """
    cdef size_t low, high, i
    cdef bint done
    cdef uint32_t node
    cdef double *t
    if not wrt or not outputs:
        return None
    low, high = min(wrt), max([max(outputs), max(wrt)])
    t = <double *>calloc(high - low + 1, sizeof(double))
    if t == NULL:
        raise MemoryError(f"no memory for {high - low + 1} tangents")
    try:
        for node, tangent in zip(wrt, tangents):
            if fad_is_array(recorder.tape, node):
                return None
            t[node - low] = tangent
        with nogil:
            done = sweep_up(recorder.tape, t, low, high)
        if not done:
            return None
        return [t[node - low] if node >= low else 0.0 for node in outputs]
    finally:
        free(t)
