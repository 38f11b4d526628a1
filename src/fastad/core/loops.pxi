# Inner loops: the portable ones of csrc/loops.c, replaced by NumPy's own where it has them (same bits as NumPy).

cdef fad_loops LOOPS
fad_default_loops(&LOOPS)


cdef bint use_loop(PyUFuncObject *ufunc, bytes types, fad_bound_loop *slot):
    """Point `slot` at the ufunc's inner loop for the given type characters."""
    cdef int i
    for i in range(ufunc.ntypes):
        if ufunc.functions[i] != NULL and ufunc.types[i * ufunc.nargs:(i + 1) * ufunc.nargs] == types:
            slot.loop = ufunc.functions[i]
            slot.data = ufunc.data[i] if ufunc.data != NULL else NULL
            return True
    return False


def install_ufuncs(table):
    """Take the inner loops of NumPy's ufuncs: `table` maps ufunc to op number."""
    cdef int op, dtype, number
    elementwise_ufuncs.update(table)
    letters = (b"d", b"f", np.dtype(np.int64).char.encode(), b"?")
    numbers = (cnp.NPY_FLOAT64, cnp.NPY_FLOAT32, cnp.NPY_INT64, cnp.NPY_BOOL)
    for ufunc, op in table.items():
        for dtype in range(FAD_DTYPE_COUNT):
            if fad_ops[op].kind == FAD_PREDICATE:
                result = cnp.NPY_BOOL
            elif dtype <= FAD_F32:
                result = numbers[dtype]
            else:
                continue
            types = bytes([numbers[dtype]] * fad_ops[op].arity + [result])
            use_loop(<PyUFuncObject *>ufunc, types, &LOOPS.elementwise[op][dtype])
    for dtype in range(2):
        use_loop(<PyUFuncObject *>np.matmul, bytes([numbers[dtype]] * 3), &LOOPS.matmul[dtype])


def elementwise_table():
    """Rows of csrc/ops.def as tuples: see fastad._ops.Op."""
    kinds = ("LINEAR", "BILINEAR", "SMOOTH", "KINK", "FLAT", "PREDICATE")
    table = []
    cdef int i, k
    for i in range(FAD_ELEMENTWISE_COUNT):
        info = &fad_ops[i]
        if max([fad_partial_calls(i, k) for k in range(info.arity)]) > FAD_MOST_CALLS:
            raise ImportError(f"{info.name.decode()}: a partial of its row in ops.def makes more than {FAD_MOST_CALLS} "
                              "calls: raise FAD_MOST_CALLS")
        domains = tuple([info.domains[min(k, 1)].decode() for k in range(info.arity)])
        partials = tuple([info.partials[k].decode() for k in range(info.arity)])
        table.append((info.name.decode(), i, info.spelled.decode(), info.arity, kinds[info.kind], domains,
                      partials, info.doc.decode()))
    return table


def build_info():
    """Facts of this build: compiler, flags, instruction set, NumPy."""
    return {
        "compiler": fad_compiler().decode(),
        "flags": FAD_BUILD_FLAGS.decode(),
        "debug": bool(FAD_DEBUG_BUILD),
        "instruction_set": fad_instruction_set().decode(),
        "numpy": np.__version__,
    }
