# The recorder: a tape and the right to record on it.

cdef class Recorder:
    """A tape and the right to record on it.

    One thread records at a time; Arrays remember the recorder and its generation, so that one that outlived its tape
    is an error and never a wrong number.
    """

    def __cinit__(self):
        global idle_count
        cdef fad_allocator allocator
        memset(&self.sweep, 0, sizeof(self.sweep))
        if idle_count > 0:
            idle_count -= 1
            self.tape = idle[idle_count]
        else:
            allocator.resize = resize
            allocator.context = NULL
            if fad_tape_create(&self.tape, &allocator, &LOOPS, 0) != FAD_OK:
                raise MemoryError("no memory for a new tape")
        self.tape.host.sweep = host_sweep
        self.tape.host.emit_reverse = host_reverse
        self.tape.host.emit_tangent = host_tangent
        self.tape.host.retain = host_retain
        self.tape.host.release = host_release
        self.tape.host.context = <void *>self
        self.generation = 1

    def __dealloc__(self):
        global idle_count
        if self.tape == NULL:
            return
        fad_sweep_end(&self.sweep, 0)
        fad_tape_reset(self.tape, KEPT_BY_IDLE)   # releases rules, which may end other Recorders
        if idle_count == IDLE_TAPES:
            fad_tape_destroy(self.tape)
            return
        idle[idle_count] = self.tape
        idle_count += 1

    @property
    def is_open(self):
        """Whether the calling thread may record."""
        return self.thread == fad_thread()

    @property
    def nbytes(self):
        return self.tape.bytes

    def open(self, size_t limit=0):
        """Let the calling thread record."""
        if self.sweeping:
            raise RuntimeError("a reverse sweep of this tape is under way")
        if limit and self.tape.bytes > limit and self.tape.count == 0:
            fad_sweep_end(&self.sweep, 0)   # what earlier recordings left is more than this one may take
            fad_tape_reset(self.tape, 0)
        self.tape.limit = limit
        self.thread = fad_thread()
        self.error = None

    def close(self):
        """End recording; values and gradients stay readable. The limit was recording's: a sweep may take more."""
        self.thread = 0
        self.tape.limit = 0

    def reset(self, size_t keep=0):
        """End recording and forget everything, but for `keep` bytes of memory to be used again."""
        self.thread = 0
        self.generation += 1
        self.error = None
        self.tracing = self.deferred = False
        self.guards = None
        self.captured = self.captures = None
        fad_sweep_end(&self.sweep, keep)
        fad_tape_reset(self.tape, keep)

    def lend(self, SpareMemory memory):
        """Take large blocks of the tape from `memory` and give them back to it; None: no longer."""
        if self.lender is not None:
            self.lender.leave_taken()
        self.lender = memory
        self.tape.allocator.context = NULL if memory is None else <void *>&memory.spare

    def rewind(self, size_t mark):
        fad_tape_rewind(self.tape, mark)

    def __len__(self):
        return self.tape.count

    def op_name(self, uint32_t node):
        return fad_ops[self.tape.nodes[node].op].name.decode()

    def parents(self, uint32_t node):
        self.check_node(node)
        cdef list result = []
        cdef uint32_t p
        cdef size_t k = 0
        while True:
            p = fad_parent(self.tape, node, k)
            if p == FAD_NODE_NONE:
                return tuple(result)
            result.append(p)
            k += 1

    def node_value(self, uint32_t node):
        self.check_node(node)
        return self.value_of(node)

    def node_shape(self, uint32_t node):
        self.check_node(node)
        return shape_tuple(fad_node_shape(self.tape, node))

    def node_active(self, uint32_t node):
        self.check_node(node)
        return bool(self.tape.nodes[node].flags & FAD_IS_ACTIVE)

    def partials(self, uint32_t node):
        """Partials of an element-wise scalar node by each operand, as floats."""
        self.check_node(node)
        self.settle()
        cdef fad_node n = self.tape.nodes[node]
        cdef double x[3]
        cdef int k, arity
        if n.op >= FAD_ELEMENTWISE_COUNT or n.flags & FAD_HAS_ARRAY:
            raise ValueError(f"node {node} ({self.op_name(node)}) is not an element-wise operation of scalars")
        arity = fad_ops[n.op].arity
        for k in range(arity):
            x[k] = self.tape.values[fad_parent(self.tape, node, k)].number
        for k in range(arity, 3):
            x[k] = 0.0
        v = self.tape.values[node].number
        return tuple([fad_scalar_partial(n.op, k, x[0], x[1], x[2], v) for k in range(arity)])

    cdef int check_node(self, size_t node) except -1:
        if node >= self.tape.count:
            raise IndexError(f"node {node} is not on this tape, which has {self.tape.count} nodes")
        return 0

    def array(self, uint32_t node):
        """The Array of a node."""
        self.check_node(node)
        return wrap(self, node)

    def verify(self):
        """Raise TapeError if the tape is not well formed."""
        cdef size_t node = 0
        cdef const char *reason = NULL
        if not fad_verify(self.tape, &node, &reason):
            raise TapeError(f"node {node} of the tape is malformed: {reason.decode()}")

    def dump(self, size_t start=0, stop=None):
        """Text form of the nodes start .. stop-1."""
        parts = []
        cdef size_t end = self.tape.count if stop is None else stop
        fad_dump(self.tape, start, end, collect_text, <void *>parts)
        return "".join(parts)

    def depends_on_before(self, uint32_t node, size_t mark):
        """Whether `node` depends on an active node older than `mark`, or on the lane of a vmap under way."""
        cdef size_t i
        cdef uint32_t p
        cdef size_t k
        if self.varies(node):
            return True
        if node < mark:
            return bool(self.tape.nodes[node].flags & FAD_IS_ACTIVE)
        cdef bytearray seen = bytearray(node + 1 - mark)
        for older in self.captured_nodes:   # of outside, whenever they were asked for
            if mark <= older <= node and self.tape.nodes[<uint32_t>older].flags & FAD_IS_ACTIVE:
                seen[older - mark] = 1
        for i in range(mark, node + 1):
            k = 0
            while True:
                p = fad_parent(self.tape, <uint32_t>i, k)
                if p == FAD_NODE_NONE:
                    break
                if (p < mark and self.tape.nodes[p].flags & FAD_IS_ACTIVE) or (p >= mark and seen[p - mark]):
                    seen[i - mark] = 1
                    break
                k += 1
        return bool(seen[node - mark])

    # --- errors ---

    cdef int check(self, fad_status status, str what) except -1:
        if status == FAD_OK:
            return 0
        if status == FAD_IN_RULE:
            error, self.error = self.error, None
            raise error
        if status == FAD_NO_MEMORY:
            raise MemoryError(f"{what}: no memory for the tape, which holds {self.tape.count} nodes in "
                              f"{self.tape.bytes} bytes")
        if status == FAD_OVER_LIMIT:
            raise TapeError(f"{what}: the tape would pass its limit of {self.tape.limit} bytes "
                            f"({self.tape.count} nodes in {self.tape.bytes} bytes)")
        if status == FAD_TOO_MANY:
            raise TapeError(f"{what}: the tape is full ({self.tape.count} nodes)")
        if status == FAD_BAD_SHAPE:
            raise ValueError(f"{what}: shapes do not fit")
        raise TypeError(f"{what}: an operand has a type or an index that this operation cannot take")

    def require_open(self):
        """Raise TapeError unless the calling thread may record."""
        if self.thread == fad_thread():
            return
        if self.inner is not None:
            return self.inner.require_open()
        if self.thread == 0:
            raise TapeError("the tape of this Array is closed: nothing can be recorded on it any more")
        raise TapeError("the tape of this Array belongs to another thread: record on it only there")

    # --- bodies ---

    def enclose(self, Recorder outer):
        """Record a body: Arrays of others are captured. `outer` (or None) waits until `leave`."""
        self.captured, self.captures = {}, []
        if outer is not None:
            outer.require_open()
            outer.settle()
            self.outer, self.outer_thread = outer, outer.thread
            outer.inner, outer.thread = self, 0

    def leave(self):
        """The body is complete."""
        if self.outer is not None:
            self.outer.inner, self.outer.thread = None, self.outer_thread
            self.outer = None

    def innermost(self):
        """Who records in place of this one: itself, or a body's."""
        return innermost(self)

    def adopt(self, x):
        """`x` as an Array of this recorder: a constant, or one of another that a body captures."""
        cdef int dtype
        return wrap(self, self.lift(x, &dtype))

    @property
    def captured_nodes(self):
        """Nodes that stand for `captures`."""
        return [] if self.captured is None else list(self.captured.values())

    cdef bint is_captured(self, uint32_t node):
        return self.captured is not None and node in self.captured.values()

    cdef uint32_t capture(self, Array a) except? 0xfffffffe:
        """The input that stands for an Array of another recorder."""
        cdef uint32_t node
        cdef uint16_t flags
        if self.captured is None:
            raise TapeError("operands were recorded on different tapes")
        key = (<size_t><void *>a.recorder, a.node)
        found = self.captured.get(key)
        if found is not None:
            return found
        flags = a.recorder.tape.nodes[a.node].flags
        value = np.asarray(a.recorder.value_of(a.node))
        if a.recorder.tape.nodes[a.node].op == FAD_CONSTANT:
            return self.constant_array(value, FAD_CONSTANT, 0)
        node = self.constant_array(value, FAD_VARIABLE, FAD_IS_DYNAMIC | (flags & FAD_IS_ACTIVE))
        self.captured[key] = node
        self.captures.append(wrap(a.recorder, a.node))
        return node

    # --- guards ---

    def trace(self, bint dry=False):
        """From now on, note every value that reaches Python: what was decided by it holds only where it is the same.

        `dry`: compute nothing that depends on an input, and raise ValuesNeeded where such a value is asked for.
        """
        self.tracing = True
        self.tape.dry = dry
        self.guards = []

    cdef int asked(self, uint32_t node) except -1:
        """The value of `node` is about to reach Python."""
        self.read_check(node)
        self.need(node)
        if self.tracing and self.tape.nodes[node].op != FAD_CONSTANT:
            self.guards.append((node, np.asarray(self.value_of(node)).tobytes()))
        return 0

    # --- values that are computed when they are asked for ---

    def defer(self, variables):
        """Compute nothing that depends on `variables`, all that is recorded so far, until a value is asked for.

        Not if they are small, and not with a limit of memory: it is to be passed where the function takes the memory.
        """
        cdef Array x
        cdef size_t elements = 0
        for x in variables:
            if self.tape.nodes[x.node].op != FAD_VARIABLE:   # one argument twice: the second is a copy of the first
                return
            elements += fad_node_shape(self.tape, x.node).size
        if elements < WORTH_DEFERRING or self.tape.limit:
            return
        for x in variables:
            self.tape.nodes[x.node].flags |= FAD_IS_DYNAMIC
            x.active |= FAD_IS_DYNAMIC
        self.deferred = self.tape.dry = True

    cpdef int settle(self) except -1:
        """Compute what was deferred, and from now on everything at once."""
        if not self.deferred:
            return 0
        if self.sweeping:   # and the value asked for by another thread
            raise RuntimeError("a reverse sweep of this tape is under way")
        self.check(fad_trace_fill(self.tape), "values that were deferred")
        self.deferred = False
        return 0

    cdef int need(self, uint32_t node) except -1:
        """The value of `node` is about to be read."""
        if self.tape.dry and self.tape.nodes[node].flags & FAD_IS_DYNAMIC:
            if not self.deferred:
                raise ValuesNeeded
            self.settle()
        return 0

    def extent(self):
        """How many elements the deferred nodes have, how many the others, and whether one has a rule of its own."""
        cdef size_t i, size, deferred = 0, known = 0
        cdef bint rules = False
        for i in range(self.tape.count):
            size = fad_node_shape(self.tape, <uint32_t>i).size
            if self.tape.nodes[i].flags & FAD_IS_DYNAMIC:
                deferred += size
            elif not fad_is_array(self.tape, <uint32_t>i) or fad_repeats(self.tape.values[i].array):
                known += 1
            else:
                known += size
            rules |= self.tape.nodes[i].op == FAD_CUSTOM
        return deferred, known, rules

    def borrowed(self, uint32_t node):
        """The value of a variable, where it is an ndarray in the tape's memory: not to be kept."""
        self.check_node(node)
        if not fad_is_array(self.tape, node):
            return self.tape.values[node].number
        return in_place_ndarray(self.tape.values[node].array)

    # --- values in and out ---

    cdef object value_of(self, uint32_t node):
        cdef fad_array array
        cdef cnp.ndarray before
        self.need(node)
        if not fad_is_array(self.tape, node):
            return self.tape.values[node].number
        array = fad_value_array(self.tape, node)
        if fad_is_superseded(self.tape, node):
            before = np.empty(shape_tuple(array.shape), DTYPES[array.dtype])
            array.data = <char *>cnp.PyArray_DATA(before)
            fad_rebuild(self.tape, node, &array)
            return before
        return to_numpy(&array)

    cdef bint varies(self, uint32_t node) except -1:
        """Whether the node differs from lane to lane of a vmap under way."""
        return self.lanes is not None and self.lanes.holds(self, node)

    cdef int read_check(self, uint32_t node) except -1:
        """Refuse to hand out a value of which every lane has its own: Python would take the first one's for all."""
        if self.varies(node):
            raise LaneError("this value differs from lane to lane of fad.vmap, which runs f once for all lanes: it cannot "
                            "decide a branch, be an index or become a Python number or ndarray. Choose with np.where"
                            "(condition, a, b) instead of if, and stay with NumPy's functions")
        return 0

    cdef uint32_t constant_array(self, object array, int op, unsigned flags) except? 0xfffffffe:
        """A node holding a copy of an ndarray of float64, float32, an integer type or bool."""
        cdef cnp.ndarray a = array
        cdef int dtype, i
        cdef uint32_t node = 0
        cdef const fad_shape *shape
        cdef Py_ssize_t dims[64]
        refuse(array)
        if not a.dtype.isnative:
            a = a.astype(a.dtype.newbyteorder("="))
        kind = a.dtype.kind
        if kind in "fu" and a.dtype.itemsize == 8:
            dtype = FAD_F64   # of either byte order; uint64 because int64 does not hold it, as NumPy promotes the two
        elif kind == "f" and a.dtype.itemsize == 4:
            dtype = FAD_F32
        elif kind in "iu":
            dtype = FAD_I64
        elif kind == "b":
            dtype = FAD_BOOL
        else:
            raise TypeError(f"an array of dtype {a.dtype} cannot be recorded: expected float64, float32, integer or bool"
                            + (" (complex is not supported yet)" if kind == "c" else ""))
        a = np.ascontiguousarray(a, DTYPES[dtype]) if a.ndim else np.asarray(a, DTYPES[dtype])
        if a.ndim == 0 and dtype == FAD_F64:
            self.check(fad_push_scalar(self.tape, op, flags, 0, 0, 0, <double>a, &node), "constant")
            return node
        for i in range(a.ndim):
            dims[i] = a.shape[i]
        self.check(fad_shape_intern(self.tape, a.ndim, dims, &shape), "constant")
        self.check(fad_new_array(self.tape, op, flags, 0, 0, 0, dtype, shape, &node), "constant")
        if self.tape.values[node].array.data != NULL:
            memcpy(self.tape.values[node].array.data, cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a))
        return node

    cdef uint32_t lift(self, object x, int *dtype) except? 0xfffffffe:
        """Node of an operand. `dtype` becomes its type, or -1 for a Python number (which has no say in the result's)."""
        cdef uint32_t node = 0
        cdef Array a
        kind = type(x)
        if kind is Array:
            a = <Array>x
            a.use()
            node = a.node if a.recorder is self else self.capture(a)
            dtype[0] = FAD_F64 if a.scalar else fad_node_dtype(self.tape, node)
            return node
        dtype[0] = -1
        if kind is float or kind is int or kind is bool:
            self.check(fad_constant(self.tape, x, &node), "constant")
            return node
        if isinstance(x, generic):
            if x.dtype == FLOAT64:
                dtype[0] = FAD_F64
                self.check(fad_constant(self.tape, x, &node), "constant")
                return node
            x = np.asarray(x)
        elif isinstance(x, (float, int)):
            self.check(fad_constant(self.tape, float(x), &node), "constant")
            return node
        elif not isinstance(x, ndarray):
            x = nested(x)
        if type(x) is Array:
            return self.lift(x, dtype)
        if x.dtype.hasobject:
            return self.lift(stack_objects(self, x), dtype)
        node = self.constant_array(x, FAD_CONSTANT, 0)
        dtype[0] = fad_node_dtype(self.tape, node)
        return node

    def input(self, value):
        """An argument of a function that is traced: a variable, of integers or truth values as well."""
        cdef unsigned flags
        array = np.asarray(value)
        self.require_open()
        flags = FAD_INHERITED if array.dtype.kind == "f" else FAD_IS_DYNAMIC
        return wrap(self, self.constant_array(array, FAD_VARIABLE, flags))

    @property
    def dry(self):
        """Whether only the form is recorded of what depends on an input."""
        return bool(self.tape.dry)

    def variable(self, value):
        """A new variable with the given value."""
        cdef uint32_t node = 0
        cdef int dtype = -1
        cdef Array fresh_one
        self.require_open()
        if type(value) is float:
            self.check(fad_push_scalar(self.tape, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, &node), "variable")
            return wrap(self, node)
        if is_traced(value):
            node = self.lift(value, &dtype)
            if self.tape.nodes[node].flags & FAD_IS_ACTIVE:
                return record(FAD_POS, wrap(self, node))
            if self.tracing and self.tape.nodes[node].op != FAD_CONSTANT or self.varies(node):
                if not fad_is_float(fad_node_dtype(self.tape, node)):
                    self.check(fad_record_cast(self.tape, node, FAD_F64, &node), "variable")
                self.check(fad_record_elementwise(self.tape, FAD_POS, &node, -1, &node), "variable")
                self.tape.nodes[node].flags |= FAD_IS_ACTIVE   # a variable that is computed
                return wrap(self, node)
            value = self.value_of(node)   # depends on no variable: a new one, with its value
        refuse(value)
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8 or array.dtype == np.float16:
            raise TypeError(f"value: expected real numbers (float64, float32 or integers), got {type(value).__name__}"
                            + (f" of dtype {array.dtype}" if array.dtype.kind != "O" else ""))
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        return wrap(self, self.constant_array(array, FAD_VARIABLE, FAD_IS_ACTIVE))

    # --- rules of custom nodes ---

    cdef object rule_values(self, const fad_custom *custom):
        cdef size_t i
        return (tuple([self.value_of(custom.nodes[i]) for i in range(custom.count)]),
                tuple([self.value_of(custom.first_output + <uint32_t>i) for i in range(custom.outputs)]))

    cdef object rule_arrays(self, const fad_custom *custom):
        cdef size_t i
        return (tuple([wrap(self, custom.nodes[i]) for i in range(custom.count)]),
                tuple([wrap(self, custom.first_output + <uint32_t>i) for i in range(custom.outputs)]))

    cdef int sweep_rule(self, fad_sweep *sweep, const fad_custom *custom) except -1:
        cdef size_t i
        cdef double number
        cdef fad_array g, to
        cdef uint32_t node
        cdef cnp.ndarray array
        inputs, outputs = self.rule_values(custom)
        cotangents = []
        for i in range(custom.outputs):
            if fad_sweep_get(sweep, custom.first_output + <uint32_t>i, &number, &g):
                cotangents.append(number if not fad_is_array(self.tape, custom.first_output + <uint32_t>i)
                                  else to_numpy(&g))
            elif takes_none(<object>custom.rule):
                cotangents.append(None)
            else:
                cotangents.append(np.zeros_like(outputs[i])[()])
        results = rule_results(<object>custom.rule, inputs, outputs, tuple(cotangents))
        for i in range(custom.count):
            node = custom.nodes[i]
            if results[i] is None or not self.tape.nodes[node].flags & FAD_IS_ACTIVE:
                continue
            given = np.asarray(results[i])
            if given.dtype.kind not in "fiub":
                raise TypeError(f"{rule_name(<object>custom.rule)}: the derivative by input {i} has dtype "
                                f"{given.dtype}: expected real numbers")
            array = np.ascontiguousarray(given, DTYPES[fad_node_dtype(self.tape, node)])
            self.check_rule_shape(<object>custom.rule, i, node, np.shape(results[i]))
            to.data = <char *>cnp.PyArray_DATA(array)
            to.shape = fad_node_shape(self.tape, node)
            to.strides = to.shape.strides
            to.dtype = <uint8_t>fad_node_dtype(self.tape, node)
            self.check(fad_sweep_give(sweep, node, &to, NULL), "custom rule")
        return 0

    cdef int check_rule_shape(self, object rule, size_t i, uint32_t node, tuple shape) except -1:
        expected = shape_tuple(fad_node_shape(self.tape, node))
        if shape != expected:
            raise ValueError(f"{rule_name(rule)}: the derivative by input {i} has shape {shape}, "
                             f"but the input has shape {expected}")
        return 0

    cdef int emit_rule(self, const fad_custom *custom, const uint32_t *cotangents, uint32_t *results) except -1:
        cdef size_t i
        cdef int dtype
        inputs, outputs = self.rule_arrays(custom)
        nothing = takes_none(<object>custom.rule)
        given = [wrap(self, cotangents[i]) if cotangents[i] != FAD_NODE_NONE
                 else None if nothing else np.zeros(outputs[i].shape)[()]
                 for i in range(custom.outputs)]
        values = rule_results(<object>custom.rule, inputs, outputs, tuple(given))
        for i in range(custom.count):
            if values[i] is None:
                continue
            results[i] = self.lift(values[i], &dtype)
            self.check_rule_shape(<object>custom.rule, i, custom.nodes[i],
                                  shape_tuple(fad_node_shape(self.tape, results[i])))
            dtype = fad_node_dtype(self.tape, custom.nodes[i])
            if fad_is_float(dtype):
                self.check(fad_record_cast(self.tape, results[i], dtype, &results[i]), "custom rule")
        return 0

    cdef int emit_rule_tangent(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1:
        cdef size_t i
        cdef int dtype
        cdef uint32_t like
        inputs, outputs = self.rule_arrays(custom)
        rule = <object>custom.rule
        if getattr(rule, "jvp", None) is None:
            return self.transpose_rule(custom, tangents, results)
        nothing = takes_none(rule)
        given = [wrap(self, tangents[i]) if tangents[i] != FAD_NODE_NONE
                 else None if nothing else np.zeros(inputs[i].shape)[()]
                 for i in range(custom.count)]
        values = rule.jvp(inputs, outputs, tuple(given))
        if not isinstance(values, (tuple, list)):
            values = (values,)
        if len(values) != custom.outputs:
            raise ValueError(f"{rule_name(rule)}: expected {custom.outputs} tangents, one for each output, "
                             f"got {len(values)}")
        for i in range(custom.outputs):
            if values[i] is None:
                continue
            results[i] = self.lift(values[i], &dtype)
            like = custom.first_output + <uint32_t>i
            if fad_node_shape(self.tape, results[i]) != fad_node_shape(self.tape, like):
                raise ValueError(f"{rule_name(rule)}: the tangent of output {i} has shape "
                                 f"{shape_tuple(fad_node_shape(self.tape, results[i]))}, but the output has shape "
                                 f"{shape_tuple(fad_node_shape(self.tape, like))}")
            if fad_is_float(fad_node_dtype(self.tape, like)):
                self.check(fad_record_cast(self.tape, results[i], fad_node_dtype(self.tape, like), &results[i]),
                           "custom rule")
        return 0

    cdef int transpose_rule(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1:
        """The tangent from the vjp alone: vjp is linear in the cotangents u, so d<vjp(u), t>/du is the jvp of t."""
        cdef size_t i, n = 0
        cdef int dtype
        inputs, outputs = self.rule_arrays(custom)
        dummies = tuple([self.variable(np.zeros(output.shape)) for output in outputs])
        values = rule_results(<object>custom.rule, inputs, outputs, dummies)
        cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((3 * custom.count + custom.outputs + 1) * sizeof(uint32_t))
        if nodes == NULL:
            raise MemoryError
        try:
            for i in range(custom.count):
                if values[i] is None or tangents[i] == FAD_NODE_NONE:
                    continue
                nodes[n] = self.lift(values[i], &dtype)
                nodes[custom.count + n] = tangents[i]
                n += 1
            for i in range(custom.outputs):
                nodes[2 * custom.count + i] = (<Array>dummies[i]).node
            self.check(fad_emit_reverse(self.tape, self.tape.count, n, nodes, nodes + custom.count, custom.outputs,
                                        nodes + 2 * custom.count, results), "jvp of a custom rule")
        finally:
            PyMem_Free(nodes)
        return 0


cdef void collect_text(void *context, const char *text) noexcept with gil:
    (<list>context).append(text.decode())
