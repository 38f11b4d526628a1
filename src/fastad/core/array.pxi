# The traced array.

@cython.final
@cython.no_gc
@cython.c_api_binop_methods(True)
cdef class Array:
    """A recorded value, from 0-d to N-d: what a differentiated function receives in place of its arguments.

    It takes part in Python's operators and in NumPy's functions like the ndarray or float that it stands for; every
    operation is appended to the tape. Arrays are not made directly: transforms and `fastad.Tape.variable` make them.

    Attributes
    ----------
    shape : tuple of int
    ndim, size : int
    dtype : numpy.dtype
        float64 or float32; bool and int64 for masks and indices, which have no derivative.
    value : float or ndarray
        A copy of the value.
    node : int
        Its place on the tape.
    active : bool
        Whether it depends on a variable.

    Examples
    --------
    >>> with fad.Tape() as tape:
    ...     x = tape.variable(3.0)
    ...     y = x * x + 1.0
    >>> y.value
    10.0
    """

    def __init__(self):
        raise TypeError("Arrays are made by fastad's transforms and by fastad.Tape.variable")

    cdef int use(self) except -1:
        """Check that this Array may be an operand now, and bring a view up to date."""
        self.readable()
        self.recorder.require_open()
        return 0

    cdef int readable(self) except -1:
        if self.recorder is None:
            raise TypeError("Arrays are made by fastad's transforms and by fastad.Tape.variable")
        if self.generation != self.recorder.generation:
            raise TapeError("this Array was used after its tape was reset: it belongs to a gradient call that has ended")
        if self.base is not None and self.base_version_of() != self.base_version:
            self.refresh()
        return 0

    cdef uint32_t base_version_of(self) except? 0xfffffffe:
        self.base.readable()
        return self.base.version

    cdef int refresh(self) except -1:
        """Take the view again: its base was written to."""
        cdef fad_tape *tape = self.recorder.tape
        self.recorder.require_open()
        if self.view_op == FROZEN:
            raise TapeError(f"a view of more than {DEEPEST_VIEW} views of each other was used after its base was "
                            "written to: copy it before")
        if self.view_op == FAD_VIEW:
            self.recorder.check(fad_record_view(tape, self.base.node, self.view_aux, &self.node), "view")
        else:
            self.recorder.check(fad_record_reshape(tape, self.base.node, tape.shapes[self.view_aux], &self.node),
                                "view")
        self.active = tape.nodes[self.node].flags & FAD_INHERITED
        self.base_version = self.base.version
        self.version += 1
        return 0

    cdef int writable(self) except -1:
        """Raise what writing to this Array would raise later, half done."""
        cdef Array a = self
        self.readable()
        self.recorder.settle()   # what is written to shares memory, which has to be there
        while a is not None:
            refuse_outer(a)
            a = a.base
        if self.depth > DEEPEST_VIEW:
            raise TapeError(f"writing to a view of more than {DEEPEST_VIEW} views of each other: copy it first")
        self.detach()
        return 0

    cdef int detach(self) except -1:
        """Be no view of an array that was reshaped and that nobody else knows: writes need not reach it."""
        if self.base is not None:
            self.base.detach()
            if self.view_op == FAD_RESHAPE and self.base.base is None and Py_REFCNT(<PyObject *>self.base) == 1:
                self.base = None
                self.depth = 0
        return 0

    cdef int write(self, uint32_t node) except -1:
        """Make `node` the value of this Array and, through views, of what it is a view of.

        From fad_assign_* to here nothing may raise: the Array's own node may have been overwritten.
        """
        cdef fad_tape *tape = self.recorder.tape
        cdef Array a = self
        cdef const fad_shape *whole
        while True:
            a.node = node
            a.active = tape.nodes[node].flags & FAD_INHERITED
            a.version += 1
            if a.base is None:
                return 0
            whole = fad_node_shape(tape, a.base.node)
            if a.view_op == FAD_VIEW:
                self.recorder.check(fad_assign_view(tape, a.base.node, node, a.view_aux, &node), "assignment")
            else:
                self.recorder.check(fad_record_reshape(tape, node, whole, &node), "assignment")
                self.recorder.check(fad_hold(tape, node), "assignment")   # if it is the view's own
            a.base_version = a.base.version + 1
            a = a.base

    # --- what it is ---

    @property
    def shape(self):
        self.readable()
        return () if self.scalar else shape_tuple(fad_node_shape(self.recorder.tape, self.node))

    @property
    def ndim(self):
        self.readable()
        return fad_node_shape(self.recorder.tape, self.node).ndim

    @property
    def size(self):
        self.readable()
        return fad_node_shape(self.recorder.tape, self.node).size

    @property
    def dtype(self):
        self.readable()
        return DTYPES[fad_node_dtype(self.recorder.tape, self.node)]

    @property
    def itemsize(self):
        return self.dtype.itemsize

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize

    @property
    def value(self):
        self.readable()
        self.recorder.asked(self.node)
        return self.recorder.value_of(self.node)

    @property
    def node(self):
        return self.node

    @property
    def op(self):
        self.readable()
        return fad_ops[self.recorder.tape.nodes[self.node].op].name.decode()

    @property
    def active(self):
        self.readable()
        return bool(self.active & FAD_IS_ACTIVE)

    @property
    def recorder(self):
        return self.recorder

    @property
    def T(self):
        return transpose(self, range(self.ndim - 1, -1, -1))

    @property
    def mT(self):
        n = self.ndim
        if n < 2:
            raise ValueError(f"matrix transpose with ndim < 2 is undefined, got an Array of {n} dimensions")
        return transpose(self, [*range(n - 2), n - 1, n - 2])

    @property
    def real(self):
        return self

    @property
    def flat(self):
        return iter(reshape(self, (self.size,)))

    @property
    def base(self):
        return self.base

    def __repr__(self):
        if self.recorder is None or self.generation != self.recorder.generation:
            return "Array(<of a tape that was reset>)"
        self.readable()
        value = self.recorder.value_of(self.node)   # to be looked at, not to decide by: no guard
        return f"Array({value!r})" if self.scalar else f"Array({np.array2string(value, prefix='Array(')})"

    def __format__(self, spec):
        return format(self.value, spec) if self.scalar else format(str(self), spec)

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of a 0-d Array")
        return fad_node_shape(self.recorder.tape, self.node).dims[0]

    def __hash__(self):
        self.readable()
        if self.recorder.tracing and not fad_is_float(fad_node_dtype(self.recorder.tape, self.node)) \
                and fad_node_shape(self.recorder.tape, self.node).ndim == 0:
            self.recorder.asked(self.node)   # an argument that is an int finds in a dict what an int would find
            return hash(np.asarray(self.recorder.value_of(self.node))[()])
        return hash((id(self.recorder), self.generation, self.node))

    # --- conversion: an active value never becomes a constant unseen ---

    def __bool__(self):
        if self.size != 1:
            raise ValueError("the truth value of an Array with other than one element is ambiguous: use .any() or "
                             ".all()")
        return bool(np.any(self.value))

    cdef object number(self, str what):
        self.readable()
        self.recorder.read_check(self.node)
        if self.active & FAD_IS_ACTIVE:
            raise TypeError(f"{what} of a recorded value would drop its derivative: use fastad's or NumPy's functions "
                            "(np.sin, fad.sin, ...), write it into np.zeros_like(x) rather than np.zeros(n), or take "
                            "fad.stop_gradient(x) where a constant is meant")
        if fad_node_shape(self.recorder.tape, self.node).size != 1:
            raise TypeError("only Arrays of one element can be converted to Python numbers")
        self.recorder.asked(self.node)
        return np.asarray(self.recorder.value_of(self.node)).reshape(-1)[0]

    def __float__(self):
        return float(self.number("float()"))

    def __int__(self):
        return int(self.number("int()"))

    def __complex__(self):
        return complex(self.number("complex()"))

    def __index__(self):
        self.readable()
        self.recorder.read_check(self.node)
        if self.dtype.kind != "i":
            raise TypeError("only integer Arrays can be used as an index")
        return int(self.number("an index"))

    def item(self, *args):
        return self.number("item()") if self.active & FAD_IS_ACTIVE else np.asarray(self.value).item(*args)

    def tolist(self):
        if self.ndim == 0:
            return self
        return [row.tolist() for row in self]

    def __array__(self, dtype=None, copy=None):
        self.readable()
        if self.active & FAD_IS_ACTIVE:
            if self.scalar and (dtype is None or dtype == object):
                box = np.empty((), dtype=object)
                box[()] = self
                return box
            self.recorder.read_check(self.node)
            raise TypeError("np.asarray of a recorded value would drop its derivative: pass the Array itself to NumPy's "
                            "functions (np.stack for several), or fad.stop_gradient(x) where a constant is meant")
        if self.scalar and dtype is None:
            box = np.empty((), dtype=object)
            box[()] = self
            return box
        self.recorder.asked(self.node)
        return np.asarray(self.recorder.value_of(self.node), dtype)

    def astype(self, dtype, **_):
        return cast(self, dtype)

    # --- operators ---

    def __add__(left, right):
        return binary(FAD_ADD, left, right)

    def __sub__(left, right):
        return binary(FAD_SUB, left, right)

    def __mul__(left, right):
        return binary(FAD_MUL, left, right)

    def __truediv__(left, right):
        return binary(FAD_DIV, left, right)

    def __floordiv__(left, right):
        return binary(FAD_FLOOR_DIVIDE, left, right)

    def __mod__(left, right):
        return binary(FAD_MOD, left, right)

    def __divmod__(left, right):
        return binary(FAD_FLOOR_DIVIDE, left, right), binary(FAD_MOD, left, right)

    def __pow__(left, right, modulus):
        if modulus is not None:
            raise TypeError("pow() of an Array takes no modulus")
        return power(left, right)

    def __matmul__(left, right):
        if not recordable(left) or not recordable(right):
            return NotImplemented
        return rule_of(np.matmul)(left, right)

    def __and__(left, right):
        return rule_of(np.bitwise_and)(left, right)

    def __or__(left, right):
        return rule_of(np.bitwise_or)(left, right)

    def __xor__(left, right):
        return rule_of(np.bitwise_xor)(left, right)

    def __invert__(self):
        return rule_of(np.invert)(self)

    def __neg__(self):
        return unary(FAD_NEG, self)

    def __pos__(self):
        return unary(FAD_POS, self)

    def __abs__(self):
        return unary(FAD_ABS, self)

    def __round__(self, digits=None):
        return rule_of(np.round)(self, 0 if digits is None else digits)

    def __richcmp__(self, other, int op):
        if op == Py_LT:
            return compare(self, other, FAD_LESS)
        if op == Py_LE:
            return compare(self, other, FAD_LESS_EQUAL)
        if op == Py_GT:
            return compare(self, other, FAD_GREATER)
        if op == Py_GE:
            return compare(self, other, FAD_GREATER_EQUAL)
        result = compare(self, other, FAD_EQUAL if op == Py_EQ else FAD_NOT_EQUAL)
        return (op == Py_NE) if result is NotImplemented and other is None else result

    # --- in place: the Array moves on to a new node, and so does what it is a view of ---

    def __iadd__(self, other):
        return in_place(self, binary(FAD_ADD, self, other))

    def __isub__(self, other):
        return in_place(self, binary(FAD_SUB, self, other))

    def __imul__(self, other):
        return in_place(self, binary(FAD_MUL, self, other))

    def __itruediv__(self, other):
        return in_place(self, binary(FAD_DIV, self, other))

    def __ifloordiv__(self, other):
        return in_place(self, binary(FAD_FLOOR_DIVIDE, self, other))

    def __imod__(self, other):
        return in_place(self, binary(FAD_MOD, self, other))

    def __ipow__(self, other):
        return in_place(self, power(self, other))

    def __imatmul__(self, other):
        return in_place(self, self @ other)

    # --- indexing ---

    def __getitem__(self, index):
        cdef Py_ssize_t i
        cdef const fad_shape *shape
        cdef uint32_t node = 0
        self.use()
        if self.recorder.inner is not None:
            return inside(self)[index]
        if type(index) is int and not self.scalar:
            shape = fad_node_shape(self.recorder.tape, self.node)
            if shape.ndim == 1 and fad_node_dtype(self.recorder.tape, self.node) == FAD_F64:
                i = index
                if i < 0:
                    i += shape.dims[0]
                if not 0 <= i < shape.dims[0]:
                    raise IndexError(f"index {index} is out of bounds for axis 0 with size {shape.dims[0]}")
                if i <= 0xfffffffe:
                    self.recorder.check(fad_record_element(self.recorder.tape, self.node, i, &node), "index")
                    return wrap(self.recorder, node)
        cdef int side = basic_index(self, index)
        if side >= 0:
            self.recorder.check(fad_record_view(self.recorder.tape, self.node, side, &node), "index")
            return view_of(self, node)
        return gather(self, places_of(self, index))

    def __setitem__(self, index, value):
        cdef uint32_t node = 0, given
        cdef int dtype
        self.use()
        if not fad_is_float(fad_node_dtype(self.recorder.tape, self.node)):
            raise TypeError("only floating-point Arrays can be written to")
        self.writable()
        given = self.recorder.lift(value, &dtype)
        cdef int side = basic_index(self, index)
        if self.scalar:
            self.recorder.check(fad_record_cast(self.recorder.tape, given, FAD_F64, &given), "assignment")
            self.recorder.check(fad_record_broadcast_to(self.recorder.tape, given,
                                                        fad_node_shape(self.recorder.tape, self.node), &given),
                                "assignment")
            self.write(given)
            return
        if side < 0:
            self.assign_gathered(index, given)
            return
        self.recorder.check(fad_record_cast(self.recorder.tape, given,
                                            fad_node_dtype(self.recorder.tape, self.node), &given), "assignment")
        given = fitted(self.recorder, given, part_shape(self.recorder, side))
        self.recorder.check(fad_assign_view(self.recorder.tape, self.node, given, side, &node), "assignment")
        self.write(node)

    cdef int assign_gathered(self, object index, uint32_t given) except -1:
        cdef uint32_t node = 0, at
        flat = flat_indices(self.shape, index)   # values: which place is written last is part of the recording
        given = fitted(self.recorder, given, intern(self.recorder, flat.shape, "assignment"))
        # Where an element is named more than once, the last value stays, as in NumPy.
        last = flat.size - 1 - np.unique(flat.ravel()[::-1], return_index=True)[1]
        if last.size < flat.size:
            at = self.recorder.constant_array(last, FAD_CONSTANT, 0)
            self.recorder.check(fad_record_gather(self.recorder.tape, given, at, &given), "assignment")
            flat = flat.ravel()[last]
        self.recorder.check(fad_record_cast(self.recorder.tape, given,
                                            fad_node_dtype(self.recorder.tape, self.node), &given), "assignment")
        at = self.recorder.constant_array(flat, FAD_CONSTANT, 0)
        self.recorder.check(fad_assign_at(self.recorder.tape, self.node, given, at, &node), "assignment")
        return self.write(node)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d Array")
        return map(self.__getitem__, range(len(self)))

    def __reversed__(self):
        return map(self.__getitem__, range(len(self) - 1, -1, -1))

    def __contains__(self, x):
        return bool(np.any(self.value == value_of(x)))

    # --- copies ---

    def __copy__(self):
        self.readable()
        return self if self.scalar else wrap(self.recorder, self.node)

    def __deepcopy__(self, memo):
        return self.__copy__()

    def copy(self, order=None):
        return self.__copy__()

    def __reduce__(self):
        raise TypeError("an Array cannot be pickled: it is a place on a tape; pickle its .value")

    # --- NumPy ---

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__":
            op = elementwise_ufuncs.get(ufunc)
            if op is not None and not kwargs:
                return record_operands(op, inputs)
        return ufunc_call(ufunc, method, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        rule = rule_of(function)
        if rule is None:
            raise NotImplementedError(unknown(f"numpy function {function_name(function)}"))
        return rule(*args, **kwargs)

    def __getattr__(self, name):
        load_rules()
        method = methods.get(name)
        if method is not None:
            return BoundMethod(method, self)
        op = object_ufuncs().get(name)
        if op is not None:
            return BoundMethod(record_row, (op, self))
        raise AttributeError(f"'Array' object has no attribute '{name}'")
