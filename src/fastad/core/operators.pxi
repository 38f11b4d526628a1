# Array's operators: the scalar paths first, which touch nothing but the tape.

cdef inline bint live(Array a):
    return (a.generation == a.recorder.generation and a.base is None
            and a.recorder.thread == fad_thread())


cdef inline object scalar_result(int op, Recorder recorder, uint32_t a, uint32_t b, unsigned active, double value):
    cdef uint32_t node = 0
    cdef Array result
    cdef fad_status status = fad_push_scalar(recorder.tape, op, active, a, b, 0, value, &node)
    if status != FAD_OK:
        recorder.check(status, fad_ops[op].spelled.decode())
    result = fresh()
    result.recorder = recorder
    result.generation = recorder.generation
    result.node = node
    result.scalar = True
    result.active = active
    return result


cdef inline object constant_operand(Recorder recorder, double value, uint32_t *node):
    recorder.check(fad_constant(recorder.tape, value, node), "constant")


cdef inline object binary(int op, object left, object right):
    """left op right: the scalar paths first, which touch nothing but the tape."""
    cdef Array x, y
    cdef uint32_t c = 0
    cdef double number
    cdef bint flat = fad_ops[op].kind == FAD_FLAT
    if type(left) is Array:
        x = <Array>left
        if x.scalar and live(x):
            if type(right) is Array:
                y = <Array>right
                if y.scalar and y.recorder is x.recorder and y.generation == y.recorder.generation:
                    return scalar_result(op, x.recorder, x.node, y.node, (x.active | y.active) & (FAD_IS_DYNAMIC if flat else FAD_INHERITED),
                                         fad_scalar_value(op, x.recorder.tape.values[x.node].number,
                                                          x.recorder.tape.values[y.node].number, 0.0))
            elif type(right) is float or type(right) is int:
                number = right
                constant_operand(x.recorder, number, &c)
                return scalar_result(op, x.recorder, x.node, c, x.active & (FAD_IS_DYNAMIC if flat else FAD_INHERITED),
                                     fad_scalar_value(op, x.recorder.tape.values[x.node].number, number, 0.0))
    elif type(left) is float or type(left) is int:
        y = <Array>right
        if y.scalar and live(y):
            number = left
            constant_operand(y.recorder, number, &c)
            return scalar_result(op, y.recorder, c, y.node, y.active & (FAD_IS_DYNAMIC if flat else FAD_INHERITED),
                                 fad_scalar_value(op, number, y.recorder.tape.values[y.node].number, 0.0))
    return binary_arrays(op, left, right)


cdef object binary_arrays(int op, object left, object right):
    cdef Array x, y
    cdef uint32_t nodes[2]
    cdef uint32_t node = 0
    cdef fad_status status
    # Two float64 arrays of one open recorder need none of the questions that record_operands asks.
    if type(left) is Array and type(right) is Array:
        x, y = <Array>left, <Array>right
        if live(x) and y.recorder is x.recorder and y.generation == x.generation and y.base is None \
                and fad_node_dtype(x.recorder.tape, x.node) == FAD_F64 \
                and fad_node_dtype(x.recorder.tape, y.node) == FAD_F64:
            nodes[0], nodes[1] = x.node, y.node
            status = fad_record_elementwise(x.recorder.tape, op, nodes, FAD_F64, &node)
            if status == FAD_OK:
                return wrap(x.recorder, node)
            if status != FAD_BAD_SHAPE:
                x.recorder.check(status, fad_ops[op].spelled.decode())
    elif not recordable(left) or not recordable(right):
        return NotImplemented
    return record_operands(op, (left, right))


cdef bint recordable(object x):
    """Whether an operator may take `x` as its operand; others get a chance to handle the Array themselves."""
    return (type(x) is Array or isinstance(x, (float, int, ndarray, generic, list, tuple))) \
        and not isinstance(x, (np.character, np.complexfloating))


cdef object unary(int op, Array x):
    cdef unsigned active
    if x.scalar and live(x):
        active = x.active & (FAD_IS_DYNAMIC if fad_ops[op].kind == FAD_FLAT else FAD_INHERITED)
        return scalar_result(op, x.recorder, x.node, 0, active,
                             fad_scalar_value(op, x.recorder.tape.values[x.node].number, 0.0, 0.0))
    return record_operands(op, (x,))


cdef object power(object left, object right):
    """left ** right, with NumPy's short cuts for common exponents."""
    if type(left) is Array and (type(right) is float or type(right) is int):
        if right == 2:
            return unary(FAD_SQUARE, <Array>left)
        if right == 1:
            return unary(FAD_POS, <Array>left)
        if right == 0.5:
            return unary(FAD_SQRT, <Array>left)
        if right == -1:
            return unary(FAD_RECIPROCAL, <Array>left)
    return binary(FAD_POW, left, right)


cdef object compare(object left, object right, int op):
    """A bool for two scalars, a recorded mask otherwise."""
    cdef Array x = <Array>left
    cdef uint32_t nodes[2]
    cdef int dtype
    if x.recorder is not None and x.recorder.inner is not None:
        x.readable()
        left = x = inside(x)
    if x.scalar:
        x.readable()
    if x.scalar and x.recorder.lanes is not None and recordable(right):
        return record_operands(op, (left, right))
    if x.scalar and x.recorder.tracing and (isinstance(right, (float, int))
                                            or type(right) is Array and (<Array>right).scalar):
        nodes[0], nodes[1] = x.recorder.lift(x, &dtype), x.recorder.lift(right, &dtype)
        return recorded_predicate(x.recorder, op, nodes)
    if x.scalar:
        if x.recorder.deferred:
            x.recorder.settle()
        value = x.recorder.tape.values[x.node].number
        if type(right) is Array and (<Array>right).scalar:
            (<Array>right).readable()
            if (<Array>right).recorder.deferred:
                (<Array>right).recorder.settle()
            other = (<Array>right).recorder.tape.values[(<Array>right).node].number
            return fad_scalar_value(op, value, other, 0.0) != 0
        if isinstance(right, (float, int)):
            return fad_scalar_value(op, value, right, 0.0) != 0
    if not recordable(right):
        return NotImplemented
    return record_operands(op, (left, right))
