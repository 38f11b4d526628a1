# Rows of csrc/ops.def with broadcasting and NumPy's promotion.

def record(int op, *operands):
    """Record element-wise primitive number `op` with broadcasting and NumPy's promotion.

    Operations of bool and integer operands alone have no derivative: they give plain values, unless they are
    predicates.
    """
    return record_operands(op, operands)


cdef object record_operands(int op, tuple operands):
    cdef Recorder recorder = recorder_for(operands)
    cdef uint32_t nodes[3]
    cdef int dtypes[3]
    cdef int k, dtype, floats = 0, arity = fad_ops[op].arity
    cdef bint small = False
    cdef uint32_t node = 0
    if len(operands) != arity:
        raise TypeError(f"{fad_ops[op].name.decode()}: expected {arity} operands, got {len(operands)}")
    for k in range(arity):
        nodes[k] = recorder.lift(operands[k], &dtypes[k])
    # The type to compute in: of the operands that are not Python numbers, as NumPy promotes them.
    dtype = -1
    for k in range(1 if op == FAD_SELECT else 0, arity):
        if dtypes[k] < 0:
            floats += type(operands[k]) is float
            continue
        if dtypes[k] == FAD_I64 and small_integer(operands[k]):
            small = True   # as float32 holds them all, they have no say among floats
            continue
        if fad_is_float(dtypes[k]):
            floats += 1
        if dtype < 0 or dtype == dtypes[k]:
            dtype = dtypes[k]
        elif dtype == FAD_BOOL or (dtypes[k] == FAD_F64):
            dtype = dtypes[k]
        elif dtypes[k] != FAD_BOOL:
            dtype = FAD_F64 if dtype != dtypes[k] else dtype
    if small and (dtype < 0 or dtype == FAD_BOOL):
        dtype = FAD_I64
    if dtype < 0:
        dtype = FAD_F64
    if fad_ops[op].kind == FAD_PREDICATE:
        if not any_array(recorder, nodes, arity):
            if recorder.lanes is not None and (recorder.varies(nodes[0]) or recorder.varies(nodes[arity - 1])):
                return lane_mask(recorder, op, nodes)
            return np.bool_(scalar_predicate(recorder, op, nodes, arity))
        if floats and not fad_is_float(dtype):
            dtype = FAD_F64
        elif dtype == FAD_BOOL and weak_number(operands):
            dtype = FAD_I64
    elif not fad_is_float(dtype):
        if floats == 0:
            return integer_result(op, operands)
        dtype = FAD_F64
    cdef fad_status status = fad_record_elementwise(recorder.tape, op, nodes, dtype, &node)
    if status == FAD_BAD_SHAPE:
        shapes = " ".join([str(s) for s in shape_of_operands(recorder, nodes, arity)])
        raise ValueError(f"operands could not be broadcast together with shapes {shapes} "
                         f"({fad_ops[op].spelled.decode() or fad_ops[op].name.decode()})")
    recorder.check(status, fad_ops[op].spelled.decode())
    return wrap(recorder, node)


cdef bint small_integer(object x):
    """Whether `x` is an array or NumPy number of 8 or 16 bits."""
    return isinstance(x, (ndarray, generic)) and x.dtype.itemsize <= 2


cdef bint any_array(Recorder recorder, uint32_t *nodes, int n):
    cdef int k
    for k in range(n):
        if fad_is_array(recorder.tape, nodes[k]):
            return True
    return False


cdef bint recorded_predicate(Recorder recorder, int op, uint32_t *nodes) except? -1:
    """A predicate of scalars whose outcome decides the path of a traced function."""
    cdef uint32_t node = 0
    recorder.check(fad_record_elementwise(recorder.tape, op, nodes, -1, &node), fad_ops[op].spelled.decode())
    recorder.asked(node)
    return recorder.tape.values[node].number != 0


cdef bint scalar_predicate(Recorder recorder, int op, uint32_t *nodes, int arity) except? -1:
    """A predicate of scalars: a plain truth value, as from Python's comparisons."""
    if recorder.tracing:
        return recorded_predicate(recorder, op, nodes)
    if recorder.deferred:
        recorder.settle()
    cdef double x = recorder.tape.values[nodes[0]].number
    return fad_scalar_value(op, x, recorder.tape.values[nodes[arity - 1]].number, 0.0) != 0


cdef Array lane_mask(Recorder recorder, int op, uint32_t *nodes):
    """A predicate of scalars that differ from lane to lane: recorded, as a 0-d truth value."""
    cdef uint32_t node = 0
    recorder.check(fad_record_elementwise(recorder.tape, op, nodes, FAD_F64, &node), fad_ops[op].spelled.decode())
    recorder.check(fad_record_cast(recorder.tape, node, FAD_BOOL, &node), fad_ops[op].spelled.decode())
    return wrap(recorder, node)


cdef bint weak_number(tuple operands):
    for x in operands:
        if type(x) is int:
            return True
    return False


cdef object integer_result(int op, tuple operands):
    """Integer and bool arithmetic: NumPy's, on values."""
    name = fad_ops[op].spelled.decode()
    if not name:
        return value_of(operands[0])
    return getattr(np, name)(*[value_of(x) for x in operands])


def predicate(int op, *operands):
    """As `record`, for a predicate: also that of scalars is recorded, and decides nothing."""
    cdef Recorder recorder = recorder_for(operands)
    cdef uint32_t nodes[3]
    cdef uint32_t node = 0
    cdef int k, dtype, arity = fad_ops[op].arity
    for k in range(arity):
        nodes[k] = recorder.lift(operands[k], &dtype)
    if any_array(recorder, nodes, arity):
        return record_operands(op, operands)
    recorder.check(fad_record_elementwise(recorder.tape, op, nodes, -1, &node), fad_ops[op].spelled.decode())
    return wrap(recorder, node)


def select(condition, a, b):
    """`a` where `condition` is true, else `b`."""
    if type(condition) is not Array:
        condition = np.asarray(condition)
        if condition.dtype != bool:
            condition = condition.astype(bool)
    return record_operands(FAD_SELECT, (condition, a, b))


def stop(x):
    """Identity whose derivative is 0."""
    return record_operands(FAD_STOP, (x,))
